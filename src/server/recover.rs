//! Start-up: reads the work directory, restores the sessions, finishes what was begun.
//!
//! Each shard is dealt what the journals of all shards that were say of the sessions whose ids are
//! its own ([`crate::vault::readback`]), and restores those; shard 0 also deals with what is
//! nobody's. Then it begins a journal of its own with what it found. When all shards have done so,
//! the old journals are outdated ([`retire`]). Every step can be cut by a crash and done again.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use super::clients::Client;
use super::floor::World;
use super::held::Held;
use super::session::Session;
use super::shard::{self, Shard};
use crate::bits::session::{AfterPublish, Ending, Reply, State};
use crate::bits::session_id::SessionId;
use crate::config::{Durability, Location};
use crate::event::{DiskOp, Event};
use crate::planted::{self, Bug};
use crate::vault::disk::{File, Shelf, Standing, WorkStat};
use crate::vault::journal::Kept;
use crate::vault::keep::Keep;
use crate::vault::names::{self, ASIDE_SUFFIX, WorkName};
use crate::vault::readback::{Damaged, Dealt, Told};
use crate::vault::record::Record;

/// So many sessions are entered in one go.
const SESSIONS_PER_TURN: usize = 512;
/// Why the bytes of a session are put aside.
const IN_THE_DAMAGE: &str = "its record may be in the damaged part of a journal";

/// What a shard found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// It has a journal of its own now, and does not need the old ones any more. If not, the disk
    /// refused; it is tried again with the first record to be written.
    pub is_renewed: bool,
    /// Old journals of which not everything could be read.
    pub damaged: Arc<[Damaged]>,
}

/// Restores this shard's sessions. `generation` is that of the journals of this start.
///
/// # Errors
/// Of reading the work directory; all others cost only their session.
pub async fn recover<W: World>(
    shard: &Rc<Shard<W>>,
    generation: u64,
    dealt: Dealt,
) -> io::Result<Recovered> {
    let began = shard.world.now();
    let Listed { parts, mut replies } = list(shard).await?;
    let Dealt { mut told, damaged } = dealt;
    let mut ended = Vec::new();
    let mut sessions = Vec::new();
    for (id, shelf) in &parts {
        match told.remove(id) {
            Some(Told::Tombstone(tombstone)) => {
                remove(shard, *id, *shelf, &names::part_name(*id)).await;
                ended.push((*id, tombstone));
            }
            // What it became may stand in the damage: with its size lost, a file that came whole
            // and was cut after a power cut would be taken for an empty one at Close-Session.
            Some(told)
                if !damaged.is_empty()
                    && (told.boot_without_size())
                        .is_some_and(|boot_id| !shard.world.survived(boot_id)) =>
            {
                set_aside(shard, *shelf, &names::part_name(*id), IN_THE_DAMAGE).await;
            }
            Some(told) => sessions.extend(restore(shard, *id, *shelf, told).await),
            None if !damaged.is_empty() => {
                set_aside(shard, *shelf, &names::part_name(*id), IN_THE_DAMAGE).await;
            }
            // Its record was lost with the power: the client hears session-not-found.
            None => remove(shard, *id, *shelf, &names::part_name(*id)).await,
        }
    }
    for (id, told) in told {
        if let Told::Tombstone(tombstone) = told {
            ended.push((id, tombstone));
        } else if let Told::Record { sequence, record } = told {
            let record = *record;
            let found = Found {
                shard,
                id,
                shelf: (replies.get(&id).copied()).unwrap_or_else(|| shelf_of(shard, &record)),
                record,
                sequence,
            };
            let has_ended = matches!(found.record.state, State::Gone(_) | State::Published { .. });
            if shard.world.misses_a_shelf() && !has_ended {
                let error = io::Error::new(io::ErrorKind::NotFound, "its folder is not there");
                sessions.extend(found.leave(DiskOp::Open, &error));
                continue;
            }
            sessions.extend(found.without_part().await);
        }
    }
    for restored in &sessions {
        if restored.state.reply() == Reply::File {
            replies.remove(&restored.keep.id());
        }
    }
    for (id, shelf) in replies {
        // Nobody was told of it, or its session is over. One whose record could not be read now
        // comes back with that.
        if !shard.store.journal.remembers(id) && !planted::is(Bug::ReplyKept) {
            remove(shard, id, shelf, &names::reply_name(id)).await;
        }
    }
    for (id, tombstone) in ended {
        let now = shard.world.now();
        shard.store.journal.bury(id, tombstone, now);
    }
    let is_renewed = enter(shard, sessions, generation, began).await;
    Ok(Recovered {
        is_renewed,
        damaged,
    })
}

