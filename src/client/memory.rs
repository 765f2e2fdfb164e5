//! What is remembered of uploads that were interrupted, so that the same command goes on with them.
//!
//! One small JSON file for each upload under way, in `$XDG_STATE_HOME/bitsd/put` (or
//! `~/.local/state/bitsd/put`). Its name is a digest of the URL and the file's path. In it stands
//! what tells the file from another one that had the same path: its size, its times and its inode.
//! The time of the last change of the inode is among them, because that of the content can be set
//! back (`cp -p`, `rsync -t`). Before the Close is sent that is noted: a run that is killed then
//! cannot know whether the file is at its destination, and a later one sends the Close again, which
//! a server that remembers the session answers as before (protocol.md 7.3). Of a file that is
//! another one by now, the session is given up at the server, and a new one begun. The note is made
//! when the server has given a session, and removed when the upload has ended, well or not. Nothing
//! depends on it: if it cannot be read or written, a later run only begins at the first byte.
//!
//! The file is locked while its upload runs. A second run of the same upload at the same time finds
//! it locked and begins a session of its own, because two clients of one session would take it from
//! each other for ever.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Which file has this path; `None` if none has.
    pub version: Option<Version>,
}

/// What tells a file from another one that had its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its size.
    pub bytes: u64,
    /// When it was last written to, in seconds since 1970 and nanoseconds.
    pub modified: (i64, i64),
    /// When it, or what is known of it, was last changed: nobody can set that back.
    pub changed: (i64, i64),
    /// Its number on its file system.
    pub inode: u64,
}

/// What stands in a file of the memory.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    left: Left,
}

/// What an earlier run has left at the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its session.
    pub session: String,
    /// The node of a farm that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// All bytes are there, and the Close may have been sent: if so, the file is at its
    /// destination, and the server says that again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_closing: bool,
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
    pub fn of(path: &Path, url: &Url, metadata: Option<&Metadata>) -> Option<Self> {
        let version = metadata.map(|metadata| Version {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        });
        Some(Self {
            url: url.to_string(),
            path: whole(path)?,
            version,
        })
    }

    /// Of the URL and the path, so that what was left of another version is found.
    /// `None` for a path that is not UTF-8, and cannot be noted.
    fn digest(&self) -> Option<String> {
        digest_of(&(&self.url, &self.path))
    }
}

/// A name for something that is remembered; `None` for what cannot be written.
pub(super) fn digest_of(what: &impl Serialize) -> Option<String> {
    let text = serde_json::to_string(what).ok()?;
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest[..16].iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    });
    Some(digits)
}

/// A path without links and `..`; of a file that is not there, that of its folder.
pub(super) fn whole(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok().or_else(|| {
        let folder = path.parent()?;
        let folder = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        Some(fs::canonicalize(folder).ok()?.join(path.file_name()?))
    })
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

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The place of an upload; `None` if it cannot be had, or another process has it.
    pub fn entry(&self, identity: Identity) -> Option<Entry> {
        self.forget_old();
        make(&self.folder).ok()?;
        self.open(identity, OpenOptions::new().create(true))
    }

    /// The same, if there is one.
    pub fn existing(&self, identity: Identity) -> Option<Entry> {
        self.open(identity, &mut OpenOptions::new())
    }

    fn open(&self, identity: Identity, options: &mut OpenOptions) -> Option<Entry> {
        let path = self.folder.join(format!("{}.json", identity.digest()?));
        options.read(true).write(true).truncate(false).mode(0o600);
        loop {
            let file = options.open(&path).ok()?;
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
    /// The session of an earlier run that sent the same file.
    pub fn recall(&mut self) -> Option<Left> {
        let note = self.read().filter(|note| note.identity == self.identity)?;
        self.identity.version.is_some().then_some(note.left)
    }

    /// The session of an earlier run that sent another file, which had the same path.
    pub fn recall_other(&mut self) -> Option<Left> {
        let note = self.read().filter(|note| note.identity != self.identity)?;
        Some(note.left)
    }

    fn read(&mut self) -> Option<Note> {
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0)).ok()?;
        (&self.file)
            .take(NOTE_BYTES_MAX)
            .read_to_string(&mut text)
            .ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        // Two uploads may have one digest only in theory, but the file may be anybody's work.
        let Identity { url, path, .. } = &self.identity;
        (note.identity.url == *url && note.identity.path == *path).then_some(note)
    }

    /// Remembers the session of this run.
    ///
    /// # Errors
    /// Those of writing the file; the upload itself does not mind.
    pub fn note(&mut self, left: Left) -> io::Result<()> {
        let note = Note {
            identity: self.identity.clone(),
            left,
        };
        let text = serde_json::to_vec(&note)?;
        // Whoever is killed in between has either note whole: a later one is the longer one.
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }

    /// The upload has ended: there is nothing to go on with.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

pub(super) fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Makes the folder of a memory, for its user alone.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
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
        Identity::of(&path, &url, fs::metadata(&path).ok().as_ref()).unwrap()
    }

    #[test]
    fn a_session_is_recalled_by_the_same_upload_only() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("state"));
        let same = identity(folder.path());
        let mut entry = memory.entry(same.clone()).unwrap();
        assert_eq!(entry.recall(), None);
        let left = |session: &str, node: Option<&str>| Left {
            session: session.to_owned(),
            node: node.map(str::to_owned),
            is_closing: false,
        };
        entry.note(left("{S}", None)).unwrap();
        assert_eq!(entry.recall(), Some(left("{S}", None)));
        let last = left("{T}", Some("node2.example"));
        entry.note(last.clone()).unwrap();
        drop(entry);
        let recalled = memory.entry(same.clone()).unwrap().recall();
        assert_eq!(recalled.as_ref(), Some(&last));
        let version = same.version.clone().unwrap();
        let mut others = vec![None];
        others.push(Some(Version {
            bytes: 2,
            ..version.clone()
        }));
        others.push(Some(Version {
            modified: (8, 0),
            ..version.clone()
        }));
        // Written to, and its time set back.
        others.push(Some(Version {
            changed: (version.changed.0, version.changed.1 + 1),
            ..version.clone()
        }));
        others.push(Some(Version {
            inode: version.inode + 1,
            ..version
        }));
        for version in others {
            let other = Identity {
                version,
                ..same.clone()
            };
            let mut entry = memory.existing(other).unwrap();
            assert_eq!(entry.recall(), None);
            assert_eq!(entry.recall_other().as_ref(), Some(&last));
        }
        let elsewhere = Identity {
            url: "http://h/b.bin".to_owned(),
            ..same.clone()
        };
        assert!(memory.existing(elsewhere.clone()).is_none());
        let mut entry = memory.entry(elsewhere).unwrap();
        assert_eq!((entry.recall(), entry.recall_other()), (None, None));
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
