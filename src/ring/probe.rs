//! What the host offers, checked before anything is started: an io_uring that works, memory, cores.

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};

use super::blocks::Blocks;
use super::blocks::body::Registration;
use super::descriptors::{self, FEW_DESCRIPTORS};
use super::footing;
use super::herald;
use super::host_limits;
use super::launch_error::LaunchError;
use super::listeners::Address;
use super::memory;
use super::op;
use super::queue;
use super::rights;
use super::rlimit;
use super::umask;
use crate::config::Config;
use crate::diagnosis::RAISE_FILE_SIZE;
use crate::vigil;

/// How long io_uring may take for a request that does nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether io_uring can be used: it can be set up, knows all that is asked of it, and takes and
/// completes a request.
///
/// # Errors
/// [`LaunchError`]
pub fn io_uring() -> Result<(), LaunchError> {
    let mut ring = IoUring::new(8).map_err(LaunchError::Ring)?;
    let mut probe = io_uring::Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(LaunchError::Ring)?;
    let is_missing = |(code, _): &&(u8, &str)| !probe.is_supported(*code);
    if let Some((_, name)) = op::OPCODES.iter().find(is_missing) {
        return Err(LaunchError::RingOperation(name));
    }
    // A filter that forbids only io_uring_enter is noticed here, and not by shards that wait for
    // ever.
    // SAFETY: a no-op has neither pointers nor descriptors.
    unsafe { complete(&mut ring, &opcode::Nop::new().build()) }?;
    // The operation is older than what it is asked for here: before Linux 5.19 nothing could be
    // cancelled by its descriptor (IORING_ASYNC_CANCEL_FD), and that is all that EINVAL says. There
    // is nothing to be cancelled, which is another error.
    let itself = types::Fd(ring.as_raw_fd());
    let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::fd(itself)).build();
    // SAFETY: no pointers, and the descriptor is the ring's own.
    let result = unsafe { complete(&mut ring, &cancel) }?;
    if result == -rustix::io::Errno::INVAL.raw_os_error() {
        return Err(LaunchError::RingOperation("ASYNC_CANCEL by descriptor"));
    }
    Ok(())
}

/// What a request comes to.
///
/// # Safety
/// What the entry points to, and its descriptor, must outlive the ring.
unsafe fn complete(ring: &mut IoUring, entry: &squeue::Entry) -> Result<i32, LaunchError> {
    // SAFETY: the caller promises what the entry needs.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.expect("the queue of a new ring is empty");
    ring.submit().map_err(LaunchError::Ring)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = ring.completion().next() {
            return Ok(done.result());
        }
        if Instant::now() >= deadline {
            return Err(LaunchError::RingSilent);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether every shard can have a ring at the same time: each locks memory.
///
/// # Errors
/// [`LaunchError::Ring`]
pub fn rings(shards: usize) -> Result<(), LaunchError> {
    let settings = queue::settings();
    let rings = (0..shards).map(|_| settings.build(queue::ENTRIES));
    let rings: Result<Vec<IoUring>, _> = rings.collect();
    rings.map(drop).map_err(LaunchError::Ring)
}

/// Whether the process may have the memory that a start needs. Later, each piece that is missing
/// would end the process without a word of where it came from.
///
/// # Errors
/// [`LaunchError::Memory`]
pub fn memory(config: &Config) -> Result<(), LaunchError> {
    if !memory::can_be_had(memory::needed(config)) {
        return Err(LaunchError::memory(config));
    }
    match memory::too_small_for_blocks(config) {
        None => Ok(()),
        Some((limit, needed)) => Err(LaunchError::BlocksTooMany(limit, needed)),
    }
}

/// Tries to register the body blocks of all shards at the same time. If the kernel refuses, its
/// error is given; a server would then copy each block once more. Each shard has a thread, a ring
/// and a thread of the kernel here too, and all other threads are there, because the limits count
/// for all of them together.
///
/// # Errors
/// Any of these cannot be had.
pub fn registration(config: &Config) -> Result<Option<io::Error>, LaunchError> {
    let (tell, told) = mpsc::channel();
    let needed = memory::needed(config);
    let start = |_| {
        let (tell, limits) = (tell.clone(), config.limits.clone());
        let (end, ended) = mpsc::channel::<()>();
        let register = move || {
            let runtime = match queue::runtime() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = tell.send(Err(LaunchError::Ring(error)));
                    return;
                }
            };
            let Some(memory) = Blocks::memory(&limits) else {
                let _ = tell.send(Err(LaunchError::Memory(needed)));
                return;
            };
            let blocks = runtime.block_on(async {
                let begun = op::begin_worker().await.map_err(LaunchError::Ring);
                let (blocks, registration) = Blocks::of(&limits, memory);
                let _ = tell.send(begun.map(|()| registration));
                blocks
            });
            // Each keeps its ring until the last one has reported.
            let _ = ended.recv();
            runtime.block_on(async { drop(blocks) });
        };
        let thread = thread::Builder::new().spawn(register);
        Ok((end, thread.map_err(LaunchError::Thread)?))
    };
    let idle = |_| {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::Builder::new().spawn(move || {
            let _ = ended.recv();
        });
        Ok((end, thread.map_err(LaunchError::Thread)?))
    };
    let own = (0..threads_beside_shards(config)).map(idle);
    let shards = (0..config.cores).map(start);
    let threads: Vec<_> = own.chain(shards).collect::<Result<_, LaunchError>>()?;
    let told: Result<Vec<_>, LaunchError> = told.iter().take(config.cores).collect();
    for (end, thread) in threads {
        drop(end);
        let _ = thread.join();
    }
    let refused = told?
        .into_iter()
        .find_map(|registration| match registration {
            Registration::Refused(error) => Some(error),
            Registration::Done => None,
        });
    Ok(refused)
}

