//! A folder that is the server's alone: the work directory, or a shelf on another file system.
//!
//! What stands in it is believed at the next start, and published with the server's rights. So
//! nobody else may write to it, and that is checked when it is opened. Where others may write to
//! the folder above it, they could put another folder in its place. There a folder of ours is known
//! by a mark: a file of ours with the sticky bit, which no upload ever has.
//!
//! Everything in it is opened by the descriptor of the folder, so nothing is followed that somebody
//! puts in its place later. A link is never followed, the other end of a pipe is never waited for,
//! and only a regular file is taken. What is written anew is another file that is renamed, so that
//! no reader ever meets half of it.

pub mod hold;
mod locking;
pub mod ours;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::hold::Hold;
use super::account;
use crate::diagnosis::is_not_ours;
use crate::named_file::{kind_without_files, sync_names_in};
use crate::vault::names::{WorkName, parse_name};

pub use locking::Lock;

/// What nobody but the server needs to read.
const OURS_MODE: Mode = Mode::from_raw_mode(0o600);
/// The ending of a file that is about to get its name.
pub const NEW_SUFFIX: &str = ".new";

/// An open folder of ours.
#[derive(Clone, Debug)]
pub struct WorkFolder {
    descriptor: Arc<OwnedFd>,
    path: Arc<Path>,
}

/// Why a folder cannot be ours.
#[derive(Debug)]
pub enum BadFolder {
    /// It does not exist.
    Missing,
    /// Something else has its name.
    NotDirectory,
    /// Somebody else's.
    Owner(u32),
    /// Others may write to it.
    Writable(Mode),
    /// Others may have put it in the place of ours.
    Exposed(Exposure),
    /// No server has had it, and this stands in it.
    Occupied(String),
    /// Its file system, of this name, holds no files.
    NoFiles(&'static str),
    /// Its file system cannot lock files.
    NoLocks(io::Error),
    /// Something else.
    Io(io::Error),
}

/// What of sessions stands in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Nothing that anybody could miss.
    Nothing,
    /// Records only: which uploads have ended, and what is owed to targets of events.
    Records,
    /// Unfinished uploads.
    Uploads,
}

/// Others may rename a folder of ours, and put another one in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The folder that it stands in.
    pub parent: PathBuf,
    /// Who may.
    pub to: Others,
}

/// Who may write to a folder, apart from us and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Everybody.
    All,
    /// A group.
    Group(u32),
    /// Its owner.
    Owner(u32),
}

impl From<Errno> for BadFolder {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::NOTDIR | Errno::LOOP => Self::NotDirectory,
            error => Self::Io(error.into()),
        }
    }
}

