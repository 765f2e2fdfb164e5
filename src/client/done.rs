//! What a put of several files has uploaded, so that the same command goes on behind it.
//!
//! One file for each such put, beside the notes of [`super::memory`], under a digest of its words:
//! a first line that says what it is, and a line for each file, a digest of its [`Identity`]. So a
//! file that was changed meanwhile is another one. A line is written when the server has
//! acknowledged the Close, and before the note of the session goes. A run that is killed at any
//! moment finds one of the two: by the note it sends the Close again. The file goes when all is
//! uploaded, so that the same command then uploads anew. What is older than 90 days goes too.
//!
//! Nothing depends on it: what cannot be read or written, or is beyond a million files, is uploaded
//! again, and a server that does not replace files refuses it. It is synced once a second at most:
//! a power cut takes the last of it. A second run of the same put at the same time has none.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::memory::{Identity, Memory, digest_of, is_same, whole};
use super::url::Url;

/// What a put of several files has uploaded.
#[derive(Debug)]
pub struct Done {
    path: PathBuf,
    holds: Holds,
    known: HashSet<String>,
    synced: Instant,
}

/// Its file.
#[derive(Debug)]
enum Holds {
    /// None yet.
    Nothing,
    File(File),
    /// Another process has it, or it cannot be had.
    Others,
}

impl Memory {
    /// What an earlier run of the same put has uploaded: of the same words, to the same URL.
    pub fn done(&self, given: &[PathBuf], url: &Url) -> Done {
        let given: Vec<PathBuf> = given.iter().map(|path| plain(path)).collect();
        let given: Vec<&[u8]> = given.iter().map(|path| bytes_of(path)).collect();
        let name = digest_of(&(&given, url.to_string())).unwrap_or_default();
        let name = format!("{name}.done");
        let mut done = Done {
            path: self.folder().join(name),
            holds: Holds::Nothing,
            known: HashSet::new(),
            synced: Instant::now(),
        };
        done.open(false);
        done
    }
}

impl Done {
    /// Whether an earlier run has uploaded this very file.
    pub fn has(&self, identity: &Identity) -> bool {
        line(identity).is_some_and(|line| self.known.contains(&line))
    }

    /// It is at its destination.
    pub fn add(&mut self, identity: &Identity) {
        let Some(line) = line(identity) else {
            return;
        };
        if self.known.len() >= FILES_MAX || self.known.contains(&line) {
            return;
        }
        if let Holds::Nothing = self.holds {
            self.open(true);
        }
        let Holds::File(file) = &mut self.holds else {
            return;
        };
        // What was written of it by halves is no line.
        if file.write_all(format!("{line}\n").as_bytes()).is_err() {
            self.holds = Holds::Others;
            return;
        }
        if self.synced.elapsed() >= SYNC_EVERY {
            let _a_power_cut_may_take_it = file.sync_data();
            self.synced = Instant::now();
        }
        self.known.insert(line);
    }

    /// All is uploaded, or is to be uploaded anew.
    pub fn forget(self) {
        if let Holds::File(_) = self.holds {
            let _ = fs::remove_file(&self.path);
        }
    }

