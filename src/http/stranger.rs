//! What the first bytes of a connection tell where they are no head that can be answered. It is for
//! the log alone, and for the administrator's page.

use super::userinfo;

/// The request target, if the bytes begin as a request does, whatever is wrong with it. It may be
/// cut off.
pub fn target(bytes: &[u8]) -> Option<&[u8]> {
    // The target of a malformed request line may have blanks.
    let (_, rest) = begin(bytes)?;
    let end = memchr::memmem::rfind(rest, b" HTTP/").or_else(|| memchr::memrchr(b' ', rest));
    let target = &rest[..end.unwrap_or(rest.len())];
    (!target.is_empty()).then_some(target)
}

/// The method, if the bytes begin as a request does.
pub fn method(bytes: &[u8]) -> Option<&[u8]> {
    begin(bytes).map(|(method, _)| method)
}

/// A method, and the rest of its line.
fn begin(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let line = bytes[start..]
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()?;
    let mut words = line.splitn(2, |&byte| byte == b' ');
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let method = words
        .next()
        .filter(|method| !method.is_empty() && method.iter().all(is_token))?;
    Some((method, words.next()?))
}

/// A method or a request target as text, cut to a length that a line can have. Its query is left
/// out, and so is a user: there are clients that show a token or a password in them, and no secret
/// stands in a line.
pub fn in_short(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = userinfo::without_user_of_target(&text);
    let query = text.find('?').map_or(text.len(), |at| at + 1);
    let end = text.floor_char_boundary(query.min(TARGET_BYTES_MAX));
    let mut shown = text[..end].to_owned();
    if end < text.len() {
        shown.push('\u{2026}');
    }
    shown
}

/// Bytes of a request target that are shown.
pub const TARGET_BYTES_MAX: usize = 512;

const PROXY: &str = "the PROXY protocol, which a listener with proxy_protocol takes, once";

/// Which other protocol the bytes look like.
pub fn name(bytes: &[u8]) -> Option<&'static str> {
    const SIGNS: &[(&[u8], &str)] = &[
        (b"\x16\x03", "TLS (https) on a port without it"),
        (b"PRI * HTTP/2.0", "HTTP/2, which is not spoken here"),
        (b"PROXY ", PROXY),
        (b"\r\n\r\n\0\r\nQUIT\n", PROXY),
        (b"SSH-", "SSH"),
        (b"\x03\0\0", "Remote Desktop"),
        (b"\0\0\0", "file sharing (SMB)"),
    ];
    let is_sign = |sign: &[u8]| bytes.starts_with(sign);
    (SIGNS.iter().find(|(sign, _)| is_sign(sign))).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_found_in_good_and_bad_requests() {
        for (bytes, expected) in [
            ("BITS_POST /a HTTP/1.1\r\nHost: h\r\n\r\n", Some("/a")),
            ("\r\n\r\nBITS_POST //a HTTP/1.1\r\n", Some("//a")),
            ("BITS_POST /a b HTTP/1.1\r\n", Some("/a b")),
            ("BITS_POST /a\r\n", Some("/a")),
            ("BITS_POST /a b\r\n", Some("/a")),
            ("BITS_POST /long", Some("/long")),
            ("BITS_POST ", None),
            ("BITS_POST", None),
            ("", None),
            ("\r\n", None),
            (" /a HTTP/1.1\r\n", None),
            ("\x16\x03 /a ", None),
        ] {
            let expected = expected.map(str::as_bytes);
            assert_eq!(target(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_target_is_told_without_its_query_and_its_user() {
        assert_eq!(in_short(b"/a:b?access_token=secret&x=?y"), "/a:b?\u{2026}");
        assert_eq!(in_short(b"/a?"), "/a?");
        assert_eq!(in_short(b"/a"), "/a");
        assert_eq!(in_short(b"/\xff"), "/\u{fffd}");
        let absolute = in_short(b"http://anna:sesame@h/a?b");
        assert_eq!(absolute, "http://\u{2026}@h/a?\u{2026}");
        // The query does not end a password, and the length does not either.
        assert_eq!(in_short(b"http://anna:ses?ame@h/a"), "http://\u{2026}@h/a");
        let long = [b"http://anna:", &[b'x'; TARGET_BYTES_MAX][..], b"@h/a"].concat();
        assert_eq!(in_short(&long), "http://\u{2026}@h/a");
        let long = [b'a'; TARGET_BYTES_MAX + 1];
        assert_eq!(in_short(&long).chars().count(), TARGET_BYTES_MAX + 1);
    }

    #[test]
    fn the_method_is_the_first_word() {
        assert_eq!(method(b"GET / HTTP/1.1\r\n\r\n"), Some(&b"GET"[..]));
        assert_eq!(
            method(b"\r\nbits_post /a HTTP/1.1"),
            Some(&b"bits_post"[..])
        );
        assert_eq!(method(b"GET"), None);
        assert_eq!(method(b"\x16\x03 /a "), None);
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        assert!(name(hello).is_some_and(|name| name.starts_with("TLS")));
        assert!(
            name(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_some_and(|name| name.contains("HTTP/2"))
        );
        assert!(name(b"PROXY TCP4 192.0.2.1 ").is_some_and(|name| name.contains("PROXY")));
        assert!(name(b"\r\n\r\n\0\r\nQUIT\n\x21").is_some_and(|name| name.contains("PROXY")));
        assert_eq!(name(b"BITS_POST /a HTTP/1.1\r\n"), None);
        assert_eq!(name(b"\r\n"), None);
        assert_eq!(name(b""), None);
    }
}
