//! The thread of the object stores, and what it does: one runtime, on which all jobs wait for their
//! answers. What reads or writes a file does so on further threads.

mod ahead;
mod beside;
mod counted;
mod notes;
mod recheck;
mod slots;
mod trials;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle, LocalSet};

use super::abandon;
use super::bucket::{Object, StoreTrouble};
use super::deliver::{Deliverer, Rest};
use super::note::{Note, Notebook as _, StorePlace};
use super::parts::SentParts;
use super::{Fitness, Progress, Task, Unfit};
use crate::bits::session_id::SessionId;
use crate::config::{NoReplace, ObjectStore};
use crate::custody::object::StoredObject;
use crate::diagnosis::{PartChanged, of_promised};
use crate::metrics::Metrics;
use crate::server::object_order::{ObjectError, ObjectOrder};
use crate::vault::names::{self, WorkName};
use counted::Counted;
use notes::{Notes, work_names};
use recheck::Rechecks;
use slots::Slots;
use trials::Trials;

#[cfg(not(feature = "s3"))]
pub(super) use super::bucket::nowhere::{NoBucket as Chosen, NoSource as ChosenSource};
#[cfg(feature = "s3")]
pub(super) use super::s3::{S3Bucket as Chosen, S3Source as ChosenSource};

/// All that the thread has.
pub struct Staff {
    metrics: Arc<Metrics>,
    uploads_max: usize,
    work: Arc<OwnedFd>,
}

/// What jobs share, on their thread.
struct Desk {
    metrics: Arc<Metrics>,
    uploads_max: usize,
    /// Who sends to which store: one that does not answer keeps no file of another one waiting.
    slots: RefCell<BTreeMap<StorePlace, Rc<Slots>>>,
    notes: Notes,
    /// Which boot of this machine it is; a name that no other one has.
    boot: String,
    /// Clients of the stores, as far as there were any.
    buckets: RefCell<BTreeMap<StorePlace, Rc<Chosen>>>,
    /// Stores that were tried, and what that has shown.
    tried: RefCell<BTreeMap<StorePlace, Result<(), String>>>,
    /// Those that nobody knows of yet: one trial of each at a time.
    trials: RefCell<BTreeMap<StorePlace, Rc<Trials>>>,
    rechecks: Rechecks,
    running: RefCell<BTreeMap<SessionId, AbortHandle>>,
    /// Files of which parts are sent ahead: each tells when that has ended.
    ahead: RefCell<BTreeMap<SessionId, watch::Receiver<()>>>,
    /// And what was sent, until somebody goes on with it.
    known: RefCell<BTreeMap<SessionId, SentParts>>,
    /// Digests of the files that were given to their stores last, by their sessions.
    digests: RefCell<VecDeque<(String, [u8; 32])>>,
    /// Numbers that make the names of probes differ.
    probes: Cell<u64>,
}

/// What the thread runs on.
///
/// # Errors
/// Too many files may be open.
pub fn runtime() -> io::Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Each thread holds a block of a file at most.
    let runtime = runtime.enable_all().max_blocking_threads(FILE_THREADS_MAX);
    runtime.build()
}

impl Staff {
    pub fn new(metrics: Arc<Metrics>, uploads_max: usize, work: Arc<OwnedFd>) -> Self {
        Self {
            metrics,
            uploads_max,
            work,
        }
    }

    /// Works until nobody can ask for anything any more.
    pub fn work(self, runtime: &Runtime, mut tasks: mpsc::UnboundedReceiver<Task>) {
        let desk = Rc::new(Desk::of(self));
        LocalSet::new().block_on(runtime, async move {
            while let Some(task) = tasks.recv().await {
                desk.begin(task);
            }
        });
    }
}

