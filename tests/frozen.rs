//! A disk that stands still for a while, as for a snapshot: those who want something of it wait,
//! and nobody else on the same core does. Needs root and loop devices.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
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
