//! Golden conversations with the real binary, from `tests/transcripts`.
//!
//! Each transcript is one test of the same name. Its first line cites a section of the
//! specification, or a rule of docs/protocol.md. How a transcript is written stands in
//! `support/transcript.rs`.
//!
//! * `recorded_*`: the two runs that MC-BUP 4 prints.
//! * `client_*`: names, order, case and framing of the fields are those that a client or proxy was
//!   seen to send; the rest of the conversation is made up around them.
//! * `example_*`: the worked examples.
//! * `mistake_*`: what other servers do wrong, as found in their sources or by trying them.

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
    example_upload
    example_gap
    example_unknown_session
    client_header_order_7x
    client_xenserver
    client_bits4j
    client_python_onedrive
    client_onedrive
    client_nginx
    client_haproxy
    mistake_error_code_in_a_good_answer
    mistake_session_made_by_ping
    mistake_protocols_split_at_blanks_only
    mistake_only_the_last_protocol_counts
    mistake_answer_without_protocol
    mistake_same_id_for_the_same_path
    mistake_session_ends_with_its_connection
    mistake_gap_answered_by_error
    mistake_gap_written_as_hole
    mistake_overlap_stored_untrimmed
    mistake_overlap_refused_without_offset
    mistake_overlap_rewrites_what_is_stored
    mistake_duplicate_moves_backwards
    mistake_total_may_change
    mistake_offset_written_as_range
    mistake_file_too_large_is_413
    mistake_file_truncated_at_create
    mistake_file_overwritten_unasked
    mistake_path_leads_out_of_the_root
    mistake_unknown_session_by_another_name
    mistake_error_without_length
    mistake_field_missing_by_luck
    mistake_length_read_leniently
    mistake_cancel_leaves_the_file
    mistake_offsets_of_32_bits
    mistake_close_without_session_id
    mistake_whole_file_decoded_as_text
    mistake_uploads_wait_for_each_other
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
