//! An object store for tests: `moto_server`, asked directly, and a proxy before it that loses,
//! delays and makes up answers.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::client::Client;
use super::program::free_address;
use super::server::Server;
use super::wait_until;

/// The bucket of all tests.
pub const BUCKET: &str = "uploads";
/// What is put before the command of the server, so that it finds credentials.
pub const CREDENTIALS: &[&str] = &[
    "env",
    "AWS_ACCESS_KEY_ID=test",
    "AWS_SECRET_ACCESS_KEY=test",
    "AWS_EC2_METADATA_DISABLED=true",
    "AWS_CONFIG_FILE=/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
];

/// An object store in memory. What it holds goes with it.
pub struct Moto {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a field; its name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    }
}

impl Moto {
    /// Starts one with an empty bucket; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        Self::at(free_address())
    }

    /// The same, at an address.
    pub fn at(address: SocketAddr) -> Option<Self> {
        let port = address.port().to_string();
        let child = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut moto = Self {
            child: child.ok()?,
            address,
        };
        wait_until("the store has its bucket", || {
            assert_eq!(moto.child.try_wait().unwrap(), None, "the store has ended");
            let made = moto.try_ask("PUT", &format!("/{BUCKET}"), b"");
            made.is_ok_and(|answer| answer.status == 200)
        });
        Some(moto)
    }

    /// Asks it; of a signature it only looks whether there is one.
    pub fn ask(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.try_ask(method, target, body).unwrap()
    }

    fn try_ask(&self, method: &str, target: &str, body: &[u8]) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        let head = format!(
            "{method} {target} HTTP/1.0\r\nHost: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        Ok(answer(&all))
    }

    /// What stands under a key, as it is spelt in a URL.
    pub fn object(&self, key: &str) -> Option<Answer> {
        let answer = self.ask("GET", &format!("/{BUCKET}/{key}"), b"");
        (answer.status == 200).then_some(answer)
    }

    /// The bucket keeps each version of an object from now on.
    pub fn keep_versions(&self) {
        let wanted = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let answer = self.ask("PUT", &format!("/{BUCKET}?versioning"), wanted.as_bytes());
        assert_eq!(answer.status, 200);
    }

    /// Keys of the uploads that were begun and not ended.
    pub fn uploads(&self) -> usize {
        let answer = self.ask("GET", &format!("/{BUCKET}?uploads"), b"");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.matches("<UploadId>").count()
    }

    /// The numbers of the parts that are there of a key, of which at most one upload was begun.
    pub fn parts(&self, key: &str) -> Vec<u32> {
        let text = |target: String| {
            let answer = self.ask("GET", &target, b"");
            String::from_utf8_lossy(&answer.body).into_owned()
        };
        let uploads = text(format!("/{BUCKET}?uploads"));
        let Some(id) = uploads
            .split("<UploadId>")
            .nth(1)
            .and_then(|rest| rest.split('<').next())
        else {
            return Vec::new();
        };
        let listed = text(format!("/{BUCKET}/{key}?uploadId={id}"));
        let numbers = listed.split("<PartNumber>").skip(1);
        numbers
            .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
            .collect()
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        let answer = self.ask("GET", &format!("/{BUCKET}"), b"");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.matches("<Key>").count()
    }

    /// `kill -9`: what it held is gone.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(all: &[u8]) -> Answer {
    let end = all
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(all.len());
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        body: all.get(end + 4..).unwrap_or_default().to_vec(),
        head: head.to_lowercase(),
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It goes through.
    Pass,
    /// It never arrives.
    LoseRequest,
    /// It is carried out, and nobody hears of it.
    LoseAnswer,
    /// It goes through after so many milliseconds.
    Delay(u64),
    /// Nothing comes back, for as long as the proxy is there.
    Hang,
    /// It never arrives; this is answered: a status and the code of an error.
    Say(u16, &'static str),
    /// It goes through without its condition.
    Unconditional,
    /// It goes through, and the answer does not tell its length.
    Lengthless,
    /// It is carried out, and somebody takes the object away before that is answered.
    TakeAway,
}

