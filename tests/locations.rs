//! Settings per URL prefix, and settings that change while the server runs.

mod support;

use std::path::Path;

use support::client::{BG_E_TOO_LARGE, Client, E_ACCESSDENIED, fragment};
use support::host::without_calls;
use support::program::descriptors;
use support::server::{Server, Settings};
use support::{skip, wait_until};

fn with(file: &str) -> Server {
    Server::with(Settings::default().file(file))
}

#[track_caller]
fn upload(server: &Server, path: &str, bytes: u64) -> Client {
    let mut client = Client::create(server.address(), path);
    client.send(fragment(0..bytes)).assert(200, None);
    client.close().assert(200, None);
    client
}

#[test]
fn a_location_has_its_own_root_or_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let server = with(&format!(
        "create_dirs = true\n\
         [[location]]\nprefix = \"/logs/\"\nroot = {own:?}\n\
         [[location]]\nprefix = \"logs/kept\"\n\
         [[location]]\nprefix = \"a%20b\"\nroot = {own:?}"
    ));
    upload(&server, "/logs/x/1.bin", 10);
    assert_eq!(std::fs::read(own.join("x/1.bin")).unwrap().len(), 10);
    // The longest prefix wins, and inherits the global root, not that of the shorter one.
    upload(&server, "/logs/kept/2.bin", 10);
    server.assert_file("logs/kept/2.bin", 1, 10);
    // A prefix is whole names.
    upload(&server, "/logsx/3.bin", 10);
    server.assert_file("logsx/3.bin", 1, 10);
    upload(&server, "/a%20b/4.bin", 10);
    assert_eq!(std::fs::read(own.join("4.bin")).unwrap().len(), 10);
    // The prefix itself is a folder.
    let mut client = Client::new(server.address(), "/logs");
    assert_eq!(client.try_create().status, 400);
}

#[test]
fn locations_that_share_a_root_do_not_touch_each_others_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let mut server = with(&format!(
        "[[location]]\nprefix = \"one\"\nroot = {shared:?}\nsession_timeout = \"3s\"\n\
         [[location]]\nprefix = \"two\"\nroot = {shared:?}"
    ));
    let mut one = Client::create(server.address(), "/one/1.bin");
    let mut two = Client::create(server.address(), "/two/2.bin");
    two.send(fragment(0..10).of(20)).assert(200, None);
    // A session is bound to its URL, wherever that leads.
    let mut stranger = Client::new(server.address(), "/one/2.bin");
    stranger.adopt(two.session());
    assert_eq!(stranger.send(fragment(10..20)).status, 500);
    wait_until("the one expires", || server.log().contains("expired"));
    assert_eq!(one.send(fragment(0..10)).status, 500);
    server.restart();
    two.reconnect_to(server.address());
    two.send(fragment(10..20)).assert(200, None);
    two.close().assert(200, None);
    assert_eq!(std::fs::read(shared.join("2.bin")).unwrap().len(), 20);
}

#[test]
fn each_property_is_that_of_its_location() {
    let server = with(
        "allow_overwrite = false\nupload_bytes_max = 1000\n\
         [[location]]\nprefix = \"free\"\nallow_overwrite = true\ncreate_dirs = true\n\
         upload_bytes_max = \"unlimited\"\npublish = \"last-fragment\"\n\
         [[location]]\nprefix = \"small\"\nfragment_bytes_max = 5120\ncreate_dirs = true\nupload_bytes_max = 50000",
    );
    for _ in 0..2 {
        let mut client = Client::create(server.address(), "/free/a.bin");
        client.send(fragment(0..2_000)).assert(200, None);
        server.assert_file("free/a.bin", 1, 2_000);
    }
    let mut client = Client::new(server.address(), "/missing/a.bin");
    assert_eq!(client.try_create().status, 404);
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..2_000))
        .assert(500, Some(BG_E_TOO_LARGE));
    let mut client = Client::create(server.address(), "/small/a.bin");
    assert_eq!(client.send(fragment(0..6_000)).status, 413);
}

