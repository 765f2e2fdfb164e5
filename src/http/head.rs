//! Bytes of a connection in, one request head out.

use std::fmt::{self, Write as _};
use std::mem::MaybeUninit;

use super::host;

/// Bounds on a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, the empty line included.
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// Bytes of the value of one of the protocol's own fields (4 KiB on the Windows server, MC-BUP
    /// 2.2.1): those whose names begin with `BITS-` or `Content-`. Others may be as long as the
    /// head: a Kerberos ticket in Authorization has up to 48 KiB.
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
    Other,
}

/// Protocol version of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, spoken by some proxies.
    Http10,
    Http11,
}

/// How long the body is (RFC 9112 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    Absent,
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// One request head, borrowed from the bytes it was parsed from.
#[derive(Debug)]
pub struct Head<'b> {
    /// Bytes from the start of the input to the first byte of the body (skipped empty lines
    /// included).
    pub bytes_len: usize,
    pub method: Method,
    /// Request target as sent: origin-form or absolute-form.
    pub target: &'b str,
    pub version: Version,
    pub framing: Framing,
    /// Whether the connection may carry another request after this one.
    pub keep_alive: bool,
    /// `Expect: 100-continue` was sent (and the version is 1.1).
    pub expects_continue: bool,
    /// Host and port by which the client calls this server: those of an absolute target, else those
    /// of the Host field (RFC 9112 3.2.2). They can stand in a URL as they are. `None` where there
    /// are none.
    pub host: Option<&'b str>,
    /// Field names and values in the order sent; values without surrounding blanks.
    pub fields: Vec<(&'b str, &'b [u8])>,
}

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
    HostMalformed,
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
    /// The head is long, and as many long ones are being read as may be. It may be sent again.
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
    fn words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge { bytes_max } => {
                return write!(f, "the request head is longer than {bytes_max} bytes");
            }
            Self::TooManyFields { fields_max } => {
                return write!(f, "the request has more than {fields_max} header fields");
            }
            Self::ValueTooLong { field, bytes_max } => {
                return write!(f, "the value of {field} is longer than {bytes_max} bytes");
            }
            Self::EmptyLines => "nothing but empty lines stands where a request should begin",
            Self::BareLineEnd => "a line of the head does not end in CR LF",
            Self::Folded => "a header field is folded over two lines",
            Self::SpaceBeforeColon => "white space stands before the colon of a header field",
            Self::RequestLine => "the request line is malformed",
            Self::FieldName => "a header name has a character that may not stand in it",
            Self::FieldValue { field } => {
                return write!(f, "the value of {field} has a control character");
            }
            Self::Version => "the protocol is neither HTTP/1.1 nor HTTP/1.0",
            Self::HostMissing => "an HTTP/1.1 request has no Host",
            Self::HostRepeated => "the request has more than one Host",
            Self::HostMalformed => "the Host of the request is no host",
            Self::ContentLength => "Content-Length is not a number",
            Self::ContentLengthDiffers => "the request has two different Content-Lengths",
            Self::LengthAndCoding => "Content-Length stands beside Transfer-Encoding",
            Self::CodingInHttp10 => "Transfer-Encoding stands in an HTTP/1.0 request",
            Self::CodingUnknown => "the transfer coding is not chunked",
            Self::NoRoom => "too many long request heads at the same time; try again",
        })
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

/// A field that may stand once was sent more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedField;

/// What of a head that is still arriving was looked at before: its lines need not be looked at
/// again, so that a head costs what its bytes cost, in however many pieces they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Bytes of empty lines before it.
    skipped: usize,
    /// Before this byte all line ends are right, and none ends the head.
    checked: usize,
}

/// Parses the head at the start of `bytes`.
///
/// # Errors
/// [`BadHead`] as soon as the bytes can no longer become a head that we accept.
pub fn parse<'b>(bytes: &'b [u8], limits: &HeadLimits) -> Result<Parsed<'b>, BadHead> {
    parse_on(bytes, limits, &mut Progress::default())
}

