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

use crate::named_file::clear_of_folder;
use crate::vault::names;

/// Permissions of a reply: it is the client's, who fetches it from us.
const REPLY_MODE: Mode = Mode::from_raw_mode(0o600);

/// The folder that an upload and its reply are in.
#[derive(Clone, Debug)]
pub struct Desk {
    folder: Arc<OwnedFd>,
    path: PathBuf,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Nothing,
    /// A regular file of so many bytes.
    File(u64),
    /// Something else: a link, a pipe.
    NoFile,
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

    /// What stands under a name.
    pub fn look(&self, name: &str) -> io::Result<Stands> {
        let stat = match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Stands::Nothing),
            Err(error) => return Err(error.into()),
        };
        let bytes = u64::try_from(stat.st_size);
        Ok(match (FileType::from_raw_mode(stat.st_mode), bytes) {
            (FileType::RegularFile, Ok(bytes)) => Stands::File(bytes),
            _ => Stands::NoFile,
        })
    }

    /// Removes a name; `Ok` if there is none. A folder with something in it is somebody's: it is
    /// set aside.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => clear_of_folder(&self.folder, name, names::asides(name)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_no_reply() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "1234").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        let opened = File::open(folder.path()).unwrap();
        let desk = Desk::new(Arc::new(opened.into()), folder.path());
        for (name, found) in [
            ("file", Stands::File(4)),
            ("link", Stands::NoFile),
            ("folder", Stands::NoFile),
            ("none", Stands::Nothing),
        ] {
            assert_eq!(desk.look(name).unwrap(), found, "{name}");
            desk.remove(name).unwrap();
            assert_eq!(desk.look(name).unwrap(), Stands::Nothing, "{name}");
        }
        // What somebody has put into a folder is not lost, also not the second time.
        for aside in ["folder.aside", "folder.1.aside"] {
            std::fs::create_dir(path("folder")).unwrap();
            std::fs::write(path("folder/theirs"), aside).unwrap();
            desk.remove("folder").unwrap();
            assert_eq!(desk.look("folder").unwrap(), Stands::Nothing);
            assert_eq!(
                std::fs::read_to_string(path(aside).join("theirs")).unwrap(),
                aside
            );
        }
    }
}
