//! From the name in a Kerberos ticket to the name of a user.

use std::sync::Arc;

use super::accounts::is_name;

/// The user of a principal, as the library displays it: `anna@EXAMPLE` is `anna` where `EXAMPLE` is
/// one of `realms`, and stays as it is otherwise; the account of a machine is `PC1$` likewise.
/// `None` if nobody can be called so.
///
/// Realms are compared as names of DNS are, since Active Directory makes them of those.
pub fn user_of<'n>(principal: &'n str, realms: &[impl AsRef<str>]) -> Option<&'n str> {
    let user = match principal.rsplit_once('@') {
        // A character behind a backslash belongs to the name (MIT's krb5_unparse_name).
        Some((name, realm)) if !name.ends_with('\\') && is_one_of(realm, realms) => name,
        _ => principal,
    };
    is_name(user).then_some(user)
}

fn is_one_of(realm: &str, realms: &[impl AsRef<str>]) -> bool {
    (realms.iter()).any(|known| known.as_ref().eq_ignore_ascii_case(realm))
}

/// A name out of Active Directory as it is called here: whoever types it otherwise has the same
/// folder, and the same count of uploads.
pub fn folded(name: &str) -> Arc<str> {
    name.to_lowercase().into()
}

/// Whether two names are one to Active Directory, which does not tell case apart.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || folded(one) == folded(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_realm_of_ours_is_left_out() {
        let realms = ["EXAMPLE", "SUB.EXAMPLE"];
        for (principal, user) in [
            ("anna@EXAMPLE", Some("anna")),
            ("Anna@sub.example", Some("Anna")),
            ("PC1$@EXAMPLE", Some("PC1$")),
            ("anna/admin@EXAMPLE", Some("anna/admin")),
            ("anna@OTHER", Some("anna@OTHER")),
            ("anna@EXAMPLE@OTHER", Some("anna@EXAMPLE@OTHER")),
            ("anna", Some("anna")),
            // Escaped: part of the name, or of the realm.
            ("anna\\@OTHER@EXAMPLE", Some("anna\\@OTHER")),
            ("anna@OTHER\\@EXAMPLE", Some("anna@OTHER\\@EXAMPLE")),
            ("@EXAMPLE", None),
            ("", None),
            ("a:b@EXAMPLE", None),
            ("a\nb@EXAMPLE", None),
        ] {
            assert_eq!(user_of(principal, &realms), user, "{principal:?}");
        }
        let long = format!("{}@EXAMPLE", "x".repeat(257));
        assert_eq!(user_of(&long, &realms), None);
        assert_eq!(user_of("anna@EXAMPLE", &[""; 0]), Some("anna@EXAMPLE"));
    }

    #[test]
    fn case_does_not_tell_users_apart() {
        assert_eq!(folded("PC1$"), folded("pc1$"));
        assert!(is_same("PC1$", "pc1$") && is_same("JÖRG", "jörg"));
        assert!(!is_same("PC1$", "PC1"));
    }
}