impl WorkFolder {
    /// Opens a folder and looks whether it is ours alone. Only where a person has chosen the place
    /// may it be a link.
    ///
    /// # Errors
    /// [`BadFolder`]
    pub fn open(path: &Path, is_chosen: bool) -> Result<Self, BadFolder> {
        let mut flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if !is_chosen {
            flags |= OFlags::NOFOLLOW;
        }
        let descriptor = rustix::fs::open(path, flags, Mode::empty())?;
        if let Some(name) = kind_without_files(&descriptor) {
            return Err(BadFolder::NoFiles(name));
        }
        check(&descriptor)?;
        // Only a message and the names told to applications show it.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            descriptor: Arc::new(descriptor),
            path: path.into(),
        })
    }

    /// Makes it, for us alone, and opens it.
    ///
    /// # Errors
    /// [`BadFolder`]
    pub fn make(path: &Path) -> Result<Self, BadFolder> {
        rustix::fs::mkdir(path, Mode::RWXU)?;
        Self::open(path, false)
    }

    /// Whether others may rename it.
    pub fn exposure(&self) -> Option<Exposure> {
        let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Where we may not look, nobody but root can say.
        let parent = rustix::fs::openat(&self.descriptor, "..", up, Mode::empty()).ok()?;
        let to = others(&rustix::fs::fstat(&parent).ok()?)?;
        let parent = path_of(&parent);
        Some(Exposure { parent, to })
    }

    /// Whether a file has the mark: no client, and no other account, can make one that has.
    pub fn is_marked(&self, name: &str) -> bool {
        is_marked_within(&self.descriptor, name)
    }

    /// Its path when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Opens a regular file that exists and is ours alone.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` if it is anything else;
    /// [`crate::diagnosis::NotOurs`].
    pub fn open_file(&self, name: &str, access: OFlags) -> io::Result<OwnedFd> {
        let (file, stat) = self.open_any(name, access)?;
        ours::check(&self.descriptor, name, &stat)?;
        Ok(file)
    }

    /// The same of one that nobody reads, whoever may write to it.
    ///
    /// # Errors
    /// What the kernel says; `InvalidInput` if it is anything else.
    pub fn open_unread(&self, name: &str, access: OFlags) -> io::Result<OwnedFd> {
        self.open_any(name, access).map(|(file, _)| file)
    }

    fn open_any(&self, name: &str, access: OFlags) -> io::Result<(OwnedFd, Stat)> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let no_file = || out_of_place(name, "not a regular file");
        let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let file = match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            // A socket, a pipe that nobody reads, a device that is not there: no fault of the disk.
            Err(Errno::NXIO | Errno::NODEV)
                if self.stat(name)?.is_some_and(|stat| !is_file(&stat)) =>
            {
                return Err(no_file());
            }
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&file)?;
        if !is_file(&stat) {
            return Err(no_file());
        }
        // With the flag, the ring would fail what has to wait on some file systems.
        rustix::fs::fcntl_setfl(&file, access & OFlags::APPEND)?;
        Ok((file, stat))
    }

    /// Makes a file that does not exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn create_file(&self, name: &str, access: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(&self.descriptor, name, flags, mode)?)
    }

    /// Reads a whole file; `None` if there is none.
    ///
    /// # Errors
    /// What the kernel says; `FileTooLarge` beyond `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_file(name, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|error| or_link(name, error))?,
        };
        let mut bytes = Vec::new();
        let mut limited = fs::File::from(file).take(bytes_max.saturating_add(1));
        limited.read_to_end(&mut bytes)?;
        match bytes.len() as u64 > bytes_max {
            true => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "{name} in it is larger than {bytes_max} bytes, as none of ours is: move it away"
                ),
            )),
            false => Ok(Some(bytes)),
        }
    }

    /// Writes a whole file under a new name, marks it, and gives it its own, durably.
    ///
    /// # Errors
    /// What the kernel says; what stood there before stands there still.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}{NEW_SUFFIX}");
        self.remove(&new)?;
        // What is left of one that could not be written is nothing to anybody.
        (self.write_as(&new, name, bytes)).inspect_err(|_| drop(self.remove(&new)))?;
        sync_names_in(&self.descriptor)
    }

    fn write_as(&self, new: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = fs::File::from(self.create_file(new, OFlags::WRONLY, OURS_MODE)?);
        file.write_all(bytes)?;
        // Where the file system has no such bit, there is no mark.
        let _ = rustix::fs::fchmod(&file, OURS_MODE | Mode::SVTX);
        file.sync_all()?;
        Ok(rustix::fs::renameat(
            &self.descriptor,
            new,
            &self.descriptor,
            name,
        )?)
    }

    /// Writes over the beginning of a file that exists, durably. Where that is as long already, it
    /// takes no room on the disk.
    ///
    /// # Errors
    /// What the kernel says; then nobody knows what the file holds.
    pub fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = fs::File::from(self.open_file(name, OFlags::WRONLY)?);
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    }

    /// Makes its names durable, as far as its file system can.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync(&self) -> io::Result<()> {
        sync_names_in(&self.descriptor)
    }

    /// Removes a name; `Ok` if there is none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What stands under a name, itself and not what it leads to; `None` if nothing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first of these names that something else has than a regular file, and what that is. What
    /// cannot be looked at is not told.
    pub fn impostor(
        &self,
        mut names: impl Iterator<Item = String>,
    ) -> Option<(String, &'static str)> {
        names.find_map(|name| {
            let stat = self.stat(&name).ok()??;
            let what = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => return None,
                FileType::Symlink => "a link",
                FileType::Directory => "a folder",
                FileType::Fifo => "a pipe",
                _ => "no file",
            };
            Some((name, what))
        })
    }

    /// Whether a file that may stand there is ours alone.
    ///
    /// # Errors
    /// [`crate::diagnosis::NotOurs`], and what the kernel says.
    pub fn check_file(&self, name: &str) -> io::Result<()> {
        match self.stat(name)? {
            Some(stat) => ours::check(&self.descriptor, name, &stat),
            None => Ok(()),
        }
    }

    /// The first of these files that is not ours alone, in words that name what helps. What cannot
    /// be looked at is not told.
    pub fn not_ours(&self, mut names: impl Iterator<Item = String>) -> Option<String> {
        names.find_map(|name| {
            let wrong = self.check_file(&name).err().filter(is_not_ours)?;
            Some(wrong.to_string())
        })
    }

    /// All names. Those that are not UTF-8 come out changed, and are nobody's then.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.names_that(|_| true)
    }

    /// Those of all names that are looked for: there may be very many others.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn names_that(&self, is_looked_for: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.descriptor)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." && is_looked_for(&name) {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }
}

