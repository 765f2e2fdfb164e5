//! The administrator's interface of the real binary: metrics, health, sessions, orders, and the
//! commands that ask it.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use rustix::process::{Pid, Signal, kill_process};
use support::client::{Client, DISK_FULL, E_ACCESSDENIED, SESSION_NOT_FOUND, fragment, upload};
use support::host::{Tmpfs, folder_and_root, run};
use support::listing;
use support::mount::Disk;
use support::program::{Program, await_line, free_address, lines_of};
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// A server with both doors open.
struct Watched {
    server: Server,
    socket: PathBuf,
    address: SocketAddr,
    _folder: TempDir,
}

impl Watched {
    #[track_caller]
    fn start(lines: &str) -> Self {
        Self::with(Settings::default(), lines)
    }

    #[track_caller]
    fn with(settings: Settings, lines: &str) -> Self {
        // A path of a socket is short.
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let server = Server::with(settings.file(&format!(
            "admin_socket = {socket:?}\nadmin_listen = \"127.0.0.1:0\"\n{lines}"
        )));
        server.wait_for_log("event=admin_listening");
        let log = server.log();
        let line = log
            .lines()
            .find(|line| line.contains("event=admin_listening"));
        let listen = line.unwrap().split("listen=\"").nth(1).unwrap();
        let address = listen.split('"').next().unwrap().parse().unwrap();
        Self {
            server,
            socket,
            address,
            _folder: folder,
        }
    }

    /// A request to the address; status, head and body of the answer.
    fn ask(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        answered(&mut stream, request)
    }

    fn get(&self, target: &str) -> (u16, String) {
        let host = self.address;
        let (status, _, body) = self.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        (status, body)
    }

    /// A request to the socket; status and body of the answer.
    fn order(&self, method: &str, target: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (status, _, body) = answered(&mut stream, &request);
        (status, body)
    }

    fn json(&self, target: &str) -> Value {
        let (status, body) = self.get(target);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status} {body}: {error}"))
    }

    /// The value of one series; 0 if it is not there.
    fn series(&self, series: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let line = page
            .lines()
            .find(|line| line.split(' ').next() == Some(series));
        line.map_or(0.0, |line| {
            line.rsplit(' ').next().unwrap().parse().unwrap()
        })
    }

    /// A command that asks this server.
    fn command(&self, words: &[&str]) -> Output {
        let mut command = bitsd(words);
        command.arg("--socket").arg(&self.socket);
        command.output().unwrap()
    }

    fn reasons(&self) -> Vec<String> {
        let ready = self.json("/ready");
        let reasons = ready["reasons"].as_array().unwrap().iter();
        let words = reasons.map(|reason| reason["reason"].as_str().unwrap().to_owned());
        words.collect()
    }
}

fn bitsd(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.args(words).stdin(Stdio::null());
    command
        .env_remove("BITSD_CONFIG")
        .env_remove("BITSD_ADMIN_SOCKET");
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Sends a request and reads to the end.
fn answered(stream: &mut (impl Read + Write), request: &str) -> (u16, String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = match head.contains("Transfer-Encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    (status.unwrap_or(0), head.to_owned(), body)
}

/// The content of a body in chunks, which must be whole.
fn unchunked(mut body: &str) -> String {
    let mut content = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").expect("a chunk");
        let bytes = usize::from_str_radix(size, 16).expect("its size");
        if bytes == 0 {
            return content;
        }
        content.push_str(&rest[..bytes]);
        body = &rest[bytes + 2..];
    }
}

#[test]
fn what_is_counted_is_what_happened() {
    let watched = Watched::start("create_dirs = true\n[[location]]\nprefix = \"in\"");
    let server = &watched.server;
    upload(server, "/in/a.bin", 5_000);
    upload(server, "/b.bin", 300);
    let mut open = Client::create(server.address(), "/in/open.bin");
    open.send(fragment(0..100).of(400)).assert(200, None);
    // Again, for nothing.
    open.send(fragment(0..100).of(400)).assert(200, None);
    // A file without bytes.
    let mut empty = Client::create(server.address(), "/in/empty.bin");
    let session = empty.session().to_owned();
    let fields = format!("BITS-Session-Id: {session}\r\nContent-Range: bytes 0-0/0\r\n");
    empty.packet("Fragment", &fields).assert(200, None);
    empty.cancel().assert(200, None);
    let mut refused = Client::new(server.address(), "/b.bin");
    refused.try_create().assert(403, Some(E_ACCESSDENIED));
    let mut gone = Client::create(server.address(), "/in/gone.bin");
    gone.cancel().assert(200, None);
    let series = |name: &str| watched.series(name);
    assert_eq!(
        series("bitsd_received_bytes_total{location=\"/in\"}"),
        5_100.0
    );
    assert_eq!(series("bitsd_received_bytes_total{location=\"/\"}"), 300.0);
    let by_route = |route| series(&format!("bitsd_written_bytes_total{{route=\"{route}\"}}"));
    let written: f64 = ["direct", "ring", "inline"].into_iter().map(by_route).sum();
    assert_eq!(written, 5_400.0);
    assert_eq!(
        series("bitsd_sessions{location=\"/in\",state=\"receiving\"}"),
        1.0
    );
    assert_eq!(series("bitsd_unfinished_bytes{location=\"/in\"}"), 100.0);
    assert_eq!(series("bitsd_promised_bytes{location=\"/in\"}"), 300.0);
    assert_eq!(
        series("bitsd_sessions_created_total{location=\"/in\"}"),
        4.0
    );
    let ended = |ending: &str| {
        series(&format!(
            "bitsd_sessions_ended_total{{location=\"/in\",ending=\"{ending}\"}}"
        ))
    };
    assert_eq!(
        (ended("published"), ended("cancelled"), ended("expired")),
        (1.0, 2.0, 0.0)
    );
    let reason = |reason: &str| {
        series(&format!(
            "bitsd_refused_packets_total{{reason=\"{reason}\"}}"
        ))
    };
    assert_eq!((reason("target_exists"), reason("gap")), (1.0, 0.0));
    let packets = |packet: &str, code: u16| {
        series(&format!(
            "bitsd_packets_total{{packet=\"{packet}\",code=\"{code}\"}}"
        ))
    };
    assert_eq!(packets("fragment", 200), 5.0);
    assert_eq!(
        (
            packets("create_session", 200),
            packets("create_session", 403)
        ),
        (5.0, 1.0)
    );
    assert_eq!(
        (
            packets("close_session", 200),
            packets("cancel_session", 200)
        ),
        (2.0, 2.0)
    );
    // Only those whose bytes were new, as it says.
    let (_, page) = watched.get("/metrics");
    assert!(page.contains("How long fragments took that brought new bytes"));
    assert_eq!(
        series("bitsd_fragment_duration_seconds_count{location=\"/in\"}"),
        2.0
    );
    assert_eq!(
        series("bitsd_upload_size_bytes_sum{location=\"/in\"}"),
        5_000.0
    );
    assert!(series("bitsd_disk_duration_seconds_count{op=\"write\"}") >= 3.0);
    assert!(series("bitsd_disk_duration_seconds_count{op=\"publish\"}") >= 2.0);
    assert!(series("process_open_fds") > 10.0 && series("process_resident_memory_bytes") > 1e6);
    assert!(series("bitsd_root_available_bytes{location=\"/in\"}") > 0.0);
    // The same, as an administrator sees it.
    let status = watched.json("/v1/status");
    assert_eq!(status["sessions"], 1);
    assert_eq!(status["received_bytes"], 5_400);
    assert_eq!(status["uploads"], 2);
    assert_eq!(status["is_ready"], true);
}

#[test]
fn both_formats_are_as_their_readers_want_them() {
    let watched = Watched::start("");
    upload(&watched.server, "/a.bin", 10);
    let host = watched.address;
    let page = |accept: &str| {
        watched.ask(&format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\n{accept}\r\n"
        ))
    };
    let (status, head, classic) = page("");
    assert_eq!(status, 200);
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(
        classic.contains("# TYPE bitsd_received_bytes_total counter\n"),
        "{classic}"
    );
    assert!(!classic.contains("# EOF"));
    let (_, head, open) = page("Accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(
        open.contains("# TYPE bitsd_received_bytes counter\n"),
        "{open}"
    );
    assert!(open.ends_with("# EOF\n"));
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let spawned = promtool
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        return skip("promtool is not installed (Debian: prometheus)");
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(classic.as_bytes()).unwrap();
    drop(stdin);
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    assert_eq!(text(&checked), "");
}

#[test]
fn a_server_without_room_is_live_and_not_ready() {
    let watched = Watched::start("[limits]\nfree_bytes_min = \"1000TiB\"");
    wait_until("it has looked", || watched.get("/ready").0 == 503);
    // Root and work directory are both on that disk.
    let reasons = watched.reasons();
    assert!(
        reasons.iter().all(|reason| reason == "space_low"),
        "{reasons:?}"
    );
    assert_eq!(watched.get("/live").0, 200);
    assert_eq!(watched.series("bitsd_ready"), 0.0);
    assert_eq!(
        watched.series("bitsd_not_ready_reason{reason=\"space_low\"}"),
        1.0
    );
    let status = watched.command(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    assert!(
        text(&status).starts_with("NOT READY\n"),
        "{}",
        text(&status)
    );
    assert!(
        text(&status).contains("-> lower limits.free_bytes_min, and restart"),
        "{}",
        text(&status)
    );
}

#[test]
fn a_ledger_that_is_opened_to_others_is_one_reason_that_says_what_to_do() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let [root, away, ledger] = ["r", "away", "c"].map(|name| folder.path().join(name));
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir(&ledger).unwrap();
    set_permissions(&ledger, Permissions::from_mode(0o700)).unwrap();
    let watched = Watched::start(&format!(
        "custody = {ledger:?}\n[[location]]\nprefix = \"in\"\nroot = {root:?}"
    ));
    wait_until("it is ready", || watched.get("/ready").0 == 200);
    set_permissions(&ledger, Permissions::from_mode(0o777)).unwrap();
    wait_until("that is seen", || watched.get("/ready").0 == 503);
    // Only whoever looks now and then sees this: by then the ledger was looked at as well.
    std::fs::rename(&root, &away).unwrap();
    let is_seen = || watched.reasons().contains(&"root_changed".to_owned());
    wait_until("all was looked at", is_seen);
    assert_eq!(watched.reasons(), ["root_changed", "custody_failed"]);
    let (_, body) = watched.get("/ready");
    assert!(body.contains("others can write to"), "{body}");
    assert!(body.contains("chmod go-w"), "{body}");
}

