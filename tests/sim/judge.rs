//! The reference model, and the invariants it holds the server to.
//!
//! For each session the model knows what its client sent and what the client was promised. What may
//! break a promise (the client's own Cancel, a fault of the disk, the settings) is noted as an
//! *excuse* before it is used.
//!
//! # The invariants
//!
//! A failure begins with the number of what was broken. `world.rs`, `client.rs` and `run.rs` look
//! at the same list.
//!
//! 1. No client is told more than it sent, nor less than it was told before.
//! 2. A part grows only at its end, up to its total, and has the bytes that were sent.
//! 3. A destination is absent, old or whole. It changes only when its client has asked for that,
//!    and is overwritten only where it may be.
//! 4. What an Ack promises is there, and after the power cuts that its durability covers. A session
//!    ends only for a reason.
//! 5. A restart forgets no session, and no byte that was promised to survive it.
//! 6. Each packet has an answer of its kind.
//! 7. Limits hold: sizes of files and fragments, descriptors, journals, what a shard keeps.
//! 8. One shard writes a part, and one write at a time.
//! 9. Nothing is left behind when sessions have ended, and no more space is reserved than may be.
//! 10. Every run ends, and honest clients finish.
//! 11. An application hears of a whole, safe file, takes it once, and its reply is its client's.
//! 12. What is named is known: no part without a session, no file that nobody asked for, nothing
//!     for strangers.
//! 13. The same seed tells the same story.
//! 14. What stands at a destination can be read, as it stands, and nothing else.
//! 15. What is counted is what happened (`tally.rs`).
//! 16. Where somebody asks, nothing is made, moved, ended or told but for whom it belongs to; and
//!     whoever has shown what is right is not asked again (`identity.rs`).
//! 17. A digest is that of the bytes that were sent, and every upload that is to have one has it.
//! 18. Whoever is to hear of files by events hears of each that was published, and of none that was
//!     not, whatever happens to them and to us.
//! 19. Where a custody ledger is kept, no Close is acked without its line, no line speaks of a file
//!     that is not there, and the chain holds.
//! 20. What goes into an object store was there when its Close was acked, or is safe here until it
//!     is; it is whole, under its name and its mark, replaces nothing that is to stay, and is told
//!     of by its names; and no upload in parts is left behind.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bitsd::bits::reply::Refusal;
use bitsd::bits::session::Ending;
use bitsd::bits::session_id::SessionId;
use bitsd::config::{Config, Durability, Publish};
use bitsd::event::{DiskOp, Event};
use bitsd::server::shard::Shard;
use bitsd::vault::disk::Shelf;
use bitsd::vault::names::{self, WorkName};

use crate::application::Replies;
use crate::disk::{self, SimDisk};
use crate::identity::THIEF;
use crate::judge_object::Objects;
use crate::judge_owed::Outside;
use crate::marks::Marks;
use crate::plan::{Plan, Upload};
use crate::sim::Sim;
use crate::talk::Reply;
use crate::world::SimWorld;

/// What is known of one session.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) upload: usize,
    pub(crate) path: String,
    /// Its client has heard the Create Ack.
    pub(crate) is_created: bool,
    /// The highest offset heard.
    pub(crate) floor: u64,
    /// The highest offset heard in a positive Ack of a fragment.
    pub(crate) floor_acked: u64,
    /// The final fragment Ack was heard.
    pub(crate) is_sealed: bool,
    /// When Close was first asked for.
    pub(crate) closing_since: Option<u64>,
    /// When its client heard an answer to its last Close.
    pub(crate) close_answered: Option<u64>,
    pub(crate) is_closed: bool,
    pub(crate) cancelling_since: Option<u64>,
    pub(crate) is_cancelled: bool,
    /// Why nothing is promised any more.
    pub(crate) excuse: Option<&'static str>,
    /// The life in which a sync of it failed.
    pub(crate) sync_failed: Option<u64>,
    /// It has its name, and a sync of that failed.
    pub(crate) has_lost_name: bool,
    pub(crate) progress_ms: u64,
    /// Restarts since it ended, after which a Cancel may be forgotten.
    pub(crate) has_crashed: bool,
    /// What stands in its file was not seen since.
    pub(crate) has_power_been_cut: bool,
    /// A medium has spoilt a record of it.
    pub(crate) is_record_damaged: bool,
    /// What its application did.
    pub(crate) told: Told,
    /// What others outside are to hear.
    pub(crate) outside: Outside,
}

