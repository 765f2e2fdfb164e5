//! Where a ledger may be kept: whose folder it has to be, and where it must not stand. A check asks
//! the same as a start does, and so does the writer when another folder has its place.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use crate::named_file::kind_without_files;
use crate::shell;

/// Those of other users who might write there.
const OTHERS_WRITE: u32 = 0o022;
/// A file that is made to see whether one can be.
pub(super) const PROBE_NAME: &str = ".probe";

/// Why no ledger can be kept in a folder.
#[derive(Debug, Error)]
pub enum BadLedger {
    #[error("custody: {path}: {0}{hint}", path = .1.display(), hint = hint(.0))]
    Io(#[source] io::Error, PathBuf),
    #[error(
        "custody: {path} is not there: mount its disk, or make a folder for the user who serves (`install -d -m 700 \
         -o USER {word}`); it is never made by itself, so that no line goes to another disk than is meant",
        path = .0.display(), word = shell::word(.0)
    )]
    Missing(PathBuf),
    #[error("custody: {path} is no folder: move it away, or name another path", path = .0.display())]
    NoFolder(PathBuf),
    #[error("custody: {path} belongs to another user: `chown` it to the one who serves", path = .0.display())]
    Owner(PathBuf, u32),
    #[error("custody: others can write to {path}: take that right away (`chmod go-w`)", path = .0.display())]
    Mode(PathBuf),
    #[error("custody: {path} is in {other}, where uploads are: give the ledger a folder of its own",
            path = .0.display(), other = .1.display())]
    Within(PathBuf, PathBuf),
    #[error("custody: the name of the root {path} is not text (UTF-8), as the lines of a ledger are, and so nobody could \
             find its files by them: give it another name", path = .0.display())]
    NotText(PathBuf),
    #[error("custody: another server writes to {path}: give each a folder of its own", path = .0.display())]
    Locked(PathBuf),
    #[error("custody: no file can be made in {path}: {0}{hint}", path = .1.display(), hint = hint(.0))]
    NoFiles(#[source] io::Error, PathBuf),
    #[error(
        "custody: {path}, to which lines are appended, cannot be written: {0}{hint}",
        path = .1.display(), hint = hint(.0)
    )]
    Sealed(#[source] io::Error, PathBuf),
    #[error(
        "custody: there is no thread that writes: {0}; raise TasksMax= of the service (`ulimit -u`)"
    )]
    Thread(#[source] io::Error),
}

/// What helps where a right is there, and yet it is not allowed.
fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => "; `lsattr` shows what forbids it, `chattr -i -a` takes that away",
        Some(Errno::ACCESS) => {
            "; `chown` it to the one who serves, let him write (`chmod u+rwx`), and pass through the folders above it"
        }
        Some(Errno::ROFS) => "; its file system is read-only: remount it writable",
        _ => "",
    }
}

/// The place that the settings name.
#[derive(Clone, Debug)]
pub struct Site {
    path: PathBuf,
    /// The folders that clients write to.
    uploads: Vec<PathBuf>,
    /// Those of them that lines speak of.
    roots: Vec<PathBuf>,
}

impl Site {
    /// That of the ledger; `uploads` are the folders that clients write to.
    pub fn new(path: &Path, uploads: &[&Path]) -> Self {
        Self {
            path: path.to_owned(),
            uploads: uploads.iter().map(|path| (*path).to_owned()).collect(),
            roots: Vec::new(),
        }
    }

