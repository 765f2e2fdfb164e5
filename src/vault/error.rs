//! What the disk refused, and while doing what.

use std::io;

use rustix::io::Errno;

use crate::bits::reply::Refusal;
use crate::diagnosis::{self, Diagnosis};
use crate::event::DiskOp;

/// The disk refused something.
#[derive(Debug)]
pub struct StoreError {
    /// What was being done.
    pub op: DiskOp,
    /// The error.
    pub source: io::Error,
}

impl StoreError {
    /// Says what was being done.
    pub fn new(op: DiskOp) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { op, source }
    }

    /// What it means.
    pub fn diagnosis(&self) -> Diagnosis {
        diagnosis::diagnose(self.op, &self.source)
    }

    /// What the client hears.
    pub fn refusal(&self) -> Refusal {
        self.diagnosis().hears
    }

    /// The number of the error, if the disk has lost with it what it had been given.
    pub fn lost_by(&self) -> Option<i32> {
        let is_of_disk = matches!(
            self.op,
            DiskOp::Sync | DiskOp::SyncDirectory | DiskOp::Write
        );
        let is_lost = is_of_disk && self.poisons() && !diagnosis::is_part_changed(&self.source);
        is_lost.then(|| {
            let number = self.source.raw_os_error();
            number.unwrap_or(Errno::IO.raw_os_error())
        })
    }

    /// Whether the session can no longer be trusted: a failed sync, a write of its bytes that
    /// failed for another reason than space, or bytes that somebody took away.
    pub fn poisons(&self) -> bool {
        self.diagnosis().poisons
    }
}
