//! What a request has at hand while it is dealt with: its shard, its connection, the bytes that
//! have come, and room for the answer. It is made once for a connection, and handed on as one
//! value.

use std::io;
use std::rc::Rc;

use super::carry_out::Heard;
use super::connection::{self, Connection};
use super::floor::{Wire as _, World};
use super::inbox::Inbox;
use super::patience::Waiting;
use super::phase::Phase;
use super::request::{self, BodyLeft};
use super::shard::Shard;
use super::visit::Visit;
use crate::auth::policy::Principal;
use crate::bits::packet::Packet;
use crate::bits::reply::{Ack, Refusal};
use crate::bits::session_id::SessionId;
use crate::http::authorization::say_token;
use crate::http::chunked::ChunkedDecoder;
use crate::http::response::{self, AUTHENTICATE, Persistence};

/// Whoever sends on after its answer has its time anew with so many bytes: much more than comes of
/// one that only wants to stay.
const WIND_BYTES: usize = 64 << 10;

/// A connection's requests, one after the other.
pub struct Exchange<W: World> {
    /// Where it is served.
    pub shard: Rc<Shard<W>>,
    /// The client.
    pub connection: Rc<Connection<W>>,
    /// What has come of it and was not looked at.
    pub inbox: Inbox<W>,
    /// What is to be sent next.
    pub answer: Vec<u8>,
    /// Who sends the request that is dealt with; `None` where nobody is asked.
    pub principal: Option<Principal>,
    /// What the connection has shown of who uses it.
    pub visit: Visit,
    /// By what we prove in the next answer who we are; empty where nobody has asked.
    pub proof: Vec<u8>,
}

/// An answer, and what is left of the request it answers.
pub struct Outcome {
    /// What the client hears.
    pub reply: Heard,
    /// The session that the packet named.
    pub session: Option<SessionId>,
    /// Unread rest of the body.
    pub body: BodyLeft,
}

impl Outcome {
    /// Of a packet whose body was read, or that had none.
    pub fn whole(reply: Heard, session: Option<SessionId>) -> Self {
        let body = BodyLeft::Bytes(0);
        Self {
            reply,
            session,
            body,
        }
    }

    /// Of a packet that nobody deals with.
    pub fn refused(refusal: Refusal, packet: &Packet) -> Self {
        Self {
            reply: Err(refusal),
            session: packet.session_request().and_then(|named| named.session),
            body: match packet {
                Packet::Fragment(fragment) => request::unread(fragment),
                _ => BodyLeft::Bytes(0),
            },
        }
    }
}

