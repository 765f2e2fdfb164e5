//! Commands: `serve`, `check`, `put`, `bench`, `token`, and what an administrator asks of a server
//! that runs.
//!
//! Exit codes: 0 all is well, 1 it failed (one sentence on stderr says why), 2 the command line or
//! the settings are wrong.
#![warn(clippy::unwrap_used)]
// They panic where a disk is full, and wait at a pipe that nobody reads: `observe` does neither.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

mod cli;
// As the tests of the running program do.
#[cfg(test)]
#[path = "../tests/support/skipping.rs"]
mod skipping;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bitsd::config::{
    Config, ConfigError, LogFormat, LogLevel, instead_of_iis, setting_like, settings_schema,
};
use bitsd::observe;
use bitsd::ring::doctor::{self, Finding};
use bitsd::ring::handed::{Handed, HandedTerms};
use bitsd::ring::launch::{self, Source, StartFile};
use bitsd::ring::launch_error::LaunchError;
use bitsd::ring::memory;
use bitsd::ring::offline;
use bitsd::ring::signals;
use bitsd::ring::successor::{self, ANSWER, Successor};
use bitsd::ring::umask;
use bitsd::unseen;
use bitsd::vigil::{self, Vigil};
use cli::again::Again;
use cli::settings::{Check, Settings, about_key, misspelt_variables};
use cli::token::{NoToken, Token};
use cli::{Cli, Command, WRONG_USE, failed, say};

fn main() -> ExitCode {
    signals::hold_back();
    let successor = Successor::of_this_program();
    let command = match Cli::read() {
        Ok(cli) => cli.command,
        Err(mut error) => {
            cli::make_harmless(&mut error);
            cli::suggest(&mut error, cli::command_word().as_deref());
            return wrong_command(&error);
        }
    };
    let mut handed = Handed::default();
    if let Command::Serve(_) | Command::Check(_) = command {
        // Also whoever asks what a start would have.
        memory::be_sparing();
        umask::let_owner_in();
    }
    if let Command::Serve(_) = command {
        // Before anything else is opened.
        handed = Handed::take();
        // Should that fail, it fails again where it is told.
        let _ = signals::survive();
    } else {
        signals::let_through();
    }
    match command {
        Command::Serve(settings) => match settle_start(&settings, handed.terms.take()) {
            Ok(settled) => serve(settled, (handed, successor)),
            Err(code) => code,
        },
        Command::Check(check) => run_check(&check),
        #[cfg(feature = "put")]
        Command::Put(put) => cli::put::run(put),
        #[cfg(feature = "bench")]
        Command::Bench(bench) => cli::bench::run(bench),
        Command::Token(token) => make_token(&token),
        Command::Custody(custody) => cli::custody::run(&custody),
        Command::Status(status) => cli::admin::status(&status),
        Command::Sessions(sessions) => {
            let offline = cli::admin::Offline {
                list: offline::sessions,
                end: offline::end,
            };
            cli::admin::sessions(&sessions, offline)
        }
        Command::Trace(trace) => cli::admin::trace(&trace),
        Command::Reload(plain) => cli::admin::reload(&plain),
        Command::Drain(plain) => cli::admin::drain(&plain),
    }
}

/// The settings of a start, and whether their file has changed since they were checked. The log is
/// not open yet, but for what does not answer meanwhile.
fn settle_start(
    settings: &Settings,
    terms: Option<HandedTerms>,
) -> Result<(Config, Again, bool), ExitCode> {
    let (format, of_start) = (OnceLock::new(), settings.clone());
    let _vigil = Vigil::begin(move |path, since| {
        let format = format.get_or_init(|| cli::log_format::asked_for_in_time(&of_start));
        if observe::init(*format, LogLevel::Warn).is_ok() {
            vigil::tell_of_start(path, since);
        }
    });
    let checked = terms.as_ref();
    let checked = checked.map(|terms| (&*terms.settings, terms.work_dir.as_deref()));
    let begun = Again::begin(settings.clone(), checked);
    let (config, again) = begun.map_err(|error| {
        let format = cli::log_format::asked_for(settings.file());
        observe::complain(format, "wrong_settings", &error);
        code_of(&error)
    })?;
    let has_changed = terms.is_some_and(|terms| again.has_changed_since(&terms.settings));
    Ok((config, again, has_changed))
}

/// Runs the server until it is told to stop.
fn serve(
    (config, again, has_changed): (Config, Again, bool),
    (handed, successor): (Handed, Successor),
) -> ExitCode {
    let again = Arc::new(again);
    let look = Arc::clone(&again);
    if let Err(error) = observe::init(config.log_format, config.log_level) {
        let error = LaunchError::Thread(error);
        observe::complain(config.log_format, START_FAILED, &error);
        return ExitCode::FAILURE;
    }
    observe::abort_on_panic();
    for why in misspelt_variables() {
        let event = "variable_misspelt";
        tracing::warn!(event, why, "a variable of the environment is passed over");
    }
    let source = Source {
        file: StartFile {
            path: again.file(),
            has_changed,
        },
        handed,
        successor: successor.reading(move || match look.read() {
            Ok((config, text)) => Ok((text, config.work_dir)),
            Err(why) => Err(why.to_string()),
        }),
        read: Box::new(move || again.resolve()),
    };
    let code = match launch::serve(config, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(event = START_FAILED, "{error}");
            ExitCode::FAILURE
        }
    };
    observe::flush();
    code
}

