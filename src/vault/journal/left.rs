//! Sessions that were left as they are because their disk was not there at the start.

use std::rc::Rc;

use super::{Journal, Kept};
use crate::bits::session_id::SessionId;
use crate::vault::disk::WorkFiles;

impl<D: WorkFiles> Journal<D> {
    /// A session that was read back goes on with this record when a start finds its disk.
    pub fn leave(&self, id: SessionId, kept: Rc<Kept>) {
        kept.awaits_disk.set(true);
        self.remember(id, kept);
    }

    /// A session that was left so.
    pub fn left(&self, id: SessionId) -> Option<Rc<Kept>> {
        let records = self.records.borrow();
        let kept = records.get(&id).filter(|kept| kept.awaits_disk.get())?;
        Some(Rc::clone(kept))
    }

    /// How many were.
    pub fn left_count(&self) -> usize {
        let records = self.records.borrow();
        records
            .values()
            .filter(|kept| kept.awaits_disk.get())
            .count()
    }
}
