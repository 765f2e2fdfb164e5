//! Start and stop: probe the kernel, take the directories, pin one thread per shard, build its ring, and
//! end all of it in order.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use super::blocks::{Blocks, Registration};
use super::disk::{self, Disk};
use super::mailbox::{self, Letter, Senders};
use super::net::{self, RingWire};
use super::{Boot, RingWorld, op};
use crate::config::Config;
use crate::server::shard::Shard;
use crate::server::store::{self, LOCK_NAME};
use crate::server::world::World as _;
use crate::server::{connection, recover};

/// Submission entries of one ring; tokio-uring panics if they overflow while it cannot submit.
const SUBMISSION_ENTRIES: u32 = 1024;
/// Completion entries of one ring.
const COMPLETION_ENTRIES: u32 = 8192;
/// The file that says that the last stop was a clean one, and in which boot.
const CLEAN_NAME: &str = "clean.aside";
/// What a shard may take to end after its time for running requests is over.
const GRACE: Duration = Duration::from_secs(2);

/// Why the server could not start, or had to end.
#[derive(Debug)]
pub enum LaunchError {
    /// io_uring cannot be used.
    Ring(io::Error),
    /// The kernel's io_uring lacks an operation.
    RingOperation(&'static str),
    /// The root cannot be used.
    Root(PathBuf, io::Error),
    /// The work directory cannot be used.
    WorkDirectory(PathBuf, io::Error),
    /// The kernel (or a filter before it) has no `openat2`, which keeps uploads beneath the root.
    NoResolveBeneath(io::Error),
    /// Root and work directory are on different file systems.
    OtherFileSystem(PathBuf, PathBuf),
    /// Another server has the work directory.
    Locked(PathBuf),
    /// An address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// Signals cannot be caught.
    Signals(io::Error),
    /// A shard's sessions could not be read back.
    Recovery(io::Error),
}

impl std::fmt::Display for LaunchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ring(error) => match error
                .raw_os_error()
                .map(rustix::io::Errno::from_raw_os_error)
            {
                Some(rustix::io::Errno::NOSYS) => write!(
                    f,
                    "this kernel has no io_uring; bitsd needs Linux 5.19 or newer with io_uring enabled"
                ),
                Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => write!(
                    f,
                    "io_uring is forbidden here; in a container allow io_uring_setup, io_uring_enter and \
                     io_uring_register in its seccomp profile, on a host set sysctl kernel.io_uring_disabled=0"
                ),
                Some(rustix::io::Errno::NOMEM) => write!(
                    f,
                    "not enough locked memory for io_uring ({error}); raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
                ),
                _ => write!(f, "io_uring cannot be set up: {error}"),
            },
            Self::RingOperation(name) => write!(
                f,
                "this kernel's io_uring has no {name}; bitsd needs Linux 5.19 or newer"
            ),
            Self::Root(path, error) => {
                write!(f, "the root {} cannot be used: {error}", path.display())
            }
            Self::WorkDirectory(path, error) => {
                write!(
                    f,
                    "the work directory {} cannot be used: {error}",
                    path.display()
                )
            }
            Self::NoResolveBeneath(error) => write!(
                f,
                "the system call openat2 cannot be used ({error}), without which uploads could not be kept beneath the \
                 root; under systemd it is taken away by RestrictSUIDSGID=yes, which DynamicUser=yes implies"
            ),
            Self::OtherFileSystem(root, work) => write!(
                f,
                "the work directory {} and the root {} are on different file systems, so that no file could be \
                 published in one step; put work_dir on the file system of the root",
                work.display(),
                root.display()
            ),
            Self::Locked(path) => write!(
                f,
                "another bitsd is using the work directory {}; stop it, or give this one its own root and work_dir",
                path.display()
            ),
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Signals(error) => write!(f, "cannot catch signals: {error}"),
            Self::Recovery(error) => {
                write!(f, "the work directory cannot be read back: {error}")
            }
        }
    }
}

impl std::error::Error for LaunchError {}

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
    /// A shard has read its sessions back; whether it has a journal of its own now.
    Recovered(io::Result<bool>),
    /// A shard could not make its ring.
    NoRing(io::Error),
    /// A shard takes packets of every kind.
    Serving,
    /// A shard has ended.
    Ended,
    /// SIGTERM or SIGINT.
    Signal,
}

