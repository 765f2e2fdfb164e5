//! Packets that are understood, and those that are refused.

use proptest::prelude::*;

use super::*;
use crate::http::head::{Method, Version};

const ID: &str = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}";

fn head<'b>(framing: Framing, fields: &[(&'b str, &'b str)]) -> Head<'b> {
    Head {
        bytes_len: 0,
        method: Method::BitsPost,
        target: "/in/report.bin?job=7",
        version: Version::Http11,
        framing,
        keep_alive: true,
        expects_continue: false,
        host: Some("up.example"),
        fields: fields
            .iter()
            .map(|&(name, value)| (name, value.as_bytes()))
            .collect(),
    }
}

fn ping() -> Packet {
    Packet::Ping { target: target() }
}

fn target() -> Target {
    let target = path::resolve_target("/in/report.bin?job=7").unwrap();
    target.called(Some("up.example"))
}

fn request() -> SessionRequest {
    SessionRequest {
        target: target(),
        session: SessionId::parse(ID.as_bytes()),
    }
}

/// Parses a packet of this type with these further fields.
fn packet(kind: &str, framing: Framing, fields: &[(&str, &str)]) -> Result<Packet, Refusal> {
    let mut all = vec![("BITS-Packet-Type", kind)];
    all.extend(fields);
    parse(&head(framing, &all), false)
}

fn create(protocols: &str) -> Result<Packet, Refusal> {
    packet(
        "Create-Session",
        Framing::Length(0),
        &[("BITS-Supported-Protocols", protocols)],
    )
}

fn fragment_fields(range: &str) -> [(&str, &str); 3] {
    [
        ("BITS-Packet-Type", "Fragment"),
        ("BITS-Session-Id", ID),
        ("Content-Range", range),
    ]
}

fn fragment_of(framing: Framing, range: &str) -> Result<FragmentContent, Refusal> {
    match parse(&head(framing, &fragment_fields(range)), false)? {
        Packet::Fragment(fragment) => Ok(fragment.content),
        other => panic!("not a fragment: {other:?}"),
    }
}

fn bytes(start: u64, end: u64, total: u64) -> FragmentContent {
    FragmentContent::Bytes(ContentRange::new(start, end, total).unwrap())
}

/// All fields that any packet needs, so that only the length can be wrong.
fn complete(kind: &'static str) -> [(&'static str, &'static str); 4] {
    let range = ("Content-Range", "bytes 0-4/9");
    [
        ("BITS-Packet-Type", kind),
        ("BITS-Session-Id", ID),
        ("BITS-Supported-Protocols", PROTOCOL),
        range,
    ]
}

// Packets of the recorded clients, in their order and case of fields.

#[test]
fn packets_of_windows_are_read() {
    let rest = [
        ("User-Agent", "Microsoft BITS/6.7"),
        ("Host", "frankcao8"),
        ("Content-Name", "rfc2119.txt"),
    ];
    let windows = |framing, fields: &[(&'static str, &'static str)]| {
        let all: Vec<_> = [("Accept", "*/*")]
            .into_iter()
            .chain(fields.iter().copied())
            .chain(rest)
            .collect();
        parse(&head(framing, &all), true)
    };
    assert_eq!(
        windows(Framing::Length(0), &[("BITS-Packet-Type", "Ping")]),
        Ok(ping())
    );
    assert_eq!(
        windows(
            Framing::Length(0),
            &[
                ("BITS-Packet-Type", "Create-Session"),
                ("BITS-Supported-Protocols", PROTOCOL)
            ]
        ),
        Ok(Packet::CreateSession { target: target() }),
    );
    assert_eq!(
        windows(Framing::Length(4892), &fragment_fields("bytes 0-4891/4892")),
        Ok(Packet::Fragment(Fragment {
            request: request(),
            content: bytes(0, 4892, 4892),
            body: FragmentBody::Length(4892),
            expects_continue: false,
        })),
    );
    assert_eq!(
        windows(
            Framing::Length(0),
            &[
                ("BITS-Packet-Type", "Close-Session"),
                ("BITS-Session-Id", ID)
            ]
        ),
        Ok(Packet::CloseSession(request())),
    );
    assert_eq!(
        windows(
            Framing::Length(0),
            &[
                ("BITS-Packet-Type", "Cancel-Session"),
                ("BITS-Session-Id", ID)
            ]
        ),
        Ok(Packet::CancelSession(request())),
    );
}

