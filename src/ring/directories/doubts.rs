//! What a server can live with, and somebody should know of: told at each start and by a check.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::HumanBytes;
use rustix::fs::StatVfs;

use super::left_behind::{parts_in, unfinished};
use super::{Directories, Ground, LeftBehind, WORK_DIR_NAME};
use crate::config::Config;
use crate::named_file;
use crate::ring::launch_error::{BadRoot, LaunchError};
use crate::ring::owner::{Purpose, what_it_holds};
use crate::ring::space::figures;
use crate::ring::strangers;
use crate::ring::work_folder::{Holds, WorkFolder};
use crate::vault::disk::Shelf;
use crate::vault::names::LOCK_NAME;
use crate::vigil;

/// Something of the folders that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderDoubt {
    /// Unfinished uploads lie in a folder that the settings do not use, and no server does.
    FormerWorkDir { path: PathBuf, work_dir: PathBuf },
    /// The same, and a server that runs has that folder: it was started by other settings.
    LeftBehind(LeftBehind),
    /// Unfinished uploads lie in the work directory, and no root of the settings is on its mount.
    OutOfReach { path: PathBuf, uploads: usize },
    /// Something in a folder of ours is somebody else's.
    Shared { path: PathBuf, found: String },
    /// The file system of a folder cannot sync folders.
    NamesUnsynced { path: PathBuf, why: String },
    /// Something that cannot be replaced has the name of a file of ours.
    InTheWay { path: PathBuf, why: String },
    /// `limits.free_bytes_min` is more than its file system has.
    KeepsAll {
        path: PathBuf,
        bytes_min: u64,
        bytes_total: u64,
    },
}

impl FolderDoubt {
    /// Its name in the log.
    pub fn event(&self) -> &'static str {
        match self {
            Self::FormerWorkDir { .. } | Self::LeftBehind(_) => "former_work_dir",
            Self::OutOfReach { .. } => "uploads_out_of_reach",
            Self::Shared { .. } => "work_dir_shared",
            Self::NamesUnsynced { .. } => "names_unsynced",
            Self::InTheWay { .. } => "work_dir_disturbed",
            Self::KeepsAll { .. } => "space_never_enough",
        }
    }
}

impl std::fmt::Display for FolderDoubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FormerWorkDir { path, work_dir } => {
                let (path, work_dir) = (path.display(), work_dir.display());
                write!(
                    f,
                    "unfinished uploads lie in {path}, and these settings keep theirs in {work_dir}: their clients begin \
                     again, and what lies there stays for ever. Start once with work_dir = \"{path}\" and let them end; \
                     or remove it if they may be lost"
                )
            }
            Self::LeftBehind(left) => left.fmt(f),
            Self::OutOfReach { path, uploads } => write!(
                f,
                "there are {} in {}, and no root of these settings is on its mount: they cannot be closed, and their \
                 clients hear 503. Give them a root on it; where systemd starts the server, each path of \
                 ReadWritePaths= is a mount of its own: name one folder there that holds both",
                unfinished(*uploads),
                path.display()
            ),
            Self::Shared { path, found } => write!(
                f,
                "there are things in {} that are not the server's ({found}): it leaves them as they are; move them \
                 away, since nobody looks for them there",
                path.display()
            ),
            Self::NamesUnsynced { path, why } => write!(
                f,
                "the file system of {path} cannot make the names of files durable ({why}): what a client was told is \
                 safe may be gone after a power cut; use another file system where that matters",
                path = path.display()
            ),
            Self::InTheWay { path, why } => write!(f, "in {}, {why}", path.display()),
            Self::KeepsAll {
                path,
                bytes_min,
                bytes_total,
            } => write!(
                f,
                "limits.free_bytes_min is {}, and the file system of {} has only {}: no upload will ever be taken \
                 there; lower it",
                HumanBytes(*bytes_min),
                path.display(),
                HumanBytes(*bytes_total)
            ),
        }
    }
}

impl Directories {
    /// What is doubtful about all of them.
    pub fn doubts(&self, config: &Config, grounds: &[Arc<Ground>]) -> Vec<FolderDoubt> {
        let unsynced = |path: &Path, why: &Option<String>| {
            let (path, why) = (path.to_owned(), why.clone()?);
            Some(FolderDoubt::NamesUnsynced { path, why })
        };
        let mut doubts = Vec::new();
        doubts.extend(unsynced(self.shelves.work().path(), &self.unsynced));
        let shelves = self.shelves.all();
        let folders = || shelves.iter().map(|(_, folder)| folder);
        doubts.extend(folders().filter_map(shared));
        doubts.extend(shelves.iter().filter_map(|(shelf, folder)| {
            let path = folder.path().to_owned();
            let why = vigil::at(&path, || self.commit_in_the_way(*shelf, folder))?;
            Some(FolderDoubt::InTheWay { path, why })
        }));
        doubts.extend(folders().filter_map(|folder| {
            let stat = rustix::fs::fstatvfs(&**folder.descriptor());
            keeps_all(config, folder.path(), &stat.ok()?)
        }));
        for (path, ground) in config.roots.iter().zip(grounds) {
            doubts.extend(unsynced(path, &ground.unsynced));
            doubts.extend(self.former(path));
        }
        doubts.extend(self.out_of_reach(config, grounds));
        doubts.dedup();
        doubts
    }

