//! The log of the real server: nothing that can be wrong with stderr or stdout stops or slows it,
//! no client can fill it, and every line of it is one.

mod support;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use support::client::{Client, fragment};
use support::program::{Program, free_address};
use support::raw::Raw;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// From SIGTERM to the end, whatever the reader of the log does: the flush is given a second, and
/// the machine may be busy.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A server on a known address, with stdout and stderr as the test wants them.
struct Bare {
    program: Program,
    address: SocketAddr,
}

impl Bare {
    #[track_caller]
    fn start(
        root: &Path,
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
        flags: &[&str],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.stdout(stdout).stderr(stderr);
        Self::run(command, root, flags)
    }

    #[track_caller]
    fn run(mut command: Command, root: &Path, flags: &[&str]) -> Self {
        let address = free_address();
        command.args(["serve", "--cores", "2", "--root"]).arg(root);
        command.args(["--listen", &address.to_string()]).args(flags);
        let program = Program(command.stdin(Stdio::null()).spawn().unwrap());
        let bare = Self { program, address };
        wait_until("it takes packets", || bare.pings());
        bare
    }

    fn pings(&self) -> bool {
        let Ok(mut raw) = Raw::try_connect(self.address) else {
            return false;
        };
        // Anything but a Ping is refused while sessions are read back.
        let sent = raw.try_send(
            "BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Cancel-Session\r\n\
             BITS-Session-Id: {7A1CF7F0-FCA6-4D1B-8883-5FBB10F7F1DE}\r\nContent-Length: 0\r\n\r\n",
        );
        let answer = raw.try_receive();
        sent.is_ok() && matches!(answer, Ok(Some(answer)) if answer.status != 503)
    }

    #[track_caller]
    fn upload(&self, name: &str) {
        let mut client = Client::create(self.address, &format!("/{name}"));
        client.send(fragment(0..100)).assert(200, None);
        client.close().assert(200, None);
    }

    #[track_caller]
    fn stop_in_time(&mut self) -> ExitStatus {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.program.0), Signal::TERM).unwrap();
        let status = self.program.wait();
        assert!(begun.elapsed() < STOP_MAX, "took {:?}", begun.elapsed());
        status
    }
}

fn root() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    (folder, root)
}

/// A pipe that holds no byte more; whoever writes waits for a reader that does not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let filled = |piece: &[u8]| rustix::io::write(&writer, piece).is_err();
    while !filled(&[b'.'; 4096]) {}
    while !filled(b".") {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Goal: a disk without room for the log costs lines of the log and nothing else. Method: the log
/// lies on a tiny file system that is full; the server starts, serves and starts again on it, and
/// says how much is missing once there is room.
#[test]
fn a_log_on_a_full_disk_costs_lines_and_nothing_else() {
    let disk = tempfile::tempdir().unwrap();
    let mount = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg(disk.path())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs"]) {
        return skip("a small file system cannot be mounted (needs root)");
    }
    struct Unmount<F: Fn(&[&str]) -> bool>(F);
    impl<F: Fn(&[&str]) -> bool> Drop for Unmount<F> {
        fn drop(&mut self) {
            (self.0)(&["umount", "-l"]);
        }
    }
    let _unmount = Unmount(mount);
    let filler = disk.path().join("filler");
    let fill = || {
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    };
    let log = disk.path().join("log");
    let open = || {
        File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap()
    };
    let (_folder, root) = root();

    open();
    fill();
    for start in 0..2 {
        let mut server = Bare::start(&root, Stdio::null(), open(), &["--log-level", "debug"]);
        for number in 0..20 {
            server.upload(&format!("{start}-{number}.bin"));
        }
        if start == 0 {
            assert_eq!(server.stop_in_time().code(), Some(0));
            continue;
        }
        std::fs::remove_file(&filler).unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        server.upload("after.bin");
        wait_until("the log says how many lines are missing", || {
            said().contains("event=log_lines_lost")
        });
        assert_eq!(server.stop_in_time().code(), Some(0));
        for line in said().lines() {
            assert!(
                line.starts_with("timestamp=") && line.contains(" event="),
                "{line}"
            );
        }
    }
}

/// Goal: a reader of the log that does not read holds nobody up. Method: far more lines than the
/// pipe takes, then a stop.
#[test]
fn a_log_pipe_that_nobody_reads_holds_neither_uploads_nor_the_stop_up() {
    let (_reader, writer) = full_pipe();
    let (_folder, root) = root();
    let mut server = Bare::start(&root, Stdio::null(), writer, &["--log-level", "debug"]);
    for number in 0..100 {
        server.upload(&format!("{number}.bin"));
    }
    assert_eq!(server.stop_in_time().code(), Some(0));
}