impl Desk {
    fn of(staff: Staff) -> Self {
        Self {
            metrics: staff.metrics,
            uploads_max: staff.uploads_max,
            slots: RefCell::default(),
            notes: Notes::new(staff.work),
            boot: boot(),
            buckets: RefCell::default(),
            tried: RefCell::default(),
            trials: RefCell::default(),
            rechecks: Rechecks::default(),
            running: RefCell::default(),
            ahead: RefCell::default(),
            known: RefCell::default(),
            digests: RefCell::default(),
            probes: Cell::new(0),
        }
    }

    fn begin(self: &Rc<Self>, task: Task) {
        let desk = Rc::clone(self);
        match task {
            Task::Deliver(order, folder, told) => {
                let session = order.session;
                let job = task::spawn_local(desk.deliver(order, folder, told));
                let handle = job.abort_handle();
                self.running.borrow_mut().insert(session, handle);
            }
            Task::Stop(session) => self.stop(session),
            Task::Renew => self.buckets.borrow().values().for_each(|it| it.renew()),
            Task::Ahead(order, folder, acked) => self.begin_ahead(order, folder, acked),
            Task::Abandon(session) => {
                self.stop(session);
                task::spawn_local(async move {
                    let _known = desk.end_ahead(session).await;
                    desk.abandon(session.plain().to_string()).await;
                });
            }
            Task::CleanUp(folders) => {
                task::spawn_local(desk.clean_up(folders));
            }
            Task::Try(stores, told) => {
                task::spawn_local(desk.try_all(stores, told));
            }
        }
    }

    /// From here on nothing more is asked of a store for the job of a session.
    fn stop(&self, session: SessionId) {
        let running = self.running.borrow_mut().remove(&session);
        if let Some(job) = running {
            job.abort();
        }
    }

    async fn deliver(
        self: Rc<Self>,
        order: Box<ObjectOrder>,
        folder: Arc<OwnedFd>,
        told: watch::Sender<Progress>,
    ) {
        let counted = Counted::begin(&self.metrics, order.bytes);
        let trying = self.trying(&order.store);
        let outcome = self.try_to_deliver(&order, folder, &told).await;
        if outcome.is_ok() {
            self.took(&order.store);
            counted.metrics.objects.stored.add(1);
            counted.metrics.objects.stored_bytes.add(order.bytes);
        }
        drop((counted, trying));
        self.running.borrow_mut().remove(&order.session);
        told.send_replace(Progress::Ended(Arc::new(Mutex::new(Some(outcome)))));
    }

