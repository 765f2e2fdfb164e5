//! The notes of all sessions, in the work directory.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Mutex;

use super::on_a_thread;
use crate::bits::session_id::SessionId;
use crate::named_file;
use crate::objects::note::{Note, Notebook};
use crate::vault::names::{self, WorkName};

/// The notes, in the work directory. What is done with one comes to its end before the next thing
/// is, also where nobody waits for it any more: a note that is written while its session ends is
/// there before it is removed.
pub(super) struct Notes {
    pub(super) folder: Arc<OwnedFd>,
    /// Whose turn it is, of notes whose names fall together.
    turns: [Arc<Mutex<()>>; TURNS],
}

const TURNS: usize = 16;

impl Notes {
    pub(super) fn new(folder: Arc<OwnedFd>) -> Self {
        let turns = std::array::from_fn(|_| Arc::default());
        Self { folder, turns }
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        session: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let number = usize::from(session.as_bytes().last().copied().unwrap_or(0));
        let turn = Arc::clone(&self.turns[number % TURNS]);
        let turn = turn.lock_owned().await;
        on_a_thread(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }

    fn name(session: &str) -> io::Result<String> {
        let id = SessionId::parse(session.as_bytes());
        id.map(names::note_name)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Gives the note of a session to another one, which has none.
    pub(super) async fn rename(&self, session: &str, to: &str) -> io::Result<()> {
        let (folder, from, to) = (
            Arc::clone(&self.folder),
            Self::name(session)?,
            Self::name(to)?,
        );
        let work = move || Ok(rustix::fs::renameat(&folder, from, &folder, to)?);
        self.in_turn(session, work).await
    }
}

impl Notebook for Notes {
    async fn read(&self, session: &str) -> io::Result<Option<Note>> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        self.in_turn(session, move || read_note(&folder, &name))
            .await
    }

    async fn write(&self, session: &str, note: &Note) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        let text = serde_json::to_vec(note)?;
        let work = move || write_note(&folder, &name, &text);
        self.in_turn(session, work).await
    }

    async fn remove(&self, session: &str) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        let work = move || match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
        self.in_turn(session, work).await
    }

    async fn named(&self) -> io::Result<Vec<String>> {
        let folder = Arc::clone(&self.folder);
        on_a_thread(move || {
            let mut uploads = Vec::new();
            for name in work_names(&folder)? {
                if let WorkName::Note(_) = names::parse_name(&name)
                    && let Some(note) = read_note(&folder, &name)?
                {
                    uploads.extend(note.upload);
                }
            }
            Ok(uploads)
        })
        .await
    }
}

/// What was torn by a crash while it was written is under another name: this one is whole.
fn read_note(folder: &OwnedFd, name: &str) -> io::Result<Option<Note>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?),
    };
    let mut text = Vec::new();
    file.take(NOTE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

fn write_note(folder: &OwnedFd, name: &str, text: &[u8]) -> io::Result<()> {
    let half = format!("{name}.new");
    let written = write_half(folder, &half, text);
    if written.is_err() {
        // If that fails too, the next start removes it.
        let _left = rustix::fs::unlinkat(folder, &half, AtFlags::empty());
        return written;
    }
    rustix::fs::renameat(folder, half, folder, name)?;
    let here = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let names = rustix::fs::openat(folder, ".", here, Mode::empty())?;
    named_file::sync_names_in(names)
}

fn write_half(folder: &OwnedFd, half: &str, text: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o600);
    let mut file = File::from(rustix::fs::openat(folder, half, flags, mode)?);
    file.write_all(text)?;
    file.sync_data()
}

pub(super) fn work_names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder.as_fd())? {
        all.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(all)
}

const NOTE_BYTES_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::objects::note::StorePlace;

    #[test]
    fn a_note_that_nobody_waits_for_is_there_before_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let opened: OwnedFd = File::open(folder.path()).unwrap().into();
        let notes = Notes::new(Arc::new(opened));
        let place = StorePlace {
            bucket: "b".to_owned(),
            region: "r".to_owned(),
            endpoint: None,
            path_style: false,
            ca: Default::default(),
        };
        let note = Note {
            place,
            key: "k".to_owned(),
            upload: Some("u".to_owned()),
            begun: 1,
            part_bytes: 1,
            boot: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            for number in 1..=50 {
                let session = SessionId::from_u128(number).plain().to_string();
                let mut write = Box::pin(notes.write(&session, &note));
                // Given up as soon as it is under way.
                poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_ready())).await;
                drop(write);
                let seen = notes.read(&session).await.unwrap();
                assert_eq!(seen, Some(note.clone()));
                notes.remove(&session).await.unwrap();
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
