//! The real binary on real sockets and a real disk: broken connections, restarts, two connections
//! at once.

mod support;

use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::wait_until;

#[test]
fn an_upload_ends_at_its_destination() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(
        client.send(fragment(0..100_000).of(250_000)).received(),
        100_000
    );
    assert_eq!(client.send(fragment(100_000..250_000)).received(), 250_000);
    assert!(
        !server.file("a.bin").exists(),
        "nothing appears before Close"
    );
    client.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 250_000)
    );
}

// -- the server dies

#[test]
fn kill_9_in_mid_fragment_keeps_the_prefix() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let ack = client.send(fragment(0..200_000).of(2_000_000));
    assert_eq!(ack.received(), 200_000);
    client.send_part(&fragment(200_000..1_500_000).of(2_000_000), 700_000);
    server.wait_for_part(client.session(), 900_000);
    server.kill9();
    assert_eq!(server.part_bytes(client.session()), 900_000);
    server.restart();
    assert_eq!(server.part_bytes(client.session()), 900_000);
    // From the last ack, which is an overlap of what the server has.
    client.reconnect_to(server.address());
    client.ping().assert(200, None);
    let ack = client.send(fragment(200_000..1_500_000).of(2_000_000));
    assert_eq!(ack.assert(200, None).received(), 1_500_000);
    client.send_rest(1_500_000, 2_000_000, 500_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 2_000_000);
}

#[test]
fn sessions_survive_other_numbers_of_cores() {
    const TOTAL: u64 = 90_000;
    let cores = |n| Settings::default().flags(&["--cores", n]);
    let mut server = Server::with(cores("1"));
    let mut clients: Vec<Client> = (0..12)
        .map(|n| Client::create(server.address(), &format!("/{n}")).seed(n))
        .collect();
    for (round, n) in ["2", "3", "1"].into_iter().enumerate() {
        let at = 20_000 * round as u64;
        for client in &mut clients {
            let ack = client.send(fragment(at..at + 20_000).of(TOTAL));
            assert_eq!(ack.received(), at + 20_000);
        }
        server.restart_with(cores(n));
        for client in &mut clients {
            client.reconnect_to(server.address());
        }
    }
    for client in &mut clients {
        client.send_rest(60_000, TOTAL, 30_000);
        client.close().assert(200, None);
        server.assert_file(&client.seed.to_string(), client.seed, TOTAL);
    }
    wait_until("no part is left", || server.work_files().is_empty());
}

#[test]
fn a_restart_between_any_two_packets_loses_nothing() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let mut restart = |client: &mut Client| {
        server.restart();
        client.reconnect_to(server.address());
    };
    restart(&mut client);
    assert_eq!(
        client.send(fragment(0..50_000).of(80_000)).received(),
        50_000
    );
    restart(&mut client);
    assert_eq!(client.send(fragment(50_000..80_000)).received(), 80_000);
    restart(&mut client);
    // The final Ack is given again.
    assert_eq!(client.send(fragment(50_000..80_000)).received(), 80_000);
    restart(&mut client);
    client.close().assert(200, None);
    restart(&mut client);
    client.close().assert(200, None);
    client.cancel().assert(500, Some(SESSION_NOT_FOUND));
    server.assert_file("a.bin", 1, 80_000);
}

#[test]
fn a_cancel_is_remembered_over_a_restart() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1000).of(3000)).assert(200, None);
    client.cancel().assert(200, None);
    server.restart();
    client.reconnect_to(server.address());
    client.cancel().assert(200, None);
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    let late = client.send(fragment(1000..3000));
    late.assert(500, Some(SESSION_NOT_FOUND));
    assert!(!server.file("a.bin").exists());
    assert!(!server.part(client.session()).exists());
}

#[test]
fn kill_9_at_any_moment_of_an_upload_ends_in_an_identical_file() {
    // Fragments of 64 KiB, a kill after each second one while the next is on its way: whatever the
    // server says after its restart is where the upload goes on.
    const TOTAL: u64 = 1_000_000;
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let mut offset = 0;
    while offset < TOTAL {
        for _ in 0..2 {
            let end = TOTAL.min(offset + 65_536);
            if offset < end {
                offset = client.send(fragment(offset..end).of(TOTAL)).received();
            }
        }
        if offset < TOTAL {
            let end = TOTAL.min(offset + 65_536);
            client.send_part(&fragment(offset..end).of(TOTAL), (end - offset) / 2);
            server.restart();
            client.reconnect_to(server.address());
        }
    }
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, TOTAL);
}

// -- the connection dies

