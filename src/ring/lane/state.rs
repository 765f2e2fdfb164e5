//! What a shard and the threads of a lane know of their disk: whether it is quick, and what is left
//! to close.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::freeing;
use super::{PATIENCE, SILENCE, WAITING_MAX};
use crate::coarse_clock;
use crate::vault::disk::millis;

/// A disk that was quiet for so long is tried by the lane first.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// A call that takes longer waits for the disk.
pub(super) const SLOW: Duration = Duration::from_millis(1);
/// Slow calls count together for so long.
pub(super) const MOMENT: Duration = Duration::from_millis(20);
/// How many calls go by the lane after such a one.
pub(super) const PENALTY_CALLS: u32 = 64;
/// A file that was freed in one go is felt when its transaction ends: ext4 ends one every five
/// seconds.
const TRANSACTION: Duration = Duration::from_secs(6);

/// What the shard and its helpers know of the disk.
#[derive(Default)]
pub(super) struct State {
    /// Calls that wait for the helper, or are under way there.
    pub(super) pending: AtomicUsize,
    /// Files that are being freed.
    pub(super) freeing: AtomicUsize,
    /// Calls that still go by the lane because one took too long.
    penalty: AtomicU32,
    /// When slow calls began to count together, in milliseconds of the coarse clock, and what they
    /// have taken.
    slow_since: AtomicU64,
    slow_us: AtomicU64,
    /// When the disk last answered a call, or began to be asked, in milliseconds of the coarse
    /// clock.
    pub(super) answered_at: AtomicU64,
    /// Until then the disk is not taken for quick, in milliseconds of the coarse clock; 0 is never.
    busy_until: AtomicU64,
    /// When a call that writes last came back, in milliseconds of the coarse clock.
    pub(super) written_at: AtomicU64,
    /// Files that are to be closed before the next call by the lane: as many as were open, since it
    /// opens no other one before. Locked for a moment only, and by nobody who closes.
    pub(super) to_close: Mutex<Vec<OwnedFd>>,
    /// Big files without a name that are to be closed, and so freed, by the second thread.
    /// Likewise.
    pub(super) to_free: Mutex<Vec<OwnedFd>>,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It looks at something, or opens it.
    Looks,
    /// It changes something.
    Writes,
}

impl State {
    /// A call took so long. Many clients may each make one that is slow, and not slow enough.
    pub(super) fn note(&self, took: Duration) {
        if took >= SLOW {
            self.note_slow(coarse_clock::ms(), took);
        }
    }

    pub(super) fn note_slow(&self, now: u64, took: Duration) {
        let since = self.slow_since.load(Ordering::Relaxed);
        let mut spent = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if now.saturating_sub(since) < millis(MOMENT) {
            spent = spent.saturating_add(self.slow_us.load(Ordering::Relaxed));
        } else {
            self.slow_since.store(now, Ordering::Relaxed);
        }
        self.slow_us.store(spent, Ordering::Relaxed);
        if Duration::from_micros(spent) > PATIENCE {
            self.penalty.store(PENALTY_CALLS, Ordering::Relaxed);
        }
    }

    /// Whether another call may wait.
    pub(super) fn admits(&self, now: u64) -> bool {
        self.pending.load(Ordering::Relaxed) < WAITING_MAX
            || now.saturating_sub(self.answered_at.load(Ordering::Relaxed)) < millis(SILENCE)
    }

    pub(super) fn note_end(&self, kind: Kind) {
        if kind == Kind::Writes {
            (self.written_at).store(coarse_clock::ms(), Ordering::Relaxed);
        }
    }

    /// Whether the disk has taken something a moment ago.
    pub(super) fn is_awake(&self, now: u64) -> bool {
        now.saturating_sub(self.written_at.load(Ordering::Relaxed)) < millis(QUIET)
    }

    /// Closes what is to be closed.
    pub(super) fn close_files(&self) {
        drop(take(&self.to_close));
    }

    /// Frees what is to be freed: ours in pieces, what others have made in one go.
    pub(super) fn free_files(&self) {
        for file in take(&self.to_free) {
            let is_freed = freeing::free_in_pieces(&file);
            drop(file);
            if !is_freed {
                let until = coarse_clock::ms().saturating_add(millis(TRANSACTION));
                self.busy_until.store(until, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn note_answer(&self) {
        self.answered_at
            .store(coarse_clock::ms(), Ordering::Relaxed);
    }

    pub(super) fn is_quick(&self) -> bool {
        if self.pending.load(Ordering::Relaxed) + self.freeing.load(Ordering::Relaxed) > 0 {
            return false;
        }
        match self.busy_until.load(Ordering::Relaxed) {
            0 => {}
            until if coarse_clock::ms() < until => return false,
            _ => self.busy_until.store(0, Ordering::Relaxed),
        }
        match self.penalty.load(Ordering::Relaxed) {
            0 => true,
            left => {
                self.penalty.store(left - 1, Ordering::Relaxed);
                false
            }
        }
    }
}

pub(super) fn push(files: &Mutex<Vec<OwnedFd>>, file: OwnedFd) {
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    files.push(file);
}

fn take(files: &Mutex<Vec<OwnedFd>>) -> Vec<OwnedFd> {
    std::mem::take(&mut *files.lock().unwrap_or_else(PoisonError::into_inner))
}

/// One of a counted thing, however it ends.
pub(super) struct Counted<F: Fn(&State) -> &AtomicUsize>(Arc<State>, F);

impl<F: Fn(&State) -> &AtomicUsize> Counted<F> {
    pub(super) fn new(state: &Arc<State>, of: F) -> Self {
        of(state).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state), of)
    }
}

impl<F: Fn(&State) -> &AtomicUsize> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
