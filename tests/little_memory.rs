//! A server whose memory is limited, and clients that try to use it up, by all that the settings
//! allow them. A limit of addresses stands for all limits: it needs no rights, and nobody is killed
//! by it without a word.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::program::memory;
use support::raw::Raw;
use support::server::{Server, Settings};

/// KiB of addresses.
const LIMIT: u64 = 260_000;
/// Packets that are sent before their answers are read.
const BATCH: usize = 100;

fn with_limit(kib: u64) -> Settings {
    let limit = format!("ulimit -v {kib}; exec \"$@\"");
    Settings::default()
        .flags(&["--cores", "1"])
        .wrapper(&["sh", "-c", &limit, "sh"])
}

/// One of the addresses of this machine.
fn source(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, 2 + number])
}

/// What the start says a bound was lowered to.
fn lowered(server: &Server, key: &str) -> u64 {
    server.wait_for_log("event=bounds_lowered");
    let log = server.log();
    let of_key = log.split(&format!("{key} from ")).nth(1);
    let number = of_key.and_then(|rest| rest.split(' ').nth(2));
    let number = number.unwrap_or_else(|| panic!("{key}: {log}"));
    let digits = number.trim_end_matches(|char: char| !char.is_ascii_digit());
    digits.parse().unwrap()
}

/// Makes sessions with long paths from one address, until the server says that there is no room, or
/// that the client has enough. How many were made, and the last answer.
fn make_sessions(server: SocketAddr, from: u8) -> (usize, u16) {
    let mut raw = Raw::connect_from(source(from), server);
    let mut made = 0;
    loop {
        let mut batch = String::new();
        for number in 0..BATCH {
            let name = format!("{from:0>3}{:0>197}", made + number);
            batch.push_str(&format!(
                "BITS_POST /{name} HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Create-Session\r\n\
                 BITS-Supported-Protocols: {{7df0354d-249b-430f-820d-3d2a9bef4931}}\r\n\
                 Content-Length: 0\r\n\r\n"
            ));
        }
        raw.send(batch);
        for _ in 0..BATCH {
            let status = raw.receive().status;
            if status != 200 {
                return (made, status);
            }
            made += 1;
        }
    }
}

