//! Whether a folder that was opened at start is still what its path leads to.
//!
//! A descriptor goes on working when its folder is renamed, removed, or hidden by a disk that is
//! mounted over it. What is published then is where nobody looks. So roots and shelves are looked
//! at again. A thread of its own looks at all of them every few seconds, since a dead network file
//! system may hold it up for long. And a shard looks at a root before each publication; a busy one
//! trusts what it saw a moment ago (`recent`).
//!
//! Device and inode say whether it is the same folder. The number of the mount does not matter: the
//! same folder mounted once more is the same folder. A folder of the server's own has to be ours
//! alone besides ([`super::work_folder::hold`]).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD, Statx, StatxFlags};
use rustix::io::Errno;

use super::account;
use super::mounts;
use super::sealed::Sealed;
use super::walk::Identity;
use super::work_folder::hold::{self, Hold};
use super::work_folder::{WorkFolder, path_of};
use crate::diagnosis::Displaced;

/// A folder, and the path that led to it.
#[derive(Debug)]
pub struct Spot {
    path: PathBuf,
    folder: Mutex<Known>,
    is_in_place: AtomicBool,
    /// It has to be ours alone.
    is_ours: bool,
    /// Which file in it is not, as it was last seen.
    exposed: Mutex<Option<String>>,
    /// Its file system has given up writing, as it was last seen.
    is_frozen: AtomicBool,
}

/// What is known of the folder that stands for a path.
#[derive(Clone, Debug)]
struct Known {
    folder: Arc<OwnedFd>,
    /// What tells it from others; that never changes, so it is asked for once.
    identity: Option<Identity>,
    /// Its name when it was opened, without links.
    real: PathBuf,
}

/// What a path leads to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The folder that was opened.
    Same,
    /// Nothing; the folder was renamed, and this is its path now.
    Renamed(PathBuf),
    /// Nothing that is the folder, which has its name still: a file system was mounted above it.
    Hidden,
    /// Something else; the folder has its name still, and a link that led to it does no more.
    LedAstray(PathBuf),
    /// Another folder, on the file system of the one that was opened.
    Another,
    /// Another file system: something is mounted there, or no longer.
    OtherFileSystem,
    /// Nothing or another folder; the file system of the one that was opened was unmounted although
    /// it is in use (`umount -l`), and no path leads there.
    Unmounted,
    /// Nothing or another folder, and the one that was opened is removed.
    Removed,
    /// The folder that was opened, which was ours and belongs to this user now.
    Elses(u32),
    /// The same, which others may write to now; its mode.
    Open(u32),
    /// A root, which the server's user may not write to or go through now.
    Shut,
    /// A folder of ours, out of which nothing can be moved now; or a root, which takes no name now.
    Sealed(Sealed),
    /// It is on a file system that takes nothing any more.
    ReadOnly,
    /// A folder of ours with a file in it that is not ours alone now; which, and what helps.
    Exposed(String),
    /// It cannot be looked at.
    Unknown(Errno),
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Same => f.write_str("it is the folder that was opened at start"),
            Self::Renamed(path) => write!(f, "it was renamed to {}", path.display()),
            Self::Hidden => f.write_str("a file system was mounted above it, and hides it"),
            Self::LedAstray(path) => write!(
                f,
                "a link on the way to it leads elsewhere now, and no longer to {}",
                path.display()
            ),
            Self::Another => f.write_str("another folder has its place"),
            Self::OtherFileSystem => f.write_str(
                "another file system has its place: one was mounted there, or taken away",
            ),
            Self::Unmounted => f.write_str("its file system was unmounted (`umount -l`)"),
            Self::Removed => f.write_str("it was removed"),
            Self::Elses(owner) => write!(f, "it belongs to {} now", account::user(*owner)),
            Self::Open(mode) => write!(
                f,
                "others than {} may write to it now (mode {mode:04o})",
                account::us()
            ),
            Self::Shut => write!(f, "{} may no longer write to it", account::us()),
            Self::Sealed(sealed) => write!(
                f,
                "it is {} now, so that no upload can get its name",
                sealed.word()
            ),
            Self::ReadOnly => f.write_str("its file system is read-only now"),
            Self::Exposed(why) => f.write_str(why),
            Self::Unknown(error) => write!(f, "it cannot be looked at: {error}"),
        }
    }
}

