//! `bitsd put`: a resuming BITS upload client on plain blocking sockets.
//!
//! [`upload::Upload`] decides, [`connection::Connection`] sends and receives, and [`upload()`] here
//! lets them talk. It waits while the server cannot take the upload, connects anew where a
//! connection broke, and gives up after too long without progress. Each wait doubles up to a bound
//! and shrinks back with the first progress.

pub mod authorization;
mod cancel;
pub mod connection;
pub mod digest;
pub mod done;
pub mod error;
mod head;
pub mod memory;
mod patience;
pub mod secure;
mod source;
pub mod upload;
pub mod url;
mod way;

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use authorization::Authorization;
use cancel::cancel_along;
pub use cancel::{cancel, cancel_session, is_given_up};
use connection::{Along, Body, Broken, Connection, Timeouts};
use digest::Sent;
pub use error::PutError;
use head::{content_name, packet_head};
use memory::{Entry, Identity, Left, Memory};
use patience::Patience;
use secure::Secure;
use source::Source;
use upload::{Next, Packet, Refused, Reply, Upload};
use url::Url;
use way::Way;

/// How to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a fragment; never below 5 KiB.
    pub fragment_bytes: u64,
    /// Give up when retries brought nothing for this long.
    pub retry_for: Duration,
    /// The same for a server that has not answered once: most likely the URL is wrong.
    pub first_answer_within: Duration,
    /// The first wait before a retry; each further one doubles, up to 5 seconds.
    pub retry_delay: Duration,
    /// How long to wait for the server.
    pub timeouts: Timeouts,
    /// Where an interrupted upload is remembered, so that a later run goes on with it.
    pub memory: Option<Memory>,
    /// For URLs that say https.
    pub secure: Option<Secure>,
    /// Who sends, where that is to be shown.
    pub credentials: Option<Authorization>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fragment_bytes: 4 * 1024 * 1024,
            retry_for: Duration::from_secs(600),
            first_answer_within: Duration::from_secs(600),
            retry_delay: Duration::from_millis(100),
            timeouts: Timeouts::default(),
            memory: None,
            secure: None,
            credentials: None,
        }
    }
}

/// Hears how an upload fares.
pub trait Watch {
    /// The file's size is known.
    fn begins(&mut self, total: u64) {
        let _ = total;
    }
    /// Bytes up to here were sent, or have to be sent again from here.
    fn stands_at(&mut self, offset: u64) {
        let _ = offset;
    }
    /// The server took something new.
    fn came_forward(&mut self) {}
    /// The server gave a session; whether a later run can go on with it.
    fn has_session(&mut self, session: &Left, is_remembered: bool) {
        let _ = (session, is_remembered);
    }
    /// The file is at its destination, and nothing else is known of it any more when this returns.
    fn is_there(&mut self, identity: &Identity) {
        let _ = identity;
    }
    /// A packet is sent, and there has been no answer for so long.
    fn hears_nothing(&mut self, silent: Duration) {
        let _ = silent;
    }
    /// The upload waits before it tries again, and no longer than this.
    fn waits(&mut self, why: &Hitch, left: Duration) {
        let _ = (why, left);
    }
}

/// Watches nothing.
#[derive(Debug)]
pub struct Unwatched;
impl Watch for Unwatched {}

/// What makes an upload wait.
#[derive(Debug)]
pub enum Hitch {
    /// No connection, or a broken one.
    Broken(Broken),
    /// The server cannot just now.
    Unavailable(Refused),
}

impl fmt::Display for Hitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Unavailable(refused) => refused.fmt(f),
        }
    }
}

/// A finished upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes of the file.
    pub bytes: u64,
    /// From the first packet to the last reply.
    pub duration: Duration,
    /// How often it went on after an interruption.
    pub resumes: u32,
    /// Bytes that an earlier run had sent, where this one went on with it.
    pub resumed_at: Option<u64>,
}

