//! What all viewers share: the house, and how it stands, which is looked at every two seconds and
//! not for each of them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::House;
use super::exposition::Scrape;
use super::health::{self, Health, JUDGED_MS_MAX, Readings};
use super::object_series::ObjectsShown;
use super::process;
use super::view::{CountView, LocationView, PlaceView, ShardView, StatusView};
use crate::metrics::labels;
use crate::version;
use crate::wall_clock;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Of how many looks the rate is made: some ten seconds.
const SAMPLES: usize = 6;
/// So many reasons of refusals are shown.
const REASONS_SHOWN: usize = 10;

/// The house, and how it stands.
pub struct Overview {
    /// What the interface stands before.
    pub house: Arc<dyn House>,
    judged: Mutex<Judged>,
}

#[derive(Default)]
struct Judged {
    /// When, on the clock of the shards.
    at_ms: u64,
    /// All of what was read then.
    readings: Readings,
    /// Times, and what had been received then.
    samples: VecDeque<(u64, u64)>,
}

impl Overview {
    /// Begins to look.
    ///
    /// # Errors
    /// There are no more threads.
    pub fn begin(house: Arc<dyn House>) -> io::Result<Arc<Self>> {
        let overview = Arc::new(Self {
            judged: Mutex::new(Judged {
                // Until the first look: as if it had been long ago.
                at_ms: house.now_ms(),
                ..Judged::default()
            }),
            house,
        });
        let weak = Arc::downgrade(&overview);
        let look = move || {
            while let Some(overview) = weak.upgrade() {
                overview.look();
                drop(overview);
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new()
            .name("health".to_owned())
            .spawn(look)?;
        Ok(overview)
    }

    /// Looks at everything. A file system that hangs holds this up, and nothing else.
    fn look(&self) {
        let process = process::read();
        let config = self.house.config();
        let readings = Readings {
            events_owed_max: config.limits.events_owed_per_shard_max as u64,
            premises: self.house.premises(),
            staging_full: self.staging_full(),
            descriptors: process.open_descriptors,
            descriptors_max: process.descriptors_max,
            ..self.beats()
        };
        let received = self.received();
        let mut judged = self.lock();
        judged.at_ms = readings.now_ms;
        judged.samples.push_back((readings.now_ms, received));
        judged.readings = readings;
        if judged.samples.len() > SAMPLES {
            judged.samples.pop_front();
        }
    }

    /// What is known without asking anybody.
    fn beats(&self) -> Readings {
        Readings::of(self.house.metrics(), self.house.now_ms())
    }

    /// How far sessions are read back, if that goes on.
    pub fn recovering(&self) -> Option<String> {
        health::recovering(&self.beats())
    }

    /// Locations at which as much waits for the store as may.
    fn staging_full(&self) -> Vec<String> {
        let (config, metrics) = (self.house.config(), self.house.metrics());
        let full = config.locations.iter().filter(|location| {
            let max = location
                .objects
                .as_ref()
                .and_then(|store| store.staging_max);
            let series = || metrics.series(&location.prefix);
            max.is_some_and(|max| metrics.unfinished_bytes(series()) >= max)
        });
        full.map(|location| location.prefix.clone()).collect()
    }

    fn received(&self) -> u64 {
        let metrics = self.house.metrics();
        let names = metrics.series_names();
        let shards = metrics.shards.iter();
        let received = shards.flat_map(|shard| {
            names
                .iter()
                .map(|(series, _)| shard.location(*series).received.get())
        });
        received.sum()
    }

    /// How it stands now: what shards, orders, ledger and stores say at once, with all else as it
    /// was read last. Judged together, so that nothing is told twice.
    pub fn health(&self) -> Health {
        let now = self.beats();
        let judged = self.lock();
        let age_ms = now.now_ms.saturating_sub(judged.at_ms);
        let before = &judged.readings;
        let mut health = health::judge(&Readings {
            premises: before.premises.clone(),
            staging_full: before.staging_full.clone(),
            events_owed_max: before.events_owed_max,
            descriptors: before.descriptors,
            descriptors_max: before.descriptors_max,
            ..now
        });
        if age_ms > JUDGED_MS_MAX {
            health.not_ready.push(health::not_judged(age_ms));
        }
        health
    }

    /// All that a scrape shows.
    pub fn scrape(&self) -> Scrape {
        let (metrics, config) = (self.house.metrics(), self.house.config());
        let roots = config.locations.iter();
        let roots = roots.map(|location| (metrics.series(&location.prefix), location.root));
        Scrape {
            roots: roots.collect(),
            log_lines_lost: self.house.log_lines_lost(),
            now_ms: self.house.now_ms(),
            wall_s: wall_clock::since_1970().as_secs(),
            health: self.health(),
            premises: self.lock().readings.premises.clone(),
            process: process::read(),
            objects: ObjectsShown::of(&metrics.objects, self.house.now_ms()),
            ..Scrape::of(metrics)
        }
    }

    /// The server as a whole.
    pub fn status(&self) -> StatusView {
        let scrape = self.scrape();
        let (health, process) = (&scrape.health, &scrape.process);
        let names = &scrape.locations;
        let sessions = |series: usize| -> u64 {
            let states = 0..labels::STATES.len();
            states
                .map(|state| scrape.level(series, |location| &location.sessions[state]))
                .sum()
        };
        let good = |series: usize| -> u64 {
            let endings = labels::ENDINGS.iter().enumerate();
            let good = endings.filter(|(_, word)| matches!(**word, "published" | "delivered"));
            good.map(|(at, _)| scrape.total(series, |location| &location.ended[at]))
                .sum()
        };
        let locations: Vec<_> = names
            .iter()
            .map(|(series, name)| LocationView {
                location: name.clone(),
                sessions: sessions(*series),
                received_bytes: scrape.total(*series, |location| &location.received),
                unfinished_bytes: scrape.level(*series, |location| &location.unfinished_bytes),
                uploads: good(*series),
            })
            .collect();
        let promised = names
            .iter()
            .map(|(series, _)| scrape.level(*series, |location| &location.promised_bytes));
        let config = self.house.config();
        let (limits, shard_count) = (&config.limits, scrape.shards.len() as u64);
        let now_s = wall_clock::since_1970().as_secs_f64();
        let uptime = (now_s - process::serving_since_seconds()).max(0.0);
        StatusView {
            version: version::LONG.to_owned(),
            process: std::process::id(),
            uptime_seconds: Duration::from_secs_f64(uptime.min(1e12)).as_secs(),
            is_live: health.is_live(),
            is_ready: health.is_ready(),
            reasons: health.reasons(),
            has_reload_failed: scrape.is_reloaded == 0,
            connections: scrape
                .shards
                .iter()
                .map(|shard| shard.connections.get())
                .sum(),
            connections_max: shard_count * limits.connections_per_shard_max as u64,
            sessions: locations.iter().map(|location| location.sessions).sum(),
            sessions_awaiting_disk: (scrape.shards.iter())
                .map(|shard| shard.sessions_left.get())
                .sum(),
            sessions_max: shard_count * limits.sessions_per_shard_max as u64,
            received_bytes: locations
                .iter()
                .map(|location| location.received_bytes)
                .sum(),
            received_bytes_per_second: self.rate(),
            unfinished_bytes: locations
                .iter()
                .map(|location| location.unfinished_bytes)
                .sum(),
            promised_bytes: promised.sum(),
            uploads: locations.iter().map(|location| location.uploads).sum(),
            refused: refusals(&scrape).iter().map(|refusal| refusal.count).sum(),
            log_lines_lost: scrape.log_lines_lost,
            descriptors: process.open_descriptors,
            descriptors_max: process.descriptors_max,
            resident_bytes: process.resident_bytes,
            shards: shards(&scrape),
            places: places(&scrape),
            refusals: refusals(&scrape).into_iter().take(REASONS_SHOWN).collect(),
            locations,
        }
    }

    /// Bytes received in a second, over the last looks.
    fn rate(&self) -> u64 {
        let now = (self.house.now_ms(), self.received());
        let first = self.lock().samples.front().copied();
        let Some((at_ms, received)) = first else {
            return 0;
        };
        let took_ms = now.0.saturating_sub(at_ms).max(1);
        now.1.saturating_sub(received).saturating_mul(1_000) / took_ms
    }

    fn lock(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shards(scrape: &Scrape) -> Vec<ShardView> {
    let shards = scrape.shards.iter();
    let views = shards.map(|shard| {
        let states = scrape.locations.iter().flat_map(|(series, _)| {
            shard
                .location(*series)
                .sessions
                .iter()
                .map(|state| state.get())
        });
        ShardView {
            connections: shard.connections.get(),
            sessions: states.sum(),
            beat_age_ms: scrape.now_ms.saturating_sub(shard.beat_ms.get()),
            busy_seconds: shard.busy_us.get() as f64 / 1e6,
            stalls: shard.stalls.get(),
        }
    });
    views.collect()
}

fn places(scrape: &Scrape) -> Vec<PlaceView> {
    let places = scrape.premises.iter();
    let views = places.map(|place| {
        let space = place.space.unwrap_or_default();
        PlaceView {
            path: place.path.display().to_string(),
            bytes_total: space.bytes_total,
            bytes_free: space.bytes_free,
        }
    });
    views.collect()
}

/// Why packets were refused, the most frequent reason first.
fn refusals(scrape: &Scrape) -> Vec<CountView> {
    let reasons = labels::REASONS.iter().enumerate();
    let counts = reasons.map(|(at, reason)| CountView {
        what: (*reason).to_owned(),
        count: scrape.sum(|shard| &shard.refused[at]),
    });
    let mut counts: Vec<_> = counts.filter(|reason| reason.count > 0).collect();
    counts.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    counts
}
