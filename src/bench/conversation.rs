//! What the generator says for one file and what it must hear, decided without I/O.
//!
//! Unlike the client of `bitsd put` it never tries again: an answer that is not exactly the
//! expected one is a fault of the server, or of the set-up, and ends the upload.

use std::fmt;
use std::io::Write as _;
use std::ops::Range;

use crate::bits::protocol::PROTOCOL;
use crate::client::authorization::Authorization;
use crate::client::upload::{FRAGMENT_BYTES_MIN, Refused, Reply};
use crate::client::url::Url;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A BITS session: Create-Session, Fragments, Close-Session.
    Bits,
    Put,
    /// One BITS Ping, which stores nothing.
    Ping,
    /// No HTTP: the file's number and length, 8 bytes each, little-endian, then its bytes; one byte
    /// comes back.
    Raw,
}

impl Mode {
    /// Its word in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Put => "put",
            Self::Ping => "ping",
            Self::Raw => "raw",
        }
    }
}

/// What every conversation of a run has in common.
#[derive(Clone, Debug)]
pub struct Script {
    pub mode: Mode,
    /// The folder the files go to; its path ends in `/`.
    pub folder: Url,
    /// Bytes of each file; at least one.
    pub file_bytes: u64,
    /// Bytes of each fragment but the last; at least one.
    pub fragment_bytes: u64,
    /// What this run's files are called, up to their number: no other run's.
    pub prefix: String,
    /// What becomes of a session whose bytes have all arrived.
    pub end: End,
    /// Who sends, where that is to be shown.
    pub credentials: Option<Authorization>,
}

/// What becomes of a session whose bytes have all arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is cancelled, and nothing stays at the server.
    Cancel,
    /// It is closed, and the file appears.
    Close,
}

impl End {
    fn packet(self) -> &'static str {
        match self {
            Self::Cancel => "Cancel-Session",
            Self::Close => "Close-Session",
        }
    }
}

/// Where a conversation stands.
#[derive(Debug)]
enum Stage {
    Creating,
    /// `range` is the fragment at hand.
    Sending {
        session: String,
        range: Range<u64>,
    },
    Closing {
        session: String,
    },
    /// A mode with one request.
    Single,
}

/// The upload of one file.
#[derive(Debug)]
pub struct Conversation {
    file: u64,
    stage: Stage,
}

/// What follows a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another request.
    Request,
    /// The same bytes again, in fragments of no more than this.
    Smaller(u64),
    /// Nothing: the file is stored.
    Done,
}

/// Why an answer is not the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrongReply {
    /// Another status.
    Refused(Refused),
    /// Create-Session was answered without a session.
    SessionMissing,
    /// The offset is not the end of the fragment.
    Received {
        /// The end of the fragment.
        expected: u64,
        /// What came.
        got: Option<u64>,
    },
}

impl fmt::Display for WrongReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::SessionMissing => f.write_str("Create-Session was answered without a session"),
            Self::Received { expected, got } => {
                write!(f, "a fragment that ends at {expected} was answered ")?;
                match got {
                    Some(got) => write!(f, "with offset {got}"),
                    None => f.write_str("without an offset"),
                }
            }
        }
    }
}

impl Conversation {
    /// Begins the upload of file number `file`.
    pub fn new(file: u64, mode: Mode) -> Self {
        let stage = match mode {
            Mode::Bits => Stage::Creating,
            Mode::Put | Mode::Ping | Mode::Raw => Stage::Single,
        };
        Self { file, stage }
    }

    /// Goes on with a session that is only to be ended.
    pub fn ending(file: u64, session: String) -> Self {
        let stage = Stage::Closing { session };
        Self { file, stage }
    }

    /// The session that the server has given, until it has ended.
    pub fn session(&self) -> Option<&str> {
        match &self.stage {
            Stage::Sending { session, .. } | Stage::Closing { session } => Some(session),
            Stage::Creating | Stage::Single => None,
        }
    }

    pub fn file(&self) -> u64 {
        self.file
    }

    /// Whether the request at hand carries bytes of the file.
    pub fn carries_content(&self, script: &Script) -> bool {
        match self.stage {
            Stage::Creating | Stage::Closing { .. } => false,
            Stage::Sending { .. } => true,
            Stage::Single => script.mode != Mode::Ping,
        }
    }

