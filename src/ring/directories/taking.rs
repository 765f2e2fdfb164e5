//! How directories are taken: opened, made where nobody chose their place, and locked; to serve, or
//! for the moment of a check.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::calls;
use crate::named_file::kind_without_files;
use crate::ring::handed::HandedLocks;
use crate::ring::launch_error::{BadRoot, LaunchError};
use crate::ring::owner::{Purpose, holds_sessions};
use crate::ring::sealed::Sealed;
use crate::ring::strangers;
use crate::ring::walk;
use crate::ring::work_folder::{self, BadFolder, Lock, WorkFolder};
use crate::vault::names::{CLEAN_NAME, LOCK_NAME, OWNER_NAME, TRIAL_NAME, WorkName, parse_name};
use crate::vigil;

/// The root where none is named; the only one that is made.
const ROOT_DEFAULT: &str = "./uploads";

/// Folders that were made. Those of a check go with it, and with them what it has made there; one
/// that somebody has put something into stays.
#[derive(Default)]
pub(super) struct Made {
    purpose: Purpose,
    folders: Vec<PathBuf>,
    /// Those among them that the check has locked: nobody else has made anything in them. They are
    /// held open, and so locked, until they are gone.
    held: Vec<WorkFolder>,
}

impl Made {
    /// None yet.
    pub(super) fn none(purpose: Purpose) -> Self {
        let (folders, held) = (Vec::new(), Vec::new());
        Self {
            purpose,
            folders,
            held,
        }
    }

    /// What a folder is taken for. In one that a check has made it does all that a start would do:
    /// only so it knows that there is room for that.
    pub(super) fn purpose_in(&self, folder: &WorkFolder) -> Purpose {
        match self.folders.iter().any(|made| made == folder.path()) {
            true => Purpose::Serve,
            false => self.purpose,
        }
    }

    /// Whether a folder was made; it is somebody else's to take away from now on.
    pub(super) fn forget(&mut self, folder: &Path) -> bool {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let before = self.folders.len();
        self.folders.retain(|made| *made != folder);
        self.folders.len() < before
    }

    /// A folder is locked from now on.
    pub(super) fn hold(&mut self, folder: &WorkFolder) {
        if self.purpose == Purpose::Check && self.purpose_in(folder) == Purpose::Serve {
            self.held.push(folder.clone());
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if self.purpose == Purpose::Check {
            for folder in &self.held {
                for name in [LOCK_NAME, OWNER_NAME, TRIAL_NAME] {
                    let _best_effort = folder.remove(name);
                }
            }
            for folder in self.folders.iter().rev() {
                let is_held = self.held.iter().any(|held| held.path() == folder);
                for _ in 0..TRIES {
                    match remove_made(folder, is_held) {
                        // Another check, which takes away what it has made there.
                        Err(Errno::NOTEMPTY | Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                        Ok(()) | Err(_) => break,
                    }
                }
            }
        }
    }
}

/// Removes a folder, if nothing is in it and nobody else has locked it: he may be about to put
/// something into it.
fn remove_made(folder: &Path, is_held: bool) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(folder, flags, Mode::empty())?;
    let lock = || rustix::fs::flock(&opened, FlockOperation::NonBlockingLockExclusive);
    // There are file systems that lock no folders.
    if !is_held && lock() == Err(Errno::WOULDBLOCK) {
        return Err(Errno::WOULDBLOCK);
    }
    rustix::fs::rmdir(folder)
}

/// Takes a folder that may be made. A check beside this start, or beside this check, takes away
/// what it has made; then it is there for the moment of a look, and not any more: it is tried
/// again. `once` is told whether it is.
///
/// # Errors
/// What the last try says.
pub(super) fn settled<T>(
    may_be_made: bool,
    mut once: impl FnMut(bool) -> Result<T, LaunchError>,
) -> Result<T, LaunchError> {
    let mut tried = once(false);
    for _ in 1..TRIES {
        match &tried {
            Err(why) if may_be_made && has_vanished(why) => {
                thread::sleep(PAUSE);
                tried = once(true);
            }
            _ => break,
        }
    }
    tried
}

/// How often a folder is tried that others make and take away, and the pause between.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);

/// Whether a folder was made, or taken away, between two looks. One that is named and not there is
/// told by the first look at the root above it.
fn has_vanished(why: &LaunchError) -> bool {
    let is_of_two_looks = |error: &io::Error| {
        use io::ErrorKind::{AlreadyExists, NotFound};
        matches!(error.kind(), AlreadyExists | NotFound)
    };
    match why {
        LaunchError::Folder(_, BadFolder::Missing) => true,
        LaunchError::Folder(_, BadFolder::Io(error))
        | LaunchError::Root(_, BadRoot::Open(error)) => is_of_two_looks(error),
        LaunchError::Root(root, BadRoot::Missing) => root == Path::new(ROOT_DEFAULT),
        _ => false,
    }
}

/// A root, as far as it can be judged without a file being made in it.
///
/// # Errors
/// [`LaunchError`]
pub fn look_at_root(path: &Path) -> Result<OwnedFd, LaunchError> {
    vigil::at(path, || look_at(path))
}

fn look_at(path: &Path) -> Result<OwnedFd, LaunchError> {
    let root = open_directory(path)?;
    if let Some(name) = kind_without_files(&root) {
        return Err(LaunchError::Root(path.to_owned(), BadRoot::NoFiles(name)));
    }
    walk::probe(&root).map_err(LaunchError::NoResolveBeneath)?;
    if let Some((name, error)) = calls::missing(&root) {
        return Err(LaunchError::NoCall(name, error.into()));
    }
    match work_folder::in_use_above(&root, &[LOCK_NAME, OWNER_NAME]) {
        Some(theirs) => Err(LaunchError::Root(
            path.to_owned(),
            BadRoot::InWorkDir(theirs),
        )),
        None => Ok(root),
    }
}

fn open_directory(root: &Path) -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(root, flags, Mode::empty())
        .map_err(|error| LaunchError::Root(root.to_owned(), error.into()))
}

