//! Looks at what is free on each file system, once a second. Each has a thread of its own: one on a
//! network may take its time, or never answer, and keeps nobody from looking at the others. It says
//! so in the log when too little is free, and when there is enough again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, StatVfs, StatxFlags};

use super::shelves::Shelves;
use super::work_folder::path_of;
use crate::begun::Begun;
use crate::vault::disk::Shelf;
use crate::vault::space::{Figures, Space};

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how long a start waits for the first figures of a file system.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);

/// The file systems that sessions are kept on.
#[derive(Clone)]
pub struct Spaces {
    watched: Arc<Watched>,
}

struct Watched {
    all: Mutex<Vec<Known>>,
    /// See [`Figures::wanting`].
    bytes_min: u64,
}

struct Known {
    /// Its major and minor number.
    device: (u32, u32),
    space: Arc<Space>,
    /// Open for as long as it is looked at, and closed at once when it is not any more.
    directory: Arc<OwnedFd>,
    /// It is that of the custody ledger, which stays where it is.
    has_ledger: bool,
}

/// What a thread looks at.
struct FileSystem {
    directory: Weak<OwnedFd>,
    /// Its path when it was opened, for a person: its mount may be gone since, with another one in
    /// its place.
    path: PathBuf,
    space: Arc<Space>,
}

impl Spaces {
    /// With none yet. Each is looked at until the last clone of this is gone.
    pub fn new(bytes_min: u64) -> Self {
        Self {
            watched: Arc::new(Watched {
                all: Mutex::default(),
                bytes_min,
            }),
        }
    }

    /// The space of the file system of a directory, which is looked at from now on. Never waits for
    /// its disk.
    ///
    /// # Errors
    /// What the kernel says, also where there is no thread for it.
    pub fn of(&self, directory: &OwnedFd) -> io::Result<Arc<Space>> {
        Ok(self.watch(directory)?.0)
    }

    /// [`Spaces::of`], with its first figures, if they come soon.
    ///
    /// # Errors
    /// As [`Spaces::of`].
    pub fn looked_at(&self, directory: &OwnedFd) -> io::Result<Arc<Space>> {
        let (space, first_look) = self.watch(directory)?;
        if let Some(first_look) = first_look {
            // The thread drops its end when it has looked.
            let _over = first_look.recv_timeout(FIRST_LOOK_MAX);
        }
        Ok(space)
    }

    /// [`Spaces::looked_at`], of the folder of the custody ledger.
    ///
    /// # Errors
    /// As [`Spaces::of`].
    pub fn looked_at_for_ledger(&self, directory: &OwnedFd) -> io::Result<Arc<Space>> {
        let space = self.looked_at(directory)?;
        for known in &mut *self.all() {
            known.has_ledger |= Arc::ptr_eq(&known.space, &space);
        }
        Ok(space)
    }

    /// Looks only at file systems of these directories from now on, and at that of the ledger:
    /// whoever looks at one keeps it from being unmounted. Gives what was open for the others: a
    /// look that goes on just now may take its time.
    pub fn keep_only(&self, directories: &[Arc<OwnedFd>]) -> Vec<Weak<OwnedFd>> {
        let devices = directories.iter().map(|directory| device_of(directory));
        // Of one that cannot tell nobody looks any more: whoever needs it asks again.
        let devices: Vec<_> = devices.filter_map(Result::ok).collect();
        let mut all = self.all();
        let others = all.extract_if(.., |known| {
            !known.has_ledger && !devices.contains(&known.device)
        });
        others
            .map(|known| Arc::downgrade(&known.directory))
            .collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Known>> {
        self.watched.all()
    }

    /// Also gives what ends with the first look, where this was not known yet.
    fn watch(&self, directory: &OwnedFd) -> io::Result<(Arc<Space>, Option<Receiver<()>>)> {
        let device = device_of(directory)?;
        let mut all = self.all();
        if let Some(known) = all.iter().find(|known| known.device == device) {
            return Ok((Arc::clone(&known.space), None));
        }
        let space = Arc::<Space>::default();
        let held = Arc::new(directory.try_clone()?);
        let file_system = FileSystem {
            directory: Arc::downgrade(&held),
            path: path_of(directory),
            space: Arc::clone(&space),
        };
        let (looks, first_look) = mpsc::channel();
        let watched = Arc::downgrade(&self.watched);
        let bytes_min = self.watched.bytes_min;
        thread::Builder::new()
            .name("space".to_owned())
            .spawn(move || {
                file_system.look(bytes_min);
                drop(looks);
                file_system.look_again_and_again(&watched);
            })?;
        let known = Known {
            device,
            space: Arc::clone(&space),
            directory: held,
            has_ledger: false,
        };
        all.push(known);
        Ok((space, Some(first_look)))
    }
}

impl Watched {
    fn all(&self) -> MutexGuard<'_, Vec<Known>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, space: &Arc<Space>) -> bool {
        self.all()
            .iter()
            .any(|known| Arc::ptr_eq(&known.space, space))
    }
}

/// The spaces of the shelves, as one shard knows them.
pub struct ShelfSpaces {
    spaces: Spaces,
    /// As the shelves were at this count of changes.
    known: RefCell<(u64, BTreeMap<Shelf, OfShelf>)>,
}

#[derive(Default)]
struct OfShelf {
    found: Begun<Arc<Space>>,
    /// What holds until it is found: nothing is known to be short, and what was lost is noted.
    unwatched: Arc<Space>,
}

