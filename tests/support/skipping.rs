//! How a test is skipped. Those in `src` take this file too.

#![allow(dead_code, reason = "each crate of tests uses its own part")]

/// Skips a test for want of something: with a sentence, and never where everything must be there.
#[track_caller]
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "cannot be skipped here: {why}"
    );
    skip_anywhere(why);
}

/// The same for want of what not even CI has to have.
pub fn skip_anywhere(why: &str) {
    eprintln!("SKIPPED: {why}");
}
