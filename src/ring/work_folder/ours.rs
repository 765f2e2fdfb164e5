//! Whether a file in a folder of ours is ours alone.
//!
//! Whoever sets rights on a whole share (`chmod -R a+rwX`) opens the files in our folder with it. A
//! folder that is closed again holds files that are open still, and so does one that others could
//! write to for a while. What stands in them is believed, and published with our rights. So each is
//! looked at when it is opened, by the same call that says that it is a file.
//!
//! Not each right that a file shows was given later. A umask or a default ACL may let a group write
//! to uploads, which they were made with. And a file system without rights (vfat, some of FUSE)
//! shows the same of all files. So before a file is called open, one is made beside it as the
//! server makes them, and looked at.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use super::{hold, path_of};
use crate::diagnosis::NotOurs;
use crate::ring::account;
use crate::shell;
use crate::vault::names::{self, TRIAL_NAME, WorkName};

/// What only the server reads and writes.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);
/// What gets a name among the files of others.
const UPLOAD: Mode = Mode::from_raw_mode(0o666);
const OTHERS_WRITE: u32 = hold::OTHERS_WRITE.bits();

/// What a file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    owner: u32,
    mode: u32,
}

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// It is somebody else's.
    Elses,
    /// Others may write to it.
    Open,
}

impl Shown {
    fn of(stat: &Stat) -> Self {
        Self {
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
        }
    }

    fn is_open(self) -> bool {
        self.mode & OTHERS_WRITE != 0
    }

    /// Beside what one shows that we have just made there.
    fn wrong_beside(self, ours: Self) -> Option<Wrong> {
        if self.owner != ours.owner {
            Some(Wrong::Elses)
        } else if self.mode & !ours.mode & OTHERS_WRITE != 0 {
            Some(Wrong::Open)
        } else {
            None
        }
    }
}

/// Whether a regular file in a folder of ours is ours alone; what else stands there is not judged.
///
/// # Errors
/// [`NotOurs`], which names the file and what helps.
pub fn check(folder: &OwnedFd, name: &str, stat: &Stat) -> io::Result<()> {
    check_giving(folder, name, stat, 0)
}

