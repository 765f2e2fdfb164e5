//! Who gets at the files of a location by another one, whose root its own lies within: people whom
//! it does not let in, or those whom it does, for what it forbids.

use std::path::PathBuf;

use crate::auth::policy::Allowed;
use crate::config::keys::Access;
use crate::config::{Config, Download, Location};
use crate::named_file;

/// What is to be known, in words.
pub(super) fn of_roots(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    for inner in &config.locations {
        let others = config.locations.iter();
        for outer in others.filter(|outer| outer.prefix != inner.prefix) {
            let Some(way) = way_into(config, outer, inner) else {
                continue;
            };
            let more = allows_more(outer, inner);
            if lets_in_others(outer, inner) {
                doubts.push(format!(
                    "what only those may reach whom auth, allow and allow_from let in at /{} is reached at /{way} too, \
                     where others are let in: {SIDE_BY_SIDE}",
                    inner.prefix
                ));
            } else if !more.is_empty() && lets_in_them(&outer.access, &inner.access) {
                doubts.push(format!(
                    "{} of /{} does not hold at /{way}, where the same files are reached: {SIDE_BY_SIDE}",
                    more.join(", "),
                    inner.prefix
                ));
            }
        }
    }
    doubts
}

/// What mends it.
const SIDE_BY_SIDE: &str = "one root lies within the other; let them lie side by side";

/// The path by which the one location leads to the files of the other, if it does.
fn way_into(config: &Config, outer: &Location, inner: &Location) -> Option<String> {
    if outer.objects.is_some() || inner.objects.is_some() {
        return None;
    }
    let (from, to) = (folder(config, outer)?, folder(config, inner)?);
    let rest = to.strip_prefix(from).ok()?.to_str()?.to_owned();
    let names = [outer.prefix.as_str(), &rest];
    let names = names.into_iter().filter(|name| !name.is_empty());
    let way = names.collect::<Vec<_>>().join("/");
    // Where another one begins on that way, that one is asked.
    (config.location(&way).prefix == outer.prefix).then_some(way)
}

/// Where the files of a location lie.
pub(super) fn folder(config: &Config, location: &Location) -> Option<PathBuf> {
    let root = &config.roots[location.root];
    // A link leads there as well.
    let root = named_file::without_links(root)?;
    Some(match location.has_own_root {
        true => root,
        false => root.join(location.prefix.as_str()),
    })
}

/// Whether the first lets in others than the second. What it asks for less in one way it may ask
/// for more in the other: the network may say who comes, or a name.
fn lets_in_others(outer: &Location, inner: &Location) -> bool {
    let is_used = outer.is_enabled || outer.download != Download::None;
    let (of_outer, of_inner) = (&outer.access, &inner.access);
    let by_name = asks_less(of_outer, of_inner) && of_outer.allow_from.cover(&of_inner.allow_from);
    let by_network = !of_inner.allow_from.cover(&of_outer.allow_from);
    is_used && (by_name || (by_network && !asks_less(of_inner, of_outer)))
}

/// Whether the first lets in people by name whom the second would not.
fn asks_less(one: &Access, other: &Access) -> bool {
    match one.auth.is_empty() {
        true => !other.auth.is_empty(),
        false => is_for_all(one) && !is_for_all(other),
    }
}

/// Whether whoever shows a name is let in, if one has to be shown at all.
fn is_for_all(access: &Access) -> bool {
    access.auth.is_empty() || access.allow.contains(&Allowed::Anybody)
}

/// Whether the first lets in all whom the second does.
fn lets_in_them(outer: &Access, inner: &Access) -> bool {
    let is_same = outer.auth == inner.auth && outer.allow == inner.allow;
    let asks_no_more = is_same || outer.auth.is_empty() || asks_less(outer, inner);
    asks_no_more && outer.allow_from.cover(&inner.allow_from)
}

/// The keys by which the second forbids what the first allows.
fn allows_more(outer: &Location, inner: &Location) -> Vec<&'static str> {
    // There each has a folder of his own, and nobody comes to the other root.
    if outer.access.per_user {
        return Vec::new();
    }
    let keys = [
        ("download", reads(outer) > reads(inner)),
        (
            "allow_overwrite",
            outer.is_enabled && outer.policy.allow_overwrite && !inner.policy.allow_overwrite,
        ),
        ("enabled", outer.is_enabled && !inner.is_enabled),
        ("per_user", outer.is_enabled && inner.access.per_user),
    ];
    let told = keys.into_iter().filter(|(_, is_more)| *is_more);
    told.map(|(key, _)| key).collect()
}

/// How much may be read there.
fn reads(location: &Location) -> u8 {
    match location.download {
        Download::None => 0,
        Download::Head => 1,
        Download::Get => 2,
    }
}
