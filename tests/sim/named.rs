//! Runs that failed once. Each stays here under the rule that it broke, and is run before all
//! others.
//!
//! A seed tells the same story only as long as nothing else draws from its chance, so what broke a
//! rule is also a test of its own, where that can be had: it is named beside the seed.

use crate::plan::Plan;
use crate::run::run;

/// A rule, and the seed that broke it.
const NAMED: &[(&str, u64)] = &[
    // tests/applications.rs: while_the_server_stops_nobody_is_asked_again.
    (
        "an application is not asked twice by a server that stops",
        77_009_111,
    ),
    (
        "an application is not asked twice by a server that stops",
        77_011_997,
    ),
    // tests/limits.rs: who_is_turned_away_from_a_full_server_gives_its_place_back.
    (
        "who waits for a session leaves a place to those who have one",
        77_000_882,
    ),
    (
        "a journal that is full is renewed, though a renewal has failed just before",
        1_795_665_761_002_732,
    ),
    // src/vault/verdict/tests.rs: no_verdict_breaks_the_contract.
    (
        "an empty file does not take the place of one whose size a damaged journal has lost",
        1_795_677_816_026_897,
    ),
    (
        "a file that is replaced while it is read is read as it was or as it is",
        1_795_677_916_003_798,
    ),
    // tests/disk.rs: an_upload_that_was_cancelled_on_a_full_disk_stays_cancelled.
    (
        "a session that was closed before it was whole is remembered, or its client is put off",
        1_795_677_916_028_980,
    ),
    (
        "what could not be given back is held still, and counted",
        1_795_680_982_002_585,
    ),
];

/// Those of runs in which clients are asked who they are.
const NAMED_WHERE_ASKED: &[(&str, u64)] = &[
    (
        "a ticket in two halves can be shown with a fragment that is too long",
        1_795_700_000_000_870,
    ),
    (
        "a session that is ending while settings are taken over is counted until its end",
        3_979,
    ),
];

/// Those of runs as they are drawn now, with a store.
const NAMED_WHERE_STORED: &[(&str, u64)] = &[
    // src/vault/verdict/tests.rs: what_no_record_says_that_a_store_has_is_not_published.
    (
        "what was cancelled on its way into a store is not published after a power cut",
        3_999,
    ),
    // src/vault/readback.rs: damage_after_a_clean_stop_ends_the_belief_in_it.
    (
        "a clean stop does not vouch for bytes that came after it, whose record is damaged",
        1_813_000_000_060_905,
    ),
    (
        "a clean stop vouches for a session whatever became of a start that never served",
        8_688,
    ),
    (
        "what only a clean stop vouches for is asked again after damage and a power cut",
        1_818_000_000_006_070,
    ),
    (
        "a final Ack that is repeated after a restart rests on a record that survives a power cut",
        1_820_000_000_040_734,
    ),
    // src/vault/keep/ending.rs: bytes_are_given_up_for_a_full_disk_and_not_for_a_full_journal.
    (
        "bytes of a session that was given up go for a full disk only",
        1_820_000_000_041_982,
    ),
    (
        "a destination is taken as long as a file is being given its name",
        1_820_000_000_049_512,
    ),
    (
        "a file that was replaced ends although the other one's name does not survive yet",
        1_820_000_000_058_439,
    ),
    (
        "a file that replaces another one is away while it is given its name anew",
        1_823_000_000_063_579,
    ),
    (
        "a cancelled upload may be back after a power cut if the record of its end is spoilt",
        1_825_000_000_001_269,
    ),
    (
        "an upload that is read back after its end is told with its digest",
        1_828_000_000_000_317,
    ),
    (
        "a Close is put off after a restart on a disk that has no room for a journal",
        1_832_000_000_014_246,
    ),
];

/// Whether all of them pass now.
pub fn hold() -> bool {
    let mut all = true;
    let mut try_it = |rule: &str, seed: u64, plan: &Plan| {
        if let Some(failure) = run(plan, false).failure {
            println!("{rule}: seed {seed} FAILED again: {failure}");
            all = false;
        }
    };
    for (rule, seed) in NAMED_WHERE_STORED {
        try_it(rule, *seed, &Plan::draw(*seed));
    }
    let are_asked = |named: &'static [(&str, u64)], asks| {
        (named.iter()).map(move |(rule, seed)| (rule, seed, asks))
    };
    for (rule, seed, asks) in are_asked(NAMED, false).chain(are_asked(NAMED_WHERE_ASKED, true)) {
        // They are older than the store.
        let mut plan = Plan::draw_with(*seed, None);
        if !asks {
            plan.ask_nobody();
        }
        // Records of digests and what is told to others draw from the chance of a run, and these
        // are older.
        plan.compute_no_digests();
        plan.tell_nobody();
        plan.keep_no_custody();
        // So does TLS.
        plan.is_secure = false;
        try_it(rule, *seed, &plan);
    }
    all
}
