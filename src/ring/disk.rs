//! Files of one shard on its shelves.
//!
//! # How a block reaches its file
//!
//! Three routes, chosen for each file (`io = "auto"`) or fixed by the setting:
//!
//! * `direct`: a fixed write past the page cache (O_DIRECT): the device takes the bytes from the very block that the
//!   socket filled. Only whole pages at whole-page offsets can go this way; what is left at the head and the tail of a
//!   fragment goes `inline`. It is for big files: no byte is copied, no page is allocated, and there is nothing to write
//!   back later. The page cache takes a burst faster than most devices as long as it has free memory at hand; a server that
//!   receives more than that waits for the device either way, and pays for the copy too.
//! * `ring`: a fixed write into the page cache. XFS and btrfs do it at once, without a worker thread.
//! * `inline`: `pwrite` on the shard. ext4, tmpfs and others hand every buffered write of a ring to a worker thread, which
//!   costs two context switches and a cold cache for a copy that takes 60 to 100 microseconds per 512 KiB.
//!   While the disk is not quick (the kernel is throttling, or the journal is busy), writes go by the ring, so that other
//!   sessions do not wait with them.
//!
//! Syncs and reservations go through the ring. Names (create, rename, remove) are plain system
//! calls, and records plain writes: the kernel would hand each of them to a worker thread, for a
//! call of a few microseconds. Where they run, and where whatever takes longer does, is decided by
//! the [`super::lane`] of the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::blocks::RingBlock;
use super::freeing;
use super::lane::Lane;
use super::log::RingLog;
use super::op::{self, SyncScope};
use super::shelves::SharedShelves;
use super::walk;
use super::work_folder::WorkFolder;
use crate::config::Io;
use crate::vault::disk::{Block as _, File, Readable, ReplyStat, Shelf, WorkStat};

/// Permissions of an upload, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// Files from this size on are worth the second descriptor that O_DIRECT needs.
const DIRECT_BYTES_MIN: u64 = 16 << 20;
/// What O_DIRECT asks of offset, length and memory on every common device.
const PAGE_BYTES: usize = 4096;

/// Files up to this size fit on every file system that a server is likely to have; the first write
/// tells of others.
const FITS_ANYWHERE_BYTES: u64 = DIRECT_BYTES_MIN - 1;

/// The limit for files that the process was started with (`RLIMIT_FSIZE`). A write tells if it was
/// changed since.
fn file_bytes_max() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| rustix::process::getrlimit(rustix::process::Resource::Fsize).current)
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Ring,
    Inline,
}

/// An open work file.
pub struct RingFile {
    file: Rc<OwnedFd>,
    inode: u64,
    route: Route,
    /// Whether a big file goes past the page cache.
    may_be_direct: bool,
    /// The same file, opened with O_DIRECT; made when the file is known to be big.
    direct: RefCell<Option<Rc<OwnedFd>>>,
    /// Of its disk.
    lane: Rc<Lane>,
}

impl RingFile {
    /// From here on whole pages go past the page cache, if they may and the file system can.
    fn go_direct(&self, bytes: u64) {
        if !self.may_be_direct || bytes < DIRECT_BYTES_MIN || self.direct.borrow().is_some() {
            return;
        }
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
        // Where it cannot be opened so (tmpfs, a missing /proc), the page cache does.
        let open = || rustix::fs::open(path, flags, Mode::empty());
        *self.direct.borrow_mut() = self
            .lane
            .inline("open a file once more", open)
            .ok()
            .map(Rc::new);
    }

    /// The descriptor and the length of a direct write, if this can be one.
    fn direct_part(
        &self,
        block: &RingBlock,
        range: &Range<usize>,
        offset: u64,
    ) -> Option<(Rc<OwnedFd>, usize)> {
        let is_aligned = range.start.is_multiple_of(PAGE_BYTES)
            && offset.is_multiple_of(PAGE_BYTES as u64)
            && block.is_page_aligned();
        let whole_pages = range.len() - range.len() % PAGE_BYTES;
        if !is_aligned || whole_pages == 0 {
            return None;
        }
        self.direct.borrow().clone().map(|file| (file, whole_pages))
    }

    fn write_inline(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let write = || retry(|| rustix::io::pwrite(&*self.file, bytes, offset));
        self.lane.inline("write", write)
    }
}

impl Readable for RingFile {
    type Block = RingBlock;

    async fn read_at(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, RingBlock) {
        // What is in the page cache comes at once on every file system, and the rest must not hold
        // up the shard.
        op::read_at(&self.file, block, range, offset).await
    }
}

impl File for RingFile {
    async fn write_at(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, RingBlock) {
        if let Some((file, bytes)) = self.direct_part(&block, &range, offset) {
            return op::write_at(&file, block, range.start..range.start + bytes, offset).await;
        }
        if self.route == Route::Inline && self.lane.is_quick() {
            let written = self.write_inline(&block.bytes()[range], offset);
            return (written, block);
        }
        op::write_at(&self.file, block, range, offset).await
    }

