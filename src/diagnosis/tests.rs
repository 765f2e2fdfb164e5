//! Every row of the table, and what must hold for all of them.

use super::ops::{ANYWHERE, DESTINATION};
use super::table::*;
use super::*;
use crate::bits::reply::{Reaction, Refusal as R};
use crate::event::DiskOp as Op;
use crate::http::path::BadTarget;
use Heals::{ByItself, Never};
use Severity::{Info, Silent};

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
            Silent,
            "LimitFSIZE=",
        ),
        (
            Op::Write,
            Errno::FBIG,
            R::FileTooLarge,
            Never,
            Silent,
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
            Op::Ledger,
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
            R::Busy(Scarce::Files),
            ByItself,
            Warning,
            "LimitNOFILE=",
        ),
        (
            Op::Publish,
            Errno::NFILE,
            R::Busy(Scarce::SystemFiles),
            ByItself,
            Warning,
            "fs.file-max",
        ),
        (
            Op::Write,
            Errno::NOMEM,
            R::Busy(Scarce::Memory),
            ByItself,
            Warning,
            "memory",
        ),
        (
            Op::Record,
            Errno::AGAIN,
            R::Busy(Scarce::Memory),
            ByItself,
            Warning,
            "memory",
        ),
        (
            Op::LookUp,
            Errno::AGAIN,
            R::Busy(Scarce::File),
            ByItself,
            Warning,
            "lease",
        ),
        (
            Op::DigestFile,
            Errno::PERM,
            R::DiskUnusable,
            WithServer,
            Warning,
            "chattr",
        ),
        (
            Op::Publish,
            Errno::TXTBSY,
            R::Busy(Scarce::File),
            ByItself,
            Warning,
            "program",
        ),
        (
            Op::LookUp,
            Errno::INTR,
            R::Busy(Scarce::FileSystem),
            ByItself,
            Warning,
            "FUSE",
        ),
        (
            Op::Ledger,
            Errno::PERM,
            R::DiskUnusable,
            WithServer,
            Warning,
            "chattr",
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
            R::Obstructed(Obstacle::Kept),
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
            R::Obstructed(Obstacle::NoFolder),
            Never,
            Warning,
            "move the file away",
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
            Op::Publish,
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

/// Two lines tell of what the disk refused: of the error, and of the packet.
#[test]
fn the_line_of_a_packet_never_says_otherwise_than_that_of_the_disk() {
    for op in ANYWHERE {
        for errno in every_errno() {
            let told = of(*op, errno);
            let of_packet = remedy(&told.hears);
            let is_same = of_packet.is_none_or(|said| said == told.remedy || said == SEE_BEFORE);
            // A lease, a program that runs: the line before says who has the file.
            let sees_before = told.hears == R::Busy(Scarce::File);
            assert!(
                is_same || sees_before,
                "{op:?} {errno:?}: {of_packet:?}, {told:?}"
            );
        }
    }
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
        let accept = remedy_of_accept(&errno.into());
        assert_eq!(accept, of(Op::Open, errno).remedy, "{errno:?}");
    }
    assert_eq!(
        remedy_of_accept(&Errno::CONNABORTED.into()),
        remedies::LOOK_UP
    );
    let moved = of(Op::Publish, Errno::XDEV).remedy;
    assert!(
        moved.contains("bind mount") && !moved.contains("put work_dir"),
        "{moved}"
    );
}

