//! From where a client comes, and through whom: addresses that are let in, what proxies say of the
//! client behind them, and whose word is taken. The real server; proxies are played by raw sockets
//! (tests/proxies.rs has real ones).

mod support;

use std::net::{IpAddr, SocketAddr};

use support::client::{Client, E_ACCESSDENIED, E_INVALIDARG, basic, fragment};
use support::raw::Raw;
use support::server::{Server, Settings};
use support::tls::Authority;

fn server(lines: &str) -> Server {
    Server::with(Settings::default().file(lines))
}

/// A client behind a proxy that says this.
fn behind(server: &Server, path: &str, lines: &str) -> Client {
    let mut client = Client::new(server.address(), path);
    client.lines = lines.to_owned();
    client
}

fn forwarded(addresses: &str) -> String {
    format!("X-Forwarded-For: {addresses}\r\n")
}

#[test]
fn a_location_takes_uploads_from_where_it_says() {
    let server = server(
        "allow_from = [\"127.0.0.0/8\", \"::1\"]\n\
         [[location]]\nprefix = \"near\"\nallow_from = [\"192.0.2.0/24\"]\n\
         [[location]]\nprefix = \"all\"\nallow_from = []\n",
    );
    std::fs::create_dir(server.file("all")).unwrap();
    std::fs::create_dir(server.file("near")).unwrap();
    for (path, status) in [("/a.bin", 200), ("/near/a.bin", 403), ("/all/a.bin", 200)] {
        // What it says itself counts for nothing: nobody is trusted.
        let mut client = behind(&server, path, &forwarded("192.0.2.7"));
        let error = (status == 403).then_some(E_ACCESSDENIED);
        client.ping().assert(status, error);
        let response = client.try_create();
        response.assert(status, error);
        if status == 403 {
            assert_eq!(response.reason(), "uploads are not taken from this address");
        }
    }
    let mut client = Client::new(server.address(), "/near/a.bin");
    let refused = client.get("http://localhost/near/a.bin", "");
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[test]
fn each_request_comes_from_whom_the_proxy_names() {
    let server = server(
        "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nallow_from = [\"192.0.2.0/24\"]\n",
    );
    let mut client = behind(&server, "/a.bin", "");
    // On one connection, as proxies use theirs for many clients.
    for (told, status) in [
        ("192.0.2.7", 200),
        ("203.0.113.9", 403),
        ("192.0.2.7, 203.0.113.9", 403),
        ("203.0.113.9, 192.0.2.7", 200),
        ("203.0.113.9, 192.0.2.7, 10.0.0.9", 200),
        ("203.0.113.9\r\nX-Forwarded-For: 192.0.2.7", 200),
        ("192.0.2.7\r\nX-Forwarded-For: 203.0.113.9", 403),
        ("192.0.2.7:51234", 200),
        ("unknown", 403),
        ("", 403),
    ] {
        client.lines = forwarded(told);
        let error = (status == 403).then_some(E_ACCESSDENIED);
        client.ping().assert(status, error);
    }
    client.lines = String::new();
    client.ping().assert(403, Some(E_ACCESSDENIED));
    server.wait_for_log("peer=203.0.113.9:0 path=\"a.bin\" status=403");
    server.wait_for_log("peer=127.0.0.1:");
}

/// Goal: a listener lets in clients, and not the proxy that they come by. Method: the proxy is none
/// of those that it lets in, and then it is; on one connection, and on that of another shard.
#[test]
fn a_listener_looks_at_the_client_that_its_proxy_names() {
    for own in ["", ", \"127.0.0.1\""] {
        let server = server(&format!(
            "cores = 2\ntrusted_proxies = \"127.0.0.1\"\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\nallow_from = [\"192.0.2.0/24\"{own}]\n"
        ));
        let mut client = Client::new(server.plain(), "/a.bin");
        for (told, is_in) in [
            ("192.0.2.7", true),
            ("203.0.113.9", false),
            ("192.0.2.8", true),
        ] {
            client.lines = forwarded(told);
            let (status, error) = match is_in {
                true => (200, None),
                false => (403, Some(E_ACCESSDENIED)),
            };
            client.ping().assert(status, error);
        }
        // Whoever comes by itself is the client.
        client.lines = String::new();
        let own_status = if own.is_empty() { 403 } else { 200 };
        assert_eq!(client.ping().status, own_status);
        // A session may be at home on the other shard, and the connection goes there with it.
        for number in 0..8 {
            let path = format!("/{number}.bin");
            let mut maker = Client::new(server.plain(), &path);
            maker.lines = forwarded("192.0.2.7");
            maker.try_create().assert(200, None);
            let mut raw = Client::new(server.plain(), &path);
            raw.adopt(maker.session());
            raw.lines = forwarded("192.0.2.7");
            raw.send(fragment(0..5).of(10)).assert(200, None);
            raw.lines = forwarded("203.0.113.9");
            raw.send(fragment(5..10).of(10))
                .assert(403, Some(E_ACCESSDENIED));
        }
    }
}

#[test]
fn what_is_counted_by_client_is_counted_behind_the_proxy() {
    let server = server("trusted_proxies = \"127.0.0.1\"\nsessions_per_client_max = 1\n");
    let mut one = behind(&server, "/one.bin", &forwarded("192.0.2.7"));
    one.try_create().assert(200, None);
    let mut same = behind(&server, "/same.bin", &forwarded("192.0.2.7"));
    same.try_create().assert(503, None);
    let mut other = behind(&server, "/other.bin", &forwarded("192.0.2.8"));
    other.try_create().assert(200, None);
    one.send_rest(0, 100, 100);
    one.close().assert(200, None);
    server.wait_for_log("peer=192.0.2.7:0 agent=\"Microsoft BITS/7.8\" ending=\"published\"");
    same.try_create().assert(200, None);
}

#[test]
fn who_guesses_behind_a_proxy_holds_nobody_else_up() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let hash = bcrypt::hash("sesame", 4).unwrap();
    std::fs::write(&users, format!("anna:{hash}\n")).unwrap();
    let server = server(&format!(
        "trusted_proxies = \"127.0.0.1\"\nusers_file = {users:?}\nauth = \"basic\"\n"
    ));
    let mut client = behind(&server, "/a.bin", "");
    for guess in 0..11 {
        client.lines = forwarded("192.0.2.7") + &basic("anna", "guessed");
        let status = if guess < 10 { 401 } else { 503 };
        assert_eq!(client.ping().status, status, "{guess}");
    }
    client.lines = forwarded("192.0.2.8") + &basic("anna", "sesame");
    client.ping().assert(200, None);
}

