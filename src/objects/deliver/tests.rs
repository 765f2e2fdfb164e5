//! A store that loses requests and answers, repeats, delays, refuses and lies, and a server that is
//! killed at every step: what was acknowledged is there, whole and once, and nothing else is.
//!
//! Goal: no order of faults makes us call an object stored that is not ours and whole, replace what
//! must stay, or leave an upload that nobody knows of. Method: 40,000 seeds; each is one file, one
//! store with its own faults, and as many lives of the server as it takes. In the first of them
//! parts are sent ahead while the file is still coming, and a power cut may take back what was not
//! synced, after which other bytes come.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use sha2::{Digest as _, Sha256};

use super::super::beside::Beside;
use super::super::bucket::{Part, PutAnswer, SeenObject, StoreNames};
use super::super::note::Note;
use super::super::parts::cut;
use super::*;
use crate::config::ObjectStore;
use crate::server::object_order::DigestFile;

const KEY: &str = "in/a b+c%.bin";
const BESIDE: &str = "in/a b+c%.bin.sha256";
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
const PART_BYTES: u64 = 8;
const SEEDS: u64 = 40_000;
const OUR_DIGEST: [u8; 32] = [1; 32];
const THEIR_DIGEST: [u8; 32] = [2; 32];

/// Numbers that look random and are the same for a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.roll(times) == 0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    session: String,
    content: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Upload {
    session: String,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// What changes something at the store.
#[derive(Clone, Debug)]
enum Request {
    Put(Object, Vec<u8>),
    Begin(Object),
    Part(String, u32, Vec<u8>),
    Complete(Object, String, Vec<(u32, String)>),
    Abort(String),
}

/// A mistake of ours that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    /// Parts of an earlier life are taken for what is here, whatever is in them.
    Unlooked,
    /// Nobody knows that the machine was started anew.
    BootForgotten,
    /// An upload is noted only when it was begun.
    NotedLate,
    /// Whatever stands under the key is taken for ours.
    AnybodysTaken,
}

struct World {
    planted: Option<Planted>,
    dice: Dice,
    /// The store keeps the condition not to replace.
    keeps_condition: bool,
    /// What it does not know it refuses, as if it were somebody else's, and lists as empty.
    denies_unknown: bool,
    /// Of what it does not know it says that it is not there, in words that nobody can read.
    mutters: bool,
    /// Faults that are still to come; without an end to them nothing would ever end.
    faults: u32,
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, Upload>,
    begun: u64,
    notes: BTreeMap<String, Note>,
    /// On their way still, though somebody has given up waiting.
    late: Vec<Request>,
    /// Uploads that were begun by a request that came late: nobody can know of them.
    nobodys: Vec<String>,
    /// Steps until the server is killed.
    fuse: Option<u64>,
    /// Somebody else wants the same name, on condition.
    rival_at: Option<u64>,
    /// Another upload replaces the object then, and its digest file.
    replaced_at: Option<u64>,
    /// Somebody takes each object away as it comes; so many so far.
    taken: Option<u64>,
    /// It takes no parts, and tells of no uploads.
    refuses_parts: bool,
    /// It tells of no uploads.
    hides_uploads: bool,
    /// Once it says that it has completed an upload, and has lost it.
    loses_upload: bool,
    /// Of a part of an upload that it does not know it takes nothing, and hangs up.
    hangs_up: bool,
    /// Once something on the way says that an upload was aborted.
    lies_of_abort: bool,
    /// It takes an order to complete, and says nothing more.
    is_mute: bool,
    /// So many times a portal says of whatever is looked for that it is there.
    pages: u32,
    /// What was read of the file and is not given up by the page cache: where each part begins.
    cached: BTreeSet<u64>,
    /// The most that there ever was of it.
    cached_most: usize,
    asked: u64,
}

