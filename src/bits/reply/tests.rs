//! Every answer, byte for byte.

use super::*;
use crate::http::authorization::Scheme;
use crate::http::path;

const ID: &str = "{3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";

fn id() -> SessionId {
    SessionId::parse(ID.as_bytes()).unwrap()
}

fn acked(ack: &Ack, persistence: Persistence) -> String {
    let mut out = Vec::new();
    write_ack(ack, persistence, &mut out);
    String::from_utf8(out).unwrap()
}

fn refused(refusal: &Refusal, session: Option<SessionId>, persistence: Persistence) -> String {
    let mut out = Vec::new();
    write_refusal(refusal, session, persistence, &mut out);
    String::from_utf8(out).unwrap()
}

fn lines(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

fn bad_target() -> path::BadTarget {
    path::parse_target("").unwrap_err()
}

/// Whole answers, byte for byte.
#[test]
fn every_ack_has_its_fields() {
    let session = id();
    let begin = [
        "HTTP/1.1 200 OK",
        "Pragma: no-cache",
        "BITS-Packet-Type: Ack",
    ];
    let id = "BITS-Session-Id: {3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}";
    for ack in [
        Ack::Ping,
        Ack::Created {
            session,
            node: None,
        },
        Ack::Fragment {
            session,
            received: 1_048_576,
            reply_url: None,
            sha256: None,
        },
        Ack::Fragment {
            session,
            received: 0,
            reply_url: None,
            sha256: None,
        },
        Ack::Fragment {
            session,
            received: u64::MAX,
            reply_url: None,
            sha256: None,
        },
        Ack::Closed {
            session,
            sha256: None,
        },
        Ack::Cancelled { session },
    ] {
        // Exhaustive: a new Ack does not compile without its row.
        let (received, fields): (String, Vec<&str>) = match ack {
            Ack::Ping => (String::new(), vec!["Content-Length: 0"]),
            Ack::Created { .. } => (
                String::new(),
                vec![
                    "BITS-Protocol: {7df0354d-249b-430f-820d-3d2a9bef4931}",
                    id,
                    "Content-Length: 0",
                    "Accept-Encoding: identity",
                ],
            ),
            Ack::Fragment { received, .. } => (
                format!("BITS-Received-Content-Range: {received}"),
                vec!["Content-Length: 0", "received", id],
            ),
            Ack::Closed { .. } | Ack::Cancelled { .. } => {
                (String::new(), vec!["Content-Length: 0", id])
            }
        };
        let fields = fields.into_iter().map(|field| {
            if field == "received" {
                &received
            } else {
                field
            }
        });
        let all: Vec<&str> = begin.into_iter().chain(fields).collect();
        assert_eq!(acked(&ack, Persistence::KeepAlive), lines(&all) + "\r\n");
        assert_eq!(
            acked(&ack, Persistence::Close),
            lines(&all) + "Connection: close\r\n\r\n"
        );
    }
}

/// The rows of the recorded upload-reply conversation.
#[test]
fn a_node_and_a_reply_are_told() {
    let created = Ack::Created {
        session: id(),
        node: Some(Node {
            host: "FRANKCAO8".into(),
            fallback_s: 110,
        }),
    };
    let text = acked(&created, Persistence::KeepAlive);
    let named =
        "BITS-Host-Id: FRANKCAO8\r\nBITS-Host-Id-Fallback-Timeout: 110\r\nContent-Length: 0\r\n";
    assert!(text.contains(named), "{text}");
    let last = Ack::Fragment {
        session: id(),
        received: 4_892,
        reply_url: Some("http://h/r".into()),
        sha256: None,
    };
    let text = acked(&last, Persistence::KeepAlive);
    let told = "BITS-Received-Content-Range: 4892\r\nBITS-Reply-URL: http://h/r\r\n";
    assert!(text.contains(told), "{text}");
}

/// A file's digest is told with its last byte, and again when it is closed.
#[test]
fn a_digest_is_told_behind_all_else() {
    let (session, sha256) = (id(), Some([0xff; 32]));
    let told = format!("Repr-Digest: sha-256=:{}8=:\r\n\r\n", "/".repeat(42));
    let last = Ack::Fragment {
        session,
        received: 4_892,
        reply_url: None,
        sha256,
    };
    for ack in [last, Ack::Closed { session, sha256 }] {
        let text = acked(&ack, Persistence::KeepAlive);
        assert!(text.ends_with(&told), "{text}");
    }
}

/// One row per cause: status line, HRESULT, words. The rows are the match as well as the list,
/// so a new cause does not compile without one.
macro_rules! rows {
    ($($pattern:pat, $refusal:expr => $status:literal, $hresult:expr, $words:expr;)*) => {
        fn expected(refusal: &Refusal) -> (&'static str, Option<&'static str>, String) {
            match refusal { $($pattern => ($status, $hresult, $words.to_string()),)* }
        }
        fn every_refusal() -> Vec<Refusal> {
            $(assert!(matches!($refusal, $pattern));)*
            vec![$($refusal),*]
        }
    };
}

use Refusal as R;

fn asked(why: NotShown) -> Refusal {
    R::Unauthorized(Box::new(Challenges {
        schemes: vec![Scheme::Basic, Scheme::Bearer],
        realm: "dumps".into(),
        why,
        token: Vec::new(),
    }))
}

/// How whoever is asked may answer.
const ASKED: &str = "WWW-Authenticate: Basic realm=\"dumps\", charset=\"UTF-8\"\r\n\
    WWW-Authenticate: Bearer realm=\"dumps\"\r\n";

#[test]
fn whoever_is_asked_hears_how_to_answer() {
    let mut out = Vec::new();
    let refusal = asked(NotShown::Wrong(Scheme::Basic));
    write_refusal(&refusal, None, Persistence::KeepAlive, &mut out);
    let text = String::from_utf8(out).unwrap();
    let told = format!("{ASKED}Bitsd-Reason: no such user, or another password\r\n");
    assert!(text.contains(&told), "{text}");
    let plain = |refusal: &Refusal| {
        let mut out = Vec::new();
        write_plain_refusal(refusal, false, Persistence::KeepAlive, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert!(plain(&refusal).starts_with(&format!("HTTP/1.1 401 Unauthorized\r\n{ASKED}")));
    assert!(plain(&R::SessionNotFound).starts_with("HTTP/1.1 404 Not Found\r\n"));
}
rows! {
    R::PacketTypeMissing, R::PacketTypeMissing
        => "400 Bad Request", Some("0x80070057"), "no BITS-Packet-Type";
    R::PacketTypeUnknown, R::PacketTypeUnknown
        => "400 Bad Request", Some("0x80070057"), "unknown BITS-Packet-Type";
    R::FieldRepeated(_), R::FieldRepeated("BITS-Session-Id")
        => "400 Bad Request", Some("0x80070057"), "BITS-Session-Id was sent more than once";
    R::ProtocolsMissing, R::ProtocolsMissing
        => "400 Bad Request", Some("0x80070057"), "no BITS-Supported-Protocols";
    R::ProtocolUnsupported, R::ProtocolUnsupported
        => "400 Bad Request", Some("0x80070057"), "none of the offered protocols is the BITS 1.5 upload protocol";
    R::SessionIdMissing, R::SessionIdMissing
        => "400 Bad Request", Some("0x80070057"), "no BITS-Session-Id";
    R::RangeMissing, R::RangeMissing
        => "400 Bad Request", Some("0x80070057"), "no Content-Range";
    R::RangeMalformed, R::RangeMalformed
        => "400 Bad Request", Some("0x80070057"), "malformed Content-Range";
    R::LengthMismatch, R::LengthMismatch
        => "400 Bad Request", Some("0x80070057"), "the length of the body differs from the Content-Range";
    R::LengthMissing, R::LengthMissing
        => "400 Bad Request", Some("0x80070057"), "a fragment without Content-Length";
    R::LengthRequired, R::LengthRequired
        => "411 Length Required", Some("0x80070057"), "no Content-Length";
    R::ChunkedRefused, R::ChunkedRefused
        => "400 Bad Request", Some("0x80070057"), "chunked fragments are refused here";
    R::ChunkedMalformed, R::ChunkedMalformed
        => "400 Bad Request", Some("0x80070057"), "malformed chunked body";
    R::UnexpectedBody, R::UnexpectedBody
        => "400 Bad Request", Some("0x80070057"), "a body on a packet that has none";
    R::EncodingUnsupported, R::EncodingUnsupported
        => "400 Bad Request", Some("0x80070057"), "a Content-Encoding other than identity";
    R::TargetInvalid(_), R::TargetInvalid(bad_target())
        => "400 Bad Request", Some("0x80070057"), format!("bad request target: {}", bad_target());
    R::TargetIsDirectory, R::TargetIsDirectory
        => "400 Bad Request", Some("0x80070057"), "the destination is a folder";
    R::TotalChanged { .. }, R::TotalChanged { was: 5, is: 6 }
        => "400 Bad Request", Some("0x80070057"), "the size of the file changed from 5 to 6 bytes";
    R::NamesItself, R::NamesItself
        => "400 Bad Request", Some("0x80070057"), "only a proxy may say who sends the request";
    R::Unauthorized(_), asked(NotShown::Nothing)
        => "401 Unauthorized", None, "the request does not say who sends it";
    R::NotAllowed, R::NotAllowed
        => "403 Forbidden", Some("0x80070005"), "this user may not upload here";
    R::InTheClear, R::InTheClear
        => "403 Forbidden", Some("0x80070005"), "passwords and tokens are not taken without TLS";
    R::FromElsewhere, R::FromElsewhere
        => "403 Forbidden", Some("0x80070005"), "uploads are not taken from this address";
    R::NotNamed, R::NotNamed
        => "403 Forbidden", Some("0x80070005"), "no proxy says who sends the request";
    R::NameUnusable, R::NameUnusable
        => "403 Forbidden", Some("0x80070005"), "no proxy says who sends the request by a name that can be used";
    R::CertificateMissing, R::CertificateMissing
        => "403 Forbidden", Some("0x80070005"), "a client certificate is asked for, which this port has none of";
    R::CertificateNameless, R::CertificateNameless
        => "403 Forbidden", Some("0x80070005"), "the client certificate names no user";
    R::NoFolder, R::NoFolder
        => "403 Forbidden", Some("0x80070005"), "no folder can be called as this user is";
    R::TargetExists, R::TargetExists
        => "403 Forbidden", Some("0x80070005"), "the destination exists and may not be overwritten";
    R::AccessDenied, R::AccessDenied
        => "403 Forbidden", Some("0x80070005"), "the server may not write to the destination";
    R::Obstructed(_), R::Obstructed(Obstacle::OtherMount)
        => "403 Forbidden", Some("0x80070005"), Obstacle::OtherMount;
    R::ParentMissing, R::ParentMissing
        => "404 Not Found", None, "the folder of the destination does not exist";
    R::FragmentTooLarge { .. }, R::FragmentTooLarge { limit: 67_108_864 }
        => "413 Content Too Large", None, "the fragment is larger than 67108864 bytes";
    R::Gap { .. }, R::Gap { received: 1_000_000 }
        => "416 Range Not Satisfiable", None, "the fragment begins after byte 1000000, the next one expected";
    R::SessionNotFound, R::SessionNotFound
        => "500 Internal Server Error", Some("0x8020001F"), "no such session";
    R::UploadTooLarge { .. }, R::UploadTooLarge { limit: 9 }
        => "500 Internal Server Error", Some("0x80200020"), "the file is larger than 9 bytes";
    R::FileTooLarge, R::FileTooLarge
        => "500 Internal Server Error", Some("0x80200020"), "no file of this size can be stored here";
    R::DiskFull, R::DiskFull
        => "500 Internal Server Error", Some("0x80070070"), "the disk is full";
    R::NoRoom, R::NoRoom
        => "500 Internal Server Error", Some("0x80070070"), "the file is larger than what is free now";
    R::QuotaExceeded, R::QuotaExceeded
        => "500 Internal Server Error", Some("0x80070070"), "the disk quota is used up";
    R::SpaceLow, R::SpaceLow
        => "500 Internal Server Error", Some("0x80070070"), "what is free on the disk is kept for uploads that run";
    R::StagingFull, R::StagingFull
        => "500 Internal Server Error", Some("0x80070070"), "too much waits for the object store";
    R::ReadOnly, R::ReadOnly
        => "500 Internal Server Error", Some("0x80070013"), "the file system is read-only";
    R::DiskFailed, R::DiskFailed
        => "500 Internal Server Error", Some("0x8007045D"), "the disk failed";
    R::UploadsDisabled, R::UploadsDisabled
        => "501 Not Implemented", Some("0x80070005"), "uploads are not enabled here";
    R::Application { .. }, R::Application { status: 503, received: Some(5) }
        => "503 Service Unavailable", Some("0x801901F7"), "the server application answered 503";
    R::ApplicationFailed { .. }, R::ApplicationFailed { received: Some(5) }
        => "502 Bad Gateway", None, "the server application cannot be reached, or gave no answer that makes sense";
    R::ApplicationTimedOut { .. }, R::ApplicationTimedOut { received: 5 }
        => "408 Request Timeout", None, "the server application did not answer in time";
    R::ReplyUrlTooLong { .. }, R::ReplyUrlTooLong { received: 5 }
        => "400 Bad Request", Some("0x80070057"), "the reply URL of the server application is over 2,200 characters";
    R::AsBefore { .. }, R::AsBefore { last: Box::new(R::ApplicationTimedOut { received: 5 }), retry_after_s: 7 }
        => "408 Request Timeout", None,
            "the server application did not answer in time; it is asked again in 7 s at the earliest";
    R::TooManyFailures { .. }, R::TooManyFailures { retry_after_s: 7 }
        => "503 Service Unavailable", None, "too many wrong passwords: wait, then try again";
    R::EventsOwed, R::EventsOwed
        => "503 Service Unavailable", None, "others have not taken in yet what has arrived before";
    R::LedgerFails, R::LedgerFails
        => "503 Service Unavailable", None, "what has arrived cannot be entered into the ledger now";
    R::TicketsUnusable, R::TicketsUnusable
        => "503 Service Unavailable", None, "Kerberos tickets cannot be looked at now";
    R::TooManyOfUser, R::TooManyOfUser
        => "503 Service Unavailable", None, "the user has too many uploads under way";
    R::TooManySessions, R::TooManySessions
        => "503 Service Unavailable", None, "the client has too many uploads under way";
    R::Busy(Scarce::File), R::Busy(Scarce::File)
        => "503 Service Unavailable", None, "another program has the file";
    R::Busy(Scarce::FileSystem), R::Busy(Scarce::FileSystem)
        => "503 Service Unavailable", None, "the file system was interrupted";
    R::Busy(_), R::Busy(Scarce::Files)
        => "503 Service Unavailable", None, "too much is open or waiting";
    R::StorePending, R::StorePending
        => "503 Service Unavailable", None, "the object store has not taken the file yet";
    R::StoreFailed, R::StoreFailed
        => "503 Service Unavailable", None, "the object store does not take the file";
    R::DiskUnusable, R::DiskUnusable
        => "503 Service Unavailable", None, "the disk cannot be used now";
    R::Unavailable, R::Unavailable
        => "503 Service Unavailable", None, "the server is starting or stopping";
    R::Displaced, R::Displaced
        => "503 Service Unavailable", None, "a folder of the server is not the one that it was started with; its log says which";
    R::DiskAway, R::DiskAway
        => "503 Service Unavailable", None, "the disk of the upload was not there when the server started";
    R::LocationMoved, R::LocationMoved
        => "503 Service Unavailable", None, "the location has another root than the upload began with";
}

#[test]
fn every_refusal_has_its_status_hresult_fields_and_words() {
    for refusal in every_refusal() {
        let (status, hresult, words) = expected(&refusal);
        let is_of_application =
            words.starts_with("the server application") || words.starts_with("the reply URL");
        let received = match refusal {
            Refusal::Gap { received } => Some(received),
            _ => is_of_application.then_some(5),
        };
        let received = received.map_or(String::new(), |received| {
            format!("BITS-Received-Content-Range: {received}\r\n")
        });
        let context = if is_of_application { "0x7" } else { "0x5" };
        let context = format!("BITS-Error-Context: {context}\r\n");
        let error = match hresult {
            Some(code) => format!("BITS-Error-Code: {code}\r\nBITS-Error: {code}\r\n{context}"),
            None if is_of_application => context,
            None => String::new(),
        };
        let begin = format!("HTTP/1.1 {status}\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\n");
        let again = match refusal {
            Refusal::AsBefore { .. } | Refusal::TooManyFailures { .. } => "Retry-After: 7\r\n",
            Refusal::Unauthorized(_) => ASKED,
            _ => "",
        };
        let named = format!("BITS-Session-Id: {ID}\r\n");
        for (session, named) in [(None, ""), (Some(id()), &*named)] {
            let reason = format!("Bitsd-Reason: {words}\r\n");
            let fields =
                format!("{begin}{again}{received}{named}{error}{reason}Content-Length: 0\r\n");
            assert_eq!(
                refused(&refusal, session, Persistence::KeepAlive),
                format!("{fields}\r\n")
            );
            let closing = format!("{fields}Connection: close\r\n\r\n");
            assert_eq!(refused(&refusal, session, Persistence::Close), closing);
        }
        assert_eq!(refusal.status().to_string(), status[..3]);
        assert_eq!(
            refusal
                .hresult()
                .map(|code| format!("0x{code:08X}"))
                .as_deref(),
            hresult
        );
        assert_eq!(refusal.to_string(), words);
    }
}

#[test]
fn no_answer_makes_a_client_retry_for_ever() {
    for refusal in every_refusal() {
        assert_ne!(refusal.status(), 409, "{refusal}");
    }
    assert_ne!(Refusal::UploadTooLarge { limit: 1 }.status(), 413);
}

#[test]
fn bytes_that_are_no_request_are_answered_in_the_language_they_seem_to_be_in() {
    let why = BadHead::HostMissing;
    let answer = |request: &str| {
        let mut out = Vec::new();
        write_bad_head(why, request.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    let ack = "HTTP/1.1 400 Bad Request\r\nPragma: no-cache\r\nBITS-Packet-Type: Ack\r\n\
        BITS-Error-Code: 0x80070057\r\nBITS-Error: 0x80070057\r\nBITS-Error-Context: 0x5\r\n\
        Bitsd-Reason: an HTTP/1.1 request has no Host\r\nContent-Length: 0\r\n\
        Connection: close\r\n\r\n";
    for request in ["BITS_POST /a", "\r\nBITS_POST /a", "BITS", "", "POST /a"] {
        assert_eq!(answer(request), ack, "{request}");
    }
    let text = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 32\r\nConnection: close\r\n\r\n";
    let words = "an HTTP/1.1 request has no Host\n";
    for request in ["GET /a", "PUT", "\x16\x03\x01", "BITS_POST2 /a"] {
        assert_eq!(answer(request), format!("{text}{words}"), "{request}");
    }
    assert_eq!(answer("HEAD /a"), text);
}

#[test]
fn answers_are_appended() {
    let mut out = b"before".to_vec();
    write_ack(&Ack::Ping, Persistence::KeepAlive, &mut out);
    write_refusal(
        &Refusal::Busy(Scarce::Connections),
        None,
        Persistence::Close,
        &mut out,
    );
    let text = String::from_utf8(out).unwrap();
    let expected = acked(&Ack::Ping, Persistence::KeepAlive)
        + &refused(
            &Refusal::Busy(Scarce::Connections),
            None,
            Persistence::Close,
        );
    assert_eq!(text, format!("before{expected}"));
}
