//! What publication will do, tried at start: a file is made on a shelf, renamed into a root, and
//! back.
//!
//! Comparing device numbers does not tell. Two places on one file system may be reached by two
//! mounts, between which nothing can be renamed: systemd makes a mount of each path that a unit may
//! write to. And a root may be read-only, immutable, or somebody else's.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::account;
use super::commit_file;
use super::inherit;
use super::launch_error::{BadRoot, LaunchError};
use super::sealed::Sealed;
use super::work_folder::{BadFolder, WorkFolder};
use crate::vault::names::{TRIAL_NAME, WorkName, parse_name};

/// Bytes that a disk takes which takes small uploads.
const WRITTEN_BYTES: usize = 64 << 10;

/// How a trial went.
#[derive(Debug)]
pub enum Trial {
    /// Publication will work.
    Passed,
    /// Only what may replace a file that stands there: the file system can neither rename without
    /// that nor make links.
    OnlyReplaces,
    /// The disk is full, and nothing more could be found out. It may not stay so.
    Full,
    /// The shelf and the root are not on one mount, or not in one subvolume.
    OtherMount,
}

/// What could not be used.
#[derive(Debug)]
pub enum BadTrial {
    /// Nothing can be made on the shelf.
    Shelf(io::Error),
    /// Nothing can be moved to the root.
    Root(io::Error),
}

impl From<Errno> for BadTrial {
    fn from(error: Errno) -> Self {
        Self::Root(error.into())
    }
}

impl BadTrial {
    /// Why the server cannot start with this root and this shelf.
    pub fn of(self, root: &Path, shelf: &WorkFolder) -> LaunchError {
        match self {
            Self::Root(error) => LaunchError::Root(root.to_owned(), BadRoot::Trial(error)),
            Self::Shelf(error) => {
                LaunchError::Folder(shelf.path().to_owned(), BadFolder::Io(error))
            }
        }
    }
}

/// Tries a root. `id` tells the trials of one server from those of another with the same root.
///
/// # Errors
/// What the kernel says to what a publication would have done.
pub fn of(shelf: &WorkFolder, root: &OwnedFd, id: u128) -> Result<Trial, BadTrial> {
    if is_other_mount(shelf, root)? {
        return Ok(Trial::OtherMount);
    }
    // Something could be made in it that never came out again.
    if Sealed::of_folder(shelf.descriptor()).is_some() {
        return Err(BadTrial::Shelf(Errno::PERM.into()));
    }
    let there = name_in_root(id);
    let cleaned = clear(shelf, root, &there);
    // What was put into such a folder could not be taken out again.
    if is_append_only(root) {
        return Ok(Trial::Passed);
    }
    cleaned?;
    let made = match make(shelf) {
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(Trial::Full),
        made => made,
    };
    made.map_err(|error| BadTrial::Shelf(error.into()))?;
    let tried = match move_there_and_back(shelf, root, &there) {
        // On one mount: the root may count its files for a project, which a publication gives them
        // first. Whether nothing else keeps them out, another try tells.
        Err(Errno::XDEV) if gives_project(shelf, root) => move_there_and_back(shelf, root, &there),
        tried => tried,
    };
    // Also after an error; the next start does it again.
    let _ = clear(shelf, root, &there);
    match tried {
        Ok(Moved::Safely) => Ok(Trial::Passed),
        Ok(Moved::OrReplaced) => Ok(Trial::OnlyReplaces),
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(Trial::Full),
        // On one mount, and in two subvolumes of btrfs; or the root is encrypted, and the shelf is
        // not; or nobody may give its project to a file.
        Err(Errno::XDEV) => Ok(Trial::OtherMount),
        Err(error) => Err(error.into()),
    }
}

