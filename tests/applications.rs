//! Server applications: how they hear of uploads, by reference and by value, and what follows from
//! each answer (protocol.md 9).

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::backend::{Act, Backend, Heard};
use support::client::{Client, E_INVALIDARG, Fragment, fragment};
use support::https::Https;
use support::program::free_address;
use support::raw::Response;
use support::server::{Server, Settings};
use support::wait_until;

const BY_REFERENCE: &str = "by-reference";
const BY_VALUE: &str = "by-value";

/// A server whose uploads an application hears of.
#[track_caller]
fn server(kind: &str, backend: &Backend, more: &str) -> Server {
    let settings = Settings::default()
        .file(&format!("notification_type = \"{kind}\""))
        .file(&format!("notification_url = \"{}\"", backend.url("/app")))
        .file(more);
    Server::with(settings)
}

/// Uploads a whole file; gives the answer to its only fragment.
#[track_caller]
fn upload(server: &Server, path: &str, bytes: u64) -> (Client, Response) {
    let mut client = Client::create(server.address(), path);
    let answer = client.send(fragment(0..bytes));
    (client, answer)
}

/// Asserts that the application's status reached the client as such.
#[track_caller]
fn assert_relayed(answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        answer.field("BITS-Error-Context"),
        Some("0x7"),
        "{answer:?}"
    );
    assert_eq!(answer.field("BITS-Packet-Type"), Some("Ack"));
    // All bytes are here: nothing of the file needs to be sent again.
    assert!(answer.received() > 0, "{answer:?}");
}

