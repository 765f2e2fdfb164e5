//! Users who have no folder of their own, although each should have one (`per_user`).
//!
//! Who comes by a Kerberos ticket or by a proxy is known only then: what is told here is of those
//! whom the files of the settings and `allow` name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::around::Places;
use crate::auth::policy::Allowed;
use crate::config::{Config, Location};
use crate::http::path::UploadPath;

/// So many are named.
const NAMED_MAX: usize = 10;

/// What is to be known, in words.
pub(super) fn of_users(config: &Config, places: &Places) -> Vec<String> {
    let locations = config.locations.iter();
    let own =
        locations.filter(|location| location.access.per_user && !location.access.auth.is_empty());
    let users: BTreeSet<&str> = own.flat_map(|location| users(config, location)).collect();
    let mut by_folder = BTreeMap::<String, Vec<&str>>::new();
    let mut without = Vec::new();
    for user in users {
        match UploadPath::own_folder(user) {
            Some(folder) => by_folder
                .entry(folder.as_str().to_owned())
                .or_default()
                .push(user),
            None => without.push(user.to_owned()),
        }
    }
    let shared = by_folder.into_iter().filter(|(_, users)| users.len() > 1);
    let shared: Vec<_> = shared
        .map(|(folder, users)| format!("{} ({folder})", users.join(", ")))
        .collect();
    let shared = (!shared.is_empty()).then(|| {
        format!(
            "users have one folder together where each should have one of his own (per_user): {}; \\ and @ become _ in its \
             name: call one of them otherwise",
            some(&shared)
        )
    });
    let without = (!without.is_empty()).then(|| {
        format!(
            "no folder can be called as these users are (per_user), and they hear 403: {}",
            some(&without)
        )
    });
    let within = of_others(config, places);
    (shared.into_iter().chain(without).chain(within)).collect()
}

/// Locations in what is a user's own by another one.
fn of_others(config: &Config, places: &Places) -> Vec<String> {
    let outer: Vec<_> = (config.locations.iter())
        .filter(|location| location.access.per_user)
        .filter_map(|location| {
            let folder = places.folder(location)?;
            let users: BTreeSet<_> = users(config, location).into_iter().collect();
            Some((location, folder, users))
        })
        .collect();
    let within = config.locations.iter().filter_map(|location| {
        let found = users_within(places, location, &outer);
        (!found.is_empty()).then(|| {
            format!(
                "what /{} serves is in the folder of a user who should have it for himself (per_user): {}; give it another \
                 prefix or root",
                location.prefix,
                some(&found)
            )
        })
    });
    within.collect()
}

/// A location in which each user has a folder of his own, where its files lie, and who is named.
type OfEach<'c> = (&'c Location, PathBuf, BTreeSet<&'c str>);

/// The users in whose own folders the files of a location lie, each with where he has it.
fn users_within(places: &Places, location: &Location, outer: &[OfEach<'_>]) -> Vec<String> {
    let others = || (outer.iter()).filter(|(outer, ..)| outer.prefix != location.prefix);
    if others().next().is_none() {
        return Vec::new();
    }
    let Some(inner) = places.folder(location) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (outer, of_all, users) in others() {
        let is_his = |user: &&&str| {
            let own = UploadPath::own_folder(user);
            own.is_some_and(|own| inner.starts_with(of_all.join(own.as_str())))
        };
        let his = users.iter().filter(is_his);
        found.extend(his.map(|user| format!("{user} (of /{})", outer.prefix)));
    }
    found
}

fn some(all: &[String]) -> String {
    all[..all.len().min(NAMED_MAX)].join(", ")
}

/// Those who may upload there, as far as they are named.
fn users<'c>(config: &'c Config, location: &'c Location) -> Vec<&'c str> {
    let accounts = &config.accounts.accounts;
    let mut named = Vec::new();
    for allowed in &location.access.allow {
        match allowed {
            Allowed::User(user) => named.push(&**user),
            Allowed::Group(group) => named.extend(accounts.members(group)),
            Allowed::Anybody => {
                let schemes = location.access.auth.iter();
                named.extend(
                    schemes
                        .filter_map(|scheme| config.names(accounts, *scheme))
                        .flatten(),
                );
            }
        }
    }
    named
}
