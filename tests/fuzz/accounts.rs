//! The files of users, groups, tokens and certificates, and a keytab: a mistake is told with a line
//! that is there, and what is read has names that can be names.
#![no_main]

use bitsd::auth::accounts::{Accounts, is_name};
use bitsd::auth::identity;
use bitsd::auth::keytab::Keytab;
use bitsd::auth::policy::Allowed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    let mut files = text.splitn(4, '\x01');
    let mut file = || files.next().unwrap_or_default();
    let (users, groups, tokens, certificates) = (file(), file(), file(), file());
    for (users, groups, tokens) in [
        (users, groups, tokens),
        (&*text, "", ""),
        ("", &*text, ""),
        ("", "", &*text),
    ] {
        if let Err((_, bad)) = Accounts::parse(users, groups, tokens) {
            assert!((1..=lines).contains(&bad.number) && !bad.why.to_string().is_empty());
        }
    }
    if let Err(bad) = Accounts::default().with_certificates(certificates) {
        assert!((1..=lines).contains(&bad.number));
    }
    if let Some(allowed) = Allowed::parse(&text) {
        assert_eq!(allowed.to_text(), text);
    }
    if let Some(user) = identity::user_of(&text, &["EXAMPLE"]) {
        assert!(is_name(user) && text.starts_with(user));
    }
    // As it is, and behind its first two bytes.
    for content in [bytes.to_vec(), [b"\x05\x02", bytes].concat()] {
        if let Ok(keytab) = Keytab::parse(content.clone().into()) {
            assert!(!keytab.is_empty() && keytab.content() == content);
            let is_whole = |key: &bitsd::auth::keytab::Key| {
                key.principal.ends_with(&format!("@{}", key.realm))
            };
            assert!(keytab.entries().all(is_whole));
        }
    }
});
