//! What an error of the disk means: for the client, for the session, and for whoever reads the log.
//!
//! One table, `diagnosis/table.rs`. The operation and the error number lead to what the client
//! hears, what the log says and how loud, and what ends the trouble. The operation is asked first,
//! because the same number means different things in the work directory, which is ours, and at a
//! destination, which the client has named.
//!
//! Two rules hold for every row, and are tests. What may heal while a client waits, by itself or
//! because somebody mends the server, must look transient to it. What cannot heal must not, or the
//! client would retry for weeks ([`Refusal::reaction`]). And only EIO and its kin blame the device.

mod ops;
mod remedies;
mod table;

use std::fmt;
use std::io;

use rustix::io::Errno;

use Heals::WithServer;
use Severity::Warning;
use remedies::{
    BRING_DISK, CHECK_DEVICE, FREE_SPACE, GRANT_DESTINATION, KEEP_OUT, REMOUNT, SEE_BEFORE,
};
use table::ROWS;

use crate::bits::reply::{Obstacle, Refusal, Scarce};
use crate::event::DiskOp;

/// How loud an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Not at all: the line of the refusal says it all, and it is the client's affair.
    Silent,
    /// As information: nothing is wrong with the server.
    Info,
    /// As a warning: somebody should act.
    Warning,
}

/// What ends the trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heals {
    /// Time: others end, space is freed.
    ByItself,
    /// Somebody who mends the server; all its clients can wait for that.
    WithServer,
    /// Nothing that waiting brings, for this file under this name.
    Never,
}

/// What an error means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What the client hears.
    pub hears: Refusal,
    /// The session can no longer be trusted.
    pub poisons: bool,
    /// What ends the trouble.
    pub heals: Heals,
    /// How loud it is told.
    pub severity: Severity,
    /// What is the matter, in words.
    pub cause: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Says what an error means.
pub fn diagnose(op: DiskOp, error: &io::Error) -> Diagnosis {
    if let Some(obstacle) = obstacle_in(error) {
        return of_obstacle(obstacle);
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Displaced>()) {
        return displaced();
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Unmovable>()) {
        return unmovable();
    }
    if is_part_changed(error) {
        return part_changed();
    }
    if (error.get_ref()).is_some_and(|inner| inner.is::<PartTouched>()) {
        return part_touched();
    }
    if error.get_ref().is_some_and(|inner| inner.is::<DiskAway>()) {
        return disk_away();
    }
    if let Some(SyncNotBegun(why)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return not_begun(op, why);
    }
    let errno = errno_of(error);
    let row = row_of(op, errno);
    let poisons = match op {
        // The kernel may have dropped the pages, and would call a second try a success. No sync
        // wants for descriptors: it was not begun.
        DiskOp::Sync | DiskOp::SyncDirectory => !matches!(errno, Some(Errno::MFILE | Errno::NFILE)),
        // Somebody took the bytes away, or put something else in their place.
        DiskOp::Open => matches!(
            errno,
            Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::STALE)
        ),
        DiskOp::Write => row.write == Write::InDoubt,
        // A record that could not be appended harms nothing: the one before it counts. Nor does
        // one that could not be synced: it is written once more, to a new journal.
        _ => false,
    };
    let hears = match poisons {
        true => Refusal::SessionNotFound,
        false => row.hears.clone(),
    };
    Diagnosis {
        hears,
        poisons,
        heals: row.heals,
        severity: row.severity,
        cause: row.cause,
        remedy: row.remedy,
    }
}

/// The same where it is known only that it was something in the work directory: as for a record,
/// which is read and written there.
pub fn in_work_dir(error: &io::Error) -> Diagnosis {
    diagnose(DiskOp::Record, error)
}

/// What a client hears that would begin an upload while the disk loses them, by this error number.
pub fn while_uploads_are_lost(errno: i32) -> Refusal {
    let row = row_of(DiskOp::Sync, Some(Errno::from_raw_os_error(errno)));
    row.hears.clone()
}