#[test]
fn a_disabled_location_answers_501_and_keeps_its_sessions() {
    let enabled = "create_dirs = true\n[[location]]\nprefix = \"in\"\n";
    let disabled = format!("{enabled}enabled = false\n");
    let server = with(enabled);
    let mut client = Client::create(server.address(), "/in/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    server.reload(&disabled);
    wait_until("uploads are disabled", || {
        Client::new(server.address(), "/in/a.bin").ping().status == 501
    });
    client.ping().assert(501, Some(E_ACCESSDENIED));
    client
        .send(fragment(10..20))
        .assert(501, Some(E_ACCESSDENIED));
    client.close().assert(501, Some(E_ACCESSDENIED));
    client.cancel().assert(501, Some(E_ACCESSDENIED));
    let mut other = Client::new(server.address(), "/in/b.bin");
    other.try_create().assert(501, Some(E_ACCESSDENIED));
    Client::new(server.address(), "/b.bin")
        .ping()
        .assert(200, None);
    // A slip of the hand costs nothing.
    server.reload(enabled);
    wait_until("uploads are enabled", || client.ping().status == 200);
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("in/a.bin", 1, 20);
}

#[test]
fn a_node_is_told_with_the_session_and_only_there() {
    let server = with("host_id = \"node1.example\"\nhost_id_fallback = \"110s\"");
    let mut client = Client::new(server.address(), "/a.bin");
    let created = client.try_create();
    assert_eq!(created.field("BITS-Host-Id"), Some("node1.example"));
    assert_eq!(created.field("BITS-Host-Id-Fallback-Timeout"), Some("110"));
    let others = [client.ping(), client.send(fragment(0..10)), client.close()];
    for other in others {
        assert_eq!(other.field("BITS-Host-Id"), None, "{other:?}");
        assert_eq!(other.field("BITS-Host-Id-Fallback-Timeout"), None);
    }
    let refused = client.try_create();
    assert_eq!((refused.status, refused.field("BITS-Host-Id")), (403, None));
    let plain = Server::start();
    let created = Client::new(plain.address(), "/a.bin").try_create();
    assert_eq!(created.field("BITS-Host-Id"), None);
}

#[test]
fn a_client_has_so_many_sessions_where_a_location_says_so() {
    let file = "create_dirs = true\n[[location]]\nprefix = \"few\"\nsessions_per_client_max = 2";
    let mut server = with(file);
    let create = |server: &Server, number: u32| {
        let mut client = Client::new(server.address(), &format!("/few/{number}.bin"));
        let status = client.try_create().status;
        (status, client)
    };
    let (status, mut first) = create(&server, 1);
    assert_eq!(status, 200);
    let (status, _second) = create(&server, 2);
    assert_eq!(status, 200);
    // Whichever shard is asked.
    for number in 3..11 {
        assert_eq!(create(&server, number).0, 503);
    }
    let mut elsewhere = Client::new(server.address(), "/many/1.bin");
    elsewhere.try_create().assert(200, None);
    // They count after a restart too.
    server.kill9();
    server.restart();
    assert_eq!(create(&server, 11).0, 503);
    first.reconnect_to(server.address());
    first.cancel().assert(200, None);
    assert_eq!(create(&server, 12).0, 200);
    assert_eq!(create(&server, 13).0, 503);
}

#[test]
fn expired_uploads_are_looked_for_as_often_as_the_settings_say() {
    let file = "session_timeout = \"3s\"\ncleanup_interval = \"4s\"";
    let server = with(file);
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    wait_until("it expires", || server.work_files().is_empty());
    assert_eq!(client.send(fragment(10..20)).status, 500);
}

/// Goal: no reload leads to a start that fails. Method: files that a start reads itself, of keys
/// that hold at once and of those that wait for a start.
#[test]
fn a_reload_refuses_what_a_start_refuses() {
    let server = with("");
    let store = "[[location]]\nprefix = \"s\"\nstore = \"s3\"\nstore_bucket = \"uploads\"\n\
                 allow_overwrite = true\nstore_ca = \"/none/ca.pem\"\n";
    let webhook = "[events]\nwebhook = \"https://127.0.0.1:9/\"\nwebhook_ca = \"/none/ca.pem\"\n";
    let custody = "custody = \"/none/ledger\"\n";
    let mut all = vec![
        (webhook, "events.webhook_ca: cannot read /none/ca.pem"),
        (custody, "/none/ledger"),
    ];
    let work = "work_dir = \"/none/work\"\n";
    all.push((work, "the next start would fail"));
    if cfg!(feature = "s3") {
        all.push((store, "store_ca: cannot read /none/ca.pem"));
    }
    for (lines, why) in all {
        server.reload(lines);
        server.wait_for_log(why);
    }
    assert!(!server.log().contains("event=reloaded"));
    upload(&server, "/a.bin", 10);
    server.assert_file("a.bin", 1, 10);
}

/// The same of roots, also of the one that is open already. Method: the system calls by which a
/// file system replaces nothing are forbidden to the server; each is started by the settings, too.
#[test]
fn a_reload_refuses_a_root_that_a_start_refuses() {
    // renameat2, as if the flag were not known (EINVAL), and linkat (EPERM).
    let calls = match () {
        () if cfg!(target_arch = "x86_64") => "316:22,265:1",
        () if cfg!(target_arch = "aarch64") => "276:22,37:1",
        () => return skip("the numbers of the system calls are not known here"),
    };
    let Some(words) = without_calls(calls) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let begin = Settings::default().wrapper(&words);
    let server = Server::with(begin.clone().file("allow_overwrite = true\n"));
    let at = |root: &Path, more: &str| {
        format!("allow_overwrite = true\n[[location]]\nprefix = \"n\"\nroot = {root:?}\n{more}")
    };
    let only_replaces = "can neither rename without replacing";
    for (lines, why) in [
        ("allow_overwrite = false\n".to_owned(), only_replaces),
        (
            at(folder.path(), "allow_overwrite = false\n"),
            only_replaces,
        ),
        (at(&file, ""), "is not a directory"),
        (at(Path::new("/proc"), ""), "holds no files (proc)"),
        (at(&folder.path().join("none"), ""), "does not exist"),
    ] {
        let before = server.log().len();
        server.reload(&lines);
        let tells = || server.log()[before..].contains("event=reload_failed");
        wait_until("the reload fails", tells);
        let told = server.log().split_off(before);
        assert!(told.contains(why), "{lines}: {told}");
        let fresh = tempfile::tempdir().unwrap();
        let settings = begin.clone().file(&lines);
        let (status, said) = Server::refused(&fresh.path().join("root"), &settings);
        assert!(!status.success() && said.contains(why), "{lines}: {said}");
    }
    // What a start takes, a reload takes.
    server.reload(&at(folder.path(), ""));
    server.wait_for_log("event=reloaded");
    upload(&server, "/n/a.bin", 10);
    let folder = std::fs::read(folder.path().join("a.bin")).unwrap();
    assert_eq!(folder.len(), 10);
}

#[test]
fn settings_are_read_again_at_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let new_root = folder.path().join("new");
    std::fs::create_dir(&new_root).unwrap();
    let server = with("log_level = \"info\"");
    let mut running = Client::create(server.address(), "/running.bin");
    running.send(fragment(0..10).of(20)).assert(200, None);

    // What is wrong is refused, and everything stays as it is.
    server.reload("allow_overwrite = 3\n");
    server.wait_for_log("the settings were not reloaded");
    server.wait_for_log(":1:19");
    let file = std::path::Path::new("/dev/null/no/folder");
    server.reload(&format!(
        "[[location]]\nprefix = \"new\"\nroot = {file:?}\n"
    ));
    server.wait_for_log("/dev/null/no/folder");
    running.send(fragment(10..15).of(20)).assert(200, None);

    // What is right holds from now on, for running sessions too; what cannot change is named.
    server.reload(&format!(
        "log_level = \"debug\"\nio = \"ring\"\nallow_overwrite = true\n[[location]]\nprefix = \"new\"\nroot = {new_root:?}\n"
    ));
    server.wait_for_log("the settings were reloaded");
    server.wait_for_log("key=\"io\"");
    std::fs::write(server.file("running.bin"), "old").unwrap();
    running.send(fragment(15..20)).assert(200, None);
    running.close().assert(200, None);
    server.assert_file("running.bin", 1, 20);
    for number in 0..8 {
        upload(&server, &format!("/new/{number}.bin"), 10);
        let path = new_root.join(format!("{number}.bin"));
        assert_eq!(std::fs::read(path).unwrap().len(), 10);
    }
}

