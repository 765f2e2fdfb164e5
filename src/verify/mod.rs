//! Threads that try passwords: comparing one with its hash takes milliseconds to seconds, on
//! purpose, and must not hold up a shard.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use crate::auth::hash::{Attempt, TooManyAttempts};

/// Threads. More would leave less for uploads, and passwords are remembered once they are right.
const THREADS: usize = 2;
/// Attempts that wait at the most.
const QUEUE_MAX: usize = 256;

/// The way to the threads.
#[derive(Clone, Debug)]
pub struct Verifier {
    sender: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Job {
    attempt: Attempt,
    told: oneshot::Sender<bool>,
}

impl Verifier {
    /// Without threads; each attempt hears [`TooManyAttempts`].
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
    pub fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel::<Job>(QUEUE_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        let waiting = Arc::new(AtomicUsize::new(0));
        for _ in 0..THREADS {
            let (receiver, waiting) = (Arc::clone(&receiver), Arc::clone(&waiting));
            let work = move || {
                while let Some(job) = next(&receiver) {
                    if job.told.is_closed() {
                        // The client left; an attempt for nobody only keeps others waiting.
                        waiting.fetch_sub(1, Ordering::Relaxed);
                        continue;
                    }
                    let is_right = job.attempt.hash.verify(&job.attempt.password);
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    // Whoever asked may be gone.
                    let _ = job.told.send(is_right);
                }
            };
            thread::Builder::new()
                .name("verify".to_owned())
                .spawn(work)?;
        }
        Ok(Self {
            sender: Some(sender),
            waiting,
        })
    }

    /// Whether this is the password.
    ///
    /// # Errors
    /// [`TooManyAttempts`]
    pub async fn verify(&self, attempt: Attempt) -> Result<bool, TooManyAttempts> {
        let sender = self.sender.as_ref().ok_or(TooManyAttempts)?;
        let (told, verdict) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        match sender.try_send(Job { attempt, told }) {
            Ok(()) => verdict.await.map_err(|_| TooManyAttempts),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(TooManyAttempts)
            }
        }
    }

    /// Attempts that wait or are under way.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a thread that has nothing else to do"
)]
fn next(receiver: &Mutex<Receiver<Job>>) -> Option<Job> {
    // One thread waits in the queue, the other one for its turn to.
    let receiver = receiver.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use crate::auth::hash::PasswordHash;
    use std::future::Future as _;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Of `sesame`.
    const HASH: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";
    /// It takes a while: no attempt with it ends before the queue is full.
    const SLOW: &str = "$2y$12$/FLdgVBgKbHKQmjZY1JisOCmDrrqFxKdodD7DQfqTT9PalXLnPMyO";

    fn attempt(hash: &str, password: &[u8]) -> Attempt {
        Attempt {
            password: Zeroizing::new(password.to_vec()),
            hash: PasswordHash::parse(hash).unwrap(),
        }
    }

    fn ask(verifier: &Verifier, hash: &str, password: &[u8]) -> Result<bool, TooManyAttempts> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime
            .unwrap()
            .block_on(verifier.verify(attempt(hash, password)))
    }

    #[test]
    fn passwords_are_tried_elsewhere() {
        let verifier = Verifier::start().unwrap();
        assert_eq!(ask(&verifier, HASH, b"sesame"), Ok(true));
        assert_eq!(ask(&verifier, HASH, b"other"), Ok(false));
        assert_eq!(verifier.waiting(), 0);
        assert_eq!(
            ask(&Verifier::idle(), HASH, b"sesame"),
            Err(TooManyAttempts)
        );
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_told_at_once() {
        let verifier = Verifier::start().unwrap();
        let mut refused = 0;
        let mut pending = Vec::new();
        for _ in 0..QUEUE_MAX + THREADS + 10 {
            let verifier = verifier.clone();
            let mut verdict = Box::pin(async move { verifier.verify(attempt(SLOW, b"x")).await });
            // Polled once, it is in the queue or refused.
            let mut context = Context::from_waker(Waker::noop());
            match verdict.as_mut().poll(&mut context) {
                Poll::Ready(Err(TooManyAttempts)) => refused += 1,
                Poll::Ready(Ok(_)) | Poll::Pending => pending.push(verdict),
            }
        }
        assert!(refused >= 8, "{refused} of those that did not fit");
        assert!(verifier.waiting() <= QUEUE_MAX + THREADS);
    }
}
