//! Fragments: their ranges, lengths, places, bodies, and files without any bytes.

use crate::support::client::{BG_E_TOO_LARGE, Client, E_INVALIDARG, fragment};
use crate::support::content::content;
use crate::support::raw::Raw;
use crate::support::server::Server;
use crate::{ask, assert_usable, fragment_head, head, parts, server_with};

const MIB: u64 = 1 << 20;

/// The bytes as a chunked body of chunks of this size.
fn chunked(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in bytes.chunks(size) {
        body.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
    body
}

fn chunked_head(session: &str, range: &str) -> String {
    head(
        "Fragment",
        &format!(
            "BITS-Session-Id: {session}\r\nContent-Range: {range}\r\nTransfer-Encoding: chunked\r\n"
        ),
    )
}

/// Closes and compares the file with what was sent.
#[track_caller]
fn assert_published(server: &Server, client: &mut Client, len: u64) {
    client.close().assert(200, None);
    let found = std::fs::read(server.file("a.bin")).unwrap();
    assert!(
        found == content(1, 0, len),
        "{} bytes of another content",
        found.len()
    );
}

/// The watermark, learned from a gap that names the last byte of a file of so many bytes.
#[track_caller]
fn watermark(client: &mut Client, total: u64) -> u64 {
    let probe = client.send(fragment(total - 1..total));
    probe.assert(416, None);
    probe.received()
}

#[test]
fn a_chunked_fragment_is_stored_like_any_other() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let total = 300_000;
    for (start, end, size) in [
        (0, 1, 1),
        (1, 100, 7),
        (50, 70_000, 1000),
        (70_000, total, 65_536),
    ] {
        let range = format!("bytes {start}-{}/{total}", end - 1);
        let head = chunked_head(client.session(), &range);
        client.raw.send(head);
        let body = chunked(&content(1, start, end), size);
        assert_eq!(ask(&mut client.raw, body).received(), end);
    }
    assert_published(&server, &mut client, total);
}

#[test]
fn a_chunked_body_of_another_length_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for sent in [0, 1, 9, 11, 5000] {
        let head = chunked_head(client.session(), "bytes 0-9/20");
        client.raw.send(head);
        let answer = ask(&mut client.raw, chunked(&content(1, 0, sent), 4));
        answer.assert(400, Some(E_INVALIDARG));
        client.raw.assert_closed();
        client.reconnect();
    }
    assert_eq!(client.send(fragment(0..10).of(20)).received(), 10);
    assert_eq!(client.send(fragment(10..20)).received(), 20);
    assert_published(&server, &mut client, 20);
}

#[test]
fn a_malformed_chunked_body_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for body in [
        "g\r\n",
        "\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        " 5\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "3\r\nabcde\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "10000000000000000\r\n",
        "0\r\n\n",
    ] {
        let head = chunked_head(client.session(), "bytes 0-19/20");
        let answer = ask(&mut client.raw, head + body);
        answer.assert(400, Some(E_INVALIDARG));
        client.raw.assert_closed();
        client.reconnect();
    }
}

#[test]
fn strict_refuses_chunked_fragments() {
    let server = server_with("strict = true");
    let mut client = Client::create(server.address(), "/a.bin");
    let head = chunked_head(client.session(), "bytes 0-2/3");
    ask(&mut client.raw, head + "3\r\nabc\r\n0\r\n\r\n").assert(400, Some(E_INVALIDARG));
    client.raw.assert_closed();
    assert_eq!(client.reconnect().send(fragment(0..3)).received(), 3);
}

#[test]
fn a_content_range_is_read_in_every_form_that_clients_write() {
    let server = Server::start();
    for range in [
        "bytes 0-9/20",
        "Bytes 0-9/20",
        "BYTES 0-9/20",
        "bytes  \t0-9/20",
        "bytes 000-0009/00020",
    ] {
        let mut client = Client::create(server.address(), "/a.bin");
        let request = fragment_head(client.session(), range, 10) + "0123456789";
        assert_eq!(ask(&mut client.raw, request).received(), 10, "{range}");
    }
}