#[test]
fn a_log_pipe_whose_reader_is_gone_stops_nobody() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let (_folder, root) = root();
    let mut server = Bare::start(&root, writer.try_clone().unwrap(), writer, &[]);
    server.upload("a.bin");
    assert_eq!(server.stop_in_time().code(), Some(0));
}

#[test]
fn a_stdout_that_nobody_reads_or_that_is_full_stops_nobody() {
    let (_reader, writer) = full_pipe();
    let dev_full = || File::options().write(true).open("/dev/full").unwrap();
    let (_folder, root) = root();
    for (out, err) in [
        (Stdio::from(writer), Stdio::null()),
        (dev_full().into(), dev_full().into()),
    ] {
        let mut server = Bare::start(&root, out, err, &["--log-level", "debug"]);
        server.upload("a.bin");
        std::fs::remove_file(root.join("a.bin")).unwrap();
        assert_eq!(server.stop_in_time().code(), Some(0));
    }
}

#[test]
fn closed_descriptors_stop_nobody_and_lead_nowhere() {
    let (_folder, root) = root();
    let mut command = Command::new("sh");
    let close = "exec \"$@\" <&- >&- 2>&-";
    command.args(["-c", close, "sh", env!("CARGO_BIN_EXE_bitsd")]);
    let mut server = Bare::run(command, &root, &["--log-level", "debug"]);
    server.upload("a.bin");
    assert_eq!(std::fs::read(root.join("a.bin")).unwrap().len(), 100);
    assert_eq!(server.stop_in_time().code(), Some(0));
}

#[test]
fn commands_that_cannot_say_what_they_have_to_say_end_with_their_code() {
    let dev_full = || File::options().write(true).open("/dev/full").unwrap();
    let (_reader, pipe) = full_pipe();
    // Somebody who has seen enough, as `head` has.
    let (folder, root) = root();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let command = command
        .args(["check", "--no-config", "--listen", "127.0.0.1:0", "--root"])
        .arg(&root)
        .stdout(writer);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    drop(folder);
    for (words, code) in [
        (&["check"][..], 1),
        (&["check", "--config", "/does/not/exist"], 2),
        (&["serve", "--config", "/does/not/exist"], 2),
        (&["put", "/does/not/exist", "http://127.0.0.1:1/"], 1),
        (&["serve", "--nonsense"], 2),
        (&["serve", "--nonsense", "--log-format", "json"], 2),
        (&["put", "--nonsense"], 2),
        (&["--help"], 1),
        (&["--version"], 1),
    ] {
        for err in [
            Stdio::from(dev_full()),
            Stdio::from(pipe.try_clone().unwrap()),
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
            command
                .args(words)
                .stdin(Stdio::null())
                .stdout(dev_full())
                .stderr(err);
            let status = Program(command.spawn().unwrap()).wait();
            assert_eq!(status.code(), Some(code), "{words:?}");
        }
    }
}

/// A token that nobody has seen would be a line that nobody can use.
#[test]
fn a_token_that_cannot_be_shown_leaves_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, before) = (folder.path().join("tokens"), "# ours\n");
    std::fs::write(&tokens, before).unwrap();
    let token = |user: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["token", user, "--file"]).arg(&tokens);
        command
    };
    let dev_full = File::options().write(true).open("/dev/full").unwrap();
    let output = token("anna").stdout(dev_full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("so there is none"), "{said}");
    assert_eq!(std::fs::read_to_string(&tokens).unwrap(), before);
    assert_eq!(token("bert").output().unwrap().status.code(), Some(0));
    let after = std::fs::read_to_string(&tokens).unwrap();
    assert!(after.starts_with("# ours\nbert:"), "{after}");
}

/// A pager that is paused: all of it comes when it goes on.
#[test]
fn what_was_asked_for_waits_for_its_reader() {
    for words in [
        &["check", "--help"][..],
        &["check", "--no-config", "--listen", "127.0.0.1:0"],
    ] {
        let (folder, _) = root();
        let (mut reader, writer) = full_pipe();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(words).current_dir(folder.path());
        let mut whole = command.output().unwrap().stdout;
        command.stdout(writer).stderr(Stdio::null());
        let mut program = Program(command.spawn().unwrap());
        // What the log is given, and more.
        let begun = Instant::now();
        wait_until("the reader is back", || {
            begun.elapsed() > Duration::from_millis(1500)
        });
        // The pipe has no other end then.
        drop(command);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        program.wait();
        whole.truncate(200);
        let has_begun = read.windows(whole.len()).any(|part| part == whole);
        assert!(has_begun, "{words:?}");
        assert_eq!(read.last(), Some(&b'\n'), "{words:?}");
    }
}

