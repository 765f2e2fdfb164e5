//! Status and header fields to bytes.

/// What the client is told about the connection after this response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection stays open (HTTP/1.1 default: no Connection field is sent).
    KeepAlive,
    /// `Connection: close` is sent.
    Close,
}

/// The interim response that asks for the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Writes one response head into a buffer. `Content-Length` is the caller's to give.
pub struct ResponseHead<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ResponseHead<'o> {
    /// Begins with the status line, always HTTP/1.1, with the standard reason phrase.
    pub fn new(out: &'o mut Vec<u8>, _status: u16) -> Self {
        Self { out }
    }
    /// Adds a field.
    pub fn field(&mut self, _name: &str, _value: &str) -> &mut Self {
        let _ = &self.out;
        todo!()
    }
    /// Adds a field whose value is a number.
    pub fn number(&mut self, _name: &str, _value: u64) -> &mut Self {
        todo!()
    }
    /// Ends the head (adds `Connection: close` where asked for, then the empty line).
    pub fn end(&mut self, _persistence: Persistence) {
        todo!()
    }
}
