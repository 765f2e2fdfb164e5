//! Sessions that were left as they are because their disk was not there at the start.

use std::ops::Bound;
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

    /// Those behind an id, or from the first one on, up to some other id; `count` at the most. It
    /// looks at no others than that lie between.
    pub fn left_between(
        &self,
        after: Option<SessionId>,
        last: Option<SessionId>,
        count: usize,
    ) -> Vec<(SessionId, Rc<Kept>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let records = self.records.borrow();
        let left = records.range((from, to));
        let left = left.filter(|(_, kept)| kept.awaits_disk.get());
        let left = left.map(|(id, kept)| (*id, Rc::clone(kept)));
        left.take(count).collect()
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
