//! The trees of destinations: what stands there, and how a finished upload gets its name in one of them.
//!
//! Each location has a root; all roots are on the file system of the work directory, so that a file gets its name in one
//! step. A destination is resolved beneath its root by `openat2`, whatever links stand on the way, and never in the
//! work directory. Names are plain system calls on the shard: the kernel would hand each of them to a worker thread of the
//! ring, for a call of a few microseconds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::op::{self, SyncScope};
use crate::bits::reply::Obstacle;
use crate::server::world::{Parents, Place, Replace, Standing};

/// Permissions of a folder, before the umask.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

/// The roots of all locations, as one shard has them open.
pub struct Trees {
    /// By their numbers in the settings, which never become those of other roots.
    roots: RefCell<BTreeMap<usize, Rc<OwnedFd>>>,
    work: Rc<OwnedFd>,
    /// The folder that a file was last published into, to be synced right after. Opened before the rename: if
    /// there is no descriptor left, it must be found out while the part still stands.
    published_into: RefCell<Option<(Place, Rc<OwnedFd>)>>,
}

impl Trees {
    /// Takes the open roots, in the order of the settings, and the work directory.
    pub fn new(roots: Vec<OwnedFd>, work: Rc<OwnedFd>) -> Self {
        Self {
            roots: RefCell::new(roots.into_iter().map(Rc::new).enumerate().collect()),
            work,
            published_into: RefCell::default(),
        }
    }

    /// Adds roots that new settings name, with their numbers.
    pub fn add_roots(&self, roots: Vec<(usize, OwnedFd)>) {
        let roots = roots
            .into_iter()
            .map(|(number, root)| (number, Rc::new(root)));
        self.roots.borrow_mut().extend(roots);
    }

    /// Closes the roots that nobody needs.
    pub fn close_roots(&self, is_needed: impl Fn(usize) -> bool) {
        self.roots
            .borrow_mut()
            .retain(|number, _| is_needed(*number));
    }

    fn root(&self, place: &Place) -> io::Result<Rc<OwnedFd>> {
        let roots = self.roots.borrow();
        let root = roots.get(&place.root).cloned();
        root.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the location has no root"))
    }

