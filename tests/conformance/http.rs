//! HTTP/1.1 as far as it is spoken here: versions, methods, limits, persistence.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::client::{Client, fragment};
use crate::support::content::content;
use crate::support::raw::{Raw, Response};
use crate::support::server::{Server, Settings};
use crate::support::wait_until;
use crate::{ask, assert_usable, head, head_to};

/// The answer to something that is no request, or not for us; the connection ends with it.
#[track_caller]
fn assert_last(server: &Server, request: &str, status: u16) -> Response {
    let mut raw = server.connect();
    let answer = ask(&mut raw, request);
    assert_eq!(answer.status, status, "{request:?}: {answer:?}");
    assert!(answer.reason().len() > 5, "{request:?}: {answer:?}");
    assert_eq!(answer.field("Connection"), Some("close"), "{request:?}");
    raw.assert_closed();
    answer
}

#[test]
fn get_and_head_find_nothing() {
    let server = Server::start();
    std::fs::write(server.file("a.bin"), "not for download").unwrap();
    let mut raw = server.connect();
    for method in ["GET", "HEAD"] {
        for target in ["/", "/a.bin", "/.bitsd"] {
            raw.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let answer = match method {
                "GET" => raw.receive(),
                _ => raw.receive_head(),
            };
            assert_eq!(answer.status, 404, "{method} {target}");
            assert_eq!(answer.field("Content-Length"), Some("42"));
            if method == "GET" {
                assert_eq!(answer.reason(), "nothing can be downloaded under this name");
            }
        }
    }
    assert_usable(&mut raw);
}

#[test]
fn other_methods_are_told_which_one_is_allowed() {
    let server = Server::start();
    let mut raw = server.connect();
    for method in [
        "PUT",
        "POST",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CCM_POST",
        "bits_post",
        "BITS_POST2",
    ] {
        let request =
            format!("{method} /a.bin HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\n\r\n");
        let answer = ask(&mut raw, request);
        assert_eq!(
            (answer.status, answer.field("Allow")),
            (405, Some("BITS_POST")),
            "{method}"
        );
        let why = "uploads are taken by BITS_POST here, and by no other method";
        assert_eq!(answer.reason(), why);
    }
    assert_usable(&mut raw);
    let with_body = "PUT /a.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    assert_last(&server, with_body, 405);
    assert!(!server.file("a.bin").exists());
}

#[test]
fn a_post_that_says_bits_post_is_one() {
    let server = Server::start();
    let mut raw = server.connect();
    let fields = "Content-Length: 0\r\nx-http-method-override: BITS_POST\r\n";
    let ping = |method: &str, fields: &str| head("Ping", fields).replacen("BITS_POST", method, 1);
    ask(&mut raw, ping("POST", fields)).assert(200, None);
    for (method, fields) in [
        ("PUT", fields),
        ("POST", "X-HTTP-Method-Override: bits_post\r\n"),
        (
            "POST",
            "X-HTTP-Method-Override: BITS_POST\r\nX-HTTP-Method-Override: BITS_POST\r\n",
        ),
    ] {
        assert_eq!(
            ask(&mut raw, ping(method, fields)).status,
            405,
            "{method} {fields}"
        );
    }
}

#[test]
fn http_1_0_is_answered_in_1_1_and_closed_unless_it_asks_to_stay() {
    let server = Server::start();
    let ping = |fields: &str| head("Ping", fields).replace("HTTP/1.1", "HTTP/1.0");
    let mut raw = server.connect();
    let answer = ask(&mut raw, ping("Connection: close\r\n"));
    assert_eq!(answer.status_line, "HTTP/1.1 200 OK");
    assert_eq!(answer.field("Connection"), Some("close"));
    raw.assert_closed();
    let mut raw = server.connect();
    let bare = "BITS_POST /a.bin HTTP/1.0\r\nBITS-Packet-Type: Ping\r\n\r\n";
    ask(&mut raw, bare).assert(200, None);
    raw.assert_closed();
    let mut raw = server.connect();
    ask(&mut raw, ping("Connection: Keep-Alive\r\n")).assert(200, None);
    assert_usable(&mut raw);
}

