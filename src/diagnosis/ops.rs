//! Which operations the rows of the table speak of.

use crate::event::DiskOp as Op;

/// Files of ours. A digest file is one until it gets its name; where that is taken, it has none.
pub const WORK: &[Op] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Allocate,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::SyncRecords,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::DigestFile,
];
/// What finds the work directory gone by a name that is not there.
pub const WORK_MISSED: &[Op] = &[
    Op::Create,
    Op::Read,
    Op::Allocate,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::SyncRecords,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::DigestFile,
];
/// What is opened or made there by its name.
pub const WORK_BY_NAME: &[Op] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Record,
    Op::Reply,
    Op::Remove,
    Op::DigestFile,
];
/// What the client has named.
pub const DESTINATION: &[Op] = &[Op::LookUp, Op::Publish];
/// What is found by a name that a client has chosen, or by that with something behind it.
pub const NAMED: &[Op] = &[Op::LookUp, Op::Publish, Op::DigestFile];
/// All the others.
pub const BUT_FOR_NAMED: &[Op] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Allocate,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::SyncRecords,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::SyncDestination,
    Op::Ledger,
];
/// Everything but what looks ahead.
pub const NOT_AHEAD: &[Op] = &[
    Op::Create,
    Op::Open,
    Op::Read,
    Op::Write,
    Op::Record,
    Op::Sync,
    Op::SyncRecords,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::SyncDestination,
    Op::LookUp,
    Op::Publish,
    Op::Ledger,
    Op::DigestFile,
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
    Op::SyncRecords,
    Op::Reply,
    Op::Remove,
    Op::Truncate,
    Op::SyncDirectory,
    Op::SyncDestination,
    Op::LookUp,
    Op::Publish,
    Op::Ledger,
    Op::DigestFile,
];
