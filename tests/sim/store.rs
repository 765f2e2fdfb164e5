//! The object store of a run: it loses requests and answers, repeats them, carries them out late,
//! refuses, lies, forgets uploads and parts of them, and shows what stood there before.
//!
//! What it has said that it has, it keeps, but for a reader who takes each object away as it comes.
//! It does not say that it has made an object of an upload that it has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bitsd::config::{Config, Download, Durability, NoReplace, ObjectStore, Publish, StoreAck};
use bitsd::http::digest::Algorithms;
use bitsd::objects::bucket::{
    Bucket, Object, Part, PutAnswer, SeenObject, StoreNames, StoreTrouble,
};
use bitsd::vault::disk::File as _;
use sha2::{Digest as _, Sha256};

use crate::clock::sleep;
use crate::executor::CLIENTS;
use crate::rng::{Rng, mix};
use crate::sim::Sim;
use crate::world::SimFile;

/// How a store behaves; rates are in a thousand.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// What the settings say of it.
    pub settings: Arc<ObjectStore>,
    /// Files of the other root go there as well.
    pub of_all: bool,
    /// Objects have digest files, where digests are computed.
    pub digest_file: bool,
    /// Uploads at the same time.
    pub uploads_max: usize,
    /// A request is lost.
    pub loses: u64,
    /// An answer is.
    pub mutes: u64,
    /// A request is carried out long after it was given up.
    pub delays: u64,
    /// Something on the way repeats a request.
    pub repeats: u64,
    /// It refuses.
    pub refuses: u64,
    /// It fails (5xx).
    pub fails: u64,
    /// 200, and nothing was done.
    pub lies: u64,
    /// An upload is gone, or a part of it.
    pub drops: u64,
    /// Takes long.
    pub slow: u64,
    /// It shows for a while what stood there before.
    pub stale: u64,
    /// It tells the checksums of what it was sent.
    pub proves: bool,
    /// It refuses whatever it does not know, as if it were somebody else's.
    pub denies_unknown: bool,
    /// Somebody takes each object away as it comes.
    pub is_emptied: bool,
}

impl StorePlan {
    /// Draws one; most runs have none.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = Rng::new(mix(seed ^ 0x0b_1ec7));
        if !rng.chance(200) {
            return None;
        }
        let no_replace = rng.pick(&[NoReplace::Probe, NoReplace::Probe, NoReplace::Look]);
        let settings = ObjectStore {
            bucket: "b".to_owned(),
            ack: rng.pick(&[StoreAck::Object, StoreAck::Object, StoreAck::Staged]),
            wait: Duration::from_millis(rng.pick(&[1_000, 60_000])),
            part_bytes: rng.pick(&[13, 100, 700]),
            ahead: rng.chance(500),
            no_replace,
            ..ObjectStore::default()
        };
        let of_all = rng.chance(500);
        let digest_file = rng.chance(600);
        let uploads_max = rng.pick(&[1, 3]);
        let mut some = |rate: u64| if rng.chance(400) { rate } else { 0 };
        Some(Self {
            settings: Arc::new(settings),
            of_all,
            digest_file,
            uploads_max,
            loses: some(100),
            mutes: some(150),
            delays: some(80),
            repeats: some(150),
            refuses: some(80),
            fails: some(150),
            lies: some(80),
            drops: some(40),
            slow: some(100),
            stale: some(200),
            proves: rng.chance(500),
            denies_unknown: rng.chance(300),
            is_emptied: rng.chance(150),
        })
    }

    /// Whether a request to replace nothing is kept.
    pub fn keeps_condition(&self) -> bool {
        self.settings.no_replace == NoReplace::Probe
    }

    /// Settings that go with a store.
    pub fn prepare(&self, config: &mut Config) {
        let policy = &mut config.global_mut().policy;
        policy.publish = Publish::Close;
        if policy.durability == Durability::None {
            policy.durability = Durability::Upload;
        }
        // A file that was promised is tried for ever, whatever stands in its place.
        policy.allow_overwrite |= self.settings.ack == StoreAck::Staged;
    }

    /// Makes files go there.
    pub fn enter(&self, config: &mut Config) {
        for location in &mut config.locations {
            if location.root == 0 || self.of_all {
                location.objects = Some(Arc::clone(&self.settings));
                location.download = Download::None;
                location.policy.digest_file =
                    self.digest_file && location.policy.digest != Algorithms::None;
            }
        }
    }
}

