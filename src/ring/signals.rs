//! Signals: which ones the server hears, and what each does.
//!
//! The default action of most signals ends the process. Which of them can come, where from, and
//! what comes of them:
//!
//! * SIGTERM, SIGINT, SIGPWR, SIGRTMIN+3, from service managers, from Ctrl-C, and from managers of
//!   containers, which halt a machine so (LXC, systemd-nspawn, Podman): stops in order, also a
//!   start that waits for an address. A second one later than a second stops at once; one that
//!   comes earlier is the same one, sent to the process and to its group.
//! * SIGXCPU, from the limit on processor time (`LimitCPU=`): stops in order, once. The limit is
//!   somebody's wish.
//! * SIGHUP, from `systemctl reload`: reads the settings again.
//! * SIGXFSZ, from a write beyond the limit on file sizes (`ulimit -f`, `LimitFSIZE=`), which any
//!   client can cause: nothing. The write fails with EFBIG, which is answered.
//! * SIGPIPE, from a write to a connection or a pipe that nobody reads: nothing. The runtime of
//!   Rust ignores it, and the write fails with EPIPE.
//! * SIGUSR2, from people who have installed a new version: puts it in the place of this one
//!   ([`super::successor`]).
//! * SIGUSR1, from people who are used to servers that reopen their logs: nothing but a line that
//!   says so.
//! * SIGALRM, SIGVTALRM, SIGPROF, SIGIO, from timers and descriptors that we do not have: the same.
//! * SIGTTOU, SIGTTIN, from a terminal whose job in the background we are (`stty tostop`), when the
//!   log is written to it: nothing. The log is written, and the server does not stand still until
//!   somebody brings it to the foreground.
//! * SIGQUIT, from Ctrl-\: as by default. The process ends and leaves a core, which is what it is
//!   for.
//! * SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT, from a fault of ours or a seccomp
//!   filter: as by default. Nothing that goes on could be trusted. No file is mapped into memory,
//!   so that a disk cannot cause SIGBUS.
//! * The others that end a process (SIGSTKFLT, the other real-time signals), from nobody: as by
//!   default.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::launch_error::LaunchError;
use super::stop_wish;
use crate::observe;

/// Signals to stop that come so soon after the first one are the same one.
const SAME: Duration = Duration::from_secs(1);

/// SIGRTMIN+3, as those count who send it.
const HALT: i32 = 37;

/// What somebody wants of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To stop; the second time, at once.
    Stop,
    /// To stop; a second time it says nothing new.
    Drain,
    /// To read its settings again.
    Reload,
    /// To make way for the program that is there now.
    Replace,
}

/// What came before anybody could hear it, by the places in [`HEARD`].
static BEFORE: OnceLock<[Arc<AtomicBool>; HEARD.len()]> = OnceLock::new();

