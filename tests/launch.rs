//! Starts that fail: each with one sentence that says why, and exit code 1.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};
use support::client::{Client, fragment};
use support::host::without_calls;
use support::server::{Server, Settings};
use support::skip;

/// Numbers of system calls, the same on every architecture.
const SETUP: &str = "425";
const ENTER: &str = "426";
const REGISTER: &str = "427";
const OPENAT2: &str = "437";

/// What a server without io_uring says, where one can be started.
fn without_io_uring(call: &str, errno: &str) -> Option<String> {
    without_call(&format!("{call}:{errno}"))
}

/// The same of any call, and its error.
fn without_call(call: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings::default().wrapper(&without_calls(call)?);
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

/// What a check says that finds something wrong.
fn refused_by_check(words: &[&str], root: &Path) -> String {
    let checked = Command::new(words[0])
        .args(&words[1..])
        .arg(env!("CARGO_BIN_EXE_bitsd"))
        .args(["check", "--no-config", "--listen", "127.0.0.1:0", "--root"])
        .arg(root)
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("wrong: "), "{said}");
    said
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
    let call = format!("{OPENAT2}:1");
    let words = without_calls(&call).unwrap();
    let said = refused_by_check(&words, root.path());
    assert!(said.contains(remedy), "{said}");
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        0,
        "a check makes nothing"
    );
}

/// Each of them would be missed by the first upload only, and blamed on its folder.
#[test]
fn without_a_call_that_every_upload_needs_neither_a_start_nor_a_check_passes() {
    let numbers = match () {
        () if cfg!(target_arch = "x86_64") => ["332", "439", "18", "52"],
        () if cfg!(target_arch = "aarch64") => ["291", "439", "68", "205"],
        () => return skip("the numbers of the calls are not known here"),
    };
    let names = ["statx", "faccessat2", "pwrite64", "getpeername"];
    for (name, number) in names.iter().zip(numbers) {
        let call = format!("{number}:1");
        let Some(said) = without_call(&call) else {
            return;
        };
        let expected = format!("the system call {name} cannot be used");
        assert!(said.contains(&expected), "{said}");
        let root = tempfile::tempdir().unwrap();
        let words = without_calls(&call).unwrap();
        let said = refused_by_check(&words, root.path());
        assert!(said.contains(&expected), "{said}");
    }
}

/// A limit that cannot be asked for is none: the server serves, and says once why it does not know.
#[test]
fn without_prlimit_there_are_no_limits() {
    let call = match () {
        () if cfg!(target_arch = "x86_64") => "302:1",
        () if cfg!(target_arch = "aarch64") => "261:1",
        () => return skip("the number of prlimit64 is not known here"),
    };
    let Some(words) = without_calls(call) else {
        return;
    };
    let server = Server::with(Settings::default().wrapper(&words));
    server.wait_for_log("event=limits_unknown");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1000)).assert(200, None);
    client.close().assert(200, None);
    let log = server.log();
    assert_eq!(log.matches("event=limits_unknown").count(), 1, "{log}");
    assert!(!log.contains("file_size_limit"), "{log}");
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

