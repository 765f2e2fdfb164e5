//! The Authorization field in, credentials out (RFC 9110 11.6.2); challenges out (RFC 9110 11.6.1).
//!
//! Secrets are wiped when they are dropped, and never shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::head::Head;
use super::spnego::{self, BadToken, Shape};

/// Bytes of a user's name. Active Directory allows 256 characters, Apache 255 bytes.
pub const USER_BYTES_MAX: usize = 256;
/// Bytes of a password. What is longer is no password; hashing it would be work for nothing.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Bytes of a bearer token.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Bytes of a token of Negotiate. A ticket grows with the groups of its user; Windows makes none
/// that is longer than 48,000 bytes (MaxTokenSize).
pub const TICKET_BYTES_MAX: usize = 48 << 10;

/// What a request shows to say who sends it.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// RFC 7617.
    Basic {
        /// The user-id.
        user: String,
        /// The password, as bytes: which characters they are is between the client and the hash.
        password: Zeroizing<Vec<u8>>,
    },
    /// RFC 6750.
    Bearer(Zeroizing<String>),
    /// RFC 4559, with a token that may be one of Kerberos.
    Negotiate(Zeroizing<Vec<u8>>, Shape),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Bearer(_) => f.write_str("Bearer"),
            Self::Negotiate(_, shape) => write!(f, "Negotiate({shape:?})"),
        }
    }
}

/// An Authorization field that says nothing we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCredentials {
    /// It stands there twice.
    Repeated,
    /// Its scheme is none of ours.
    UnknownScheme,
    /// Its value is not what its scheme has.
    Malformed,
    /// NTLM, also within Negotiate: Windows falls back to it where it has no ticket.
    Ntlm,
    /// Negotiate without Kerberos among what is offered.
    NotKerberos,
}

impl From<BadToken> for BadCredentials {
    fn from(why: BadToken) -> Self {
        match why {
            BadToken::Ntlm => Self::Ntlm,
            BadToken::OtherMechanism => Self::NotKerberos,
            BadToken::Malformed => Self::Malformed,
        }
    }
}

impl BadCredentials {
    /// Nothing of the client's stands in it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Repeated => "Authorization stands there twice",
            Self::UnknownScheme => "the scheme of Authorization is not one that is asked for",
            Self::Malformed => "the value of Authorization is malformed",
            Self::Ntlm => "NTLM is not taken: the client has no Kerberos ticket for this host",
            Self::NotKerberos => "Negotiate is taken with Kerberos only",
        }
    }
}

impl fmt::Display for BadCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Credentials {
    /// Those of a request; `None` if it shows none.
    ///
    /// # Errors
    /// [`BadCredentials`]
    pub fn of(head: &Head<'_>) -> Result<Option<Self>, BadCredentials> {
        let value = head.only("Authorization");
        match value.map_err(|_| BadCredentials::Repeated)? {
            Some(value) => Self::parse(value).map(Some),
            None => Ok(None),
        }
    }

    /// By which scheme they are shown.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Basic { .. } => Scheme::Basic,
            Self::Bearer(_) => Scheme::Bearer,
            Self::Negotiate(..) => Scheme::Negotiate,
        }
    }

    fn parse(value: &[u8]) -> Result<Self, BadCredentials> {
        let end = value.iter().position(|byte| *byte == b' ');
        let (scheme, rest) = value.split_at(end.unwrap_or(value.len()));
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"Basic") {
            return parse_basic(rest).ok_or(BadCredentials::Malformed);
        }
        if scheme.eq_ignore_ascii_case(b"Bearer") {
            return parse_bearer(rest).ok_or(BadCredentials::Malformed);
        }
        if scheme.eq_ignore_ascii_case(b"Negotiate") {
            return parse_negotiate(rest);
        }
        if scheme.eq_ignore_ascii_case(b"NTLM") {
            return Err(BadCredentials::Ntlm);
        }
        Err(BadCredentials::UnknownScheme)
    }
}

fn parse_basic(encoded: &[u8]) -> Option<Credentials> {
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = (&decoded[..colon], &decoded[colon + 1..]);
    // We ask for UTF-8 (RFC 7617 2.1). Who does not listen sends ISO-8859-1, in which each byte is
    // the character of its number.
    let user = match str::from_utf8(user) {
        Ok(user) => user.to_owned(),
        Err(_) => user.iter().copied().map(char::from).collect(),
    };
    let is_user = (1..=USER_BYTES_MAX).contains(&user.len()) && !user.contains(char::is_control);
    let is_password = password.len() <= PASSWORD_BYTES_MAX && !password.contains(&0);
    (is_user && is_password).then(|| Credentials::Basic {
        user,
        password: Zeroizing::new(password.to_vec()),
    })
}

