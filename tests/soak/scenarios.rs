//! What befalls the server.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::battle::{Ground, Promise, Setup, Terms, fight, read};
use super::mount::{Kind, Mount};
use super::quarrel::quarrel;
use super::support::client::{Client, SESSION_NOT_FOUND, fragment};
use super::support::random::Rng;
use super::support::server::{Server, Settings};
use super::support::wait_until;
use super::told::told;

/// How a scenario ended, if it did not panic.
pub enum Outcome {
    /// With these figures.
    Passed(String),
    /// It cannot run here.
    Skipped(String),
}

type Scenario = fn(&Setup) -> Outcome;

/// Name, what it does, and the scenario.
pub const SCENARIOS: &[(&str, &str, Scenario)] = &[
    ("kills", "kill -9 and restart with other cores", kills),
    ("drain", "SIGTERM and restart", drain),
    ("full-ext4", "a small ext4 fills up and is freed", full_ext4),
    ("full-xfs", "a small xfs fills up and is freed", full_xfs),
    (
        "full-tmpfs",
        "a small tmpfs fills up and is freed",
        full_tmpfs,
    ),
    ("descriptors", "more clients than open files", descriptors),
    ("clock", "file times jump while the server is down", clock),
    ("power", "the file system loses what was not synced", power),
    (
        "quarrel",
        "clients contradict each other while settings change and an application answers at random",
        quarrel,
    ),
    (
        "told",
        "targets of events and the server are killed, and fail, by turns",
        told,
    ),
];

pub fn passed(ground: &Ground) -> Outcome {
    let tally = &ground.tally;
    assert!(
        read(&tally.closed) > 0,
        "no upload came to its end: {tally}"
    );
    Outcome::Passed(tally.to_string())
}

/// One to four shards, any durability: none of them may matter here.
fn any_settings(rng: &mut Rng) -> Settings {
    let cores = any_cores(rng);
    let durability = rng.pick(&["none", "upload", "upload", "fragment"]);
    Settings::default().flags(&["--cores", cores, "--durability", durability])
}

pub fn any_cores(rng: &mut Rng) -> &'static str {
    rng.pick(&["1", "2", "3", "4"])
}

fn kills(setup: &Setup) -> Outcome {
    let mut server = Server::start();
    let ground = Ground::new(&server, setup, Terms::default());
    let strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(20 + rng.log_uniform(1000));
        server.restart_with(any_settings(rng));
        ground.announce(server);
    };
    fight(&ground, setup, &mut server, strike, |_| {});
    passed(&ground)
}

fn drain(setup: &Setup) -> Outcome {
    let settings = || Settings::default().file("[limits]\nshutdown_ms_max = 2000");
    let mut server = Server::with(settings());
    let ground = Ground::new(&server, setup, Terms::default());
    let strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(20 + rng.log_uniform(1000));
        server.terminate();
        let status = server.wait();
        assert!(status.success(), "a stop by SIGTERM ended with {status}");
        server.restart_with(settings().flags(&["--cores", rng.pick(&["1", "2", "3"])]));
        ground.announce(server);
    };
    fight(&ground, setup, &mut server, strike, |_| {});
    passed(&ground)
}

fn full_ext4(setup: &Setup) -> Outcome {
    full(setup, Kind::Ext4)
}

fn full_xfs(setup: &Setup) -> Outcome {
    full(setup, Kind::Xfs)
}

fn full_tmpfs(setup: &Setup) -> Outcome {
    full(setup, Kind::Tmpfs)
}

/// As small as mkfs.xfs allows, and room for the records of ended sessions: four shards remember
/// 4,096 each, in two pages or less, which is 128 MiB.
const SMALL_MIB: u64 = 320;