/// The same of a file that is about to get these permissions. A crash may have come in between, and
/// who may write to it in a moment anyway may do so now.
///
/// # Errors
/// [`NotOurs`]
pub fn check_giving(folder: &OwnedFd, name: &str, stat: &Stat, mode: u32) -> io::Result<()> {
    let mut shown = Shown::of(stat);
    shown.mode &= !(mode & OTHERS_WRITE);
    if shown.owner == our_id() && !shown.is_open() {
        return Ok(());
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let mode = match names::parse_name(name) {
        // Root may be the application that has put it there.
        WorkName::Reply(_) if shown.owner == 0 && !shown.is_open() => return Ok(()),
        WorkName::Part(_) | WorkName::Reply(_) | WorkName::Digest(_) => UPLOAD,
        _ => PRIVATE,
    };
    match wrong_in(folder, shown, mode) {
        None => Ok(()),
        Some(wrong) => Err(NotOurs(in_words(&path_of(folder), name, shown, wrong)).into()),
    }
}

/// What one shows that we make in this folder may have changed since it was last asked.
fn wrong_in(folder: &OwnedFd, shown: Shown, mode: Mode) -> Option<Wrong> {
    static KNOWN: Mutex<BTreeMap<(u64, u64, u32), Shown>> = Mutex::new(BTreeMap::new());
    let place = rustix::fs::fstat(folder).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
    let key = (place.0, place.1, mode.bits());
    // The lock is held while one is made: they all have the same name.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ours) = known.get(&key)
        && shown.wrong_beside(*ours).is_none()
    {
        return None;
    }
    let ours = match make_one(folder, mode) {
        Ok(ours) => {
            known.insert(key, ours);
            ours
        }
        // No room for one.
        Err(_) => Shown {
            owner: our_id(),
            mode: mode.bits() & !crate::ring::umask::current().unwrap_or(OTHERS_WRITE),
        },
    };
    shown.wrong_beside(ours)
}

/// Makes a file as the server makes its own, and takes it away.
fn make_one(folder: &OwnedFd, mode: Mode) -> io::Result<Shown> {
    let name = format!("{TRIAL_NAME}{}", super::NEW_SUFFIX);
    // What a server left that was killed just here.
    let _none = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = rustix::fs::openat(folder, &name, flags, mode)?;
    let shown = rustix::fs::fstat(&made).map(|stat| Shown::of(&stat));
    rustix::fs::unlinkat(folder, &name, AtFlags::empty())?;
    Ok(shown?)
}

/// It does not change, and each file is held against it.
fn our_id() -> u32 {
    static ID: OnceLock<u32> = OnceLock::new();
    *ID.get_or_init(account::our_id)
}

fn in_words(folder: &Path, name: &str, shown: Shown, wrong: Wrong) -> String {
    let (word, file) = (shell::word(folder), folder.join(name));
    let (file, us) = (file.display(), account::us());
    match wrong {
        Wrong::Elses => format!(
            "{file} belongs to {}, and what stands in it is published with the rights of {us}: if nobody has changed \
             anything there, `chown -R {} {word}`",
            account::user(shown.owner),
            account::to_chown(our_id())
        ),
        Wrong::Open => format!(
            "others than {us} may write to {file} (mode {:04o}), and what stands in it is published with the server's \
             rights: if nobody has changed anything there, `chmod -R go-w {word}`",
            shown.mode
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::ring::work_folder::WorkFolder;

    const PART: &str = "a33ae6a1-b9ae-41d2-bc9f-ad6e0e6b1b6c.part";

    #[test]
    fn a_file_that_others_may_write_to_is_not_ours_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = WorkFolder::make(&place.path().join("it's here")).unwrap();
        let part = names::part_name(
            crate::bits::session_id::SessionId::parse(b"A33AE6A1-B9AE-41D2-BC9F-AD6E0E6B1B6C")
                .unwrap(),
        );
        assert_eq!(part.to_lowercase(), PART);
        for name in ["lock", "0000000000000000-0.journal", &part] {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            for (mode, is_ours) in [
                (0o600, true),
                (0o644, true),
                (0o1600, true),
                (0o666, false),
                (0o602, false),
                (0o1622, false),
            ] {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                let opened = folder.open_file(name, OFlags::RDONLY);
                assert_eq!(opened.is_ok(), is_ours, "{name} {mode:o}");
                if let Err(error) = opened {
                    assert!(crate::diagnosis::is_not_ours(&error), "{error}");
                    let said = error.to_string();
                    assert!(
                        said.contains(r"`chmod -R go-w '") && said.ends_with('`'),
                        "{said}"
                    );
                }
            }
        }
        assert_eq!(
            folder.names().unwrap().len(),
            3,
            "nothing is left of a look"
        );
    }

    /// As where a umask or an ACL lets a group write, and where a file system has no modes.
    #[test]
    fn what_our_own_files_show_there_is_no_fault() {
        let us = our_id();
        let shown = |owner, mode| Shown { owner, mode };
        for (it, ours, wrong) in [
            (shown(us, 0o664), shown(us, 0o644), Some(Wrong::Open)),
            (shown(us, 0o664), shown(us, 0o664), None),
            (shown(us, 0o666), shown(us, 0o664), Some(Wrong::Open)),
            (shown(us, 0o777), shown(us, 0o777), None),
            (shown(us + 1, 0o600), shown(us, 0o600), Some(Wrong::Elses)),
            (shown(us + 1, 0o777), shown(us + 1, 0o777), None),
        ] {
            assert_eq!(it.wrong_beside(ours), wrong, "{it:?} {ours:?}");
        }
    }
}
