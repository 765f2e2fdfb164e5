//! Shelves that nobody needs any more are let go of: their disk can be unmounted then, and what
//! becomes of them is no concern of this server's health.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, TryLockError, Weak};

use super::Directories;
use crate::ring::owner::holds_sessions;
use crate::ring::work_folder::WorkFolder;
use crate::vault::disk::Shelf;
use crate::vault::names::{LOCK_NAME, OWNER_NAME, TRIAL_NAME};
use crate::vigil;

/// Those that no root needs, as the last look has found them.
#[derive(Debug, Default)]
pub(super) struct Unneeded {
    /// With nothing of a session on them.
    empty: BTreeSet<Shelf>,
    /// With files of sessions that go on. They are looked at less often: there may be very many.
    busy: BTreeSet<Shelf>,
}

/// One that was let go of, and that somebody may have open for a moment yet.
#[derive(Debug)]
pub(super) struct Leaving {
    path: PathBuf,
    descriptor: Weak<OwnedFd>,
}

impl Directories {
    /// Lets go of shelves that no root needs, and that have had nothing of a session on them since
    /// the last look: what a shard had begun there is done, or has left a file. The busy ones are
    /// looked at only where `looks_at_all`. Whether there were any.
    pub fn let_go_of_unneeded(&self, looks_at_all: bool) -> bool {
        let before = std::mem::take(&mut self.state().unneeded);
        let (mut now, mut has_let_go) = (Unneeded::default(), false);
        // Their disks may hang, having been taken out for that: nobody who opens a root waits.
        for (shelf, folder) in self.unneeded() {
            let was_busy = before.busy.contains(&shelf) && !looks_at_all;
            if was_busy || !is_empty(&folder) {
                now.busy.insert(shelf);
            } else if before.empty.contains(&shelf) && self.let_go_if_unneeded(shelf) {
                has_let_go = true;
            } else {
                now.empty.insert(shelf);
            }
        }
        self.state().unneeded = now;
        has_let_go
    }

    fn let_go_if_unneeded(&self, shelf: Shelf) -> bool {
        // A root that is opened just now may be about to need it.
        let _roots_stay = match self.opening.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(lock)) => lock.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let is_unneeded = (self.unneeded().iter()).any(|(unneeded, _)| *unneeded == shelf);
        is_unneeded && self.let_go(shelf)
    }

    /// Lets go of the shelves that a reload has opened which came to nothing, and takes away what
    /// it has made there. `before` is what there was before it.
    pub fn forget_new_shelves(&self, before: &[Shelf]) {
        let _roots_stay = (self.opening.lock()).unwrap_or_else(PoisonError::into_inner);
        for (shelf, folder) in self.unneeded() {
            if before.contains(&shelf) || !is_empty(&folder) {
                continue;
            }
            if self.state().made.forget(folder.path()) {
                for name in [LOCK_NAME, OWNER_NAME, TRIAL_NAME] {
                    let _best_effort = folder.remove(name);
                }
                let _it_may_hold_others = fs::remove_dir(folder.path());
            }
            self.let_go(shelf);
        }
    }

    /// Tells which shelves were let go of, once nobody has anything of them open: whoever reads
    /// that unmounts their disks.
    pub fn tell_of_those_let_go(&self) {
        let mut state = self.state();
        let is_closed = |leaving: &mut Leaving| leaving.descriptor.strong_count() == 0;
        for shelf in state.leaving.extract_if(.., is_closed) {
            let (event, shelf) = ("shelf_let_go", shelf.path.display());
            tracing::info!(event, %shelf, "no root of the settings needs this shelf, and no upload is on it");
        }
    }

    /// Shelves that no root needs which somebody uses.
    fn unneeded(&self) -> Vec<(Shelf, WorkFolder)> {
        let needed: BTreeSet<_> = (self.state().roots.values())
            .filter_map(Weak::upgrade)
            .map(|root| root.shelf)
            .chain([Shelf::WORK])
            .collect();
        let mut all = self.shelves.all();
        all.retain(|(shelf, _)| !needed.contains(shelf));
        all
    }

    /// Whether it is done: a file may have been made there meanwhile.
    fn let_go(&self, shelf: Shelf) -> bool {
        let folder = self.shelves.let_go(shelf);
        if !is_empty(&folder) {
            self.shelves.take_back(shelf, folder);
            return false;
        }
        let mut state = self.state();
        state.leaving.push(Leaving {
            path: folder.path().to_owned(),
            descriptor: Arc::downgrade(folder.descriptor()),
        });
        state.locks[usize::from(shelf.0)] = None;
        state.ids[usize::from(shelf.0)] = None;
        drop(state);
        // The next change writes it, or the next start finds nothing there.
        let _best_effort = self.write_list();
        true
    }
}

/// Whether nothing of a session is on a shelf, as far as its disk can tell.
fn is_empty(folder: &WorkFolder) -> bool {
    let holds = vigil::at(folder.path(), || holds_sessions(folder));
    matches!(holds, Ok(false))
}