/// Removes the journals of former starts; damaged ones are kept for a person to look at. Every
/// shard has its own now. What cannot be removed is left for the next start.
pub async fn retire<W: World>(shard: &Shard<W>, generation: u64, damaged: &[Damaged]) {
    for Damaged { name, why } in damaged {
        set_aside(shard, Shelf::WORK, name, why).await;
    }
    if let Err(error) = remove_journals(&*shard.world, generation).await {
        shard.world.emit(Event::DiskFailed {
            op: DiskOp::Remove,
            session: None,
            error: &error,
        });
    }
}

async fn remove_journals<W: World>(world: &W, generation: u64) -> io::Result<()> {
    for name in world.list(Shelf::WORK).await? {
        if let WorkName::Journal { generation: of } = names::parse_name(&name)
            && of < generation
        {
            world.remove(Shelf::WORK, &name).await?;
        }
    }
    Ok(())
}

/// What stands on the shelves.
#[derive(Default)]
struct Listed {
    /// Parts of this shard's sessions, and where they are: the settings may have moved their
    /// location meanwhile.
    parts: BTreeMap<SessionId, Shelf>,
    /// Replies to them, and where they are.
    replies: BTreeMap<SessionId, Shelf>,
}

async fn list<W: World>(shard: &Shard<W>) -> io::Result<Listed> {
    let mut listed = Listed::default();
    for shelf in shard.world.shelves() {
        for name in shard.world.list(shelf).await? {
            let (ids, id) = match names::parse_name(&name) {
                WorkName::Part(id) => (&mut listed.parts, id),
                WorkName::Reply(id) => (&mut listed.replies, id),
                WorkName::Foreign if shard.index == 0 => {
                    set_aside(shard, shelf, &name, "not a name that this server makes").await;
                    continue;
                }
                WorkName::Journal { .. } | WorkName::Ours | WorkName::Foreign => continue,
            };
            if id.shard(shard.count) == shard.index
                && let Some(other) = ids.insert(id, shelf)
            {
                // Somebody has copied it. The first one is the one that stays.
                ids.insert(id, other);
                set_aside(shard, shelf, &name, "it stands on another shelf too").await;
            }
        }
    }
    Ok(listed)
}

/// Where the files of a session would be.
fn shelf_of<W: World>(shard: &Shard<W>, record: &Record) -> Shelf {
    let place = shard::place(&shard.location(&record.path), &record.path);
    place.map_or(Shelf::WORK, |place| shard.world.shelf(&place))
}

/// A session as it will go on.
struct Restored {
    keep: Keep,
    /// As it is recorded; the length of the part tells the progress.
    recorded: State,
    state: State,
    age_ms: u64,
    /// What its part holds beyond that progress.
    reserved: u64,
    path: crate::http::path::UploadPath,
}