/// Does this before a signal to stop ends the program, as that does by default.
pub fn before_the_end(tidy: impl Fn() + Send + 'static) {
    let Ok(mut signals) = Signals::new(STOPS) else {
        return;
    };
    let wait = move || {
        for signal in signals.forever() {
            tidy();
            let _nothing_is_left_to_say = emulate_default_handler(signal);
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    if thread.spawn(wait).is_err() {
        let_stops_end();
    }
}

/// Nobody hears them: the program ends by them.
fn let_stops_end() {
    for signal in STOPS {
        // SAFETY: it takes two numbers; no handler of ours is called.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Holds all signals back but those that stop: the first thing that a program does, which knows
/// what it is only when it has read its command line. What comes meanwhile waits in the kernel
/// until [`survive`] or [`let_through`].
pub fn hold_back() {
    set_mask(libc::SIG_BLOCK, |signal| !stops(signal));
}

/// Lets them through, with all that has waited: to do what they do by default. But a limit on the
/// size of files ends no command: what cannot be written is told as that. Nor does what is meant
/// for a server, and is sent to all programs of its name (`pkill -USR2 bitsd`).
pub fn let_through() {
    for signal in [SIGXFSZ, SIGUSR2] {
        // Should that fail, the default stays.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
    set_mask(libc::SIG_UNBLOCK, |signal| !stops(signal));
}

/// From now on none but those that stop the server ends it. A start may wait for an address for
/// seconds, and a reload may be asked for meanwhile: that is remembered until signals are heard.
///
/// # Errors
/// [`LaunchError::Signals`]
pub fn survive() -> Result<(), LaunchError> {
    let before = BEFORE.get_or_init(Default::default);
    for (signal, flag) in HEARD.into_iter().zip(before) {
        if !stops(signal) {
            let flag = Arc::clone(flag);
            signal_hook::flag::register(signal, flag).map_err(LaunchError::Signals)?;
        }
    }
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(LaunchError::Signals)?;
    // Where whoever started this program ignores its children, so does this program, and the
    // kernel tells nobody how one has ended (wait(2)).
    // SAFETY: it takes two numbers; no handler of ours is called.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // Also those that whoever started this program does not want to hear himself.
    set_mask(libc::SIG_UNBLOCK, |_| true);
    Ok(())
}

fn stops(signal: i32) -> bool {
    STOPS.contains(&signal)
}

/// Changes which of [`HEARD`] wait, for this thread and those that it begins.
fn set_mask(how: i32, is_meant: impl Fn(i32) -> bool) {
    // SAFETY: it is a plain set of bits, for which zeros are a value; the calls write to it and
    // read it, and get a pointer to nothing else.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in HEARD.into_iter().filter(|signal| is_meant(*signal)) {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// What came so far, each signal once.
fn came_before() -> Vec<i32> {
    let flags = BEFORE.get().into_iter().flatten();
    let came = HEARD.into_iter().zip(flags);
    let came = came.filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
    came.map(|(signal, _)| signal).collect()
}

/// Hears signals from now on, on a thread of its own; `tell` says whether anybody listens still.
///
/// # Errors
/// [`LaunchError`]
pub fn catch(tell: impl Fn(Wish) -> bool + Send + 'static) -> Result<(), LaunchError> {
    survive()?;
    ignore_the_terminal();
    let mut signals = Signals::new(HEARD).map_err(LaunchError::Signals)?;
    // What comes from here on is heard.
    let before = came_before();
    let wait = move || {
        let mut stops = Stops::default();
        for signal in before.into_iter().chain(signals.forever()) {
            let wish = wish_of(signal, &mut stops);
            if wish == Some(Wish::Stop) {
                stop_wish::note();
            }
            if wish.is_some_and(|wish| !tell(wish)) {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(wait).map(|_| ()).map_err(LaunchError::Thread)
}

/// What a signal asks for; a line says so where that is nothing.
fn wish_of(signal: i32, stops: &mut Stops) -> Option<Wish> {
    match signal {
        SIGHUP => Some(Wish::Reload),
        SIGUSR2 => Some(Wish::Replace),
        signal if self::stops(signal) => stops.counts(Instant::now()).then_some(Wish::Stop),
        SIGXCPU => {
            // It comes every second from then on.
            let is_first = stops.is_first(Instant::now());
            if is_first {
                let event = "processor_time_over";
                tracing::warn!(event, "the limit on processor time (LimitCPU=) is reached");
            }
            is_first.then_some(Wish::Stop)
        }
        other => {
            let name = signal_hook::low_level::signal_name(other).unwrap_or("?");
            observe::log_ignored_signal(name);
            None
        }
    }
}

/// Where a handler is called, the kernel does the write again after it, and calls it again: only
/// what is ignored lets a write from the background through.
fn ignore_the_terminal() {
    for signal in [libc::SIGTTOU, libc::SIGTTIN] {
        // SAFETY: it takes two numbers; no handler of ours is called.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// From now on nothing but a wish to stop ends this process, nor the program that takes its place
/// (execve(2) keeps what is ignored) until that hears signals itself.
pub fn ignore_all_but_stops() {
    let others = HEARD.into_iter().filter(|signal| !stops(*signal));
    for signal in others {
        // SAFETY: it takes two numbers; no handler of ours is called.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// The signals to stop so far.
#[derive(Default)]
struct Stops {
    first: Option<Instant>,
}

impl Stops {
    /// Whether this one is the first, or later than the first by enough to be another.
    fn counts(&mut self, now: Instant) -> bool {
        let first = *self.first.get_or_insert(now);
        first == now || now.duration_since(first) >= SAME
    }

    fn is_first(&mut self, now: Instant) -> bool {
        self.first.is_none() && self.counts(now)
    }
}

const STOPS: [i32; 4] = [SIGTERM, SIGINT, libc::SIGPWR, HALT];

const HEARD: [i32; 12] = [
    SIGTERM,
    SIGINT,
    libc::SIGPWR,
    HALT,
    SIGHUP,
    SIGXCPU,
    SIGUSR1,
    SIGUSR2,
    SIGALRM,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_does_not_stop_the_server() {
        ignore_the_terminal();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
        for signal in [libc::SIGTTOU, libc::SIGTTIN] {
            assert_ne!(ignored & 1 << (signal - 1), 0, "{signal}");
        }
    }

    #[test]
    fn a_second_signal_counts_when_it_can_be_no_echo() {
        let mut stops = Stops::default();
        let first = Instant::now();
        assert!(stops.counts(first));
        assert!(!stops.counts(first + Duration::from_millis(1)));
        assert!(!stops.counts(first + Duration::from_millis(999)));
        assert!(stops.counts(first + SAME));
        assert!(!stops.is_first(first + SAME));
    }
}
