//! Things in a folder of ours that are not the server's. They stay as they are: whoever put them
//! there has named the wrong folder, or takes this one for a place to keep things.

use std::io;

use super::owner::{NOTE_BYTES_MAX, OwnerNote};
use super::work_folder::WorkFolder;
use crate::vault::names::{self, NamesOf, OWNER_NAME, WorkName};

/// So many of their names are told.
const TOLD_MAX: usize = 3;

/// Whatever stands beside what is ours, in words.
///
/// # Errors
/// What the disk says.
pub fn beside_ours(folder: &WorkFolder) -> io::Result<Option<String>> {
    let is_foreign = |name: &str| names::parse_name(name) == WorkName::Foreign;
    Ok(in_words(folder.names_that(is_foreign)?))
}

/// Whatever stands in a folder that no server has had, in words. A server has had it if the note of
/// that is there, or a journal: version 0.1.0 wrote no such note. A lock proves nothing, since
/// others have files of that name.
///
/// # Errors
/// What the disk says.
pub fn in_no_servers(folder: &WorkFolder) -> io::Result<Option<String>> {
    // Beside a journal there may be very many others.
    if !(folder.names_that(|name| NamesOf::Journals.has(name))?).is_empty() {
        return Ok(None);
    }
    let names = folder.names_that(|name| !is_of_a_first_start(name))?;
    if names.is_empty() {
        return Ok(None);
    }
    let owner = folder.read(OWNER_NAME, NOTE_BYTES_MAX)?;
    let is_known = owner.as_deref().and_then(OwnerNote::parse).is_some();
    Ok(in_words(names).filter(|_| !is_known))
}

/// Whether a start that was cut short may leave that, before it says whose the folder is.
fn is_of_a_first_start(name: &str) -> bool {
    matches!(
        names::parse_name(name),
        WorkName::Ours | WorkName::OfFileSystem
    )
}

fn in_words(mut names: Vec<String>) -> Option<String> {
    let more = names.len().saturating_sub(TOLD_MAX);
    names.sort_unstable();
    names.truncate(TOLD_MAX);
    // They may hold line ends.
    let told: Vec<_> = (names.iter().map(|name| name.escape_debug().to_string())).collect();
    let told = told.join(", ");
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(told),
        (false, more) => Some(format!("{told} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_told_from_one_that_a_server_has_had() {
        let place = tempfile::tempdir().unwrap();
        let folder = WorkFolder::make(&place.path().join("work")).unwrap();
        let make = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        let found = || in_no_servers(&folder).unwrap();
        // What a first start leaves, on a disk of its own.
        for name in ["lost+found", "lock", "owner.new", "shelves", ".nfs00a7"] {
            make(name);
            assert_eq!(found(), None, "{name}");
        }
        for (name, told) in [
            ("letter", "letter"),
            // Its id proves nothing by itself.
            (
                "A33AE6A1-B9AE-41D2-BC9F-AD6E0E6B1B6C.part",
                "A33AE6A1-B9AE-41D2-BC9F-AD6E0E6B1B6C.part",
            ),
            ("b\n", "b\\n"),
            (".profile", ".profile"),
            ("x.aside", "x.aside"),
        ] {
            make(name);
            let found = found().unwrap();
            assert!(found.contains(told) || found.ends_with(" more"), "{found}");
        }
        assert_eq!(
            found().unwrap(),
            ".profile, A33AE6A1-B9AE-41D2-BC9F-AD6E0E6B1B6C.part, b\\n and 2 more"
        );
        assert_eq!(
            beside_ours(&folder).unwrap().unwrap(),
            ".profile, b\\n, letter"
        );
        // A file of that name that says something else is no proof.
        make("owner");
        assert!(found().is_some());
        let owner = OwnerNote {
            id: 7,
            work_dir: None,
            shelf: None,
        };
        folder.write("owner", &owner.text()).unwrap();
        assert_eq!(found(), None);
        folder.remove("owner").unwrap();
        make("0000000000000000-0.journal");
        assert_eq!(found(), None);
    }
}