#[test]
fn a_root_that_is_moved_away_is_not_ready_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (root, away) = (folder.path().join("r"), folder.path().join("away"));
    std::fs::create_dir(&root).unwrap();
    let watched = Watched::start(&format!("[[location]]\nprefix = \"in\"\nroot = {root:?}"));
    wait_until("it is ready", || watched.get("/ready").0 == 200);
    std::fs::rename(&root, &away).unwrap();
    wait_until("that is seen", || watched.get("/ready").0 == 503);
    assert_eq!(watched.reasons(), ["root_changed"]);
    assert_eq!(watched.get("/live").0, 200);
    std::fs::rename(&away, &root).unwrap();
    wait_until("it is ready again", || watched.get("/ready").0 == 200);
}

#[test]
fn a_read_only_disk_and_a_full_one_are_not_ready_and_live() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("no file system can be mounted here");
    };
    let root = disk.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let watched = Watched::start(&format!("[[location]]\nprefix = \"in\"\nroot = {root:?}"));
    wait_until("it is ready", || watched.get("/ready").0 == 200);
    let mut client = Client::create(watched.server.address(), "/in/a.bin");
    let filler = std::fs::File::create(disk.path().join("filler")).unwrap();
    rustix::fs::fallocate(
        &filler,
        rustix::fs::FallocateFlags::empty(),
        0,
        disk.free_bytes() * 99 / 100,
    )
    .or_else(|_| filler.set_len(0).map_err(|_| rustix::io::Errno::IO))
    .unwrap();
    let mut rest = std::fs::File::create(disk.path().join("rest")).unwrap();
    while rest.write_all(&[1; 64 << 10]).is_ok() {}
    wait_until("it is full", || watched.get("/ready").0 == 503);
    assert!(watched.reasons().contains(&"space_low".to_owned()));
    assert_eq!(watched.get("/live").0, 200);
    // The disk refuses an upload; nobody comes again, since a load balancer keeps them away.
    client
        .send(fragment(0..400_000))
        .assert(500, Some(DISK_FULL));
    drop((filler, rest));
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    std::fs::remove_file(disk.path().join("rest")).unwrap();
    wait_until("it is ready again", || watched.get("/ready").0 == 200);
    // Refused while a file is open for writing, as that of the trial is for a moment.
    wait_until("it is mounted anew", || {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(disk.path());
        mount.output().is_ok_and(|output| output.status.success())
    });
    wait_until("it is read-only", || watched.get("/ready").0 == 503);
    assert!(watched.reasons().contains(&"read_only".to_owned()));
    assert_eq!(watched.get("/live").0, 200);
}

/// Goal: what a file system does not count is not told as none. Method: a tmpfs without a bound of
/// inodes, as btrfs has none; little space is left on it.
#[test]
fn where_no_inodes_are_counted_none_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = Tmpfs::on(folder.path(), "size=16m,nr_inodes=0,mode=700") else {
        return;
    };
    let lines = format!(
        "[limits]\nfree_bytes_min = \"8 MiB\"\n[[location]]\nprefix = \"in\"\nroot = {:?}",
        folder.path()
    );
    let watched = Watched::start(&lines);
    let of = |series: &str, location: &str| {
        let line = format!("bitsd_root_{series}{{location=\"{location}\"}}");
        watched.get("/metrics").1.contains(&line)
    };
    wait_until("it was looked at", || of("available_bytes", "/in"));
    assert!(of("available_inodes", "/") && !of("available_inodes", "/in"));
    std::fs::write(folder.path().join("ballast"), vec![0; 12 << 20]).unwrap();
    watched.server.wait_for_log("event=space_low");
    let log = watched.server.log();
    let line = log.lines().find(|line| line.contains("event=space_low"));
    let line = line.unwrap();
    assert!(line.contains("df -h"), "{line}");
    assert!(
        !line.contains("inodes") && !line.contains("df -i"),
        "{line}"
    );
}

#[test]
fn bytes_that_came_for_nothing_are_counted() {
    let watched = Watched::start("");
    let mut client = Client::create(watched.server.address(), "/a.bin");
    client.send(fragment(0..1_000).of(3_000)).assert(200, None);
    // As after an Ack that was lost; then with a part that is new; then too far.
    client.send(fragment(0..1_000).of(3_000)).assert(200, None);
    client
        .send(fragment(500..2_000).of(3_000))
        .assert(200, None);
    client
        .send(fragment(2_500..3_000).of(3_000))
        .assert(416, None);
    let counted = || {
        let (_, page) = watched.get("/metrics");
        let lines = page.lines();
        let lines = lines.filter(|line| line.starts_with("bitsd_skipped_bytes_total{"));
        let counts = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        counts.sum::<f64>()
    };
    wait_until("they are counted", || counted() >= 2_000.0);
    assert_eq!(counted(), 2_000.0);
}

#[test]
fn an_address_takes_questions_from_nobody_elses_page_and_no_orders() {
    let watched = Watched::start("admin_names = [\"metrics.example\"]");
    let ask = |method: &str, target: &str, host: &str| {
        watched.ask(&format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ))
    };
    for host in ["127.0.0.1:1", "localhost", "metrics.example:80", "[::1]"] {
        assert_eq!(ask("GET", "/live", host).0, 200, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example"] {
        for target in ["/live", "/metrics", "/v1/sessions", "/v1/reload"] {
            assert_eq!(ask("GET", target, host).0, 403, "{host} {target}");
        }
    }
    for target in ["/v1/reload", "/v1/drain", "/live"] {
        let (status, head, _) = ask("POST", target, "localhost");
        assert_eq!(status, 405, "{target}");
        assert!(head.contains("Allow: GET, HEAD"), "{head}");
    }
    assert_eq!(ask("GET", "/v1/trace", "localhost").0, 403);
    assert_eq!(ask("GET", "/nothing", "localhost").0, 404);
    assert_eq!(ask("GET", "/v1/sessions?size=1", "localhost").0, 400);
    assert_eq!(ask("GET", "/v1/status?size=1", "localhost").0, 400);
    // Health checks add what keeps caches away.
    for target in ["/?x=1", "/live?x", "/ready?ts=1", "/metrics?x=1&y"] {
        assert_eq!(ask("GET", target, "localhost").0, 200, "{target}");
    }
    let (status, head, body) = ask("HEAD", "/v1/sessions", "localhost");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(
        head.contains("Content-Type: application/x-ndjson"),
        "{head}"
    );
    let (status, _, body) = ask("HEAD", "/metrics", "localhost");
    assert_eq!((status, body.as_str()), (200, ""));
    // As HAProxy asks by default.
    assert_eq!(watched.ask("GET /ready HTTP/1.0\r\n\r\n").0, 200);
    assert_eq!(
        watched
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            .0,
        413
    );
    assert_eq!(watched.ask("\x16\x03\x01\r\n\r\n").0, 400);
}

