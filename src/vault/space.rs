//! Space: how much of it is free where sessions are kept, and how much of it is reserved for which.
//!
//! Space is reserved ahead of the watermark, so that big files lie in few pieces and a disk that
//! fills up is found out before its last byte. But whoever sends one byte of a file of a terabyte
//! must not hold a terabyte: what is reserved ahead is never more than what was received, all that
//! is reserved ahead stays below a share of what is free, and whoever makes no progress gives it
//! back (`limits.reserve_ms_max`). So an upload that was given up holds about what it has sent.
//!
//! One [`Space`] stands for one file system, and all shards share it. What is free is looked at by
//! a thread beside them (`ring/space.rs`): a file system on a network may take its time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use crate::config::FREE_BYTES_MIN;

/// Most that is reserved ahead of one watermark.
const STEP_BYTES_MAX: u64 = 1 << 30;
/// Inodes that are kept for running uploads, where the file system counts them: so many, or one in
/// a hundred.
const INODES_MIN: u64 = 1_000;
/// So long nothing new is begun when the disk has lost bytes of an upload; twice as long with each
/// time in a row. Both are short beside the ten minutes after which BITS comes back by default.
const REST_MS: u64 = 5_000;
/// And never longer.
const REST_MS_MAX: u64 = 300_000;
/// What a file system says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Its size; 0 if it has none.
    pub bytes_total: u64,
    /// What is left for us.
    pub bytes_free: u64,
    /// How many files it can have; 0 if that has no bound.
    pub inodes_total: u64,
    /// How many more.
    pub inodes_free: u64,
}

/// What is kept free for running uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanting {
    /// Bytes.
    pub bytes_min: u64,
    /// Files.
    pub inodes_min: u64,
}

impl Figures {
    /// What is kept free; `bytes_min` is the setting.
    pub fn wanting(&self, bytes_min: u64) -> Wanting {
        Wanting {
            bytes_min: match bytes_min {
                // The default leaves small file systems their use.
                FREE_BYTES_MIN => FREE_BYTES_MIN.min(self.bytes_total / 100),
                set => set,
            },
            inodes_min: INODES_MIN.min(self.inodes_total / 100),
        }
    }

    /// Whether it counts the files that it can have; btrfs does not.
    pub fn counts_inodes(&self) -> bool {
        self.inodes_total > 0
    }

    /// Whether more is to be kept free than there is: no upload would ever be taken.
    pub fn keeps_all(&self, bytes_min: u64) -> bool {
        self.bytes_total > 0 && self.wanting(bytes_min).bytes_min >= self.bytes_total
    }

    /// Whether less is free than is kept, or nothing.
    fn is_low(&self, wanting: Wanting) -> bool {
        let is_low = |total: u64, free: u64, min: u64| total > 0 && free < min.max(1);
        is_low(self.bytes_total, self.bytes_free, wanting.bytes_min)
            || is_low(self.inodes_total, self.inodes_free, wanting.inodes_min)
    }

    /// The same, of a sixteenth more: what is just at the edge is not told every second.
    fn is_near_low(
        &self,
        Wanting {
            bytes_min,
            inodes_min,
        }: Wanting,
    ) -> bool {
        self.is_low(Wanting {
            bytes_min: bytes_min + bytes_min / 16,
            inodes_min: inodes_min + inodes_min / 16,
        })
    }
}

/// The space of one file system.
#[derive(Debug)]
pub struct Space {
    bytes_total: AtomicU64,
    bytes_free: AtomicU64,
    /// Free or reserved ahead, when last looked at.
    pool: AtomicU64,
    /// Reserved beyond what was received.
    ahead: AtomicU64,
    is_low: AtomicBool,
    is_told_low: AtomicBool,
    /// By which error the disk has lost bytes of an upload last.
    lost_by: AtomicI32,
    /// How often in a row.
    losses: AtomicU32,
    /// Until when nothing new is begun because of that.
    rests_until: AtomicU64,
}

impl Default for Space {
    /// Without bounds, until it was looked at.
    fn default() -> Self {
        Self {
            bytes_total: AtomicU64::new(u64::MAX),
            bytes_free: AtomicU64::new(u64::MAX),
            pool: AtomicU64::new(u64::MAX),
            ahead: AtomicU64::new(0),
            is_low: AtomicBool::new(false),
            is_told_low: AtomicBool::new(false),
            lost_by: AtomicI32::new(0),
            losses: AtomicU32::new(0),
            rests_until: AtomicU64::new(0),
        }
    }
}

