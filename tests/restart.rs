//! A restart that no client notices: what is under way is answered, what comes meanwhile waits.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Signal;
use support::client::{Client, fragment};
use support::host::with_calls;
use support::manager::Manager;
use support::program::free_address;
use support::raw::{Raw, Response};
use support::server::{Server, Settings};
use support::{skip, wait_until};

const PING: &str = "BITS_POST /x HTTP/1.1\r\nHost: s\r\nBITS-Packet-Type: Ping\r\n\
                    Content-Length: 0\r\n\r\n";

/// Pings one after the other, until an answer says that it is the last one. False if the connection
/// ends without, as it does for whoever is not in time with the next request.
fn hears_the_end(mut raw: Raw) -> bool {
    loop {
        let sent = raw.try_send(PING);
        let answer = sent.and_then(|()| raw.try_receive());
        let Ok(Some(answer)) = answer else {
            return false;
        };
        answer.assert(200, None);
        if answer.field("Connection") == Some("close") {
            raw.assert_closed();
            return true;
        }
    }
}

#[test]
fn a_client_that_goes_on_hears_which_answer_is_the_last() {
    let _alone = alone();
    let mut server = Server::start();
    const CLIENTS: usize = 16;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut raw = server.connect();
            // It is out of the queue of the listener, which ends with this server.
            raw.send(PING).receive().assert(200, None);
            thread::spawn(move || hears_the_end(raw))
        })
        .collect();
    server.terminate();
    let heard = clients.into_iter().filter_map(|client| {
        let is_heard = client.join().unwrap();
        is_heard.then_some(())
    });
    // The machine may keep some from being in time.
    let heard = heard.count();
    assert!(heard > CLIENTS / 2, "{heard} of {CLIENTS}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_first_request_that_comes_while_the_server_stops_is_served() {
    let _alone = alone();
    let mut server = Server::with(Settings::default().flags(&["--log-level", "debug"]));
    let mut late = server.connect();
    server.wait_for_log("event=connected");
    server.terminate();
    wait_until("nobody listens", || {
        Raw::try_connect(server.address()).is_err()
    });
    late.send(PING);
    let answer = late.receive();
    answer.assert(200, None);
    assert_eq!(answer.field("Connection"), Some("close"));
    late.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_idle_client_finds_an_end_and_no_reset() {
    let _alone = alone();
    let mut server = Server::start();
    let mut idle = server.connect();
    idle.send(PING).receive().assert(200, None);
    server.terminate();
    idle.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}

// -- listeners that outlive the process

/// Descriptors that are handed on may come to whatever is started meanwhile.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn starts(server: &Server) -> usize {
    server.log().matches("event=started").count()
}

/// The program takes the place of itself; returns when it serves.
fn replace(server: &Server) {
    // The log is written by a thread of its own.
    server.wait_for_log("event=started");
    let before = starts(server);
    server.make_way();
    wait_until("the new program serves", || starts(server) > before);
    // It is the same boot: nobody waits for the disk.
    let log = server.log();
    let stopped = log.lines().rfind(|line| line.contains("event=stopped "));
    assert!(!stopped.expect("it stopped").contains("synced="), "{log}");
}

fn stop_and_run(manager: &Manager, server: &mut Server, settings: Settings) {
    server.stop();
    let root = server.root().to_owned();
    *server = manager.run(&root, settings);
}

/// How much is going on while a server is restarted.
struct Load {
    restarts: usize,
    uploads: usize,
    sessions: usize,
    /// Of the clients' fragments, in turn.
    fragment_bytes: &'static [u64],
    /// How long a newcomer may wait beyond the longest fragment.
    pause_max: Duration,
}

/// From when until when.
type Span = (Instant, Instant);

/// The longest of those that were going on at some time within this one.
fn longest_within(spans: &[Span], within: Span) -> Duration {
    let meets = |span: &&Span| span.0 <= within.1 && span.1 >= within.0;
    let lengths = spans.iter().filter(meets).map(|span| span.1 - span.0);
    lengths.max().unwrap_or_default()
}