/// Tries whether a shelf takes a file and its bytes, as an upload would bring them.
///
/// # Errors
/// What the disk says.
pub fn write(shelf: &WorkFolder) -> io::Result<()> {
    shelf.remove(TRIAL_NAME)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let made = rustix::fs::openat(shelf, TRIAL_NAME, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(made);
    let written = file
        .write_all(&[0; WRITTEN_BYTES])
        .and_then(|()| file.sync_all());
    // Also after an error.
    shelf.remove(TRIAL_NAME)?;
    written?;
    try_journals(shelf)
}

/// Whether records can be appended. Who has a journal open may write to it whatever its mode, and
/// whatever has its name since; an attribute keeps everybody out.
fn try_journals(shelf: &WorkFolder) -> io::Result<()> {
    let is_journal = |name: &str| matches!(parse_name(name), WorkName::Journal { .. });
    let mut journals = shelf.names_that(is_journal)?.into_iter();
    let refused = journals.find_map(|name| {
        let error = shelf
            .open_file(&name, OFlags::WRONLY | OFlags::APPEND)
            .err()?;
        (Errno::from_io_error(&error) == Some(Errno::PERM)).then_some(error)
    });
    refused.map_or(Ok(()), Err)
}

/// Tries whether a shelf that is on a disk of its own commits what was written there.
///
/// # Errors
/// What the disk says.
pub fn commit(shelf: &WorkFolder) -> io::Result<()> {
    File::from(commit_file::grow(shelf)?).sync_all()
}

/// Hidden, and nobody else's: a process that is killed may leave it for a while.
fn name_in_root(id: u128) -> String {
    format!(".bitsd-trial-{id:032x}")
}

/// Whether nothing can be moved from a shelf to a root. The kernel looks at the mounts before it
/// looks at the names, and "." can never be replaced: so nothing is moved.
///
/// # Errors
/// What the kernel says.
pub fn is_other_mount(shelf: &WorkFolder, root: &OwnedFd) -> Result<bool, BadTrial> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(shelf, TRIAL_NAME, root, ".", flags) {
        Err(Errno::XDEV) => Ok(true),
        Err(Errno::EXIST | Errno::BUSY | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(false),
    }
}

fn is_append_only(root: &OwnedFd) -> bool {
    let stat = rustix::fs::statx(root, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::APPEND))
}

/// Whether the root has a project for its files, and the file was given it.
fn gives_project(shelf: &WorkFolder, root: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = rustix::fs::openat(shelf, TRIAL_NAME, flags, Mode::empty());
    inherit::project_of(root).is_some_and(|project| {
        made.is_ok_and(|made| inherit::give_project(made.as_fd(), project).is_ok())
    })
}

/// Removes what a trial that was cut short has left.
fn clear(shelf: &WorkFolder, root: &OwnedFd, there: &str) -> Result<(), BadTrial> {
    shelf.remove(TRIAL_NAME).map_err(BadTrial::Shelf)?;
    let Ok(stat) = rustix::fs::statat(root, there, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(());
    };
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && stat.st_size == 0 && stat.st_uid == account::our_id() {
        rustix::fs::unlinkat(root, there, AtFlags::empty())?;
    }
    Ok(())
}

fn make(shelf: &WorkFolder) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(shelf, TRIAL_NAME, flags, mode).map(drop)
}

/// How a file can be moved.
enum Moved {
    /// So that nothing is replaced.
    Safely,
    /// Only by replacing what stands there.
    OrReplaced,
}

