//! What the tests of the real binary share: a server that ends with its test, a client that sends
//! exactly the bytes it is told to, and file contents that can be checked at any offset.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod backend;
#[cfg(feature = "nats")]
pub mod broker;
pub mod bucket;
pub mod client;
pub mod content;
pub mod host;
pub mod https;
pub mod journal;
pub mod kdc;
pub mod ledger;
pub mod listing;
pub mod manager;
pub mod mount;
pub mod program;
pub mod random;
pub mod raw;
pub mod server;
mod skipping;
pub mod tls;
pub mod transcript;

#[allow(unused_imports, reason = "likewise")]
pub use skipping::{skip, skip_anywhere};

use std::time::{Duration, Instant};

/// No single wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `condition` holds; fails the test with `what` if it never does.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The lines of a log that tell of a shard that stood still in a call, such as one to its disk. A
/// machine that is busy with something else is enough for the others.
pub fn stalls_in_calls(log: &str) -> impl Iterator<Item = &str> {
    let is_of_machine = |line: &str| {
        let what = line.split(" what=").nth(1).unwrap_or_default();
        what.contains("computing") || what.contains("the clock came late")
    };
    let stalls = log.lines().filter(|line| line.contains("shard_stalled"));
    stalls.filter(move |line| !is_of_machine(line))
}
