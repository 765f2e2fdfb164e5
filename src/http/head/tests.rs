//! Heads that are read, and heads that are refused: each for one cause.

use super::*;
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 16 * 1024,
    headers_max: 64,
    value_bytes_max: 4096,
};

const CREATE: &str = "BITS_POST /in/a.bin HTTP/1.1\r\nAccept: */*\r\n\
    BITS-Packet-Type: Create-Session\r\nHost: up.example\r\nContent-Length: 0\r\n\
    Connection: Keep-Alive\r\n\r\n";

fn whole(text: &str) -> Result<Head<'_>, BadHead> {
    match parse(text.as_bytes(), &LIMITS)? {
        Parsed::Complete(head) => Ok(head),
        Parsed::Incomplete => panic!("a whole head was given: {text:?}"),
    }
}

/// A head with the given fields and a Host.
fn with(fields: &str) -> String {
    format!("BITS_POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn refused(text: &str) -> BadHead {
    whole(text).expect_err(text)
}

#[test]
fn a_recorded_head_is_read() {
    let head = whole(CREATE).unwrap();
    assert_eq!(head.bytes_len, CREATE.len());
    assert_eq!((head.method, head.target), (Method::BitsPost, "/in/a.bin"));
    assert_eq!(
        (head.version, head.framing),
        (Version::Http11, Framing::Length(0))
    );
    assert!(head.keep_alive && !head.expects_continue);
    assert_eq!(
        head.only("bits-packet-type"),
        Ok(Some(b"Create-Session".as_slice()))
    );
    assert_eq!(head.only("absent"), Ok(None));
}

#[test]
fn a_head_may_arrive_in_any_number_of_pieces() {
    for len in 0..CREATE.len() {
        let parsed = parse(&CREATE.as_bytes()[..len], &LIMITS).unwrap();
        assert!(matches!(parsed, Parsed::Incomplete), "{len} bytes");
    }
}

#[test]
fn the_body_is_no_part_of_the_head() {
    let text = format!("{CREATE}BITS_POST \n\n");
    assert_eq!(whole(&text).unwrap().bytes_len, CREATE.len());
}

#[test]
fn what_cannot_become_a_request_is_refused_with_its_first_line() {
    for (bytes, expected) in [
        (&b"\x16"[..], BadHead::RequestLine),
        (b"\0", BadHead::RequestLine),
        (b"\r\n\r\n\0", BadHead::RequestLine),
        (b"SSH-2.0-OpenSSH_9.2\r\n", BadHead::RequestLine),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            BadHead::RequestLine,
        ),
        (b"GET / HTTP/2.0\r\n", BadHead::Version),
    ] {
        assert_eq!(parse(bytes, &LIMITS).unwrap_err(), expected, "{bytes:?}");
    }
    for bytes in [
        &b"B"[..],
        b"BITS_POST",
        b"BITS_POST /",
        b"GET / HTTP/1",
        b"GET / HTTP/2",
        b"\r",
        b"\r\n",
    ] {
        let parsed = parse(bytes, &LIMITS);
        assert!(matches!(parsed, Ok(Parsed::Incomplete)), "{bytes:?}");
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let text = format!("\r\n\r\n{CREATE}");
    assert_eq!(whole(&text).unwrap().bytes_len, text.len());
    assert!(matches!(parse(b"\r\n\r", &LIMITS), Ok(Parsed::Incomplete)));
}

#[test]
fn whoever_sends_nothing_but_empty_lines_is_told_at_once() {
    let most = "\r\n".repeat(EMPTY_LINES_MAX);
    assert!(whole(&format!("{most}{CREATE}")).is_ok());
    let more = format!("{most}\r\n");
    assert_eq!(
        parse(more.as_bytes(), &LIMITS).unwrap_err(),
        BadHead::EmptyLines
    );
    // However they come.
    let mut progress = Progress::default();
    let first = (1..=more.len())
        .find(|len| parse_on(&more.as_bytes()[..*len], &LIMITS, &mut progress).is_err());
    assert_eq!(first, Some(more.len()));
}

#[test]
fn the_verb_may_hide_in_a_post() {
    let text = "POST /a HTTP/1.1\r\nHost: h\r\nx-http-method-override: BITS_POST\r\n\r\n";
    assert_eq!(whole(text).unwrap().method, Method::BitsPost);
    assert_eq!(
        whole("POST /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().method,
        Method::Other
    );
    let lower = "bits_post /a HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(
        whole(lower).unwrap().method,
        Method::Other,
        "methods have a case"
    );
}

#[test]
fn versions_decide_on_persistence() {
    for (line, keep_alive) in [
        ("HTTP/1.1\r\nHost: h", true),
        ("HTTP/1.1\r\nHost: h\r\nConnection: close", false),
        ("HTTP/1.1\r\nHost: h\r\nConnection: x, Close", false),
        ("HTTP/1.0", false),
        ("HTTP/1.0\r\nConnection: Keep-Alive", true),
        ("HTTP/1.0\r\nConnection: close", false),
    ] {
        let text = format!("GET /a {line}\r\n\r\n");
        assert_eq!(whole(&text).unwrap().keep_alive, keep_alive, "{line}");
    }
}

#[test]
fn continue_is_a_matter_of_http_1_1() {
    assert!(
        whole(&with("Expect: 100-Continue\r\n"))
            .unwrap()
            .expects_continue
    );
    // A list (RFC 9110 10.1.1, 5.6.1.2), in which nobody knows the others.
    for (fields, expects) in [
        ("Expect: 100-continue, x\r\n", true),
        ("Expect: 100-continue,\r\n", true),
        ("Expect: ,100-continue\r\n", true),
        ("Expect: x\r\nExpect: y=1 ,\t100-continue\r\n", true),
        ("Expect: \r\n", false),
        ("Expect: x\r\n", false),
        ("Expect: 100-continued\r\n", false),
    ] {
        let text = with(fields);
        let head = whole(&text).unwrap();
        assert_eq!(head.expects_continue, expects, "{fields:?}");
    }
    let old = "GET /a HTTP/1.0\r\nExpect: 100-continue\r\n\r\n";
    assert!(!whole(old).unwrap().expects_continue);
}

#[test]
fn framing_has_one_reading() {
    for (fields, framing) in [
        ("", Framing::Absent),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        (
            "Content-Length: 18446744073709551615\r\n",
            Framing::Length(u64::MAX),
        ),
        (
            "content-length: 5\r\nContent-Length: 5\r\n",
            Framing::Length(5),
        ),
        ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
    ] {
        assert_eq!(whole(&with(fields)).unwrap().framing, framing, "{fields}");
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    for (fields, why) in [
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            BadHead::ContentLengthDiffers,
        ),
        ("Content-Length: 5, 5\r\n", BadHead::ContentLength),
        ("Content-Length: +5\r\n", BadHead::ContentLength),
        ("Content-Length: -1\r\n", BadHead::ContentLength),
        ("Content-Length: 0x5\r\n", BadHead::ContentLength),
        ("Content-Length:\r\n", BadHead::ContentLength),
        (
            "Content-Length: 18446744073709551616\r\n",
            BadHead::ContentLength,
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            BadHead::LengthAndCoding,
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            BadHead::CodingUnknown,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            BadHead::CodingUnknown,
        ),
        ("Transfer-Encoding: identity\r\n", BadHead::CodingUnknown),
        ("Host: i\r\n", BadHead::HostRepeated),
        ("A: b\r\n c\r\n", BadHead::Folded),
        ("A: b\r\n\tc\r\n", BadHead::Folded),
        ("A : b\r\n", BadHead::SpaceBeforeColon),
        ("A\t: b\r\n", BadHead::SpaceBeforeColon),
        ("A b\r\n", BadHead::FieldName),
        (": b\r\n", BadHead::FieldName),
        ("A: b\nC: d\r\n", BadHead::BareLineEnd),
        ("A: b\rC: d\r\n", BadHead::BareLineEnd),
        ("A: \0\r\n", BadHead::FieldValue { field: name("A") }),
        (
            "B: b\r\nA: \x7f\r\n",
            BadHead::FieldValue { field: name("A") },
        ),
        ("Host:\r\n", BadHead::HostRepeated),
    ] {
        assert_eq!(refused(&with(fields)), why, "{fields:?}");
    }
}

#[test]
fn request_lines_are_strict() {
    for (line, why) in [
        ("BITS_POST /a HTTP/2.0", BadHead::Version),
        ("BITS_POST /a HTTP/1.2", BadHead::Version),
        ("BITS_POST /a http/1.1", BadHead::RequestLine),
        ("BITS_POST /a", BadHead::RequestLine),
        ("BITS_POST", BadHead::RequestLine),
        (" BITS_POST /a HTTP/1.1", BadHead::RequestLine),
        ("BITS_POST /a b HTTP/1.1", BadHead::RequestLine),
    ] {
        assert_eq!(
            refused(&format!("{line}\r\nHost: h\r\n\r\n")),
            why,
            "{line:?}"
        );
    }
    assert_eq!(refused("GET /a HTTP/1.1\r\n\r\n"), BadHead::HostMissing);
    let old = "GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(old), BadHead::CodingInHttp10);
}

#[test]
fn sizes_are_bounded() {
    let value = |name: &str, len| with(&format!("{name}: {}\r\n", "v".repeat(len)));
    for field in ["BITS-Session-Id", "content-name", "BITS-X"] {
        assert!(whole(&value(field, 4096)).is_ok());
        let why = BadHead::ValueTooLong {
            field: name(field),
            bytes_max: 4096,
        };
        assert_eq!(refused(&value(field, 4097)), why);
    }
    // A ticket of Kerberos may be as long as the head allows.
    for field in ["Authorization", "Cookie", "BITS", "Contents"] {
        assert!(whole(&value(field, 15_000)).is_ok(), "{field}");
    }
    let fields = |count: usize| with(&"A: b\r\n".repeat(count - 1));
    assert!(whole(&fields(64)).is_ok());
    let too_many = BadHead::TooManyFields { fields_max: 64 };
    assert_eq!(refused(&fields(65)), too_many);
    let endless = "A: b\r\n".repeat(4000);
    let text = format!("GET /a HTTP/1.1\r\n{endless}");
    let refused = parse(text.as_bytes(), &LIMITS).err();
    assert_eq!(refused, Some(TOO_LARGE));
}

const TOO_LARGE: BadHead = BadHead::TooLarge {
    bytes_max: 16 * 1024,
};

fn name(name: &str) -> FieldName {
    FieldName::new(name.as_bytes())
}

#[test]
fn a_refusal_names_the_field_and_the_setting() {
    let long = with(&format!("BITS-Session-Id: {}\r\n", "v".repeat(4097)));
    let why = refused(&long);
    assert_eq!(
        why.to_string(),
        "the value of BITS-Session-Id is longer than 4096 bytes (limits.value_bytes_max)"
    );
    assert_eq!(why.setting(), Some("limits.value_bytes_max"));
    assert_eq!(TOO_LARGE.setting(), Some("limits.head_bytes_max"));
    assert_eq!(BadHead::Folded.setting(), None);
    let strange = FieldName::new("X-\u{e4}\x1b[31m".as_bytes()).to_string();
    assert_eq!(strange, "X-???[31m");
    assert_eq!(FieldName::new(&[b'n'; 500]).to_string().len(), 40);
}

#[test]
fn a_client_calls_the_server_by_a_host_or_not_at_all() {
    let host = |line: &str, fields: &str| {
        let text = format!("GET {line}\r\n{fields}\r\n");
        whole(&text).map(|head| head.host.map(str::to_owned))
    };
    let named = |name: &str| Ok(Some(name.to_owned()));
    assert_eq!(host("/a HTTP/1.1", "Host: h:81\r\n"), named("h:81"));
    assert_eq!(host("/a HTTP/1.1", "Host:\r\n"), Ok(None));
    assert_eq!(host("/a HTTP/1.0", ""), Ok(None));
    // RFC 9112 3.2.2.
    assert_eq!(host("http://i:82/a HTTP/1.1", "Host: h\r\n"), named("i:82"));
    assert_eq!(host("http://i/a HTTP/1.0", ""), named("i"));
    assert_eq!(
        host("http://i/a HTTP/1.1", ""),
        Err(BadHead::HostMissing),
        "3.2 asks for one there too"
    );
    assert_eq!(host("http://u@i/a HTTP/1.1", "Host: h\r\n"), Ok(None));
    use crate::http::host::BadHost::{Address, Missing, Name, Port, User};
    for (bad, why) in [
        ("h/x", Name),
        ("u@h", User),
        ("h x", Name),
        ("h\"", Name),
        ("h:p", Port),
        ("h:65536", Port),
        (":80", Missing),
        ("[::g]", Address),
        ("h,i", Name),
    ] {
        let refused = host("/a HTTP/1.1", &format!("Host: {bad}\r\n"));
        assert_eq!(refused, Err(BadHead::HostMalformed(why)), "{bad}");
        let beside = host("http://i/a HTTP/1.1", &format!("Host: {bad}\r\n"));
        assert_eq!(beside, Err(BadHead::HostMalformed(why)), "{bad}");
    }
    assert_eq!(
        BadHead::HostMalformed(Port).to_string(),
        "the Host of the request has a port that is no number up to 65535"
    );
}

#[test]
fn statuses_tell_size_from_sense() {
    assert_eq!(TOO_LARGE.status(), 431);
    assert_eq!(BadHead::TooManyFields { fields_max: 9 }.status(), 431);
    assert_eq!(BadHead::Version.status(), 505);
    assert_eq!(BadHead::CodingUnknown.status(), 501);
    let field = name("BITS-Session-Id");
    let too_long = BadHead::ValueTooLong {
        field,
        bytes_max: 9,
    };
    assert_eq!(too_long.status(), 400);
    assert_eq!(BadHead::HostMissing.status(), 400);
}

/// Pieces from which heads, good and bad, are put together.
fn lines() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "BITS_POST /a HTTP/1.1\r\n",
        "GET /b HTTP/1.0\r\n",
        "Host: h\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "A: b\n",
        " folded\r\n",
        "A : b\r\n",
        "\r\n",
        "\n",
        "\r",
        "abc",
        "\0",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
    ]);
    proptest::collection::vec(line, 0..9).prop_map(|lines| lines.concat())
}

