//! Notifications and replies as URLs, and what an application's answer means (protocol.md 9 and
//! 10).
//!
//! A server application is told of a whole file by a POST. Its answer decides whether the file is
//! published, and what the client of an upload-reply job may fetch. Only 200 is a success, as with
//! IIS, and 403 is for good. Any other status is handed to the client as it is, and the client's
//! next duplicate of the last fragment asks again. A few would mean something else to a BITS client
//! and are handed on as 502: another 2xx would end its upload, 413 would make it shrink its
//! fragments, 416 would move its offset.

use std::fmt;

use fluent_uri::{Uri, UriRef};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use super::reply::Refusal;
use super::session::Reply;
use super::session_id::SessionId;
use crate::http::path::{SentUrl, UploadPath};

/// Bytes of a URL that a BITS client takes (protocol.md 11.1).
pub const URL_BYTES_MAX: usize = 2_200;

/// What an application answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// BITS-Static-Response-URL, as [`static_url`] reads it.
    pub static_url: Option<String>,
    /// BITS-Copy-File-To-Destination was there.
    pub copies: bool,
    /// A reply stands in the place for it.
    pub has_reply: bool,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It took the file.
    Accepted {
        /// It wants the file at its destination.
        copies: bool,
        /// What it has for the client.
        reply: Reply,
    },
    /// It refused the file for good.
    Denied,
    /// It did not take the file now.
    Refused(Refusal),
    /// It says that it took the file, and something that cannot be.
    Senseless { refusal: Refusal, why: &'static str },
}

impl Answer {
    /// Nothing but a status.
    pub fn bare(status: u16) -> Self {
        Self {
            status,
            static_url: None,
            copies: false,
            has_reply: false,
        }
    }

    /// Judges it; `received` is the size of the file, in bytes.
    pub fn judge(&self, received: u64) -> Judgement {
        match self.status {
            200 => self.judge_success(received),
            403 => Judgement::Denied,
            100..=299 | 413 | 416 => Judgement::Refused(Refusal::ApplicationFailed {
                received: Some(received),
            }),
            status => Judgement::Refused(Refusal::Application {
                status,
                received: Some(received),
            }),
        }
    }

    fn judge_success(&self, received: u64) -> Judgement {
        let reply = match &self.static_url {
            Some(url) if url.len() > URL_BYTES_MAX => {
                let refusal = Refusal::ReplyUrlTooLong { received };
                let why = URL_TOO_LONG;
                return Judgement::Senseless { refusal, why };
            }
            Some(url) if !is_absolute(url) => {
                let received = Some(received);
                let refusal = Refusal::ApplicationFailed { received };
                let why = URL_MALFORMED;
                return Judgement::Senseless { refusal, why };
            }
            Some(_) => Reply::Elsewhere,
            None if self.has_reply => Reply::File,
            None => Reply::None,
        };
        Judgement::Accepted {
            copies: self.copies,
            reply,
        }
    }
}

const URL_TOO_LONG: &str = "its BITS-Static-Response-URL is over 2,200 characters";
const URL_MALFORMED: &str = "its BITS-Static-Response-URL is no absolute http or https URL";

/// The value of BITS-Static-Response-URL; `None` if it is empty. What Windows writes into URLs and
/// no URL may hold (braces, blanks, UTF-8) is escaped behind the host, as IIS lets it through. A
/// host is not touched: escaped, it would be another one.
pub fn static_url(sent: &[u8]) -> Option<String> {
    let sent = sent.trim_ascii();
    let begin = memchr::memmem::find(sent, b"://").map_or(0, |at| at + 3);
    let is_end = |byte: &u8| matches!(byte, b'/' | b'?' | b'#');
    let host = sent[begin..].iter().position(is_end);
    let (base, rest) = sent.split_at(host.map_or(sent.len(), |at| begin + at));
    let mut url = String::from_utf8_lossy(base).into_owned();
    let mut parts = rest.splitn(2, |byte| *byte == b'#');
    push_escaped(&mut url, parts.next().unwrap_or_default(), NOT_IN_URLS);
    if let Some(fragment) = parts.next() {
        url.push('#');
        push_escaped(&mut url, fragment, NOT_IN_FRAGMENTS);
    }
    (!url.is_empty()).then_some(url)
}

fn is_absolute(url: &str) -> bool {
    Uri::parse(url).is_ok_and(|uri| {
        let scheme = uri.scheme().as_str();
        let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        is_http
            && uri
                .authority()
                .is_some_and(|authority| !authority.host().is_empty())
    })
}

