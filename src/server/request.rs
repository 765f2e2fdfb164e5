//! What a request head asks for, owned so that the bytes it stood in can be used again.

use std::fmt;

use crate::bits::notification::{self, Token};
use crate::bits::packet::{self, Fragment, FragmentBody, Packet};
use crate::bits::reply::Refusal;
use crate::bits::session_id::SessionId;
use crate::config::{Download, Location};
use crate::http::chunked::ChunkedDecoder;
use crate::http::download::{self, DownloadRequest};
use crate::http::head::{Framing, Head, Method};
use crate::http::path::{self, UploadPath};
use crate::http::response::{Persistence, PlainRefusal};

/// A request, its body left where it is.
pub enum Request {
    /// BITS.
    Packet {
        /// The packet, or what is wrong with it.
        packet: Result<Packet, Misread>,
        /// The client waits for `100 Continue`.
        expects_continue: bool,
        /// Where the body ends.
        framing: Framing,
        /// What the client wants of the connection.
        persistence: Persistence,
    },
    /// GET or HEAD of a file.
    Download {
        /// Which.
        wanted: Wanted,
        /// Which part of it, and on what conditions.
        asked: DownloadRequest,
        /// What the client wants of the connection.
        persistence: Persistence,
    },
    /// Nothing that is here.
    Plain {
        /// Why.
        why: Unserved,
        /// For what, where that decides what else may be asked.
        path: Option<UploadPath>,
        /// It was a HEAD, whose answer has no body.
        is_head: bool,
        /// Where the body ends.
        framing: Framing,
        /// What the client wants of the connection.
        persistence: Persistence,
    },
}

/// A packet that is not understood, and what of it is.
pub struct Misread {
    /// What is wrong with it.
    pub why: Refusal,
    /// The session that it names.
    pub session: Option<SessionId>,
    /// What it is about.
    pub path: Option<UploadPath>,
}

/// What is left of a request's body after its packet was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLeft {
    /// This many bytes are unread; 0 is the normal case.
    Bytes(u64),
    /// It comes in chunks and tells its own end; the decoder is where reading has stopped.
    Chunked(ChunkedDecoder),
    /// Nobody knows where it ends; the connection cannot be used again.
    Unknown,
    /// The client asked before sending it and was refused: it may or may not come.
    Unasked,
}

/// A file that may be downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The reply to an upload.
    Reply {
        /// The session of the upload.
        session: SessionId,
        /// The name of the reply.
        token: Token,
    },
    /// What stands at a destination, if its location lets it be read.
    File(UploadPath),
}

/// Why a request that is no packet gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// There is nothing to download under that name.
    NotFound,
    /// The location tells of its files by HEAD alone.
    HeadOnly,
    /// Another method than those we know.
    Method,
    /// The shard cannot take it now.
    Unavailable,
}

impl Unserved {
    /// Status code.
    pub fn status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::HeadOnly | Self::Method => 405,
            Self::Unavailable => 503,
        }
    }

    /// The answer. `methods` are those of [`methods`].
    pub fn write(
        self,
        methods: &'static str,
        is_head: bool,
        persistence: Persistence,
        out: &mut Vec<u8>,
    ) {
        let is_disabled = self == Self::Method && !methods.contains("BITS_POST");
        PlainRefusal {
            status: self.status(),
            why: match is_disabled {
                true => &"uploads are disabled here, and this method is not taken",
                false => &self,
            },
            // RFC 9110 15.5.6: of 405, and only there, all that the target supports.
            allow: (self.status() == 405).then_some(methods),
            challenges: &[],
            retry_after_s: None,
            is_head,
        }
        .write(persistence, out);
    }
}

/// The methods that a location takes.
pub fn methods(location: &Location) -> &'static str {
    match (location.is_enabled, location.download) {
        (true, Download::None) => "BITS_POST",
        (true, Download::Head) => "HEAD, BITS_POST",
        (true, Download::Get) => "GET, HEAD, BITS_POST",
        (false, Download::None) => "",
        (false, Download::Head) => "HEAD",
        (false, Download::Get) => "GET, HEAD",
    }
}

/// In words, for the client.
impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "nothing can be downloaded under this name",
            Self::HeadOnly => "of the files here only size and time are told, by HEAD",
            Self::Method => "uploads are taken by BITS_POST here, and by no other method",
            Self::Unavailable => "the server is starting, or too busy; try again",
        })
    }
}

impl Request {
    /// What a head asks for; `settle` says of a path how it is spelt, and whether its packets are
    /// judged strictly.
    pub fn read(head: &Head<'_>, settle: impl Fn(UploadPath) -> (UploadPath, bool)) -> Self {
        let framing = head.framing;
        let persistence = match head.keep_alive {
            true => Persistence::KeepAlive,
            false => Persistence::Close,
        };
        let plain = |why, path| Self::Plain {
            why,
            path,
            is_head: head.method == Method::Head,
            framing,
            persistence,
        };
        match head.method {
            Method::BitsPost => Self::Packet {
                packet: packet::parse_with(head, &settle).map_err(|why| Misread {
                    why,
                    session: packet::named_session(head),
                    path: settled_path(head, settle),
                }),
                expects_continue: head.expects_continue,
                framing,
                persistence,
            },
            // With a body it is not what a client of ours sends. Nothing is listed.
            Method::Get | Method::Head => match Wanted::read(head.target, settle) {
                Some(wanted) if unread_body(framing, false) == BodyLeft::Bytes(0) => {
                    Self::Download {
                        wanted,
                        asked: download::parse(head),
                        persistence,
                    }
                }
                _ => plain(Unserved::NotFound, None),
            },
            Method::Other => plain(Unserved::Method, settled_path(head, settle)),
        }
    }

