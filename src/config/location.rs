//! Settings per URL prefix: which location a path belongs to, and where beneath its root the path leads.
//!
//! A location inherits every global value and may override all of them, as a virtual directory of IIS does. The global
//! values are a location themselves: the one with the empty prefix. A prefix matches whole names only, the longest one
//! wins, and upper and lower case differ as they do in the file system.

use std::time::Duration;

use toml::Spanned;

use crate::http::path::parse_target;

use super::error::{ConfigError, Origin};
use super::notification::Notification;
use super::number::{HOST_ID_FALLBACK, SESSIONS_PER_CLIENT_MAX, narrow, quoted};
use super::policy::Policy;
use super::roots::Roots;
use super::settings_file::{RawLocation, RawShared, SettingsText};
use super::url::{HOST_TAKES, PUBLIC_URL_TAKES, parse_host, parse_public_url};

/// What holds beneath one URL prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The prefix, decoded, without a slash at either end; empty for everything.
    pub prefix: String,
    /// Where files go: an index into [`Config::roots`](super::Config::roots).
    pub root: usize,
    /// Whether the root is the location's own. Then the destination of `prefix/a/b` is `a/b` beneath it; otherwise it is
    /// the whole path beneath the inherited root.
    pub has_own_root: bool,
    /// Whether uploads are taken at all.
    pub is_enabled: bool,
    /// Upload settings.
    pub policy: Policy,
    /// How clients reach this server when a proxy stands in front: an http or https URL without a slash at its end, to
    /// which the path of a request is appended. `None`: as the request says.
    pub public_url: Option<String>,
    /// The name that this node of a farm is to be called by (MC-BUP 2.2.3.2); `None`: the one the client knows.
    pub host: Option<Host>,
    /// The server application to notify of each upload; `None`: files are published without asking anybody.
    pub notification: Option<Notification>,
    /// Unfinished uploads of one client address; `None` is unlimited.
    pub sessions_per_client_max: Option<u32>,
}

/// What a client is told about the node of a farm that it speaks with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `BITS-Host-Id`: a host name or an IP literal (IPv6 in brackets), without scheme, port and path.
    pub id: String,
    /// `BITS-Host-Id-Fallback-Timeout`: when a client that cannot reach the node goes back to the name it knew.
    pub fallback_timeout: Duration,
}

impl Location {
    /// The path beneath the root; `None` if the path is the prefix itself, which is a folder, or is not beneath it.
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

    /// The location that the keys come to; prefix and root are those of the global one.
    pub(super) fn resolve(raw: &RawShared, text: &SettingsText) -> Result<Self, ConfigError> {
        Ok(Self {
            is_enabled: raw.enabled.unwrap_or(true),
            policy: Policy::resolve(raw, text)?,
            public_url: text.parse(
                "public_url",
                &raw.public_url,
                parse_public_url,
                PUBLIC_URL_TAKES,
            )?,
            host: Host::resolve(raw, text)?,
            notification: Notification::resolve(raw, text)?,
            sessions_per_client_max: SESSIONS_PER_CLIENT_MAX
                .resolve_limit(text.located(&raw.sessions_per_client_max))?
                .map(narrow),
            ..Self::default()
        })
    }
}

/// The global location when nothing is set.
impl Default for Location {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            root: 0,
            has_own_root: false,
            is_enabled: true,
            policy: Policy::default(),
            public_url: None,
            host: None,
            notification: None,
            sessions_per_client_max: None,
        }
    }
}

impl Host {
    fn resolve(raw: &RawShared, text: &SettingsText) -> Result<Option<Self>, ConfigError> {
        let fallback_timeout =
            HOST_ID_FALLBACK.resolve_duration(text.located(&raw.host_id_fallback))?;
        let id = text.parse("host_id", &raw.host_id, parse_host, HOST_TAKES)?;
        Ok(id.map(|id| Self {
            id,
            fallback_timeout,
        }))
    }
}

/// All locations of a file, longest prefix first, the global one last.
pub(super) fn resolve_all(
    raw: Vec<Spanned<RawLocation>>,
    global: &RawShared,
    roots: &mut Roots,
    text: &SettingsText,
) -> Result<Vec<Location>, ConfigError> {
    // First of all, so that an inherited mistake is told once, where it stands.
    let everything = Location::resolve(global, text)?;
    let mut seen: Vec<(String, Origin)> = Vec::new();
    let mut locations = Vec::new();
    for table in raw {
        let (table_origin, mut raw) = text.locate(table);
        let (origin, prefix) = read_prefix(table_origin, &raw, text)?;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == prefix) {
            return Err(ConfigError::RepeatedPrefix {
                origin,
                prefix,
                first: first.clone(),
            });
        }
        seen.push((prefix.clone(), origin));
        let root = text.located(&raw.root);
        let has_own_root = root.is_some();
        let root = root.map_or(Ok(0), |(origin, root)| roots.add(origin, root))?;
        locations.push(Location {
            prefix,
            root,
            has_own_root,
            ..Location::resolve(&raw.take_shared().or(global), text)?
        });
    }
    // Stable: what is as long stays in the order of the file.
    locations.sort_by_key(|location| std::cmp::Reverse(location.prefix.len()));
    locations.push(everything);
    Ok(locations)
}

/// The prefix, decoded, and where it was written.
fn read_prefix(
    table: Origin,
    raw: &RawLocation,
    text: &SettingsText,
) -> Result<(Origin, String), ConfigError> {
    let Some((origin, written)) = text.located(&raw.prefix) else {
        return Err(ConfigError::NoPrefix { origin: table });
    };
    let names = written.strip_prefix('/').unwrap_or(&written);
    let names = names.strip_suffix('/').unwrap_or(names);
    if names.is_empty() || names.contains('?') {
        return Err(ConfigError::Unusable {
            origin,
            key: "prefix",
            value: quoted(&written),
            takes: PREFIX_TAKES,
        });
    }
    match parse_target(&format!("/{names}")) {
        Ok(target) => Ok((origin, target.path.as_str().to_owned())),
        Err(source) => Err(ConfigError::BadPrefix {
            origin,
            value: quoted(&written),
            source,
        }),
    }
}

/// What a prefix may be, in words.
pub(super) const PREFIX_TAKES: &str = "a path as in a URL, such as `/logs/new`, without a query";

#[cfg(test)]
mod tests;