/// What absolute URLs of this server begin with: scheme, authority, what a proxy strips, and the
/// first slash. It is empty where nobody has said it; then what follows is a relative reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(Option<String>);

impl Base {
    /// From the setting `public_url`, the node that is to be asked, if it has to be that one, and
    /// the host of the request; the first two win in this order. The port is always that of the
    /// request: BITS-Host-Id has none. So is the scheme: https if it `came_by_tls`, that of this
    /// server.
    ///
    /// What it makes is told to whoever asked, and to applications as a remark. It never says who
    /// is asked: a host may be anything that a client likes.
    pub fn new(
        public_url: Option<&str>,
        node: Option<&str>,
        host: Option<&str>,
        came_by_tls: bool,
    ) -> Self {
        if let Some(url) = public_url {
            return Self(Some(url.trim_end_matches('/').to_owned()));
        }
        let node = node.map(|node| {
            let port = host.and_then(port_of);
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            let is_ipv6 = node.contains(':') && !node.starts_with('[');
            match is_ipv6 {
                true => format!("[{node}]{port}"),
                false => format!("{node}{port}"),
            }
        });
        let authority = node.as_deref().or(host);
        let scheme = if came_by_tls { "https" } else { "http" };
        Self(authority.map(|authority| format!("{scheme}://{authority}")))
    }

    /// The URL of an upload as the client spelt it, byte for byte: a reserved character that is
    /// escaped, or is no longer, makes it another URL (RFC 3986 2.2).
    pub fn upload_url(&self, sent: &SentUrl) -> String {
        let base = self.0.as_deref().unwrap_or_default();
        format!("{base}{}", sent.target)
    }

    /// Where the reply to an upload is fetched: in the folder of the upload, so that it takes the
    /// same way through proxies. Without a base, or with one that leaves it no room, it is relative
    /// to the URL of the upload, as that of IIS always is.
    pub fn reply_url(&self, path: &UploadPath, session: SessionId, token: Token) -> String {
        let id = session.plain();
        let name = format!("{REPLIES}{id}-{token}{REPLY_NAME}");
        let Some(base) = &self.0 else {
            return name;
        };
        // Escaped it may be longer than clients take. The reply is found under any folder, and the
        // first ones decide which way it takes.
        let mut folder = path.parent();
        loop {
            let url = match folder {
                Some(folder) => format!("{base}/{}/{name}", encoded(folder)),
                None => format!("{base}/{name}"),
            };
            if url.len() <= URL_BYTES_MAX {
                return url;
            }
            folder = match folder {
                Some(folder) => folder.rsplit_once('/').map(|(before, _)| before),
                // By such a name a client may call us, and no setting does.
                None => return name,
            };
        }
    }
}

/// The port in a Host field.
fn port_of(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    // Not the end of an IPv6 literal.
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && (!name.contains(':') || name.ends_with(']'))).then_some(port)
}

/// The notification URL of an upload: what the setting says, with the query of the upload as the
/// client sent it. A relative setting is resolved against the URL of the upload beneath
/// `public_url`, and against no other. Else a client could choose the application that judges its
/// upload by the name that it calls this server.
///
/// # Errors
/// [`BadUrl`] if that is no http or https URL of at most 2,200 bytes.
pub fn notification_url(
    setting: &str,
    public_url: Option<&str>,
    path: &UploadPath,
    query: Option<&str>,
) -> Result<String, BadUrl> {
    let mut url = match public_url {
        _ if is_absolute(setting) => setting.to_owned(),
        None => return Err(BadUrl),
        Some(public_url) => {
            let upload = format!(
                "{}/{}",
                public_url.trim_end_matches('/'),
                encoded(path.as_str())
            );
            let base = Uri::parse(upload.as_str()).map_err(|_| BadUrl)?;
            let reference = UriRef::parse(setting).map_err(|_| BadUrl)?;
            let resolved = reference.resolve_against(&base).map_err(|_| BadUrl)?;
            resolved.into_string()
        }
    };
    if let Some(query) = query {
        url.push(if url.contains('?') { '&' } else { '?' });
        push_escaped(&mut url, query.as_bytes(), NOT_IN_URLS);
    }
    if url.len() > URL_BYTES_MAX || !is_absolute(&url) {
        return Err(BadUrl);
    }
    Ok(url)
}

/// The notification URL cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUrl;

/// Names the reply of one session. Nobody can guess it, and it gives no right to anything else of
/// the session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(u128);