/// As [`parse`], where `progress` is that of the bytes that came before; they begin as they did
/// then.
///
/// # Errors
/// Those of [`parse`].
pub fn parse_on<'b>(
    bytes: &'b [u8],
    limits: &HeadLimits,
    progress: &mut Progress,
) -> Result<Parsed<'b>, BadHead> {
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let mut skipped = progress.skipped;
    if progress.checked <= skipped {
        skipped += empty_lines(&bytes[skipped..]);
        progress.skipped = skipped;
        progress.checked = skipped;
        if skipped > EMPTY_LINES_MAX * 2 {
            return Err(BadHead::EmptyLines);
        }
    }
    let Some(end) = end_of_head(window, skipped.max(progress.checked.saturating_sub(3))) else {
        check_first_line(&window[skipped.min(window.len())..])?;
        // Nothing after the first bad line end can mend it.
        let unchecked = &window[progress.checked.min(window.len())..];
        check_line_ends(unchecked, LastLine::MayBeCut)?;
        // A line end that was cut, or behind which a fold may come, is looked at again.
        let again = match unchecked {
            [.., b'\r', b'\n'] => 2,
            [.., b'\r'] => 1,
            _ => 0,
        };
        progress.checked = progress.checked.max(window.len() - again);
        return if bytes.len() < limits.head_bytes_max {
            Ok(Parsed::Incomplete)
        } else {
            Err(BadHead::TooLarge {
                bytes_max: limits.head_bytes_max,
            })
        };
    };
    let head = &bytes[skipped..end];
    if let Err(error) = check_line_ends(&bytes[progress.checked..end], LastLine::IsWhole) {
        // Bytes that came one by one were judged by their first line.
        check_first_line(head)?;
        return Err(error);
    }
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_CAPACITY];
    let slots_len = limits.headers_max.min(FIELDS_CAPACITY);
    let slots = &mut slots[..slots_len];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        // The end was seen above, so what httparse still waits for is not a head.
        Ok(_) => return Err(BadHead::RequestLine),
        Err(error) => return Err(cause(error, head, slots_len)),
    }
    let fields: Vec<_> = request
        .headers
        .iter()
        .map(|field| (field.name, trim(field.value)))
        .collect();
    let bytes_max = limits.value_bytes_max;
    let mut protocols = fields.iter().filter(|(name, _)| is_of_protocol(name));
    if let Some((name, _)) = protocols.find(|(_, value)| value.len() > bytes_max) {
        let field = FieldName::new(name.as_bytes());
        return Err(BadHead::ValueTooLong { field, bytes_max });
    }
    let version = if request.version == Some(0) {
        Version::Http10
    } else {
        Version::Http11
    };
    let mut head = Head {
        bytes_len: end,
        method: Method::Other,
        target: request.path.ok_or(BadHead::RequestLine)?,
        version,
        framing: framing(&fields, version)?,
        keep_alive: false,
        expects_continue: false,
        host: None,
        fields,
    };
    head.host = head.called()?;
    head.method = method(request.method.ok_or(BadHead::RequestLine)?, &head);
    head.keep_alive = head.is_kept_alive();
    head.expects_continue = version == Version::Http11
        && head
            .values("Expect")
            .any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Parsed::Complete(head))
}

