//! The HTTP client that tells server applications of uploads, alone and over real sockets: what it
//! sends, what it takes for an answer, and that nothing an application does holds it longer than
//! its time (protocol.md 9.9).

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bitsd::bits::notification::Answer;
use bitsd::config::{Notification, NotificationType};
use bitsd::notify::{Bounds, Delivery, Desk, Notifier};
use bitsd::server::floor::{NotifyError, Order};
use bitsd::vault::disk::Shelf;
use socket2::SockRef;
use support::PATIENCE;
use support::backend::{Act, Backend};
use support::program::free_address;
use tempfile::TempDir;
use tokio::sync::oneshot::Receiver;

use NotificationType::{ByReference, ByValue};

/// Short enough for tests, and long enough for what has to happen within it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than that a client may hear of it.
const LATENESS_MAX: Duration = Duration::from_secs(10);
const BOUNDS: Bounds = Bounds {
    in_flight_max: 64,
    bytes_max: u64::MAX,
};
/// More than the socket buffers of both sides hold.
const LARGE: u64 = 64 << 20;

/// A work directory and the client that works on it.
struct Work {
    folder: TempDir,
    notifier: Notifier,
}

impl Work {
    /// With an upload of these bytes.
    fn new(upload: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ID.part"), upload).unwrap();
        // Retries do not wait for real.
        let notifier = Notifier::with_pause(BOUNDS, Duration::from_millis(1));
        Self { folder, notifier }
    }

    /// With an upload of so many zeros.
    fn sparse(bytes: u64) -> Self {
        let work = Self::new(b"");
        let part = fs::File::create(work.part()).unwrap();
        part.set_len(bytes).unwrap();
        work
    }

    fn desk(&self) -> Desk {
        desk(self.folder.path())
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("ID.part")
    }

    fn reply(&self) -> PathBuf {
        self.folder.path().join("ID.reply")
    }

    fn has_reply(&self) -> bool {
        fs::symlink_metadata(self.reply()).is_ok()
    }

    #[track_caller]
    fn deliver(&self, order: Order) -> Delivery {
        outcome(self.notifier.deliver(order, self.desk()))
    }
}

fn desk(path: &Path) -> Desk {
    let folder = fs::File::open(path).unwrap();
    Desk::new(Arc::new(folder.into()), path)
}

#[track_caller]
fn outcome(receiver: Receiver<Delivery>) -> Delivery {
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || sender.send(receiver.blocking_recv()));
    let outcome = outcome.recv_timeout(PATIENCE);
    outcome.expect("an outcome in time").expect("an outcome")
}

fn order(kind: NotificationType, url: String) -> Order {
    Order {
        id: "ID".to_owned(),
        url,
        upload_url: "http://host/a.bin".to_owned(),
        shelf: Shelf::WORK,
        part: "ID.part".to_owned(),
        reply: "ID.reply".to_owned(),
        location: String::new(),
        bytes: 0,
        user: None,
        proof: None,
        sha256: None,
        settings: Notification {
            kind,
            url: String::new(),
            timeout: PATIENCE,
            retries: 0,
            secret: None,
            in_flight_max: 8,
            reply_bytes_max: 2 * LARGE,
        },
    }
}

fn hurried(kind: NotificationType, url: String) -> Order {
    let mut order = order(kind, url);
    order.settings.timeout = TIMEOUT;
    order
}

/// A peer on one connection, for what is not HTTP; gives its URL. It ends with what it is told to
/// say.
fn peer(scheme: &str, talk: impl FnOnce(&mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        talk(&mut stream);
    });
    format!("{scheme}://{address}/")
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

/// Says this to a request without a body, and ends the connection as it should be ended.
fn says(words: &'static [u8]) -> String {
    peer("http", |stream| {
        read_head(stream);
        stream.write_all(words).unwrap();
    })
}

