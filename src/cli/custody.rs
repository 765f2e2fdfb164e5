//! `bitsd custody`: is the ledger what was written, and what does it say?

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitsd::custody::chain::BEGINNING;
use bitsd::custody::export::{ExportFormat, Exported, export};
use bitsd::custody::verify::{Audit, Wishes, verify};
use bitsd::http::digest::{Hex, parse_hex};
use bitsd::unseen;

use super::settings::OfServer;
use super::{failed, log_format, say};

pub const EXAMPLES: &str = "\
Examples:
  bitsd custody verify                               is each line what was written?
  bitsd custody verify --files --head HASH           and each file what its line says?
  bitsd custody export --path host-0007/ > case.csv  for a report

docs/evidence.md says what a line tells, and what the chain proves.";

pub const VERIFY_EXAMPLES: &str = "\
Examples:
  bitsd custody verify
  bitsd custody verify --config /etc/bitsd-lab.toml
  bitsd custody verify /evidence/ledger              of another host, say
  bitsd custody verify --head $(journalctl -u bitsd | grep -o 'head=[0-9a-f]*' | tail -n 1 | cut -c 6-)

The end of the ledger is proven by nothing in it. The log has the hash of the last line once a day
and at each stop (event custody_head): give it by --head. Exit codes: 0 all is as it was written, 1
something is not, or cannot be read, 2 the command line is wrong.";

pub const EXPORT_EXAMPLES: &str = "\
Examples:
  bitsd custody export --path host-0007/ > case.csv
  bitsd custody export --path host-0007/ --format text

A cell that a spreadsheet would take for a formula begins with '. The chain is not looked at: that is
what `bitsd custody verify` is for. Exit codes: 0 there are such uploads, 1 there are none, or the
ledger cannot be read, 2 the command line is wrong.";

/// Flags of `bitsd custody`.
#[derive(Debug, clap::Args)]
pub struct Custody {
    /// What to do.
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Find out whether the ledger, and the files, are as they were written.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Write what the ledger says of some uploads.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(Export),
}

/// Where the ledger is.
#[derive(Debug, clap::Args)]
struct Place {
    /// The folder of `custody` [default: that of the settings file, or /var/lib/bitsd-custody].
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    file: OfServer,
}

impl Place {
    /// The folder. Of the settings only that key is read: a ledger may be looked at where none of
    /// what else they name is.
    fn folder(&self) -> Result<PathBuf, String> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let settings = self.file.settings();
        let Some(file) = settings.file() else {
            return Ok(PathBuf::from(DEFAULT));
        };
        let is_named = |folder: &PathBuf| !folder.as_os_str().is_empty();
        let named = log_format::text_of(file)
            .map(|text| log_format::path_in(&text, "custody").filter(is_named));
        match (named, &self.file.config) {
            (Some(Some(folder)), _) => Ok(folder),
            (Some(None) | None, None) => Ok(PathBuf::from(DEFAULT)),
            (Some(None), Some(file)) => Err(format!(
                "{} names no `custody`: name the folder of the ledger",
                file.display()
            )),
            (None, Some(file)) => {
                let why = std::fs::metadata(file).err();
                let why = why.map_or_else(String::new, |error| format!(": {error}"));
                Err(format!("{} cannot be read{why}", file.display()))
            }
        }
    }

    /// What to say where the ledger cannot be read.
    fn failed(folder: &Path, error: &io::Error) -> ExitCode {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                ": name the folder of the ledger, or the settings file with --config"
            }
            _ => "",
        };
        failed(format_args!("{}: {error}{hint}", folder.display()))
    }
}

#[derive(Debug, clap::Args)]
struct Verify {
    #[command(flatten)]
    place: Place,
    /// Read each published file, and compare it with its line.
    #[arg(long)]
    files: bool,
    /// The hash of a line that must be there, as the log has told it.
    #[arg(long, value_name = "HASH", value_parser = head)]
    head: Option<[u8; 32]>,
    /// The first days were taken away on purpose.
    #[arg(long)]
    begins_later: bool,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    place: Place,
    /// Only uploads whose path beneath the root begins so.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    path: String,
    /// A row, or a paragraph, for each upload.
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Csv,
    Text,
}

const DEFAULT: &str = "/var/lib/bitsd-custody";

fn head(text: &str) -> Result<[u8; 32], &'static str> {
    parse_hex(text).ok_or("a hash has 64 hexadecimal digits")
}

