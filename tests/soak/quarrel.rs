//! Clients that contradict each other, on three shards, while the settings change and an
//! application answers at random.
//!
//! Goal: whatever clients say to a session that they share, a file that appears at its destination
//! is whole and holds nothing but its own bytes; and clients beside them never notice. Method: what
//! a file holds follows from its name, so every client sends right bytes, but in any order, twice,
//! beyond a gap, in chunks, cut off, pipelined, after a Close, under another name. Beside them run
//! the careful clients of `uploader.rs` with the whole contract. At the end every file is compared,
//! and nothing may be left in the work directory.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use super::battle::{Ground, POOL_BYTES, Setup, Terms, add, fight, read};
use super::scenarios::Outcome;
use super::support::backend::{Act, Backend};
use super::support::client::{Client, PROTOCOL};
use super::support::random::Rng;
use super::support::raw::{Raw, Response};
use super::support::server::{Server, Settings};
use super::support::{PATIENCE, wait_until};

/// Names that are quarrelled over; few, so that sessions meet at them.
const NAMES: u64 = 24;
/// Bytes of the largest file.
const FILE_BYTES_MAX: u64 = 300_000;
/// Sessions that everybody knows of at the same time.
const SHARED_MAX: usize = 12;
/// Descriptors that may be open at the end beyond those at the start: connections that are just
/// ending.
const DESCRIPTORS_SLACK: usize = 8;

/// A session that all of them work on.
#[derive(Clone, Debug)]
struct Shared {
    name: u64,
    session: String,
    /// The last offset that anybody heard.
    heard: u64,
}

/// What the quarrelling clients have in common.
struct Quarrel<'a> {
    ground: &'a Ground,
    sessions: Mutex<Vec<Shared>>,
    answers: AtomicU64,
    closed: AtomicU64,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Sized,
    Chunked,
    /// Only the first half, then the end of the connection.
    Cut,
}

pub fn quarrel(setup: &Setup) -> Outcome {
    let application =
        Backend::start(|heard, number| answer(heard.body.len() as u64 ^ number as u64));
    let settings = |rng: &mut Rng, folder: &Path| settings(rng, folder, &application.url("/heard"));
    let mut server = Server::with(
        Settings::default()
            .file("log_level = \"warn\"")
            .flags(&["--cores", "3"]),
    );
    let folder = server.root().parent().unwrap().to_owned();
    for name in ["a", "b"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    server.reload(&settings(&mut Rng(setup.seed), &folder));
    let terms = Terms {
        file_bytes_max: 1 << 20,
        kept_bytes_max: 64 << 20,
        ..Terms::default()
    };
    let ground = Ground::new(&server, setup, terms);
    let quarrel = Quarrel {
        ground: &ground,
        sessions: Mutex::default(),
        answers: AtomicU64::new(0),
        closed: AtomicU64::new(0),
    };
    let descriptors = descriptors(&server);
    thread::scope(|scope| {
        for client in 0..setup.clients {
            let quarrel = &quarrel;
            scope.spawn(move || {
                let seed = setup.seed ^ (client as u64 + 1).wrapping_mul(0x9e37_79b9);
                let mut rng = Rng(seed);
                while !quarrel.ground.is_over() {
                    quarrel.talk(&mut rng);
                }
            });
        }
        let strike = |server: &mut Server, rng: &mut Rng| {
            ground.pause(5 + rng.log_uniform(200));
            server.reload(&settings(rng, &folder));
        };
        fight(&ground, setup, &mut server, strike, |_| {});
    });
    // What nobody ends now expires, in whichever location it is.
    let brief = "session_timeout = \"1s\"\n";
    server.reload(&format!("{brief}{}", locations(&folder, "")));
    wait_until("nothing is left in the work directory", || {
        // Parts may lie in more folders than one.
        ["root", "a", "b"]
            .iter()
            .all(|root| leftovers(&folder.join(root)).is_empty())
    });
    for root in ["a", "b"] {
        for entry in std::fs::read_dir(folder.join(root)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name != ".bitsd" {
                quarrel.compare(&folder.join(root).join(&name), &name);
            }
        }
    }
    let mut last = Client::create(server.address(), "/last.bin");
    last.close().assert(200, None);
    drop(last);
    let most = descriptors.len() + DESCRIPTORS_SLACK;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = self::descriptors(&server);
        if open.len() <= most {
            break;
        }
        let is_early = Instant::now() < deadline;
        assert!(is_early, "before: {descriptors:?}; after it: {open:?}");
        thread::park_timeout(Duration::from_millis(2));
    }
    let (answers, closed) = (read(&quarrel.answers), read(&quarrel.closed));
    assert!(closed > 0, "no file was closed in {answers} answers");
    server.stop();
    Outcome::Passed(format!(
        "{answers} answers, {closed} closes; beside them {}",
        ground.tally
    ))
}

