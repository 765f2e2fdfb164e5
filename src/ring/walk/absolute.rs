//! Links that begin with a slash and lead back into the root, as `ln -s "$PWD/x" y` makes them.
//!
//! The kernel takes none of them beneath a root (`RESOLVE_BENEATH` in openat2(2)). So they are read
//! here, name by name, until the path has no links any more; the kernel then opens that one beneath
//! the root, as any other. Whatever somebody changes meanwhile, nothing outside is opened: every
//! call is made beneath the root, and no link is followed by it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{PLAIN, open};

/// Links on the way to one folder, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Names on the way, those in links too.
const NAMES_MAX: usize = 1_000;

/// Why a path has no other one without links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It leads out of the root.
    LeadsOut,
    /// There are too many links.
    Circle,
    /// Something else.
    Failed(Errno),
}

impl From<Errno> for Unresolved {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

/// The path beneath the root to which one with links leads, as of now; empty for the root itself.
/// An absolute link stays beneath it if its text begins with the path of the root: as it stands in
/// the settings, or as it really is.
///
/// # Errors
/// [`Unresolved`]
pub fn resolve(root: &OwnedFd, known_as: &Path, path: &OsStr) -> Result<OsString, Unresolved> {
    let real = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd())).ok();
    let mut to_go: VecDeque<Step> = steps(Path::new(path)).collect();
    let mut here = PathBuf::new();
    let (mut links, mut names) = (0, 0);
    while let Some(step) = to_go.pop_front() {
        names += 1;
        if names > NAMES_MAX {
            return Err(Unresolved::Circle);
        }
        let Step::Down(name) = step else {
            // There is no link in it, so it is what stands above.
            match here.pop() {
                true => continue,
                false => return Err(Unresolved::LeadsOut),
            }
        };
        let Some(text) = read_link(root, &here, &name)? else {
            here.push(name);
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(Unresolved::Circle);
        }
        let text = PathBuf::from(text);
        let mut rest = text.as_path();
        if text.is_absolute() {
            let beneath = [Some(known_as), real.as_deref()].into_iter().flatten();
            let mut beneath = beneath.filter_map(|root| text.strip_prefix(root).ok());
            rest = beneath.next().ok_or(Unresolved::LeadsOut)?;
            here.clear();
        }
        for step in steps(rest).rev() {
            to_go.push_front(step);
        }
    }
    Ok(here.into_os_string())
}

enum Step {
    Up,
    Down(OsString),
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::ParentDir => Some(Step::Up),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

/// The text of a link in a folder beneath the root; `None` if it is none.
fn read_link(root: &OwnedFd, folder: &Path, name: &OsStr) -> Result<Option<OsString>, Errno> {
    let folder = open(root.as_fd(), folder, OFlags::PATH, PLAIN)?;
    match rustix::fs::readlinkat(&folder, name, Vec::new()) {
        Ok(text) => Ok(Some(OsString::from_vec(text.into_bytes()))),
        Err(Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_where_the_kernel_would_lead_them_within_the_root() {
        let place = tempfile::tempdir().unwrap();
        let (root, alias) = (place.path().join("root"), place.path().join("alias"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink(&root, &alias).unwrap();
        let opened = OwnedFd::from(fs::File::open(&root).unwrap());
        let link = |text: &Path, name: &str| symlink(text, root.join(name)).unwrap();
        link(&root.join("a"), "real");
        link(&alias.join("a"), "by-alias");
        link(Path::new("real/b"), "relative");
        link(&root, "itself");
        link(&root.join("relative/../../real"), "twice");
        link(place.path(), "above");
        link(&root.join("../outside"), "out");
        link(Path::new("/etc"), "etc");
        link(&root.join("circle"), "circle");
        link(&root.join("none/x"), "dangling");
        // Its name only begins as the root's does.
        link(&place.path().join("root2"), "beside");
        let to = |known_as: &Path, path: &str| {
            let resolved = resolve(&opened, known_as, OsStr::new(path));
            resolved.map(|path| path.into_string().unwrap())
        };
        for (path, expected) in [
            ("real/b", Ok("a/b")),
            ("by-alias/b", Ok("a/b")),
            ("relative", Ok("a/b")),
            ("itself/itself/real", Ok("a")),
            ("itself", Ok("")),
            ("twice/b", Ok("a/b")),
            ("a//./b", Ok("a/b")),
            ("above", Err(Unresolved::LeadsOut)),
            ("out", Err(Unresolved::LeadsOut)),
            ("etc", Err(Unresolved::LeadsOut)),
            ("beside", Err(Unresolved::LeadsOut)),
            ("..", Err(Unresolved::LeadsOut)),
            ("circle", Err(Unresolved::Circle)),
            ("dangling", Err(Unresolved::Failed(Errno::NOENT))),
        ] {
            assert_eq!(to(&alias, path), expected.map(str::to_owned), "{path}");
        }
        assert_eq!(to(&root, "real/b"), Ok("a/b".to_owned()));
        assert_eq!(to(&root, "by-alias"), Err(Unresolved::LeadsOut));
    }
}
