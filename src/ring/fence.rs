//! Why a file cannot be moved from one folder to another one of the same mount, other than by the
//! rights there.
//!
//! A rename fails with `EXDEV` not only between two mounts (which [`super::walk`] sees on its way),
//! but also where the folder asks something of its files that ours have not:
//!
//! * It is encrypted (fscrypt; ext4, f2fs, ubifs), and they are not, or by another policy: a file
//!   cannot be moved into an encrypted folder, only be made there (the kernel's
//!   Documentation/filesystems/fscrypt.rst, "Encryption policy enforcement").
//! * It counts its files for a project (XFS, ext4, f2fs). We give them its id before they are moved
//!   ([`super::inherit`]). But outside of the first user namespace, as in a rootless container, the
//!   kernel lets nobody change the id of a file.
//!
//! A folder gives both to the folders that are made in it. So the last folder that stands on the
//! way tells it before any byte is sent. Usually that costs nothing: the look at the folder says
//! whether it is encrypted, and projects are asked for only where they cannot be given.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use rustix::fs::{Mode, OFlags, Statx, StatxAttributes};
use rustix::io::Errno;
use rustix::ioctl::{self, Updater, opcode};

use super::inherit;
use super::walk::{Folder, look_at};
use crate::bits::reply::Obstacle;

/// The first user namespace of the machine (`PROC_USER_INIT_INO` of the kernel).
const FIRST_NAMESPACE: &str = "user:[4026531837]";

/// Whether projects can be given here. Where nobody can tell, they are given and it is seen.
static GIVES_PROJECTS: LazyLock<bool> = LazyLock::new(|| {
    let namespace = std::fs::read_link("/proc/self/ns/user");
    namespace.map_or(true, |name| name.as_os_str() == FIRST_NAMESPACE)
});

/// What keeps files of one folder out of another one; `None` if nothing does.
///
/// # Errors
/// What the kernel says of the folder that they are in.
pub fn between(from: &OwnedFd, to: &Folder) -> io::Result<Option<Obstacle>> {
    if is_encrypted(&to.stat) && !have_one_policy(from, to)? {
        return Ok(Some(Obstacle::Encrypted));
    }
    if !*GIVES_PROJECTS && wants_other_project(from, to)? {
        return Ok(Some(Obstacle::Project));
    }
    Ok(None)
}

fn is_encrypted(folder: &Statx) -> bool {
    folder.stx_attributes.contains(StatxAttributes::ENCRYPTED)
}

/// A descriptor of a folder that can be asked; `None` if we may not read it.
fn readable(folder: &Folder) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(&*folder.opened, ".", flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether files may be moved into an encrypted folder. Where it cannot be asked, they may: the
/// move itself tells.
fn have_one_policy(from: &OwnedFd, to: &Folder) -> io::Result<bool> {
    if !is_encrypted(&look_at(from)?) {
        return Ok(false);
    }
    let Some(opened) = readable(to)? else {
        return Ok(true);
    };
    Ok(match (policy(from), policy(&opened)) {
        (Some(here), Some(there)) => here == there,
        _ => true,
    })
}

fn wants_other_project(from: &OwnedFd, to: &Folder) -> io::Result<bool> {
    let Some(opened) = readable(to)? else {
        return Ok(false);
    };
    let wanted = inherit::project_of(&opened);
    Ok(wanted.is_some_and(|wanted| inherit::project_of(from).unwrap_or(0) != wanted))
}

/// `struct fscrypt_get_policy_ex_arg`, with room for the longest policy there is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    /// Room before the call, and what was taken of it after.
    bytes: u64,
    policy: [u8; POLICY_BYTES],
}

/// Those of `struct fscrypt_policy_v2`; the first version is shorter.
const POLICY_BYTES: usize = 24;

/// By what a folder is encrypted; `None` if it cannot be told.
fn policy(folder: &OwnedFd) -> Option<Policy> {
    let mut policy = Policy {
        bytes: POLICY_BYTES as u64,
        policy: [0; POLICY_BYTES],
    };
    // The number was made with the size of an older argument (`_IOWR('f', 22, __u8[9])`).
    const GET: ioctl::Opcode = opcode::read_write::<[u8; 9]>(b'f', 22);
    // SAFETY: `FS_IOC_GET_ENCRYPTION_POLICY_EX` reads the size, and writes it and no more bytes of
    // a policy than that; `Policy` is its argument, and any bytes are a value of it.
    let asked = unsafe { ioctl::ioctl(folder.as_fd(), Updater::<GET, Policy>::new(&mut policy)) };
    asked.ok().map(|()| policy)
}
