//! Which files are uploaded, and to which URL each.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::{self, FileType};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use bitsd::client::url::{BadUrl, Url};
use walkdir::WalkDir;

/// One file and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The file.
    pub file: PathBuf,
    /// Its own URL.
    pub url: Url,
}

/// What is uploaded of what was named.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Each file.
    pub targets: Vec<Target>,
    /// What stands in directories and is no file.
    pub skipped: Skipped,
    /// Directories in which there is none.
    pub without_files: Vec<PathBuf>,
    /// Directories that cannot be read, each once: what stands there is not uploaded.
    pub unreadable: Vec<Unreadable>,
}

/// A directory that cannot be read, and why.
#[derive(Debug)]
pub struct Unreadable {
    directory: PathBuf,
    why: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (directory, why) = (self.directory.display(), &self.why);
        write!(f, "{directory}: the directory cannot be read: {why}")
    }
}

/// How many things stand in directories that are no files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    links: u64,
    pipes: u64,
    sockets: u64,
    devices: u64,
}

impl Skipped {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn count(&mut self, kind: FileType) {
        let counter = match kind {
            _ if kind.is_symlink() => &mut self.links,
            _ if kind.is_fifo() => &mut self.pipes,
            _ if kind.is_socket() => &mut self.sockets,
            _ => &mut self.devices,
        };
        *counter += 1;
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.links, "symbolic link"),
            (self.pipes, "pipe"),
            (self.sockets, "socket"),
            (self.devices, "device"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        let words = counts.map(|(count, of)| match count {
            1 => format!("1 {of}"),
            count => format!("{count} {of}s"),
        });
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

/// Why files and URL do not go together.
#[derive(Debug)]
pub enum BadTarget {
    /// Several files, and a URL that names one.
    NotAFolder,
    /// A file has no URL.
    Url(PathBuf, BadUrl),
    /// A pattern that matches nothing.
    NoMatch(PathBuf),
    /// Standard input.
    Stdin,
    /// Two files for one URL: the second would replace the first.
    Twice(PathBuf, Box<Target>),
}

impl fmt::Display for BadTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFolder => f.write_str("several files need a URL that ends in `/`"),
            Self::Url(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NoMatch(pattern) => write!(f, "no file matches {}", pattern.display()),
            Self::Stdin => f.write_str("-: BITS needs the length first; write it to a file"),
            Self::Twice(first, second) => write!(
                f,
                "{} and {} would both be {}: upload them one by one under names of their own, or their folders with -r",
                first.display(),
                second.file.display(),
                second.url
            ),
        }
    }
}

/// Each file with its own URL: patterns are matched, directories walked if asked for.
///
/// # Errors
/// [`BadTarget`]. Files that are missing are found out one by one, later; directories that cannot
/// be read are named, and the others go.
pub fn targets(given: &[PathBuf], url: &Url, is_recursive: bool) -> Result<Chosen, BadTarget> {
    let mut chosen = Chosen::default();
    for path in matched(given, &mut chosen.unreadable)? {
        if is_recursive && path.is_dir() {
            walk(&path, url, &mut chosen)?;
        } else {
            let with_url = url.for_file(&path);
            let url = with_url.map_err(|error| BadTarget::Url(path.clone(), error))?;
            chosen.targets.push(Target { file: path, url });
        }
    }
    // What cannot be read may hold more.
    let is_one = chosen.targets.len() + chosen.unreadable.len() == 1
        && !(is_recursive && given.iter().any(|path| path.is_dir()));
    if !is_one && !url.is_folder() {
        return Err(BadTarget::NotAFolder);
    }
    chosen.targets = each_once(chosen.targets)?;
    Ok(chosen)
}

/// A file that was named twice goes once; two that would be one at the server are refused, as `cp`
/// does it.
fn each_once(targets: Vec<Target>) -> Result<Vec<Target>, BadTarget> {
    let mut known = BTreeMap::<String, PathBuf>::new();
    let mut once = Vec::with_capacity(targets.len());
    for target in targets {
        match known.entry(target.url.to_string()) {
            Entry::Vacant(free) => {
                free.insert(target.file.clone());
                once.push(target);
            }
            Entry::Occupied(first) if is_same(first.get(), &target.file) => {}
            Entry::Occupied(first) => {
                return Err(BadTarget::Twice(first.remove(), Box::new(target)));
            }
        }
    }
    Ok(once)
}

