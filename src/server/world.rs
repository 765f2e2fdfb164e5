//! All that the server can do to the outside, as one trait.
//!
//! `ring/` implements it on tokio-uring, `tests/sim/` on virtual time and a virtual disk. The flow in
//! this folder names neither. Three rules hold for every implementation and every caller:
//!
//! 1. A future that was polled is awaited to its end; an operation is never dropped half-way.
//! 2. To stop a wait on a connection, [`Wire::shutdown`] it; the pending operation then returns.
//! 3. Blocks are owned: they go into an operation and come back with its result, also on error.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use super::notification::{NotifyError, Order};
use super::space::Space;
use crate::bits::notification::Answer;
use crate::event::Event;
use crate::http::path::UploadPath;

/// Milliseconds of a monotonic clock that starts at any point.
pub type Millis = u64;

/// A head block takes a head of so many bytes, even where longer ones are allowed: usual ones have less than one, those
/// with a ticket of Kerberos up to 48 KiB more.
pub const HEAD_BLOCK_BYTES_MAX: usize = 16 << 10;

/// Memory that bytes are received into and written from.
pub trait Block: 'static {
    /// All of it, filled or not.
    fn bytes(&self) -> &[u8];
    /// All of it, to be filled.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// How a whole-block read came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// This many bytes (at least 1) came; fewer than asked for if the peer is slow.
    Bytes(usize),
    /// Nothing came in time; the block is better used by others.
    Slow,
    /// The peer ended its side, or the wire was shut down.
    End,
}

/// One client connection.
#[allow(async_fn_in_trait)]
pub trait Wire: 'static {
    /// The memory it fills.
    type Block: Block;

    /// The client's address.
    fn peer(&self) -> SocketAddr;

    /// Waits until there is something to read (bytes or the end), holding no block.
    async fn ready(&self) -> io::Result<()>;

    /// Reads what is there into `block[range]`; 0 is the end. `range` is not empty.
    async fn read(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<usize>, Self::Block);

    /// Reads until `block[range]` is full; comes back early if the peer ends or is slow
    /// (see [`Wire::hurry`]). `range` is not empty.
    async fn fill(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<Fill>, Self::Block);

    /// Makes a pending [`Wire::fill`] come back with what it has. Called by the watchdog once per
    /// tick on fills that last longer than a tick.
    fn hurry(&self);

    /// Sends all bytes; returns the emptied buffer for the next answer.
    async fn send(&self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>);

    /// Sends `block[range]`.
    async fn send_block(
        &self,
        block: Self::Block,
        range: Range<usize>,
    ) -> (io::Result<()>, Self::Block);

    /// Whether the peer has ended its side, or is gone: nobody waits for an answer.
    fn has_left(&self) -> bool {
        false
    }

    /// Whether something has arrived (bytes, or the end) that was not read yet.
    fn has_unread(&self) -> bool {
        false
    }

    /// Ends our side after the last answer, so that the peer reads it before it hears the end.
    fn finish(&self);

    /// Ends both sides at once; pending operations return.
    fn shutdown(&self);
}

/// An open work file.
#[allow(async_fn_in_trait)]
pub trait File: 'static {
    /// The memory it is written from.
    type Block: Block;

    /// Writes `block[range]` at `offset`; may take fewer bytes.
    async fn write_at(
        &self,
        block: Self::Block,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Self::Block);

    /// Reads into `block[range]` from `offset`; may take fewer bytes, 0 is the end.
    async fn read_at(
        &self,
        block: Self::Block,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Self::Block);

    /// Gets ready for a file of `bytes`; fails with `FileTooLarge` where no file can be so long.
    fn expect(&self, bytes: u64) -> io::Result<()>;

    /// Reserves the space of a range without changing the length. `Ok` where the file system cannot.
    async fn allocate(&self, range: Range<u64>) -> io::Result<()>;

    /// Gives back what is reserved beyond the end; `bytes` is the length. Nobody writes meanwhile.
    async fn give_back(&self, bytes: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable (`fdatasync`).
    async fn sync_data(&self) -> io::Result<()>;

    /// Identity of the file on its file system; survives rename.
    fn inode(&self) -> u64;

    /// Cuts the file to `bytes`, durably.
    async fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A file that is only ever appended to.
#[allow(async_fn_in_trait)]
pub trait Log: 'static {
    /// Appends all bytes, or none: after an error the next append begins at the same place. One at a time.
    async fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended durable (`fdatasync`).
    async fn sync(&self) -> io::Result<()>;

    /// Whether somebody has removed it: what is appended reaches nobody any more.
    fn is_lost(&self) -> bool {
        false
    }
}

