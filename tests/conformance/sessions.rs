//! What begins and ends a session.

use crate::support::client::{Client, E_ACCESSDENIED, SESSION_NOT_FOUND, fragment};
use crate::support::content::content;
use crate::support::server::Server;
use crate::{parts, server_with};

/// A session that stands where its name says.
fn session_in(server: &Server, state: &str) -> Client {
    let mut client = Client::create(server.address(), &format!("/{state}.bin"));
    match state {
        "new" => {}
        "receiving" => assert_eq!(client.send(fragment(0..5).of(10)).received(), 5),
        "whole" => assert_eq!(client.send(fragment(0..10)).received(), 10),
        _ => panic!("no such state"),
    }
    client
}

#[test]
fn closing_an_incomplete_upload_succeeds_and_discards_it() {
    let server = Server::start();
    for state in ["new", "receiving"] {
        let mut client = session_in(&server, state);
        for _ in 0..3 {
            let answer = client.close();
            answer.assert(200, None);
            assert_eq!(answer.field("BITS-Session-Id"), Some(client.session()));
        }
        client.cancel().assert(500, Some(SESSION_NOT_FOUND));
        client
            .send(fragment(0..10))
            .assert(500, Some(SESSION_NOT_FOUND));
        assert!(!server.file(&format!("{state}.bin")).exists());
    }
    assert_eq!(parts(&server), [""; 0]);
}

#[test]
fn closing_twice_gives_the_same_answer_also_on_another_connection() {
    let server = Server::start();
    let mut client = session_in(&server, "whole");
    let first = client.close();
    first.assert(200, None);
    assert_eq!(client.close(), first);
    assert_eq!(client.reconnect().close(), first);
    assert_eq!(
        std::fs::read(server.file("whole.bin")).unwrap(),
        content(1, 0, 10)
    );
}

#[test]
fn a_closed_session_takes_nothing_else() {
    let server = Server::start();
    let mut client = session_in(&server, "whole");
    client.close().assert(200, None);
    client
        .send(fragment(0..10))
        .assert(500, Some(SESSION_NOT_FOUND));
    client.cancel().assert(500, Some(SESSION_NOT_FOUND));
    assert!(
        server.file("whole.bin").exists(),
        "a Cancel does not reach a published file"
    );
}

#[test]
fn a_cancel_discards_in_every_state_and_may_be_repeated() {
    let server = Server::start();
    for state in ["new", "receiving", "whole"] {
        let mut client = session_in(&server, state);
        for _ in 0..2 {
            let answer = client.cancel();
            answer.assert(200, None);
            assert_eq!(answer.field("BITS-Session-Id"), Some(client.session()));
        }
        client.reconnect().cancel().assert(200, None);
        client.close().assert(500, Some(SESSION_NOT_FOUND));
        client
            .send(fragment(0..10))
            .assert(500, Some(SESSION_NOT_FOUND));
        assert!(!server.file(&format!("{state}.bin")).exists());
    }
    assert_eq!(parts(&server), [""; 0]);
}

/// Sends half a fragment of 1000 bytes. The interim answer shows that the server is at work on it;
/// otherwise a second connection might be read first.
#[track_caller]
fn begin_fragment(client: &mut Client) {
    client.send_head(&fragment(0..1000).with("Expect: 100-continue\r\n"));
    assert_eq!(client.raw.receive().status, 100);
    client.raw.send(content(1, 0, 500));
}

#[test]
fn a_cancel_in_the_middle_of_a_fragment_on_another_connection_discards() {
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin");
    begin_fragment(&mut first);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session()).cancel().assert(200, None);
    assert_eq!(parts(&server), [""; 0]);
    first.raw.assert_closed();
}

#[test]
fn a_published_last_fragment_survives_cancel_and_close() {
    let server = server_with("publish = \"last-fragment\"");
    for (path, is_cancelled) in [("/a.bin", true), ("/b.bin", false)] {
        let mut client = Client::create(server.address(), path);
        assert_eq!(client.send(fragment(0..10)).received(), 10);
        let file = server.file(&path[1..]);
        assert!(file.exists(), "it appears with its last fragment");
        assert_eq!(client.send(fragment(5..10)).received(), 10);
        for _ in 0..2 {
            let answer = if is_cancelled {
                client.cancel()
            } else {
                client.close()
            };
            assert_eq!(answer.status, 200, "{answer:?}");
            if is_cancelled {
                break;
            }
        }
        assert_eq!(std::fs::read(file).unwrap(), content(1, 0, 10));
    }
}

#[test]
fn a_session_under_another_path_is_not_found() {
    let server = Server::start();
    let mut ours = Client::create(server.address(), "/a.bin");
    assert_eq!(ours.send(fragment(0..5).of(10)).received(), 5);
    for path in ["/b.bin", "/A.bin", "/a.bin2", "/a"] {
        let mut other = Client::new(server.address(), path);
        other.adopt(ours.session());
        other
            .send(fragment(5..10))
            .assert(500, Some(SESSION_NOT_FOUND));
        other.close().assert(500, Some(SESSION_NOT_FOUND));
        other.cancel().assert(500, Some(SESSION_NOT_FOUND));
    }
    assert_eq!(ours.send(fragment(5..10)).received(), 10);
    ours.close().assert(200, None);
}

#[test]
fn a_query_does_not_name_another_session_or_file() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin?job=7");
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    let id = client.session().to_owned();
    let mut bare = Client::new(server.address(), "/%61.bin");
    bare.adopt(&id);
    assert_eq!(bare.send(fragment(5..10)).received(), 10);
    bare.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 10)
    );
}

#[test]
fn a_destination_that_exists_is_refused_at_create() {
    let server = Server::start();
    std::fs::write(server.file("a.bin"), "old").unwrap();
    let mut client = Client::new(server.address(), "/a.bin");
    client.try_create().assert(403, Some(E_ACCESSDENIED));
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"old");
}

#[test]
fn of_two_uploads_to_one_place_the_second_to_close_is_refused() {
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin").seed(7);
    let mut second = Client::create(server.address(), "/a.bin");
    assert_ne!(first.session(), second.session());
    assert_eq!(first.send(fragment(0..10)).received(), 10);
    assert_eq!(second.send(fragment(0..20)).received(), 20);
    first.close().assert(200, None);
    for _ in 0..2 {
        second.close().assert(403, Some(E_ACCESSDENIED));
    }
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(7, 0, 10)
    );
    // The bytes are kept: when the place is free, the same Close succeeds.
    std::fs::remove_file(server.file("a.bin")).unwrap();
    second.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 20)
    );
}

#[test]
fn with_overwriting_on_the_last_to_close_wins() {
    let server = server_with("allow_overwrite = true");
    std::fs::write(server.file("a.bin"), "old").unwrap();
    let mut first = Client::create(server.address(), "/a.bin").seed(7);
    let mut second = Client::create(server.address(), "/a.bin");
    assert_eq!(first.send(fragment(0..10)).received(), 10);
    assert_eq!(second.send(fragment(0..20)).received(), 20);
    assert_eq!(std::fs::read(server.file("a.bin")).unwrap(), b"old");
    first.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(7, 0, 10)
    );
    second.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 20)
    );
}

#[test]
fn a_newer_connection_takes_a_fragment_over() {
    let server = Server::start();
    let mut first = Client::create(server.address(), "/a.bin");
    begin_fragment(&mut first);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    assert_eq!(second.send(fragment(0..1000)).received(), 1000);
    first.raw.assert_closed();
    second.close().assert(200, None);
    assert_eq!(
        std::fs::read(server.file("a.bin")).unwrap(),
        content(1, 0, 1000)
    );
}
