//! What tests ask of the host: its tools, modes of files, another account, mounts. What needs root
//! and has none is skipped, with a sentence.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, IFlags, Mode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use super::server::Settings;
use super::skip;

/// The account that tests run the server as, where it is to be another one.
const AS_NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Runs its other arguments in a process that may not make some system calls, which the first one
/// names: `NUMBER:ERROR,..`. The filter: load the number of the call; for each, if it is that one,
/// fail with its error; else allow.
const WITHOUT_CALLS: &str = "
import ctypes, os, struct, sys
def step(code, yes, no, value): return struct.pack('HBBI', code, yes, no, value)
steps = step(0x20, 0, 0, 0)
for call in sys.argv[1].split(','):
    number, error = map(int, call.split(':'))
    steps += step(0x15, 0, 1, number) + step(0x06, 0, 0, 0x00050000 | error)
steps += step(0x06, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(steps)
program = struct.pack('HxxxxxxP', len(steps) // 8, ctypes.addressof(buffer))
c = ctypes.CDLL(None, use_errno=True)
if c.prctl(38, 1, 0, 0, 0) or c.prctl(22, 2, program, 0, 0): sys.exit(77)
os.execv(sys.argv[2], sys.argv[2:])
";

/// The first words of a command that may not make these calls, as in `425:1,426:1`; `None` where
/// none can be forbidden.
pub fn without_calls(calls: &str) -> Option<[&str; 4]> {
    let words = ["python3", "-c", WITHOUT_CALLS, calls];
    match run(&[words.as_slice(), &["/bin/true"]].concat()) {
        true => Some(words),
        false => {
            skip("no system call can be forbidden here (needs python3 and seccomp, 64 bit)");
            None
        }
    }
}

/// The server, with system calls that fail or take as long as strace is told (`-e`).
pub fn with_calls(calls: &[&str]) -> Option<Settings> {
    // The server is the child, and whoever looks on is not.
    let mut words = vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    for call in calls {
        words.extend(["-e", call]);
    }
    let is_there = Command::new("strace").arg("-V").output().is_ok();
    if !is_there {
        skip("strace is not installed");
    }
    is_there.then(|| Settings::default().wrapper(&words))
}

/// Whether a program could be run, and was content.
pub fn run(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Sets the mode of a file or folder.
pub fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Raises our own limit of open files, for us and the servers we start.
pub fn allow_files(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return true;
    }
    let wanted = Rlimit {
        current: Some(files),
        maximum: limit.maximum.map(|maximum| maximum.max(files)),
    };
    setrlimit(Resource::Nofile, wanted).is_ok()
}

/// A folder in memory where there is such a place: other tests have the disk, and many names that
/// come and go are dear there.
pub fn folder_in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.unwrap()
}

/// Makes a FIFO.
pub fn make_pipe(path: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
}

/// The first words of a command that nobody runs, where that can be.
pub fn words_of_nobody() -> Option<&'static [&'static str]> {
    if !run(&[AS_NOBODY.as_slice(), &["true"]].concat()) {
        skip("nothing can be run as another user (needs root and setpriv)");
        return None;
    }
    Some(&AS_NOBODY)
}

/// Runs the server as nobody, where that can be.
pub fn as_nobody() -> Option<Settings> {
    let words = words_of_nobody()?;
    Some(Settings::default().wrapper(words))
}

/// Seals a file or folder as `chattr` does, or unseals it; whether it can be done here. It keeps
/// what else it has: ext4 would make another kind of file of one that loses it.
pub fn set_flags(path: &Path, flags: IFlags) -> bool {
    let file = fs::File::open(path).unwrap();
    let set = rustix::fs::ioctl_getflags(&file).and_then(|now| {
        let others = now - IFlags::APPEND - IFlags::IMMUTABLE;
        rustix::fs::ioctl_setflags(&file, others | flags)
    });
    if let Err(error) = set {
        skip(&format!(
            "attributes of files need root and ext4 or XFS ({error})"
        ));
    }
    set.is_ok()
}

/// A folder of the test, and a root in it.
pub fn folder_and_root() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    (folder, root)
}

/// The same, where nobody may work.
pub fn folder_and_root_of_nobody() -> (TempDir, PathBuf) {
    let (folder, root) = folder_and_root();
    allow(folder.path(), 0o755);
    allow(&root, 0o777);
    (folder, root)
}

/// A tmpfs that is mounted for one test.
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one, with these options.
    pub fn on(path: &Path, options: &str) -> Option<Self> {
        let place = path.to_str().unwrap();
        if !run(&["mount", "-t", "tmpfs", "-o", options, "none", place]) {
            skip("nothing can be mounted here (needs root)");
            return None;
        }
        Some(Self(path.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}
