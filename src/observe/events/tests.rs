//! The line that each event makes.

use super::*;
use crate::event::{Hangup, ObjectName};
use crate::http::digest::Digests;
use crate::http::stranger::TARGET_BYTES_MAX;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::bits::reply::Refusal;
use crate::config::{LogFormat, LogLevel};
use crate::http::head::BadHead;
use crate::observe::layer::Lines;
use crate::observe::line::{Dress, Style};

/// The lines that the events make.
fn logged(format: LogFormat, level: LogLevel, events: &[Event<'_>]) -> String {
    let lines = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&lines);
    let style = |format| Style {
        format,
        dress: Dress::Plain,
    };
    let subscriber = (tracing_subscriber::Registry::default())
        .with(crate::observe::filter(level))
        .with(Lines {
            style: move || style(format),
            take: move |line: String| sink.lock().unwrap().push_str(&line),
        });
    tracing::subscriber::with_default(subscriber, || {
        for event in events {
            log(3, event);
        }
    });
    let lines = lines.lock().unwrap();
    lines.clone()
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
            path: Some("a"),
            status: 404,
            user: None,
            why: None,
        },
        Event::NotServed {
            peer: peer(),
            seen: b"PUT /a HTTP/1.1\r\n\r\n",
            status: 405,
        },
        Event::BlocksExhausted,
    ];
    assert_eq!(logged(LogFormat::Text, LogLevel::Info, &events), "");
    assert_eq!(
        logged(LogFormat::Text, LogLevel::Debug, &events)
            .lines()
            .count(),
        6
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
    let of = |errno: Errno| {
        let error = io::Error::from(errno);
        let event = [Event::DiskFailed {
            op: DiskOp::Allocate,
            session: None,
            error: &error,
        }];
        logged(LogFormat::Text, LogLevel::Info, &event)
    };
    let line = of(Errno::NOSPC);
    assert!(line.contains("INFO") && !line.contains("dmesg"), "{line}");
    // A size that no file can have is told by the line of the packet.
    assert_eq!(of(Errno::FBIG), "");
}

#[test]
fn json_lines_carry_the_fields_as_values() {
    let event = [Event::Recovered {
        sessions: 7,
        duration_ms: 12,
    }];
    let line = logged(LogFormat::Json, LogLevel::Debug, &event);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["level"], "DEBUG");
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

/// A client can make sessions and give them up without end; files that arrive are all told.
#[test]
fn sessions_that_are_given_up_are_limited_and_files_that_arrive_are_not() {
    let ended = |ending| Event::SessionEnded {
        session: SessionId::mint([7; 16], 0, 1),
        ending,
        path: "a",
        received: 1,
        location: "",
        by_administrator: false,
        series: 0,
        total: Some(2),
        duration_ms: Some(1),
        idle_ms: 0,
        interruptions: 0,
        connections: 1,
        agent: None,
        user: None,
        proof: None,
        digests: None,
        object: None,
        peer: Some(peer()),
        remedy: None,
    };
    for ending in [
        Ending::Cancelled,
        Ending::Incomplete,
        Ending::Denied,
        Ending::Poisoned,
    ] {
        let events: Vec<_> = (0..400).map(|_| ended(ending)).collect();
        let lines = logged(LogFormat::Text, LogLevel::Info, &events);
        let lines = lines.lines().count();
        assert!((1..200).contains(&lines), "{ending:?}: {lines}");
    }
    for ending in [Ending::Published, Ending::Delivered, Ending::Expired] {
        let events: Vec<_> = (0..400).map(|_| ended(ending)).collect();
        let lines = logged(LogFormat::Text, LogLevel::Info, &events);
        assert_eq!(lines.lines().count(), 400, "{ending:?}");
    }
}

