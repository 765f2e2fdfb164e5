//! Whether a ledger is what was written: each line follows the one before, over all days, and the
//! files are those of which it speaks.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::chain::{self, BEGINNING, hash_of};
use super::entry::LedgerLine;
use super::folder;
use crate::bits::session_id::SessionId;
use crate::http::digest::{Hex, parse_hex};
use crate::named_file;
use files::FileLine;

mod files;

/// So many discrepancies are kept; all are counted.
const TOLD_MAX: usize = 1_000;

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// A line of this hash must be there: the log has told of it (`custody_head`). That of an empty
    /// ledger is in every one, and proves nothing where there are lines.
    pub head: Option<[u8; 32]>,
    /// The published files are read, and compared with their lines.
    pub looks_at_files: bool,
    /// Earlier days were taken away on purpose.
    pub begins_later: bool,
}

/// Something that is not as it was written. Places are a file and the number of a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Discrepancy {
    #[error("{0}:{1} is no line of a ledger")]
    NotALine(String, usize),
    #[error(
        "{0}:{1} does not follow line {before}: that one was changed, or lines between them were removed, added or moved",
        before = .1 - 1
    )]
    NotFollowing(String, usize),
    #[error(
        "{0}:1 does not follow the last line of {1}: that one was changed, or the end of that day or a whole day \
         between them is missing"
    )]
    DayMissing(String, String),
    #[error(
        "{0}:1 is not the beginning: earlier days are missing (say --begins-later if they were taken away on purpose)"
    )]
    BeginningMissing(String),
    #[error("{0}: its last line has no end")]
    NotEnded(String),
    #[error("{0}:{1} tells of session {2} otherwise than an earlier line does")]
    ToldOtherwise(String, usize, SessionId),
    #[error("no line has the hash {hash}: the end is missing, or the line was changed", hash = Hex(.0))]
    HeadMissing([u8; 32]),
    #[error("{file}: it is not there ({line})", file = .0.display(), line = .1)]
    FileMissing(PathBuf, String),
    #[error("{file}: it has {2} bytes, not the {3} of {1}", file = .0.display())]
    OtherSize(PathBuf, String, u64, u64),
    #[error("{file}: its SHA-256 is not that of {1}: it was changed", file = .0.display())]
    FileChanged(PathBuf, String),
    #[error(
        "{file}: it is the file of {1} again, which that of {2} had replaced: somebody has put it back (or the clock \
         was set back)",
        file = .0.display()
    )]
    FilePutBack(PathBuf, String, String),
    #[error("{file}: it cannot be read: {1}", file = .0.display())]
    FileUnreadable(PathBuf, String),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    pub days: usize,
    pub lines: u64,
    /// Lines that a crash has made stand twice, in the same words.
    pub repeats: u64,
    /// Files that were read and compared.
    pub files: u64,
    /// Files of which no digest was computed: only their sizes were compared.
    pub files_without_digest: u64,
    /// Names of published files that lead to a file which another line names as well, by a link.
    pub names_of_others: u64,
    /// Published files that went into an object store: nobody has looked at those.
    pub objects: u64,
    /// The first ones.
    pub discrepancies: Vec<Discrepancy>,
    pub discrepancies_count: u64,
    /// Ends that a crash has torn off, by the names of their files.
    pub torn_ends: Vec<String>,
    /// The same of what somebody has put in the place of the ledger's own.
    pub others: Vec<String>,
    /// The hash of the last line.
    pub head: [u8; 32],
}

impl Audit {
    fn tell(&mut self, discrepancy: Discrepancy) {
        self.discrepancies_count += 1;
        if self.discrepancies.len() < TOLD_MAX {
            self.discrepancies.push(discrepancy);
        }
    }
}

