//! A work file, and how it is written.
//!
//! # How a block reaches its file
//!
//! Three routes, chosen for each file (`io = "auto"`) or fixed by the setting:
//!
//! * `direct`: a fixed write past the page cache (O_DIRECT): the device takes the bytes from the
//!   very block that the socket filled. Only whole pages at whole-page offsets can go this way;
//!   what is left at the head and the tail of a fragment goes `inline`. It is for big files: no
//!   byte is copied, no page is allocated, and there is nothing to write back later. The page cache
//!   takes a burst faster than most devices as long as it has free memory at hand; a server that
//!   receives more than that waits for the device either way, and pays for the copy too.
//! * `ring`: a fixed write into the page cache. XFS and btrfs do it at once, without a worker
//!   thread.
//! * `inline`: `pwrite` on the shard. ext4, tmpfs and others hand every buffered write of a ring to
//!   a worker thread, which costs two context switches and a cold cache for a copy that takes 60 to
//!   100 microseconds per 512 KiB. While the disk is not quick (the kernel is throttling, or the
//!   journal is busy), writes go by the ring, so that other sessions do not wait with them.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use super::blocks::RingBlock;
use super::blocks::pages::PAGE_BYTES;
use super::counting;
use super::descriptor::Descriptor;
use super::lane::Lane;
use super::op::{self, SyncScope};
use super::rlimit::{self, Limited};
use crate::event::DiskOp;
use crate::metrics::labels;
use crate::vault::disk::{Block as _, File, Readable};

/// Files from this size on are worth the second descriptor that O_DIRECT needs.
const DIRECT_BYTES_MIN: u64 = 16 << 20;
/// A write up to this size is shown before it: a turn of the ring would take longer.
const SHORT_BYTES: usize = 64 << 10;

/// Files up to this size go to the device together ([`super::write_out`]): one that is longer would
/// hold up the others.
const TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// Files up to this size fit on every file system that a server is likely to have; the first write
/// tells of others.
const FITS_ANYWHERE_BYTES: u64 = DIRECT_BYTES_MIN - 1;

/// The limit for files that the process was started with (`RLIMIT_FSIZE`). A write tells if it was
/// changed since.
pub fn file_bytes_max() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| rlimit::of(Limited::FileBytes).soft)
}

/// The same by now: somebody may have lowered it while the server runs (prlimit(1)).
fn limit_now() -> Option<u64> {
    rlimit::of(Limited::FileBytes).soft
}

/// How a direct write up to `end` went. The kernel cuts it off at the limit for files, and where
/// that is no multiple of a block, the device does not take what is left: that is no fault of the
/// file system.
fn of_limit(
    written: io::Result<usize>,
    end: u64,
    limit: impl FnOnce() -> Option<u64>,
) -> io::Result<usize> {
    match written {
        Err(error)
            if Errno::from_io_error(&error) == Some(Errno::INVAL)
                && limit().is_some_and(|limit| end > limit) =>
        {
            Err(Errno::FBIG.into())
        }
        written => written,
    }
}

/// How a file is written that goes into the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By the ring.
    Ring,
    /// On the shard, while the disk is quick.
    Inline,
}

/// How one write goes.
enum Way {
    /// Past the page cache: this descriptor takes so many bytes of it.
    Direct(Descriptor, usize),
    /// On the shard.
    Inline,
    /// By the ring.
    Ring,
}

impl Way {
    fn label(&self) -> usize {
        match self {
            Self::Direct(..) => labels::DIRECT,
            Self::Inline => labels::INLINE,
            Self::Ring => labels::RING,
        }
    }
}

/// An open work file.
pub struct RingFile {
    pub(super) file: Descriptor,
    pub(super) inode: u64,
    pub(super) route: Route,
    /// Whether a big file goes past the page cache.
    pub(super) may_be_direct: bool,
    /// The same file, opened with O_DIRECT; made when the file is known to be big.
    pub(super) direct: RefCell<Option<Descriptor>>,
    /// The lane of its disk.
    pub(super) lane: Rc<Lane>,
}

