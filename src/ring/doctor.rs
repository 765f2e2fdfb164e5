//! `bitsd check`: finds out what a start would find out, without starting.
//!
//! It takes the same steps as `serve` up to listening, by the same code, and says for each whether
//! it is in order. What it has to make for that it removes again, and it writes nothing that a
//! server would find: whoever checks may use another account than the server does.

mod folders;
mod identity;
mod ports;
mod running;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account;
use super::blocks::NOT_REGISTERED;
use super::descriptors::{self, Descriptors, FEW_DESCRIPTORS};
use super::launch_error::LaunchError;
use super::{host_limits, ledger, memory, probe, rights, umask};
use crate::admin::{self, BadDoor};
use crate::config::Config;
use crate::courier;
use crate::custody::folder::LedgerFolder;
use crate::custody::site::BadLedger;
use crate::custody::writer::today;
use crate::objects;
use crate::objects::trial::{self, Tried};
use crate::vigil::{self, Unanswered};
use ports::Around;

pub use folders::{let_trials_end, refused_directories};

/// A check takes no longer than this, whatever does not answer.
pub const PATIENCE: Duration = Duration::from_secs(55);

/// What was found out about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is in order.
    Good(String),
    /// It is at fault, but the server starts.
    Doubtful(String),
    /// The server does not start.
    Bad(String),
}

impl Finding {
    /// Whether the server would not start.
    pub fn is_bad(&self) -> bool {
        matches!(self, Self::Bad(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(what) => write!(f, "ok: {what}"),
            Self::Doubtful(what) => write!(f, "warning: {what}"),
            Self::Bad(what) => write!(f, "wrong: {what}"),
        }
    }
}

/// Looks at everything that a start needs. What is not said at the deadline stays unsaid. A
/// `successor` takes the place of a server that runs, and gets its listeners and its locks.
pub fn examine(config: &Config, is_successor: bool, deadline: Instant) -> Vec<Finding> {
    let parts = Parts {
        config: Arc::new(config.clone()),
        deadline,
    };
    let mut findings = vec![Finding::Good(format!("it is checked as {}", account::us()))];
    let rings = probe::io_uring().and_then(|()| probe::rings(config.cores));
    let has_rings = rings.is_ok();
    findings.push(match rings {
        Ok(()) => Finding::Good("io_uring can be used".to_owned()),
        Err(error) => Finding::Bad(error.to_string()),
    });
    findings.extend(limits(config));
    findings.extend(memory_for_clients(config));
    parts.run(&mut findings, others_in_files);
    parts.run(&mut findings, identity::certificates);
    parts.run(&mut findings, |config| {
        let authorities = courier::look(config).map_err(LaunchError::Courier);
        let bad = authorities.err();
        bad.map(|why| Finding::Bad(why.to_string()))
    });
    parts.run(&mut findings, stores);
    findings.extend(identity::users_of_no_location(config));
    findings.extend(config.doubts().into_iter().map(Finding::Doubtful));
    parts.run(&mut findings, identity::tickets);
    parts.run(&mut findings, |config| {
        let of_the_system = probe::system_folders(config).into_iter();
        of_the_system.map(Finding::Doubtful)
    });
    // Where they do not answer, nothing is taken that a server may have.
    let (mut directories, mut is_running) =
        (parts.within(folders::directories)).unwrap_or_else(|why| (vec![why], true));
    if is_successor {
        parts.run(&mut directories, folders::left_behind);
    }
    if !is_running && (is_successor || parts.within(running::is_there).unwrap_or(true)) {
        is_running = true;
        let what = "a server of these settings runs, with another work directory or other roots: its addresses are its own";
        directories.push(Finding::Good(what.to_owned()));
    }
    // A server that runs already has taken what the limits give to its user.
    if has_rings && !is_running {
        findings.push(match probe::memory(config) {
            Ok(()) => blocks(config),
            Err(error) => Finding::Bad(error.to_string()),
        });
    }
    findings.extend(directories);
    parts.run(&mut findings, move |config| custody(config, is_running));
    let around = Around::of(is_running, is_successor);
    // A start has all of them at the same time, so none is given back before the last one.
    let mut held = Vec::new();
    findings.extend(ports::addresses(config, &around, &mut held));
    parts.run(&mut findings, move |config| socket(config, is_running));
    findings.extend(ports::admin_addresses(config, &around, &mut held));
    findings
}

/// Parts of a check that may wait for a file system or for another machine.
struct Parts {
    config: Arc<Config>,
    deadline: Instant,
}

impl Parts {
    fn within<T: Send + 'static>(
        &self,
        part: impl FnOnce(&Config) -> T + Send + 'static,
    ) -> Result<T, Finding> {
        let config = Arc::clone(&self.config);
        let done = vigil::within(self.deadline, move || part(&config));
        done.map_err(|why| match why {
            Unanswered::NoThread(error) => Finding::Bad(LaunchError::Thread(error).to_string()),
            why => Finding::Bad(why.to_string()),
        })
    }

