//! The files of users, groups, tokens and certificates: text in, tables out.
//!
//! | file | a line | written by |
//! | --- | --- | --- |
//! | users | `name:hash` | Apache's `htpasswd` |
//! | groups | `group: name name` | an editor, as for Apache's `AuthGroupFile` |
//! | tokens | `name:digest` (of the token) | `bitsd token` |
//! | certificates | `name:digest` (of its DER) | `openssl x509 -fingerprint -sha256` |
//!
//! A digest is SHA-256, in hexadecimal.
//!
//! Empty lines and those that begin with `#` are skipped. Names are compared as they are written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::hash::{BadHash, PasswordHash};
use crate::http::authorization::USER_BYTES_MAX;
use crate::http::digest;

/// SHA-256 of a token, or of a certificate.
pub type Sha256Digest = [u8; 32];

/// Who there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, PasswordHash>,
    groups: BTreeMap<String, BTreeSet<String>>,
    tokens: BTreeMap<Sha256Digest, Arc<str>>,
    certificates: BTreeMap<Sha256Digest, Arc<str>>,
    /// The hash that takes longest, for users that there are not: the time of an answer does not
    /// tell who exists.
    decoy: Option<PasswordHash>,
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: usize,
    /// Why.
    pub why: BadAccount,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadAccount {
    /// It has no colon.
    NoColon,
    /// What stands before the colon, or among the members, is no name.
    Name(String),
    /// The name stands in this line before.
    Repeated(String, usize),
    /// What names one user only stands in this line before, for this one.
    Shared(&'static str, String, usize),
    /// What stands in the file of groups begins like a group in `allow`.
    At(String),
    /// In `allow` it means others.
    MeansOthers(String),
    /// The hash of this name is not one that is taken.
    Hash(String, BadHash),
    /// What follows this name is no SHA-256.
    Digest(String),
    /// What follows this name is no fingerprint.
    Fingerprint(String),
}

impl fmt::Display for BadAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColon => f.write_str("there is no colon behind the name"),
            Self::Name(name) => write!(
                f,
                "{:?} is no name: it takes 1 to {USER_BYTES_MAX} bytes without control characters, blanks at its ends, or \
                 colons, and no `#` at its beginning",
                name
            ),
            Self::Repeated(name, line) => write!(f, "{name:?} stands already in line {line}"),
            Self::Shared(what, owner, line) => {
                write!(f, "this {what} is that of {owner:?} already (line {line})")
            }
            Self::At(name) => write!(
                f,
                "{name:?} begins with @, which is for `allow` only: here groups are called without it, and hold users, \
                 not groups"
            ),
            Self::MeansOthers(name) => write!(
                f,
                "{name:?} is no name of one user: `allow` takes * for everybody, and what begins with @ for a group"
            ),
            Self::Hash(name, why) => write!(f, "{name:?} cannot be used: {why}"),
            Self::Digest(name) => write!(
                f,
                "what follows {name:?} is no SHA-256 in 64 hexadecimal digits: `bitsd token` makes one"
            ),
            Self::Fingerprint(name) => write!(
                f,
                "what follows {name:?} is no SHA-256 in 64 hexadecimal digits: \
                 `openssl x509 -noout -fingerprint -sha256` shows it"
            ),
        }
    }
}

impl Accounts {
    /// Reads the files of users, groups and tokens; one that is not there is empty.
    ///
    /// # Errors
    /// [`BadLine`] of the first file in which there is one.
    pub fn parse(users: &str, groups: &str, tokens: &str) -> Result<Self, (AccountFile, BadLine)> {
        let users = parse_users(users).map_err(|bad| (AccountFile::Users, bad))?;
        let groups = parse_groups(groups).map_err(|bad| (AccountFile::Groups, bad))?;
        let tokens = parse_tokens(tokens).map_err(|bad| (AccountFile::Tokens, bad))?;
        let decoy = users.values().max_by_key(|hash| hash.cost()).cloned();
        Ok(Self {
            users,
            groups,
            tokens,
            certificates: BTreeMap::new(),
            decoy,
        })
    }

    /// The same, and the certificates of a file.
    ///
    /// # Errors
    /// [`BadLine`]
    pub fn with_certificates(self, text: &str) -> Result<Self, BadLine> {
        let certificates = parse_certificates(text)?;
        Ok(Self {
            certificates,
            ..self
        })
    }

    /// The hash of a user's password.
    pub fn hash_of(&self, user: &str) -> Option<&PasswordHash> {
        self.users.get(user)
    }

    /// A hash to spend time on, where there is none to compare with.
    pub fn decoy(&self) -> Option<&PasswordHash> {
        self.decoy.as_ref()
    }