impl Load {
    /// Restarts the server again and again; every request of every client is answered well, no byte
    /// is sent twice.
    fn restart(&self, mut server: Server, mut again: impl FnMut(&mut Server)) {
        let address = server.address();
        let is_over = Arc::new(AtomicBool::new(false));
        let mut open: Vec<_> = (0..self.sessions)
            .map(|at| Client::new(address, &format!("/open-{at}.bin")))
            .take(8)
            .collect();
        let count = open.len();
        for at in 0..self.sessions {
            open[at % count].try_create().assert(200, None);
        }
        drop(open);
        let uploads = (0..self.uploads).map(|at| {
            let bytes = self.fragment_bytes[at % self.fragment_bytes.len()];
            let (is_over, root) = (Arc::clone(&is_over), server.root().to_owned());
            thread::spawn(move || upload_until(&is_over, address, &root, at, bytes))
        });
        let uploads: Vec<_> = uploads.collect();
        let (seen, told) = (Arc::clone(&is_over), mpsc::channel::<Span>());
        let newcomers = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let sender = told.0.clone();
                thread::spawn(move || {
                    let began = Instant::now();
                    let mut raw = Raw::connect(address);
                    raw.send(PING).receive().assert(200, None);
                    sender.send((began, Instant::now())).unwrap();
                });
                thread::park_timeout(Duration::from_millis(10));
            }
            drop(told.0);
            told.1.iter().collect::<Vec<_>>()
        });
        let mut restarts = Vec::new();
        for _ in 0..self.restarts {
            let began = Instant::now();
            again(&mut server);
            restarts.push((began, Instant::now()));
            // Who waited is served, whichever listener has them, and something is under way again.
            for _ in 0..16 {
                Raw::connect(address).send(PING).receive().assert(200, None);
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        is_over.store(true, Ordering::Relaxed);
        let uploads = uploads.into_iter().map(|one| one.join().unwrap());
        let uploads = uploads.reduce(Uploads::and).unwrap_or_default();
        let newcomers = newcomers.join().unwrap();
        assert!(uploads.fragments > 0 && !newcomers.is_empty());
        self.judge_pauses(&restarts, &uploads, &newcomers);
        // They were read back each time.
        let line = format!("unfinished={}", self.sessions);
        server.stop();
        assert!(server.log().contains(&line), "{}", server.log());
    }

    /// A server that ends answers its fragments first: what a newcomer waits beyond is the pause.
    fn judge_pauses(&self, restarts: &[Span], uploads: &Uploads, newcomers: &[Span]) {
        let pauses = restarts.iter().map(|&restart| {
            let (asked, _) = restart;
            let under_way = uploads.last_of_a_server.iter();
            let under_way = under_way.filter(|(began, _)| *began <= asked);
            let rests = under_way.map(|(_, ended)| ended.saturating_duration_since(asked));
            let rest = rests.max().unwrap_or_default();
            let wait = longest_within(newcomers, restart);
            (wait.saturating_sub(rest), wait, rest)
        });
        let mut pauses: Vec<_> = pauses.collect();
        pauses.sort();
        println!(
            "{} restarts, {} fragments, {} newcomers; pause, wait, rest of the longest fragment: \
             {pauses:.2?}",
            restarts.len(),
            uploads.fragments,
            newcomers.len()
        );
        let (pause, ..) = pauses[pauses.len() - 1];
        assert!(pause < self.pause_max, "{pauses:.2?}");
        let waits = newcomers.iter().map(|(began, ended)| *ended - *began);
        assert!(waits.max() < Some(WAIT_MAX), "{pauses:.2?}");
    }
}

/// What a client sent while servers came and went.
#[derive(Default)]
struct Uploads {
    fragments: usize,
    /// Fragments that were answered by a server at its end.
    last_of_a_server: Vec<Span>,
}

impl Uploads {
    fn and(mut self, other: Self) -> Self {
        self.fragments += other.fragments;
        self.last_of_a_server.extend(other.last_of_a_server);
        self
    }
}

static PIECE: [u8; 1 << 16] = [b'x'; 1 << 16];

