//! What is counted, for whoever watches: plain numbers that the shards write and others read.
//!
//! A shard counts where it tells what happened ([`ShardMetrics::on`], one `match` beside the log)
//! and where bytes are stored. It takes no lock, allocates nothing and sends nothing: a scrape
//! reads what stands there, and costs the same with no session and with a million.
//!
//! The series are bounded by what is written in [`labels`] and by the locations of the settings
//! ([`Metrics::series`]). There is none for a client, a path or a session: somebody who pays for
//! each series would be at the mercy of whoever makes up names.

pub mod beginnings;
pub mod count;
pub mod labels;
pub mod ledger;
pub mod objects;
pub mod shard;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use count::{Count, Gauge};
use ledger::LedgerMetrics;
use objects::ObjectMetrics;
use shard::ShardMetrics;

/// Locations that are told apart; all further ones are one series.
pub const SERIES_MAX: usize = 256;
/// The series of all locations beyond those.
pub const OTHER: usize = SERIES_MAX - 1;

/// Everything that is counted in this process.
#[derive(Debug)]
pub struct Metrics {
    /// One for each shard.
    pub shards: Vec<Arc<ShardMetrics>>,
    /// The prefixes of locations, each under the number of its series.
    series: Mutex<Vec<String>>,
    /// Whether the last reload of the settings, or the start, went well: 1 or 0.
    pub is_reloaded: Gauge,
    /// When that was, in seconds since 1970.
    pub reloaded_s: Gauge,
    /// Reloads that failed.
    pub reloads_failed: Count,
    /// When a write to each work directory, tried because an upload had been refused, last went
    /// well: by [`ShardMetrics::beat_ms`]; 0 before that.
    pub disk_tried_ms: Gauge,
    /// Bytes of the journals of former starts.
    pub journals_bytes: Gauge,
    /// So many of them were read back.
    pub journals_read: Gauge,
    /// An end has begun, be it before the shards serve: 1 or 0.
    pub is_ending: Gauge,
    /// An end that has begun is for a new program, which takes the place of this one: 1 or 0.
    pub makes_way: Gauge,
    /// Shelves that were not there at the start, if any.
    pub shelves_missing: OnceLock<Vec<PathBuf>>,
    /// The custody ledger.
    pub ledger: Arc<LedgerMetrics>,
    /// Of object stores.
    pub objects: ObjectMetrics,
}

impl Metrics {
    /// Of so many shards.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            // That of all that no prefix covers has its own, however many there are.
            series: Mutex::new(vec![String::new()]),
            is_reloaded: Gauge::default(),
            reloaded_s: Gauge::default(),
            reloads_failed: Count::default(),
            disk_tried_ms: Gauge::default(),
            journals_bytes: Gauge::default(),
            journals_read: Gauge::default(),
            is_ending: Gauge::default(),
            makes_way: Gauge::default(),
            shelves_missing: OnceLock::new(),
            ledger: Arc::default(),
            objects: ObjectMetrics::default(),
        })
    }

    /// The number under which a location is counted, by its prefix: the same for as long as the
    /// process runs, however the settings change. Not for the hot path: it is asked when settings
    /// are taken over.
    pub fn series(&self, prefix: &str) -> usize {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = series.iter().position(|known| known == prefix) {
            return known;
        }
        if series.len() == OTHER {
            return OTHER;
        }
        series.push(prefix.to_owned());
        series.len() - 1
    }

    /// Bytes of a location that have no place of their own yet.
    pub fn unfinished_bytes(&self, series: usize) -> u64 {
        let shards = self.shards.iter();
        let bytes = shards.map(|shard| shard.location(series).unfinished_bytes.get());
        bytes.sum()
    }

    /// What each series is called: the prefix of its location, with a slash before it.
    pub fn series_names(&self) -> Vec<(usize, String)> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let names = series.iter().map(|prefix| format!("/{prefix}"));
        let mut names: Vec<_> = names.enumerate().collect();
        if series.len() == OTHER {
            names.push((OTHER, "other".to_owned()));
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_keep_their_numbers() {
        let metrics = Metrics::new(1);
        for number in 1..OTHER {
            assert_eq!(metrics.series(&format!("l{number}")), number);
        }
        assert_eq!(metrics.series("one too many"), OTHER);
        assert_eq!(metrics.series("and another"), OTHER);
        assert_eq!((metrics.series(""), metrics.series("l7")), (0, 7));
        let names = metrics.series_names();
        assert_eq!(names.len(), SERIES_MAX);
        assert_eq!(names[0], (0, "/".to_owned()));
        assert_eq!(names[OTHER], (OTHER, "other".to_owned()));
    }
}
