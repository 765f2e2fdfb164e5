//! A server that is short of memory: the kernel refuses its requests for a while, and it goes on
//! afterwards.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::client::{Client, fragment};
use support::raw::Raw;
use support::server::{Server, Settings};
use support::{skip, skip_anywhere};

/// A control group with a limit of memory and without the kernel's remedy, which would kill the
/// server.
struct Group {
    folder: PathBuf,
    /// What the limit is called, and how none is written.
    limit: (&'static str, &'static str),
    usage: &'static str,
}

impl Group {
    /// Of either version, if we may make one.
    fn make(purpose: &str) -> Option<Self> {
        let name = format!("bitsd-test-{purpose}-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory").join(&name);
        if fs::create_dir(&first).is_ok() {
            // What finds no memory waits or fails, and is not killed.
            fs::write(first.join("memory.oom_control"), "1").ok()?;
            return Some(Self {
                folder: first,
                limit: ("memory.limit_in_bytes", "-1"),
                usage: "memory.usage_in_bytes",
            });
        }
        let second = Path::new("/sys/fs/cgroup");
        fs::write(second.join("cgroup.subtree_control"), "+memory").ok()?;
        let second = second.join(&name);
        fs::create_dir(&second).ok()?;
        // Whoever may not be killed finds no memory instead; the servers of this test inherit it.
        fs::write("/proc/self/oom_score_adj", "-1000").ok()?;
        Some(Self {
            folder: second,
            limit: ("memory.max", "max"),
            usage: "memory.current",
        })
    }

    fn take(&self, pid: u32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn used(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.usage)).unwrap();
        text.trim().parse().unwrap()
    }

    fn set_limit(&self, bytes: Option<u64>) {
        let (file, none) = self.limit;
        let text = bytes.map_or(none.to_owned(), |bytes| bytes.to_string());
        // It is refused where the kernel cannot bring the use below it; then it is as scarce as it
        // can be.
        let _ = fs::write(self.folder.join(file), text);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.set_limit(None);
        // Whoever is still in it goes on in the group above.
        let up = self.folder.parent().unwrap().join("cgroup.procs");
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            let _ = fs::write(&up, member);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Whether the kernel could limit memory at all, by either version of control groups.
fn has_memory_controller() -> bool {
    let first = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let first = first.lines().any(|line| {
        let mut words = line.split_whitespace();
        // Name, hierarchy, groups, enabled.
        words.next() == Some("memory") && words.nth(2) == Some("1")
    });
    let second = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    first || second.split_whitespace().any(|name| name == "memory")
}

/// One for a test, if that can be here.
fn a_group(purpose: &str) -> Option<Group> {
    if !rustix::process::geteuid().is_root() {
        skip("a control group needs root");
        return None;
    }
    let group = Group::make(purpose);
    if group.is_none() && !has_memory_controller() {
        // Nobody could make one here: no fault of whoever runs the tests.
        skip_anywhere("this kernel has no control groups for memory");
    } else if group.is_none() {
        skip("no control group can be made here");
    }
    group
}

/// The server starts, since it may do with less than it asks for; and says what may come of it.
#[test]
fn less_memory_than_the_server_needs_for_itself_is_told() {
    let Some(group) = a_group("small") else {
        return;
    };
    group.set_limit(Some(40 << 20));
    let procs = group.folder.join("cgroup.procs");
    let script = "echo $$ >\"$0\" && exec \"$@\"";
    let words = ["sh", "-c", script, procs.to_str().unwrap()];
    let server = Server::with(Settings::default().wrapper(&words));
    server.wait_for_log("event=little_memory");
    let told = "needs 42 MiB of memory for itself, and there are 40 MiB";
    assert!(server.log().contains(told), "{}", server.log());
    Client::new(server.address(), "/a").ping().assert(200, None);
    drop(server);
    let root = tempfile::tempdir().unwrap();
    let checked = Command::new(words[0])
        .args(&words[1..])
        .args([env!("CARGO_BIN_EXE_bitsd"), "check", "--no-config"])
        .args(["--cores", "2", "--listen", "127.0.0.1:0", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(
        said.contains("# warning: the server needs 42 MiB"),
        "{said}"
    );
}

#[test]
fn requests_that_the_kernel_has_no_memory_for_do_not_end_the_server() {
    const CONNECTIONS: usize = 700;
    let ping =
        "BITS_POST /a HTTP/1.1\r\nHost: x\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
    let Some(group) = a_group("scarce") else {
        return;
    };
    let server = Server::with(Settings::default().flags(&["--cores", "1"]));
    group.take(server.pid());
    let mut before = Client::create(server.address(), "/before.bin");
    before.send(fragment(0..1_000).of(2_000)).assert(200, None);

    for spare in [1 << 20, 256 << 10, 16 << 10, 0] {
        group.set_limit(Some(group.used() + spare));
        let mut crowd: Vec<Raw> = (0..CONNECTIONS)
            .filter_map(|_| Raw::try_connect(server.address()).ok())
            .collect();
        for _ in 0..4 {
            for raw in &mut crowd {
                let _ = raw.try_send(ping);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        group.set_limit(None);
        let alive = fs::read_to_string(format!("/proc/{}/stat", server.pid()));
        assert!(!alive.unwrap().contains(") Z "), "the server has ended");
        // The next one finds it serving.
        Client::new(server.address(), "/a").ping().assert(200, None);
    }
    before.reconnect();
    before.send_rest(1_000, 2_000, 500);
    before.close().assert(200, None);
    server.assert_file("before.bin", 1, 2_000);
}
