//! How a finished upload gets its name.
//!
//! The folder of its destination is found, and made where it may be; the file is given what its
//! folder gives ([`super::inherit`]), and moved there in one step. These are calls of some
//! microseconds each, and the [`super::lane`] of the disk makes them in one go. Only syncs go by
//! the ring.
//!
//! A big file that is replaced is held open meanwhile, and closed by the lane. Otherwise the kernel
//! would free its space within the rename, which took 137 to 184 ms for 1 GiB on ext4 without a
//! journal and with `discard`. The descriptor that holds it can do nothing else (`O_PATH`), so
//! nobody who watches the folder hears of it. For the same reason the file is not cut into pieces:
//! watchers would hear that a file of that name was written to.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, StatxFlags};
use rustix::io::Errno;

use super::freeing;
use super::inherit::{Given, Moving, give_folder_mode};
use super::lane::Lane;
use super::mark;
use super::op::{self, SyncScope};
use super::sealed::Sealed;
use super::stamp;
use super::tree::{Trees, is_no_file};
use super::walk::{self, Folder, Identity, Walk};
use super::work_folder::hold::OTHERS_WRITE;
use super::work_folder::{ours, path_of};
use crate::bits::reply::Obstacle;
use crate::diagnosis::{self, Blocked, PartChanged, PartTouched, Unmovable};
use crate::vault::disk::{Manner, Parents, Place, Published, Replace, Sync};

/// Permissions of a folder, before the umask.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);
/// How often a publication begins again because folders on its way were renamed or removed
/// meanwhile.
const TRIES_MAX: usize = 8;

/// A publication under way.
struct Publication {
    trees: Arc<Trees>,
    from: Arc<OwnedFd>,
    name: String,
    place: Place,
    manner: Manner,
    made: Made,
    tries: usize,
    /// Folders that may still be made in this try: more than there are names, and somebody removes
    /// what we make.
    steps: usize,
}

/// How far it has come.
enum Progress {
    /// The file has its name.
    Moved(Moved),
    /// A folder was made in this one, whose name must survive a power cut before it goes on.
    SyncFirst(OwnedFd),
}

/// A file that was moved.
struct Moved {
    to: Arc<OwnedFd>,
    given: Option<Given>,
    /// The big file that stood there.
    replaced: Option<OwnedFd>,
}

/// See [`crate::vault::disk::Disk::publish`].
///
/// # Errors
/// What the kernel says, or rather why.
pub async fn publish(
    trees: &Arc<Trees>,
    lane: &Lane,
    from: &Arc<OwnedFd>,
    name: &str,
    place: &Place,
    manner: Manner,
) -> io::Result<RingPublished> {
    lane.admit()?;
    let mut publication = Publication {
        trees: Arc::clone(trees),
        from: Arc::clone(from),
        name: name.to_owned(),
        place: place.clone(),
        manner,
        made: Made::default(),
        tries: 1,
        steps: steps(place),
    };
    let mut synced = Ok(());
    let moved = loop {
        let step = move || {
            let progress = publication.go_on(synced);
            Ok((publication, progress))
        };
        let (same, progress) = lane.go_on("publish", step).await?;
        publication = same;
        match progress? {
            Progress::Moved(moved) => break moved,
            Progress::SyncFirst(folder) => {
                synced = Box::pin(op::sync_folder(&Rc::new(folder))).await;
            }
        }
    };
    if let Some(replaced) = moved.replaced {
        Box::pin(lane.free(replaced)).await;
    }
    Ok(RingPublished {
        folder: moved.to,
        given: moved.given,
    })
}

fn is_regular(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::RegularFile
}

fn steps(place: &Place) -> usize {
    place.path.as_str().split('/').count() + TRIES_MAX
}

