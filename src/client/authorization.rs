//! What a client shows of who sends its packets. It is wiped from memory, and nothing prints it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::url::Url;

/// The value of the field `Authorization`.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(Arc<Zeroizing<String>>);

/// Why nothing is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotShowable {
    /// What is no name: it has a colon or a control character, or is empty.
    User,
    /// What is no token: it has characters that none has, or is empty.
    Token,
    /// Anybody on the way could read it.
    InTheClear(String),
}

impl fmt::Display for NotShowable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str(
                "a user's name is not empty, and has no colons and no control characters",
            ),
            Self::Token => f.write_str("the file of the token holds none: a word without blanks"),
            Self::InTheClear(host) => write!(
                f,
                "no password and no token is sent to {host} without https: anybody on the way could read it"
            ),
        }
    }
}

impl std::error::Error for NotShowable {}

impl Authorization {
    /// A name and a password (RFC 7617).
    ///
    /// # Errors
    /// [`NotShowable::User`]
    pub fn basic(user: &str, password: &str) -> Result<Self, NotShowable> {
        if user.is_empty() || user.contains(|c: char| c == ':' || c.is_control()) {
            return Err(NotShowable::User);
        }
        let plain = Zeroizing::new(format!("{user}:{password}"));
        let encoded = Zeroizing::new(STANDARD.encode(plain.as_bytes()));
        Ok(Self::new(&format_args!("Basic {}", encoded.as_str())))
    }

    /// A token (RFC 6750).
    ///
    /// # Errors
    /// [`NotShowable::Token`]
    pub fn bearer(token: &str) -> Result<Self, NotShowable> {
        let is_in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_empty() || !token.bytes().all(is_in_token) {
            return Err(NotShowable::Token);
        }
        Ok(Self::new(&format_args!("Bearer {token}")))
    }

    fn new(value: &fmt::Arguments<'_>) -> Self {
        Self(Arc::new(Zeroizing::new(value.to_string())))
    }

    /// The value, for a packet to this URL.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether they may be shown to whoever answers there: over https, or within this machine.
    ///
    /// # Errors
    /// [`NotShowable::InTheClear`]
    pub fn check(&self, url: &Url) -> Result<(), NotShowable> {
        match url.is_secure() || url.is_of_this_machine() {
            true => Ok(()),
            false => Err(NotShowable::InTheClear(url.host().to_owned())),
        }
    }

    /// The same for whoever a connection has reached: a name says only where it should lead.
    ///
    /// # Errors
    /// [`NotShowable::InTheClear`]
    pub fn check_peer(&self, is_secure: bool, peer: Option<IpAddr>) -> Result<(), NotShowable> {
        match (is_secure, peer) {
            (true, _) => Ok(()),
            (false, Some(peer)) if peer.to_canonical().is_loopback() => Ok(()),
            (false, peer) => Err(NotShowable::InTheClear(
                peer.map_or_else(|| "nobody knows whom".to_owned(), |peer| peer.to_string()),
            )),
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.split(' ').next().unwrap_or_default();
        f.debug_tuple("Authorization").field(&scheme).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_as_servers_read_them() {
        // The example of RFC 7617 2.
        let basic = Authorization::basic("Aladdin", "open sesame").unwrap();
        assert_eq!(basic.expose(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let bearer = Authorization::bearer("mF_9.B5f-4.1JqM~+/=").unwrap();
        assert_eq!(bearer.expose(), "Bearer mF_9.B5f-4.1JqM~+/=");
        for user in ["", "a:b", "a\nb"] {
            let bad = Authorization::basic(user, "x").unwrap_err();
            assert_eq!(bad, NotShowable::User, "{user:?}");
        }
        for token in ["", "a b", "a\r\nHost: h", "ö"] {
            let bad = Authorization::bearer(token).unwrap_err();
            assert_eq!(bad, NotShowable::Token, "{token:?}");
        }
    }

    #[test]
    fn nobody_on_the_way_gets_to_read_them() {
        let shown = Authorization::basic("anna", "sesame").unwrap();
        for (url, may) in [
            ("https://bits.example/", true),
            ("http://127.0.0.1:8080/", true),
            ("http://[::1]:8080/", true),
            ("http://localhost/", true),
            ("http://bits.example/", false),
            ("http://192.0.2.1/", false),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
        ] {
            assert_eq!(shown.check(&url.parse().unwrap()).is_ok(), may, "{url}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_gets_them_no_more_than_another_machine() {
        let shown = Authorization::bearer("token").unwrap();
        for (is_secure, peer, may) in [
            (false, Some("127.0.0.1"), true),
            (false, Some("::1"), true),
            (false, Some("::ffff:127.0.0.1"), true),
            (false, Some("192.0.2.1"), false),
            (false, Some("2001:db8::1"), false),
            (false, None, false),
            (true, Some("192.0.2.1"), true),
        ] {
            let address = peer.map(|peer| peer.parse().unwrap());
            let checked = shown.check_peer(is_secure, address);
            assert_eq!(checked.is_ok(), may, "{is_secure} {peer:?}");
        }
    }

    #[test]
    fn nothing_prints_them() {
        let basic = Authorization::basic("anna", "sesame").unwrap();
        assert_eq!(format!("{basic:?}"), "Authorization(\"Basic\")");
    }
}