    /// Writes the head of the request at hand, in place of what `head` holds; returns the bytes of
    /// the file that follow.
    pub fn request(&self, script: &Script, head: &mut Vec<u8>) -> Range<u64> {
        head.clear();
        let whole = 0..script.file_bytes;
        match &self.stage {
            Stage::Creating => {
                self.line(script, head, "BITS_POST");
                packet(head, "Create-Session");
                field(head, "BITS-Supported-Protocols", PROTOCOL);
                end(head, 0)
            }
            Stage::Sending { session, range } => {
                self.line(script, head, "BITS_POST");
                packet(head, "Fragment");
                field(head, "BITS-Session-Id", session);
                let (first, last, total) = (range.start, range.end - 1, script.file_bytes);
                field(
                    head,
                    "Content-Range",
                    format_args!("bytes {first}-{last}/{total}"),
                );
                end(head, range.end - range.start);
                range.clone()
            }
            Stage::Closing { session } => {
                self.line(script, head, "BITS_POST");
                packet(head, script.end.packet());
                field(head, "BITS-Session-Id", session);
                end(head, 0)
            }
            Stage::Single => match script.mode {
                Mode::Bits | Mode::Ping => {
                    self.line(script, head, "BITS_POST");
                    packet(head, "Ping");
                    end(head, 0)
                }
                Mode::Put => {
                    self.line(script, head, "PUT");
                    end(head, script.file_bytes);
                    whole
                }
                Mode::Raw => {
                    head.extend(self.file.to_le_bytes());
                    head.extend(script.file_bytes.to_le_bytes());
                    whole
                }
            },
        }
    }

    /// Takes the answer to the request at hand.
    ///
    /// # Errors
    /// [`WrongReply`] says what is not as expected.
    pub fn take(&mut self, script: &Script, reply: &Reply) -> Result<Next, WrongReply> {
        let refused = |request| WrongReply::Refused(Refused::of(request, reply));
        match &mut self.stage {
            Stage::Creating => {
                if reply.status != 200 {
                    return Err(refused("Create-Session"));
                }
                let session = reply.session.clone().ok_or(WrongReply::SessionMissing)?;
                let range = 0..script.file_bytes.min(script.fragment_bytes);
                self.stage = Stage::Sending { session, range };
                Ok(Next::Request)
            }
            Stage::Sending { session, range } => {
                let bytes = range.end - range.start;
                // It means the fragment: half of it, as `bitsd put` does.
                if reply.status == 413 && bytes > FRAGMENT_BYTES_MIN {
                    let bytes = (bytes / 2).max(FRAGMENT_BYTES_MIN);
                    range.end = range.start + bytes;
                    return Ok(Next::Smaller(bytes));
                }
                if reply.status != 200 {
                    return Err(refused("Fragment"));
                }
                if reply.received != Some(range.end) {
                    return Err(WrongReply::Received {
                        expected: range.end,
                        got: reply.received,
                    });
                }
                if range.end == script.file_bytes {
                    let session = std::mem::take(session);
                    self.stage = Stage::Closing { session };
                } else {
                    let start = range.end;
                    let end = start.saturating_add(script.fragment_bytes);
                    *range = start..end.min(script.file_bytes);
                }
                Ok(Next::Request)
            }
            Stage::Closing { .. } if reply.status == 200 => Ok(Next::Done),
            Stage::Closing { .. } => Err(refused(script.end.packet())),
            Stage::Single => match (script.mode, reply.status) {
                (_, 200) | (Mode::Put, 201 | 204) => Ok(Next::Done),
                (Mode::Put, _) => Err(refused("PUT")),
                (Mode::Ping | Mode::Bits, _) => Err(refused("Ping")),
                (Mode::Raw, _) => Err(refused("a raw file")),
            },
        }
    }

    /// Request line and `Host`.
    fn line(&self, script: &Script, head: &mut Vec<u8>, method: &str) {
        put(
            head,
            format_args!(
                "{method} {} HTTP/1.1\r\nHost: {}\r\n",
                target(script, self.file),
                script.folder.authority()
            ),
        );
        if let Some(credentials) = &script.credentials {
            field(head, "Authorization", credentials.expose());
        }
    }
}

impl Script {
    /// The name of file number `file`.
    pub fn file_name(&self, file: u64) -> String {
        format!("{}-{file}.bin", self.prefix)
    }
}

fn target(script: &Script, file: u64) -> String {
    let folder = &script.folder;
    folder
        .for_file(script.file_name(file).as_ref())
        .map_or_else(|_| folder.target(), |url| url.target())
}

fn packet(head: &mut Vec<u8>, name: &str) {
    field(head, "BITS-Packet-Type", name);
}

fn field(head: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    put(head, format_args!("{name}: {value}\r\n"));
}