impl Publication {
    /// Goes on as far as it can without a sync; `synced` is how the last one went. After an error
    /// nothing is left of it.
    fn go_on(&mut self, synced: io::Result<()>) -> io::Result<Progress> {
        let mut result = synced.and_then(|()| self.attempt());
        while let Err(error) = &result {
            // Another publication that failed took its empty folders away, in which this one found
            // its way.
            let may_try_again = error.kind() == io::ErrorKind::NotFound
                && self.manner.parents != Parents::MustExist
                && self.tries < TRIES_MAX
                && self.has_part();
            if !may_try_again {
                break;
            }
            self.tries += 1;
            self.steps = steps(&self.place);
            result = self.attempt();
        }
        let error = match result {
            Ok(progress) => return Ok(progress),
            Err(error) => error,
        };
        self.made.undo();
        if let Some(why) = self.why_it_stays(&error) {
            return Err(Unmovable(why).into());
        }
        // An errno says what could not be done, a look at the place mostly why.
        match (self.trees).look_up(&self.place, Some(self.manner), &self.from) {
            Err(cause) if diagnosis::obstacle_in(&cause).is_some() => Err(cause),
            _ => Err(error),
        }
    }

    /// Where the kernel forbids a move, it may mean what is moved as well as where to.
    fn why_it_stays(&self, error: &io::Error) -> Option<String> {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return None;
        }
        let work = path_of(&self.from);
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if let Some(sealed) = Sealed::of_folder(&self.from) {
            return Some(sealed.in_words(&work));
        }
        if let Some(sealed) = Sealed::of_name(&self.from, &self.name) {
            return Some(sealed.in_words(&work.join(&self.name)));
        }
        let denied = rustix::fs::accessat(&*self.from, ".", access, AtFlags::EACCESS).err()?;
        Some(format!("{}: {denied}", work.display()))
    }

    fn has_part(&self) -> bool {
        rustix::fs::statat(&self.from, &self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn attempt(&mut self) -> io::Result<Progress> {
        let folder = match self.arrive()? {
            Ok(folder) => folder,
            Err(sync_first) => return Ok(Progress::SyncFirst(sync_first)),
        };
        let part = rustix::fs::statat(&self.from, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let bytes = u64::try_from(part.st_size).ok();
        let is_as_written = is_regular(part.st_mode)
            && (self.manner.bytes).is_none_or(|expected| bytes == Some(expected));
        if !is_as_written {
            return Err(io::Error::other(PartChanged));
        }
        // What was tried here before has changed its times.
        if self.tries == 1 && (self.manner.left).is_some_and(|left| left != stamp::of(&part)) {
            return Err(io::Error::other(PartTouched));
        }
        if let Some(sha256) = &self.manner.sha256 {
            // While its mode is ours.
            mark::put(&self.from, &self.name, &part, sha256);
        }
        let had = self.trees.given_at_birth(&self.from)?;
        let moving = Moving {
            from: &self.from,
            name: &self.name,
            stat: &part,
            had: &had,
            own_group: self.trees.own_group(),
            mode: self.manner.file_mode,
        };
        let gifts = self.trees.gifts(&folder, had.labels())?;
        let gives = gifts.mode_max(self.manner.file_mode);
        ours::check_giving(&self.from, &self.name, &part, gives)?;
        let given = moving.give(&gifts)?;
        match self.move_to(&folder.opened) {
            Ok(replaced) => Ok(Progress::Moved(Moved {
                to: folder.opened,
                given,
                replaced,
            })),
            Err(error) => {
                if given.is_some() {
                    close_to_others((&self.from, &self.name));
                }
                Err(error)
            }
        }
    }

    /// Gives the file its name, and gives back what stood there if it is big.
    fn move_to(&self, to: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        match self.manner.replace {
            Replace::Existing => self.replace(to),
            Replace::Never => {
                let part = (&*self.from, &*self.name);
                move_to_free_name(part, (to, self.place.path.file_name()))?;
                Ok(None)
            }
        }
    }

    /// The same where a file gives way.
    fn replace(&self, to: &OwnedFd) -> io::Result<Option<OwnedFd>> {
        let name = self.place.path.file_name();
        let mut replaced = None;
        if let Ok(stands) = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            if is_no_file(stands.st_mode) {
                return Err(Blocked::by(Obstacle::NoFile, self.place.path.as_str()).into());
            }
            if freeing::occupied(&stands) >= freeing::BIG_BYTES_MIN {
                replaced = hold(to, name);
            }
        }
        rustix::fs::renameat(&self.from, &self.name, to, name)?;
        Ok(replaced)
    }

    /// Opens the folder of a destination for a file to be moved into it, and makes it where it may;
    /// `Err` is a folder that has to be synced first.
    fn arrive(&mut self) -> io::Result<Result<Folder, OwnedFd>> {
        let Self {
            trees,
            place,
            manner,
            made,
            steps,
            ..
        } = self;
        for _ in 0..TRIES_MAX {
            let mut walk = trees.walk(place)?;
            while !walk.go_on()? {
                if !manner.parents.may_make(walk.names_walked()) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                *steps = steps.checked_sub(1).ok_or_else(walk::restless)?;
                if let Some(sync_first) = made.make(&walk, *manner)? {
                    return Ok(Err(sync_first));
                }
            }
            // A descriptor that can be synced. It is opened before the rename: if there is none
            // left, it must be found out while the part still stands.
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
                return Ok(Ok(Folder { opened, stat }));
            }
        }
        Err(walk::restless())
    }
}

