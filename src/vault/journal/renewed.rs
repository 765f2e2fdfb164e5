//! What a renewed journal begins with: the records of sessions that run or owe something, and then
//! who has ended.

use std::io;
use std::ops::Bound;

use super::Journal;
use crate::bits::session_id::SessionId;
use crate::vault::disk::{Log as _, Shelf, WorkFiles};
use crate::vault::tombstones::TombstoneWalk;

/// A renewal writes so much before others have their turn.
pub(super) const PIECE_BYTES: usize = 256 << 10;

impl<D: WorkFiles> Journal<D> {
    /// A new file with all that is needed, and its length.
    pub(super) async fn write_new(&self, disk: &D, name: &str) -> io::Result<(D::Log, u64)> {
        let log = disk.create_log(name).await?;
        let mut length = 0;
        let mut last = None;
        while let Some(piece) = self.records_after(&mut last) {
            log.append(&piece).await?;
            length += piece.len() as u64;
            disk.give_way().await;
        }
        let mut walk = TombstoneWalk::default();
        while let Some(piece) = self.tombstones_next(&mut walk) {
            log.append(&piece).await?;
            length += piece.len() as u64;
            disk.give_way().await;
        }
        if self.is_durable.get() {
            log.sync().await?;
            disk.sync_shelf(Shelf::WORK).await?;
        }
        Ok((log, length))
    }

    /// The frames that follow in the order of their ids: records change only in turn, sessions may
    /// end meanwhile.
    fn records_after(&self, last: &mut Option<SessionId>) -> Option<Vec<u8>> {
        let records = self.records.borrow();
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut piece = Vec::new();
        for (id, kept) in records.range((begin, Bound::Unbounded)) {
            kept.record().append(*id, kept.sequence(), &mut piece);
            *last = Some(*id);
            if piece.len() >= PIECE_BYTES {
                break;
            }
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// The tombstones that follow, oldest first: a start takes the order from there.
    fn tombstones_next(&self, walk: &mut TombstoneWalk) -> Option<Vec<u8>> {
        let tombstones = self.tombstones.borrow();
        let records = self.records.borrow();
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES
            && let Some((id, tombstone)) = tombstones.next(walk)
        {
            // Being newer, it would hide the record that still owes an event.
            if !records.contains_key(&id) {
                tombstone.append(id, &mut piece);
            }
        }
        (!piece.is_empty()).then_some(piece)
    }
}
