//! Finds out which commit is built, for `bitsd --version`: from git, from the archive that
//! `git archive` made, or from the package that cargo made. Who builds otherwise may set
//! `BITSD_BUILD`. None of these is needed.
//!
//! Builds for development do not ask: they would be made anew with every commit.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BITSD_BUILD");
    let given = std::env::var("BITSD_BUILD")
        .ok()
        .filter(|build| !build.is_empty());
    let build = match std::env::var("PROFILE").as_deref() {
        _ if given.is_some() => given,
        Ok("release") => from_git().or_else(from_archive).or_else(from_package),
        _ => Some("debug build".to_owned()),
    };
    let build = build.unwrap_or_else(|| "unknown commit".to_owned());
    println!("cargo:rustc-env=BITSD_BUILD={build}");
    println!("cargo:rustc-env=BITSD_FEATURES={}", features());
}

/// What the program has beside the server, by the names of `[features]` in `Cargo.toml`.
fn features() -> String {
    let is_in = |name: &&str| {
        let variable = format!("CARGO_FEATURE_{}", name.to_ascii_uppercase());
        std::env::var_os(variable).is_some()
    };
    let names: Vec<_> = ["put", "bench", "nats", "s3"]
        .into_iter()
        .filter(is_in)
        .collect();
    match names.is_empty() {
        true => "the server alone".to_owned(),
        false => names.join(", "),
    }
}

/// The commit that is checked out, if this is its own repository and not a folder in another one.
fn from_git() -> Option<String> {
    let top = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    let found = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&found).canonicalize().ok()? != Path::new(&top).canonicalize().ok()? {
        return None;
    }
    // Every commit and every checkout writes here.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    for changed in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={changed}");
    }
    let commit = git(&["log", "-1", "--format=%h %cs"])?;
    match git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
        true => Some(commit),
        false => Some(format!("{commit}, modified")),
    }
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// `git archive` writes the commit into this file (`.gitattributes`).
fn from_archive() -> Option<String> {
    println!("cargo:rerun-if-changed=.commit");
    commit_of_archive(&std::fs::read_to_string(".commit").ok()?)
}

/// The commit in `.commit`, unless it is still to be filled in.
pub fn commit_of_archive(text: &str) -> Option<String> {
    let text = text.trim();
    let is_filled = !text.is_empty() && !text.contains("Format");
    is_filled.then(|| text.to_owned())
}

/// `cargo package` writes the commit into this file.
fn from_package() -> Option<String> {
    commit_of_package(&std::fs::read_to_string(".cargo_vcs_info.json").ok()?)
}

/// The commit in `.cargo_vcs_info.json`, as short as git has it.
pub fn commit_of_package(text: &str) -> Option<String> {
    let hash = text.split("\"sha1\"").nth(1)?.split('"').nth(1)?;
    let is_hash = hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash[..7].to_owned())
}
