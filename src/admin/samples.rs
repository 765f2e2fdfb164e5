//! Ten minutes by the second and a day by the minute, of the numbers that are plotted. Made of
//! what is counted anyway ([`crate::metrics`]): no shard is asked.

use std::collections::VecDeque;

use serde::ser::SerializeTuple as _;
use serde::{Serialize, Serializer};

use crate::metrics::Metrics;
use crate::metrics::count::Distribution;
use crate::metrics::labels;

/// Seconds that are kept.
const SECONDS_MAX: usize = 600;
/// Minutes that are kept.
const MINUTES_MAX: usize = 24 * 60;
/// Where synchronisation stands among what is timed of the disk.
const SYNC: usize = 1;

/// What was counted between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its end, in milliseconds since 1970.
    pub at_ms: u64,
    pub bytes_per_second: f64,
    pub uploads: u64,
    pub refused: u64,
    /// Uploads that had not ended, at its end.
    pub open: u64,
    /// How long fragments took: half of them less, and 99 of 100 less; nothing if there was none.
    pub fragment_us: (Option<f64>, Option<f64>),
    /// How long it took to have bytes on the disk: 99 of 100 less.
    pub sync_us: Option<f64>,
}

/// As a short list of numbers: a day of them goes to each viewer.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = |value: Option<f64>| value.map(f64::round);
        let mut list = serializer.serialize_tuple(8)?;
        list.serialize_element(&self.at_ms)?;
        list.serialize_element(&self.bytes_per_second.round())?;
        list.serialize_element(&self.uploads)?;
        list.serialize_element(&self.refused)?;
        list.serialize_element(&self.open)?;
        list.serialize_element(&rounded(self.fragment_us.0))?;
        list.serialize_element(&rounded(self.fragment_us.1))?;
        list.serialize_element(&rounded(self.sync_us))?;
        list.end()
    }
}

/// What was counted up to a look.
#[derive(Clone, Debug, Default)]
struct Totals {
    at_ms: u64,
    received: u64,
    uploads: u64,
    refused: u64,
    open: u64,
    fragments: Distribution,
    syncs: Distribution,
}

impl Totals {
    fn read(metrics: &Metrics, at_ms: u64) -> Self {
        let names = metrics.series_names();
        let mut totals = Self {
            at_ms,
            ..Self::default()
        };
        for shard in &metrics.shards {
            let refused = shard.refused.iter().map(|count| count.get());
            totals.refused += refused.sum::<u64>();
            shard.disk[SYNC].add_to(&mut totals.syncs);
            for (series, _) in &names {
                let location = shard.location(*series);
                totals.received += location.received.get();
                let open = location.sessions.iter().map(|state| state.get());
                totals.open = totals.open.wrapping_add(open.sum());
                let endings = labels::ENDINGS.iter().zip(&location.ended);
                let good = endings.filter(|(word, _)| matches!(**word, "published" | "delivered"));
                totals.uploads += good.map(|(_, count)| count.get()).sum::<u64>();
                location.fragments.add_to(&mut totals.fragments);
            }
        }
        totals
    }

    /// What came since an earlier look.
    fn since(&self, before: &Self) -> Sample {
        let ms = self.at_ms.saturating_sub(before.at_ms).max(1);
        let received = self.received.saturating_sub(before.received);
        let fragments = |part| percentile(&self.fragments, &before.fragments, part);
        Sample {
            at_ms: self.at_ms,
            bytes_per_second: received as f64 * 1_000.0 / ms as f64,
            uploads: self.uploads.saturating_sub(before.uploads),
            refused: self.refused.saturating_sub(before.refused),
            open: self.open,
            fragment_us: (fragments(0.5), fragments(0.99)),
            sync_us: percentile(&self.syncs, &before.syncs, 0.99),
        }
    }
}

