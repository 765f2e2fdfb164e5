//! Sessions that ended, remembered so that a repeated Close or Cancel hears what the first one did.
//!
//! A client whose Ack was lost asks again, up to minutes later, and must not be told that its
//! upload was never there. What is needed for that is small: how the session ended, and a hash of
//! its path. They are kept for a time; if there are more than may be, those go first that matter
//! least: of clients that have the most, and sessions without a file before those with one. So
//! nobody can make the server forget another's Close by ending sessions of his own.
//!
//! Of one client the oldest go first, also after a start: who has just ended a session is who may
//! ask again. So journals keep the order in which sessions ended ([`super::readback`]). How long
//! ago that was they do not keep: a start remembers all for the whole time again.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::disk::Millis;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::http::path::UploadPath;

/// One session that ended, as it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// How it ended.
    pub ending: Ending,
    /// Of its path and its user: a packet under another one is not its client's.
    pub key: PathAndUser,
    /// From where it came.
    pub origin: Origin,
    /// Of the newest record of the session; what is written of it later has higher ones.
    pub sequence: u64,
    /// SHA-256 of the file that was published, where it was computed.
    pub sha256: Option<[u8; 32]>,
}

impl Tombstone {
    /// What it takes in a journal, in bytes.
    pub(super) fn journal_bytes(has_digest: bool) -> u64 {
        56 + if has_digest { 32 } else { 0 }
    }

    /// Whether a packet could hear something else from it than "session not found".
    pub(super) fn matters(self) -> bool {
        !matches!(self.ending, Ending::Expired | Ending::Poisoned)
    }

    /// Whether a file was whole when the session ended.
    pub(super) fn had_file(self) -> bool {
        match self.ending {
            Ending::Published | Ending::Delivered | Ending::Denied => true,
            Ending::Incomplete | Ending::Cancelled | Ending::Expired | Ending::Poisoned => false,
        }
    }
}

/// Tells apart what was uploaded where, and by whom. Not by force: the id of a session is what
/// nobody can guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAndUser(pub u64);

impl PathAndUser {
    /// Of a path, and of the user who made the session, if somebody was asked; the same for ever,
    /// since it is written to disk (FNV-1a, of which that of a user takes the lower half). Case
    /// does not tell users apart here: some are called so in any
    /// ([`crate::auth::identity::is_same`]).
    pub fn of(path: &UploadPath, user: Option<&str>) -> Self {
        let user = user.map(|user| format!("\0{}", user.to_lowercase()));
        let of_path = fnv(path.as_str().bytes());
        let Some(user) = user else {
            return Self(of_path);
        };
        let of_user = fnv(user.bytes());
        Self((of_path & PATH_BITS) | ((of_user ^ (of_user >> 32)) & !PATH_BITS))
    }

    /// As version 0.2.0 wrote it, in which path and user cannot be told apart.
    fn former(path: &UploadPath, user: &str) -> Self {
        let user = format!("\0{}", user.to_lowercase());
        Self(fnv(path.as_str().bytes().chain(user.bytes())))
    }

    /// Whether it is of this path, whoever made the session.
    fn is_of(self, path: &UploadPath) -> bool {
        self.0 & PATH_BITS == Self::of(path, None).0 & PATH_BITS
    }
}

/// What tells of the path in a [`PathAndUser`] of both.
const PATH_BITS: u64 = 0xffff_ffff << 32;

/// Some clients out of all; those of one address (of IPv6, of one /64) are in the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(pub u16);

impl Origin {
    /// So many there are.
    const COUNT: u64 = 4096;