/// XenServer's bits.py sends no Content-Length here, and mixes case in the protocol.
#[test]
fn a_create_session_without_a_length_is_read() {
    let fields = [
        ("Accept-Encoding", "identity"),
        (
            "BITS-Supported-Protocols",
            "{7df0354d-249b-430f-820D-3D2A9BEF4931}",
        ),
        ("BITS-Packet-Type", "Create-Session"),
    ];
    let created = parse(&head(Framing::Absent, &fields), false);
    assert_eq!(created, Ok(Packet::CreateSession { target: target() }));
}

/// HAProxy writes all names in lower case.
#[test]
fn names_of_fields_are_read_in_any_case() {
    let fields = [
        ("bits-packet-type", "FRAGMENT"),
        ("bits-session-id", ID),
        ("content-range", "bytes 0-4/9"),
    ];
    let Ok(Packet::Fragment(fragment)) = parse(&head(Framing::Length(5), &fields), false) else {
        panic!()
    };
    assert_eq!(fragment.content, bytes(0, 5, 9));
}

/// python-onedrive sends its fragments so.
#[test]
fn a_chunked_fragment_is_read_unless_strict() {
    let head = head(
        Framing::Chunked,
        &fragment_fields("bytes 0-1999999/5000000"),
    );
    let Ok(Packet::Fragment(fragment)) = parse(&head, false) else {
        panic!()
    };
    assert_eq!(fragment.body, FragmentBody::Chunked);
    assert_eq!(fragment.content, bytes(0, 2_000_000, 5_000_000));
    assert_eq!(parse(&head, true), Err(Refusal::ChunkedRefused));
}

// The packet type.

#[test]
fn packet_types_are_read_in_any_case() {
    for kind in ["Ping", "ping", "PING", "pinG"] {
        assert_eq!(packet(kind, Framing::Length(0), &[]), Ok(ping()));
    }
    for (kind, _) in KINDS {
        for text in [kind.to_owned(), kind.to_uppercase(), kind.to_lowercase()] {
            let fields = complete(kind)
                .map(|(name, value)| (name, if value == kind { &*text } else { value }));
            let framing = if kind == "Fragment" {
                Framing::Length(5)
            } else {
                Framing::Length(0)
            };
            assert!(parse(&head(framing, &fields), false).is_ok(), "{text}");
        }
    }
}

#[test]
fn a_packet_has_one_type_that_exists() {
    assert_eq!(
        parse(&head(Framing::Length(0), &[]), false),
        Err(Refusal::PacketTypeMissing)
    );
    assert_eq!(
        parse(
            &head(Framing::Length(0), &[("BITS-Package-Type", "Ping")]),
            false
        ),
        Err(Refusal::PacketTypeMissing)
    );
    for kind in [
        "",
        "Ack",
        "Pin",
        "Pings",
        "Create Session",
        "Ping, Ping",
        "\u{fb01}",
    ] {
        assert_eq!(
            packet(kind, Framing::Length(0), &[]),
            Err(Refusal::PacketTypeUnknown),
            "{kind:?}"
        );
    }
    assert_eq!(
        packet("Ping", Framing::Length(0), &[("bits-packet-type", "Ping")]),
        Err(Refusal::FieldRepeated("BITS-Packet-Type")),
    );
}

// The order of judgement.

