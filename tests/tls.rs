//! TLS: what the server shows and proves, uploads of all kinds over it, and clients that speak it
//! badly or not at all.

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use support::client::{Client, fragment};
use support::raw::{Raw, Response};
use support::server::Server;
use support::tls::{Authority, Pair, listener};
use support::{skip, wait_until};

const MIB: u64 = 1 << 20;

/// A server with a certificate for localhost, and what a client needs to trust it.
fn start(lines: &str) -> (Server, Arc<ClientConfig>, Authority) {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost", "127.0.0.1"]);
    let server = Server::with(listener(lines, &[&pair]));
    let trust = authority.trusting();
    (server, trust, authority)
}

/// What `bitsd check` says of settings with these lines of a listener, and whether they are good.
fn check(folder: &Authority, lines: &str, pair: &Pair) -> (bool, String) {
    let file = folder.file("settings.toml");
    let root = format!("root = {:?}\n", folder.file(""));
    fs::write(&file, root + &listener(lines, &[pair]).file).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8(check.stdout).unwrap();
    (check.status.success(), said)
}

/// What a client hears that asks whether the server is there. By TLS 1.3 it is through before the
/// server has looked at its certificate.
fn ping_as(server: &Server, client: &Arc<ClientConfig>) -> io::Result<Option<Response>> {
    let mut raw = Raw::try_secure(server.secure(), client, "localhost")?;
    raw.try_send(
        "BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n",
    )?;
    raw.try_receive()
}

/// Whether a client gets an answer.
fn is_let_in(server: &Server, client: &Arc<ClientConfig>) -> bool {
    matches!(ping_as(server, client), Ok(Some(answer)) if answer.status == 200)
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
    let (server, trust, _authority) = start("[limits]\nhead_ms_max = 1000");
    let mut silent = Raw::connect(server.secure());
    let mut slow = Raw::connect(server.secure());
    // The beginning of a record, and no more.
    slow.send(b"\x16\x03\x01\x02\0\x01");
    silent.assert_closed();
    let mut rest = Vec::new();
    let _ = slow.socket().read_to_end(&mut rest);
    server.wait_for_log("the hands were not shaken in time");
    // Who has shaken them may be idle for longer: nothing is waited for, the time is the test.
    let mut client = Client::over(server.secure(), "/idle.bin", Some(&trust));
    std::thread::sleep(std::time::Duration::from_millis(2_500));
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

/// The certificate that a connection was shown.
fn shown(raw: &mut Raw) -> Vec<u8> {
    raw.tls().peer_certificates().unwrap()[0].to_vec()
}

/// Ends the load also where a check beside it fails.
struct EndOfLoad<'a>(&'a AtomicBool);

