//! Bytes of a connection in, one request head out.

use std::mem::MaybeUninit;

pub use super::bad_head::{BadHead, FieldName};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, spoken by some proxies.
    Http10,
    #[default]
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
    /// `Expect: 100-continue` was sent, perhaps among others (and the version is 1.1).
    pub expects_continue: bool,
    /// Host and port by which the client calls this server: those of an absolute target, else those
    /// of the Host field (RFC 9112 3.2.2). They can stand in a URL as they are. `None` where there
    /// are none.
    pub host: Option<&'b str>,
    /// Field names and values in the order sent; values without surrounding blanks.
    pub fields: Vec<(&'b str, &'b [u8])>,
}

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
        check_so_far(window, skipped, progress)?;
        let bytes_max = limits.head_bytes_max;
        return match bytes.len() < bytes_max {
            true => Ok(Parsed::Incomplete),
            false => Err(BadHead::TooLarge { bytes_max }),
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
    head.expects_continue = version == Version::Http11 && head.has("Expect", b"100-continue");
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
    pub fn values<'n>(&'n self, name: &'n str) -> impl DoubleEndedIterator<Item = &'b [u8]> + 'n {
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
            Ok(Some(value)) => Some(host::parse(value).map_err(BadHead::HostMalformed)?),
        };
        if self.target.starts_with('/') {
            return Ok(sent);
        }
        let called = host::of_absolute(self.target);
        Ok(called.and_then(|authority| host::parse(authority.as_bytes()).ok()))
    }

    /// Whether a list (RFC 9110 5.6.1) names this, in any case.
    fn has(&self, name: &str, token: &[u8]) -> bool {
        let lists = self.values(name);
        let mut tokens = lists
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(trim);
        tokens.any(|found| found.eq_ignore_ascii_case(token))
    }

    /// RFC 9112 9.3.
    fn is_kept_alive(&self) -> bool {
        let has = |token: &[u8]| self.has("Connection", token);
        match self.version {
            Version::Http11 => !has(b"close"),
            Version::Http10 => has(b"keep-alive") && !has(b"close"),
        }
    }
}

fn values<'n, 'b>(
    fields: &'n [(&'b str, &'b [u8])],
    name: &'n str,
) -> impl DoubleEndedIterator<Item = &'b [u8]> + 'n {
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

/// Digits only: no sign, no blanks, no list. `None` beyond `u64::MAX`.
pub fn decimal(value: &[u8]) -> Option<u64> {
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

/// Refuses a head that is not whole and can never be.
fn check_so_far(window: &[u8], skipped: usize, progress: &mut Progress) -> Result<(), BadHead> {
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
    Ok(())
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
mod tests;