    fn run<F: IntoIterator<Item = Finding>>(
        &self,
        findings: &mut Vec<Finding>,
        part: impl FnOnce(&Config) -> F + Send + 'static,
    ) {
        let part = |config: &Config| part(config).into_iter().collect::<Vec<_>>();
        let found = self.within(part).unwrap_or_else(|why| vec![why]);
        // What does not answer is the same for several of them.
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
}

/// Who else has a say in the files that the settings name.
fn others_in_files(config: &Config) -> Vec<Finding> {
    let readable = rights::readable_secrets(config).into_iter();
    let (within, ruled) = rights::of_roots(config);
    let exposed = (readable.chain(rights::writable_files(config))).chain(within);
    let exposed = exposed.map(Finding::Doubtful);
    exposed.chain(ruled.map(Finding::Bad)).collect()
}

/// Whether the administrator's socket can be made. It is made for a moment, as a start does, and
/// replaces nothing.
fn socket(config: &Config, is_running: bool) -> Option<Finding> {
    let path = &config.admin_socket;
    if path.as_os_str().is_empty() {
        return None;
    }
    let shown = path.display();
    Some(match vigil::at(path, || admin::try_socket(path)) {
        Ok(()) => Finding::Good(format!("admin_socket can be {shown}")),
        Err(BadDoor::Taken(_)) if is_running => {
            // It may be held up, or stopped: nobody waits here for what it says.
            Finding::Good(format!(
                "a server has admin_socket, {shown} (`bitsd status` asks it how it is)"
            ))
        }
        Err(why) if is_made_at_start(path) => Finding::Doubtful(format!(
            "{why}; it is in order if RuntimeDirectory= of the service makes the folder"
        )),
        Err(why) => Finding::Bad(why.to_string()),
    })
}

/// Whether a folder is missing that systemd may make before the start. It makes them in `/run`.
fn is_made_at_start(socket: &Path) -> bool {
    let folder = socket.parent().filter(|folder| !folder.exists());
    folder.is_some_and(|folder| {
        ["/run", "/var/run"]
            .iter()
            .any(|run| folder.parent() == Some(Path::new(run)))
    })
}

/// Whether the custody ledger can be kept where it should be.
fn custody(config: &Config, is_running: bool) -> Option<Finding> {
    let site = ledger::site(config)?;
    let path = &config.custody;
    let shown = path.display();
    Some(
        match vigil::at(path, || LedgerFolder::open(site, &today())) {
            Ok(_) => Finding::Good(format!("the custody ledger can be written in {shown}")),
            Err(BadLedger::Locked(_)) if is_running => Finding::Good(format!(
                "a server writes the custody ledger in {shown}, and looked at it when it started"
            )),
            // Whoever checks may be another user than the one who serves.
            Err(error @ BadLedger::Owner(_, owner))
                if account::our_id() == 0 && server_of(config) == Some(owner) =>
            {
                let owner = account::to_chown(owner);
                Finding::Doubtful(format!(
                    "{error}; it is in order if {owner} serves, as of the work directory"
                ))
            }
            Err(error) => Finding::Bad(error.to_string()),
        },
    )
}

/// Who serves, by what is there: the owner of the work directory, or of the root that it will be
/// made in.
fn server_of(config: &Config) -> Option<u32> {
    let folders = [&config.work_dir, &config.roots[0]];
    let mut stats = folders.into_iter().map(rustix::fs::stat);
    stats.find_map(Result::ok).map(|stat| stat.st_uid)
}

/// Whether object stores keep what is there, where they have to. A start asks them the same; a
/// server that runs has asked by the settings that it knows.
fn stores(config: &Config) -> Vec<Finding> {
    let to_try = objects::distinct(config.stores_to_try());
    let all = (config.locations.iter()).filter_map(|location| location.objects.as_ref());
    let others = objects::distinct(all.filter(|store| !to_try.contains(store)));
    let tried = trial::try_each(&to_try).into_iter();
    let found = tried.map(|(bucket, outcome)| match outcome {
        Tried::Fit => Finding::Good(format!(
            "the store of the bucket {bucket} replaces no object that is there"
        )),
        Tried::Leaves(why) => Finding::Doubtful(format!(
            "the store of the bucket {bucket} replaces no object that is there, and what the trial has made cannot be \
             removed ({why}): {}",
            objects::probe::REMEDY_OF_LEFT
        )),
        Tried::Unfit(unfit) => Finding::Bad(unfit.to_string()),
        Tried::Unknown(why) => Finding::Doubtful(format!(
            "the store of the bucket {bucket} cannot be tried: {why}; a server starts, and files \
             wait: look at the store, its bucket, and the credentials of this account"
        )),
    });
    let untried = others.iter().map(|store| {
        let bucket = &store.bucket;
        Finding::Good(format!(
            "the store of the bucket {bucket} was not tried: by these settings it need not keep \
             what is there"
        ))
    });
    found.chain(untried).collect()
}

fn limits(config: &Config) -> Vec<Finding> {
    let files = match descriptors::raise(config) {
        Err(error) => Finding::Bad(error.to_string()),
        Ok(u64::MAX) => Finding::Good("any number of files may be open".to_owned()),
        Ok(files) => {
            let lowered = Descriptors::of(config, files).lower(&mut config.limits.clone());
            let lowered = lowered.map_or_else(String::new, |lowered| {
                let lowered = memory::in_words(&[lowered]);
                format!(", and so this is lowered: {lowered}")
            });
            match files < FEW_DESCRIPTORS {
                true => Finding::Doubtful(format!(
                    "{files} files may be open, up to three for each connection that uploads{lowered}: raise \
                     LimitNOFILE= of the service (`ulimit -n`)"
                )),
                false => Finding::Good(format!("{files} files may be open{lowered}")),
            }
        }
    };
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = match config.cores {
        cores if cores > available => {
            let available = counted(available, "core");
            Finding::Doubtful(format!("{cores} shards share {available}"))
        }
        cores => {
            let (cores, available) = (counted(cores, "shard"), counted(available, "core"));
            Finding::Good(format!("{cores} on {available}"))
        }
    };
    let mut findings = vec![files, cores];
    let unwritable = host_limits::file_bytes().err();
    findings.extend(unwritable.map(|error| Finding::Bad(error.to_string())));
    findings.extend(umask::doubt().map(Finding::Doubtful));
    let doubts = probe::host_doubts(config).into_iter();
    findings.extend(doubts.map(|(_, why, remedy)| Finding::Doubtful(format!("{why}: {remedy}"))));
    findings
}

/// A number and what it counts.
fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    }
}