impl Session {
    /// Whether a power cut may have brought it back after its client had cancelled it: its end
    /// could not be synced, or was spoilt later, which cannot be helped.
    pub(crate) fn may_be_back(&self, has_record_sync_failed: bool) -> bool {
        (has_record_sync_failed || self.is_record_damaged) && self.has_power_been_cut
    }
}

impl Session {
    /// Its client has asked for its end before it was whole: where the disk is full, its bytes make
    /// room for the record of that.
    fn is_given_up(&self) -> bool {
        !self.is_sealed && (self.closing_since.is_some() || self.cancelling_since.is_some())
    }

    /// Without progress for how long, in milliseconds, it may end.
    fn timeout(&self, config: &Config) -> u128 {
        let policy = &config.global().policy;
        let timeout = match self.floor {
            0 => policy.session_timeout.min(policy.empty_session_timeout),
            _ if self.is_given_up() => policy.session_timeout.min(policy.empty_session_timeout),
            _ => policy.session_timeout,
        };
        timeout.as_millis()
    }
}

/// What is known of an application's dealings with one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// It has heard of the file.
    pub(crate) is_heard: bool,
    /// It has taken the file, and may know that its answer arrived.
    pub(crate) accepted: Option<Accepted>,
    /// Why it may hear of it again.
    pub(crate) may_hear_again: bool,
    /// The URL of the final Ack.
    pub(crate) reply_url: Option<Option<String>>,
}

/// That an application took a file.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// In which life of the server.
    pub(crate) life: u64,
    /// What it has for the client.
    pub(crate) reply: Option<Vec<u8>>,
}

/// What is known of one destination.
#[derive(Clone, Debug, Default)]
struct Place {
    old: Option<Vec<u8>>,
    uploads: Vec<usize>,
    /// Nothing can be said of its bytes: power was cut where that was not provided for.
    is_void: bool,
}

/// The judge.
pub struct Judge {
    pub(crate) config: Rc<Config>,
    pub(crate) uploads: Vec<Upload>,
    /// The disk may be full now and then.
    can_be_full: bool,
    /// A record may find no room, or a disk that fails.
    pub(crate) may_refuse_records: bool,
    /// Ranges of each upload that were sent.
    ranges: Vec<Vec<(u64, u64)>>,
    /// Bytes of each upload sent without a gap.
    sent: Vec<u64>,
    places: BTreeMap<String, Place>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    peers: BTreeMap<SocketAddr, usize>,
    /// Files being written to, and the shard and life that does.
    writing: BTreeMap<u64, usize>,
    writers: BTreeMap<(u64, String), usize>,
    /// A sync of a folder failed in this life; events say for whom.
    has_folder_sync_failed: bool,
    /// Records of a journal were damaged at rest.
    pub(crate) has_damaged_journal: bool,
    /// A sync of a journal failed once: an end that was acked may be taken back by a power cut.
    pub(crate) has_record_sync_failed: bool,
    /// A record could not be written in this life.
    has_record_been_refused: bool,
    /// A custody ledger is kept.
    pub(crate) keeps_custody: bool,
    /// Whether the application, if there is one, wants files at their destinations.
    pub(crate) copies: Option<bool>,
    /// What the application answers with.
    pub(crate) replies: Replies,
    /// What went into a store.
    pub(crate) objects: Objects,
    failures: Vec<String>,
}

impl Judge {
    /// Before anything happened.
    pub fn new(plan: &Plan) -> Self {
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for (number, upload) in plan.uploads.iter().enumerate() {
            places
                .entry(upload.path.clone())
                .or_default()
                .uploads
                .push(number);
        }
        for (path, bytes) in &plan.old {
            places.entry(path.clone()).or_default().old = Some(bytes.clone());
        }
        Self {
            config: Rc::new((*plan.config).clone()),
            can_be_full: plan.faults.full,
            may_refuse_records: plan.faults.full
                || plan.faults.write + plan.faults.corrupt + plan.faults.unanswered > 0
                || plan.faults.sync + plan.faults.sync_folder > 0
                || plan.config.limits.journal_bytes_max < 1 << 30,
            ranges: vec![Vec::new(); plan.uploads.len()],
            sent: vec![0; plan.uploads.len()],
            uploads: plan.uploads.clone(),
            places,
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            writing: BTreeMap::new(),
            writers: BTreeMap::new(),
            has_folder_sync_failed: false,
            has_damaged_journal: false,
            has_record_sync_failed: false,
            has_record_been_refused: false,
            keeps_custody: plan.keeps_custody,
            copies: (plan.application.as_ref()).map(|application| application.copies),
            replies: (plan.application.as_ref())
                .map_or(Replies::None, |application| application.replies),
            objects: Objects::new(plan),
            failures: Vec::new(),
        }
    }

