//! Host and port by which a client calls a server, as they stand in a Host field or in an absolute
//! target.

/// Reads `uri-host [":" port]` (RFC 9110 7.2), which then can stand in a URL as it is: without
/// user, and never empty.
///
/// Names are those of the DNS, and `_`, `~` and percent-escapes as RFC 3986 3.2.2 has them. Its
/// sub-delimiters, such as a comma, are refused: no client has one there, and a list of two hosts
/// would pass for one.
pub fn parse(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let (host, port) = match text.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            if !is_ipv6(address) {
                return None;
            }
            (address, rest)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if !is_name(name) {
                return None;
            }
            (name, port)
        }
    };
    let is_port = match port.strip_prefix(':') {
        // A colon without digits is the default port (RFC 3986 3.2.3).
        Some(digits) => {
            let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.is_empty() || (is_number && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    (!host.is_empty() && is_port && text.len() <= HOST_BYTES_MAX).then_some(text)
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

/// A name of the DNS has at most 253 bytes; IIS takes 300 for a host.
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
            assert_eq!(parse(host.as_bytes()), Some(host));
        }
        for bad in [
            "",
            ":80",
            "h/x",
            "h?x",
            "u@h",
            "h x",
            "h\"",
            "\u{e4}",
            "h:65536",
            "h:8a",
            "h:-1",
            "h:+1",
            "::1",
            "[::1",
            "[]",
            "[:]",
            "[h]",
            "[::1]81",
            "[::1%25eth0]",
            "a,b",
            "a;b",
            "%4",
            "%zz",
            "h\\x",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"h\xff"), None);
        assert_eq!(parse("h".repeat(321).as_bytes()), None);
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
