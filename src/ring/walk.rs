//! The walk from a root to the folder of a destination: what Create-Session looks up and what
//! Close-Session makes.
//!
//! It goes down folder by folder, with three system calls for each, and stops at the first that is
//! missing. So its cost is linear in the depth of the path. And it passes every folder on the way,
//! so it knows the work directory by whatever name, link or bind mount it was reached.
//!
//! A name is resolved beneath the folder before it, and may not be a link there. A link is followed
//! from the *root* (`RESOLVE_BENEATH`), so that `..` in it works as long as it stays inside, and
//! never leads out; one that begins with a slash is read by us (`walk/absolute.rs`). No mount is
//! crossed (`RESOLVE_NO_XDEV`): a rename between two mounts fails, be they of one file system.
//!
//! Somebody may move folders while we walk. So before anything is changed, the whole path is opened
//! from the root once more ([`Walk::open_from_root`]) and compared. Only a folder is used that lies
//! beneath the root and was walked into.

mod absolute;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::work_folder;
use super::work_folder::hold::{self, Hold};
use crate::bits::reply::Obstacle;
use crate::diagnosis::Blocked;
use crate::vault::names::OWNER_NAME;
use absolute::Unresolved;

/// How often the kernel may ask to be called again, because of renames elsewhere or a signal.
const TRIES_MAX: usize = 64;

/// Links may stand on the way; what they lead to lies beneath the root.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
/// The same, on one mount.
const ON_ONE_MOUNT: ResolveFlags = BENEATH.union(ResolveFlags::NO_XDEV);
/// The same, without any link.
const PLAIN: ResolveFlags = ON_ONE_MOUNT.union(ResolveFlags::NO_SYMLINKS);

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: (u32, u32),
    inode: u64,
}

impl Identity {
    /// Of what was looked at.
    pub fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
        }
    }

    /// Whether both are on the same file system.
    pub fn is_on_device_of(&self, other: &Self) -> bool {
        self.device == other.device
    }
}

/// A folder that the walk passed.
#[derive(Clone)]
pub struct Folder {
    /// It, opened with `O_PATH`.
    pub opened: Arc<OwnedFd>,
    /// As it was then.
    pub stat: Statx,
}

impl Folder {
    /// Looks at an open folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(opened: Arc<OwnedFd>) -> io::Result<Self> {
        let stat = look_at(&*opened)?;
        Ok(Self { opened, stat })
    }

    /// Its identity.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.stat)
    }
}

/// Why there is no way to a folder.
#[derive(Debug)]
pub enum NoWay {
    /// It is the work directory, or in it; reached by this name.
    Reserved(String),
    /// Something else.
    Failed(io::Error),
}

impl From<Errno> for NoWay {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno.into())
    }
}

impl From<io::Error> for NoWay {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Blocked> for NoWay {
    fn from(blocked: Blocked) -> Self {
        Self::Failed(blocked.into())
    }
}

impl From<NoWay> for io::Error {
    fn from(why: NoWay) -> Self {
        match why {
            NoWay::Reserved(name) => Blocked::by(Obstacle::LinkIntoWork, &name).into(),
            NoWay::Failed(error) => error,
        }
    }
}

/// A walk on its way.
pub struct Walk<'p> {
    root: Folder,
    reserved: Arc<[Identity]>,
    /// The names to go, joined by slashes; empty for the root itself.
    path: &'p str,
    /// How much of `path` was walked: its end is that of a name, or 0.
    walked: usize,
    here: Folder,
    /// The path of the root, as the settings know it.
    known_as: Arc<Path>,
    /// The way from the root to `here`, where what was walked has a link on it that begins with a
    /// slash.
    detour: Option<PathBuf>,
}

impl<'p> Walk<'p> {
    /// Begins at a root, which the settings know by a path. `reserved` is where it may not lead.
    pub fn begin(
        (root, known_as): (Folder, Arc<Path>),
        path: &'p str,
        reserved: Arc<[Identity]>,
    ) -> Self {
        Self {
            here: root.clone(),
            root,
            reserved,
            path,
            walked: 0,
            known_as,
            detour: None,
        }
    }

    /// The folder that the walk has come to.
    pub fn here(&self) -> &Folder {
        &self.here
    }