impl Seen {
    /// What helps.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Same => "nothing is to be done",
            Self::Renamed(_) => "give it its name back, or restart the server with new settings",
            Self::Another => {
                "put the folder back that was there, or restart the server (unfinished uploads in the old one wait until that \
                 is used again)"
            }
            Self::OtherFileSystem | Self::Hidden => {
                "undo the mount, or restart the server to use what is there now (unfinished uploads stay in the folder \
                 beneath, and wait until that is used again)"
            }
            Self::LedAstray(_) => {
                "let the link lead there again, or restart the server to use what it leads to now (unfinished uploads stay \
                 in the folder that it led to, and wait until that is used again)"
            }
            Self::Unmounted => {
                "mount it again; where it is another disk then, restart the server (unfinished uploads in the old one wait \
                 until that is used again)"
            }
            Self::Removed => "make it again, if nothing stands there, and restart the server",
            Self::Elses(_) => {
                "give it back to the server's user (`chown -R`), if nobody else has put anything there: \
                 what stands in it is published with the server's rights"
            }
            Self::Open(_) => {
                "close it (`chmod -R go-w`), if nobody else has put anything there: what stands in it is \
                 published with the server's rights"
            }
            Self::Shut => {
                "give the server's user the right to write to it back (`chmod u+rwx`, `chown`)"
            }
            Self::Sealed(_) => "take the attribute off (`lsattr -d`, `chattr -a -i`)",
            Self::ReadOnly => {
                "look at `dmesg` for an error that made it so, check it (`fsck`), and remount it writable"
            }
            Self::Exposed(_) => "until then the next start refuses the folder",
            Self::Unknown(Errno::IO) => {
                "the device or the file system failed: look at `dmesg`, mend it, mount it again, and restart the server"
            }
            Self::Unknown(_) => "look at the file system and at the rights on the way to it",
        }
    }
}

impl Spot {
    /// A folder that was just opened by this path.
    pub fn new(path: &Path, folder: Arc<OwnedFd>) -> Self {
        Self {
            path: path.to_owned(),
            folder: Mutex::new(Known::of(folder)),
            is_in_place: AtomicBool::new(true),
            is_ours: false,
            exposed: Mutex::default(),
            is_frozen: AtomicBool::new(false),
        }
    }