/// Goal: no client can fill the log. Method: a flood of bad heads and refusals on one connection
/// each time, as many as come through in a moment; lines and the counts of those left out make up
/// the flood.
#[test]
fn a_flood_of_refusals_is_a_burst_and_a_count() {
    let server = Server::with(Settings::default().flags(&["--log-format", "json"]));
    let request = |number: u32| {
        format!("BITS_POST /a{number} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    };
    let mut raw = server.connect();
    let sent = 5_000;
    for first in (0..sent).step_by(100) {
        let flood: String = (first..first + 100).map(request).collect();
        raw.send(flood);
        for _ in 0..100 {
            raw.receive().assert(400, Some("0x80070057"));
        }
    }
    let lines = || -> Vec<serde_json::Value> {
        let log = server.log();
        let whole = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    };
    let refused = |line: &&serde_json::Value| line["event"] == "packet_refused";
    let counted = |lines: &[serde_json::Value]| -> u64 {
        let more = lines.iter().filter(|line| {
            line["event"] == "more_like_this"
                && line["of"] == "packet_refused"
                && line["status"] == 400
        });
        more.map(|line| line["lines"].as_u64().unwrap()).sum()
    };
    wait_until("every refusal is told or counted", || {
        let lines = lines();
        lines.iter().filter(refused).count() as u64 + counted(&lines) == u64::from(sent)
    });
    let lines = lines();
    let told = lines.iter().filter(refused).count();
    // Ten a second after the burst; the machine may be slow.
    assert!((100..600).contains(&told), "{told} lines");
    let first = lines.iter().find(refused).unwrap();
    assert_eq!(first["target"], "/a0", "{first}");
}

/// Goal: a flood for one reason hides no other, for packets and for what is none. Method: more than
/// a burst of each, and then one for another reason with the same status.
#[test]
fn a_flood_for_one_reason_hides_no_other() {
    let server = Server::with(Settings::default().flags(&["--log-format", "json"]));
    let mut raw = server.connect();
    for number in 0..300 {
        raw.send(format!(
            "BITS_POST /a:{number} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
        ));
        raw.receive().assert(400, Some("0x80070057"));
        let mut other = server.connect();
        other.send(format!("BITS_POST /b{number} HTTP/1.1\r\n\r\n"));
        assert_eq!(other.receive().status, 400);
    }
    for path in ["honest/%00file", &format!("honest/{}", "x".repeat(300))] {
        raw.send(format!(
            "BITS_POST /{path} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n"
        ));
        raw.receive().assert(400, Some("0x80070057"));
    }
    let mut other = server.connect();
    other.send("BITS_POST /honest HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n");
    assert_eq!(other.receive().status, 400);
    for why in [
        "bad request target: the path has a control character",
        "bad request target: the path has a name over 255 bytes",
        "the request has more than one Host",
    ] {
        server.wait_for_log(&format!("\"why\":\"{why}\""));
    }
    // What was left out is told with the reason that was flooded.
    for (of, why) in [
        ("packet_refused", r#"the path has one of : * ? \" < > |"#),
        ("request_refused", "an HTTP/1.1 request has no Host"),
    ] {
        wait_until("it is counted", || {
            let log = server.log();
            let mut counts = log.lines().filter(|line| {
                line.contains("more_like_this") && line.contains(&format!("\"of\":\"{of}\""))
            });
            counts.any(|line| line.contains(&format!("\"why\":\"{why}\"")))
        });
    }
}

/// Goal: what is owed of a client's repetitions is told before the server ends, by a signal or for
/// a new program. Method: as many refusals as there are, told and counted.
#[test]
fn what_was_left_out_is_told_when_the_server_ends() {
    let mut server = Server::with(Settings::default().flags(&["--log-format", "json"]));
    let refuse = |server: &Server| {
        let mut raw = server.connect();
        for _ in 0..50 {
            raw.send("BITS_POST /a:b HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n");
            raw.receive().assert(400, Some("0x80070057"));
        }
    };
    let owed = |server: &Server| -> Vec<usize> {
        let log = server.log();
        let lines = log.lines().enumerate();
        let is_count =
            |line: &str| line.contains("more_like_this") && line.contains("\"lines\":49");
        (lines.filter(|(_, line)| is_count(line)))
            .map(|(at, _)| at)
            .collect()
    };
    refuse(&server);
    assert!(owed(&server).is_empty());
    server.make_way();
    wait_until("the new program tells nothing of it", || {
        server.log().matches("\"event\":\"started\"").count() == 2
    });
    assert_eq!(owed(&server).len(), 1, "{}", server.log());
    refuse(&server);
    server.stop();
    let told = owed(&server);
    let log = server.log();
    let lines: Vec<_> = log.lines().collect();
    let is_stop = |line: &&str| line.contains("\"event\":\"stopped\"");
    let stopped = lines.iter().rposition(is_stop);
    assert!(told.len() == 2 && told.last().copied() < stopped, "{log}");
}

/// Goal: nobody takes what was cut off for the whole. Method: a disk that is full.
#[test]
fn help_that_cannot_be_written_is_a_failure() {
    for words in [
        &["--help"][..],
        &["--version"],
        &["check", "--help"],
        &["sessions", "list", "--help"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(words).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert!(
            said.contains("cannot write to stdout: No space left"),
            "{said}"
        );
        // Whoever reads the beginning has what was asked for.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let status = command.args(words).stdout(writer).status().unwrap();
        assert!(status.success(), "{words:?}");
    }
}

#[test]
fn what_was_refused_stands_in_the_line() {
    let server = Server::start();
    let long = "x".repeat(5_000);
    for (request, expected) in [
        (
            "BITS_POST /a:b.txt HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n",
            "target=\"/a:b.txt\"",
        ),
        (
            "BITS_POST /r%E9.txt HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n",
            "target=\"/r%E9.txt\"",
        ),
        ("BITS_POST /no-host HTTP/1.1\r\n\r\n", "target=\"/no-host\""),
        (
            "BITS_POST /two words HTTP/1.1\r\nHost: h\r\n\r\n",
            "target=\"/two words\"",
        ),
        (
            "BITS_POST /bare HTTP/1.1\nHost: h\r\n\r\n",
            "target=\"/bare\"",
        ),
        (
            &format!("BITS_POST /{long} HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n"),
            "xxx…\"",
        ),
    ] {
        let mut raw = server.connect();
        raw.send(request);
        assert_eq!(raw.receive().status, 400, "{request}");
        server.wait_for_log(expected);
    }
}

/// Goal: no line shows the password that a client has put into its URL. Method: every request whose
/// target is logged as it came, with one of them that ends in the middle.
#[test]
fn no_line_shows_the_user_of_a_target() {
    let server = Server::with(Settings::default().file("log_level = \"debug\"\n"));
    let ping = "Host: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n\r\n";
    let bare = "Host: h\r\nContent-Length: 0\r\n\r\n";
    for (line, fields, shown) in [
        (
            "BITS_POST http://anna:sesame@localhost/a",
            ping,
            "http://…@localhost/a",
        ),
        (
            "BITS_POST //anna:sesame@localhost/b",
            bare,
            "//…@localhost/b",
        ),
        (
            "BITS_POST ftp://anna:sesame@localhost/c",
            ping,
            "ftp://…@localhost/c",
        ),
        (
            "BITS_POST http://anna:s?esame@localhost/d?e",
            ping,
            "http://…@localhost/d?…",
        ),
        (
            "BITS_POST http://anna:sesame@localhost/f",
            bare,
            "http://…@localhost/f",
        ),
        (
            "GET http://anna:sesame@localhost/g",
            bare,
            "http://…@localhost/g",
        ),
        (
            "PUT http://anna:sesame@localhost/h",
            bare,
            "http://…@localhost/h",
        ),
        ("CONNECT anna:sesame@host:1", bare, "…@host:1"),
        (
            "POST http://anna:sesame@localhost/i",
            "Host: h\r\nX-HTTP-Method-Override: BITS_POST\r\n\r\n",
            "http://…@localhost/i",
        ),
    ] {
        let mut raw = server.connect();
        raw.send(format!("{line} HTTP/1.1\r\n{fields}"));
        assert!(raw.receive().status >= 400, "{line}");
        server.wait_for_log(&format!("target=\"{shown}\""));
    }
    let mut raw = server.connect();
    raw.send("BITS_POST http://anna:sesa");
    raw.finish();
    raw.assert_closed();
    server.wait_for_log("event=connection_ended_early");
    assert!(!server.log().contains("sesa"), "{}", server.log());
}

#[test]
fn what_cannot_become_a_request_is_answered_at_once_and_named() {
    let server = Server::start();
    for (bytes, expected) in [
        (
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            "TLS (https) on a port without it",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "the PROXY protocol",
        ),
    ] {
        let mut raw = server.connect();
        // The client goes on waiting: the server must not.
        raw.send(bytes);
        assert!(raw.receive().status >= 400);
        server.wait_for_log(&format!("looks_like=\"{expected}"));
    }
}

#[test]
fn a_connection_that_ends_in_the_middle_leaves_a_line() {
    let server = Server::start();
    let mut raw = server.connect();
    raw.send("BITS_POST /half/of/it HTTP/1.1\r\nHost: h\r\n");
    raw.finish();
    raw.assert_closed();
    server.wait_for_log("event=connection_ended_early");
    assert!(
        server.log().contains("target=\"/half/of/it\""),
        "{}",
        server.log()
    );
}

/// A unit with a slip in it is told of in one line of the log, as all else is; a person who calls
/// another command reads the parser's own words.
#[test]
fn a_wrong_command_line_of_a_server_is_a_line_of_the_log() {
    let said = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for words in [&["serve", "--nonsense"][..], &["serve", "--cores"]] {
        let said = said(words);
        let is_line = said.starts_with("timestamp=") && said.contains(" event=wrong_use ");
        assert!(is_line && said.lines().count() == 1, "{said}");
    }
    let said = said(&["check", "--nonsense"]);
    assert!(said.starts_with("error: unexpected argument"), "{said}");
}

/// Whatever happens, whoever parses the log meets lines of the log.
#[test]
fn every_line_of_a_log_in_json_is_json() {
    let (folder, root) = root();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "log_format = \"json\"\nnonsense = 1\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (root, config) = (root.to_str().unwrap(), config.to_str().unwrap());
    for (words, code, event) in [
        (&["--config", config][..], 2, "wrong_settings"),
        (
            &["--config", "/does/not/exist", "--log-format", "json"],
            2,
            "wrong_settings",
        ),
        (&["--nonsense", "--log-format", "json"], 2, "wrong_use"),
        (&["--nonsense", "--config", config], 2, "wrong_use"),
        (
            &[
                "--log-format",
                "json",
                "--listen",
                "192.0.2.1:1",
                "--root",
                root,
            ],
            1,
            "start_failed",
        ),
        (
            &[
                "--log-format",
                "json",
                "--listen",
                &taken,
                "--root",
                "/dev/null",
            ],
            1,
            "start_failed",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
            .arg("serve")
            .args(words)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect();
        let last = lines.last().expect("a line");
        assert_eq!(
            (&last["event"], &last["level"]),
            (&event.into(), &"ERROR".into()),
            "{said}"
        );
    }
}

/// stdout is for scripts; where it leads into the log it says nothing, so that the log has lines of
/// the log only.
#[test]
fn stdout_stays_out_of_the_log() {
    for format in ["text", "json"] {
        let (folder, root) = root();
        let log = folder.path().join("log");
        let both = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .unwrap();
        let flags = ["--log-format", format, "--log-level", "debug"];
        let mut server = Bare::start(&root, both.try_clone().unwrap(), both, &flags);
        server.upload("a.bin");
        assert_eq!(server.stop_in_time().code(), Some(0));
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.lines().count() > 3, "{said}");
        for line in said.lines() {
            let begin = if format == "json" {
                "{\"timestamp\":"
            } else {
                "timestamp="
            };
            assert!(line.starts_with(begin), "{line}");
        }
    }
}

/// What is read of a log as the journal gets it: `JOURNAL_STREAM` names the pipe.
#[test]
fn the_journal_gets_priorities_and_no_time() {
    let (_folder, root) = root();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let stat = rustix::fs::fstat(&writer).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut server = Bare::run(command, &root, &[]);
    server.upload("a.bin");
    assert_eq!(server.stop_in_time().code(), Some(0));
    drop(server);
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert!(said.contains("event=session_ended"), "{said}");
    for line in said.lines() {
        let priority = line.as_bytes()[1];
        assert!(
            line.starts_with('<') && (b'3'..=b'7').contains(&priority),
            "{line}"
        );
        assert!(line[2..].starts_with(">level="), "{line}");
    }
}

/// Goal: a line costs a shard no system call. Method: a line for each of many small fragments,
/// under strace; the threads of the shards write nothing to stderr, and wake nobody but for the
/// first line after a pause. A disk that is slow for a moment makes a shard wake others for it: the
/// best of some rounds counts.
#[test]
fn a_line_costs_a_shard_no_system_call() {
    const ROUNDS: usize = 3;
    const FRAGMENTS: u64 = 400;
    const WOKEN_MAX: usize = 40;
    let probe = Command::new("strace")
        .args(["-o", "/dev/null", "/bin/true"])
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip("needs strace, and the right to trace");
    }
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let calls = calls_of_shards(FRAGMENTS);
        let with = |words| calls.iter().filter(|call| call.contains(words)).count();
        assert_eq!(with("write(2,"), 0);
        let woken = with("FUTEX_WAKE");
        if woken < WOKEN_MAX {
            return;
        }
        all.push(format!(
            "{woken} in {FRAGMENTS} lines:\n{}",
            calls.join("\n")
        ));
    }
    panic!("{}", all.join("\n"));
}

/// Those to write and to wake that shards make for so many fragments, with a line each.
fn calls_of_shards(fragments: u64) -> Vec<String> {
    let (folder, root) = root();
    let trace = folder.path().join("trace");
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-e", "trace=write,futex", "-o"])
        .arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_bitsd"));
    let log = folder.path().join("log");
    command
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap());
    let mut server = Bare::run(command, &root, &["--log-level", "debug"]);
    let mut client = Client::create(server.address, "/a.bin");
    for at in 0..fragments {
        client
            .send(fragment(at..at + 1).of(fragments))
            .assert(200, None);
    }
    let tasks = format!("/proc/{}/task", server.program.0.id());
    // One that is no shard may have ended meanwhile.
    let is_shard = |task: &PathBuf| {
        let name = std::fs::read_to_string(task.join("comm"));
        name.is_ok_and(|name| name.starts_with("shard-"))
    };
    let shards: Vec<String> = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| task.unwrap().path())
        .filter(is_shard)
        .map(|task| task.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(shards.len(), 2);
    assert_eq!(server.stop_in_time().code(), Some(0));
    let lines = std::fs::read_to_string(&log).unwrap();
    let lines = lines.matches("event=fragment_stored").count() as u64;
    assert_eq!(lines, fragments);
    let trace = BufReader::new(File::open(&trace).unwrap());
    let of_shards = |line: &String| {
        shards
            .iter()
            .any(|shard| line.split(' ').next() == Some(shard))
    };
    let lines = trace.lines().map(Result::unwrap);
    lines.filter(of_shards).collect()
}

#[test]
fn level_and_form_change_with_a_reload() {
    let server = Server::with(Settings::default().file("log_level = \"warn\""));
    let refuse = || {
        let mut client = Client::new(server.address(), "/x");
        client
            .packet("Nonsense", "")
            .assert(400, Some("0x80070057"));
    };
    refuse();
    server.reload("log_level = \"debug\"\nlog_format = \"json\"\n");
    server.wait_for_log("\"event\":\"reloaded\"");
    Client::create(server.address(), "/a.bin");
    server.wait_for_log("\"event\":\"session_created\"");
    assert!(!server.log().contains("packet_refused"), "{}", server.log());
    server.reload("log_level = \"info\"\n");
    server.wait_for_log(" event=reloaded ");
    refuse();
    server.wait_for_log(" event=packet_refused ");
}

#[test]
fn a_start_says_who_started_a_reload_what_changed_and_a_stop_that_it_stopped() {
    let lines = "upload_bytes_max = \"1 GiB\"\n";
    let mut server = Server::with(Settings::default().file(lines));
    let open = |path| Client::create(server.address(), path);
    let _unfinished = (open("/a.bin"), open("/b.bin"));
    let config = server.root().with_extension("toml");
    let started = format!(
        "event=started message=\"started\" version=\"{}\" build=\"",
        env!("CARGO_PKG_VERSION")
    );
    for part in [
        started.as_str(),
        &format!(" config=\"{}\" ", config.display()),
        &format!(" root={} ", server.root().display()),
        &format!(" listen=\"{}\" shards=2 io=\"auto\" ", server.address()),
        " unfinished=0 remembered=0 took_ms=",
    ] {
        server.wait_for_log(part);
    }
    server.reload("upload_bytes_max = \"2 GiB\"\n[[location]]\nprefix = \"/logs\"\n");
    server.wait_for_log("changed=\"upload_bytes_max 1 GiB -> 2 GiB, location /logs is new\"");
    server.stop();
    server.wait_for_log("event=stopped message=\"stopped\" unfinished=2 synced=true took_ms=");
    server.restart();
    server.wait_for_log(" unfinished=2 remembered=0 took_ms=");
}

/// Goal: no upload ends the server by a signal. Method: a limit on file sizes below one fragment,
/// each way of writing.
#[test]
fn a_limit_on_file_sizes_refuses_an_upload_and_ends_nobody() {
    for io in ["auto", "direct", "inline", "ring"] {
        let limit = "ulimit -f 1000; exec \"$@\"";
        let settings = Settings::default().wrapper(&["sh", "-c", limit, "sh"]);
        let mut server = Server::with(settings.flags(&["--io", io]));
        let mut client = Client::create(server.address(), "/large.bin");
        let answer = client.send(fragment(0..3_000_000));
        assert!(answer.status >= 400, "{io}: {answer:?}");
        let mut small = Client::create(server.address(), "/small.bin");
        small.send(fragment(0..1_000)).assert(200, None);
        small.close().assert(200, None);
        server.assert_file("small.bin", 1, 1_000);
        server.stop();
    }
}

#[test]
fn signals_that_mean_nothing_end_nobody_and_leave_a_line() {
    let mut server = Server::start();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::PIPE,
        Signal::XFSZ,
    ] {
        kill_process(pid, signal).unwrap();
    }
    server.wait_for_log("signal=\"SIGUSR1\"");
    server.wait_for_log("signal=\"SIGPROF\"");
    server
        .connect()
        .send("BITS_POST /x HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\n\r\n")
        .receive()
        .assert(200, None);
    server.stop();
}