impl Space {
    /// Takes new figures; whether somebody is to be told that it has become low (`true`), or that
    /// it is no longer.
    pub fn look(&self, figures: Figures, bytes_min: u64) -> Option<bool> {
        let has_size = figures.bytes_total > 0;
        let or_none = |bytes: u64| if has_size { bytes } else { u64::MAX };
        let ahead = self.ahead.load(Ordering::Relaxed);
        self.bytes_total
            .store(or_none(figures.bytes_total), Ordering::Relaxed);
        self.bytes_free
            .store(or_none(figures.bytes_free), Ordering::Relaxed);
        let pool = or_none(figures.bytes_free.saturating_add(ahead));
        self.pool.store(pool, Ordering::Relaxed);
        let wanting = figures.wanting(bytes_min);
        let is_low = figures.is_low(wanting);
        self.is_low.store(is_low, Ordering::Relaxed);
        let was_told = self.is_told_low.load(Ordering::Relaxed);
        let is_told = is_low || (was_told && figures.is_near_low(wanting));
        self.is_told_low.store(is_told, Ordering::Relaxed);
        (is_told != was_told).then_some(is_told)
    }

    /// Whether so little is free that nothing new is begun.
    pub fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Relaxed)
    }

    /// The disk could not keep what it had of an upload, by this error number. Its client sends all
    /// of it once more, and must not do that without a pause for as long as the disk is like that,
    /// which only another upload finds out (a thin pool that is full shows free space, and takes
    /// small files still). Many that are lost at once count as one. `now_ms` is of the clock of the
    /// shards.
    pub fn note_lost(&self, errno: i32, now_ms: u64) {
        if self.lost(now_ms).is_some() {
            return;
        }
        let before = self.losses.fetch_add(1, Ordering::Relaxed);
        let rest_ms = (REST_MS << before.min(16)).min(REST_MS_MAX);
        self.lost_by.store(errno, Ordering::Relaxed);
        (self.rests_until).store(now_ms.saturating_add(rest_ms), Ordering::Relaxed);
    }

    /// The disk has kept an upload.
    pub fn note_kept(&self) {
        if self.losses.load(Ordering::Relaxed) > 0 {
            self.losses.store(0, Ordering::Relaxed);
        }
    }

    /// By which error number the disk has just lost an upload, if nothing new is begun because of
    /// that.
    pub fn lost(&self, now_ms: u64) -> Option<i32> {
        let rests = now_ms < self.rests_until.load(Ordering::Relaxed);
        rests.then(|| self.lost_by.load(Ordering::Relaxed))
    }

    /// Whether a file of this size can stand here at all.
    pub fn can_ever_hold(&self, bytes: u64) -> bool {
        bytes <= self.bytes_total.load(Ordering::Relaxed)
    }

    /// Whether so many bytes are free now.
    pub fn can_hold_now(&self, bytes: u64) -> bool {
        bytes <= self.bytes_free.load(Ordering::Relaxed)
    }

    /// Bytes reserved beyond what was received.
    pub fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Counts up to `wanted` bytes as reserved ahead, as long as all together stay below `share`
    /// percent of what is free.
    fn take(&self, wanted: u64, share: u64) -> u64 {
        let pool = self.pool.load(Ordering::Relaxed);
        let all_max = pool / 100 * share;
        let mut taken = 0;
        let _always = (self.ahead).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ahead| {
            taken = wanted.min(all_max.saturating_sub(ahead));
            Some(ahead + taken)
        });
        taken
    }

    fn give(&self, bytes: u64) {
        self.ahead.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What is reserved for one session; counted until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    space: Arc<Space>,
    /// Up to here the file has its space.
    until: u64,
    /// What of it lies beyond the watermark.
    ahead: u64,
    /// The disk did not give what was asked for; it is not asked again before the session has
    /// rested.
    is_refused: bool,
}

impl Reservation {
    /// Nothing, for a session that has received so much.
    pub fn none(space: Arc<Space>, received: u64) -> Self {
        Self {
            space,
            until: received,
            ahead: 0,
            is_refused: false,
        }
    }

    /// What a former server has left reserved.
    pub fn left(space: Arc<Space>, received: u64, ahead: u64) -> Self {
        space.ahead.fetch_add(ahead, Ordering::Relaxed);
        Self {
            space,
            until: received.saturating_add(ahead),
            ahead,
            is_refused: false,
        }
    }

