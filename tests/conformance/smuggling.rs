//! Where a request ends is never in doubt: what could be read in two ways is refused, and no byte
//! of a body is ever parsed as a request (RFC 9112 11.2).

use crate::support::client::{Client, SESSION_NOT_FOUND, fragment};
use crate::support::raw::Raw;
use crate::support::server::Server;
use crate::{ask, fragment_head, head, head_to, server_with};

/// Asserts 400 and the end of the connection; what stands behind the head is never answered.
#[track_caller]
fn assert_refused(server: &Server, request: &str) {
    let mut raw = server.connect();
    raw.send(request.to_owned() + &head("Ping", ""));
    assert_refused_and_closed(&mut raw, 400, request);
}

#[track_caller]
fn assert_refused_and_closed(raw: &mut Raw, status: u16, request: &str) {
    let answer = raw.receive();
    assert_eq!(answer.status, status, "{request:?}: {answer:?}");
    assert_eq!(answer.field("Connection"), Some("close"), "{request:?}");
    raw.assert_closed();
}

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let server = Server::start();
    for fields in [
        // Folded lines.
        "X: a\r\n b\r\n",
        "X: a\r\n\tContent-Length: 5\r\n",
        "X:\r\n \r\n",
        // Bare line ends.
        "X: a\nY: b\r\n",
        "X: a\rY: b\r\n",
        "X: a\r\r\n",
        // Names that are none.
        "X : a\r\n",
        "X\t: a\r\n",
        "Content-Length : 5\r\n",
        ": a\r\n",
        "X\0: a\r\n",
        "X(y): a\r\n",
        "no colon\r\n",
        // Values that are none.
        "X: a\0b\r\n",
        "X: \u{1}\r\n",
        // Lengths in two versions, or in none.
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "Content-Length: 0, 0\r\n",
        "Content-Length: 0,5\r\n",
        "Content-Length:\r\n",
        "Content-Length: +0\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x0\r\n",
        "Content-Length: 0 0\r\n",
        "Content-Length: 18446744073709551616\r\n",
        // Two Hosts.
        "Host: x\r\n",
        "host: up.example\r\n",
    ] {
        assert_refused(&server, &head("Ping", fields));
    }
    assert_refused(
        &server,
        &head("Ping", "").replace("Host: up.example\r\n", ""),
    );
    assert_refused(&server, &head("Ping", "").replace("\r\n", "\n"));
    for line in [
        "BITS_POST  /a HTTP/1.1",
        "BITS_POST /a  HTTP/1.1",
        "BITS_POST /a b HTTP/1.1",
        "BITS_POST\t/a HTTP/1.1",
        " BITS_POST /a HTTP/1.1",
        "BITS_POST /a HTTP/1.1 ",
        "BITS_POST HTTP/1.1",
        "/a",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_refused(
            &server,
            &format!("{line}\r\nHost: x\r\nBITS-Packet-Type: Ping\r\n\r\n"),
        );
    }
}

#[test]
fn the_same_length_twice_is_no_contradiction() {
    let server = Server::start();
    let twice = head("Ping", "Content-Length: 0\r\ncontent-length: 0\r\n");
    ask(&mut server.connect(), twice).assert(200, None);
}

#[test]
fn codings_other_than_chunked_are_refused() {
    let server = Server::start();
    for (coding, status) in [
        ("gzip", 501),
        ("gzip, chunked", 501),
        ("chunked, chunked", 501),
        ("identity", 501),
        ("xchunked", 501),
        ("chunked\r\nTransfer-Encoding: chunked", 501),
    ] {
        let mut raw = server.connect();
        let request = head("Ping", &format!("Transfer-Encoding: {coding}\r\n"));
        raw.send(request.clone() + &head("Ping", ""));
        assert_refused_and_closed(&mut raw, status, &request);
    }
    let in_http_10 = head("Ping", "Transfer-Encoding: chunked\r\n").replace("HTTP/1.1", "HTTP/1.0");
    assert_refused(&server, &in_http_10);
}

/// A Cancel-Session for the session, as a body.
fn cancel(session: &str) -> String {
    head(
        "Cancel-Session",
        &format!("BITS-Session-Id: {session}\r\nContent-Length: 0\r\n"),
    )
}

