//! The HTTP client that tells server applications of uploads (P9).
//!
//! It blocks, on threads of its own: one for each notification in flight, of which each location has so many at the most. So a slow or dead
//! application holds up nobody but its own clients, and a shard does nothing but wait for the outcome as for any other
//! operation.
//!
//! Connections are not kept: a POST over one that the application has just closed would be an error, and nobody could say
//! whether the application had heard.

mod desk;
mod exchange;
mod signature;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::bits::notification::Answer;
use crate::server::notification::{NotifyError, Order};

pub use desk::Desk;

/// What the shard waits for.
pub type Outcome = Result<Answer, NotifyError>;

/// The first pause before another attempt; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tells applications; one for all shards.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    agent: ureq::Agent,
    pause: Duration,
    /// Notifications in flight, by location.
    lanes: Mutex<BTreeMap<String, usize>>,
}

impl Notifier {
    /// With nothing on its way.
    pub fn new() -> Self {
        Self::with_pause(PAUSE)
    }

    /// With another first pause between attempts than one second; for tests.
    pub fn with_pause(pause: Duration) -> Self {
        let shared = Shared {
            agent: exchange::agent(),
            pause,
            lanes: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns at once; the outcome comes later. The files of the order are on the desk.
    pub fn deliver(&self, order: Order, desk: Desk) -> oneshot::Receiver<Outcome> {
        let (told, outcome) = oneshot::channel();
        let Some(place) = Place::take(&self.shared, &order) else {
            // Whoever asked may be gone; there is nobody else to tell.
            let _ = told.send(Err(NotifyError::Busy));
            return outcome;
        };
        let deliver = move || {
            let result = place.shared.deliver(&order, &desk);
            drop(place);
            let _ = told.send(result);
        };
        // Without a thread its sender is dropped, which says the same as `Busy`.
        let _ = thread::Builder::new()
            .name("notify".to_owned())
            .spawn(deliver);
        outcome
    }
}

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// All attempts at one notification.
    fn deliver(&self, order: &Order, desk: &Desk) -> Outcome {
        let deadline = Instant::now() + order.settings.timeout;
        let mut pause = self.pause;
        let mut attempt = 0;
        loop {
            let outcome = exchange::exchange(&self.agent, desk, order, deadline);
            attempt += 1;
            let wakes_at = Instant::now() + pause;
            if attempt > order.settings.retries || !is_transient(&outcome) || wakes_at >= deadline {
                return outcome;
            }
            thread::sleep(pause);
            pause = PAUSE_MAX.min(2 * pause);
        }
    }
}

/// Whether another attempt may do better. A time-out has used up the time for them.
fn is_transient(outcome: &Outcome) -> bool {
    match outcome {
        Ok(answer) => match answer.status {
            501 | 505 => false,
            408 | 429 | 500..=599 => true,
            _ => false,
        },
        Err(NotifyError::Unreachable(_) | NotifyError::Malformed(_)) => true,
        Err(
            NotifyError::Busy
            | NotifyError::TimedOut
            | NotifyError::ReplyTooLarge { .. }
            | NotifyError::Disk(_),
        ) => false,
    }
}

/// One of the notifications that a location may have in flight; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    lane: String,
}

impl Place {
    fn take(shared: &Arc<Shared>, order: &Order) -> Option<Self> {
        let mut lanes = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let in_flight = lanes.entry(order.lane.clone()).or_default();
        if *in_flight >= order.settings.in_flight_max {
            return None;
        }
        *in_flight += 1;
        Some(Self {
            shared: Arc::clone(shared),
            lane: order.lane.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = (self.shared.lanes.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some(in_flight) = lanes.get_mut(&self.lane) {
            *in_flight -= 1;
            if *in_flight == 0 {
                lanes.remove(&self.lane);
            }
        }
    }
}
