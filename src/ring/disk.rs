//! Files of one shard on its shelves. How they are written stands in [`super::work_file`].
//!
//! Syncs and reservations go through the ring. Names (create, rename, remove) are plain system
//! calls, and records plain writes: the kernel would hand each of them to a worker thread, for a
//! call of a few microseconds. Where they run, and where whatever takes longer does, is decided by
//! the [`super::lane`] of the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::commit_file;
use super::descriptor::Descriptor;
use super::freeing;
use super::lane::Lane;
use super::log::RingLog;
use super::mark;
use super::op::{self, SyncScope};
use super::shelves::SharedShelves;
use super::stamp;
use super::walk;
use super::work_file::{RingFile, Route, route_of};
use super::work_folder::{WorkFolder, ours};
use crate::config::Io;
use crate::named_file::clear_of_folder;
use crate::vault::disk::{Commit, ReplyStat, Shelf, StatResult, WorkKind, WorkStat, millis};
use crate::vault::names::{self, NamesOf};
use crate::wall_clock;

/// Permissions of an upload, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// The shelves, as one shard uses them.
pub struct RingDisk {
    shelves: SharedShelves,
    io: Io,
    /// The route into the page cache of each shelf that was written to.
    routes: RefCell<BTreeMap<Shelf, Route>>,
    lanes: RefCell<BTreeMap<Shelf, Rc<Lane>>>,
}

impl RingDisk {
    /// Takes the open shelves.
    pub fn new(shelves: SharedShelves, io: Io) -> Self {
        Self {
            shelves,
            io,
            routes: RefCell::default(),
            lanes: RefCell::default(),
        }
    }

    /// The lane of the disk of a shelf, and of the roots that belong to it.
    pub fn lane(&self, shelf: Shelf) -> Rc<Lane> {
        let mut lanes = self.lanes.borrow_mut();
        let new = || Rc::new(Lane::new(self.shelves.is_remote(shelf)));
        Rc::clone(lanes.entry(shelf).or_insert_with(new))
    }

    /// The shelves themselves.
    pub fn shelves(&self) -> &SharedShelves {
        &self.shelves
    }

    fn route(&self, shelf: Shelf) -> Route {
        match self.io {
            Io::Ring => Route::Ring,
            Io::Inline | Io::Direct => Route::Inline,
            Io::Auto => *(self.routes.borrow_mut().entry(shelf))
                .or_insert_with(|| route_of(self.shelves.get(shelf).descriptor())),
        }
    }

    /// See [`crate::vault::disk::WorkFiles::create`].
    pub async fn create(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let make = move || with_inode(folder.create_file(&name, OFlags::RDWR, FILE_MODE)?);
        let made = self.lane(shelf).run("create a file", make).await?;
        Ok(self.work_file(shelf, made))
    }

    /// See [`crate::vault::disk::WorkFiles::open`].
    pub async fn open(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let open = move || match folder.open_file(&name, OFlags::RDWR) {
            // Whose it is says more than that the kernel keeps us out, and helps.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                folder.check_file(&name)?;
                Err(error)
            }
            opened => with_inode(opened?),
        };
        let opened = self.lane(shelf).look("open a file", open).await?;
        Ok(self.work_file(shelf, opened))
    }

    fn work_file(&self, shelf: Shelf, (file, inode): (OwnedFd, u64)) -> RingFile {
        RingFile {
            file: Descriptor::new(file, self.lane(shelf)),
            inode,
            route: self.route(shelf),
            may_be_direct: matches!(self.io, Io::Auto | Io::Direct),
            direct: RefCell::default(),
            lane: self.lane(shelf),
        }
    }

    /// See [`crate::vault::disk::WorkFiles::stat`].
    pub async fn stat(&self, shelf: Shelf, name: &str) -> StatResult {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let look = move || work_stat(&folder, &name);
        self.lane(shelf).look("look at a file", look).await
    }

    /// See [`crate::vault::disk::WorkFiles::stat_all`]. Nobody knows how long so many take: they go
    /// by the lane.
    pub async fn stat_all(&self, shelf: Shelf, names: &[String]) -> io::Result<Vec<StatResult>> {
        let (folder, looked_at) = (self.shelves.get(shelf), names.to_vec());
        let look = move || {
            let stats = looked_at.iter().map(|name| work_stat(&folder, name));
            Ok(stats.collect())
        };
        self.lane(shelf).send_look(look).await
    }

    /// Whether a file that others are to be told of is ours alone.
    ///
    /// # Errors
    /// [`crate::diagnosis::NotOurs`], and what the kernel says.
    pub async fn check_file(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let check = move || folder.check_file(&name);
        self.lane(shelf).look("look at a file", check).await
    }

    /// See [`crate::vault::disk::WorkFiles::create_log`].
    pub async fn create_log(&self, name: &str) -> io::Result<RingLog> {
        RingLog::create(self.shelves.work(), name, self.lane(Shelf::WORK)).await
    }

    /// See [`crate::vault::disk::WorkFiles::open_reply`].
    pub async fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(RingFile, ReplyStat)>> {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let open = move || {
            // Whatever an application has put there: a pipe must not hold up the shard until it has
            // a writer.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match walk::open_resolved(folder.as_fd(), &name, flags, resolve) {
                Ok(file) => served(file),
                // Nothing, a link, a way out of the directory, a way through a file, a socket.
                Err(Errno::NOENT | Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::NXIO) => {
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        };
        let served = self.lane(shelf).look("open a reply", open).await?;
        Ok(served.map(|served| self.to_be_sent(shelf, served)))
    }

    /// A file that is only read.
    pub fn to_be_sent(
        &self,
        shelf: Shelf,
        (file, stat): (OwnedFd, ReplyStat),
    ) -> (RingFile, ReplyStat) {
        let file = RingFile {
            file: Descriptor::new(file, self.lane(shelf)),
            inode: stat.inode,
            route: Route::Ring,
            may_be_direct: false,
            direct: RefCell::default(),
            lane: self.lane(shelf),
        };
        (file, stat)
    }

    /// See [`crate::vault::disk::WorkFiles::remove`]. What a big file holds is freed later, off the
    /// shard.
    pub async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        let lane = self.lane(shelf);
        let (folder, file_name) = (self.shelves.get(shelf), name.to_owned());
        let take_away = move || take_name_away(&folder, &file_name);
        // Never refused: nobody would remove it later.
        match lane.go_on("remove a file", take_away).await? {
            Removal::Done => Ok(()),
            Removal::Held(file) => {
                lane.free(file).await;
                Ok(())
            }
            Removal::TakesLong => {
                let (folder, name) = (self.shelves.get(shelf), name.to_owned());
                lane.send_long(move || folder.remove(&name)).await
            }
        }
    }

    /// See [`crate::vault::disk::WorkFiles::rename`].
    pub async fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()> {
        let folder = self.shelves.get(shelf);
        let (from, to) = (from.to_owned(), to.to_owned());
        let rename = move || Ok(rustix::fs::renameat(&folder, from, &folder, to)?);
        self.lane(shelf).run("rename a file", rename).await
    }

    /// See [`crate::vault::disk::WorkFiles::list`].
    pub async fn list(&self, shelf: Shelf, wanted: NamesOf) -> io::Result<Vec<String>> {
        let folder = self.shelves.get(shelf);
        let list = move || folder.names_that(|name| wanted.has(name));
        self.lane(shelf).send_look(list).await
    }

    /// See [`crate::vault::disk::WorkFiles::sync_shelf`].
    pub async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()> {
        let folder = self.shelves.get(shelf);
        if self.shelves.commits_in_order(shelf) != Some(Commit::Shelf) {
            return op::sync_folder(folder.descriptor()).await;
        }
        let grow = move || commit_file::grow(&folder);
        let grown = self.lane(shelf).go_on("begin a commit", grow).await;
        // Also where the lane has no thread.
        let grown = grown.map_err(commit_file::not_begun)?;
        op::sync(&Rc::new(grown), SyncScope::Data).await
    }
}

