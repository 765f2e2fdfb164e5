//! What a seed draws before its run begins: which mischief and faults exist at all, their rates,
//! and all settings.
//!
//! Swarm testing: a run that has a little of everything reaches less than many runs that each have
//! much of a few.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bitsd::config::{
    Access, AccountSettings, Config, Download, Durability, EmptyFile, EventSettings, Io, Limits,
    Location, LogFormat, LogLevel, Notification, NotificationType, Policy, PrefixCase, Publish,
};

use bitsd::http::digest::Algorithms;
use bitsd::vault::owed::{EventTarget, EventTargets};

use crate::application::Application;
use crate::broker::Broker;
use crate::identity::Identities;
use crate::rng::{Rng, mix};
use crate::store::StorePlan;
use crate::wire::Weather;

/// Rates of disk faults, in a thousand.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Writes that take fewer bytes.
    pub short: u64,
    /// Whether the disk is full now and then.
    pub full: bool,
    /// Writes that fail.
    pub write: u64,
    /// Syncs of files that fail.
    pub sync: u64,
    /// Syncs of directories that fail.
    pub sync_folder: u64,
    /// For how many milliseconds all syncs fail once one has: a disk that ails.
    pub ails_ms: u64,
    /// Operations that take long.
    pub slow: u64,
    /// Calls that are refused because too many wait for a disk that does not answer.
    pub unanswered: u64,
    /// Records that are damaged, per restart.
    pub corrupt: u64,
}

/// Rates of what clients do wrong, in a thousand per request.
#[derive(Clone, Debug, Default)]
pub struct Mischief {
    /// Forgets what was acked and goes on from an older offset.
    pub older: u64,
    /// Begins a fragment some bytes before the offset.
    pub overlap: u64,
    /// Leaves a gap.
    pub gap: u64,
    /// Breaks off in the middle of a request.
    pub cut: u64,
    /// Stops sending for ever and keeps the connection.
    pub stall: u64,
    /// Says another length than it sends.
    pub lie: u64,
    /// Says another size of the file than before.
    pub total: u64,
    /// Sends on two connections at once.
    pub rival: u64,
    /// Cancels.
    pub cancel: u64,
    /// Goes away for ever.
    pub forget: u64,
    /// Closes before the last byte.
    pub close_early: u64,
    /// Sends what is no request behind one.
    pub garbage: u64,
    /// Sends a fragment as chunks.
    pub chunked: u64,
    /// Asks before sending.
    pub expect: u64,
    /// Names another client's session.
    pub steal: u64,
    /// Names a path outside the root.
    pub escape: u64,
    /// Repeats a Close or Cancel.
    pub repeat: u64,
}

/// One upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Destination beneath the root.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Seed of the content.
    pub content: u64,
    /// When it begins, in milliseconds after the start.
    pub start_ms: u64,
    /// Bytes of a fragment at the most.
    pub fragment_bytes: u64,
    /// Whether an empty file is told by Close alone.
    pub tells_empty_by_close: bool,
}

impl Upload {
    /// The bytes of a range. Every other upload is full of requests that must never be read as
    /// such.
    pub fn bytes(&self, start: u64, end: u64) -> Vec<u8> {
        (start..end).map(|at| self.byte(at)).collect()
    }

    fn byte(&self, at: u64) -> u8 {
        if self.content & 1 == 0 {
            return mix(self.content ^ at).to_le_bytes()[0];
        }
        let text = SMUGGLED.as_bytes();
        let at = usize::try_from((at + self.content % 64) % text.len() as u64).expect("short");
        text[at]
    }
}

/// What would make a session if a body were taken for a request.
const SMUGGLED: &str = "\r\n\r\nBITS_POST /smuggled HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Create-Session\r\n\
BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nContent-Length: 0\r\n\r\n";

