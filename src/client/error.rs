//! Why a file was not uploaded, in words for whoever asked for it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::Hitch;
use super::connection::Broken;
use super::digest::{Digest, hexadecimal};
use super::upload::Failure;

/// Why a file was not uploaded.
#[derive(Debug)]
pub enum PutError {
    /// The file cannot be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a pipe or a device.
    NotAFile {
        /// What is none.
        path: PathBuf,
    },
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has more bytes than its length says.
    Longer {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The file's size or time changed while it was sent.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// What the server has is not what was sent.
    Differs {
        /// SHA-256 of the file.
        ours: Digest,
        /// SHA-256 of what arrived.
        theirs: Digest,
    },
    /// The server refuses it, or makes no sense.
    Failed(Failure),
    /// What answers is no HTTP server.
    NoServer(Broken),
    /// Retries brought nothing for too long.
    GaveUp {
        /// How long they went on.
        after: Duration,
        /// What stood in the way last.
        last: Hitch,
        /// Whether a later run goes on from here.
        is_remembered: bool,
    },
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => write!(f, "cannot open {}: {source}", path.display()),
            Self::NotAFile { path } if path.is_dir() => {
                write!(
                    f,
                    "{} is a directory: -r uploads what is in it",
                    path.display()
                )
            }
            Self::NotAFile { path } => write!(
                f,
                "{} is not a regular file: BITS must know its length first, so write it to a file",
                path.display()
            ),
            Self::Read { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Longer { path, bytes } => write!(
                f,
                "{} is longer than its length says ({bytes} bytes): write it to a file first",
                path.display()
            ),
            Self::Changed { path } => write!(
                f,
                "{} changed while it was uploaded (copy it first, or rotate it)",
                path.display()
            ),
            Self::Differs { ours, theirs } => write!(
                f,
                "what arrived is not what was sent: the SHA-256 of the file is {}, that of what the server has is {}",
                hexadecimal(ours),
                hexadecimal(theirs)
            ),
            Self::Failed(failure) => failure.fmt(f),
            Self::NoServer(broken) => broken.fmt(f),
            Self::GaveUp {
                after,
                last,
                is_remembered,
            } => {
                write!(
                    f,
                    "gave up after {:.1} s of retries without progress: {last}",
                    after.as_secs_f64()
                )?;
                match is_remembered {
                    true => f.write_str("; the same command goes on from there"),
                    false => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for PutError {}

impl From<Failure> for PutError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
