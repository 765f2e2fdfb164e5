//! Unfinished uploads that a start with another work directory leaves behind: their records are in
//! the one that a server has now, and nothing leads there from the other one.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Directories, named_in};
use crate::ring::owner::NOTE_BYTES_MAX;
use crate::ring::work_folder::WorkFolder;
use crate::vault::names::{SHELVES_NAME, WorkName, parse_name};
use crate::vigil;

/// How many they are, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    uploads: usize,
    /// Where their records are.
    path: PathBuf,
    /// Where the settings keep those of others.
    work_dir: PathBuf,
}

impl LeftBehind {
    /// Those of a server whose work directory is at this path, where the settings name another one.
    /// What cannot be looked at is not told.
    pub fn at(path: &Path, work_dir: &Path) -> Option<Self> {
        vigil::at(path, || {
            let work = WorkFolder::open(path, true).ok()?;
            let list = work.read(SHELVES_NAME, NOTE_BYTES_MAX).ok()?;
            let shelves = named_in(&list.unwrap_or_default()).into_iter();
            let shelves = shelves.filter_map(|(path, _)| WorkFolder::open(&path, true).ok());
            let folders: Vec<_> = std::iter::once(work).chain(shelves).collect();
            Self::of(&folders, work_dir)
        })
    }

    /// Those in these folders, of which the first is the work directory.
    pub(super) fn of(folders: &[WorkFolder], work_dir: &Path) -> Option<Self> {
        let work = folders.first()?;
        if is_at(work, work_dir) {
            return None;
        }
        let uploads = folders.iter().map(parts_in).sum();
        (uploads > 0).then(|| Self {
            uploads,
            path: work.path().to_owned(),
            work_dir: work_dir.to_owned(),
        })
    }
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, work_dir) = (self.path.display(), self.work_dir.display());
        let uploads = unfinished(self.uploads);
        write!(
            f,
            "a server that runs has {uploads} in the work directory {path}, and these settings keep theirs in \
             {work_dir}: after a start with them those clients begin again. Let their uploads end first, or set \
             work_dir = \"{path}\""
        )
    }
}

impl Directories {
    /// Those of ours, where the settings name another work directory.
    pub fn left_behind_by(&self, work_dir: &Path) -> Option<LeftBehind> {
        vigil::at(work_dir, || {
            LeftBehind::of(&self.shelves.folders(), work_dir)
        })
    }
}

/// How many uploads have their bytes in a folder; 0 where nobody can tell.
pub(super) fn parts_in(folder: &WorkFolder) -> usize {
    let is_part = |name: &str| matches!(parse_name(name), WorkName::Part(_));
    folder.names_that(is_part).map_or(0, |names| names.len())
}

/// So many, in words.
pub(super) fn unfinished(uploads: usize) -> String {
    match uploads {
        1 => "1 unfinished upload".to_owned(),
        uploads => format!("{uploads} unfinished uploads"),
    }
}

/// Whether a path leads to this folder.
fn is_at(folder: &WorkFolder, path: &Path) -> bool {
    let (Ok(one), Ok(other)) = (
        rustix::fs::fstat(folder.descriptor()),
        rustix::fs::stat(path),
    ) else {
        return false;
    };
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
