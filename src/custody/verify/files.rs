//! Whether a file is what the ledger says of it.
//!
//! A name may have several lines, and the last one need not be of the file that came last: where
//! the ledger could not be written for a while, a file that was replaced meanwhile gets its line
//! after the one that has replaced it. So times decide: a file is surely replaced where another one
//! began to get the name after its line was written. All others may stand there, and nobody is
//! accused of anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Discrepancy;
use crate::custody::entry::LedgerLine;
use crate::http::digest::parse_hex;
use crate::named_file;

/// What a line says of a file.
pub struct FileLine {
    line: String,
    /// How many lines there were before.
    order: u64,
    bytes: u64,
    pub sha256: Option<[u8; 32]>,
    /// Not before that it got its name, and not after `time`; as the lines have it, which sorts as
    /// it should. Empty where nothing is known.
    named: Box<str>,
    time: Box<str>,
}

impl FileLine {
    /// By a line in this place.
    pub fn by(read: &LedgerLine<'_>, line: String, order: u64) -> Self {
        Self {
            line,
            order,
            bytes: read.bytes,
            sha256: read.sha256.as_deref().and_then(parse_hex),
            named: read.named.as_deref().unwrap_or_default().into(),
            time: (*read.time).into(),
        }
    }
}

/// What is told of each file, in the order of the lines, whatever links lead to it; and how many
/// names lead to one that has another.
pub fn by_place(
    files: BTreeMap<PathBuf, Vec<FileLine>>,
) -> (BTreeMap<PathBuf, Vec<FileLine>>, u64) {
    let mut places: BTreeMap<PathBuf, Vec<FileLine>> = BTreeMap::new();
    let mut same = 0;
    for (path, told) in files {
        let known = places.entry(place(&path)).or_default();
        same += u64::from(!known.is_empty());
        known.extend(told);
    }
    for told in places.values_mut() {
        told.sort_by_key(|told| told.order);
    }
    (places, same)
}

/// The path with no link in it but the last name, which is the file's own.
fn place(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .and_then(|folder| fs::canonicalize(folder).ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// What is wrong with a file of which this is told.
///
/// # Errors
/// It cannot be read.
pub fn judge(path: &Path, told: &[FileLine]) -> io::Result<Option<Discrepancy>> {
    let (standing, replaced) = standing(told);
    let Some(last) = standing.last() else {
        return Ok(None);
    };
    let (path, line) = (path.to_owned(), last.line.clone());
    // Publication makes no link: somebody has put it there.
    let file = match named_file::open_itself(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some(Discrepancy::FileMissing(path, line)));
        }
        Err(error) => return Err(error),
    };
    let bytes = file.metadata()?.len();
    let has_digest = |told: &&FileLine| told.bytes == bytes && told.sha256.is_some();
    let sha256 = match told.iter().find(has_digest) {
        Some(_) => Some(sha256_of(file, bytes)?),
        None => None,
    };
    let is_it =
        |told: &&&FileLine| told.bytes == bytes && (told.sha256.is_none() || told.sha256 == sha256);
    if standing.iter().any(|told| is_it(&told)) {
        return Ok(None);
    }
    if let Some(older) = replaced.iter().find(is_it) {
        let older = older.line.clone();
        return Ok(Some(Discrepancy::FilePutBack(path, older, line)));
    }
    Ok(Some(
        match standing.iter().any(|told| told.bytes == bytes) {
            true => Discrepancy::FileChanged(path, line),
            false => Discrepancy::OtherSize(path, line, bytes, last.bytes),
        },
    ))
}

/// Those that may stand there, and those that were surely replaced, each in the order of the
/// lines: by one whose line is a later one, and which got its name after the line of the first was
/// there. Where the clock was set back, either alone would accuse a right file.
fn standing(told: &[FileLine]) -> (Vec<&FileLine>, Vec<&FileLine>) {
    let (mut standing, mut replaced) = (Vec::new(), Vec::new());
    // When the last of those got its name whose lines follow.
    let mut latest = "";
    for one in told.iter().rev() {
        match latest > &*one.time {
            true => replaced.push(one),
            false => standing.push(one),
        }
        // A line that is older than the name was written by a clock that was set back.
        latest = latest.max((&*one.named).min(&*one.time));
    }
    standing.reverse();
    replaced.reverse();
    (standing, replaced)
}

