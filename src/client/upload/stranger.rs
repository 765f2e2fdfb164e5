//! Who answers in the place of a BITS server, or stands before one.

use std::fmt;

use super::words::words_before_a_server;

/// Who answers in the place of a BITS server, or stands before one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// What it calls itself, or nothing.
    pub name: Box<str>,
    /// Where it sends us, or nothing.
    pub location: Box<str>,
}

impl Stranger {
    /// Says who it is, behind the status.
    pub(super) fn write(&self, status: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // From outside; it is shown as it came only where that is harmless.
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(is_printable);
        let Self { name, location } = self;
        let words = words_before_a_server(status);
        f.write_str(match words {
            Some(_) => " by a proxy, or by something else that does not speak BITS",
            None => " by something that does not speak BITS",
        })?;
        if is_plain(name) {
            write!(f, " (Server: {name})")?;
        }
        let Some(words) = words else { return Ok(()) };
        write!(f, ": {words}")?;
        match (300..400).contains(&status) && is_plain(location) {
            true => write!(f, "; it names {location}"),
            false => Ok(()),
        }
    }
}

fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}