impl World {
    /// What it says of an upload that it does not know.
    fn unknown(&self) -> StoreTrouble {
        match (self.denies_unknown, self.mutters) {
            (true, _) => StoreTrouble::Refused("AccessDenied".to_owned()),
            (false, true) => StoreTrouble::Refused("status 404".to_owned()),
            (false, false) => StoreTrouble::Gone,
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<String, StoreTrouble> {
        match request {
            Request::Put(object, content) => {
                let etag = etag(&content);
                self.give(object, content)?;
                Ok(etag)
            }
            Request::Begin(object) => {
                self.begun += 1;
                let name = format!("u{}", self.begun);
                let upload = Upload {
                    session: object.session,
                    parts: BTreeMap::new(),
                };
                self.uploads.insert(name.clone(), upload);
                Ok(name)
            }
            Request::Part(name, number, content) => {
                let unknown = match self.hangs_up {
                    true => StoreTrouble::Doubt("cut".to_owned()),
                    false => self.unknown(),
                };
                let upload = self.uploads.get_mut(&name).ok_or(unknown)?;
                let etag = etag(&content);
                upload.parts.insert(number, content);
                Ok(etag)
            }
            Request::Complete(object, name, parts) => {
                let upload = self.uploads.get(&name).cloned();
                let upload = upload.ok_or_else(|| self.unknown())?;
                let mut content = Vec::new();
                for (number, expected) in &parts {
                    let part = upload.parts.get(number);
                    let Some(part) = part.filter(|part| etag(part) == *expected) else {
                        return Err(StoreTrouble::Refused("InvalidPart".to_owned()));
                    };
                    content.extend(part);
                }
                assert_eq!(upload.session, object.session);
                self.give(object, content)?;
                self.uploads.remove(&name);
                Ok(String::new())
            }
            Request::Abort(name) => {
                let removed = self.uploads.remove(&name);
                removed.ok_or_else(|| self.unknown())?;
                Ok(String::new())
            }
        }
    }

    fn give(&mut self, object: Object, content: Vec<u8>) -> Result<(), StoreTrouble> {
        let stands = self.objects.get(&object.key);
        if !object.may_replace && self.keeps_condition && stands.is_some() {
            return Err(StoreTrouble::Exists);
        }
        assert!(
            object.may_replace || stands.is_none_or(|stored| stored.session == object.session),
            "replaced what was to stay"
        );
        match &mut self.taken {
            Some(taken) => *taken += 1,
            None => {
                let session = object.session;
                self.objects.insert(object.key, Stored { session, content });
            }
        }
        Ok(())
    }

    fn before(&mut self) {
        self.asked += 1;
        if self.rival_at == Some(self.asked) {
            self.objects.entry(KEY.to_owned()).or_insert_with(theirs);
        }
        if self.replaced_at == Some(self.asked) {
            let theirs = theirs();
            let digest = Stored {
                content: digest_file().text(&THEIR_DIGEST).into_bytes(),
                ..theirs.clone()
            };
            self.objects.insert(KEY.to_owned(), theirs);
            self.objects.insert(BESIDE.to_owned(), digest);
        }
        if !self.late.is_empty() && self.dice.one_in(2) {
            self.let_one_arrive();
        }
    }

    fn let_one_arrive(&mut self) {
        let request = self.late.remove(0);
        let is_begin = matches!(request, Request::Begin(_));
        if let Ok(name) = self.carry_out(request)
            && is_begin
        {
            self.nobodys.push(name);
        }
    }

    /// A request, with what may happen to it.
    fn ask(&mut self, request: Request) -> Result<String, StoreTrouble> {
        self.before();
        let doubt = || Err(StoreTrouble::Doubt("lost".to_owned()));
        if self.faults == 0 || self.dice.one_in(2) {
            return self.carry_out(request);
        }
        self.faults -= 1;
        match self.dice.roll(7) {
            // The request is lost.
            0 => doubt(),
            // Its answer is.
            1 => {
                let _lost = self.carry_out(request);
                doubt()
            }
            2 => {
                self.late.push(request);
                doubt()
            }
            // Something on the way repeats it.
            3 if !matches!(request, Request::Begin(_)) => {
                let _first = self.carry_out(request.clone());
                self.carry_out(request)
            }
            4 => Err(StoreTrouble::Refused("ExpiredToken".to_owned())),
            // 200, and nothing was done.
            5 => match request {
                Request::Put(..) | Request::Complete(..) => Ok(String::new()),
                Request::Part(_, _, content) => Ok(etag(&content)),
                Request::Abort(_) => Ok(String::new()),
                other @ Request::Begin(_) => self.carry_out(other),
            },
            _ => self.carry_out(request),
        }
    }

    /// A question, which may stay without an answer.
    fn question(&mut self) -> Result<(), StoreTrouble> {
        self.before();
        if self.faults > 0 && self.dice.one_in(4) {
            self.faults -= 1;
            return Err(StoreTrouble::Doubt("lost".to_owned()));
        }
        Ok(())
    }
}

/// What a store calls a content, and so does its checksum.
fn etag(content: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(content))
}

fn slice(source: &[u8], range: Range<u64>) -> &[u8] {
    &source[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
}

fn digest_file() -> DigestFile {
    DigestFile {
        key: BESIDE.to_owned(),
        of: "a b+c%.bin".to_owned(),
    }
}

fn theirs() -> Stored {
    Stored {
        session: THEIRS.to_owned(),
        content: b"not yours".to_vec(),
    }
}

#[derive(Clone)]
struct Model(Rc<RefCell<World>>);

impl Model {
    /// One step: the server may be killed at it, and then nothing follows.
    async fn step(&self) {
        let is_killed = {
            let mut world = self.0.borrow_mut();
            match &mut world.fuse {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            }
        };
        if is_killed {
            std::future::pending::<()>().await;
        }
    }

    fn planted(&self) -> Option<Planted> {
        self.0.borrow().planted
    }

    fn note_read(&self, range: &Range<u64>) {
        let mut world = self.0.borrow_mut();
        world.cached.insert(range.start);
        world.cached_most = world.cached_most.max(world.cached.len());
    }

    async fn ask(&self, request: Request) -> Result<String, StoreTrouble> {
        self.step().await;
        let answer = self.0.borrow_mut().ask(request);
        self.step().await;
        answer
    }
}

impl Bucket for Model {
    type Source = Vec<u8>;

    async fn put(&self, object: &Object, source: &Vec<u8>) -> Result<PutAnswer, StoreTrouble> {
        let put = Request::Put(object.clone(), source.clone());
        let etag = self.ask(put).await?;
        Ok(PutAnswer {
            names: StoreNames::told(None, Some(&etag)),
            is_proven: false,
        })
    }

    async fn begin(&self, object: &Object) -> Result<String, StoreTrouble> {
        self.ask(Request::Begin(object.clone())).await
    }

    async fn is_named(&self, source: &Vec<u8>, _: u64, name: &str) -> Result<bool, StoreTrouble> {
        Ok(etag(source) == name)
    }

    async fn crc32(&self, source: &Vec<u8>, range: Range<u64>) -> Result<String, StoreTrouble> {
        self.step().await;
        self.note_read(&range);
        let world = self.0.borrow();
        let number = u32::try_from(range.start / PART_BYTES + 1).unwrap();
        let mut parts = world
            .uploads
            .values()
            .filter_map(|upload| upload.parts.get(&number));
        Ok(match (world.planted, parts.next()) {
            (Some(Planted::Unlooked), Some(there)) => etag(there),
            _ => etag(slice(source, range)),
        })
    }

    async fn digest(
        &self,
        source: &Vec<u8>,
        range: Range<u64>,
        before: Sha256,
    ) -> Result<(Sha256, String), StoreTrouble> {
        self.step().await;
        self.note_read(&range);
        let bytes = slice(source, range);
        Ok((before.chain_update(bytes), etag(bytes)))
    }

    async fn dont_need(&self, _: &Vec<u8>, range: Range<u64>) {
        self.0.borrow_mut().cached.remove(&range.start);
    }

    async fn part(
        &self,
        _: &str,
        upload: &str,
        number: u32,
        source: &Vec<u8>,
        range: Range<u64>,
    ) -> Result<Part, StoreTrouble> {
        let bytes = range.end - range.start;
        self.note_read(&range);
        if self.0.borrow().refuses_parts {
            self.step().await;
            return Err(StoreTrouble::Refused("AccessDenied".to_owned()));
        }
        let content = slice(source, range).to_vec();
        let crc32 = Some(etag(&content));
        let part = Request::Part(upload.to_owned(), number, content);
        let etag = self.ask(part).await?;
        Ok(Part {
            number,
            bytes,
            etag,
            crc32,
        })
    }

    async fn parts(&self, _: &str, upload: &str) -> Result<Vec<Part>, StoreTrouble> {
        self.step().await;
        let mut world = self.0.borrow_mut();
        world.question()?;
        if world.dice.one_in(8) {
            return Err(StoreTrouble::Unreadable("what is this?".to_owned()));
        }
        let (tells_etags, tells_checksums) = (!world.dice.one_in(4), world.dice.one_in(2));
        let Some(upload) = world.uploads.get(upload) else {
            return match (world.denies_unknown, world.mutters) {
                (true, _) => Ok(Vec::new()),
                (false, true) => Err(StoreTrouble::NotThere("status 404".to_owned())),
                (false, false) => Err(StoreTrouble::Gone),
            };
        };
        let parts = upload.parts.iter().map(|(number, content)| Part {
            number: *number,
            bytes: content.len() as u64,
            etag: match tells_etags {
                true => etag(content),
                false => String::new(),
            },
            crc32: tells_checksums.then(|| etag(content)),
        });
        Ok(parts.collect())
    }

    async fn complete(
        &self,
        object: &Object,
        upload: &str,
        parts: &[Part],
    ) -> Result<StoreNames, StoreTrouble> {
        if std::mem::take(&mut self.0.borrow_mut().loses_upload) {
            self.0.borrow_mut().uploads.remove(upload);
            return Ok(StoreNames::told(None, Some("of-parts-2")));
        }
        if self.0.borrow().is_mute {
            std::future::pending::<()>().await;
        }
        let named = parts.iter().map(|part| (part.number, part.etag.clone()));
        let complete = Request::Complete(object.clone(), upload.to_owned(), named.collect());
        let _nothing = self.ask(complete).await?;
        Ok(StoreNames::told(None, Some("of-parts-2")))
    }

    async fn abort(&self, _: &str, upload: &str) -> Result<(), StoreTrouble> {
        if std::mem::take(&mut self.0.borrow_mut().lies_of_abort) {
            return Ok(());
        }
        self.ask(Request::Abort(upload.to_owned())).await.map(drop)
    }

    async fn uploads(&self, _: &str) -> Result<Vec<String>, StoreTrouble> {
        self.step().await;
        let mut world = self.0.borrow_mut();
        world.question()?;
        match world.refuses_parts || world.hides_uploads {
            true => Err(StoreTrouble::Refused("AccessDenied".to_owned())),
            false => Ok(world.uploads.keys().cloned().collect()),
        }
    }

    async fn look(&self, key: &str) -> Result<Option<SeenObject>, StoreTrouble> {
        self.step().await;
        let mut world = self.0.borrow_mut();
        world.question()?;
        if world.pages > 0 && !world.objects.contains_key(key) {
            world.pages -= 1;
            return Ok(Some(SeenObject {
                session: None,
                sha256: None,
                bytes: 612,
                names: StoreNames::default(),
            }));
        }
        Ok(world.objects.get(key).map(|stored| SeenObject {
            session: Some(match world.planted {
                Some(Planted::AnybodysTaken) => OURS.to_owned(),
                _ => stored.session.clone(),
            }),
            sha256: None,
            bytes: stored.content.len() as u64,
            names: StoreNames::default(),
        }))
    }

    async fn remove(&self, key: &str) -> Result<(), StoreTrouble> {
        self.0.borrow_mut().objects.remove(key);
        Ok(())
    }

    async fn rest(&self, _: u64) {
        self.step().await;
    }
}

impl Notebook for Model {
    async fn read(&self, session: &str) -> io::Result<Option<Note>> {
        self.step().await;
        Ok(self.0.borrow().notes.get(session).cloned())
    }

    async fn write(&self, session: &str, note: &Note) -> io::Result<()> {
        self.step().await;
        let is_kept = note.upload.is_some() || self.planted() != Some(Planted::NotedLate);
        if is_kept {
            let note = note.clone();
            self.0.borrow_mut().notes.insert(session.to_owned(), note);
        }
        self.step().await;
        Ok(())
    }

    async fn remove(&self, session: &str) -> io::Result<()> {
        self.step().await;
        self.0.borrow_mut().notes.remove(session);
        Ok(())
    }

    async fn named(&self) -> io::Result<Vec<String>> {
        let world = self.0.borrow();
        Ok(world
            .notes
            .values()
            .filter_map(|note| note.upload.clone())
            .collect())
    }
}

/// Runs a life of the server to its end, or to the moment at which it is killed.
fn live<T>(life: impl Future<Output = T>) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(life).poll(&mut context) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn place() -> StorePlace {
    StorePlace {
        bucket: "b".to_owned(),
        region: "r".to_owned(),
        endpoint: None,
        path_style: false,
        ca: "".into(),
    }
}

/// How often something was reached.
#[derive(Default)]
struct Counts {
    acked: u64,
    killed: u64,
    refused: u64,
    gone: u64,
    /// Parts that were sent ahead.
    ahead: u64,
    /// Power cuts after which other bytes came.
    cuts: u64,
}

struct Case {
    model: Model,
    object: Object,
    content: Vec<u8>,
    /// What was cut off by a power cut that is still to come: the first byte of it.
    to_be_cut: Option<u64>,
    /// The boot of the machine.
    boot: &'static str,
    looks_first: bool,
    is_promised: bool,
}

impl Case {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let bytes = dice.roll(41);
        let content = (0..bytes)
            .map(|at| u8::try_from((at * 7 + seed) % 251).unwrap())
            .collect();
        let keeps_condition = !dice.one_in(4);
        let may_replace = dice.one_in(3);
        let is_taken = dice.one_in(6);
        let object = Object {
            key: KEY.to_owned(),
            session: OURS.to_owned(),
            bytes,
            sha256: None,
            may_replace,
        };
        let denies_unknown = dice.one_in(4);
        let mut world = World {
            planted,
            keeps_condition,
            denies_unknown,
            mutters: seed % 7 == 4,
            faults: u32::try_from(dice.roll(9)).unwrap(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun: 0,
            notes: BTreeMap::new(),
            late: Vec::new(),
            nobodys: Vec::new(),
            fuse: None,
            rival_at: (keeps_condition && dice.one_in(6)).then(|| dice.roll(12)),
            replaced_at: None,
            taken: None,
            refuses_parts: false,
            hides_uploads: false,
            loses_upload: false,
            hangs_up: false,
            lies_of_abort: false,
            is_mute: false,
            pages: 0,
            cached: BTreeSet::new(),
            cached_most: 0,
            asked: 0,
            dice,
        };
        if is_taken {
            world.objects.insert(KEY.to_owned(), theirs());
        }
        let is_promised =
            world.dice.one_in(3) && world.rival_at.is_none() && (may_replace || !is_taken);
        let to_be_cut = world.dice.one_in(2).then(|| world.dice.roll(bytes + 1));
        Self {
            model: Model(Rc::new(RefCell::new(world))),
            object,
            content,
            to_be_cut,
            boot: "1",
            looks_first: !keeps_condition,
            is_promised,
        }
    }

    /// The server is killed at some step from now on, perhaps.
    fn light_fuse(&self, is_lit: bool) {
        let mut world = self.model.0.borrow_mut();
        let is_killed = is_lit && world.dice.one_in(2);
        world.fuse = is_killed.then(|| world.dice.roll(40));
    }

    fn roll(&self, sides: u64) -> u64 {
        self.model.0.borrow_mut().dice.roll(sides)
    }

    /// Lives of the server while the file is still coming. What the last one of them knows that
    /// goes on; `None` if it was killed.
    fn send_ahead(&mut self, counts: &mut Counts) -> Option<SentParts> {
        let mut acked = 0;
        let mut left = None;
        for _ in 0..self.roll(4) {
            self.light_fuse(true);
            left = self.send_ahead_in_one_life(&mut acked, counts);
            if left.is_none()
                && let Some(durable) = self.to_be_cut.take_if(|durable| *durable <= acked)
            {
                // What comes now is something else.
                let at = usize::try_from(durable).unwrap();
                self.content[at..].iter_mut().for_each(|byte| *byte ^= 0x55);
                if self.model.planted() != Some(Planted::BootForgotten) {
                    self.boot = "2";
                }
                acked = durable;
                counts.cuts += 1;
            }
        }
        self.model.0.borrow_mut().fuse = None;
        left
    }

    fn send_ahead_in_one_life(&self, acked: &mut u64, counts: &mut Counts) -> Option<SentParts> {
        let place = place();
        let parts = self.parts(&place);
        let mut known = SentParts::default();
        for _ in 0..self.roll(5) {
            *acked = self.object.bytes.min(*acked + self.roll(20));
            while let Ok(Some(_)) = live(parts.send_ahead(&mut known, &self.content, *acked))? {
                counts.ahead += 1;
            }
        }
        Some(known)
    }

    fn parts<'a>(&'a self, place: &'a StorePlace) -> InParts<'a, Model, Model> {
        InParts {
            bucket: &self.model,
            notes: &self.model,
            object: &self.object,
            place,
            part_bytes: PART_BYTES,
            is_hashed: true,
            was_told: false,
            boot: self.boot,
        }
    }

    fn life(&self, known: SentParts, is_repeat: bool) -> Option<Result<Delivered, Untaken>> {
        self.life_told(known, is_repeat, |_| {})
    }

    fn life_told(
        &self,
        known: SentParts,
        is_repeat: bool,
        tell: impl Fn(&StoreTrouble),
    ) -> Option<Result<Delivered, Untaken>> {
        let place = place();
        let slots = Semaphore::new(1);
        let deliverer = Deliverer {
            bucket: &self.model,
            notes: &self.model,
            slots: &slots,
            object: &self.object,
            place: &place,
            part_bytes: PART_BYTES,
            looks_first: self.looks_first,
            is_promised: self.is_promised,
            is_repeat,
            was_told: false,
            boot: self.boot,
        };
        live(deliverer.run(&self.content, known, tell))
    }

    /// Its digest file, in as many lives as it takes.
    fn put_beside(&self) {
        for life in 0..50 {
            self.light_fuse(life < 4);
            if let Some(is_right) = self.put_beside_in_one_life(Some(THEIR_DIGEST)) {
                assert!(is_right);
                return;
            }
        }
        panic!("the digest file does not get there");
    }

    /// Whether it is right; `theirs` is the digest of another upload, if that is known.
    fn put_beside_in_one_life(&self, theirs: Option<[u8; 32]>) -> Option<bool> {
        let beside = Beside {
            object: &self.object,
            sha256: OUR_DIGEST,
            file: &digest_file(),
            looks_first: self.looks_first,
            known: &|session| theirs.filter(|_| session == THEIRS),
        };
        live(beside.put(&self.model))?.ok()
    }

    /// One in which nothing goes wrong, and the file is of so many bytes.
    fn calm(bytes: u64, may_replace: bool) -> Self {
        let mut case = Self::new(3, None);
        case.object.bytes = bytes;
        case.object.may_replace = may_replace;
        case.content = (0..bytes).map(|at| u8::try_from(at).unwrap()).collect();
        case.looks_first = false;
        let mut world = case.model.0.borrow_mut();
        world.keeps_condition = true;
        world.faults = 0;
        world.rival_at = None;
        world.objects.clear();
        drop(world);
        case
    }

    /// One of a promised file of which the first part was sent ahead, and what is known of that.
    fn promised_in_part() -> (Self, SentParts) {
        let mut case = Self::calm(30, true);
        case.is_promised = true;
        let (place, mut known) = (place(), SentParts::default());
        let parts = case.parts(&place);
        let sent = live(parts.send_ahead(&mut known, &case.content, PART_BYTES));
        assert_eq!(sent.unwrap().unwrap(), Some(PART_BYTES));
        (case, known)
    }

    /// Its session is over: whatever the note names is ended.
    fn give_up(&self) {
        self.model.0.borrow_mut().fuse = None;
        for _ in 0..100 {
            let Some(note) = self.model.0.borrow().notes.get(OURS).cloned() else {
                return;
            };
            let _again = live(abandon(&self.model, &self.model, OURS, &note));
        }
        panic!("the note stays");
    }

    fn judge(&self, is_acked: bool, seed: u64) {
        let mut world = self.model.0.borrow_mut();
        while !world.late.is_empty() {
            world.let_one_arrive();
        }
        if is_acked {
            let stored = &world.objects[KEY];
            assert_eq!(stored.session, OURS, "seed {seed}");
            assert_eq!(stored.content, self.content, "seed {seed}");
            let beside = digest_file().text(&OUR_DIGEST).into_bytes();
            assert_eq!(world.objects[BESIDE].content, beside, "seed {seed}");
        }
        let nobodys = world.nobodys.clone();
        world.uploads.retain(|name, _| !nobodys.contains(name));
        assert!(world.uploads.is_empty(), "seed {seed}: {:?}", world.uploads);
        assert!(world.notes.is_empty(), "seed {seed}: {:?}", world.notes);
    }
}

/// One file from its first byte to the end of all that came of it.
fn run(seed: u64, planted: Option<Planted>, counts: &mut Counts) {
    let mut case = Case::new(seed, planted);
    let mut known = case.send_ahead(counts).unwrap_or_default();
    let mut is_repeat = false;
    let mut is_acked = false;
    for life in 0.. {
        case.light_fuse(life < 4);
        match case.life(std::mem::take(&mut known), is_repeat) {
            // Its record says `closing`.
            None => {
                counts.killed += 1;
                is_repeat = true;
            }
            Some(Ok(_)) => {
                is_acked = true;
                break;
            }
            Some(Err(Untaken::Exists)) => {
                assert!(!case.object.may_replace, "seed {seed}");
                let stands = case.model.0.borrow().objects.get(KEY).cloned();
                assert_eq!(stands, Some(theirs()), "seed {seed}");
                break;
            }
            Some(Err(Untaken::Refused(_))) => {
                counts.refused += 1;
                is_repeat = false;
                // Its client has had enough.
                if case.model.0.borrow_mut().dice.one_in(8) {
                    break;
                }
            }
            Some(Err(Untaken::Unreadable(error))) => panic!("seed {seed}: {error}"),
        }
        assert!(life < 50, "seed {seed} does not end");
    }
    if is_acked {
        case.put_beside();
    }
    counts.acked += u64::from(is_acked);
    counts.gone += u64::from(!is_acked);
    case.give_up();
    case.judge(is_acked, seed);
}

#[test]
fn whatever_is_lost_an_object_that_was_acked_is_there_whole_and_nothing_else() {
    let mut counts = Counts::default();
    for seed in 1..=SEEDS {
        run(seed, None, &mut counts);
    }
    // All of it was reached.
    assert!(counts.acked > 20_000 && counts.killed > 10_000);
    assert!(counts.refused > 500 && counts.gone > 500);
    assert!(counts.ahead > 20_000 && counts.cuts > 2_000);
}

#[test]
fn each_planted_mistake_is_found() {
    for planted in [
        Planted::Unlooked,
        Planted::BootForgotten,
        Planted::NotedLate,
        Planted::AnybodysTaken,
    ] {
        let is_found = |seed| {
            let ran = std::panic::catch_unwind(|| run(seed, Some(planted), &mut Counts::default()));
            ran.is_err()
        };
        assert!((1..=SEEDS).any(is_found), "{planted:?} is not found");
    }
}

#[test]
fn a_file_has_at_most_nine_thousand_parts_and_they_are_all_of_it() {
    const MIB: u64 = 1 << 20;
    for (bytes, setting, expected) in [
        (0, 16 * MIB, 16 * MIB),
        (144_000 * MIB, 16 * MIB, 16 * MIB),
        (144_000 * MIB + 1, 16 * MIB, 17 * MIB),
        (5 << 40, 16 * MIB, 583 * MIB),
    ] {
        let part = ObjectStore::bytes_of_parts(bytes, setting);
        assert_eq!(part, expected, "{bytes}");
        let parts: Vec<_> = cut(bytes, part).collect();
        assert!(parts.len() <= 9_000);
        let ends = parts
            .windows(2)
            .all(|pair| pair[0].1.end == pair[1].1.start);
        assert!(ends && parts[0].1.start == 0);
        assert_eq!(parts.last().map(|(_, range)| range.end), Some(bytes));
        assert_eq!(
            parts.last().map(|(number, _)| *number as usize),
            Some(parts.len())
        );
    }
}

/// Goal: the digest file is that of the object which stands there, whenever another upload replaces
/// both; where nobody knows that one's digest there is rather none. Method: it does so before each
/// of our requests in turn.
#[test]
fn whoever_replaces_an_object_its_digest_file_is_that_of_what_stands_there() {
    let mut replaced = 0;
    for known in [Some(THEIR_DIGEST), None] {
        for at in 1..=12 {
            let case = Case::calm(5, true);
            case.model.0.borrow_mut().replaced_at = Some(at);
            case.life(SentParts::default(), false).unwrap().unwrap();
            let is_right = case.put_beside_in_one_life(known).unwrap();
            let world = case.model.0.borrow();
            let beside = world.objects.get(BESIDE).map(|stored| &stored.content[..]);
            let (sha256, is_ours) = match &*world.objects[KEY].session {
                OURS => (OUR_DIGEST, true),
                _ => (THEIR_DIGEST, false),
            };
            replaced += u64::from(!is_ours);
            let expected = digest_file().text(&sha256);
            let is_there = beside == Some(expected.as_bytes());
            let is_none = beside.is_none() && !is_ours && known.is_none() && !is_right;
            assert!(
                is_there || is_none,
                "replaced before request {at}: {beside:?}"
            );
        }
    }
    assert!(replaced > 4);
}

/// Goal: where somebody takes each object away as it comes, it is put there once. Method: a store
/// that tells no checksums, and a file of one request and of several parts.
#[test]
fn an_object_that_is_taken_away_at_once_is_not_put_there_again() {
    for bytes in [5, 30] {
        for may_replace in [true, false] {
            let case = Case::calm(bytes, may_replace);
            case.model.0.borrow_mut().taken = Some(0);
            let delivered = case.life(SentParts::default(), false);
            assert!(matches!(delivered, Some(Ok(_))), "{delivered:?}");
            assert_eq!(case.model.0.borrow().taken, Some(1), "{bytes} bytes");
            assert!(case.model.0.borrow().notes.is_empty());
        }
    }
}

/// Else the page cache would fill up with what nobody reads again, and each part be read into pages
/// that nobody has touched for long.
#[test]
fn no_more_than_one_part_is_kept_in_memory() {
    for is_hashed in [false, true] {
        let mut case = Case::calm(30, true);
        let digest: [u8; 32] = Sha256::digest(&case.content).into();
        case.object.sha256 = is_hashed.then_some(digest);
        let place = place();
        let parts = case.parts(&place);
        let mut known = SentParts::default();
        let ahead = live(parts.send_ahead(&mut known, &case.content, 2 * PART_BYTES)).unwrap();
        assert_eq!(ahead.unwrap(), Some(PART_BYTES));
        case.life(known, false).unwrap().unwrap();
        let world = case.model.0.borrow();
        assert_eq!(world.objects[KEY].content, case.content);
        assert_eq!(world.cached_most, 1, "hashed: {is_hashed}");
        assert!(world.cached.is_empty(), "hashed: {is_hashed}");
    }
}

/// Goal: where the store does not say what has become of an upload that it calls completed, that
/// is no proof of an object. Method: it loses an upload, lists what it does not know as empty and
/// may not be asked for uploads.
#[test]
fn an_upload_of_which_nothing_is_told_is_no_object() {
    let mut case = Case::calm(30, true);
    case.is_promised = true;
    {
        let mut world = case.model.0.borrow_mut();
        world.denies_unknown = true;
        world.hides_uploads = true;
        world.loses_upload = true;
    }
    let delivered = case.life(SentParts::default(), false);
    assert!(matches!(delivered, Some(Ok(_))), "{delivered:?}");
    let world = case.model.0.borrow();
    assert!(world.objects.contains_key(KEY), "nothing is there");
}

/// Goal: a file gets there also where nothing that is sent to a lost upload is answered. Method:
/// the store loses it when a part was sent ahead, and hangs up on each further one.
#[test]
fn an_upload_that_is_lost_without_a_word_is_begun_again() {
    for denies_unknown in [false, true] {
        let (case, known) = Case::promised_in_part();
        {
            let mut world = case.model.0.borrow_mut();
            world.uploads.clear();
            world.denies_unknown = denies_unknown;
            world.hangs_up = true;
            world.fuse = Some(20_000);
        }
        let delivered = case.life(known, false);
        assert!(matches!(delivered, Some(Ok(_))), "{delivered:?}");
        assert!(case.model.0.borrow().objects.contains_key(KEY));
    }
}

/// Goal: an upload that the store has lost, and of which it says so in words that nobody can read,
/// is begun again where its list shows that; where nobody may see that list it may be there still.
/// Method: a life of the server that finds its note.
#[test]
fn an_upload_that_is_said_to_be_nowhere_is_begun_again_where_no_list_has_it() {
    for (hides_uploads, begun) in [(false, 2), (true, 1)] {
        let (case, _forgotten) = Case::promised_in_part();
        {
            let mut world = case.model.0.borrow_mut();
            world.uploads.clear();
            world.mutters = true;
            world.hides_uploads = hides_uploads;
            world.fuse = Some(20_000);
        }
        let delivered = case.life(SentParts::default(), true);
        let is_there = case.model.0.borrow().objects.contains_key(KEY);
        assert_eq!(is_there, !hides_uploads, "{delivered:?}");
        assert_eq!(case.model.0.borrow().begun, begun);
    }
}

/// Goal: an upload that holds nothing goes also where something on the way says that it was
/// aborted. Method: a store that lists what it does not know as empty.
#[test]
fn an_empty_upload_is_aborted_until_it_is_gone() {
    let case = Case::calm(30, true);
    case.model.0.borrow_mut().denies_unknown = true;
    for _ in 0..20 {
        case.model.0.borrow_mut().lies_of_abort = true;
        let upload = live(case.model.begin(&case.object)).unwrap().unwrap();
        // Some of its answers cannot be read, and then it is asked again later.
        let is_gone = || live(abort(&case.model, KEY, &upload)).unwrap().is_ok();
        assert!((0..20).any(|_| is_gone()));
        assert!(case.model.0.borrow().uploads.is_empty());
    }
}

/// Goal: a store that refuses parts and does not say what has become of their upload does not get
/// an upload at each try. Method: a promised file, which is tried until the server ends.
#[test]
fn a_store_that_refuses_everything_gets_few_uploads() {
    let mut case = Case::calm(30, true);
    case.is_promised = true;
    {
        let mut world = case.model.0.borrow_mut();
        world.refuses_parts = true;
        world.denies_unknown = true;
        world.fuse = Some(20_000);
    }
    assert!(case.life(SentParts::default(), false).is_none());
    let begun = case.model.0.borrow().begun;
    assert!((2..=16).contains(&begun), "{begun} uploads");
}

/// A portal or a proxy that answers any question with a page of its own takes no name: only the
/// store says that something is there, by its refusal to replace it.
#[test]
fn a_page_in_the_place_of_an_object_refuses_no_file() {
    for bytes in [5, 2 * PART_BYTES] {
        let case = Case::calm(bytes, false);
        case.model.0.borrow_mut().pages = 1;
        let outcome = case.life(SentParts::default(), true).unwrap();
        assert!(outcome.is_ok(), "{bytes} bytes");
        assert_eq!(case.model.0.borrow().objects[KEY].session, OURS);
        case.model.0.borrow_mut().pages = 1;
        assert_eq!(case.put_beside_in_one_life(None), Some(true));
        assert!(
            case.model
                .0
                .borrow()
                .objects
                .contains_key(&digest_file().key)
        );
    }
}

/// Goal: what a probe has left goes also where the answer to its first request was lost. Method:
/// probes of many seeds, which each meet a few faults.
#[test]
fn a_probe_leaves_no_object_behind_whatever_is_lost() {
    use super::super::probe;
    for seed in 1..2_000 {
        let case = Case::new(seed, None);
        case.model.0.borrow_mut().rival_at = None;
        case.model.0.borrow_mut().objects.clear();
        let _tried = live(probe::try_it(&case.model, "probe"));
        let mut world = case.model.0.borrow_mut();
        // What comes later than that nobody can help.
        world.late.clear();
        assert!(world.objects.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_store_that_replaces_is_found_out() {
    use super::super::probe;
    for (keeps_condition, expected) in [(true, true), (false, false)] {
        let case = Case::new(3, None);
        case.model.0.borrow_mut().keeps_condition = keeps_condition;
        case.model.0.borrow_mut().faults = 0;
        case.model.0.borrow_mut().rival_at = None;
        case.model.0.borrow_mut().objects.clear();
        let trial = live(probe::try_it(&case.model, "probe")).unwrap();
        let shown = trial.shown.unwrap();
        assert_eq!(shown.is_ok(), expected);
        assert!(case.model.0.borrow().objects.is_empty());
        assert!(case.model.0.borrow().uploads.is_empty());
    }
}

/// Goal: where the digest of a file is known no object is made of other bytes, whoever was promised
/// what, and nothing of it is left at the store that could be taken for the file later.
#[test]
fn no_object_is_made_of_a_file_that_somebody_has_changed() {
    for is_promised in [false, true] {
        let mut case = Case::calm(30, true);
        case.is_promised = is_promised;
        case.object.sha256 = Some(Sha256::digest(&case.content).into());
        let right = case.content.clone();
        case.content[13] ^= 1;
        let untaken = case.life(SentParts::default(), false);
        let Some(Err(Untaken::Unreadable(error))) = untaken else {
            panic!("{untaken:?}");
        };
        assert!(is_part_changed(&error));
        assert!(case.model.0.borrow().objects.is_empty());
        assert!(case.model.0.borrow().uploads.is_empty());
        // Somebody has brought back what was there.
        case.content = right;
        case.life(SentParts::default(), true).unwrap().unwrap();
        let world = case.model.0.borrow();
        assert_eq!(world.objects[KEY].content, case.content);
        assert!(world.uploads.is_empty() && world.notes.is_empty());
    }
}

/// Goal: a part that was sent while the file was another one is in no object.
#[test]
fn a_part_that_is_not_what_is_here_is_sent_again() {
    let mut case = Case::calm(30, true);
    case.object.sha256 = Some(Sha256::digest(&case.content).into());
    let (place, mut known) = (place(), SentParts::default());
    let mut other = case.content.clone();
    other[3] ^= 1;
    let sent = live(
        case.parts(&place)
            .send_ahead(&mut known, &other, PART_BYTES),
    );
    assert_eq!(sent.unwrap().unwrap(), Some(PART_BYTES));
    case.life(known, false).unwrap().unwrap();
    let world = case.model.0.borrow();
    assert_eq!(world.objects[KEY].content, case.content);
}

/// Goal: what was sent ahead for one object is not completed as another one. Method: new settings
/// want another key, and the note of the upload is somebody else's affair by then.
#[test]
fn an_upload_is_of_one_object_whatever_new_settings_want() {
    let mut case = Case::calm(30, true);
    let (place, mut known) = (place(), SentParts::default());
    let sent = live(
        case.parts(&place)
            .send_ahead(&mut known, &case.content, PART_BYTES),
    );
    assert_eq!(sent.unwrap().unwrap(), Some(PART_BYTES));
    case.model.0.borrow_mut().notes.clear();
    case.object.key = "elsewhere".to_owned();
    case.life(known, false).unwrap().unwrap();
    let world = case.model.0.borrow();
    assert_eq!(world.objects["elsewhere"].content, case.content);
    assert_eq!(world.begun, 2);
    assert!(world.uploads.contains_key("u1"), "it was completed");
}

/// Goal: somebody hears of a store that takes the order to make an object of parts, and says no
/// more, long before it is given up.
#[test]
fn a_store_that_is_mute_about_an_object_is_told_of() {
    let case = Case::calm(30, true);
    case.model.0.borrow_mut().is_mute = true;
    let told = RefCell::new(Vec::new());
    let tell = |trouble: &StoreTrouble| told.borrow_mut().push(trouble.to_string());
    assert!(case.life_told(SentParts::default(), false, tell).is_none());
    let told = told.borrow();
    assert!(
        told.len() == 1 && told[0].contains("for a minute"),
        "{told:?}"
    );
}
