//! Starts that fail: each with one sentence that says why, and exit code 1.

mod support;

use std::process::Command;

use support::server::{Server, Settings};
use support::skip;

/// Runs its arguments in a process that may not call io_uring_setup; `ERRNO` is what it hears instead.
/// The filter: load the number of the call; if it is 425, fail with the error; else allow.
const WITHOUT_IO_URING: &str = "
import ctypes, os, struct, sys
def step(code, yes, no, value): return struct.pack('HBBI', code, yes, no, value)
steps = ctypes.create_string_buffer(step(0x20, 0, 0, 0) + step(0x15, 0, 1, 425)
    + step(0x06, 0, 0, 0x00050000 | int(sys.argv[1])) + step(0x06, 0, 0, 0x7fff0000))
program = struct.pack('HxxxxxxP', 4, ctypes.addressof(steps))
c = ctypes.CDLL(None, use_errno=True)
if c.prctl(38, 1, 0, 0, 0) or c.prctl(22, 2, program, 0, 0): sys.exit(77)
os.execv(sys.argv[2], sys.argv[2:])
";

/// What a server without io_uring says, where one can be started.
fn without_io_uring(errno: &str) -> Option<String> {
    let words = ["python3", "-c", WITHOUT_IO_URING, errno];
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
    if let Some(said) = without_io_uring("1") {
        assert!(said.contains("io_uring is forbidden here"), "{said}");
        assert!(
            said.contains("seccomp") && said.contains("kernel.io_uring_disabled"),
            "{said}"
        );
    }
}

#[test]
fn missing_io_uring_is_one_sentence_with_a_remedy() {
    if let Some(said) = without_io_uring("38") {
        assert!(
            said.contains("no io_uring") && said.contains("needs Linux 5.19"),
            "{said}"
        );
    }
}
