//! Lines on their way to stderr: a bounded queue, and one thread that writes.
//!
//! A log is not worth an upload. Whoever logs never waits: a line that finds no room is dropped and
//! counted. Only the thread meets what can be wrong with stderr (a pipe that nobody reads, a full
//! disk, a reader that is gone), and it survives all of it. How many lines were lost is told with
//! the next one that can be written, once a second at most.
//!
//! tracing-appender has such a queue too, and was not taken. It bounds lines and not bytes. It
//! starts its thread by a call that panics. It tells of its own troubles by `eprintln!`, which
//! panics where stderr is full, and a panic ends this server. And after an error in the middle of a
//! line, it begins the next one in the same line.
//!
//! A line costs a shard no system call: the thread looks for new lines by itself as long as there
//! are some. Only the first one after a second without any must wake it.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// At most so many lines wait.
pub const QUEUE_LINES_MAX: usize = 8_192;
/// Bytes of the lines that wait at the most: seconds of a busy server, and nothing beside its
/// blocks.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 << 10;
/// Pause between two looks while lines come.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two lines that say how many were lost; also how long the thread looks by itself.
const BEAT: Duration = Duration::from_secs(1);

/// Where lines are written.
pub trait Sink: Send + 'static {
    /// Writes some of the bytes.
    ///
    /// # Errors
    /// What the kernel says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits, for a bounded time, until it may take more.
    fn wait(&mut self);
}

/// The stderr of this process.
pub struct Stderr;

impl Sink for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Past the lock and the buffer of the standard library: nobody can hold them up, or be held
        // up by them.
        Ok(rustix::io::write(io::stderr().as_fd(), bytes)?)
    }

    fn wait(&mut self) {
        wait_writable(io::stderr().as_fd(), BEAT);
    }
}

/// The lines that the writer itself has to add: told once a second, and at the end.
pub struct Notices {
    /// Says that so many lines were lost.
    pub lost: fn(u64) -> String,
    /// Whatever else became due.
    pub due: fn(&mut dyn FnMut(String)),
}

enum Message {
    Line(String),
    /// Everything before it is written, as far as it can be: say so.
    Flush(SyncSender<()>),
}

/// What those who log and the thread share.
#[derive(Debug, Default)]
struct Counts {
    /// Of the lines in the queue.
    bytes: AtomicUsize,
    /// Lines dropped so far.
    lost: AtomicU64,
}

/// The end of the queue that lines are put into.
pub struct Queue {
    sender: SyncSender<Message>,
    counts: &'static Counts,
    thread: Thread,
}