fn full(setup: &Setup, kind: Kind) -> Outcome {
    let mount = match Mount::new(kind, SMALL_MIB) {
        Ok(mount) => mount,
        Err(why) => return Outcome::Skipped(format!("a small {kind:?} cannot be had: {why}")),
    };
    let mut server = Server::on(&mount.root(), Settings::default());
    let terms = Terms {
        file_bytes_max: 3 << 20,
        // Whoever the files are for takes them away at once.
        kept_bytes_max: 0,
        ..Terms::default()
    };
    let ground = Ground::new(&server, setup, terms);
    let strike = |server: &mut Server, rng: &mut Rng| {
        let refused = read(&ground.tally.disk_full);
        let ballast = mount.fill();
        ground.wait_for(2_000, || read(&ground.tally.disk_full) >= refused + 5);
        if rng.one_in(2) {
            server.restart_with(any_settings(rng));
            ground.announce(server);
            ground.pause(rng.below(100));
        }
        drop(ballast);
        if rng.one_in(3) {
            server.restart_with(any_settings(rng));
            ground.announce(server);
        }
        let closed = read(&ground.tally.closed);
        ground.wait_for(5_000, || {
            read(&ground.tally.closed) > closed + rng.below(30)
        });
    };
    fight(&ground, setup, &mut server, strike, |_| {});
    assert!(read(&ground.tally.disk_full) > 0, "the disk was never full");
    passed(&ground)
}

fn descriptors(setup: &Setup) -> Outcome {
    // A server with two shards asks for 76 at its start.
    let script = "ulimit -n 80 && exec \"$@\"";
    let settings = || Settings::default().wrapper(&["sh", "-c", script, "sh"]);
    let mut server = Server::with(settings());
    let terms = Terms {
        file_bytes_max: 256 << 10,
        may_starve: true,
        ..Terms::default()
    };
    let setup = &Setup {
        clients: setup.clients * 8,
        ..*setup
    };
    let ground = Ground::new(&server, setup, terms);
    let mut was_short = 0;
    let mut strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(200 + rng.log_uniform(2000));
        let log = server.log();
        if log.contains("too many files are open") || read(&ground.tally.unavailable) > 0 {
            was_short += 1;
        }
        if rng.one_in(4) {
            server.restart_with(settings());
            ground.announce(server);
        }
    };
    fight(&ground, setup, &mut server, &mut strike, |_| {});
    assert!(was_short > 0, "there were always enough descriptors");
    passed(&ground)
}

/// The wall clock of the machine is never touched. The server reads it in one place: the age of a
/// session's part at start. So its time is moved instead, while the server is down; to it, that is
/// the same as a clock that jumped. (libfaketime would need to be preloaded, and a static or setuid
/// build would ignore it in silence.)
fn clock(setup: &Setup) -> Outcome {
    ages();
    let mut server = Server::start();
    let ground = Ground::new(&server, setup, Terms::default());
    let strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(50 + rng.log_uniform(1000));
        server.kill9();
        // Less than the 14 days after which a session without progress is given up.
        let days = i64::try_from(rng.below(30 + 13)).unwrap() - 13;
        let work = server.root().join(".bitsd");
        for entry in std::fs::read_dir(work).unwrap() {
            if rng.one_in(2) {
                move_time(&entry.unwrap().path(), days * DAY);
            }
        }
        // Nor do those without a byte then, which had just begun.
        let settings = any_settings(rng).file("empty_session_timeout = \"14d\"");
        server.restart_with(settings);
        ground.announce(server);
    };
    fight(&ground, setup, &mut server, strike, |_| {});
    passed(&ground)
}

const DAY: i64 = 86_400;

