//! The shelves of the server, as all shards have them open.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::lookout::Spot;
use super::work_folder::WorkFolder;
use crate::vault::disk::Shelf;

/// All of them, the work directory first. There are ever more: a session that ends late finds its files where they are.
#[derive(Debug)]
pub struct Shelves {
    folders: RwLock<Vec<(WorkFolder, Arc<Spot>)>>,
    /// How often they changed.
    changes: AtomicU64,
}

impl Shelves {
    /// The work directory alone.
    pub fn new(work: WorkFolder) -> Self {
        Self {
            folders: RwLock::new(vec![with_spot(work)]),
            changes: AtomicU64::new(0),
        }
    }

    /// One of them.
    pub fn get(&self, shelf: Shelf) -> WorkFolder {
        self.read()[usize::from(shelf.0)].0.clone()
    }

    /// Where one of them stands, to be looked at again.
    pub fn spot(&self, shelf: Shelf) -> Arc<Spot> {
        Arc::clone(&self.read()[usize::from(shelf.0)].1)
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
        let count = u16::try_from(self.read().len()).expect("`add` sees to it");
        (0..count).map(Shelf).collect()
    }

    /// All of them.
    pub fn all(&self) -> Vec<WorkFolder> {
        self.read()
            .iter()
            .map(|(folder, _)| folder.clone())
            .collect()
    }

    /// One more; `None` if there are too many.
    pub fn add(&self, folder: WorkFolder) -> Option<Shelf> {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        let number = u16::try_from(folders.len()).ok()?;
        // So that their count fits too.
        let shelf = (number < u16::MAX).then_some(Shelf(number))?;
        folders.push(with_spot(folder));
        self.changes.fetch_add(1, Ordering::Release);
        Some(shelf)
    }

    /// Another folder takes the place of one that is gone.
    pub fn replace(&self, shelf: Shelf, folder: WorkFolder) {
        let mut folders = self.folders.write().unwrap_or_else(PoisonError::into_inner);
        let (known, spot) = &mut folders[usize::from(shelf.0)];
        spot.replace(Arc::clone(folder.descriptor()));
        *known = folder;
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The one that is this folder, by whatever path it was reached.
    pub fn find(&self, folder: &OwnedFd) -> Option<Shelf> {
        let wanted = identity(folder)?;
        let folders = self.all();
        let found = folders
            .iter()
            .position(|known| identity(known.descriptor()) == Some(wanted))?;
        u16::try_from(found).ok().map(Shelf)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<(WorkFolder, Arc<Spot>)>> {
        self.folders.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_spot(folder: WorkFolder) -> (WorkFolder, Arc<Spot>) {
    let spot = Spot::new(folder.path(), Arc::clone(folder.descriptor()));
    (folder, Arc::new(spot))
}

/// Shared by all shards.
pub type SharedShelves = Arc<Shelves>;

fn identity(folder: &OwnedFd) -> Option<(u64, u64)> {
    let stat = rustix::fs::fstat(folder).ok()?;
    Some((stat.st_dev, stat.st_ino))
}