impl Drop for EndOfLoad<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goal: whoever renews certificates loses no upload. Method: some connections upload one small
/// file after the other, each to the end on the connection it began with, while the certificate is
/// renewed time and again.
#[test]
fn a_reload_shows_new_certificates_and_drops_no_connection() {
    const UPLOADS: u64 = 1_000;
    const RELOADS: u64 = 20;
    const CONNECTIONS: usize = 4;
    let (server, trust, authority) = start("");
    let lines = server.settings().file;
    let (uploads, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let upload_on = |connection: usize| {
        let path = |number: u64| format!("/{connection}-{number}.bin");
        let mut client = Client::over(server.secure(), &path(0), Some(&trust));
        let shown_first = shown(&mut client.raw);
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            client.call_file(&path(number));
            client.try_create().assert(200, None);
            client.send(fragment(0..100)).assert(200, None);
            client.close().assert(200, None);
            uploads.fetch_add(1, Ordering::Relaxed);
            number += 1;
        }
        assert_eq!(
            shown(&mut client.raw),
            shown_first,
            "it is the same connection"
        );
        (0..number).for_each(|number| server.assert_file(&path(number)[1..], 1, 100));
        number
    };
    let uploaded: Vec<u64> = thread::scope(|scope| {
        let end = EndOfLoad(&is_over);
        let load: Vec<_> = (0..CONNECTIONS)
            .map(|number| scope.spawn(move || upload_on(number)))
            .collect();
        let wait_for_uploads = |count| {
            wait_until("so many files have arrived", || {
                assert!(!load.iter().any(|one| one.is_finished()), "one has failed");
                uploads.load(Ordering::Relaxed) >= count
            });
        };
        for reload in 0..RELOADS {
            wait_for_uploads(reload * UPLOADS / RELOADS);
            // Onto the same files, as whoever renews a certificate does.
            let renewed = authority.server("server", &["localhost"]);
            let renewed = CertificateDer::from_pem_file(renewed.chain).unwrap();
            server.reload(&lines);
            wait_until("the new one is shown", || {
                // It has no ticket of before.
                let trust = authority.trusting();
                shown(&mut Raw::secure(server.secure(), &trust)) == *renewed
            });
        }
        wait_for_uploads(UPLOADS);
        drop(end);
        load.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(uploaded.iter().all(|count| *count > 0), "{uploaded:?}");
    server.wait_for_log("server.pem: another one, until ");
}

/// Goal: whoever moves TLS to a proxy keeps the clients that still come here. Method: the settings
/// name no listener that speaks TLS and no certificate any more, and its files are gone; the
/// listener stays until the next start, and so does what it shows.
#[test]
fn a_listener_that_waits_for_the_next_start_keeps_its_certificate() {
    let (server, trust, authority) = start("");
    let lines = server.settings().file;
    let before = shown(&mut Raw::secure(server.secure(), &trust));
    let plain = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let files = ["server.pem", "server.key"].map(|name| authority.file(name));
    let away = |path: &Path| format!("{}.away", path.file_name().unwrap().display());
    for (number, file) in ["log_level = \"debug\"", plain].into_iter().enumerate() {
        for path in &files {
            fs::rename(path, path.with_file_name(away(path))).unwrap();
        }
        server.reload(file);
        wait_until("the settings were reloaded", || {
            server.log().matches("event=reloaded").count() == 2 * number + 1
        });
        assert!(server.log().contains("key=\"certificate\""));
        let name = format!("/{number}.bin");
        let mut client = Client::over(server.secure(), &name, Some(&trust));
        assert_eq!(shown(&mut client.raw), before);
        client.try_create().assert(200, None);
        client.send(fragment(0..MIB)).assert(200, None);
        client.close().assert(200, None);
        // Whoever thinks better of it has it all back.
        for path in &files {
            fs::rename(path.with_file_name(away(path)), path).unwrap();
        }
        server.reload(&lines);
        wait_until("the settings were reloaded", || {
            server.log().matches("event=reloaded").count() == 2 * number + 2
        });
        assert_eq!(shown(&mut Raw::secure(server.secure(), &trust)), before);
    }
    assert!(!server.log().contains("reload_failed"));
}

#[test]
fn files_that_are_wrong_change_nothing_at_a_reload_and_are_told() {
    let (server, trust, authority) = start("");
    let lines = server.settings().file;
    let before = shown(&mut Raw::secure(server.secure(), &trust));
    let good = fs::read(authority.file("server.pem")).unwrap();
    let (chain, other) = (
        authority.file("server.pem"),
        authority.server("other", &["x"]),
    );
    for (content, says) in [
        (b"rubbish\n".to_vec(), "holds no certificate"),
        (good[..good.len() - 30].to_vec(), "has no END line"),
        (
            fs::read(other.chain).unwrap(),
            "does not belong to the certificate",
        ),
    ] {
        fs::write(&chain, content).unwrap();
        server.reload(&lines);
        server.wait_for_log(says);
        assert!(server.log().contains("reload_failed"));
        assert_eq!(shown(&mut Raw::secure(server.secure(), &trust)), before);
    }
}

#[test]
fn a_start_with_files_that_are_wrong_names_them() {
    let authority = Authority::new();
    let good = authority.server("good", &["localhost"]);
    let refused = |pair: &Pair, says: &str| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let (status, said) = Server::refused(&root, &listener("", &[pair]));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(says), "{says}: {said}");
    };
    let missing = Pair {
        chain: authority.file("none.pem"),
        ..good.clone()
    };
    refused(&missing, "certificate.chain: cannot read ");
    refused(&missing, "none.pem: No such file");
    let no_key = Pair {
        key: authority.file("none.key"),
        ..good.clone()
    };
    refused(&no_key, "certificate.key: cannot read ");
    let old_kind = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    fs::write(&missing.chain, old_kind).unwrap();
    refused(&missing, "one of X.509 version 3");
    let old = authority.issue("old", &["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    refused(&old, "old.pem has expired");
    let other = Pair {
        key: authority.server("other", &["localhost"]).key,
        ..good.clone()
    };
    refused(&other, "does not belong to the certificate");
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&good, "chmod g-w,o= ");
}

#[test]
fn check_tells_of_certificates_what_a_start_would_find() {
    let authority = Authority::new();
    let soon = authority.issue("soon", &["a.example", "b.example"], |params| {
        params.not_after = std::time::SystemTime::now().into();
        params.not_after += std::time::Duration::from_secs(5 * 86_400);
    });
    let check = |pair: &Pair| check(&authority, "", pair).1;
    let text = check(&soon);
    assert!(
        text.contains("an ECDSA certificate for a.example, b.example, until"),
        "{text}"
    );
    assert!(
        text.contains("expires 5 days from now") || text.contains("expires 4 days"),
        "{text}"
    );
    let Some(rsa) = authority.rsa("rsa", "localhost") else {
        return skip("there is no openssl");
    };
    let text = check(&rsa);
    assert!(
        text.contains("Windows 7, 8.1 and Server 2012 R2 cannot connect"),
        "{text}"
    );
    let server = Server::with(listener("", &[&rsa]));
    server.wait_for_log("no_ecdsa_certificate");
}

#[test]
fn certificates_that_no_windows_can_use_are_told_as_what_they_are() {
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.ed25519("ed", "localhost")]));
    server.wait_for_log("no_ecdsa_certificate");
    let log = server.log();
    let mut lines = log.lines();
    let line = lines.find(|line| line.contains("no_ecdsa_certificate"));
    let line = line.unwrap();
    assert!(
        line.contains("all certificates are Ed25519 ones: Windows cannot"),
        "{line}"
    );
    assert!(!line.contains("RSA"), "{line}");
}

