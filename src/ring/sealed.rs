//! Attributes by which a file or a folder is kept from all who would change it, root among them
//! (chattr(1)).

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags};

use crate::shell;

/// What keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Nothing in it can be made, written, or moved.
    Immutable,
    /// Something can be made in a folder, and nothing taken out of it again.
    AppendOnly,
}

impl Sealed {
    /// What it is.
    pub fn word(self) -> &'static str {
        match self {
            Self::Immutable => "immutable",
            Self::AppendOnly => "append-only",
        }
    }

    /// What is said of a path that is kept so, with the remedy.
    pub fn in_words(self, path: &Path) -> String {
        let chattr = match self {
            Self::Immutable => "chattr -i",
            Self::AppendOnly => "chattr -a",
        };
        let (word, path) = (shell::word(path), path.display());
        format!("{path} is {}: `{chattr} {word}`", self.word())
    }

    /// Of what was looked at; `None` where the file system does not say.
    pub fn of(stat: &Statx) -> Option<Self> {
        let attributes = stat.stx_attributes;
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            Some(Self::Immutable)
        } else if attributes.contains(StatxAttributes::APPEND) {
            Some(Self::AppendOnly)
        } else {
            None
        }
    }

    /// Of a folder that is open.
    pub fn of_folder(folder: &OwnedFd) -> Option<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(folder, c"", flags, StatxFlags::INO);
        stat.ok().as_ref().and_then(Self::of)
    }

    /// Of what stands in a folder.
    pub fn of_name(folder: &OwnedFd, name: &str) -> Option<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(folder, name, flags, StatxFlags::INO);
        stat.ok().as_ref().and_then(Self::of)
    }

    /// Of what a path leads to.
    pub fn of_path(path: &Path) -> Option<Self> {
        let flags = AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(CWD, path, flags, StatxFlags::INO);
        stat.ok().as_ref().and_then(Self::of)
    }
}
