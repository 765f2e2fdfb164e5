//! One question to the server's socket and its answer: HTTP/1.1, one request a connection.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use bitsd::admin::view::OrderOutcome;
use bitsd::http::chunked::ChunkedDecoder;

/// How long the server may take to say something. An order may wait for a write to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for what it can always say at once: before anything else it is asked whether it is
/// there at all, so that nobody waits long for one that was stopped or is held up as a whole.
const SHORT_PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to come into a queue that is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of an answer that is read as a whole.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Asks one server.
pub struct Conversation {
    socket: PathBuf,
    /// How long it may take to say that it is there.
    patience: Duration,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoConversation {
    NotThere(PathBuf, io::Error),
    /// It has its socket, and says nothing; its process, and how long it was waited for.
    Silent(Option<i32>, Duration),
    Broken(io::Error),
    /// What came is no answer.
    Malformed,
    /// The server refuses; why.
    Refused(String),
    /// It does not understand what it is asked for; why.
    Misunderstood(String),
    /// What it says is not what a bitsd of this kind would; why.
    Foreign(String),
}

impl NoConversation {
    /// Whether the server may be back in a moment.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NotThere(_, error) => error.kind() != ErrorKind::PermissionDenied,
            Self::Broken(_) | Self::Silent(..) | Self::Refused(_) => true,
            Self::Malformed | Self::Misunderstood(_) | Self::Foreign(_) => false,
        }
    }
}

impl fmt::Display for NoConversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere(socket, error) => {
                let is_other = (socket.metadata()).is_ok_and(|file| !file.file_type().is_socket());
                let hint = match error.kind() {
                    ErrorKind::ConnectionRefused if is_other => "; it is no socket",
                    ErrorKind::NotFound => "; does the server run, with this admin_socket?",
                    ErrorKind::ConnectionRefused => "; the server does not run",
                    ErrorKind::PermissionDenied => {
                        "; its user and its group may ask: run this as one of them, or by sudo"
                    }
                    _ => "",
                };
                let socket = socket.display();
                write!(f, "nobody answers at {socket}: {error}{hint}")
            }
            Self::Silent(process, waited) => {
                let process = process.map(|process| format!(" (process {process})"));
                write!(
                    f,
                    "the server{} has not answered for {} s: it was stopped, is held up, by a disk perhaps, or may open no more files",
                    process.unwrap_or_default(),
                    waited.as_secs()
                )
            }
            Self::Broken(error) if error.kind() == ErrorKind::WouldBlock => write!(
                f,
                "the server has said nothing more for {} s: it was stopped or is held up",
                PATIENCE.as_secs()
            ),
            Self::Broken(error) => write!(f, "the server's answer broke off: {error}"),
            Self::Malformed => f.write_str("what answers there is no bitsd"),
            Self::Refused(why) | Self::Misunderstood(why) => f.write_str(why),
            Self::Foreign(why) => write!(f, "what answers is no bitsd of this kind: {why}"),
        }
    }
}