#[test]
fn the_end_of_a_session_is_one_line_with_all_that_matters() {
    let event = [Event::SessionEnded {
        session: SessionId::mint([7; 16], 0, 1),
        ending: Ending::Published,
        path: "in/report.bin",
        received: 2_500_000,
        location: "in",
        by_administrator: false,
        series: 0,
        total: Some(2_500_000),
        duration_ms: Some(1234),
        idle_ms: 0,
        interruptions: 2,
        connections: 7,
        agent: Some("Microsoft BITS/7.8"),
        user: Some("anna"),
        proof: Some("negotiate"),
        digests: Some(Digests {
            sha256: [0xab; 32],
            sha1: None,
        }),
        object: Some(ObjectName {
            bucket: "collected",
            key: "hosts/in/report.bin",
        }),
        peer: Some(peer()),
        remedy: None,
    }];
    let line = logged(LogFormat::Text, LogLevel::Info, &event);
    assert_eq!(line.lines().count(), 1);
    for part in [
        "INFO",
        "path=\"in/report.bin\"",
        "bytes=2500000",
        "duration_ms=1234",
        "of=2500000",
        "interruptions=2",
        "connections=7",
        "location=\"in\"",
        "user=\"anna\" proof=\"negotiate\"",
        "sha256=\"abababababababab",
        "agent=\"Microsoft BITS/7.8\"",
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
            target: None,
            user: Some("anna"),
            why: &Refusal::SessionNotFound,
        },
        Event::Refused {
            peer: peer(),
            session: None,
            path: None,
            target: Some(b"//a\nb"),
            user: None,
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
    assert!(lines[0].contains(" path=\"a\\\"b\" "), "{text}");
    assert!(lines[1].contains(" target=\"//a\\nb\" "), "{text}");
}

#[test]
fn a_refused_head_names_its_target_the_limit_and_what_it_looks_like() {
    let long = [b"BITS_POST /".as_slice(), &[b'x'; 2_000], b" HTTP/1.1\r\n"].concat();
    let events = [
        Event::BadRequest {
            peer: peer(),
            seen: &long,
            why: BadHead::TooManyFields { fields_max: 64 },
        },
        Event::BadRequest {
            peer: "192.0.2.2:1".parse().unwrap(),
            seen: b"\x16\x03\x01\x02\x00\x01\x00",
            why: BadHead::RequestLine,
        },
        Event::EndedEarly {
            peer: peer(),
            seen: b"BITS_POST /in/a HTT",
        },
    ];
    let text = logged(LogFormat::Text, LogLevel::Info, &events);
    let lines: Vec<&str> = text.lines().collect();
    let target = format!(" target=\"/{}…\" ", "x".repeat(TARGET_BYTES_MAX - 1));
    assert!(lines[0].contains(&target), "{text}");
    assert!(lines[0].contains("limit=\"limits.headers_max\""), "{text}");
    assert!(lines[1].contains("looks_like=\"TLS"), "{text}");
    assert!(lines[2].contains("event=connection_ended_early"), "{text}");
    assert!(lines[2].contains("target=\"/in/a\""), "{text}");
}

#[test]
fn who_repeats_itself_is_told_once() {
    let again = Event::Refused {
        peer: "192.0.2.77:1".parse().unwrap(),
        session: None,
        path: Some("in/again"),
        target: None,
        user: None,
        why: &Refusal::TooManySessions,
    };
    let text = logged(
        LogFormat::Text,
        LogLevel::Info,
        &[again.clone(), again.clone(), again],
    );
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn every_line_has_a_word_for_its_kind() {
    let session = SessionId::mint([7; 16], 0, 1);
    let events = [
        Event::Connected { peer: peer() },
        Event::SessionSealed { session },
        Event::SessionTakenOver { session, series: 0 },
        Event::Repeated {
            session,
            series: 0,
            bytes: 1,
            received: 1,
        },
        Event::Gap {
            session,
            series: 0,
            bytes: 1,
            received: 1,
        },
        Event::SetAside {
            name: "x",
            why: "y",
        },
        Event::Notified {
            session,
            told: Told::Answered(500),
        },
        Event::Notified {
            session,
            told: Told::Senseless(&"its URL is none"),
        },
        Event::BlocksExhausted,
    ];
    let text = logged(LogFormat::Text, LogLevel::Debug, &events);
    assert_eq!(text.lines().count(), events.len());
    for line in text.lines() {
        let word = line
            .split(" event=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let is_word = |word: &str| {
            word.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        assert!(
            word.is_some_and(|word| is_word(word) && word != "other"),
            "{line}"
        );
    }
}

/// No membership gives a number that the user namespace does not know.
#[test]
fn what_a_file_was_not_given_is_helped_by_its_cause() {
    let remedy = |what, errno: Errno| of_not_given(what, &errno.into());
    assert!(remedy("group", Errno::PERM).contains("SupplementaryGroups="));
    for what in ["group", "ACL"] {
        let said = remedy(what, Errno::INVAL);
        assert!(
            said.contains("subgid") && !said.contains("member"),
            "{said}"
        );
    }
    assert!(remedy("ACL", Errno::OPNOTSUPP).contains("mount"));
    assert!(!remedy("project id", Errno::PERM).contains("group"));
    assert!(remedy("attribute", Errno::OPNOTSUPP).contains("[[location]]"));
}
