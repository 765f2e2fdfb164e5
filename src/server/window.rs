//! What an administrator may ask of a shard: which sessions there are, and that one of them ends.
//!
//! A list comes in slices, in the order of the ids, so that it never holds the shard up and takes
//! the same memory for any number of sessions. Whoever asks goes on behind the last row. So it is
//! no snapshot: each row was true when it was read.
//!
//! A session that is to end is entered when whoever works on it has left: what is being sealed or
//! published comes to its end, and a fragment under way is not stored any more, but read on and
//! answered as one of a session that is gone. A client that heard nothing would wait for ten
//! minutes. Its end goes the usual way through state, record, log and tombstone.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::chronicle::{FolderRow, Happened};
use super::connection::ConnectionId;
use super::floor::World;
use super::glance::{AttachedSlice, NeedySlice};
use super::held::Held;
use super::phase::Phase;
pub use super::rows::{ROWS_MAX, SessionRow};
use super::session::Session;
use super::shard::Shard;
use crate::bits::session::{State, Step};
use crate::bits::session_id::SessionId;

/// An order waits for so many beats of a second: whoever gave it waits for ten seconds.
const ORDER_TICKS: usize = 9;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// The sessions behind this id, or from the first one on; [`ROWS_MAX`] at the most.
    List(Option<SessionId>),
    /// One session.
    Show(SessionId),
    /// That a session ends.
    End(SessionId, How),
    /// Some sessions, by their ids; [`ROWS_MAX`] at the most.
    These(Arc<[SessionId]>),
    /// How far the sessions are whose clients are connected: of connections behind this one.
    Attached(Option<ConnectionId>),
    /// Sessions behind this id that somebody should look at; quiet ones only from so many
    /// milliseconds on.
    Needy(Option<SessionId>, u64),
    /// What happened behind this change.
    Lately(u64),
    /// Folders behind this one.
    Folders(Option<String>),
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
    /// Sessions whose clients are connected.
    Attached(AttachedSlice),
    /// Sessions that somebody should look at.
    Needy(NeedySlice),
    /// What happened, in the order of changes; none where there is no more.
    Lately(Vec<Happened>),
    /// Folders, in the order of their names, none where there is no more; and all that are not
    /// told apart.
    Folders(Vec<FolderRow>, FolderRow),
}

/// Why a session did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEnded {
    /// There is none of that id, or no more.
    Unknown,
    /// A newer connection came for it in the same moment.
    TakenOver,
    /// A request for it is under way that cannot be left.
    Busy,
    /// It is in the middle of getting its name.
    IsPublished,
    /// It has its name, and what goes with it cannot be written now: its line in the custody
    /// ledger, or its digest file.
    Unsettled,
    /// Its disk was not there at the start.
    AwaitsDisk,
    /// The shard is starting or stopping.
    NotNow,
}

impl<W: World> Shard<W> {
    /// Answers a question.
    pub async fn answer(self: &Rc<Self>, question: Inquiry) -> Insight {
        match question {
            Inquiry::List(after) => Insight::Rows(self.rows(after)),
            Inquiry::Show(id) => Insight::Rows(self.row_of(id).into_iter().collect()),
            Inquiry::End(id, how) => Insight::Ended(self.end_by_command(id, how).await),
            Inquiry::These(ids) => {
                let found = ids.iter().take(ROWS_MAX).filter_map(|id| self.session(*id));
                Insight::Rows(found.map(|session| self.row(&session)).collect())
            }
            Inquiry::Attached(after) => Insight::Attached(self.attached_after(after)),
            Inquiry::Needy(after, quiet_ms_min) => {
                Insight::Needy(self.needy_after(after, quiet_ms_min))
            }
            Inquiry::Lately(change) => {
                Insight::Lately(self.world.chronicle().borrow().after(change, ROWS_MAX))
            }
            Inquiry::Folders(after) => {
                let chronicle = self.world.chronicle().borrow();
                let rows = chronicle.folders_after(after.as_deref(), ROWS_MAX);
                Insight::Folders(rows, chronicle.others())
            }
        }
    }

    /// Enters a session by an order, or drops that: whoever gave it waits no longer, and must not
    /// find it carried out after having heard that it was not.
    async fn enter_by_order(
        self: &Rc<Self>,
        session: &Rc<Session<W>>,
    ) -> Result<Held<W>, NotEnded> {
        let mut entered = pin!(Held::for_administrator(self, session));
        for _ in 0..ORDER_TICKS {
            let mut tick = pin!(self.world.tick());
            let entered = poll_fn(|context| match entered.as_mut().poll(context) {
                Poll::Ready(entered) => Poll::Ready(Some(entered)),
                Poll::Pending => tick.as_mut().poll(context).map(|()| None),
            });
            if let Some(entered) = entered.await {
                return entered.map_err(|_| NotEnded::TakenOver);
            }
        }
        Err(NotEnded::Busy)
    }

    async fn end_by_command(self: &Rc<Self>, id: SessionId, how: How) -> Result<(), NotEnded> {
        if self.phase() != Phase::Serving || self.is_over() {
            return Err(NotEnded::NotNow);
        }
        let session = self.session(id).ok_or_else(|| {
            let left = self.store.journal.left(id);
            left.map_or(NotEnded::Unknown, |_| NotEnded::AwaitsDisk)
        })?;
        let mut held = self.enter_by_order(&session).await?;
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
            State::Published { .. } if held.keep().is_unsettled() => Err(NotEnded::Unsettled),
            _ => Err(NotEnded::Busy),
        }
    }
}
