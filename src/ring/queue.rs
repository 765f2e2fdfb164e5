//! The submission queue of a shard's ring, which must never be full.
//!
//! tokio-uring hands entries to the kernel when the thread is about to wait, and when the queue is
//! full; where the kernel refuses them then (`EAGAIN`, `ENOMEM`: no memory for a request), it
//! panics. So the queue is never filled to its end here. Whoever has an entry for a queue that may
//! be full waits until the kernel has taken some. A refusal is then only a pause, and the entries
//! are offered again each time the thread waits.
//!
//! How full the queue is cannot be seen from outside, but it is bounded: the kernel takes entries
//! in order, so one that completed says that all before it were taken. Where none completed for
//! long, a no-op is sent behind the others to ask.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

/// Submission entries of one ring.
pub const ENTRIES: u32 = 1024;
/// Entries that stay free for the no-op that asks.
const SPARE: u64 = 64;
/// How often the kernel is offered what it refused.
const PULSE: Duration = Duration::from_millis(10);
/// Completion entries of one ring.
const COMPLETION_ENTRIES: u32 = 8192;

/// The settings of every ring. Never DEFER_TASKRUN: tokio-uring hangs with it.
pub fn settings() -> io_uring::Builder {
    let mut settings = io_uring::IoUring::builder();
    settings.setup_cqsize(COMPLETION_ENTRIES);
    // Both save work where the kernel knows them (6.0): one task submits, and completions wait for
    // it.
    let mut with_hints = settings.clone();
    with_hints.setup_single_issuer().setup_coop_taskrun();
    if with_hints.build(8).is_ok() {
        with_hints
    } else {
        settings
    }
}

/// The runtime of a shard.
///
/// # Errors
/// What the kernel says.
pub fn runtime() -> io::Result<tokio_uring::Runtime> {
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&settings());
    tokio_uring::Runtime::new(&builder)
}

thread_local! {
    static QUEUE: Rc<Queue> = Rc::new(Queue {
        pushed: Cell::new(0),
        taken: Cell::new(0),
        room: Cell::new(u64::from(ENTRIES) - SPARE),
        is_asking: Cell::new(false),
        has_answered: Notify::new(),
    });
}

struct Queue {
    /// Entries pushed so far.
    pushed: Cell<u64>,
    /// taken <= pushed; the kernel took so many at least.
    taken: Cell<u64>,
    /// pushed - taken <= room, but for the no-op that asks.
    room: Cell<u64>,
    /// A no-op is under way.
    is_asking: Cell<bool>,
    has_answered: Notify,
}

impl Queue {
    fn has_room(&self) -> bool {
        self.pushed.get() - self.taken.get() < self.room.get()
    }
}

fn queue() -> Rc<Queue> {
    QUEUE.with(Rc::clone)
}

/// Which entry it is among all of its thread, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryNumber(u64);

/// Counts an entry that is pushed now.
pub fn count() -> EntryNumber {
    QUEUE.with(|queue| {
        queue.pushed.set(queue.pushed.get() + 1);
        EntryNumber(queue.pushed.get())
    })
}

/// An entry completed.
pub fn completed(number: EntryNumber) {
    QUEUE.with(|queue| queue.taken.set(queue.taken.get().max(number.0)));
}

/// Whether another entry fits for certain.
pub fn has_room() -> bool {
    QUEUE.with(|queue| queue.has_room())
}

/// Waits until another entry fits. `no_op` puts a no-op at the end of the queue, whether it fits or
/// not.
pub async fn room<N: Future + 'static>(no_op: fn() -> N) {
    if has_room() {
        return;
    }
    let queue = queue();
    while !queue.has_room() {
        let answer = queue.has_answered.notified();
        if !queue.is_asking.replace(true) {
            ask(&queue, no_op());
        }
        answer.await;
    }
}

/// Sends a no-op behind all that waits. When it completes, the kernel has taken them.
fn ask(queue: &Rc<Queue>, no_op: impl Future + 'static) {
    let question = Question(Rc::clone(queue));
    tokio_uring::spawn(async move {
        let _question = question;
        no_op.await;
    });
    // It may be that nothing else wakes the thread; and it submits only when it is about to wait.
    let queue = Rc::clone(queue);
    tokio_uring::spawn(async move {
        while queue.is_asking.get() {
            tokio::time::sleep(PULSE).await;
        }
    });
}

/// A no-op under way, however it ends.
struct Question(Rc<Queue>);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.is_asking.set(false);
        self.0.has_answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::super::op;
    use super::*;

    #[test]
    fn a_kernel_that_takes_nothing_makes_everybody_wait() {
        // A ring that is not enabled refuses all entries (EBADFD), as one without memory does
        // (EAGAIN).
        let mut settings = io_uring::IoUring::builder();
        settings.setup_r_disabled();
        let mut builder = tokio_uring::builder();
        builder.entries(8).uring_builder(&settings);
        let runtime = tokio_uring::Runtime::new(&builder).unwrap();
        queue().room.set(4);
        let pushed = runtime.block_on(async {
            for _ in 0..100 {
                tokio_uring::spawn(op::give_way());
            }
            // The others go on meanwhile, and the kernel is asked again and again.
            tokio::time::sleep(10 * PULSE).await;
            queue().pushed.get()
        });
        assert_eq!(pushed, 5, "four, and the one that asks");
        // At its end it would wait for what never completes.
        std::mem::forget(runtime);
    }

    #[test]
    fn more_than_fit_are_all_taken_in_turns() {
        let mut builder = tokio_uring::builder();
        builder.entries(8);
        queue().room.set(4);
        let left = builder.start(async {
            let tasks: Vec<_> = (0..1_000)
                .map(|_| tokio_uring::spawn(op::give_way()))
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            queue().pushed.get() - queue().taken.get()
        });
        assert_eq!(left, 0);
    }
}
