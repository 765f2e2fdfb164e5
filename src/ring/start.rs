//! What the log says of a start when clients may come, and the settings file that it began with.

use std::path::PathBuf;
use std::time::Instant;

use super::listeners::Listening;
use super::probe;
use crate::config::Config;
use crate::vault::disk::millis;
use crate::version;

/// The settings file of a start.
#[derive(Debug)]
pub struct StartFile {
    /// Where it is, if there is one.
    pub path: Option<PathBuf>,
    /// Something else stands there by now, which is to be read once the server serves.
    pub has_changed: bool,
}

/// What the line about the start tells, beside the settings.
pub struct Start {
    begun: Instant,
    /// The settings.
    pub file: StartFile,
    /// The listeners.
    pub listening: Listening,
    descriptors: u64,
}

impl Start {
    /// Of a server that begins now.
    pub fn new(begun: Instant, file: StartFile, listening: Listening, descriptors: u64) -> Self {
        Self {
            begun,
            file,
            listening,
            descriptors,
        }
    }

    /// Who has started, and how.
    pub fn tell(&self, config: &Config, unfinished: usize, remembered: usize) {
        let listen = |is_secure| {
            let those =
                (self.listening.addresses.iter()).filter(|address| address.is_secure == is_secure);
            let those: Vec<String> = those.map(|one| one.address.to_string()).collect();
            (!those.is_empty()).then(|| those.join(","))
        };
        let file = (self.file.path)
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
            listeners_taken_over = Some(self.listening.taken_over).filter(|taken| *taken > 0),
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
