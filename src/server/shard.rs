//! What one core owns: its sessions, its connections, and the settings they are under. What it does
//! by the clock stands above, in [`super::janitor`].

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::common::Common;
use super::connection::{Connection, ConnectionId};
use super::crowd::Crowd;
use super::dateline::Dateline;
use super::floor::{HEAD_BLOCK_BYTES_MAX, World};
use super::outbox::Outbox;
use super::phase::{Opening, Phase};
use super::session::Session;
use super::shares::Shares;
use crate::auth::memory::Memory;
use crate::bits::reply::Scarce;
use crate::bits::session_id::SessionId;
use crate::config::{Config, Durability, Limits, Location};
use crate::event::{Event, Hangup};
use crate::http::head::HeadLimits;
use crate::http::path::UploadPath;
use crate::metrics::beginnings::Beginnings;
use crate::metrics::shard::Gauged;
use crate::vault::disk::{Millis, millis};
use crate::vault::store::Store;
use crate::vault::tombstones::Tombstone;

/// So many different names of clients are kept once for all sessions that have them.
const AGENTS_MAX: usize = 64;
/// Characters of such a name.
const AGENT_CHARS_MAX: usize = 64;

/// What becomes of newcomers while a shard ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// They are served: the listeners go to the next server, and nobody has to wait for it yet.
    AreServed,
    /// They wait in the queues of the listeners, or are refused by the kernel.
    Wait,
}

/// One core and all it owns.
pub struct Shard<W: World> {
    /// The outside.
    pub world: Rc<W>,
    /// Its sessions' place on disk.
    pub store: Store<W>,
    /// Settings that hold until the end.
    pub config: Arc<Config>,
    /// Settings that may change meanwhile.
    settings: RefCell<Arc<Config>>,
    /// The locations of `settings`.
    locations: RefCell<Vec<Rc<Location>>>,
    /// Whether any of them asks who somebody is: looked up with every head.
    asks: Cell<bool>,
    /// Locations of earlier settings, as long as a request is under way that began under them.
    former_locations: RefCell<Vec<Rc<Location>>>,
    /// What it shares with all shards.
    pub common: Common,
    /// Passwords that were found right on this shard.
    pub remembered: RefCell<Memory>,
    /// This shard's number; `index < count`.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
    /// Bounds of a request head.
    pub head_limits: HeadLimits,
    /// Bytes of a head that a head block is sure to take.
    pub head_block_bytes: usize,
    /// Time is up: what was not finished is left for the next start.
    is_over: Cell<bool>,
    /// The time that stands in answers.
    pub(super) dateline: Dateline,
    /// Body blocks that downloads may hold.
    pub downloads: Shares,
    /// Who waits until it has read back its sessions.
    pub(super) opening: Opening,
    /// What others are still to hear of sessions that ended.
    pub(super) outbox: Outbox,
    phase: Cell<Phase>,
    pub(super) connections: RefCell<BTreeMap<ConnectionId, Rc<Connection<W>>>>,
    /// Whose they are.
    pub(super) crowd: RefCell<Crowd>,
    /// Connections that were entered only to be turned away.
    pub(super) turned_away: Cell<usize>,
    /// Those of them that have heard it, from the one that heard it first.
    pub(super) lingering: RefCell<VecDeque<ConnectionId>>,
    /// Connections that were ended to make room, and have not left yet.
    pub(super) made_room: Cell<usize>,
    pub(super) next_connection: Cell<ConnectionId>,
    sessions: RefCell<BTreeMap<SessionId, Rc<Session<W>>>>,
    /// Each session once, by the time at which it is looked at next: it may have made progress
    /// meanwhile.
    deadlines: RefCell<BTreeSet<(Millis, SessionId)>>,
    /// When they were begun.
    beginnings: RefCell<Beginnings>,
    /// New settings may have brought the deadlines forward: those after this session are still to
    /// be set anew.
    to_reschedule: Cell<Option<SessionId>>,
    /// What clients call themselves: most say the same.
    agents: RefCell<BTreeSet<Arc<str>>>,
    /// Sessions for which space may be reserved.
    reservations: RefCell<BTreeSet<SessionId>>,
    /// Reservations are being given back.
    pub(super) is_giving_back: Cell<bool>,
    /// Expired sessions are being ended.
    pub(super) is_cleaning_up: Cell<bool>,
    /// What could not be removed is tried again.
    pub(super) is_removing: Cell<bool>,
    /// The journal is being written anew.
    pub(super) is_healing: Cell<bool>,
    /// When expired sessions are looked for next.
    next_cleanup_ms: Cell<Millis>,
    /// Whoever waits for the last connection to end.
    pub(super) emptied: RefCell<Option<Waker>>,
}

