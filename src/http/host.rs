//! Host and port by which a client calls a server, as they stand in a Host field or in an absolute
//! target.

use std::fmt;

/// Reads `uri-host [":" port]` (RFC 9110 7.2), which then can stand in a URL as it is: without
/// user, and never empty.
///
/// Names are those of the DNS, and `_`, `~` and percent-escapes as RFC 3986 3.2.2 has them. Its
/// sub-delimiters, such as a comma, are refused: no client has one there, and a list of two hosts
/// would pass for one.
///
/// # Errors
/// [`BadHost`] says which part is wrong.
pub fn parse(text: &[u8]) -> Result<&str, BadHost> {
    let text = std::str::from_utf8(text).map_err(|_| BadHost::Name)?;
    if text.contains('@') {
        return Err(BadHost::User);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']').ok_or(BadHost::Address)?;
            if !is_ipv6(address) {
                return Err(BadHost::Address);
            }
            (address, rest)
        }
        // It would be cut at its first colon.
        None if is_ipv6(text) => return Err(BadHost::Address),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.is_empty() {
        return Err(BadHost::Missing);
    }
    if !text.starts_with('[') && !is_name(host) {
        return Err(BadHost::Name);
    }
    let is_port = match port.strip_prefix(':') {
        // A colon without digits is the default port (RFC 3986 3.2.3).
        Some(digits) => {
            let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.is_empty() || (is_number && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    match is_port {
        true if text.len() > HOST_BYTES_MAX => Err(BadHost::TooLong),
        true => Ok(text),
        false => Err(BadHost::Port),
    }
}

/// Which part of a host with its port is wrong; in words it follows what it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHost {
    /// Nothing stands where a host should.
    Missing,
    /// A user, with or without a password.
    User,
    /// A character that no host has.
    Name,
    /// No IPv6 address in brackets, or one without them.
    Address,
    /// No number, or none of 16 bits.
    Port,
    TooLong,
}

impl BadHost {
    /// What the URL or the field does. Nothing of the client's stands in it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Missing => "names no host",
            Self::User => "names a user, who has no place there",
            Self::Name => "names a host with a character that no host has",
            Self::Address => "has an IPv6 address that is wrong or not in brackets",
            Self::Port => "has a port that is no number up to 65535",
            Self::TooLong => "names a host over 320 bytes",
        }
    }
}

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What stands between `http://` and the path of an absolute target, whatever it is.
pub fn of_absolute(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    is_http.then(|| &rest[..end])
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let is_right = match byte {
            b'%' => {
                let mut digits = [bytes.next(), bytes.next()].into_iter();
                digits.all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            byte => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        if !is_right {
            return false;
        }
    }
    true
}

/// As far as what stands in a URL is concerned: whether there is such an address is not asked.
fn is_ipv6(address: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.';
    address.matches(':').count() >= 2 && address.bytes().all(is_part)
}

/// A name of the DNS has at most 253 bytes; IIS takes 300 for a host. [`BadHost::words`] names it.
const HOST_BYTES_MAX: usize = 320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_can_stand_in_a_url() {
        for host in [
            "h",
            "h:81",
            "h:",
            "up.example",
            "a_b-c",
            "[::1]:81",
            "[fe80::1]",
            "127.0.0.1:65535",
            "xn--bcher-kva.example",
            "%C3%A4",
        ] {
            assert_eq!(parse(host.as_bytes()), Ok(host));
        }
        use BadHost::{Address, Missing, Name, Port, TooLong, User};
        for (bad, why) in [
            ("", Missing),
            (":80", Missing),
            ("h/x", Name),
            ("h?x", Name),
            ("u@h", User),
            ("u:p@h:99999", User),
            ("h x", Name),
            ("h\"", Name),
            ("\u{e4}", Name),
            ("h:65536", Port),
            ("h:8a", Port),
            ("h:-1", Port),
            ("h:+1", Port),
            ("::1", Address),
            ("[::1", Address),
            ("[]", Address),
            ("[:]", Address),
            ("[h]", Address),
            ("[::1]81", Port),
            ("[::1%25eth0]", Address),
            ("a,b", Name),
            ("a;b", Name),
            ("%4", Name),
            ("%zz", Name),
            ("h\\x", Name),
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(why), "{bad}");
        }
        assert_eq!(parse(b"h\xff"), Err(Name));
        assert_eq!(parse("h".repeat(321).as_bytes()), Err(TooLong));
    }

    #[test]
    fn an_absolute_target_has_its_own() {
        assert_eq!(of_absolute("http://h:81/a?b"), Some("h:81"));
        assert_eq!(of_absolute("HTTPS://h"), Some("h"));
        assert_eq!(of_absolute("http://h?x/y"), Some("h"));
        assert_eq!(of_absolute("http:///a"), Some(""));
        for none in ["/a", "ftp://h/a", "h:80", "*", "/http://h"] {
            assert_eq!(of_absolute(none), None, "{none}");
        }
    }
}
