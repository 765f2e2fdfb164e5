//! Starts that fail: each with one sentence that says why, and exit code 1.

mod support;

use std::path::Path;
use std::process::Command;

use support::server::{Server, Settings};
use support::skip;

/// Runs its arguments in a process that may not make one system call, whose number is the first
/// argument; the second is what it hears instead. The filter: load the number of the call; if it is
/// that one, fail with the error; else allow.
const WITHOUT_IO_URING: &str = "
import ctypes, os, struct, sys
def step(code, yes, no, value): return struct.pack('HBBI', code, yes, no, value)
steps = ctypes.create_string_buffer(step(0x20, 0, 0, 0) + step(0x15, 0, 1, int(sys.argv[1]))
    + step(0x06, 0, 0, 0x00050000 | int(sys.argv[2])) + step(0x06, 0, 0, 0x7fff0000))
program = struct.pack('HxxxxxxP', 4, ctypes.addressof(steps))
c = ctypes.CDLL(None, use_errno=True)
if c.prctl(38, 1, 0, 0, 0) or c.prctl(22, 2, program, 0, 0): sys.exit(77)
os.execv(sys.argv[3], sys.argv[3:])
";

/// Numbers of system calls, the same on every architecture.
const SETUP: &str = "425";
const ENTER: &str = "426";
const REGISTER: &str = "427";
const OPENAT2: &str = "437";

/// What a server without io_uring says, where one can be started.
fn without_io_uring(call: &str, errno: &str) -> Option<String> {
    let words = ["python3", "-c", WITHOUT_IO_URING, call, errno];
    let probe = Command::new(words[0])
        .args(&words[1..])
        .arg("/bin/true")
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("io_uring cannot be forbidden here (needs python3 and seccomp, 64 bit)");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::default().wrapper(&words);
    let (status, said) = Server::refused(&folder.path().join("root"), &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    Some(said)
}

#[test]
fn forbidden_io_uring_is_one_sentence_with_a_remedy() {
    if let Some(said) = without_io_uring(SETUP, "1") {
        assert!(said.contains("io_uring is forbidden here"), "{said}");
        assert!(
            said.contains("seccomp") && said.contains("kernel.io_uring_disabled"),
            "{said}"
        );
    }
}

/// A filter with two of the three names: shards would start, and wait for ever.
#[test]
fn each_of_the_three_calls_of_io_uring_is_missed_at_start() {
    for call in [ENTER, REGISTER] {
        if let Some(said) = without_io_uring(call, "1") {
            assert!(said.contains("io_uring is forbidden here"), "{said}");
        }
    }
}

/// What `serve` finds out, `check` finds out, also before there is a work directory.
#[test]
fn without_openat2_neither_a_start_nor_a_check_passes() {
    let Some(said) = without_io_uring(OPENAT2, "1") else {
        return;
    };
    let remedy = "RestrictSUIDSGID";
    assert!(said.contains("openat2") && said.contains(remedy), "{said}");
    let root = tempfile::tempdir().unwrap();
    let checked = Command::new("python3")
        .args([
            "-c",
            WITHOUT_IO_URING,
            OPENAT2,
            "1",
            env!("CARGO_BIN_EXE_bitsd"),
        ])
        .args(["check", "--no-config", "--listen", "127.0.0.1:0", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("wrong: ") && said.contains(remedy), "{said}");
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        0,
        "a check makes nothing"
    );
}

#[test]
fn too_few_descriptors_are_refused_with_a_remedy_and_few_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let with = |limits: &str| {
        let script = format!("{limits}; exec \"$@\"");
        Settings::default().wrapper(&["sh", "-c", &script, "sh"])
    };
    let (status, said) = Server::refused(&root, &with("ulimit -n 24"));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("LimitNOFILE="), "{said}");
    // The soft limit is raised to the hard one.
    let mut server = Server::on(&root, with("ulimit -S -n 128; ulimit -H -n 5000"));
    server.wait_for_log(" descriptors=5000 ");
    server.restart_with(with("ulimit -n 128"));
    server.wait_for_log("event=few_descriptors");
}

#[test]
fn missing_io_uring_is_one_sentence_with_a_remedy() {
    if let Some(said) = without_io_uring(SETUP, "38") {
        assert!(
            said.contains("no io_uring") && said.contains("needs Linux 5.19"),
            "{said}"
        );
    }
}

#[test]
fn a_start_that_fails_names_the_folder_that_is_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let (root, work) = (folder.path().join("root"), folder.path().join("work"));
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&work).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    let refused = |root: &Path, work: &Path, words: &str| {
        let lines = format!("work_dir = {work:?}");
        let file = folder.path().join("check.toml");
        std::fs::write(&file, format!("root = {root:?}\n{lines}")).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let check = check.args(["check", "--quiet", "--config"]).arg(&file);
        let checked = check.output().unwrap();
        let told = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(1), "{told}");
        assert!(told.contains(words), "{told}");
        // Its settings would stand beside the root.
        if root.starts_with(folder.path()) {
            let settings = Settings::default().file(&lines);
            let (status, said) = Server::refused(root, &settings);
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains(words), "{said}");
        }
    };
    refused(Path::new("/proc"), &work, "holds no files (proc)");
    refused(&root, Path::new("/sys/kernel"), "holds no files (sysfs)");
    refused(&root, &link, "perhaps by a link");
    // Its own names, taken by what is no file of ours.
    std::os::unix::fs::symlink("/dev/null", work.join("owner")).unwrap();
    refused(&root, &work, "owner in it is a link");
    std::fs::remove_file(work.join("owner")).unwrap();
    std::fs::remove_file(work.join("lock")).unwrap();
    std::fs::create_dir(work.join("lock")).unwrap();
    refused(&root, &work, "lock in it is not a regular file");
}