fn move_there_and_back(shelf: &WorkFolder, root: &OwnedFd, there: &str) -> Result<Moved, Errno> {
    let back = || rustix::fs::renameat(root, there, shelf, TRIAL_NAME);
    match rustix::fs::renameat_with(shelf, TRIAL_NAME, root, there, RenameFlags::NOREPLACE) {
        Ok(()) => back().map(|()| Moved::Safely),
        // The file system does not know the flag; publication links there, and so does this.
        Err(Errno::INVAL | Errno::NOSYS) => {
            match rustix::fs::linkat(shelf, TRIAL_NAME, root, there, AtFlags::empty()) {
                Ok(()) => {
                    rustix::fs::unlinkat(root.as_fd(), there, AtFlags::empty())?;
                    Ok(Moved::Safely)
                }
                // Nor links (link(2), "EPERM"). Nothing has that name.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    rustix::fs::renameat(shelf, TRIAL_NAME, root, there)?;
                    back().map(|()| Moved::OrReplaced)
                }
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::IFlags;

    use super::*;
    use crate::skipping::skip;
    use crate::vault::names::journal_name;

    #[test]
    fn a_trial_leaves_nothing_behind_and_takes_what_others_left() {
        let place = tempfile::tempdir().unwrap();
        let root: OwnedFd = fs::File::open(place.path()).unwrap().into();
        let shelf = WorkFolder::make(&place.path().join(".bitsd")).unwrap();
        // Killed at any point: before the first move, after it, and after the second one.
        for left in [
            None,
            Some(".bitsd/trial"),
            Some(".bitsd-trial-0000000000000000000000000000002a"),
        ] {
            if let Some(left) = left {
                fs::write(place.path().join(left), "").unwrap();
            }
            assert!(matches!(of(&shelf, &root, 42), Ok(Trial::Passed)));
            let names = fs::read_dir(place.path()).unwrap();
            let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [".bitsd"], "{left:?}");
            assert!(shelf.names().unwrap().is_empty(), "{left:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_touched() {
        let place = tempfile::tempdir().unwrap();
        let root: OwnedFd = fs::File::open(place.path()).unwrap().into();
        let shelf = WorkFolder::make(&place.path().join(".bitsd")).unwrap();
        let taken = place.path().join(name_in_root(7));
        fs::write(&taken, "somebody's").unwrap();
        let Err(BadTrial::Root(refused)) = of(&shelf, &root, 7) else {
            panic!("it is the root");
        };
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&taken).unwrap(), b"somebody's");
        assert!(shelf.names().unwrap().is_empty());
    }

    #[test]
    fn a_journal_that_takes_no_record_is_found() {
        let place = tempfile::tempdir().unwrap();
        let shelf = WorkFolder::make(&place.path().join(".bitsd")).unwrap();
        let journal = shelf.path().join(journal_name(1, 0));
        fs::write(&journal, "").unwrap();
        write(&shelf).unwrap();
        let opened = fs::File::open(&journal).unwrap();
        let before = rustix::fs::ioctl_getflags(&opened).unwrap_or_else(|_| IFlags::empty());
        if rustix::fs::ioctl_setflags(&opened, before | IFlags::IMMUTABLE).is_err() {
            return skip("attributes of files need root and ext4 or XFS");
        }
        let tried = write(&shelf);
        rustix::fs::ioctl_setflags(&opened, before).unwrap();
        assert_eq!(Errno::from_io_error(&tried.unwrap_err()), Some(Errno::PERM));
        write(&shelf).unwrap();
        assert_eq!(fs::read(&journal).unwrap(), b"");
    }

    #[test]
    fn what_cannot_be_done_on_the_shelf_is_not_blamed_on_the_root() {
        let place = tempfile::tempdir().unwrap();
        let root: OwnedFd = fs::File::open(place.path()).unwrap().into();
        let shelf = WorkFolder::make(&place.path().join(".bitsd")).unwrap();
        fs::create_dir(place.path().join(".bitsd").join(TRIAL_NAME)).unwrap();
        assert!(matches!(of(&shelf, &root, 7), Err(BadTrial::Shelf(_))));
    }

    #[test]
    fn another_mount_is_found_without_moving_anything() {
        let place = tempfile::tempdir().unwrap();
        let shelf = WorkFolder::make(&place.path().join(".bitsd")).unwrap();
        let other: OwnedFd = fs::File::open("/proc").unwrap().into();
        assert!(matches!(of(&shelf, &other, 1), Ok(Trial::OtherMount)));
    }
}