fn parse_bearer(token: &[u8]) -> Option<Credentials> {
    let is_in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.iter().all(is_in_token);
    let token = is_token.then(|| str::from_utf8(token).ok()).flatten()?;
    Some(Credentials::Bearer(Zeroizing::new(token.to_owned())))
}

fn parse_negotiate(encoded: &[u8]) -> Result<Credentials, BadCredentials> {
    if encoded.len() > TICKET_BYTES_MAX.div_ceil(3) * 4 {
        return Err(BadCredentials::Malformed);
    }
    let token = STANDARD
        .decode(encoded)
        .map_err(|_| BadCredentials::Malformed)?;
    let token = Zeroizing::new(token);
    let shape = spnego::inspect(&token)?;
    Ok(Credentials::Negotiate(token, shape))
}

/// A way to show who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// A ticket of Kerberos (RFC 4559).
    Negotiate,
    /// A name and a password (RFC 7617).
    Basic,
    /// A token (RFC 6750).
    Bearer,
    /// A certificate, shown while hands were shaken (RFC 8446 4.4.2.4).
    Certificate,
    /// A proxy says it, in a field of its own. Nobody can be asked for that.
    Proxy,
}

impl Scheme {
    /// Every one, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Negotiate,
        Self::Basic,
        Self::Bearer,
        Self::Certificate,
        Self::Proxy,
    ];
    /// Their words.
    pub const WORDS: &[&str] = &[
        Self::Negotiate.word(),
        Self::Basic.word(),
        Self::Bearer.word(),
        Self::Certificate.word(),
        Self::Proxy.word(),
    ];

    /// As it stands in the settings and in the log.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Negotiate => "negotiate",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::Certificate => "certificate",
            Self::Proxy => "proxy",
        }
    }

    /// The one that is called so.
    pub fn from_word(word: &str) -> Option<Self> {
        (Self::ALL.into_iter()).find(|scheme| scheme.word() == word)
    }

    /// Whether whoever listens to it can show it as well.
    pub fn is_told(self) -> bool {
        match self {
            Self::Basic | Self::Bearer => true,
            Self::Negotiate | Self::Certificate | Self::Proxy => false,
        }
    }

    /// The value of a WWW-Authenticate field that asks for it, if one can; `realm` has neither
    /// quotes nor backslashes. `token` is what Negotiate has to say, or nothing.
    pub fn challenge(self, realm: &str, token: &[u8]) -> Option<String> {
        Some(match self {
            Self::Negotiate if token.is_empty() => "Negotiate".to_owned(),
            Self::Negotiate => say_token(token),
            Self::Basic => format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            Self::Bearer => format!("Bearer realm=\"{realm}\""),
            Self::Certificate | Self::Proxy => return None,
        })
    }
}

