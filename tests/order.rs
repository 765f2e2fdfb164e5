//! One sync for many: what `ring/commit_log` and `ring/write_out` rely on, on real file systems
//! whose power is cut. Loop devices take root; without it these are skipped, with a sentence.

#[path = "soak/mount.rs"]
mod mount;
mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use bitsd::ring::commit_log;
use bitsd::ring::lane::Lane;
use bitsd::ring::op;
use mount::{Kind, Mount};
use support::client::{Client, fragment};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::skip;

/// Files that share a sync.
const FILES: usize = 150;

fn folder(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// The files, each as it is uploaded: made in one folder, given its name in another.
fn upload(work: &Path, root: &Path, log: &mut File) {
    let bytes = |number: usize| vec![b'a' + u8::try_from(number % 26).unwrap(); 1000 + 97 * number];
    let mut files = Vec::new();
    for number in 0..FILES {
        let mut file = File::create(work.join(number.to_string())).unwrap();
        file.write_all(&bytes(number)).unwrap();
        files.push(OwnedFd::from(file));
    }
    tokio_uring::start(async {
        let lane = Lane::new(false);
        for (number, file) in files.into_iter().enumerate() {
            match number % 2 {
                0 => lane.write_out(file).await.unwrap(),
                _ => op::write_out(&Rc::new(file)).await.unwrap(),
            }
        }
    });
    for number in 0..FILES {
        let host = root.join(format!("host{}", number % 3));
        let _is_there = fs::create_dir(&host);
        fs::rename(work.join(number.to_string()), host.join(number.to_string())).unwrap();
    }
    log.write_all(b"all of them").unwrap();
    log.sync_data().unwrap();
    for number in 0..FILES {
        let host = root.join(format!("host{}", number % 3));
        let path = host.join(number.to_string());
        // What is compared after the cut.
        assert_eq!(fs::read(path).unwrap(), bytes(number));
    }
}

#[test]
fn what_was_done_before_a_synced_append_survives_a_power_cut() {
    for kind in [Kind::Ext4, Kind::FastExt4, Kind::Xfs] {
        let mount = match Mount::new(kind, 512) {
            Ok(mount) => mount,
            Err(why) => return skip(&why),
        };
        let work = mount.point().join("work");
        fs::create_dir(&work).unwrap();
        assert!(commit_log::of(&folder(&work)).is_some(), "{kind:?}");
        // A log that has been there for long, and is written to within its last block too.
        let path = work.join("log");
        fs::write(&path, b"begun").unwrap();
        rustix::fs::syncfs(folder(&work)).unwrap();
        for round in 0..5 {
            let root = mount.point().join(format!("root{round}"));
            fs::create_dir(&root).unwrap();
            let mut log = File::options().append(true).open(&path).unwrap();
            upload(&work, &root, &mut log);
            drop(log);
            mount.cut_power();
            for number in 0..FILES {
                let file = root
                    .join(format!("host{}", number % 3))
                    .join(number.to_string());
                let bytes = fs::read(&file).unwrap_or_default();
                let whole = 1000 + 97 * number;
                let is_right = bytes.len() == whole
                    && bytes
                        .iter()
                        .all(|byte| *byte == b'a' + u8::try_from(number % 26).unwrap());
                assert!(is_right, "{kind:?}, round {round}: {}", file.display());
            }
        }
    }
}

#[test]
fn a_file_system_without_one_log_for_all_is_told_from_others() {
    let folder_of_test = tempfile::tempdir().unwrap();
    let without = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal"];
    let Some(disk) = Disk::mount(folder_of_test.path(), &without, 64 << 20, "rw") else {
        return skip("no loop device to be mounted");
    };
    assert_eq!(commit_log::of(&folder(disk.path())), None, "no journal");
    assert_eq!(
        commit_log::of(&folder(Path::new("/dev/shm"))),
        None,
        "tmpfs"
    );
    assert_eq!(commit_log::of(&folder(Path::new("/proc"))), None);
    let (first, second) = (Mount::new(Kind::Ext4, 64), Mount::new(Kind::Ext4, 64));
    let (first, second) = (first.unwrap(), second.unwrap());
    let log_of = |mount: &Mount| commit_log::of(&folder(&mount.root()));
    assert!(log_of(&first).is_some());
    assert_ne!(log_of(&first), log_of(&second), "each has its own");
}

/// Uploads that wait for the same syncs; each is closed when this returns.
fn upload_together(address: SocketAddr, folder: &str) {
    std::thread::scope(|scope| {
        for number in 0..UPLOADS {
            scope.spawn(move || {
                let bytes = UPLOAD_BYTES * (number + 1);
                let path = format!("/{folder}/host{}/{number}.bin", number % 3);
                let mut client = Client::create(address, &path).seed(number);
                client.send(fragment(0..bytes).of(bytes)).assert(200, None);
                client.close().assert(200, None);
            });
        }
    });
}

const UPLOADS: u64 = 24;
const UPLOAD_BYTES: u64 = 5_003;

#[test]
fn a_closed_upload_survives_a_power_cut_on_each_disk() {
    survive_power_cuts(false);
}

/// The sync of the ledger is the one that makes the names of the first root durable.
#[test]
fn a_closed_upload_and_its_line_survive_a_power_cut() {
    survive_power_cuts(true);
}

/// The files of the root, and of a root on another disk, which has a shelf of its own.
fn survive_power_cuts(keeps_custody: bool) {
    for kind in [Kind::Ext4, Kind::FastExt4, Kind::Xfs] {
        let disks = Mount::new(kind, 512).and_then(|first| Ok((first, Mount::new(kind, 512)?)));
        let (first, second) = match disks {
            Ok(disks) => disks,
            Err(why) => return skip(&why),
        };
        let other = second.root();
        let ledger = first.point().join("ledger");
        let custody = match keeps_custody {
            true => {
                std::fs::create_dir(&ledger).unwrap();
                format!("custody = \"{}\"\n", ledger.display())
            }
            false => String::new(),
        };
        let lines = format!(
            "{custody}create_dirs = true\n[[location]]\nprefix = \"other\"\nroot = \"{}\"\n",
            other.display()
        );
        let mut server = Server::on(&first.root(), Settings::default().file(&lines));
        // What is made at the start is not what is tested.
        rustix::fs::syncfs(folder(&other)).unwrap();
        rustix::fs::syncfs(folder(&first.root())).unwrap();
        upload_together(server.address(), "here");
        upload_together(server.address(), "other");
        server.kill9();
        first.cut_power();
        second.cut_power();
        for number in 0..UPLOADS {
            let bytes = UPLOAD_BYTES * (number + 1);
            let name = format!("host{}/{number}.bin", number % 3);
            for path in [first.root().join("here").join(&name), other.join(&name)] {
                let found = fs::read(&path).unwrap_or_default();
                let is_whole = found == support::content::content(number, 0, bytes);
                assert!(is_whole, "{kind:?}: {}", path.display());
            }
        }
        if keeps_custody {
            let days = bitsd::custody::folder::days(&ledger).unwrap();
            let lines = days.iter().map(|day| fs::read(ledger.join(day)).unwrap());
            let lines = lines.flatten().filter(|byte| *byte == b'\n').count();
            assert_eq!(lines as u64, 2 * UPLOADS, "{kind:?}: each has its line");
        }
        server.restart();
        server.stop();
    }
}