#[test]
fn a_trusted_proxy_names_the_user_and_nobody_else_does() {
    let lines = |trusted: &str, strict: bool| {
        format!(
            "trusted_proxies = [\"{trusted}\"]\nuser_header = \"X-Remote-User\"\nstrict = {strict}\n\
             auth = \"proxy\"\nallow = [\"anna\", \"EXAMPLE\\\\bert\"]\n\
             [[location]]\nprefix = \"open\"\nauth = []\nallow = \"*\"\n"
        )
    };
    let trusting = server(&lines("127.0.0.1", true));
    for (named, status, reason) in [
        ("X-Remote-User: anna\r\n", 200, ""),
        ("x-remote-USER:  anna \r\n", 200, ""),
        ("X-Remote-User: EXAMPLE\\bert\r\n", 200, ""),
        ("X-Remote-User: carl\r\n", 403, "this user may not"),
        ("X-Remote-User: Anna\r\n", 403, "this user may not"),
        ("X-Remote-User:\r\n", 403, "no proxy says"),
        ("", 403, "no proxy says"),
        (
            "X-Remote-User: anna\r\nX-Remote-User: anna\r\n",
            403,
            "no proxy says who sends the request by a name that",
        ),
        ("X-Remote-User: anna, carl\r\n", 403, "this user may not"),
        (
            "X-Remote-User: an:na\r\n",
            403,
            "no proxy says who sends the request by a name that",
        ),
        ("X-Remote_User: anna\r\n", 403, "no proxy says"),
        // Behind the proxy stands whoever it is.
        (
            "X-Forwarded-For: 192.0.2.7\r\nX-Remote-User: anna\r\n",
            200,
            "",
        ),
    ] {
        let mut client = behind(&trusting, "/a.bin", named);
        let response = client.ping();
        assert_eq!(response.status, status, "{named:?}: {response:?}");
        if status == 403 {
            assert!(
                response.reason().starts_with(reason),
                "{named:?}: {response:?}"
            );
        }
        assert_eq!(response.field("WWW-Authenticate"), None);
    }
    let mut anna = behind(&trusting, "/a.bin", "X-Remote-User: anna\r\n");
    anna.try_create().assert(200, None);
    anna.send_rest(0, 10, 10);
    anna.close().assert(200, None);
    trusting.wait_for_log("user=\"anna\"");

    let wary = server(&lines("10.0.0.1", true));
    let mut forger = behind(&wary, "/a.bin", "X-Remote-User: anna\r\n");
    forger.ping().assert(400, Some(E_INVALIDARG));
    forger.lines = String::new();
    forger.ping().assert(403, Some(E_ACCESSDENIED));
    let lenient = server(&lines("10.0.0.1", false));
    for (path, status) in [("/a.bin", 403), ("/open", 200)] {
        let mut forger = behind(&lenient, path, "X-Remote-User: anna\r\n");
        assert_eq!(forger.ping().status, status, "{path}");
    }
}

