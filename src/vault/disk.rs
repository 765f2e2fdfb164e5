//! What the vault asks of the outside: a clock and a turn ([`Runtime`]), folders of its own
//! ([`WorkFiles`]), and the trees of destinations ([`Disk`]).
//!
//! `ring/` implements them on tokio-uring, `tests/sim/` on virtual time and a virtual disk. Two
//! rules hold for every implementation and every caller:
//!
//! 1. A future that was polled is awaited to its end; an operation is never dropped half-way.
//! 2. Blocks are owned: they go into an operation and come back with its result, also on error.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::names::NamesOf;
use super::space::Space;
use crate::event::Event;
use crate::http::path::UploadPath;

/// Milliseconds of a monotonic clock that starts at any point.
pub type Millis = u64;

/// Milliseconds of a duration. Those of settings are far shorter than what cannot be expressed.
pub fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Memory that bytes are received into and written from.
pub trait Block: 'static {
    /// All of it, filled or not.
    fn bytes(&self) -> &[u8];
    /// All of it, to be filled.
    fn bytes_mut(&mut self) -> &mut [u8];
}

/// An open file to be read: a part that is hashed, a reply, or what is downloaded.
#[allow(async_fn_in_trait)]
pub trait Readable: 'static {
    /// The memory that it is read into.
    type Block: Block;

    /// Reads into `block[range]` from `offset`; may take fewer bytes, 0 is the end.
    async fn read_at(
        &self,
        block: Self::Block,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Self::Block);
}

/// An open work file: what the bytes of an upload go into, and what makes them durable.
#[allow(async_fn_in_trait)]
pub trait File: Readable {
    /// Writes `block[range]` at `offset`; may take fewer bytes.
    async fn write_at(
        &self,
        block: Self::Block,
        range: Range<usize>,
        offset: u64,
    ) -> (io::Result<usize>, Self::Block);

    /// The same, and shows the bytes meanwhile, in order and piece by piece: from the beginning of
    /// the range, and mostly as many as it takes.
    async fn write_shown(
        &self,
        block: Self::Block,
        range: Range<usize>,
        offset: u64,
        show: impl FnMut(&[u8]),
    ) -> (io::Result<usize>, Self::Block);

    /// Gets ready for a file of `bytes`; fails with `FileTooLarge` where no file can be so long.
    async fn expect(&self, bytes: u64) -> io::Result<()>;

    /// Reserves the space of a range without changing the length. `Ok` where the file system
    /// cannot.
    async fn allocate(&self, range: Range<u64>) -> io::Result<()>;

    /// Gives back what is reserved beyond the end; `bytes` is the length. Nobody writes meanwhile.
    async fn give_back(&self, bytes: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable (`fdatasync`).
    async fn sync_data(&self) -> io::Result<()>;

    /// Brings the bytes to the device and waits for it. They survive a power cut when a later sync
    /// says so: of this file, or of the journal where [`WorkFiles::commits_in_order`].
    async fn write_out(&self) -> io::Result<()>;

    /// How long it is now, as far as this machine knows. Somebody else may have cut it.
    async fn length(&self) -> io::Result<u64>;

    /// Identity of the file on its file system; survives rename.
    fn inode(&self) -> u64;

    /// Cuts the file to `bytes`, durably.
    async fn truncate(&self, bytes: u64) -> io::Result<()>;
}

/// A file that is only ever appended to, as the journal of a shard is.
#[allow(async_fn_in_trait)]
pub trait Log: 'static {
    /// Appends all bytes, or none: after an error the next append begins at the same place. One at
    /// a time.
    async fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended durable (`fdatasync`).
    async fn sync(&self) -> io::Result<()>;

    /// Whether somebody has removed or cut it: what is appended reaches nobody any more. Asked
    /// before each append.
    fn is_lost(&self) -> bool {
        false
    }

