//! The door of a listener: who is let in, and what a proxy has to say before the first byte of its
//! client.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::link::Link;
use super::op;
use crate::auth::forwarded::{self, Announced, Announcement, BadAnnouncement};
use crate::config::{Config, Listener, ProxyProtocol};
use crate::reasoned::Reasoned;

/// Bytes of an announcement that are looked at together: most have a hundred.
const PIECE_BYTES: usize = 512;

/// What a listener asks of those who come, by the settings as they were then.
pub struct Door {
    config: Arc<Config>,
    entry: usize,
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// It comes from where nobody may come from.
    FromElsewhere,
    /// It is none of the proxies, and only those are let in.
    NotAProxy,
    /// It does not say whose it is.
    Unannounced(BadAnnouncement),
}

impl Shut {
    /// The same words each time.
    fn reason(self) -> &'static str {
        match self {
            Self::FromElsewhere => "its address is none of allow_from",
            Self::NotAProxy => {
                "it is none of trusted_proxies, and this listener is for those (proxy_protocol)"
            }
            Self::Unannounced(_) => "it does not say whose it is",
        }
    }
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromElsewhere | Self::NotAProxy => f.write_str(self.reason()),
            Self::Unannounced(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Shut {}

impl From<Shut> for io::Error {
    fn from(shut: Shut) -> Self {
        Reasoned::error(io::ErrorKind::PermissionDenied, shut.reason(), shut)
    }
}

impl Door {
    /// That of an entry of the settings; `None` where everybody may come as he is.
    pub fn of(config: &Arc<Config>, entry: usize) -> Option<Self> {
        let listener = config.listeners.get(entry)?;
        let is_open =
            listener.allow_from.is_empty() && listener.proxy_protocol == ProxyProtocol::None;
        (!is_open).then(|| Self {
            config: Arc::clone(config),
            entry,
        })
    }

    fn listener(&self) -> &Listener {
        &self.config.listeners[self.entry]
    }

    /// Whether connections begin with an announcement.
    pub fn wants_announcement(&self) -> bool {
        self.listener().proxy_protocol == ProxyProtocol::Required
    }

    /// Whether whoever has just connected is let in as far as this door.
    ///
    /// # Errors
    /// [`Shut`]
    pub fn look_at(&self, peer: SocketAddr) -> Result<(), Shut> {
        let trusted = &self.config.accounts.trusted_proxies;
        match self.wants_announcement() {
            true if trusted.hold(peer.ip()) => Ok(()),
            true => Err(Shut::NotAProxy),
            // Whose requests it passes on is known only later, and looked at then.
            false if trusted.hold(peer.ip()) => Ok(()),
            false => self.look_at_client(peer),
        }
    }

    /// Whether a client is let in whom a proxy has announced, or the proxy itself.
    ///
    /// # Errors
    /// [`Shut`]
    pub fn look_at_client(&self, client: SocketAddr) -> Result<(), Shut> {
        match self.listener().allow_from.let_in(client.ip()) {
            true => Ok(()),
            false => Err(Shut::FromElsewhere),
        }
    }
}

/// Reads the announcement, and not a byte more. Where it names no client, the proxy itself is the
/// client.
///
/// # Errors
/// [`Shut`], or what the socket says.
pub async fn announcement(link: &Link) -> io::Result<Announcement> {
    let mut bytes = Vec::new();
    loop {
        if let Some(announcement) = look_on(link, &mut bytes)? {
            return Ok(announcement);
        }
        op::poll_readable(&link.socket).await?;
    }
}

/// One look at the socket; takes what belongs to the announcement off it. `None`: there is more to
/// come.
fn look_on(link: &Link, bytes: &mut Vec<u8>) -> io::Result<Option<Announcement>> {
    let before = bytes.len();
    bytes.resize(before + PIECE_BYTES, 0);
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    let came = match rustix::net::recv(&*link.socket, &mut bytes[before..], flags) {
        Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok((_, came)) => came,
        Err(Errno::AGAIN | Errno::INTR) => {
            bytes.truncate(before);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    bytes.truncate(before + came);
    let (end, announcement) = match forwarded::read_announcement(bytes) {
        Ok(Announced::Incomplete) => (bytes.len(), None),
        Ok(Announced::Whole { bytes, client }) => {
            let named = client.map_or(Announcement::Nobody, Announcement::Client);
            (bytes, Some(named))
        }
        Err(why) => return Err(Shut::Unannounced(why).into()),
    };
    bytes.truncate(end);
    let (_, taken) = rustix::net::recv(&*link.socket, &mut bytes[before..], RecvFlags::DONTWAIT)?;
    // They were there a moment ago, and nobody else reads.
    assert_eq!(before + taken, end, "bytes that were seen are there");
    Ok(announcement)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::*;
    use crate::config::{Flags, SettingsFile};

    fn door(top: &str, listener: &str) -> Option<Door> {
        let text = format!("{top}\n[[listener]]\naddress = \"127.0.0.1:1\"\n{listener}\n");
        let file = SettingsFile::parse(Path::new("test"), text).unwrap();
        let config = Config::resolve(Flags::default(), Some(file)).unwrap();
        Door::of(&Arc::new(config), 0)
    }

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 9)
    }

    #[test]
    fn who_is_let_in() {
        assert!(door("", "").is_none());
        let near = door("", "allow_from = \"192.0.2.0/24\"").unwrap();
        assert_eq!(near.look_at(peer("192.0.2.7")), Ok(()));
        assert_eq!(near.look_at(peer("::ffff:192.0.2.7")), Ok(()));
        assert_eq!(near.look_at(peer("192.0.3.7")), Err(Shut::FromElsewhere));
        let behind = "trusted_proxies = \"10.0.0.1\"";
        let behind = door(behind, "allow_from = \"192.0.2.0/24\"").unwrap();
        assert_eq!(behind.look_at(peer("10.0.0.1")), Ok(()));
        assert_eq!(behind.look_at(peer("10.0.0.2")), Err(Shut::FromElsewhere));
        let proxied = "proxy_protocol = \"required\"\nallow_from = \"192.0.2.0/24\"";
        let proxied = door("trusted_proxies = \"10.0.0.1\"", proxied).unwrap();
        assert_eq!(proxied.look_at(peer("10.0.0.1")), Ok(()));
        assert_eq!(proxied.look_at(peer("192.0.2.7")), Err(Shut::NotAProxy));
    }

    #[test]
    fn an_announcement_is_taken_off_and_nothing_else() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let link = Link::new(server.into());
        let mut bytes = Vec::new();
        let header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n";
        client.write_all(&header[..9]).unwrap();
        assert_eq!(look_on(&link, &mut bytes).unwrap(), None);
        // Nothing new, and what was seen is not seen again.
        assert_eq!(look_on(&link, &mut bytes).unwrap(), None);
        assert_eq!(bytes, header[..9]);
        client.write_all(&header[9..]).unwrap();
        client.write_all(b"\x16\x03\x01").unwrap();
        let seen = look_on(&link, &mut bytes).unwrap();
        let announced = "192.0.2.7:4660".parse().unwrap();
        assert_eq!(seen, Some(Announcement::Client(announced)));
        let mut server = UnixStream::from(link.socket.try_clone().unwrap());
        let mut rest = [0; 9];
        assert_eq!(server.read(&mut rest).unwrap(), 3);
        drop(client);
        let ended = look_on(&link, &mut Vec::new()).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_long_announcement_comes_in_pieces() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let link = Link::new(server.into());
        let added = [0x04; 1_200];
        let len = u16::try_from(12 + 3 + added.len()).unwrap().to_be_bytes();
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        header.extend_from_slice(&len);
        header.extend_from_slice(&[192, 0, 2, 7, 10, 0, 0, 1, 0, 9, 0, 80, 4, 0x04, 0xb0]);
        header.extend_from_slice(&added);
        client.write_all(&header).unwrap();
        let mut bytes = Vec::new();
        let mut looks = 0;
        let seen = loop {
            looks += 1;
            if let Some(seen) = look_on(&link, &mut bytes).unwrap() {
                break seen;
            }
        };
        assert_eq!(seen, Announcement::Client(peer("192.0.2.7")));
        assert_eq!(looks, header.len().div_ceil(PIECE_BYTES));
    }
}
