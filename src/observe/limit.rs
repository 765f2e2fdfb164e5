//! How often a client can make the server say something.
//!
//! Two bounds, both of the whole process. **Per cause** (the kind of line, what the client heard,
//! and why): a burst of 100 lines, then ten a second. **Per client, path and cause**: one line a
//! minute, because who is refused tries again. What is left out is counted, and the count is told:
//! once a second for causes, after the minute for repetitions, and when the process ends.
//!
//! Whoever asks never waits. Counters are atomic, and where another thread is just looking at the
//! repetitions, a line counts as no repetition.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tracing::{Level, enabled};

use crate::coarse_clock;

/// Lines of one cause at once.
pub const BURST: u64 = 100;
/// Lines of one cause a second after that.
pub const PER_SECOND: u64 = 10;
/// For how long a repetition is left out.
pub const REPEAT_MS: u64 = 60_000;

/// Causes that are told apart: more than there are reasons for a refusal and kinds of lines.
const CAUSES_MAX: usize = 512;
/// Clients, paths and causes that are remembered.
const REPEATS_MAX: usize = 1_024;
/// How often the end of the process asks for what is remembered of clients.
const SETTLE_TRIES: usize = 50;
/// Milliseconds that a line costs.
const COST_MS: u64 = 1_000 / PER_SECOND;

/// Kinds of lines that a client can cause without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A head that was refused.
    RequestRefused,
    /// A packet that was refused.
    PacketRefused,
    /// A download that is not for whoever asked for it.
    DownloadRefused,
    /// A connection that ended in the middle of a head.
    EndedEarly,
    /// A connection more than the shard may hold.
    ConnectionRefused,
    /// A connection that could not be accepted.
    AcceptFailed,
    /// We ended a connection.
    ConnectionEnded,
    /// A session that ended without a byte, or was given up.
    SessionEnded,
    /// The disk refused something.
    DiskFailed,
    /// An application was not told, or did not take the file.
    NotTaken,
    /// A signal that means nothing here.
    SignalIgnored,
    /// A shard stood still.
    Stalled,
    /// A published file did not get what its folder gives.
    NotGiven,
    /// A file that was promised waits for its name.
    StagedUnnamed,
    /// A prefix differs from a path in case only.
    CaseDiffers,
    /// A client and we could not agree on how to speak.
    HandshakeFailed,
    /// Somebody who is not let in.
    NotLetIn,
    /// A Kerberos ticket was not believed.
    TicketRefused,
    /// Nobody can look at Kerberos tickets.
    TicketsUnusable,
    /// A file became shorter while it was sent.
    FileCut,
}

impl Kind {
    /// The word of such lines.
    pub const fn event(self) -> &'static str {
        match self {
            Self::RequestRefused => "request_refused",
            Self::PacketRefused => "packet_refused",
            Self::DownloadRefused => "download_refused",
            Self::EndedEarly => "connection_ended_early",
            Self::ConnectionRefused => "connection_refused",
            Self::AcceptFailed => "accept_failed",
            Self::ConnectionEnded => "connection_ended",
            Self::SessionEnded => "session_ended",
            Self::DiskFailed => "disk_failed",
            Self::NotTaken => "upload_not_taken",
            Self::SignalIgnored => "signal_ignored",
            Self::Stalled => "shard_stalled",
            Self::NotGiven => "not_given",
            Self::StagedUnnamed => "staged_unnamed",
            Self::CaseDiffers => "case_differs",
            Self::HandshakeFailed => "handshake_failed",
            Self::NotLetIn => "not_let_in",
            Self::TicketRefused => "ticket_refused",
            Self::TicketsUnusable => "tickets_unusable",
            Self::FileCut => "file_cut",
        }
    }
}

/// Whether a line of a limited kind may be written. One that the level leaves out uses nothing up.
pub fn may(level: Level, cause: Cause) -> bool {
    // The macro wants a constant.
    let is_enabled = match level {
        Level::WARN => enabled!(Level::WARN),
        Level::INFO => enabled!(Level::INFO),
        _ => enabled!(Level::DEBUG),
    };
    is_enabled && allow(cause)
}