    /// Whose token this is. It is looked up by its digest, so that the time it takes tells nothing
    /// of other tokens.
    pub fn owner_of(&self, token: &str) -> Option<&Arc<str>> {
        self.tokens.get(&digest_of(token))
    }

    /// Whose certificate has this SHA-256.
    pub fn owner_of_certificate(&self, fingerprint: &Sha256Digest) -> Option<&Arc<str>> {
        self.certificates.get(fingerprint)
    }

    /// Who is in a group; empty if there is no such group.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &str> {
        self.groups
            .get(group)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// Whether a user is in a group.
    pub fn is_in(&self, user: &str, group: &str) -> bool {
        (self.groups.get(group)).is_some_and(|members| members.contains(user))
    }

    /// Whether there is such a group.
    pub fn has_group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Those who have a password, and those who have a token; some may be both.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let users = self.users.keys().map(String::as_str);
        let owners = self.tokens.values().map(AsRef::as_ref);
        (users.collect(), owners.collect())
    }

    /// Those who have a certificate.
    pub fn names_with_certificates(&self) -> Vec<&str> {
        self.certificates.values().map(AsRef::as_ref).collect()
    }

    /// What differs from before, in words: of each file how many entries, and of what kind.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let words = [
            ("users_file", difference(&before.users, &self.users)),
            ("groups_file", difference(&before.groups, &self.groups)),
            ("tokens_file", difference(&before.tokens, &self.tokens)),
            (
                "certificates_file",
                difference(&before.certificates, &self.certificates),
            ),
        ];
        let changed = words.into_iter().filter(|(_, words)| !words.is_empty());
        changed
            .map(|(file, words)| format!("{file}: {}", words.join(" and ")))
            .collect()
    }

    /// How many users, groups and tokens there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.users.len(), self.groups.len(), self.tokens.len())
    }
}

/// One of the four files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountFile {
    /// Names and hashes.
    Users,
    /// Groups and their members.
    Groups,
    /// Names and digests of tokens.
    Tokens,
    /// Names and digests of certificates.
    Certificates,
}

fn difference<K: Ord, V: PartialEq>(before: &BTreeMap<K, V>, now: &BTreeMap<K, V>) -> Vec<String> {
    let is_new = |key: &&K| !before.contains_key(key);
    let is_other = |(key, value): &(&K, &V)| before.get(key).is_some_and(|known| known != *value);
    let counts = [
        ("new", now.keys().filter(is_new).count()),
        ("changed", now.iter().filter(is_other).count()),
        (
            "gone",
            before.keys().filter(|key| !now.contains_key(key)).count(),
        ),
    ];
    let some = counts.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(what, count)| format!("{count} {what}"))
        .collect()
}

/// SHA-256 of a token, by which it is known.
pub fn digest_of(token: &str) -> Sha256Digest {
    Sha256::digest(token).into()
}

fn parse_users(text: &str) -> Result<BTreeMap<String, PasswordHash>, BadLine> {
    let read = |name: &str, rest: &str| {
        let name = of_one_user(name)?;
        // htpasswd may have left a comment behind a second colon.
        let hash = rest.split(':').next().unwrap_or_default().trim();
        let hash = PasswordHash::parse(hash).map_err(|why| BadAccount::Hash(name.into(), why))?;
        Ok((name.to_owned(), hash))
    };
    parse_lines(text, read, |name, _, line| {
        BadAccount::Repeated(name.into(), line)
    })
}