/// Keeps the space of a file from being freed with its name. Where that cannot be, it is.
///
/// It is held by its path only, and so its space is freed in one go. To free it piece by piece it
/// would have to be open for writing, and whoever watches the folder would be told of each change
/// and of the close, by the name of the file that has just come (`IN_EXCL_UNLINK` in inotify(7)).
fn hold(folder: &OwnedFd, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty()).ok()
}

/// Folders that were made for one publication, from the root down.
#[derive(Default)]
struct Made(Vec<MadeFolder>);

struct MadeFolder {
    parent: Arc<OwnedFd>,
    name: String,
    identity: Identity,
}

impl Made {
    /// Makes the folder that is next on a walk. Its name has to be made durable at once, in the
    /// folder that is given back: the folders beneath it would hang in the air without it.
    fn make(&mut self, walk: &Walk<'_>, manner: Manner) -> io::Result<Option<OwnedFd>> {
        let parent = Arc::clone(&walk.here().opened);
        let name = walk.next_name().expect("the walk is not at its end");
        let mode = manner
            .dir_mode
            .map_or(FOLDER_MODE, |mode| Mode::from_raw_mode(mode.into()));
        match rustix::fs::mkdirat(&*parent, name, mode) {
            // Somebody else was faster; it is theirs.
            Err(Errno::EXIST) => return Ok(None),
            result => result?,
        }
        let identity = identity_at(&parent, name)?;
        self.0.push(MadeFolder {
            parent: Arc::clone(&parent),
            name: name.to_owned(),
            identity,
        });
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Some(mode) = manner.dir_mode {
            let folder = rustix::fs::openat(&*parent, name, flags, Mode::empty())?;
            give_folder_mode(&folder, mode)?;
        }
        match manner.sync {
            Sync::Yes => {
                let readable = rustix::fs::openat(&*parent, ".", flags, Mode::empty())?;
                Ok(Some(readable))
            }
            Sync::No => Ok(None),
        }
    }

    /// Removes them, but for those that somebody else has put something into meanwhile.
    fn undo(&mut self) {
        while let Some(MadeFolder {
            parent,
            name,
            identity,
        }) = self.0.pop()
        {
            if identity_at(&parent, &name).is_ok_and(|stands| stands == identity) {
                // The kernel removes only what is empty.
                let _ = rustix::fs::unlinkat(&*parent, &name, AtFlags::REMOVEDIR);
            }
        }
    }
}

