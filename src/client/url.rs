//! The URL of an upload: where to connect, what to ask for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Component, Path};
use std::str::FromStr;

/// An `http://` or `https://` URL whose path is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// It is https.
    is_secure: bool,
    /// Host name or address, without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// As in the `Host` field.
    authority: String,
    /// Percent-encoded, begins with `/`.
    path: String,
    /// Without its `?`.
    query: Option<String>,
}

/// Why a text is not a URL that can be uploaded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadUrl {
    /// It does not begin with `http://` or `https://`.
    NotHttp,
    /// The same, and it would be one with it.
    SchemeMissing(String),
    /// It has no host.
    HostMissing,
    /// The host holds a character that no host has.
    HostInvalid,
    /// An IPv6 address that is none, or has no brackets.
    AddressInvalid,
    /// Something other than a port from 1 to 65535 stands after the colon.
    PortInvalid,
    /// It has a user name in it.
    UserInfo,
    /// It has a `#fragment`.
    Fragment,
    /// It ends in `/`, and the file has no name to put there.
    FileNameMissing,
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SchemeMissing(text) => {
                return write!(
                    f,
                    "the URL must begin with http://; did you mean http://{text}?"
                );
            }
            Self::NotHttp => {
                "the URL must begin with http:// or https:// (and comes last, behind the files)"
            }
            Self::HostMissing => "the URL has no host",
            Self::HostInvalid => "the URL's host holds a character that no host has",
            Self::AddressInvalid => {
                "the URL's host is no IPv6 address in brackets, as in http://[::1]:8080/"
            }
            Self::PortInvalid => "the URL's port is not a number from 1 to 65535",
            Self::UserInfo => {
                "the URL must not hold a user name: name the user by --user, and the password by \
                 --password-file or BITSD_PASSWORD, for others can read command lines"
            }
            Self::Fragment => "the URL must not hold a `#`: write %23 if the name has one",
            Self::FileNameMissing => "the URL ends in `/`, and the file has no name to put there",
        })
    }
}

impl std::error::Error for BadUrl {}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let secure = strip_scheme(text, "https://");
        let rest = secure.or_else(|| strip_scheme(text, "http://"));
        let rest = rest.ok_or_else(|| without_scheme(text))?;
        let is_secure = secure.is_some();
        if rest.contains('#') {
            return Err(BadUrl::Fragment);
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(BadUrl::UserInfo);
        }
        let (host, port) = split_authority(authority)?;
        let port = port.unwrap_or(if is_secure { 443 } else { 80 });
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(encode(query.as_bytes(), is_url_byte))),
            None => (target, None),
        };
        let path = if path.is_empty() {
            "/".to_owned()
        } else {
            encode(path.as_bytes(), is_url_byte)
        };
        Ok(Self {
            is_secure,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path,
            query,
        })
    }
}

impl Url {
    /// Whether what is sent there stays on this machine (RFC 6761 6.3 for the name).
    pub fn is_of_this_machine(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }

    /// Whether it names a folder, so that the file's own name is appended.
    pub fn is_folder(&self) -> bool {
        self.path.ends_with('/')
    }

    /// The URL for one file: its name is appended to a folder.
    ///
    /// # Errors
    /// [`BadUrl::FileNameMissing`] if a name is needed and the path has none.
    pub fn for_file(&self, file: &Path) -> Result<Self, BadUrl> {
        let mut url = self.clone();
        if self.is_folder() {
            let name = file.file_name().ok_or(BadUrl::FileNameMissing)?;
            url.path
                .push_str(&encode(name.as_encoded_bytes(), is_unreserved_byte));
        }
        Ok(url)
    }

    /// The URL of a file beneath a folder: each name of its relative path is appended.
    ///
    /// # Errors
    /// [`BadUrl::FileNameMissing`] if the path has a part that is no name.
    pub fn beneath(&self, relative: &Path) -> Result<Self, BadUrl> {
        let mut url = self.clone();
        for (at, part) in relative.components().enumerate() {
            let Component::Normal(name) = part else {
                return Err(BadUrl::FileNameMissing);
            };
            if at > 0 {
                url.path.push('/');
            }
            url.path
                .push_str(&encode(name.as_encoded_bytes(), is_unreserved_byte));
        }
        Ok(url)
    }

    /// The same at another host; `None` if that is no host.
    pub fn at_host(&self, host: &str) -> Option<Self> {
        let bare = match host.parse::<Ipv6Addr>().is_ok() {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        let (name, None) = split_authority(&bare).ok()? else {
            return None;
        };
        let name = name.to_owned();
        let is_usual = self.port == if self.is_secure { 443 } else { 80 };
        let authority = match is_usual {
            true => bare,
            false => format!("{bare}:{}", self.port),
        };
        Some(Self {
            host: name,
            authority,
            ..self.clone()
        })
    }

    /// Whether it is https.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Value of the `Host` field.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Request target: path and query.
    pub fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.target())
    }
}

fn strip_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// Why a text that begins with no scheme of ours is none: only what cannot be the name of a file is
/// taken for a URL that was cut short.
fn without_scheme(text: &str) -> BadUrl {
    let authority = text.split(['/', '?']).next().unwrap_or_default();
    let is_host = match split_authority(authority) {
        Ok(("localhost", _)) => true,
        Ok((host, _)) => authority.contains(':') || host.parse::<IpAddr>().is_ok(),
        Err(_) => false,
    };
    match is_host && !text.contains("://") {
        true => BadUrl::SchemeMissing(text.to_owned()),
        false => BadUrl::NotHttp,
    }
}

