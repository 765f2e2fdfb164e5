//! The files of an upload, as its notification sees them.
//!
//! Names are opened in the folder that the server has open, never by a path. So nothing is followed
//! that is put in its place meanwhile, nor a link in it. And nothing is waited for that is no
//! regular file.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Permissions of a reply: it is the client's, who fetches it from us.
const REPLY_MODE: Mode = Mode::from_raw_mode(0o600);

/// The folder that an upload and its reply are in.
#[derive(Clone, Debug)]
pub struct Desk {
    folder: Arc<OwnedFd>,
    path: PathBuf,
}

impl Desk {
    /// An open folder, and the path by which applications are told of it; absolute.
    pub fn new(folder: Arc<OwnedFd>, path: &Path) -> Self {
        Self {
            folder,
            path: path.to_owned(),
        }
    }

    /// The path of a file, for an application.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a regular file for reading.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            Mode::empty(),
        )?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the uploaded file is not a regular file",
            )),
        }
    }

    /// Makes a file that does not exist.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(
            &self.folder,
            name,
            flags,
            REPLY_MODE,
        )?))
    }

    /// The length of a regular file; `None` if there is nothing, or something else.
    pub fn regular_bytes(&self, name: &str) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(u64::try_from(stat.st_size).ok())
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether anything stands under a name.
    pub fn has(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a name; `Ok` if there is none.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
