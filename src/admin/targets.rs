//! How the targets of events do: what they are still to have, for how long, and what it means.

use std::fmt;

use super::exposition::Scrape;
use super::families::{Families, SeriesLabels};
use super::page_view::NeedView;
use crate::metrics::labels;
use crate::metrics::shard::{ShardMetrics, TargetMetrics};
use crate::wall_clock;

/// An event that waits for longer waits for somebody here.
const STUCK_S: u64 = 120;

/// One target, over all shards.
struct Reading {
    target: &'static str,
    pending: u64,
    /// How old the oldest event is that it is to have, in seconds.
    oldest_s: u64,
}

fn read<'s>(shards: impl Iterator<Item = &'s ShardMetrics> + Clone) -> Vec<Reading> {
    let now_ms = wall_clock::ms_since_1970();
    let readings = labels::TARGETS.iter().enumerate().map(|(at, target)| {
        let of_shards = || shards.clone().map(|shard| &shard.events[at]);
        let oldest_ms = of_shards().map(|counts| counts.oldest_ms.get());
        let oldest_ms = oldest_ms.filter(|at_ms| *at_ms > 0).min();
        Reading {
            target,
            pending: of_shards().map(|counts| counts.pending.get()).sum(),
            oldest_s: oldest_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms) / 1_000),
        }
    });
    readings.collect()
}

/// What waits for a person: events that their target has not taken for long.
pub fn stuck<'s>(shards: impl Iterator<Item = &'s ShardMetrics> + Clone) -> Vec<NeedView> {
    let stuck = read(shards)
        .into_iter()
        .filter(|of| of.pending > 0 && of.oldest_s > STUCK_S);
    let needs = stuck.map(|of| NeedView {
        need: "events".to_owned(),
        why: format!(
            "{} events wait for the target, the oldest for {} s",
            of.pending, of.oldest_s
        ),
        remedy: Some(format!(
            "look at the {}, and for `event_not_taken` in the log; they are told again by themselves",
            of.target
        )),
        then: None,
        at_ms: None,
        times: 0,
        path: of.target.to_owned(),
        client: None,
        session: None,
    });
    needs.collect()
}

impl Scrape {
    /// What is told to others.
    ///
    /// # Errors
    /// What the writer says.
    pub(super) fn write_events(&self, families: &mut Families<'_>) -> fmt::Result {
        let readings = read(self.shards.iter().map(|shard| &**shard));
        let label = |target: &str| -> SeriesLabels { vec![("target", target.to_owned())] };
        let pending = readings.iter().map(|of| (label(of.target), of.pending));
        let help = "Events that a target is still to have";
        families.gauge("bitsd_events_pending", help, pending)?;
        let oldest = readings.iter().map(|of| (label(of.target), of.oldest_s));
        let help = "How old the oldest event is that a target is still to have";
        families.gauge("bitsd_oldest_event_age_seconds", help, oldest)?;
        let sum = |count: fn(&TargetMetrics) -> u64| {
            let targets = labels::TARGETS.iter().enumerate();
            let sums = targets.map(move |(at, target)| {
                let shards = self.shards.iter();
                let sum: u64 = shards.map(|shard| count(&shard.events[at])).sum();
                (label(target), sum)
            });
            sums.collect::<Vec<_>>()
        };
        let help = "Events that a target has said to have";
        families.counter("bitsd_events_sent", help, sum(|of| of.sent.get()))?;
        let help = "Times at which a target did not say that it has an event";
        families.counter("bitsd_event_failures", help, sum(|of| of.failed.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_wait_for_long_are_a_need_and_those_of_all_shards_count() {
        let shards = [ShardMetrics::default(), ShardMetrics::default()];
        assert!(stuck(shards.iter()).is_empty());
        let now_ms = wall_clock::ms_since_1970();
        for (shard, age_s) in shards.iter().zip([10, 60]) {
            shard.events[0].pending.set(3);
            shard.events[0].oldest_ms.set(now_ms - age_s * 1_000);
        }
        assert!(stuck(shards.iter()).is_empty(), "it may be told soon");
        shards[1].events[0].oldest_ms.set(now_ms - 1_000_000);
        let needs = stuck(shards.iter());
        assert_eq!(needs.len(), 1);
        assert!(needs[0].why.starts_with("6 events"), "{}", needs[0].why);
        assert!(needs[0].is_ours() && needs[0].path == "webhook");
    }
}
