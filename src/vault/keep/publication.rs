//! How a sealed file gets its name, and how that becomes durable.
//!
//! If the sync fails when the file has its name already, it stays there: the record says `closing`,
//! which is true whether a power cut takes the name back or not. The client hears something
//! transient, and its next packet goes on from there, or the server by itself. Where the file
//! system commits in order, a new journal makes up for the sync. Elsewhere no failed sync may be
//! tried again, so the file becomes a part once more and gets its name anew.

use std::io;

use super::Keep;
use crate::bits::session::State;
use crate::config::Policy;
use crate::event::DiskOp;
use crate::vault::destination::{self, NO_ROOT};
use crate::vault::disk::{Commit, Disk, Manner, Place, Published as _, Standing, Sync};
use crate::vault::error::StoreError;
use crate::vault::names::part_name;
use crate::vault::owed::Owed;
use crate::vault::store::Store;

/// Whether a file that is being published has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Not yet.
    No,
    /// This server gave it. Where the session is still being published, the sync of that failed.
    Here,
    /// A start has found that, and could not sync it. It may be a file that was acked long ago: it
    /// stays where it is.
    Before,
}

impl Keep {
    /// Whether the file has its name; while it is being published, it waits for a sync of that.
    pub fn has_name(&self) -> bool {
        self.named != Named::No
    }

    /// A start goes on with the session in this state. One that is closing without a part has its
    /// name, which could not be made durable.
    pub fn note_found(&mut self, state: State, has_part: bool) {
        if let (State::Closing { .. }, false) = (state, has_part) {
            self.named = Named::Before;
        }
    }

    /// Gives a sealed file its name. `closing` is the state while it happens, and `owed` what is
    /// owed to the outside from then on.
    ///
    /// # Errors
    /// [`StoreError`]; unless it poisons, the file can be published again. If it has its name then
    /// ([`Keep::has_name`]), no more than a sync is missing: nobody is told, and the session stays
    /// where it is.
    pub async fn publish<D: Disk>(
        &mut self,
        store: &Store<D>,
        policy: &Policy,
        place: &Place,
        closing: State,
        owed: Option<Owed>,
    ) -> Result<(), StoreError> {
        let disk = &*store.disk;
        self.make_bytes_sure(store, policy.durability).await?;
        if self.named == Named::Here && place.root != NO_ROOT && !self.may_have_reply {
            // Its own may have been let go of meanwhile, having no file of it any more.
            self.shelf = disk.shelf(place);
        }
        let mut manner = destination::manner(policy, place);
        manner.bytes = closing.total();
        manner.sha256 = self.digests().map(|digests| digests.sha256);
        manner.left = self.left();
        let must_sync = manner.sync == Sync::Yes;
        if self.named == Named::No {
            self.kept.note_naming(disk.wall_clock_ms());
        }
        let mut next = self.in_state(closing);
        next.owed = owed.map(Box::new);
        // Before the rename, unless the sync that makes the name durable does it.
        let is_owed_alone =
            next.owed.is_some() && disk.commits_in_order(self.shelf) != Some(Commit::Journal);
        let first_sync = match must_sync && is_owed_alone {
            true => Sync::Yes,
            false => Sync::No,
        };
        self.commit(store, next, first_sync).await?;
        if disk.commits_in_order(self.shelf).is_some() {
            // Nor do folders that are made need a sync of their own.
            manner.sync = Sync::No;
        } else if self.named == Named::Here && self.take_name_back(disk, place).await? {
            // No second try of a sync that failed: it gets its name anew, whatever somebody has
            // done to it there.
            (self.named, self.name_durable) = (Named::No, false);
            (manner.bytes, manner.sha256, manner.left) = (None, None, None);
        }
        let published = match self.named {
            Named::No => self.give_name(disk, place, manner).await?,
            Named::Here | Named::Before => None,
        };
        match must_sync && !self.follows_line(disk) {
            true => {
                let published = (published.as_ref(), place);
                self.sync_published(store, published, closing).await
            }
            false => Ok(()),
        }
    }

    /// Makes the file that has its name a part again; `false` if somebody has taken it away.
    async fn take_name_back<D: Disk>(&self, disk: &D, place: &Place) -> Result<bool, StoreError> {
        let (part, inode) = (part_name(self.id), self.record().inode);
        let taken = disk.take_back(self.shelf, &part, place, inode).await;
        taken.map_err(StoreError::new(DiskOp::Publish))
    }

    /// `None` if it had its name already.
    async fn give_name<D: Disk>(
        &mut self,
        disk: &D,
        place: &Place,
        manner: Manner,
    ) -> Result<Option<D::Published>, StoreError> {
        let part = part_name(self.id);
        let source = match disk.publish(self.shelf, &part, place, manner).await {
            Ok(published) => {
                self.named = Named::Here;
                return Ok(Some(published));
            }
            Err(source) => source,
        };
        // What was not found may be the folder of the destination, which can be made, or the part,
        // which is lost; or it was moved by a call that was said to have failed, as over a network
        // the second one does whose first one was not heard of.
        if source.kind() == io::ErrorKind::NotFound
            && let Err(lost) = Box::pin(self.open(disk)).await
        {
            let standing = disk.look_up(place, None).await;
            if !standing.is_ok_and(|standing| self.is_it(standing)) {
                return Err(lost);
            }
            self.named = Named::Here;
            return Ok(None);
        }
        let op = DiskOp::Publish;
        Err(StoreError { op, source })
    }

    fn is_it(&self, standing: Standing) -> bool {
        let record = self.record();
        let (inode, bytes) = (record.inode, record.state.received());
        standing == Standing::File { inode, bytes }
    }

    /// Makes the name of the file durable. Where the file system commits in order, a record that is
    /// appended after the rename does it, with the one sync that all who publish now share. The
    /// record says nothing new.
    async fn sync_published<D: Disk>(
        &mut self,
        store: &Store<D>,
        (published, place): (Option<&D::Published>, &Place),
        closing: State,
    ) -> Result<(), StoreError> {
        let op = DiskOp::SyncDestination;
        match destination::away(place) {
            Err(_) if self.is_let_go => return self.sync_owed(store).await,
            result => result.map_err(StoreError::new(op))?,
        }
        match store.disk.commits_in_order(self.shelf) {
            Some(Commit::Journal) => {
                match self.commit(store, self.in_state(closing), Sync::Yes).await {
                    // There is no room for a record, and the folder itself can still be synced.
                    Err(StoreError {
                        op: DiskOp::Record, ..
                    }) => self.sync_owed(store).await?,
                    result => return result,
                }
            }
            Some(Commit::Shelf) => {
                let synced = store.sync_names(self.shelf).await;
                return synced.map_err(|StoreError { source, .. }| StoreError { op, source });
            }
            None => {}
        }
        let synced = match published {
            Some(published) => published.sync().await,
            None => match store.disk.sync_destination(place).await {
                // Whoever it was for has taken it away, with its folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                synced => synced,
            },
        };
        synced.map_err(StoreError::new(op))
    }

    /// Makes the record durable that owes for a file, where there was no room for another one.
    async fn sync_owed<D: Disk>(&self, store: &Store<D>) -> Result<(), StoreError> {
        if self.record().owed.is_none() {
            return Ok(());
        }
        let synced = store.journal.sync_appended(&*store.disk).await;
        synced.map_err(StoreError::new(DiskOp::SyncRecords))
    }
}