    /// A folder of ours that was just opened.
    pub fn of_ours(folder: &WorkFolder) -> Self {
        Self {
            is_ours: true,
            ..Self::new(folder.path(), Arc::clone(folder.descriptor()))
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that stands for it.
    pub fn folder(&self) -> Arc<OwnedFd> {
        let known = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.folder)
    }

    /// What tells it from others; `None` if that could not be asked when it was opened.
    pub fn identity(&self) -> Option<Identity> {
        let known = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        known.identity
    }

    /// Another folder stands for it from now on.
    pub fn replace(&self, folder: Arc<OwnedFd>) {
        *self.folder.lock().unwrap_or_else(PoisonError::into_inner) = Known::of(folder);
        self.is_in_place.store(true, Ordering::Relaxed);
    }

    /// Whether a file in it is not ours alone, which is looked at less often; in words.
    pub fn note_exposed(&self, why: Option<String>) {
        *self.exposed.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Whether its file system has given up writing, which only the list of mounts tells.
    pub fn note_frozen(&self, is_frozen: bool) {
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
    }

    /// What was seen last.
    pub fn is_in_place(&self) -> bool {
        self.is_in_place.load(Ordering::Relaxed)
    }

    /// Looks where the path leads now.
    pub fn look(&self) -> Seen {
        let identity = {
            let known = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
            known.identity
        };
        // The usual case costs one call.
        let seen = match stat_at(&self.path) {
            Ok(Some(there)) if Some(Identity::of(&there)) == identity => self.same(&there),
            _ => {
                let known = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
                let known = known.clone();
                self.look_closely(&known).unwrap_or_else(Seen::Unknown)
            }
        };
        self.is_in_place
            .store(seen == Seen::Same, Ordering::Relaxed);
        seen
    }

    /// It is the folder that was opened; whether it has to be ours alone, and is.
    fn same(&self, stat: &Statx) -> Seen {
        if self.is_ours {
            match hold::of(stat.stx_uid, stat.stx_mode.into()) {
                Hold::Ours => {}
                Hold::Elses(owner) => return Seen::Elses(owner),
                Hold::Open(mode) => return Seen::Open(mode),
            }
        }
        match Sealed::of(stat) {
            // Files get names in an append-only root, and a start takes it.
            Some(Sealed::AppendOnly) if !self.is_ours => {}
            Some(sealed) => return Seen::Sealed(sealed),
            None => {}
        }
        // A start would refuse it so.
        let access = Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::accessat(CWD, &self.path, access, AtFlags::EACCESS) {
            Err(Errno::ACCESS) if !self.is_ours => return Seen::Shut,
            Err(Errno::ROFS) => return Seen::ReadOnly,
            _ if self.is_frozen.load(Ordering::Relaxed) => return Seen::ReadOnly,
            _ => {}
        }
        let exposed = self.exposed.lock().unwrap_or_else(PoisonError::into_inner);
        exposed.clone().map_or(Seen::Same, Seen::Exposed)
    }

    fn look_closely(&self, known: &Known) -> Result<Seen, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let asked = ASKED | StatxFlags::NLINK | StatxFlags::MNT_ID;
        let opened = rustix::fs::statx(&*known.folder, "", flags, asked)?;
        let there = stat_at(&self.path)?.map(|there| Identity::of(&there));
        let opened_as = Identity::of(&opened);
        Ok(match there {
            Some(there) if there == opened_as => self.same(&opened),
            _ if opened.stx_nlink == 0 => Seen::Removed,
            // It is where it was: so the path has a link in it, and that is another one.
            _ if known.is_at_its_name(opened_as) => Seen::LedAstray(known.real.clone()),
            // What `/proc` calls it begins at the top of its own file system then.
            _ if !is_mounted(&opened) => Seen::Unmounted,
            Some(there) if !there.is_on_device_of(&opened_as) => Seen::OtherFileSystem,
            Some(_) => Seen::Another,
            None => match path_of(&known.folder) {
                now if now == known.real => Seen::Hidden,
                now => Seen::Renamed(now),
            },
        })
    }

    /// Fails unless the path leads to the folder now.
    ///
    /// # Errors
    /// [`Displaced`].
    pub fn check(&self) -> io::Result<()> {
        match self.look() {
            Seen::Same => Ok(()),
            // It is there; the device says no.
            Seen::Unknown(Errno::IO) => Err(Errno::IO.into()),
            // As a write would find it.
            Seen::ReadOnly => Err(Errno::ROFS.into()),
            seen => {
                let (path, remedy) = (self.path.display(), seen.remedy());
                let why = format!("{path} is not what it was: {seen}");
                Err(Displaced { why, remedy }.into())
            }
        }
    }
}

impl Known {
    fn of(folder: Arc<OwnedFd>) -> Self {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(&*folder, "", flags, StatxFlags::INO);
        Self {
            identity: stat.ok().map(|stat| Identity::of(&stat)),
            real: path_of(&folder),
            folder,
        }
    }

