//! Lines that nobody waits for, and that could not be written when they came.

use std::io;

use super::super::ledger::note_lost;
use super::{BATCH_MAX, Wanted, Writer};

/// So many are kept while none can be written; some 1 KiB each.
pub(super) const KEPT_MAX: usize = 16_384;

impl Writer {
    /// One that could not be written is tried again when the ledger can be.
    pub(super) fn keep_line(&mut self, wanted: Wanted) {
        match self.kept.len() < KEPT_MAX {
            true => self.kept.push_back(wanted),
            false => self.metrics.lost.add(1),
        }
    }

    /// Writes what is kept.
    pub(super) fn write_kept(&mut self) -> io::Result<()> {
        while !self.kept.is_empty() {
            let count = self.kept.len().min(BATCH_MAX);
            let batch: Vec<_> = self.kept.drain(..count).collect();
            if let Err(error) = self.try_write(&batch) {
                for wanted in batch.into_iter().rev() {
                    self.kept.push_front(wanted);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// The server ends: what is kept is lost.
    pub(super) fn lose_kept(&mut self) {
        self.metrics.lost.add(self.kept.len() as u64);
        self.kept.clear();
        self.tell_lost();
    }

    /// That lines were lost is told at the first one, whenever there are twice as many, and when
    /// the ledger is well again.
    pub(super) fn tell_of_lost(&mut self) {
        let is_more = self.metrics.lost.get() >= self.told_lost.saturating_mul(2);
        if is_more || !self.is_failing {
            self.tell_lost();
        }
    }

    fn tell_lost(&mut self) {
        let lost = self.metrics.lost.get();
        let lines = lost - self.told_lost;
        if lines == 0 {
            return;
        }
        self.told_lost = lost;
        note_lost(lines);
    }
}
