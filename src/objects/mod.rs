//! Files that go into an object store: how one gets there, whatever is lost on the way.
//!
//! # What can go wrong, and what is done
//!
//! An answer that is lost leaves open whether the request was carried out.
//! `CompleteMultipartUpload` may take minutes, is not the same when it is repeated, and may say 200
//! with an error inside. So nothing is believed but a look: the object is ours if it bears our
//! session as a mark (`x-amz-meta-bitsd-session`) and has our size. If not, it is sent again; the
//! file is still here.
//!
//! An upload in parts that nobody ends costs its owner money for ever. So a note in the work
//! directory ([`note`]) names it before the store is asked for it, and goes when it is completed or
//! aborted and both were seen to hold. Whatever an earlier life of the server has left is found by
//! its note.
//!
//! # The rooms
//!
//! [`bucket`] is what is asked of a store, as a trait; [`deliver`] decides and asks ([`parts`] for
//! an upload in parts, which may begin before its file is whole; [`probe`] finds out whether a
//! store can refuse to replace an object, [`trial`] does so for a check), and is tried against a
//! store that loses, repeats, delays and lies in its tests. [`claims`] says whose turn it is where
//! several files are for one object. `s3` speaks to real ones, by the client
//! of AWS.
//! [`Objects`] is the thread that all this runs on: nothing of it ever runs on a shard.

pub mod abandon;
pub mod beside;
pub mod bucket;
pub mod claims;
pub mod deliver;
pub mod note;
pub mod parts;
pub mod probe;
#[cfg(feature = "s3")]
mod s3;
mod staff;
pub mod standing;
pub mod trial;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::begun::Begun;
use crate::bits::session_id::SessionId;
use crate::config::ObjectStore;
use crate::custody::object::StoredObject;
use crate::metrics::Metrics;
use crate::processors;
use crate::server::object_order::{MadeObject, ObjectError, ObjectOrder, Storing};
use crate::vault::disk::Millis;
use claims::{Claims, is_same_work};

/// Takes files to object stores; one for all shards. Its thread begins with the first one.
#[derive(Clone)]
pub struct Objects {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: Jobs,
    metrics: Arc<Metrics>,
    uploads_max: usize,
    /// The work directory, where the notes are.
    work: Arc<OwnedFd>,
    /// Files of which parts are sent ahead: how many bytes of each were acked.
    ahead: Mutex<BTreeMap<SessionId, watch::Sender<u64>>>,
    claims: Mutex<Claims>,
    staff: Begun<mpsc::UnboundedSender<Task>>,
}

/// What is under way, by session. As many as there are sessions, which are bounded.
type Jobs = Arc<Mutex<BTreeMap<SessionId, Job>>>;

/// A file on its way.
struct Job {
    order: ObjectOrder,
    progress: watch::Receiver<Progress>,
}

impl Job {
    fn is_stored(&self) -> bool {
        match &*self.progress.borrow() {
            Progress::UnderWay | Progress::Made(_) => false,
            Progress::Ended(outcome) => matches!(&*lock(outcome), Some(Ok(_))),
        }
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
enum Progress {
    #[default]
    UnderWay,
    /// The store has the object, and not yet what goes with it.
    Made(Box<StoredObject>),
    /// What came of it; taken by whoever asks first.
    Ended(Arc<Mutex<Option<Result<StoredObject, ObjectError>>>>),
}

/// What the thread is asked to do. It takes each at once and waits for none of them, so what waits
/// is what comes in one turn of it. Of a session that is at most the beginning of a job, that of
/// sending it ahead (one each, by `jobs` and `ahead`) and the end of each; sessions are bounded.
/// The rest comes with a start or a reload.
enum Task {
    /// Takes a file to its store; it lies in this folder.
    Deliver(Box<ObjectOrder>, Arc<OwnedFd>, watch::Sender<Progress>),
    /// Sends parts of a file that is still coming; it lies in this folder, and so many bytes of it
    /// were acked.
    Ahead(Box<ObjectOrder>, Arc<OwnedFd>, watch::Receiver<u64>),
    /// The file of a session is not to go where it is on its way to.
    Stop(SessionId),
    /// Nobody wants the file of a session any more.
    Abandon(SessionId),
    /// Ends what an earlier life of the server has left of sessions that are over: none of these
    /// folders has their files.
    CleanUp(Vec<Arc<OwnedFd>>),
    /// What clients of stores were made of may have changed.
    Renew,
    /// Looks whether the stores can do what is asked of them.
    Try(Vec<Arc<ObjectStore>>, std::sync::mpsc::Sender<Fitness>),
}

/// What a trial of a store has shown.
pub type Fitness = Result<(), Unfit>;

/// A store does not do what the settings need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The bucket.
    pub bucket: String,
    /// What is wrong, in words.
    pub why: String,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bucket, why } = self;
        write!(
            f,
            "the store of the bucket {bucket} {why}: set allow_overwrite = true, or \
             store_no_replace = \"look\" where nobody else writes into it"
        )
    }
}