#[test]
fn a_content_range_that_is_none_is_refused_and_its_body_read_to_its_end() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for range in [
        "",
        "bytes",
        "bytes ",
        "0-9/20",
        "bytes=0-9/20",
        "bytes0-9/20",
        "octets 0-9/20",
        "bytes 0-9",
        "bytes 0-9/",
        "bytes 0-/20",
        "bytes -9/20",
        "bytes 9/20",
        "bytes 0-9/*",
        "bytes */20",
        "bytes *-9/20",
        "bytes +0-9/20",
        "bytes 0-+9/20",
        "bytes 0-9/+20",
        "bytes -0-9/20",
        "bytes 0--9/20",
        "bytes 0 -9/20",
        "bytes 0- 9/20",
        "bytes 0-9 /20",
        "bytes 0-9/ 20",
        "bytes 0-9/20,10-19/20",
        "bytes 0-9/20;",
        "bytes 0x0-0x9/20",
        "bytes 0-9/20.0",
        "bytes 9-0/20",
        "bytes 0-9/9",
        "bytes 0-9/0",
        "bytes 11-20/20",
        "bytes 20-29/20",
        "bytes 0-9/18446744073709551616",
        "bytes 18446744073709551616-18446744073709551625/18446744073709551626",
        "bytes 18446744073709551606-18446744073709551615/18446744073709551615",
        "bytes 0-99999999999999999999999999999999/20",
    ] {
        let request = fragment_head(client.session(), range, 10) + "0123456789";
        let answer = ask(&mut client.raw, request);
        assert_eq!(answer.status, 400, "{range}: {answer:?}");
        answer.assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(
        client.send(fragment(0..10).of(20)).received(),
        10,
        "nothing was stored before"
    );
}

#[test]
fn a_length_that_differs_from_its_range_is_refused() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for (range, length) in [
        ("bytes 0-9/20", 9),
        ("bytes 0-9/20", 11),
        ("bytes 0-9/20", 0),
        ("bytes 0-0/20", 2),
        ("bytes 0-19/20", 10),
        ("bytes 0-0/0", 1),
        ("bytes */0", 1),
    ] {
        let request = fragment_head(client.session(), range, length) + &"x".repeat(length);
        ask(&mut client.raw, request).assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(watermark(&mut client, 20), 0);
}

#[test]
fn the_total_of_the_first_fragment_stands() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..10).of(30)).received(), 10);
    for total in [20, 29, 31, u64::MAX] {
        client
            .send(fragment(10..20).of(total))
            .assert(400, Some(E_INVALIDARG));
        client
            .send(fragment(0..10).of(total))
            .assert(400, Some(E_INVALIDARG));
        client
            .send(fragment(12..20).of(total))
            .assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(client.send(fragment(10..30)).received(), 30);
    client
        .send(fragment(0..30).of(31))
        .assert(400, Some(E_INVALIDARG));
    assert_published(&server, &mut client, 30);
}

#[test]
fn every_fragment_is_placed_by_the_watermark() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let total = 100;
    assert_eq!(client.send(fragment(0..10).of(total)).received(), 10);
    for (range, status, received) in [
        (11..20, 416, 10),
        (99..100, 416, 10),
        (0..10, 200, 10),
        (0..5, 200, 10),
        (9..10, 200, 10),
        (9..11, 200, 11),
        (0..20, 200, 20),
        (20..40, 200, 40),
        (41..100, 416, 40),
        (39..99, 200, 99),
        (99..100, 200, 100),
        // The last one again, and others, when all is there.
        (99..100, 200, 100),
        (0..100, 200, 100),
        (0..1, 200, 100),
        (50..100, 200, 100),
    ] {
        let answer = client.send(fragment(range.clone()).of(total));
        assert_eq!(
            (answer.status, answer.received()),
            (status, received),
            "{range:?}"
        );
        answer.assert(status, None);
        assert_eq!(answer.field("BITS-Session-Id"), Some(client.session()));
    }
    assert_published(&server, &mut client, total);
}

#[test]
fn a_fragment_beyond_a_whole_file_is_refused() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..20)).received(), 20);
    for range in ["bytes 20-29/20", "bytes 10-29/20", "bytes 20-29/30"] {
        let len = if range.starts_with("bytes 10") {
            20
        } else {
            10
        };
        let request = fragment_head(client.session(), range, len) + &"x".repeat(len);
        ask(&mut client.raw, request).assert(400, Some(E_INVALIDARG));
    }
    assert_published(&server, &mut client, 20);
}

/// Cuts the body of a fragment after so many bytes; what arrived must be there when the client
/// comes back. The cut is an orderly end of our side, and the end of the server's side shows that
/// it has seen it.
#[track_caller]
fn cut(client: &mut Client, fragment: &crate::support::client::Fragment, bytes: u64) {
    client.send_part(fragment, bytes);
    client.raw.finish();
    client.raw.assert_closed();
    client.reconnect();
}

