//! What a location lets be read by GET and HEAD of what was uploaded: `download` in the settings.

mod support;

use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode};

use support::client::{Client, fragment, upload};
use support::content::content;
use support::program::Program;
use support::raw::{Raw, Response};
use support::server::{Server, Settings};
use support::tls::Authority;

/// More than a body block and no multiple of anything.
const BYTES: u64 = 3_000_001;

#[track_caller]
fn server(lines: &str) -> Server {
    Server::with(Settings::default().file(lines))
}

#[track_caller]
fn ask(raw: &mut Raw, method: &str, target: &str, fields: &str) -> Response {
    raw.send(format!(
        "{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"
    ));
    match method {
        "HEAD" => raw.receive_head(),
        _ => raw.receive(),
    }
}

/// The forensic collector: it asks whether its archive is there, and how large, before it collects
/// anew.
#[test]
fn head_tells_that_a_file_is_there_and_how_large() {
    let server =
        server("allow_overwrite = true\n[[location]]\nprefix = \"orc\"\ndownload = \"head\"");
    std::fs::create_dir(server.file("orc")).unwrap();
    let mut raw = server.connect();
    assert_eq!(ask(&mut raw, "HEAD", "/orc/ORC_pc1.7z", "").status, 404);
    let mut client = Client::create(server.address(), "/orc/ORC_pc1.7z");
    client.send(fragment(0..500)).assert(200, None);
    let unfinished = ask(&mut raw, "HEAD", "/orc/ORC_pc1.7z", "");
    assert_eq!(unfinished.status, 404, "it is not published");
    client.close().assert(200, None);
    let answer = ask(&mut raw, "HEAD", "/orc//ORC_pc1.7z?x", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.field("Content-Length"), Some("500"));
    assert!(answer.field("Last-Modified").unwrap().ends_with(" GMT"));
    let etag = answer.field("ETag").unwrap().to_owned();
    let same = ask(
        &mut raw,
        "HEAD",
        "/orc/ORC_pc1.7z",
        &format!("If-None-Match: {etag}\r\n"),
    );
    assert_eq!(same.status, 304);
    upload(&server, "/orc/ORC_pc1.7z", 600);
    let newer = ask(
        &mut raw,
        "HEAD",
        "/orc/ORC_pc1.7z",
        &format!("If-None-Match: {etag}\r\n"),
    );
    assert_eq!(
        (newer.status, newer.field("Content-Length")),
        (200, Some("600"))
    );
    let get = ask(&mut raw, "GET", "/orc/ORC_pc1.7z", "");
    assert_eq!(
        (get.status, get.field("Allow")),
        (405, Some("HEAD, BITS_POST"))
    );
    assert_eq!(
        get.reason(),
        "of the files here only size and time are told, by HEAD"
    );
    let delete = ask(&mut raw, "DELETE", "/orc/ORC_pc1.7z", "");
    assert_eq!(
        (delete.status, delete.field("Allow")),
        (405, Some("HEAD, BITS_POST"))
    );
    // Beside the location nothing is told.
    upload(&server, "/b.bin", 5);
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&mut raw, method, "/b.bin", "").status, 404);
    }
}

/// RFC 9110 15.5.6: all methods that the target supports, and no others.
#[test]
fn allow_names_what_may_be_asked_there() {
    let settings = "[[location]]\nprefix = \"get\"\ndownload = \"get\"
[[location]]\nprefix = \"read\"\ndownload = \"get\"\nenabled = false
[[location]]\nprefix = \"off\"\nenabled = false";
    let server = server(settings);
    let mut raw = server.connect();
    for (path, allow) in [
        ("/a.bin", "BITS_POST"),
        ("/", "BITS_POST"),
        ("/get/a.bin", "GET, HEAD, BITS_POST"),
        ("/read/a.bin", "GET, HEAD"),
        ("/off/a.bin", ""),
    ] {
        let answer = ask(&mut raw, "OPTIONS", path, "");
        assert_eq!((answer.status, answer.field("Allow")), (405, Some(allow)));
        // Nor do the words promise what is refused.
        let is_promised = answer.reason().contains("taken by BITS_POST");
        assert_eq!(is_promised, allow.contains("BITS_POST"), "{path}");
    }
}

