//! Whom a server would let in, and by what it would show who it is: users, certificates, tickets.

use std::collections::BTreeSet;

use super::Finding;
use crate::auth::keytab::Key;
use crate::auth::policy::{self, Principal, Scheme};
use crate::config::Config;
use crate::ring::tls::material::{KnownCertificate, Material};
use crate::ring::tls::trust::Vouching;
use crate::verify;
use crate::wall_clock;

/// Users whom no location lets in by what the files hold of them: a slip in a name, or in `allow`.
/// Some may come in another way.
pub(super) fn users_of_no_location(config: &Config) -> Vec<Finding> {
    let accounts = &config.accounts.accounts;
    let is_let_in = |scheme, user: &str| {
        let principal = Principal {
            user: user.into(),
            scheme,
        };
        config.locations.iter().any(|location| {
            let access = &location.access;
            access.auth.contains(&scheme) && policy::may(&principal, &access.allow, accounts)
        })
    };
    let (users, owners) = accounts.names();
    let with = |scheme, names: Vec<_>| names.into_iter().map(move |name| (scheme, name));
    let all: Vec<_> = with(Scheme::Basic, users)
        .chain(with(Scheme::Bearer, owners))
        .collect();
    let is_in = |name: &str| {
        let mut ways = all.iter().filter(|(_, other)| *other == name);
        ways.any(|(scheme, _)| is_let_in(*scheme, name))
    };
    let left_out: BTreeSet<_> = all.iter().map(|(_, name)| *name).collect();
    let left_out = left_out.into_iter().filter(|name| !is_in(name));
    // Who comes by these is not in files, or need not be.
    let others = [Scheme::Certificate, Scheme::Negotiate, Scheme::Proxy];
    let comes_otherwise = |name: &&str| others.iter().any(|scheme| is_let_in(*scheme, name));
    let (otherwise, nowhere): (Vec<_>, Vec<_>) = left_out.partition(comes_otherwise);
    let mut findings = Vec::new();
    if !nowhere.is_empty() {
        findings.push(Finding::Doubtful(format!(
            "no location lets in {}: look at auth and allow, and at how the names are written",
            some_of(&nowhere)
        )));
    }
    if !otherwise.is_empty() {
        findings.push(Finding::Doubtful(format!(
            "no location takes the password or token of {}, only what else may show who it is: look at auth, or take them \
             out of the files",
            some_of(&otherwise)
        )));
    }
    findings
}

/// The first of these names.
fn some_of(names: &[&str]) -> String {
    let named = names.iter().take(USERS_NAMED_MAX).copied();
    let named = named.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(USERS_NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// So many users are named; there may be thousands.
const USERS_NAMED_MAX: usize = 10;

/// What TLS would show, and whom it would trust.
pub(super) fn certificates(config: &Config) -> Vec<Finding> {
    let material = match Material::read(config, None) {
        Ok(material) => material,
        Err(error) => return vec![Finding::Bad(error.to_string())],
    };
    let good = |known: &KnownCertificate| {
        let names = match known.names.is_empty() {
            true => "nobody".to_owned(),
            false => known.names.join(", "),
        };
        Finding::Good(format!(
            "{} holds an {} certificate for {names}, until {}",
            known.chain.display(),
            known.kind,
            wall_clock::to_the_second(known.not_after_s),
        ))
    };
    let good = material.known().iter().map(good);
    let good = good.chain(material.vouching().into_iter().flat_map(vouching));
    let doubts = material.doubts().into_iter();
    good.chain(doubts.map(|doubt| Finding::Doubtful(doubt.to_string())))
        .collect()
}

/// Who vouches for clients, and whose revocations are known.
fn vouching(vouching: &Vouching) -> Vec<Finding> {
    let until = wall_clock::to_the_second;
    let authorities = vouching.authorities.iter().map(|authority| {
        let (file, until) = (vouching.file.display(), until(authority.not_after_s));
        let subject = &authority.subject;
        format!("{file} holds the authority {subject}, until {until}")
    });
    let lists = (vouching.revocations.iter()).flat_map(|(file, lists)| {
        lists.iter().map(move |list| {
            let (file, until) = (file.display(), until(list.not_after_s));
            let issuer = &list.issuer;
            format!("{file} holds the revocations of {issuer}, until {until}")
        })
    });
    authorities.chain(lists).map(Finding::Good).collect()
}

/// Whose Kerberos tickets would be taken, and whether they can be.
pub(super) fn tickets(config: &Config) -> Vec<Finding> {
    let (keys, keytab) = (&config.accounts.keys, config.accounts.keytab.display());
    if keys.is_empty() {
        return Vec::new();
    }
    let good = |key: &Key| {
        let Key {
            principal, version, ..
        } = key;
        Finding::Good(format!("{keytab} holds key {version} of {principal}"))
    };
    let mut findings: Vec<_> = keys.entries().map(good).collect();
    if !keys.has_http() {
        findings.push(Finding::Doubtful(format!(
            "{keytab} holds no key of HTTP/HOST, for which clients ask by the host of the URL"
        )));
    }
    findings.push(match verify::prepare(keys) {
        Ok(_) => Finding::Good("Kerberos tickets can be looked at".to_owned()),
        Err(why) => Finding::Doubtful(format!("no Kerberos ticket can be looked at: {why}")),
    });
    findings
}
