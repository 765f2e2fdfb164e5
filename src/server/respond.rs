//! What a request asks for is done, and answered: by whoever may ask, in the manner that the
//! connection allows.

use std::sync::Arc;

use super::exchange::{Cut, Exchange, Outcome};
use super::floor::{Wire as _, World};
use super::gatekeeper::Shown;
use super::lifecycle::{self, Addressee};
use super::offers;
use super::patience::Waiting;
use super::phase::Phase;
use super::request::{self, Misread, Request, Wanted};
use crate::bits::packet::{Packet, PacketKind};
use crate::bits::reply::{self, Ack, Refusal, Scarce};
use crate::bits::session::Step;
use crate::bits::session_id::SessionId;
use crate::config::Access;
use crate::event::Event;
use crate::http::head::Framing;
use crate::http::path::UploadPath;
use crate::http::response::Persistence;

/// How many times `fragment_bytes_max` is read of a fragment that is longer: clients halve theirs
/// when they hear 413, and reading them costs no more than sending them.
const TOO_LARGE_READ: u64 = 16;

/// What follows an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The connection may carry another request.
    Request,
    /// The connection is over, or lives on another shard.
    End,
}

/// A request whose head was read.
pub struct Incoming {
    /// What it says.
    pub request: Request,
    /// Length of its head.
    pub bytes: usize,
    /// What the client calls itself, where it asks for a session.
    pub agent: Option<Arc<str>>,
    /// What it shows of who it is, where somebody may be asked.
    pub shown: Shown,
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

/// Whether it cannot be answered before all sessions are known.
fn needs_sessions(request: &Request) -> bool {
    match request {
        Request::Packet { packet, .. } => !matches!(packet, Ok(Packet::Ping { .. })),
        Request::Download { .. } => true,
        Request::Plain { .. } => false,
    }
}

impl<W: World> Exchange<W> {
    /// Does what a request asks for, and answers it. `is_stranded` is one that belongs to another
    /// shard, which cannot take it now.
    pub(super) async fn obey(&mut self, asked: Incoming, is_stranded: bool) -> Next {
        let shown = asked.shown;
        if self.shard.phase() == Phase::Recovering && needs_sessions(&asked.request) {
            self.wait_for(Waiting::Nothing);
            let shard = &self.shard;
            let is_open = || shard.phase() != Phase::Recovering;
            (shard.opening)
                .pass(&*shard.world, self.connection.id, is_open)
                .await;
        }
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
                    Ok(packet) => self.serve_packet(packet, asked.agent, shown, manners).await,
                    Err(misread) => self.answer_misread(misread, manners).await,
                }
            }
            Request::Download {
                wanted,
                asked,
                persistence,
            } => {
                let admitted = match is_stranded {
                    false => Box::pin(self.admit_download(&wanted, shown)).await,
                    true => Ok(()),
                };
                if let Err(refusal) = admitted {
                    self.tell_of_download(&wanted, &refusal);
                    self.add_answer(|answer| {
                        reply::write_plain_refusal(&refusal, asked.is_head(), persistence, answer);
                    });
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
                self.add_answer(|answer| why.write(methods, is_head, persistence, answer));
                self.finish(persistence).await
            }
        }
    }

    async fn answer_misread(&mut self, misread: Misread, manners: Manners) -> Next {
        let Misread { why, session, path } = misread;
        if let (true, Some(id)) = (brings_bytes(manners.framing, &why), session) {
            Box::pin(self.note_misread(id)).await;
        }
        let announced = match manners.framing {
            Framing::Length(bytes) => bytes,
            Framing::Absent | Framing::Chunked => 0,
        };
        let read_max = self.read_max(path.as_ref(), announced);
        let outcome = Outcome {
            reply: Err(why),
            session,
            body: request::unread_body(manners.framing, manners.expects_continue),
        };
        (self.answer_packet(About::default(), outcome, manners.persistence, read_max)).await
    }

    /// A packet that could not be understood brought bytes for a session: whoever closes it then
    /// did not mean an empty file. Only who may use it is heard, and what such a packet shows is
    /// not looked at: whoever has to say who it is was known before on this connection.
    async fn note_misread(&self, id: SessionId) {
        let Some(session) = self.shard.session(id) else {
            return;
        };
        let location = self.shard.location(&session.path);
        let known = self.visit.known(&self.shard.settings());
        let is_heard = location.access.auth.is_empty() || known.is_some();
        if is_heard
            && !self.is_from_elsewhere(&location.access)
            && session.is_open_to(&location.access, known)
        {
            offers::note_unread(&self.shard, &session).await;
        }
    }

    /// A fragment is turned away before its session is asked. If whoever sends it may use that,
    /// its bytes are noted all the same: other settings may hold when it is closed.
    async fn note_turned_away(&self, packet: &Packet) {
        let Packet::Fragment(fragment) = packet else {
            return;
        };
        let found = lifecycle::find(&self.shard, &fragment.request, self.principal.as_ref());
        if let (1.., Some(Addressee::Session(session))) = (fragment.content.len(), found) {
            offers::note_unread(&self.shard, &session).await;
        }
    }

    /// Whether the client comes from where nothing is taken: by the location, or by the listener.
    pub(super) fn is_from_elsewhere(&self, access: &Access) -> bool {
        let client = self.connection.client().ip();
        let is_out = || !self.visit.lets_in(&self.shard.settings(), client);
        !access.allow_from.let_in(client) || (self.visit.has_entry() && is_out())
    }

    /// Tells that a download is not for whoever asks for it.
    fn tell_of_download(&self, wanted: &Wanted, why: &Refusal) {
        let reply_of = match wanted {
            Wanted::Reply { session, .. } => self.shard.session(*session),
            Wanted::File(_) => None,
        };
        let path = match wanted {
            Wanted::Reply { .. } => reply_of.as_ref().map(|session| &session.path),
            Wanted::File(path) => Some(path),
        };
        self.shard.world.emit(Event::DownloadRefused {
            peer: self.connection.client(),
            path: path.map(UploadPath::as_str),
            status: reply::plain_status(why),
            user: self.principal.as_ref().map(|principal| &*principal.user),
            why: Some(why),
        });
    }

    async fn serve_packet(
        &mut self,
        packet: Packet,
        agent: Option<Arc<str>>,
        shown: Shown,
        manners: Manners,
    ) -> Next {
        let (peer, persistence) = (self.connection.client(), manners.persistence);
        // For whoever hears of the answer.
        let (kind, path) = (packet.kind(), packet.path().clone());
        let about = About {
            packet: Some(kind),
            path: Some(&path),
        };
        let read_max = match &packet {
            Packet::Fragment(fragment) => self.read_max(Some(&path), fragment.content.len()),
            _ => self.read_max(Some(&path), 0),
        };
        if manners.is_stranded {
            let outcome = Outcome {
                reply: Err(Refusal::Busy(Scarce::Letters)),
                session: packet.session_request().and_then(|named| named.session),
                body: match &packet {
                    Packet::Fragment(fragment) => request::unread(fragment),
                    _ => request::unread_body(manners.framing, manners.expects_continue),
                },
            };
            return (self.answer_packet(about, outcome, persistence, read_max)).await;
        }
        let dispatched = match self.admit(&path, shown).await {
            Ok(principal) => {
                self.principal = principal;
                self.dispatch(packet, agent).await
            }
            Err(refusal) => {
                if refusal == Refusal::NotAllowed {
                    Box::pin(self.note_turned_away(&packet)).await;
                }
                let refusal = self.too_long(&packet, &refusal).unwrap_or(refusal);
                Ok(Outcome::refused(refusal, &packet))
            }
        };
        // A refusal behind a connection that was hung up on is heard by nobody.
        let is_heard = |outcome: &Outcome| outcome.reply.is_ok() || !self.connection.is_hung_up();
        let outcome = match dispatched {
            Ok(outcome) if is_heard(&outcome) => outcome,
            Ok(_) | Err(Cut) => {
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
                user: self.principal.as_ref().map(|principal| &*principal.user),
                why,
            });
            if *why == Refusal::ParentMissing {
                self.shard.point_at_another_case(&path);
            }
        }
        (self.answer_packet(about, outcome, persistence, read_max)).await
    }

    /// Gives a packet to whoever knows what to do with it.
    async fn dispatch(&mut self, packet: Packet, agent: Option<Arc<str>>) -> Result<Outcome, Cut> {
        let session = packet.session_request().and_then(|named| named.session);
        if let Some(refusal) = self.refusal_before(&packet) {
            Box::pin(self.note_turned_away(&packet)).await;
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

    /// That a fragment is too long, where its client would be asked who it is. So much is not read
    /// to its end, and with the connection a ticket that takes two requests would be lost, each
    /// time. IIS filters requests before it authenticates them as well.
    fn too_long(&self, packet: &Packet, why: &Refusal) -> Option<Refusal> {
        let (Packet::Fragment(fragment), Refusal::Unauthorized(_)) = (packet, why) else {
            return None;
        };
        let limit = self.shard.location(packet.path()).policy.fragment_bytes_max;
        (fragment.content.len() > limit).then_some(Refusal::FragmentTooLarge { limit })
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

    /// Bytes of a body of `announced` bytes that are read though nothing of it is stored. A client
    /// that lost an Ack sends its fragment again, and one that is told of a gap has sent all of it:
    /// they read the answer only then, and a reset in mid-body would take it away from them, each
    /// time. So what an honest client may send is read to its end, whatever the answer is; a
    /// fragment that is longer, too, as far as that is near.
    fn read_max(&self, path: Option<&UploadPath>, announced: u64) -> u64 {
        let drained = self.shard.limits().drain_bytes_max;
        let Some(path) = path else {
            return drained;
        };
        let fragment = self.shard.location(path).policy.fragment_bytes_max;
        let read_max = fragment.max(drained);
        match announced > fragment {
            true => read_max.saturating_mul(TOO_LARGE_READ),
            false => read_max,
        }
    }

    /// Whether the connection may go on behind an answer, where its client asks for `wanted`.
    pub(super) fn allowed(&self, wanted: Persistence) -> Persistence {
        let is_over = self.shard.phase() == Phase::Draining;
        match is_over || self.connection.wire.is_distrusted() {
            true => Persistence::Close,
            false => wanted,
        }
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
        let is_in_the_way = self.shard.is_full() && matches!(outcome.reply, Err(Refusal::Busy(_)));
        let persistence = match is_in_the_way {
            true => Persistence::Close,
            false => self.allowed(persistence),
        };
        self.tell_of(about, &outcome);
        self.add_answer(|answer| match &outcome.reply {
            Ok(ack) => reply::write_ack(ack, persistence, answer),
            Err(refusal) => reply::write_refusal(refusal, outcome.session, persistence, answer),
        });
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
                // Apart, as what is rare: each request moves the space for all that may follow.
                Box::pin(self.linger()).await;
                Next::End
            }
        }
    }
}

/// Whether a packet that could not be understood was to bring bytes of a file.
fn brings_bytes(framing: Framing, why: &Refusal) -> bool {
    match framing {
        Framing::Length(1..) | Framing::Chunked => true,
        // A range may name bytes that are not there, or stand behind a head without a length.
        Framing::Absent | Framing::Length(0) => matches!(
            why,
            Refusal::LengthMismatch | Refusal::LengthMissing | Refusal::RangeMalformed
        ),
    }
}
