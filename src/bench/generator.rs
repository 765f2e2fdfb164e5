//! The loop: many connections take turns on one thread.
//!
//! A connection is served when epoll says that it may send or has something to say. One that could
//! send more than a turn's bytes stands in line behind the others. New connections are opened only
//! while few others wait for their first answer. Otherwise ten thousand of them would overrun a
//! listener's queue and then wait for the kernel's retries.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};

use super::connection::{Connection, Framing, Sent};
use super::content::Content;
use super::conversation::{Conversation, Mode, Next, Script};
use super::fault::{CannotRun, Fault};
use super::options::{Options, Progress};
use super::report::Latencies;
use crate::client::connection::Broken;
use crate::client::secure::Secure;

/// What becomes of a connection after an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It carries the next one.
    Alive,
    /// It is closed.
    Session,
    /// It stays open and silent: one upload for each connection.
    Held,
}

/// An upload that has a session at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub file: u64,
    pub session: String,
}

/// What a run came to so far.
#[derive(Debug, Default)]
pub struct Tally {
    pub files: u64,
    pub failed: u64,
    /// What was wrong with the first.
    pub first_error: Option<String>,
    /// Numbers of the files that must be stored now, if they are to be read back.
    pub stored: Vec<u64>,
    /// What was begun, and has failed or was interrupted.
    pub unfinished: Vec<Unfinished>,
    pub sent_bytes: u64,
    /// Times of the requests that carry bytes.
    pub fragments: Latencies,
    /// Times of whole uploads.
    pub sessions: Latencies,
    /// From the start to the last answer.
    pub duration: Duration,
    /// What the server takes of a fragment, where it has refused a larger one.
    pub fragment_bytes: Option<u64>,
}

impl Tally {
    /// Counts an upload as failed.
    pub fn fail(&mut self, fault: &Fault) {
        self.failed += 1;
        self.first_error.get_or_insert_with(|| fault.to_string());
    }
}

/// Room for one connection and what goes on there.
#[derive(Debug)]
struct Slot {
    connection: Option<Connection>,
    upload: Option<Conversation>,
    upload_began: Instant,
    request_began: Instant,
    /// When bytes last went either way.
    moved: Instant,
    /// Counted among those that wait for their first answer.
    is_new: bool,
}

pub struct Generator<'c> {
    poll: Poll,
    address: SocketAddr,
    script: Script,
    secure: Option<Secure>,
    content: &'c Content,
    keep: Keep,
    stall: Duration,
    files: u64,
    keeps_numbers: bool,
    /// What is ended, and nothing else is done; by number of the file.
    to_end: Vec<Unfinished>,
    /// `next_file <= files`; the number of the file to begin next.
    next_file: u64,
    slots: Vec<Slot>,
    slots_max: usize,
    /// Slots that would send more though epoll will not say so again.
    in_line: VecDeque<usize>,
    /// Slots whose connection has not yet heard an answer (where answers come only at the end: not
    /// yet sent a byte).
    new_slots: usize,
    tally: Tally,
    block: Vec<u8>,
}

impl<'c> Generator<'c> {
    /// A run that has not begun.
    ///
    /// # Errors
    /// [`CannotRun::Poll`].
    pub fn new(
        options: &Options,
        address: SocketAddr,
        content: &'c Content,
        keep: Keep,
    ) -> Result<Self, CannotRun> {
        Ok(Self {
            poll: Poll::new().map_err(CannotRun::Poll)?,
            address,
            script: options.script.clone(),
            secure: options.secure.clone(),
            content,
            keep,
            stall: options.stall,
            files: options.files,
            keeps_numbers: options.verify.is_some(),
            to_end: Vec::new(),
            next_file: 0,
            slots: Vec::new(),
            slots_max: options.connections,
            in_line: VecDeque::new(),
            new_slots: 0,
            tally: Tally::default(),
            block: vec![0; BLOCK_BYTES],
        })
    }

    /// The same, of a run that only ends these: as many files as there are.
    pub fn ending(self, to_end: Vec<Unfinished>) -> Self {
        Self { to_end, ..self }
    }

    /// What it came to so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Ends it: every connection is closed.
    pub fn into_tally(self) -> Tally {
        self.tally
    }

