//! The main thread while the server runs: it sees the shards through recovery, service and the end.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::directories::Directories;
use super::launch_error::LaunchError;
use super::listeners::Address;
use super::probe;
use super::reloader::Reloads;
use super::seat::{News, Stage};
use super::service;
use super::signals::Wish;
use crate::config::Config;
use crate::vault::disk::millis;
use crate::{observe, version};

/// What a shard may take to end after its time for running requests is over.
const GRACE: Duration = Duration::from_secs(2);
/// What the last sync of the file system may take, beside what is left of the time for running
/// requests. A disk that others keep busy must not hold the stop up until the service manager kills
/// it: with the 30 s of running requests this stays below the 40 s of the unit in
/// docs/operations.md.
const SYNC_PATIENCE: Duration = Duration::from_secs(5);

/// What the line about the start tells, beside the settings.
pub struct Start {
    begun: Instant,
    settings_file: Option<PathBuf>,
    addresses: Vec<Address>,
    descriptors: u64,
}

impl Start {
    /// Of a server that begins now.
    pub fn new(
        begun: Instant,
        settings_file: Option<PathBuf>,
        addresses: Vec<Address>,
        descriptors: u64,
    ) -> Self {
        Self {
            begun,
            settings_file,
            addresses,
            descriptors,
        }
    }

    /// Who has started, and how.
    fn tell(&self, config: &Config, unfinished: usize, remembered: usize) {
        let listen = |is_secure| {
            let those = (self.addresses.iter()).filter(|address| address.is_secure == is_secure);
            let those: Vec<String> = those.map(|one| one.address.to_string()).collect();
            (!those.is_empty()).then(|| those.join(","))
        };
        let file = self
            .settings_file
            .as_ref()
            .map(|path| path.display().to_string());
        tracing::info!(
            event = "started",
            version = version::VERSION,
            build = version::BUILD,
            kernel = probe::kernel(),
            config = file.unwrap_or_else(|| "none".to_owned()),
            root = %config.roots[0].display(),
            work_dir = %config.work_dir.display(),
            locations = config.locations.len() - 1,
            listen = listen(false),
            listen_tls = listen(true),
            shards = config.cores,
            io = config.io.name(),
            descriptors = self.descriptors,
            connections_per_shard_max = config.limits.connections_per_shard_max,
            sessions_per_shard_max = config.limits.sessions_per_shard_max,
            unfinished,
            remembered,
            took_ms = millis(self.begun.elapsed()),
            "started"
        );
    }
}

/// Sees the shards through recovery, service and the end.
///
/// # Errors
/// [`LaunchError::Recovery`]: what a journal says cannot be read.
pub fn supervise(
    config: &Config,
    directories: &Arc<Directories>,
    start: &Start,
    stage: &watch::Sender<Stage>,
    news: &mpsc::Receiver<News>,
    reloads: &Reloads,
) -> Result<(), LaunchError> {
    let [mut recovering, mut preparing, mut running] = [config.cores; 3];
    let mut is_renewed = true;
    let (mut unfinished, mut remembered, mut left) = (0, 0, 0);
    let mut stopping_since = None;
    let mut deadline: Option<Instant> = None;
    while running > 0 {
        let next = match deadline {
            None => news.recv().ok(),
            Some(deadline) => news
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .ok(),
        };
        match next {
            Some(News::Recovered(result)) => {
                let read_back = result.map_err(LaunchError::Recovery)?;
                is_renewed &= read_back.is_renewed;
                unfinished += read_back.unfinished;
                remembered += read_back.remembered;
                recovering -= 1;
                if recovering == 0 {
                    directories
                        .forget_clean_stop(is_renewed)
                        .map_err(LaunchError::Recovery)?;
                    if deadline.is_none() {
                        stage.send_replace(Stage::Serve { is_renewed });
                    }
                }
            }
            Some(News::Serving) => {
                preparing -= 1;
                if preparing == 0 && deadline.is_none() {
                    stage.send_replace(Stage::Accept);
                    start.tell(config, unfinished, remembered);
                    service::ready(unfinished);
                    observe::announce(
                        (start.addresses.iter()).map(|one| (one.address, one.is_secure)),
                    );
                }
            }
            Some(News::Ended(unfinished)) => {
                running -= 1;
                left += unfinished;
            }
            Some(News::Signal(Wish::Reload)) => reloads.ask(),
            Some(News::Signal(Wish::Stop)) if deadline.is_none() => {
                stopping_since = Some(Instant::now());
                deadline = Some(begin_to_stop(stage, reloads));
            }
            Some(News::Signal(Wish::Stop)) => {
                let event = "stopped_at_once";
                tracing::warn!(event, "stopped at once by a second signal");
                observe::flush();
                std::process::exit(1);
            }
            None => {
                let event = "stopped_unfinished";
                tracing::warn!(event, "stopped before all requests were finished");
                break;
            }
        }
    }
    // A shard that still runs may be writing: the note would speak for bytes that are not synced.
    if recovering == 0 && running == 0 {
        let time = deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        let synced = note_clean_stop(directories, is_renewed, time + SYNC_PATIENCE);
        tell_of_stop(left, synced, stopping_since);
    }
    Ok(())
}

/// Asks all shards to end, and says until when they may take.
fn begin_to_stop(stage: &watch::Sender<Stage>, reloads: &Reloads) -> Instant {
    tracing::info!(
        event = "stopping",
        "stopping: running requests may finish; a second signal stops at once"
    );
    service::stopping();
    stage.send_replace(Stage::DRAIN);
    let limit = Duration::from_millis(reloads.config().limits.shutdown_ms_max);
    Instant::now() + limit + GRACE
}

/// The last line of a server that was stopped in order.
fn tell_of_stop(unfinished: usize, synced: bool, since: Option<Instant>) {
    let took_ms = since.map(|since| millis(since.elapsed()));
    let event = "stopped";
    tracing::info!(event, unfinished, synced, took_ms, "stopped");
}

/// Syncs everything and notes the clean stop, and gives whether both were done in time. A sync that
/// hangs is left alone: the process ends without it, as far as the kernel allows.
fn note_clean_stop(directories: &Arc<Directories>, is_renewed: bool, patience: Duration) -> bool {
    let directories = Arc::clone(directories);
    match within(patience, move || directories.note_clean_stop(is_renewed)) {
        Ok(Some(Ok(()))) => return true,
        Ok(Some(Err(error))) | Err(error) => {
            let event = "stop_not_safe";
            tracing::warn!(event, %error, "the stop could not be made safe against a power cut");
        }
        Ok(None) => tracing::warn!(
            event = "stop_not_safe",
            waited = ?patience,
            "the disk took too long to sync: the stop is not noted as a clean one, and after a reboot \
             uploads that are under way start again"
        ),
    }
    false
}

/// Does some work on a thread of its own, and gives what it comes to; `None` if it takes too long.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (tell, told) = mpsc::channel();
    let run = move || {
        let _nobody_waits = tell.send(work());
    };
    thread::Builder::new().name("sync".to_owned()).spawn(run)?;
    Ok(told.recv_timeout(patience).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_to_itself() {
        let long = Duration::from_secs(60);
        assert_eq!(within(long, || 1).unwrap(), Some(1));
        let (release, held) = mpsc::channel::<()>();
        let hangs = move || held.recv();
        assert!(within(Duration::from_millis(20), hangs).unwrap().is_none());
        drop(release);
    }
}
