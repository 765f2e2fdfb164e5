//! A session as a row of a list, for a person to look at.

use std::net::IpAddr;
use std::sync::Arc;

use super::floor::World;
use super::session::Session;
use super::shard::Shard;
use crate::bits::session::State;
use crate::bits::session_id::SessionId;
use crate::http::digest::Digests;

/// Rows of one slice: about a tenth of a millisecond of the shard's time.
pub const ROWS_MAX: usize = 256;

/// A session, for a person to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    pub id: SessionId,
    pub path: String,
    /// The prefix of its location.
    pub location: String,
    pub state: State,
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

impl<W: World> Shard<W> {
    pub(super) fn row(&self, session: &Session<W>) -> SessionRow {
        let now = self.world.now();
        let location = self.location(&session.path);
        let record = session.record();
        SessionRow {
            id: session.id,
            path: session.path.as_str().to_owned(),
            location: location.prefix.clone(),
            state: record.state,
            idle_ms: session.idle_ms(now),
            expires_in_ms: (session.expires_ms(&location.policy)).saturating_sub(now),
            begun_ms: record.begun_ms,
            is_busy: session.is_held(),
            client: session.peer().map(|peer| peer.ip()).or(record.client),
            user: record.life.user.clone(),
            agent: record.life.agent.clone(),
            connections: record.life.connections,
            interruptions: record.life.interruptions,
            digests: record.digests(),
        }
    }
}
