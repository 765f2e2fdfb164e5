//! The command line: flags and their words. What they mean is known by `config` and `client`.

pub mod admin;
pub mod again;
#[cfg(feature = "bench")]
pub mod bench;
pub mod custody;
pub mod log_format;
#[cfg(feature = "client")]
pub mod proof;
#[cfg(feature = "put")]
pub mod put;
pub mod settings;
pub mod token;
#[cfg(feature = "client")]
pub mod trust;

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use bitsd::http::userinfo;
use bitsd::{observe, unseen};
use settings::{Check, Settings, variable_of};

/// A BITS upload server for Linux.
#[derive(Debug, Parser)]
#[command(version = bitsd::version::LONG, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What the command line and the environment say.
    ///
    /// # Errors
    /// Help, the version, or what is wrong.
    pub fn read() -> Result<Self, clap::Error> {
        let mut command = without_empty_variables(Self::command());
        let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let read = Self::from_arg_matches_mut(&mut matches);
        read.map_err(|error| error.format(&mut command))
    }
}

/// A variable that is set to nothing is one that is not set: `${CORES:-}` in a file for containers,
/// `Environment=BITSD_CORES=` in a unit.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty =
        |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let names: Vec<_> = (command.get_subcommands())
        .map(|below| below.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| {
        let is_unset = arg.get_env().is_some_and(is_empty);
        match is_unset {
            true => arg.env(Resettable::Reset),
            false => arg,
        }
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, without_empty_variables)
    })
}

const EXAMPLES: &str = "\
Examples:
  bitsd serve --root /srv/uploads --listen 0.0.0.0:8080
  bitsd check --config /etc/bitsd.toml
  bitsd put today.zip http://server:8080/

`bitsd COMMAND --help` has more examples, and the exit codes; `bitsd check --help` every key of the
settings file. The manual is README.md and docs/ of the source.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive uploads until told to stop.
    #[command(after_help = settings::SERVE_EXAMPLES)]
    Serve(Settings),
    /// Check the settings and print the effective ones.
    #[command(after_help = settings::CHECK_EXAMPLES, after_long_help = settings::all_of_check())]
    Check(Check),
    /// Upload files to a BITS server.
    #[cfg(feature = "put")]
    Put(put::Put),
    /// Measure a BITS server: many uploads at once, every Ack checked.
    #[cfg(feature = "bench")]
    Bench(bench::Bench),
    /// Ask a running server how it is.
    #[command(after_help = admin::STATUS_EXAMPLES)]
    Status(admin::Status),
    /// List, show, cancel or expire unfinished uploads.
    #[command(after_help = admin::SESSIONS_EXAMPLES)]
    Sessions(admin::Sessions),
    /// Watch packets as they come, each with why it was refused.
    #[command(after_help = admin::TRACE_EXAMPLES)]
    Trace(admin::Trace),
    /// Make a running server read its settings again.
    #[command(after_help = admin::RELOAD_EXAMPLES)]
    Reload(admin::Plain),
    /// Stop a running server in order.
    #[command(after_help = admin::DRAIN_EXAMPLES)]
    Drain(admin::Plain),
    /// Make a token by which a user may upload (docs/accounts.md).
    #[command(after_help = token::EXAMPLES)]
    Token(token::Token),
    /// Verify the custody ledger, or write what it says of some uploads.
    #[command(after_help = custody::EXAMPLES)]
    Custody(custody::Custody),
}

/// A value that is refused is shown without what may be a password: others read screens and logs.
/// And `*` stands for names that others chose: none of them moves the cursor of a terminal.
pub fn make_harmless(error: &mut clap::Error) {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let Cow::Owned(shown) = userinfo::without_user(value)
    {
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        let Some(ContextValue::String(value)) = error.get(kind) else {
            continue;
        };
        let shown = unseen::replace(value, '?');
        if shown != *value {
            error.insert(kind, ContextValue::String(shown));
            // It says the same words once more.
            error.remove(ContextKind::Suggested);
        }
    }
}

/// Says what was meant, where it can be told.
pub fn suggest(error: &mut clap::Error, command: Option<&str>) {
    let word = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let arg = word(error, ContextKind::InvalidArg);
            if let Some(tip) = instead_of(command.unwrap_or_default(), &arg) {
                let tip = ContextValue::StyledStrs(vec![tip.into()]);
                error.insert(ContextKind::Suggested, tip);
            }
        }
        ErrorKind::InvalidSubcommand => {
            let asked = word(error, ContextKind::InvalidSubcommand);
            let mut known = COMMANDS_ELSEWHERE.iter();
            if let Some((_, ours)) = known.find(|(names, _)| names.contains(&asked.as_str())) {
                let ours = ContextValue::Strings(vec![(*ours).to_owned()]);
                error.insert(ContextKind::SuggestedSubcommand, ours);
            }
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let arg = word(error, ContextKind::InvalidArg);
            if let Some(variable) = variable_behind(&arg, std::env::args_os()) {
                error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
            }
        }
        _ => {}
    }
}

/// The variable that a value of a flag comes from, such as `--io <WORD>`, where no such flag stands
/// in the command line: whoever set it has never written the flag.
fn variable_behind(arg: &str, mut line: impl Iterator<Item = OsString>) -> Option<String> {
    let flag = arg.split([' ', '=']).next()?;
    let is_it = |word: OsString| {
        let word = word.to_string_lossy().into_owned();
        word.split('=').next() == Some(flag)
    };
    let name = flag.strip_prefix("--")?.replace('-', "_");
    let variable = variable_of(&name);
    (!line.any(is_it) && std::env::var_os(&variable).is_some()).then_some(variable)
}