impl std::error::Error for Unfit {}

impl Objects {
    /// With nothing on its way. `work` is the work directory.
    pub fn new(metrics: Arc<Metrics>, uploads_max: usize, work: Arc<OwnedFd>) -> Self {
        let shared = Shared {
            jobs: Jobs::default(),
            metrics,
            uploads_max,
            work,
            ahead: Mutex::default(),
            claims: Mutex::default(),
            staff: Begun::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// See [`crate::server::floor::Floor::claim_object`]. Where new settings want something else of
    /// a file, what is under way with it stops before anybody else can claim the object.
    pub fn claim(&self, order: &ObjectOrder) -> bool {
        let is_other = lock(&self.shared.jobs)
            .get(&order.session)
            // What the store has, it has.
            .is_some_and(|job| !is_same_work(&job.order, order) && !job.is_stored());
        if is_other {
            self.stop(order.session);
        }
        lock(&self.shared.claims).claim(order)
    }

    /// See [`crate::server::floor::Floor::release_object`].
    pub fn release(&self, session: SessionId) {
        lock(&self.shared.claims).release(session);
    }

    /// See [`crate::server::floor::Floor::store_object`]; the file lies in `folder`.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn deliver(
        &self,
        order: &ObjectOrder,
        folder: &Arc<OwnedFd>,
        wait: Millis,
    ) -> Result<Storing, ObjectError> {
        let mut progress = self.job(order, folder)?;
        let ended = |progress: &Progress| matches!(progress, Progress::Ended(_));
        // No operation of the ring is dropped by this one.
        let wait = Duration::from_millis(wait);
        let waited = tokio::time::timeout(wait, progress.wait_for(ended)).await;
        let outcome = match waited {
            Err(_) => return Ok(Storing::UnderWay),
            // Its thread has ended without a word.
            Ok(Err(_)) => Some(Err(ObjectError::Refused)),
            Ok(Ok(progress)) => match &*progress {
                Progress::UnderWay | Progress::Made(_) => return Ok(Storing::UnderWay),
                Progress::Ended(outcome) => lock(outcome).take(),
            },
        };
        lock(&self.shared.jobs).remove(&order.session);
        // Two never hold one session; if they did, the second would ask anew.
        match outcome {
            None => Ok(Storing::UnderWay),
            Some(outcome) => outcome.map(Storing::Done),
        }
    }

    /// See [`crate::server::floor::Floor::made_object`].
    pub fn made(&self, session: SessionId) -> Option<MadeObject> {
        let progress = lock(&self.shared.jobs)
            .get(&session)?
            .progress
            .borrow()
            .clone();
        let (object, is_all) = match progress {
            Progress::UnderWay => return None,
            Progress::Made(object) => (*object, false),
            Progress::Ended(outcome) => match &*lock(&outcome) {
                Some(Ok(object)) => (object.clone(), true),
                _ => return None,
            },
        };
        Some(MadeObject { object, is_all })
    }

    fn job(
        &self,
        order: &ObjectOrder,
        folder: &Arc<OwnedFd>,
    ) -> Result<watch::Receiver<Progress>, ObjectError> {
        let mut jobs = lock(&self.shared.jobs);
        if let Some(job) = jobs.get(&order.session) {
            return Ok(job.progress.clone());
        }
        // Whoever sends it ahead ends then.
        lock(&self.shared.ahead).remove(&order.session);
        let (told, progress) = watch::channel(Progress::UnderWay);
        let task = Task::Deliver(Box::new(order.clone()), Arc::clone(folder), told);
        self.ask(task).ok_or(ObjectError::Refused)?;
        let job = Job {
            order: order.clone(),
            progress: progress.clone(),
        };
        jobs.insert(order.session, job);
        Ok(progress)
    }

    /// See [`crate::server::floor::Floor::send_ahead`]; the file lies in `folder`.
    pub fn send_ahead(&self, order: &ObjectOrder, folder: &Arc<OwnedFd>, acked: u64) {
        if lock(&self.shared.jobs).contains_key(&order.session) {
            return;
        }
        let mut ahead = lock(&self.shared.ahead);
        if let Some(told) = ahead.get(&order.session) {
            told.send_replace(acked);
            return;
        }
        let (told, acked) = watch::channel(acked);
        let task = Task::Ahead(Box::new(order.clone()), Arc::clone(folder), acked);
        if self.ask(task).is_some() {
            ahead.insert(order.session, told);
        }
    }

    /// See [`crate::server::floor::Floor::await_object`].
    pub async fn await_end(&self, session: SessionId, wait: Millis) {
        let wait = Duration::from_millis(wait);
        let progress = {
            let jobs = lock(&self.shared.jobs);
            jobs.get(&session).map(|job| job.progress.clone())
        };
        let Some(mut progress) = progress else {
            return tokio::time::sleep(NO_JOB.min(wait)).await;
        };
        let ended = |progress: &Progress| matches!(progress, Progress::Ended(_));
        let _whatever_it_is = tokio::time::timeout(wait, progress.wait_for(ended)).await;
        // Whoever holds the session now is told first.
        tokio::time::sleep(MOMENT).await;
    }

    /// See [`crate::server::floor::Floor::stop_object`].
    pub fn stop(&self, session: SessionId) {
        if lock(&self.shared.jobs).remove(&session).is_some() {
            self.ask_if_there(Task::Stop(session));
        }
    }

    /// See [`crate::server::floor::Floor::abandon_object`].
    pub fn abandon(&self, session: SessionId) {
        lock(&self.shared.jobs).remove(&session);
        lock(&self.shared.ahead).remove(&session);
        self.ask_if_there(Task::Abandon(session));
    }

    /// At a start: ends what is left of sessions that are over, and tries the stores. Those that
    /// cannot be reached in time are tried again before anything goes there. `folders` are all that
    /// files of sessions may lie in; none if there was no note.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn begin<'s>(
        &self,
        stores: impl Iterator<Item = &'s Arc<ObjectStore>>,
        folders: Vec<Arc<OwnedFd>>,
    ) -> Fitness {
        if !folders.is_empty() {
            let _later = self.ask(Task::CleanUp(folders));
        }
        self.try_stores(stores)
    }