/// Which sessions live on after their files' times moved.
fn ages() {
    let settings =
        |timeout: &str| Settings::default().file(&format!("session_timeout = {timeout:?}"));
    let mut server = Server::with(settings("1h"));
    let paths = ["past", "future", "epoch", "far"];
    let mut clients: Vec<Client> = paths
        .iter()
        .map(|path| {
            let mut client = Client::create(server.address(), &format!("/{path}.bin"));
            client.send(fragment(0..1000).of(3000)).assert(200, None);
            client
        })
        .collect();
    server.kill9();
    for (path, client) in paths.iter().zip(&clients) {
        let id = client.session().trim_matches(['{', '}']);
        let part = server.root().join(format!(".bitsd/{id}.part"));
        let seconds = match *path {
            "past" => -DAY,
            "future" => 3650 * DAY,
            "epoch" => -200 * 365 * DAY,
            _ => 300 * 365 * DAY,
        };
        move_time(&part, seconds);
    }
    server.restart_with(settings("1h"));
    let is_gone = |path: &str| ["past", "epoch"].contains(&path);
    for (path, client) in paths.iter().zip(&mut clients) {
        client.reconnect_to(server.address());
        if is_gone(path) {
            wait_until("what is too old is given up", || {
                let answer = client.send(fragment(2999..3000).of(3000));
                client.reconnect();
                answer.field("BITS-Error-Code") == Some(SESSION_NOT_FOUND)
            });
        } else {
            let answer = client.send(fragment(1000..2000).of(3000));
            assert_eq!(answer.received(), 2000, "{path}");
        }
    }
    // A time in the future is no life insurance: the timeout runs from the start of the server on.
    server.kill9();
    let future = &clients[1];
    let id = future.session().trim_matches(['{', '}']).to_owned();
    let part = server.root().join(format!(".bitsd/{id}.part"));
    move_time(&part, 3650 * DAY);
    server.restart_with(settings("1s"));
    wait_until("a session from the future is given up", || !part.exists());
}

/// Sets the time a file was last written to so many seconds from now; of a file that just went,
/// none.
fn move_time(path: &Path, seconds: i64) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i64::try_from(now.unwrap().as_secs()).unwrap();
    let time = Timespec {
        tv_sec: now + seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    match rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A real file system, and a cut that it cannot tell from one of the power: ext4 and xfs can be
/// told to stop at once, as their own crash tests do (dm-log-writes would need a device mapper, and
/// a FUSE file system would test itself). The server takes the next start for one after a reboot
/// because it is shown another boot id.
fn power(setup: &Setup) -> Outcome {
    let quarter = Setup {
        duration: setup.duration.max(Duration::from_secs(4)) / 4,
        ..*setup
    };
    let mut figures = Vec::new();
    for kind in [Kind::Ext4, Kind::Xfs] {
        let mount = match Mount::new(kind, 2048) {
            Ok(mount) => mount,
            Err(why) => {
                return Outcome::Skipped(format!(
                    "no {kind:?} to cut the power of ({why}); the simulator's power cut is the proof"
                ));
            }
        };
        for durability in ["upload", "fragment"] {
            let figure = power_with(&quarter, &mount, durability);
            figures.push(format!("{kind:?}, {durability}: {figure}"));
        }
    }
    Outcome::Passed(figures.join("; "))
}

fn power_with(setup: &Setup, mount: &Mount, durability: &str) -> String {
    let root = mount.root().join(durability);
    std::fs::create_dir(&root).unwrap();
    let boot_id = mount.beside("boot_id");
    let mut boots = Rng(setup.seed ^ 0xb007);
    let mut reboot = || {
        let (high, low) = (boots.next(), boots.next());
        std::fs::write(&boot_id, format!("{high:016x}{low:016x}\n")).unwrap();
    };
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let wrapper = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        boot_id.to_str().unwrap(),
    ];
    let settings = |cores: &str| {
        let flags = ["--durability", durability, "--cores", cores];
        Settings::default().flags(&flags).wrapper(&wrapper)
    };
    reboot();
    let mut server = Server::on(&root, settings("2"));
    let terms = Terms {
        promise: match durability {
            "fragment" => Promise::EveryAck,
            _ => Promise::FinalAck,
        },
        has_power_cuts: true,
        file_bytes_max: 2 << 20,
        kept_bytes_max: (512 << 20) / setup.clients as u64,
        ..Terms::default()
    };
    let ground = Ground::new(&server, setup, terms);
    let synced = rustix::fs::syncfs(std::fs::File::open(&root).unwrap());
    synced.unwrap();
    let mut strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(20 + rng.log_uniform(1000));
        {
            let _nobody_reads = ground.tree.write().unwrap();
            server.kill9();
            mount.cut_power();
            reboot();
        }
        server.restart_with(settings(rng.pick(&["1", "2", "3"])));
        ground.announce(server);
    };
    fight(&ground, setup, &mut server, &mut strike, |_| {});
    let tally = &ground.tally;
    assert!(
        read(&tally.closed) > 0,
        "no upload came to its end: {tally}"
    );
    tally.to_string()
}