/// What a refusal means that is the server's fault; `None` if it is the client's. Where the disk is
/// the cause, a line before it says more.
pub fn remedy(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::DiskFull | Refusal::QuotaExceeded => Some(FREE_SPACE),
        Refusal::ReadOnly => Some(REMOUNT),
        Refusal::DiskFailed => Some(CHECK_DEVICE),
        Refusal::DiskUnusable => Some(SEE_BEFORE),
        Refusal::StoreFailed => Some("see the line object_not_taken: it says what helps"),
        Refusal::StagingFull => {
            Some("look at the object store; or raise store_staging_max where the disk has room")
        }
        Refusal::AccessDenied => Some(GRANT_DESTINATION),
        Refusal::Obstructed(obstacle) => Some(of_obstacle(*obstacle).remedy),
        Refusal::DataVanished => Some(KEEP_OUT),
        Refusal::DiskAway => Some(BRING_DISK),
        Refusal::InTheClear => Some(
            "let clients come by https (docs/tls.md), or set allow_plaintext where nobody else is on the way",
        ),
        Refusal::NotNamed => Some(
            "let the proxy send user_header with each request, from an address among trusted_proxies",
        ),
        Refusal::NameUnusable => Some(
            "what user_header holds must be one name in UTF-8, of 1 to 256 bytes, without a colon: look at what the \
             proxy sends, and that it sends it once",
        ),
        Refusal::EventsOwed => Some(
            "mend the target of events that does not take them (`bitsd status` names it), or raise \
             limits.events_owed_per_shard_max",
        ),
        Refusal::LedgerFails => Some(
            "see the line custody_failed: it says why nothing can be written in the folder of `custody`; clients come back \
             by themselves",
        ),
        Refusal::Busy(scarce) => Some(remedies::of_scarce(*scarce)),
        _ => None,
    }
}

/// What stands in the way of a destination, and where. Whoever found out more than the number says
/// puts it into the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    obstacle: Obstacle,
    name: String,
}

impl Blocked {
    /// By what, and what it is beneath the root of its location.
    pub fn by(obstacle: Obstacle, name: &str) -> Self {
        Self {
            obstacle,
            name: name.to_owned(),
        }
    }
}

/// A root or a folder of the server's own is not the one that was opened at start.
#[derive(Debug)]
pub struct Displaced(pub String);

impl std::fmt::Display for Displaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Displaced {}

impl From<Displaced> for io::Error {
    fn from(displaced: Displaced) -> Self {
        Self::other(displaced)
    }
}

/// The work directory, or the file of an upload in it, lets nothing be moved away; which of them,
/// and why.
#[derive(Debug)]
pub struct Unmovable(pub String);

impl std::fmt::Display for Unmovable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unmovable {}

impl From<Unmovable> for io::Error {
    fn from(unmovable: Unmovable) -> Self {
        Self::other(unmovable)
    }
}

/// Somebody has put something else in the place of an upload's file, or has cut it, or has changed
/// what its client has sent.
#[derive(Debug)]
pub struct PartChanged;

impl std::fmt::Display for PartChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the file in the work directory is not what was written")
    }
}

impl std::error::Error for PartChanged {}

/// Whether it is that.
pub fn is_part_changed(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<PartChanged>())
}

/// Somebody does something to an upload's file just when it is to get its name: what its digest is
/// has to be found out anew.
#[derive(Debug)]
pub struct PartTouched;

impl std::fmt::Display for PartTouched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("somebody else does something to the file in the work directory")
    }
}

impl std::error::Error for PartTouched {}

/// A shelf is not there, and the upload may be on it.
#[derive(Debug)]
pub struct DiskAway;

impl std::fmt::Display for DiskAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the shelf that the upload may be on is not there")
    }
}

impl std::error::Error for DiskAway {}

fn disk_away() -> Diagnosis {
    Diagnosis {
        hears: Refusal::DiskAway,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "a disk with unfinished uploads is not mounted: they wait for it",
        remedy: BRING_DISK,
    }
}

/// What a sync needs could not be had, and none was begun: no bytes are in doubt.
#[derive(Debug)]
pub struct SyncNotBegun(pub io::Error);

impl std::fmt::Display for SyncNotBegun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the file `commit` cannot be written: {}", self.0)
    }
}

impl std::error::Error for SyncNotBegun {}

/// Nothing failed on the disk, unless the number itself says so.
fn not_begun(op: DiskOp, error: &io::Error) -> Diagnosis {
    let row = row_of(DiskOp::Create, errno_of(error));
    if row.write == Write::InDoubt {
        return diagnose(op, error);
    }
    Diagnosis {
        hears: row.hears.clone(),
        poisons: false,
        heals: row.heals,
        severity: row.severity,
        cause: row.cause,
        remedy: row.remedy,
    }
}

/// The destination has nothing to do with it, and the file waits until somebody has mended that.
fn unmovable() -> Diagnosis {
    Diagnosis {
        hears: Refusal::DiskUnusable,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "nothing can be moved out of the work directory",
        remedy: "look at `ls -ld` and `lsattr -d` of work_dir and at `lsattr` of what stands in it: \
                 `chattr -i -a` takes the attributes off",
    }
}

fn part_changed() -> Diagnosis {
    Diagnosis {
        hears: Refusal::SessionNotFound,
        poisons: true,
        heals: Heals::Never,
        severity: Warning,
        cause: "somebody has changed an unfinished upload: its client sends it once more",
        remedy: KEEP_OUT,
    }
}

fn part_touched() -> Diagnosis {
    Diagnosis {
        hears: Refusal::Busy(Scarce::File),
        poisons: false,
        heals: Heals::ByItself,
        severity: Warning,
        cause: "somebody else writes to an unfinished upload just now: its client comes back",
        remedy: KEEP_OUT,
    }
}

