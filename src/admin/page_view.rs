//! What the page and `bitsd status` show besides the numbers of [`super::view`], in JSON.

use serde::{Deserialize, Serialize};

use super::health::Reason;
use super::view::{SessionView, StatusView};
use crate::bits::refusal::Reaction;
use crate::bits::session::Ending;
use crate::bits::session_id::SessionId;
use crate::diagnosis;
use crate::metrics::labels;
use crate::server::chronicle::{Happened, What};

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HappenedView {
    /// The same if it happens again.
    pub id: String,
    /// Since 1970.
    pub at_ms: u64,
    /// `refused`, or how an upload ended.
    pub what: String,
    /// A file arrived.
    pub is_good: bool,
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The beginning of its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What helps, where somebody here can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What its client does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// How often.
    pub times: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

impl HappenedView {
    /// Of what a shard remembers.
    pub fn of(shard: usize, row: Happened, wall_ms: impl Fn(u64) -> u64) -> Self {
        let view = Self {
            id: format!("{shard}-{}", row.id),
            at_ms: wall_ms(row.at_ms),
            path: format!("/{}", row.path.trim_start_matches('/')),
            client: row
                .client
                .map(|client| client.ip().to_canonical().to_string()),
            user: row.user,
            session: row.session.map(short),
            times: row.times,
            ..Self::default()
        };
        match row.what {
            What::Refused(why) => Self {
                what: "refused".to_owned(),
                remedy: diagnosis::remedy(&why).map(str::to_owned),
                then: Some(then(why.reaction()).to_owned()),
                why: Some(why.to_string()),
                ..view
            },
            What::Ended {
                ending,
                by_administrator,
                bytes,
                duration_ms,
            } => Self {
                what: labels::ENDINGS[labels::ending((ending, by_administrator))].to_owned(),
                is_good: ending.is_good(),
                why: why_ended(ending, by_administrator).map(str::to_owned),
                bytes: Some(bytes),
                duration_ms,
                ..view
            },
        }
    }
}

fn then(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Obeys => "it goes on",
        Reaction::StartsAgain => "it begins again by itself",
        Reaction::ComesBack => "it comes back by itself",
        Reaction::GivesUp => "its job ends in an error",
    }
}

fn why_ended(ending: Ending, by_administrator: bool) -> Option<&'static str> {
    match (ending, by_administrator) {
        (Ending::Published | Ending::Delivered, _) => None,
        (_, true) => Some("an administrator ended it"),
        (Ending::Denied, _) => Some("its application refused the file"),
        (Ending::Incomplete, _) => Some("its client closed it before the last byte"),
        (Ending::Cancelled, _) => Some("its client cancelled it"),
        (Ending::Expired, _) => Some("no progress for the session time-out"),
        (Ending::Poisoned, _) => Some("the disk failed under it; its client begins again"),
    }
}

/// Of an id as much as can be shown to anybody, and is enough for a command.
pub fn short(id: SessionId) -> String {
    id.plain().to_string().chars().take(SHORT_CHARS).collect()
}

/// The first group of an id.
const SHORT_CHARS: usize = 8;

/// A folder: who has delivered, and who has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderView {
    /// With a slash before it; empty for all that are not told apart.
    pub folder: String,
    /// Since 1970; absent if no file came since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at_ms: Option<u64>,
    pub files: u64,
    pub bytes: u64,
    pub open: u64,
}

/// An upload that somebody should look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeedView {
    /// `events`, `refused`, `application`, `publication`, `quiet` or `unclosed`.
    pub need: String,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What its client does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<String>,
    /// Since 1970: when it was refused last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    pub times: u64,
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Absent where it was refused before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionView>,
}

impl NeedView {
    /// Whether it waits for somebody here, and not for its client.
    pub fn is_ours(&self) -> bool {
        self.remedy.is_some() || matches!(&*self.need, "application" | "publication")
    }
}

/// What is stuck, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AttentionView {
    /// Those that wait for somebody here first.
    pub needs: Vec<NeedView>,
    /// Quiet ones, also those that are not shown.
    pub quiet: u64,
    /// A shard has not answered.
    pub is_partial: bool,
}

/// An upload whose client is connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BusyView {
    pub session: SessionView,
    pub bytes_per_second: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_seconds: Option<u64>,
}

/// Whether all is well, in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictView {
    /// `well`, `attention`, `not_ready` or `not_live`.
    pub state: String,
    pub sentence: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Further reasons.
    pub more: Vec<Reason>,
}

impl VerdictView {
    /// Without numbers that change each second: it is read aloud when it changes.
    pub fn of(status: &StatusView, attention: &AttentionView) -> Self {
        let mut reasons = status.reasons.iter();
        if let Some(first) = reasons.next() {
            let (state, before) = match status.is_live {
                true => ("not_ready", "New uploads are not taken"),
                false => ("not_live", "The server is stuck"),
            };
            return Self {
                state: state.to_owned(),
                sentence: format!("{before}: {}.", first.why),
                remedy: Some(first.remedy.clone()),
                more: reasons.cloned().collect(),
            };
        }
        let ours: Vec<_> = attention
            .needs
            .iter()
            .filter(|need| need.is_ours())
            .collect();
        let Some(first) = ours.first() else {
            return Self {
                state: "well".to_owned(),
                sentence: "All is well: new uploads are taken.".to_owned(),
                ..Self::default()
            };
        };
        let count = match ours.len() {
            1 => "one upload needs".to_owned(),
            count => format!("{count} uploads need"),
        };
        Self {
            state: "attention".to_owned(),
            sentence: format!(
                "New uploads are taken, but {count} attention: {}.",
                first.why
            ),
            remedy: first.remedy.clone(),
            more: Vec::new(),
        }
    }
}

/// What viewers of the page get each second.
#[derive(Clone, Debug, Serialize)]
pub struct FrameView {
    /// One more each time: a viewer sees whether it missed one.
    pub number: u64,
    pub at_ms: u64,
    pub verdict: VerdictView,
    pub status: StatusView,
    pub attention: AttentionView,
    pub busy: Vec<BusyView>,
    /// What is new, or happened again.
    pub lately: Vec<HappenedView>,
    /// The last one.
    pub sample: Option<super::samples::Sample>,
}

/// What a viewer gets first.
#[derive(Debug, Serialize)]
pub struct HistoryView<'s> {
    pub seconds: Vec<&'s super::samples::Sample>,
    pub minutes: Vec<&'s super::samples::Sample>,
    pub lately: Vec<&'s HappenedView>,
}
