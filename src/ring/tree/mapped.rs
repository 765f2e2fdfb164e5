//! Over whose files a capability counts: in a user namespace, as of a rootless container, root is
//! so for the accounts that have a number there (user_namespaces(7)), and the kernel lets him do
//! nothing to what belongs to the others.

use std::fs;

use rustix::fs::Statx;

/// The number of which the kernel shows what has none here, where it does not say which.
const OVERFLOW: u32 = 65_534;

/// Which owners have a number in the namespace of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// What users without a number are shown as; `None`: there are none of them.
    nobody: Option<u32>,
    /// The same of groups.
    no_group: Option<u32>,
}

impl Mapped {
    /// As the kernel says; where it does not, all have one.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let shown_as = |map: &str, number: &str| {
            let is_whole = is_whole(&read(map));
            (!is_whole).then(|| read(number).trim().parse().unwrap_or(OVERFLOW))
        };
        Self {
            nobody: shown_as("/proc/self/uid_map", "/proc/sys/kernel/overflowuid"),
            no_group: shown_as("/proc/self/gid_map", "/proc/sys/kernel/overflowgid"),
        }
    }

    /// Whether user and group of a file have one: the kernel asks for both
    /// (`capable_wrt_inode_uidgid`). One that really has the number of those without is taken for
    /// theirs.
    pub fn has_owners_of(self, file: &Statx) -> bool {
        self.nobody != Some(file.stx_uid) && self.no_group != Some(file.stx_gid)
    }
}

/// Whether a map leaves nobody out, as that of the first namespace does: all numbers but the last,
/// which is none.
fn is_whole(map: &str) -> bool {
    let lengths = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    let mapped: u64 = lengths
        .filter_map(|length| length.parse::<u64>().ok())
        .sum();
    map.is_empty() || mapped >= u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_all_numbers_leaves_nobody_out() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("0 1000 1\n1 1001 4294967294\n", true),
            ("", true),
            ("         0          0          1\n", false),
            ("0 1000 1\n1 100000 65536\n", false),
        ] {
            assert_eq!(is_whole(map), expected, "{map:?}");
        }
    }
}
