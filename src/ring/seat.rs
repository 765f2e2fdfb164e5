//! The seat of a shard: its thread, pinned to a core, with its ring and all that it begins with;
//! what it is asked for ([`Stage`]), and what it tells the main thread ([`News`]).

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::sync::{oneshot, watch};

use super::afoot::Afoot;
use super::blocks::body::Registration;
use super::blocks::pages::Pages;
use super::blocks::{Blocks, NOT_REGISTERED};
use super::boot::Boot;
use super::directories::{Directories, Ground};
use super::disk::RingDisk;
use super::door::Door;
use super::launch_error::LaunchError;
use super::ledger;
use super::listeners;
use super::mailbox::{Letter, Senders};
use super::net::{self, RingWire};
use super::reload::{self, Offer};
use super::reloader::NewSettings;
use super::signals::Wish;
use super::space::{ShelfSpaces, Spaces};
use super::tls::validity::Terms;
use super::tls::wire::{Kit, Tls};
use super::tree::Trees;
use super::watch::Watch;
use super::window::Question;
use super::{RingWorld, counting, op, queue, turn};
use crate::admin::trace::Tap;
use crate::config::Config;
use crate::courier::Courier;
use crate::custody::ledger::Ledger;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::objects::Objects;
use crate::observe;
use crate::server::budget::Budget;
use crate::server::common::Common;
use crate::server::floor::{Floor as _, Wire as _};
use crate::server::recover::{self, Recovered};
use crate::server::serve;
use crate::server::shard::{Newcomers, Shard};
use crate::server::visit::Visit;
use crate::vault::disk::Runtime as _;
use crate::vault::{self, readback::Dealt};
use crate::verify::Verifier;

/// What the main thread asks of all shards, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Recover,
    Serve {
        /// All shards have journals of their own, and the old ones can go.
        is_renewed: bool,
    },
    Drain {
        /// The listeners outlive this process, and what waits in their queues is for the next one.
        keeps_listeners: bool,
    },
}

impl Stage {
    /// From here on sessions are served.
    pub const SERVE: Self = Self::Serve { is_renewed: false };
    /// From here on there is an end.
    pub const DRAIN: Self = Self::Drain {
        keeps_listeners: false,
    };

    /// Whether somebody goes on with the listeners.
    fn keeps_listeners(self) -> bool {
        matches!(
            self,
            Self::Drain {
                keeps_listeners: true
            }
        )
    }
}

/// What comes to the main thread.
pub enum News {
    /// A shard has read its sessions back.
    Recovered(io::Result<ReadBack>),
    /// A shard takes packets of every kind.
    Serving,
    /// A shard has ended, with so many uploads that are not finished.
    Ended(usize),
    /// A signal.
    Signal(Wish),
    /// The new program was asked whether it could serve: why it could not.
    Checked(Result<(), String>),
}

/// What one shard has read back.
pub struct ReadBack {
    /// It has a journal of its own now.
    pub is_renewed: bool,
    /// Uploads that go on.
    pub unfinished: usize,
    /// Uploads that have ended and are remembered.
    pub remembered: usize,
}

impl ReadBack {
    fn of(shard: &Shard<RingWorld>, recovered: &Recovered) -> Self {
        Self {
            is_renewed: recovered.is_renewed,
            unfinished: shard.unfinished_len(),
            remembered: shard.store.journal.tombstones().len(),
        }
    }
}

/// How far a shard has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has the memory of its body blocks.
    Blocks,
    /// Its ring answers.
    Ring,
}

