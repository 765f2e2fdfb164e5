//! Reader of events: log lines on stderr, as text or as JSON, with the same fields in both.
//!
//! At the default level there is one line for each session, at its end, and one for each refusal or fault. Fragments,
//! connections and everything else that repeats per packet is `debug`. A warning means that someone should act: it names
//! the cause and, where one is known, the remedy. What clients do wrong is `info`.
//!
//! Names and paths come from clients. They are recorded as strings, which both forms quote and escape, so that no upload
//! can forge a log line.

use std::io::{self, IsTerminal};

use rustix::io::Errno;
use tracing::field::{DisplayValue, display};
use tracing::{Level, debug, info, warn};

use crate::bits::reply::Refusal;
use crate::config::{LogFormat, LogLevel};
use crate::event::{DiskOp, Ending, Event, Hangup, Told};

/// Sends log lines to stderr from now on. A second call changes nothing.
pub fn init(format: LogFormat, level: LogLevel) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(max_level(level))
        .with_target(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    };
    // It fails only where a subscriber is set already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs one event of one shard.
pub fn log(shard: usize, event: &Event<'_>) {
    match event {
        Event::Connected { .. }
        | Event::ConnectionRefused { .. }
        | Event::HungUp { .. }
        | Event::Moved { .. }
        | Event::BadRequest { .. }
        | Event::BlocksExhausted => log_connection(shard, event),
        Event::Refused {
            peer,
            session,
            path,
            why,
        } => {
            let (session, status) = (session.map(display), why.status());
            let (path, hresult) = (*path, why.hresult().map(hexadecimal));
            match remedy_for_refusal(why) {
                Some(remedy) => {
                    warn!(shard, %peer, session, path, status, hresult, %why, remedy, "packet refused");
                }
                None => info!(shard, %peer, session, path, status, hresult, %why, "packet refused"),
            }
        }
        Event::SessionEnded {
            session,
            ending,
            path,
            received,
            duration_ms,
            resumes,
            peer,
        } => {
            let (ending, peer) = (ending_in_words(*ending), peer.map(display));
            // The fields' order is that of the line: who, what, how much.
            if ending == POISONED {
                warn!(shard, %session, path, bytes = received, duration_ms, resumes, peer, ending,
                    remedy = "check the disk; the client starts again by itself", "session ended");
            } else {
                info!(shard, %session, path, bytes = received, duration_ms, resumes, peer, ending, "session ended");
            }
        }
        Event::DiskFailed { op, session, error } => {
            let (op, session) = (disk_op_in_words(*op), session.map(display));
            warn!(shard, session, op, %error, remedy = remedy_for_disk(error), "the disk refused to {op}");
        }
        Event::Notified { session, told } => match told {
            Told::Answered(200) => debug!(shard, %session, "the application took the upload"),
            Told::Answered(status) => {
                let remedy = "look at the log of the server application; only 200 takes an upload";
                warn!(shard, %session, status, remedy, "the application did not take the upload");
            }
            Told::Failed(why) => {
                let remedy = "look at the server application and at notification_url";
                warn!(shard, %session, %why, remedy, "the application was not told of the upload");
            }
        },
        Event::SetAside { name, why } => {
            let remedy = "look at the renamed file in the work directory; delete it if nobody misses the upload";
            warn!(
                shard,
                name, why, remedy, "a file of the work directory was set aside"
            );
        }
        Event::Recovered {
            sessions,
            duration_ms,
        } => {
            info!(shard, sessions, duration_ms, "sessions read back");
        }
        Event::SessionRecovered {
            session,
            received,
            truncated,
        } if *truncated > 0 => {
            info!(shard, %session, received, truncated,
                "session read back; bytes a power cut may have lost are asked for again");
        }
        Event::SessionCreated { .. }
        | Event::FragmentStored { .. }
        | Event::Gap { .. }
        | Event::SessionSealed { .. }
        | Event::SessionTakenOver { .. }
        | Event::SessionRecovered { .. } => log_progress(shard, event),
    }
}

/// Connections; quiet unless the server itself is short of something or the request was no request.
fn log_connection(shard: usize, event: &Event<'_>) {
    match event {
        Event::Connected { peer } => debug!(shard, %peer, "connected"),
        Event::ConnectionRefused { peer } => {
            let remedy = "raise limits.connections_per_shard_max, or cores";
            warn!(shard, %peer, remedy, "connection refused: this shard holds as many as it may");
        }
        Event::HungUp { peer, why } => {
            debug!(shard, %peer, why = hangup_in_words(*why), "connection ended by us");
        }
        Event::Moved { peer, to } => {
            debug!(shard, %peer, to, "connection moved to the session's shard")
        }
        Event::BadRequest { peer, why } => {
            info!(shard, %peer, status = why.status(), %why, "request refused");
        }
        Event::BlocksExhausted => {
            debug!(
                shard,
                "all body blocks are in use; bodies go on in small blocks"
            );
        }
        _ => {}
    }
}