/// What the store has.
#[derive(Default)]
pub struct SimStore {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Begun>,
    /// What stood under a key before, and until when it is shown.
    stale: BTreeMap<String, (u64, Option<SeenObject>)>,
    /// Numbers that name uploads and versions.
    names: u64,
    /// Uploads that were begun by a request that came late: nobody can know of them.
    nobodys: BTreeSet<String>,
    /// Uploads that it has lost.
    lost: BTreeSet<String>,
    /// Keys that a request that came late has changed.
    pub late: BTreeSet<String>,
}

/// An object.
pub struct Stored {
    pub session: String,
    pub content: Vec<u8>,
    sha256: Option<[u8; 32]>,
    version: String,
}

struct Begun {
    key: String,
    parts: BTreeMap<u32, Vec<u8>>,
    /// It said that it has made an object of it, and has not.
    was_lied_of: bool,
}

/// What changes something there.
#[derive(Clone, Debug)]
enum Request {
    Put(Object, Vec<u8>),
    Begin(Object),
    Part(String, u32, Vec<u8>),
    Complete(Object, String, Vec<(u32, String)>),
    Abort(String),
}

impl Request {
    fn word(&self) -> String {
        match self {
            Self::Put(object, _) => format!("put {}", object.key),
            Self::Begin(object) => format!("begin {}", object.key),
            Self::Part(upload, number, _) => format!("part {number} of {upload}"),
            Self::Complete(object, upload, _) => format!("complete {upload} as {}", object.key),
            Self::Abort(upload) => format!("abort {upload}"),
        }
    }

    /// What is made to try the store, and goes again.
    fn is_probe(&self) -> bool {
        match self {
            Self::Put(object, _) | Self::Complete(object, ..) => is_probe(&object.key),
            _ => false,
        }
    }
}

/// Whether an object was made to try the store.
pub fn is_probe(key: &str) -> bool {
    key.contains(".bitsd-probe-")
}

/// What a store calls a content, which is its checksum as well.
fn etag(content: &[u8]) -> String {
    format!("{:08x}-{}", crc32fast::hash(content), content.len())
}

impl SimStore {
    /// An object of others, older than the server.
    pub fn plant(&mut self, key: &str, content: &[u8]) {
        let stored = Stored {
            session: "somebody's".to_owned(),
            content: content.to_vec(),
            sha256: None,
            version: "v0".to_owned(),
        };
        self.objects.insert(key.to_owned(), stored);
    }

    /// What stands under a key.
    pub fn object(&self, key: &str) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// All objects.
    pub fn objects(&self) -> impl Iterator<Item = (&String, &Stored)> {
        self.objects.iter()
    }

    /// Uploads in parts that somebody can know of.
    pub fn known_uploads(&self) -> Vec<String> {
        let known = self
            .uploads
            .iter()
            .filter(|(name, upload)| !self.nobodys.contains(*name) && !is_probe(&upload.key));
        known
            .map(|(name, upload)| format!("{name} of {}", upload.key))
            .collect()
    }

    fn number(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn seen(&self, key: &str) -> Option<SeenObject> {
        self.objects.get(key).map(|stored| SeenObject {
            session: Some(stored.session.clone()),
            sha256: stored.sha256,
            bytes: stored.content.len() as u64,
            names: StoreNames::told(Some(&stored.version), Some(&etag(&stored.content))),
        })
    }
}

/// Where bytes of objects come from.
pub enum SimSource {
    Bytes(Vec<u8>),
    File(SimFile),
}

impl From<Vec<u8>> for SimSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl SimSource {
    fn read(&self, sim: &Sim, range: Range<u64>) -> Vec<u8> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::File(file) => sim.disk.borrow().read(file.inode()).to_vec(),
        };
        let index = |at: u64| usize::try_from(at).expect("in memory").min(bytes.len());
        bytes[index(range.start)..index(range.end)].to_vec()
    }
}

/// The bucket, as one life of the server sees it.
pub struct SimBucket {
    pub sim: Rc<Sim>,
}