/// All that one shard's thread starts with.
pub struct Seat {
    pub index: usize,
    /// What the journals say of its sessions.
    pub dealt: oneshot::Receiver<Dealt>,
    pub config: Arc<Config>,
    pub boot: Boot,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where packets can be watched.
    pub tap: Arc<Tap>,
    /// What an administrator asks of it.
    pub asked: Receiver<Question>,
    pub generation: u64,
    /// So much may its sessions weigh.
    pub sessions_bytes_max: u64,
    pub roots: Vec<(usize, Arc<Ground>, OwnedFd)>,
    pub directories: Arc<Directories>,
    pub notifier: Notifier,
    pub courier: Courier,
    pub objects: Objects,
    pub verifier: Verifier,
    pub ledger: Option<Ledger>,
    pub watch: Watch,
    pub spaces: Spaces,
    pub common: Common,
    pub to_adopt: Receiver<Offer<NewSettings>>,
    pub listeners: listeners::Sockets,
    pub secure: Vec<Option<Terms>>,
    pub afoot: Afoot,
    pub letters: Receiver<Letter>,
    pub senders: Senders,
    pub stage: watch::Receiver<Stage>,
    pub news: mpsc::Sender<News>,
    /// Told when it has come so far.
    pub alive: mpsc::Sender<Result<Sign, LaunchError>>,
    pub processor: Option<usize>,
}

impl Seat {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`LaunchError::Thread`]
    pub fn begin(self) -> Result<(), LaunchError> {
        let thread = thread::Builder::new().name(format!("shard-{}", self.index));
        let spawned = thread.spawn(move || self.run());
        spawned.map(drop).map_err(LaunchError::Thread)
    }

    fn run(self) {
        if let Some(processor) = self.processor {
            let mut set = rustix::thread::CpuSet::new();
            set.set(processor);
            // Pinning is for speed; a host that forbids it is served all the same.
            if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
                let shard = self.index;
                tracing::warn!(event = "not_pinned", shard, %error, "the shard is not kept on one core");
            }
        }
        counting::begin(&self.metrics.shards[self.index], &self.tap);
        let begun = match (queue::runtime(), Blocks::memory(&self.config.limits)) {
            (Ok(runtime), Some(memory)) => Ok((runtime, memory)),
            (Err(error), _) => Err(LaunchError::Ring(error)),
            (_, None) => Err(LaunchError::memory(&self.config)),
        };
        let (runtime, memory) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                let _ = self.alive.send(Err(why));
                return;
            }
        };
        let _ = self.alive.send(Ok(Sign::Blocks));
        runtime.block_on(async {
            op::give_way().await;
            let begun = op::begin_worker().await;
            let is_alive = begun.is_ok();
            let begun = begun.map(|()| Sign::Ring);
            let _ = self.alive.send(begun.map_err(LaunchError::Ring));
            if !is_alive {
                return;
            }
            let news = self.news.clone();
            let tell = counting::tell_of_stalls(self.index);
            let unfinished = turn::timed(self.serve(memory), tell).await;
            // Told from within: at its end tokio-uring waits without limit for what is pending, and
            // the process ends first.
            let _ = news.send(News::Ended(unfinished));
        });
    }

    /// Serves until it is told to end, and gives how many uploads are not finished then.
    async fn serve(self, memory: Vec<Pages>) -> usize {
        let (blocks, registration) = Blocks::of(&self.config.limits, memory);
        if let (Registration::Refused(error), 0) = (registration, self.index) {
            tracing::warn!(event = "blocks_not_registered", %error, "{NOT_REGISTERED}");
        }
        let world = RingWorld {
            shard: self.index,
            boot: self.boot,
            metrics: self.metrics,
            blocks,
            disk: RingDisk::new(self.directories.shelves(), self.config.io),
            trees: Arc::new(Trees::new(self.directories.shelves())),
            ledger_space: ledger::space(self.ledger.as_ref(), &self.spaces),
            spaces: ShelfSpaces::of_shard(self.spaces),
            ground_seen: Arc::default(),
            shelf_seen: Arc::default(),
            drawn: RefCell::default(),
            notifier: self.notifier,
            courier: self.courier,
            objects: self.objects,
            verifier: self.verifier,
            ledger: self.ledger,
            watch: self.watch,
            senders: self.senders,
            afoot: self.afoot.clone(),
            grounds: RefCell::default(),
            missing_shelves: self.directories.missing_shelves(),
            sessions_bytes_max: self.sessions_bytes_max,
            stats: Cell::new(0),
            chronicle: RefCell::default(),
        };
        world.add_roots(self.roots);
        let (world, count) = (Rc::new(world), self.config.cores);
        world.spawn(beat(Rc::clone(&world)));
        let shard = Shard::new(world, self.config, self.common, self.index, count);
        let (is_stopping, kit) = (Rc::new(Cell::new(false)), Rc::new(Kit::default()));
        let secure: Secure = Rc::new(RefCell::new(self.secure));
        let entrance = Entrance {
            is_stopping: Rc::clone(&is_stopping),
            secure: Rc::clone(&secure),
            kit: Rc::clone(&kit),
        };
        for (listener, entry) in self.listeners.iter().cloned() {
            let accept = accept(Rc::clone(&shard), listener, entry, entrance.clone());
            shard.world.spawn(self.afoot.begin().during(accept));
        }
        (shard.world).spawn(take_letters(Rc::clone(&shard), self.letters, kit));
        (shard.world).spawn(take_settings(Rc::clone(&shard), self.to_adopt, secure));
        (shard.world).spawn(take_inquiries(Rc::clone(&shard), self.asked));

        // If they cannot be read, the main thread hears of it, and that is the end.
        let Ok(dealt) = self.dealt.await else {
            return 0;
        };
        let read = recover::recover(&shard, self.generation, dealt).await;
        let told = (read.as_ref()).map(|recovered| ReadBack::of(&shard, recovered));
        let told = told.map_err(|error| io::Error::new(error.kind(), error.to_string()));
        let _ = self.news.send(News::Recovered(told));
        let Ok(recovered) = read else {
            return 0;
        };
        let mut stage = self.stage;
        let served = stage.wait_for(|stage| *stage >= Stage::SERVE).await;
        let reached = served.map_or(Stage::DRAIN, |stage| *stage);
        if self.index == 0 && reached == (Stage::Serve { is_renewed: true }) {
            vault::recover::retire(&*shard.world, self.generation, &recovered.damaged).await;
        }
        shard.world.end_forgotten_objects();
        shard.begin_serving();
        let _ = self.news.send(News::Serving);
        shard.world.spawn(Rc::clone(&shard).watch());

        let keeps_listeners = stage.wait_for(|stage| *stage >= Stage::DRAIN).await;
        let keeps_listeners = keeps_listeners.is_ok_and(|stage| stage.keeps_listeners());
        let entrances = (&self.listeners, &*is_stopping);
        end(&shard, &self.afoot, entrances, keeps_listeners).await;
        shard.unfinished_len()
    }
}

