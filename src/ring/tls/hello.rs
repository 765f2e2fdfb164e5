//! What a client says first, as far as rustls does not look at it in time.

/// Whether these bytes are a ClientHello of a client that knows nothing newer than TLS 1.1. The one
/// that knows more says so in the version (RFC 5246 7.4.1.2) or in an extension (RFC 8446 4.2.1).
///
/// It begins with the header of its record. Where it came in several records, rustls has brought
/// what they hold together, behind the first header.
pub fn is_older_than_tls12(bytes: &[u8]) -> bool {
    read(bytes).unwrap_or(false)
}

fn read(bytes: &[u8]) -> Option<bool> {
    let mut rest = bytes.get(RECORD_HEADER_BYTES..)?;
    if take(&mut rest, 1)? != [CLIENT_HELLO] {
        return None;
    }
    let mut hello = vector(&mut rest, 3)?;
    let version = take(&mut hello, 2)?;
    let _random = take(&mut hello, 32)?;
    let _session = vector(&mut hello, 1)?;
    let _suites = vector(&mut hello, 2)?;
    let _compression = vector(&mut hello, 1)?;
    let mut extensions = match hello.is_empty() {
        true => hello,
        false => vector(&mut hello, 2)?,
    };
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let _content = vector(&mut extensions, 2)?;
        if kind == SUPPORTED_VERSIONS {
            return Some(false);
        }
    }
    Some(*version < TLS12[..])
}

fn take<'b>(bytes: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// What follows its own length, which has so many bytes.
fn vector<'b>(bytes: &mut &'b [u8], width: usize) -> Option<&'b [u8]> {
    let length = take(bytes, width)?.iter();
    let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
    take(bytes, length)
}

const RECORD_HEADER_BYTES: usize = 5;
const CLIENT_HELLO: u8 = 1;
const TLS12: [u8; 2] = [3, 3];
const SUPPORTED_VERSIONS: [u8; 2] = [0, 43];

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
        body.extend(extensions);
        let length = u8::try_from(body.len()).unwrap();
        [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &body[..]].concat()
    }

    #[test]
    fn the_version_is_that_of_the_hello_unless_an_extension_names_others() {
        const GROUPS: &[u8] = &[0, 10, 0, 2, 0, 0];
        const NEWER: &[u8] = &[0, 43, 0, 3, 2, 3, 3];
        let one = |extension: &[u8]| {
            let bytes = u8::try_from(extension.len()).unwrap();
            [&[0, bytes], extension].concat()
        };
        for (version, extensions, expected) in [
            ([3, 0], vec![], true),
            ([3, 1], vec![], true),
            ([3, 2], one(GROUPS), true),
            ([3, 3], vec![], false),
            ([3, 3], one(GROUPS), false),
            ([3, 1], one(NEWER), false),
        ] {
            let bytes = hello(version, &extensions);
            assert_eq!(is_older_than_tls12(&bytes), expected, "{version:?}");
            // What is cut off says nothing.
            for end in 0..bytes.len() {
                assert!(!is_older_than_tls12(&bytes[..end]));
            }
        }
        assert!(!is_older_than_tls12(b"\x16\x03\x01\0\x05\x02\0\0\0\x01"));
    }
}