    /// What is to be reserved now, if anything is: for a write that ends at `end` of a file of
    /// `total` bytes of which `received` are here. Counted already.
    pub fn extend(
        &mut self,
        received: u64,
        end: u64,
        total: u64,
        bounds: ReserveBounds,
    ) -> Option<Range<u64>> {
        self.reached(received);
        if self.is_refused || end <= self.until || received < bounds.step_bytes_min {
            return None;
        }
        let from = self.until.max(received);
        let step = received.min(STEP_BYTES_MAX);
        let until = total.min(received.saturating_add(step)).max(end);
        let taken = self.space.take(until - from, bounds.share);
        // Crumbs are not worth the call.
        if taken < bounds.step_bytes_min.min(until - from) {
            self.space.give(taken);
            return None;
        }
        self.ahead = from - received + taken;
        self.until = from + taken;
        Some(from..self.until)
    }

    /// The disk refused to reserve what was counted. What it has reserved of it nobody knows, so it
    /// stays counted.
    pub fn refused(&mut self) {
        self.is_refused = true;
    }

    /// So many bytes were received.
    pub fn reached(&mut self, received: u64) {
        let ahead = self.until.saturating_sub(received);
        self.space.give(self.ahead.saturating_sub(ahead));
        self.ahead = self.ahead.min(ahead);
    }

    /// What lies beyond the watermark.
    pub fn ahead(&self) -> u64 {
        self.ahead
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.give(self.ahead);
    }
}

