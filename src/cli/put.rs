//! `bitsd put`: uploads files one after the other and shows how it goes.

mod before;
mod display;
mod files;
mod interrupt;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{HumanBytes, HumanDuration};

use before::Before;
use bitsd::client::memory::Memory;
use bitsd::client::secure::Suites;
use bitsd::client::upload::{FRAGMENT_BYTES_MIN, Failure};
use bitsd::client::url::Url;
use bitsd::client::{self, Options, PutError, Uploaded};
use bitsd::config::quantity::{BadQuantity, parse_duration, parse_size};
use bitsd::unseen;
use display::Display;
use files::{Chosen, Target};
use interrupt::Interrupt;

use crate::cli::proof::Proof;
use crate::cli::trust::Believed;

/// Flags of `put`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Put {
    /// Upload directories with all files in them; links are not followed.
    #[arg(short, long)]
    recursive: bool,
    /// Bytes of a fragment; the server may ask for smaller ones.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = fragment_bytes)]
    fragment_bytes: u64,
    /// Give up when retries brought nothing for this long [default: 10m; 30s for a server that
    /// never answered].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    retry_for: Option<Duration>,
    /// The first wait before a retry; each further one doubles, up to 5 s.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = parse_duration)]
    retry_delay: Duration,
    /// Begin anew, and remember nothing for a later run.
    #[arg(long)]
    no_resume: bool,
    /// Give up what an interrupted run of these files left at the server, and upload nothing.
    #[arg(long, conflicts_with = "no_resume")]
    cancel: bool,
    #[command(flatten)]
    believed: Believed,
    #[command(flatten)]
    proof: Proof,
    /// Show errors only.
    #[arg(short, long)]
    quiet: bool,
    /// Files to upload; a quoted pattern such as 'logs/*.txt' stands for all that it matches.
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Where to: an http:// or https:// URL; one that ends in `/` takes each file's name.
    #[arg(value_name = "URL", required = true)]
    url: Url,
}

const EXAMPLES: &str = "\
Examples:
  bitsd put today.zip http://server:8080/logs/       to /logs/today.zip
  bitsd put today.zip http://server:8080/logs/a.zip  under another name
  bitsd put -r dumps http://server:8080/             to /dumps/.., folders as they are
  bitsd put --cacert ca.pem today.zip https://server/   to a server with a certificate of your own
  bitsd put --user anna today.zip https://server/    asks for the password

An upload that was interrupted goes on where it was when the same command is run again; of several
files, those that an earlier run has uploaded, and that are as they were, are not sent again.

Exit codes: 0 every file was uploaded, 1 one was not, 2 the command line is wrong,
130 interrupted by Ctrl-C, 143 by SIGTERM.";

impl Put {
    fn options(&self) -> Options {
        let defaults = Options::default();
        Options {
            fragment_bytes: self.fragment_bytes,
            retry_for: self.retry_for.unwrap_or(defaults.retry_for),
            first_answer_within: self.retry_for.unwrap_or(FIRST_ANSWER_WITHIN),
            retry_delay: self.retry_delay,
            memory: (!self.no_resume).then(Memory::of_user).flatten(),
            ..defaults
        }
    }
}

/// Uploads every file, though one before it failed.
pub fn run(put: Put) -> ExitCode {
    let chosen = match files::targets(&put.files, &put.url, put.recursive) {
        Ok(chosen) => chosen,
        Err(error) => {
            super::say(error);
            return ExitCode::from(super::WRONG_USE);
        }
    };
    let targets = &chosen.targets;
    let mut options = put.options();
    match put.believed.secure(&put.url, Suites::All) {
        Ok(secure) => options.secure = secure,
        Err(error) => return super::failed(error),
    }
    match put.proof.credentials(&put.url) {
        Ok(credentials) => options.credentials = credentials,
        Err(error) => return super::failed(error),
    }
    let mut before = Before::of(&put.files, &put.url, options.memory.as_ref());
    if put.cancel {
        before.forget();
        return cancel(&chosen, &options, put.quiet);
    }
    if !put.quiet {
        tell_what_is_left_out(&chosen);
    }
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => return super::failed(format_args!("cannot watch for signals: {error}")),
    };
    let began = Instant::now();
    let mut sum = Sum {
        failed: tell_what_is_unreadable(&chosen),
        ..Sum::default()
    };
    for (at, target) in targets.iter().enumerate() {
        let Target { file, url } = target;
        if before.has(target) {
            sum.already += 1;
            continue;
        }
        let count = (targets.len() > 1).then_some((at + 1, targets.len()));
        let mut display = Display::new(file, url, count, put.quiet, &interrupt);
        display.goes_by(&options);
        if targets.len() > 1 {
            display.notes_in(&mut before);
        }
        let result = client::upload(file, url, &options, &mut display);
        display.end();
        match result {
            Ok(uploaded) => {
                sum.files += 1;
                sum.bytes += uploaded.bytes;
                if !put.quiet {
                    tell(file, url, &uploaded);
                }
            }
            Err(error) => {
                sum.count(&error);
                super::say(format_args!("{} -> {url}: {error}", file.display()));
            }
        }
    }
    if (targets.len() + chosen.unreadable.len() > 1 || sum.already > 0) && !put.quiet {
        sum.tell(began.elapsed());
    }
    match sum.failed + sum.taken {
        0 => {
            before.forget();
            ExitCode::SUCCESS
        }
        _ => ExitCode::FAILURE,
    }
}

