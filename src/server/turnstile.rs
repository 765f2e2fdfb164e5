//! One request at a time for a session, and the newest wins.
//!
//! A client has one request outstanding (MC-BUP 3.1); if a second one comes on another connection,
//! the client has given the first up. The first is stopped and awaited, never overlapped. A third
//! one takes the second's place in the queue, so that at most one waits.
//!
//! An administrator's order is no newer request. It waits until whoever is there leaves by itself,
//! with an answer; a fragment under way looks between two blocks whether an order waits. Whoever
//! leaves for an order comes back behind it, and never before a newer request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::vault::disk::Millis;

/// Something that can be told to stop what it does and leave.
pub trait Holder: 'static {
    /// Stop soon; called at most a few times, from another task of the same shard. Whether it is a
    /// connection, which ends by that: what the shard does for itself is only waited for.
    fn stop(&self) -> bool;

    /// An order waits for the session: what waits for more may come back with what it has.
    fn look_up(&self) {}
}

/// The entrance of one session.
pub struct Turnstile {
    inner: RefCell<Inner>,
}

struct Inner {
    holder: Option<Rc<dyn Holder>>,
    /// The holder works by an order.
    is_order: bool,
    waiter: Option<Waiter>,
    next_number: u64,
}

struct Waiter {
    number: u64,
    waker: Option<Waker>,
    /// Since when an order waits.
    order_since: Option<Millis>,
}

/// Who waits there; nobody waits any more when it is dropped.
struct AtTurnstile<'a> {
    turnstile: &'a Turnstile,
    number: u64,
}

impl Drop for AtTurnstile<'_> {
    fn drop(&mut self) {
        let mut inner = self.turnstile.inner.borrow_mut();
        (inner.waiter).take_if(|waiter| waiter.number == self.number);
    }
}

/// A newer request came while this one waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded;

/// The right to work on the session; given back when dropped.
pub struct Pass {
    turnstile: Rc<Turnstile>,
}

/// How the session was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// Nobody was there.
    Free,
    /// Whoever was there was no connection, or was about to leave.
    Waited,
    /// The connection before was stopped.
    TookOver,
}

impl Turnstile {
    /// A free one.
    pub fn new() -> Rc<Self> {
        let inner = Inner {
            holder: None,
            is_order: false,
            waiter: None,
            next_number: 0,
        };
        Rc::new(Self {
            inner: RefCell::new(inner),
        })
    }

    /// Enters if nobody is there.
    pub fn try_enter(self: &Rc<Self>, holder: Rc<dyn Holder>) -> Option<Pass> {
        let mut inner = self.inner.borrow_mut();
        let is_taken = inner.holder.is_some() || inner.waiter.is_some();
        if is_taken {
            return None;
        }
        inner.holder = Some(holder);
        inner.is_order = false;
        Some(Pass {
            turnstile: Rc::clone(self),
        })
    }

    /// Enters, stopping and awaiting whoever is there.
    ///
    /// # Errors
    /// [`Superseded`] if a still newer request took this one's place.
    pub async fn enter(
        self: &Rc<Self>,
        holder: Rc<dyn Holder>,
    ) -> Result<(Pass, Entered), Superseded> {
        if let Some(pass) = self.try_enter(Rc::clone(&holder)) {
            return Ok((pass, Entered::Free));
        }
        let queued = self.queue(None);
        let current = self.inner.borrow().holder.clone();
        let entered = match current.is_some_and(|current| current.stop()) {
            true => Entered::TookOver,
            false => Entered::Waited,
        };
        let pass = self.await_turn(queued, holder).await?;
        Ok((pass, entered))
    }

    /// Enters again when the order is carried out that this one has left for.
    ///
    /// # Errors
    /// [`Superseded`] if a newer request came meanwhile, in whose way it must not be.
    pub async fn enter_behind_order(
        self: &Rc<Self>,
        holder: Rc<dyn Holder>,
    ) -> Result<Pass, Superseded> {
        self.enter_last(holder, |inner| inner.is_order).await
    }

    /// Enters when whoever is there has left by itself, if nobody else waits: the request may be
    /// the older one.
    ///
    /// # Errors
    /// [`Superseded`] if somebody waits, or a newer request comes meanwhile.
    pub async fn enter_behind(self: &Rc<Self>, holder: Rc<dyn Holder>) -> Result<Pass, Superseded> {
        self.enter_last(holder, |_| true).await
    }

    /// Enters when whoever is there has left by itself, if nobody else waits and whoever is there
    /// is one to be waited for.
    async fn enter_last(
        self: &Rc<Self>,
        holder: Rc<dyn Holder>,
        is_waited_for: impl FnOnce(&Inner) -> bool,
    ) -> Result<Pass, Superseded> {
        if let Some(pass) = self.try_enter(Rc::clone(&holder)) {
            return Ok(pass);
        }
        let is_last = {
            let inner = self.inner.borrow();
            inner.waiter.is_none() && is_waited_for(&inner)
        };
        if !is_last {
            return Err(Superseded);
        }
        let queued = self.queue(None);
        self.await_turn(queued, holder).await
    }

