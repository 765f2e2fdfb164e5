//! The right to work on a session: who has it, and what may be done with it.
//!
//! Whoever holds a session alone moves its state and touches its files. What the
//! state machine decides is carried out above, in [`super::carry_out`].

use std::rc::Rc;
use std::sync::Arc;

use super::connection::{Connection, ConnectionId};
use super::floor::{Wire as _, World};
use super::rules;
use super::session::{Session, Work};
use super::shard::Shard;
use super::turnstile::{Entered, Holder, Pass, Superseded};
use crate::auth::policy::Principal;
use crate::bits::reply::Refusal;
use crate::bits::session::{Decision, Ending, State, Step};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Location};
use crate::diagnosis::Severity;
use crate::event::{Event, ObjectName};
use crate::http::authorization::Scheme;
use crate::http::path::{SentUrl, UploadPath};
use crate::vault::error::StoreError;
use crate::vault::keep::Keep;

/// The right to work on a session, and its work; given back when dropped.
pub struct Held<W: World> {
    pub(super) shard: Rc<Shard<W>>,
    session: Rc<Session<W>>,
    work: Option<Box<Work<W>>>,
    /// The connection that works for it; none if the shard does.
    connection: Option<Rc<Connection<W>>>,
    /// The URL of the upload as it was spelt by whoever asks.
    asked: SentUrl,
    /// The settings of its destination when it was held; new ones hold for the next packet.
    location: Rc<Location>,
    // Dropped after `work` was put back.
    _pass: Pass,
}

/// Holds a session for the shard itself; never in anybody's way for long.
struct Nobody;

impl Holder for Nobody {
    fn stop(&self) -> bool {
        false
    }
}

impl<W: World> Drop for Held<W> {
    fn drop(&mut self) {
        self.recount();
        self.session.put_work(self.work.take());
    }
}

impl<W: World> Held<W> {
    /// Waits for the right to work on a session; whoever had it before is stopped. `asked` is how
    /// the client spelt the URL of the upload.
    ///
    /// # Errors
    /// [`Superseded`] if a still newer connection came, or if time is up for all of them.
    pub async fn enter(
        shard: &Rc<Shard<W>>,
        session: &Rc<Session<W>>,
        connection: &Rc<Connection<W>>,
        asked: SentUrl,
    ) -> Result<Self, Superseded> {
        let holder: Rc<dyn Holder> = Rc::clone(connection) as _;
        let (pass, entered) = match session.turnstile.try_enter(Rc::clone(&holder)) {
            Some(pass) => (pass, Entered::Free),
            // It may have been cut and come late, by way of another shard: then whoever is here is
            // the newer one, and is not stopped. Or its client has only ended its own side, and
            // waits for an answer.
            None if connection.wire.has_left() => {
                let pass = session.turnstile.enter_behind(holder).await?;
                (pass, Entered::Waited)
            }
            None => session.turnstile.enter(holder).await?,
        };
        if shard.is_over() {
            // It waited while the one before it was ended by the stop: what that one left undone is
            // for the next start.
            return Err(Superseded);
        }
        if entered == Entered::TookOver {
            let series = shard.location(&session.path).series;
            let session = session.id;
            (shard.world).emit(Event::SessionTakenOver { session, series });
        }
        let mut held = Self::with(shard, session, pass, asked);
        held.attach(connection);
        held.connection = Some(Rc::clone(connection));
        Ok(held)
    }

    /// Holds a session for the shard itself, unless somebody works on it.
    pub fn for_shard(shard: &Rc<Shard<W>>, session: &Rc<Session<W>>) -> Option<Self> {
        let pass = session.turnstile.try_enter(Rc::new(Nobody))?;
        Some(Self::with(shard, session, pass, SentUrl::default()))
    }