    /// The first thing that was wrong.
    pub fn failure(&self) -> Option<&String> {
        self.failures.first()
    }

    /// Whether nothing can be said of a destination.
    pub(crate) fn is_void(&self, path: &str) -> bool {
        self.places[path].is_void
    }

    /// Whether something older than the server stands at a destination.
    pub(crate) fn places_old(&self, path: &str) -> bool {
        self.places
            .get(path)
            .is_some_and(|place| place.old.is_some())
    }

    /// Whether several uploads go to a destination.
    pub(crate) fn is_shared(&self, path: &str) -> bool {
        self.places[path].uploads.len() > 1
    }

    /// Sessions made.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Something is wrong.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    fn of_file(&mut self, name: &str) -> Option<(SessionId, &mut Session)> {
        let id = match names::parse_name(name) {
            WorkName::Part(id) => id,
            WorkName::Reply(id) => id,
            WorkName::Digest(_)
            | WorkName::Note(_)
            | WorkName::Aside(_)
            | WorkName::Journal { .. }
            | WorkName::Ours
            | WorkName::Misspelt
            | WorkName::OfFileSystem
            | WorkName::Foreign => {
                return None;
            }
        };
        self.sessions.get_mut(&id).map(|session| (id, session))
    }

    // What the disk saw.

    /// A write begins.
    pub fn writing(&mut self, inode: u64, name: &str, shard: usize, life: u64) {
        let count = self.writing.entry(inode).or_default();
        *count += 1;
        if *count > 1 {
            self.fail(format!("8: two writes at once to {name}"));
        }
        let writer = *self.writers.entry((life, name.to_owned())).or_insert(shard);
        if writer != shard {
            self.fail(format!(
                "8: {name} is written by shards {writer} and {shard}"
            ));
        }
    }

    /// A write ended.
    pub fn written(&mut self, inode: u64) {
        if let Some(count) = self.writing.get_mut(&inode) {
            *count -= 1;
        }
    }

    /// Bytes went into a part that was `length` long.
    pub fn wrote(&mut self, name: &str, length: u64, offset: u64, bytes: &[u8], now: u64) {
        let Some((_, session)) = self.of_file(name) else {
            return self.fail(format!("12: {name} is written and is no session's"));
        };
        session.progress_ms = now;
        let (upload, excuse) = (session.upload, session.excuse);
        let end = offset + bytes.len() as u64;
        if end > self.uploads[upload].size {
            self.fail(format!("2: {name} is written beyond its total, to {end}"));
        } else if self.uploads[upload].bytes(offset, end) != bytes {
            self.fail(format!("2: {name} gets wrong bytes at {offset}..{end}"));
        } else if offset != length && excuse.is_none() {
            self.fail(format!(
                "2: {name} is {length} long and written at {offset}"
            ));
        } else if end > self.sent[upload] {
            self.fail(format!(
                "1: {name} is written to {end}, sent were {}",
                self.sent[upload]
            ));
        }
    }

    /// The disk did something to a file for which its session may go.
    pub fn excuse_file(&mut self, name: &str, why: &'static str) {
        if let Some((_, session)) = self.of_file(name) {
            session.excuse = Some(why);
        }
    }

    /// A record of a session is damaged.
    pub fn record_is_damaged(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.excuse = Some("its record was damaged");
            session.is_record_damaged = true;
        }
    }

    /// Frames of a journal are damaged. A session whose size is not known may have had it there,
    /// and is put aside.
    pub fn records_are_damaged(&mut self) {
        self.has_damaged_journal = true;
        let sessions = self.sessions.values_mut();
        for session in sessions.filter(|session| session.floor == 0) {
            session.excuse.get_or_insert("its size may be damaged");
        }
    }

    /// A sync of a file failed.
    pub fn sync_failed(&mut self, name: &str, life: u64) {
        let is_reply = matches!(names::parse_name(name), WorkName::Reply(_));
        if let Some((_, session)) = self.of_file(name)
            && is_reply
        {
            // The application is asked for another one.
            session.told.may_hear_again = true;
        } else if let Some((_, session)) = self.of_file(name) {
            session.excuse = Some("a sync failed");
            session.sync_failed = Some(life);
        }
    }

    /// A sync of a folder failed; the next event says for whom, unless the server ends before it.
    pub fn folder_sync_failed(&mut self) {
        self.has_folder_sync_failed = true;
    }

    /// A sync of a journal failed.
    pub fn record_sync_failed(&mut self) {
        self.has_record_sync_failed = true;
    }

    /// A record could not be written, or no journal could be made for it.
    pub fn record_refused(&mut self) {
        self.has_record_been_refused = true;
    }

    /// A part got its destination.
    pub fn published(&mut self, name: &str, path: &str, disk: &SimDisk) {
        let (publish, copies) = (self.config.global().policy.publish, self.copies);
        let has_record_sync_failed = self.has_record_sync_failed;
        let Some((_, session)) = self.of_file(name) else {
            return self.fail(format!("12: {name} is published and is no session's"));
        };
        if session.path != path {
            let asked = session.path.clone();
            return self.fail(format!("12: {name} is published as {path}, not as {asked}"));
        }
        let is_wanted = copies.is_none_or(|copies| copies && session.told.accepted.is_some());
        if !is_wanted && session.excuse.is_none() {
            return self.fail(format!("3: {path} appears unasked"));
        }
        if publish == Publish::Close && session.closing_since.is_none() {
            return self.fail(format!("3: {path} appears before Close"));
        }
        // A Cancel does not take back a file that was there before it.
        let may_be_back = session.may_be_back(has_record_sync_failed);
        if session.is_cancelled && !session.outside.was_published && !may_be_back {
            return self.fail(format!("3: {path} appears after Cancel"));
        }
        session.has_lost_name = false;
        session.outside.is_published = true;
        session.outside.was_published = true;
        let upload = session.upload;
        let whole = self.uploads[upload].bytes(0, self.uploads[upload].size);
        if disk.destination(path) != Some(&whole) && !self.is_void_session(name) {
            self.fail(format!("3: {path} is published and not whole"));
        }
        self.check_tree(disk);
    }

    fn is_void_session(&mut self, name: &str) -> bool {
        self.of_file(name)
            .is_some_and(|(_, session)| session.excuse.is_some())
    }

    /// Every destination is absent, old, or whole.
    pub fn check_tree(&mut self, disk: &SimDisk) {
        let mut wrong = Vec::new();
        for (path, bytes) in disk.tree() {
            match self.places.get(&path) {
                None => wrong.push(format!("12: {path} was never asked for")),
                Some(place) if place.is_void => {}
                Some(place) => {
                    let is_old = place.old.as_deref() == Some(bytes);
                    let is_whole = place.uploads.iter().any(|&number| {
                        let upload = &self.uploads[number];
                        upload.size == bytes.len() as u64 && upload.bytes(0, upload.size) == bytes
                    });
                    if place.old.is_some()
                        && !is_old
                        && !self.config.global().policy.allow_overwrite
                    {
                        wrong.push(format!("3: {path} was not to be overwritten"));
                    } else if !is_old && !is_whole {
                        wrong.push(format!("3: {path} is partial, {} bytes", bytes.len()));
                    }
                }
            }
        }
        self.failures.extend(wrong);
    }

    /// A Close was acked: the file stands, unless others may have replaced it.
    fn check_closed(&mut self, disk: &SimDisk, when: &str) {
        let mut wrong = Vec::new();
        for (id, session) in &self.sessions {
            let is_promised = session.is_closed && session.is_sealed && self.copies != Some(false);
            if !is_promised || session.excuse.is_some() || self.places[&session.path].is_void {
                continue;
            }
            if self.is_stored(&session.path) {
                if !self.has_object(*id, disk) {
                    wrong.push(format!("20: the object of closed {id} is not there {when}"));
                }
                continue;
            }
            let upload = &self.uploads[session.upload];
            let standing = disk.destination(&session.path);
            let is_ours = standing == Some(&upload.bytes(0, upload.size));
            let may_be_others = self.config.global().policy.allow_overwrite
                && (standing.is_some() || self.is_named_anew(&session.path, *id));
            if !is_ours && !may_be_others {
                wrong.push(format!(
                    "4: {} of closed session {id} is gone {when}",
                    session.path
                ));
            }
        }
        self.failures.extend(wrong);
    }

    // What ended servers.

    /// A sync of the name of a file failed.
    pub fn name_lost(&mut self, path: &str) {
        for session in self.sessions.values_mut() {
            if session.path != path || !session.outside.is_published {
                continue;
            }
            session.has_lost_name = true;
            if session.has_crashed && !session.is_closed {
                // It may have been acked long ago, so a start leaves it where it is.
                session.excuse.get_or_insert("its name was lost at a start");
            }
        }
    }

    /// The process ended in order.
    pub fn stopped(&mut self, now: u64) {
        self.crashed(now);
    }

    /// The process was killed.
    pub fn killed(&mut self, disk: &SimDisk, now: u64) {
        self.crashed(now);
        self.check_tree(disk);
        self.check_closed(disk, "after a kill");
    }

    fn crashed(&mut self, now: u64) {
        let config = Rc::clone(&self.config);
        self.writing.clear();
        self.has_folder_sync_failed = false;
        self.has_record_been_refused = false;
        for session in self.sessions.values_mut() {
            session.has_crashed = true;
            if session.has_lost_name && !session.is_closed {
                // A start takes what it finds for a name that a sync can make durable.
                session.excuse.get_or_insert("ended when its name was lost");
            }
            if u128::from(now - session.progress_ms) + 130_000 >= session.timeout(&config) {
                session.excuse.get_or_insert("expired");
            }
        }
    }

    /// The power was cut.
    pub fn power_cut(&mut self, disk: &SimDisk, marks: &Marks, now: u64) {
        self.lost_power(disk, marks, now, |_| true);
    }

    /// A disk was not synced at a stop, and lost what it had not written; the others did not.
    pub fn disk_lost_power(&mut self, disk: &SimDisk, marks: &Marks, now: u64, shelf: Shelf) {
        self.lost_power(disk, marks, now, |path| disk::shelf_of(path) == shelf);
    }

    fn lost_power(
        &mut self,
        disk: &SimDisk,
        marks: &Marks,
        now: u64,
        is_hit: impl Fn(&str) -> bool,
    ) {
        self.crashed(now);
        let durability = self.config.global().policy.durability;
        let sessions = self.sessions.values_mut();
        for session in sessions.filter(|session| is_hit(&session.path)) {
            session.has_power_been_cut = true;
            if session.sync_failed.is_some() {
                // Killed between the failed sync and the note of it, it may go on, and nobody can
                // know any more.
                if let Some(place) = self.places.get_mut(&session.path) {
                    place.is_void = true;
                    marks.hit("phantom bytes taken by a power cut");
                }
            }
            match durability {
                Durability::None => {
                    session.excuse = Some("power cut, and nothing is synced");
                    if let Some(place) = self.places.get_mut(&session.path) {
                        place.is_void = true;
                    }
                }
                _ if session.is_sealed => {}
                Durability::Fragment if session.floor_acked > 0 => {
                    session.floor = session.floor_acked;
                }
                Durability::Fragment | Durability::Upload => {
                    session.floor = 0;
                    session.floor_acked = 0;
                    let unsynced = "power cut before anything was synced";
                    session.excuse.get_or_insert(unsynced);
                }
            }
        }
        self.unname(disk);
        self.check_tree(disk);
        self.check_closed(disk, "after a power cut");
    }

    /// All shards have read their sessions back.
    pub fn recovered(&mut self, shards: &[Rc<Shard<SimWorld>>], marks: &Marks) {
        let mut wrong = Vec::new();
        for (id, session) in &self.sessions {
            // A later upload to the same path hides that this one was published.
            let is_hidden = session.is_sealed
                && self.config.global().policy.publish == Publish::LastFragment
                && self.places[&session.path].uploads.len() > 1;
            let may_be_gone = session.excuse.is_some()
                || is_hidden
                || !session.is_created
                || session.closing_since.is_some()
                || session.cancelling_since.is_some();
            let shard = &shards[id.shard(shards.len())];
            let has_ended = shard.store.journal.tombstones().remembers(*id);
            let is_known = has_ended || shard.session(*id).is_some();
            if is_known && (session.is_closed || session.is_cancelled) {
                marks.hit("tombstone recovered");
            }
            if !may_be_gone && !is_known {
                wrong.push(format!("5: session {id} was forgotten by a restart"));
            }
        }
        self.failures.extend(wrong);
    }

    // What the server said.

    /// An event of the server.
    pub fn event(&mut self, event: &Event<'_>, sim: &Sim, life: u64) {
        let now = sim.executor.now();
        let hit = |mark| sim.marks.hit(mark);
        match *event {
            Event::SessionCreated {
                session,
                path,
                peer,
                ..
            } => {
                let upload = self.peers.get(&peer).copied();
                let Some(upload) = upload.filter(|&number| self.uploads[number].path == path)
                else {
                    return self.fail(format!("6: {peer} never asked for a session for {path}"));
                };
                let made = Session {
                    upload,
                    path: path.to_owned(),
                    is_created: false,
                    floor: 0,
                    floor_acked: 0,
                    is_sealed: false,
                    closing_since: None,
                    close_answered: None,
                    is_closed: false,
                    cancelling_since: None,
                    is_cancelled: false,
                    excuse: None,
                    sync_failed: None,
                    has_lost_name: false,
                    progress_ms: now,
                    has_crashed: false,
                    has_power_been_cut: false,
                    is_record_damaged: false,
                    told: Told::default(),
                    outside: Outside::default(),
                };
                self.sessions.insert(session, made);
            }
            Event::Refused {
                peer,
                why: Refusal::TooManyFailures { .. },
                ..
            } => {
                hit("made to wait for the next password");
                // Where passwords change, honest clients show former ones, from one address.
                let identities = sim.plan.identities.as_ref();
                let are_constant = identities.is_some_and(|identities| identities.change_ms == 0);
                if are_constant && peer.ip() != IpAddr::from(THIEF) {
                    self.fail(format!("16: {peer} has to wait for what others had wrong"));
                }
            }
            Event::SessionRecovered {
                session,
                received,
                truncated,
            } => {
                hit("session recovered");
                if truncated > 0 {
                    hit("power cut truncated");
                }
                let Some(known) = self.sessions.get(&session) else {
                    return;
                };
                let (floor, upload) = (known.floor, known.upload);
                let is_freed = self.can_be_full && known.is_given_up();
                if received < floor && known.excuse.is_none() && !is_freed {
                    self.fail(format!(
                        "5: {session} is back at {received}, acked was {floor}"
                    ));
                } else if received > self.sent[upload] {
                    self.fail(format!("1: {session} is back at {received}, sent was less"));
                }
            }
            Event::SessionEnded {
                session,
                ending,
                digests,
                ..
            } => {
                let sha256 = digests.map(|digests| digests.sha256);
                self.check_digest(session, sha256, ending == Ending::Published);
                self.ended(session, ending, sim);
            }
            Event::ReadAgain { session, bytes } => {
                sim.marks.hit("read again for a digest");
                self.check_read_again(session, bytes);
            }
            Event::DiskFailed {
                op: DiskOp::Record | DiskOp::Reply,
                session: Some(session),
                ..
            } => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.told.may_hear_again = true;
                }
            }
            Event::DiskFailed {
                op: DiskOp::SyncDirectory,
                session: Some(session),
                ..
            } if self.has_folder_sync_failed => {
                if let Some(known) = self.sessions.get_mut(&session) {
                    known.excuse = Some("a sync of a folder failed");
                    known.sync_failed = Some(life);
                }
            }
            _ => {}
        }
        crate::coverage::mark(event, &sim.marks);
    }

    fn ended(&mut self, id: SessionId, ending: Ending, sim: &Sim) {
        let config = Rc::clone(&self.config);
        let now = sim.executor.now();
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        // A slow disk tells of a file long after it was written.
        let slack = if sim.plan.faults.slow > 0 {
            130_000
        } else {
            2_000
        };
        let is_idle = u128::from(now - session.progress_ms) + slack >= session.timeout(&config);
        let had_excuse = session.excuse.is_some();
        let wrong = match ending {
            Ending::Published => {
                // What was published with its last fragment expires without a Close.
                let is_asked = session.closing_since.is_some();
                let with_last = self.config.global().policy.publish == Publish::LastFragment;
                if !is_asked && with_last && is_idle {
                    session.excuse.get_or_insert("expired");
                }
                !is_asked && !with_last
            }
            Ending::Delivered => session.closing_since.is_none() || session.told.accepted.is_none(),
            Ending::Denied => session.closing_since.is_none() || !session.told.is_heard,
            Ending::Incomplete => session.closing_since.is_none() || session.is_sealed,
            Ending::Cancelled => session.cancelling_since.is_none(),
            Ending::Expired => {
                session.excuse.get_or_insert("expired");
                !is_idle
            }
            Ending::Poisoned => {
                sim.marks.hit(match session.sync_failed {
                    Some(_) => "session poisoned by a sync",
                    None => "session poisoned by a write",
                });
                let is_right = session.excuse.is_some();
                session.excuse.get_or_insert("poisoned");
                !is_right
            }
        };
        if wrong && !had_excuse {
            self.fail(format!(
                "4: session {id} ended as {ending:?} without a reason"
            ));
        }
    }

    /// An answer leaves the server.
    pub fn answered(&mut self, bytes: &[u8], life: u64) {
        let text = String::from_utf8_lossy(bytes);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let id = field("BITS-Session-Id: ").and_then(|id| SessionId::parse(id.as_bytes()));
        if !text.starts_with("HTTP/1.1 200") {
            return;
        }
        if let Some(session) = id.and_then(|id| self.sessions.get(&id))
            && session.sync_failed == Some(life)
        {
            self.fail(format!(
                "4: session {id:?} is acked after a sync of it failed"
            ));
        }
    }

    // What clients did and heard.

    /// A client connects.
    pub fn connected(&mut self, peer: SocketAddr, upload: usize) {
        self.peers.insert(peer, upload);
    }

    /// Bytes of an upload are about to be sent.
    pub fn sends(&mut self, upload: usize, start: u64, end: u64) {
        // Several connections: what was sent beyond a gap counts once the gap is filled.
        let ranges = &mut self.ranges[upload];
        ranges.push((start, end));
        ranges.sort_unstable();
        let mut sent = self.sent[upload];
        for &(start, end) in ranges.iter() {
            if start <= sent {
                sent = sent.max(end);
            }
        }
        self.sent[upload] = sent;
        ranges.retain(|&(_, end)| end > sent);
    }

    /// Whether no other upload goes to the same place, and it was begun once.
    pub(crate) fn is_alone(&self, upload: usize) -> bool {
        let path = &self.uploads[upload].path;
        let sessions = self.sessions.values().filter(|it| it.path == *path);
        sessions.count() == 1
    }

    /// The highest offset heard for a session.
    pub fn floor(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.floor)
    }

    /// The Create Ack was heard.
    pub fn heard_created(&mut self, id: SessionId, upload: usize) {
        match self.sessions.get_mut(&id) {
            Some(session) if session.upload == upload => session.is_created = true,
            _ => self.fail(format!("12: {id} is not a session of upload {upload}")),
        }
    }

    /// A fragment was answered with an offset. `floor` is what was known when it was sent.
    pub fn heard_offset(
        &mut self,
        id: SessionId,
        received: u64,
        is_ack: bool,
        floor: u64,
        disk: &SimDisk,
        now: u64,
    ) {
        let timeout = self.config.global().policy.session_timeout.as_millis();
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.fail(format!("12: an offset of {id}, which was never made"));
        };
        let (upload, path) = (session.upload, session.path.clone());
        let (sent, size) = (self.sent[upload], self.uploads[upload].size);
        let excuse = session.excuse;
        let is_freed = self.can_be_full && session.is_given_up();
        if received < floor && excuse.is_none() && !is_freed {
            return self.fail(format!("1: {id} falls from {floor} to {received}"));
        }
        if received > sent {
            return self.fail(format!("1: {id} is told {received}, sent was {sent}"));
        }
        session.floor = session.floor.max(received);
        if !is_ack {
            return;
        }
        session.floor_acked = session.floor_acked.max(received);
        let is_final = received == size;
        session.is_sealed |= is_final;
        let is_over = session.closing_since.is_some()
            || session.cancelling_since.is_some()
            || u128::from(now - session.progress_ms) >= timeout;
        let (has_sync, is_last) = match self.config.global().policy.durability {
            Durability::None => (false, is_final),
            Durability::Upload => (is_final, is_final),
            Durability::Fragment => (true, is_final),
        };
        if is_over || excuse.is_some() {
            return;
        }
        let with_last = self.config.global().policy.publish == Publish::LastFragment
            && self.copies != Some(false);
        let is_published = is_last && with_last;
        let part = names::part_name(id);
        let whole = self.uploads[upload].bytes(0, received);
        let holds = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| bytes.starts_with(&whole));
        let live = disk.inode(&part).map(|inode| disk.read(inode));
        if !is_published && !holds(live) && !holds(disk.destination(&path)) {
            return self.fail(format!("2: {id} is acked to {received} and not there"));
        }
        let others = self.places[&path].uploads.len() > 1;
        if has_sync && !is_published && !holds(disk.durable_work(&part)) {
            let is_placed = with_last && holds(disk.durable_destination(&path));
            if !is_placed {
                self.fail(format!(
                    "4: {id} is acked to {received} and would not survive"
                ));
            }
        } else if has_sync && is_published && !others && !holds(disk.durable_destination(&path)) {
            self.fail(format!(
                "4: {path} is acked as published and would not survive"
            ));
        }
    }

    /// Close is about to be asked for.
    pub fn asks_close(&mut self, id: SessionId, now: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.closing_since.get_or_insert(now);
            session.close_answered = None;
        }
    }

    /// And was answered.
    pub fn heard_of_close(&mut self, id: SessionId, now: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.close_answered = Some(now);
        }
    }

    /// Close was answered with success.
    pub fn heard_closed(&mut self, id: SessionId, disk: &SimDisk, is_void_empty: bool) {
        let durability = self.config.global().policy.durability;
        let Some(session) = self.sessions.get_mut(&id) else {
            return self.fail(format!("12: a Close Ack of {id}, which was never made"));
        };
        if session.excuse.is_some() {
            return;
        }
        session.is_closed = true;
        let (upload, path, is_sealed) = (session.upload, session.path.clone(), session.is_sealed);
        if !is_sealed && !is_void_empty {
            return;
        }
        session.is_sealed = true;
        if self.copies == Some(false) {
            return;
        }
        if self.is_stored(&path) {
            if !self.has_object(id, disk) {
                self.fail(format!("20: {path} is closed, and its object is not there"));
            }
            return;
        }
        let upload = &self.uploads[upload];
        let whole = upload.bytes(0, upload.size);
        if self.places[&path].uploads.len() > 1 || self.places[&path].is_void {
            return;
        }
        if disk.destination(&path) != Some(&whole) {
            self.fail(format!("4: {path} is closed and not there"));
        } else if durability != Durability::None && disk.durable_destination(&path) != Some(&whole)
        {
            self.fail(format!(
                "4: {path} is closed and would not survive a power cut"
            ));
        }
    }

    /// Cancel is about to be asked for.
    pub fn asks_cancel(&mut self, id: SessionId, now: u64) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.cancelling_since.get_or_insert(now);
        }
    }

    /// Cancel was answered with success.
    pub fn heard_cancelled(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.is_cancelled = true;
        }
    }

    /// A packet about a session was answered with "session not found".
    pub fn heard_not_found(&mut self, id: SessionId, packet: &str, now: u64, marks: &Marks) {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get(&id) else {
            return self.fail(format!("12: {id} was never made"));
        };
        if session.excuse.is_none() && (session.is_closed || session.is_cancelled) {
            marks.hit("tombstone forgotten");
        }
        let is_old = |since: Option<u64>| {
            limits.tombstones_per_shard_max < 100
                || since.is_some_and(|since| now - since >= limits.tombstone_ms_max)
        };
        let is_right = session.excuse.is_some()
            || match packet {
                "Close-Session" => {
                    // After a power cut a published file is told by its inode, which a later upload
                    // hides.
                    let is_hidden =
                        session.has_crashed && self.places[&session.path].uploads.len() > 1;
                    // The record of one that ended without a file is not synced, as that of a
                    // Cancel: a power cut may lose it, and not the removal of the part.
                    let is_lost = session.has_power_been_cut && !session.is_sealed;
                    is_hidden
                        || is_lost
                        || session.cancelling_since.is_some()
                        || is_old(session.closing_since)
                }
                "Cancel-Session" => {
                    session.closing_since.is_some()
                        || is_old(session.cancelling_since)
                        || session.has_crashed
                }
                _ => session.closing_since.is_some() || session.cancelling_since.is_some(),
            };
        if !is_right {
            self.fail(format!("5: {packet} of {id} finds no session: {session:?}"));
        }
    }

    /// A Close that had been answered is put off when it is repeated: only where a power cut has
    /// taken back the end of a session that was given up before it was whole, where it was a
    /// promise and the line of the ledger cannot be written yet, and where a start cannot sync the
    /// folder of the file that it finds, or write and sync a journal: what it knows stands in those
    /// of the life before, and goes into its own first.
    pub fn heard_put_off(&mut self, id: SessionId, reply: &Reply) {
        if self.has_later_line(id) {
            return;
        }
        let does_disk_fail = self.has_folder_sync_failed
            || self.has_record_sync_failed
            || self.has_record_been_refused;
        let may_be = (self.sessions.get(&id)).is_some_and(|session| {
            session.excuse.is_some()
                || session.has_power_been_cut && !session.is_sealed
                || session.has_crashed && does_disk_fail
        });
        if !may_be {
            self.fail(format!("4: a repeated Close is answered by {reply:?}"));
        }
    }

    /// Whether a destination may be refused because something stands there.
    pub fn heard_taken(&mut self, path: &str, disk: &SimDisk) {
        let may_be = |place: &Place| place.is_void;
        if self.is_stored(path) && self.may_be_taken(path) {
            return;
        }
        // A file may lose its name with the sync of its folder. It is given it anew.
        let is_being_named = self.has_folder_sync_failed
            && (self.sessions.values()).any(|session| {
                let is_to_have_one = session.closing_since.is_some() || session.has_lost_name;
                session.path == path && is_to_have_one && !session.is_closed
            });
        if is_being_named {
            return;
        }
        if disk.destination(path).is_none() && !self.places.get(path).is_some_and(may_be) {
            self.fail(format!("3: {path} is refused as taken, and is free"));
        }
    }
}

impl Judge {
    /// A session of another path.
    pub fn stranger(&self, own: SessionId, path: &str) -> Option<SessionId> {
        (self.sessions.iter())
            .find(|(id, session)| **id != own && session.path != path)
            .map(|(id, _)| *id)
    }
}