#[test]
fn get_gives_bytes_whole_and_in_ranges() {
    let server = server("download = \"get\"");
    upload(&server, "/a%20b.bin", BYTES);
    let file = content(1, 0, BYTES);
    let mut raw = server.connect();
    let whole = ask(&mut raw, "GET", "/a%20b.bin", "");
    assert_eq!(
        (whole.status, whole.field("Accept-Ranges")),
        (200, Some("bytes"))
    );
    assert!(whole.body == file);
    let etag = whole.field("ETag").unwrap().to_owned();
    let fields = format!("Range: bytes=1000-2999999\r\nIf-Range: {etag}\r\n");
    let part = ask(&mut raw, "GET", "/a%20b.bin", &fields);
    assert_eq!(
        part.field("Content-Range"),
        Some("bytes 1000-2999999/3000001")
    );
    assert!(part.status == 206 && part.body == file[1_000..3_000_000]);
    let none = ask(&mut raw, "GET", "/a%20b.bin", "Range: bytes=3000001-\r\n");
    assert_eq!(none.status, 416);
    assert_eq!(
        none.reason(),
        "the file has none of the bytes that were asked for"
    );
    // It has them, and they are refused.
    let many = format!("Range: bytes={}\r\n", ["0-0"; 300].join(","));
    for excess in ["Range: bytes=0-,0-,0-,0-\r\n", &many] {
        let answer = ask(&mut raw, "GET", "/a%20b.bin", excess);
        assert_eq!(answer.status, 416);
        assert_eq!(
            answer.reason(),
            "more than 64 ranges are asked for, or more than twice the whole file"
        );
    }
    let changed = ask(&mut raw, "GET", "/a%20b.bin", "If-Match: \"x\"\r\n");
    assert_eq!(changed.status, 412);
    let head = ask(&mut raw, "HEAD", "/a%20b.bin", "");
    assert_eq!(
        (head.status, head.field("Content-Length")),
        (200, Some("3000001"))
    );
    // And again on the same connection, an upload.
    upload(&server, "/c.bin", 5);
    assert_eq!(ask(&mut raw, "GET", "/c.bin", "").body, content(1, 0, 5));
}

/// Somewhere on the way to a client it is narrow for a while: bytes that come from the server go on
/// in small pieces.
fn narrow(server: SocketAddr, time: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let (mut asks, mut hears) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut asks, &mut hears));
        let began = Instant::now();
        let mut piece = [0; 16 << 10];
        while began.elapsed() < time {
            let Ok(read @ 1..) = server.read(&mut piece) else {
                return;
            };
            client.write_all(&piece[..read]).unwrap();
            thread::park_timeout(Duration::from_millis(50));
        }
        let _ = io::copy(&mut server, &mut client);
    });
    address
}

/// Linux wakes a send only when a third of the socket's buffer is free. That is more than a
/// megabyte, for which such a reader needs twice the stall time-out.
#[test]
fn whoever_reads_slowly_but_steadily_gets_the_whole_file() {
    let authority = Authority::new();
    let pair = authority.server("server", &["localhost"]);
    let settings = Settings::default()
        .file("download = \"get\"\nlimits.body_stall_ms_max = 2000")
        .file("[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true")
        .file(&pair.table());
    let server = Server::with(settings);
    upload(&server, "/a.bin", 24 << 20);
    let ask = |mut raw: Raw| {
        let answer = ask(&mut raw, "GET", "/a.bin", "");
        assert!(answer.status == 200 && answer.body == content(1, 0, 24 << 20));
    };
    let time = Duration::from_secs(8);
    thread::scope(|scope| {
        scope.spawn(|| ask(Raw::connect(narrow(server.address(), time))));
        let trust = authority.trusting();
        ask(Raw::secure(narrow(server.secure(), time), &trust));
    });
}

#[test]
fn what_is_no_published_file_cannot_be_read() {
    let server = server("download = \"get\"\ncreate_dirs = true");
    upload(&server, "/in/a.bin", 5);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), server.file("out")).unwrap();
    symlink(outside.path().join("secret"), server.file("secret")).unwrap();
    symlink(server.file(".bitsd"), server.file("work")).unwrap();
    symlink(".bitsd", server.file("near")).unwrap();
    symlink("a.bin", server.file("in/link")).unwrap();
    symlink("in", server.file("inside")).unwrap();
    symlink("nowhere", server.file("dangling")).unwrap();
    let pipe = Command::new("mkfifo").arg(server.file("pipe")).status();
    assert!(pipe.unwrap().success());
    let mut client = Client::create(server.address(), "/b.bin");
    client.send(fragment(0..5)).assert(200, None);
    let part = format!("{}.part", client.session().trim_matches(['{', '}']));
    assert!(server.file(&format!(".bitsd/{part}")).exists());
    symlink(format!(".bitsd/{part}"), server.file("part")).unwrap();
    let mut raw = server.connect();
    for target in [
        "/",
        "/in",
        "/in/",
        "/b.bin",
        "/missing",
        "/missing/a",
        "/in/a.bin/x",
        "/out/secret",
        "/secret",
        &format!("/.bitsd/{part}"),
        &format!("/work/{part}"),
        &format!("/near/{part}"),
        "/near/lock",
        "/part",
        "/in/link",
        "/dangling",
        "/pipe",
        "/in/../../x",
        "/in%2fa.bin",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(&mut raw, method, target, "");
            assert_eq!(answer.status, 404, "{method} {target}: {answer:?}");
        }
    }
    // A link inside the root is a way to a folder, as it is for uploads.
    assert_eq!(
        ask(&mut raw, "GET", "/inside/a.bin", "").body,
        content(1, 0, 5)
    );
    // With a body it is no request of ours.
    let odd = ask(&mut raw, "GET", "/in/a.bin", "Content-Length: 1\r\n");
    assert_eq!(odd.status, 404);
}