#[test]
fn a_session_is_poisoned_only_by_what_leaves_its_bytes_in_doubt() {
    for errno in every_errno() {
        let was_begun = !matches!(errno, Errno::MFILE | Errno::NFILE);
        assert_eq!(of(Op::Sync, errno).poisons, was_begun, "{errno:?}");
        assert_eq!(of(Op::SyncDirectory, errno).poisons, was_begun, "{errno:?}");
        assert!(!of(Op::Record, errno).poisons, "{errno:?}");
        assert!(!of(Op::SyncRecords, errno).poisons, "{errno:?}");
        assert!(!of(Op::SyncDestination, errno).poisons, "{errno:?}");
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
fn who_would_send_a_file_to_a_disk_that_loses_it_waits() {
    for errno in every_errno() {
        let hears = while_uploads_are_lost(errno.raw_os_error());
        assert_eq!(hears.reaction(), Reaction::ComesBack, "{errno:?}");
    }
    let full = while_uploads_are_lost(Errno::NOSPC.raw_os_error());
    assert_eq!(full, Refusal::DiskFull);
}

#[test]
fn what_is_not_in_its_place_may_be_put_back() {
    for op in [Op::Create, Op::LookUp, Op::Publish] {
        let (why, remedy) = ("/srv/up was renamed".to_owned(), "give it its name back");
        let error = io::Error::from(Displaced { why, remedy });
        assert_eq!(error.to_string(), "/srv/up was renamed");
        let found = diagnose(op, &error);
        assert_eq!(found.hears, Refusal::Displaced);
        assert_eq!(found.remedy, remedy);
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

#[test]
fn a_part_that_is_no_file_is_gone() {
    let no_file = io::Error::new(io::ErrorKind::InvalidInput, "x is not a regular file");
    let found = diagnose(Op::Open, &no_file);
    assert_eq!((found.hears, found.poisons), (R::SessionNotFound, true));
    assert!(found.remedy.contains("keep other programs out"));
}

#[test]
fn what_kept_a_sync_from_beginning_is_no_failed_sync() {
    let of = |errno: Errno| {
        let error = io::Error::other(SyncNotBegun(errno.into()));
        diagnose(Op::SyncDirectory, &error)
    };
    for (errno, hears) in [
        (Errno::ACCESS, R::DiskUnusable),
        (Errno::PERM, R::DiskUnusable),
        (Errno::NOSPC, R::DiskFull),
        (Errno::DQUOT, R::QuotaExceeded),
        (Errno::AGAIN, R::Busy(Scarce::Memory)),
        (Errno::MFILE, R::Busy(Scarce::Files)),
    ] {
        let found = of(errno);
        assert_eq!((found.hears, found.poisons), (hears, false), "{errno:?}");
    }
    for errno in [Errno::IO, Errno::UCLEAN, Errno::NODEV] {
        assert!(of(errno).poisons, "{errno:?}");
        assert!(diagnose(Op::SyncDirectory, &errno.into()).poisons);
    }
}

/// Whoever reads the line of a refusal is told of what ran out, and of nothing else.
#[test]
fn what_is_scarce_has_the_remedy_of_its_own() {
    let of = |scarce| super::remedy(&R::Busy(scarce)).unwrap();
    let all: std::collections::BTreeSet<_> = Scarce::ALL.map(of).into_iter().collect();
    assert_eq!(all.len(), Scarce::ALL.len());
    for (errno, word) in [
        (Errno::MFILE, "LimitNOFILE="),
        (Errno::NFILE, "fs.file-max"),
        (Errno::NOMEM, "MemoryMax="),
        (Errno::CANCELED, "TasksMax="),
    ] {
        let found = diagnose(Op::Create, &errno.into());
        let remedy = super::remedy(&found.hears).unwrap();
        assert!(remedy.contains(word), "{errno:?}: {remedy}");
        assert_eq!(remedy, found.remedy);
    }
    for (scarce, word) in [
        (Scarce::Sessions, "sessions_per_shard_max"),
        (Scarce::Records, "journal_bytes_max"),
        (Scarce::Letters, "mailbox_max"),
        (Scarce::Notifications, "notifications_in_flight_max"),
    ] {
        let named = Scarce::ALL
            .into_iter()
            .filter(|other| of(*other).contains(word));
        assert_eq!(named.collect::<Vec<_>>(), [scarce], "{word}");
    }
}

/// Who was promised a file comes no more: nobody is told that he does.
#[test]
fn a_promised_file_that_was_changed_waits_for_its_bytes() {
    let changed = || io::Error::other(super::PartChanged);
    let of_client = diagnose(Op::Read, &changed());
    assert!(of_client.cause.contains("its client sends it once more"));
    let promised = diagnose(Op::Read, &super::of_promised(changed()));
    assert_eq!((promised.poisons, promised.heals), (false, WithServer));
    assert!(!promised.cause.contains("once more"), "{}", promised.cause);
    assert!(promised.cause.contains("waits"), "{}", promised.cause);
    assert!(promised.remedy.contains("bytes"), "{}", promised.remedy);
    let other = super::of_promised(Errno::IO.into());
    assert_eq!(diagnose(Op::Read, &other), of(Op::Read, Errno::IO));
}
