//! Writes what a package has beside the program: manual pages, completions for shells, and the
//! schema of the settings file.
//!
//! ```sh
//! cargo run --example manuals -- DIR
//! ```
//!
//! An example, and no command behind a feature of the program: what it is made with are
//! dependencies for development, so neither they nor a word about them can get into the service.
//! The command line is the program's own (`src/cli`), and so are the keys (`bitsd::config`).
//!
//! `SOURCE_DATE_EPOCH`, in seconds, is the date on the pages; without it they have today's.

#[allow(
    dead_code,
    reason = "only the flags are of interest here, not what they do"
)]
#[path = "../src/cli/mod.rs"]
mod cli;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bitsd::config::{Row, Scope, default_of, rows, settings_schema};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: cargo run --example manuals -- DIR".into());
    };
    let date = date()?;
    // There is no page for it.
    let mut command = cli::Cli::command().disable_help_subcommand(true);
    command.build();
    let man = folder.join("man");
    std::fs::create_dir_all(&man)?;
    write_pages(&man, &command, &date)?;
    std::fs::write(man.join("bitsd.toml.5"), settings_page(&date)?)?;

    let completions = folder.join("completions");
    std::fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = without_hidden(&cli::Cli::command());
        clap_complete::generate_to(shell, &mut command, "bitsd", &completions)?;
    }
    let schema = format!("{:#}\n", settings_schema());
    std::fs::write(folder.join("bitsd.schema.json"), schema)?;
    Ok(())
}

/// A command without flags that are for programs alone: completions would offer them.
fn without_hidden(command: &Command) -> Command {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let shown = Command::new(command.get_name().to_owned())
        .args(shown.cloned())
        .subcommands(command.get_subcommands().map(without_hidden))
        .propagate_version(command.is_propagate_version_set());
    let shown = match command.get_about() {
        Some(about) => shown.about(about.clone()),
        None => shown,
    };
    // Where there is such a text, -h says that --help has more.
    let shown = match command.get_after_long_help() {
        Some(text) => shown.after_long_help(text.clone()),
        None => shown,
    };
    match command.get_version() {
        Some(version) => shown.version(version.to_owned()),
        None => shown,
    }
}

/// The day of the source, as pages have it.
fn date() -> Result<String, Box<dyn Error>> {
    let day = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds.parse()?),
        Err(_) => SystemTime::now(),
    };
    let day = humantime::format_rfc3339_seconds(day).to_string();
    Ok(day.split('T').next().unwrap_or_default().to_owned())
}

/// A page for the command, and for each below it.
fn write_pages(folder: &Path, command: &Command, date: &str) -> Result<(), Box<dyn Error>> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command, date)?)?;
    for below in command.get_subcommands() {
        write_pages(folder, below, date)?;
    }
    Ok(())
}

fn page(command: &Command, date: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section("1")
        .date(date)
        .source(source())
        .manual("BITS upload server");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    variables(command).to_writer(&mut text)?;
    let remarks = command.get_after_help().map(ToString::to_string);
    let mut roff = remarks_of(&remarks.unwrap_or_default());
    if name == "bitsd" {
        roff.control("SH", ["FILES"]);
        for (file, what) in FILES {
            item(&mut roff, file, what);
        }
    }
    see_also(&mut roff, name);
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// The variables of the environment that a command knows.
fn variables(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let named = shown.filter_map(|arg| Some((arg.get_env()?.to_str()?, arg.get_long()?)));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return roff;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (variable, flag) in named {
        item(&mut roff, variable, &format!("As --{flag}."));
    }
    roff.control("PP", []);
    roff.text([roman(
        "A flag wins over its variable. A variable that is set to nothing counts as not set.",
    )]);
    roff
}

/// What the help of a command ends with: examples, then sentences, then exit codes.
fn remarks_of(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut notes = Vec::new();
    let mut codes = None;
    for paragraph in text.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            as_written(&mut roff, examples.lines().map(str::trim_start));
            continue;
        }
        let flowing = paragraph.replace('\n', " ");
        let (before, after) = match flowing.split_once("Exit codes: ") {
            Some((before, after)) => (before.trim_end().to_owned(), Some(after.to_owned())),
            None => (flowing, None),
        };
        notes.extend(Some(before).filter(|note| !note.is_empty()));
        codes = codes.or(after);
    }
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
    }
    for (at, note) in notes.into_iter().enumerate() {
        if at > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(note)]);
    }
    if let Some(codes) = codes {
        roff.control("SH", ["EXIT STATUS"]);
        let begins_with_digit = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
        let mut meaning = String::new();
        let mut code = String::new();
        let codes = codes.trim_end_matches('.');
        for word in codes.split(' ').chain(["0"]) {
            if !begins_with_digit(word) {
                meaning.push(' ');
                meaning.push_str(word);
                continue;
            }
            if !code.is_empty() {
                item(&mut roff, &code, meaning.trim().trim_end_matches(','));
            }
            word.clone_into(&mut code);
            meaning.clear();
        }
    }
    roff
}