/// A folder that holds the files of sessions. The first is the work directory itself, which holds the journals too; each
/// root on another file system has one there, so that its uploads get their names in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf(pub u16);

impl Shelf {
    /// The work directory.
    pub const WORK: Self = Self(0);
}

/// What stands on a shelf under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkStat {
    /// Length, in bytes.
    pub bytes: u64,
    /// Milliseconds since it was last written to, by the wall clock; 0 if that lies in the future.
    pub age_ms: u64,
    /// Identity of the file on its file system; survives rename.
    pub inode: u64,
    /// Space that it holds, in bytes: what is reserved for it counts.
    pub held: u64,
}

/// A file that is downloaded, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyStat {
    /// Length, in bytes.
    pub bytes: u64,
    /// When it was last written to, in seconds since 1970.
    pub modified_s: u64,
    /// And nanoseconds.
    pub modified_nanos: u32,
    /// Identity of the file on its file system.
    pub inode: u64,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of its root in the settings; no other root ever gets it, whatever is reloaded.
    pub root: usize,
    /// The path beneath that root.
    pub path: UploadPath,
}

/// What stands at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, and its folder exists.
    Free,
    /// Nothing, and its folder is missing.
    NoParent,
    /// A file.
    File {
        /// Its identity, see [`WorkStat::inode`].
        inode: u64,
    },
    /// A folder.
    Directory,
    /// The work directory, or something in it, by whatever name.
    Reserved,
}

/// Whether a file that stands at the destination gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It stays, and publishing fails with `EEXIST`.
    Never,
    /// It is replaced.
    Existing,
}

/// Whether missing folders are made on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parents {
    /// They are not, and publishing fails with `ENOENT`.
    MustExist,
    /// They are.
    Create,
}

/// Whether an operation returns only when its effect survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It need not.
    No,
    /// It does.
    Yes,
}

/// How a file gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Whether a file that stands there gives way.
    pub replace: Replace,
    /// Whether missing folders are made.
    pub parents: Parents,
    /// Whether it has to survive a power cut. Folders that are made survive one at once; the file's own name when
    /// [`Published::sync`] has returned.
    pub sync: Sync,
    /// Permissions of the file, whatever the umask; `None`: `0666` without the umask.
    pub file_mode: Option<u16>,
    /// Permissions of folders that are made, whatever the umask; `None`: `0777` without the umask.
    pub dir_mode: Option<u16>,
}

/// A file that has got its name, as long as nobody was told of it.
#[allow(async_fn_in_trait)]
pub trait Published: 'static {
    /// Makes its name durable, and whatever it was given with its name.
    async fn sync(&self) -> io::Result<()>;
    /// Takes it back: the file goes, unless another one has replaced it, and with it the folders that were made for it,
    /// unless something else was put into them. After an error it can be tried again.
    async fn undo(&mut self) -> io::Result<()>;
}

