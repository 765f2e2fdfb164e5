//! A disk that stands still for a while, as for a snapshot: those who want something of it wait,
//! and nobody else on the same core does. And file systems that do not answer at all. Needs root,
//! loop devices, and FUSE.

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use support::client::{Client, fragment};
use support::host::{allow, run};
use support::mount::{Disk, Silent};
use support::program::{await_line, lines_of};
use support::server::{Server, Settings};
use support::{PATIENCE, skip, stalls_in_calls, wait_until};

/// A file system that takes nothing until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(path: &Path) -> Option<Self> {
        run(&["fsfreeze", "-f", path.to_str().unwrap()]).then(|| Self(path.to_owned()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        run(&["fsfreeze", "-u", self.0.to_str().unwrap()]);
    }
}

/// A disk with a root on it; the folder where it is mounted has to outlive it.
fn disk_and_root() -> Option<(TempDir, Disk, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        skip("no ext4 can be mounted here (needs root and loop devices)");
        return None;
    };
    let root = disk.path().join("files");
    fs::create_dir(&root).unwrap();
    Some((folder, disk, root))
}

/// What another client does meanwhile: an answer that comes late has waited for the disk.
fn serves_others(server: &Server, name: &str) {
    let began = Instant::now();
    Client::new(server.address(), "/a").ping().assert(200, None);
    let mut other = Client::create(server.address(), &format!("/{name}"));
    other.send(fragment(0..5_000).of(5_000)).assert(200, None);
    other.close().assert(200, None);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{name}: {took:?}");
}

#[test]
fn the_first_touch_of_a_frozen_disk_holds_up_nobody_else() {
    let Some((_folder, disk, root)) = disk_and_root() else {
        return;
    };
    let lines = format!(
        "[[location]]\nprefix = \"fz\"\nroot = \"{}\"",
        root.display()
    );
    let settings = Settings::default().flags(&["--cores", "1"]).file(&lines);
    let server = Server::with(settings);
    let address = server.address();

    // Nothing was written to it yet: a Create-Session is the first that would be.
    let Some(frozen) = Frozen::freeze(disk.path()) else {
        return skip("no file system can be frozen here (needs root and fsfreeze)");
    };
    let create = std::thread::spawn(move || Client::create(address, "/fz/a.bin"));
    for name in ["one", "two", "three"] {
        serves_others(&server, name);
    }
    assert!(!create.is_finished(), "the disk takes nothing");
    drop(frozen);
    let mut client = create.join().unwrap();

    // A fragment, after the disk was quiet.
    client.send(fragment(0..1_000).of(20_000)).assert(200, None);
    let quiet_since = Instant::now();
    wait_until("the disk was quiet for more than a second", || {
        quiet_since.elapsed() > Duration::from_millis(1_200)
    });
    let frozen = Frozen::freeze(disk.path()).unwrap();
    let sent = std::thread::spawn(move || {
        client
            .send(fragment(1_000..20_000).of(20_000))
            .assert(200, None);
        client
    });
    for name in ["four", "five", "six"] {
        serves_others(&server, name);
    }
    assert!(!sent.is_finished(), "the disk takes nothing");
    drop(frozen);
    sent.join().unwrap().close().assert(200, None);
    assert_eq!(fs::read(root.join("a.bin")).unwrap().len(), 20_000);
    let log = server.log();
    assert_eq!(stalls_in_calls(&log).next(), None, "{log}");
}

/// More uploads than may wait for a disk that does not answer: nothing of what runs is refused.
#[test]
fn all_uploads_go_on_when_a_disk_thaws_however_many_waited_and_for_how_long() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("no ext4 can be mounted here (needs root and loop devices)");
    };
    let lines = format!(
        "durability = \"none\"\n[[location]]\nprefix = \"fz\"\nroot = \"{}\"",
        disk.path().display()
    );
    let settings = Settings::default().flags(&["--cores", "1"]).file(&lines);
    let server = Server::with(settings);
    let mut clients: Vec<Client> = (0..300)
        .map(|number| Client::create(server.address(), &format!("/fz/{number}.bin")))
        .collect();
    for client in &mut clients {
        client.send(fragment(0..1_000).of(3_000)).assert(200, None);
    }
    let quiet_since = Instant::now();
    wait_until("the disk was quiet for more than a second", || {
        quiet_since.elapsed() > Duration::from_millis(1_200)
    });
    let Some(frozen) = Frozen::freeze(disk.path()) else {
        return skip("no file system can be frozen here (needs root and fsfreeze)");
    };
    for client in &mut clients {
        client.send_part(&fragment(1_000..2_000).of(3_000), 1_000);
    }
    // Longer than a disk may be silent; on a slow machine less is tried than could be.
    std::thread::park_timeout(Duration::from_secs(4));
    serves_others(&server, "other");
    drop(frozen);
    for client in &mut clients {
        client.raw.receive().assert(200, None);
        client
            .send(fragment(2_000..3_000).of(3_000))
            .assert(200, None);
        client.close().assert(200, None);
    }
    let log = server.log();
    assert_eq!(stalls_in_calls(&log).next(), None, "{log}");
}

