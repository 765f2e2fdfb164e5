//! Where the sessions of a shard are kept: the disk, and the journal on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::disk::{Disk, Shelf};
use super::error::StoreError;
use super::gate::SharedSync;
use super::journal::Journal;
use super::stuck::Stuck;
use crate::config::Limits;
use crate::event::DiskOp;

/// Where the sessions of a shard are kept: the disk, and the journal on it.
pub struct Store<D: Disk> {
    /// The outside.
    pub disk: Rc<D>,
    /// The records.
    pub journal: Journal<D>,
    /// What could not be removed.
    pub stuck: Stuck,
    /// Syncs of the names on each shelf.
    names: RefCell<BTreeMap<Shelf, Rc<SharedSync>>>,
}

impl<D: Disk> Store<D> {
    /// The store of a shard; without `is_durable` nothing is ever synced.
    pub fn new(disk: Rc<D>, shard: usize, is_durable: bool, limits: &Limits) -> Self {
        Self {
            disk,
            journal: Journal::new(shard, is_durable, limits),
            stuck: Stuck::default(),
            names: RefCell::default(),
        }
    }

    /// Whether anything has to survive a power cut from now on.
    pub fn set_durable(&self, is_durable: bool) {
        self.journal.set_durable(is_durable);
    }

    /// Removes a file whose name is never given again: its session has ended, or nobody knows it.
    /// Where that fails it is tried again later.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        let removed = self.disk.remove(shelf, name).await;
        if removed.is_err() {
            self.stuck.note(shelf, name);
        }
        removed
    }

    pub(super) async fn sync_names(&self, shelf: Shelf) -> Result<(), StoreError> {
        let names = Rc::clone(self.names.borrow_mut().entry(shelf).or_default());
        (names.ask(|| self.disk.sync_shelf(shelf)).await)
            .map_err(StoreError::new(DiskOp::SyncDirectory))
    }
}
