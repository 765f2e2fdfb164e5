//! How a session ended, as records say it.

use crate::bits::session::Ending;

/// All that there are; the index counts, since it is the code of a tombstone.
pub const ENDINGS: [Ending; 7] = [
    Ending::Published,
    Ending::Delivered,
    Ending::Denied,
    Ending::Incomplete,
    Ending::Cancelled,
    Ending::Expired,
    Ending::Poisoned,
];

/// The word of an ending.
pub fn ending_to_text(ending: Ending) -> &'static str {
    match ending {
        Ending::Published => "ended",
        Ending::Delivered => "delivered",
        Ending::Denied => "refused",
        Ending::Incomplete => "incomplete",
        Ending::Cancelled => "cancelled",
        Ending::Expired => "expired",
        Ending::Poisoned => "poisoned",
    }
}

/// The ending of a word.
pub fn ending_from_text(text: &str) -> Option<Ending> {
    let mut endings = ENDINGS.iter().copied();
    endings.find(|ending| ending_to_text(*ending) == text)
}
