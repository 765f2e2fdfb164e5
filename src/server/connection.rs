//! One connection's life: head → packet → right shard → answer → again.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use super::download;
use super::fragment;
use super::inbox::Inbox;
use super::lifecycle;
use super::request::{self, Request};
use super::session::Reply;
use super::shard::{Phase, Shard};
use super::store;
use super::turnstile::Holder;
use super::world::{Millis, Wire, World};
use crate::bits::packet::Packet;
use crate::bits::reply::{self, Ack, Refusal};
use crate::bits::session_id::SessionId;
use crate::config::Limits;
use crate::event::{Event, Hangup};
use crate::http::head::{self, BadHead, Framing, Parsed};
use crate::http::path::UploadPath;
use crate::http::response::{Persistence, ResponseHead};
use crate::planted::{self, Bug};

/// Number of a connection on its shard; never used twice.
pub type ConnectionId = u64;

/// A connection is told to hurry when a read lasts longer than this, in milliseconds.
const HURRY_MS: u64 = 1_000;

/// What the shard and the watchdog know of a connection.
pub struct Connection<W: World> {
    /// Its number.
    pub id: ConnectionId,
    /// The client's address.
    pub peer: SocketAddr,
    /// Its socket.
    pub wire: Rc<W::Wire>,
    waiting: Cell<Waiting>,
    since_ms: Cell<Millis>,
    /// Whether what is waited for was told to come back with what it has.
    was_hurried: Cell<bool>,
    is_hung_up: Cell<bool>,
    is_fast: Cell<bool>,
    /// The session whose file is open for this connection.
    session: Cell<Option<SessionId>>,
    /// The Host field of the request that is dealt with, as far as it can stand in a URL.
    host: RefCell<String>,
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The first byte of a request.
    Request,
    /// The rest of a head; the clock started with its first byte.
    Head,
    /// Bytes of a body; the clock starts again with each that comes.
    Body,
    /// The client to take an answer.
    Answer,
    /// Our own work: not the client's fault.
    Nothing,
}

impl<W: World> Connection<W> {
    /// A connection just accepted.
    pub fn new(id: ConnectionId, wire: W::Wire, peer: SocketAddr, now: Millis) -> Self {
        Self {
            id,
            peer,
            wire: Rc::new(wire),
            waiting: Cell::new(Waiting::Request),
            since_ms: Cell::new(now),
            was_hurried: Cell::new(false),
            is_hung_up: Cell::new(false),
            is_fast: Cell::new(false),
            session: Cell::new(None),
            host: RefCell::default(),
        }
    }

    /// Remembers by what name the client calls this server.
    fn set_host(&self, host: Option<&str>) {
        let mut kept = self.host.borrow_mut();
        kept.clear();
        kept.push_str(host.unwrap_or_default());
    }

    /// By what name the client calls this server; empty if that is unknown.
    pub fn host(&self) -> String {
        self.host.borrow().clone()
    }

    /// Says what is waited for, and starts its clock.
    pub fn wait_for(&self, waiting: Waiting, now: Millis) {
        self.waiting.set(waiting);
        self.since_ms.set(now);
        self.was_hurried.set(false);
    }

    /// Remembers the session whose file is open for this connection.
    pub fn set_session(&self, id: SessionId) {
        self.session.set(Some(id));
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.get() == Waiting::Request
    }