/// Goes through all days of a ledger.
///
/// # Errors
/// The ledger itself cannot be read.
pub fn verify(path: &Path, wishes: &Wishes) -> io::Result<Audit> {
    let mut walk = Walk::through(path, wishes)?;
    if wishes.looks_at_files {
        walk.look_at_files(path, REST);
    }
    Ok(walk.verified)
}

/// So often a file that is replaced while it is read is looked at again.
const ROUNDS_MAX: u32 = 10;
/// What a file of a moment ago may wait for its line.
const REST: Duration = Duration::from_secs(1);

/// Calls with each line of all days, newline included, under the name of its file and its number.
///
/// # Errors
/// Of reading.
pub fn each_line(
    path: &Path,
    name: &str,
    look: impl FnMut(usize, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let file = named_file::open(&path.join(name))?;
    chain::each_line(BufReader::with_capacity(1 << 20, file), look)
}

struct Walk<'w> {
    wishes: &'w Wishes,
    verified: Audit,
    is_head_found: bool,
    /// What was told of each session, as a hash.
    sessions: BTreeMap<SessionId, [u8; 32]>,
    files: BTreeMap<PathBuf, Vec<FileLine>>,
    /// What was found before any file was looked at.
    ledger_discrepancies: u64,
    /// The name of the file before.
    day_before: Option<String>,
}

impl<'w> Walk<'w> {
    /// All days, and no file yet.
    fn through(path: &Path, wishes: &'w Wishes) -> io::Result<Self> {
        let mut walk = Self {
            wishes,
            verified: Audit {
                torn_ends: folder::torn_ends(path)?,
                others: folder::others(path)?,
                ..Audit::default()
            },
            is_head_found: wishes.head.is_none_or(|head| head == BEGINNING),
            sessions: BTreeMap::new(),
            files: BTreeMap::new(),
            ledger_discrepancies: 0,
            day_before: None,
        };
        for name in folder::days(path)? {
            walk.day(path, name)?;
        }
        walk.ledger_discrepancies = walk.verified.discrepancies_count;
        if let (false, Some(head)) = (walk.is_head_found, wishes.head) {
            walk.verified.tell(Discrepancy::HeadMissing(head));
        }
        Ok(walk)
    }

    fn day(&mut self, path: &Path, name: String) -> io::Result<()> {
        self.verified.days += 1;
        let read = each_line(path, &name, |number, line| {
            self.line(&name, number, line);
            Ok(())
        });
        read.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        self.day_before = Some(name);
        Ok(())
    }

    fn line(&mut self, name: &str, number: usize, line: &[u8]) {
        let before = self.verified.head;
        self.verified.lines += 1;
        self.verified.head = hash_of(line);
        self.is_head_found |= self.wishes.head == Some(self.verified.head);
        if !line.ends_with(b"\n") {
            self.verified.tell(Discrepancy::NotEnded(name.to_owned()));
        }
        let Some(read) = LedgerLine::read(line) else {
            let name = name.to_owned();
            return self.verified.tell(Discrepancy::NotALine(name, number));
        };
        if parse_hex(&read.prev) != Some(before) {
            self.tell_gap(name, number);
        }
        let is_repeat = self.session(name, number, &read);
        if self.wishes.looks_at_files && read.is_published() {
            if read.object.is_some() {
                self.verified.objects += 1;
                return;
            }
            // What stands twice was written when its first line was.
            if !is_repeat {
                let file = Path::new(&*read.root).join(&*read.path);
                let line = format!("{name}:{number}");
                let told = FileLine::by(&read, line, self.verified.lines);
                self.files.entry(file).or_default().push(told);
            }
        }
    }

    fn tell_gap(&mut self, name: &str, number: usize) {
        let here = name.to_owned();
        let discrepancy = match (number, &self.day_before) {
            (1, Some(before)) => Discrepancy::DayMissing(here, before.clone()),
            (1, None) if self.wishes.begins_later => return,
            (1, None) => Discrepancy::BeginningMissing(here),
            _ => Discrepancy::NotFollowing(here, number),
        };
        self.verified.tell(discrepancy);
    }

