//! Digests of uploads, as the real server computes and tells them.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, FileType, IFlags, Mode};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use support::backend::{Act, Backend};
use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::host::set_flags;
use support::raw::Response;
use support::server::{Server, Settings};

const MIB: u64 = 1 << 20;

/// All of it is logged, and records come each MiB.
fn settings() -> Settings {
    Settings::default()
        .file("digest = [\"sha-256\", \"sha-1\"]\n[limits]\ndigest_step_bytes = \"1 MiB\"")
        .flags(&["--log-level", "debug"])
}

fn assert_digest(answer: &Response, seed: u64, bytes: u64) {
    let digest = STANDARD.encode(Sha256::digest(content(seed, 0, bytes)));
    let expected = format!("sha-256=:{digest}:");
    assert_eq!(answer.field("Repr-Digest"), Some(&*expected));
}

/// The bytes that were read again, by the lines of the log; as many as there are.
fn read_again(server: &Server) -> Vec<u64> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("event=read_again"));
    let bytes = lines.filter_map(|line| line.split("bytes=").nth(1));
    bytes
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_digest_is_told_with_the_last_byte_and_at_the_end() {
    let server = Server::with(settings());
    let mut client = Client::create(server.address(), "/a.bin").seed(7);
    let first = client.send(fragment(0..1000).of(3000));
    assert_eq!((first.received(), first.field("Repr-Digest")), (1000, None));
    // An overlap: what is there already is not seen twice.
    assert_eq!(client.send(fragment(500..2000).of(3000)).received(), 2000);
    for _ in 0..2 {
        assert_digest(&client.send(fragment(2000..3000).of(3000)), 7, 3000);
    }
    assert_digest(&client.close(), 7, 3000);
    // Its client asks again, and hears the same.
    assert_digest(&client.close(), 7, 3000);
    let bytes = content(7, 0, 3000);
    let hex = |digest: &[u8]| -> String { digest.iter().map(|b| format!("{b:02x}")).collect() };
    server.wait_for_log(&format!(
        "sha256=\"{}\" sha1=\"{}\" ending=\"published\"",
        hex(&Sha256::digest(&bytes)),
        hex(&Sha1::digest(&bytes))
    ));
}

#[test]
fn a_published_file_has_its_digest_until_somebody_writes_to_it() {
    let server =
        Server::with(settings().file("[[location]]\nprefix = \"in\"\ndownload = \"head\""));
    std::fs::create_dir(server.file("in")).unwrap();
    let mut client = Client::create(server.address(), "/in/a.bin").seed(4);
    client.send(fragment(0..3000).of(3000));
    client.close();
    let head = || {
        let mut raw = server.connect();
        raw.send("HEAD /in/a.bin HTTP/1.1\r\nHost: h\r\n\r\n");
        raw.receive_head()
    };
    if head().field("Repr-Digest").is_none() {
        support::skip("the file system of the test has no extended attributes");
        return;
    }
    assert_digest(&head(), 4, 3000);
    std::fs::write(server.file("in/a.bin"), "something else").unwrap();
    assert_eq!((head().status, head().field("Repr-Digest")), (200, None));
}

#[test]
fn how_a_session_ended_is_told_with_its_digest_after_restarts_too() {
    let mut server = Server::with(settings());
    let mut client = Client::create(server.address(), "/a.bin").seed(7);
    client.send(fragment(0..3000));
    assert_digest(&client.close(), 7, 3000);
    for _ in 0..2 {
        server.kill9();
        server.restart();
        client.reconnect_to(server.address());
        assert_digest(&client.close(), 7, 3000);
    }
}

/// The settings of a location where files get digest files.
fn with_digest_files(lines: &str) -> Settings {
    let lines = format!("digest = \"sha-256\"\ndigest_file = true\n{lines}");
    Settings::default().file(&lines)
}

/// What `sha256sum -c` says of a digest file.
fn sha256sum(server: &Server, name: &str) -> bool {
    let mut command = Command::new("sha256sum");
    command.args(["-c", "--strict", "--status", name]);
    command
        .current_dir(server.root())
        .status()
        .unwrap()
        .success()
}

