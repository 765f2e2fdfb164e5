//! The thread that looks again at what was opened at start, says what it sees, and makes again what
//! can be made again. Where the disk has refused an upload, it tries whether it takes bytes again:
//! a load balancer that asks whether the server is ready sends nobody who could find that out.
//!
//! * A root that was renamed, replaced, hidden by a mount, or removed: new uploads and publications
//!   are refused as transient, until it is back.
//! * A work directory or shelf that was renamed, replaced, or hidden by a mount: new uploads are
//!   refused as transient, until it is back. Those under way go on in the folder that was opened.
//! * A work directory or shelf that was removed: it is made again and locked, and the journals are
//!   written anew from memory. The bytes of unfinished uploads are lost with their files, and their
//!   clients begin again.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::directories::Directories;
use super::launch_error::LaunchError;
use super::lookout::{Seen, Spot};
use super::space::Spaces;
use super::{mounts, trial};
use crate::admin::health;
use crate::coarse_clock;
use crate::metrics::Metrics;
use crate::vault::disk::{Commit, Shelf};

/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a request waits for a look: a file system that hangs must not take all of them with it.
const PATIENCE: Duration = Duration::from_secs(5);

/// So many requests may wait for a look. While one file system hangs, they stay when those who made
/// them have lost patience.
const ASKS_MAX: usize = 256;

/// All names of a folder are looked at once in so many looks: there may be very many.
const LOOKS_FOR_ALL: u64 = 30;

/// Asks for a look before its time.
#[derive(Clone, Debug)]
pub struct Watch {
    asks: SyncSender<oneshot::Sender<()>>,
}

impl Watch {
    /// Starts the thread; it ends when nobody can ask it any more.
    ///
    /// # Errors
    /// There may be no more threads.
    pub fn start(
        directories: &Arc<Directories>,
        metrics: &Arc<Metrics>,
        spaces: &Spaces,
    ) -> Result<Self, LaunchError> {
        let (asks, asked) = sync_channel(ASKS_MAX);
        let watchman = Watchman {
            directories: Arc::clone(directories),
            metrics: Arc::clone(metrics),
            spaces: spaces.clone(),
            told: BTreeMap::new(),
            impostors: BTreeMap::new(),
            looks: 0,
            let_go_at: Instant::now(),
            looked_at: Vec::new(),
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watchman.run(&asked))
            .map_err(LaunchError::Thread)?;
        Ok(Self { asks })
    }

    /// Returns when everything has been looked at, when that takes too long, or at once if too many
    /// wait for it.
    pub async fn look(&self) {
        let (done, looked) = oneshot::channel();
        if self.asks.try_send(done).is_ok() {
            let _ = tokio::time::timeout(PATIENCE, looked).await;
        }
    }
}

struct Watchman {
    directories: Arc<Directories>,
    metrics: Arc<Metrics>,
    spaces: Spaces,
    /// What is wrong with a path, as it was last told.
    told: BTreeMap<PathBuf, String>,
    /// What is in the place of a file of ours in a folder, as it was last told.
    impostors: BTreeMap<PathBuf, String>,
    looks: u64,
    /// When it was looked at last which shelves nobody needs.
    let_go_at: Instant,
    /// What may be open of their disks for a last look at what is free.
    looked_at: Vec<Weak<OwnedFd>>,
}