/// Goal: who keeps time for a shard does not wait for its journal. Method: somebody removes that
/// from a disk which takes nothing then; a head that never ends has its time meanwhile.
#[test]
fn time_outs_go_on_while_a_journal_waits_for_a_frozen_disk() {
    let Some((_folder, disk, root)) = disk_and_root() else {
        return;
    };
    let settings = Settings::default().flags(&["--cores", "1"]);
    let server = Server::on(&root, settings.file("[limits]\nhead_ms_max = 3000"));
    let journals = || {
        let names = fs::read_dir(root.join(".bitsd")).unwrap();
        let paths = names.map(|name| name.unwrap().path());
        let is_journal = |path: &PathBuf| path.extension().is_some_and(|it| it == "journal");
        paths.filter(is_journal).collect::<Vec<_>>()
    };
    let frozen = loop {
        let quiet_since = Instant::now();
        wait_until("the disk was quiet for more than a second", || {
            quiet_since.elapsed() > Duration::from_millis(1_200)
        });
        for journal in journals() {
            fs::remove_file(journal).unwrap();
        }
        let Some(frozen) = Frozen::freeze(disk.path()) else {
            return skip("no file system can be frozen here (needs root and fsfreeze)");
        };
        // The server may have been quicker.
        if journals().is_empty() {
            break frozen;
        }
    };
    let mut endless = server.connect();
    endless.send("BITS_POST /a HTTP/1.1\r\n");
    let ended = std::thread::spawn(move || endless.assert_closed());
    let began = Instant::now();
    while !ended.is_finished() && began.elapsed() < PATIENCE / 2 {
        std::thread::yield_now();
    }
    let is_ended = ended.is_finished();
    assert!(journals().is_empty(), "the disk takes nothing");
    drop(frozen);
    assert!(is_ended, "a head that never ends was waited for");
    ended.join().unwrap();
    wait_until("the journal was written anew", || !journals().is_empty());
}

/// What the socket of a service manager is called, beside the settings.
const NOTIFY: &str = "notify";

/// A command that reads these settings.
fn begin(what: &str, file: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.arg(what).arg("--config").arg(file);
    command.env("NOTIFY_SOCKET", file.with_extension(NOTIFY));
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().unwrap()
}

#[test]
fn a_start_and_a_check_name_the_folder_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("no ext4 can be mounted here (needs root and loop devices)");
    };
    let settings_of = |what: &str| {
        let (root, other) = (folder.path().join(what), disk.path().join(what));
        fs::create_dir_all(root.join(".bitsd")).unwrap();
        fs::create_dir(&other).unwrap();
        // Where there is one, a check tries what a start does.
        allow(&root.join(".bitsd"), 0o700);
        let file = folder.path().join(format!("{what}.toml"));
        let lines = format!(
            "root = \"{}\"\nlisten = \"127.0.0.1:0\"\ncores = 1\nadmin_socket = \"\"\n\
             [[location]]\nprefix = \"fz\"\nroot = \"{}\"\n",
            root.display(),
            other.display()
        );
        fs::write(&file, lines).unwrap();
        file
    };
    // A check of its own folders: those of the server are its own.
    let files = ["serve", "check"].map(settings_of);
    let manager = UnixDatagram::bind(files[0].with_extension(NOTIFY)).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let Some(frozen) = Frozen::freeze(disk.path()) else {
        return skip("no file system can be frozen here (needs root and fsfreeze)");
    };
    let (mut server, mut check) = (begin("serve", &files[0]), begin("check", &files[1]));
    let log = lines_of(server.stderr.take().unwrap());
    let found = lines_of(check.stdout.take().unwrap());

    let place = disk.path().to_str().unwrap();
    await_line(&log, &["event=start_waits", place, "umount -l"]);
    let mut heard = [0; 4_096];
    let bytes = manager.recv(&mut heard).unwrap();
    let heard = String::from_utf8_lossy(&heard[..bytes]);
    let status = format!("STATUS=starting: {place}");
    assert!(
        heard.starts_with(&status) && !heard.contains("EXTEND"),
        "{heard}"
    );
    // What was looked at before and after it is told as well.
    await_line(&found, &["ok: io_uring can be used"]);
    await_line(&found, &["wrong: ", place, "does not answer"]);
    await_line(&found, &["can be listened on"]);
    drop(frozen);
    assert_eq!(check.wait().unwrap().code(), Some(1));
    await_line(&log, &["event=started"]);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// The exit code of a command, which ends before long.