    /// That of an address.
    pub fn of(address: Option<IpAddr>) -> Self {
        let hash = match address.map(|address| address.to_canonical()) {
            None => return Self(0),
            Some(IpAddr::V4(address)) => fnv(address.octets().into_iter()),
            Some(IpAddr::V6(address)) => fnv(address.octets().into_iter().take(8)),
        };
        Self(u16::try_from(hash % Self::COUNT).expect("so few"))
    }
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// All tombstones of a shard.
#[derive(Debug)]
pub struct Tombstones {
    /// So many at the most.
    count_max: usize,
    /// How many of them have digests.
    digests: usize,
    known: BTreeMap<SessionId, PackedTombstone>,
    origins: BTreeMap<Origin, Queues>,
    /// The first origin that the next look for old ones begins with.
    next: Origin,
}

/// A tombstone in 32 bytes: with its id and its place in a queue it takes some 90 of memory, and
/// some 50 more for a digest.
#[derive(Clone, Debug)]
struct PackedTombstone {
    key: PathAndUser,
    since_s: u32,
    sequence: u32,
    origin: Origin,
    ending: Ending,
    sha256: Option<Box<[u8; 32]>>,
}

impl PackedTombstone {
    fn tombstone(&self) -> Tombstone {
        Tombstone {
            ending: self.ending,
            key: self.key,
            origin: self.origin,
            sequence: u64::from(self.sequence),
            sha256: self.sha256.as_deref().copied(),
        }
    }
}

/// The tombstones of one origin.
#[derive(Debug, Default)]
struct Queues {
    with_file: Queue,
    without: Queue,
}

impl Queues {
    fn of(&mut self, has_file: bool) -> &mut Queue {
        match has_file {
            true => &mut self.with_file,
            false => &mut self.without,
        }
    }
}

/// Oldest first.
#[derive(Debug, Default)]
struct Queue {
    ids: VecDeque<SessionId>,
    /// So many were before them, so that each keeps its number.
    gone: usize,
}

impl Queue {
    fn pop_front(&mut self) -> Option<SessionId> {
        let id = self.ids.pop_front()?;
        self.gone += 1;
        Some(id)
    }

    /// The one with this number, or the first after it; and its number.
    fn at(&self, number: usize) -> Option<(usize, SessionId)> {
        let number = number.max(self.gone);
        let id = self.ids.get(number - self.gone)?;
        Some((number, *id))
    }
}

/// Where somebody stands who goes through all tombstones, while some go and others come.
#[derive(Clone, Copy, Debug, Default)]
pub struct TombstoneWalk {
    origin: u16,
    is_at_those_without: bool,
    number: usize,
}

impl Tombstones {
    /// None yet.
    pub fn new(count_max: usize) -> Self {
        Self {
            count_max,
            digests: 0,
            known: BTreeMap::new(),
            origins: BTreeMap::new(),
            next: Origin(0),
        }
    }

