//! What it costs to free a big file, and how it is done.
//!
//! To take a name away is quick as long as somebody has the file open: its space is freed when
//! that is closed, which the [`super::lane`] does. Freeing is not quick everywhere. In
//! milliseconds, for 1 GiB that was reserved and written past the page cache, on a virtual disk:
//!
//! | File system | `unlink` | longest call beside it, in one go | by 32 MiB, each synced |
//! | --- | --- | --- | --- |
//! | ext4 without a journal, `discard` | 135 to 150 | 0.5 | 0.2 |
//! | ext4 with a journal | 0.1 | 2.7 | 0.2 |
//! | ext4 with a journal, `discard` | 0.1 | 33 to 68 | 4 to 10 |
//! | XFS, with and without `discard` | 0.1 | 2 | 2 |
//!
//! With a journal it is not the call that waits but the disk: it is told of all that became free
//! when the transaction ends, at once, and everybody's calls wait behind that. So a big file is
//! freed in pieces, each in a transaction of its own, with pauses for others between them. While
//! that goes on, the disk does not count as quick.

use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::fs::Stat;

/// Files that hold less are freed at once.
pub const BIG_BYTES_MIN: u64 = 16 << 20;
/// What is freed in one transaction.
const PIECE_BYTES: u64 = 32 << 20;
/// Between two of them, so that others' calls come first.
const PIECE_PAUSE: Duration = Duration::from_millis(10);

/// Whether to close a file, if nobody else has it open, frees so much that it is felt.
pub fn is_big_without_name(file: &OwnedFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| stat.st_nlink == 0 && occupied(&stat) >= BIG_BYTES_MIN)
}

/// Frees a file without a name from its end on, unless somebody else can still see its bytes.
/// Returns whether that is done; whatever is left goes with the last who closes it.
pub fn free_in_pieces(file: &OwnedFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else {
        return false;
    };
    if stat.st_nlink > 0 || !has_nobody_else(file) {
        return false;
    }
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    let mut end = length.max(occupied(&stat));
    // What is reserved beyond its end would go with the first piece.
    if end > length && rustix::fs::ftruncate(file, end).is_err() {
        end = length;
    }
    while end > 0 {
        end = end.saturating_sub(PIECE_BYTES);
        if rustix::fs::ftruncate(file, end).is_err() || rustix::fs::fsync(file).is_err() {
            return false;
        }
        thread::sleep(PIECE_PAUSE);
    }
    true
}

/// Whether nobody else has the file open: an application that was told of it may read it still. The
/// kernel gives a write lease to nobody else (fcntl(2)); where it gives none, nobody knows.
fn has_nobody_else(file: &OwnedFd) -> bool {
    // SAFETY: `F_SETLEASE` takes a number and no pointer; the descriptor is open.
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    leased == 0
}

/// Unit of `st_blocks`, whatever the file system's own.
const STAT_BLOCK_BYTES: u64 = 512;

/// The space that a file occupies, in bytes.
pub fn occupied(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    fn big_file(place: &tempfile::TempDir) -> fs::File {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(place.path().join("part"))
            .unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file.as_fd(), flags, 0, PIECE_BYTES + (1 << 20)).unwrap();
        file
    }

    #[test]
    fn a_file_without_a_name_is_freed_with_what_was_reserved_for_it() {
        let place = tempfile::tempdir().unwrap();
        let file = big_file(&place);
        let held = file.metadata().unwrap().blocks();
        let ours = OwnedFd::from(file);
        assert!(!free_in_pieces(&ours));
        assert_eq!(
            fs::File::from(ours.try_clone().unwrap())
                .metadata()
                .unwrap()
                .blocks(),
            held,
            "it has a name"
        );
        fs::remove_file(place.path().join("part")).unwrap();
        assert!(free_in_pieces(&ours));
        let after = fs::File::from(ours).metadata().unwrap();
        assert_eq!((after.len(), after.blocks()), (0, 0));
    }

    #[test]
    fn bytes_that_somebody_else_reads_are_left_to_them() {
        let place = tempfile::tempdir().unwrap();
        let ours = OwnedFd::from(big_file(&place));
        let reader = fs::File::open(place.path().join("part")).unwrap();
        fs::remove_file(place.path().join("part")).unwrap();
        assert!(!free_in_pieces(&ours));
        let mut bytes = [0; 8192];
        reader.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 8192]);
        // The same for a second name.
        let other = tempfile::tempdir_in(place.path()).unwrap();
        let ours = OwnedFd::from(big_file(&place));
        let (part, copy) = (place.path().join("part"), other.path().join("copy"));
        fs::hard_link(&part, &copy).unwrap();
        fs::remove_file(&part).unwrap();
        assert!(!free_in_pieces(&ours));
        assert_eq!(fs::read(&copy).unwrap(), [7; 8192]);
    }
}
