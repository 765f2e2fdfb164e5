//! Destinations: when a file appears, what may stand in its way, and what no URL reaches.

mod support;

use std::os::unix::fs::symlink;

use bitsd::vault::record::Frames;
use support::client::{
    BG_E_TOO_LARGE, Client, E_ACCESSDENIED, E_INVALIDARG, SESSION_NOT_FOUND, fragment,
};
use support::server::{Server, Settings};
use support::wait_until;

#[test]
fn a_file_that_came_meanwhile_is_never_replaced() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..30_000)).assert(200, None);
    std::fs::write(server.file("a.bin"), "foreign").unwrap();
    client.close().assert(403, Some(E_ACCESSDENIED));
    client.close().assert(403, Some(E_ACCESSDENIED));
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"foreign");
    assert_eq!(server.part_bytes(client.session()), 30_000);
    server.restart();
    client.reconnect_to(server.address());
    client.close().assert(403, Some(E_ACCESSDENIED));
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"foreign");
    std::fs::remove_file(server.file("a.bin")).unwrap();
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 30_000);
}

#[test]
fn the_first_of_two_uploads_to_one_name_wins() {
    let server = Server::start();
    let mut one = Client::create(server.address(), "/a.bin").seed(1);
    let mut two = Client::create(server.address(), "/a.bin").seed(2);
    assert_ne!(one.session(), two.session());
    one.send(fragment(0..5000)).assert(200, None);
    two.send(fragment(0..6000)).assert(200, None);
    two.close().assert(200, None);
    one.close().assert(403, Some(E_ACCESSDENIED));
    one.cancel().assert(200, None);
    server.assert_file("a.bin", 2, 6000);
    let mut three = Client::new(server.address(), "/a.bin");
    three.try_create().assert(403, Some(E_ACCESSDENIED));
}

#[test]
fn overwriting_replaces_in_one_step() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    std::fs::write(server.file("a.bin"), "old").unwrap();
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..30_000).of(60_000))
        .assert(200, None);
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"old");
    client.send(fragment(30_000..60_000)).assert(200, None);
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"old");
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 60_000);
}

#[test]
fn a_reader_never_sees_a_partial_file() {
    // Someone looks all the time while files are replaced: each look finds a whole old or new one.
    const BYTES: u64 = 300_000;
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    let path = server.file("a.bin");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(found) = std::fs::read(&path) {
                    assert_eq!(found.len() as u64, BYTES);
                    let first = support::content::content(1, 0, 8) == found[..8];
                    let seed = if first { 1 } else { 2 };
                    let last = support::content::content(seed, BYTES - 8, BYTES);
                    assert!(found.ends_with(&last), "a mixture of two files");
                }
            }
        });
        for round in 0..20 {
            let mut client = Client::create(server.address(), "/a.bin").seed(1 + round % 2);
            client.send_rest(0, BYTES, 100_000);
            client.close().assert(200, None);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn publishing_with_the_last_fragment() {
    let mut server = Server::with(Settings::default().file("publish = \"last-fragment\""));
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..10_000).of(20_000))
        .assert(200, None);
    assert!(!server.file("a.bin").exists());
    let last = client.send(fragment(10_000..20_000));
    assert_eq!(last.assert(200, None).received(), 20_000);
    server.assert_file("a.bin", 1, 20_000);
    assert_eq!(client.send(fragment(10_000..20_000)), last);
    server.restart();
    client.reconnect_to(server.address());
    assert_eq!(client.send(fragment(10_000..20_000)), last);
    client.cancel().assert(200, None);
    server.assert_file("a.bin", 1, 20_000);
    let mut closed = Client::create(server.address(), "/b.bin");
    closed.send(fragment(0..100)).assert(200, None);
    closed.close().assert(200, None);
    closed.close().assert(200, None);
    server.assert_file("b.bin", 1, 100);
}

#[test]
fn a_last_fragment_that_cannot_be_published_is_refused_and_goes_on_later() {
    let server = Server::with(Settings::default().file("publish = \"last-fragment\""));
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..10_000).of(20_000))
        .assert(200, None);
    std::fs::write(server.file("a.bin"), "foreign").unwrap();
    let refused = client.send(fragment(10_000..20_000));
    refused.assert(403, Some(E_ACCESSDENIED));
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"foreign");
    std::fs::remove_file(server.file("a.bin")).unwrap();
    let last = client.send(fragment(10_000..20_000));
    assert_eq!(last.assert(200, None).received(), 20_000);
    server.assert_file("a.bin", 1, 20_000);
    client.close().assert(200, None);
}

