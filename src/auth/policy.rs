//! What a location asks of those who upload to it.

use std::sync::Arc;

use super::accounts::{Accounts, is_name};
use super::identity::is_same;
pub use crate::http::authorization::Scheme;

/// Who somebody is, and how that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name.
    pub user: Arc<str>,
    /// How it was shown.
    pub scheme: Scheme,
}

impl Principal {
    /// Whether this is who is called so. Those who come from Active Directory by ticket or
    /// certificate are called as it is spelt there or as somebody has typed it; of the others each
    /// spelling is somebody else, as in their files.
    pub fn is(&self, name: &str) -> bool {
        match self.scheme {
            Scheme::Negotiate | Scheme::Certificate => is_same(&self.user, name),
            Scheme::Basic | Scheme::Bearer | Scheme::Proxy => *self.user == *name,
        }
    }
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

    fn holds(&self, principal: &Principal, accounts: &Accounts) -> bool {
        match self {
            Self::Anybody => true,
            Self::User(name) => principal.is(name),
            Self::Group(group) => {
                accounts.is_in(&principal.user, group)
                    || accounts.members(group).any(|member| principal.is(member))
            }
        }
    }
}

/// Whether somebody is among those who may.
pub fn may(principal: &Principal, allowed: &[Allowed], accounts: &Accounts) -> bool {
    allowed.iter().any(|some| some.holds(principal, accounts))
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
        use Scheme::{Basic, Bearer, Certificate, Negotiate};
        for (texts, user, scheme, expected) in [
            (&["*"][..], "anyone", Basic, true),
            (&["anna"], "anna", Basic, true),
            (&["anna"], "Anna", Basic, false),
            (&["anna"], "Anna", Bearer, false),
            (&["anna"], "Anna", Negotiate, true),
            (&["@ops"], "anna", Basic, true),
            (&["@ops"], "Anna", Basic, false),
            (&["@ops"], "ANNA", Certificate, true),
            (&["@ops"], "bert", Negotiate, false),
            (&["@none", "bert"], "bert", Basic, true),
            (&["pc1$"], "PC1$", Negotiate, true),
            (&["anna"], "anna@OTHER", Negotiate, false),
            (&[], "anna", Negotiate, false),
        ] {
            let written: Vec<_> = list(texts).iter().map(Allowed::to_text).collect();
            assert_eq!(written, texts);
            let principal = Principal {
                user: user.into(),
                scheme,
            };
            assert_eq!(
                may(&principal, &list(texts), &accounts),
                expected,
                "{texts:?} {user} {scheme:?}"
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