/// Nothing of any session is left in the work directory.
#[track_caller]
fn assert_no_rubbish(server: &Server) {
    let is_rubbish = |name: &str| name.ends_with(".part") || name.ends_with(".reply");
    let entries = std::fs::read_dir(server.file(".bitsd")).unwrap();
    let left: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| is_rubbish(name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn content(bytes: u64) -> Vec<u8> {
    support::content::content(1, 0, bytes)
}

#[test]
fn by_reference_the_application_gets_two_names() {
    let file = content(5_000);
    let backend = Backend::start(move |heard, _| {
        let part = heard.field("BITS-Request-DataFile-Name").unwrap();
        assert_eq!(std::fs::read(part).unwrap(), file);
        Act::status(200)
    });
    let server = server(BY_REFERENCE, &backend, "");
    let (mut client, answer) = upload(&server, "/a%20b.txt?k=v", 5_000);
    answer.assert(200, None);
    assert_eq!(answer.received(), 5_000);
    assert_eq!(answer.field("BITS-Reply-URL"), None);
    let [heard] = &backend.heard()[..] else {
        panic!("{:?}", backend.heard());
    };
    // As recorded (MC-BUP 4.2), but for the names of files and programs.
    assert_eq!(heard.line, "POST /app?k=v HTTP/1.1");
    assert_eq!(heard.field("Accept"), Some("*/*"));
    assert_eq!(heard.field("Content-Length"), Some("0"));
    let url = "http://localhost/a%20b.txt?k=v";
    assert_eq!(heard.field("BITS-Original-Request-URL"), Some(url));
    assert!(heard.field("User-Agent").unwrap().starts_with("bitsd/"));
    let session = client.session().trim_matches(['{', '}']).to_owned();
    let name = |ending: &str| server.file(&format!(".bitsd/{session}.{ending}"));
    let part = heard.field("BITS-Request-DataFile-Name").unwrap();
    assert_eq!(std::path::Path::new(part), name("part"));
    let reply = heard.field("BITS-Response-DataFile-Name").unwrap();
    assert_eq!(std::path::Path::new(reply), name("reply"));
    assert_eq!(heard.field("BITS-Notification-Id"), Some(&*session));
    assert_eq!(heard.field("BITS-Notification-Signature"), None);
    client.close().assert(200, None);
    assert!(!server.file("a b.txt").exists(), "nobody asked for it");
    assert_no_rubbish(&server);
    client.close().assert(200, None);
}

#[test]
fn by_value_the_application_gets_the_file() {
    // More than any buffer holds, in several fragments.
    const BYTES: u64 = 8 << 20;
    let backend = Backend::always(Act::status(200));
    let server = server(BY_VALUE, &backend, "");
    let mut client = Client::create(server.address(), "/big.bin");
    client.send_rest(0, BYTES, 3_000_000);
    let heard = &backend.heard()[0];
    assert_eq!(heard.field("Content-Length"), Some("8388608"));
    assert_eq!(heard.field("Transfer-Encoding"), None);
    assert_eq!(heard.field("BITS-Request-DataFile-Name"), None);
    assert!(heard.body == content(BYTES));
    client.close().assert(200, None);
    assert_no_rubbish(&server);
}

#[test]
fn an_empty_file_is_told_too() {
    for kind in [BY_VALUE, BY_REFERENCE] {
        let backend = Backend::always(Act::fields("BITS-Copy-File-To-Destination: 1\r\n"));
        let server = server(kind, &backend, "");
        let mut client = Client::create(server.address(), "/empty.bin");
        let fields = format!(
            "BITS-Session-Id: {}\r\nContent-Range: bytes */0\r\n",
            client.session()
        );
        client.packet("Fragment", &fields).assert(200, None);
        assert_eq!(backend.heard()[0].field("Content-Length"), Some("0"));
        client.close().assert(200, None);
        server.assert_file("empty.bin", 1, 0);
    }
}

#[test]
fn the_application_may_ask_for_the_file_at_its_destination() {
    for kind in [BY_VALUE, BY_REFERENCE] {
        let backend = Backend::always(Act::fields("BITS-Copy-File-To-Destination:\r\n"));
        let server = server(kind, &backend, "");
        let (mut client, answer) = upload(&server, "/a.bin", 5_000);
        answer.assert(200, None);
        assert!(!server.file("a.bin").exists(), "not before Close");
        client.close().assert(200, None);
        server.assert_file("a.bin", 1, 5_000);
        assert_no_rubbish(&server);
    }
}

#[test]
fn with_the_last_fragment_a_file_that_was_asked_for_is_published_before_its_ack() {
    let backend = Backend::always(Act::Answer(
        200,
        "BITS-Copy-File-To-Destination: 1\r\n".to_owned(),
        b"reply".to_vec(),
    ));
    let server = server(BY_VALUE, &backend, "publish = \"last-fragment\"");
    let (mut client, answer) = upload(&server, "/a.bin", 5_000);
    answer.assert(200, None);
    server.assert_file("a.bin", 1, 5_000);
    let url = answer.field("BITS-Reply-URL").unwrap();
    assert_eq!(client.get(url, "").body, b"reply");
    client.cancel().assert(200, None);
    server.assert_file("a.bin", 1, 5_000);
    assert_eq!(
        client.get(url, "").status,
        404,
        "a Cancel cancels the reply"
    );
    assert_no_rubbish(&server);
}

#[test]
fn a_destination_that_was_taken_meanwhile_is_refused_at_close() {
    let backend = Backend::always(Act::fields("BITS-Copy-File-To-Destination: 1\r\n"));
    let server = server(BY_VALUE, &backend, "");
    let (mut client, _) = upload(&server, "/a.bin", 50);
    std::fs::write(server.file("a.bin"), "foreign").unwrap();
    assert_eq!(client.close().status, 403);
    std::fs::remove_file(server.file("a.bin")).unwrap();
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 50);
    assert_eq!(backend.heard().len(), 1);
}

#[test]
fn an_application_may_take_the_file_away() {
    let backend = Backend::always(Act::TakeFile);
    let mut server = server(BY_REFERENCE, &backend, "");
    let (mut client, answer) = upload(&server, "/a.bin", 5_000);
    answer.assert(200, None);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(0..5_000)).assert(200, None);
    client.close().assert(200, None);
    assert_eq!(backend.heard().len(), 1);
}

/// Sends a fragment until the application is asked again: it has a pause after each failure.
fn after_the_pause(client: &mut Client, fragment: Fragment) -> Response {
    let mut last = None;
    wait_until("the application is asked again", || {
        let answer = client.send(fragment.clone());
        let is_from_memory = answer.field("Retry-After").is_some();
        last = Some(answer);
        !is_from_memory
    });
    last.unwrap()
}

#[test]
fn repeats_of_the_last_byte_do_not_send_the_file_again_at_once() {
    let backend = Backend::always(Act::status(500));
    let server = server(BY_VALUE, &backend, "");
    let began = Instant::now();
    let (mut client, answer) = upload(&server, "/a.bin", 500_000);
    assert_relayed(&answer, 500);
    for _ in 0..200 {
        let answer = client.send(fragment(499_999..500_000));
        assert_relayed(&answer, 500);
        assert_eq!(answer.received(), 500_000);
    }
    // Pauses of 1, 2, 4 .. seconds, counted from each answer.
    let asked_max = 2 + (began.elapsed().as_secs() + 1).ilog2() as usize;
    let asked = backend.heard().len();
    assert!(asked <= asked_max, "{asked} of {asked_max}");
}

