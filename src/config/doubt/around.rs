//! Who gets at the files of a location by another one, whose root its own lies within: people whom
//! it does not let in, or those whom it does, for what it forbids.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::auth::policy::Allowed;
use crate::config::keys::Access;
use crate::config::{Config, Download, Location};
use crate::named_file;

/// So many ways to the files of one location are told of.
const WAYS_MAX: usize = 10;

/// Where the roots really lie. There may be very many locations, and each root is looked at once
/// for all of them.
pub(super) struct Places(Vec<Option<PathBuf>>);

impl Places {
    pub fn of(config: &Config) -> Self {
        // A link leads there as well.
        let roots = config.roots.iter();
        Self(roots.map(|root| named_file::without_links(root)).collect())
    }

    /// Where the files of a location lie.
    pub fn folder(&self, location: &Location) -> Option<PathBuf> {
        let root = self.0[location.root].as_ref()?;
        Some(match location.has_own_root {
            true => root.clone(),
            false => root.join(location.prefix.as_str()),
        })
    }
}

/// What is to be known, in words.
pub(super) fn of_roots(config: &Config, places: &Places) -> Vec<String> {
    let all = (config.locations.iter()).filter(|location| location.objects.is_none());
    let placed: Vec<_> =
        (all.filter_map(|location| Some((places.folder(location)?, location)))).collect();
    let mut by_folder = BTreeMap::<&Path, Vec<Alike<'_>>>::new();
    for (folder, location) in &placed {
        add(by_folder.entry(folder).or_default(), location);
    }
    let mut doubts = Vec::new();
    for (to, inner) in &placed {
        // Whose files lie around those of the inner one: in the folders above it and in its own.
        let around = to.ancestors();
        let around =
            around.filter_map(|from| Some((by_folder.get(from)?, to.strip_prefix(from).ok()?)));
        let told = around.flat_map(|(groups, rest)| {
            let told = groups
                .iter()
                .filter_map(|alike| Some((alike, told_of(alike[0], inner)?)));
            told.flat_map(move |(alike, told)| {
                let outer = alike.iter().filter(|outer| outer.prefix != inner.prefix);
                outer.filter_map(move |outer| {
                    Some(told.in_words(&way_into(config, outer, rest)?, inner))
                })
            })
        });
        doubts.extend(told.take(WAYS_MAX));
    }
    doubts
}

/// Locations of which the same is to be told.
type Alike<'c> = Vec<&'c Location>;

fn add<'c>(groups: &mut Vec<Alike<'c>>, location: &'c Location) {
    let what = |one: &'c Location| {
        let policy = &one.policy;
        (
            &one.access,
            one.is_enabled,
            one.download,
            policy.allow_overwrite,
        )
    };
    match (groups.iter_mut()).find(|alike| what(alike[0]) == what(location)) {
        Some(alike) => alike.push(location),
        None => groups.push(vec![location]),
    }
}

/// What is wrong with a way to the files of a location by another one.
#[derive(Clone)]
enum Told {
    /// Others are let in.
    Others,
    /// The same people are, and these keys do not hold.
    More(String),
}

/// What is to be told of the second one, whose files the first one leads to.
fn told_of(outer: &Location, inner: &Location) -> Option<Told> {
    if lets_in_others(outer, inner) {
        return Some(Told::Others);
    }
    let more = allows_more(outer, inner);
    let is_told = !more.is_empty() && lets_in_them(&outer.access, &inner.access);
    is_told.then(|| Told::More(more.join(", ")))
}

impl Told {
    fn in_words(&self, way: &str, inner: &Location) -> String {
        let prefix = &inner.prefix;
        match self {
            Self::Others => format!(
                "what only those may reach whom auth, allow and allow_from let in at /{prefix} is reached at /{way} too, \
                 where others are let in: {SIDE_BY_SIDE}"
            ),
            Self::More(keys) => format!(
                "{keys} of /{prefix} does not hold at /{way}, where the same files are reached: {SIDE_BY_SIDE}"
            ),
        }
    }
}

/// What mends it.
const SIDE_BY_SIDE: &str = "one root lies within the other; let them lie side by side";

/// The path by which a location leads to what lies there beneath its folder, if it does.
fn way_into(config: &Config, outer: &Location, rest: &Path) -> Option<String> {
    let names = [outer.prefix.as_str(), rest.to_str()?];
    let names = names.into_iter().filter(|name| !name.is_empty());
    let way = names.collect::<Vec<_>>().join("/");
    // Where another one begins on that way, that one is asked.
    (config.location(&way).prefix == outer.prefix).then_some(way)
}

/// Whether the first lets in others than the second. What it asks for less in one way it may ask
/// for more in the other: the network may say who comes, or a name.
pub fn lets_in_others(outer: &Location, inner: &Location) -> bool {
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
