//! Disks that refuse: full, read-only, forbidden; and too many open files. Most need root or a tool
//! of the host, and are skipped, with a sentence, where that is missing (never where CI=true).

#[path = "soak/mount.rs"]
mod mount;
mod support;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use mount::{Kind, Mount};
use support::client::{
    BG_E_TOO_LARGE, Client, DISK_FULL, E_ACCESSDENIED, SESSION_NOT_FOUND, fragment,
};
use support::host::{Tmpfs, allow, as_nobody, folder_and_root_of_nobody};
use support::mount::Disk;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// The answer of a file system that is read-only.
const WRITE_PROTECT: &str = "0x80070013";
/// The answer of a device that fails.
const DEVICE_FAILED: &str = "0x8007045D";

/// A small file system in memory, with a root in it.
struct SmallDisk {
    _mount: Tmpfs,
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and said so, where nothing can be mounted.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let _mount = Tmpfs::on(folder.path(), &format!("size={size}"))?;
        Some(Self { _mount, folder })
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

// -- full

#[test]
fn a_file_larger_than_the_disk_is_refused_before_its_bytes() {
    let Some(disk) = SmallDisk::mount("8M") else {
        return;
    };
    let server = Server::on(&disk.root(), Settings::default());
    let mut client = Client::create(server.address(), "/a.bin");
    let refused = client.send(fragment(0..100_000).of(20 << 20));
    refused.assert(500, Some(BG_E_TOO_LARGE));
    assert_eq!(server.part_bytes(client.session()), 0);
    // One that would fit if others did not stand there is told so, and comes back.
    let ballast = disk.folder.path().join("ballast");
    fs::write(&ballast, vec![0; 4 << 20]).unwrap();
    wait_until("the server has seen it", || {
        let mut later = Client::create(server.address(), "/c.bin");
        let answer = later.send(fragment(0..1000).of(6 << 20));
        later.cancel().assert(200, None);
        answer.status == 500 && answer.field("BITS-Error-Code") == Some(DISK_FULL)
    });
    server.wait_for_log("free some space");
    fs::remove_file(&ballast).unwrap();
    // What fits is taken, on the same connection.
    let mut small = Client::create(server.address(), "/b.bin");
    small.send_rest(0, 2 << 20, 1 << 20);
    small.close().assert(200, None);
    server.assert_file("b.bin", 1, 2 << 20);
}

#[test]
fn an_upload_that_was_cancelled_on_a_full_disk_stays_cancelled() {
    let Some(disk) = SmallDisk::mount("3M") else {
        return;
    };
    let mut server = Server::on(&disk.root(), Settings::default());
    // So many that their records take more of the journal than was reserved ahead.
    let mut clients = Vec::new();
    for number in 0..250 {
        let mut client = Client::create(server.address(), &format!("/{number}.bin"));
        client.send(fragment(0..1_000).of(20_000)).assert(200, None);
        clients.push(client);
    }
    let ballast = fs::File::create(disk.folder.path().join("ballast")).unwrap();
    let fill = || while (&ballast).write_all(&[0; 1024]).is_ok() {};
    fill();
    for client in &mut clients {
        client.cancel().assert(200, None);
        // What it had is taken by others at once.
        fill();
    }
    server.kill9();
    drop(ballast);
    fs::remove_file(disk.folder.path().join("ballast")).unwrap();
    server.restart();
    for client in &mut clients {
        client.reconnect_to(server.address());
        client.cancel().assert(200, None);
    }
}

#[test]
fn a_disk_that_fills_up_keeps_what_it_has() {
    // Under 1 MiB nothing is reserved: the disk fills in the middle of a fragment.
    let Some(disk) = SmallDisk::mount("1M") else {
        return;
    };
    let mut server = Server::on(&disk.root(), Settings::default());
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..200_000).of(900_000))
        .assert(200, None);
    let ballast = disk.folder.path().join("ballast");
    fs::write(&ballast, vec![0; 400_000]).unwrap();
    let refused = client.send(fragment(200_000..900_000));
    refused.assert(500, Some(DISK_FULL));
    let kept = server.part_bytes(client.session());
    assert!((200_000..900_000).contains(&kept), "{kept}");
    server.wait_for_log("free some space");
    // The server goes on, also with this session.
    client.ping().assert(200, None);
    client
        .send(fragment(200_000..900_000))
        .assert(500, Some(DISK_FULL));
    server.restart();
    client.reconnect_to(server.address());
    fs::remove_file(&ballast).unwrap();
    let ack = client.send(fragment(200_000..900_000));
    assert_eq!(ack.assert(200, None).received(), 900_000);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 900_000);
}

