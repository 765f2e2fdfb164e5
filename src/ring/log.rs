//! A journal on the disk of the work directory.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::counting;
use super::descriptor::Descriptor;
use super::lane::Lane;
use super::op::{self, SyncScope};
use super::recent::Recent;
use super::walk::Identity;
use super::work_folder::WorkFolder;
use crate::event::DiskOp;
use crate::vault::disk::Log;

/// Its permissions: nobody else's business.
const MODE: Mode = Mode::from_raw_mode(0o600);
/// Space is reserved in steps of this.
const RESERVE_BYTES: u64 = 32 << 10;

/// A journal.
pub struct RingLog {
    file: Descriptor,
    /// Where the next append begins.
    end: Cell<u64>,
    /// Up to here the file system has space for it.
    reserved: Cell<u64>,
    /// Whether it has no name any more, or is shorter than what was appended.
    is_lost: Recent<(), bool>,
    work: WorkFolder,
    name: String,
    /// The end of what was appended last, and of what had been when it was looked at last.
    ends: Cell<(Tail, Tail)>,
    /// Of its disk.
    lane: Rc<Lane>,
}

impl RingLog {
    /// Makes one that does not exist.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn create(work: WorkFolder, name: &str, lane: Rc<Lane>) -> io::Result<Self> {
        let (folder, file_name) = (work.clone(), name.to_owned());
        let make = move || folder.create_file(&file_name, OFlags::RDWR, MODE);
        let file = lane.run("create a journal", make).await?;
        Ok(Self {
            file: Descriptor::new(file, Rc::clone(&lane)),
            work,
            name: name.to_owned(),
            ends: Cell::default(),
            end: Cell::new(0),
            reserved: Cell::new(0),
            is_lost: Recent::default(),
            lane,
        })
    }
}

/// The last bytes of what was appended, and where they end.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    end: u64,
    bytes: [u8; TAIL_BYTES],
}

/// No frame is shorter.
const TAIL_BYTES: usize = 8;

impl Tail {
    /// Whether they are still there, as far as the page cache can tell: its disk is not waited for.
    /// In what was cut and grew again since, there are zeros.
    fn is_in(self, file: &OwnedFd) -> bool {
        let Some(start) = self.end.checked_sub(TAIL_BYTES as u64) else {
            return true;
        };
        let mut found = [0; TAIL_BYTES];
        let mut memory = [IoSliceMut::new(&mut found)];
        match rustix::io::preadv2(file, &mut memory, start, ReadWriteFlags::NOWAIT) {
            Ok(TAIL_BYTES) => found == self.bytes,
            Ok(_) => false,
            Err(_) => true,
        }
    }
}

/// An append to a journal.
struct Append<'b> {
    begin: u64,
    bytes: Cow<'b, [u8]>,
    /// Space to be reserved before it.
    ahead: Range<u64>,
}

impl Append<'_> {
    fn run(&self, file: &OwnedFd) -> io::Result<()> {
        if !self.ahead.is_empty() {
            let flags = FallocateFlags::KEEP_SIZE;
            let bytes = self.ahead.end - self.ahead.start;
            // Where it cannot, the append itself says so. Only what is new: tmpfs looks at every
            // page of the range.
            let _ = rustix::fs::fallocate(file, flags, self.ahead.start, bytes);
        }
        let mut written = 0;
        while written < self.bytes.len() {
            let left = &self.bytes[written..];
            match rustix::io::pwrite(file, left, self.begin + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl RingLog {
    async fn append_somehow(&self, bytes: &[u8]) -> io::Result<()> {
        let begin = self.end.get();
        let tail = bytes.last_chunk().copied();
        let end = begin + bytes.len() as u64;
        // Reserved ahead, so that a disk that fills up refuses new sessions and not the end of
        // running ones.
        let reserved = self.reserved.get();
        let ahead = match end > reserved {
            true => reserved..end.next_multiple_of(RESERVE_BYTES),
            false => reserved..reserved,
        };
        self.reserved.set(ahead.end);
        let bytes = Cow::Borrowed(bytes);
        let append = Append {
            begin,
            bytes,
            ahead,
        };
        if self.lane.takes_writes() {
            self.lane
                .inline("append to the journal", || append.run(&self.file))?;
        } else {
            let file = self.file.share();
            let append = Append {
                bytes: Cow::Owned(append.bytes.into_owned()),
                ..append
            };
            Box::pin(self.lane.send(move || append.run(&file))).await?;
        }
        self.end.set(end);
        if let Some(tail) = tail {
            let (_, seen) = self.ends.get();
            self.ends.set((Tail { end, bytes: tail }, seen));
        }
        Ok(())
    }

    /// Whether its name leads to it. A folder on another machine is not asked.
    fn has_its_name(&self) -> bool {
        if self.lane.is_remote() {
            return true;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        let named = rustix::fs::statx(&self.work, &self.name, flags, StatxFlags::INO);
        let own = rustix::fs::statx(
            &*self.file,
            "",
            AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC,
            StatxFlags::INO,
        );
        match (named, own) {
            (Ok(named), Ok(own)) => Identity::of(&named) == Identity::of(&own),
            (Err(Errno::NOENT), Ok(_)) => false,
            // Nobody can tell.
            _ => true,
        }
    }
}

impl Log for RingLog {
    async fn append(&self, bytes: &[u8]) -> io::Result<()> {
        counting::timed(DiskOp::Record, self.append_somehow(bytes)).await
    }

    async fn sync(&self) -> io::Result<()> {
        let sync = op::sync(&self.file, SyncScope::Data);
        counting::timed(DiskOp::Sync, sync).await
    }

    fn is_lost(&self) -> bool {
        // What this machine knows of it: a file server must not be waited for here.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let mask = StatxFlags::NLINK | StatxFlags::SIZE;
        let look = || {
            let stat = rustix::fs::statx(&*self.file, "", flags, mask)?;
            Ok(stat.stx_nlink == 0 || stat.stx_size < self.end.get())
        };
        self.is_lost.look((), look).unwrap_or(false)
    }

    fn is_in_place(&self) -> bool {
        let (last, seen) = self.ends.get();
        let is_in_place = self.has_its_name() && seen.is_in(&self.file);
        if is_in_place {
            self.ends.set((last, last));
        }
        is_in_place
    }
}