/// A start that waits for an address, which another program has.
struct Waiting {
    folder: tempfile::TempDir,
    taken: std::net::TcpListener,
    program: Program,
}

impl Waiting {
    fn begin() -> Self {
        let (folder, root) = root();
        let settings = folder.path().join("settings.toml");
        std::fs::write(&settings, "").unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command
            .args(["serve", "--cores", "1", "--config"])
            .arg(&settings)
            .args(["--listen", &taken.local_addr().unwrap().to_string()])
            .arg("--root")
            .arg(&root)
            .stderr(File::create(folder.path().join("log")).unwrap());
        let waiting = Self {
            program: Program(command.spawn().unwrap()),
            folder,
            taken,
        };
        wait_until("it waits for the address", || {
            waiting.log().contains("address_in_use")
        });
        waiting
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn hears(&self, signal: &str) {
        send(signal, self.program.0.id());
    }
}

/// Sends a signal, which may be a real-time one.
fn send(signal: &str, process: u32) {
    let mut kill = Command::new("sh");
    let script = format!("kill -{signal} {process}");
    assert!(kill.args(["-c", &script]).status().unwrap().success());
}

/// While a start waits for its address, nobody hears signals yet.
#[test]
fn a_reload_that_is_asked_for_during_the_start_comes_after_it() {
    let mut waiting = Waiting::begin();
    for signal in ["HUP", "USR1", "XFSZ"] {
        waiting.hears(signal);
    }
    let settings = waiting.folder.path().join("settings.toml");
    std::fs::write(settings, "upload_bytes_max = 1000\n").unwrap();
    waiting.taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    wait_until("it has started and reloaded", || {
        waiting.log().contains("event=reloaded")
    });
    waiting.hears("TERM");
    assert_eq!(waiting.program.wait().code(), Some(0));
}

/// By service managers and terminals, and by managers of containers, which halt a machine so.
const STOPS: [&str; 4] = ["TERM", "INT", "PWR", "37"];

#[test]
fn a_start_that_waits_for_an_address_stops_in_order() {
    for signal in STOPS {
        let mut waiting = Waiting::begin();
        waiting.hears(signal);
        let (status, log) = (waiting.program.wait(), waiting.log());
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains("event=stopped "), "{signal}: {log}");
        assert!(!log.contains("start_failed"), "{signal}: {log}");
    }
}

