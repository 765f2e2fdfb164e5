//! What a file gets from its folder.
//!
//! A file is made in a folder of the server's own and moved to its destination later, so it has
//! nothing of what a file made in its destination's folder would have had. It is given that before
//! it is moved, so that nobody ever sees it otherwise. It gets of a folder that has
//!
//! * the set-group-ID bit: its group;
//! * a default ACL: an access ACL made of it, in which the umask does not count (acl(5), "Object
//!   creation");
//! * an inherited project id (XFS, ext4): its project id; without it, a rename into the folder
//!   fails with `EXDEV`;
//! * inherited attributes (`chattr`: `inherit/attributes.rs` lists them), and what btrfs compresses
//!   by: the same;
//! * an SELinux type (not that of the server's own folder): that type, where the policy has no rule
//!   of its own for files that we make.
//!
//! What the server's own folder gives *its* files is taken off again: it mostly lies beneath a root
//! and inherits from that.
//!
//! Most folders have none of these, so that has to be cheap. The bit comes with a look at the
//! folder, the rest costs an `fgetxattr` and an `ioctl`. To ask the kernel by making a file there
//! (`O_TMPFILE`) would cost more, shows itself to watchers of the folder, and NFS has none.
//!
//! The last of them is what the policy says of a file without a rule: it has the type of its
//! folder. To ask for it costs another `fgetxattr`, and only hosts pay that on which the server's
//! own folder has a label.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Gid, IFlags, Mode, OFlags, Stat, Statx, XattrFlags};
use rustix::io::Errno;
use rustix::ioctl::{self, Getter, Setter, opcode};

use super::umask;
use attributes::Attributes;

mod attributes;

/// Permissions of an upload, before the umask.
const FILE_MODE: u32 = 0o666;
/// Bits that say whose a program is that runs.
const SET_ID: u32 = 0o7000;
/// Bits that make a program of a file.
const RUNS: u32 = SET_ID | 0o111;
const DEFAULT_ACL: &str = "system.posix_acl_default";
const ACCESS_ACL: &str = "system.posix_acl_access";
const LABEL: &str = "security.selinux";
/// What a label that could not be given is called.
pub const SELINUX_TYPE: &str = "SELinux type";
/// Labels are `user:role:type:level`, and some 40 bytes long.
const LABEL_BYTES_MAX: usize = 4096;
/// Most ACLs are no longer than this: 31 entries.
const ACL_BYTES: usize = 256;
/// The longest that an attribute can be (`XATTR_SIZE_MAX`).
const ACL_BYTES_MAX: usize = 64 << 10;

/// What a folder gives to the files that are made in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gifts {
    /// Their group; `None`: that of whoever makes them.
    group: Option<u32>,
    /// Its default ACL, as the kernel has it.
    acl: Option<Vec<u8>>,
    attributes: Attributes,
    /// The project that they are counted for; 0 is none.
    project: u32,
    /// Its SELinux label; `None` where it has none, or none was asked for.
    label: Option<Vec<u8>>,
}

/// Whether labels are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// They are.
    Known,
    /// This host has none.
    Unknown,
}

impl Gifts {
    /// What a folder gives. What its file system does not know, or what cannot be read of it, it
    /// does not give.
    ///
    /// # Errors
    /// What the kernel says of its ACL, if there may be one.
    pub fn of(folder: &OwnedFd, stat: &Statx, labels: Labels) -> io::Result<Self> {
        let attributes = rustix::fs::ioctl_getflags(folder).unwrap_or(IFlags::empty());
        let gives_project = attributes.contains(IFlags::PROJECT_INHERIT);
        let gives_group = Mode::from_raw_mode(stat.stx_mode.into()).contains(Mode::SGID);
        Ok(Self {
            group: gives_group.then_some(stat.stx_gid),
            acl: default_acl(folder)?,
            attributes: Attributes::of(folder, attributes),
            project: match gives_project {
                true => read_project(folder.as_fd())?.project,
                false => 0,
            },
            label: match labels {
                Labels::Known => label(folder),
                Labels::Unknown => None,
            },
        })
    }

    /// What it gives no file more than, where the settings give this.
    pub fn mode_max(&self, mode: Option<u16>) -> u32 {
        match &self.acl {
            Some(_) => FILE_MODE,
            None => mode.map_or(0, u32::from),
        }
    }