/// bitsd.toml(5), from the rows that the program reads its settings by.
fn settings_page(date: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut roff = Roff::new();
    let title = ["BITSD.TOML", "5", date, &source(), "BITS upload server"];
    roff.control("TH", title);
    roff.control("SH", ["NAME"]);
    roff.text([roman("bitsd.toml - settings of the BITS upload server")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        bold("bitsd serve"),
        roman(
            " reads its settings from a TOML file, /etc/bitsd.toml or the one named by \
             --config. Every key is optional. What is wrong is refused with its place before \
             anything starts; ",
        ),
        bold("bitsd check"),
        roman(" tells beforehand, and prints what holds."),
    ]);
    roff.control("PP", []);
    let keys = rows().filter(|row| row.has_flag).map(Row::name);
    let keys: Vec<_> = keys.collect();
    roff.text([roman(format!(
        "These keys have a flag and a variable of the environment as well: {}. The flag is called \
         as the key, with hyphens (--work-dir), and the variable too, in capitals behind BITSD_ \
         (BITSD_WORK_DIR). The flag wins over the variable, and both win over the file.",
        keys.join(", ")
    ))]);
    roff.control("PP", []);
    roff.text([roman(
        "A size is a number of bytes, or a text such as \"20 GiB\". A time is a number of \
         seconds, or a text such as \"90s\", \"12h\" or \"14d\". Relative paths are relative to \
         the directory in which bitsd is started.",
    )]);
    for (heading, about, scopes) in TABLES {
        roff.control("SH", [*heading]);
        roff.text([roman(*about)]);
        for row in rows().filter(|row| scopes.contains(&row.scope)) {
            key(&mut roff, row);
        }
    }
    roff.control("SH", ["EXAMPLES"]);
    as_written(&mut roff, EXAMPLE.lines());
    roff.control("SH", ["FILES"]);
    item(&mut roff, FILES[0].0, FILES[0].1);
    see_also(&mut roff, "bitsd.toml");
    let mut text = Vec::new();
    roff.to_writer(&mut text)?;
    Ok(text)
}

fn key(roff: &mut Roff, row: &'static Row) {
    roff.control("TP", []);
    roff.text([bold(row.name()), roman(" = "), italic(default_of(row))]);
    roff.text([roman(row.meaning())]);
    let place = match row.scope {
        Scope::Both => " Also in a [[location]].",
        _ => "",
    };
    let reload = match row.is_live {
        true => "A reload changes it.",
        false => "Changes with the next start.",
    };
    roff.text([roman(format!("Takes {}.{place} {reload}", row.takes()))]);
    if !row.iis.is_empty() {
        roff.text([roman(format!("In IIS: {}.", row.iis.join(", ")))]);
    }
}

fn item(roff: &mut Roff, name: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(meaning)]);
}

fn as_written<'l>(roff: &mut Roff, lines: impl Iterator<Item = &'l str>) {
    roff.control("nf", []);
    for line in lines {
        // An empty line of text would be taken for a request.
        match line.is_empty() {
            true => roff.control("sp", []),
            false => roff.text([roman(line)]),
        };
    }
    roff.control("fi", []);
}

/// The pages beside this one.
fn see_also(roff: &mut Roff, name: &str) {
    let all = [
        ("bitsd", "1"),
        ("bitsd-serve", "1"),
        ("bitsd-check", "1"),
        ("bitsd-status", "1"),
        ("bitsd.toml", "5"),
        ("systemctl", "1"),
    ];
    roff.control("SH", ["SEE ALSO"]);
    let mut words = Vec::new();
    for (page, section) in all.into_iter().filter(|(page, _)| *page != name) {
        if !words.is_empty() {
            words.push(roman(", "));
        }
        words.extend([bold(page), roman(format!("({section})"))]);
    }
    roff.text(words);
}

fn source() -> String {
    format!("bitsd {}", bitsd::version::VERSION)
}

const FILES: &[(&str, &str)] = &[
    (
        "/etc/bitsd.toml",
        "The settings, where no other file is named.",
    ),
    (
        "ROOT/.bitsd",
        "The work directory: unfinished uploads, and the journals of their sessions.",
    ),
    (
        "/run/bitsd/admin.sock",
        "The usual place of admin_socket, by which status, sessions, trace, reload and drain ask.",
    ),
];

/// Heading, what the table is for, and whose keys stand in it.
const TABLES: &[(&str, &str, &[Scope])] = &[
    (
        "KEYS AT THE TOP",
        "They stand before the first header in brackets.",
        &[Scope::Server, Scope::Both],
    ),
    (
        "KEYS IN [[location]]",
        "What holds for uploads whose URL begins with a prefix. Each location may also have the \
         keys above that say so, and has the value from the top where it is silent.",
        &[Scope::Location],
    ),
    (
        "KEYS IN [[listener]]",
        "An address to listen on, beside those of listen.",
        &[Scope::Listener],
    ),
    (
        "KEYS IN [[certificate]]",
        "A certificate for listeners with tls = true.",
        &[Scope::Certificate],
    ),
    (
        "KEYS IN [events]",
        "Who hears of each upload that ended.",
        &[Scope::Events],
    ),
    (
        "KEYS IN [limits]",
        "Bounds that hold for the whole server; the defaults are made for it.",
        &[Scope::Limits],
    ),
];

const EXAMPLE: &str = "\
listen = [\"0.0.0.0:8080\", \"[::]:8080\"]
root = \"/var/lib/bitsd\"

# http://server:8080/logs/2026/a.log becomes /srv/logs/2026/a.log.
[[location]]
prefix = \"/logs\"
root = \"/srv/logs\"
create_dirs = true";