/// Says this, and breaks the connection.
fn says_and_breaks(words: &'static [u8]) -> String {
    peer("http", |stream| {
        read_head(stream);
        stream.write_all(words).unwrap();
        SockRef::from(&*stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    })
}

/// Until the other side is gone.
fn wait_for_the_end(stream: &mut TcpStream) {
    let _ended = stream.read_to_end(&mut Vec::new());
}

/// Asserts that this takes its time and no longer, and leaves nothing.
#[track_caller]
fn assert_timed_out(work: &Work, order: Order) {
    let began = Instant::now();
    let outcome = work.deliver(order);
    let took = began.elapsed();
    assert!(
        matches!(outcome, Err(NotifyError::TimedOut)),
        "{outcome:?} after {took:?}"
    );
    assert!(took >= TIMEOUT, "{took:?}");
    assert!(took < TIMEOUT + LATENESS_MAX, "{took:?}");
    assert!(!work.has_reply());
}

// -- request and answer

#[test]
fn large_files_go_both_ways_as_they_are() {
    let bytes = usize::try_from(LARGE).unwrap();
    let upload: Vec<u8> = (0..bytes).map(|at| (at >> 7).to_le_bytes()[0]).collect();
    let reply: Vec<u8> = (0..bytes + 1)
        .map(|at| (at >> 9).to_le_bytes()[0])
        .collect();
    let backend = Backend::always(Act::body(&reply));
    let work = Work::new(&upload);
    let answer = work.deliver(order(ByValue, backend.url("/"))).unwrap();
    assert!(answer.has_reply);
    let heard = &backend.heard()[0];
    assert_eq!(
        heard.field("Content-Length"),
        Some(&*upload.len().to_string())
    );
    assert_eq!(heard.field("Transfer-Encoding"), None);
    assert!(heard.body == upload);
    assert!(fs::read(work.reply()).unwrap() == reply);
    let mode = fs::metadata(work.reply()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_whole_reply_is_saved_however_it_is_framed() {
    for words in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nre\r\n3\r\nply\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nreply",
        b"HTTP/1.0 200 OK\r\n\r\nreply",
        // Asked for by nobody, and not to be read as the answer.
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nBITS-Copy-File-To-Destination: 1\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply",
        // Some say who they are beside it (RFC 9110 15.2).
        b"HTTP/1.1 100 Continue\r\nServer: x\r\n\r\nHTTP/1.1 100\r\nA: b\r\n c\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply",
        // Folded (RFC 9112 5.2).
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length:\r\n\t5\r\n\r\nreply",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 5\r\n\r\nreply",
    ] {
        let work = Work::new(b"");
        let answer = work.deliver(order(ByValue, says(words)));
        let expected = Answer {
            status: 200,
            static_url: None,
            copies: false,
            has_reply: true,
        };
        let words = String::from_utf8_lossy(words);
        assert_eq!(answer.unwrap(), expected, "{words}");
        assert_eq!(fs::read(work.reply()).unwrap(), b"reply", "{words}");
    }
}

/// It would be served without the name of its coding.
#[test]
fn a_reply_in_a_coding_that_was_not_asked_for_is_none() {
    for words in [
        &b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nreply"[..],
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity, br\r\nContent-Length: 5\r\n\r\nreply",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\nreply",
    ] {
        let work = Work::new(b"");
        let outcome = work.deliver(order(ByValue, says(words)));
        assert!(
            matches!(&outcome, Err(NotifyError::Malformed(why)) if why.contains("is coded")),
            "{}: {outcome:?}",
            String::from_utf8_lossy(words)
        );
        assert!(!work.reply().exists());
    }
    // There is nothing that could be coded.
    let empty = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
    let answer = Work::new(b"").deliver(order(ByValue, says(empty)));
    assert!(!answer.unwrap().has_reply);
}

#[test]
fn a_reply_that_is_cut_short_is_none() {
    for url in [
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nreply"),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nreply\r\n"),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nreply"),
        says_and_breaks(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nreply"),
        // Only the way it ended says that there was more (RFC 9112 8).
        says_and_breaks(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nreply"),
        says_and_breaks(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
    ] {
        let work = Work::new(b"");
        let outcome = work.deliver(order(ByValue, url));
        assert!(
            matches!(outcome, Err(NotifyError::Unreachable(_))),
            "{outcome:?}"
        );
        assert!(!work.has_reply());
    }
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    for words in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nreply"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nreply\r\n",
        b"HTTP/1.1 100 Continue\r\nno field\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nno field\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo field\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    ] {
        let work = Work::new(b"");
        let outcome = work.deliver(order(ByValue, says(words)));
        let words = String::from_utf8_lossy(words);
        assert!(
            matches!(outcome, Err(NotifyError::Malformed(_))),
            "{words}: {outcome:?}"
        );
        assert!(!work.has_reply());
    }
    // Interim answers without end do end.
    let url = peer("http", |stream| {
        read_head(stream);
        let interim = format!(
            "HTTP/1.1 102 Processing\r\nA: {}\r\n\r\n",
            "b".repeat(50_000)
        );
        while stream.write_all(interim.as_bytes()).is_ok() {}
    });
    let outcome = Work::new(b"").deliver(order(ByValue, url));
    assert!(
        matches!(&outcome, Err(NotifyError::Malformed(why)) if why.contains("interim")),
        "{outcome:?}"
    );
    // An endless head ends.
    let url = peer("http", |stream| {
        read_head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"Field: value\r\n").is_ok() {}
    });
    let outcome = Work::new(b"").deliver(order(ByValue, url));
    assert!(
        matches!(outcome, Err(NotifyError::Malformed(_))),
        "{outcome:?}"
    );
}

/// Interim answers come in pieces too, and before all of the file is sent.
#[test]
fn what_comes_in_pieces_is_read_as_if_it_came_at_once() {
    let url = peer("http", |stream| {
        read_head(stream);
        let words = b"HTTP/1.1 100 Continue\r\nServer: x\r\n\r\n";
        stream.write_all(words).unwrap();
        let mut left = LARGE;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            left -= stream.read(&mut piece).unwrap() as u64;
        }
        let words = b"HTTP/1.1 102 P\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\nreply";
        for byte in words {
            stream.write_all(&[*byte]).unwrap();
            thread::yield_now();
        }
    });
    let work = Work::sparse(LARGE);
    let answer = work.deliver(order(ByValue, url)).unwrap();
    assert_eq!((answer.status, answer.has_reply), (200, true));
    assert_eq!(fs::read(work.reply()).unwrap(), b"reply");
}

/// RFC 9112 9.5. What of the file nobody wants is not sent.
#[test]
fn who_refuses_the_file_before_it_is_there_is_heard() {
    const WORDS: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    type Talk = fn(&mut TcpStream);
    let talks: [(&str, Talk); 4] = [
        ("closes", |stream| stream.write_all(WORDS).unwrap()),
        ("reads no more", |stream| {
            stream.write_all(WORDS).unwrap();
            while stream.peek(&mut [0]).is_ok_and(|read| read > 0) {
                thread::park_timeout(Duration::from_millis(10));
            }
        }),
        ("ends its side", |stream| {
            stream.write_all(WORDS).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            wait_for_the_end(stream);
        }),
        ("says something before", |stream| {
            stream.write_all(b"HTTP/1.1 100 C\r\nA: b\r\n\r\n").unwrap();
            thread::park_timeout(Duration::from_millis(200));
            stream.write_all(WORDS).unwrap();
        }),
    ];
    for (how, talk) in talks {
        for bytes in [100_000, 1_000_000, LARGE] {
            let url = peer("http", move |stream| {
                read_head(stream);
                talk(stream);
            });
            let outcome = Work::sparse(bytes).deliver(order(ByValue, url));
            let answer = outcome.unwrap_or_else(|error| panic!("{how}: {bytes}: {error}"));
            assert_eq!(answer.status, 403, "{how}: {bytes}");
        }
    }
}

#[test]
fn who_takes_a_file_that_it_has_not_seen_is_not_believed() {
    for words in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
        // Half a head, or none, is no answer.
        b"HTTP/1.1 403 Forbidden\r\nContent-Le",
        b"HTTP/1.1 403 Forbidden\r\nno field\r\n\r\n",
    ] {
        let work = Work::sparse(LARGE);
        let outcome = work.deliver(order(ByValue, says(words)));
        assert!(
            matches!(outcome, Err(NotifyError::Unreachable(_))),
            "{}: {outcome:?}",
            String::from_utf8_lossy(words)
        );
        assert!(!work.has_reply());
    }
    // Who reads all the same has.
    let url = peer("http", |stream| {
        read_head(stream);
        let words = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        stream.write_all(words).unwrap();
        let mut left = LARGE;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            left -= stream.read(&mut piece).unwrap() as u64;
        }
        stream.write_all(b"reply").unwrap();
    });
    let work = Work::sparse(LARGE);
    assert!(work.deliver(order(ByValue, url)).unwrap().has_reply);
}

