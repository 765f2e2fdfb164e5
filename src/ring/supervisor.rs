//! The main thread while the server runs: it sees the shards through recovery, service and the end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::directories::Directories;
use super::herald::{BEAT, Herald};
use super::last_sync::{begin_to_sync, note_clean_stop};
use super::launch_error::LaunchError;
use super::reloader::Reloads;
use super::seat::{News, ReadBack, Stage};
use super::service;
use super::signals::Wish;
use super::start::Start;
use super::successor::Successor;
use crate::config::Config;
use crate::observe;
use crate::vault::disk::millis;

/// What a shard may take to end after its time for running requests is over.
const GRACE: Duration = Duration::from_secs(2);
/// What the last sync of the file system may take, beside what is left of the time for running
/// requests. A disk that others keep busy must not hold the stop up until the service manager kills
/// it: with the 30 s of running requests this stays below the 40 s of the unit in
/// docs/operations.md.
const SYNC_PATIENCE: Duration = Duration::from_secs(5);

/// How long a start that is not to be may go on: reading back cannot be broken off, and ends soon,
/// mostly.
const START_PATIENCE: Duration = Duration::from_secs(3);

/// What follows that sync, the last lines of the ledger among it, takes less.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What a program may take to end that is asked whether it could serve, when nobody wants to know
/// any more.
const CHECK_ENDS: Duration = Duration::from_secs(1);

/// How the server has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// For good, or until somebody starts it.
    Stopped,
    /// For the program that takes its place.
    MadeWay,
}

impl Ended {
    /// The same, unless a stop came while the ledger was still being written: a program that takes
    /// the place has signals of its own, and would not hear of it.
    pub fn unless_stopped(self, news: &mpsc::Receiver<News>) -> Self {
        let is_stop = |told| matches!(told, News::Signal(Wish::Stop | Wish::Drain));
        if self == Self::MadeWay && news.try_iter().any(is_stop) {
            tell_stop_instead();
            return Self::Stopped;
        }
        self
    }
}

/// Sees the shards through recovery, service and the end.
pub struct Supervisor<'a> {
    config: &'a Config,
    directories: &'a Arc<Directories>,
    /// Of the journals of this start.
    generation: u64,
    stage: &'a watch::Sender<Stage>,
    reloads: &'a Reloads,
    successor: &'a Successor,
    to_main: mpsc::Sender<News>,
    herald: Herald,
    /// Shards that have still to come so far.
    recovering: usize,
    preparing: usize,
    running: usize,
    is_renewed: bool,
    unfinished: usize,
    remembered: usize,
    left: usize,
    /// Somebody has asked for the new program before this one serves.
    is_to_make_way: bool,
    /// The new program is being asked whether it could serve, for as long as this is wanted.
    checking: Option<Arc<AtomicBool>>,
    /// What follows the end.
    then: Ended,
    stopping_since: Option<Instant>,
    deadline: Option<Instant>,
    /// A signal has asked for the end, not an order only.
    is_signalled: bool,
}

