//! What a start, a check or a reload waits for: the folder or the file that it looks at just now.
//!
//! A file system whose server, or whose daemon, is gone answers never, or says so after minutes.
//! Whoever waits there can say nothing itself. So it notes where it looks before it does, and
//! somebody else, who sees for how long, says it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use crate::shell;

/// What has not answered for so long is told of.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// And again each time after so long.
const AGAIN: Duration = Duration::from_secs(60);
/// What takes so long waits for an answer. Many looks in a row that take long together do not, and
/// nothing is wrong with the file system of the last one.
const PENDING: Duration = Duration::from_millis(250);
/// How often somebody looks.
const BEAT: Duration = Duration::from_millis(500);

/// A look that has not come back.
struct Look {
    by: ThreadId,
    at: PathBuf,
    since: Instant,
}

/// All of this process, those within others behind them. A start makes some dozens, and some for
/// each file that its settings name, one after the other.
static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

fn looks() -> MutexGuard<'static, Vec<Look>> {
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many looks this thread has made.
#[cfg(test)]
pub fn looks_made() -> usize {
    MADE.get()
}

/// Runs a call that looks at something there.
pub fn at<T>(path: &Path, call: impl FnOnce() -> T) -> T {
    #[cfg(test)]
    MADE.set(MADE.get() + 1);
    let by = thread::current().id();
    looks().push(Look {
        by,
        at: path.to_owned(),
        since: Instant::now(),
    });
    let result = call();
    let mut looks = looks();
    if let Some(last) = looks.iter().rposition(|look| look.by == by) {
        looks.remove(last);
    }
    result
}

/// Where a thread waits, and since when.
pub fn waits(by: ThreadId) -> Option<(PathBuf, Instant)> {
    let looks = looks();
    let last = looks.iter().rev().find(|look| look.by == by)?;
    Some((last.at.clone(), last.since))
}

/// What a thread waits for that does not answer just now.
pub fn hangs(by: ThreadId) -> Option<PathBuf> {
    let (path, since) = waits(by)?;
    (since.elapsed() >= PENDING).then_some(path)
}

/// What is said of something that does not answer.
pub fn in_words(path: &Path) -> String {
    let (word, path) = (shell::word(path), path.display());
    format!(
        "{path} does not answer: look whether its file server, the daemon of its file system or its disk is there \
         (`timeout 5 stat {word}`), or unmount it (`umount -l`)"
    )
}

/// Somebody who says where this thread waits, until it is dropped.
pub struct Vigil {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Vigil {
    fn drop(&mut self) {
        // What is said after that is said by others.
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Vigil {
    /// Begins one that says it in the log, for a reload.
    pub fn of_reload() -> Option<Self> {
        Self::begin(|path, since| {
            tracing::warn!(
                event = "reload_waits",
                path = %path.display(),
                seconds = since.as_secs(),
                remedy = in_words(path),
                "a reload waits for a file system that does not answer: the settings before it hold"
            );
        })
    }

    /// Begins one that says it so, from a thread of its own. Where there can be none, nothing is
    /// said.
    pub fn begin(tell: impl Fn(&Path, Duration) + Send + 'static) -> Option<Self> {
        let (end, ended) = mpsc::channel();
        let by = thread::current().id();
        let watch = move || {
            let mut told: Option<(Instant, Instant)> = None;
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let Some((path, since)) = waits(by) else {
                    continue;
                };
                let is_told = told.is_some_and(|(of, at)| of == since && at.elapsed() < AGAIN);
                if since.elapsed() >= PATIENCE && !is_told {
                    told = Some((since, Instant::now()));
                    tell(&path, since.elapsed());
                }
            }
        };
        let thread = thread::Builder::new().name("vigil".to_owned());
        let thread = thread.spawn(watch).ok()?;
        Some(Self {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

/// Writes into the log that a start waits.
pub fn tell_of_start(path: &Path, since: Duration) {
    tracing::warn!(
        event = "start_waits",
        path = %path.display(),
        seconds = since.as_secs(),
        remedy = in_words(path),
        "the start waits for a file system that does not answer, and all locations with it"
    );
}

/// Why something is not done in time.
#[derive(Debug)]
pub enum Unanswered {
    /// This does not answer.
    Silent(PathBuf),
    /// It takes too long.
    Late,
    /// It failed by a bug, which was told.
    Failed,
    /// It was not begun: there is no thread for it.
    NoThread(io::Error),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(path) => f.write_str(&in_words(path)),
            Self::Late => f.write_str("a part of the check takes too long"),
            Self::Failed => f.write_str("a part of the check failed"),
            Self::NoThread(error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

/// Runs a part of a check on a thread of its own.
///
/// # Errors
/// Something does not answer in [`PATIENCE`], or it is not done at the deadline. The thread is left
/// then: nothing can end it, and the process ends soon.
pub fn within<T: Send + 'static>(
    deadline: Instant,
    part: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let (tell, told) = mpsc::channel();
    let run = move || {
        // Nobody may wait for it any more.
        let _ = tell.send(part());
    };
    let thread = thread::Builder::new().name("check".to_owned());
    let thread = thread.spawn(run).map_err(Unanswered::NoThread)?;
    let by = thread.thread().id();
    loop {
        match told.recv_timeout(BEAT) {
            Ok(done) => return Ok(done),
            Err(RecvTimeoutError::Disconnected) => return Err(Unanswered::Failed),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let is_over = Instant::now() >= deadline;
        match waits(by) {
            Some((path, since)) if since.elapsed() >= PATIENCE => {
                return Err(Unanswered::Silent(path));
            }
            _ if is_over => return Err(hangs(by).map_or(Unanswered::Late, Unanswered::Silent)),
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn where_a_thread_waits_is_known_as_long_as_it_does() {
        let by = thread::current().id();
        assert_eq!(waits(by), None);
        at(Path::new("/outer"), || {
            assert_eq!(waits(by).unwrap().0, Path::new("/outer"));
            at(Path::new("/inner"), || {
                assert_eq!(waits(by).unwrap().0, Path::new("/inner"));
            });
            assert_eq!(waits(by).unwrap().0, Path::new("/outer"));
            let other = thread::spawn(|| waits(thread::current().id()));
            assert_eq!(other.join().unwrap(), None);
        });
        assert_eq!(waits(by), None);
    }

    #[test]
    fn a_part_that_waits_is_given_up_at_the_deadline() {
        let soon = Instant::now() + Duration::from_millis(10);
        let (release, held) = mpsc::channel::<()>();
        let waits = move || at(Path::new("/nowhere"), || held.recv().is_ok());
        let refused = within(soon, waits).unwrap_err().to_string();
        assert!(refused.starts_with("/nowhere does not answer"), "{refused}");
        drop(release);
        // One that looks at many things does not wait for the last of them.
        let is_over = Arc::new(AtomicBool::new(false));
        let goes_on = Arc::clone(&is_over);
        let looks = move || {
            while !goes_on.load(Ordering::Relaxed) {
                at(Path::new("/somewhere"), || ());
            }
        };
        let refused = within(Instant::now(), looks).unwrap_err();
        is_over.store(true, Ordering::Relaxed);
        assert!(matches!(refused, Unanswered::Late), "{refused}");
        assert_eq!(within(soon, || 7).unwrap(), 7);
    }
}
