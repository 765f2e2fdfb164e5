//! What a person wants to see of a shard at a glance: how far the busy sessions are, and which
//! sessions somebody should look at. In slices, as a list is ([`super::window`]).

use std::ops::Bound;

use super::connection::ConnectionId;
use super::floor::World;
use super::rows::{ROWS_MAX, SessionRow};
use super::session::Session;
use super::shard::Shard;
use crate::bits::reply::Refusal;
use crate::bits::session::State;
use crate::bits::session_id::SessionId;

/// Connections, or sessions, that one slice looks at: about a tenth of a millisecond.
pub const LOOKED_AT_MAX: usize = 1_024;
/// A client that comes back after a broken request waits for 10 minutes (`SetMinimumRetryDelay` of
/// BITS), and for as long again if that goes wrong too. One that is quiet for longer is switched
/// off, or in trouble.
pub const QUIET_MS: u64 = 20 * 60_000;
/// What the server owes an upload takes seconds.
pub const OWED_MS: u64 = 30_000;

/// Sessions whose clients are connected, and how many bytes of each are here.
#[derive(Debug, Default)]
pub struct AttachedSlice {
    pub sessions: Vec<(SessionId, u64)>,
    /// The last connection that was looked at; `None` where there is no more.
    pub last: Option<ConnectionId>,
}

/// Sessions that somebody should look at.
#[derive(Debug, Default)]
pub struct NeedySlice {
    pub rows: Vec<(Need, SessionRow)>,
    /// Quiet ones, also those that were not asked for.
    pub quiet: u64,
    /// The last session that was looked at; `None` where there is no more.
    pub last: Option<SessionId>,
}

/// Why somebody should look at a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Its application has not taken the file; what it said last.
    Application(Option<Refusal>),
    /// Its file could not be given its name.
    Publication,
    /// All is done, and its client has not closed it.
    Unclosed,
    /// Nothing has come for longer than a client takes to come back.
    Quiet,
}

impl<W: World> Shard<W> {
    pub(super) fn attached_after(&self, after: Option<ConnectionId>) -> AttachedSlice {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let connections = self.connections.borrow();
        let some = connections.range((from, Bound::Unbounded));
        let mut slice = AttachedSlice::default();
        for (looked, (id, connection)) in some.enumerate() {
            if looked == LOOKED_AT_MAX {
                return slice;
            }
            let session = connection.session.get().and_then(|id| self.session(id));
            let attached = session.map(|session| (session.id, session.state().received()));
            slice.sessions.extend(attached);
            slice.last = Some(*id);
        }
        slice.last = None;
        slice
    }

    pub(super) fn needy_after(&self, after: Option<SessionId>, quiet_ms_min: u64) -> NeedySlice {
        let mut slice = NeedySlice::default();
        let some = self.sessions_after(after, LOOKED_AT_MAX);
        for session in &some {
            slice.last = Some(session.id);
            let Some(need) = self.need(session) else {
                continue;
            };
            if need == Need::Quiet {
                slice.quiet += 1;
                if session.idle_ms(self.world.now()) < quiet_ms_min {
                    continue;
                }
            }
            slice.rows.push((need, self.row(session)));
            if slice.rows.len() == ROWS_MAX {
                return slice;
            }
        }
        if some.len() < LOOKED_AT_MAX {
            slice.last = None;
        }
        slice
    }

    fn need(&self, session: &Session<W>) -> Option<Need> {
        let idle_ms = session.idle_ms(self.world.now());
        match session.shown_state() {
            State::Receiving { .. } => (idle_ms >= QUIET_MS).then_some(Need::Quiet),
            State::Sealed { .. } => {
                let notifies = self.location(&session.path).notification.is_some();
                match notifies {
                    true if idle_ms >= OWED_MS => {
                        Some(Need::Application(session.application_said()))
                    }
                    false if idle_ms >= QUIET_MS => Some(Need::Unclosed),
                    _ => None,
                }
            }
            State::Closing { .. } => (idle_ms >= OWED_MS).then_some(Need::Publication),
            State::Notified { .. } | State::Denied { .. } | State::Published { .. } => {
                (idle_ms >= QUIET_MS).then_some(Need::Unclosed)
            }
            State::Gone(_) => None,
        }
    }
}