/// The only root that is made: nobody has named it, so nobody can have misspelt it.
pub(super) fn make_default_root(root: &Path, made: &mut Made) -> Result<(), LaunchError> {
    if root != Path::new(ROOT_DEFAULT) {
        return Ok(());
    }
    // Not for a group, whatever the umask: the work directory will be in it.
    match fs::DirBuilder::new().mode(0o755).create(root) {
        Ok(()) => {
            made.folders.push(root.to_owned());
            if made.purpose == Purpose::Serve {
                tracing::info!(event = "root_made", root = %root.display(), "made the root");
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(LaunchError::Root(root.to_owned(), BadRoot::Trial(error))),
    }
}

/// Opens a folder of ours; one in a place that nobody chose is made, and may not be a link.
pub(super) fn open_or_make(
    path: &Path,
    is_default: bool,
    made: &mut Made,
) -> Result<WorkFolder, BadFolder> {
    vigil::at(path, || open_or_make_here(path, is_default, made))
}

fn open_or_make_here(
    path: &Path,
    is_default: bool,
    made: &mut Made,
) -> Result<WorkFolder, BadFolder> {
    let folder = open_or_make_any(path, is_default, made)?;
    // Before anything is made or removed in it.
    if let Some(found) = strangers::in_no_servers(&folder).map_err(BadFolder::Io)? {
        return Err(BadFolder::Occupied(found));
    }
    let Some(exposure) = folder.exposure() else {
        return Ok(folder);
    };
    // Uploads can be made to look like a work directory, and moved to its place.
    if !folder.is_marked(OWNER_NAME) && holds_sessions(&folder).map_err(BadFolder::Io)? {
        return Err(BadFolder::Exposed(exposure));
    }
    let event = "work_dir_exposed";
    tracing::warn!(event, why = %exposure.to_words(path), "the work directory is not in a safe place");
    Ok(folder)
}

fn open_or_make_any(
    path: &Path,
    is_default: bool,
    made: &mut Made,
) -> Result<WorkFolder, BadFolder> {
    match WorkFolder::open(path, !is_default) {
        // The one above it must be there, or `mkdir` says so.
        Err(BadFolder::Missing) if is_default => {
            let folder = WorkFolder::make(path)?;
            made.folders.push(folder.path().to_owned());
            if made.purpose == Purpose::Serve {
                let event = "work_dir_made";
                tracing::info!(event, work_dir = %path.display(), "made the folder of unfinished uploads");
            }
            Ok(folder)
        }
        result => result,
    }
}

pub(super) fn lock(
    folder: &WorkFolder,
    purpose: Purpose,
    handed: &mut HandedLocks,
) -> Result<Lock, LaunchError> {
    let failed = |error| LaunchError::Folder(folder.path().to_owned(), BadFolder::Io(error));
    let locked = vigil::at(folder.path(), || match purpose {
        Purpose::Serve => folder.lock(LOCK_NAME, handed),
        Purpose::Check => folder.lock_for_now(LOCK_NAME),
    });
    let locked = locked.map_err(|error| match is_no_lock(&error) {
        true => LaunchError::Folder(folder.path().to_owned(), BadFolder::NoLocks(error)),
        false => failed(error),
    });
    match locked? {
        Some(lock) => {
            // Whoever had the lock before may have removed what it had made.
            if !is_there(folder) {
                let gone = BadFolder::Missing;
                return Err(LaunchError::Folder(folder.path().to_owned(), gone));
            }
            refuse_unremovable(folder)?;
            refuse_not_ours(folder, purpose)?;
            // What a trial that was cut short has left there, whatever root it was for.
            folder.remove(TRIAL_NAME).map_err(failed)?;
            Ok(lock)
        }
        None => Err(LaunchError::Locked(
            folder.path().to_owned(),
            folder.holder(LOCK_NAME),
        )),
    }
}

/// Whether a folder still has its name.
fn is_there(folder: &WorkFolder) -> bool {
    let ours = rustix::fs::fstat(folder.descriptor());
    let found = vigil::at(folder.path(), || rustix::fs::stat(folder.path()));
    match (ours, found) {
        (Ok(ours), Ok(found)) => (ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino),
        (_, Err(Errno::NOENT)) => false,
        // It cannot be told, and will be when something is made in it.
        _ => true,
    }
}

/// Whether a file system has no locks: what flock(2) does not name is what NFS says without lockd.
fn is_no_lock(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)
    )
}

