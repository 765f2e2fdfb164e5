//! What the custody ledger tells of an upload beside its bytes, and whether it was told.

use std::sync::Arc;

use super::Keep;
use crate::vault::disk::Disk;
use crate::vault::record::RecordedPlace;
use crate::vault::store::Store;

impl Keep {
    /// What goes with the file is to be made when it has its name: the record says so before that,
    /// so that no crash forgets it.
    pub fn note_unsettled(&self, is_unsettled: bool) {
        self.kept
            .with_record(|record| record.is_unsettled = is_unsettled);
    }

    /// The file is about to get its name there, or its session to end without one: the next record
    /// says it, and settings that change later change nothing of it.
    pub fn note_place(&self, place: RecordedPlace) {
        self.kept
            .with_record(|record| record.life.place = Some(Arc::new(place)));
    }

    /// Whether what goes with the file is still to be made.
    pub fn is_unsettled(&self) -> bool {
        self.record().is_unsettled
    }

    /// Whether the line that follows makes the name durable. Nobody hears of the file before it. An
    /// event is told to others, who must not hear of the file where the line cannot be written.
    pub(super) fn follows_line<D: Disk>(&self, disk: &D) -> bool {
        let owes = self.record().owed.is_some();
        self.is_unsettled() && !owes && disk.line_commits(self.shelf)
    }

    /// All that goes with the file is made. If that cannot be written, a restart looks once more,
    /// and finds it made.
    pub async fn note_settled<D: Disk>(&mut self, store: &Store<D>) {
        self.note_unsettled(false);
        self.note_life(store).await;
    }
}