/// Runs the server until a signal stops it.
///
/// # Errors
/// [`LaunchError`] if it cannot start.
pub fn serve(config: Config) -> Result<(), LaunchError> {
    probe()?;
    // A shard that trips an assertion must not leave the others running: all state is on disk.
    abort_on_panic();
    let directories = Directories::take(&config)?;
    let (listeners, addresses) = listen(&config)?;
    let boot = Boot {
        current: boot_id().map_err(|e| LaunchError::Root(config.roots[0].clone(), e))?,
        stopped_cleanly: directories.stopped_cleanly().into(),
    };
    let generation = directories
        .next_generation()
        .map_err(|e| LaunchError::WorkDirectory(config.work_dir.clone(), e))?;
    let (news_sender, news) = mpsc::channel();
    catch_signals(news_sender.clone())?;

    let config = Arc::new(config);
    let (stage, _) = watch::channel(Stage::Recover);
    let (senders, receivers) = mailbox::open(config.cores, config.limits.mailbox_max);
    let processors = allowed_processors();
    for (index, (letters, listeners)) in receivers.into_iter().zip(listeners).enumerate() {
        let seat = Seat {
            index,
            config: Arc::clone(&config),
            boot: boot.clone(),
            generation,
            directories: directories.reopen(&config)?,
            listeners,
            letters,
            senders: senders.clone(),
            stage: stage.subscribe(),
            news: news_sender.clone(),
            processor: (!processors.is_empty()).then(|| processors[index % processors.len()]),
        };
        thread::Builder::new()
            .name(format!("shard-{index}"))
            .spawn(move || seat.run())
            .map_err(LaunchError::Thread)?;
    }
    supervise(&config, &directories, &addresses, &stage, &news)
}

/// Sees the shards through recovery, service and the end.
fn supervise(
    config: &Config,
    directories: &Directories,
    addresses: &[SocketAddr],
    stage: &watch::Sender<Stage>,
    news: &mpsc::Receiver<News>,
) -> Result<(), LaunchError> {
    let mut recovering = config.cores;
    let mut preparing = config.cores;
    let mut running = config.cores;
    let mut is_renewed = true;
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
                is_renewed &= result.map_err(LaunchError::Recovery)?;
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
                    announce(addresses);
                }
            }
            Some(News::NoRing(error)) => return Err(LaunchError::Ring(error)),
            Some(News::Ended) => running -= 1,
            Some(News::Signal) if deadline.is_none() => {
                tracing::info!(
                    "stopping: running requests may finish; a second signal stops at once"
                );
                stage.send_replace(Stage::Drain);
                let limit = Duration::from_millis(config.limits.shutdown_ms_max);
                deadline = Some(Instant::now() + limit + GRACE);
            }
            Some(News::Signal) => {
                tracing::warn!("stopped at once by a second signal");
                std::process::exit(1);
            }
            None => {
                tracing::warn!("stopped before all requests were finished");
                break;
            }
        }
    }
    if recovering == 0
        && let Err(error) = directories.note_clean_stop(is_renewed)
    {
        tracing::warn!(%error, "the stop could not be made safe against a power cut");
    }
    Ok(())
}

/// Tells on stdout that clients may come.
fn announce(addresses: &[SocketAddr]) {
    let mut out = io::stdout().lock();
    for address in addresses {
        // Whoever started us may have closed our stdout; that is no reason to stop.
        let _ = writeln!(out, "listening on http://{address}");
    }
    let _ = out.flush();
}

/// All that one shard's thread starts with.
struct Seat {
    index: usize,
    config: Arc<Config>,
    boot: Boot,
    generation: u64,
    directories: (OwnedFd, OwnedFd),
    listeners: Vec<OwnedFd>,
    letters: Receiver<Letter>,
    senders: Senders,
    stage: watch::Receiver<Stage>,
    news: mpsc::Sender<News>,
    processor: Option<usize>,
}