/// The value of WWW-Authenticate by which the server goes on with Negotiate, or proves itself (RFC
/// 4559 4.1).
pub fn say_token(token: &[u8]) -> String {
    format!("Negotiate {}", STANDARD.encode(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &[u8]) -> Result<Credentials, BadCredentials> {
        Ok(Credentials::Basic {
            user: user.to_owned(),
            password: Zeroizing::new(password.to_vec()),
        })
    }

    fn of(plain: &[u8]) -> Result<Credentials, BadCredentials> {
        Credentials::parse(format!("Basic {}", STANDARD.encode(plain)).as_bytes())
    }

    #[test]
    fn a_name_and_a_password_are_read() {
        // The example of RFC 7617 2.
        let value = b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        assert_eq!(Credentials::parse(value), basic("Aladdin", b"open sesame"));
        assert_eq!(
            Credentials::parse(b"bASIC   QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            basic("Aladdin", b"open sesame")
        );
        assert_eq!(of(b"u:a:b"), basic("u", b"a:b"), "a password has colons");
        assert_eq!(of(b"u:"), basic("u", b""));
        assert_eq!(of("Jörg:ö".as_bytes()), basic("Jörg", "ö".as_bytes()));
        assert_eq!(of(b"J\xf6rg:\xf6"), basic("Jörg", b"\xf6"), "ISO-8859-1");
    }

    #[test]
    fn what_is_no_name_and_password_is_malformed() {
        let long_user = [vec![b'u'; USER_BYTES_MAX + 1], b":p".to_vec()].concat();
        let long_password = [b"u:".to_vec(), vec![b'p'; PASSWORD_BYTES_MAX + 1]].concat();
        for plain in [
            &b""[..],
            b"no colon",
            b":no user",
            b"line\nbreak:p",
            b"u:zero\0",
            &long_user,
            &long_password,
        ] {
            assert_eq!(of(plain), Err(BadCredentials::Malformed), "{plain:?}");
        }
        for value in [
            &b"Basic"[..],
            b"Basic ",
            b"Basic ???",
            b"Basic QQ=",
            b"Basic Og == x",
        ] {
            let read = Credentials::parse(value);
            assert_eq!(read, Err(BadCredentials::Malformed), "{value:?}");
        }
    }

    #[test]
    fn a_token_is_read() {
        let token = Zeroizing::new("mF_9.B5f-4.1JqM~+/==".to_owned());
        let read = Credentials::parse(b"Bearer mF_9.B5f-4.1JqM~+/==");
        assert_eq!(read, Ok(Credentials::Bearer(token)));
        for value in [&b"Bearer"[..], b"Bearer ", b"Bearer a b", b"Bearer \xff"] {
            let read = Credentials::parse(value);
            assert_eq!(read, Err(BadCredentials::Malformed), "{value:?}");
        }
    }

    #[test]
    fn other_schemes_are_unknown() {
        for value in [
            &b""[..],
            b"Digest x=1",
            b"Negotiated QQ==",
            b"Basically QQ==",
        ] {
            let read = Credentials::parse(value);
            assert_eq!(read, Err(BadCredentials::UnknownScheme), "{value:?}");
        }
    }

    #[test]
    fn a_token_of_kerberos_is_read_and_no_other() {
        // [APPLICATION 0] with the mechanism of Kerberos, and four bytes of its own.
        let token = b"\x60\x0f\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00\x6e\x00";
        let of = |token: &[u8]| {
            Credentials::parse(format!("negotiate {}", STANDARD.encode(token)).as_bytes())
        };
        let read = Credentials::Negotiate(Zeroizing::new(token.to_vec()), Shape::First);
        assert_eq!(of(token), Ok(read));
        assert_eq!(of(b"NTLMSSP\0\x01"), Err(BadCredentials::Ntlm));
        assert_eq!(
            Credentials::parse(b"NTLM TlRMTVNTUAAB"),
            Err(BadCredentials::Ntlm)
        );
        assert_eq!(
            of(b"\x60\x05\x06\x01\x2a\x01\x00"),
            Err(BadCredentials::NotKerberos)
        );
        let mut long = b"\x60\x84\0\0\0\0".to_vec();
        long.extend(&token[2..]);
        long.resize(TICKET_BYTES_MAX, 7);
        let bytes = u32::try_from(TICKET_BYTES_MAX - 6).unwrap();
        long[2..6].copy_from_slice(&bytes.to_be_bytes());
        assert!(of(&long).is_ok());
        long[2..6].copy_from_slice(&(bytes + 3).to_be_bytes());
        long.extend(b"abc");
        assert_eq!(of(&long), Err(BadCredentials::Malformed), "too long");
        for value in [
            &b"Negotiate"[..],
            b"Negotiate ",
            b"Negotiate ?",
            b"Negotiate YII=",
        ] {
            let read = Credentials::parse(value);
            assert_eq!(read, Err(BadCredentials::Malformed), "{value:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!(
            "{:?} {:?}",
            of(b"u:secret"),
            Credentials::parse(b"Bearer secret")
        );
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn challenges_name_the_realm() {
        for (scheme, token, expected) in [
            (
                Scheme::Basic,
                &b""[..],
                Some("Basic realm=\"bitsd\", charset=\"UTF-8\""),
            ),
            (Scheme::Bearer, b"", Some("Bearer realm=\"bitsd\"")),
            (Scheme::Negotiate, b"", Some("Negotiate")),
            (Scheme::Negotiate, b"abc", Some("Negotiate YWJj")),
            (Scheme::Certificate, b"", None),
            (Scheme::Proxy, b"", None),
        ] {
            let challenge = scheme.challenge("bitsd", token);
            assert_eq!(challenge.as_deref(), expected, "{scheme:?}");
        }
    }
}
