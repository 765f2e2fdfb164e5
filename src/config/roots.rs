//! The directories that uploads go to, and the one where they are made.

use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};

/// Every root once, the global one first, and the work directory, which holds none of them.
pub(super) struct Roots {
    pub roots: Vec<PathBuf>,
    pub work_dir: PathBuf,
}

impl Roots {
    /// The global root and the work directory, as written or by default.
    pub fn resolve(
        root: Option<(Origin, PathBuf)>,
        work_dir: Option<(Origin, PathBuf)>,
    ) -> Result<Self, ConfigError> {
        for (key, written) in [("root", &root), ("work_dir", &work_dir)] {
            if let Some((origin, path)) = written {
                check_not_empty(key, origin, path)?;
            }
        }
        let root = root.map_or_else(|| PathBuf::from(ROOT_DEFAULT), |(_, root)| root);
        let work_dir = match work_dir {
            Some((origin, work_dir)) => {
                check_not_held(origin, &root, &work_dir)?;
                work_dir
            }
            None => root.join(WORK_DIR_NAME),
        };
        Ok(Self {
            roots: vec![root],
            work_dir,
        })
    }

    /// The index of a location's own root.
    pub fn add(&mut self, origin: Origin, root: PathBuf) -> Result<usize, ConfigError> {
        check_not_empty("root", &origin, &root)?;
        check_not_held(origin, &root, &self.work_dir)?;
        Ok(index_of(&mut self.roots, root))
    }
}

/// The index of a root, which is appended if it is new.
pub(super) fn index_of(roots: &mut Vec<PathBuf>, root: PathBuf) -> usize {
    match roots.iter().position(|known| *known == root) {
        Some(index) => index,
        None => {
            roots.push(root);
            roots.len() - 1
        }
    }
}

/// Whether uploads to the root could overwrite the server's own files; by the look of the paths only. That all lie on one
/// file system is checked when the server starts.
pub(super) fn holds(work_dir: &Path, root: &Path) -> bool {
    root.starts_with(work_dir)
}

fn check_not_empty(key: &'static str, origin: &Origin, path: &Path) -> Result<(), ConfigError> {
    if path.as_os_str().is_empty() {
        let origin = origin.clone();
        return Err(ConfigError::EmptyPath { origin, key });
    }
    Ok(())
}

fn check_not_held(origin: Origin, root: &Path, work_dir: &Path) -> Result<(), ConfigError> {
    if holds(work_dir, root) {
        return Err(ConfigError::WorkDirHoldsRoot {
            origin,
            root: root.to_owned(),
            work_dir: work_dir.to_owned(),
        });
    }
    Ok(())
}

pub(super) const ROOT_DEFAULT: &str = "./uploads";
const WORK_DIR_NAME: &str = ".bitsd";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::tests::{from_file, words};

    #[test]
    fn the_work_directory_may_lie_inside_the_root_but_not_hold_it() {
        assert!(from_file("root = \"/a\"\nwork_dir = \"/a/b/c\"").is_ok());
        assert!(from_file("root = \"/a\"\nwork_dir = \"/b\"").is_ok());
        for text in [
            "root = \"/a\"\nwork_dir = \"/a/\"",
            "root = \"/a/b\"\nwork_dir = \"/a\"",
        ] {
            let message = words(text);
            assert!(
                message.starts_with("bitsd.toml:2:12: work_dir (/a"),
                "{message}"
            );
            assert!(message.contains("must not be a root"), "{message}");
        }
        let message = words("root = \"/a\"\n[[location]]\nprefix = \"x\"\nroot = \"/a/.bitsd/x\"");
        assert!(
            message.starts_with("bitsd.toml:4:8: work_dir (/a/.bitsd)"),
            "{message}"
        );
    }

    #[test]
    fn an_empty_path_is_refused_with_its_place() {
        for (text, place) in [
            ("root = \"\"", "bitsd.toml:1:8: root is empty"),
            ("\nwork_dir = \"\"", "bitsd.toml:2:12: work_dir is empty"),
            (
                "[[location]]\nprefix = \"x\"\nroot = \"\"",
                "bitsd.toml:3:8: root is empty",
            ),
        ] {
            assert!(words(text).starts_with(place), "{}", words(text));
        }
    }

    #[test]
    fn each_root_is_listed_once_and_the_global_one_first() {
        let config = from_file(
            "root = \"/r\"\n[[location]]\nprefix = \"a\"\nroot = \"/own\"\n[[location]]\nprefix = \"bb\"\nroot = \"/own/\"\n\
             [[location]]\nprefix = \"ccc\"\nroot = \"/r\"\n[[location]]\nprefix = \"dddd\"\n",
        )
        .unwrap();
        assert_eq!(config.roots, [Path::new("/r"), Path::new("/own")]);
        let indexes = config.locations.iter().map(|l| (l.root, l.has_own_root));
        let expected = [(0, false), (0, true), (1, true), (1, true), (0, false)];
        assert!(indexes.eq(expected));
    }
}
