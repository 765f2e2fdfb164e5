//! Limits of the process (setrlimit(2)) that are less than what the settings ask for. A start and a
//! check say so: what they forbid fails later, and only sometimes.
//!
//! Those of open files and of memory lower what the settings allow, and are told there
//! ([`super::probe`], [`super::memory`]); locked memory is tried ([`super::blocks`]).

use super::launch_error::LaunchError;
use super::rlimit::{self, Limited};
use super::work_file;
use crate::config::Config;
use crate::config::quantity::render_size;

/// The notes that a start makes in the work directory have room in so much.
const OWN_FILE_BYTES_MIN: u64 = 4 << 10;

/// What raises the limit on threads.
pub const RAISE_THREADS: &str = "raise LimitNPROC= of the service (`ulimit -u`)";

/// Whether the files can be written without which there is no server.
///
/// # Errors
/// [`LaunchError::FileBytes`]
pub fn file_bytes() -> Result<(), LaunchError> {
    match work_file::file_bytes_max() {
        Some(bytes @ ..OWN_FILE_BYTES_MIN) => Err(LaunchError::FileBytes(bytes)),
        _ => Ok(()),
    }
}

/// What may be no longer than the limit on files, and should be by the settings.
pub fn short_files(config: &Config) -> Option<String> {
    let max = work_file::file_bytes_max()?;
    let locations = config.locations.iter();
    let uploads = locations.map(|location| location.policy.upload_bytes_max);
    // None is no bound, and so more than any.
    let longest = uploads.max_by_key(|bytes| bytes.unwrap_or(u64::MAX))?;
    let journal = config.limits.journal_bytes_max;
    let asked = match longest {
        None => "any length for uploads".to_owned(),
        Some(bytes) if bytes > max => format!("{} for uploads", render_size(bytes)),
        Some(_) if journal > max => format!("{} for the journal", render_size(journal)),
        Some(_) => return None,
    };
    let max = render_size(max);
    let which = match config.custody.as_os_str().is_empty() {
        true => "an upload or the journal",
        false => "an upload, the journal or a day of the custody ledger",
    };
    Some(format!(
        "no file may be longer than {max}, {which}, and the settings allow {asked}"
    ))
}

/// How many threads the account may have, where that is less than what the settings can take. It
/// does not hold for root.
pub fn few_threads(config: &Config, of_start: usize) -> Option<String> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let max = rlimit::of(Limited::Threads).soft?;
    let needed = (of_start + config.limits.notifications_max) as u64;
    (max < needed).then(|| {
        format!(
            "the account may have {max} threads, and the server may need {needed}: {of_start} of its own, and one for \
             each of {} notifications",
            config.limits.notifications_max
        )
    })
}
