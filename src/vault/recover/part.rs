//! What becomes of a part that stands on a shelf.

use std::collections::BTreeMap;
use std::io;

use super::aside::set_aside;
use super::{Case, Recovery};
use crate::bits::session::State;
use crate::bits::session_id::SessionId;
use crate::event::DiskOp;
use crate::vault::disk::{Disk, Shelf, WorkKind, WorkStat};
use crate::vault::names;
use crate::vault::readback::Newest;
use crate::vault::verdict::IN_THE_DAMAGE;

/// A part as it was found.
struct Seen<'a> {
    id: SessionId,
    shelf: Shelf,
    name: &'a str,
    stat: Result<Option<WorkStat>, &'a io::Error>,
}

impl<D: Disk> Recovery<'_, D> {
    /// These parts stand, and this is told of them. Their shelves are looked at once.
    ///
    /// # Errors
    /// One of them is not ours alone, and would be published.
    pub(super) async fn with_parts(
        &mut self,
        parts: &[(SessionId, Shelf)],
        told: &mut BTreeMap<SessionId, Newest>,
    ) -> io::Result<()> {
        for on_one_shelf in parts.chunk_by(|(_, one), (_, other)| one == other) {
            let (_, shelf) = on_one_shelf[0];
            let names = on_one_shelf.iter().map(|(id, _)| names::part_name(*id));
            let names: Vec<_> = names.collect();
            let stats = self.store.disk.stat_all(shelf, &names).await;
            for (at, ((id, _), name)) in on_one_shelf.iter().zip(&names).enumerate() {
                let stat = stats.as_ref().and_then(|stats| stats[at].as_ref());
                let seen = Seen {
                    id: *id,
                    shelf,
                    name,
                    stat: stat.copied(),
                };
                self.with_part(seen, told.remove(id)).await?;
            }
        }
        Ok(())
    }

    /// A part stands, and this is told of it.
    ///
    /// # Errors
    /// It is not ours alone, and would be published.
    async fn with_part(&mut self, seen: Seen<'_>, told: Option<Newest>) -> io::Result<()> {
        let store = self.store;
        let disk = &*store.disk;
        let Seen {
            id,
            shelf,
            name,
            stat,
        } = seen;
        let (sequence, record) = match told {
            Some(Newest::Record {
                sequence, record, ..
            }) => (sequence, *record),
            Some(Newest::Tombstone(tombstone, _)) => {
                self.remove(id, shelf, name).await;
                store.journal.bury(id, tombstone, disk.now());
                return Ok(());
            }
            Some(Newest::Unknown { .. }) => {
                let why = "its record is one that this version does not understand";
                set_aside(disk, shelf, name, why).await;
                return Ok(());
            }
            None if self.is_damaged => {
                set_aside(disk, shelf, name, IN_THE_DAMAGE).await;
                return Ok(());
            }
            None => {
                self.orphaned(&seen).await;
                return Ok(());
            }
        };
        let mut case = Case {
            id,
            shelf,
            record,
            sequence,
            part: None,
        };
        match stat {
            Ok(part) => {
                let kind = part.map(|part| part.kind);
                if let Some(why) = kind.and_then(WorkKind::why_no_file) {
                    set_aside(disk, shelf, name, why).await;
                    return Ok(());
                }
                // What is being published may have its new rights already.
                let is_to_be_ours = !matches!(case.record.state, State::Closing { .. });
                if kind == Some(WorkKind::NotOurs) && is_to_be_ours {
                    // That says which it is, and what helps.
                    disk.open(shelf, name).await?;
                }
                case.part = part;
                self.settle(case).await;
            }
            Err(error) => self.leave(case, DiskOp::Read, error),
        }
        Ok(())
    }

    /// A part stands whose record was lost with the power: the client hears session-not-found.
    async fn orphaned(&mut self, seen: &Seen<'_>) {
        let disk = &*self.store.disk;
        let &Seen {
            id,
            shelf,
            name,
            stat,
        } = seen;
        let part = stat.ok().flatten();
        if let Some(why) = part.and_then(|part| part.kind.why_no_file()) {
            return set_aside(disk, shelf, name, why).await;
        }
        if let Some(WorkStat { bytes, .. }) = part
            && bytes > 0
        {
            let (parts, all) = self.orphans;
            self.orphans = (parts + 1, all.saturating_add(bytes));
        }
        self.remove(id, shelf, name).await;
    }
}
