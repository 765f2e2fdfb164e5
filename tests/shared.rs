//! A root on a file system that several hosts share: what holds there, row by row of the table in
//! docs/operations.md ("Shared file systems").
//!
//! `scripts/rig/ceph --files` and `scripts/rig/gluster` make such file systems, mount each twice as
//! two hosts would, and name both folders in BITSD_TEST_SHARED. `scripts/check --long` runs them;
//! elsewhere they may be skipped, also where CI=true.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use support::backend::{Act, Backend};
use support::client::{Client, E_ACCESSDENIED, fragment};
use support::content::content;
use support::server::{Server, Settings};
use support::skip_anywhere;

const MIB: u64 = 1 << 20;

/// Two mounts of one file system.
struct Shared {
    name: String,
    here: PathBuf,
    there: PathBuf,
}

impl Shared {
    /// Folders of a test's own; `None` where there is no such file system.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Ok(named) = std::env::var("BITSD_TEST_SHARED") else {
            skip_anywhere(
                "scripts/rig/ceph --files and scripts/rig/gluster make what this test needs",
            );
            return None;
        };
        let words: Vec<&str> = named.split(':').collect();
        let [name, here, there] = words[..] else {
            panic!("NAME:FOLDER:FOLDER: {named:?}");
        };
        let own = format!("test-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let shared = Self {
            name: name.to_owned(),
            here: Path::new(here).join(&own),
            there: Path::new(there).join(&own),
        };
        fs::create_dir(&shared.here).unwrap();
        Some(shared)
    }

    fn root(&self) -> PathBuf {
        self.here.join("root")
    }

    /// The same folder, as the other host sees it.
    fn root_there(&self) -> PathBuf {
        self.there.join("root")
    }

    fn server(&self, lines: &str) -> Server {
        let settings = Settings::default().file(&format!("digest = \"sha-256\"\n{lines}"));
        Server::on(&self.root(), settings)
    }
}

fn upload(server: &Server, path: &str, seed: u64, bytes: u64) {
    let mut client = Client::create(server.address(), path).seed(seed);
    client.send(fragment(0..bytes)).assert(200, None);
    client.close().assert(200, None);
}