    /// Holds a session for an administrator, when whoever has it has left: what is being sealed or
    /// published comes to its end, and its client hears of that.
    ///
    /// # Errors
    /// [`Superseded`] if a connection came for it meanwhile.
    pub async fn for_administrator(
        shard: &Rc<Shard<W>>,
        session: &Rc<Session<W>>,
    ) -> Result<Self, Superseded> {
        let now = shard.world.now();
        let entered = session.turnstile.enter_by_order(Rc::new(Nobody), now);
        let pass = entered.await?;
        if shard.is_over() {
            return Err(Superseded);
        }
        Ok(Self::with(shard, session, pass, SentUrl::default()))
    }

    /// Whether what follows is the wish of an administrator.
    pub(super) fn command(&mut self, is_commanded: bool) {
        self.work().is_commanded = is_commanded;
        self.keep().let_go(is_commanded);
    }

    fn with(shard: &Rc<Shard<W>>, session: &Rc<Session<W>>, pass: Pass, asked: SentUrl) -> Self {
        Self {
            shard: Rc::clone(shard),
            work: Some(session.take_work()),
            location: shard.location(&session.path),
            session: Rc::clone(session),
            connection: None,
            asked,
            _pass: pass,
        }
    }

    fn attach(&mut self, connection: &Rc<Connection<W>>) {
        let work = self.work();
        if work.attached != Some(connection.id) {
            work.keep.kept().count_connection();
            // The file stays open: it is the same file.
            work.attached = Some(connection.id);
            self.session.set_peer(connection.client());
        }
        // One file is open for a connection; that of the session before is closed.
        let id = self.session.id;
        if connection.session.get() != Some(id) {
            rest(&self.shard, connection);
        }
        connection.session.set(Some(id));
    }

    /// Whether a client waits for what comes of it.
    pub(super) fn is_for_client(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether somebody else waits for the session, or time is up.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_cut() || self.is_ordered_away()
    }

    /// Whether the client is gone, or time is up. An administrator's order waits for what is being
    /// sealed or published.
    pub(super) fn is_cut(&self) -> bool {
        self.shard.is_over() || (self.connection.as_ref()).is_some_and(|it| it.is_hung_up())
    }

    /// Whether an administrator's order waits for the session.
    pub(super) fn is_ordered_away(&self) -> bool {
        self.session.turnstile.order_waits()
    }

    /// Nobody had made the session, and this user goes on with it.
    pub(super) async fn give_to(&mut self, principal: &Principal) {
        let shard = Rc::clone(&self.shard);
        let work = self.work();
        if let Some(counted) = &mut work.counted {
            counted.also_of(&principal.user);
        }
        let user = Arc::clone(&principal.user);
        work.keep.kept().give_to(user, principal.scheme);
        // Before its client hears anything: a restart must not give it to somebody else.
        work.keep.note_life(&shard.store).await;
    }

    /// Closes the part if it is open for this connection.
    fn leave(&mut self, connection: ConnectionId) {
        let work = self.work();
        if work.attached == Some(connection) {
            work.file = None;
        }
    }

    /// Closes the part where no connection will.
    pub(super) fn close_if_nobody_is_attached(&mut self) {
        let work = self.work();
        if work.attached.is_none() {
            work.file = None;
        }
    }

    pub(super) fn work(&mut self) -> &mut Work<W> {
        self.work.as_mut().expect("taken only by drop")
    }

    pub(super) fn session(&self) -> &Session<W> {
        &self.session
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

    /// Where it stands.
    pub fn state(&self) -> State {
        self.session.state()
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.state().received()
    }

    /// The URL of the upload as the client spelt it.
    pub(super) fn asked(&self) -> &SentUrl {
        &self.asked
    }

    /// Whether whoever asks does so by TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        (self.connection.as_ref()).is_some_and(|connection| connection.wire.is_encrypted())
    }

    /// Takes the file of a session just made.
    pub fn set_file(&mut self, file: W::File) {
        self.work().file = Some(Rc::new(file));
    }

