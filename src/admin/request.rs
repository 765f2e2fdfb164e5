//! One request to the interface: bytes in, what is asked out. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use percent_encoding::percent_decode_str;

use crate::http::head::{self, BadHead, Framing, HeadLimits, Parsed, Version};

/// A request has no body, and its head is short.
pub const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 8 << 10,
    headers_max: 64,
    value_bytes_max: 4 << 10,
};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminRequest {
    pub method: AdminMethod,
    pub version: Version,
    /// Decoded, from the first slash on.
    pub path: String,
    /// Names and values, decoded, in the order sent.
    pub query: Vec<(String, String)>,
    /// Which form of an answer is wanted.
    pub accept: Option<Vec<u8>>,
    /// As what the client knows this server.
    pub host: Option<String>,
    /// A page in a browser has sent it (RFC 6454 7): every POST of one says so.
    pub is_of_page: bool,
}

/// How.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminMethod {
    #[default]
    Get,
    Head,
    Post,
    Other,
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It is no HTTP, or more than is taken here.
    Head(BadHead),
    /// It has a body.
    Body,
    /// It names nothing that can be read.
    Target,
}

impl Malformed {
    /// Status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Head(why) => why.status(),
            Self::Body => 413,
            Self::Target => 400,
        }
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // The keys that bound heads elsewhere mean nothing here.
            Self::Head(why) => why.words(f),
            Self::Body => {
                f.write_str("no request here has a body: what is asked stands in its URL")
            }
            Self::Target => f.write_str("the URL cannot be read"),
        }
    }
}

/// Reads a request; `None` if more of it is to come.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Option<AdminRequest>, Malformed> {
    let head = match head::parse(bytes, &LIMITS).map_err(Malformed::Head)? {
        Parsed::Incomplete => return Ok(None),
        Parsed::Complete(head) => head,
    };
    if !matches!(head.framing, Framing::Absent | Framing::Length(0)) {
        return Err(Malformed::Body);
    }
    // The head tells apart what BITS needs; a POST is nothing there.
    let method = bytes.trim_ascii_start().split(|byte| *byte == b' ').next();
    let method = match method.unwrap_or_default() {
        b"GET" => AdminMethod::Get,
        b"HEAD" => AdminMethod::Head,
        b"POST" => AdminMethod::Post,
        _ => AdminMethod::Other,
    };
    let target = match head.target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        }
        _ => head.target,
    };
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return Err(Malformed::Target);
    }
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(name)?, decoded(value)?))
    });
    Ok(Some(AdminRequest {
        method,
        version: head.version,
        path: decoded(path)?,
        query: pairs.collect::<Result<_, Malformed>>()?,
        accept: head.only("Accept").ok().flatten().map(<[u8]>::to_vec),
        host: head.host.map(str::to_owned),
        is_of_page: head.only("Origin") != Ok(None),
    }))
}

fn decoded(text: &str) -> Result<String, Malformed> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| Malformed::Target)?;
    match decoded.contains(char::is_control) {
        true => Err(Malformed::Target),
        false => Ok(decoded.into_owned()),
    }
}

/// Whether a request over TCP may come from whoever says so: it names this server by an address,
/// as `localhost`, or as one of `names`. A page in a browser that was led here names its own host.
pub fn is_ours(host: Option<&str>, names: &[String]) -> bool {
    // HTTP/1.0 has none, and no browser speaks that.
    let Some(host) = host else {
        return true;
    };
    if let Some(literal) = host.strip_prefix('[') {
        let address = literal.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<Ipv4Addr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<AdminRequest>, Malformed> {
        parse(format!("{head}\r\n\r\n").as_bytes())
    }

    #[test]
    fn what_is_asked_is_read() {
        let request =
            read("POST /v1/sessions/%7BA%7D/cancel?a=b%20c&d HTTP/1.1\r\nHost: h:1\r\nAccept: x/y");
        let request = request.unwrap().unwrap();
        assert_eq!(request.method, AdminMethod::Post);
        assert_eq!(request.path, "/v1/sessions/{A}/cancel");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(request.query, [pair("a", "b c"), pair("d", "")]);
        assert_eq!(request.accept.as_deref(), Some(&b"x/y"[..]));
        assert_eq!(request.host.as_deref(), Some("h:1"));
        let path = |head: &str| read(head).unwrap().unwrap().path;
        assert_eq!(path("GET / HTTP/1.0"), "/");
        assert_eq!(path("GET http://h/live?x HTTP/1.1\r\nHost: h"), "/live");
        assert_eq!(path("GET http://h HTTP/1.1\r\nHost: h"), "/");
        assert_eq!(parse(b"GET / HTT"), Ok(None));
        let method = |head: &str| read(head).unwrap().unwrap().method;
        assert_eq!(method("HEAD / HTTP/1.0"), AdminMethod::Head);
        assert_eq!(method("DELETE / HTTP/1.0"), AdminMethod::Other);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let host = "HTTP/1.1\r\nHost: h\r\n";
        let with_body = read(&format!("POST / {host}Content-Length: 3"));
        assert_eq!(with_body, Err(Malformed::Body));
        let chunked = read(&format!("POST / {host}Transfer-Encoding: chunked"));
        assert_eq!(chunked, Err(Malformed::Body));
        assert!(read(&format!("POST / {host}Content-Length: 0")).is_ok());
        for target in ["*", "/%ff", "/a?x=%00", "/%0a"] {
            let read = read(&format!("GET {target} HTTP/1.0"));
            assert_eq!(read, Err(Malformed::Target), "{target}");
        }
        assert!(matches!(read("\u{16}\u{3}"), Err(Malformed::Head(_))));
        let long = vec![b'a'; LIMITS.head_bytes_max];
        let why = parse(&long).unwrap_err();
        assert_eq!(
            why.to_string(),
            "the request head is longer than 8192 bytes"
        );
        let many = "X: y\r\n".repeat(LIMITS.headers_max + 1);
        let why = read(&format!("GET / HTTP/1.0\r\n{}", many.trim_end())).unwrap_err();
        assert!(!why.to_string().contains("limits."), "{why}");
    }

    #[test]
    fn only_names_that_no_page_can_choose_are_ours() {
        let names = ["metrics.example".to_owned()];
        for host in [
            None,
            Some("127.0.0.1:9090"),
            Some("192.0.2.1"),
            Some("[::1]:9090"),
            Some("LOCALHOST:1"),
            Some("localhost."),
            Some("Metrics.Example:80"),
        ] {
            assert!(is_ours(host, &names), "{host:?}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
            "x",
            "[::1.evil]",
            "",
        ] {
            assert!(!is_ours(Some(host), &names), "{host}");
        }
    }
}
