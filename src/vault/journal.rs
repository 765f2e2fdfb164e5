//! The journal of a shard: one file to which every state of its sessions is appended, as a
//! [`crate::vault::record`].
//!
//! One append costs a fraction of what a file for each session would: no name to make, open, close
//! and remove. One sync serves all who wait for one.
//!
//! Nothing in a journal is ever overwritten, so no crash can damage what was written before; and
//! every state is a new frame with all there is to say, so the newest frame of a session is enough.
//! What is outdated goes when the journal is *renewed*: a new file begins with the newest frame of
//! each session, made anew from its record piece by piece, with others' turns in between, and is
//! made durable before the old one is removed. That happens
//!
//! * at start, when all shards have read the old journals, by whatever number of shards they were
//!   written;
//! * when most of the file is outdated;
//! * when sessions whose end it does not say would weigh too much for whoever reads it;
//! * at once when a sync of it failed, since the kernel may have dropped what it could not write.
//!
//! It never grows beyond `journal_bytes_max`. What a reader of it needs is bounded by the sessions
//! in it and not by its length ([`crate::vault::readback`]), so no journal is too long to be read.
//! New sessions are refused long before: the records of those that are there may still grow; and
//! so they are when those that are there weigh as much in memory as they may ([`super::weight`]).
//!
//! The name is `GENERATION-SHARD.journal`. All files of lower generations than that of a start are
//! outdated once every shard has its own new one. If a crash leaves several, the frame with the
//! highest sequence number counts.

mod kept;
mod left;
mod outbox;
mod renewed;

pub use kept::Kept;

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::disk::{Log, Millis, Shelf, Sync, WorkFiles};
use super::gate::{Gate, SharedSync};
use super::names::journal_name;
use super::record::Change;
use super::tombstones::{Tombstone, Tombstones};
use super::weight;
use crate::bits::reply::Scarce;
use crate::bits::session_id::SessionId;
use crate::config::Limits;
use crate::event::{DiskOp, Event};

/// A journal is renewed when it is longer than this and twice what is needed of it.
const RENEW_BYTES_MIN: u64 = 8 << 20;
/// After a renewal that failed (the disk is full), so much may be appended before the next one.
const RETRY_BYTES: u64 = 1 << 20;
/// Records of running sessions may take this share of what a journal may be when another session is
/// let in: they grow by the URL of a reply, and a journal that is all needed would be renewed for
/// each new record.
const ROOM_SHARE: u64 = 4;
/// What is remembered of sessions that ended may take this share of it.
const TOMBSTONES_SHARE: u64 = 4;
/// A renewal must be worth this share of what the journal may be.
const GAIN_SHARE: u64 = 8;

/// Sessions that ended since the last renewal may weigh this share of what those may that run: a
/// start reads both, and what is remembered of all before them.
const ENDED_SHARE: u64 = 2;

/// An append or a sync was refused.
#[derive(Debug)]
pub enum JournalError {
    /// The frame was not written; what was written before is as it was.
    Append(io::Error),
    /// The frame was written, and nobody knows whether it will survive a power cut. The next file
    /// has it too.
    Sync(io::Error),
}

/// The journal of one shard.
pub struct Journal<D: WorkFiles> {
    shard: usize,
    /// The longest that the settings let it be.
    bytes_set: Cell<u64>,
    /// The longest that it can be and may be.
    bytes_max: Cell<u64>,
    /// Sessions that ended and are remembered, as the settings say.
    tombstones_set: Cell<usize>,
    /// So much may sessions weigh in memory.
    weight_max: Cell<u64>,
    /// Whether a new file is synced before it replaces the old one.
    is_durable: Cell<bool>,
    generation: Cell<u64>,
    /// Absent until the first one could be made, and after a failed sync.
    log: RefCell<Option<Rc<D::Log>>>,
    /// Names of our own files that the next one replaces.
    outdated: RefCell<Vec<String>>,
    /// The newest record of each session that has not ended, or that owes an event.
    records: RefCell<BTreeMap<SessionId, Rc<Kept>>>,
    /// What is remembered of those that have.
    tombstones: RefCell<Tombstones>,
    /// Bytes of the newest frames of `records`.
    needed: Cell<u64>,
    /// What sessions weigh that ended since the file was begun: for a reader they may run still.
    ended: Cell<u64>,
    /// Length of the file.
    length: Cell<u64>,
    /// The length at which it is renewed.
    renew_at: Cell<u64>,
    /// The frame that is appended; its memory serves for the next one.
    frame: RefCell<Vec<u8>>,
    /// Appends and renewals take turns.
    gate: Gate,
    syncs: SharedSync,
}