impl<'a> Supervisor<'a> {
    /// For shards that have just begun.
    pub fn new(
        config: &'a Config,
        (directories, generation): (&'a Arc<Directories>, u64),
        stage: &'a watch::Sender<Stage>,
        reloads: &'a Reloads,
        (successor, to_main, herald): (&'a Successor, mpsc::Sender<News>, Herald),
    ) -> Self {
        Self {
            config,
            directories,
            generation,
            stage,
            reloads,
            successor,
            to_main,
            herald,
            recovering: config.cores,
            preparing: config.cores,
            running: config.cores,
            is_renewed: true,
            unfinished: 0,
            remembered: 0,
            left: 0,
            is_to_make_way: false,
            checking: None,
            then: Ended::Stopped,
            stopping_since: None,
            deadline: None,
            is_signalled: false,
        }
    }

    /// Returns when all shards have ended, or have used up their time.
    ///
    /// # Errors
    /// [`LaunchError::Recovery`]: what a journal says cannot be read.
    pub fn supervise(
        mut self,
        start: &mut Start,
        news: &mpsc::Receiver<News>,
    ) -> Result<Ended, LaunchError> {
        self.herald.tell_of_start();
        while self.running > 0 {
            match self.hear(news) {
                Some(News::Recovered(result)) => self.note_recovered(result)?,
                Some(News::Serving) => self.note_serving(start),
                Some(News::Ended(unfinished)) => {
                    self.running -= 1;
                    self.left += unfinished;
                }
                Some(News::Signal(Wish::Reload)) => self.reloads.ask(),
                Some(News::Signal(wish @ (Wish::Stop | Wish::Drain))) => {
                    self.note_stop(start, wish);
                }
                Some(News::Signal(Wish::Replace)) => self.ask_successor(),
                Some(News::Checked(result)) => self.note_checked(start, result),
                None if !self.is_late() => self.tell_how_it_goes_on(),
                None => {
                    self.tell_unfinished();
                    break;
                }
            }
        }
        self.end_check(news);
        // A shard that still runs may be writing: the note would speak for bytes that are not
        // synced, and a new program would read what is not at its end.
        if self.recovering > 0 || self.running > 0 {
            return Ok(Ended::Stopped);
        }
        let synced = self.make_safe();
        tell_of_stop(self.left, synced, self.stopping_since);
        Ok(self.then)
    }

    fn tell_unfinished(&self) {
        if self.preparing > 0 {
            let event = "start_given_up";
            tracing::info!(
                event,
                "stopped before all was read back: no client was served, and the next start reads it again"
            );
        } else {
            let event = "stopped_unfinished";
            tracing::warn!(event, "stopped before all requests were finished");
        }
    }

    /// What comes next; nothing if it is time to tell how it goes on, or too late for more.
    fn hear(&self, news: &mpsc::Receiver<News>) -> Option<News> {
        match self.deadline {
            None if self.preparing == 0 => news.recv().ok(),
            None => news.recv_timeout(BEAT).ok(),
            Some(_) => news.recv_timeout(self.left().min(BEAT)).ok(),
        }
    }

    /// What is left of the time for the end.
    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some() && self.left().is_zero()
    }

    fn tell_how_it_goes_on(&mut self) {
        match self.deadline {
            None => self.herald.tell_of_start(),
            Some(_) => self.tell_of_end(),
        }
    }

    fn tell_of_end(&self) {
        let more = SYNC_PATIENCE + AFTERWARDS;
        self.herald.tell_of_end(self.left(), more);
    }

    /// Makes the stop safe against a power cut, and gives whether it is. For a program that takes
    /// this one's place nothing is synced: it goes on in the same boot, with all that the kernel
    /// has, and clients wait.
    fn make_safe(&self) -> Option<bool> {
        if self.then == Ended::MadeWay {
            return None;
        }
        let patience = self.left() + SYNC_PATIENCE;
        let status = "stopping: the disk makes safe what has come";
        service::going_on(status, Some(patience + AFTERWARDS));
        Some(note_clean_stop(self.directories, self.is_renewed, patience))
    }

    fn note_recovered(&mut self, result: io::Result<ReadBack>) -> Result<(), LaunchError> {
        let unread = |error| {
            let work = self.directories.shelves().work();
            LaunchError::Recovery(work.path().to_owned(), error)
        };
        let read_back = result.map_err(unread)?;
        let is_renewed = self.is_renewed && read_back.is_renewed;
        self.is_renewed = is_renewed;
        self.unfinished += read_back.unfinished;
        self.remembered += read_back.remembered;
        self.recovering -= 1;
        if self.recovering == 0 {
            self.directories
                .forget_clean_stop(self.generation, is_renewed)
                .map_err(unread)?;
            if self.deadline.is_none() {
                self.stage.send_replace(Stage::Serve { is_renewed });
            }
        }
        Ok(())
    }

    fn note_serving(&mut self, start: &mut Start) {
        self.preparing -= 1;
        if self.preparing > 0 || self.deadline.is_some() {
            return;
        }
        for name in start.listening.part_from_unnamed() {
            service::forget(&name);
        }
        for (address, sockets) in start.listening.groups() {
            service::keep(address, sockets);
        }
        start.tell(self.config, self.unfinished, self.remembered);
        service::ready(self.unfinished);
        let addresses = start.listening.addresses.iter();
        observe::announce(addresses.map(|one| (one.address, one.is_secure)));
        if start.file.has_changed {
            let event = "settings_changed";
            tracing::info!(
                event,
                "the settings file was written after they were checked: it is read again"
            );
            self.reloads.ask();
        }
        if std::mem::take(&mut self.is_to_make_way) {
            self.ask_successor();
        }
    }

    /// Only a second signal stops at once: whoever sends one sees the server before him, and an
    /// order says that busy connections have their answer first, however often it is given.
    fn note_stop(&mut self, start: &Start, wish: Wish) {
        let is_signal = wish == Wish::Stop;
        let is_second = is_signal && std::mem::replace(&mut self.is_signalled, true);
        if self.deadline.is_none() {
            tell_stopping();
            // Whoever has asked for the new program hears no more of it.
            if self.checking.is_some() || self.is_to_make_way {
                tell_stop_instead();
            }
            self.begin_to_end(start, Ended::Stopped);
        } else if self.then == Ended::MadeWay {
            tell_stopping();
            tell_stop_instead();
            self.then = Ended::Stopped;
            self.herald.begin_end(false);
            self.tell_of_end();
            begin_to_sync(self.directories);
        } else if !is_second {
            let event = "still_stopping";
            tracing::info!(
                event,
                "stopping already: running requests may finish; a second signal stops at once"
            );
        } else {
            let event = "stopped_at_once";
            tracing::warn!(event, "stopped at once by a second signal");
            observe::flush();
            std::process::exit(1);
        }
    }

    /// Asks the program that is there now whether it could serve, on a thread of its own: it looks
    /// at disks.
    fn ask_successor(&mut self) {
        match self.then {
            _ if self.deadline.is_none() => {}
            Ended::Stopped => return tell_stop_instead(),
            Ended::MadeWay => {
                let event = "still_making_way";
                tracing::info!(event, "making way already: running requests may finish");
                return;
            }
        }
        // Its sessions would be read back twice.
        if self.preparing > 0 {
            self.is_to_make_way = true;
            return;
        }
        if self.checking.is_some() {
            let event = "still_checking";
            tracing::info!(
                event,
                "the new program is being asked already whether it can serve"
            );
            return;
        }
        let (successor, to_main) = (self.successor.clone(), self.to_main.clone());
        let is_wanted = Arc::new(AtomicBool::new(true));
        let checking = Arc::clone(&is_wanted);
        let ask = move || {
            let _ended_meanwhile = to_main.send(News::Checked(successor.check(&is_wanted)));
        };
        let thread = thread::Builder::new().name("successor".to_owned());
        match thread.spawn(ask) {
            Ok(_) => self.checking = Some(checking),
            Err(error) => tell_not_replaced(&LaunchError::Thread(error)),
        }
    }

    /// The program that is being asked ends before this one does: nobody else would end it.
    fn end_check(&mut self, news: &mpsc::Receiver<News>) {
        let Some(checking) = self.checking.take() else {
            return;
        };
        checking.store(false, Ordering::Relaxed);
        let until = Instant::now() + CHECK_ENDS;
        while let Ok(news) = news.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let News::Checked(_) = news {
                return;
            }
        }
    }