#[test]
fn whoever_halts_a_container_stops_the_server_in_order() {
    for signal in STOPS {
        let mut server = Server::start();
        send(signal, server.pid());
        assert_eq!(server.wait().code(), Some(0), "{signal}: {}", server.log());
        server.wait_for_log("event=stopped ");
    }
}

/// Runners send a signal to the process and to its group: it is the same one.
#[test]
fn a_signal_that_arrives_twice_at_once_is_one() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..200_000), 100_000);
    server.wait_for_part(client.session(), 100_000);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    // Two kinds, since the kernel itself makes one of two of the same kind.
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    server.wait_for_log("event=stopping");
    // Running requests may finish still.
    let rest = support::content::content(1, 100_000, 200_000);
    client.raw.send(rest);
    client.raw.receive().assert(200, None);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(
        !server.log().contains("stopped_at_once"),
        "{}",
        server.log()
    );
}

#[test]
fn the_version_names_the_build_and_its_features() {
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .arg("--version")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let build = said.strip_prefix(concat!("bitsd ", env!("CARGO_PKG_VERSION"), " ("));
    assert!(
        build.is_some_and(|build| build.len() > 4 && build.ends_with(")\n")),
        "{said}"
    );
    let (_, features) = said.split_once("; with ").expect("features");
    for (name, is_in) in [
        ("put", cfg!(feature = "put")),
        ("bench", cfg!(feature = "bench")),
        ("nats", cfg!(feature = "nats")),
        ("s3", cfg!(feature = "s3")),
    ] {
        assert_eq!(features.contains(name), is_in, "{said}");
    }
}

