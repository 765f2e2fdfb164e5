//! What the interface says in JSON, as both sides of it know it: the server that writes it, and the
//! commands that read it.

use std::fmt::{Display, Write as _};

use serde::{Deserialize, Serialize};

use super::health::Reason;
use crate::bits::session::State;
use crate::http::digest::Hex;
use crate::metrics::labels;
use crate::server::window::SessionRow;

/// A session. Its texts are its own, or stand in its row and in [`Texts`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView<T = String> {
    /// As in the log.
    pub id: T,
    pub path: T,
    /// The prefix of its location, with a slash before it.
    pub location: T,
    /// One of `receiving`, `sealed`, `told`, `closing`, `published`; or [`AWAITS_DISK`].
    pub state: T,
    pub received_bytes: u64,
    /// Absent until its client has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Time without progress.
    pub idle_seconds: u64,
    /// Until it expires, if it makes no progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// Since 1970; absent where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_seconds: Option<u64>,
    /// A request for it is under way.
    pub is_busy: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<T>,
    /// What its client calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<T>,
    pub connections: u32,
    pub interruptions: u32,
    /// Of the whole file, once it is known and where it is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<T>,
}

/// Texts of a session that do not stand in its row. They are written over for the next one: a list
/// has very many.
#[derive(Default)]
pub struct Texts {
    id: String,
    location: String,
    client: String,
    sha256: String,
    sha1: String,
}

impl<'t> SessionView<&'t str> {
    /// Of a row.
    pub fn of_row(row: &'t SessionRow, texts: &'t mut Texts) -> Self {
        let client = row.client.map(|client| client.to_canonical());
        let sha256 = row.digests.as_ref().map(|digests| Hex(&digests.sha256));
        let sha1 = row
            .digests
            .as_ref()
            .and_then(|digests| digests.sha1.as_ref());
        let expires = !row.state.is_promised() && !row.awaits_disk;
        Self {
            id: written(&mut texts.id, row.id),
            path: row.path.as_str(),
            location: written(&mut texts.location, format_args!("/{}", row.location)),
            state: match row.awaits_disk {
                true => AWAITS_DISK,
                false => state(row.state),
            },
            received_bytes: row.state.received(),
            total_bytes: row.state.total(),
            idle_seconds: row.idle_ms / 1_000,
            expires_in_seconds: expires.then_some(row.expires_in_ms / 1_000),
            begun_seconds: (row.begun_ms > 0).then_some(row.begun_ms / 1_000),
            is_busy: row.is_busy,
            client: client.map(|client| written(&mut texts.client, client)),
            user: row.user.as_deref(),
            agent: row.agent.as_deref(),
            connections: row.connections,
            interruptions: row.interruptions,
            sha256: sha256.map(|sha256| written(&mut texts.sha256, sha256)),
            sha1: sha1.map(|sha1| written(&mut texts.sha1, Hex(sha1))),
        }
    }

    /// With texts of its own.
    fn into_owned(self) -> SessionView {
        let own = str::to_owned;
        SessionView {
            id: own(self.id),
            path: own(self.path),
            location: own(self.location),
            state: own(self.state),
            received_bytes: self.received_bytes,
            total_bytes: self.total_bytes,
            idle_seconds: self.idle_seconds,
            expires_in_seconds: self.expires_in_seconds,
            begun_seconds: self.begun_seconds,
            is_busy: self.is_busy,
            client: self.client.map(own),
            user: self.user.map(own),
            agent: self.agent.map(own),
            connections: self.connections,
            interruptions: self.interruptions,
            sha256: self.sha256.map(own),
            sha1: self.sha1.map(own),
        }
    }
}

fn written(text: &mut String, what: impl Display) -> &str {
    text.clear();
    // A text takes all that is written.
    let _ = write!(text, "{what}");
    text
}

impl SessionView {
    /// Of a row.
    pub fn of(row: &SessionRow) -> Self {
        SessionView::of_row(row, &mut Texts::default()).into_owned()
    }
}

/// Whoever knows the id of a session may send its packets, and end it: where anybody may look, only
/// its beginning is shown.
pub fn hidden_id(id: &str) -> String {
    id.chars().take(ID_CHARS_SHOWN).chain(['…']).collect()
}

/// A brace and the first group of an id: enough to find it in the log.
const ID_CHARS_SHOWN: usize = 9;

/// The word for where a session stands whose disk was not there at the start.
pub const AWAITS_DISK: &str = "awaits_disk";

/// The word for a state.
pub fn state(state: State) -> &'static str {
    labels::STATES[labels::state(state)]
}

/// The server as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub process: u32,
    pub uptime_seconds: u64,
    pub is_live: bool,
    pub is_ready: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// The last reload failed: the settings before it hold, and not those of the file.
    #[serde(default)]
    pub has_reload_failed: bool,
    pub connections: u64,
    /// So many there may be, on all shards together.
    #[serde(default)]
    pub connections_max: u64,
    pub sessions: u64,
    /// Sessions that wait for a disk that was not there at the start: they are not among those.
    #[serde(default)]
    pub sessions_awaiting_disk: u64,
    /// So many there may be, if their paths are short.
    #[serde(default)]
    pub sessions_max: u64,
    /// Bytes that were stored since the start.
    pub received_bytes: u64,
    /// The same, in a second, as of late.
    pub received_bytes_per_second: u64,
    /// Bytes of unfinished uploads.
    pub unfinished_bytes: u64,
    /// Bytes that are still to come for them.
    pub promised_bytes: u64,
    /// Uploads that came to a good end, since the start.
    pub uploads: u64,
    /// Packets that were refused, since the start.
    pub refused: u64,
    pub log_lines_lost: u64,
    pub descriptors: u64,
    pub descriptors_max: u64,
    pub resident_bytes: u64,
    pub shards: Vec<ShardView>,
    pub locations: Vec<LocationView>,
    pub places: Vec<PlaceView>,
    /// Why packets were refused, since the start, most frequent first.
    pub refusals: Vec<CountView>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardView {
    pub connections: u64,
    pub sessions: u64,
    /// Since it was last seen to run.
    pub beat_age_ms: u64,
    pub busy_seconds: f64,
    pub stalls: u64,
}

/// A location.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocationView {
    pub location: String,
    pub sessions: u64,
    pub received_bytes: u64,
    pub unfinished_bytes: u64,
    pub uploads: u64,
}

/// A folder of the server's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlaceView {
    pub path: String,
    pub bytes_total: u64,
    pub bytes_free: u64,
}

/// How often something was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountView {
    pub what: String,
    pub count: u64,
}

/// What an order, or a question that makes no sense, comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderOutcome {
    pub ok: bool,
    /// What was done, or why not.
    pub message: String,
}