/// Those of new settings, each with the number under which it is counted.
fn locations<W: World>(world: &W, config: &Config) -> Vec<Rc<Location>> {
    let counted = config.locations.iter().cloned().map(|mut location| {
        location.series = world.series(&location.prefix);
        world.metrics().begin(location.series);
        Rc::new(location)
    });
    counted.collect()
}

fn asks(config: &Config) -> bool {
    (config.locations.iter()).any(|location| !location.access.auth.is_empty())
}

/// Whether anything has to survive a power cut.
fn is_durable(config: &Config) -> bool {
    let mut locations = config.locations.iter();
    locations.any(|location| location.policy.durability != Durability::None)
}

impl<W: World> Shard<W> {
    /// A shard that has not recovered yet.
    pub fn new(
        world: Rc<W>,
        config: Arc<Config>,
        common: Common,
        index: usize,
        count: usize,
    ) -> Rc<Self> {
        let head_limits = HeadLimits {
            head_bytes_max: config.limits.head_bytes_max,
            headers_max: config.limits.headers_max,
            value_bytes_max: config.limits.value_bytes_max,
        };
        let (one, other) = (world.random(), world.random());
        let opening = Opening::after(world.now());
        let secret = std::array::from_fn(|at| if at < 16 { one[at] } else { other[at - 16] });
        Rc::new(Self {
            store: Store::new(
                Rc::clone(&world),
                index,
                is_durable(&config),
                &config.limits,
            ),
            locations: RefCell::new(locations(&*world, &config)),
            world,
            settings: RefCell::new(Arc::clone(&config)),
            asks: Cell::new(asks(&config)),
            former_locations: RefCell::default(),
            common,
            remembered: RefCell::new(Memory::new(secret)),
            index,
            count,
            head_limits,
            head_block_bytes: head_limits.head_bytes_max.min(HEAD_BLOCK_BYTES_MAX),
            is_over: Cell::new(false),
            dateline: Dateline::default(),
            downloads: Shares::of(config.limits.body_blocks_per_shard),
            outbox: Outbox::new(&config.events),
            opening,
            phase: Cell::new(Phase::Recovering),
            connections: RefCell::default(),
            crowd: RefCell::default(),
            turned_away: Cell::new(0),
            lingering: RefCell::default(),
            made_room: Cell::new(0),
            next_connection: Cell::new(0),
            sessions: RefCell::default(),
            deadlines: RefCell::default(),
            beginnings: RefCell::default(),
            to_reschedule: Cell::new(None),
            agents: RefCell::default(),
            reservations: RefCell::default(),
            is_giving_back: Cell::new(false),
            is_cleaning_up: Cell::new(false),
            is_removing: Cell::new(false),
            is_healing: Cell::new(false),
            next_cleanup_ms: Cell::new(0),
            emptied: RefCell::default(),
            config,
        })
    }

    /// The settings of a destination.
    pub fn location(&self, path: &UploadPath) -> Rc<Location> {
        let index = self.settings.borrow().location_index(path.as_str());
        Rc::clone(&self.locations.borrow()[index])
    }

    /// The settings as they are now, for whoever waits while they may change.
    pub fn settings(&self) -> Arc<Config> {
        Arc::clone(&self.settings.borrow())
    }

    /// Whether anybody is asked anywhere who they are.
    pub fn asks(&self) -> bool {
        self.asks.get()
    }

