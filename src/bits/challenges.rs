//! What a client hears that has not shown who it is (RFC 9110 15.5.2).

use std::fmt;

use crate::http::authorization::{BadCredentials, Scheme};

/// What a client may show of who sends its request, and why what it has shown is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenges {
    /// How it may show it.
    pub schemes: Vec<Scheme>,
    /// What for, in words of the administrator.
    pub realm: Box<str>,
    /// Why.
    pub why: NotShown,
    /// What Negotiate has to say to the client; may be empty.
    pub token: Vec<u8>,
}

/// Why a request does not say who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// It shows nothing: every client begins so.
    Nothing,
    /// What it shows cannot be read, or not here.
    Unusable(BadCredentials),
    /// There is no such user, password or token.
    Wrong(Scheme),
    /// So far all is well, and more is to come.
    Unfinished,
    /// It goes on with what was not begun on this connection, or was forgotten since.
    OutOfPlace,
    /// The ticket is not bound to the connection that it came on.
    Unbound,
}

impl NotShown {
    /// Nothing of the client's stands in it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "the request does not say who sends it",
            Self::Unusable(why) => why.words(),
            Self::Wrong(Scheme::Basic) => "no such user, or another password",
            Self::Wrong(Scheme::Bearer) => "no such token",
            Self::Wrong(Scheme::Negotiate) => "the Kerberos ticket was not accepted",
            Self::Wrong(Scheme::Proxy) => "the proxy names no user",
            Self::Wrong(Scheme::Certificate) => "the certificate was not accepted",
            Self::Unfinished => "Negotiate goes on with another token",
            Self::OutOfPlace => {
                "the token of Negotiate goes on with what this connection has not begun"
            }
            Self::Unbound => "the Kerberos ticket is not bound to this connection",
        }
    }
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