/// The value that this part of all is not above, as nearly as the buckets say.
fn percentile(now: &Distribution, before: &Distribution, part: f64) -> Option<f64> {
    let earlier = before.counts.iter().copied().chain(std::iter::repeat(0));
    let new = now.counts.iter().zip(earlier);
    let new: Vec<u64> = new
        .map(|(now, before)| now.saturating_sub(before))
        .collect();
    let all: u64 = new.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = part * all as f64;
    let mut below = 0.0;
    for (bucket, count) in new.iter().enumerate() {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let last = now.bounds.last().copied().unwrap_or_default();
            let end = now.bounds.get(bucket).copied().unwrap_or(last) as f64;
            let start = bucket
                .checked_sub(1)
                .and_then(|at| now.bounds.get(at).copied());
            let start = (start.unwrap_or_default() as f64).min(end);
            return Some(start + (end - start) * (wanted - below) / count);
        }
        below += count;
    }
    None
}

/// Takes samples.
#[derive(Debug, Default)]
pub struct Samples {
    seconds: VecDeque<Sample>,
    minutes: VecDeque<Sample>,
    last: Option<Totals>,
    /// When the minute under way began.
    minute: Option<Totals>,
}

impl Samples {
    /// Looks at what is counted. `at_ms` is milliseconds since 1970.
    pub fn take(&mut self, metrics: &Metrics, at_ms: u64) {
        let now = Totals::read(metrics, at_ms);
        if let Some(last) = &self.last {
            push(&mut self.seconds, now.since(last), SECONDS_MAX);
        }
        match &self.minute {
            Some(minute) if minute.at_ms / 60_000 == at_ms / 60_000 => {}
            Some(minute) => {
                push(&mut self.minutes, now.since(minute), MINUTES_MAX);
                self.minute = Some(now.clone());
            }
            None => self.minute = Some(now.clone()),
        }
        self.last = Some(now);
    }

    /// The last one.
    pub fn last(&self) -> Option<Sample> {
        self.seconds.back().copied()
    }

    pub fn seconds(&self) -> impl Iterator<Item = &Sample> {
        self.seconds.iter()
    }

    pub fn minutes(&self) -> impl Iterator<Item = &Sample> {
        self.minutes.iter()
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample, max: usize) {
    if samples.len() >= max {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_minutes_are_sums_between_looks_and_bounded() {
        let metrics = Metrics::new(2);
        let series = metrics.series("");
        let location = |shard: usize| {
            metrics.shards[shard].begin(series);
            metrics.shards[shard].location(series)
        };
        let mut samples = Samples::default();
        samples.take(&metrics, 0);
        for second in 1..=(MINUTES_MAX as u64 + 5) * 60 {
            location(0).received.add(500);
            location(1).received.add(500);
            samples.take(&metrics, second * 1_000);
        }
        assert_eq!(samples.seconds().count(), SECONDS_MAX);
        assert_eq!(samples.minutes().count(), MINUTES_MAX);
        let rate = |sample: &Sample| sample.bytes_per_second;
        assert!(
            samples
                .seconds()
                .chain(samples.minutes())
                .all(|sample| rate(sample) == 1_000.0)
        );
        location(0).sessions[0].add(3);
        location(0).fragments.note(1_000);
        samples.take(&metrics, 900_000_000);
        let last = samples.last().unwrap();
        assert_eq!(last.open, 3);
        // Somewhere in its bucket, of 512 to 1,024.
        let (half, most) = last.fragment_us;
        assert!(
            half.unwrap() > 512.0 && most.unwrap() <= 1_024.0,
            "{last:?}"
        );
        assert_eq!(last.sync_us, None);
        let text = serde_json::to_string(&last).unwrap();
        assert!(
            text.starts_with("[900000000,") && text.ends_with(",null]"),
            "{text}"
        );
    }

    #[test]
    fn a_percentile_lies_where_so_many_are_below() {
        let now = Distribution {
            bounds: vec![100, 200],
            counts: vec![10, 80, 10],
            sum: 0,
        };
        let none = Distribution::default();
        assert_eq!(percentile(&now, &none, 0.1), Some(100.0));
        assert_eq!(percentile(&now, &none, 0.5), Some(150.0));
        assert_eq!(percentile(&now, &none, 0.99), Some(200.0));
        assert_eq!(percentile(&now, &now, 0.5), None);
    }
}
