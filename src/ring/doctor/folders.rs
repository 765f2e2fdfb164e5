//! Whether the directories can be had: tried as a start takes them, and left as they were found.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::Finding;
use crate::config::Config;
use crate::ring::account;
use crate::ring::directories::{
    Directories, LeftBehind, WORK_DIR_NAME, keeps_all, look_at_root, refuse_impostors,
};
use crate::ring::handed::{HandedLocks, WORK_OF_PREDECESSOR};
use crate::ring::launch_error::{BadRoot, LaunchError};
use crate::ring::owner::Purpose;
use crate::ring::work_folder::hold::OTHERS_WRITE;
use crate::ring::work_folder::{BadFolder, WorkFolder};
use crate::vigil;

/// Trials that go on, and who waits for their end.
static TRIALS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A trial: what it makes is removed when it ends.
struct Underway;

impl Underway {
    fn begin() -> Self {
        *TRIALS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        *TRIALS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TRIALS.1.notify_all();
    }
}

/// Waits until no trial goes on, but not for a disk that hangs: who is told to end leaves nothing
/// behind.
pub fn let_trials_end(patience: Duration) {
    let count = TRIALS.0.lock().unwrap_or_else(PoisonError::into_inner);
    let _whatever_comes = (TRIALS.1).wait_timeout_while(count, patience, |count| *count > 0);
}

/// Why a start could not have the directories of these settings. Those that a server has are in
/// order.
pub fn refused_directories(config: &Config) -> Option<String> {
    let found = directories(config).0.into_iter();
    let mut refused = found.filter_map(|finding| match finding {
        Finding::Bad(why) => Some(why),
        Finding::Good(_) | Finding::Doubtful(_) => None,
    });
    refused.next()
}

/// What is found out about the directories, and whether a server is running on them.
pub(super) fn directories(config: &Config) -> (Vec<Finding>, bool) {
    let (root, work) = (&config.roots[0], &config.work_dir);
    let is_default = *work == root.join(WORK_DIR_NAME);
    let mut is_new = false;
    match vigil::at(work, || WorkFolder::open(work, !is_default)) {
        Err(BadFolder::Missing) if is_default && is_for_another(root) => {
            return (before_the_first_start(config), false);
        }
        Err(BadFolder::Missing) if is_default => is_new = true,
        Err(BadFolder::Owner(owner)) if account::our_id() == 0 => {
            return (of_another(config, owner), true);
        }
        Err(_) | Ok(_) => {}
    }
    let has_root = vigil::at(root, || root.exists());
    let _underway = Underway::begin();
    match Directories::take(config, Purpose::Check, HandedLocks::default()) {
        Ok((directories, grounds)) => {
            let shelves = directories.shelves().folders().into_iter();
            let exposed = shelves.filter_map(|one| Some(one.exposure()?.to_words(one.path())));
            let doubts = directories.doubts(config, &grounds).into_iter();
            let doubts = exposed.chain(doubts.map(|doubt| doubt.to_string()));
            let missing = directories.missing_shelves().into_iter().map(|shelf| {
                format!(
                    "unfinished uploads are kept on the shelf {}, which is not there: they wait until it is (is its \
                     disk mounted?)",
                    shelf.display()
                )
            });
            let mut findings: Vec<_> = doubts.chain(missing).map(Finding::Doubtful).collect();
            findings.extend(config.roots.iter().map(|root| {
                let root = root.display();
                Finding::Good(format!("files can be made and published in {root}"))
            }));
            findings.extend(is_new.then(|| will_be_made(root, has_root)));
            let impostor = refuse_impostors(&directories.shelves().work()).err();
            findings.extend(impostor.map(|why| Finding::Bad(why.to_string())));
            (findings, false)
        }
        Err(LaunchError::Locked(path, process)) => {
            let others = Directories::look_beside(config, &path).err();
            let process = process.map_or(String::new(), |process| format!(" (process {process})"));
            let path = path.display();
            let finding = Finding::Good(format!(
                "a server{process} is running with the work directory {path}: the directories are its own, and were \
                 looked at when it started"
            ));
            let others = others.map(|why| Finding::Bad(why.to_string()));
            ([finding].into_iter().chain(others).collect(), true)
        }
        Err(error) => (vec![Finding::Bad(error.to_string())], false),
    }
}

