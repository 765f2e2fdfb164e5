//! Reader of events: log lines on stderr, as text or as JSON, with the same fields in both.
//!
//! At the default level there is one line for each session, at its end, and one for each refusal or fault. Fragments,
//! connections and everything else that repeats per packet is `debug`. A warning means that someone should act: it names
//! the cause and, where one is known, the remedy. What clients do wrong is `info`.
//!
//! Names and paths come from clients. They are recorded as strings, which both forms quote and escape, so that no upload
//! can forge a log line.

use std::io::{self, IsTerminal};

use tracing::field::{DisplayValue, display};
use tracing::{Level, debug, info, warn};

use crate::config::{LogFormat, LogLevel};
use crate::diagnosis::{self, Diagnosis, Severity};
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
        | Event::Stalled { .. }
        | Event::Moved { .. }
        | Event::DownloadRefused { .. }
        | Event::CaseDiffers { .. }
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
            match diagnosis::remedy(why) {
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
            let diagnosis = diagnosis::diagnose(*op, error);
            let (op, session) = (disk_op_in_words(*op), session.map(display));
            let Diagnosis {
                severity,
                cause,
                remedy,
                ..
            } = diagnosis;
            match severity {
                Severity::Silent => {}
                Severity::Info => {
                    info!(shard, session, op, %error, cause, remedy, "the disk refused to {op}")
                }
                Severity::Warning => {
                    warn!(shard, session, op, %error, cause, remedy, "the disk refused to {op}")
                }
            }
        }
        Event::NotGiven { path, what, error } => {
            let remedy = "let the server's user be a member of the folder's group (SupplementaryGroups= of the service)";
            warn!(shard, path, %error, remedy, "a published file did not get the {what} that its folder gives");
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
        Event::Stalled { ms } => {
            let remedy = "see what else uses its core or its disk";
            warn!(shard, ms, remedy, "this shard stood still");
        }
        Event::Moved { peer, to } => {
            debug!(shard, %peer, to, "connection moved to the session's shard")
        }
        Event::CaseDiffers { path, prefix } => {
            let remedy =
                "set prefix_case = \"ignore\" for that prefix, or write the URL as the prefix is";
            info!(
                shard,
                path, prefix, remedy, "a prefix differs from this path in case only"
            );
        }
        Event::DownloadRefused { peer, path, status } => {
            debug!(shard, %peer, path, status, "download refused: see the setting `download`");
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
        Hangup::Crowded => "idle, and others needed its place",
        Hangup::NotClosed => "it did not close after its last answer",
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::sync::{Arc, Mutex};

    use crate::bits::reply::Refusal;
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
            Event::DownloadRefused {
                peer: peer(),
                path: "a",
                status: 404,
            },
            Event::BlocksExhausted,
        ];
        assert_eq!(logged(LogFormat::Text, LogLevel::Info, &events), "");
        assert_eq!(
            logged(LogFormat::Text, LogLevel::Debug, &events)
                .lines()
                .count(),
            5
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
    fn what_a_client_can_cause_at_will_is_no_warning() {
        let error = io::Error::from(Errno::FBIG);
        let event = [Event::DiskFailed {
            op: DiskOp::Allocate,
            session: None,
            error: &error,
        }];
        let line = logged(LogFormat::Text, LogLevel::Info, &event);
        assert!(line.contains("INFO") && !line.contains("dmesg"), "{line}");
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