/// Whoever takes a copy by `-r` must not believe that it is all there.
fn tell_what_is_left_out(chosen: &Chosen) {
    if !chosen.skipped.is_none() {
        let skipped = &chosen.skipped;
        super::say(format_args!("left out, since they are no files: {skipped}"));
    }
    for folder in &chosen.without_files {
        super::say(format_args!("no file in {}", folder.display()));
    }
}

/// Each directory that cannot be read is one failure; how many there are.
fn tell_what_is_unreadable(chosen: &Chosen) -> u64 {
    chosen.unreadable.iter().for_each(super::say);
    chosen.unreadable.len() as u64
}

fn cancel(chosen: &Chosen, options: &Options, quiet: bool) -> ExitCode {
    let mut code = match tell_what_is_unreadable(chosen) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    for Target { file, url } in &chosen.targets {
        match client::cancel(file, url, options) {
            Ok(_) if quiet => {}
            Ok(true) => print(format_args!("cancelled {} -> {url}", file.display())),
            Ok(false) => print(format_args!(
                "{} -> {url}: no interrupted upload is known",
                file.display()
            )),
            Err(error) => {
                code = super::failed(format_args!("{} -> {url}: {error}", file.display()));
            }
        }
    }
    code
}

/// What came of all files.
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    bytes: u64,
    failed: u64,
    /// Another file has the name at the server, and stays.
    taken: u64,
    /// Uploaded by an earlier run.
    already: u64,
}

impl Sum {
    fn count(&mut self, error: &PutError) {
        match error {
            PutError::Failed(Failure::Refused(refused)) if refused.is_taken() => self.taken += 1,
            _ => self.failed += 1,
        }
    }

    fn tell(&self, duration: Duration) {
        let (files, failed) = (self.files, self.failed);
        let (bytes, duration) = (HumanBytes(self.bytes), HumanDuration(duration));
        let what = if files == 1 { "file" } else { "files" };
        let mut line = format!("{files} {what}, {bytes}, {failed} failed in {duration}");
        if self.already > 0 {
            let were = if self.already == 1 { "was" } else { "were" };
            line += &format!("; {} {were} uploaded already", self.already);
        }
        if self.taken > 0 {
            let exist = if self.taken == 1 { "exists" } else { "exist" };
            line += &format!(
                "; {} {exist} already at the server, which replaces none: upload to another name or folder, have them \
                 removed there, or have the server replace them (allow_overwrite)",
                self.taken
            );
        }
        print(line);
    }
}

fn tell(file: &Path, url: &Url, uploaded: &Uploaded) {
    let Uploaded {
        bytes,
        duration,
        resumes,
        resumed_at,
    } = uploaded;
    let seconds = duration.as_secs_f64();
    let resumed = match resumed_at {
        Some(offset) => format!(", resumed at {}", HumanBytes(*offset)),
        None => String::new(),
    };
    print(format_args!(
        "uploaded {} -> {url} ({bytes} bytes in {seconds:.1} s, {resumes} resumes{resumed})",
        file.display()
    ));
}

/// One line on stdout. Where nobody reads it, the exit code says as much.
fn print(what: impl fmt::Display) {
    // Files have the names that somebody gave them.
    let what = unseen::replace(&what.to_string(), '?');
    let _ = writeln!(io::stdout(), "{what}");
}

/// A server that never answered: most likely the URL is wrong.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A size that a fragment may have.
fn fragment_bytes(text: &str) -> Result<u64, BadFragmentBytes> {
    match parse_size(text) {
        Ok(bytes) if bytes >= FRAGMENT_BYTES_MIN => Ok(bytes),
        Ok(_) => Err(BadFragmentBytes::TooSmall),
        Err(error) => Err(BadFragmentBytes::NotASize(error)),
    }
}

/// Why a text is no size of a fragment.
#[derive(Debug)]
enum BadFragmentBytes {
    TooSmall,
    NotASize(BadQuantity),
}

impl fmt::Display for BadFragmentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall => f.write_str("fragments are never smaller than 5 KiB"),
            Self::NotASize(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadFragmentBytes {}
