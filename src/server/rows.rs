//! A session as a row of a list, for a person to look at.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use super::floor::World;
use super::session::Session;
use super::shard::Shard;
use crate::bits::session::State;
use crate::bits::session_id::SessionId;
use crate::http::digest::Digests;
use crate::http::path::UploadPath;
use crate::vault::record::Record;

/// Rows of one slice: about a tenth of a millisecond of the shard's time.
pub const ROWS_MAX: usize = 256;

/// A session, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub id: SessionId,
    pub path: UploadPath,
    /// The prefix of its location.
    pub location: String,
    pub state: State,
    /// Its disk was not there at the start: it waits for that one, and for the next start.
    pub awaits_disk: bool,
    /// Time without progress, in milliseconds.
    pub idle_ms: u64,
    /// Until it expires without progress, in milliseconds.
    pub expires_in_ms: u64,
    /// When it was made, in milliseconds since 1970; 0 if nobody knows.
    pub begun_ms: u64,
    /// A request for it is under way.
    pub is_busy: bool,
    /// The address of its client.
    pub client: Option<IpAddr>,
    pub user: Option<Arc<str>>,
    /// What its client calls itself.
    pub agent: Option<Arc<str>>,
    pub connections: u32,
    pub interruptions: u32,
    /// The digests of the whole file, once they are known.
    pub digests: Option<Digests>,
}

impl SessionRow {
    /// What its record tells, in a location of this prefix. Nobody works on it, and its time does
    /// not run.
    pub fn of_record(id: SessionId, record: &Record, location: &str) -> Self {
        Self {
            id,
            path: record.path.clone(),
            location: location.to_owned(),
            state: record.state,
            awaits_disk: false,
            idle_ms: 0,
            expires_in_ms: u64::MAX,
            begun_ms: record.begun_ms,
            is_busy: false,
            client: record.client,
            user: record.life.user.clone(),
            agent: record.life.agent.clone(),
            connections: record.life.connections,
            interruptions: record.life.interruptions,
            digests: record.digests(),
        }
    }
}

impl<W: World> Shard<W> {
    pub(super) fn row(&self, session: &Session<W>) -> SessionRow {
        let now = self.world.now();
        let location = self.location(&session.path);
        let record = session.record();
        SessionRow {
            state: session.shown_state(),
            idle_ms: session.idle_ms(now),
            expires_in_ms: (session.expires_ms(&location.policy)).saturating_sub(now),
            is_busy: session.is_held(),
            client: session.peer().map(|peer| peer.ip()).or(record.client),
            ..SessionRow::of_record(session.id, &record, &location.prefix)
        }
    }

    /// The sessions behind an id, or from the first one on, those that wait for their disk among
    /// them; [`ROWS_MAX`] at the most.
    pub fn rows(&self, after: Option<SessionId>) -> Vec<SessionRow> {
        let some = self.sessions_after(after, ROWS_MAX);
        // They lie far apart in memory. What is looked at here comes side by side; each row would
        // wait for its own.
        let looked_at = some.iter().map(|session| session.record().begun_ms);
        black_box(looked_at.fold(0, |all, some| all ^ some));
        let looked_at = (some.iter()).map(|session| session.path.as_str().as_bytes().first());
        black_box(looked_at.fold(0, |all, some| all ^ some.copied().unwrap_or_default()));
        // Behind the last one of a full slice stand those of the next one.
        let last = (some.len() == ROWS_MAX).then(|| some[ROWS_MAX - 1].id);
        let mut rows: Vec<_> = some.iter().map(|session| self.row(session)).collect();
        let left = self.store.journal.left_between(after, last, ROWS_MAX);
        if !left.is_empty() {
            rows.extend(
                left.iter()
                    .map(|(id, kept)| self.row_left(*id, &kept.record())),
            );
            rows.sort_unstable_by_key(|row| row.id);
            rows.truncate(ROWS_MAX);
        }
        rows
    }

    /// One session, if it is there.
    pub(super) fn row_of(&self, id: SessionId) -> Option<SessionRow> {
        let row = self.session(id).map(|session| self.row(&session));
        row.or_else(|| {
            let kept = self.store.journal.left(id)?;
            let row = self.row_left(id, &kept.record());
            Some(row)
        })
    }

    /// What its record tells of a session whose disk is not there: its part may be longer.
    fn row_left(&self, id: SessionId, record: &Record) -> SessionRow {
        let location = self.location(&record.path);
        let state = match record.state {
            State::Receiving { received, total } => State::Receiving {
                received: received.max(record.durable),
                total,
            },
            state => state,
        };
        let last_ms = record.life.last_ms.max(record.begun_ms);
        let idle_ms = match last_ms {
            0 => 0,
            at_ms => self.world.wall_clock_ms().saturating_sub(at_ms),
        };
        SessionRow {
            state,
            awaits_disk: true,
            idle_ms,
            ..SessionRow::of_record(id, record, &location.prefix)
        }
    }
}
