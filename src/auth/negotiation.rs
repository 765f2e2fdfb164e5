//! What Kerberos is asked, and what it says.

use zeroize::Zeroizing;

use crate::http::spnego::Shape;

/// Names a conversation of several tokens.
pub type Conversation = u64;

/// Conversations that go on at the most.
pub const CONVERSATIONS_MAX: usize = 1_024;
/// Those of one client. A whole site may be one client, behind one address, and most tickets need
/// no second token.
pub const CONVERSATIONS_OF_CLIENT_MAX: usize = 32;
/// How long one may go on, in milliseconds: a client answers at once.
pub const CONVERSATION_MS_MAX: u64 = 10_000;

/// One token of a client.
#[derive(Debug)]
pub struct Leg {
    /// Whose it is, as a number.
    pub client: u64,
    /// As it came.
    pub token: Zeroizing<Vec<u8>>,
    /// What it is.
    pub shape: Shape,
    /// The conversation that a further one goes on with.
    pub conversation: Option<Conversation>,
    /// What the ticket must be bound to, if it is to anything (RFC 5929 4): a certificate of ours.
    pub end_point: Option<Vec<u8>>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// Who sends it.
    Proven {
        /// Name and realm, as the library writes them.
        principal: String,
        /// By which the client knows us; may be empty.
        answer: Vec<u8>,
        /// The client bound it to the connection that it came on.
        is_bound: bool,
    },
    /// Nothing yet: more is to come.
    GoesOn {
        /// By which it goes on.
        conversation: Conversation,
        /// What the client needs for its next token.
        answer: Vec<u8>,
    },
    /// Nothing: it goes on with what was not begun, or was forgotten since.
    OutOfPlace,
    /// Nothing that is believed.
    Refused {
        /// The minor status (RFC 2744, 3.9.1), or 0 where there is none.
        minor: u32,
        /// Why, for the log alone.
        why: String,
        /// What the client may hear of it; may be empty.
        answer: Vec<u8>,
    },
}

/// Nobody can say, and it is not the client's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotNegotiated {
    /// As many tokens wait as may, or as many conversations go on, of all or of this client.
    TooMany,
    /// Kerberos cannot be used; why, for the log alone.
    Unusable(String),
}