#[test]
fn a_digest_file_stands_beside_each_file_and_no_client_can_make_one() {
    let server = Server::with(with_digest_files("create_dirs = true"));
    let mut client = Client::create(server.address(), "/a%20b.bin").seed(7);
    client.send(fragment(0..3000)).assert(200, None);
    assert!(!server.file("a b.bin.sha256").exists());
    client.close().assert(200, None);
    assert!(sha256sum(&server, "a b.bin.sha256"));
    let named = "/new/folder/0123456789.bin";
    let mut client = Client::create(server.address(), named).seed(8);
    client.send(fragment(0..3000)).assert(200, None);
    client.close().assert(200, None);
    let text = std::fs::read_to_string(server.file("new/folder/0123456789.bin.sha256")).unwrap();
    assert!(text.ends_with("  0123456789.bin\n"), "{text}");
    for (path, status) in [("/c.sha256", 400), ("/a.bin.SHA256", 400)] {
        let refused = Client::new(server.address(), path).try_create();
        assert_eq!(refused.status, status, "{path}");
    }
    server.wait_for_log("names that end in .sha256 are those of digest files here (digest_file)");
    // There is no room for the ending.
    let long = format!("/{}", "x".repeat(250));
    assert_eq!(
        Client::new(server.address(), &long).try_create().status,
        400
    );
    server.wait_for_log("with .sha256 behind it, for its digest file (digest_file)");
    std::fs::write(server.file("d.bin.sha256"), "somebody's").unwrap();
    std::fs::create_dir(server.file("e.bin.sha256")).unwrap();
    for path in ["/d.bin", "/e.bin"] {
        let taken = Client::new(server.address(), path).try_create();
        assert_eq!(taken.status, 403, "{path}");
    }
    server.wait_for_log("the name of the digest file beside the destination is taken");
}

#[test]
fn a_name_that_is_taken_meanwhile_costs_the_digest_file_and_not_the_upload() {
    let server = Server::with(with_digest_files(""));
    let mut client = Client::create(server.address(), "/a.bin").seed(7);
    client.send(fragment(0..3000)).assert(200, None);
    std::fs::write(server.file("a.bin.sha256"), "somebody's").unwrap();
    client.close().assert(200, None);
    server.assert_file("a.bin", 7, 3000);
    server.wait_for_log("event=not_given");
    let stays = std::fs::read_to_string(server.file("a.bin.sha256")).unwrap();
    assert_eq!(stays, "somebody's");
}

/// Goal: the same where files may be replaced, for whatever cannot be: the client of a file that is
/// published hears so, once and for all. Method: each is put there after the last byte.
#[test]
fn what_cannot_be_replaced_costs_the_digest_file_and_not_the_upload() {
    let server = Server::with(with_digest_files("allow_overwrite = true"));
    let put = |name: &str, path: &Path| match name {
        "folder" => fs::create_dir(path).unwrap(),
        "pipe" => {
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
        }
        _ => {
            fs::write(path, "somebody's").unwrap();
            set_flags(path, IFlags::IMMUTABLE);
        }
    };
    for name in ["folder", "pipe", "sealed"] {
        let mut client = Client::create(server.address(), &format!("/{name}")).seed(7);
        client.send(fragment(0..3000)).assert(200, None);
        let beside = server.file(&format!("{name}.sha256"));
        put(name, &beside);
        client.close().assert(200, None);
        server.assert_file(name, 7, 3000);
        let is_told = format!("path=\"{name}\"");
        let told = |line: &str| line.contains("event=not_given") && line.contains(&is_told);
        if name == "sealed" {
            set_flags(&beside, IFlags::empty());
            if fs::read(&beside).unwrap() != *b"somebody's" {
                // Nothing can be made immutable here: it was replaced.
                continue;
            }
        }
        support::wait_until("it is told", || server.log().lines().any(told));
    }
    assert!(!server.log().contains("please report"), "{}", server.log());
}

