//! The journal of a shard: one file to which every state of its sessions is appended, as a [`super::record`].
//!
//! One append costs a fraction of what a file for each session would: no name to make, open, close and remove. One sync
//! serves all who wait for one.
//!
//! Nothing in a journal is ever overwritten, so no crash can damage what was written before; and every state is a new frame
//! with all there is to say, so the newest frame of a session is enough. What is outdated goes when the journal is *renewed*:
//! a new file begins with the newest frame of each session, and is made durable before the old one is removed. That
//! happens
//!
//! * at start, when all shards have read the old journals, by whatever number of shards they were written;
//! * when most of the file is outdated;
//! * after a sync of it failed, since the kernel may have dropped what it could not write.
//!
//! The name is `GENERATION-SHARD.journal`. All files of lower generations than that of a start are outdated once every shard
//! has its own new one. If a crash leaves several, the frame with the highest sequence number counts.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::gate::{Gate, SharedSync};
use super::store::journal_name;
use super::world::{Log, Shelf, Sync, World};
use crate::bits::session_id::SessionId;
use crate::event::{DiskOp, Event};
use crate::planted::{self, Bug};

/// A journal is renewed when it is longer than this and twice what is needed of it.
const RENEW_BYTES_MIN: u64 = 8 << 20;
/// After a renewal that failed (the disk is full), so much may be appended before the next one.
const RETRY_BYTES: u64 = 1 << 20;

/// An append or a sync was refused.
#[derive(Debug)]
pub enum JournalError {
    /// The frame was not written; what was written before is as it was.
    Append(io::Error),
    /// The frame was written, and nobody knows whether it will survive a power cut.
    Sync(io::Error),
}

/// The journal of one shard.
pub struct Journal<W: World> {
    shard: usize,
    /// Whether a new file is synced before it replaces the old one.
    is_durable: Cell<bool>,
    generation: Cell<u64>,
    /// Absent until the first one could be made, and after a failed sync.
    log: RefCell<Option<Rc<W::Log>>>,
    /// Names of our own files that the next one replaces.
    outdated: RefCell<Vec<String>>,
    /// The newest frame of each session.
    frames: RefCell<BTreeMap<SessionId, Vec<u8>>>,
    /// Bytes of `frames`.
    needed: Cell<u64>,
    /// Length of the file.
    length: Cell<u64>,
    /// The length at which it is renewed.
    renew_at: Cell<u64>,
    /// Appends and renewals take turns.
    gate: Gate,
    syncs: SharedSync,
}

impl<W: World> Journal<W> {
    /// The journal of a shard, before its first file; without `is_durable` nothing of it is ever synced.
    pub fn new(shard: usize, is_durable: bool) -> Self {
        Self {
            shard,
            is_durable: Cell::new(is_durable),
            generation: Cell::new(0),
            log: RefCell::default(),
            outdated: RefCell::default(),
            frames: RefCell::default(),
            needed: Cell::new(0),
            length: Cell::new(0),
            renew_at: Cell::new(0),
            gate: Gate::default(),
            syncs: SharedSync::default(),
        }
    }

    /// Makes the first file, of this generation, with the frames of the sessions that were read back.
    ///
    /// # Errors
    /// What the disk says; the next append tries again.
    pub async fn begin(
        &self,
        world: &W,
        generation: u64,
        frames: impl Iterator<Item = (SessionId, Vec<u8>)>,
    ) -> io::Result<()> {
        self.generation.set(generation);
        frames.for_each(|(id, frame)| self.remember(id, frame));
        let _turn = self.gate.turn().await;
        self.renew(world).await
    }

    /// Whether the next new file is synced before it replaces the old one.
    pub fn set_durable(&self, is_durable: bool) {
        self.is_durable.set(is_durable);
    }