/// Goal: no request opens what is no file: whoever waits at the other end of a pipe would go on.
/// Method: the kernel tells what is opened in the folder, also of the file that is asked for last.
#[test]
fn what_is_no_file_is_not_opened() {
    let server = server("download = \"get\"");
    upload(&server, "/a.bin", 5);
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(CWD, server.file("pipe"), FileType::Fifo, mode, 0).unwrap();
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, server.root(), WatchFlags::OPEN).unwrap();
    let mut raw = server.connect();
    for method in ["GET", "HEAD"] {
        assert_eq!(ask(&mut raw, method, "/pipe", "").status, 404, "{method}");
    }
    assert_eq!(ask(&mut raw, "GET", "/a.bin", "").status, 200);
    let mut buffer = [MaybeUninit::uninit(); 4_096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut opened = Vec::new();
    while let Ok(event) = events.next() {
        opened.extend(
            event
                .file_name()
                .map(|name| name.to_str().unwrap().to_owned()),
        );
    }
    assert!(opened.iter().any(|name| name == "a.bin"), "{opened:?}");
    assert!(!opened.iter().any(|name| name == "pipe"), "{opened:?}");
}

/// A file server (Samba, knfsd) has a lease on a file: that has nothing to do with memory.
#[test]
fn a_file_that_somebody_has_a_lease_on_is_told_as_that() {
    let server = server("download = \"get\"");
    upload(&server, "/a.bin", 5);
    let lease = "import fcntl, os, signal, sys\n\
                 signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                 file = os.open(sys.argv[1], os.O_RDWR)\n\
                 fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                 print('held', flush=True)\n\
                 sys.stdin.read()\n";
    let mut command = Command::new("python3");
    command.args(["-c", lease]).arg(server.file("a.bin"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let Ok(child) = command.stderr(Stdio::null()).spawn() else {
        return support::skip("there is no python3");
    };
    let mut holder = Program(child);
    let mut said = [0; 4];
    let stdout = holder.0.stdout.as_mut().unwrap();
    if stdout.read_exact(&mut said).is_err() {
        return support::skip("the file system of the test has no leases");
    }
    let mut raw = server.connect();
    let answer = ask(&mut raw, "GET", "/a.bin", "");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.reason(), "another program has the file");
    server.wait_for_log("another program has a lease on the file");
    assert!(!server.log().contains("memory"), "{}", server.log());
    drop(holder.0.stdin.take());
    holder.wait();
    assert_eq!(ask(&mut raw, "GET", "/a.bin", "").status, 200);
}

#[test]
fn a_location_with_a_root_of_its_own_serves_from_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().canonicalize().unwrap();
    for name in ["work", "logs"] {
        std::fs::create_dir(path.join(name)).unwrap();
    }
    let lines = format!(
        "work_dir = {:?}\n[[location]]\nprefix = \"logs\"\nroot = {:?}\ndownload = \"get\"",
        path.join("work"),
        path.join("logs")
    );
    let server = Server::on(&path.join("root"), Settings::default().file(&lines));
    upload(&server, "/logs/a.bin", 5);
    let mut raw = server.connect();
    let answer = ask(&mut raw, "GET", "/logs/a.bin", "");
    assert_eq!((answer.status, answer.body), (200, content(1, 0, 5)));
    assert_eq!(ask(&mut raw, "GET", "/logs", "").status, 404);
    assert_eq!(ask(&mut raw, "GET", "/logs/../logs/a.bin", "").status, 200);
}

#[test]
fn a_refusal_is_logged_at_debug() {
    let server = Server::with(Settings::default().flags(&["--log-level", "debug"]));
    upload(&server, "/a.bin", 5);
    let mut raw = server.connect();
    assert_eq!(ask(&mut raw, "HEAD", "/a.bin", "").status, 404);
    server.wait_for_log("download refused");
}