fn displaced() -> Diagnosis {
    Diagnosis {
        hears: Refusal::Displaced,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "the root or the work directory is not the one that was opened at start",
        remedy: "put back what was there, or restart bitsd; a line that begins with `not ready` says \
                 more",
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.obstacle, self.name)
    }
}

impl std::error::Error for Blocked {}

impl From<Blocked> for io::Error {
    fn from(blocked: Blocked) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, blocked)
    }
}

/// The obstacle in an error, where it has one.
pub fn obstacle_in(error: &io::Error) -> Option<Obstacle> {
    let blocked = error.get_ref()?.downcast_ref::<Blocked>()?;
    Some(blocked.obstacle)
}

fn of_obstacle(obstacle: Obstacle) -> Diagnosis {
    let remedy = match obstacle {
        Obstacle::OtherMount => {
            "give that folder a [[location]] of its own, on its own file system; an upload that was begun before it was \
             moved there begins anew"
        }
        Obstacle::Encrypted => {
            "give that folder a [[location]] whose `root` it is: unfinished uploads are encrypted in \
             it then (a file cannot be moved into an encrypted folder)"
        }
        Obstacle::Project => {
            "give that folder a [[location]] whose `root` it is: unfinished uploads are counted in it \
             then (in a user namespace, as of a rootless container, nobody may change the project of \
             a file)"
        }
        Obstacle::LinkLeadsOut => {
            "let the link lead to a folder beneath the root (a relative link), or replace it by a \
             [[location]] with its own root"
        }
        Obstacle::LinkIntoWork => "remove the link",
        Obstacle::LinkDangles => "make the folder that the link leads to, or remove the link",
        Obstacle::LinkLoop => "mend or remove the links",
        Obstacle::Sticky => {
            "give the server's user the file or the folder, or take the sticky bit off (`chmod -t`)"
        }
        Obstacle::AppendOnly => "take the attribute off (`lsattr -d`, `chattr -a`)",
        Obstacle::Immutable => "take the attribute off (`lsattr -d`, `chattr -i`)",
        Obstacle::NoFile => "remove it, or upload under another name",
        Obstacle::InUse => "unmount it, or upload under another name",
        Obstacle::NameRefused => {
            "use a Linux file system beneath root (ext4, XFS, btrfs), or another name"
        }
        Obstacle::FolderFull => "spread the uploads over more folders",
        Obstacle::DigestFile => {
            "move away what has the name with .sha256 behind it, or set digest_file = false"
        }
    };
    Diagnosis {
        hears: Refusal::Obstructed(obstacle),
        poisons: false,
        heals: Heals::Never,
        severity: Severity::Warning,
        cause: obstacle.words(),
        remedy,
    }
}

/// Whether a write that failed so may have changed the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    /// It has not: the bytes before it stand.
    Harmless,
    /// Nobody knows.
    InDoubt,
}

/// One row of the table.
struct Row {
    /// In the course of what.
    ops: &'static [DiskOp],
    errnos: &'static [Errno],
    hears: Refusal,
    heals: Heals,
    severity: Severity,
    write: Write,
    cause: &'static str,
    remedy: &'static str,
}

/// The last row: whatever the others do not know.
const UNKNOWN: Row = Row {
    ops: ops::ANYWHERE,
    errnos: &[],
    hears: Refusal::DiskUnusable,
    heals: WithServer,
    severity: Warning,
    write: Write::InDoubt,
    cause: "the kernel refused, and the server does not know this error",
    remedy: "look up the error together with the operation; please report this line",
};

fn row_of(op: DiskOp, errno: Option<Errno>) -> &'static Row {
    let known = errno.and_then(|errno| {
        let mut rows = ROWS.iter();
        rows.find(|row| row.ops.contains(&op) && row.errnos.contains(&errno))
    });
    known.unwrap_or(&UNKNOWN)
}

/// The number of an error; errors that we made ourselves have a kind instead.
fn errno_of(error: &io::Error) -> Option<Errno> {
    use io::ErrorKind as Kind;
    Errno::from_io_error(error).or_else(|| {
        Some(match error.kind() {
            Kind::NotFound => Errno::NOENT,
            Kind::PermissionDenied => Errno::ACCESS,
            Kind::AlreadyExists => Errno::EXIST,
            // No regular file, as whoever opens those of ours says.
            Kind::IsADirectory | Kind::InvalidInput => Errno::ISDIR,
            Kind::NotADirectory => Errno::NOTDIR,
            Kind::FileTooLarge => Errno::FBIG,
            Kind::StorageFull => Errno::NOSPC,
            Kind::QuotaExceeded => Errno::DQUOT,
            Kind::ReadOnlyFilesystem => Errno::ROFS,
            Kind::OutOfMemory => Errno::NOMEM,
            Kind::CrossesDevices => Errno::XDEV,
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests;