/// The connection broke (or was taken over) in the middle of a request; there is nobody to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl<W: World> Exchange<W> {
    /// Says what is waited for, and starts its clock.
    pub fn wait_for(&self, waiting: Waiting) {
        self.connection.wait_for(waiting, self.shard.world.now());
    }

    /// Counts what was read without waiting; gives way where that was much.
    pub async fn spend(&self, bytes: usize) {
        self.connection
            .budget
            .spend(&*self.shard.world, bytes)
            .await;
    }

    /// Sends the buffered answer, if there is one.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn send(&mut self) -> io::Result<()> {
        connection::send(&*self.shard.world, &self.connection, &mut self.answer).await
    }

    /// Adds an answer, which `write` appends, and puts into its head the time, and our own proof
    /// where one is due: by it a client knows whom it speaks with (RFC 4559 4.1).
    pub(super) fn add_answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let from = self.answer.len();
        write(&mut self.answer);
        let wall_ms = self.shard.world.wall_clock_ms();
        self.shard.dateline.insert(wall_ms, &mut self.answer, from);
        let proof = std::mem::take(&mut self.proof);
        if !proof.is_empty() {
            response::insert_field(&mut self.answer, from, AUTHENTICATE, &say_token(&proof));
        }
    }

    /// Reads more of a body into the head block, which is empty; never beyond the body.
    ///
    /// # Errors
    /// [`Cut`] if the connection ended.
    pub async fn more(&mut self, waiting: Waiting, left: u64) -> Result<usize, Cut> {
        self.wait_for(waiting);
        let bytes_max = usize::try_from(left).unwrap_or(usize::MAX);
        let read = (self.inbox)
            .more_up_to(&*self.shard.world, &self.connection.wire, bytes_max)
            .await;
        match read {
            Ok(read) if read > 0 => Ok(read),
            Ok(_) | Err(_) => Err(Cut),
        }
    }

    /// Reads and drops bytes of a body.
    ///
    /// # Errors
    /// [`Cut`] if the connection ended.
    pub async fn skip(&mut self, waiting: Waiting, bytes: u64) -> Result<(), Cut> {
        let mut left = bytes;
        loop {
            let here = at_most(left, self.inbox.len());
            self.inbox.consume(here);
            left -= here as u64;
            if left == 0 {
                return Ok(());
            }
            let read = self.more(waiting, left).await?;
            self.spend(read).await;
        }
    }

    /// Reads and drops the rest of a body in chunks, up to so many bytes of content, or to what is
    /// no chunk.
    ///
    /// # Errors
    /// [`Cut`] if the connection ended.
    pub async fn skip_chunked(
        &mut self,
        mut decoder: ChunkedDecoder,
        bytes_max: u64,
    ) -> Result<(), Cut> {
        let mut left = bytes_max;
        loop {
            if self.inbox.is_empty() {
                self.more(Waiting::Rest, u64::MAX).await?;
            }
            let gathered = decoder.gather(self.inbox.bytes_mut());
            self.inbox.consume(gathered.consumed);
            match left.checked_sub(gathered.content as u64) {
                Some(fewer) if gathered.end.is_none() => left = fewer,
                Some(_) | None => return Ok(()),
            }
            self.spend(gathered.consumed).await;
        }
    }

    /// What is still true of an answer after the rest of a body was read. Meanwhile another
    /// connection of the client may have ended the session, or the disk: then nothing may be acked
    /// for it any more.
    ///
    /// # Errors
    /// [`Cut`] if another connection works on the session: it is the newer one, and how that ends
    /// is not known yet.
    fn check_again(&self, outcome: &mut Outcome) -> Result<(), Cut> {
        let Ok(Ack::Fragment { session, .. }) = &outcome.reply else {
            return Ok(());
        };
        match self.shard.session(*session) {
            Some(session) if session.is_held() => return Err(Cut),
            Some(_) => {}
            None => outcome.reply = Err(Refusal::SessionNotFound),
        }
        Ok(())
    }

    /// Reads what is left of a packet's body, where its end is near enough; whether the connection
    /// may be used again. Before the answer: some proxies break off when they hear one in mid-body.
    pub(super) async fn read_rest(
        &mut self,
        outcome: &mut Outcome,
        asked: Persistence,
        read_max: u64,
    ) -> Result<Persistence, Cut> {
        match outcome.body {
            BodyLeft::Bytes(bytes) if bytes <= read_max => {
                if bytes > 0 {
                    Box::pin(self.skip(Waiting::Rest, bytes)).await?;
                    self.check_again(outcome)?;
                }
                Ok(asked)
            }
            BodyLeft::Chunked(decoder) => {
                // Where it ends is for its sender to say, and here something was wrong: no request
                // is looked for behind it.
                Box::pin(self.skip_chunked(decoder, read_max)).await?;
                self.check_again(outcome)?;
                Ok(Persistence::Close)
            }
            BodyLeft::Bytes(_) | BodyLeft::Unknown | BodyLeft::Unasked => Ok(Persistence::Close),
        }
    }

    /// Ends our side and reads on for a bounded while. Closing with unread bytes would make the
    /// kernel reset the connection, and the client would lose the answer: many look for one only
    /// when they have sent all of a fragment. So there is time for as many bytes as an honest
    /// client may still send, as long as they come.
    pub async fn linger(&mut self) {
        self.connection.wire.finish();
        self.inbox.consume(self.inbox.len());
        self.inbox.release();
        let mut left = self.shard.linger_bytes_max();
        let mut unwound = 0;
        self.wait_for(Waiting::Farewell);
        while left > 0 {
            let more = (self.inbox)
                .more(&*self.shard.world, &self.connection.wire)
                .await;
            let read = match more {
                Ok(read) if read > 0 => read,
                Ok(_) | Err(_) => return,
            };
            self.inbox.consume(read);
            left = left.saturating_sub(read as u64);
            unwound += read;
            if unwound >= WIND_BYTES && self.shard.phase() != Phase::Draining {
                unwound = 0;
                self.wait_for(Waiting::Farewell);
            }
            self.spend(read).await;
        }
    }
}

/// The smaller of a count on the wire and a count in memory.
pub fn at_most(wire: u64, memory: usize) -> usize {
    usize::try_from(wire).unwrap_or(usize::MAX).min(memory)
}
