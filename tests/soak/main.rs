//! The real server under long strain: uploads go on while it is killed, stopped and starved, and
//! while its power is cut.
//!
//! Goal: no acked byte is ever asked for again, no file appears that is not whole, and the server
//! stays usable. Method: careful clients (`uploader.rs`) remember the highest offset that was acked
//! to them and hold the server to it after each reconnect, while a scenario (`scenarios.rs`)
//! strikes at moments drawn from a seed.
//!
//! Without arguments each scenario runs in its short form. `scripts/soak` runs the long one.
#![allow(
    clippy::unwrap_used,
    reason = "a test; what goes wrong is meant to stop it"
)]

mod battle;
mod mount;
mod quarrel;
mod scenarios;
#[path = "../support/mod.rs"]
mod support;
mod told;
mod uploader;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use battle::Setup;
use scenarios::{Outcome, SCENARIOS};

/// How long one scenario lasts in its short form.
const SHORT: Duration = Duration::from_millis(4_000);

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let is_chosen = |name: &str| match &arguments.filter {
        Some(word) => name.contains(word.as_str()),
        None => arguments.scenario == "all" || arguments.scenario == name,
    };
    if arguments.is_list {
        for (name, ..) in SCENARIOS.iter().filter(|(name, ..)| is_chosen(name)) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    if !SCENARIOS.iter().any(|(name, ..)| is_chosen(name)) {
        println!("0 scenarios: none has that name");
        return ExitCode::SUCCESS;
    }
    println!(
        "seed {}, {} clients, {:.1} minutes per scenario",
        arguments.setup.seed,
        arguments.setup.clients,
        arguments.setup.duration.as_secs_f64() / 60.0
    );
    // As the CI of this project sets it: there, a scenario that cannot run is a failure.
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, what, scenario) in SCENARIOS {
        if !is_chosen(name) {
            continue;
        }
        println!("{name}: {what}");
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario(&arguments.setup)));
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(Outcome::Passed(figures)) => {
                println!("{name}: ok in {seconds:.1} s; {figures}");
                passed += 1;
            }
            Ok(Outcome::Skipped(why)) => {
                println!("{name}: SKIPPED: {why}");
                if is_ci {
                    failed += 1;
                } else {
                    skipped += 1;
                }
            }
            Err(_) => {
                println!(
                    "{name}: FAILED after {seconds:.1} s with seed {}",
                    arguments.setup.seed
                );
                failed += 1;
            }
        }
    }
    let skipped = if skipped > 0 {
        format!(", {skipped} skipped")
    } else {
        String::new()
    };
    println!("{passed} passed, {failed} failed{skipped}");
    if failed == 0 && (passed > 0 || !skipped.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The command line.
struct Arguments {
    setup: Setup,
    scenario: String,
    /// The word of `cargo test WORD`: scenarios whose name has it in it.
    filter: Option<String>,
    is_list: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            setup: Setup {
                duration: SHORT,
                clients: 6,
                seed: seed_of_the_moment(),
            },
            scenario: "all".to_owned(),
            filter: None,
            is_list: false,
        };
        while let Some(word) = words.next() {
            let mut value = |what: &str| words.next().ok_or(format!("{word} needs {what}"));
            match word.as_str() {
                "--minutes" => {
                    let minutes: f64 = number(&word, &value("a number of minutes")?)?;
                    arguments.setup.duration = Duration::try_from_secs_f64(minutes * 60.0)
                        .map_err(|error| format!("{word}: {error}"))?;
                }
                "--clients" => {
                    arguments.setup.clients = number(&word, &value("a number of clients")?)?;
                }
                "--seed" => arguments.setup.seed = number(&word, &value("a seed")?)?,
                "--scenario" => arguments.scenario = value("a name")?,
                "--power" => arguments.scenario = "power".to_owned(),
                // Words that `cargo test` gives to every test.
                "--quiet" | "-q" | "--nocapture" | "--no-capture" | "--show-output" | "--exact" => {
                }
                "--format" | "--test-threads" | "--color" => {
                    words.next();
                }
                "--list" => arguments.is_list = true,
                // None is ignored, so there is none of that kind.
                "--ignored" => arguments.filter = Some("none is ignored".to_owned()),
                filter if !filter.starts_with('-') => arguments.filter = Some(filter.to_owned()),
                _ => return Err(format!("{word}: unknown\n{USAGE}")),
            }
        }
        let is_known = arguments.scenario == "all"
            || SCENARIOS
                .iter()
                .any(|(name, ..)| *name == arguments.scenario);
        if !is_known {
            let names: Vec<&str> = SCENARIOS.iter().map(|(name, ..)| *name).collect();
            return Err(format!("scenarios: all, {}", names.join(", ")));
        }
        if !(1..=1000).contains(&arguments.setup.clients) {
            return Err("--clients takes 1 to 1000".to_owned());
        }
        Ok(arguments)
    }
}

const USAGE: &str = "soak [--minutes M] [--clients N] [--scenario NAME|all] [--power] [--seed S]";

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    word: &str,
    text: &str,
) -> Result<T, String> {
    text.parse()
        .map_err(|error| format!("{word} {text}: {error}"))
}

fn seed_of_the_moment() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::from(now.unwrap_or_default().subsec_nanos())
}
