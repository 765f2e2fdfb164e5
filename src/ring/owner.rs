//! Whose a folder of ours is: each says so in a note, so that no server takes the files of another
//! one for orphans of its own.

use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::launch_error::LaunchError;
use super::work_folder::{BadFolder, Holds, WorkFolder};
use crate::vault::names::{self, OWNER_NAME, WorkName};

/// More than any of our own notes needs.
pub const NOTE_BYTES_MAX: u64 = 1 << 20;

/// What folders are taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To serve: what is missing is made, and stays.
    #[default]
    Serve,
    /// To find out whether a server could: what has to be made for that is removed again, and no
    /// notes are written.
    Check,
}

/// The name of a server, that is of its work directory.
#[derive(Clone, Copy, Debug)]
pub struct ServerId {
    /// As it stands in the folders.
    pub id: u128,
    /// The next start will know it.
    pub is_kept: bool,
}

impl ServerId {
    /// That of a work directory, which gets one unless it has one; for a check it stays without.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn of_work(work: &WorkFolder, purpose: Purpose) -> Result<Self, LaunchError> {
        let failed = |error| LaunchError::Folder(work.path().to_owned(), BadFolder::Io(error));
        let owner = work.read(OWNER_NAME, NOTE_BYTES_MAX).map_err(failed)?;
        match owner.as_deref().and_then(OwnerNote::parse) {
            Some(OwnerNote {
                id, work_dir: None, ..
            }) => return Ok(Self { id, is_kept: true }),
            // A shelf of another server.
            Some(owner) => {
                refuse_claimed(work, owner.work_dir)?;
            }
            None => {}
        }
        let id = new_id().map_err(failed)?;
        let owner = OwnerNote {
            id,
            work_dir: None,
            shelf: None,
        };
        if purpose == Purpose::Check {
            return Ok(Self { id, is_kept: true });
        }
        match work.write(OWNER_NAME, &owner.text()) {
            Ok(()) => Ok(Self { id, is_kept: true }),
            // A disk that is full now must not keep the server from what it can do; only a shelf
            // needs the name.
            Err(error) if is_full(&error) => Ok(Self { id, is_kept: false }),
            Err(error) => Err(failed(error)),
        }
    }

    /// A shelf says whose it is, so that a server that knows nothing of its files does not take
    /// them for orphans. Gives the shelf's own name, as far as it has one.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn claim_shelf(
        &self,
        folder: &WorkFolder,
        work_dir: &Path,
        purpose: Purpose,
    ) -> Result<Option<u128>, LaunchError> {
        let failed = |error| LaunchError::Folder(folder.path().to_owned(), BadFolder::Io(error));
        let owner = folder.read(OWNER_NAME, NOTE_BYTES_MAX).map_err(failed)?;
        let owner = owner.as_deref().and_then(OwnerNote::parse);
        let is_ours =
            (owner.as_ref()).is_some_and(|owner| owner.id == self.id && owner.work_dir.is_some());
        match owner {
            Some(owner) if is_ours && (owner.shelf.is_some() || purpose == Purpose::Check) => {
                return Ok(owner.shelf);
            }
            owner if !is_ours => {
                refuse_claimed(folder, owner.and_then(|owner| owner.work_dir))?;
                if purpose == Purpose::Check {
                    return Ok(None);
                }
                if !self.is_kept {
                    return Err(failed(io::ErrorKind::StorageFull.into()));
                }
            }
            // Marked by an older version.
            _ => {}
        }
        let shelf = Some(new_id().map_err(failed)?);
        let note = OwnerNote {
            id: self.id,
            work_dir: Some(work_dir.to_owned()),
            shelf,
        };
        match folder.write(OWNER_NAME, &note.text()) {
            Ok(()) => Ok(shelf),
            // It is marked as ours already.
            Err(error) if is_ours && is_full(&error) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// A name that nothing else has.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn new_id() -> io::Result<u128> {
    let mut id = [0; 16];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    Ok(u128::from_ne_bytes(id))
}

/// Whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOSPC | Errno::DQUOT))
}

