//! Where the sessions of a shard are kept: the disk, and the journal on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::disk::{Disk, Published as _, Shelf};
use super::error::StoreError;
use super::gate::SharedSync;
use super::journal::Journal;
use crate::bits::session_id::SessionId;
use crate::config::Limits;
use crate::event::{DiskOp, Event};

/// So many files may wait to be taken back; each holds its folder open.
const UNWANTED_MAX: usize = 256;

/// Where the sessions of a shard are kept: the disk, and the journal on it.
pub struct Store<D: Disk> {
    /// The outside.
    pub disk: Rc<D>,
    /// The records.
    pub journal: Journal<D>,
    /// Syncs of the names on each shelf.
    names: RefCell<BTreeMap<Shelf, Rc<SharedSync>>>,
    /// Files at their destinations of which nobody was told, and which could not be taken back yet.
    unwanted: RefCell<Vec<(SessionId, D::Published)>>,
}

impl<D: Disk> Store<D> {
    /// The store of a shard; without `is_durable` nothing is ever synced.
    pub fn new(disk: Rc<D>, shard: usize, is_durable: bool, limits: &Limits) -> Self {
        Self {
            disk,
            journal: Journal::new(shard, is_durable, limits),
            names: RefCell::default(),
            unwanted: RefCell::default(),
        }
    }

    /// Whether anything has to survive a power cut from now on.
    pub fn set_durable(&self, is_durable: bool) {
        self.journal.set_durable(is_durable);
    }

    /// Takes a file back of which nobody was told. If that fails, its client would hear for ever
    /// that its own file stands in the way; so it is tried again ([`Store::take_back_rest`]).
    pub async fn take_back(&self, id: SessionId, mut published: D::Published) {
        let Err(error) = published.undo().await else {
            return;
        };
        self.disk.emit(Event::DiskFailed {
            op: DiskOp::Remove,
            session: Some(id),
            error: &error,
        });
        let mut unwanted = self.unwanted.borrow_mut();
        // Each is there because two operations in a row failed; of so many a person has heard by
        // now.
        if unwanted.len() < UNWANTED_MAX {
            unwanted.push((id, published));
        }
    }

    /// Tries once more to take back what could not be taken back.
    pub async fn take_back_rest(&self) {
        for (id, mut published) in self.unwanted.take() {
            if Box::pin(published.undo()).await.is_err() {
                self.unwanted.borrow_mut().push((id, published));
            }
        }
    }

    pub(super) async fn sync_names(&self, shelf: Shelf) -> Result<(), StoreError> {
        let names = Rc::clone(self.names.borrow_mut().entry(shelf).or_default());
        (names.ask(|| self.disk.sync_shelf(shelf)).await)
            .map_err(StoreError::new(DiskOp::SyncDirectory))
    }
}