    /// So many at the most from now on; what is too many goes with those that come.
    pub fn set_count_max(&mut self, count_max: usize) {
        self.count_max = count_max;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// What all of them take in a journal, in bytes.
    pub(super) fn journal_bytes(&self) -> u64 {
        let (digests, others) = (self.digests, self.known.len() - self.digests);
        digests as u64 * Tombstone::journal_bytes(true)
            + others as u64 * Tombstone::journal_bytes(false)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Remembers a session that ended now, and forgets another one if there are too many. A start
    /// buries those that it finds in the order in which they ended.
    pub fn bury(&mut self, id: SessionId, tombstone: Tombstone, now: Millis) {
        if !tombstone.matters() {
            return;
        }
        let known = PackedTombstone {
            key: tombstone.key,
            since_s: seconds(now),
            sequence: u32::try_from(tombstone.sequence).unwrap_or(u32::MAX),
            origin: tombstone.origin,
            ending: tombstone.ending,
            sha256: tombstone.sha256.map(Box::new),
        };
        self.digests += usize::from(known.sha256.is_some());
        if let Some(before) = self.known.insert(id, known) {
            self.digests -= usize::from(before.sha256.is_some());
            return;
        }
        let queues = self.origins.entry(tombstone.origin).or_default();
        queues.of(tombstone.had_file()).ids.push_back(id);
        // One too many is the rule; after the limit was lowered, each new one takes one more along.
        for _ in 0..2 {
            if self.known.len() > self.count_max {
                self.forget_least();
            }
        }
    }

    /// The digest of the file that a session has published, where it was computed.
    pub fn sha256(&self, id: SessionId) -> Option<[u8; 32]> {
        self.known.get(&id)?.sha256.as_deref().copied()
    }

    fn forget(&mut self, id: SessionId) {
        if let Some(known) = self.known.remove(&id) {
            self.digests -= usize::from(known.sha256.is_some());
        }
    }

    /// How a session of this path ended, if whoever asks may hear it: a session that a user made is
    /// that user's still, and where nobody is asked any more (`user` is `None`), nobody is kept
    /// away. One that was made where nobody was asked, or that ended before users were noted here,
    /// is there for all if `has_ownerless`.
    pub fn ending(
        &self,
        id: SessionId,
        path: &UploadPath,
        user: Option<&str>,
        has_ownerless: bool,
    ) -> Option<Ending> {
        let known = self.known.get(&id)?;
        let is_open = match user {
            None => known.key.is_of(path),
            Some(user) => [
                PathAndUser::of(path, Some(user)),
                PathAndUser::former(path, user),
            ]
            .contains(&known.key),
        };
        let is_open = is_open || (has_ownerless && known.key == PathAndUser::of(path, None));
        is_open.then_some(known.ending)
    }

    /// Whether a session is remembered.
    pub fn remembers(&self, id: SessionId) -> bool {
        self.known.contains_key(&id)
    }

    /// The next one on the way through all of them, of each client the oldest first. Whoever is
    /// buried meanwhile may be left out, and nobody else.
    pub fn next(&self, walk: &mut TombstoneWalk) -> Option<(SessionId, Tombstone)> {
        loop {
            let (origin, queues) = self.origins.range(Origin(walk.origin)..).next()?;
            if origin.0 != walk.origin {
                *walk = TombstoneWalk {
                    origin: origin.0,
                    ..TombstoneWalk::default()
                };
            }
            let queue = match walk.is_at_those_without {
                false => &queues.with_file,
                true => &queues.without,
            };
            let Some((number, id)) = queue.at(walk.number) else {
                *walk = match walk.is_at_those_without {
                    false => TombstoneWalk {
                        is_at_those_without: true,
                        number: 0,
                        ..*walk
                    },
                    true => TombstoneWalk {
                        origin: walk.origin.checked_add(1)?,
                        ..TombstoneWalk::default()
                    },
                };
                continue;
            };
            walk.number = number + 1;
            if let Some(known) = self.known.get(&id) {
                return Some((id, known.tombstone()));
            }
        }
    }

    /// Forgets those that are older than `ms_max`, a bounded number at a time: a part of the
    /// origins is looked at.
    pub fn forget_old(&mut self, now: Millis, ms_max: u64) {
        const CROWDS: usize = 512;
        const TOMBSTONES: usize = 8_192;
        let mut left = TOMBSTONES;
        let ring = (self.origins.range(self.next..)).chain(self.origins.range(..self.next));
        let origins: Vec<Origin> = ring.take(CROWDS).map(|(origin, _)| *origin).collect();
        for origin in origins {
            self.next = origin;
            let Some(queues) = self.origins.get_mut(&origin) else {
                continue;
            };
            for queue in [&mut queues.with_file, &mut queues.without] {
                while let Some(id) = queue.ids.front()
                    && let Some(known) = self.known.get(id)
                    && u64::from(seconds(now).saturating_sub(known.since_s)) * 1_000 > ms_max
                {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    if let Some(known) = self.known.remove(id) {
                        self.digests -= usize::from(known.sha256.is_some());
                    }
                    queue.pop_front();
                }
                let ids = &mut queue.ids;
                if ids.len() < ids.capacity() / 4 {
                    ids.shrink_to(ids.capacity() / 2);
                }
            }
            if queues.with_file.ids.is_empty() && queues.without.ids.is_empty() {
                self.origins.remove(&origin);
            }
        }
        self.next = Origin(self.next.0.wrapping_add(1));
    }

    /// Forgets the oldest one of the origin that has the most: of those without a file, as long as
    /// there are any.
    fn forget_least(&mut self) {
        let without = |queues: &Queues| queues.without.ids.len();
        let with_file = |queues: &Queues| queues.with_file.ids.len();
        let fullest = |count: &dyn Fn(&Queues) -> usize| {
            let origins = self.origins.iter();
            let fullest = origins.max_by_key(|(_, queues)| count(queues));
            fullest
                .filter(|(_, queues)| count(queues) > 0)
                .map(|(origin, _)| *origin)
        };
        let surplus = fullest(&without).map(|origin| (origin, false));
        let least = surplus.or_else(|| fullest(&with_file).map(|origin| (origin, true)));
        let Some((origin, has_file)) = least else {
            return;
        };
        let queues = self.origins.get_mut(&origin);
        if let Some(id) = queues.and_then(|queues| queues.of(has_file).pop_front()) {
            self.forget(id);
        }
    }
}

fn seconds(ms: Millis) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(ending: Ending, address: [u8; 4]) -> Tombstone {
        Tombstone {
            ending,
            key: PathAndUser::of(&UploadPath::from_text("a.bin").unwrap(), None),
            origin: Origin::of(Some(IpAddr::from(address))),
            sequence: 3,
            sha256: None,
        }
    }

    fn id(number: u32) -> SessionId {
        SessionId::from_u128(u128::from(number))
    }

    const VICTIM: [u8; 4] = [192, 0, 2, 1];
    const OTHER: [u8; 4] = [192, 0, 2, 2];

    #[test]
    fn cancelled_sessions_of_anybody_go_before_files_of_anybody() {
        let mut tombstones = Tombstones::new(1_000);
        tombstones.bury(id(0), tombstone(Ending::Published, VICTIM), 0);
        for number in 1..=4_200 {
            tombstones.bury(id(number), tombstone(Ending::Cancelled, OTHER), 0);
        }
        let path = UploadPath::from_text("a.bin").unwrap();
        assert_eq!(tombstones.len(), 1_000);
        assert_eq!(
            tombstones.ending(id(0), &path, None, true),
            Some(Ending::Published)
        );
        assert_eq!(tombstones.ending(id(3_200), &path, None, true), None);
        assert_eq!(
            tombstones.ending(id(3_202), &path, None, true),
            Some(Ending::Cancelled)
        );
        let other = UploadPath::from_text("b.bin").unwrap();
        assert_eq!(tombstones.ending(id(0), &other, None, true), None);
    }

    #[test]
    fn of_one_client_the_oldest_go_first() {
        let mut tombstones = Tombstones::new(3);
        for number in [4, 6, 3, 5, 1, 2] {
            tombstones.bury(id(number), tombstone(Ending::Published, VICTIM), 0);
        }
        let left = |of: &Tombstones| {
            let mut walk = TombstoneWalk::default();
            let all = std::iter::from_fn(|| of.next(&mut walk).map(|(id, _)| id));
            all.collect::<Vec<_>>()
        };
        assert_eq!(left(&tombstones), [5, 1, 2].map(id));
        tombstones.bury(id(0), tombstone(Ending::Published, VICTIM), 0);
        assert_eq!(left(&tombstones), [1, 2, 0].map(id));
    }

    #[test]
    fn who_walks_meets_all_that_stay() {
        let mut tombstones = Tombstones::new(1_000);
        for number in 0..600 {
            let address = [10, 0, 0, u8::try_from(number % 5).unwrap()];
            let ending = match number % 2 {
                0 => Ending::Published,
                _ => Ending::Cancelled,
            };
            tombstones.bury(id(number), tombstone(ending, address), u64::from(number));
        }
        let (mut walk, mut met) = (TombstoneWalk::default(), Vec::new());
        while let Some((id, _)) = tombstones.next(&mut walk) {
            met.push(id);
            if met.len() == 50 {
                // What goes is the oldest of each client.
                (0..100).for_each(|_| tombstones.forget_least());
            }
        }
        let missed = |number: &u32| {
            let id = id(*number);
            tombstones.remembers(id) && !met.contains(&id)
        };
        assert_eq!((0..600).filter(missed).collect::<Vec<_>>(), [0_u32; 0]);
        met.sort_unstable();
        met.dedup();
        assert!(met.len() >= 500, "each once: {}", met.len());
    }

    #[test]
    fn a_digest_is_remembered_with_its_session_and_forgotten_with_it() {
        let mut tombstones = Tombstones::new(2);
        for number in 0..4 {
            let with_digest = Tombstone {
                sha256: (number % 2 == 1).then_some([7; 32]),
                ..tombstone(Ending::Published, VICTIM)
            };
            tombstones.bury(id(number), with_digest, 0);
            tombstones.bury(id(number), with_digest, 0);
        }
        assert_eq!(tombstones.sha256(id(3)), Some([7; 32]));
        assert_eq!(
            (tombstones.sha256(id(2)), tombstones.sha256(id(1))),
            (None, None)
        );
        assert_eq!((tombstones.len(), tombstones.journal_bytes()), (2, 56 + 88));
        tombstones.forget_old(10_000, 1_000);
        assert_eq!(tombstones.journal_bytes(), 0);
    }

    #[test]
    fn one_clients_surplus_goes_before_anothers() {
        for ending in [Ending::Cancelled, Ending::Published] {
            let mut tombstones = Tombstones::new(1_000);
            tombstones.bury(id(0), tombstone(ending, VICTIM), 0);
            for number in 1..=4_200 {
                tombstones.bury(id(number), tombstone(ending, OTHER), 0);
            }
            assert!(tombstones.remembers(id(0)), "{ending:?}");
        }
    }

    #[test]
    fn each_is_kept_for_its_time_and_then_forgotten() {
        let mut tombstones = Tombstones::new(100_000);
        for number in 0..20_000 {
            let address = [10, 0, 0, u8::try_from(number % 200).unwrap()];
            tombstones.bury(id(number), tombstone(Ending::Published, address), 5_000);
        }
        tombstones.forget_old(605_000, 600_000);
        assert_eq!(tombstones.len(), 20_000, "all are within their time");
        let mut turns = 0;
        while !tombstones.is_empty() {
            tombstones.forget_old(607_000, 600_000);
            turns += 1;
            assert!(turns < 20, "{} are left", tombstones.len());
        }
        assert!(turns > 1, "not all in one turn");
    }

    #[test]
    fn what_is_written_to_disk_stays_the_same() {
        let path = UploadPath::from_text("a.bin").unwrap();
        let (of_nobody, of_anna, former) = (
            PathAndUser::of(&path, None),
            PathAndUser::of(&path, Some("Anna")),
            PathAndUser::former(&path, "Anna"),
        );
        assert_eq!(of_nobody, PathAndUser(0x0747_4cb5_13e0_7aa3));
        assert_eq!(of_anna, PathAndUser(0x0747_4cb5_b6e0_22d0));
        assert_eq!(former, PathAndUser(0xf832_e1fd_c1e9_ec6f));
    }

    #[test]
    fn how_a_users_session_ended_is_for_that_user_alone() {
        let path = UploadPath::from_text("a.bin").unwrap();
        let mut tombstones = Tombstones::new(10);
        let keys = [
            PathAndUser::of(&path, None),
            PathAndUser::of(&path, Some("Anna")),
            PathAndUser::former(&path, "Anna"),
        ];
        for (number, key) in (0..).zip(keys) {
            let of_user = Tombstone {
                key,
                ..tombstone(Ending::Published, VICTIM)
            };
            tombstones.bury(id(number), of_user, 0);
        }
        for (user, has_ownerless, hears) in [
            // Where nobody is asked, nobody is kept away, as far as the path can be read.
            (None, true, [true, true, false]),
            (Some("bert"), true, [true, false, false]),
            (Some("Anna"), true, [true, true, true]),
            // A ticket may spell it otherwise.
            (Some("anna"), true, [true, true, true]),
            (Some("anna"), false, [false, true, true]),
        ] {
            for (number, hears) in (0..).zip(hears) {
                let ending = tombstones.ending(id(number), &path, user, has_ownerless);
                assert_eq!(ending.is_some(), hears, "{number} {user:?}");
            }
        }
        let other = UploadPath::from_text("b.bin").unwrap();
        for user in [None, Some("anna")] {
            assert!(
                (0..3).all(|number| tombstones.ending(id(number), &other, user, true).is_none())
            );
        }
    }

    #[test]
    fn what_no_packet_could_hear_is_not_remembered() {
        let mut tombstones = Tombstones::new(10);
        tombstones.bury(id(0), tombstone(Ending::Expired, VICTIM), 0);
        tombstones.bury(id(1), tombstone(Ending::Poisoned, VICTIM), 0);
        assert!(tombstones.is_empty());
        let mut none = Tombstones::new(0);
        none.bury(id(0), tombstone(Ending::Published, VICTIM), 0);
        assert!(none.is_empty());
    }
}
