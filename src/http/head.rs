//! Bytes of a connection in, one request head out.

/// Bounds on a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, the empty line included.
    pub head_bytes_max: usize,
    /// Number of header fields.
    pub headers_max: usize,
    /// Bytes of one field value (4 KiB on the Windows server, MC-BUP 2.2.1).
    pub value_bytes_max: usize,
}

/// The answer of [`parse`].
#[derive(Debug)]
pub enum Parsed<'b> {
    /// The head is not complete; read on.
    Incomplete,
    /// A whole head; the body begins at `Head::bytes_len`.
    Complete(Head<'b>),
}

/// Request method; only what we tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `BITS_POST`, or `POST` with `X-HTTP-Method-Override: BITS_POST`.
    BitsPost,
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// Any other.
    Other,
}

/// Protocol version of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, spoken by some proxies.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How long the body is (RFC 9112 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    Absent,
    /// Content-Length.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// One request head, borrowed from the bytes it was parsed from.
#[derive(Debug)]
pub struct Head<'b> {
    /// Bytes from the start of the input to the first byte of the body (skipped empty lines included).
    pub bytes_len: usize,
    /// Request method.
    pub method: Method,
    /// Request target as sent: origin-form or absolute-form.
    pub target: &'b str,
    /// Protocol version.
    pub version: Version,
    /// Body framing.
    pub framing: Framing,
    /// Whether the connection may carry another request after this one.
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent (and the version is 1.1).
    pub expects_continue: bool,
    /// Field names and values in the order sent; values without surrounding blanks.
    pub fields: Vec<(&'b str, &'b [u8])>,
}

/// Why a head was refused. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    // one variant per exact cause; implementer fills in
    /// Placeholder.
    Syntax,
}

impl BadHead {
    /// Status code of the answer: 400, 431 or 505 (501 for an unknown transfer coding).
    pub fn status(self) -> u16 {
        todo!()
    }
}

impl std::fmt::Display for BadHead {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Parses the head at the start of `bytes`.
///
/// # Errors
/// [`BadHead`] as soon as the bytes can no longer become a head that we accept.
pub fn parse<'b>(_bytes: &'b [u8], _limits: &HeadLimits) -> Result<Parsed<'b>, BadHead> {
    todo!()
}

impl<'b> Head<'b> {
    /// The value of the only field of this name (any case); `None` if absent.
    ///
    /// # Errors
    /// [`RepeatedField`] if it was sent more than once.
    pub fn only(&self, _name: &str) -> Result<Option<&'b [u8]>, RepeatedField> {
        todo!()
    }
}

/// A field that may stand once was sent more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedField;
