//! TLS: what the server shows and proves, uploads of all kinds over it, and clients that speak it
//! badly or not at all.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::ClientConfig;
use support::client::{Client, fragment};
use support::raw::Raw;
use support::server::Server;
use support::tls::{Authority, listener};
use support::wait_until;

const MIB: u64 = 1 << 20;

/// A server with a certificate for localhost, and what a client needs to trust it.
fn start(lines: &str) -> (Server, Arc<ClientConfig>, Authority) {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost", "127.0.0.1"]);
    let server = Server::with(listener(lines, &[&pair]));
    let trust = authority.trusting();
    (server, trust, authority)
}

#[test]
fn uploads_of_all_kinds_arrive_whole() {
    let (server, trust, _authority) = start("");
    for (at, (total, step)) in [
        (1, 1),
        (300, 100),
        (5_000, 5_000),
        (70_000, 16_384),
        (3 * MIB + 17, MIB),
        (9 * MIB + 1, 9 * MIB + 1),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/f{at}.bin");
        let mut client = Client::over(server.secure(), &path, Some(&trust));
        client.try_create().assert(200, None);
        client.send_rest(0, total, step);
        client.close().assert(200, None);
        server.assert_file(&path[1..], 1, total);
    }
    let mut client = Client::over(server.secure(), "/chunked.bin", Some(&trust));
    client.try_create().assert(200, None);
    let whole = fragment(0..2 * MIB).in_chunks();
    client.try_send(&whole).unwrap().assert(200, None);
    client.close().assert(200, None);
    server.assert_file("chunked.bin", 1, 2 * MIB);
}

/// Each session lives on one of two shards, and each connection begins on one of them.
#[test]
fn a_connection_that_is_handed_over_goes_on_with_its_keys() {
    let (server, trust, _authority) = start("");
    let mut client = Client::over(server.secure(), "/moved.bin", Some(&trust));
    client.try_create().assert(200, None);
    let total = 40 * 70_000;
    for part in 0..40 {
        let range = part * 70_000..(part + 1) * 70_000;
        client.send(fragment(range).of(total)).assert(200, None);
        client.reconnect();
    }
    client.close().assert(200, None);
    server.assert_file("moved.bin", 1, total);
    server.wait_for_log("connection_moved");
}

#[test]
fn an_end_inside_a_body_is_a_cut_however_it_is_said() {
    let (server, trust, _authority) = start("");
    for (at, says_so) in [true, false].into_iter().enumerate() {
        let path = format!("/cut{at}.bin");
        let mut client = Client::over(server.secure(), &path, Some(&trust));
        client.try_create().assert(200, None);
        let whole = fragment(0..MIB);
        client.send_part(&whole, 600_000);
        if says_so {
            client.raw.tls().send_close_notify();
            client.raw.flush();
        }
        client.raw.finish();
        let session = client.session().to_owned();
        // Some of it may have been in a record that never came whole; nothing else is lost.
        wait_until("what arrived is on disk", || {
            server.part_bytes(&session) == 600_000
        });
        client.reconnect();
        client.send_rest(600_000, MIB, MIB);
        client.close().assert(200, None);
        server.assert_file(&path[1..], 1, MIB);
    }
}

