//! Who takes files to the object store of a run: what the server's own thread for that does
//! (`objects/staff.rs`), on virtual time. What is asked of the store, in which order, and what is
//! believed, is the server's own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bitsd::bits::session_id::SessionId;
use bitsd::config::NoReplace;
use bitsd::custody::object::StoredObject;
use bitsd::objects::abandon::abandon;
use bitsd::objects::beside::Beside;
use bitsd::objects::bucket::{Object, StoreTrouble};
use bitsd::objects::claims::Claims;
use bitsd::objects::deliver::{Deliverer, Rest};
use bitsd::objects::note::{Notebook as _, StorePlace};
use bitsd::objects::parts::{InParts, SentParts};
use bitsd::objects::probe;
use bitsd::server::object_order::{ObjectError, ObjectOrder, Storing};
use bitsd::vault::disk::{Millis, Shelf};
use bitsd::vault::names::{self, WorkName};
use tokio::sync::Semaphore;

use crate::clock::{Park, Wakers, sleep};
use crate::executor::{Executor, Group};
use crate::notes::SimNotes;
use crate::sim::Sim;
use crate::store::{SimBucket, SimSource};
use crate::world::SimFile;

/// The first pause between tries, in milliseconds.
const PAUSE_MS: u64 = 500;
/// The longest one.
const PAUSE_MS_MAX: u64 = 60_000;
/// A whole file waits so long for a part of it that is under way.
const PART_PATIENCE_MS: u64 = 20_000;
/// Longer than any run.
const FOR_EVER_MS: u64 = 1 << 40;

/// A file on its way.
#[derive(Default)]
struct Job {
    outcome: RefCell<Option<Result<StoredObject, ObjectError>>>,
    has_ended: Cell<bool>,
    is_given_up: Cell<bool>,
    changed: Wakers,
}

/// A file of which parts are sent ahead.
#[derive(Default)]
struct Ahead {
    acked: Cell<u64>,
    /// Nobody can tell it more.
    is_told_all: Cell<bool>,
    is_over: Cell<bool>,
    changed: Wakers,
}

/// What one life of the server has under way.
pub struct Desk {
    sim: Rc<Sim>,
    /// The life.
    group: Group,
    boot: String,
    bucket: SimBucket,
    notes: SimNotes,
    slots: Semaphore,
    slots_ahead: Semaphore,
    jobs: RefCell<BTreeMap<SessionId, Rc<Job>>>,
    ahead: RefCell<BTreeMap<SessionId, Rc<Ahead>>>,
    claims: RefCell<Claims>,
    /// What was sent ahead, until somebody goes on with it.
    known: RefCell<BTreeMap<SessionId, SentParts>>,
    digests: RefCell<BTreeMap<String, [u8; 32]>>,
    is_tried: Cell<bool>,
}

impl Desk {
    /// Of a life of the server; what the one before has left of sessions that are over is ended.
    pub fn open(sim: &Rc<Sim>, group: Group, boot: u128) -> Option<Rc<Self>> {
        let uploads_max = sim.plan.store.as_ref()?.uploads_max;
        let desk = Rc::new(Self {
            sim: Rc::clone(sim),
            group,
            boot: boot.to_string(),
            bucket: SimBucket {
                sim: Rc::clone(sim),
            },
            notes: SimNotes::new(sim, group),
            slots: Semaphore::new(uploads_max),
            slots_ahead: Semaphore::new(uploads_max.div_ceil(2)),
            jobs: RefCell::default(),
            ahead: RefCell::default(),
            claims: RefCell::default(),
            known: RefCell::default(),
            digests: RefCell::default(),
            is_tried: Cell::new(false),
        });
        let names = sim.disk.borrow().list_of(Shelf::WORK);
        for half in names.iter().filter(|name| names::is_half_note(name)) {
            sim.disk.borrow_mut().remove(Shelf::WORK, half);
        }
        desk.clean_up();
        Some(desk)
    }

