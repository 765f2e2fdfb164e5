//! One connection's life: head → packet → right shard → answer → again.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::Budget;
use super::floor::{Floor, Wire, World};
use super::inbox::{Inbox, NoRoom};
use super::patience::{Patience, Verdict, Waiting};
use super::request::{self, BodyLeft, Request};
use super::session::Reply;
use super::shard::{Phase, Shard};
use super::turnstile::Holder;
use super::{download, fragment, lifecycle};
use crate::bits::packet::Packet;
use crate::bits::reply::{self, Ack, Refusal};
use crate::bits::session_id::SessionId;
use crate::config::Limits;
use crate::event::{Event, Hangup};
use crate::http::head::{self, BadHead, Framing, Parsed, Progress};
use crate::http::path::UploadPath;
use crate::http::response::Persistence;
use crate::http::stranger;
use crate::planted::{self, Bug};
use crate::vault::disk::Millis;

/// A connection that has been idle for so long holds no file open, in milliseconds: longer than a client takes between two
/// packets, short beside the time for which a proxy keeps connections.
const REST_MS: u64 = 1_000;

/// How it stands with a connection's place on its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has one.
    Served,
    /// It has none, and hears so.
    TurnedAway,
    /// It was ended to make room.
    MadeRoom,
}

/// Number of a connection on its shard; never used twice.
pub type ConnectionId = u64;

/// How many times `fragment_bytes_max` is read of a fragment that is longer: clients halve theirs when they hear 413, so
/// those that come at all are not much longer, and reading them costs no more than sending them.
const TOO_LARGE_READ: u64 = 4;

/// What an idle connection keeps for its next answer: room for an Ack, but not for a Reply-URL.
const IDLE_ANSWER_BYTES_MAX: usize = 512;

/// Bytes of a head that was refused which are kept until the answer is written: a method and a target that is worth telling.
const SEEN_BYTES_MAX: usize = 640;

/// What the shard and the watchdog know of a connection.
pub struct Connection<F: Floor> {
    /// Its number.
    pub id: ConnectionId,
    /// The client's address.
    pub peer: SocketAddr,
    /// Its socket.
    pub wire: Rc<F::Wire>,
    /// What is waited for.
    pub patience: Patience,
    /// What it may do before others have their turn.
    pub budget: Budget,
    is_hung_up: Cell<bool>,
    is_fast: Cell<bool>,
    /// The session whose file may be open for this connection.
    session: Cell<Option<SessionId>>,
    /// How it stands with its place.
    pub standing: Cell<Standing>,
    /// The User-Agent field of a request that asks for a session.
    agent: RefCell<Option<Arc<str>>>,
}

impl<F: Floor> Connection<F> {
    /// A connection just accepted.
    pub fn new(id: ConnectionId, wire: F::Wire, peer: SocketAddr, now: Millis) -> Self {
        Self {
            id,
            peer,
            wire: Rc::new(wire),
            patience: Patience::new(now),
            budget: Budget::default(),
            is_hung_up: Cell::new(false),
            is_fast: Cell::new(false),
            session: Cell::new(None),
            standing: Cell::new(Standing::Served),
            agent: RefCell::default(),
        }
    }

    /// What the client calls itself, to whoever makes a session for it.
    pub fn take_agent(&self) -> Option<Arc<str>> {
        self.agent.take()
    }

    /// Says what is waited for, and starts its clock.
    pub fn wait_for(&self, waiting: Waiting, now: Millis) {
        self.patience.wait_for(waiting, now);
    }

    /// Whether a file is open for it that it has not asked for in a while.
    pub fn should_rest(&self, now: Millis) -> bool {
        self.session.get().is_some() && self.is_idle() && self.patience.waited_ms(now) >= REST_MS
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.patience.waiting() == Waiting::Request
    }

    /// Whether bytes that come are read at once.
    fn is_reading(&self) -> bool {
        let waiting = self.patience.waiting();
        matches!(waiting, Waiting::Request | Waiting::Head | Waiting::Body)
    }

