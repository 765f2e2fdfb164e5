//! Files that go into an object store, by the real binary and a store that speaks S3, over a proxy
//! that loses, delays and makes up answers.
#![cfg(feature = "s3")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use support::backend::{Act, Backend};
use support::bucket::{BUCKET, CREDENTIALS, Fate, Moto, Proxy, close_at_last, leftovers, sent};
use support::client::{Client, DISK_FULL, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::host::folder_in_memory;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// Three parts of a large file.
const LARGE: u64 = 12 << 20;
const SMALL: u64 = 70_000;

/// A store, and a proxy before it.
struct Store {
    moto: Moto,
    proxy: Proxy,
}

impl Store {
    fn start() -> Option<Self> {
        let Some(moto) = Moto::start() else {
            skip("there is no moto_server (PyPI: moto[server])");
            return None;
        };
        let proxy = Proxy::start(moto.address);
        Some(Self { moto, proxy })
    }

    fn settings(&self, more: &str) -> Settings {
        Settings::default().wrapper(CREDENTIALS).file(&format!(
            "store = \"s3\"\nstore_bucket = \"{BUCKET}\"\nstore_endpoint = \"http://{}\"\n\
             store_path_style = true\nstore_part_bytes = \"5MiB\"\ncreate_dirs = true\n{more}",
            self.proxy.address
        ))
    }

    /// The exit code of a check by these settings, and what it says.
    fn check(&self, more: &str) -> (i32, String) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let file = folder.path().join("bitsd.toml");
        fs::create_dir(&root).unwrap();
        fs::write(&file, self.settings(more).file).unwrap();
        let mut words = CREDENTIALS.iter();
        let output = Command::new(words.next().unwrap())
            .args(words)
            .arg(env!("CARGO_BIN_EXE_bitsd"))
            .args([
                "check",
                "--listen",
                "127.0.0.1:0",
                "--cores",
                "1",
                "--config",
            ])
            .arg(&file)
            .arg("--root")
            .arg(&root)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    /// The object is there, whole, and bears its session; nothing else is left.
    #[track_caller]
    fn assert_object(&self, server: &Server, key: &str, session: &str, bytes: u64) {
        let object = self.moto.object(key).expect("the object is there");
        assert!(object.body == content(1, 0, bytes), "{key} differs");
        let mark = session.trim_matches(['{', '}']).to_lowercase();
        let field = format!("x-amz-meta-bitsd-session: {mark}");
        assert!(object.head.contains(&field), "{}", object.head);
        self.assert_nothing_is_left(server);
    }

    #[track_caller]
    fn assert_nothing_is_left(&self, server: &Server) {
        wait_until("no upload is left", || self.moto.uploads() == 0);
        wait_until("no note and no part is left", || {
            leftovers(server).is_empty()
        });
    }
}

/// By a function that moves each new object, say. The file is acknowledged once, and sent once.
#[test]
fn an_object_that_somebody_takes_as_it_comes_is_not_put_again() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    let mut client = sent(&server, "/in/small.bin", SMALL);
    store.proxy.rule(|_, line| match line.starts_with("PUT ") {
        true => Fate::TakeAway,
        false => Fate::Pass,
    });
    client.close().assert(200, None);
    let lines = store.proxy.lines();
    let put = lines.iter().filter(|line| line.starts_with("PUT "));
    assert_eq!(put.count(), 1, "{lines:?}");
    assert_eq!(leftovers(&server), [""; 0]);
}

/// Goal: a check ends in time however many stores do not answer, and says which it has not asked;
/// where an answer was lost it leaves nothing behind.
#[test]
fn a_check_is_bounded_and_leaves_nothing_at_a_store() {
    let Some(store) = Store::start() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let locations: String = (0..20)
        .map(|number| {
            format!(
                "[[location]]\nprefix = \"{number}\"\nstore_bucket = \"bucket-{number}\"\n\
                 store_endpoint = \"http://{address}\"\n"
            )
        })
        .collect();
    let began = Instant::now();
    let (code, said) = store.check(&locations);
    assert!(began.elapsed() < Duration::from_secs(40), "{said}");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no answer in time"), "{said}");
    assert!(said.matches("it was not asked").count() >= 4, "{said}");

    store.proxy.rule(|number, line| match (number, line) {
        (1, line) if line.starts_with("PUT ") => Fate::LoseAnswer,
        _ => Fate::Pass,
    });
    let (_, said) = store.check("");
    assert!(said.contains("cannot be tried"), "{said}");
    assert_eq!(store.moto.objects(), 0, "{said}");
}

/// Whoever has given no credentials hears so, and where they are looked for.
#[test]
fn a_check_without_credentials_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bitsd.toml");
    let store =
        "store = \"s3\"\nstore_bucket = \"uploads\"\nstore_endpoint = \"http://127.0.0.1:1\"\n";
    fs::write(&file, store).unwrap();
    let metadata = |word| format!("AWS_EC2_METADATA_DISABLED={word}");
    for metadata in [metadata("true"), metadata("false")] {
        let checked = Command::new("env")
            .args(["-i", "AWS_CONFIG_FILE=/dev/null", &metadata])
            .arg("AWS_SHARED_CREDENTIALS_FILE=/dev/null")
            // Where metadata would be, nobody listens.
            .arg("AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1/")
            .arg(env!("CARGO_BIN_EXE_bitsd"))
            .args(["check", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--root")
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        let told =
            "cannot be tried: no AWS credentials were found (looked for in AWS_ACCESS_KEY_ID";
        assert!(said.contains(told) && !said.contains(".;"), "{said}");
    }
}

#[test]
fn files_of_every_size_and_name_become_objects() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    for (path, key, bytes) in [
        ("/in/small.bin", "in/small.bin", SMALL),
        ("/in/one.bin", "in/one.bin", 1),
        ("/in/part.bin", "in/part.bin", 5 << 20),
        ("/in/large.bin", "in/large.bin", LARGE),
        (
            "/a%20b/c+d%25e/%C3%BC%E2%82%AC.bin",
            "a%20b/c%2Bd%25e/%C3%BC%E2%82%AC.bin",
            LARGE,
        ),
        ("/=&;$!'(),.bin", "%3D%26%3B%24%21%27%28%29%2C.bin", SMALL),
    ] {
        let mut client = sent(&server, path, bytes);
        client.close().assert(200, None);
        let session = client.session().to_owned();
        store.assert_object(&server, key, &session, bytes);
        // Also the repeated packet, from memory.
        client.close().assert(200, None);
    }
    assert_eq!(store.moto.objects(), 6, "the probe is gone");
}

#[test]
fn an_object_that_stands_there_stays() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    for (name, bytes) in [("small", SMALL), ("large", LARGE)] {
        store
            .moto
            .ask("PUT", &format!("/{BUCKET}/in/{name}"), b"theirs");
        let mut client = sent(&server, &format!("/in/{name}"), bytes);
        client.close().assert(403, Some("0x80070005"));
        assert_eq!(
            store.moto.object(&format!("in/{name}")).unwrap().body,
            b"theirs"
        );
        client.cancel().assert(200, None);
        store.assert_nothing_is_left(&server);
    }
    let mut settings = store.settings("allow_overwrite = true");
    settings.flags = server.settings().flags;
    let server = Server::with(settings);
    let mut client = sent(&server, "/in/large", LARGE);
    client.close().assert(200, None);
    let session = client.session().to_owned();
    store.assert_object(&server, "in/large", &session, LARGE);
}

/// A server with such settings, and what `bitsd` says when it asks it.
fn with_socket(store: &Store, lines: &str) -> (impl Fn(&[&str]) -> Output, Server) {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let lines = format!("{lines}\nadmin_socket = {socket:?}");
    let server = Server::with(store.settings(&lines));
    let ask = move |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command
            .args(words)
            .arg("--socket")
            .arg(place.path().join("socket"))
            .output()
            .unwrap()
    };
    (ask, server)
}

