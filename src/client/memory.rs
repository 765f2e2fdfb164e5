//! What is remembered of uploads that were interrupted, so that the same command goes on with them.
//!
//! One small JSON file for each upload under way, in `$XDG_STATE_HOME/bitsd/put` (or
//! `~/.local/state/bitsd/put`). Its name is a digest of what makes two runs the same upload: the
//! URL, the file's path, its size and its time. It is made when the server has given a session, and
//! removed when the upload has ended, well or not. Nothing depends on it: if it cannot be read or
//! written, a later run only begins at the first byte.
//!
//! The file is locked while its upload runs. A second run of the same upload at the same time finds
//! it locked and begins a session of its own, because two clients of one session would take it from
//! each other for ever.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::url::Url;

/// Where interrupted uploads are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    folder: PathBuf,
}

/// What makes two runs the same upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Where it goes.
    pub url: String,
    /// The file, without links and `..`.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified_ns: u64,
}

/// What stands in a file of the memory.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    identity: Identity,
    session: String,
}

/// The place of one upload in the memory, held until its end.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    file: File,
    identity: Identity,
}

impl Identity {
    /// The identity of a file on its way to a URL. `None` where the path ends in no name.
    pub fn of(path: &Path, url: &Url, bytes: u64, modified: Option<SystemTime>) -> Option<Self> {
        let modified = modified?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            url: url.to_string(),
            path: fs::canonicalize(path).ok()?,
            bytes,
            modified_ns: u64::try_from(modified.as_nanos()).ok()?,
        })
    }

    fn digest(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        let digest = Sha256::digest(text.as_bytes());
        digest[..16].iter().fold(String::new(), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        })
    }
}

impl Memory {
    /// The memory of whoever runs this; `None` if there is no home to keep it in.
    pub fn of_user() -> Option<Self> {
        let absolute = |name: &str| {
            let folder = PathBuf::from(std::env::var_os(name)?);
            folder.is_absolute().then_some(folder)
        };
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
        Some(Self {
            folder: state.join("bitsd/put"),
        })
    }

    /// A memory in this folder.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The place of an upload; `None` if it cannot be had, or another process has it.
    pub fn entry(&self, identity: Identity) -> Option<Entry> {
        self.forget_old();
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        made.ok()?;
        let path = self.folder.join(format!("{}.json", identity.digest()));
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .ok()?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            // Whoever had it before may have removed it between the two calls above.
            if is_same(&file, &path) {
                return Some(Entry {
                    path,
                    file,
                    identity,
                });
            }
        }
    }

    /// Removes what no server remembers any more.
    fn forget_old(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let age = age.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > KEPT_FOR) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

impl Entry {
    /// The session of an earlier run.
    pub fn recall(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0)).ok()?;
        (&self.file)
            .take(NOTE_BYTES_MAX)
            .read_to_string(&mut text)
            .ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        // Two uploads may have one digest only in theory, but the file may be anybody's work.
        (note.identity == self.identity).then_some(note.session)
    }

    /// Remembers the session of this run.
    ///
    /// # Errors
    /// Those of writing the file; the upload itself does not mind.
    pub fn note(&mut self, session: &str) -> io::Result<()> {
        let note = Note {
            identity: self.identity.clone(),
            session: session.to_owned(),
        };
        let text = serde_json::to_vec(&note)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)
    }

    /// The upload has ended: there is nothing to go on with.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Longer than servers keep sessions by default (14 days), and than most keep them at all.
const KEPT_FOR: Duration = Duration::from_secs(90 * 86_400);
/// A path, a URL and a session id have far less.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(folder: &Path) -> Identity {
        let path = folder.join("a.bin");
        fs::write(&path, "x").unwrap();
        let url = "http://h/a.bin".parse().unwrap();
        Identity::of(&path, &url, 1, Some(UNIX_EPOCH + Duration::from_secs(7))).unwrap()
    }

    #[test]
    fn a_session_is_recalled_by_the_same_upload_only() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("state"));
        let same = identity(folder.path());
        let mut entry = memory.entry(same.clone()).unwrap();
        assert_eq!(entry.recall(), None);
        entry.note("{S}").unwrap();
        entry.note("{T}").unwrap();
        drop(entry);
        assert_eq!(
            memory.entry(same.clone()).unwrap().recall(),
            Some("{T}".to_owned())
        );
        for other in [
            Identity {
                bytes: 2,
                ..same.clone()
            },
            Identity {
                modified_ns: 8,
                ..same.clone()
            },
            Identity {
                url: "http://h/b.bin".to_owned(),
                ..same.clone()
            },
        ] {
            assert_eq!(memory.entry(other).unwrap().recall(), None);
        }
        memory.entry(same.clone()).unwrap().forget();
        assert_eq!(memory.entry(same).unwrap().recall(), None);
    }

    #[test]
    fn an_upload_that_runs_is_not_gone_on_with_by_another() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("state"));
        let same = identity(folder.path());
        let first = memory.entry(same.clone()).unwrap();
        assert!(memory.entry(same.clone()).is_none());
        drop(first);
        assert!(memory.entry(same).is_some());
    }

    #[test]
    fn what_is_no_note_is_no_session() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("state"));
        let same = identity(folder.path());
        let entry = memory.entry(same.clone()).unwrap();
        fs::write(&entry.path, "{\"session\":").unwrap();
        drop(entry);
        assert_eq!(memory.entry(same).unwrap().recall(), None);
    }
}
