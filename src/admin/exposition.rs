//! What is counted, as Prometheus reads it.
//!
//! `prometheus-client` writes both formats, the classic one and OpenMetrics; a collector of ours
//! gives it the numbers where they stand, at each scrape. A counter is named here without
//! `_total`: the formats differ in where they say it.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;

use super::accept;
use super::families::{Families, SeriesLabels, alone};
use super::health::{Health, Premises};
use super::ledger;
use super::object_series::ObjectsShown;
use super::process::{self, Process};
use crate::metrics::count::{Count, Distribution, Gauge};
use crate::metrics::ledger::LedgerMetrics;
use crate::metrics::shard::{LocationMetrics, ShardMetrics, TIMED};
use crate::metrics::{Metrics, labels};
use crate::version;

/// All that a scrape shows.
#[derive(Debug)]
pub struct Scrape {
    pub shards: Vec<Arc<ShardMetrics>>,
    /// The number of each location's series, and its name.
    pub locations: Vec<(usize, String)>,
    /// Where the files of each location go: the number of its series, and of its root.
    pub roots: Vec<(usize, usize)>,
    pub is_reloaded: u64,
    pub reloaded_s: u64,
    pub reloads_failed: u64,
    pub objects: ObjectsShown,
    pub log_lines_lost: u64,
    pub ledger: Arc<LedgerMetrics>,
    pub now_ms: u64,
    /// In seconds since 1970.
    pub wall_s: u64,
    pub health: Health,
    pub premises: Vec<Premises>,
    pub process: Process,
}

impl Scrape {
    /// What is counted by all shards; the rest is given beside it.
    pub fn of(metrics: &Metrics) -> Self {
        Self {
            shards: metrics.shards.clone(),
            locations: metrics.series_names(),
            roots: Vec::new(),
            is_reloaded: metrics.is_reloaded.get(),
            reloaded_s: metrics.reloaded_s.get(),
            reloads_failed: metrics.reloads_failed.get(),
            objects: ObjectsShown::default(),
            log_lines_lost: 0,
            ledger: Arc::clone(&metrics.ledger),
            now_ms: 0,
            wall_s: 0,
            health: Health::default(),
            premises: Vec::new(),
            process: Process::default(),
        }
    }
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// What every reader takes.
    Classic,
    OpenMetrics,
}

impl Exposition {
    /// The one that a reader asks for (RFC 9110 12.5.1). It must name OpenMetrics: who takes
    /// anything gets what everybody can read.
    pub fn accepted(accept: Option<&[u8]>) -> Self {
        match accept::prefers(accept, "application/openmetrics-text", "text/plain") {
            true => Self::OpenMetrics,
            false => Self::Classic,
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The page.
///
/// # Errors
/// None that is known: the writer is a string.
pub fn page(shown: Scrape, format: Exposition) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(shown));
    let mut page = String::new();
    match format {
        Exposition::Classic => prometheus_text::encode(&mut page, &registry)?,
        Exposition::OpenMetrics => text::encode(&mut page, &registry)?,
    }
    Ok(page)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.write_server(&mut families)?;
        self.write_connections(&mut families)?;
        self.write_packets(&mut families)?;
        self.write_sessions(&mut families)?;
        self.write_endings(&mut families)?;
        self.write_events(&mut families)?;
        self.write_disk(&mut families)?;
        self.write_roots(&mut families)?;
        ledger::write(&self.ledger, self.now_ms, &mut families)?;
        self.objects.write(&mut families)?;
        self.write_process(&mut families)
    }
}

