//! What proxies say of the client behind them: the header of the PROXY protocol, which comes before
//! all else on a connection, and the field `X-Forwarded-For`, which comes with each request.
//!
//! Anybody can say anything there. So both count only where they come from a trusted address, and
//! of the field only as much as trusted proxies have written.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};

use super::networks::Networks;

/// Bytes of a header of the PROXY protocol that are read: version 1 has 107 at the most, and what
/// proxies add to addresses in version 2 (names of certificates, ids of clouds) is far less. nginx
/// reads as many.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, 2.1 and 2.2.
const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LINE_BYTES_MAX: usize = 107;
/// What version 2 begins with: the signature, version and command, family, length of the rest.
const FIXED_BYTES: usize = 16;

/// How far a header of the PROXY protocol has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// More is to come; all that has come belongs to it.
    Incomplete,
    /// It is whole.
    Whole {
        /// Its bytes. What follows is the client's.
        bytes: usize,
        /// The client; `None` where the proxy speaks for itself, as when it looks whether we are
        /// there, or does not know.
        client: Option<SocketAddr>,
    },
}

/// What a proxy has said of a connection by the PROXY protocol, before all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announcement {
    /// Nothing: nobody asked it to.
    #[default]
    None,
    /// No client: it speaks for itself, or it does not know or say who that is. What follows may
    /// be a client's all the same.
    Nobody,
    /// Whose it is.
    Client(SocketAddr),
}

impl Announcement {
    /// The client, where it is known.
    pub fn client(self) -> Option<SocketAddr> {
        match self {
            Self::Client(client) => Some(client),
            Self::None | Self::Nobody => None,
        }
    }
}

/// Why bytes are no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAnnouncement {
    /// They begin otherwise.
    NotThere,
    /// They begin so, and go on otherwise.
    Malformed,
    /// It is longer than [`HEADER_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for BadAnnouncement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotThere => {
                "it does not begin with the PROXY protocol, as this listener wants it (proxy_protocol)"
            }
            Self::Malformed => "its header of the PROXY protocol is malformed",
            Self::TooLong => "its header of the PROXY protocol is over 4,096 bytes",
        })
    }
}

/// Reads a header of the PROXY protocol, in either version. As soon as there are bytes that can
/// become none, that is said.
///
/// # Errors
/// [`BadAnnouncement`]
pub fn read_announcement(bytes: &[u8]) -> Result<Announced, BadAnnouncement> {
    let begins = |signature: &[u8]| {
        let here = bytes.len().min(signature.len());
        bytes[..here] == signature[..here]
    };
    let end = if begins(SIGNATURE_1) {
        end_of_line(bytes)?
    } else if begins(SIGNATURE_2) {
        end_of_binary(bytes)?
    } else {
        return Err(BadAnnouncement::NotThere);
    };
    let Some(header) = end.and_then(|end| bytes.get(..end)) else {
        return Ok(Announced::Incomplete);
    };
    let config = ParseConfig::default();
    let (parsed, taken) =
        ProxyHeader::parse(header, config).map_err(|_| BadAnnouncement::Malformed)?;
    if taken != header.len() {
        return Err(BadAnnouncement::Malformed);
    }
    let client = parsed.proxied_address().map(|address| address.source);
    Ok(Announced::Whole {
        bytes: header.len(),
        client: client.and_then(of_somebody),
    })
}

/// One past the line of version 1; `None` if its end has not come.
fn end_of_line(bytes: &[u8]) -> Result<Option<usize>, BadAnnouncement> {
    let line = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    match memchr::memchr(b'\n', line) {
        Some(at) => Ok(Some(at + 1)),
        None if line.len() == LINE_BYTES_MAX => Err(BadAnnouncement::Malformed),
        None => Ok(None),
    }
}

