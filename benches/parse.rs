//! What one request costs before a byte of its body is looked at: head, packet, and the Ack.

use std::hint::black_box;

use bitsd::bits::packet;
use bitsd::bits::reply::{self, Ack};
use bitsd::bits::session_id::SessionId;
use bitsd::http::head::{self, Head, HeadLimits, Parsed};
use bitsd::http::response::Persistence;
use criterion::{Criterion, criterion_group, criterion_main};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 16 * 1024,
    headers_max: 64,
    value_bytes_max: 4096,
};

/// As recorded from a BITS 6.7 client (MC-BUP 4.1).
const FRAGMENT: &[u8] = b"BITS_POST /upload/2000mb-rfc2119.txt HTTP/1.1\r\n\
    Accept: */*\r\n\
    BITS-Packet-Type: Fragment\r\n\
    BITS-Session-Id: {A0FF5911-4144-45B3-BF27-27AFC8EC8A67}\r\n\
    Content-Name: rfc2119.txt\r\n\
    Content-Range: bytes 0-4891/4892\r\n\
    User-Agent: Microsoft BITS/6.7\r\n\
    Host: frankcao8\r\n\
    Content-Length: 4892\r\n\
    Connection: Keep-Alive\r\n\r\n";

fn parse(bytes: &[u8]) -> Head<'_> {
    match head::parse(bytes, &LIMITS) {
        Ok(Parsed::Complete(head)) => head,
        other => panic!("not a head: {other:?}"),
    }
}

fn benches(criterion: &mut Criterion) {
    criterion.bench_function("head of a fragment", |bencher| {
        bencher.iter(|| parse(black_box(FRAGMENT)).bytes_len);
    });
    criterion.bench_function("head of a fragment, not complete yet", |bencher| {
        bencher.iter(|| head::parse(black_box(&FRAGMENT[..200]), &LIMITS).is_ok());
    });
    criterion.bench_function("packet of a fragment", |bencher| {
        let head = parse(FRAGMENT);
        bencher.iter(|| packet::parse(black_box(&head), false));
    });
    criterion.bench_function("ack of a fragment", |bencher| {
        let session = SessionId::from_u128(0xA0FF_5911_4144_45B3_BF27_27AF_C8EC_8A67);
        let ack = Ack::Fragment {
            session,
            received: 4892,
            reply_url: None,
            sha256: None,
        };
        let mut out = Vec::with_capacity(512);
        bencher.iter(|| {
            out.clear();
            reply::write_ack(black_box(&ack), Persistence::KeepAlive, &mut out);
            out.len()
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
