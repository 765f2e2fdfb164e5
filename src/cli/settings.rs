//! Flags of `serve` and `check`: those of keys are made from the settings' own table, and read by
//! its rules.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::PossibleValuesParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use bitsd::config::{ConfigError, Flags, Row, Scope, SettingsFile, Settled, default_of, rows};
use bitsd::vigil::{self, Unanswered};

/// Flags of `serve` and `check`; they win over the settings file.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    // First, since it looks at the two others as they were given.
    #[command(flatten)]
    keys: Keys,
    /// Settings file (TOML); `bitsd check --help` lists its keys [default: /etc/bitsd.toml, if
    /// there is one].
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "BITSD_CONFIG",
        hide_env_values = true,
        display_order = 0
    )]
    config: Option<PathBuf>,
    /// Read no settings file, not even /etc/bitsd.toml.
    // Neither `overrides_with` nor `conflicts_with`, which take `BITSD_CONFIG` for a flag.
    #[arg(long, display_order = 0)]
    no_config: bool,
}

/// The settings of a server that somebody asks about.
#[derive(Args, Clone, Debug)]
pub struct OfServer {
    /// The server's settings file [default: /etc/bitsd.toml, if there is one].
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "BITSD_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
}

impl OfServer {
    /// Those of its file, without flags.
    pub fn settings(&self) -> Settings {
        Settings {
            config: self.config.clone(),
            no_config: false,
            keys: Keys(Flags::default()),
        }
    }
}

/// What `check` is asked for.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// Of which settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Print only what is wrong; the exit code tells the rest.
    #[arg(short, long)]
    pub quiet: bool,
    /// Asked by a server that would make way for this program: can it go on with the listeners and
    /// the locks of that one? Whoever does not know the flag cannot.
    #[arg(long, hide = true)]
    pub successor: bool,
    /// Print what one key means, takes and is by default.
    #[arg(long, value_name = "NAME", conflicts_with = "quiet")]
    pub key: Option<String>,
    /// Print a JSON Schema of the settings file, for editors.
    #[arg(long, conflicts_with_all = ["quiet", "key"])]
    pub schema: bool,
}

impl Settings {
    /// The settings file that is read: the one that is named, or the usual one if it exists.
    pub fn file(&self) -> Option<&Path> {
        if self.no_config {
            return None;
        }
        let usual = || usual_file(Path::new(USUAL_FILE));
        self.config.as_deref().or_else(usual)
    }

    /// The flags that are named after keys.
    pub fn flags(&self) -> Flags {
        self.keys.0.clone()
    }

    /// The settings file in which this stood, if it was not empty: the usual one may be gone by
    /// now.
    pub fn file_of(&self, text: &[u8]) -> Option<PathBuf> {
        let usual = || (!text.is_empty()).then(|| PathBuf::from(USUAL_FILE));
        self.file().map(Path::to_owned).or_else(usual)
    }

    /// Settles every value by what stood in the settings file.
    fn settle_by_text(&self, text: Vec<u8>) -> Result<Settled, ConfigError> {
        let file = self.file_of(&text);
        let file = file.map(|path| SettingsFile::of_bytes(&path, text));
        Settled::resolve(self.flags(), file.transpose()?)
    }

    /// Reads the settings file, if there is one, and settles every value.
    pub fn settle(&self) -> Result<Settled, ConfigError> {
        let file = self.file().map(SettingsFile::read).transpose()?;
        Settled::resolve(self.flags(), file)
    }

    /// The same, of the file or of this in its place, if what they name answers until then.
    pub fn settle_by(
        &self,
        deadline: Instant,
        text: Option<Vec<u8>>,
    ) -> Result<Result<Settled, ConfigError>, Unanswered> {
        let (settings, here) = (self.clone(), text.clone());
        let settle = |settings: &Self, text| match text {
            Some(text) => settings.settle_by_text(text),
            None => settings.settle(),
        };
        match vigil::within(deadline, move || settle(&settings, here)) {
            // Nobody sees then whether it waits.
            Err(Unanswered::NoThread(_)) => Ok(settle(self, text)),
            settled => settled,
        }
    }
}

/// The settings file that is read where none is named, if there is one.
pub fn usual_settings() -> Option<PathBuf> {
    usual_file(Path::new(USUAL_FILE)).map(Path::to_owned)
}

/// The usual file, if something stands there. What cannot be read, or is a link that leads nowhere,
/// is told when it is read.
fn usual_file(path: &Path) -> Option<&Path> {
    match vigil::at(path, || path.symlink_metadata()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        _ => Some(path),
    }
}