impl Conversation {
    /// With the server of a socket.
    pub fn with(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            patience: SHORT_PATIENCE,
        }
    }

    /// Asks, and reads the whole answer; its status and its body.
    pub fn ask(&self, method: &str, target: &str) -> Result<(u16, String), NoConversation> {
        let mut answer = self.begin(method, target)?;
        let mut body = String::new();
        (&mut answer.body)
            .take(ANSWER_BYTES_MAX)
            .read_to_string(&mut body)
            .map_err(NoConversation::Broken)?;
        Ok((answer.status, body))
    }

    /// Asks, and gives each line of the answer as it comes.
    pub fn lines(
        &self,
        target: &str,
        mut line: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<(), NoConversation> {
        let mut answer = self.begin("GET", target)?;
        if answer.status != 200 {
            let mut body = String::new();
            let read = (&mut answer.body)
                .take(ANSWER_BYTES_MAX)
                .read_to_string(&mut body);
            read.map_err(NoConversation::Broken)?;
            return Err(refused(answer.status, &body));
        }
        let lines = io::BufRead::lines(io::BufReader::new(answer.body));
        for found in lines {
            let found = found.map_err(NoConversation::Broken)?;
            if !found.is_empty() {
                line(&found).map_err(NoConversation::Broken)?;
            }
        }
        Ok(())
    }

    fn begin(&self, method: &str, target: &str) -> Result<Answer, NoConversation> {
        // Whatever it says, it is there.
        self.say("HEAD", "/", self.patience)?;
        self.say(method, target, PATIENCE)
    }

    fn say(
        &self,
        method: &str,
        target: &str,
        patience: Duration,
    ) -> Result<Answer, NoConversation> {
        let not_there = |error| NoConversation::NotThere(self.socket.clone(), error);
        let connected = connect(&self.socket, patience).map_err(not_there)?;
        let Some(mut stream) = connected else {
            return Err(NoConversation::Silent(None, patience));
        };
        let broken = NoConversation::Broken;
        stream.set_read_timeout(Some(patience)).map_err(broken)?;
        stream.set_write_timeout(Some(patience)).map_err(broken)?;
        let peer = rustix::net::sockopt::socket_peercred(&stream);
        let process = peer.ok().map(|peer| peer.pid.as_raw_nonzero().get());
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = (stream.write_all(request.as_bytes()))
            .map_err(broken)
            .and_then(|()| Answer::read(stream));
        match answer {
            Err(NoConversation::Broken(error)) if error.kind() == ErrorKind::WouldBlock => {
                Err(NoConversation::Silent(process, patience))
            }
            answer => answer,
        }
    }
}

/// Connects to a socket; `None` if its queue is full for so long: whoever listens takes nobody from
/// it. (connect(2) would wait for ever.)
pub fn connect(socket: &Path, patience: Duration) -> io::Result<Option<UnixStream>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let address = SocketAddrUnix::new(socket)?;
    let opened = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let deadline = Instant::now() + patience;
    loop {
        match rustix::net::connect(&opened, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN) if Instant::now() < deadline => thread::sleep(QUEUE_PAUSE),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(opened);
    stream.set_nonblocking(false)?;
    Ok(Some(stream))
}

/// Why a request was refused, as the server says it.
pub fn refused(status: u16, body: &str) -> NoConversation {
    let outcome: Option<OrderOutcome> = serde_json::from_str(body).ok();
    let why = match outcome {
        Some(outcome) => outcome.message,
        None => format!("the server answers {status}: {}", body.trim()),
    };
    match status {
        400 => NoConversation::Misunderstood(why),
        _ => NoConversation::Refused(why),
    }
}

/// A target with a query.
pub fn target(path: &str, pairs: &[(&str, String)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    match pairs.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{}", pairs.join("&")),
    }
}

struct Answer {
    status: u16,
    body: Body,
}

/// The body of an answer, as its head says where it ends.
struct Body {
    stream: UnixStream,
    /// What came and was not decoded yet.
    came: Vec<u8>,
    /// What was decoded and not read yet.
    ready: Vec<u8>,
    framing: BodyFraming,
}

enum BodyFraming {
    Left(u64),
    Chunked(ChunkedDecoder),
    Ended,
}

