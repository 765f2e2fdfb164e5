//! How many handshakes a shard begins in a second.
//!
//! A handshake costs us far more than whoever asks for it (a signature with RSA takes more than
//! half a millisecond), and anybody can ask without end. So there is a rate, and what is beyond it
//! waits for its turn: the uploads that run have theirs in between. Where the wait would be long,
//! it is better to be told so at once.
//!
//! One client that asks without end would fill that line, so that all others hear so. So as soon as
//! the line is half full, whoever has a quarter of it gets no more turns: the rest is for others.
//! Until then it has no share, for nobody else needs the room: a whole site may be one client,
//! behind one address. Nor does the share make that slower: as many begin in a second whether a
//! second's worth of its turns wait, or two.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use crate::server::crowd::Crowd;

/// After a pause so many microseconds' worth of turns may be taken at once: a few clients that come
/// together need not wait for each other.
const BURST_US: u64 = 100_000;
/// The longest wait, in microseconds. Clients wait for 30 seconds and more, but whoever is that far
/// behind will not be the last.
const WAIT_US_MAX: u64 = 2_000_000;
/// Where the wait is longer, a client has a share.
const SHARED_WAIT_US: u64 = WAIT_US_MAX / 2;
/// So long a wait is made of the turns of one client, at the most, where it has a share.
const SHARE_US: u64 = WAIT_US_MAX / 4;

/// The handshakes of one shard.
#[derive(Debug, Default)]
pub struct Pace {
    /// Microseconds from one to the next; 0: there is no rate.
    each_us: Cell<u64>,
    /// When the next one may begin.
    next_us: Cell<u64>,
    /// Whose turns are waited for. Only who waits stands in it.
    waiting: RefCell<Crowd>,
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// More wait already than begin within the longest wait.
    OfAll,
    /// As many of this client wait as may beside others.
    OfClient,
}

/// A turn that is taken; dropped when it has come.
#[derive(Debug)]
#[must_use]
pub struct WaitingTurn<'p> {
    /// How many microseconds from now it comes.
    pub wait_us: u64,
    waiting: Option<(&'p Pace, IpAddr)>,
}

impl Drop for WaitingTurn<'_> {
    fn drop(&mut self) {
        if let Some((pace, client)) = self.waiting {
            pace.waiting.borrow_mut().leave(client);
        }
    }
}

impl Pace {
    /// So many a second.
    pub fn set(&self, per_second: u64) {
        self.each_us.set(1_000_000 / per_second.max(1));
    }

