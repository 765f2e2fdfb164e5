//! What is begun at the first need of it, such as a thread. Where that fails it is tried again
//! after a pause: a server that was short of something for a moment is not to be without it for
//! ever.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(5);

/// What is begun at the first need.
#[derive(Debug)]
pub struct Begun<T> {
    begun: OnceLock<T>,
    /// When the last try failed; held while one is under way, so that nobody begins it twice.
    failed_at: Mutex<Option<Instant>>,
}

impl<T> Default for Begun<T> {
    fn default() -> Self {
        Self {
            begun: OnceLock::new(),
            failed_at: Mutex::default(),
        }
    }
}

impl<T> Begun<T> {
    /// It, if it was begun.
    pub fn get(&self) -> Option<&T> {
        self.begun.get()
    }

    /// It; begun now, unless that failed a moment ago. `begin` hears whether it is the first try.
    pub fn get_or_begin(&self, begin: impl FnOnce(bool) -> Option<T>) -> Option<&T> {
        match self.get() {
            None => self.try_to_begin(begin, PAUSE),
            begun => begun,
        }
    }

    fn try_to_begin(&self, begin: impl FnOnce(bool) -> Option<T>, pause: Duration) -> Option<&T> {
        let mut failed_at = (self.failed_at.lock()).unwrap_or_else(PoisonError::into_inner);
        let is_too_soon = failed_at.is_some_and(|failed_at| failed_at.elapsed() < pause);
        if self.begun.get().is_none() && !is_too_soon {
            match begin(failed_at.is_none()) {
                Some(begun) => drop(self.begun.set(begun)),
                None => *failed_at = Some(Instant::now()),
            }
        }
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_begun_is_tried_again_after_a_pause_and_not_before() {
        let begun = Begun::default();
        let fails = |is_first: bool| {
            assert!(is_first);
            None
        };
        assert_eq!(begun.get_or_begin(fails), None);
        assert_eq!(begun.get_or_begin(|_| panic!("too soon")), None);
        let succeeds = |is_first: bool| (!is_first).then_some(7);
        assert_eq!(begun.try_to_begin(succeeds, Duration::ZERO), Some(&7));
        assert_eq!(begun.get_or_begin(|_| panic!("it is there")), Some(&7));
    }
}