    /// Uploads in the work directory, where no root can get a file from there. Which uploads are
    /// for which root, only the journals know: so nothing is said where they may be for another
    /// one, or for an object store.
    fn out_of_reach(&self, config: &Config, grounds: &[Arc<Ground>]) -> Option<FolderDoubt> {
        let has_use = grounds.iter().any(|ground| ground.shelf == Shelf::WORK)
            || (config.locations.iter()).any(|location| location.objects.is_some());
        let work = self.shelves.work();
        let uploads = match has_use {
            true => 0,
            false => vigil::at(work.path(), || parts_in(&work)),
        };
        let path = work.path().to_owned();
        (uploads > 0).then_some(FolderDoubt::OutOfReach { path, uploads })
    }

    /// The default folder in a root, where it is none of ours and has what only we would read.
    fn former(&self, root: &Path) -> Option<FolderDoubt> {
        let path = root.join(WORK_DIR_NAME);
        let folder = WorkFolder::open(&path, false).ok()?;
        if self.shelves.find(folder.descriptor()).is_some()
            || what_it_holds(&folder).ok()? != Holds::Uploads
        {
            return None;
        }
        let work_dir = self.shelves.work().path().to_owned();
        match (folder.lock_for_now(LOCK_NAME).ok()?, self.purpose) {
            (Some(_), _) => Some(FolderDoubt::FormerWorkDir { path, work_dir }),
            // Nobody has the work directory of these settings, so that the server that runs is
            // perhaps the one that is to be started again with them.
            (None, Purpose::Check) => {
                LeftBehind::of(&[folder], &work_dir).map(FolderDoubt::LeftBehind)
            }
            // That of another server, it is not for us to judge.
            (None, Purpose::Serve) => None,
        }
    }
}

/// What somebody else keeps in a folder of ours.
fn shared(folder: &WorkFolder) -> Option<FolderDoubt> {
    let path = folder.path().to_owned();
    let found = vigil::at(&path, || strangers::beside_ours(folder)).ok()??;
    Some(FolderDoubt::Shared { path, found })
}

/// Whether more of a file system is to be kept free than it has.
pub fn keeps_all(config: &Config, path: &Path, stat: &StatVfs) -> Option<FolderDoubt> {
    let (figures, bytes_min) = (figures(stat), config.limits.free_bytes_min);
    figures.keeps_all(bytes_min).then(|| FolderDoubt::KeepsAll {
        path: path.to_owned(),
        bytes_min,
        bytes_total: figures.bytes_total,
    })
}

/// Why names in a folder cannot be made durable, if so; it tries that.
pub(super) fn unsynced(folder: &OwnedFd) -> Option<String> {
    named_file::why_unsynced(folder).map(|why| why.to_string())
}

/// Refuses roots in which an upload could replace a file though its location forbids that. `roots`
/// are their numbers in the settings.
///
/// # Errors
/// [`BadRoot::OnlyReplaces`]
pub fn refuse_replacing(
    config: &Config,
    roots: impl IntoIterator<Item = usize>,
    grounds: &[Arc<Ground>],
) -> Result<(), LaunchError> {
    // There may be very many locations, and hardly any root is such a one.
    let only_replace = roots.into_iter().zip(grounds);
    for (number, ground) in only_replace.filter(|(_, ground)| ground.only_replaces) {
        let mut locations = config.locations.iter();
        let forbids = locations.any(|location| {
            location.root == number
                && location.objects.is_none()
                && !location.policy.allow_overwrite
        });
        if forbids {
            let path = ground.spot.path().to_owned();
            return Err(LaunchError::Root(path, BadRoot::OnlyReplaces));
        }
    }
    Ok(())
}

/// Whether it is the same folder when it is looked at again.
pub(super) fn is_restless(ground: &Ground) -> bool {
    use crate::ring::lookout::Seen::{Another, LedAstray, OtherFileSystem};
    matches!(ground.spot.look(), Another | LedAstray(_) | OtherFileSystem)
}