#[test]
fn the_last_answer_is_followed_by_a_word_of_the_end() {
    let (server, trust, _authority) = start("");
    let mut raw = Raw::secure(server.secure(), &trust);
    raw.send("GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(raw.receive().status, 404);
    // Without it, rustls says that the end came unexpectedly.
    assert!(raw.try_receive().unwrap().is_none());
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed() {
    let (mut server, trust, _authority) = start("");
    let mut client = Client::over(server.secure(), "/killed.bin", Some(&trust));
    client.try_create().assert(200, None);
    client.send(fragment(0..MIB).of(3 * MIB)).assert(200, None);
    let session = client.session().to_owned();
    server.kill9();
    server.restart();
    let mut client = Client::over(server.secure(), "/killed.bin", Some(&trust));
    client.adopt(&session);
    client.send_rest(MIB, 3 * MIB, MIB);
    client.close().assert(200, None);
    server.assert_file("killed.bin", 1, 3 * MIB);
}

#[test]
fn whoever_speaks_plain_http_is_told_to_speak_tls() {
    let (server, _trust, _authority) = start("");
    let mut raw = Raw::connect(server.secure());
    raw.send("BITS_POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
    raw.send(vec![b'x'; 100_000]);
    let answer = raw.receive();
    assert_eq!(answer.status, 400);
    assert!(String::from_utf8(answer.body).unwrap().contains("https://"));
    raw.finish();
    raw.assert_closed();
    server.wait_for_log("it speaks HTTP without TLS");
}

#[test]
fn garbage_instead_of_a_handshake_ends_the_connection_and_nothing_else() {
    let (server, trust, _authority) = start("");
    let record = |kind: u8, len: u16, content: &[u8]| {
        let mut record = vec![kind, 3, 1];
        record.extend_from_slice(&len.to_be_bytes());
        record.extend_from_slice(content);
        record
    };
    let garbage = [
        b"\0\0\0\0\0\0\0\0".to_vec(),
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        // Of SSL 2.
        b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10".to_vec(),
        record(22, 0, b""),
        record(22, 5, b"\x01\0\0\x01x"),
        record(22, 0xffff, &[0; 70_000]),
        record(22, 16_000, &[0xff; 16_000]),
        record(23, 100, &[7; 100]),
        record(21, 2, &[2, 40]),
    ];
    for bytes in garbage {
        let mut raw = Raw::connect(server.secure());
        let _ = raw.try_send(&bytes);
        let mut answer = Vec::new();
        // At the most an alert; a reset is an end too.
        let _ = raw.socket().read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer[0] == 21,
            "{bytes:?}: {answer:?}"
        );
    }
    let mut client = Client::over(server.secure(), "/after.bin", Some(&trust));
    client.try_create().assert(200, None);
}

#[test]
fn garbage_after_the_handshake_ends_the_connection_and_nothing_else() {
    let (server, trust, _authority) = start("");
    for bytes in [
        b"\x17\x03\x03\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec(),
        b"\x17\x03\x03\xff\xff".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // A handshake message in the clear.
        b"\x16\x03\x03\0\x04\0\0\0\0".to_vec(),
    ] {
        let mut client = Client::over(server.secure(), "/x.bin", Some(&trust));
        client.try_create().assert(200, None);
        let _ = client.raw.socket().write_all(&bytes);
        let ended = client.raw.try_receive();
        assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    }
    let mut client = Client::over(server.secure(), "/after.bin", Some(&trust));
    client.try_create().assert(200, None);
}

#[test]
fn whoever_does_not_shake_hands_in_time_is_hung_up() {
    let (server, trust, _authority) = start("[limits]\nhead_ms_max = 300");
    let mut silent = Raw::connect(server.secure());
    let mut slow = Raw::connect(server.secure());
    // The beginning of a record, and no more.
    slow.send(b"\x16\x03\x01\x02\0\x01");
    silent.assert_closed();
    let mut rest = Vec::new();
    let _ = slow.socket().read_to_end(&mut rest);
    server.wait_for_log("the hands were not shaken in time");
    // Who has shaken them may be idle for longer.
    let mut client = Client::over(server.secure(), "/idle.bin", Some(&trust));
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    client.try_create().assert(200, None);
}

#[test]
fn records_that_hold_nothing_are_skipped_and_one_byte_each_will_do() {
    let (server, trust, _authority) = start("");
    let mut client = Client::over(server.secure(), "/bytewise.bin", Some(&trust));
    client.try_create().assert(200, None);
    client.send_head(&fragment(0..2_000));
    for byte in support::content::content(1, 0, 2_000) {
        client.raw.send([byte]);
    }
    client.raw.receive().assert(200, None);
    client.close().assert(200, None);
    server.assert_file("bytewise.bin", 1, 2_000);
}

#[test]
fn a_download_goes_out_whole() {
    let (server, trust, _authority) = start("[[location]]\nprefix = \"out\"\ndownload = \"get\"");
    let content = support::content::content(3, 0, 5 * MIB);
    fs::create_dir(server.file("out")).unwrap();
    fs::write(server.file("out/file.bin"), &content).unwrap();
    let mut raw = Raw::secure(server.secure(), &trust);
    for _ in 0..2 {
        raw.send("GET /out/file.bin HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = raw.receive();
        assert_eq!(answer.status, 200);
        assert!(answer.body == content);
    }
}
