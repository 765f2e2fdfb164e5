//! One thread, many tasks, and a seed that picks which ready one goes next. Time moves only when
//! none is ready.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::rng::Rng;

/// Tasks that end together: the clients, or one life of the server.
pub type Group = u64;
/// The group of all clients.
pub const CLIENTS: Group = 0;

/// A timer's time, and its number to tell it from others of that time.
pub type TimerKey = (u64, u64);

type Ready = Arc<Mutex<Vec<u64>>>;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// A task went on.
    Polled,
    /// Time went on.
    Waited,
    /// There is nothing left to wait for.
    Idle,
}

struct Task {
    group: Group,
    /// Absent while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    wake: Arc<TaskWake>,
}

struct TaskWake {
    id: u64,
    is_queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().expect("one thread").push(self.id);
        }
    }
}

/// The scheduler and the clock.
pub struct Executor {
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Ready,
    timers: RefCell<BTreeMap<TimerKey, Waker>>,
    next_id: Cell<u64>,
    now: Cell<u64>,
    steps: Cell<u64>,
    rng: RefCell<Rng>,
}

impl Executor {
    /// Without tasks, at a time that is not zero.
    pub fn new(rng: Rng) -> Rc<Self> {
        Rc::new(Self {
            tasks: RefCell::default(),
            ready: Ready::default(),
            timers: RefCell::default(),
            next_id: Cell::new(1),
            now: Cell::new(1_000_000),
            steps: Cell::new(0),
            rng: RefCell::new(rng),
        })
    }

    /// The time, in milliseconds.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Polls so far.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Runs a task beside the others.
    pub fn spawn(&self, group: Group, future: impl Future<Output = ()> + 'static) {
        let id = self.number();
        let wake = Arc::new(TaskWake {
            id,
            is_queued: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        });
        let task = Task {
            group,
            future: Some(Box::pin(future)),
            wake: Arc::clone(&wake),
        };
        self.tasks.borrow_mut().insert(id, task);
        wake.wake();
    }

    /// Ends all tasks of a group wherever they are. Not to be called by a task of that group.
    pub fn cancel(&self, group: Group) {
        let (ended, kept) = std::mem::take(&mut *self.tasks.borrow_mut())
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, task)| task.group == group);
        self.tasks.borrow_mut().extend(kept);
        drop(ended);
    }

    /// Tasks of a group.
    pub fn tasks_len(&self, group: Group) -> usize {
        (self.tasks.borrow().values())
            .filter(|task| task.group == group)
            .count()
    }

    /// Lets one ready task go on; if none is ready, moves the time to the next timer.
    pub fn step(&self) -> Stepped {
        let Some(id) = self.pick() else {
            return self.wait();
        };
        let taken = self.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            task.wake.is_queued.store(false, Ordering::Relaxed);
            Some((task.future.take()?, Arc::clone(&task.wake)))
        });
        let Some((mut future, wake)) = taken else {
            return Stepped::Polled;
        };
        self.steps.set(self.steps.get() + 1);
        let waker = Waker::from(wake);
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        match polled {
            Poll::Pending => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(&id) {
                    task.future = Some(future);
                }
            }
            Poll::Ready(()) => {
                self.tasks.borrow_mut().remove(&id);
            }
        }
        Stepped::Polled
    }

    /// Calls a waker at a time.
    pub fn add_timer(&self, at: u64, waker: Waker) -> TimerKey {
        let key = (at, self.number());
        self.timers.borrow_mut().insert(key, waker);
        key
    }

    /// Forgets a timer.
    pub fn remove_timer(&self, key: TimerKey) {
        self.timers.borrow_mut().remove(&key);
    }

    fn number(&self) -> u64 {
        let number = self.next_id.get();
        self.next_id.set(number + 1);
        number
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.lock().expect("one thread");
        if ready.is_empty() {
            return None;
        }
        let at = self.rng.borrow_mut().index(ready.len());
        Some(ready.swap_remove(at))
    }

    fn wait(&self) -> Stepped {
        let mut timers = self.timers.borrow_mut();
        let Some((&(at, _), _)) = timers.first_key_value() else {
            return Stepped::Idle;
        };
        self.now.set(self.now.get().max(at));
        let later = timers.split_off(&(self.now.get() + 1, 0));
        let due = std::mem::replace(&mut *timers, later);
        drop(timers);
        for waker in due.into_values() {
            waker.wake();
        }
        Stepped::Waited
    }
}
