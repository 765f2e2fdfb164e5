//! How a shard parts from its connections before it ends, so that no request is cut.
//!
//! A request under way gets its answer, with `Connection: close`. A connection without one is the
//! difficulty: whoever closes it may meet a request that is on its way, and a client whose request
//! was cut waits (BITS for ten minutes), while one that was answered goes on at once. So what has
//! come is always served. A client that was served a moment ago is given the time to send the next
//! request, and one that has just connected the time to send its first. Only then is our side
//! ended, and what still comes is read for a moment, so that the client finds an end and no reset:
//! then HTTP lets it send the request again on another connection (RFC 9112 9.3.1).
//!
//! Nobody holds the end up for nothing: a head that does not go on, the rest of a body that is only
//! read to be dropped, and an answer that nobody takes are given up much sooner than a fragment.
//!
//! Where the listeners outlive the server, newcomers are served as long as such a client is waited
//! for. So nobody waits longer for its sake, and it may be far away or have much else to do.

use super::connection::Connection;
use super::floor::{Wire as _, World};
use super::patience::{FAREWELL_DRAIN_MS, Waiting};
use super::phase::Phase;
use super::shard::{Newcomers, Shard};
use crate::event::Hangup;
use crate::vault::disk::Millis;

/// A client that goes on has sent its next request so long after the answer, in milliseconds.
const BETWEEN_MS: u64 = 250;
/// The same where newcomers are served meanwhile.
const BETWEEN_SERVED_MS: u64 = 1_000;
/// A client that has connected has sent its first request, or its part of the handshake, after so
/// long.
const FIRST_MS: u64 = 1_000;
/// What crosses our end on its way has come after so long.
const CROSSING_MS: u64 = 250;
/// A head that has begun is whole after so long.
const HEAD_MS: u64 = 2_000;
/// Of a body of which nothing is stored, more has come after so long.
const REST_MS: u64 = 1_000;
/// Of an answer, more was taken after so long.
const ANSWER_MS: u64 = 5_000;

/// What is done with a connection while its shard ends.
#[derive(Debug, PartialEq, Eq)]
enum Parting {
    /// It has a request under way, or may have one soon.
    Stay,
    /// Our side is ended.
    Leave,
    /// All of it is ended.
    HangUp,
}

impl<W: World> Shard<W> {
    /// Parts from connections on which nothing is under way. To be called every few moments from
    /// [`Self::drain`] on, until there are none.
    pub fn part_from_idle(&self, newcomers: Newcomers) {
        if self.phase() != Phase::Draining {
            return;
        }
        let now = self.world.now();
        for connection in self.connections.borrow().values() {
            match parting(connection, newcomers, now) {
                Parting::Stay => {}
                // It has come, and is about to be read.
                Parting::Leave if connection.wire.has_unread() => {}
                Parting::Leave => connection.leave(now),
                Parting::HangUp => connection.hang_up(Hangup::Draining),
            }
        }
    }

    /// Whether a client is waited for that was served before the shard began to end. That is over
    /// after `BETWEEN_SERVED_MS` at the most: each answer now is the last one of its connection.
    pub fn awaits_who_was_served(&self) -> bool {
        let is_awaited = |connection: &Connection<W>| {
            let waiting = connection.patience.waiting();
            waiting == Waiting::Request && !connection.is_new() && !connection.is_hung_up()
        };
        self.connections
            .borrow()
            .values()
            .any(|one| is_awaited(one))
    }
}

fn parting<W: World>(connection: &Connection<W>, newcomers: Newcomers, now: Millis) -> Parting {
    if connection.is_hung_up() {
        return Parting::Stay;
    }
    judge(
        newcomers,
        connection.patience.waiting(),
        connection.patience.waited_ms(now),
        connection.is_new(),
        connection.is_leaving(),
    )
}

fn judge(
    newcomers: Newcomers,
    waiting: Waiting,
    waited_ms: u64,
    is_new: bool,
    is_leaving: bool,
) -> Parting {
    let (ms_max, then) = match waiting {
        Waiting::Request if is_new => (FIRST_MS, Parting::Leave),
        Waiting::Request => match newcomers {
            Newcomers::AreServed => (BETWEEN_SERVED_MS, Parting::Leave),
            Newcomers::Wait => (BETWEEN_MS, Parting::Leave),
        },
        Waiting::Handshake => (FIRST_MS, Parting::HangUp),
        Waiting::Farewell if is_leaving => (CROSSING_MS, Parting::HangUp),
        Waiting::Farewell => (FAREWELL_DRAIN_MS, Parting::HangUp),
        Waiting::Head => (HEAD_MS, Parting::HangUp),
        Waiting::Rest => (REST_MS, Parting::HangUp),
        Waiting::Answer => (ANSWER_MS, Parting::HangUp),
        Waiting::Body | Waiting::Nothing => return Parting::Stay,
    };
    match waited_ms >= ms_max {
        true => then,
        false => Parting::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_parted_from_who_may_have_sent_something() {
        use Parting::{HangUp, Leave, Stay};
        for (waiting, waited_ms, is_new, is_leaving, expected) in [
            (Waiting::Request, 249, false, false, Stay),
            (Waiting::Request, 250, false, false, Leave),
            (Waiting::Request, 999, true, false, Stay),
            (Waiting::Request, 1_000, true, false, Leave),
            (Waiting::Handshake, 999, true, false, Stay),
            (Waiting::Handshake, 1_000, true, false, HangUp),
            (Waiting::Farewell, 249, false, true, Stay),
            (Waiting::Farewell, 250, false, true, HangUp),
            (Waiting::Farewell, 499, false, false, Stay),
            (Waiting::Farewell, 500, false, false, HangUp),
            (Waiting::Head, 1_999, false, false, Stay),
            (Waiting::Head, 2_000, true, false, HangUp),
            (Waiting::Body, u64::MAX, false, false, Stay),
            (Waiting::Rest, 999, false, false, Stay),
            (Waiting::Rest, 1_000, false, false, HangUp),
            (Waiting::Answer, 4_999, false, false, Stay),
            (Waiting::Answer, 5_000, false, false, HangUp),
            (Waiting::Nothing, u64::MAX, false, false, Stay),
        ] {
            let verdict = judge(Newcomers::Wait, waiting, waited_ms, is_new, is_leaving);
            assert_eq!(verdict, expected, "{waiting:?} {waited_ms}");
        }
        for (waited_ms, expected) in [(250, Stay), (999, Stay), (1_000, Leave)] {
            let verdict = judge(
                Newcomers::AreServed,
                Waiting::Request,
                waited_ms,
                false,
                false,
            );
            assert_eq!(verdict, expected, "{waited_ms}");
        }
    }
}
