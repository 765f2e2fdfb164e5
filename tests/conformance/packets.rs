//! Packet types, protocols, and the fields that a packet must have.

use crate::support::client::{Client, E_INVALIDARG, PROTOCOL, SESSION_NOT_FOUND, fragment};
use crate::support::server::Server;
use crate::{ask, assert_usable, fragment_head, head, parts, server_with};

const BODILESS: [&str; 4] = ["Ping", "Create-Session", "Close-Session", "Cancel-Session"];

#[test]
fn packet_types_are_read_in_any_case() {
    let server = Server::start();
    for spell in [
        str::to_uppercase as fn(&str) -> String,
        |kind: &str| kind.to_lowercase(),
        |kind: &str| {
            let swap = |(at, c): (usize, char)| match at % 2 {
                0 => c.to_ascii_lowercase(),
                _ => c.to_ascii_uppercase(),
            };
            kind.chars().enumerate().map(swap).collect()
        },
    ] {
        let mut raw = server.connect();
        ask(&mut raw, head(&spell("Ping"), "Content-Length: 0\r\n")).assert(200, None);
        for last in ["Close-Session", "Cancel-Session"] {
            let fields = format!("BITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 0\r\n");
            let created = ask(&mut raw, head(&spell("Create-Session"), &fields));
            created.assert(200, None);
            let session = created.field("BITS-Session-Id").unwrap();
            let fields = format!(
                "BITS-Session-Id: {session}\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n"
            );
            let stored = ask(&mut raw, head(&spell("Fragment"), &fields) + "abc");
            assert_eq!(stored.received(), 3);
            let fields = format!("BITS-Session-Id: {session}\r\nContent-Length: 0\r\n");
            ask(&mut raw, head(&spell(last), &fields)).assert(200, None);
        }
    }
}

#[test]
fn a_packet_type_that_does_not_exist_is_refused() {
    let server = Server::start();
    let mut raw = server.connect();
    for kind in [
        "",
        "Ack",
        "Create",
        "Create-Session2",
        "Create Session",
        "Fragments",
        "Ping,Ping",
    ] {
        ask(&mut raw, head(kind, "Content-Length: 0\r\n")).assert(400, Some(E_INVALIDARG));
    }
    let none = "BITS_POST /a.bin HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    ask(&mut raw, none).assert(400, Some(E_INVALIDARG));
    let misnamed = "BITS_POST /a.bin HTTP/1.1\r\nHost: x\r\nBITS-Package-Type: Ping\r\n\r\n";
    ask(&mut raw, misnamed).assert(400, Some(E_INVALIDARG));
    assert_usable(&mut raw);
}

#[test]
fn a_session_id_is_written_with_braces_in_upper_case_and_read_in_any_form() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let written = client.session().to_owned();
    assert_eq!(written.len(), 38);
    assert_eq!(written, written.to_uppercase());
    assert!(written.starts_with('{') && written.ends_with('}'));
    let plain = written[1..37].to_owned();
    let forms = [
        written.to_lowercase(),
        plain.clone(),
        plain.to_lowercase(),
        written.clone(),
    ];
    for (n, form) in (0u64..).zip(&forms) {
        client.adopt(form);
        let answer = client.send(fragment(n * 10..n * 10 + 10).of(40));
        assert_eq!(answer.received(), n * 10 + 10);
        assert_eq!(
            answer.field("BITS-Session-Id"),
            Some(&*written),
            "echoed as it was given"
        );
    }
    client
        .adopt(&plain.to_lowercase())
        .close()
        .assert(200, None);
}

#[test]
fn a_session_id_that_cannot_be_ours_is_not_found() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let ours = client.session().to_owned();
    for id in [
        "1",
        "{}",
        &ours[..37],
        &ours[1..],
        &format!("{{{ours}}}"),
        &"x".repeat(100),
    ] {
        client.adopt(id);
        client.close().assert(500, Some(SESSION_NOT_FOUND));
        client.cancel().assert(500, Some(SESSION_NOT_FOUND));
        client
            .send(fragment(0..10))
            .assert(500, Some(SESSION_NOT_FOUND));
    }
    client.adopt(&ours);
    assert_eq!(client.send(fragment(0..10)).received(), 10);
}

