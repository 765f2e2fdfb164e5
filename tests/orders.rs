//! An administrator's order about an upload that a request is under way for: the request is
//! answered. A client that hears nothing waits for ten minutes, and one that hears that its upload
//! is gone begins again at once.

mod support;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use support::backend::{Act, Backend};
use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::server::{Server, Settings};
use support::wait_until;

struct Ordered {
    server: Server,
    socket: PathBuf,
    _folder: TempDir,
}

impl Ordered {
    fn start(lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let lines = format!("admin_socket = {socket:?}\n{lines}");
        Self {
            server: Server::with(Settings::default().file(&lines)),
            socket,
            _folder: folder,
        }
    }

    fn order(&self, what: &str, session: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["sessions", what, session.trim_matches(['{', '}'])]);
        command.arg("--socket").arg(&self.socket);
        command.stdout(Stdio::null()).spawn().unwrap()
    }
}

#[test]
fn a_fragment_under_way_is_read_on_and_hears_that_its_upload_is_gone() {
    for what in ["cancel", "expire"] {
        let ordered = Ordered::start("");
        let mut client = Client::create(ordered.server.address(), "/a.bin");
        let session = client.session().to_owned();
        client.send_part(&fragment(0..200_000), 120_000);
        wait_until("some of it is stored", || {
            ordered.server.part_bytes(&session) > 0
        });
        let done = ordered.order(what, &session).wait().unwrap();
        assert!(done.success(), "{what}");
        assert_eq!(ordered.server.work_files(), [""; 0]);
        // What is still on its way is read, and the connection can be used again.
        client.raw.send(content(1, 120_000, 200_000));
        let heard = client.raw.receive();
        heard.assert(500, Some(SESSION_NOT_FOUND));
        client.try_create().assert(200, None);
        client.send(fragment(0..1_000)).assert(200, None);
        client.close().assert(200, None);
        ordered.server.assert_file("a.bin", 1, 1_000);
    }
}

#[test]
fn what_is_being_told_to_an_application_comes_to_its_end_first() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let backend = Backend::start(move |_, _| {
        let _is_released = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        Act::status(200)
    });
    let url = backend.url("/told");
    let lines = format!("notification_type = \"by-reference\"\nnotification_url = \"{url}\"");
    let ordered = Ordered::start(&lines);
    let mut client = Client::create(ordered.server.address(), "/a.bin");
    let session = client.session().to_owned();
    let sent = std::thread::spawn(move || {
        client.send(fragment(0..1_000)).assert(200, None);
        client
    });
    backend.wait_for(1);
    let mut order = ordered.order("cancel", &session);
    // Long enough for the order to come in; on a slow machine less is tried than could be.
    std::thread::park_timeout(Duration::from_millis(500));
    assert!(order.try_wait().unwrap().is_none(), "it waits");
    release.send(()).unwrap();
    let mut client = sent.join().unwrap();
    assert!(order.wait().unwrap().success());
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    assert_eq!(ordered.server.work_files(), [""; 0]);
}

/// What repeats bytes that are there already is read without a look at orders.
#[test]
fn a_body_that_trickles_keeps_no_order_waiting_for_ever() {
    let ordered = Ordered::start("");
    let mut client = Client::create(ordered.server.address(), "/a.bin");
    let session = client.session().to_owned();
    client
        .send(fragment(0..100_000).of(300_000))
        .assert(200, None);
    client.send_head(&fragment(0..200_000).of(300_000));
    let mut order = ordered.order("cancel", &session);
    // A byte now and then; what is no answer is a connection that ended.
    let trickle = std::thread::spawn(move || {
        (0..200).any(|byte| {
            std::thread::park_timeout(Duration::from_millis(100));
            let byte = content(1, byte, byte + 1);
            client.raw.try_send(byte).is_err()
        })
    });
    assert!(order.wait().unwrap().success());
    assert!(trickle.join().unwrap(), "its connection was ended");
    assert_eq!(ordered.server.work_files(), [""; 0]);
}