    /// Whether nobody loses anything if it is ended: it is idle, or has heard its last answer.
    pub fn can_make_room(&self) -> bool {
        let waits = matches!(
            self.patience.waiting(),
            Waiting::Request | Waiting::Farewell
        );
        waits && self.standing.get() == Standing::Served
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
    pub fn overdue(&self, now: Millis, limits: &Limits, is_draining: bool) -> Option<Hangup> {
        if self.is_hung_up.get() {
            return None;
        }
        match self.patience.judge(now, limits, is_draining) {
            Verdict::Wait => None,
            Verdict::Hurry => {
                self.wire.hurry();
                None
            }
            // The client did its part; it is for the shard to look at what came.
            Verdict::End(_) if self.is_reading() && self.wire.has_unread() => None,
            Verdict::End(why) => Some(why),
        }
    }

    /// Ends it; whatever is pending on it returns.
    pub fn hang_up(&self) {
        self.is_hung_up.set(true);
        self.wire.shutdown();
    }
}

impl<W: World> Connection<W> {
    /// Remembers the session whose file is open for this connection; that of the one before is closed.
    pub fn turn_to(self: &Rc<Self>, shard: &Shard<W>, id: SessionId) {
        if self.session.get() != Some(id) {
            self.rest(shard);
        }
        self.session.set(Some(id));
    }

    /// Closes the file that is open for this connection.
    pub fn rest(self: &Rc<Self>, shard: &Shard<W>) {
        let session = self.session.take().and_then(|id| shard.session(id));
        if let Some(session) = session {
            session.rest(shard, self);
        }
    }
}

impl<F: Floor> Holder for Connection<F> {
    fn stop(&self) {
        self.hang_up();
    }
}

/// Serves a connection to its end. `arrived` are bytes that another shard read from it.
pub async fn serve<W: World>(shard: Rc<Shard<W>>, wire: W::Wire, arrived: Vec<u8>) {
    let peer = wire.peer();
    let Some(connection) = shard.admit(wire, peer) else {
        return;
    };
    if connection.standing.get() == Standing::TurnedAway {
        drop(arrived);
        turn_away(&shard, &connection).await;
        shard.dismiss(connection.id);
        return;
    }
    shard.world.emit(Event::Connected { peer });
    let mut answer = Vec::new();
    let mut inbox = match Inbox::with(&*shard.world, &arrived) {
        Ok(inbox) => inbox,
        Err(NoRoom) => {
            let mut inbox = Inbox::empty();
            let refused = (BadHead::NoRoom, &*arrived);
            refuse_head(&shard, &connection, &mut inbox, &mut answer, refused).await;
            return shard.dismiss(connection.id);
        }
    };
    drop(arrived);
    while let Next::Request = exchange(&shard, &connection, &mut inbox, &mut answer).await {}
    connection.rest(&shard);
    shard.dismiss(connection.id);
}

/// Tells a client that there is no place for it, so that it comes back later instead of hearing an end without a word.
async fn turn_away<W: World>(shard: &Rc<Shard<W>>, connection: &Rc<Connection<W>>) {
    let mut answer = Vec::new();
    reply::write_refusal(&Refusal::Busy, None, Persistence::Close, &mut answer);
    if send(&*shard.world, connection, &mut answer).await.is_ok() && shard.may_linger() {
        let mut inbox = Inbox::empty();
        linger(shard, connection, &mut inbox).await;
    }
}

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The connection may carry another request.
    Request,
    /// The connection is over, or lives on another shard.
    End,
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
        // An idle connection holds nothing, whatever went over it before.
        if answer.capacity() > IDLE_ANSWER_BYTES_MAX {
            *answer = Vec::new();
        }
        connection.wait_for(Waiting::Request, shard.world.now());
        if shard.phase() == Phase::Draining || connection.wire.ready().await.is_err() {
            return Next::End;
        }
    }
    let (request, head_bytes) = match read_head(shard, connection, inbox).await {
        Ok(Some(read)) => read,
        Ok(None) => {
            if !inbox.is_empty() {
                shard.world.emit(Event::EndedEarly {
                    peer: connection.peer,
                    seen: inbox.bytes(),
                });
            }
            return Next::End;
        }
        Err(why) => {
            // What the answer looks like is seen in the first word; the log names the target.
            let begin = inbox.bytes()[..inbox.len().min(SEEN_BYTES_MAX)].to_vec();
            refuse_head(shard, connection, inbox, answer, (why, &begin)).await;
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
            connection.rest(shard);
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
    if let Request::Packet {
        packet: Err((why, session)),
        ..
    } = &request
    {
        shard.world.emit(Event::Refused {
            peer: connection.peer,
            session: *session,
            path: None,
            target: stranger::target(inbox.bytes()),
            why,
        });
    }
    inbox.consume(head_bytes);
    inbox.settle(&*shard.world);
    match request {
        Request::Packet {
            packet: Ok(packet),
            expects_continue,
            framing,
            persistence,
        } => {
            if is_stranded {
                let body = match &packet {
                    Packet::Fragment(fragment) => fragment::unread(fragment),
                    _ => request::unread_body(framing, expects_continue),
                };
                let outcome = Outcome {
                    reply: Err(Refusal::Busy),
                    session: packet.session_request().and_then(|named| named.session),
                    body,
                };
                let read_max = read_max(shard, Some(packet.path()));
                let end = (persistence, read_max);
                return answer_packet(shard, connection, inbox, answer, outcome, end).await;
            }
            // For the log line of a refusal.
            let path = packet.path().clone();
            let outcome = match dispatch(shard, connection, inbox, answer, packet).await {
                Ok(outcome) => outcome,
                Err(Cut) => {
                    let (peer, path) = (connection.peer, path.as_str());
                    shard.world.emit(Event::BrokeOff { peer, path });
                    return Next::End;
                }
            };
            if let Err(why) = &outcome.reply {
                let (peer, session) = (connection.peer, outcome.session);
                shard.world.emit(Event::Refused {
                    peer,
                    session,
                    path: Some(path.as_str()),
                    target: None,
                    why,
                });
                if *why == Refusal::ParentMissing {
                    shard.point_at_another_case(&path);
                }
            }
            let end = (persistence, read_max(shard, Some(&path)));
            answer_packet(shard, connection, inbox, answer, outcome, end).await
        }
        Request::Packet {
            packet: Err((refusal, session)),
            expects_continue,
            framing,
            persistence,
        } => {
            let body = request::unread_body(framing, expects_continue);
            let outcome = Outcome {
                reply: Err(refusal),
                session,
                body,
            };
            let end = (persistence, read_max(shard, None));
            answer_packet(shard, connection, inbox, answer, outcome, end).await
        }
        Request::Download {
            wanted,
            asked,
            persistence,
        } => {
            // The file goes out in a block of its own; one of the two is enough, unless the client sends ahead.
            if !planted::is(Bug::DownloadHoldsTwo) {
                inbox.release();
            }
            let wanted = (!is_stranded).then_some(wanted);
            let sent = download::answer(shard, connection, answer, wanted, &asked, persistence);
            match Box::pin(sent).await {
                Ok(persistence) => {
                    finish_exchange(shard, connection, inbox, answer, persistence).await
                }
                Err(Cut) => Next::End,
            }
        }
        Request::Plain {
            why,
            is_head,
            framing,
            persistence,
        } => {
            let persistence = match framing {
                Framing::Absent | Framing::Length(0) => persistence,
                Framing::Length(_) | Framing::Chunked => Persistence::Close,
            };
            why.write(is_head, persistence, answer);
            finish_exchange(shard, connection, inbox, answer, persistence).await
        }
    }
}

/// Answers bytes that are no request; `refused` is why, and how they begin. Where the next request would begin is unknown,
/// so there is none.
async fn refuse_head<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    refused: (BadHead, &[u8]),
) {
    let (why, begin) = refused;
    shard.world.emit(Event::BadRequest {
        peer: connection.peer,
        seen: begin,
        why,
    });
    reply::write_bad_head(why, begin, answer);
    if send(&*shard.world, connection, answer).await.is_ok() {
        linger(shard, connection, inbox).await;
    }
}