/// For how long an answer is waited for at the most, in milliseconds.
const PATIENCE_MS: u64 = 30_000;
/// How much later than that a request is carried out at the most.
const LATE_MS: u64 = 40_000;
/// For how long it shows what stood before at the most.
const STALE_MS: u64 = 20_000;

impl SimBucket {
    fn plan(&self) -> &StorePlan {
        let plan = self.sim.plan.store.as_ref();
        plan.expect("nobody asks where there is none")
    }

    fn chance(&self, rate: u64, mark: &'static str) -> bool {
        let is_so = self.sim.chance(rate);
        if is_so {
            self.sim.marks.hit(mark);
        }
        is_so
    }

    /// No answer comes.
    async fn no_answer(&self) -> StoreTrouble {
        let sim = &self.sim;
        sleep(&sim.executor, sim.below(PATIENCE_MS) as u64).await;
        StoreTrouble::Doubt("no answer in time".to_owned())
    }

    /// Takes its time, and may fail before anything is done.
    async fn arrive(&self) -> Result<(), StoreTrouble> {
        let (sim, plan) = (&self.sim, self.plan());
        sleep(&sim.executor, sim.below(20) as u64).await;
        if self.chance(plan.refuses, "store refused") {
            return Err(StoreTrouble::Refused("ExpiredToken".to_owned()));
        }
        if self.chance(plan.fails, "store failed (5xx)") {
            return Err(StoreTrouble::Doubt("status 503".to_owned()));
        }
        if self.chance(plan.loses, "request to the store lost") {
            return Err(self.no_answer().await);
        }
        self.drop_something();
        Ok(())
    }

    fn drop_something(&self) {
        let sim = &self.sim;
        if !sim.chance(self.plan().drops) {
            return;
        }
        let is_whole = sim.below(2) == 0;
        let mut store = sim.store.borrow_mut();
        let mut names = store.uploads.iter().filter(|(_, it)| !it.was_lied_of);
        let Some(name) = names.next().map(|(name, _)| name.clone()) else {
            return;
        };
        match is_whole {
            true => {
                sim.marks.hit("upload lost by the store");
                store.uploads.remove(&name);
                store.lost.insert(name.clone());
            }
            false => {
                let upload = store.uploads.get_mut(&name);
                if upload.is_some_and(|it| it.parts.pop_first().is_some()) {
                    sim.marks.hit("part lost by the store");
                }
            }
        }
        sim.tell(|| format!("store: {name} is lost, all of it: {is_whole}"));
    }

    /// A request, with what may happen to it.
    async fn ask(&self, request: Request) -> Result<String, StoreTrouble> {
        let (sim, plan) = (&self.sim, self.plan());
        self.arrive().await?;
        if self.chance(plan.delays, "request to the store came late") {
            let (late, request) = (Rc::clone(sim), request.clone());
            let wait = (sim.below(PATIENCE_MS) + sim.below(LATE_MS)) as u64;
            sim.executor.spawn(CLIENTS, async move {
                sleep(&late.executor, wait).await;
                let _nobody_hears = carry_out(&late, request, true);
            });
            return Err(self.no_answer().await);
        }
        if self.chance(plan.slow, "store took long") {
            sleep(&sim.executor, sim.below(PATIENCE_MS) as u64).await;
        }
        // An upload that is gone, and that it says to have completed, is taken for completed.
        let is_lost = matches!(&request, Request::Complete(_, upload, _)
            if sim.store.borrow().lost.contains(upload));
        let may_lie = !matches!(request, Request::Begin(_)) && !request.is_probe() && !is_lost;
        if may_lie && self.chance(plan.lies, "store lied") {
            return Ok(lie(sim, &request));
        }
        let may_repeat = !matches!(request, Request::Begin(_));
        if may_repeat && self.chance(plan.repeats, "request to the store repeated") {
            let _first = carry_out(sim, request.clone(), false);
        }
        let answer = carry_out(sim, request, false);
        sim.be_critical();
        if self.chance(plan.mutes, "answer of the store lost") {
            return Err(self.no_answer().await);
        }
        sleep(&sim.executor, sim.below(20) as u64).await;
        answer
    }

    fn unknown(&self) -> StoreTrouble {
        unknown(&self.sim)
    }
}

/// What it says of an upload that it does not know.
fn unknown(sim: &Sim) -> StoreTrouble {
    match sim.plan.store.as_ref().is_some_and(|it| it.denies_unknown) {
        true => StoreTrouble::Refused("AccessDenied".to_owned()),
        false => StoreTrouble::Gone,
    }
}