/// Why a line is written: what is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    pub kind: Kind,
    /// The status that the client hears, or 0.
    pub status: u16,
    /// The error code of BITS that it hears, or another number that tells causes apart, or 0.
    pub code: u32,
    /// Why, in words that are the same each time; or nothing. What is refused without end for one
    /// reason hides no other.
    pub why: &'static str,
}

impl Cause {
    /// Of a kind that has only one.
    pub const fn of(kind: Kind) -> Self {
        Self {
            kind,
            status: 0,
            code: 0,
            why: "",
        }
    }
}

/// A number for what is the same, never 0.
fn number_of(what: impl Hash) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish().max(1)
}

/// What makes a line the same line again, beside its cause.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Repeated<'a> {
    pub client: IpAddr,
    /// What it asked for.
    pub path: &'a str,
    /// Why it did not get it.
    pub why: &'a str,
}

/// Lines that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// Of one cause.
    Cause(Cause, u64),
    /// Of one client, for one path.
    Repeat {
        cause: Cause,
        client: IpAddr,
        /// What it asked for.
        path: Box<str>,
        /// Why it did not get it.
        why: Box<str>,
        lines: u64,
    },
}

/// The limits of one process.
pub struct Limits {
    causes: [Bucket; CAUSES_MAX],
    repeats: Mutex<Vec<Repeat>>,
}

struct Bucket {
    /// The number of its cause; 0 while it has none.
    number: AtomicU64,
    /// The cause that came first.
    cause: OnceLock<Cause>,
    /// Until when the lines so far have used up what is given, in milliseconds.
    used_ms: AtomicU64,
    left_out: AtomicU64,
}

struct Repeat {
    hash: u64,
    since_ms: u64,
    cause: Cause,
    client: IpAddr,
    path: Box<str>,
    why: Box<str>,
    left_out: u64,
}

impl Repeat {
    /// How often it came again, if it did.
    fn tell(&mut self, tell: &mut dyn FnMut(LeftOut)) {
        if self.left_out > 0 {
            tell(LeftOut::Repeat {
                cause: self.cause,
                client: self.client,
                path: std::mem::take(&mut self.path),
                why: std::mem::take(&mut self.why),
                lines: self.left_out,
            });
        }
    }
}

impl Limits {
    /// With nothing used up.
    pub const fn new() -> Self {
        Self {
            causes: [const {
                Bucket {
                    number: AtomicU64::new(0),
                    cause: OnceLock::new(),
                    used_ms: AtomicU64::new(0),
                    left_out: AtomicU64::new(0),
                }
            }; CAUSES_MAX],
            repeats: Mutex::new(Vec::new()),
        }
    }

