//! How long the turns of a shard's tasks take.
//!
//! A shard is one thread: while one of its tasks has its turn, nobody else is served. A turn that
//! lasts longer than `LONG` is told of, with what took the time, as far as
//! somebody has said so.
//!
//! Every turn is timed by the coarse clock, which costs a few nanoseconds and moves every 4 ms on
//! most kernels. Disk calls are timed exactly. So a turn that waits for the disk is told of from
//! exactly `LONG` on, and one that computes, or waits for its core, from about that.
//!
//! The exact clock is read once for each disk call and not twice: one begins, for this, when the
//! one before it in its turn has ended. What is computed between them takes microseconds.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::coarse_clock;
use crate::vault::disk::millis;

/// A turn may last so long.
const LONG: Duration = Duration::from_millis(10);

/// What this turn has spent on disk calls.
#[derive(Clone, Copy, Default)]
struct Spent {
    all: Duration,
    longest: Duration,
    what: &'static str,
}

/// What a thread remembers of the exact clock.
#[derive(Clone, Copy)]
enum Reading {
    /// Nothing: it has no turns.
    Never,
    /// Nothing yet in this turn, or something has taken its time since.
    Old,
    /// This, a moment ago.
    At(Instant),
}

thread_local! {
    static READING: Cell<Reading> = const { Cell::new(Reading::Never) };
    static SPENT: Cell<Spent> = const {
        Cell::new(Spent { all: Duration::ZERO, longest: Duration::ZERO, what: "" })
    };
}

/// A disk call of this turn took so long.
pub fn spent(what: &'static str, took: Duration) {
    let mut spent = SPENT.get();
    spent.all += took;
    if took > spent.longest {
        spent.longest = took;
        spent.what = what;
    }
    SPENT.set(spent);
}

/// The exact clock, as it was at the end of the last disk call of this turn; as it is if there was
/// none.
pub fn now() -> Instant {
    match READING.get() {
        Reading::At(instant) => instant,
        Reading::Old | Reading::Never => look(),
    }
}

/// The exact clock as it is.
pub fn look() -> Instant {
    let instant = Instant::now();
    if !matches!(READING.get(), Reading::Never) {
        READING.set(Reading::At(instant));
    }
    instant
}

/// Something has taken its time: [`now`] is to look again.
pub fn time_has_passed() {
    if let Reading::At(_) = READING.get() {
        READING.set(Reading::Old);
    }
}

/// Times the turns of a task, and tells of the long ones: what took how many milliseconds.
pub fn timed<T>(
    task: impl Future<Output = T>,
    tell: impl Fn(&'static str, u64),
) -> impl Future<Output = T> {
    Timed { task, tell }
}

pin_project! {
    /// A task whose turns are timed. An `async fn` around it would keep room for it three times: as
    /// an argument, as a variable, and where it is awaited.
    struct Timed<F, T> {
        #[pin]
        task: F,
        tell: T,
    }
}

impl<F: Future, T: Fn(&'static str, u64)> Future for Timed<F, T> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let timed = self.project();
        let began = coarse_clock::ms();
        READING.set(Reading::Old);
        let polled = timed.task.poll(context);
        READING.set(Reading::Never);
        let took = Duration::from_millis(coarse_clock::ms().saturating_sub(began));
        let spent = SPENT.take();
        let took = took.max(spent.all);
        if took > LONG {
            let what = match 2 * spent.all >= took {
                true => spent.what,
                false => "computing, or waiting for its core",
            };
            (timed.tell)(what, millis(took));
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::thread;

    use super::*;
    use crate::ring::afoot::Afoot;

    #[test]
    fn what_a_turn_has_read_of_the_clock_is_old_in_the_next() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let task = async {
            let first = look();
            assert_eq!(now(), first);
            time_has_passed();
            let second = now();
            assert!(second >= first);
            assert_eq!(now(), second);
            tokio::task::yield_now().await;
            let before = Instant::now();
            assert!(now() >= before);
        };
        let tell = |_, _| {};
        runtime.unwrap().block_on(Timed { task, tell });
        let before = Instant::now();
        assert!(now() >= before, "outside of turns nothing is remembered");
    }

    #[test]
    fn a_task_takes_its_space_once() {
        let task = async {
            let kept = [0_u8; 1_000];
            tokio::task::yield_now().await;
            assert_eq!(kept.len(), 1_000);
        };
        let alone = size_of_val(&task);
        let counted = Afoot::default().begin().during(task);
        let spawned = size_of_val(&timed(counted, |_, _| {}));
        assert!(spawned <= alone + 32, "{spawned} for {alone}");
    }

    #[test]
    fn a_long_turn_is_told_of_with_what_took_the_time() {
        let told = RefCell::new(Vec::new());
        let tell = |what, ms| told.borrow_mut().push((what, ms));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let task = async {
                spent("a", Duration::from_millis(2));
                spent("b", Duration::from_millis(5));
                tokio::task::yield_now().await;
                spent("c", Duration::from_millis(4));
                spent("d", Duration::from_millis(9));
                tokio::task::yield_now().await;
                thread::sleep(Duration::from_millis(60));
            };
            Timed { task, tell }.await;
        });
        let told = told.into_inner();
        // A machine that is busy makes turns longer, and more of them long.
        let is_told = |what, ms| told.iter().any(|told| told.0 == what && told.1 >= ms);
        assert!(is_told("d", 13), "{told:?}");
        assert!(
            is_told("computing, or waiting for its core", 50),
            "{told:?}"
        );
    }
}
