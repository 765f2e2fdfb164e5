//! Who else can read or write the files that the settings name.
//!
//! Whoever can write the file of users lets himself in, and whoever can write that of authorities
//! vouches for himself. It is told and not refused: an administrator may have reasons, and the
//! server may be behind a wall. Only a private key is refused ([`super::tls::material`]).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::footing;
use crate::config::{Config, Download, Location};
use crate::named_file::without_links;
use crate::shell;
use crate::vigil;

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
        let found = vigil::at(path, || rustix::fs::stat(*path));
        found.is_ok_and(|found| found.st_mode & 0o004 != 0)
    });
    open.map(|path| {
        let (path, word) = (path.display(), shell::word(path));
        format!("every account of this machine can read {path}: `chmod o= {word}`")
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

/// A warning for each file of the settings, and for the administrator's socket, that lies beneath a
/// root where clients can neither replace nor fetch it. They can take its name while it is away.
pub fn files_in_roots(config: &Config) -> Vec<String> {
    of_roots(config).0
}

/// Why the server must not start: clients can replace a file that says who they are and what they
/// may, or fetch it. As it is with the work directory and the ledger.
pub fn ruled_by_clients(config: &Config) -> Option<String> {
    of_roots(config).1
}

/// [`files_in_roots`] and [`ruled_by_clients`], by one look.
pub fn of_roots(config: &Config) -> (Vec<String>, Option<String>) {
    let (ruled, others): (Vec<_>, Vec<_>) = in_roots(config)
        .into_iter()
        .partition(|found| found.is_ruled);
    let told = others
        .iter()
        .map(|found| found.to_words("where clients put files, and may so take its name"));
    let why = "where clients may replace files or fetch them, and so say what this server does";
    (
        told.collect(),
        ruled.first().map(|found| found.to_words(why)),
    )
}

/// A file of the settings beneath a root.
struct InRoot {
    file: PathBuf,
    root: PathBuf,
    /// Clients can replace it or fetch it.
    is_ruled: bool,
}

impl InRoot {
    fn to_words(&self, why: &str) -> String {
        let (file, root) = (self.file.display(), self.root.display());
        format!("{file} lies in the root {root}, {why}: move it out of there")
    }
}

fn in_roots(config: &Config) -> Vec<InRoot> {
    let files = config.named_files().into_iter().map(|(_, path)| path);
    let files = files.chain([config.settings_file.clone()]);
    let files: BTreeSet<PathBuf> = files.filter(|file| !file.as_os_str().is_empty()).collect();
    let socket = &config.admin_socket;
    let sockets = [socket].into_iter().filter(|it| !it.as_os_str().is_empty());
    // No client may replace a socket, and nothing can be fetched of it.
    let all = (files.iter().map(|file| (file, true))).chain(sockets.map(|it| (it, false)));
    // There may be very many roots, and each is looked at once.
    let roots: Vec<_> = config
        .roots
        .iter()
        .map(|root| without_links(root))
        .collect();
    let own = without_links(&config.work_dir);
    let mut found = Vec::new();
    for (file, is_file) in all {
        let places = places_of(file);
        let is_in = |place: &PathBuf, folder: &Option<PathBuf>| {
            (folder.as_ref()).is_some_and(|folder| place.starts_with(folder))
        };
        // Nobody may upload into the server's own folder. A link that leads there has a name too.
        if matches!(&*places, [real, name, _] if is_in(real, &own) && is_in(name, &own)) {
            continue;
        }
        let is_beneath = |folder| places.iter().any(|place| is_in(place, folder));
        let within = (0..).zip(&roots).filter(|(_, root)| is_beneath(root));
        let within: Vec<usize> = within.map(|(number, _)| number).collect();
        let is_ruled = |&number: &usize| {
            let beneath = |place: &PathBuf| {
                let rest = place.strip_prefix(roots[number].as_ref()?).ok()?;
                Some(clients_rule(config, number, &rest.to_string_lossy()))
            };
            places.iter().any(|place| beneath(place) == Some(true))
        };
        let Some(first) = within.first() else {
            continue;
        };
        let ruled = within.iter().find(|number| is_file && is_ruled(number));
        found.push(InRoot {
            file: file.clone(),
            root: config.roots[*ruled.unwrap_or(first)].clone(),
            is_ruled: ruled.is_some(),
        });
    }
    found
}

/// Whether what lies in a root at a path can be replaced or fetched by the clients of a location.
fn clients_rule(config: &Config, root: usize, path: &str) -> bool {
    (config.locations.iter().enumerate()).any(|(number, location)| {
        // What goes to a store has no name in the root.
        let is_there = location.root == root && location.objects.is_none();
        let replaces = location.is_enabled && location.policy.allow_overwrite;
        let may = replaces || location.download == Download::Get;
        is_there && may && config.location_index(&url_path(location, path)) == number
    })
}

/// By which path of a URL a file beneath the root of a location is asked for.
fn url_path(location: &Location, path: &str) -> String {
    match location.has_own_root && !location.prefix.is_empty() {
        true => format!("{}/{path}", location.prefix),
        false => path.to_owned(),
    }
}

/// Where a file lies: what its name leads to, its name in the folder that it really stands in, and
/// its name as it is written. The file itself may not be there yet.
fn places_of(file: &Path) -> Vec<PathBuf> {
    let Ok(named) = std::path::absolute(file) else {
        return Vec::new();
    };
    let in_its_folder = (named.parent().zip(named.file_name()))
        .and_then(|(above, name)| Some(without_links(above)?.join(name)));
    let places = [without_links(file), in_its_folder, Some(named)];
    places.into_iter().flatten().collect()
}

/// Why others than its owner decide what stands in a file.
#[allow(clippy::disallowed_methods, reason = "not on a shard")]
fn why_others_rule(path: &Path) -> Option<String> {
    vigil::at(path, || who_rules(path))
}

#[allow(clippy::disallowed_methods, reason = "not on a shard")]
fn who_rules(path: &Path) -> Option<String> {
    let found = rustix::fs::stat(path).ok()?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return None;
    }
    if others_write(&found) {
        let (word, mode) = (shell::word(path), found.st_mode & 0o777);
        let path = path.display();
        return Some(format!(
            "others than its owner can write {path} (mode {mode:04o}), and so decide what this server does: \
             `chmod go-w {word}`"
        ));
    }
    // Whoever can write a folder can replace what lies in it, but for the sticky bit.
    let named = std::path::absolute(path).ok()?;
    let real = std::fs::canonicalize(path).ok()?;
    let folders = named.ancestors().skip(1).chain(real.ancestors().skip(1));
    folders.into_iter().find_map(|folder| {
        let found = rustix::fs::stat(folder).ok()?;
        let is_open = others_write(&found) && found.st_mode & 0o1000 == 0;
        // What is of the system has its mode for a reason, mostly.
        let remedy = match footing::is_of_the_system(folder) {
            true => "move it out of there".to_owned(),
            false => format!("`chmod go-w {}`", shell::word(folder)),
        };
        let (folder, path) = (folder.display(), path.display());
        is_open.then(|| {
            format!("others than its owner can write in the folder {folder}, and so replace {path}: {remedy}")
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
                locations: vec![Location::default()],
                ..Config::default()
            };
            config.settings_file.clone_from(&file);
            config.admin_socket.clone_from(&file);
            let told = files_in_roots(&config);
            // One of the file, and one of the socket.
            assert_eq!(told.len(), 2 * usize::from(is_told), "{file:?}: {told:?}");
            assert_eq!(ruled_by_clients(&config), None, "{file:?}");
            let changes: [fn(&mut Location); 2] = [
                |location| location.policy.allow_overwrite = true,
                |location| location.download = Download::Get,
            ];
            for change in changes {
                let mut config = config.clone();
                change(config.global_mut());
                let why = ruled_by_clients(&config);
                assert_eq!(why.is_some(), is_told, "{file:?}: {why:?}");
                config.settings_file.clear();
                assert_eq!(ruled_by_clients(&config), None, "{file:?}: a socket");
            }
        }
    }

    #[test]
    fn only_what_a_location_leads_to_is_ruled_by_its_clients() {
        let place = tempfile::tempdir().unwrap();
        let (root, other) = (place.path().join("root"), place.path().join("other"));
        for folder in [&root, &other] {
            fs::create_dir_all(folder.join("in")).unwrap();
        }
        let at = |prefix: &str, root: usize| Location {
            prefix: prefix.into(),
            root,
            has_own_root: root != 0,
            ..Location::default()
        };
        let open = |mut location: Location| {
            location.policy.allow_overwrite = true;
            location
        };
        let off = |mut location: Location| {
            location.is_enabled = false;
            location
        };
        for (file, locations, is_ruled) in [
            (root.join("set"), vec![open(at("in", 0)), at("", 0)], false),
            (
                root.join("in/set"),
                vec![open(at("in", 0)), at("", 0)],
                true,
            ),
            (
                root.join("inside"),
                vec![open(at("in", 0)), at("", 0)],
                false,
            ),
            (
                root.join("in/set"),
                vec![at("in", 0), open(at("", 0))],
                false,
            ),
            (
                root.join("in/set"),
                vec![off(open(at("in", 0))), at("", 0)],
                false,
            ),
            // Its own root begins where the prefix ends.
            (other.join("set"), vec![open(at("in", 1)), at("", 0)], true),
            (
                other.join("a/set"),
                vec![at("in/a", 0), open(at("in", 1)), at("", 0)],
                false,
            ),
        ] {
            let config = Config {
                roots: vec![root.clone(), other.clone()],
                settings_file: file.clone(),
                locations,
                ..Config::default()
            };
            let why = ruled_by_clients(&config);
            assert_eq!(why.is_some(), is_ruled, "{file:?}: {why:?}");
            // Where it is not refused it is warned of.
            assert_eq!(files_in_roots(&config).is_empty(), is_ruled, "{file:?}");
        }
    }

    #[test]
    fn what_lies_in_the_servers_own_folder_is_nobody_elses() {
        let place = tempfile::tempdir().unwrap();
        let mut config = Config {
            roots: vec![place.path().to_owned()],
            locations: vec![Location::default()],
            work_dir: place.path().join(".bitsd"),
            settings_file: place.path().join(".bitsd/settings"),
            ..Config::default()
        };
        config.global_mut().policy.allow_overwrite = true;
        fs::create_dir(&config.work_dir).unwrap();
        assert_eq!(ruled_by_clients(&config), None);
        assert!(files_in_roots(&config).is_empty());
        // A name in the root, whatever it leads to.
        let link = place.path().join("settings");
        std::os::unix::fs::symlink(&config.settings_file, &link).unwrap();
        fs::write(&config.settings_file, "").unwrap();
        config.settings_file = link;
        assert!(ruled_by_clients(&config).is_some());
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
