//! Which location a path belongs to, and where beneath its root the path leads.
//!
//! A location inherits every global value and may override all of them, as a virtual directory of
//! IIS does. The global values are a location themselves: the one with the empty prefix. A prefix
//! matches whole names only, the longest one wins, and upper and lower case differ as they do in
//! the file system, unless `prefix_case` says otherwise: then a path is spelt anew with the prefix
//! as the settings have it, before anything else looks at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::complaint::Complaint;
use super::error::ConfigError;
use super::given::Given;
use super::keys::{Config, Location, ObjectStore};
use super::words::{NoReplace, PrefixCase};
use crate::http::path::UploadPath;

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

    /// What follows the prefix, without the slash between; empty for the prefix itself, `None` if
    /// the path is not beneath it.
    pub fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        if self.prefix.is_empty() {
            return Some(path);
        }
        let rest = match self.prefix_case {
            PrefixCase::Exact => path.strip_prefix(self.prefix.as_str())?,
            PrefixCase::Ignore => strip_in_any_case(path, &self.prefix)?,
        };
        match rest {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        }
    }
}

/// What follows a prefix that differs from the beginning of the path in upper and lower case at
/// most. As in Windows, each character is compared by itself.
fn strip_in_any_case<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let mut rest = path.chars();
    for expected in prefix.chars() {
        let found = rest.next()?;
        if found != expected && !found.to_lowercase().eq(expected.to_lowercase()) {
            return None;
        }
    }
    Some(rest.as_str())
}

impl Config {
    /// The folders that uploads are written to.
    pub fn upload_folders(&self) -> Vec<&Path> {
        let roots = self.roots.iter().chain([&self.work_dir]);
        roots.map(PathBuf::as_path).collect()
    }

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

    /// The path with the prefix of its location as the settings spell it.
    pub fn spelt(&self, path: UploadPath) -> UploadPath {
        let location = self.location(path.as_str());
        let rest = match (location.prefix_case, location.rest(path.as_str())) {
            (PrefixCase::Ignore, Some(rest)) if !location.prefix.is_empty() => rest,
            _ => return path,
        };
        if rest.is_empty() || path.as_str().starts_with(location.prefix.as_str()) {
            return path;
        }
        // One that became too long by it stays what it was: nothing of that name is there.
        UploadPath::from_text(&format!("{}/{rest}", location.prefix)).unwrap_or(path)
    }

    /// A prefix that a path would be beneath if upper and lower case were the same, and is not.
    pub fn prefix_in_another_case(&self, path: &str) -> Option<&str> {
        let differs = |location: &&Location| {
            let rest = strip_in_any_case(path, &location.prefix);
            !location.covers(path) && rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let found = self.locations.iter().find(differs)?;
        Some(&found.prefix)
    }

    /// The stores that must not replace an object, and have to show that they can keep one.
    pub fn stores_to_try(&self) -> impl Iterator<Item = &Arc<ObjectStore>> {
        let locations = self.locations.iter().filter(|location| {
            let objects = location.objects.as_ref();
            let probes = objects.is_some_and(|store| store.no_replace == NoReplace::Probe);
            probes && location.is_enabled && !location.policy.allow_overwrite
        });
        locations.filter_map(|location| location.objects.as_ref())
    }

    /// The stores that files go into.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<ObjectStore>> {
        self.locations.iter().filter_map(|it| it.objects.as_ref())
    }

    /// The location with the longest prefix of a path; see [`Self::location_index`].
    pub fn location(&self, path: &str) -> &Location {
        &self.locations[self.location_index(path)]
    }
}

/// A location whose prefix another one has as well, in upper and lower case, would never get
/// anything.
///
/// # Errors
/// There is one.
pub(super) fn refuse_covered(locations: &[(Location, Given)]) -> Result<(), ConfigError> {
    // By what is the same in any case: the first one that takes its prefix so.
    let mut taking = BTreeMap::<(usize, String), &Given>::new();
    for (location, own) in locations {
        let prefix = &location.prefix;
        let chars = prefix.chars();
        let key = chars.clone().flat_map(char::to_lowercase).collect();
        let key = (chars.count(), key);
        if let (Some(first), Some(prefix)) = (taking.get(&key), own.get("prefix")) {
            let first = first.get("prefix").expect("no table without it is read");
            let place = format!(
                "{}, where prefix_case = \"ignore\" makes them one",
                first.origin
            );
            return Err(prefix.refused(Complaint::Repeated(place)));
        }
        if location.prefix_case == PrefixCase::Ignore {
            taking.insert(key, own);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