#[test]
fn files_that_may_be_replaced_are_with_their_digest_files() {
    let server = Server::with(with_digest_files(
        "allow_overwrite = true\ndurability = \"none\"",
    ));
    for seed in [1, 2] {
        let mut client = Client::create(server.address(), "/a.bin").seed(seed);
        client.send(fragment(0..3000)).assert(200, None);
        client.close().assert(200, None);
        assert!(sha256sum(&server, "a.bin.sha256"));
    }
}

/// Each gives the file its name, and then the digest file: the last of both must be of one upload.
#[test]
fn two_uploads_of_one_name_leave_one_file_and_its_digest() {
    let server = Server::with(with_digest_files("allow_overwrite = true").flags(&["--cores", "2"]));
    let (address, both_are_there) = (server.address(), Barrier::new(2));
    let upload = |bytes: u64| {
        let mut client = Client::create(address, "/f");
        client.send(fragment(0..bytes)).assert(200, None);
        both_are_there.wait();
        client.close().assert(200, None);
    };
    for round in 0..60 {
        thread::scope(|scope| {
            scope.spawn(|| upload(1_000 + round));
            scope.spawn(|| upload(2_000 + round));
        });
        assert!(sha256sum(&server, "f.sha256"), "round {round}");
    }
}

/// Goal: after a crash between the two, a file has its digest file. Method: the server is killed
/// while clients close, again and again.
#[test]
fn after_kills_no_digest_file_is_missing_and_none_is_wrong() {
    let mut server = Server::with(with_digest_files("create_dirs = true"));
    for life in 0..4 {
        let address = server.address();
        let clients: Vec<_> = (0..8)
            .map(|number| {
                thread::spawn(move || {
                    let path = format!("/life-{life}/{number}.bin");
                    let mut client = Client::create(address, &path).seed(number);
                    client.send(fragment(0..5_000)).assert(200, None);
                    let _cut = client.try_close();
                })
            })
            .collect();
        let is_published = |server: &Server| {
            let folder = std::fs::read_dir(server.file(&format!("life-{life}")));
            folder.is_ok_and(|mut names| names.next().is_some())
        };
        support::wait_until("a file is published", || is_published(&server));
        server.kill9();
        clients.into_iter().for_each(|client| drop(client.join()));
        server.restart();
        let names = std::fs::read_dir(server.file(&format!("life-{life}"))).unwrap();
        let names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        for name in names.iter().filter(|name| name.ends_with(".bin")) {
            let name = format!("life-{life}/{name}.sha256");
            support::wait_until("the digest file is made", || server.file(&name).exists());
        }
        let mut command = Command::new("sh");
        command.args(["-c", "sha256sum -c --strict --quiet *.sha256"]);
        command.current_dir(server.file(&format!("life-{life}")));
        assert!(command.status().unwrap().success(), "{names:?}");
    }
    // One that was made before the kill is found to be there by making it once more.
    support::wait_until("no digest file is left in the work directory", || {
        let mut left = std::fs::read_dir(server.file(".bitsd")).unwrap();
        !left.any(|entry| entry.unwrap().path().extension() == Some("sha256".as_ref()))
    });
}

#[test]
fn nothing_is_said_where_nothing_is_asked_for() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let last = client.send(fragment(0..30).of(30));
    assert_eq!((last.received(), last.field("Repr-Digest")), (30, None));
    assert_eq!(client.close().field("Repr-Digest"), None);
}

#[test]
fn what_came_after_the_newest_record_is_read_again_after_a_kill() {
    let mut server = Server::with(settings());
    let total = 6 * MIB;
    let mut client = Client::create(server.address(), "/a.bin").seed(3);
    let received = 3 * MIB + 5000;
    assert_eq!(
        client.send(fragment(0..received).of(total)).received(),
        received
    );
    server.kill9();
    server.restart_with(server.settings().flags(&["--cores", "3"]));
    client.reconnect_to(server.address());
    assert_digest(&client.send(fragment(received..total).of(total)), 3, total);
    server.wait_for_log("event=read_again");
    let bytes = read_again(&server);
    // A record, and at most one block beyond the step.
    assert!(
        bytes.iter().all(|bytes| *bytes <= MIB + MIB / 2),
        "{bytes:?}"
    );
    client.close();
    server.assert_file("a.bin", 3, total);
}