    /// One that a crash made forget stands twice: with the same file, or somebody has added it.
    /// Whether it is the first.
    fn session(&mut self, name: &str, number: usize, read: &LedgerLine<'_>) -> bool {
        let Some(id) = read.session_id() else {
            return false;
        };
        let told = (
            &read.ending,
            &read.root,
            &read.path,
            read.bytes,
            &read.sha256,
        );
        let told = hash_of(format!("{told:?}").as_bytes());
        match self.sessions.insert(id, told) {
            None => false,
            Some(before) if before == told => {
                self.verified.repeats += 1;
                true
            }
            Some(_) => {
                let name = name.to_owned();
                self.verified
                    .tell(Discrepancy::ToldOtherwise(name, number, id));
                false
            }
        }
    }

    /// Reads the files. A server that runs may replace one meanwhile: before a file is told of, the
    /// ledger is read again, after a `rest` in which a line that is on its way can come.
    fn look_at_files(&mut self, path: &Path, rest: Duration) {
        let (files, same) = files::by_place(std::mem::take(&mut self.files));
        self.verified.names_of_others = same;
        let mut odd = Vec::new();
        for (file, told) in files {
            self.verified.files += 1;
            let is_without = told.last().is_some_and(|told| told.sha256.is_none());
            self.verified.files_without_digest += u64::from(is_without);
            let judged = files::judge(&file, &told);
            if !matches!(judged, Ok(None)) {
                odd.push((file, told.len(), judged));
            }
        }
        for _round in 0..ROUNDS_MAX {
            if odd.is_empty() {
                return;
            }
            thread::sleep(rest);
            let mut now = self.lines_since(path);
            let mut still = Vec::new();
            for (file, before, judged) in odd {
                // A place is told by its folder, which may have gone.
                let newer = now.remove(&file).filter(|newer| newer.len() > before);
                let Some(newer) = newer else {
                    self.tell_of_file(file, judged);
                    continue;
                };
                // It may have been replaced once more.
                let judged = files::judge(&file, &newer);
                if !matches!(judged, Ok(None)) {
                    still.push((file, newer.len(), judged));
                }
            }
            odd = still;
        }
        for (file, ..) in odd {
            let why = "it is replaced again and again".to_owned();
            self.verified.tell(Discrepancy::FileUnreadable(file, why));
        }
    }

    fn tell_of_file(&mut self, file: PathBuf, judged: io::Result<Option<Discrepancy>>) {
        match judged {
            Ok(None) => {}
            Ok(Some(discrepancy)) => self.verified.tell(discrepancy),
            Err(error) => {
                let why = error.to_string();
                self.verified.tell(Discrepancy::FileUnreadable(file, why));
            }
        }
    }

