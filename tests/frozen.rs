//! A disk that stands still for a while, as for a snapshot: those who want something of it wait,
//! and nobody else on the same core does. Needs root and loop devices.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::client::{Client, fragment};
use support::host::{allow, run};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{skip, wait_until};

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

/// What another client does meanwhile: an answer that comes late has waited for the disk.
fn serves_others(server: &Server, name: &str) {
    let began = Instant::now();
    Client::new(server.address(), "/a").ping().assert(200, None);
    let mut other = Client::create(server.address(), &format!("/{name}"));
    other.send(fragment(0..5_000).of(5_000)).assert(200, None);
    other.close().assert(200, None);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{name}: {took:?}");
}

#[test]
fn the_first_touch_of_a_frozen_disk_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("no ext4 can be mounted here (needs root and loop devices)");
    };
    let root = disk.path().join("files");
    fs::create_dir(&root).unwrap();
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
    assert!(!server.log().contains("shard_stalled"), "{}", server.log());
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
    assert!(!server.log().contains("shard_stalled"), "{}", server.log());
}

/// The lines that something says, as they come.
fn lines_of(said: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            let _nobody_listens = sender.send(line);
        }
    });
    lines
}

/// The first line that has these words, in bounded time.
#[track_caller]
fn await_line(lines: &mpsc::Receiver<String>, words: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(50);
    let mut all = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left) else {
            panic!("{words:?} were not said: {all:#?}");
        };
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
        all.push(line);
    }
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
    let Some(frozen) = Frozen::freeze(disk.path()) else {
        return skip("no file system can be frozen here (needs root and fsfreeze)");
    };
    let begin = |what: &str, file: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.arg(what).arg("--config").arg(file);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        piped.spawn().unwrap()
    };
    let (mut server, mut check) = (begin("serve", &files[0]), begin("check", &files[1]));
    let log = lines_of(server.stderr.take().unwrap());
    let found = lines_of(check.stdout.take().unwrap());

    let place = disk.path().to_str().unwrap();
    await_line(&log, &["event=start_waits", place, "umount -l"]);
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
