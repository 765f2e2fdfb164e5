//! A restart that no client notices: what is under way is answered, what comes meanwhile waits.

mod support;

use std::thread;

use support::server::{Server, Settings};
use support::{raw::Raw, wait_until};

const PING: &str = "BITS_POST /x HTTP/1.1\r\nHost: s\r\nBITS-Packet-Type: Ping\r\n\
                    Content-Length: 0\r\n\r\n";

/// Pings one after the other, until an answer says that it is the last one; how many there were.
fn ping_to_the_end(mut raw: Raw) -> usize {
    let mut count = 0;
    loop {
        raw.send(PING);
        // It panics if the connection ends without.
        let answer = raw.receive();
        answer.assert(200, None);
        count += 1;
        if answer.field("Connection") == Some("close") {
            raw.assert_closed();
            return count;
        }
    }
}

#[test]
fn a_client_that_goes_on_hears_which_answer_is_the_last() {
    let mut server = Server::start();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut raw = server.connect();
            // It is out of the queue of the listener, which ends with this server.
            raw.send(PING).receive().assert(200, None);
            thread::spawn(move || ping_to_the_end(raw))
        })
        .collect();
    server.terminate();
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_first_request_that_comes_while_the_server_stops_is_served() {
    let mut server = Server::with(Settings::default().flags(&["--log-level", "debug"]));
    let mut late = server.connect();
    server.wait_for_log("event=connected");
    server.terminate();
    wait_until("nobody listens", || {
        Raw::try_connect(server.address()).is_err()
    });
    late.send(PING);
    let answer = late.receive();
    answer.assert(200, None);
    assert_eq!(answer.field("Connection"), Some("close"));
    late.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn an_idle_client_finds_an_end_and_no_reset() {
    let mut server = Server::start();
    let mut idle = server.connect();
    idle.send(PING).receive().assert(200, None);
    server.terminate();
    idle.assert_closed();
    assert_eq!(server.wait().code(), Some(0));
}