impl Seat {
    fn run(self) {
        if let Some(processor) = self.processor {
            let mut set = rustix::thread::CpuSet::new();
            set.set(processor);
            // Pinning is for speed; a host that forbids it is served all the same.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
        let mut builder = tokio_uring::builder();
        builder
            .entries(SUBMISSION_ENTRIES)
            .uring_builder(&ring_settings());
        let runtime = match tokio_uring::Runtime::new(&builder) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = self.news.send(News::NoRing(error));
                return;
            }
        };
        runtime.block_on(async {
            let news = self.news.clone();
            self.serve().await;
            // Told from within: at its end tokio-uring waits without limit for what is pending, and
            // the process ends first.
            let _ = news.send(News::Ended);
        });
    }

    async fn serve(self) {
        let limits = &self.config.limits;
        let (blocks, registration) = Blocks::new(
            limits.head_bytes_max,
            limits.body_blocks_per_shard,
            limits.block_bytes,
        );
        if let (Registration::Refused(error), 0) = (registration, self.index) {
            tracing::warn!(
                %error,
                "body blocks cannot be registered with io_uring and are copied once more; \
                 raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)"
            );
        }
        let (root, work) = self.directories;
        let disk = Disk::new(root, work, self.config.io);
        let world = RingWorld::new(self.index, self.boot, blocks, disk, self.senders);
        let shard = Shard::new(
            Rc::new(world),
            Arc::clone(&self.config),
            self.index,
            self.config.cores,
        );
        let is_stopping = Rc::new(Cell::new(false));
        let listeners: Vec<_> = self.listeners.into_iter().map(Rc::new).collect();
        for listener in &listeners {
            tokio_uring::spawn(accept(
                Rc::clone(&shard),
                Rc::clone(listener),
                Rc::clone(&is_stopping),
            ));
        }
        tokio_uring::spawn(take_letters(Rc::clone(&shard), self.letters));

        let recovered = match recover::recover(&shard, self.generation).await {
            Ok(recovered) => recovered,
            Err(error) => {
                let _ = self.news.send(News::Recovered(Err(error)));
                return;
            }
        };
        let _ = self.news.send(News::Recovered(Ok(recovered.is_renewed)));
        let mut stage = self.stage;
        let reached = match stage.wait_for(|stage| *stage >= Stage::SERVE).await {
            Ok(stage) => *stage,
            Err(_) => Stage::Drain,
        };
        if self.index == 0 && reached == (Stage::Serve { is_renewed: true }) {
            recover::retire(&shard, self.generation, &recovered.damaged).await;
        }
        shard.begin_serving();
        let _ = self.news.send(News::Serving);
        tokio_uring::spawn(Rc::clone(&shard).watch());

        let _ = stage.wait_for(|stage| *stage >= Stage::Drain).await;
        is_stopping.set(true);
        listeners
            .iter()
            .for_each(|listener| net::stop_listening(listener));
        shard.drain();
        let limit = Duration::from_millis(self.config.limits.shutdown_ms_max);
        if tokio::time::timeout(limit, shard.empty()).await.is_err() {
            shard.hang_up_all();
            shard.empty().await;
        }
        // Connections handed to this shard meanwhile are closed by the end of the process.
    }
}

async fn accept(shard: Rc<Shard<RingWorld>>, listener: Rc<OwnedFd>, is_stopping: Rc<Cell<bool>>) {
    let complain = |error: &io::Error| {
        tracing::warn!(
            %error,
            "connections cannot be accepted; if too many files are open, raise RLIMIT_NOFILE (systemd: LimitNOFILE)"
        );
    };
    let serve = |wire: RingWire| {
        shard
            .world
            .spawn(connection::serve(Rc::clone(&shard), wire, Vec::new()));
    };
    net::accept_all(listener, is_stopping, complain, serve).await;
}

async fn take_letters(shard: Rc<Shard<RingWorld>>, mut letters: Receiver<Letter>) {
    while let Some(letter) = letters.recv().await {
        let wire = RingWire::new(letter.socket, letter.peer);
        shard
            .world
            .spawn(connection::serve(Rc::clone(&shard), wire, letter.arrived));
    }
}

/// The settings of every ring. Never DEFER_TASKRUN: tokio-uring hangs with it.
fn ring_settings() -> io_uring::Builder {
    let mut settings = io_uring::IoUring::builder();
    settings.setup_cqsize(COMPLETION_ENTRIES);
    // Both save work where the kernel knows them (6.0): one task submits, and completions wait for it.
    let mut with_hints = settings.clone();
    with_hints.setup_single_issuer().setup_coop_taskrun();
    if with_hints.build(8).is_ok() {
        with_hints
    } else {
        settings
    }
}

/// Whether io_uring can be used, and knows all that is asked of it.
fn probe() -> Result<(), LaunchError> {
    let ring = io_uring::IoUring::new(8).map_err(LaunchError::Ring)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(LaunchError::Ring)?;
    match op::OPCODES
        .iter()
        .find(|(code, _)| !probe.is_supported(*code))
    {
        Some((_, name)) => Err(LaunchError::RingOperation(name)),
        None => Ok(()),
    }
}

fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn catch_signals(news: mpsc::Sender<News>) -> Result<(), LaunchError> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(LaunchError::Signals)?;
    let wait = move || {
        for _signal in signals.forever() {
            if news.send(News::Signal).is_err() {
                return;
            }
        }
    };
    let spawned = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait);
    spawned.map(|_| ()).map_err(LaunchError::Thread)
}

/// One listener per address for each shard, and the addresses with their real ports.
fn listen(config: &Config) -> Result<(Vec<Vec<OwnedFd>>, Vec<SocketAddr>), LaunchError> {
    let mut shards: Vec<Vec<OwnedFd>> = (0..config.cores).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for &wanted in &config.listen {
        let failed = |error| LaunchError::Listen(wanted, error);
        net::check_free(wanted).map_err(failed)?;
        let mut address = wanted;
        for listeners in &mut shards {
            let listener = net::bind(address).map_err(failed)?;
            // Port 0 becomes a real one with the first shard; the others share it.
            address = net::local_address(&listener).map_err(failed)?;
            listeners.push(listener);
        }
        addresses.push(address);
    }
    Ok((shards, addresses))
}

