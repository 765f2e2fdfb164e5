//! A session as its shard holds it: who may work on it, its state, its files, and how decisions of
//! [`crate::bits::session`] are carried out.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;

use super::clients::Counted;
use super::connection::{Connection, ConnectionId};
use super::floor::{Wire as _, World};
use super::notification::Pause;
use super::shard::{self, Shard};
use super::turnstile::{Entered, Holder, Pass, Superseded, Turnstile};
use crate::bits::notification::Token;
use crate::bits::reply::{Ack, Refusal};
use crate::bits::session::{self, Answer, Decision, Ending, Event as Step, State};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Location, Policy};
use crate::diagnosis::Severity;
use crate::event::{DiskOp, Event};
use crate::http::path::{SentUrl, UploadPath};
use crate::planted::{self, Bug};
use crate::vault::disk::{Millis, Shelf};
use crate::vault::error::StoreError;
use crate::vault::keep::Keep;
use crate::vault::space::Reservation;

/// One session of this shard.
pub struct Session<W: World> {
    /// Its id.
    pub id: SessionId,
    /// Its destination; every packet must name it again.
    pub path: UploadPath,
    /// Where its files are.
    pub shelf: Shelf,
    turnstile: Rc<Turnstile>,
    /// Present unless a [`Held`] has it.
    work: RefCell<Option<Box<Work<W>>>>,
    /// When bytes last arrived (or the session was made).
    progress_ms: Cell<Millis>,
    /// How long before `progress_ms` that was: the clock begins with the machine, sessions outlive it.
    age_ms: Cell<u64>,
    is_gone: Cell<bool>,
    /// No byte of it has come yet.
    is_empty: Cell<bool>,
    /// When its shard looks next whether it has expired.
    deadline_ms: Cell<Millis>,
    /// Names the reply that may be fetched now.
    reply: Cell<Option<Token>>,
    /// Its share of what its client may have, until it ends.
    counted: Cell<Option<Counted>>,
}

/// What only the holder of the session touches.
struct Work<W: World> {
    state: State,
    keep: Keep,
    /// The open part, while a connection is attached.
    file: Option<Rc<W::File>>,
    attached: Option<ConnectionId>,
    /// The watermark when the session was last alive, for the line at its end.
    received: u64,
    /// Size of the file, as far as it is known.
    total: Option<u64>,
    /// The end of what its client has offered so far.
    offered: u64,
    /// When its client was last answered.
    answered_ms: Millis,
    /// It was read back, and nothing of its body has come since.
    is_restored: bool,
    peer: Option<SocketAddr>,
    /// What is reserved for it, once something was.
    reservation: Option<Box<Reservation>>,
    /// How long its application is left alone.
    pause: Option<Box<Pause>>,
}

/// A client that is silent for longer between an answer and its next fragment was interrupted.
const SILENCE_MS: u64 = 5_000;

/// The right to work on a session, and its work; given back when dropped.
pub struct Held<W: World> {
    session: Rc<Session<W>>,
    work: Option<Box<Work<W>>>,
    /// The URL of the upload as it was spelt by whoever asks.
    asked: SentUrl,
    /// The settings of its destination when it was held; new ones hold for the next packet.
    location: Rc<Location>,
    // Dropped after `work` was put back.
    _pass: Pass,
}

/// What the client hears.
pub type Reply = Result<Ack, Refusal>;

impl<W: World> Session<W> {
    /// A session whose files stand. `age_ms` is the time since its last progress.
    pub fn new(
        shard: &Shard<W>,
        path: UploadPath,
        keep: Keep,
        state: State,
        age_ms: u64,
        counted: Counted,
    ) -> Rc<Self> {
        let now = shard.world.now();
        let (id, shelf) = (keep.id(), keep.shelf());
        let reply = served(state, &keep);
        let work = Work {
            state,
            keep,
            file: None,
            attached: None,
            received: state.received(),
            total: state.total(),
            offered: state.received(),
            answered_ms: now,
            is_restored: state.received() > 0,
            peer: None,
            reservation: None,
            pause: None,
        };
        Rc::new(Self {
            id,
            path,
            shelf,
            turnstile: Turnstile::new(),
            work: RefCell::new(Some(Box::new(work))),
            progress_ms: Cell::new(now),
            age_ms: Cell::new(age_ms),
            is_gone: Cell::new(matches!(state, State::Gone(_))),
            is_empty: Cell::new(is_empty(state)),
            deadline_ms: Cell::new(0),
            reply: Cell::new(reply),
            counted: Cell::new(Some(counted)),
        })
    }