impl Scrape {
    fn write_server(&self, families: &mut Families<'_>) -> fmt::Result {
        let build = vec![
            ("version", version::VERSION.to_owned()),
            ("revision", version::BUILD.to_owned()),
        ];
        let help = "What was built; always 1";
        families.gauge("bitsd_build_info", help, [(build, 1u64)])?;
        let help =
            "When the program that answers began, since 1970: after SIGUSR2 later than its process";
        let began = alone(process::serving_since_seconds());
        families.gauge("bitsd_start_time_seconds", help, began)?;
        let help = "Whether every shard has its turns, as /live says";
        families.gauge("bitsd_live", help, alone(self.health.is_live()))?;
        let help = "Whether new uploads are taken, as /ready says";
        families.gauge("bitsd_ready", help, alone(self.health.is_ready()))?;
        let reasons = self.health.reasons();
        let mut words: Vec<_> = reasons.into_iter().map(|reason| reason.reason).collect();
        words.sort();
        words.dedup();
        let reasons = words.into_iter().map(|word| (vec![("reason", word)], 1u64));
        let help = "Why not; a series is there as long as its reason holds";
        families.gauge("bitsd_not_ready_reason", help, reasons)?;
        let name = "bitsd_config_last_reload_successful";
        let help = "Whether the settings were read well when they were last read";
        families.gauge(name, help, alone(self.is_reloaded))?;
        let name = "bitsd_config_last_reload_success_timestamp_seconds";
        let help = "When the settings that hold were read";
        families.gauge(name, help, alone(self.reloaded_s))?;
        let help = "Reloads that changed nothing because something was wrong";
        families.counter(
            "bitsd_config_reloads_failed",
            help,
            alone(self.reloads_failed),
        )?;
        let help = "Lines of the log that could not be written";
        families.counter("bitsd_log_lines_lost", help, alone(self.log_lines_lost))?;
        let help = "Processor time of a shard's thread";
        let busy = self.by_shard(|shard| shard.busy_us.get() as f64 / 1e6);
        families.counter("bitsd_shard_busy_seconds", help, busy)?;
        let help = "Time since a shard was last seen to run";
        let age_s =
            |shard: &ShardMetrics| self.now_ms.saturating_sub(shard.beat_ms.get()) as f64 / 1e3;
        families.gauge("bitsd_shard_beat_age_seconds", help, self.by_shard(age_s))?;
        let help = "Times at which one thing held a shard up, for 10 ms or more";
        let stalls = self.by_shard(|shard| shard.stalls.get());
        families.counter("bitsd_shard_stalls", help, stalls)?;
        let help = "How long shards were held up";
        let stalled = self.by_shard(|shard| shard.stalled_ms.get() as f64 / 1e3);
        families.counter("bitsd_shard_stalled_seconds", help, stalled)?;
        let mut answers = Distribution::default();
        let shards = self.shards.iter();
        shards.for_each(|shard| shard.answers.add_to(&mut answers));
        let help = "Processor time of a shard for each slice that it told an administrator";
        families.histogram("bitsd_shard_answer_seconds", help, 1e6, alone(answers))
    }