impl Answer {
    fn read(mut stream: UnixStream) -> Result<Self, NoConversation> {
        let mut came = Vec::new();
        loop {
            let mut slots = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut slots);
            let parsed = head.parse(&came).map_err(|_| NoConversation::Malformed)?;
            if let httparse::Status::Complete(bytes) = parsed {
                let field = |name: &str| {
                    let mut found = head.headers.iter();
                    let found = found.find(|field| field.name.eq_ignore_ascii_case(name));
                    found.and_then(|field| std::str::from_utf8(field.value).ok())
                };
                let length = field("Content-Length").and_then(|length| length.parse().ok());
                let framing = match (field("Transfer-Encoding"), length) {
                    (Some("chunked"), _) => BodyFraming::Chunked(ChunkedDecoder::default()),
                    (None, Some(length)) => BodyFraming::Left(length),
                    _ => return Err(NoConversation::Malformed),
                };
                let status = head.code.ok_or(NoConversation::Malformed)?;
                let body = Body {
                    stream,
                    came: came.split_off(bytes),
                    ready: Vec::new(),
                    framing,
                };
                return Ok(Self { status, body });
            }
            if came.len() > HEAD_BYTES_MAX {
                return Err(NoConversation::Malformed);
            }
            if more(&mut stream, &mut came).map_err(NoConversation::Broken)? == 0 {
                return Err(NoConversation::Broken(ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn more(stream: &mut UnixStream, came: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 64 << 10];
    loop {
        match stream.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(read) => {
                came.extend_from_slice(&piece[..read]);
                return Ok(read);
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() {
            if self.came.is_empty()
                && !matches!(self.framing, BodyFraming::Left(0) | BodyFraming::Ended)
                && more(&mut self.stream, &mut self.came)? == 0
            {
                let why = "it ends before its end; the server was stopped, or is held up";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
            }
            match &mut self.framing {
                BodyFraming::Left(0) | BodyFraming::Ended => return Ok(0),
                BodyFraming::Left(left) => {
                    self.ready = std::mem::take(&mut self.came);
                    self.ready
                        .truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= self.ready.len() as u64;
                }
                BodyFraming::Chunked(decoder) => {
                    let gathered = decoder.gather(&mut self.came);
                    let rest = self.came.split_off(gathered.consumed);
                    self.ready = std::mem::replace(&mut self.came, rest);
                    self.ready.truncate(gathered.content);
                    match gathered.end {
                        None => {}
                        Some(Ok(())) => self.framing = BodyFraming::Ended,
                        Some(Err(_)) => return Err(ErrorKind::InvalidData.into()),
                    }
                }
            }
        }
        let bytes = out.len().min(self.ready.len());
        out[..bytes].copy_from_slice(&self.ready[..bytes]);
        self.ready.drain(..bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// What a client makes of an answer.
    fn hear(answer: &'static str) -> Result<(u16, String), NoConversation> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let mut request = [0; 512];
            let (mut stream, _) = listener.accept().unwrap();
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"HEAD / HTTP/1.1\r\n"));
            (stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /x HTTP/1.1\r\n"));
            // In pieces, as a network may have it.
            for byte in answer.bytes() {
                if stream.write_all(&[byte]).is_err() {
                    // Whoever has heard enough hangs up.
                    return;
                }
            }
        });
        let heard = Conversation::with(&socket).ask("GET", "/x");
        server.join().unwrap();
        heard
    }

    #[test]
    fn both_kinds_of_answers_are_read_and_one_cut_short_is_seen() {
        let whole = hear("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        assert_eq!(whole, (200, "abc".to_owned()));
        let chunked =
            "HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(hear(chunked).unwrap(), (503, "abc".to_owned()));
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
        assert!(matches!(hear(cut), Err(NoConversation::Broken(_))));
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert!(matches!(hear(short), Err(NoConversation::Broken(_))));
        assert!(matches!(
            hear("SSH-2.0-x\r\n"),
            Err(NoConversation::Malformed)
        ));
    }

    #[test]
    fn a_server_that_is_silent_is_told_of_soon_also_where_its_queue_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let _listener = UnixListener::bind(&socket).unwrap();
        let server = Conversation {
            patience: Duration::from_millis(20),
            ..Conversation::with(&socket)
        };
        let us = std::process::id();
        let why = server.ask("GET", "/x").unwrap_err().to_string();
        assert!(
            why.contains(&format!("the server (process {us}) has not answered")),
            "{why}"
        );
        let mut waiting = Vec::new();
        while let Some(stream) = connect(&socket, Duration::ZERO).unwrap() {
            waiting.push(stream);
            assert!(waiting.len() < 100_000, "the queue has a bound");
        }
        let silent = server.ask("GET", "/x");
        assert!(matches!(silent, Err(NoConversation::Silent(None, _))));
    }

    #[test]
    fn nobody_there_is_told_with_what_helps() {
        let nobody = Conversation::with(Path::new("/nonexistent/admin.sock"));
        let why = nobody.ask("GET", "/").unwrap_err().to_string();
        assert!(why.contains("does the server run"), "{why}");
    }

    #[test]
    fn a_query_says_what_was_meant() {
        let pairs = [("path", "a b/*&c".to_owned()), ("idle", "7".to_owned())];
        assert_eq!(
            target("/v1/sessions", &pairs),
            "/v1/sessions?path=a%20b%2F%2A%26c&idle=7"
        );
        assert_eq!(target("/x", &[]), "/x");
    }
}