#[test]
fn other_versions_are_refused() {
    let server = Server::start();
    for (version, status) in [
        ("HTTP/2.0", 505),
        ("HTTP/0.9", 505),
        ("HTTP/1.2", 505),
        ("http/1.1", 400),
        ("HTTP/1", 400),
        ("", 400),
    ] {
        assert_last(
            &server,
            &head("Ping", "").replace("HTTP/1.1", version),
            status,
        );
    }
    assert_last(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn connection_close_is_honoured_in_any_form() {
    let server = Server::start();
    for value in ["close", "Close", "keep-alive, close", "x ,  CLOSE"] {
        let mut raw = server.connect();
        let answer = ask(&mut raw, head("Ping", &format!("Connection: {value}\r\n")));
        assert_eq!(
            (answer.status, answer.field("Connection")),
            (200, Some("close")),
            "{value}"
        );
        raw.assert_closed();
    }
    let mut raw = server.connect();
    for value in ["Keep-Alive", "closed", "x-close"] {
        ask(&mut raw, head("Ping", &format!("Connection: {value}\r\n"))).assert(200, None);
    }
    assert_usable(&mut raw);
}

#[test]
fn nothing_behind_connection_close_is_answered() {
    let server = Server::start();
    let mut raw = server.connect();
    raw.send(head("Ping", "Connection: close\r\n") + &head("Ping", ""));
    raw.receive().assert(200, None);
    raw.assert_closed();
}

#[test]
fn a_head_too_large_is_431() {
    let server = Server::start();
    let mut raw = server.connect();
    let fields = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    // Host and BITS-Packet-Type make 64.
    ask(&mut raw, head("Ping", &fields(62))).assert(200, None);
    assert_last(&server, &head("Ping", &fields(63)), 431);
    // A ticket of Kerberos behind a proxy that authenticates.
    let ticket = format!("Authorization: Negotiate {}\r\n", "v".repeat(15_000));
    ask(&mut raw, head("Ping", &ticket)).assert(200, None);
    let long = |count: usize| format!("X: {}\r\n", "v".repeat(4000)).repeat(count);
    ask(&mut raw, head("Ping", &long(16))).assert(200, None);
    assert_last(&server, &head("Ping", &long(17)), 431);
    assert_last(
        &server,
        &format!("BITS_POST /{} HTTP/1.1\r\n", "a".repeat(70_000)),
        431,
    );
    assert_last(&server, &"x".repeat(65_536), 431);
}

/// A ticket of 48 KiB, as users in many groups have; in pieces, behind a proxy that sends ahead,
/// and for another shard.
#[test]
fn a_long_head_is_read_and_what_follows_it() {
    let server = Server::start();
    let ticket = format!("Authorization: Negotiate {}\r\n", "v".repeat(48 << 10));
    let long = |kind: &str, fields: &str| head(kind, &format!("{ticket}{fields}"));
    let mut raw = server.connect();
    for _ in 0..3 {
        ask(&mut raw, long("Ping", "")).assert(200, None);
    }
    let text = long("Ping", "");
    for piece in text.as_bytes().chunks(1_500) {
        raw.send(piece);
    }
    raw.receive().assert(200, None);
    raw.send(long("Ping", "") + &long("Ping", "") + &head("Ping", ""));
    for _ in 0..3 {
        raw.receive().assert(200, None);
    }
    // On connections of both shards, whichever has the session.
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..500).of(1_000)).received(), 500);
    let fields = format!(
        "BITS-Session-Id: {}\r\nContent-Range: bytes 500-999/1000\r\nContent-Length: 500\r\n",
        client.session()
    );
    let mut packet = long("Fragment", &fields).into_bytes();
    packet.extend(content(1, 500, 1_000));
    packet.extend(long("Ping", "").into_bytes());
    for _ in 0..20 {
        let mut raw = server.connect();
        raw.send(&packet);
        assert_eq!(raw.receive().received(), 1_000);
        raw.receive().assert(200, None);
    }
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 1_000);
    let answer = assert_last(&server, &head("Ping", &"X: y\r\n".repeat(63)), 431);
    assert_eq!(
        answer.reason(),
        "the request has more than 64 header fields (limits.headers_max)"
    );
    let ticket = format!("Authorization: {}\r\n", "v".repeat(64 << 10));
    let answer = assert_last(&server, &head("Ping", &ticket), 431);
    assert_eq!(
        answer.reason(),
        "the request head is longer than 65536 bytes (limits.head_bytes_max)"
    );
}

