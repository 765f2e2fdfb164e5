//! Turns among the tasks of one shard: one passes at a time, and many who want the same sync share
//! one.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

/// Lets one through at a time.
#[derive(Default)]
pub struct Gate {
    is_taken: Cell<bool>,
    /// As many as there are connections at the most.
    waiting: RefCell<Vec<Waker>>,
}

/// The turn; over when dropped.
pub struct Turn<'a>(&'a Gate);

impl Gate {
    /// Waits for the turn.
    pub async fn turn(&self) -> Turn<'_> {
        poll_fn(|context| {
            if self.is_taken.replace(true) {
                self.waiting.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Turn(self))
        })
        .await
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.is_taken.set(false);
        self.0.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// A sync that many may ask for at once. One that begins after they asked is good for all of them;
/// if it fails, it failed for all of them, and none may try again.
#[derive(Default)]
pub struct SharedSync {
    gate: Gate,
    /// Requests so far.
    asked: Cell<u64>,
    /// Requests that a sync which succeeded came after.
    done: Cell<u64>,
    /// The last request that a sync which failed came after, and its error.
    failed: RefCell<Option<(u64, io::ErrorKind, Option<i32>)>>,
}

impl SharedSync {
    /// Returns when a sync that began after this call has ended.
    ///
    /// # Errors
    /// Of that sync.
    pub async fn ask<F: Future<Output = io::Result<()>>>(
        &self,
        sync: impl FnOnce() -> F,
    ) -> io::Result<()> {
        let ticket = self.asked.get() + 1;
        self.asked.set(ticket);
        let _turn = self.gate.turn().await;
        if self.done.get() >= ticket {
            return Ok(());
        }
        if let Some((until, kind, code)) = *self.failed.borrow()
            && until >= ticket
        {
            return Err(code.map_or_else(|| kind.into(), io::Error::from_raw_os_error));
        }
        let until = self.asked.get();
        let result = sync().await;
        match &result {
            Ok(()) => self.done.set(until),
            Err(error) => {
                *self.failed.borrow_mut() = Some((until, error.kind(), error.raw_os_error()));
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    /// Polls once.
    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// A sync that takes until it is told its result.
    fn sync<'a>(
        begun: &'a Cell<u32>,
        result: &'a RefCell<Option<io::Result<()>>>,
    ) -> impl FnOnce() -> std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + 'a>> {
        move || {
            begun.set(begun.get() + 1);
            Box::pin(poll_fn(|_| match result.borrow_mut().take() {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending,
            }))
        }
    }

    #[test]
    fn those_who_wait_share_the_next_sync() {
        let (begun, result) = (Cell::new(0), RefCell::new(None));
        let shared = SharedSync::default();
        let mut first = pin!(shared.ask(sync(&begun, &result)));
        assert!(poll(first.as_mut()).is_none());
        let mut second = pin!(shared.ask(sync(&begun, &result)));
        let mut third = pin!(shared.ask(sync(&begun, &result)));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        *result.borrow_mut() = Some(Ok(()));
        assert!(matches!(poll(first.as_mut()), Some(Ok(()))));
        // The first one's sync began before they asked: theirs is another one.
        assert!(poll(second.as_mut()).is_none());
        assert_eq!(begun.get(), 2);
        *result.borrow_mut() = Some(Ok(()));
        assert!(matches!(poll(second.as_mut()), Some(Ok(()))));
        assert!(matches!(poll(third.as_mut()), Some(Ok(()))));
        assert_eq!(begun.get(), 2);
    }

    #[test]
    fn a_sync_that_failed_has_failed_for_all_who_asked_before_it() {
        let (begun, result) = (Cell::new(0), RefCell::new(None));
        let shared = SharedSync::default();
        let mut first = pin!(shared.ask(sync(&begun, &result)));
        assert!(poll(first.as_mut()).is_none());
        let mut second = pin!(shared.ask(sync(&begun, &result)));
        let mut third = pin!(shared.ask(sync(&begun, &result)));
        assert!(poll(second.as_mut()).is_none() && poll(third.as_mut()).is_none());
        *result.borrow_mut() = Some(Ok(()));
        assert!(poll(first.as_mut()).is_some());
        assert!(poll(second.as_mut()).is_none());
        *result.borrow_mut() = Some(Err(io::Error::from_raw_os_error(5)));
        assert!(poll(second.as_mut()).unwrap().is_err());
        let third = poll(third.as_mut()).unwrap().unwrap_err();
        assert_eq!((third.raw_os_error(), begun.get()), (Some(5), 2));
        // Whoever asks later has a sync of its own.
        let mut fourth = pin!(shared.ask(sync(&begun, &result)));
        *result.borrow_mut() = Some(Ok(()));
        assert!(poll(fourth.as_mut()).unwrap().is_ok());
    }
}