#[test]
fn a_close_before_the_last_byte_publishes_nothing() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    client.close().assert(200, None);
    assert!(!server.file("a.bin").exists());
    assert!(!server.part(client.session()).exists());
    server.wait_for_log("closed incomplete");
}

// -- folders

#[test]
fn a_missing_folder_is_told_at_create() {
    let server = Server::start();
    let mut client = Client::new(server.address(), "/in/deep/a.bin");
    client.try_create().assert(404, None);
    assert_eq!(server.work_files(), [""; 0]);
    std::fs::create_dir_all(server.file("in/deep")).unwrap();
    client.try_create().assert(200, None);
    client.send(fragment(0..10)).assert(200, None);
    std::fs::remove_dir_all(server.file("in")).unwrap();
    client.close().assert(404, None);
    std::fs::create_dir_all(server.file("in/deep")).unwrap();
    client.close().assert(200, None);
    server.assert_file("in/deep/a.bin", 1, 10);
}

#[test]
fn folders_are_made_where_that_is_allowed() {
    let server = Server::with(Settings::default().file("create_dirs = true"));
    let mut client = Client::create(server.address(), "/in/deep/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("in/deep/a.bin", 1, 10);
    // A file in the place of a folder.
    let mut below = Client::new(server.address(), "/in/deep/a.bin/b.bin");
    let refused = below.try_create();
    assert_ne!(refused.status, 200, "{refused:?}");
}

#[test]
fn a_folder_is_no_destination() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    std::fs::create_dir(server.file("in")).unwrap();
    let mut client = Client::new(server.address(), "/in");
    client.try_create().assert(400, Some(E_INVALIDARG));
    let mut late = Client::create(server.address(), "/late");
    late.send(fragment(0..10)).assert(200, None);
    std::fs::create_dir(server.file("late")).unwrap();
    late.close().assert(400, Some(E_INVALIDARG));
    std::fs::remove_dir(server.file("late")).unwrap();
    late.close().assert(200, None);
}

// -- links