/// Uploads one file to one URL (not a folder; see [`Url::for_file`]).
///
/// # Errors
/// [`PutError`]; the session is cancelled at the server where that is still possible, unless a
/// later run can go on with it.
pub fn upload(
    path: &Path,
    url: &Url,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Uploaded, PutError> {
    let source = Source::open(path)?;
    let total = source.stamp.bytes;
    watch.begins(total);
    let started = Instant::now();
    let identity = source.identity(url);
    let mut entry = source.entry(url, options);
    let recalled = entry.as_mut().and_then(Entry::recall);
    let left_behind = entry.as_mut().and_then(Entry::recall_other);
    let upload = match &recalled {
        Some(left) => {
            watch.has_session(left, true);
            let resume = match left.is_closing {
                true => Upload::resume_close,
                false => Upload::resume,
            };
            resume(total, options.fragment_bytes, left.session.clone())
        }
        None => Upload::new(total, options.fragment_bytes),
    };
    let mut way = Way::home(url.clone()).showing(options.credentials.as_ref());
    if let Some(node) = recalled.as_ref().and_then(|left| left.node.as_deref()) {
        // Where it is gone, so is the session, and the upload begins anew.
        way.lead_to(node, Some(Duration::ZERO));
    }
    let mut run = Run {
        upload,
        way,
        greets: false,
        name: content_name(path),
        source,
        url,
        options,
        entry,
        left_behind,
        connection: None,
        patience: Patience::new(options),
        resumes: 0,
        asks: recalled.is_some(),
        left: recalled,
        resumed_at: None,
        sent: RefCell::default(),
    };
    match run.finish(watch) {
        Ok(()) => {
            if let Some(identity) = &identity {
                watch.is_there(identity);
            }
            run.forget();
            Ok(Uploaded {
                bytes: run.source.stamp.bytes,
                duration: started.elapsed(),
                resumes: run.resumes,
                resumed_at: run.resumed_at,
            })
        }
        Err(PutError::GaveUp { after, last, .. }) if run.is_remembered() => Err(PutError::GaveUp {
            after,
            last,
            is_remembered: true,
        }),
        Err(error) => {
            // What is still to be given up is found by the next run, or by `--cancel`.
            let is_given_up = run.cancel() || matches!(error, PutError::Changed { .. });
            if is_given_up && run.left_behind.is_none() {
                run.forget();
            }
            Err(error)
        }
    }
}

/// One upload under way.
struct Run<'o> {
    upload: Upload,
    way: Way,
    /// A node is greeted, which is no interruption.
    greets: bool,
    /// For `Content-Name`, where the file's name may stand there.
    name: Option<String>,
    source: Source,
    url: &'o Url,
    options: &'o Options,
    /// What a later run finds.
    entry: Option<Entry>,
    /// The session at hand, as it is remembered.
    left: Option<Left>,
    /// The session of an earlier run, when another file had the path.
    left_behind: Option<Left>,
    connection: Option<Connection>,
    patience: Patience,
    resumes: u32,
    /// It is not known yet how far an earlier run came.
    asks: bool,
    resumed_at: Option<u64>,
    /// What went, for the digest.
    sent: RefCell<Sent>,
}