/// Reads until a head is whole. `None` if the connection ends first.
async fn read_head<W: World>(
    shard: &Shard<W>,
    connection: &Connection<W>,
    inbox: &mut Inbox<W>,
) -> Result<Option<(Request, usize)>, BadHead> {
    connection.wait_for(Waiting::Head, shard.world.now());
    let mut progress = Progress::default();
    let mut blank_bytes = 0;
    loop {
        if head::is_blank(inbox.bytes()) {
            // Old clients send one behind each body. As long as nothing else comes, the connection is as idle as before.
            blank_bytes += inbox.len();
            if blank_bytes > head::EMPTY_LINES_MAX * 2 {
                return Err(BadHead::EmptyLines);
            }
            inbox.consume(inbox.len());
            inbox.release();
            connection.wait_for(Waiting::Request, shard.world.now());
            if shard.phase() == Phase::Draining || connection.wire.ready().await.is_err() {
                return Ok(None);
            }
            connection.wait_for(Waiting::Head, shard.world.now());
        }
        let parsed = head::parse_on(inbox.bytes(), &shard.head_limits, &mut progress)?;
        if let Parsed::Complete(head) = parsed {
            let settle = |path| {
                let path = shard.spelt(path);
                let is_strict = shard.location(&path).policy.strict;
                (path, is_strict)
            };
            let request = Request::read(&head, settle);
            if let Request::Packet {
                packet: Ok(Packet::CreateSession { .. }),
                ..
            } = request
            {
                let agent = head.only("User-Agent").ok().flatten();
                let agent = agent.map(|agent| shard.agent(agent));
                connection.agent.replace(agent);
            }
            return Ok(Some((request, head.bytes_len)));
        }
        inbox
            .make_room(&*shard.world)
            .map_err(|NoRoom| BadHead::NoRoom)?;
        match inbox.more(&*shard.world, &connection.wire).await {
            Ok(read) if read > 0 => connection.budget.spend(&*shard.world, read).await,
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
            session: packet.session_request().and_then(|named| named.session),
            body,
        });
    }
    // Boxed, so that an idle connection does not carry the space of the longest flow.
    match packet {
        Packet::Ping { .. } => Ok(no_body(Ok(Ack::Ping), None)),
        Packet::CreateSession { target } => {
            let reply = Box::pin(lifecycle::create(shard, connection, target)).await;
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

/// Bytes of an announced body that are read though nothing of it is stored. A client that lost an Ack sends its fragment
/// again, and one that is told of a gap has sent all of it: they read the answer only then, and a reset in mid-body would
/// take it away from them, each time. So what an honest client may send is read to its end.
fn read_max<W: World>(shard: &Shard<W>, path: Option<&UploadPath>) -> u64 {
    let fragment = path.map(|path| shard.location(path).policy.fragment_bytes_max);
    fragment.unwrap_or(0).max(shard.limits().drain_bytes_max)
}

/// What is still true of an answer after the rest of a body was read. Meanwhile another connection of the client may have
/// ended the session, or the disk: then nothing may be acked for it any more.
///
/// # Errors
/// [`Cut`] if another connection works on the session: it is the newer one, and how that ends is not known yet.
fn still_true<W: World>(shard: &Shard<W>, reply: Reply) -> Result<Reply, Cut> {
    let Ok(Ack::Fragment { session, .. }) = &reply else {
        return Ok(reply);
    };
    match shard.session(*session) {
        Some(session) if session.is_held() => Err(Cut),
        Some(session) if !session.is_gone() => Ok(reply),
        Some(_) | None => Ok(Err(Refusal::SessionNotFound)),
    }
}

/// Answers a packet when what is left of its body was read. `end` is what the client wants of the connection, and how
/// many bytes are read for it.
async fn answer_packet<W: World>(
    shard: &Rc<Shard<W>>,
    connection: &Rc<Connection<W>>,
    inbox: &mut Inbox<W>,
    answer: &mut Vec<u8>,
    mut outcome: Outcome,
    (asked, read_max): (Persistence, u64),
) -> Next {
    // A client that is to send smaller fragments must hear so.
    let read_max = match &outcome.reply {
        Err(Refusal::FragmentTooLarge { .. }) => read_max.saturating_mul(TOO_LARGE_READ),
        _ => read_max,
    };
    let persistence = match outcome.body {
        BodyLeft::Bytes(bytes) if bytes <= read_max => {
            // Before the answer: some proxies break off when they hear one in mid-body.
            let skipped = fragment::skip(shard, connection, inbox, bytes).await;
            if skipped.is_err() {
                return Next::End;
            }
            if bytes > 0 {
                match still_true(shard, outcome.reply) {
                    Ok(reply) => outcome.reply = reply,
                    Err(Cut) => return Next::End,
                }
            }
            asked
        }
        BodyLeft::Chunked(decoder) => {
            // Where it ends is for its sender to say, and here something was wrong: no request is looked for behind it.
            let skipped = fragment::skip_chunked(shard, connection, inbox, decoder, read_max).await;
            if skipped.is_err() {
                return Next::End;
            }
            match still_true(shard, outcome.reply) {
                Ok(reply) => outcome.reply = reply,
                Err(Cut) => return Next::End,
            }
            Persistence::Close
        }
        BodyLeft::Bytes(_) | BodyLeft::Unknown | BodyLeft::Unasked => Persistence::Close,
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
    if send(&*shard.world, connection, answer).await.is_err() {
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

/// Ends our side and reads on for a bounded while. Closing with unread bytes would make the kernel
/// reset the connection, and the client would lose the answer.
async fn linger<W: World>(shard: &Shard<W>, connection: &Connection<W>, inbox: &mut Inbox<W>) {
    connection.wire.finish();
    inbox.consume(inbox.len());
    inbox.release();
    let mut left = shard.limits().drain_bytes_max;
    // Its clock is not wound up again by bytes that come.
    connection.wait_for(Waiting::Farewell, shard.world.now());
    while left > 0 {
        match inbox.more(&*shard.world, &connection.wire).await {
            Ok(read) if read > 0 => {
                inbox.consume(read);
                left = left.saturating_sub(read as u64);
                connection.budget.spend(&*shard.world, read).await;
            }
            Ok(_) | Err(_) => return,
        }
    }
}