/// Restores one session whose part stands, or removes what is left of it.
async fn restore<W: World>(
    shard: &Rc<Shard<W>>,
    id: SessionId,
    shelf: Shelf,
    told: Told,
) -> Option<Restored> {
    let Told::Record { sequence, record } = told else {
        let why = "its record is one that this version does not understand";
        set_aside(shard, shelf, &names::part_name(id), why).await;
        return None;
    };
    let found = Found {
        shard,
        id,
        shelf,
        record: *record,
        sequence,
    };
    if found.has_lost_its_reply() {
        remove(shard, id, shelf, &names::part_name(id)).await;
        return None;
    }
    let part = match shard.world.stat(shelf, &names::part_name(id)).await {
        Ok(part) => part,
        Err(error) => return found.leave(DiskOp::Read, &error),
    };
    let Some(part) = part else {
        return found.without_part().await;
    };
    match found.record.state {
        // A discard that was cut short.
        State::Gone(_) => {
            remove(shard, id, shelf, &names::part_name(id)).await;
            let state = found.record.state;
            Some(found.go_on(state, part.age_ms))
        }
        // Published and yet here: the record is not of this part.
        State::Published { .. } => {
            remove(shard, id, shelf, &names::part_name(id)).await;
            None
        }
        _ => {
            let boot_id = found.record.boot_id;
            let is_whole = shard.world.survived(boot_id) || planted::is(Bug::LengthTrusted);
            let mut restored = match is_whole {
                true => found.whole(part).await,
                false => found.after_power_cut(part).await,
            }?;
            restored.reserved = part.held.saturating_sub(restored.state.received());
            Some(restored)
        }
    }
}

/// A session's record, and where it was found.
struct Found<'a, W: World> {
    shard: &'a Rc<Shard<W>>,
    id: SessionId,
    /// Where its files are, or would be.
    shelf: Shelf,
    record: Record,
    sequence: u64,
}