#[test]
fn a_broken_body_keeps_what_arrived() {
    let server = Server::start();
    let total = 2 * MIB;
    let mut client = Client::create(server.address(), "/a.bin");
    let mut received = 0;
    // Around nothing, one head block, one body block, and the end.
    for bytes in [
        0,
        1,
        2,
        16_383,
        16_384,
        16_385,
        MIB / 2 - 1,
        MIB / 2,
        MIB / 2 + 1,
        4095,
    ] {
        cut(&mut client, &fragment(received..total), bytes);
        received += bytes;
        assert_eq!(
            watermark(&mut client, total),
            received,
            "cut after {bytes} bytes"
        );
    }
    cut(
        &mut client,
        &fragment(received..total),
        total - received - 1,
    );
    // Nothing of the file lies after its last byte, so there is no gap to ask by.
    assert_eq!(client.send(fragment(0..1).of(total)).received(), total - 1);
    assert_eq!(client.send(fragment(total - 10..total)).received(), total);
    assert_published(&server, &mut client, total);
}

#[test]
fn a_broken_overlap_keeps_what_was_new() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..1000).of(5000)).received(), 1000);
    for (bytes, received) in [
        (0, 1000),
        (500, 1000),
        (1000, 1000),
        (1001, 1001),
        (3000, 3000),
    ] {
        cut(&mut client, &fragment(0..5000), bytes);
        assert_eq!(
            watermark(&mut client, 5000),
            received,
            "cut after {bytes} bytes"
        );
    }
    assert_eq!(client.send(fragment(0..5000)).received(), 5000);
    assert_published(&server, &mut client, 5000);
}

#[test]
fn a_broken_chunked_body_keeps_what_arrived() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let whole = chunked(&content(1, 0, 100), 40);
    let mut received = 0;
    for bytes in 0..whole.len() {
        let head = chunked_head(client.session(), "bytes 0-99/102");
        client.raw.send(head).send(&whole[..bytes]);
        client.raw.finish();
        client.raw.assert_closed();
        client.reconnect();
        let now = watermark(&mut client, 102);
        assert!(
            now >= received && now <= bytes as u64,
            "{now} after {bytes} bytes"
        );
        received = now;
        if received == 100 {
            // From here on all of it is known, and it is answered before its body comes.
            break;
        }
    }
    assert_eq!(received, 100);
    assert_eq!(client.send(fragment(100..102)).received(), 102);
    assert_published(&server, &mut client, 102);
}

#[test]
fn a_fragment_too_large_is_413_and_a_smaller_one_taken_on_the_same_connection() {
    let server = server_with("fragment_bytes_max = \"64 KiB\"");
    let mut client = Client::create(server.address(), "/a.bin");
    let total = 13 * MIB;
    let answer = client.send(fragment(0..total));
    answer.assert(413, None);
    assert_eq!(client.send(fragment(0..65_537).of(total)).status, 413);
    assert_eq!(
        client.send(fragment(0..65_536).of(total)).received(),
        65_536
    );
    assert_usable(&mut client.raw);
}

#[test]
fn a_file_too_large_is_refused_at_its_first_fragment() {
    let server = server_with("upload_bytes_max = \"1 MiB\"");
    let mut client = Client::create(server.address(), "/a.bin");
    for end in [1, 13 * MIB] {
        let answer = client.send(fragment(0..end).of(13 * MIB));
        answer.assert(500, Some(BG_E_TOO_LARGE));
    }
    client
        .send(fragment(0..1).of(MIB + 1))
        .assert(500, Some(BG_E_TOO_LARGE));
    assert_eq!(client.send(fragment(0..1).of(MIB)).received(), 1);
}

#[test]
fn an_empty_file_may_be_announced_in_every_form() {
    let server = Server::start();
    let forms = [
        "Content-Range: bytes 0-0/0\r\n",
        "Content-Range: bytes 0--1/0\r\n",
        "Content-Range: Bytes */0\r\n",
        "",
    ];
    for (n, form) in forms.iter().enumerate() {
        let path = format!("/{n}.bin");
        let mut client = Client::create(server.address(), &path);
        let fields = format!("BITS-Session-Id: {}\r\n{form}", client.session());
        for _ in 0..2 {
            let answer = client.packet("Fragment", &fields);
            answer.assert(200, None);
            assert_eq!(answer.received(), 0);
        }
        client.close().assert(200, None);
        assert_eq!(std::fs::metadata(server.file(&path[1..])).unwrap().len(), 0);
    }
}