#[test]
fn sessions_of_many_clients_neither_end_the_server_nor_keep_it_from_starting() {
    let mut server = Server::with(with_limit(LIMIT));
    let count_max = lowered(&server, "sessions_per_shard_max");
    let mut before = Client::create(server.address(), "/before.bin");
    before.send(fragment(0..1_000).of(2_000)).assert(200, None);

    let mut all = 0;
    let last = (0..60).find_map(|from| {
        let (made, status) = make_sessions(server.address(), from);
        all += made;
        // One that has enough itself leaves room for others.
        (made < 10_000).then_some(status)
    });
    assert_eq!(last, Some(503), "{all} sessions");
    server.wait_for_log("the line bounds_lowered tells");
    assert!(
        all as u64 > count_max / 3 && (all as u64) < count_max,
        "{all} of {count_max}"
    );
    Client::new(server.address(), "/a").ping().assert(200, None);

    // All of them are read back, and the first one goes on.
    server.restart();
    before.reconnect_to(server.address());
    before
        .send(fragment(1_000..1_500).of(2_000))
        .assert(200, None);
    let (more, status) = make_sessions(server.address(), 100);
    assert!(more < 200 && status == 503, "they are there still: {more}");

    // What lists them where no server runs has the same memory.
    server.stop();
    let limit = format!("ulimit -v {LIMIT}; exec \"$@\"");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bitsd.toml");
    let root = server.root().display();
    std::fs::write(&file, format!("root = \"{root}\"\nadmin_socket = \"\"\n")).unwrap();
    let listed = Command::new("sh")
        .args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_bitsd")])
        .args(["sessions", "list", "--json", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(listed.status.success(), "{said}");
    let lines = listed.stdout.split(|byte| *byte == b'\n').count();
    assert!(lines > all, "{lines} of {all}: {said}");

    // With less memory than they take, those go of which no byte has come.
    let left = count_max * 1_680 / 6 * 16 / 1_024;
    server.restart_with(with_limit(LIMIT - left * 3 / 4));
    server.wait_for_log("event=uploads_let_go");
    before.reconnect_to(server.address());
    before
        .send(fragment(1_500..2_000).of(2_000))
        .assert(200, None);
    before.close().assert(200, None);
    server.assert_file("before.bin", 1, 2_000);
    // All that is left is read back by the next one.
    server.restart();
    Client::new(server.address(), "/a").ping().assert(200, None);
}

/// So many that a list of all their names is felt, if each core has one of its own.
const SESSIONS: u64 = 50_000;

/// Goal: what a start needs to read sessions back is counted for the sessions, however many cores
/// read them. Method: the same sessions are read back by one core and by many, beside a start that
/// has none to read.
#[test]
fn what_a_start_reads_back_takes_no_more_for_each_core() {
    let folder = tempfile::tempdir().unwrap();
    let taken = |root: &std::path::Path, cores: &str| {
        let small = "[limits]\nblock_bytes = \"64KiB\"";
        let settings = Settings::default().flags(&["--cores", cores]).file(small);
        let server = Server::on(root, settings);
        Client::new(server.address(), "/a").ping().assert(200, None);
        memory(server.pid(), "VmHWM") / 1024
    };
    let roots = [0, SESSIONS].map(|sessions| {
        let root = folder.path().join(sessions.to_string());
        let work = root.join(".bitsd");
        std::fs::create_dir_all(&work).unwrap();
        support::host::allow(&work, 0o700);
        support::journal::leave(&work, sessions, |number| {
            let path = format!("folder/{number}.bin");
            support::journal::begun(&work, number, &path, "0123456789", 20)
        });
        root
    });
    let grown = ["1", "16"].map(|cores| {
        let [none, all] = [0, 1].map(|root: usize| taken(&roots[root], cores));
        all - none
    });
    println!("KiB of one core and of 16: {grown:?}");
    assert!(grown[1] < grown[0] * 5 / 4, "{grown:?}");
}

/// Ended uploads leave records in the journals, and a start must not count them as such that run.
#[test]
fn uploads_that_came_to_their_end_keep_no_server_from_starting() {
    let server = Server::with(with_limit(LIMIT));
    let left = lowered(&server, "sessions_per_shard_max") * 1_680 / 6 * 16 / 1_024;
    drop(server);
    // Some MiB: as uploads that run, fewer would weigh more than all of that.
    let settings = with_limit(LIMIT - left + 8_192).flags(&["--durability", "none"]);
    let mut server = Server::with(settings);
    let mut before = Client::create(server.address(), "/before.bin");
    before.send(fragment(0..1_000).of(2_000)).assert(200, None);
    let mut client = Client::new(server.address(), "/a");
    for number in 0..4_000 {
        client = Client::create(server.address(), &format!("/{number}.bin"));
        client.send(fragment(0..10)).assert(200, None);
        client.close().assert(200, None);
    }
    // The last one may be closed again, and the one that runs goes on.
    server.restart();
    before.reconnect_to(server.address());
    before
        .send(fragment(1_000..2_000).of(2_000))
        .assert(200, None);
    before.close().assert(200, None);
    client.reconnect_to(server.address());
    client.close().assert(200, None);
    assert!(!server.log().contains("uploads_let_go"), "{}", server.log());
}

#[test]
fn unfinished_heads_of_many_connections_do_not_end_the_server() {
    let server = Server::with(with_limit(LIMIT));
    let connections_max = lowered(&server, "connections_per_shard_max");
    if !support::host::allow_files(connections_max + 300) {
        return support::skip("so many files cannot be open here (raise RLIMIT_NOFILE)");
    }
    let head = format!("GET /x HTTP/1.1\r\nX-Long: {}", "x".repeat(14_000));
    let mut held = Vec::new();
    for number in 0..connections_max + 100 {
        // Of two clients, as one may not have them all.
        let mut raw = Raw::connect_from(source((number % 2) as u8), server.address());
        let _is_cut_if_there_is_no_place = raw.try_send(&head);
        held.push(raw);
    }
    drop(held);
    Client::new(server.address(), "/a").ping().assert(200, None);
    let mut gone = Client::new(server.address(), "/a");
    gone.adopt("{11111111-1111-1111-1111-111111111111}");
    gone.close().assert(500, Some(SESSION_NOT_FOUND));
}
