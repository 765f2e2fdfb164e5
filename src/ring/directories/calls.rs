//! System calls that every upload needs and no start makes by itself. A filter that does not know
//! one (seccomp, an old container runtime) says that it is not permitted, as a disk might, and the
//! clients would hear that of a folder that nothing is wrong with. So each is made once, in a way
//! that changes nothing.

use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

/// A call, and what comes of it.
type Tried = (&'static str, Result<(), Errno>);

/// The first one that is kept from us; `opened` is a folder that may be read.
pub fn missing(opened: &OwnedFd) -> Option<(&'static str, Errno)> {
    let tried: [Tried; 4] = [
        (
            "statx",
            rustix::fs::statx(opened, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE).map(drop),
        ),
        (
            "faccessat2",
            // Whether it is there, which no file system and no right forbids to ask.
            rustix::fs::accessat(CWD, "/", Access::EXISTS, AtFlags::EACCESS),
        ),
        // What can be neither written nor connected says something else.
        ("pwrite64", rustix::io::pwrite(opened, &[], 0).map(drop)),
        ("getpeername", rustix::net::getpeername(opened).map(drop)),
    ];
    tried.into_iter().find_map(|(name, result)| match result {
        Err(error @ (Errno::PERM | Errno::NOSYS | Errno::ACCESS)) => Some((name, error)),
        _ => None,
    })
}
