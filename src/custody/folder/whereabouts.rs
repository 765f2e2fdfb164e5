//! What stands at a name now: a folder at the path of the ledger's, a file in it. A descriptor goes
//! on working when the name is gone, and then what is written by it is where nobody looks.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};
use rustix::io::Errno;

/// What tells a file from all others for as long as somebody has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    device: (u32, u32),
    inode: u64,
}

impl FileIdentity {
    /// Whether both are on one file system.
    pub fn is_beside(self, other: Self) -> bool {
        self.device == other.device
    }
}

/// A file, or a folder.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts {
    pub identity: FileIdentity,
    pub bytes: u64,
    pub is_regular: bool,
    pub owner: u32,
    pub mode: u32,
    /// It has some name.
    pub is_named: bool,
}

/// One that is open.
pub fn of(file: &File) -> io::Result<Whereabouts> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    Ok(found(&rustix::fs::statx(file, "", flags, ASKED)?))
}

/// What a path leads to; `None` if to nothing.
pub fn at(path: &Path) -> io::Result<Option<Whereabouts>> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(CWD, path, flags, ASKED) {
        Ok(stat) => Ok(Some(found(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What stands under a name in a folder, itself and not what it leads to; `None` if nothing.
pub fn within(folder: &File, name: &str) -> io::Result<Option<Whereabouts>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(folder, name, flags, ASKED) {
        Ok(stat) => Ok(Some(found(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

const ASKED: StatxFlags = StatxFlags::INO
    .union(StatxFlags::TYPE)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::UID)
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK);

fn found(stat: &Statx) -> Whereabouts {
    Whereabouts {
        identity: FileIdentity {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
        },
        bytes: stat.stx_size,
        is_regular: FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile,
        owner: stat.stx_uid,
        mode: stat.stx_mode.into(),
        is_named: stat.stx_nlink > 0,
    }
}