/// Flags, and variables of the environment, that are named after keys.
#[derive(Clone, Debug)]
struct Keys(Flags);

impl Args for Keys {
    fn augment_args(command: Command) -> Command {
        command.args(rows().filter(|row| row.has_flag).map(arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Keys {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if matches.get_flag("no_config")
            && matches.value_source("config") == Some(ValueSource::CommandLine)
        {
            let why =
                "--config names a file, and --no-config says that none is read: leave one out\n";
            return Err(clap::Error::raw(ErrorKind::ArgumentConflict, why));
        }
        let mut flags = Flags::default();
        for row in rows().filter(|row| row.has_flag) {
            let is_variable = matches.value_source(row.key) == Some(ValueSource::EnvVariable);
            for value in matches.get_raw(row.key).into_iter().flatten() {
                flags = match is_variable {
                    true => flags.said_by(variable(row), row.key, value),
                    false => flags.said_by(format!("--{}", flag(row)), row.key, value),
                };
            }
        }
        Ok(Self(flags))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Variables that are none of ours, and almost are, or are called like a key that has none: a slip
/// that nobody else would tell of. They are not refused, since others set some too (Kubernetes
/// `BITSD_PORT`, for a service of that name).
pub fn misspelt_variables() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    misspelt(names)
}

fn misspelt(names: impl Iterator<Item = String>) -> Vec<String> {
    let ours = rows().filter(|row| row.has_flag).map(variable);
    let ours: Vec<_> = ours
        .chain(["BITSD_CONFIG", "BITSD_ADMIN_SOCKET"].map(str::to_owned))
        .collect();
    let mut told: Vec<_> = names
        .filter(|name| name.starts_with("BITSD_") && !ours.contains(name))
        .filter_map(|name| {
            if name == "BITSD_NO_CONFIG" {
                return Some(format!("{name} sets nothing: --no-config is a flag only"));
            }
            let is_key = |row: &&Row| {
                let whole = row.key.replace('.', "_");
                [row.name(), &whole].map(variable_of).contains(&name)
            };
            if let Some(row) = rows().find(is_key) {
                let key = row.key;
                return Some(format!(
                    "{name} sets nothing: {key} stands in the settings file only"
                ));
            }
            let alike = |known: &String| strsim::damerau_levenshtein(known, &name);
            let near = ours.iter().min_by_key(|known| alike(known))?;
            (alike(near) <= SLIPS_MAX)
                .then(|| format!("there is no variable {name}; did you mean {near}?"))
        })
        .collect();
    told.sort_unstable();
    told
}

/// More would be guessing.
const SLIPS_MAX: usize = 1;

fn flag(row: &Row) -> String {
    row.key.replace('_', "-")
}

fn variable(row: &Row) -> String {
    variable_of(row.key)
}

/// The variable of a key, or of a flag without its dashes.
pub fn variable_of(key: &str) -> String {
    format!("BITSD_{}", key.to_ascii_uppercase())
}

/// Values are read by the key's own rules, in the words of the file.
fn arg(row: &'static Row) -> Arg {
    let arg = Arg::new(row.key)
        .long(flag(row))
        .env(variable(row))
        .hide_env_values(true)
        .value_name(row.value_name());
    let arg = match row.is_list() {
        true => arg.action(ArgAction::Append).value_delimiter(','),
        false => arg,
    };
    let bounds = match row.value_name() {
        "N" => format!(": {}", row.takes()),
        _ => String::new(),
    };
    let (meaning, default) = (row.meaning().trim_end_matches('.'), default_of(row));
    let default = default.trim_matches('"');
    let arg = arg.help(format!("{meaning}{bounds} [default: {default}]"));
    if row.words().is_empty() {
        arg.value_parser(clap::value_parser!(OsString))
    } else {
        arg.value_parser(PossibleValuesParser::new(row.words()))
            .ignore_case(true)
    }
}

/// What `bitsd serve --help` ends with.
pub const SERVE_EXAMPLES: &str = "\
Examples:
  bitsd serve --root /srv/uploads --listen 0.0.0.0:8080
  bitsd serve --config /etc/bitsd.toml        as a service does
  BITSD_ROOT=/data bitsd serve --log-format json

SIGTERM or Ctrl-C stops it cleanly, a second one at once; SIGHUP makes it read its settings again.

Exit codes: 0 it stopped cleanly, 1 it could not start or was stopped at once, 2 the command line
or the settings are wrong.";

/// What `bitsd check -h` ends with.
pub const CHECK_EXAMPLES: &str = "\
Examples:
  bitsd check --config /etc/bitsd.toml        what holds, and where it was said
  bitsd check --quiet && systemctl reload bitsd
  bitsd check --key session_timeout           also --key BITSSessionTimeout, as IIS calls it
  bitsd check --schema > bitsd.schema.json    for editors

Exit codes: 0 all is well, 1 the server could not start with what the settings name, 2 the command
line or the settings are wrong.";

/// What `bitsd check --help` ends with: the settings file's keys too.
pub fn all_of_check() -> String {
    let mut text = format!("{CHECK_EXAMPLES}\n\nKeys of the settings file:\n");
    for row in rows() {
        text.push('\n');
        text.push_str(&about(row));
    }
    text.push_str("\nRelative paths are relative to the directory bitsd is started in.");
    text
}

/// What `check --key` says of the keys of this name; `None` if there is none.
pub fn about_key(name: &str) -> Option<String> {
    let is_asked = |row: &&Row| {
        let is_of_iis = |iis: &&str| iis.eq_ignore_ascii_case(name);
        row.key == name || row.name() == name || row.iis.iter().any(is_of_iis)
    };
    let text: Vec<_> = rows().filter(is_asked).map(about).collect();
    (!text.is_empty()).then(|| text.join("\n"))
}

fn about(row: &'static Row) -> String {
    let place = match row.scope {
        Scope::Server | Scope::Limits | Scope::Events => "",
        Scope::Both => " Also in a [[location]].",
        Scope::Location => " Only in a [[location]].",
        Scope::Listener => " Only in a [[listener]].",
        Scope::Certificate => " Only in a [[certificate]].",
    };
    let reload = match row.is_live {
        true => " A reload changes it.",
        false => " Changes with the next start.",
    };
    let flag = match row.has_flag {
        true => format!(
            "      Flag: --{} {}, variable: {}.\n",
            flag(row),
            row.value_name(),
            variable(row)
        ),
        false => String::new(),
    };
    let iis = match row.iis {
        [] => String::new(),
        names => format!("      In IIS: {}.\n", names.join(", ")),
    };
    format!(
        "  {}\n      {}\n      Takes {}. Default: {}.{place}{reload}\n{flag}{iis}",
        row.key,
        row.meaning(),
        row.takes(),
        default_of(row)
    )
}

/// Where the service's settings usually stand.
const USUAL_FILE: &str = "/etc/bitsd.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file_that_is_a_link_to_nowhere_is_not_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("bitsd.toml");
        assert_eq!(usual_file(&file), None);
        std::os::unix::fs::symlink("settings/new.toml", &file).unwrap();
        assert_eq!(usual_file(&file), Some(&*file));
        let words = SettingsFile::read(&file).unwrap_err().to_string();
        let named = format!("cannot read the settings file {}: ", file.display());
        assert!(words.starts_with(&named), "{words}");
        let link = "it is a link to settings/new.toml, which does not exist";
        assert!(words.ends_with(link), "{words}");
    }

    #[test]
    fn a_variable_with_a_slip_is_told_of_and_those_of_others_are_not() {
        let told = |name: &str| misspelt([name.to_owned()].into_iter()).pop();
        for (name, near) in [
            ("BITSD_ROOTS", Some("BITSD_ROOT")),
            ("BITSD_LISTN", Some("BITSD_LISTEN")),
            ("BITSD_LOGLEVEL", Some("BITSD_LOG_LEVEL")),
            ("BITSD_CONFIGS", Some("BITSD_CONFIG")),
            ("BITSD_AUTH", Some("auth stands in the settings file only")),
            ("BITSD_ALLOW_FROM", Some("BITSD_ALLOW_FROM sets nothing")),
            ("BITSD_UPLOAD_BYTES_MAX", Some("sets nothing")),
            ("BITSD_ADMIN_SOCKET", None),
            ("BITSD_ADMIN_SOCKETS", Some("BITSD_ADMIN_SOCKET")),
            ("BITSD_FREE_BYTES_MIN", Some("sets nothing")),
            ("BITSD_ROOT", None),
            ("BITSD_CONFIG", None),
            ("BITSD_RTOO", None),
            ("BITSD_PORT", None),
            ("BITSD_PASSWORD", None),
            ("BITSD_HANDED_ON", None),
            ("BITSD_PORT_8080_TCP_ADDR", None),
            ("BITSD_SERVICE_HOST", None),
            ("BITS_ROOT", None),
            ("ROOT", None),
        ] {
            let told = told(name);
            assert_eq!(told.is_some(), near.is_some(), "{name}: {told:?}");
            let told = told.unwrap_or_default();
            assert!(told.contains(near.unwrap_or_default()), "{told}");
        }
    }
}
