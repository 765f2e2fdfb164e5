//! Flags and settings file in, one resolved `Config` out; every limit and its default.
//!
//! The settings file is TOML, every key is optional, and flags win over it. What is wrong is refused before anything
//! starts, with file, line and column: an unknown key, a wrong type, a value out of its bounds. Relative paths, in flags
//! and in the file, are relative to the directory `bitsd` is started in. Numbers stand in one table each ([`Limits`],
//! and the rows of `number.rs`), from which parsing, `bitsd check` and [`settings_reference`] are made.
//!
//! What holds for an upload may differ by the prefix of its URL ([`Location`]); a flag sets the global value, from which
//! a location may still depart. [`adopt`] says what a running server takes over from a file that was read again.

mod error;
mod limits;
mod location;
mod log;
mod notification;
mod number;
mod policy;
mod print;
pub mod quantity;
mod reference;
mod reload;
mod roots;
mod secret;
mod settings_file;
mod url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

pub use error::{ConfigError, Origin, Place};
pub use limits::Limits;
pub use location::{Host, Location};
pub use log::{LogFormat, LogLevel};
pub use notification::{Notification, NotificationType};
use number::{Amount, CLEANUP_INTERVAL, CORES, narrow};
pub use policy::{Durability, EmptyFile, Io, Policy, Publish};
pub use reference::{Scope, SettingDoc, settings_reference};
pub use reload::adopt;
use roots::Roots;
pub use secret::Secret;
pub use settings_file::SettingsFile;
use settings_file::{Listen, SettingsText};

/// Everything resolved; what `bitsd check` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Addresses to listen on; never empty.
    pub listen: Vec<SocketAddr>,
    /// Where files go: first `root`, then the roots of locations, each once.
    pub roots: Vec<PathBuf>,
    /// Where unfinished sessions live; on the same file system as every root. Default `ROOT/.bitsd`.
    pub work_dir: PathBuf,
    /// Number of shards.
    pub cores: usize,
    /// Log form.
    pub log_format: LogFormat,
    /// Log level.
    pub log_level: LogLevel,
    /// How bytes reach their files.
    pub io: Io,
    /// How often expired uploads are looked for.
    pub cleanup_interval: Duration,
    /// Settings per URL prefix, longest prefix first. The last one has the empty prefix: the global values. Never empty.
    pub locations: Vec<Location>,
    /// Bounds.
    pub limits: Limits,
}

