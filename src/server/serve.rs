//! One connection's life: head → packet → right shard → answer → again.

use std::rc::Rc;
use std::sync::Arc;

use super::connection::Admission;
use super::exchange::{Cut, Exchange, Outcome};
use super::floor::{Wire as _, World};
use super::gatekeeper::Shown;
use super::held;
use super::inbox::{Inbox, NoRoom};
use super::patience::Waiting;
use super::request::{self, Request};
use super::shard::{Phase, Shard};
use super::visit::Visit;
use crate::bits::packet::{Packet, PacketKind};
use crate::bits::reply::{self, Ack, Refusal};
use crate::bits::session::Step;
use crate::event::Event;
use crate::http::head::{self, BadHead, Framing, Parsed, Progress};
use crate::http::path::UploadPath;
use crate::http::response::Persistence;
use crate::http::stranger;

/// What an idle connection keeps for its next answer: room for an Ack, but not for a Reply-URL.
const IDLE_ANSWER_BYTES_MAX: usize = 512;

/// Bytes of a head that was refused which are kept until the answer is written: a method and a
/// target that is worth telling.
const SEEN_BYTES_MAX: usize = 640;

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The connection may carry another request.
    Request,
    /// The connection is over, or lives on another shard.
    End,
}

/// A request whose head was read.
struct Asked {
    request: Request,
    /// Of its head.
    bytes: usize,
    /// What the client calls itself, where it asks for a session.
    agent: Option<Arc<str>>,
    /// What it shows of who it is, where somebody may be asked.
    shown: Shown,
}

/// How a packet came: what the client wants of the connection, and what its head says of its body.
#[derive(Clone, Copy)]
struct Manners {
    expects_continue: bool,
    framing: Framing,
    persistence: Persistence,
    /// It belongs to another shard, which cannot take it now.
    is_stranded: bool,
}

/// What a packet is about, for whoever hears of its answer; nothing of one that makes no sense.
#[derive(Clone, Copy, Default)]
struct About<'p> {
    packet: Option<PacketKind>,
    path: Option<&'p UploadPath>,
}

/// Serves a connection to its end. `arrived` are bytes that another shard read from it, and `visit`
/// what was shown there.
pub async fn serve<W: World>(shard: Rc<Shard<W>>, wire: W::Wire, arrived: Vec<u8>, visit: Visit) {
    let peer = wire.announced().unwrap_or_else(|| wire.peer());
    let Some(connection) = shard.admit(wire, peer) else {
        return;
    };
    let id = connection.id;
    let mut exchange = Exchange {
        shard: Rc::clone(&shard),
        connection,
        inbox: Inbox::empty(),
        answer: Vec::new(),
        principal: None,
        visit,
        proof: Vec::new(),
    };
    if exchange.connection.standing.get() == Admission::TurnedAway {
        drop(arrived);
        Box::pin(exchange.turn_away()).await;
        return shard.dismiss(id);
    }
    shard.world.emit(Event::Connected { peer });
    if !exchange.shake_hands().await {
        return shard.dismiss(id);
    }
    match Inbox::with(&*shard.world, &arrived) {
        Ok(inbox) => exchange.inbox = inbox,
        Err(NoRoom) => {
            Box::pin(exchange.refuse_head(BadHead::NoRoom, &arrived)).await;
            return shard.dismiss(id);
        }
    }
    drop(arrived);
    while let Next::Request = exchange.once().await {}
    held::rest(&shard, &exchange.connection);
    shard.dismiss(id);
}

impl<W: World> Exchange<W> {
    /// One request and its answer.
    async fn once(&mut self) -> Next {
        if self.wait_for_request().await == Next::End {
            return Next::End;
        }
        // Apart, because most connections are idle: they need not keep room for what a request
        // needs.
        Box::pin(self.request()).await
    }