/// What takes the place of an argument that a command does not know.
fn instead_of(command: &str, arg: &str) -> Option<&'static str> {
    let reads_settings = matches!(command, "serve" | "check");
    match arg {
        "--port" | "-p" | "--bind" | "--host" | "--address" if reads_settings => {
            Some("an address has its port: --listen 0.0.0.0:8080")
        }
        file if reads_settings && !file.starts_with('-') => {
            Some("the settings file is named by a flag: --config FILE")
        }
        "-u" if matches!(command, "put" | "bench") => Some("a user is named by --user NAME"),
        _ => None,
    }
}

/// What other programs call our commands.
const COMMANDS_ELSEWHERE: [(&[&str], &str); 5] = [
    (&["start", "run", "server", "daemon"], "serve"),
    (&["stop", "quit", "shutdown"], "drain"),
    (&["test", "validate", "verify", "config"], "check"),
    (&["upload", "send", "push"], "put"),
    (&["list", "ls", "uploads"], "sessions"),
];

/// The command that the command line, which may be wrong, begins with.
pub fn command_word() -> Option<String> {
    let words = std::env::args_os().skip(1);
    let mut words = words.map(|word| word.to_string_lossy().into_owned());
    words.find(|word| !word.starts_with('-'))
}

/// Whether the command line, which may be wrong, is that of a server, whose stderr is a log.
pub fn is_for_a_server() -> bool {
    command_word().as_deref() == Some("serve")
}

/// Says why, and that it failed.
pub fn failed(why: impl std::fmt::Display) -> ExitCode {
    say(why);
    ExitCode::FAILURE
}

/// One sentence on stderr; where nobody reads it, the exit code must do.
pub fn say(what: impl std::fmt::Display) {
    observe::say(&what);
}

/// As clap's own usage errors.
pub const WRONG_USE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let words = "bitsd check --no-config --root /r --listen 127.0.0.1:1 --listen [::1]:2 --cores 3 --work-dir /w \
                     --durability fragment --io direct --log-format json --log-level warn";
        let cli = Cli::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Check(check) = cli.command else {
            panic!("{cli:?}")
        };
        let text = check.settings.settle().unwrap().to_toml();
        for line in [
            "listen = [\"127.0.0.1:1\", \"[::1]:2\"]  # --listen",
            "root = \"/r\"  # --root",
            "cores = 3  # --cores",
            "work_dir = \"/w\"",
            "io = \"direct\"",
            "durability = \"fragment\"",
            "log_format = \"json\"",
            "log_level = \"warn\"",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn what_is_refused_shows_no_secret_and_moves_no_cursor() {
        for (words, shown) in [
            (
                ["a", "ftp://anna:sesame@h/\u{1b}[31m"],
                "ftp://\u{2026}@h/?[31m",
            ),
            (["a", "\u{202e}b\u{9b}"], "?b?"),
            (["-\u{1b}[2J", "http://h/"], "-?"),
            (["--\u{1b}x", "http://h/"], "--?x"),
        ] {
            let words = ["bitsd", "put"].into_iter().chain(words);
            let mut error = Cli::try_parse_from(words).unwrap_err();
            make_harmless(&mut error);
            let text = error.render().to_string();
            assert!(text.contains(shown) && !text.contains("sesame"), "{text}");
            assert_eq!(unseen::replace_within_lines(&text, '!'), text);
        }
    }

    #[test]
    fn what_other_programs_take_is_told_with_what_to_say_here() {
        for (words, tip) in [
            ("check c.toml", "--config FILE"),
            ("serve /etc/x.toml", "--config FILE"),
            ("serve --port 80", "--listen 0.0.0.0:8080"),
            ("serve -p 80", "--listen 0.0.0.0:8080"),
            ("put -u bob file http://h/", "--user NAME"),
            ("start", "'serve'"),
            ("stop", "'drain'"),
            ("validate", "'check'"),
        ] {
            let words: Vec<_> = words.split(' ').collect();
            let mut error = Cli::try_parse_from([&["bitsd"], &words[..]].concat()).unwrap_err();
            make_harmless(&mut error);
            suggest(&mut error, words.first().copied());
            let text = error.render().to_string();
            assert!(text.contains("tip: ") && text.contains(tip), "{text}");
        }
    }

    #[test]
    fn unknown_words_are_usage_errors() {
        for words in [
            "bitsd",
            "bitsd serve --durability always",
            "bitsd put file",
            "bitsd put file ftp://h/",
            "bitsd put --insecure --cacert f file https://h/",
            "bitsd put --fragment-bytes 5119 file http://h/",
            "bitsd put --retry-for 1x file http://h/",
            "bitsd bench http://h/file",
            "bitsd bench --connections 0 http://h/",
            "bitsd bench --file-bytes 0 http://h/",
            "bitsd bench --stall 0 http://h/",
            "bitsd bench --put --ping http://h/",
            "bitsd bench --raw --idle 5 http://h/",
            "bitsd bench --ping --verify /d http://h/",
        ] {
            let error = Cli::try_parse_from(words.split_whitespace()).expect_err(words);
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }
}
