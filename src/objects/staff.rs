//! The thread of the object stores, and what it does: one runtime, on which all jobs wait for their
//! answers. What reads or writes a file does so on further threads.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{self, AbortHandle, LocalSet};

use super::bucket::{Object, StoreTrouble};
use super::deliver::{self, Delivered, Deliverer, Rest, Untaken};
use super::note::{Note, Notebook, StorePlace};
use super::{Fitness, Progress, Task, Unfit, probe};
use crate::bits::session_id::SessionId;
use crate::config::{NoReplace, ObjectStore};
use crate::custody::object::StoredObject;
use crate::metrics::Metrics;
use crate::metrics::objects::ObjectMetrics;
use crate::server::object_order::{ObjectError, ObjectOrder};
use crate::vault::names::{self, WorkName};

#[cfg(not(feature = "s3"))]
use super::bucket::nowhere::{NoBucket as Chosen, NoSource as ChosenSource};
#[cfg(feature = "s3")]
use super::s3::{S3Bucket as Chosen, S3Source as ChosenSource};

/// All that the thread has.
pub struct Staff {
    metrics: Arc<Metrics>,
    uploads_max: usize,
    work: Arc<OwnedFd>,
}

/// What jobs share, on their thread.
struct Desk {
    metrics: Arc<Metrics>,
    slots: Semaphore,
    notes: Notes,
    /// Clients of the stores, as far as there were any.
    buckets: RefCell<BTreeMap<StorePlace, Rc<Chosen>>>,
    /// Stores that were tried, and what that has shown.
    tried: RefCell<BTreeMap<StorePlace, Result<(), String>>>,
    running: RefCell<BTreeMap<SessionId, AbortHandle>>,
    /// Numbers that make the names of probes differ.
    probes: Cell<u64>,
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
    pub fn work(self, mut tasks: mpsc::UnboundedReceiver<Task>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // Each holds a block of a file at most.
        let runtime = runtime.enable_all().max_blocking_threads(FILE_THREADS_MAX);
        let Ok(runtime) = runtime.build() else {
            // Whoever asks finds nobody, and hears that it is refused.
            return;
        };
        let desk = Rc::new(Desk {
            metrics: self.metrics,
            slots: Semaphore::new(self.uploads_max),
            notes: Notes { folder: self.work },
            buckets: RefCell::default(),
            tried: RefCell::default(),
            running: RefCell::default(),
            probes: Cell::new(0),
        });
        LocalSet::new().block_on(&runtime, async move {
            while let Some(task) = tasks.recv().await {
                desk.begin(task);
            }
        });
    }
}

impl Desk {
    fn begin(self: &Rc<Self>, task: Task) {
        let desk = Rc::clone(self);
        match task {
            Task::Deliver(order, folder, told) => {
                let session = order.session;
                let job = task::spawn_local(desk.deliver(order, folder, told));
                let handle = job.abort_handle();
                self.running.borrow_mut().insert(session, handle);
            }
            Task::Abandon(session) => {
                let running = self.running.borrow_mut().remove(&session);
                if let Some(job) = running {
                    job.abort();
                }
                task::spawn_local(desk.abandon(session.plain().to_string()));
            }
            Task::CleanUp => {
                task::spawn_local(desk.clean_up());
            }
            Task::Try(stores, told) => {
                task::spawn_local(desk.try_all(stores, told));
            }
        }
    }

    async fn deliver(
        self: Rc<Self>,
        order: Box<ObjectOrder>,
        folder: Arc<OwnedFd>,
        told: watch::Sender<Progress>,
    ) {
        let counted = Counted::begin(&self.metrics, order.bytes);
        let outcome = self.try_to_deliver(&order, folder).await;
        if outcome.is_ok() {
            counted.metrics.objects.note(&order.store.bucket, None);
            counted.metrics.objects.stored.add(1);
            counted.metrics.objects.stored_bytes.add(order.bytes);
        }
        drop(counted);
        self.running.borrow_mut().remove(&order.session);
        told.send_replace(Progress::Ended(Arc::new(Mutex::new(Some(outcome)))));
    }

