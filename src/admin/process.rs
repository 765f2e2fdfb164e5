//! What the kernel says of this process, under the names that every Prometheus client has for it.

use std::fs;
use std::sync::OnceLock;

use crate::wall_clock;

/// What was read; zero where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_descriptors: u64,
    pub descriptors_max: u64,
    /// In seconds since 1970.
    pub start_seconds: f64,
}

/// Reads it.
pub fn read() -> Process {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').map(|pages| pages.parse().unwrap_or(0));
    let page_bytes = rustix::param::page_size() as u64;
    let mut bytes = || pages.next().unwrap_or(0u64).saturating_mul(page_bytes);
    let (virtual_bytes, resident_bytes) = (bytes(), bytes());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let stat = Stat::parse(&stat).unwrap_or_default();
    Process {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes,
        virtual_bytes,
        threads: stat.threads,
        open_descriptors: open_descriptors(),
        descriptors_max: descriptors_max(),
        start_seconds: start_seconds(),
    }
}

/// What is limited by nobody, and what the kernel does not tell, is as much as can be.
fn descriptors_max() -> u64 {
    let Ok(limits) = fs::read_to_string("/proc/self/limits") else {
        // There may be no descriptor left to read it by.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        return limit.current.unwrap_or(u64::MAX);
    };
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|numbers| numbers.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(u64::MAX)
}

/// When this process was started, in seconds since 1970. Read once, at the start: later there may
/// be no descriptor left to read it by.
pub fn start_seconds() -> f64 {
    static STARTED: OnceLock<f64> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let stat = Stat::parse(&stat).unwrap_or_default();
        boot_seconds() + stat.start_ticks as f64 / ticks_per_second()
    })
}

/// When this program began to serve, in seconds since 1970: one that takes the place of another in
/// its process begins later than the process. What is counted begins with it.
pub fn serving_since_seconds() -> f64 {
    static BEGAN: OnceLock<f64> = OnceLock::new();
    *BEGAN.get_or_init(|| wall_clock::since_1970().as_secs_f64())
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// When the machine was started.
fn boot_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|seconds| seconds.trim().parse().ok())
        .unwrap_or(0.0)
}

fn open_descriptors() -> u64 {
    let Ok(folder) = fs::metadata("/proc/self/fd") else {
        return 0;
    };
    // Since Linux 6.2 its size is their number; before, they are counted.
    match std::os::unix::fs::MetadataExt::size(&folder) {
        0 => fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64),
        count => count,
    }
}

/// proc_pid_stat(5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stat {
    threads: u64,
    /// Since the machine was started.
    start_ticks: u64,
}

impl Stat {
    /// The name of the process stands in parentheses, and may hold any of them itself.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse().ok();
        Some(Self {
            threads: field(20)?,
            start_ticks: field(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_misleads_nobody() {
        let text = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 20 18 4711 20 21";
        let stat = Stat {
            threads: 20,
            start_ticks: 4711,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let process = read();
        assert!(process.cpu_seconds > 0.0 && process.resident_bytes > 1 << 20);
        assert!(process.virtual_bytes >= process.resident_bytes);
        assert!((3..process.descriptors_max).contains(&process.open_descriptors));
        assert!(process.threads >= 1);
        let now = wall_clock::since_1970();
        let age = now.as_secs_f64() - process.start_seconds;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