/// What the application says; mostly it takes the file.
fn answer(random: u64) -> Act {
    match Rng(random).below(8) {
        0 => Act::status(500),
        1 => Act::CloseAtOnce,
        2 => Act::body(b"a reply"),
        3 => Act::status(403),
        _ => Act::fields("BITS-Copy-File-To-Destination: 1\r\n"),
    }
}

/// Other settings at each reload: roots, publication, durability, overwriting, who is asked.
fn settings(rng: &mut Rng, folder: &Path, url: &str) -> String {
    let durability = rng.pick(&["none", "upload", "fragment"]);
    let publish = rng.pick(&["close", "last-fragment"]);
    let asked = match rng.below(3) {
        0 => format!("notification_type = \"by-value\"\nnotification_url = {url:?}\n"),
        _ => String::new(),
    };
    let strict = rng.one_in(8);
    format!(
        "durability = {durability:?}\npublish = {publish:?}\nstrict = {strict}\n{}",
        locations(folder, &asked)
    )
}

fn locations(folder: &Path, asked: &str) -> String {
    let (a, b) = (folder.join("a"), folder.join("b"));
    format!(
        "[[location]]\nprefix = \"/a\"\nroot = {a:?}\nallow_overwrite = true\n\
         [[location]]\nprefix = \"/b\"\nroot = {b:?}\nallow_overwrite = true\n{asked}"
    )
}

/// Files of sessions beneath a root.
fn leftovers(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join(".bitsd")) else {
        return Vec::new();
    };
    (entries.map(|entry| entry.unwrap().path()))
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("part" | "reply"))
        })
        .collect()
}

/// What the server has open.
fn descriptors(server: &Server) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    // One may be closed while it is looked at.
    let mut all: Vec<_> = folder
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .collect();
    all.sort();
    all
}

/// Where the bytes of a file begin in the pool.
fn start(name: u64) -> usize {
    usize::try_from(Rng(name).below(POOL_BYTES as u64)).unwrap()
}

fn total(name: u64) -> u64 {
    1 + Rng(name ^ 0x7071).below(FILE_BYTES_MAX)
}

/// Half of the names lie in each location.
fn path(name: u64) -> String {
    let location = if name.is_multiple_of(2) { "a" } else { "b" };
    format!("/{location}/{name}.bin")
}

