//! `bitsd bench`: drives a server and tells how fast it was.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use bitsd::bench::conversation::{End, Mode, Script};
use bitsd::bench::report::{Left, Report, counted};
use bitsd::bench::{self, Options, Progress};
use bitsd::client::secure::{Secure, Suites};
use bitsd::client::url::{BadUrl, Url};
use bitsd::config::quantity::{BadQuantity, parse_duration, parse_size};
use bitsd::wall_clock;

use super::proof::{NoProof, Proof};
use super::trust::Believed;

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Bench {
    /// Connections that upload at the same time, 1 to 1000000.
    #[arg(long, value_name = "N", default_value = "8", value_parser = connections())]
    connections: usize,
    /// Bytes of each file.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = some_bytes)]
    file_bytes: u64,
    /// Bytes of each fragment.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = some_bytes)]
    fragment_bytes: u64,
    /// Files (with --ping: Pings) in all [default: one for each connection].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    files: Option<u64>,
    /// Open a connection for each file instead of keeping it alive.
    #[arg(long)]
    connection_per_session: bool,
    /// Connections to open first, and to hold while the others upload.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["put", "raw"])]
    idle: usize,
    /// Close the sessions, compare every byte of the files in this folder, where the server stores
    /// them, and remove them.
    #[arg(long, value_name = "DIR", conflicts_with = "ping")]
    verify: Option<PathBuf>,
    /// Close the sessions instead of cancelling them: the files appear, and stay.
    #[arg(long)]
    keep: bool,
    /// Send Pings only.
    #[arg(long, group = "mode")]
    ping: bool,
    /// Send each file by one HTTP PUT.
    #[arg(long, group = "mode")]
    put: bool,
    /// Send files without HTTP, for `benches/floor.rs`.
    #[arg(long, group = "mode")]
    raw: bool,
    /// An upload has failed when it does not move for this long.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = some_time)]
    stall: Duration,
    /// Of https: offer AES-128-GCM only.
    #[arg(long)]
    aes_128: bool,
    #[command(flatten)]
    believed: Believed,
    #[command(flatten)]
    proof: Proof,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Where to: an http:// or https:// URL that ends in `/`; the files are named
    /// bench-<run>-<n>.bin.
    #[arg(value_name = "URL", value_parser = folder)]
    url: Url,
}

const EXAMPLES: &str = "\
Examples:
  bitsd bench http://server:8080/                    8 files of 256 MiB, nothing stays
  bitsd bench --connections 64 --files 10000 --file-bytes 16KiB http://server:8080/
  bitsd bench --verify /srv/uploads http://127.0.0.1:8080/

Unless told otherwise it cancels each session after its last byte, so that nothing stays at the
server. Ctrl-C cancels them too. Exit codes: 0 every upload succeeded, 1 one failed or it was
interrupted, 2 the command line is wrong.";

/// Names that no other run has: two at the same time must not meet.
fn prefix(mode: Mode) -> String {
    match mode {
        // The floor names its files by itself.
        Mode::Raw => "bench".to_owned(),
        Mode::Bits | Mode::Put | Mode::Ping => {
            let now = wall_clock::since_1970();
            let run = now.as_nanos() ^ (u128::from(std::process::id()) << 16);
            format!("bench-{:08x}", run & 0xffff_ffff)
        }
    }
}

impl Bench {
    fn options(self) -> Result<Options, NoProof> {
        let credentials = self.proof.credentials(&self.url)?;
        let suites = match self.aes_128 {
            true => Suites::Aes128Gcm,
            false => Suites::All,
        };
        let secure = self.believed.secure(&self.url, suites)?;
        let secure = secure.map(Secure::of_many_machines);
        let mode = match (self.ping, self.put, self.raw) {
            (true, ..) => Mode::Ping,
            (_, true, _) => Mode::Put,
            (.., true) => Mode::Raw,
            (false, false, false) => Mode::Bits,
        };
        Ok(Options {
            secure,
            script: Script {
                mode,
                folder: self.url,
                file_bytes: self.file_bytes,
                fragment_bytes: self.fragment_bytes,
                prefix: prefix(mode),
                credentials,
                end: match self.keep || self.verify.is_some() {
                    true => End::Close,
                    false => End::Cancel,
                },
            },
            connections: self.connections,
            files: self.files.unwrap_or(self.connections as u64),
            is_connection_per_session: self.connection_per_session,
            idle: self.idle,
            verify: self.verify,
            keep: self.keep,
            stall: self.stall,
        })
    }
}