#[test]
fn the_protocol_is_found_in_lists_of_any_form() {
    let server = Server::start();
    let mut client = Client::new(server.address(), "/a.bin");
    let other = "{11111111-2222-3333-4444-555555555555}";
    for list in [
        PROTOCOL.to_owned(),
        PROTOCOL.to_uppercase(),
        PROTOCOL[1..37].to_owned(),
        format!("{other} {PROTOCOL}"),
        format!("{PROTOCOL} {other}"),
        format!("{other},{PROTOCOL}"),
        format!("{other}, \t{PROTOCOL},,"),
        format!(" , {PROTOCOL} , "),
    ] {
        let answer = client.packet(
            "Create-Session",
            &format!("BITS-Supported-Protocols: {list}\r\n"),
        );
        answer.assert(200, None);
        assert_eq!(answer.field("BITS-Protocol"), Some(PROTOCOL), "{list:?}");
    }
    for list in [
        "",
        ",",
        other,
        &PROTOCOL[..37],
        &format!("x{PROTOCOL}"),
        &format!("{PROTOCOL};"),
    ] {
        client
            .packet(
                "Create-Session",
                &format!("BITS-Supported-Protocols: {list}\r\n"),
            )
            .assert(400, Some(E_INVALIDARG));
    }
}

#[test]
fn the_hundredth_protocol_counts_and_the_next_does_not() {
    let server = Server::start();
    let mut client = Client::new(server.address(), "/a.bin");
    for (before, status) in [(99, 200), (100, 400), (500, 400)] {
        let list = format!("{}{PROTOCOL}", "{1},".repeat(before));
        let answer = client.packet(
            "Create-Session",
            &format!("BITS-Supported-Protocols: {list}\r\n"),
        );
        assert_eq!(answer.status, status, "{before} others stand before it");
    }
}

#[test]
fn a_missing_field_is_refused() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for kind in ["Create-Session", "Close-Session", "Cancel-Session"] {
        client.packet(kind, "").assert(400, Some(E_INVALIDARG));
    }
    let session = client.session().to_owned();
    let no_id = head(
        "Fragment",
        "Content-Range: bytes 0-2/9\r\nContent-Length: 3\r\n",
    ) + "abc";
    let no_range = format!("BITS-Session-Id: {session}\r\nContent-Length: 3\r\n");
    let no_range = head("Fragment", &no_range) + "abc";
    for request in [no_id, no_range] {
        ask(&mut client.raw, request).assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(
        client.send(fragment(0..10)).received(),
        10,
        "nothing was stored before"
    );
}

#[test]
fn a_field_that_may_stand_once_is_refused_when_repeated() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = format!("BITS-Session-Id: {}\r\n", client.session());
    let range = "Content-Range: bytes 0-2/9\r\n";
    let protocols = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
    let length = "Content-Length: 3\r\n";
    for request in [
        head("Ping", "bits-packet-type: Ping\r\n"),
        head("Create-Session", &format!("{protocols}{protocols}")),
        head("Close-Session", &format!("{id}{id}")),
        head("Cancel-Session", &format!("{id}{id}")),
        head("Fragment", &format!("{id}{id}{range}{length}")) + "abc",
        head("Fragment", &format!("{id}{range}{range}{length}")) + "abc",
        head(
            "Fragment",
            &format!("{id}{range}content-range: bytes 3-5/9\r\n{length}"),
        ) + "abc",
    ] {
        ask(&mut client.raw, request).assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(client.send(fragment(0..10)).received(), 10);
}

#[test]
fn a_value_of_4_kib_is_taken_and_a_longer_one_refused() {
    let server = Server::start();
    let mut raw = server.connect();
    let name = |len| format!("Content-Name: {}\r\n", "n".repeat(len));
    ask(&mut raw, head("Ping", &name(4096))).assert(200, None);
    ask(&mut raw, head("Ping", &name(4097))).assert(400, Some(E_INVALIDARG));
    raw.assert_closed();
}

#[test]
fn unknown_fields_and_content_name_are_ignored() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let fields = "Content-Name: ..\\..\\evil.bin\r\nContent-Name: twice\r\nX-Anything: \u{e4}\r\nBITS-Host-Id: x\r\n";
    let answer = client.send(fragment(0..10).with(fields));
    assert_eq!(answer.received(), 10);
    client.close().assert(200, None);
    assert!(server.file("a.bin").exists());
}