#[test]
fn the_socket_is_for_user_and_group_and_goes_with_the_server() {
    let mut watched = Watched::start("");
    let found = std::fs::symlink_metadata(&watched.socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_eq!(watched.order("GET", "/v1/drain").0, 405);
    let drained = watched.command(&["drain"]);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    assert_eq!(watched.server.wait().code(), Some(0));
    assert!(!watched.socket.exists());
    let log = watched.server.log();
    let order = log
        .lines()
        .find(|line| line.contains("event=admin_order"))
        .unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert!(
        order.contains("order=\"drain\"") && order.contains(&format!("uid={uid} pid=")),
        "{order}"
    );
    let status = watched.command(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        text(&status).contains("does the server run"),
        "{}",
        text(&status)
    );
}

/// An order has no doubt about who gave it, so that a second one is no threat; and a signal after
/// it is the first one.
#[test]
fn a_server_that_is_drained_twice_and_stopped_finishes_what_is_under_way() {
    let mut watched = Watched::with(Settings::default(), "[limits]\nshutdown_ms_max = 60000\n");
    let mut client = Client::create(watched.server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    watched.server.wait_for_part(client.session(), 100_000);
    let drain = || {
        let drained = watched.command(&["drain"]);
        assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
        text(&drained)
    };
    assert!(drain().contains("the server stops when"));
    wait_until("a second order says that it is nothing new", || {
        drain().contains("nothing new: the server is stopping, and waits for 1 connection")
    });
    watched.server.terminate();
    watched.server.wait_for_log("a second signal stops at once");
    watched.server.wait_for_log("event=still_stopping");
    drain();
    client.send_rest(100_000, 200_000, 100_000);
    assert_eq!(watched.server.wait().code(), Some(0));
    assert!(!watched.server.log().contains("stopped_at_once"));
}

/// Goal: who asks for a stop gets one, also where the server is making way for a new program; and
/// who asks for a new program hears that none comes. Method: a fragment that takes its time, and
/// all of them meanwhile.
#[test]
fn a_stop_that_is_asked_for_while_the_server_makes_way_holds() {
    let mut watched = Watched::with(Settings::default(), "[limits]\nshutdown_ms_max = 60000\n");
    let mut client = Client::create(watched.server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    watched.server.wait_for_part(client.session(), 100_000);
    watched.server.make_way();
    watched.server.wait_for_log("event=making_way");
    wait_until("it says what it waits for", || {
        let status = text(&watched.command(&["status"]));
        status.contains("making way for the new program, and waits for 1 connection to end")
    });
    watched.server.make_way();
    watched.server.wait_for_log("event=still_making_way");
    let not_replaced = || watched.server.log().matches("event=not_replaced").count();
    assert_eq!(not_replaced(), 0);
    let drain = || text(&watched.command(&["drain"]));
    let said = drain();
    assert!(said.contains("no new program takes its place"), "{said}");
    wait_until("the log says so", || not_replaced() == 1);
    watched.server.wait_for_log("event=stopping");
    wait_until("a second order says that it is nothing new", || {
        drain().contains("nothing new: the server is stopping, and waits for 1 connection")
    });
    watched.server.make_way();
    wait_until("the log says that none comes", || not_replaced() == 2);
    client.send_rest(100_000, 200_000, 100_000);
    assert_eq!(watched.server.wait().code(), Some(0));
    let log = watched.server.log();
    assert_eq!(log.matches("event=started").count(), 1, "{log}");
    assert!(log.contains("synced=true"), "{log}");
}

#[test]
fn whoever_is_silent_keeps_nobody_from_the_interface() {
    let watched = Watched::start("");
    // More than there are places, twice over; each request is begun and never ended.
    let silent: Vec<_> = (0..70)
        .map(|_| {
            let mut stream = TcpStream::connect(watched.address).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(watched.get("/live").0, 200);
        assert_eq!(watched.order("GET", "/v1/status").0, 200);
    }
    let quiet: Vec<_> = (0..70)
        .map(|_| UnixStream::connect(&watched.socket).unwrap())
        .collect();
    assert_eq!(watched.order("GET", "/v1/status").0, 200);
    assert_eq!(watched.get("/live").0, 200);
    // The oldest have made room.
    for mut stream in silent.iter().take(30) {
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        assert!(!matches!(stream.read(&mut [0; 9]), Ok(1..)));
    }
    drop((silent, quiet));
    assert!(!watched.server.log().contains("event=admin_crowded"));
}

/// Also while somebody asks all the time, who is answered meanwhile.
#[test]
fn a_socket_that_somebody_opens_to_everybody_is_closed_again() {
    let watched = Watched::start("");
    let mode = || {
        let found = std::fs::metadata(&watched.socket).unwrap();
        found.permissions().mode() & 0o777
    };
    let all = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&watched.socket, all).unwrap();
    wait_until("it is closed again", || {
        UnixStream::connect(&watched.socket).unwrap();
        mode() == 0o660
    });
    watched.server.wait_for_log("event=admin_socket_closed");
}

#[test]
fn a_socket_that_somebody_removes_is_made_again() {
    let mut watched = Watched::start("");
    let made_again = "event=admin_socket_made_again";
    std::fs::remove_file(&watched.socket).unwrap();
    watched.server.wait_for_log(made_again);
    let status = watched.command(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    let mode = std::fs::metadata(&watched.socket).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o660);
    // Something else in its place is left alone, and told once.
    wait_until("a folder has its place", || {
        let _ = std::fs::remove_file(&watched.socket);
        std::fs::create_dir(&watched.socket).is_ok()
    });
    watched.server.wait_for_log("event=admin_socket_lost");
    std::fs::remove_dir(&watched.socket).unwrap();
    wait_until("it is made again", || {
        UnixStream::connect(&watched.socket).is_ok()
    });
    watched.server.stop();
    assert!(!watched.socket.exists(), "it goes with the server");
}

/// A socket on it would keep the disk from being unmounted; nobody has removed the one beneath.
#[test]
fn a_disk_that_is_mounted_over_the_folder_of_the_socket_is_left_alone() {
    let watched = Watched::start("");
    let folder = watched.socket.parent().unwrap();
    let Some(disk) = Tmpfs::on(folder, "mode=755") else {
        return;
    };
    watched.server.wait_for_log("event=admin_socket_lost");
    let log = watched.server.log();
    assert!(log.contains("mounted over its folder"), "{log}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    assert!(
        run(&["umount", folder.to_str().unwrap()]),
        "nobody is there"
    );
    std::mem::forget(disk);
    let status = watched.command(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status));
    // Another folder in its place is no disk.
    let before = folder.with_extension("before");
    std::fs::rename(folder, &before).unwrap();
    std::fs::create_dir(folder).unwrap();
    watched.server.wait_for_log("event=admin_socket_made_again");
    std::fs::remove_dir_all(&before).unwrap();
    let log = watched.server.log();
    assert_eq!(log.matches("event=admin_socket_lost").count(), 1, "{log}");
}

/// A start seals again what was sealed, when its client comes; nothing of it is missing meanwhile.
#[test]
fn what_was_sealed_is_shown_as_that_after_a_start() {
    let mut watched = Watched::start("");
    let mut client = Client::create(watched.server.address(), "/whole");
    client.send(fragment(0..100).of(100)).assert(200, None);
    let mut half = Client::create(watched.server.address(), "/half");
    half.send(fragment(0..50).of(100)).assert(200, None);
    let listed = |watched: &Watched, state: &str| {
        let listed = watched.command(&["sessions", "list", "--state", state]);
        let page = text(&listed);
        ["whole", "half"].map(|name| page.contains(name))
    };
    let assert_shown = |watched: &Watched| {
        assert_eq!(listed(watched, "sealed"), [true, false]);
        assert_eq!(listed(watched, "receiving"), [false, true]);
    };
    assert_shown(&watched);
    for _ in 0..2 {
        watched.server.restart();
        assert_shown(&watched);
    }
    client.reconnect_to(watched.server.address());
    client.close().assert(200, None);
    watched.server.assert_file("whole", 1, 100);
    assert_eq!(listed(&watched, "sealed"), [false, false]);
}

#[test]
fn sessions_are_listed_shown_and_ended() {
    let watched = Watched::start("create_dirs = true\nsessions_per_client_max = \"unlimited\"");
    let server = &watched.server;
    // More than one slice of each shard.
    let mut many = Client::new(server.address(), "/many.bin");
    for _ in 0..1_200 {
        many.try_create().assert(200, None);
    }
    let (status, body) = watched.get("/v1/sessions");
    assert_eq!((status, body.lines().count()), (200, 1_200));
    // Who knows an id can end its session: an address, which asks nobody, shows none.
    for line in body.lines() {
        let session: Value = serde_json::from_str(line).unwrap();
        let id = session["id"].as_str().unwrap();
        assert!(id.chars().count() == 10 && id.ends_with('…'), "{id}");
    }
    let (_, none) = watched.get("/v1/sessions?state=sealed");
    assert_eq!(none, "");
    let mut client = Client::create(server.address(), "/host-7/a.zip");
    client.send(fragment(0..100).of(300)).assert(200, None);
    for words in [
        &["list", "--path", "typo/*"][..],
        &["cancel", "--path", "typo/*", "--dry-run"],
    ] {
        let listed = watched.command(&[&["sessions"], words].concat());
        assert_eq!(text(&listed), "no upload is like that\n");
    }
    let listed = watched.command(&["sessions", "list", "--path", "host-7/*"]);
    let page = text(&listed);
    assert_eq!(listed.status.code(), Some(0), "{page}");
    assert_eq!(page.lines().count(), 3, "{page}");
    assert!(
        page.contains("host-7/a.zip") && page.contains("100 B"),
        "{page}"
    );
    let listed = watched.command(&["sessions", "list", "--path", "host-7/*", "--json"]);
    let session: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = session["id"]
        .as_str()
        .unwrap()
        .trim_matches(['{', '}'])
        .to_owned();
    assert_eq!(
        (&session["received_bytes"], &session["total_bytes"]),
        (&100.into(), &300.into())
    );
    assert_eq!(session["client"], "127.0.0.1");
    let shown = watched.command(&["sessions", "show", &id]);
    assert!(
        text(&shown).contains("100 B (100 bytes) of 300 B"),
        "{}",
        text(&shown)
    );
    let dry = watched.command(&["sessions", "cancel", "--path", "host-7/*", "--dry-run"]);
    assert!(text(&dry).contains(&id), "{}", text(&dry));
    let named = watched.command(&["sessions", "cancel", &id, "--dry-run"]);
    assert_eq!(named.status.code(), Some(0), "{}", text(&named));
    let table = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let (named, dry) = (table(&named), table(&dry));
    assert_eq!(listing::of_table(&named), listing::of_table(&dry));
    assert_eq!(watched.get(&format!("/v1/sessions/{id}")).0, 200);
    let cancelled = watched.command(&["sessions", "cancel", &id]);
    assert_eq!(cancelled.status.code(), Some(0), "{}", text(&cancelled));
    assert_eq!(watched.get(&format!("/v1/sessions/{id}")).0, 404);
    // Its client begins again.
    let after = client.try_send(&fragment(100..300).of(300)).unwrap();
    after.assert(500, Some(SESSION_NOT_FOUND));
    server.wait_for_log("ending=\"cancelled by the administrator\"");
    server.wait_for_log("event=admin_order");
    let again = watched.command(&["sessions", "cancel", &id]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("no such session"), "{}", text(&again));
    let dry = watched.command(&["sessions", "cancel", &id, "--dry-run"]);
    assert_eq!((dry.status, dry.stderr), (again.status, again.stderr));
    let expired = watched.command(&["sessions", "expire", "--path", "many.bin"]);
    assert_eq!(expired.status.code(), Some(0), "{}", text(&expired));
    assert_eq!(watched.get("/v1/sessions").1, "");
    let ending = |ending: &str| {
        watched.series(&format!(
            "bitsd_sessions_ended_total{{location=\"/\",ending=\"{ending}\"}}"
        ))
    };
    assert_eq!(ending("expired_by_administrator"), 1_200.0);
    assert_eq!(ending("cancelled_by_administrator"), 1.0);
    assert_eq!(server.work_files().len(), 0);
    let wrong = watched.command(&["sessions", "cancel", "7"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong));
}

/// What was asked for is done to its end, whether or not somebody reads what is said of it, and the
/// exit code says what came of it.
#[test]
fn a_reader_that_goes_away_changes_nothing_of_what_is_done() {
    let watched = Watched::start("sessions_per_client_max = \"unlimited\"");
    let begin = |count: usize| {
        let mut many = Client::new(watched.server.address(), "/many.bin");
        for _ in 0..count {
            many.try_create().assert(200, None);
        }
    };
    let unheard = |words: &[&str], stdout: Stdio| {
        let mut command = bitsd(words);
        command.arg("--socket").arg(&watched.socket).stdout(stdout);
        command.output().unwrap()
    };
    let nobody = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    begin(50);
    let done = unheard(&["sessions", "cancel", "--path", "*"], nobody());
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert_eq!(watched.get("/v1/sessions").1, "");
    // One that is not there, after one that is and before another.
    begin(2);
    let listed = watched.command(&["sessions", "list", "--json"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ids = listed.lines().map(|line| {
        let session: Value = serde_json::from_str(line).unwrap();
        session["id"].as_str().unwrap().to_owned()
    });
    let ids: Vec<_> = ids.collect();
    let none = "7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE";
    let done = unheard(&["sessions", "expire", &ids[0], none, &ids[1]], nobody());
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert_eq!(watched.get("/v1/sessions").1, "");
    // What cannot be written is told, and is no reason to stop either.
    begin(5);
    let full = std::fs::File::create("/dev/full").unwrap();
    let done = unheard(&["sessions", "cancel", "--path", "*"], Stdio::from(full));
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(
        text(&done).contains("5 of 5 uploads have ended"),
        "{}",
        text(&done)
    );
    assert_eq!(watched.get("/v1/sessions").1, "");
    assert_eq!(
        unheard(&["sessions", "list"], nobody()).status.code(),
        Some(0)
    );
    assert_eq!(unheard(&["status"], nobody()).status.code(), Some(0));
    let full = Watched::start("[limits]\nfree_bytes_min = \"1000TiB\"");
    wait_until("it has looked", || full.get("/ready").0 == 503);
    let mut status = bitsd(&["status", "--socket"]);
    let status = status.arg(&full.socket).stdout(nobody()).output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
}

/// What this side cannot do is not said of the server.
#[test]
fn a_trace_that_cannot_be_written_and_a_socket_that_is_none_blame_no_server() {
    let watched = Watched::start("");
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut command = bitsd(&["trace", "--socket"]);
    command.arg(&watched.socket).stdout(full);
    command.stderr(Stdio::piped());
    let mut trace = Program(command.spawn().unwrap());
    wait_until("it has a packet to write", || {
        Client::new(watched.server.address(), "/a")
            .ping()
            .assert(200, None);
        trace.0.try_wait().unwrap().is_some()
    });
    let mut said = String::new();
    let mut stderr = trace.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(said.contains("cannot write: No space left"), "{said}");
    assert_eq!(trace.wait().code(), Some(1));
    let file = watched.server.root().with_extension("txt");
    std::fs::write(&file, "").unwrap();
    let status = bitsd(&["status", "--socket"]).arg(&file).output().unwrap();
    let said = text(&status);
    assert!(said.contains("it is no socket"), "{said}");
    assert!(!said.contains("does not run"), "{said}");
}

/// Another program in the same process counts from nothing, and its age is its own.
#[test]
fn a_program_that_takes_the_place_of_another_is_as_old_as_itself() {
    let watched = Watched::start("");
    let series = |name: &str| {
        let (status, page) = watched.order("GET", "/metrics");
        assert_eq!(status, 200, "{page}");
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(&format!("{name} ")));
        value
            .unwrap_or_else(|| panic!("{name}: {page}"))
            .parse::<f64>()
            .unwrap()
    };
    let starts = || watched.server.log().matches("event=started").count();
    let (began, process) = (
        series("bitsd_start_time_seconds"),
        series("process_start_time_seconds"),
    );
    // The process began before, by as much as a clock of the kernel can tell.
    assert!(began > process - 0.02, "{began} {process}");
    watched.server.make_way();
    wait_until("the next program serves", || starts() == 2);
    assert_eq!(series("process_start_time_seconds"), process);
    let later = series("bitsd_start_time_seconds");
    assert!(later > began, "{later} {began}");
}

/// Whoever works on a session is stopped first, as a newer connection would stop it.
#[test]
fn a_session_in_mid_fragment_is_cut_and_ended() {
    let watched = Watched::start("");
    let mut client = Client::create(watched.server.address(), "/a.bin");
    let id = client.session().trim_matches(['{', '}']).to_owned();
    let head = fragment(0..1_000_000).of(1_000_000);
    client.send_part(&head, 1_000);
    watched.server.wait_for_part(&id, 1_000);
    let (status, body) = watched.order("POST", &format!("/v1/sessions/{id}/cancel"));
    assert_eq!(status, 200, "{body}");
    assert_eq!(watched.server.work_files().len(), 0);
    assert_eq!(watched.get("/v1/sessions").1, "");
}

#[test]
fn the_oldest_upload_has_an_age_over_restarts_and_none_when_it_ends() {
    let mut watched = Watched::start("create_dirs = true\n[[location]]\nprefix = \"in\"");
    // By the socket, which is the same after a restart.
    let oldest = |watched: &Watched, location: &str| {
        let name = format!("bitsd_oldest_session_age_seconds{{location=\"{location}\"}} ");
        let (_, page) = watched.order("GET", "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("it is always there").parse::<f64>().unwrap()
    };
    assert_eq!(oldest(&watched, "/in"), 0.0, "there is none");
    let mut old = Client::create(watched.server.address(), "/in/old.bin");
    old.send(fragment(0..100).of(300)).assert(200, None);
    wait_until("it is a second old", || oldest(&watched, "/in") >= 1.0);
    let mut young = Client::create(watched.server.address(), "/in/young.bin");
    assert!(oldest(&watched, "/in") >= 1.0, "the other one is younger");
    assert_eq!(oldest(&watched, "/"), 0.0, "there is none");
    let before = oldest(&watched, "/in");
    watched.server.restart();
    assert!(oldest(&watched, "/in") >= before, "it was not begun anew");
    let address = watched.server.address();
    old.reconnect_to(address).cancel().assert(200, None);
    young.reconnect_to(address).cancel().assert(200, None);
    assert_eq!(oldest(&watched, "/in"), 0.0, "there is none any more");
}

#[test]
fn a_reload_says_what_has_changed_or_what_is_wrong() {
    let watched = Watched::start("upload_bytes_max = \"1GiB\"");
    let file = watched.server.root().with_extension("toml");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.replace("1GiB", "2GiB")).unwrap();
    let good = watched.command(&["reload"]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good));
    assert!(text(&good).contains("upload_bytes_max"), "{}", text(&good));
    assert!(!text(&good).contains("warning"), "{}", text(&good));
    // As at a start, whoever asks hears what hardly anybody means; once.
    std::fs::write(&file, format!("session_timeout = \"1s\"\n{lines}")).unwrap();
    let doubtful = watched.command(&["reload"]);
    let said = text(&doubtful);
    assert_eq!(doubtful.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: session_timeout"), "{said}");
    let again = watched.command(&["reload"]);
    assert!(
        text(&again).contains("nothing has changed"),
        "{}",
        text(&again)
    );
    assert_eq!(watched.series("bitsd_config_last_reload_successful"), 1.0);
    std::fs::write(&file, "upload_bytes_max = \"lots\"").unwrap();
    let bad = watched.command(&["reload"]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    assert!(text(&bad).contains("upload_bytes_max"), "{}", text(&bad));
    assert_eq!(watched.series("bitsd_config_last_reload_successful"), 0.0);
    assert_eq!(watched.series("bitsd_config_reloads_failed_total"), 1.0);
    // Where nothing says where a server is, nobody is told to make its folders.
    if !std::path::Path::new("/etc/bitsd.toml").exists() {
        let mut nowhere = bitsd(&["sessions", "list"]);
        let nowhere = nowhere.current_dir(watched.server.root()).output().unwrap();
        assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere));
        assert!(text(&nowhere).contains("--config"), "{}", text(&nowhere));
    }
    // Settings that are wrong hide no server from whoever has just written them.
    let with_file = |words: &[&str]| bitsd(words).arg("--config").arg(&file).output().unwrap();
    for (rest, code) in [("upload_bytes_max = \"lots\"", 1), ("nonsense = ]", 1)] {
        std::fs::write(
            &file,
            format!("admin_socket = {:?} # here\n{rest}", watched.socket),
        )
        .unwrap();
        let bad = with_file(&["reload"]);
        assert_eq!(bad.status.code(), Some(code), "{}", text(&bad));
        for words in [&["status"][..], &["sessions", "list"]] {
            let shown = with_file(words);
            assert_eq!(shown.status.code(), Some(0), "{}", text(&shown));
            let is_told = text(&shown).contains("the last reload failed");
            assert_eq!(is_told, words == ["status"], "{}", text(&shown));
        }
    }
    assert_eq!(watched.series("bitsd_config_reloads_failed_total"), 3.0);
    // Where no server is, they are what is wrong.
    std::fs::write(
        &file,
        "admin_socket = \"/nowhere/admin.sock\"\nnonsense = 1",
    )
    .unwrap();
    let nowhere = with_file(&["status"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", text(&nowhere));
    assert!(text(&nowhere).contains("nonsense"), "{}", text(&nowhere));
    for (words, says) in [
        (["--client", "bogus"], "it takes an address such as"),
        (["--idle", "x"], "it takes a time such as"),
        (["--idle", "1M"], "the unit \"M\" does not exist"),
        (["--idle", "0.5h"], "it is a fraction"),
        (["--idle", "999ms"], "it takes a second or more"),
    ] {
        let wrong = bitsd(&["sessions", "list"]).args(words).output().unwrap();
        assert_eq!(wrong.status.code(), Some(2));
        let said = String::from_utf8_lossy(&wrong.stderr);
        assert!(said.contains(says), "{said}");
    }
}

/// Goal: what waits for the next start leaves nobody's upload behind in silence. Method: settings
/// with another work directory, or with another root that has one of its own, beside a server that
/// has an unfinished upload; and without one.
#[test]
fn uploads_that_the_next_start_would_leave_behind_are_told_of() {
    let (folder, root) = folder_and_root();
    let at = |name: &str| folder.path().join(name);
    for name in ["work", "other"] {
        std::fs::create_dir(at(name)).unwrap();
        support::host::allow(&at(name), 0o700);
    }
    let (file, socket) = (at("bitsd.toml"), at("admin.sock"));
    let write = |lines: &str| {
        let own = format!("listen = \"127.0.0.1:0\"\ncores = 1\nadmin_socket = {socket:?}\n");
        std::fs::write(&file, own + lines).unwrap();
    };
    let as_before = format!("root = {root:?}\n");
    write(&as_before);
    let script = "exec \"$1\" serve --config \"$0\"";
    let words = ["sh", "-c", script, file.to_str().unwrap()];
    let server = Server::on(&root, Settings::default().wrapper(&words));
    let run = |command: &str| {
        let output = bitsd(&[command]).arg("--config").arg(&file).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let told = |path: &Path| {
        format!(
            "1 unfinished upload in the work directory {}, and these settings keep theirs in {}",
            root.join(".bitsd").display(),
            path.display()
        )
    };
    let moved = format!("{as_before}work_dir = {:?}\n", at("work"));
    write(&moved);
    let said = run("reload") + &run("check");
    assert!(!said.contains("unfinished upload in"), "{said}");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let said = run("check");
    assert!(said.contains(&told(&at("work"))), "{said}");
    let other = (format!("root = {:?}\n", at("other")), at("other/.bitsd"));
    for (lines, work) in [(moved, at("work")), other] {
        write(&lines);
        let said = run("reload");
        assert!(said.contains(&told(&work)), "{said}");
        assert!(said.contains("waits for the next start"), "{said}");
    }
    write(&as_before);
    let said = run("reload") + &run("check");
    assert!(!said.contains("unfinished upload in"), "{said}");
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
}

/// What is open stays in use: only a start opens what stands there now.
#[test]
fn a_reload_says_that_a_root_is_not_the_one_that_was_opened() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let watched = Watched::start(&format!("[[location]]\nprefix = \"/o\"\nroot = {root:?}"));
    std::fs::rename(&root, place.path().join("away")).unwrap();
    std::fs::create_dir(&root).unwrap();
    watched.server.wait_for_log("event=not_ready");
    let said = watched.command(&["reload"]);
    let words = "is not what it was when it was opened";
    assert!(text(&said).contains(words), "{}", text(&said));
    assert_eq!(said.status.code(), Some(0));
    // The settings name another one instead: what is amiss with the old one is nobody's trouble.
    let other = place.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let file = watched.server.root().with_extension("toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let settings = settings.replace(root.to_str().unwrap(), other.to_str().unwrap());
    std::fs::write(&file, settings).unwrap();
    let said = watched.command(&["reload"]);
    assert!(!text(&said).contains(words), "{}", text(&said));
    assert!(text(&said).contains("location /o: root"), "{}", text(&said));
    assert_eq!(said.status.code(), Some(0));
}

#[test]
fn packets_can_be_watched_as_they_come() {
    let watched = Watched::start("");
    let mut command = bitsd(&["trace", "--path", "a*", "--json", "--socket"]);
    command.arg(&watched.socket).stdout(Stdio::piped());
    let mut trace = Program(command.spawn().unwrap());
    let stdout = trace.0.stdout.take().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    // It watches when a packet is seen; those before it are nobody's.
    let (seen, see) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            let line: Value = serde_json::from_str(&line).unwrap();
            let _ = seen.send(line);
        }
    });
    let address = watched.server.address();
    wait_until("it watches", || {
        Client::new(address, "/a.first").ping().assert(200, None);
        see.try_recv().is_ok()
    });
    std::fs::write(watched.server.file("a.bin"), "x").unwrap();
    Client::new(address, "/b.bin")
        .try_create()
        .assert(200, None);
    Client::new(address, "/a.bin")
        .try_create()
        .assert(403, Some(E_ACCESSDENIED));
    let refused = loop {
        let line = see.recv_timeout(support::PATIENCE).unwrap();
        assert_ne!(line["path"], "b.bin", "it is not what was asked for");
        if line["path"] == "a.bin" {
            break line;
        }
    };
    assert_eq!(refused["what"], "create_session");
    assert_eq!(refused["status"], 403);
    let why = refused["why"].as_str().unwrap();
    assert!(why.contains("exists"), "{why}");
    drop(watched);
    // With the server it ends.
    assert_eq!(trace.wait().code(), Some(0));
}

#[test]
fn without_a_server_the_journals_are_read_under_its_lock() {
    let mut watched = Watched::start("");
    let mut client = Client::create(watched.server.address(), "/a.bin");
    client.send(fragment(0..100).of(300)).assert(200, None);
    upload(&watched.server, "/b.bin", 10);
    let file = with_root_in_file(&watched);
    let list = |words: &[&str]| bitsd(words).arg("--config").arg(&file).output().unwrap();
    let online = list(&["sessions", "list", "--json"]);
    let seen: Value = serde_json::from_slice(&online.stdout).unwrap();
    watched.server.stop();
    let offline = list(&["sessions", "list", "--json"]);
    assert_eq!(offline.status.code(), Some(0), "{}", text(&offline));
    assert!(
        text(&offline).contains("does not run"),
        "{}",
        text(&offline)
    );
    let found: Value = serde_json::from_slice(&offline.stdout).unwrap();
    for same in [
        "id",
        "path",
        "state",
        "received_bytes",
        "total_bytes",
        "client",
    ] {
        assert_eq!(found[same], seen[same], "{same}");
    }
    let id = found["id"].as_str().unwrap();
    let shown = list(&["sessions", "show", id]);
    assert!(text(&shown).contains("100 bytes"), "{}", text(&shown));
    // One that runs without the socket has the lock.
    let other = Settings::default();
    watched.server.restart_with(other);
    let locked = list(&["sessions", "list"]);
    assert_eq!(locked.status.code(), Some(1), "{}", text(&locked));
    assert!(
        text(&locked).contains("a server is using it"),
        "{}",
        text(&locked)
    );
}

/// A list that may not be all there is says so: what is left of an upload stands in the folder.
#[test]
fn without_a_server_a_journal_that_cannot_be_read_is_told() {
    let mut watched = Watched::start("");
    for path in ["/a.bin", "/b.bin"] {
        let mut client = Client::create(watched.server.address(), path);
        client.send(fragment(0..100).of(300)).assert(200, None);
    }
    let file = with_root_in_file(&watched);
    watched.server.stop();
    let run = |words: &[&str]| bitsd(words).arg("--config").arg(&file).output().unwrap();
    let whole = run(&["sessions", "list", "--json"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    assert_eq!(String::from_utf8_lossy(&whole.stdout).lines().count(), 2);
    let journal = watched
        .server
        .root()
        .join(".bitsd/0000000000000000-7.journal");
    std::fs::write(&journal, [7; 4_096]).unwrap();
    let told = "0000000000000000-7.journal: it holds no record that can be read";
    for words in [
        &["sessions", "list", "--json"][..],
        &["sessions", "list"],
        &["sessions", "expire", "--path", "*", "--dry-run"],
        &["sessions", "cancel", "--path", "/c.bin"],
    ] {
        let found = run(words);
        assert_eq!(found.status.code(), Some(1), "{words:?}: {}", text(&found));
        let why = String::from_utf8_lossy(&found.stderr);
        assert!(why.contains(told), "{words:?}: {why}");
    }
    // What is known is all there, and who names one gets it.
    let found = run(&["sessions", "list", "--json"]);
    let listed = |output: &Output| listing::of_json(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(listed(&found), listed(&whole));
    let session = String::from_utf8_lossy(&whole.stdout).into_owned();
    let session: Value = serde_json::from_str(session.lines().next().unwrap()).unwrap();
    let done = run(&["sessions", "cancel", session["id"].as_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains(told), "{}", text(&done));
}

/// A server whose settings file names its root too, so that a command finds all in it.
fn with_root_in_file(watched: &Watched) -> PathBuf {
    let file = watched.server.root().with_extension("toml");
    let root = watched.server.root();
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("root = {root:?}\n{lines}")).unwrap();
    file
}

#[test]
fn uploads_of_a_server_that_was_killed_are_ended_without_it() {
    let mut watched = Watched::start("");
    let address = watched.server.address();
    let begin = |path: &str| {
        let mut client = Client::create(address, path);
        client.send(fragment(0..100).of(300)).assert(200, None);
        client
    };
    let (mut cancelled, mut expired) = (begin("/cancelled.bin"), begin("/old-expired.bin"));
    let mut stays = begin("/stays.bin");
    let file = with_root_in_file(&watched);
    let sessions = |words: &[&str]| {
        let words = [&["sessions"], words].concat();
        bitsd(&words).arg("--config").arg(&file).output().unwrap()
    };
    watched.server.kill9();
    let first = &cancelled.session().trim_matches(['{', '}'])[..8];
    let done = sessions(&["cancel", first]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("is cancelled"), "{}", text(&done));
    let dry = sessions(&["expire", "--path", "old-*", "--dry-run"]);
    assert!(text(&dry).contains("old-expired.bin"), "{}", text(&dry));
    assert!(watched.server.part(expired.session()).exists());
    let done = sessions(&["expire", "--path", "old-*"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    let again = sessions(&["expire", "--path", "old-*"]);
    assert!(
        text(&again).contains("no upload is like that"),
        "{}",
        text(&again)
    );
    let again = sessions(&["cancel", first]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    for client in [&cancelled, &expired] {
        assert!(!watched.server.part(client.session()).exists());
    }
    // Where each end has its line in a ledger, that is for a server to write.
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("custody = \"/nowhere\"\n{lines}")).unwrap();
    let kept = sessions(&["cancel", "--path", "stays*"]);
    assert_eq!(kept.status.code(), Some(1), "{}", text(&kept));
    assert!(text(&kept).contains("custody ledger"), "{}", text(&kept));
    std::fs::write(&file, lines).unwrap();
    let left = sessions(&["list", "--json"]);
    let left: Value = serde_json::from_slice(&left.stdout).unwrap();
    assert_eq!(left["path"], "stays.bin");
    watched.server.restart();
    let address = watched.server.address();
    // As after an order to a server that runs: the repeated Cancel is answered, the rest begins
    // anew, and the others go on.
    let mut heard = cancelled.reconnect_to(address).cancel();
    heard.assert(200, None);
    heard = expired
        .reconnect_to(address)
        .send(fragment(100..200).of(300));
    heard.assert(500, Some(SESSION_NOT_FOUND));
    stays.reconnect_to(address);
    stays.send(fragment(100..300).of(300)).assert(200, None);
    stays.close().assert(200, None);
    // One that runs without the socket has the lock.
    let file = with_root_in_file(&watched);
    let lines = std::fs::read(&file).unwrap();
    watched.server.restart_with(Settings::default());
    std::fs::write(&file, lines).unwrap();
    let locked = sessions(&["expire", "--idle", "1s"]);
    assert_eq!(locked.status.code(), Some(1), "{}", text(&locked));
    assert!(
        text(&locked).contains("a server is using it"),
        "{}",
        text(&locked)
    );
}

#[test]
fn on_a_full_disk_uploads_are_ended_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 8 << 20, "rw") else {
        return skip("needs root, mkfs.ext4 and a loop device");
    };
    let root = disk.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let socket = folder.path().join("admin.sock");
    let lines = format!("root = {root:?}\nadmin_socket = {socket:?}\n[limits]\nfree_bytes_min = 0");
    let mut server = Server::on(&root, Settings::default().file(&lines));
    let mut client = Client::create(server.address(), "/half.bin");
    client
        .send(fragment(0..1_000_000).of(3_000_000))
        .assert(200, None);
    server.kill9();
    let mut filler = std::fs::File::create(root.join("filler")).unwrap();
    // What the killed server had reserved comes free with its last descriptor. The last blocks go
    // to small files: one in many pieces needs a block of its own to say where they are.
    let mut count = 0;
    wait_until("the disk is full", || {
        while filler.write_all(&[7; 4_096]).is_ok() {}
        filler.sync_all().unwrap();
        count += 1;
        let small = root.join(format!("filler-{count}"));
        std::fs::write(small, "x").is_err()
    });
    let file = root.with_extension("toml");
    let done = bitsd(&["sessions", "expire", "--path", "*", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(disk.free_bytes() > 900_000, "its bytes made room");
    server.restart();
    let heard = client
        .reconnect_to(server.address())
        .send(fragment(1_000_000..1_000_100).of(3_000_000));
    heard.assert(500, Some(SESSION_NOT_FOUND));
}

#[test]
fn what_is_no_filter_is_told_and_not_taken_for_good_news() {
    let watched = Watched::start("[[location]]\nprefix = \"/in\"");
    for (flag, value, word) in [
        ("--location", "/none", "there are /in, /"),
        ("--client", "10.1.2.O", "an address such as"),
        ("--state", "stuck", "receiving"),
    ] {
        for command in ["list", "cancel"] {
            let told = watched.command(&["sessions", command, flag, value]);
            assert_eq!(told.status.code(), Some(2), "{flag}: {}", text(&told));
            assert!(text(&told).contains(word), "{flag}: {}", text(&told));
        }
    }
    for (flag, value) in [
        ("--location", "in"),
        ("--location", "/"),
        ("--client", "192.0.2.1"),
        ("--state", "Receiving"),
    ] {
        let told = watched.command(&["sessions", "list", flag, value]);
        assert_eq!(told.status.code(), Some(0), "{flag}: {}", text(&told));
    }
}

#[test]
fn a_door_that_cannot_be_is_told_before_anything_begins() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let refused = |line: &str| {
        let settings = Settings::default().file(line);
        let (status, said) = Server::refused(&root, &settings);
        assert_eq!(status.code(), Some(1), "{said}");
        said
    };
    let nowhere = folder.path().join("no/admin.sock");
    let said = refused(&format!("admin_socket = {nowhere:?}"));
    assert!(said.contains("RuntimeDirectory"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = refused(&format!("admin_listen = \"{address}\""));
    assert!(said.contains("admin_listen"), "{said}");
    let file = folder.path().join("check.toml");
    let lines =
        format!("root = {root:?}\nadmin_socket = {nowhere:?}\nadmin_listen = \"{address}\"");
    std::fs::write(&file, lines).unwrap();
    let checked = bitsd(&["check", "--config"]).arg(&file).output().unwrap();
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    for words in [
        "# wrong: admin_socket: there can be no socket at",
        "# wrong: admin_listen: cannot listen on",
    ] {
        assert!(text(&checked).contains(words), "{}", text(&checked));
    }
    drop(taken);
    let watched = Watched::start("");
    let socket: &Path = &watched.socket;
    let said = refused(&format!("admin_socket = {socket:?}"));
    assert!(said.contains("another server has"), "{said}");
}

/// The exit codes of `check` and of `serve`, and what the former says.
fn checked_and_served(root: &Path, lines: &str) -> (Option<i32>, Option<i32>, String) {
    let file = root.with_extension("check");
    std::fs::write(&file, format!("root = {root:?}\n{lines}")).unwrap();
    let checked = bitsd(&["check", "--quiet", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let mut served = bitsd(&["serve", "--cores", "1", "--config"]);
    let served = served
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut served = Program(served.spawn().unwrap());
    // It says where it listens, or ends.
    let mut heard = [0; 9];
    let stdout = served.0.stdout.as_mut().unwrap();
    let code = match stdout.read(&mut heard).unwrap() {
        0 => served.wait().code(),
        _ => None,
    };
    (checked.status.code(), code, text(&checked))
}

/// A server that is stopped answers nobody, and its socket takes connections all the same.
#[test]
fn a_check_says_of_a_server_that_is_stopped_no_more_than_it_knows() {
    let watched = Watched::start("");
    let pid = Pid::from_raw(watched.server.pid().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let file = watched.server.root().with_extension("toml");
    let checked = bitsd(&["check", "--config"])
        .arg(&file)
        .arg("--root")
        .arg(watched.server.root())
        .output();
    kill_process(pid, Signal::CONT).unwrap();
    let said = text(&checked.unwrap());
    assert!(said.contains("ok: a server has admin_socket"), "{said}");
    assert!(!said.contains("answers"), "{said}");
}

#[test]
fn a_check_looks_at_sockets_and_addresses_as_a_start_does() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let nowhere = folder.path().join("no/a.sock");
    let long = folder.path().join("l".repeat(200));
    let free = support::program::free_address().port();
    let any = "listen = \"127.0.0.1:0\"\n";
    let socket = |path: &Path| format!("{any}admin_socket = {path:?}");
    for (lines, code) in [
        (socket(Path::new("/")), 1),
        (socket(Path::new("/etc")), 1),
        (socket(Path::new("/dev/null")), 1),
        (socket(Path::new("/proc/a.sock")), 1),
        (socket(&file), 1),
        (socket(&nowhere), 1),
        (socket(&long), 1),
        (format!("{any}admin_socket = \"/a\\u0000b\""), 1),
        (
            format!("listen = [\"0.0.0.0:{free}\", \"127.0.0.1:{free}\"]"),
            2,
        ),
        (
            format!("listen = \"127.0.0.1:{free}\"\nadmin_listen = \"127.0.0.1:{free}\""),
            2,
        ),
        (
            format!("listen = \"127.0.0.1:{free}\"\nadmin_listen = \"[::]:{free}\""),
            2,
        ),
        (format!("{any}admin_listen = \"[fe80::1]:{free}\""), 2),
    ] {
        let (checked, served, said) = checked_and_served(&root, &lines);
        assert_eq!(
            (checked, served),
            (Some(code), Some(code)),
            "{lines}: {said}"
        );
    }
    let socket = socket(&folder.path().join("a.sock"));
    let (checked, served, said) = checked_and_served(&root, &socket);
    assert_eq!((checked, served), (Some(0), None), "{said}");
}

#[test]
fn beside_a_server_that_runs_a_check_finds_what_the_next_start_would() {
    let watched = Watched::start("");
    let root = watched.server.root();
    let check = |lines: &str| {
        let file = root.with_extension("check");
        std::fs::write(&file, format!("root = {root:?}\n{lines}")).unwrap();
        let mut check = bitsd(&["check", "--quiet", "--config"]);
        let checked = check.arg(&file).output().unwrap();
        (checked.status.code(), text(&checked))
    };
    let (listen, admin) = (watched.server.address(), watched.address);
    let socket: &Path = &watched.socket;
    let own =
        format!("listen = \"{listen}\"\nadmin_listen = \"{admin}\"\nadmin_socket = {socket:?}");
    assert_eq!(check(&own), (Some(0), String::new()));
    let (code, said) = check("admin_socket = \"/dev/null\"");
    assert!(code == Some(1) && said.contains("is no socket"), "{said}");
    let (code, said) = check("listen = \"192.0.2.1:8080\"");
    assert!(code == Some(1) && said.contains("no address"), "{said}");
    let (code, said) = check("admin_listen = \"192.0.2.1:8080\"");
    assert!(code == Some(1) && said.contains("no address"), "{said}");
}

/// The name of the socket of a service manager.
const NOTIFY: &str = "notify";

/// A service manager, in a folder of its own.
fn service_manager() -> (tempfile::TempDir, UnixDatagram) {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join(NOTIFY)).unwrap();
    manager.set_read_timeout(Some(support::PATIENCE)).unwrap();
    (folder, manager)
}

/// A server that tells it, so often.
fn managed(folder: &Path, watchdog_usec: &str) -> Settings {
    let socket = folder.join(NOTIFY);
    let variables = [
        format!("NOTIFY_SOCKET={}", socket.display()),
        format!("WATCHDOG_USEC={watchdog_usec}"),
    ];
    Settings::default().wrapper(&["env", &variables[0], &variables[1]])
}

/// What the service manager hears, until it hears this.
fn hear(socket: &UnixDatagram, words: &str) -> String {
    let mut message = [0; 4_096];
    loop {
        let bytes = socket.recv(&mut message).expect(words);
        let heard = String::from_utf8_lossy(&message[..bytes]).into_owned();
        if heard.contains(words) {
            return heard;
        }
    }
}

#[test]
fn the_service_manager_hears_how_the_server_is() {
    let (folder, manager) = service_manager();
    let settings = managed(folder.path(), "600000").file("strict = true");
    let mut server = Server::with(settings);
    let ready = hear(&manager, "READY=1");
    assert!(ready.contains("STATUS=serving; 0 unfinished"), "{ready}");
    hear(&manager, "WATCHDOG=1");
    hear(&manager, "WATCHDOG=1");
    server.reload("strict = false");
    let reloading = hear(&manager, "RELOADING=1");
    assert!(
        reloading.contains("MONOTONIC_USEC="),
        "in one message: {reloading}"
    );
    assert!(hear(&manager, "READY=1").contains("STATUS=serving; the settings were reloaded"));
    server.reload("strict = 7");
    assert!(hear(&manager, "STATUS=serving, under").contains("strict"));
    server.terminate();
    hear(&manager, "STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
}

/// A journal that is read for as long as this lives: a hole is read, and no disk is needed for it.
struct LongJournal(fs::File, u64);

impl LongJournal {
    /// Of a server that was there before.
    fn in_root(root: &Path) -> Self {
        Server::on(root, Settings::default()).kill9();
        let names = fs::read_dir(root.join(".bitsd")).unwrap();
        let mut paths = names.map(|entry| entry.unwrap().path());
        let journal = paths.find(|path| path.extension().is_some_and(|end| end == "journal"));
        let journal = fs::File::options().write(true).open(journal.unwrap());
        let journal = journal.unwrap();
        let len = journal.metadata().unwrap().len();
        journal.set_len(1 << 40).unwrap();
        Self(journal, len)
    }
}

impl Drop for LongJournal {
    fn drop(&mut self) {
        self.0.set_len(self.1).unwrap();
    }
}

/// How much more time the service manager is asked for, in microseconds.
fn more_time(heard: &str) -> u64 {
    let more = heard
        .lines()
        .find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    more.unwrap_or_else(|| panic!("none: {heard}"))
        .parse()
        .unwrap()
}

/// Goal: a start that takes long says so in the log too, and ends soon when it is not to be: no
/// client has connected.
#[test]
fn a_start_that_is_not_to_be_ends_soon() {
    let ((folder, manager), root) = (service_manager(), tempfile::tempdir().unwrap());
    let journal = LongJournal::in_root(root.path());
    let file = folder.path().join("bitsd.toml");
    fs::write(&file, "limits.shutdown_ms_max = 600_000").unwrap();
    let mut server = bitsd(&["serve", "--listen", "127.0.0.1:0", "--cores", "1"]);
    server
        .arg("--root")
        .arg(root.path())
        .arg("--config")
        .arg(&file);
    server.env("NOTIFY_SOCKET", folder.path().join(NOTIFY));
    let mut server = Program(server.stderr(Stdio::piped()).spawn().unwrap());
    let log = lines_of(server.0.stderr.take().unwrap());
    hear(&manager, "STATUS=starting: ");
    let line = await_line(&log, &["event=start_goes_on"]);
    assert!(
        line.contains("of 1.00 TiB of the journals so far"),
        "{line}"
    );
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&server.0),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let began = Instant::now();
    let status = server.wait();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert!(status.success(), "{status}");
    await_line(&log, &["event=start_given_up"]);
    drop(journal);
}

/// Goal: while sessions are read back, `systemctl status` says how far it is, the start is not cut
/// short, and `/ready` says no where `/live` says yes. Method: a journal without end, until it is
/// cut to what it was.
#[test]
fn a_start_that_takes_long_says_how_far_it_is_and_is_live() {
    let ((folder, manager), root) = (service_manager(), tempfile::tempdir().unwrap());
    let journal = LongJournal::in_root(root.path());
    let admin = free_address();
    let settings = managed(folder.path(), "0").file(&format!("admin_listen = \"{admin}\""));
    let ask = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        let (status, _, body) = answered(&mut TcpStream::connect(admin).unwrap(), &request);
        (status, body)
    };
    thread::scope(|scope| {
        // Dropped before the scope waits for the server.
        let journal = journal;
        let starting = scope.spawn(|| Server::on(root.path(), settings));
        let words = "of 1.00 TiB of the journals so far";
        let first = hear(&manager, "STATUS=starting: ");
        hear(&manager, words);
        let later = hear(&manager, words);
        assert!(
            later.contains("shards are reading their sessions back, "),
            "{later}"
        );
        assert_ne!(first, later, "it is further than it was");
        assert_eq!(
            more_time(&later),
            60_000_000,
            "a minute, of which two seconds pass"
        );
        wait_until("health was judged", || {
            ask("/ready").1.contains("\"recovering\"")
        });
        let (ready, body) = ask("/ready");
        assert!(ready == 503 && body.contains(words), "{ready} {body}");
        assert_eq!(ask("/live").0, 200);
        assert!(!starting.is_finished());
        drop(journal);
        hear(&manager, "STATUS=serving; 0 unfinished");
        let _server = starting.join().unwrap();
        wait_until("that is seen", || ask("/ready").0 == 200);
    });
}

/// The same for its end, which may take longer than the unit has patience: a client is waited for.
#[test]
fn an_end_that_takes_long_says_what_it_waits_for_and_is_live() {
    let (folder, manager) = service_manager();
    let lines = "[limits]\nshutdown_ms_max = 100000\n";
    let mut watched = Watched::with(managed(folder.path(), "0"), lines);
    let mut client = Client::create(watched.server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    watched.server.wait_for_part(client.session(), 100_000);
    watched.server.terminate();
    let waits = "STATUS=stopping: waits for 1 connection to end; ";
    let first = more_time(&hear(&manager, waits));
    assert!(
        first > 105_000_000,
        "requests, and a sync of 5 s at the most: {first}"
    );
    let later = more_time(&hear(&manager, waits));
    assert!(
        (60_000_000..first).contains(&later),
        "what is left of {first}: {later}"
    );
    wait_until("health was judged", || watched.get("/ready").0 == 503);
    assert_eq!(watched.reasons(), ["draining"]);
    assert_eq!(watched.get("/live").0, 200);
    client.send_rest(100_000, 200_000, 100_000);
    let safe = hear(&manager, "STATUS=stopping: the disk makes safe");
    assert!(
        more_time(&safe) > 5_000_000,
        "the sync and the ledger: {safe}"
    );
    assert_eq!(watched.server.wait().code(), Some(0));
}

/// So many messages that there is no room for more.
fn fill(folder: &Path) {
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"X=1", folder.join(NOTIFY)).is_ok() {}
}

/// Signals are heard all the same, and what it must know it is told when it reads again.
#[test]
fn a_service_manager_that_does_not_read_is_not_waited_for() {
    for watchdog_usec in ["600000", "0"] {
        let (folder, manager) = service_manager();
        fill(folder.path());
        let mut server = Server::with(managed(folder.path(), watchdog_usec));
        server.wait_for_log("event=service_not_told");
        hear(&manager, "FDSTORE=1");
        hear(&manager, "READY=1");
        fill(folder.path());
        server.terminate();
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Goal: where each Create-Session would hear 503, the server is not ready.
#[test]
fn a_server_with_as_many_uploads_as_may_be_is_not_ready() {
    let settings = Settings::default().flags(&["--cores", "1"]);
    let watched = Watched::with(settings, "[limits]\nsessions_per_shard_max = 1\n");
    wait_until("it is ready", || watched.get("/ready").0 == 200);
    let mut client = Client::create(watched.server.address(), "/a.bin");
    wait_until("that is seen", || watched.get("/ready").0 == 503);
    assert_eq!(watched.reasons(), ["sessions_full"]);
    client.send(fragment(0..10)).assert(200, None);
    client.close().assert(200, None);
    wait_until("there is room again", || watched.get("/ready").0 == 200);
}

/// Goal: at a location that a reload has taken out, no uploads are counted any more: where the list
/// shows them, there they are.
#[test]
fn uploads_of_a_location_that_is_gone_are_counted_where_they_are_listed() {
    let watched = Watched::start("[[location]]\nprefix = \"lo\"\ncreate_dirs = true\n");
    for path in ["/a.bin", "/lo/b.bin", "/lo/c.bin"] {
        let mut client = Client::create(watched.server.address(), path);
        client.send(fragment(0..10).of(20)).assert(200, None);
    }
    let counted = |location: &str| {
        let status = watched.json("/v1/status");
        let all = status["locations"].as_array().unwrap().clone();
        let of = |one: &Value| one["location"] == location;
        all.iter()
            .find(|one| of(one))
            .map_or(0, |one| one["sessions"].as_u64().unwrap())
    };
    assert_eq!((counted("/lo"), counted("/")), (2, 1));
    let file = watched.server.root().with_extension("toml");
    let text = fs::read_to_string(&file).unwrap();
    let (without, _) = text.split_once("[[location]]").unwrap();
    fs::write(&file, without).unwrap();
    let output = watched.command(&["reload"]);
    assert!(output.status.success(), "{}", crate::text(&output));
    wait_until("they are counted elsewhere", || {
        (counted("/lo"), counted("/")) == (0, 3)
    });
    assert_eq!(watched.get("/v1/sessions?location=/").1.lines().count(), 3);
}

/// What waits for the service manager to read it.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4_096];
    socket.set_nonblocking(true).unwrap();
    let heard = std::iter::from_fn(|| {
        let bytes = socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..bytes]).into_owned())
    });
    let heard = heard.collect();
    socket.set_nonblocking(false).unwrap();
    heard
}

/// Goal: while sessions are read back, a list that is not whole is none, a reload makes nobody
/// ready, and an end that is asked for is seen.
#[test]
fn who_asks_while_sessions_are_read_back_hears_what_is_known() {
    let ((folder, manager), root) = (service_manager(), tempfile::tempdir().unwrap());
    let journal = LongJournal::in_root(root.path());
    let (file, socket) = (
        folder.path().join("bitsd.toml"),
        folder.path().join("admin"),
    );
    fs::write(&file, format!("admin_socket = {socket:?}\n")).unwrap();
    let mut server = bitsd(&["serve", "--listen", "127.0.0.1:0", "--cores", "1"]);
    server.arg("--root").arg(root.path());
    server.arg("--config").arg(&file);
    server.env("NOTIFY_SOCKET", folder.path().join(NOTIFY));
    let mut server = Program(server.stderr(Stdio::piped()).spawn().unwrap());
    let log = lines_of(server.0.stderr.take().unwrap());
    await_line(&log, &["event=admin_listening"]);
    hear(&manager, "STATUS=starting: ");
    let ask = |words: &[&str]| {
        let output = bitsd(words).arg("--socket").arg(&socket).output().unwrap();
        let said = [&*output.stdout, &*output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let id = "7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE";
    for words in [
        &["sessions", "list"][..],
        &["sessions", "show", id],
        &["sessions", "show", "7A1CF7F0"],
        &["sessions", "cancel", "--path", "*"],
        &["sessions", "expire", "--idle", "1s"],
    ] {
        let (code, said) = ask(words);
        assert_eq!(code, Some(1), "{words:?}: {said}");
        assert!(said.contains("reading their sessions back"), "{said}");
    }
    let (code, said) = ask(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    let heard = heard(&manager).concat();
    assert!(!heard.contains("READY=1"), "{heard}");
    assert!(!heard.contains("RELOADING=1"), "{heard}");
    assert_eq!(ask(&["drain"]).0, Some(0));
    wait_until("that is seen", || {
        ask(&["status", "--json"]).1.contains("\"draining\"")
    });
    let (_, said) = ask(&["drain"]);
    assert!(said.contains("nothing new"), "{said}");
    assert!(server.wait().success());
    drop(journal);
}

/// Goal: whoever asks for a reload while others do hears what became of one that began after he had
/// asked.
#[test]
fn reloads_that_are_asked_for_at_once_are_all_answered() {
    let mut watched = Watched::start("");
    let file = watched.server.root().with_extension("toml");
    // So many that each reload takes its time.
    let locations: String = (0..3_000)
        .map(|number| format!("[[location]]\nprefix = \"p{number}\"\n"))
        .collect();
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, before + &locations).unwrap();
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let mut command = bitsd(&["reload", "--socket"]);
            command.arg(&watched.socket).stderr(Stdio::piped());
            Program(command.stdout(Stdio::null()).spawn().unwrap())
        })
        .collect();
    for mut one in asked {
        let status = one.wait();
        let mut said = String::new();
        (one.0.stderr.take().unwrap())
            .read_to_string(&mut said)
            .unwrap();
        assert!(status.success(), "{said}");
    }
    watched.server.stop();
}

/// Holds a thread of a server by ptrace(2), for as long as it runs itself.
const HOLD: &str = "
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
thread = int(sys.argv[1])
if libc.ptrace(PTRACE_SEIZE, thread, 0, 0) or libc.ptrace(PTRACE_INTERRUPT, thread, 0, 0):
    sys.exit('not allowed')
print('held', flush=True)
time.sleep(600)
";

#[test]
fn a_shard_that_stands_still_is_not_live_and_the_watchdog_is_not_fed() {
    let (folder, manager) = service_manager();
    let watched = Watched::with(managed(folder.path(), "3000000"), "");
    assert_eq!(watched.get("/live").0, 200);
    let tasks = format!("/proc/{}/task", watched.server.pid());
    let is_shard = |task: &PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "shard-1")
    };
    let mut tasks = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| task.unwrap().path());
    let shard = tasks.find(is_shard).expect("shard-1");
    let mut hold = Command::new("python3");
    hold.args(["-c", HOLD]).arg(shard.file_name().unwrap());
    let Ok(held) = hold.stdout(Stdio::piped()).spawn() else {
        return skip("there is no python3");
    };
    let mut held = Program(held);
    let mut said = String::new();
    let stdout = held.0.stdout.take().unwrap();
    let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said);
    if said.trim() != "held" {
        return skip("threads cannot be held by ptrace here");
    }
    // What is said meanwhile is read: a socket takes ten messages, and the next one waits.
    manager.set_nonblocking(true).unwrap();
    let mut message = [0; 4_096];
    wait_until("it is seen", || {
        while manager.recv(&mut message).is_ok() {}
        watched.get("/live").0 == 503
    });
    let live = watched.json("/live");
    assert_eq!(live["reasons"][0]["reason"], "stalled_shard");
    assert!(
        live["reasons"][0]["why"]
            .as_str()
            .unwrap()
            .contains("shard-1"),
        "{live}"
    );
    assert_eq!(watched.get("/ready").0, 503);
    // One message may be on its way; then none comes for longer than the watchdog has patience.
    manager.set_nonblocking(false).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(4)))
        .unwrap();
    let _late = manager.recv(&mut message);
    assert!(
        manager.recv(&mut message).is_err(),
        "it is fed nevertheless"
    );
    drop(held);
    wait_until("it is live again", || watched.get("/live").0 == 200);
}

