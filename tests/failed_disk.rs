//! One of several disks fails: the locations on the others go on, and lose nothing by it.

mod support;

use tempfile::TempDir;

use support::client::{Client, fragment};
use support::host::{Tmpfs, folder_and_root};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{journal, skip, wait_until};

const EXT4: (&[&str], u64) = (&["mkfs.ext4", "-q", "-F"], 64 << 20);
const XFS: (&[&str], u64) = (&["mkfs.xfs", "-q", "-f"], 320 << 20);

/// A server whose location `/d` is on a disk of its own.
struct Host {
    server: Server,
    disk: Disk,
    folder: TempDir,
}

impl Host {
    /// `None`, and said so, where nothing can be mounted.
    fn new((mkfs, bytes): (&[&str], u64)) -> Option<Self> {
        let (folder, root) = folder_and_root();
        let Some(disk) = Disk::mount(folder.path(), mkfs, bytes, "rw") else {
            skip("no disk can be mounted here");
            return None;
        };
        let settings = Settings::default().file("cores = 1\n");
        let settings = settings.file(&format!(
            "[[location]]\nprefix = \"/d\"\nroot = {:?}\n",
            disk.path()
        ));
        let server = Server::on(&root, settings);
        Some(Self {
            server,
            disk,
            folder,
        })
    }

    fn upload(&self, path: &str) {
        let mut client = Client::create(self.server.address(), path);
        client.send(fragment(0..1_000).of(1_000)).assert(200, None);
        client.close().assert(200, None);
        self.server
            .assert_file(path.trim_start_matches('/'), 1, 1_000);
    }
}

/// Goal: what a shard has not looked at before a disk failed, it needs not to look at.
#[test]
fn uploads_to_other_disks_go_on() {
    for kind in [EXT4, XFS] {
        let Some(host) = Host::new(kind) else {
            return;
        };
        if host.disk.fail().is_none() {
            return skip("no disk can be made to fail here (xfs_io)");
        }
        host.upload("/a.bin");
        let refused = Client::new(host.server.address(), "/d/a.bin").try_create();
        assert!(refused.status >= 500, "{refused:?}");
        // With a disk that comes by a reload, too, of which nobody knows yet.
        let other = host.folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        let Some(_other) = Tmpfs::on(&other, "size=4M") else {
            return;
        };
        let lines = format!("[[location]]\nprefix = \"/other\"\nroot = {other:?}\n");
        host.server.reload(&(host.server.settings().file + &lines));
        host.server.wait_for_log("event=reloaded");
        host.upload("/b.bin");
        let mut client = Client::create(host.server.address(), "/other/a.bin");
        client.send(fragment(0..1_000).of(1_000)).assert(200, None);
        client.close().assert(200, None);
        assert_eq!(std::fs::metadata(other.join("a.bin")).unwrap().len(), 1_000);
    }
}

/// Goal: a planned stop is as safe as each disk allows.
#[test]
fn a_stop_is_a_clean_one_for_the_others() {
    for kind in [EXT4, XFS] {
        let Some(mut host) = Host::new(kind) else {
            return;
        };
        let clients = ["/a.bin", "/d/a.bin"];
        let mut clients = clients.map(|path| Client::create(host.server.address(), path));
        // The part has its name.
        rustix::fs::syncfs(std::fs::File::open(host.disk.path()).unwrap()).unwrap();
        for client in &mut clients {
            client.send(fragment(0..1_000).of(2_000)).assert(200, None);
        }
        if host.disk.fail().is_none() {
            return skip("no disk can be made to fail here (xfs_io)");
        }
        host.server.terminate();
        assert!(host.server.wait().success());
        let shelf = format!("folder={}/.bitsd ", host.disk.path().display());
        wait_until("it says which one", || {
            let log = host.server.log();
            let mut lines = log
                .lines()
                .filter(|line| line.contains("event=stop_not_safe"));
            lines.any(|line| line.contains(&shelf) && line.contains("remedy="))
        });
        host.server.wait_for_log("synced=false");
        // The machine starts again, with another disk controller.
        host.disk.mount_anew();
        journal::of_another_boot(&host.server.file(".bitsd"));
        host.server.restart();
        let [mut there, mut failed] = clients;
        there.reconnect_to(host.server.address());
        there
            .send(fragment(1_000..2_000).of(2_000))
            .assert(200, None);
        there.close().assert(200, None);
        host.server.assert_file("a.bin", 1, 2_000);
        // What was not synced on the disk that failed is asked for again, and all else is right.
        failed.reconnect_to(host.server.address());
        let answer = failed.send(fragment(1_000..2_000).of(2_000));
        assert_eq!((answer.status, answer.received()), (416, 0), "{answer:?}");
        failed.send_rest(0, 2_000, 1_000);
        failed.close().assert(200, None);
        let found = std::fs::read(host.disk.path().join("a.bin")).unwrap();
        assert!(found == support::content::content(1, 0, 2_000));
    }
}