#[test]
fn a_ping_needs_no_session_and_none_matters() {
    let server = Server::start();
    let mut client = Client::new(server.address(), "/a.bin");
    client.ping().assert(200, None);
    for id in ["", "{3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}", "rubbish"] {
        let answer = client.packet("Ping", &format!("BITS-Session-Id: {id}\r\n"));
        answer.assert(200, None);
        assert_eq!(answer.field("BITS-Session-Id"), None);
    }
    client.try_create().assert(200, None);
    client.ping().assert(200, None);
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    client.ping().assert(200, None);
    assert_eq!(client.send(fragment(5..10)).received(), 10);
    client.close().assert(200, None);
    client.ping().assert(200, None);
}

#[test]
fn a_body_on_a_packet_that_has_none_is_refused_and_read_to_its_end() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    for kind in BODILESS {
        let fields = format!(
            "BITS-Session-Id: {id}\r\nBITS-Supported-Protocols: {PROTOCOL}\r\nContent-Length: 5\r\n"
        );
        ask(&mut client.raw, head(kind, &fields) + "hello").assert(400, Some(E_INVALIDARG));
        assert_usable(&mut client.raw);
    }
    for kind in BODILESS {
        let fields = format!(
            "BITS-Session-Id: {id}\r\nBITS-Supported-Protocols: {PROTOCOL}\r\nTransfer-Encoding: chunked\r\n"
        );
        let mut raw = server.connect();
        ask(&mut raw, head(kind, &fields) + "0\r\n\r\n").assert(400, Some(E_INVALIDARG));
        raw.assert_closed();
    }
    assert_eq!(
        client.send(fragment(0..10)).received(),
        10,
        "neither closed nor cancelled"
    );
    assert_eq!(parts(&server).len(), 1, "no session was made");
}

#[test]
fn a_missing_length_counts_as_none_on_packets_without_a_body() {
    let server = Server::start();
    for last in ["Close-Session", "Cancel-Session"] {
        let mut raw = server.connect();
        ask(&mut raw, head("Ping", "")).assert(200, None);
        let fields = format!("BITS-Supported-Protocols: {PROTOCOL}\r\n");
        let created = ask(&mut raw, head("Create-Session", &fields));
        created.assert(200, None);
        let id = created.field("BITS-Session-Id").unwrap();
        let fields = format!("BITS-Session-Id: {id}\r\n");
        ask(&mut raw, head(last, &fields)).assert(200, None);
    }
}

#[test]
fn a_fragment_without_a_length_is_refused() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let fields = format!(
        "BITS-Session-Id: {}\r\nContent-Range: bytes 0-9/10\r\n",
        client.session()
    );
    ask(&mut client.raw, head("Fragment", &fields)).assert(400, Some(E_INVALIDARG));
    assert_eq!(client.send(fragment(0..10)).received(), 10);
}

#[test]
fn strict_refuses_every_packet_without_a_length_by_411() {
    let server = server_with("strict = true");
    let mut client = Client::create(server.address(), "/a.bin");
    let fields = format!(
        "BITS-Session-Id: {}\r\nBITS-Supported-Protocols: {PROTOCOL}\r\nContent-Range: bytes 0-9/10\r\n",
        client.session()
    );
    for kind in BODILESS.into_iter().chain(["Fragment"]) {
        ask(&mut client.raw, head(kind, &fields)).assert(411, Some(E_INVALIDARG));
    }
    assert_eq!(client.send(fragment(0..10)).received(), 10);
    client.close().assert(200, None);
}

#[test]
fn a_content_encoding_other_than_identity_is_refused() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let gzip = fragment(0..10).with("Content-Encoding: gzip\r\n");
    client.send(gzip).assert(400, Some(E_INVALIDARG));
    let identity = fragment(0..10).with("Content-Encoding: Identity\r\n");
    assert_eq!(client.send(identity).received(), 10);
}

#[test]
fn a_refusal_names_no_reply_and_no_host() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let request = fragment_head(client.session(), "bytes 1-2/3", 2) + "bc";
    let gap = ask(&mut client.raw, request);
    for name in [
        "BITS-Reply-URL",
        "BITS-Host-Id",
        "BITS-Host-Id-Fallback-Timeout",
        "BITS-Protocol",
    ] {
        assert_eq!(gap.field(name), None);
    }
}