/// Uploads one file after the other. Each fragment is sent once.
fn upload_until(
    is_over: &AtomicBool,
    address: SocketAddr,
    root: &Path,
    at: usize,
    bytes: u64,
) -> Uploads {
    let mut uploads = Uploads::default();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let name = format!("up-{at}-{number}.bin");
        let mut client = Client::new(address, &format!("/{name}"));
        let go_on = |client: &mut Client, answer: &Response| {
            answer.assert(200, None);
            let is_last = answer.field("Connection") == Some("close");
            if is_last {
                client.reconnect();
            }
            is_last
        };
        let answer = client.try_create();
        go_on(&mut client, &answer);
        for from in (0..4 * bytes).step_by(usize::try_from(bytes).unwrap()) {
            let began = Instant::now();
            let range = from..from + bytes;
            let answer = client.send_repeated(&fragment(range).of(4 * bytes), &PIECE);
            let took = (began, Instant::now());
            assert_eq!(answer.received(), from + bytes);
            uploads.fragments += 1;
            if go_on(&mut client, &answer) {
                uploads.last_of_a_server.push(took);
            }
        }
        client.close().assert(200, None);
        // No disk has room for all of them.
        std::fs::remove_file(root.join(name)).unwrap();
    }
    uploads
}

/// Goal: who comes while a quiet server is restarted waits for a second at the most. Method: one
/// asks after the other, and the quickest of some restarts counts, as others have the processors.
#[test]
fn who_comes_at_a_restart_waits_for_a_second_at_the_most() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let mut server = manager.run(&root, Settings::default());
    let address = server.address();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let newcomers = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            // The last one comes to the new server.
            loop {
                let (is_last, began) = (seen.load(Ordering::Relaxed), Instant::now());
                Raw::connect(address).send(PING).receive().assert(200, None);
                longest = longest.max(began.elapsed());
                if is_last {
                    return longest;
                }
            }
        });
        stop_and_run(&manager, &mut server, Settings::default());
        is_over.store(true, Ordering::Relaxed);
        waits.push(newcomers.join().unwrap());
    }
    println!("the longest wait at each restart: {waits:?}");
    let shortest = waits.iter().min().unwrap();
    assert!(*shortest < Duration::from_secs(1), "{waits:?}");
}

/// All clients have one address here.
fn crowded() -> Settings {
    Settings::default().file("sessions_per_client_max = 100000")
}

/// However long the fragments before it take.
const WAIT_MAX: Duration = Duration::from_secs(15);

const QUICK: Load = Load {
    restarts: 3,
    uploads: 16,
    sessions: 2_000,
    fragment_bytes: &[300_000],
    pause_max: Duration::from_secs(15),
};

const WHOLE: Load = Load {
    restarts: 20,
    uploads: 64,
    sessions: 20_000,
    fragment_bytes: &[1 << 20, 4 << 20, 16 << 20, 64 << 20],
    pause_max: Duration::from_secs(1),
};

/// As much as CI has time for, or, by `scripts/check --long`, all.
fn load() -> &'static Load {
    match std::env::var_os("BITSD_TEST_RESTARTS") {
        Some(_) => &WHOLE,
        None => &QUICK,
    }
}

#[test]
fn restarts_through_the_store_of_the_service_manager_go_unnoticed() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let server = manager.run(&root, crowded());
    load().restart(server, |server| {
        stop_and_run(&manager, server, crowded());
    });
}

#[test]
fn programs_that_take_the_place_of_each_other_go_unnoticed() {
    let _alone = alone();
    load().restart(Server::with(crowded()), |server| replace(server));
}