/// A client that hears only that the work goes on, and has it done anew each time it comes back,
/// would never hear its end: here the answer of the store comes later than clients wait.
#[test]
fn a_client_that_was_put_off_hears_what_came_of_it() {
    let Some(store) = Store::start() else { return };
    let (ask, server) = with_socket(&store, "store_wait = \"1s\"");
    let is_closing = || {
        let listed = ask(&["sessions", "list", "--json", "--state", "closing"]);
        assert!(listed.status.success(), "{listed:?}");
        !listed.stdout.is_empty()
    };
    for (name, bytes, slow) in [("small", SMALL, "PUT"), ("large", LARGE, "POST")] {
        let theirs = format!("/{BUCKET}/{name}");
        store.moto.ask("PUT", &theirs, b"theirs");
        let mut client = sent(&server, &format!("/{name}"), bytes);
        store
            .proxy
            .rule(move |_, line| match line.starts_with(slow) {
                true => Fate::Delay(1_500),
                false => Fate::Pass,
            });
        let asked = |word: &str| {
            let lines = store.proxy.lines();
            lines.iter().filter(|line| line.starts_with(word)).count()
        };
        client.close().assert(503, None);
        wait_until("the store has refused it", || !is_closing());
        let sent_before = asked(slow);
        client.close().assert(403, Some("0x80070005"));
        assert_eq!(asked(slow), sent_before, "it was sent again");
        client.cancel().assert(200, None);
        store.assert_nothing_is_left(&server);
    }
}

/// Each file has a job of its own with pauses of its own, and the older one could come last.
#[test]
fn the_object_is_of_the_file_that_was_acked_last() {
    let Some(store) = Store::start() else { return };
    let busy = |_, line: &str| match line.starts_with("PUT") || line.starts_with("POST") {
        true => Fate::Say(503, "SlowDown"),
        false => Fate::Pass,
    };
    for (ack, first_hears, restarts) in [
        ("staged", 200, false),
        ("staged", 200, true),
        ("object", 503, false),
        ("object", 503, true),
    ] {
        let more = format!("store_ack = \"{ack}\"\nstore_wait = \"1s\"\nallow_overwrite = true");
        let mut server = Server::with(store.settings(&more));
        store.proxy.rule(busy);
        let name = format!("{ack}-{restarts}");
        let (older, newer) = (SMALL, SMALL + 1);
        let mut first = sent(&server, &format!("/{name}"), older);
        first.close().assert(first_hears, None);
        if restarts {
            server.restart();
        }
        let mut second = sent(&server, &format!("/{name}"), newer);
        second.close().assert(503, None);
        store.proxy.rule(|_, _| Fate::Pass);
        close_at_last(&mut second, &server);
        close_at_last(&mut first, &server);
        let session = second.session().to_owned();
        let is_newer = || {
            let object = store.moto.object(&name);
            object.is_some_and(|object| object.body.len() as u64 == newer)
        };
        wait_until("the object is the newer one", is_newer);
        store.assert_object(&server, &name, &session, newer);
    }
}

/// Each answer is lost once, and each request; nothing of that is heard by a client as an end.
#[test]
fn a_lost_request_or_answer_costs_nothing_but_time() {
    let Some(store) = Store::start() else { return };
    for more in ["allow_overwrite = true", "store_no_replace = \"look\""] {
        let server = Server::with(store.settings(more));
        for bytes in [SMALL, LARGE] {
            for lost in 1..=7 {
                for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
                    let is_answer = matches!(fate, Fate::LoseAnswer);
                    let name = format!("{bytes}-{lost}-{is_answer}-{}", more.len());
                    store.proxy.rule(move |number, _| match number == lost {
                        true => fate.clone(),
                        false => Fate::Pass,
                    });
                    let mut client = sent(&server, &format!("/{name}"), bytes);
                    client.close().assert(200, None);
                    let session = client.session().to_owned();
                    store.assert_object(&server, &name, &session, bytes);
                }
            }
        }
    }
}

/// The store is killed between the parts, or nobody can read what it says of them.
#[test]
fn parts_that_nobody_can_list_are_sent_again() {
    let Some(store) = Store::start() else { return };
    store.proxy.spoil_lists();
    let mut server = Server::with(store.settings("allow_overwrite = true"));
    store
        .proxy
        .rule(|_, line| match line.contains("partNumber=3") {
            true => Fate::Hang,
            false => Fate::Pass,
        });
    let mut client = sent(&server, "/again.bin", LARGE);
    let session = client.session().to_owned();
    thread::scope(|scope| {
        scope.spawn(|| client.try_close());
        wait_until("the last part is on its way", || {
            (store.proxy.lines().iter()).any(|line| line.contains("partNumber=3"))
        });
        server.kill9();
    });
    store.proxy.rule(|_, _| Fate::Pass);
    server.restart();
    close_at_last(&mut client, &server);
    store.assert_object(&server, "again.bin", &session, LARGE);
}

/// The server is killed while the store holds back the answer to each request in turn, which was
/// carried out or was not.
#[test]
fn a_server_that_is_killed_at_any_step_goes_on() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("allow_overwrite = true"));
    for (bytes, ahead) in [(SMALL, true), (LARGE, true), (LARGE, false)] {
        let mut settings =
            store.settings(&format!("allow_overwrite = true\nstore_ahead = {ahead}"));
        settings.flags = server.settings().flags;
        server.stop();
        server.restart_with(settings);
        for at in 1..=6 {
            let name = format!("{bytes}-{ahead}-{at}");
            let session = store
                .proxy
                .upload_over_a_kill(&mut server, &name, bytes, at);
            store.assert_object(&server, &name, &session, bytes);
        }
    }
}

#[test]
fn the_ack_comes_after_the_object_and_never_before() {
    let Some(mut store) = Store::start() else {
        return;
    };
    let server = Server::with(store.settings("store_wait = \"1s\"\nallow_overwrite = true"));
    // The store is gone between the last part and what makes an object of them.
    store.proxy.rule(
        |_, line| match line.starts_with("POST") && line.contains("uploadId=") {
            true => Fate::LoseRequest,
            false => Fate::Pass,
        },
    );
    let mut client = sent(&server, "/late.bin", LARGE);
    client.close().assert(503, None);
    assert!(store.moto.object("late.bin").is_none());
    assert_eq!(server.work_files().len(), 1, "the file is still here");
    // It comes back, and has forgotten everything.
    let address = store.moto.address;
    store.moto.kill9();
    store.moto = Moto::at(address).unwrap();
    store.proxy.rule(|_, _| Fate::Pass);
    close_at_last(&mut client, &server);
    let session = client.session().to_owned();
    store.assert_object(&server, "late.bin", &session, LARGE);
}

/// An order does not wait for a store, which may take hours, and a Close that waits is answered.
#[test]
fn an_order_about_a_file_on_its_way_to_a_store_waits_for_nothing() {
    let Some(store) = Store::start() else { return };
    let lines = "store_wait = \"1m\"\nallow_overwrite = true";
    let (ask, server) = with_socket(&store, lines);
    store.proxy.rule(|_, line| match line.starts_with("PUT") {
        true => Fate::Delay(20_000),
        false => Fate::Pass,
    });
    let mut client = sent(&server, "/slow.bin", LARGE);
    let session = client.session().to_owned();
    let order = |what: &str| {
        let began = Instant::now();
        let output = ask(&["sessions", what, session.trim_matches(['{', '}'])]);
        assert!(
            began.elapsed() < Duration::from_secs(16),
            "{what}: {output:?}"
        );
        output
    };
    let closing = thread::spawn(move || {
        client.close().assert(503, None);
        client
    });
    let is_on_its_way = || {
        let lines = store.proxy.lines();
        lines.iter().any(|line| line.starts_with("PUT"))
    };
    wait_until("a part is on its way", is_on_its_way);
    // Time does not end what is not its client's any more.
    let said = String::from_utf8(order("expire").stderr).unwrap();
    assert!(said.contains("on its way to an object store"), "{said}");
    let mut client = closing.join().unwrap();
    let cancelled = order("cancel");
    assert!(cancelled.status.success(), "{cancelled:?}");
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    store.assert_nothing_is_left(&server);
    assert!(store.moto.object("slow.bin").is_none());
}

