//! Roots that the server with this work directory may not have yet: tried beside it while it runs,
//! as its reload would try them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{Access, AtFlags};
use rustix::io::Errno;

use super::again::{impostor_among_notes, impostor_of_journal};
use super::taking::{Made, look_at_root, refuse_unremovable};
use super::{Directories, State, WORK_DIR_NAME, refuse_replacing};
use crate::config::Config;
use crate::ring::launch_error::{BadRoot, LaunchError};
use crate::ring::owner::{NOTE_BYTES_MAX, OwnerNote, Purpose, ServerId};
use crate::ring::sealed::Sealed;
use crate::ring::shelves::Shelves;
use crate::ring::trial;
use crate::ring::work_folder::{BadFolder, WorkFolder};
use crate::vault::names::OWNER_NAME;
use crate::vigil;

/// Refuses a work directory in which something else has the name of a file of ours: a start would.
///
/// # Errors
/// [`LaunchError::Folder`]
pub fn refuse_impostors(work: &WorkFolder) -> Result<(), LaunchError> {
    let found = || {
        refuse_unremovable(work)?;
        let found = impostor_among_notes(work).or_else(|| impostor_of_journal(work));
        found.map_or(Ok(()), |why| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, why);
            Err(LaunchError::Folder(
                work.path().to_owned(),
                BadFolder::Io(error),
            ))
        })
    };
    vigil::at(work.path(), found)
}

impl Directories {
    /// Tries all roots beside the server that runs, which has locked this folder. What it has is
    /// left alone, also where the settings have another work directory by now: in its folders
    /// nothing is made, and a root on the file system of the work directory is only asked.
    ///
    /// # Errors
    /// [`LaunchError`], as a reload or the next start would say it.
    pub fn look_beside(config: &Config, locked: &Path) -> Result<(), LaunchError> {
        let path = &config.work_dir;
        let is_default = *path == config.roots[0].join(WORK_DIR_NAME);
        let work = match vigil::at(path, || WorkFolder::open(path, true)) {
            // Whoever found the lock has made it, and taken it away again.
            Err(BadFolder::Missing) if is_default => return Ok(()),
            opened => opened.map_err(|why| LaunchError::Folder(path.clone(), why))?,
        };
        refuse_impostors(&work)?;
        let running = owner_of(locked);
        let beside = Self {
            purpose: Purpose::Check,
            id: ServerId::of_work(&work, Purpose::Check)?,
            // Nothing is read back.
            boot: 0,
            unsynced: None,
            opening: Mutex::default(),
            state: Mutex::new(State {
                ids: vec![None],
                made: Made::none(Purpose::Check),
                ..State::default()
            }),
            shelves: Arc::new(Shelves::new(work)),
        };
        for (number, root) in config.roots.iter().enumerate() {
            beside.try_beside(config, (number, root), running)?;
        }
        Ok(())
    }

    fn try_beside(
        &self,
        config: &Config,
        (number, path): (usize, &Path),
        running: Option<u128>,
    ) -> Result<(), LaunchError> {
        let root = look_at_root(path)?;
        let work = self.shelves.work();
        let is_apart = vigil::at(path, || trial::is_other_mount(&work, &root));
        if !is_apart.map_err(|why| why.of(path, &work))? {
            let asked = vigil::at(path, || ask(&root));
            let failed =
                |error: Errno| LaunchError::Root(path.to_owned(), BadRoot::Trial(error.into()));
            return asked.map_err(failed);
        }
        match self.open_root(path) {
            Ok(ground) => refuse_replacing(config, [number], &[Arc::new(ground)]),
            Err(LaunchError::Locked(shelf, _)) if self.is_of(running, &shelf) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Whether a shelf that somebody has locked is one of the server that runs, which had another
    /// work directory when it started, perhaps.
    fn is_of(&self, running: Option<u128>, shelf: &Path) -> bool {
        let owner = owner_of(shelf);
        owner.is_some_and(|owner| owner == self.id.id || Some(owner) == running)
    }
}

/// Which server a folder belongs to, as its note says.
fn owner_of(folder: &Path) -> Option<u128> {
    let read = || {
        let folder = WorkFolder::open(folder, false).ok()?;
        folder.read(OWNER_NAME, NOTE_BYTES_MAX).ok()?
    };
    let note = vigil::at(folder, read)?;
    Some(OwnerNote::parse(&note)?.id)
}

/// Whether files could be moved to a root, as far as that is known without moving one.
fn ask(root: &OwnedFd) -> Result<(), Errno> {
    if Sealed::of_folder(root) == Some(Sealed::Immutable) {
        return Err(Errno::PERM);
    }
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(root, ".", access, AtFlags::EACCESS)
}
