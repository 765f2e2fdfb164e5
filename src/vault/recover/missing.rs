//! Uploads whose part should be there and is not: bytes that a client has heard of must not vanish
//! without a word. And those whose disk is not there, and that wait for it.

use std::io;

use super::{Case, Recovery};
use crate::bits::session::State;
use crate::diagnosis::DiskAway;
use crate::event::{DiskOp, Event};
use crate::vault::disk::Disk;
use crate::vault::record::Record;

/// How many there are.
#[derive(Default)]
pub(super) struct Missing {
    uploads: u64,
    /// So many bytes had come of them, as far as their records are sure.
    bytes: u64,
    /// Their sizes.
    of: u64,
}

/// Whether a part can only be gone because somebody has removed it, or because its session ended
/// and the disk has lost the record of that.
pub(super) fn should_be_there(record: &Record, survived: bool) -> bool {
    let has_begun = match record.state {
        State::Receiving { total, .. } => total.is_some(),
        State::Sealed { .. } | State::Notified { .. } => true,
        State::Closing { .. } => is_staged(record),
        // It ended, and the record of that is lost; or nobody wants the file.
        _ => false,
    };
    // What was never synced, a power cut may have taken.
    has_begun && (record.durable > 0 || survived)
}

/// Whether it is on its way to a store that has not said that it has it: until then its part stays.
fn is_staged(record: &Record) -> bool {
    let is_closing = matches!(record.state, State::Closing { .. });
    is_closing && record.object.is_none() && !record.was_to_be_named()
}

impl Missing {
    /// One more.
    pub(super) fn count(&mut self, record: &Record) {
        let bytes = record.durable.max(record.state.received());
        self.uploads += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let of = record.state.total().unwrap_or(bytes);
        self.of = self.of.saturating_add(of);
    }

    /// Says so, if there are any.
    pub(super) fn tell<D: Disk>(&self, disk: &D) {
        let Self { uploads, bytes, of } = *self;
        if uploads > 0 {
            disk.emit(Event::PartsMissing { uploads, bytes, of });
        }
    }
}

impl<D: Disk> Recovery<'_, D> {
    /// One whose part should be there. Of what is staged the client may have heard that all is
    /// done, and does not come back for it: each is named.
    pub(super) fn count_missing(&mut self, case: &Case) {
        self.name_staged(case, false);
        self.missing.count(&case.record);
    }

    /// Names one that is staged, and is gone or was put aside: what is put aside has the name of
    /// its session only.
    pub(super) fn name_staged(&self, case: &Case, is_aside: bool) {
        let record = &case.record;
        if is_staged(record) {
            self.store.disk.emit(Event::StagedLost {
                session: case.id,
                path: record.path.as_str(),
                bytes: record.state.received(),
                is_aside,
                is_promised: record.state.is_promised(),
            });
        }
    }

    /// Its disk is not there: it waits for the start that finds it, and its client with it.
    pub(super) fn leave_waiting(&mut self, case: Case) {
        self.report(case.id, DiskOp::Open, &io::Error::other(DiskAway));
        self.replies.remove(&case.id);
        let kept = self.as_found(case.record, case.sequence);
        self.store.journal.leave(case.id, kept);
    }
}
