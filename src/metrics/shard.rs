//! What one shard counts.

use std::sync::OnceLock;

use super::count::{Count, Gauge, Sizes, Times};
use super::labels;
use super::{OTHER, SERIES_MAX};
use crate::bits::packet::PacketKind;
use crate::bits::session::State;
use crate::event::{DiskOp, Event, Relayed, Told};

/// The numbers of one shard. On cache lines of their own: no two shards write to the same one.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardMetrics {
    /// When the shard was last seen to run, in milliseconds of its clock; 0 before that.
    pub beat_ms: Gauge,
    /// Processor time of its thread, in microseconds.
    pub busy_us: Gauge,
    /// Sessions are still to be read back: 1 or 0.
    pub is_recovering: Gauge,
    /// Sessions that wait for a disk that was not there at the start.
    pub sessions_left: Gauge,
    /// What there is too little of for another session: 0 if nothing, or its number among
    /// [`Scarce::ALL`](crate::bits::refusal::Scarce::ALL), counted from 1.
    pub lacks: Gauge,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that got a place.
    pub connected: Count,
    /// Connections that found no place.
    pub turned_away: Count,
    /// Connections that were given to another shard.
    pub moved: Count,
    /// Connections that broke off in the middle of a packet.
    pub broke_off: Count,
    /// Connections that ended in the middle of a head.
    pub ended_early: Count,
    /// Connections on which TLS did not come about.
    pub handshakes_failed: Count,
    /// Connections that were not let in for where they come from.
    pub not_let_in: Count,
    /// Connections that we ended, by [`labels::HANGUPS`].
    pub hangups: [Count; labels::HANGUPS.len()],
    /// Requests that are no HTTP, or more than we take.
    pub bad_requests: Count,
    /// Packets that were answered, by [`labels::PACKETS`] and [`labels::CODES`].
    pub packets: [[Count; labels::CODES.len()]; labels::PACKETS.len()],
    /// Packets that were refused, by [`labels::REASONS`].
    pub refused: [Count; labels::REASONS.len()],
    /// Downloads that were refused, by [`labels::CODES`].
    pub downloads_refused: [Count; labels::CODES.len()],
    /// Passwords that were compared with a hash, which takes long on purpose.
    pub passwords_compared: Count,
    /// Times at which one thing took so long that nobody else had a turn.
    pub stalls: Count,
    /// How long all of them took, in milliseconds.
    pub stalled_ms: Count,
    /// Processor time of each turn in which it answered an administrator.
    pub answers: Times,
    /// Times at which a body found none.
    pub blocks_exhausted: Count,
    /// How long calls of the disk took: of those that [`TIMED`] names.
    pub disk: [Times; TIMED.len()],
    /// When an upload was last refused because of the disk, by [`ShardMetrics::beat_ms`]; 0 if none
    /// was.
    pub disk_refused_ms: Gauge,
    /// Why, by [`labels::REASONS`].
    pub disk_refused: Gauge,
    /// When an upload was last taken, by [`ShardMetrics::beat_ms`].
    pub taken_ms: Gauge,
    /// Bytes that were written, by [`labels::ROUTES`].
    pub written: [Count; labels::ROUTES.len()],
    /// Calls that failed, by [`labels::DISK_OPS`].
    pub disk_errors: [Count; labels::DISK_OPS.len()],
    /// Applications that were told of a file, by [`labels::TOLD`].
    pub notifications: [Count; labels::TOLD.len()],
    /// Those that have not answered yet.
    pub notifying: Gauge,
    /// How long they took to answer.
    pub notified: Times,
    /// What targets of events are to hear, by [`labels::TARGETS`].
    pub events: [TargetMetrics; labels::TARGETS.len()],
    /// Files of the work directory that were set aside.
    pub set_aside: Count,
    /// Sessions that were read back at the start.
    pub recovered: Count,
    /// By the number of a location's series; made when the shard takes the location over.
    locations: [OnceLock<Box<LocationMetrics>>; SERIES_MAX],
}

/// The numbers of one target of events on one shard.
#[derive(Debug, Default)]
pub struct TargetMetrics {
    /// Events that it is still to have.
    pub pending: Gauge,
    /// When the oldest of them happened, in milliseconds since 1970; 0 if there is none.
    pub oldest_ms: Gauge,
    /// Events that it has said to have.
    pub sent: Count,
    /// Times at which it did not.
    pub failed: Count,
}

