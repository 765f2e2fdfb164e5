//! A server application for tests: it hears of uploads and does what the test says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{PATIENCE, wait_until};

const COPY: &str = "BITS-Copy-File-To-Destination: \r\n";

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `POST /target HTTP/1.1`.
    pub line: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Heard {
    /// The value of a field, in any case of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What the application does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status, further field lines (each ending in CR LF), and a body.
    Answer(u16, String, Vec<u8>),
    /// Writes a file where BITS-Response-DataFile-Name says, and answers 200.
    WriteReply(Vec<u8>),
    /// Moves the file away that BITS-Request-DataFile-Name says, and answers 200.
    TakeFile,
    /// Writes this over the first bytes of the file, and asks for it at its destination.
    ChangeFile(Vec<u8>),
    /// Puts another file in its place, and asks for it likewise.
    ReplaceFile(Vec<u8>),
    /// Ends the connection without a word.
    CloseAtOnce,
    /// Announces this body and sends half of it.
    CloseInBody(Vec<u8>),
    /// Says nothing until the other side gives up.
    Hang,
}

impl Act {
    /// Only a status.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, String::new(), Vec::new())
    }

    /// 200 with further field lines.
    pub fn fields(fields: &str) -> Self {
        Self::Answer(200, fields.to_owned(), Vec::new())
    }

    /// 200 with a body.
    pub fn body(body: &[u8]) -> Self {
        Self::Answer(200, String::new(), body.to_vec())
    }
}

/// The application; it ends when it is dropped.
pub struct Backend {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    is_stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts it. `act` decides what is done with each request; the number counts from 0.
    pub fn start(act: impl Fn(&Heard, usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at(act, true)
    }

    /// It answers with this status when it has read the head of a request, and closes.
    pub fn early(status: u16) -> Self {
        Self::start_at(move |_, _| Act::status(status), false)
    }

    fn start_at(
        act: impl Fn(&Heard, usize) -> Act + Send + Sync + 'static,
        reads_body: bool,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (act, all, stops) = (Arc::new(act), Arc::clone(&heard), Arc::clone(&is_stopping));
        let accept = move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::SeqCst) {
                    return;
                }
                let (act, all) = (Arc::clone(&act), Arc::clone(&all));
                // Its end is that of its connection, at the latest when the server under test ends.
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if let Some(request) = read_request(&mut stream, reads_body) {
                        let number = {
                            let mut all = all.lock().unwrap();
                            all.push(request.clone());
                            all.len() - 1
                        };
                        answer(&mut stream, &request, act(&request, number));
                    }
                });
            }
        };
        Self {
            address,
            heard,
            is_stopping,
            thread: Some(thread::spawn(accept)),
        }
    }

    /// It does always the same.
    pub fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone())
    }

    /// Its URL, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until so many requests have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) {
        wait_until("the application hears", || self.heard().len() >= count);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &mut TcpStream, reads_body: bool) -> Option<Heard> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next()?.to_owned();
    let fields: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Heard {
        line,
        fields,
        body: bytes.split_off(head_end),
    };
    let length: usize = request.field("Content-Length")?.parse().ok()?;
    while reads_body && request.body.len() < length {
        match stream.read(&mut piece) {
            Ok(read @ 1..) => request.body.extend_from_slice(&piece[..read]),
            _ => return None,
        }
    }
    Some(request)
}

/// Whoever asked may be gone; that is the test's affair.
fn answer(stream: &mut TcpStream, request: &Heard, act: Act) {
    let named = |name: &str| request.field(name).expect("a name by reference").to_owned();
    let (status, fields, body) = match act {
        Act::Answer(status, fields, body) => (status, fields, body),
        Act::WriteReply(bytes) => {
            std::fs::write(named("BITS-Response-DataFile-Name"), bytes).unwrap();
            (200, String::new(), Vec::new())
        }
        Act::TakeFile => {
            let part = named("BITS-Request-DataFile-Name");
            std::fs::rename(&part, format!("{part}.taken.aside")).unwrap();
            (200, String::new(), Vec::new())
        }
        Act::ChangeFile(bytes) => {
            let part = named("BITS-Request-DataFile-Name");
            let mut file = std::fs::OpenOptions::new().write(true).open(part).unwrap();
            file.write_all(&bytes).unwrap();
            (200, COPY.to_owned(), Vec::new())
        }
        Act::ReplaceFile(bytes) => {
            let part = named("BITS-Request-DataFile-Name");
            std::fs::write(format!("{part}.other"), bytes).unwrap();
            std::fs::rename(format!("{part}.other"), part).unwrap();
            (200, COPY.to_owned(), Vec::new())
        }
        Act::CloseAtOnce => return,
        Act::CloseInBody(body) => {
            let half = &body[..body.len() / 2];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(half);
            return;
        }
        Act::Hang => {
            let _ended = stream.read(&mut [0; 1]);
            return;
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nServer: test\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}