/// The life of a session before its end; always quiet.
fn log_progress(shard: usize, event: &Event<'_>) {
    match event {
        Event::SessionCreated {
            session,
            path,
            peer,
        } => {
            debug!(shard, %session, path, %peer, "session created");
        }
        Event::FragmentStored {
            session,
            stored,
            skipped,
            received,
        } => {
            debug!(shard, %session, stored, skipped, received, "fragment stored");
        }
        Event::Gap { session, received } => {
            debug!(shard, %session, received, "fragment beyond what was received; the client goes back");
        }
        Event::SessionSealed { session } => debug!(shard, %session, "session sealed"),
        Event::SessionTakenOver { session } => {
            debug!(shard, %session, "session taken over by a newer connection");
        }
        Event::SessionRecovered {
            session, received, ..
        } => {
            debug!(shard, %session, received, "session read back");
        }
        _ => {}
    }
}

/// What to do about a refusal that is our fault and not the client's; `None` for the client's.
fn remedy_for_refusal(why: &Refusal) -> Option<&'static str> {
    match why {
        Refusal::DiskFull => Some(FREE_SPACE),
        Refusal::ReadOnly => Some(REMOUNT),
        Refusal::DiskFailed => Some(CHECK_DISK),
        Refusal::AccessDenied => Some(GRANT),
        Refusal::DataVanished => Some("keep other programs out of the work directory"),
        Refusal::Busy => Some(
            "raise LimitNOFILE= of the service (or `ulimit -n`), limits.sessions_per_shard_max, limits.mailbox_max or \
             notifications_in_flight_max, whichever ran out",
        ),
        _ => None,
    }
}

/// What to do about an error of the disk, where one knows.
fn remedy_for_disk(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::NOSPC => Some(FREE_SPACE),
        Errno::DQUOT => {
            Some("raise the disk quota of the server's user; clients retry by themselves")
        }
        Errno::ACCESS | Errno::PERM => Some(GRANT),
        Errno::MFILE => {
            Some("too many open files: raise LimitNOFILE= of the service, or `ulimit -n`")
        }
        Errno::NFILE => {
            Some("too many open files in the whole system: raise the sysctl fs.file-max")
        }
        Errno::ROFS => Some(REMOUNT),
        Errno::IO => Some(CHECK_DISK),
        Errno::XDEV => Some("put work_dir on the file system of root"),
        Errno::NOMEM => Some("give the server more memory, or lower the numbers in [limits]"),
        Errno::NAMETOOLONG => Some("the destination's name is longer than the file system allows"),
        Errno::FBIG => Some("the file is larger than the file system or `ulimit -f` allows"),
        _ => None,
    }
}

fn ending_in_words(ending: Ending) -> &'static str {
    match ending {
        Ending::Published => "published",
        Ending::Delivered => "taken by the application",
        Ending::Denied => "refused by the application",
        Ending::Incomplete => "closed incomplete",
        Ending::Cancelled => "cancelled",
        Ending::Expired => "expired",
        Ending::Poisoned => POISONED,
    }
}

fn hangup_in_words(why: Hangup) -> &'static str {
    match why {
        Hangup::HeadTimeout => "the head of a request did not arrive in time",
        Hangup::Idle => "idle",
        Hangup::BodyStalled => "the body stalled",
        Hangup::TakenOver => "a newer connection took the session over",
        Hangup::Draining => "the server is stopping",
    }
}

fn disk_op_in_words(op: DiskOp) -> &'static str {
    match op {
        DiskOp::Create => "create a file",
        DiskOp::Open => "open a file",
        DiskOp::Read => "read",
        DiskOp::Allocate => "reserve space",
        DiskOp::Write => "write a fragment",
        DiskOp::Record => "write a session record",
        DiskOp::Sync => "sync a file",
        DiskOp::SyncDirectory => "sync a directory",
        DiskOp::LookUp => "look up the destination",
        DiskOp::CreateDirectories => "create folders",
        DiskOp::Publish => "publish a file",
        DiskOp::Reply => "keep a reply",
        DiskOp::Remove => "remove a file",
        DiskOp::Truncate => "truncate a file",
    }
}

/// As on the wire.
fn hexadecimal(hresult: u32) -> DisplayValue<String> {
    display(format!("0x{hresult:08X}"))
}

fn max_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    }
}

