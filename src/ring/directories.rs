//! The directories of the server: opened, tried, and locked against a second server; and the note
//! of a clean stop.
//!
//! What the settings name must be there. A typing error, or a disk that is not mounted, must not
//! become a folder in silence. Only the places that nobody chose are made: `./uploads`, and
//! `.bitsd` in a root.
//!
//! The work directory holds the journals, and the parts of uploads to all roots that are reached by
//! the same mount. Each other root has a shelf for its parts, [`WORK_DIR_NAME`] in it, so that a
//! file gets its name in one step there too. Which of the two holds is found by trying
//! ([`super::trial`]). The work directory keeps a list of the shelves. So a shelf that the settings
//! no longer name is found again as long as files of sessions are on it. And each shelf says whose
//! it is, so that no other server takes those files for orphans.

mod again;
mod beside;
mod calls;
mod doubts;
pub mod farewell;
mod former;
mod left_behind;
mod taking;
mod unneeded;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::footing;
use super::handed::HandedLocks;
use super::launch_error::{BadRoot, LaunchError};
use super::lookout::Spot;
use super::owner::{NOTE_BYTES_MAX, Purpose, ServerId};
use super::probe;
use super::shelves::{SharedShelves, Shelves};
use super::trial::{self, Trial};
use super::work_folder::{BadFolder, Lock, WorkFolder, path_of};
use crate::config::Config;
use crate::vault::clean_stop::{CleanStop, NOTE_BYTES};
use crate::vault::disk::Shelf;
use crate::vault::names::{self, CLEAN_NAME, NamesOf, WorkName};
use crate::vigil;

pub use beside::refuse_impostors;
pub use doubts::{FolderDoubt, keeps_all, refuse_replacing};
use farewell::Unsynced;
use former::Listed;
pub use former::named_in;
pub use left_behind::LeftBehind;
pub use taking::look_at_root;
use taking::{Made, lock, make_default_root, open_or_make, settled};
use unneeded::{Leaving, Unneeded};

/// The default name of the work directory and of shelves, in their root.
pub const WORK_DIR_NAME: &str = ".bitsd";

/// Where a shelf stands.
type ShelfSpot = (Shelf, Arc<Spot>);

/// A root, as all shards have it open.
#[derive(Debug)]
pub struct Ground {
    /// The folder itself.
    pub spot: Spot,
    /// Its path without links, whatever the settings call it: what is told to others, who are
    /// elsewhere, and later.
    pub real: PathBuf,
    /// Where its unfinished uploads are.
    pub shelf: Shelf,
    /// No file can be moved to it so that it surely replaces none.
    pub only_replaces: bool,
    /// Why its names cannot be made durable, if so.
    pub unsynced: Option<String>,
}

impl Ground {
    /// A descriptor of the root.
    ///
    /// # Errors
    /// What the kernel says: there may be none left.
    pub fn open(&self) -> io::Result<OwnedFd> {
        self.spot.folder().try_clone()
    }
}

/// The roots and shelves, and the locks that make the latter ours.
pub struct Directories {
    purpose: Purpose,
    shelves: SharedShelves,
    /// Names this server on its shelves.
    id: ServerId,
    boot: u128,
    /// Why the names in the work directory cannot be made durable, if so.
    unsynced: Option<String>,
    /// Roots are opened by one at a time, and no shelf is let go of meanwhile.
    opening: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the numbers of their shelves; `None` where one was let go of.
    locks: Vec<Option<Lock>>,
    /// Of the program that ran in this process before, at the start.
    handed: HandedLocks,
    /// Open roots, and which of them somebody still uses.
    roots: BTreeMap<PathBuf, Weak<Ground>>,
    /// The shelves' own names, by their numbers.
    ids: Vec<Option<u128>>,
    /// Shelves on the list that are not there now.
    missing: Vec<Listed>,
    unneeded: Unneeded,
    leaving: Vec<Leaving>,
    made: Made,
}

/// How a shelf came to be ours.
enum Taken {
    /// It is another name of one that was.
    Before(Shelf),
    /// By this lock.
    Now(WorkFolder, Lock),
}

