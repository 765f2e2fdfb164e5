//! The test of the test: each planted bug must be found within its budget of seeds.

use std::process::ExitCode;

use bitsd::planted::{Bug, plant};

use crate::plan::Plan;
use crate::run::run;
use crate::shrink;
use crate::threads;

/// A bug that hides for longer would hide from CI, which runs so many seeds.
const SEEDS_MAX: u64 = 500;
/// For those that need two faults at the right moments; a night finds them.
const SEEDS_MAX_RARE: u64 = 15_000;
/// Searches for each bug, each from a seed of its own: their mean is told.
const SEARCHES: u64 = 5;

/// Looks for each bug.
pub fn find_all() -> ExitCode {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/planted");
    for bug in Bug::ALL {
        let patch = format!("{folder}/{bug:?}.patch");
        assert!(std::path::Path::new(&patch).exists(), "no {patch}");
    }
    let (mut passed, mut failed) = (0, 0);
    let bug = |number| Bug::ALL[usize::try_from(number).expect("there are few")];
    let numbers = 0..Bug::ALL.len() as u64;
    threads::for_each(
        numbers,
        |number| search(bug(number)),
        |number, searched| match searched {
            Ok(found) => {
                passed += 1;
                println!("found {:?} {found}", bug(number));
            }
            Err(missed) => {
                failed += 1;
                println!("MISSED {:?} {missed}", bug(number));
            }
        },
    );
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plants a bug on this thread and looks for it: how it was found, or how often it was not.
fn search(bug: Bug) -> Result<String, String> {
    plant(Some(bug));
    let (searches, seeds_max) = if is_rare(bug) {
        (1, SEEDS_MAX_RARE)
    } else {
        (SEARCHES, SEEDS_MAX)
    };
    let mut seeds = 0;
    let mut missed = 0;
    let mut how = String::new();
    let mut smallest = None;
    for search in 0..searches {
        match find(search * seeds_max, seeds_max) {
            Some((tried, plan, failure)) => {
                seeds += tried;
                how = failure;
                smallest = smallest.or_else(|| Some(shrink::shrink(&plan).0.len()));
            }
            None => missed += 1,
        }
    }
    plant(None);
    how.truncate(90);
    // The shrinker must have something to take out of a run that nobody made small.
    match smallest {
        Some(parts) if parts > 0 && missed == 0 => {
            let mean = seeds / searches;
            Ok(format!(
                "after {mean} seeds in the mean, also without {parts} parts of the run, e.g. by {how}"
            ))
        }
        _ => Err(format!("in {missed} of {searches} searches")),
    }
}

fn is_rare(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::SealTrusted
            | Bug::RenameTrusted
            | Bug::RenewalRemoves
            | Bug::PublishedForgotten
            | Bug::SizelessTrusted
            | Bug::DownloadHoldsTwo
            | Bug::JournalUnsynced
            | Bug::CacheOutlivesLine
            | Bug::IdentityKept
            | Bug::OwnerForgotten
            | Bug::TombstoneForAll
            | Bug::GoodbyeIsTheRest
            | Bug::UnsettledForgotten
            | Bug::ObjectUnlooked
            | Bug::UnsyncedBelieved
    )
}

/// Seeds tried until one failed, its plan, and how it did.
fn find(first: u64, seeds_max: u64) -> Option<(u64, Plan, String)> {
    (0..seeds_max).find_map(|tried| {
        let plan = Plan::draw(first + tried);
        let failure = run(&plan, false).failure?;
        Some((tried + 1, plan, failure))
    })
}