/// It says that it is done.
fn lie(sim: &Sim, request: &Request) -> String {
    sim.tell(|| format!("store: lies of {}", request.word()));
    match request {
        Request::Part(_, _, content) => etag(content),
        Request::Complete(_, upload, _) => {
            if let Some(upload) = sim.store.borrow_mut().uploads.get_mut(upload) {
                upload.was_lied_of = true;
            }
            "v0".to_owned()
        }
        // It cannot name what it has not taken.
        _ => String::new(),
    }
}

/// Does what is asked. What a request to make something says, is what it is called.
fn carry_out(sim: &Sim, request: Request, is_late: bool) -> Result<String, StoreTrouble> {
    let word = request.word();
    let done = match request {
        Request::Put(object, content) => give(sim, &object, content, is_late),
        Request::Begin(object) => {
            let mut store = sim.store.borrow_mut();
            let name = format!("u{}", store.number());
            let begun = Begun {
                key: object.key,
                parts: BTreeMap::new(),
                was_lied_of: false,
            };
            store.uploads.insert(name.clone(), begun);
            if is_late {
                store.nobodys.insert(name.clone());
            }
            Ok(name)
        }
        Request::Part(name, number, content) => {
            match sim.store.borrow_mut().uploads.get_mut(&name) {
                None => Err(unknown(sim)),
                Some(upload) => {
                    let etag = etag(&content);
                    upload.parts.insert(number, content);
                    Ok(etag)
                }
            }
        }
        Request::Complete(object, name, parts) => complete(sim, &object, &name, &parts, is_late),
        Request::Abort(name) => match sim.store.borrow_mut().uploads.remove(&name) {
            None => Err(unknown(sim)),
            Some(_) => Ok(String::new()),
        },
    };
    sim.tell(|| format!("store: {word}, late: {is_late}: {done:?}"));
    done
}

fn complete(
    sim: &Sim,
    object: &Object,
    name: &str,
    parts: &[(u32, String)],
    is_late: bool,
) -> Result<String, StoreTrouble> {
    let mut content = Vec::new();
    {
        let store = sim.store.borrow();
        let upload = store.uploads.get(name).ok_or_else(|| unknown(sim))?;
        for (number, expected) in parts {
            let part = upload.parts.get(number);
            let Some(part) = part.filter(|part| etag(part) == *expected) else {
                return Err(StoreTrouble::Refused("InvalidPart".to_owned()));
            };
            content.extend(part);
        }
    }
    let version = give(sim, object, content, is_late)?;
    sim.marks.hit("object made of parts");
    sim.store.borrow_mut().uploads.remove(name);
    Ok(version)
}

/// An object is there.
fn give(
    sim: &Sim,
    object: &Object,
    content: Vec<u8>,
    is_late: bool,
) -> Result<String, StoreTrouble> {
    let plan = sim.plan.store.as_ref().expect("somebody asks");
    let key = object.key.clone();
    let mut store = sim.store.borrow_mut();
    let before = store.seen(&key);
    if !object.may_replace && plan.keeps_condition() && before.is_some() {
        return Err(StoreTrouble::Exists);
    }
    let version = format!("v{}", store.number());
    if !is_probe(&key) {
        let replaced = before.as_ref().and_then(|seen| seen.session.as_deref());
        sim.judge
            .borrow_mut()
            .stored(object, &content, &version, replaced, is_late);
        if is_late {
            store.late.insert(key.clone());
        }
        if sim.chance(plan.stale) {
            sim.marks.hit("store shows what stood before");
            let until = sim.executor.now() + sim.below(STALE_MS) as u64;
            store.stale.insert(key.clone(), (until, before));
        }
        if plan.is_emptied {
            sim.marks.hit("object taken away at once");
            return Ok(version);
        }
    }
    let stored = Stored {
        session: object.session.clone(),
        content,
        sha256: object.sha256,
        version: version.clone(),
    };
    store.objects.insert(key, stored);
    Ok(version)
}

impl Bucket for SimBucket {
    type Source = SimSource;