#[test]
fn an_orderly_end_in_mid_fragment_keeps_the_prefix() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..900_000).of(1_000_000), 600_001);
    client.raw.finish();
    client.raw.assert_closed();
    server.wait_for_part(client.session(), 600_001);
    client.reconnect();
    let ack = client.send(fragment(0..900_000).of(1_000_000));
    assert_eq!(ack.assert(200, None).received(), 900_000);
    client.send_rest(900_000, 1_000_000, 100_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 1_000_000);
}

#[test]
fn a_reset_in_mid_fragment_keeps_what_was_read() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..900_000).of(1_000_000), 600_001);
    // A reset throws away what the server's kernel holds, so it is awaited on disk.
    server.wait_for_part(client.session(), 600_001);
    let broken = std::mem::replace(&mut client.raw, server.connect());
    broken.reset();
    let gap = client.send(fragment(700_000..700_010).of(1_000_000));
    assert_eq!(gap.status, 416);
    assert_eq!(gap.received(), 600_001);
    client.send_rest(600_001, 1_000_000, 399_999);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 1_000_000);
}

#[test]
fn a_reset_at_any_offset_leaves_a_prefix() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    const TOTAL: u64 = 1_500_000;
    for sent in [0, 1, 16_383, 16_384, 70_000, 524_288, 1_200_000] {
        client.try_send_part(&fragment(0..TOTAL), sent);
        let broken = std::mem::replace(&mut client.raw, server.connect());
        broken.reset();
        assert!(server.part_bytes(client.session()) <= 1_200_000);
    }
    // What was left of a connection before may be heard of after this one, and takes over.
    let mut ack = None;
    wait_until("all of it is taken", || {
        ack = client.reconnect().try_send(&fragment(0..TOTAL));
        ack.is_some()
    });
    assert_eq!(ack.unwrap().assert(200, None).received(), TOTAL);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, TOTAL);
}

// -- two connections of one session

#[test]
fn a_second_connection_takes_over_from_a_stalled_first() {
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin");
    first.send_part(&fragment(0..9_000_000).of(10_000_000), 3_000_000);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    let ack = second.send(fragment(0..5_000_000).of(10_000_000));
    assert_eq!(ack.assert(200, None).received(), 5_000_000);
    first.raw.assert_closed();
    second.send_rest(5_000_000, 10_000_000, 5_000_000);
    second.close().assert(200, None);
    server.assert_file("a.bin", 1, 10_000_000);
}

#[test]
fn each_newer_connection_takes_over_from_the_one_before() {
    const TOTAL: u64 = 1_000_000;
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin");
    first.send_part(&fragment(0..TOTAL), 100_000);
    server.wait_for_part(first.session(), 100_000);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    second.send_part(&fragment(0..TOTAL), 200_000);
    first.raw.assert_closed();
    server.wait_for_part(first.session(), 200_000);
    let mut third = Client::new(server.address(), "/a.bin");
    third.adopt(first.session());
    third.send_part(&fragment(100_000..TOTAL), 200_000);
    second.raw.assert_closed();
    server.wait_for_part(first.session(), 300_000);
    let mut last = Client::new(server.address(), "/a.bin");
    last.adopt(first.session());
    let ack = last.send(fragment(300_000..TOTAL));
    assert_eq!(ack.assert(200, None).received(), TOTAL);
    third.raw.assert_closed();
    last.close().assert(200, None);
    server.assert_file("a.bin", 1, TOTAL);
}

#[test]
fn close_and_cancel_take_over_too() {
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin");
    first.send_part(&fragment(0..500_000), 100_000);
    server.wait_for_part(first.session(), 100_000);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    second.cancel().assert(200, None);
    first.raw.assert_closed();
    assert!(!server.part(first.session()).exists());
}

#[test]
fn a_session_goes_on_from_whichever_shard_accepts_the_connection() {
    // The kernel spreads connections over the shards; 32 of them miss one of two shards with
    // probability 2^-31. Each brings the next fragment, and stays open.
    const STEP: u64 = 30_000;
    let server = Server::with(Settings::default().flags(&["--log-level", "debug"]));
    let mut owner = Client::create(server.address(), "/a.bin");
    let mut open = Vec::new();
    for n in 0..32 {
        let mut client = Client::new(server.address(), "/a.bin");
        client.adopt(owner.session());
        let ack = client.send(fragment(n * STEP..(n + 1) * STEP).of(32 * STEP));
        assert_eq!(ack.assert(200, None).received(), (n + 1) * STEP);
        // The connection stays with the owner of this session, and can turn to others.
        client.ping().assert(200, None);
        open.push(client);
    }
    owner.close().assert(200, None);
    server.assert_file("a.bin", 1, 32 * STEP);
    server.wait_for_log("connection moved to the session's shard");
    let moved = server.log().matches("connection moved").count();
    assert!((1..=33).contains(&moved), "{moved} moves");
    for client in &mut open {
        client.close().assert(200, None);
    }
}