/// Whoever is no proxy may write what it likes into the bytes that a proxy passes on.
#[test]
fn a_field_of_a_client_behind_the_proxy_protocol_is_no_proxys_word() {
    let server = server(
        "trusted_proxies = \"127.0.0.1\"\nuser_header = \"X-Remote-User\"\nauth = \"proxy\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n",
    );
    let mut raw = Raw::connect(server.plain());
    raw.send("PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n");
    raw.send(ping(
        "X-Remote-User: anna\r\nX-Forwarded-For: 127.0.0.1\r\n",
    ));
    assert_eq!(raw.receive().status, 403);
    server.wait_for_log("peer=192.0.2.7:5");
}

/// Fields are the client's own, also where the announcement names nobody, or a proxy.
#[test]
fn behind_an_announcement_no_field_is_a_word_of_a_proxy() {
    let server = server(
        "log_level = \"debug\"\ntrusted_proxies = [\"127.0.0.1\", \"10.9.0.0/16\"]\n\
         user_header = \"X-Remote-User\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n\
         [[location]]\nprefix = \"named\"\nauth = \"proxy\"\n\
         [[location]]\nprefix = \"near\"\nallow_from = \"192.0.2.0/24\"\n",
    );
    let own = |line: &str| line.as_bytes().to_vec();
    let nameless = |kind: &[u8]| [&b"\r\n\r\n\0\r\nQUIT\n"[..], kind].concat();
    for header in [
        own("PROXY UNKNOWN\r\n"),
        own("PROXY UNKNOWN 192.0.2.7 127.0.0.1 5 80\r\n"),
        own("PROXY TCP4 10.9.1.1 127.0.0.1 5 80\r\n"),
        own("PROXY TCP4 127.0.0.1 127.0.0.1 5 80\r\n"),
        binary([10, 9, 1, 1]),
        // LOCAL, of no family, and a Unix socket's.
        nameless(b"\x20\0\0\0"),
        nameless(b"\x21\0\0\0"),
        nameless(&[&b"\x21\x31\0\xd8"[..], &[0; 216]].concat()),
    ] {
        let mut raw = Raw::connect(server.plain());
        raw.send(&header);
        let fields = "X-Remote-User: anna\r\nX-Forwarded-For: 192.0.2.7\r\n";
        for folder in ["named", "near"] {
            let ping = ping(fields).replacen("/a.bin", &format!("/{folder}/a.bin"), 1);
            let status = raw.send(&ping).receive().status;
            assert!(matches!(status, 401 | 403), "{folder} {status}: {header:?}");
        }
    }
}

fn ping(lines: &str) -> String {
    format!(
        "BITS_POST /a.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
         BITS-Packet-Type: Ping\r\n{lines}\r\n"
    )
}

const PROTOCOL: &str = "log_level = \"debug\"\ntrusted_proxies = \"127.0.0.1\"\n\
    [[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n";

/// Version 2, of a client with IPv4.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1, 0, 5, 0, 80]);
    header
}

#[test]
fn the_proxy_protocol_says_whose_a_connection_is() {
    let server = server(&format!("allow_from = \"192.0.2.0/24\"\n{PROTOCOL}"));
    let own = |lines: &str| lines.as_bytes().to_vec();
    for (header, status) in [
        (own("PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n"), 200),
        (own("PROXY TCP4 203.0.113.9 127.0.0.1 5 80\r\n"), 403),
        (own("PROXY TCP6 ::ffff:192.0.2.7 ::1 5 80\r\n"), 200),
        // The proxy itself.
        (own("PROXY UNKNOWN\r\n"), 403),
        (binary([192, 0, 2, 7]), 200),
        (binary([203, 0, 113, 9]), 403),
    ] {
        let error = (status == 403).then_some(E_ACCESSDENIED);
        let mut raw = Raw::connect(server.plain());
        raw.send([&header, ping("").as_bytes()].concat());
        raw.receive().assert(status, error);
        // It holds for the whole connection.
        raw.send(ping("")).receive().assert(status, error);
        // Byte by byte.
        let mut raw = Raw::connect(server.plain());
        for byte in &header {
            raw.send([*byte]);
        }
        raw.send(ping("")).receive().assert(status, error);
    }
    server.wait_for_log("a proxy has announced its client");
}