/// A start makes its folders there and says nothing against it, and a check agrees.
#[test]
fn a_server_starts_there_and_a_check_agrees() {
    let Some(shared) = Shared::new() else {
        return;
    };
    let server = shared.server("");
    for doubt in ["names_unsynced", "not_given", "event=not_ready"] {
        assert!(!server.log().contains(doubt), "{}", server.log());
    }
    drop(server);
    let mut check = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    check.args(["check", "--no-config", "--listen", "127.0.0.1:0", "--root"]);
    let output = check.arg(shared.root()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    println!("{}: start and check", shared.name);
}

/// What the client sent is there, whole, on both hosts, when the Close is answered; over resumes, a
/// stop in order and `kill -9`, at each `durability`.
#[test]
fn what_is_acked_is_there_on_both_hosts() {
    let Some(shared) = Shared::new() else {
        return;
    };
    for durability in ["none", "upload", "fragment"] {
        let lines = format!("durability = {durability:?}\ncreate_dirs = true");
        let mut server = shared.server(&lines);
        let path = format!("{durability}/a.bin");
        let mut client = Client::create(server.address(), &format!("/{path}")).seed(3);
        client
            .send(fragment(0..3 * MIB).of(8 * MIB))
            .assert(200, None);
        // Half a fragment, and the connection breaks.
        client.send_part(&fragment(3 * MIB..5 * MIB).of(8 * MIB), MIB / 2);
        server.wait_for_part(client.session(), 3 * MIB + MIB / 2);
        client.reconnect();
        let from = 3 * MIB;
        assert_eq!(
            client.send(fragment(from..5 * MIB).of(8 * MIB)).received(),
            5 * MIB
        );
        server.stop();
        server.restart();
        client.reconnect_to(server.address());
        client
            .send(fragment(5 * MIB..6 * MIB).of(8 * MIB))
            .assert(200, None);
        server.kill9();
        server.restart();
        client.reconnect_to(server.address());
        let whole = client.send(fragment(6 * MIB..8 * MIB).of(8 * MIB));
        whole.assert(200, None);
        server.kill9();
        server.restart();
        client.reconnect_to(server.address());
        let closed = client.close();
        closed.assert(200, None);
        assert!(closed.field("Repr-Digest").is_some());
        server.assert_file(&path, 3, 8 * MIB);
        let there = fs::read(shared.root_there().join(&path)).unwrap();
        assert!(
            there == content(3, 0, 8 * MIB),
            "{path} differs on the other host"
        );
        assert_eq!(server.work_files(), [""; 0]);
    }
    println!("{}: resume, restart, kill -9, both hosts", shared.name);
}

/// A file that came meanwhile is not replaced, be it made on the other host; and where a location
/// says so, it is.
#[test]
fn nothing_is_replaced_unless_it_may_be() {
    let Some(shared) = Shared::new() else {
        return;
    };
    let lines = "[[location]]\nprefix = \"over\"\nallow_overwrite = true\n";
    let server = shared.server(lines);
    fs::create_dir(server.file("over")).unwrap();
    let mut client = Client::create(server.address(), "/a.bin").seed(1);
    client.send(fragment(0..1000)).assert(200, None);
    fs::write(shared.root_there().join("a.bin"), "theirs").unwrap();
    client.close().assert(403, Some(E_ACCESSDENIED));
    assert_eq!(fs::read(server.file("a.bin")).unwrap(), b"theirs");
    fs::write(shared.root_there().join("over/b.bin"), "theirs").unwrap();
    upload(&server, "/over/b.bin", 2, 1000);
    server.assert_file("over/b.bin", 2, 1000);
    println!("{}: no replacing, replacing", shared.name);
}

/// Two servers never have one root, on one host or on two; and when the first is killed, the other
/// one has it.
#[test]
fn two_servers_never_have_one_root() {
    let Some(shared) = Shared::new() else {
        return;
    };
    let mut first = shared.server("");
    let mut client = Client::create(first.address(), "/a.bin").seed(4);
    client.send(fragment(0..1000).of(2000)).assert(200, None);
    for root in [shared.root(), shared.root_there()] {
        let (status, said) = Server::refused(&root, &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("another bitsd"), "{}: {said}", root.display());
    }
    first.kill9();
    let second = Server::on(&shared.root_there(), first.settings());
    client.reconnect_to(second.address());
    client.send(fragment(1000..2000)).assert(200, None);
    client.close().assert(200, None);
    second.assert_file("a.bin", 4, 2000);
    println!("{}: one server for a root, over hosts", shared.name);
}

/// The reply of an application is kept there, and fetched.
#[test]
fn replies_and_digests_are_kept_there() {
    let Some(shared) = Shared::new() else {
        return;
    };
    let backend = Backend::always(Act::body(b"reply"));
    let url = backend.url("/app");
    let lines = format!(
        "download = \"head\"\ndigest_file = true\n[[location]]\nprefix = \"told\"\n\
         notification_type = \"by-value\"\nnotification_url = {url:?}\n"
    );
    let server = shared.server(&lines);
    upload(&server, "/a.bin", 5, 3000);
    let mut sums = Command::new("sha256sum");
    sums.args(["-c", "--strict", "--quiet", "a.bin.sha256"]);
    assert!(
        sums.current_dir(shared.root_there())
            .status()
            .unwrap()
            .success()
    );
    let mut raw = server.connect();
    raw.send("HEAD /a.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    let is_kept = raw.receive_head().field("Repr-Digest").is_some();
    fs::create_dir(server.file("told")).unwrap();
    let mut client = Client::create(server.address(), "/told/b.bin").seed(5);
    let told = client.send(fragment(0..3000));
    let reply = told.field("BITS-Reply-URL").unwrap().to_owned();
    assert_eq!(client.get(&reply, "").body, b"reply");
    client.close().assert(200, None);
    println!(
        "{}: reply, digest file; digest by HEAD: {is_kept}",
        shared.name
    );
}

/// Many at once, so that renames, links and locks of several uploads meet.
#[test]
fn many_uploads_at_once_are_each_whole() {
    let Some(shared) = Shared::new() else {
        return;
    };
    let server = shared.server("create_dirs = true");
    std::thread::scope(|scope| {
        for number in 0..16 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..4 {
                    upload(server, &format!("/d{round}/{number}.bin"), number, 200_000);
                }
            });
        }
    });
    for round in 0..4 {
        for number in 0..16 {
            server.assert_file(&format!("d{round}/{number}.bin"), number, 200_000);
        }
    }
    assert_eq!(server.work_files(), [""; 0]);
    println!("{}: many at once", shared.name);
}
