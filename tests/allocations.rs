//! What is counted for a fragment takes no memory, beside all that the fragment itself takes.
//!
//! The counter is the allocator of this whole program, so nothing else is tested here.

use std::net::SocketAddr;

use allocation_counter::measure;
use bitsd::bits::packet::PacketKind;
use bitsd::bits::session::State;
use bitsd::bits::session_id::SessionId;
use bitsd::event::{DiskOp, Event};
use bitsd::metrics::shard::{Gauged, ShardMetrics};

const FRAGMENTS: u64 = 10_000;
const FRAGMENT_BYTES: u64 = 65_536;
const SERIES: usize = 3;

/// As a fragment of one session is counted: its bytes, its time on the disk, its events, and where
/// the session stands after it.
fn count(metrics: &ShardMetrics, number: u64) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let session = SessionId::from_u128(7);
    let standing = |fragments| {
        let state = State::Receiving {
            received: fragments * FRAGMENT_BYTES,
            total: Some(FRAGMENTS * FRAGMENT_BYTES),
        };
        Gauged::of(SERIES, state, 1_000)
    };
    metrics.written[0].add(FRAGMENT_BYTES);
    metrics.took(DiskOp::Write, number);
    metrics.on(&Event::FragmentStored {
        session,
        series: SERIES,
        stored: FRAGMENT_BYTES,
        skipped: 1,
        received: number * FRAGMENT_BYTES,
    });
    metrics.recount(standing(number), standing(number + 1));
    metrics.on(&Event::Answered {
        peer,
        packet: Some(PacketKind::Fragment),
        session: Some(session),
        path: Some("logs/a.zip"),
        status: 200,
        why: None,
    });
}

#[test]
fn counting_fragments_allocates_nothing() {
    let metrics = ShardMetrics::default();
    metrics.begin(SERIES);
    let allocated = measure(|| (0..FRAGMENTS).for_each(|number| count(&metrics, number)));
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
    // Each of them was counted.
    assert_eq!(metrics.written[0].get(), FRAGMENTS * FRAGMENT_BYTES);
    assert_eq!(metrics.location(SERIES).skipped.get(), FRAGMENTS);
    let answered: u64 = metrics.packets.iter().flatten().map(|it| it.get()).sum();
    assert_eq!(answered, FRAGMENTS);
}

/// What the test above would see.
#[test]
fn an_allocation_is_seen() {
    let allocated = measure(|| drop(std::hint::black_box(vec![0_u8; 64])));
    assert_eq!(allocated.count_total, 1);
}
