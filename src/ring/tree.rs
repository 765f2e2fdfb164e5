//! The trees of destinations: what stands there, and how a finished upload gets its name in one of them.
//!
//! Each location has a root, and each root a shelf on its file system, so that a file gets its name in one step. How a
//! destination is found beneath its root stands in [`super::walk`]. Names are plain system calls on the shard:
//! the kernel would hand each of them to a worker thread of the ring, for a call of a few microseconds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RenameFlags, Statx, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::inherit::{Gifts, Given, Labels, Moving, give_folder_mode};
use super::op::{self, SyncScope};
use super::recent::Recent;
use super::shelves::SharedShelves;
use super::walk::{self, Folder, Identity, NoWay, Walk, look_at};
use crate::bits::reply::Obstacle;
use crate::diagnosis::{self, Blocked};
use crate::vault::disk::{Manner, Parents, Place, Published, Replace, Standing, Sync};

/// Permissions of a folder, before the umask.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);
/// How often a publication begins again because folders on its way were renamed or removed meanwhile.
const TRIES_MAX: usize = 8;

/// The roots of all locations, as one shard has them open.
pub struct Trees {
    /// By their numbers in the settings, which never become those of other roots.
    roots: RefCell<BTreeMap<usize, Rc<OwnedFd>>>,
    shelves: SharedShelves,
    /// Where no upload may go: the shelves, as they were at this count of changes.
    reserved: RefCell<Option<(u64, Rc<[Identity]>)>>,
    /// As whom we make and replace files.
    user: u32,
    group: u32,
    /// What files have from the shelf that they were made on, once that was looked at; at this count of changes.
    given_at_birth: RefCell<(u64, BTreeMap<RawFd, Rc<Gifts>>)>,
    /// The root that was last looked at, by its number.
    root_seen: Recent<usize, Folder>,
    /// What the folder that was last published into gives to its files.
    gifts_seen: Recent<Identity, Rc<Gifts>>,
    /// The folder in which files may be made, and how.
    allowed: Recent<(Identity, Access), ()>,
    /// Whether we may replace what is somebody else's in a sticky folder.
    owns_all: bool,
}

