//! `bitsd put`: uploads files one after the other and shows how it goes.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use bitsd::client::upload::FRAGMENT_BYTES_MIN;
use bitsd::client::url::{BadUrl, Url};
use bitsd::client::{self, Hitch, Options, Uploaded, Watch};
use bitsd::config::quantity::{BadQuantity, parse_duration, parse_size};

/// Flags of `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// Bytes of a fragment; the server may ask for smaller ones.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = fragment_bytes)]
    fragment_bytes: u64,
    /// Give up when retries brought nothing for this long.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    retry_for: Duration,
    /// The first wait before a retry; each further one doubles, up to 5 s.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = parse_duration)]
    retry_delay: Duration,
    /// Show errors only.
    #[arg(long)]
    quiet: bool,
    /// Files to upload.
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Where to: an http:// URL; one that ends in `/` takes each file's name.
    #[arg(value_name = "URL", required = true)]
    url: Url,
}

/// Why files and URL do not go together.
#[derive(Debug)]
pub enum BadTarget {
    /// Several files, and a URL that names one.
    NotAFolder,
    /// A file has no URL.
    Url(PathBuf, BadUrl),
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFolder => f.write_str("several files need a URL that ends in `/`"),
            Self::Url(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl Put {
    /// Each file with its own URL.
    pub fn targets(&self) -> Result<Vec<(&Path, Url)>, BadTarget> {
        if self.files.len() > 1 && !self.url.is_folder() {
            return Err(BadTarget::NotAFolder);
        }
        let with_url = |file: &'_ PathBuf| match self.url.for_file(file) {
            Ok(url) => Ok(url),
            Err(error) => Err(BadTarget::Url(file.clone(), error)),
        };
        self.files
            .iter()
            .map(|file| Ok((file.as_path(), with_url(file)?)))
            .collect()
    }

    fn options(&self) -> Options {
        Options {
            fragment_bytes: self.fragment_bytes,
            retry_for: self.retry_for,
            retry_delay: self.retry_delay,
            ..Options::default()
        }
    }
}

/// Uploads every file, though one before it failed.
pub fn run(put: Put) -> ExitCode {
    let targets = match put.targets() {
        Ok(targets) => targets,
        Err(error) => {
            crate::say(error);
            return ExitCode::from(crate::WRONG_USE);
        }
    };
    let options = put.options();
    let mut code = ExitCode::SUCCESS;
    for (file, url) in targets {
        let mut display = Display::new(file, put.quiet);
        let result = client::upload(file, &url, &options, &mut display);
        display.end();
        match result {
            Ok(uploaded) if !put.quiet => tell(file, &url, &uploaded),
            Ok(_) => {}
            Err(error) => {
                code = crate::failed(format_args!("{} -> {url}: {error}", file.display()));
            }
        }
    }
    code
}

fn tell(file: &Path, url: &Url, uploaded: &Uploaded) {
    let Uploaded {
        bytes,
        duration,
        resumes,
    } = uploaded;
    let seconds = duration.as_secs_f64();
    // Where nobody reads the line, the exit code says it.
    let _ = writeln!(
        io::stdout(),
        "uploaded {} -> {url} ({bytes} bytes in {seconds:.1} s, {resumes} resumes)",
        file.display()
    );
}

/// A bar on a terminal; elsewhere one line for each outage; nothing when quiet.
struct Display {
    name: String,
    form: Form,
    /// Whether the outage at hand was told.
    is_waiting: bool,
}

enum Form {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Display {
    fn new(file: &Path, quiet: bool) -> Self {
        let form = if quiet {
            Form::Nothing
        } else if io::stderr().is_terminal() {
            Form::Bar(ProgressBar::new(0).with_style(bar_style()))
        } else {
            Form::Lines
        };
        Self {
            name: file.display().to_string(),
            form,
            is_waiting: false,
        }
    }

    fn end(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Display {
    fn begins(&mut self, total: u64) {
        if let Form::Bar(bar) = &self.form {
            bar.set_length(total);
            bar.set_message(self.name.clone());
        }
    }

    fn stands_at(&mut self, offset: u64) {
        if let Form::Bar(bar) = &self.form {
            bar.set_position(offset);
        }
    }

    fn came_forward(&mut self) {
        if std::mem::take(&mut self.is_waiting)
            && let Form::Bar(bar) = &self.form
        {
            bar.set_message(self.name.clone());
        }
    }

    fn waits(&mut self, why: &Hitch, _delay: Duration) {
        let was_waiting = std::mem::replace(&mut self.is_waiting, true);
        match &self.form {
            Form::Bar(bar) => bar.set_message(format!("{} (trying again: {why})", self.name)),
            Form::Lines if !was_waiting => {
                crate::say(format_args!("{}: {why}; trying again", self.name))
            }
            Form::Lines | Form::Nothing => {}
        }
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

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
