//! What the journals of former starts say, read once at start for all shards together.
//!
//! A journal is read as a stream, in a buffer of a fixed size, so that what a start needs of memory
//! is bounded by the sessions that there are: not by the length of the journals, nor by the number
//! of shards. Of each session only the newest frame is kept. Whoever reads is not a shard: it may
//! block.
//!
//! Of a session that ended only that is kept ([`Tombstone`]). Most end without a record of their
//! own: they were about to give a file its name, and their part is gone. That is looked up only
//! where memory is short.
//!
//! Where memory is limited, sessions may weigh more than may be kept: the limit was lowered since
//! they began, or a version took them that did not weigh them. Then, and as far as it is needed,
//! those that ended so become tombstones; those go of which no byte has come, whose clients hear
//! "session not found" and begin again; and then tombstones, of sessions without a file first. If
//! that is not enough, nothing is read back, and all stays on the disk as it is: an end in the
//! middle would leave it so, too, but without a word, and again with each start.
//!
//! A clean stop vouches for what was written before it. What servers have written since stands in
//! later journals; where one of those is damaged, an older record may be taken for the newest, and
//! the length of its part for what was synced. So no record is believed by the stop then
//! ([`CleanStop::outlasts_damage`]).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use super::clean_stop::CleanStop;
use super::names::{self, WorkName};
use super::record::{Content, Damage, FrameReader, Record};
use super::tombstones::Tombstone;
use super::weight;
use crate::bits::session::{AfterPublish, Ending, State};
use crate::bits::session_id::SessionId;

/// This share of the room is free again when sessions were let go, or reading ends.
const ROOM_SHARE: u64 = 8;

/// What the journals say of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newest {
    /// Its newest record.
    Record {
        /// The higher, the newer.
        sequence: u64,
        /// What it says.
        record: Box<Record>,
        /// If it has ended with that: when.
        rank: Rank,
    },
    /// It ended long ago, and when.
    Tombstone(Tombstone, Rank),
    /// Its newest frame is whole, and of another version.
    Unknown {
        /// The higher, the newer.
        sequence: u64,
    },
}

impl Newest {
    fn sequence(&self) -> u64 {
        match self {
            Self::Record { sequence, .. } | Self::Unknown { sequence } => *sequence,
            Self::Tombstone(tombstone, _) => tombstone.sequence,
        }
    }

    fn rank(&self) -> Rank {
        match self {
            Self::Record { rank, .. } | Self::Tombstone(_, rank) => *rank,
            Self::Unknown { .. } => Rank(0),
        }
    }

    /// What it takes of memory.
    fn weight(&self) -> u64 {
        let Self::Record { record, .. } = self else {
            return weight::TOMBSTONE_BYTES;
        };
        let more = [
            record.hashed.is_some(),
            record.owed.is_some(),
            record.answer.is_some(),
            record.object.is_some(),
            record.life.certificate.is_some(),
        ];
        let more = more.into_iter().filter(|is_there| *is_there).count();
        weight::of_session(record.path.as_str().len(), more)
    }

    /// What a record says, or what is left of it if its session ended and owes nothing.
    fn of_record(sequence: u64, record: Record, rank: Rank) -> Self {
        match record.state {
            State::Gone(ending) if record.owed.is_none() => {
                Self::Tombstone(record.tombstone(ending, sequence), rank)
            }
            _ => Self::Record {
                sequence,
                record: Box::new(record),
                rank,
            },
        }
    }

    /// What is left of it if its part is gone: the file has its name, or a store has it, and nobody
    /// is owed anything. See [`super::verdict`], which says the same: of what was on its way into a
    /// store, the part goes at another end too.
    fn ended_if_gone(&self) -> Option<Self> {
        let Self::Record {
            sequence,
            record,
            rank,
        } = self
        else {
            return None;
        };
        let is_told = matches!(
            record.state,
            State::Closing {
                then: AfterPublish::End | AfterPublish::Promised,
                ..
            }
        );
        let has_arrived = record.was_to_be_named() || record.object.is_some();
        (is_told && has_arrived && !record.is_unsettled && record.owed.is_none())
            .then(|| Self::Tombstone(record.tombstone(Ending::Published, *sequence), *rank))
    }

    /// Whether nothing is lost with it if its part is empty.
    fn may_be_without_bytes(&self) -> bool {
        let Self::Record { record, .. } = self else {
            return false;
        };
        matches!(record.state, State::Receiving { .. }) && record.owed.is_none()
    }
}