impl<D: WorkFiles> Journal<D> {
    /// The journal of a shard, before its first file; without `is_durable` nothing of it is ever
    /// synced.
    pub fn new(shard: usize, is_durable: bool, limits: &Limits) -> Self {
        Self {
            shard,
            bytes_set: Cell::new(limits.journal_bytes_max),
            bytes_max: Cell::new(limits.journal_bytes_max),
            tombstones_set: Cell::new(limits.tombstones_per_shard_max),
            weight_max: Cell::new(u64::MAX),
            is_durable: Cell::new(is_durable),
            generation: Cell::new(0),
            log: RefCell::default(),
            outdated: RefCell::default(),
            records: RefCell::default(),
            tombstones: RefCell::new(Tombstones::new(limits.tombstones_per_shard_max)),
            needed: Cell::new(0),
            ended: Cell::new(0),
            length: Cell::new(0),
            renew_at: Cell::new(0),
            frame: RefCell::default(),
            gate: Gate::default(),
            syncs: SharedSync::default(),
        }
    }

    /// Makes the first file, of this generation, with the sessions that were read back and given to
    /// [`Journal::remember`].
    ///
    /// # Errors
    /// What the disk says; the next append tries again.
    pub async fn begin(&self, disk: &D, generation: u64) -> io::Result<()> {
        self.generation.set(generation);
        self.weight_max.set(disk.sessions_bytes_max());
        self.fit_into(disk.log_bytes_max());
        let _turn = self.gate.turn().await;
        self.renew(disk).await
    }

    /// No log may be longer than this. A journal that ran into the limit of the process for its
    /// files would refuse every session from then on.
    fn fit_into(&self, bytes_max: u64) {
        self.bytes_max.set(self.bytes_set.get().min(bytes_max));
        let room = self.bytes_max.get() / TOMBSTONES_SHARE / Tombstone::journal_bytes(true);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let count_max = self.tombstones_set.get().min(room);
        self.tombstones.borrow_mut().set_count_max(count_max);
    }

    /// Whether the next new file is synced before it replaces the old one.
    pub fn set_durable(&self, is_durable: bool) {
        self.is_durable.set(is_durable);
    }

    /// Whether what is in it is to survive a power cut.
    pub fn is_durable(&self) -> bool {
        self.is_durable.get()
    }

    /// Goes over to new limits.
    pub fn set_limits(&self, disk: &D, limits: &Limits) {
        self.bytes_set.set(limits.journal_bytes_max);
        self.tombstones_set.set(limits.tombstones_per_shard_max);
        self.fit_into(disk.log_bytes_max());
    }