impl Trees {
    /// Takes the open roots, in the order of the settings, and the shelves.
    pub fn new(roots: Vec<OwnedFd>, shelves: SharedShelves) -> Self {
        let capabilities = rustix::thread::capabilities(None);
        Self {
            roots: RefCell::new(roots.into_iter().map(Rc::new).enumerate().collect()),
            reserved: RefCell::default(),
            shelves,
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            given_at_birth: RefCell::default(),
            root_seen: Recent::default(),
            gifts_seen: Recent::default(),
            allowed: Recent::default(),
            owns_all: capabilities.is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER)),
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
        self.root_seen.forget();
        self.roots
            .borrow_mut()
            .retain(|number, _| is_needed(*number));
    }

    fn root(&self, place: &Place) -> io::Result<Rc<OwnedFd>> {
        let roots = self.roots.borrow();
        let root = roots.get(&place.root).cloned();
        root.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the location has no root"))
    }

    fn walk<'p>(&self, place: &'p Place) -> io::Result<Walk<'p>> {
        let path = place.path.parent().unwrap_or_default();
        let look = || Folder::new(self.root(place)?);
        let root = self.root_seen.look(place.root, look)?;
        Ok(Walk::begin(root, path, self.reserved()?))
    }

    /// The shelves, which change hardly ever.
    fn reserved(&self) -> io::Result<Rc<[Identity]>> {
        let changes = self.shelves.changes();
        if let Some((known, reserved)) = &*self.reserved.borrow()
            && *known == changes
        {
            return Ok(Rc::clone(reserved));
        }
        let shelves = self.shelves.all();
        let identities = shelves
            .iter()
            .map(|shelf| Ok(Identity::of(&look_at(shelf)?)));
        let reserved: Rc<[Identity]> = identities.collect::<io::Result<_>>()?;
        *self.reserved.borrow_mut() = Some((changes, Rc::clone(&reserved)));
        Ok(reserved)
    }

    /// See [`crate::vault::disk::Disk::look_up`].
    pub fn look_up(&self, place: &Place, before: Option<Manner>) -> io::Result<Standing> {
        let mut walk = self.walk(place)?;
        let has_arrived = match walk.go_on() {
            Ok(has_arrived) => has_arrived,
            Err(NoWay::Reserved(_)) => return Ok(Standing::Reserved),
            Err(NoWay::Failed(error)) => return Err(error),
        };
        let (folder, folder_name) = (walk.here(), walk.here_name());
        if !has_arrived {
            if let Some(manner) = before
                && manner.parents == Parents::Create
            {
                may_make_in(folder, folder_name, manner, &self.allowed)?;
            }
            return Ok(Standing::NoParent);
        }
        if let Some(manner) = before {
            may_make_in(folder, folder_name, manner, &self.allowed)?;
        }
        let file_name = place.path.file_name();
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let file = match rustix::fs::statx(&*folder.opened, file_name, flags, mask) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Standing::Free),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(file.stx_mode.into()) == FileType::Directory {
            return Ok(Standing::Directory);
        }
        if before.is_some_and(|manner| manner.replace == Replace::Existing) {
            self.may_replace(&file, place, &folder.stat)?;
        }
        // A link is a name that is taken; it is never followed.
        Ok(Standing::File {
            inode: file.stx_ino,
        })
    }

    /// See [`crate::vault::disk::Disk::open_published`]. It goes the way of an upload to the folder, and follows no link
    /// to the file itself.
    pub fn open_file(&self, place: &Place) -> io::Result<Option<OwnedFd>> {
        let mut walk = self.walk(place)?;
        match walk.go_on() {
            Ok(true) => {}
            Ok(false) | Err(NoWay::Reserved(_)) => return Ok(None),
            // A link that leads out or in circles, and a file for a folder: there is nothing for whoever asks.
            Err(NoWay::Failed(error)) => {
                return match error.raw_os_error().map(Errno::from_raw_os_error) {
                    None | Some(Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => {
                        Ok(None)
                    }
                    Some(_) => Err(error),
                };
            }
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let name = place.path.file_name();
        match rustix::fs::openat(&*walk.here().opened, name, flags, Mode::empty()) {
            Ok(opened) => Ok(Some(opened)),
            // Nothing, a link, a socket, a device without a driver.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::NAMETOOLONG) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What the kernel asks before it lets a file be replaced (`may_delete` of its source, and what is a mount). A pipe, a
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
        if is_sticky && !owners.contains(&self.user) && !self.owns_all {
            return Err(Blocked::by(Obstacle::Sticky, folder_name));
        }
        if file.stx_mnt_id != folder.stx_mnt_id {
            return Err(Blocked::by(Obstacle::InUse, name));
        }
        Ok(())
    }

    /// See [`crate::vault::disk::Disk::publish`].
    pub async fn publish(
        &self,
        from: &OwnedFd,
        name: &str,
        place: &Place,
        manner: Manner,
    ) -> io::Result<RingPublished> {
        let mut made = Made::default();
        let mut tries = 0;
        let error = loop {
            tries += 1;
            match self
                .try_to_publish(from, name, place, manner, &mut made)
                .await
            {
                Ok(moved) => {
                    return Ok(RingPublished {
                        folder: moved.to,
                        name: place.path.file_name().to_owned(),
                        inode: moved.inode,
                        given: moved.given,
                        made,
                    });
                }
                // Another publication that failed took its empty folders away, in which this one found its way.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && manner.parents == Parents::Create
                        && tries < TRIES_MAX
                        && has_part(from, name) => {}
                Err(error) => break error,
            }
        };
        made.undo();
        // An errno says what could not be done, a look at the place mostly why.
        match self.look_up(place, Some(manner)) {
            Err(cause) if diagnosis::obstacle_in(&cause).is_some() => Err(cause),
            _ => Err(error),
        }
    }

    async fn try_to_publish(
        &self,
        from: &OwnedFd,
        name: &str,
        place: &Place,
        manner: Manner,
        made: &mut Made,
    ) -> io::Result<Moved> {
        let folder = self.arrive(place, manner, made).await?;
        let (to, file_name) = (&*folder.opened, place.path.file_name());
        let part = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let had = self.given_at_birth(from)?;
        let moving = Moving {
            from,
            name,
            stat: &part,
            had: &had,
            own_group: self.group,
            mode: manner.file_mode,
        };
        let look = || Ok(Rc::new(Gifts::of(to, &folder.stat, had.labels())?));
        let gifts = self.gifts_seen.look(folder.identity(), look)?;
        let given = moving.give(&gifts)?;
        let moved = Moved {
            to: Rc::clone(&folder.opened),
            inode: part.st_ino,
            given,
        };
        if manner.replace == Replace::Existing {
            let stands = rustix::fs::statat(to, file_name, AtFlags::SYMLINK_NOFOLLOW);
            if stands.is_ok_and(|file| is_no_file(file.st_mode)) {
                return Err(Blocked::by(Obstacle::NoFile, place.path.as_str()).into());
            }
            rustix::fs::renameat(from, name, to, file_name)?;
            return Ok(moved);
        }
        match rustix::fs::renameat_with(from, name, to, file_name, RenameFlags::NOREPLACE) {
            // The file system does not know the flag; a link refuses to replace just as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(from, name, to, file_name, AtFlags::empty())?;
                rustix::fs::unlinkat(from, name, AtFlags::empty())?;
            }
            result => result?,
        }
        Ok(moved)
    }

    /// What the folder gave to the files in it when they were made.
    fn given_at_birth(&self, from: &OwnedFd) -> io::Result<Rc<Gifts>> {
        let changes = self.shelves.changes();
        let mut given = self.given_at_birth.borrow_mut();
        if given.0 != changes {
            *given = (changes, BTreeMap::new());
        }
        if let Some(gifts) = given.1.get(&from.as_raw_fd()) {
            return Ok(Rc::clone(gifts));
        }
        let gifts = Rc::new(Gifts::of(from, &look_at(from)?, Labels::Known)?);
        given.1.insert(from.as_raw_fd(), Rc::clone(&gifts));
        Ok(gifts)
    }

    /// Opens the folder of a destination for a file to be moved into it, and makes it where it may.
    async fn arrive(&self, place: &Place, manner: Manner, made: &mut Made) -> io::Result<Folder> {
        for _ in 0..TRIES_MAX {
            let mut walk = self.walk(place)?;
            // More than there are names, and somebody removes what we make.
            let mut steps = place.path.as_str().split('/').count() + TRIES_MAX;
            while !walk.go_on()? {
                if manner.parents == Parents::MustExist {
                    return Err(io::ErrorKind::NotFound.into());
                }
                steps = steps.checked_sub(1).ok_or_else(walk::restless)?;
                made.make(&walk, manner).await?;
            }
            // A descriptor that can be synced. It is opened before the rename: if there is none left, it must be found out
            // while the part still stands.
            let opened = match walk.open_from_root(OFlags::RDONLY) {
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied
                        && manner.sync == Sync::No =>
                {
                    walk.open_from_root(OFlags::PATH)?
                }
                result => result?,
            };
            if let Some(opened) = opened {
                let stat = walk.here().stat;
                return Ok(Folder { opened, stat });
            }
        }
        Err(walk::restless())
    }

    /// See [`crate::vault::disk::Disk::sync_destination`].
    pub async fn sync_destination(&self, place: &Place) -> io::Result<()> {
        let mut walk = self.walk(place)?;
        if !walk.go_on()? {
            return Err(io::ErrorKind::NotFound.into());
        }
        let folder = walk.open_from_root(OFlags::RDONLY)?;
        let folder = folder.ok_or(io::ErrorKind::NotFound)?;
        op::sync(&folder, SyncScope::All).await
    }
}

/// Neither a file, nor a folder, nor a link.
fn is_no_file(mode: u32) -> bool {
    use FileType::{BlockDevice, CharacterDevice, Fifo, Socket};
    let kind = FileType::from_raw_mode(mode);
    matches!(kind, BlockDevice | CharacterDevice | Fifo | Socket)
}

fn has_part(work: &OwnedFd, name: &str) -> bool {
    rustix::fs::statat(work, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
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

/// Folders that were made for one publication, from the root down.
#[derive(Default)]
struct Made(Vec<MadeFolder>);

struct MadeFolder {
    parent: Rc<OwnedFd>,
    name: String,
    identity: Identity,
}

impl Made {
    /// Makes the folder that is next on a walk. Its name is made durable at once: the folders beneath it would hang in the
    /// air without it.
    async fn make(&mut self, walk: &Walk<'_>, manner: Manner) -> io::Result<()> {
        let parent = Rc::clone(&walk.here().opened);
        let name = walk.next_name().expect("the walk is not at its end");
        let mode = manner
            .dir_mode
            .map_or(FOLDER_MODE, |mode| Mode::from_raw_mode(mode.into()));
        match rustix::fs::mkdirat(&*parent, name, mode) {
            // Somebody else was faster; it is theirs.
            Err(Errno::EXIST) => return Ok(()),
            result => result?,
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statx(&*parent, name, flags, StatxFlags::BASIC_STATS)?;
        self.0.push(MadeFolder {
            parent: Rc::clone(&parent),
            name: name.to_owned(),
            identity: Identity::of(&stat),
        });
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Some(mode) = manner.dir_mode {
            let folder = rustix::fs::openat(&*parent, name, flags, Mode::empty())?;
            give_folder_mode(&folder, mode)?;
        }
        if manner.sync == Sync::Yes {
            let readable = rustix::fs::openat(&*parent, ".", flags, Mode::empty())?;
            op::sync(&Rc::new(readable), SyncScope::All).await?;
        }
        Ok(())
    }

    /// Removes them, but for those that somebody else has put something into meanwhile.
    fn undo(&mut self) {
        while let Some(MadeFolder {
            parent,
            name,
            identity,
        }) = self.0.pop()
        {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stands = rustix::fs::statx(&*parent, &name, flags, StatxFlags::BASIC_STATS);
            if stands.is_ok_and(|stat| Identity::of(&stat) == identity) {
                // The kernel removes only what is empty.
                let _ = rustix::fs::unlinkat(&*parent, &name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// A file that was moved.
struct Moved {
    to: Rc<OwnedFd>,
    inode: u64,
    given: Option<Given>,
}

/// A file that has just got its name.
pub struct RingPublished {
    /// The folder, opened for reading where it has to be synced.
    folder: Rc<OwnedFd>,
    name: String,
    inode: u64,
    /// What it got from its folder.
    given: Option<Given>,
    made: Made,
}

impl RingPublished {
    /// What its folder gives and it could not be given, and why.
    pub fn not_given(&self) -> &[(&'static str, io::Error)] {
        self.given.as_ref().map_or(&[], |given| &given.refused)
    }
}

impl Published for RingPublished {
    async fn sync(&self) -> io::Result<()> {
        if let Some(given) = &self.given {
            // Group, mode and ACL are written with the file, and not with its name.
            op::sync(&given.file, SyncScope::All).await?;
        }
        op::sync(&self.folder, SyncScope::All).await
    }

    async fn undo(&mut self) -> io::Result<()> {
        let stands = rustix::fs::statat(&*self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        match stands {
            Ok(file) if file.st_ino == self.inode => {
                rustix::fs::unlinkat(&*self.folder, &self.name, AtFlags::empty())?;
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.made.undo();
        Ok(())
    }
}
