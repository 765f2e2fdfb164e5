//! The simulator: the server's own flow, in a world in which time, disk, network and clients are
//! ours.
//!
//! `cargo test --test sim -- --seeds 500`, or `scripts/sim`. To `cargo test WORD` it is one test,
//! named `simulation`. What each part models stands at its head; what the judge holds the server to
//! stands in `judge.rs`.

mod application;
mod broker;
mod client;
mod clock;
mod coverage;
mod desk;
mod disk;
mod executor;
mod identity;
mod judge;
mod judge_digest;
mod judge_line;
mod judge_object;
mod judge_owed;
mod judge_told;
mod ledger;
mod marks;
mod named;
mod notes;
mod plan;
#[cfg(planted)]
mod planted;
mod reader;
mod rng;
mod run;
mod secure;
mod shrink;
mod sim;
mod store;
mod talk;
mod tally;
mod threads;
mod wire;
mod world;

use std::process::ExitCode;
use std::time::SystemTime;

use marks::{Marks, REQUIRED};
use plan::Plan;

struct Args {
    first: u64,
    seeds: u64,
    is_single: bool,
    /// The first seed was drawn from the clock.
    is_fresh: bool,
    is_traced: bool,
    is_planted: bool,
    /// Only those of the planted bugs that show soon.
    is_common: bool,
    /// Words of `cargo test WORD`: none of them is the name of a run, so nothing is run.
    has_filter: bool,
    is_list: bool,
    /// What is taken out of the single run.
    without: Vec<String>,
    /// The planted bugs that are looked for; all of them without a name.
    bugs: Vec<String>,
}

fn main() -> ExitCode {
    let args = match read_args() {
        Ok(args) => args,
        Err(why) => {
            eprintln!(
                "{why}; known are --seeds N, --first S, --seed S, --fresh, --without LIST, --trace, --planted, --common"
            );
            return ExitCode::from(2);
        }
    };
    if args.is_list {
        // As libtest has it, for runners that ask before they run.
        if !args.has_filter {
            println!("simulation: test");
        }
        return ExitCode::SUCCESS;
    }
    if args.has_filter {
        println!("0 runs: the simulator has no test of that name");
        return ExitCode::SUCCESS;
    }
    // A panic of the server is a finding like any other, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    if args.is_planted {
        return planted_bugs(&args.bugs, args.is_common);
    }
    if !args.is_single && !named::hold() {
        return ExitCode::FAILURE;
    }
    if args.is_fresh {
        println!(
            "fresh seeds: the same runs again with --first {} --seeds {}",
            args.first, args.seeds
        );
    }
    let (mut passed, mut failed, mut sessions, mut steps) = (0u64, 0u64, 0, 0);
    let marks = Marks::default();
    let plan = |seed| {
        let mut plan = Plan::draw(seed);
        shrink::take_out(&mut plan, &args.without).map(|()| plan)
    };
    if let Err(why) = plan(args.first) {
        eprintln!("{why}");
        return ExitCode::from(2);
    }
    let run = |seed| {
        // What is taken out is named by a failure of this very seed.
        let plan = plan(seed).expect("asked above");
        let mut report = run::run(&plan, args.is_traced);
        if args.is_single || seed % 10 == 0 {
            let again = run::run(&plan, false);
            if again.hash != report.hash {
                let why = "13: the same seed gave another story";
                report.failure.get_or_insert(why.to_owned());
            }
        }
        report
    };
    threads::for_each(args.first..args.first + args.seeds, run, |seed, report| {
        marks.add(&report.marks);
        sessions += report.sessions;
        steps += report.steps;
        match report.failure {
            None => passed += 1,
            Some(failure) => {
                failed += 1;
                let plan = plan(seed).expect("asked above");
                tell_failure(&plan, &failure, &report.tail, &args);
            }
        }
    });
    let crashes = marks.count("kill") + marks.count("power cut");
    println!(
        "{} runs: {sessions} sessions, {crashes} crashes ({} kills, {} power cuts), {} graceful stops, {steps} steps",
        args.seeds,
        marks.count("kill"),
        marks.count("power cut"),
        marks.count("graceful stop"),
    );
    if !args.is_single {
        failed += tell_coverage(&marks, args.seeds);
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(planted)]
fn planted_bugs(names: &[String], is_common: bool) -> ExitCode {
    planted::find_all(names, is_common)
}

#[cfg(not(planted))]
fn planted_bugs(_: &[String], _: bool) -> ExitCode {
    eprintln!("no bugs are planted in this build; scripts/sim --planted makes one that has them");
    ExitCode::from(2)
}

fn tell_failure(plan: &Plan, failure: &str, tail: &[String], args: &Args) {
    let seed = plan.seed;
    println!("seed {seed} FAILED: {failure}");
    if args.is_traced {
        return;
    }
    let lines = tail.len().saturating_sub(12);
    for line in &tail[lines..] {
        println!("    {line}");
    }
    println!("    replay: scripts/sim --seed {seed} --trace");
    if args.without.is_empty() {
        let (without, how) = shrink::shrink(plan);
        if !without.is_empty() {
            let without = without.join(",");
            println!("    smallest: {how}");
            println!("    replay: scripts/sim --seed {seed} --without {without} --trace");
        }
    }
}

/// Prints how often each branch was reached; returns how many never were, if seeds were enough to
/// tell.
fn tell_coverage(marks: &Marks, seeds: u64) -> u64 {
    println!("coverage:");
    for mark in REQUIRED {
        println!("{:>9}  {mark}", marks.count(mark));
    }
    let missing = REQUIRED
        .iter()
        .filter(|mark| marks.count(mark) == 0)
        .count() as u64;
    if seeds >= 500 { missing } else { 0 }
}

fn read_args() -> Result<Args, String> {
    let mut args = Args {
        first: 0,
        seeds: 500,
        is_single: false,
        is_traced: false,
        is_planted: false,
        is_common: false,
        is_fresh: false,
        has_filter: false,
        is_list: false,
        without: Vec::new(),
        bugs: Vec::new(),
    };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut number = || {
            let text = given
                .next()
                .ok_or_else(|| format!("{arg} wants a number"))?;
            text.parse::<u64>()
                .map_err(|_| format!("{text} is no number"))
        };
        match arg.as_str() {
            "--seeds" => args.seeds = number()?,
            "--first" => args.first = number()?,
            "--seed" => {
                args.first = number()?;
                args.seeds = 1;
                args.is_single = true;
            }
            "--without" => {
                let list = given.next().ok_or("--without wants a list")?;
                args.without = list.split(',').map(str::to_owned).collect();
            }
            "--fresh" => {
                args.is_fresh = true;
                args.first = seed_of_the_moment();
            }
            "--list" => args.is_list = true,
            "simulation" => {}
            // Words that `cargo test` and nextest give to every test.
            "--quiet" | "-q" | "--nocapture" | "--no-capture" | "--show-output" | "--exact" => {}
            "--ignored" => args.has_filter = true,
            "--format" | "--test-threads" | "--color" => {
                given.next();
            }
            "--trace" => args.is_traced = true,
            "--planted" => args.is_planted = true,
            "--common" => args.is_common = true,
            word if word.starts_with('-') => return Err(format!("{word} is unknown")),
            word if args.is_planted => args.bugs.push(word.to_owned()),
            word => args.has_filter |= !"simulation".contains(word),
        }
    }
    Ok(args)
}

/// Seeds that nobody has run before, far from those of the fixed runs.
fn seed_of_the_moment() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs() * 1_000_000
}
