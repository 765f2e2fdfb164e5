//! Who has a place on a shard: connections are let in, make room for others, and leave.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use super::connection::{Admission, Connection, ConnectionId};
use super::crowd;
use super::floor::{Wire as _, World};
use super::shard::Shard;
use crate::event::{Event, Hangup};

/// Connections that may be turned away at the same time; more are cut.
const TURNED_AWAY_MAX: usize = 1_024;
/// Of those, so many are waited for until they close, so that they hear why even if they send
/// something meanwhile: whoever has had most time for it leaves first.
const LINGERING_MAX: usize = 64;
/// Part of all places that is made free at once.
const ROOM_SHARE: usize = 64;

impl<W: World> Shard<W> {
    /// Enters a new connection. Where all places are taken, idle ones make room; whoever finds no
    /// place even then is entered only to be turned away, unless too many are being turned away
    /// already.
    pub fn admit(&self, wire: W::Wire, peer: SocketAddr) -> Option<Rc<Connection<W>>> {
        if self.is_over() {
            // It was on its way from another shard.
            wire.shutdown();
            return None;
        }
        let limits = self.limits();
        let client = crowd::client(peer);
        let is_admitted = self.crowd.borrow().of(client) < limits.connections_per_client_max
            && (self.places_taken() < limits.connections_per_shard_max || self.make_room(client));
        if !is_admitted {
            self.world.emit(Event::ConnectionRefused { peer });
            if self.turned_away.get() >= TURNED_AWAY_MAX {
                wire.shutdown();
                return None;
            }
            self.turned_away.set(self.turned_away.get() + 1);
        }
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let connection = Rc::new(Connection::new(id, wire, peer, self.world.now()));
        if is_admitted {
            self.crowd.borrow_mut().enter(client);
        } else {
            connection.standing.set(Admission::TurnedAway);
        }
        let entered = Rc::clone(&connection);
        let mut connections = self.connections.borrow_mut();
        connections.insert(id, entered);
        (self.world.metrics().connections).set(connections.len() as u64);
        drop(connections);
        Some(connection)
    }

    /// A proxy has announced whose connection it is: it is that client's from now on. `false` if
    /// the client has as many as it may; then it has no place any more.
    pub fn rename(&self, connection: &Connection<W>, peer: SocketAddr) -> bool {
        let (before, client) = (crowd::client(connection.peer()), crowd::client(peer));
        connection.set_peer(peer);
        if connection.standing.get() != Admission::Served || before == client {
            return true;
        }
        let mut crowd = self.crowd.borrow_mut();
        crowd.leave(before);
        if crowd.of(client) < self.limits().connections_per_client_max {
            crowd.enter(client);
            return true;
        }
        drop(crowd);
        self.world.emit(Event::ConnectionRefused { peer });
        connection.standing.set(Admission::TurnedAway);
        self.turned_away.set(self.turned_away.get() + 1);
        false
    }

    /// Connections that count towards the limit: not those that are leaving, or are only told that
    /// there is no place.
    pub fn places_taken(&self) -> usize {
        let others = self.turned_away.get() + self.made_room.get();
        self.connections.borrow().len() - others
    }

    /// Ends idle connections of whoever has most, and no fewer than the newcomer; `false` if there
    /// are none.
    fn make_room(&self, newcomer: IpAddr) -> bool {
        let now = self.world.now();
        let connections = self.connections.borrow();
        let idle = (connections.values())
            .filter(|connection| connection.can_make_room())
            .map(|connection| {
                let waited_ms = connection.patience.waited_ms(now);
                (crowd::client(connection.peer()), waited_ms, connection)
            });
        let count_max = (self.limits().connections_per_shard_max / ROOM_SHARE).max(1);
        let room = self.crowd.borrow().make_room(newcomer, idle, count_max);
        let mut has_made_room = false;
        for connection in room {
            // Its next request is here already.
            if connection.is_idle() && connection.wire.has_unread() {
                continue;
            }
            has_made_room = true;
            connection.standing.set(Admission::MadeRoom);
            self.made_room.set(self.made_room.get() + 1);
            let client = crowd::client(connection.peer());
            self.crowd.borrow_mut().leave(client);
            connection.hang_up(Hangup::Crowded);
        }
        has_made_room
    }

    /// One that was turned away has heard so, and is waited for until it closes. Where there are
    /// too many, the one that has been waited for longest is ended.
    pub fn let_linger(&self, id: ConnectionId) {
        let mut lingering = self.lingering.borrow_mut();
        lingering.push_back(id);
        if lingering.len() <= LINGERING_MAX {
            return;
        }
        let first = lingering.pop_front();
        let connections = self.connections.borrow();
        if let Some(connection) = first.and_then(|id| connections.get(&id)) {
            connection.hang_up(Hangup::NotClosed);
        }
    }

    /// Takes a connection out of the tables, and tells why if it was us who ended it.
    pub fn dismiss(&self, id: ConnectionId) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = connections.remove(&id) else {
            return;
        };
        (self.world.metrics().connections).set(connections.len() as u64);
        if let Some(why) = connection.hung_up() {
            let peer = connection.peer();
            self.world.emit(Event::HungUp { peer, why });
        }
        match connection.standing.get() {
            Admission::Served => self
                .crowd
                .borrow_mut()
                .leave(crowd::client(connection.peer())),
            Admission::TurnedAway => {
                self.turned_away.set(self.turned_away.get() - 1);
                self.lingering.borrow_mut().retain(|other| *other != id);
            }
            Admission::MadeRoom => self.made_room.set(self.made_room.get() - 1),
        }
        if connections.is_empty()
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Whether the next connection finds no free place.
    pub fn is_full(&self) -> bool {
        self.places_taken() >= self.limits().connections_per_shard_max
    }

    /// Open connections.
    pub fn connections_len(&self) -> usize {
        self.connections.borrow().len()
    }
}