/// Refuses a folder with sessions of somebody else, whose work directory this is.
///
/// # Errors
/// [`LaunchError::Claimed`], or what the disk says.
pub fn refuse_claimed(folder: &WorkFolder, by: Option<PathBuf>) -> Result<(), LaunchError> {
    let shelf = folder.path().to_owned();
    match what_it_holds(folder) {
        Ok(Holds::Nothing) => Ok(()),
        Ok(holds) => Err(LaunchError::Claimed { shelf, by, holds }),
        Err(error) => Err(LaunchError::Folder(shelf, BadFolder::Io(error))),
    }
}

/// Whether parts, replies or journals stand in a folder.
///
/// # Errors
/// What the disk says.
pub fn holds_sessions(folder: &WorkFolder) -> io::Result<bool> {
    Ok(what_it_holds(folder)? != Holds::Nothing)
}

/// What of sessions stands in a folder; a journal without a record is nothing.
///
/// # Errors
/// What the disk says.
pub fn what_it_holds(folder: &WorkFolder) -> io::Result<Holds> {
    let mut holds = Holds::Nothing;
    for name in folder.names()? {
        let found = match names::parse_name(&name) {
            WorkName::Aside(_)
            | WorkName::Ours
            | WorkName::Misspelt
            | WorkName::OfFileSystem
            | WorkName::Foreign => Holds::Nothing,
            WorkName::Journal { .. } => match folder.stat(&name)? {
                Some(journal) if journal.st_size > 0 => Holds::Records,
                _ => Holds::Nothing,
            },
            WorkName::Part(_) | WorkName::Reply(_) | WorkName::Digest(_) | WorkName::Note(_) => {
                Holds::Uploads
            }
        };
        holds = holds.max(found);
    }
    Ok(holds)
}

/// Whose a folder is.
#[derive(Debug, PartialEq, Eq)]
pub struct OwnerNote {
    /// The server's.
    pub id: u128,
    /// The work directory that a shelf belongs to; a work directory is its own.
    pub work_dir: Option<PathBuf>,
    /// The shelf's own name; those of older versions have none.
    pub shelf: Option<u128>,
}

impl OwnerNote {
    /// As it is written.
    pub fn text(&self) -> Vec<u8> {
        let mut text = format!("{:032x}\n", self.id).into_bytes();
        if let Some(work_dir) = &self.work_dir {
            text.extend_from_slice(work_dir.as_os_str().as_bytes());
            text.push(b'\n');
        }
        if let Some(shelf) = self.shelf {
            text.extend_from_slice(format!("{shelf:032x}\n").as_bytes());
        }
        text
    }

    /// What [`Self::text`] wrote.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let id = std::str::from_utf8(lines.next()?).ok()?;
        // What is no path is damage.
        let work_dir = lines.next().filter(|line| line.starts_with(b"/"));
        let shelf = lines.next().and_then(|line| {
            let line = std::str::from_utf8(line).ok()?;
            u128::from_str_radix(line, 16).ok()
        });
        Some(Self {
            id: u128::from_str_radix(id, 16).ok()?,
            work_dir: work_dir
                .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))),
            shelf,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_back() {
        let path = || Some(PathBuf::from("/srv/a b/.bitsd"));
        for (work_dir, shelf) in [(None, None), (path(), None), (path(), Some(5))] {
            let owner = OwnerNote {
                id: u128::MAX - 7,
                work_dir,
                shelf,
            };
            assert_eq!(OwnerNote::parse(&owner.text()), Some(owner));
        }
        let damaged = OwnerNote::parse(b"07\n\x00\x01garbage\n").unwrap();
        assert_eq!((damaged.id, damaged.work_dir), (7, None));
        assert_eq!(OwnerNote::parse(b"nonsense\n"), None);
        assert_eq!(OwnerNote::parse(b""), None);
    }
}