/// All that a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// Settings of the server; the number of shards is drawn at each start.
    pub config: Arc<Config>,
    /// Uploads, one client each.
    pub uploads: Vec<Upload>,
    /// Files that stand in the tree before the start.
    pub old: Vec<(String, Vec<u8>)>,
    /// Disk faults.
    pub faults: Faults,
    /// Bytes of the largest file that the disk can hold, if a run may meet that.
    pub largest_file: Option<u64>,
    /// Client faults.
    pub mischief: Mischief,
    /// Mean number of steps between two ends of the server; 0 is never.
    pub crash_steps: u64,
    /// Weights of kill, power cut and graceful stop.
    pub ends: [u64; 3],
    /// So many of a thousand starts are cut during recovery.
    pub crash_in_recovery: u64,
    /// So many of a thousand critical moments (a fault, a rename) are followed by an end at once.
    pub strikes: u64,
    /// Network.
    pub weather: Weather,
    /// Length of the load phase.
    pub load_ms: u64,
    /// Whether numbers of removed files are used again, as ext4 does.
    pub reuses_inodes: bool,
    /// Bytes that the disk writes in one piece.
    pub sector: usize,
    /// Whether the disks commit all changes in their order, as ext4 and XFS do.
    pub commits_in_order: bool,
    /// Whether the server is started again before the clients finish in peace.
    pub restarts_at_heal: bool,
    /// Shards at the most.
    pub shards_max: u64,
    /// Connections speak TLS.
    pub is_secure: bool,
    /// The application that hears of files, if there is one.
    pub application: Option<Application>,
    /// Who hears of uploads that ended, if anybody does.
    pub broker: Option<Broker>,
    /// Who clients are, where somebody asks.
    pub identities: Option<Identities>,
    /// Whether a custody ledger is kept.
    pub keeps_custody: bool,
    /// The object store that files go to, if there is one.
    pub store: Option<StorePlan>,
}

/// Path of the folder that exists from the start.
pub const FOLDER: &str = "in";
/// Path of the root that is on a file system of its own, in some runs.
pub const OTHER: &str = "other";

impl Plan {
    /// Draws a run.
    pub fn draw(seed: u64) -> Self {
        Self::draw_with(seed, StorePlan::draw(seed))
    }

    /// The same, with this store or none.
    pub fn draw_with(seed: u64, store: Option<StorePlan>) -> Self {
        let mut rng = Rng::new(seed);
        let application = Application::draw(seed);
        // Drawn apart, so that the other choices of a seed stay what they were.
        let mut disks = Rng::new(mix(seed ^ 0xd15c));
        let has_two_disks = disks.chance(300);
        let identities = Identities::draw(seed);
        let broker = Broker::draw(seed);
        let mut config = config(&mut rng, application.as_ref());
        if let Some(identities) = &identities {
            config.locations[0].access = identities.access();
        }
        let block = config.limits.block_bytes as u64;
        if let Some(broker) = &broker {
            config.limits.events_owed_per_shard_max = broker.owed_max;
            config.events.webhook = "http://events.example/".to_owned();
            if broker.are_two {
                config.events.nats = "nats://events.example".to_owned();
            }
        }
        let mut space = Rng::new(mix(seed ^ 0x5bace));
        config.limits.reserve_share_max = space.pick(&[0, 1, 25, 25]);
        let mut digests = Rng::new(mix(seed ^ 0xd16e57));
        config.limits.digest_step_bytes = digests.pick(&[1, 200, 1 << 30]);
        config.global_mut().policy.digest = digests.pick(&[
            Algorithms::None,
            Algorithms::Sha256,
            Algorithms::Sha256,
            Algorithms::Both,
        ]);
        config.limits.reserve_ms_max = space.pick(&[1_000, 60_000]);
        if let Some(store) = &store {
            store.prepare(&mut config);
        }
        let largest_file = space.chance(150).then(|| space.within(100, 3_000));
        let mut uploads = uploads(&mut rng, &config, block);
        if has_two_disks {
            let other = Location {
                prefix: OTHER.to_owned(),
                root: 1,
                ..config.global().clone()
            };
            config.roots.push(PathBuf::new());
            config.locations.insert(0, other);
            let salt = disks.next();
            for upload in &mut uploads {
                // The same for those that share a path.
                let path = &upload.path;
                let hash = path
                    .bytes()
                    .fold(salt, |hash, byte| mix(hash ^ u64::from(byte)));
                if hash & 1 == 0 {
                    upload.path = format!("{OTHER}/{path}");
                }
            }
        }
        if let Some(store) = &store {
            store.enter(&mut config);
        }
        let config = Arc::new(config);
        let mut old = Vec::new();
        for upload in &uploads {
            if rng.chance(40) && !upload.path.contains("new") {
                old.push((upload.path.clone(), b"older than the server".to_vec()));
            }
        }
        let crash_steps = if rng.chance(750) {
            rng.pick(&[60, 200, 600, 2_000])
        } else {
            0
        };
        let mut ailing = Rng::new(mix(seed ^ 0xa111));
        let faults = Faults {
            ails_ms: match ailing.chance(300) {
                true => ailing.pick(&[1_000, 5_000, 30_000]),
                false => 0,
            },
            ..faults(&mut rng)
        };
        Self {
            seed,
            config,
            uploads,
            old,
            faults,
            largest_file,
            mischief: mischief(&mut rng),
            crash_steps,
            ends: rng.pick(&[[1, 0, 0], [0, 1, 0], [3, 3, 1], [1, 1, 3], [1, 3, 1]]),
            crash_in_recovery: if rng.chance(400) { 400 } else { 0 },
            strikes: rng.pick(&[0, 0, 150, 500]),
            weather: Weather {
                delay_ms_max: rng.pick(&[0, 2, 50, 2_000]),
                split: rng.pick(&[0, 50, 500]),
                capacity: rng.pick(&[64, 1_024, 65_536]),
            },
            load_ms: rng.pick(&[20_000, 90_000, 300_000]),
            reuses_inodes: rng.chance(500),
            sector: rng.pick(&[32, 512]),
            commits_in_order: disks.chance(500),
            restarts_at_heal: rng.chance(400),
            shards_max: rng.within(1, 4),
            is_secure: Rng::new(mix(seed ^ 0x715)).chance(250),
            application,
            broker,
            identities,
            keeps_custody: Rng::new(mix(seed ^ 0xc057_0d1a)).chance(500),
            store,
        }
    }
}

