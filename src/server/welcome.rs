//! What happens to a connection before its first request: the handshake of TLS, or it is turned
//! away.

use std::io;

use super::exchange::Exchange;
use super::floor::{Wire as _, World};
use super::patience::Waiting;
use crate::bits::reply::{self, Refusal, Scarce};
use crate::event::Event;
use crate::http::response::Persistence;

impl<W: World> Exchange<W> {
    /// Gets the connection ready for requests; `false` if that cannot be. What it is refused with
    /// may be for it to read, so that its end is waited for.
    pub async fn shake_hands(&mut self) -> bool {
        self.wait_for(Waiting::Handshake);
        let opened = self.connection.wire.open().await;
        let is_let_in = match self.connection.wire.announcement().client() {
            Some(client) if self.connection.peer() != client => {
                let proxy = self.connection.peer();
                (self.shard.world).emit(Event::Announced { client, proxy });
                self.shard.rename(&self.connection, client)
            }
            _ => true,
        };
        if let Some(security) = self.connection.wire.take_security() {
            (self.shard.world).emit(Event::Secured {
                peer: self.connection.peer(),
                version: security.version,
                suite: security.suite,
                server_name: security.server_name.as_deref(),
                is_resumed: security.is_resumed,
            });
        }
        let Err(why) = opened else {
            if !is_let_in {
                self.say_there_is_no_place().await;
            }
            return is_let_in && !self.connection.is_hung_up();
        };
        if why.kind() == io::ErrorKind::PermissionDenied {
            let (peer, why) = (self.connection.peer(), &why);
            self.shard.world.emit(Event::NotLetIn { peer, why });
            return false;
        }
        // Somebody who connects and leaves at once, as a health check does, is not worth a word.
        if why.kind() == io::ErrorKind::InvalidData && !self.connection.is_hung_up() {
            let (peer, why) = (self.connection.peer(), &why);
            (self.shard.world).emit(Event::HandshakeFailed { peer, why });
            // Boxed, so that no other connection carries the space of it.
            Box::pin(self.linger()).await;
        }
        false
    }

    /// Tells a client that there is no place for it, so that it comes back later instead of hearing
    /// an end without a word.
    pub async fn turn_away(&mut self) {
        if self.shake_hands().await {
            self.say_there_is_no_place().await;
        }
    }

    async fn say_there_is_no_place(&mut self) {
        let refusal = Refusal::Busy(Scarce::Connections);
        self.add_answer(|answer| {
            reply::write_refusal(&refusal, None, Persistence::Close, answer);
        });
        if self.send().await.is_ok() {
            self.shard.let_linger(self.connection.id);
            self.linger().await;
        }
    }
}