    /// A request that has begun to arrive, and its answer.
    async fn request(&mut self) -> Next {
        let asked = match self.read_head().await {
            Ok(Some(asked)) => asked,
            Ok(None) => {
                if !self.inbox.is_empty() {
                    let (peer, seen) = (self.connection.client(), self.inbox.bytes());
                    self.shard.world.emit(Event::EndedEarly { peer, seen });
                }
                return Next::End;
            }
            Err(why) => {
                // What the answer looks like is seen in the first word; the log names the target.
                let begin = self.inbox.bytes()[..self.inbox.len().min(SEEN_BYTES_MAX)].to_vec();
                self.refuse_head(why, &begin).await;
                return Next::End;
            }
        };
        self.wait_for(Waiting::Nothing);
        if self.connection.is_hung_up() || self.shard.is_over() {
            // It came before the end and was read after it: nobody would hear an answer.
            return Next::End;
        }
        let mut is_stranded = false;
        if let Some(owner) = self.elsewhere(&asked.request) {
            if self.move_to(owner) {
                return Next::End;
            }
            is_stranded = true;
        }
        let peer = self.connection.client();
        if let Request::Packet {
            packet: Err((why, session)),
            ..
        } = &asked.request
        {
            self.shard.world.emit(Event::Refused {
                peer,
                session: *session,
                path: None,
                target: stranger::target(self.inbox.bytes()),
                why,
            });
        }
        self.inbox.consume(asked.bytes);
        self.inbox.settle(&*self.shard.world);
        // Whoever waits for the disk needs no block meanwhile.
        self.inbox.release();
        self.obey(asked, is_stranded).await
    }

    async fn wait_for_request(&mut self) -> Next {
        if !self.inbox.is_empty() {
            return Next::Request;
        }
        self.inbox.release();
        // An idle connection holds nothing, whatever went over it before.
        if self.answer.capacity() > IDLE_ANSWER_BYTES_MAX {
            self.answer = Vec::new();
        }
        self.wait_for(Waiting::Request);
        let is_over = self.shard.phase() == Phase::Draining;
        match is_over || self.connection.wire.ready().await.is_err() {
            true => Next::End,
            false => Next::Request,
        }
    }

    /// Does what a request asks for.
    async fn obey(&mut self, asked: Asked, is_stranded: bool) -> Next {
        let shown = asked.shown;
        match asked.request {
            Request::Packet {
                packet,
                expects_continue,
                framing,
                persistence,
            } => {
                let manners = Manners {
                    expects_continue,
                    framing,
                    persistence,
                    is_stranded,
                };
                match packet {
                    Ok(packet) => {
                        self.serve_packet(packet, asked.agent, &shown, manners)
                            .await
                    }
                    Err((refusal, session)) => {
                        let outcome = Outcome {
                            reply: Err(refusal),
                            session,
                            body: request::unread_body(framing, expects_continue),
                        };
                        let read_max = self.read_max(None);
                        self.answer_packet(About::default(), outcome, persistence, read_max)
                            .await
                    }
                }
            }
            Request::Download {
                wanted,
                asked,
                persistence,
            } => {
                // The file goes out in a block of its own; one of the two is enough, unless the
                // client sends ahead.
                self.inbox.release();
                if !is_stranded && let Err(refusal) = self.admit_download(&wanted, &shown).await {
                    let (is_head, from) = (asked.is_head(), self.answer.len());
                    reply::write_plain_refusal(&refusal, is_head, persistence, &mut self.answer);
                    self.prove_ourselves(from);
                    return self.finish(persistence).await;
                }
                let wanted = (!is_stranded).then_some(wanted);
                match Box::pin(self.download(wanted, &asked, persistence)).await {
                    Ok(persistence) => self.finish(persistence).await,
                    Err(Cut) => Next::End,
                }
            }
            Request::Plain {
                why,
                path,
                is_head,
                framing,
                persistence,
            } => {
                let persistence = match framing {
                    Framing::Absent | Framing::Length(0) => persistence,
                    Framing::Length(_) | Framing::Chunked => Persistence::Close,
                };
                let location = path.map(|path| self.shard.location(&path));
                let methods = location.map_or("BITS_POST", |location| request::methods(&location));
                why.write(methods, is_head, persistence, &mut self.answer);
                self.finish(persistence).await
            }
        }
    }