    /// Ends what is left of sessions that are over: at a start, and when all are read back.
    pub fn clean_up(self: &Rc<Self>) {
        let names = self.sim.disk.borrow().list_of(Shelf::WORK);
        for name in names {
            if let WorkName::Note(id) = names::parse_name(&name)
                && (self.sim.disk.borrow())
                    .inode(&names::part_name(id))
                    .is_none()
            {
                self.spawn(Rc::clone(self).abandon_all(id));
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.sim.executor.spawn(self.group, task);
    }

    /// See `Floor::claim_object`.
    pub fn claim(&self, order: &ObjectOrder) -> bool {
        let is_ours = self.claims.borrow_mut().claim(order);
        if !is_ours {
            self.sim
                .marks
                .hit("another file is on its way to the object");
        }
        is_ours
    }

    /// See `Floor::release_object`.
    pub fn release(&self, session: SessionId) {
        self.claims.borrow_mut().release(session);
    }

    /// See `Floor::store_object`.
    pub async fn deliver(
        self: &Rc<Self>,
        order: &ObjectOrder,
        wait: Millis,
    ) -> Result<Storing, ObjectError> {
        let job = self.job(order);
        let executor = &self.sim.executor;
        let until = executor.now() + wait;
        while !job.has_ended.get() && executor.now() < until {
            Park::new(executor, Some(&job.changed), Some(until)).await;
        }
        if !job.has_ended.get() {
            return Ok(Storing::UnderWay);
        }
        self.jobs.borrow_mut().remove(&order.session);
        let outcome = job.outcome.borrow_mut().take();
        match outcome {
            None => Ok(Storing::UnderWay),
            Some(outcome) => outcome.map(Storing::Done),
        }
    }

    fn job(self: &Rc<Self>, order: &ObjectOrder) -> Rc<Job> {
        let mut jobs = self.jobs.borrow_mut();
        if let Some(job) = jobs.get(&order.session) {
            return Rc::clone(job);
        }
        if let Some(ahead) = self.ahead.borrow().get(&order.session) {
            ahead.is_told_all.set(true);
            ahead.changed.wake();
        }
        let job = Rc::new(Job::default());
        jobs.insert(order.session, Rc::clone(&job));
        self.spawn(Rc::clone(self).run(Rc::clone(&job), order.clone()));
        job
    }

    async fn run(self: Rc<Self>, job: Rc<Job>, order: ObjectOrder) {
        let executor = &self.sim.executor;
        let given_up = async {
            while !job.is_given_up.get() {
                Park::new(executor, Some(&job.changed), None).await;
            }
        };
        let Some(outcome) = before(given_up, self.try_to_deliver(&order)).await else {
            return;
        };
        self.sim
            .tell(|| format!("store: {} comes to {outcome:?}", order.session));
        *job.outcome.borrow_mut() = Some(outcome);
        job.has_ended.set(true);
        job.changed.wake();
    }

    async fn try_to_deliver(
        self: &Rc<Self>,
        order: &ObjectOrder,
    ) -> Result<StoredObject, ObjectError> {
        let known = self.end_ahead(order.session).await;
        let source = self.open_part(order).map_err(ObjectError::Unreadable)?;
        let mut pause = PAUSE_MS;
        while let Err(trouble) = self.ready(order).await {
            self.tell(&trouble);
            if matches!(trouble, StoreTrouble::Refused(_)) && !order.is_promised {
                return Err(ObjectError::Refused);
            }
            sleep(&self.sim.executor, pause).await;
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
        let object = Object::of(order);
        let place = StorePlace::from(&*order.store);
        if let Some(sha256) = order.sha256 {
            self.digests
                .borrow_mut()
                .insert(object.session.clone(), sha256);
        }
        let deliverer = Deliverer {
            bucket: &self.bucket,
            notes: &self.notes,
            slots: &self.slots,
            object: &object,
            place: &place,
            part_bytes: order.store.part_bytes,
            looks_first: order.store.no_replace == NoReplace::Look,
            is_promised: order.is_promised,
            is_repeat: order.is_repeat,
            was_told: order.was_told,
            boot: &self.boot,
        };
        let delivered = deliverer.run(&source, known, |trouble| self.tell(trouble));
        let delivered = delivered.await?;
        self.put_beside(order, &object).await;
        if delivered.rest == Rest::Note {
            self.sim
                .marks
                .hit("upload ended after its object was there");
            self.spawn(Rc::clone(self).abandon_all(order.session));
        }
        Ok(delivered.stored(place, object.key))
    }

    fn tell(&self, trouble: &StoreTrouble) {
        self.sim.tell(|| format!("store: {trouble}"));
    }

    fn open_part(&self, order: &ObjectOrder) -> io::Result<SimSource> {
        let inode = self.sim.disk.borrow().inode_on(order.shelf, &order.part);
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        let file = SimFile::open(&self.sim, self.group, &order.part, inode);
        Ok(SimSource::File(file))
    }

    /// Whether the store can do what is asked of it.
    async fn ready(&self, order: &ObjectOrder) -> Result<(), StoreTrouble> {
        let is_asked = !order.may_replace && order.store.no_replace == NoReplace::Probe;
        if !is_asked || self.is_tried.get() {
            return Ok(());
        }
        let name = probe::name(&order.store, self.sim.random(), self.group);
        match probe::try_it(&self.bucket, &name).await.shown? {
            Ok(()) => {
                self.is_tried.set(true);
                Ok(())
            }
            Err(wrong) => Err(StoreTrouble::Refused(wrong.to_owned())),
        }
    }

    async fn put_beside(&self, order: &ObjectOrder, object: &Object) {
        let (Some(file), Some(sha256)) = (&order.digest_file, order.sha256) else {
            return;
        };
        let beside = Beside {
            object,
            sha256,
            file,
            looks_first: order.store.no_replace == NoReplace::Look,
            known: &|session| self.digests.borrow().get(session).copied(),
        };
        let mut pause = PAUSE_MS;
        loop {
            let Ok(slot) = self.slots.acquire().await else {
                return;
            };
            let put = beside.put(&self.bucket).await;
            drop(slot);
            match put {
                Ok(_) => return,
                Err(trouble) => self.tell(&trouble),
            }
            sleep(&self.sim.executor, pause).await;
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
    }

    // Sending ahead.

    /// See `Floor::send_ahead`.
    pub fn send_ahead(self: &Rc<Self>, order: &ObjectOrder, acked: u64) {
        if self.jobs.borrow().contains_key(&order.session) {
            return;
        }
        let mut all = self.ahead.borrow_mut();
        if let Some(ahead) = all.get(&order.session) {
            ahead.acked.set(acked);
            return ahead.changed.wake();
        }
        let ahead = Rc::new(Ahead::default());
        ahead.acked.set(acked);
        all.insert(order.session, Rc::clone(&ahead));
        self.spawn(Rc::clone(self).run_ahead(ahead, order.clone()));
    }

    async fn run_ahead(self: Rc<Self>, ahead: Rc<Ahead>, order: ObjectOrder) {
        let executor = &self.sim.executor;
        let mut known = SentParts::default();
        let mut pause = PAUSE_MS;
        loop {
            let here = ahead.acked.get();
            let sent = self.send_all_ahead(&ahead, &order, here, &mut known).await;
            let is_in_vain = match &sent {
                Ok(()) => {
                    pause = PAUSE_MS;
                    while ahead.acked.get() == here && !ahead.is_told_all.get() {
                        Park::new(executor, Some(&ahead.changed), None).await;
                    }
                    if ahead.acked.get() == here {
                        break;
                    }
                    continue;
                }
                Err(trouble) => {
                    self.tell(trouble);
                    matches!(trouble, StoreTrouble::Exists | StoreTrouble::Local(_))
                }
            };
            let resting = async {
                match is_in_vain {
                    true => std::future::pending().await,
                    false => sleep(executor, pause).await,
                }
            };
            if before(told_all(executor, &ahead, 0), resting)
                .await
                .is_none()
            {
                break;
            }
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
        self.known.borrow_mut().insert(order.session, known);
        self.ahead.borrow_mut().remove(&order.session);
        ahead.is_over.set(true);
        ahead.changed.wake();
    }

    async fn send_all_ahead(
        &self,
        ahead: &Ahead,
        order: &ObjectOrder,
        here: u64,
        known: &mut SentParts,
    ) -> Result<(), StoreTrouble> {
        let executor = &self.sim.executor;
        let object = Object::of(order);
        let place = StorePlace::from(&*order.store);
        loop {
            let slot = before(told_all(executor, ahead, 0), self.slots_ahead.acquire());
            let Some(Ok(_slot)) = slot.await else {
                return Ok(());
            };
            self.ready(order).await?;
            let source = self.open_part(order)?;
            let parts = InParts {
                bucket: &self.bucket,
                notes: &self.notes,
                object: &object,
                place: &place,
                part_bytes: order.store.part_bytes,
                is_hashed: order.is_hashed,
                was_told: order.was_told,
                boot: &self.boot,
            };
            // Where it is known only the part is sent: that may be given up, and come late.
            let patience_ms = match known.is_found() {
                true => PART_PATIENCE_MS,
                false => FOR_EVER_MS,
            };
            let sending = parts.send_ahead(known, &source, here);
            let Some(sent) = before(told_all(executor, ahead, patience_ms), sending).await else {
                return Ok(());
            };
            match sent? {
                Some(_) => self.sim.marks.hit("part sent ahead"),
                None => return Ok(()),
            }
        }
    }

    /// Waits until nothing of a file is sent ahead any more; what was.
    async fn end_ahead(&self, session: SessionId) -> SentParts {
        let ahead = self.ahead.borrow().get(&session).cloned();
        if let Some(ahead) = ahead {
            while !ahead.is_over.get() {
                Park::new(&self.sim.executor, Some(&ahead.changed), None).await;
            }
        }
        let known = self.known.borrow_mut().remove(&session);
        known.unwrap_or_default()
    }

    // Giving up.

    /// See `Floor::await_object`.
    pub async fn await_end(&self, session: SessionId, wait: Millis) {
        let executor = &self.sim.executor;
        let job = self.jobs.borrow().get(&session).cloned();
        let Some(job) = job else {
            return sleep(executor, wait.min(1_000)).await;
        };
        let until = executor.now() + wait;
        while !job.has_ended.get() && executor.now() < until {
            Park::new(executor, Some(&job.changed), Some(until)).await;
        }
        sleep(executor, 10).await;
    }

    /// See `Floor::stop_object`.
    pub fn stop(&self, session: SessionId) {
        let job = self.jobs.borrow_mut().remove(&session);
        if let Some(job) = job {
            self.sim.marks.hit("file on its way to a store given up");
            job.is_given_up.set(true);
            job.changed.wake();
        }
    }

    /// See `Floor::abandon_object`.
    pub fn abandon(self: &Rc<Self>, session: SessionId) {
        self.stop(session);
        if let Some(ahead) = self.ahead.borrow().get(&session) {
            ahead.is_told_all.set(true);
            ahead.changed.wake();
        }
        let desk = Rc::clone(self);
        self.spawn(async move {
            let _known = desk.end_ahead(session).await;
            desk.abandon_all(session).await;
        });
    }

    /// Ends what the note of a session names, however often it takes.
    async fn abandon_all(self: Rc<Self>, id: SessionId) {
        let session = id.plain().to_string();
        let mut pause = PAUSE_MS;
        loop {
            let ended = async {
                match self.notes.read(&session).await? {
                    Some(note) => abandon(&self.bucket, &self.notes, &session, &note).await,
                    None => Ok(()),
                }
            };
            match ended.await {
                Ok(()) => return,
                Err(trouble) => self.tell(&trouble),
            }
            sleep(&self.sim.executor, pause).await;
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
    }
}

/// Returns so long after nobody can tell more of a file that is sent ahead.
async fn told_all(executor: &Rc<Executor>, ahead: &Ahead, patience_ms: u64) {
    while !ahead.is_told_all.get() {
        Park::new(executor, Some(&ahead.changed), None).await;
    }
    if patience_ms > 0 {
        sleep(executor, patience_ms).await;
    }
}

/// What comes of something; `None` if the end is there before.
async fn before<T>(end: impl Future<Output = ()>, wanted: impl Future<Output = T>) -> Option<T> {
    let (mut end, mut wanted) = (pin!(end), pin!(wanted));
    poll_fn(|context| {
        if end.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        wanted.as_mut().poll(context).map(Some)
    })
    .await
}