    /// Whether we ended it.
    pub fn is_hung_up(&self) -> bool {
        self.is_hung_up.get()
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
    pub fn overdue(&self, now: Millis, limits: &Limits) -> Option<Hangup> {
        if self.is_hung_up.get() {
            return None;
        }
        let waited_ms = now.saturating_sub(self.since_ms.get());
        let (ms_max, why) = match self.waiting.get() {
            Waiting::Request => (limits.idle_ms_max, Hangup::Idle),
            Waiting::Head => (limits.head_ms_max, Hangup::HeadTimeout),
            Waiting::Body | Waiting::Answer => (limits.body_stall_ms_max, Hangup::BodyStalled),
            Waiting::Nothing => return None,
        };
        if self.waiting.get() == Waiting::Body && waited_ms >= HURRY_MS.min(ms_max) {
            self.wire.hurry();
            // A read of a whole block may have bytes to show: it is judged when it had to tell.
            if !self.was_hurried.replace(true) {
                return None;
            }
        }
        (waited_ms >= ms_max).then_some(why)
    }

    /// Ends it; whatever is pending on it returns.
    pub fn hang_up(&self, _why: Hangup) {
        self.is_hung_up.set(true);
        self.wire.shutdown();
    }
}

impl<W: World> Holder for Connection<W> {
    fn stop(&self) {
        self.hang_up(Hangup::TakenOver);
    }
}

/// Serves a connection to its end. `arrived` are bytes that another shard read from it.
pub async fn serve<W: World>(shard: Rc<Shard<W>>, wire: W::Wire, arrived: Vec<u8>) {
    let peer = wire.peer();
    let Some(connection) = shard.admit(wire, peer) else {
        return;
    };
    shard.world.emit(Event::Connected { peer });
    let mut inbox = Inbox::with(&*shard.world, &arrived);
    drop(arrived);
    let mut answer = Vec::new();
    while let Next::Request = exchange(&shard, &connection, &mut inbox, &mut answer).await {}
    leave_session(&shard, &connection);
    shard.dismiss(connection.id);
}

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The connection may carry another request.
    Request,
    /// The connection is over, or lives on another shard.
    End,
}

/// What is left of a request's body after its packet was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLeft {
    /// This many bytes are unread; 0 is the normal case.
    Bytes(u64),
    /// Nobody knows where it ends; the connection cannot be used again.
    Unknown,
    /// The client asked before sending it and was refused: it may or may not come.
    Unasked,
}

/// An answer, and what is left of the request it answers.
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// The session that the packet named.
    pub session: Option<SessionId>,
    /// Unread rest of the body.
    pub body: BodyLeft,
}

/// The connection broke (or was taken over) in the middle of a request; there is nobody to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

/// One request and its answer.
async fn exchange<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
) -> Next {
    if inbox.is_empty() {
        inbox.release();
        connection.wait_for(Waiting::Request, shard.world.now());
        if shard.phase() == Phase::Draining || connection.wire.ready().await.is_err() {
            return Next::End;
        }
    }
    let (request, head_bytes) = match read_head(shard, connection, inbox).await {
        Ok(Some(read)) => read,
        Ok(None) => return Next::End,
        Err(why) => {
            shard.world.emit(Event::BadRequest {
                peer: connection.peer,
                why,
            });
            // Where the next request would begin is unknown, so there is none.
            reply::write_bad_head(why, answer);
            let sent = send(shard, connection, answer).await;
            if sent.is_ok() {
                linger(shard, connection, inbox).await;
            }
            return Next::End;
        }
    };
    connection.wait_for(Waiting::Nothing, shard.world.now());
    if connection.is_hung_up() || shard.is_over() {
        // It came before the end and was read after it: nobody would hear an answer.
        return Next::End;
    }

    let is_stranded = match elsewhere(shard, &request) {
        None => false,
        Some(owner) => {
            leave_session(shard, connection);
            let (peer, bytes) = (connection.peer, inbox.bytes());
            if (shard.world)
                .hand_over(&connection.wire, bytes, owner)
                .is_ok()
            {
                shard.world.emit(Event::Moved { peer, to: owner });
                return Next::End;
            }
            true
        }
    };
    inbox.consume(head_bytes);
    match request {
        Request::Packet {
            packet: Ok(packet),
            expects_continue,
            framing,
            persistence,
        } => {
            if is_stranded {
                let outcome = Outcome {
                    reply: Err(Refusal::Busy),
                    session: None,
                    body: request::unread_body(framing, expects_continue),
                };
                return answer_packet(shard, connection, inbox, answer, outcome, persistence).await;
            }
            // For the log line of a refusal.
            let path = packet.path().clone();
            let outcome = match dispatch(shard, connection, inbox, answer, packet).await {
                Ok(outcome) => outcome,
                Err(Cut) => return Next::End,
            };
            if let Err(why) = &outcome.reply {
                let (peer, session) = (connection.peer, outcome.session);
                shard.world.emit(Event::Refused {
                    peer,
                    session,
                    path: Some(path.as_str()),
                    why,
                });
            }
            answer_packet(shard, connection, inbox, answer, outcome, persistence).await
        }
        Request::Packet {
            packet: Err(refusal),
            expects_continue,
            framing,
            persistence,
        } => {
            let peer = connection.peer;
            shard.world.emit(Event::Refused {
                peer,
                session: None,
                path: None,
                why: &refusal,
            });
            let body = request::unread_body(framing, expects_continue);
            let outcome = Outcome {
                reply: Err(refusal),
                session: None,
                body,
            };
            answer_packet(shard, connection, inbox, answer, outcome, persistence).await
        }
        Request::Download {
            session,
            token,
            asked,
            persistence,
        } => {
            let served = match shard.phase() {
                _ if is_stranded => Err(503),
                Phase::Recovering => Err(503),
                Phase::Serving | Phase::Draining => {
                    let found = shard.session(session);
                    let now = shard.world.now();
                    found
                        .filter(|session| session.serves(token, now))
                        .map(|session| session.shelf)
                        .ok_or(404)
                }
            };
            let shelf = match served {
                Ok(shelf) => shelf,
                Err(status) => {
                    write_plain(status, persistence, answer);
                    return finish_exchange(shard, connection, inbox, answer, persistence).await;
                }
            };
            // The reply goes out in a block of its own; one of the two is enough, unless the client sends ahead.
            if !planted::is(Bug::DownloadHoldsTwo) {
                inbox.release();
            }
            let name = store::reply_name(session);
            let file = (shelf, &*name);
            let sent = download::send(shard, connection, answer, file, &asked, persistence);
            match Box::pin(sent).await {
                Ok(persistence) => {
                    finish_exchange(shard, connection, inbox, answer, persistence).await
                }
                Err(Cut) => Next::End,
            }
        }
        Request::Plain {
            status,
            framing,
            persistence,
        } => {
            let persistence = match framing {
                Framing::Absent | Framing::Length(0) => persistence,
                Framing::Length(_) | Framing::Chunked => Persistence::Close,
            };
            write_plain(status, persistence, answer);
            finish_exchange(shard, connection, inbox, answer, persistence).await
        }
    }
}

