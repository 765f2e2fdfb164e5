//! What a shard counts, counted once more and otherwise: by what it told, and by looking at all of
//! its sessions.

use std::cell::Cell;
use std::collections::BTreeMap;

use bitsd::event::Event;
use bitsd::metrics::count::{Count, Gauge};
use bitsd::metrics::labels;
use bitsd::metrics::shard::{LocationMetrics, ShardMetrics};
use bitsd::server::shard::Shard;

use crate::world::SimWorld;

/// Here all locations are one.
pub const SERIES: usize = 7;

/// Events by their kind.
#[derive(Default)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
    /// Bytes that events say were stored.
    stored: u64,
    /// How many sessions there were, and when the oldest was begun, when that was last looked at.
    looked_at: Cell<(u64, u64)>,
}

impl Tally {
    /// One more.
    pub fn note(&mut self, event: &Event<'_>) {
        let kind = match event {
            Event::SessionEnded { ending, .. } => format!("ended {ending:?}"),
            Event::Answered { status, .. } => format!("answered {status}"),
            Event::FragmentStored { stored, .. } => {
                self.stored += stored;
                return;
            }
            Event::Refused { .. } => "refused".to_owned(),
            Event::SessionCreated { .. } => "created".to_owned(),
            Event::Connected { .. } => "connected".to_owned(),
            _ => return,
        };
        *self.counts.entry(kind).or_default() += 1;
    }

    fn all(&self, beginning: &str) -> u64 {
        let all = self.counts.iter();
        let those = all.filter(|(kind, _)| kind.starts_with(beginning));
        those.map(|(_, count)| count).sum()
    }
}

fn sum<'c>(counts: impl IntoIterator<Item = &'c Count>) -> u64 {
    counts.into_iter().map(Count::get).sum()
}

/// What a shard has counted wrongly, if it has.
pub fn difference(shard: &Shard<SimWorld>) -> Option<String> {
    let world = &shard.world;
    let (metrics, tally): (&ShardMetrics, _) = (&world.metrics, world.tally.borrow());
    let location: &LocationMetrics = metrics.location(SERIES);
    let sessions: u64 = location.sessions.iter().map(Gauge::get).sum();
    let published = [
        "Published",
        "Delivered",
        "Denied",
        "Incomplete",
        "Cancelled",
        "Expired",
        "Poisoned",
    ];
    let ended = |ending: &str| {
        let word = ending.to_lowercase();
        let at = labels::ENDINGS.iter().position(|known| *known == word);
        location.ended[at.expect("a word of the list")].get()
    };
    let mut pairs = vec![
        ("sessions", sessions, shard.unfinished_len() as u64),
        (
            "connections",
            metrics.connections.get(),
            shard.connections_len() as u64,
        ),
        ("connected", metrics.connected.get(), tally.all("connected")),
        ("created", location.created.get(), tally.all("created")),
        ("refused", sum(&metrics.refused), tally.all("refused")),
        (
            "answered",
            sum(metrics.packets.iter().flatten()),
            tally.all("answered"),
        ),
        (
            "answered 200",
            metrics
                .packets
                .iter()
                .map(|codes| codes[labels::code(200)].get())
                .sum(),
            tally.all("answered 200"),
        ),
    ];
    for ending in published {
        pairs.push((ending, ended(ending), tally.all(&format!("ended {ending}"))));
    }
    let wrong = pairs.into_iter().find(|(_, counted, is)| counted != is);
    if let Some((what, counted, is)) = wrong {
        return Some(format!("{what}: counted {counted}, and it is {is}"));
    }
    if let Some(wrong) = oldest_is_another(shard, &tally, location, sessions) {
        return Some(wrong);
    }
    // Told at the end of a fragment, counted with each block.
    let received = location.received.get();
    (received < tally.stored).then(|| format!("bytes: counted {received}, told {}", tally.stored))
}

/// Looks at all sessions whenever one has come or gone.
fn oldest_is_another(
    shard: &Shard<SimWorld>,
    tally: &Tally,
    location: &LocationMetrics,
    sessions: u64,
) -> Option<String> {
    let counted = location.oldest_s.get();
    if tally.looked_at.replace((sessions, counted)) == (sessions, counted) {
        return None;
    }
    let mut rows = shard.rows(None);
    rows.retain(|row| row.begun_ms > 0);
    let is = rows.iter().map(|row| row.begun_ms / 1_000).min();
    let is = is.unwrap_or(0);
    (counted != is).then(|| format!("the oldest: counted {counted}, and it is {is}"))
}
