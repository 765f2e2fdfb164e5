//! Start-up: reads the work directory, restores the sessions, and begins the shard's own journal.
//!
//! Each shard is dealt what the journals of all shards that were say of the sessions whose ids are
//! its own ([`super::readback`]). What becomes of each is decided in [`super::verdict`]; here that
//! is done. The first shard also deals with what is nobody's. Then it begins a journal of its own
//! with what it found. When all shards have done so, the old journals are outdated ([`retire`]).
//! Every step can be cut by a crash and done again.

mod aside;
mod listing;
mod missing;
mod named;
mod part;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use super::destination::{self, NO_ROOT};
use super::disk::{Disk, File as _, Place, ReplyStat, Shelf, WorkStat};
use super::journal::Kept;
use super::keep::Keep;
use super::names::{self, NamesOf, WorkName};
use super::owed::{EventTargets, Owed};
use super::readback::{Damaged, Dealt, Newest};
use super::record::Record;
use super::store::Store;
use super::verdict::{self, Destination, Evidence, IN_THE_DAMAGE, Verdict};
use crate::bits::session::{Ending, Reply, State};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Location, Publish};
use crate::event::{DiskOp, Event};
use crate::http::path::UploadPath;
use aside::{set_aside, try_to_set_aside};
use listing::{Listed, NAMES_PER_TURN, list};
use missing::Missing;
use named::is_published;

/// Parts that are looked at together. Their sessions are a millisecond of work for the shard.
const PARTS_PER_TURN: usize = 128;

/// Whose sessions are restored, and under which settings.
pub struct Owner<'a> {
    /// The names of their files, and perhaps of what is nobody's.
    pub wanted: NamesOf,
    /// The settings of a path.
    pub location: &'a dyn Fn(&UploadPath) -> Rc<Location>,
    /// Whether events of a location are owed to anybody.
    pub owes: &'a dyn Fn(&Location) -> bool,
}

/// A session that goes on.
pub struct Restored {
    /// Its files.
    pub keep: Keep,
    /// Its destination.
    pub path: UploadPath,
    /// Time since its last progress.
    pub age_ms: u64,
    /// What its part holds beyond that progress.
    pub reserved: u64,
}

/// What a shard found.
pub struct Found {
    /// The sessions that go on.
    pub sessions: Vec<Restored>,
    /// Whether the shard has a journal of its own now, and does not need the old ones any more. If
    /// not, it is tried again with the first record to be written.
    pub begun: io::Result<()>,
    /// Old journals of which not everything could be read.
    pub damaged: Arc<[Damaged]>,
}

/// Restores a shard's sessions. `generation` is that of the journals of this start.
///
/// # Errors
/// Of reading the work directory; all others cost only their session.
pub async fn recover<D: Disk>(
    store: &Store<D>,
    owner: &Owner<'_>,
    generation: u64,
    dealt: Dealt,
) -> io::Result<Found> {
    let Dealt {
        mut told,
        order,
        damaged,
        is_stop_believed,
    } = dealt;
    let Listed {
        parts,
        replies,
        asides,
    } = list(&*store.disk, owner).await?;
    let is_damaged = !damaged.is_empty();
    let is_unknown = |id: &&SessionId| is_damaged && !told.contains_key(id);
    let unknown = replies.keys().filter(is_unknown).copied().collect();
    let mut recovery = Recovery {
        store,
        owner,
        is_damaged,
        is_stop_believed,
        replies,
        asides,
        unknown,
        sessions: Vec::new(),
        orphans: (0, 0),
        missing: Missing::default(),
    };
    let parts: Vec<_> = parts.into_iter().collect();
    for some in parts.chunks(PARTS_PER_TURN) {
        recovery.with_parts(some, &mut told).await?;
    }
    // In the order in which they ended: of those that are too many to remember, the first ones go.
    for (number, id) in order.into_iter().enumerate() {
        if number % NAMES_PER_TURN == 0 {
            store.disk.give_way().await;
        }
        if let Some(told) = told.remove(&id) {
            recovery.without_part(id, told).await;
        }
    }
    recovery.remove_replies().await;
    if let (parts @ 1.., bytes) = recovery.orphans {
        store.disk.emit(Event::Orphaned { parts, bytes });
    }
    recovery.missing.tell(&*store.disk);
    let sessions = recovery.sessions;
    let begun = store.journal.begin(&*store.disk, generation).await;
    Ok(Found {
        sessions,
        begun,
        damaged,
    })
}

