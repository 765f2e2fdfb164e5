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

    fn command(&self, what: &str, session: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["sessions", what, session.trim_matches(['{', '}'])]);
        command.arg("--socket").arg(&self.socket);
        command
    }

    fn order(&self, what: &str, session: &str) -> Child {
        let mut command = self.command(what, session);
        command.stdout(Stdio::null()).spawn().unwrap()
    }

    /// Whether a request for it is under way.
    fn is_busy(&self, session: &str) -> bool {
        let shown = self.command("show", session).output().unwrap();
        String::from_utf8(shown.stdout)
            .unwrap()
            .contains("a request is under way")
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
    wait_until("the fragment is under way", || ordered.is_busy(&session));
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

/// Goal: an order breaks no Close off, however long the file is looked at. Method: its application
/// has put another file in its place, and all of that is read for its digest.
#[test]
fn a_file_that_is_read_again_at_its_close_comes_to_its_end_first() {
    const BYTES: u64 = 48 << 20;
    let theirs = vec![7; usize::try_from(BYTES).unwrap()];
    let backend = Backend::always(Act::ReplaceFile(theirs));
    let url = backend.url("/app");
    let ordered = Ordered::start(&format!(
        "notification_type = \"by-reference\"\nnotification_url = \"{url}\"\n\
         digest = \"sha-256\"\ndurability = \"none\"\n"
    ));
    let mut client = Client::create(ordered.server.address(), "/a.bin");
    client.send_rest(0, BYTES, 4 << 20);
    let session = client.session().to_owned();
    let closing = std::thread::spawn(move || client.close());
    wait_until("the Close is under way, or over", || {
        closing.is_finished() || ordered.is_busy(&session)
    });
    let order = ordered.command("cancel", &session).output().unwrap();
    closing.join().unwrap().assert(200, None);
    assert!(!order.status.success(), "{order:?}");
    let file = std::fs::read(ordered.server.file("a.bin")).unwrap();
    assert!(file.iter().all(|byte| *byte == 7) && file.len() as u64 == BYTES);
}
