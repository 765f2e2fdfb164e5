//! When to try again, and when no more.

use std::time::{Duration, Instant};

use super::error::PutError;
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
        }
    }

    /// The upload came forward.
    pub fn renew(&mut self) {
        self.since = None;
        self.delay = self.delay_first;
    }

    pub fn wait(&mut self, hitch: Hitch, watch: &mut dyn Watch) -> Result<(), PutError> {
        let after = self.since.get_or_insert_with(Instant::now).elapsed();
        let retry_for = match self.was_answered {
            true => self.retry_for,
            false => self.first_answer_within,
        };
        let left = retry_for.saturating_sub(after);
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