/// The port is `None` where the scheme says which.
fn split_authority(authority: &str) -> Result<(&str, Option<u16>), BadUrl> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(BadUrl::AddressInvalid)?;
            let (number, _zone) = address.split_once('%').unwrap_or((address, ""));
            if number.parse::<Ipv6Addr>().is_err() {
                return Err(BadUrl::AddressInvalid);
            }
            (address, port)
        }
        // It would be cut at its first colon.
        None if authority.parse::<Ipv6Addr>().is_ok() => return Err(BadUrl::AddressInvalid),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if host.is_empty() {
        return Err(BadUrl::HostMissing);
    }
    let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || b"-._~:%".contains(&b);
    if !host.bytes().all(is_host_byte) {
        return Err(BadUrl::HostInvalid);
    }
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').ok_or(BadUrl::PortInvalid)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadUrl::PortInvalid);
    }
    match digits.parse() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(BadUrl::PortInvalid),
    }
}

fn encode(bytes: &[u8], is_plain: fn(u8) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.extend(
                [byte >> 4, byte & 15]
                    .map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])),
            );
        }
    }
    text
}

/// What a URL may hold as it is (RFC 3986), `%` included: what the user encoded stays encoded once.
fn is_url_byte(byte: u8) -> bool {
    is_unreserved_byte(byte) || b"%/:@!$&'()*+,;=?".contains(&byte)
}

/// What a name may hold as it is.
fn is_unreserved_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn host_port_and_target_are_told_apart() {
        let plain = url("http://up.example/in/a.bin?job=7");
        assert_eq!((plain.host(), plain.port()), ("up.example", 80));
        assert_eq!(
            (plain.authority(), &*plain.target()),
            ("up.example", "/in/a.bin?job=7")
        );
        let v6 = url("HTTP://[::1]:8080");
        assert_eq!(
            (v6.host(), v6.port(), v6.authority()),
            ("::1", 8080, "[::1]:8080")
        );
        assert_eq!(v6.target(), "/");
        let secure = url("https://up.example/a");
        assert_eq!((secure.port(), secure.is_secure()), (443, true));
        assert_eq!(secure.to_string(), "https://up.example/a");
        assert_eq!(url("https://up.example:80/a").port(), 80);
        assert!(!v6.is_secure());
    }

    #[test]
    fn wrong_urls_are_refused_with_their_cause() {
        for (text, cause) in [
            ("ftp://h/a", BadUrl::NotHttp),
            ("h/a", BadUrl::NotHttp),
            ("logs.zip", BadUrl::NotHttp),
            ("C:\\logs", BadUrl::NotHttp),
            ("ftp://h:21/a", BadUrl::NotHttp),
            ("10.0.0.1/a", BadUrl::SchemeMissing("10.0.0.1/a".into())),
            ("[::1]/a", BadUrl::SchemeMissing("[::1]/a".into())),
            ("h:8080", BadUrl::SchemeMissing("h:8080".into())),
            ("localhost/", BadUrl::SchemeMissing("localhost/".into())),
            ("http:///a", BadUrl::HostMissing),
            ("http://", BadUrl::HostMissing),
            ("http://h:0/a", BadUrl::PortInvalid),
            ("http://h:/a", BadUrl::PortInvalid),
            ("http://h:65536/a", BadUrl::PortInvalid),
            ("http://h:+1/a", BadUrl::PortInvalid),
            ("http://u:p@h/a", BadUrl::UserInfo),
            ("http://h/a#b", BadUrl::Fragment),
            ("http://a b/c", BadUrl::HostInvalid),
            ("http://[::1/c", BadUrl::AddressInvalid),
            ("http://[::g]/c", BadUrl::AddressInvalid),
            ("http://[]/c", BadUrl::AddressInvalid),
            ("http://::1/c", BadUrl::AddressInvalid),
            ("http://[::1]8/c", BadUrl::PortInvalid),
        ] {
            assert_eq!(text.parse::<Url>(), Err(cause), "{text}");
        }
    }

    #[test]
    fn a_folder_takes_the_files_name_percent_encoded() {
        let folder = url("http://h/in/?job=7");
        let file = folder.for_file(Path::new("dir/50% über.bin")).unwrap();
        assert_eq!(file.target(), "/in/50%25%20%C3%BCber.bin?job=7");
        assert_eq!(
            folder.for_file(Path::new("..")),
            Err(BadUrl::FileNameMissing)
        );
        let beneath = folder.beneath(Path::new("a b/c/d.bin")).unwrap();
        assert_eq!(beneath.target(), "/in/a%20b/c/d.bin?job=7");
        assert_eq!(
            folder.beneath(Path::new("../x")),
            Err(BadUrl::FileNameMissing)
        );
        assert_eq!(
            url("http://h/x").for_file(Path::new("y")).unwrap().target(),
            "/x"
        );
    }

    #[test]
    fn what_no_request_line_may_hold_is_encoded_and_the_rest_is_kept() {
        assert_eq!(url("http://h/a b%20c\r\n").target(), "/a%20b%20c%0D%0A");
    }
}