/// Runs it; fails if any upload failed.
pub fn run(bench: Bench) -> ExitCode {
    let is_json = bench.json;
    let options = match bench.options() {
        Ok(options) => options,
        Err(error) => return super::failed(error),
    };
    if !is_json {
        announce(&options);
    }
    let prefix = options.script.prefix.clone();
    let line = Line::new(&options);
    let interrupted = match interrupted() {
        Ok(interrupted) => interrupted,
        Err(error) => return super::failed(format_args!("cannot catch signals: {error}")),
    };
    let result = bench::run(&options, &mut |progress| {
        line.show(progress);
        match interrupted.load(Ordering::Relaxed) {
            false => ControlFlow::Continue(()),
            true => ControlFlow::Break(()),
        }
    });
    line.end();
    let report = match result {
        Ok(report) => report,
        Err(error) => return super::failed(error),
    };
    let told = tell(&report, is_json);
    // Whoever reads it may have seen enough.
    if let Err(error) = told.or_else(unless_reader_is_gone) {
        return super::failed(format_args!("cannot write the result: {error}"));
    }
    tell_what_stays(&report.left, &prefix);
    if interrupted.load(Ordering::Relaxed) {
        super::failed("interrupted")
    } else if report.is_success() {
        ExitCode::SUCCESS
    } else {
        let why = report.first_error.as_deref().unwrap_or("unknown");
        let failed = counted(report.failed, "upload", "uploads");
        super::failed(format_args!("{failed} failed: {why}"))
    }
}

/// Set by the first Ctrl-C; the second ends the process.
fn interrupted() -> io::Result<Arc<AtomicBool>> {
    let is_first = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal meets a flag that is not set yet.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_first))?;
        flag::register(signal, Arc::clone(&is_first))?;
    }
    Ok(is_first)
}

/// By name, so that somebody can remove it.
fn tell_what_stays(left: &Left, prefix: &str) {
    if left.files > 0 {
        let files = counted(left.files, "file stays", "files stay");
        super::say(format_args!(
            "{files} at the server, by the name of {prefix}-*.bin: remove what you find"
        ));
    }
    if left.unfinished > 0 {
        let uploads = counted(
            left.unfinished,
            "unfinished upload stays",
            "unfinished uploads stay",
        );
        super::say(format_args!(
            "{uploads} at the server, by the name of {prefix}-*.bin, until its time for them is over"
        ));
    }
}

/// What it is going to do, before it does it.
fn announce(options: &Options) {
    let Script {
        mode,
        folder,
        file_bytes,
        end,
        ..
    } = &options.script;
    let connections = counted(options.connections as u64, "connection", "connections");
    if *mode == Mode::Ping {
        let pings = counted(options.files, "Ping", "Pings");
        return super::say(format_args!("{pings} on {connections} to {folder}"));
    }
    let files = counted(options.files, "file", "files");
    let all = HumanBytes(options.files.saturating_mul(*file_bytes));
    let what_stays = match (mode, end, options.keep, &options.verify) {
        (Mode::Bits, End::Cancel, ..) => "nothing stays there",
        (.., false, Some(_)) => "the files are removed when they were compared",
        _ => "the files stay there",
    };
    super::say(format_args!(
        "{files} of {}, {all} in all, on {connections} to {folder}; {what_stays}",
        HumanBytes(*file_bytes)
    ));
}

fn unless_reader_is_gone(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}

fn tell(report: &Report, is_json: bool) -> io::Result<()> {
    let mut stdout = io::stdout();
    if is_json {
        serde_json::to_writer_pretty(&mut stdout, report)?;
        writeln!(stdout)
    } else {
        writeln!(stdout, "{report}")
    }
}

/// The live line, where somebody looks.
struct Line {
    bar: Option<ProgressBar>,
    began: Instant,
    files: u64,
}

impl Line {
    fn new(options: &Options) -> Self {
        let files = options.files;
        let bar = io::stderr()
            .is_terminal()
            .then(|| ProgressBar::new(files).with_style(style()));
        Self {
            bar,
            began: Instant::now(),
            files,
        }
    }

    fn show(&self, progress: Progress) {
        let Some(bar) = &self.bar else { return };
        let seconds = self.began.elapsed().as_secs_f64();
        bar.set_length(self.files);
        bar.set_position(progress.files + progress.failed);
        bar.set_message(format!(
            "{:.2} GB/s, {} failed",
            progress.bytes as f64 / 1e9 / seconds,
            progress.failed
        ));
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {per_sec} {eta} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn connections() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=1_000_000)
}

/// A URL that files' names can be appended to.
fn folder(text: &str) -> Result<Url, BadFolder> {
    let url: Url = text.parse().map_err(BadFolder::Url)?;
    if url.is_folder() {
        Ok(url)
    } else {
        Err(BadFolder::NotAFolder)
    }
}

/// Why a text names no folder.
#[derive(Debug)]
enum BadFolder {
    NotAFolder,
    Url(BadUrl),
}

impl fmt::Display for BadFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFolder => f.write_str("the URL must end in `/`"),
            Self::Url(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadFolder {}

/// A size that is not nothing.
fn some_bytes(text: &str) -> Result<u64, TooLittle> {
    match parse_size(text) {
        Ok(0) => Err(TooLittle::NoBytes),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(TooLittle::Unreadable(error)),
    }
}

/// A time that is not nothing.
fn some_time(text: &str) -> Result<Duration, TooLittle> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(TooLittle::NoTime),
        Ok(time) => Ok(time),
        Err(error) => Err(TooLittle::Unreadable(error)),
    }
}

/// Why a text is no size that can be sent, and no time that can be waited.
#[derive(Debug)]
enum TooLittle {
    NoBytes,
    NoTime,
    Unreadable(BadQuantity),
}

impl fmt::Display for TooLittle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBytes => f.write_str("at least one byte is needed"),
            Self::NoTime => f.write_str("no upload is so fast: at least 1ms is needed"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TooLittle {}
