//! Golden conversations with the real binary, from `tests/transcripts`.
//!
//! Each transcript is one test of the same name and cites its section of the specification in its first
//! line; `P` is our reading of it all. `recorded_*` come from real clients, `mistake_*` are the mistakes of other
//! servers, each one seen in public code. How a transcript is written stands in `support/transcript.rs`.

mod support;

use support::transcript::converse;

macro_rules! transcripts {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                let text = include_str!(concat!("transcripts/", stringify!($name), ".txt"));
                converse(stringify!($name), text);
            }
        )+

        const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

transcripts! {
    recorded_upload
    recorded_upload_reply
}

#[test]
fn every_transcript_is_a_test() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut names: Vec<String> = NAMES.iter().map(|name| format!("{name}.txt")).collect();
    names.sort();
    assert_eq!(files, names);
}
