//! The digests of an upload: each block is seen while it is on its way to the disk, and what was
//! not seen before the server was started anew is read again.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::floor::World;
use super::held::Held;
use super::session::Rereading;
use super::shard::Shard;
use crate::diagnosis::PartChanged;
use crate::event::{DiskOp, Event};
use crate::vault::disk::{Block as _, File as _, Readable as _};
use crate::vault::error::StoreError;
use crate::vault::hashing::Hashing;

/// So much is read and seen before others have their turn: some 150 microseconds of SHA-256.
const SLICE_BYTES: usize = 256 << 10;

/// So many sessions are recorded before others have their turn.
const SESSIONS_PER_TURN: usize = 128;

/// The stored bytes could not all be seen.
pub(super) enum Behind {
    /// Somebody else waits for the session, or the server ends; what was seen counts.
    Stopped,
    /// The disk refused.
    Disk(StoreError),
}

/// Whether an administrator's order stops the reading of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orders {
    /// The client hears that it is to come back.
    Heeded,
    /// The file is being sealed or published: the order waits for that.
    Wait,
}

impl From<StoreError> for Behind {
    fn from(error: StoreError) -> Self {
        Self::Disk(error)
    }
}

impl<W: World> Shard<W> {
    /// Records how far the digests of all uploads have come, before the server ends in order: so
    /// the next start reads nothing again.
    pub async fn note_all_hashing(self: &Rc<Self>) {
        let mut after = None;
        loop {
            let some = self.sessions_after(after, SESSIONS_PER_TURN);
            let Some(last) = some.last() else {
                return;
            };
            after = Some(last.id);
            for session in &some {
                if let Some(mut held) = Held::for_shard(self, session) {
                    held.note_hashing_at_rest().await;
                }
            }
            self.world.give_way().await;
        }
    }
}

impl<W: World> Held<W> {
    /// Reads what is stored and was not seen, before anything else is appended or the file sealed.
    ///
    /// # Errors
    /// [`Behind`]; the next one goes on from there.
    pub(super) async fn catch_up(&mut self, orders: Orders) -> Result<(), Behind> {
        self.look_again().await?;
        if self.keep().unhashed().is_none() {
            return Ok(());
        }
        // How it stands before: what is changed while it is read is found at the next look.
        let stamp = self.stamp().await?;
        self.check_stamp(stamp)?;
        self.go_on_reading(stamp);
        let Some(unseen) = self.keep().unhashed() else {
            return Ok(());
        };
        if let Some(mut hashing) = self.keep().hashing() {
            let expected = self.keep().expected_at().filter(|at| *at < unseen.end);
            for end in expected.into_iter().chain([unseen.end]) {
                let read = self.read_into(&mut hashing, end, orders).await;
                // Also what was read before it was stopped.
                self.keep().set_hashing(hashing.clone());
                if let Err(behind) = read {
                    self.work().reading = stamp.map(|stamp| {
                        let hashing = None;
                        Box::new(Rereading { stamp, hashing })
                    });
                    return Err(behind);
                }
                if !self.keep().is_as_expected() {
                    return Err(changed().into());
                }
            }
        }
        self.keep().set_left(stamp);
        let shard = Rc::clone(&self.shard);
        let (session, bytes) = (self.id(), unseen.end - unseen.start);
        (shard.world).emit(Event::ReadAgain { session, bytes });
        Ok(())
    }

    /// Reads the part from where the state is to `end`.
    ///
    /// # Errors
    /// [`Behind`]; the state has seen what was read before.
    pub(super) async fn read_into(
        &mut self,
        hashing: &mut Hashing,
        end: u64,
        orders: Orders,
    ) -> Result<(), Behind> {
        let shard = Rc::clone(&self.shard);
        let file = self.file().await?;
        let block = shard.world.body_block(0);
        let mut block = block.unwrap_or_else(|| shard.world.spare_block());
        while hashing.at() < end {
            let is_ordered_away = orders == Orders::Heeded && self.is_ordered_away();
            if is_ordered_away || self.is_cut() {
                return Err(Behind::Stopped);
            }
            let left = usize::try_from(end - hashing.at()).unwrap_or(usize::MAX);
            let bytes = left.min(block.bytes().len()).min(SLICE_BYTES);
            let (read, back) = file.read_at(block, 0..bytes, hashing.at()).await;
            block = back;
            let read = read.map_err(StoreError::new(DiskOp::Read))?;
            if read == 0 {
                // All of it was written: somebody has cut it.
                return Err(changed().into());
            }
            hashing.update(&block.bytes()[..read]);
            shard.world.give_way().await;
        }
        Ok(())
    }

    /// Writes `block[range]` at the watermark, and sees what was written of it.
    pub(super) async fn write(
        &mut self,
        file: &W::File,
        block: W::Block,
        range: Range<usize>,
    ) -> (io::Result<usize>, W::Block) {
        let offset = self.received();
        let Some(before) = self.keep().hashing() else {
            return file.write_at(block, range, offset).await;
        };
        let (mut ahead, start) = (before.clone(), range.start);
        let see = |bytes: &[u8]| ahead.update(bytes);
        let (written, block) = file.write_shown(block, range, offset, see).await;
        if let Ok(written) = written {
            let seen = if ahead.at() == before.at() + written as u64 {
                ahead
            } else {
                // It took less than it was given.
                let mut seen = before;
                seen.update(&block.bytes()[start..start + written]);
                seen
            };
            self.keep().set_hashing(seen);
        }
        (written, block)
    }

    /// Records how far the digests have come, where much was seen since that was done. If it fails,
    /// more is read again after a crash.
    pub(super) async fn note_hashing(&mut self) {
        let step_bytes = self.shard.limits().digest_step_bytes;
        if self.keep().is_hashing_due(step_bytes) {
            let shard = Rc::clone(&self.shard);
            self.keep().note_life(&shard.store).await;
        }
    }

    async fn note_hashing_at_rest(&mut self) {
        if self.keep().is_hashing_due(1) || self.keep().is_left_due() {
            let shard = Rc::clone(&self.shard);
            self.keep().note_life(&shard.store).await;
        }
    }
}

/// Somebody has changed a part.
pub(super) fn changed() -> StoreError {
    StoreError {
        op: DiskOp::Read,
        source: io::Error::other(PartChanged),
    }
}