    /// Waits for the right to work on the session; whoever had it before is stopped. `asked` is how the client spelt the
    /// URL of the upload.
    ///
    /// # Errors
    /// [`Superseded`] if a still newer connection came, or if time is up for all of them.
    pub async fn enter(
        self: &Rc<Self>,
        shard: &Shard<W>,
        connection: &Rc<Connection<W>>,
        asked: SentUrl,
    ) -> Result<Held<W>, Superseded> {
        let holder: Rc<dyn Holder> = Rc::clone(connection) as _;
        let (pass, entered) = match self.turnstile.try_enter(Rc::clone(&holder)) {
            Some(pass) => (pass, Entered::Free),
            // It was cut and comes late, by way of another shard: whoever is here is the newer one.
            None if connection.wire.has_left() => return Err(Superseded),
            None => self.turnstile.enter(holder).await?,
        };
        if shard.is_over() {
            // It waited while the one before it was ended by the stop: what that one left undone is for the next start.
            return Err(Superseded);
        }
        if entered == Entered::TakenOver {
            shard
                .world
                .emit(Event::SessionTakenOver { session: self.id });
        }
        let mut held = self.hold(pass, shard);
        held.attach(shard, connection);
        held.asked = asked;
        Ok(held)
    }

    /// The connection does nothing for the session now (it is idle, or turned to another one): its open file is closed, so
    /// that a session at rest holds no descriptor.
    pub fn rest(self: &Rc<Self>, shard: &Shard<W>, connection: &Rc<Connection<W>>) {
        // If somebody else holds the session, it is attached to them by now.
        if let Some(pass) = self.turnstile.try_enter(Rc::clone(connection) as _) {
            let mut held = self.hold(pass, shard);
            let work = held.work();
            if work.attached == Some(connection.id) {
                work.file = None;
            }
        }
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether somebody works on it just now.
    pub fn is_held(&self) -> bool {
        self.work.borrow().is_none()
    }

    /// Whether this names the reply that may be fetched now. Fetching it counts as progress.
    pub fn serves(&self, token: Token, now: Millis) -> bool {
        let is_served = self.reply.get() == Some(token);
        if is_served {
            self.touch(now);
        }
        is_served
    }

    /// Time without progress.
    fn idle_ms(&self, now: Millis) -> u64 {
        let here_ms = now.saturating_sub(self.progress_ms.get());
        here_ms.saturating_add(self.age_ms.get())
    }

    fn touch(&self, now: Millis) {
        self.progress_ms.set(now);
        self.age_ms.set(0);
    }

    /// When it has expired, if it makes no progress until then.
    pub fn expires_ms(&self, policy: &Policy) -> Millis {
        let timeout = match self.is_empty.get() {
            true => policy.session_timeout.min(policy.empty_session_timeout),
            false => policy.session_timeout,
        };
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let left_ms = timeout_ms.saturating_sub(self.age_ms.get());
        self.progress_ms.get().saturating_add(left_ms)
    }

    /// When its shard looks next whether it has expired.
    pub fn deadline_ms(&self) -> &Cell<Millis> {
        &self.deadline_ms
    }

    /// Discards it for want of progress, unless somebody works on it.
    pub async fn expire(self: &Rc<Self>, shard: &Shard<W>) {
        if let Some(pass) = self.turnstile.try_enter(Rc::new(Janitor)) {
            let mut held = self.hold(pass, shard);
            let decision = held.step(shard, Step::Expire);
            let _nobody_hears = held.carry_out(shard, decision).await;
        }
    }

    /// How long it has made no progress, on this server.
    pub fn rests_ms(&self, now: Millis) -> u64 {
        now.saturating_sub(self.progress_ms.get())
    }

    /// What a former server has left reserved for it.
    pub fn adopt_reservation(self: &Rc<Self>, shard: &Shard<W>, bytes: u64) {
        if let Some(pass) = self.turnstile.try_enter(Rc::new(Janitor)) {
            self.hold(pass, shard).adopt_reservation(shard, bytes);
        }
    }

    /// Gives back what is reserved for it and not received; `false` if somebody works on it.
    pub async fn give_back(self: &Rc<Self>, shard: &Shard<W>) -> bool {
        let Some(pass) = self.turnstile.try_enter(Rc::new(Janitor)) else {
            return false;
        };
        let mut held = self.hold(pass, shard);
        held.give_back(shard).await;
        if held.work().attached.is_none() {
            held.work().file = None;
        }
        true
    }

    /// Goes on with a publication that a crash cut short. If it is refused, the file stays sealed.
    pub async fn finish_publication(self: &Rc<Self>, shard: &Shard<W>) {
        if let Some(pass) = self.turnstile.try_enter(Rc::new(Janitor)) {
            let mut held = self.hold(pass, shard);
            let _nobody_hears = held.carry_out(shard, Decision::Publish).await;
            held.work().file = None;
        }
    }

    fn hold(self: &Rc<Self>, pass: Pass, shard: &Shard<W>) -> Held<W> {
        let work = self
            .work
            .borrow_mut()
            .take()
            .expect("the turnstile lets one in at a time");
        Held {
            session: Rc::clone(self),
            work: Some(work),
            asked: SentUrl::default(),
            location: shard.location(&self.path),
            _pass: pass,
        }
    }
}

/// The name of the reply that a client may fetch in this state.
fn served(state: State, keep: &Keep) -> Option<Token> {
    match state.reply() {
        session::Reply::File => keep.token(),
        session::Reply::None | session::Reply::Elsewhere => None,
    }
}

/// Whether no byte of the file has come yet.
fn is_empty(state: State) -> bool {
    matches!(state, State::Receiving { received: 0, .. })
}

/// Holds a session for the shard itself; never in anybody's way for long.
struct Janitor;

impl Holder for Janitor {
    fn stop(&self) {}
}

impl<W: World> Drop for Held<W> {
    fn drop(&mut self) {
        *self.session.work.borrow_mut() = self.work.take();
    }
}

impl<W: World> Held<W> {
    fn work(&mut self) -> &mut Work<W> {
        self.work.as_mut().expect("taken only by drop")
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.session.id
    }