    async fn put(&self, object: &Object, source: &SimSource) -> Result<PutAnswer, StoreTrouble> {
        let content = source.read(&self.sim, 0..object.bytes);
        let name = etag(&content);
        let version = self.ask(Request::Put(object.clone(), content)).await?;
        // A lie names nothing.
        let is_told = !version.is_empty();
        Ok(PutAnswer {
            names: StoreNames::told(Some(&version), is_told.then_some(&*name)),
            is_proven: self.plan().proves && is_told,
        })
    }

    async fn begin(&self, object: &Object) -> Result<String, StoreTrouble> {
        self.ask(Request::Begin(object.clone())).await
    }

    async fn is_named(
        &self,
        source: &SimSource,
        bytes: u64,
        name: &str,
    ) -> Result<bool, StoreTrouble> {
        Ok(etag(&source.read(&self.sim, 0..bytes)) == name)
    }

    async fn crc32(&self, source: &SimSource, range: Range<u64>) -> Result<String, StoreTrouble> {
        self.sim.disk_time().await;
        Ok(etag(&source.read(&self.sim, range)))
    }

    async fn digest(
        &self,
        source: &SimSource,
        range: Range<u64>,
        before: Sha256,
    ) -> Result<(Sha256, String), StoreTrouble> {
        self.sim.disk_time().await;
        let content = source.read(&self.sim, range);
        Ok((before.chain_update(&content), etag(&content)))
    }

    async fn part(
        &self,
        _: &str,
        upload: &str,
        number: u32,
        source: &SimSource,
        range: Range<u64>,
    ) -> Result<Part, StoreTrouble> {
        let bytes = range.end - range.start;
        let content = source.read(&self.sim, range);
        let part = Request::Part(upload.to_owned(), number, content);
        let etag = self.ask(part).await?;
        Ok(Part {
            number,
            bytes,
            etag,
            crc32: None,
        })
    }

    async fn parts(&self, _: &str, upload: &str) -> Result<Vec<Part>, StoreTrouble> {
        self.arrive().await?;
        let plan = self.plan();
        if self.sim.chance(plan.lies) {
            return Err(StoreTrouble::Unreadable("<html>".to_owned()));
        }
        let store = self.sim.store.borrow();
        let Some(upload) = store.uploads.get(upload) else {
            // Some tell of no parts instead.
            return match plan.denies_unknown {
                true => Ok(Vec::new()),
                false => Err(self.unknown()),
            };
        };
        let parts = upload.parts.iter().map(|(number, content)| Part {
            number: *number,
            bytes: content.len() as u64,
            etag: etag(content),
            crc32: plan.proves.then(|| etag(content)),
        });
        Ok(parts.collect())
    }

    async fn complete(
        &self,
        object: &Object,
        upload: &str,
        parts: &[Part],
    ) -> Result<StoreNames, StoreTrouble> {
        let named = parts.iter().map(|part| (part.number, part.etag.clone()));
        let complete = Request::Complete(object.clone(), upload.to_owned(), named.collect());
        let version = self.ask(complete).await?;
        Ok(StoreNames::told(Some(&version), Some("of-parts")))
    }

    async fn abort(&self, _: &str, upload: &str) -> Result<(), StoreTrouble> {
        self.ask(Request::Abort(upload.to_owned())).await.map(drop)
    }

    async fn uploads(&self, key: &str) -> Result<Vec<String>, StoreTrouble> {
        self.arrive().await?;
        let store = self.sim.store.borrow();
        let of_key = store.uploads.iter().filter(|(_, it)| it.key == key);
        Ok(of_key.map(|(name, _)| name.clone()).collect())
    }

    async fn look(&self, key: &str) -> Result<Option<SeenObject>, StoreTrouble> {
        self.arrive().await?;
        let sim = &self.sim;
        let store = sim.store.borrow();
        if let Some((until, before)) = store.stale.get(key)
            && sim.has_faults.get()
            && sim.executor.now() < *until
        {
            return Ok(before.clone());
        }
        Ok(store.seen(key))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreTrouble> {
        self.arrive().await?;
        let mut store = self.sim.store.borrow_mut();
        if let Some(stored) = store.objects.remove(key) {
            self.sim.judge.borrow_mut().removed_object(key, &stored);
        }
        Ok(())
    }

    async fn rest(&self, ms: u64) {
        sleep(&self.sim.executor, ms).await;
    }
}