/// The first pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

#[test]
fn statuses_reach_the_client_and_a_duplicate_asks_again() {
    for status in [301, 400, 404, 409, 500, 501, 503] {
        wait_until("the client comes back within the pause", || {
            comes_back_in_time(status)
        });
    }
}

/// False if the machine has kept it from that, which shows nothing.
fn comes_back_in_time(status: u16) -> bool {
    let backend = Backend::start(move |_, number| match number {
        0 => Act::status(status),
        _ => Act::status(200),
    });
    let server = server(BY_VALUE, &backend, "");
    let began = Instant::now();
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    assert_relayed(&answer, status);
    let hresult = format!("0x8019{status:04X}");
    assert_eq!(answer.field("BITS-Error-Code"), Some(&*hresult));
    let at_once = client.send(fragment(400..500));
    if began.elapsed() >= PAUSE {
        return false;
    }
    assert_relayed(&at_once, status);
    assert_eq!(at_once.field("BITS-Error-Code"), Some(&*hresult));
    assert_eq!(at_once.field("Retry-After"), Some("1"));
    let again = after_the_pause(&mut client, fragment(400..500));
    again.assert(200, None);
    assert_eq!(again.received(), 500);
    // The cached answer: nobody is asked a third time.
    client.send(fragment(0..500)).assert(200, None);
    let ids: Vec<_> = (backend.heard().iter())
        .map(|heard| heard.field("BITS-Notification-Id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "{status}");
    assert_eq!(ids[0], ids[1]);
    true
}

#[test]
fn a_403_is_final() {
    let backend = Backend::always(Act::status(403));
    let mut server = server(BY_REFERENCE, &backend, "");
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    assert_relayed(&answer, 403);
    assert_relayed(&client.send(fragment(0..500)), 403);
    server.restart();
    client.reconnect_to(server.address());
    assert_relayed(&client.send(fragment(0..500)), 403);
    assert_eq!(backend.heard().len(), 1);
    // Whoever did not hear it must not take the upload for done; and it ends the session.
    for _ in 0..2 {
        assert_eq!(client.close().status, 403);
        assert!(!server.file("a.bin").exists());
        assert_no_rubbish(&server);
    }
}

/// Its client has nothing to send but the Close, and hears of the application only by that.
#[test]
fn a_403_for_an_empty_file_is_the_answer_to_each_close() {
    let backend = Backend::always(Act::status(403));
    let server = server(BY_REFERENCE, &backend, "empty_file = \"create\"");
    let mut client = Client::create(server.address(), "/a.bin");
    for _ in 0..3 {
        assert_eq!(client.close().status, 403);
    }
    assert_eq!(backend.heard().len(), 1);
    assert!(!server.file("a.bin").exists());
    assert_no_rubbish(&server);
}

#[test]
fn what_would_mislead_a_client_is_a_502() {
    for status in [201, 204, 413, 416] {
        let backend = Backend::always(Act::status(status));
        let server = server(BY_VALUE, &backend, "");
        let (_client, answer) = upload(&server, "/a.bin", 500);
        assert_relayed(&answer, 502);
    }
}

#[test]
fn a_static_url_is_handed_on_and_must_fit_a_client() {
    let with = |bytes: usize| {
        let url = format!("http://elsewhere.example/{}", "r".repeat(bytes - 25));
        let act = Act::fields(&format!("BITS-Static-Response-URL: {url}\r\n"));
        (url, Backend::always(act))
    };
    let (url, backend) = with(2_200);
    let server_of_short = server(BY_VALUE, &backend, "");
    let (mut client, answer) = upload(&server_of_short, "/a.bin", 500);
    answer.assert(200, None);
    assert_eq!(answer.field("BITS-Reply-URL"), Some(&*url));
    client.close().assert(200, None);
    assert_no_rubbish(&server_of_short);

    let (_, backend) = with(2_201);
    let server_of_long = server(BY_VALUE, &backend, "");
    let (_client, answer) = upload(&server_of_long, "/a.bin", 500);
    assert_relayed(&answer, 400);
    assert_eq!(answer.field("BITS-Error-Code"), Some(E_INVALIDARG));
}

/// As IIS lets it through (MC-BUP 4.2).
#[test]
fn a_static_url_with_what_windows_writes_is_handed_on_as_a_url() {
    for (sent, heard) in [
        (
            "http://app/{C85B4E0A-9EB9}/a b[1].bin",
            "http://app/%7BC85B4E0A-9EB9%7D/a%20b%5B1%5D.bin",
        ),
        ("http://app/\u{e4}|50%", "http://app/%C3%A4%7C50%25"),
    ] {
        let fields = format!("BITS-Static-Response-URL: {sent}\r\n");
        let backend = Backend::always(Act::fields(&fields));
        let server = server(BY_VALUE, &backend, "");
        let (_client, answer) = upload(&server, "/a.bin", 500);
        answer.assert(200, None);
        assert_eq!(answer.field("BITS-Reply-URL"), Some(heard));
    }
    // An empty one is none.
    let fields = "BITS-Static-Response-URL:\r\n".to_owned();
    let backend = Backend::always(Act::Answer(200, fields, b"reply".to_vec()));
    let server = server(BY_VALUE, &backend, "");
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    let url = answer.field("BITS-Reply-URL").unwrap();
    assert_eq!(client.get(url, "").body, b"reply");
}

/// The log says what the client hears.
#[test]
fn a_200_that_makes_no_sense_has_taken_nothing() {
    let long = format!(
        "BITS-Static-Response-URL: http://h/{}\r\n",
        "r".repeat(2_200)
    );
    for (act, status, why) in [
        (
            Act::fields("BITS-Static-Response-URL: /r\r\n"),
            502,
            "its BITS-Static-Response-URL is no absolute http or https URL",
        ),
        (
            Act::fields(&long),
            400,
            "its BITS-Static-Response-URL is over 2,200 characters",
        ),
    ] {
        let backend = Backend::always(act);
        let server = server(BY_VALUE, &backend, "log_level = \"debug\"");
        let (_client, answer) = upload(&server, "/a.bin", 500);
        assert_relayed(&answer, status);
        server.wait_for_log(why);
        let log = server.log();
        assert!(!log.contains("upload_taken"), "{log}");
        let lines = log.matches("event=upload_not_taken").count();
        assert_eq!(lines, 1, "{log}");
    }
}

/// A file that is refused early is sent no further, and not once more either.
#[test]
fn a_403_before_the_whole_file_is_final_too() {
    const BYTES: u64 = 8 << 20;
    const WORDS: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let backend = Https::start_early(|stream| {
        let _begun = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(WORDS);
        // It reads no more, and waits until the other side has gone.
        while stream.sock.peek(&mut [0]).is_ok_and(|read| read > 0) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    let settings = Settings::default()
        .file("notification_type = \"by-value\"")
        .file(&format!("notification_url = \"{}\"", backend.url()));
    let server_of_tls = Server::with(backend.trusted_by(settings));
    let mut client = Client::create(server_of_tls.address(), "/a.bin");
    assert_relayed(&client.send(fragment(0..BYTES)), 403);

    let backend = Backend::early(403);
    let server = server(BY_VALUE, &backend, "");
    let mut client = Client::create(server.address(), "/a.bin");
    for _ in 0..3 {
        assert_relayed(&client.send(fragment(0..BYTES)), 403);
    }
    assert_eq!(backend.heard().len(), 1);
}

/// How much of what this client has sent the server has not read.
fn unread(server: SocketAddr, client: SocketAddr) -> u64 {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of = |socket: &&str, column, address: SocketAddr| {
        let shown = socket.split_whitespace().nth(column);
        shown.is_some_and(|shown: &str| shown.ends_with(&format!(":{:04X}", address.port())))
    };
    let socket = (sockets.lines()).find(|socket| of(socket, 1, server) && of(socket, 2, client));
    let queues = socket.and_then(|socket| socket.split_whitespace().nth(4));
    let unread = queues.and_then(|queues| queues.split(':').nth(1));
    u64::from_str_radix(unread.expect("it is connected"), 16).unwrap()
}

/// Whoever ends only its own side waits for an answer all the same (protocol.md 1.10, 4.10).
#[test]
fn a_client_that_ends_its_side_hears_what_another_waits_for() {
    let (say, said) = std::sync::mpsc::channel::<()>();
    let said = std::sync::Mutex::new(said);
    let backend = Backend::start(move |_, _| {
        let _ = said.lock().unwrap().recv();
        Act::status(200)
    });
    let server = server(BY_VALUE, &backend, "");
    let mut first = Client::create(server.address(), "/a.bin");
    first.try_send_part(&fragment(0..500), 500);
    backend.wait_for(1);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    // Request and end come as one. A server that reads the request before the end knows nothing of
    // that yet, and stops the first.
    rustix::net::sockopt::set_tcp_cork(second.raw.socket(), true).unwrap();
    second.try_send_part(&fragment(0..500), 500);
    second.raw.finish();
    let client = second.raw.local_addr();
    wait_until("the second request is read", || {
        // The end of the connection counts as one.
        unread(server.address(), client) <= 1
    });
    say.send(()).unwrap();
    first.raw.receive().assert(200, None);
    second.raw.receive().assert(200, None);
    assert_eq!(backend.heard().len(), 1);
}

#[test]
fn an_application_that_does_not_answer_is_a_408() {
    for kind in [BY_VALUE, BY_REFERENCE] {
        let backend = Backend::start(|_, number| match number {
            0 => Act::Hang,
            _ => Act::status(200),
        });
        let server = server(kind, &backend, "notification_timeout = \"3s\"");
        let (mut client, answer) = upload(&server, "/a.bin", 500);
        assert_relayed(&answer, 408);
        after_the_pause(&mut client, fragment(0..500)).assert(200, None);
    }
}

#[test]
fn an_application_that_breaks_off_or_is_not_there_is_a_502() {
    let refused = free_address();
    for kind in [BY_VALUE, BY_REFERENCE] {
        let file =
            format!("notification_type = \"{kind}\"\nnotification_url = \"http://{refused}/\"");
        let server = Server::with(Settings::default().file(&file));
        let (_client, answer) = upload(&server, "/a.bin", 500);
        assert_relayed(&answer, 502);
        server.wait_for_log("the application was not told of the upload");
    }
    let backend = Backend::start(|_, number| match number {
        0 => Act::CloseAtOnce,
        1 => Act::CloseInBody(vec![1; 100_000]),
        _ => Act::body(b"whole"),
    });
    let server = server(BY_VALUE, &backend, "");
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    assert_relayed(&answer, 502);
    assert_relayed(&after_the_pause(&mut client, fragment(0..500)), 502);
    let names = || {
        let entries = std::fs::read_dir(server.file(".bitsd")).unwrap();
        entries.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".reply")
        })
    };
    assert_eq!(names().count(), 0, "half a reply is none");
    let answer = after_the_pause(&mut client, fragment(0..500));
    let url = answer.field("BITS-Reply-URL").unwrap();
    assert_eq!(client.get(url, "").body, b"whole");
}

#[test]
fn a_reply_over_its_limit_is_refused_and_not_kept() {
    let reply = vec![7; 5_000];
    for (kind, act) in [
        (BY_VALUE, Act::body(&reply)),
        (BY_REFERENCE, Act::WriteReply(reply.clone())),
    ] {
        let backend = Backend::always(act);
        let server = server(kind, &backend, "reply_bytes_max = 4096");
        let (mut client, answer) = upload(&server, "/a.bin", 500);
        assert_relayed(&answer, 502);
        client.cancel().assert(200, None);
        assert_no_rubbish(&server);
    }
}

#[test]
fn retries_spare_the_client_a_failure() {
    let backend = Backend::start(|_, number| match number {
        0 => Act::status(503),
        _ => Act::status(200),
    });
    let server = server(BY_VALUE, &backend, "notification_retries = 1");
    let (_client, answer) = upload(&server, "/a.bin", 500);
    answer.assert(200, None);
    assert_eq!(backend.heard().len(), 2);
}

#[test]
fn a_dead_application_holds_up_nobody_else() {
    let (dead, alive) = (
        Backend::always(Act::Hang),
        Backend::always(Act::status(200)),
    );
    let location = |prefix: &str, backend: &Backend| {
        format!(
            "[[location]]\nprefix = \"{prefix}\"\nnotification_type = \"by-value\"\n\
             notification_url = \"{}\"\nnotifications_in_flight_max = 1",
            backend.url("/")
        )
    };
    let file = [
        "create_dirs = true".to_owned(),
        location("dead", &dead),
        location("alive", &alive),
    ];
    let server = Server::with(Settings::default().file(&file.join("\n")));
    let mut waiting = Client::create(server.address(), "/dead/1.bin");
    waiting.send_part(&fragment(0..500), 500);
    dead.wait_for(1);
    // As many are in flight as may be: the client comes back later.
    let (_client, answer) = upload(&server, "/dead/2.bin", 500);
    assert_eq!(answer.status, 503);
    // On every shard.
    for number in 0..8 {
        let (_client, answer) = upload(&server, &format!("/alive/{number}.bin"), 500);
        answer.assert(200, None);
        let (mut client, answer) = upload(&server, &format!("/{number}.bin"), 500);
        answer.assert(200, None);
        client.close().assert(200, None);
    }
    assert_eq!(dead.heard().len(), 1);
}

#[test]
fn a_crash_before_the_answer_asks_again_under_the_same_id() {
    let backend = Backend::start(|_, number| match number {
        0 => Act::Hang,
        _ => Act::body(b"reply"),
    });
    let mut server = server(BY_VALUE, &backend, "");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..500), 500);
    backend.wait_for(1);
    server.kill9();
    server.restart();
    client.reconnect_to(server.address());
    let answer = client.send(fragment(0..500));
    answer.assert(200, None);
    let heard = backend.heard();
    let id = |heard: &Heard| heard.field("BITS-Notification-Id").unwrap().to_owned();
    assert_eq!((heard.len(), id(&heard[0])), (2, id(&heard[1])));
    // After the answer nobody is asked again, and the reply is where it was.
    let url = answer.field("BITS-Reply-URL").unwrap().to_owned();
    server.kill9();
    server.restart();
    client.reconnect_to(server.address());
    let answer = client.send(fragment(0..500));
    assert_eq!(answer.field("BITS-Reply-URL"), Some(&*url));
    assert_eq!(client.get(&url, "").body, b"reply");
    assert_eq!(backend.heard().len(), 2);
    client.close().assert(200, None);
    assert_no_rubbish(&server);
}

