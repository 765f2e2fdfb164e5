//! When the sessions of a shard were begun, so that the age of the oldest is known at any time
//! without looking through them: it is kept up as sessions come and go, and a scrape reads one
//! number.

use std::collections::BTreeMap;

use super::shard::{Gauged, ShardMetrics};

/// How many sessions of each series were begun in which second. Never more entries than sessions,
/// and where many come at once far fewer.
#[derive(Debug, Default)]
pub struct Beginnings {
    counts: BTreeMap<Begun, usize>,
}

/// The number of a series, and a second since 1970.
type Begun = (u16, u32);

impl Beginnings {
    /// A session that was counted as `before` is counted as `now`, and the gauges of the oldest
    /// follow. Costs two comparisons where only its progress differs.
    pub fn recount(&mut self, metrics: &ShardMetrics, before: Option<Gauged>, now: Option<Gauged>) {
        let begun = |gauged: Option<Gauged>| gauged.and_then(Gauged::begun);
        let (before, now) = (begun(before), begun(now));
        if before == now {
            return;
        }
        if let Some(before) = before {
            self.take(before);
            self.tell(metrics, before.0);
        }
        if let Some(now) = now {
            *self.counts.entry(now).or_default() += 1;
            self.tell(metrics, now.0);
        }
    }

    fn take(&mut self, begun: Begun) {
        if let Some(count) = self.counts.get_mut(&begun) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&begun);
            }
        }
    }

    fn tell(&self, metrics: &ShardMetrics, series: u16) {
        let oldest = self.counts.range((series, 0)..=(series, u32::MAX)).next();
        let oldest_s = oldest.map_or(0, |((_, begun_s), _)| u64::from(*begun_s));
        metrics.location(series.into()).oldest_s.set(oldest_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::session::State;

    fn begun(series: usize, second: u64) -> Option<Gauged> {
        let state = State::Receiving {
            received: 0,
            total: None,
        };
        Gauged::of(series, state, second * 1_000 + 999)
    }

    #[test]
    fn the_oldest_of_each_series_is_known_as_sessions_come_and_go() {
        let metrics = ShardMetrics::default();
        for series in [2, 3] {
            metrics.begin(series);
        }
        let mut beginnings = Beginnings::default();
        let oldest = |series| metrics.location(series).oldest_s.get();
        for second in [70, 50, 50, 60] {
            beginnings.recount(&metrics, None, begun(2, second));
        }
        beginnings.recount(&metrics, None, begun(3, 55));
        assert_eq!((oldest(2), oldest(3)), (50, 55));
        // Two were begun in one second.
        beginnings.recount(&metrics, begun(2, 50), None);
        assert_eq!(oldest(2), 50);
        beginnings.recount(&metrics, begun(2, 50), None);
        assert_eq!(oldest(2), 60);
        // A reload makes one another location's.
        beginnings.recount(&metrics, begun(3, 55), begun(2, 55));
        assert_eq!((oldest(2), oldest(3)), (55, 0));
        beginnings.recount(&metrics, begun(2, 55), begun(3, 55));
        assert_eq!((oldest(2), oldest(3)), (60, 55));
        for second in [60, 70] {
            beginnings.recount(&metrics, begun(2, second), None);
        }
        assert_eq!((oldest(2), beginnings.counts.len()), (0, 1));
    }

    #[test]
    fn one_of_which_nobody_knows_when_it_was_begun_is_not_the_oldest() {
        let metrics = ShardMetrics::default();
        let mut beginnings = Beginnings::default();
        let state = State::Sealed { total: 1 };
        beginnings.recount(&metrics, None, Gauged::of(super::super::OTHER, state, 0));
        assert_eq!(metrics.location(super::super::OTHER).oldest_s.get(), 0);
        assert!(beginnings.counts.is_empty());
    }
}