impl<'b> Head<'b> {
    /// The value of the only field of this name (any case); `None` if absent.
    ///
    /// # Errors
    /// [`RepeatedField`] if it was sent more than once.
    pub fn only(&self, name: &str) -> Result<Option<&'b [u8]>, RepeatedField> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            Err(RepeatedField)
        } else {
            Ok(first)
        }
    }

    /// The values of all fields of this name (any case), in the order sent.
    fn values<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + 'n {
        values(&self.fields, name)
    }

    /// RFC 9112 3.2: HTTP/1.1 has exactly one Host, also beside an absolute target, and what is no
    /// host is refused. By 3.2.2 an absolute target then goes before it; one without a host that
    /// makes sense names nothing ([`super::path::parse_target`] refuses it).
    fn called(&self) -> Result<Option<&'b str>, BadHead> {
        let sent = match self.only("Host") {
            Err(RepeatedField) => return Err(BadHead::HostRepeated),
            Ok(None) if self.version == Version::Http11 => return Err(BadHead::HostMissing),
            Ok(None) => None,
            // Empty where a client cannot tell (RFC 9110 7.2).
            Ok(Some([])) => None,
            Ok(Some(value)) => Some(host::parse(value).ok_or(BadHead::HostMalformed)?),
        };
        if self.target.starts_with('/') {
            return Ok(sent);
        }
        Ok(host::of_absolute(self.target).and_then(|authority| host::parse(authority.as_bytes())))
    }

    /// RFC 9112 9.3.
    fn is_kept_alive(&self) -> bool {
        let has = |token: &[u8]| {
            let mut tokens = self
                .values("Connection")
                .flat_map(|value| value.split(|&byte| byte == b','))
                .map(trim);
            tokens.any(|found| found.eq_ignore_ascii_case(token))
        };
        match self.version {
            Version::Http11 => !has(b"close"),
            Version::Http10 => has(b"keep-alive") && !has(b"close"),
        }
    }
}

fn values<'n, 'b>(
    fields: &'n [(&'b str, &'b [u8])],
    name: &'n str,
) -> impl Iterator<Item = &'b [u8]> + 'n {
    fields
        .iter()
        .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
        .map(|&(_, value)| value)
}

/// Some proxies block the verb; a POST that says what it means is taken for it (protocol.md 12.1).
fn method(name: &str, head: &Head<'_>) -> Method {
    match name {
        "BITS_POST" => Method::BitsPost,
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" if head.only("X-HTTP-Method-Override") == Ok(Some(b"BITS_POST")) => Method::BitsPost,
        _ => Method::Other,
    }
}

/// RFC 9112 6.3, and where it lets a server choose, the stricter reading.
fn framing(fields: &[(&str, &[u8])], version: Version) -> Result<Framing, BadHead> {
    let mut length = None;
    for value in values(fields, "Content-Length") {
        let this = decimal(value).ok_or(BadHead::ContentLength)?;
        if length.is_some_and(|before| before != this) {
            return Err(BadHead::ContentLengthDiffers);
        }
        length = Some(this);
    }
    let mut codings = values(fields, "Transfer-Encoding");
    let Some(coding) = codings.next() else {
        return Ok(length.map_or(Framing::Absent, Framing::Length));
    };
    if length.is_some() {
        return Err(BadHead::LengthAndCoding);
    }
    if version == Version::Http10 {
        return Err(BadHead::CodingInHttp10);
    }
    if codings.next().is_some() || !coding.eq_ignore_ascii_case(b"chunked") {
        return Err(BadHead::CodingUnknown);
    }
    Ok(Framing::Chunked)
}

/// Digits only: no sign, no blanks, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Empty lines before a request. RFC 9112 2.2 asks for one at least, which old clients send behind
/// a body; whoever sends nothing else would keep us waiting for a head that never begins.
pub const EMPTY_LINES_MAX: usize = 4;

/// Whether nothing came but whole empty lines: no request has begun.
pub fn is_blank(bytes: &[u8]) -> bool {
    !bytes.is_empty() && empty_lines(bytes) == bytes.len()
}

/// Bytes of empty lines before the request line (RFC 9112 2.2).
fn empty_lines(bytes: &[u8]) -> usize {
    bytes
        .chunks_exact(2)
        .take_while(|line| *line == b"\r\n")
        .count()
        * 2
}

/// One past the empty line that ends the head, if that ends behind `from`.
fn end_of_head(window: &[u8], from: usize) -> Option<usize> {
    let head = window.get(from..)?;
    memchr::memmem::find(head, b"\r\n\r\n").map(|at| from + at + 4)
}