    /// Takes the next turn, at `now_us`, for a client as [`crate::server::crowd::client`] counts
    /// one; `None` has no share, for it may be anybody behind a proxy.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn turn(&self, client: Option<IpAddr>, now_us: u64) -> Result<WaitingTurn<'_>, TooMany> {
        let at = self.next_us.get().max(now_us.saturating_sub(BURST_US));
        let wait_us = at.saturating_sub(now_us);
        if wait_us > WAIT_US_MAX {
            return Err(TooMany::OfAll);
        }
        let each_us = self.each_us.get();
        let mut waiting = self.waiting.borrow_mut();
        let has_share = wait_us > SHARED_WAIT_US;
        if has_share && client.is_some_and(|one| waiting.of(one) as u64 * each_us >= SHARE_US) {
            return Err(TooMany::OfClient);
        }
        self.next_us.set(at + each_us);
        // Whoever need not wait is in nobody's way.
        let client = client.filter(|_| wait_us > 0);
        if let Some(client) = client {
            waiting.enter(client);
        }
        Ok(WaitingTurn {
            wait_us,
            waiting: client.map(|client| (self, client)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the next turn is waited for, of somebody who is one of many.
    fn wait_us(pace: &Pace, now_us: u64) -> Result<u64, TooMany> {
        pace.turn(None, now_us).map(|ticket| ticket.wait_us)
    }

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// Takes turns until there is none, and says why.
    fn take_all(pace: &Pace, number: u8, now_us: u64) -> (Vec<WaitingTurn<'_>>, TooMany) {
        let mut taken = Vec::new();
        loop {
            match pace.turn(Some(client(number)), now_us) {
                Ok(ticket) => taken.push(ticket),
                Err(why) => return (taken, why),
            }
        }
    }

    #[test]
    fn one_client_leaves_turns_to_others() {
        let pace = Pace::default();
        pace.set(100);
        let now = 5_000_000;
        // Eleven come at once; then one client has a second's worth, and no more.
        let (many, why) = take_all(&pace, 1, now);
        assert_eq!((many.len(), why), (11 + 100, TooMany::OfClient));
        let other = pace.turn(Some(client(2)), now).unwrap();
        assert_eq!(other.wait_us, 1_010_000);
        // Others have a quarter of the line each, until it is full.
        let (some, why) = take_all(&pace, 3, now);
        assert_eq!((some.len(), why), (50, TooMany::OfClient));
        let (rest, why) = take_all(&pace, 4, now);
        assert_eq!((rest.len(), why), (49, TooMany::OfAll));
        drop((many, other, some, rest));
        let left = pace.waiting.borrow();
        assert!((1..5).all(|number| left.of(client(number)) == 0));
    }

    #[test]
    fn whoever_asks_without_end_keeps_nobody_from_a_turn() {
        let pace = Pace::default();
        pace.set(100);
        let mut flood = std::collections::VecDeque::new();
        let (mut begun, mut waits) = (0, Vec::new());
        // 2,000 come every second of one client, and one of another every half second.
        for number in 0..10_000_u64 {
            let now = 1_000_000 + number * 500;
            while flood.front().is_some_and(|(at, _)| *at <= now) {
                flood.pop_front();
                begun += 1;
            }
            if let Ok(ticket) = pace.turn(Some(client(1)), now) {
                flood.push_back((now + ticket.wait_us, ticket));
            }
            if number % 1_000 == 999 {
                let ticket = pace.turn(Some(client(2)), now);
                waits.push(ticket.map(|ticket| ticket.wait_us));
            }
        }
        assert!(waits.iter().all(|wait| wait.is_ok()), "{waits:?}");
        // Nor is a turn lost.
        assert!(begun >= 490, "{begun}");
    }

    #[test]
    fn a_proxy_has_no_share() {
        let pace = Pace::default();
        pace.set(100);
        let taken: Vec<_> = (0..300)
            .map_while(|_| pace.turn(None, 5_000_000).ok())
            .collect();
        assert_eq!(taken.len(), 11 + 200);
    }

    #[test]
    fn turns_follow_each_other_at_the_rate() {
        let pace = Pace::default();
        pace.set(100);
        let now = 5_000_000;
        let waits: Vec<_> = (0..14).map(|_| wait_us(&pace, now).unwrap()).collect();
        // A tenth of a second's at once, then one every 10 ms.
        assert_eq!(waits[..11], [0; 11]);
        assert_eq!(waits[11..], [10_000, 20_000, 30_000]);
        // A second later all of that is over.
        assert_eq!(wait_us(&pace, now + 1_000_000), Ok(0));
    }

    #[test]
    fn in_any_second_no_more_begin_than_the_rate_and_the_burst() {
        let pace = Pace::default();
        pace.set(500);
        let (mut begun, mut turned_away) = (Vec::new(), 0);
        // 2,000 come every second.
        for number in 0..10_000 {
            let now = 1_000_000 + number * 500;
            match wait_us(&pace, now) {
                Ok(wait) => begun.push(now + wait),
                Err(_) => turned_away += 1,
            }
        }
        for (at, first) in begun.iter().enumerate() {
            let within = begun[at..]
                .iter()
                .take_while(|one| **one < first + 1_000_000);
            assert!(within.count() <= 551);
        }
        assert!(turned_away > 6_000, "{turned_away}");
    }

    #[test]
    fn nobody_waits_for_long() {
        let pace = Pace::default();
        pace.set(1);
        let waits: Vec<_> = (0..5).map(|_| wait_us(&pace, 10_000_000)).collect();
        let us = |tenths: u64| Ok(tenths * 100_000);
        let too_many = Err(TooMany::OfAll);
        assert_eq!(waits, [us(0), us(9), us(19), too_many, too_many]);
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let pace = Pace::default();
        assert!((0..10_000).all(|_| wait_us(&pace, 7) == Ok(0)));
    }
}