    fn is_at_its_name(&self, identity: Identity) -> bool {
        let there = stat_at(&self.real);
        there.is_ok_and(|there| there.map(|there| Identity::of(&there)) == Some(identity))
    }
}

/// Whether the mount by which a folder was opened is there still; where that cannot be told, it is.
fn is_mounted(opened: &Statx) -> bool {
    mounts::id_in(opened).is_none_or(|id| mounts::is_there(id).unwrap_or(true))
}

/// What tells a folder from others, and says whose it is.
const ASKED: StatxFlags = StatxFlags::INO
    .union(StatxFlags::UID)
    .union(StatxFlags::MODE);

/// What a path leads to; `None` if to nothing.
fn stat_at(path: &Path) -> Result<Option<Statx>, Errno> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(rustix::fs::CWD, path, flags, ASKED) {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spot(path: &Path) -> Spot {
        let folder = fs::File::open(path).unwrap();
        Spot::new(path, Arc::new(folder.into()))
    }

    #[test]
    fn what_is_done_to_a_folder_is_seen() {
        let place = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (place.path().join("root"), place.path().join("elsewhere"));
        fs::create_dir(&path).unwrap();
        let opened = spot(&path);
        assert_eq!(opened.look(), Seen::Same);
        opened.check().unwrap();
        fs::rename(&path, &elsewhere).unwrap();
        assert_eq!(opened.look(), Seen::Renamed(elsewhere.clone()));
        assert!(!opened.is_in_place());
        let refused = opened.check().unwrap_err();
        assert!(refused.get_ref().unwrap().is::<Displaced>());
        fs::create_dir(&path).unwrap();
        assert_eq!(opened.look(), Seen::Another);
        fs::remove_dir(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(opened.look(), Seen::Same);
        fs::remove_dir(&path).unwrap();
        assert_eq!(opened.look(), Seen::Removed);
        // Its number may be given to the new one as soon as nobody has it open; we do.
        fs::create_dir(&path).unwrap();
        assert_eq!(opened.look(), Seen::Removed);
        opened.replace(
            fs::File::open(&path)
                .map(|file| Arc::new(file.into()))
                .unwrap(),
        );
        assert_eq!(opened.look(), Seen::Same);
    }

    #[test]
    fn a_link_that_leads_elsewhere_renames_nothing() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let real = fs::canonicalize(place.path()).unwrap();
        let turn = |to: &str| {
            let _ = fs::remove_file(at("link"));
            std::os::unix::fs::symlink(to, at("link")).unwrap();
        };
        for name in ["one", "one/work", "two"] {
            fs::create_dir(at(name)).unwrap();
        }
        turn("one");
        let (root, work) = (spot(&at("link")), spot(&at("link/work")));
        assert_eq!([root.look(), work.look()], [Seen::Same, Seen::Same]);
        turn("two");
        assert_eq!(root.look(), Seen::LedAstray(real.join("one")));
        assert_eq!(work.look(), Seen::LedAstray(real.join("one/work")));
        assert!(work.check().is_err() && !root.is_in_place());
        // One that was renamed as well is what it is called now.
        fs::rename(at("one"), at("three")).unwrap();
        assert_eq!(work.look(), Seen::Renamed(real.join("three/work")));
        fs::rename(at("three"), at("one")).unwrap();
        turn("one");
        assert_eq!([root.look(), work.look()], [Seen::Same, Seen::Same]);
    }

    #[test]
    fn another_file_system_is_told_as_such() {
        let place = tempfile::tempdir().unwrap();
        let opened = spot(place.path());
        // As if it had had that name without a link.
        let named = |path: &Path| {
            let spot = Spot::new(path, opened.folder());
            path.clone_into(&mut spot.folder.lock().unwrap().real);
            spot
        };
        let other = named(Path::new("/proc"));
        assert_eq!(other.look(), Seen::OtherFileSystem);
        let nothing = named(&place.path().join("file/below"));
        fs::write(place.path().join("file"), "").unwrap();
        assert_eq!(nothing.look(), Seen::Renamed(place.path().to_owned()));
    }
}