const POISONED: &str = "poisoned";
const FREE_SPACE: &str = "the disk is full: free some space; clients retry by themselves";
const REMOUNT: &str = "the file system is read-only: check it, and remount it writable";
const CHECK_DISK: &str = "the device reports errors: look at `dmesg` and the health of the disk";
const GRANT: &str = "grant the server's user the right to write into root and work_dir";

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    use crate::bits::session_id::SessionId;

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that the events make.
    fn logged(format: LogFormat, level: LogLevel, events: &[Event<'_>]) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let builder = tracing_subscriber::fmt()
            .with_max_level(max_level(level))
            .with_target(false)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber: Box<dyn tracing::Subscriber + Send + Sync> = match format {
            LogFormat::Text => Box::new(builder.finish()),
            LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        };
        tracing::subscriber::with_default(subscriber, || {
            for event in events {
                log(3, event);
            }
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn peer() -> std::net::SocketAddr {
        "192.0.2.1:50000".parse().unwrap()
    }

    #[test]
    fn connections_and_blocks_are_silent_at_the_default_level() {
        let events = [
            Event::Connected { peer: peer() },
            Event::HungUp {
                peer: peer(),
                why: Hangup::Idle,
            },
            Event::Moved {
                peer: peer(),
                to: 1,
            },
            Event::BlocksExhausted,
        ];
        assert_eq!(logged(LogFormat::Text, LogLevel::Info, &events), "");
        assert_eq!(
            logged(LogFormat::Text, LogLevel::Debug, &events)
                .lines()
                .count(),
            4
        );
    }

    #[test]
    fn a_full_disk_is_a_warning_with_cause_and_remedy() {
        let error = io::Error::from(Errno::NOSPC);
        let event = [Event::DiskFailed {
            op: DiskOp::Write,
            session: None,
            error: &error,
        }];
        let line = logged(LogFormat::Text, LogLevel::Warn, &event);
        for part in [
            "WARN",
            "write a fragment",
            "shard=3",
            "No space left",
            "free some space",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(!line.contains("session="), "{line}");
    }

    #[test]
    fn every_common_disk_error_has_a_remedy() {
        for (errno, part) in [
            (Errno::MFILE, "LimitNOFILE"),
            (Errno::ACCESS, "right to write"),
            (Errno::ROFS, "read-only"),
            (Errno::XDEV, "work_dir"),
            (Errno::DQUOT, "quota"),
            (Errno::IO, "dmesg"),
        ] {
            assert!(remedy_for_disk(&errno.into()).is_some_and(|text| text.contains(part)));
        }
        assert_eq!(remedy_for_disk(&io::Error::other("unknown")), None);
    }

    #[test]
    fn refusals_are_warnings_only_where_the_server_is_at_fault() {
        for why in [
            Refusal::DiskFull,
            Refusal::AccessDenied,
            Refusal::Busy,
            Refusal::DiskFailed,
        ] {
            assert!(remedy_for_refusal(&why).is_some(), "{why:?}");
        }
        for why in [
            Refusal::SessionNotFound,
            Refusal::TargetExists,
            Refusal::Gap { received: 1 },
        ] {
            assert!(remedy_for_refusal(&why).is_none(), "{why:?}");
        }
    }

    #[test]
    fn json_lines_carry_the_fields_as_values() {
        let event = [Event::Recovered {
            sessions: 7,
            duration_ms: 12,
        }];
        let line = logged(LogFormat::Json, LogLevel::Info, &event);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["shard"], 3);
        assert_eq!(json["sessions"], 7);
        assert_eq!(json["duration_ms"], 12);
        assert_eq!(json["message"], "sessions read back");
    }

    #[test]
    fn text_from_outside_cannot_forge_a_line() {
        let event = [Event::SetAside {
            name: "x\nERROR \u{1b}[31m",
            why: "y",
        }];
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = logged(format, LogLevel::Info, &event);
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(!line.contains('\u{1b}'), "{line}");
        }
    }

    #[test]
    fn the_end_of_a_session_is_one_line_with_all_that_matters() {
        let event = [Event::SessionEnded {
            session: SessionId::mint([7; 16], 0, 1),
            ending: Ending::Published,
            path: "in/report.bin",
            received: 2_500_000,
            duration_ms: 1234,
            resumes: 2,
            peer: Some(peer()),
        }];
        let line = logged(LogFormat::Text, LogLevel::Info, &event);
        assert_eq!(line.lines().count(), 1);
        for part in [
            "INFO",
            "path=\"in/report.bin\"",
            "bytes=2500000",
            "duration_ms=1234",
            "resumes=2",
            "peer=192.0.2.1:50000",
            "ending=\"published\"",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn refusals_name_status_and_cause() {
        let events = [
            Event::Refused {
                peer: peer(),
                session: None,
                path: Some("a\"b"),
                why: &Refusal::SessionNotFound,
            },
            Event::Refused {
                peer: peer(),
                session: None,
                path: None,
                why: &Refusal::DiskFull,
            },
        ];
        let text = logged(LogFormat::Text, LogLevel::Info, &events);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("INFO") && lines[0].contains("hresult=0x8020001F"),
            "{text}"
        );
        assert!(
            lines[1].contains("WARN") && lines[1].contains("remedy="),
            "{text}"
        );
    }
}
