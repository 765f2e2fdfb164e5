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
//!   A write that takes long (the kernel is throttling, or the journal is busy) sends the file's next ones by the
//!   ring, so that other sessions do not wait with it.
//!
//! Syncs and reservations go through the ring. Names (create, rename, remove) are plain system calls
//! on the shard: the kernel would hand each of them to a worker thread too, for a call of a few microseconds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::blocks::RingBlock;
use super::op::{self, SyncScope};
use super::recent::Recent;
use super::shelves::SharedShelves;
use super::walk;
use super::work_folder::WorkFolder;
use crate::config::Io;
use crate::vault::disk::{Block as _, File, Log, ReplyStat, Shelf, Source, WorkStat};

/// Permissions of an upload, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
/// Permissions of a journal: nobody else's business.
const RECORD_MODE: Mode = Mode::from_raw_mode(0o600);

/// Files from this size on are worth the second descriptor that O_DIRECT needs.
const DIRECT_BYTES_MIN: u64 = 16 << 20;
/// A journal has space reserved in steps of this.
const LOG_RESERVE_BYTES: u64 = 32 << 10;
/// What O_DIRECT asks of offset, length and memory on every common device.
const PAGE_BYTES: usize = 4096;
/// An inline write that takes longer than this held up the whole shard.
const INLINE_PATIENCE: Duration = Duration::from_millis(5);
/// How many writes go by the ring after such a one.
const PENALTY_WRITES: u32 = 64;

/// Files up to this size fit on every file system that a server is likely to have; the first write tells of others.
const FITS_ANYWHERE_BYTES: u64 = DIRECT_BYTES_MIN - 1;

/// The limit for files that the process was started with (`RLIMIT_FSIZE`). A write tells if it was changed since.
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
    /// Writes that still go by the ring because an inline one took too long.
    penalty: Cell<u32>,
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
        *self.direct.borrow_mut() = rustix::fs::open(path, flags, Mode::empty())
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
        let began = Instant::now();
        let written = retry(|| rustix::io::pwrite(&*self.file, bytes, offset))?;
        if began.elapsed() > INLINE_PATIENCE {
            self.penalty.set(PENALTY_WRITES);
        }
        Ok(written)
    }
}

impl Source for RingFile {
    type Block = RingBlock;

    async fn read_at(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, RingBlock) {
        // What is in the page cache comes at once on every file system, and the rest must not hold up the shard.
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
        let penalty = self.penalty.get();
        if self.route == Route::Inline && penalty == 0 {
            let written = self.write_inline(&block.bytes()[range], offset);
            return (written, block);
        }
        self.penalty.set(penalty.saturating_sub(1));
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
        // Beyond its longest file a file system does not even go to a place. Nothing here reads or writes at one.
        // Whatever else there is, the write finds it out.
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
            // To the length that it has: ext4, XFS, btrfs and tmpfs drop what is reserved beyond it.
            retry(|| rustix::fs::ftruncate(&file, bytes))
        };
        let done = tokio::task::spawn_blocking(cut).await;
        done.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
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
        rustix::fs::ftruncate(&*self.file, bytes)?;
        op::sync(&self.file, SyncScope::All).await
    }
}

/// A journal.
pub struct RingLog {
    file: Rc<OwnedFd>,
    /// Where the next append begins.
    end: Cell<u64>,
    /// Up to here the file system has space for it.
    reserved: Cell<u64>,
    /// Whether it has no name any more.
    is_lost: Recent<(), bool>,
}

impl RingLog {
    /// Reserves space ahead, so that a disk that fills up refuses new sessions and not the end of running ones.
    fn reserve(&self, until: u64) {
        let reserved = self.reserved.get();
        if until > reserved {
            let ahead = until.next_multiple_of(LOG_RESERVE_BYTES);
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            // Where it cannot, the append itself says so. Only what is new: tmpfs looks at every page of the range.
            let _ = rustix::fs::fallocate(&*self.file, flags, reserved, ahead - reserved);
            self.reserved.set(ahead);
        }
    }
}

impl Log for RingLog {
    async fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let begin = self.end.get();
        self.reserve(begin + bytes.len() as u64);
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::pwrite(&*self.file, &bytes[written..], begin + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.end.set(begin + bytes.len() as u64);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        op::sync(&self.file, SyncScope::Data).await
    }

    fn is_lost(&self) -> bool {
        let look = || Ok(rustix::fs::fstat(&*self.file)?.st_nlink == 0);
        self.is_lost.look((), look).unwrap_or(false)
    }
}

/// The shelves, as one shard uses them.
pub struct RingDisk {
    shelves: SharedShelves,
    io: Io,
    /// The route into the page cache of each shelf that was written to.
    routes: RefCell<BTreeMap<Shelf, Route>>,
}

