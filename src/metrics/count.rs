//! Numbers that one thread writes and others read: no lock, no bus-locked instruction, no order.
//!
//! A shard writes its own, so that load, add and store are enough. A reader sees each number as it
//! was a moment ago, and two numbers at slightly different moments.

use std::sync::atomic::{AtomicU64, Ordering};

/// What only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// So many more. Only by the thread that owns it.
    pub fn add(&self, more: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(more), Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// So many more. Only by the thread that owns it.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// So many less; they were added before.
    pub fn take(&self, less: u64) {
        self.set(self.get().wrapping_sub(less));
    }

    /// It is this now.
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a value lay in each of `BUCKETS` ranges that end with powers of two: with
/// `2^FIRST`, and each next one with that times `2^STEP`. Larger ones count in the sum alone.
#[derive(Debug)]
pub struct Histogram<const FIRST: u32, const STEP: u32, const BUCKETS: usize> {
    buckets: [Count; BUCKETS],
    larger: Count,
    sum: Count,
}

/// Times in microseconds: 128 us to 268 s, which is less than the five minutes after which a
/// client gives up, and more than any disk should need.
pub type Times = Histogram<7, 1, 22>;

/// Sizes in bytes: 4 KiB to 1 TiB.
pub type Sizes = Histogram<12, 2, 15>;

impl<const FIRST: u32, const STEP: u32, const BUCKETS: usize> Default
    for Histogram<FIRST, STEP, BUCKETS>
{
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Count::default()),
            larger: Count::default(),
            sum: Count::default(),
        }
    }
}

impl<const FIRST: u32, const STEP: u32, const BUCKETS: usize> Histogram<FIRST, STEP, BUCKETS> {
    /// One more value. Only by the thread that owns it.
    pub fn note(&self, value: u64) {
        // The smallest power of two that is not less.
        let power = u64::BITS - value.saturating_sub(1).leading_zeros();
        let bucket = power.saturating_sub(FIRST).div_ceil(STEP) as usize;
        self.buckets.get(bucket).unwrap_or(&self.larger).add(1);
        self.sum.add(value);
    }

    /// How many values there were.
    pub fn len(&self) -> u64 {
        self.counts().iter().sum::<u64>() + self.larger.get()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds it to the sum of several shards.
    pub fn add_to(&self, sum: &mut Distribution) {
        sum.counts.resize(BUCKETS + 1, 0);
        let counts = self.counts().into_iter().chain([self.larger.get()]);
        for (all, here) in sum.counts.iter_mut().zip(counts) {
            *all += here;
        }
        sum.sum = sum.sum.wrapping_add(self.sum.get());
        sum.bounds = Self::bounds();
    }

    /// The largest value of each bucket.
    fn bounds() -> Vec<u64> {
        let bound = |bucket| 1u64 << (FIRST + STEP * bucket);
        (0..).map(bound).take(BUCKETS).collect()
    }

    fn counts(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }
}

/// A histogram as it was read, of one shard or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The largest value of each bucket.
    pub bounds: Vec<u64>,
    /// How many lay in each, and how many beyond the last.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_first_bucket_that_takes_it() {
        let read = |values: &[u64]| {
            let times = Times::default();
            values.iter().for_each(|value| times.note(*value));
            assert_eq!(times.len(), values.len() as u64);
            let mut sum = Distribution::default();
            times.add_to(&mut sum);
            assert_eq!(sum.sum, values.iter().sum::<u64>());
            let taken = sum.counts.iter().enumerate();
            let taken = taken.filter(|(_, count)| **count > 0);
            taken
                .map(|(bucket, count)| (sum.bounds.get(bucket).copied(), *count))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&[0, 1, 127, 128]), [(Some(128), 4)]);
        assert_eq!(read(&[129, 256]), [(Some(256), 2)]);
        assert_eq!(read(&[1 << 28]), [(Some(1 << 28), 1)]);
        assert_eq!(read(&[(1 << 28) + 1, 1 << 60]), [(None, 2)]);
        let sizes = Sizes::default();
        for bytes in [4_096, 4_097, 16_384, 16_385] {
            sizes.note(bytes);
        }
        let mut sum = Distribution::default();
        sizes.add_to(&mut sum);
        assert_eq!(sum.counts[..3], [1, 2, 1]);
        assert_eq!(sum.bounds.last(), Some(&(1 << 40)));
    }

    #[test]
    fn several_shards_are_one_distribution() {
        let (one, other) = (Times::default(), Times::default());
        one.note(100);
        other.note(100);
        other.note(200);
        let mut sum = Distribution::default();
        one.add_to(&mut sum);
        other.add_to(&mut sum);
        assert_eq!((sum.counts[0], sum.counts[1], sum.sum), (2, 1, 400));
    }
}