impl<W: World> Found<'_, W> {
    /// The page cache survived: the length of the part is the progress.
    async fn whole(self, part: WorkStat) -> Option<Restored> {
        match self.record.state {
            State::Receiving { total: None, .. } if planted::is(Bug::SizelessTrusted) => {
                self.cut(part, 0).await
            }
            State::Receiving { total: None, .. } if part.bytes > 0 => {
                self.distrust("longer than its record allows").await
            }
            State::Receiving {
                total: Some(total), ..
            } if part.bytes > total => self.distrust("longer than its record allows").await,
            State::Receiving { total, .. } => {
                let received = part.bytes;
                self.told(received, 0);
                Some(self.go_on(State::Receiving { received, total }, part.age_ms))
            }
            State::Sealed { total } | State::Closing { total, .. } if part.bytes != total => {
                self.distrust("not as long as its record says").await
            }
            state => {
                self.told(part.bytes, 0);
                Some(self.go_on(state, part.age_ms))
            }
        }
    }

    /// Only what was synced can be trusted.
    async fn after_power_cut(self, part: WorkStat) -> Option<Restored> {
        let durable = self.record.durable;
        let state = self.record.state;
        if let State::Receiving { total, .. } = state {
            return match part.bytes {
                bytes if bytes < durable => self.distrust("shorter than what was synced").await,
                // The record of its size is lost, and the bytes with it; an empty file must not
                // take their place.
                bytes if bytes > 0 && total.is_none() => {
                    remove(self.shard, self.id, self.shelf, &names::part_name(self.id)).await;
                    None
                }
                _ => self.cut(part, durable).await,
            };
        }
        if durable == state.received() && part.bytes == durable {
            self.told(durable, 0);
            return Some(self.go_on(state, part.age_ms));
        }
        // `durability = "none"`: nobody knows what the part holds, so the client starts again.
        remove(self.shard, self.id, self.shelf, &names::part_name(self.id)).await;
        None
    }

    /// A receiving session goes on from `received`: the bytes after it are not safe, or nobody has
    /// heard of them.
    async fn cut(self, part: WorkStat, received: u64) -> Option<Restored> {
        let truncated = part.bytes - received;
        if truncated > 0 {
            let cut = match (self.shard.world)
                .open(self.shelf, &names::part_name(self.id))
                .await
            {
                Ok(file) => file.truncate(received).await,
                Err(error) => Err(error),
            };
            if let Err(error) = cut {
                return self.leave(DiskOp::Truncate, &error);
            }
        }
        let State::Receiving { total, .. } = self.record.state else {
            return None;
        };
        self.told(received, truncated);
        Some(self.go_on(State::Receiving { received, total }, part.age_ms))
    }

    /// Whether the client was promised a reply that a power cut may have torn (`durability =
    /// "none"`).
    fn has_lost_its_reply(&self) -> bool {
        let is_safe = (self.record.answer.as_ref()).is_some_and(|answer| answer.is_safe)
            || planted::is(Bug::ReplyUnsynced);
        let survived = self.shard.world.survived(self.record.boot_id);
        self.record.state.reply() == Reply::File && !is_safe && !survived
    }

    /// The part is gone: it was published, or the session ended.
    async fn without_part(self) -> Option<Restored> {
        let shard = self.shard;
        if self.has_lost_its_reply() {
            return None;
        }
        let location = shard.location(&self.record.path);
        let is_synced = location.policy.durability != Durability::None;
        // None if new settings have made it a folder.
        let place = shard::place(&location, &self.record.path)?;
        if let State::Closing { .. } = self.record.state
            && is_synced
            && !planted::is(Bug::RenameTrusted)
            && shard.world.survived(self.record.boot_id)
            && let Err(error) = shard.world.sync_destination(&place).await
        {
            // The rename may be in memory only, and nobody can say more: the client starts again.
            report(shard, self.id, DiskOp::SyncDirectory, &error);
            return None;
        }
        let state = match self.record.state {
            state @ (State::Gone(_) | State::Published { .. }) => state,
            // Only the rename takes a part away in this state.
            State::Closing {
                then: AfterPublish::End,
                ..
            } => State::Gone(Ending::Published),
            State::Closing {
                total,
                then: AfterPublish::AwaitClose,
                told,
            } => State::Published {
                total,
                reply: told.unwrap_or(Reply::None),
            },
            // An application that takes a file by reference may take it away.
            state @ State::Notified { copies: false, .. } => {
                let is_safe = self.record.durable == state.received();
                if !is_safe && !shard.world.survived(self.record.boot_id) {
                    return None;
                }
                state
            }
            State::Sealed { total }
            | State::Notified {
                total,
                copies: true,
                ..
            } => match shard.world.look_up(&place, None).await {
                // A power cut took the record back; the inode survives the rename.
                Ok(Standing::File { inode })
                    if inode == self.record.inode && !planted::is(Bug::PublishedForgotten) =>
                {
                    match shard::rules(&location).publish_with_last_fragment {
                        true => State::Published {
                            total,
                            reply: self.record.state.reply(),
                        },
                        false => State::Gone(Ending::Published),
                    }
                }
                _ => return None,
            },
            State::Receiving { .. } | State::Denied { .. } => return None,
        };
        Some(self.go_on(state, 0))
    }

    fn go_on(self, state: State, age_ms: u64) -> Restored {
        let recorded = match state {
            State::Receiving { total, .. } => State::Receiving { received: 0, total },
            other => other,
        };
        let boot_id = self.shard.world.boot_id();
        let path = self.record.path.clone();
        Restored {
            keep: Keep::resume(self.id, self.shelf, self.record, self.sequence, boot_id),
            recorded,
            state,
            age_ms,
            reserved: 0,
            path,
        }
    }

    /// The disk fails now: the session is left for the next start.
    fn leave(self, op: DiskOp, error: &io::Error) -> Option<Restored> {
        report(self.shard, self.id, op, error);
        let kept = Kept::new(self.record, self.sequence);
        self.shard.store.journal.remember(self.id, kept);
        None
    }

    fn told(&self, received: u64, truncated: u64) {
        self.shard.world.emit(Event::SessionRecovered {
            session: self.id,
            received,
            truncated,
        });
    }

    /// A part that its record does not describe: it is kept for a person to look at, and the
    /// session is forgotten.
    async fn distrust(self, why: &str) -> Option<Restored> {
        set_aside(self.shard, self.shelf, &names::part_name(self.id), why).await;
        None
    }
}

