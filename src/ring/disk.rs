//! Files of one shard: the work directory, and the tree of destinations.
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
//! Syncs and reservations go through the ring. Names (create, rename, remove, look up) are plain system calls
//! on the shard: the kernel would hand each of them to a worker thread too, for a call of a few microseconds.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::blocks::RingBlock;
use super::op::{self, SyncScope};
use crate::config::Io;
use crate::http::path::UploadPath;
use crate::server::world::{Block as _, File, Log, Parents, Replace, Standing, WorkStat};

/// Permissions of an upload, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
/// Permissions of a journal: nobody else's business.
const RECORD_MODE: Mode = Mode::from_raw_mode(0o600);
/// Permissions of a folder, before the umask.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

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
    fn expect(&self, bytes: u64) {
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

impl File for RingFile {
    type Block = RingBlock;

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

    async fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.expect(bytes);
        match op::allocate(&self.file, bytes).await {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    async fn sync_data(&self) -> io::Result<()> {
        op::sync(&self.file, SyncScope::Data).await
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
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
}

/// The two directories of one shard.
pub struct Disk {
    root: Rc<OwnedFd>,
    work: Rc<OwnedFd>,
    route: Route,
    may_be_direct: bool,
    /// The folder that a file was last published into, to be synced right after. Opened before the rename: if
    /// there is no descriptor left, it must be found out while the part still stands.
    published_into: RefCell<Option<(String, Rc<OwnedFd>)>>,
}

impl Disk {
    /// Takes the open root and work directories.
    pub fn new(root: OwnedFd, work: OwnedFd, io: Io) -> Self {
        let route = match io {
            Io::Ring => Route::Ring,
            Io::Inline | Io::Direct => Route::Inline,
            Io::Auto => route_of(&work),
        };
        Self {
            root: Rc::new(root),
            work: Rc::new(work),
            route,
            may_be_direct: matches!(io, Io::Auto | Io::Direct),
            published_into: RefCell::default(),
        }
    }

    /// See [`crate::server::world::World::create`].
    pub fn create(&self, name: &str) -> io::Result<RingFile> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        self.open_with(name, flags, FILE_MODE)
    }

    /// See [`crate::server::world::World::open`].
    pub fn open(&self, name: &str) -> io::Result<RingFile> {
        self.open_with(
            name,
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
    }

    fn open_with(&self, name: &str, flags: OFlags, mode: Mode) -> io::Result<RingFile> {
        let file = rustix::fs::openat(&*self.work, name, flags, mode)?;
        let stat = rustix::fs::fstat(&file)?;
        let file = RingFile {
            file: Rc::new(file),
            inode: stat.st_ino,
            route: self.route,
            may_be_direct: self.may_be_direct,
            direct: RefCell::default(),
            penalty: Cell::new(0),
        };
        // An upload that is continued: what was reserved for it tells its size.
        file.expect(u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES);
        Ok(file)
    }

    /// See [`crate::server::world::World::stat`].
    pub fn stat(&self, name: &str) -> io::Result<Option<WorkStat>> {
        let stat = match rustix::fs::statat(&*self.work, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(WorkStat {
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            age_ms: age_ms(&stat),
            inode: stat.st_ino,
        }))
    }

    /// See [`crate::server::world::World::create_log`].
    pub fn create_log(&self, name: &str) -> io::Result<RingLog> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*self.work, name, flags, RECORD_MODE)?;
        Ok(RingLog {
            file: Rc::new(file),
            end: Cell::new(0),
            reserved: Cell::new(0),
        })
    }

    /// See [`crate::server::world::World::read_log`].
    pub fn read_log(&self, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&*self.work, name, flags, Mode::empty())?;
        let mut bytes = Vec::new();
        let mut limited = io::Read::take(fs::File::from(file), bytes_max.saturating_add(1));
        io::Read::read_to_end(&mut limited, &mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    /// See [`crate::server::world::World::remove`].
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&*self.work, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// See [`crate::server::world::World::rename`].
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.work, from, &*self.work, to)?)
    }

    /// See [`crate::server::world::World::list`]. Names that are not UTF-8 come out changed, and are
    /// nobody's then.
    pub fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.work)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// See [`crate::server::world::World::sync_work_directory`].
    pub async fn sync_work_directory(&self) -> io::Result<()> {
        op::sync(&self.work, SyncScope::All).await
    }

    /// See [`crate::server::world::World::look_up`].
    pub fn look_up(&self, path: &UploadPath) -> io::Result<Standing> {
        let parent = match self.parent(path) {
            Ok(parent) => parent,
            Err(NoFolder::Missing) => {
                // Where folders are made, none may be made in the work directory.
                let is_reserved = self.is_in_work(&self.nearest_folder(path)?)?;
                return Ok(if is_reserved {
                    Standing::Reserved
                } else {
                    Standing::NoParent
                });
            }
            Err(NoFolder::Reserved) => return Ok(Standing::Reserved),
            Err(NoFolder::Failed(error)) => return Err(error),
        };
        // Told now, before any byte is sent, and not at the end of a long upload.
        let may_write = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(parent.fd(self), ".", may_write, AtFlags::EACCESS)?;
        match rustix::fs::statat(parent.fd(self), path.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Ok(Standing::Directory)
            }
            // A link is a name that is taken; it is never followed.
            Ok(stat) => Ok(Standing::File { inode: stat.st_ino }),
            Err(Errno::NOENT) => Ok(Standing::Free),
            Err(error) => Err(error.into()),
        }
    }

    /// See [`crate::server::world::World::publish`].
    pub async fn publish(
        &self,
        name: &str,
        path: &UploadPath,
        replace: Replace,
        parents: Parents,
    ) -> io::Result<()> {
        let parent = match (self.parent(path), parents) {
            (Err(NoFolder::Missing), Parents::Create) => self.make_parent(path).await?,
            (result, _) => result?,
        };
        if let Some(folder) = path.parent() {
            let opened = match open_beneath(self.root.as_fd(), folder, OFlags::RDONLY) {
                Err(error @ (Errno::MFILE | Errno::NFILE)) => return Err(error.into()),
                // Whether that matters is for the sync to say; there may be none.
                result => result.ok(),
            };
            *self.published_into.borrow_mut() =
                opened.map(|opened| (folder.to_owned(), Rc::new(opened)));
        }
        let to = parent.fd(self);
        let file_name = path.file_name();
        if replace == Replace::Existing {
            return Ok(rustix::fs::renameat(&*self.work, name, to, file_name)?);
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&*self.work, name, to, file_name, flags) {
            // The file system does not know the flag; a link refuses to replace just as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&*self.work, name, to, file_name, AtFlags::empty())?;
                self.remove(name)
            }
            result => Ok(result?),
        }
    }

    /// See [`crate::server::world::World::sync_destination`].
    pub async fn sync_destination(&self, path: &UploadPath) -> io::Result<()> {
        let Some(folder) = path.parent() else {
            return op::sync(&self.root, SyncScope::All).await;
        };
        let opened = self.published_into.take();
        let to_sync = match opened {
            Some((of, opened)) if of == folder => opened,
            _ => Rc::new(open_beneath(self.root.as_fd(), folder, OFlags::RDONLY)?),
        };
        op::sync(&to_sync, SyncScope::All).await
    }

    /// See [`crate::server::world::World::unpublish`].
    pub fn unpublish(&self, path: &UploadPath) -> io::Result<()> {
        let parent = self.parent(path)?;
        Ok(rustix::fs::unlinkat(
            parent.fd(self),
            path.file_name(),
            AtFlags::empty(),
        )?)
    }

    /// Opens the folder of a destination.
    fn parent(&self, path: &UploadPath) -> Result<Folder, NoFolder> {
        let Some(folder) = path.parent() else {
            return Ok(Folder::Root);
        };
        match open_beneath(self.root.as_fd(), folder, OFlags::PATH) {
            Ok(folder) if self.is_in_work(&folder)? => Err(NoFolder::Reserved),
            Ok(folder) => Ok(Folder::Opened(folder)),
            Err(Errno::NOENT) => Err(NoFolder::Missing),
            Err(Errno::XDEV | Errno::LOOP) => Err(NoFolder::Failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a link on the way leads out of the root",
            ))),
            Err(error) => Err(NoFolder::Failed(error.into())),
        }
    }

    /// The deepest folder that exists on the way to a destination.
    fn nearest_folder(&self, path: &UploadPath) -> io::Result<OwnedFd> {
        let mut folder = path.parent();
        while let Some(name) = folder {
            match open_beneath(self.root.as_fd(), name, OFlags::PATH) {
                Err(Errno::NOENT) => folder = name.rsplit_once('/').map(|(parent, _)| parent),
                result => return Ok(result?),
            }
        }
        self.root.try_clone()
    }

    /// Whether a folder is the work directory or lies in it, by whatever name or link it was reached.
    fn is_in_work(&self, folder: &OwnedFd) -> io::Result<bool> {
        let (root, work) = (identity(&*self.root)?, identity(&*self.work)?);
        let mut folder = folder.try_clone()?;
        let mut here = identity(&folder)?;
        while here != root {
            if here == work {
                return Ok(true);
            }
            let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            folder = rustix::fs::openat(&folder, "..", up, Mode::empty())?;
            let above = identity(&folder)?;
            if above == here {
                // The top of the file system: somebody moved the folder out of the root meanwhile.
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            here = above;
        }
        Ok(false)
    }

    /// Makes the folders of a destination, one by one; each new name is made durable at once.
    async fn make_parent(&self, path: &UploadPath) -> io::Result<Folder> {
        if self.is_in_work(&self.nearest_folder(path)?)? {
            return Err(NoFolder::Reserved.into());
        }
        let mut folder = Rc::clone(&self.root);
        for segment in path.parent().unwrap_or_default().split('/') {
            let next = match open_beneath(folder.as_fd(), segment, OFlags::RDONLY) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&*folder, segment, FOLDER_MODE) {
                        Ok(()) => op::sync(&folder, SyncScope::All).await?,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open_beneath(folder.as_fd(), segment, OFlags::RDONLY)?
                }
                result => result?,
            };
            folder = Rc::new(next);
        }
        // Walked again from the root, so that the result is beneath it whatever happened meanwhile.
        Ok(self.parent(path)?)
    }
}