impl Token {
    /// From the system's randomness, or from a record.
    pub fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// As 32 hexadecimal digits.
    ///
    /// Other spellings are not accepted: one reply has one URL.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(is_hex) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Not shown: whoever reads a log must not read replies.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What a GET asks for, if it asks for a reply at all.
///
/// The folder before it is the client's affair: session and token say all.
pub fn parse_reply_target(target: &str) -> Option<(SessionId, Token)> {
    let path = target.split(['?', '#']).next()?;
    let at = path.rfind(REPLIES)?;
    if !path[..at].ends_with('/') {
        return None;
    }
    let name = path[at + REPLIES.len()..].strip_suffix(REPLY_NAME)?;
    let (id, token) = name.rsplit_once('-')?;
    let session =
        SessionId::parse(id.as_bytes()).filter(|session| session.plain().to_string() == id)?;
    Some((session, Token::parse(token)?))
}

/// As IIS calls the place, with slashes and without braces.
const REPLIES: &str = "BITS-Sessions/Replies/";
const REPLY_NAME: &str = "/responsefile.bin";

/// What may stand in a path as it is (RFC 3986 2.3), and the slashes between its names.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// What clients and applications send in paths and queries although no URL may hold it.
const NOT_IN_URLS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

const NOT_IN_FRAGMENTS: &AsciiSet = &NOT_IN_URLS.add(b'#');

/// Appends a part of a URL as it was sent; only what no URL may hold is escaped.
fn push_escaped(url: &mut String, part: &[u8], escaped: &'static AsciiSet) {
    for (at, piece) in part.split(|byte| *byte == b'%').enumerate() {
        if at > 0 {
            let is_escape =
                (piece.get(..2)).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            url.push_str(if is_escape { "%" } else { "%25" });
        }
        url.extend(percent_encode(piece, escaped));
    }
}

fn encoded(path: &str) -> String {
    utf8_percent_encode(path, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        Answer::bare(status)
    }

    #[test]
    fn only_200_takes_the_file() {
        let accepted = Judgement::Accepted {
            copies: false,
            reply: Reply::None,
        };
        assert_eq!(answer(200).judge(5), accepted);
        assert_eq!(answer(403).judge(5), Judgement::Denied);
        for status in [301, 400, 401, 404, 409, 500, 503, 599] {
            let received = Some(5);
            let relayed = Refusal::Application { status, received };
            assert_eq!(answer(status).judge(5), Judgement::Refused(relayed));
        }
        // They would tell a BITS client something else.
        for status in [100, 201, 204, 299, 413, 416] {
            let failed = Judgement::Refused(Refusal::ApplicationFailed { received: Some(5) });
            assert_eq!(answer(status).judge(5), failed, "{status}");
        }
    }

    #[test]
    fn a_static_url_goes_before_a_reply_and_must_be_one() {
        let with = |url: String| Answer {
            static_url: Some(url),
            has_reply: true,
            ..answer(200)
        };
        let long = |bytes: usize| format!("http://h/{}", "a".repeat(bytes - 9));
        let Judgement::Accepted { reply, .. } = with(long(2_200)).judge(0) else {
            panic!("refused");
        };
        assert_eq!(reply, Reply::Elsewhere);
        let too_long = Judgement::Senseless {
            refusal: Refusal::ReplyUrlTooLong { received: 0 },
            why: URL_TOO_LONG,
        };
        assert_eq!(with(long(2_201)).judge(0), too_long);
        for bad in ["/r", "ftp://h/r", "http:///r", "http://h/a b"] {
            let failed = Judgement::Senseless {
                refusal: Refusal::ApplicationFailed { received: Some(0) },
                why: URL_MALFORMED,
            };
            assert_eq!(with(bad.to_owned()).judge(0), failed, "{bad}");
        }
        let Judgement::Accepted { reply, .. } = (Answer {
            has_reply: true,
            ..answer(200)
        })
        .judge(0) else {
            panic!("refused");
        };
        assert_eq!(reply, Reply::File);
    }

    #[test]
    fn a_static_url_may_have_what_windows_writes() {
        for (sent, expected) in [
            (
                &b"http://app/{C85B4E0A-9EB9}/r.bin"[..],
                "http://app/%7BC85B4E0A-9EB9%7D/r.bin",
            ),
            (
                b"http://app/a b|c^d[1]\"e",
                "http://app/a%20b%7Cc%5Ed%5B1%5D%22e",
            ),
            (b"http://app/50%/%41%zz", "http://app/50%25/%41%25zz"),
            ("http://app/\u{e4}".as_bytes(), "http://app/%C3%A4"),
            (b"http://app/\xe4", "http://app/%E4"),
            (b"http://app/a\\b", "http://app/a%5Cb"),
            (
                b"http://[::1]:80/[1]?[#a#[",
                "http://[::1]:80/%5B1%5D?%5B#a%23%5B",
            ),
            (b" http://my_host/x ", "http://my_host/x"),
            (
                b"http://h/a\tb\r\nX: y\x7f\0",
                "http://h/a%09b%0D%0AX:%20y%7F%00",
            ),
        ] {
            assert_eq!(static_url(sent).as_deref(), Some(expected));
        }
        assert_eq!(static_url(b""), None);
        assert_eq!(static_url(b" "), None);
    }

    #[test]
    fn whatever_an_application_sends_only_a_url_is_handed_on() {
        for byte in 0..=255 {
            for at in [0, 4, 7, 8, 11, 12, 13, 15] {
                let mut sent = b"http://app/p?q#f".to_vec();
                sent.insert(at, byte);
                let answer = Answer {
                    static_url: static_url(&sent),
                    ..answer(200)
                };
                if let Judgement::Accepted { .. } = answer.judge(0) {
                    let url = answer.static_url.unwrap();
                    assert!(Uri::parse(&*url).is_ok(), "{url:?}");
                    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
                }
            }
        }
        for bad in [
            &b"http://a b/r"[..],
            b"http://{h}/r",
            b"http://h\xe4/r",
            b"http://a\\b",
            b"r",
        ] {
            let answer = Answer {
                static_url: static_url(bad),
                ..answer(200)
            };
            let judgement = answer.judge(0);
            let is_bad = matches!(judgement, Judgement::Senseless { .. });
            assert!(is_bad, "{judgement:?}");
        }
        // Escaped, it is longer.
        let sent = format!("http://h/{}", "{".repeat(731));
        let answer = Answer {
            static_url: static_url(sent.as_bytes()),
            ..answer(200)
        };
        assert!(matches!(
            answer.judge(0),
            Judgement::Senseless {
                why: URL_TOO_LONG,
                ..
            }
        ));
    }

    #[test]
    fn a_base_is_what_the_client_is_to_use() {
        let base = |public, node, host| Base::new(public, node, host, false).0;
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(base(None, None, Some("h:81")), is("http://h:81"));
        let by_tls = |public| Base::new(public, None, Some("h:81"), true).0;
        assert_eq!(by_tls(None), is("https://h:81"));
        assert_eq!(by_tls(Some("http://h/")), is("http://h"));
        assert_eq!(base(None, Some("node2"), Some("h")), is("http://node2"));
        assert_eq!(base(None, Some("node2"), None), is("http://node2"));
        let with_port = base(None, Some("node2"), Some("h:81"));
        assert_eq!(with_port, is("http://node2:81"));
        assert_eq!(
            base(None, Some("fe80::1"), Some("[::1]:81")),
            is("http://[fe80::1]:81")
        );
        let literal = base(None, Some("node2"), Some("[::1]"));
        assert_eq!(literal, is("http://node2"));
        let public = Some("https://in.example/bits/");
        let url = base(public, Some("n"), Some("h"));
        assert_eq!(url, is("https://in.example/bits"));
        assert_eq!(base(None, None, None), None);
    }

    #[test]
    fn the_notification_url_is_relative_to_the_public_url_and_takes_the_query() {
        let path = UploadPath::from_text("logs/a b.txt").unwrap();
        let url = |setting: &str, public: Option<&str>, query| {
            notification_url(setting, public, &path, query)
        };
        let public = Some("http://h:81/");
        for (setting, expected) in [
            ("app.asp", "http://h:81/logs/app.asp?k=v&x=1"),
            ("../app", "http://h:81/app?k=v&x=1"),
            ("/x/app?id=7", "http://h:81/x/app?id=7&k=v&x=1"),
            (
                "https://app.example:8443/in",
                "https://app.example:8443/in?k=v&x=1",
            ),
        ] {
            assert_eq!(url(setting, public, Some("k=v&x=1")).unwrap(), expected);
        }
        assert_eq!(url("/n", public, None).unwrap(), "http://h:81/n");
        let beneath = url("n", Some("https://h/bits"), None).unwrap();
        assert_eq!(beneath, "https://h/bits/logs/n");
        let absolute = url("http://h/n", None, None).unwrap();
        assert_eq!(absolute, "http://h/n");
        for bad in ["ftp://h/x", "http://", "a b"] {
            assert_eq!(url(bad, public, None), Err(BadUrl), "{bad}");
        }
        for relative in ["/n", "n", "//h/n", "?x"] {
            assert_eq!(url(relative, None, None), Err(BadUrl), "{relative}");
        }
        let long = format!("/{}", "a".repeat(2_200));
        assert_eq!(url(&long, public, None), Err(BadUrl));
    }

    #[test]
    fn a_query_reaches_the_application_whatever_is_in_it() {
        let path = UploadPath::from_text("a.bin").unwrap();
        let query = "a=50%&b=%41|%4&c={d}%";
        let asked = notification_url("http://h/app", None, &path, Some(query)).unwrap();
        assert_eq!(asked, "http://h/app?a=50%25&b=%41%7C%254&c=%7Bd%7D%25");
    }

    #[test]
    fn the_url_of_an_upload_is_handed_on_as_it_was_sent() {
        let sent = SentUrl {
            target: "/a(b)/%61//c;d=%2B'x'?a=50%&b=|".into(),
            host: None,
        };
        let url = Base::new(None, None, Some("h:81"), false).upload_url(&sent);
        assert_eq!(url, "http://h:81/a(b)/%61//c;d=%2B'x'?a=50%&b=|");
        let public = Base::new(Some("https://in.example/bits"), None, Some("h"), false);
        let url = public.upload_url(&sent);
        assert_eq!(
            url,
            "https://in.example/bits/a(b)/%61//c;d=%2B'x'?a=50%&b=|"
        );
        let unknown = Base::new(None, None, None, false).upload_url(&sent);
        assert_eq!(unknown, &*sent.target);
    }

    #[test]
    fn a_reply_url_names_its_session_and_nothing_else_does() {
        let session = SessionId::from_u128(0x7A1C_F7F0_FCA6_4D1B_8883_5FBB_10F7_F1DE);
        let token = Token::new(0xff);
        let base = Base::new(None, None, Some("h:81"), false);
        let path = UploadPath::from_text("crash dumps/äb/x.bin").unwrap();
        let url = base.reply_url(&path, session, token);
        assert_eq!(
            url,
            "http://h:81/crash%20dumps/%C3%A4b/BITS-Sessions/Replies/\
             7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE-000000000000000000000000000000ff/responsefile.bin"
        );
        let target = &url["http://h:81".len()..];
        assert_eq!(parse_reply_target(target), Some((session, token)));
        assert_eq!(
            parse_reply_target(&format!("{target}?x")),
            Some((session, token))
        );
        let in_root = UploadPath::from_text("x.bin").unwrap();
        let url = base.reply_url(&in_root, session, token);
        assert!(parse_reply_target(&url["http://h:81".len()..]).is_some());
        // Three bytes of each character become nine.
        let folders = [&*"\u{3042}".repeat(80); 9].join("/");
        let deep = UploadPath::from_text(&format!("in/{folders}/x.bin")).unwrap();
        let url = base.reply_url(&deep, session, token);
        assert!(url.len() <= URL_BYTES_MAX && url.starts_with("http://h:81/in/%E3%81%82"));
        assert_eq!(
            parse_reply_target(&url["http://h:81".len()..]),
            Some((session, token))
        );
        // Whatever a client calls us, the URL is one that clients take. `public_url` may have 2,000
        // bytes.
        for (bytes, is_absolute) in [(2_000, true), (2_091, true), (2_092, false), (8_000, false)] {
            let host = "h".repeat(bytes - "http://".len());
            let base = Base::new(None, None, Some(&host), false);
            let url = base.reply_url(&deep, session, token);
            assert!(url.len() <= URL_BYTES_MAX, "{} bytes", url.len());
            assert_eq!(url.starts_with("http://h"), is_absolute, "{bytes}");
        }
        // Resolved by the client as any reference is (RFC 3986 5.2).
        let relative = Base::new(None, None, None, false).reply_url(&path, session, token);
        assert!(relative.starts_with("BITS-Sessions/Replies/7A1C"));
        let uri = Uri::parse("http://h:81/crash%20dumps/%C3%A4b/x.bin").unwrap();
        let reference = UriRef::parse(relative.as_str()).unwrap();
        let resolved = reference.resolve_against(&uri).unwrap();
        assert_eq!(resolved.as_str(), &*format!("http://h:81{target}"));
        for bad in [
            target.replace("ff/", "fF/"),
            target.replace("responsefile", "requestfile"),
            target.replace("7A1C", "7a1c"),
            target.replace("00ff/", "ff/"),
            target.replace("/BITS-Sessions", "BITS-Sessions"),
            "/".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse_reply_target(&bad), None, "{bad}");
        }
        assert!(!format!("{token:?}").contains("ff"));
    }
}