    /// When all sessions are read back: ends what is left of those that were forgotten by that.
    pub fn end_forgotten(&self, folders: Vec<Arc<OwnedFd>>) {
        self.ask_if_there(Task::CleanUp(folders));
    }

    /// Where there is nobody yet, nothing is under way, and there was no note at the start.
    fn ask_if_there(&self, task: Task) {
        if let Some(staff) = self.shared.staff.get() {
            let _is_found_by_its_note = staff.send(task);
        }
    }

    /// Credentials and authorities are read anew.
    pub fn renew(&self) {
        self.ask_if_there(Task::Renew);
    }

    /// From now on files go into these buckets: of others nothing is told any more.
    pub fn know<'s>(&self, stores: impl Iterator<Item = &'s Arc<ObjectStore>>) {
        let buckets = stores.map(|store| store.bucket.clone());
        self.shared.metrics.objects.know(buckets.collect());
    }

    /// Tries the stores that new settings name.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn try_stores<'s>(&self, stores: impl Iterator<Item = &'s Arc<ObjectStore>>) -> Fitness {
        let all = distinct(stores);
        if all.is_empty() {
            return Ok(());
        }
        let (told, verdict) = std::sync::mpsc::channel();
        if self.ask(Task::Try(all, told)).is_none() {
            return Ok(());
        }
        // Without an answer in time it is not known: new files wait until it is.
        verdict.recv_timeout(TRIAL_PATIENCE).unwrap_or(Ok(()))
    }

    fn ask(&self, task: Task) -> Option<()> {
        let shared = &self.shared;
        let staff = shared.staff.get_or_begin(|_| {
            let runtime = staff::runtime().ok()?;
            let (tasks, to_do) = mpsc::unbounded_channel();
            let staff = staff::Staff::new(
                Arc::clone(&shared.metrics),
                shared.uploads_max,
                Arc::clone(&shared.work),
            );
            let run = move || {
                // It may have been started by a shard.
                processors::leave_to_shards();
                staff.work(&runtime, to_do);
            };
            let thread = thread::Builder::new().name("objects".to_owned());
            thread.spawn(run).ok().map(|_| tasks)
        });
        staff?.send(task).ok()
    }
}

/// Each store once.
pub fn distinct<'s>(stores: impl Iterator<Item = &'s Arc<ObjectStore>>) -> Vec<Arc<ObjectStore>> {
    let mut all: Vec<Arc<ObjectStore>> = Vec::new();
    for store in stores {
        if !all.contains(store) {
            all.push(Arc::clone(store));
        }
    }
    all
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where there is nothing to wait for.
const NO_JOB: Duration = Duration::from_secs(1);
/// Between the end of a job and whoever only waits for it.
const MOMENT: Duration = Duration::from_millis(10);
/// How long a start waits for all stores together.
const TRIAL_PATIENCE: Duration = Duration::from_secs(10);
