//! Turns among the tasks of one shard: one passes at a time, and many who want the same sync share
//! one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

/// Lets one through at a time, in the order in which they came.
#[derive(Default)]
pub struct Gate {
    is_taken: Cell<bool>,
    /// Numbers that were drawn so far.
    drawn: Cell<u64>,
    /// The numbers of those who wait, in order; each has one place. As many as there are
    /// connections at the most, and a few tasks of the shard.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    /// Whose turn it is, and who has not come for it yet.
    called: Cell<Option<u64>>,
}

/// The turn; over when dropped.
pub struct Turn<'a>(&'a Gate);

/// Somebody who waits, or is about to.
struct Queued<'a> {
    gate: &'a Gate,
    number: Option<u64>,
}

impl Gate {
    /// Waits for the turn.
    pub async fn turn(&self) -> Turn<'_> {
        let mut queued = self.queued();
        poll_fn(move |context| queued.poll(context)).await
    }

    fn queued(&self) -> Queued<'_> {
        Queued {
            gate: self,
            number: None,
        }
    }

    fn waiting_len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Lets the first ones look at once, whosever turn it is.
    fn wake_first(&self, count: usize) {
        let waiting = self.waiting.borrow();
        let first = waiting.iter().take(count);
        first.for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// The turn goes to the next one: to wake all of them would let each look in vain for each that
    /// is before it.
    fn pass_on(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        match next {
            Some((number, waker)) => {
                self.called.set(Some(number));
                waker.wake();
            }
            None => self.is_taken.set(false),
        }
    }

    fn position_of(&self, number: u64) -> Option<usize> {
        let waiting = self.waiting.borrow();
        let found = waiting.binary_search_by_key(&number, |(number, _)| *number);
        found.ok()
    }
}