/// What cannot all be held at the same time is asked for again, and costs nothing once its clients
/// are gone.
#[test]
fn long_heads_are_bounded_in_number() {
    let server = Server::with(
        Settings::default()
            .flags(&["--cores", "1"])
            .file("limits.long_heads_per_shard_max = 20"),
    );
    let half = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "v".repeat(40 << 10));
    // Two of each are within its share.
    let mut open: Vec<_> = (0..30)
        .map(|number| {
            let source = Ipv4Addr::new(127, 0, 0, 2 + number / 2);
            let mut raw = Raw::connect_from(source.into(), server.address());
            raw.send(&half);
            raw
        })
        .collect();
    let is_refused = |raw: &Raw| raw.is_answered();
    wait_until("ten are refused", || {
        open.iter().filter(|raw| is_refused(raw)).count() == 30 - 20
    });
    for raw in &mut open {
        if is_refused(raw) {
            let answer = raw.receive();
            assert_eq!(answer.status, 503);
            assert!(answer.reason().contains("limits.long_heads_per_shard_max"));
            raw.assert_closed();
        } else {
            raw.send("\r\n\r\n");
            assert_eq!(raw.receive().status, 404);
        }
    }
    drop(open);
    let mut raw = server.connect();
    raw.send(half + "\r\n\r\n");
    assert_eq!(raw.receive().status, 404);
}

/// Whoever keeps long heads waiting does not keep others from theirs; a proxy has no share, for it
/// may be anybody.
#[test]
fn one_client_leaves_long_heads_to_others() {
    let [client, proxy, other] = [2, 3, 4].map(|last| IpAddr::from([127, 0, 0, last]));
    let limit = "limits.long_heads_per_shard_max = 16";
    let trusted = format!("trusted_proxies = \"{proxy}\"\n{limit}");
    let server = Server::with(Settings::default().flags(&["--cores", "1"]).file(&trusted));
    let half = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "v".repeat(40 << 10));
    let hold = |source, count| -> Vec<Raw> {
        let connect = |_| {
            let mut raw = Raw::connect_from(source, server.address());
            raw.send(&half);
            raw
        };
        (0..count).map(connect).collect()
    };
    let own = hold(client, 20);
    wait_until("all but its share are refused", || {
        own.iter().filter(|raw| raw.is_answered()).count() == 20 - 2
    });
    let of_many = hold(proxy, 4);
    let mut raw = Raw::connect_from(other, server.address());
    raw.send(format!("{half}\r\n\r\n"));
    assert_eq!(raw.receive().status, 404);
    for mut raw in of_many {
        raw.send("\r\n\r\n");
        assert_eq!(raw.receive().status, 404);
    }
}

#[test]
fn limits_of_heads_can_be_set() {
    let limits = "[limits]\nhead_bytes_max = 1024\nheaders_max = 8\nvalue_bytes_max = 256";
    let server = Server::with(Settings::default().file(limits));
    assert_last(&server, &head("Ping", &"X: y\r\n".repeat(7)), 431);
    assert_last(
        &server,
        &head("Ping", &format!("BITS-X: {}\r\n", "v".repeat(257))),
        400,
    );
    let mut raw = server.connect();
    let other = format!("X: {}\r\n", "v".repeat(257));
    ask(&mut raw, head("Ping", &other)).assert(200, None);
    let long = format!("X: {}\r\n", "v".repeat(250)).repeat(4);
    assert_last(&server, &head("Ping", &long), 431);
    assert_usable(&mut server.connect());
}

/// An Ack has no body, so that the reason is a field there.
#[test]
fn a_refusal_says_why() {
    let server = Server::start();
    let mut raw = server.connect();
    let answer = ask(&mut raw, head_to("/a:b.txt", "Ping", ""));
    assert_eq!(
        answer.assert(400, Some("0x80070057")).reason(),
        "bad request target: the path has one of : * ? \" < > |"
    );
    let answer = ask(&mut raw, head("Pong", ""));
    assert_eq!(answer.reason(), "unknown BITS-Packet-Type");
    let long = format!("BITS-Session-Id: {}\r\n", "v".repeat(4097));
    let answer = assert_last(&server, &head("Ping", &long), 400);
    let why = "the value of BITS-Session-Id is longer than 4096 bytes (limits.value_bytes_max)";
    assert_eq!(answer.reason(), why);
    let answer = assert_last(&server, "GET / HTTP/1.1\r\n\r\n", 400);
    assert_eq!(answer.reason(), "an HTTP/1.1 request has no Host");
    // Nothing of this machine.
    let answer = ask(
        &mut raw,
        head_to(
            "/no/such/folder",
            "Create-Session",
            &format!(
                "BITS-Supported-Protocols: {}\r\n",
                "{7df0354d-249b-430f-820d-3d2a9bef4931}"
            ),
        ),
    );
    assert!(!answer.reason().contains('/'), "{answer:?}");
}

