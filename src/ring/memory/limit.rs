//! What the kernel holds the process's memory to: a control group, its own limits, the machine.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ring::rlimit::{self, Limited};

/// Who says how much memory there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The machine has no more.
    Machine,
    /// This file of a control group.
    Group(PathBuf),
    /// RLIMIT_AS: addresses, used or not.
    Addresses,
    /// RLIMIT_DATA: what may be written to, used or not.
    Data,
}

impl SetBy {
    /// Whether memory counts as taken before it is used.
    pub fn counts_what_is_unused(&self) -> bool {
        matches!(self, Self::Addresses | Self::Data)
    }

    /// How to have more.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Machine => "give the machine more",
            Self::Group(_) => "raise MemoryMax= of the service, or the container's memory",
            Self::Addresses => "raise LimitAS= of the service (`ulimit -v`)",
            Self::Data => "raise LimitDATA= of the service (`ulimit -d`)",
        }
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("the machine's RAM"),
            Self::Group(file) => write!(f, "{}", file.display()),
            Self::Addresses => f.write_str("RLIMIT_AS"),
            Self::Data => f.write_str("RLIMIT_DATA"),
        }
    }
}

/// A limit of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    pub bytes: u64,
    pub set_by: SetBy,
    /// What this process has taken of it before it takes anything for its clients.
    pub taken: u64,
}

/// All that hold for this process; the first is the machine.
pub fn all() -> Vec<MemoryLimit> {
    let system = rustix::system::sysinfo();
    let machine = MemoryLimit {
        bytes: (system.totalram as u64).saturating_mul(u64::from(system.mem_unit)),
        set_by: SetBy::Machine,
        taken: 0,
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = of_groups(&own, &|file| fs::read_to_string(file).ok());
    let (addresses, data) = taken();
    let own = [
        (Limited::AddressBytes, SetBy::Addresses, addresses),
        (Limited::DataBytes, SetBy::Data, data),
    ];
    let own = own.into_iter().filter_map(|(limited, set_by, taken)| {
        let bytes = rlimit::of(limited).soft?;
        Some(MemoryLimit {
            bytes,
            set_by,
            taken,
        })
    });
    let all = std::iter::once(machine).chain(groups).chain(own);
    all.collect()
}

/// Addresses and data that this process has now, in bytes (proc_pid_statm(5)).
fn taken() -> (u64, u64) {
    let page = rustix::param::page_size() as u64;
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Vec<u64> = text
        .split_whitespace()
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    let of = |at: usize| pages.get(at).copied().unwrap_or(0) * page;
    (of(0), of(5))
}

/// Limits of the control group of a process, as `/proc/self/cgroup` names it, and of all above it
/// (cgroups(7)). In a container its own group may be what is mounted, whatever its name outside is:
/// what is not there is passed over.
fn of_groups(own: &str, read: &dyn Fn(&Path) -> Option<String>) -> Vec<MemoryLimit> {
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mounts, file): (&[&str], _) = match controllers {
            "" => (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            for mount in mounts {
                let path = Path::new(mount).join(group).join(file);
                // "max" is no limit; version 1 writes a number that no machine has.
                let bytes = read(&path).and_then(|text| text.trim().parse().ok());
                limits.extend(bytes.map(|bytes| MemoryLimit {
                    bytes,
                    set_by: SetBy::Group(path),
                    taken: 0,
                }));
            }
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(own: &str, files: &[(&str, &str)]) -> Vec<(u64, String)> {
        let read = |path: &Path| {
            let mut those = files.iter().filter(|(file, _)| Path::new(file) == path);
            those.next().map(|(_, text)| (*text).to_owned())
        };
        let limits = of_groups(own, &read).into_iter();
        limits
            .map(|limit| (limit.bytes, limit.set_by.to_string()))
            .collect()
    }

    #[test]
    fn a_group_and_all_above_it_limit_memory() {
        let of = |number, file: &str| (number, file.to_owned());
        let service = "/sys/fs/cgroup/system.slice/bitsd.service/memory.max";
        let slice = "/sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(
            found(
                "0::/system.slice/bitsd.service\n",
                &[(service, "max\n"), (slice, "268435456\n")]
            ),
            [of(268_435_456, slice)]
        );
        // A container sees its own group at the top, by either version.
        let top = "/sys/fs/cgroup/memory.max";
        assert_eq!(found("0::/\n", &[(top, "5\n")]), [of(5, top)]);
        let old = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(
            found(
                "9:name=systemd:/\n4:cpu,memory:/docker/1f\n",
                &[(old, "7\n")]
            ),
            [of(7, old)]
        );
        assert_eq!(found("garbage\n1:cpu:/x\n", &[(top, "5")]), []);
    }

    #[test]
    fn the_machine_and_this_process_are_known() {
        let all = all();
        assert_eq!(all[0].set_by, SetBy::Machine);
        assert!(all[0].bytes > 64 << 20, "{all:?}");
        let (addresses, data) = taken();
        assert!(addresses > data && data > 0);
    }
}