/// One that is far away, or whose machine is busy; others do not wait for it.
#[test]
fn a_client_that_takes_its_time_between_two_requests_is_waited_for() {
    let _alone = alone();
    let server = Server::with(Settings::default().flags(&["--cores", "1"]));
    server.wait_for_log("event=started");
    server.make_way();
    // Some are answered, and not for the last time, just before the server begins to end.
    let mut kept = Vec::new();
    while !server.log().contains("event=making_way") {
        let mut client = server.connect();
        let answer = client.send(PING).receive();
        if answer.field("Connection") != Some("close") {
            kept.push((Instant::now(), client));
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    let (answered, mut slow) = kept.pop().expect("one was answered");
    server.connect().send(PING).receive().assert(200, None);
    assert!(
        !server.log().contains("event=stopped "),
        "others need not wait"
    );
    // What the client does; nothing is waited for.
    thread::sleep(Duration::from_millis(400).saturating_sub(answered.elapsed()));
    let answer = slow.send(PING).receive();
    answer.assert(200, None);
    assert_eq!(answer.field("Connection"), Some("close"));
    wait_until("the new program serves", || starts(&server) > 1);
}

#[test]
fn more_and_fewer_shards_accept_from_the_same_listeners() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let cores = |count: &str| Settings::default().flags(&["--cores", count]);
    let mut server = manager.run(&root, cores("2"));
    let address = server.address();
    for (count, kept) in [("5", 5), ("1", 5), ("3", 5)] {
        stop_and_run(&manager, &mut server, cores(count));
        assert_eq!(server.address(), address);
        wait_until("the manager keeps them", || manager.kept() == kept);
        // Whatever socket the kernel chooses, somebody accepts from it.
        for _ in 0..40 {
            server.connect().send(PING).receive().assert(200, None);
        }
    }
    server.stop();
}

/// As a `.socket` unit has it: it allows no others beside it, and does not wait.
#[test]
fn all_shards_accept_from_the_one_socket_of_a_unit() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    manager.keep("bitsd.socket", socket);
    let listen = address.to_string();
    let settings = Settings::default().flags(&["--listen", &listen]);
    let mut server = manager.run(&root, settings.clone());
    assert_eq!(server.address(), address);
    let mut client = Client::create(address, "/a.bin");
    client.send_rest(0, 300_000, 100_000);
    for _ in 0..20 {
        server.connect().send(PING).receive().assert(200, None);
    }
    // The manager has it still: who comes meanwhile waits.
    server.stop();
    let mut waits = Raw::connect(address);
    waits.send(PING);
    server = manager.run(&root, settings);
    waits.receive().assert(200, None);
    client.reconnect().close().assert(200, None);
    server.assert_file("a.bin", 1, 300_000);
}

#[test]
fn what_is_no_listener_or_is_named_by_nobody_is_closed_and_told() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dropped = socket.local_addr().unwrap();
    manager.keep("dropped", socket);
    manager.keep("stranger", tempfile::tempfile().unwrap());
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    manager.keep("stranger too", udp);
    let mut waits = Raw::connect(dropped);
    let listen = free_address().to_string();
    let settings = Settings::default().flags(&["--listen", &listen]);
    let server = manager.run(&root, settings);
    server.wait_for_log("event=listener_dropped");
    assert!(server.log().contains("waiting=1"), "{}", server.log());
    waits.assert_closed();
    for why in ["it is no socket", "it is no TCP socket"] {
        server.wait_for_log(why);
    }
    wait_until("the manager keeps what is served", || manager.kept() == 2);
    assert!(!manager.has_listener(dropped.port()));
    assert!(Raw::try_connect(dropped).is_err());
    server.connect().send(PING).receive().assert(200, None);
}

/// Settings of a server that listens there.
fn listens_on(address: SocketAddr) -> Settings {
    Settings::default().flags(&["--listen", &address.to_string()])
}

/// The default, and all addresses: nobody else has the port, and a start that waits for its own
/// listener would wait for ever.
#[test]
fn a_listener_that_is_in_the_way_of_a_new_address_makes_way() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let one = free_address();
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, one.port()));
    let mut server = manager.run(&root, listens_on(one));
    let mut client = Client::create(one, "/a.bin");
    client.send(fragment(0..1_000).of(2_000)).assert(200, None);
    for address in [all, one] {
        wait_until("the manager keeps them", || manager.kept() == 2);
        let said = check_beside(&server, &listens_on(address));
        assert!(!said.contains("wrong:"), "{said}");
        server.stop();
        let mut waits = Raw::connect(one);
        waits.send(PING);
        server = manager.run(&root, listens_on(address));
        server.wait_for_log("event=listener_dropped");
        waits.assert_closed();
        assert!(server.log().contains("waiting=1"), "{}", server.log());
        assert!(!server.log().contains("address_in_use"), "{}", server.log());
        assert_eq!(server.address(), address);
    }
    wait_until("the manager keeps them", || manager.kept() == 2);
    // The administrator's interface has the address of clients from now on.
    server.stop();
    let admin = format!("admin_listen = \"{one}\"");
    server = manager.run(&root, listens_on(free_address()).file(&admin));
    server.wait_for_log("event=admin_listening");
    client.reconnect_to(server.address());
    client
        .send(fragment(1_000..2_000).of(2_000))
        .assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 2_000);
}

/// What a check says of settings where a server runs.
fn check_beside(server: &Server, settings: &Settings) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.args(["check", "--no-config"]).args(&settings.flags);
    let output = command.arg("--root").arg(server.root()).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// That of a unit is closed here only, since the unit would fail without it; who is in the way is