    pub(super) fn path(&self) -> &UploadPath {
        &self.session.path
    }

    pub(super) fn location(&self) -> Rc<Location> {
        Rc::clone(&self.location)
    }

    pub(super) fn keep(&mut self) -> &mut Keep {
        &mut self.work().keep
    }

    pub(super) fn state(&mut self) -> State {
        self.work().state
    }

    pub(super) fn pause(&mut self) -> &mut Option<Box<Pause>> {
        &mut self.work().pause
    }

    pub(super) fn reservation(&mut self) -> &mut Option<Box<Reservation>> {
        &mut self.work().reservation
    }

    /// The URL of the upload as the client spelt it.
    pub(super) fn asked(&self) -> &SentUrl {
        &self.asked
    }

    fn attach(&mut self, shard: &Shard<W>, connection: &Rc<Connection<W>>) {
        let work = self.work();
        if work.attached != Some(connection.id) {
            let life = work.keep.life();
            life.connections = life.connections.saturating_add(1);
            // The file stays open: it is the same file.
            work.attached = Some(connection.id);
            work.peer = Some(connection.peer);
        }
        connection.turn_to(shard, self.session.id);
    }

    /// A fragment was offered. Whether the upload was interrupted before it: it begins again where it had been, or was
    /// silent for long, or its server was started anew. Connections say nothing of that: a proxy may use one per request.
    pub async fn note_offer(&mut self, shard: &Shard<W>, range: Range<u64>) {
        let now = shard.world.now();
        let work = self.work();
        let is_back = range.start < work.offered;
        let is_late = now.saturating_sub(work.answered_ms) > SILENCE_MS && work.offered > 0;
        let is_restored = std::mem::take(&mut work.is_restored);
        work.offered = work.offered.max(range.end);
        // An application that is asked again by a duplicate of the last fragment is no interruption.
        let is_receiving = matches!(work.state, State::Receiving { .. });
        if is_receiving && (is_back || is_late || is_restored) {
            let life = work.keep.life();
            life.interruptions = life.interruptions.saturating_add(1);
            // A client that begins again and again costs no record each time.
            if life.interruptions < 16 || life.interruptions.is_power_of_two() {
                work.keep.note_life(&shard.store).await;
            }
        }
    }

