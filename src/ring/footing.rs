//! Where a folder stands: on a file system that holds files, and apart from the server's own.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

/// The name of a folder's file system, if that is one of the kernel's own in which no file can be
/// made (statfs(2) and `linux/magic.h` have the numbers). Rights and errors do not tell: root may
/// write everywhere.
pub fn kind_without_files(folder: &OwnedFd) -> Option<&'static str> {
    let kind = u64::try_from(rustix::fs::fstatfs(folder).ok()?.f_type).ok()?;
    let found = KINDS_WITHOUT_FILES
        .iter()
        .find(|(number, _)| *number == kind);
    found.map(|(_, name)| *name)
}

const KINDS_WITHOUT_FILES: [(u64, &str); 9] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x0000_1cd1, "devpts"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
];

/// The first of the folders that is this one, or lies in it; what cannot be opened does not.
pub fn first_within<'p>(folder: &OwnedFd, paths: &'p [PathBuf]) -> Option<&'p PathBuf> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    paths.iter().find(|path| {
        let found = rustix::fs::open(*path, flags, Mode::empty());
        found.is_ok_and(|found| holds(folder, &found))
    })
}

/// Whether one folder is another one, or lies in it.
fn holds(folder: &OwnedFd, within: &OwnedFd) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let identity = |folder: &OwnedFd| {
        let stat = rustix::fs::fstat(folder).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let wanted = identity(folder);
    let mut here = rustix::fs::openat(within, ".", flags, Mode::empty()).ok();
    let mut below = None;
    while let Some(folder) = here {
        let found = identity(&folder);
        if found.is_none() || found == below {
            return false;
        }
        if found == wanted {
            return true;
        }
        below = found;
        here = rustix::fs::openat(&folder, "..", flags, Mode::empty()).ok();
    }
    false
}