/// Threads that a start begins beside those of its shards, the main thread aside.
fn threads_beside_shards(config: &Config) -> usize {
    // The log, signals, reloads, journals, space, the watch over folders, and two each for
    // passwords and tickets.
    const ALWAYS: usize = 10;
    let addresses = config.admin_listen.len();
    let sockets = usize::from(!config.admin_socket.as_os_str().is_empty());
    let admin = match addresses + sockets {
        0 => 0,
        // And those that look at the server's health, and draw the page.
        doors => doors + 2,
    };
    let custody = usize::from(!config.custody.as_os_str().is_empty());
    let nats = usize::from(!config.events.nats.is_empty());
    ALWAYS + admin + custody + nats
}

/// Limits of the process that are less than what the settings ask for: a word, why, and what helps.
pub fn host_doubts(config: &Config) -> Vec<(&'static str, String, &'static str)> {
    let own = 1 + config.cores + threads_beside_shards(config);
    let files = host_limits::short_files(config);
    let files = files.map(|why| ("file_size_limit", why, RAISE_FILE_SIZE));
    let threads = host_limits::few_threads(config, own);
    let threads = threads.map(|why| ("few_threads", why, host_limits::RAISE_THREADS));
    files.into_iter().chain(threads).collect()
}

/// A warning for each folder of the settings that belongs to the system: a slip, mostly.
pub fn system_folders(config: &Config) -> Vec<String> {
    let own = [("work_dir", &config.work_dir), ("custody", &config.custody)];
    let folders = (config.roots.iter()).map(|root| ("root", root)).chain(own);
    folders
        .filter(|(_, folder)| !folder.as_os_str().is_empty())
        .filter(|(_, folder)| vigil::at(folder, || footing::is_of_the_system(folder)))
        .map(|(key, folder)| {
            let folder = folder.display();
            format!("{key}: {folder} belongs to the system: give the server a folder of its own")
        })
        .collect()
}

/// Warns of what will surprise somebody later, although the server can run.
pub fn warn_of_surprises(
    config: &Config,
    addresses: &[Address],
    descriptors: u64,
    processors: &[usize],
) {
    let _vigil = herald::watch_start();
    let processors = processors.len();
    if descriptors < FEW_DESCRIPTORS {
        let event = "few_descriptors";
        let remedy = descriptors::RAISE;
        tracing::warn!(
            event,
            descriptors,
            remedy,
            "few connections can be open at once"
        );
    }
    if let Some(error) = rlimit::why_unknown() {
        let event = "limits_unknown";
        let remedy = "allow the system call prlimit64";
        tracing::warn!(
            event, %error, remedy,
            "the process may not ask for its limits, and takes it that there are none"
        );
    }
    if let Some(why) = umask::doubt() {
        let event = "umask_changed";
        tracing::warn!(
            event,
            why,
            "others than the server's account have nothing to do with it"
        );
    }
    for (event, why, remedy) in host_doubts(config) {
        tracing::warn!(
            event,
            why,
            remedy,
            "a limit is less than the settings ask for"
        );
    }
    if (1..config.cores).contains(&processors) {
        let event = "more_shards_than_cores";
        let remedy = "leave the setting cores at 0, or lower it";
        tracing::warn!(
            event,
            shards = config.cores,
            cores = processors,
            remedy,
            "shards share cores"
        );
    }
    for why in rights::readable_secrets(config) {
        let event = "secret_readable";
        tracing::warn!(event, why, "a secret is none");
    }
    let exposed = rights::writable_files(config).into_iter();
    for why in exposed.chain(rights::files_in_roots(config)) {
        let event = "file_writable";
        tracing::warn!(event, why, "others have a say in what this server does");
    }
    for why in config.doubts() {
        tell_of_doubt(&why);
    }
    for why in system_folders(config) {
        let event = "system_folder";
        tracing::warn!(event, why, "a folder is not the server's own");
    }
    let is_service = std::env::var_os("INVOCATION_ID").is_some();
    if is_service && addresses.iter().all(|one| one.address.ip().is_loopback()) {
        let event = "only_local";
        let remedy = "set listen, for example to [\"0.0.0.0:8080\", \"[::]:8080\"]";
        tracing::warn!(
            event,
            remedy,
            "only this machine itself can reach the server"
        );
    }
}

/// Warns of settings that hardly anybody means.
pub fn tell_of_doubt(why: &str) {
    let event = "settings_doubtful";
    tracing::warn!(event, why, "the settings are hardly what is meant");
}

/// The processors this process may run on; none if that is unknown.
pub fn allowed_processors() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Name and release of the kernel.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}

/// The boot of the machine, as the kernel numbers it.
///
/// # Errors
/// What it says: it may be hidden.
pub fn boot_id() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(|_| io::ErrorKind::InvalidData.into())
}