#[test]
fn a_full_disk_refuses_new_sessions_until_there_is_space() {
    let Some(disk) = SmallDisk::mount("1M") else {
        return;
    };
    let server = Server::on(&disk.root(), Settings::default());
    let ballast = disk.folder.path().join("ballast");
    let mut size = 1 << 20;
    while size >= 4096 {
        // As much as there is.
        let held = fs::metadata(&ballast).map_or(0, |file| file.len());
        if fs::write(&ballast, vec![0; usize::try_from(held).unwrap() + size]).is_err() {
            size /= 2;
        }
    }
    let mut client = Client::new(server.address(), "/a.bin");
    client.try_create().assert(500, Some(DISK_FULL));
    assert_eq!(
        server.work_files(),
        [""; 0],
        "nothing is left of a session that was not made"
    );
    fs::remove_file(&ballast).unwrap();
    wait_until("there is space again", || client.try_create().status == 200);
    client.send(fragment(0..1000)).assert(200, None);
    client.close().assert(200, None);
}

/// Goal: a disk that takes bytes and cannot keep them (a thin pool that is full) is no reason for
/// its clients to send their files again and again. Method: XFS on a loop device, whose image lies
/// on a tmpfs that is full.
#[test]
fn a_disk_that_loses_uploads_is_given_no_new_ones_for_a_while() {
    let Some(pool) = SmallDisk::mount("200M") else {
        return;
    };
    let mkfs = ["mkfs.xfs", "-q", "-K"];
    let Some(disk) = Disk::mount(pool.folder.path(), &mkfs, 1 << 30, "nodiscard") else {
        return skip("no XFS can be mounted here");
    };
    let server = Server::on(&disk.path().join("root"), Settings::default());
    let upload = |name: &str| {
        let mut client = Client::new(server.address(), name);
        let created = client.try_create();
        if created.status != 200 {
            return created;
        }
        let last = client.send(fragment(0..4 << 20));
        match last.status {
            200 => client.close(),
            _ => last,
        }
    };
    upload("/a.bin").assert(200, None);
    let ballast = pool.folder.path().join("ballast");
    let mut fills = fs::File::create(&ballast).unwrap();
    while fills.write_all(&[1; 1 << 16]).is_ok() {}
    let lost = upload("/b.bin");
    lost.assert(500, Some(SESSION_NOT_FOUND));
    // Which a client answers by a new session at once.
    let refused = upload("/b.bin");
    assert_eq!(refused.status, 500);
    let code = refused.field("BITS-Error-Code").unwrap();
    assert!([DISK_FULL, DEVICE_FAILED].contains(&code), "{code}");
    assert_eq!(server.work_files(), [""; 0]);
    drop(fills);
    fs::remove_file(&ballast).unwrap();
    wait_until("the disk is tried again", || upload("/b.bin").status == 200);
    server.assert_file("b.bin", 1, 4 << 20);
}

// -- read-only