#[test]
fn roots_that_no_location_names_any_more_are_closed() {
    let folder = tempfile::tempdir().unwrap();
    let root = |number: u32| folder.path().join(number.to_string());
    let lines = |number: u32| {
        let root = root(number);
        format!("durability = \"none\"\n[[location]]\nprefix = \"in\"\nroot = {root:?}\n")
    };
    for number in 0..8 {
        std::fs::create_dir(root(number)).unwrap();
    }
    let server = with("durability = \"none\"");
    // What is opened with the first upload stays open.
    upload(&server, "/first.bin", 10);
    let before = descriptors(server.pid());
    // A root that comes back is opened again, and is the same.
    for (reloads, number) in [0, 1, 2, 0, 3, 4, 5, 6, 7, 0].into_iter().enumerate() {
        server.reload(&lines(number));
        wait_until("the settings hold", || {
            server.log().matches("the settings were reloaded").count() > reloads
        });
        upload(&server, "/in/a.bin", 10);
        std::fs::remove_file(root(number).join("a.bin")).unwrap();
    }
    // One root, opened once and for each of two shards.
    wait_until("the former roots are closed", || {
        descriptors(server.pid()) <= before + 3
    });
}

/// Goal: what was closed is over, whatever becomes of its location. A client whose Ack was lost
/// hears the same again; nothing is counted as unfinished.
#[test]
fn what_was_closed_ends_with_the_stop_also_where_its_location_goes() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let lines = format!("[[location]]\nprefix = \"/logs\"\nroot = {own:?}\n");
    for publish in ["close", "last-fragment"] {
        let lines = format!("publish = {publish:?}\n{lines}");
        let mut server = with(&lines);
        let mut client = upload(&server, "/logs/a.bin", 10);
        server.stop();
        server.restart_with(Settings::default().file(""));
        server.wait_for_log("unfinished=0");
        client.reconnect_to(server.address());
        client.close().assert(200, None);
        assert!(!server.log().contains("event=disk_failed"));
        assert_eq!(std::fs::read(own.join("a.bin")).unwrap().len(), 10);
        std::fs::remove_file(own.join("a.bin")).unwrap();
    }
}