/// Why the folder of a destination cannot be opened.
enum NoFolder {
    /// It does not exist.
    Missing,
    /// It is the work directory, or in it.
    Reserved,
    /// Something else.
    Failed(io::Error),
}

impl From<io::Error> for NoFolder {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NoFolder> for io::Error {
    fn from(why: NoFolder) -> Self {
        match why {
            NoFolder::Missing => io::ErrorKind::NotFound.into(),
            NoFolder::Reserved => io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a link on the way leads into the work directory",
            ),
            NoFolder::Failed(error) => error,
        }
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

/// The folder of a destination.
enum Folder {
    /// The root itself.
    Root,
    /// One below it.
    Opened(OwnedFd),
}

impl Folder {
    fn fd<'a>(&'a self, disk: &'a Disk) -> BorrowedFd<'a> {
        match self {
            Self::Root => disk.root.as_fd(),
            Self::Opened(folder) => folder.as_fd(),
        }
    }
}

/// Whether folders can be opened beneath a root at all.
///
/// # Errors
/// What the kernel says.
pub fn probe(root: &OwnedFd) -> io::Result<()> {
    Ok(open_beneath(root.as_fd(), ".", OFlags::PATH).map(drop)?)
}

/// Opens a folder that lies beneath another one even if links stand on the way.
fn open_beneath(root: BorrowedFd<'_>, path: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, OsStr::new(path), flags, Mode::empty(), resolve) {
            // The kernel could not tell because of a rename elsewhere; it asks to be called again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

/// Device and inode.
fn identity(directory: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
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
