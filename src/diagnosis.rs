//! What an error of the disk means: for the client, for the session, and for whoever reads the log.
//!
//! One table, `ROWS`. The operation and the error number lead to what the client hears, what the
//! log says and how loud, and what ends the trouble. The operation is asked first, because the same
//! number means different things in the work directory, which is ours, and at a destination, which
//! the client has named.
//!
//! Two rules hold for every row, and are tests. What may heal while a client waits, by itself or
//! because somebody mends the server, must look transient to it. What cannot heal must not, or the
//! client would retry for weeks ([`Refusal::reaction`]). And only EIO and its kin blame the device.

use std::fmt;
use std::io;

use rustix::io::Errno;

use Heals::{ByItself, Never, WithServer};
use Severity::{Info, Silent, Warning};
use Write::{Harmless, InDoubt};

use crate::bits::reply::{Obstacle, Refusal, Refusal as R};
use crate::event::{DiskOp, DiskOp as Op};
use crate::http::path::BadTarget;

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
    let errno = errno_of(error);
    let row = row_of(op, errno);
    let poisons = match op {
        // The kernel may have dropped the pages, and would call a second try a success.
        DiskOp::Sync | DiskOp::SyncDirectory => true,
        // Somebody took the bytes away, or put something else in their place.
        DiskOp::Open => matches!(
            errno,
            Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::STALE)
        ),
        DiskOp::Write => row.write == Write::InDoubt,
        // A record that could not be appended harms nothing: the one before it counts.
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

/// What a refusal means that is the server's fault; `None` if it is the client's. Where the disk is
/// the cause, a line before it says more.
pub fn remedy(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::DiskFull | Refusal::QuotaExceeded => Some(FREE_SPACE),
        Refusal::ReadOnly => Some(REMOUNT),
        Refusal::DiskFailed => Some(CHECK_DEVICE),
        Refusal::DiskUnusable => Some(SEE_BEFORE),
        Refusal::AccessDenied => Some(GRANT_DESTINATION),
        Refusal::Obstructed(obstacle) => Some(of_obstacle(*obstacle).remedy),
        Refusal::DataVanished => Some(KEEP_OUT),
        Refusal::Busy => Some(
            "raise LimitNOFILE= of the service (or `ulimit -n`), limits.sessions_per_shard_max, \
             limits.mailbox_max or notifications_in_flight_max, whichever ran out",
        ),
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

fn displaced() -> Diagnosis {
    Diagnosis {
        hears: Refusal::Unavailable,
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
            "give that folder a [[location]] of its own, on its own file system"
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
            Kind::IsADirectory => Errno::ISDIR,
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

/// Files of ours.
const WORK: &[DiskOp] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Allocate,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
];
/// What the client has named.
const DESTINATION: &[DiskOp] = &[Op::LookUp, Op::CreateDirectories, Op::Publish];
/// Everything but what looks ahead.
const NOT_AHEAD: &[DiskOp] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::LookUp,
    Op::CreateDirectories,
    Op::Publish,
];
/// Everything.
const ANYWHERE: &[DiskOp] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Allocate,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::LookUp,
    Op::CreateDirectories,
    Op::Publish,
];

