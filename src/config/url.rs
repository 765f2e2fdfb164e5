//! URLs and host names among the settings: what may stand in them.
//!
//! Only the form is looked at, by RFC 3986 to the letter. What a browser would mend is a slip here:
//! the crate `url`, which follows WHATWG, takes `http:///path` for a host. User names in a URL are
//! refused (RFC 9110 4.2.4), because a settings file is printed and logged; a secret has a file of
//! its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use fluent_uri::{Uri, UriRef};

use super::text::{Text, no_hint};
use crate::http::userinfo;

/// An http or https URL as `public_url`, without the slash at its end.
pub(super) fn parse_public_url(text: &str) -> Option<String> {
    parse_endpoint(text).filter(|url| url.len() <= PUBLIC_URL_CHARS_MAX)
}

/// An http or https URL of a store, likewise.
pub(super) fn parse_endpoint(text: &str) -> Option<String> {
    let is_good = is_http_url(text) && !text.contains('?');
    is_good.then(|| text.trim_end_matches('/').to_owned())
}

/// A URL to notify: absolute, or a path on the host of `public_url`.
pub(super) fn parse_notification_url(text: &str) -> Option<String> {
    let is_path = || {
        let is_reference = UriRef::parse(text).is_ok_and(|url| !url.has_fragment());
        text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= URL_CHARS_MAX
            && is_reference
    };
    (is_http_url(text) || is_path()).then(|| text.to_owned())
}

/// An http or https URL that events are posted to.
pub(super) fn parse_webhook(text: &str) -> Option<String> {
    is_http_url(text).then(|| text.to_owned())
}

/// A URL as it may be shown: without what stands for a user or behind the question mark, where
/// applications have their tokens. Texts that are no URLs are shown as they are, but for a path.
pub fn without_secrets(text: &str) -> String {
    let is_path = text.trim_start_matches('"').starts_with('/');
    if !is_path && !text.contains(":/") && !text.contains(":\\") {
        return text.to_owned();
    }
    // A group is written with an `@` before its name.
    let colon = text.find(':').filter(|_| !is_path).unwrap_or(0);
    let scheme = text[..colon].trim_end_matches(|letter: char| letter.is_ascii_alphanumeric());
    let (before, url) = text.split_at(scheme.len());
    let url = userinfo::without_user(url);
    match url.split_once('?') {
        Some((shown, _)) => format!("{before}{shown}?\u{2026}"),
        None => format!("{before}{url}"),
    }
}

/// A server of NATS.
pub(super) fn parse_nats(text: &str) -> Option<String> {
    let url = Uri::parse(text).ok()?;
    let is_nats = matches!(url.scheme().as_str(), "nats" | "tls");
    let is_bare =
        matches!(url.path().as_str(), "" | "/") && !url.has_query() && !url.has_fragment();
    let authority = url.authority().filter(|_| is_nats && is_bare)?;
    let has_port = authority.port_to_u16().is_ok_and(|port| port != Some(0));
    let is_good = has_port
        && !authority.has_userinfo()
        && parse_host(authority.host()).is_some()
        && text.len() <= URL_CHARS_MAX;
    is_good.then(|| text.to_owned())
}

/// A host name or an IP literal; IPv6 gets its brackets (RFC 3986 3.2.2).
pub(super) fn parse_host(text: &str) -> Option<String> {
    if text.len() > HOST_CHARS_MAX {
        return None;
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{text}]"));
    }
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_good = match in_brackets {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name_or_ipv4(text),
    };
    is_good.then(|| text.to_owned())
}