/// Nobody closes again: the work goes on, and its end is taken note of.
#[test]
fn a_client_that_does_not_come_back_has_its_object_all_the_same() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings("store_wait = \"1s\"\nallow_overwrite = true"));
    store.proxy.rule(|number, _| match number {
        1 => Fate::Delay(4_000),
        _ => Fate::Pass,
    });
    let mut client = sent(&server, "/slow.bin", SMALL);
    let session = client.session().to_owned();
    client.close().assert(503, None);
    store.assert_object_at_last(&server, "slow.bin", &session, SMALL);
    server.wait_for_log("session_ended");
    client.close().assert(200, None);
}

impl Store {
    #[track_caller]
    fn assert_object_at_last(&self, server: &Server, key: &str, session: &str, bytes: u64) {
        wait_until("the object is there", || self.moto.object(key).is_some());
        self.assert_object(server, key, session, bytes);
    }
}

#[test]
fn a_staged_file_is_acked_at_once_and_gets_there_whatever_happens() {
    let Some(store) = Store::start() else { return };
    let more = "store_ack = \"staged\"\nallow_overwrite = true";
    let mut server = Server::with(store.settings(more));
    for (bytes, fate) in [
        (SMALL, Fate::LoseRequest),
        (LARGE, Fate::LoseAnswer),
        (LARGE, Fate::Say(403, "ExpiredToken")),
        (SMALL, Fate::Say(404, "NoSuchBucket")),
        (LARGE, Fate::Say(507, "InsufficientStorage")),
    ] {
        let name = format!("{fate:?}-{bytes}").replace([' ', '(', ')', '"', ','], "");
        store.proxy.rule(move |_, _| fate.clone());
        let mut client = sent(&server, &format!("/{name}"), bytes);
        let session = client.session().to_owned();
        client.close().assert(200, None);
        client.close().assert(200, None);
        // It was promised: nobody can take it back.
        client.cancel().assert(500, Some("0x8020001F"));
        server.restart();
        client.reconnect_to(server.address());
        client.close().assert(200, None);
        store.proxy.rule(|_, _| Fate::Pass);
        store.assert_object_at_last(&server, &name, &session, bytes);
    }
}

/// Somebody has put an object there while the file of a promised upload waited for its store. It
/// goes on waiting, is listed, and keeps no other upload away: the store is well.
#[test]
fn a_promised_file_whose_name_is_taken_waits_and_keeps_nobody_away() {
    let Some(store) = Store::start() else { return };
    let (ask, server) = with_socket(&store, "store_ack = \"staged\"");
    let said = |words: &[&str]| String::from_utf8(ask(words).stdout).unwrap();
    store.proxy.rule(|_, _| Fate::Say(503, "SlowDown"));
    let mut client = sent(&server, "/a.bin", SMALL);
    let session = client.session().to_owned();
    store
        .moto
        .ask("PUT", &format!("/{BUCKET}/a.bin"), b"theirs");
    client.close().assert(200, None);
    wait_until("the store is told to be away", || {
        said(&["status"]).contains("takes nothing")
    });
    store.proxy.rule(|_, _| Fate::Pass);
    wait_until("new uploads are taken", || {
        said(&["status"]).contains("new uploads are taken")
    });
    let listed = said(&["sessions", "list", "--state", "closing"]);
    assert!(listed.contains("a.bin"), "{listed}");
    server.wait_for_log("another object has that name");
    store.moto.ask("DELETE", &format!("/{BUCKET}/a.bin"), b"");
    store.assert_object_at_last(&server, "a.bin", &session, SMALL);
}

/// Its location has lost its store, and the folder is not there or the name is taken: by a start as
/// by a reload, the file gets its name when that is mended, and the log says what it waits for.
#[test]
fn a_promised_file_without_a_store_waits_for_its_folder_and_its_name() {
    let Some(store) = Store::start() else { return };
    let settings = |kind: &str| {
        let more = "store_ack = \"staged\"\n[[location]]\nprefix = \"in\"\ncreate_dirs = false";
        let settings = store.settings(more);
        let file = settings
            .file
            .replace("store = \"s3\"", &format!("store = \"{kind}\""));
        Settings { file, ..settings }
    };
    for is_taken in [false, true] {
        store.proxy.rule(|_, _| Fate::Pass);
        let mut server = Server::with(settings("s3"));
        store.proxy.rule(takes_nothing);
        let mut client = sent(&server, "/in/a.bin", SMALL);
        client.close().assert(200, None);
        server.kill9();
        let (folder, file) = (server.file("in"), server.file("in/a.bin"));
        if is_taken {
            fs::create_dir(&folder).unwrap();
            fs::write(&file, b"theirs").unwrap();
        }
        server.restart_with(settings("none"));
        server.wait_for_log("event=staged_unnamed");
        let log = server.log();
        let line = log.lines().find(|line| line.contains("staged_unnamed"));
        let line = line.unwrap();
        assert!(line.contains("level=WARN"), "{line}");
        assert!(line.contains("path=\"in/a.bin\""), "{line}");
        assert!(line.contains("remedy="), "{line}");
        match is_taken {
            true => fs::remove_file(&file).unwrap(),
            false => fs::create_dir(&folder).unwrap(),
        }
        wait_until("the file has its name", || file.exists());
        assert!(fs::read(&file).unwrap() == content(1, 0, SMALL));
        client.reconnect_to(server.address());
        client.close().assert(200, None);
        store.assert_nothing_is_left(&server);
    }
}

#[test]
fn an_upload_that_is_cancelled_leaves_nothing_at_the_store() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("store_wait = \"1s\"\nallow_overwrite = true"));
    for restarts in [false, true] {
        // The last part never gets there.
        store
            .proxy
            .rule(|_, line| match line.contains("partNumber=3") {
                true => Fate::LoseRequest,
                false => Fate::Pass,
            });
        let mut client = sent(&server, "/never.bin", LARGE);
        client.close().assert(503, None);
        wait_until("an upload was begun", || store.moto.uploads() == 1);
        // Nor does its end, for a while.
        store
            .proxy
            .rule(|_, line| match line.starts_with("DELETE") {
                true => Fate::LoseRequest,
                false => Fate::Pass,
            });
        client.cancel().assert(200, None);
        wait_until("its end was asked for", || {
            store
                .proxy
                .lines()
                .iter()
                .any(|line| line.starts_with("DELETE"))
        });
        if restarts {
            server.restart();
        }
        store.proxy.rule(|_, _| Fate::Pass);
        store.assert_nothing_is_left(&server);
        assert!(store.moto.object("never.bin").is_none());
    }
}

#[test]
fn what_the_store_refuses_is_told_and_can_be_mended() {
    let Some(store) = Store::start() else { return };
    let more = "store_wait = \"3s\"\nallow_overwrite = true";
    let server = Server::with(store.settings(more));
    for (fate, reason) in [
        (Fate::Say(403, "ExpiredToken"), "does not take"),
        (Fate::Say(404, "NoSuchBucket"), "does not take"),
        (Fate::Say(503, "SlowDown"), "not taken the file yet"),
        (
            Fate::Say(507, "InsufficientStorage"),
            "not taken the file yet",
        ),
    ] {
        let code = format!("{fate:?}").split('"').nth(1).unwrap().to_owned();
        for bytes in [SMALL, LARGE] {
            let name = format!("{code}-{bytes}");
            let fate = fate.clone();
            store.proxy.rule(move |_, _| fate.clone());
            let mut client = sent(&server, &format!("/{name}"), bytes);
            let response = client.close();
            response.assert(503, None);
            let told = response.field("Bitsd-Reason").unwrap();
            assert!(told.contains(reason), "{told:?}");
            store.proxy.rule(|_, _| Fate::Pass);
            close_at_last(&mut client, &server);
            let session = client.session().to_owned();
            store.assert_object(&server, &name, &session, bytes);
        }
    }
    server.wait_for_log("object_not_taken");
}