/// Goal: what cannot be said while no server answers ends nobody who watches. Method: stderr is
/// full, and whoever listens for the server hangs up; that it is asked again shows that it went on.
#[test]
fn a_status_that_is_watched_goes_on_though_it_cannot_say_that_nobody_answers() {
    let mut watched = Watched::start("");
    let dev_full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = bitsd(&["status", "--watch", "--json", "--socket"]);
    command.arg(&watched.socket);
    command.stdout(Stdio::piped()).stderr(dev_full);
    let mut status = Program(command.spawn().unwrap());
    let mut stdout = status.0.stdout.take().unwrap();
    assert!(stdout.read(&mut [0; 4_096]).unwrap() > 0);
    let drained = thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
    watched.server.stop();
    let _ = fs::remove_file(&watched.socket);
    let nobody = UnixListener::bind(&watched.socket).unwrap();
    nobody.set_nonblocking(true).unwrap();
    for _ in 0..2 {
        wait_until("it asks", || nobody.accept().is_ok());
    }
    assert!(status.0.try_wait().unwrap().is_none());
    drop(status);
    drained.join().unwrap().unwrap();
}

/// Whoever watches a restart sees its end.
#[test]
fn a_status_that_is_watched_goes_on_over_a_restart() {
    let mut watched = Watched::start("");
    let mut command = bitsd(&["status", "--watch", "--socket"]);
    command.arg(&watched.socket).stdout(Stdio::piped());
    let mut status = Program(command.spawn().unwrap());
    let shown = Arc::new(Mutex::new(String::new()));
    let mut stdout = status.0.stdout.take().unwrap();
    let reader = thread::spawn({
        let shown = Arc::clone(&shown);
        move || {
            let mut block = [0; 4_096];
            while let Ok(read @ 1..) = stdout.read(&mut block) {
                let mut shown = shown.lock().unwrap();
                shown.push_str(&String::from_utf8_lossy(&block[..read]));
            }
        }
    });
    let saw = |words: &str| wait_until(words, || shown.lock().unwrap().contains(words));
    saw("ready: new uploads");
    watched.server.stop();
    saw("NO ANSWER since");
    shown.lock().unwrap().clear();
    watched.server.restart();
    saw("ready: new uploads");
    assert!(status.0.try_wait().unwrap().is_none());
    drop(status);
    reader.join().unwrap();
    // Where nobody was, nothing is waited for.
    watched.server.stop();
    let nobody = watched.command(&["status", "--watch"]);
    assert!(!nobody.status.success(), "{}", text(&nobody));
}