#[test]
fn a_newer_connection_waits_for_the_answer_and_hears_it() {
    let (asked, answers) = std::sync::mpsc::channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let backend = Backend::start(move |_, _| {
        let _ = answers.lock().unwrap().recv();
        Act::status(200)
    });
    let server = server(BY_VALUE, &backend, "");
    let mut first = Client::create(server.address(), "/a.bin");
    first.send_part(&fragment(0..500), 500);
    backend.wait_for(1);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    second.send_part(&fragment(0..500), 500);
    asked.send(()).unwrap();
    second.raw.receive().assert(200, None);
    assert_eq!(backend.heard().len(), 1);
}

#[test]
fn a_url_without_host_belongs_to_the_public_one() {
    let backend = Backend::always(Act::status(200));
    let file = format!(
        "create_dirs = true\nnotification_type = \"by-value\"\nnotification_url = \"/bits/in/app.asp?id=7\"\npublic_url = \"{}\"",
        backend.url("/bits")
    );
    let server = Server::with(Settings::default().file(&file));
    let (_client, answer) = upload(&server, "/in/a.bin?k=v", 500);
    answer.assert(200, None);
    let heard = &backend.heard()[0];
    assert_eq!(heard.line, "POST /bits/in/app.asp?id=7&k=v HTTP/1.1");
    let url = backend.url("/bits/in/a.bin?k=v");
    assert_eq!(heard.field("BITS-Original-Request-URL"), Some(&*url));
}

