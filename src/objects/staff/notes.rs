//! The notes of all sessions, in the work directory.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::on_a_thread;
use crate::bits::session_id::SessionId;
use crate::named_file;
use crate::objects::note::{Note, Notebook};
use crate::vault::names::{self, WorkName};

/// The notes, in the work directory.
pub(super) struct Notes {
    pub(super) folder: Arc<OwnedFd>,
}

impl Notes {
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
        on_a_thread(move || Ok(rustix::fs::renameat(&folder, from, &folder, to)?)).await
    }
}

impl Notebook for Notes {
    async fn read(&self, session: &str) -> io::Result<Option<Note>> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        on_a_thread(move || read_note(&folder, &name)).await
    }

    async fn write(&self, session: &str, note: &Note) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        let text = serde_json::to_vec(note)?;
        on_a_thread(move || write_note(&folder, &name, &text)).await
    }

    async fn remove(&self, session: &str) -> io::Result<()> {
        let (folder, name) = (Arc::clone(&self.folder), Self::name(session)?);
        on_a_thread(
            move || match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error.into()),
            },
        )
        .await
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