/// Whether the last line of what is checked can still go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastLine {
    MayBeCut,
    IsWhole,
}

/// Refuses with the first line what is no request, and a line that cannot become one with its first
/// wrong byte: a client that speaks TLS, say, would wait for our answer, and we for the rest of a
/// head.
fn check_first_line(bytes: &[u8]) -> Result<(), BadHead> {
    let end = memchr::memchr(b'\n', bytes);
    let line = &bytes[..end.map_or(bytes.len(), |at| at + 1)];
    check_line_ends(line, LastLine::MayBeCut)?;
    match httparse::Request::new(&mut []).parse(line) {
        Ok(_) => Ok(()),
        // Which version it is can be told when it stands there whole.
        Err(httparse::Error::Version) if end.is_none() => Ok(()),
        // There are no fields in it to be counted.
        Err(error) => Err(cause(error, line, 0)),
    }
}

/// httparse is lenient with line ends; a proxy in front may read them otherwise, so we are not.
fn check_line_ends(head: &[u8], last: LastLine) -> Result<(), BadHead> {
    let mut next = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', head) {
        if at < next {
            continue;
        }
        let is_cut = at + 1 == head.len() && last == LastLine::MayBeCut;
        if head[at] == b'\n' || (!is_cut && head.get(at + 1) != Some(&b'\n')) {
            return Err(BadHead::BareLineEnd);
        }
        next = at + 2;
        // RFC 9112 5.2: a line that begins with white space continues the one before.
        if matches!(head.get(next), Some(b' ' | b'\t')) {
            return Err(BadHead::Folded);
        }
    }
    Ok(())
}

/// Whether a field is one of the messages of MC-BUP, whose values have a limit of their own
/// (2.2.1).
fn is_of_protocol(name: &str) -> bool {
    let begins = |with: &str| {
        let start = name.as_bytes().get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    begins("BITS-") || begins("Content-")
}

/// Finds the exact cause behind httparse's answer.
fn cause(error: httparse::Error, head: &[u8], fields_max: usize) -> BadHead {
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooManyFields { fields_max },
        httparse::Error::Version => version_cause(head),
        httparse::Error::HeaderName => name_cause(head),
        httparse::Error::HeaderValue => BadHead::FieldValue {
            field: spoilt_field(head),
        },
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            BadHead::RequestLine
        }
    }
}

/// `HTTP/2.0` is another version; `HTTP/x` is not a version at all.
fn version_cause(head: &[u8]) -> BadHead {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next().unwrap_or_default(), words.next()) {
        ([b'H', b'T', b'T', b'P', b'/', major, b'.', minor], None)
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            BadHead::Version
        }
        _ => BadHead::RequestLine,
    }
}

fn name_cause(head: &[u8]) -> BadHead {
    let is_spaced = |line: &[u8]| {
        let colon = memchr::memchr(b':', line);
        colon.is_some_and(|colon| colon > 0 && matches!(line[colon - 1], b' ' | b'\t'))
    };
    let mut lines = head.split(|&byte| byte == b'\n').skip(1);
    if lines.any(is_spaced) {
        BadHead::SpaceBeforeColon
    } else {
        BadHead::FieldName
    }
}

/// The first field whose value has a control character.
fn spoilt_field(head: &[u8]) -> FieldName {
    let lines = head.split(|&byte| byte == b'\n').skip(1);
    let mut fields = lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let value = &line[colon + 1..];
        let value = value.strip_suffix(b"\r").unwrap_or(value);
        let is_spoilt = value
            .iter()
            .any(|&byte| byte != b'\t' && byte.is_ascii_control());
        is_spoilt.then(|| FieldName::new(&line[..colon]))
    });
    fields.next().unwrap_or_else(|| FieldName::new(b""))
}

/// Without blanks and tabs at both ends (RFC 9110 5.6.3).
fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(is_text) else {
        return &[];
    };
    let end = value
        .iter()
        .rposition(is_text)
        .map_or(start, |last| last + 1);
    &value[start..end]
}