#[track_caller]
fn ended(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_until("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

const NO_FUSE: &str = "no FUSE can be mounted here (needs root and /dev/fuse)";

/// Goal: whoever waits for a file that the settings name, or for the settings, knows for which.
/// Method: it lies where nothing answers; there is no log yet when a start comes to it. Each looks
/// for a name of its own: the kernel lets nobody end who waits for one that is looked for.
#[test]
fn whoever_reads_settings_names_the_file_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (mute, root) = (folder.path().join("mute"), folder.path().join("root"));
    fs::create_dir(&mute).unwrap();
    fs::create_dir(&root).unwrap();
    let with_users = |what: &str| {
        let (file, users) = (folder.path().join(what), mute.join(what));
        let lines = format!(
            "log_format = \"json\"\nroot = {root:?}\nlisten = \"127.0.0.1:0\"\ncores = 1\n\
             users_file = {users:?}\n"
        );
        fs::write(&file, lines).unwrap();
        (file, users)
    };
    let words = ["serve", "check", "status"];
    let users = words.map(with_users);
    let theirs = words.map(|what| mute.join(format!("{what}.toml")));
    let theirs = theirs.map(|file| (file.clone(), file));
    let Some(silent) = Silent::over(&mute) else {
        return skip(NO_FUSE);
    };
    // In the form that the settings ask for, as far as they can be read.
    let forms = ["\"event\":\"start_waits\"", "event=start_waits"];
    let begun = [users, theirs].map(|files| {
        let waiting = std::iter::zip(words, files).map(|(what, (file, place))| {
            let mut child = begin(what, &file);
            let said = lines_of(child.stderr.take().unwrap());
            (child, said, place.display().to_string())
        });
        waiting.collect::<Vec<_>>()
    });
    let mut starts = Vec::new();
    for (all, form) in begun.into_iter().zip(forms) {
        let mut all = all.into_iter();
        let (server, log, place) = all.next().unwrap();
        await_line(&log, &[form, &place, "umount -l"]);
        starts.push((server, log, place));
        for (mut child, said, place) in all {
            await_line(&said, &[&place, "does not answer"]);
            assert_eq!(ended(&mut child), Some(1));
        }
    }
    drop(silent);
    // A file that the settings name may be there at the next try.
    for ((mut server, log, place), code) in starts.into_iter().zip([1, 2]) {
        await_line(&log, &["wrong_settings", &place, "cannot read"]);
        assert_eq!(ended(&mut server), Some(code));
    }
}

/// Goal: the same of a reload, and the server goes on with what it has.
#[test]
fn a_reload_names_the_file_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (mute, socket) = (folder.path().join("mute"), folder.path().join("socket"));
    fs::create_dir(&mute).unwrap();
    let users = mute.join("users");
    let hash = "$2y$04$/FLdgVBgKbHKQmjZY1JisOCmDrrqFxKdodD7DQfqTT9PalXLnPMyO";
    fs::write(&users, format!("bert:{hash}\n")).unwrap();
    let lines = format!("admin_socket = {socket:?}\nusers_file = {users:?}\n");
    let mut server = Server::with(Settings::default().file(&lines));
    let Some(silent) = Silent::over(&mute) else {
        return skip(NO_FUSE);
    };
    let reload = || -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.arg("reload").arg("--socket").arg(&socket);
        command.output().unwrap()
    };
    let reloaded = reload();
    let said = String::from_utf8(reloaded.stderr).unwrap();
    assert_eq!(reloaded.status.code(), Some(1), "{said}");
    let place = users.to_str().unwrap();
    assert!(
        said.contains(place) && said.contains("does not answer"),
        "{said}"
    );
    let log = server.log();
    let told = log.lines().find(|line| line.contains("event=reload_waits"));
    assert!(told.is_some_and(|line| line.contains(place)), "{log}");
    let mut client = Client::create(server.address(), "/a");
    client.send(fragment(0..1_000)).assert(200, None);
    client.close().assert(200, None);
    drop(silent);
    server.wait_for_log("event=reload_failed");
    // What was mounted over it is gone.
    let reloaded = reload();
    assert!(reloaded.status.success(), "{reloaded:?}");
    server.stop();
}
