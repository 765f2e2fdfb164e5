//! When to try again, and when no more.

use std::time::{Duration, Instant};

use super::connection::Timeouts;
use super::error::PutError;
use super::upload::Packet;
use super::{Hitch, Options, Watch};

/// When to try again, and when no more.
pub struct Patience {
    retry_for: Duration,
    first_answer_within: Duration,
    /// Whether the server has answered once.
    pub was_answered: bool,
    delay_first: Duration,
    delay: Duration,
    /// When the trouble began: the first hitch since the upload last came forward. Counted from
    /// there and not from the last progress, so that a fragment on a slow line has its retries too.
    since: Option<Instant>,
    /// When the packet was begun that a server answers at once or not at all, if it is one.
    greeted: Option<Instant>,
}

impl Patience {
    pub fn new(options: &Options) -> Self {
        Self {
            retry_for: options.retry_for,
            first_answer_within: options.first_answer_within.min(options.retry_for),
            was_answered: false,
            delay_first: options.retry_delay,
            delay: options.retry_delay,
            since: None,
            greeted: None,
        }
    }

    /// The upload came forward.
    pub fn renew(&mut self) {
        self.since = None;
        self.delay = self.delay_first;
    }

    /// How long to wait for what, now that this packet is to be sent. Nobody has to sync or to ask
    /// anything for a Ping or a Create-Session: who does not answer it is not there, and so the
    /// wait is one of those that find an end by `retry_for`. With the last fragment and with Close
    /// an application may be asked, which takes its time.
    pub fn timeouts(&mut self, packet: &Packet, most: Timeouts) -> Timeouts {
        let is_greeting = matches!(packet, Packet::Ping | Packet::CreateSession);
        self.greeted = is_greeting.then(Instant::now);
        let left = self.left().max(WAIT_MIN);
        Timeouts {
            connect: most.connect.min(left),
            reply: match is_greeting {
                true => most.reply.min(left).min(GREETING_WAIT_MAX),
                false => most.reply,
            },
            ..most
        }
    }

    /// How much longer there may be trouble.
    fn left(&self) -> Duration {
        let retry_for = match self.was_answered {
            true => self.retry_for,
            false => self.first_answer_within,
        };
        retry_for.saturating_sub(self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    pub fn wait(&mut self, hitch: Hitch, watch: &mut dyn Watch) -> Result<(), PutError> {
        let begun = self.greeted.take().unwrap_or_else(Instant::now);
        let after = self.since.get_or_insert(begun).elapsed();
        let left = self.left();
        if left.is_zero() {
            return Err(PutError::GaveUp {
                after,
                last: hitch,
                is_remembered: false,
            });
        }
        let delay = self.delay.min(left);
        watch.waits(&hitch, left);
        std::thread::sleep(delay);
        self.delay = (self.delay * 2).min(DELAY_MAX.max(self.delay_first));
        Ok(())
    }
}

const DELAY_MAX: Duration = Duration::from_secs(5);
const GREETING_WAIT_MAX: Duration = Duration::from_secs(30);
/// So that there is one.
const WAIT_MIN: Duration = Duration::from_millis(100);
