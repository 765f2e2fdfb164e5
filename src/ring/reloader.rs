//! Goes over to new settings while the server runs, on a thread of its own.
//!
//! A reload reads the settings and tries the roots that they name. A disk that hangs holds up this
//! thread and nothing else: the main thread still hears of the next signal.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::directories::{Directories, Ground, LeftBehind, refuse_replacing};
use super::doctor;
use super::launch_error::{BadRoot, LaunchError};
use super::ledger;
use super::probe;
use super::reload::{self, Offer};
use super::rights;
use super::service;
use super::tls::material::Material;
use super::tls::validity::Terms;
use crate::admin::{NotReloaded, VIEWERS_MAX};
use crate::config::{self, Config, ConfigError};
use crate::courier;
use crate::custody::site::{BadLedger, Site};
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::observe;
use crate::verify::tickets::Acceptance;
use crate::verify::{self, Verifier};
use crate::vigil::{self, Vigil};
use crate::wall_clock;

/// How long a shard may take until it has new settings in hand.
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// So many may wait for a reload at the same time: all who can ask, and as many again who asked and
/// have lost patience.
const ASKERS_MAX: usize = 2 * VIEWERS_MAX;

/// How long somebody waits for a reload.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the log warns of certificates that soon expire, at least.
const DAY: Duration = Duration::from_secs(86_400);

/// After which time it is looked again whether certificates come to their end.
fn pause(unchanged: Duration) -> Duration {
    // Something may change in the second that begins with its moment.
    unchanged.min(DAY) + Duration::from_secs(1)
}

/// Reads the settings again.
pub type ReadSettings = Box<dyn Fn() -> Result<Config, ConfigError> + Send>;

/// What a reload has done, in words.
struct Reloaded {
    changed: String,
    /// What waits, and what is doubtful.
    besides: Vec<String>,
}

/// New settings for one shard.
pub struct NewSettings {
    /// All of them.
    pub config: Arc<Config>,
    /// Roots that the settings before do not name, with their numbers.
    pub roots: Vec<(usize, Arc<Ground>, OwnedFd)>,
    /// What each of its listeners speaks TLS with, if it does.
    pub secure: Vec<Option<Terms>>,
}

/// Who waits for a reload: it hears what has changed, or why nothing has.
type Asker = SyncSender<Result<String, String>>;

/// By this the main thread and the administrator's interface ask for reloads.
pub struct Reloads {
    wishes: SyncSender<()>,
    /// Who waits for the next one.
    askers: Arc<Mutex<Vec<Asker>>>,
    config: Arc<Mutex<Arc<Config>>>,
    /// The thread.
    by: ThreadId,
}