/// Whether two paths lead to one file. Of what cannot be looked at, the words count.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The paths, with patterns replaced by what they match. A file of that very name comes before a
/// pattern.
fn matched(given: &[PathBuf], unreadable: &mut Vec<Unreadable>) -> Result<Vec<PathBuf>, BadTarget> {
    let mut paths = Vec::new();
    for path in given {
        let text = path.to_str().unwrap_or_default();
        if text == "-" && !path.exists() {
            return Err(BadTarget::Stdin);
        }
        let is_pattern = is_pattern(text) && !path.exists();
        match glob::glob(text) {
            Ok(found) if is_pattern => {
                let before = paths.len();
                let mut hidden = hidden_names(text);
                for found in found {
                    match found {
                        Ok(path) => paths.push(path),
                        Err(error) => hidden.push(Unreadable {
                            directory: error.path().to_owned(),
                            why: error.into(),
                        }),
                    }
                }
                if paths.len() == before && hidden.is_empty() {
                    return Err(BadTarget::NoMatch(path.clone()));
                }
                for directory in hidden {
                    note(unreadable, directory);
                }
            }
            _ => paths.push(path.clone()),
        }
    }
    Ok(paths)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The directories in which it cannot be seen whether there is what a pattern names there in plain
/// words, as in `*/today.log`: to the matching itself that is no match.
fn hidden_names(pattern: &str) -> Vec<Unreadable> {
    let mut hidden = Vec::new();
    for (slash, _) in pattern.match_indices('/').filter(|(slash, _)| *slash > 0) {
        let (above, rest) = (&pattern[..slash], &pattern[slash + 1..]);
        let name = rest.split('/').next().unwrap_or_default();
        if name.is_empty() || is_pattern(name) {
            continue;
        }
        let above = glob::glob(above).into_iter().flatten().flatten();
        hidden.extend(above.filter_map(|directory| {
            let why = directory.join(name).symlink_metadata().err()?;
            let is_absent = matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
            (!is_absent).then_some(Unreadable { directory, why })
        }));
    }
    hidden
}

fn note(unreadable: &mut Vec<Unreadable>, new: Unreadable) {
    if !(unreadable.iter()).any(|known| is_same(&known.directory, &new.directory)) {
        unreadable.push(new);
    }
}

/// All regular files in a directory, in the order of their names. Links are not followed.
fn walk(folder: &Path, url: &Url, chosen: &mut Chosen) -> Result<(), BadTarget> {
    let before = (chosen.targets.len(), chosen.unreadable.len());
    // As `cp -r` does: the directory's own name is kept, `.` and `..` have none.
    let above = match folder.file_name() {
        Some(_) => folder.parent().unwrap_or(Path::new("")),
        None => folder,
    };
    for entry in WalkDir::new(folder).sort_by_file_name() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let directory = error.path().unwrap_or(folder).to_owned();
                let why = error.into_io_error();
                let why = why.unwrap_or_else(|| ErrorKind::Other.into());
                note(&mut chosen.unreadable, Unreadable { directory, why });
                continue;
            }
        };
        match entry.file_type() {
            kind if kind.is_dir() => continue,
            kind if !kind.is_file() => {
                chosen.skipped.count(kind);
                continue;
            }
            _ => {}
        }
        let file = entry.into_path();
        let relative = file.strip_prefix(above).unwrap_or(&file);
        let with_url = url.beneath(relative);
        let url = with_url.map_err(|error| BadTarget::Url(file.clone(), error))?;
        chosen.targets.push(Target { file, url });
    }
    if (chosen.targets.len(), chosen.unreadable.len()) == before {
        chosen.without_files.push(folder.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(given: &[&Path], url: &str, is_recursive: bool) -> Result<Vec<String>, String> {
        let given: Vec<PathBuf> = given.iter().map(|path| path.to_path_buf()).collect();
        let chosen = targets(&given, &url.parse().unwrap(), is_recursive);
        let chosen = chosen.map_err(|error| error.to_string())?;
        Ok((chosen.targets.iter())
            .map(|target| target.url.to_string())
            .collect())
    }

    #[test]
    fn directories_keep_their_names_and_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir_all(logs.join("b")).unwrap();
        for name in ["c.txt", "b/1.txt", "a.txt"] {
            fs::write(logs.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("a.txt", logs.join("link.txt")).unwrap();
        let all = ["a.txt", "b/1.txt", "c.txt"].map(|name| format!("http://h/in/logs/{name}"));
        assert_eq!(urls(&[&logs], "http://h/in/", true).unwrap(), all);
        let dot = logs.join("..").join("logs").join(".");
        assert_eq!(urls(&[&dot], "http://h/in/", true).unwrap(), all);
        let to_a_file = urls(&[&logs], "http://h/in", true);
        assert!(to_a_file.unwrap_err().contains("ends in `/`"));
    }

    #[test]
    fn what_is_no_file_is_counted_and_empty_folders_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (full, empty) = (folder.path().join("full"), folder.path().join("empty"));
        fs::create_dir_all(full.join("b")).unwrap();
        fs::create_dir_all(empty.join("c")).unwrap();
        fs::write(full.join("b/1.txt"), "x").unwrap();
        let chosen = |folders: &[&Path]| {
            let given: Vec<PathBuf> = folders.iter().map(|path| path.to_path_buf()).collect();
            targets(&given, &"http://h/".parse().unwrap(), true).unwrap()
        };
        assert!(chosen(&[&full]).skipped.is_none());
        for name in ["l", "m"] {
            std::os::unix::fs::symlink("b/1.txt", full.join(name)).unwrap();
        }
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, full.join("p"), fifo, mode, 0).unwrap();
        let found = chosen(&[&full, &empty]);
        assert_eq!(found.targets.len(), 1);
        assert_eq!(found.skipped.to_string(), "2 symbolic links, 1 pipe");
        assert_eq!(found.without_files, [empty]);
    }

    #[test]
    fn two_files_for_one_name_are_refused_and_one_that_is_named_twice_goes_once() {
        let folder = tempfile::tempdir().unwrap();
        for host in ["a", "b"] {
            fs::create_dir_all(folder.path().join(host).join("logs")).unwrap();
            fs::write(folder.path().join(host).join("logs/today.log"), host).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let (a, b) = (at("a/logs/today.log"), at("b/logs/today.log"));
        for (given, is_recursive) in [
            (vec![&*a, &*b], false),
            (vec![&*at("*/logs/today.log")], false),
            (vec![&*at("a/logs"), &*at("b/logs")], true),
            (vec![&*at("a/logs"), &*at("b/logs/../logs")], true),
        ] {
            let why = urls(&given, "http://h/in/", is_recursive).unwrap_err();
            assert!(why.contains("a/logs/today.log and "), "{why}");
            assert!(
                why.contains("/today.log would both be http://h/in/"),
                "{why}"
            );
        }
        // Their folders keep them apart.
        let apart = urls(&[&at("a"), &at("b")], "http://h/", true).unwrap();
        let both = ["a", "b"].map(|host| format!("http://h/{host}/logs/today.log"));
        assert_eq!(apart, both);
        let again = at("a/../a/logs/today.log");
        let once = urls(&[&a, &a, &again, &at("a/logs/*")], "http://h/", false).unwrap();
        assert_eq!(once, ["http://h/today.log"]);
        // What is not there is told of later, once.
        let gone = [Path::new("gone"), Path::new("gone")];
        assert_eq!(urls(&gone, "http://h/", false).unwrap(), ["http://h/gone"]);
    }

    #[test]
    fn a_quoted_pattern_is_matched_and_a_name_comes_before_a_pattern() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.txt", "2.txt", "[x].bin", "x.bin"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let texts = urls(&[&at("*.txt")], "http://h/", false).unwrap();
        assert_eq!(texts, ["http://h/1.txt", "http://h/2.txt"]);
        let named = urls(&[&at("[x].bin")], "http://h/", false).unwrap();
        assert_eq!(named, ["http://h/%5Bx%5D.bin"]);
        let none = urls(&[&at("*.none")], "http://h/", false).unwrap_err();
        assert!(none.starts_with("no file matches"), "{none}");
        let two = urls(&[&at("*.txt")], "http://h/a", false).unwrap_err();
        assert!(two.contains("ends in `/`"), "{two}");
        let two = [Path::new("a"), Path::new("b")];
        assert_eq!(
            urls(&two, "http://h/in/", false).unwrap(),
            ["http://h/in/a", "http://h/in/b"]
        );
        let stdin = urls(&[Path::new("-")], "http://h/", false).unwrap_err();
        assert!(stdin.contains("length first"), "{stdin}");
    }
}