impl Quarrel<'_> {
    /// A few requests on one connection.
    fn talk(&self, rng: &mut Rng) {
        let Ok(mut raw) = Raw::try_connect(self.ground.address()) else {
            return;
        };
        for _ in 0..rng.log_uniform(20) {
            if self.ground.is_over() || !self.act(&mut raw, rng) {
                return;
            }
        }
    }

    /// One request, or several at once; `false` if the connection is of no more use.
    fn act(&self, raw: &mut Raw, rng: &mut Rng) -> bool {
        let known = {
            let sessions = self.sessions.lock().unwrap();
            match sessions.len() {
                0 => None,
                len => sessions
                    .get(usize::try_from(rng.below(len as u64)).unwrap())
                    .cloned(),
            }
        };
        let Some(shared) = known else {
            return self.create(raw, rng);
        };
        match rng.below(16) {
            0..=2 => self.create(raw, rng),
            3 => self.end(raw, &shared, "Cancel-Session"),
            4 | 5 => self.end(raw, &shared, "Close-Session"),
            6 => self.ask_for_another_name(raw, &shared),
            7 => self.pipeline(raw, &shared, rng),
            8 => {
                let body = Body::Cut;
                self.fragment(raw, &shared, range(&shared, rng), body);
                false
            }
            9..=11 => self.fragment(raw, &shared, range(&shared, rng), Body::Chunked),
            _ => self.fragment(raw, &shared, range(&shared, rng), Body::Sized),
        }
    }

    fn create(&self, raw: &mut Raw, rng: &mut Rng) -> bool {
        let name = rng.below(NAMES);
        let head = head(
            &path(name),
            "Create-Session",
            &format!("BITS-Supported-Protocols: {PROTOCOL}\r\n"),
            Some(0),
        );
        let Some(answer) = self.ask(raw, head.as_bytes()) else {
            return false;
        };
        if answer.status == 200 {
            let session = answer.field("BITS-Session-Id").unwrap().to_owned();
            let mut sessions = self.sessions.lock().unwrap();
            if sessions.len() >= SHARED_MAX {
                let at = usize::try_from(rng.below(sessions.len() as u64)).unwrap();
                sessions.swap_remove(at);
            }
            sessions.push(Shared {
                name,
                session,
                heard: 0,
            });
        }
        goes_on(&answer)
    }

    fn fragment(&self, raw: &mut Raw, shared: &Shared, range: Range<u64>, body: Body) -> bool {
        let request = self.fragment_request(shared, range, body);
        if body == Body::Cut {
            let half = &request[..request.len() - request.len() / 3];
            let _may_be_gone = raw.try_send(half);
            return false;
        }
        let Some(answer) = self.ask(raw, &request) else {
            return false;
        };
        self.note(shared, &answer);
        goes_on(&answer)
    }

    /// Three requests before the first answer is read.
    fn pipeline(&self, raw: &mut Raw, shared: &Shared, rng: &mut Rng) -> bool {
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.extend(self.fragment_request(shared, range(shared, rng), Body::Sized));
        }
        let _may_be_refused = raw.try_send(&requests);
        for _ in 0..3 {
            let Some(answer) = self.hear(raw) else {
                return false;
            };
            self.note(shared, &answer);
            if !goes_on(&answer) {
                return false;
            }
        }
        true
    }

    fn end(&self, raw: &mut Raw, shared: &Shared, kind: &str) -> bool {
        let fields = format!("BITS-Session-Id: {}\r\n", shared.session);
        let head = head(&path(shared.name), kind, &fields, Some(0));
        let Some(answer) = self.ask(raw, head.as_bytes()) else {
            return false;
        };
        if answer.status == 200 && kind == "Close-Session" {
            add(&self.closed, 1);
        }
        goes_on(&answer)
    }

    /// A session is bound to its name: under another one it does not exist.
    fn ask_for_another_name(&self, raw: &mut Raw, shared: &Shared) -> bool {
        let fields = format!("BITS-Session-Id: {}\r\n", shared.session);
        let other = path((shared.name + 2) % NAMES);
        let Some(answer) = self.ask(
            raw,
            head(&other, "Close-Session", &fields, Some(0)).as_bytes(),
        ) else {
            return false;
        };
        assert_ne!(answer.status, 200, "closed under another name: {answer:?}");
        goes_on(&answer)
    }

    fn fragment_request(&self, shared: &Shared, range: Range<u64>, body: Body) -> Vec<u8> {
        let (first, last, total) = (range.start, range.end - 1, total(shared.name));
        let session = &shared.session;
        let fields = format!(
            "BITS-Session-Id: {session}\r\nContent-Range: bytes {first}-{last}/{total}\r\n"
        );
        let bytes = self.bytes(shared.name, range.clone());
        if body != Body::Chunked {
            let mut request =
                head(&path(shared.name), "Fragment", &fields, Some(bytes.len())).into_bytes();
            request.extend_from_slice(bytes);
            return request;
        }
        let fields = format!("{fields}Transfer-Encoding: chunked\r\n");
        let mut request = head(&path(shared.name), "Fragment", &fields, None).into_bytes();
        let mut rng = Rng(first ^ last);
        let mut left = bytes;
        while !left.is_empty() {
            let len = usize::try_from(rng.log_uniform(70_000))
                .unwrap()
                .max(40)
                .min(left.len());
            let (chunk, rest) = left.split_at(len);
            request.extend_from_slice(format!("{len:x}\r\n").as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
            left = rest;
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    }

    fn bytes(&self, name: u64, range: Range<u64>) -> &[u8] {
        let at = |offset: u64| start(name) + usize::try_from(offset).unwrap();
        &self.ground.pool[at(range.start)..at(range.end)]
    }

    fn ask(&self, raw: &mut Raw, request: &[u8]) -> Option<Response> {
        // The answer may be there although not all could be sent.
        let _may_be_refused = raw.try_send(request);
        self.hear(raw)
    }

    /// An answer, which must be one that the protocol knows. A newer client may have ended this
    /// connection.
    fn hear(&self, raw: &mut Raw) -> Option<Response> {
        let answer = match raw.try_receive() {
            Ok(answer) => answer?,
            Err(error) => {
                assert_ne!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock,
                    "no answer in time"
                );
                return None;
            }
        };
        add(&self.answers, 1);
        let is_known = matches!(
            answer.status,
            200 | 400 | 403 | 404 | 408 | 411 | 413 | 416 | 500 | 502 | 503
        );
        assert!(is_known, "{answer:?}");
        Some(answer)
    }

    fn note(&self, shared: &Shared, answer: &Response) {
        if !matches!(answer.status, 200 | 416) {
            return;
        }
        let received = answer.received();
        assert!(received <= total(shared.name), "{shared:?}: {answer:?}");
        let mut sessions = self.sessions.lock().unwrap();
        let known = sessions
            .iter_mut()
            .find(|known| known.session == shared.session);
        if let Some(known) = known {
            known.heard = known.heard.max(received);
        }
    }

    /// A file that appeared: whole, and its own bytes.
    fn compare(&self, file: &Path, name: &str) {
        let number = name
            .strip_suffix(".bin")
            .and_then(|number| number.parse().ok());
        let number: u64 = number.unwrap_or_else(|| panic!("{name} was sent by nobody"));
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(bytes.len() as u64, total(number), "{name}: length");
        assert!(
            bytes == self.bytes(number, 0..total(number)),
            "{name}: other bytes"
        );
    }
}

/// Mostly what comes next; now and then what came before, or what is too far ahead.
fn range(shared: &Shared, rng: &mut Rng) -> Range<u64> {
    let total = total(shared.name);
    let first = match rng.below(6) {
        0 => rng.below(total),
        1 => rng.below(shared.heard + 1),
        _ => shared.heard,
    }
    .min(total - 1);
    first..first + rng.log_uniform(total - first)
}

fn goes_on(answer: &Response) -> bool {
    answer.status != 503 && answer.field("Connection") != Some("close")
}

fn head(path: &str, kind: &str, fields: &str, len: Option<usize>) -> String {
    let length = len.map_or_else(String::new, |len| format!("Content-Length: {len}\r\n"));
    format!(
        "BITS_POST {path} HTTP/1.1\r\nBITS-Packet-Type: {kind}\r\n{fields}Host: localhost\r\n{length}\r\n"
    )
}

const _: () = assert!(
    FILE_BYTES_MAX < (1 << 20),
    "the pool holds the largest file after any start"
);
