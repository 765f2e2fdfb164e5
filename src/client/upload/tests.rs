//! What the client makes of each answer.

use super::*;

const KIB: u64 = 1024;

fn ok() -> Reply {
    Reply {
        status: 200,
        is_bits: true,
        ..Reply::default()
    }
}

fn created() -> Reply {
    Reply {
        session: Some("{S}".to_owned()),
        ..ok()
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_refused() {
    for (told, is_offered) in [
        ("{7df0354d-249b-430f-820d-3d2a9bef4931}", true),
        ("7DF0354D-249B-430F-820D-3D2A9BEF4931", true),
        ("{7df0354d-249b-430f-820d-3d2a9bef4932}", false),
        ("", false),
    ] {
        assert_eq!(crate::client::head::is_offered(told), is_offered, "{told}");
    }
    let mut upload = Upload::new(100 * KIB, 40 * KIB);
    upload.answered(&ok()).unwrap();
    let other = Reply {
        is_other_protocol: true,
        ..created()
    };
    assert!(matches!(
        upload.answered(&other),
        Err(Failure::Nonsense { .. })
    ));
}

fn at(status: u16, received: u64) -> Reply {
    Reply {
        status,
        received: Some(received),
        ..Reply::default()
    }
}

fn error(status: u16, hresult: Option<u32>) -> Reply {
    Reply {
        status,
        hresult,
        ..Reply::default()
    }
}

/// Nobody has bytes that were not sent: by such a word the rest would never arrive.
#[test]
fn a_server_has_no_more_than_was_sent() {
    let mut upload = sending();
    let failure = upload.answered(&at(200, 100 * KIB)).unwrap_err();
    assert!(failure.to_string().contains("beyond what was sent"));
    // What broke off may have come to its end.
    let mut broken = sending();
    broken.broken();
    broken.broken();
    assert_eq!(broken.answered(&ok()), Ok(Next::Again));
    assert_eq!(broken.answered(&at(200, 40 * KIB)), Ok(Next::Forward));
    // An earlier run may have sent all of it.
    let mut resumed = Upload::resume(100 * KIB, 40 * KIB, "{S}".to_owned());
    assert_eq!(resumed.answered(&ok()), Ok(Next::Again));
    assert_eq!(resumed.answered(&at(416, 80 * KIB)), Ok(Next::Forward));
    // But not into the session that follows.
    let gone = error(500, Some(SESSION_NOT_FOUND));
    assert_eq!(resumed.answered(&gone), Ok(Next::Again));
    assert_eq!(resumed.answered(&created()), Ok(Next::Forward));
    assert!(resumed.answered(&at(200, 80 * KIB)).is_err());
}

/// An upload of 100 KiB in fragments of 40 KiB, up to its first fragment.
fn sending() -> Upload {
    let mut upload = Upload::new(100 * KIB, 40 * KIB);
    assert_eq!(upload.packet(), Some(Packet::Ping));
    assert_eq!(upload.answered(&ok()), Ok(Next::Again));
    assert_eq!(upload.packet(), Some(Packet::CreateSession));
    assert_eq!(upload.answered(&created()), Ok(Next::Forward));
    upload
}

fn fragment(range: Range<u64>) -> Option<Packet> {
    Some(Packet::Fragment { range })
}

#[test]
fn a_file_goes_in_fragments_and_is_closed() {
    let mut upload = sending();
    for (start, end) in [(0, 40), (40, 80), (80, 100)] {
        assert_eq!(upload.packet(), fragment(start * KIB..end * KIB));
        assert_eq!(upload.answered(&at(200, end * KIB)), Ok(Next::Forward));
    }
    assert_eq!(upload.packet(), Some(Packet::CloseSession));
    assert_eq!(upload.answered(&ok()), Ok(Next::Forward));
    assert_eq!(upload.packet(), None);
}

#[test]
fn the_next_fragment_begins_where_the_server_says() {
    for (status, received) in [(200, 30 * KIB), (416, 35 * KIB), (201, 7)] {
        let mut upload = sending();
        assert_eq!(upload.answered(&at(status, received)), Ok(Next::Forward));
        assert_eq!(
            upload.packet(),
            fragment(received..(received + 40 * KIB).min(100 * KIB))
        );
    }
    let mut upload = sending();
    upload.answered(&at(200, 40 * KIB)).unwrap();
    assert_eq!(upload.answered(&at(416, 3)), Ok(Next::Again));
    assert_eq!(upload.packet(), fragment(3..3 + 40 * KIB));
}

#[test]
fn an_earlier_runs_session_goes_on_where_the_server_says() {
    let resumed = || {
        let mut upload = Upload::resume(100 * KIB, 40 * KIB, "{S}".to_owned());
        assert_eq!(upload.packet(), Some(Packet::Ping));
        upload.answered(&ok()).unwrap();
        assert_eq!(upload.packet(), fragment(100 * KIB - 1..100 * KIB));
        upload
    };
    for received in [0, 7, 60 * KIB] {
        let mut upload = resumed();
        assert_eq!(upload.answered(&at(416, received)), Ok(Next::Forward));
        let end = (received + 40 * KIB).min(100 * KIB);
        assert_eq!(upload.packet(), fragment(received..end));
    }
    let mut whole = resumed();
    assert_eq!(whole.answered(&at(200, 100 * KIB)), Ok(Next::Forward));
    assert_eq!(whole.packet(), Some(Packet::CloseSession));
    let mut forgotten = resumed();
    let unknown = error(500, Some(SESSION_NOT_FOUND));
    assert_eq!(forgotten.answered(&unknown), Ok(Next::Again));
    assert_eq!(forgotten.packet(), Some(Packet::CreateSession));
}

#[test]
fn an_empty_file_is_one_empty_fragment() {
    let mut upload = Upload::new(0, 40 * KIB);
    upload.answered(&ok()).unwrap();
    upload.answered(&created()).unwrap();
    assert_eq!(upload.packet(), fragment(0..0));
    assert_eq!(upload.answered(&at(200, 0)), Ok(Next::Forward));
    assert_eq!(upload.packet(), Some(Packet::CloseSession));
}

#[test]
fn too_large_fragments_are_halved_down_to_five_kib() {
    let mut upload = sending();
    for bytes in [40, 20, 10, 5] {
        assert_eq!(upload.packet(), fragment(0..bytes * KIB));
        let next = upload.answered(&error(413, None));
        let expected = if bytes > 5 {
            Ok(Next::Again)
        } else {
            Err(Failure::FragmentTooLarge { bytes: 5 * KIB })
        };
        assert_eq!(next, expected);
    }
}

#[test]
fn fragments_that_break_again_are_halved() {
    let mut upload = sending();
    for bytes in [40, 40, 20, 10, 5, 5] {
        assert_eq!(upload.packet(), fragment(0..bytes * KIB));
        upload.broken();
        assert_eq!(upload.packet(), Some(Packet::Ping));
        upload.answered(&ok()).unwrap();
    }
}

#[test]
fn a_forgotten_session_starts_over_a_bounded_number_of_times() {
    let forgotten = error(500, Some(SESSION_NOT_FOUND));
    let mut upload = sending();
    for _ in 0..SETBACKS_MAX {
        assert_eq!(upload.answered(&forgotten), Ok(Next::Again));
        assert_eq!(upload.packet(), Some(Packet::CreateSession));
        upload.answered(&created()).unwrap();
    }
    assert_eq!(
        upload.answered(&forgotten),
        Err(Failure::Setbacks {
            times: SETBACKS_MAX + 1,
            last: Setback::SessionForgotten
        })
    );
}

#[test]
fn progress_forgives_setbacks_but_repeating_old_bytes_is_no_progress() {
    let forgotten = error(500, Some(SESSION_NOT_FOUND));
    let mut upload = sending();
    let mut give_up = None;
    for times in 1..100 {
        upload.answered(&at(200, 40 * KIB)).unwrap();
        if upload.answered(&forgotten).is_err() {
            give_up = Some(times);
            break;
        }
        upload.answered(&created()).unwrap();
    }
    assert_eq!(give_up, Some(SETBACKS_MAX + 1));
    let mut upload = sending();
    for received in 1..100 {
        upload.answered(&at(200, received)).unwrap();
        upload.answered(&forgotten).unwrap();
        upload.answered(&created()).unwrap();
    }
}

#[test]
fn an_ack_that_brings_nothing_ends_after_a_bounded_number() {
    for status in [200, 416] {
        let mut upload = sending();
        for _ in 0..SETBACKS_MAX {
            assert_eq!(upload.answered(&at(status, 0)), Ok(Next::Again));
        }
        assert!(matches!(
            upload.answered(&at(status, 0)),
            Err(Failure::Setbacks { .. })
        ));
    }
}

#[test]
fn statuses_are_fatal_or_transient_as_in_p6() {
    for status in [301, 305, 307, 400, 401, 403, 404, 405, 411, 501, 505] {
        assert!(
            matches!(
                sending().answered(&error(status, None)),
                Err(Failure::Refused(_))
            ),
            "{status}"
        );
    }
    for status in [100, 204, 306, 308, 408, 409, 500, 502, 503, 504, 507] {
        let mut upload = sending();
        assert_eq!(
            upload.answered(&error(status, None)),
            Ok(Next::Later),
            "{status}"
        );
        assert_eq!(upload.packet(), Some(Packet::Ping));
        upload.answered(&ok()).unwrap();
        assert_eq!(upload.packet(), fragment(0..40 * KIB));
    }
    for hresult in FATAL {
        let reply = error(500, Some(hresult));
        assert!(matches!(
            sending().answered(&reply),
            Err(Failure::Refused(_))
        ));
    }
    let disk_full = error(500, Some(0x8007_0070));
    assert_eq!(sending().answered(&disk_full), Ok(Next::Later));
}

#[test]
fn a_close_answered_not_found_starts_over_and_answered_5xx_is_sent_again() {
    let mut upload = sending();
    for end in [40, 80, 100] {
        upload.answered(&at(200, end * KIB)).unwrap();
    }
    assert_eq!(upload.answered(&error(503, None)), Ok(Next::Later));
    upload.answered(&ok()).unwrap();
    assert_eq!(upload.packet(), Some(Packet::CloseSession));
    assert_eq!(
        upload.answered(&error(500, Some(SESSION_NOT_FOUND))),
        Ok(Next::Again)
    );
    assert_eq!(upload.packet(), Some(Packet::CreateSession));
}

#[test]
fn replies_without_sense_are_failures() {
    assert!(matches!(
        sending().answered(&ok()),
        Err(Failure::Nonsense { .. })
    ));
    assert!(matches!(
        sending().answered(&error(416, None)),
        Err(Failure::Nonsense { .. })
    ));
    assert!(matches!(
        sending().answered(&at(200, 100 * KIB + 1)),
        Err(Failure::Nonsense { .. })
    ));
    let mut upload = Upload::new(1, 40 * KIB);
    upload.answered(&ok()).unwrap();
    assert!(matches!(
        upload.answered(&ok()),
        Err(Failure::Nonsense { .. })
    ));
}

#[test]
fn refusals_are_told_in_words() {
    let mut reply = error(403, Some(0x8007_0005));
    reply.is_bits = true;
    let words = "Create-Session was answered 403 (forbidden: the destination exists, or may not be written), \
         error 0x80070005 (access denied)";
    let told = |reply: &Reply| Refused::of("Create-Session", reply).to_string();
    assert_eq!(told(&reply), words);
    // Who says why need not be guessed at.
    reply.reason = Some("it is on another mount".to_owned());
    let known = "Create-Session was answered 403 (forbidden), error 0x80070005 (access denied): \
                 it is on another mount";
    assert_eq!(told(&reply), known);
    // As where a port that speaks TLS was asked without.
    reply.is_bits = false;
    assert_eq!(told(&reply), known);
    reply.reason = None;
    reply.server = Some("SimpleHTTP/0.6".to_owned());
    assert_eq!(
        Refused::of("Ping", &reply).to_string(),
        "Ping was answered 403 by something that does not speak BITS (Server: SimpleHTTP/0.6)"
    );
}

#[test]
fn what_a_proxy_before_a_server_wants_is_said() {
    let told = |status, location: Option<&str>| {
        let reply = Reply {
            status,
            server: Some("nginx/1.22.1".to_owned()),
            location: location.map(str::to_owned),
            ..Reply::default()
        };
        Refused::of("Ping", &reply).to_string()
    };
    let who = "by a proxy, or by something else that does not speak BITS (Server: nginx/1.22.1)";
    let asks = told(401, None);
    assert!(asks.starts_with(&format!("Ping was answered 401 {who}: it asks who sends")));
    assert!(asks.contains("--user"), "{asks}");
    assert!(told(407, None).contains("asks for a password"));
    assert!(told(502, None).contains("could not reach the server"));
    let redirected = told(302, Some("https://h/a"));
    assert!(
        redirected.ends_with("does not follow; it names https://h/a"),
        "{redirected}"
    );
    // Nothing that moves a cursor, and no place that another status does not mean.
    assert!(told(302, Some("https://h/\u{1b}[2J")).ends_with("does not follow"));
    assert!(!told(401, Some("https://h/a")).contains("https://h/a"));
}
