//! The custody ledger, as anybody may read it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// All whole lines, as they stand there now.
pub fn lines(ledger: &Path) -> Vec<Value> {
    let mut days: Vec<PathBuf> = (fs::read_dir(ledger).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    days.sort();
    let text: String = days
        .iter()
        .map(|day| fs::read_to_string(day).unwrap())
        .collect();
    // The last one may just be on its way.
    (text.split_inclusive('\n'))
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