/// One shard's outside: clock, randomness, memory, disk, other shards.
#[allow(async_fn_in_trait)]
pub trait World: 'static {
    /// Its connections.
    type Wire: Wire<Block = Self::Block>;
    /// Its work files.
    type File: File<Block = Self::Block>;
    /// Its journal.
    type Log: Log;
    /// Its memory.
    type Block: Block;
    /// Its files that have just got their names.
    type Published: Published;

    /// The time now.
    fn now(&self) -> Millis;
    /// The wall clock, in milliseconds since 1970; it may jump.
    fn wall_clock_ms(&self) -> u64;
    /// 16 bytes of the system's randomness.
    fn random(&self) -> [u8; 16];
    /// Identity of this boot of the machine.
    fn boot_id(&self) -> u128;
    /// Whether everything written in that boot is still there: it is this boot (the page cache has
    /// survived), or it ended after a clean stop of the server that synced all.
    fn survived(&self, boot_id: u128) -> bool;
    /// Tells what happened.
    fn emit(&self, event: Event<'_>);
    /// Runs a task beside this one, on this shard.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Returns at the next beat of the shard's one-second clock.
    async fn tick(&self);
    /// Lets the other tasks of the shard have their turn, and what they have submitted begin. Never ready at once.
    async fn give_way(&self);

    /// A small block for heads and slow bodies; there is always one (connections are bounded).
    fn head_block(&self) -> Self::Block;
    /// A block that takes any head that is allowed, for one that fills a head block; `None` if as many are out as may be.
    fn long_head_block(&self) -> Option<Self::Block>;
    /// A large, registered block for fast bodies; `None` if all are out.
    fn body_block(&self) -> Option<Self::Block>;

    /// Gives a connection to another shard: the peer goes on there, with `arrived` as if just read.
    /// The caller drops `wire`, on which nothing may be pending. `Err` if that shard cannot take it.
    fn hand_over(&self, wire: &Self::Wire, arrived: &[u8], to: usize) -> Result<(), HandOverFull>;

    // The shelves: flat, private to this server. Names are made in `store.rs` only.

    /// All of them, the work directory first.
    fn shelves(&self) -> Vec<Shelf>;
    /// Whether one that held parts before is not here now: a part that is not found may be there.
    fn misses_a_shelf(&self) -> bool {
        false
    }
    /// The one from which a file can be moved to a destination in one step.
    fn shelf(&self, place: &Place) -> Shelf;
    /// The space of the file system of a shelf.
    fn space(&self, shelf: Shelf) -> Arc<Space>;
    /// Makes an empty work file; fails if the name is taken.
    async fn create(&self, shelf: Shelf, name: &str) -> io::Result<Self::File>;
    /// Opens a work file for writing.
    async fn open(&self, shelf: Shelf, name: &str) -> io::Result<Self::File>;
    /// What stands under a name; `None` if nothing.
    async fn stat(&self, shelf: Shelf, name: &str) -> io::Result<Option<WorkStat>>;
    /// Makes an empty log in the work directory; fails if the name is taken.
    async fn create_log(&self, name: &str) -> io::Result<Self::Log>;
    /// Opens the reply of an application for reading; `None` if there is none, or something that is no file.
    async fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(Self::File, ReplyStat)>>;
    /// Removes a file; `Ok` if there is none.
    async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()>;
    /// Gives a file another name on its shelf.
    async fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()>;
    /// All names.
    async fn list(&self, shelf: Shelf) -> io::Result<Vec<String>>;
    /// Makes names made and removed so far on a shelf durable.
    async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()>;

    // The trees of destinations. Paths are resolved beneath their roots, whatever links stand in them.

    /// Looks at a destination. Where it is asked on behalf of a publication in some manner, whatever that would fail by
    /// is an error now, before any byte is sent.
    async fn look_up(&self, place: &Place, before: Option<Manner>) -> io::Result<Standing>;
    /// Opens what stands at a destination for reading, without ever waiting for a writer; `None` if nothing does, something
    /// that is no file, or something that lies in the work directory or outside of the root.
    async fn open_published(&self, place: &Place) -> io::Result<Option<(Self::File, ReplyStat)>>;
    /// Moves a work file to its destination in one step. After an error nothing has changed: the file is where it was, and
    /// folders that were made for it are gone.
    async fn publish(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        manner: Manner,
    ) -> io::Result<Self::Published>;
    /// Makes the name of a destination durable, in a folder that an earlier life of the server may have published into.
    async fn sync_destination(&self, place: &Place) -> io::Result<()>;
    /// Lets go of the roots that nobody needs any more. Nothing to do where a root costs nothing.
    fn close_roots(&self, _is_needed: &dyn Fn(usize) -> bool) {}

    // The applications.

    /// Tells an application of a file. By 200 and a reply, that stands under its name on the shelf of the file, unsynced.
    /// After an error nothing stands there, and nothing appears there later.
    async fn notify(&self, order: Order) -> Result<Answer, NotifyError>;
}

/// The other shard's mailbox is full, or it is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandOverFull;
