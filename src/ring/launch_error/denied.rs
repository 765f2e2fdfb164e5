//! What keeps the server out of a folder of its own that it may open: mostly a file in it, such as
//! one that is left of a start as another user. A remedy for the folder would lead in a circle.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{account, errno, footing};
use crate::ring::sealed::Sealed;
use crate::shell;

/// Cause and remedy of what the kernel said about a folder of ours; `None` if nothing in it is to
/// blame.
pub fn why(folder: &Path, error: &io::Error) -> Option<String> {
    if footing::is_of_the_system(folder) {
        // What is in it is others'.
        return None;
    }
    let remedy = match errno(error) {
        Some(Errno::ACCESS) => of_others(folder).or_else(|| shut(folder)),
        Some(Errno::PERM) => sealed(folder),
        _ => None,
    };
    Some(format!("{error}; {}", remedy?))
}

/// It, or something in it, belongs to somebody else. Then there may be more of that.
fn of_others(folder: &Path) -> Option<String> {
    let us = account::our_id();
    let itself = (folder.to_owned(), fs::metadata(folder).ok()?);
    let (path, found) = match itself.1.uid() == us {
        true => first(folder, |found| found.uid() != us)?,
        false => itself,
    };
    Some(format!(
        "{} belongs to {}, and this runs as {}: run it as that account where a server does; if none does, and nobody \
         else has put anything there, `chown -R {} {}`",
        path.display(),
        account::user(found.uid()),
        account::us(),
        account::to_chown(us),
        shell::word(folder)
    ))
}

/// A file of ours keeps even us out.
fn shut(folder: &Path) -> Option<String> {
    let (path, _) = first(folder, |found| {
        found.is_file() && found.mode() & 0o600 != 0o600
    })?;
    let word = shell::word(&path);
    Some(format!(
        "the mode of {} forbids it: `chmod u+rw {word}`",
        path.display()
    ))
}

/// It, or something in it, has an attribute that lets nobody change it.
fn sealed(folder: &Path) -> Option<String> {
    let (path, sealed) = match Sealed::of_path(folder) {
        Some(sealed) => (folder.to_owned(), sealed),
        None => {
            let (path, _) = first_of(folder, |path, _| Sealed::of_path(path).is_some())?;
            let sealed = Sealed::of_path(&path)?;
            (path, sealed)
        }
    };
    Some(sealed.in_words(&path))
}

fn first(folder: &Path, is_it: impl Fn(&Metadata) -> bool) -> Option<(PathBuf, Metadata)> {
    first_of(folder, |_, found| is_it(found))
}

/// The first in the order of names, so that the same is told each time. Links are not followed, and
/// nothing is told of them: they are refused by themselves.
fn first_of(
    folder: &Path,
    is_it: impl Fn(&Path, &Metadata) -> bool,
) -> Option<(PathBuf, Metadata)> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let found = entries.filter_map(|entry| {
        let (path, found) = (entry.path(), entry.metadata().ok()?);
        (!found.is_symlink() && is_it(&path, &found)).then_some((path, found))
    });
    found.min_by(|one, other| one.0.cmp(&other.0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_that_keeps_us_out_is_named_and_what_is_not_is_not() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("it's here");
        fs::create_dir(&folder).unwrap();
        let denied = io::Error::from(Errno::ACCESS);
        for name in ["b", "c"] {
            fs::write(folder.join(name), "").unwrap();
        }
        assert_eq!(why(&folder, &denied), None);
        let shut = folder.join("b");
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o400)).unwrap();
        let words = why(&folder, &denied).unwrap();
        let remedy = format!("`chmod u+rw {}`", shell::word(&shut));
        assert!(words.ends_with(&remedy), "{words}");
        assert_eq!(why(Path::new("/etc"), &denied), None);
        assert_eq!(why(&folder, &Errno::NOSPC.into()), None);
        assert_eq!(why(&folder, &Errno::PERM.into()), None);
    }
}