/// Whether it fits is known at Create. Behind the last byte a client would hear 502, again and
/// again.
#[test]
fn what_no_application_could_be_told_of_is_refused_before_data_flows() {
    let backend = Backend::always(Act::status(200));
    let server = server(BY_VALUE, &backend, "");
    let target_max = 2_200 - backend.url("/app?").len();
    let target = |bytes: usize| format!("/a.bin?{}", "q".repeat(bytes));
    let mut client = Client::new(server.address(), &target(target_max + 1));
    let refused = client.try_create();
    refused.assert(400, Some(E_INVALIDARG));
    assert!(refused.reason().contains("notification URL"), "{refused:?}");
    assert_no_rubbish(&server);
    let (mut client, answer) = upload(&server, &target(target_max), 500);
    answer.assert(200, None);
    client.close().assert(200, None);
    assert_eq!(
        backend.heard()[0].line.len(),
        "POST  HTTP/1.1".len() + 2_200 - backend.url("").len()
    );
}

/// A reserved character that is escaped, or is no longer, makes another URL (RFC 3986 2.2).
#[test]
fn the_application_hears_the_url_as_it_was_sent() {
    let backend = Backend::always(Act::status(200));
    let server = server(BY_VALUE, &backend, "create_dirs = true");
    let target = "/in//a(1)';b=%2B&c!d@%61.bin?x=(y)&z='%41'";
    let mut client = Client::create(server.address(), target);
    client.send(fragment(0..500)).assert(200, None);
    let heard = &backend.heard()[0];
    let url = format!("http://localhost{target}");
    assert_eq!(heard.field("BITS-Original-Request-URL"), Some(&*url));
    client.close().assert(200, None);
}

