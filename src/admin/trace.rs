//! Watching packets as they come: what each one asked for, and what it heard.
//!
//! Nobody watches, as a rule, and then it costs a shard one look at a number. A shard never waits
//! for a viewer: what does not fit into a viewer's queue, or comes while another shard is putting
//! something there, is counted as missed, and the viewer is told.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::diagnosis;
use crate::event::Event;
use crate::metrics::labels;
use crate::wall_clock;

/// What a viewer may be behind.
const BEHIND_MAX: usize = 1_024;
/// Viewers of packets at a time: each costs every shard something for each packet.
pub const WATCHERS_MAX: usize = 4;

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Since 1970, in milliseconds.
    pub at_ms: u64,
    pub shard: usize,
    /// Which packet, or what else happened.
    pub what: String,
    /// Address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it was refused, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What helps, where somebody here can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// So many before this one were missed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Traced {
    /// What a viewer sees of an event; nothing of one that is none of a packet or a session.
    fn of(shard: usize, event: &Event<'_>) -> Option<Self> {
        let at_ms = wall_clock::ms_since_1970();
        let seen = |what: &str| Self {
            at_ms,
            shard,
            what: what.to_owned(),
            ..Self::default()
        };
        Some(match event {
            Event::Answered {
                peer,
                packet,
                session,
                path,
                status,
                why,
            } => Self {
                client: Some(peer.to_string()),
                status: Some(*status),
                session: session.map(|id| id.to_string()),
                path: path.map(str::to_owned),
                why: why.map(|why| why.to_string()),
                remedy: why.and_then(diagnosis::remedy).map(str::to_owned),
                ..seen(labels::PACKETS[labels::packet(*packet)])
            },
            Event::BadRequest { peer, why, .. } => Self {
                client: Some(peer.to_string()),
                status: Some(why.status()),
                why: Some(why.to_string()),
                ..seen("bad_request")
            },
            Event::BrokeOff { peer, path } => Self {
                client: Some(peer.to_string()),
                path: Some((*path).to_owned()),
                why: Some("the connection broke off in the middle of a packet".to_owned()),
                ..seen("broke_off")
            },
            Event::HungUp { peer, why } => Self {
                client: Some(peer.to_string()),
                why: Some(labels::HANGUPS[labels::hangup(*why)].to_owned()),
                ..seen("hung_up")
            },
            Event::SessionEnded {
                session,
                ending,
                by_administrator,
                path,
                peer,
                ..
            } => Self {
                client: peer.map(|peer| peer.to_string()),
                session: Some(session.to_string()),
                path: Some((*path).to_owned()),
                why: Some(labels::ENDINGS[labels::ending((*ending, *by_administrator))].to_owned()),
                ..seen("session_ended")
            },
            _ => return None,
        })
    }
}

/// Where packets can be watched.
#[derive(Debug, Default)]
pub struct Tap {
    count: AtomicUsize,
    /// What all viewers have missed because the list was taken.
    missed: AtomicU64,
    viewers: Mutex<Vec<Viewer>>,
}

#[derive(Debug)]
struct Viewer {
    number: usize,
    queue: SyncSender<Traced>,
    missed: Arc<AtomicU64>,
}

/// What one viewer sees; it is struck off when this is dropped.
#[derive(Debug)]
pub struct Watching {
    tap: Arc<Tap>,
    number: usize,
    /// What comes.
    pub queue: Receiver<Traced>,
    missed: Arc<AtomicU64>,
    /// Of what all have missed, so much is told.
    told: Cell<u64>,
}

impl Watching {
    /// What was missed since this was last asked.
    pub fn missed(&self) -> u64 {
        let of_all = self.tap.missed.load(Ordering::Relaxed);
        let new = of_all.wrapping_sub(self.told.replace(of_all));
        self.missed.swap(0, Ordering::Relaxed) + new
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut viewers = self.tap.lock();
        viewers.retain(|viewer| viewer.number != self.number);
        self.tap.count.store(viewers.len(), Ordering::Relaxed);
    }
}

impl Tap {
    /// Shows an event to whoever watches. Never waits.
    pub fn show(&self, shard: usize, event: &Event<'_>) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(traced) = Traced::of(shard, event) else {
            return;
        };
        let Ok(viewers) = self.viewers.try_lock() else {
            // Another shard has it, and what that does takes no time; but a shard does not wait.
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for viewer in &*viewers {
            if viewer.queue.try_send(traced.clone()).is_err() {
                viewer.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Begins to watch; `None` where as many do as may.
    pub fn watch(self: &Arc<Self>) -> Option<Watching> {
        let mut viewers = self.lock();
        if viewers.len() >= WATCHERS_MAX {
            return None;
        }
        let number = viewers.iter().map(|viewer| viewer.number + 1).max();
        let number = number.unwrap_or(0);
        let (queue, seen) = sync_channel(BEHIND_MAX);
        let missed = Arc::new(AtomicU64::new(0));
        viewers.push(Viewer {
            number,
            queue,
            missed: Arc::clone(&missed),
        });
        self.count.store(viewers.len(), Ordering::Relaxed);
        Some(Watching {
            tap: Arc::clone(self),
            number,
            queue: seen,
            missed,
            told: Cell::new(self.missed.load(Ordering::Relaxed)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Viewer>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Hangup;

    fn event() -> Event<'static> {
        Event::HungUp {
            peer: ([192, 0, 2, 1], 5).into(),
            why: Hangup::Idle,
        }
    }

    #[test]
    fn a_viewer_sees_what_happens_while_it_watches_and_hears_what_it_missed() {
        let tap = Arc::<Tap>::default();
        tap.show(0, &event());
        let view = tap.watch().unwrap();
        tap.show(3, &event());
        let seen = view.queue.try_recv().unwrap();
        assert_eq!((seen.shard, seen.what.as_str()), (3, "hung_up"));
        assert_eq!(seen.client.as_deref(), Some("192.0.2.1:5"));
        assert!(view.queue.try_recv().is_err(), "only what came since");
        for _ in 0..BEHIND_MAX + 7 {
            tap.show(0, &event());
        }
        assert_eq!((view.missed(), view.missed()), (7, 0));
    }

    #[test]
    fn so_many_watch_and_no_more() {
        let tap = Arc::<Tap>::default();
        let views: Vec<_> = (0..WATCHERS_MAX).map(|_| tap.watch().unwrap()).collect();
        assert!(tap.watch().is_none());
        drop(views);
        assert_eq!(tap.count.load(Ordering::Relaxed), 0);
        assert!(tap.watch().is_some());
    }

    #[test]
    fn whoever_holds_the_list_stops_nobody() {
        let tap = Arc::<Tap>::default();
        let view = tap.watch().unwrap();
        let held = tap.lock();
        tap.show(0, &event());
        drop(held);
        assert!(view.queue.try_recv().is_err());
        assert_eq!(view.missed(), 1);
    }
}
