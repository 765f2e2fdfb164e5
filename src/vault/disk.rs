//! What the vault keeps files on: work files, journals, and the trees of destinations.

use std::io;
use std::ops::Range;

use crate::http::path::UploadPath;

/// Milliseconds of a monotonic clock that starts at any point.
pub type Millis = u64;

/// Memory that bytes are received into and written from.
pub trait Block: 'static {
    /// All of it, filled or not.
    fn bytes(&self) -> &[u8];
    /// All of it, to be filled.
    fn bytes_mut(&mut self) -> &mut [u8];
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