    /// The session it is about, if it is about one of ours.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Packet {
                packet: Ok(packet), ..
            } => packet.session_request()?.session,
            Self::Download {
                wanted: Wanted::Reply { session, .. },
                ..
            } => Some(*session),
            // It counts among what was offered to the session.
            Self::Packet {
                packet: Err(misread),
                ..
            } => misread.session,
            Self::Download { .. } | Self::Plain { .. } => None,
        }
    }
}

impl Wanted {
    fn read(target: &str, settle: impl FnOnce(UploadPath) -> (UploadPath, bool)) -> Option<Self> {
        if let Some((session, token)) = notification::parse_reply_target(target) {
            return Some(Self::Reply { session, token });
        }
        let target = path::resolve_target(target).ok()?;
        Some(Self::File(settle(target.path).0))
    }
}

/// What a head is about, if its target is one of ours.
fn settled_path(
    head: &Head<'_>,
    settle: impl Fn(UploadPath) -> (UploadPath, bool),
) -> Option<UploadPath> {
    let target = path::resolve_target(head.target).ok()?;
    Some(settle(target.path).0)
}

/// A body of which nothing was read.
pub fn unread_body(framing: Framing, expects_continue: bool) -> BodyLeft {
    match framing {
        Framing::Absent => BodyLeft::Bytes(0),
        _ if expects_continue => BodyLeft::Unasked,
        Framing::Length(bytes) => BodyLeft::Bytes(bytes),
        Framing::Chunked => BodyLeft::Unknown,
    }
}

/// The body of a fragment of which nothing was read.
pub fn unread(fragment: &Fragment) -> BodyLeft {
    match fragment.body {
        FragmentBody::Length(0) => BodyLeft::Bytes(0),
        _ if fragment.expects_continue => BodyLeft::Unasked,
        FragmentBody::Length(bytes) => BodyLeft::Bytes(bytes),
        FragmentBody::Chunked => BodyLeft::Chunked(ChunkedDecoder::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, HeadLimits, Parsed};

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes_max: 4_096,
        headers_max: 16,
        value_bytes_max: 1_024,
    };
    const REPLY: &str = "/in/BITS-Sessions/Replies/7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE-000000000000000000000000000000ff/responsefile.bin";

    fn request(line: &str, fields: &str) -> Request {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        match head::parse(text.as_bytes(), &LIMITS) {
            Ok(Parsed::Complete(head)) => Request::read(&head, |path| (path, false)),
            other => panic!("{other:?}"),
        }
    }

    fn status(line: &str, fields: &str) -> Option<u16> {
        match request(line, fields) {
            Request::Plain { why, .. } => Some(why.status()),
            Request::Packet { .. } | Request::Download { .. } => None,
        }
    }

    #[test]
    fn replies_and_files_can_be_asked_for_and_nothing_else() {
        for method in ["GET", "HEAD"] {
            let download = request(&format!("{method} {REPLY}"), "");
            let Request::Download {
                wanted: Wanted::Reply { session, token },
                ..
            } = download
            else {
                panic!("{method} of a reply");
            };
            assert_eq!(token, Token::new(0xff));
            assert_eq!(
                request(&format!("{method} {REPLY}"), "").session(),
                Some(session)
            );
            let file = request(&format!("{method} /in//a.bin?x"), "");
            assert_eq!(file.session(), None);
            let Request::Download { wanted, .. } = file else {
                panic!("{method} of a file");
            };
            assert_eq!(
                wanted,
                Wanted::File(UploadPath::from_text("in/a.bin").unwrap())
            );
            for none in ["/", "/in/", "/../a", "/.bitsd/x", "*"] {
                assert_eq!(status(&format!("{method} {none}"), ""), Some(404), "{none}");
            }
            // With a body it is not what a client of ours sends.
            assert_eq!(
                status(&format!("{method} {REPLY}"), "Content-Length: 1\r\n"),
                Some(404)
            );
        }
        assert_eq!(
            status(&format!("PUT {REPLY}"), "Content-Length: 0\r\n"),
            Some(405)
        );
        assert_eq!(status(&format!("DELETE {REPLY}"), ""), Some(405));
    }

    #[test]
    fn a_refused_packet_names_its_session_where_it_can() {
        let id = "{A0FF5911-4144-45B3-BF27-27AFC8EC8A67}";
        let session = SessionId::parse(id.as_bytes());
        let named = |fields: &str| {
            let fields = format!("BITS-Packet-Type: Fragment\r\nContent-Length: 5\r\n{fields}");
            match request("BITS_POST /a:b", &fields) {
                Request::Packet {
                    packet: Err(misread),
                    ..
                } => misread.session,
                _ => panic!("the target is wrong"),
            }
        };
        assert_eq!(named(&format!("BITS-Session-Id: {id}\r\n")), session);
        assert_eq!(named("BITS-Session-Id: x\r\n"), None);
        assert_eq!(named(""), None);
        let twice = format!("BITS-Session-Id: {id}\r\n").repeat(2);
        assert_eq!(named(&twice), None);
    }
}