    async fn serve_packet(
        &mut self,
        packet: Packet,
        agent: Option<Arc<str>>,
        shown: &Shown,
        manners: Manners,
    ) -> Next {
        let (peer, persistence) = (self.connection.client(), manners.persistence);
        // For whoever hears of the answer.
        let (kind, path) = (packet.kind(), packet.path().clone());
        let about = About {
            packet: Some(kind),
            path: Some(&path),
        };
        if manners.is_stranded {
            let outcome = Outcome {
                reply: Err(Refusal::Busy),
                session: packet.session_request().and_then(|named| named.session),
                body: match &packet {
                    Packet::Fragment(fragment) => request::unread(fragment),
                    _ => request::unread_body(manners.framing, manners.expects_continue),
                },
            };
            let read_max = self.read_max(Some(&path));
            return (self.answer_packet(about, outcome, persistence, read_max)).await;
        }
        let dispatched = match self.admit(&path, shown).await {
            Ok(principal) => {
                self.principal = principal;
                self.dispatch(packet, agent).await
            }
            Err(refusal) => Ok(Outcome::refused(refusal, &packet)),
        };
        let outcome = match dispatched {
            Ok(outcome) => outcome,
            Err(Cut) => {
                let path = path.as_str();
                self.shard.world.emit(Event::BrokeOff { peer, path });
                return Next::End;
            }
        };
        if let Err(why) = &outcome.reply {
            self.shard.world.emit(Event::Refused {
                peer,
                session: outcome.session,
                path: Some(path.as_str()),
                target: None,
                why,
            });
            if *why == Refusal::ParentMissing {
                self.shard.point_at_another_case(&path);
            }
        }
        let read_max = self.read_max(Some(&path));
        (self.answer_packet(about, outcome, persistence, read_max)).await
    }

    /// Answers bytes that are no request: why, and how they begin. Where the next request would
    /// begin is unknown, so there is none.
    async fn refuse_head(&mut self, why: BadHead, begin: &[u8]) {
        let (peer, seen) = (self.connection.client(), begin);
        self.shard.world.emit(Event::BadRequest { peer, seen, why });
        reply::write_bad_head(why, begin, &mut self.answer);
        if self.send().await.is_ok() {
            self.linger().await;
        }
    }

    /// Reads until a head is whole. `None` if the connection ends first.
    async fn read_head(&mut self) -> Result<Option<Asked>, BadHead> {
        self.wait_for(Waiting::Head);
        let mut progress = Progress::default();
        let mut blank_bytes = 0;
        loop {
            if head::is_blank(self.inbox.bytes()) {
                // Old clients send one behind each body. As long as nothing else comes, the
                // connection is as idle as before.
                blank_bytes += self.inbox.len();
                if blank_bytes > head::EMPTY_LINES_MAX * 2 {
                    return Err(BadHead::EmptyLines);
                }
                self.inbox.consume(self.inbox.len());
                if self.wait_for_request().await == Next::End {
                    return Ok(None);
                }
                self.wait_for(Waiting::Head);
            }
            let shard = &self.shard;
            let parsed = head::parse_on(self.inbox.bytes(), &shard.head_limits, &mut progress)?;
            if let Parsed::Complete(head) = parsed {
                let settle = |path| {
                    let path = shard.spelt(path);
                    let is_strict = shard.location(&path).policy.strict;
                    (path, is_strict)
                };
                let request = Request::read(&head, settle);
                let agent = match &request {
                    Request::Packet {
                        packet: Ok(Packet::CreateSession { .. }),
                        ..
                    } => head.only("User-Agent").ok().flatten(),
                    _ => None,
                };
                return Ok(Some(Asked {
                    agent: agent.map(|agent| shard.agent(agent)),
                    bytes: head.bytes_len,
                    shown: self.look_who(&head),
                    request,
                }));
            }
            let world = &*self.shard.world;
            let room = self.inbox.make_room(world);
            room.map_err(|NoRoom| BadHead::NoRoom)?;
            match self.inbox.more(world, &self.connection.wire).await {
                Ok(read) if read > 0 => self.spend(read).await,
                Ok(_) | Err(_) => return Ok(None),
            }
        }
    }

    /// The shard that owns the session of a request, if it is not this one.
    fn elsewhere(&self, request: &Request) -> Option<usize> {
        let owner = request.session()?.shard(self.shard.count);
        (owner != self.shard.index).then_some(owner)
    }

    /// Gives the connection, and what has come on it, to another shard; `false` if that is full.
    fn move_to(&self, owner: usize) -> bool {
        held::rest(&self.shard, &self.connection);
        let (peer, bytes) = (self.connection.client(), self.inbox.bytes());
        let world = &self.shard.world;
        let (wire, visit) = (&self.connection.wire, &self.visit);
        let is_moved = world.hand_over(wire, bytes, visit, owner).is_ok();
        if is_moved {
            world.emit(Event::Moved { peer, to: owner });
        }
        is_moved
    }