    /// Where that is, beneath the root.
    pub fn here_name(&self) -> &'p str {
        &self.path[..self.walked]
    }

    /// How many names lead there.
    pub fn names_walked(&self) -> usize {
        let names = self.here_name().split('/');
        names.filter(|name| !name.is_empty()).count()
    }

    /// The next name on the way; `None` at its end.
    pub fn next_name(&self) -> Option<&'p str> {
        let rest = self.path[self.walked..].trim_start_matches('/');
        rest.split('/').next().filter(|name| !name.is_empty())
    }

    /// Goes on as far as folders stand; `true` at the end, `false` before a name that is missing.
    ///
    /// # Errors
    /// [`NoWay`]
    pub fn go_on(&mut self) -> Result<bool, NoWay> {
        let has_arrived = self.go_as_far_as_possible()?;
        // Of another server of this account, whose root or `work_dir` lies beneath ours: what
        // stands there is believed at its next start. It is flat, so only the last folder can be
        // one; and it is that server's alone, or the next start refuses it.
        let stat = &self.here.stat;
        let is_ours_alone = hold::of(stat.stx_uid, stat.stx_mode.into()) == Hold::Ours;
        if self.walked > 0
            && is_ours_alone
            && work_folder::is_marked_within(&self.here.opened, OWNER_NAME)
        {
            return Err(NoWay::Reserved(self.here_name().to_owned()));
        }
        Ok(has_arrived)
    }

    fn go_as_far_as_possible(&mut self) -> Result<bool, NoWay> {
        while let Some(name) = self.next_name() {
            let end = self.walked + usize::from(self.walked > 0) + name.len();
            let prefix = &self.path[..end];
            let mut detour = self.detour.as_ref().map(|detour| detour.join(name));
            let opened = match open(self.here.opened.as_fd(), name, OFlags::PATH, PLAIN) {
                Err(Errno::NOENT) => return Ok(false),
                Err(Errno::LOOP) => self.follow(prefix, &mut detour)?,
                Err(Errno::XDEV) => return Err(Blocked::by(Obstacle::OtherMount, prefix).into()),
                Err(Errno::NOTDIR) => return Err(Blocked::by(Obstacle::NoFolder, prefix).into()),
                result => result?,
            };
            let folder = Folder::new(Arc::new(opened))?;
            if self.reserved.contains(&folder.identity()) {
                return Err(NoWay::Reserved(prefix.to_owned()));
            }
            // A volume within a file system (btrfs) is none of its mounts.
            if folder.identity().device != self.root.identity().device {
                return Err(Blocked::by(Obstacle::OtherMount, prefix).into());
            }
            self.here = folder;
            self.walked = end;
            self.detour = detour;
        }
        Ok(true)
    }

    /// Opens the folder that a link leads to. `detour` is the way there, where it is not the path
    /// that was walked.
    fn follow(&self, link: &str, detour: &mut Option<PathBuf>) -> Result<OwnedFd, NoWay> {
        let root = self.root.opened.as_fd();
        let blocked = |by| Err(Blocked::by(by, link).into());
        let mut way = (detour.as_deref())
            .map_or(OsStr::new(link), Path::as_os_str)
            .to_owned();
        let mut opened = open(root, &way, OFlags::PATH, ON_ONE_MOUNT);
        if matches!(opened, Err(Errno::XDEV)) && open(root, &way, OFlags::PATH, BENEATH).is_err() {
            way = match absolute::resolve(&self.root.opened, &self.known_as, &way) {
                Ok(resolved) => resolved,
                Err(Unresolved::LeadsOut) => return blocked(Obstacle::LinkLeadsOut),
                Err(Unresolved::Circle) => return blocked(Obstacle::LinkLoop),
                Err(Unresolved::Failed(Errno::NOENT)) => return blocked(Obstacle::LinkDangles),
                Err(Unresolved::Failed(Errno::XDEV)) => return blocked(Obstacle::OtherMount),
                Err(Unresolved::Failed(error)) => return Err(error.into()),
            };
            opened = open(root, &way, OFlags::PATH, ON_ONE_MOUNT);
            *detour = Some(PathBuf::from(way));
        }
        match opened {
            // We did not pass what lies above it.
            Ok(folder) if self.is_in_reserved(&folder)? => Err(NoWay::Reserved(link.to_owned())),
            Ok(folder) => Ok(folder),
            Err(Errno::XDEV) => blocked(Obstacle::OtherMount),
            Err(Errno::NOENT) => blocked(Obstacle::LinkDangles),
            Err(Errno::LOOP) => blocked(Obstacle::LinkLoop),
            Err(Errno::NOTDIR) => blocked(Obstacle::NoFolder),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a folder lies in one that is reserved.
    fn is_in_reserved(&self, folder: &OwnedFd) -> io::Result<bool> {
        let mut here = Identity::of(&look_at(folder)?);
        let mut above = None;
        while here != self.root.identity() {
            if self.reserved.contains(&here) {
                return Ok(true);
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let below = above.as_ref().unwrap_or(folder);
            let opened = rustix::fs::openat(below, "..", flags, Mode::empty())?;
            let identity = Identity::of(&look_at(&opened)?);
            if identity == here {
                // The top of the file system: somebody moved the folder out of the root meanwhile.
                return Err(restless());
            }
            here = identity;
            above = Some(opened);
        }
        Ok(false)
    }

    /// Opens the folder that the walk has come to once more, from the root and in one step; `None`
    /// if another one stands there by now, or none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_from_root(&self, access: OFlags) -> io::Result<Option<Arc<OwnedFd>>> {
        let root = &self.root.opened;
        if self.walked == 0 {
            // It was opened for reading.
            return Ok(Some(Arc::clone(root)));
        }
        let here = OsStr::new(self.here_name());
        let way = self.detour.as_deref().map_or(here, Path::as_os_str);
        match open(root.as_fd(), way, access, ON_ONE_MOUNT) {
            Ok(opened) => {
                let is_same = Identity::of(&look_at(&opened)?) == self.here.identity();
                Ok(is_same.then(|| Arc::new(opened)))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether folders can be opened beneath a root at all.
///
/// # Errors
/// What the kernel says.
pub fn probe(root: &OwnedFd) -> io::Result<()> {
    Ok(open(root.as_fd(), ".", OFlags::PATH, PLAIN).map(drop)?)
}

/// Folders are renamed faster than we look at them; the client comes back.
pub fn restless() -> io::Error {
    io::Error::other("the folders on the way were moved each time they were looked at")
}

/// Looks at what is open.
///
/// # Errors
/// What the kernel says.
pub fn look_at(opened: impl AsFd) -> io::Result<Statx> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(opened, "", AtFlags::EMPTY_PATH, mask)?)
}

/// Opens a folder; an empty path leads to the one that it begins at.
fn open(
    from: BorrowedFd<'_>,
    path: impl AsRef<OsStr>,
    access: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = match path.as_ref() {
        path if path.is_empty() => OsStr::new("."),
        path => path,
    };
    open_resolved(from, path, flags, resolve)
}

/// `openat2`.
///
/// # Errors
/// What the kernel says.
pub fn open_resolved(
    from: BorrowedFd<'_>,
    path: impl AsRef<OsStr>,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = path.as_ref();
    tried_again(|| rustix::fs::openat2(from, path, flags, Mode::empty(), resolve))
}

/// Does again what the kernel asks to be called again for.
fn tried_again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut tries = 0;
    loop {
        tries += 1;
        match call() {
            // The kernel could not tell because of a rename elsewhere; or a file system on the
            // network or of another program was interrupted (FUSE, NFS, autofs).
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES_MAX => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_done_again_and_not_for_ever() {
        for errno in [Errno::AGAIN, Errno::INTR] {
            let mut calls = 0;
            let found = tried_again(|| {
                calls += 1;
                if calls < 3 { Err(errno) } else { Ok(calls) }
            });
            assert_eq!(found, Ok(3));
            let mut calls = 0;
            let found: Result<(), _> = tried_again(|| {
                calls += 1;
                Err(errno)
            });
            assert_eq!((found, calls), (Err(errno), TRIES_MAX));
        }
        assert_eq!(
            tried_again(|| Err::<(), _>(Errno::NOENT)),
            Err(Errno::NOENT)
        );
    }
}
