//! What was looked at a moment ago.
//!
//! A busy shard asks the kernel the same thing thousands of times a second: where does the path of
//! a root lead, what does a folder give to its files, does the journal still have a name. Whatever
//! the answer is, somebody may change it before it is acted upon. So a shard that has asked
//! [`LOOKS`] times within [`MOMENT`] trusts its last look until the moment is over, and looks once
//! in the next, if that follows at once. One that has less to do looks each time.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::turn;

/// How long a look is trusted at the most: less than it takes to start a program.
pub const MOMENT: Duration = Duration::from_millis(1);

/// Looks in one moment before the last is trusted for the rest of it.
pub const LOOKS: u32 = 4;

/// The last look at something.
#[derive(Debug)]
pub struct Recent<K, V>(Mutex<Option<Last<K, V>>>);

#[derive(Debug)]
struct Last<K, V> {
    asked: K,
    seen: V,
    /// When this moment began.
    began: Instant,
    /// How often was asked since then.
    asked_times: u32,
    /// It is not looked at again in this moment.
    is_trusted: bool,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Nobody looks while it is locked.
    fn last(&self) -> MutexGuard<'_, Option<Last<K, V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen now, or what was seen a moment ago when the same was asked.
    ///
    /// # Errors
    /// Those of the look, which are not kept.
    pub fn look(&self, asked: K, look: impl FnOnce() -> io::Result<V>) -> io::Result<V> {
        self.look_at(turn::now(), asked, look)
    }

    fn look_at(
        &self,
        now: Instant,
        asked: K,
        look: impl FnOnce() -> io::Result<V>,
    ) -> io::Result<V> {
        let last = self.last().take().filter(|last| last.asked == asked);
        let mut is_busy = false;
        let (mut began, mut asked_times) = (now, 0);
        if let Some(mut last) = last {
            let age = now.saturating_duration_since(last.began);
            if age < MOMENT {
                if last.is_trusted {
                    last.asked_times = last.asked_times.saturating_add(1);
                    let seen = last.seen.clone();
                    *self.last() = Some(last);
                    return Ok(seen);
                }
                (began, asked_times) = (last.began, last.asked_times);
            }
            is_busy = age < 2 * MOMENT && last.asked_times >= LOOKS;
        }
        let seen = look();
        turn::time_has_passed();
        let seen = seen?;
        asked_times += 1;
        *self.last() = Some(Last {
            asked,
            seen: seen.clone(),
            began,
            asked_times,
            is_trusted: is_busy || asked_times >= LOOKS,
        });
        Ok(seen)
    }

    /// Forgets what it saw, and lets go of what it holds.
    pub fn forget(&self) {
        self.last().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_often_is_answered_from_memory_until_the_moment_is_over() {
        let recent = Recent::default();
        let began = Instant::now();
        let ask = |after, seen| recent.look_at(began + after, 1, || Ok(seen)).unwrap();
        let last = MOMENT - Duration::from_nanos(1);
        for look in 0..LOOKS {
            assert_eq!(
                ask(Duration::ZERO, look),
                look,
                "one that asks seldom looks"
            );
        }
        assert_eq!(ask(Duration::ZERO, 100), LOOKS - 1);
        assert_eq!(ask(last, 101), LOOKS - 1);
        assert_eq!(ask(MOMENT, 102), 102, "and that is a new moment");
        assert_eq!(
            ask(MOMENT, 103),
            102,
            "of a shard that was busy in the last"
        );
        let seldom = |number| ask(2 * MOMENT + number, 200);
        assert_eq!(seldom(Duration::ZERO), 200);
        // It had asked twice in the moment before: that is no longer often.
        assert_eq!(ask(2 * MOMENT, 201), 201);
        for look in 300..300 + LOOKS {
            ask(4 * MOMENT, look);
        }
        assert_eq!(ask(6 * MOMENT, 400), 400);
        assert_eq!(ask(6 * MOMENT, 401), 401, "its busy time is long over");
    }

    #[test]
    fn another_question_and_an_error_are_not_answered_from_memory() {
        let recent = Recent::default();
        for seen in 0..2 * LOOKS {
            assert_eq!(recent.look(seen, || Ok(seen)).unwrap(), seen);
        }
        for _ in 0..2 * LOOKS {
            let look = || Err::<u32, _>(io::ErrorKind::NotFound.into());
            recent.look(0, look).unwrap_err();
        }
        assert_eq!(recent.look(0, || Ok(1)).unwrap(), 1);
        recent.forget();
        assert_eq!(recent.look(0, || Ok(2)).unwrap(), 2);
    }
}