/// What stands under a name, and what is known of it.
fn work_stat(folder: &WorkFolder, name: &str) -> StatResult {
    let stat = folder.stat(name)?;
    Ok(stat.map(|stat| {
        let stamp = stamp::of(&stat);
        WorkStat {
            kind: kind(folder, name, &stat),
            bytes: stamp.bytes,
            age_ms: age_ms(&stat),
            inode: stamp.inode,
            occupied: freeing::occupied(&stat),
            modified_ns: stamp.modified_ns,
            changed_ns: stamp.changed_ns,
        }
    }))
}

/// What stands under a name.
fn kind(folder: &WorkFolder, name: &str, stat: &rustix::fs::Stat) -> WorkKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => match ours::check(folder.descriptor(), name, stat) {
            Ok(()) => WorkKind::Ours,
            Err(_) => WorkKind::NotOurs,
        },
        FileType::Directory => WorkKind::Folder,
        FileType::Symlink => WorkKind::Link,
        _ => WorkKind::Special,
    }
}

/// How far a file is removed.
enum Removal {
    /// Wholly.
    Done,
    /// It has no name any more, and is big.
    Held(OwnedFd),
    /// It stands still: it is big and cannot be held open.
    TakesLong,
}

/// Takes the name of a file away. The space of a big one is freed later.
fn take_name_away(folder: &WorkFolder, name: &str) -> io::Result<Removal> {
    let Some(stat) = folder.stat(name)? else {
        return Ok(Removal::Done);
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        clear_of_folder(folder, name, names::asides(name))?;
        return Ok(Removal::Done);
    }
    if freeing::occupied(&stat) < freeing::BIG_BYTES_MIN {
        folder.remove(name)?;
        return Ok(Removal::Done);
    }
    let Ok(file) = folder.open_unread(name, OFlags::RDWR) else {
        return Ok(Removal::TakesLong);
    };
    folder.remove(name)?;
    Ok(Removal::Held(file))
}

fn with_inode(file: OwnedFd) -> io::Result<(OwnedFd, u64)> {
    let inode = rustix::fs::fstat(&file)?.st_ino;
    Ok((file, inode))
}

/// A file that was opened without waiting, to be sent; `None` if it is no file.
///
/// # Errors
/// What the kernel says.
pub fn served(file: OwnedFd) -> io::Result<Option<(OwnedFd, ReplyStat)>> {
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    // With the flag, the ring would fail reads of some file systems that have to wait.
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    let reply = ReplyStat {
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        modified_s: u64::try_from(stat.st_mtime).unwrap_or(0),
        modified_nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        inode: stat.st_ino,
        sha256: mark::get(&file, &stat),
    };
    Ok(Some((file, reply)))
}
fn age_ms(stat: &rustix::fs::Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    // A time that lies in the future (the clock was set back) is no age at all.
    let modified = Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into()));
    millis(wall_clock::since_1970().saturating_sub(modified))
}
