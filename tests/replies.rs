//! Replies to upload-reply jobs: GET and HEAD as BITS clients send them, also after a restart
//! (protocol.md 10.3).

mod support;

use support::backend::{Act, Backend};
use support::client::{Client, fragment};
use support::raw::Response;
use support::server::{Server, Settings};
use support::tls::Authority;

/// More than a body block and no multiple of anything.
const REPLY_BYTES: u64 = 3_000_001;

fn reply() -> Vec<u8> {
    support::content::content(9, 0, REPLY_BYTES)
}

/// A server, its application, a client with a whole upload, and the URL of its reply.
#[track_caller]
fn replied(kind: &str, act: Act) -> (Server, Backend, Client, String) {
    let backend = Backend::always(act);
    let settings = Settings::default()
        .file("create_dirs = true")
        .file(&format!("notification_type = \"{kind}\""))
        .file(&format!("notification_url = \"{}\"", backend.url("/")));
    let server = Server::with(settings);
    let mut client = Client::create(server.address(), "/in/a%20b/1.bin");
    let answer = client.send(fragment(0..500));
    answer.assert(200, None);
    let url = answer.field("BITS-Reply-URL").unwrap().to_owned();
    (server, backend, client, url)
}

fn head(client: &mut Client, url: &str, fields: &str) -> Response {
    let target = url.splitn(4, '/').nth(3).unwrap();
    let text = format!("HEAD /{target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    client.raw.send(text);
    client.raw.receive_head()
}

/// RFC 9112 3.2.2: an absolute target goes before the Host; without either, the URL is relative to
/// that of the upload.
#[test]
fn a_reply_url_begins_with_what_the_client_calls_the_server() {
    let backend = Backend::always(Act::body(b"reply"));
    let settings = Settings::default()
        .file("create_dirs = true\nnotification_type = \"by-value\"")
        .file(&format!("notification_url = \"{}\"", backend.url("/")));
    let server = Server::with(settings);
    for (n, (before, version, host, begin)) in [
        ("", "1.1", "Host: h:81\r\n", "http://h:81/in/BITS-Sessions/"),
        (
            "http://i",
            "1.1",
            "Host: h\r\n",
            "http://i/in/BITS-Sessions/",
        ),
        ("http://i:82", "1.0", "", "http://i:82/in/BITS-Sessions/"),
        ("", "1.1", "Host:\r\n", "BITS-Sessions/Replies/"),
        ("", "1.0", "", "BITS-Sessions/Replies/"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/in/{n}.bin");
        let mut client = Client::create(server.address(), &path);
        let session = client.session().to_owned();
        client.raw.send(format!(
            "BITS_POST {before}{path} HTTP/{version}\r\n{host}BITS-Packet-Type: Fragment\r\n\
             BITS-Session-Id: {session}\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nabcde"
        ));
        let answer = client.raw.receive();
        let url = answer.assert(200, None).field("BITS-Reply-URL").unwrap();
        assert!(url.starts_with(begin), "{before} {host}: {url}");
    }
}

/// It leads to where the upload went: by TLS, where that is what the listener speaks.
#[test]
fn a_reply_to_an_upload_by_tls_is_fetched_by_tls() {
    let backend = Backend::always(Act::body(b"reply"));
    let authority = Authority::new();
    let settings = format!(
        "create_dirs = true\nnotification_type = \"by-value\"\nnotification_url = \"{}\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\n{}",
        backend.url("/"),
        authority.server("server", &["localhost"]).table(),
    );
    let server = Server::with(Settings::default().file(&settings));
    let trust = authority.trusting();
    let mut client = Client::over(server.secure(), "/in/1.bin", Some(&trust));
    client.try_create().assert(200, None);
    let answer = client.send(fragment(0..5));
    let url = answer.assert(200, None).field("BITS-Reply-URL").unwrap();
    assert!(url.starts_with("https://"), "{url}");
    let heard = backend.heard();
    let asked = heard[0].field("BITS-Original-Request-URL").unwrap();
    assert!(asked.starts_with("https://"), "{asked}");
    let (url, asked) = (url.to_owned(), asked.to_owned());
    let host = asked.strip_suffix("/in/1.bin").unwrap();
    assert!(
        url.starts_with(&format!("{host}/in/BITS-Sessions/")),
        "{url}"
    );
    assert_eq!(head(&mut client, &url, "").status, 200);
}

#[test]
fn a_reply_is_fetched_whole_and_in_ranges() {
    for (kind, act) in [
        ("by-value", Act::body(&reply())),
        ("by-reference", Act::WriteReply(reply())),
    ] {
        let (server, _backend, mut client, url) = replied(kind, act);
        assert!(
            url.starts_with("http://localhost/in/a%20b/BITS-Sessions/Replies/"),
            "{url}"
        );
        assert!(url.ends_with("/responsefile.bin"));
        let whole = client.get(&url, "Accept: */*\r\nAccept-Encoding: identity\r\n");
        assert_eq!(whole.status, 200);
        assert!(whole.body == reply());
        assert_eq!(whole.field("Accept-Ranges"), Some("bytes"));
        assert_eq!(whole.field("Content-Encoding"), None);
        let etag = whole.field("ETag").unwrap().to_owned();
        let modified = whole.field("Last-Modified").unwrap().to_owned();

        let only = head(&mut client, &url, "");
        assert_eq!(only.field("Content-Length"), Some("3000001"));
        assert_eq!(
            (only.field("ETag"), only.field("Last-Modified")),
            (Some(&*etag), Some(&*modified))
        );

        let part = client.get(&url, "Range: bytes=1000-2999999\r\n");
        assert_eq!(part.status, 206);
        assert_eq!(
            part.field("Content-Range"),
            Some("bytes 1000-2999999/3000001")
        );
        assert!(part.body == reply()[1_000..3_000_000]);

        let parts = client.get(&url, "Range: bytes=2000000-2999999,0-1\r\n");
        assert_eq!(parts.status, 206);
        let first = parts
            .body
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .unwrap()
            + 4;
        assert!(first <= 182, "{first} bytes before the first part");
        assert!(parts.body[first..].starts_with(&reply()[2_000_000..3_000_000]));

        let nothing = client.get(&url, "Range: bytes=3000001-\r\n");
        assert_eq!(nothing.status, 416);
        assert_eq!(nothing.field("Content-Range"), Some("bytes */3000001"));
        let changed = client.get(&url, "If-Match: \"other\"\r\n");
        assert_eq!(changed.status, 412);

        client.close().assert(200, None);
        assert_eq!(client.get(&url, "").status, 404, "it went with its session");
        assert!(server.work_files().is_empty());
    }
}

#[test]
fn a_download_goes_on_after_a_restart() {
    let (mut server, backend, mut client, url) = replied("by-value", Act::body(&reply()));
    let first = client.get(&url, "Range: bytes=0-999999\r\n");
    let etag = first.field("ETag").unwrap().to_owned();
    for restart in [Server::kill9, Server::stop] {
        restart(&mut server);
        server.restart();
        client.reconnect_to(server.address());
        let fields = format!("Range: bytes=1000000-\r\nIf-Range: {etag}\r\n");
        let rest = client.get(&url, &fields);
        assert_eq!(rest.status, 206, "{rest:?}");
        assert_eq!(rest.field("Last-Modified"), first.field("Last-Modified"));
        assert!(rest.body == reply()[1_000_000..]);
    }
    client.close().assert(200, None);
    assert_eq!(backend.heard().len(), 1);
}

#[test]
fn an_empty_reply_by_reference_is_a_reply() {
    let (_server, _backend, mut client, url) = replied("by-reference", Act::WriteReply(Vec::new()));
    let whole = client.get(&url, "");
    assert_eq!((whole.status, whole.body.len()), (200, 0));
    assert_eq!(client.get(&url, "Range: bytes=0-0\r\n").status, 416);
}

#[test]
fn only_a_reply_can_be_fetched_and_only_by_its_name() {
    let (server, _backend, mut client, url) = replied("by-value", Act::body(b"reply"));
    std::fs::write(server.file("there.bin"), "public?").unwrap();
    let token = url.rfind("/responsefile").unwrap() - 1;
    let mut other = url.clone();
    let digit = if &url[token..=token] == "0" { "1" } else { "0" };
    other.replace_range(token..=token, digit);
    let session = client.session().to_owned();
    let plain = session.trim_matches(['{', '}']);
    for wrong in [
        other,
        url.replace("/responsefile.bin", "/"),
        url.replace("BITS-Sessions", "bits-sessions"),
        "http://localhost/there.bin".to_owned(),
        "http://localhost/in/".to_owned(),
        "http://localhost/".to_owned(),
        format!("http://localhost/.bitsd/{plain}.reply"),
        format!("http://localhost/.bitsd/{plain}.part"),
    ] {
        let answer = client.get(&wrong, "");
        assert_eq!(answer.status, 404, "{wrong}");
        let why = "nothing can be downloaded under this name";
        assert_eq!(answer.reason(), why, "{wrong}");
    }
    assert_eq!(client.get(&url, "").body, b"reply");
}

#[test]
fn every_shard_serves_every_reply() {
    let (server, _backend, _client, url) = replied("by-value", Act::body(&reply()));
    for _ in 0..16 {
        let mut other = Client::new(server.address(), "/x");
        assert!(other.get(&url, "").body == reply());
        // The connection goes on.
        other.ping().assert(200, None);
        assert_eq!(
            other.get(&url, "Range: bytes=-1\r\n").body,
            reply()[3_000_000..]
        );
    }
}

#[test]
fn clients_that_do_not_read_keep_nothing_from_uploads() {
    let backend = Backend::always(Act::body(&support::content::content(9, 0, 16 << 20)));
    let settings = Settings::default()
        .file("notification_type = \"by-value\"")
        .file(&format!("notification_url = \"{}\"", backend.url("/")))
        .file("limits.body_blocks_per_shard = 1\nlimits.body_stall_ms_max = 1000")
        .flags(&["--cores", "1", "--log-level", "debug"]);
    let server = Server::with(settings);
    let mut client = Client::create(server.address(), "/a.bin");
    let answer = client.send(fragment(0..500));
    let url = answer.field("BITS-Reply-URL").unwrap().to_owned();
    let target = url.splitn(4, '/').nth(3).unwrap();
    let mut lazy: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for connection in &mut lazy {
        connection.send(format!("GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    let mut other = Client::create(server.address(), "/b.bin");
    other.send_rest(0, 8 << 20, 1 << 20);
    other.close().assert(200, None);
    support::wait_until("the watchdog has ended them", || {
        server.log().matches("why=\"the body stalled\"").count() == lazy.len()
    });
    // Half a reply is never passed off as a whole one.
    for connection in &mut lazy {
        assert!(connection.try_receive().is_err(), "a reply was cut");
    }
}
