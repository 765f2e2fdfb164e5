//! What one client does with big files costs the others of its shard nothing.
//!
//! The disk is ext4 without a journal and with `discard`: there the kernel tells the device of what
//! became free within the call that frees it, so a shard that makes the call itself stands still
//! for about 140 ms per GiB.

mod support;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use support::client::{Client, PROTOCOL, fragment};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{skip, skip_anywhere, stalls_in_calls, wait_until};

/// What is freed at once.
const BIG_BYTES: u64 = 2 << 30;
/// A disk that frees as much sooner shows nothing.
const SLOW: Duration = Duration::from_millis(120);
/// The machine may be busy with something else in some of so many rounds, and not in all: one that
/// shows nothing is enough.
const ROUNDS: usize = 3;

/// Sessions that expire at the same time.
const EXPIRING: usize = 20_000;
/// Requests that are under way at the same time.
const WINDOW: usize = 64;

/// What one test writes is no matter of another's pings.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes on until nobody was held up in a round; fails if that is so in none.
fn assert_once(mut round: impl FnMut(usize) -> Result<(), String>) {
    let mut why = Vec::new();
    for number in 0..ROUNDS {
        match round(number) {
            Ok(()) => return,
            Err(held_up) => why.push(held_up),
        }
    }
    panic!("{why:#?}");
}

fn slow_disk(folder: &Path) -> Option<Disk> {
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"];
    let disk = Disk::mount(folder, &mkfs, 5 << 30, "discard");
    if disk.is_none() {
        skip("mounting a disk image needs root, loop devices and mkfs.ext4");
    }
    disk
}

fn write_big(path: &Path) {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..BIG_BYTES >> 20 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
}

/// How long the disk takes to free a big file, in one call.
fn freeing_takes(disk: &Disk) -> Duration {
    let path = disk.path().join("big");
    write_big(&path);
    let began = Instant::now();
    std::fs::remove_file(&path).unwrap();
    began.elapsed()
}

/// Says that there is nothing to be measured here. No program is missing, so it fails nowhere.
fn tell_of_fast_disk(takes: Duration) {
    let why = format!("this disk frees space in {takes:?}, too fast to show anything");
    skip_anywhere(&why);
}

fn server(disk: &Disk, round: usize, more: &str) -> Server {
    let root = disk.path().join(format!("root-{round}"));
    std::fs::create_dir(&root).unwrap();
    let flags = ["--cores", "1"];
    Server::on(&root, Settings::default().flags(&flags).file(more))
}

/// Sends a big file of zeros.
fn send_big(client: &mut Client) {
    let zeros = vec![0; 64 << 20];
    let step = zeros.len() as u64;
    for start in (0..BIG_BYTES).step_by(zeros.len()) {
        client.send_head(&fragment(start..start + step).of(BIG_BYTES));
        client.raw.send(&zeros).receive().assert(200, None);
    }
}

/// Pings while something is done; the longest that one took.
fn beside_pings(server: &Server, act: impl FnOnce()) -> Duration {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            let mut client = Client::new(server.address(), "/ping");
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                client.ping().assert(200, None);
                longest = longest.max(began.elapsed());
            }
            longest
        });
        act();
        is_over.store(true, Ordering::Relaxed);
        pings.join().unwrap()
    })
}

/// That neither the pings nor the shard itself tell of a call that took as long as the freeing
/// does; the shard in what it has said since then.
fn judge(server: &Server, said: usize, longest: Duration, takes: Duration) -> Result<(), String> {
    eprintln!("the disk takes {takes:?}, the longest ping took {longest:?}");
    if longest >= takes / 2 {
        return Err(format!("a ping took {longest:?}"));
    }
    for line in stalls_in_calls(&server.log()[said..]) {
        let word = |key: &str| line.split(key).nth(1).unwrap_or_default();
        let ms = word(" ms=").split(' ').next().unwrap_or_default();
        let ms: u64 = ms.parse().unwrap_or_else(|_| panic!("{line}"));
        if Duration::from_millis(ms) >= takes / 2 {
            return Err(line.to_owned());
        }
    }
    Ok(())
}

#[test]
fn a_big_upload_that_is_cancelled_holds_up_nobody() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = slow_disk(place.path()) else {
        return;
    };
    let takes = freeing_takes(&disk);
    if takes < SLOW {
        return tell_of_fast_disk(takes);
    }
    assert_once(|round| {
        let server = server(&disk, round, "");
        let mut client = Client::create(server.address(), "/big.bin");
        send_big(&mut client);
        let (full, said) = (disk.free_bytes(), server.log().len());
        let longest = beside_pings(&server, || {
            client.cancel().assert(200, None);
            assert_eq!(server.work_files(), [""; 0], "it has no name any more");
            wait_until("its space is free", || {
                disk.free_bytes() > full + BIG_BYTES / 10 * 9
            });
        });
        judge(&server, said, longest, takes)
    });
}