fn in_order(told: &BTreeMap<SessionId, Newest>) -> Vec<SessionId> {
    let mut order: Vec<SessionId> = told.keys().copied().collect();
    order.sort_by_cached_key(|id| told.get(id).map(Newest::rank));
    order
}

/// Which of two sessions ended first, as far as journals tell: what ended later has the higher
/// rank. It is the place of its newest frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u32);

impl Rank {
    /// The lowest rank of a record.
    const RECORDS: u32 = 1 << 31;

    /// Of the tombstone that is the frame with this number. A renewal writes them in the order in
    /// which the sessions of each client ended.
    fn of_tombstone(frame: u64) -> Self {
        let frame = u32::try_from(frame).unwrap_or(u32::MAX);
        Self(frame.min(Self::RECORDS - 1))
    }

    /// Of the record that is the frame with this number. Where a session ended without a tombstone,
    /// that was after the last renewal.
    fn of_record(frame: u64) -> Self {
        Self(Self::RECORDS + Self::of_tombstone(frame).0)
    }
}

/// How much of memory what is read may take.
pub struct Room<'a> {
    /// So much it may weigh.
    pub bytes_max: u64,
    /// Whether the part of a session is there, and empty.
    pub is_empty: &'a dyn Fn(SessionId) -> bool,
    /// Whether it is known that there is none, and that none was set aside.
    pub is_gone: &'a dyn Fn(SessionId) -> bool,
    /// Makes all names durable that files have; whether that succeeded. A session that is about to
    /// name its file is synced by its own name else.
    pub sync_names: &'a dyn Fn() -> bool,
}

impl Room<'_> {
    /// As much as there is.
    pub const UNBOUNDED: Self = Room {
        bytes_max: u64::MAX,
        is_empty: &|_| false,
        is_gone: &|_| false,
        sync_names: &|| false,
    };
}

/// A journal for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Its name in the work directory.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// One shard's part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealt {
    /// The newest record of each of its sessions.
    pub told: BTreeMap<SessionId, Newest>,
    /// All of them; those that ended in the order in which they did, as far as journals tell.
    pub order: Vec<SessionId>,
    /// Journals that held more than can be read.
    pub damaged: Arc<[Damaged]>,
    /// Whether the last clean stop vouches for records of its boot.
    pub is_stop_believed: bool,
}

/// Reads journals and deals what they say to the shards.
pub struct Readback<'a> {
    shards: Vec<BTreeMap<SessionId, Newest>>,
    damaged: Vec<Damaged>,
    /// The last clean stop, and this boot.
    after: (CleanStop, u128),
    is_stop_believed: bool,
    room: Room<'a>,
    /// So many were read.
    frames: u64,
    /// What is kept so far weighs so much.
    weight: u64,
    /// Sessions that were let go, for want of memory.
    let_go: usize,
    /// Whether the names of all files are durable, once that was asked for.
    is_synced: Option<bool>,
}

impl<'a> Readback<'a> {
    /// Nothing read yet; for so many shards.
    pub fn new(shards: usize) -> Self {
        Self::within(shards, Room::UNBOUNDED)
    }

    /// The same, and no more is kept than there is room for.
    pub fn within(shards: usize, room: Room<'a>) -> Self {
        Self {
            shards: (0..shards).map(|_| BTreeMap::new()).collect(),
            damaged: Vec::new(),
            after: (CleanStop::default(), 0),
            is_stop_believed: true,
            room,
            frames: 0,
            weight: 0,
            let_go: 0,
            is_synced: None,
        }
    }

    /// The same, in this boot and after this clean stop.
    #[must_use]
    pub fn after(mut self, stop: CleanStop, boot: u128) -> Self {
        self.after = (stop, boot);
        self
    }

