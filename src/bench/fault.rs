//! What may be wrong with an upload, and why there may be no run at all.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::conversation::WrongReply;
use crate::client::connection::Broken;

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
    /// Not all idle connections could be opened.
    Idle {
        /// How many were to be.
        wanted: usize,
        /// How many were, until the first ones failed.
        opened: u64,
        /// Why the first of those did.
        why: String,
    },
    /// Nothing can be made, and removed, in the folder of the stored files.
    Folder(PathBuf, io::Error),
    /// The server stores its files elsewhere.
    OtherFolder(PathBuf),
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookUp(error) => write!(f, "the host was not found: {error}"),
            Self::Poll(error) => write!(f, "epoll failed: {error}"),
            Self::Idle {
                wanted,
                opened,
                why,
            } => write!(
                f,
                "only {opened} of {wanted} idle connections could be opened: {why}"
            ),
            Self::Folder(path, error) => write!(
                f,
                "--verify {}: {error}; files are read back and removed there",
                path.display()
            ),
            Self::OtherFolder(path) => write!(
                f,
                "--verify {}: what is uploaded to this URL is stored elsewhere; nothing was stored",
                path.display()
            ),
        }
    }
}

impl std::error::Error for CannotRun {}