    /// See [`crate::server::world::World::look_up`].
    pub fn look_up(&self, place: &Place) -> io::Result<Standing> {
        let parent = match self.parent(place) {
            Ok(parent) => parent,
            Err(NoFolder::Missing) => {
                // Where folders are made, none may be made in the work directory.
                let is_reserved =
                    self.is_in_work(&self.nearest_folder(place)?, &*self.root(place)?)?;
                return Ok(if is_reserved {
                    Standing::Reserved
                } else {
                    Standing::NoParent
                });
            }
            Err(NoFolder::Reserved) => return Ok(Standing::Reserved),
            Err(NoFolder::Failed(error)) => return Err(error),
        };
        // Told now, before any byte is sent, and not at the end of a long upload.
        let may_write = Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(parent.as_fd(), ".", may_write, AtFlags::EACCESS)?;
        match rustix::fs::statat(
            parent.as_fd(),
            place.path.file_name(),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Ok(Standing::Directory)
            }
            // A link is a name that is taken; it is never followed.
            Ok(stat) => Ok(Standing::File { inode: stat.st_ino }),
            Err(Errno::NOENT) => Ok(Standing::Free),
            Err(error) => Err(error.into()),
        }
    }

    /// See [`crate::server::world::World::publish`].
    pub async fn publish(
        &self,
        name: &str,
        place: &Place,
        replace: Replace,
        parents: Parents,
    ) -> io::Result<()> {
        let parent = match (self.parent(place), parents) {
            (Err(NoFolder::Missing), Parents::Create) => self.make_parent(place).await?,
            (result, _) => result?,
        };
        if let Some(folder) = place.path.parent() {
            let root = self.root(place)?;
            let opened = match open_beneath(root.as_fd(), folder, OFlags::RDONLY) {
                Err(error @ (Errno::MFILE | Errno::NFILE)) => return Err(error.into()),
                // Whether that matters is for the sync to say; there may be none.
                result => result.ok(),
            };
            *self.published_into.borrow_mut() =
                opened.map(|opened| (place.clone(), Rc::new(opened)));
        }
        let to = parent.as_fd();
        let file_name = place.path.file_name();
        if replace == Replace::Existing {
            return Ok(rustix::fs::renameat(&*self.work, name, to, file_name)?);
        }
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&*self.work, name, to, file_name, flags) {
            // The file system does not know the flag; a link refuses to replace just as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&*self.work, name, to, file_name, AtFlags::empty())?;
                Ok(rustix::fs::unlinkat(&*self.work, name, AtFlags::empty())?)
            }
            result => Ok(result?),
        }
    }

    /// See [`crate::server::world::World::sync_destination`].
    pub async fn sync_destination(&self, place: &Place) -> io::Result<()> {
        let root = self.root(place)?;
        let Some(folder) = place.path.parent() else {
            return op::sync(&root, SyncScope::All).await;
        };
        let opened = self.published_into.take();
        let to_sync = match opened {
            Some((of, opened)) if of == *place => opened,
            _ => Rc::new(open_beneath(root.as_fd(), folder, OFlags::RDONLY)?),
        };
        op::sync(&to_sync, SyncScope::All).await
    }

    /// See [`crate::server::world::World::unpublish`].
    pub fn unpublish(&self, place: &Place) -> io::Result<()> {
        let parent = self.parent(place)?;
        Ok(rustix::fs::unlinkat(
            parent.as_fd(),
            place.path.file_name(),
            AtFlags::empty(),
        )?)
    }

    /// Opens the folder of a destination.
    fn parent(&self, place: &Place) -> Result<Rc<OwnedFd>, NoFolder> {
        let root = self.root(place)?;
        let Some(folder) = place.path.parent() else {
            return Ok(root);
        };
        match open_beneath(root.as_fd(), folder, OFlags::PATH) {
            Ok(folder) if self.is_in_work(&folder, &root)? => Err(NoFolder::Reserved),
            Ok(folder) => Ok(Rc::new(folder)),
            Err(Errno::NOENT) => Err(NoFolder::Missing),
            Err(Errno::XDEV) => Err(NoFolder::Failed(Obstacle::LinkLeadsOut.into())),
            Err(error) => Err(NoFolder::Failed(error.into())),
        }
    }

    /// The deepest folder that exists on the way to a destination.
    fn nearest_folder(&self, place: &Place) -> io::Result<OwnedFd> {
        let root = self.root(place)?;
        let mut folder = place.path.parent();
        while let Some(name) = folder {
            match open_beneath(root.as_fd(), name, OFlags::PATH) {
                Err(Errno::NOENT) => folder = name.rsplit_once('/').map(|(parent, _)| parent),
                result => return Ok(result?),
            }
        }
        root.try_clone()
    }

    /// Whether a folder is the work directory or lies in it, by whatever name or link it was reached.
    fn is_in_work(&self, folder: &OwnedFd, root: &OwnedFd) -> io::Result<bool> {
        let (root, work) = (identity(root)?, identity(&*self.work)?);
        let mut folder = folder.try_clone()?;
        let mut here = identity(&folder)?;
        while here != root {
            if here == work {
                return Ok(true);
            }
            let up = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            folder = rustix::fs::openat(&folder, "..", up, Mode::empty())?;
            let above = identity(&folder)?;
            if above == here {
                // The top of the file system: somebody moved the folder out of the root meanwhile.
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            here = above;
        }
        Ok(false)
    }

    /// Makes the folders of a destination, one by one; each new name is made durable at once.
    async fn make_parent(&self, place: &Place) -> io::Result<Rc<OwnedFd>> {
        if self.is_in_work(&self.nearest_folder(place)?, &*self.root(place)?)? {
            return Err(NoFolder::Reserved.into());
        }
        let mut folder = self.root(place)?;
        for segment in place.path.parent().unwrap_or_default().split('/') {
            let next = match open_beneath(folder.as_fd(), segment, OFlags::RDONLY) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&*folder, segment, FOLDER_MODE) {
                        Ok(()) => op::sync(&folder, SyncScope::All).await?,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open_beneath(folder.as_fd(), segment, OFlags::RDONLY)?
                }
                result => result?,
            };
            folder = Rc::new(next);
        }
        // Walked again from the root, so that the result is beneath it whatever happened meanwhile.
        Ok(self.parent(place)?)
    }
}

/// Why the folder of a destination cannot be opened.
enum NoFolder {
    /// It does not exist.
    Missing,
    /// It is the work directory, or in it.
    Reserved,
    /// Something else.
    Failed(io::Error),
}

impl From<io::Error> for NoFolder {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NoFolder> for io::Error {
    fn from(why: NoFolder) -> Self {
        match why {
            NoFolder::Missing => io::ErrorKind::NotFound.into(),
            NoFolder::Reserved => Obstacle::LinkIntoWork.into(),
            NoFolder::Failed(error) => error,
        }
    }
}

/// Whether folders can be opened beneath a root at all.
///
/// # Errors
/// What the kernel says.
pub fn probe(root: &OwnedFd) -> io::Result<()> {
    Ok(open_beneath(root.as_fd(), ".", OFlags::PATH).map(drop)?)
}

/// Opens a folder that lies beneath another one even if links stand on the way.
fn open_beneath(root: BorrowedFd<'_>, path: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    open_resolved(root, path, flags, resolve)
}

/// `openat2`.
///
/// # Errors
/// What the kernel says.
pub fn open_resolved(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat2(root, OsStr::new(path), flags, Mode::empty(), resolve) {
            // The kernel could not tell because of a rename elsewhere; it asks to be called again.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

/// Device and inode.
fn identity(directory: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}