/// Asserts that the session was neither cancelled nor given a byte, on a new connection.
#[track_caller]
fn assert_untouched(client: &mut Client) {
    client.reconnect();
    let probe = client.send(fragment(99_999..100_000));
    assert_eq!((probe.status, probe.received()), (416, 0));
}

#[test]
fn a_stored_body_that_looks_like_a_request_is_a_body() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let body = cancel(&id).repeat(3);
    let len = body.len();
    let request = fragment_head(&id, &format!("bytes 0-{}/{len}", len - 1), len) + &body;
    assert_eq!(ask(&mut client.raw, request).received(), len as u64);
    // And once more, wholly known by now.
    let request = fragment_head(&id, &format!("bytes 0-{}/{len}", len - 1), len) + &body;
    assert_eq!(ask(&mut client.raw, request).received(), len as u64);
    client.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        body.as_bytes()
    );
}

#[test]
fn a_refused_body_that_looks_like_a_request_is_a_body() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let body = cancel(&id);
    let len = body.len();
    let unknown = "{3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";
    let gap = format!("bytes 10-{}/100000", len + 9);
    for (request, status) in [
        (fragment_head(&id, &gap, len), 416),
        (fragment_head(unknown, &gap, len), 500),
        (fragment_head(&id, "bytes 10-9/8", len), 400),
        (fragment_head(&id, "bytes 0-9/100000", len), 400),
        (head("Ping", &format!("Content-Length: {len}\r\n")), 400),
        (head("Nothing", &format!("Content-Length: {len}\r\n")), 400),
        (
            head("Cancel-Session", &format!("Content-Length: {len}\r\n")),
            400,
        ),
    ] {
        let mut raw = server.connect();
        raw.send(request.clone() + &body + &head("Ping", ""));
        assert_eq!(raw.receive().status, status, "{request}");
        raw.receive().assert(200, None);
        assert_untouched(&mut client);
    }
}

#[test]
fn a_body_that_is_not_read_ends_its_connection() {
    let server = server_with("[limits]\ndrain_bytes_max = 100");
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let body = cancel(&id);
    let len = body.len();
    let range = format!("bytes 10-{}/100000", len + 9);
    let session = format!("BITS-Session-Id: {id}\r\n");
    for (request, status) in [
        // Too much to read, for no place of ours.
        (
            head_to("/a:b", "Nothing", &format!("Content-Length: {len}\r\n")),
            400,
        ),
        // Not ours to read.
        (
            format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n"),
            405,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n"),
            404,
        ),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            404,
        ),
        // Without a known end.
        (head("Ping", "Transfer-Encoding: chunked\r\n"), 400),
        (
            head(
                "Fragment",
                &format!("{session}Content-Range: {range}\r\nTransfer-Encoding: chunked\r\n"),
            ),
            416,
        ),
        // Not asked for.
        (
            head(
                "Fragment",
                &format!(
                    "{session}Content-Range: {range}\r\nContent-Length: {len}\r\nExpect: 100-continue\r\n"
                ),
            ),
            416,
        ),
    ] {
        let mut raw = server.connect();
        raw.send(request.clone() + &body);
        assert_refused_and_closed(&mut raw, status, &request);
        assert_untouched(&mut client);
    }
}

#[test]
fn what_follows_a_malformed_chunk_is_not_a_request() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let fields = format!(
        "BITS-Session-Id: {id}\r\nContent-Range: bytes 0-9/100000\r\nTransfer-Encoding: chunked\r\n"
    );
    for start in ["zz\r\n", "0\r\n\r\n"] {
        let mut raw = server.connect();
        raw.send(head("Fragment", &fields) + start + &cancel(&id));
        assert_refused_and_closed(&mut raw, 400, start);
        assert_untouched(&mut client);
    }
}

#[test]
fn what_follows_a_chunked_body_is_the_next_request() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    let fields = format!(
        "BITS-Session-Id: {id}\r\nContent-Range: bytes 0-2/9\r\nTransfer-Encoding: chunked\r\n"
    );
    client
        .raw
        .send(head("Fragment", &fields) + "3\r\nabc\r\n0\r\n\r\n" + &cancel(&id));
    assert_eq!(client.raw.receive().received(), 3);
    client.raw.receive().assert(200, None);
    client.close().assert(500, Some(SESSION_NOT_FOUND));
}