    /// Enters by an order, when whoever is there has left by itself. Whoever waits no more drops
    /// the call, and the order with it.
    ///
    /// # Errors
    /// [`Superseded`] if a request came meanwhile.
    pub async fn enter_by_order(
        self: &Rc<Self>,
        holder: Rc<dyn Holder>,
        now: Millis,
    ) -> Result<Pass, Superseded> {
        if let Some(pass) = self.try_enter(Rc::clone(&holder)) {
            self.inner.borrow_mut().is_order = true;
            return Ok(pass);
        }
        let queued = self.queue(Some(now));
        let current = self.inner.borrow().holder.clone();
        if let Some(current) = current {
            current.look_up();
        }
        self.await_turn(queued, holder).await
    }

    /// Whether an order waits.
    pub fn order_waits(&self) -> bool {
        self.order_since().is_some()
    }

    /// Since when an order waits.
    pub fn order_since(&self) -> Option<Millis> {
        self.inner.borrow().waiter.as_ref()?.order_since
    }

    async fn await_turn(
        self: &Rc<Self>,
        queued: AtTurnstile<'_>,
        holder: Rc<dyn Holder>,
    ) -> Result<Pass, Superseded> {
        poll_fn(|context| {
            let mut inner = self.inner.borrow_mut();
            match &mut inner.waiter {
                Some(waiter) if waiter.number == queued.number => {
                    waiter.waker = Some(context.waker().clone());
                }
                _ => return Poll::Ready(Err(Superseded)),
            }
            if inner.holder.is_some() {
                return Poll::Pending;
            }
            let waiter = inner.waiter.take();
            inner.is_order = waiter.is_some_and(|waiter| waiter.order_since.is_some());
            inner.holder = Some(Rc::clone(&holder));
            Poll::Ready(Ok(()))
        })
        .await?;
        Ok(Pass {
            turnstile: Rc::clone(self),
        })
    }