/// What waits for its store, and is not what came any more: its client sends it once more, which no
/// waiting would bring.
#[test]
fn a_file_that_somebody_has_cut_is_not_given_to_the_store() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    for (bytes, left) in [(SMALL, 10), (LARGE, LARGE - 1), (SMALL, SMALL + 1)] {
        let name = format!("cut-{bytes}-{left}");
        let mut client = sent(&server, &format!("/{name}"), bytes);
        let path = server.part(client.session());
        let part = fs::OpenOptions::new().write(true).open(path).unwrap();
        part.set_len(left).unwrap();
        client.close().assert(500, Some(SESSION_NOT_FOUND));
        assert!(store.moto.object(&name).is_none());
        server.wait_for_log("somebody has changed an unfinished upload");
        store.assert_nothing_is_left(&server);
    }
}

/// The same of one that is gone, or in whose place stands something else.
#[test]
fn an_upload_whose_file_is_gone_ends() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    for (name, bytes) in [("small", SMALL), ("large", LARGE), ("folder", SMALL)] {
        let mut client = sent(&server, &format!("/{name}"), bytes);
        let part = server.part(client.session());
        fs::remove_file(&part).unwrap();
        if name == "folder" {
            fs::create_dir(&part).unwrap();
        }
        client.close().assert(500, Some(SESSION_NOT_FOUND));
        assert!(store.moto.object(name).is_none());
        // The folder neither: nothing was in it.
        store.assert_nothing_is_left(&server);
    }
}

/// Goal: where the digest of a file is known no object is made of other bytes, whoever was promised
/// what. Such a file waits for a person, who may bring it back.
#[test]
fn a_promised_file_that_somebody_has_changed_is_no_object() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings("store_ack = \"staged\"\ndigest = \"sha-256\""));
    for (name, bytes) in [("small", SMALL), ("large", LARGE)] {
        store.proxy.rule(takes_nothing);
        let mut client = sent(&server, &format!("/{name}"), bytes);
        client.close().assert(200, None);
        let session = client.session().to_owned();
        let mut part = fs::File::options();
        let part = part.read(true).write(true).open(server.part(&session));
        let part = part.unwrap();
        let mut right = [0];
        part.read_exact_at(&mut right, 1_000).unwrap();
        part.write_all_at(&[!right[0]], 1_000).unwrap();
        let told = || server.log().matches("somebody has changed").count();
        let before = told();
        store.proxy.rule(|_, _| Fate::Pass);
        wait_until("it is told", || told() > before);
        assert!(store.moto.object(name).is_none());
        assert!(server.part(&session).exists(), "it is kept");
        part.write_all_at(&right, 1_000).unwrap();
        store.assert_object_at_last(&server, name, &session, bytes);
    }
}

/// Goal: one that is cut while it waits, open here, is told as that, and gets there when its bytes
/// are back. Method: a store that takes nothing, so that the file is tried again and again.
#[test]
fn a_promised_file_that_is_cut_while_it_waits_is_told_as_that() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings("store_ack = \"staged\""));
    for (name, bytes) in [("small", SMALL), ("large", LARGE)] {
        store.proxy.rule(takes_nothing);
        let before = server.log().matches("event=object_not_taken").count();
        let mut client = sent(&server, &format!("/{name}"), bytes);
        client.close().assert(200, None);
        wait_until("it is tried", || {
            before > 0 || server.log().contains("event=object_not_taken")
        });
        let session = client.session().to_owned();
        let part = server.part(&session);
        let right = fs::read(&part).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
        file.set_len(bytes - 1).unwrap();
        let told = || server.log().matches("that its client was promised").count();
        let already = told();
        wait_until("it is told", || told() > already);
        file.write_all_at(&right, 0).unwrap();
        store.proxy.rule(|_, _| Fate::Pass);
        store.assert_object_at_last(&server, name, &session, bytes);
    }
    let log = server.log();
    assert!(!log.contains("please report"), "{log}");
    assert!(!log.contains("the disk failed"), "{log}");
}

#[test]
fn a_file_that_is_gone_at_a_start_is_named() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("store_ack = \"staged\""));
    store.proxy.rule(takes_nothing);
    let mut client = sent(&server, "/in/lost.bin", SMALL);
    client.close().assert(200, None);
    server.stop();
    fs::remove_file(server.part(client.session())).unwrap();
    server.restart();
    server.wait_for_log("event=staged_lost");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("event=staged_lost"));
    let line = line.unwrap();
    assert!(line.contains("in/lost.bin"), "{line}");
    assert!(line.contains(&format!("bytes={SMALL}")), "{line}");
    assert!(log.contains("event=parts_missing"), "{log}");
}

/// Goal: a promised file is named with its path also where it is there, and not as it came.
#[test]
fn a_file_of_another_length_at_a_start_is_named() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("store_ack = \"staged\""));
    store.proxy.rule(takes_nothing);
    let mut client = sent(&server, "/in/cut.bin", SMALL);
    client.close().assert(200, None);
    let part = server.part(client.session());
    server.kill9();
    let cut = fs::File::options().write(true).open(&part).unwrap();
    cut.set_len(SMALL - 1).unwrap();
    server.restart();
    server.wait_for_log("event=staged_lost");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("event=staged_lost"));
    let line = line.unwrap();
    assert!(line.contains("in/cut.bin"), "{line}");
    assert!(line.contains("not as it came"), "{line}");
    assert!(line.contains("does not come back"), "{line}");
    assert!(log.contains("event=file_set_aside"), "{log}");
}

#[test]
fn a_store_that_would_replace_objects_is_refused_at_the_start() {
    let Some(store) = Store::start() else { return };
    for in_parts_only in [false, true] {
        store.proxy.rule(
            move |_, line| match in_parts_only && line.starts_with("PUT") {
                true => Fate::Pass,
                false => Fate::Unconditional,
            },
        );
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let (status, said) = Server::refused(&root, &store.settings(""));
        assert!(!status.success());
        assert!(said.contains("lets an object be replaced"), "{said}");
        assert!(said.contains("store_no_replace"), "{said}");
        let (code, said) = store.check("");
        assert!(
            code == 1 && said.contains("wrong: the store of the bucket"),
            "{said}"
        );
        assert_eq!(store.moto.objects(), 0, "the probe is gone");
    }
    let (code, said) = store.check("store_no_replace = \"look\"");
    assert!(code == 0 && said.contains("was not tried"), "{said}");
    store.proxy.rule(|_, _| Fate::Pass);
    let (code, said) = store.check("");
    assert!(code == 0 && said.contains("replaces no object"), "{said}");
    assert_eq!(store.moto.objects(), 0, "the probe is gone");
    let server = Server::with(store.settings("store_no_replace = \"look\""));
    store
        .moto
        .ask("PUT", &format!("/{BUCKET}/there.bin"), b"theirs");
    let mut client = sent(&server, "/there.bin", SMALL);
    client.close().assert(403, Some("0x80070005"));
    assert_eq!(store.moto.object("there.bin").unwrap().body, b"theirs");
}

#[test]
fn a_start_does_not_wait_for_a_store_that_is_away() {
    let Some(store) = Store::start() else { return };
    for fate in [Fate::Say(200, "Login"), Fate::LoseRequest] {
        store.proxy.rule(move |_, _| fate.clone());
        let (code, said) = store.check("");
        let is_told = said.contains("warning: the store of the bucket uploads cannot be tried");
        assert!(code == 0 && is_told, "{said}");
    }
    let server = Server::with(store.settings("store_wait = \"1s\""));
    server.wait_for_log("object_store_away");
    let mut client = sent(&server, "/later.bin", SMALL);
    client.close().assert(503, None);
    store.proxy.rule(|_, _| Fate::Pass);
    close_at_last(&mut client, &server);
    let session = client.session().to_owned();
    store.assert_object(&server, "later.bin", &session, SMALL);
}

