//! The list of the shelves, by which the next start finds them whatever the settings say then.
//!
//! A path is not enough: where a disk is not mounted, a new shelf is made beneath its mount point,
//! and would be taken for the one whose uploads wait. So each shelf has a name of its own, which
//! stands in the list and in the note of whose it is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::farewell::Unsynced;
use super::taking::lock;
use super::{Directories, State};
use crate::ring::launch_error::LaunchError;
use crate::ring::owner::{NOTE_BYTES_MAX, OwnerNote, Purpose, holds_sessions};

use crate::ring::work_folder::{BadFolder, WorkFolder};
use crate::vault::names::{OWNER_NAME, SHELVES_NAME};
use crate::vigil;

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The shelf's own name; none in a list of an older version, or where there was no room for it.
    pub id: Option<u128>,
    /// Where it was.
    pub path: PathBuf,
}

/// Reads the list.
pub fn parse(list: &[u8]) -> Vec<Listed> {
    let lines = list.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty()).map(|line| {
        let named = line
            .iter()
            .position(|byte| *byte == b' ')
            .and_then(|space| {
                let id = std::str::from_utf8(&line[..space]).ok()?;
                let id = u128::from_str_radix(id, 16).ok()?;
                Some((id, &line[space + 1..]))
            });
        let (id, path) = named.map_or((None, line), |(id, path)| (Some(id), path));
        let path = PathBuf::from(OsStr::from_bytes(path));
        Listed { id, path }
    });
    lines.collect()
}

fn to_text(list: &[Listed]) -> Vec<u8> {
    let mut text = OsString::new();
    for Listed { id, path } in list {
        if let Some(id) = id {
            text.push(format!("{id:032x} "));
        }
        text.push(path);
        text.push("\n");
    }
    text.into_vec()
}

/// What stands where a shelf was.
enum Found {
    /// The settings lead there.
    InUse,
    /// No root of the settings uses it any more.
    Former(WorkFolder),
    /// Another server's by now, or done with.
    Over,
    /// It is not there; why, in words.
    Missing(String),
}

impl Directories {
    /// Reads which shelves there were: until they are looked for none of them is forgotten.
    pub(super) fn remember_shelves(&self) -> Result<(), LaunchError> {
        let work = self.shelves.work();
        let list = work.read(SHELVES_NAME, NOTE_BYTES_MAX);
        let list = list.map_err(|error| failed(&work, error))?;
        self.state().missing = parse(&list.unwrap_or_default());
        Ok(())
    }

    /// Looks for shelves that the settings do not lead to any more, and that still hold files of
    /// sessions.
    pub(super) fn find_former_shelves(&self) -> Result<(), LaunchError> {
        let listed = std::mem::take(&mut self.state().missing);
        for shelf in listed {
            match vigil::at(&shelf.path, || self.look_for(&shelf))? {
                Found::InUse | Found::Over => {}
                Found::Former(folder) => self.take_former_shelf(folder, shelf.id)?,
                Found::Missing(why) => {
                    let list = self.shelves.work().path().join(SHELVES_NAME);
                    tracing::warn!(
                        event = "shelf_missing",
                        shelf = %shelf.path.display(),
                        why,
                        list = %list.display(),
                        "unfinished uploads are kept on this shelf, and it cannot be opened: they wait for the next \
                         start that can (is its disk mounted?). If it is gone for good, take its line out of the list"
                    );
                    self.state().missing.push(shelf);
                }
            }
        }
        Ok(())
    }

    fn look_for(&self, shelf: &Listed) -> Result<Found, LaunchError> {
        let is_named = |id: &u128| shelf.id == Some(*id);
        if self.state().ids.iter().flatten().any(is_named) {
            return Ok(Found::InUse);
        }
        let folder = match WorkFolder::open(&shelf.path, true) {
            Ok(folder) => folder,
            Err(why) => return Ok(Found::Missing(why.to_words(&shelf.path))),
        };
        let other = || {
            let path = shelf.path.display();
            Found::Missing(format!("another folder stands at {path}"))
        };
        if self.shelves.find(folder.descriptor()).is_some() {
            return Ok(match shelf.id {
                Some(_) => other(),
                None => Found::InUse,
            });
        }
        let owner = folder.read(OWNER_NAME, NOTE_BYTES_MAX);
        let owner = owner.map_err(|error| failed(&folder, error))?;
        let owner = owner.as_deref().and_then(OwnerNote::parse);
        let holds_any = holds_sessions(&folder).map_err(|error| failed(&folder, error))?;
        if owner.is_none() && holds_any {
            let path = shelf.path.display();
            let why =
                format!("{path} does not say whose it is: its file {OWNER_NAME} is empty or gone");
            return Ok(Found::Missing(why));
        }
        let ours = owner.filter(|owner| owner.id == self.id.id);
        Ok(match ours {
            Some(owner) if shelf.id.is_some() && owner.shelf != shelf.id => other(),
            Some(_) if holds_any => Found::Former(folder),
            _ => Found::Over,
        })
    }

