//! Which file systems commit what is done to them in the order in which it was done.
//!
//! ext4 with a journal and XFS write all changes of names, lengths and places of bytes to one log.
//! A sync that has something to write into it makes durable what stands there before: the log is
//! cut off somewhere by a power cut, and never in the middle of its past. So one sync of the
//! session journal, to which a record was appended, serves for every name that was given before and
//! for every file whose bytes are on the device already ([`super::write_out`]): the parts of
//! others, the folders of their destinations. The device is told to make its own cache durable
//! before the log is.
//!
//! What the log of ext4 needs for that: the record makes its file longer, and the sync of a file
//! that grew waits for the transaction that says so (`ext4_sync_file`, `i_datasync_tid`). XFS
//! forces its log up to the last change of the file (`xfs_fsync_flush_log`). btrfs, F2FS and others
//! keep a log for each file; there every file and every folder is synced by itself.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{major, minor};

/// `statfs` type of ext2, ext3 and ext4.
const EXT: i64 = 0xef53;
/// `statfs` type of XFS.
const XFS: i64 = 0x5846_5342;

/// The log of a file system that commits in order: its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitLog(u64);

/// The file system of a folder, if it commits in order and that can be told.
pub fn of(folder: &OwnedFd) -> Option<CommitLog> {
    let kind = rustix::fs::fstatfs(folder).ok()?.f_type;
    let device = rustix::fs::fstat(folder).ok()?.st_dev;
    let is_in_order = match kind {
        XFS => true,
        EXT => has_journal(device),
        _ => false,
    };
    is_in_order.then_some(CommitLog(device))
}

/// Whether an ext4 has a journal: the kernel tells the process that writes it, if there is one
/// (sysfs-fs-ext4, `journal_task`).
fn has_journal(device: u64) -> bool {
    let block = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let Ok(block) = fs::read_link(block) else {
        return false;
    };
    let Some(name) = block.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let task = fs::read_to_string(format!("/sys/fs/ext4/{name}/journal_task"));
    task.is_ok_and(|task| task.trim().parse::<u32>().is_ok())
}