/// Uploads of the server that makes way for these settings, which they would leave behind. Nobody
/// sees that start, and so it is refused: whoever means it stops that server and starts another.
pub(super) fn left_behind(config: &Config) -> Option<Finding> {
    let path = std::env::var_os(WORK_OF_PREDECESSOR).filter(|path| !path.is_empty())?;
    let left = LeftBehind::at(Path::new(&path), &config.work_dir)?;
    let why = format!("{left}; or, if they may begin again, stop the server and start it");
    Some(Finding::Bad(why))
}

/// What the first start makes.
fn will_be_made(root: &Path, has_root: bool) -> Finding {
    let root = root.display();
    Finding::Good(match has_root {
        true => {
            format!("{root} may be written; unfinished uploads will lie in {WORK_DIR_NAME} there")
        }
        false => format!("{root} will be made at start"),
    })
}

/// Whether the root is somebody else's, and root checks: what root makes there the one who serves
/// could not use, if he comes meanwhile.
fn is_for_another(root: &Path) -> bool {
    let stat = vigil::at(root, || rustix::fs::stat(root));
    account::our_id() == 0 && stat.is_ok_and(|stat| stat.st_uid != 0)
}

/// Whether the work directory of another account may be that of the one who serves, as far as root
/// can tell: nobody else may write to it, and its owner may write to the root.
fn of_another(config: &Config, owner: u32) -> Vec<Finding> {
    let (root, work) = (&config.roots[0], &config.work_dir);
    let look = |path: &Path| {
        let stat = vigil::at(path, || rustix::fs::stat(path)).ok()?;
        Some((stat.st_uid, Mode::from_raw_mode(stat.st_mode & 0o7777)))
    };
    let refused = |why| Finding::Bad(LaunchError::Folder(work.clone(), why).to_string());
    let is_open = |mode: &Mode| mode.intersects(OTHERS_WRITE);
    if let Some((_, mode)) = look(work).filter(|(_, mode)| is_open(mode)) {
        return vec![refused(BadFolder::Writable(mode))];
    }
    let bad_roots = config
        .roots
        .iter()
        .filter_map(|root| look_at_root(root).err());
    let bad_roots: Vec<_> = bad_roots.map(|why| Finding::Bad(why.to_string())).collect();
    if !bad_roots.is_empty() {
        return bad_roots;
    }
    let may_write = |(user, mode): (u32, Mode)| user == owner || is_open(&mode);
    if !look(root).is_some_and(may_write) {
        return vec![refused(BadFolder::Owner(owner))];
    }
    vec![Finding::Doubtful(format!(
        "the work directory {} belongs to {}: the directories are looked at only if the check is run as the one \
         who serves (`sudo -u {} bitsd check ..`)",
        work.display(),
        account::user(owner),
        account::to_chown(owner)
    ))]
}

/// Where there is no work directory yet, and another account will make it, the roots can only be
/// asked.
fn before_the_first_start(config: &Config) -> Vec<Finding> {
    let may_write = |path: &Path| {
        let access = Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK;
        let look = || rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS);
        vigil::at(path, look)
    };
    let examine = |root: &std::path::PathBuf| match may_write(root) {
        Ok(()) => match look_at_root(root).and_then(|_| full(root)) {
            Ok(()) => will_be_made(root, true),
            Err(error) => Finding::Bad(error.to_string()),
        },
        Err(error) => Finding::Bad(BadRoot::from(error).to_words(root)),
    };
    let too_much = config.roots.iter().filter_map(|root| {
        let stat = vigil::at(root, || rustix::fs::statvfs(root)).ok()?;
        let doubt = keeps_all(config, root, &stat)?;
        Some(Finding::Doubtful(doubt.to_string()))
    });
    (config.roots.iter().map(examine)).chain(too_much).collect()
}

/// Whether a file system has no room for a folder: a start makes one. Root takes what is reserved,
/// too.
fn full(root: &Path) -> Result<(), LaunchError> {
    let Ok(stat) = vigil::at(root, || rustix::fs::statvfs(root)) else {
        return Ok(());
    };
    // Some count none (btrfs has no inodes to count).
    let is_full =
        (stat.f_blocks > 0 && stat.f_bfree == 0) || (stat.f_files > 0 && stat.f_ffree == 0);
    match is_full {
        true => Err(LaunchError::Root(root.to_owned(), Errno::NOSPC.into())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_ends_waits_for_the_trial_and_not_for_ever() {
        let trial = Underway::begin();
        let_trials_end(Duration::from_millis(1));
        let (tell, told) = mpsc::channel();
        let waits = thread::spawn(move || {
            let_trials_end(Duration::from_secs(60));
            told.try_recv().is_ok()
        });
        tell.send(()).unwrap();
        drop(trial);
        assert!(waits.join().unwrap());
    }
}