    /// The open part.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn file(&mut self) -> Result<Rc<W::File>, StoreError> {
        if let Some(file) = &self.work().file {
            return Ok(Rc::clone(file));
        }
        let shard = Rc::clone(&self.shard);
        let file = Rc::new(self.keep().open(&*shard.world).await?);
        self.work().file = Some(Rc::clone(&file));
        Ok(file)
    }

    /// Finds out whether there is room for a file, and records its size, before its first byte.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin(&mut self, total: u64) -> Result<(), StoreError> {
        let shard = Rc::clone(&self.shard);
        let file = self.file().await?;
        (self.keep().kept()).begin_fragment(shard.world.wall_clock_ms());
        self.keep().begin(&shard.store, &file, total).await
    }

    /// Makes what was received survive a power cut, if the settings ask for that with each fragment
    /// and it was not done before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn harden(&mut self) -> Result<(), StoreError> {
        if self.location.policy.durability != Durability::Fragment {
            return Ok(());
        }
        // Later states were sealed, which is more.
        let State::Receiving { received, .. } = self.state() else {
            return Ok(());
        };
        if self.keep().is_hard(received) {
            return Ok(());
        }
        let shard = Rc::clone(&self.shard);
        let file = self.file().await?;
        self.keep().harden(&shard.store, &file, received).await
    }

    /// What the state machine says to a step; nothing is changed by it.
    pub(super) fn decide(&self, from: State, step: Step) -> (State, Decision) {
        let work = self.work.as_ref();
        let has_name = work.is_some_and(|work| work.keep.has_name() || work.keep.is_object());
        let mut rules = rules::of_session(&self.location, from, has_name);
        // Its client had bytes to send, though none was taken.
        let has_offers = work.is_some_and(|work| work.offers.has_any);
        rules.close_creates_empty_file &= !has_offers && !self.session.was_offered();
        from.on(step, &rules)
    }

    /// Goes over to a state that needs no record of its own: it is written already, or the part
    /// tells it.
    pub(super) fn go_to(&mut self, next: State) {
        let work = self.work();
        work.keep.set_state(next);
        match next {
            State::Published { .. } => {
                work.reservation = None;
                self.shard.tell_of(self.session.id);
            }
            State::Receiving { received, .. } => {
                if let Some(reservation) = &mut work.reservation {
                    reservation.reached(received);
                }
            }
            State::Gone(_) => {}
            _ => work.reservation = None,
        }
    }

    /// Bytes were appended at the watermark.
    pub fn note_stored(&mut self, bytes: u64) {
        let (next, _nothing_to_do) = self.decide(self.state(), Step::Stored { bytes });
        self.go_to(next);
        self.note_progress();
        let wall_ms = self.shard.world.wall_clock_ms();
        self.keep().kept().note_byte(wall_ms);
        let metrics = self.shard.world.metrics();
        (metrics.location(self.location.series).received).add(bytes);
        self.recount();
    }

    /// The session is counted where it stands now, unless it has ended.
    fn recount(&self) {
        if self
            .work
            .as_ref()
            .is_some_and(|work| work.counted.is_some())
        {
            self.shard.count_in(self.location.series, &self.session);
        }
    }

    /// The session has made progress.
    pub(super) fn note_progress(&self) {
        self.session.touch(self.shard.world.now());
    }

    /// Turns a disk error into what the client hears; poisons the session where it must be.
    pub async fn fail(&mut self, error: StoreError) -> Refusal {
        // A destination that is taken is the client's affair, not the disk's.
        if error.diagnosis().severity != Severity::Silent {
            self.report(&error);
        }
        if let Some(errno) = error.lost_by() {
            let (shard, shelf) = (Rc::clone(&self.shard), self.keep().shelf());
            (shard.world.space(shelf)).note_lost(errno, shard.world.now());
        }
        if error.poisons()
            && let (_, Decision::Discard { ending, .. }) = self.decide(self.state(), Step::Poison)
        {
            self.work().remedy = Some(error.diagnosis().remedy);
            // No client has asked for this end, so it counts even if it cannot be written.
            let _always_ends = Box::pin(self.discard(ending)).await;
        }
        error.refusal()
    }

    /// Ends the session without a file, and removes what it had.
    ///
    /// # Errors
    /// What the client hears if that cannot be written: then the session has not ended, and the
    /// client comes back.
    pub(super) async fn discard(&mut self, ending: Ending) -> Result<(), Refusal> {
        let shard = Rc::clone(&self.shard);
        if shard.owes(&self.location) {
            self.note_place_of_end(ending);
        }
        let last = self.state();
        self.work().file = None;
        let owed = shard.owed(&self.location, ending, last.received());
        let ended = (self.keep().end_without_file(&shard.store, ending, owed)).await;
        if let Err(error) = ended {
            if self.received() < last.received() {
                // What was reserved went with the bytes.
                self.work().reservation = None;
            }
            self.report(&error);
            return Err(error.refusal());
        }
        if let Err(error) = self.keep().remove_files(&shard.store).await {
            self.report(&error);
        }
        self.bury(ending, last);
        Ok(())
    }

    /// Removes the reply, if there may be one.
    pub(super) async fn drop_reply(&mut self) {
        let shard = Rc::clone(&self.shard);
        if let Err(error) = self.keep().remove_reply(&shard.store).await {
            self.report(&error);
        }
    }

    /// Whether no byte has come for as long as a session without one lasts, and then still none
    /// while somebody held it. Nobody holds it open any longer by asking to send some.
    pub(super) fn is_empty_too_long(&self) -> bool {
        matches!(self.state(), State::Receiving { received: 0, .. }) && self.session.is_overdue()
    }

    /// Whether the end of the session was told.
    pub(super) fn is_buried(&mut self) -> bool {
        self.work().counted.is_none()
    }

    /// Tells of the end, once, and leaves a tombstone. `last` is where the session stood before.
    pub(super) fn bury(&mut self, ending: Ending, last: State) {
        if self.work().counted.take().is_none() {
            return;
        }
        self.tell_of_end(ending, last);
        self.work().reservation = None;
        self.take_from_store();
        let shard = Rc::clone(&self.shard);
        let location = self.location();
        let session = Rc::clone(&self.session);
        let work = self.work();
        let begun_ms = work.keep.record().begun_ms;
        let duration_ms =
            (begun_ms > 0).then(|| shard.world.wall_clock_ms().saturating_sub(begun_ms));
        let (peer, by_administrator, remedy) = (session.peer(), work.is_commanded, work.remedy);
        if let (true, Some(folder)) = (ending.is_good(), session.folder()) {
            folder.note_delivery(shard.world.now(), last.received());
        }
        // Whoever hears of it may look at the session.
        let life = work.keep.record().life.clone();
        let digests = work.keep.digests();
        let object = (work.keep.record().object.clone()).filter(|_| ending.is_good());
        let object = object.as_ref().map(|object| ObjectName {
            bucket: &object.bucket,
            key: &object.key,
        });
        shard.world.emit(Event::SessionEnded {
            session: session.id,
            ending,
            by_administrator,
            path: session.path.as_str(),
            location: &location.prefix,
            series: location.series,
            received: last.received(),
            total: last.total(),
            duration_ms,
            idle_ms: session.idle_ms(shard.world.now()),
            interruptions: life.interruptions,
            connections: life.connections,
            agent: life.agent.as_deref(),
            user: life.user.as_deref(),
            proof: life.proof.map(Scheme::word),
            digests,
            object,
            peer,
            remedy,
        });
        shard.bury(session.id, self.keep().tombstone(ending));
        shard.tell_of(session.id);
    }

    pub(super) fn report(&self, error: &StoreError) {
        let session = Some(self.session.id);
        self.shard.world.emit(Event::DiskFailed {
            op: error.op,
            session,
            error: &error.source,
        });
    }
}

/// Closes the file that is open for a connection which does nothing for its session now (it is
/// idle, or turned to another one): a session at rest holds no descriptor.
pub fn rest<W: World>(shard: &Rc<Shard<W>>, connection: &Rc<Connection<W>>) {
    let session = connection.session.take().and_then(|id| shard.session(id));
    // If somebody else holds the session, it is attached to them by now.
    if let Some(mut held) = session.and_then(|session| Held::for_shard(shard, &session)) {
        held.leave(connection.id);
    }
}
