//! The HTTP client that tells server applications of uploads (protocol.md 9).
//!
//! It blocks, on threads of its own, one for each notification in flight. Each location has a bound
//! on these, and so have all of them together ([`Bounds`]). So a slow or dead application delays
//! only its own clients, and a shard waits for the outcome as for any other operation. The bytes
//! that are sent by value have a bound too, because a file is as long as its client made it.
//!
//! Connections are not kept. A POST over one that the application has just closed would be an
//! error, and nobody could say whether the application had heard it.

mod desk;
mod exchange;
mod heads;
mod lookup;
mod signature;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::bits::notification::Answer;
use crate::config::NotificationType;
use crate::processors;
use crate::server::floor::{NotifyError, Order};

pub use desk::Desk;
pub use exchange::{client, in_words};

/// What the shard waits for.
pub type Delivery = Result<Answer, NotifyError>;

/// The first pause before another attempt; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What all locations may have in flight together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Notifications; each has a thread.
    pub in_flight_max: usize,
    /// Bytes of the files that are sent by value. A file that is larger goes alone.
    pub bytes_max: u64,
}

/// Tells applications; one for all shards.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    agent: ureq::Agent,
    pause: Duration,
    bounds: Bounds,
    in_flight: Mutex<InFlight>,
}

#[derive(Default)]
struct InFlight {
    /// Notifications, by location.
    by_location: BTreeMap<String, usize>,
    /// Of all locations.
    all: usize,
    /// Bytes of the files that are sent by value.
    bytes: u64,
}

impl InFlight {
    /// Counts one more, if it may be.
    fn admit(&mut self, location: &str, location_max: usize, bytes: u64, bounds: &Bounds) -> bool {
        let here = self.by_location.get(location).copied().unwrap_or(0);
        let sum = self.bytes.saturating_add(bytes);
        let is_too_much = bytes > 0 && self.bytes > 0 && sum > bounds.bytes_max;
        if here >= location_max || self.all >= bounds.in_flight_max || is_too_much {
            return false;
        }
        self.by_location.insert(location.to_owned(), here + 1);
        self.all += 1;
        self.bytes = sum;
        true
    }

    fn end(&mut self, location: &str, bytes: u64) {
        if let Some(here) = self.by_location.get_mut(location) {
            *here -= 1;
            if *here == 0 {
                self.by_location.remove(location);
            }
        }
        self.all -= 1;
        self.bytes -= bytes;
    }
}

impl Notifier {
    /// With nothing on its way.
    pub fn new(bounds: Bounds) -> Self {
        Self::with_pause(bounds, PAUSE)
    }

    /// With another first pause between attempts than one second; for tests.
    pub fn with_pause(bounds: Bounds, pause: Duration) -> Self {
        let shared = Shared {
            agent: exchange::agent(),
            pause,
            bounds,
            in_flight: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns at once; the outcome comes later. The files of the order are on the desk.
    pub fn deliver(&self, order: Order, desk: Desk) -> oneshot::Receiver<Delivery> {
        let (told, outcome) = oneshot::channel();
        let Some(slot) = Slot::take(&self.shared, &order) else {
            // Whoever asked may be gone; there is nobody else to tell.
            let _ = told.send(Err(NotifyError::Busy));
            return outcome;
        };
        let deliver = move || {
            // It was started by a shard.
            processors::leave_to_shards();
            let result = slot.shared.deliver(&order, &desk);
            drop(slot);
            let _ = told.send(result);
        };
        // Without a thread its sender is dropped, which says so: [`NotifyError::NoThread`].
        let _ = thread::Builder::new()
            .name("notify".to_owned())
            .spawn(deliver);
        outcome
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, InFlight> {
        (self.in_flight.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// All attempts at one notification.
    fn deliver(&self, order: &Order, desk: &Desk) -> Delivery {
        let deadline = Instant::now() + order.settings.timeout;
        let mut pause = self.pause;
        let mut attempt = 0;
        loop {
            let outcome = exchange::exchange(&self.agent, desk, order, deadline);
            attempt += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            if attempt > order.settings.retries || !is_transient(&outcome) || left.is_zero() {
                return outcome;
            }
            // However short the time is, it is enough for all attempts, and each keeps half of its
            // share.
            let shares = 2 * (order.settings.retries - attempt + 1);
            thread::sleep(pause.min(left / shares));
            pause = PAUSE_MAX.min(2 * pause);
        }
    }
}

/// Whether another attempt may do better. A time-out has used up the time for them.
fn is_transient(outcome: &Delivery) -> bool {
    match outcome {
        Ok(answer) => match answer.status {
            501 | 505 => false,
            408 | 429 | 500..=599 => true,
            _ => false,
        },
        Err(NotifyError::Unreachable(_) | NotifyError::Malformed(_)) => true,
        Err(
            NotifyError::Busy
            | NotifyError::NoThread
            | NotifyError::TimedOut
            | NotifyError::ReplyTooLarge { .. }
            | NotifyError::Disk(_),
        ) => false,
    }
}

/// One of the notifications that may be in flight; given back when dropped.
struct Slot {
    shared: Arc<Shared>,
    location: String,
    bytes: u64,
}

impl Slot {
    fn take(shared: &Arc<Shared>, order: &Order) -> Option<Self> {
        let bytes = match order.settings.kind {
            NotificationType::ByValue => order.bytes,
            NotificationType::ByReference => 0,
        };
        let location_max = order.settings.in_flight_max;
        let mut in_flight = shared.lock();
        (in_flight.admit(&order.location, location_max, bytes, &shared.bounds)).then(|| Self {
            shared: Arc::clone(shared),
            location: order.location.clone(),
            bytes,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.lock().end(&self.location, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_locations_together_are_bounded_by_number_and_by_bytes() {
        let bounds = Bounds {
            in_flight_max: 3,
            bytes_max: 100,
        };
        let mut in_flight = InFlight::default();
        assert!(in_flight.admit("a", 1, 60, &bounds));
        assert!(!in_flight.admit("a", 1, 0, &bounds), "the location's own");
        assert!(!in_flight.admit("b", 9, 41, &bounds), "too many bytes");
        assert!(in_flight.admit("b", 9, 40, &bounds));
        assert!(in_flight.admit("b", 9, 0, &bounds), "by reference");
        assert!(!in_flight.admit("c", 9, 0, &bounds), "too many threads");
        in_flight.end("b", 40);
        in_flight.end("a", 60);
        assert!(in_flight.admit("c", 9, u64::MAX, &bounds), "alone");
        assert!(!in_flight.admit("c", 9, 1, &bounds));
        in_flight.end("c", u64::MAX);
        in_flight.end("b", 0);
        assert!(in_flight.by_location.is_empty() && in_flight.all == 0 && in_flight.bytes == 0);
    }
}