#[test]
fn the_type_is_judged_before_the_target_the_target_before_the_length_the_length_before_the_fields()
{
    let judge = |kind, target, framing| {
        let mut head = head(framing, &[("BITS-Packet-Type", kind)]);
        head.target = target;
        parse(&head, false)
    };
    assert_eq!(
        judge("Pong", "", Framing::Length(5)),
        Err(Refusal::PacketTypeUnknown)
    );
    for (kind, _) in KINDS {
        assert!(
            matches!(
                judge(kind, "", Framing::Chunked),
                Err(Refusal::TargetInvalid(_))
            ),
            "{kind}"
        );
    }
    assert_eq!(
        judge("Create-Session", "/a", Framing::Length(5)),
        Err(Refusal::UnexpectedBody)
    );
    assert_eq!(
        judge("Close-Session", "/a", Framing::Chunked),
        Err(Refusal::UnexpectedBody)
    );
    assert_eq!(
        judge("Fragment", "/a", Framing::Absent),
        Err(Refusal::LengthMissing)
    );
    assert_eq!(
        judge("Create-Session", "/a", Framing::Length(0)),
        Err(Refusal::ProtocolsMissing)
    );
    assert_eq!(
        judge("Close-Session", "/a", Framing::Length(0)),
        Err(Refusal::SessionIdMissing)
    );
    assert_eq!(
        judge("Cancel-Session", "/a", Framing::Absent),
        Err(Refusal::SessionIdMissing)
    );
    assert_eq!(
        judge("Fragment", "/a", Framing::Length(5)),
        Err(Refusal::SessionIdMissing)
    );
}

/// Every type with every framing, tolerant and strict.
#[test]
fn only_fragments_have_a_body() {
    for (kind, _) in KINDS {
        for framing in [
            Framing::Absent,
            Framing::Length(0),
            Framing::Length(5),
            Framing::Length(u64::MAX),
            Framing::Chunked,
        ] {
            for strict in [false, true] {
                let refused = parse(&head(framing, &complete(kind)), strict).err();
                let expected = match (kind, framing, strict) {
                    (_, Framing::Absent, true) => Some(Refusal::LengthRequired),
                    ("Fragment", Framing::Absent, false) => Some(Refusal::LengthMissing),
                    ("Fragment", Framing::Chunked, true) => Some(Refusal::ChunkedRefused),
                    ("Fragment", Framing::Chunked, false) => None,
                    ("Fragment", Framing::Length(5), _) => None,
                    ("Fragment", Framing::Length(_), _) => Some(Refusal::LengthMismatch),
                    (_, Framing::Absent | Framing::Length(0), _) => None,
                    (_, Framing::Length(_) | Framing::Chunked, _) => Some(Refusal::UnexpectedBody),
                };
                assert_eq!(refused, expected, "{kind} {framing:?} strict={strict}");
            }
        }
    }
}

// Ping and Create-Session.

#[test]
fn a_ping_takes_no_notice_of_session_ids() {
    for ids in [&[][..], &[ID], &["nonsense"], &[ID, ID]] {
        let fields: Vec<_> = ids.iter().map(|&id| ("BITS-Session-Id", id)).collect();
        assert_eq!(packet("Ping", Framing::Length(0), &fields), Ok(ping()));
    }
}

#[test]
fn protocols_are_separated_by_blanks_or_commas() {
    let other = "{11111111-2222-3333-4444-555555555555}";
    for list in [
        PROTOCOL.to_owned(),
        PROTOCOL.to_uppercase(),
        PROTOCOL.trim_matches(['{', '}']).to_owned(),
        format!("{other} {PROTOCOL}"),
        format!("{other},{PROTOCOL}"),
        format!("{other}\t{PROTOCOL}"),
        format!(", {PROTOCOL} ,,{other}"),
    ] {
        assert_eq!(
            create(&list),
            Ok(Packet::CreateSession { target: target() }),
            "{list}"
        );
    }
    for list in [
        "",
        ", ,",
        other,
        "{7df0354d-249b-430f-820d-3d2a9bef4932}",
        "{7df0354d-249b-430f-820d-3d2a9bef4931",
    ] {
        assert_eq!(create(list), Err(Refusal::ProtocolUnsupported), "{list}");
    }
    assert_eq!(
        create(&format!("{other};{PROTOCOL}")),
        Err(Refusal::ProtocolUnsupported)
    );
}