/// What a proxy decides by: the number of the request, from 1 on, and its first line.
pub type Rule = Box<dyn Fn(u64, &str) -> Fate + Send>;

/// Stands between a server and its store.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    rule: Mutex<Rule>,
    lines: Mutex<Vec<String>>,
    /// Requests of those that the store has answered.
    answered: AtomicU64,
    /// Who asks by this one is not let in.
    refused_key: Mutex<String>,
    /// Lists are passed on as they are: `moto_server` calls their outermost elements otherwise than
    /// S3 does, and no client can read them.
    spoils_lists: AtomicBool,
}

impl Proxy {
    /// Passes everything on.
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to,
            rule: Mutex::new(Box::new(|_, _| Fate::Pass)),
            lines: Mutex::default(),
            answered: AtomicU64::new(0),
            refused_key: Mutex::default(),
            spoils_lists: AtomicBool::new(false),
        });
        let here = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&here);
                thread::spawn(move || stream.map(|stream| shared.serve(stream)));
            }
        });
        Self { address, shared }
    }

    /// From now on this decides, and requests are counted anew.
    pub fn rule(&self, rule: impl Fn(u64, &str) -> Fate + Send + 'static) {
        self.shared.lines.lock().unwrap().clear();
        self.shared.answered.store(0, Ordering::SeqCst);
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// From now on whoever asks by this access key is not let in.
    pub fn refuse_key(&self, key: &str) {
        *self.shared.refused_key.lock().unwrap() = key.to_owned();
    }

    /// From now on nobody can read what the store lists.
    pub fn spoil_lists(&self) {
        self.shared.spoils_lists.store(true, Ordering::SeqCst);
    }

    /// Uploads a file; the server is killed while the store holds back the answer to that request,
    /// or when the upload is closed. Returns the session when it is closed at last.
    pub fn upload_over_a_kill(
        &self,
        server: &mut Server,
        name: &str,
        bytes: u64,
        at: u64,
    ) -> String {
        self.rule(move |number, _| match number == at {
            true => Fate::Hang,
            false => Fate::Pass,
        });
        let mut client = sent(server, &format!("/{name}"), bytes);
        let session = client.session().to_owned();
        let reached = usize::try_from(at).unwrap();
        thread::scope(|scope| {
            let closing = scope.spawn(|| client.try_close());
            wait_until("the store is asked, or the upload is closed", || {
                self.lines().len() >= reached || closing.is_finished()
            });
            server.kill9();
            let _cut = closing.join();
        });
        self.rule(|_, _| Fate::Pass);
        server.restart();
        close_at_last(&mut client, server);
        session
    }

    /// The first lines of the requests since then.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap().clone()
    }

    /// How many of them the store has answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }
}

