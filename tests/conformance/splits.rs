//! However a conversation is cut into segments, answers and file are the same.

use proptest::prelude::*;

use crate::support::client::Client;
use crate::support::content::content;
use crate::support::raw::Response;
use crate::support::server::Server;
use crate::{head_to, parts};

/// Bytes of the file: more than two head blocks.
const TOTAL: u64 = 40_000;

/// A whole upload after its Create, with most that can happen on the way, and how many answers it
/// has.
fn conversation(path: &str, session: &str) -> (Vec<u8>, usize) {
    let id = format!("BITS-Session-Id: {session}\r\n");
    let mut bytes = Vec::new();
    let mut answers = 0;
    let mut packet = |kind: &str, fields: &str, body: &[u8]| {
        bytes.extend_from_slice(head_to(path, kind, fields).as_bytes());
        bytes.extend_from_slice(body);
        answers += 1;
    };
    let sized = |start: u64, end: u64| {
        let (last, len) = (end - 1, end - start);
        format!("{id}Content-Range: bytes {start}-{last}/{TOTAL}\r\nContent-Length: {len}\r\n")
    };
    packet("Ping", "", b"");
    packet("Fragment", &sized(0, 100), &content(1, 0, 100));
    // A gap, a duplicate and an overlap; their bodies look like packets.
    packet("Fragment", &sized(200, 300), &[b'\n'; 100]);
    packet("Fragment", &sized(0, 50), &[b'\r'; 50]);
    packet("Fragment", &sized(50, 20_000), &content(1, 50, 20_000));
    let chunked =
        format!("{id}Content-Range: bytes 20000-20099/{TOTAL}\r\nTransfer-Encoding: chunked\r\n");
    let body = content(1, 20_000, 20_100);
    let body = [
        b"1E;x\r\n",
        &body[..30],
        b"\r\n46\r\n",
        &body[30..],
        b"\r\n0\r\nA: b\r\n\r\n",
    ]
    .concat();
    packet("Fragment", &chunked, &body);
    packet("Create-Session", "", b"");
    packet("Ping", "Content-Length: 4\r\n", b"\r\n\r\n");
    packet(
        "Fragment",
        &sized(20_100, TOTAL),
        &content(1, 20_100, TOTAL),
    );
    packet("Close-Session", &id, b"");
    packet("Close-Session", &id, b"");
    (bytes, answers)
}

/// Holds the conversation, cut at these places, and gives its answers.
fn converse(server: &Server, name: &str, cuts: &[usize]) -> Vec<Response> {
    let path = format!("/{name}");
    let mut client = Client::create(server.address(), &path);
    let (bytes, answers) = conversation(&path, client.session());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % bytes.len()).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for segment in cuts.windows(2) {
        client.raw.send(&bytes[segment[0]..segment[1]]);
    }
    let mut found: Vec<Response> = (0..answers).map(|_| client.raw.receive()).collect();
    let id = client.session().to_owned();
    for answer in &mut found {
        for (_, value) in &mut answer.fields {
            *value = value.replace(&id, "ID");
        }
    }
    let file = server.file(name);
    assert!(
        std::fs::read(&file).unwrap() == content(1, 0, TOTAL),
        "another content"
    );
    std::fs::remove_file(file).unwrap();
    found
}

/// One server for all cases: what differs between them is only where the segments end.
#[test]
fn a_conversation_may_be_cut_into_segments_anywhere() {
    let server = Server::start();
    let whole = converse(&server, "whole.bin", &[]);
    let statuses: Vec<u16> = whole.iter().map(|answer| answer.status).collect();
    assert_eq!(
        statuses,
        [200, 200, 416, 200, 200, 200, 400, 400, 200, 200, 200]
    );
    let cuts = prop_oneof![
        // Many cuts anywhere, or all in the first kilobyte, where most of the heads are.
        prop::collection::vec(any::<usize>(), 0..40),
        prop::collection::vec(0usize..1000, 100..400),
    ];
    let config = ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&cuts, |cuts| {
        prop_assert_eq!(&converse(&server, "cut.bin", &cuts), &whole);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert_eq!(parts(&server), [""; 0]);
}
