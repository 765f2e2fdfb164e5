//! What stands on the shelves when a server starts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::aside::set_aside;
use super::{Owner, report};
use crate::bits::session_id::SessionId;
use crate::event::DiskOp;
use crate::vault::disk::{Disk, Shelf};
use crate::vault::names::{self, WorkName};

/// Names that are looked at before others have their turn.
pub(super) const NAMES_PER_TURN: usize = 1_024;

/// What stands on the shelves.
#[derive(Default)]
pub(super) struct Listed {
    /// Parts of this shard's sessions, and where they are: the settings may have moved their
    /// location meanwhile.
    pub(super) parts: BTreeMap<SessionId, Shelf>,
    /// Replies to them, and where they are.
    pub(super) replies: BTreeMap<SessionId, Shelf>,
    /// Sessions of which a former start has set a part aside.
    pub(super) asides: BTreeSet<SessionId>,
}

/// Looks through them. What nobody knows is set aside; of digest files that were on their way
/// nothing is left.
///
/// # Errors
/// Of reading a shelf.
pub(super) async fn list<D: Disk>(disk: &D, owner: &Owner<'_>) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for shelf in disk.shelves() {
        let names = disk.list(shelf, owner.wanted).await?;
        disk.give_way().await;
        for (number, name) in (1..).zip(names) {
            if number % NAMES_PER_TURN == 0 {
                disk.give_way().await;
            }
            let (ids, id) = match names::parse_name(&name) {
                WorkName::Part(id) => (&mut listed.parts, id),
                WorkName::Reply(id) => (&mut listed.replies, id),
                WorkName::Aside(id) => {
                    listed.asides.extend(id);
                    continue;
                }
                WorkName::Digest(id) => {
                    // Where its session is not settled it is made anew.
                    if let Err(error) = disk.remove(shelf, &name).await {
                        report(disk, Some(id), DiskOp::Remove, &error);
                    }
                    continue;
                }
                WorkName::Misspelt => {
                    set_aside(disk, shelf, &name, "not a name that this server makes").await;
                    continue;
                }
                // Somebody else's stays: whoever starts a server tells of it.
                WorkName::Note(_)
                | WorkName::Journal { .. }
                | WorkName::Ours
                | WorkName::OfFileSystem
                | WorkName::Foreign => continue,
            };
            if let Some(other) = ids.insert(id, shelf) {
                // Somebody has copied it. The first one is the one that stays.
                ids.insert(id, other);
                set_aside(disk, shelf, &name, "it stands on another shelf too").await;
            }
        }
    }
    Ok(listed)
}
