//! An error whose words may carry what a stranger sent, beside the reason that it has.
//!
//! Lines of the log are limited by reason (`observe::limit`). By their words they could not be:
//! with a new name in each certificate a stranger would have lines without end.

use std::error::Error;
use std::fmt;
use std::io;

/// An error, and its reason: one of few, in words that are the same each time.
#[derive(Debug)]
pub struct Reasoned {
    reason: &'static str,
    error: Box<dyn Error + Send + Sync>,
}

impl Reasoned {
    /// As an error of a connection.
    pub fn error(
        kind: io::ErrorKind,
        reason: &'static str,
        error: impl Error + Send + Sync + 'static,
    ) -> io::Error {
        let error = Box::new(error);
        io::Error::new(kind, Self { reason, error })
    }

    /// The reason that an error has; empty where it is of another kind.
    pub fn reason_of(error: &io::Error) -> &'static str {
        Self::within(error).map_or("", |reasoned| reasoned.reason)
    }

    /// What is behind an error, if it is of this kind.
    pub fn cause_of<E: Error + 'static>(error: &io::Error) -> Option<&E> {
        Self::within(error)?.error.downcast_ref()
    }

    fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Reasoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Reasoned {}