/// How space is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReserveBounds {
    /// Nothing is reserved before so much was received.
    pub step_bytes_min: u64,
    /// What all reservations may take of what is free, in percent.
    pub share: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BOUNDS: ReserveBounds = ReserveBounds {
        step_bytes_min: MIB,
        share: 25,
    };

    fn space(bytes_total: u64, bytes_free: u64) -> Arc<Space> {
        let space = Arc::new(Space::default());
        space.look(figures(bytes_total, bytes_free), 1);
        space
    }

    fn figures(bytes_total: u64, bytes_free: u64) -> Figures {
        Figures {
            bytes_total,
            bytes_free,
            inodes_total: 0,
            inodes_free: 0,
        }
    }

    /// Receives a whole file in writes of half a MiB; how often space was reserved, and the most
    /// that was ahead.
    fn receive(space: &Arc<Space>, total: u64) -> (u32, u64) {
        let mut reservation = Reservation::none(Arc::clone(space), 0);
        let (mut calls, mut most, mut received) = (0, 0, 0);
        while received < total {
            let end = total.min(received + MIB / 2);
            if let Some(range) = reservation.extend(received, end, total, BOUNDS) {
                assert!(range.end <= total && range.end - received <= received.max(MIB));
                calls += 1;
            }
            most = most.max(reservation.ahead());
            assert_eq!(space.ahead(), reservation.ahead());
            received = end;
            reservation.reached(received);
        }
        assert_eq!(reservation.ahead(), 0);
        (calls, most)
    }

    #[test]
    fn while_a_disk_loses_uploads_it_rests_longer_and_longer() {
        let space = Space::default();
        assert_eq!(space.lost(0), None);
        let mut now = 1_000;
        let mut rests = Vec::new();
        for _ in 0..10 {
            space.note_lost(28, now);
            // Another one, of the same moment, counts no more.
            space.note_lost(5, now + 1);
            let rest = (0..).find(|ms| space.lost(now + ms).is_none()).unwrap();
            assert_eq!(space.lost(now + rest - 1), Some(28));
            rests.push(rest);
            now += rest;
        }
        assert_eq!(rests[..3], [5_000, 10_000, 20_000]);
        assert_eq!(rests.last(), Some(&300_000));
        space.note_kept();
        space.note_lost(5, now);
        assert_eq!(
            (space.lost(now + 4_999), space.lost(now + 5_000)),
            (Some(5), None)
        );
    }

    #[test]
    fn a_big_file_is_reserved_in_few_steps_and_never_further_than_it_has_come() {
        let space = space(1 << 50, 1 << 50);
        assert_eq!(receive(&space, 1 << 30), (10, 512 * MIB));
        let (calls, most) = receive(&space, 20 << 30);
        assert_eq!((calls, most), (29, 1 << 30));
        assert_eq!(receive(&space, MIB), (0, 0));
    }

    #[test]
    fn one_small_fragment_reserves_nothing() {
        let space = space(1 << 40, 1 << 40);
        let mut reservation = Reservation::none(Arc::clone(&space), 0);
        assert_eq!(reservation.extend(0, 1, u64::MAX, BOUNDS), None);
        assert_eq!(reservation.extend(65_536, 131_072, u64::MAX, BOUNDS), None);
        assert_eq!(space.ahead(), 0);
    }

    #[test]
    fn all_reservations_stay_below_the_share_of_what_is_free() {
        let space = space(1000 * MIB, 400 * MIB);
        let mut all = Vec::new();
        for _ in 0..10 {
            let mut reservation = Reservation::none(Arc::clone(&space), 60 * MIB);
            let (received, end) = (60 * MIB, 61 * MIB);
            reservation.extend(received, end, 1 << 40, BOUNDS);
            all.push(reservation);
            assert!(space.ahead() <= 100 * MIB);
        }
        assert_eq!(space.ahead(), 100 * MIB);
        // What is reserved is not free any more, and is counted once.
        space.look(figures(1000 * MIB, 300 * MIB), 1);
        let mut late = Reservation::none(Arc::clone(&space), 60 * MIB);
        assert_eq!(late.extend(60 * MIB, 61 * MIB, 1 << 40, BOUNDS), None);
        drop(all);
        assert_eq!(space.ahead(), 0);
        assert!(late.extend(60 * MIB, 61 * MIB, 1 << 40, BOUNDS).is_some());
    }

    #[test]
    fn a_disk_that_refuses_is_not_asked_for_each_block() {
        let space = space(1 << 40, 1 << 40);
        let mut reservation = Reservation::none(Arc::clone(&space), 2 * MIB);
        assert!(
            reservation
                .extend(2 * MIB, 3 * MIB, 1 << 40, BOUNDS)
                .is_some()
        );
        reservation.refused();
        assert_eq!(reservation.extend(9 * MIB, 10 * MIB, 1 << 40, BOUNDS), None);
    }

    #[test]
    fn what_was_left_is_counted_until_it_is_given_back() {
        let space = space(1 << 40, 1 << 40);
        let left = Reservation::left(Arc::clone(&space), 5, 100);
        assert_eq!(space.ahead(), 100);
        drop(left);
        assert_eq!(space.ahead(), 0);
    }

    #[test]
    fn too_little_is_told_once_and_so_is_its_end() {
        let space = Space::default();
        let low = |free: u64| space.look(figures(1000 * MIB, free), 64 * MIB);
        assert_eq!(low(64 * MIB), None);
        assert_eq!(low(63 * MIB), Some(true));
        assert!(space.is_low());
        // At the edge nobody is told; but health says that it is enough, and so it is.
        assert_eq!(low(65 * MIB), None);
        assert!(!space.is_low());
        assert_eq!(low(68 * MIB), Some(false));
        // Nothing is too little for any setting.
        assert_eq!(space.look(figures(1000 * MIB, 1), 0), None);
        assert_eq!(space.look(figures(1000 * MIB, 0), 0), Some(true));
    }

    #[test]
    fn a_small_disk_keeps_little_and_one_without_size_nothing() {
        assert_eq!(figures(100 * MIB, 0).wanting(FREE_BYTES_MIN).bytes_min, MIB);
        assert_eq!(
            figures(1 << 50, 0).wanting(FREE_BYTES_MIN).bytes_min,
            256 * MIB
        );
        assert_eq!(figures(100, 0).wanting(7).bytes_min, 7);
        let space = Space::default();
        assert_eq!(space.look(figures(0, 0), 1), None);
        assert!(space.can_ever_hold(u64::MAX) && space.can_hold_now(u64::MAX));
    }

    #[test]
    fn inodes_count_as_well() {
        let space = Space::default();
        let few = Figures {
            inodes_total: 10_000,
            inodes_free: 99,
            ..figures(1 << 40, 1 << 40)
        };
        assert_eq!(space.look(few, FREE_BYTES_MIN), Some(true));
        let enough = Figures {
            inodes_free: 5_000,
            ..few
        };
        assert_eq!(space.look(enough, FREE_BYTES_MIN), Some(false));
    }

    #[test]
    fn a_file_larger_than_the_file_system_never_fits() {
        let space = space(100, 40);
        assert!(space.can_ever_hold(100) && !space.can_ever_hold(101));
        assert!(space.can_hold_now(40) && !space.can_hold_now(41));
    }
}