/// The table. No operation and number stand in two rows.
const ROWS: &[Row] = &[
    // -- space
    Row {
        // Any client can name such a size: it is no alarm yet.
        ops: &[Op::Allocate],
        errnos: &[Errno::NOSPC],
        hears: R::NoRoom,
        heals: ByItself,
        severity: Info,
        write: Harmless,
        cause: "the file is larger than what is free now",
        remedy: "if such files are meant to fit: free some space; clients retry by themselves",
    },
    Row {
        ops: NOT_AHEAD,
        errnos: &[Errno::NOSPC],
        hears: R::DiskFull,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "no space, or no inode, is left",
        remedy: FREE_SPACE,
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::DQUOT],
        hears: R::QuotaExceeded,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "the disk quota of the server's user or group is used up",
        remedy: "raise the disk quota of the server's user (`quota`, `repquota`), or free some \
                 space; clients retry by themselves",
    },
    Row {
        // Any client can name such a size: no reason to wake anybody.
        ops: &[Op::Allocate, Op::Write],
        errnos: &[Errno::FBIG],
        hears: R::FileTooLarge,
        heals: Never,
        severity: Info,
        write: Harmless,
        cause: "the file is larger than the file system, its largest file, or `ulimit -f`",
        remedy: "if such files are meant to fit: a larger file system, or a higher LimitFSIZE= of \
                 the service (`ulimit -f`)",
    },
    Row {
        ops: &[Op::Create, Op::Record],
        errnos: &[Errno::FBIG],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: Harmless,
        cause: "the journal has become larger than `ulimit -f` allows",
        remedy: "raise LimitFSIZE= of the service (`ulimit -f`)",
    },
    Row {
        ops: &[Op::Reply],
        errnos: &[Errno::FBIG],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: Harmless,
        cause: "the reply of the application is larger than the file system or `ulimit -f` allows",
        remedy: "lower reply_bytes_max, or raise LimitFSIZE= of the service",
    },
    // -- what is short for the moment
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::MFILE],
        hears: R::Busy,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "the process has as many open files as it may",
        remedy: "too many open files: raise LimitNOFILE= of the service, or `ulimit -n`",
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::NFILE],
        hears: R::Busy,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "the whole system has as many open files as it may",
        remedy: "too many open files in the whole system: raise the sysctl fs.file-max",
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::NOMEM, Errno::AGAIN, Errno::NOBUFS],
        hears: R::Busy,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "the kernel has no memory for this",
        remedy: "give the server more memory (MemoryMax=), or lower the numbers in [limits]",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::TXTBSY],
        hears: R::Busy,
        heals: ByItself,
        severity: Warning,
        write: Harmless,
        cause: "the file that stands there is a program that runs",
        remedy: "stop the program that runs from the destination",
    },
    // -- rights
    Row {
        ops: WORK,
        errnos: &[Errno::ACCESS],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: Harmless,
        cause: "the server's user has no right to this in the work directory",
        remedy: "grant the server's user the right to write into work_dir",
    },
    Row {
        ops: WORK,
        errnos: &[Errno::PERM],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: Harmless,
        cause: "something in the work directory is immutable, append-only or sealed",
        remedy: "take the attribute off what stands in work_dir (`lsattr`, `chattr -i -a`)",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::ACCESS],
        hears: R::AccessDenied,
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "the server's user has no right to write into the folder of the destination",
        remedy: GRANT_DESTINATION,
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::PERM],
        hears: R::AccessDenied,
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "the folder or the file that stands there is sticky, append-only or immutable",
        remedy: "look at `ls -ld` and `lsattr -d` of the folder of the destination: in a sticky \
                 one only the owner's files give way, `chattr -i -a` takes the attributes off",
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::ROFS],
        hears: R::ReadOnly,
        heals: WithServer,
        severity: Warning,
        write: Harmless,
        cause: "the file system is read-only",
        remedy: REMOUNT,
    },
    Row {
        ops: ANYWHERE,
        errnos: &[
            Errno::NOKEY,
            Errno::KEYEXPIRED,
            Errno::KEYREVOKED,
            Errno::KEYREJECTED,
        ],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the folder is encrypted and locked, or the ticket for the mount has expired",
        remedy: "unlock the folder, or renew the server's Kerberos ticket",
    },
    // -- what is gone, or is something else
    Row {
        ops: &[
            Op::Create,
            Op::Read,
            Op::Allocate,
            Op::Write,
            Op::Record,
            Op::Sync,
            Op::Remove,
            Op::Truncate,
            Op::SyncDirectory,
        ],
        errnos: &[Errno::NOENT, Errno::NOTDIR],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the work directory, or something in it, is gone",
        remedy: "keep other programs (cleaning jobs, tmpfiles.d) out of work_dir, and restart the \
                 server if it does not find it again by itself",
    },
    Row {
        ops: &[Op::Open],
        errnos: &[Errno::NOENT, Errno::NOTDIR],
        hears: R::SessionNotFound,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the bytes of the session were removed from the work directory",
        remedy: KEEP_OUT,
    },
    Row {
        ops: &[Op::Reply],
        errnos: &[Errno::NOENT, Errno::NOTDIR],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the upload or its reply is not in the work directory any more",
        remedy: KEEP_OUT,
    },
    Row {
        ops: &[
            Op::Create,
            Op::Open,
            Op::Read,
            Op::Record,
            Op::Reply,
            Op::Remove,
        ],
        errnos: &[Errno::LOOP, Errno::ISDIR, Errno::EXIST],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "something that the server has not made stands in the work directory",
        remedy: KEEP_OUT,
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::NOENT, Errno::NOTDIR],
        hears: R::ParentMissing,
        heals: Never,
        severity: Info,
        write: Harmless,
        cause: "the folder of the destination does not exist",
        remedy: "make the folder, or set create_dirs = true",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::EXIST, Errno::NOTEMPTY],
        hears: R::TargetExists,
        heals: Never,
        severity: Silent,
        write: Harmless,
        cause: "the destination exists",
        remedy: "set allow_overwrite = true where files may be replaced",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::ISDIR],
        hears: R::TargetIsDirectory,
        heals: Never,
        severity: Silent,
        write: Harmless,
        cause: "the destination is a folder",
        remedy: "upload under another name",
    },
    // -- what stands in the way of the destination
    Row {
        ops: DESTINATION,
        errnos: &[Errno::XDEV],
        hears: R::Obstructed(Obstacle::OtherMount),
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "the destination is on another mount, or under another project quota, than the \
                work directory",
        remedy: "put work_dir on the file system (and in the quota project) of root; give a mount \
                 beneath the root a [[location]] of its own",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::LOOP],
        hears: R::Obstructed(Obstacle::LinkLoop),
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "the links on the way to the destination go in circles",
        remedy: "mend or remove the links",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::BUSY],
        hears: R::Obstructed(Obstacle::InUse),
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "something is mounted on the destination",
        remedy: "unmount it, or upload under another name",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::MLINK],
        hears: R::Obstructed(Obstacle::FolderFull),
        heals: Never,
        severity: Warning,
        write: Harmless,
        cause: "a folder on the way holds as many folders as its file system allows",
        remedy: "spread the uploads over more folders",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::NAMETOOLONG],
        hears: R::TargetInvalid(BadTarget::NameTooLong),
        heals: Never,
        severity: Info,
        write: Harmless,
        cause: "the name of the destination is longer than its file system allows",
        remedy: "use shorter names; encrypted file systems often allow 143 bytes only",
    },
    Row {
        ops: DESTINATION,
        errnos: &[Errno::INVAL, Errno::ILSEQ],
        hears: R::Obstructed(Obstacle::NameRefused),
        heals: Never,
        severity: Info,
        write: Harmless,
        cause: "the file system of the destination takes no such name",
        remedy: "use a Linux file system beneath root (ext4, XFS, btrfs), or another name",
    },
    // -- the device
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::IO, Errno::REMOTEIO],
        hears: R::DiskFailed,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the device failed",
        remedy: CHECK_DEVICE,
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::BADMSG, Errno::UCLEAN],
        hears: R::DiskFailed,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the file system is damaged",
        remedy: "look at `dmesg`, unmount the file system and check it (`fsck`, `xfs_repair`)",
    },
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::NXIO, Errno::NODEV, Errno::NOMEDIUM],
        hears: R::DiskFailed,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the device is gone",
        remedy: "look at `dmesg`, and bring the device back",
    },
    // -- the network
    Row {
        ops: ANYWHERE,
        errnos: &[Errno::STALE],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the network file system no longer knows the file (it was removed or replaced on \
                its server, or the export changed)",
        remedy: "look at the export on the file server, mount it anew and restart bitsd",
    },
    Row {
        ops: ANYWHERE,
        errnos: &[
            Errno::TIMEDOUT,
            Errno::HOSTDOWN,
            Errno::HOSTUNREACH,
            Errno::NETDOWN,
            Errno::NETUNREACH,
            Errno::CONNREFUSED,
            Errno::CONNRESET,
            Errno::CONNABORTED,
            Errno::NOTCONN,
            Errno::SHUTDOWN,
            Errno::PIPE,
        ],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the server of a network (or FUSE) file system cannot be reached",
        remedy: "bring the file server back, or mount its file system anew",
    },
    // -- what the file system cannot do
    Row {
        ops: WORK,
        errnos: &[
            Errno::INVAL,
            Errno::NOTSUP,
            Errno::NOSYS,
            Errno::XDEV,
            Errno::OVERFLOW,
        ],
        hears: R::DiskUnusable,
        heals: WithServer,
        severity: Warning,
        write: InDoubt,
        cause: "the file system of the work directory cannot do this",
        remedy: "put work_dir on a Linux file system (ext4, XFS, btrfs); if it is on one, please \
                 report this line",
    },
];

