//! The start: probe the kernel, take the directories, listen, and give each shard its seat.

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::channel;
use tokio::sync::{oneshot, watch};

use super::afoot::Afoot;
use super::boot::Boot;
use super::descriptors::{self, Descriptors};
use super::directories::{Directories, Ground};
use super::handed::{Handed, HandedLocks};
use super::herald::{self, Herald};
use super::launch_error::{LaunchError, READY_PATIENCE};
use super::listeners::Listening;
use super::mailbox;
use super::memory::{self, Allowance};
use super::owner::Purpose;
use super::reloader::{self, ReadSettings, Reloader};
use super::seat::{News, Seat, Sign, Stage};
use super::service;
use super::signals;
use super::space::Spaces;
use super::start::Start;
use super::steward::{self, ToAsk};
use super::stop_wish;
use super::successor::Successor;
use super::supervisor::{Ended, Supervisor};
use super::tls::material::Material;
use super::watch::Watch;
use super::window;
use super::work_folder::BadFolder;
use super::{host_limits, ledger, probe, readback, rights};
use crate::admin::Doors;
use crate::admin::trace::Tap;
use crate::config::Config;
use crate::courier::{self, Courier};
use crate::metrics::Metrics;
use crate::notify::{Bounds, Notifier};
use crate::objects::Objects;
use crate::observe;
use crate::processors;
use crate::server::common::Common;
use crate::vault::names::{WorkName, is_half_note, parse_name};
use crate::vault::readback::Dealt;
use crate::verify::{self, Verifier};

pub use super::start::StartFile;

/// What this start begins with: where the settings come from, for the line that tells of the start,
/// and how to read them again; what was handed on by whoever was here before, and how this program
/// itself was started.
pub struct Source {
    /// The settings file.
    pub file: StartFile,
    /// Reads the settings again.
    pub read: ReadSettings,
    /// Open since before this program began.
    pub handed: Handed,
    /// What takes the place of this program when it is asked to make way.
    pub successor: Successor,
}

/// Runs the server until a signal stops it. At SIGHUP the settings are read again.
///
/// # Errors
/// [`LaunchError`] if it cannot start.
pub fn serve(mut config: Config, mut source: Source) -> Result<(), LaunchError> {
    let begun = Instant::now();
    let mut ready = prepare(&mut config, std::mem::take(&mut source.handed.locks))?;
    let (news_sender, news) = catch_signals()?;
    let Some((listening, doors)) = listen(&config, &ready, &mut source)? else {
        return Ok(());
    };
    let (config, stage) = (Arc::new(config), watch::channel(Stage::Recover).0);
    let (senders, receivers) = mailbox::open(config.cores, config.limits.mailbox_max);
    let (allowed, beginning) = (settle_processors(&config), Beginning::of(&ready));
    probe::warn_of_surprises(&config, &listening.addresses, ready.descriptors, &allowed);
    let (alive_sender, alive) = mpsc::channel();
    let (notifier, spaces) = (notifier(&config), spaces(&config, &ready.directories));
    let (courier, verifier) = (courier(&config)?, verifier(&config)?);
    let (metrics, tap) = (metrics(&config, &ready), Arc::new(Tap::default()));
    let lookout = Watch::start(&ready.directories, &metrics, &spaces)?;
    let (afoot, common, herald) = (Afoot::default(), Common::of(&config), Herald::new(&metrics));
    let ledger = ledger::begin(&config, &metrics, &ready.directories.shelves(), &spaces)?;
    let objects = objects(&config, &metrics, &ready)?;
    let (mut windows, mut reloads, mut deals) = (Vec::new(), Vec::new(), Vec::new());
    let sockets = listening.of_shards(config.cores);
    for (index, (letters, listeners)) in receivers.into_iter().zip(sockets).enumerate() {
        let to_adopt = keep_sender(&mut reloads, channel(1));
        let asked = keep_sender(&mut windows, channel(window::INQUIRIES_MAX));
        let dealt = keep_sender(&mut deals, oneshot::channel());
        let seat = Seat {
            index,
            dealt,
            to_adopt,
            notifier: notifier.clone(),
            courier: courier.clone(),
            objects: objects.clone(),
            verifier: verifier.clone(),
            ledger: ledger.clone(),
            watch: lookout.clone(),
            spaces: spaces.clone(),
            common: common.clone(),
            config: Arc::clone(&config),
            boot: ready.boot.clone(),
            metrics: Arc::clone(&metrics),
            tap: Arc::clone(&tap),
            asked,
            generation: ready.generation,
            sessions_bytes_max: ready.allowance.sessions_bytes_max(),
            roots: reloader::open(&ready.grounds)?,
            directories: Arc::clone(&ready.directories),
            listeners,
            secure: ready.material.servers(),
            letters,
            senders: senders.clone(),
            afoot: afoot.clone(),
            stage: stage.subscribe(),
            news: news_sender.clone(),
            alive: alive_sender.clone(),
            processor: (!allowed.is_empty()).then(|| allowed[index % allowed.len()]),
        };
        seat.begin()?;
    }
    ready.grounds.clear();
    await_shards(&alive, &config)?;
    deal_journals((&ready, &metrics), deals, news_sender.clone())?;
    ready.material.tell();
    let read = fitting(ready.allowance, ready.available, source.read);
    let reloader = Reloader::new(&config, ready.material, (verifier, objects), read, reloads);
    let to_ask = ToAsk::new(metrics, tap, windows, news_sender.clone());
    let (reloads, until_the_end) = steward::begin(doors, reloader, &ready.directories, to_ask)?;
    let mut start = Start::new(begun, source.file, listening, ready.descriptors);
    let relay = (&source.successor, news_sender, herald);
    let work = (&ready.directories, ready.generation);
    let ended =
        Supervisor::new(&config, work, &stage, &reloads, relay).supervise(&mut start, &news)?;
    beginning.has_succeeded();
    // Its name is free for whoever comes next.
    drop(until_the_end);
    ledger.inspect(|ledger| ledger.end(LEDGER_PATIENCE));
    match ended.unless_stopped(&news) {
        Ended::Stopped => Ok(()),
        Ended::MadeWay => make_way(&source.successor, &start.listening, &ready.directories),
    }
}

