//! Start and stop: probe the kernel, take the directories, pin one thread per shard, build its ring, and
//! end all of it in order.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{oneshot, watch};

use super::blocks::{Blocks, NOT_REGISTERED, Registration};
use super::directories::{Directories, Ground};
use super::disk::RingDisk;
use super::launch_error::{LaunchError, READY_PATIENCE};
use super::listeners::{self, Address};
use super::mailbox::{self, Letter, Senders};
use super::net::{self, RingWire};
use super::reload::{self, Offer};
use super::reloader::{self, NewSettings, ReadSettings, Reloader, Reloads};
use super::signals::{self, Wish};
use super::space::Spaces;
use super::tls::material::Material;
use super::tls::wire::{Kit, Tls};
use super::tree::Trees;
use super::watch::Watch;
use super::work_folder::{BadFolder, WorkFolder};
use super::{Boot, RingWorld, op, probe, queue, readback, turn};
use crate::config::Config;
use crate::notify::{Bounds, Notifier};
use crate::server::budget::Budget;
use crate::server::clients::Clients;
use crate::server::floor::Floor as _;
use crate::server::recover::{self, Recovered};
use crate::server::serve;
use crate::server::shard::Shard;
use crate::vault::{self, readback::Dealt};
use crate::verify::Verifier;
use crate::{observe, version};

/// What a shard may take to end after its time for running requests is over.
const GRACE: Duration = Duration::from_secs(2);
/// What the last sync of the file system may take, beside what is left of the time for running requests. A disk that others
/// keep busy must not hold the stop up until the service manager kills it: with the 30 s of running requests this stays
/// below the 40 s of the unit in docs/operations.md.
const SYNC_PATIENCE: Duration = Duration::from_secs(5);

/// What the main thread asks of all shards, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Recover,
    Serve {
        /// All shards have journals of their own, and the old ones can go.
        is_renewed: bool,
    },
    Drain,
}

impl Stage {
    /// From here on sessions are served.
    const SERVE: Self = Self::Serve { is_renewed: false };
}

/// What comes to the main thread.
enum News {
    /// A shard has read its sessions back.
    Recovered(io::Result<ReadBack>),
    /// A shard takes packets of every kind.
    Serving,
    /// A shard has ended, with so many uploads that are not finished.
    Ended(usize),
    /// A signal.
    Signal(Wish),
}

/// What one shard has read back.
struct ReadBack {
    /// It has a journal of its own now.
    is_renewed: bool,
    /// Uploads that go on.
    unfinished: usize,
    /// Uploads that have ended and are remembered.
    remembered: usize,
}

impl ReadBack {
    fn of(shard: &Shard<RingWorld>, recovered: &Recovered) -> Self {
        Self {
            is_renewed: recovered.is_renewed,
            unfinished: shard.unfinished_len(),
            remembered: shard.store.journal.tombstones().len(),
        }
    }
}

/// Where the settings come from, for the line that tells of the start, and how to read them again.
pub struct Source {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// Reads the settings again.
    pub read: ReadSettings,
}