#[test]
fn redirects_are_answers() {
    let elsewhere = Backend::always(Act::status(200));
    let location = format!("Location: {}\r\n", elsewhere.url("/"));
    for status in [301, 302, 303, 307, 308] {
        let backend = Backend::always(Act::Answer(status, location.clone(), b"see there".to_vec()));
        for kind in [ByValue, ByReference] {
            let work = Work::new(b"upload");
            let answer = work.deliver(order(kind, backend.url("/"))).unwrap();
            assert_eq!((answer.status, answer.has_reply), (status, false));
            assert!(!work.has_reply(), "only 200 has a reply");
        }
    }
    assert_eq!(elsewhere.heard().len(), 0);
}

#[test]
fn a_path_that_no_field_can_hold_is_not_sent() {
    let backend = Backend::always(Act::status(200));
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsString::from_vec(b"a\r\nBITS-Notification-Id: forged".to_vec());
    let work_dir = folder.path().join(name);
    fs::create_dir(&work_dir).unwrap();
    fs::write(work_dir.join("ID.part"), "upload").unwrap();
    let notifier = Notifier::new(BOUNDS);
    let refused = outcome(notifier.deliver(order(ByReference, backend.url("/")), desk(&work_dir)));
    assert!(
        matches!(refused, Err(NotifyError::Malformed(_))),
        "{refused:?}"
    );
    assert_eq!(backend.heard().len(), 0);
    // By value nobody is told of the path.
    let told = outcome(notifier.deliver(order(ByValue, backend.url("/")), desk(&work_dir)));
    assert_eq!(told.unwrap().status, 200);
}

