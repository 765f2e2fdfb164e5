//! What is remembered of the end of the ledger apart from it, so that a start can tell whether the
//! end is missing: the chain itself proves what comes before a line, and nothing of what follows.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::http::digest::{Hex, parse_hex};

/// Who remembers.
pub trait Witness: Send {
    /// What was noted last.
    ///
    /// # Errors
    /// Of reading it.
    fn recall(&self) -> io::Result<Option<Vec<u8>>>;

    /// Notes this instead.
    ///
    /// # Errors
    /// Of writing; what was noted before stands.
    fn note(&self, note: &[u8]) -> io::Result<()>;
}

/// Where the last line was that survives a power cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadNote {
    pub folder: String,
    pub file: String,
    head: String,
}

impl HeadNote {
    /// Of this line.
    pub fn new(folder: &Path, file: &str, head: &[u8; 32]) -> Self {
        Self {
            folder: folder.to_string_lossy().into(),
            file: file.to_owned(),
            head: Hex(head).to_string(),
        }
    }

    /// The hash of the line.
    pub fn head(&self) -> Option<[u8; 32]> {
        parse_hex(&self.head)
    }

    /// As it is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("strings always serialize");
        bytes.push(b'\n');
        bytes
    }

    /// What a note says; `None` if it makes no sense.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let note: Self = serde_json::from_slice(bytes).ok()?;
        note.head().is_some().then_some(note)
    }
}

/// The log has the hash, for whoever puts the days together again.
pub(super) fn tell_of_put_away(folder: &Path, file: &str, head: &[u8; 32]) {
    let (event, folder, head) = ("custody_put_away", folder.display(), Hex(head));
    tracing::info!(
        event, %folder, file, %head,
        "the last day of the custody ledger was taken away after it was over: the next line names its last one"
    );
}

/// Of a start that does not find it.
pub(super) fn tell_of_cut(note: &HeadNote, head: &[u8; 32]) {
    let (event, shown) = ("custody_cut", Hex(head));
    let (folder, file) = (&note.folder, &note.file);
    tracing::error!(
        event, folder, file, head = %shown,
        "the last line of the custody ledger is not there: its end was taken away, or `custody` names another folder; \
         the next line names it all the same, so that `bitsd custody verify` finds the gap"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = HeadNote::new(Path::new("/srv/custody"), "2026-11-18.jsonl", &[7; 32]);
        let bytes = note.to_bytes();
        assert_eq!(HeadNote::read(&bytes), Some(note.clone()));
        assert_eq!(note.head(), Some([7; 32]));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(HeadNote::read(&bytes[..cut]), None, "{cut}");
        }
    }
}