/// told.
#[test]
fn a_listener_of_a_unit_that_is_in_the_way_is_told() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let unit = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let all = unit.local_addr().unwrap();
    let one = SocketAddr::from((Ipv4Addr::LOCALHOST, all.port()));
    let of_unit = unit.try_clone().unwrap();
    manager.keep("bitsd.socket", unit);
    let root = folder.path().join("root");
    let failed = std::panic::catch_unwind(|| manager.run(&root, listens_on(one)));
    let said = *failed
        .err()
        .expect("it is in use")
        .downcast::<String>()
        .unwrap();
    assert!(said.contains("ListenStream="), "{said}");
    drop(of_unit);
    let server = manager.run(&root, listens_on(one));
    server.connect().send(PING).receive().assert(200, None);
}

/// As systemd makes it where nothing else is said: all of IPv6, and of IPv4.
#[test]
fn a_listener_of_a_unit_that_takes_ipv4_as_well_is_told() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let Ok(unit) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
        return skip("there is no IPv6");
    };
    let address = unit.local_addr().unwrap();
    if TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).is_ok() {
        return skip("IPv6 is only IPv6 here (net.ipv6.bindv6only)");
    }
    manager.keep("bitsd.socket", unit);
    let ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let both = format!("{address},{ipv4}");
    let settings = Settings::default().flags(&["--listen", &both]);
    let root = folder.path().join("root");
    let failed = std::panic::catch_unwind(|| manager.run(&root, settings));
    let failed = failed.err().expect("it is in use");
    let said = failed.downcast::<String>().unwrap();
    assert!(said.contains("BindIPv6Only=ipv6-only"), "{said}");
    manager.run(&root, listens_on(address)).stop();
}

// -- a program that takes the place of another

#[test]
fn a_new_program_listens_on_what_is_around_the_address_of_before() {
    let _alone = alone();
    let one = free_address();
    let listener = |ip: Ipv4Addr| format!("[[listener]]\naddress = \"{ip}:{}\"\n", one.port());
    let settings = Settings::default().file(&listener(Ipv4Addr::LOCALHOST));
    let server = Server::with(settings);
    let file = server.root().with_extension("toml");
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST] {
        std::fs::write(&file, listener(ip)).unwrap();
        replace(&server);
        Raw::connect(one).send(PING).receive().assert(200, None);
    }
    std::fs::write(&file, format!("admin_listen = \"{one}\"\n")).unwrap();
    replace(&server);
    std::fs::write(&file, listener(Ipv4Addr::LOCALHOST)).unwrap();
    replace(&server);
    Raw::connect(one).send(PING).receive().assert(200, None);
}

/// Goal: what the new program cannot listen on ends no server. Method: each is what a start with it
/// says, too.
#[test]
fn a_program_that_could_not_listen_does_not_take_over() {
    let _alone = alone();
    let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let busy = busy.local_addr().map(|address| (address, busy)).unwrap();
    let listener = |address| format!("[[listener]]\naddress = \"{address}\"\n");
    let in_use = "Address already in use";
    let mut all = vec![
        (listener(busy.0), in_use),
        (format!("admin_listen = \"{}\"\n", busy.0), in_use),
    ];
    let mut settings = Settings::default().file("allow_overwrite = false");
    if rustix::process::geteuid().is_root() {
        settings = settings.wrapper(&["setpriv", "--bounding-set=-net_bind_service"]);
    }
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    match first.map(|first| first.trim().parse()) {
        Ok(Ok(1024)) => all.push((
            listener("127.0.0.1:7".parse().unwrap()),
            "Permission denied",
        )),
        other => skip(&format!("every port is for everybody: {other:?}")),
    }
    let server = Server::with(settings.clone());
    let file = server.root().with_extension("toml");
    for (lines, why) in &all {
        let before = server.log().len();
        std::fs::write(&file, lines).unwrap();
        server.make_way();
        wait_until("it is told", || {
            server.log()[before..].contains("event=not_replaced")
        });
        let told = server.log().split_off(before);
        assert!(told.contains(why), "{lines}: {told}");
        server.connect().send(PING).receive().assert(200, None);
        let fresh = tempfile::tempdir().unwrap();
        let settings = Settings {
            file: lines.clone(),
            ..settings.clone()
        };
        let (status, said) = Server::refused(&fresh.path().join("root"), &settings);
        assert!(!status.success() && said.contains(why), "{lines}: {said}");
    }
    assert_eq!(starts(&server), 1);
    drop(busy);
    std::fs::write(&file, &all[0].0).unwrap();
    replace(&server);
}

