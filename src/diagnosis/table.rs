//! The table: operation and error number on the left, what follows from them on the right.

use rustix::io::Errno;

use super::Heals::{ByItself, Never, WithServer};
use super::Row;
use super::Severity::{Info, Silent, Warning};
use super::Write::{Harmless, InDoubt};

use crate::bits::reply::{Obstacle, Refusal as R};
use crate::event::DiskOp as Op;
use crate::http::path::BadTarget;

/// Files of ours.
pub const WORK: &[Op] = &[
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
pub const DESTINATION: &[Op] = &[Op::LookUp, Op::CreateDirectories, Op::Publish];
/// Everything but what looks ahead.
pub const NOT_AHEAD: &[Op] = &[
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
pub const ANYWHERE: &[Op] = &[
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
pub const ROWS: &[Row] = &[
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
pub const UNKNOWN: Row = Row {
    ops: ANYWHERE,
    errnos: &[],
    hears: R::DiskUnusable,
    heals: WithServer,
    severity: Warning,
    write: InDoubt,
    cause: "the kernel refused, and the server does not know this error",
    remedy: "look up the error together with the operation; please report this line",
};

pub const FREE_SPACE: &str =
    "the disk is full: free some space (`df -h`, `df -i`); clients retry by themselves";
pub const REMOUNT: &str = "the file system is read-only: check it, and remount it writable";
pub const CHECK_DEVICE: &str =
    "the device reports errors: look at `dmesg` and the health of the disk";
pub const GRANT_DESTINATION: &str = "grant the server's user the right to write into the folder of the \
     destination, and to read it: it is synced";
pub const KEEP_OUT: &str = "keep other programs out of the work directory";
pub const SEE_BEFORE: &str = "see what the line before says of the disk";