    /// Reads a journal. They come in the order of their names, which is that of their generations:
    /// of two frames with one number, the later file's counts.
    ///
    /// # Errors
    /// Of reading; `OutOfMemory` if sessions that have bytes weigh more than there is room for.
    pub fn journal(&mut self, name: &str, bytes: impl Read) -> io::Result<()> {
        let mut frames = FrameReader::new(bytes);
        while let Some(frame) = frames.read_frame()? {
            let shard = frame.id.shard(self.shards.len());
            let told = &mut self.shards[shard];
            let sequence = frame.sequence;
            if (told.get(&frame.id)).is_some_and(|known| known.sequence() > sequence) {
                continue;
            }
            self.frames += 1;
            let newest = match frame.content() {
                Some(Content::Record(record)) => {
                    Newest::of_record(sequence, record, Rank::of_record(self.frames))
                }
                Some(Content::Tombstone(tombstone)) => {
                    Newest::Tombstone(tombstone, Rank::of_tombstone(self.frames))
                }
                None => Newest::Unknown { sequence },
            };
            self.weight += newest.weight();
            let before = told.insert(frame.id, newest);
            self.weight -= before.as_ref().map_or(0, Newest::weight);
            if self.weight > self.room.bytes_max {
                self.make_room()?;
            }
        }
        let why = match frames.damage() {
            Damage::None | Damage::End => return Ok(()),
            // What could be read of it goes into the new journals.
            Damage::Inside => "some of its records cannot be read",
            Damage::All => "it holds no record that can be read",
        };
        let generation = match names::parse_name(name) {
            WorkName::Journal { generation } => Some(generation),
            _ => None,
        };
        let (stop, boot) = &self.after;
        self.is_stop_believed &= stop.outlasts_damage(generation, *boot);
        let name = name.to_owned();
        self.damaged.push(Damaged { name, why });
        Ok(())
    }

