//! What clients and scenario share: where the server is, when to stop, what was done so far.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::support::random::Rng;
use super::support::server::Server;
use super::uploader::{Uploader, compare};

/// What a scenario is run with.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub duration: Duration,
    pub clients: usize,
    pub seed: u64,
}

/// What an Ack means for the rest of the session, by what strikes the server (the contract in
/// `src/vault/mod.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Kill, stop, full disk: what was acked is never asked for again.
    EveryAck,
    /// Power cut, `durability = "upload"`: only the final fragment's Ack counts.
    FinalAck,
}

/// What differs between scenarios.
#[derive(Clone, Debug)]
pub struct Terms {
    pub promise: Promise,
    /// Bytes of the largest file.
    pub file_bytes_max: u64,
    /// Bytes of whole files that are kept for the comparison at the end; older ones are compared
    /// and removed.
    pub kept_bytes_max: u64,
    /// Clients give a file up now and then.
    pub cancels: bool,
    /// No answer in time is part of the scenario.
    pub may_starve: bool,
    /// What was not synced may be lost, with the promise that stands above.
    pub has_power_cuts: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            promise: Promise::EveryAck,
            file_bytes_max: 8 << 20,
            kept_bytes_max: 512 << 20,
            cancels: true,
            may_starve: false,
            has_power_cuts: false,
        }
    }
}

/// Counters; all of them figures for the report.
#[derive(Debug, Default)]
pub struct Tally {
    pub sessions: AtomicU64,
    pub closed: AtomicU64,
    pub bytes: AtomicU64,
    pub resumes: AtomicU64,
    pub probes: AtomicU64,
    pub unavailable: AtomicU64,
    pub disk_full: AtomicU64,
    pub cancelled: AtomicU64,
    pub taken_back: AtomicU64,
    pub forgotten: AtomicU64,
    pub strikes: AtomicU64,
}

pub fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} strikes, {} sessions, {} files closed, {:.1} MiB acked, {} resumes, {} probes",
            read(&self.strikes),
            read(&self.sessions),
            read(&self.closed),
            read(&self.bytes) as f64 / f64::from(1 << 20),
            read(&self.resumes),
            read(&self.probes),
        )?;
        for (counter, what) in [
            (&self.disk_full, "disk full"),
            (&self.unavailable, "come back later"),
            (&self.cancelled, "cancelled"),
            (&self.taken_back, "offsets taken back"),
            (&self.forgotten, "sessions begun again"),
        ] {
            if read(counter) > 0 {
                write!(f, ", {} × {what}", read(counter))?;
            }
        }
        Ok(())
    }
}

/// The ground that clients and scenario meet on.
pub struct Ground {
    pub terms: Terms,
    pub tally: Tally,
    pub root: PathBuf,
    /// Random bytes; each file is a piece of them.
    pub pool: Arc<[u8]>,
    address: Mutex<SocketAddr>,
    /// After it no new upload is begun and nothing strikes any more.
    pub until: Instant,
    /// After it a client that is not done is stuck.
    pub give_up: Instant,
    is_lost: AtomicBool,
    /// Whole files that stand beneath the root.
    pub ledger: Mutex<Vec<Whole>>,
    /// All files that were ever closed.
    pub closed: Mutex<Vec<Whole>>,
    /// Taken for writing while the file system is away.
    pub tree: RwLock<()>,
}

/// A file that was closed.
#[derive(Clone, Debug)]
pub struct Whole {
    pub path: String,
    /// Where its bytes begin in the pool.
    pub start: usize,
    pub total: usize,
}

/// Pool bytes before the largest file.
pub const POOL_BYTES: usize = 4 << 20;
/// What the clients may take to end their last uploads.
const LAST_UPLOADS: Duration = Duration::from_secs(90);

impl Ground {
    pub fn new(server: &Server, setup: &Setup, terms: Terms) -> Self {
        let mut rng = Rng(setup.seed);
        let file_bytes_max = usize::try_from(terms.file_bytes_max).unwrap();
        let until = Instant::now() + setup.duration;
        for client in 0..setup.clients {
            std::fs::create_dir_all(server.root().join(folder(client))).unwrap();
        }
        Self {
            terms,
            tally: Tally::default(),
            root: server.root().to_owned(),
            pool: rng.bytes(POOL_BYTES + file_bytes_max).into(),
            address: Mutex::new(server.address()),
            until,
            give_up: until + LAST_UPLOADS,
            is_lost: AtomicBool::new(false),
            ledger: Mutex::default(),
            closed: Mutex::default(),
            tree: RwLock::default(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap()
    }

    /// Tells the clients where the server is now.
    pub fn announce(&self, server: &Server) {
        *self.address.lock().unwrap() = server.address();
    }

    /// Whether something failed and everybody should go home.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.is_lost() || Instant::now() >= self.until
    }

    /// Lets so much time pass, or less if it is over.
    pub fn pause(&self, ms: u64) {
        let end = (Instant::now() + Duration::from_millis(ms)).min(self.until);
        while Instant::now() < end && !self.is_lost() {
            thread::park_timeout(end - Instant::now());
        }
    }

    /// Waits until `condition` holds, the time is over or `ms` have passed; says whether it holds.
    pub fn wait_for(&self, ms: u64, mut condition: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + Duration::from_millis(ms);
        while !condition() {
            if self.is_over() || Instant::now() >= end {
                return false;
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        true
    }

    /// Compares what is kept with what was sent, and looks for files that nobody sent.
    pub fn compare_trees(&self) {
        let ledger = self.ledger.lock().unwrap();
        for whole in ledger.iter() {
            compare(self, whole);
        }
        let mut found: Vec<String> = Vec::new();
        list(&self.root, &self.root, &mut found);
        let mut expected: Vec<String> = ledger.iter().map(|whole| whole.path.clone()).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "files beneath the root");
        for entry in std::fs::read_dir(self.root.join(".bitsd")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_aside = name.ends_with(".aside") && name != "clean.aside";
            // A power cut leaves records that were never written; those are set aside.
            assert!(
                self.terms.has_power_cuts || !is_aside,
                "{name} was set aside"
            );
        }
    }
}

/// The folder of one client.
pub fn folder(client: usize) -> String {
    format!("c{client:03}")
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        if name == ".bitsd" {
            continue;
        }
        if path.is_dir() {
            list(root, &path, found);
        } else {
            found.push(name.to_owned());
        }
    }
}

/// Sends everybody home if its thread fails.
struct Alarm<'a>(&'a Ground);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_lost.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs the clients and strikes until the time is over, then lets the clients end and compares.
pub fn fight(
    ground: &Ground,
    setup: &Setup,
    server: &mut Server,
    mut strike: impl FnMut(&mut Server, &mut Rng),
    at_the_end: impl FnOnce(&mut Server),
) {
    let mut rng = Rng(setup.seed ^ 0x5eed);
    thread::scope(|scope| {
        for client in 0..setup.clients {
            let run = move || {
                let _alarm = Alarm(ground);
                Uploader::new(ground, client, setup.seed).run();
            };
            thread::Builder::new()
                .name(format!("client {client}"))
                .spawn_scoped(scope, run)
                .unwrap();
        }
        let _alarm = Alarm(ground);
        while !ground.is_over() {
            strike(server, &mut rng);
            add(&ground.tally.strikes, 1);
        }
        at_the_end(server);
    });
    assert!(!ground.is_lost(), "a client failed");
    ground.compare_trees();
}
