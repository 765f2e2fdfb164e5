//! Whether a folder of ours is still ours alone.
//!
//! Whoever sets rights on a whole share (`chmod -R g+w`, `chown -R`) means the files that were
//! uploaded, and opens the folder of the unfinished ones with them, which mostly lies beneath the
//! root. Whoever may write there may forge records of sessions, and what those say is published
//! with our rights.
//!
//! A start refuses such a folder, so the running server tells of it at once. It does not close it:
//! what somebody has put there meanwhile would look like ours from then on, and the next start
//! would believe it. That is for a person to look at.

use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use crate::ring::account;

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

/// Looks whose a folder is, and who may write to it.
pub fn look(folder: &OwnedFd) -> Hold {
    // That it cannot be looked at is told by whoever looks for it.
    let Ok(stat) = rustix::fs::fstat(folder) else {
        return Hold::Ours;
    };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if stat.st_uid != account::our_id() {
        Hold::Elses(stat.st_uid)
    } else if mode.intersects(Mode::WGRP.union(Mode::WOTH)) {
        Hold::Open(mode.as_raw_mode())
    } else {
        Hold::Ours
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_is_not_ours_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = fs::File::open(place.path()).unwrap().into();
        for (mode, hold) in [
            (0o700, Hold::Ours),
            (0o755, Hold::Ours),
            (0o770, Hold::Open(0o770)),
            (0o2775, Hold::Open(0o2775)),
            (0o702, Hold::Open(0o702)),
        ] {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(look(&folder), hold, "{mode:o}");
        }
    }
}