/// Removes the journals of former starts; damaged ones are kept for a person to look at. Every
/// shard has its own now. What cannot be removed is left for the next start.
pub async fn retire<D: Disk>(disk: &D, generation: u64, damaged: &[Damaged]) {
    let mut left = Vec::new();
    for Damaged { name, why } in damaged {
        if !try_to_set_aside(disk, Shelf::WORK, name, why).await {
            left.push(name);
        }
    }
    if let Err(error) = remove_journals(disk, generation, &left).await {
        report(disk, None, DiskOp::Remove, &error);
    }
}

/// Tells what the disk refused.
fn report<D: Disk>(disk: &D, session: Option<SessionId>, op: DiskOp, error: &io::Error) {
    disk.emit(Event::DiskFailed { op, session, error });
}

async fn remove_journals<D: Disk>(disk: &D, generation: u64, left: &[&String]) -> io::Result<()> {
    for name in disk.list(Shelf::WORK, NamesOf::Journals).await? {
        if let WorkName::Journal { generation: of } = names::parse_name(&name)
            && of < generation
            && !left.contains(&&name)
        {
            disk.remove(Shelf::WORK, &name).await?;
        }
    }
    Ok(())
}

/// The sessions of a shard, one after the other.
struct Recovery<'a, D: Disk> {
    store: &'a Store<D>,
    owner: &'a Owner<'a>,
    /// Of some journal not everything could be read.
    is_damaged: bool,
    /// The last clean stop vouches for records of its boot.
    is_stop_believed: bool,
    /// Replies that no session was found for so far.
    replies: BTreeMap<SessionId, Shelf>,
    /// Sessions of which a former start has set a part aside.
    asides: BTreeSet<SessionId>,
    /// Those replies whose session may be in the damage.
    unknown: BTreeSet<SessionId>,
    sessions: Vec<Restored>,
    /// Parts without a record that held bytes, and these bytes.
    orphans: (u64, u64),
    missing: Missing,
}

/// One session of which a record is there.
struct Case {
    id: SessionId,
    /// Where its files are, or would be.
    shelf: Shelf,
    record: Record,
    sequence: u64,
    part: Option<WorkStat>,
}