    /// Whether frames can be appended without a renewal that may fail.
    pub fn is_open(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// Appends the newest frame of a session.
    ///
    /// # Errors
    /// [`JournalError`]
    pub async fn write(
        &self,
        world: &W,
        id: SessionId,
        frame: Vec<u8>,
        sync: Sync,
    ) -> Result<(), JournalError> {
        self.append(world, id, frame)
            .await
            .map_err(JournalError::Append)?;
        match sync {
            Sync::No => Ok(()),
            Sync::Yes => (self.syncs.ask(|| self.sync(world)).await).map_err(JournalError::Sync),
        }
    }

    /// A session need not be remembered any more. A restart before the next renewal finds it once more.
    pub fn forget(&self, id: SessionId) {
        if let Some(frame) = self.frames.borrow_mut().remove(&id) {
            self.needed.set(self.needed.get() - frame.len() as u64);
        }
    }

    /// The newest frame of a session is this one; it is written with the next renewal.
    pub fn remember(&self, id: SessionId, frame: Vec<u8>) {
        let more = frame.len() as u64;
        let before = self.frames.borrow_mut().insert(id, frame);
        let less = before.map_or(0, |frame| frame.len() as u64);
        self.needed.set(self.needed.get() + more - less);
    }

    /// Whether a session's newest frame is kept.
    pub fn remembers(&self, id: SessionId) -> bool {
        self.frames.borrow().contains_key(&id)
    }

    async fn append(&self, world: &W, id: SessionId, frame: Vec<u8>) -> io::Result<()> {
        let _turn = self.gate.turn().await;
        self.drop_lost();
        if !self.is_open() {
            self.renew(world).await?;
        } else if self.length.get() >= self.renew_at.get()
            && let Err(error) = self.renew(world).await
        {
            // The old file is as good as it was.
            self.renew_at.set(self.length.get() + RETRY_BYTES);
            world.emit(Event::DiskFailed {
                op: DiskOp::Record,
                session: None,
                error: &error,
            });
        }
        let log = self.log.borrow().clone();
        let log = log.ok_or(io::ErrorKind::NotFound)?;
        log.append(&frame).await?;
        self.length.set(self.length.get() + frame.len() as u64);
        self.remember(id, frame);
        Ok(())
    }

    async fn sync(&self, world: &W) -> io::Result<()> {
        let log = self.log.borrow().clone();
        let Some(log) = log else {
            // Another one's sync failed. A new file is no second try: it is written from memory, and synced.
            let _turn = self.gate.turn().await;
            return match self.is_open() {
                true => Ok(()),
                false => self.renew(world).await,
            };
        };
        let synced = log.sync().await;
        if synced.is_err() && self.is_current(&log) {
            *self.log.borrow_mut() = None;
        }
        synced
    }

    /// Writes a new file if somebody has removed ours: all that is needed is in memory.
    pub async fn heal(&self, world: &W) {
        let is_lost = || self.log.borrow().as_ref().is_some_and(|log| log.is_lost());
        if !is_lost() {
            return;
        }
        let _turn = self.gate.turn().await;
        self.drop_lost();
        if !self.is_open()
            && let Err(error) = self.renew(world).await
        {
            world.emit(Event::DiskFailed {
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

    fn is_current(&self, log: &Rc<W::Log>) -> bool {
        let current = self.log.borrow();
        current
            .as_ref()
            .is_some_and(|current| Rc::ptr_eq(current, log))
    }

    /// Replaces the file by one that holds what is needed. Whoever calls has the turn.
    async fn renew(&self, world: &W) -> io::Result<()> {
        let generation = self.generation.get();
        // Also if it fails: what is left of it may keep its name.
        self.generation.set(generation + 1);
        let name = journal_name(generation, self.shard);
        let bytes: Vec<u8> = self.frames.borrow().values().flatten().copied().collect();
        let log = match self.write_new(world, &name, &bytes).await {
            Ok(log) => log,
            Err(error) => {
                // Best effort: the next start reads it, and finds nothing that is not in the old one too.
                let _ = world.remove(Shelf::WORK, &name).await;
                return Err(error);
            }
        };
        let length = bytes.len() as u64;
        self.length.set(length);
        self.renew_at.set(RENEW_BYTES_MIN.max(2 * length));
        *self.log.borrow_mut() = Some(Rc::new(log));
        let outdated = self.outdated.replace(vec![name]);
        for name in outdated {
            if let Err(error) = world.remove(Shelf::WORK, &name).await {
                world.emit(Event::DiskFailed {
                    op: DiskOp::Remove,
                    session: None,
                    error: &error,
                });
            }
        }
        Ok(())
    }

    async fn write_new(&self, world: &W, name: &str, bytes: &[u8]) -> io::Result<W::Log> {
        let log = world.create_log(name).await?;
        log.append(bytes).await?;
        if self.is_durable.get() && !planted::is(Bug::JournalUnsynced) {
            log.sync().await?;
            world.sync_shelf(Shelf::WORK).await?;
        }
        Ok(log)
    }
}