/// Runs the server until a signal stops it. At SIGHUP the settings are read again.
///
/// # Errors
/// [`LaunchError`] if it cannot start.
pub fn serve(config: Config, source: Source) -> Result<(), LaunchError> {
    let begun = Instant::now();
    probe::io_uring()?;
    let descriptors = probe::descriptors(&config)?;
    let (directories, grounds) = Directories::take(&config)?;
    let directories = Arc::new(directories);
    let material = Material::read(&config, None).map_err(LaunchError::Tls)?;
    let (listeners, addresses) = listeners::listen(&config)?;
    let boot = boot(&directories);
    let failed = |error| LaunchError::Folder(config.work_dir.clone(), BadFolder::Io(error));
    let generation = directories.next_generation().map_err(failed)?;
    let (news_sender, news) = mpsc::channel();
    let to_main = news_sender.clone();
    signals::catch(move |wish| to_main.send(News::Signal(wish)).is_ok())?;

    let config = Arc::new(config);
    let (stage, _) = watch::channel(Stage::Recover);
    let (senders, receivers) = mailbox::open(config.cores, config.limits.mailbox_max);
    let processors = probe::allowed_processors();
    probe::warn_of_surprises(&config, &addresses, descriptors, processors.len());
    let (alive_sender, alive) = mpsc::channel();
    let notifier = notifier(&config);
    let verifier = Verifier::start().map_err(LaunchError::Thread)?;
    let lookout = Watch::start(Arc::clone(&directories)).map_err(LaunchError::Thread)?;
    let spaces = spaces(&config);
    let clients = Arc::new(Clients::default());
    let mut reloads = Vec::new();
    let mut deals = Vec::new();
    for (index, (letters, listeners)) in receivers.into_iter().zip(listeners).enumerate() {
        let (new_settings, to_adopt) = tokio::sync::mpsc::channel(1);
        reloads.push(new_settings);
        let (deal, dealt) = oneshot::channel();
        deals.push(deal);
        let seat = Seat {
            index,
            dealt,
            to_adopt,
            notifier: notifier.clone(),
            verifier: verifier.clone(),
            watch: lookout.clone(),
            spaces: spaces.clone(),
            clients: Arc::clone(&clients),
            config: Arc::clone(&config),
            boot: boot.clone(),
            generation,
            roots: reloader::open(&grounds)?,
            directories: Arc::clone(&directories),
            listeners,
            secure: material.servers(),
            letters,
            senders: senders.clone(),
            stage: stage.subscribe(),
            news: news_sender.clone(),
            alive: alive_sender.clone(),
            processor: (!processors.is_empty()).then(|| processors[index % processors.len()]),
        };
        seat.begin()?;
    }
    await_shards(&alive, config.cores)?;
    deal_journals(directories.shelves().work(), generation, deals, news_sender)?;
    material.tell();
    let reloader = Reloader::new(Arc::clone(&config), material, source.read, reloads);
    let reloads = Reloads::begin(reloader, &directories).map_err(LaunchError::Thread)?;
    let start = Start::new(begun, source.file, addresses, descriptors);
    supervise(&config, &directories, &start, &stage, &news, &reloads)
}

fn boot(directories: &Directories) -> Boot {
    Boot {
        current: directories.boot(),
        stopped_cleanly: directories.stopped_cleanly().into(),
    }
}

fn notifier(config: &Config) -> Notifier {
    Notifier::new(Bounds {
        in_flight_max: config.limits.notifications_max,
        bytes_max: config.limits.notification_bytes_max,
    })
}

fn spaces(config: &Config) -> Spaces {
    Spaces::begin(config.limits.free_bytes_min).unwrap_or_else(|error| {
        let event = "space_unwatched";
        tracing::warn!(event, %error, "there is no thread that looks at what is free on the disks");
        Spaces::unwatched()
    })
}

/// Waits until every shard has a ring that answers. What it reads back after that may take its time.
fn await_shards(alive: &mpsc::Receiver<io::Result<()>>, shards: usize) -> Result<(), LaunchError> {
    let deadline = Instant::now() + READY_PATIENCE;
    for _ in 0..shards {
        let left = deadline.saturating_duration_since(Instant::now());
        match alive.recv_timeout(left) {
            Ok(ready) => ready.map_err(LaunchError::Ring)?,
            Err(_) => return Err(LaunchError::RingSilent),
        }
    }
    Ok(())
}

/// What the line about the start tells, beside the settings.
struct Start {
    begun: Instant,
    settings_file: Option<PathBuf>,
    addresses: Vec<Address>,
    descriptors: u64,
}

impl Start {
    fn new(
        begun: Instant,
        settings_file: Option<PathBuf>,
        addresses: Vec<Address>,
        descriptors: u64,
    ) -> Self {
        Self {
            begun,
            settings_file,
            addresses,
            descriptors,
        }
    }