    /// Whether frames can be appended without a renewal that may fail.
    pub fn is_open(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// What there is too little of for another session.
    pub fn lacks(&self) -> Option<Scarce> {
        let needed = self.needed.get();
        let weight = weight::of_sessions(self.records.borrow().len(), needed);
        match needed < self.bytes_max.get() / ROOM_SHARE {
            true => (weight >= self.weight_max.get()).then_some(Scarce::Memory),
            false => Some(Scarce::Records),
        }
    }

    /// Appends the next record of a session; only then `kept` says the same.
    ///
    /// # Errors
    /// [`JournalError`]
    pub async fn write(
        &self,
        disk: &D,
        id: SessionId,
        kept: &Rc<Kept>,
        change: Change,
        sequence: u64,
        sync: Sync,
    ) -> Result<(), JournalError> {
        self.append(disk, id, kept, change, sequence)
            .await
            .map_err(JournalError::Append)?;
        match sync {
            Sync::No => Ok(()),
            Sync::Yes => (self.sync_appended(disk).await).map_err(JournalError::Sync),
        }
    }

    /// A session that was read back goes on with this record; it is written with the next renewal.
    pub fn remember(&self, id: SessionId, kept: Rc<Kept>) {
        let bytes = kept.record().append(id, kept.sequence(), &mut Vec::new());
        self.enter(id, &kept, bytes);
    }

    /// A session ended. What is remembered of it is written with the next renewal; until then its
    /// own records say it. If it owes an event, its record stays until that is told.
    pub fn bury(&self, id: SessionId, tombstone: Tombstone, now: Millis) {
        match self.owing(id) {
            // What is written of it from now on is newer than all that was.
            Some(kept) => kept.sequence.set(tombstone.sequence),
            None => self.forget(id),
        }
        self.tombstones.borrow_mut().bury(id, tombstone, now);
    }

    fn forget(&self, id: SessionId) {
        if let Some(kept) = self.records.borrow_mut().remove(&id) {
            let bytes = u64::from(kept.bytes.get());
            self.needed.set(self.needed.get() - bytes);
            let ended = self.ended.get();
            (self.ended).set(ended.saturating_add(weight::of_sessions(1, bytes)));
        }
    }

    /// Makes durable what was appended so far.
    ///
    /// # Errors
    /// What the disk says; it is not known then what of it survives a power cut.
    pub async fn sync_appended(&self, disk: &D) -> io::Result<()> {
        self.syncs.ask(|| self.sync(disk)).await
    }

    /// Sessions that ended.
    pub fn tombstones(&self) -> Ref<'_, Tombstones> {
        self.tombstones.borrow()
    }

    /// Forgets some of the sessions that ended so long ago.
    pub fn forget_old(&self, now: Millis, ms_max: u64) {
        self.tombstones.borrow_mut().forget_old(now, ms_max);
    }

    fn enter(&self, id: SessionId, kept: &Rc<Kept>, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("a frame is short");
        let mut records = self.records.borrow_mut();
        records.entry(id).or_insert_with(|| Rc::clone(kept));
        let before = kept.bytes.replace(bytes);
        let needed = self.needed.get() + u64::from(bytes) - u64::from(before);
        self.needed.set(needed);
    }

    async fn append(
        &self,
        disk: &D,
        id: SessionId,
        kept: &Rc<Kept>,
        change: Change,
        sequence: u64,
    ) -> io::Result<()> {
        let _turn = self.gate.turn().await;
        self.drop_lost();
        // Whoever has the turn has the buffer.
        let mut frame = self.frame.take();
        frame.clear();
        let bytes = (kept.record()).append_changed(&change, id, sequence, &mut frame);
        let appended = self.append_frame(disk, &frame).await;
        self.frame.replace(frame);
        appended?;
        kept.record.borrow_mut().change(change);
        kept.is_written.set(true);
        kept.sequence.set(sequence);
        self.enter(id, kept, bytes);
        Ok(())
    }

    async fn append_frame(&self, disk: &D, frame: &[u8]) -> io::Result<()> {
        let frame_bytes = frame.len() as u64;
        // Boxed, as all that happens seldom: the task of an upload need not have room for it.
        if !self.is_open() {
            Box::pin(self.renew(disk)).await?;
        } else if self.is_to_be_renewed(frame_bytes)
            && let Err(error) = Box::pin(self.renew(disk)).await
        {
            // The old file is as good as it was.
            self.renew_at.set(self.length.get() + RETRY_BYTES);
            disk.emit(Event::DiskFailed {
                op: DiskOp::Record,
                session: None,
                error: &error,
            });
        }
        let length = self.length.get() + frame_bytes;
        if length > self.bytes_max.get() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let log = self.log.borrow().clone();
        let log = log.ok_or(io::ErrorKind::NotFound)?;
        log.append(frame).await?;
        self.length.set(length);
        Ok(())
    }