impl Watchman {
    fn run(mut self, asked: &Receiver<oneshot::Sender<()>>) {
        loop {
            let mut waiting = Vec::new();
            match asked.recv_timeout(INTERVAL) {
                Ok(ask) => waiting.push(ask),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            waiting.extend(asked.try_iter());
            self.look();
            for ask in waiting {
                // Whoever asked may have given up.
                let _ = ask.send(());
            }
        }
    }

    fn look(&mut self) {
        self.looks += 1;
        self.let_go();
        let (shelves, roots) = self.directories.spots();
        let spots =
            (shelves.iter().map(|(_, spot)| &**spot)).chain(roots.iter().map(|root| &root.spot));
        let paths: BTreeSet<_> = spots.clone().map(Spot::path).collect();
        // Of those that were let go of nothing is told any more.
        self.told.retain(|path, _| paths.contains(path.as_path()));
        self.impostors
            .retain(|path, _| paths.contains(path.as_path()));
        let frozen = mounts::frozen();
        for spot in spots {
            let is_frozen = || mounts::id_of(&spot.folder()).is_some_and(|id| frozen.contains(&id));
            spot.note_frozen(!frozen.is_empty() && is_frozen());
        }
        for (shelf, spot) in &shelves {
            self.look_at_shelf(*shelf, spot);
        }
        for root in &roots {
            let wrong = match root.spot.look() {
                Seen::Same => None,
                seen => Some(format!("{seen}; {}", seen.remedy())),
            };
            self.tell("root", &root.spot, wrong);
        }
        self.try_disks();
    }

    /// Lets go of shelves that nobody needs. Not before all is read back, which is by the numbers
    /// of shelves; and no sooner than in an interval, however often somebody asks for a look.
    fn let_go(&mut self) {
        let mut shards = self.metrics.shards.iter();
        if self.let_go_at.elapsed() < INTERVAL || shards.any(|it| it.is_recovering.get() != 0) {
            return;
        }
        self.let_go_at = Instant::now();
        let looks_at_all = self.looks_at_all();
        if self.directories.let_go_of_unneeded(looks_at_all) {
            let shelves = self.directories.shelves().descriptors();
            self.looked_at.extend(self.spaces.keep_only(&shelves));
        }
        self.looked_at.retain(|disk| disk.strong_count() > 0);
        // Whichever disk it is that somebody looks at just now.
        if self.looked_at.is_empty() {
            self.directories.tell_of_those_let_go();
        }
    }

    /// Where a disk has refused an upload, finds out whether it still would.
    fn try_disks(&self) {
        let tried_ms = self.metrics.disk_tried_ms.get();
        let mut shards = self.metrics.shards.iter();
        if !shards.any(|shard| health::disk_refusal(shard, tried_ms).is_some()) {
            return;
        }
        // Of what is refused from now on this trial says nothing.
        let now_ms = coarse_clock::ms();
        let shelves = self.directories.shelves();
        let takes_all = |shelf| {
            let folder = shelves.get(shelf);
            let commits = shelves.commits_in_order(shelf) == Some(Commit::Shelf);
            trial::write(&folder).is_ok() && (!commits || trial::commit(&folder).is_ok())
        };
        if shelves.numbers().into_iter().all(takes_all) {
            self.metrics.disk_tried_ms.set(now_ms);
        }
    }

    /// Whether it is time for all names.
    fn looks_at_all(&self) -> bool {
        self.looks % LOOKS_FOR_ALL == 1
    }

    fn look_at_shelf(&mut self, shelf: Shelf, spot: &Spot) {
        // Until all is well it is looked at all of them, so that it is not told off and on.
        let looks_at_all = self.looks_at_all() || self.told.contains_key(spot.path());
        spot.note_exposed(self.directories.not_ours(shelf, looks_at_all));
        let wrong = match spot.look() {
            Seen::Same => match self.directories.mend(shelf) {
                Ok(false) => None,
                Ok(true) => {
                    tracing::warn!(
                        event = "work_dir_mended",
                        path = %spot.path().display(),
                        "somebody has removed files of the server's own: what can be made again was made again; the clients \
                         of uploads whose files are gone begin again"
                    );
                    None
                }
                // The next look tries again; a start would say it.
                Err(_) => None,
            },
            Seen::Removed => match self.directories.make_again(shelf) {
                Ok(()) => {
                    tracing::warn!(
                        event = "work_dir_made_again",
                        path = %spot.path().display(),
                        "somebody has removed the folder of unfinished uploads: it was made again; the clients of the \
                         uploads that were in it begin again"
                    );
                    None
                }
                Err(error) => Some(format!("it was removed, and cannot be made again: {error}")),
            },
            seen => Some(format!("{seen}; {}", seen.remedy())),
        };
        if wrong.is_none() {
            self.look_for_impostors(shelf, spot);
        }
        self.tell("work directory", spot, wrong);
    }

    /// A start refuses a folder of ours in which a link, a folder or a pipe has the name of a file
    /// of ours. The running server has the file open, and goes on.
    fn look_for_impostors(&mut self, shelf: Shelf, spot: &Spot) {
        let looks_at_all = self.looks_at_all();
        let path = spot.path().to_owned();
        let Some(why) = self.directories.impostor(shelf, looks_at_all) else {
            // Of journals, only a look at all names can tell.
            if looks_at_all {
                self.impostors.remove(&path);
            }
            return;
        };
        if self.impostors.get(&path) != Some(&why) {
            let event = "work_dir_disturbed";
            tracing::warn!(event, path = %path.display(), why, "somebody has put something else in the place of a file of the server's own");
            self.impostors.insert(path, why);
        }
    }

    /// Says what is wrong, once, and that it is right again.
    fn tell(&mut self, what: &str, spot: &Spot, wrong: Option<String>) {
        let path = spot.path();
        match wrong {
            Some(wrong) if self.told.get(path) == Some(&wrong) => {}
            Some(wrong) => {
                tracing::warn!(
                    event = "not_ready",
                    path = %path.display(),
                    why = %wrong,
                    "not ready: the {what} is not what it was when the server started; new uploads are refused, and \
                     those under way are kept"
                );
                self.told.insert(path.to_owned(), wrong);
            }
            None => {
                if self.told.remove(path).is_some() {
                    let event = "ready";
                    tracing::info!(event, path = %path.display(), "ready: the {what} is what it was");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn while_a_look_hangs_so_many_wait_for_the_next_one_and_no_more() {
        let (asks, _hangs) = sync_channel(ASKS_MAX);
        let watch = Watch { asks };
        let mut context = Context::from_waker(Waker::noop());
        let mut is_waiting = || {
            Box::pin(watch.look())
                .as_mut()
                .poll(&mut context)
                .is_pending()
        };
        // Each of them loses patience at once, and its request stays.
        for _ in 0..ASKS_MAX {
            assert!(is_waiting());
        }
        assert!(!is_waiting());
    }
}
