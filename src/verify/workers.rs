//! A queue with a bound, and threads that work it off.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::processors;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the threads.
#[derive(Clone, Debug)]
pub struct Workers {
    sender: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
}

/// As much waits as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Workers {
    /// Without threads; it is always full.
    pub fn idle() -> Self {
        Self {
            sender: None,
            waiting: Arc::default(),
        }
    }

    /// Starts the threads; they end with the last of the clones.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(name: &str, threads: usize, queue_max: usize) -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Job>(queue_max);
        let receiver = Arc::new(Mutex::new(receiver));
        let waiting = Arc::new(AtomicUsize::new(0));
        for _ in 0..threads {
            let (receiver, waiting) = (Arc::clone(&receiver), Arc::clone(&waiting));
            let work = move || {
                processors::leave_to_shards();
                while let Some(job) = next(&receiver) {
                    job();
                    waiting.fetch_sub(1, Ordering::Relaxed);
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(work)?;
        }
        Ok(Self {
            sender: Some(sender),
            waiting,
        })
    }

    /// Has something done on one of the threads. If nobody waits for it any more when its turn
    /// comes, it is not done: work for nobody only keeps others waiting.
    ///
    /// # Errors
    /// [`Full`]
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Full> {
        let sender = self.sender.as_ref().ok_or(Full)?;
        let (tell, told) = oneshot::channel();
        let job = Box::new(move || {
            if !tell.is_closed() {
                // Whoever asked may be gone by then.
                let _ = tell.send(work());
            }
        });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match sender.try_send(job) {
            Ok(()) => told.await.map_err(|_| Full),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(Full)
            }
        }
    }

    /// What waits or is under way.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread that has nothing else to do"
)]
fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    // One thread waits in the queue, the others for their turn to.
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn what_does_not_fit_into_the_queue_is_told_at_once_and_what_nobody_awaits_is_not_done() {
        let workers = Workers::start("test", 2, 4).unwrap();
        let (begun, begins) = mpsc::channel();
        let (done, is_done) = mpsc::channel();
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let mut pending = Vec::new();
        let mut poll = |number: i32| {
            let (workers, gate) = (workers.clone(), Arc::clone(&gate));
            let (begun, done) = (begun.clone(), done.clone());
            let work = move || {
                begun.send(number).unwrap();
                drop(gate.lock().unwrap());
                done.send(number).unwrap();
            };
            let mut run = Box::pin(async move { workers.run(work).await });
            // Polled once, it is in the queue or refused.
            let polled = run.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_pending() {
                pending.push(run);
            }
            polled
        };
        for number in 0..2 {
            assert_eq!(poll(number), Poll::Pending);
            begins.recv().unwrap();
        }
        for number in 2..6 {
            assert_eq!(poll(number), Poll::Pending);
        }
        assert_eq!(poll(6), Poll::Ready(Err(Full)));
        assert_eq!(workers.waiting(), 6);
        // Nobody waits for the last two.
        pending.truncate(4);
        drop(closed);
        let mut seen: Vec<i32> = (0..4).map(|_| is_done.recv().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        drop((pending, workers, begun, done));
        assert!(is_done.recv().is_err(), "the threads have ended");
    }
}
