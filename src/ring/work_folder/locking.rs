//! Locks a folder of ours against a second server, and finds out who has it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::{OURS_MODE, WorkFolder, or_link};
use crate::ring::handed::HandedLocks;

/// How long the lock of a server that was killed may outlast it, and a check may have it.
const RELEASE: Duration = Duration::from_secs(2);
/// How long one that was killed may seem to run.
const DYING: Duration = Duration::from_millis(100);

/// A folder that no other server can have; over when dropped.
#[derive(Debug)]
pub struct Lock {
    folder: Arc<OwnedFd>,
    file: OwnedFd,
}

impl Lock {
    /// Descriptors by which the lock outlives this program.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn hand_on(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.folder.try_clone()?, self.file.try_clone()?])
    }
}

impl WorkFolder {
    /// Locks it against a second server: the folder itself, so that nobody can undo it by what is
    /// done to the files in it, and the file that servers before this one knew. `None` if another
    /// one has it. What the program before has locked in this process is locked still.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn lock(&self, name: &str, handed: &mut HandedLocks) -> io::Result<Option<Lock>> {
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let folder = handed.of(&self.descriptor);
        let locked = match &folder {
            Some(folder) => rustix::fs::flock(folder, exclusive),
            None => self.lock_folder(name),
        };
        match locked {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // A file system that cannot lock folders (NFS asks for one that is open for writing):
            // the file has to do.
            Err(Errno::BADF | Errno::INVAL | Errno::NOLCK | Errno::OPNOTSUPP | Errno::ISDIR) => {}
            Err(error) => return Err(error.into()),
        }
        // Not for writing where that is enough, so that an administrator can remount the disk
        // read-only meanwhile.
        let mut file = self.open_lock(name, OFlags::RDONLY)?;
        file = handed.of(&file).unwrap_or(file);
        let mut locked = rustix::fs::flock(&file, exclusive);
        if locked == Err(Errno::BADF) {
            file = self.open_lock(name, OFlags::RDWR)?;
            locked = rustix::fs::flock(&file, exclusive);
        }
        match locked {
            Ok(()) => Ok(Some(Lock {
                folder: folder.map_or_else(|| Arc::clone(&self.descriptor), Arc::new),
                file,
            })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, for a moment: the file is locked if it is there, and never made.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn lock_for_now(&self, name: &str) -> io::Result<Option<Lock>> {
        match self.open_file(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It stands there.
            _ => return self.lock(name, &mut HandedLocks::default()),
        }
        match self.lock_folder(name) {
            Ok(()) => Ok(Some(Lock {
                folder: Arc::clone(&self.descriptor),
                file: self.descriptor.try_clone()?,
            })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The kernel takes the rings of a killed server down after its process, and with them the last
    /// descriptors of its folders: a restart at once waits for that, but not long for a server that
    /// runs.
    fn lock_folder(&self, name: &str) -> Result<(), Errno> {
        let began = Instant::now();
        loop {
            let locked =
                rustix::fs::flock(&self.descriptor, FlockOperation::NonBlockingLockExclusive);
            if locked != Err(Errno::WOULDBLOCK) {
                return locked;
            }
            let keeps_it = |process| runs(process) && !checks(process);
            let patience = match self.holder(name).is_some_and(keeps_it) {
                true => DYING,
                false => RELEASE,
            };
            if began.elapsed() >= patience {
                return locked;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn open_lock(&self, name: &str, access: OFlags) -> io::Result<OwnedFd> {
        match self.open_file(name, access) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result.map_err(|error| or_link(name, error)),
        }
        match self.create_file(name, access, OURS_MODE) {
            // Somebody was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.open_file(name, access)
            }
            result => result,
        }
    }

    /// The process that has locked it, as far as the kernel tells.
    pub fn holder(&self, name: &str) -> Option<u32> {
        let mut inodes = vec![rustix::fs::fstat(&self.descriptor).ok()?.st_ino];
        inodes.extend(self.stat(name).ok().flatten().map(|stat| stat.st_ino));
        holder(&fs::read_to_string("/proc/locks").ok()?, &inodes)
    }
}

/// Whether a process is a check, which lets go of a lock in a moment.
fn checks(process: u32) -> bool {
    let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    is_check(&line)
}

/// Of `/proc/PID/cmdline` (proc_pid_cmdline(5)): the words end with a zero each.
fn is_check(line: &[u8]) -> bool {
    line.split(|byte| *byte == 0).nth(1) == Some(b"check")
}

/// Whether a process runs, and is not about to end.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    is_running(&stat)
}

/// What a line of `/proc/PID/stat` says (proc_pid_stat(5)): the state and, six fields on, the flags
/// of the kernel.
fn is_running(stat: &str) -> bool {
    /// `PF_EXITING`
    const ENDS: u64 = 0x4;
    // After the name, which is in brackets and may hold any.
    let Some((_, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    let mut fields = rest.split(' ');
    let is_alive = fields
        .next()
        .is_some_and(|state| !matches!(state, "Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    is_alive && flags.is_some_and(|flags| flags & ENDS == 0)
}

/// The process in the lines of `/proc/locks` that has one of these files.
fn holder(locks: &str, inodes: &[u64]) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let pid = fields.nth(4)?.parse().ok()?;
        let inode: u64 = fields.next()?.rsplit(':').next()?.parse().ok()?;
        inodes.contains(&inode).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, WorkFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = WorkFolder::make(&place.path().join("work")).unwrap();
        (place, folder)
    }

    #[test]
    fn a_lock_holds_whatever_is_done_to_the_files() {
        let (_place, folder) = folder();
        let again = || WorkFolder::open(folder.path(), true).unwrap();
        let lock = folder
            .lock("lock", &mut HandedLocks::default())
            .unwrap()
            .expect("nobody has it");
        assert!(
            again()
                .lock("lock", &mut HandedLocks::default())
                .unwrap()
                .is_none()
        );
        folder.remove("lock").unwrap();
        assert!(
            again()
                .lock("lock", &mut HandedLocks::default())
                .unwrap()
                .is_none()
        );
        fs::write(folder.path().join("lock"), "").unwrap();
        assert!(
            again()
                .lock("lock", &mut HandedLocks::default())
                .unwrap()
                .is_none()
        );
        drop(lock);
        // The folder stays locked as long as one descriptor of that opening is left.
        drop(folder);
    }

    #[test]
    fn a_lock_is_not_waited_for_where_its_holder_runs() {
        let (_place, folder) = folder();
        let _lock = folder
            .lock("lock", &mut HandedLocks::default())
            .unwrap()
            .unwrap();
        let other = WorkFolder::open(folder.path(), true).unwrap();
        let began = Instant::now();
        assert!(
            other
                .lock("lock", &mut HandedLocks::default())
                .unwrap()
                .is_none()
        );
        let waited = began.elapsed();
        assert!(DYING <= waited && waited < RELEASE, "{waited:?}");
        assert!(runs(std::process::id()));
        assert!(is_running("7 (a) b) S 1 7 7 0 -1 4194560 0 0"));
        assert!(!is_running("7 (a) b) S 1 7 7 0 -1 4194564 0 0"));
        assert!(!is_running("7 (a) Z 1 7 7 0 -1 4194560 0 0"));
        assert!(!is_running(""));
        assert!(is_check(b"/usr/bin/bitsd\0check\0-q\0"));
        assert!(!is_check(b"bitsd\0serve\0check\0"));
        assert!(!is_check(b"check\0"));
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 300 00:19:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 fe:00:123 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 5 fe:00:9 0 EOF\n";
        assert_eq!(holder(locks, &[123]), Some(4711));
        assert_eq!(holder(locks, &[7]), None);
    }
}