/// Does it.
pub fn run(custody: &Custody) -> ExitCode {
    match &custody.task {
        Task::Verify(wanted) => run_verify(wanted),
        Task::Export(wanted) => run_export(wanted),
    }
}

fn run_verify(wanted: &Verify) -> ExitCode {
    let wishes = Wishes {
        head: wanted.head,
        looks_at_files: wanted.files,
        begins_later: wanted.begins_later,
    };
    let folder = match wanted.place.folder() {
        Ok(folder) => folder,
        Err(why) => return failed(why),
    };
    let verified = match verify(&folder, &wishes) {
        Ok(verified) => verified,
        Err(error) => return Place::failed(&folder, &error),
    };
    if verified.lines == 0 && verified.discrepancies_count == 0 {
        return failed(format_args!("{}: there is no ledger", folder.display()));
    }
    verified.discrepancies.iter().for_each(say);
    let more = verified.discrepancies_count - verified.discrepancies.len() as u64;
    if more > 0 {
        say(format_args!("and {more} more"));
    }
    // Files in the folder have the names that somebody gave them.
    let summary = unseen::replace_within_lines(&summary(&verified, wanted), '?');
    if let Err(error) = io::stdout().write_all(summary.as_bytes()) {
        return failed(format_args!("cannot write: {error}"));
    }
    match verified.discrepancies_count {
        0 => ExitCode::SUCCESS,
        1 => failed("1 discrepancy"),
        count => failed(format_args!("{count} discrepancies")),
    }
}

fn summary(verified: &Audit, wanted: &Verify) -> String {
    let Audit {
        days,
        lines,
        repeats,
        files,
        files_without_digest,
        objects,
        names_of_others,
        ..
    } = verified;
    let mut text = format!(
        "{lines} lines of {days} days; the last one is {}\n",
        Hex(&verified.head)
    );
    if *repeats > 0 {
        text += &format!("{repeats} lines stand twice, in the same words: after a crash\n");
    }
    for torn in &verified.torn_ends {
        text += &format!("{torn} is an end that a crash has torn off\n");
    }
    for other in &verified.others {
        text += &format!(
            "{other} is what somebody has put in the place of a file of the ledger, or behind its end\n"
        );
    }
    if wanted.files {
        text += &format!("{files} files were read\n");
    }
    if *names_of_others > 0 {
        text += &format!(
            "{names_of_others} names lead to files that other lines name as well, by links: each file was read once\n"
        );
    }
    if *objects > 0 {
        text += &format!("{objects} lines name objects of a store: those were not read\n");
    }
    if *files_without_digest > 0 {
        text += &format!(
            "of {files_without_digest} files there is no digest: only their sizes were compared\n"
        );
    }
    let proves_nothing = wanted.head == Some(BEGINNING) && *lines > 0;
    if proves_nothing {
        text += "--head names the beginning of every ledger: it proves nothing of the lines that are here\n";
    }
    if wanted.head.is_none() || proves_nothing {
        text += "nothing proves that this is the end: compare it with custody_head in the log, or give --head\n";
    }
    text
}

fn run_export(wanted: &Export) -> ExitCode {
    let format = match wanted.format {
        Format::Csv => ExportFormat::Csv,
        Format::Text => ExportFormat::Text,
    };
    let mut out = Report {
        out: BufWriter::new(io::stdout().lock()),
        has_failed: false,
    };
    // As `status` and the log of a request show paths.
    let path = wanted.path.trim_start_matches('/');
    let folder = match wanted.place.folder() {
        Ok(folder) => folder,
        Err(why) => return failed(why),
    };
    let exported =
        export(&folder, path, format, &mut out).and_then(|exported| out.flush().map(|()| exported));
    match exported {
        Ok(Exported {
            damaged,
            first_damaged: Some(first),
            ..
        }) => failed(format_args!(
            "{damaged} lines cannot be read and are left out, the first of them {first}: see bitsd custody verify"
        )),
        Ok(Exported { rows: 0, .. }) => failed("there are no such uploads"),
        Ok(_) => ExitCode::SUCCESS,
        // Whoever reads it has seen enough (`| head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) if out.has_failed => failed(format_args!("cannot write: {error}")),
        Err(error) => Place::failed(&folder, &error),
    }
}

/// Where a report is written, and whether that was what failed.
struct Report<W> {
    out: W,
    has_failed: bool,
}

impl<W: Write> Write for Report<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.has_failed |= written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.has_failed |= flushed.is_err();
        flushed
    }
}