#[test]
fn a_client_is_shown_the_certificate_that_it_asks_for_and_can_use() {
    let authority = Authority::new();
    let first = authority.server("first", &["localhost", "first.example"]);
    let other = authority.server("other", &["*.other.example"]);
    let Some(rsa) = authority.rsa("rsa", "other2.example") else {
        return skip("there is no openssl");
    };
    let server = Server::with(listener("", &[&first, &rsa, &other]));
    let trust = authority.trusting();
    for (name, file) in [
        ("first.example", &first),
        ("x.other.example", &other),
        ("other2.example", &rsa),
    ] {
        let mut raw = Raw::try_secure(server.secure(), &trust, name).unwrap();
        let own = CertificateDer::from_pem_file(&file.chain).unwrap();
        assert_eq!(shown(&mut raw), own.to_vec(), "{name}");
    }
    // A name that no certificate has: the first is shown, and the client refuses it.
    let unknown = Raw::try_secure(server.secure(), &trust, "unknown.example");
    assert!(unknown.err().unwrap().to_string().contains("first.example"));
}

#[test]
fn clients_without_a_good_certificate_do_not_get_in_where_one_is_asked_for() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let crl = authority.revoke("revoked.crl", &[13]);
    let lines = format!("client_ca = {:?}\nclient_crl = {crl:?}", authority.ca());
    let server = Server::with(listener(&lines, &[&pair]));
    let try_as = |config: ClientConfig| ping_as(&server, &Arc::new(config));
    let good = authority.client("good", "machine 7", 7);
    let builder = authority.builder(Some(&good));
    assert_eq!(try_as(builder).unwrap().unwrap().status, 200);
    let strangers = Authority::new();
    let stranger = strangers.client("stranger", "stranger", 8);
    let revoked = authority.client("revoked", "machine 13", 13);
    let old = authority.issue("old", &[], |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "machine 14");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for (pair, says) in [
        (None, "it sent no certificate"),
        (
            Some(&stranger),
            "another key: it is none of those in client_ca (subject",
        ),
        (Some(&revoked), "it is revoked (subject"),
        (Some(&old), "it has expired (subject"),
    ] {
        let outcome = try_as(authority.builder(pair));
        assert!(!matches!(outcome, Ok(Some(_))), "{says}: {outcome:?}");
        server.wait_for_log(says);
    }
    let log = server.log();
    assert!(log.contains("machine 13"));
    assert!(!log.contains("RSA"), "nobody has such a key: {log}");
    // The list is read anew, and whoever resumes is asked as well.
    authority.revoke("revoked.crl", &[7]);
    server.reload(&server.settings().file);
    wait_until("the new list holds", || {
        !matches!(try_as(authority.builder(Some(&good))), Ok(Some(_)))
    });
}

/// Goal: names that a stranger makes up hide nobody else's trouble in the log. Method: more
/// certificates of another authority than lines at once, each with a subject of its own, and then
/// a client that fails for another reason.
#[test]
fn certificates_without_end_hide_no_other_trouble() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let lines = format!("client_ca = {:?}", authority.ca());
    let server = Server::with(listener(&lines, &[&pair]));
    let strangers = Authority::new();
    for number in 0..150 {
        let name = format!("stranger {number}");
        let stranger = strangers.client("stranger", &name, number);
        let outcome = ping_as(&server, &Arc::new(authority.builder(Some(&stranger))));
        assert!(!matches!(outcome, Ok(Some(_))), "{name}: {outcome:?}");
    }
    let nobody = ping_as(&server, &authority.trusting());
    assert!(!matches!(nobody, Ok(Some(_))), "{nobody:?}");
    server.wait_for_log("it sent no certificate, and this listener asks for one");
    // What was left out is told with its reason, and without the names.
    wait_until("it is counted", || {
        let log = server.log();
        let mut counts = log.lines().filter(|line| line.contains("more like this"));
        counts.any(|line| line.contains("its certificate is not accepted"))
    });
}

/// Goal: of each file for clients' certificates that cannot be read, its key is named. Method:
/// `bitsd check`.
#[test]
fn files_of_clients_certificates_that_are_not_there_are_told_with_their_key() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let (ca, none) = (authority.ca(), authority.file("none.pem"));
    for (lines, key) in [
        (format!("client_ca = {none:?}"), "listener.client_ca"),
        (
            format!("client_ca = {ca:?}\nclient_crl = {none:?}"),
            "listener.client_crl",
        ),
    ] {
        let (is_good, said) = check(&authority, &lines, &pair);
        assert!(!is_good, "{said}");
        let says = format!("wrong: {key}: cannot read {}", none.display());
        assert!(said.contains(&says), "{says}: {said}");
    }
}