    /// Keeps less, as far as it is needed.
    fn make_room(&mut self) -> io::Result<()> {
        // Each look costs a call for each session: it has to be worth it.
        let enough = self.room.bytes_max - self.room.bytes_max / ROOM_SHARE;
        for keep_less in [
            Self::bury_ended,
            Self::let_go_of_empty,
            Self::forget_without_file,
            Self::forget_ended,
        ] {
            keep_less(self, enough);
            if self.weight <= enough {
                return Ok(());
            }
        }
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// Of sessions that ended only that is kept.
    fn bury_ended(&mut self, _enough: u64) {
        for told in &mut self.shards {
            for (id, newest) in told.iter_mut() {
                let Some(ended) = newest.ended_if_gone() else {
                    continue;
                };
                let mut is_synced = || *self.is_synced.get_or_insert_with(self.room.sync_names);
                if (self.room.is_gone)(*id) && is_synced() {
                    self.weight -= newest.weight();
                    *newest = ended;
                    self.weight += newest.weight();
                }
            }
        }
    }

    /// Lets go of sessions without a byte. A frame that follows may bring one of them back, and
    /// says all there is to say of it.
    fn let_go_of_empty(&mut self, _enough: u64) {
        let is_empty = self.room.is_empty;
        self.let_go += self.forget(0, |id, newest| {
            newest.may_be_without_bytes() && is_empty(id)
        });
    }

    /// A Close or a Cancel that is repeated hears "session not found".
    fn forget_without_file(&mut self, enough: u64) {
        self.forget(
            enough,
            |_, newest| matches!(newest, Newest::Tombstone(of, _) if !of.had_file()),
        );
    }

    fn forget_ended(&mut self, enough: u64) {
        self.forget(enough, |_, newest| matches!(newest, Newest::Tombstone(..)));
    }

    /// Forgets some, until it is enough; how many. In the order of their ids, which is nobody's.
    fn forget(&mut self, enough: u64, which: impl Fn(SessionId, &Newest) -> bool) -> usize {
        let mut count = 0;
        for told in &mut self.shards {
            told.retain(|id, newest| {
                let is_forgotten = self.weight > enough && which(*id, newest);
                if is_forgotten {
                    self.weight -= newest.weight();
                    count += 1;
                }
                !is_forgotten
            });
        }
        count
    }

    /// Sessions without a byte that were let go.
    pub fn let_go(&self) -> usize {
        self.let_go
    }

    /// Each shard's part.
    pub fn deal(self) -> Vec<Dealt> {
        let damaged: Arc<[Damaged]> = self.damaged.into();
        let dealt = self.shards.into_iter().map(|told| Dealt {
            order: in_order(&told),
            told,
            damaged: Arc::clone(&damaged),
            is_stop_believed: self.is_stop_believed,
        });
        dealt.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path::UploadPath;

    fn record(total: u64) -> Record {
        Record {
            path: UploadPath::from_text("a.bin").unwrap(),
            state: State::Sealed { total },
            durable: total,
            inode: 1,
            boot_id: 2,
            answer: None,
            client: None,
            begun_ms: 0,
            life: Default::default(),
            hashed: None,
            owed: None,
            is_unsettled: false,
            object: None,
        }
    }

    /// Gives a journal again and again, and counts its bytes.
    struct Endless<'a> {
        frames: &'a [u8],
        left: u64,
        reads_max: usize,
    }

    impl Read for Endless<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.reads_max = self.reads_max.max(into.len());
            let at = usize::try_from(self.left).unwrap() % self.frames.len();
            let rest = &self.frames[self.frames.len() - at..];
            let from = if at == 0 { self.frames } else { rest };
            let taken = from
                .len()
                .min(into.len())
                .min(usize::try_from(self.left).unwrap());
            into[..taken].copy_from_slice(&from[..taken]);
            self.left -= taken as u64;
            Ok(taken)
        }
    }

    #[test]
    fn a_long_journal_of_few_sessions_is_read_in_little_memory() {
        let mut frames = Vec::new();
        for id in 0..100u128 {
            frames.extend(record(9).encode(SessionId::from_u128(id), 3));
        }
        let mut endless = Endless {
            frames: &frames,
            left: 2_000 * frames.len() as u64,
            reads_max: 0,
        };
        let mut readback = Readback::new(4);
        readback.journal("0-0.journal", &mut endless).unwrap();
        assert_eq!(endless.left, 0);
        assert!(endless.reads_max < 200_000, "{}", endless.reads_max);
        let dealt = readback.deal();
        let sessions: usize = dealt.iter().map(|dealt| dealt.told.len()).sum();
        assert_eq!((dealt.len(), sessions), (4, 100));
    }

    fn receiving() -> Record {
        let (received, total) = (0, Some(9));
        Record {
            state: State::Receiving { received, total },
            ..record(9)
        }
    }

    #[test]
    fn sessions_without_a_byte_go_where_memory_is_short_and_others_never() {
        let each = weight::of_session(5, 0);
        let is_empty = |id: SessionId| id.as_u128().is_multiple_of(2);
        let room = || Room {
            bytes_max: 100 * each,
            is_empty: &is_empty,
            ..Room::UNBOUNDED
        };
        let frames = |ids: std::ops::Range<u128>, record: Record| -> Vec<u8> {
            let frames = ids.map(|id| record.encode(SessionId::from_u128(id), 3));
            frames.flatten().collect()
        };
        let ids = |readback: Readback<'_>| -> Vec<u128> {
            let told = readback.deal().into_iter().flat_map(|dealt| dealt.told);
            told.map(|(id, _)| id.as_u128()).collect()
        };
        let mut readback = Readback::within(1, room());
        readback
            .journal("a", &frames(0..90, receiving())[..])
            .unwrap();
        assert_eq!(readback.let_go(), 0, "there is room");
        // Whole files are kept, whatever their parts look like.
        readback
            .journal("b", &frames(90..120, record(0))[..])
            .unwrap();
        assert_eq!(readback.let_go(), 45);
        let kept = ids(readback);
        assert_eq!(kept.len(), 45 + 30);
        assert!(
            kept.iter()
                .all(|id| !is_empty(SessionId::from_u128(*id)) || *id >= 90)
        );
        // Nothing is let go that has bytes.
        let mut readback = Readback::within(1, room());
        let odd: Vec<u8> = (0..120)
            .flat_map(|id| receiving().encode(SessionId::from_u128(2 * id + 1), 3))
            .collect();
        let refused = readback.journal("c", &odd[..]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    }

    /// What many uploads leave in a journal that was not renewed meanwhile.
    fn ended(ids: std::ops::Range<u128>, named_ms: u64) -> Vec<u8> {
        let mut closing = Record {
            state: State::Closing {
                total: 9,
                then: AfterPublish::End,
                told: None,
            },
            ..record(9)
        };
        closing.life.named_ms = named_ms;
        let frames = |id| {
            let id = SessionId::from_u128(id);
            [receiving().encode(id, 1), closing.encode(id, 3)].concat()
        };
        ids.flat_map(frames).collect()
    }

    #[test]
    fn sessions_that_ended_weigh_little_and_go_before_anything_is_refused() {
        let is_synced = std::cell::Cell::new(0);
        let is_gone = |id: SessionId| id.as_u128() > 0;
        let sync_names = || {
            is_synced.set(is_synced.get() + 1);
            true
        };
        let room = || Room {
            bytes_max: 100 * weight::of_session(5, 0),
            is_gone: &is_gone,
            sync_names: &sync_names,
            ..Room::UNBOUNDED
        };
        // Far more than there is room for, even as tombstones.
        let mut readback = Readback::within(1, room());
        readback.journal("a", &ended(0..5_000, 1)[..]).unwrap();
        assert_eq!(is_synced.get(), 1, "their names are durable");
        let told = readback.deal().pop().unwrap().told;
        let tombstones = told.values().filter(
            |newest| matches!(newest, Newest::Tombstone(of, _) if of.ending == Ending::Published),
        );
        assert!((600..1_000).contains(&told.len()), "{}", told.len());
        // But for the last ones, since when nobody had to look.
        assert!(tombstones.count() > told.len() - 20, "{}", told.len());
        // Its file has no name.
        let first = told.get(&SessionId::from_u128(0));
        assert!(matches!(first, Some(Newest::Record { .. })), "{first:?}");

        // As long as there is room nobody looks.
        let mut readback = Readback::within(1, room());
        readback.journal("a", &ended(1..50, 1)[..]).unwrap();
        let told = readback.deal().pop().unwrap().told;
        let is_record = |newest: &Newest| matches!(newest, Newest::Record { .. });
        assert!(told.len() == 49 && told.values().all(is_record));
        assert_eq!(is_synced.get(), 1);

        // What was on its way into a store may have been cancelled.
        let mut readback = Readback::within(1, room());
        let refused = readback.journal("a", &ended(1..500, 0)[..]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        // A name that may not last is no end.
        let room = Room {
            sync_names: &|| false,
            ..room()
        };
        let mut readback = Readback::within(1, room);
        let refused = readback.journal("a", &ended(0..5_000, 1)[..]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn of_an_end_that_was_written_only_that_is_kept_unless_it_owes() {
        let ended = |ending| Record {
            state: State::Gone(ending),
            ..record(9)
        };
        let mut owing = ended(Ending::Published);
        owing.owed = Some(Box::new(crate::vault::owed::Owed {
            ending: Ending::Published,
            at_ms: 1,
            bytes: 9,
            told: crate::vault::owed::EventTargets::NONE,
        }));
        let ids = [1, 2].map(SessionId::from_u128);
        let frames = [
            ended(Ending::Cancelled).encode(ids[0], 3),
            owing.encode(ids[1], 3),
        ];
        let mut readback = Readback::new(1);
        readback.journal("a", &frames.concat()[..]).unwrap();
        let told = readback.deal().pop().unwrap().told;
        let Newest::Tombstone(cancelled, _) = &told[&ids[0]] else {
            panic!("{told:?}");
        };
        assert_eq!(cancelled.ending, Ending::Cancelled);
        assert!(matches!(told[&ids[1]], Newest::Record { .. }), "{told:?}");
    }

    #[test]
    fn damage_after_a_clean_stop_ends_the_belief_in_it() {
        let id = SessionId::from_u128(5);
        let frame = receiving().encode(id, 3);
        let mut damaged = frame.repeat(3);
        damaged[frame.len() + 20] ^= 1;
        let stop = CleanStop::default().at_stop(2, true, &[]);
        let left = stop.clone().at_start(8, 4, false).unwrap();
        let is_believed = |stop: &CleanStop, boot, generation, journal: &[u8]| {
            let mut readback = Readback::new(1).after(stop.clone(), boot);
            let name = names::journal_name(3, 0);
            readback.journal(&name, &frame[..]).unwrap();
            let name = names::journal_name(generation, 1);
            readback.journal(&name, journal).unwrap();
            let dealt = readback.deal().pop().unwrap();
            (dealt.is_stop_believed, dealt.damaged.len())
        };
        assert_eq!(is_believed(&left, 9, 4, &frame), (true, 0));
        assert_eq!(is_believed(&left, 9, 4, &damaged), (false, 1));
        assert_eq!(is_believed(&left, 9, 4, b"no frame at all"), (false, 1));
        assert_eq!(is_believed(&left, 9, 3, &damaged), (true, 1));
        assert_eq!(is_believed(&left, 8, 4, &damaged), (true, 1));
        assert_eq!(is_believed(&stop, 9, 4, &damaged), (true, 1));
    }

    #[test]
    fn the_newest_frame_counts_and_of_two_equal_ones_the_later() {
        let id = SessionId::from_u128(5);
        let mut readback = Readback::new(1);
        let first = [record(1).encode(id, 3), record(2).encode(id, 2)].concat();
        readback.journal("0-0.journal", &first[..]).unwrap();
        readback
            .journal("1-0.journal", &record(4).encode(id, 3)[..])
            .unwrap();
        let dealt = readback.deal().pop().unwrap();
        let Newest::Record {
            sequence, record, ..
        } = &dealt.told[&id]
        else {
            panic!("{dealt:?}");
        };
        assert_eq!((*sequence, record.state), (3, State::Sealed { total: 4 }));
    }
}