#[path = "../build.rs"]
#[allow(dead_code, reason = "its main is cargo's")]
mod build;

#[test]
fn a_build_without_git_knows_its_commit_from_the_archive_or_the_package() {
    assert_eq!(
        build::commit_of_archive("9414c24 2026-11-25\n"),
        Some("9414c24 2026-11-25".to_owned())
    );
    assert_eq!(build::commit_of_archive("$Format:%h %cs$\n"), None);
    let package = "{\"git\": {\"sha1\": \"9414c240123456789abcdef\"}, \"path_in_vcs\": \"\"}";
    assert_eq!(
        build::commit_of_package(package),
        Some("9414c24".to_owned())
    );
    assert_eq!(build::commit_of_package("{}"), None);
    let kept = include_str!("../.commit");
    assert_eq!(
        build::commit_of_archive(kept),
        None,
        "git fills it in, nobody else"
    );
}

/// Goal: whoever starts us under systemd as the first lines of a guide say is told that nobody can
/// reach us.
#[test]
fn a_service_that_only_this_machine_can_reach_says_so() {
    for (id, expected) in [(Some("0123"), true), (None, false)] {
        let (folder, root) = root();
        let log = folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command
            .env_remove("INVOCATION_ID")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        if let Some(id) = id {
            command.env("INVOCATION_ID", id);
        }
        let mut server = Bare::run(command, &root, &[]);
        assert_eq!(server.stop_in_time().code(), Some(0));
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(said.contains("event=only_local"), expected, "{said}");
    }
}

