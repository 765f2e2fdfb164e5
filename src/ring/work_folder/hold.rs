//! Whether a folder of ours is ours alone.
//!
//! Whoever sets rights on a whole share (`chmod -R g+w`, `chown -R`) means the files that were
//! uploaded, and opens the folder of the unfinished ones with them, which mostly lies beneath the
//! root. Whoever may write there may forge records of sessions, and what those say is published
//! with our rights.
//!
//! A start refuses such a folder, so the running server tells of it at once. It does not close it:
//! what somebody has put there meanwhile would look like ours from then on, and the next start
//! would believe it. That is for a person to look at.

use rustix::fs::Mode;

use crate::ring::account;

/// Rights that nobody but us has to what is ours.
pub const OTHERS_WRITE: Mode = Mode::WGRP.union(Mode::WOTH);

/// What was found of a folder of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It is ours alone.
    Ours,
    /// Others may write to it; its mode.
    Open(u32),
    /// It belongs to this user.
    Elses(u32),
}

/// Of the owner and the mode of a folder.
pub fn of(owner: u32, mode: u32) -> Hold {
    let mode = Mode::from_raw_mode(mode & 0o7777);
    if owner != account::our_id() {
        Hold::Elses(owner)
    } else if mode.intersects(OTHERS_WRITE) {
        Hold::Open(mode.as_raw_mode())
    } else {
        Hold::Ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_is_not_ours_alone() {
        let us = account::our_id();
        for (owner, mode, hold) in [
            (us, 0o040_700, Hold::Ours),
            (us, 0o040_755, Hold::Ours),
            (us, 0o040_770, Hold::Open(0o770)),
            (us, 0o042_775, Hold::Open(0o2775)),
            (us, 0o040_702, Hold::Open(0o702)),
            (us + 1, 0o040_700, Hold::Elses(us + 1)),
        ] {
            assert_eq!(of(owner, mode), hold, "{mode:o}");
        }
    }
}
