//! Which location a path belongs to, and where beneath its root the path leads.
//!
//! A location inherits every global value and may override all of them, as a virtual directory of
//! IIS does. The global values are a location themselves: the one with the empty prefix. A prefix
//! matches whole names only, the longest one wins, and upper and lower case differ as they do in
//! the file system.

use super::keys::{Config, Location};

impl Location {
    /// The path beneath the root; `None` if the path is the prefix itself, which is a folder, or is
    /// not beneath it.
    ///
    /// `path` is decoded and has no slash at either end.
    pub fn beneath<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = self.rest(path).filter(|rest| !rest.is_empty())?;
        Some(if self.has_own_root { rest } else { path })
    }

    /// Whether the path is the prefix or beneath it.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.rest(path).is_some()
    }

    /// What follows the prefix, without the slash between; empty for the prefix itself.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.prefix.is_empty() {
            return Some(path);
        }
        match path.strip_prefix(self.prefix.as_str())? {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
    }
}

impl Config {
    /// What holds where no location says otherwise.
    pub fn global(&self) -> &Location {
        self.locations.last().expect("never empty")
    }

    /// The same, to be changed; locations have inherited already and do not follow.
    pub fn global_mut(&mut self) -> &mut Location {
        self.locations.last_mut().expect("never empty")
    }

    /// The index of the location with the longest prefix of a path, in whole names. The path is
    /// decoded and has no slash at either end, as
    /// [`UploadPath::as_str`](crate::http::path::UploadPath::as_str) gives it.
    pub fn location_index(&self, path: &str) -> usize {
        let found = self
            .locations
            .iter()
            .position(|location| location.covers(path));
        found.expect("the last one covers everything")
    }

    /// The location with the longest prefix of a path; see [`Self::location_index`].
    pub fn location(&self, path: &str) -> &Location {
        &self.locations[self.location_index(path)]
    }
}

#[cfg(test)]
mod tests;
