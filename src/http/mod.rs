//! HTTP/1.1 without I/O: bytes in, values out.
//!
//! What we speak is the part of RFC 9112 that upload clients and their proxies use:
//!
//! * requests in HTTP/1.1 and HTTP/1.0, answers always in HTTP/1.1 (RFC 9112 2.6);
//! * persistent connections and pipelining (9.3), `Connection: close` and `keep-alive`;
//! * bodies framed by Content-Length or the chunked coding (6, 7.1), none without either;
//! * `Expect: 100-continue` (RFC 9110 10.1.1);
//! * targets in origin-form and absolute-form (RFC 9112 3.2).
//!
//! What could be read in two ways is refused, and the connection is closed. If we and a proxy in
//! front disagree about where a request ends, one client can speak for another (RFC 9112 11.2). So
//! we refuse a bare CR or LF, line folding (5.2), white space before a colon (5.1), a
//! Content-Length that differs or stands beside Transfer-Encoding (6.3), and a Host that is
//! missing, repeated or none (3.2).
#![forbid(unsafe_code)]

pub mod authorization;
pub mod bad_head;
pub mod chunked;
pub mod date;
pub mod digest;
pub mod download;
pub mod head;
pub mod host;
pub mod path;
pub mod response;
pub mod spnego;
pub mod stranger;
pub mod userinfo;