    fn open(&mut self, makes: bool) {
        self.holds = match self.try_to_open(makes) {
            Ok(file) => Holds::File(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !makes => Holds::Nothing,
            Err(_) => Holds::Others,
        };
    }

    fn try_to_open(&mut self, makes: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(makes).truncate(false);
        options.mode(0o600);
        if let Some(folder) = self.path.parent().filter(|_| makes) {
            super::memory::make(folder)?;
        }
        let mut file = loop {
            let file = options.open(&self.path)?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            // Whoever had it before may have removed it between the two calls above.
            if is_same(&file, &self.path) {
                break file;
            }
        };
        let mut bytes = Vec::new();
        (&file).take(BYTES_MAX).read_to_end(&mut bytes)?;
        let text = str::from_utf8(&bytes).unwrap_or_default();
        let lines = text.strip_prefix(HEAD).map(whole_lines);
        let end = match lines {
            Some(lines) => {
                let digests = lines.lines().filter(|line| line.len() == DIGEST_CHARS);
                self.known.extend(digests.map(str::to_owned));
                HEAD.len() + lines.len()
            }
            None => 0,
        };
        file.set_len(end as u64)?;
        file.seek(SeekFrom::End(0))?;
        if end == 0 {
            file.write_all(HEAD.as_bytes())?;
        }
        Ok(file)
    }
}

/// What a crash has left of a last line is none.
fn whole_lines(text: &str) -> &str {
    &text[..text.rfind('\n').map_or(0, |end| end + 1)]
}

/// What is written of a file, whatever bytes its path has.
fn line(identity: &Identity) -> Option<String> {
    let Identity { url, path, version } = identity;
    digest_of(&(url, bytes_of(path), version))
}

fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// A path, or a pattern, that means the same from every folder.
fn plain(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole(path).unwrap_or_else(absolute)
}

/// The first line, with the version of the format.
const HEAD: &str = "bitsd put, uploaded, version 1\n";
const DIGEST_CHARS: usize = 32;
/// So many files of a put are remembered.
const FILES_MAX: usize = 1_000_000;
const BYTES_MAX: u64 = (HEAD.len() + FILES_MAX * (DIGEST_CHARS + 1)) as u64;
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(memory: &Memory) -> Done {
        memory.done(&[PathBuf::from("logs")], &"http://h/in/".parse().unwrap())
    }

    fn identity(name: &str) -> Identity {
        Identity {
            url: format!("http://h/in/{name}"),
            path: PathBuf::from("/logs").join(name),
            version: None,
        }
    }

    #[test]
    fn what_was_uploaded_is_known_to_the_same_put_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().join("state"));
        let mut done = of(&memory);
        assert!(!memory.folder().exists(), "nothing is kept of nothing");
        done.add(&identity("a"));
        // Another process of the same put has its own.
        let mut second = of(&memory);
        assert!(!second.has(&identity("a")));
        second.add(&identity("b"));
        second.forget();
        drop(done);
        let done = of(&memory);
        assert!(done.has(&identity("a")) && !done.has(&identity("b")));
        // Names of any bytes are told from each other.
        let named = |name: &[u8]| Identity {
            path: Path::new(std::ffi::OsStr::from_bytes(name)).to_owned(),
            ..identity("a")
        };
        let mut done = done;
        done.add(&named(b"/logs/\xff"));
        assert!(done.has(&named(b"/logs/\xff")) && !done.has(&named(b"/logs/\xfe")));
        let other = memory.done(&[PathBuf::from("log")], &"http://h/in/".parse().unwrap());
        assert!(!other.has(&identity("a")));
        let elsewhere = memory.done(&[PathBuf::from("logs")], &"http://h/".parse().unwrap());
        assert!(!elsewhere.has(&identity("a")));
        done.forget();
        assert!(!of(&memory).has(&identity("a")));
        assert_eq!(fs::read_dir(memory.folder()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_of_version_1_is_read_and_what_is_torn_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::at(folder.path().to_owned());
        let mut done = of(&memory);
        done.add(&identity("a"));
        let path = done.path.clone();
        drop(done);
        let kept = "bitsd put, uploaded, version 1\nd24317998e02c03f887803e8cac5b676\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        fs::write(&path, format!("{kept}0123")).unwrap();
        let mut done = of(&memory);
        assert!(done.has(&identity("a")));
        done.add(&identity("b"));
        drop(done);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(kept) && text.len() == kept.len() + 33,
            "{text}"
        );
        // What is no such file is begun anew.
        for strange in [
            &b"\xff\x00"[..],
            b"",
            b"bitsd put, uploaded, version 2\nx\n",
        ] {
            fs::write(&path, strange).unwrap();
            let mut done = of(&memory);
            assert!(!done.has(&identity("a")));
            done.add(&identity("a"));
            drop(done);
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        }
    }
}