impl Shared {
    /// One request of a connection, which ends with it.
    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let (head, body) = request(&mut stream)?;
        let line = head.lines().next()?.to_owned();
        let mut fate = {
            let mut lines = self.lines.lock().unwrap();
            lines.push(line.clone());
            let rule = self.rule.lock().unwrap();
            rule(lines.len() as u64, &line)
        };
        let key = format!("Credential={}/", self.refused_key.lock().unwrap());
        if head.contains(&key) {
            fate = Fate::Say(403, "InvalidAccessKeyId");
        }
        let is_unconditional = matches!(fate, Fate::Unconditional);
        match fate {
            Fate::Pass
            | Fate::LoseAnswer
            | Fate::Lengthless
            | Fate::Unconditional
            | Fate::TakeAway => {}
            Fate::LoseRequest => return None,
            Fate::Delay(ms) => thread::park_timeout(Duration::from_millis(ms)),
            Fate::Hang => loop {
                thread::park_timeout(Duration::from_secs(60));
            },
            Fate::Say(status, code) => {
                let body = format!("<Error><Code>{code}</Code><Message>made up</Message></Error>");
                let text = format!(
                    "HTTP/1.1 {status} Made Up\r\nContent-Type: application/xml\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                return stream.write_all(text.as_bytes()).ok();
            }
        }
        let mut upstream = TcpStream::connect(self.to).ok()?;
        let mut lines: Vec<&str> = head.lines().collect();
        lines.retain(|line| {
            let line = line.to_lowercase();
            let drops = |name: &str| line.starts_with(name);
            !(drops("connection:")
                || drops("expect:")
                || is_unconditional && drops("if-none-match:"))
        });
        lines.push("Connection: close");
        let head = lines.join("\r\n") + "\r\n\r\n";
        upstream.write_all(head.as_bytes()).ok()?;
        // A store may answer before it has read all, and read no more.
        let _refused = upstream.write_all(&body);
        let mut all = Vec::new();
        let _until_its_end = upstream.read_to_end(&mut all);
        self.answered.fetch_add(1, Ordering::SeqCst);
        if !self.spoils_lists.load(Ordering::SeqCst) {
            for name in ["ListParts", "ListMultipartUploads"] {
                for other in ["Output", "Response"] {
                    // What is too long is filled with blanks, which mean nothing there.
                    let (from, to) = (format!("{name}{other}"), format!("{name}Result"));
                    rename(&mut all, &from, &format!("{to:len$}", len = from.len()));
                }
            }
        }
        if matches!(fate, Fate::Lengthless) {
            rename(&mut all, "Content-Length", "X-Other-Length");
        }
        if matches!(fate, Fate::TakeAway) {
            self.take_away(&line)?;
        }
        if matches!(fate, Fate::LoseAnswer) {
            let _ends = stream.shutdown(Shutdown::Both);
            return None;
        }
        stream.write_all(&all).ok()
    }
}

impl Shared {
    /// Removes the object that a request has made.
    fn take_away(&self, line: &str) -> Option<()> {
        let path = line.split([' ', '?']).nth(1)?;
        let mut upstream = TcpStream::connect(self.to).ok()?;
        let delete = format!("DELETE {path} HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n");
        upstream.write_all(delete.as_bytes()).ok()?;
        let _until_its_end = upstream.read_to_end(&mut Vec::new());
        Some(())
    }
}

/// Puts a name of the same length in the place of another one.
fn rename(all: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut at = 0;
    while let Some(found) = all[at..]
        .windows(from.len())
        .position(|it| it == from.as_bytes())
    {
        at += found;
        all[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
}

fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut block = [0; 65_536];
    let end = loop {
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut block) {
            Ok(read @ 1..) => all.extend_from_slice(&block[..read]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let field = |name: &str| {
        let lines = head.lines().map(str::to_lowercase);
        let mut found = lines.filter_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        found.next()
    };
    if field("expect:").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length: usize = field("content-length:").map_or(0, |text| text.parse().unwrap());
    let mut body = all.split_off(end + 4);
    while body.len() < length {
        match stream.read(&mut block) {
            Ok(read @ 1..) => body.extend_from_slice(&block[..read]),
            _ => return None,
        }
    }
    Some((head, body))
}

/// Files of uploads that are not over, in the work directory.
pub fn leftovers(server: &Server) -> Vec<String> {
    let names = fs::read_dir(server.root().join(".bitsd")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_left = |name: &String| {
        let path = Path::new(name);
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("part" | "object" | "new"))
    };
    names.filter(is_left).collect()
}

/// Sends a file, but does not close it.
pub fn sent(server: &Server, path: &str, bytes: u64) -> Client {
    let mut client = Client::create(server.address(), path);
    client.send_rest(0, bytes, 4 << 20);
    client
}

/// Closes until that is acknowledged; whatever else is answered must lead a client to come back.
#[track_caller]
pub fn close_at_last(client: &mut Client, server: &Server) {
    wait_until("the upload is closed", || {
        client.reconnect_to(server.address());
        match client.try_close() {
            Some(response) if response.status == 200 => true,
            Some(response) => {
                assert_eq!(response.status, 503, "{response:?}");
                false
            }
            None => false,
        }
    });
}
