//! The file that is uploaded, and whether it is still the same.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Options;
use super::error::PutError;
use super::memory::{Entry, Identity};
use super::url::Url;

/// The local file, opened once.
pub struct Source {
    pub path: PathBuf,
    pub file: File,
    pub stamp: Stamp,
}

/// What must not change while we send (protocol.md 6.8: the Windows client fails the job).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub bytes: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Self, PutError> {
        let open_error = |source| PutError::Open {
            path: path.to_owned(),
            source,
        };
        // Asked before opening: to open a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(open_error)?.is_file() {
            return Err(PutError::NotAFile {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(open_error)?;
        let stamp = Stamp::of(&file.metadata().map_err(open_error)?);
        Ok(Self {
            path: path.to_owned(),
            file,
            stamp,
        })
    }

    /// Its place among the remembered uploads. One fragment is not worth remembering.
    pub fn entry(&self, url: &Url, options: &Options) -> Option<Entry> {
        let Stamp { bytes, modified } = self.stamp;
        if bytes <= options.fragment_bytes {
            return None;
        }
        let identity = Identity::of(&self.path, url, bytes, modified)?;
        options.memory.as_ref()?.entry(identity)
    }

    pub fn check_unchanged(&self) -> Result<(), PutError> {
        match self.file.metadata() {
            Ok(metadata) if Stamp::of(&metadata) == self.stamp => Ok(()),
            Ok(_) => Err(PutError::Changed {
                path: self.path.clone(),
            }),
            Err(source) => Err(PutError::Read {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// A read that failed: too short a file has changed.
    pub fn failed(&self, source: io::Error) -> PutError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => PutError::Changed { path },
            _ => PutError::Read { path, source },
        }
    }
}