#[test]
fn a_host_that_is_none_is_refused() {
    let server = Server::start();
    let with = |target: &str, host: &str| head_to(target, "Ping", "").replace("up.example", host);
    for host in [
        "a b",
        "a/b",
        "user@host",
        "host:port",
        "host:99999",
        ":80",
        "a,b",
        "[::1",
    ] {
        assert_last(&server, &with("/a.bin", host), 400);
        // RFC 9112 3.2 asks for a right one beside an absolute target, too.
        assert_last(&server, &with("http://up.example/a.bin", host), 400);
    }
    let mut raw = server.connect();
    for host in ["h:81", "[::1]:81", ""] {
        ask(&mut raw, with("/a.bin", host)).assert(200, None);
    }
    let answer = ask(&mut raw, with("http://user@host/a.bin", "up.example"));
    answer.assert(400, Some("0x80070057"));
    assert_usable(&mut raw);
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let server = Server::start();
    let mut raw = server.connect();
    ask(&mut raw, format!("\r\n{}", head("Ping", ""))).assert(200, None);
    ask(&mut raw, format!("\r\n\r\n\r\n{}", head("Ping", ""))).assert(200, None);
    // Old clients send one behind a body that they did not count.
    raw.send(head("Ping", "") + "\r\n" + &head("Ping", ""));
    raw.receive().assert(200, None);
    raw.receive().assert(200, None);
}

#[test]
fn packets_in_one_segment_are_answered_in_order() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let session = format!("BITS-Session-Id: {id}\r\n");
    let fragment = |start: u64, end: u64| {
        let fields = format!(
            "{session}Content-Range: bytes {start}-{}/1000\r\nContent-Length: {}\r\n",
            end - 1,
            end - start
        );
        let mut packet = head("Fragment", &fields).into_bytes();
        packet.extend(content(1, start, end));
        packet
    };
    let segment = [
        fragment(0, 300),
        head("Ping", "Content-Length: 0\r\n").into_bytes(),
        fragment(500, 1000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        fragment(100, 1000),
        head("Close-Session", &session).into_bytes(),
        head("Close-Session", &session).into_bytes(),
    ]
    .concat();
    client.raw.send(segment);
    let statuses: Vec<u16> = (0..7).map(|_| client.raw.receive().status).collect();
    assert_eq!(statuses, [200, 200, 416, 404, 200, 200, 200]);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 1000)
    );
}

#[test]
fn a_connection_may_speak_for_sessions_of_every_shard() {
    let server = Server::start();
    let mut sessions = Vec::new();
    // New connections until each of the two shards has made one.
    while sessions
        .iter()
        .map(|(_, shard)| *shard)
        .collect::<std::collections::BTreeSet<u8>>()
        .len()
        < 2
    {
        let client = Client::create(server.address(), &format!("/{}.bin", sessions.len()));
        let shard = client.shard(2);
        sessions.push((client, shard));
        assert!(sessions.len() < 200, "all connections go to one shard");
    }
    let mut segment = Vec::new();
    for (n, (client, _)) in sessions.iter().enumerate() {
        let fields = format!(
            "BITS-Session-Id: {}\r\nContent-Range: bytes 0-99/100\r\nContent-Length: 100\r\n",
            client.session()
        );
        segment.extend(head_to(&format!("/{n}.bin"), "Fragment", &fields).into_bytes());
        segment.extend(content(1, 0, 100));
    }
    let mut raw = server.connect();
    raw.send(segment);
    for _ in &sessions {
        assert_eq!(raw.receive().received(), 100);
    }
}

#[test]
fn bytes_that_come_one_by_one_are_one_request() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let fields = format!(
        "BITS-Session-Id: {}\r\nContent-Range: bytes 0-29/30\r\nContent-Length: 30\r\n",
        client.session()
    );
    let mut packet = head("Fragment", &fields).into_bytes();
    packet.extend(content(1, 0, 30));
    packet.extend(head("Ping", "").into_bytes());
    for byte in packet {
        client.raw.send([byte]);
    }
    assert_eq!(client.raw.receive().received(), 30);
    client.raw.receive().assert(200, None);
    client.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 30)
    );
}

#[test]
fn an_end_between_requests_or_within_a_head_is_no_request() {
    let server = Server::start();
    for sent in ["", "\r\n", "BITS_POST", &head("Ping", "")[..40]] {
        let mut raw = server.connect();
        raw.send(sent);
        raw.finish();
        raw.assert_closed();
    }
    let mut client = Client::create(server.address(), "/a.bin");
    let last = client.send(fragment(0..10));
    assert_eq!(last.received(), 10);
    // Half-closed behind a whole request: the answer still comes.
    client.raw.send(head("Ping", ""));
    client.raw.finish();
    client.raw.receive().assert(200, None);
    client.raw.assert_closed();
}