    /// Whether a file of a folder that gives the other has the right type, as far as can be told.
    fn has_type_of(&self, other: &Self) -> bool {
        match (&self.label, &other.label) {
            (Some(here), Some(there)) => type_of(here) == type_of(there),
            _ => true,
        }
    }

    /// Whether other folders may have labels.
    pub fn labels(&self) -> Labels {
        match self.label {
            Some(_) => Labels::Known,
            None => Labels::Unknown,
        }
    }
}

/// The label of what is open; `None` if it has none that can be read.
fn label(opened: &OwnedFd) -> Option<Vec<u8>> {
    let mut label = vec![0; LABEL_BYTES_MAX];
    let bytes = rustix::fs::fgetxattr(opened, LABEL, &mut label).ok()?;
    label.truncate(bytes);
    Some(label)
}

/// The third part of a label.
fn type_of(label: &[u8]) -> Option<&[u8]> {
    label
        .split(|byte| matches!(byte, b':' | 0))
        .nth(2)
        .filter(|name| !name.is_empty())
}

/// A label with the type of another one.
fn with_type_of(label: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let name = type_of(other)?;
    let mut parts: Vec<&[u8]> = label.splitn(4, |byte| *byte == b':').collect();
    *parts.get_mut(2)? = name;
    let mut label = parts.join(&b':');
    // Without a level, the type was the last part, with the zero that ends it.
    if label.last() != Some(&0) {
        label.push(0);
    }
    Some(label)
}