    /// Whether the next start would find it by its name, with all that was appended. Asked once in
    /// a while.
    fn is_in_place(&self) -> bool {
        true
    }
}

/// A folder that holds the files of sessions. The first is the work directory itself, which holds
/// the journals too; each root on another file system has one there, so that its uploads get their
/// names in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shelf(pub u16);

impl Shelf {
    /// The work directory.
    pub const WORK: Self = Self(0);
}

/// One sync for everything, on a file system that commits all changes in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// That of the journal, when something was appended to it: it is on the same file system.
    Journal,
    /// [`WorkFiles::sync_shelf`].
    Shelf,
}

/// What something on a shelf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkKind {
    /// A file that is ours alone.
    Ours,
    /// A file that belongs to somebody else, or that others may write to: who opens it is told
    /// which.
    NotOurs,
    /// A folder.
    Folder,
    /// A link.
    Link,
    /// A pipe, a socket, a device.
    Special,
}

impl WorkKind {
    /// Why it is no file of ours, in words; `None` if it is a file.
    pub fn why_no_file(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::NotOurs => None,
            Self::Folder => Some("it is a folder, where a file of the server's has to be"),
            Self::Link => Some("it is a link, where a file of the server's has to be"),
            Self::Special => Some("it is no file, where one of the server's has to be"),
        }
    }
}

/// What stands on a shelf under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkStat {
    /// What it is.
    pub kind: WorkKind,
    /// Length, in bytes.
    pub bytes: u64,
    /// Milliseconds since it was last written to, by the wall clock; 0 if that lies in the future.
    pub age_ms: u64,
    /// Identity of the file on its file system; survives rename.
    pub inode: u64,
    /// Space that it occupies, in bytes: what is reserved for it counts.
    pub occupied: u64,
    /// When its bytes last changed, in nanoseconds since 1970.
    pub modified_ns: u64,
    /// When anything of it last changed, likewise.
    pub changed_ns: u64,
}

impl WorkStat {
    /// How it stands there now.
    pub fn stamp(&self) -> PartStamp {
        PartStamp {
            inode: self.inode,
            bytes: self.bytes,
            modified_ns: self.modified_ns,
            changed_ns: self.changed_ns,
        }
    }
}

/// How a file was left. Whoever writes to it, or puts another one in its place, changes one of
/// these; that one changed proves nothing by itself. The file is read again then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartStamp {
    /// See [`WorkStat::inode`].
    pub inode: u64,
    /// See [`WorkStat::bytes`].
    pub bytes: u64,
    /// See [`WorkStat::modified_ns`]; whoever has written to the file can set it back.
    pub modified_ns: u64,
    /// See [`WorkStat::changed_ns`]; nobody can set it, but by the clock.
    pub changed_ns: u64,
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
    /// Its digest, where it is kept with the file and nobody has written to it since.
    pub sha256: Option<[u8; 32]>,
}

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of its root in the settings; no other root ever gets it, whatever is reloaded.
    pub root: usize,
    /// The path beneath that root.
    pub path: UploadPath,
    /// So many names at its beginning lead to the folder of its user; 0: there is none.
    pub own: usize,
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
        /// Its length.
        bytes: u64,
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
    /// One is: that to which so many names lead, from the root on. It belongs to a user, whom
    /// nobody need prepare for.
    Own(usize),
}

impl Parents {
    /// Whether the folder may be made that follows so many names.
    pub fn may_make(self, names: usize) -> bool {
        match self {
            Self::MustExist => false,
            Self::Create => true,
            Self::Own(own) => names + 1 == own,
        }
    }
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
    /// Whether it has to survive a power cut. Folders that are made survive one at once; the file's
    /// own name when [`Published::sync`] has returned.
    pub sync: Sync,
    /// Permissions of the file, whatever the umask; `None`: `0666` without the umask.
    pub file_mode: Option<u16>,
    /// Permissions of folders that are made, whatever the umask; `None`: `0777` without the umask.
    pub dir_mode: Option<u16>,
    /// How long it must be: what somebody else has put in its place gets no name. `None` where that
    /// is not known yet.
    pub bytes: Option<u64>,
    /// Its digest, to be kept with it where the file system can.
    pub sha256: Option<[u8; 32]>,
    /// How it was when its digest was found right: one that was changed since gets no name.
    pub left: Option<PartStamp>,
}

