//! The file that is uploaded, and whether it is still the same.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Options;
use super::error::PutError;
use super::memory::{Entry, Identity};
use super::url::Url;
use crate::named_file;

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
        let file = named_file::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => PutError::NotAFile {
                path: path.to_owned(),
            },
            _ => open_error(source),
        })?;
        let stamp = Stamp::of(&file.metadata().map_err(open_error)?);
        let source = Self {
            path: path.to_owned(),
            file,
            stamp,
        };
        source.check_end()?;
        Ok(source)
    }

    /// Whether the file ends where its length says. Those of `/proc` and of some file systems do
    /// not, and what is behind that would be left out in silence.
    pub fn check_end(&self) -> Result<(), PutError> {
        let path = self.path.clone();
        match self.file.read_at(&mut [0], self.stamp.bytes) {
            Ok(0) => Ok(()),
            Ok(_) => {
                // It may only have grown since.
                self.check_unchanged()?;
                let bytes = self.stamp.bytes;
                Err(PutError::Longer { path, bytes })
            }
            Err(source) => Err(PutError::Read { path, source }),
        }
    }

    /// What tells its upload from others.
    pub fn identity(&self, url: &Url) -> Option<Identity> {
        let metadata = self.file.metadata().ok()?;
        Identity::of(&self.path, url, Some(&metadata))
    }

    /// Its place among the remembered uploads. Small files have one too: a Close that was sent is
    /// to be known.
    pub fn entry(&self, url: &Url, options: &Options) -> Option<Entry> {
        let memory = options.memory.as_ref()?;
        memory.entry(self.identity(url)?)
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
