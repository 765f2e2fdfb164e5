//! How an administrator's questions reach a shard, and its answers come back to a thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::admin::VIEWERS_MAX;
use crate::server::window::{Inquiry, Insight};

/// Inquiries that wait for a shard: each viewer has one.
pub const INQUIRIES_MAX: usize = VIEWERS_MAX;

/// What a shard is asked, and where to say it.
pub struct Question {
    pub inquiry: Inquiry,
    answer: SyncSender<Insight>,
    /// Whoever asks waits for so long.
    until: Instant,
}

impl Question {
    /// An inquiry of somebody who waits for so long, and where its answer comes.
    pub fn new(inquiry: Inquiry, patience: Duration) -> (Self, Receiver<Insight>) {
        let (answer, answered) = sync_channel(1);
        let until = Instant::now() + patience;
        let question = Self {
            inquiry,
            answer,
            until,
        };
        (question, answered)
    }

    /// Whether whoever asked has lost patience: what was an order is none any more.
    pub fn is_too_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Answers. Whoever asked may have lost patience.
    pub fn answer(self, insight: Insight) {
        let _ = self.answer.try_send(insight);
    }
}

/// Where the shards are asked.
pub type Windows = Vec<tokio::sync::mpsc::Sender<Question>>;
