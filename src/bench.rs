//! `bitsd bench`: a load generator for BITS servers.
//!
//! One thread and epoll drive up to ten thousand connections and more. It shares nothing with the
//! server's data path: no ring, no parser, no buffers. [`conversation`] decides what is said and
//! judges every answer, [`connection`] sends and receives, [`generator`] lets them take turns,
//! [`content`] makes bytes that can be checked at any offset.

pub mod connection;
pub mod content;
pub mod conversation;
pub mod generator;
pub mod report;
pub mod verify;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use crate::client::connection::Broken;
use content::Content;
use conversation::{Mode, Script, WrongReply};
use generator::{Generator, Keep};
use report::Report;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is said for each file.
    pub script: Script,
    /// How many connections upload at the same time.
    pub connections: usize,
    /// How many files are uploaded in all.
    pub files: u64,
    /// A new connection for each file.
    pub is_connection_per_session: bool,
    /// Connections that are opened first and held.
    pub idle: usize,
    /// Where the server stored the files, if they are to be read back.
    pub verify: Option<PathBuf>,
    /// Files that were read back stay where they are.
    pub keep: bool,
    /// An upload fails when it does not move for this long.
    pub stall: Duration,
}

/// What is wrong with an upload.
#[derive(Debug)]
pub enum Fault {
    Broken(Broken),
    Reply(WrongReply),
    /// An answer came before the whole request was sent.
    EarlyReply(u16),
    /// Nothing moved.
    Stalled(Duration),
    /// The stored file cannot be read.
    Unreadable {
        name: String,
        source: io::Error,
    },
    /// The stored file is not what was sent.
    Stored {
        name: String,
        /// Where the first difference is, or where it ends.
        offset: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => broken.fmt(f),
            Self::Reply(wrong) => wrong.fmt(f),
            Self::EarlyReply(status) => {
                write!(f, "{status} came before the whole request was sent")
            }
            Self::Stalled(time) => write!(f, "nothing moved for {} s", time.as_secs()),
            Self::Unreadable { name, source } => {
                write!(f, "{name} cannot be read back: {source}")
            }
            Self::Stored { name, offset } => {
                write!(f, "{name} differs from what was sent at offset {offset}")
            }
        }
    }
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<WrongReply> for Fault {
    fn from(wrong: WrongReply) -> Self {
        Self::Reply(wrong)
    }
}

/// Why there is no run.
#[derive(Debug)]
pub enum CannotRun {
    /// The host has no address.
    LookUp(io::Error),
    /// The kernel gives no epoll.
    Poll(io::Error),
    /// The idle connections could not be opened.
    Idle {
        /// How many failed.
        failed: u64,
        /// The first reason.
        why: String,
    },
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookUp(error) => write!(f, "the host was not found: {error}"),
            Self::Poll(error) => write!(f, "epoll failed: {error}"),
            Self::Idle { failed, why } => {
                write!(f, "{failed} idle connections could not be opened: {why}")
            }
        }
    }
}

impl std::error::Error for CannotRun {}

/// How a run fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub files: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// Runs it all; `watch` hears about ten times a second how it fares.
///
/// # Errors
/// [`CannotRun`], if nothing could be tried. Uploads that fail are in the [`Report`].
pub fn run(options: &Options, watch: &mut dyn FnMut(Progress)) -> Result<Report, CannotRun> {
    let address = address(options)?;
    let content = Content::new();
    let idle = open_idle(options, address, &content)?;
    let keep = if options.is_connection_per_session {
        Keep::Session
    } else {
        Keep::Alive
    };
    let mut generator = Generator::new(options, address, &content, keep)?;
    generator.run(watch)?;
    let mut tally = generator.into_tally();
    let verified_bytes = options.verify.as_ref().map(|folder| {
        let mut verified_bytes = 0;
        for file in std::mem::take(&mut tally.stored) {
            match verify::verify(&content, folder, &options.script, file) {
                Ok(()) => verified_bytes += options.script.file_bytes,
                Err(fault) => tally.fail(&fault),
            }
            if !options.keep {
                // What is not there was told above.
                let _ = std::fs::remove_file(folder.join(options.script.file_name(file)));
            }
        }
        verified_bytes
    });
    let seconds = tally.duration.as_secs_f64();
    let file_bytes = match options.script.mode {
        Mode::Ping => 0,
        Mode::Bits | Mode::Put | Mode::Raw => options.script.file_bytes,
    };
    let bytes = tally.files * file_bytes;
    Ok(Report {
        mode: options.script.mode.name(),
        connections: options.connections,
        idle: options.idle,
        idle_lost: idle.map_or(0, |idle| idle.lost()),
        files: tally.files,
        failed: tally.failed,
        first_error: tally.first_error,
        file_bytes,
        fragment_bytes: options.script.fragment_bytes,
        bytes,
        seconds,
        gb_per_s: bytes as f64 / 1e9 / seconds,
        files_per_s: tally.files as f64 / seconds,
        fragment: tally.fragments.summary(),
        session: tally.sessions.summary(),
        verified_bytes,
    })
}

fn address(options: &Options) -> Result<SocketAddr, CannotRun> {
    let url = &options.script.folder;
    let mut addresses = (url.host(), url.port())
        .to_socket_addrs()
        .map_err(CannotRun::LookUp)?;
    addresses.next().ok_or_else(|| {
        CannotRun::LookUp(io::Error::new(io::ErrorKind::NotFound, "it has no address"))
    })
}

/// Each idle connection says one Ping, so that it is known to be accepted, and then nothing.
fn open_idle<'c>(
    options: &Options,
    address: SocketAddr,
    content: &'c Content,
) -> Result<Option<Generator<'c>>, CannotRun> {
    if options.idle == 0 {
        return Ok(None);
    }
    let pings = Options {
        script: Script {
            mode: Mode::Ping,
            ..options.script.clone()
        },
        connections: options.idle,
        files: options.idle as u64,
        idle: 0,
        verify: None,
        ..options.clone()
    };
    let mut idle = Generator::new(&pings, address, content, Keep::Held)?;
    idle.run(&mut |_| {})?;
    let tally = idle.tally();
    match &tally.first_error {
        None => Ok(Some(idle)),
        Some(why) => Err(CannotRun::Idle {
            failed: tally.failed,
            why: why.clone(),
        }),
    }
}