fn is_name_or_ipv4(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    text.split('.').all(|label| {
        (1..=LABEL_CHARS_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            // No host name has underscores, but names of Windows machines do.
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

/// A name that every store takes for a bucket.
pub(super) fn parse_bucket(text: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    let is_name = (3..=63).contains(&text.len()) && text.bytes().all(is_plain);
    is_name.then(|| text.to_owned())
}

/// What the keys of objects may begin with.
pub(super) fn parse_key_prefix(text: &str) -> Option<String> {
    let is_good =
        text.len() <= 200 && !text.starts_with('/') && !text.chars().any(char::is_control);
    is_good.then(|| text.to_owned())
}

/// A word that may stand in a host name.
pub(super) fn parse_region(text: &str) -> Option<String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let is_good = (1..=64).contains(&text.len()) && text.bytes().all(is_plain);
    is_good.then(|| text.to_owned())
}

/// Whether there are a scheme that we speak, a host, and a port if there is a colon; no user, and
/// no fragment, which is never sent.
fn is_http_url(text: &str) -> bool {
    let Ok(url) = Uri::parse(text) else {
        return false;
    };
    let scheme = url.scheme().as_str();
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let Some(authority) = url.authority().filter(|_| is_http && !url.has_fragment()) else {
        return false;
    };
    let is_port = match authority.port() {
        Some(_) => authority
            .port_to_u16()
            .is_ok_and(|port| port.is_some_and(|port| port > 0)),
        None => true,
    };
    is_port
        && !authority.has_userinfo()
        && parse_host(authority.host()).is_some()
        && text.len() <= URL_CHARS_MAX
}

/// What is wrong with what looks like a URL. A user in it is told of otherwise.
fn why_no_url(text: &str) -> Option<String> {
    why_no_url_of(text, URL_CHARS_MAX)
}

fn why_no_public_url(text: &str) -> Option<String> {
    why_no_url_of(text, PUBLIC_URL_CHARS_MAX)
}

fn why_no_url_of(text: &str, chars_max: usize) -> Option<String> {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    // The last part of an IPv6 address ends with its bracket.
    let is_wrong_port = |port: &str| !port.ends_with(']') && port.parse::<u16>().unwrap_or(0) == 0;
    // A path is one for which the host is asked elsewhere.
    let is_url = text.contains("://");
    let host = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next().unwrap_or_default(),
    };
    let why = if !text.is_ascii() {
        "other letters than those of ASCII are written as %XX, and in a host in Punycode (xn--..)"
    } else if text.contains([' ', '\t']) {
        "a blank is written as %20"
    } else if text.contains('\\') {
        "a URL has / and no backslash"
    } else if text.contains('#') {
        "what follows # is never sent: leave it out"
    } else if authority.parse::<Ipv6Addr>().is_ok() {
        "an IPv6 address stands in brackets"
    } else if is_url && host.is_empty() {
        "it names no host"
    } else if port.is_some_and(is_wrong_port) {
        "ports are 1 to 65535"
    } else if is_url && parse_host(host).is_none() {
        "its host is neither a name nor an address"
    } else if text.len() > chars_max {
        return Some(format!("; it has {} characters", text.len()));
    } else {
        return None;
    };
    Some(format!("; {why}"))
}

/// The bound of IIS for URLs (protocol.md 11.1).
const URL_CHARS_MAX: usize = 2_200;
/// URLs of replies begin with it, and are no longer than others (protocol.md 10.1).
const PUBLIC_URL_CHARS_MAX: usize = 2_000;
/// The bound of IIS for host ids (protocol.md 11.2).
const HOST_CHARS_MAX: usize = 300;
/// RFC 1035 2.3.4.
const LABEL_CHARS_MAX: usize = 63;

/// What `public_url` may be.
pub(super) const PUBLIC_URL: Text = Text {
    parse: parse_public_url,
    takes: "an http or https URL without a query, of at most 2000 characters",
    pattern: r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s?#]+$",
    hint: why_no_public_url,
};
/// What the URL of an object store may be.
pub(super) const ENDPOINT: Text = Text {
    parse: parse_endpoint,
    takes: "an http or https URL without a query, of at most 2200 characters",
    hint: why_no_url,
    ..PUBLIC_URL
};
/// What `notification_url` may be.
pub(super) const NOTIFICATION_URL: Text = Text {
    parse: parse_notification_url,
    takes: "an http or https URL, or a path that begins with / and belongs to the host of \
            `public_url`, of at most 2200 characters",
    pattern: r"^([Hh][Tt][Tt][Pp][Ss]?:/)?/[^\s#]*$",
    hint: why_no_url,
};
/// Where events may be posted to.
pub(super) const WEBHOOK: Text = Text {
    parse: parse_webhook,
    takes: "an http or https URL",
    pattern: r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s#]+$",
    hint: why_no_url,
};
/// What a server of NATS is called.
pub(super) const NATS: Text = Text {
    parse: parse_nats,
    takes: "a URL such as nats://host:4222 or tls://host:4222",
    pattern: r"^(nats|tls)://[^\s/?#@]+/?$",
    hint: why_no_url,
};
/// What `host_id` may be.
pub(super) const HOST: Text = Text {
    parse: parse_host,
    takes: "a host name or an IP address, without scheme, port and path, of at most 300 characters",
    pattern: r"^([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[?[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]?)$",
    hint: no_hint,
};
/// What a bucket may be called.
pub(super) const BUCKET: Text = Text {
    parse: parse_bucket,
    takes: "3 to 63 lower-case letters, digits, dots and hyphens",
    pattern: "^[a-z0-9.-]{3,63}$",
    hint: no_hint,
};
/// What keys may begin with.
pub(super) const KEY_PREFIX: Text = Text {
    parse: parse_key_prefix,
    takes: "up to 200 characters without a slash at the beginning, such as `in/`",
    pattern: "^([^/].{0,199})?$",
    hint: no_hint,
};
/// What a region may be called.
pub(super) const REGION: Text = Text {
    parse: parse_region,
    takes: "a region, such as `eu-central-1`",
    pattern: "^[A-Za-z0-9_-]{1,64}$",
    hint: no_hint,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for host in [
            "node-1",
            "node1.example",
            "NODE_1",
            "10.0.0.1",
            "[::1]",
            "1a",
        ] {
            assert_eq!(parse_host(host).as_deref(), Some(host));
        }
        assert_eq!(parse_host("fe80::1").as_deref(), Some("[fe80::1]"));
        let long = format!("{}a", "a.".repeat(150));
        for host in [
            "",
            "http://node",
            "node:80",
            "[::1]:80",
            "node/path",
            "a..b",
            "node.",
            "-node",
            "n\u{f6}de",
            "no de",
            "1.2.3.400",
            "10.0.0",
            "[node]",
            "[::1",
            "user@node",
            &"a".repeat(64),
            &long,
        ] {
            assert_eq!(parse_host(host), None, "{host}");
        }
        assert_eq!(long.len(), 301);
        assert!(parse_host(&long[1..].replacen('.', "b", 1)).is_some());
    }

    #[test]
    fn public_urls_are_absolute_and_lose_the_slash_at_their_end() {
        for (text, url) in [
            ("https://up.example", "https://up.example"),
            ("http://up.example:8080/", "http://up.example:8080"),
            ("HTTPS://[::1]:1/a/b/", "HTTPS://[::1]:1/a/b"),
        ] {
            assert_eq!(parse_public_url(text).as_deref(), Some(url));
        }
        for text in [
            "",
            "up.example",
            "/path",
            "ftp://up.example",
            "http://",
            "http:///path",
            "http://up.example:0",
            "http://up.example:65536",
            "http://up.example:+1",
            "http://up.example:",
            "http://up.example?x",
            "http://up.example/a?x",
            "http://up.example/#a",
            "http://user:word@up.example",
            "http://up.example\\a",
            "http://[::1/",
            "http://[::1]x/",
        ] {
            assert_eq!(parse_public_url(text), None, "{text}");
        }
        // URLs of replies begin with it, and have to fit.
        let long = |chars: usize| format!("http://h/{}", "a".repeat(chars - "http://h/".len()));
        assert!(parse_public_url(&long(2_000)).is_some());
        assert_eq!(parse_public_url(&long(2_001)), None);
        assert_eq!(
            why_no_public_url(&long(2_001)).as_deref(),
            Some("; it has 2001 characters")
        );
        assert!(parse_endpoint(&long(2_200)).is_some());
    }

    #[test]
    fn a_url_is_shown_without_its_user_and_its_query() {
        for (text, shown) in [
            ("http://h/done", "http://h/done"),
            ("http://h/done?token=A", "http://h/done?\u{2026}"),
            (
                "https://anna:pw@h:8/x@y?a=b?c",
                "https://\u{2026}@h:8/x@y?\u{2026}",
            ),
            ("http://a@b:pw@h", "http://\u{2026}@h"),
            ("nats://anna:pw@h:4222", "nats://\u{2026}@h:4222"),
            ("/done?token=A", "/done?\u{2026}"),
            ("\"/done?token=A\"", "\"/done?\u{2026}"),
            ("http:/anna:pw@h", "http:/\u{2026}@h"),
            ("@http://anna:pw@h/", "@http://\u{2026}@h/"),
            ("http:\\\\anna:pw@h", "http:\\\\\u{2026}@h"),
            ("http://anna:p?w@h", "http://\u{2026}@h"),
            ("/srv/up@loads", "/srv/up@loads"),
            ("1 GiB", "1 GiB"),
            ("what?", "what?"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        for (text, why) in [
            ("http://h:0/", "ports are 1 to 65535"),
            ("http://h:99999/x", "ports are 1 to 65535"),
            ("https://[::1]:x/", "ports are 1 to 65535"),
            ("nats://h:99999", "ports are 1 to 65535"),
            ("http://", "names no host"),
            ("http:///x", "names no host"),
            ("nats://:4222", "names no host"),
            ("http://::1/x", "brackets"),
            ("http://a..b/x", "neither a name nor an address"),
            ("http://[::g]:80/x", "neither a name nor an address"),
            ("http://1.2.3.256/x", "neither a name nor an address"),
            ("http://h/#f", "leave it out"),
            ("http://h\u{f6}st/", "Punycode"),
            ("http://h/a b", "%20"),
            ("http://h\\x", "no backslash"),
        ] {
            assert!(parse_webhook(text).is_none() && parse_nats(text).is_none());
            let told = why_no_url(text).unwrap_or_default();
            assert!(told.contains(why), "{text}: {told}");
        }
        let long = format!("http://h/{}", "x".repeat(2_200));
        assert_eq!(why_no_url(&long).unwrap(), "; it has 2209 characters");
        for text in [
            "ftp://h/",
            "http://[::1]/",
            "h/x",
            "http://[::1]:80/",
            "http://u:p@h/",
        ] {
            assert_eq!(why_no_url(text), None, "{text}");
        }
    }

    #[test]
    fn servers_of_nats_are_a_scheme_a_host_and_a_port() {
        for url in [
            "nats://127.0.0.1:4222",
            "tls://nats.example",
            "nats://[::1]:4222/",
        ] {
            assert_eq!(parse_nats(url).as_deref(), Some(url));
        }
        for url in [
            "",
            "127.0.0.1:4222",
            "http://a",
            "nats://user:word@a",
            "nats://a:0",
            "nats://a:port",
            "nats://a/b",
            "nats://",
            "tls://a?tls=no",
        ] {
            assert_eq!(parse_nats(url), None, "{url}");
        }
    }

    #[test]
    fn notification_urls_are_absolute_or_paths() {
        for url in [
            "http://app.example/done?from=bits",
            "https://[::1]:8443/done",
            "/app/done?at=12:30",
            "/",
        ] {
            assert_eq!(parse_notification_url(url).as_deref(), Some(url));
        }
        for url in [
            "",
            "app.example/done",
            "done.aspx",
            "../done.aspx",
            "?done",
            "//app.example/done",
            "ftp://app.example/",
            "mailto:app",
            "done:1",
            "http:done",
            "a b",
            "/d\u{f6}ne",
            "/done#now",
        ] {
            assert_eq!(parse_notification_url(url), None, "{url}");
        }
        let long = format!("/{}", "a".repeat(2_199));
        assert!(parse_notification_url(&long).is_some());
        assert!(parse_notification_url(&format!("{long}a")).is_none());
    }
}