impl Reloads {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(
        mut reloader: Reloader,
        directories: &Arc<Directories>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        note(metrics, true);
        let metrics = Arc::clone(metrics);
        let (wishes, to_fulfil) = mpsc::sync_channel::<()>(1);
        let askers = Arc::new(Mutex::new(Vec::<Asker>::new()));
        let waiting = Arc::clone(&askers);
        let config = Arc::new(Mutex::new(Arc::clone(&reloader.config)));
        let (shown, directories) = (Arc::clone(&config), Arc::clone(directories));
        let run = move || {
            loop {
                match to_fulfil.recv_timeout(pause(reloader.material.unchanged_for())) {
                    Ok(()) => {
                        // Whoever comes from here on has a reload of his own.
                        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                        let asked = std::mem::take(&mut *waiting);
                        drop(waiting);
                        service::reloading();
                        let outcome = reloader.reload(&directories);
                        // Whoever hears of it finds it so.
                        note(&metrics, outcome.is_ok());
                        show(&shown, &reloader.config);
                        let outcome = tell(outcome);
                        service::reloaded(&outcome);
                        for asker in asked {
                            // It may have lost patience.
                            let _ = asker.try_send(outcome.clone());
                        }
                    }
                    // Nobody asks; but certificates and lists come closer to their end.
                    Err(RecvTimeoutError::Timeout) => reloader.material.tell(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new()
            .name("reload".to_owned())
            .spawn(run)?;
        Ok(Self {
            wishes,
            askers,
            config,
            by: thread.thread().id(),
        })
    }

    /// Asks for a reload. All that are asked for before it begins are one and the same.
    pub fn ask(&self) {
        let _is_asked_for_already = self.wishes.try_send(());
    }

    /// Asks for one, and waits for what comes of it: of the next one that begins.
    ///
    /// # Errors
    /// [`NotReloaded`]
    pub fn ask_and_wait(&self) -> Result<String, NotReloaded> {
        let (asker, outcome) = mpsc::sync_channel(1);
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        let is_noted = askers.len() < ASKERS_MAX;
        if is_noted {
            askers.push(asker);
        }
        drop(askers);
        self.ask();
        match is_noted.then(|| outcome.recv_timeout(PATIENCE)) {
            Some(Ok(outcome)) => outcome.map_err(NotReloaded::Refused),
            Some(Err(_)) | None => Err(NotReloaded::GoesOn(self.held_up())),
        }
    }

    /// Why a reload takes long.
    fn held_up(&self) -> String {
        match vigil::hangs(self.by) {
            Some(path) => format!(
                "{}; the reload goes on when it answers, and until then the settings before it hold",
                vigil::in_words(&path)
            ),
            None => "a reload takes long, by a slow disk or very many settings: it goes on, and the log says how it ends \
                 (event=reloaded or reload_failed)"
                .to_owned(),
        }
    }

    /// The settings that hold.
    pub fn config(&self) -> Arc<Config> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }
}

/// Goes over to new settings while the server runs.
pub struct Reloader {
    /// The settings as they are.
    config: Arc<Config>,
    material: Material,
    verifier: Verifier,
    objects: Objects,
    read_settings: ReadSettings,
    shards: Vec<Sender<Offer<NewSettings>>>,
}

impl Reloader {
    /// For a server that runs with these settings.
    pub fn new(
        config: &Arc<Config>,
        material: Material,
        (verifier, objects): (Verifier, Objects),
        read_settings: ReadSettings,
        shards: Vec<Sender<Offer<NewSettings>>>,
    ) -> Self {
        Self {
            config: Arc::clone(config),
            material,
            verifier,
            objects,
            read_settings,
            shards,
        }
    }

    /// Reads the settings again and gives them to all shards; if anything is wrong with them, all
    /// stays as it is.
    fn reload(&mut self, directories: &Directories) -> Result<Reloaded, String> {
        let _vigil = Vigil::of_reload();
        let shelves = directories.shelves().numbers();
        self.try_reload(directories).map_err(|error| {
            directories.forget_new_shelves(&shelves);
            error.to_string()
        })
    }

    fn try_reload(
        &mut self,
        directories: &Directories,
    ) -> Result<Reloaded, Box<dyn std::error::Error>> {
        let read = (self.read_settings)()?;
        // Also those of keys that wait for the next start: it would fail with them.
        courier::look(&read)?;
        look_at_ledger(&read)?;
        look_at_directories(&self.config, &read)?;
        let left = directories.left_behind_by(&read.work_dir);
        let (config, needs_restart) = config::adopt(&self.config, read);
        if let Some(why) = config::opens_old_addresses(&self.config, &config, &needs_restart) {
            return Err(why.into());
        }
        if let Some(why) = rights::ruled_by_clients(&config) {
            return Err(LaunchError::RuledByClients(why).into());
        }
        look_at_ledger(&config)?;
        let known = named_roots(&self.config);
        let mut new_roots = named_roots(&config);
        new_roots.retain(|number| !known.contains(number));
        // Certificates that no file names any more may be gone with their files.
        let material = match needs_restart.contains(&config::CERTIFICATE) {
            true => None,
            false => Some(Material::read(&config, Some(&self.material))?),
        };
        let servers = material.as_ref().unwrap_or(&self.material).servers();
        let config = Arc::new(config);
        let grounds = open_named(&config, directories, &new_roots)?;
        let grounds: Vec<_> = (grounds.into_iter())
            .filter(|(number, _)| new_roots.contains(number))
            .map(|(_, ground)| ground)
            .collect();
        // Opened for all before any is asked.
        let offers: Result<Vec<_>, LaunchError> = (self.shards.iter())
            .map(|_| {
                let mut roots = open(&grounds)?;
                for (root, number) in roots.iter_mut().zip(&new_roots) {
                    root.0 = *number;
                }
                Ok(NewSettings {
                    config: Arc::clone(&config),
                    roots,
                    secure: servers.clone(),
                })
            })
            .collect();
        self.objects.renew();
        self.objects.try_stores(config.stores_to_try())?;
        let acceptance = verify::prepare(&config.accounts.keys);
        reload::offer(&self.shards, offers?, RELOAD_PATIENCE)?;
        let mut doubts = Vec::from_iter(tell_of_tickets(&config, &acceptance));
        self.verifier.accept_for(acceptance);
        let in_files = material.as_ref().map(|now| now.changes(&self.material));
        let changed = changes(&self.config, &config, in_files.unwrap_or_default());
        doubts.extend(tell_of_doubts(&self.config, &config, left));
        observe::adopt(config.log_format, config.log_level);
        self.objects.know(config.stores());
        self.config = config;
        if let Some(material) = material {
            self.material.give_way(&material);
            self.material = material;
        }
        self.material.tell();
        tell_what_waits(&needs_restart);
        let waiting = needs_restart
            .iter()
            .map(|key| format!("{key} waits for the next start"));
        let waiting = waiting.chain(displaced(&self.config, directories));
        let doubts = doubts.iter().map(|doubt| format!("warning: {doubt}"));
        let besides = waiting.chain(doubts).collect();
        Ok(Reloaded { changed, besides })
    }
}

/// Tells the log how a reload went; returns what those hear who wait for it.
fn tell(outcome: Result<Reloaded, String>) -> Result<String, String> {
    match outcome {
        Ok(Reloaded { changed, besides }) => {
            tracing::info!(event = "reloaded", changed, "the settings were reloaded");
            let changed = Some(changed).filter(|changed| changed != "nothing");
            Ok(Vec::from_iter(changed.into_iter().chain(besides)).join("; "))
        }
        Err(error) => {
            let event = "reload_failed";
            tracing::error!(event, %error, "the settings were not reloaded: the old ones stay");
            Err(error)
        }
    }
}

/// What differs between settings, and in the files of certificates, in words.
fn changes(before: &Config, now: &Config, in_files: Vec<String>) -> String {
    let mut changed = observe::changes(&before.to_toml(), &now.to_toml());
    changed.extend(now.changes_in_files(before));
    changed.extend(in_files);
    match changed.is_empty() {
        true => "nothing".to_owned(),
        false => changed.join(", "),
    }
}

fn tell_what_waits(keys: &[&str]) {
    for key in keys {
        tracing::warn!(
            event = "needs_restart",
            key,
            "this setting changes with the next start only"
        );
    }
}

/// Warns of what is doubtful about new settings, and was not before; returns it. What the next
/// start would leave behind is told each time, as the keys that wait for it.
fn tell_of_doubts(before: &Config, now: &Config, left: Option<LeftBehind>) -> Vec<String> {
    let known: BTreeSet<_> = before.doubts().into_iter().collect();
    let mut new = now.doubts();
    new.retain(|doubt| !known.contains(doubt));
    new.extend(left.map(|left| left.to_string()));
    new.iter().for_each(|doubt| probe::tell_of_doubt(doubt));
    new
}

/// What was opened stays in use; only a start opens what stands there now. A root that the settings
/// do not name any more is open until the last shard has let go of it, and nobody waits for it.
fn displaced(config: &Config, directories: &Directories) -> Vec<String> {
    let numbers = named_roots(config);
    let absolute = |number: &usize| std::path::absolute(&config.roots[*number]);
    let named: BTreeSet<_> = numbers.iter().flat_map(absolute).collect();
    let (_, roots) = directories.spots();
    let displaced = roots
        .iter()
        .filter(|root| !root.spot.is_in_place() && named.contains(root.spot.path()));
    let words = displaced.map(|root| {
        let path = root.spot.path().display();
        format!("{path} is not what it was when it was opened, and its uploads are refused: see not_ready in the log")
    });
    words.collect()
}

/// Whether the next start could have its root and work directory, where they are others than those
/// of the server that runs.
fn look_at_directories(config: &Config, read: &Config) -> Result<(), String> {
    let is_new = read.roots[0] != config.roots[0] || read.work_dir != config.work_dir;
    let refused = is_new.then(|| doctor::refused_directories(read)).flatten();
    refused.map_or(Ok(()), |why| {
        Err(format!("the next start would fail: {why}"))
    })
}

/// Whether a custody ledger may be kept where the settings say, if one is to be.
fn look_at_ledger(config: &Config) -> Result<(), BadLedger> {
    let look = |site: Site| vigil::at(&config.custody, || site.look().map(drop));
    ledger::site(config).map_or(Ok(()), look)
}

/// Writes into the log that Kerberos tickets, which the settings ask for, will not be taken, and
/// why; returns that.
pub fn tell_of_tickets(config: &Config, acceptance: &Acceptance) -> Option<String> {
    let why = acceptance.as_ref().err()?;
    if config.accounts.keys.is_empty() {
        return None;
    }
    let event = "tickets_unusable";
    let what = "Kerberos tickets cannot be looked at: their clients hear 503";
    tracing::warn!(event, why, "{what}");
    Some(format!("{what}: {why}"))
}

/// A descriptor of each root for one shard, numbered in their order.
///
/// # Errors
/// [`LaunchError::Root`]
pub fn open(grounds: &[Arc<Ground>]) -> Result<Vec<(usize, Arc<Ground>, OwnedFd)>, LaunchError> {
    let open = |(number, ground): (usize, &Arc<Ground>)| {
        let failed = |error| LaunchError::Root(ground.spot.path().to_owned(), BadRoot::Open(error));
        Ok((number, Arc::clone(ground), ground.open().map_err(failed)?))
    };
    grounds.iter().enumerate().map(open).collect()
}

/// From now on these are the settings that hold.
fn show(shown: &Mutex<Arc<Config>>, config: &Arc<Config>) {
    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
    *shown = Arc::clone(config);
}

/// The settings were read; whether that went well.
fn note(metrics: &Metrics, is_good: bool) {
    metrics.is_reloaded.set(u64::from(is_good));
    if is_good {
        metrics.reloaded_s.set(wall_clock::since_1970().as_secs());
    } else {
        metrics.reloads_failed.add(1);
    }
}

/// The roots that locations lead to. Also of those that are open already new settings may ask what
/// their file system cannot do.
fn open_named(
    config: &Config,
    directories: &Directories,
    new: &BTreeSet<usize>,
) -> Result<Vec<(usize, Arc<Ground>)>, LaunchError> {
    let numbers = named_roots(config);
    let paths: Vec<_> = (numbers.iter())
        .map(|number| config.roots[*number].clone())
        .collect();
    let new: BTreeSet<_> = new.iter().map(|number| &*config.roots[*number]).collect();
    let is_new = |path: &Path| new.contains(path);
    let grounds = directories.open_roots(&paths, |path| !is_new(path))?;
    refuse_replacing(config, numbers.iter().copied(), &grounds)?;
    Ok(numbers.into_iter().zip(grounds).collect())
}

/// The numbers of the roots that locations lead to.
fn named_roots(config: &Config) -> BTreeSet<usize> {
    let locations = config.locations.iter();
    locations.map(|location| location.root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without certificates, or with a clock that stands before 1970, nothing will ever change.
    #[test]
    fn the_next_look_comes_within_a_day_and_a_second() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(Duration::ZERO), second);
        assert_eq!(pause(second), 2 * second);
        assert_eq!(pause(Duration::MAX), DAY + second);
    }
}