    fn expect(&self, bytes: u64) -> io::Result<()> {
        let is_over = file_bytes_max().is_some_and(|limit| bytes > limit);
        // The kernel counts in signed numbers.
        if is_over || i64::try_from(bytes).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if bytes <= FITS_ANYWHERE_BYTES {
            return Ok(());
        }
        // Beyond its longest file a file system does not even go to a place. Nothing here reads or
        // writes at one. Whatever else there is, the write finds it out.
        let place = rustix::fs::seek(&*self.file, SeekFrom::Start(bytes));
        if let Err(Errno::INVAL | Errno::OVERFLOW | Errno::FBIG) = place {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.go_direct(bytes);
        Ok(())
    }

    async fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        match op::allocate(&self.file, range).await {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    async fn give_back(&self, bytes: u64) -> io::Result<()> {
        // A second descriptor, for another thread: file systems take their time to free blocks.
        let file = self.file.try_clone()?;
        let cut = move || {
            // It must never take bytes away.
            if u64::try_from(rustix::fs::fstat(&file)?.st_size).ok() != Some(bytes) {
                return Ok(());
            }
            // To the length that it has: ext4, XFS, btrfs and tmpfs drop what is reserved beyond
            // it.
            retry(|| rustix::fs::ftruncate(&file, bytes))
        };
        self.lane.send_long(cut).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        op::sync(&self.file, SyncScope::Data).await
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        if i64::try_from(bytes).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = self.file.try_clone()?;
        let cut = move || retry(|| rustix::fs::ftruncate(&file, bytes));
        self.lane.send_long(cut).await?;
        op::sync(&self.file, SyncScope::All).await
    }
}

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
        let open = move || with_inode(folder.open_file(&name, OFlags::RDWR)?);
        let opened = self.lane(shelf).run("open a file", open).await?;
        Ok(self.work_file(shelf, opened))
    }

    fn work_file(&self, shelf: Shelf, (file, inode): (OwnedFd, u64)) -> RingFile {
        RingFile {
            file: Rc::new(file),
            inode,
            route: self.route(shelf),
            may_be_direct: matches!(self.io, Io::Auto | Io::Direct),
            direct: RefCell::default(),
            lane: self.lane(shelf),
        }
    }

    /// See [`crate::vault::disk::WorkFiles::stat`].
    pub async fn stat(&self, shelf: Shelf, name: &str) -> io::Result<Option<WorkStat>> {
        let (folder, name) = (self.shelves.get(shelf), name.to_owned());
        let look = move || folder.stat(&name);
        let stat = self.lane(shelf).run("look at a file", look).await?;
        Ok(stat.map(|stat| WorkStat {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            age_ms: age_ms(&stat),
            inode: stat.st_ino,
            held: freeing::held(&stat),
        }))
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
        let served = self.lane(shelf).run("open a reply", open).await?;
        Ok(served.map(|served| self.to_be_sent(shelf, served)))
    }

    /// A file that is only read.
    pub fn to_be_sent(
        &self,
        shelf: Shelf,
        (file, stat): (OwnedFd, ReplyStat),
    ) -> (RingFile, ReplyStat) {
        let file = RingFile {
            file: Rc::new(file),
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
        // Never refused: what is to go has no other time.
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
    pub async fn list(&self, shelf: Shelf) -> io::Result<Vec<String>> {
        let folder = self.shelves.get(shelf);
        self.lane(shelf).send(move || folder.names()).await
    }

    /// See [`crate::vault::disk::WorkFiles::sync_shelf`].
    pub async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()> {
        let folder = self.shelves.get(shelf);
        op::sync(folder.descriptor(), SyncScope::All).await
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

/// Takes the name of a file away. Of a big one, that is all.
fn take_name_away(folder: &WorkFolder, name: &str) -> io::Result<Removal> {
    let Some(stat) = folder.stat(name)? else {
        return Ok(Removal::Done);
    };
    if freeing::held(&stat) < freeing::BIG_BYTES_MIN {
        folder.remove(name)?;
        return Ok(Removal::Done);
    }
    let Ok(file) = folder.open_file(name, OFlags::RDWR) else {
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
    };
    Ok(Some((file, reply)))
}
/// `statfs` types of the file systems that take a buffered write of a ring without a worker thread.
const NON_BLOCKING_FILE_SYSTEMS: [i64; 2] = [0x5846_5342, 0x9123_683e];

/// The better route into the page cache of a file system.
fn route_of(directory: &OwnedFd) -> Route {
    match rustix::fs::fstatfs(directory) {
        Ok(stat) if NON_BLOCKING_FILE_SYSTEMS.contains(&stat.f_type) => Route::Ring,
        _ => Route::Inline,
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn age_ms(stat: &rustix::fs::Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let modified = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    // A time that lies in the future (the clock was set back) is no age at all.
    let age = SystemTime::now()
        .duration_since(modified)
        .unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
