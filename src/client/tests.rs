//! The client against a scripted server. Each test says what the server does, connection by
//! connection, and compares what it was sent. The server's waits are bounded, so a client that does
//! not come fails the test and never hangs it.

use super::head::UPLOAD_PROTOCOL;
use super::upload::Failure;
use super::*;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// What the server does with one packet.
enum Step {
    /// Reads it whole and answers.
    Answer(String),
    /// Reads its head and this many bytes of its body, and closes.
    Cut(usize),
    /// Answers after the head alone, says no more, and waits for the client to go.
    Early(String),
    /// Does this, then reads the packet whole and answers.
    Meanwhile(Box<dyn FnOnce() + Send>, String),
}

struct Server {
    url: Url,
    thread: JoinHandle<Vec<Heard>>,
}

/// A packet as the server got it.
#[derive(Debug)]
struct Heard {
    head: String,
    body: Vec<u8>,
}

impl Heard {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }

    /// Such as `Fragment bytes 0-9/10`.
    fn summary(&self) -> String {
        let packet = self.field("BITS-Packet-Type").unwrap_or("?");
        match self.field("Content-Range") {
            Some(range) => format!("{packet} {range}"),
            None => packet.to_owned(),
        }
    }
}

const BOUND: Duration = Duration::from_secs(10);

impl Server {
    /// One list of steps for each connection.
    fn start(script: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/in/file.bin", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        socket2::SockRef::from(&listener)
            .set_read_timeout(Some(BOUND))
            .unwrap();
        let thread = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for steps in script {
                let (mut stream, _) = listener.accept().expect("the client does not come");
                stream.set_read_timeout(Some(BOUND)).unwrap();
                for step in steps {
                    heard.push(step.act(&mut stream));
                }
            }
            heard
        });
        Self { url, thread }
    }

    fn upload(&self, file: &Path, options: &Options) -> Result<Uploaded, PutError> {
        upload(file, &self.url, options, &mut Unwatched)
    }

    fn heard(self) -> Vec<Heard> {
        self.thread.join().unwrap()
    }

    fn summaries(self) -> Vec<String> {
        self.heard().iter().map(Heard::summary).collect()
    }
}