    /// Who has started, and how.
    fn tell(&self, config: &Config, unfinished: usize, remembered: usize) {
        let listen = |is_secure| {
            let those = (self.addresses.iter()).filter(|address| address.is_secure == is_secure);
            let those: Vec<String> = those.map(|one| one.address.to_string()).collect();
            (!those.is_empty()).then(|| those.join(","))
        };
        let file = self
            .settings_file
            .as_ref()
            .map(|path| path.display().to_string());
        tracing::info!(
            event = "started",
            version = version::VERSION,
            build = version::BUILD,
            kernel = probe::kernel(),
            config = file.unwrap_or_else(|| "none".to_owned()),
            root = %config.roots[0].display(),
            work_dir = %config.work_dir.display(),
            locations = config.locations.len() - 1,
            listen = listen(false),
            listen_tls = listen(true),
            shards = config.cores,
            io = config.io.name(),
            descriptors = self.descriptors,
            connections_per_shard_max = config.limits.connections_per_shard_max,
            sessions_per_shard_max = config.limits.sessions_per_shard_max,
            unfinished,
            remembered,
            took_ms = millis(self.begun.elapsed()),
            "started"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the journals of former starts once, and gives each shard its part.
fn deal_journals(
    work: WorkFolder,
    generation: u64,
    deals: Vec<oneshot::Sender<Dealt>>,
    news: mpsc::Sender<News>,
) -> Result<(), LaunchError> {
    let read = move || match readback::read(&work, generation, deals.len()) {
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

/// Sees the shards through recovery, service and the end.
fn supervise(
    config: &Config,
    directories: &Arc<Directories>,
    start: &Start,
    stage: &watch::Sender<Stage>,
    news: &mpsc::Receiver<News>,
    reloads: &Reloads,
) -> Result<(), LaunchError> {
    let mut recovering = config.cores;
    let mut preparing = config.cores;
    let mut running = config.cores;
    let mut is_renewed = true;
    let (mut unfinished, mut remembered, mut left) = (0, 0, 0);
    let mut stopping_since = None;
    let mut deadline: Option<Instant> = None;
    while running > 0 {
        let next = match deadline {
            None => news.recv().ok(),
            Some(deadline) => news
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok(),
        };
        match next {
            Some(News::Recovered(result)) => {
                let read_back = result.map_err(LaunchError::Recovery)?;
                is_renewed &= read_back.is_renewed;
                unfinished += read_back.unfinished;
                remembered += read_back.remembered;
                recovering -= 1;
                if recovering == 0 {
                    directories
                        .forget_clean_stop(is_renewed)
                        .map_err(LaunchError::Recovery)?;
                    if deadline.is_none() {
                        stage.send_replace(Stage::Serve { is_renewed });
                    }
                }
            }
            Some(News::Serving) => {
                preparing -= 1;
                if preparing == 0 && deadline.is_none() {
                    start.tell(config, unfinished, remembered);
                    observe::announce(
                        (start.addresses.iter()).map(|one| (one.address, one.is_secure)),
                    );
                }
            }
            Some(News::Ended(unfinished)) => {
                running -= 1;
                left += unfinished;
            }
            Some(News::Signal(Wish::Reload)) => reloads.ask(),
            Some(News::Signal(Wish::Stop)) if deadline.is_none() => {
                stopping_since = Some(Instant::now());
                deadline = Some(begin_to_stop(stage, reloads));
            }
            Some(News::Signal(Wish::Stop)) => {
                let event = "stopped_at_once";
                tracing::warn!(event, "stopped at once by a second signal");
                observe::flush();
                std::process::exit(1);
            }
            None => {
                let event = "stopped_unfinished";
                tracing::warn!(event, "stopped before all requests were finished");
                break;
            }
        }
    }
    // A shard that still runs may be writing: the note would speak for bytes that are not synced.
    if recovering == 0 && running == 0 {
        let time = deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let synced = note_clean_stop(directories, is_renewed, time + SYNC_PATIENCE);
        tell_of_stop(left, synced, stopping_since);
    }
    Ok(())
}

/// Asks all shards to end, and says until when they may take.
fn begin_to_stop(stage: &watch::Sender<Stage>, reloads: &Reloads) -> Instant {
    tracing::info!(
        event = "stopping",
        "stopping: running requests may finish; a second signal stops at once"
    );
    stage.send_replace(Stage::Drain);
    let limit = Duration::from_millis(reloads.config().limits.shutdown_ms_max);
    Instant::now() + limit + GRACE
}

/// The last line of a server that was stopped in order.
fn tell_of_stop(unfinished: usize, synced: bool, since: Option<Instant>) {
    let took_ms = since.map(|since| millis(since.elapsed()));
    let event = "stopped";
    tracing::info!(event, unfinished, synced, took_ms, "stopped");
}

/// Syncs everything and notes the clean stop, within bounds. A sync that hangs is left to itself: only the end of the
/// process is certain not to wait for it, as far as the kernel lets it go. Whether all is synced.
fn note_clean_stop(directories: &Arc<Directories>, is_renewed: bool, patience: Duration) -> bool {
    let directories = Arc::clone(directories);
    match within(patience, move || directories.note_clean_stop(is_renewed)) {
        Ok(Some(Ok(()))) => return true,
        Ok(Some(Err(error))) | Err(error) => {
            let event = "stop_not_safe";
            tracing::warn!(event, %error, "the stop could not be made safe against a power cut");
        }
        Ok(None) => tracing::warn!(
            event = "stop_not_safe",
            waited = ?patience,
            "the disk took too long to sync: the stop is not noted as a clean one, and after a reboot \
             uploads that are under way start again"
        ),
    }
    false
}

/// What some work comes to, on a thread of its own; `None` if it takes longer.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (tell, told) = mpsc::channel();
    let run = move || {
        let _nobody_waits = tell.send(work());
    };
    thread::Builder::new().name("sync".to_owned()).spawn(run)?;
    Ok(told.recv_timeout(patience).ok())
}

/// All that one shard's thread starts with.
struct Seat {
    index: usize,
    /// What the journals say of its sessions.
    dealt: oneshot::Receiver<Dealt>,
    config: Arc<Config>,
    boot: Boot,
    generation: u64,
    roots: Vec<(usize, Arc<Ground>, OwnedFd)>,
    directories: Arc<Directories>,
    notifier: Notifier,
    verifier: Verifier,
    watch: Watch,
    spaces: Spaces,
    clients: Arc<Clients>,
    to_adopt: Receiver<Offer<NewSettings>>,
    listeners: listeners::Sockets,
    secure: Vec<Option<Arc<ServerConfig>>>,
    letters: Receiver<Letter>,
    senders: Senders,
    stage: watch::Receiver<Stage>,
    news: mpsc::Sender<News>,
    /// Told when the ring answers.
    alive: mpsc::Sender<io::Result<()>>,
    processor: Option<usize>,
}

impl Seat {
    /// Starts the thread.
    fn begin(self) -> Result<(), LaunchError> {
        let thread = thread::Builder::new().name(format!("shard-{}", self.index));
        let spawned = thread.spawn(move || self.run());
        spawned.map(drop).map_err(LaunchError::Thread)
    }

    fn run(self) {
        if let Some(processor) = self.processor {
            let mut set = rustix::thread::CpuSet::new();
            set.set(processor);
            // Pinning is for speed; a host that forbids it is served all the same.
            if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
                let shard = self.index;
                tracing::debug!(event = "not_pinned", shard, %error, "the shard is not kept on one core");
            }
        }
        let runtime = match queue::runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = self.alive.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            op::give_way().await;
            let _ = self.alive.send(Ok(()));
            let news = self.news.clone();
            let unfinished = turn::timed(self.index, self.serve()).await;
            // Told from within: at its end tokio-uring waits without limit for what is pending, and
            // the process ends first.
            let _ = news.send(News::Ended(unfinished));
        });
    }

    /// Serves to the end; how many uploads are not finished then.
    async fn serve(self) -> usize {
        let (blocks, registration) = Blocks::of(&self.config.limits);
        if let (Registration::Refused(error), 0) = (registration, self.index) {
            let event = "blocks_not_registered";
            tracing::warn!(event, %error, "{NOT_REGISTERED}");
        }
        let disk = RingDisk::new(self.directories.shelves(), self.config.io);
        let trees = Arc::new(Trees::new(Vec::new(), self.directories.shelves()));
        let world = RingWorld {
            shard: self.index,
            boot: self.boot,
            blocks,
            disk,
            trees,
            spaces: self.spaces,
            spaces_of: RefCell::default(),
            ground_seen: Arc::default(),
            shelf_seen: Arc::default(),
            drawn: RefCell::default(),
            notifier: self.notifier,
            verifier: self.verifier,
            watch: self.watch,
            senders: self.senders,
            grounds: RefCell::default(),
            misses_a_shelf: self.directories.misses_a_shelf(),
            stats: Cell::new(0),
        };
        world.add_roots(self.roots);
        let (config, count) = (Arc::clone(&self.config), self.config.cores);
        let shard = Shard::new(Rc::new(world), config, self.clients, self.index, count);
        let is_stopping = Rc::new(Cell::new(false));
        let kit = Rc::new(Kit::default());
        let secure: Secure = Rc::new(RefCell::new(self.secure));
        let listeners: Vec<_> = self
            .listeners
            .into_iter()
            .map(|(l, at)| (Rc::new(l), at))
            .collect();
        for (listener, entry) in &listeners {
            let tls = (Rc::clone(&secure), *entry, Rc::clone(&kit));
            let (listener, is_stopping) = (Rc::clone(listener), Rc::clone(&is_stopping));
            (shard.world).spawn(accept(Rc::clone(&shard), listener, is_stopping, tls));
        }
        let world = &shard.world;
        world.spawn(take_letters(Rc::clone(&shard), self.letters, kit));
        world.spawn(take_settings(Rc::clone(&shard), self.to_adopt, secure));

        // If they cannot be read, the main thread hears of it, and that is the end.
        let Ok(dealt) = self.dealt.await else {
            return 0;
        };
        let read = recover::recover(&shard, self.generation, dealt).await;
        let told = read
            .as_ref()
            .map(|recovered| ReadBack::of(&shard, recovered));
        let told = told.map_err(|error| io::Error::new(error.kind(), error.to_string()));
        let _ = self.news.send(News::Recovered(told));
        let Ok(recovered) = read else {
            return 0;
        };
        let mut stage = self.stage;
        let served = stage.wait_for(|stage| *stage >= Stage::SERVE).await;
        let reached = served.map_or(Stage::Drain, |stage| *stage);
        if self.index == 0 && reached == (Stage::Serve { is_renewed: true }) {
            vault::recover::retire(&*shard.world, self.generation, &recovered.damaged).await;
        }
        shard.begin_serving();
        let _ = self.news.send(News::Serving);
        shard.world.spawn(Rc::clone(&shard).watch());

        let _ = stage.wait_for(|stage| *stage >= Stage::Drain).await;
        is_stopping.set(true);
        for (listener, _) in &listeners {
            net::stop_listening(listener);
        }
        end(&shard).await;
        // Connections handed to this shard meanwhile are closed by the end of the process.
        shard.unfinished_len()
    }
}

/// Lets running requests finish, as long as they may take.
async fn end(shard: &Shard<RingWorld>) {
    shard.drain();
    let limit = Duration::from_millis(shard.limits().shutdown_ms_max);
    if tokio::time::timeout(limit, shard.empty()).await.is_err() {
        shard.hang_up_all();
        shard.empty().await;
    }
}

/// What each listener of the settings speaks TLS with, as of the last reload.
type Secure = Rc<RefCell<Vec<Option<Arc<ServerConfig>>>>>;

async fn accept(
    shard: Rc<Shard<RingWorld>>,
    listener: Rc<OwnedFd>,
    is_stopping: Rc<Cell<bool>>,
    (secure, entry, kit): (Secure, Option<usize>, Rc<Kit>),
) {
    let index = shard.index;
    let complain = move |error: &io::Error| observe::log_failed_accept(index, error);
    let serve = |wire: RingWire| {
        let tls = entry.and_then(|entry| secure.borrow().get(entry).cloned().flatten());
        let wire = match tls.map(|config| Tls::new(config, Rc::clone(&kit))) {
            None => wire,
            Some(Some(tls)) => wire.secured(tls),
            // Without keys it is not served in the clear.
            Some(None) => return,
        };
        shard
            .world
            .spawn(serve::serve(Rc::clone(&shard), wire, Vec::new()));
    };
    net::accept_all(listener, is_stopping, complain, serve).await;
}

async fn take_settings(
    shard: Rc<Shard<RingWorld>>,
    to_adopt: Receiver<Offer<NewSettings>>,
    secure: Secure,
) {
    let adopt = |new: NewSettings| {
        secure.replace(new.secure);
        shard.world.add_roots(new.roots);
        shard.adopt(new.config);
    };
    reload::take(to_adopt, adopt).await;
}

async fn take_letters(shard: Rc<Shard<RingWorld>>, mut letters: Receiver<Letter>, kit: Rc<Kit>) {
    let budget = Budget::default();
    while let Some(letter) = letters.recv().await {
        budget.spend(&*shard.world, letter.arrived.len()).await;
        let wire = RingWire::new(letter.socket, letter.peer);
        let wire = match letter.tls {
            Some(session) => wire.secured(Tls::with(session, Rc::clone(&kit))),
            None => wire,
        };
        shard
            .world
            .spawn(serve::serve(Rc::clone(&shard), wire, letter.arrived));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_to_itself() {
        let long = Duration::from_secs(60);
        assert_eq!(within(long, || 1).unwrap(), Some(1));
        let (release, held) = mpsc::channel::<()>();
        let hangs = move || held.recv();
        assert!(within(Duration::from_millis(20), hangs).unwrap().is_none());
        drop(release);
    }
}