/// A file that has just got its name.
///
/// What undoes that is [`Disk::take_back`], by name and inode: only a later try wants it, when this
/// is gone with the one whose sync failed, and somebody may have replaced the file meanwhile. And
/// where a call that was said to have failed gave the name, there was never any of these.
#[allow(async_fn_in_trait)]
pub trait Published: 'static {
    /// Makes its name durable, and whatever it was given with its name.
    async fn sync(&self) -> io::Result<()>;
}

/// What everybody on a shard may ask for: the time, a turn for the others, and to be heard.
#[allow(async_fn_in_trait)]
pub trait Runtime: 'static {
    /// The time now.
    fn now(&self) -> Millis;
    /// The time now, for what is measured: as exact as there is, in microseconds.
    fn now_us(&self) -> u64 {
        self.now().saturating_mul(1_000)
    }
    /// The wall clock, in milliseconds since 1970; it may jump.
    fn wall_clock_ms(&self) -> u64;
    /// Tells what happened.
    fn emit(&self, event: Event<'_>);
    /// Lets the other tasks of the shard have their turn, and what they have submitted begin. Never
    /// ready at once.
    async fn give_way(&self);
}

/// What stands under a name; `None` if nothing.
pub type StatResult = io::Result<Option<WorkStat>>;

/// One shard's view of the folders that are the server's own: flat, and private to it.
///
/// It has so many methods because half of them only tell what the shelves are and what their file
/// systems promise, which decides what has to be synced and when.
#[allow(async_fn_in_trait)]
pub trait WorkFiles: Runtime {
    /// Its work files.
    type File: File;
    /// Its journal.
    type Log: Log;

    /// Identity of this boot of the machine.
    fn boot_id(&self) -> u128;
    /// Whether that boot ended after a clean stop of the server that synced this shelf and the
    /// journals; `None`: that synced all shelves ([`super::clean_stop`]).
    fn was_stopped_cleanly(&self, boot_id: u128, shelf: Option<Shelf>) -> bool;
    /// All of them, the work directory first.
    fn shelves(&self) -> Vec<Shelf>;
    /// Whether one that held parts before is not here now: a part that is not found may be there.
    fn misses_a_shelf(&self) -> bool {
        false
    }
    /// So much may the sessions of a shard weigh in memory ([`super::weight`]).
    fn sessions_bytes_max(&self) -> u64 {
        u64::MAX
    }
    /// What makes durable all that was done before on this shelf and in the trees that belong to
    /// it: names that were given, and files that were written out. `None` if each file and each
    /// folder has to be synced by itself, as where a file system does not commit its changes in
    /// their order.
    fn commits_in_order(&self, _shelf: Shelf) -> Option<Commit> {
        None
    }
    /// Whether a line of the custody ledger that is made durable makes durable all that was done
    /// before on this shelf: it stands in the same log as the journal ([`Commit::Journal`]).
    fn line_commits(&self, _shelf: Shelf) -> bool {
        false
    }
    /// Whether the times of files on a shelf tell at once that somebody has written to one, and
    /// only that. Where another host keeps them, they may change when it gets to that.
    fn tells_changes(&self, _shelf: Shelf) -> bool {
        true
    }
    /// The space of the file system of a shelf.
    fn space(&self, shelf: Shelf) -> Arc<Space>;
    /// Makes an empty work file; fails if the name is taken.
    async fn create(&self, shelf: Shelf, name: &str) -> io::Result<Self::File>;
    /// Opens a work file for writing.
    async fn open(&self, shelf: Shelf, name: &str) -> io::Result<Self::File>;
    /// What stands under a name; `None` if nothing.
    async fn stat(&self, shelf: Shelf, name: &str) -> StatResult;
    /// What stands under each of these names, in their order. An error of the whole is one of all.
    async fn stat_all(&self, shelf: Shelf, names: &[String]) -> io::Result<Vec<StatResult>> {
        let mut stats = Vec::with_capacity(names.len());
        for name in names {
            stats.push(self.stat(shelf, name).await);
        }
        Ok(stats)
    }
    /// Makes an empty log in the work directory; fails if the name is taken.
    async fn create_log(&self, name: &str) -> io::Result<Self::Log>;
    /// The longest that a log can become: what the process is allowed, and the file system.
    fn log_bytes_max(&self) -> u64 {
        u64::MAX
    }
    /// Opens the reply of an application for reading; `None` if there is none, or something that is
    /// no file.
    async fn open_reply(
        &self,
        shelf: Shelf,
        name: &str,
    ) -> io::Result<Option<(Self::File, ReplyStat)>>;
    /// Removes a file; `Ok` if there is none.
    async fn remove(&self, shelf: Shelf, name: &str) -> io::Result<()>;
    /// Gives a file another name on its shelf.
    async fn rename(&self, shelf: Shelf, from: &str, to: &str) -> io::Result<()>;
    /// The names that are asked for.
    async fn list(&self, shelf: Shelf, wanted: NamesOf) -> io::Result<Vec<String>>;
    /// Makes names made and removed so far on a shelf durable; with [`Commit::Shelf`], all that was
    /// done before.
    async fn sync_shelf(&self, shelf: Shelf) -> io::Result<()>;
}

