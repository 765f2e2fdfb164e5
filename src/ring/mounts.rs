//! What the kernel's list of mounts says (proc_pid_mountinfo(5)), beyond what a system call tells.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Statx, StatxFlags};

const LIST: &str = "/proc/self/mountinfo";
/// By these ext4 says that it has given up writing, since Linux 6.15. It tells no call before that
/// one that would write.
const GAVE_UP: [&str; 2] = ["emergency_ro", "shutdown"];

/// The mount by which something was opened, where the kernel tells.
pub fn id_of(opened: &OwnedFd) -> Option<u64> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    id_in(&rustix::fs::statx(opened, "", flags, StatxFlags::MNT_ID).ok()?)
}

/// The same of what was looked at.
pub fn id_in(stat: &Statx) -> Option<u64> {
    let known = StatxFlags::from_bits_retain(stat.stx_mask);
    known
        .contains(StatxFlags::MNT_ID)
        .then_some(stat.stx_mnt_id)
}

/// Whether a mount is there.
///
/// # Errors
/// Of reading the list.
pub fn is_there(id: u64) -> io::Result<bool> {
    let list = fs::read_to_string(LIST)?;
    Ok(list.lines().any(|line| id_of_line(line) == Some(id)))
}

/// The mounts of file systems that have given up writing; none where that cannot be told.
pub fn frozen() -> BTreeSet<u64> {
    frozen_in(&fs::read_to_string(LIST).unwrap_or_default())
}

fn frozen_in(list: &str) -> BTreeSet<u64> {
    let has_given_up = |line: &&str| {
        // Behind what may be there or not: kind, device, and what holds for all of its mounts.
        let rest = line.split_once(" - ").map(|(_, rest)| rest);
        let options = rest.and_then(|rest| rest.split(' ').nth(2));
        options.is_some_and(|options| options.split(',').any(|one| GAVE_UP.contains(&one)))
    };
    (list.lines().filter(has_given_up))
        .filter_map(id_of_line)
        .collect()
}

fn id_of_line(line: &str) -> Option<u64> {
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_gave_up_is_known_by_its_line() {
        let list = "\
            36 35 7:0 / /a rw,relatime shared:1 - ext4 /dev/loop0 rw,errors=remount-ro\n\
            37 35 7:1 / /b\\040c rw,relatime - ext4 /dev/loop1 rw,errors=remount-ro,emergency_ro\n\
            38 35 7:1 /d /emergency_ro rw,emergency_ro master:3 propagate_from:2 - ext4 /dev/x rw\n\
            39 35 7:2 / /e rw - ext4 /dev/loop2 rw,shutdown\n";
        assert_eq!(frozen_in(list), BTreeSet::from([37, 39]));
        assert!(frozen_in("").is_empty());
        let here = rustix::fs::open("/proc", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        let id = id_of(&here.unwrap()).unwrap();
        assert!(is_there(id).unwrap() && !is_there(u64::MAX).unwrap());
    }
}
