//! One connection's life: head → packet → right shard → answer → again.

use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;

use super::connection::{Admission, Connection};
use super::crowd;
use super::exchange::Exchange;
use super::floor::{Wire as _, World};
use super::held;
use super::inbox::{Inbox, NoRoom};
use super::patience::Waiting;
use super::request::Request;
use super::respond::{Incoming, Next};
use super::shard::Shard;
use super::visit::Visit;
use crate::bits::packet::Packet;
use crate::bits::reply;
use crate::event::Event;
use crate::http::head::{self, BadHead, Parsed, Progress};
use crate::http::stranger;

/// What an idle connection keeps for its next answer: room for an Ack, but not for a Reply-URL.
const IDLE_ANSWER_BYTES_MAX: usize = 512;

/// Bytes of a head that was refused which are kept until the answer is written: a method and a
/// target that is worth telling.
const SEEN_BYTES_MAX: usize = 640;

/// Serves a connection to its end. `arrived` are bytes that another shard read from it, and `visit`
/// what was shown there.
pub fn serve<W: World>(
    shard: Rc<Shard<W>>,
    wire: W::Wire,
    arrived: Vec<u8>,
    visit: Visit,
) -> impl Future<Output = ()> {
    // Boxed, because most connections are idle: a task keeps room for whatever an `async fn` is
    // handed, for as long as it lasts and twice.
    attend(shard, Box::new((wire, arrived, visit)))
}

async fn attend<W: World>(shard: Rc<Shard<W>>, newcomer: Box<(W::Wire, Vec<u8>, Visit)>) {
    let Some((mut exchange, arrived)) = receive(&shard, *newcomer) else {
        return;
    };
    let id = exchange.connection.id;
    if exchange.connection.standing.get() == Admission::TurnedAway {
        drop(arrived);
        Box::pin(exchange.turn_away()).await;
        return shard.dismiss(id);
    }
    let peer = exchange.connection.peer();
    shard.world.emit(Event::Connected { peer });
    // Apart, because the idle connection after it need not keep the room that a handshake took.
    if !Box::pin(exchange.shake_hands()).await {
        return shard.dismiss(id);
    }
    if !arrived.is_empty() && !Box::pin(exchange.go_on_with(arrived)).await {
        return shard.dismiss(id);
    }
    while let Next::Request = exchange.once().await {}
    held::rest(&shard, &exchange.connection);
    shard.dismiss(id);
}

/// What a connection has at hand, and what has arrived of it, if there is room for it.
fn receive<W: World>(
    shard: &Rc<Shard<W>>,
    newcomer: (W::Wire, Vec<u8>, Visit),
) -> Option<(Box<Exchange<W>>, Vec<u8>)> {
    let (wire, arrived, visit) = newcomer;
    let peer = wire.announcement().client().unwrap_or_else(|| wire.peer());
    let exchange = Exchange {
        shard: Rc::clone(shard),
        connection: shard.admit(wire, peer)?,
        inbox: Inbox::empty(),
        answer: Vec::new(),
        principal: None,
        visit,
        proof: Vec::new(),
    };
    Some((Box::new(exchange), arrived))
}

/// Whose head is being read, for his share of what there is for long ones. `None` where a trusted
/// proxy may send it for anybody: whoever that is stands in the head.
fn whose_head<W: World>(shard: &Shard<W>, connection: &Connection<W>) -> Option<IpAddr> {
    let peer = connection.peer();
    let settings = shard.settings();
    let is_proxy = settings.accounts.trusted_proxies.hold(peer.ip());
    (!is_proxy).then(|| crowd::client(peer))
}

impl<W: World> Exchange<W> {
    /// Takes what another shard has read of the connection; `false` if there is no room for it.
    async fn go_on_with(&mut self, arrived: Vec<u8>) -> bool {
        self.connection.note_request();
        let client = || whose_head(&self.shard, &self.connection);
        match Inbox::with(&*self.shard.world, &arrived, client) {
            Ok(inbox) => {
                self.inbox = inbox;
                true
            }
            Err(NoRoom) => {
                self.refuse_head(BadHead::NoRoom, &arrived).await;
                false
            }
        }
    }

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
                Box::pin(self.refuse_head(why, &begin)).await;
                return Next::End;
            }
        };
        self.wait_for(Waiting::Nothing);
        if self.connection.is_hung_up() || self.shard.is_over() {
            // It came before the end and was read after it: nobody would hear an answer.
            return Next::End;
        }
        if self.connection.wire.is_distrusted() {
            // Nothing is done for it; it finds an end and no reset, and may come back.
            Box::pin(self.linger()).await;
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
            packet: Err(misread),
            ..
        } = &asked.request
        {
            self.shard.world.emit(Event::Refused {
                peer,
                session: misread.session,
                path: None,
                target: stranger::target(self.inbox.bytes()),
                user: None,
                why: &misread.why,
            });
        }
        if let Request::Plain { why, .. } = &asked.request {
            let (seen, status) = (self.inbox.bytes(), why.status());
            (self.shard.world).emit(Event::NotServed { peer, seen, status });
        }
        self.inbox.consume(asked.bytes);
        self.inbox.settle(&*self.shard.world);
        // Whoever waits for the disk needs no block meanwhile, and a file goes out in one of its
        // own. It is kept where the client sends ahead.
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
        if self.connection.wire.ready().await.is_err() {
            return Next::End;
        }
        if self.connection.is_leaving() {
            // What comes now has crossed our end, and nobody can be answered.
            Box::pin(self.linger()).await;
            return Next::End;
        }
        Next::Request
    }

    /// Answers bytes that are no request: why, and how they begin. Where the next request would
    /// begin is unknown, so there is none.
    async fn refuse_head(&mut self, why: BadHead, begin: &[u8]) {
        let (peer, seen) = (self.connection.client(), begin);
        self.shard.world.emit(Event::BadRequest { peer, seen, why });
        self.add_answer(|answer| reply::write_bad_head(why, begin, answer));
        if self.send().await.is_ok() {
            self.linger().await;
        }
    }

    /// Reads until a head is whole. `None` if the connection ends first.
    async fn read_head(&mut self) -> Result<Option<Incoming>, BadHead> {
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
                return Ok(Some(Incoming {
                    agent: agent.map(|agent| shard.agent(agent)),
                    bytes: head.bytes_len,
                    shown: self.look_who(&head),
                    request,
                }));
            }
            let world = &*self.shard.world;
            let client = || whose_head(&self.shard, &self.connection);
            let room = self.inbox.make_room(world, client);
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
}
