//! What a location asks of those who upload to it.

use std::sync::Arc;

use super::accounts::{Accounts, is_name};
pub use crate::http::authorization::Scheme;

/// Who somebody is, and how that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub user: Arc<str>,
    /// How it was shown.
    pub scheme: Scheme,
}

/// Some of those who have shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    Anybody,
    /// The user of this name.
    User(String),
    /// The members of this group.
    Group(String),
}

impl Allowed {
    /// `*`, `@group` or `user`; `None` if it is none of them.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            _ if text == "*" => Some(Self::Anybody),
            Some(group) if is_name(group) => Some(Self::Group(group.to_owned())),
            None if is_name(text) => Some(Self::User(text.to_owned())),
            _ => None,
        }
    }

    /// As it was written.
    pub fn to_text(&self) -> String {
        match self {
            Self::Anybody => "*".to_owned(),
            Self::User(name) => name.clone(),
            Self::Group(group) => format!("@{group}"),
        }
    }

    fn holds(&self, user: &str, accounts: &Accounts) -> bool {
        match self {
            Self::Anybody => true,
            Self::User(name) => name == user,
            Self::Group(group) => accounts.is_in(user, group),
        }
    }
}

/// Whether a user is among those who may.
pub fn may(user: &str, allowed: &[Allowed], accounts: &Accounts) -> bool {
    allowed.iter().any(|some| some.holds(user, accounts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_allowed() {
        let accounts = Accounts::parse("", "ops: anna\n", "").unwrap();
        let list = |texts: &[&str]| -> Vec<Allowed> {
            texts
                .iter()
                .map(|text| Allowed::parse(text).unwrap())
                .collect()
        };
        for (texts, user, expected) in [
            (&["*"][..], "anyone", true),
            (&["anna"], "anna", true),
            (&["anna"], "Anna", false),
            (&["@ops"], "anna", true),
            (&["@ops"], "bert", false),
            (&["@none", "bert"], "bert", true),
            (&["PC1$"], "PC1$", true),
            (&[], "anna", false),
        ] {
            let written: Vec<_> = list(texts).iter().map(Allowed::to_text).collect();
            assert_eq!(written, texts);
            assert_eq!(
                may(user, &list(texts), &accounts),
                expected,
                "{texts:?} {user}"
            );
        }
    }

    #[test]
    fn what_is_no_name_is_not_read() {
        for text in ["", "@", " anna", "a:b", "@ ops", "line\nbreak"] {
            assert_eq!(Allowed::parse(text), None, "{text:?}");
        }
    }
}
