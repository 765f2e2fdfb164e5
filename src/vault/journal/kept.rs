//! What is known of a session, as its journal and whoever works on it share it.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::bits::session::State;
use crate::http::authorization::Scheme;
use crate::http::digest::Digests;
use crate::vault::hashing::Hashed;
use crate::vault::record::{Change, Record};

/// A session's record as it stands in the journal: the one truth about it, shared by the journal
/// and the session's [`crate::vault::keep::Keep`].
#[derive(Debug)]
pub struct Kept {
    pub(super) record: RefCell<Record>,
    /// Its newest frame says where the session stands, but for its progress.
    pub(super) is_written: Cell<bool>,
    /// Of its newest frame.
    pub(super) sequence: Cell<u64>,
    /// Length of its newest frame; 0 if there is none yet.
    pub(super) bytes: Cell<u32>,
    /// Its bytes are on a disk that was not there at the start: nobody works on it.
    pub(super) awaits_disk: Cell<bool>,
}

impl Kept {
    /// A record that is not written yet.
    pub fn new(record: Record, sequence: u64) -> Rc<Self> {
        Rc::new(Self {
            record: RefCell::new(record),
            is_written: Cell::new(false),
            sequence: Cell::new(sequence),
            bytes: Cell::new(0),
            awaits_disk: Cell::new(false),
        })
    }

    /// What is known of the session.
    pub fn record(&self) -> Ref<'_, Record> {
        self.record.borrow()
    }

    /// Where the session stands.
    pub fn state(&self) -> State {
        self.record.borrow().state
    }

    /// It stands there now, and no frame says so: its progress, which the part tells, or an end
    /// that could not be written.
    pub fn set_state(&self, state: State) {
        let before = std::mem::replace(&mut self.record.borrow_mut().state, state);
        let is_progress = matches!(
            (before, state),
            (State::Receiving { .. }, State::Receiving { .. })
        );
        if !is_progress && before != state {
            self.is_written.set(false);
        }
    }

    /// It is like this now, and no frame could be written that says so.
    pub(in crate::vault) fn become_unwritten(&self, change: Change) {
        self.record.borrow_mut().change(change);
        self.is_written.set(false);
    }

    /// A fragment that brings something new begins.
    pub fn begin_fragment(&self, wall_ms: u64) {
        let life = &mut self.record.borrow_mut().life;
        life.fragments = life.fragments.saturating_add(1);
        if life.first_ms == 0 {
            life.first_ms = wall_ms;
        }
    }

    /// A byte was stored.
    pub fn note_byte(&self, wall_ms: u64) {
        self.record.borrow_mut().life.last_ms = wall_ms;
    }

    /// Its file is about to get its name.
    pub(in crate::vault) fn note_naming(&self, wall_ms: u64) {
        self.record.borrow_mut().life.named_ms = wall_ms;
    }

    /// It was read back, and goes on like this; the next journal begins with it.
    pub fn restart(&self, state: State, sequence: u64) {
        self.record.borrow_mut().state = state;
        self.sequence.set(sequence);
    }

    /// Another connection works for the session; the next frame says it.
    pub fn count_connection(&self) {
        let life = &mut self.record.borrow_mut().life;
        life.connections = life.connections.saturating_add(1);
    }

    /// Nobody had made it, and now it is this user's, who was known so; the next frame says it.
    pub fn give_to(&self, user: Arc<str>, proof: Scheme) {
        let life = &mut self.record.borrow_mut().life;
        (life.user, life.proof) = (Some(user), Some(proof));
    }

    /// The upload was interrupted once more; the next frame says it. How often it was.
    pub fn count_interruption(&self) -> u32 {
        let life = &mut self.record.borrow_mut().life;
        life.interruptions = life.interruptions.saturating_add(1);
        life.interruptions
    }

    /// Bytes were offered, and none was taken; the next frame says it. Whether that is new.
    pub fn note_offered(&self) -> bool {
        let life = &mut self.record.borrow_mut().life;
        !std::mem::replace(&mut life.was_offered, true)
    }

    /// Changes what is known of its digests, if any are computed; the next frame says it.
    pub(in crate::vault) fn with_hashed<T>(
        &self,
        change: impl FnOnce(&mut Hashed) -> T,
    ) -> Option<T> {
        self.record.borrow_mut().hashed.as_deref_mut().map(change)
    }

    /// Changes what no state depends on; the next frame says it.
    pub(in crate::vault) fn with_record<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        change(&mut self.record.borrow_mut())
    }

    /// All bytes have come, which needs no record where the part tells it.
    pub(in crate::vault) fn set_digests(&self, digests: Digests) {
        self.record.borrow_mut().set_digests(digests);
    }

    /// Whether a restart would find the session where it stands, but for its progress.
    pub fn is_written(&self) -> bool {
        self.is_written.get()
    }

    /// The sequence number of its newest frame.
    pub fn sequence(&self) -> u64 {
        self.sequence.get()
    }
}
