//! What the process takes from the permissions of all that it makes (umask(2)).

use std::fs;
use std::io;
use std::sync::OnceLock;

use rustix::fs::Mode;

/// Read, and not set and set back: other threads make files meanwhile.
///
/// # Errors
/// Of reading it.
pub fn current() -> io::Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    digits
        .and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What the process was started with that would keep its own account out of what it makes, if so.
static TAKEN_FROM_OWNER: OnceLock<u32> = OnceLock::new();

/// Lets our own account read, write and enter what it makes. Nobody means a umask that takes that
/// from it: uploads would begin, and could not be gone on with. To be called before there are
/// other threads.
pub fn let_owner_in() {
    let given = rustix::process::umask(Mode::from_raw_mode(OF_OTHERS));
    let ours = given.bits() & OF_OTHERS;
    rustix::process::umask(Mode::from_raw_mode(ours));
    if ours != given.bits() {
        let _set_once = TAKEN_FROM_OWNER.set(given.bits());
    }
}

/// What of a umask is about others.
const OF_OTHERS: u32 = 0o077;

/// In words, that the umask was changed ([`let_owner_in`]).
pub fn doubt() -> Option<String> {
    let given = TAKEN_FROM_OWNER.get()?;
    Some(format!(
        "the umask is {given:04o}, which would keep the server's own account out of its files: {:04o} holds instead \
         (systemd: UMask=)",
        given & OF_OTHERS
    ))
}
