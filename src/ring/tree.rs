//! The trees of destinations: what stands there, and how a finished upload gets its name in one of
//! them.
//!
//! Each location has a root, and each root a shelf on its file system, so that a file gets its name
//! in one step. How a destination is found beneath its root stands in [`super::walk`], how a file
//! gets its name in [`super::publication`]. All calls here may block: whoever makes them goes by
//! the [`super::lane`] of the disk.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::fence;
use super::inherit::{Gifts, Labels};
use super::recent::Recent;
use super::shelves::SharedShelves;
use super::walk::{Folder, Identity, NoWay, Walk, look_at};
use crate::bits::reply::Obstacle;
use crate::diagnosis::{Blocked, NamedElsewhere};
use crate::vault::disk::{Manner, Parents, Place, Replace, Standing, Sync};
use mapped::Mapped;

mod mapped;
mod swaps;

/// A root, and the path by which the settings know it.
type Root = (Arc<OwnedFd>, Arc<Path>);

/// The roots of all locations, as one shard has them open.
pub struct Trees {
    /// By their numbers in the settings, which never become those of other roots.
    roots: Mutex<BTreeMap<usize, Root>>,
    shelves: SharedShelves,
    /// Where no upload may go: the shelves, as they were at this count of changes.
    reserved: Mutex<Option<(u64, Arc<[Identity]>)>>,
    /// As whom we make and replace files.
    user: u32,
    group: u32,
    /// What files have from the shelf that they were made on, once that was looked at; at this
    /// count of changes.
    given_at_birth: Mutex<(u64, BTreeMap<RawFd, Arc<Gifts>>)>,
    /// The root that was last looked at, by its number.
    root_seen: Recent<usize, (Folder, Arc<Path>)>,
    /// What the folder that was last published into gives to its files.
    gifts_seen: Recent<Identity, Arc<Gifts>>,
    /// The folder in which files may be made, and how.
    allowed: Recent<(Identity, Access), ()>,
    /// The folder that files of a shelf may be moved to.
    unfenced: Recent<(RawFd, Identity), ()>,
    /// Whose files we may replace in a sticky folder, too; `None`: only our own.
    owns: Option<Mapped>,
}