fn verdict(bytes: &[u8]) -> Option<Result<String, BadHead>> {
    match parse(bytes, &LIMITS) {
        Ok(Parsed::Incomplete) => None,
        Ok(Parsed::Complete(head)) => Some(Ok(format!("{head:?}"))),
        Err(why) => Some(Err(why)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Goal: how the bytes arrive never matters. Method: parse every prefix; the first that has
    /// a verdict must have the verdict that the whole has.
    #[test]
    fn split_at_any_byte_gives_the_same_answer(text in lines()) {
        let bytes = text.as_bytes();
        let first = (0..=bytes.len()).find_map(|len| verdict(&bytes[..len]));
        match (first, verdict(bytes)) {
            (Some(Err(_)), Some(Err(_))) => {}
            (first, last) => prop_assert_eq!(first, last),
        }
    }

    /// Goal: what was looked at before need not be looked at again. Method: the same pieces
    /// with and without memory.
    #[test]
    fn a_head_that_goes_on_has_the_verdict_of_one_read_anew(
        text in lines(), cuts in proptest::collection::vec(0usize..120, 0..8)
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut progress = Progress::default();
        for cut in cuts {
            let on = match parse_on(&bytes[..cut], &LIMITS, &mut progress) {
                Ok(Parsed::Incomplete) => None,
                Ok(Parsed::Complete(head)) => Some(Ok(format!("{head:?}"))),
                Err(why) => Some(Err(why)),
            };
            prop_assert_eq!(&on, &verdict(&bytes[..cut]), "{} bytes", cut);
            if on.is_some() {
                break;
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = verdict(&bytes);
    }
}