/// The node is where its client goes on, and no part of what it has asked for.
#[test]
fn the_application_hears_the_host_that_the_client_has_asked() {
    let backend = Backend::always(Act::body(b"reply"));
    let server = server(BY_VALUE, &backend, "host_id = \"node1.example\"");
    let mut client = Client::create(server.address(), "/a.bin");
    client.host = "farm.example:81".to_owned();
    let answer = client.send(fragment(0..500));
    let reply = answer.assert(200, None).field("BITS-Reply-URL").unwrap();
    assert!(reply.starts_with("http://node1.example:81/"), "{reply}");
    let heard = &backend.heard()[0];
    let url = "http://farm.example:81/a.bin";
    assert_eq!(heard.field("BITS-Original-Request-URL"), Some(url));
    client.close().assert(200, None);
}

/// Who is asked stands in the settings: a client that calls the server by another name changes
/// nothing about it.
#[test]
fn a_client_cannot_choose_the_application() {
    let backend = Backend::always(Act::status(200));
    let trap = Backend::always(Act::status(200));
    let trap_address = trap.url("");
    let host = trap_address.strip_prefix("http://").unwrap();
    let server = server(BY_VALUE, &backend, "");
    let mut client = Client::create(server.address(), "/a.bin");
    let session = client.session().to_owned();
    for target in ["/a.bin".to_owned(), format!("{trap_address}/a.bin")] {
        let fields = format!(
            "BITS-Session-Id: {session}\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n"
        );
        client.raw.send(format!(
            "BITS_POST {target} HTTP/1.1\r\nHost: {host}\r\nBITS-Packet-Type: Fragment\r\n{fields}\r\nabcde"
        ));
        client.raw.receive().assert(200, None);
    }
    assert_eq!(backend.heard().len(), 1);
    assert!(trap.heard().is_empty());
}