impl<D: Disk> Recovery<'_, D> {
    /// No part stands, and this is told.
    async fn without_part(&mut self, id: SessionId, told: Newest) {
        let store = self.store;
        let disk = &*store.disk;
        let (sequence, record) = match told {
            Newest::Record {
                sequence, record, ..
            } => (sequence, *record),
            Newest::Tombstone(tombstone, _) => {
                return store.journal.bury(id, tombstone, disk.now());
            }
            Newest::Unknown { .. } => return,
        };
        let shelf = self.replies.get(&id).copied();
        let has_ended = matches!(record.state, State::Gone(_) | State::Published { .. });
        let case = Case {
            id,
            shelf: shelf.unwrap_or_else(|| self.shelf_of(&record)),
            record,
            sequence,
            part: None,
        };
        let may_be_away = disk.misses_a_shelf() && !has_ended && !self.was_set_aside(&case);
        if may_be_away && !self.has_its_name(&case).await {
            return self.leave_waiting(case);
        }
        self.settle(case).await;
    }

    /// Whether the file of a session stands at its destination, by its inode and its size: its part
    /// is not where a shelf is missing. One that was taken away since cannot be told from one whose
    /// part is there.
    async fn has_its_name(&self, case: &Case) -> bool {
        let (record, disk) = (&case.record, &*self.store.disk);
        let is_whole = matches!(
            record.state,
            State::Sealed { .. } | State::Notified { .. } | State::Closing { .. }
        );
        let location = (self.owner.location)(&record.path);
        let (true, Some(place)) = (is_whole, self.place_of(case, &location)) else {
            return false;
        };
        if location.objects.is_some() && !case.is_named() {
            return false;
        }
        if disk.is_away(&place) {
            return false;
        }
        let is_it =
            |stat: &ReplyStat| stat.inode == record.inode && stat.bytes == record.state.received();
        let opened = disk.open_published(&place).await;
        matches!(opened, Ok(Some((_, stat))) if is_it(&stat))
    }

    /// Does with a session what the verdict says.
    async fn settle(&mut self, mut case: Case) {
        let store = self.store;
        let disk = &*store.disk;
        let name = names::part_name(case.id);
        let location = (self.owner.location)(&case.record.path);
        let place = self.place_of(&case, &location);
        let verdict = self.judge(&case, &location, place.as_ref()).await;
        if let (Some(place), None) = (&place, &location.objects)
            && case.has_found_its_name(verdict)
        {
            let found = destination::recorded(disk, &location, place);
            case.record.life.place = Some(Arc::new(found));
        }
        if case.part.is_none() && (self.owner.owes)(&location) {
            owe(&mut case.record, verdict, disk.wall_clock_ms());
        }
        match verdict {
            Verdict::GoOn(state) => {
                if let State::Published { .. } = state
                    && case.part.take().is_some()
                {
                    self.remove(case.id, case.shelf, &name).await;
                }
                self.go_on(case, state, 0);
            }
            Verdict::Cut(state) => {
                let bytes = case.part.map_or(0, |part| part.bytes);
                let truncated = bytes.saturating_sub(state.received());
                match self.cut(&case, state.received(), truncated).await {
                    Ok(()) => self.go_on(case, state, truncated),
                    Err(error) => self.leave(case, DiskOp::Truncate, &error),
                }
            }
            Verdict::Sync(state) => {
                let Some(place) = place else {
                    return;
                };
                match disk.sync_destination(&place).await {
                    // It is tried again when all are read back, and later.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let closing = case.record.state;
                        self.report(case.id, DiskOp::SyncDestination, &error);
                        self.go_on(case, closing, 0);
                    }
                    // Also where it was taken away, with its folder.
                    _ => self.go_on(case, state, 0),
                }
            }
            Verdict::Ended(ending) => {
                if case.part.is_some() {
                    self.remove(case.id, case.shelf, &name).await;
                }
                self.go_on(case, State::Gone(ending), 0);
            }
            Verdict::Forget | Verdict::LookUp => match case.part {
                Some(_) => self.remove(case.id, case.shelf, &name).await,
                None => self.miss(&case),
            },
            Verdict::SetAside(why) => {
                if location.objects.is_some() {
                    self.name_staged(&case, true);
                }
                set_aside(disk, case.shelf, &name, why).await;
            }
        }
    }

    async fn judge(&self, case: &Case, location: &Location, place: Option<&Place>) -> Verdict {
        let store = self.store;
        let disk = &*store.disk;
        let mut evidence = Evidence {
            record: &case.record,
            may_be_outdated: self.is_damaged,
            part: case.part.map(|part| part.bytes),
            was_set_aside: self.was_set_aside(case),
            survived: self.survived(&case.record, Some(case.shelf)),
            destination: match place {
                Some(_) if location.objects.is_some() && !case.is_named() => Destination::Store,
                Some(_) => Destination::Unseen,
                None => Destination::Nowhere,
            },
            is_synced: location.policy.durability != Durability::None,
            was_stopped_cleanly: self.stop_vouches(
                &case.record,
                // On which disk it is that no root leads to is not known.
                (place.is_none_or(|place| place.root != NO_ROOT)).then_some(case.shelf),
            ),
            is_named_early: location.policy.publish == Publish::LastFragment,
        };
        let verdict = verdict::judge(&evidence);
        let (Verdict::LookUp, Some(place)) = (verdict, place) else {
            return verdict;
        };
        let standing = disk.look_up(place, None).await;
        evidence.destination = Destination::Seen(standing.ok());
        verdict::judge(&evidence)
    }

    /// Whether everything that was written in the boot of a record is still there: in the journals
    /// and on this shelf; `None`: wherever it is.
    fn survived(&self, record: &Record, shelf: Option<Shelf>) -> bool {
        record.boot_id == self.store.disk.boot_id() || self.stop_vouches(record, shelf)
    }

    /// Whether a clean stop has synced what was done in the boot of a record. A start takes back
    /// what a stop says of its own boot, so nothing was done in it since.
    fn stop_vouches(&self, record: &Record, shelf: Option<Shelf>) -> bool {
        let disk = &*self.store.disk;
        self.is_stop_believed && disk.was_stopped_cleanly(record.boot_id, shelf)
    }

    fn should_be_there(&self, case: &Case) -> bool {
        missing::should_be_there(&case.record, self.survived(&case.record, Some(case.shelf)))
    }

    /// Whether a start that did not come to its end has set the part of a session aside: it told
    /// of it, and the journals that would say so were not all there yet.
    fn was_set_aside(&self, case: &Case) -> bool {
        case.part.is_none() && self.asides.contains(&case.id)
    }

    /// Nobody can go on with a session whose part is gone.
    fn miss(&mut self, case: &Case) {
        // In the damage may stand that it ended.
        if !self.is_damaged && !self.was_set_aside(case) && self.should_be_there(case) {
            self.count_missing(case);
        }
    }

    /// Makes the part as long as the session has come.
    async fn cut(&self, case: &Case, received: u64, truncated: u64) -> io::Result<()> {
        if truncated == 0 {
            return Ok(());
        }
        let name = names::part_name(case.id);
        let file = self.store.disk.open(case.shelf, &name).await?;
        file.truncate(received).await
    }

    fn go_on(&mut self, case: Case, state: State, truncated: u64) {
        let store = self.store;
        let disk = &*store.disk;
        let (path, part) = (case.record.path.clone(), case.part);
        let (boot_id, is_as_left) = (
            disk.boot_id(),
            self.survived(&case.record, Some(case.shelf)),
        );
        let mut keep = Keep::resume(case.id, case.shelf, case.record, case.sequence, boot_id);
        if let State::Gone(ending) = state {
            if keep.record().owed.is_some() {
                keep.remember(store, state);
            }
            let tombstone = keep.tombstone(ending);
            return store.journal.bury(case.id, tombstone, disk.now());
        }
        if truncated > 0 || !is_as_left {
            // That was done to it here, or by a power cut.
            keep.set_left(None);
        }
        keep.note_found(state, part.is_some());
        keep.remember(store, state);
        if state.reply() == Reply::File {
            self.replies.remove(&case.id);
        }
        let received = state.received();
        if part.is_some() {
            disk.emit(Event::SessionRecovered {
                session: case.id,
                received,
                truncated,
            });
        }
        self.sessions.push(Restored {
            keep,
            path,
            age_ms: part.map_or(0, |part| part.age_ms),
            reserved: part.map_or(0, |part| part.occupied.saturating_sub(received)),
        });
    }

    /// The disk fails now: the session is left for the next start, with its reply, and its client
    /// waits for that.
    fn leave(&mut self, case: Case, op: DiskOp, error: &io::Error) {
        self.report(case.id, op, error);
        self.replies.remove(&case.id);
        let kept = self.as_found(case.record, case.sequence);
        self.store.journal.leave(case.id, kept);
    }

    /// The record of a session that the next start finds as this one did. What was believed of it
    /// is as whole in this boot, and the note of a clean stop may be gone then. Where its files are
    /// may be known only then.
    fn as_found(&self, mut record: Record, sequence: u64) -> Rc<Kept> {
        if self.survived(&record, None) {
            record.boot_id = self.store.disk.boot_id();
        }
        Kept::new(record, sequence)
    }

    /// Removes replies of which nobody was told, or whose session is over.
    async fn remove_replies(&mut self) {
        for (id, shelf) in std::mem::take(&mut self.replies) {
            let name = names::reply_name(id);
            match self.unknown.contains(&id) {
                true => set_aside(&*self.store.disk, shelf, &name, IN_THE_DAMAGE).await,
                // Not tried again: its session may go on, and have another one.
                false => {
                    if let Err(error) = self.store.disk.remove(shelf, &name).await {
                        self.report(id, DiskOp::Remove, &error);
                    }
                }
            }
        }
    }

    async fn remove(&self, id: SessionId, shelf: Shelf, name: &str) {
        if let Err(error) = self.store.remove(shelf, name).await {
            self.report(id, DiskOp::Remove, &error);
        }
    }

    fn report(&self, id: SessionId, op: DiskOp, error: &io::Error) {
        report(&*self.store.disk, Some(id), op, error);
    }
}

/// A file got its name, and a power cut took back the record that owed for it.
fn owe(record: &mut Record, verdict: Verdict, at_ms: u64) {
    let is_taken_back = matches!(record.state, State::Sealed { .. } | State::Notified { .. });
    if is_taken_back && is_published(verdict) {
        record.owed = Some(Box::new(Owed {
            ending: Ending::Published,
            at_ms,
            bytes: record.state.received(),
            told: EventTargets::NONE,
        }));
    }
}