/// A file that has just got its name.
pub struct RingPublished {
    /// The folder, opened for reading where it has to be synced.
    folder: Arc<OwnedFd>,
    /// What it got from its folder.
    given: Option<Given>,
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
        op::sync_folder(&self.folder).await
    }
}

/// Makes the file of that inode a part again, which has its name in this folder; `false` if it has
/// it no more.
///
/// # Errors
/// What the kernel says.
pub fn take_back(
    folder: &OwnedFd,
    name: &str,
    part: (&OwnedFd, &str),
    inode: u64,
) -> io::Result<bool> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(file) if file.st_ino == inode => {
            move_to_free_name((folder, name), part)?;
            let (shelf, taken) = part;
            let moved = rustix::fs::statat(shelf, taken, AtFlags::SYMLINK_NOFOLLOW)?;
            if moved.st_ino == inode {
                close_to_others(part);
                return Ok(true);
            }
            // Another one has replaced it in this very moment.
            move_to_free_name(part, (folder, name))?;
            Ok(false)
        }
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What was given to a file with its name is no right to a part: it would be taken for one that
/// somebody has opened to others.
fn close_to_others((folder, name): (&OwnedFd, &str)) {
    let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return;
    };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if is_regular(stat.st_mode) && mode.intersects(OTHERS_WRITE) {
        let closed = mode.difference(OTHERS_WRITE);
        let _best_effort = rustix::fs::chmodat(folder, name, closed, AtFlags::empty());
    }
}

/// Moves a file to a name that nothing may have.
fn move_to_free_name(from: (&OwnedFd, &str), to: (&OwnedFd, &str)) -> io::Result<()> {
    let ((from, name), (to, new)) = (from, to);
    match rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE) {
        // The file system does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) => link_to_free_name((from, name), (to, new)),
        result => Ok(result?),
    }
}

/// The same in two steps: a link refuses to replace just as well. Whoever was ended between them,
/// or could not take the second, goes on where the file has both names.
fn link_to_free_name(from: (&OwnedFd, &str), to: (&OwnedFd, &str)) -> io::Result<()> {
    let ((folder, name), (other, new)) = (from, to);
    match rustix::fs::linkat(folder, name, other, new, AtFlags::empty()) {
        Err(Errno::EXIST) if is_one_file(from, to)? => {}
        linked => linked?,
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        // Over a network the call came twice, and the first time was not heard of.
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// Whether two names are of one file.
fn is_one_file(one: (&OwnedFd, &str), other: (&OwnedFd, &str)) -> io::Result<bool> {
    Ok(identity_at(one.0, one.1)? == identity_at(other.0, other.1)?)
}

/// What has a name in a folder; of a link, the link itself.
fn identity_at(folder: &OwnedFd, name: &str) -> io::Result<Identity> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Identity::of(&stat))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Goal: a server that was ended between the two steps comes to its end with the next Close.
    #[test]
    fn what_has_both_names_is_moved_and_another_file_is_not_replaced() {
        let place = tempfile::tempdir().unwrap();
        let folder = OwnedFd::from(fs::File::open(place.path()).unwrap());
        let at = |name: &str| place.path().join(name);
        fs::write(at("a.part"), "it").unwrap();
        fs::hard_link(at("a.part"), at("a")).unwrap();
        link_to_free_name((&folder, "a.part"), (&folder, "a")).unwrap();
        assert!(!at("a.part").exists() && fs::read(at("a")).unwrap() == b"it");

        fs::write(at("b.part"), "mine").unwrap();
        fs::write(at("b"), "theirs").unwrap();
        let refused = link_to_free_name((&folder, "b.part"), (&folder, "b"));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(at("b.part").exists() && fs::read(at("b")).unwrap() == b"theirs");

        fs::write(at("c.part"), "it").unwrap();
        link_to_free_name((&folder, "c.part"), (&folder, "c")).unwrap();
        assert!(!at("c.part").exists() && fs::read(at("c")).unwrap() == b"it");
    }
}
