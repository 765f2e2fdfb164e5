//! Packets: whatever a head says, a packet that is taken is coherent, and every refusal can be
//! written.
#![no_main]

use bitsd::bits::packet::{self, FragmentBody, Packet};
use bitsd::bits::reply;
use bitsd::http::head::{self, Framing, HeadLimits, Method, Parsed};
use bitsd::http::response::Persistence;
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 16 * 1024,
    headers_max: 64,
    value_bytes_max: 4096,
};

/// Words for the fuzzer to begin with: a choice of fields before the bytes that it makes up.
const FIELDS: [&str; 8] = [
    "BITS-Packet-Type: Fragment\r\n",
    "BITS-Packet-Type: create-session\r\n",
    "BITS-Packet-Type: CLOSE-SESSION\r\n",
    "BITS-Session-Id: {3F0C8A51-7B1E-4E0C-9D53-0A6C2B1F7E44}\r\n",
    "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n",
    "Content-Length: 10\r\n",
    "Content-Range: bytes 0-9/20\r\n",
    "Transfer-Encoding: chunked\r\n",
];

fuzz_target!(|input: (u8, bool, Vec<u8>)| {
    let (choice, strict, made_up) = input;
    let mut bytes = b"BITS_POST /in/a.bin HTTP/1.1\r\nHost: x\r\n".to_vec();
    for (bit, field) in FIELDS.iter().enumerate() {
        if choice >> bit & 1 == 1 {
            bytes.extend_from_slice(field.as_bytes());
        }
    }
    bytes.extend_from_slice(&made_up);
    bytes.extend_from_slice(b"\r\n\r\n");
    let Ok(Parsed::Complete(head)) = head::parse(&bytes, &LIMITS) else {
        return;
    };
    assert_eq!(head.method, Method::BitsPost);
    match packet::parse(&head, strict) {
        Ok(Packet::Fragment(fragment)) => {
            assert!(fragment.content.len() <= fragment.content.total());
            match fragment.body {
                FragmentBody::Length(len) => {
                    assert_eq!(head.framing, Framing::Length(len));
                    assert_eq!(fragment.content.len(), len);
                }
                FragmentBody::Chunked => assert!(head.framing == Framing::Chunked && !strict),
            }
        }
        Ok(Packet::Ping { .. } | Packet::CreateSession { .. })
        | Ok(Packet::CloseSession(_) | Packet::CancelSession(_)) => {
            let is_bodiless = matches!(head.framing, Framing::Absent | Framing::Length(0));
            assert!(is_bodiless && !(strict && head.framing == Framing::Absent));
        }
        Err(refusal) => {
            assert!(matches!(refusal.status(), 400 | 411), "{refusal:?}");
            let mut out = Vec::new();
            reply::write_refusal(&refusal, None, Persistence::KeepAlive, &mut out);
            assert!(out.ends_with(b"\r\n\r\n") && !refusal.to_string().is_empty());
        }
    }
});
