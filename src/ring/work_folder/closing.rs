//! A folder of ours that somebody has opened to others is closed again.
//!
//! Whoever sets rights on a whole share (`chmod -R g+w`, `chown -R`) means the files that were
//! uploaded, and opens the folder of the unfinished ones with them, which mostly lies beneath the
//! root. Whoever may write there may forge records of sessions, and what those say is published
//! with our rights. A start refuses such a folder. But of one that was opened before it is known
//! what it was, and that it is ours: so it gets owner and mode back, and the note in it its mark,
//! which a start looks for ([`WorkFolder::is_marked`]).

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{OURS_MODE, WorkFolder};
use crate::ring::account;
use crate::vault::names::{OWNER_NAME, WorkName, parse_name};

/// The rights that nobody but us may have in a folder of ours.
const OTHERS_WRITE: Mode = Mode::WGRP.union(Mode::WOTH);

/// What was found of a folder of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is ours alone.
    Ours,
    /// It was opened to others, and is closed again.
    Closed {
        /// The mode that it was found with.
        mode: Mode,
        /// Whose it was then.
        owner: u32,
    },
    /// The same, and it cannot be closed.
    Open(Errno),
    /// It was given to somebody else, and cannot be taken back.
    Elses(u32),
}

/// The mode that a folder has when it is opened, which is ours alone then.
pub fn mode_of(folder: &WorkFolder) -> Mode {
    let stat = rustix::fs::fstat(folder);
    stat.map_or(Mode::RWXU, |stat| {
        permissions(stat.st_mode).difference(OTHERS_WRITE)
    })
}

/// Looks whether a folder is ours alone, and closes it if it is not.
pub fn keep(folder: &OwnedFd, mode: Mode) -> Hold {
    let Ok(stat) = rustix::fs::fstat(folder) else {
        // That it cannot be looked at is told by whoever looks for it.
        return Hold::Ours;
    };
    let (found, owner) = (permissions(stat.st_mode), stat.st_uid);
    let is_given_away = owner != account::our_id();
    if !is_given_away && !found.intersects(OTHERS_WRITE) {
        return Hold::Ours;
    }
    if is_given_away && take_back(folder).is_err() {
        return Hold::Elses(owner);
    }
    if let Err(error) = rustix::fs::fchmod(folder, mode) {
        return Hold::Open(error);
    }
    close_files(folder);
    Hold::Closed { mode: found, owner }
}

/// Only root can.
fn take_back(opened: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::fchown(opened, Some(Uid::from_raw(account::our_id())), None)
}

/// The same for records and notes in it. What is to be published has the mode that it will have
/// there, whatever that is.
fn close_files(folder: &OwnedFd) {
    let Ok(entries) = Dir::read_from(folder) else {
        return;
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let known = parse_name(&name.to_string_lossy());
        let is_kept = matches!(
            known,
            WorkName::Journal { .. } | WorkName::Note(_) | WorkName::Ours
        );
        let Ok(file) = rustix::fs::openat(folder, name, flags, Mode::empty()) else {
            continue;
        };
        let Ok(stat) = rustix::fs::fstat(&file) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        let mode = permissions(stat.st_mode);
        // What cannot be closed, a start would name.
        if stat.st_uid != account::our_id() {
            let _ = take_back(&file);
        }
        if is_kept && mode.intersects(OTHERS_WRITE) {
            let mark = match name.to_bytes() == OWNER_NAME.as_bytes() {
                true => Mode::SVTX,
                false => mode & Mode::SVTX,
            };
            let _ = rustix::fs::fchmod(&file, OURS_MODE | mark);
        }
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::bits::session_id::SessionId;
    use crate::vault::names::part_name;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_was_opened_to_others_is_closed_as_it_was() {
        for was in [0o700, 0o755] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("work");
            let folder = WorkFolder::make(&path).unwrap();
            set_mode(&path, was);
            let known = mode_of(&folder);
            assert_eq!(keep(folder.descriptor(), known), Hold::Ours);
            folder.write("owner", b"x").unwrap();
            let part = path.join(part_name(SessionId::mint([7; 16], 0, 1)));
            fs::write(&part, "x").unwrap();
            set_mode(&part, 0o666);
            set_mode(&path.join("owner"), 0o777);
            for opened in [0o777, 0o770, 0o2775] {
                set_mode(&path, opened);
                let found = Hold::Closed {
                    mode: Mode::from_raw_mode(opened),
                    owner: account::our_id(),
                };
                assert_eq!(keep(folder.descriptor(), known), found);
                assert_eq!(mode(&path), was, "{opened:o}");
            }
            assert_eq!(mode(&part), 0o666);
            assert_eq!(mode(&path.join("owner")), 0o1600);
            assert!(folder.is_marked("owner"));
            // More to read is not for us to say.
            set_mode(&path, 0o755);
            assert_eq!(keep(folder.descriptor(), known), Hold::Ours);
        }
    }
}