fn sha256_of(file: fs::File, bytes: u64) -> io::Result<[u8; 32]> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    // It may grow as fast as it is read.
    let mut file = file.take(bytes + 1);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(order: u64, content: &str, named: &str, time: &str) -> FileLine {
        FileLine {
            line: format!("day:{order}"),
            order,
            bytes: content.len() as u64,
            sha256: Some(Sha256::digest(content).into()),
            named: named.into(),
            time: time.into(),
        }
    }

    /// What is said of a file with this content.
    fn said(told: &[FileLine], content: &str) -> Option<String> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        fs::write(&path, content).unwrap();
        judge(&path, told).unwrap().map(|wrong| wrong.to_string())
    }

    #[test]
    fn a_file_is_right_that_may_be_the_last_one() {
        // The ledger failed after the first one had its name: its line came last.
        let late = [
            told(1, "second", "10:05", "10:06"),
            told(2, "first", "10:01", "10:09"),
        ];
        assert_eq!(said(&late, "second"), None);
        assert_eq!(said(&late, "first"), None, "nobody knows");
        assert!(said(&late, "third!").unwrap().contains("it was changed"));
        // The usual order.
        let usual = [
            told(1, "first", "10:01", "10:02"),
            told(2, "second", "10:05", "10:06"),
        ];
        assert_eq!(said(&usual, "second"), None);
        let back = said(&usual, "first").unwrap();
        assert!(back.contains("the file of day:1 again"), "{back}");
        assert!(back.contains("that of day:2 had replaced"), "{back}");
        assert!(
            said(&usual, "other size")
                .unwrap()
                .contains("not the 6 of day:2")
        );
        // Two at once.
        let both = [
            told(1, "first", "10:01", "10:03"),
            told(2, "second", "10:02", "10:03"),
        ];
        assert_eq!((said(&both, "first"), said(&both, "second")), (None, None));
        // Lines that say nothing of it.
        let old = [
            told(1, "first", "", "10:02"),
            told(2, "second", "", "10:06"),
        ];
        assert_eq!((said(&old, "first"), said(&old, "second")), (None, None));
        // The clock was set back before the second one came.
        let back = [
            told(1, "first", "10:00:10", "10:00:11"),
            told(2, "second", "10:00:05", "10:00:06"),
        ];
        assert_eq!(said(&back, "second"), None);
        // One that came after all others replaced them, whatever the clock was before.
        let [first, second] = back;
        let later = [first, second, told(3, "third", "10:00:08", "10:00:09")];
        assert_eq!(said(&later, "third"), None);
        assert!(said(&later, "second").unwrap().contains("again"));
        // A clock that makes no sense accuses nobody.
        let odd = [
            told(1, "first", "10:05", "10:06"),
            told(2, "second", "10:10", "10:04"),
        ];
        assert_eq!((said(&odd, "first"), said(&odd, "second")), (None, None));
    }

    #[test]
    fn names_that_lead_to_one_file_are_one() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", place.path().join("b")).unwrap();
        let files = BTreeMap::from([
            (
                place.path().join("a/f"),
                vec![told(2, "second", "10:05", "10:06")],
            ),
            (
                place.path().join("b/f"),
                vec![told(1, "first", "10:01", "10:02")],
            ),
            (
                place.path().join("none/f"),
                vec![told(3, "third", "10:07", "10:08")],
            ),
        ]);
        let (places, same) = by_place(files);
        assert_eq!((places.len(), same), (2, 1));
        let one = &places[&fs::canonicalize(place.path()).unwrap().join("a/f")];
        let lines: Vec<_> = one.iter().map(|told| &*told.line).collect();
        assert_eq!(lines, ["day:1", "day:2"]);
    }
}