/// The numbers of one location on one shard.
#[derive(Debug, Default)]
pub struct LocationMetrics {
    /// Bytes that were stored.
    pub received: Count,
    /// Bytes that came for nothing: they were there, or others before them were not.
    pub skipped: Count,
    /// Sessions that have not ended, by [`labels::STATES`].
    pub sessions: [Gauge; labels::STATES.len()],
    /// Bytes of them that are here.
    pub unfinished_bytes: Gauge,
    /// Bytes that are still to come, of those whose size is known.
    pub promised_bytes: Gauge,
    /// When the oldest of them was begun, in seconds since 1970; 0 where there is none. Kept by
    /// [`super::beginnings`].
    pub oldest_s: Gauge,
    /// Sessions that were made.
    pub created: Count,
    /// Sessions that ended, by [`labels::ENDINGS`].
    pub ended: [Count; labels::ENDINGS.len()],
    /// Uploads that went on after an interruption.
    pub resumed: Count,
    /// Sessions that a newer connection took over.
    pub taken_over: Count,
    /// How long fragments took, from their head to their answer.
    pub fragments: Times,
    /// How long uploads took that came to a good end, in microseconds, over all restarts.
    pub uploads: Times,
    /// How large their files were.
    pub sizes: Sizes,
}

/// What is timed of the disk.
pub const TIMED: [DiskOp; 4] = [DiskOp::Write, DiskOp::Sync, DiskOp::Publish, DiskOp::Record];

impl Default for ShardMetrics {
    fn default() -> Self {
        let metrics = Self {
            beat_ms: Gauge::default(),
            busy_us: Gauge::default(),
            is_recovering: Gauge::default(),
            sessions_left: Gauge::default(),
            lacks: Gauge::default(),
            connections: Gauge::default(),
            connected: Count::default(),
            turned_away: Count::default(),
            moved: Count::default(),
            broke_off: Count::default(),
            ended_early: Count::default(),
            handshakes_failed: Count::default(),
            not_let_in: Count::default(),
            hangups: zeros(),
            bad_requests: Count::default(),
            packets: std::array::from_fn(|_| zeros()),
            refused: zeros(),
            downloads_refused: zeros(),
            passwords_compared: Count::default(),
            stalls: Count::default(),
            stalled_ms: Count::default(),
            answers: Times::default(),
            blocks_exhausted: Count::default(),
            disk: std::array::from_fn(|_| Times::default()),
            disk_refused_ms: Gauge::default(),
            disk_refused: Gauge::default(),
            taken_ms: Gauge::default(),
            written: zeros(),
            disk_errors: zeros(),
            notifications: zeros(),
            notifying: Gauge::default(),
            notified: Times::default(),
            events: std::array::from_fn(|_| TargetMetrics::default()),
            set_aside: Count::default(),
            recovered: Count::default(),
            locations: std::array::from_fn(|_| OnceLock::new()),
        };
        metrics.begin(OTHER);
        metrics.is_recovering.set(1);
        metrics
    }
}

fn zeros<const COUNTS: usize>() -> [Count; COUNTS] {
    std::array::from_fn(|_| Count::default())
}

/// How an application was told, among [`labels::TOLD`].
fn place_of(told: &Told<'_>) -> usize {
    match told {
        Told::Answered(200) => labels::TAKEN,
        Told::Answered(_) => labels::REFUSED,
        Told::Senseless(_) | Told::Failed(_) => labels::FAILED,
    }
}

impl ShardMetrics {
    /// The shard takes over a location of this series.
    pub fn begin(&self, series: usize) {
        if let Some(location) = self.locations.get(series) {
            location.get_or_init(Box::default);
        }
    }

    /// What is counted of a location. Of one that was never taken over: that of all others.
    pub fn location(&self, series: usize) -> &LocationMetrics {
        let found = self.locations.get(series).and_then(OnceLock::get);
        let other = || self.locations[OTHER].get().expect("made with the rest");
        found.unwrap_or_else(other)
    }

    /// A call of the disk took so long.
    pub fn took(&self, op: DiskOp, us: u64) {
        if let Some(at) = TIMED.iter().position(|timed| *timed == op) {
            self.disk[at].note(us);
        }
    }

