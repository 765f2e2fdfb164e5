//! The disks at the end of the server: what has come is made safe against a power cut, as far as
//! each of them allows, and in so much time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::bounded_wait::{spawn_sync, within};
use super::directories::Directories;
use super::directories::farewell::Unsynced;
use crate::diagnosis::{self, Diagnosis};

/// Lets the disk begin while requests finish, so that the sync at the end, for which those who come
/// meanwhile wait, has little left to do. What it says is for that one to hear: the kernel tells an
/// error once to each open file (syncfs(2)), so others are opened here.
pub fn begin_to_sync(directories: &Directories) {
    let shelves = directories.shelves().folders();
    for shelf in shelves {
        let sync = move || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            if let Ok(folder) = rustix::fs::openat(&shelf, ".", flags, Mode::empty()) {
                let _of_the_end = rustix::fs::syncfs(folder);
            }
        };
        // Without it the end takes longer.
        let _begun = spawn_sync(Box::new(sync));
    }
}

fn warn_of_unsynced(Unsynced { folder, error }: &Unsynced, words: &str) {
    let event = "stop_not_safe";
    let Diagnosis { cause, remedy, .. } = diagnosis::in_work_dir(error);
    let folder = folder.display();
    tracing::warn!(event, %folder, %error, cause, remedy, "{words}");
}

/// Syncs everything and notes the clean stop, and gives whether both were done in time. A sync that
/// hangs is left alone: the process ends without it, as far as the kernel allows.
pub fn note_clean_stop(
    directories: &Arc<Directories>,
    is_renewed: bool,
    patience: Duration,
) -> bool {
    let work = directories.shelves().work();
    let directories = Arc::clone(directories);
    // The work directory has the last word, and some time for it.
    let deadline = Instant::now() + patience - patience / 5;
    let note = move || directories.note_clean_stop(is_renewed, deadline);
    match within(patience, spawn_sync, note) {
        Some(Ok(unsynced)) => {
            for one in &unsynced {
                let words = "the uploads of this folder could not be made safe against a power cut; \
                             those elsewhere are";
                warn_of_unsynced(one, words);
            }
            return unsynced.is_empty();
        }
        Some(Err(why)) => {
            warn_of_unsynced(&why, "the stop could not be made safe against a power cut");
        }
        None => tracing::warn!(
            event = "stop_not_safe",
            folder = %work.path().display(),
            waited = ?patience,
            remedy = "look at the disk (`dmesg`, `iostat -x 1`)",
            "the disk took too long to sync: the stop is not noted as a clean one, and after a reboot \
             uploads that are under way start again"
        ),
    }
    false
}
