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
/// Searches for each bug, each from a seed of its own: their mean is told. The first is that of
/// the seeds that CI runs, and enough where it must be quick.
const SEARCHES: u64 = 5;

/// Looks for every bug, or for those of these names; without the rare ones where `is_common`.
pub fn find_all(names: &[String], is_common: bool) -> ExitCode {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/planted");
    for bug in Bug::ALL {
        let patch = format!("{folder}/{bug:?}.patch");
        assert!(std::path::Path::new(&patch).exists(), "no {patch}");
    }
    let is_named = |bug: Bug| names.is_empty() || names.contains(&format!("{bug:?}"));
    let is_wanted = |bug: &Bug| is_named(*bug) && !(is_common && is_rare(*bug));
    let bugs: Vec<Bug> = Bug::ALL.iter().copied().filter(is_wanted).collect();
    let (mut passed, mut failed) = (0, u32::from(bugs.is_empty()));
    let bug = |number| bugs[usize::try_from(number).expect("there are few")];
    let numbers = 0..bugs.len() as u64;
    threads::for_each(
        numbers,
        |number| search(bug(number), if is_common { 1 } else { SEARCHES }),
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

/// Looks for a bug so many times, for a rare one once: how it was found, or why not.
fn search(bug: Bug, searches: u64) -> Result<String, String> {
    let (searches, seeds_max) = match is_rare(bug) {
        true => (1, SEEDS_MAX_RARE),
        false => (searches, SEEDS_MAX),
    };
    let mut seeds = 0;
    let mut how = String::new();
    let mut smallest = None;
    for search in 0..searches {
        let (tried, plan, failure) = find(bug, search * seeds_max, seeds_max)?;
        seeds += tried;
        how = failure;
        smallest = smallest.or_else(|| Some(with(bug, || shrink::shrink(&plan).0.len())));
    }
    how.truncate(90);
    let mean = seeds / searches;
    // The shrinker must have something to take out of a run that nobody made small.
    match smallest {
        Some(parts) if parts > 0 => Ok(format!(
            "after {mean} seeds in the mean, also without {parts} parts of the run, e.g. by {how}"
        )),
        _ => Err(format!(
            "after {mean} seeds, in a run that cannot be made smaller"
        )),
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
            | Bug::EndUnsynced
            | Bug::ThrottlePerUser
            | Bug::UnsyncedDiskBelieved
    )
}

/// Seeds tried until one failed for the sake of the bug, its plan, and how it did.
fn find(bug: Bug, first: u64, seeds_max: u64) -> Result<(u64, Plan, String), String> {
    for tried in 0..seeds_max {
        let plan = Plan::draw(first + tried);
        let Some(failure) = with(bug, || run(&plan, false).failure) else {
            continue;
        };
        // A run that fails anyway says nothing about the bug.
        return match run(&plan, false).failure {
            None => Ok((tried + 1, plan, failure)),
            Some(failure) => Err(format!(
                "since seed {} fails without it: {failure}",
                plan.seed
            )),
        };
    }
    Err(format!("in {seeds_max} seeds from {first} on"))
}

/// Does something while a bug is planted on this thread.
fn with<T>(bug: Bug, work: impl FnOnce() -> T) -> T {
    plant(Some(bug));
    let made = work();
    plant(None);
    made
}