fn default_acl(folder: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut acl = vec![0; ACL_BYTES];
    loop {
        match rustix::fs::fgetxattr(folder, DEFAULT_ACL, &mut acl) {
            Ok(bytes) => {
                acl.truncate(bytes);
                return Ok(Some(acl));
            }
            Err(Errno::RANGE) if acl.len() < ACL_BYTES_MAX => acl.resize(ACL_BYTES_MAX, 0),
            // The last: a folder that may be written and not read.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::BADF) => return Ok(None),
            // A filter of system calls, or a module of security: no fault of the disk, and a file
            // without its folder's ACL is better than none.
            Err(error @ (Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::INVAL)) => {
                tell_unread(error);
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Said once: it is the same for all folders, mostly.
fn tell_unread(error: Errno) {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            event = "not_given",
            what = "ACL",
            %error,
            remedy = "allow fgetxattr (SystemCallFilter=@file-system), or look at the security module",
            "the default ACL of a folder cannot be read: published files do not get it"
        );
    }
}

/// A file on its way from one folder to another.
pub struct Moving<'a> {
    /// The folder it is in, and its name there.
    pub from: &'a OwnedFd,
    /// See there.
    pub name: &'a str,
    /// The file as it is.
    pub stat: &'a Stat,
    /// What the folder gave it that it was made in.
    pub had: &'a Gifts,
    /// The group of files that we make where a folder gives none.
    pub own_group: u32,
    /// The permissions that the settings give it; `None`: as the umask says.
    pub mode: Option<u16>,
}

/// A file that was given something.
pub struct Given {
    /// The file, to be synced.
    pub file: Arc<OwnedFd>,
    /// What it could not be given, and why.
    pub refused: Vec<(&'static str, io::Error)>,
}

impl Moving<'_> {
    /// Makes the file as if it had been made in a folder that gives these; `None` if it is.
    ///
    /// # Errors
    /// What the kernel says when the file is opened. What is only refused is in [`Given::refused`]:
    /// a file without its folder's group is better than none.
    pub fn give(&self, gifts: &Gifts) -> io::Result<Option<Given>> {
        let group = gifts.group.unwrap_or(self.own_group);
        let has_group = self.stat.st_gid == group;
        let has_rest = gifts.acl == self.had.acl
            && gifts.attributes == self.had.attributes
            && gifts.project == self.had.project;
        let has_mode = match self.mode {
            Some(mode) if gifts.acl.is_none() => self.stat.st_mode & 0o7777 == u32::from(mode),
            // Somebody may have changed all modes beneath the root: what a client sent never
            // becomes a program by that.
            mode => self.stat.st_mode & RUNS & !mode.map_or(0, u32::from) == 0,
        };
        let has_label = gifts.has_type_of(self.had);
        if has_group && has_rest && has_mode && has_label {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.from, self.name, flags, Mode::empty())?;
        let mut refused = Vec::new();
        let mut note = |what, result: io::Result<()>| {
            if let Err(error) = result {
                refused.push((what, error));
            }
        };
        if !has_group {
            let result = rustix::fs::fchown(&file, None, Some(Gid::from_raw(group)));
            note("group", result.map_err(io::Error::from));
        }
        // Also where the two are the same: the first of two attempts may have been for another
        // folder.
        match &gifts.acl {
            Some(acl) => {
                note("ACL", give_acl(&file, acl, self.mode));
                if self.stat.st_mode & SET_ID != 0 {
                    note("mode", take_set_id(&file));
                }
            }
            None if self.had.acl.is_some() => note("mode", self.take_acl(&file)),
            None if !has_mode => note("mode", self.give_mode(&file)),
            None => {}
        }
        if gifts.attributes != self.had.attributes {
            note("attribute", gifts.attributes.give(&file));
        }
        if gifts.project != self.had.project {
            note("project id", give_project(file.as_fd(), gifts.project));
        }
        if let (false, Some(wanted), Some(birth)) = (has_label, &gifts.label, &self.had.label) {
            note(SELINUX_TYPE, give_type(&file, wanted, birth));
        }
        Ok(Some(Given {
            file: Arc::new(file),
            refused,
        }))
    }

    /// Takes off the ACL that the server's own folder gave.
    fn take_acl(&self, file: &OwnedFd) -> io::Result<()> {
        match rustix::fs::fremovexattr(file, ACCESS_ACL) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        self.give_mode(file)
    }

    fn give_mode(&self, file: &OwnedFd) -> io::Result<()> {
        let mode = match (self.mode, umask::current()) {
            (Some(mode), _) => mode.into(),
            (None, Ok(umask)) => FILE_MODE & !umask,
            // Without `/proc`: as it was made.
            (None, Err(_)) => FILE_MODE & self.stat.st_mode,
        };
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }
}

/// What an ACL says nothing of.
fn take_set_id(file: &OwnedFd) -> io::Result<()> {
    let mode = rustix::fs::fstat(file)?.st_mode & 0o777;
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
}

fn give_acl(file: &OwnedFd, default: &[u8], mode: Option<u16>) -> io::Result<()> {
    let acl =
        access_acl(default, mode.map_or(FILE_MODE, u32::from)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(rustix::fs::fsetxattr(
        file,
        ACCESS_ACL,
        &acl,
        XattrFlags::empty(),
    )?)
}

/// Gives a folder that was just made its permissions, whatever the umask. Its ACL, if it has
/// inherited one, was made for them already; the set-group-ID bit is its parent's.
///
/// # Errors
/// What the kernel says.
pub fn give_folder_mode(folder: &OwnedFd, mode: u16) -> io::Result<()> {
    if default_acl(folder)?.is_some() {
        return Ok(());
    }
    let now = rustix::fs::fstat(folder)?.st_mode & 0o7777;
    let wanted = now & Mode::SGID.bits() | u32::from(mode);
    if wanted != now {
        rustix::fs::fchmod(folder, Mode::from_raw_mode(wanted))?;
    }
    Ok(())
}

/// Gives a file the type of its new folder. One that has another type than the folder it was made
/// in has it by a rule of the policy, and keeps it.
fn give_type(file: &OwnedFd, wanted: &[u8], birth: &[u8]) -> io::Result<()> {
    let new = match label(file) {
        None => Some(wanted.to_vec()),
        Some(old) if type_of(&old) == type_of(birth) => with_type_of(&old, wanted),
        Some(_) => None,
    };
    match new {
        Some(new) => Ok(rustix::fs::fsetxattr(
            file,
            LABEL,
            &new,
            XattrFlags::empty(),
        )?),
        None => Ok(()),
    }
}

// -- ACLs

/// The bytes before the entries: the version.
const HEAD_BYTES: usize = 4;
/// An entry: tag, rights, and whose they are.
const ENTRY_BYTES: usize = 8;
/// `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`.
const OWNER: u16 = 0x01;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The access ACL of a file that is made with this mode in a folder with this default ACL (acl(5)):
/// no class of users gets more than the mode has for it, and the class of the group is the mask, if
/// there is one. The kernel makes the mode of the file of it. `None` if this is no ACL.
fn access_acl(default: &[u8], mode: u32) -> Option<Vec<u8>> {
    let mut acl = default.to_vec();
    let entries = acl.get_mut(HEAD_BYTES..)?;
    if entries.len() % ENTRY_BYTES != 0 {
        return None;
    }
    let tag_of = |entry: &[u8]| u16::from_le_bytes([entry[0], entry[1]]);
    let has_mask = entries
        .chunks(ENTRY_BYTES)
        .any(|entry| tag_of(entry) == MASK);
    for entry in entries.chunks_mut(ENTRY_BYTES) {
        let class = match tag_of(entry) {
            OWNER => mode >> 6,
            MASK => mode >> 3,
            GROUP if !has_mask => mode >> 3,
            OTHER => mode,
            _ => 0o7,
        };
        // The rights are the lowest three bits of a little-endian number.
        entry[2] &= u8::try_from(class & 0o7).unwrap_or(0);
    }
    Some(acl)
}

// -- project ids

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Extended {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    copy_extent_bytes: u32,
    padding: [u8; 8],
}

/// The project that a folder counts its files for; `None` if it counts them for none.
pub fn project_of(folder: &OwnedFd) -> Option<u32> {
    let flags = rustix::fs::ioctl_getflags(folder).ok()?;
    let gives = flags.contains(IFlags::PROJECT_INHERIT);
    let project = gives.then(|| read_project(folder.as_fd()))?.ok()?.project;
    Some(project)
}

fn read_project(file: BorrowedFd<'_>) -> io::Result<Extended> {
    // SAFETY: `FS_IOC_FSGETXATTR` writes one `struct fsxattr`, which `Extended` is: any bytes are a
    // value of it.
    let read = unsafe {
        ioctl::ioctl(
            file,
            Getter::<{ opcode::read::<Extended>(b'X', 31) }, Extended>::new(),
        )
    };
    Ok(read?)
}

/// Gives a file that was made elsewhere a project.
///
/// # Errors
/// What the kernel says: outside of the first user namespace it lets nobody do that.
pub fn give_project(file: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let extended = Extended {
        project,
        ..read_project(file)?
    };
    // SAFETY: `FS_IOC_FSSETXATTR` reads one `struct fsxattr`, which `Extended` is, and keeps
    // nothing of it.
    let set = unsafe {
        ioctl::ioctl(
            file,
            Setter::<{ opcode::write::<Extended>(b'X', 32) }, Extended>::new(extended),
        )
    };
    Ok(set?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u8)]) -> Vec<u8> {
        let mut acl = vec![2, 0, 0, 0];
        for (tag, rights) in entries {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&[*rights, 0, 0xff, 0xff, 0xff, 0xff]);
        }
        acl
    }

    #[test]
    fn an_access_acl_grants_no_class_more_than_the_mode() {
        const USER: u16 = 0x02;
        let with_mask = [(OWNER, 7), (USER, 7), (GROUP, 7), (MASK, 7), (OTHER, 5)];
        assert_eq!(
            access_acl(&acl(&with_mask), 0o660),
            Some(acl(&[
                (OWNER, 6),
                (USER, 7),
                (GROUP, 7),
                (MASK, 6),
                (OTHER, 0)
            ])),
            "the mask is the class of the group"
        );
        let without = [(OWNER, 7), (GROUP, 5), (OTHER, 4)];
        assert_eq!(
            access_acl(&acl(&without), 0o666),
            Some(acl(&[(OWNER, 6), (GROUP, 4), (OTHER, 4)]))
        );
        assert_eq!(access_acl(&[2, 0, 0, 0, 1], 0o666), None);
        assert_eq!(access_acl(&[], 0o666), None);
    }

    #[test]
    fn a_label_gets_the_type_of_another() {
        let folder = b"system_u:object_r:public_content_t:s0\0";
        for (label, expected) in [
            (
                &b"user_u:object_r:var_t:s0\0"[..],
                &b"user_u:object_r:public_content_t:s0\0"[..],
            ),
            (
                b"user_u:object_r:var_t:s0-s15:c0.c1023\0",
                b"user_u:object_r:public_content_t:s0-s15:c0.c1023\0",
            ),
            (
                b"user_u:object_r:var_t\0",
                b"user_u:object_r:public_content_t\0",
            ),
        ] {
            assert_eq!(with_type_of(label, folder).as_deref(), Some(expected));
        }
        assert_eq!(type_of(folder), Some(&b"public_content_t"[..]));
        for no_label in [&b""[..], b"_\0", b"a:b", b"a:b:\0"] {
            assert_eq!(
                (type_of(no_label), with_type_of(folder, no_label)),
                (None, None)
            );
        }
    }
}