impl Queue {
    /// Starts the thread. What is shared with it stays for the life of the process.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(sink: impl Sink, notices: Notices) -> io::Result<Self> {
        let counts: &'static Counts = Box::leak(Box::default());
        let (sender, receiver) = sync_channel(QUEUE_LINES_MAX);
        let writer = Writer {
            receiver,
            counts,
            sink,
            notices,
            batch: Batch::default(),
            lost_told: 0,
            beat: Instant::now(),
        };
        let handle = (thread::Builder::new().name("log".to_owned())).spawn(move || writer.run())?;
        Ok(Self {
            sender,
            counts,
            thread: handle.thread().clone(),
        })
    }

    /// Takes a line, or drops and counts it. Never waits.
    pub fn push(&self, line: String) {
        let len = line.len();
        let before = self.counts.bytes.fetch_add(len, Ordering::Relaxed);
        let has_room = before + len <= QUEUE_BYTES_MAX;
        if !has_room || self.sender.try_send(Message::Line(line)).is_err() {
            self.counts.bytes.fetch_sub(len, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, but no longer than `patience`. Whether they were.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, is_done) = sync_channel(1);
        let mut message = Message::Flush(done);
        loop {
            self.thread.unpark();
            match self.sender.try_send(message) {
                Ok(()) => break,
                Err(std::sync::mpsc::TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => return false,
            }
        }
        self.thread.unpark();
        is_done
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_ok()
    }

    /// Lines that were dropped so far.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

/// The thread that writes.
struct Writer<S> {
    receiver: Receiver<Message>,
    counts: &'static Counts,
    sink: S,
    notices: Notices,
    batch: Batch,
    /// Lost lines that were told of.
    lost_told: u64,
    /// When notices were last looked for.
    beat: Instant,
}

impl<S: Sink> Writer<S> {
    fn run(mut self) {
        let mut last_line = Instant::now();
        let mut next = None;
        loop {
            let gathered = self.gather(next.take());
            if gathered.lines > 0 {
                last_line = Instant::now();
            }
            if gathered.to_tell.is_some() || self.beat.elapsed() >= BEAT {
                self.beat = Instant::now();
                let batch = &mut self.batch;
                (self.notices.due)(&mut |line| batch.push(&line));
                self.write_batch(true);
            } else {
                self.write_batch(false);
            }
            if let Some(done) = gathered.to_tell {
                // Whoever asked may have lost patience.
                let _ = done.send(());
            } else if gathered.is_over {
                return;
            } else if gathered.lines == 0 && last_line.elapsed() < BEAT {
                thread::park_timeout(PAUSE);
            } else if gathered.lines == 0 {
                // Whoever puts a line in wakes us.
                next = match self.receiver.recv_timeout(BEAT) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
            }
        }
    }

    /// Takes lines out of the queue, up to a batch, or to a wish to be told.
    fn gather(&mut self, first: Option<Message>) -> Gathered {
        let mut gathered = Gathered::default();
        let mut next = first.map_or_else(|| self.receiver.try_recv(), Ok);
        loop {
            match next {
                Ok(Message::Line(line)) => {
                    self.counts.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    self.batch.push(&line);
                    gathered.lines += 1;
                }
                Ok(Message::Flush(done)) => {
                    gathered.to_tell = Some(done);
                    return gathered;
                }
                Err(TryRecvError::Empty) => return gathered,
                Err(TryRecvError::Disconnected) => {
                    gathered.is_over = true;
                    return gathered;
                }
            }
            if self.batch.bytes.len() >= BATCH_BYTES {
                return gathered;
            }
            next = self.receiver.try_recv();
        }
    }

    /// Writes what was gathered; after it, where that may be told now, how many lines were lost.
    fn write_batch(&mut self, may_tell: bool) {
        let failed = self.batch.write(&mut self.sink);
        self.counts.lost.fetch_add(failed, Ordering::Relaxed);
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if may_tell && lost > self.lost_told && self.batch.bytes.is_empty() {
            self.batch.push(&(self.notices.lost)(lost - self.lost_told));
            // If it cannot be written it is not counted itself, but made anew.
            if self.batch.write(&mut self.sink) == 0 {
                self.lost_told = lost;
            }
        }
    }
}

#[derive(Default)]
struct Gathered {
    lines: usize,
    to_tell: Option<SyncSender<()>>,
    is_over: bool,
}

/// Bytes that are being written: whole lines, or the rest of one and whole lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// The first line was written in part. Its rest goes before all else, so that no line begins in
    /// the middle of it.
    is_torn: bool,
}

impl Batch {
    fn push(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
    }

    /// Writes all, or gives up what the sink does not take, except for the rest of a line that it
    /// took in part. How many lines were given up.
    fn write(&mut self, sink: &mut impl Sink) -> u64 {
        let mut at = 0;
        while at < self.bytes.len() {
            match sink.write(&self.bytes[at..]) {
                Ok(0) => break,
                Ok(written) => at += written,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    // Somebody who shares it with us made it non-blocking.
                    Some(Errno::AGAIN) => sink.wait(),
                    _ => break,
                },
            }
        }
        if at > 0 {
            self.is_torn = self.bytes[at - 1] != b'\n';
        }
        let rest = &self.bytes[at..];
        let is_end = |byte: &u8| *byte == b'\n';
        let kept = match self.is_torn {
            true => rest
                .iter()
                .position(is_end)
                .map_or(rest.len(), |end| end + 1),
            false => 0,
        };
        let lost = rest[kept..].iter().filter(|byte| is_end(byte)).count();
        self.bytes.truncate(at + kept);
        self.bytes.drain(..at);
        self.is_torn &= !self.bytes.is_empty();
        lost as u64
    }
}

/// The queue of this process's log, once there is one.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Opens the way to stderr; a second call changes nothing.
///
/// # Errors
/// No thread could be started.
pub fn open(notices: Notices) -> io::Result<()> {
    if QUEUE.get().is_none() {
        // Only `main` opens it, so that there is no second one.
        let _ = QUEUE.set(Queue::start(Stderr, notices)?);
    }
    Ok(())
}

/// Puts a line on its way; whether there is one.
pub fn push(line: String) -> bool {
    match QUEUE.get() {
        Some(queue) => queue.push(line),
        None => return false,
    }
    true
}

/// [`Queue::flush`] of the log.
pub fn flush(patience: Duration) -> bool {
    QUEUE.get().is_none_or(|queue| queue.flush(patience))
}

/// [`Queue::lost`] of the log.
pub fn lost() -> u64 {
    QUEUE.get().map_or(0, Queue::lost)
}

/// Writes to stdout or stderr where there is no queue: before there is a log, and in the commands
/// that have none. Gives up, in silence, what is not taken in time: where nobody listens, the exit
/// code must do.
pub fn write_briefly(to: impl std::os::fd::AsFd, text: &str, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if !wait_writable(to.as_fd(), left) {
            return;
        }
        // A pipe that is writable takes so much at once.
        let piece = &bytes[..bytes.len().min(PIPE_BYTES)];
        match rustix::io::write(to.as_fd(), piece) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            Err(Errno::INTR | Errno::AGAIN) if Instant::now() < deadline => {}
            _ => return,
        }
    }
}

/// PIPE_BUF of Linux.
const PIPE_BYTES: usize = 4096;

/// Whether bytes may be written before `patience` is over. An error is found by writing.
fn wait_writable(to: std::os::fd::BorrowedFd<'_>, patience: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    let patience = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    !matches!(poll(&mut polled, Some(&patience)), Ok(0))
}

#[cfg(test)]
mod tests;