#[test]
fn no_link_leads_out_of_the_root() {
    let server =
        Server::with(Settings::default().file("create_dirs = true\nallow_overwrite = true"));
    let outside = server.root().with_file_name("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, server.file("absolute")).unwrap();
    symlink("../outside", server.file("relative")).unwrap();
    for path in ["/absolute/a.bin", "/relative/a.bin", "/relative/new/a.bin"] {
        let mut client = Client::new(server.address(), path);
        client.try_create().assert(403, Some(E_ACCESSDENIED));
    }
    // The link comes between Create and Close.
    std::fs::create_dir(server.file("in")).unwrap();
    let mut client = Client::create(server.address(), "/in/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    std::fs::remove_dir(server.file("in")).unwrap();
    symlink("../outside", server.file("in")).unwrap();
    client.close().assert(403, Some(E_ACCESSDENIED));
    std::fs::remove_file(server.file("in")).unwrap();
    std::fs::create_dir(server.file("in")).unwrap();
    client.close().assert(200, None);
    server.assert_file("in/a.bin", 1, 10);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_link_at_the_destination_is_not_followed() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    let outside = server.root().with_file_name("outside.bin");
    std::fs::write(&outside, "outside").unwrap();
    symlink(&outside, server.file("a.bin")).unwrap();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
    assert_eq!(std::fs::read(&outside).unwrap(), b"outside");
    let replaced = std::fs::symlink_metadata(server.file("a.bin")).unwrap();
    assert!(replaced.is_file(), "the link itself was replaced");
    // A link to nothing is a name that is taken, too.
    let strict = Server::start();
    symlink("nowhere", strict.file("b.bin")).unwrap();
    let mut client = Client::new(strict.address(), "/b.bin");
    client.try_create().assert(403, Some(E_ACCESSDENIED));
}

#[test]
fn a_link_to_a_folder_is_not_replaced() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(server.file("inside")).unwrap();
    symlink("inside", server.file("one")).unwrap();
    symlink(elsewhere.path(), server.file("other")).unwrap();
    for name in ["one", "other"] {
        let answer = Client::new(server.address(), &format!("/{name}")).try_create();
        answer.assert(400, Some(E_INVALIDARG));
        assert!(answer.reason().contains("is a folder"), "{answer:?}");
    }
    for name in ["one", "other"] {
        let link = std::fs::symlink_metadata(server.file(name)).unwrap();
        assert!(link.is_symlink(), "{name}");
    }
}

#[test]
fn a_link_to_a_folder_inside_is_fine() {
    let server = Server::start();
    std::fs::create_dir(server.file("inside")).unwrap();
    symlink("inside", server.file("link")).unwrap();
    let mut client = Client::create(server.address(), "/link/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("inside/a.bin", 1, 10);
}

// -- the work directory

#[test]
fn the_work_directory_is_reached_by_no_url() {
    let server =
        Server::with(Settings::default().file("create_dirs = true\nallow_overwrite = true"));
    symlink(".bitsd", server.file("door")).unwrap();
    for path in [
        "/.bitsd/x",
        "/.BITSD/x",
        "/.bitsd",
        "/%2ebitsd/x",
        "/.bitsd/lock",
    ] {
        let mut client = Client::new(server.address(), path);
        client.try_create().assert(400, Some(E_INVALIDARG));
    }
    let mut client = Client::new(server.address(), "/door/x");
    let refused = client.try_create();
    assert!(
        matches!(refused.status, 400 | 403),
        "by a link: {refused:?}"
    );
    assert_eq!(server.work_files(), [""; 0]);
}

#[test]
fn a_work_directory_of_another_name_is_reached_by_no_url() {
    for work in ["other", "other/deep", "./other/../other"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("other")).unwrap();
        let work = root.join(work);
        std::fs::create_dir_all(&work).unwrap();
        let settings = Settings::default().file(&format!(
            "allow_overwrite = true\nwork_dir = {:?}",
            work.to_str().unwrap()
        ));
        let server = Server::on(&root, settings);
        for path in ["/other/deep/x", "/other/deep/lock", "/other/deep/"] {
            let path = if work.ends_with("deep") {
                path.to_owned()
            } else {
                path.replace("/deep", "")
            };
            let mut client = Client::new(server.address(), &path);
            client.try_create().assert(400, Some(E_INVALIDARG));
        }
        let mut client = Client::create(server.address(), "/others");
        client.send(fragment(0..10)).assert(200, None);
        client.close().assert(200, None);
        server.assert_file("others", 1, 10);
    }
}

#[test]
fn a_session_not_yet_begun_has_no_name_at_the_destination() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(
        std::fs::read_dir(server.root()).unwrap().count(),
        1,
        "only the work directory"
    );
    client.cancel().assert(200, None);
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    assert_eq!(std::fs::read_dir(server.root()).unwrap().count(), 1);
}

#[test]
fn a_file_whose_bytes_were_refused_is_no_empty_file() {
    let mut server = Server::with(Settings::default().file(
        "empty_file = \"create\"\nallow_overwrite = true\nupload_bytes_max = 6000\n\
         fragment_bytes_max = 5120",
    ));
    let precious = server.file("a.bin");
    std::fs::write(&precious, "precious").unwrap();
    for (bytes, total, status, error) in [
        (0..20, 6_001, 500, Some(BG_E_TOO_LARGE)),
        (0..5_121, 5_500, 413, None),
        (10..20, 50, 416, None),
    ] {
        let mut client = Client::create(server.address(), "/a.bin");
        (client.send(fragment(bytes).of(total))).assert(status, error);
        client.reconnect();
        client.close().assert(200, None);
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious", "{status}");
    }
    // Nor is it one after a restart.
    let mut refused = Vec::new();
    for (bytes, total, status) in [(0..5_121, 5_500, 413), (10..20, 50, 416)] {
        let mut client = Client::create(server.address(), "/a.bin");
        assert_eq!(client.send(fragment(bytes).of(total)).status, status);
        refused.push(client);
    }
    server.kill9();
    server.restart();
    for client in &mut refused {
        client.reconnect_to(server.address());
        client.close().assert(200, None);
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    }
    // One that could not be understood brought bytes as well, on whatever shard it comes.
    for _ in 0..8 {
        let mut client = Client::create(server.address(), "/a.bin");
        client.reconnect();
        let packed = fragment(0..10).of(10).with("Content-Encoding: gzip\r\n");
        assert_eq!(client.send(packed).status, 400);
        client.reconnect();
        client.close().assert(200, None);
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    }
    // Nothing was to come.
    let mut client = Client::create(server.address(), "/a.bin");
    client.close().assert(200, None);
    assert_eq!(std::fs::read(&precious).unwrap(), b"");
}