/// Where clients and administrators may come; nowhere if a stop was asked for while the start
/// waited for an address.
fn listen(
    config: &Config,
    ready: &Prepared,
    source: &mut Source,
) -> Result<Option<(Listening, Doors)>, LaunchError> {
    let handed = std::mem::take(&mut source.handed);
    let listening = match Listening::begin(config, handed) {
        Err(_) if stop_wish::is_noted() => {
            service::stopping();
            let (event, unfinished) = ("stopped", 0);
            tracing::info!(
                event,
                unfinished,
                "stopped while the start waited for an address"
            );
            return Ok(None);
        }
        begun => begun?,
    };
    let doors = Doors::open(config).map_err(LaunchError::Admin)?;
    let work = ready.directories.shelves().work();
    let (successor, addresses) = (&mut source.successor, &listening.addresses);
    successor.goes_on_with(addresses, &doors.addresses(), work.path());
    Ok(Some((listening, doors)))
}

/// The processors that shards may run on.
fn settle_processors(config: &Config) -> Vec<usize> {
    let allowed = probe::allowed_processors();
    processors::settle(&allowed, config.cores);
    allowed
}

/// A start that may fail yet, and then takes away what it has made: a service manager tries again
/// without end.
struct Beginning {
    directories: Arc<Directories>,
    generation: u64,
    may_fail: bool,
}

impl Beginning {
    fn of(ready: &Prepared) -> Self {
        Self {
            directories: Arc::clone(&ready.directories),
            generation: ready.generation,
            may_fail: true,
        }
    }

    fn has_succeeded(mut self) {
        self.may_fail = false;
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if self.may_fail {
            self.directories.forget_empty_journals(self.generation);
        }
    }
}

/// Keeps one end of a channel beside those to other shards, and gives the other one.
fn keep_sender<S, R>(senders: &mut Vec<S>, (sender, receiver): (S, R)) -> R {
    senders.push(sender);
    receiver
}