/// The last row: whatever the others do not know.
const UNKNOWN: Row = Row {
    ops: ANYWHERE,
    errnos: &[],
    hears: R::DiskUnusable,
    heals: WithServer,
    severity: Warning,
    write: InDoubt,
    cause: "the kernel refused, and the server does not know this error",
    remedy: "look up the error together with the operation; please report this line",
};

const FREE_SPACE: &str =
    "the disk is full: free some space (`df -h`, `df -i`); clients retry by themselves";
const REMOUNT: &str = "the file system is read-only: check it, and remount it writable";
const CHECK_DEVICE: &str = "the device reports errors: look at `dmesg` and the health of the disk";
const GRANT_DESTINATION: &str = "grant the server's user the right to write into the folder of the \
     destination, and to read it: it is synced";
const KEEP_OUT: &str = "keep other programs out of the work directory";
const SEE_BEFORE: &str = "see what the line before says of the disk";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::reply::Reaction;

    fn of(op: DiskOp, errno: Errno) -> Diagnosis {
        diagnose(op, &errno.into())
    }

    /// One line for each row of the table: where, what, and what follows.
    #[test]
    fn every_row_says_what_it_should() {
        for (op, errno, hears, heals, severity, word) in [
            (
                Op::Allocate,
                Errno::NOSPC,
                R::NoRoom,
                ByItself,
                Info,
                "free some space",
            ),
            (
                Op::Write,
                Errno::NOSPC,
                R::DiskFull,
                ByItself,
                Warning,
                "free some space",
            ),
            (
                Op::Record,
                Errno::DQUOT,
                R::QuotaExceeded,
                ByItself,
                Warning,
                "quota",
            ),
            (
                Op::Allocate,
                Errno::FBIG,
                R::FileTooLarge,
                Never,
                Info,
                "LimitFSIZE=",
            ),
            (
                Op::Write,
                Errno::FBIG,
                R::FileTooLarge,
                Never,
                Info,
                "LimitFSIZE=",
            ),
            (
                Op::Record,
                Errno::FBIG,
                R::DiskUnusable,
                WithServer,
                Warning,
                "LimitFSIZE=",
            ),
            (
                Op::Reply,
                Errno::FBIG,
                R::DiskUnusable,
                WithServer,
                Warning,
                "reply_bytes_max",
            ),
            (
                Op::Open,
                Errno::MFILE,
                R::Busy,
                ByItself,
                Warning,
                "LimitNOFILE=",
            ),
            (
                Op::Publish,
                Errno::NFILE,
                R::Busy,
                ByItself,
                Warning,
                "fs.file-max",
            ),
            (
                Op::Write,
                Errno::NOMEM,
                R::Busy,
                ByItself,
                Warning,
                "memory",
            ),
            (
                Op::Publish,
                Errno::TXTBSY,
                R::Busy,
                ByItself,
                Warning,
                "program",
            ),
            (
                Op::Create,
                Errno::ACCESS,
                R::DiskUnusable,
                WithServer,
                Warning,
                "work_dir",
            ),
            (
                Op::Write,
                Errno::PERM,
                R::DiskUnusable,
                WithServer,
                Warning,
                "chattr",
            ),
            (
                Op::LookUp,
                Errno::ACCESS,
                R::AccessDenied,
                Never,
                Warning,
                "destination",
            ),
            (
                Op::Publish,
                Errno::PERM,
                R::AccessDenied,
                Never,
                Warning,
                "sticky",
            ),
            (
                Op::Write,
                Errno::ROFS,
                R::ReadOnly,
                WithServer,
                Warning,
                "remount",
            ),
            (
                Op::Create,
                Errno::NOKEY,
                R::DiskUnusable,
                WithServer,
                Warning,
                "unlock",
            ),
            (
                Op::Create,
                Errno::NOENT,
                R::DiskUnusable,
                WithServer,
                Warning,
                "cleaning jobs",
            ),
            (
                Op::Open,
                Errno::NOENT,
                R::SessionNotFound,
                WithServer,
                Warning,
                "other programs",
            ),
            (
                Op::Reply,
                Errno::NOENT,
                R::DiskUnusable,
                WithServer,
                Warning,
                "other programs",
            ),
            (
                Op::Create,
                Errno::EXIST,
                R::DiskUnusable,
                WithServer,
                Warning,
                "other programs",
            ),
            (
                Op::Publish,
                Errno::NOENT,
                R::ParentMissing,
                Never,
                Info,
                "create_dirs",
            ),
            (
                Op::LookUp,
                Errno::NOTDIR,
                R::ParentMissing,
                Never,
                Info,
                "create_dirs",
            ),
            (
                Op::Publish,
                Errno::EXIST,
                R::TargetExists,
                Never,
                Silent,
                "allow_overwrite",
            ),
            (
                Op::Publish,
                Errno::ISDIR,
                R::TargetIsDirectory,
                Never,
                Silent,
                "another name",
            ),
            (
                Op::Publish,
                Errno::XDEV,
                R::Obstructed(Obstacle::OtherMount),
                Never,
                Warning,
                "[[location]]",
            ),
            (
                Op::LookUp,
                Errno::LOOP,
                R::Obstructed(Obstacle::LinkLoop),
                Never,
                Warning,
                "links",
            ),
            (
                Op::Publish,
                Errno::BUSY,
                R::Obstructed(Obstacle::InUse),
                Never,
                Warning,
                "unmount",
            ),
            (
                Op::CreateDirectories,
                Errno::MLINK,
                R::Obstructed(Obstacle::FolderFull),
                Never,
                Warning,
                "folders",
            ),
            (
                Op::LookUp,
                Errno::NAMETOOLONG,
                R::TargetInvalid(BadTarget::NameTooLong),
                Never,
                Info,
                "shorter",
            ),
            (
                Op::Publish,
                Errno::INVAL,
                R::Obstructed(Obstacle::NameRefused),
                Never,
                Info,
                "name",
            ),
            (
                Op::Read,
                Errno::IO,
                R::DiskFailed,
                WithServer,
                Warning,
                "device reports errors",
            ),
            (
                Op::Read,
                Errno::UCLEAN,
                R::DiskFailed,
                WithServer,
                Warning,
                "fsck",
            ),
            (
                Op::Create,
                Errno::NODEV,
                R::DiskFailed,
                WithServer,
                Warning,
                "device back",
            ),
            (
                Op::Create,
                Errno::STALE,
                R::DiskUnusable,
                WithServer,
                Warning,
                "export",
            ),
            (
                Op::LookUp,
                Errno::TIMEDOUT,
                R::DiskUnusable,
                WithServer,
                Warning,
                "file server",
            ),
            (
                Op::Allocate,
                Errno::INVAL,
                R::DiskUnusable,
                WithServer,
                Warning,
                "work_dir",
            ),
            (
                Op::Publish,
                Errno::DOM,
                R::DiskUnusable,
                WithServer,
                Warning,
                "report",
            ),
        ] {
            let told = of(op, errno);
            let what = format!("{op:?} {errno:?}");
            assert_eq!(
                (told.hears, told.heals, told.severity),
                (hears, heals, severity),
                "{what}"
            );
            assert!(told.remedy.contains(word), "{what}: {}", told.remedy);
        }
    }

    #[test]
    fn no_operation_and_error_stand_in_two_rows() {
        for op in ANYWHERE {
            for errno in every_errno() {
                let rows = ROWS.iter();
                let found = rows.filter(|row| row.ops.contains(op) && row.errnos.contains(&errno));
                assert!(found.count() <= 1, "{op:?} {errno:?}");
            }
        }
    }

    #[test]
    fn what_can_heal_looks_transient_and_nothing_else_does() {
        for op in ANYWHERE {
            for errno in every_errno() {
                let told = of(*op, errno);
                let waits = matches!(
                    told.hears.reaction(),
                    Reaction::ComesBack | Reaction::StartsAgain
                );
                assert_eq!(waits, told.heals != Never, "{op:?} {errno:?}: {told:?}");
            }
        }
    }

    #[test]
    fn only_the_device_is_blamed_for_what_the_device_did() {
        let of_device = [Errno::IO, Errno::REMOTEIO];
        for op in ANYWHERE {
            for errno in every_errno() {
                let told = of(*op, errno);
                let blames = told.remedy.contains("device reports errors");
                assert_eq!(blames, of_device.contains(&errno), "{op:?} {errno:?}");
            }
        }
        assert_eq!(remedy(&R::DiskUnusable), Some(SEE_BEFORE));
    }

    #[test]
    fn a_session_is_poisoned_only_by_what_leaves_its_bytes_in_doubt() {
        for errno in every_errno() {
            assert!(of(Op::Sync, errno).poisons, "{errno:?}");
            assert!(of(Op::SyncDirectory, errno).poisons, "{errno:?}");
            assert!(!of(Op::Record, errno).poisons, "{errno:?}");
        }
        for errno in [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::FBIG,
            Errno::ROFS,
            Errno::PERM,
            Errno::NOMEM,
            Errno::MFILE,
        ] {
            assert!(!of(Op::Write, errno).poisons, "{errno:?}");
        }
        for errno in [Errno::IO, Errno::STALE, Errno::TIMEDOUT, Errno::DOM] {
            assert!(of(Op::Write, errno).poisons, "{errno:?}");
        }
        assert!(of(Op::Open, Errno::NOENT).poisons);
        assert!(!of(Op::Open, Errno::MFILE).poisons);
        let nothing_written = io::Error::from(io::ErrorKind::WriteZero);
        assert!(diagnose(Op::Write, &nothing_written).poisons);
    }

    #[test]
    fn what_is_not_in_its_place_may_be_put_back() {
        for op in [Op::Create, Op::LookUp, Op::Publish] {
            let error = io::Error::from(Displaced("/srv/up was renamed".to_owned()));
            assert_eq!(error.to_string(), "/srv/up was renamed");
            let found = diagnose(op, &error);
            assert_eq!(found.hears, Refusal::Unavailable);
            assert_eq!((found.poisons, found.heals), (false, WithServer));
        }
    }

    #[test]
    fn obstacles_come_through_whatever_the_operation() {
        for obstacle in Obstacle::ALL {
            for op in DESTINATION {
                let told = diagnose(*op, &Blocked::by(obstacle, "a").into());
                assert_eq!(told.hears, R::Obstructed(obstacle));
                assert_eq!(told.hears.reaction(), Reaction::GivesUp);
                assert!(!told.remedy.contains("right to write"), "{obstacle:?}");
            }
        }
    }

    #[test]
    fn errors_without_a_number_are_known_by_their_kind() {
        for (kind, errno) in [
            (io::ErrorKind::NotFound, Errno::NOENT),
            (io::ErrorKind::AlreadyExists, Errno::EXIST),
            (io::ErrorKind::FileTooLarge, Errno::FBIG),
        ] {
            assert_eq!(diagnose(Op::Publish, &kind.into()), of(Op::Publish, errno));
        }
    }

    /// All that Linux has.
    fn every_errno() -> impl Iterator<Item = Errno> {
        (1..=133).map(Errno::from_raw_os_error)
    }
}