    /// Gives a packet to whoever knows what to do with it.
    async fn dispatch(&mut self, packet: Packet, agent: Option<Arc<str>>) -> Result<Outcome, Cut> {
        let session = packet.session_request().and_then(|named| named.session);
        if let Some(refusal) = self.refusal_before(&packet) {
            return Ok(Outcome::refused(refusal, &packet));
        }
        // Boxed, so that an idle connection does not carry the space of the longest flow.
        let reply = match packet {
            Packet::Ping { .. } => Ok(Ack::Ping),
            Packet::CreateSession { target } => Box::pin(self.create(target, agent)).await,
            Packet::Fragment(fragment) => return Box::pin(self.receive(fragment)).await,
            Packet::CloseSession(request) => Box::pin(self.end(request, Step::Close)).await?,
            Packet::CancelSession(request) => Box::pin(self.end(request, Step::Cancel)).await?,
        };
        Ok(Outcome::whole(reply, session))
    }

    /// What a packet hears whatever it says.
    fn refusal_before(&self, packet: &Packet) -> Option<Refusal> {
        if !self.shard.location(packet.path()).is_enabled {
            Some(Refusal::UploadsDisabled)
        } else if self.shard.phase() == Phase::Recovering && !matches!(packet, Packet::Ping { .. })
        {
            Some(Refusal::Unavailable)
        } else {
            None
        }
    }

    /// Bytes of an announced body that are read though nothing of it is stored. A client that lost
    /// an Ack sends its fragment again, and one that is told of a gap has sent all of it: they read
    /// the answer only then, and a reset in mid-body would take it away from them, each time. So
    /// what an honest client may send is read to its end.
    fn read_max(&self, path: Option<&UploadPath>) -> u64 {
        let fragment = path.map(|path| self.shard.location(path).policy.fragment_bytes_max);
        fragment
            .unwrap_or(0)
            .max(self.shard.limits().drain_bytes_max)
    }

    /// Answers a packet when what is left of its body was read. `asked` is what the client wants of
    /// the connection, `read_max` how many bytes are read for it.
    async fn answer_packet(
        &mut self,
        about: About<'_>,
        mut outcome: Outcome,
        asked: Persistence,
        read_max: u64,
    ) -> Next {
        let Ok(persistence) = self.read_rest(&mut outcome, asked, read_max).await else {
            return Next::End;
        };
        // Whoever is turned away gives its place back where places are scarce: those who hold the
        // sessions that it waits for may be waiting for a connection.
        let is_in_the_way = self.shard.is_full() && matches!(outcome.reply, Err(Refusal::Busy));
        let persistence = match self.shard.phase() {
            Phase::Draining => Persistence::Close,
            Phase::Recovering | Phase::Serving if is_in_the_way => Persistence::Close,
            Phase::Recovering | Phase::Serving => persistence,
        };
        self.tell_of(about, &outcome);
        let answer = &mut self.answer;
        let from = answer.len();
        match &outcome.reply {
            Ok(ack) => reply::write_ack(ack, persistence, answer),
            Err(refusal) => reply::write_refusal(refusal, outcome.session, persistence, answer),
        }
        self.prove_ourselves(from);
        self.finish(persistence).await
    }

    /// Tells what a packet is about to hear.
    fn tell_of(&self, about: About<'_>, outcome: &Outcome) {
        let why = outcome.reply.as_ref().err();
        let session = match &outcome.reply {
            Ok(Ack::Created { session, .. }) => Some(*session),
            _ => outcome.session,
        };
        self.shard.world.emit(Event::Answered {
            peer: self.connection.client(),
            packet: about.packet,
            session,
            path: about.path.map(UploadPath::as_str),
            status: why.map_or(200, Refusal::status),
            why,
        });
    }

    /// Sends what is left to send and ends the connection where it must end.
    async fn finish(&mut self, persistence: Persistence) -> Next {
        if self.send().await.is_err() {
            return Next::End;
        }
        match persistence {
            Persistence::KeepAlive => Next::Request,
            Persistence::Close => {
                self.linger().await;
                Next::End
            }
        }
    }
}