impl RingFile {
    /// From here on whole pages go past the page cache, if they may and the file system can.
    async fn go_direct(&self, bytes: u64) {
        if !self.may_be_direct || bytes < DIRECT_BYTES_MIN || self.direct.borrow().is_some() {
            return;
        }
        // Its number stands for it until it is opened, whoever lets go of it here.
        let file = self.file.share();
        let open = move || {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, Mode::empty())?)
        };
        // Where it cannot be opened so (tmpfs, a missing /proc), the page cache does.
        let opened = self.lane.look("open a file once more", open).await.ok();
        let opened = opened.map(|file| Descriptor::new(file, Rc::clone(&self.lane)));
        *self.direct.borrow_mut() = opened;
    }

    /// How this write goes.
    fn way(&self, block: &RingBlock, range: &Range<usize>, offset: u64) -> Way {
        let is_aligned = range.start.is_multiple_of(PAGE_BYTES)
            && offset.is_multiple_of(PAGE_BYTES as u64)
            && block.is_page_aligned();
        let whole_pages = range.len() - range.len() % PAGE_BYTES;
        if is_aligned
            && whole_pages > 0
            && let Some(file) = self.direct.borrow().clone()
        {
            Way::Direct(file, whole_pages)
        } else if self.route == Route::Inline && self.lane.takes_writes() {
            Way::Inline
        } else {
            Way::Ring
        }
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

impl RingFile {
    async fn write_somehow(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, RingBlock) {
        let way = self.way(&block, &range, offset);
        let label = way.label();
        let (written, block) = match way {
            Way::Direct(file, bytes) => {
                let pages = range.start..range.start + bytes;
                let end = offset + bytes as u64;
                let (written, block) = op::write_at(&file, block, pages, offset).await;
                (of_limit(written, end, limit_now), block)
            }
            Way::Inline => {
                let written = self.write_inline(&block.bytes()[range], offset);
                (written, block)
            }
            Way::Ring => op::write_at(&self.file, block, range, offset).await,
        };
        self.note_written(label, &written);
        (written, block)
    }
}

impl RingFile {
    /// A write came back by this way. What was written inline the lane knows already.
    fn note_written(&self, label: usize, written: &io::Result<usize>) {
        if label != labels::INLINE {
            self.lane.note_written();
        }
        counting::wrote(label, written);
    }

    /// [`Self::write_somehow`], and shows the bytes. What is short is shown first; of a plain write
    /// the bytes are in the processor's cache behind it.
    async fn write_somehow_shown(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
        mut show: impl FnMut(&[u8]),
    ) -> (io::Result<usize>, RingBlock) {
        if range.len() <= SHORT_BYTES {
            show(&block.bytes()[range.clone()]);
            return self.write_somehow(block, range, offset).await;
        }
        let way = self.way(&block, &range, offset);
        let label = way.label();
        let (written, block) = match way {
            Way::Direct(file, bytes) => {
                let pages = range.start..range.start + bytes;
                let end = offset + bytes as u64;
                let (written, block) = op::write_at_shown(&file, block, pages, offset, show).await;
                (of_limit(written, end, limit_now), block)
            }
            Way::Inline => {
                let written = self.write_inline(&block.bytes()[range.clone()], offset);
                if let Ok(taken) = written {
                    let taken = range.start..range.start + taken;
                    op::show_in_turns(&block.bytes()[taken], show).await;
                }
                (written, block)
            }
            Way::Ring => op::write_at_shown(&self.file, block, range, offset, show).await,
        };
        self.note_written(label, &written);
        (written, block)
    }
}

impl RingFile {
    /// The length of a file that another machine keeps. That is not asked: what this one has
    /// written and what was cut here is known here, and it would have to answer for each block.
    async fn length_known_here(&self) -> io::Result<u64> {
        // By another thread: some file systems ask all the same. To close a second descriptor would
        // bring out what was written.
        let file = self.file.share();
        let look = move || {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            match rustix::fs::statx(&file, c"", flags, StatxFlags::SIZE) {
                Ok(stat) => Ok(stat.stx_size),
                // An old kernel, or a container that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => {
                    let bytes = rustix::fs::fstat(&file)?.st_size;
                    u64::try_from(bytes).map_err(|_| Errno::OVERFLOW.into())
                }
                Err(error) => Err(error.into()),
            }
        };
        self.lane.look_on(look).await
    }
}

impl File for RingFile {
    async fn write_at(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, RingBlock) {
        self.lane.wake(&self.file).await;
        let write = self.write_somehow(block, range, offset);
        counting::timed(DiskOp::Write, write).await
    }

