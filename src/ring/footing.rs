//! Where a folder stands: apart from the server's own.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Whether a folder belongs to the system (the Filesystem Hierarchy Standard 3.0 says which do).
/// What clients send does not belong there, and a server makes files of its own in it. Links are
/// followed.
pub fn is_of_the_system(folder: &Path) -> bool {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let path = std::fs::canonicalize(folder).unwrap_or(absolute);
    let is_beneath = |all: &[&str]| all.iter().any(|one| path.starts_with(one));
    let holds_others = HOLD_OTHERS.iter().any(|one| path == Path::new(one));
    holds_others || (is_beneath(&WHOLE) && !is_beneath(&NOT_OF_THEM))
}

/// Nothing may lie even beneath these.
const WHOLE: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin",
    "/sys", "/usr",
];
const NOT_OF_THEM: [&str; 2] = ["/dev/shm", "/usr/local"];
/// These hold what belongs to others.
const HOLD_OTHERS: [&str; 11] = [
    "/",
    "/dev/shm",
    "/home",
    "/root",
    "/run",
    "/tmp",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/run",
    "/var/tmp",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_system_are_known_by_whatever_name() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        for path in [
            "/",
            "/etc",
            "/etc/none",
            "/usr/bin/../lib",
            "/run",
            "/home",
            "/dev/shm",
            "//",
        ] {
            assert!(is_of_the_system(Path::new(path)), "{path}");
        }
        assert!(is_of_the_system(&link));
        for path in [
            "/srv",
            "/srv/uploads",
            "/var/lib/bitsd",
            "/run/bitsd",
            "/mnt",
            "/dev/shm/x",
            "/usr/local/x",
        ] {
            assert!(!is_of_the_system(Path::new(path)), "{path}");
        }
        assert!(!is_of_the_system(place.path()));
    }
}
