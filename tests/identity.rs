//! Who somebody is by a certificate, and for how long it is known: the real server.

mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{DnType, ExtendedKeyUsagePurpose, OtherNameValue, SanType};
use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};

use support::client::{Client, E_ACCESSDENIED, fragment};
use support::server::{Server, Settings};
use support::tls::{Authority, Pair};

/// `anna`, whose password is `sesame`.
const USERS: &str = "anna:$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0\n";

fn basic(password: &str) -> String {
    let encoded = STANDARD.encode(format!("anna:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// Settings with a listener that speaks TLS.
fn lines(authority: &Authority, above: &str, listener: &str) -> String {
    let pair = authority.server("server", &["localhost"]);
    fs::write(authority.file("users"), USERS).unwrap();
    fs::write(authority.file("groups"), "ops: anna\n").unwrap();
    format!(
        "log_level = \"debug\"\nusers_file = {:?}\ngroups_file = {:?}\n{above}\n[[listener]]\n\
         address = \"127.0.0.1:0\"\ntls = true\n{listener}\n{}",
        authority.file("users"),
        authority.file("groups"),
        pair.table()
    )
}

/// Settings with a listener that asks for certificates.
fn certified(authority: &Authority, above: &str) -> String {
    lines(
        authority,
        above,
        &format!("client_ca = {:?}", authority.ca()),
    )
}

fn client_of(authority: &Authority, file: &str, names: Vec<SanType>, common: &str) -> Pair {
    authority.issue(file, &[], |params| {
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    })
}

fn upn(name: &str) -> SanType {
    let oid = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    SanType::OtherName((oid, OtherNameValue::Utf8String(name.to_owned())))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn connect(server: &Server, trust: &Arc<ClientConfig>, path: &str) -> Client {
    Client::over(server.secure(), path, Some(trust))
}

#[test]
fn a_certificate_says_who_uploads() {
    let authority = Authority::new();
    let above = "realms = [\"EXAMPLE\"]\nauth = [\"certificate\"]\nallow = [\"@ops\", \"pc1.example\"]\n\
                 [[location]]\nprefix = \"open\"\nauth = []\nallow = [\"*\"]";
    let server = Server::with(Settings::default().file(&certified(&authority, above)));
    let anna = client_of(&authority, "anna", vec![upn("Anna@example")], "x");
    let machine = client_of(&authority, "pc1", vec![dns("PC1.example")], "x");
    let bert = client_of(&authority, "bert", vec![upn("bert@EXAMPLE")], "anna");
    let nobody = client_of(&authority, "nobody", vec![], "anna");
    for (pair, path, user) in [
        (&anna, "/a.bin", "anna"),
        (&machine, "/b.bin", "pc1.example"),
    ] {
        let mut client = connect(&server, &authority.trusting_as(pair), path);
        client.try_create().assert(200, None);
        client.send(fragment(0..100)).assert(200, None);
        client.close().assert(200, None);
        server.wait_for_log(&format!("user={user:?} proof=\"certificate\""));
    }
    for (pair, why) in [(&bert, "this user may not"), (&nobody, "names no user")] {
        let mut client = connect(&server, &authority.trusting_as(pair), "/a.bin");
        let response = client.try_create();
        response.assert(403, Some(E_ACCESSDENIED));
        assert!(response.reason().contains(why), "{response:?}");
    }
    // Where there is none, there is no way to ask for one.
    let mut plain = Client::new(server.address(), "/a.bin");
    plain.lines = basic("sesame");
    let response = plain.ping();
    response.assert(403, Some(E_ACCESSDENIED));
    assert!(
        response.reason().contains("client certificate"),
        "{response:?}"
    );
}

#[test]
fn a_certificate_may_be_known_by_its_fingerprint_and_the_file_is_read_again() {
    let authority = Authority::new();
    let file = authority.file("certificates");
    fs::write(&file, "").unwrap();
    let above = format!(
        "certificates_file = {file:?}\ncertificate_user = [\"fingerprint\"]\nauth = [\"certificate\"]"
    );
    let lines = certified(&authority, &above);
    let server = Server::with(Settings::default().file(&lines));
    let pair = client_of(&authority, "anna", vec![upn("bert@EXAMPLE")], "bert");
    let trust = authority.trusting_as(&pair);
    let mut client = connect(&server, &trust, "/a.bin");
    client.ping().assert(403, Some(E_ACCESSDENIED));
    let pem = fs::read_to_string(&pair.chain).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
    let digest = Sha256::digest(STANDARD.decode(body).unwrap());
    let shown: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    fs::write(&file, format!("anna:{}\n", shown.join(":"))).unwrap();
    server.reload(&lines);
    server.wait_for_log("the settings were reloaded");
    client.try_create().assert(200, None);
    client.cancel().assert(200, None);
    server.wait_for_log("user=\"anna\" proof=\"certificate\"");
    // On the same connection, as soon as the line is gone.
    fs::write(&file, "# nobody\n").unwrap();
    server.reload(&format!("# again\n{lines}"));
    server.wait_for_log("event=reloaded");
    support::wait_until("the line is gone", || client.ping().status == 403);
}

#[test]
fn who_shows_something_beside_a_certificate_is_who_that_says() {
    let authority = Authority::new();
    let lines = certified(
        &authority,
        "auth = [\"basic\", \"certificate\"]\nallow = [\"anna\"]",
    );
    let server = Server::with(Settings::default().file(&lines));
    let bert = client_of(&authority, "bert", vec![dns("bert")], "x");
    let mut client = connect(&server, &authority.trusting_as(&bert), "/a.bin");
    client.ping().assert(403, Some(E_ACCESSDENIED));
    client.lines = basic("sesame");
    client.ping().assert(200, None);
    client.lines = basic("wrong");
    client.ping().assert(401, None);
    client.lines.clear();
    client.ping().assert(403, Some(E_ACCESSDENIED));
}

#[test]
fn whoever_was_known_is_so_as_long_as_the_connection_and_the_settings_last() {
    let authority = Authority::new();
    let lines = lines(
        &authority,
        "auth = [\"basic\"]\n[[location]]\nprefix = \"each\"\nauth_persist = \"request\"\n\
         [[location]]\nprefix = \"any\"\nauth_persist = \"connection\"",
        "",
    );
    let server = Server::with(Settings::default().file(&lines));
    let trust = authority.trusting();
    let mut known = connect(&server, &trust, "/a.bin");
    known.ping().assert(401, None);
    known.lines = basic("sesame");
    known.ping().assert(200, None);
    known.lines.clear();
    // Its body would be sent in vain otherwise.
    known.try_create().assert(200, None);
    known.send_rest(0, 100_000, 10_000);
    // A wrong one later is no "still the same".
    known.lines = basic("wrong");
    known.ping().assert(401, None);
    known.lines.clear();
    known.ping().assert(401, None);
    // By request, by TLS, by any connection.
    for (path, secure, plain) in [
        ("/a", 200, 401),
        ("/each/a", 401, 401),
        ("/any/a", 200, 200),
    ] {
        let mut clients = [
            (connect(&server, &trust, path), secure),
            (Client::new(server.address(), path), plain),
        ];
        for (client, expected) in &mut clients {
            client.lines = basic("sesame");
            client.ping().assert(200, None);
            client.lines.clear();
            assert_eq!(client.ping().status, *expected, "{path}");
        }
    }
    // Passwords are looked at anew under new settings.
    known.lines = basic("sesame");
    known.ping().assert(200, None);
    known.lines.clear();
    known.ping().assert(200, None);
    server.reload(&format!("# again\n{lines}"));
    server.wait_for_log("the settings were reloaded");
    known.ping().assert(401, None);
    // Behind a proxy that is trusted, each request is somebody else's.
    let proxied = lines.replace(
        "auth = [\"basic\"]\n",
        "trusted_proxies = [\"127.0.0.1\"]\nauth = [\"basic\"]\n",
    );
    assert_ne!(proxied, lines);
    server.reload(&proxied);
    support::wait_until("the proxy is trusted", || {
        let mut client = connect(&server, &trust, "/a.bin");
        client.lines = basic("sesame");
        client.ping().assert(200, None);
        client.lines.clear();
        client.ping().status == 401
    });
}

/// What the check says of settings.
fn check(lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bitsd.toml");
    fs::write(&file, lines).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn certificates_need_a_listener_that_asks_for_them() {
    let said = check("auth = [\"certificate\"]\n");
    assert!(
        said.contains("needs a [[listener]] with client_ca"),
        "{said}"
    );
}