/// Goal: whoever is not trusted any more cannot go on with a connection from before. Method: the
/// list, and then the authorities, change under connections that are idle and in mid-request.
#[test]
fn a_connection_ends_with_the_trust_that_let_its_client_in() {
    let (authority, others) = (Authority::new(), Authority::new());
    let pair = authority.server("server", &["localhost"]);
    let crl = authority.revoke("revoked.crl", &[]);
    let plain = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true";
    let lines = format!(
        "client_ca = {:?}\nclient_crl = {crl:?}\n{plain}",
        authority.ca()
    );
    let server = Server::with(listener(&lines, &[&pair]));
    let file = server.settings().file;
    let trust = |serial| authority.trusting_as(&authority.client("client", "machine", serial));
    let (bad, good) = (trust(13), trust(7));
    let secure = |trust: &Arc<ClientConfig>| Raw::secure(server.secure(), trust);
    let mut stranger = Raw::secure(server.secures()[1], &authority.trusting());
    let ping = |raw: &mut Raw| {
        let ping = "BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
        raw.try_send(ping).ok();
        raw.try_receive().ok().flatten().map(|answer| answer.status)
    };
    let change_crl: &dyn Fn() = &|| drop(authority.revoke("revoked.crl", &[13]));
    let change_ca: &dyn Fn() = &|| append(&authority.ca(), &others.ca());
    for (round, (change, told)) in [
        (change_crl, "other revocations"),
        (change_ca, "other authorities"),
    ]
    .into_iter()
    .enumerate()
    {
        let known = match round {
            0 => &bad,
            _ => &good,
        };
        let (mut idle, mut at_once) = (secure(known), secure(known));
        let (idle_good, mut kept) = (&mut secure(&good), secure(known));
        for raw in [&mut idle, &mut at_once, idle_good, &mut stranger] {
            assert_eq!(ping(raw), Some(200));
        }
        // A reload that changes nothing of it ends none.
        server.reload(&file);
        wait_until("the settings were reloaded", || {
            server.log().matches("event=reloaded").count() == 2 * round + 1
        });
        for raw in [&mut at_once, idle_good] {
            assert_eq!(ping(raw), Some(200));
        }
        // This one is in the midst of a request when they change.
        kept.send("BITS_POST /kept HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 1\r\n\r\n");
        change();
        server.reload(&file);
        wait_until("the settings were reloaded", || {
            server.log().matches("event=reloaded").count() == 2 * round + 2
        });
        assert!(server.log().contains(told));
        wait_until("no request is answered any more", || {
            ping(&mut at_once).is_none()
        });
        // And one that asks for nothing hears the end all the same.
        assert!(matches!(idle.try_receive(), Ok(None)));
        assert!(matches!(idle_good.try_receive(), Ok(None)));
        kept.try_send("x").ok();
        if let Ok(Some(answer)) = kept.try_receive() {
            assert_eq!(answer.field("Connection"), Some("close"));
        }
        // Who is trusted comes back, and who is not is not let in.
        assert_eq!(ping(&mut secure(&good)), Some(200));
        assert_eq!(ping(&mut stranger), Some(200));
    }
    let refused = Raw::try_secure(server.secure(), &bad, "localhost");
    assert_eq!(refused.ok().and_then(|mut raw| ping(&mut raw)), None);
}

/// Goal: a connection that is kept open ends when its client would not be let in any more, though
/// nobody has changed a file: its certificate has expired, or the list of revocations has.
#[test]
fn a_connection_ends_with_the_certificate_or_the_list_that_let_its_client_in() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let ping = |raw: &mut Raw| {
        let ping = "BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
        raw.try_send(ping).ok();
        raw.try_receive().ok().flatten().map(|answer| answer.status)
    };
    // Long enough for handshakes on a machine that has more to do.
    let soon = || SystemTime::now() + Duration::from_secs(10);
    let long = authority.client("long", "machine 7", 7);
    for is_list in [false, true] {
        let end = soon();
        let until = match is_list {
            true => end,
            false => hours(0, 48)[1],
        };
        let crl = authority.revoke_for("lists.crl", &[], [hours(-1, 0)[0], until]);
        let lines = format!("client_ca = {:?}\nclient_crl = {crl:?}", authority.ca());
        let server = Server::with(listener(&lines, &[&pair]));
        let brief = authority.issue("brief", &[], |params| {
            params.serial_number = Some(8u64.into());
            params.not_after = end.into();
        });
        let ends = match is_list {
            true => &long,
            false => &brief,
        };
        let trust = |pair| Arc::new(authority.builder(Some(pair)));
        let secure = |pair| Raw::secure(server.secure(), &trust(pair));
        let (mut idle, mut asked, mut kept) = (secure(ends), secure(ends), secure(&long));
        for raw in [&mut idle, &mut asked, &mut kept] {
            assert_eq!(ping(raw), Some(200));
        }
        wait_until("no request is answered any more", || {
            ping(&mut asked).is_none()
        });
        assert!(SystemTime::now() + Duration::from_secs(1) > end);
        // One that asks for nothing hears the end all the same.
        assert!(matches!(idle.try_receive(), Ok(None)));
        // Whoever has a certificate and a list that count goes on.
        assert_eq!(ping(&mut kept), (!is_list).then_some(200));
    }
}

/// Goal: where certificates are asked for from now on, nobody goes on without one. Method: the key
/// is added under connections that came before; another listener has nothing to do with it.
#[test]
fn connections_from_before_client_ca_end_with_the_reload_that_names_it() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let other = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true";
    let server = Server::with(listener(&format!("\n{other}"), &[&pair]));
    let trust = authority.trusting();
    let (mut idle, mut asked, mut elsewhere) = (
        Raw::secure(server.secure(), &trust),
        Raw::secure(server.secure(), &trust),
        Raw::secure(server.secures()[1], &trust),
    );
    let ping = |raw: &mut Raw| {
        let ping = "BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
        raw.try_send(ping).ok();
        raw.try_receive().ok().flatten().map(|answer| answer.status)
    };
    for raw in [&mut idle, &mut asked, &mut elsewhere] {
        assert_eq!(ping(raw), Some(200));
    }
    let file = server.settings().file;
    let ca = format!("tls = true\nclient_ca = {:?}\n", authority.ca());
    let with_ca = file.replacen("tls = true\n", &ca, 1);
    assert_ne!(file, with_ca);
    server.reload(&with_ca);
    wait_until("no request is answered any more", || {
        ping(&mut asked).is_none()
    });
    assert!(matches!(idle.try_receive(), Ok(None)));
    assert_eq!(ping(&mut elsewhere), Some(200));
}