/// Begins the new journal, makes the sessions known again, and finishes publications that were cut
/// short; `false` if the journal could not be begun.
async fn enter<W: World>(
    shard: &Rc<Shard<W>>,
    mut sessions: Vec<Restored>,
    generation: u64,
    began: u64,
) -> bool {
    let store = &shard.store;
    for restored in &mut sessions {
        match restored.recorded {
            State::Gone(ending) => {
                let (id, tombstone) = (restored.keep.id(), restored.keep.tombstone(ending));
                store.journal.bury(id, tombstone, shard.world.now());
            }
            recorded => restored.keep.remember(store, recorded),
        }
    }
    let begun = store.journal.begin(&shard.world, generation).await;
    let mut publishing = Vec::new();
    let alive = (sessions.into_iter()).filter(|restored| !matches!(restored.state, State::Gone(_)));
    for (number, restored) in alive.enumerate() {
        if number % SESSIONS_PER_TURN == 0 {
            shard.world.give_way().await;
        }
        let state = restored.state;
        let location = shard.location(&restored.path);
        let state_now = unsealed(&location, state);
        // Records of version 0.1.0 know of no client: such sessions are counted as one's.
        let address = restored.keep.record().client;
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let client = Client::new(&location.prefix, address);
        let session = Session::new(
            shard.world.now(),
            restored.path,
            restored.keep,
            state_now,
            restored.age_ms,
            shard.clients.count(client),
        );
        shard.enter(Rc::clone(&session));
        if let Some(mut held) = Held::for_shard(shard, &session) {
            held.adopt_reservation(restored.reserved);
        }
        if let State::Closing { .. } = state {
            publishing.push(session);
        }
    }
    shard.world.emit(Event::Recovered {
        sessions: shard.unfinished_len(),
        duration_ms: shard.world.now().saturating_sub(began),
    });
    for session in publishing {
        if let Some(mut held) = Held::for_shard(shard, &session) {
            held.finish_publication().await;
        }
    }
    if let Err(error) = &begun {
        shard.world.emit(Event::DiskFailed {
            op: DiskOp::Record,
            session: None,
            error,
        });
    }
    if planted::is(Bug::JournalRetiredEarly) {
        let _ = remove_journals(&*shard.world, generation).await;
    }
    begun.is_ok() || planted::is(Bug::RenewalRemoves)
}

/// Whether a seal had reached the disk or only the page cache is not known: the client's next
/// packet seals again before it is acked.
fn unsealed(location: &Location, state: State) -> State {
    match state {
        state if planted::is(Bug::SealTrusted) => state,
        State::Sealed { total } if location.policy.durability != Durability::None => {
            State::Receiving {
                received: total,
                total: Some(total),
            }
        }
        other => other,
    }
}

async fn set_aside<W: World>(shard: &Shard<W>, shelf: Shelf, name: &str, why: &str) {
    shard.world.emit(Event::SetAside { name, why });
    if let Err(error) = shard
        .world
        .rename(shelf, name, &format!("{name}{ASIDE_SUFFIX}"))
        .await
    {
        shard.world.emit(Event::DiskFailed {
            op: DiskOp::Remove,
            session: None,
            error: &error,
        });
    }
}

async fn remove<W: World>(shard: &Shard<W>, id: SessionId, shelf: Shelf, name: &str) {
    if let Err(error) = shard.world.remove(shelf, name).await {
        report(shard, id, DiskOp::Remove, &error);
    }
}

fn report<W: World>(shard: &Shard<W>, id: SessionId, op: DiskOp, error: &io::Error) {
    shard.world.emit(Event::DiskFailed {
        op,
        session: Some(id),
        error,
    });
}