impl Plan {
    /// Nobody is asked who it is.
    pub fn ask_nobody(&mut self) {
        self.identities = None;
        for location in &mut Arc::make_mut(&mut self.config).locations {
            location.access = Access::default();
        }
    }

    /// As before there was one.
    pub fn keep_no_custody(&mut self) {
        self.keeps_custody = false;
    }

    /// All files stay here.
    pub fn store_nothing(&mut self) {
        self.store = None;
        for location in &mut Arc::make_mut(&mut self.config).locations {
            location.objects = None;
            location.download = Download::Get;
            location.policy.digest_file = false;
        }
    }

    /// Whether the files of a path go into a store.
    pub fn is_stored(&self, path: &str) -> bool {
        self.config.location(path).objects.is_some()
    }

    /// As before there were any.
    pub fn compute_no_digests(&mut self) {
        for location in &mut Arc::make_mut(&mut self.config).locations {
            location.policy.digest = Algorithms::None;
        }
    }

    /// Nobody wants to hear of uploads.
    pub fn tell_nobody(&mut self) {
        self.broker = None;
        Arc::make_mut(&mut self.config).events = EventSettings::default();
    }

    /// Who hears of uploads that ended.
    pub fn targets(&self) -> EventTargets {
        match &self.broker {
            None => EventTargets::NONE,
            Some(broker) if broker.are_two => EventTargets::NONE
                .with(EventTarget::Webhook)
                .with(EventTarget::Nats),
            Some(_) => EventTargets::NONE.with(EventTarget::Webhook),
        }
    }

    /// All on one file system.
    pub fn join_disks(&mut self) {
        let config = Arc::make_mut(&mut self.config);
        config.roots.truncate(1);
        config.locations.retain(|location| location.root == 0);
        let paths = (self.uploads.iter_mut().map(|upload| &mut upload.path))
            .chain(self.old.iter_mut().map(|(path, _)| path));
        for path in paths {
            if let Some(rest) = path.strip_prefix(&format!("{OTHER}/")) {
                *path = rest.to_owned();
            }
        }
    }
}