/// Goal: a server that is sent nobody since its store was away is sent somebody again. Method: the
/// only file that was on its way is cancelled, and none comes.
#[test]
fn a_store_that_is_well_again_is_found_so_without_a_file() {
    let Some(store) = Store::start() else { return };
    let (ask, server) = with_socket(&store, "allow_overwrite = true\nstore_wait = \"1s\"");
    let is_ready = || ask(&["status"]).status.success();
    for fate in [
        Fate::Say(503, "SlowDown"),
        Fate::Say(403, "InvalidAccessKeyId"),
    ] {
        store.proxy.rule(move |_, _| fate.clone());
        let mut client = sent(&server, "/a.bin", SMALL);
        client.close().assert(503, None);
        wait_until("that is seen", || !is_ready());
        client.cancel().assert(200, None);
        store.proxy.rule(|_, _| Fate::Pass);
        wait_until("it is ready", is_ready);
    }
    assert_eq!(store.moto.objects(), 0, "what has asked it is gone");
}

/// Goal: a store that refuses one key is not taken for one that refuses all of them.
#[test]
fn a_key_that_is_refused_keeps_nobody_away() {
    let Some(store) = Store::start() else { return };
    let (ask, server) = with_socket(&store, "allow_overwrite = true\nstore_wait = \"1s\"");
    store
        .proxy
        .rule(|_, line| match line.contains("/forbidden.bin") {
            true => Fate::Say(403, "AccessDenied"),
            false => Fate::Pass,
        });
    let mut client = sent(&server, "/forbidden.bin", SMALL);
    client.close().assert(503, None);
    server.wait_for_log("event=object_not_taken");
    wait_until("the store was asked for another key", || {
        let lines = store.proxy.lines();
        let is_removal = |line: &String| line.starts_with("DELETE") && line.contains("bitsd-probe");
        lines.iter().any(is_removal)
    });
    wait_until("it is ready", || ask(&["status"]).status.success());
}

/// Goal: of a trial that was clearly refused nothing is removed, and no right to do so is missed;
/// and the line that the refusal names is there.
#[test]
fn a_trial_that_is_refused_leaves_nothing_to_remove() {
    let Some(store) = Store::start() else { return };
    store
        .proxy
        .rule(|_, _| Fate::Say(403, "InvalidAccessKeyId"));
    let server = Server::with(store.settings(""));
    server.wait_for_log("event=object_store_away");
    let mut client = sent(&server, "/a.bin", SMALL);
    client.close().assert(503, None);
    server.wait_for_log("event=object_not_taken");
    assert!(
        !server.log().contains("object_probe_left"),
        "{}",
        server.log()
    );
    let lines = store.proxy.lines();
    assert!(
        !lines.iter().any(|line| line.starts_with("DELETE")),
        "{lines:?}"
    );
}

#[test]
fn what_waits_for_the_store_is_bounded() {
    let Some(store) = Store::start() else { return };
    let more = "store_wait = \"1s\"\nallow_overwrite = true\nstore_staging_max = \"1MiB\"";
    let server = Server::with(store.settings(more));
    store.proxy.rule(|_, _| Fate::LoseRequest);
    let mut client = sent(&server, "/first.bin", 2 << 20);
    client.close().assert(503, None);
    let mut other = Client::new(server.address(), "/second.bin");
    other.try_create().assert(500, Some(DISK_FULL));
    store.proxy.rule(|_, _| Fate::Pass);
    close_at_last(&mut client, &server);
    other.try_create().assert(200, None);
}

/// A server on a store, with a ledger, and with a webhook that hears of each end.
struct Joined {
    store: Store,
    webhook: Backend,
    folder: tempfile::TempDir,
}

