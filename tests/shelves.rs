//! Shelves: the folders on other disks in which unfinished uploads are kept, which may be missing
//! at a start, or lead nowhere by the settings.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::host::{Tmpfs, allow, folder_and_root, run};
use support::server::{Server, Settings};
use support::wait_until;

/// Two disks, whose mount points are on a third one.
struct Host {
    /// Before the folder that it is in.
    _points: Tmpfs,
    folder: TempDir,
    root: PathBuf,
}

impl Host {
    /// `None`, and said so, where nothing can be mounted.
    fn new() -> Option<Self> {
        let (folder, root) = folder_and_root();
        let points = folder.path().join("points");
        fs::create_dir(&points).unwrap();
        let _points = Tmpfs::on(&points, "size=4M")?;
        let host = Self {
            _points,
            folder,
            root,
        };
        for name in ["a", "b"] {
            fs::create_dir(host.disk(name)).unwrap();
            fs::create_dir(host.point(name)).unwrap();
            host.mount(name);
        }
        Some(host)
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn point(&self, name: &str) -> PathBuf {
        self.folder.path().join("points").join(name)
    }

    fn mount(&self, name: &str) {
        let (disk, point) = (self.disk(name), self.point(name));
        assert!(run(&["mount", "--bind", text(&disk), text(&point)]));
    }

    /// What a server has open is closed a moment after its end.
    #[track_caller]
    fn unmount(&self, name: &str) {
        wait_until("it is unmounted", || {
            run(&["umount", text(&self.point(name))])
        });
    }

    /// Locations of these names.
    fn settings(&self, names: &[&str]) -> Settings {
        let location = |name: &&str| {
            let point = self.point(name);
            format!("[[location]]\nprefix = \"/{name}\"\nroot = {point:?}\n")
        };
        let socket = format!("admin_socket = {:?}", socket_of(&self.root));
        let locations = names.iter().map(location).collect::<String>();
        Settings::default().file(&socket).file(&locations)
    }

    /// What a check says of them.
    fn check(&self, names: &[&str]) -> String {
        self.run(&["check", "--listen", "127.0.0.1:0"], names)
    }

    /// What is told of sessions while no server runs.
    fn list_of_a_server_that_rests(&self, names: &[&str]) -> String {
        self.run(&["sessions", "list"], names)
    }

    fn run(&self, words: &[&str], names: &[&str]) -> String {
        let file = self.folder.path().join("check.toml");
        let root = format!("root = {:?}\n", self.root);
        fs::write(&file, root + &self.settings(names).file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(words).arg("--config").arg(file).output();
        let output = output.unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for name in ["a", "b"] {
            run(&["umount", "-l", text(&self.point(name))]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An upload that is half there, and one that is whole and not closed.
fn begin(server: &Server) -> [Client; 2] {
    let mut half = Client::create(server.address(), "/a/half").seed(1);
    half.send(fragment(0..500).of(1000));
    let mut whole = Client::create(server.address(), "/a/whole").seed(1);
    whole.send(fragment(0..1000).of(1000));
    [half, whole]
}

#[track_caller]
fn finish(host: &Host, server: &Server, [mut half, mut whole]: [Client; 2]) {
    half.reconnect_to(server.address());
    half.send(fragment(500..1000).of(1000)).assert(200, None);
    half.close().assert(200, None);
    whole.reconnect_to(server.address());
    whole.close().assert(200, None);
    for name in ["half", "whole"] {
        assert_eq!(fs::read(host.point("a").join(name)).unwrap().len(), 1000);
    }
}

/// Nobody has renamed anything, and mounting it again is all that helps.
#[test]
fn a_disk_that_was_unmounted_lazily_is_told_as_that() {
    let Some(host) = Host::new() else { return };
    let root = host.point("a").join("r");
    fs::create_dir(&root).unwrap();
    let lines = format!("[[location]]\nprefix = \"/a\"\nroot = {root:?}\n");
    let server = Server::on(&host.root, Settings::default().file(&lines));
    assert!(run(&["umount", "-l", text(&host.point("a"))]));
    server.wait_for_log("its file system was unmounted (`umount -l`)");
    assert!(!server.log().contains("renamed"), "{}", server.log());
    host.mount("a");
    server.wait_for_log("event=ready");
    let mut client = Client::create(server.address(), "/a/x");
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
}

/// The mount point is another disk than the work directory: a shelf can be made there, and is not
/// the one whose uploads wait. After a clean stop and after a kill.
#[test]
fn uploads_on_a_disk_that_is_not_mounted_wait_for_it() {
    for is_killed in [false, true] {
        let Some(host) = Host::new() else { return };
        let settings = host.settings(&["a", "b"]);
        let mut server = Server::on(&host.root, settings.clone());
        let clients = begin(&server);
        server.stop();
        host.unmount("a");
        let said = host.check(&["a", "b"]);
        assert!(said.contains("is its disk mounted?"), "{said}");
        for _ in 0..2 {
            server = Server::on(&host.root, settings.clone());
            server.wait_for_log("event=shelf_missing");
            they_wait(&server, &clients);
            match is_killed {
                true => server.kill9(),
                false => server.stop(),
            }
        }
        let resting = host.list_of_a_server_that_rests(&["a", "b"]);
        assert_eq!(resting.matches("awaits_disk").count(), 2, "{resting}");
        host.mount("a");
        server = Server::on(&host.root, settings);
        finish(&host, &server, clients);
        server.stop();
        if !is_killed {
            assert!(!host.check(&["a", "b"]).contains("is its disk mounted?"));
        }
    }
}

/// Goal: a disk that is away holds up nobody whose file is where it should be. Method: files on the
/// disk of the work directory and on one that is there, closed or given their names by their last
/// fragment, before a start without another disk; after a kill, and after a clean stop.
#[test]
fn uploads_that_have_their_names_wait_for_no_other_disk() {
    for is_killed in [false, true] {
        let Some(host) = Host::new() else { return };
        let early =
            "[[location]]\nprefix = \"/early\"\npublish = \"last-fragment\"\ncreate_dirs = true\n";
        let settings = host.settings(&["a", "b"]).file(early);
        let mut server = Server::on(&host.root, settings.clone());
        let waiting = begin(&server);
        let mut done: Vec<_> = ["/x", "/b/x"]
            .map(|path| {
                let mut client = Client::create(server.address(), path);
                client.send(fragment(0..1000).of(1000)).assert(200, None);
                client.close().assert(200, None);
                client
            })
            .into();
        let mut named = Client::create(server.address(), "/early/x");
        named.send(fragment(0..1000).of(1000)).assert(200, None);
        done.push(named);
        match is_killed {
            true => server.kill9(),
            false => server.stop(),
        }
        host.unmount("a");
        server = Server::on(&host.root, settings.clone());
        server.wait_for_log("event=shelf_missing");
        they_wait(&server, &waiting);
        for client in &mut done {
            client.reconnect_to(server.address());
            client.close().assert(200, None);
        }
        assert_eq!(server.log().matches("event=disk_failed").count(), 2);
        server.stop();
        let resting = host.list_of_a_server_that_rests(&["a", "b"]);
        assert_eq!(resting.matches("awaits_disk").count(), 2, "{resting}");
        host.mount("a");
        server = Server::on(&host.root, settings);
        finish(&host, &server, waiting);
    }
}

/// Goal: what a clean stop has made safe is not lost by a start that cannot find its disk. Method:
/// the stop was in another boot.
#[test]
fn uploads_that_a_clean_stop_has_made_safe_wait_for_their_disk_as_they_are() {
    let Some(host) = Host::new() else { return };
    let settings = host.settings(&["a", "b"]);
    let mut server = Server::on(&host.root, settings.clone());
    let clients = begin(&server);
    server.stop();
    support::journal::of_another_boot(&host.root.join(".bitsd"));
    host.unmount("a");
    server = Server::on(&host.root, settings.clone());
    server.wait_for_log("event=shelf_missing");
    server.kill9();
    host.mount("a");
    server = Server::on(&host.root, settings);
    finish(&host, &server, clients);
}

/// Goal: whatever settings were tried before, the next start knows where uploads are.
#[test]
fn a_shelf_that_came_with_settings_that_failed_is_known_to_the_next_start() {
    let Some(host) = Host::new() else { return };
    let mut server = Server::on(&host.root, host.settings(&["b"]));
    let lines = |names| host.settings(names).file;
    let misspelt = "[[location]]\nprefix = \"/c\"\nroot = \"/nowhere/at/all\"\n";
    server.reload(&(lines(&["b", "a"]) + misspelt));
    server.wait_for_log("event=reload_failed");
    server.reload(&lines(&["b", "a"]));
    server.wait_for_log("event=reloaded");
    let clients = begin(&server);
    server.kill9();
    host.unmount("a");
    let settings = host.settings(&["b", "a"]);
    server = Server::on(&host.root, settings.clone());
    server.wait_for_log("event=shelf_missing");
    they_wait(&server, &clients);
    server.stop();
    host.mount("a");
    server = Server::on(&host.root, settings);
    finish(&host, &server, clients);
}

/// Whoever asks for an upload whose disk is away hears that it waits, and comes back.
#[track_caller]
fn they_wait(server: &Server, [half, whole]: &[Client; 2]) {
    let named = |path: &str, session: &str| {
        let mut client = Client::new(server.address(), path);
        client.adopt(session);
        client
    };
    let mut client = named("/a/half", half.session());
    client.send(fragment(500..1000).of(1000)).assert(503, None);
    let mut client = named("/a/half", half.session());
    client.cancel().assert(503, None);
    named("/a/whole", whole.session()).close().assert(503, None);
    // Under another name there is none.
    let mut other = named("/a/whole", half.session());
    other.close().assert(500, Some(SESSION_NOT_FOUND));
    they_are_shown(server, [half.session(), whole.session()]);
    server.wait_for_log("mount the disk that the line shelf_missing names");
    let log = server.log();
    assert!(!log.contains("keep other programs out"), "{log}");
}

/// Whoever asks what there is finds them, with the word for what they wait for.
#[track_caller]
fn they_are_shown(server: &Server, sessions: [&str; 2]) {
    let ask = |words: &[&str]| ask(server.root(), words);
    let plain = sessions.map(|id| id.trim_matches(['{', '}']));
    let all = ask(&["sessions", "list", "--state", "awaits_disk"]);
    let is_row = |id: &str, path: &str| {
        let mut rows = all.lines().filter(|line| line.starts_with(id));
        rows.any(|row| row.contains("awaits_disk") && row.ends_with(path))
    };
    assert!(
        is_row(plain[0], "a/half") && is_row(plain[1], "a/whole"),
        "{all}"
    );
    assert!(!ask(&["sessions", "list", "--state", "receiving"]).contains(plain[0]));
    let shown = ask(&["sessions", "show", plain[0]]);
    assert!(
        shown.contains("awaits_disk") && !shown.contains("expires"),
        "{shown}"
    );
    let ended = ask(&["sessions", "cancel", plain[0]]);
    assert!(ended.contains("mount that and restart"), "{ended}");
    let status = ask(&["status"]);
    assert!(
        status.contains("waiting   2 uploads for a disk"),
        "{status}"
    );
}

/// Where the server with this root is asked how it is.
fn socket_of(root: &Path) -> PathBuf {
    root.with_file_name("admin")
}

/// Another disk is in use all the while.
#[test]
fn uploads_on_a_disk_that_the_settings_do_not_name_go_on() {
    let Some(host) = Host::new() else { return };
    let both = host.settings(&["a", "b"]);
    let mut server = Server::on(&host.root, both.clone());
    let clients = begin(&server);
    server.stop();
    server = Server::on(&host.root, host.settings(&["b"]));
    server.wait_for_log("event=former_shelf");
    server.stop();
    // And that disk is away as well.
    host.unmount("a");
    server = Server::on(&host.root, host.settings(&["b"]));
    server.wait_for_log("event=shelf_missing");
    server.stop();
    host.mount("a");
    server = Server::on(&host.root, both);
    finish(&host, &server, clients);
    server.stop();
}

/// Uploads are not forgotten because the note of whose they are is gone.
#[test]
fn a_shelf_that_does_not_say_whose_it_is_waits() {
    let Some(host) = Host::new() else { return };
    let both = host.settings(&["a", "b"]);
    for gone in ["emptied", "removed"] {
        let mut server = Server::on(&host.root, both.clone());
        let clients = begin(&server);
        server.stop();
        let owner = host.point("a").join(".bitsd/owner");
        let note = fs::read(&owner).unwrap();
        match gone {
            "emptied" => fs::write(&owner, "").unwrap(),
            _ => fs::remove_file(&owner).unwrap(),
        }
        server = Server::on(&host.root, host.settings(&["b"]));
        server.wait_for_log("event=shelf_missing");
        server.wait_for_log("does not say whose it is");
        server.stop();
        fs::write(&owner, note).unwrap();
        server = Server::on(&host.root, both.clone());
        finish(&host, &server, clients);
        server.stop();
        for name in ["half", "whole"] {
            fs::remove_file(host.point("a").join(name)).unwrap();
        }
    }
}

/// Of a list that an older version has written.
#[test]
fn a_shelf_without_a_name_of_its_own_is_found_by_its_path() {
    let Some(host) = Host::new() else { return };
    let both = host.settings(&["a", "b"]);
    let mut server = Server::on(&host.root, both.clone());
    let clients = begin(&server);
    server.stop();
    let shelf = host.point("a").join(".bitsd");
    let owner = fs::read_to_string(shelf.join("owner")).unwrap();
    let without: Vec<_> = owner.lines().take(2).collect();
    assert_eq!(owner.lines().count(), 3);
    fs::write(shelf.join("owner"), without.join("\n") + "\n").unwrap();
    let list = format!("{}\n", shelf.display());
    fs::write(host.root.join(".bitsd/shelves"), list).unwrap();
    server = Server::on(&host.root, host.settings(&["b"]));
    server.wait_for_log("event=former_shelf");
    server.stop();
    server = Server::on(&host.root, both);
    finish(&host, &server, clients);
    let list = fs::read_to_string(host.root.join(".bitsd/shelves")).unwrap();
    assert!(list.lines().all(|line| !line.starts_with('/')), "{list}");
    server.stop();
}

/// What the server with this root says to a command.
fn ask(root: &Path, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let output = command
        .args(words)
        .arg("--socket")
        .arg(socket_of(root))
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[track_caller]
fn upload(server: &Server, path: &str) {
    let mut client = Client::create(server.address(), path);
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
}

/// Goal: a disk that no location leads to any more can be taken out while the server runs, and come
/// back. Method: twice, the first time one that the server has had from its start.
#[test]
fn a_disk_that_no_location_uses_is_let_go_of() {
    let Some(host) = Host::new() else { return };
    let both = host.settings(&["a", "b"]);
    let mut server = Server::on(&host.root, both.clone());
    for round in 1..=2 {
        upload(&server, &format!("/a/{round}"));
        server.reload(&host.settings(&["b"]).file);
        wait_until("it is told", || {
            server.log().matches("event=shelf_let_go").count() == round
        });
        // At once: who reads it does not try twice.
        assert!(run(&["umount", text(&host.point("a"))]));
        upload(&server, &format!("/b/{round}"));
        host.mount("a");
        ask(&host.root, &["reload"]);
        let said = ask(&host.root, &["status"]);
        assert!(!said.contains("NOT READY"), "{said}");
        fs::write(host.root.with_extension("toml"), &both.file).unwrap();
        let said = ask(&host.root, &["reload"]);
        assert!(said.contains("location /a is new"), "{said}");
    }
    upload(&server, "/a/3");
    assert!(
        !server.log().contains("event=not_ready"),
        "{}",
        server.log()
    );
    server.stop();
}

/// Goal: a reload refuses only what the next start would refuse. The shelf of a disk is locked by
/// the very server that the start comes after, also where that one has another work directory.
#[test]
fn the_work_directory_may_move_where_a_location_is_on_another_disk() {
    let Some(host) = Host::new() else { return };
    let before = host.settings(&["a"]);
    let mut server = Server::on(&host.root, before.clone());
    upload(&server, "/a/1");
    let moved = host.root.with_extension("moved");
    fs::create_dir(&moved).unwrap();
    fs::set_permissions(&moved, fs::Permissions::from_mode(0o700)).unwrap();
    let settings = host.root.with_extension("toml");
    let lines = format!("work_dir = {moved:?}\n{}", before.file);
    fs::write(&settings, &lines).unwrap();
    let said = ask(&host.root, &["reload"]);
    assert!(said.contains("work_dir"), "{said}");
    assert!(
        !said.contains("another bitsd") && !said.contains("would fail"),
        "{said}"
    );
    let mut check = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let check = check.args(["check", "--quiet", "--config"]).arg(&settings);
    let check = check.args(["--listen", "127.0.0.1:0", "--root"]);
    let checked = check.arg(&host.root).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    server.stop();
    server = Server::on(&host.root, Settings::default().file(&lines));
    upload(&server, "/a/2");
    server.stop();
}

/// An upload that is under way on such a disk goes on, and keeps it.
#[test]
fn a_disk_that_no_location_uses_is_kept_for_its_uploads() {
    let Some(host) = Host::new() else { return };
    let both = host.settings(&["a", "b"]);
    let mut server = Server::on(&host.root, both.clone());
    let clients = begin(&server);
    server.reload(&host.settings(&["b"]).file);
    server.wait_for_log("event=reloaded");
    // Long enough for two looks, which the end of another disk shows.
    server.reload(&host.settings(&[]).file);
    server.wait_for_log("event=shelf_let_go");
    assert!(run(&["umount", text(&host.point("b"))]));
    assert!(!run(&["umount", text(&host.point("a"))]));
    host.mount("b");
    fs::write(host.root.with_extension("toml"), &both.file).unwrap();
    let said = ask(&host.root, &["reload"]);
    assert!(said.contains("location /a is new"), "{said}");
    finish(&host, &server, clients);
    server.stop();
}

#[test]
fn a_reload_that_is_refused_takes_nothing_into_its_hands() {
    let Some(host) = Host::new() else { return };
    let mut server = Server::on(&host.root, host.settings(&["b"]));
    let missing = "[[location]]\nprefix = \"/n\"\nroot = \"/nowhere/at/all\"\n";
    let lines = host.settings(&["a", "b"]).file(missing).file;
    fs::write(host.root.with_extension("toml"), lines).unwrap();
    let said = ask(&host.root, &["reload"]);
    assert!(said.contains("/nowhere/at/all"), "{said}");
    assert_eq!(fs::read_dir(host.disk("a")).unwrap().count(), 0);
    let list = fs::read_to_string(host.root.join(".bitsd/shelves")).unwrap();
    assert!(!list.contains("/a/.bitsd"), "{list}");
    assert!(run(&["umount", text(&host.point("a"))]));
    upload(&server, "/b/x");
    server.stop();
}

/// One on the disk of the work directory: somebody moves it away, and makes another one.
#[test]
fn a_root_that_no_location_uses_may_go_and_come_back() {
    let (folder, root) = folder_and_root();
    let old = folder.path().join("old");
    fs::create_dir(&old).unwrap();
    let lines = format!("[[location]]\nprefix = \"/old\"\nroot = {old:?}\n");
    let mut server = Server::on(&root, Settings::default().file(&lines));
    for round in 1..=2 {
        upload(&server, &format!("/old/{round}"));
        server.reload("log_level = \"info\"\n");
        wait_until("the location is gone", || {
            server.log().matches("location /old is gone").count() == round
        });
        fs::rename(&old, folder.path().join(format!("archive{round}"))).unwrap();
        fs::create_dir(&old).unwrap();
        server.reload(&lines);
        wait_until("the location is back", || {
            server.log().matches("location /old is new").count() == round
        });
    }
    upload(&server, "/old/3");
    assert!(
        !server.log().contains("event=not_ready"),
        "{}",
        server.log()
    );
    server.stop();
}

/// Goal: who moves the work directory and a root apart hears of it before the clients do. Method:
/// the root is named by another mount of its folder; a start and a check tell of it, Close hears
/// 503, and the root as it was named before helps.
#[test]
fn uploads_that_no_root_can_be_given_are_told_of() {
    let Some(host) = Host::new() else { return };
    let work = host.folder.path().join("work");
    fs::create_dir(&work).unwrap();
    allow(&work, 0o700);
    let settings = Settings::default().flags(&["--work-dir", text(&work)]);
    let check = |root: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["check", "--no-config", "--listen", "127.0.0.1:0"]);
        command.args(["--work-dir", text(&work), "--root", text(root)]);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut server = Server::on(&host.disk("a"), settings.clone());
    let mut client = Client::create(server.address(), "/half").seed(1);
    client.send(fragment(0..500).of(1000)).assert(200, None);
    server.stop();
    let why = "1 unfinished upload in";
    assert!(!check(&host.disk("a")).contains(why));
    let said = check(&host.point("a"));
    assert!(said.contains(why) && said.contains("hear 503"), "{said}");
    let mut server = Server::on(&host.point("a"), settings.clone());
    server.wait_for_log("event=uploads_out_of_reach");
    client.reconnect_to(server.address());
    client.send(fragment(500..1000)).assert(200, None);
    client.close().assert(503, None);
    server.stop();
    let mut server = Server::on(&host.disk("a"), settings);
    assert!(!server.log().contains("uploads_out_of_reach"));
    client.reconnect_to(server.address());
    client.close().assert(200, None);
    server.assert_file("half", 1, 1000);
    server.stop();
}

/// Goal: a location that moves to another disk ends no upload. Method: one is closed when its
/// location has moved, one when it is back, and one is ended instead, and begins anew.
#[test]
fn an_upload_whose_location_moves_to_another_disk_waits_until_it_is_back() {
    let Some(host) = Host::new() else { return };
    let server = Server::on(&host.root, host.settings(&["a"]));
    let at = |name: &str| {
        let socket = format!("admin_socket = {:?}\n", socket_of(&host.root));
        let location = format!(
            "[[location]]\nprefix = \"/a\"\nroot = {:?}",
            host.point(name)
        );
        server.reload(&(socket + &location));
        server.wait_for_log(&format!("-> {}", host.point(name).display()));
    };
    let begin = |name: &str| {
        let mut client = Client::create(server.address(), name).seed(1);
        client.send(fragment(0..1000).of(1000)).assert(200, None);
        client
    };
    let (mut waits, mut ends) = (begin("/a/waits"), begin("/a/ends"));
    at("b");
    for client in [&mut waits, &mut ends] {
        client.close().assert(503, None);
    }
    server.wait_for_log("give the location the `root` back that it had");
    assert!(!host.point("b").join("waits").exists());
    let id = ends.session().trim_matches(['{', '}']).to_owned();
    let mut cancel = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    cancel.args(["sessions", "cancel", &id, "--socket"]);
    let output = cancel.arg(socket_of(&host.root)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    ends.close().assert(500, Some(SESSION_NOT_FOUND));
    begin("/a/ends").close().assert(200, None);
    assert!(host.point("b").join("ends").exists());
    at("a");
    waits.close().assert(200, None);
    assert!(host.point("a").join("waits").exists());
}