impl Step {
    fn act(self, stream: &mut TcpStream) -> Heard {
        let head = read_head(stream);
        let mut heard = Heard {
            head,
            body: Vec::new(),
        };
        let length: usize = heard.field("Content-Length").unwrap().parse().unwrap();
        let (wanted, answer) = match self {
            Self::Answer(answer) => (length, answer),
            Self::Meanwhile(act, answer) => {
                act();
                (length, answer)
            }
            Self::Cut(bytes) => (bytes, String::new()),
            Self::Early(answer) => {
                stream.write_all(answer.as_bytes()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                // The end of the body, or a reset where the client closed before it had read
                // everything.
                let _ = std::io::copy(stream, &mut std::io::sink());
                return heard;
            }
        };
        heard.body.resize(wanted, 0);
        stream.read_exact(&mut heard.body).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        heard
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn reply(status: u16, fields: &str) -> String {
    format!("HTTP/1.1 {status} Words\r\nBITS-Packet-Type: Ack\r\n{fields}Content-Length: 0\r\n\r\n")
}

fn ok() -> Step {
    Step::Answer(reply(200, ""))
}

fn created() -> Step {
    Step::Answer(reply(200, "BITS-Session-Id: {S}\r\n"))
}

fn at(status: u16, received: u64) -> Step {
    Step::Answer(reply(
        status,
        &format!("BITS-Received-Content-Range: {received}\r\n"),
    ))
}

fn status(status: u16) -> Step {
    Step::Answer(reply(status, ""))
}

fn not_found() -> Step {
    Step::Answer(reply(
        500,
        "BITS-Error-Code: 0x8020001F\r\nBITS-Error: 0x8020001F\r\n",
    ))
}

fn options() -> Options {
    Options {
        secure: None,
        credentials: None,
        fragment_bytes: 10_240,
        retry_for: BOUND,
        retry_delay: Duration::from_millis(1),
        timeouts: Timeouts {
            connect: BOUND,
            send: BOUND,
            reply: BOUND,
            silence: BOUND,
        },
        first_answer_within: BOUND,
        memory: None,
    }
}

/// A file of so many bytes, each telling its place.
fn file(bytes: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
    let content: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&content).unwrap();
    (file, content)
}

#[test]
fn a_file_arrives_whole_on_one_connection() {
    let (file, content) = file(25_000);
    let steps = vec![
        ok(),
        created(),
        at(200, 10_240),
        at(200, 20_480),
        at(200, 25_000),
        ok(),
    ];
    let server = Server::start(vec![steps]);
    let authority = server.url.authority().to_owned();
    let uploaded = server.upload(file.path(), &options()).unwrap();
    assert_eq!((uploaded.bytes, uploaded.resumes), (25_000, 0));
    let heard = server.heard();
    let body: Vec<u8> = heard
        .iter()
        .flat_map(|packet| packet.body.clone())
        .collect();
    assert_eq!(body, content);
    let summaries: Vec<String> = heard.iter().map(Heard::summary).collect();
    assert_eq!(
        summaries,
        [
            "Ping",
            "Create-Session",
            "Fragment bytes 0-10239/25000",
            "Fragment bytes 10240-20479/25000",
            "Fragment bytes 20480-24999/25000",
            "Close-Session"
        ]
    );
    for packet in &heard {
        assert!(
            packet
                .head
                .starts_with("BITS_POST /in/file.bin HTTP/1.1\r\n"),
            "{}",
            packet.head
        );
        assert_eq!(packet.field("Accept"), Some("*/*"));
        assert_eq!(packet.field("Host"), Some(&*authority));
        assert_eq!(packet.field("Connection"), Some("Keep-Alive"));
        assert!(
            packet
                .field("User-Agent")
                .unwrap()
                .starts_with("bitsd-put/")
        );
    }
    assert_eq!(heard[0].field("BITS-Session-Id"), None);
    assert_eq!(
        heard[1].field("BITS-Supported-Protocols"),
        Some(UPLOAD_PROTOCOL)
    );
    assert_eq!(heard[2].field("BITS-Session-Id"), Some("{S}"));
    assert_eq!(
        heard[2].field("Content-Name"),
        file.path().file_name().unwrap().to_str()
    );
    assert_eq!(heard[5].field("BITS-Session-Id"), Some("{S}"));
}

/// Who answers at `http://127.0.0.1` (a farm's balancer, or whoever has the port) says to which
/// node the upload goes on. `127.2` is 127.0.0.2 for the resolver, and no address of this machine
/// by its text: so it stands for any other machine, and whatever it hears is counted.
#[test]
fn no_password_goes_to_a_machine_that_a_server_names_without_https() {
    let (file, content) = file(100);
    let told = "BITS-Session-Id: {S}\r\nBITS-Host-Id: 127.2\r\n";
    let server = Server::start(vec![
        vec![ok(), Step::Answer(reply(200, told))],
        vec![ok(), at(200, 100), ok()],
    ]);
    let other = TcpListener::bind(("127.0.0.2", server.url.port())).unwrap();
    other.set_nonblocking(true).unwrap();
    let options = Options {
        credentials: Some(Authorization::basic("anna", "sesame").unwrap()),
        ..options()
    };
    server.upload(file.path(), &options).unwrap();
    let heard = server.heard();
    assert_eq!(heard[3].body, content);
    assert!(heard[3].field("Host").unwrap().starts_with("127.2:"));
    let shown = |packet: &&Heard| packet.field("Authorization").is_some();
    assert_eq!(heard.iter().filter(shown).count(), 5);
    let came = other.accept().map(|(_, from)| from);
    assert_eq!(came.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn what_an_earlier_run_left_at_a_named_machine_is_given_up_without_a_password_there() {
    let memory = tempfile::tempdir().unwrap();
    let (file, _) = file(20_000);
    let told = "BITS-Session-Id: {S}\r\nBITS-Host-Id: 127.2\r\n";
    let server = Server::start(vec![
        vec![ok(), Step::Answer(reply(200, told))],
        vec![status(503)],
        vec![ok()],
    ]);
    let other = TcpListener::bind(("127.0.0.2", server.url.port())).unwrap();
    other.set_nonblocking(true).unwrap();
    let options = Options {
        credentials: Some(Authorization::bearer("token").unwrap()),
        memory: Some(Memory::at(memory.path().to_owned())),
        retry_for: Duration::ZERO,
        ..options()
    };
    server.upload(file.path(), &options).unwrap_err();
    assert!(cancel(file.path(), &server.url, &options).unwrap());
    let summaries = server.summaries();
    assert_eq!(
        summaries,
        ["Ping", "Create-Session", "Ping", "Cancel-Session"]
    );
    let came = other.accept().map(|(_, from)| from);
    assert_eq!(came.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_close_that_was_not_answered_is_sent_again_by_the_next_run() {
    let forgotten = "BITS-Error-Code: 0x8020001F\r\n";
    for (bytes, answers, packets) in [
        (100, vec![ok()], "Ping, Close-Session"),
        (0, vec![ok()], "Ping, Close-Session"),
        (
            100,
            vec![
                Step::Answer(reply(500, forgotten)),
                created(),
                at(200, 100),
                ok(),
            ],
            "Ping, Close-Session, Create-Session, Fragment bytes 0-99/100, Close-Session",
        ),
        // It has lost bytes, and says how many it has.
        (
            100,
            vec![status(400), at(416, 60), at(200, 100), ok()],
            "Ping, Close-Session, Fragment bytes 99-99/100, Fragment bytes 60-99/100, Close-Session",
        ),
    ] {
        let memory = tempfile::tempdir().unwrap();
        let (file, _) = file(bytes);
        let sent = at(200, u64::try_from(bytes).unwrap());
        let first = vec![ok(), created(), sent, Step::Cut(0)];
        let again = std::iter::once(ok()).chain(answers).collect();
        let server = Server::start(vec![first, again]);
        let mut options = Options {
            memory: Some(Memory::at(memory.path().to_owned())),
            retry_for: Duration::ZERO,
            ..options()
        };
        let error = server.upload(file.path(), &options).unwrap_err();
        assert!(error.to_string().contains("goes on from there"), "{error}");
        options.retry_for = BOUND;
        server.upload(file.path(), &options).unwrap();
        assert_eq!(std::fs::read_dir(memory.path()).unwrap().count(), 0);
        let summaries = server.summaries();
        assert_eq!(summaries[4..].join(", "), packets);
    }
}

#[test]
fn an_empty_file_arrives_as_one_empty_fragment() {
    let (file, _) = file(0);
    let server = Server::start(vec![vec![ok(), created(), at(200, 0), ok()]]);
    server.upload(file.path(), &options()).unwrap();
    assert_eq!(
        server.summaries(),
        [
            "Ping",
            "Create-Session",
            "Fragment bytes */0",
            "Close-Session"
        ]
    );
}

#[test]
fn fragments_shrink_after_413() {
    let (file, _) = file(6000);
    let steps = vec![
        ok(),
        created(),
        status(413),
        at(200, 5120),
        at(200, 6000),
        ok(),
    ];
    let server = Server::start(vec![steps]);
    server.upload(file.path(), &options()).unwrap();
    assert_eq!(
        server.summaries()[2..5],
        [
            "Fragment bytes 0-5999/6000",
            "Fragment bytes 0-5119/6000",
            "Fragment bytes 5120-5999/6000"
        ]
    );
}

#[test]
fn a_refusal_before_the_body_was_sent_is_heard() {
    let (file, _) = file(32 << 20);
    let refusal = reply(403, "BITS-Error-Code: 0x80070005\r\nConnection: close\r\n");
    let server = Server::start(vec![
        vec![ok(), created(), Step::Early(refusal)],
        vec![ok()],
    ]);
    let options = Options {
        fragment_bytes: 32 << 20,
        ..options()
    };
    let error = server.upload(file.path(), &options).unwrap_err();
    let refused = Refused {
        packet: "Fragment",
        status: 403,
        hresult: Some(0x8007_0005),
        stranger: None,
        reason: None,
    };
    assert!(
        matches!(&error, PutError::Failed(Failure::Refused(heard)) if *heard == refused),
        "{error}"
    );
    assert_eq!(
        server.summaries().last().map(String::as_str),
        Some("Cancel-Session")
    );
}

#[test]
fn a_416_moves_the_upload_forward_and_backward() {
    let (file, content) = file(25_000);
    let steps = vec![
        ok(),
        created(),
        at(416, 8000),
        at(200, 18_240),
        at(416, 20_000),
        at(416, 18_000),
        at(200, 25_000),
        ok(),
    ];
    let server = Server::start(vec![steps]);
    server.upload(file.path(), &options()).unwrap();
    let heard = server.heard();
    assert_eq!(heard[3].summary(), "Fragment bytes 8000-18239/25000");
    assert_eq!(heard[4].summary(), "Fragment bytes 18240-24999/25000");
    assert_eq!(heard[5].summary(), "Fragment bytes 20000-24999/25000");
    assert_eq!(heard[6].summary(), "Fragment bytes 18000-24999/25000");
    assert_eq!(heard[6].body, content[18_000..]);
}

#[test]
fn a_forgotten_session_starts_again_with_create() {
    let (file, _) = file(20_000);
    let steps = vec![
        ok(),
        created(),
        at(200, 10_240),
        not_found(),
        created(),
        at(200, 10_240),
        at(200, 20_000),
        ok(),
    ];
    let server = Server::start(vec![steps]);
    server.upload(file.path(), &options()).unwrap();
    assert_eq!(
        server.summaries()[3..6],
        [
            "Fragment bytes 10240-19999/20000",
            "Create-Session",
            "Fragment bytes 0-10239/20000"
        ]
    );
}

#[test]
fn a_broken_connection_goes_on_from_the_last_acknowledged_offset() {
    let (file, content) = file(20_000);
    let server = Server::start(vec![
        vec![ok(), created(), at(200, 10_240), Step::Cut(100)],
        vec![ok(), at(200, 20_000), ok()],
    ]);
    let uploaded = server.upload(file.path(), &options()).unwrap();
    assert_eq!(uploaded.resumes, 1);
    let heard = server.heard();
    assert_eq!(heard[4].summary(), "Ping");
    assert_eq!(heard[5].summary(), "Fragment bytes 10240-19999/20000");
    assert_eq!(heard[5].body, content[10_240..]);
}

#[test]
fn a_server_that_is_busy_is_asked_again_on_a_new_connection() {
    let (file, _) = file(100);
    let server = Server::start(vec![
        vec![status(503)],
        vec![ok(), status(503)],
        vec![ok(), created(), status(503)],
        vec![ok(), at(200, 100), status(500)],
        vec![ok(), ok()],
    ]);
    let uploaded = server.upload(file.path(), &options()).unwrap();
    assert_eq!(uploaded.resumes, 2);
    assert_eq!(
        server.summaries(),
        [
            "Ping",
            "Ping",
            "Create-Session",
            "Ping",
            "Create-Session",
            "Fragment bytes 0-99/100",
            "Ping",
            "Fragment bytes 0-99/100",
            "Close-Session",
            "Ping",
            "Close-Session"
        ]
    );
}

#[test]
fn connection_close_is_obeyed_without_a_new_ping() {
    let (file, _) = file(100);
    let closing =
        |fields: &str| Step::Answer(reply(200, &format!("{fields}Connection: close\r\n")));
    let server = Server::start(vec![
        vec![closing("")],
        vec![closing("BITS-Session-Id: {S}\r\n")],
        vec![closing("BITS-Received-Content-Range: 100\r\n")],
        vec![closing("")],
    ]);
    let uploaded = server.upload(file.path(), &options()).unwrap();
    assert_eq!(uploaded.resumes, 0);
    assert_eq!(
        server.summaries(),
        [
            "Ping",
            "Create-Session",
            "Fragment bytes 0-99/100",
            "Close-Session"
        ]
    );
}

#[test]
fn a_refused_create_is_final() {
    let (file, _) = file(100);
    let refusal = Step::Answer(reply(403, "BITS-Error: 0x80070005\r\n"));
    let server = Server::start(vec![vec![ok(), refusal]]);
    let error = server
        .upload(file.path(), &options())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("403") && error.contains("access denied"),
        "{error}"
    );
    assert_eq!(server.summaries(), ["Ping", "Create-Session"]);
}

#[test]
fn a_final_refusal_cancels_the_session() {
    let (file, _) = file(100);
    let refusal = Step::Answer(reply(500, "BITS-Error-Code: 0x80200020\r\n"));
    let server = Server::start(vec![vec![ok(), created(), refusal], vec![ok()]]);
    let error = server
        .upload(file.path(), &options())
        .unwrap_err()
        .to_string();
    assert!(error.contains("larger than the server accepts"), "{error}");
    let heard = server.heard();
    assert_eq!(heard[3].summary(), "Cancel-Session");
    assert_eq!(heard[3].field("BITS-Session-Id"), Some("{S}"));
}

#[test]
fn a_close_answered_not_found_starts_over() {
    let (file, _) = file(100);
    let server = Server::start(vec![
        vec![ok(), created(), at(200, 100), Step::Cut(0)],
        vec![ok(), not_found(), created(), at(200, 100), ok()],
    ]);
    server.upload(file.path(), &options()).unwrap();
    assert_eq!(
        server.summaries()[3..],
        [
            "Close-Session",
            "Ping",
            "Close-Session",
            "Create-Session",
            "Fragment bytes 0-99/100",
            "Close-Session"
        ]
    );
}

#[test]
fn interim_replies_and_error_pages_are_skipped() {
    let (file, _) = file(100);
    let interim = Step::Answer(format!("HTTP/1.1 100 Continue\r\n\r\n{}", reply(200, "")));
    let page =
        "HTTP/1.1 200 OK\r\nBITS-Session-Id: {S}\r\nContent-Length: 5\r\n\r\nhello".to_owned();
    let steps = vec![interim, Step::Answer(page), at(200, 100), ok()];
    let server = Server::start(vec![steps]);
    server.upload(file.path(), &options()).unwrap();
    assert_eq!(server.summaries().len(), 4);
}

/// A maintenance page or a login page, in front of a server that is away.
fn page() -> Step {
    Step::Answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned())
}

#[test]
fn a_page_of_somebody_in_between_is_no_ack_and_is_waited_for() {
    let (file, _) = file(100);
    let server = Server::start(vec![
        vec![ok(), page()],
        vec![ok(), created(), page()],
        vec![page(), at(200, 100), page()],
        vec![ok(), ok()],
    ]);
    server.upload(file.path(), &options()).unwrap();
    let fragment = "Fragment bytes 0-99/100";
    let (create, close) = ("Create-Session", "Close-Session");
    assert_eq!(
        server.summaries(),
        [
            "Ping", create, "Ping", create, fragment, "Ping", fragment, close, "Ping", close
        ]
    );
}

#[test]
fn an_upload_is_forgotten_only_when_the_server_has_given_it_up() {
    let memory = tempfile::tempdir().unwrap();
    let (file, _) = file(20_000);
    let server = Server::start(vec![
        vec![ok(), created(), at(200, 10_240), Step::Cut(0)],
        // Who asks has forgotten to say who they are.
        vec![status(401)],
        vec![status(401)],
        vec![ok(), at(416, 10_240), Step::Cut(0)],
        vec![status(503)],
        vec![page()],
        vec![ok()],
    ]);
    let options = Options {
        memory: Some(Memory::at(memory.path().to_owned())),
        retry_for: Duration::ZERO,
        ..options()
    };
    for _ in 0..3 {
        server.upload(file.path(), &options).unwrap_err();
    }
    for _ in 0..2 {
        cancel(file.path(), &server.url, &options).unwrap_err();
    }
    assert!(cancel(file.path(), &server.url, &options).unwrap());
    assert!(!cancel(file.path(), &server.url, &options).unwrap());
    let summaries = server.summaries();
    assert_eq!(
        summaries[4..],
        [
            "Ping",
            "Cancel-Session",
            "Ping",
            "Fragment bytes 19999-19999/20000",
            "Fragment bytes 10240-19999/20000",
            "Cancel-Session",
            "Cancel-Session",
            "Cancel-Session"
        ]
    );
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error_and_the_session_is_cancelled() {
    let (file, _) = file(20_000);
    let path = file.path().to_owned();
    let grow = Box::new(move || {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"more").unwrap();
    });
    let ack = reply(200, "BITS-Received-Content-Range: 10240\r\n");
    let steps = vec![ok(), created(), Step::Meanwhile(grow, ack)];
    let server = Server::start(vec![steps, vec![ok()]]);
    let error = server.upload(file.path(), &options()).unwrap_err();
    assert!(matches!(error, PutError::Changed { .. }), "{error}");
    assert_eq!(
        server.summaries().last().map(String::as_str),
        Some("Cancel-Session")
    );
}

#[test]
fn without_a_server_the_client_gives_up_in_time() {
    let (file, _) = file(1);
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url: Url = format!("http://{address}/a").parse().unwrap();
    let options = Options {
        retry_for: Duration::from_millis(20),
        ..options()
    };
    let error = upload(file.path(), &url, &options, &mut Unwatched).unwrap_err();
    assert!(
        matches!(
            &error,
            PutError::GaveUp {
                last: Hitch::Broken(Broken::Connect(_)),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_not_http_is_not_asked_again() {
    let (file, _) = file(1);
    let server = Server::start(vec![vec![Step::Answer("SSH-2.0-x\r\n".to_owned())]]);
    let error = server.upload(file.path(), &options()).unwrap_err();
    assert!(matches!(error, PutError::NoServer(_)), "{error}");
    server.heard();
}

#[test]
fn only_regular_files_are_uploaded() {
    let url: Url = "http://127.0.0.1:1/a".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = upload(directory.path(), &url, &options(), &mut Unwatched).unwrap_err();
    assert!(matches!(error, PutError::NotAFile { .. }), "{error}");
    let missing = directory.path().join("missing");
    let error = upload(&missing, &url, &options(), &mut Unwatched).unwrap_err();
    assert!(matches!(error, PutError::Open { .. }), "{error}");
}

#[test]
fn a_name_that_no_field_may_hold_is_left_out() {
    for (path, name) in [
        ("a/b c.bin", Some("b c.bin")),
        ("a/b:c", None),
        ("a/ü", None),
        ("a/b\r\nX: y", None),
        ("..", None),
    ] {
        assert_eq!(content_name(Path::new(path)).as_deref(), name, "{path:?}");
    }
}

/// Answers that are none: nothing at all, or one "wait" after another.
#[test]
fn a_server_that_takes_the_connection_and_never_answers_is_given_up_in_time() {
    let (file, _) = file(100);
    let options = Options {
        retry_for: Duration::from_millis(300),
        first_answer_within: Duration::from_millis(300),
        ..options()
    };
    for interim in ["", "HTTP/1.1 102 Processing\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a", listener.local_addr().unwrap());
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            listener.set_nonblocking(true).unwrap();
            let mut open = Vec::new();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                open.extend(listener.accept().map(|(stream, _)| stream));
                open.retain_mut(|stream| stream.write_all(interim.as_bytes()).is_ok());
                std::thread::yield_now();
            }
        });
        let began = Instant::now();
        let error = upload(file.path(), &url.parse().unwrap(), &options, &mut Unwatched);
        let error = error.unwrap_err();
        assert!(matches!(error, PutError::GaveUp { .. }), "{error}");
        assert!(began.elapsed() < BOUND / 2, "{:?}", began.elapsed());
        drop(stop);
        thread.join().unwrap();
    }
}

/// The server answers the Close only after the client has told that it hears nothing.
#[test]
fn a_silence_is_told_of_once_and_borne() {
    struct Ears(std::sync::mpsc::Sender<()>, usize);
    impl Watch for Ears {
        fn hears_nothing(&mut self, _silent: Duration) {
            self.1 += 1;
            self.0.send(()).unwrap();
        }
    }
    let (file, _) = file(100);
    let (tell, told) = std::sync::mpsc::channel();
    let told = move || told.recv_timeout(BOUND).unwrap();
    let steps = vec![
        ok(),
        created(),
        at(200, 100),
        Step::Meanwhile(Box::new(told), reply(200, "")),
    ];
    let server = Server::start(vec![steps]);
    let mut options = options();
    options.timeouts.silence = Duration::from_millis(50);
    let mut ears = Ears(tell, 0);
    upload(file.path(), &server.url, &options, &mut ears).unwrap();
    assert!(ears.1 >= 1);
    assert_eq!(server.summaries().last().unwrap(), "Close-Session");
}

#[test]
fn a_session_is_cancelled_at_the_node_that_has_it() {
    let home = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = home.local_addr().unwrap().port();
    let node = TcpListener::bind(("127.0.0.2", port)).unwrap();
    (socket2::SockRef::from(&node).set_read_timeout(Some(BOUND))).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = node.accept().expect("the client does not come");
        stream.set_read_timeout(Some(BOUND)).unwrap();
        ok().act(&mut stream).summary()
    });
    let url = format!("http://127.0.0.1:{port}/a").parse().unwrap();
    let left = Left {
        session: "{S}".to_owned(),
        node: Some("127.0.0.2".to_owned()),
        is_closing: false,
    };
    cancel_session(&url, &left, &options()).unwrap();
    assert_eq!(thread.join().unwrap(), "Cancel-Session");
    home.set_nonblocking(true).unwrap();
    assert!(home.accept().is_err(), "nobody is asked for it at home");
}