    /// Something happened. Beside the log, this is the only reader of events in a server.
    pub fn on(&self, event: &Event<'_>) {
        match event {
            Event::Connected { .. } => self.connected.add(1),
            Event::ConnectionRefused { .. } => self.turned_away.add(1),
            Event::HungUp { why, .. } => self.hangups[labels::hangup(*why)].add(1),
            Event::Stalled { ms, .. } => {
                self.stalls.add(1);
                self.stalled_ms.add(*ms);
            }
            Event::BadRequest { .. } => self.bad_requests.add(1),
            Event::HandshakeFailed { .. } => self.handshakes_failed.add(1),
            Event::NotLetIn { .. } => self.not_let_in.add(1),
            Event::EndedEarly { .. } => self.ended_early.add(1),
            Event::BrokeOff { .. } => self.broke_off.add(1),
            Event::Answered {
                packet,
                status,
                why,
                ..
            } => {
                self.packets[labels::packet(*packet)][labels::code(*status)].add(1);
                match why {
                    None if *packet == Some(PacketKind::CreateSession) => {
                        self.taken_ms.set(self.beat_ms.get());
                    }
                    Some(why) if why.is_of_disk() => {
                        self.disk_refused.set(labels::reason(why) as u64);
                        self.disk_refused_ms.set(self.beat_ms.get());
                    }
                    None | Some(_) => {}
                }
            }
            Event::Refused { why, .. } => self.refused[labels::reason(why)].add(1),
            Event::DownloadRefused { status, .. } => {
                self.downloads_refused[labels::code(*status)].add(1);
            }
            Event::Moved { .. } => self.moved.add(1),
            Event::Relayed { target, how, .. } => {
                let Some(target) = labels::target(target) else {
                    return;
                };
                let counts = &self.events[target];
                match how {
                    Relayed::Taken { .. } => counts.sent.add(1),
                    Relayed::NotTaken { .. } => counts.failed.add(1),
                }
            }
            Event::Notified { told, .. } => self.notifications[place_of(told)].add(1),
            Event::Recovered { sessions, .. } => self.recovered.add(*sessions as u64),
            Event::SetAside { .. } => self.set_aside.add(1),
            Event::DiskFailed { op, .. } => self.disk_errors[labels::disk_op(*op)].add(1),
            Event::BlocksExhausted => self.blocks_exhausted.add(1),
            Event::SessionCreated { .. }
            | Event::FragmentStored { .. }
            | Event::Repeated { .. }
            | Event::Gap { .. }
            | Event::SessionResumed { .. }
            | Event::SessionTakenOver { .. }
            | Event::SessionEnded { .. } => self.on_session(event),
            // What they tell of is counted otherwise, or is for a person to read.
            Event::Orphaned { .. }
            | Event::PartsMissing { .. }
            | Event::StagedLost { .. }
            | Event::StagedUnnamed { .. }
            | Event::FileCut { .. }
            | Event::Announced { .. }
            | Event::TicketRefused { .. }
            | Event::TicketsUnusable { .. }
            | Event::Secured { .. }
            | Event::Shown { .. }
            | Event::CaseDiffers { .. }
            | Event::SessionSealed { .. }
            | Event::ReadAgain { .. }
            | Event::FileChanged { .. }
            | Event::SessionRecovered { .. }
            | Event::NobodyToTell { .. }
            | Event::NotGiven { .. }
            | Event::NotServed { .. } => {}
        }
    }

    fn on_session(&self, event: &Event<'_>) {
        match event {
            Event::SessionCreated { series, .. } => self.location(*series).created.add(1),
            Event::FragmentStored {
                series, skipped, ..
            } => self.location(*series).skipped.add(*skipped),
            Event::Repeated { series, bytes, .. } | Event::Gap { series, bytes, .. } => {
                self.location(*series).skipped.add(*bytes);
            }
            Event::SessionResumed { series, .. } => self.location(*series).resumed.add(1),
            Event::SessionTakenOver { series, .. } => self.location(*series).taken_over.add(1),
            Event::SessionEnded {
                series,
                ending,
                by_administrator,
                received,
                duration_ms,
                ..
            } => {
                let location = self.location(*series);
                location.ended[labels::ending((*ending, *by_administrator))].add(1);
                if ending.is_good() {
                    location.sizes.note(*received);
                    if let Some(ms) = duration_ms {
                        location.uploads.note(ms.saturating_mul(1_000));
                    }
                }
            }
            _ => {}
        }
    }
}