#[test]
fn nothing_is_read_again_after_a_stop_in_order() {
    let mut server = Server::with(settings());
    let mut client = Client::create(server.address(), "/a.bin").seed(5);
    assert_eq!(client.send(fragment(0..5000).of(9000)).received(), 5000);
    server.stop();
    server.restart();
    client.reconnect_to(server.address());
    assert_digest(&client.send(fragment(5000..9000).of(9000)), 5, 9000);
    client.close();
    server.wait_for_log("event=session_ended");
    assert_eq!(read_again(&server), Vec::<u64>::new());
}

#[test]
fn digests_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for words in ["[\"sha-1\"]", "[\"none\", \"sha-256\"]", "\"md5\"", "[]"] {
        let settings = Settings::default().file(&format!("digest = {words}"));
        let (_, said) = Server::refused(folder.path(), &settings);
        assert!(said.contains("digest"), "{words}: {said}");
    }
}

#[test]
fn an_application_hears_the_digest() {
    let backend = Backend::always(Act::status(200));
    let url = backend.url("/app");
    let lines = format!("notification_type = \"by-reference\"\nnotification_url = \"{url}\"\n");
    let mut server = Server::with(Settings::default().file(&(lines + "digest = \"sha-256\"")));
    let mut client = Client::create(server.address(), "/a.bin").seed(2);
    assert_digest(&client.send(fragment(0..3000).of(3000)), 2, 3000);
    let digest = STANDARD.encode(Sha256::digest(content(2, 0, 3000)));
    let digest = format!("sha-256=:{digest}:");
    let heard = &backend.heard()[0];
    assert_eq!(heard.field("Repr-Digest"), Some(&*digest));
    // Its client hears it too, though the application has the file: also once more, and after a
    // restart.
    assert_eq!(client.close().field("Repr-Digest"), Some(&*digest));
    assert_eq!(client.close().field("Repr-Digest"), Some(&*digest));
    server.restart();
    client.reconnect_to(server.address());
    assert_eq!(client.close().field("Repr-Digest"), Some(&*digest));
}

/// Goal: a large file that its application leaves alone is not read again at its Close. Method: it
/// is told of at once, in the step of the clock in which the last byte came, and the log is asked.
#[test]
fn what_an_application_leaves_alone_is_not_read_again() {
    let backend = Backend::always(Act::fields("BITS-Copy-File-To-Destination: true\r\n"));
    let url = backend.url("/app");
    let lines = format!(
        "notification_type = \"by-reference\"\nnotification_url = \"{url}\"\n\
         digest = \"sha-256\"\ndurability = \"none\"\n"
    );
    let settings = Settings::default().file(&lines);
    let server = Server::with(settings.flags(&["--log-level", "debug"]));
    for round in 0..5 {
        let mut client = Client::create(server.address(), &format!("/{round}.bin")).seed(2);
        assert_digest(&client.send(fragment(0..3000).of(3000)), 2, 3000);
        assert_digest(&client.close(), 2, 3000);
        server.wait_for_log(&format!("path=\"{round}.bin\""));
    }
    assert_eq!(read_again(&server), [0_u64; 0]);
}