#[test]
fn a_hundred_protocols_are_looked_at() {
    let others = |n| "{11111111-2222-3333-4444-555555555555},, ".repeat(n);
    assert_eq!(
        create(&(others(99) + PROTOCOL)),
        Ok(Packet::CreateSession { target: target() })
    );
    assert_eq!(
        create(&(others(100) + PROTOCOL)),
        Err(Refusal::ProtocolUnsupported)
    );
}

#[test]
fn protocols_stand_in_one_field() {
    let twice = [("BITS-Supported-Protocols", PROTOCOL); 2];
    assert_eq!(
        packet("Create-Session", Framing::Length(0), &twice),
        Err(Refusal::FieldRepeated("BITS-Supported-Protocols")),
    );
}

// Packets about a session.

#[test]
fn an_id_that_cannot_be_ours_is_left_to_be_not_found() {
    let long = "A".repeat(101);
    for id in [
        "",
        "4711",
        "{A0FF5911}",
        "A0FF5911414445B3BF2727AFC8EC8A67",
        &long,
    ] {
        for kind in ["Close-Session", "Cancel-Session"] {
            let asked = SessionRequest {
                target: target(),
                session: None,
            };
            let parsed = packet(kind, Framing::Length(0), &[("BITS-Session-Id", id)]);
            assert!(
                parsed == Ok(Packet::CloseSession(asked.clone()))
                    || parsed == Ok(Packet::CancelSession(asked))
            );
        }
        let fields = [("BITS-Session-Id", id), ("Content-Range", "bytes 0-0/1")];
        let Ok(Packet::Fragment(fragment)) = packet("Fragment", Framing::Length(1), &fields) else {
            panic!()
        };
        assert_eq!(fragment.request.session, None);
    }
}

#[test]
fn a_session_is_named_once() {
    for kind in ["Fragment", "Close-Session", "Cancel-Session"] {
        let refused = packet(
            kind,
            Framing::Length(0),
            &[("BITS-Session-Id", ID), ("bits-session-id", ID)],
        );
        assert_eq!(refused, Err(Refusal::FieldRepeated("BITS-Session-Id")));
    }
}

// Fragments.

#[test]
fn the_length_of_a_fragment_is_that_of_its_range() {
    assert_eq!(
        fragment_of(Framing::Length(5), "bytes 0-4/9"),
        Ok(bytes(0, 5, 9))
    );
    for len in [0, 1, 4, 6, u64::MAX] {
        assert_eq!(
            fragment_of(Framing::Length(len), "bytes 0-4/9"),
            Err(Refusal::LengthMismatch),
            "{len}"
        );
    }
    let whole = "bytes 0-18446744073709551614/18446744073709551615";
    assert_eq!(
        fragment_of(Framing::Length(u64::MAX), whole),
        Ok(bytes(0, u64::MAX, u64::MAX))
    );
}

#[test]
fn an_empty_file_is_announced_by_three_ranges_or_none() {
    for range in ["bytes 0-0/0", "bytes 0--1/0", "bytes */0"] {
        assert_eq!(
            fragment_of(Framing::Length(0), range),
            Ok(FragmentContent::EmptyFile)
        );
        assert_eq!(
            fragment_of(Framing::Chunked, range),
            Ok(FragmentContent::EmptyFile)
        );
        assert_eq!(
            fragment_of(Framing::Length(1), range),
            Err(Refusal::LengthMismatch)
        );
    }
    let session = [("BITS-Session-Id", ID)];
    let Ok(Packet::Fragment(fragment)) = packet("Fragment", Framing::Length(0), &session) else {
        panic!()
    };
    assert_eq!(
        (fragment.content, fragment.body),
        (FragmentContent::EmptyFile, FragmentBody::Length(0))
    );
    assert_eq!((fragment.content.len(), fragment.content.total()), (0, 0));
}

