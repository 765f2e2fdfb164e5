//! A connection as its shard has it in its table: what is waited for, and whether it has a place.
//! What is done on it stands above, in [`super::serve`].

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::budget::Budget;
use super::floor::{Floor, Wire as _};
use super::patience::{Measure, Patience, Waiting};
use super::turnstile::Holder;
use crate::bits::session_id::SessionId;
use crate::config::Limits;
use crate::event::Hangup;
use crate::vault::disk::Millis;

/// A connection that has been idle for so long holds no file open, in milliseconds: longer than a
/// client takes between two packets, short beside the time for which a proxy keeps connections.
const REST_MS: u64 = 1_000;

/// Whether a connection has a place on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has one.
    Served,
    /// It has none, and hears so.
    TurnedAway,
    /// It was ended to make room.
    MadeRoom,
}

/// Number of a connection on its shard; never used twice.
pub type ConnectionId = u64;

/// What the shard and the watchdog know of a connection.
pub struct Connection<F: Floor> {
    /// Its number.
    pub id: ConnectionId,
    peer: Cell<SocketAddr>,
    client: Cell<SocketAddr>,
    /// No request has come on it yet.
    is_new: Cell<bool>,
    /// Its socket.
    pub wire: Rc<F::Wire>,
    /// What is waited for.
    pub patience: Patience,
    /// What it may do before others have their turn.
    pub budget: Budget,
    hung_up: Cell<Option<Hangup>>,
    is_leaving: Cell<bool>,
    is_fast: Cell<bool>,
    /// The session whose file may be open for this connection.
    pub(super) session: Cell<Option<SessionId>>,
    /// Whether it has a place.
    pub standing: Cell<Admission>,
}

impl<F: Floor> Connection<F> {
    /// A connection just accepted.
    pub fn new(id: ConnectionId, wire: F::Wire, peer: SocketAddr, now: Millis) -> Self {
        Self {
            id,
            peer: Cell::new(peer),
            client: Cell::new(peer),
            is_new: Cell::new(true),
            wire: Rc::new(wire),
            patience: Patience::new(now),
            budget: Budget::default(),
            hung_up: Cell::new(None),
            is_leaving: Cell::new(false),
            is_fast: Cell::new(false),
            session: Cell::new(None),
            standing: Cell::new(Admission::Served),
        }
    }

    /// Whose connection it is: the address at its other end, or the one that a proxy has announced
    /// for all of it.
    pub fn peer(&self) -> SocketAddr {
        self.peer.get()
    }

    /// Whose request is dealt with: the peer, or whoever a trusted proxy names in its head.
    pub fn client(&self) -> SocketAddr {
        self.client.get()
    }

    /// A proxy has announced whose it is.
    pub(super) fn set_peer(&self, peer: SocketAddr) {
        self.peer.set(peer);
        self.client.set(peer);
    }

    /// A request has come, here or on the shard that it moves from; whether it is the first.
    pub(super) fn note_request(&self) -> bool {
        self.is_new.replace(false)
    }

    /// The head of a request says whose it is.
    pub(super) fn set_client(&self, client: SocketAddr) {
        self.client.set(client);
    }

    /// Says what is waited for, and starts its clock.
    pub fn wait_for(&self, waiting: Waiting, now: Millis) {
        self.patience.wait_for(waiting, now);
    }

    /// Whether a file is open for it that it has not asked for in a while.
    pub fn should_rest(&self, now: Millis) -> bool {
        self.session.get().is_some() && self.is_idle() && self.patience.waited_ms(now) >= REST_MS
    }

    /// Whether nothing is under way on it, and whoever vouched for its client no longer does.
    pub(super) fn should_part(&self) -> bool {
        let is_idle = self.patience.waiting() == Waiting::Request;
        is_idle && self.wire.is_distrusted() && !self.is_hung_up() && !self.wire.has_unread()
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        let waiting = self.patience.waiting();
        matches!(waiting, Waiting::Request | Waiting::Handshake)
    }

    /// Whether bytes that come are read at once.
    fn is_reading(&self) -> bool {
        let waiting = self.patience.waiting();
        matches!(
            waiting,
            Waiting::Request | Waiting::Head | Waiting::Body | Waiting::Rest
        )
    }

    /// Whether nobody loses anything if it is ended: it is idle, or has heard its last answer.
    pub fn can_make_room(&self) -> bool {
        let waits = matches!(
            self.patience.waiting(),
            Waiting::Request | Waiting::Handshake | Waiting::Farewell
        );
        waits && self.standing.get() == Admission::Served
    }

    /// Whether we ended it.
    pub fn is_hung_up(&self) -> bool {
        self.hung_up().is_some()
    }

    /// Why we ended it, if we did.
    pub(super) fn hung_up(&self) -> Option<Hangup> {
        self.hung_up.get()
    }

    /// Whether its bytes come fast enough to deserve a body block.
    pub fn is_fast(&self) -> bool {
        self.is_fast.get()
    }

    /// A read said how fast its bytes come.
    pub fn set_fast(&self, is_fast: bool) {
        self.is_fast.set(is_fast);
    }

    /// Why it should be ended now, if it should. Hurries a read that is only slow.
    pub fn overdue(&self, now: Millis, limits: &Limits, is_draining: bool) -> Option<Hangup> {
        if self.is_hung_up() {
            return None;
        }
        let taken = || self.wire.taken();
        match self.patience.judge(now, limits, is_draining, taken) {
            Measure::Wait => None,
            Measure::Hurry => {
                self.wire.hurry();
                None
            }
            // The client did its part; it is for the shard to look at what came.
            Measure::End(_) if self.is_reading() && self.wire.has_unread() => None,
            Measure::End(why) => Some(why),
        }
    }

    /// Whether no request has come on it yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new.get()
    }

    /// Whether we have ended our side of it between two requests.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// Ends our side of it, on which nothing is under way. What crosses that on its way is read and
    /// not answered, so that the client finds an end and no reset.
    pub(super) fn leave(&self, now: Millis) {
        self.is_leaving.set(true);
        self.wait_for(Waiting::Farewell, now);
        self.wire.finish();
    }

    /// Ends it; whatever is pending on it returns. The first reason is told when it has left.
    pub fn hang_up(&self, why: Hangup) {
        self.hung_up.set(self.hung_up().or(Some(why)));
        self.wire.shutdown();
    }
}

impl<F: Floor> Holder for Connection<F> {
    fn stop(&self) -> bool {
        self.hang_up(Hangup::TakenOver);
        true
    }

    fn look_up(&self) {
        self.wire.hurry();
    }
}

/// Sends the buffered answer, if there is one.
///
/// # Errors
/// What the wire says: the peer is gone, or was hung up on.
pub async fn send<F: Floor>(
    floor: &F,
    connection: &Connection<F>,
    answer: &mut Vec<u8>,
) -> io::Result<()> {
    if answer.is_empty() {
        return Ok(());
    }
    connection.wait_for(Waiting::Answer, floor.now());
    let (result, mut emptied) = connection.wire.send(std::mem::take(answer)).await;
    emptied.clear();
    *answer = emptied;
    result
}