/// Starts a server in a process with limits; whether it runs, and what it says.
fn started(folder: &Path, words: &[&str], lines: &str) -> (Option<Child>, String, String) {
    let file = folder.join("limits.toml");
    let text = format!(
        "root = {:?}\nlisten = \"127.0.0.1:0\"\ncores = 2\n{lines}",
        folder.join("root")
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .args(["serve", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // To its end, if the server does not start.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    if !line.is_empty() {
        return (Some(child), line, String::new());
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    let refusals: Vec<_> = (said.lines())
        .filter(|line| line.contains("level=ERROR"))
        .collect();
    assert!(
        said.lines().all(|line| line.starts_with("timestamp=")),
        "{said}"
    );
    assert_eq!(refusals.len(), 1, "{words:?}: {said}");
    assert!(refusals[0].contains("event=start_failed"), "{said}");
    (None, line, said)
}

/// What cannot be allocated ends a program without a word that anybody could act on.
#[test]
fn want_of_memory_at_start_is_one_sentence_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let bitsd = env!("CARGO_BIN_EXE_bitsd");
    // Address space in KiB: from too little for anything to enough. Between them the allocator's
    // own reservations decide.
    for kib in [
        40_000, 60_000, 90_000, 150_000, 200_000, 250_000, 300_000, 400_000, 800_000,
    ] {
        let limit = format!("ulimit -v {kib}; exec \"$@\"");
        let words = ["sh", "-c", &limit, "sh", bitsd];
        let (running, _, said) = started(folder.path(), &words, "");
        match running {
            Some(mut child) => {
                assert!(kib > 60_000, "it needs more");
                child.kill().unwrap();
                child.wait().unwrap();
            }
            None => assert!(
                said.contains("LimitAS=") && said.contains("memory"),
                "{kib}: {said}"
            ),
        }
    }
    // What the settings ask for is what is missing.
    let lines = "[limits]\nbody_blocks_per_shard = 512\nblock_bytes = \"8 MiB\"\n";
    let words = ["sh", "-c", "ulimit -v 4000000; exec \"$@\"", "sh", bitsd];
    let (running, _, said) = started(folder.path(), &words, lines);
    assert!(
        running.is_none() && said.contains("limits.block_bytes"),
        "{said}"
    );
}

/// The ring works by threads of the kernel, which count as the process's: whatever the limit, a
/// server that starts can do its work, and be asked.
#[test]
fn whatever_the_limit_of_threads_a_server_that_starts_serves() {
    let user = 60_000 + std::process::id() % 5_000;
    let (reuid, regid) = (format!("--reuid={user}"), format!("--regid={user}"));
    let as_user = ["setpriv", &reuid, &regid, "--clear-groups"];
    if !support::host::run(&[&as_user[..], &["prlimit", "--nproc=5", "true"]].concat()) {
        skip("there is no other account to count the threads of (needs root, setpriv and prlimit)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    for path in [folder.path(), &root] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
    // Where that account may run it.
    let bitsd = folder.path().join("bitsd");
    std::fs::copy(env!("CARGO_BIN_EXE_bitsd"), &bitsd).unwrap();
    let (bitsd, socket) = (bitsd.to_str().unwrap(), folder.path().join("admin.sock"));
    let (mut refused, mut served) = (0, 0);
    for threads in 3..26 {
        let limit = format!("--nproc={threads}");
        let words = [&as_user[..], &["prlimit", &limit, bitsd]].concat();
        let lines = format!("admin_socket = {socket:?}\n");
        let (running, line, said) = started(folder.path(), &words, &lines);
        if running.is_none() {
            // A check finds out the same.
            let mut check = Command::new(words[0]);
            let check = check
                .args(&words[1..])
                .args(["check", "--quiet", "--config"]);
            let checked = check
                .arg(folder.path().join("limits.toml"))
                .output()
                .unwrap();
            let told = String::from_utf8(checked.stderr).unwrap();
            let is_told = !checked.status.success() && told.contains("TasksMax=");
            assert!(is_told, "{threads}: {told}");
        }
        let Some(mut child) = running else {
            assert!(said.contains("TasksMax="), "{threads}: {said}");
            refused += 1;
            continue;
        };
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .expect(&line);
        let path = format!("/{threads}");
        let mut client = Client::create(address.parse().unwrap(), &path);
        client.send(fragment(0..300_000)).assert(200, None);
        client.close().assert(200, None);
        let status = Command::new(bitsd)
            .args(["status", "--socket"])
            .arg(&socket)
            .output()
            .unwrap();
        assert!(status.status.success(), "{threads}: {status:?}");
        rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{threads}: {said}");
        assert!(said.contains("synced=true"), "{threads}: {said}");
        served += 1;
    }
    assert!(
        refused > 3 && served > 3,
        "{refused} refused, {served} served"
    );
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