#[test]
fn a_connection_may_turn_to_sessions_of_other_shards_again_and_again() {
    let server = Server::with(Settings::default().flags(&["--cores", "3"]));
    let mut clients: Vec<Client> = (0..16)
        .map(|n| Client::create(server.address(), &format!("/{n}")).seed(n))
        .collect();
    let shards: std::collections::BTreeSet<u8> =
        clients.iter().map(|client| client.shard(3)).collect();
    assert!(shards.len() > 1, "16 sessions on one of three shards");
    // One connection for all of them, in turns.
    let mut raw = server.connect();
    for round in 0..4 {
        for client in &mut clients {
            std::mem::swap(&mut raw, &mut client.raw);
            let ack = client.send(fragment(round * 5000..(round + 1) * 5000).of(20_000));
            assert_eq!(ack.assert(200, None).received(), (round + 1) * 5000);
            std::mem::swap(&mut raw, &mut client.raw);
        }
    }
    for client in &mut clients {
        client.close().assert(200, None);
        server.assert_file(&client.seed.to_string(), client.seed, 20_000);
    }
}

// -- two servers

#[test]
fn a_second_server_on_the_same_work_directory_is_refused() {
    let server = Server::start();
    let (status, said) = Server::refused(server.root(), &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another bitsd (process "), "{said}");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10)).assert(200, None);
}

#[test]
fn a_second_server_on_the_same_port_is_refused() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let listen = server.address().to_string();
    let settings = Settings::default().flags(&["--listen", &listen]);
    let (status, said) = Server::refused(&root, &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {listen}")),
        "{said}"
    );
}

#[test]
fn sessions_belong_to_their_url() {
    let server = Server::start();
    let client = Client::create(server.address(), "/a.bin");
    let mut other = Client::new(server.address(), "/b.bin");
    other.adopt(client.session());
    let refused = other.send(fragment(0..10));
    refused.assert(500, Some(SESSION_NOT_FOUND));
    other.cancel().assert(500, Some(SESSION_NOT_FOUND));
}

/// "An origin server with a clock [...] MUST generate a Date header field" (RFC 9110 6.6.1).
#[test]
fn every_answer_says_when_it_was_made() {
    let server = Server::with(Settings::default().file("download = \"get\""));
    std::fs::write(server.file("a.bin"), "abc").unwrap();
    let packet = |more: &str| format!("BITS_POST /b.bin HTTP/1.1\r\nHost: h\r\n{more}\r\n");
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n");
    for (request, status) in [
        (
            packet("BITS-Packet-Type: Ping\r\nContent-Length: 0\r\n"),
            200,
        ),
        (
            packet("BITS-Packet-Type: Pong\r\nContent-Length: 0\r\n"),
            400,
        ),
        ("no request\r\n\r\n".to_owned(), 400),
        (get("/a.bin", ""), 200),
        (get("/a.bin", "Range: bytes=0-0\r\n"), 206),
        (get("/a.bin", "If-None-Match: *\r\n"), 304),
        (get("/a.bin", "Range: bytes=9-\r\n"), 416),
        (get("/b.bin", ""), 404),
        (
            "PUT /a.bin HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_owned(),
            405,
        ),
    ] {
        let before = now_s();
        let answer = Raw::connect(server.address()).send(&request).receive();
        assert_eq!(answer.status, status, "{request}");
        let dates = answer.fields.iter().filter(|(name, _)| name == "Date");
        let dates: Vec<_> = dates.map(|(_, date)| date).collect();
        assert_eq!(dates.len(), 1, "{request} {answer:?}");
        let said = bitsd::http::date::parse(dates[0].as_bytes()).unwrap();
        assert!((before..=now_s()).contains(&said), "{request} {dates:?}");
        // A repeated answer may come in the next second: tests that compare two see no other.
        let mut later = answer.clone();
        let date = later.fields.iter_mut().find(|(name, _)| name == "Date");
        date.unwrap().1 = bitsd::http::date::format(u64::try_from(said).unwrap() + 1);
        assert_eq!(later, answer);
        later.fields.retain(|(name, _)| name != "Date");
        assert_ne!(later, answer);
    }
}

/// Seconds since 1970.
fn now_s() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    now.as_secs().try_into().unwrap()
}