#[test]
fn a_file_that_is_not_there_is_our_own_fault() {
    let backend = Backend::always(Act::status(200));
    let work = Work::new(b"");
    fs::remove_file(work.part()).unwrap();
    let outcome = work.deliver(order(ByValue, backend.url("/")));
    assert!(matches!(outcome, Err(NotifyError::Disk(_))), "{outcome:?}");
    assert_eq!(backend.heard().len(), 0);
}

// -- the reply's place

#[test]
fn what_stood_in_the_place_of_the_reply_is_gone_before_the_application_hears() {
    for kind in [ByValue, ByReference] {
        let work = Work::new(b"");
        let precious = work.folder.path().join("precious");
        fs::write(&precious, "foreign").unwrap();
        symlink(&precious, work.reply()).unwrap();
        let place = work.reply();
        let backend = Backend::start(move |_, _| {
            assert!(fs::symlink_metadata(&place).is_err());
            Act::status(200)
        });
        let answer = work.deliver(order(kind, backend.url("/"))).unwrap();
        assert!(!answer.has_reply);
        assert_eq!(fs::read(&precious).unwrap(), b"foreign");
    }
}

#[test]
fn by_reference_only_a_file_is_a_reply() {
    let work = Work::new(b"");
    let place = work.reply();
    let backend = Backend::start(move |heard, number| {
        assert_eq!(
            heard.field("BITS-Response-DataFile-Name"),
            Some(place.to_str().unwrap())
        );
        match number {
            0 => Act::WriteReply(b"reply".to_vec()),
            1 => Act::WriteReply(Vec::new()),
            2 => {
                symlink("/etc/hostname", &place).unwrap();
                Act::status(200)
            }
            3 | 4 => {
                fs::create_dir(&place).unwrap();
                if number == 4 {
                    fs::write(place.join("theirs"), "reply").unwrap();
                }
                Act::status(200)
            }
            // What it writes and then takes back by its status.
            _ => {
                fs::write(&place, "reply").unwrap();
                Act::status(500)
            }
        }
    });
    for expected in [
        Some((200, true)),
        Some((200, true)),
        None,
        None,
        None,
        Some((500, false)),
    ] {
        let answer = work.deliver(order(ByReference, backend.url("/")));
        match (answer, expected) {
            (Ok(answer), Some(expected)) => {
                assert_eq!((answer.status, answer.has_reply), expected);
                assert_eq!(work.has_reply(), expected.1);
            }
            // It is not passed over in silence.
            (Err(NotifyError::Malformed(why)), None) => {
                assert!(why.contains("no file"), "{why}");
                assert!(!work.has_reply());
            }
            (answer, _) => panic!("{answer:?}"),
        }
    }
}