/// Goal: what is told is true of the file that is published. Method: an application writes into it,
/// or puts another one of its size in its place, at once: in the same step of the clock.
#[test]
fn what_an_application_has_changed_is_told_with_its_own_digest() {
    for is_replaced in [false, true] {
        let backend = Backend::always(match is_replaced {
            true => Act::ReplaceFile(vec![7; 3000]),
            false => Act::ChangeFile(b"changed".to_vec()),
        });
        let url = backend.url("/app");
        let lines = format!(
            "notification_type = \"by-reference\"\nnotification_url = \"{url}\"\n\
             digest = \"sha-256\"\ndigest_file = true\ndownload = \"head\"\n"
        );
        let server = Server::with(Settings::default().file(&lines));
        let mut client = Client::create(server.address(), "/a.bin").seed(2);
        // Whoever has sent it compares.
        assert_digest(&client.send(fragment(0..3000).of(3000)), 2, 3000);
        let closed = client.close();
        let file = std::fs::read(server.file("a.bin")).unwrap();
        let mut expected = content(2, 0, 3000);
        match is_replaced {
            true => expected.fill(7),
            false => expected[..7].copy_from_slice(b"changed"),
        }
        assert!(file == expected);
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&file)));
        assert_eq!(closed.field("Repr-Digest"), Some(&*digest));
        assert!(sha256sum(&server, "a.bin.sha256"));
        let mut raw = server.connect();
        raw.send("HEAD /a.bin HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = raw.receive_head();
        assert!(head.field("Repr-Digest").is_none_or(|told| told == digest));
        server.wait_for_log("event=file_changed");
    }
}

/// Goal: nobody's bytes but the client's are published. Method: somebody writes into the part of an
/// upload, over a stop in order too, and the client goes on.
#[test]
fn a_part_that_somebody_has_changed_is_sent_once_more() {
    let part = |server: &Server, client: &Client| {
        let session = client.session().trim_matches(['{', '}']).to_owned();
        server.file(&format!(".bitsd/{session}.part"))
    };
    let change = |path: &std::path::Path| {
        // Not in the step of the clock in which the server has written.
        thread::sleep(std::time::Duration::from_millis(30));
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(b"changed").unwrap();
    };
    let mut server = Server::with(settings());
    for is_restarted in [false, true] {
        let mut client = Client::create(server.address(), "/a.bin").seed(6);
        client
            .send(fragment(0..2 * MIB).of(3 * MIB))
            .assert(200, None);
        if is_restarted {
            server.stop();
        }
        change(&part(&server, &client));
        if is_restarted {
            server.restart();
            client.reconnect_to(server.address());
        }
        let gone = Some(SESSION_NOT_FOUND);
        client
            .send(fragment(2 * MIB..3 * MIB).of(3 * MIB))
            .assert(500, gone);
        server.wait_for_log("somebody has changed an unfinished upload");
        // The whole file is not what came, either.
        let mut client = Client::create(server.address(), "/b.bin").seed(6);
        assert_digest(&client.send(fragment(0..MIB).of(MIB)), 6, MIB);
        change(&part(&server, &client));
        client.close().assert(500, gone);
        assert!(!server.file("b.bin").exists());
    }
    // Who only looks at it, or gives it other rights, has changed nothing.
    let mut client = Client::create(server.address(), "/c.bin").seed(6);
    client.send(fragment(0..MIB).of(MIB));
    let path = part(&server, &client);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert_digest(&client.close(), 6, MIB);
    server.assert_file("c.bin", 6, MIB);
}

/// Goal: what makes a file doubtful outlives a restart, however far it was read again. Method:
/// somebody changes an unfinished part, or only touches it; its client hangs up while it is read
/// again, sooner or later each time, and the server is stopped in order, or killed.
#[test]
fn what_is_read_again_stays_doubtful_over_restarts() {
    const RECEIVED: u64 = 40 * MIB;
    const TOTAL: u64 = RECEIVED + MIB;
    let mut server = Server::with(settings().file("shutdown_ms_max = 1"));
    for is_changed in [true, false] {
        let mut client = Client::create(server.address(), "/a.bin").seed(6);
        let all = |range: std::ops::Range<u64>| fragment(range).of(TOTAL);
        for start in (0..RECEIVED).step_by(4 << 20) {
            client.send(all(start..start + 4 * MIB)).assert(200, None);
        }
        // So that a record says how it was left.
        server.stop();
        let part = server.part(client.session());
        let mut file = std::fs::OpenOptions::new().write(true).open(part).unwrap();
        file.write_all(if is_changed { b"changed" } else { &[] })
            .unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        server.restart();
        for (hang_up_after_ms, is_killed) in [(0, false), (5, true), (20, false), (60, true)] {
            client.reconnect_to(server.address());
            client.send_head(&all(RECEIVED..TOTAL));
            // How far it comes meanwhile is different each time, and changes nothing.
            thread::park_timeout(Duration::from_millis(hang_up_after_ms));
            let _ = client.raw.socket().shutdown(Shutdown::Both);
            match is_killed {
                true => server.kill9(),
                false => server.stop(),
            }
            server.restart();
        }
        client.reconnect_to(server.address());
        let last = client.send(all(RECEIVED..TOTAL));
        if is_changed {
            last.assert(500, Some(SESSION_NOT_FOUND));
        } else {
            assert_digest(&last, 6, TOTAL);
            client.close().assert(200, None);
            server.assert_file("a.bin", 6, TOTAL);
        }
    }
}