#[test]
fn a_new_program_has_the_listeners_and_the_locks_and_nothing_else() {
    let _alone = alone();
    let server = Server::start();
    let (pid, address) = (server.pid(), server.address());
    let open = || {
        let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        // Inodes differ; what they are does not.
        let kinds = links.map(|link| link.to_string_lossy().split('[').next().unwrap().to_owned());
        let mut kinds: Vec<String> = kinds.collect();
        kinds.sort();
        kinds
    };
    server.connect().send(PING).receive().assert(200, None);
    wait_until("it is at rest", || server.log().contains("event=started"));
    let before = open().len();
    for _ in 0..3 {
        replace(&server);
        server.connect().send(PING).receive().assert(200, None);
        assert_eq!(server.pid(), pid);
        assert_eq!(server.address(), address);
    }
    wait_until("as much is open as at first", || open().len() <= before + 2);
    assert!(
        server.log().contains("listeners_taken_over=2"),
        "{}",
        server.log()
    );
}

#[test]
fn nobody_gets_the_work_directory_between_two_programs() {
    let _alone = alone();
    let server = Server::start();
    let is_over = Arc::new(AtomicBool::new(false));
    let folder = std::fs::File::open(server.root().join(".bitsd")).unwrap();
    let seen = Arc::clone(&is_over);
    let other = thread::spawn(move || {
        let mut tries = 0;
        while !seen.load(Ordering::Relaxed) {
            let locked = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
            assert_eq!(locked, Err(Errno::WOULDBLOCK));
            tries += 1;
            thread::yield_now();
        }
        tries
    });
    for _ in 0..3 {
        replace(&server);
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(other.join().unwrap() > 100);
    let (status, said) = Server::refused(server.root(), &Settings::default());
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("another bitsd"), "{said}");
}

/// The addresses are in use by the server that asks. Its unfinished uploads would be nobody's, and
/// so it goes on for as long as there are any.
#[test]
fn a_program_that_has_another_work_directory_takes_over() {
    let _alone = alone();
    let work = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(work.path(), mode).unwrap();
    // One that stands in the settings: any other is free.
    let address = free_address().to_string();
    let settings = Settings::default().file("[limits]\nshutdown_ms_max = 5000");
    let mut server = Server::with(settings.flags(&["--listen", &address]));
    let file = server.root().with_extension("toml");
    let text = format!("work_dir = {:?}\n{}", work.path(), server.settings().file);
    let mut client = Client::create(server.address(), "/before.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    std::fs::write(file, text).unwrap();
    server.make_way();
    server.wait_for_log("event=not_replaced");
    let log = server.log();
    assert!(log.contains("1 unfinished upload in"), "{log}");
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    replace(&server);
    assert!(work.path().join("lock").exists());
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..2_000)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 2_000);
    server.stop();
}

#[test]
fn a_program_that_could_not_serve_does_not_take_over() {
    let _alone = alone();
    let settings = Settings::default().file("[limits]\nshutdown_ms_max = 5000");
    let mut server = Server::with(settings);
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1_000).of(2_000)).assert(200, None);
    let file = server.root().with_extension("toml");
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, "no_such_key = 1\n").unwrap();
    server.make_way();
    server.wait_for_log("event=not_replaced");
    assert!(server.log().contains("no_such_key"), "{}", server.log());
    client
        .send(fragment(1_000..1_500).of(2_000))
        .assert(200, None);
    assert_eq!(starts(&server), 1);
    std::fs::write(&file, good).unwrap();
    replace(&server);
    client.reconnect();
    client
        .send(fragment(1_500..2_000).of(2_000))
        .assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 2_000);
    server.stop();
}