#[test]
fn a_read_only_disk_is_told_and_the_session_goes_on_later() {
    let disk = match Mount::new(Kind::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    // What is not synced is lost when such a file system is mounted anew.
    let settings = Settings::default().flags(&["--durability", "fragment"]);
    let mut server = Server::on(&disk.root(), settings);
    let mut client = Client::create(server.address(), "/a.bin");
    client
        .send(fragment(0..10_000).of(30_000))
        .assert(200, None);
    let mut whole = Client::create(server.address(), "/b.bin");
    whole.send(fragment(0..1_000)).assert(200, None);
    disk.make_read_only();
    let refused = client.send(fragment(10_000..30_000));
    refused.assert(500, Some(WRITE_PROTECT));
    whole.close().assert(500, Some(WRITE_PROTECT));
    let mut other = Client::new(server.address(), "/c.bin");
    other.try_create().assert(500, Some(WRITE_PROTECT));
    server.wait_for_log("ead-only");
    client.ping().assert(200, None);
    server.kill9();
    disk.mount_anew();
    server.restart();
    for (client, bytes) in [(&mut client, 30_000), (&mut whole, 1_000)] {
        client.reconnect_to(server.address());
        let received = client.send(fragment(bytes - 1..bytes).of(bytes)).received();
        client.send_rest(received, bytes, bytes);
        client.close().assert(200, None);
    }
    server.assert_file("a.bin", 1, 30_000);
    server.assert_file("b.bin", 1, 1_000);
}

/// The kernel tells it to whoever would write only, or in the list of mounts.
#[test]
fn a_disk_that_gives_up_writing_is_told_before_an_upload_finds_out() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 16 << 20, "errors=remount-ro") else {
        return skip("ext4 cannot be mounted (needs root)");
    };
    let root = disk.path().join("root");
    fs::create_dir(&root).unwrap();
    let server = Server::on(&root, Settings::default());
    Client::new(server.address(), "/a").ping().assert(200, None);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounted = format!(" {} ", disk.path().display());
    let line = mounts.lines().find(|line| line.contains(&mounted)).unwrap();
    let device = line
        .split(' ')
        .next()
        .and_then(|path| path.rsplit('/').next());
    let fault = format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap());
    fs::write(fault, "1").unwrap();
    server.wait_for_log("why=\"its file system is read-only now");
    let mut client = Client::new(server.address(), "/a.bin");
    client.try_create().assert(500, Some(WRITE_PROTECT));
}

// -- forbidden

#[test]
fn a_folder_that_may_not_be_written_is_access_denied() {
    let Some(settings) = as_nobody() else { return };
    let (_folder, root) = folder_and_root_of_nobody();
    for name in ["closed", "late"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    allow(&root.join("closed"), 0o755);
    allow(&root.join("late"), 0o777);
    let server = Server::on(&root, settings);
    let mut refused = Client::new(server.address(), "/closed/a.bin");
    refused.try_create().assert(403, Some(E_ACCESSDENIED));
    // Taken away between Create and Close.
    let mut client = Client::create(server.address(), "/late/a.bin");
    client.send(fragment(0..1000)).assert(200, None);
    allow(&root.join("late"), 0o755);
    client.close().assert(403, Some(E_ACCESSDENIED));
    server.wait_for_log("ermission denied");
    allow(&root.join("late"), 0o777);
    client.close().assert(200, None);
    server.assert_file("late/a.bin", 1, 1000);
}

#[test]
fn a_root_that_may_not_be_written_is_refused_at_start() {
    let Some(settings) = as_nobody() else { return };
    let (_folder, root) = folder_and_root_of_nobody();
    allow(&root, 0o755);
    let (status, said) = Server::refused(&root, &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("the root") && said.contains("may not write to it") && said.contains("chown"),
        "{said}"
    );
}

// -- too many open files

#[test]
fn too_many_open_files_do_not_end_the_server() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1000).of(3000)).assert(200, None);
    // By those of the start, connections would leave some.
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let few = Some(open.count() as u64 + 20);
    let limit = Rlimit {
        current: few,
        maximum: few,
    };
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, limit).unwrap();
    let crowd: Vec<Raw> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_log("oo many open files");
    // Whoever is served goes on being served.
    client.ping().assert(200, None);
    client.send(fragment(1000..2000).of(3000)).assert(200, None);
    // A session needs files that are not to be had now.
    let mut other = client;
    let refused = other.try_create();
    assert_eq!(refused.status, 503, "{refused:?}");
    drop(crowd);
    wait_until("there are files again", || other.try_create().status == 200);
    other.send(fragment(0..1000)).assert(200, None);
    other.close().assert(200, None);
    server.assert_file("a.bin", 1, 1000);
    let mut late = Client::create(server.address(), "/b.bin");
    late.send(fragment(0..1000)).assert(200, None);
}
