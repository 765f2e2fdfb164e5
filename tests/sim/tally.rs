//! What a shard counts, counted once more and otherwise: by what it told, and by looking at all of
//! its sessions.

use std::cell::Cell;

use bitsd::event::Event;
use bitsd::metrics::count::{Count, Gauge};
use bitsd::metrics::labels;
use bitsd::metrics::shard::{LocationMetrics, ShardMetrics};
use bitsd::server::shard::Shard;

use crate::world::SimWorld;

/// Here all locations are one.
pub const SERIES: usize = 7;

/// Events by their kind. It is looked at after every step, so it is numbers only.
#[derive(Default)]
pub struct Tally {
    connected: u64,
    created: u64,
    refused: u64,
    answered: u64,
    answered_ok: u64,
    /// By [`labels::ENDINGS`].
    ended: [u64; labels::ENDINGS.len()],
    /// Bytes that events say were stored.
    stored: u64,
    /// How many sessions there were, and when the oldest was begun, when that was last looked at.
    looked_at: Cell<(u64, u64)>,
}

impl Tally {
    /// One more.
    pub fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::Connected { .. } => self.connected += 1,
            Event::SessionCreated { .. } => self.created += 1,
            Event::FragmentStored { stored, .. } => self.stored += stored,
            Event::Refused { .. } => self.refused += 1,
            Event::Answered { status, .. } => {
                self.answered += 1;
                self.answered_ok += u64::from(*status == 200);
            }
            Event::SessionEnded { ending, .. } => {
                let word = format!("{ending:?}").to_lowercase();
                let at = labels::ENDINGS.iter().position(|known| *known == word);
                self.ended[at.expect("a word of the list")] += 1;
            }
            _ => {}
        }
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
    let ok = labels::code(200);
    let counts = [
        ("sessions", sessions, shard.unfinished_len() as u64),
        (
            "connections",
            metrics.connections.get(),
            shard.connections_len() as u64,
        ),
        ("connected", metrics.connected.get(), tally.connected),
        ("created", location.created.get(), tally.created),
        ("refused", sum(&metrics.refused), tally.refused),
        (
            "answered",
            sum(metrics.packets.iter().flatten()),
            tally.answered,
        ),
        (
            "answered 200",
            sum(metrics.packets.iter().map(|codes| &codes[ok])),
            tally.answered_ok,
        ),
    ];
    let endings = (labels::ENDINGS.iter().zip(&location.ended)).zip(tally.ended);
    let endings = endings.map(|((word, counted), is)| (*word, counted.get(), is));
    let wrong = (counts.into_iter().chain(endings)).find(|(_, counted, is)| counted != is);
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
