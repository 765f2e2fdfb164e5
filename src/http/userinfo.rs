//! What must not be shown of a URL: the user in it, behind whom a password stands
//! (RFC 3986 3.2.1). A request target may have one too, be it absolute or that of CONNECT.

use std::borrow::Cow;

/// A URL without its user, for whom `…@` stands. A path stays as it is.
///
/// Whoever writes a password may have put a `/`, a `?` or a `#` into it. Then something else than a
/// port stands behind the colon, and nothing is shown up to the last `@`.
pub fn without_user(text: &str) -> Cow<'_, str> {
    masked(text, false)
}

/// The same of a request target of which the rest may be missing, its `@` with it: then nothing is
/// shown behind what may be a user.
pub fn without_user_of_target(text: &str) -> Cow<'_, str> {
    masked(text, true)
}

fn masked(text: &str, may_be_cut: bool) -> Cow<'_, str> {
    let Some(start) = authority_at(text) else {
        return Cow::Borrowed(text);
    };
    let (before, rest) = text.split_at(start);
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    // The colons of an IPv6 address stand within its brackets.
    let behind = authority.rsplit(']').next().unwrap_or_default();
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_of_host = behind.split_once(':').is_none_or(|(_, port)| is_port(port));
    let shown = match (authority.rfind('@'), rest.rfind('@')) {
        (Some(at), _) => at,
        (None, Some(at)) if !is_of_host => at,
        (None, None) if !is_of_host && may_be_cut => rest.len(),
        _ => return Cow::Borrowed(text),
    };
    Cow::Owned(format!("{before}\u{2026}{}", &rest[shown..]))
}

/// Where the authority begins: behind `//`, with or without a scheme before it, or at the
/// beginning. `None` of a path. One slash behind a scheme, or one the other way round, is a slip.
fn authority_at(text: &str) -> Option<usize> {
    let is_slash = |letter: char| matches!(letter, '/' | '\\');
    // As it stands in a file it has quotes.
    let bare = text.trim_start_matches(['"', '\'', ' ']);
    let is_of_scheme = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let scheme = bare.trim_start_matches(is_of_scheme);
    let (behind, slashes_min) = match scheme.strip_prefix(':') {
        Some(behind) if behind.starts_with(is_slash) => (behind, 1),
        _ if bare.starts_with(is_slash) => (bare, 2),
        _ => return Some(text.len() - bare.len()),
    };
    let authority = behind.trim_start_matches(is_slash);
    let slashes = behind.len() - authority.len();
    (slashes >= slashes_min).then(|| text.len() - authority.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_is_shown_however_a_url_is_written() {
        for (text, shown) in [
            ("http://anna:pw@h/x", "http://\u{2026}@h/x"),
            ("//anna:pw@h/x", "//\u{2026}@h/x"),
            ("ftp://anna:pw@h:21/x@y", "ftp://\u{2026}@h:21/x@y"),
            ("anna:pw@h:1", "\u{2026}@h:1"),
            ("http://anna@h", "http://\u{2026}@h"),
            ("http://a@b:pw@h", "http://\u{2026}@h"),
            ("\"nats://anna:pw@h\"", "\"nats://\u{2026}@h\""),
            ("http:/anna:pw@h/x", "http:/\u{2026}@h/x"),
            ("http:\\\\anna:pw@h", "http:\\\\\u{2026}@h"),
            ("http:///anna:pw@h/", "http:///\u{2026}@h/"),
            // A password that a URL cannot hold as it is.
            ("http://anna:p/w@h/x", "http://\u{2026}@h/x"),
            ("http://anna:p?w@h/x", "http://\u{2026}@h/x"),
            ("http://anna:p#w@h", "http://\u{2026}@h"),
            ("http://anna:p w@h", "http://\u{2026}@h"),
        ] {
            assert_eq!(without_user(text), shown, "{text}");
            assert_eq!(without_user_of_target(text), shown, "{text}");
        }
        for (begun, shown) in [
            ("http://anna:pw", "http://\u{2026}"),
            ("http://anna:p/w", "http://\u{2026}"),
            ("anna:pw", "\u{2026}"),
        ] {
            assert_eq!(without_user_of_target(begun), shown, "{begun}");
            // A setting is never cut, and this may be a port with a slip in it.
            assert_eq!(without_user(begun), begun);
        }
    }

    #[test]
    fn what_has_no_user_stays_as_it_is() {
        for text in [
            "",
            "*",
            "/",
            "/a@b",
            "/a:b@c",
            "/a//b:c@d",
            "h:1",
            "h",
            "http://h/a@b?c@d",
            "http://h:80/a@b",
            "http://[::1]:80/a@b",
            "http://[::1]/a@b",
            "//a",
            "//",
            "http://",
        ] {
            assert_eq!(without_user(text), text);
            assert_eq!(without_user_of_target(text), text);
        }
    }
}