    /// Whether a new file takes the place of this one before a frame of so many bytes.
    fn is_to_be_renewed(&self, frame_bytes: u64) -> bool {
        let (length, bytes_max) = (self.length.get(), self.bytes_max.get());
        let needed = self.needed.get() + self.tombstones.borrow().journal_bytes();
        let is_worth_it =
            length.saturating_sub(needed) >= bytes_max / GAIN_SHARE || 2 * needed <= length;
        // A renewal that failed is put off, but not beyond the end of the file: nothing could be
        // appended any more, and nothing would renew it.
        let is_full = length + frame_bytes > bytes_max && needed + frame_bytes <= bytes_max;
        let is_heavy = self.ended.get() >= self.weight_max.get() / ENDED_SHARE;
        is_full || is_heavy || (length >= self.renew_at.get() && is_worth_it)
    }

    /// Syncs the file, or makes a new one in its place: that is no second try, for it is written
    /// from memory, and synced.
    async fn sync(&self, disk: &D) -> io::Result<()> {
        let log = self.log.borrow().clone();
        let Some(log) = log else {
            // Nor could another one be made in its place.
            let _turn = self.gate.turn().await;
            return match self.is_open() {
                true => Ok(()),
                false => Box::pin(self.renew(disk)).await,
            };
        };
        let Err(error) = log.sync().await else {
            return Ok(());
        };
        if self.is_current(&log) {
            *self.log.borrow_mut() = None;
        }
        let _turn = self.gate.turn().await;
        if !self.is_open() && Box::pin(self.renew(disk)).await.is_err() {
            return Err(error);
        }
        disk.emit(Event::DiskFailed {
            op: DiskOp::SyncRecords,
            session: None,
            error: &error,
        });
        Ok(())
    }

    /// Whether somebody has removed, renamed, replaced or cut our file. Its disk is not waited for.
    pub fn is_hurt(&self) -> bool {
        self.log.borrow().as_ref().is_some_and(Self::is_bad)
    }

    fn is_bad(log: &Rc<D::Log>) -> bool {
        log.is_lost() || !log.is_in_place()
    }

    /// Writes a new file in place of one that [is hurt](Self::is_hurt): all that is needed is in
    /// memory. It waits for the disk.
    pub async fn heal(&self, disk: &D) {
        let _turn = self.gate.turn().await;
        self.log.borrow_mut().take_if(|log| Self::is_bad(log));
        if !self.is_open()
            && let Err(error) = self.renew(disk).await
        {
            disk.emit(Event::DiskFailed {
                op: DiskOp::Record,
                session: None,
                error: &error,
            });
        }
    }

    /// A file without a name is as good as none.
    fn drop_lost(&self) {
        self.log.borrow_mut().take_if(|log| log.is_lost());
    }

    fn is_current(&self, log: &Rc<D::Log>) -> bool {
        let current = self.log.borrow();
        current
            .as_ref()
            .is_some_and(|current| Rc::ptr_eq(current, log))
    }

    /// Replaces the file by one that holds what is needed. Whoever calls has the turn.
    async fn renew(&self, disk: &D) -> io::Result<()> {
        let generation = self.generation.get();
        // Also if it fails: what is left of it may keep its name.
        self.generation.set(generation + 1);
        // Also if it fails: it is tried again when as much has ended once more.
        self.ended.set(0);
        let name = journal_name(generation, self.shard);
        let (log, length) = match self.write_new(disk, &name).await {
            Ok(written) => written,
            Err(error) => {
                // Best effort: the next start reads it, and finds nothing that is not in the old
                // one too.
                let _ = disk.remove(Shelf::WORK, &name).await;
                return Err(error);
            }
        };
        self.length.set(length);
        let at_least = RENEW_BYTES_MIN.max(2 * length);
        self.renew_at
            .set(at_least.min(self.bytes_max.get() - self.bytes_max.get() / GAIN_SHARE));
        *self.log.borrow_mut() = Some(Rc::new(log));
        let outdated = self.outdated.replace(vec![name]);
        for name in outdated {
            if let Err(error) = disk.remove(Shelf::WORK, &name).await {
                disk.emit(Event::DiskFailed {
                    op: DiskOp::Remove,
                    session: None,
                    error: &error,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
