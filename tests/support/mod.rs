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
pub mod raw;
pub mod server;
pub mod tls;
pub mod transcript;

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

/// Skips a test for want of something: with a sentence, and never where everything must be there.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "cannot be skipped here: {why}"
    );
    eprintln!("SKIPPED: {why}");
}
