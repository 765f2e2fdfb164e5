//! The demonstration of the whole way, by `scripts/demo --whole`: an upload by https and a named
//! user, and who looks at its digest, its line, its event and its object from outside.

#![cfg(all(feature = "s3", feature = "nats"))]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_demo_goes_the_whole_way() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut demo = Command::new(top.join("scripts/demo"));
    demo.arg("--whole").stdin(Stdio::null());
    demo.env("BITSD", env!("CARGO_BIN_EXE_bitsd"));
    let output = demo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(why) = said.lines().find_map(|line| line.strip_prefix("SKIPPED: ")) {
        return support::skip(why);
    }
    assert!(output.status.success(), "{said}\n{log}");
    for words in [
        "the log says who sent it: user=\"demo\"",
        "Verification: OK",
        "the object is what was sent, byte for byte",
        "1 lines name objects of a store",
        "digest  ",
        "line    ",
        "event   ",
        "object  collected/hosts/evidence/first.bin version ",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}\n{log}");
    }
}