/// What one session adds to the gauges of its location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauged {
    received: u64,
    promised: u64,
    /// In seconds since 1970; 0 if nobody knows. Every session has one of these: so they are
    /// narrow.
    begun_s: u32,
    series: u16,
    state: u8,
}

impl Gauged {
    /// Of a session of this series, begun in this millisecond since 1970 (0 if nobody knows);
    /// `None` where it has ended.
    pub fn of(series: usize, state: State, begun_ms: u64) -> Option<Self> {
        if let State::Gone(_) = state {
            return None;
        }
        let received = state.received();
        let total = state.total().unwrap_or(received);
        Some(Self {
            received,
            promised: total.saturating_sub(received),
            begun_s: u32::try_from(begun_ms / 1_000).unwrap_or(u32::MAX),
            series: u16::try_from(series.min(OTHER)).expect("so few"),
            state: u8::try_from(labels::state(state)).expect("so few"),
        })
    }

    /// Of which series it is and when it was begun, if that is known.
    pub(super) fn begun(self) -> Option<(u16, u32)> {
        (self.begun_s > 0).then_some((self.series, self.begun_s))
    }
}

impl ShardMetrics {
    /// A session that was counted as `before` stands otherwise `now`; `None` where it is not, or
    /// no more.
    pub fn recount(&self, before: Option<Gauged>, now: Option<Gauged>) {
        if let Some(before) = before {
            let location = self.location(before.series.into());
            location.sessions[usize::from(before.state)].take(1);
            location.unfinished_bytes.take(before.received);
            location.promised_bytes.take(before.promised);
        }
        if let Some(now) = now {
            let location = self.location(now.series.into());
            location.sessions[usize::from(now.state)].add(1);
            location.unfinished_bytes.add(now.received);
            location.promised_bytes.add(now.promised);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
        assert_eq!(size_of::<ShardMetrics>() % 128, 0);
    }

    #[test]
    fn only_what_an_application_has_taken_is_taken() {
        let places = [
            (Told::Answered(200), labels::TAKEN),
            (Told::Answered(204), labels::REFUSED),
            (Told::Answered(403), labels::REFUSED),
            (Told::Senseless(&"a 200"), labels::FAILED),
            (Told::Failed(&"nobody there"), labels::FAILED),
        ];
        for (told, place) in places {
            assert_eq!(place_of(&told), place, "{told:?}");
        }
    }

    #[test]
    fn a_session_is_counted_where_it_stands_and_no_more_when_it_ends() {
        let metrics = ShardMetrics::default();
        metrics.begin(3);
        let receiving = |received| State::Receiving {
            received,
            total: Some(100),
        };
        let begun = Gauged::of(3, receiving(0), 7_000);
        metrics.recount(None, begun);
        let further = Gauged::of(3, receiving(60), 7_000);
        metrics.recount(begun, further);
        let location = metrics.location(3);
        let read = |state| location.sessions[labels::state(state)].get();
        assert_eq!(read(receiving(0)), 1);
        let bytes = || {
            (
                location.unfinished_bytes.get(),
                location.promised_bytes.get(),
            )
        };
        assert_eq!(bytes(), (60, 40));
        let sealed = Gauged::of(3, State::Sealed { total: 100 }, 7_000);
        metrics.recount(further, sealed);
        assert_eq!(
            (read(receiving(0)), read(State::Sealed { total: 100 })),
            (0, 1)
        );
        assert_eq!(bytes(), (100, 0));
        metrics.recount(sealed, None);
        assert_eq!((read(State::Sealed { total: 100 }), bytes()), (0, (0, 0)));
        // One that nobody has taken over counts with the others, and is no panic.
        metrics.recount(None, Gauged::of(9, receiving(1), 7_000));
        assert_eq!(metrics.location(OTHER).unfinished_bytes.get(), 1);
        assert_eq!(metrics.location(SERIES_MAX).unfinished_bytes.get(), 1);
    }
}