#[test]
fn a_reply_may_be_as_large_as_its_limit() {
    for (bytes, is_good) in [(1_000, true), (1_001, false)] {
        let reply = vec![7; bytes];
        for (kind, act) in [
            (ByValue, Act::body(&reply)),
            (ByReference, Act::WriteReply(reply.clone())),
        ] {
            let backend = Backend::always(act);
            let work = Work::new(b"");
            let mut order = order(kind, backend.url("/"));
            order.settings.reply_bytes_max = 1_000;
            // A larger one is not asked for again: it would be as large.
            order.settings.retries = 3;
            let outcome = work.deliver(order);
            assert_eq!(outcome.is_ok(), is_good, "{outcome:?}");
            assert!(
                is_good || matches!(outcome, Err(NotifyError::ReplyTooLarge { limit: 1_000 })),
                "{outcome:?}"
            );
            assert_eq!(work.has_reply(), is_good);
            assert_eq!(backend.heard().len(), 1);
        }
    }
    // One without end, too.
    let url = peer("http", |stream| {
        read_head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[7; 1_000]).is_ok() {}
    });
    let work = Work::new(b"");
    let mut order = order(ByValue, url);
    order.settings.reply_bytes_max = 100_000;
    let outcome = work.deliver(order);
    assert!(
        matches!(outcome, Err(NotifyError::ReplyTooLarge { limit: 100_000 })),
        "{outcome:?}"
    );
    assert!(!work.has_reply());
}

// -- time

#[test]
fn silence_ends_with_the_time() {
    for kind in [ByValue, ByReference] {
        let backend = Backend::always(Act::Hang);
        let work = Work::new(b"upload");
        let mut order = hurried(kind, backend.url("/"));
        // There is no time left for another attempt.
        order.settings.retries = 10;
        assert_timed_out(&work, order);
        assert_eq!(backend.heard().len(), 1);
    }
}

#[test]
fn silence_instead_of_tls_ends_with_the_time() {
    let url = peer("https", wait_for_the_end);
    assert_timed_out(&Work::new(b""), hurried(ByReference, url));
}

#[test]
fn a_head_that_trickles_ends_with_the_time() {
    let url = peer("http", |stream| {
        read_head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nField: ");
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(50));
        }
    });
    assert_timed_out(&Work::new(b""), hurried(ByReference, url));
}

#[test]
fn a_reply_that_trickles_ends_with_the_time() {
    let url = peer("http", |stream| {
        read_head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(50));
        }
    });
    let work = Work::new(b"");
    assert_timed_out(&work, hurried(ByValue, url));
}

#[test]
fn an_application_that_does_not_take_the_file_is_given_up_with_the_time() {
    let url = peer("http", |stream| {
        read_head(stream);
        // It reads no more; the connection stays until the test ends.
        thread::park_timeout(2 * PATIENCE);
        drop(stream.shutdown(std::net::Shutdown::Both));
    });
    assert_timed_out(&Work::sparse(LARGE), hurried(ByValue, url));
}

#[test]
fn an_application_that_takes_the_file_too_slowly_is_given_up_with_the_time() {
    let url = peer("http", |stream| {
        read_head(stream);
        // Little enough on its way that each write is done in parts, of which each could take the
        // whole time.
        SockRef::from(&*stream)
            .set_recv_buffer_size(16 << 10)
            .unwrap();
        let mut piece = [0; 4 << 10];
        while matches!(stream.read(&mut piece), Ok(1..)) {
            thread::park_timeout(Duration::from_millis(100));
        }
    });
    assert_timed_out(&Work::sparse(LARGE), hurried(ByValue, url));
}

#[test]
fn a_file_written_by_reference_in_vain_is_removed_with_the_time() {
    let work = Work::new(b"");
    let place = work.reply();
    let backend = Backend::start(move |_, _| {
        fs::write(&place, "reply").unwrap();
        Act::Hang
    });
    assert_timed_out(&work, hurried(ByReference, backend.url("/")));
}

// -- retries

#[test]
fn only_what_may_pass_is_tried_again() {
    for (status, attempts) in [
        (200, 1),
        (301, 1),
        (400, 1),
        (403, 1),
        (404, 1),
        (408, 4),
        (429, 4),
        (500, 4),
        (501, 1),
        (502, 4),
        (503, 4),
        (505, 1),
        (599, 4),
    ] {
        let backend = Backend::always(Act::status(status));
        let mut order = order(ByReference, backend.url("/"));
        order.settings.retries = 3;
        let answer = Work::new(b"").deliver(order).unwrap();
        assert_eq!(answer.status, status);
        let heard = backend.heard();
        assert_eq!(heard.len(), attempts, "{status}");
        let is_same = |id| id == Some("ID");
        assert!(
            heard
                .iter()
                .all(|heard| is_same(heard.field("BITS-Notification-Id")))
        );
    }
}