fn parse_groups(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, BadLine> {
    let read = |name: &str, rest: &str| {
        let mut members = BTreeSet::new();
        for member in rest.split([' ', '\t', ',']).filter(|name| !name.is_empty()) {
            members.insert(check_name(in_a_group(member)?)?.to_owned());
        }
        Ok((in_a_group(name)?.to_owned(), members))
    };
    parse_lines(text, read, |name, _, line| {
        BadAccount::Repeated(name.into(), line)
    })
}

/// `@` says in `allow` that a group is meant; a group is called without it, and holds no groups.
fn in_a_group(name: &str) -> Result<&str, BadAccount> {
    match name.starts_with('@') {
        true => Err(BadAccount::At(name.to_owned())),
        false => Ok(name),
    }
}

/// A name by which `allow` lets somebody in: it must not mean others there.
fn of_one_user(name: &str) -> Result<&str, BadAccount> {
    match name == "*" || name.starts_with('@') {
        true => Err(BadAccount::MeansOthers(name.to_owned())),
        false => Ok(name),
    }
}

fn parse_tokens(text: &str) -> Result<BTreeMap<Sha256Digest, Arc<str>>, BadLine> {
    let read = |name: &str, rest: &str| {
        let name = of_one_user(name)?;
        // A user may have several: an old one and a new one.
        let digest =
            digest::parse_hex(rest.trim()).ok_or_else(|| BadAccount::Digest(name.into()))?;
        Ok((digest, name.into()))
    };
    parse_lines(text, read, |_, owner: &Arc<str>, line| {
        BadAccount::Shared("token", owner.to_string(), line)
    })
}

fn parse_certificates(text: &str) -> Result<BTreeMap<Sha256Digest, Arc<str>>, BadLine> {
    let read = |name: &str, rest: &str| {
        let name = of_one_user(name)?;
        // openssl writes a colon between two bytes.
        let digits: String = rest.trim().split(':').collect();
        let digest =
            digest::parse_hex(&digits).ok_or_else(|| BadAccount::Fingerprint(name.into()))?;
        Ok((digest, name.into()))
    };
    parse_lines(text, read, |_, owner: &Arc<str>, line| {
        BadAccount::Shared("certificate", owner.to_string(), line)
    })
}

/// The entries of all lines, each of which is `name:rest`. `repeated` says what is wrong with a
/// name whose key stood, with this value, in this line before.
fn parse_lines<K: Ord, V>(
    text: &str,
    read: impl Fn(&str, &str) -> Result<(K, V), BadAccount>,
    repeated: impl Fn(&str, &V, usize) -> BadAccount,
) -> Result<BTreeMap<K, V>, BadLine> {
    let mut all: BTreeMap<K, (V, usize)> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let halves = line.split_once(':').ok_or(BadAccount::NoColon);
        let taken = halves.and_then(|(name, rest)| {
            let (key, value) = read(check_name(name)?, rest)?;
            match all.entry(key) {
                Entry::Vacant(free) => {
                    free.insert((value, number));
                    Ok(())
                }
                Entry::Occupied(known) => {
                    let (value, line) = known.get();
                    Err(repeated(name, value, *line))
                }
            }
        });
        taken.map_err(|why| BadLine { number, why })?;
    }
    let entries = all.into_iter().map(|(key, (value, _))| (key, value));
    Ok(entries.collect())
}

/// Whether a user or a group can be called so.
pub fn is_name(name: &str) -> bool {
    (1..=USER_BYTES_MAX).contains(&name.len())
        && name.trim() == name
        && !name.contains(|c: char| c.is_control() || c == ':')
}