#[test]
fn a_big_file_that_is_replaced_holds_up_nobody() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = slow_disk(place.path()) else {
        return;
    };
    let takes = freeing_takes(&disk);
    if takes < SLOW {
        return tell_of_fast_disk(takes);
    }
    assert_once(|round| {
        let server = server(&disk, round, "allow_overwrite = true");
        write_big(&server.file("big.bin"));
        let full = disk.free_bytes();
        let mut client = Client::create(server.address(), "/big.bin").seed(7);
        client.send_rest(0, 1_000, 1_000);
        let said = server.log().len();
        let longest = beside_pings(&server, || {
            client.close().assert(200, None);
            server.assert_file("big.bin", 7, 1_000);
            wait_until("its space is free", || {
                disk.free_bytes() > full + BIG_BYTES / 10 * 9
            });
        });
        judge(&server, said, longest, takes)
    });
}

/// Goal: they end in many small turns, not in a long one. Method: a reload gives sessions that have
/// parts a second to live. In one turn, a Ping would take as long as all of it. The parts are in
/// memory, where that long is some hundred milliseconds.
#[test]
fn many_sessions_that_expire_at_once_hold_up_nobody() {
    let _alone = alone();
    assert_once(|_round| {
        let (longest, took) = expire_many();
        eprintln!("all expired in {took:?}, the longest ping took {longest:?}");
        match longest < took / 2 {
            true => Ok(()),
            false => Err(format!("a ping took {longest:?} of {took:?}")),
        }
    });
}

/// The longest ping while many sessions expire, and how long those take.
fn expire_many() -> (Duration, Duration) {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let settings = Settings::default().flags(&["--cores", "1"]);
    let server = Server::on(
        &root,
        settings.file("sessions_per_client_max = \"unlimited\""),
    );
    make_sessions(&server);
    let parts = |server: &Server| {
        let names = server.work_files();
        names.iter().filter(|name| name.ends_with(".part")).count()
    };
    assert_eq!(parts(&server), EXPIRING);
    let mut took = Duration::ZERO;
    let longest = beside_pings(&server, || {
        server.reload(
            "sessions_per_client_max = \"unlimited\"\n\
             session_timeout = \"1s\"\nempty_session_timeout = \"1s\"\n",
        );
        wait_until("the first has expired", || parts(&server) < EXPIRING);
        let began = Instant::now();
        wait_until("all have expired", || parts(&server) == 0);
        took = began.elapsed();
    });
    (longest, took)
}

/// Sessions with a byte each.
fn make_sessions(server: &Server) {
    let mut raw = server.connect();
    let mut answers = |requests: Vec<String>| -> Vec<String> {
        let session = |answer: support::raw::Response| {
            answer.assert(200, None);
            answer.field("BITS-Session-Id").unwrap().to_owned()
        };
        let mut sessions = Vec::new();
        for window in requests.chunks(WINDOW) {
            raw.send(window.concat());
            sessions.extend(window.iter().map(|_| session(raw.receive())));
        }
        sessions
    };
    let packet = |number: usize, fields: &str, body: &str| {
        format!(
            "BITS_POST /{number}.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: {fields}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let create = format!("Create-Session\r\nBITS-Supported-Protocols: {PROTOCOL}");
    let creates = (0..EXPIRING).map(|number| packet(number, &create, ""));
    let sessions = answers(creates.collect());
    let fragments = sessions.iter().enumerate().map(|(number, session)| {
        let range = "Content-Range: bytes 0-0/2";
        let fields = format!("Fragment\r\nBITS-Session-Id: {session}\r\n{range}");
        packet(number, &fields, "x")
    });
    answers(fragments.collect());
}

/// Name of each thread of a server, and the processors that it may run on, as the kernel writes
/// them.
fn threads(server: &Server) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let of = |task: PathBuf| {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let word = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().to_owned())
        };
        Some((word("Name:")?, word("Cpus_allowed_list:")?))
    };
    // One may have ended meanwhile.
    tasks.filter_map(|task| of(task.unwrap().path())).collect()
}

/// What is done for a shard by others must not be done on its core, and nothing on a processor that
/// the administrator keeps for something else.
#[test]
fn helpers_leave_the_core_to_their_shard_and_stay_where_the_process_may_run() {
    let _alone = alone();
    if std::thread::available_parallelism().unwrap().get() < 2 {
        return skip("it takes two processors");
    }
    let folder = tempfile::tempdir().unwrap();
    let one_shard = || Settings::default().flags(&["--cores", "1"]);
    let with_helpers = |settings, name: &str| {
        let root = folder.path().join(name);
        std::fs::create_dir(&root).unwrap();
        let server = Server::on(&root, settings);
        let names = ["lane", "verify"];
        let has = |found: &[(String, String)], name| found.iter().any(|(known, _)| known == name);
        let mut found = Vec::new();
        wait_until("the helpers are there", || {
            found = threads(&server);
            names.iter().all(|name| has(&found, name))
        });
        let place = |name: &str| {
            let place = found.iter().find(|(known, _)| known == name);
            place.unwrap().1.clone()
        };
        (place("shard-0"), names.map(place))
    };
    let (shard, helpers) = with_helpers(one_shard(), "free");
    let is_apart = |helper: &String| !helper.split([',', '-']).any(|number| number == shard);
    assert!(helpers.iter().all(is_apart), "{shard}: {helpers:?}");

    let words = ["taskset", "-c", shard.as_str()];
    let has_taskset = std::process::Command::new(words[0]).arg("-V").output();
    if has_taskset.is_err() {
        return skip("there is no taskset");
    }
    let (_, helpers) = with_helpers(one_shard().wrapper(&words), "held");
    assert_eq!(helpers, [shard.as_str(); 2]);
}