impl AsFd for WorkFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A link of that name is told by name: the kernel would only speak of too many of them.
pub fn or_link(name: &str, error: io::Error) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => out_of_place(name, "a link"),
        _ => error,
    }
}

/// Something has the name of a file of ours that is none.
fn out_of_place(name: &str, what: &str) -> io::Error {
    let remedy = remedy_of_impostor(name);
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("{name} in it is {what}: {remedy}"),
    )
}

/// What helps where something else has the name of a file of ours.
pub fn remedy_of_impostor(name: &str) -> &'static str {
    match parse_name(name) {
        WorkName::Journal { .. } => {
            "put back the journal that was there, as a file: without it its uploads begin again (a \
             server that runs has what is in it, and writes its own)"
        }
        _ => "move it away",
    }
}

/// The folder that a server has locked, among this one and those above it; it holds one of these
/// names. What cannot be opened cannot be told.
pub fn in_use_above(folder: &OwnedFd, names: &[&str]) -> Option<PathBuf> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::openat(folder, ".", flags, Mode::empty()).ok()?;
    loop {
        // Others lock folders, too (systemd-tmpfiles does).
        let is_ours = |name: &&str| rustix::fs::statat(&here, *name, AtFlags::empty()).is_ok();
        let locked = rustix::fs::flock(&here, FlockOperation::NonBlockingLockShared);
        if locked == Err(Errno::WOULDBLOCK) && names.iter().any(is_ours) {
            return Some(path_of(&here));
        }
        let above = rustix::fs::openat(&here, "..", flags, Mode::empty()).ok()?;
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        let (below, top) = (
            rustix::fs::fstat(&here).ok()?,
            rustix::fs::fstat(&above).ok()?,
        );
        if identity(below) == identity(top) {
            return None;
        }
        here = above;
    }
}

/// Whether a file in some folder has the mark of a folder of ours ([`WorkFolder::is_marked`]).
pub fn is_marked_within(folder: &OwnedFd, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == account::our_id()
        && Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX)
}

/// Whether a folder is ours alone.
fn check(folder: &OwnedFd) -> Result<(), BadFolder> {
    let stat = rustix::fs::fstat(folder)?;
    match hold::of(stat.st_uid, stat.st_mode) {
        Hold::Ours => Ok(()),
        Hold::Elses(owner) => Err(BadFolder::Owner(owner)),
        Hold::Open(mode) => Err(BadFolder::Writable(Mode::from_raw_mode(mode))),
    }
}

/// Who, apart from us and root, may rename what is ours in a folder. In one with the sticky bit,
/// only its owner may.
fn others(folder: &Stat) -> Option<Others> {
    let mode = Mode::from_raw_mode(folder.st_mode);
    let is_sticky = mode.contains(Mode::SVTX);
    if folder.st_uid != 0 && folder.st_uid != account::our_id() {
        return Some(Others::Owner(folder.st_uid));
    }
    if mode.contains(Mode::WOTH) && !is_sticky {
        return Some(Others::All);
    }
    let is_group = mode.contains(Mode::WGRP) && !is_sticky && folder.st_gid != 0;
    (is_group && !account::is_ours_alone(folder.st_gid)).then_some(Others::Group(folder.st_gid))
}