/// What comes to the main thread, signals among it.
fn catch_signals() -> Result<(mpsc::Sender<News>, mpsc::Receiver<News>), LaunchError> {
    let (sender, news) = mpsc::channel();
    let to_main = sender.clone();
    signals::catch(move |wish| to_main.send(News::Signal(wish)).is_ok())?;
    Ok((sender, news))
}

/// Settings that are read again are lowered as those of the start were.
fn fitting(allowance: Allowance, available: Descriptors, read: ReadSettings) -> ReadSettings {
    Box::new(move || {
        let mut config = read()?;
        let _as_at_the_start = allowance.lower(&mut config.limits);
        let _as_then = available.lower(&mut config.limits);
        Ok(config)
    })
}

/// What a server needs before it listens.
struct Prepared {
    allowance: Allowance,
    descriptors: u64,
    available: Descriptors,
    directories: Arc<Directories>,
    /// Until those who use them have them: what nobody uses is let go of.
    grounds: Vec<Arc<Ground>>,
    material: Material,
    boot: Boot,
    generation: u64,
}

fn prepare(config: &mut Config, locks: HandedLocks) -> Result<Prepared, LaunchError> {
    let _vigil = herald::watch_start();
    if let Some(why) = rights::ruled_by_clients(config) {
        return Err(LaunchError::RuledByClients(why));
    }
    probe::io_uring()?;
    probe::memory(config)?;
    let allowance = memory::fit(config);
    let descriptors = descriptors::raise(config)?;
    host_limits::file_bytes()?;
    courier::look(config).map_err(LaunchError::Courier)?;
    let (directories, grounds) = Directories::take(config, Purpose::Serve, locks)?;
    for doubt in directories.doubts(config, &grounds) {
        let event = doubt.event();
        tracing::warn!(event, why = %doubt, "where files are kept is not as it should be");
    }
    let available = descriptors::fit(config, descriptors);
    let failed = |error| LaunchError::Folder(config.work_dir.clone(), BadFolder::Io(error));
    Ok(Prepared {
        allowance,
        descriptors,
        available,
        grounds,
        material: Material::read(config, None).map_err(LaunchError::Tls)?,
        boot: boot(&directories),
        generation: directories.next_generation().map_err(failed)?,
        directories: Arc::new(directories),
    })
}

/// What is counted, and what of the start is to be told for as long as the server runs.
fn metrics(config: &Config, ready: &Prepared) -> Arc<Metrics> {
    let metrics = Metrics::new(config.cores);
    // It was not set before.
    let _ = (metrics.shelves_missing).set(ready.directories.missing_shelves());
    metrics
}

/// Begins the next program in this process; returns only if there is none.
fn make_way(
    successor: &Successor,
    listening: &Listening,
    directories: &Directories,
) -> Result<(), LaunchError> {
    let locks = directories.hand_on().map_err(LaunchError::Successor)?;
    observe::flush();
    let error = successor.take_over(&listening.all(), &locks, directories);
    Err(LaunchError::Successor(error))
}

/// What the last lines of the ledger may take to be written when the server ends.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);

fn boot(directories: &Directories) -> Boot {
    Boot {
        current: directories.boot(),
        stopped_cleanly: directories.stopped_cleanly().into(),
        shelf_names: directories.shelf_names().into(),
    }
}

fn notifier(config: &Config) -> Notifier {
    Notifier::new(Bounds {
        in_flight_max: config.limits.notifications_max,
        bytes_max: config.limits.notification_bytes_max,
    })
}

fn courier(config: &Config) -> Result<Courier, LaunchError> {
    Courier::start(config).map_err(LaunchError::Courier)
}