impl Directories {
    /// Opens, tries and locks them; gives the roots in the order of the settings.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn take(
        config: &Config,
        purpose: Purpose,
        mut handed: HandedLocks,
    ) -> Result<(Self, Vec<Arc<Ground>>), LaunchError> {
        let (first, path) = (&config.roots[0], &config.work_dir);
        let is_default = *path == first.join(WORK_DIR_NAME);
        let mut made = Made::none(purpose);
        let (work, lock) = settled(is_default, |is_again| {
            if is_again {
                made.forget(path);
            }
            make_default_root(first, &mut made)?;
            // Before anything is made in one of them.
            for root in &config.roots {
                drop(look_at_root(root)?);
            }
            let work = open_or_make(path, is_default, &mut made).map_err(|why| match why {
                // It cannot be made: the remedy is for the folder above it.
                BadFolder::Io(error) if is_default && !path.exists() => {
                    LaunchError::Root(first.clone(), BadRoot::Open(error))
                }
                why => LaunchError::Folder(path.clone(), why),
            })?;
            // By a link: the settings could only compare the paths.
            if let Some(root) = footing::first_within(work.descriptor(), &config.roots) {
                let why = BadRoot::OwnWorkDir(path.clone());
                return Err(LaunchError::Root(root.clone(), why));
            }
            let lock = lock(&work, made.purpose_in(&work), &mut handed)?;
            Ok((work, lock))
        })?;
        made.hold(&work);
        let directories = Self {
            purpose,
            id: ServerId::of_work(&work, made.purpose_in(&work))?,
            boot: probe::boot_id().map_err(LaunchError::BootId)?,
            unsynced: doubts::unsynced(work.descriptor()),
            opening: Mutex::default(),
            state: Mutex::new(State {
                locks: vec![Some(lock)],
                ids: vec![None],
                handed,
                made,
                ..State::default()
            }),
            shelves: Arc::new(Shelves::new(work)),
        };
        directories.remember_shelves()?;
        let grounds = directories.open_roots(&config.roots, |_| true)?;
        refuse_replacing(config, 0.., &grounds)?;
        directories.find_former_shelves()?;
        directories.write_list()?;
        // Those of shelves that nobody needs any more.
        directories.state().handed = HandedLocks::default();
        Ok((directories, grounds))
    }

    /// Descriptors by which the locks outlive this program.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn hand_on(&self) -> io::Result<Vec<OwnedFd>> {
        let state = self.state();
        let locks: io::Result<Vec<_>> = state.locks.iter().flatten().map(Lock::hand_on).collect();
        Ok(locks?.into_iter().flatten().collect())
    }

    /// The shelves.
    pub fn shelves(&self) -> SharedShelves {
        Arc::clone(&self.shelves)
    }

    /// Whether a shelf that holds files of sessions is not there now.
    pub fn misses_a_shelf(&self) -> bool {
        !self.state().missing.is_empty()
    }

    /// Opens and tries roots. Those that `is_kept` says stay as they are. One that was let go of,
    /// and that somebody may still use, is looked for anew: another folder may be there by now.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn open_roots(
        &self,
        roots: &[PathBuf],
        is_kept: impl Fn(&Path) -> bool,
    ) -> Result<Vec<Arc<Ground>>, LaunchError> {
        let _one_at_a_time = (self.opening.lock()).unwrap_or_else(PoisonError::into_inner);
        let opened = roots.iter().map(|path| {
            let known = self.state().roots.get(path).and_then(Weak::upgrade);
            let known = known.filter(|_| is_kept(path));
            let ground = match known {
                Some(ground) => ground,
                None => Arc::new(self.open_root(path)?),
            };
            (self.state().roots).insert(path.clone(), Arc::downgrade(&ground));
            Ok(ground)
        });
        let grounds = opened.collect();
        // Also of those that came before one that could not be opened, and where the list could not
        // be written before: the next settings find them open, and uploads begin there.
        self.write_list()?;
        grounds
    }

    fn open_root(&self, path: &Path) -> Result<Ground, LaunchError> {
        let failed = |why| LaunchError::Root(path.to_owned(), why);
        let root = look_at_root(path)?;
        let try_on = |shelf| {
            let folder = self.shelves.get(shelf);
            let trial = vigil::at(path, || trial::of(&folder, &root, self.id.id));
            trial.map_err(|why| why.of(path, &folder))
        };
        let mut shelf = Shelf::WORK;
        let mut trial = try_on(shelf)?;
        if let Trial::OtherMount = trial {
            shelf = self.open_shelf(&path.join(WORK_DIR_NAME))?;
            trial = try_on(shelf)?;
        }
        match trial {
            Trial::Passed | Trial::OnlyReplaces => {}
            Trial::Full => tracing::warn!(
                event = "disk_full",
                root = %path.display(),
                "the disk is full: uploads will be refused until there is room"
            ),
            Trial::OtherMount => {
                let shelf = self.shelves.get(shelf).path().to_owned();
                return Err(failed(BadRoot::ShelfElsewhere(shelf)));
            }
        }
        // Also of a root that comes with new settings, and before anything is published there.
        let unsynced = doubts::unsynced(&root);
        // Absolute, so that it means the same for as long as we run.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let ground = Ground {
            real: path_of(&root),
            spot: Spot::new(&path, Arc::new(root)),
            shelf,
            only_replaces: matches!(trial, Trial::OnlyReplaces),
            unsynced,
        };
        match doubts::is_restless(&ground) {
            true => Err(LaunchError::Root(path, BadRoot::Restless)),
            false => Ok(ground),
        }
    }

    /// The shelf of a root that nothing can be moved to from the work directory.
    fn open_shelf(&self, path: &Path) -> Result<Shelf, LaunchError> {
        let taken = settled(true, |is_again| {
            if is_again {
                self.state().made.forget(path);
            }
            let folder = open_or_make(path, true, &mut self.state().made);
            let folder = folder.map_err(|why| LaunchError::Folder(path.to_owned(), why))?;
            if let Some(known) = self.shelves.find(folder.descriptor()) {
                return Ok(Taken::Before(known));
            }
            let purpose = self.state().made.purpose_in(&folder);
            let lock = lock(&folder, purpose, &mut self.state().handed)?;
            Ok(Taken::Now(folder, lock))
        })?;
        let (folder, lock) = match taken {
            Taken::Now(folder, lock) => (folder, lock),
            Taken::Before(known) => return Ok(known),
        };
        let purpose = self.state().made.purpose_in(&folder);
        self.state().made.hold(&folder);
        let work = self.shelves.work();
        let id = (self.id).claim_shelf(&folder, work.path(), purpose)?;
        if self.purpose == Purpose::Serve {
            tracing::info!(
                event = "shelf_used",
                shelf = %path.display(),
                "the root is on another file system than work_dir: its unfinished uploads are kept here"
            );
        }
        self.add_shelf(folder, lock, id)
    }

    fn add_shelf(
        &self,
        folder: WorkFolder,
        lock: Lock,
        id: Option<u128>,
    ) -> Result<Shelf, LaunchError> {
        let mut state = self.state();
        let shelf = self
            .shelves
            .add(folder)
            .ok_or(LaunchError::TooManyShelves)?;
        state.locks.push(Some(lock));
        state.ids.push(id);
        Ok(shelf)
    }

    /// What is looked at again: shelves, and roots that somebody uses.
    pub fn spots(&self) -> (Vec<ShelfSpot>, Vec<Arc<Ground>>) {
        let roots = self
            .state()
            .roots
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        let shelves = self.shelves.numbers().into_iter();
        (
            shelves
                .map(|shelf| (shelf, self.shelves.spot(shelf)))
                .collect(),
            roots,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The boot of the machine.
    pub fn boot(&self) -> u128 {
        self.boot
    }

    /// The generation of this start's journals.
    ///
    /// # Errors
    /// Of reading the work directory.
    pub fn next_generation(&self) -> io::Result<u64> {
        let names = self
            .shelves
            .work()
            .names_that(|name| NamesOf::Journals.has(name))?;
        Ok(names::next_generation(names.iter().map(String::as_str)))
    }

    /// Takes away what a start that has failed has made of journals, from this generation on. Those
    /// that hold something stay: the next start reads them as it would after a crash.
    pub fn forget_empty_journals(&self, generation: u64) {
        let work = self.shelves.work();
        let is_ours = |name: &str| matches!(names::parse_name(name), WorkName::Journal { generation: of } if of >= generation);
        let ours = work.names_that(is_ours).unwrap_or_default();
        for name in ours {
            let found = work.stat(&name).ok().flatten();
            if found.is_some_and(|found| found.st_size == 0) {
                // What stays is removed by the next start that comes to its end.
                let _best_effort = work.remove(&name);
            }
        }
    }

    /// What is known of clean stops.
    pub fn stopped_cleanly(&self) -> CleanStop {
        let note = self.shelves.work().read(CLEAN_NAME, NOTE_BYTES_MAX);
        let note = note.ok().flatten().unwrap_or_default();
        CleanStop::parse(&String::from_utf8_lossy(&note))
    }

    /// From here on a power cut may lose what the last clean stop had made safe. If a shard's
    /// records still speak of an earlier boot, its sessions do not change before they are renewed,
    /// and that boot's stop holds. `generation` is that of this start's journals.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_clean_stop(&self, generation: u64, is_renewed: bool) -> io::Result<()> {
        let before = self.stopped_cleanly();
        let left = before.at_start(self.boot, generation, is_renewed);
        if left.is_some_and(|stop| self.write_clean_stop(&stop).is_ok()) {
            return Ok(());
        }
        let work = self.shelves.work();
        work.remove(CLEAN_NAME)?;
        work.sync()
    }

    /// The shelves' own names, by their numbers.
    pub fn shelf_names(&self) -> Vec<Option<u128>> {
        self.state().ids.clone()
    }

    /// Syncs everything and says so, so that a planned reboot costs no client a byte. If not all
    /// records were renewed in this boot, those that were not still speak of the stop before. Gives
    /// the shelves that could not be synced by the deadline: they are left out, and the others lose
    /// nothing by it.
    ///
    /// # Errors
    /// Nothing is noted: which folder it was, and what its disk says.
    pub fn note_clean_stop(
        &self,
        is_renewed: bool,
        deadline: Instant,
    ) -> Result<Vec<Unsynced>, Unsynced> {
        let work = &self.shelves.work();
        let failed = |error| Unsynced::new(work, error);
        let (others, names): (Vec<_>, Vec<_>) = self.other_shelves().into_iter().unzip();
        // A shelf is on the file system of its roots.
        let waits = farewell::sync_each(&others);
        farewell::sync(work).map_err(failed)?;
        let mut left_out = Vec::new();
        let mut unsynced = Vec::new();
        for ((folder, name), synced) in others.iter().zip(names).zip(waits.until(deadline)) {
            if let Err(error) = synced {
                let why = Unsynced::new(folder, error);
                // As an older version has made it: it cannot be named.
                let Some(name) = name else {
                    return Err(why);
                };
                left_out.push(name);
                unsynced.push(why);
            }
        }
        // If that fails, the next start looks for more than it needs.
        let _best_effort = self.forget_empty_shelves(&unsynced);
        let before = self.stopped_cleanly();
        let stop = before.at_stop(self.boot, is_renewed, &left_out);
        self.write_clean_stop(&stop).map_err(failed)?;
        Ok(unsynced)
    }

    /// The shelves beside the work directory, each with its own name.
    fn other_shelves(&self) -> Vec<(WorkFolder, Option<u128>)> {
        let names = self.shelf_names();
        let others = self.shelves.all().into_iter().skip(1);
        let named = others.map(|(shelf, folder)| {
            let name = names.get(usize::from(shelf.0)).copied().flatten();
            (folder, name)
        });
        named.collect()
    }

    fn write_clean_stop(&self, stop: &CleanStop) -> io::Result<()> {
        let (work, note) = (self.shelves.work(), stop.render());
        let written = work.write(CLEAN_NAME, note.as_bytes());
        // Records are not renewed where the disk is full, and then there is no room for a new note.
        written.or_else(|error| {
            // It would be believed though only a part of it was written.
            if note.len() > NOTE_BYTES {
                return Err(error);
            }
            let overwritten = work.overwrite(CLEAN_NAME, note.as_bytes());
            overwritten.map_err(|_| error)
        })
    }
}
