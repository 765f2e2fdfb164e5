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

mod found;
mod ops;
mod remedies;
mod table;

use std::io;

use rustix::io::Errno;

use Heals::WithServer;
use Severity::Warning;
use remedies::{
    BRING_BYTES_BACK, BRING_DISK, BRING_LOCATION_BACK, BRING_ROOT_BACK, CLOSE_FILES, FREE_SPACE,
    GRANT_DESTINATION, KEEP_OUT, RAISE_QUOTA, REMOUNT, SEE_BEFORE,
};
use table::ROWS;

pub use remedies::RAISE_FILE_SIZE;

pub use found::{
    Blocked, DiskAway, Displaced, LeftOnOtherDisk, NamedElsewhere, NotOurs, PartChanged,
    PartTouched, PromisedChanged, SyncNotBegun, Unmovable, is_not_ours, is_part_changed,
    obstacle_in, of_promised,
};

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
    if let Some(Displaced { remedy, .. }) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return displaced(remedy);
    }
    if is_not_ours(error) {
        return not_ours();
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Unmovable>()) {
        return unmovable();
    }
    if (error.get_ref()).is_some_and(|inner| inner.is::<PromisedChanged>()) {
        return promised_changed();
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
    if (error.get_ref()).is_some_and(|inner| inner.is::<LeftOnOtherDisk>()) {
        return location_moved();
    }
    if error
        .get_ref()
        .is_some_and(|inner| inner.is::<NamedElsewhere>())
    {
        return named_elsewhere();
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

/// What helps where a connection could not be accepted.
pub fn remedy_of_accept(error: &io::Error) -> &'static str {
    match errno_of(error) {
        errno @ Some(
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::CANCELED,
        ) => row_of(DiskOp::Open, errno).remedy,
        // Of the network, which no row knows.
        _ => remedies::LOOK_UP,
    }
}

/// What helps against a refusal that is the server's fault, or of its host; `None` if only the
/// client can do something. Where the disk is the cause, a line before it says more.
pub fn remedy(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::DiskFull => Some(FREE_SPACE),
        Refusal::QuotaExceeded => Some(RAISE_QUOTA),
        Refusal::FileTooLarge => Some(remedies::LET_FIT),
        Refusal::ReadOnly => Some(REMOUNT),
        // Several rows lead to these.
        Refusal::DiskFailed | Refusal::DiskUnusable => Some(SEE_BEFORE),
        Refusal::StoreFailed => Some(
            "see the last line object_not_taken or object_store_away: it says what helps; if there is none, the store has \
             not answered yet: look at it",
        ),
        Refusal::StagingFull => {
            Some("look at the object store; or raise store_staging_max where the disk has room")
        }
        Refusal::AccessDenied => Some(GRANT_DESTINATION),
        Refusal::Obstructed(obstacle) => Some(remedies::of_obstacle(*obstacle)),
        Refusal::DiskAway => Some(BRING_DISK),
        Refusal::LocationMoved => Some(BRING_LOCATION_BACK),
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

/// Whoever gives the location its place back has the file closed.
fn location_moved() -> Diagnosis {
    Diagnosis {
        hears: Refusal::LocationMoved,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "the location has moved to another disk since the upload was begun",
        remedy: BRING_LOCATION_BACK,
    }
}

/// The file is safe against everything but a power cut, and its client cannot be told less.
fn named_elsewhere() -> Diagnosis {
    Diagnosis {
        cause: "the file has its name beneath a root that the settings do not name any more, and the server was not \
                stopped since: whether a power cut would leave it is not known",
        remedy: BRING_ROOT_BACK,
        ..location_moved()
    }
}

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
        cause: "somebody has changed an unfinished upload: its client sends it once more; one that was promised \
                (store_ack = \"staged\") waits here until its bytes are back",
        remedy: KEEP_OUT,
    }
}

/// Its client has heard 200, and comes no more: whoever brings the bytes back has it stored.
fn promised_changed() -> Diagnosis {
    Diagnosis {
        hears: Refusal::DiskUnusable,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "somebody has changed or cut a file that its client was promised (store_ack = \"staged\"): it waits \
                here until its bytes are back",
        remedy: BRING_BYTES_BACK,
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

fn displaced(remedy: &'static str) -> Diagnosis {
    Diagnosis {
        hears: Refusal::Displaced,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "the root or the work directory is not what it was when the server started",
        remedy,
    }
}

fn not_ours() -> Diagnosis {
    Diagnosis {
        hears: Refusal::DiskUnusable,
        poisons: false,
        heals: WithServer,
        severity: Warning,
        cause: "others may have changed a file in the work directory",
        remedy: CLOSE_FILES,
    }
}

fn of_obstacle(obstacle: Obstacle) -> Diagnosis {
    Diagnosis {
        hears: Refusal::Obstructed(obstacle),
        poisons: false,
        heals: Heals::Never,
        severity: Severity::Warning,
        cause: obstacle.words(),
        remedy: remedies::of_obstacle(obstacle),
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
    remedy: remedies::LOOK_UP,
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