    /// Whether a line may be written now; if not, it is counted.
    pub fn allow(&self, now_ms: u64, cause: Cause) -> bool {
        let bucket = self.bucket(cause);
        let used = bucket.used_ms.load(Ordering::Relaxed);
        let from = used.max(now_ms);
        let has_room = from - now_ms <= (BURST - 1) * COST_MS;
        // Whoever is overtaken by another shard counts as one too many: it is a flood then.
        let is_allowed = has_room
            && (bucket.used_ms)
                .compare_exchange(used, from + COST_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_allowed {
            bucket.left_out.fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }

    /// [`Limits::allow`] for a client that may repeat itself.
    pub fn allow_once(&self, now_ms: u64, cause: Cause, by: Repeated<'_>) -> bool {
        !self.is_repetition(now_ms, cause, by) && self.allow(now_ms, cause)
    }

    fn is_repetition(&self, now_ms: u64, cause: Cause, by: Repeated<'_>) -> bool {
        let hash = number_of((cause, by));
        let Ok(mut repeats) = self.repeats.try_lock() else {
            return false;
        };
        if let Some(known) = repeats.iter_mut().find(|known| known.hash == hash) {
            known.left_out += 1;
            return true;
        }
        if repeats.len() < REPEATS_MAX {
            repeats.push(Repeat {
                hash,
                since_ms: now_ms,
                cause,
                client: by.client,
                path: in_short(by.path),
                why: in_short(by.why),
                left_out: 0,
            });
        }
        false
    }

    /// Tells what was left out since the last time, and forgets repetitions whose minute is over.
    pub fn tell(&self, now_ms: u64, tell: &mut dyn FnMut(LeftOut)) {
        self.tell_causes(tell);
        let Ok(mut repeats) = self.repeats.try_lock() else {
            return;
        };
        repeats.retain_mut(|repeat| {
            let is_over = now_ms.saturating_sub(repeat.since_ms) >= REPEAT_MS;
            if is_over {
                repeat.tell(tell);
            }
            !is_over
        });
    }

    /// Tells all that was left out, and forgets the repetitions: nobody is there to do so when
    /// their minute is over.
    pub fn settle(&self, tell: &mut dyn FnMut(LeftOut)) {
        self.tell_causes(tell);
        // Others hold it for moments. A thread that panics may do so for ever.
        for _ in 0..SETTLE_TRIES {
            if let Ok(mut repeats) = self.repeats.try_lock() {
                repeats.drain(..).for_each(|mut repeat| repeat.tell(tell));
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn tell_causes(&self, tell: &mut dyn FnMut(LeftOut)) {
        for bucket in &self.causes {
            let Some(cause) = bucket.cause.get() else {
                continue;
            };
            if let lines @ 1.. = bucket.left_out.swap(0, Ordering::Relaxed) {
                tell(LeftOut::Cause(*cause, lines));
            }
        }
    }

    /// The bucket of a cause. Should there ever be more causes than buckets, the last ones share
    /// one.
    fn bucket(&self, cause: Cause) -> &Bucket {
        let number = number_of(cause);
        for bucket in &self.causes {
            let mut found = bucket.number.load(Ordering::Relaxed);
            if found == 0 {
                let free = (bucket.number).compare_exchange(
                    0,
                    number,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                found = free.map_or_else(|found| found, |_| number);
            }
            if found == number {
                bucket.cause.get_or_init(|| cause);
                return bucket;
            }
        }
        &self.causes[CAUSES_MAX - 1]
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of a path that are remembered for the line about its repetitions.
const PATH_BYTES_MAX: usize = 256;

fn in_short(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(PATH_BYTES_MAX)].into()
}

/// The limits of this process.
static LIMITS: Limits = Limits::new();

/// [`Limits::allow`] now.
pub fn allow(cause: Cause) -> bool {
    LIMITS.allow(coarse_clock::ms(), cause)
}

/// [`Limits::allow_once`] now.
pub fn allow_once(cause: Cause, by: Repeated<'_>) -> bool {
    LIMITS.allow_once(coarse_clock::ms(), cause, by)
}

/// [`Limits::tell`] now.
pub fn tell(tell: &mut dyn FnMut(LeftOut)) {
    LIMITS.tell(coarse_clock::ms(), tell);
}

/// [`Limits::settle`] of this process.
pub fn settle(tell: &mut dyn FnMut(LeftOut)) {
    LIMITS.settle(tell);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAUSE: Cause = Cause {
        kind: Kind::PacketRefused,
        status: 400,
        code: 0x8007_0057,
        why: "",
    };
    const OTHER: Cause = Cause::of(Kind::EndedEarly);

    fn told(limits: &Limits, now_ms: u64) -> Vec<LeftOut> {
        let mut all = Vec::new();
        limits.tell(now_ms, &mut |left_out| all.push(left_out));
        all
    }

    /// What is told of so many lines for `by(1, "in/a")` that were left out.
    fn repeated(lines: u64) -> LeftOut {
        LeftOut::Repeat {
            cause: CAUSE,
            client: IpAddr::from([192, 0, 2, 1]),
            path: "in/a".into(),
            why: "y".into(),
            lines,
        }
    }

    fn by(last: u8, path: &str) -> Repeated<'_> {
        Repeated {
            client: IpAddr::from([192, 0, 2, last]),
            path,
            why: "y",
        }
    }

    #[test]
    fn a_flood_is_a_burst_and_then_ten_lines_a_second() {
        let limits = Limits::new();
        let mut at = vec![];
        for ms in 1_000..6_000 {
            // Ten in each millisecond.
            at.extend((0..10).filter(|_| limits.allow(ms, CAUSE)).map(|_| ms));
        }
        assert_eq!(at.iter().filter(|ms| **ms < 1_100).count(), 100);
        assert_eq!(at.iter().filter(|ms| **ms >= 1_100).count(), 49);
        let left_out = 50_000 - at.len() as u64;
        assert_eq!(told(&limits, 6_000), [LeftOut::Cause(CAUSE, left_out)]);
        assert_eq!(told(&limits, 6_001), [], "told once");
        // Ten seconds of quiet give the whole burst back, and no more.
        assert_eq!(
            (0..500).filter(|_| limits.allow(30_000, CAUSE)).count(),
            100
        );
    }

    #[test]
    fn one_cause_does_not_use_up_the_lines_of_another() {
        let limits = Limits::new();
        while limits.allow(0, CAUSE) {}
        assert!(limits.allow(0, OTHER));
        assert!(!limits.allow(0, CAUSE));
        let why = "another reason for the same status";
        assert!(limits.allow(0, Cause { why, ..CAUSE }));
        let more_causes = (0..u16::MAX).map(|status| Cause { status, ..CAUSE });
        more_causes.for_each(|cause| {
            limits.allow(0, cause);
        });
        let left_out = told(&limits, 0);
        assert!(left_out.len() <= CAUSES_MAX, "bounded");
    }

    #[test]
    fn a_client_that_repeats_itself_is_one_line_and_a_count_after_a_minute() {
        let limits = Limits::new();
        assert!(limits.allow_once(0, CAUSE, by(1, "in/a")));
        for ms in 1..=240 {
            assert!(!limits.allow_once(ms, CAUSE, by(1, "in/a")));
        }
        let other_reason = Repeated {
            why: "z",
            ..by(1, "in/a")
        };
        for (cause, by) in [
            (OTHER, by(1, "in/a")),
            (CAUSE, by(2, "in/a")),
            (CAUSE, by(1, "in/b")),
            (CAUSE, other_reason),
        ] {
            assert!(limits.allow_once(300, cause, by), "another");
        }
        assert_eq!(told(&limits, 1_000), []);
        let expected = repeated(240);
        assert_eq!(told(&limits, REPEAT_MS), [expected]);
        assert!(limits.allow_once(REPEAT_MS, CAUSE, by(1, "in/a")));
    }

    #[test]
    fn what_is_owed_is_told_at_the_end_before_the_minute_is_over() {
        let limits = Limits::new();
        for _ in 0..8 {
            limits.allow_once(0, CAUSE, by(1, "in/a"));
        }
        limits.allow_once(0, CAUSE, by(2, "in/a"));
        assert_eq!(told(&limits, 1_000), []);
        let mut all = Vec::new();
        limits.settle(&mut |left_out| all.push(left_out));
        let expected = repeated(7);
        assert_eq!(all, [expected]);
        limits.settle(&mut |left_out| panic!("it was told: {left_out:?}"));
        assert_eq!(told(&limits, REPEAT_MS), []);
    }

    #[test]
    fn what_is_remembered_of_clients_is_bounded() {
        let limits = Limits::new();
        for number in 0..100_000 {
            limits.allow_once(0, CAUSE, by(1, &format!("in/{number}")));
        }
        assert_eq!(limits.repeats.lock().unwrap().len(), REPEATS_MAX);
    }
}