/// Where the server was killed, nobody knows whether a power cut would leave the name: the client
/// hears 503, and an administrator can end it all the same. So does its time.
#[test]
fn what_was_closed_before_a_kill_can_be_ended_where_its_location_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let socket = folder.path().join("admin.sock");
    let top = |timeout: &str| {
        format!(
            "admin_socket = {socket:?}\ncleanup_interval = \"1s\"\nsession_timeout = {timeout:?}\n"
        )
    };
    let mut server = with(&format!(
        "{}[[location]]\nprefix = \"/logs\"\nroot = {own:?}\n",
        top("14d")
    ));
    let mut clients = ["/logs/a.bin", "/logs/b.bin"].map(|path| upload(&server, path, 10));
    server.kill9();
    server.restart_with(Settings::default().file(&top("14d")));
    let [cancelled, expired] = &mut clients;
    for client in [&mut *cancelled, &mut *expired] {
        client.reconnect_to(server.address());
        client.close().assert(503, None);
    }
    server.wait_for_log("beneath a root that the settings do not name any more");
    let sessions = |what: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.arg("sessions").args(what);
        let ended = command.arg("--socket").arg(&socket).output().unwrap();
        assert!(ended.status.success(), "{what:?}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    sessions(&["cancel", cancelled.session().trim_matches(['{', '}'])]);
    cancelled.close().assert(200, None);
    assert!(!sessions(&["list"]).contains("a.bin"));
    server.reload(&top("1s"));
    wait_until("the other one expires", || {
        !sessions(&["list"]).contains("b.bin")
    });
    for name in ["a.bin", "b.bin"] {
        assert_eq!(std::fs::read(own.join(name)).unwrap().len(), 10, "{name}");
    }
}
