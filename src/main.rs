//! Commands: `serve`, `check`, `put` and `bench`.
//!
//! Exit codes: 0 all is well, 1 it failed (one sentence on stderr says why), 2 the command line or the settings are wrong.
#![warn(clippy::unwrap_used)]

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use bitsd::config::{Config, settings_schema};
use bitsd::observe;
use cli::settings::{Check, Settings, about_key};
use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(settings) => {
            let config = settings.resolve();
            config.map_or_else(wrong_settings, |config| serve(config, settings))
        }
        Command::Check(check) => run_check(&check),
        Command::Put(put) => cli::put::run(put),
        Command::Bench(bench) => cli::bench::run(bench),
    }
}

/// Runs the server until it is told to stop.
fn serve(config: Config, settings: Settings) -> ExitCode {
    observe::init(config.log_format, config.log_level);
    let read_settings = Box::new(move || settings.resolve());
    match bitsd::ring::launch::serve(config, read_settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error),
    }
}

/// Shows the effective settings, or what else `check` is asked for.
fn run_check(check: &Check) -> ExitCode {
    if check.schema {
        return show(&format!("{:#}\n", settings_schema()));
    }
    if let Some(name) = &check.key {
        let Some(text) = about_key(name) else {
            say(format_args!(
                "there is no key {name} (`bitsd check --help` lists all)"
            ));
            return ExitCode::from(WRONG_USE);
        };
        return show(&text);
    }
    match check.settings.settle() {
        Ok(_) if check.quiet => ExitCode::SUCCESS,
        Ok(settled) => {
            let file = check.settings.file();
            let file = file.map_or("none is read".to_owned(), |file| file.display().to_string());
            show(&format!("# Settings file: {file}\n{}", settled.to_toml()))
        }
        Err(error) => wrong_settings(error),
    }
}

fn show(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(format_args!("cannot write the settings: {error}")),
    }
}

fn wrong_settings(error: bitsd::config::ConfigError) -> ExitCode {
    say(format_args!("{error}"));
    ExitCode::from(WRONG_USE)
}

fn failed(why: impl std::fmt::Display) -> ExitCode {
    say(why);
    ExitCode::FAILURE
}

/// One sentence on stderr; where nobody reads it, the exit code must do.
fn say(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "bitsd: {what}");
}

/// As clap's own usage errors.
const WRONG_USE: u8 = 2;
