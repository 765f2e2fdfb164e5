//! The file of a shelf that grows by a byte, and is synced, for a commit of its file system.
//!
//! Nothing of it is ever read. So whatever else stands under its name is no fault of the disk, and
//! no reason to give up an upload: it is replaced, and where that cannot be done a file without a
//! name serves as well. Both are new to the journal of the file system, which is all that a commit
//! wants; the folder itself may have nothing to write, and its sync would commit nothing.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::work_folder::WorkFolder;
use crate::diagnosis::SyncNotBegun;
use crate::vault::names::COMMIT_NAME;

/// It begins anew at this length, which is within a page of every file system.
const BYTES_MAX: i64 = 1000;

const MODE: Mode = Mode::from_raw_mode(0o600);

/// Makes the file one byte longer, by whoever and however often at once, and gives it to be synced.
/// It never takes more than its first page.
///
/// # Errors
/// [`SyncNotBegun`]
pub fn grow(folder: &WorkFolder) -> io::Result<OwnedFd> {
    let grown = grow_named(folder).or_else(|error| match is_of_the_name(&error) {
        true => grow_anew(folder, &error),
        false => Err(error),
    });
    grown.map_err(not_begun)
}

/// No sync has failed: none was begun.
pub fn not_begun(error: io::Error) -> io::Error {
    let is_known = (error.get_ref()).is_some_and(|inner| inner.is::<SyncNotBegun>());
    match is_known {
        true => error,
        false => io::Error::new(error.kind(), SyncNotBegun(error)),
    }
}

/// What has the name of the file and cannot be used, in words; `None` also where nothing has it.
pub fn in_the_way(folder: &WorkFolder) -> Option<String> {
    let error = folder
        .open_unread(COMMIT_NAME, OFlags::WRONLY | OFlags::APPEND)
        .err()
        .filter(is_of_the_name)?;
    Some(
        match folder.impostor([COMMIT_NAME.to_owned()].into_iter()) {
            Some((name, what)) => format!("{name} is {what}"),
            None => format!("{COMMIT_NAME} cannot be written: {error}"),
        },
    )
}

/// Replaces what has the name of the file and cannot be used, where that can be done.
pub fn mend(folder: &WorkFolder) {
    if let Some(what) = in_the_way(folder)
        && make_way(folder).is_ok()
    {
        tell(folder, &what);
    }
}

fn grow_named(folder: &WorkFolder) -> io::Result<OwnedFd> {
    let access = OFlags::WRONLY | OFlags::APPEND;
    let file = match folder.open_unread(COMMIT_NAME, access) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match folder.create_file(COMMIT_NAME, access, MODE) {
                // Another shard was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    folder.open_unread(COMMIT_NAME, access)?
                }
                result => result?,
            }
        }
        result => result?,
    };
    if rustix::fs::fstat(&file)?.st_size >= BYTES_MAX {
        rustix::fs::ftruncate(&file, 1)?;
    }
    rustix::io::write(&file, b"+")?;
    Ok(file)
}

fn grow_anew(folder: &WorkFolder, why: &io::Error) -> io::Result<OwnedFd> {
    let what = in_the_way(folder);
    if make_way(folder).is_ok()
        && let Ok(file) = grow_named(folder)
    {
        let what = what.unwrap_or_else(|| format!("{COMMIT_NAME} cannot be written: {why}"));
        tell(folder, &what);
        return Ok(file);
    }
    // The watch says by name what is in the way, once.
    let access = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, ".", access, MODE)?;
    rustix::io::write(&file, b"+")?;
    Ok(file)
}

/// Takes away what has the name: nothing that anybody keeps, and no folder with something in it.
fn make_way(folder: &WorkFolder) -> io::Result<()> {
    let Some(stat) = folder.stat(COMMIT_NAME)? else {
        return Ok(());
    };
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    match rustix::fs::unlinkat(folder, COMMIT_NAME, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn tell(folder: &WorkFolder, what: &str) {
    let why = format!("{what}: the server has made its own again");
    let path = folder.path().display();
    let event = "work_dir_disturbed";
    tracing::warn!(event, %path, why, "somebody has put something else in the place of a file of the server's own");
}

/// Whether it is about what has the name, and not about the disk.
fn is_of_the_name(error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) => matches!(
            errno,
            Errno::ACCESS
                | Errno::PERM
                | Errno::LOOP
                | Errno::ISDIR
                | Errno::NXIO
                | Errno::NODEV
                | Errno::TXTBSY
        ),
        // It is no regular file.
        None => error.kind() == io::ErrorKind::InvalidInput,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    type Maker<'a> = &'a dyn Fn(&Path);

    fn shelf() -> (tempfile::TempDir, WorkFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = WorkFolder::make(&place.path().join("shelf")).unwrap();
        (place, folder)
    }

    #[test]
    fn it_grows_and_begins_anew_within_its_first_page() {
        let (_place, folder) = shelf();
        for _ in 0..=BYTES_MAX {
            grow(&folder).unwrap();
        }
        let bytes = fs::metadata(folder.path().join(COMMIT_NAME)).unwrap().len();
        assert_eq!(bytes, 2);
    }

    #[test]
    fn what_has_its_name_is_replaced_and_nothing_is_followed() {
        let (place, folder) = shelf();
        let (at, victim) = (folder.path().join(COMMIT_NAME), place.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        let pipe = |at: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, at, FileType::Fifo, MODE, 0).unwrap();
        };
        let socket = |at: &Path| drop(std::os::unix::net::UnixListener::bind(at).unwrap());
        let makers: [(&str, Maker<'_>); 4] = [
            ("commit is a folder", &|at| fs::create_dir(at).unwrap()),
            ("commit is a link", &|at| symlink(&victim, at).unwrap()),
            ("commit is a pipe", &pipe),
            ("commit is no file", &socket),
        ];
        for (what, make) in makers {
            for mends in [false, true] {
                make(&at);
                assert_eq!(in_the_way(&folder).as_deref(), Some(what));
                if mends {
                    mend(&folder);
                }
                let grown = grow(&folder).unwrap();
                rustix::fs::fsync(&grown).unwrap();
                assert_eq!(fs::read(&at).unwrap(), b"+", "{what}");
                assert_eq!(in_the_way(&folder), None, "{what}");
                fs::remove_file(&at).unwrap();
            }
        }
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }

    #[test]
    fn what_cannot_be_replaced_is_done_without() {
        let (_place, folder) = shelf();
        let kept = folder.path().join(COMMIT_NAME).join("kept");
        fs::create_dir_all(&kept).unwrap();
        mend(&folder);
        let grown = grow(&folder).unwrap();
        rustix::fs::fsync(&grown).unwrap();
        assert_eq!(rustix::fs::fstat(&grown).unwrap().st_size, 1);
        assert_eq!(in_the_way(&folder).unwrap(), "commit is a folder");
        assert!(kept.exists());
        assert_eq!(folder.names().unwrap(), [COMMIT_NAME]);
    }
}