    /// How many of its open connections the server has closed.
    pub fn lost(&self) -> usize {
        let connections = self.slots.iter().map(|slot| &slot.connection);
        connections
            .filter(|connection| connection.as_ref().is_none_or(Connection::is_lost))
            .count()
    }

    /// Runs until every file has succeeded or failed, or the watcher has seen enough.
    ///
    /// # Errors
    /// [`CannotRun::Poll`].
    pub fn run(&mut self, watch: &mut Watcher<'_>) -> Result<(), CannotRun> {
        let began = Instant::now();
        let mut events = Events::with_capacity(EVENTS);
        let mut told = began;
        while self.tally.files + self.tally.failed < self.files {
            self.open_slots();
            let patience = if self.in_line.is_empty() {
                TICK
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(CannotRun::Poll(error));
                }
                _ => {}
            }
            for event in &events {
                let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.serve(event.token().0, is_readable);
            }
            for _ in 0..self.in_line.len() {
                if let Some(slot) = self.in_line.pop_front() {
                    self.serve(slot, false);
                }
            }
            let now = Instant::now();
            if now.duration_since(told) >= TICK {
                told = now;
                self.end_stalled(now);
                let progress = Progress {
                    files: self.tally.files,
                    failed: self.tally.failed,
                    bytes: self.tally.sent_bytes,
                };
                if watch(progress).is_break() {
                    break;
                }
            }
        }
        for slot in &mut self.slots {
            let left = slot.upload.take();
            (self.tally.unfinished).extend(left.as_ref().and_then(Unfinished::of));
        }
        self.tally.duration = began.elapsed();
        Ok(())
    }

    fn open_slots(&mut self) {
        while self.slots.len() < self.slots_max
            && self.next_file < self.files
            && self.new_slots < NEW_SLOTS_MAX
        {
            let now = Instant::now();
            self.slots.push(Slot {
                connection: None,
                upload: None,
                upload_began: now,
                request_began: now,
                moved: now,
                is_new: false,
            });
            self.begin(self.slots.len() - 1);
        }
    }

    /// Begins the next file on this slot, or closes it when there is none.
    fn begin(&mut self, at: usize) {
        while self.next_file < self.files {
            let file = self.next_file;
            self.next_file += 1;
            let now = Instant::now();
            let slot = &mut self.slots[at];
            slot.upload_began = now;
            slot.moved = now;
            let to_end = usize::try_from(file)
                .ok()
                .and_then(|at| self.to_end.get(at));
            slot.upload = Some(match to_end {
                Some(one) => Conversation::ending(one.file, one.session.clone()),
                None => Conversation::new(file, self.script.mode),
            });
            match self.connect(at) {
                Ok(()) => return self.ask(at),
                Err(broken) => {
                    self.slots[at].upload = None;
                    self.tally.fail(&broken.into());
                }
            }
        }
        self.slots[at].connection = None;
    }

    fn connect(&mut self, at: usize) -> Result<(), Broken> {
        let slot = &mut self.slots[at];
        if slot.connection.is_some() {
            return Ok(());
        }
        let framing = match self.script.mode {
            Mode::Raw => Framing::Byte,
            Mode::Bits | Mode::Put | Mode::Ping => Framing::Http,
        };
        let registry = self.poll.registry();
        let session = match &self.secure {
            None => None,
            Some(secure) => {
                let session = secure.session(self.script.folder.host());
                Some(session.map_err(Broken::Connect)?)
            }
        };
        let connection = Connection::open(self.address, registry, Token(at), framing, session)?;
        slot.connection = Some(connection);
        if !std::mem::replace(&mut slot.is_new, true) {
            self.new_slots += 1;
        }
        Ok(())
    }

    /// Puts the next request up and sends what the socket takes.
    fn ask(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        let (Some(upload), Some(connection)) = (&slot.upload, &mut slot.connection) else {
            return;
        };
        connection.put_up(upload.file(), |head| upload.request(&self.script, head));
        slot.request_began = Instant::now();
        // A connection that is not yet open would block, and tells when it is.
        if !slot.is_new {
            self.serve(at, false);
        }
    }

    /// Lets a slot do what it can.
    fn serve(&mut self, at: usize, is_readable: bool) {
        if let Err(fault) = self.try_serve(at, is_readable) {
            self.give_up(at, &fault);
        }
    }

    fn try_serve(&mut self, at: usize, is_readable: bool) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        let Some(connection) = &mut slot.connection else {
            return Ok(());
        };
        if is_readable {
            let received = connection.receive(&mut self.block);
            if slot.upload.is_none() {
                // Held and silent: whether it is still there is asked at the end.
                return Ok(());
            }
            if let Some(reply) = received? {
                let is_early = connection.is_sending();
                return self.answered(at, &reply, is_early);
            }
        }
        if connection.is_sending() {
            let before = self.tally.sent_bytes;
            let sent = connection.send(self.content, &mut self.tally.sent_bytes)?;
            if self.tally.sent_bytes != before {
                slot.moved = Instant::now();
                // These modes hear nothing before the end.
                if matches!(self.script.mode, Mode::Put | Mode::Raw) && slot.is_new {
                    slot.is_new = false;
                    self.new_slots -= 1;
                }
            }
            if sent == Sent::MoreNow {
                self.in_line.push_back(at);
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        at: usize,
        reply: &crate::client::upload::Reply,
        is_early: bool,
    ) -> Result<(), Fault> {
        let slot = &mut self.slots[at];
        let (Some(upload), Some(connection)) = (&mut slot.upload, &slot.connection) else {
            return Ok(());
        };
        let now = Instant::now();
        let carried = upload.carries_content(&self.script);
        let next = upload.take(&self.script, reply)?;
        if let Next::Smaller(bytes) = next {
            // Those under way on other slots hear it themselves.
            self.script.fragment_bytes = self.script.fragment_bytes.min(bytes);
            self.tally.fragment_bytes = Some(self.script.fragment_bytes);
        } else if is_early {
            return Err(Fault::EarlyReply(reply.status));
        }
        slot.moved = now;
        if std::mem::take(&mut slot.is_new) {
            self.new_slots -= 1;
        }
        if carried && next == Next::Request {
            self.tally.fragments.add(now - slot.request_began);
        }
        match next {
            Next::Request | Next::Smaller(_) if connection.is_reusable() && !is_early => {
                self.ask(at);
            }
            Next::Request | Next::Smaller(_) => {
                // The server wants each request on a connection of its own.
                slot.connection = None;
                self.connect(at)?;
                self.ask(at);
            }
            Next::Done => {
                self.tally.sessions.add(now - slot.upload_began);
                self.tally.files += 1;
                if self.keeps_numbers {
                    self.tally.stored.push(upload.file());
                }
                let is_kept = connection.is_reusable() && self.keep != Keep::Session;
                slot.upload = None;
                if self.keep != Keep::Held {
                    if !is_kept {
                        slot.connection = None;
                    }
                    self.begin(at);
                }
            }
        }
        Ok(())
    }

    /// The upload failed; the slot goes on with the next file on a new connection.
    fn give_up(&mut self, at: usize, fault: &Fault) {
        let slot = &mut self.slots[at];
        let upload = slot.upload.take();
        let is_between_uploads = upload.is_none();
        (self.tally.unfinished).extend(upload.as_ref().and_then(Unfinished::of));
        slot.connection = None;
        if std::mem::take(&mut slot.is_new) {
            self.new_slots -= 1;
        }
        if !is_between_uploads {
            self.tally.fail(fault);
        }
        self.begin(at);
    }

    fn end_stalled(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if slot.upload.is_some() && now.saturating_duration_since(slot.moved) > self.stall {
                self.give_up(at, &Fault::Stalled(self.stall));
            }
        }
    }
}

impl Unfinished {
    fn of(upload: &Conversation) -> Option<Self> {
        let session = upload.session()?.to_owned();
        let file = upload.file();
        Some(Self { file, session })
    }
}

/// Hears how a run fares, and may end it.
pub type Watcher<'w> = dyn FnMut(Progress) -> ControlFlow<()> + 'w;

/// How often the watcher hears, and stalls are looked for.
const TICK: Duration = Duration::from_millis(100);
const EVENTS: usize = 1024;
/// Answers are far smaller.
const BLOCK_BYTES: usize = 16 * 1024;
/// Well below the queue of any listener that expects many clients (4096 is the kernel's default).
const NEW_SLOTS_MAX: usize = 512;