/// One shard's view of the disk: the shelves, and the trees of destinations, into which files are
/// published. Paths are resolved beneath their roots, whatever links stand in them.
#[allow(async_fn_in_trait)]
pub trait Disk: WorkFiles {
    /// Its files that have just got their names.
    type Published: Published;

    /// The one from which a file can be moved to a destination in one step.
    fn shelf(&self, place: &Place) -> Shelf;
    /// Whether a destination is on a file system that is not here now: what stands at its path then
    /// is something else.
    fn is_away(&self, _place: &Place) -> bool {
        false
    }
    /// Where a root is, absolute and without links, for whoever reads that elsewhere; `None` if it
    /// is not open.
    fn path_of_root(&self, _root: usize) -> Option<String> {
        None
    }
    /// The root that is there ([`Disk::path_of_root`]); `None` if none is that is open.
    fn root_at(&self, _path: &str) -> Option<usize> {
        None
    }
    /// Looks at a destination. Where it is asked on behalf of a publication in some manner,
    /// whatever that would fail by is an error now, before any byte is sent.
    async fn look_up(&self, place: &Place, before: Option<Manner>) -> io::Result<Standing>;
    /// Opens what stands at a destination for reading, without ever waiting for a writer; `None` if
    /// nothing does, something that is no file, or something that lies in the work directory or
    /// outside of the root.
    async fn open_published(&self, place: &Place) -> io::Result<Option<(Self::File, ReplyStat)>>;
    /// Moves a work file to its destination in one step. After an error nothing has changed: the
    /// file is where it was, and folders that were made for it are gone.
    async fn publish(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        manner: Manner,
    ) -> io::Result<Self::Published>;
    /// Makes a file that has got its name a work file again, in one step; `false` if it is not at
    /// its destination any more.
    async fn take_back(
        &self,
        shelf: Shelf,
        name: &str,
        place: &Place,
        inode: u64,
    ) -> io::Result<bool>;
    /// Makes the name of a destination durable, in a folder that an earlier life of the server may
    /// have published into.
    async fn sync_destination(&self, place: &Place) -> io::Result<()>;
}