/// Says once a second that the shard has its turns still.
async fn beat(world: Rc<RingWorld>) {
    let metrics = world.metrics();
    loop {
        metrics.beat_ms.set(world.now());
        metrics.busy_us.set(counting::busy_us());
        world.tick().await;
    }
}

/// Lets running requests finish, as long as they may take, on all shards: until then one may come
/// over to this one.
///
/// Where the listeners outlive the server, it goes on to accept as long as it waits for clients
/// that were served a moment ago.
async fn end(
    shard: &Rc<Shard<RingWorld>>,
    afoot: &Afoot,
    (listeners, is_stopping): (&listeners::Sockets, &Cell<bool>),
    keeps_listeners: bool,
) {
    let limit = Duration::from_millis(shard.limits().shutdown_ms_max);
    let began = Instant::now();
    shard.drain(match keeps_listeners {
        true => Newcomers::AreServed,
        false => Newcomers::Wait,
    });
    while keeps_listeners && shard.awaits_who_was_served() && began.elapsed() < limit {
        tokio::time::sleep(DRAIN_BEAT).await;
        shard.part_from_idle(Newcomers::AreServed);
    }
    is_stopping.set(true);
    // An accept that is asked to end may have just begun, or the queue may be full: so it is asked
    // again.
    while !afoot.is_none() {
        stop_accepting(listeners, keeps_listeners);
        match began.elapsed() < limit {
            true => shard.part_from_idle(Newcomers::Wait),
            false => shard.hang_up_all(),
        }
        tokio::time::sleep(DRAIN_BEAT).await;
    }
    shard.note_all_hashing().await;
}

/// Asks the accepts that are pending to end. A listener that is not kept is ended itself, with all
/// who wait in its queue.
fn stop_accepting(listeners: &listeners::Sockets, keeps_listeners: bool) {
    for (listener, _) in listeners {
        match keeps_listeners {
            true => op::cancel(listener),
            false => net::stop_listening(listener),
        }
    }
}