/// Moments, in hours from now.
fn hours(from: i64, until: i64) -> [SystemTime; 2] {
    [from, until].map(|hours| {
        let away = Duration::from_secs(hours.unsigned_abs() * 3_600);
        match hours < 0 {
            true => SystemTime::now() - away,
            false => SystemTime::now() + away,
        }
    })
}

fn append(to: &Path, from: &Path) {
    let content = [fs::read(to).unwrap(), fs::read(from).unwrap()].concat();
    fs::write(to, content).unwrap();
}

#[test]
fn check_tells_who_vouches_for_clients_until_when_and_who_would_be_shut_out() {
    let authority = Authority::with("machines", |_| {});
    let other = Authority::with("others", |_| {});
    let pair = authority.server("server", &["localhost"]);
    let check_pair = |pair: &Pair, ca: &Path, crl: &Path| {
        let lines = format!("client_ca = {ca:?}\nclient_crl = {crl:?}");
        check(&authority, &lines, pair)
    };
    let ca = authority.ca();
    let expect = |ca: &Path, crl: &Path, is_good: bool, says: &str| {
        let (succeeded, text) = check_pair(&pair, ca, crl);
        assert!(text.contains(says), "{says}: {text}");
        assert_eq!(succeeded, is_good, "{text}");
    };
    let none = Path::new("");
    expect(
        &ca,
        none,
        true,
        "ca.pem holds the authority CN=machines, until",
    );
    let list = authority.revoke("good.crl", &[]);
    expect(
        &ca,
        &list,
        true,
        "good.crl holds the revocations of CN=machines, until 4000-01-01",
    );
    assert!(
        !check_pair(&pair, &ca, &list)
            .1
            .contains("warning: the list")
    );
    let list = authority.revoke_for("old.crl", &[], hours(-200, -30));
    let says =
        "wrong: no certificate of any client would count: the list of revocations of CN=machines";
    expect(&ca, &list, false, says);
    expect(&ca, &list, false, "has expired one day ago");
    let list = authority.revoke_for("tomorrow.crl", &[], hours(-144, 20));
    expect(&ca, &list, true, "tomorrow.crl expires in ");
    let list = authority.revoke_for("week.crl", &[], hours(-48, 120));
    assert!(
        !check_pair(&pair, &ca, &list)
            .1
            .contains("warning: the list")
    );
    let list = other.revoke("other.crl", &[]);
    expect(
        &ca,
        &list,
        false,
        "has no list of revocations of CN=machines",
    );
    let namesake = Authority::with("machines", |_| {});
    expect(
        &ca,
        &namesake.revoke("x.crl", &[]),
        false,
        "is not signed with the key in client_ca",
    );
    let leaf = authority.client("leaf", "machine 7", 7).chain;
    expect(&leaf, none, false, "CN=machine 7, which signs no others");
    // Whoever has a good one gets in.
    append(&ca, &other.ca());
    expect(
        &ca,
        &list,
        true,
        "has no list of revocations of CN=machines, and whoever",
    );
    let old = Authority::with("old", |params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    expect(
        &old.ca(),
        none,
        true,
        "has expired; certificates of it count here all the same",
    );
    let clients_only = authority.issue("clients", &["localhost"], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let (_, text) = check_pair(&clients_only, &old.ca(), none);
    assert!(
        text.contains("is not one for servers (no serverAuth"),
        "{text}"
    );
}

/// Both, one behind the other, without the line break between them.
fn glued(first: &Path, second: &Path) -> String {
    let texts = [first, second].map(|path| fs::read_to_string(path).unwrap());
    format!("{}{}", texts[0].trim_end(), texts[1])
}

/// Readers of PEM would find one of the two, and pass over the other.
#[test]
fn files_of_which_a_part_would_be_passed_over_are_refused() {
    let authority = Authority::with("machines", |_| {});
    let other = Authority::with("others", |_| {});
    let pair = authority.server("server", &["localhost"]);
    let ca = authority.ca();
    let lists = [
        authority.revoke("old.crl", &[]),
        authority.revoke("new.crl", &[7]),
    ];
    let refused = |lines: &str, pair: &Pair| {
        let (is_good, said) = check(&authority, lines, pair);
        assert!(
            !is_good && said.contains("something stands behind it"),
            "{said}"
        );
        assert!(said.contains(".pem:"), "{said}");
    };
    let both = authority.file("both.pem");
    fs::write(&both, glued(&lists[0], &lists[1])).unwrap();
    refused(&format!("client_ca = {ca:?}\nclient_crl = {both:?}"), &pair);
    fs::write(&both, glued(&ca, &other.ca())).unwrap();
    refused(&format!("client_ca = {both:?}"), &pair);
    fs::write(&both, glued(&pair.chain, &ca)).unwrap();
    let chain = both.clone();
    refused(
        "",
        &Pair {
            chain,
            ..pair.clone()
        },
    );
    // At a reload the list of before stays, and whoever is revoked stays out.
    let list = lists[1].clone();
    let lines = format!("client_ca = {ca:?}\nclient_crl = {list:?}");
    let server = Server::with(listener(&lines, &[&pair]));
    let revoked = Arc::new(authority.builder(Some(&authority.client("m7", "machine 7", 7))));
    assert!(!is_let_in(&server, &revoked));
    fs::write(&list, glued(&lists[0], &lists[1])).unwrap();
    server.reload(&server.settings().file);
    server.wait_for_log("something stands behind it");
    assert!(!is_let_in(&server, &revoked));
}

/// As AD CS renews an authority: `CA.crl` and `CA(1).crl` are of one name and two keys.
#[test]
fn an_authority_that_was_renewed_with_another_key_has_a_list_by_each() {
    let [old, new] = [0, 1].map(|_| Authority::with("machines", |_| {}));
    let forger = Authority::with("machines", |_| {});
    let strangers = Authority::new();
    let pair = old.server("server", &["localhost"]);
    let ca = old.file("both-ca.pem");
    fs::copy(old.ca(), &ca).unwrap();
    append(&ca, &new.ca());
    let clients = [&old, &new].map(|authority| {
        let client = |name: &str, serial| {
            let pair = authority.client(name, name, serial);
            Arc::new(old.builder(Some(&pair)))
        };
        (client("good", 7), client("revoked", 13))
    });
    let stranger = Arc::new(old.builder(Some(&strangers.client("x", "x", 7))));
    let crl = old.file("both.crl");
    // Whichever is the newer one, and comes first.
    for (hours_old, hours_new) in [(-1, -2), (-2, -1)] {
        let lists = [
            old.revoke_for("old.crl", &[13], hours(hours_old, 200)),
            new.revoke_for("new.crl", &[13], hours(hours_new, 200)),
            forger.revoke_for("forged.crl", &[7], hours(0, 200)),
            // An older one of the same key counts no more.
            old.revoke_for("older.crl", &[], hours(-9, 200)),
        ];
        fs::write(&crl, "").unwrap();
        lists.iter().for_each(|list| append(&crl, list));
        let lines = format!("client_ca = {ca:?}\nclient_crl = {crl:?}");
        let (is_good, said) = check(&old, &lines, &pair);
        assert!(is_good && !said.contains("not signed with"), "{said}");
        let server = Server::with(listener(&lines, &[&pair]));
        for (good, revoked) in &clients {
            assert!(is_let_in(&server, good));
            assert!(!is_let_in(&server, revoked));
            server.wait_for_log("it is revoked (subject");
        }
        assert!(!is_let_in(&server, &stranger));
        server.wait_for_log("none of those in client_ca (subject");
    }
}

/// Whoever shows a chain that clients refuse should hear of it before they do.
#[test]
fn what_is_wrong_behind_the_first_certificate_of_a_chain_is_told() {
    let days = |count: i64| hours(24 * count, 24 * count)[0];
    let root = Authority::with("root", |_| {});
    let way = root.below("way", |_| {});
    let expired = root.below("expired", |params| params.not_after = days(-3).into());
    let soon = root.below("soon", |params| params.not_after = days(3).into());
    let tomorrow = root.below("tomorrow", |params| params.not_before = days(1).into());
    let renewed = root.below("way", |_| {});
    let chain_of = |signer: &Authority, behind: &[&Authority]| {
        let pair = signer.server("server", &["localhost"]);
        behind.iter().for_each(|one| append(&pair.chain, &one.ca()));
        pair
    };
    let warning = "warning: the certificate of";
    for (signer, behind, says) in [
        (&way, &[&way][..], None),
        (&way, &[&way, &root], None),
        (&way, &[&root, &way], None),
        (&root, &[], None),
        (&way, &[], None),
        (&way, &[&expired], Some("put that of CN=way there")),
        (&way, &[&renewed], Some("put that of CN=way there")),
        (
            &expired,
            &[&expired],
            Some("CN=expired, behind the first one"),
        ),
        (&soon, &[&soon], Some("CN=soon, behind the first one")),
        (&tomorrow, &[&tomorrow], Some("is not valid yet")),
    ] {
        let (is_good, said) = check(&root, "", &chain_of(signer, behind));
        assert!(is_good, "{said}");
        match says {
            Some(says) => assert!(said.contains(says), "{says}: {said}"),
            None => assert!(
                !said.contains(warning) && !said.contains("behind"),
                "{said}"
            ),
        }
    }
    // cert.pem in the place of fullchain.pem.
    let pair = chain_of(&way, &[&way]);
    let server = Server::with(listener("", &[&pair]));
    let lines = server.settings().file;
    chain_of(&way, &[]);
    server.reload(&lines);
    server.wait_for_log("event=chain_shortened");
    chain_of(&way, &[&way]);
    server.reload(&lines);
    wait_until("it is whole again", || {
        server.log().matches("event=reloaded").count() == 2
    });
    assert_eq!(server.log().matches("event=chain_").count(), 1);
}

#[test]
fn a_certificate_that_is_not_valid_yet_takes_the_place_of_none_that_is() {
    let (server, trust, authority) = start("");
    let lines = server.settings().file;
    let before = shown(&mut Raw::secure(server.secure(), &trust));
    authority.issue("server", &["localhost"], |params| {
        params.not_before = hours(72, 72)[0].into();
    });
    server.reload(&lines);
    server.wait_for_log("and the one before it still is");
    assert_eq!(shown(&mut Raw::secure(server.secure(), &trust)), before);
    // Where there is no other, a start takes it, and says so.
    let pair = Pair {
        chain: authority.file("server.pem"),
        key: authority.file("server.key"),
    };
    let server = Server::with(listener("", &[&pair]));
    server.wait_for_log("event=certificate_not_yet_valid");
}

#[test]
fn a_key_that_all_can_read_is_refused_in_whatever_file_it_lies() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    append(&pair.chain, &pair.key);
    for (mode, is_good) in [(0o644, false), (0o640, true)] {
        fs::set_permissions(&pair.chain, fs::Permissions::from_mode(mode)).unwrap();
        let (checked, said) = check(&authority, "", &pair);
        assert_eq!(checked, is_good, "{said}");
        assert_eq!(said.contains("chmod g-w,o= "), !is_good, "{said}");
        let lines = format!("client_ca = {:?}", pair.chain);
        let other = authority.server("other", &["localhost"]);
        let (_, said) = check(&authority, &lines, &other);
        assert_eq!(said.contains("chmod g-w,o= "), !is_good, "{said}");
    }
}

#[test]
fn a_list_that_would_shut_everybody_out_is_not_taken_over() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let list = authority.revoke("list.crl", &[]);
    let lines = format!("client_ca = {:?}\nclient_crl = {list:?}", authority.ca());
    let server = Server::with(listener(&lines, &[&pair]));
    let good = authority.trusting_as(&authority.client("good", "machine 7", 7));
    let gets_in = || {
        let raw = Raw::try_secure(server.secure(), &good, "localhost");
        let answer = raw.and_then(|mut raw| {
            raw.try_send("BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n")?;
            raw.try_receive()
        });
        matches!(answer, Ok(Some(answer)) if answer.status == 200)
    };
    assert!(gets_in());
    let old = authority.revoke_for("old.crl", &[], hours(-200, -1));
    support::tls::replace(&list, &old);
    server.reload(&server.settings().file);
    server.wait_for_log("event=reload_failed");
    assert!(gets_in(), "the list before holds on");
    let (status, said) = Server::refused(&server.root().join("other"), &listener(&lines, &[&pair]));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("has expired"), "{said}");
    // A newer one behind it is found.
    append(&list, &authority.revoke_for("new.crl", &[], hours(-2, 200)));
    server.reload(&server.settings().file);
    server.wait_for_log("list.crl: other revocations");
    wait_until("the newest list holds", gets_in);
    let file = server.settings().file;
    server.reload(&file.replace(&format!("client_crl = {list:?}\n"), ""));
    server.wait_for_log(": client_crl ");
}

