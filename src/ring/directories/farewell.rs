//! What is synced of the folders when the server ends.
//!
//! Each disk by a thread of its own: one that has failed, or that hangs, keeps none of the others
//! from being as safe as it can be.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use crate::ring::bounded_wait::spawn_sync;
use crate::ring::work_folder::WorkFolder;

/// A folder that could not be synced, and why.
#[derive(Debug)]
pub struct Unsynced {
    /// Its path.
    pub folder: PathBuf,
    /// What its disk says, or that it said nothing in time.
    pub error: io::Error,
}

impl Unsynced {
    pub(super) fn new(folder: &WorkFolder, error: io::Error) -> Self {
        Self {
            folder: folder.path().to_owned(),
            error,
        }
    }
}

/// Syncs the file system that a folder is on.
pub(super) fn sync(folder: &WorkFolder) -> io::Result<()> {
    Ok(rustix::fs::syncfs(folder)?)
}

/// Syncs under way, of as many folders.
pub(super) struct Syncs {
    count: usize,
    told: mpsc::Receiver<(usize, io::Result<()>)>,
}

/// Begins to sync all of them. Where there can be no thread, it is done here.
pub(super) fn sync_each(folders: &[WorkFolder]) -> Syncs {
    let (tell, told) = mpsc::channel();
    for (number, folder) in folders.iter().enumerate() {
        let (theirs, tell_of_theirs) = (folder.clone(), tell.clone());
        let run = move || {
            let _nobody_waits = tell_of_theirs.send((number, sync(&theirs)));
        };
        if spawn_sync(Box::new(run)).is_err() {
            let _we_wait = tell.send((number, sync(folder)));
        }
    }
    Syncs {
        count: folders.len(),
        told,
    }
}

impl Syncs {
    /// How each went, in their order, as far as that is known by then.
    pub(super) fn until(self, deadline: Instant) -> Vec<io::Result<()>> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "its disk took too long to sync");
        let mut synced: Vec<_> = (0..self.count).map(|_| Err(late())).collect();
        for _ in 0..self.count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((number, result)) = self.told.recv_timeout(left) else {
                break;
            };
            synced[number] = result;
        }
        synced
    }
}
