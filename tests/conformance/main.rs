//! The rules of docs/protocol.md about packets and sessions, tried on the real binary.
//!
//! One module for each subject; the name of a test is the rule. What happens over time and over
//! restarts is elsewhere, and so are whole recorded conversations.

#[path = "../support/mod.rs"]
mod support;

mod fragments;
mod http;
mod packets;
mod paths;
mod sessions;
mod smuggling;
mod splits;

use support::raw::{Raw, Response};
use support::server::{Server, Settings};

/// The head of a packet to `/a.bin`; `fields` are whole lines, Content-Length among them where it
/// is wanted.
fn head(kind: &str, fields: &str) -> String {
    head_to("/a.bin", kind, fields)
}

/// The head of a packet; `fields` are whole lines.
fn head_to(target: &str, kind: &str, fields: &str) -> String {
    format!(
        "BITS_POST {target} HTTP/1.1\r\nHost: up.example\r\nBITS-Packet-Type: {kind}\r\n{fields}\r\n"
    )
}

/// The head of a fragment of a session of `/a.bin`.
fn fragment_head(session: &str, range: &str, length: impl std::fmt::Display) -> String {
    head(
        "Fragment",
        &format!(
            "BITS-Session-Id: {session}\r\nContent-Range: {range}\r\nContent-Length: {length}\r\n"
        ),
    )
}

/// Sends bytes and reads one answer.
#[track_caller]
fn ask(raw: &mut Raw, request: impl AsRef<[u8]>) -> Response {
    raw.send(request);
    raw.receive()
}

/// Asserts that the connection carries on: a Ping is answered.
#[track_caller]
fn assert_usable(raw: &mut Raw) {
    ask(raw, head("Ping", "Content-Length: 0\r\n")).assert(200, None);
}

/// A server with these lines in its settings file.
#[track_caller]
fn server_with(lines: &str) -> Server {
    Server::with(Settings::default().file(lines))
}

/// Files of sessions that hold bytes; a tombstone has only a record.
fn parts(server: &Server) -> Vec<String> {
    let mut files = server.work_files();
    files.retain(|name| name.ends_with(".part"));
    files
}
