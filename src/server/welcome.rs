//! What happens to a connection before its first request: hands are shaken, or it is turned away.

use std::io;

use super::exchange::Exchange;
use super::floor::{Wire as _, World};
use super::patience::Waiting;
use crate::bits::reply::{self, Refusal};
use crate::event::Event;
use crate::http::response::Persistence;

impl<W: World> Exchange<W> {
    /// Gets the connection ready for requests; `false` if that cannot be. What it is refused with
    /// may be for it to read, so that its end is waited for.
    pub async fn shake_hands(&mut self) -> bool {
        self.wait_for(Waiting::Handshake);
        let Err(why) = self.connection.wire.open().await else {
            return !self.connection.is_hung_up();
        };
        // Whoever just connects and leaves, as those who look whether we are there do, is not worth
        // a word.
        if why.kind() == io::ErrorKind::InvalidData && !self.connection.is_hung_up() {
            let (peer, why) = (self.connection.peer, &why);
            (self.shard.world).emit(Event::HandshakeFailed { peer, why });
            // Boxed, so that no other connection carries the space of it.
            Box::pin(self.linger()).await;
        }
        false
    }

    /// Tells a client that there is no place for it, so that it comes back later instead of hearing
    /// an end without a word.
    pub async fn turn_away(&mut self) {
        if !self.shake_hands().await {
            return;
        }
        reply::write_refusal(&Refusal::Busy, None, Persistence::Close, &mut self.answer);
        if self.send().await.is_ok() && self.shard.may_linger() {
            self.linger().await;
        }
    }
}
