//! The log: lines on stderr, as text (logfmt) or as JSON, with the same fields in both.
//! `docs/logging.md` shows each.
//!
//! At the default level there is one line for each session, at its end, and one for each refusal or
//! fault. Fragments, connections and everything else that repeats per packet is `debug`. A warning
//! means that someone should act: it names the cause and, where one is known, the remedy. What
//! clients do wrong is `info`.
//!
//! Three promises: the log never stops or slows the server ([`writer`]), no client can fill it
//! ([`limit`]), and no text from outside can forge a line ([`mod@line`]).

mod changes;
mod connections;
mod events;
mod layer;
pub mod limit;
pub mod line;
mod outbox;
mod refusals;
mod stream;
mod tickets;
mod words;
pub mod writer;

use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, LogLevel};
use crate::unseen;
pub use changes::changes;
pub use events::{log, log_failed_accept, log_ignored_signal};
use layer::Lines;
use limit::{Kind, LeftOut};
use line::{Line, Style};
use writer::Notices;

/// How long the end of the process waits for lines to be written.
pub const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Whether lines are JSON at the moment.
static IS_JSON: AtomicBool = AtomicBool::new(false);
/// Sets the level while the server runs.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sends log lines to stderr from now on. A second call changes form and level only.
///
/// # Errors
/// The thread that writes could not be started.
pub fn init(format: LogFormat, level: LogLevel) -> io::Result<()> {
    writer::open(Notices {
        lost: lines_lost,
        due: left_out,
    })?;
    let (filter, handle) = reload::Layer::new(filter(level));
    let subscriber: Layered<_, Layered<_, _>> = Registry::default().with(filter).with(Lines {
        style,
        take: |line| {
            writer::push(line);
        },
    });
    // Both fail only where it was done before.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        let _ = LEVEL.set(handle);
    }
    adopt(format, level);
    Ok(())
}

/// Goes over to another form and level.
pub fn adopt(format: LogFormat, level: LogLevel) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    if let Some(handle) = LEVEL.get() {
        // It fails only where the subscriber is gone, and then there is nothing to set.
        let _ = handle.reload(filter(level));
    }
}

/// Tells how many lines were left out so far: before the last line of the process.
pub fn settle() {
    limit::settle(&mut |left_out| {
        writer::push(left_out_line(style(), &left_out));
    });
}

/// Before the process ends: waits until all lines are written, within bounds, since whoever reads
/// the log may have stopped. What was left out is told first.
pub fn flush() {
    settle();
    writer::flush(FLUSH_PATIENCE);
}

/// Says on stderr why a start came to nothing before there was a log, in the form that the log
/// would have had.
pub fn complain(format: LogFormat, event: &str, why: &dyn fmt::Display) {
    let style = Style {
        format,
        dress: stream::dress(),
    };
    let line = Line::new(style, Level::ERROR, event, &why.to_string());
    writer::write_briefly(io::stderr(), &line.end(), FLUSH_PATIENCE);
}

/// One sentence on stderr, for the commands that have no log. Where nobody reads it, the exit code
/// must do. Names of files and what servers say come from outside: nothing in it moves the cursor
/// of a terminal, or makes a second line.
pub fn say(what: &dyn fmt::Display) {
    let what = unseen::replace(&what.to_string().replace('\t', " "), '?');
    writer::write_briefly(io::stderr(), &format!("bitsd: {what}\n"), FLUSH_PATIENCE);
}

/// A text as it is, on stdout or stderr, for the commands that have no log. Where nobody reads it,
/// the exit code must do.
pub fn show_briefly(to: impl std::os::fd::AsFd, text: &str) {
    writer::write_briefly(to, text, FLUSH_PATIENCE);
}

