//! Who answers for the server to the administrator's interface ([`crate::admin`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;

use super::directories::Directories;
use super::launch_error::LaunchError;
use super::lookout::{Seen, Spot};
use super::reloader::{Reloader, Reloads};
use super::seat::News;
use super::service;
use super::signals::Wish;
use super::space::figures;
use super::window::{Question, Windows};
use crate::admin::health::{Premises, PremisesKind, SpaceReading};
use crate::admin::trace::Tap;
use crate::admin::{Asked, Closing, Doors, House, NoAnswer, NotReloaded};
use crate::coarse_clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::observe;
use crate::server::window::{Inquiry, Insight};

/// How long a shard may take to answer: it may have to wait for a write to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where others wait for what comes of it.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// A shard that was not seen to run for so long is not even asked then.
const BEAT_MS_MAX: u64 = 3_000;

/// Answers for the server.
pub struct Steward {
    directories: Arc<Directories>,
    reloads: Arc<Reloads>,
    to_ask: ToAsk,
}

/// What is asked when somebody asks the server.
pub struct ToAsk {
    metrics: Arc<Metrics>,
    tap: Arc<Tap>,
    windows: Windows,
    to_main: Sender<News>,
}

impl ToAsk {
    /// What is counted, where packets can be watched, the shards, and the main thread.
    pub fn new(
        metrics: Arc<Metrics>,
        tap: Arc<Tap>,
        windows: Windows,
        to_main: Sender<News>,
    ) -> Self {
        Self {
            metrics,
            tap,
            windows,
            to_main,
        }
    }
}

impl House for Steward {
    fn config(&self) -> Arc<Config> {
        self.reloads.config()
    }

    fn metrics(&self) -> &Metrics {
        &self.to_ask.metrics
    }

    fn now_ms(&self) -> u64 {
        coarse_clock::ms()
    }

    fn premises(&self) -> Vec<Premises> {
        let config = self.config();
        let bytes_min = config.limits.free_bytes_min;
        let (shelves, roots) = self.directories.spots();
        let shelves = shelves.iter().map(|(_, spot)| Premises {
            kind: PremisesKind::WorkDirectory,
            ..look(spot, bytes_min)
        });
        let roots = roots.iter().map(|ground| {
            let path = ground.spot.path();
            Premises {
                kind: PremisesKind::Root,
                root: config.roots.iter().position(|root| root == path),
                ..look(&ground.spot, bytes_min)
            }
        });
        // Whether it is in its place its writer says.
        let ledger = (!config.custody.as_os_str().is_empty()).then(|| Premises {
            kind: PremisesKind::Ledger,
            path: config.custody.clone(),
            space: space(&config.custody, bytes_min),
            ..Premises::default()
        });
        shelves.chain(roots).chain(ledger).collect()
    }

    fn log_lines_lost(&self) -> u64 {
        observe::writer::lost()
    }

    fn begin_to_ask(&self, shard: usize, inquiry: Inquiry) -> Result<Asked, NoAnswer> {
        self.ask_within(PATIENCE, shard, inquiry)
    }

    fn ask_soon(&self, shard: usize, inquiry: Inquiry) -> Result<Insight, NoAnswer> {
        let beat_ms = self.to_ask.metrics.shards[shard].beat_ms.get();
        if self.now_ms().saturating_sub(beat_ms) > BEAT_MS_MAX {
            return Err(NoAnswer);
        }
        self.ask_within(SHORT_PATIENCE, shard, inquiry)?.wait()
    }

    fn reload(&self) -> Result<String, NotReloaded> {
        self.reloads.ask_and_wait()
    }

    fn drain(&self) {
        // Where nobody listens any more, the server has ended.
        let _ = self.to_ask.to_main.send(News::Signal(Wish::Drain));
    }

    fn tap(&self) -> &Arc<Tap> {
        &self.to_ask.tap
    }
}

impl Steward {
    fn ask_within(
        &self,
        patience: Duration,
        shard: usize,
        inquiry: Inquiry,
    ) -> Result<Asked, NoAnswer> {
        let (asked, answered) = Question::new(inquiry, patience);
        let window = self.to_ask.windows.get(shard).ok_or(NoAnswer)?;
        window.try_send(asked).map_err(|_| NoAnswer)?;
        Ok(Asked { answered, patience })
    }
}

fn look(spot: &Spot, bytes_min: u64) -> Premises {
    let (seen, mut space) = (spot.look(), space(spot.path(), bytes_min));
    let wrong = match (&seen, &mut space) {
        (Seen::Same, _) => None,
        // It has a word of its own.
        (Seen::ReadOnly, Some(space)) => {
            space.is_read_only = true;
            None
        }
        _ => Some((seen.to_string(), seen.remedy())),
    };
    Premises {
        path: spot.path().to_owned(),
        wrong,
        space,
        ..Premises::default()
    }
}

fn space(path: &Path, bytes_min: u64) -> Option<SpaceReading> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let figures = figures(&stat);
    let wanting = figures.wanting(bytes_min);
    Some(SpaceReading {
        bytes_total: figures.bytes_total,
        bytes_free: figures.bytes_free,
        bytes_min: wanting.bytes_min,
        inodes_total: figures.inodes_total,
        inodes_free: figures.inodes_free,
        inodes_min: wanting.inodes_min,
        is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Begins to reload settings when somebody asks for it, and to answer at the doors. What is given
/// back at last takes the socket away at the end.
///
/// # Errors
/// [`LaunchError::Thread`]
pub fn begin(
    doors: Doors,
    reloader: Reloader,
    directories: &Arc<Directories>,
    to_ask: ToAsk,
) -> Result<(Arc<Reloads>, Closing), LaunchError> {
    let reloads = Reloads::begin(reloader, directories, &to_ask.metrics);
    let reloads = reloads.map_err(LaunchError::Thread)?;
    let reloads = Arc::new(reloads);
    service::begin_watchdog(&to_ask.metrics).map_err(LaunchError::Thread)?;
    let config = reloads.config();
    let addresses: Vec<_> = doors.addresses().iter().map(ToString::to_string).collect();
    let listen = (!addresses.is_empty()).then(|| addresses.join(","));
    let socket = Some(&config.admin_socket).filter(|socket| !socket.as_os_str().is_empty());
    let socket = socket.map(|socket| tracing::field::display(socket.display()));
    let steward = Steward {
        directories: Arc::clone(directories),
        reloads: Arc::clone(&reloads),
        to_ask,
    };
    let closing = doors
        .begin(Arc::new(steward))
        .map_err(LaunchError::Thread)?;
    if socket.is_some() || listen.is_some() {
        let event = "admin_listening";
        tracing::info!(
            event,
            socket,
            listen,
            "the administrator's interface answers"
        );
    }
    Ok((reloads, closing))
}