impl Run<'_> {
    fn finish(&mut self, watch: &mut dyn Watch) -> Result<(), PutError> {
        while let Some(packet) = self.upload.packet() {
            self.source.check_unchanged()?;
            match packet {
                Packet::CreateSession => self.give_up_what_was_left(),
                Packet::CloseSession => {
                    self.source.check_end()?;
                    self.note_close();
                }
                _ => {}
            }
            let hitch = match self.exchange(&packet, watch) {
                Ok(reply) => self.take(&packet, &reply, watch)?,
                Err(Broken::File(source)) => return Err(self.source.failed(source)),
                Err(
                    broken @ (Broken::NotHttp(_)
                    | Broken::NotSecure(_)
                    | Broken::NotShown(_)
                    | Broken::HeadTooLarge),
                ) => {
                    return Err(PutError::NoServer(broken));
                }
                Err(broken) => {
                    self.upload.broken();
                    Some(Hitch::Broken(broken))
                }
            };
            watch.stands_at(self.upload.offset());
            if let Some(hitch) = hitch {
                self.connection = None;
                self.patience.wait(hitch, watch)?;
            }
        }
        Ok(())
    }

    /// Hands a reply over; returns what makes us wait.
    fn take(
        &mut self,
        packet: &Packet,
        reply: &Reply,
        watch: &mut dyn Watch,
    ) -> Result<Option<Hitch>, PutError> {
        if self.way.is_doubtful() && !reply.is_bits {
            self.lead_home();
            self.upload.broken();
            return Ok(Some(Hitch::Unavailable(Refused::of(packet.name(), reply))));
        }
        self.compare(reply)?;
        let next = self.upload.answered(reply)?;
        self.patience.was_answered = true;
        if *packet == Packet::Ping && next != Next::Later && self.upload.session().is_some() {
            let is_greeting = std::mem::take(&mut self.greets);
            self.resumes += u32::from(!self.asks && !is_greeting);
        }
        if self.upload.session().is_none() {
            self.lead_home();
        }
        if matches!(packet, Packet::Fragment { .. }) && std::mem::take(&mut self.asks) {
            self.resumed_at = self.upload.session().map(|_| self.upload.offset());
        }
        if *packet == Packet::CreateSession
            && let Some(session) = self.upload.session().map(str::to_owned)
        {
            if let Some(node) = &reply.node
                && self.way.lead_to(node, reply.node_fallback)
            {
                self.connection = None;
                self.greets = true;
                self.upload.greets();
            }
            let node = reply.node.clone();
            self.asks = false;
            let left = Left {
                session,
                node,
                is_closing: false,
            };
            self.left = Some(left.clone());
            let noted = self.entry.as_mut().map(|entry| entry.note(left.clone()));
            let is_remembered = noted.is_some_and(|noted| noted.is_ok());
            watch.has_session(&left, is_remembered);
        }
        match next {
            Next::Forward => {
                self.patience.renew();
                watch.came_forward();
            }
            Next::Again => {}
            Next::Later => return Ok(Some(Hitch::Unavailable(Refused::of(packet.name(), reply)))),
        }
        Ok(None)
    }

    /// Whether the server has what we have, where it says what it has: with the last byte, before
    /// the file is published, and at the end.
    fn compare(&mut self, reply: &Reply) -> Result<(), PutError> {
        let Some(theirs) = reply.digest.filter(|_| reply.status == 200) else {
            return Ok(());
        };
        let Source { file, stamp, .. } = &self.source;
        let ours = self.sent.borrow_mut().finish(file, stamp.bytes);
        let ours = ours.map_err(|error| self.source.failed(error))?;
        match ours == theirs {
            true => Ok(()),
            // Our own file may be another one by now.
            false => Err(match self.source.check_unchanged() {
                Err(changed) => changed,
                Ok(()) => PutError::Differs { ours, theirs },
            }),
        }
    }

    fn lead_home(&mut self) {
        if self.way.lead_home() {
            self.connection = None;
        }
    }

    /// Sends a packet on the connection at hand, or on a new one.
    fn exchange(&mut self, packet: &Packet, watch: &mut dyn Watch) -> Result<Reply, Broken> {
        let timeouts = self.patience.timeouts(packet, self.options.timeouts);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let secure = self.options.secure.as_ref();
                self.way.connect(timeouts, secure)?
            }
        };
        connection.wait_by(timeouts);
        let shown = self.options.credentials.as_ref();
        connection.may_show(shown)?;
        let range = match packet {
            Packet::Fragment { range } => range.clone(),
            _ => 0..0,
        };
        let is_fragment = !range.is_empty();
        let body = Body {
            file: &self.source.file,
            range,
            sent: &self.sent,
        };
        let is_fragment = is_fragment && !self.asks;
        let head = packet_head(
            self.way.url(),
            packet,
            self.upload.session(),
            self.name.as_deref(),
            self.source.stamp.bytes,
            shown,
        );
        let reply = connection.exchange(head, Some(&body), &mut |along| match along {
            Along::Sent(offset) if is_fragment => watch.stands_at(offset),
            Along::Sent(_) => {}
            Along::Silent(silent) => watch.hears_nothing(silent),
        })?;
        if connection.is_reusable() {
            self.connection = Some(connection);
        }
        Ok(reply)
    }

    /// Before a Close is sent.
    fn note_close(&mut self) {
        let (Some(left), Some(entry)) = (&mut self.left, &mut self.entry) else {
            return;
        };
        if !std::mem::replace(&mut left.is_closing, true) {
            // What cannot be noted only costs a later run more.
            let _ = entry.note(left.clone());
        }
    }

    /// Whether a later run goes on from here.
    fn is_remembered(&mut self) -> bool {
        self.upload.session().is_some() && self.entry.as_mut().and_then(Entry::recall).is_some()
    }

    fn forget(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.forget();
        }
    }

    /// Nobody goes on with it, and it would lie at the server until it expires.
    fn give_up_what_was_left(&mut self) {
        if let Some(left) = self.left_behind.take() {
            // Best effort: the upload at hand does not depend on it.
            let _ = cancel_session(self.url, &left, self.options);
        }
    }

    /// Whether nothing is left at the server.
    fn cancel(&mut self) -> bool {
        let Some(session) = self.upload.session() else {
            return true;
        };
        // Best effort: the user hears of the failure that brought us here.
        let answered = cancel_along(&mut self.way, session, self.options);
        answered.is_ok_and(|reply| is_given_up(&reply))
    }
}

#[cfg(test)]
mod tests;