/// The processors this process may run on.
fn allowed_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn boot_id() -> io::Result<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Root and work directory, and the lock that makes them ours.
struct Directories {
    work: OwnedFd,
    work_path: PathBuf,
    boot: u128,
    _lock: fs::File,
}

impl Directories {
    fn take(config: &Config) -> Result<Self, LaunchError> {
        let root_error = |error| LaunchError::Root(config.roots[0].clone(), error);
        let work_error = |error| LaunchError::WorkDirectory(config.work_dir.clone(), error);
        fs::create_dir_all(&config.roots[0]).map_err(root_error)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.work_dir)
            .map_err(work_error)?;
        disk::probe(&open_directory(&config.roots[0]).map_err(root_error)?)
            .map_err(LaunchError::NoResolveBeneath)?;
        let root_device = fs::metadata(&config.roots[0]).map_err(root_error)?.dev();
        let work_device = fs::metadata(&config.work_dir).map_err(work_error)?.dev();
        if root_device != work_device {
            let (root, work) = (config.roots[0].clone(), config.work_dir.clone());
            return Err(LaunchError::OtherFileSystem(root, work));
        }
        let lock = fs::OpenOptions::new()
            // Never open for writing, so that an administrator can remount the disk read-only.
            .read(true)
            .custom_flags(i32::try_from(rustix::fs::OFlags::CREATE.bits()).unwrap_or(0))
            .mode(0o600)
            .open(config.work_dir.join(LOCK_NAME))
            .map_err(work_error)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LaunchError::Locked(config.work_dir.clone()));
            }
            Err(error) => return Err(work_error(error.into())),
        }
        Ok(Self {
            work: open_directory(&config.work_dir).map_err(work_error)?,
            work_path: config.work_dir.clone(),
            boot: boot_id().map_err(work_error)?,
            _lock: lock,
        })
    }

    /// Descriptors of root and work directory for one shard.
    fn reopen(&self, config: &Config) -> Result<(OwnedFd, OwnedFd), LaunchError> {
        let root = open_directory(&config.roots[0])
            .map_err(|error| LaunchError::Root(config.roots[0].clone(), error))?;
        let work = open_directory(&config.work_dir)
            .map_err(|error| LaunchError::WorkDirectory(config.work_dir.clone(), error))?;
        Ok((root, work))
    }

    /// The generation of this start's journals.
    fn next_generation(&self) -> io::Result<u64> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.work_path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(store::next_generation(names.iter().map(String::as_str)))
    }

    /// The boots in which the server was last stopped cleanly, if it was.
    fn stopped_cleanly(&self) -> Vec<u128> {
        let text = fs::read_to_string(self.work_path.join(CLEAN_NAME)).unwrap_or_default();
        text.lines()
            .filter_map(|line| u128::from_str_radix(line.trim(), 16).ok())
            .collect()
    }

    /// From here on a power cut may lose what the last clean stop had made safe. If a shard's records still speak of an
    /// earlier boot, its sessions do not change before they are renewed, and that boot's stop holds.
    fn forget_clean_stop(&self, is_renewed: bool) -> io::Result<()> {
        if !is_renewed {
            let mut boots = self.stopped_cleanly();
            boots.retain(|boot| *boot != self.boot);
            if !boots.is_empty() && self.write_clean_stop(&boots).is_ok() {
                return Ok(());
            }
        }
        match fs::remove_file(self.work_path.join(CLEAN_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(rustix::fs::fsync(&self.work)?)
    }

    /// Syncs everything and says so, so that a planned reboot costs no client a byte. If not all records were renewed in
    /// this boot, those that were not still speak of the stop before.
    fn note_clean_stop(&self, is_renewed: bool) -> io::Result<()> {
        sync_file_system(&self.work)?;
        let mut boots = match is_renewed {
            true => Vec::new(),
            false => self.stopped_cleanly(),
        };
        if !boots.contains(&self.boot) {
            boots.push(self.boot);
        }
        self.write_clean_stop(&boots)
    }

    fn write_clean_stop(&self, boots: &[u128]) -> io::Result<()> {
        let text: String = boots.iter().map(|boot| format!("{boot:032x}\n")).collect();
        let mut file = fs::File::create(self.work_path.join(CLEAN_NAME))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(rustix::fs::fsync(&self.work)?)
    }
}

fn sync_file_system(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(directory.as_fd())?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).unwrap_or(0))
        .open(path)?;
    debug_assert!(file.as_raw_fd() >= 0);
    Ok(file.into())
}
