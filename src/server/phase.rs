//! The life of a shard, and requests that wait until its sessions are read back.
//!
//! To say that somebody is there needs no session, so a Ping is answered at once. Whoever wants
//! more would hear 503, and BITS comes back only after ten minutes; as long as nothing is said, it
//! has more patience than that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

use super::connection::ConnectionId;
use super::floor::World;
use crate::vault::disk::Millis;

/// Life of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sessions are being read back; requests about them wait.
    Recovering,
    /// Normal work.
    Serving,
    /// Connections end after their current request.
    Draining,
}

/// How long requests wait, from the beginning of the shard.
const PATIENCE_MS: Millis = 10_000;

/// Who waits.
#[derive(Debug)]
pub struct Opening {
    until: Millis,
    waiting: RefCell<BTreeMap<ConnectionId, Waker>>,
}

impl Opening {
    /// Of a shard that begins now.
    pub(super) fn after(now: Millis) -> Self {
        Self {
            until: now.saturating_add(PATIENCE_MS),
            waiting: RefCell::default(),
        }
    }

    /// They look again whether it is open.
    pub(super) fn look(&self) {
        let woken = self.waiting.take();
        woken.into_values().for_each(Waker::wake);
    }

    /// Waits until it is open, as long as a client can.
    pub(super) async fn pass<W: World>(
        &self,
        world: &W,
        connection: ConnectionId,
        is_open: impl Fn() -> bool,
    ) {
        while !is_open() && world.now() < self.until {
            let mut tick = pin!(world.tick());
            let looked = poll_fn(|context| {
                if is_open() {
                    return Poll::Ready(());
                }
                let mut waiting = self.waiting.borrow_mut();
                waiting.insert(connection, context.waker().clone());
                tick.as_mut().poll(context)
            });
            looked.await;
        }
        self.waiting.borrow_mut().remove(&connection);
    }
}
