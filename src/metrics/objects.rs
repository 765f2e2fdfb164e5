//! What is counted of object stores: by their own thread, and not by shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::count::{Count, Gauge};

/// The numbers of all object stores together.
#[derive(Debug, Default)]
pub struct ObjectMetrics {
    /// Files on their way.
    pub pending: Gauge,
    /// Bytes of them.
    pub pending_bytes: Gauge,
    /// Files that a store has taken.
    pub stored: Count,
    /// Bytes of them.
    pub stored_bytes: Count,
    /// Bytes that were sent while the rest of their file was still coming.
    pub sent_ahead_bytes: Count,
    /// Tries that came to nothing.
    pub failures: Count,
    /// When those on their way began, in milliseconds of the shards' clock, each with their number.
    begun: Mutex<BTreeMap<u64, usize>>,
    /// Buckets with which something is wrong, and what.
    wrong: Mutex<BTreeMap<String, String>>,
    /// Buckets that files go into by the settings, once that was told.
    known: Mutex<Option<BTreeSet<String>>>,
    /// When each event was told last.
    told: Mutex<BTreeMap<&'static str, u64>>,
}

impl ObjectMetrics {
    /// A file begins its way.
    pub fn begin(&self, bytes: u64, now_ms: u64) {
        self.pending.add(1);
        self.pending_bytes.add(bytes);
        *lock(&self.begun).entry(now_ms).or_default() += 1;
    }

    /// One that began then has come to an end.
    pub fn end(&self, bytes: u64, began_ms: u64) {
        self.pending.take(1);
        self.pending_bytes.take(bytes);
        let mut begun = lock(&self.begun);
        if let Some(count) = begun.get_mut(&began_ms) {
            *count -= 1;
            if *count == 0 {
                begun.remove(&began_ms);
            }
        }
    }

    /// For how long the oldest one has been on its way, in milliseconds.
    pub fn oldest_ms(&self, now_ms: u64) -> u64 {
        let begun = lock(&self.begun);
        let oldest = begun.first_key_value();
        oldest.map_or(0, |(began_ms, _)| now_ms.saturating_sub(*began_ms))
    }

    /// Files go into these buckets by the settings: what is wrong with others is no reason to send
    /// nobody here.
    pub fn know(&self, buckets: BTreeSet<String>) {
        let mut known = lock(&self.known);
        lock(&self.wrong).retain(|bucket, _| buckets.contains(bucket));
        *known = Some(buckets);
    }

    /// What is wrong with a bucket; `None`: nothing.
    pub fn note(&self, bucket: &str, wrong: Option<&String>) {
        let known = lock(&self.known);
        if known.as_ref().is_some_and(|known| !known.contains(bucket)) {
            return;
        }
        let mut all = lock(&self.wrong);
        match wrong {
            Some(why) => all.insert(bucket.to_owned(), why.clone()),
            None => all.remove(bucket),
        };
    }

    /// All of that.
    pub fn wrong(&self) -> Vec<(String, String)> {
        let all = lock(&self.wrong);
        let pairs = all
            .iter()
            .map(|(bucket, why)| (bucket.clone(), why.clone()));
        pairs.collect()
    }

    /// Whether something is wrong with a bucket.
    pub fn is_wrong(&self, bucket: &str) -> bool {
        lock(&self.wrong).contains_key(bucket)
    }

    /// Whether one more failure may be told of: a store that is away fails for all files at once.
    /// No event takes the turn of another one.
    pub fn may_tell(&self, event: &'static str, now_ms: u64) -> bool {
        let mut told = lock(&self.told);
        let last = told.get(event);
        let is_due = last.is_none_or(|last| now_ms.saturating_sub(*last) >= TOLD_EVERY_MS);
        if is_due {
            told.insert(event, now_ms);
        }
        is_due
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between two lines of the log.
const TOLD_EVERY_MS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_known_until_it_has_come_to_an_end() {
        let metrics = ObjectMetrics::default();
        assert_eq!(metrics.oldest_ms(9), 0);
        for began_ms in [5, 5, 7] {
            metrics.begin(100, began_ms);
        }
        assert_eq!(
            (metrics.pending.get(), metrics.pending_bytes.get()),
            (3, 300)
        );
        metrics.end(100, 5);
        assert_eq!(metrics.oldest_ms(9), 4);
        metrics.end(100, 5);
        assert_eq!(metrics.oldest_ms(9), 2);
        metrics.end(100, 7);
        assert_eq!((metrics.oldest_ms(9), metrics.pending.get()), (0, 0));
    }

    #[test]
    fn a_bucket_that_no_setting_names_any_more_is_forgotten() {
        let metrics = ObjectMetrics::default();
        let why = "away".to_owned();
        let wrong = || metrics.wrong().into_iter().map(|(bucket, _)| bucket);
        for bucket in ["a", "b"] {
            metrics.note(bucket, Some(&why));
        }
        metrics.know(BTreeSet::from(["b".to_owned()]));
        assert!(wrong().eq(["b"]));
        // By a file that was on its way there.
        metrics.note("a", Some(&why));
        assert!(wrong().eq(["b"]));
        metrics.know(BTreeSet::new());
        assert_eq!(wrong().count(), 0);
    }

    #[test]
    fn a_store_that_is_away_is_told_of_now_and_then() {
        let metrics = ObjectMetrics::default();
        assert!(metrics.may_tell("a", 1));
        assert!(!metrics.may_tell("a", 10_000));
        assert!(metrics.may_tell("b", 10_000), "one line hides no other");
        assert!(metrics.may_tell("a", 10_001));
    }
}