#[test]
fn who_does_not_say_whose_a_connection_is_gets_no_answer() {
    let server = server(PROTOCOL);
    let bad = [
        ping("").into_bytes(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 5\r\n".to_vec(),
        [b"PROXY ", &[b'x'; 101][..]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
    ];
    for bytes in bad {
        let mut raw = Raw::connect(server.plain());
        // It may be ended meanwhile.
        let _ = raw.try_send(&bytes);
        assert!(!matches!(raw.try_receive(), Ok(Some(_))), "{bytes:?}");
    }
    server.wait_for_log("not_let_in");
    server.wait_for_log("does not begin with the PROXY protocol");
    // Whoever is none of the proxies is ended before he says anything.
    let other: IpAddr = "127.0.0.2".parse().unwrap();
    let mut raw = Raw::connect_from(other, server.plain());
    assert!(!matches!(raw.try_receive(), Ok(Some(_))));
    server.wait_for_log("it is none of trusted_proxies");
    // On the other listener nobody has to say anything.
    Client::new(server.address(), "/a.bin")
        .ping()
        .assert(200, None);
}

#[test]
fn a_client_of_the_proxy_protocol_moves_to_its_session_and_is_told_of() {
    let server = server(PROTOCOL);
    let connect = || {
        let mut client = Client::new(server.plain(), "/a.bin");
        client
            .raw
            .send("PROXY TCP4 192.0.2.7 127.0.0.1 4660 80\r\n");
        client
    };
    let mut client = connect();
    client.try_create().assert(200, None);
    let session = client.session().to_owned();
    // The kernel deals connections out to shards: some land on the other.
    for at in 0..16 {
        let mut client = connect();
        client.adopt(&session);
        client.send(fragment(at..at + 1).of(16)).assert(200, None);
    }
    let mut client = connect();
    client.adopt(&session).close().assert(200, None);
    server.assert_file("a.bin", 1, 16);
    server.wait_for_log("connection moved");
    server.wait_for_log("peer=192.0.2.7:4660 agent=\"Microsoft BITS/7.8\" ending=\"published\"");
}

#[test]
fn the_connections_of_a_client_are_counted_behind_the_proxy_protocol() {
    let settings = format!("{PROTOCOL}[limits]\nconnections_per_client_max = 2\n");
    let settings = Settings::default().file(&settings);
    let server = Server::with(settings.flags(&["--cores", "1"]));
    let connect = |client: [u8; 4]| {
        let mut raw = Raw::connect(server.plain());
        raw.send([binary(client), ping("").into_bytes()].concat());
        raw
    };
    let mut one = connect([192, 0, 2, 7]);
    one.receive().assert(200, None);
    let mut two = connect([192, 0, 2, 7]);
    two.receive().assert(200, None);
    connect([192, 0, 2, 7]).receive().assert(503, None);
    let mut other = connect([192, 0, 2, 8]);
    other.receive().assert(200, None);
    drop(one);
    support::wait_until("a place is free again", || {
        connect([192, 0, 2, 7]).receive().status == 200
    });
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let authority = Authority::new();
    let pair = authority.server("ec", &["localhost"]);
    let server = Server::with(Settings::default().file(&format!(
        "log_level = \"debug\"\ntrusted_proxies = \"127.0.0.1\"\nallow_from = \"192.0.2.7\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\nproxy_protocol = \"required\"\n{}",
        pair.table()
    )));
    let trust = authority.trusting();
    let mut raw = Raw::connect(server.secure());
    raw.send(binary([192, 0, 2, 7]));
    let mut raw = raw.shake_hands(&trust, "localhost").unwrap();
    raw.send(ping("")).receive().assert(200, None);
    let refused = Raw::try_secure(server.secure(), &trust, "localhost");
    assert!(refused.is_err());
    server.wait_for_log("does not begin with the PROXY protocol");
}

#[test]
fn a_listener_lets_in_whom_it_says_also_after_a_reload() {
    let lines = |network: &str| {
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\nallow_from = \"{network}\"\n")
    };
    let server = server(&lines("127.0.0.2"));
    let (in_, out): (IpAddr, IpAddr) = ("127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap());
    let is_served = |source: IpAddr, address: SocketAddr| {
        let mut raw = Raw::connect_from(source, address);
        let _ = raw.try_send(ping(""));
        matches!(raw.try_receive(), Ok(Some(response)) if response.status == 200)
    };
    assert!(is_served(in_, server.plain()));
    assert!(!is_served(out, server.plain()));
    server.wait_for_log("its address is none of allow_from");
    // The other listener asks nobody.
    assert!(is_served(out, server.address()));
    server.reload(&lines("127.0.0.1"));
    server.wait_for_log("the settings were reloaded");
    assert!(is_served(out, server.plain()));
    assert!(!is_served(in_, server.plain()));
}