/// Goal: the new program begins with what was checked, whatever is written while the old one ends:
/// what is wrong in it, or leads away from unfinished uploads, is told and takes nothing down.
#[test]
fn settings_that_are_written_while_the_server_makes_way_wait_for_the_new_program() {
    let _alone = alone();
    let work = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(work.path(), mode).unwrap();
    let lines = "strict = true\n[limits]\nshutdown_ms_max = 60000\n";
    let mut server = Server::with(Settings::default().file(lines));
    let file = server.root().with_extension("toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for (written, told) in [
        (
            "no_such_key = 1\n".to_owned() + &good,
            "event=reload_failed",
        ),
        (
            format!("work_dir = {:?}\n{good}", work.path()),
            "key=\"work_dir\"",
        ),
        (
            good.replace("true", "false"),
            "changed=\"strict true -> false\"",
        ),
    ] {
        let begun = starts(&server);
        let mut client = Client::create(server.address(), "/a.bin");
        client.send(fragment(0..10).of(20)).assert(200, None);
        let mut other = Client::create(server.address(), "/b.bin");
        other.send_part(&fragment(0..20_000), 10_000);
        server.wait_for_part(other.session(), 10_000);
        let before = server.log().len();
        server.make_way();
        wait_until("it makes way", || {
            server.log()[before..].contains("event=making_way")
        });
        std::fs::write(&file, &written).unwrap();
        // Its connection ends, and with it all that the server waits for.
        drop(other);
        wait_until("the new program serves", || starts(&server) > begun);
        wait_until("the file is read again", || {
            let log = server.log().split_off(before);
            log.contains("event=settings_changed") && log.contains(told)
        });
        client.reconnect();
        client.send(fragment(10..20)).assert(200, None);
        client.close().assert(200, None);
        std::fs::remove_file(server.root().join("a.bin")).unwrap();
        std::fs::write(&file, &good).unwrap();
    }
    server.stop();
}

/// Goal: an upload that begins while the server makes way is not left behind in the old work
/// directory, although there was none when the new one was checked.
#[test]
fn an_upload_that_begins_while_the_server_makes_way_keeps_the_work_directory() {
    let _alone = alone();
    let work = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(work.path(), mode).unwrap();
    let settings = Settings::default().file("[limits]\nshutdown_ms_max = 60000");
    let mut server = Server::with(settings.flags(&["--log-level", "debug"]));
    let file = server.root().with_extension("toml");
    let text = format!("work_dir = {:?}\n{}", work.path(), server.settings().file);
    std::fs::write(file, text).unwrap();
    let mut client = Client::new(server.address(), "/a.bin");
    server.wait_for_log("event=connected");
    server.make_way();
    server.wait_for_log("event=making_way");
    client.try_create().assert(200, None);
    wait_until("the new program serves", || starts(&server) == 2);
    server.wait_for_log("event=work_dir_kept");
    client.reconnect();
    client.send(fragment(0..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
    assert!(!work.path().join("lock").exists());
    replace(&server);
    assert!(work.path().join("lock").exists());
    server.stop();
}

/// Goal: whoever started the server may ignore his own children (`signal(SIGCHLD, SIG_IGN)`), and
/// so would it then: the new program is asked all the same.
#[test]
fn a_server_that_was_started_to_ignore_its_children_makes_way() {
    let _alone = alone();
    let server = Server::with(Settings::default().wrapper(&["env", "--ignore-signal=CHLD"]));
    replace(&server);
}

/// Its shards have ended, and the disk of its ledger takes its time.
#[test]
fn a_stop_that_comes_just_before_the_new_program_begins_is_heard() {
    let _alone = alone();
    let slow = [
        "trace=fdatasync,fsync",
        "inject=fdatasync,fsync:delay_enter=1000000",
    ];
    let Some(settings) = with_calls(&slow) else {
        return;
    };
    let ledger = tempfile::tempdir().unwrap();
    let settings = settings.file(&format!("custody = {:?}", ledger.path()));
    let mut server = Server::with(settings);
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(10)).assert(200, None);
    client.close().assert(200, None);
    server.make_way();
    server.wait_for_log("event=stopped ");
    server.terminate();
    assert!(server.wait().success());
    assert!(
        server.log().contains("event=not_replaced"),
        "{}",
        server.log()
    );
    assert_eq!(starts(&server), 1);
    server.assert_file("a.bin", 1, 10);
}

/// By `env` they come before the program has begun at all, and wait until it hears them.
#[test]
fn what_is_asked_for_during_the_start_is_done_once_the_server_serves() {
    let _alone = alone();
    let script = "kill -USR2 $$; kill -USR1 $$; kill -HUP $$; exec \"$@\"";
    let words = [
        "env",
        "--block-signal=USR1",
        "--block-signal=USR2",
        "--block-signal=HUP",
    ];
    let words = [&words[..], &["sh", "-c", script, "sh"]].concat();
    let mut server = Server::with(Settings::default().wrapper(&words));
    wait_until("the new program serves", || starts(&server) == 2);
    server.wait_for_log("signal=\"SIGUSR1\"");
    server.wait_for_log("event=reloaded");
    server.stop();
}

/// Who looks at the settings is ended by whoever hangs up.
#[test]
fn commands_other_than_serve_are_ended_by_signals() {
    let _alone = alone();
    let script = "kill -HUP $$; exec \"$@\"";
    let mut command = Command::new("env");
    // Whoever runs the tests may ignore it (nohup).
    let as_usual = ["--default-signal=HUP", "--block-signal=HUP"];
    command.args(as_usual).args(["sh", "-c", script, "sh"]);
    let output = command
        .arg(env!("CARGO_BIN_EXE_bitsd"))
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(
        output.status.signal(),
        Some(Signal::HUP.as_raw()),
        "{output:?}"
    );
}

/// A server that was started by a path at which this script stands.
fn called_by_the_path_of(folder: &std::path::Path, script: &str) -> Server {
    let program = folder.join("bitsd");
    std::fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let name = program.to_str().unwrap();
    let words = ["bash", "-c", "exec -a \"$0\" \"$@\"", name];
    Server::with(Settings::default().wrapper(&words))
}

/// The path by which the server was started leads to a program that never ends.
#[test]
fn a_program_that_never_answers_is_asked_once_and_ends_with_the_server() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let script = format!("echo $$ >> {asked:?}\nexec sleep 600\n");
    let mut server = called_by_the_path_of(folder.path(), &script);
    server.wait_for_log("event=started");
    server.make_way();
    let numbers = || std::fs::read_to_string(&asked).unwrap_or_default();
    wait_until("it is asked", || numbers().ends_with('\n'));
    server.make_way();
    server.wait_for_log("event=still_checking");
    server.stop();
    let number = numbers();
    assert_eq!(number.lines().count(), 1, "it was asked once");
    let process = format!("/proc/{}", number.trim());
    assert!(
        !std::path::Path::new(&process).exists(),
        "it ended with the server"
    );
}

