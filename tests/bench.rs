//! The load generator against the real server: what it counts, what it verifies, how it ends.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use support::server::{Server, Settings};
use support::wait_until;

fn bench(address: SocketAddr, flags: &[&str]) -> (Output, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["bench", "--json"])
        .args(flags)
        .arg(format!("http://{address}/"))
        .output()
        .unwrap();
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output, json)
}

fn words(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_file_is_stored_and_every_byte_compared() {
    let server = Server::start();
    let root = server.root().to_owned();
    for per_session in [&[][..], &["--connection-per-session"][..]] {
        let mut flags = vec![
            "--connections=7",
            "--files=20",
            "--file-bytes=1000001",
            "--fragment-bytes=300000",
            "--idle=5",
            "--verify",
            words(&root),
        ];
        flags.extend(per_session);
        let (output, json) = bench(server.address(), &flags);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(json["files"], 20);
        assert_eq!(json["failed"], 0);
        assert_eq!(json["verified_bytes"], 20 * 1_000_001);
        assert_eq!(json["fragment"]["count"], 20 * 4);
        assert_eq!(json["session"]["count"], 20);
        assert_eq!(json["idle_lost"], 0);
        assert_eq!(files(&root), 0, "what was compared is removed");
    }
    // What is left are the records of sessions that ended.
    let mut names = server.work_files();
    names.retain(|name| name.ends_with(".part"));
    assert!(names.is_empty(), "{names:?}");
}

/// How many files stand in a root.
fn files(root: &Path) -> usize {
    let entries = std::fs::read_dir(root).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().path().is_file())
        .count()
}

#[test]
fn it_can_be_run_again_and_leaves_nothing_unless_told_to() {
    let server = Server::start();
    let flags = ["--connections=2", "--files=3", "--file-bytes=70000"];
    for _run in 0..2 {
        let (output, json) = bench(server.address(), &flags);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(json["files"], 3);
    }
    assert_eq!(files(server.root()), 0);
    assert!(server.work_files().is_empty(), "{:?}", server.work_files());
    for run in 1..=2 {
        let (output, _) = bench(server.address(), &[&flags[..], &["--keep"]].concat());
        assert!(output.status.success(), "{output:?}");
        assert_eq!(files(server.root()), 3 * run);
    }
}

#[test]
fn pings_are_counted_and_store_nothing() {
    let server = Server::start();
    let (output, json) = bench(
        server.address(),
        &["--ping", "--connections=3", "--files=300"],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&json["files"], &json["bytes"]), (&300.into(), &0.into()));
    assert_eq!(json["session"]["count"], 300);
}

#[test]
fn refused_uploads_are_counted_and_end_in_failure() {
    let server = Server::with(Settings::default().file("upload_bytes_max = \"64 KiB\""));
    let flags = ["--connections=2", "--files=6", "--file-bytes=65537"];
    let (output, json) = bench(server.address(), &flags);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&json["files"], &json["failed"]), (&0.into(), &6.into()));
    let error = json["first_error"].as_str().unwrap();
    assert!(error.contains("answered 500"), "{error}");
    assert!(parts(&server).is_empty(), "what has failed is cancelled");
}

/// A server that takes smaller fragments than are sent: they are halved, as `bitsd put` does.
#[test]
fn fragments_that_are_too_large_are_halved() {
    let server = Server::with(Settings::default().file("fragment_bytes_max = \"1 MiB\""));
    let flags = ["--connections=3", "--files=6", "--file-bytes=9MiB"];
    let root = words(server.root());
    let (output, json) = bench(
        server.address(),
        &[&flags[..], &["--verify", root]].concat(),
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&json["files"], &json["failed"]), (&6.into(), &0.into()));
    assert_eq!(json["verified_bytes"], 6 * (9 << 20));
    assert_eq!(json["fragment_bytes"], 1 << 20);
}

fn parts(server: &Server) -> Vec<String> {
    let mut names = server.work_files();
    names.retain(|name| name.ends_with(".part"));
    names
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let server = Server::start();
    for verify in [&[][..], &["--verify", words(server.root())]] {
        let child = Command::new(env!("CARGO_BIN_EXE_bitsd"))
            .args([
                "bench",
                "--connections=3",
                "--files=1000000",
                "--file-bytes=100MB",
            ])
            .args(["--fragment-bytes=64KiB"])
            .args(verify)
            .arg(format!("http://{}/", server.address()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("uploads are under way", || parts(&server).len() > 2);
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let is_clean = said.contains("interrupted") && !said.contains("at the server");
        assert!(is_clean, "{said}");
        assert!(
            parts(&server).is_empty(),
            "{verify:?}: {:?}",
            parts(&server)
        );
        assert_eq!(files(server.root()), 0, "{verify:?}");
    }
}

#[test]
fn where_files_are_stored_elsewhere_none_is_stored() {
    let place = tempfile::tempdir().unwrap();
    let (empty, missing) = (place.path().join("empty"), place.path().join("missing"));
    std::fs::create_dir(&empty).unwrap();
    for lines in ["", "allow_overwrite = true"] {
        let server = Server::with(Settings::default().file(lines));
        for (folder, says) in [(&empty, "stored elsewhere"), (&missing, "No such file")] {
            let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
                .args(["bench", "--file-bytes=10", "--verify", words(folder)])
                .arg(format!("http://{}/", server.address()))
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(says), "{said}");
            assert_eq!(files(server.root()), 0);
            assert!(parts(&server).is_empty(), "{:?}", parts(&server));
        }
        let left = std::fs::read_dir(server.root()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [".bitsd"]);
        assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
        // And where it is the right one, it is found.
        let flags = [
            "--file-bytes=10",
            "--files=3",
            "--verify",
            words(server.root()),
        ];
        let (output, json) = bench(server.address(), &flags);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(json["verified_bytes"], 30);
    }
}

#[test]
fn without_a_server_every_upload_fails_at_once() {
    // Bound, so that nobody else has the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let (output, json) = bench(address, &["--connections=4", "--files=50"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["failed"], 50);
    let error = json["first_error"].as_str().unwrap();
    assert!(error.contains("cannot connect"), "{error}");
}

/// How many could be opened is told of all of them, and not of the last few.
#[test]
fn idle_connections_that_the_server_does_not_take_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test.
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Whoever comes later finds an end.
            if held.len() < 150 {
                let read = stream.read(&mut [0; 4096]).unwrap();
                assert!(read > 0);
                let ack = "HTTP/1.1 200 OK\r\nBITS-Packet-Type: Ack\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(ack.as_bytes()).unwrap();
                held.push(stream);
            }
        }
    });
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["bench", "--idle=300", "--files=1", "--stall=5s"])
        .arg(format!("http://{address}/"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let told = "only 150 of 300 idle connections could be opened: ";
    assert!(said.contains(told), "{said}");
}