    async fn try_to_deliver(
        self: &Rc<Self>,
        order: &ObjectOrder,
        folder: Arc<OwnedFd>,
        told: &watch::Sender<Progress>,
    ) -> Result<StoredObject, ObjectError> {
        let tell = |trouble: &StoreTrouble| self.tell(order, &order.key, trouble);
        let known = self.end_ahead(order.session).await;
        let (name, bytes) = (order.part.clone(), order.bytes);
        let file = on_a_thread(move || open_whole(&folder, &name, bytes)).await;
        let file = file.map_err(|error| match order.is_promised {
            true => ObjectError::Unreadable(of_promised(error)),
            false => ObjectError::Unreadable(error),
        })?;
        let place = StorePlace::from(&*order.store);
        let mut pause = PAUSE;
        let bucket = loop {
            match self.ready(&order.store, order.may_replace).await {
                Ok(bucket) => break bucket,
                Err(trouble) => {
                    // No key has a part in that.
                    self.blame(&order.store, order.may_replace, &trouble);
                    tell(&trouble);
                    let is_no = matches!(
                        trouble,
                        StoreTrouble::Refused(_) | StoreTrouble::Settings(_)
                    );
                    if is_no && !order.is_promised {
                        return Err(ObjectError::Refused);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        };
        let slots = self.slots(&place);
        let object = Object::of(order);
        self.remember_digest(order);
        let left = self.leave_other_upload(&object.session, &place, &object.key);
        left.await.map_err(|trouble| match trouble {
            StoreTrouble::Local(error) => ObjectError::Unreadable(error),
            _ => ObjectError::Refused,
        })?;
        let deliverer = Deliverer {
            bucket: &*bucket,
            notes: &self.notes,
            slots: &slots.whole,
            object: &object,
            place: &place,
            part_bytes: order.store.part_bytes,
            looks_first: order.store.no_replace == NoReplace::Look,
            is_promised: order.is_promised,
            is_repeat: order.is_repeat,
            was_told: order.was_told,
            boot: &self.boot,
        };
        let delivered = deliverer
            .run(&ChosenSource::from(file), known, tell)
            .await?;
        let rest = delivered.rest;
        let stored = delivered.stored(place, object.key);
        told.send_replace(Progress::Made(Box::new(stored.clone())));
        self.put_beside(&bucket, &slots, order).await;
        if rest == Rest::Note {
            task::spawn_local(Rc::clone(self).abandon(object.session));
        }
        Ok(stored)
    }

    /// The settings may have changed since an upload was begun: one that is not for this key of
    /// this store is ended by and by, under a note that is no session's.
    async fn leave_other_upload(
        self: &Rc<Self>,
        session: &str,
        place: &StorePlace,
        key: &str,
    ) -> Result<(), StoreTrouble> {
        let note = self.notes.read(session).await?;
        let is_other = |note: Note| note.key != key || note.place != *place;
        if note.is_some_and(is_other) {
            let nobodys = SessionId::from_u128(u128::from_ne_bytes(random()?));
            let nobodys = nobodys.plain().to_string();
            self.notes.rename(session, &nobodys).await?;
            task::spawn_local(Rc::clone(self).abandon(nobodys));
        }
        Ok(())
    }

    /// Ends what the note of a session names, however often it takes.
    async fn abandon(self: Rc<Self>, session: String) {
        let mut pause = PAUSE;
        loop {
            let ended = self.try_to_abandon(&session).await;
            let Err(trouble) = ended else {
                return;
            };
            if pause == PAUSE_MAX {
                let event = "object_upload_left";
                let remedy = trouble.remedy();
                tracing::warn!(event, session, %trouble, remedy, "an upload to an object store cannot be ended yet; a rule of the bucket may end it, too");
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        }
    }

    async fn try_to_abandon(&self, session: &str) -> Result<(), StoreTrouble> {
        let Some(note) = self.notes.read(session).await? else {
            return Ok(());
        };
        let bucket = self.bucket(&note.place).await?;
        abandon::abandon(&*bucket, &self.notes, session, &note).await
    }

    /// Ends what an earlier life of the server has left of sessions that are over.
    async fn clean_up(self: Rc<Self>, folders: Vec<Arc<OwnedFd>>) {
        let notes = Arc::clone(&self.notes.folder);
        let left = on_a_thread(move || of_nobody(&notes, &folders));
        for session in left.await.unwrap_or_default() {
            task::spawn_local(Rc::clone(&self).abandon(session));
        }
    }

    /// The client of a store that can do what is asked of it.
    async fn ready(
        &self,
        store: &ObjectStore,
        may_replace: bool,
    ) -> Result<Rc<Chosen>, StoreTrouble> {
        let place = StorePlace::from(store);
        let bucket = self.bucket(&place).await?;
        if may_replace || store.no_replace == NoReplace::Look {
            return Ok(bucket);
        }
        self.try_once(store, &place, &bucket).await?;
        Ok(bucket)
    }

    async fn try_all(
        self: Rc<Self>,
        stores: Vec<Arc<ObjectStore>>,
        told: std::sync::mpsc::Sender<Fitness>,
    ) {
        let mut verdict = Ok(());
        // All at once: one that does not answer keeps nobody from hearing of another.
        let begin = |store: Arc<ObjectStore>| {
            let desk = Rc::clone(&self);
            task::spawn_local(async move {
                let place = StorePlace::from(&*store);
                desk.forget_trial(&place);
                let ready = desk.ready(&store, false).await;
                (store, place, ready.map(drop))
            })
        };
        let trials: Vec<_> = stores.into_iter().map(begin).collect();
        for trial in trials {
            let Ok((store, place, ready)) = trial.await else {
                continue;
            };
            if let Err(why) = ready {
                let bucket = place.bucket.clone();
                self.blame(&store, false, &why);
                let remedy = why.remedy();
                let is_shown = matches!(self.tried.borrow().get(&place), Some(Err(_)));
                if is_shown {
                    let why = "lets an object be replaced that is there".to_owned();
                    verdict = Err(Unfit { bucket, why });
                } else {
                    let event = "object_store_away";
                    tracing::warn!(event, bucket, %why, remedy, "an object store cannot be tried yet: files wait here");
                }
            }
        }
        let _nobody_waits_so_long = told.send(verdict);
    }

    async fn bucket(&self, place: &StorePlace) -> Result<Rc<Chosen>, StoreTrouble> {
        if let Some(bucket) = self.buckets.borrow().get(place) {
            return Ok(Rc::clone(bucket));
        }
        let bucket = Rc::new(Chosen::open(place).await?);
        let mut buckets = self.buckets.borrow_mut();
        Ok(Rc::clone(buckets.entry(place.clone()).or_insert(bucket)))
    }
}

/// The sessions of notes whose files lie in no folder. The note of a file is in the work directory
/// wherever that lies.
fn of_nobody(notes: &OwnedFd, folders: &[Arc<OwnedFd>]) -> io::Result<Vec<String>> {
    let all = work_names(notes)?;
    // One that cannot be looked for may be there.
    let is_there = |id: SessionId| {
        let part = names::part_name(id);
        let looked = |folder: &Arc<OwnedFd>| {
            let stat = rustix::fs::statat(folder, &part, AtFlags::SYMLINK_NOFOLLOW);
            stat.map(drop) != Err(Errno::NOENT)
        };
        folders.iter().any(looked)
    };
    let left = all.iter().filter_map(|name| match names::parse_name(name) {
        WorkName::Note(id) if !is_there(id) => Some(id.plain().to_string()),
        _ => None,
    });
    Ok(left.collect())
}

/// Opens a regular file for reading.
fn open(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        // Somebody has put something else in its place.
        false => Err(io::Error::other(PartChanged)),
    }
}

/// Opens a file that was sealed with so many bytes: one of another length is nobody's upload.
fn open_whole(folder: &OwnedFd, name: &str, bytes: u64) -> io::Result<File> {
    let file = open(folder, name)?;
    match file.metadata()?.len() == bytes {
        true => Ok(file),
        false => Err(io::Error::other(PartChanged)),
    }
}

fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> impl Future<Output = io::Result<T>> {
    let done = task::spawn_blocking(work);
    async move {
        done.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut random = [0; N];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(random)
}

/// The boot of this machine. Where it cannot be told, nothing is taken for granted of an earlier
/// life of the server: each has another name then.
fn boot() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let told = told.ok().map(|text| text.trim().to_owned());
    told.unwrap_or_else(|| {
        random::<16>().map_or_else(|_| String::new(), |bytes| format!("{bytes:?}"))
    })
}

/// Threads that read and write files for all jobs together.
const FILE_THREADS_MAX: usize = 16;
/// The first pause between tries.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// The note of a file on another shelf is in the work directory all the same.
    #[test]
    fn a_note_is_nobodys_where_no_shelf_has_the_file() {
        let (work, shelf) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ids = [1, 2, 3].map(SessionId::from_u128);
        for id in ids {
            std::fs::write(work.path().join(names::note_name(id)), "").unwrap();
        }
        std::fs::write(work.path().join(names::part_name(ids[0])), "").unwrap();
        std::fs::write(shelf.path().join(names::part_name(ids[1])), "").unwrap();
        let open = |place: &tempfile::TempDir| Arc::new(File::open(place.path()).unwrap().into());
        let (work, shelf) = (open(&work), open(&shelf));
        let left = of_nobody(&work, &[Arc::clone(&work), shelf]).unwrap();
        assert_eq!(left, [ids[2].plain().to_string()]);
    }
}