/// Tells on stdout, for scripts, where the server listens, and whether by TLS, unless stdout is
/// where the log goes: a reader of the log meets lines of the log only.
///
/// A thread writes it, so that a pipe that nobody reads stops nobody.
pub fn announce(addresses: impl Iterator<Item = (std::net::SocketAddr, bool)>) {
    if stream::is_one() {
        return;
    }
    let style = Style {
        dress: line::Dress::Plain,
        ..style()
    };
    let text: String = addresses
        .map(|(address, is_secure)| {
            let scheme = if is_secure { "https" } else { "http" };
            let message = format!("listening on {scheme}://{address}");
            match style.format {
                LogFormat::Text => message + "\n",
                LogFormat::Json => Line::new(style, Level::INFO, "listening", &message).end(),
            }
        })
        .collect();
    let text = std::sync::Arc::new(text);
    let write = {
        let text = std::sync::Arc::clone(&text);
        move || writer::write_briefly(io::stdout(), &text, FLUSH_PATIENCE)
    };
    let thread = std::thread::Builder::new().name("announce".to_owned());
    // Where there can be no thread, it waits here a little.
    if thread.spawn(write).is_err() {
        writer::write_briefly(io::stdout(), &text, FLUSH_PATIENCE);
    }
}

/// A panic is one line of the log and the end of the process: a shard that trips an assertion must
/// not leave the others running, and all state is on disk.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let what = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(
            event = "panic",
            thread,
            place,
            "bitsd has a bug and ends: {what}"
        );
        flush();
        std::process::abort();
    }));
}

fn style() -> Style {
    /// Looked at once: it does not change while the process runs.
    static DRESS: OnceLock<line::Dress> = OnceLock::new();
    Style {
        format: match IS_JSON.load(Ordering::Relaxed) {
            true => LogFormat::Json,
            false => LogFormat::Text,
        },
        dress: *DRESS.get_or_init(stream::dress),
    }
}

/// Of what is not ours only warnings: nobody knows what else libraries tell.
fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(LevelFilter::WARN)
        // It warns at each request of what it has not got, with whole answers of what gives
        // credentials, and names keys when it reads them. Our own events tell why a file waits.
        .with_target("aws_", LevelFilter::OFF)
        // It has an error for each attempt to connect, and our own events name what helps.
        .with_target("async_nats", LevelFilter::OFF)
        .with_target(env!("CARGO_CRATE_NAME"), ours)
}

/// The line that says how many there are not.
fn lines_lost(lines: u64) -> String {
    let message = "lines of the log were lost: it cannot be written as fast as it grows, or at all";
    let mut line = Line::new(style(), Level::WARN, "log_lines_lost", message);
    line.number("lines", lines);
    line.end()
}

/// The lines that stand for those that were left out on purpose.
fn left_out(push: &mut dyn FnMut(String)) {
    limit::tell(&mut |left_out| push(left_out_line(style(), &left_out)));
}

fn left_out_line(style: Style, left_out: &LeftOut) -> String {
    let (LeftOut::Cause(cause, lines) | LeftOut::Repeat { cause, lines, .. }) = left_out;
    let message = match left_out {
        LeftOut::Cause(..) => format!("{lines} more like this"),
        LeftOut::Repeat { .. } => format!("{lines} more like this from one client in a minute"),
    };
    let mut line = Line::new(style, Level::INFO, "more_like_this", &message);
    line.word("of", cause.kind.event());
    line.number("lines", lines);
    if cause.status != 0 {
        line.number("status", cause.status);
    }
    // The other kinds tell causes apart by numbers of their own.
    if cause.kind == Kind::PacketRefused && cause.code != 0 {
        line.word("hresult", &format!("0x{:08X}", cause.code));
    }
    if let (LeftOut::Cause(..), 1..) = (left_out, cause.why.len()) {
        line.quoted("why", cause.why);
    }
    if let LeftOut::Repeat {
        client, path, why, ..
    } = left_out
    {
        line.word("client", &client.to_string());
        line.quoted("path", path);
        line.quoted("why", why);
    }
    line.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_libraries_only_warnings_are_told_whatever_the_level() {
        for level in [LogLevel::Warn, LogLevel::Info, LogLevel::Debug] {
            let filter = filter(level);
            assert!(
                !filter.would_enable("hyper::client", &Level::INFO),
                "{level:?}"
            );
            assert!(filter.would_enable("hyper::client", &Level::WARN));
            // Answers with secrets, for each request.
            for target in [
                "aws_config::meta::credentials::chain",
                "aws_config::profile::credentials",
                "aws_runtime::auth",
                "aws_smithy_http_client::client",
            ] {
                assert!(!filter.would_enable(target, &Level::ERROR), "{target}");
            }
            let is_told = level != LogLevel::Warn;
            assert_eq!(
                filter.would_enable("bitsd::observe::events", &Level::INFO),
                is_told
            );
        }
    }
}