/// The same of a whole file that its application has changed: it is told with its own digest.
#[test]
fn what_an_application_has_changed_is_found_after_a_restart_too() {
    const BYTES: u64 = 40 * MIB;
    let backend = Backend::always(Act::ChangeFile(b"changed".to_vec()));
    let url = backend.url("/app");
    let lines = format!(
        "notification_type = \"by-reference\"\nnotification_url = \"{url}\"\n\
         digest = \"sha-256\"\n[limits]\nshutdown_ms_max = 1\n"
    );
    let mut server = Server::with(Settings::default().file(&lines));
    let mut client = Client::create(server.address(), "/a.bin").seed(2);
    client.send_rest(0, BYTES, 4 * MIB);
    let mut expected = content(2, 0, BYTES);
    expected[..7].copy_from_slice(b"changed");
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&expected)));
    for (hang_up_after_ms, is_killed) in [(0, false), (20, true), (60, false)] {
        let close = format!(
            "BITS_POST /a.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Close-Session\r\n\
             BITS-Session-Id: {}\r\nContent-Length: 0\r\n\r\n",
            client.session()
        );
        client.raw.send(close);
        thread::park_timeout(Duration::from_millis(hang_up_after_ms));
        let _ = client.raw.socket().shutdown(Shutdown::Both);
        match is_killed {
            true => server.kill9(),
            false => server.stop(),
        }
        server.restart();
        client.reconnect_to(server.address());
    }
    let closed = client.close();
    assert_eq!(closed.field("Repr-Digest"), Some(&*digest));
    assert!(std::fs::read(server.file("a.bin")).unwrap() == expected);
}

/// Goal: what a network changes is found by whoever sent it. Method: something between `bitsd put`
/// and the server changes one byte of the body.
#[test]
fn put_fails_loudly_where_something_else_arrives() {
    let server = Server::with(settings());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    std::fs::write(&file, content(9, 0, 100_000)).unwrap();
    let put = |address: SocketAddr, name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["put", "--quiet"]).arg(&file);
        command.arg(format!("http://{address}/{name}"));
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.output().unwrap()
    };
    assert!(put(server.address(), "straight.bin").status.success());
    server.assert_file("straight.bin", 9, 100_000);
    let changer = changer(server.address());
    let output = put(changer, "changed.bin");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("what arrived is not what was sent"), "{said}");
    server.wait_for_log("ending=\"cancelled\"");
    assert!(!server.file("changed.bin").exists());
}

/// An address that passes everything on, but for one byte of what is sent on each connection.
fn changer(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut up = TcpStream::connect(server).unwrap();
            let (mut back, mut down) = (client.try_clone().unwrap(), up.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut down, &mut back));
            thread::spawn(move || {
                let (mut block, mut at) = ([0; 4096], 0);
                while let Ok(read) = client.read(&mut block)
                    && read > 0
                {
                    let changed = 50_000_usize.checked_sub(at);
                    if let Some(byte) = changed.and_then(|at| block[..read].get_mut(at)) {
                        *byte ^= 1;
                    }
                    at += read;
                    if up.write_all(&block[..read]).is_err() {
                        return;
                    }
                }
                let _ = up.shutdown(Shutdown::Write);
            });
        }
    });
    address
}