impl Joined {
    fn start() -> Option<Self> {
        let store = Store::start()?;
        store.moto.keep_versions();
        let joined = Self {
            store,
            webhook: Backend::always(Act::status(204)),
            folder: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(joined.ledger()).unwrap();
        Some(joined)
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("custody")
    }

    fn server(&self, more: &str) -> Server {
        let (ledger, url) = (self.ledger(), self.webhook.url("/events"));
        let more = format!(
            "digest = \"sha-256\"\ncustody = {ledger:?}\n{more}\n[events]\nwebhook = \"{url}\""
        );
        Server::on(&self.folder.path().join("root"), self.store.settings(&more))
    }

    fn lines(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for day in fs::read_dir(self.ledger()).unwrap() {
            let day = day.unwrap().path();
            if day.is_file() {
                let text = fs::read_to_string(day).unwrap();
                let whole = text
                    .split_inclusive('\n')
                    .filter(|line| line.ends_with('\n'));
                lines.extend(whole.map(|line| serde_json::from_str::<Value>(line).unwrap()));
            }
        }
        lines
    }

    fn events(&self) -> Vec<Value> {
        let heard = self.webhook.heard();
        let events = heard
            .iter()
            .map(|heard| serde_json::from_slice(&heard.body).unwrap());
        events.collect()
    }

    /// The object is there once, and its one line and its event name it.
    #[track_caller]
    fn assert_told(&self, server: &Server, key: &str, session: &str, bytes: u64) {
        self.store.assert_object(server, key, session, bytes);
        let object = self.store.moto.object(key).unwrap();
        let named = serde_json::json!({
            "bucket": BUCKET,
            "key": key,
            "version": object.field("x-amz-version-id").unwrap(),
            "etag": object.field("etag").unwrap().trim_matches('"'),
        });
        let sha256: String = (Sha256::digest(content(1, 0, bytes)).iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let session = session.trim_matches(['{', '}']);
        let lines = self.lines();
        let mut lines = lines.iter().filter(|line| line["session"] == session);
        let line = lines.next().expect("a line");
        assert!(lines.next().is_none(), "two lines of {session}");
        assert_eq!(
            (&line["object"], &line["sha256"]),
            (&named, &sha256.as_str().into())
        );
        assert_eq!(
            (&line["ending"], &line["root"]),
            (&"published".into(), &"".into())
        );
        let id = format!("{session}-published");
        let is_told = || self.events().iter().any(|event| event["id"] == id.as_str());
        wait_until("its event is heard", is_told);
        for event in self
            .events()
            .iter()
            .filter(|event| event["id"] == id.as_str())
        {
            assert_eq!(event["data"]["object"], named);
            assert_eq!(event["data"]["sha256"], sha256.as_str());
        }
    }

    /// What `bitsd custody verify --files` says, which must be well.
    #[track_caller]
    fn assert_ledger_is_whole(&self) -> String {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        verify
            .args(["custody", "verify", "--files"])
            .arg(self.ledger());
        let said = verify.output().unwrap();
        let text = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
        assert!(said.status.success(), "{text}");
        text
    }

    /// Nothing can be written into the ledger until it has its name back.
    fn block_ledger(&self) -> PathBuf {
        let away = self.folder.path().join("away");
        fs::rename(self.ledger(), &away).unwrap();
        away
    }
}

#[test]
fn an_object_has_its_digest_its_line_and_its_event() {
    let Some(joined) = Joined::start() else {
        return;
    };
    let server = joined.server("store_prefix = \"hosts/\"");
    for (path, bytes) in [("case/small.bin", SMALL), ("case/large.bin", LARGE)] {
        let mut client = sent(&server, &format!("/{path}"), bytes);
        let answer = client.close();
        answer.assert(200, None);
        // Its line was there before that.
        assert!(joined.lines().iter().any(|line| line["path"] == path));
        let session = client.session().to_owned();
        let key = format!("hosts/{path}");
        joined.assert_told(&server, &key, &session, bytes);
        server.wait_for_log(&format!("object=\"{BUCKET}/{key}\" ending=\"published\""));
        client.close().assert(200, None);
    }
    let said = joined.assert_ledger_is_whole();
    assert!(said.contains("2 lines name objects of a store"), "{said}");
    assert_eq!(joined.lines().len(), 2);
    // One that came to nothing names none.
    let mut client = sent(&server, "/gone.bin", SMALL);
    client.cancel().assert(200, None);
    let is_gone = |event: &Value| event["data"]["ending"] == "cancelled";
    wait_until("its end is heard of", || {
        joined.events().iter().any(is_gone)
    });
    let gone = joined.events().into_iter().find(is_gone).unwrap();
    assert_eq!(gone["data"].get("object"), None);
}

/// The digest stands with the object where it was known before the object was begun.
#[test]
fn a_reader_of_the_store_can_check_the_digest() {
    let Some(joined) = Joined::start() else {
        return;
    };
    let server = joined.server("");
    let mut client = sent(&server, "/small.bin", SMALL);
    client.close().assert(200, None);
    let object = joined.store.moto.object("small.bin").unwrap();
    let sha256: String = (Sha256::digest(&object.body).iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(object.field("x-amz-meta-bitsd-sha256"), Some(&*sha256));
}

/// The server is killed while the store holds back the answer to each request in turn.
#[test]
fn each_object_has_one_line_and_its_event_after_kills() {
    let Some(joined) = Joined::start() else {
        return;
    };
    let mut server = joined.server("allow_overwrite = true");
    for (bytes, steps) in [(SMALL, 1..=1), (LARGE, 1..=6)] {
        for at in steps {
            let name = format!("{bytes}-{at}");
            let session = (joined.store.proxy).upload_over_a_kill(&mut server, &name, bytes, at);
            joined.assert_told(&server, &name, &session, bytes);
        }
    }
    joined.assert_ledger_is_whole();
}

/// Between the object and its line: the ledger cannot be written, and the server is killed.
#[test]
fn an_object_without_a_line_is_not_acked_and_gets_its_line_at_the_next_start() {
    for comes_back in [true, false] {
        let Some(joined) = Joined::start() else {
            return;
        };
        let mut server = joined.server("allow_overwrite = true");
        let name = "once.bin";
        let mut client = sent(&server, "/once.bin", SMALL);
        let session = client.session().to_owned();
        let part = server.part(&session);
        let again = joined.folder.path().join("part");
        fs::hard_link(&part, &again).unwrap();
        let away = joined.block_ledger();
        client.close().assert(503, None);
        assert!(joined.store.moto.object(name).is_some());
        assert!(!part.exists(), "the store has it");
        server.kill9();
        fs::rename(&away, joined.ledger()).unwrap();
        // As after a power cut: what was removed is there again. It is not stored again.
        fs::rename(&again, &part).unwrap();
        joined.store.proxy.rule(|_, _| Fate::Pass);
        server.restart();
        match comes_back {
            true => close_at_last(&mut client, &server),
            false => {
                server.wait_for_log("event=session_ended");
                client.reconnect_to(server.address());
                client.close().assert(200, None);
            }
        }
        let puts = joined.store.proxy.lines();
        let is_put = |line: &&String| line.contains(name);
        assert_eq!(puts.iter().filter(is_put).count(), 0, "{puts:?}");
        joined.assert_told(&server, name, &session, SMALL);
        joined.assert_ledger_is_whole();
    }
}

#[test]
fn a_staged_file_has_its_line_when_the_store_has_it() {
    let Some(joined) = Joined::start() else {
        return;
    };
    let server = joined.server("store_ack = \"staged\"\nallow_overwrite = true");
    joined.store.proxy.rule(|_, _| Fate::LoseRequest);
    let mut client = sent(&server, "/later.bin", LARGE);
    let session = client.session().to_owned();
    client.close().assert(200, None);
    assert_eq!(joined.lines().len(), 0);
    let away = joined.block_ledger();
    joined.store.proxy.rule(|_, _| Fate::Pass);
    joined
        .store
        .assert_object_at_last(&server, "later.bin", &session, LARGE);
    fs::rename(&away, joined.ledger()).unwrap();
    server.wait_for_log("event=session_ended");
    joined.assert_told(&server, "later.bin", &session, LARGE);
    assert_eq!(ids(&joined.events()).len(), 1);
}

fn ids(events: &[Value]) -> BTreeSet<String> {
    events.iter().map(|event| event["id"].to_string()).collect()
}

#[test]
fn an_application_is_asked_before_the_store() {
    let Some(store) = Store::start() else { return };
    for (kind, act, is_kept) in [
        (
            "by-value",
            Act::fields("BITS-Copy-File-To-Destination: yes\r\n"),
            true,
        ),
        (
            "by-reference",
            Act::fields("BITS-Copy-File-To-Destination: yes\r\n"),
            true,
        ),
        ("by-value", Act::status(200), false),
    ] {
        let application = Backend::always(act);
        let url = application.url("/app");
        let server = Server::with(store.settings(&format!(
            "allow_overwrite = true\nnotification_type = \"{kind}\"\nnotification_url = \"{url}\""
        )));
        let name = format!("{kind}-{is_kept}.bin");
        let mut client = sent(&server, &format!("/{name}"), SMALL);
        client.close().assert(200, None);
        let heard = application.heard();
        assert_eq!(heard.len(), 1);
        if kind == "by-value" {
            assert!(heard[0].body == content(1, 0, SMALL));
        }
        let session = client.session().to_owned();
        match is_kept {
            true => store.assert_object(&server, &name, &session, SMALL),
            false => {
                assert!(store.moto.object(&name).is_none());
                store.assert_nothing_is_left(&server);
            }
        }
    }
}

/// Sends the first bytes of a file, and waits until the store has the first part of it.
#[track_caller]
fn begun(store: &Store, server: &Server, name: &str) -> Client {
    let mut client = Client::create(server.address(), &format!("/{name}"));
    for at in 0..2 {
        let range = at * (4 << 20)..(at + 1) * (4 << 20);
        client.send(fragment(range).of(LARGE)).assert(200, None);
    }
    wait_until("the first part is there", || store.moto.parts(name) == [1]);
    client
}

#[test]
fn parts_go_ahead_while_the_file_is_still_coming() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings("allow_overwrite = true"));
    let mut client = begun(&store, &server, "ahead.bin");
    client
        .send(fragment(8 << 20..LARGE).of(LARGE))
        .assert(200, None);
    wait_until("all parts are there", || {
        store.moto.parts("ahead.bin") == [1, 2, 3]
    });
    store.proxy.rule(|_, _| Fate::Pass);
    client.close().assert(200, None);
    let lines = store.proxy.lines();
    assert!(
        !lines.iter().any(|line| line.contains("partNumber")),
        "{lines:?}"
    );
    let session = client.session().to_owned();
    store.assert_object(&server, "ahead.bin", &session, LARGE);
}

#[test]
fn a_store_that_is_slow_or_away_slows_no_fragment() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings("allow_overwrite = true"));
    for (name, fate) in [
        ("away.bin", Fate::LoseRequest),
        ("slow.bin", Fate::Delay(10_000)),
    ] {
        store.proxy.rule(move |_, _| fate.clone());
        let began = std::time::Instant::now();
        let mut client = sent(&server, &format!("/{name}"), LARGE);
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(8), "{took:?}");
        store.proxy.rule(|_, _| Fate::Pass);
        close_at_last(&mut client, &server);
        let session = client.session().to_owned();
        store.assert_object(&server, name, &session, LARGE);
    }
}

#[test]
fn a_server_that_is_killed_goes_on_with_the_parts_that_went_ahead() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("allow_overwrite = true"));
    let mut client = begun(&store, &server, "ahead.bin");
    let session = client.session().to_owned();
    server.kill9();
    store.proxy.rule(|_, _| Fate::Pass);
    server.restart();
    client.reconnect_to(server.address());
    client.send_rest(8 << 20, LARGE, 4 << 20);
    client.close().assert(200, None);
    let lines = store.proxy.lines();
    let is_first = |line: &String| line.starts_with("PUT") && line.contains("partNumber=1&");
    assert!(!lines.iter().any(is_first), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("?uploads ")),
        "{lines:?}"
    );
    store.assert_object(&server, "ahead.bin", &session, LARGE);
}