impl Trees {
    /// Takes the shelves; roots come later.
    pub fn new(shelves: SharedShelves) -> Self {
        let capabilities = rustix::thread::capabilities(None);
        Self {
            roots: Mutex::default(),
            reserved: Mutex::default(),
            shelves,
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            given_at_birth: Mutex::default(),
            root_seen: Recent::default(),
            gifts_seen: Recent::default(),
            allowed: Recent::default(),
            unfenced: Recent::default(),
            owns: capabilities
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER))
                .then(Mapped::here),
        }
    }

    /// Adds roots that new settings name, with their numbers and paths.
    pub fn add_roots(&self, roots: Vec<(usize, OwnedFd, Arc<Path>)>) {
        let roots = roots
            .into_iter()
            .map(|(number, root, path)| (number, (Arc::new(root), path)));
        lock(&self.roots).extend(roots);
    }

    /// Closes the roots that nobody needs.
    pub fn close_roots(&self, is_needed: impl Fn(usize) -> bool) {
        self.root_seen.forget();
        lock(&self.roots).retain(|number, _| is_needed(*number));
    }

    fn root(&self, place: &Place) -> io::Result<Root> {
        let roots = lock(&self.roots);
        let root = roots.get(&place.root).cloned();
        // No settings lead there any more; nothing is known of what stands there.
        root.ok_or_else(|| io::Error::other(NamedElsewhere(place.path.as_str().to_owned())))
    }

    /// Begins a walk to the folder of a destination.
    pub(super) fn walk<'p>(&self, place: &'p Place) -> io::Result<Walk<'p>> {
        let path = place.path.parent().unwrap_or_default();
        let look = || {
            let (opened, known_as) = self.root(place)?;
            Ok((Folder::new(opened)?, known_as))
        };
        let root = self.root_seen.look(place.root, look)?;
        Ok(Walk::begin(root, path, self.reserved()))
    }

    /// The shelves, which change hardly ever. None of their disks is asked: the one of another
    /// location may have failed.
    fn reserved(&self) -> Arc<[Identity]> {
        let changes = self.shelves.changes();
        if let Some((known, reserved)) = &*lock(&self.reserved)
            && *known == changes
        {
            return Arc::clone(reserved);
        }
        let reserved: Arc<[Identity]> = self.shelves.identities().into();
        *lock(&self.reserved) = Some((changes, Arc::clone(&reserved)));
        reserved
    }

    /// See [`crate::vault::disk::Disk::look_up`]. `from` is the shelf of the place.
    pub fn look_up(
        &self,
        place: &Place,
        before: Option<Manner>,
        from: &OwnedFd,
    ) -> io::Result<Standing> {
        let mut walk = self.walk(place)?;
        let has_arrived = match walk.go_on() {
            Ok(has_arrived) => has_arrived,
            Err(NoWay::Reserved(_)) => return Ok(Standing::Reserved),
            Err(NoWay::Failed(error)) => return Err(error),
        };
        let (folder, folder_name) = (walk.here(), walk.here_name());
        if !has_arrived {
            let names = walk.names_walked();
            if let Some(manner) = before
                && manner.parents.may_make(names)
            {
                may_make_in(folder, folder_name, manner, &self.allowed)?;
                self.may_move_to(from, folder, folder_name)?;
                // It is as good as there.
                if manner.parents == Parents::Own(place.path.depth()) {
                    return Ok(Standing::Free);
                }
            }
            return Ok(Standing::NoParent);
        }
        if let Some(manner) = before {
            may_make_in(folder, folder_name, manner, &self.allowed)?;
            self.may_move_to(from, folder, folder_name)?;
        }
        let file_name = place.path.file_name();
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let file = match rustix::fs::statx(&*folder.opened, file_name, flags, mask) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Standing::Free),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(file.stx_mode.into());
        if kind == FileType::Directory
            || kind == FileType::Symlink && leads_to_folder(folder, file_name)
        {
            return Ok(Standing::Directory);
        }
        if before.is_some_and(|manner| manner.replace == Replace::Existing) {
            self.may_replace(&file, place, &folder.stat)?;
        }
        // A link is a name that is taken; it is never followed.
        Ok(Standing::File {
            inode: file.stx_ino,
            bytes: file.stx_size,
        })
    }

    /// See [`crate::vault::disk::Disk::open_published`]. It goes the way of an upload to the
    /// folder, and follows no link to the file itself.
    pub fn open_file(&self, place: &Place) -> io::Result<Option<OwnedFd>> {
        let mut walk = self.walk(place)?;
        match walk.go_on() {
            Ok(true) => {}
            Ok(false) | Err(NoWay::Reserved(_)) => return Ok(None),
            // A link that leads out or in circles, and a file for a folder: there is nothing for
            // whoever asks.
            Err(NoWay::Failed(error)) => {
                return match error.raw_os_error().map(Errno::from_raw_os_error) {
                    None | Some(Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => {
                        Ok(None)
                    }
                    Some(_) => Err(error),
                };
            }
        }
        open_regular(&walk.here().opened, place.path.file_name())
    }

    /// Whether files of a shelf can be moved to a folder on its mount.
    fn may_move_to(&self, from: &OwnedFd, folder: &Folder, name: &str) -> io::Result<()> {
        let look = || match fence::between(from, folder)? {
            None => Ok(()),
            Some(obstacle) => {
                let name = if name.is_empty() { "." } else { name };
                Err(Blocked::by(obstacle, name).into())
            }
        };
        self.unfenced
            .look((from.as_raw_fd(), folder.identity()), look)
    }

    /// What the kernel asks before it lets a file be replaced (`may_delete` of its source, and what
    /// is a mount; what it swaps to comes last, because that takes another look). A pipe, a
    /// socket or a device it would let go too, and whoever made that would look at it for ever.
    fn may_replace(&self, file: &Statx, place: &Place, folder: &Statx) -> Result<(), Blocked> {
        let name = place.path.as_str();
        let folder_name = place.path.parent().unwrap_or(".");
        let attributes = file.stx_attributes;
        let is_sticky = folder.stx_mode & 0o1000 != 0;
        let owners = [file.stx_uid, folder.stx_uid];
        if is_no_file(file.stx_mode.into()) {
            return Err(Blocked::by(Obstacle::NoFile, name));
        }
        if attributes.contains(StatxAttributes::IMMUTABLE) {
            return Err(Blocked::by(Obstacle::Immutable, name));
        }
        if attributes.contains(StatxAttributes::APPEND) {
            return Err(Blocked::by(Obstacle::AppendOnly, name));
        }
        if folder.stx_attributes.contains(StatxAttributes::APPEND) {
            return Err(Blocked::by(Obstacle::AppendOnly, folder_name));
        }
        let is_ours = owners.contains(&self.user)
            || self.owns.is_some_and(|mapped| mapped.has_owners_of(file));
        if is_sticky && !is_ours {
            return Err(Blocked::by(Obstacle::Sticky, folder_name));
        }
        if file.stx_mnt_id != folder.stx_mnt_id {
            return Err(Blocked::by(Obstacle::InUse, name));
        }
        if swaps::has(file, place.path.file_name()) {
            return Err(Blocked::by(Obstacle::Swap, name));
        }
        Ok(())
    }

    /// What a folder that a publication has come to gives to the files in it.
    pub(super) fn gifts(&self, folder: &Folder, labels: Labels) -> io::Result<Arc<Gifts>> {
        let look = || Ok(Arc::new(Gifts::of(&folder.opened, &folder.stat, labels)?));
        self.gifts_seen.look(folder.identity(), look)
    }

    /// The group of the files that we make where a folder gives none.
    pub(super) fn own_group(&self) -> u32 {
        self.group
    }

    /// What the folder gave to the files in it when they were made.
    pub(super) fn given_at_birth(&self, from: &OwnedFd) -> io::Result<Arc<Gifts>> {
        let changes = self.shelves.changes();
        let known = {
            let mut given = lock(&self.given_at_birth);
            if given.0 != changes {
                *given = (changes, BTreeMap::new());
            }
            given.1.get(&from.as_raw_fd()).cloned()
        };
        if let Some(gifts) = known {
            return Ok(gifts);
        }
        let gifts = Arc::new(Gifts::of(from, &look_at(from)?, Labels::Known)?);
        let mut given = lock(&self.given_at_birth);
        given.1.insert(from.as_raw_fd(), Arc::clone(&gifts));
        Ok(gifts)
    }

    /// The folder of a destination, opened to be synced.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_folder(&self, place: &Place) -> io::Result<Arc<OwnedFd>> {
        let mut walk = self.walk(place)?;
        if !walk.go_on()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = walk.open_from_root(OFlags::RDONLY)?;
        folder.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Held for a moment only, never during a call that may block.
fn lock<T>(data: &Mutex<T>) -> MutexGuard<'_, T> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Neither a file, nor a folder, nor a link.
pub(super) fn is_no_file(mode: u32) -> bool {
    use FileType::{BlockDevice, CharacterDevice, Fifo, Socket};
    let kind = FileType::from_raw_mode(mode);
    matches!(kind, BlockDevice | CharacterDevice | Fifo | Socket)
}

/// Whether what stands at a link is a folder: whoever made such a link has files beneath it, and a
/// file in its place would take them all away from there.
fn leads_to_folder(folder: &Folder, name: &str) -> bool {
    let flags = AtFlags::NO_AUTOMOUNT;
    let found = rustix::fs::statx(&*folder.opened, name, flags, StatxFlags::TYPE);
    found.is_ok_and(|found| FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory)
}

/// Whether names can be made in a folder.
fn may_make_in(
    folder: &Folder,
    name: &str,
    manner: Manner,
    allowed: &Recent<(Identity, Access), ()>,
) -> io::Result<()> {
    let mut access = Access::WRITE_OK | Access::EXEC_OK;
    if manner.sync == Sync::Yes {
        // What cannot be opened for reading cannot be synced.
        access |= Access::READ_OK;
    }
    let attributes = folder.stat.stx_attributes;
    let look = || match rustix::fs::accessat(&*folder.opened, ".", access, AtFlags::EACCESS) {
        Err(Errno::PERM) if attributes.contains(StatxAttributes::IMMUTABLE) => {
            let name = if name.is_empty() { "." } else { name };
            Err(Blocked::by(Obstacle::Immutable, name).into())
        }
        result => Ok(result?),
    };
    allowed.look((folder.identity(), access), look)
}

/// Opens what has a name in a folder to read it, if it is a regular file. Anything else is not
/// opened at all: to be opened lets whoever waits at the other end of a pipe go on, and does
/// something to some devices. Whoever gets it looks once more, since another one may have come in
/// its place meanwhile; that can hold nobody up either.
fn open_regular(folder: &OwnedFd, name: &str) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let at = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let opened = match rustix::fs::statx(folder, name, at, StatxFlags::TYPE) {
        Ok(found) if FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile => {
            rustix::fs::openat(folder, name, flags | OFlags::NOCTTY, Mode::empty())
        }
        Ok(_) => return Ok(None),
        Err(error) => Err(error),
    };
    match opened {
        Ok(opened) => Ok(Some(opened)),
        // Nothing, or since then a link, a socket, a device without a driver.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::NAMETOOLONG) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
