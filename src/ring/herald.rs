//! What the service manager hears while the server is not ready: how far it has come, and what it
//! waits for. Each such message asks for more time as well, or a start or a stop that goes on would
//! be cut short (`TimeoutStartSec=`, `TimeoutStopSec=`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::service;
use crate::admin::health::{self, Readings};
use crate::coarse_clock;
use crate::metrics::Metrics;
use crate::vigil::{self, Vigil};

/// Begins to say where a start waits, in the log too.
pub fn watch_start() -> Option<Vigil> {
    Vigil::begin(|path, since| {
        vigil::tell_of_start(path, since);
        service::going_on(&format!("starting: {}", vigil::in_words(path)), None);
    })
}

/// How often it is told.
pub const BEAT: Duration = Duration::from_secs(2);
/// A start that goes on gets so much more time with each message.
const MORE: Duration = Duration::from_secs(60);

/// From then on the log says it too,
const FIRST_LINE: Duration = Duration::from_secs(10);
/// and again each time that so much has passed.
const LINES: Duration = Duration::from_secs(60);

/// Tells it.
pub struct Herald {
    metrics: Arc<Metrics>,
    /// So much of the journals had been read when it was told last.
    read: Option<u64>,
    /// When the log is told next that a start still goes on.
    next_line: Instant,
}

impl Herald {
    /// By what is counted here.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        let (metrics, read) = (Arc::clone(metrics), None);
        let next_line = Instant::now() + FIRST_LINE;
        Self {
            metrics,
            read,
            next_line,
        }
    }

    /// Tells of a start. It gets more time while the journals are read on, and after that while
    /// every shard has its turns: one that is killed begins from its beginning.
    pub fn tell_of_start(&mut self) {
        let readings = Readings::of(&self.metrics, coarse_clock::ms());
        let Some(awaited) = health::recovering(&readings) else {
            return;
        };
        let (read, bytes) = readings.journals;
        let goes_on = match read < bytes {
            true => self.read.replace(read) != Some(read),
            false => health::stuck(&readings).is_empty(),
        };
        service::going_on(&format!("starting: {awaited}"), goes_on.then_some(MORE));
        // Where no service manager listens, the log is all that there is.
        if Instant::now() >= self.next_line {
            self.next_line = Instant::now() + LINES;
            let event = "start_goes_on";
            tracing::info!(event, "the server starts: {awaited}");
        }
    }

    /// An end begins, or becomes another one: for good, or for a new program.
    pub fn begin_end(&self, makes_way: bool) {
        self.metrics.makes_way.set(u64::from(makes_way));
        self.metrics.is_ending.set(1);
    }

    /// Tells of an end. Requests have so much time left, and what follows them may take so much
    /// more.
    pub fn tell_of_end(&self, left: Duration, more: Duration) {
        let readings = Readings::of(&self.metrics, coarse_clock::ms());
        let word = health::word_of_end(&readings);
        let awaited: Vec<_> = health::recovering(&readings)
            .into_iter()
            .chain(health::to_end(&readings))
            .collect();
        let status = match awaited.is_empty() {
            true => format!("{word}: all requests are finished"),
            false => {
                let (awaited, seconds) = (awaited.join(", and "), left.as_secs());
                format!("{word}: {awaited}; {seconds} s are left for that")
            }
        };
        service::going_on(&status, Some(left + more));
    }
}