/// What a terminal of 24 rows is shown of it begins with whether all is well, on one that can only
/// write on without a control character.
#[test]
fn a_status_that_is_watched_fits_the_terminal() {
    let mut lines = String::from("create_dirs = true\n");
    for number in 0..30 {
        lines.push_str(&format!("[[location]]\nprefix = \"in-{number}\"\n"));
    }
    let watched = Watched::start(&lines);
    let on = |term: &str, words: &str| {
        let bitsd = env!("CARGO_BIN_EXE_bitsd");
        let socket = watched.socket.display();
        let line = format!("stty rows 24 cols 80; exec {bitsd} status --watch --socket {socket}");
        let mut script = Command::new("script");
        script
            .args(["-q", "-f", "-c", &line, "/dev/null"])
            .env("TERM", term);
        script.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut script = Program(script.spawn().ok()?);
        let mut stdout = script.0.stdout.take().unwrap();
        let (mut shown, mut block) = (String::new(), [0; 4_096]);
        while !shown.contains(words) {
            match stdout.read(&mut block).unwrap() {
                0 => panic!("it has ended: {shown}"),
                read => shown.push_str(&String::from_utf8_lossy(&block[..read])),
            }
        }
        Some(shown)
    };
    let Some(shown) = on("xterm", "\x1b[J") else {
        return skip("there is no script(1)");
    };
    let screen = shown.split("\x1b[H").nth(1).unwrap();
    assert!(
        screen.starts_with("ready: new uploads are taken"),
        "{shown}"
    );
    assert_eq!(screen.lines().count(), 24, "{shown}");
    assert!(screen.contains(" more lines"), "{shown}");
    let shown = on("dumb", "/in-29").unwrap();
    assert!(!shown.contains('\x1b'), "{shown}");
}