#[test]
fn a_list_that_comes_to_its_end_is_told_of_when_it_does() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    // In a few seconds half of its time is over.
    let [from, until] = hours(-2, 2).map(|moment| moment + Duration::from_secs(4));
    let list = authority.revoke_for("list.crl", &[], [from, until]);
    let lines = format!("client_ca = {:?}\nclient_crl = {list:?}", authority.ca());
    let server = Server::with(listener(&lines, &[&pair]));
    server.wait_for_log("event=revocations_expire_soon");
}

/// Who has named an authority trusts it, whatever its own certificate says.
#[test]
fn clients_of_an_authority_that_has_expired_get_in() {
    let authority = Authority::with("old", |params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let shown = Authority::new();
    let pair = shown.server("server", &["localhost"]);
    let lines = format!("client_ca = {:?}", authority.ca());
    let server = Server::with(listener(&lines, &[&pair]));
    server.wait_for_log("event=authority_expired");
    let trust = shown.trusting_as(&authority.client("good", "machine 7", 7));
    let mut raw = Raw::try_secure(server.secure(), &trust, "localhost").unwrap();
    raw.send(
        "BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(raw.receive().status, 200);
}

/// Any shard resumes what another one began, also after a reload.
#[test]
fn a_client_resumes_on_whatever_shard_it_comes_to() {
    let (server, _trust, authority) = start("");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(authority.ca()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let ping = |config| {
            let mut raw = Raw::secure(server.secure(), config);
            raw.send("BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(raw.receive().status, 200);
            raw.tls().handshake_kind().unwrap()
        };
        assert_eq!(ping(&config), rustls::HandshakeKind::Full);
        for _ in 0..8 {
            assert_eq!(ping(&config), rustls::HandshakeKind::Resumed);
        }
        server.reload(&server.settings().file);
        server.wait_for_log("reloaded");
        assert_eq!(ping(&config), rustls::HandshakeKind::Resumed);
    }
}

/// A ticket would outlive the certificate that it was given for, and the list that may revoke it.
#[test]
fn a_client_that_is_asked_for_a_certificate_shows_it_each_time() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let client = authority.client("anna", "anna", 7);
    let client_ca = format!("client_ca = {:?}\n", authority.ca());
    let server = Server::with(listener(&client_ca, &[&pair]));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(authority.builder_of(Some(&client), &[version]));
        for _ in 0..3 {
            let mut raw = Raw::secure(server.secure(), &config);
            raw.send("BITS_POST /a HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(raw.receive().status, 200);
            let how = raw.tls().handshake_kind();
            assert_eq!(how, Some(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn the_oldest_version_is_a_setting() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let settings = listener("", &[&pair]);
    let settings = support::server::Settings {
        file: format!("tls_version_min = \"1.3\"\n{}", settings.file),
        ..settings
    };
    let server = Server::with(settings);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let refused = Raw::try_secure(server.secure(), &Arc::new(config), "localhost");
    assert!(
        refused
            .err()
            .unwrap()
            .to_string()
            .contains("ProtocolVersion")
    );
    server.wait_for_log("it offers no version of TLS that is enabled here");
    Raw::secure(server.secure(), &authority.trusting());
}

/// Hands that are shaken by several at once, each again and again. How many, and in what time.
fn flood(address: SocketAddr, trust: &Arc<ClientConfig>, count: usize) -> Duration {
    const AT_ONCE: usize = 8;
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                for _ in 0..count / AT_ONCE {
                    Raw::try_secure(address, trust, "localhost").unwrap();
                }
            });
        }
    });
    began.elapsed()
}

#[test]
fn hands_are_shaken_at_a_rate_and_whoever_runs_goes_on() {
    const PER_SECOND: usize = 10;
    const COUNT: usize = 4 * PER_SECOND;
    // Those of a tenth of a second come at once.
    const TAKES: Duration = Duration::from_millis(3_700);
    let authority = Authority::new();
    let pair = authority.server("ec", &["localhost"]);
    let limits = format!("[limits]\nhandshakes_per_second_max = {PER_SECOND}\n");
    let settings = listener("", &[&pair]).file(&limits);
    let server = Server::with(settings.flags(&["--cores", "1"]));
    let trust = authority.trusting();
    let mut running = Client::over(server.secure(), "/a.bin", Some(&trust));
    running.try_create().assert(200, None);
    let took = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(server.secure(), &trust, COUNT));
        // Meanwhile nobody else waits for a turn.
        running.send_rest(0, 4 << 20, 1 << 20);
        running.close().assert(200, None);
        Client::create(server.address(), "/b.bin")
            .cancel()
            .assert(200, None);
        assert!(!flood.is_finished(), "they had their turns all at once");
        flood.join().unwrap()
    });
    assert!(took >= TAKES, "{took:?}");
    // Silent ones take no turn, and hold next to nothing.
    let silent: Vec<_> = (0..200).map(|_| Raw::connect(server.secure())).collect();
    let began = Instant::now();
    drop(Client::over(server.secure(), "/c.bin", Some(&trust)));
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    drop(silent);
    let faster = server.settings().file.replace(&limits, "");
    server.reload(&faster);
    server.wait_for_log("the settings were reloaded");
    let took = flood(server.secure(), &trust, COUNT);
    assert!(took < TAKES, "{took:?}");
}