#[test]
fn a_fragment_with_bytes_has_one_range() {
    let session = ("BITS-Session-Id", ID);
    for framing in [Framing::Length(1), Framing::Chunked] {
        assert_eq!(
            packet("Fragment", framing, &[session]),
            Err(Refusal::RangeMissing)
        );
        let twice = [
            session,
            ("Content-Range", "bytes 0-0/1"),
            ("Content-Range", "bytes 0-0/1"),
        ];
        assert_eq!(
            packet("Fragment", framing, &twice),
            Err(Refusal::FieldRepeated("Content-Range"))
        );
        for range in ["", "bytes 5-4/9", "bytes 0-9/9", "bytes */9", "0-0/1"] {
            assert_eq!(
                fragment_of(framing, range),
                Err(Refusal::RangeMalformed),
                "{range}"
            );
        }
    }
}

#[test]
fn a_fragment_is_not_encoded() {
    let send = |codings: &[&'static str]| {
        let coded = codings.iter().map(|&coding| ("Content-Encoding", coding));
        let fields: Vec<_> = fragment_fields("bytes 0-4/9")
            .into_iter()
            .chain(coded)
            .collect();
        parse(&head(Framing::Length(5), &fields), false).err()
    };
    assert_eq!(send(&["identity"]), None);
    assert_eq!(send(&["Identity"]), None);
    assert_eq!(send(&["gzip"]), Some(Refusal::EncodingUnsupported));
    assert_eq!(
        send(&["identity, gzip"]),
        Some(Refusal::EncodingUnsupported)
    );
    assert_eq!(
        send(&["identity", "identity"]),
        Some(Refusal::FieldRepeated("Content-Encoding"))
    );
}

#[test]
fn content_name_is_a_remark() {
    for name in ["report.bin", "../../etc/passwd", "", &"x".repeat(300)] {
        let fields = [
            &fragment_fields("bytes 0-4/9")[..],
            &[("Content-Name", name), ("Content-Name", name)],
        ]
        .concat();
        let Ok(Packet::Fragment(fragment)) = parse(&head(Framing::Length(5), &fields), false)
        else {
            panic!()
        };
        assert_eq!(fragment.request, request());
    }
}

#[test]
fn a_fragment_says_whether_its_client_waits() {
    for waits in [false, true] {
        let mut head = head(Framing::Length(5), &fragment_fields("bytes 0-4/9"));
        head.expects_continue = waits;
        let Ok(Packet::Fragment(fragment)) = parse(&head, false) else {
            panic!()
        };
        assert_eq!(fragment.expects_continue, waits);
    }
}

fn any_framing() -> impl Strategy<Value = Framing> {
    let length = any::<u64>().prop_map(Framing::Length);
    prop_oneof![
        Just(Framing::Absent),
        Just(Framing::Chunked),
        (0..9u64).prop_map(Framing::Length),
        length
    ]
}

fn any_field() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names = [
        PACKET_TYPE,
        SUPPORTED_PROTOCOLS,
        SESSION_ID,
        CONTENT_RANGE,
        CONTENT_ENCODING,
        "Content-Name",
    ];
    let value = prop_oneof![
        proptest::sample::select(vec![PROTOCOL, ID, "identity", "bytes 0-4/9", "bytes */0"])
            .prop_map(Vec::from),
        any::<Vec<u8>>(),
    ];
    (proptest::sample::select(names.to_vec()), value)
}

proptest! {
    /// Whatever is sent: no panic, and a fragment that is accepted keeps its promises.
    #[test]
    fn the_length_and_range_of_an_accepted_fragment_agree(
        kind in 0..KINDS.len(),
        fields in proptest::collection::vec(any_field(), 0..6),
        framing in any_framing(),
        strict: bool,
    ) {
        let mut head = head(framing, &[(PACKET_TYPE, KINDS[kind].0)]);
        head.fields.extend(fields.iter().map(|(name, value)| (*name, &value[..])));
        if let Ok(Packet::Fragment(fragment)) = parse(&head, strict) {
            match fragment.body {
                FragmentBody::Length(len) => prop_assert_eq!(len, fragment.content.len()),
                FragmentBody::Chunked => prop_assert!(!strict),
            }
        }
    }
}