#[test]
fn an_empty_file_may_be_chunked() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let head = chunked_head(client.session(), "bytes */0");
    assert_eq!(ask(&mut client.raw, head + "0\r\n\r\n").received(), 0);
    assert_published(&server, &mut client, 0);
}

#[test]
fn an_empty_file_is_not_what_was_begun_with_bytes() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    let fields = format!(
        "BITS-Session-Id: {}\r\nContent-Range: bytes */0\r\n",
        client.session()
    );
    client
        .packet("Fragment", &fields)
        .assert(400, Some(E_INVALIDARG));
    assert_eq!(client.send(fragment(5..10)).received(), 10);
    client
        .packet("Fragment", &fields)
        .assert(400, Some(E_INVALIDARG));
    assert_published(&server, &mut client, 10);
}

#[test]
fn a_session_closed_at_once_is_given_up_or_an_empty_file() {
    for (setting, is_made) in [("discard", false), ("create", true)] {
        let server = server_with(&format!("empty_file = \"{setting}\""));
        let mut client = Client::create(server.address(), "/a.bin");
        client.close().assert(200, None);
        client.close().assert(200, None);
        let len = std::fs::metadata(server.file("a.bin"))
            .map(|file| file.len())
            .ok();
        assert_eq!(len, is_made.then_some(0), "{setting}");
        assert_eq!(parts(&server), [""; 0]);
    }
}

#[test]
fn a_session_closed_between_its_fragments_is_never_an_empty_file() {
    let server = server_with("empty_file = \"create\"");
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    client.close().assert(200, None);
    assert!(!server.file("a.bin").exists());
}

#[test]
fn offsets_beyond_53_bits_and_up_to_64_are_exact() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    for total in [
        (1 << 32) + 1,
        (1 << 53) + 1,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ] {
        assert_eq!(watermark(&mut client, total), 0, "of {total} bytes");
    }
    // A gap fixes nothing: the file may still turn out small.
    assert_eq!(client.send(fragment(0..10)).received(), 10);
    assert_published(&server, &mut client, 10);
}

fn expecting(session: &str, range: &str, length: u64) -> String {
    let fields = format!(
        "BITS-Session-Id: {session}\r\nContent-Range: {range}\r\nContent-Length: {length}\r\nExpect: 100-Continue\r\n"
    );
    head("Fragment", &fields)
}

#[test]
fn a_fragment_that_is_wanted_is_asked_for() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let head = expecting(client.session(), "bytes 0-9/10", 10);
    let go_on = ask(&mut client.raw, head);
    assert_eq!(
        (&*go_on.status_line, go_on.fields.len()),
        ("HTTP/1.1 100 Continue", 0)
    );
    assert_eq!(ask(&mut client.raw, content(1, 0, 10)).received(), 10);
    assert_published(&server, &mut client, 10);
}

#[test]
fn the_chunks_of_an_empty_file_are_asked_for() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let head = chunked_head(client.session(), "bytes */0");
    let head = head.replacen("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1);
    assert_eq!(ask(&mut client.raw, head).status, 100);
    assert_eq!(ask(&mut client.raw, "0\r\n\r\n").received(), 0);
    assert_published(&server, &mut client, 0);
}

#[test]
fn a_fragment_that_is_refused_is_not_asked_for() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().to_owned();
    for (range, length, status) in [
        ("bytes 10-19/20", 10, 416),
        ("bytes 10-19", 10, 400),
        ("bytes 0-9/20", 9, 400),
    ] {
        let answer = ask(&mut client.raw, expecting(&id, range, length));
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("Connection"), Some("close"), "{answer:?}");
        client.raw.assert_closed();
        client.reconnect();
    }
    let unknown = "{3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";
    let answer = ask(&mut client.raw, expecting(unknown, "bytes 0-9/20", 10));
    assert_eq!(answer.status, 500);
    client.raw.assert_closed();
}

#[test]
fn http_1_0_is_never_sent_an_interim_answer() {
    let server = Server::start();
    let client = Client::create(server.address(), "/a.bin");
    let mut raw: Raw = server.connect();
    let head = expecting(client.session(), "bytes 0-9/10", 10).replace("HTTP/1.1", "HTTP/1.0");
    raw.send(head);
    let answer = ask(&mut raw, content(1, 0, 10));
    assert_eq!((answer.status, answer.received()), (200, 10));
}