/// Where this is set, `a_process_that_panics` does.
const PANICS: &str = "BITSD_TEST_PANICS";

/// What a process does whose shard trips an assertion; run by the test below, in a process of its
/// own that is told to.
#[test]
fn a_process_that_panics() {
    if std::env::var_os(PANICS).is_none() {
        return;
    }
    bitsd::observe::init(
        bitsd::config::LogFormat::Json,
        bitsd::config::LogLevel::Info,
    )
    .unwrap();
    bitsd::observe::abort_on_panic();
    panic!("two\nlines");
}

/// Goal: a panic is a line of the log and the end of the process, also where the line cannot be
/// written. Method: a process that panics, with its log on a file and on a pipe that nobody reads.
#[test]
fn a_panic_is_a_line_of_the_log_and_ends_the_process() {
    use std::os::unix::process::ExitStatusExt as _;
    let (folder, _root) = root();
    let log = folder.path().join("log");
    let (_reader, pipe) = full_pipe();
    for stderr in [Stdio::from(File::create(&log).unwrap()), pipe.into()] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_process_that_panics", "--nocapture"]);
        command
            .env(PANICS, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let begun = Instant::now();
        let status = Program(command.spawn().unwrap()).wait();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status:?}");
        assert!(begun.elapsed() < STOP_MAX, "{:?}", begun.elapsed());
    }
    let said = std::fs::read_to_string(&log).unwrap();
    let line: serde_json::Value = serde_json::from_str(said.trim()).expect(&said);
    assert_eq!(line["event"], "panic", "{said}");
    assert_eq!(
        line["message"], "bitsd has a bug and ends: two\nlines",
        "{said}"
    );
    assert!(
        line["place"]
            .as_str()
            .is_some_and(|place| place.starts_with("tests/log.rs:")),
        "{said}"
    );
}