    fn take_former_shelf(&self, folder: WorkFolder, id: Option<u128>) -> Result<(), LaunchError> {
        let lock = lock(&folder, self.purpose, &mut self.state().handed)?;
        tracing::info!(
            event = "former_shelf",
            shelf = %folder.path().display(),
            "no root of the settings uses this shelf any more; its unfinished uploads go on"
        );
        self.add_shelf(folder, lock, id).map(|_| ())
    }

    /// Shelves that are not where they were, though uploads may wait on them.
    pub fn missing_shelves(&self) -> Vec<PathBuf> {
        let state = self.state();
        let missing = state.missing.iter().map(|shelf| shelf.path.clone());
        missing.collect()
    }

    /// Notes all shelves.
    pub(super) fn write_list(&self) -> Result<(), LaunchError> {
        if self.purpose == Purpose::Check {
            return Ok(());
        }
        let state = self.state();
        let mut list = self.known(&state, |_| true);
        for missing in &state.missing {
            let is_same = |known: &Listed| match missing.id {
                Some(_) => known.id == missing.id,
                None => known.path == missing.path,
            };
            if !list.iter().any(is_same) {
                list.push(missing.clone());
            }
        }
        self.write(&list)
    }

    /// When nothing is going on any more: shelves with nothing on them need not be found again.
    /// Those whose disk has just failed, or hangs, are not asked.
    pub(super) fn forget_empty_shelves(&self, failed: &[Unsynced]) -> Result<(), LaunchError> {
        let state = self.state();
        let has_failed = |folder: &WorkFolder| failed.iter().any(|it| it.folder == folder.path());
        let mut list = self.known(&state, |folder| {
            has_failed(folder) || holds_sessions(folder).unwrap_or(true)
        });
        list.extend_from_slice(&state.missing);
        self.write(&list)
    }

    /// Those that are open, as far as they are wanted.
    fn known(&self, state: &State, is_wanted: impl Fn(&WorkFolder) -> bool) -> Vec<Listed> {
        let shelves = self.shelves.all().into_iter().skip(1);
        let wanted = shelves.filter(|(_, folder)| is_wanted(folder));
        let listed = wanted.map(|(shelf, folder)| Listed {
            id: state.ids[usize::from(shelf.0)],
            path: folder.path().to_owned(),
        });
        listed.collect()
    }

    fn write(&self, list: &[Listed]) -> Result<(), LaunchError> {
        let work = &self.shelves.work();
        let text = to_text(list);
        let before = work.read(SHELVES_NAME, NOTE_BYTES_MAX);
        let before = before.map_err(|error| failed(work, error))?;
        if before.unwrap_or_default() == text {
            return Ok(());
        }
        let written = work.write(SHELVES_NAME, &text);
        written.map_err(|error| failed(work, error))
    }
}

fn failed(folder: &WorkFolder, error: std::io::Error) -> LaunchError {
    LaunchError::Folder(folder.path().to_owned(), BadFolder::Io(error))
}

/// Where shelves of a list are, and their own names, for whoever only reads.
pub fn named_in(list: &[u8]) -> Vec<(PathBuf, Option<u128>)> {
    let shelves = parse(list).into_iter();
    shelves.map(|shelf| (shelf.path, shelf.id)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_list_reads_back_with_what_older_versions_wrote() {
        let list = [
            Listed {
                id: Some(7),
                path: PathBuf::from("/srv/a b/.bitsd"),
            },
            Listed {
                id: None,
                path: PathBuf::from("/srv/c d/.bitsd"),
            },
            Listed {
                id: Some(u128::MAX),
                path: Path::new(OsStr::from_bytes(b"/\xff/.bitsd")).to_owned(),
            },
        ];
        assert_eq!(parse(&to_text(&list)), list);
        assert_eq!(parse(b"\n\n"), []);
    }
}