#[test]
fn a_broken_connection_is_tried_again_and_its_half_reply_is_gone() {
    let work = Work::new(b"upload");
    let place = work.reply();
    let backend = Backend::start(move |heard, number| {
        assert_eq!(heard.body, b"upload");
        assert!(fs::symlink_metadata(&place).is_err());
        match number {
            0 => Act::CloseAtOnce,
            1 => Act::CloseInBody(vec![1; 1_000_000]),
            2 => Act::Answer(503, String::new(), b"busy".to_vec()),
            _ => Act::body(b"whole"),
        }
    });
    let mut order = order(ByValue, backend.url("/"));
    order.settings.retries = 3;
    let answer = work.deliver(order).unwrap();
    assert_eq!((answer.status, answer.has_reply), (200, true));
    assert_eq!(fs::read(work.reply()).unwrap(), b"whole");
    assert_eq!(backend.heard().len(), 4);
}

#[test]
fn nobody_there_is_tried_as_often_as_may_be() {
    let nobody = free_address();
    let mut order = order(ByReference, format!("http://{nobody}/"));
    order.settings.retries = 10;
    let began = Instant::now();
    let outcome = Work::new(b"").deliver(order);
    assert!(
        matches!(outcome, Err(NotifyError::Unreachable(_))),
        "{outcome:?}"
    );
    // Ten pauses, the first of 1 ms, each twice as long as the one before.
    assert!(began.elapsed() >= Duration::from_millis(1_023));
}

#[test]
fn no_pause_reaches_beyond_the_time() {
    let backend = Backend::always(Act::status(503));
    let work = Work::new(b"");
    const TIME: Duration = Duration::from_secs(10);
    let notifier = Notifier::with_pause(BOUNDS, TIME);
    let mut order = order(ByReference, backend.url("/"));
    order.settings.timeout = TIME;
    order.settings.retries = 10;
    let began = Instant::now();
    let answer = outcome(notifier.deliver(order, work.desk())).unwrap();
    assert_eq!(answer.status, 503, "what was said, not that time is up");
    assert!(began.elapsed() < TIME);
    assert_eq!(backend.heard().len(), 11, "the time is enough for all");
}

// -- in flight

#[test]
fn each_location_has_its_own_share_in_flight() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let slow = Backend::start(move |_, _| {
        let _ = gate.lock().unwrap().recv();
        Act::status(200)
    });
    let quick = Backend::always(Act::status(200));
    let work = Work::new(b"");
    let of = |location: &str, backend: &Backend| {
        let mut order = order(ByReference, backend.url("/"));
        order.location = location.to_owned();
        order.settings.in_flight_max = 2;
        order
    };
    let waiting = [
        work.notifier.deliver(of("slow", &slow), work.desk()),
        work.notifier.deliver(of("slow", &slow), work.desk()),
    ];
    slow.wait_for(2);
    let busy = work.deliver(of("slow", &slow));
    assert!(matches!(busy, Err(NotifyError::Busy)), "{busy:?}");
    assert_eq!(
        work.deliver(of("quick", &quick)).unwrap().status,
        200,
        "another location"
    );
    drop(go);
    for waiting in waiting {
        assert_eq!(outcome(waiting).unwrap().status, 200);
    }
    // Their places are free when they are heard of.
    assert_eq!(work.deliver(of("slow", &slow)).unwrap().status, 200);
    assert_eq!(slow.heard().len(), 3);
}

#[test]
fn an_order_that_nobody_waits_for_gives_its_place_back() {
    let backend = Backend::always(Act::status(200));
    let work = Work::new(b"");
    let order = || {
        let mut order = order(ByReference, backend.url("/"));
        order.settings.in_flight_max = 1;
        order
    };
    drop(work.notifier.deliver(order(), work.desk()));
    support::wait_until("the place is free", || {
        !matches!(work.deliver(order()), Err(NotifyError::Busy))
    });
}