/// Where a descriptor leads to now, for a message.
pub fn path_of(descriptor: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    fs::read_link(link).unwrap_or_else(|_| PathBuf::from("the folder above"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, WorkFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = WorkFolder::make(&place.path().join("work")).unwrap();
        (place, folder)
    }

    #[test]
    fn a_file_can_be_written_over_where_no_new_one_can_be_made() {
        let (place, folder) = folder();
        folder.write("note", b"first\n").unwrap();
        // What a full disk would do to it.
        fs::create_dir_all(place.path().join("work/note.new/full")).unwrap();
        folder.write("note", b"other\n").unwrap_err();
        folder.overwrite("note", b"third\n").unwrap();
        let read = folder.read("note", 100).unwrap();
        assert_eq!(read.as_deref(), Some(&b"third\n"[..]));
        assert!(folder.overwrite("none", b"x").is_err());
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_has_the_name_of_a_file_and_is_none_is_found() {
        let (place, folder) = folder();
        let at = |name: &str| place.path().join("work").join(name);
        let first = |names: &[&str]| folder.impostor(names.iter().map(|name| (*name).to_owned()));
        fs::write(at("file"), "").unwrap();
        assert_eq!(first(&["file", "none"]), None);
        symlink("file", at("link")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for (name, what) in [("link", "a link"), ("folder", "a folder")] {
            assert_eq!(first(&["file", name]), Some((name.to_owned(), what)));
        }
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_ours() {
        let (place, folder) = folder();
        for mode in [0o770, 0o702, 0o777] {
            set_mode(folder.path(), mode);
            let refused = WorkFolder::open(folder.path(), true);
            assert!(matches!(refused, Err(BadFolder::Writable(_))), "{mode:o}");
        }
        set_mode(folder.path(), 0o755);
        assert!(WorkFolder::open(folder.path(), true).is_ok());
        // Whoever may write above it may put another one in its place, unless that folder is
        // sticky.
        assert_eq!(folder.exposure(), None);
        set_mode(place.path(), 0o777);
        let exposure = Exposure {
            parent: place.path().to_owned(),
            to: Others::All,
        };
        assert_eq!(folder.exposure(), Some(exposure));
        set_mode(place.path(), 0o1777);
        assert_eq!(folder.exposure(), None);
        // By the mark ours is known from one that was made of uploads.
        folder.write("note", b"").unwrap();
        fs::write(folder.path().join("upload"), "").unwrap();
        assert!(folder.is_marked("note"));
        assert!(!folder.is_marked("upload") && !folder.is_marked("none"));
    }

    #[test]
    fn a_link_is_followed_only_where_it_was_chosen() {
        let (place, folder) = folder();
        let link = place.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(WorkFolder::open(&link, true).is_ok());
        let refused = WorkFolder::open(&link, false);
        assert!(
            matches!(refused, Err(BadFolder::NotDirectory)),
            "{refused:?}"
        );
        let refused = WorkFolder::open(&place.path().join("none"), true);
        assert!(matches!(refused, Err(BadFolder::Missing)), "{refused:?}");
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let (place, folder) = folder();
        let secret = place.path().join("secret");
        fs::write(&secret, "untouched").unwrap();
        symlink(&secret, folder.path().join("link")).unwrap();
        symlink(&secret, folder.path().join("note.new")).unwrap();
        symlink(&secret, folder.path().join("note")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, OURS_MODE, 0).unwrap();
        for name in ["link", "folder", "pipe", "note"] {
            for access in [OFlags::RDONLY, OFlags::WRONLY] {
                assert!(folder.open_file(name, access).is_err(), "{name}");
            }
        }
        folder.write("note", b"new").unwrap();
        assert_eq!(folder.read("note", 3).unwrap().unwrap(), b"new");
        let too_long = folder.read("note", 2).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(folder.read("none", 3).unwrap(), None);
        assert_eq!(fs::read(&secret).unwrap(), b"untouched");
        let mut names = folder.names().unwrap();
        names.sort();
        assert_eq!(names, ["folder", "link", "note", "pipe"]);
    }
}