impl RingDisk {
    /// Takes the open shelves.
    pub fn new(shelves: SharedShelves, io: Io) -> Self {
        Self {
            shelves,
            io,
            routes: RefCell::default(),
        }
    }

    /// The shelves themselves.
    pub fn shelves(&self) -> &SharedShelves {
        &self.shelves
    }

    fn route(&self, shelf: Shelf, folder: &WorkFolder) -> Route {
        match self.io {
            Io::Ring => Route::Ring,
            Io::Inline | Io::Direct => Route::Inline,
            Io::Auto => *(self.routes.borrow_mut().entry(shelf))
                .or_insert_with(|| route_of(folder.descriptor())),
        }
    }

    /// See [`crate::vault::disk::WorkFiles::create`].
    pub fn create(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        let folder = self.shelves.get(shelf);
        let file = folder.create_file(name, OFlags::RDWR, FILE_MODE)?;
        self.work_file(shelf, &folder, file)
    }

    /// See [`crate::vault::disk::WorkFiles::open`].
    pub fn open(&self, shelf: Shelf, name: &str) -> io::Result<RingFile> {
        let folder = self.shelves.get(shelf);
        let file = folder.open_file(name, OFlags::RDWR)?;
        self.work_file(shelf, &folder, file)
    }

    fn work_file(&self, shelf: Shelf, folder: &WorkFolder, file: OwnedFd) -> io::Result<RingFile> {
        let stat = rustix::fs::fstat(&file)?;
        let file = RingFile {
            file: Rc::new(file),
            inode: stat.st_ino,
            route: self.route(shelf, folder),
            may_be_direct: matches!(self.io, Io::Auto | Io::Direct),
            direct: RefCell::default(),
            penalty: Cell::new(0),
        };
        Ok(file)
    }

    /// See [`crate::vault::disk::WorkFiles::stat`].
    pub fn stat(&self, shelf: Shelf, name: &str) -> io::Result<Option<WorkStat>> {
        let stat = self.shelves.get(shelf).stat(name)?;
        Ok(stat.map(|stat| WorkStat {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            age_ms: age_ms(&stat),
            inode: stat.st_ino,
            held: u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES,
        }))
    }

    /// See [`crate::vault::disk::WorkFiles::create_log`].
    pub fn create_log(&self, name: &str) -> io::Result<RingLog> {
        let work = self.shelves.work();
        let file = work.create_file(name, OFlags::WRONLY, RECORD_MODE)?;
        Ok(RingLog {
            file: Rc::new(file),
            end: Cell::new(0),
            reserved: Cell::new(0),
            is_lost: Recent::default(),
        })
    }

    /// See [`crate::vault::disk::WorkFiles::open_reply`].
    pub fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(RingFile, ReplyStat)>> {
        let folder = self.shelves.get(shelf);
        // Whatever an application has put there: a pipe must not hold up the shard until it has a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = match walk::open_resolved(folder.as_fd(), name, flags, resolve) {
            Ok(file) => file,
            // Nothing, a link, a way out of the directory, a way through a file, a socket.
            Err(Errno::NOENT | Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::NXIO) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        self.served(file)
    }

    /// A file that was opened without waiting, to be sent; `None` if it is no file.
    pub fn served(&self, file: OwnedFd) -> io::Result<Option<(RingFile, ReplyStat)>> {
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
        let file = RingFile {
            file: Rc::new(file),
            inode: stat.st_ino,
            // It is only read.
            route: Route::Ring,
            may_be_direct: false,
            direct: RefCell::default(),
            penalty: Cell::new(0),
        };
        Ok(Some((file, reply)))
    }

    /// See [`crate::vault::disk::WorkFiles::remove`].
    pub fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()> {
        self.shelves.get(shelf).remove(name)
    }

    /// See [`crate::vault::disk::WorkFiles::rename`].
    pub fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()> {
        let folder = self.shelves.get(shelf);
        Ok(rustix::fs::renameat(&folder, from, &folder, to)?)
    }

    /// See [`crate::vault::disk::WorkFiles::list`].
    pub fn list(&self, shelf: Shelf) -> io::Result<Vec<String>> {
        self.shelves.get(shelf).names()
    }

    /// See [`crate::vault::disk::WorkFiles::sync_shelf`].
    pub async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()> {
        let folder = self.shelves.get(shelf);
        op::sync(folder.descriptor(), SyncScope::All).await
    }
}

/// Unit of `st_blocks`, whatever the file system's own.
const STAT_BLOCK_BYTES: u64 = 512;
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