    fn note_checked(&mut self, start: &Start, result: Result<(), String>) {
        self.checking = None;
        match result {
            // A server that stops meanwhile stops, and has said so.
            _ if self.deadline.is_some() => {}
            Ok(()) => {
                let event = "making_way";
                tracing::info!(
                    event,
                    "making way for the new program: running requests may finish"
                );
                service::replacing();
                self.begin_to_end(start, Ended::MadeWay);
            }
            Err(why) => tell_not_replaced(&why),
        }
    }

    /// Asks all shards to end, and notes until when they may take.
    fn begin_to_end(&mut self, start: &Start, then: Ended) {
        let keeps_listeners =
            then == Ended::MadeWay || start.listening.is_managed || service::is_managed();
        self.then = then;
        self.herald.begin_end(then == Ended::MadeWay);
        if self.recovering > 0 {
            // Shards that have read back all serve what comes until they have come to their end.
            let _best_effort = self.directories.forget_clean_stop(self.generation, false);
        }
        self.stage.send_replace(Stage::Drain { keeps_listeners });
        let limit = match self.preparing {
            0 => Duration::from_millis(self.reloads.config().limits.shutdown_ms_max),
            // No client has more than a Ping answered yet.
            _ => START_PATIENCE,
        };
        let now = Instant::now();
        self.stopping_since = Some(now);
        self.deadline = Some(now + limit + GRACE);
        self.tell_of_end();
        if then == Ended::Stopped {
            begin_to_sync(self.directories);
        }
    }
}

fn tell_stopping() {
    let event = "stopping";
    tracing::info!(
        event,
        "stopping: running requests may finish; a second signal stops at once"
    );
    service::stopping();
}

/// Who was to make way for a new program, or is asked to, stops instead.
fn tell_stop_instead() {
    let event = "not_replaced";
    tracing::info!(event, "no new program begins: the server is stopping");
}

fn tell_not_replaced(why: &dyn std::fmt::Display) {
    let event = "not_replaced";
    tracing::error!(event, %why, "the new program does not take over: this one goes on");
}

/// The last line of a server that was stopped in order.
fn tell_of_stop(unfinished: usize, synced: Option<bool>, since: Option<Instant>) {
    let took_ms = since.map(|since| millis(since.elapsed()));
    observe::settle();
    let event = "stopped";
    tracing::info!(event, unfinished, synced, took_ms, "stopped");
}
