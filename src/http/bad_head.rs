//! Why a request head was refused.

use std::fmt::{self, Write as _};

use super::host::BadHost;

/// Why a head was refused; one variant per exact cause. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// More bytes than allowed before the empty line.
    TooLarge {
        bytes_max: usize,
    },
    /// More fields than allowed.
    TooManyFields {
        fields_max: usize,
    },
    /// A value of one of the protocol's fields over its limit.
    ValueTooLong {
        /// Whose.
        field: FieldName,
        bytes_max: usize,
    },
    /// More empty lines than anybody sends by mistake.
    EmptyLines,
    /// A line that does not end in CR LF.
    BareLineEnd,
    /// A field continued on the next line.
    Folded,
    /// White space between field name and colon.
    SpaceBeforeColon,
    /// A request line that is not one.
    RequestLine,
    /// A field name with a character that may not stand in it.
    FieldName,
    /// A field value with a control character.
    FieldValue {
        /// Whose.
        field: FieldName,
    },
    /// Neither HTTP/1.1 nor HTTP/1.0.
    Version,
    HostMissing,
    HostRepeated,
    /// A Host that is no host.
    HostMalformed(BadHost),
    /// A Content-Length that is not one decimal number of 64 bits.
    ContentLength,
    /// Two Content-Length fields that differ.
    ContentLengthDiffers,
    /// Content-Length beside Transfer-Encoding.
    LengthAndCoding,
    /// Transfer-Encoding in HTTP/1.0.
    CodingInHttp10,
    /// A transfer coding other than chunked.
    CodingUnknown,
    /// The head is long, and as many long ones are being read as may be, of all or of one client.
    /// It may be sent again.
    NoRoom,
}

impl BadHead {
    /// Status code of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge { .. } | Self::TooManyFields { .. } => 431,
            Self::Version => 505,
            Self::CodingUnknown => 501,
            Self::NoRoom => 503,
            _ => 400,
        }
    }
}

impl BadHead {
    /// The setting that draws the line, where one does.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } => Some("limits.head_bytes_max"),
            Self::TooManyFields { .. } => Some("limits.headers_max"),
            Self::ValueTooLong { .. } => Some("limits.value_bytes_max"),
            Self::NoRoom => Some("limits.long_heads_per_shard_max"),
            _ => None,
        }
    }
}

/// In words, with the setting that draws the line, for the log and for the client.
impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.words(f)?;
        self.setting()
            .map_or(Ok(()), |setting| write!(f, " ({setting})"))
    }
}

impl BadHead {
    /// The same without the setting, for whoever has bounds of its own.
    ///
    /// # Errors
    /// What the writer says.
    pub fn words(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes_max } => {
                write!(f, "the request head is longer than {bytes_max} bytes")
            }
            Self::TooManyFields { fields_max } => {
                write!(f, "the request has more than {fields_max} header fields")
            }
            Self::ValueTooLong { field, bytes_max } => {
                write!(f, "the value of {field} is longer than {bytes_max} bytes")
            }
            Self::FieldValue { field } => {
                write!(f, "the value of {field} has a control character")
            }
            Self::HostMalformed(bad) => write!(f, "the Host of the request {bad}"),
            plain => f.write_str(plain.reason()),
        }
    }

    /// What tells one cause from another where lines are counted: words that are the same each
    /// time, with nothing of the client's.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "the request head is too long",
            Self::TooManyFields { .. } => "the request has too many header fields",
            Self::ValueTooLong { .. } => "the value of a field is too long",
            Self::EmptyLines => "nothing but empty lines stands where a request should begin",
            Self::BareLineEnd => "a line of the head does not end in CR LF",
            Self::Folded => "a header field is folded over two lines",
            Self::SpaceBeforeColon => "white space stands before the colon of a header field",
            Self::RequestLine => "the request line is malformed",
            Self::FieldName => "a header name has a character that may not stand in it",
            Self::FieldValue { .. } => "the value of a field has a control character",
            Self::Version => "the protocol is neither HTTP/1.1 nor HTTP/1.0",
            Self::HostMissing => "an HTTP/1.1 request has no Host",
            Self::HostRepeated => "the request has more than one Host",
            // That it is the Host that does so, the lines that are counted say.
            Self::HostMalformed(bad) => bad.words(),
            Self::ContentLength => "Content-Length is not a number",
            Self::ContentLengthDiffers => "the request has two different Content-Lengths",
            Self::LengthAndCoding => "Content-Length stands beside Transfer-Encoding",
            Self::CodingInHttp10 => "Transfer-Encoding stands in an HTTP/1.0 request",
            Self::CodingUnknown => "the transfer coding is not chunked",
            Self::NoRoom => "too many long request heads at the same time; try again",
        }
    }
}

/// The name of a header field as it was sent, cut to what a log line needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FieldName {
    bytes: [u8; FIELD_NAME_BYTES],
    len: usize,
}

impl FieldName {
    /// Of these bytes; what is not visible ASCII shows as `?`.
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; FIELD_NAME_BYTES];
        let len = name.len().min(bytes.len());
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = if from.is_ascii_graphic() { *from } else { b'?' };
        }
        Self { bytes, len }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = &self.bytes[..self.len];
        bytes
            .iter()
            .try_for_each(|byte| f.write_char((*byte).into()))
    }
}

impl fmt::Debug for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// `BITS-Supported-Protocols` is the longest one that we know.
const FIELD_NAME_BYTES: usize = 40;
