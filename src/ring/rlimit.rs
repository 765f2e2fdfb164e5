//! The limits of this process, as setrlimit(2) has them.
//!
//! A seccomp profile may keep a process from asking (`prlimit64`). rustix takes it that the kernel
//! always answers, and would give what stood in memory: a limit of nothing, mostly. One that cannot
//! be asked for is none here: what it forbids is told by the call that meets it.

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Open files.
    Files,
    /// The length of a file.
    FileBytes,
    /// Memory, by addresses.
    AddressBytes,
    /// Memory, by what is written to.
    DataBytes,
    /// Threads and processes of the account.
    Threads,
}

/// A limit, and up to where the process may raise it; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// Asks for one.
pub fn of(limited: Limited) -> Limit {
    ask(limited).unwrap_or_default()
}

/// Why no limit can be asked for, if so.
pub fn why_unknown() -> Option<std::io::Error> {
    ask(Limited::Files).err()
}

fn ask(limited: Limited) -> std::io::Result<Limit> {
    let which = match limited {
        Limited::Files => libc::RLIMIT_NOFILE,
        Limited::FileBytes => libc::RLIMIT_FSIZE,
        Limited::AddressBytes => libc::RLIMIT_AS,
        Limited::DataBytes => libc::RLIMIT_DATA,
        Limited::Threads => libc::RLIMIT_NPROC,
    };
    let mut found = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: it writes one structure of this type, to which the pointer leads.
    let asked = unsafe { libc::getrlimit(which, &raw mut found) };
    if asked != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let limit = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Ok(Limit {
        soft: limit(found.rlim_cur),
        hard: limit(found.rlim_max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_process() {
        let shown = std::fs::read_to_string("/proc/self/limits").unwrap();
        let numbers = |name: &str| {
            let line = shown.lines().find_map(|line| line.strip_prefix(name));
            let mut words = line.unwrap().split_whitespace();
            let mut next = || words.next().unwrap().parse().ok();
            Limit {
                soft: next(),
                hard: next(),
            }
        };
        assert_eq!(of(Limited::Files), numbers("Max open files"));
        assert_eq!(of(Limited::FileBytes), numbers("Max file size"));
        assert_eq!(of(Limited::AddressBytes), numbers("Max address space"));
        assert_eq!(of(Limited::DataBytes), numbers("Max data size"));
        assert_eq!(of(Limited::Threads), numbers("Max processes"));
    }
}