    /// What all days tell of files by now; nothing if the ledger cannot be read any more, or is
    /// worse than it was: no such line excuses a file.
    fn lines_since(&self, path: &Path) -> BTreeMap<PathBuf, Vec<FileLine>> {
        let wishes = Wishes {
            head: None,
            ..self.wishes.clone()
        };
        match Walk::through(path, &wishes) {
            Ok(walk) if walk.verified.discrepancies_count <= self.ledger_discrepancies => {
                files::by_place(walk.files).0
            }
            Ok(_) | Err(_) => BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sha2::{Digest as _, Sha256};

    use super::super::chain::Chain;
    use super::super::entry::tests::{entry, scribe};
    use super::*;

    /// Two days of three lines each.
    fn ledger() -> (tempfile::TempDir, [u8; 32]) {
        let place = tempfile::tempdir().unwrap();
        let mut chain = Chain::new(scribe());
        for (day, numbers) in [(26, 1..=3), (27, 4..=6)] {
            let mut lines = Vec::new();
            numbers.for_each(|number| chain.append(&entry(number), &mut lines));
            chain.keep();
            fs::write(place.path().join(format!("2026-11-{day}.jsonl")), lines).unwrap();
        }
        (place, chain.head())
    }

    /// What is found when some lines of the second day were changed.
    fn after(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<String> {
        let (place, head) = ledger();
        let path = place.path().join("2026-11-27.jsonl");
        let bytes = fs::read(&path).unwrap();
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let mut lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        change(&mut lines);
        fs::write(&path, lines.concat()).unwrap();
        found(place.path(), Some(head))
    }

    fn found(path: &Path, head: Option<[u8; 32]>) -> Vec<String> {
        let wishes = Wishes {
            head,
            ..Wishes::default()
        };
        let verified = verify(path, &wishes).unwrap();
        let words = verified.discrepancies.iter().map(ToString::to_string);
        words.collect()
    }

    #[test]
    fn each_thing_that_can_be_done_to_a_ledger_is_found() {
        assert_eq!(after(|_| {}), [""; 0]);
        let flip = |line: &mut Vec<u8>| {
            let text = String::from_utf8(line.clone()).unwrap();
            *line = text.replace("\"bytes\":5", "\"bytes\":6").into_bytes();
        };
        let told = after(|lines| flip(&mut lines[1]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("2026-11-27.jsonl:3 does not follow line 2"),
            "{told:?}"
        );
        let told = after(|lines| drop(lines.remove(1)));
        assert!(
            told[0].starts_with("2026-11-27.jsonl:2 does not follow line 1"),
            "{told:?}"
        );
        let told = after(|lines| lines.swap(0, 1));
        assert!(
            told[0].contains("2026-11-27.jsonl:1 does not follow the last line of"),
            "{told:?}"
        );
        assert_eq!(told.len(), 3, "{told:?}");
        let told = after(|lines| drop(lines.remove(0)));
        assert!(
            told[0].contains("a whole day between them is missing"),
            "{told:?}"
        );
        // Only a witness knows what came last.
        for told in [
            after(|lines| flip(&mut lines[2])),
            after(|lines| drop(lines.pop())),
            after(Vec::clear),
        ] {
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with("no line has the hash "), "{told:?}");
        }
        let told = after(|lines| lines[2].truncate(40));
        assert!(
            told[0].contains("has no end") && told[1].contains("no line of"),
            "{told:?}"
        );
        let long = vec![b'x'; 5 << 20];
        let told = after(|lines| lines[2] = [&long[..], b"\n"].concat());
        assert!(
            told[0].starts_with("2026-11-27.jsonl:3 is no line"),
            "{told:?}"
        );
        assert!(
            told.len() == 2 && told[1].starts_with("no line has the hash"),
            "{told:?}"
        );
        let told = after(|lines| lines[2] = long.clone());
        assert!(
            told[0].contains("has no end") && told.len() == 3,
            "{told:?}"
        );
        let told = after(|lines| lines.push(lines[1].clone()));
        assert!(told[0].contains(":4 does not follow line 3"), "{told:?}");
    }

    #[test]
    fn a_day_that_is_missing_is_found_and_one_that_was_taken_away_may_be_said() {
        let (place, head) = ledger();
        fs::remove_file(place.path().join("2026-11-26.jsonl")).unwrap();
        let told = found(place.path(), Some(head));
        assert!(told[0].contains("earlier days are missing"), "{told:?}");
        let wishes = Wishes {
            head: Some(head),
            begins_later: true,
            ..Wishes::default()
        };
        assert_eq!(
            verify(place.path(), &wishes).unwrap().discrepancies_count,
            0
        );
        let (place, head) = ledger();
        fs::remove_file(place.path().join("2026-11-27.jsonl")).unwrap();
        assert_eq!(found(place.path(), None), [""; 0]);
        assert_eq!(found(place.path(), Some(head)).len(), 1);
    }

    #[test]
    fn a_line_twice_is_a_repeat_if_it_says_the_same() {
        for (bytes, repeats) in [(5, 1), (6, 0)] {
            let place = tempfile::tempdir().unwrap();
            let mut lines = Vec::new();
            entry(1).append(&scribe(), &BEGINNING, &mut lines);
            let prev = hash_of(&lines);
            let mut again = entry(1);
            (again.bytes, again.time_ms) = (bytes, again.time_ms + 1_000);
            again.append(&scribe(), &prev, &mut lines);
            fs::write(place.path().join("2026-11-26.jsonl"), lines).unwrap();
            let verified = verify(place.path(), &Wishes::default()).unwrap();
            assert_eq!(verified.repeats, repeats);
            assert_eq!(verified.discrepancies_count, 1 - repeats);
        }
    }

    /// A server that runs has replaced a file since its line was read, as it should.
    #[test]
    fn a_file_that_is_replaced_meanwhile_is_not_told_of() {
        let place = tempfile::tempdir().unwrap();
        let day = place.path().join("2026-11-26.jsonl");
        let told_of = |number, bytes: &[u8; 5]| {
            let mut told = entry(number);
            told.root = place.path().to_str().unwrap().to_owned();
            told.path = "f.bin".to_owned();
            told.digests.as_mut().unwrap().sha256 = Sha256::digest(bytes).into();
            told
        };
        let mut lines = Vec::new();
        told_of(1, b"first").append(&scribe(), &BEGINNING, &mut lines);
        let head = hash_of(&lines);
        fs::write(&day, &lines).unwrap();
        let wishes = Wishes {
            looks_at_files: true,
            ..Wishes::default()
        };
        for has_line in [true, false] {
            fs::write(&day, &lines).unwrap();
            let mut walk = Walk::through(place.path(), &wishes).unwrap();
            fs::write(place.path().join("f.bin"), "other").unwrap();
            if has_line {
                let mut both = lines.clone();
                told_of(2, b"other").append(&scribe(), &head, &mut both);
                fs::write(&day, both).unwrap();
            }
            walk.look_at_files(place.path(), Duration::ZERO);
            let told = u64::from(!has_line);
            assert_eq!(walk.verified.discrepancies_count, told, "{has_line}");
        }
    }

    #[test]
    fn a_file_that_was_changed_is_found() {
        let place = tempfile::tempdir().unwrap();
        let mut told = entry(1);
        told.root = place.path().to_str().unwrap().to_owned();
        told.path = "f.bin".to_owned();
        told.digests.as_mut().unwrap().sha256 = Sha256::digest(b"bytes").into();
        let mut lines = Vec::new();
        told.append(&scribe(), &BEGINNING, &mut lines);
        fs::write(place.path().join("2026-11-26.jsonl"), lines).unwrap();
        let wishes = Wishes {
            looks_at_files: true,
            ..Wishes::default()
        };
        let found = || {
            let verified = verify(place.path(), &wishes).unwrap();
            assert_eq!(verified.files, 1);
            verified.discrepancies.first().map(ToString::to_string)
        };
        let file = place.path().join("f.bin");
        assert!(
            found()
                .unwrap()
                .contains("it is not there (2026-11-26.jsonl:1)")
        );
        fs::write(&file, "bytes").unwrap();
        assert_eq!(found(), None);
        fs::write(&file, "bytez").unwrap();
        assert!(found().unwrap().contains("it was changed"));
        fs::write(&file, "bytes and more").unwrap();
        assert!(found().unwrap().contains("14 bytes, not the 5"));
        // Whoever may write to the folder must not keep the auditor from a result.
        fs::remove_file(&file).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(
            found()
                .unwrap()
                .contains("it is a pipe, not a regular file")
        );
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(
            found()
                .unwrap()
                .contains("it is a link, not a regular file")
        );
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(
            found()
                .unwrap()
                .contains("it is a directory, not a regular file")
        );
    }
}
