//! The shelves of the server, as all shards have them open.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::commit_log::{self, CommitLog};
use super::lane;
use super::lookout::Spot;
use super::walk::{Identity, look_at};
use super::work_folder::WorkFolder;
use crate::vault::disk::{Commit, Shelf};

/// All of them, the work directory first. A number is never given twice.
#[derive(Debug)]
pub struct Shelves {
    folders: RwLock<Vec<Known>>,
    /// Where the custody ledger is: that of its file system, if it commits in order.
    ledger: OnceLock<CommitLog>,
    /// How often they changed.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Known {
    folder: WorkFolder,
    spot: Arc<Spot>,
    /// Its disk may be on another machine.
    is_remote: bool,
    /// That of its file system, if it commits in order.
    log: Option<CommitLog>,
    /// Nobody needs it any more. The work directory stands for it, so that nobody holds its disk,
    /// and whoever asks late finds nothing.
    is_let_go: bool,
}

impl Shelves {
    /// The work directory alone.
    pub fn new(work: WorkFolder) -> Self {
        Self {
            folders: RwLock::new(vec![known(work)]),
            ledger: OnceLock::new(),
            changes: AtomicU64::new(0),
        }
    }

    /// One of them.
    pub fn get(&self, shelf: Shelf) -> WorkFolder {
        self.read()[usize::from(shelf.0)].folder.clone()
    }

    /// Whether a call to its disk may wait for another machine, as it was when the shelf was
    /// opened.
    pub fn is_remote(&self, shelf: Shelf) -> bool {
        self.read()[usize::from(shelf.0)].is_remote
    }

    /// See [`crate::vault::disk::WorkFiles::commits_in_order`].
    pub fn commits_in_order(&self, shelf: Shelf) -> Option<Commit> {
        let folders = self.read();
        let (work, shelf) = (folders[0].log, folders[usize::from(shelf.0)].log?);
        Some(match work == Some(shelf) {
            true => Commit::Journal,
            false => Commit::Shelf,
        })
    }

    /// The custody ledger is kept in this folder, and on its file system for as long as we run:
    /// where its path leads to another one, no line is written
    /// ([`crate::custody::folder::mending`]).
    pub fn keep_ledger_in(&self, folder: &OwnedFd) {
        if let Some(log) = commit_log::of(folder) {
            // The ledger is opened once.
            let _ = self.ledger.set(log);
        }
    }

    /// See [`crate::vault::disk::WorkFiles::line_commits`].
    pub fn line_commits(&self, shelf: Shelf) -> bool {
        let log = self.read()[usize::from(shelf.0)].log;
        self.commits_in_order(shelf) == Some(Commit::Journal) && log.as_ref() == self.ledger.get()
    }

    /// Where one of them stands, to be looked at again.
    pub fn spot(&self, shelf: Shelf) -> Arc<Spot> {
        Arc::clone(&self.read()[usize::from(shelf.0)].spot)
    }

    /// The work directory.
    pub fn work(&self) -> WorkFolder {
        self.get(Shelf::WORK)
    }

    /// How often they changed so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Their numbers.
    pub fn numbers(&self) -> Vec<Shelf> {
        self.all().into_iter().map(|(shelf, _)| shelf).collect()
    }

    /// All of them, by their numbers.
    pub fn all(&self) -> Vec<(Shelf, WorkFolder)> {
        let folders = self.read();
        let numbered = (0..).map(Shelf).zip(folders.iter());
        let kept = numbered.filter(|(_, known)| !known.is_let_go);
        kept.map(|(shelf, known)| (shelf, known.folder.clone()))
            .collect()
    }

    /// Their folders.
    pub fn folders(&self) -> Vec<WorkFolder> {
        self.all().into_iter().map(|(_, folder)| folder).collect()
    }

    /// Their descriptors.
    pub fn descriptors(&self) -> Vec<Arc<OwnedFd>> {
        let folders = self.folders();
        let descriptors = folders.iter().map(WorkFolder::descriptor);
        descriptors.cloned().collect()
    }

    /// One more; `None` if there are too many.
    pub fn add(&self, folder: WorkFolder) -> Option<Shelf> {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        let number = u16::try_from(folders.len()).ok()?;
        // So that their count fits too.
        let shelf = (number < u16::MAX).then_some(Shelf(number))?;
        folders.push(known(folder));
        self.changes.fetch_add(1, Ordering::Release);
        Some(shelf)
    }

    /// Another folder takes the place of one that is gone.
    pub fn replace(&self, shelf: Shelf, folder: WorkFolder) {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        let known = &mut folders[usize::from(shelf.0)];
        known.spot.replace(Arc::clone(folder.descriptor()));
        known.log = commit_log::of(folder.descriptor());
        known.folder = folder;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Nobody needs this one any more: it is open no longer. Gives what it was.
    pub fn let_go(&self, shelf: Shelf) -> WorkFolder {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        let work = &folders[0];
        let stand_in = Known {
            folder: work.folder.clone(),
            spot: Arc::clone(&work.spot),
            is_remote: work.is_remote,
            // What has its name on that disk is synced by itself.
            log: None,
            is_let_go: true,
        };
        let before = std::mem::replace(&mut folders[usize::from(shelf.0)], stand_in);
        self.changes.fetch_add(1, Ordering::Release);
        before.folder
    }

    /// It is needed after all.
    pub fn take_back(&self, shelf: Shelf, folder: WorkFolder) {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        folders[usize::from(shelf.0)] = known(folder);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// What tells them from other folders, as it was when they were opened: a disk that has failed,
    /// or that hangs, is not asked.
    pub fn identities(&self) -> Vec<Identity> {
        let folders = self.read();
        let identities = folders.iter().filter_map(|known| known.spot.identity());
        identities.collect()
    }

    /// The one that is this folder, by whatever path it was reached.
    pub fn find(&self, folder: &OwnedFd) -> Option<Shelf> {
        let wanted = Identity::of(&look_at(folder).ok()?);
        let folders = self.read();
        let found = folders
            .iter()
            .position(|known| known.spot.identity() == Some(wanted))?;
        u16::try_from(found).ok().map(Shelf)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Known>> {
        self.folders.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(folder: WorkFolder) -> Known {
    let spot = Spot::of_ours(&folder);
    Known {
        is_remote: lane::may_wait_for_another_machine(folder.descriptor()),
        log: commit_log::of(folder.descriptor()),
        folder,
        spot: Arc::new(spot),
        is_let_go: false,
    }
}

/// Shared by all shards.
pub type SharedShelves = Arc<Shelves>;