/// Reads until a head is whole. `None` if the connection ends first.
async fn read_head<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
) -> Result<Option<(Request, usize)>, BadHead> {
    connection.wait_for(Waiting::Head, shard.world.now());
    loop {
        if let Parsed::Complete(head) = head::parse(inbox.bytes(), &shard.head_limits)? {
            let host = head.only("Host").ok().flatten();
            connection.set_host(host.and_then(request::plain_host));
            let strict = |path: &UploadPath| shard.location(path).policy.strict;
            return Ok(Some((Request::read(&head, strict), head.bytes_len)));
        }
        match inbox.more(&*shard.world, &connection.wire).await {
            Ok(read) if read > 0 => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

/// The shard that owns the session of a request, if it is not this one.
fn elsewhere<W: World>(shard: &Shard<W>, request: &Request) -> Option<usize> {
    let owner = request.session()?.shard(shard.count);
    (owner != shard.index).then_some(owner)
}

/// Gives a packet to whoever knows what to do with it.
async fn dispatch<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    packet: Packet,
) -> Result<Outcome, Cut> {
    let no_body = |reply, session| Outcome {
        reply,
        session,
        body: BodyLeft::Bytes(0),
    };
    let refusal = if !shard.location(packet.path()).is_enabled {
        Some(Refusal::UploadsDisabled)
    } else if shard.phase() == Phase::Recovering && !matches!(packet, Packet::Ping { .. }) {
        Some(Refusal::Unavailable)
    } else {
        None
    };
    if let Some(refusal) = refusal {
        let body = match &packet {
            Packet::Fragment(fragment) => fragment::unread(fragment),
            _ => BodyLeft::Bytes(0),
        };
        return Ok(Outcome {
            reply: Err(refusal),
            session: None,
            body,
        });
    }
    // Boxed, so that an idle connection does not carry the space of the longest flow.
    match packet {
        Packet::Ping { .. } => Ok(no_body(Ok(Ack::Ping), None)),
        Packet::CreateSession { target } => {
            let reply = Box::pin(lifecycle::create(shard, connection, target.path)).await;
            Ok(no_body(reply, None))
        }
        Packet::Fragment(fragment) => {
            Box::pin(fragment::receive(
                shard, connection, inbox, answer, fragment,
            ))
            .await
        }
        Packet::CloseSession(request) => {
            let session = request.session;
            let reply = Box::pin(lifecycle::close(shard, connection, request)).await?;
            Ok(no_body(reply, session))
        }
        Packet::CancelSession(request) => {
            let session = request.session;
            let reply = Box::pin(lifecycle::cancel(shard, connection, request)).await?;
            Ok(no_body(reply, session))
        }
    }
}

/// Answers a packet and deals with what is left of its body.
async fn answer_packet<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    outcome: Outcome,
    asked: Persistence,
) -> Next {
    let (persistence, unread) = match outcome.body {
        BodyLeft::Bytes(bytes) if bytes <= shard.config.limits.drain_bytes_max => (asked, bytes),
        BodyLeft::Bytes(_) | BodyLeft::Unknown | BodyLeft::Unasked => (Persistence::Close, 0),
    };
    // Whoever is turned away gives its place back where places are scarce: those who hold the sessions that it waits for
    // may be waiting for a connection.
    let is_in_the_way = shard.is_full() && matches!(outcome.reply, Err(Refusal::Busy));
    let persistence = match shard.phase() {
        Phase::Draining => Persistence::Close,
        Phase::Recovering | Phase::Serving if is_in_the_way => Persistence::Close,
        Phase::Recovering | Phase::Serving => persistence,
    };
    match &outcome.reply {
        Ok(ack) => reply::write_ack(ack, persistence, answer),
        Err(refusal) => reply::write_refusal(refusal, outcome.session, persistence, answer),
    }
    // A client that sends its whole fragment before it reads must be let finish: only then does it
    // see the answer that was sent meanwhile.
    if unread > 0 {
        if send(shard, connection, answer).await.is_err() {
            return Next::End;
        }
        if fragment::skip(shard, connection, inbox, unread)
            .await
            .is_err()
        {
            return Next::End;
        }
    }
    finish_exchange(shard, connection, inbox, answer, persistence).await
}

/// Sends what is left to send and ends the connection where it must end.
async fn finish_exchange<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    persistence: Persistence,
) -> Next {
    if send(shard, connection, answer).await.is_err() {
        return Next::End;
    }
    match persistence {
        Persistence::KeepAlive => Next::Request,
        Persistence::Close => {
            linger(shard, connection, inbox).await;
            Next::End
        }
    }
}