/// In case that somebody waits for what never comes.
const FLOOD_MAX: Duration = Duration::from_secs(60);

/// However many of one client's wait for their turn.
#[test]
fn whoever_shakes_hands_without_end_keeps_no_other_client_from_it() {
    let authority = Authority::new();
    let pair = authority.server("ec", &["localhost"]);
    let settings = listener("", &[&pair]).file("[limits]\nhandshakes_per_second_max = 40\n");
    let server = Server::with(settings.flags(&["--cores", "1"]));
    let (address, trust) = (server.secure(), authority.trusting());
    let [many, other] = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
    let is_over = AtomicBool::new(false);
    let heard: Vec<_> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut begun = VecDeque::new();
            let began = Instant::now();
            while !is_over.load(Ordering::Relaxed) && began.elapsed() < FLOOD_MAX {
                // The first byte of a handshake takes a turn.
                let mut raw = Raw::connect_from(many, address);
                raw.send([22]);
                begun.push_back(raw);
                begun.drain(..begun.len().saturating_sub(200));
                thread::sleep(Duration::from_millis(1));
            }
        });
        server.wait_for_log("and the rest is for others");
        let shake = |_| Raw::connect_from(other, address).shake_hands(&trust, "localhost");
        let heard = (0..4).map(|number| shake(number).map(drop)).collect();
        is_over.store(true, Ordering::Relaxed);
        heard
    });
    assert!(heard.iter().all(Result::is_ok), "{heard:?}");
}

#[test]
fn the_log_says_what_a_handshake_came_to_and_what_is_shown() {
    let (server, trust, _authority) = start("");
    let ping = || {
        let mut client = Client::over(server.secure(), "/a.bin", Some(&trust));
        client.ping().assert(200, None);
        client.ping().assert(200, None);
    };
    ping();
    server.wait_for_log("hands_shaken");
    server.wait_for_log("version=\"1.3\" suite=\"TLS13_");
    server.wait_for_log("server_name=\"localhost\" resumed=false");
    ping();
    server.wait_for_log("resumed=true");
    assert!(
        !server.log().contains("credentials_shown"),
        "nobody is asked"
    );
}