/// `anna`, whose password is `sesame`.
const USERS: &str = "anna:$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0\n";

#[test]
fn a_notification_can_be_checked_by_its_signature() {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "correct horse battery staple\n").unwrap();
    let users = folder.path().join("users");
    std::fs::write(&users, USERS).unwrap();
    for (kind, user) in [(BY_VALUE, ""), (BY_REFERENCE, ""), (BY_VALUE, "anna")] {
        let backend = Backend::always(Act::status(200));
        let asked = match user {
            "" => String::new(),
            _ => format!("auth = [\"basic\"]\nusers_file = {users:?}\n"),
        };
        let secret = format!("notification_secret_file = {secret:?}\n{asked}");
        let server = server(kind, &backend, &secret);
        let mut client = Client::new(server.address(), "/a.bin");
        if !user.is_empty() {
            use base64::Engine as _;
            let shown = base64::engine::general_purpose::STANDARD.encode("anna:sesame");
            client.lines = format!("Authorization: Basic {shown}\r\n");
        }
        client.try_create().assert(200, None);
        client.send(fragment(0..500)).assert(200, None);
        let heard = &backend.heard()[0];
        let field = |name| heard.field(name).unwrap_or_default();
        if kind == BY_VALUE {
            use base64::Engine as _;
            let digest =
                base64::engine::general_purpose::STANDARD.encode(Sha256::digest(content(500)));
            assert_eq!(field("Content-Digest"), format!("sha-256=:{digest}:"));
        }
        let mut lines = vec![
            field("BITS-Notification-Timestamp"),
            field("BITS-Notification-Id"),
            field("BITS-Original-Request-URL"),
            field("BITS-Request-DataFile-Name"),
            field("BITS-Response-DataFile-Name"),
            field("Content-Digest"),
        ];
        assert_eq!(field("BITS-Remote-User"), user);
        if !user.is_empty() {
            assert_eq!(field("BITS-Auth-Type"), "basic");
            lines.extend([user, "basic"]);
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(b"correct horse battery staple").unwrap();
        mac.update(lines.join("\n").as_bytes());
        let hex: String = (mac.finalize().into_bytes().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            field("BITS-Notification-Signature"),
            format!("sha256={hex}")
        );
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let sent: u64 = field("BITS-Notification-Timestamp").parse().unwrap();
        assert!(now.unwrap().as_secs().abs_diff(sent) < 60);
    }
}

#[test]
fn a_server_that_stops_does_not_wait_for_a_dead_application() {
    let backend = Backend::always(Act::Hang);
    let mut server = server(BY_VALUE, &backend, "limits.shutdown_ms_max = 100");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send_part(&fragment(0..500), 500);
    backend.wait_for(1);
    server.stop();
    assert_eq!(server.part_bytes(client.session()), 500);
}