/// One past the header of version 2; `None` if it does not say yet where that is.
fn end_of_binary(bytes: &[u8]) -> Result<Option<usize>, BadAnnouncement> {
    let Some([.., high, low]) = bytes.get(..FIXED_BYTES) else {
        return Ok(None);
    };
    let end = FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    match end <= HEADER_BYTES_MAX {
        true => Ok(Some(end)),
        false => Err(BadAnnouncement::TooLong),
    }
}

/// The client of a request that came from `peer`: the nearest address that no trusted proxy has.
/// `told` are the values of `X-Forwarded-For`, in the order of the head; each proxy writes the one
/// it was called from behind them. What stands before the first stranger is only what he says.
pub fn client<'v>(
    peer: SocketAddr,
    trusted: &Networks,
    told: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> SocketAddr {
    let mut nearest = peer;
    let entries = told
        .rev()
        .flat_map(|value| value.rsplit(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Elements of a list that are empty are none (RFC 9110 5.6.1.2).
        .filter(|entry| !entry.is_empty());
    for entry in entries {
        if !trusted.hold(nearest.ip()) {
            break;
        }
        match address(entry) {
            Some(address) => nearest = address,
            // "unknown", nobody's, or what cannot be read.
            None => break,
        }
    }
    nearest
}

/// An address as proxies write it: some with a port, those of IPv6 in brackets or without. Port 0
/// where it has none.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(entry).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>().ok();
    alone
        .map(|ip| SocketAddr::new(ip, 0))
        .ok()
        .or_else(with_port)
        .and_then(of_somebody)
}

/// An address as the kernel would have told it of a listener of IPv4. `None` for `0.0.0.0` and
/// `::`, which proxies write for a client that has no address or that they hide.
fn of_somebody(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: usize, client: Option<&str>) -> Result<Announced, BadAnnouncement> {
        Ok(Announced::Whole {
            bytes,
            client: client.map(|client| client.parse().unwrap()),
        })
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &len, rest].concat()
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn both_versions_are_read_and_what_follows_is_left() {
        let v6 = [&[0x20, 1][..], &[0; 13], &[9], &[0; 16], &[0, 5, 0, 80]].concat();
        // What HAProxy adds: the name of the server that the client asked for.
        let added = [V4, b"\x02\0\x04host"].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
                Some("192.0.2.7:4660"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 5 80\r\n".to_vec(),
                Some("[2001:db8::7]:5"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5 80\r\n".to_vec(),
                Some("192.0.2.7:5"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::1 5 80\r\n".to_vec(), None),
            (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".to_vec(), None),
            (binary(0x21, 0x11, V4), Some("192.0.2.7:4660")),
            (binary(0x21, 0x11, &added), Some("192.0.2.7:4660")),
            (binary(0x21, 0x21, &v6), Some("[2001::9]:5")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, V4), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ] {
            let followed = [&header[..], b"BITS_POST /"].concat();
            assert_eq!(
                read_announcement(&followed),
                whole(header.len(), client),
                "{header:?}"
            );
            for end in 0..header.len() {
                let begun = read_announcement(&header[..end]);
                assert_eq!(begun, Ok(Announced::Incomplete), "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_at_once() {
        use BadAnnouncement::{Malformed, NotThere, TooLong};
        let long_line = [b"PROXY TCP4 ", &[b'1'; 96][..]].concat();
        let long = [SIGNATURE_2, &[0x21, 0x11, 0x0f, 0xf1]].concat();
        for (bytes, why) in [
            (&b"B"[..], NotThere),
            (b"\x16", NotThere),
            (b"PRI * HTTP/2.0\r\n", NotThere),
            (b"\r\n\r\n\r", NotThere),
            (b"PROXY\tTCP4 192.0.2.7 10.0.0.1 1 2\r\n", NotThere),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n", Malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n", Malformed),
            (b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n", Malformed),
            (b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n", Malformed),
            (b"PROXY \r\n", Malformed),
            (&long_line, Malformed),
            (&long, TooLong),
            (&binary(0x11, 0x11, V4), Malformed),
            (&binary(0x22, 0x11, V4), Malformed),
            (&binary(0x21, 0x41, V4), Malformed),
            (&binary(0x21, 0x11, &V4[..11]), Malformed),
            (&binary(0x21, 0x21, V4), Malformed),
        ] {
            assert_eq!(read_announcement(bytes), Err(why), "{bytes:?}");
        }
    }

    #[test]
    fn the_client_is_the_nearest_stranger() {
        let texts = ["10.0.0.0/8".to_owned(), "::1".to_owned()];
        let trusted = Networks::of(&texts);
        for (peer, told, expected) in [
            // Nobody says anything, or a stranger does.
            ("192.0.2.7:9", &[][..], "192.0.2.7:9"),
            ("10.0.0.1:9", &[], "10.0.0.1:9"),
            ("192.0.2.7:9", &["203.0.113.1"], "192.0.2.7:9"),
            // One proxy.
            ("10.0.0.1:9", &["192.0.2.7"], "192.0.2.7:0"),
            ("[::ffff:10.0.0.1]:9", &["192.0.2.7"], "192.0.2.7:0"),
            ("[::1]:9", &["2001:db8::7"], "[2001:db8::7]:0"),
            // What the client itself has sent comes before what the proxy adds.
            (
                "10.0.0.1:9",
                &["127.0.0.1, 10.0.0.2, 192.0.2.7"],
                "192.0.2.7:0",
            ),
            ("10.0.0.1:9", &["203.0.113.1", "192.0.2.7"], "192.0.2.7:0"),
            // A chain of proxies.
            (
                "10.0.0.1:9",
                &["203.0.113.1, 192.0.2.7,10.0.0.2"],
                "192.0.2.7:0",
            ),
            ("10.0.0.1:9", &["192.0.2.7", "10.0.0.2"], "192.0.2.7:0"),
            ("10.0.0.1:9", &["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
            // As various proxies write them.
            ("10.0.0.1:9", &["192.0.2.7:1234"], "192.0.2.7:1234"),
            ("10.0.0.1:9", &["[2001:db8::7]:1234"], "[2001:db8::7]:1234"),
            ("10.0.0.1:9", &["[2001:db8::7]"], "[2001:db8::7]:0"),
            ("10.0.0.1:9", &["::ffff:192.0.2.7"], "192.0.2.7:0"),
            // What cannot be read ends what is known.
            ("10.0.0.1:9", &["192.0.2.7, unknown"], "10.0.0.1:9"),
            (
                "10.0.0.1:9",
                &["192.0.2.7, _hidden, 10.0.0.2"],
                "10.0.0.2:0",
            ),
            ("10.0.0.1:9", &[""], "10.0.0.1:9"),
            ("10.0.0.1:9", &[" , ,"], "10.0.0.1:9"),
            ("10.0.0.1:9", &["192.0.2.7,"], "192.0.2.7:0"),
            (
                "10.0.0.1:9",
                &["192.0.2.8, 192.0.2.7,, 10.0.0.2"],
                "192.0.2.7:0",
            ),
            ("10.0.0.1:9", &["192.0.2.07"], "10.0.0.1:9"),
            // Nobody has these.
            ("10.0.0.1:9", &["192.0.2.7, ::"], "10.0.0.1:9"),
            ("10.0.0.1:9", &["::ffff:0.0.0.0"], "10.0.0.1:9"),
            ("10.0.0.1:9", &["0.0.0.0:80, 10.0.0.2"], "10.0.0.2:0"),
        ] {
            let values = told.iter().map(|value| value.as_bytes());
            let found = client(peer.parse().unwrap(), &trusted, values);
            assert_eq!(found.to_string(), expected, "{peer} {told:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_who_is_not_named() {
        let peer = "127.0.0.1:9".parse().unwrap();
        let told = [&b"192.0.2.7"[..]];
        assert_eq!(client(peer, &Networks::default(), told.into_iter()), peer);
    }
}