    fn write_connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let help = "Open connections";
        let open = self.by_shard(|shard| shard.connections.get());
        families.gauge("bitsd_connections", help, open)?;
        let help = "Connections that were let in";
        let accepted = self.by_shard(|shard| shard.connected.get());
        families.counter("bitsd_connections_accepted", help, accepted)?;
        let help = "Connections that found no place";
        let turned_away = self.sum(|shard| &shard.turned_away);
        families.counter("bitsd_connections_turned_away", help, alone(turned_away))?;
        let help = "Connections that were not let in for where they come from";
        let not_let_in = self.sum(|shard| &shard.not_let_in);
        families.counter("bitsd_connections_not_let_in", help, alone(not_let_in))?;
        let help = "Connections that were given to the shard of their session";
        let moved = self.sum(|shard| &shard.moved);
        families.counter("bitsd_connections_moved", help, alone(moved))?;
        let help = "Connections that broke off in the middle of a packet";
        let broke_off = self.sum(|shard| &shard.broke_off);
        families.counter("bitsd_connections_broken_off", help, alone(broke_off))?;
        let help = "Connections that ended in the middle of a request head";
        let ended_early = self.sum(|shard| &shard.ended_early);
        families.counter("bitsd_connections_ended_early", help, alone(ended_early))?;
        let help = "Connections on which TLS did not come about";
        let failed = self.sum(|shard| &shard.handshakes_failed);
        families.counter("bitsd_handshakes_failed", help, alone(failed))?;
        let help = "Connections that the server ended";
        let hangups = self.by_word("reason", labels::HANGUPS, |shard, at| &shard.hangups[at]);
        families.counter("bitsd_hangups", help, hangups)?;
        let help = "Times at which a body found no free block and went on in small ones";
        let exhausted = self.sum(|shard| &shard.blocks_exhausted);
        families.counter("bitsd_blocks_exhausted", help, alone(exhausted))
    }

    fn write_packets(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut packets = Vec::new();
        for (packet, kind) in labels::PACKETS.iter().enumerate() {
            for (at, code) in labels::CODES.iter().enumerate() {
                let count = self.sum(|shard| &shard.packets[packet][at]);
                // Most pairs never are; the usual one is there from the start.
                if count > 0 || (*code == "200" && *kind != "invalid") {
                    let labels = vec![("packet", (*kind).to_owned()), ("code", (*code).to_owned())];
                    packets.push((labels, count));
                }
            }
        }
        families.counter("bitsd_packets", "Packets that were answered", packets)?;
        let help = "Packets that were refused";
        let refused = self.by_word("reason", labels::REASONS, |shard, at| &shard.refused[at]);
        families.counter("bitsd_refused_packets", help, refused)?;
        let help = "Requests that are no HTTP, or more than the server takes";
        let bad = self.sum(|shard| &shard.bad_requests);
        families.counter("bitsd_bad_requests", help, alone(bad))?;
        let help = "Downloads that were refused";
        let refused = self.by_word("code", labels::CODES, |shard, at| {
            &shard.downloads_refused[at]
        });
        let refused = refused.into_iter().filter(|(_, count)| *count > 0);
        families.counter("bitsd_downloads_refused", help, refused)?;
        let help = "Passwords that were compared with a hash: those that are remembered are not";
        let compared = self.sum(|shard| &shard.passwords_compared);
        families.counter("bitsd_passwords_compared", help, alone(compared))?;
        let help = "Server applications that were told of a file, by what they made of it";
        let told = self.by_word("result", labels::TOLD, |shard, at| &shard.notifications[at]);
        families.counter("bitsd_notifications", help, told)?;
        let help = "Server applications that were told of a file and have not answered yet";
        let notifying: u64 = self.shards.iter().map(|shard| shard.notifying.get()).sum();
        families.gauge("bitsd_notifications_in_flight", help, alone(notifying))?;
        let mut notified = Distribution::default();
        self.shards
            .iter()
            .for_each(|shard| shard.notified.add_to(&mut notified));
        let name = "bitsd_notification_duration_seconds";
        let help = "How long server applications took to answer";
        families.histogram(name, help, 1e6, alone(notified))
    }

    fn write_sessions(&self, families: &mut Families<'_>) -> fmt::Result {
        let help = "Bytes of uploads that were stored";
        let received = self.by_location(|location| &location.received);
        families.counter("bitsd_received_bytes", help, received)?;
        let help = "Bytes of uploads that came for nothing: they were there already, or others before them were missing";
        let skipped = self.by_location(|location| &location.skipped);
        families.counter("bitsd_skipped_bytes", help, skipped)?;
        let mut sessions = Vec::new();
        for (series, name) in &self.locations {
            for (at, state) in labels::STATES.iter().enumerate() {
                let count = self.level(*series, |location| &location.sessions[at]);
                let state = ("state", (*state).to_owned());
                sessions.push((vec![("location", name.clone()), state], count));
            }
        }
        let help = "Uploads that have not ended, by where they stand";
        families.gauge("bitsd_sessions", help, sessions)?;
        let help = "Bytes of unfinished uploads that are here";
        let unfinished = self.levels(|location| &location.unfinished_bytes);
        families.gauge("bitsd_unfinished_bytes", help, unfinished)?;
        let help = "Bytes that are still to come of unfinished uploads whose size is known";
        let promised = self.levels(|location| &location.promised_bytes);
        families.gauge("bitsd_promised_bytes", help, promised)?;
        let name = "bitsd_oldest_session_age_seconds";
        let help =
            "How long ago the oldest upload was begun that has not ended; 0 if there is none";
        families.gauge(name, help, self.oldest())?;
        let help = "Uploads that were begun";
        let created = self.by_location(|location| &location.created);
        families.counter("bitsd_sessions_created", help, created)?;
        let help = "Times at which an upload went on after an interruption";
        let resumed = self.by_location(|location| &location.resumed);
        families.counter("bitsd_sessions_resumed", help, resumed)?;
        let help = "Times at which a newer connection took an upload over";
        let taken_over = self.by_location(|location| &location.taken_over);
        families.counter("bitsd_sessions_taken_over", help, taken_over)?;
        let help = "Uploads that were read back at the start";
        let recovered = self.sum(|shard| &shard.recovered);
        families.counter("bitsd_sessions_recovered", help, alone(recovered))
    }

    fn write_endings(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut ended = Vec::new();
        for (series, name) in &self.locations {
            for (at, ending) in labels::ENDINGS.iter().enumerate() {
                let count = self.total(*series, |location| &location.ended[at]);
                let ending = ("ending", (*ending).to_owned());
                ended.push((vec![("location", name.clone()), ending], count));
            }
        }
        let help = "Uploads that ended, by how";
        families.counter("bitsd_sessions_ended", help, ended)?;
        let name = "bitsd_fragment_duration_seconds";
        let help =
            "How long fragments took that brought new bytes, from their head to their answer";
        let fragments = self.distributions(|location, sum| location.fragments.add_to(sum));
        families.histogram(name, help, 1e6, fragments)?;
        let name = "bitsd_upload_duration_seconds";
        let help = "How long uploads took that came whole, over all interruptions";
        let uploads = self.distributions(|location, sum| location.uploads.add_to(sum));
        families.histogram(name, help, 1e6, uploads)?;
        let help = "How large uploads were that came whole";
        let sizes = self.distributions(|location, sum| location.sizes.add_to(sum));
        families.histogram("bitsd_upload_size_bytes", help, 1.0, sizes)
    }

    fn write_disk(&self, families: &mut Families<'_>) -> fmt::Result {
        let timed = TIMED.iter().enumerate().map(|(at, op)| {
            let mut sum = Distribution::default();
            self.shards
                .iter()
                .for_each(|shard| shard.disk[at].add_to(&mut sum));
            let op = labels::DISK_OPS[labels::disk_op(*op)];
            (vec![("op", op.to_owned())], sum)
        });
        let name = "bitsd_disk_duration_seconds";
        let help = "How long the disk took";
        families.histogram(name, help, 1e6, timed)?;
        let help = "What the disk refused";
        let errors = self.by_word("op", labels::DISK_OPS, |shard, at| &shard.disk_errors[at]);
        families.counter("bitsd_disk_errors", help, errors)?;
        let help = "Bytes that were written, by how they reached their file";
        let written = self.by_word("route", labels::ROUTES, |shard, at| &shard.written[at]);
        families.counter("bitsd_written_bytes", help, written)?;
        let help = "Files of the work directory that could not be understood";
        let set_aside = self.sum(|shard| &shard.set_aside);
        families.counter("bitsd_files_set_aside", help, alone(set_aside))
    }

    fn write_roots(&self, families: &mut Families<'_>) -> fmt::Result {
        let by_location = |read: fn(&super::health::SpaceReading) -> Option<u64>| {
            let roots = self.roots.iter().filter_map(move |(series, root)| {
                let place = self
                    .premises
                    .iter()
                    .find(|place| place.root == Some(*root))?;
                let name = self.locations.iter().find(|(known, _)| known == series)?;
                let labels: SeriesLabels = vec![("location", name.1.clone())];
                Some((labels, read(&place.space?)?))
            });
            roots.collect::<Vec<_>>()
        };
        let help = "Size of the file system that files of a location go to";
        let total = by_location(|space| Some(space.bytes_total));
        families.gauge("bitsd_root_size_bytes", help, total)?;
        let help = "What is free of it";
        let free = by_location(|space| Some(space.bytes_free));
        families.gauge("bitsd_root_available_bytes", help, free)?;
        let help = "What is kept of it for running uploads";
        let min = by_location(|space| Some(space.bytes_min));
        families.gauge("bitsd_root_reserved_bytes", help, min)?;
        let help = "How many more files it can have; not where it does not count them (btrfs)";
        let inodes = by_location(|space| (space.inodes_total > 0).then_some(space.inodes_free));
        families.gauge("bitsd_root_available_inodes", help, inodes)
    }

    fn write_process(&self, families: &mut Families<'_>) -> fmt::Result {
        let process = &self.process;
        let help = "Processor time of the process";
        families.counter("process_cpu_seconds", help, alone(process.cpu_seconds))?;
        let help = "Memory of the process that is in use";
        families.gauge(
            "process_resident_memory_bytes",
            help,
            alone(process.resident_bytes),
        )?;
        let help = "Addresses of the process that are in use";
        families.gauge(
            "process_virtual_memory_bytes",
            help,
            alone(process.virtual_bytes),
        )?;
        let help = "Open file descriptors";
        families.gauge("process_open_fds", help, alone(process.open_descriptors))?;
        let help = "How many file descriptors may be open";
        families.gauge("process_max_fds", help, alone(process.descriptors_max))?;
        let help = "Threads of the process";
        families.gauge("process_threads", help, alone(process.threads))?;
        let help = "When the process began, since 1970";
        families.gauge(
            "process_start_time_seconds",
            help,
            alone(process.start_seconds),
        )
    }

    // Sums.

    fn by_shard<N>(&self, read: impl Fn(&ShardMetrics) -> N) -> Vec<(SeriesLabels, N)> {
        let shards = self.shards.iter().enumerate();
        let series = shards.map(|(at, shard)| (vec![("shard", at.to_string())], read(shard)));
        series.collect()
    }

    fn by_word<'s>(
        &'s self,
        label: &'static str,
        words: &[&str],
        read: impl Fn(&'s ShardMetrics, usize) -> &'s Count,
    ) -> Vec<(SeriesLabels, u64)> {
        let words = words.iter().enumerate();
        let series = words.map(|(at, word)| {
            let labels = vec![(label, (*word).to_owned())];
            (labels, self.sum(|shard| read(shard, at)))
        });
        series.collect()
    }

    fn by_location(&self, read: fn(&LocationMetrics) -> &Count) -> Vec<(SeriesLabels, u64)> {
        let locations = self.locations.iter();
        let series = locations.map(|(series, name)| {
            let labels = vec![("location", name.clone())];
            (labels, self.total(*series, read))
        });
        series.collect()
    }

    fn levels(&self, read: fn(&LocationMetrics) -> &Gauge) -> Vec<(SeriesLabels, u64)> {
        let locations = self.locations.iter();
        let series = locations.map(|(series, name)| {
            let labels = vec![("location", name.clone())];
            (labels, self.level(*series, read))
        });
        series.collect()
    }

    /// The age of the oldest session of each location.
    fn oldest(&self) -> Vec<(SeriesLabels, u64)> {
        let locations = self.locations.iter().map(|(series, name)| {
            let shards = self.shards.iter();
            let begun = shards.map(|shard| shard.location(*series).oldest_s.get());
            let oldest_s = begun.filter(|begun_s| *begun_s > 0).min();
            // A clock that was set back meanwhile makes it none younger than now.
            let age = oldest_s.map_or(0, |begun_s| self.wall_s.saturating_sub(begun_s));
            (vec![("location", name.clone())], age)
        });
        locations.collect()
    }

    fn distributions(
        &self,
        add: fn(&LocationMetrics, &mut Distribution),
    ) -> Vec<(SeriesLabels, Distribution)> {
        let locations = self.locations.iter();
        let series = locations.map(|(series, name)| {
            let mut sum = Distribution::default();
            self.shards
                .iter()
                .for_each(|shard| add(shard.location(*series), &mut sum));
            (vec![("location", name.clone())], sum)
        });
        series.collect()
    }

    /// Of all shards.
    pub fn sum<'s>(&'s self, read: impl Fn(&'s ShardMetrics) -> &'s Count) -> u64 {
        self.shards.iter().map(|shard| read(shard).get()).sum()
    }

    /// Of one location, on all shards.
    pub fn total(&self, series: usize, read: impl Fn(&LocationMetrics) -> &Count) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| read(shard.location(series)).get()).sum()
    }

    /// As [`Self::total`], of what rises and falls.
    pub fn level(&self, series: usize, read: impl Fn(&LocationMetrics) -> &Gauge) -> u64 {
        let shards = self.shards.iter();
        let levels = shards.map(|shard| read(shard.location(series)).get());
        // One shard may be a moment ahead of another that a session came from.
        levels.fold(0, u64::wrapping_add)
    }
}