/// A fragment as the raw text of a packet: `fields` say how long it is and what it holds.
fn offer(client: &mut Client, path: &str, fields: &str, body: &str) -> u16 {
    let session = client.session();
    let head = format!(
        "BITS_POST {path} HTTP/1.1\r\nHost: localhost\r\nBITS-Packet-Type: Fragment\r\n\
         BITS-Session-Id: {session}\r\n{fields}\r\n"
    );
    client.raw.send(head + body);
    client.raw.receive().status
}

/// Whatever kept them out, and whatever its server has been through since.
#[test]
fn bytes_that_were_turned_away_are_remembered_when_their_session_is_closed() {
    const PATH: &str = "/in/a.bin";
    const TEN: &str = "Content-Range: bytes 0-9/10\r\n";
    let lines = |empty_file: &str, is_enabled: bool| {
        format!(
            "create_dirs = true\nallow_overwrite = true\nempty_file = \"{empty_file}\"\n\
             [[location]]\nprefix = \"in\"\nenabled = {is_enabled}\n"
        )
    };
    let set = |empty_file| Settings::default().file(&lines(empty_file, true));
    let mut server = Server::with(set("discard"));
    std::fs::create_dir(server.file("in")).unwrap();
    std::fs::write(server.file(&PATH[1..]), "precious").unwrap();
    // Other settings may hold when it is closed than when its bytes came.
    let mut early = Client::create(server.address(), PATH);
    assert_eq!(early.send(fragment(10..20).of(50)).status, 416);
    let mut turned_away = vec![early];
    server.restart_with(set("create"));
    for (fields, body) in [
        (
            format!("{TEN}Content-Length: 10\r\nContent-Encoding: gzip\r\n"),
            "0123456789",
        ),
        (format!("{TEN}Content-Length: 9\r\n"), "012345678"),
        (
            "Content-Range: z\r\nContent-Length: 10\r\n".to_owned(),
            "0123456789",
        ),
        // Nobody says where its bytes end, so none follow.
        (TEN.to_owned(), ""),
        // It says that it is empty, and is not.
        (
            "Content-Range: bytes */0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
            "a\r\n0123456789\r\n0\r\n\r\n",
        ),
    ] {
        for is_closed_at_once in [true, false] {
            let mut client = Client::create(server.address(), PATH);
            assert_eq!(offer(&mut client, PATH, &fields, body), 400, "{fields}");
            if is_closed_at_once {
                client.reconnect();
                client.close().assert(200, None);
                let found = std::fs::read(server.file(&PATH[1..])).unwrap();
                assert_eq!(found, b"precious", "{fields}");
            } else {
                turned_away.push(client);
            }
        }
    }
    // Nothing is taken there for a while.
    let mut disabled = [(); 2].map(|()| Client::create(server.address(), PATH));
    server.reload(&lines("create", false));
    wait_until("uploads are disabled", || disabled[0].ping().status == 501);
    for client in &mut disabled {
        (client.send(fragment(0..10))).assert(501, Some(E_ACCESSDENIED));
    }
    server.reload(&lines("create", true));
    let [mut at_once, later] = disabled;
    wait_until("uploads are enabled", || at_once.ping().status == 200);
    at_once.close().assert(200, None);
    turned_away.push(later);
    server.kill9();
    server.restart_with(set("create"));
    for (number, client) in turned_away.iter_mut().enumerate() {
        client.reconnect_to(server.address());
        client.close().assert(200, None);
        let found = std::fs::read(server.file(&PATH[1..])).unwrap();
        assert_eq!(found, b"precious", "the session of offer {number}");
    }
}

/// A client whose fragments are refused without end costs no record each time.
#[test]
fn an_offer_is_recorded_once() {
    let server = Server::with(Settings::default().flags(&["--cores", "1"]));
    let records = || {
        let entries = std::fs::read_dir(server.file(".bitsd")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let journals = paths.filter(|path| path.extension().is_some_and(|of| of == "journal"));
        let count = |path| Frames::of(&std::fs::read(path).unwrap()).count();
        journals.map(count).sum::<usize>()
    };
    let mut client = Client::create(server.address(), "/a.bin");
    let created = records();
    for at in 1..6 {
        // Further on each time: going back would be an interruption, which has a record too.
        let gap = fragment(at * 10..at * 10 + 10).of(100);
        assert_eq!(client.send(gap).status, 416);
        let packed = fragment(0..10).with("Content-Encoding: gzip\r\n");
        assert_eq!(client.send(packed).status, 400);
        assert_eq!(records(), created + 1);
    }
}