/// Also another program ends with success when it is asked.
#[test]
fn a_program_that_is_no_bitsd_takes_no_place() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut server = called_by_the_path_of(folder.path(), "echo well\nexit 0\n");
    server.wait_for_log("event=started");
    server.make_way();
    server.wait_for_log("event=not_replaced");
    assert!(server.log().contains("does not say that it is bitsd"));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1_000)).assert(200, None);
    server.stop();
}

/// The manager starts the unit again, with what it has kept.
#[test]
fn a_version_that_does_not_start_leaves_the_listeners_to_the_next() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let mut server = manager.run(&root, Settings::default());
    let address = server.address();
    let mut client = Client::create(address, "/a.bin");
    client.send(fragment(0..1_000).of(2_000)).assert(200, None);
    server.stop();
    let mut waits = Raw::connect(address);
    waits.send(PING);
    // It takes the listeners, and finds that it cannot have its directory.
    let held = std::fs::File::open(root.join(".bitsd")).unwrap();
    rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let failed = std::panic::catch_unwind(|| manager.run(&root, Settings::default()));
    assert!(failed.is_err());
    drop(held);
    let server = manager.run(&root, Settings::default());
    assert_eq!(server.address(), address);
    waits.receive().assert(200, None);
    client.reconnect();
    client
        .send(fragment(1_000..2_000).of(2_000))
        .assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 2_000);
}

#[test]
fn the_service_manager_hears_that_it_is_the_same_service() {
    let _alone = alone();
    let (manager, folder) = (Manager::start(), tempfile::tempdir().unwrap());
    let root = folder.path().join("root");
    let server = manager.run(&root, Settings::default());
    wait_until("it is ready", || {
        manager.said().iter().any(|m| m.contains("READY=1"))
    });
    let before = manager.said().len();
    replace(&server);
    wait_until("it is ready again", || {
        manager.said()[before..]
            .iter()
            .any(|m| m.contains("READY=1"))
    });
    let said = manager.said()[before..].concat();
    assert!(said.contains("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert!(!said.contains("STOPPING=1"), "{said}");
    wait_until("the manager keeps both", || manager.kept() == 2);
}
