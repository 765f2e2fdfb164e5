//! Attributes (chattr(1)) that a folder gives to its files, and by what btrfs compresses them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{IFlags, XattrFlags};
use rustix::io::Errno;

/// `FS_NOCOMP_FL` and `FS_DAX_FL`, which have no name there.
const NOT_COMPRESSED: IFlags = IFlags::from_bits_retain(0x400);
const DIRECT_ACCESS: IFlags = IFlags::from_bits_retain(0x0200_0000);

/// Those that folders hand on to files, on one file system or another. `+j` of ext4 is not among
/// them: to take or to give it waits for the whole journal of the file system.
const INHERITED: IFlags = IFlags::COMPRESSED
    .union(NOT_COMPRESSED)
    .union(IFlags::NOCOW)
    .union(IFlags::NODUMP)
    .union(IFlags::NOATIME)
    .union(IFlags::SYNC)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::UNRM)
    .union(IFlags::NOTAIL)
    .union(DIRECT_ACCESS);

/// The property of btrfs. The flag says that a file is compressed, and this by what.
const COMPRESSION: &str = "btrfs.compression";
/// Longer than all its values.
const COMPRESSION_BYTES_MAX: usize = 32;

/// What a folder gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Of [`INHERITED`].
    flags: IFlags,
    /// What [`COMPRESSION`] says of a folder that has the flag.
    compression: Option<Vec<u8>>,
}

impl Attributes {
    /// Of a folder with these flags. The property is asked for only where there is the flag.
    pub fn of(folder: &OwnedFd, flags: IFlags) -> Self {
        let is_compressed = flags.contains(IFlags::COMPRESSED);
        Self {
            flags: flags.intersection(INHERITED),
            compression: is_compressed.then(|| compression(folder)).flatten(),
        }
    }

    /// Gives them to a file, and takes off what it has beside them.
    ///
    /// # Errors
    /// What the kernel says to the first one that cannot be given, as some cannot to a file with
    /// bytes. The others are.
    pub fn give(&self, file: &OwnedFd) -> io::Result<()> {
        let now = rustix::fs::ioctl_getflags(file)?;
        let wanted = now.difference(INHERITED).union(self.flags);
        let mut given = Ok(());
        if wanted != now {
            given = rustix::fs::ioctl_setflags(file, wanted);
        }
        if given.is_err() {
            for flag in now.symmetric_difference(wanted).iter() {
                let _said_already = rustix::fs::ioctl_getflags(file)
                    .and_then(|now| rustix::fs::ioctl_setflags(file, now ^ flag));
            }
        }
        // Some are passed over without a word.
        if given.is_ok() && wanted != now && !rustix::fs::ioctl_getflags(file)?.contains(self.flags)
        {
            given = Err(Errno::OPNOTSUPP);
        }
        // The flag came with the algorithm of the mount.
        if let Some(wanted) = &self.compression
            && compression(file).as_ref() != Some(wanted)
        {
            let set = rustix::fs::fsetxattr(file, COMPRESSION, wanted, XattrFlags::empty());
            given = given.and(set);
        }
        given.map_err(io::Error::from)
    }
}

/// What a file or folder is compressed by; `None` where nothing is said.
fn compression(opened: &OwnedFd) -> Option<Vec<u8>> {
    let mut value = vec![0; COMPRESSION_BYTES_MAX];
    let read: Result<usize, Errno> = rustix::fs::fgetxattr(opened, COMPRESSION, &mut value);
    value.truncate(read.ok()?);
    Some(value)
}