    /// The bounds as they are now. Those that memory was taken by stay as they were at the start.
    pub fn limits(&self) -> Ref<'_, Limits> {
        Ref::map(self.settings.borrow(), |settings| &settings.limits)
    }

    /// Bytes that a client may still send when it has its answer: those of the longest fragment.
    pub(super) fn linger_bytes_max(&self) -> u64 {
        let locations = self.locations.borrow();
        let fragments = locations.iter().map(|one| one.policy.fragment_bytes_max);
        let longest = fragments.max().unwrap_or(0);
        longest.max(self.limits().drain_bytes_max)
    }

    /// A path as the settings spell its prefix.
    pub fn spelt(&self, path: UploadPath) -> UploadPath {
        self.settings.borrow().spelt(path)
    }

    /// Tells of a prefix that would hold for a path on Windows. Folders on disk are not looked
    /// through: that may take any time, and a client can ask for it without end.
    pub fn point_at_another_case(&self, path: &UploadPath) {
        let settings = self.settings.borrow();
        if let Some(prefix) = settings.prefix_in_another_case(path.as_str()) {
            let path = path.as_str();
            self.world.emit(Event::CaseDiffers { path, prefix });
        }
    }

    /// Goes over to new settings; running sessions go on under them. Their roots must be open
    /// already.
    pub fn adopt(&self, settings: Arc<Config>) {
        (self.store.journal).set_limits(&*self.world, &settings.limits);
        self.store.set_durable(is_durable(&settings));
        let former = self.locations.replace(locations(&*self.world, &settings));
        self.asks.set(asks(&settings));
        self.former_locations.borrow_mut().extend(former);
        self.next_cleanup_ms.set(self.world.now());
        self.to_reschedule.set(Some(SessionId::from_u128(0)));
        *self.settings.borrow_mut() = settings;
    }

    /// Where in its life the shard is.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Recovery is done; a shard that is asked to stop meanwhile stays so.
    pub fn begin_serving(&self) {
        if self.phase.get() == Phase::Recovering {
            self.phase.set(Phase::Serving);
            self.opening.look();
            self.world.metrics().is_recovering.set(0);
        }
    }

    // Sessions.

    /// The session of an id.
    pub fn session(&self, id: SessionId) -> Option<Rc<Session<W>>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// What there is too little of for another session.
    pub fn lacks(&self) -> Option<Scarce> {
        match self.unfinished_len() < self.limits().sessions_per_shard_max {
            true => self.store.journal.lacks(),
            false => Some(Scarce::Sessions),
        }
    }

    /// Some sessions, in the order of their ids: those behind this one.
    pub(super) fn sessions_after(
        &self,
        after: Option<SessionId>,
        count: usize,
    ) -> Vec<Rc<Session<W>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sessions = self.sessions.borrow();
        let some = sessions.range((from, Bound::Unbounded)).take(count);
        some.map(|(_, session)| Rc::clone(session)).collect()
    }

    /// Sessions that have not ended.
    pub fn unfinished_len(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// What a client calls itself, as it is kept: without what would spoil a line, and cut.
    pub fn agent(&self, field: &[u8]) -> Arc<str> {
        let text: String = (String::from_utf8_lossy(field).chars())
            .map(|char| if char.is_control() { '?' } else { char })
            .take(AGENT_CHARS_MAX)
            .collect();
        let mut agents = self.agents.borrow_mut();
        if let Some(agent) = agents.get(text.as_str()) {
            return Arc::clone(agent);
        }
        let agent: Arc<str> = text.into();
        if agents.len() >= AGENTS_MAX {
            agents.clear();
        }
        agents.insert(Arc::clone(&agent));
        agent
    }

    /// Enters a session.
    pub fn enter(&self, session: Rc<Session<W>>) {
        self.schedule(&session);
        let location = self.location(&session.path);
        self.count_in(location.series, &session);
        let mut chronicle = self.world.chronicle().borrow_mut();
        session.belongs_to(chronicle.folder(&location.prefix, session.path.as_str()));
        drop(chronicle);
        let before = self.sessions.borrow_mut().insert(session.id, session);
        assert!(before.is_none(), "114 random bits or more came twice");
    }

    /// A session ended; what a repeated packet must hear is remembered for a while.
    pub fn bury(&self, id: SessionId, tombstone: Tombstone) {
        if let Some(session) = self.sessions.borrow_mut().remove(&id) {
            let deadline = (session.deadline_ms().get(), id);
            self.deadlines.borrow_mut().remove(&deadline);
            self.recount(session.count_as(None), None);
        }
        self.forget_reservation(id);
        (self.store.journal).bury(id, tombstone, self.world.now());
    }

    /// Notes when a session is to be looked at next.
    pub(super) fn schedule(&self, session: &Session<W>) {
        let policy = &self.location(&session.path).policy;
        // Not before the next turn: one that is being worked on is looked at again.
        let next = session.expires_ms(policy).max(self.world.now() + 1);
        let before = session.deadline_ms().replace(next);
        let mut deadlines = self.deadlines.borrow_mut();
        deadlines.remove(&(before, session.id));
        deadlines.insert((next, session.id));
    }

    /// Counts a session where it stands now.
    pub(super) fn count(&self, session: &Session<W>) {
        let series = self.location(&session.path).series;
        self.count_in(series, session);
    }

    /// The same, where its location is known.
    pub(super) fn count_in(&self, series: usize, session: &Session<W>) {
        // One that is ending is counted as it stood until it is buried, as it is in the list.
        let begun_ms = session.record().begun_ms;
        let Some(now) = Gauged::of(series, session.shown_state(), begun_ms) else {
            return;
        };
        let before = session.count_as(Some(now));
        if before != Some(now) {
            self.recount(before, Some(now));
        }
    }

    fn recount(&self, before: Option<Gauged>, now: Option<Gauged>) {
        let metrics = self.world.metrics();
        metrics.recount(before, now);
        (self.beginnings.borrow_mut()).recount(metrics, before, now);
    }

    /// Space may be reserved for a session.
    pub fn note_reservation(&self, id: SessionId) {
        self.reservations.borrow_mut().insert(id);
    }

    /// Nothing is reserved for it any more.
    pub fn forget_reservation(&self, id: SessionId) {
        self.reservations.borrow_mut().remove(&id);
    }

    /// The sessions for which space may be reserved.
    pub fn reservations(&self) -> Vec<SessionId> {
        self.reservations.borrow().iter().copied().collect()
    }

    // Time.

    /// Lets go of roots that only earlier settings name, when the last request under them has
    /// ended.
    pub(super) fn close_roots(&self) {
        let mut former = self.former_locations.borrow_mut();
        if former.is_empty() {
            return;
        }
        former.retain(|location| Rc::strong_count(location) > 1);
        let current = self.locations.borrow();
        self.world.close_roots(&|root| {
            let mut needed = current.iter().chain(&*former);
            needed.any(|location| location.root == root)
        });
    }

    /// Whether it is time to look for expired sessions; if so, the next time is set.
    pub(super) fn begin_cleanup(&self, now: Millis) -> bool {
        if now < self.next_cleanup_ms.get() {
            return false;
        }
        let interval_ms = millis(self.settings.borrow().cleanup_interval);
        self.next_cleanup_ms.set(now.saturating_add(interval_ms));
        true
    }

    /// The session whose deadline is the first of those that are over.
    pub(super) fn next_due(&self, now: Millis) -> Option<Rc<Session<W>>> {
        let &(deadline, id) = self.deadlines.borrow().first()?;
        if deadline > now {
            return None;
        }
        let session = self.session(id);
        if session.is_none() {
            self.deadlines.borrow_mut().remove(&(deadline, id));
        }
        session
    }

    /// Sets the deadlines of some sessions by new settings; `false` if that is done for all.
    pub(super) fn reschedule_some(&self, count: usize) -> bool {
        let Some(after) = self.to_reschedule.take() else {
            return false;
        };
        let some = self.sessions_after(Some(after), count);
        for session in &some {
            self.schedule(session);
            // It may be another location's now.
            self.count(session);
        }
        let Some(last) = some.last() else {
            return false;
        };
        self.to_reschedule.set(Some(last.id));
        true
    }

    // The end.

    /// Begins to end: each connection ends after its next answer. Those without a request are for
    /// [`Self::part_from_idle`].
    pub fn drain(&self, newcomers: Newcomers) {
        self.phase.set(Phase::Draining);
        self.opening.look();
        self.part_from_idle(newcomers);
    }

    /// Whether time is up, and nothing may be written any more that the note of a clean stop would
    /// speak for.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Ends all connections now; what they received stays.
    pub fn hang_up_all(&self) {
        self.is_over.set(true);
        for connection in self.connections.borrow().values() {
            connection.hang_up(Hangup::Draining);
        }
    }

    /// Returns when no connection is open.
    pub async fn empty(&self) {
        poll_fn(|context| {
            if self.connections.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.emptied.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
