//! What it costs to decide about a fragment: its range, its place, and the step of the session.

use std::hint::black_box;

use bitsd::bits::range::{self, ContentRange};
use bitsd::bits::session::{Keeper, Rules, State, Step};
use criterion::{Criterion, criterion_group, criterion_main};

const RULES: Rules = Rules {
    fragment_bytes_max: 64 << 20,
    upload_bytes_max: u64::MAX,
    publish_with_last_fragment: false,
    close_creates_empty_file: false,
    notifies: false,
    keeper: Keeper::Folder,
};

fn benches(criterion: &mut Criterion) {
    criterion.bench_function("content-range", |bencher| {
        bencher.iter(|| range::parse(black_box(b"bytes 1048576-2097151/2500000")));
    });
    let range = ContentRange::new(1 << 20, 2 << 20, 2_500_000).expect("in order");
    criterion.bench_function("place", |bencher| {
        bencher.iter(|| black_box(range).place(black_box(1_348_576)));
    });
    criterion.bench_function("fragment offered, stored and ended", |bencher| {
        let begun = State::Receiving {
            received: 1_348_576,
            total: Some(2_500_000),
        };
        bencher.iter(|| {
            let (state, plan) = black_box(begun).on(Step::Fragment(range), &RULES);
            black_box(plan);
            let bytes = range.end() - state.received();
            let (state, _) = state.on(Step::Stored { bytes }, &RULES);
            state.on(Step::FragmentEnded, &RULES)
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
