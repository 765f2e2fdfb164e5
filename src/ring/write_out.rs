//! Brings the bytes of many small files to the device with one turn of one thread.
//!
//! `sync_file_range` waits for the device, so it has no place on a shard; and to hand each file to
//! a worker of the ring costs two changes of thread, which is as much as the rest of a small
//! upload. So the files of all sessions that wait go together: first every one is begun, then every
//! one is awaited, so that the device has them all at once. Who comes meanwhile waits for the next
//! turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use rustix::io::Errno;

use super::helper::Helper;

/// So many files go together at the most: those that come later must not wait for too many.
const TOGETHER_MAX: usize = 128;
/// Turns that may wait for the thread; there is one at a time.
const TURNS_MAX: usize = 1;

/// The files of one disk that a shard waits for.
pub struct WriteOut {
    /// As many as there are connections at the most.
    waiting: RefCell<Vec<Rc<Waiting>>>,
    /// Somebody has the turn.
    is_busy: Cell<bool>,
    helper: Helper,
}

/// Somebody who waits for a file.
struct Waiting {
    file: Cell<Option<OwnedFd>>,
    result: Cell<Option<io::Result<()>>>,
    waker: Cell<Option<Waker>>,
}

impl Waiting {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Default for WriteOut {
    fn default() -> Self {
        Self {
            waiting: RefCell::default(),
            is_busy: Cell::new(false),
            helper: Helper::new("write-out", TURNS_MAX),
        }
    }
}

impl WriteOut {
    /// Brings a file to the device. Whoever asks waits to the end: the others go on with it.
    ///
    /// # Errors
    /// What the kernel says, of this file alone.
    pub async fn ask(&self, file: OwnedFd) -> io::Result<()> {
        let own = Rc::new(Waiting {
            file: Cell::new(Some(file)),
            result: Cell::new(None),
            waker: Cell::new(None),
        });
        self.waiting.borrow_mut().push(Rc::clone(&own));
        loop {
            // The turn, or what became of the file.
            let result = poll_fn(|context| {
                if let Some(result) = own.result.take() {
                    return Poll::Ready(Some(result));
                }
                if !self.is_busy.replace(true) {
                    return Poll::Ready(None);
                }
                own.waker.set(Some(context.waker().clone()));
                Poll::Pending
            });
            match result.await {
                Some(result) => return result,
                None => self.take_turn().await,
            }
        }
    }

    async fn take_turn(&self) {
        let together = {
            let mut waiting = self.waiting.borrow_mut();
            let count = waiting.len().min(TOGETHER_MAX);
            waiting.drain(..count).collect::<Vec<_>>()
        };
        let files: Vec<_> = (together.iter())
            .filter_map(|waiting| waiting.file.take())
            .collect();
        let written = self.helper.run(move || Ok(write_out(&files))).await;
        self.is_busy.set(false);
        let mut results = written.unwrap_or_default().into_iter();
        for waiting in together {
            // The thread is gone, and nobody knows what was written.
            let result = results.next().unwrap_or(Err(Errno::IO));
            waiting.result.set(Some(result.map_err(io::Error::from)));
            waiting.wake();
        }
        if let Some(next) = self.waiting.borrow().first() {
            next.wake();
        }
    }
}

/// Brings files to the device; what became of each.
fn write_out(files: &[OwnedFd]) -> Vec<Result<(), Errno>> {
    for file in files {
        // Whatever it meets, the second round meets too.
        let _ = sync_file_range(file, libc::SYNC_FILE_RANGE_WRITE);
    }
    let to_the_end = |file: &OwnedFd| sync_file_range(file, WAITED_FOR);
    files.iter().map(to_the_end).collect()
}

/// What is on its way, what is not, and all of it to its end.
pub const WAITED_FOR: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE
    | libc::SYNC_FILE_RANGE_WRITE
    | libc::SYNC_FILE_RANGE_WAIT_AFTER;

fn sync_file_range(file: &OwnedFd, flags: u32) -> Result<(), Errno> {
    loop {
        // SAFETY: the descriptor is open as long as `file` is borrowed; the call takes no pointer.
        // No bytes from the beginning on means all of them.
        let done = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
        match done {
            0 => return Ok(()),
            _ => match Errno::from_io_error(&io::Error::last_os_error()) {
                Some(Errno::INTR) => {}
                error => return Err(error.unwrap_or(Errno::IO)),
            },
        }
    }
}