/// The last fields; the empty range stands for no body.
fn end(head: &mut Vec<u8>, content_bytes: u64) -> Range<u64> {
    field(head, "Content-Length", content_bytes);
    put(head, format_args!("\r\n"));
    0..0
}

fn put(head: &mut Vec<u8>, words: fmt::Arguments<'_>) {
    head.write_fmt(words).expect("memory takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(mode: Mode) -> Script {
        Script {
            mode,
            folder: "http://h:81/in/?k=1".parse().unwrap(),
            file_bytes: 250,
            fragment_bytes: 100,
            prefix: "bench".to_owned(),
            end: End::Close,
            credentials: None,
        }
    }

    fn ok(received: Option<u64>) -> Reply {
        Reply {
            status: 200,
            session: Some("{S}".into()),
            received,
            ..Reply::default()
        }
    }

    fn words(conversation: &Conversation, script: &Script) -> (String, Range<u64>) {
        let mut head = b"old".to_vec();
        let body = conversation.request(script, &mut head);
        (String::from_utf8(head).unwrap(), body)
    }

    #[test]
    fn a_session_is_created_filled_and_closed() {
        let script = script(Mode::Bits);
        let mut conversation = Conversation::new(4, Mode::Bits);
        let (head, body) = words(&conversation, &script);
        assert!(
            head.starts_with("BITS_POST /in/bench-4.bin?k=1 HTTP/1.1\r\nHost: h:81\r\n"),
            "{head}"
        );
        assert!(head.contains("Create-Session") && head.ends_with("Content-Length: 0\r\n\r\n"));
        assert!(body.is_empty() && !conversation.carries_content(&script));
        assert_eq!(conversation.take(&script, &ok(None)), Ok(Next::Request));
        for range in [0..100, 100..200, 200..250] {
            let (head, body) = words(&conversation, &script);
            let (first, last) = (range.start, range.end - 1);
            assert!(
                head.contains(&format!("Content-Range: bytes {first}-{last}/250\r\n")),
                "{head}"
            );
            assert!(head.contains("BITS-Session-Id: {S}\r\n"), "{head}");
            assert_eq!(body, range);
            assert!(conversation.carries_content(&script));
            let next = conversation.take(&script, &ok(Some(range.end)));
            assert_eq!(next, Ok(Next::Request));
        }
        let (head, _) = words(&conversation, &script);
        assert!(head.contains("Close-Session"), "{head}");
        let leaves_nothing = Script {
            end: End::Cancel,
            ..script.clone()
        };
        let (head, _) = words(&conversation, &leaves_nothing);
        assert!(head.contains("Cancel-Session"), "{head}");
        assert_eq!(conversation.take(&script, &ok(None)), Ok(Next::Done));
    }

    #[test]
    fn every_wrong_answer_is_noticed() {
        let script = script(Mode::Bits);
        let mut conversation = Conversation::new(0, Mode::Bits);
        let bare = Reply {
            status: 200,
            ..Reply::default()
        };
        assert_eq!(
            conversation.take(&script, &bare),
            Err(WrongReply::SessionMissing)
        );
        conversation.take(&script, &ok(None)).unwrap();
        for got in [None, Some(99), Some(101)] {
            let wrong = WrongReply::Received { expected: 100, got };
            assert_eq!(conversation.take(&script, &ok(got)), Err(wrong));
        }
        let refusal = Reply {
            status: 500,
            hresult: Some(0x8020_001F),
            is_bits: true,
            ..Reply::default()
        };
        let error = conversation.take(&script, &refusal).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Fragment was answered 500 (server error), error 0x8020001F (session not found)"
        );
    }

    #[test]
    fn one_request_modes_end_with_one_answer() {
        for (mode, status) in [
            (Mode::Put, 201),
            (Mode::Put, 204),
            (Mode::Ping, 200),
            (Mode::Raw, 200),
        ] {
            let script = script(mode);
            let mut conversation = Conversation::new(1, mode);
            let reply = Reply {
                status,
                ..Reply::default()
            };
            assert_eq!(conversation.take(&script, &reply), Ok(Next::Done));
            let failed = Reply {
                status: 503,
                ..Reply::default()
            };
            assert!(conversation.take(&script, &failed).is_err());
        }
        let (head, body) = words(&Conversation::new(1, Mode::Put), &script(Mode::Put));
        assert!(
            head.starts_with("PUT /in/bench-1.bin?k=1 HTTP/1.1\r\n"),
            "{head}"
        );
        assert_eq!(body, 0..250);
    }
}