/// What an application has changed by reference is published as a whole, also where parts went
/// ahead before it was told: it was to be told only by new settings.
#[test]
fn an_application_changes_the_parts_that_went_ahead_as_well() {
    let Some(store) = Store::start() else { return };
    for restarts in [false, true] {
        let changed = vec![b'x'; 1_000];
        let application = Backend::always(Act::ChangeFile(changed.clone()));
        let url = application.url("/app");
        let more = "allow_overwrite = true\n#told";
        let told = format!("notification_type = \"by-reference\"\nnotification_url = \"{url}\"");
        let mut server = Server::with(store.settings(more));
        let mut client = begun(&store, &server, "changed.bin");
        match restarts {
            true => {
                server.kill9();
                server.restart_with(store.settings(&more.replace("#told", &told)));
                client.reconnect_to(server.address());
            }
            false => change(&server, "#told", &told),
        }
        client.send_rest(8 << 20, LARGE, 4 << 20);
        client.close().assert(200, None);
        assert_eq!(application.heard().len(), 1);
        let expected = [changed, content(1, 1_000, LARGE)].concat();
        let object = store.moto.object("changed.bin").unwrap();
        assert!(object.body == expected, "restarts: {restarts}");
        store.assert_nothing_is_left(&server);
        store
            .moto
            .ask("DELETE", &format!("/{BUCKET}/changed.bin"), b"");
    }
}

/// Its file lies beside its location, which had no store when it was begun. The start looks for it
/// there, and aborts nothing.
#[test]
fn a_start_ends_no_upload_whose_file_lies_on_another_file_system() {
    let Some(store) = Store::start() else { return };
    let other = folder_in_memory();
    let more = |kind: &str| {
        let root = other.path();
        format!(
            "allow_overwrite = true\n[[location]]\nprefix = \"o\"\nroot = {root:?}\nstore = \"{kind}\""
        )
    };
    let mut server = Server::with(store.settings(&more("none")));
    let mut client = Client::create(server.address(), "/o/a.bin");
    client.send(fragment(0..1).of(LARGE)).assert(200, None);
    change(&server, "store = \"none\"", "store = \"s3\"");
    let rest = fragment(1..11 << 20).of(LARGE);
    client.send(rest).assert(200, None);
    wait_until("parts are there", || store.moto.parts("a.bin") == [1, 2]);
    server.kill9();
    store.proxy.rule(|_, _| Fate::Pass);
    server.restart_with(store.settings(&more("s3")));
    client.reconnect_to(server.address());
    client.send_rest(11 << 20, LARGE, 4 << 20);
    client.close().assert(200, None);
    let lines = store.proxy.lines();
    let is_again = |line: &String| line.contains("partNumber=1&") || line.contains("?uploads ");
    assert!(!lines.iter().any(is_again), "{lines:?}");
    let session = client.session().to_owned();
    store.assert_object(&server, "a.bin", &session, LARGE);
}

#[test]
fn an_upload_that_is_given_up_half_way_leaves_nothing_at_the_store() {
    let Some(store) = Store::start() else { return };
    let settings = || store.settings("allow_overwrite = true");
    let mut server = Server::with(settings());
    for restarts in [false, true] {
        let mut client = begun(&store, &server, "half.bin");
        if restarts {
            server.restart();
            client.reconnect_to(server.address());
        }
        client.cancel().assert(200, None);
        store.assert_nothing_is_left(&server);
    }
    // One that nobody comes back for.
    let _client = begun(&store, &server, "half.bin");
    server.stop();
    server.restart_with(settings().file("session_timeout = \"1s\""));
    store.assert_nothing_is_left(&server);
    assert!(store.moto.object("half.bin").is_none());
}

#[test]
fn an_upload_goes_where_new_settings_say_and_nothing_is_left_at_the_old_place() {
    let Some(store) = Store::start() else { return };
    let mut server = Server::with(store.settings("allow_overwrite = true"));
    let mut client = begun(&store, &server, "moved.bin");
    let session = client.session().to_owned();
    server.stop();
    server.restart_with(store.settings("allow_overwrite = true\nstore_prefix = \"new/\""));
    client.reconnect_to(server.address());
    client.send_rest(8 << 20, LARGE, 4 << 20);
    close_at_last(&mut client, &server);
    store.assert_object(&server, "new/moved.bin", &session, LARGE);
    assert!(store.moto.object("moved.bin").is_none());
}

#[test]
fn nothing_goes_ahead_where_another_object_stands() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    store
        .moto
        .ask("PUT", &format!("/{BUCKET}/taken.bin"), b"theirs");
    store.proxy.rule(|_, _| Fate::Pass);
    let mut client = sent(&server, "/taken.bin", LARGE);
    wait_until("it is looked for", || !store.proxy.lines().is_empty());
    client.close().assert(403, Some("0x80070005"));
    // Had it been begun before, the look would have been enough: only then is it asked for.
    let is_asked = |line: &String| line.starts_with("POST") && line.contains("uploadId=");
    assert!(store.proxy.lines().iter().any(is_asked));
    client.cancel().assert(200, None);
    store.assert_nothing_is_left(&server);
    assert_eq!(store.moto.object("taken.bin").unwrap().body, b"theirs");
}