    async fn try_to_deliver(
        self: &Rc<Self>,
        order: &ObjectOrder,
        folder: Arc<OwnedFd>,
    ) -> Result<StoredObject, ObjectError> {
        let tell = |trouble: &StoreTrouble| tell(&self.metrics.objects, order, trouble);
        let name = order.part.clone();
        let file = on_a_thread(move || open(&folder, &name)).await;
        let file = file.map_err(ObjectError::Unreadable)?;
        let place = StorePlace::from(&*order.store);
        let mut pause = PAUSE;
        let bucket = loop {
            match self.ready(&order.store, order.may_replace).await {
                Ok(bucket) => break bucket,
                Err(trouble) => {
                    tell(&trouble);
                    if matches!(trouble, StoreTrouble::Refused(_)) && !order.is_promised {
                        return Err(ObjectError::Refused);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(2 * pause);
        };
        let object = Object {
            key: order.key.clone(),
            session: order.session.plain().to_string(),
            bytes: order.bytes,
            sha256: order.sha256,
            may_replace: order.may_replace,
        };
        let deliverer = Deliverer {
            bucket: &*bucket,
            notes: &self.notes,
            slots: &self.slots,
            object: &object,
            place: &place,
            part_bytes: order.store.part_bytes,
            looks_first: order.store.no_replace == NoReplace::Look,
            is_promised: order.is_promised,
            is_repeat: order.is_repeat,
        };
        match deliverer.run(&ChosenSource::from(file), tell).await {
            Ok(Delivered { names, rest }) => {
                if rest == Rest::Note {
                    task::spawn_local(Rc::clone(self).abandon(object.session));
                }
                Ok(StoredObject {
                    bucket: place.bucket,
                    key: object.key,
                    version: names.version,
                    etag: names.etag,
                })
            }
            Err(Untaken::Exists) => Err(ObjectError::Exists),
            Err(Untaken::Refused(_)) => Err(ObjectError::Refused),
            Err(Untaken::Unreadable(error)) => Err(ObjectError::Unreadable(error)),
        }
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
                let remedy = "look at the store; a rule of the bucket may end such uploads too";
                tracing::warn!(event, session, %trouble, remedy, "an upload to an object store cannot be ended yet");
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
        deliver::abandon(&*bucket, &self.notes, session, &note).await
    }

    /// Ends what an earlier life of the server has left of sessions that are over.
    async fn clean_up(self: Rc<Self>) {
        let folder = Arc::clone(&self.notes.folder);
        let left = on_a_thread(move || {
            let all = work_names(&folder)?;
            let is_there = |id: SessionId| {
                let part = names::part_name(id);
                rustix::fs::statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW).is_ok()
            };
            let notes = all.iter().filter_map(|name| match names::parse_name(name) {
                WorkName::Note(id) if !is_there(id) => Some(id.plain().to_string()),
                _ => None,
            });
            Ok(notes.collect::<Vec<_>>())
        });
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
        let known = self.tried.borrow().get(&place).cloned();
        match known {
            Some(Ok(())) => Ok(bucket),
            Some(Err(why)) => Err(StoreTrouble::Refused(why)),
            None => {
                self.probe(store, &place, &bucket).await?;
                Ok(bucket)
            }
        }
    }

    async fn probe(
        &self,
        store: &ObjectStore,
        place: &StorePlace,
        bucket: &Chosen,
    ) -> Result<(), StoreTrouble> {
        let number = self.probes.replace(self.probes.get() + 1);
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(io::Error::from)?;
        let random = u64::from_le_bytes(random);
        let name = format!("{}.bitsd-probe-{random:016x}-{number}", store.prefix);
        let shown = probe::try_it(bucket, &name).await?;
        let unfit = shown.map_err(|wrong| {
            let bucket = place.bucket.clone();
            let why = wrong.to_owned();
            Unfit { bucket, why }.to_string()
        });
        let known = unfit.clone();
        self.tried.borrow_mut().insert(place.clone(), known);
        self.metrics
            .objects
            .note(&place.bucket, unfit.as_ref().err());
        unfit.map_err(StoreTrouble::Refused)
    }

    async fn try_all(
        self: Rc<Self>,
        stores: Vec<Arc<ObjectStore>>,
        told: std::sync::mpsc::Sender<Fitness>,
    ) {
        let mut verdict = Ok(());
        for store in stores {
            let place = StorePlace::from(&*store);
            // What was wrong may have been mended.
            self.tried.borrow_mut().remove(&place);
            if let Err(why) = self.ready(&store, false).await {
                let bucket = place.bucket.clone();
                self.metrics.objects.note(&bucket, Some(&why.to_string()));
                let is_shown = matches!(self.tried.borrow().get(&place), Some(Err(_)));
                if is_shown {
                    let why = "lets an object be replaced that is there".to_owned();
                    verdict = Err(Unfit { bucket, why });
                } else {
                    let event = "object_store_away";
                    let remedy = "look at the store, its credentials and its bucket";
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

/// A file that waits for its store; counted until dropped.
struct Counted {
    metrics: Arc<Metrics>,
    bytes: u64,
    began_ms: u64,
}

impl Counted {
    fn begin(metrics: &Arc<Metrics>, bytes: u64) -> Self {
        let began_ms = now_ms();
        metrics.objects.begin(bytes, began_ms);
        Self {
            metrics: Arc::clone(metrics),
            bytes,
            began_ms,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.objects.end(self.bytes, self.began_ms);
    }
}

fn tell(metrics: &ObjectMetrics, order: &ObjectOrder, trouble: &StoreTrouble) {
    metrics.failures.add(1);
    if !matches!(trouble, StoreTrouble::Exists | StoreTrouble::Gone) {
        metrics.note(&order.store.bucket, Some(&trouble.to_string()));
    }
    let is_clients = matches!(trouble, StoreTrouble::Exists) && !order.is_promised;
    if is_clients || !metrics.may_tell(now_ms()) {
        return;
    }
    let event = "object_not_taken";
    let (session, bucket, key) = (order.session, &order.store.bucket, &order.key);
    let remedy = match trouble {
        StoreTrouble::Exists => {
            "move the object that is there: this file was promised to its client"
        }
        _ => "look at the store: its credentials, its bucket, its space",
    };
    tracing::warn!(event, %session, bucket, key, why = %trouble, remedy, "an object store does not take a file");
}

/// The notes, in the work directory.
struct Notes {
    folder: Arc<OwnedFd>,
}

impl Notes {
    fn name(session: &str) -> io::Result<String> {
        let id = SessionId::parse(session.as_bytes());
        id.map(names::note_name)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl Notebook for Notes {
    async fn read(&self, session: &str) -> io::Result<Option<Note>> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        on_a_thread(move || read_note(&folder, &name)).await
    }

    async fn write(&self, session: &str, note: &Note) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        let text = serde_json::to_vec(note)?;
        on_a_thread(move || write_note(&folder, &name, &text)).await
    }

    async fn remove(&self, session: &str) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        on_a_thread(
            move || match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            },
        )
        .await
    }

    async fn named(&self) -> io::Result<Vec<String>> {
        let folder = Arc::clone(&self.folder);
        on_a_thread(move || {
            let mut uploads = Vec::new();
            for name in work_names(&folder)? {
                if let WorkName::Note(_) = names::parse_name(&name)
                    && let Some(note) = read_note(&folder, &name)?
                {
                    uploads.extend(note.upload);
                }
            }
            Ok(uploads)
        })
        .await
    }
}

/// What was torn by a crash while it was written is under another name: this one is whole.
fn read_note(folder: &OwnedFd, name: &str) -> io::Result<Option<Note>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let mut text = Vec::new();
    file.take(NOTE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

fn write_note(folder: &OwnedFd, name: &str, text: &[u8]) -> io::Result<()> {
    let half = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let mut file = File::from(rustix::fs::openat(folder, &half, flags, mode)?);
    file.write_all(text)?;
    file.sync_data()?;
    rustix::fs::renameat(folder, &half, folder, name)?;
    let here = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let names = rustix::fs::openat(folder, ".", here, Mode::empty())?;
    Ok(rustix::fs::fsync(names)?)
}

fn work_names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder.as_fd())? {
        all.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(all)
}

/// Opens a regular file for reading.
fn open(folder: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
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

/// The shards' clock.
fn now_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000 + u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0)
}

/// Threads that read and write files for all jobs together.
const FILE_THREADS_MAX: usize = 16;
const NOTE_BYTES_MAX: u64 = 64 << 10;
/// The first pause between tries.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(60);