#[test]
fn while_the_server_stops_nobody_is_asked_again() {
    // The simulator found it: the connection that waited for the session asked once more.
    let (asked, answers) = std::sync::mpsc::channel::<()>();
    let answers = std::sync::Mutex::new(answers);
    let backend = Backend::start(move |_, _| {
        let _ = answers.lock().unwrap().recv();
        Act::status(200)
    });
    let mut server = server(BY_VALUE, &backend, "limits.shutdown_ms_max = 100");
    let mut first = Client::create(server.address(), "/a.bin");
    first.send_part(&fragment(0..500), 500);
    backend.wait_for(1);
    let mut second = Client::new(server.address(), "/a.bin");
    second.adopt(first.session());
    second.send_part(&fragment(0..500), 500);
    // The second one is at the entrance when the first one is told to leave.
    first.raw.assert_closed();
    server.terminate();
    second.raw.assert_closed();
    asked.send(()).unwrap();
    asked.send(()).unwrap();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert_eq!(backend.heard().len(), 1);
    // Nor has anybody heard that.
    assert!(!server.log().contains("event=packet_refused"));
}

/// Goal: an application that takes a file away and wants it at its place hears that it cannot have
/// both, and others are not suspected. Method: it does that, and the client asks once more.
#[test]
fn a_file_that_its_application_has_taken_cannot_be_published_as_well() {
    let backend = Backend::start(|heard: &Heard, _| {
        let _taken = std::fs::remove_file(heard.field("BITS-Request-DataFile-Name").unwrap());
        Act::fields("BITS-Copy-File-To-Destination: 1\r\n")
    });
    let server = server(BY_REFERENCE, &backend, "log_level = \"debug\"");
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    assert_relayed(&answer, 502);
    server.wait_for_log("the application has taken the file away and asks for its publication");
    assert!(!server.log().contains("upload_taken"));
    assert_relayed(&client.send(fragment(0..500)), 502);
    assert!(!server.log().contains("keep other programs out"));
    client.cancel().assert(200, None);
    assert_no_rubbish(&server);
}

#[test]
fn replies_end_with_their_session_time() {
    let backend = Backend::always(Act::body(b"reply"));
    let server = server(BY_VALUE, &backend, "session_timeout = \"3s\"");
    let (mut client, answer) = upload(&server, "/a.bin", 500);
    let url = answer.field("BITS-Reply-URL").unwrap();
    assert_eq!(client.get(url, "").body, b"reply");
    wait_until("the session has expired", || {
        server.log().contains("expired")
    });
    assert_eq!(client.get(url, "").status, 404);
    assert_no_rubbish(&server);
}

#[test]
fn applications_are_told_by_https_if_the_host_trusts_them() {
    let backend = Https::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let settings = Settings::default()
        .file("notification_type = \"by-reference\"")
        .file(&format!("notification_url = \"{}\"", backend.url()));
    let server = Server::with(backend.trusted_by(settings.clone()));
    let (_client, answer) = upload(&server, "/a.bin", 500);
    answer.assert(200, None);
    // Nobody is told who cannot show a certificate that the host trusts.
    let server = Server::with(settings);
    let (_client, answer) = upload(&server, "/a.bin", 500);
    assert_relayed(&answer, 502);
    server.wait_for_log("its certificate is not accepted: its authority is not trusted here");
}

#[test]
fn over_tls_too_a_reply_without_its_end_is_none() {
    for (is_ended, status) in [(true, 200), (false, 502)] {
        let backend = Https::start(move |stream| {
            let reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nreply";
            let _ = stream.write_all(reply);
            if is_ended {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        let settings = Settings::default()
            .file("notification_type = \"by-value\"")
            .file(&format!("notification_url = \"{}\"", backend.url()));
        let server = Server::with(backend.trusted_by(settings));
        let (_client, answer) = upload(&server, "/a.bin", 500);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.field("BITS-Reply-URL").is_some(), is_ended);
        if !is_ended {
            // And not what its library explains to those who program.
            server.wait_for_log("it ended the connection before its answer was whole");
        }
    }
}

#[test]
fn proxies_of_the_environment_are_not_asked() {
    let backend = Backend::always(Act::status(200));
    let proxy = Backend::always(Act::status(403));
    let variables = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let variables = variables.map(|name| format!("{name}={}", proxy.url("")));
    let mut wrapper = vec!["env"];
    wrapper.extend(variables.iter().map(String::as_str));
    let settings = Settings::default()
        .file("notification_type = \"by-reference\"")
        .file(&format!("notification_url = \"{}\"", backend.url("/")))
        .wrapper(&wrapper);
    let server = Server::with(settings);
    let (_client, answer) = upload(&server, "/a.bin", 500);
    answer.assert(200, None);
    assert_eq!(proxy.heard().len(), 0);
}
