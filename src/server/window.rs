//! What an administrator may ask of a shard: which sessions there are, and that one of them ends.
//!
//! A list comes in slices, in the order of the ids, so that it never holds the shard up and takes
//! the same memory for any number of sessions. Whoever asks goes on behind the last row. So it is
//! no snapshot: each row was true when it was read.
//!
//! A session that is to end is entered as a newer connection of its client would enter it: whoever
//! works on it is stopped and awaited, and its end goes the usual way through state, record, log
//! and tombstone.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::floor::World;
use super::held::Held;
use super::session::Session;
use super::shard::{Phase, Shard};
use crate::bits::session::{State, Step};
use crate::bits::session_id::SessionId;
use crate::http::digest::Digests;

/// Rows of one slice: about a tenth of a millisecond of the shard's time.
pub const ROWS_MAX: usize = 256;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// The sessions behind this id, or from the first one on; [`ROWS_MAX`] at the most.
    List(Option<SessionId>),
    /// One session.
    Show(SessionId),
    /// That a session ends.
    End(SessionId, How),
}

/// As what a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// As if its client had cancelled it.
    Cancelled,
    /// As if its time were over.
    Expired,
}

/// What a shard says.
#[derive(Debug)]
pub enum Insight {
    /// Rows, in the order of their ids; none where there is no more.
    Rows(Vec<SessionRow>),
    /// What became of the session that was to end.
    Ended(Result<(), NotEnded>),
}

/// Why a session did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// There is none of that id, or no more.
    Unknown,
    /// A newer connection came for it in the same moment.
    TakenOver,
    /// It is in the middle of getting its name.
    IsPublished,
    /// The shard is starting or stopping.
    NotNow,
}

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
    /// Answers a question.
    pub async fn answer(self: &Rc<Self>, question: Inquiry) -> Insight {
        match question {
            Inquiry::List(after) => Insight::Rows(self.rows(after)),
            Inquiry::Show(id) => {
                let found = self.session(id).map(|session| self.row(&session));
                Insight::Rows(found.into_iter().collect())
            }
            Inquiry::End(id, how) => Insight::Ended(self.end_by_command(id, how).await),
        }
    }

    fn rows(&self, after: Option<SessionId>) -> Vec<SessionRow> {
        let some = self.sessions_after(after, ROWS_MAX);
        some.iter().map(|session| self.row(session)).collect()
    }

    fn row(&self, session: &Session<W>) -> SessionRow {
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

    async fn end_by_command(self: &Rc<Self>, id: SessionId, how: How) -> Result<(), NotEnded> {
        if self.phase() != Phase::Serving || self.is_over() {
            return Err(NotEnded::NotNow);
        }
        let session = self.session(id).ok_or(NotEnded::Unknown)?;
        let entered = Held::for_administrator(self, &session).await;
        let mut held = entered.map_err(|_| NotEnded::TakenOver)?;
        if self.session(id).is_none() {
            // Whoever was there has ended it.
            return Err(NotEnded::Unknown);
        }
        held.command(true);
        let step = match how {
            How::Cancelled => Step::Cancel,
            How::Expired => Step::Expire,
        };
        // What it says is meant for a client.
        let _nobody_hears = held.answer(step).await;
        if self.session(id).is_none() {
            return Ok(());
        }
        held.command(false);
        match held.state() {
            State::Closing { .. } => Err(NotEnded::IsPublished),
            _ => Err(NotEnded::NotNow),
        }
    }
}