    async fn write_shown(
        &self,
        block: RingBlock,
        range: Range<usize>,
        offset: u64,
        show: impl FnMut(&[u8]),
    ) -> (io::Result<usize>, RingBlock) {
        self.lane.wake(&self.file).await;
        let write = self.write_somehow_shown(block, range, offset, show);
        counting::timed(DiskOp::Write, write).await
    }

    async fn expect(&self, bytes: u64) -> io::Result<()> {
        let is_over = file_bytes_max().is_some_and(|limit| bytes > limit);
        // The kernel counts in signed numbers.
        if is_over || i64::try_from(bytes).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if bytes <= FITS_ANYWHERE_BYTES {
            return Ok(());
        }
        // A file system refuses to seek beyond its longest file. The position itself is not used:
        // every read and write names its own. Any other limit is found out by the write.
        let place = rustix::fs::seek(&*self.file, SeekFrom::Start(bytes));
        if let Err(Errno::INVAL | Errno::OVERFLOW | Errno::FBIG) = place {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // Boxed, because most files are short.
        Box::pin(self.go_direct(bytes)).await;
        Ok(())
    }

    async fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        match op::allocate(&self.file, range).await {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    async fn give_back(&self, bytes: u64) -> io::Result<()> {
        // By another thread: file systems take their time to free blocks.
        let file = self.file.share();
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
        let sync = op::sync(&self.file, SyncScope::Data);
        counting::timed(DiskOp::Sync, sync).await
    }

    async fn write_out(&self) -> io::Result<()> {
        let bytes = rustix::fs::fstat(&*self.file)?.st_size;
        match u64::try_from(bytes).is_ok_and(|bytes| bytes <= TOGETHER_BYTES_MAX) {
            // A second descriptor, for another thread.
            true => self.lane.write_out(self.file.try_clone()?).await,
            false => op::write_out(&self.file).await,
        }
    }

    async fn length(&self) -> io::Result<u64> {
        if self.lane.is_remote() {
            return Box::pin(self.length_known_here()).await;
        }
        // A look at an inode in memory, which waits for nothing: a fraction of a microsecond.
        let bytes = rustix::fs::fstat(&*self.file)?.st_size;
        u64::try_from(bytes).map_err(|_| Errno::OVERFLOW.into())
    }

    fn inode(&self) -> u64 {
        self.inode
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        if i64::try_from(bytes).is_err() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = self.file.share();
        let cut = move || retry(|| rustix::fs::ftruncate(&file, bytes));
        self.lane.send_long(cut).await?;
        op::sync(&self.file, SyncScope::All).await
    }
}

/// `statfs` types of the file systems that take a buffered write of a ring without a worker thread.
const NON_BLOCKING_FILE_SYSTEMS: [i64; 2] = [0x5846_5342, 0x9123_683e];

/// The better route into the page cache of a file system.
pub fn route_of(directory: &OwnedFd) -> Route {
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn on_lane(lane: &Rc<Lane>) -> RingFile {
        let file = tempfile::tempfile().unwrap();
        RingFile {
            file: Descriptor::new(file.into(), Rc::clone(lane)),
            inode: 0,
            route: Route::Inline,
            may_be_direct: true,
            direct: RefCell::default(),
            lane: Rc::clone(lane),
        }
    }

    /// It is opened once more, which says nothing of whether its disk takes writes.
    #[tokio::test]
    async fn what_is_expected_of_a_quiet_disk_does_not_wake_it() {
        let lane = Rc::new(Lane::new(false));
        on_lane(&lane).expect(DIRECT_BYTES_MIN).await.unwrap();
        assert!(!lane.takes_writes());
    }

    #[tokio::test]
    async fn another_machine_is_not_waited_for_on_the_shard() {
        let file = on_lane(&Rc::new(Lane::new(true)));
        let mut context = Context::from_waker(Waker::noop());
        let mut expects = pin!(file.expect(DIRECT_BYTES_MIN));
        assert!(expects.as_mut().poll(&mut context).is_pending());
        expects.await.unwrap();
        // Nothing is asked of it for a small one.
        let mut expects = pin!(file.expect(DIRECT_BYTES_MIN - 1));
        assert!(expects.as_mut().poll(&mut context).is_ready());
    }
}