/// What the command line says; everything it leaves out comes from the file or the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`, once for each address.
    pub listen: Vec<SocketAddr>,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--work-dir`.
    pub work_dir: Option<PathBuf>,
    /// `--cores`; 0 is all that are available.
    pub cores: Option<u32>,
    /// `--io`.
    pub io: Option<Io>,
    /// `--durability`.
    pub durability: Option<Durability>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
}

impl Config {
    /// Settles every value: flags, then the file, then the defaults.
    ///
    /// # Errors
    /// A value is out of its bounds, or two values contradict each other.
    pub fn resolve(flags: Flags, file: Option<SettingsFile>) -> Result<Self, ConfigError> {
        let SettingsFile { text, mut raw } = file.unwrap_or_default();
        let mut roots = Roots::resolve(
            given("--root", flags.root, &raw.root, &text),
            given("--work-dir", flags.work_dir, &raw.work_dir, &text),
        )?;
        let cores = match flags.cores {
            Some(cores) => Some((Origin::Flag("--cores"), Amount::Integer(cores.into()))),
            None => text.located(&raw.cores),
        };
        let mut global = raw.take_shared();
        global.durability = flags.durability.or(global.durability);
        let locations = location::resolve_all(raw.location.0, &global, &mut roots, &text)?;
        let Roots { roots, work_dir } = roots;
        Ok(Self {
            listen: resolve_listen(flags.listen, raw.listen, &text)?,
            roots,
            work_dir,
            cores: resolve_cores(cores)?,
            log_format: flags
                .log_format
                .or(raw.log_format)
                .unwrap_or(LOG_FORMAT_DEFAULT),
            log_level: flags
                .log_level
                .or(raw.log_level)
                .unwrap_or(LOG_LEVEL_DEFAULT),
            io: flags.io.or(raw.io).unwrap_or(IO_DEFAULT),
            cleanup_interval: CLEANUP_INTERVAL
                .resolve_duration(text.located(&raw.cleanup_interval))?,
            locations,
            limits: Limits::resolve(raw.limits, &text)?,
        })
    }

    /// What holds where no location says otherwise.
    pub fn global(&self) -> &Location {
        self.locations.last().expect("never empty")
    }

    /// The same, to be changed; locations have inherited already and do not follow.
    pub fn global_mut(&mut self) -> &mut Location {
        self.locations.last_mut().expect("never empty")
    }

    /// The index of the location with the longest prefix of a path, in whole names. The path is decoded and has no slash
    /// at either end, as [`UploadPath::as_str`](crate::http::path::UploadPath::as_str) gives it.
    pub fn location_index(&self, path: &str) -> usize {
        let found = self
            .locations
            .iter()
            .position(|location| location.covers(path));
        found.expect("the last one covers everything")
    }

    /// The location with the longest prefix of a path; see [`Self::location_index`].
    pub fn location(&self, path: &str) -> &Location {
        &self.locations[self.location_index(path)]
    }
}

/// What the flag says, or else the file, and where.
fn given<T: Clone>(
    flag: &'static str,
    value: Option<T>,
    written: &Option<Spanned<T>>,
    text: &SettingsText,
) -> Option<(Origin, T)> {
    match value {
        Some(value) => Some((Origin::Flag(flag), value)),
        None => text.located(written),
    }
}

fn resolve_listen(
    flags: Vec<SocketAddr>,
    file: Option<Spanned<Listen>>,
    text: &SettingsText,
) -> Result<Vec<SocketAddr>, ConfigError> {
    if !flags.is_empty() {
        return Ok(flags);
    }
    match file.map(|listen| text.locate(listen)) {
        Some((origin, Listen(addresses))) if addresses.is_empty() => {
            Err(ConfigError::NothingToListenOn { origin })
        }
        Some((_, Listen(addresses))) => Ok(addresses),
        None => Ok(vec![
            LISTEN_DEFAULT.parse().expect("a constant with a test"),
        ]),
    }
}

fn resolve_cores(written: Option<(Origin, Amount)>) -> Result<usize, ConfigError> {
    match CORES.resolve(written)? {
        0 => {
            let available = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(available.min(narrow(*CORES.bounds.end())))
        }
        cores => Ok(narrow(cores)),
    }
}

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
const LOG_FORMAT_DEFAULT: LogFormat = LogFormat::Text;
const LOG_LEVEL_DEFAULT: LogLevel = LogLevel::Info;
const IO_DEFAULT: Io = Io::Auto;

#[cfg(test)]
mod tests {
    use super::*;
    use quantity::GIB;
    use std::path::Path;

    pub(super) fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = SettingsFile::parse(Path::new("bitsd.toml"), text.to_owned())?;
        Config::resolve(Flags::default(), Some(file))
    }

    pub(super) fn words(text: &str) -> String {
        from_file(text).expect_err("it must be refused").to_string()
    }

    #[test]
    fn without_flags_and_file_the_defaults_stand() {
        let config = Config::resolve(Flags::default(), None).unwrap();
        assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(config.roots[0], Path::new("./uploads"));
        assert_eq!(config.work_dir, Path::new("./uploads/.bitsd"));
        assert!((1..=256).contains(&config.cores));
        assert_eq!(config.global().policy, Policy::default());
        assert_eq!(config.global().policy.fragment_bytes_max, 64 * 1024 * 1024);
        assert_eq!(
            config.global().policy.session_timeout,
            Duration::from_secs(14 * 86_400)
        );
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.limits.block_bytes, 512 * 1024);
        assert_eq!(config.limits.drain_bytes_max, 16 * 1024 * 1024);
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let text = "root = \"/file\"\ncores = 3\ndurability = \"none\"\nlisten = \"[::1]:1\"\nstrict = true";
        let file = SettingsFile::parse(Path::new("f"), text.to_owned()).unwrap();
        let flags = Flags {
            root: Some("/flag".into()),
            cores: Some(7),
            listen: vec![
                "127.0.0.1:2".parse().unwrap(),
                "127.0.0.1:3".parse().unwrap(),
            ],
            log_level: Some(LogLevel::Debug),
            ..Flags::default()
        };
        let config = Config::resolve(flags, Some(file)).unwrap();
        assert_eq!(config.roots[0], Path::new("/flag"));
        assert_eq!(config.work_dir, Path::new("/flag/.bitsd"));
        assert_eq!(config.cores, 7);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.global().policy.durability, Durability::None);
        assert_eq!(config.log_level, LogLevel::Debug);
        assert!(config.global().policy.strict);
    }

    #[test]
    fn every_key_can_be_set_in_the_file() {
        let text = r#"
            listen = ["127.0.0.1:80", "[::]:81"]
            root = "/r"
            work_dir = "/w"
            cores = 2
            log_format = "json"
            log_level = "warn"
            io = "ring"
            durability = "fragment"
            publish = "last-fragment"
            allow_overwrite = true
            create_dirs = true
            empty_file = "create"
            strict = true
            upload_bytes_max = "20 GiB"
            fragment_bytes_max = 5120
            session_timeout = 90
            [limits]
            head_bytes_max = "8 KiB"
            headers_max = 8
            block_bytes = 65536
            tombstones_per_shard_max = 0
        "#;
        let config = from_file(text).unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.work_dir, Path::new("/w"));
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.io, Io::Ring);
        assert_eq!(config.global().policy.publish, Publish::LastFragment);
        assert_eq!(config.global().policy.empty_file, EmptyFile::Create);
        assert_eq!(config.global().policy.upload_bytes_max, Some(20 * GIB));
        assert_eq!(config.global().policy.fragment_bytes_max, 5120);
        assert_eq!(
            config.global().policy.session_timeout,
            Duration::from_secs(90)
        );
        assert_eq!(config.limits.head_bytes_max, 8192);
        assert_eq!(config.limits.headers_max, 8);
        assert_eq!(config.limits.tombstones_per_shard_max, 0);
        assert_eq!(config.limits.mailbox_max, Limits::default().mailbox_max);
    }

    #[test]
    fn a_flag_out_of_bounds_is_refused_with_its_name() {
        let flags = Flags {
            cores: Some(300),
            ..Flags::default()
        };
        let message = Config::resolve(flags, None).unwrap_err().to_string();
        assert_eq!(
            message,
            "--cores: cores = 300 is out of bounds: it takes 0 to 256"
        );
    }

    #[test]
    fn zero_cores_are_all_that_are_available() {
        assert_eq!(
            from_file("cores = 0").unwrap().cores,
            Config::resolve(Flags::default(), None).unwrap().cores
        );
    }
}