/// Help, the version, or what is wrong with the command line. Where a log is expected it is a line
/// of the log. What was asked for waits for its reader, as all on stdout does; a complaint does
/// not.
fn wrong_command(error: &clap::Error) -> ExitCode {
    let rendered = || error.render().to_string();
    if !error.use_stderr() {
        return shown(match io::stdout().is_terminal() {
            // In its colours, as the terminal takes them.
            true => error.print(),
            false => io::stdout().write_all(rendered().as_bytes()),
        });
    }
    let format = match cli::is_for_a_server() {
        true => cli::log_format::asked_for_by_line(),
        false => cli::log_format::asked_for(None),
    };
    let is_terminal = io::stderr().is_terminal();
    if format == LogFormat::Json || (cli::is_for_a_server() && !is_terminal) {
        observe::complain(format, "wrong_use", &rendered().trim());
    } else if is_terminal {
        // In its colours, as the terminal takes them.
        error.exit();
    } else {
        observe::show_briefly(io::stderr(), &rendered());
    }
    ExitCode::from(WRONG_USE)
}

/// Makes a token, and shows it.
fn make_token(token: &Token) -> ExitCode {
    match token.make() {
        Ok(made) => match io::stdout().write_all(made.shown.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                made.take_back();
                failed(format_args!(
                    "cannot write the token, so there is none: {error}"
                ))
            }
        },
        Err(error) => {
            say(&error);
            match error {
                NoToken::Name(_) | NoToken::MeansOthers(_) => ExitCode::from(WRONG_USE),
                NoToken::Randomness(_) | NoToken::Broken { .. } | NoToken::File(..) => {
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// Shows the effective settings, or what else `check` is asked for.
fn run_check(check: &Check) -> ExitCode {
    if check.schema {
        return show(&format!("{:#}\n", settings_schema()));
    }
    if let Some(name) = &check.key {
        if let Some(instead) = instead_of_iis(name) {
            return show(&format!("  {name} is {instead}\n"));
        }
        let Some(text) = about_key(name) else {
            match setting_like(name) {
                Some(key) => say(format_args!("there is no key {name}; did you mean {key}?")),
                None => say(format_args!(
                    "there is no key {name} (`bitsd check --help` lists all)"
                )),
            }
            return ExitCode::from(WRONG_USE);
        };
        return show(&text);
    }
    signals::before_the_end(|| doctor::let_trials_end(TRIAL_ENDS));
    let deadline = Instant::now() + doctor::PATIENCE;
    let asked_about = (check.successor.then(successor::settings_asked_about)).flatten();
    let settled = match check.settings.settle_by(deadline, asked_about) {
        Ok(settled) => settled,
        Err(why) => return failed(why),
    };
    match settled {
        Ok(settled) => {
            let mut findings = doctor::examine(&settled.config, check.successor, deadline);
            findings.extend(misspelt_variables().into_iter().map(Finding::Doubtful));
            let is_bad = findings.iter().any(Finding::is_bad);
            if !check.quiet {
                let file = check.settings.file();
                let file =
                    file.map_or("none is read".to_owned(), |file| file.display().to_string());
                let file = unseen::replace(&file, '?');
                let findings = findings.iter().map(|finding| {
                    // What stands on disks and in certificates comes from outside.
                    format!("# {}\n", unseen::replace(&finding.to_string(), '?'))
                });
                let findings: String = findings.collect();
                let text = settled.to_toml();
                let shown = show(&format!("# Settings file: {file}\n{text}\n{findings}"));
                if shown != ExitCode::SUCCESS {
                    return shown;
                }
            }
            // Whoever looks at a terminal has just read it.
            let is_read = !check.quiet && io::stdout().is_terminal() && io::stderr().is_terminal();
            findings
                .iter()
                .filter(|finding| finding.is_bad() && !is_read)
                .for_each(say);
            if is_bad {
                ExitCode::FAILURE
            } else if check.successor {
                show(ANSWER)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => wrong_settings(error),
    }
}

fn show(text: &str) -> ExitCode {
    shown(io::stdout().write_all(text.as_bytes()))
}

/// How it went to show on stdout what was asked for.
fn shown(written: io::Result<()>) -> ExitCode {
    match written.and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads it has seen enough (`bitsd check | head`): what was found counts.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(format_args!("cannot write to stdout: {error}")),
    }
}

fn wrong_settings(error: ConfigError) -> ExitCode {
    say(format_args!("{error}"));
    code_of(&error)
}

/// A service manager tries again what may be there the next time, and not what is wrong in the
/// settings themselves.
fn code_of(error: &ConfigError) -> ExitCode {
    match error.is_of_named_file() {
        true => ExitCode::FAILURE,
        false => ExitCode::from(WRONG_USE),
    }
}

const START_FAILED: &str = "start_failed";
/// What a check that is told to end may take to remove what it has made.
const TRIAL_ENDS: Duration = Duration::from_secs(1);
