//! Virtual milliseconds: waiting for a time, for a wake-up, or for whichever comes first.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::executor::{Executor, TimerKey};

/// Tasks that wait for something to change.
#[derive(Default)]
pub struct Wakers(RefCell<Vec<Waker>>);

impl Wakers {
    /// Lets all of them look again.
    pub fn wake(&self) {
        let wakers = std::mem::take(&mut *self.0.borrow_mut());
        for waker in wakers {
            waker.wake();
        }
    }
}

/// Returns at a time, or when woken, or both: whoever waits looks again. Without a time and wakers
/// it never returns.
pub struct Park<'a> {
    executor: Rc<Executor>,
    wakers: Option<&'a Wakers>,
    until: Option<u64>,
    timer: Option<TimerKey>,
    is_parked: bool,
}

impl<'a> Park<'a> {
    /// Waits for `wakers` or `until`.
    pub fn new(executor: &Rc<Executor>, wakers: Option<&'a Wakers>, until: Option<u64>) -> Self {
        Self {
            executor: Rc::clone(executor),
            wakers,
            until,
            timer: None,
            is_parked: false,
        }
    }
}

impl Future for Park<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_parked {
            return Poll::Ready(());
        }
        self.is_parked = true;
        if let Some(wakers) = self.wakers {
            wakers.0.borrow_mut().push(context.waker().clone());
        }
        if let Some(until) = self.until {
            self.timer = Some(self.executor.add_timer(until, context.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Park<'_> {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.executor.remove_timer(timer);
        }
    }
}

/// Waits; 0 milliseconds let others go first.
pub async fn sleep(executor: &Rc<Executor>, ms: u64) {
    let until = executor.now() + ms;
    Park::new(executor, None, Some(until)).await;
    // Whoever it waited for before may wake it too early.
    while executor.now() < until {
        Park::new(executor, None, Some(until)).await;
    }
}