/// A server that has no place for one question, or none for whoever watches, has one later.
#[test]
fn a_status_that_is_watched_goes_on_over_a_refusal() {
    let watched = Watched::start("");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let [status, stuck] = ["/v1/status", "/v1/attention"].map(|of| watched.order("GET", of).1);
    let server = thread::spawn(move || {
        let mut asked = 0;
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1_024]);
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            asked += usize::from(request.starts_with("GET /v1/status "));
            let (code, body) = match request.split(' ').nth(1) {
                Some("/v1/status") if asked == 2 => (503, r#"{"ok":false,"message":"full"}"#),
                Some("/v1/status") => (200, &*status),
                Some("/v1/attention") => (200, &*stuck),
                Some(_) => (200, ""),
                // Nobody asks any more.
                None => return,
            };
            let head = format!(
                "HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // Who is ended meanwhile hears no more.
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    let mut command = bitsd(&["status", "--watch", "--socket"]);
    command.arg(&socket).stdout(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let (mut stdout, mut shown) = (program.0.stdout.take().unwrap(), String::new());
    let mut block = [0; 4_096];
    while shown.matches("ready: new uploads").count() < 2 {
        match stdout.read(&mut block).unwrap() {
            0 => panic!("it has ended: {shown}"),
            read => shown.push_str(&String::from_utf8_lossy(&block[..read])),
        }
    }
    assert!(
        shown.contains("NO ANSWER since") && shown.contains("full"),
        "{shown}"
    );
    drop(program);
    drop(UnixStream::connect(&socket).unwrap());
    server.join().unwrap();
}

/// Goal: what an Ack promises under the settings of now holds also for bytes that came under those
/// of before. Method: the last fragment is repeated when settings ask for durability that did not.
#[test]
fn bytes_that_came_before_the_settings_asked_for_durability_are_synced_before_the_next_ack() {
    let watched = Watched::start("durability = \"none\"");
    let server = &watched.server;
    let syncs = || watched.series("bitsd_disk_duration_seconds_count{op=\"sync\"}");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..1_000)).assert(200, None);
    client.send(fragment(0..1_000)).assert(200, None);
    let before = syncs();
    let lines = server.settings().file;
    server.reload(&lines.replace("\"none\"", "\"upload\""));
    server.wait_for_log("event=reloaded");
    client.send(fragment(0..1_000)).assert(200, None);
    let after = syncs();
    assert!(after > before, "{before} and {after}");
    // Once is enough.
    client.send(fragment(0..1_000)).assert(200, None);
    assert!((syncs() - after).abs() < f64::EPSILON);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 1_000);
}