/// The most fields that any setting allows.
pub const FIELDS_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes_max: 16 * 1024,
        headers_max: 64,
        value_bytes_max: 4096,
    };

    const CREATE: &str = "BITS_POST /in/a.bin HTTP/1.1\r\nAccept: */*\r\n\
        BITS-Packet-Type: Create-Session\r\nHost: up.example\r\nContent-Length: 0\r\n\
        Connection: Keep-Alive\r\n\r\n";

    fn whole(text: &str) -> Result<Head<'_>, BadHead> {
        match parse(text.as_bytes(), &LIMITS)? {
            Parsed::Complete(head) => Ok(head),
            Parsed::Incomplete => panic!("a whole head was given: {text:?}"),
        }
    }

    /// A head with the given fields and a Host.
    fn with(fields: &str) -> String {
        format!("BITS_POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
    }

    fn refused(text: &str) -> BadHead {
        whole(text).expect_err(text)
    }

    #[test]
    fn a_recorded_head_is_read() {
        let head = whole(CREATE).unwrap();
        assert_eq!(head.bytes_len, CREATE.len());
        assert_eq!((head.method, head.target), (Method::BitsPost, "/in/a.bin"));
        assert_eq!(
            (head.version, head.framing),
            (Version::Http11, Framing::Length(0))
        );
        assert!(head.keep_alive && !head.expects_continue);
        assert_eq!(
            head.only("bits-packet-type"),
            Ok(Some(b"Create-Session".as_slice()))
        );
        assert_eq!(head.only("absent"), Ok(None));
    }

    #[test]
    fn a_head_may_arrive_in_any_number_of_pieces() {
        for len in 0..CREATE.len() {
            let parsed = parse(&CREATE.as_bytes()[..len], &LIMITS).unwrap();
            assert!(matches!(parsed, Parsed::Incomplete), "{len} bytes");
        }
    }

    #[test]
    fn the_body_is_no_part_of_the_head() {
        let text = format!("{CREATE}BITS_POST \n\n");
        assert_eq!(whole(&text).unwrap().bytes_len, CREATE.len());
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_with_its_first_line() {
        for (bytes, expected) in [
            (&b"\x16"[..], BadHead::RequestLine),
            (b"\0", BadHead::RequestLine),
            (b"\r\n\r\n\0", BadHead::RequestLine),
            (b"SSH-2.0-OpenSSH_9.2\r\n", BadHead::RequestLine),
            (
                b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
                BadHead::RequestLine,
            ),
            (b"GET / HTTP/2.0\r\n", BadHead::Version),
        ] {
            assert_eq!(parse(bytes, &LIMITS).unwrap_err(), expected, "{bytes:?}");
        }
        for bytes in [
            &b"B"[..],
            b"BITS_POST",
            b"BITS_POST /",
            b"GET / HTTP/1",
            b"GET / HTTP/2",
            b"\r",
            b"\r\n",
        ] {
            let parsed = parse(bytes, &LIMITS);
            assert!(matches!(parsed, Ok(Parsed::Incomplete)), "{bytes:?}");
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped() {
        let text = format!("\r\n\r\n{CREATE}");
        assert_eq!(whole(&text).unwrap().bytes_len, text.len());
        assert!(matches!(parse(b"\r\n\r", &LIMITS), Ok(Parsed::Incomplete)));
    }

    #[test]
    fn whoever_sends_nothing_but_empty_lines_is_told_at_once() {
        let most = "\r\n".repeat(EMPTY_LINES_MAX);
        assert!(whole(&format!("{most}{CREATE}")).is_ok());
        let more = format!("{most}\r\n");
        assert_eq!(
            parse(more.as_bytes(), &LIMITS).unwrap_err(),
            BadHead::EmptyLines
        );
        // However they come.
        let mut progress = Progress::default();
        let first = (1..=more.len())
            .find(|len| parse_on(&more.as_bytes()[..*len], &LIMITS, &mut progress).is_err());
        assert_eq!(first, Some(more.len()));
    }

    #[test]
    fn the_verb_may_hide_in_a_post() {
        let text = "POST /a HTTP/1.1\r\nHost: h\r\nx-http-method-override: BITS_POST\r\n\r\n";
        assert_eq!(whole(text).unwrap().method, Method::BitsPost);
        assert_eq!(
            whole("POST /a HTTP/1.1\r\nHost: h\r\n\r\n").unwrap().method,
            Method::Other
        );
        let lower = "bits_post /a HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(
            whole(lower).unwrap().method,
            Method::Other,
            "methods have a case"
        );
    }

    #[test]
    fn versions_decide_on_persistence() {
        for (line, keep_alive) in [
            ("HTTP/1.1\r\nHost: h", true),
            ("HTTP/1.1\r\nHost: h\r\nConnection: close", false),
            ("HTTP/1.1\r\nHost: h\r\nConnection: x, Close", false),
            ("HTTP/1.0", false),
            ("HTTP/1.0\r\nConnection: Keep-Alive", true),
            ("HTTP/1.0\r\nConnection: close", false),
        ] {
            let text = format!("GET /a {line}\r\n\r\n");
            assert_eq!(whole(&text).unwrap().keep_alive, keep_alive, "{line}");
        }
    }

    #[test]
    fn continue_is_a_matter_of_http_1_1() {
        assert!(
            whole(&with("Expect: 100-Continue\r\n"))
                .unwrap()
                .expects_continue
        );
        let old = "GET /a HTTP/1.0\r\nExpect: 100-continue\r\n\r\n";
        assert!(!whole(old).unwrap().expects_continue);
    }

    #[test]
    fn framing_has_one_reading() {
        for (fields, framing) in [
            ("", Framing::Absent),
            ("Content-Length: 0\r\n", Framing::Length(0)),
            (
                "Content-Length: 18446744073709551615\r\n",
                Framing::Length(u64::MAX),
            ),
            (
                "content-length: 5\r\nContent-Length: 5\r\n",
                Framing::Length(5),
            ),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
        ] {
            assert_eq!(whole(&with(fields)).unwrap().framing, framing, "{fields}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for (fields, why) in [
            (
                "Content-Length: 5\r\nContent-Length: 6\r\n",
                BadHead::ContentLengthDiffers,
            ),
            ("Content-Length: 5, 5\r\n", BadHead::ContentLength),
            ("Content-Length: +5\r\n", BadHead::ContentLength),
            ("Content-Length: -1\r\n", BadHead::ContentLength),
            ("Content-Length: 0x5\r\n", BadHead::ContentLength),
            ("Content-Length:\r\n", BadHead::ContentLength),
            (
                "Content-Length: 18446744073709551616\r\n",
                BadHead::ContentLength,
            ),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                BadHead::LengthAndCoding,
            ),
            (
                "Transfer-Encoding: gzip, chunked\r\n",
                BadHead::CodingUnknown,
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                BadHead::CodingUnknown,
            ),
            ("Transfer-Encoding: identity\r\n", BadHead::CodingUnknown),
            ("Host: i\r\n", BadHead::HostRepeated),
            ("A: b\r\n c\r\n", BadHead::Folded),
            ("A: b\r\n\tc\r\n", BadHead::Folded),
            ("A : b\r\n", BadHead::SpaceBeforeColon),
            ("A\t: b\r\n", BadHead::SpaceBeforeColon),
            ("A b\r\n", BadHead::FieldName),
            (": b\r\n", BadHead::FieldName),
            ("A: b\nC: d\r\n", BadHead::BareLineEnd),
            ("A: b\rC: d\r\n", BadHead::BareLineEnd),
            ("A: \0\r\n", BadHead::FieldValue { field: name("A") }),
            (
                "B: b\r\nA: \x7f\r\n",
                BadHead::FieldValue { field: name("A") },
            ),
            ("Host:\r\n", BadHead::HostRepeated),
        ] {
            assert_eq!(refused(&with(fields)), why, "{fields:?}");
        }
    }

    #[test]
    fn request_lines_are_strict() {
        for (line, why) in [
            ("BITS_POST /a HTTP/2.0", BadHead::Version),
            ("BITS_POST /a HTTP/1.2", BadHead::Version),
            ("BITS_POST /a http/1.1", BadHead::RequestLine),
            ("BITS_POST /a", BadHead::RequestLine),
            ("BITS_POST", BadHead::RequestLine),
            (" BITS_POST /a HTTP/1.1", BadHead::RequestLine),
            ("BITS_POST /a b HTTP/1.1", BadHead::RequestLine),
        ] {
            assert_eq!(
                refused(&format!("{line}\r\nHost: h\r\n\r\n")),
                why,
                "{line:?}"
            );
        }
        assert_eq!(refused("GET /a HTTP/1.1\r\n\r\n"), BadHead::HostMissing);
        let old = "GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(old), BadHead::CodingInHttp10);
    }

    #[test]
    fn sizes_are_bounded() {
        let value = |name: &str, len| with(&format!("{name}: {}\r\n", "v".repeat(len)));
        for field in ["BITS-Session-Id", "content-name", "BITS-X"] {
            assert!(whole(&value(field, 4096)).is_ok());
            let why = BadHead::ValueTooLong {
                field: name(field),
                bytes_max: 4096,
            };
            assert_eq!(refused(&value(field, 4097)), why);
        }
        // A ticket of Kerberos may be as long as the head allows.
        for field in ["Authorization", "Cookie", "BITS", "Contents"] {
            assert!(whole(&value(field, 15_000)).is_ok(), "{field}");
        }
        let fields = |count: usize| with(&"A: b\r\n".repeat(count - 1));
        assert!(whole(&fields(64)).is_ok());
        let too_many = BadHead::TooManyFields { fields_max: 64 };
        assert_eq!(refused(&fields(65)), too_many);
        let endless = "A: b\r\n".repeat(4000);
        let text = format!("GET /a HTTP/1.1\r\n{endless}");
        let refused = parse(text.as_bytes(), &LIMITS).err();
        assert_eq!(refused, Some(TOO_LARGE));
    }

    const TOO_LARGE: BadHead = BadHead::TooLarge {
        bytes_max: 16 * 1024,
    };

    fn name(name: &str) -> FieldName {
        FieldName::new(name.as_bytes())
    }

    #[test]
    fn a_refusal_names_the_field_and_the_setting() {
        let long = with(&format!("BITS-Session-Id: {}\r\n", "v".repeat(4097)));
        let why = refused(&long);
        assert_eq!(
            why.to_string(),
            "the value of BITS-Session-Id is longer than 4096 bytes (limits.value_bytes_max)"
        );
        assert_eq!(why.setting(), Some("limits.value_bytes_max"));
        assert_eq!(TOO_LARGE.setting(), Some("limits.head_bytes_max"));
        assert_eq!(BadHead::Folded.setting(), None);
        let strange = FieldName::new("X-\u{e4}\x1b[31m".as_bytes()).to_string();
        assert_eq!(strange, "X-???[31m");
        assert_eq!(FieldName::new(&[b'n'; 500]).to_string().len(), 40);
    }

    #[test]
    fn a_client_calls_the_server_by_a_host_or_not_at_all() {
        let host = |line: &str, fields: &str| {
            let text = format!("GET {line}\r\n{fields}\r\n");
            whole(&text).map(|head| head.host.map(str::to_owned))
        };
        let named = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(host("/a HTTP/1.1", "Host: h:81\r\n"), named("h:81"));
        assert_eq!(host("/a HTTP/1.1", "Host:\r\n"), Ok(None));
        assert_eq!(host("/a HTTP/1.0", ""), Ok(None));
        // RFC 9112 3.2.2.
        assert_eq!(host("http://i:82/a HTTP/1.1", "Host: h\r\n"), named("i:82"));
        assert_eq!(host("http://i/a HTTP/1.0", ""), named("i"));
        assert_eq!(
            host("http://i/a HTTP/1.1", ""),
            Err(BadHead::HostMissing),
            "3.2 asks for one there too"
        );
        assert_eq!(host("http://u@i/a HTTP/1.1", "Host: h\r\n"), Ok(None));
        for bad in [
            "h/x", "u@h", "h x", "h\"", "h:p", "h:65536", ":80", "[::g]", "h,i",
        ] {
            let refused = host("/a HTTP/1.1", &format!("Host: {bad}\r\n"));
            assert_eq!(refused, Err(BadHead::HostMalformed), "{bad}");
            let beside = host("http://i/a HTTP/1.1", &format!("Host: {bad}\r\n"));
            assert_eq!(beside, Err(BadHead::HostMalformed), "{bad}");
        }
    }

    #[test]
    fn statuses_tell_size_from_sense() {
        assert_eq!(TOO_LARGE.status(), 431);
        assert_eq!(BadHead::TooManyFields { fields_max: 9 }.status(), 431);
        assert_eq!(BadHead::Version.status(), 505);
        assert_eq!(BadHead::CodingUnknown.status(), 501);
        let field = name("BITS-Session-Id");
        let too_long = BadHead::ValueTooLong {
            field,
            bytes_max: 9,
        };
        assert_eq!(too_long.status(), 400);
        assert_eq!(BadHead::HostMissing.status(), 400);
    }

    /// Pieces from which heads, good and bad, are put together.
    fn lines() -> impl Strategy<Value = String> {
        let line = prop::sample::select(vec![
            "BITS_POST /a HTTP/1.1\r\n",
            "GET /b HTTP/1.0\r\n",
            "Host: h\r\n",
            "Content-Length: 3\r\n",
            "Content-Length: 4\r\n",
            "Transfer-Encoding: chunked\r\n",
            "A: b\n",
            " folded\r\n",
            "A : b\r\n",
            "\r\n",
            "\n",
            "\r",
            "abc",
            "\0",
            "Connection: close\r\n",
            "Expect: 100-continue\r\n",
        ]);
        proptest::collection::vec(line, 0..9).prop_map(|lines| lines.concat())
    }

    fn verdict(bytes: &[u8]) -> Option<Result<String, BadHead>> {
        match parse(bytes, &LIMITS) {
            Ok(Parsed::Incomplete) => None,
            Ok(Parsed::Complete(head)) => Some(Ok(format!("{head:?}"))),
            Err(why) => Some(Err(why)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Goal: how the bytes arrive never matters. Method: parse every prefix; the first that has
        /// a verdict must have the verdict that the whole has.
        #[test]
        fn split_at_any_byte_gives_the_same_answer(text in lines()) {
            let bytes = text.as_bytes();
            let first = (0..=bytes.len()).find_map(|len| verdict(&bytes[..len]));
            match (first, verdict(bytes)) {
                (Some(Err(_)), Some(Err(_))) => {}
                (first, last) => prop_assert_eq!(first, last),
            }
        }

        /// Goal: what was looked at before need not be looked at again. Method: the same pieces
        /// with and without memory.
        #[test]
        fn a_head_that_goes_on_has_the_verdict_of_one_read_anew(
            text in lines(), cuts in proptest::collection::vec(0usize..120, 0..8)
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut progress = Progress::default();
            for cut in cuts {
                let on = match parse_on(&bytes[..cut], &LIMITS, &mut progress) {
                    Ok(Parsed::Incomplete) => None,
                    Ok(Parsed::Complete(head)) => Some(Ok(format!("{head:?}"))),
                    Err(why) => Some(Err(why)),
                };
                prop_assert_eq!(&on, &verdict(&bytes[..cut]), "{} bytes", cut);
                if on.is_some() {
                    break;
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = verdict(&bytes);
        }
    }
}