/// How often it is looked whether all requests have ended.
const DRAIN_BEAT: Duration = Duration::from_millis(20);

/// What each listener of the settings speaks TLS with, as of the last reload.
type Secure = Rc<RefCell<Vec<Option<Terms>>>>;

/// All that listeners are served with.
#[derive(Clone)]
struct Entrance {
    is_stopping: Rc<Cell<bool>>,
    secure: Secure,
    kit: Rc<Kit>,
}

async fn accept(
    shard: Rc<Shard<RingWorld>>,
    listener: Arc<OwnedFd>,
    entry: Option<usize>,
    entrance: Entrance,
) {
    let (secure, kit) = (entrance.secure, entrance.kit);
    let afoot = shard.world.afoot.clone();
    let index = shard.index;
    let complain = move |error: &io::Error| observe::log_failed_accept(index, error);
    let serve = |wire: RingWire| {
        let wire = match entry.and_then(|entry| Door::of(&shard.settings(), entry)) {
            None => wire,
            Some(door) => match door.look_at(wire.peer()) {
                Ok(()) if door.wants_announcement() => wire.behind(door),
                Ok(()) => wire,
                Err(shut) => {
                    let (peer, why) = (wire.peer(), &shut.into());
                    return shard.world.emit(Event::NotLetIn { peer, why });
                }
            },
        };
        kit.pace.set(shard.limits().handshakes_per_second_max);
        let tls = entry.and_then(|entry| secure.borrow().get(entry).cloned().flatten());
        let wire = match tls {
            None => wire,
            Some(terms) => match Tls::new(terms.config, Rc::clone(&kit)) {
                Some(tls) => {
                    let trusted = &shard.settings().accounts.trusted_proxies;
                    let tls = tls.of_many(trusted.hold(wire.peer().ip()));
                    wire.secured(tls.vouched_for_by(terms.validity))
                }
                // Without keys it is not served in the clear.
                None => return,
            },
        };
        let here = Rc::clone(&shard);
        let serve = serve::serve(here, wire, Vec::new(), Visit::by(entry));
        shard.world.spawn(afoot.begin().during(serve));
    };
    net::accept_all(listener, entrance.is_stopping, complain, serve).await;
}

async fn take_settings(
    shard: Rc<Shard<RingWorld>>,
    to_adopt: Receiver<Offer<NewSettings>>,
    secure: Secure,
) {
    let adopt = |new: NewSettings| {
        secure.replace(new.secure);
        shard.world.add_roots(new.roots);
        shard.adopt(new.config);
    };
    reload::take(to_adopt, adopt).await;
}

/// Each is answered beside the others: one may have to wait for a client's write. How long the
/// shard works for it at a time is counted by the processor's clock: whoever else has its core
/// meanwhile is no fault of the answer.
async fn take_inquiries(shard: Rc<Shard<RingWorld>>, mut asked: Receiver<Question>) {
    while let Some(asked) = asked.recv().await {
        if asked.is_too_late() {
            continue;
        }
        let answering = Rc::clone(&shard);
        shard.world.spawn(async move {
            let mut answer = pin!(answering.answer(asked.inquiry.clone()));
            let insight = poll_fn(|context| {
                let began_us = counting::busy_us();
                let polled = answer.as_mut().poll(context);
                let took_us = counting::busy_us() - began_us;
                answering.world.metrics().answers.note(took_us);
                polled
            });
            let insight = insight.await;
            asked.answer(insight);
        });
    }
}

async fn take_letters(shard: Rc<Shard<RingWorld>>, mut letters: Receiver<Letter>, kit: Rc<Kit>) {
    let budget = Budget::default();
    while let Some(letter) = letters.recv().await {
        budget.spend(&*shard.world, letter.arrived.len()).await;
        let wire = RingWire::new(letter.socket, letter.peer).announced_as(letter.announcement);
        let wire = match letter.tls {
            Some(session) => wire.secured(Tls::with(session, Rc::clone(&kit))),
            None => wire,
        };
        let (here, arrived, visit) = (Rc::clone(&shard), letter.arrived, letter.visit);
        let serve = serve::serve(here, wire, arrived, visit);
        shard.world.spawn(letter.afoot.during(serve));
    }
}
