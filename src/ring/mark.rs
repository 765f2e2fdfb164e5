//! The SHA-256 of a published file, kept with it for whoever asks by HEAD later: in the extended
//! attribute `user.bitsd.sha256`.
//!
//! It says of which moment it speaks: the time of the last write. A file that somebody has written
//! to since has another time, and then nothing is said. Where the file system has no such
//! attributes, or no room for one, nothing is kept; the log has it all the same.
//!
//! 40 bytes, so that it fits into the inode of ext4 and XFS: the digest, and the time in
//! nanoseconds since 1970, big endian.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, Stat, XattrFlags};

const NAME: &str = "user.bitsd.sha256";
const DIGEST_BYTES: usize = 32;
const BYTES: usize = DIGEST_BYTES + 8;

/// Keeps it with a file of this folder that nobody writes to any more.
pub fn put(folder: &OwnedFd, name: &str, stat: &Stat, sha256: &[u8; DIGEST_BYTES]) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (Ok(file), Some(time)) = (
        rustix::fs::openat(folder, name, flags, Mode::empty()),
        written_at(stat),
    ) else {
        return;
    };
    let mut value = [0; BYTES];
    value[..DIGEST_BYTES].copy_from_slice(sha256);
    value[DIGEST_BYTES..].copy_from_slice(&time);
    let _ = rustix::fs::fsetxattr(file, NAME, &value, XattrFlags::empty());
}

/// What is kept with an open file, unless it was written to since.
pub fn get(file: &OwnedFd, stat: &Stat) -> Option<[u8; DIGEST_BYTES]> {
    // One more, to see that there is not more.
    let mut value = [0; BYTES + 1];
    let length = rustix::fs::fgetxattr(file, NAME, &mut value[..]).ok()?;
    let (sha256, time) = value.get(..length)?.split_first_chunk()?;
    (time == written_at(stat)?).then_some(*sha256)
}

fn written_at(stat: &Stat) -> Option<[u8; 8]> {
    let nanos = i64::try_from(stat.st_mtime_nsec).ok()?;
    let time = (stat.st_mtime.checked_mul(1_000_000_000))?.checked_add(nanos)?;
    Some(time.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipping::skip;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn it_speaks_of_the_bytes_that_were_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        let opened = OwnedFd::from(fs::File::open(folder.path()).unwrap());
        let open = || OwnedFd::from(fs::File::open(&path).unwrap());
        let stat = || rustix::fs::fstat(open()).unwrap();
        assert_eq!(get(&open(), &stat()), None);
        put(&opened, "a", &stat(), &[7; 32]);
        if rustix::fs::fgetxattr(open(), NAME, &mut [0; 64][..]).is_err() {
            return skip("the file system has no attributes of users");
        }
        assert_eq!(get(&open(), &stat()), Some([7; 32]));
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"d").unwrap();
        let later = fs::metadata(&path).unwrap().modified().unwrap();
        file.set_modified(later + std::time::Duration::from_nanos(4_000_000))
            .unwrap();
        assert_eq!(get(&open(), &stat()), None);
    }
}
