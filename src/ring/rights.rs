//! Who else can read or write the files that the settings name.
//!
//! Whoever can write the file of users lets himself in, and whoever can write that of authorities
//! vouches for himself. It is told and not refused: an administrator may have reasons, and the
//! server may be behind a wall. Only a private key is refused ([`super::tls::material`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::config::Config;

/// A warning, with the remedy, for each secret that all accounts of this machine can read. `ssh`
/// refuses such keys; here it is told only, since the file may lie in a folder that they cannot
/// enter.
pub fn readable_secrets(config: &Config) -> Vec<String> {
    let files = config.named_files().into_iter();
    let secrets: BTreeSet<PathBuf> = files
        .filter(|(row, _)| row.is_secret)
        .map(|(_, path)| path)
        .collect();
    let open = secrets.iter().filter(|path| {
        let found = rustix::fs::stat(*path);
        found.is_ok_and(|found| found.st_mode & 0o004 != 0)
    });
    open.map(|path| {
        let path = path.display();
        format!("every account of this machine can read {path}: `chmod o= {path}`")
    })
    .collect()
}

/// A warning, with the remedy, for each file that others than its owner can write or replace, the
/// settings file among them.
pub fn writable_files(config: &Config) -> Vec<String> {
    let files = config.named_files().into_iter().map(|(_, path)| path);
    let settings = config.settings_file.clone();
    let files: BTreeSet<PathBuf> = files.chain([settings]).collect();
    let mut told = BTreeSet::new();
    for file in files {
        told.extend(why_others_rule(&file));
    }
    told.into_iter().collect()
}

/// A warning for each file that clients can replace or read, since it lies beneath a root; and for
/// the administrator's socket, which they can take the name from.
pub fn files_in_roots(config: &Config) -> Vec<String> {
    let files = config.named_files().into_iter().map(|(_, path)| path);
    let others = [&config.settings_file, &config.admin_socket].map(Clone::clone);
    let files: BTreeSet<PathBuf> = files.chain(others).collect();
    let files = files.iter().filter(|file| !file.as_os_str().is_empty());
    let told = files.filter_map(|file| {
        let root = config.roots.iter().find(|root| is_beneath(file, root))?;
        let (file, root) = (file.display(), root.display());
        Some(format!(
            "{file} lies in the root {root}, where clients put and fetch files, and so may say what this \
             server does: move it out of there"
        ))
    });
    told.collect()
}

/// Whether a file lies beneath a folder, by its name or by what that leads to. The file itself may
/// not be there yet.
#[allow(clippy::disallowed_methods, reason = "not on a shard")]
fn is_beneath(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let Ok(folder) = real(folder) else {
        return false;
    };
    let Ok(named) = std::path::absolute(file) else {
        return false;
    };
    let in_its_folder = (named.parent().zip(named.file_name()))
        .and_then(|(above, name)| Some(real(above).ok()?.join(name)));
    let places = [real(file).ok(), in_its_folder, Some(named)];
    places
        .iter()
        .flatten()
        .any(|place| place.starts_with(&folder))
}

/// Why others than its owner decide what stands in a file.
#[allow(clippy::disallowed_methods, reason = "not on a shard")]
fn why_others_rule(path: &Path) -> Option<String> {
    let found = rustix::fs::stat(path).ok()?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return None;
    }
    if others_write(&found) {
        let (path, mode) = (path.display(), found.st_mode & 0o777);
        return Some(format!(
            "others than its owner can write {path} (mode {mode:04o}), and so decide what this server does: \
             `chmod go-w {path}`"
        ));
    }
    // Whoever can write a folder can replace what lies in it, but for the sticky bit.
    let named = std::path::absolute(path).ok()?;
    let real = std::fs::canonicalize(path).ok()?;
    let folders = named.ancestors().skip(1).chain(real.ancestors().skip(1));
    folders.into_iter().find_map(|folder| {
        let found = rustix::fs::stat(folder).ok()?;
        let is_open = others_write(&found) && found.st_mode & 0o1000 == 0;
        let (folder, path) = (folder.display(), path.display());
        is_open.then(|| {
            format!(
                "others than its owner can write in the folder {folder}, and so replace {path}: \
                 `chmod go-w {folder}`"
            )
        })
    })
}

/// The group of root, and one that has the number of its user (useradd(8), `USERGROUPS_ENAB`), have
/// no other members by custom.
fn others_write(found: &Stat) -> bool {
    let is_own_group = found.st_gid == 0 || found.st_gid == found.st_uid;
    found.st_mode & 0o002 != 0 || (found.st_mode & 0o020 != 0 && !is_own_group)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn who_can_write_a_file_or_replace_it_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        fs::write(&file, "").unwrap();
        for (mode, of_folder, says) in [
            (0o600, 0o700, None),
            (0o644, 0o755, None),
            (0o602, 0o700, Some("can write")),
            (0o666, 0o1777, Some("(mode 0666)")),
            (0o600, 0o777, Some("in the folder")),
            (0o600, 0o1777, None),
        ] {
            set_mode(&file, mode);
            set_mode(folder.path(), of_folder);
            let told = why_others_rule(&file);
            assert_eq!(
                told.is_some(),
                says.is_some(),
                "{mode:o} {of_folder:o}: {told:?}"
            );
            assert!(told.unwrap_or_default().contains(says.unwrap_or_default()));
        }
        set_mode(folder.path(), 0o700);
        assert_eq!(why_others_rule(Path::new("/dev/null")), None);
        assert_eq!(why_others_rule(&folder.path().join("none")), None);
    }

    #[test]
    fn what_clients_could_replace_is_told_of() {
        let place = tempfile::tempdir().unwrap();
        let (root, beside) = (place.path().join("root"), place.path().join("etc"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&beside).unwrap();
        fs::write(root.join("users"), "").unwrap();
        std::os::unix::fs::symlink(root.join("users"), beside.join("link")).unwrap();
        std::os::unix::fs::symlink(beside.join("users"), root.join("out")).unwrap();
        std::os::unix::fs::symlink(&root, beside.join("folder")).unwrap();
        fs::write(beside.join("users"), "").unwrap();
        for (file, is_told) in [
            (root.join("users"), true),
            (root.join("not/there/yet"), true),
            (beside.join("link"), true),
            (beside.join("folder/new"), true),
            // It leads out, but its name can be taken away.
            (root.join("out"), true),
            (beside.join("users"), false),
            (place.path().join("root2"), false),
        ] {
            let mut config = Config {
                roots: vec![root.clone()],
                ..Config::default()
            };
            config.settings_file.clone_from(&file);
            config.admin_socket.clone_from(&file);
            let told = files_in_roots(&config);
            assert_eq!(told.len(), usize::from(is_told), "{file:?}: {told:?}");
        }
    }

    #[test]
    fn a_group_of_ones_own_is_nobody_else() {
        let mut found = rustix::fs::stat("/").unwrap();
        for (mode, uid, gid, is_told) in [
            (0o664, 1000, 1000, false),
            (0o664, 1000, 100, true),
            (0o664, 1000, 0, false),
            (0o644, 1000, 100, false),
            (0o666, 1000, 1000, true),
        ] {
            (found.st_mode, found.st_uid, found.st_gid) = (mode, uid, gid);
            assert_eq!(others_write(&found), is_told, "{mode:o} {uid} {gid}");
        }
    }
}
