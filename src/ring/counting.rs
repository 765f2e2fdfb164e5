//! Where what happens on a shard goes: into the log, into what is counted, and before the eyes of
//! whoever watches packets.
//!
//! A shard is a thread, so what it counts is found by the thread: files, journals and turns need
//! no handle to it.

use std::cell::OnceCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::turn;

use crate::admin::trace::Tap;
use crate::event::{DiskOp, Event};
use crate::metrics::shard::ShardMetrics;
use crate::observe;

thread_local! {
    static METRICS: OnceCell<(Arc<ShardMetrics>, Arc<Tap>)> = const { OnceCell::new() };
}

/// What this thread does from now on is counted here.
pub fn begin(metrics: &Arc<ShardMetrics>, tap: &Arc<Tap>) {
    METRICS.with(|ours| {
        let _is_set_once = ours.set((Arc::clone(metrics), Arc::clone(tap)));
    });
}

/// Tells what happened.
pub fn tell(shard: usize, event: &Event<'_>) {
    METRICS.with(|ours| {
        if let Some((metrics, tap)) = ours.get() {
            metrics.on(event);
            tap.show(shard, event);
        }
    });
    observe::log(shard, event);
}

/// Tells of the long turns of a shard.
pub fn tell_of_stalls(shard: usize) -> impl Fn(&'static str, u64) {
    move |what, ms| tell(shard, &Event::Stalled { what, ms })
}

/// Times what is done to the disk.
pub fn timed<T>(op: DiskOp, work: impl Future<Output = T>) -> impl Future<Output = T> {
    Timed {
        work,
        op,
        began: None,
    }
}

pin_project! {
    /// Work that is timed. An `async fn` around it would keep room for it twice.
    struct Timed<F> {
        #[pin]
        work: F,
        op: DiskOp,
        began: Option<Instant>,
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let timed = self.project();
        let began = *timed.began.get_or_insert_with(turn::now);
        let done = ready!(timed.work.poll(context));
        METRICS.with(|ours| {
            if let Some((metrics, _)) = ours.get() {
                let took = turn::now().saturating_duration_since(began);
                metrics.took(*timed.op, microseconds_of(took));
            }
        });
        Poll::Ready(done)
    }
}

fn microseconds_of(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Bytes reached their file by one of [`crate::metrics::labels::ROUTES`].
pub fn wrote(route: usize, written: &io::Result<usize>) {
    let Ok(bytes) = written else {
        return;
    };
    METRICS.with(|ours| {
        if let Some((metrics, _)) = ours.get() {
            metrics.written[route].add(*bytes as u64);
        }
    });
}

/// Microseconds of the exact clock.
pub fn now_us() -> u64 {
    microseconds(rustix::time::ClockId::Monotonic)
}

/// Processor time of this thread, in microseconds.
pub fn busy_us() -> u64 {
    microseconds(rustix::time::ClockId::ThreadCPUTime)
}

fn microseconds(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("these clocks start at zero");
    let micros = u64::try_from(time.tv_nsec / 1_000).expect("not negative");
    seconds * 1_000_000 + micros
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Hangup;
    use crate::metrics::labels;

    #[test]
    fn a_thread_counts_what_happens_on_it() {
        let (one, other) = (Arc::<ShardMetrics>::default(), Arc::default());
        for metrics in [&one, &other] {
            let metrics = Arc::clone(metrics);
            let thread = std::thread::spawn(move || {
                begin(&metrics, &Arc::default());
                let why = Hangup::Idle;
                let peer = ([127, 0, 0, 1], 1).into();
                tell(0, &Event::HungUp { peer, why });
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.unwrap().block_on(timed(DiskOp::Sync, async {}));
            });
            thread.join().unwrap();
        }
        let idle = labels::hangup(Hangup::Idle);
        for metrics in [one, other] {
            assert_eq!(metrics.hangups[idle].get(), 1);
            assert_eq!(metrics.disk[1].len(), 1);
            assert!(metrics.disk[0].is_empty());
        }
    }
}