/// Whether there is memory for all that the settings allow.
fn memory_for_clients(config: &Config) -> Vec<Finding> {
    let allowance = memory::allowance(config);
    let too_little = allowance.too_little().map(Finding::Doubtful);
    let lowered = allowance.lower(&mut config.limits.clone());
    let there_are = allowance.in_words();
    let for_clients = if lowered.is_empty() {
        Finding::Good(format!("{there_are} can be had for all that limits allow"))
    } else {
        let lowered = memory::in_words(&lowered);
        let said =
            format!("{there_are} are less than all that limits allow: a start lowers {lowered}");
        match &allowance.limit.set_by {
            memory::SetBy::Machine => Finding::Good(said),
            set_by => Finding::Doubtful(format!("{said}; {}", set_by.remedy())),
        }
    };
    too_little.into_iter().chain([for_clients]).collect()
}

/// What the shards need at a time: threads, and locked memory for their body blocks.
fn blocks(config: &Config) -> Finding {
    match probe::registration(config) {
        Err(error) => Finding::Bad(error.to_string()),
        Ok(Some(error)) => Finding::Doubtful(format!(
            "{NOT_REGISTERED} ({error}); that holds for whoever checks: a service has the limit of its unit"
        )),
        Ok(None) => Finding::Good("body blocks can be registered with io_uring".to_owned()),
    }
}
