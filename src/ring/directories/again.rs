//! What somebody has removed of the folders of ours is made again, as far as it can be.

use super::Directories;
use super::taking::{lock, open_or_make};
use crate::ring::commit_file;
use crate::ring::launch_error::LaunchError;
use crate::ring::owner::{NOTE_BYTES_MAX, OwnerNote, Purpose, new_id, refuse_claimed};
use crate::ring::work_folder::{BadFolder, WorkFolder, remedy_of_impostor};
use crate::vault::disk::{Commit, Shelf};
use crate::vault::names::{
    CLEAN_NAME, LOCK_NAME, NamesOf, OWNER_NAME, SHELVES_NAME, WorkName, parse_name,
};

impl Directories {
    /// Makes a shelf again that somebody has removed. Journals are written anew from memory; the
    /// parts are lost.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn make_again(&self, shelf: Shelf) -> Result<(), LaunchError> {
        let path = self.shelves.get(shelf).path().to_owned();
        // Somebody may have made one there; it must be as safe as ours.
        let folder = open_or_make(&path, true, &mut self.state().made);
        let folder = folder.map_err(|why| LaunchError::Folder(path.clone(), why))?;
        let lock = lock(&folder, self.purpose, &mut self.state().handed)?;
        let failed = |error| LaunchError::Folder(path.clone(), BadFolder::Io(error));
        refuse_claimed(&folder, None)?;
        let mut note = self.note_of(shelf);
        if note.shelf.is_some() {
            note.shelf = Some(new_id().map_err(failed)?);
        }
        folder.write(OWNER_NAME, &note.text()).map_err(failed)?;
        let mut state = self.state();
        let number = usize::from(shelf.0);
        state.locks[number] = Some(lock);
        state.ids[number] = note.shelf;
        self.shelves.replace(shelf, folder);
        drop(state);
        self.write_list()
    }

    /// Makes what is ours in a folder of ours again, if somebody has emptied it: without the note
    /// of whose it is, the next start would refuse it, with all that came since. Whether there was
    /// any need.
    ///
    /// # Errors
    /// [`LaunchError`]
    pub fn mend(&self, shelf: Shelf) -> Result<bool, LaunchError> {
        let folder = self.shelves.get(shelf);
        let failed = |error| LaunchError::Folder(folder.path().to_owned(), BadFolder::Io(error));
        let is_missing = |name| folder.stat(name).map(|stat| stat.is_none()).map_err(failed);
        let (no_owner, no_lock) = (has_no_mark(&folder), is_missing(LOCK_NAME)?);
        if no_lock {
            let mut state = self.state();
            let number = usize::from(shelf.0);
            state.locks[number] = Some(lock(&folder, self.purpose, &mut state.handed)?);
        }
        if no_owner {
            let note = self.note_of(shelf).text();
            folder.write(OWNER_NAME, &note).map_err(failed)?;
        }
        if no_owner || no_lock {
            self.write_list()?;
        }
        Ok(no_owner || no_lock)
    }

    /// What somebody has put in the place of a file of ours, in words: the next start refuses the
    /// folder for it, or does not find what the file said. Journals are looked for only if all
    /// names are, which may be very many.
    pub fn impostor(&self, shelf: Shelf, looks_at_all: bool) -> Option<String> {
        let folder = self.shelves.get(shelf);
        let looks_at_journals = looks_at_all && shelf == Shelf::WORK;
        let of_journal = || looks_at_journals.then(|| impostor_of_journal(&folder))?;
        impostor_among_notes(&folder)
            .or_else(|| self.commit_in_the_way(shelf, &folder))
            .or_else(of_journal)
    }

    /// A file of ours that is not ours alone any more, in words: the next start refuses the folder
    /// for it. Journals are looked for only if all names are, and parts never: each is looked at
    /// when it is opened.
    pub fn not_ours(&self, shelf: Shelf, looks_at_all: bool) -> Option<String> {
        let folder = self.shelves.get(shelf);
        let notes = [LOCK_NAME, OWNER_NAME, SHELVES_NAME, CLEAN_NAME].map(str::to_owned);
        let journals = match looks_at_all && shelf == Shelf::WORK {
            true => (folder.names_that(|name| NamesOf::Journals.has(name))).unwrap_or_default(),
            false => Vec::new(),
        };
        folder.not_ours(notes.into_iter().chain(journals))
    }

    /// What keeps a shelf from its file for commits. What can be replaced is, at once, and told
    /// then; a check only looks.
    pub(super) fn commit_in_the_way(&self, shelf: Shelf, folder: &WorkFolder) -> Option<String> {
        if self.shelves.commits_in_order(shelf) != Some(Commit::Shelf) {
            return None;
        }
        if self.purpose == Purpose::Serve {
            commit_file::mend(folder);
        }
        let what = commit_file::in_the_way(folder)?;
        Some(format!(
            "{what}: remove it (`lsattr`, `rm -r`), and the server makes its own again; it does without until then"
        ))
    }

    /// Says in a folder of ours whose it is.
    fn note_of(&self, shelf: Shelf) -> OwnerNote {
        let is_work = shelf == Shelf::WORK;
        OwnerNote {
            id: self.id.id,
            work_dir: (!is_work).then(|| self.shelves.work().path().to_owned()),
            shelf: self.state().ids[usize::from(shelf.0)],
        }
    }
}

/// Whether the note of whose a folder of ours is was removed, or emptied. What names another
/// server, and what is no file, is for people to judge.
fn has_no_mark(folder: &WorkFolder) -> bool {
    match folder.read(OWNER_NAME, NOTE_BYTES_MAX) {
        Ok(Some(note)) => OwnerNote::parse(&note).is_none(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// A note of ours in whose place something else stands, in words.
pub fn impostor_among_notes(folder: &WorkFolder) -> Option<String> {
    let notes = [LOCK_NAME, OWNER_NAME, SHELVES_NAME, CLEAN_NAME].map(str::to_owned);
    let (name, what) = folder.impostor(notes.into_iter())?;
    Some(format!(
        "{name} is {what}: move it away, and the server makes its own again"
    ))
}

/// A journal in whose place something else stands, in words. It looks at all names, which may be
/// very many.
pub fn impostor_of_journal(folder: &WorkFolder) -> Option<String> {
    let is_journal = |name: &str| matches!(parse_name(name), WorkName::Journal { .. });
    let journals = folder.names_that(is_journal).ok()?;
    let (name, what) = folder.impostor(journals.into_iter())?;
    let remedy = remedy_of_impostor(&name);
    Some(format!(
        "{name} is {what}, and the next start is refused for it: {remedy}"
    ))
}