/// The digest file of each object, whatever the store does to it.
#[test]
fn an_object_has_its_digest_file_beside_it_when_the_close_is_acked() {
    let Some(store) = Store::start() else { return };
    let digest = "digest = \"sha-256\"\ndigest_file = true";
    let server = Server::with(store.settings(&format!("{digest}\nallow_overwrite = true")));
    for (number, fate) in [
        Fate::Pass,
        Fate::LoseRequest,
        Fate::LoseAnswer,
        Fate::Say(503, "SlowDown"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.bin");
        let is_lost = std::sync::atomic::AtomicBool::new(false);
        store.proxy.rule(move |_, line| {
            let is_it = line.starts_with("PUT") && line.contains(".sha256");
            match is_it && !is_lost.swap(true, std::sync::atomic::Ordering::SeqCst) {
                true => fate.clone(),
                false => Fate::Pass,
            }
        });
        let mut client = sent(&server, &format!("/in/{name}"), LARGE);
        client.close().assert(200, None);
        let object = store.moto.object(&format!("in/{name}")).unwrap();
        let sha256: String = (Sha256::digest(&object.body).iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let beside = store.moto.object(&format!("in/{name}.sha256")).unwrap();
        let text = String::from_utf8(beside.body).unwrap();
        assert_eq!(text, format!("{sha256}  {name}\n"));
        store.assert_nothing_is_left(&server);
    }
    Client::new(server.address(), "/in/a.SHA256")
        .try_create()
        .assert(400, Some("0x80070057"));
    // What stands there stays.
    let server = Server::with(store.settings(digest));
    store
        .moto
        .ask("PUT", &format!("/{BUCKET}/b.bin.sha256"), b"theirs");
    let mut client = sent(&server, "/b.bin", SMALL);
    client.close().assert(200, None);
    assert_eq!(store.moto.object("b.bin.sha256").unwrap().body, b"theirs");
    server.wait_for_log("event=not_given");
}

/// Goal: what the store refuses for good keeps no client waiting; and what it has is told, whatever
/// is still to come.
#[test]
fn an_object_whose_digest_file_is_refused_is_published_without_one() {
    let Some(joined) = Joined::start() else {
        return;
    };
    let store = &joined.store;
    let refuse = |status: u16, code: &'static str| {
        store.proxy.rule(move |_, line| {
            match line.starts_with("PUT") && line.contains(".sha256") {
                true => Fate::Say(status, code),
                false => Fate::Pass,
            }
        });
    };
    let server = joined.server("digest_file = true\nstore_wait = \"1s\"");
    refuse(403, "AccessDenied");
    let mut client = sent(&server, "/a.bin", SMALL);
    close_at_last(&mut client, &server);
    joined.assert_told(&server, "a.bin", client.session(), SMALL);
    server.wait_for_log("event=not_given");
    let log = server.log();
    let of = |event: &str| log.lines().find(|line| line.contains(event)).unwrap();
    for line in [of("object_not_taken"), of("not_given")] {
        assert!(line.contains("\"a.bin.sha256\""), "{line}");
    }
    // It may come yet: but its client does not wait for that.
    refuse(503, "SlowDown");
    let mut client = sent(&server, "/b.bin", SMALL);
    client.close().assert(503, None);
    client.cancel().assert(200, None);
    joined.assert_told(&server, "b.bin", client.session(), SMALL);
    server.wait_for_log(&format!("object=\"{BUCKET}/b.bin\" ending=\"published\""));
    store.assert_nothing_is_left(&server);
}

/// A server whose settings can be changed, with uploads that may replace each other; and whether
/// no file of it is on its way.
fn changeable(store: &Store, more: &str) -> (impl Fn() -> bool, Server) {
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("socket");
    let lines =
        format!("allow_overwrite = true\nstore_wait = \"1s\"\nadmin_socket = {socket:?}\n{more}");
    let server = Server::with(store.settings(&lines));
    let is_quiet = move || {
        let mut stream = UnixStream::connect(place.path().join("socket")).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page.lines().any(|line| line == "bitsd_objects_pending 0")
    };
    (is_quiet, server)
}

/// The server goes over to its settings with something else in the place of `from`.
#[track_caller]
fn change(server: &Server, from: &str, to: &str) {
    let now = server.settings().file;
    assert!(now.contains(from), "{now}");
    let told = || server.log().matches("event=reloaded").count();
    let before = told();
    server.reload(&now.replacen(from, to, 1));
    wait_until("the settings are others", || told() > before);
}

fn takes_nothing(_: u64, line: &str) -> Fate {
    match line.starts_with("PUT") {
        true => Fate::Say(503, "SlowDown"),
        false => Fate::Pass,
    }
}

/// A job that went on without its session would put the older file in the place of the newer one.
#[test]
fn a_file_that_got_its_name_in_a_folder_goes_into_no_store_later() {
    let Some(store) = Store::start() else { return };
    let (is_quiet, server) = changeable(&store, "store_ack = \"staged\"");
    store.proxy.rule(takes_nothing);
    let mut first = sent(&server, "/a.bin", SMALL);
    first.close().assert(200, None);
    change(&server, "store = \"s3\"", "store = \"none\"");
    wait_until("the file has its name", || server.file("a.bin").exists());
    wait_until("nobody is on the way with it", &is_quiet);
    change(&server, "", "");
    store.proxy.rule(|_, _| Fate::Pass);
    let mut second = sent(&server, "/a.bin", SMALL + 1);
    second.close().assert(200, None);
    let session = second.session().to_owned();
    store.assert_object_at_last(&server, "a.bin", &session, SMALL + 1);
}

/// Goal: what was cancelled never appears, also where the settings name no store by then. The name
/// in the folder is taken, so that the file stays here until its client gives it up.
#[test]
fn what_was_cancelled_after_its_store_went_goes_nowhere() {
    let Some(store) = Store::start() else { return };
    let (is_quiet, server) = changeable(&store, "");
    fs::create_dir(server.file("a.bin")).unwrap();
    store.proxy.rule(takes_nothing);
    let mut client = sent(&server, "/a.bin", SMALL);
    client.close().assert(503, None);
    assert!(!is_quiet());
    change(&server, "store = \"s3\"", "store = \"none\"");
    client.cancel().assert(200, None);
    wait_until("nobody is on the way with it", &is_quiet);
    store.assert_nothing_is_left(&server);
    assert!(store.moto.object("a.bin").is_none());
}

/// Nobody has to restart a server because a setting was wrong when files were closed.
#[test]
fn files_on_their_way_go_where_settings_say_that_were_mended() {
    let Some(store) = Store::start() else { return };
    let rule = |_: u64, line: &str| match line.contains("/other") {
        true => Fate::Say(503, "SlowDown"),
        false => Fate::Pass,
    };
    for (ack, hears) in [("staged", 200), ("object", 503)] {
        let (_, server) = changeable(&store, &format!("store_ack = \"{ack}\""));
        let right = format!("store_bucket = \"{BUCKET}\"");
        change(&server, &right, "store_bucket = \"other\"");
        store.proxy.rule(rule);
        let mut client = sent(&server, &format!("/{ack}"), SMALL);
        let session = client.session().to_owned();
        client.close().assert(hears, None);
        wait_until("the store was asked", || !store.proxy.lines().is_empty());
        assert!(store.moto.object(ack).is_none());
        change(&server, "", "");
        store.assert_object_at_last(&server, ack, &session, SMALL);
    }
}

/// By the answer to HEAD alone it would be another one's, and in the way for good.
#[test]
fn an_object_whose_length_is_told_only_when_it_is_read_is_found() {
    let Some(store) = Store::start() else { return };
    let server = Server::with(store.settings(""));
    for (name, bytes) in [("small", SMALL), ("large", LARGE)] {
        let is_made = if bytes == SMALL { "PUT" } else { "POST" };
        store.proxy.rule(move |_, line| match line {
            line if line.starts_with("HEAD") => Fate::Lengthless,
            line if line.contains("?uploads") => Fate::Pass,
            line if line.starts_with(is_made) && line.contains(name) => Fate::LoseAnswer,
            _ => Fate::Pass,
        });
        let mut client = sent(&server, &format!("/{name}"), bytes);
        close_at_last(&mut client, &server);
        let session = client.session().to_owned();
        store.assert_object(&server, name, &session, bytes);
    }
}

/// Goal: keys are rotated without a restart: by a reload, and also without one. No line of the log
/// names one.
#[test]
fn credentials_are_read_anew() {
    let Some(store) = Store::start() else { return };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("credentials");
    let give = |key: &str| {
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n");
        fs::write(&file, text).unwrap();
    };
    let named = format!("AWS_SHARED_CREDENTIALS_FILE={}", file.display());
    let words = [
        "env",
        "--unset=AWS_ACCESS_KEY_ID",
        "--unset=AWS_SECRET_ACCESS_KEY",
        &named,
    ];
    give("AKIAFIRST");
    let server = Server::with(store.settings("allow_overwrite = true").wrapper(&words));
    sent(&server, "/a.bin", SMALL).close().assert(200, None);
    store.proxy.refuse_key("AKIAFIRST");
    give("AKIASECOND");
    change(&server, "", "");
    sent(&server, "/b.bin", SMALL).close().assert(200, None);
    store.proxy.refuse_key("AKIASECOND");
    give("AKIATHIRD");
    let mut client = sent(&server, "/c.bin", SMALL);
    client.close().assert(503, None);
    close_at_last(&mut client, &server);
    // They are in no line, though the library tells of each.
    assert!(!server.log().contains("AKIA"), "{}", server.log());
}

/// Goal: files of one store do not wait for another one, however many are on their way there.
#[test]
fn a_store_that_says_nothing_keeps_no_file_of_another_one_waiting() {
    let Some(store) = Store::start() else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let server = Server::with(store.settings(&format!(
        "allow_overwrite = true\nstore_wait = \"1s\"\n[limits]\nstore_uploads_max = 1\n\
         [[location]]\nprefix = \"silent\"\nstore_endpoint = \"http://{address}\""
    )));
    for name in ["a", "b"] {
        let mut client = sent(&server, &format!("/silent/{name}"), SMALL);
        client.close().assert(503, None);
    }
    sent(&server, "/a.bin", SMALL).close().assert(200, None);
}

/// A promised file that somebody has cut waits for a person, and does not fill the log meanwhile.
#[test]
fn a_promised_file_that_was_cut_is_told_of_ever_more_rarely() {
    let Some(store) = Store::start() else { return };
    let (_, server) = changeable(&store, "store_ack = \"staged\"");
    store.proxy.rule(takes_nothing);
    let mut client = sent(&server, "/a.bin", SMALL);
    client.close().assert(200, None);
    let part = server.part(client.session());
    let part = fs::OpenOptions::new().write(true).open(part).unwrap();
    part.set_len(10).unwrap();
    let began = Instant::now();
    // Whoever is on the way with it begins again.
    change(&server, "\"5MiB\"", "\"6MiB\"");
    server.wait_for_log("event=disk_failed");
    let told = || server.log().matches("event=disk_failed").count();
    wait_until("it is told again", || told() >= 3);
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(server.part(client.session()).exists());
}