fn config(rng: &mut Rng, application: Option<&Application>) -> Config {
    let limits = Limits {
        head_bytes_max: rng.pick(&[640, 1_024]),
        long_heads_per_shard_max: 2,
        headers_max: 16,
        value_bytes_max: 256,
        connections_per_shard_max: rng.pick(&[2, 64, 64]),
        connections_per_client_max: 1_048_576,
        body_blocks_per_shard: rng.pick(&[1, 1, 8]),
        block_bytes: rng.pick(&[16, 64, 512, 4_096]),
        sessions_per_shard_max: rng.pick(&[2, 1_000, 1_000]),
        mailbox_max: rng.pick(&[1, 256, 256]),
        head_ms_max: rng.pick(&[5_000, 10_000]),
        idle_ms_max: rng.pick(&[8_000, 60_000]),
        body_stall_ms_max: rng.pick(&[5_000, 60_000]),
        drain_bytes_max: rng.pick(&[64, 65_536]),
        shutdown_ms_max: rng.pick(&[1_000, 30_000]),
        tombstone_ms_max: rng.pick(&[5_000, 600_000, 600_000]),
        tombstones_per_shard_max: rng.pick(&[1, 4_096, 4_096]),
        path_depth_max: 64,
        journal_bytes_max: rng.pick(&[24_000, 1 << 30, 1 << 30]),
        ..Limits::default()
    };
    let policy = Policy {
        durability: rng.pick(&[
            Durability::None,
            Durability::Upload,
            Durability::Upload,
            Durability::Fragment,
        ]),
        digest: Algorithms::None,
        digest_file: false,
        publish: rng.pick(&[Publish::Close, Publish::Close, Publish::LastFragment]),
        allow_overwrite: rng.chance(400),
        create_dirs: rng.chance(500),
        file_mode: None,
        dir_mode: None,
        empty_file: rng.pick(EmptyFile::ALL),
        strict: false,
        upload_bytes_max: rng.chance(150).then_some(700),
        fragment_bytes_max: rng.pick(&[100, 1_000_000, 1_000_000]),
        session_timeout: Duration::from_millis(rng.pick(&[30_000, 900_000, 900_000])),
        empty_session_timeout: Duration::from_millis(rng.pick(&[20_000, 900_000, 900_000])),
    };
    let notification = application.map(|application| Notification {
        kind: match application.is_by_value {
            true => NotificationType::ByValue,
            false => NotificationType::ByReference,
        },
        url: "http://app.example/application".to_owned(),
        timeout: Duration::from_secs(20),
        retries: 0,
        secret: None,
        in_flight_max: 4,
        reply_bytes_max: 1 << 20,
    });
    Config {
        listeners: Vec::new(),
        certificates: Vec::new(),
        tls_version_min: bitsd::config::TlsVersion::Tls12,
        listen: Vec::new(),
        settings_file: PathBuf::new(),
        passed_over: Vec::new(),
        roots: vec![PathBuf::new()],
        admin_socket: PathBuf::new(),
        admin_listen: Vec::new(),
        admin_names: Vec::new(),
        custody: PathBuf::new(),
        work_dir: PathBuf::new(),
        cores: 1,
        log_format: LogFormat::Text,
        log_level: LogLevel::Warn,
        io: Io::Auto,
        cleanup_interval: Duration::from_secs(1),
        locations: vec![Location {
            objects: None,
            series: 0,
            prefix: String::new(),
            root: 0,
            has_own_root: false,
            is_enabled: true,
            download: Download::Get,
            access: Access::default(),
            prefix_case: PrefixCase::Exact,
            policy,
            public_url: None,
            host: None,
            notification,
            sessions_per_client_max: None,
            sessions_per_user_max: None,
            send_events: true,
        }],
        limits,
        accounts: AccountSettings::default(),
        events: EventSettings::default(),
    }
}

fn uploads(rng: &mut Rng, config: &Config, block: u64) -> Vec<Upload> {
    let count = rng.within(1, 10);
    let shares_paths = rng.chance(250);
    let spread_ms = rng.pick(&[50, 20_000]);
    let has_large = rng.chance(300);
    (0..count)
        .map(|number| {
            let size = match rng.below(8) {
                0 => 0,
                1 => rng.within(1, 3),
                2 => block * rng.within(1, 3),
                3 => block * rng.within(1, 3) - 1,
                4 => block * rng.within(1, 3) + 1,
                5 if has_large => rng.within(4_000, 16_000),
                _ => rng.below(4 * block.min(1_024) + 1),
            };
            let name = if shares_paths { number % 2 } else { number };
            let folder = match rng.below(6) {
                0 => String::new(),
                1 => format!("new{}/deep/", name % 3),
                _ => format!("{FOLDER}/"),
            };
            Upload {
                path: format!("{folder}{name}.bin"),
                size: size.min(
                    (config.global().policy)
                        .upload_bytes_max
                        .map_or(u64::MAX, |max| max + 1),
                ),
                content: rng.next(),
                start_ms: rng.below(spread_ms),
                fragment_bytes: rng.pick(&[7, 100, 3_000, 100_000, 100_000]).max(size / 200),
                tells_empty_by_close: rng.chance(500),
            }
        })
        .collect()
}

fn faults(rng: &mut Rng) -> Faults {
    let mut some = |rate: u64| if rng.chance(350) { rate } else { 0 };
    Faults {
        short: some(200),
        full: some(1) > 0,
        write: some(15),
        sync: some(60),
        ails_ms: 0,
        sync_folder: some(150),
        slow: some(20),
        corrupt: some(400),
        unanswered: some(30),
    }
}

fn mischief(rng: &mut Rng) -> Mischief {
    let mut some = |rate: u64| if rng.chance(350) { rate } else { 0 };
    Mischief {
        older: some(100),
        overlap: some(200),
        gap: some(100),
        cut: some(200),
        stall: some(40),
        lie: some(60),
        total: some(60),
        rival: some(200),
        cancel: some(30),
        forget: some(30),
        close_early: some(30),
        garbage: some(80),
        chunked: some(300),
        expect: some(200),
        steal: some(60),
        escape: some(40),
        repeat: some(500),
    }
}