    /// The answer to a packet is decided.
    pub fn note_answer(&mut self, now: Millis) {
        self.work().answered_ms = now;
    }

    /// Takes the file of a session just made.
    pub fn set_file(&mut self, file: W::File) {
        self.work().file = Some(Rc::new(file));
    }

    /// The open part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file(&mut self, shard: &Shard<W>) -> Result<Rc<W::File>, StoreError> {
        let work = self.work();
        if work.file.is_none() {
            work.file = Some(Rc::new(work.keep.open(&*shard.world).await?));
        }
        Ok(Rc::clone(work.file.as_ref().expect("opened above")))
    }

    /// Finds out whether there is room for a file, and records its size, before its first byte.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&mut self, shard: &Shard<W>, total: u64) -> Result<(), StoreError> {
        let file = self.file(shard).await?;
        self.work().keep.begin(&shard.store, &file, total).await
    }

    /// Makes what was received survive a power cut, if the settings ask for that with each fragment and
    /// it was not done before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn harden(&mut self, shard: &Shard<W>) -> Result<(), StoreError> {
        if self.location.policy.durability != Durability::Fragment {
            return Ok(());
        }
        // Later states were sealed, which is more.
        let State::Receiving { received, .. } = self.work().state else {
            return Ok(());
        };
        if self.work().keep.is_hard(received) {
            return Ok(());
        }
        let file = self.file(shard).await?;
        self.work().keep.harden(&shard.store, &file, received).await
    }

    /// Gives an event to the state machine.
    pub fn step(&mut self, shard: &Shard<W>, event: Step) -> Decision {
        let rules = shard::rules(&self.location);
        let work = self.work();
        let (state, decision) = work.state.on(event, &rules);
        work.state = state;
        if !matches!(state, State::Gone(_)) {
            work.received = state.received();
            work.total = state.total().or(work.total);
        }
        match state {
            State::Receiving { received, .. } => {
                if let Some(reservation) = &mut work.reservation {
                    reservation.reached(received);
                }
            }
            // Until the file is removed.
            State::Gone(_) => {}
            _ => work.reservation = None,
        }
        if !matches!(state, State::Gone(_)) {
            self.session.is_empty.set(is_empty(state));
        }
        if matches!(
            event,
            Step::Stored { .. } | Step::Sealed | Step::Notified { .. }
        ) {
            self.session.touch(shard.world.now());
        }
        let work = self.work();
        let reply = served(work.state, &work.keep);
        self.session.reply.set(reply);
        decision
    }

    /// Bytes received so far.
    pub fn received(&mut self) -> u64 {
        self.work().state.received()
    }

    /// Carries a decision out, and those that follow from it, up to the answer.
    /// [`Decision::Store`] is for `fragment.rs` and does not come here.
    pub async fn carry_out(&mut self, shard: &Shard<W>, first: Decision) -> Reply {
        let mut decision = first;
        loop {
            decision = match decision {
                Decision::Seal { total } => {
                    if let Err(error) = self.seal(shard, total).await {
                        return Err(self.fail(shard, error).await);
                    }
                    shard
                        .world
                        .emit(Event::SessionSealed { session: self.id() });
                    self.step(shard, Step::Sealed)
                }
                Decision::Notify => match self.notify(shard).await {
                    Ok(event) => self.step(shard, event),
                    Err(refusal) => return Err(refusal),
                },
                Decision::Publish => match self.publish(shard).await {
                    Ok(()) => self.step(shard, Step::Published),
                    Err(error) if error.poisons() => return Err(self.fail(shard, error).await),
                    Err(error) => {
                        self.step(shard, Step::PublishRefused);
                        return Err(self.fail(shard, error).await);
                    }
                },
                Decision::Discard { answer } => {
                    let State::Gone(ending) = self.work().state else {
                        panic!("only what is gone is discarded");
                    };
                    self.work().file = None;
                    if let Err(error) = self.work().keep.discard(&shard.store, ending).await {
                        self.report(shard, &error);
                    }
                    self.bury(shard, ending);
                    return self.answer(answer);
                }
                Decision::Say(answer) => {
                    if let State::Gone(ending) = self.work().state {
                        if !self.session.is_gone.get() {
                            self.work().keep.note_end(&shard.store, ending).await;
                            self.drop_reply(shard).await;
                        }
                        self.work().file = None;
                        self.bury(shard, ending);
                    }
                    return self.answer(answer);
                }
                Decision::AckFragment { received } => {
                    return Ok(Ack::Fragment {
                        session: self.id(),
                        received,
                        reply_url: self.reply_url(),
                    });
                }
                Decision::Refuse(refusal) => return Err(refusal),
                Decision::Nothing => return Err(Refusal::SessionNotFound),
                Decision::Store(_) => panic!("a fragment is stored by fragment.rs"),
            }
        }
    }

    /// Turns a disk error into what the client hears; poisons the session where it must be.
    pub async fn fail(&mut self, shard: &Shard<W>, error: StoreError) -> Refusal {
        // A destination that is taken is the client's affair, not the disk's.
        if error.diagnosis().severity != Severity::Silent {
            self.report(shard, &error);
        }
        if error.poisons()
            && let Decision::Discard { .. } = self.step(shard, Step::Poison)
        {
            self.work().file = None;
            if let Err(second) = self
                .work()
                .keep
                .discard(&shard.store, Ending::Poisoned)
                .await
            {
                self.report(shard, &second);
            }
            self.bury(shard, Ending::Poisoned);
        }
        error.refusal()
    }

    async fn seal(&mut self, shard: &Shard<W>, total: u64) -> Result<(), StoreError> {
        let file = self.file(shard).await?;
        let durability = self.location.policy.durability;
        self.work()
            .keep
            .seal(&shard.store, &file, total, durability)
            .await
    }

    async fn publish(&mut self, shard: &Shard<W>) -> Result<(), StoreError> {
        let location = self.location();
        // The settings changed: the path is a folder now.
        let place = shard::place(&location, &self.session.path).ok_or(StoreError {
            op: DiskOp::Publish,
            source: io::ErrorKind::IsADirectory.into(),
        })?;
        let work = self.work();
        let closing = work.state;
        // Closed before it has its name, or watchers of the folder are told of that as well: all they see is that it came.
        work.file = None;
        (work.keep)
            .publish(&shard.store, &location.policy, &place, closing)
            .await
    }

    /// Removes the reply, if there may be one.
    pub(super) async fn drop_reply(&mut self, shard: &Shard<W>) {
        if planted::is(Bug::ReplyKept) {
            return;
        }
        if let Err(error) = self.keep().remove_reply(&shard.store).await {
            self.report(shard, &error);
        }
    }

    fn answer(&self, answer: Answer) -> Reply {
        let session = self.session.id;
        match answer {
            Answer::Closed => Ok(Ack::Closed { session }),
            Answer::Cancelled => Ok(Ack::Cancelled { session }),
            // Heard by nobody.
            Answer::Nobody => Err(Refusal::SessionNotFound),
        }
    }

    /// Tells of the end, once, and leaves a tombstone.
    fn bury(&mut self, shard: &Shard<W>, ending: Ending) {
        if self.session.is_gone.replace(true) {
            return;
        }
        self.session.counted.take();
        self.work().reservation = None;
        let (id, path) = (self.id(), self.session.path.clone());
        let location = self.location();
        let idle_ms = self.session.idle_ms(shard.world.now());
        let work = self.work();
        let record = work.keep.record();
        let duration_ms = match record.begun_ms {
            0 => None,
            begun_ms => Some(shard.world.wall_clock_ms().saturating_sub(begun_ms)),
        };
        drop(record);
        let life = work.keep.life().clone();
        shard.world.emit(Event::SessionEnded {
            session: id,
            ending,
            path: path.as_str(),
            location: &location.prefix,
            received: work.received,
            total: work.total,
            duration_ms,
            idle_ms,
            interruptions: life.interruptions,
            connections: life.connections,
            agent: life.agent.as_deref(),
            peer: work.peer,
        });
        let tombstone = work.keep.tombstone(ending);
        shard.bury(id, tombstone);
    }

    pub(super) fn report(&self, shard: &Shard<W>, error: &StoreError) {
        let session = Some(self.session.id);
        shard.world.emit(Event::DiskFailed {
            op: error.op,
            session,
            error: &error.source,
        });
    }
}