impl ShelfSpaces {
    /// With none known yet.
    pub fn of_shard(spaces: Spaces) -> Self {
        let known = RefCell::default();
        Self { spaces, known }
    }

    /// That of one of these shelves.
    pub fn of(&self, shelves: &Shelves, shelf: Shelf) -> Arc<Space> {
        let changes = shelves.changes();
        let mut known = self.known.borrow_mut();
        if known.0 != changes {
            *known = (changes, BTreeMap::new());
        }
        let find = |_| self.spaces.of(shelves.get(shelf).descriptor()).ok();
        let of_shelf = known.1.entry(shelf).or_default();
        let found = of_shelf.found.get_or_begin(find);
        Arc::clone(found.unwrap_or(&of_shelf.unwatched))
    }
}

/// The device of the file system that a directory is on, from memory: another machine that holds it
/// is not asked.
fn device_of(directory: &OwnedFd) -> io::Result<(u32, u32)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(directory, "", flags, StatxFlags::empty())?;
    Ok((stat.stx_dev_major, stat.stx_dev_minor))
}

/// What a file system says of its space to somebody who is not root.
pub fn figures(stat: &StatVfs) -> Figures {
    Figures {
        bytes_total: stat.f_blocks.saturating_mul(stat.f_frsize),
        bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes_total: stat.f_files,
        inodes_free: stat.f_favail,
    }
}

impl FileSystem {
    fn look_again_and_again(&self, watched: &Weak<Watched>) {
        loop {
            thread::sleep(INTERVAL);
            let Some(watched) = watched.upgrade() else {
                return;
            };
            if !watched.has(&self.space) {
                return;
            }
            self.look(watched.bytes_min);
        }
    }

    fn look(&self, bytes_min: u64) {
        let Some(directory) = self.directory.upgrade() else {
            return;
        };
        // Whoever cannot tell has told before; uploads find out what is the matter.
        let Ok(stat) = rustix::fs::fstatvfs(&*directory) else {
            return;
        };
        drop(directory);
        let figures = figures(&stat);
        let wanting = figures.wanting(bytes_min);
        match self.space.look(figures, bytes_min) {
            Some(true) => tracing::warn!(
                event = "space_low",
                directory = %self.path.display(),
                bytes_free = figures.bytes_free,
                free_bytes_min = wanting.bytes_min,
                inodes_free = figures.counts_inodes().then_some(figures.inodes_free),
                remedy = match figures.counts_inodes() {
                    true => "free some space (`df -h`, `df -i`); clients retry by themselves",
                    false => "free some space (`df -h`); clients retry by themselves",
                },
                "little space is left: new uploads are refused, running ones go on"
            ),
            Some(false) => tracing::info!(
                event = "space_enough",
                directory = %self.path.display(),
                bytes_free = figures.bytes_free,
                "there is space again for new uploads"
            ),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::skipping::skip;

    /// A file system that answers nothing until this is dropped.
    struct Hung {
        folder: tempfile::TempDir,
        /// Who would answer.
        server: Option<File>,
    }

    impl Hung {
        /// `None` where it cannot be mounted.
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let server = File::options().read(true).write(true).open("/dev/fuse");
            let server = server.ok()?;
            let mounted = Command::new("mount")
                .args(["-i", "-t", "fuse", "-o"])
                .arg("fd=0,rootmode=40000,user_id=0,group_id=0")
                .arg("hung")
                .arg(folder.path())
                .stdin(Stdio::from(server.try_clone().unwrap()))
                .stderr(Stdio::null())
                .status();
            mounted
                .is_ok_and(|status| status.success())
                .then_some(Self {
                    folder,
                    server: Some(server),
                })
        }
    }

    impl Drop for Hung {
        fn drop(&mut self) {
            // Whoever waits for it hears that nobody is there.
            self.server = None;
            let unmounted = Command::new("umount")
                .arg("--lazy")
                .arg(self.folder.path())
                .status();
            assert!(unmounted.unwrap().success());
        }
    }

    fn open(path: &Path) -> OwnedFd {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    }

    #[test]
    fn a_file_system_that_hangs_keeps_no_other_waiting() {
        let Some(hung) = Hung::mount() else {
            return skip("only root mounts a file system, where FUSE is");
        };
        let spaces = Spaces::new(1 << 60);
        let began = Instant::now();
        let of_hung = spaces.of(&open(hung.folder.path())).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let other = spaces.looked_at(&open(elsewhere.path())).unwrap();
        assert!(began.elapsed() < FIRST_LOOK_MAX, "{:?}", began.elapsed());
        assert!(other.is_low(), "it was looked at");
        assert!(!of_hung.is_low(), "nobody can tell");
        // Nobody gets a second thread for the same one.
        let again = spaces.of(&open(hung.folder.path())).unwrap();
        assert!(Arc::ptr_eq(&again, &of_hung));
    }

    #[test]
    fn what_nobody_looks_at_any_more_is_closed_at_once() {
        let spaces = Spaces::new(1 << 60);
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let _space = spaces.looked_at(&open(folder.path())).unwrap();
        let left = spaces.keep_only(&[]);
        let open: Vec<_> = left.iter().map(Weak::strong_count).collect();
        // The second look may go on just now, where the machine is that busy.
        assert!(open == [0] || begun.elapsed() >= INTERVAL, "{open:?}");
        assert!(!left.is_empty());
    }
}
