//! Where the file of a session is that may have got its name before the start: by its record, or by
//! the settings that hold now.

use super::{Case, Recovery, Verdict};
use crate::bits::session::{Ending, State};
use crate::config::Location;
use crate::vault::destination;
use crate::vault::disk::{Disk, Place, Shelf};
use crate::vault::record::Record;

impl Case {
    /// Whether its record says where its file has its name.
    pub(super) fn is_named(&self) -> bool {
        self.part.is_none() && is_named(&self.record)
    }

    /// Whether the file was found where it was to go, and no record says that yet.
    pub(super) fn has_found_its_name(&self, verdict: Verdict) -> bool {
        let state = self.record.state;
        let is_taken_back = matches!(state, State::Sealed { .. } | State::Notified { .. });
        let is_unsaid = is_taken_back || self.record.life.place.is_none();
        let is_there = is_published(verdict) || matches!(verdict, Verdict::Sync(_));
        self.part.is_none() && self.record.object.is_none() && is_unsaid && is_there
    }
}

/// The same of a session whose part is not there.
fn is_named(record: &Record) -> bool {
    let has_name = match record.state {
        State::Closing { .. } => record.was_to_be_named(),
        State::Published { .. } => true,
        _ => false,
    };
    has_name && record.object.is_none() && record.life.place.is_some()
}

impl<D: Disk> Recovery<'_, D> {
    /// Where the files of a session would be whose part is not there.
    pub(super) fn shelf_of(&self, record: &Record) -> Shelf {
        let (disk, location) = (&*self.store.disk, (self.owner.location)(&record.path));
        if is_named(record) {
            let place = destination::standing(disk, &location, record);
            return place.map_or(Shelf::WORK, |place| disk.shelf(&place));
        }
        let place = destination::place(&location, &record.path, record.life.user.as_deref());
        place.map_or(Shelf::WORK, |place| {
            destination::shelf(disk, &location, &place)
        })
    }

    /// Where the file of a session is, or is to go; `None` if new settings have made that a folder.
    pub(super) fn place_of(&self, case: &Case, location: &Location) -> Option<Place> {
        let (record, disk) = (&case.record, &*self.store.disk);
        match case.is_named() {
            true => destination::standing(disk, location, record),
            false => destination::place(location, &record.path, record.life.user.as_deref()).ok(),
        }
    }
}

/// Whether the file of a session stands at its place.
pub(super) fn is_published(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Ended(Ending::Published) | Verdict::GoOn(State::Published { .. })
    )
}