fn check_name(name: &str) -> Result<&str, BadAccount> {
    is_name(name)
        .then_some(name)
        .ok_or_else(|| BadAccount::Name(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::digest::Hex;

    const HASH: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";
    const COSTLY: &str = "$2y$10$/FLdgVBgKbHKQmjZY1JisOCmDrrqFxKdodD7DQfqTT9PalXLnPMyO";

    /// The time of an answer is that of the hash.
    #[test]
    fn what_another_file_changes_is_counted() {
        let token = "a".repeat(64);
        let before = Accounts::parse("", "g: anna\nh: bert\n", &format!("anna:{token}\n"));
        let before = before.unwrap();
        let other = "b".repeat(64);
        let now = Accounts::parse("", "g: carl\nh: bert\n", &format!("anna:{other}\n")).unwrap();
        assert_eq!(before.changes(&before), [""; 0]);
        let expected = ["groups_file: 1 changed", "tokens_file: 1 new and 1 gone"];
        assert_eq!(now.changes(&before), expected);
        let none = Accounts::default();
        let expected = ["groups_file: 2 gone", "tokens_file: 1 gone"];
        assert_eq!(none.changes(&before), expected);
    }

    #[test]
    fn whoever_does_not_exist_costs_the_hash_that_costs_most() {
        let of = |cost: u32| format!("$2y${cost:02}${}", "a".repeat(53));
        let users = format!("a:{}\nb:{}\nc:{}\n", of(5), of(10), of(8));
        let accounts = Accounts::parse(&users, "", "").unwrap();
        let most = accounts.hash_of("b").unwrap();
        assert_eq!(accounts.decoy(), Some(most));
        assert_eq!(accounts.hash_of("nobody"), None);
    }

    #[test]
    fn the_files_are_read() {
        let users = format!("# people\n\nanna:{HASH}\nPC1$:{COSTLY}:the one at the door\n");
        let token = "Z3JlYXQgdG9rZW4";
        let digest = Hex(&digest_of(token)).to_string();
        let tokens = format!("robot:{digest}\nrobot:{}\n", "0f".repeat(32));
        let accounts = Accounts::parse(&users, "ops: anna  bert\nempty:\n", &tokens).unwrap();
        assert!(accounts.hash_of("anna").unwrap().verify(b"sesame"));
        assert!(accounts.hash_of("Anna").is_none() && accounts.hash_of("bert").is_none());
        assert_eq!(accounts.decoy().unwrap().as_str(), COSTLY, "takes longest");
        assert_eq!(accounts.owner_of(token).map(|name| &**name), Some("robot"));
        assert_eq!(accounts.owner_of("another"), None);
        assert!(accounts.is_in("anna", "ops") && accounts.is_in("bert", "ops"));
        assert!(!accounts.is_in("anna", "empty") && !accounts.is_in("anna", "none"));
        assert!(accounts.has_group("empty") && !accounts.has_group("none"));
        assert_eq!(accounts.counts(), (2, 2, 2));
        assert_eq!(Accounts::parse("", "", "").unwrap(), Accounts::default());
    }

    #[test]
    fn certificates_are_read_as_openssl_shows_them() {
        let shown = ["0F"; 32].join(":");
        let text = format!("anna:{shown}\nanna:{}\n", "a0".repeat(32));
        let accounts = Accounts::default().with_certificates(&text).unwrap();
        let owner = |digest| accounts.owner_of_certificate(&digest).map(|name| &**name);
        assert_eq!(owner([0x0f; 32]), Some("anna"));
        assert_eq!(owner([0xa0; 32]), Some("anna"));
        assert_eq!(owner([0; 32]), None);
        for (text, number) in [
            ("anna:0F:0F", 1),
            ("# x\nanna:SHA256 Fingerprint=0F", 2),
            (&format!("anna:{shown}\nbert:{shown}")[..], 2),
        ] {
            let bad = Accounts::default().with_certificates(text).unwrap_err();
            assert_eq!(bad.number, number, "{}", bad.why);
        }
        let twice = format!("anna:{shown}\nbert:{shown}");
        let bad = Accounts::default().with_certificates(&twice).unwrap_err();
        let expected = "this certificate is that of \"anna\" already (line 1)";
        assert_eq!(bad.why.to_string(), expected);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let bad = |users: &str, groups: &str, tokens: &str| {
            let (file, bad) = Accounts::parse(users, groups, tokens).unwrap_err();
            (file, bad.number, bad.why.to_string())
        };
        let told = bad(&format!("anna:{HASH}\nbert:$apr1$x$y\n"), "", "");
        assert_eq!((told.0, told.1), (AccountFile::Users, 2));
        assert!(
            told.2.contains("\"bert\"") && told.2.contains("htpasswd -B"),
            "{}",
            told.2
        );
        let told = bad(&format!("anna:{HASH}\n# x\nanna:{HASH}"), "", "");
        assert_eq!((told.1, &*told.2), (3, "\"anna\" stands already in line 1"));
        assert_eq!(bad("anna", "", "").2, "there is no colon behind the name");
        assert!(bad(&format!(":{HASH}"), "", "").2.contains("is no name"));
        let told = bad("", "ops: anna\nops: bert", "");
        assert_eq!((told.0, told.1), (AccountFile::Groups, 2));
        for groups in ["@ops: anna", "ops: anna, @all"] {
            let told = bad("", groups, "");
            assert!(
                told.0 == AccountFile::Groups && told.2.contains("for `allow` only"),
                "{}",
                told.2
            );
        }
        let digest = "0f".repeat(32);
        let told = bad("", "", &format!("# x\nanna:{digest}\nbert:{digest}"));
        let expected = "this token is that of \"anna\" already (line 2)";
        assert_eq!((told.1, &*told.2), (3, expected));
        for name in ["@ops", "*"] {
            for (users, tokens) in [(HASH, ""), ("", &*digest)] {
                let line = |rest: &str| match rest {
                    "" => String::new(),
                    rest => format!("{name}:{rest}"),
                };
                let told = bad(&line(users), "", &line(tokens));
                assert!(told.2.contains("is no name of one user"), "{}", told.2);
            }
        }
        let told = bad("", "", "robot:secret");
        assert_eq!((told.0, told.1), (AccountFile::Tokens, 1));
        assert!(told.2.contains("bitsd token"), "{}", told.2);
        assert!(
            !told.2.contains("secret"),
            "what may be a token is not shown"
        );
        for digest in [
            "0f".repeat(31),
            "0f".repeat(33),
            "0g".repeat(32),
            "ä".repeat(32),
        ] {
            bad("", "", &format!("robot:{digest}"));
        }
    }
}