/// Sends the buffered answer, if there is one.
pub async fn send<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    answer: &mut Vec<u8>,
) -> io::Result<()> {
    if answer.is_empty() {
        return Ok(());
    }
    connection.wait_for(Waiting::Answer, shard.world.now());
    let (result, mut emptied) = connection.wire.send(std::mem::take(answer)).await;
    emptied.clear();
    *answer = emptied;
    result
}

/// Ends our side and reads on for a bounded while. Closing with unread bytes would make the kernel
/// reset the connection, and the client would lose the answer.
async fn linger<W: World>(shard: &Shard<W>, connection: &Connection<W>, inbox: &mut Inbox<W>) {
    connection.wire.finish();
    inbox.consume(inbox.len());
    let mut left = shard.config.limits.drain_bytes_max;
    // The head clock bounds it, and it is not wound up again by bytes that come.
    connection.wait_for(Waiting::Head, shard.world.now());
    while left > 0 {
        match inbox.more(&*shard.world, &connection.wire).await {
            Ok(read) if read > 0 => {
                inbox.consume(read);
                left = left.saturating_sub(read as u64);
            }
            Ok(_) | Err(_) => return,
        }
    }
}

fn leave_session<W: World>(shard: &Shard<W>, connection: &Rc<Connection<W>>) {
    let session = connection.session.take().and_then(|id| shard.session(id));
    if let Some(session) = session {
        session.detach(shard, connection);
    }
}

/// An answer to something that is not BITS.
fn write_plain(status: u16, persistence: Persistence, out: &mut Vec<u8>) {
    let mut head = ResponseHead::new(out, status);
    if status == 405 {
        head.field("Allow", "BITS_POST");
    }
    head.number("Content-Length", 0);
    head.end(persistence);
}