/// Refuses a folder of ours with a file in it that is not ours alone. A start looks at the parts of
/// uploads when it reads them back, which may be very many.
fn refuse_not_ours(folder: &WorkFolder, purpose: Purpose) -> Result<(), LaunchError> {
    let is_looked_at = |name: &str| match parse_name(name) {
        WorkName::Part(_) => purpose == Purpose::Check,
        WorkName::Aside(_) | WorkName::Misspelt | WorkName::OfFileSystem | WorkName::Foreign => {
            false
        }
        WorkName::Ours
        | WorkName::Journal { .. }
        | WorkName::Reply(_)
        | WorkName::Digest(_)
        | WorkName::Note(_) => true,
    };
    let failed = |error| LaunchError::Folder(folder.path().to_owned(), BadFolder::Io(error));
    for name in folder.names_that(is_looked_at).map_err(failed)? {
        folder.check_file(&name).map_err(failed)?;
    }
    Ok(())
}

/// Refuses a folder of ours in which something has the name of a file that is removed in the course
/// of a start, and cannot be.
pub(super) fn refuse_unremovable(work: &WorkFolder) -> Result<(), LaunchError> {
    let names = [CLEAN_NAME, TRIAL_NAME];
    let folder = names.into_iter().find_map(|name| {
        let stat = work.stat(name).ok()??;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        is_folder.then(|| format!("{name} in it is a folder: move it away"))
    });
    let sealed = || {
        let mut sealed = names.into_iter().filter_map(|name| {
            let sealed = Sealed::of_name(work.descriptor(), name)?;
            Some(sealed.in_words(&work.path().join(name)))
        });
        sealed.next()
    };
    let Some(words) = folder.or_else(sealed) else {
        return Ok(());
    };
    let error = io::Error::new(io::ErrorKind::InvalidInput, words);
    let path = work.path().to_owned();
    Err(LaunchError::Folder(path, BadFolder::Io(error)))
}
