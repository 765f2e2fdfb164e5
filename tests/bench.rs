//! The load generator against the real server: what it counts, what it verifies, how it ends.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::server::{Server, Settings};

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
}

#[test]
fn bytes_that_are_not_where_they_should_be_end_in_failure() {
    let server = Server::start();
    let empty = tempfile::tempdir().unwrap();
    let flags = [
        "--connections=1",
        "--file-bytes=10",
        "--verify",
        words(empty.path()),
    ];
    let (output, json) = bench(server.address(), &flags);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&json["files"], &json["failed"]), (&1.into(), &1.into()));
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