    /// Takes the only place in the queue and sends away whoever had it.
    fn queue(&self, order_since: Option<Millis>) -> AtTurnstile<'_> {
        let mut inner = self.inner.borrow_mut();
        let number = inner.next_number;
        inner.next_number += 1;
        let before = inner.waiter.replace(Waiter {
            number,
            waker: None,
            order_since,
        });
        drop(inner);
        if let Some(Waiter {
            waker: Some(waker), ..
        }) = before
        {
            waker.wake();
        }
        AtTurnstile {
            turnstile: self,
            number,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inner = self.turnstile.inner.borrow_mut();
        inner.holder = None;
        let waker = inner.waiter.as_mut().and_then(|waiter| waiter.waker.take());
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::Context;

    #[derive(Default)]
    struct Client {
        stopped: Cell<u32>,
        looked_up: Cell<u32>,
    }

    impl Holder for Client {
        fn stop(&self) -> bool {
            self.stopped.set(self.stopped.get() + 1);
            true
        }

        fn look_up(&self) {
            self.looked_up.set(self.looked_up.get() + 1);
        }
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_first_is_stopped_and_awaited() {
        let turnstile = Turnstile::new();
        let first = Rc::new(Client::default());
        let pass = turnstile.try_enter(Rc::clone(&first) as _).unwrap();
        let mut second = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(
            poll(second.as_mut()).is_pending(),
            "two may not be in at once"
        );
        assert_eq!(first.stopped.get(), 1);
        drop(pass);
        let Poll::Ready(Ok((_pass, entered))) = poll(second) else {
            panic!("the way was free")
        };
        assert_eq!(entered, Entered::TookOver);
    }

    #[test]
    fn who_waits_for_the_shard_itself_takes_nothing_over() {
        struct Janitor;
        impl Holder for Janitor {
            fn stop(&self) -> bool {
                false
            }
        }
        let turnstile = Turnstile::new();
        let pass = turnstile.try_enter(Rc::new(Janitor)).unwrap();
        let mut first = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(poll(first.as_mut()).is_pending());
        drop(pass);
        let Poll::Ready(Ok((_pass, entered))) = poll(first) else {
            panic!("the way was free")
        };
        assert_eq!(entered, Entered::Waited);
    }

    #[test]
    fn an_order_stops_nobody_and_gives_way_to_a_request() {
        let turnstile = Turnstile::new();
        let first = Rc::new(Client::default());
        let pass = turnstile.try_enter(Rc::clone(&first) as _).unwrap();
        let mut order = pin!(turnstile.enter_by_order(Rc::new(Client::default()), 7));
        assert!(poll(order.as_mut()).is_pending() && turnstile.order_waits());
        assert_eq!((first.stopped.get(), first.looked_up.get()), (0, 1));
        drop(pass);
        let Poll::Ready(Ok(pass)) = poll(order) else {
            panic!("the way was free")
        };
        assert!(!turnstile.order_waits());
        let mut order = pin!(turnstile.enter_by_order(Rc::new(Client::default()), 7));
        assert!(poll(order.as_mut()).is_pending());
        let mut request = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(poll(request.as_mut()).is_pending() && !turnstile.order_waits());
        assert!(matches!(poll(order), Poll::Ready(Err(Superseded))));
        drop(pass);
        assert!(matches!(poll(request), Poll::Ready(Ok(_))));
    }

    #[test]
    fn an_order_that_nobody_waits_for_is_none() {
        let turnstile = Turnstile::new();
        let pass = turnstile.try_enter(Rc::new(Client::default())).unwrap();
        let mut order = Box::pin(turnstile.enter_by_order(Rc::new(Client::default()), 7));
        assert!(poll(order.as_mut()).is_pending());
        assert_eq!(turnstile.order_since(), Some(7));
        drop(order);
        assert_eq!(turnstile.order_since(), None);
        drop(pass);
        assert!(turnstile.try_enter(Rc::new(Client::default())).is_some());
    }

    #[test]
    fn who_leaves_for_an_order_comes_back_behind_it_and_before_no_newer_request() {
        let turnstile = Turnstile::new();
        let old = || turnstile.enter_behind_order(Rc::new(Client::default()));
        let pass = turnstile.try_enter(Rc::new(Client::default())).unwrap();
        let mut order = pin!(turnstile.enter_by_order(Rc::new(Client::default()), 7));
        assert!(poll(order.as_mut()).is_pending());
        drop(pass);
        let Poll::Ready(Ok(pass)) = poll(order) else {
            panic!("the way was free")
        };
        let mut behind = pin!(old());
        assert!(poll(behind.as_mut()).is_pending());
        let newer = Rc::new(Client::default());
        let mut request = pin!(turnstile.enter(Rc::clone(&newer) as _));
        assert!(poll(request.as_mut()).is_pending());
        assert!(matches!(poll(behind), Poll::Ready(Err(Superseded))));
        // Neither while the newer one waits, nor while it works.
        assert!(matches!(poll(pin!(old())), Poll::Ready(Err(Superseded))));
        drop(pass);
        let Poll::Ready(Ok(pass)) = poll(request) else {
            panic!("the way was free")
        };
        assert!(matches!(poll(pin!(old())), Poll::Ready(Err(Superseded))));
        assert_eq!(newer.stopped.get(), 0);
        drop(pass);
        assert!(matches!(poll(pin!(old())), Poll::Ready(Ok(_))));
    }

    #[test]
    fn who_may_be_older_stops_nobody_and_takes_no_place() {
        let turnstile = Turnstile::new();
        let first = Rc::new(Client::default());
        let pass = turnstile.try_enter(Rc::clone(&first) as _).unwrap();
        let behind = || turnstile.enter_behind(Rc::new(Client::default()));
        let mut second = pin!(behind());
        assert!(poll(second.as_mut()).is_pending());
        assert_eq!(first.stopped.get(), 0);
        assert!(matches!(poll(pin!(behind())), Poll::Ready(Err(Superseded))));
        drop(pass);
        let Poll::Ready(Ok(pass)) = poll(second) else {
            panic!("the way was free")
        };
        let mut third = pin!(behind());
        assert!(poll(third.as_mut()).is_pending());
        let mut newest = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(poll(newest.as_mut()).is_pending());
        assert!(matches!(poll(third), Poll::Ready(Err(Superseded))));
        drop(pass);
        assert!(matches!(poll(newest), Poll::Ready(Ok(_))));
    }

    #[test]
    fn the_newest_waits_and_the_one_before_is_sent_away() {
        let turnstile = Turnstile::new();
        let pass = turnstile.try_enter(Rc::new(Client::default())).unwrap();
        let mut second = pin!(turnstile.enter(Rc::new(Client::default())));
        let mut third = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        assert!(matches!(poll(second), Poll::Ready(Err(Superseded))));
        drop(pass);
        assert!(matches!(poll(third), Poll::Ready(Ok(_))));
    }

    #[test]
    fn nobody_slips_past_a_waiter() {
        let turnstile = Turnstile::new();
        let pass = turnstile.try_enter(Rc::new(Client::default())).unwrap();
        let mut second = pin!(turnstile.enter(Rc::new(Client::default())));
        assert!(poll(second.as_mut()).is_pending());
        drop(pass);
        assert!(turnstile.try_enter(Rc::new(Client::default())).is_none());
        assert!(matches!(poll(second), Poll::Ready(Ok(_))));
    }
}