    /// The same; its lines will speak of files in these roots.
    #[must_use]
    pub fn speaking_of(self, roots: &[PathBuf]) -> Self {
        let roots = roots.to_vec();
        Self { roots, ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder, and looks whether a ledger may be kept there. Nothing is made.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn look(&self) -> Result<File, BadLedger> {
        let path = &self.path;
        let failed = |errno: Errno| BadLedger::Io(errno.into(), path.clone());
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let here = real(path);
        if let Some(other) = (self.uploads.iter()).find(|other| here.starts_with(real(other))) {
            return Err(BadLedger::Within(path.clone(), other.clone()));
        }
        // Lines have the path without links.
        let mut real_roots = self.roots.iter().map(|root| real(root));
        if let Some(root) = real_roots.find(|root| root.to_str().is_none()) {
            return Err(BadLedger::NotText(root));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => File::from(folder),
            Err(Errno::NOENT) => return Err(BadLedger::Missing(path.clone())),
            Err(Errno::NOTDIR) => return Err(BadLedger::NoFolder(path.clone())),
            Err(errno) => return Err(failed(errno)),
        };
        if let Some(kind) = kind_without_files(&folder) {
            let why = io::Error::other(format!("{kind} is a file system of the kernel"));
            return Err(BadLedger::NoFiles(why, path.clone()));
        }
        let stat = rustix::fs::fstat(&folder).map_err(failed)?;
        self.judge(stat.st_uid, stat.st_mode)?;
        let access = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(&folder, ".", access, AtFlags::EACCESS)
            .map_err(|errno| BadLedger::NoFiles(errno.into(), path.clone()))?;
        Ok(folder)
    }

    /// Whether a folder of this owner and mode is ours alone.
    ///
    /// # Errors
    /// [`BadLedger::Owner`], [`BadLedger::Mode`]
    pub(super) fn judge(&self, owner: u32, mode: u32) -> Result<(), BadLedger> {
        if owner != rustix::process::geteuid().as_raw() {
            return Err(BadLedger::Owner(self.path.clone(), owner));
        }
        match mode & OTHERS_WRITE {
            0 => Ok(()),
            _ => Err(BadLedger::Mode(self.path.clone())),
        }
    }

    /// Takes the folder for this program alone, for as long as it is open, and tries to make a file
    /// in it. A full disk is in order: room may come.
    ///
    /// # Errors
    /// [`BadLedger`]
    pub fn take(&self) -> Result<File, BadLedger> {
        let folder = self.look()?;
        match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(BadLedger::Locked(self.path.clone())),
            Err(errno) => return Err(BadLedger::Io(errno.into(), self.path.clone())),
        }
        let tried = open_file(&folder, PROBE_NAME, OFlags::WRONLY | OFlags::CREATE)
            .and_then(|_| Ok(rustix::fs::unlinkat(&folder, PROBE_NAME, AtFlags::empty())?));
        match tried {
            Ok(()) => Ok(folder),
            Err(error) if is_full(&error) => Ok(folder),
            Err(error) => Err(BadLedger::NoFiles(error, self.path.clone())),
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Whether the file system lets nobody write, whatever rights there are (`chattr +i`).
pub fn is_sealed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::PERM.raw_os_error())
}

/// What helps where neither the disk nor the rights of the folder are to blame.
pub(super) fn remedy_of(error: &io::Error) -> Option<&'static str> {
    if is_sealed(error) {
        return Some(
            "the folder of `custody` or a file in it is append-only or immutable: \
             `lsattr` shows it, `chattr -i -a` takes that away",
        );
    }
    (error.kind() == io::ErrorKind::FileTooLarge).then_some(
        "a limit keeps files short: raise LimitFSIZE= of the service (`ulimit -f`), and restart it; \
         until then the file of the next day is the next that can be written",
    )
}

/// Opens a file to read it and to append lines, and to cut off what is none; says whether the last
/// is not possible, since it is append-only (`chattr +a`, as people do to evidence).
///
/// # Errors
/// As of [`open_file`].
pub(super) fn open_to_append(folder: &File, name: &str) -> io::Result<(File, bool)> {
    match open_file(folder, name, OFlags::RDWR) {
        Err(error) if is_sealed(&error) => {
            let file = open_file(folder, name, OFlags::RDWR | OFlags::APPEND)?;
            Ok((file, true))
        }
        opened => Ok((opened?, false)),
    }
}

/// Opens a regular file in the folder: no link is followed, nothing is waited for, and it is on the
/// folder's own file system, whose syncs are counted on.
///
/// # Errors
/// What the kernel says, or that it is something else.
pub(super) fn open_file(folder: &File, name: &str, access: OFlags) -> io::Result<File> {
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(folder, name, flags, mode)?;
    let (stat, above) = (rustix::fs::fstat(&file)?, rustix::fs::fstat(folder)?);
    let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    match is_regular && stat.st_dev == above.st_dev {
        true => Ok(File::from(file)),
        false => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{name} in the ledger's folder is not a regular file of its own"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_could_write_to_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("custody");
        let take = |uploads: &[&Path]| Site::new(&path, uploads).take().map(drop);
        // A slip in the name, or a disk that is not mounted.
        assert!(matches!(take(&[]), Err(BadLedger::Missing(_))));
        assert!(!path.exists());
        fs::create_dir(&path).unwrap();
        take(&[]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(take(&[]), Err(BadLedger::Mode(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        take(&[]).unwrap();
        take(&[&path.join("root")]).unwrap();
        for uploads in [place.path(), &path] {
            assert!(
                matches!(take(&[uploads]), Err(BadLedger::Within(..))),
                "{uploads:?}"
            );
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        let held = Site::new(&path, &[]).take().unwrap();
        assert!(matches!(take(&[]), Err(BadLedger::Locked(_))));
        drop(held);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(take(&[]), Err(BadLedger::NoFolder(_))));
    }

    #[test]
    fn a_root_that_no_line_can_name_is_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let place = tempfile::tempdir().unwrap();
        let (path, link) = (place.path().join("custody"), place.path().join("link"));
        let odd = std::ffi::OsStr::from_bytes(b"r\xff");
        let root = place.path().join(odd);
        fs::create_dir(&path).unwrap();
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(odd, &link).unwrap();
        for root in [&root, &link] {
            let site = Site::new(&path, &[root]);
            let refused = site.speaking_of(std::slice::from_ref(root)).look();
            assert!(matches!(refused, Err(BadLedger::NotText(_))), "{root:?}");
        }
        Site::new(&path, &[&root]).look().unwrap();
    }

    #[test]
    fn a_file_of_the_ledger_is_a_regular_one_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let folder = File::open(place.path()).unwrap();
        let access = OFlags::RDWR | OFlags::CREATE;
        open_file(&folder, "file", access).unwrap();
        let pipe = place.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink("file", place.path().join("link")).unwrap();
        for name in ["pipe", "link"] {
            assert!(open_file(&folder, name, access).is_err(), "{name}");
        }
    }
}
