//! The form of the log, as far as it can be known where the command line or the settings are wrong.
//! A start that fails is told in the form that the reader of the log expects.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitsd::config::{FILE_BYTES_MAX, LogFormat};
use bitsd::{named_file, vigil};

use super::settings::{Settings, usual_settings};

/// How long a settings file that may not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// [`asked_for`] while the settings are read, and something does not answer: the settings file,
/// perhaps.
pub fn asked_for_in_time(settings: &Settings) -> LogFormat {
    let settings = settings.clone();
    let known = vigil::within(Instant::now() + PATIENCE, move || {
        asked_for(settings.file())
    });
    known.unwrap_or_else(|_| asked_for(None))
}

/// The same where the command line is wrong: also of the settings file that it names, or that holds
/// without one.
pub fn asked_for_by_line() -> LogFormat {
    let words: Vec<OsString> = std::env::args_os().collect();
    let variable = std::env::var_os("BITSD_CONFIG").filter(|file| !file.is_empty());
    let known = vigil::within(Instant::now() + PATIENCE, move || {
        let named = named_by(&words, variable);
        asked_for(named.or_else(usual_settings).as_deref())
    });
    known.unwrap_or_else(|_| asked_for(None))
}

/// The settings file that a command line names, or else the variable for it. One that nobody may
/// read is as good as none.
fn named_by(words: &[OsString], variable: Option<OsString>) -> Option<PathBuf> {
    if words.iter().any(|word| word == "--no-config") {
        return Some(PathBuf::new());
    }
    let pairs = words.windows(2);
    let pairs = pairs.filter(|pair| pair[0] == "--config" || pair[0] == "-c");
    let joined = words.iter().filter_map(|word| {
        let word = word.to_str()?;
        let file = word.strip_prefix("--config=");
        let file = file.or_else(|| word.strip_prefix("-c").filter(|file| !file.is_empty()));
        file.map(|file| OsString::from(file.strip_prefix('=').unwrap_or(file)))
    });
    let named = pairs.map(|pair| pair[1].clone()).chain(joined).last();
    named.or(variable).map(PathBuf::from)
}

/// What flags, environment or settings file ask for, in this order, whatever else is wrong with
/// them.
pub fn asked_for(file: Option<&Path>) -> LogFormat {
    let words: Vec<OsString> = std::env::args_os().collect();
    let variable = || std::env::var("BITSD_LOG_FORMAT").ok();
    // A pipe can be read once, and that is for the settings themselves.
    let in_file = || text_of(file?);
    let is_json = by_flag(&words)
        .or_else(|| variable().map(|word| word.eq_ignore_ascii_case("json")))
        .or_else(|| in_file().map(|text| is_json_in(&text)));
    match is_json {
        Some(true) => LogFormat::Json,
        _ => LogFormat::Text,
    }
}

/// What stands in a settings file, whatever it is.
pub fn text_of(file: &Path) -> Option<String> {
    let text = named_file::read(file, FILE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Whether the last flag of this name says JSON; `None` without one.
fn by_flag(words: &[OsString]) -> Option<bool> {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let pairs = words.windows(2).filter(|pair| pair[0] == "--log-format");
    let joined = words
        .iter()
        .filter_map(|word| word.strip_prefix("--log-format="));
    let values = pairs.map(|pair| &*pair[1]).chain(joined);
    values
        .last()
        .map(|value| value.eq_ignore_ascii_case("json"))
}

/// What a settings file, which may be no TOML, says of a key above its first table: all that stands
/// behind the sign.
fn said_in<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches('\u{feff}').trim());
    let top = lines.take_while(|line| !line.starts_with('['));
    let mut values = top.filter_map(|line| {
        let rest = line.strip_prefix(key)?.trim_start();
        rest.strip_prefix('=').map(str::trim_start)
    });
    values.next()
}

/// The path that a key above the first table names, whatever else is wrong with the file.
pub fn path_in(text: &str, key: &str) -> Option<PathBuf> {
    let said: toml::Table = format!("said = {}", said_in(text, key)?).parse().ok()?;
    Some(PathBuf::from(said.get("said")?.as_str()?))
}

/// Whether such a file says JSON.
fn is_json_in(text: &str) -> bool {
    let value = said_in(text, "log_format").unwrap_or_default();
    let value = value.to_ascii_lowercase();
    value.starts_with("\"json\"") || value.starts_with("'json'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_file_of_a_wrong_command_line_is_known() {
        let named = |line: &str| {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            named_by(&words, Some("variable".into()))
        };
        for (line, file) in [
            ("bitsd serve --nonsense", "variable"),
            ("bitsd serve --config a --nonsense", "a"),
            ("bitsd serve --nonsense -c a", "a"),
            ("bitsd serve --config=a --cores x", "a"),
            ("bitsd serve -ca --cores x", "a"),
            ("bitsd serve -c=a --cores x", "a"),
            ("bitsd serve --no-config --nonsense", ""),
        ] {
            assert_eq!(named(line), Some(PathBuf::from(file)), "{line}");
        }
        assert_eq!(named_by(&[], None), None);
    }

    #[test]
    fn the_form_is_known_though_the_settings_are_wrong() {
        for text in [
            "log_format = \"json\"\nnonsense = 1\n",
            "\u{feff}root = 1\n  log_format='JSON' # for the collector\n",
        ] {
            assert!(is_json_in(text), "{text}");
        }
        for text in [
            "",
            "log_format = \"text\"\n",
            "[limits]\nlog_format = \"json\"\n",
            "log_formats = \"json\"\n",
        ] {
            assert!(!is_json_in(text), "{text}");
        }
        let by_flag =
            |line: &str| by_flag(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(
            by_flag("bitsd serve --nonsense --log-format json"),
            Some(true)
        );
        assert_eq!(
            by_flag("bitsd serve --log-format=json --nonsense"),
            Some(true)
        );
        assert_eq!(
            by_flag("bitsd serve --log-format text --root json"),
            Some(false)
        );
        assert_eq!(by_flag("bitsd serve --root json"), None);
    }
}
