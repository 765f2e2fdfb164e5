//! The end of a session on disk: its record says how, and then its files go.

use std::io;

use super::Keep;
use crate::bits::session::{AfterPublish, Ending, State};
use crate::event::DiskOp;
use crate::vault::disk::{Disk, File as _, Sync};
use crate::vault::error::StoreError;
use crate::vault::names::{part_name, reply_name};
use crate::vault::owed::Owed;
use crate::vault::store::Store;

impl Keep {
    /// The session ended with its file at its place, or long after. Where the record says
    /// `closing`, a part that is gone says the rest; but where that owes an event, it says it
    /// itself, for as long as that takes the file may be gone as well, with its folder.
    pub async fn note_end<D: Disk>(&mut self, store: &Store<D>, ending: Ending) {
        let is_told = matches!(
            self.state(),
            State::Closing {
                then: AfterPublish::End | AfterPublish::Promised,
                ..
            }
        );
        match is_told && self.record().owed.is_none() {
            true => self.set_state(State::Gone(ending)),
            false => self.note(store, State::Gone(ending)).await,
        }
    }

    /// The session ends without a file: its record says how, and then its tombstone. Whoever is
    /// told of the end may ask again, also after a restart, so it is written, or the session goes
    /// on. It survives a power cut where that could bring back a record by which the file would be
    /// published after all, also if it was refused since.
    /// An end that nobody is told of needs no record: the part that is missing tells enough.
    /// `owed` is what is owed to the outside from then on.
    ///
    /// # Errors
    /// [`StoreError`] of the record; then the session has not ended.
    pub async fn end_without_file<D: Disk>(
        &mut self,
        store: &Store<D>,
        ending: Ending,
        owed: Option<Owed>,
    ) -> Result<(), StoreError> {
        let ended = State::Gone(ending);
        let mut next = self.in_state(ended);
        next.owed = owed.map(Box::new);
        let written = self.commit(store, next.clone(), Sync::No).await;
        let Err(error) = written else {
            if self.was_closing {
                self.sync_end(store).await;
            }
            return Ok(());
        };
        if !self.tombstone(ending).matters() {
            // Without its part, a record that says `closing` is that of a file with a name.
            if self.was_closing && self.record().was_to_be_named() {
                match ending {
                    // It is tried again.
                    Ending::Expired => return Err(error),
                    _ => self.leave_empty(store).await,
                }
            }
            self.kept.become_unwritten(next);
            return Ok(());
        }
        match self.make_room(store, &error).await {
            Ok(true) => self.commit(store, next, Sync::No).await,
            Ok(false) => Err(error),
            // Nobody knows how long the part is now: nothing may go on with it.
            Err(_) => {
                self.kept.become_unwritten(next);
                Ok(())
            }
        }
    }

    /// Leaves an empty part behind, which the next start believes where it cannot believe the
    /// record.
    async fn leave_empty<D: Disk>(&mut self, store: &Store<D>) {
        let (disk, part) = (&*store.disk, part_name(self.id));
        let opened = match disk.open(self.shelf, &part).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(self.shelf, &part).await
            }
            opened => opened,
        };
        if let Ok(file) = opened {
            self.leaves_part = file.truncate(0).await.is_ok();
        }
    }

    /// Makes the record of an end durable. The session has ended also where that fails: then only a
    /// power cut can bring it back.
    async fn sync_end<D: Disk>(&self, store: &Store<D>) {
        let (journal, disk) = (&store.journal, &*store.disk);
        if journal.sync_appended(disk).await.is_err() {
            // No second try: a new journal takes the place of the one that could not be synced.
            let _cannot_be_helped = journal.sync_appended(disk).await;
        }
    }

    /// Frees the bytes of a session that its client has given up, where the record of that found
    /// the disk full. Not what a record calls durable: that stays true.
    async fn make_room<D: Disk>(
        &mut self,
        store: &Store<D>,
        error: &StoreError,
    ) -> Result<bool, StoreError> {
        let State::Receiving { received, total } = self.state() else {
            return Ok(false);
        };
        if !is_for_want_of_space(&error.source) || received == 0 || self.record().durable > 0 {
            return Ok(false);
        }
        let file = self.open(&*store.disk).await?;
        (file.truncate(0).await).map_err(StoreError::new(DiskOp::Truncate))?;
        self.set_state(State::Receiving { received: 0, total });
        self.kept.with_hashed(|hashed| hashed.cut(0));
        Ok(true)
    }

    /// Removes the files of a session that ended without one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_files<D: Disk>(&mut self, store: &Store<D>) -> Result<(), StoreError> {
        let removed = match self.leaves_part {
            true => Ok(()),
            false => store.remove(self.shelf, &part_name(self.id)).await,
        };
        self.remove_reply(store).await?;
        removed.map_err(StoreError::new(DiskOp::Remove))
    }

    /// Removes the reply, if there may be one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_reply<D: Disk>(&mut self, store: &Store<D>) -> Result<(), StoreError> {
        if !self.may_have_reply {
            return Ok(());
        }
        let name = reply_name(self.id);
        let removed = match self.state() {
            State::Gone(_) => store.remove(self.shelf, &name).await,
            // Another one may come.
            _ => store.disk.remove(self.shelf, &name).await,
        };
        removed.map_err(StoreError::new(DiskOp::Remove))?;
        self.may_have_reply = false;
        Ok(())
    }
}

/// Whether it failed for want of what the bytes of a part take.
fn is_for_want_of_space(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::StorageFull => true,
        // Without a number it is the journal's own bound, to which a part is nothing.
        io::ErrorKind::QuotaExceeded => error.raw_os_error().is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn bytes_are_given_up_for_a_full_disk_and_not_for_a_full_journal() {
        for (error, is) in [
            (Errno::NOSPC.into(), true),
            (Errno::DQUOT.into(), true),
            (Errno::IO.into(), false),
            (io::ErrorKind::QuotaExceeded.into(), false),
        ] {
            assert_eq!(is_for_want_of_space(&error), is, "{error:?}");
        }
    }
}
