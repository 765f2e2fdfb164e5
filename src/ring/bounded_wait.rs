//! Work of the end that may hang with its disk, and is waited for only so long.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Does some work on a thread of its own, and gives what it comes to; `None` if it takes too long.
/// Where there can be no thread, it is done here, however long it takes: whoever manages the
/// service has a bound for the stop, too.
pub fn within<T: Send + 'static>(
    patience: Duration,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, told) = mpsc::channel();
    // A thread that does not begin drops what it was given.
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<_>>| {
        let taken = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.expect("it is done once")
    };
    let theirs = Arc::clone(&work);
    let run = move || {
        let _nobody_waits = tell.send(take(&theirs)());
    };
    match spawn(Box::new(run)) {
        Ok(()) => told.recv_timeout(patience).ok(),
        Err(_) => Some(take(&work)()),
    }
}

/// Begins a thread for it.
///
/// # Errors
/// There are no more threads.
pub fn spawn_sync(run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    let thread = thread::Builder::new().name("sync".to_owned());
    thread.spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_to_itself() {
        let long = Duration::from_secs(60);
        assert_eq!(within(long, spawn_sync, || 1), Some(1));
        let none = |_| Err(io::ErrorKind::WouldBlock.into());
        assert_eq!(within(long, none, || 2), Some(2), "it is done all the same");
        let (release, held) = mpsc::channel::<()>();
        let hangs = move || held.recv();
        assert!(within(Duration::from_millis(20), spawn_sync, hangs).is_none());
        drop(release);
    }
}