impl<'a> Queued<'a> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Turn<'a>> {
        let gate = self.gate;
        let Some(number) = self.number else {
            if !gate.is_taken.replace(true) {
                return Poll::Ready(Turn(gate));
            }
            let number = gate.drawn.get();
            gate.drawn.set(number + 1);
            self.number = Some(number);
            let waiting = (number, context.waker().clone());
            gate.waiting.borrow_mut().push_back(waiting);
            return Poll::Pending;
        };
        if gate.called.get() == Some(number) {
            gate.called.set(None);
            self.number = None;
            return Poll::Ready(Turn(gate));
        }
        if let Some(at) = gate.position_of(number) {
            let waker = context.waker().clone();
            let before = std::mem::replace(&mut gate.waiting.borrow_mut()[at].1, waker);
            // Whatever goes with it may look at the gate.
            drop(before);
        }
        Poll::Pending
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else {
            return;
        };
        if self.gate.called.get() == Some(number) {
            self.gate.called.set(None);
            self.gate.pass_on();
        } else if let Some(at) = self.gate.position_of(number) {
            let left = self.gate.waiting.borrow_mut().remove(at);
            drop(left);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pass_on();
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
        let number = self.asked.get() + 1;
        self.asked.set(number);
        let mut queued = self.gate.queued();
        let turn_or_outcome = poll_fn(|context| match self.outcome(number) {
            Some(outcome) => Poll::Ready(Err(outcome)),
            None => queued.poll(context).map(Ok),
        });
        let _turn = match turn_or_outcome.await {
            Ok(turn) => turn,
            Err(outcome) => return outcome,
        };
        // They asked in the order in which they wait.
        let (until, sharing) = (self.asked.get(), self.gate.waiting_len());
        let result = sync().await;
        match &result {
            Ok(()) => self.done.set(until),
            Err(error) => {
                *self.failed.borrow_mut() = Some((until, error.kind(), error.raw_os_error()));
            }
        }
        // All of them at once, and not one after the other.
        self.gate.wake_first(sharing);
        result
    }

    /// What came of a sync that began after this request.
    fn outcome(&self, number: u64) -> Option<io::Result<()>> {
        if self.done.get() >= number {
            return Some(Ok(()));
        }
        let (until, kind, code) = (*self.failed.borrow())?;
        let error = || code.map_or_else(|| kind.into(), io::Error::from_raw_os_error);
        (until >= number).then(|| Err(error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// Polls once.
    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_by(future, Waker::noop())
    }

    fn poll_by<T>(future: Pin<&mut impl Future<Output = T>>, waker: &Waker) -> Option<T> {
        match future.poll(&mut Context::from_waker(waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_who_waits_has_one_place_and_is_woken_once_in_its_order() {
        let gate = Gate::default();
        let mut turn = poll(pin!(gate.turn()));
        let woken: Vec<Arc<Woken>> = (0..5).map(|_| Arc::default()).collect();
        let count = |at: usize| woken[at].0.load(Ordering::Relaxed);
        let wakers: Vec<Waker> = woken.iter().map(|it| Arc::clone(it).into()).collect();
        let mut waiting: Vec<_> = (0..5).map(|_| Some(Box::pin(gate.turn()))).collect();
        // Nobody has a second place by asking twice.
        for (at, waits) in waiting.iter_mut().enumerate() {
            let waits = waits.as_mut().unwrap();
            assert!(poll_by(waits.as_mut(), &wakers[at]).is_none());
            assert!(poll_by(waits.as_mut(), &wakers[at]).is_none());
        }
        assert_eq!(gate.waiting_len(), 5);
        // One leaves before its turn, and one that has been called.
        waiting[1] = None;
        drop(turn.take());
        assert_eq!([0, 1, 2, 3, 4].map(count), [1, 0, 0, 0, 0]);
        // Who comes now is behind them.
        assert!(poll(pin!(gate.turn())).is_none());
        waiting[0] = None;
        assert_eq!([0, 1, 2, 3, 4].map(count), [1, 0, 1, 0, 0]);
        for at in 2..5 {
            let waits = waiting[at].as_mut().unwrap();
            assert!(poll_by(waits.as_mut(), &wakers[at]).is_some());
        }
        assert_eq!([0, 1, 2, 3, 4].map(count), [1, 0, 1, 1, 1]);
        assert!(poll(pin!(gate.turn())).is_some(), "nobody waits");
    }

    /// A sync that takes until it is told its result.
    fn sync<'a>(
        begun: &'a Cell<u32>,
        result: &'a RefCell<Option<io::Result<()>>>,
    ) -> impl FnOnce() -> Pin<Box<dyn Future<Output = io::Result<()>> + 'a>> {
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
    fn all_who_share_a_sync_hear_of_its_end_at_once() {
        let (begun, result) = (Cell::new(0), RefCell::new(None));
        let shared = SharedSync::default();
        let mut first = pin!(shared.ask(sync(&begun, &result)));
        assert!(poll(first.as_mut()).is_none());
        let woken: Vec<Arc<Woken>> = (0..4).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = woken.iter().map(|it| Arc::clone(it).into()).collect();
        let mut asking: Vec<_> = (0..4)
            .map(|_| Box::pin(shared.ask(sync(&begun, &result))))
            .collect();
        for (asks, waker) in asking.iter_mut().zip(&wakers) {
            assert!(poll_by(asks.as_mut(), waker).is_none());
        }
        *result.borrow_mut() = Some(Ok(()));
        assert!(poll(first.as_mut()).is_some());
        let count = |at: usize| woken[at].0.load(Ordering::Relaxed);
        assert_eq!([0, 1, 2, 3].map(count), [1, 0, 0, 0], "one begins the next");
        assert!(poll_by(asking[0].as_mut(), &wakers[0]).is_none());
        *result.borrow_mut() = Some(Ok(()));
        assert!(poll_by(asking[0].as_mut(), &wakers[0]).is_some());
        assert!(
            (1..4).all(|at| count(at) > 0),
            "it is the sync of all of them"
        );
        // In whatever order they come for it; one has left.
        drop(asking.pop());
        for asks in asking.iter_mut().skip(1).rev() {
            assert!(matches!(poll(asks.as_mut()), Some(Ok(()))));
        }
        assert_eq!((begun.get(), shared.gate.is_taken.get()), (2, false));
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
