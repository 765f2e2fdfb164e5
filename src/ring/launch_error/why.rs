//! What the kernel said of a folder: cause and remedy.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;

use super::{account, denied, errno, footing};
use crate::named_file::dangling;
use crate::shell;

/// Cause and remedy of what the kernel said about a folder of ours, or about what is in it.
pub fn of_ours(folder: &Path, error: &io::Error) -> String {
    denied::why(folder, error).unwrap_or_else(|| of_folder(folder, error))
}

/// Cause and remedy of what the kernel said about a directory.
pub fn of_folder(directory: &Path, error: &io::Error) -> String {
    let word = shell::word(directory);
    let remedy = match errno(error) {
        Some(Errno::ACCESS) if is_ours_and_shut(directory) => {
            format!("its own mode forbids it: `chmod u+rwx {word}`")
        }
        Some(Errno::ACCESS) if footing::is_of_the_system(directory) => {
            "it belongs to the system: give the server a folder of its own".to_owned()
        }
        Some(Errno::ACCESS) => format!(
            "{} may not write to it, or not reach it: `chown {} {word}`",
            account::us(),
            account::to_chown(account::our_id())
        ),
        Some(Errno::PERM) => format!(
            "it is immutable (`lsattr -d {word}`), or a security module forbids it (SELinux: `ausearch -m avc`)"
        ),
        Some(Errno::ROFS) if is_under_systemd() => format!(
            "the unit may not write there: with ProtectSystem=strict it needs ReadWritePaths={word}; if the disk \
             itself is read-only, remount it"
        ),
        Some(Errno::ROFS) => "its file system is mounted read-only: remount it writable".to_owned(),
        Some(Errno::NOSPC) => {
            "no space, or no inode, is left: free some (`df -h`, `df -i`)".to_owned()
        }
        Some(Errno::DQUOT) => "free some space, or raise the quota".to_owned(),
        Some(Errno::FBIG) => {
            "a limit keeps files short: raise LimitFSIZE= of the service (`ulimit -f`)".to_owned()
        }
        Some(Errno::OVERFLOW) => format!(
            "the mount has no place for {}: look at its map of users (X-mount.idmap)",
            account::us()
        ),
        Some(Errno::EXIST) => "something else stands where the server would put a file".to_owned(),
        Some(Errno::STALE) => "the file server does not know it any more: mount it anew".to_owned(),
        Some(Errno::NOKEY) => format!("it is encrypted and locked: `fscrypt unlock {word}`"),
        Some(Errno::NOENT) if is_from_nowhere(directory) => START_IS_GONE.to_owned(),
        Some(Errno::IO) => "look at `dmesg` and the health of the disk".to_owned(),
        _ => return error.to_string(),
    };
    format!("{error}; {remedy}")
}

/// What is to be said of a folder that is not there, where more is known of it than that.
pub fn of_missing(folder: &Path) -> Option<String> {
    if let Some(target) = dangling(folder) {
        let target = target.display();
        return Some(format!(
            "is a link to {target}, which does not exist: mount or make that, or remove the link"
        ));
    }
    if is_from_nowhere(folder) {
        return Some(format!("cannot be found: {START_IS_GONE}"));
    }
    let text = folder.to_string_lossy();
    let mounted = "is no folder of this machine: mount what it names, and write the folder where that is mounted";
    if let Some(path) = text.strip_prefix("file://") {
        return Some(format!("is a URL: write the path alone, {path}"));
    }
    let is_share = text.starts_with("//") && text.trim_start_matches('/').contains('/');
    let is_host = |(host, path): (&str, &str)| !host.contains('/') && path.starts_with('/');
    (is_share || text.split_once(':').is_some_and(is_host)).then(|| mounted.to_owned())
}

const START_IS_GONE: &str = "the directory in which bitsd was started is gone, or cannot be reached: start it in \
                             another one, or name paths from `/` on";

/// Whether a path leads from the directory of the start, and that is not there any more.
fn is_from_nowhere(folder: &Path) -> bool {
    folder.is_relative() && std::env::current_dir().is_err()
}

/// From where a path leads that does not begin at the top.
pub fn from_where(folder: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if folder.is_relative() => {
            format!(" in {}, where the server is started", here.display())
        }
        _ => String::new(),
    }
}

/// Whether a folder is ours and its mode keeps even us out.
fn is_ours_and_shut(folder: &Path) -> bool {
    let found = std::fs::metadata(folder);
    found.is_ok_and(|found| found.uid() == account::our_id() && found.mode() & 0o700 != 0o700)
}

fn is_under_systemd() -> bool {
    std::env::var_os("INVOCATION_ID").is_some()
}