/// The thread of object stores, which have shown that they do what the settings need.
fn objects(
    config: &Config,
    metrics: &Arc<Metrics>,
    ready: &Prepared,
) -> Result<Objects, LaunchError> {
    let work = ready.directories.shelves().work();
    let descriptor = Arc::clone(work.descriptor());
    let uploads_max = config.limits.store_uploads_max;
    let objects = Objects::new(Arc::clone(metrics), uploads_max, descriptor);
    let is_note = |name: &str| is_half_note(name) || matches!(parse_name(name), WorkName::Note(_));
    let names = work.names_that(is_note).unwrap_or_default();
    for half in names.iter().filter(|name| is_half_note(name)) {
        // What is left is one file, and the next start comes to it.
        let _best_effort = work.remove(half);
    }
    let has_notes = (names.iter()).any(|name| matches!(parse_name(name), WorkName::Note(_)));
    // The file of a note may lie on a shelf that is not there now.
    let folders = match has_notes && !ready.directories.misses_a_shelf() {
        true => ready.directories.shelves().descriptors(),
        false => Vec::new(),
    };
    objects.know(config.stores());
    let begun = objects.begin(config.stores_to_try(), folders);
    begun.map_err(LaunchError::Store)?;
    Ok(objects)
}

/// Threads that look at passwords and tickets, with the keys for these.
fn verifier(config: &Config) -> Result<Verifier, LaunchError> {
    let (threads, queue_max) = (config.limits.verify_threads, config.limits.verify_queue_max);
    let verifier = Verifier::start(threads, queue_max).map_err(LaunchError::Thread)?;
    let acceptance = verify::prepare(&config.accounts.keys);
    let _is_in_the_log = reloader::tell_of_tickets(config, &acceptance);
    verifier.accept_for(acceptance);
    Ok(verifier)
}

fn spaces(config: &Config, directories: &Directories) -> Spaces {
    let spaces = Spaces::new(config.limits.free_bytes_min);
    // The log tells of each as health does, whether an upload comes or not. Where one cannot be
    // asked, the first upload asks again.
    for folder in directories.shelves().folders() {
        if let Err(error) = spaces.looked_at(folder.descriptor()) {
            let (event, directory) = ("space_unwatched", folder.path().display());
            tracing::warn!(event, %directory, %error, "nobody looks at what is free on a disk");
        }
    }
    spaces
}

/// Waits until every shard has its body blocks, which are many perhaps, and then until each has a
/// ring that answers. What it reads back after that may take its time.
fn await_shards(
    alive: &mpsc::Receiver<Result<Sign, LaunchError>>,
    config: &Config,
) -> Result<(), LaunchError> {
    let mut deadline = Instant::now() + memory::time_for_blocks(config) + READY_PATIENCE;
    let (mut with_blocks, mut with_rings) = (0, 0);
    while with_rings < config.cores {
        let left = deadline.saturating_duration_since(Instant::now());
        match alive.recv_timeout(left) {
            Ok(sign) => match sign? {
                Sign::Blocks => {
                    with_blocks += 1;
                    if with_blocks == config.cores {
                        deadline = Instant::now() + READY_PATIENCE;
                    }
                }
                Sign::Ring => with_rings += 1,
            },
            Err(_) if with_blocks < config.cores => {
                return Err(LaunchError::BlocksLate(memory::blocks_of_shard(config)));
            }
            Err(_) => return Err(LaunchError::RingSilent),
        }
    }
    Ok(())
}

/// Reads the journals of former starts once, and gives each shard its part.
fn deal_journals(
    (ready, metrics): (&Prepared, &Arc<Metrics>),
    deals: Vec<oneshot::Sender<Dealt>>,
    news: mpsc::Sender<News>,
) -> Result<(), LaunchError> {
    let (shelves, generation) = (ready.directories.shelves(), ready.generation);
    let (work, shelves, shards) = (shelves.work(), shelves.folders(), deals.len());
    let weight_max = ready.allowance.read_back_bytes_max();
    let misses_a_shelf = ready.directories.misses_a_shelf();
    let (boot, metrics) = (ready.boot.clone(), Arc::clone(metrics));
    let read = move || match readback::read(
        &work,
        &shelves,
        generation,
        shards,
        weight_max,
        misses_a_shelf,
        (&boot, &metrics),
    ) {
        // A shard that has ended needs nothing.
        Ok(dealt) => deals.into_iter().zip(dealt).for_each(|(deal, dealt)| {
            let _ = deal.send(dealt);
        }),
        Err(error) => {
            let _ = news.send(News::Recovered(Err(error)));
        }
    };
    let spawned = thread::Builder::new()
        .name("journals".to_owned())
        .spawn(read);
    spawned.map(|_| ()).map_err(LaunchError::Thread)
}
