//! Kerberos against a real key distribution centre: the real server, with the system's library.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use support::client::{Client, E_ACCESSDENIED, fragment};
use support::kdc::{PYTHON, Realm, Tickets, Wish};
use support::raw::Response;
use support::server::{Server, Settings};
use support::tls::{Authority, Pair};
use support::{skip, wait_until};

const REALM: &str = "BITS.TEST";
const SERVICE: &str = "HTTP/localhost@BITS.TEST";

/// A realm, and a server whose key is in its keytab. It listens without TLS, and with.
struct House {
    realm: Realm,
    authority: Authority,
    pair: Pair,
    server: Server,
    lines: String,
}

impl House {
    /// `None`, with a sentence, where something is missing.
    fn open(lines: &str) -> Option<Self> {
        let realm = Realm::with_tokens(REALM)?;
        realm.add("anna");
        realm.keytab("http.keytab", &["HTTP/localhost"]);
        Self::of(realm, lines)
    }

    fn of(realm: Realm, lines: &str) -> Option<Self> {
        let authority = Authority::new();
        let pair = authority.server("server", &["localhost"]);
        let keytab = realm.file("http.keytab");
        let lines = format!(
            "keytab = {keytab:?}\nauth = [\"negotiate\"]\n{lines}\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             tls = true\n{}",
            pair.table()
        );
        let server = Server::with(realm.around(Settings::default().file(&lines)));
        Some(Self {
            realm,
            authority,
            pair,
            server,
            lines,
        })
    }

    fn anna(&self) -> Tickets {
        self.realm.log_in("anna", &[])
    }

    fn plain(&self, path: &str) -> Client {
        Client::new(self.server.address(), path)
    }

    fn secure(&self, path: &str) -> Client {
        let trust = self.authority.trusting();
        Client::over(self.server.secure(), path, Some(&trust))
    }

    fn shows(&self, tickets: &Tickets) -> String {
        line(&self.realm.token(tickets, SERVICE, Wish::default()))
    }

    /// What a ticket is bound to that is meant for the certificate of this server.
    fn end_point(&self) -> Vec<u8> {
        let pem = fs::read_to_string(&self.pair.chain).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let digest = Sha256::digest(STANDARD.decode(body).unwrap());
        [b"tls-server-end-point:", &digest[..]].concat()
    }
}

fn line(token: &[u8]) -> String {
    format!("Authorization: Negotiate {}\r\n", STANDARD.encode(token))
}

/// What the server says by Negotiate.
#[track_caller]
fn said(response: &Response) -> Vec<u8> {
    let field = response
        .field("WWW-Authenticate")
        .expect("it says something");
    let token = field.strip_prefix("Negotiate").unwrap().trim();
    STANDARD.decode(token).unwrap()
}

#[track_caller]
fn assert_asked(response: &Response) {
    assert_eq!(response.status, 401, "{response:?}");
    let field = response.field("WWW-Authenticate").unwrap_or_default();
    assert!(field.starts_with("Negotiate"), "{response:?}");
}

#[test]
fn whoever_has_a_ticket_uploads_and_is_known_for_as_long_as_tls_lasts() {
    let Some(house) = House::open("") else {
        return;
    };
    let anna = house.anna();
    let mut client = house.secure("/a.bin");
    assert_asked(&client.ping());
    client.lines = house.shows(&anna);
    let pinged = client.ping();
    pinged.assert(200, None);
    // By this the client knows the server: the token of an AP-REP, or the end of SPNEGO.
    assert!(!said(&pinged).is_empty());
    client.lines.clear();
    client.try_create().assert(200, None);
    client.send_rest(0, 300_000, 70_000);
    client.close().assert(200, None);
    house.server.assert_file("a.bin", 1, 300_000);
    house.server.wait_for_log("user=\"anna\"");
    // Without TLS each request says who sends it: somebody in between may mix connections.
    let mut plain = house.plain("/b.bin");
    plain.lines = house.shows(&anna);
    plain.ping().assert(200, None);
    plain.lines.clear();
    assert_asked(&plain.ping());
    let log = house.server.log();
    assert!(!log.contains("Negotiate Y"), "{log}");
}

#[test]
fn a_machine_is_a_user_and_realms_are_left_out() {
    let Some(realm) = Realm::with_tokens(REALM) else {
        return;
    };
    for principal in ["anna", "Bert", "PC1$"] {
        realm.add(principal);
    }
    realm.keytab("http.keytab", &["HTTP/localhost"]);
    fs::write(realm.file("groups"), "machines: pc1$ PC2$\n").unwrap();
    let groups = realm.file("groups");
    let lines = format!("allow = [\"bert\", \"@machines\"]\ngroups_file = {groups:?}\n");
    let house = House::of(realm, &lines).unwrap();
    for (principal, error) in [
        ("PC1$", None),
        ("Bert", None),
        ("anna", Some(E_ACCESSDENIED)),
    ] {
        let tickets = house.realm.log_in(principal, &[]);
        let mut client = house.secure("/a.bin");
        client.lines = house.shows(&tickets);
        let status = if error.is_some() { 403 } else { 200 };
        let response = client.try_create();
        response.assert(status, error);
        // Also who may not upload knows whom it speaks with.
        assert!(!said(&response).is_empty());
        if error.is_none() {
            client.lines.clear();
            client.cancel().assert(200, None);
            // However it is spelt, it is one user.
            let user = principal.to_lowercase();
            house.server.wait_for_log(&format!("user={user:?}"));
        }
    }
    // Where the realm is not one of ours, the name has it.
    let lines = house
        .lines
        .replace("allow = ", "realms = [\"OTHER.TEST\"]\nallow = ");
    house.server.reload(&lines);
    house.server.wait_for_log("the settings were reloaded");
    let mut client = house.secure("/a.bin");
    client.lines = house.shows(&house.realm.log_in("PC1$", &[]));
    client.try_create().assert(403, Some(E_ACCESSDENIED));
}

#[test]
fn what_is_no_ticket_for_us_is_401_and_the_server_lives() {
    let Some(house) = House::open("") else {
        return;
    };
    let anna = house.anna();
    let token = house.realm.token(&anna, SERVICE, Wish::default());
    let mut client = house.plain("/a.bin");
    client.lines = line(&token);
    client.ping().assert(200, None);
    assert_asked(&client.ping());
    house.server.wait_for_log("replay");
    // Damaged in the middle of the ticket.
    let mut damaged = house.realm.token(&anna, SERVICE, Wish::default());
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    // A service whose key the server does not have.
    house.realm.keytab("other.keytab", &["HTTP/other"]);
    let other = house
        .realm
        .token(&anna, "HTTP/other@BITS.TEST", Wish::default());
    // Another realm, which calls its service alike.
    let foreign = Realm::start("OTHER.TEST").unwrap();
    foreign.add("anna");
    foreign.keytab("http.keytab", &["HTTP/localhost"]);
    let foreign = foreign.token(
        &foreign.log_in("anna", &[]),
        "HTTP/localhost@OTHER.TEST",
        Wish::default(),
    );
    let cut = &token[..token.len() - 1];
    for token in [
        &damaged[..],
        &other,
        &foreign,
        cut,
        b"garbage",
        b"NTLMSSP\0\x01\0\0\0",
    ] {
        client.lines = line(token);
        assert_asked(&client.ping());
    }
    client.lines = "Authorization: NTLM TlRMTVNTUAABAAAA\r\n".to_owned();
    let fallen_back = client.ping();
    assert_asked(&fallen_back);
    assert!(
        fallen_back.reason().contains("no Kerberos ticket"),
        "{fallen_back:?}"
    );
    house.server.wait_for_log("NTLM is not taken");
    client.lines = house.shows(&anna);
    client.ping().assert(200, None);
}

/// An element of DER with a length of one byte.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128);
    [&[tag, length], &content[..]].concat()
}

/// The plug-in for NTLM may read beyond its memory where a client begins with an NTLM token and the
/// server goes on with it (gss-ntlmssp before 1.2: CVE-2023-25563 and its kin).
#[test]
fn with_the_plug_in_for_ntlm_there_its_tokens_do_no_harm() {
    if !Path::new("/etc/gss/mech.d/mech.ntlmssp.conf").exists() {
        return skip("gss-ntlmssp is not installed");
    }
    let Some(house) = House::open("") else {
        return;
    };
    const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
    const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
    const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
    // A NEGOTIATE message, as long as its header says and no longer.
    let negotiate = b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\xff\xff\xff\xff\xff\xff\xff\xff";
    let init = |mechanisms: &[&[u8]], token: Option<&[u8]>| {
        let list: Vec<_> = mechanisms.iter().map(|oid| der(0x06, &[oid])).collect();
        let list = der(0xa0, &[&der(0x30, &[&list.concat()])]);
        let token = token.map_or(Vec::new(), |token| der(0xa2, &[&der(0x04, &[token])]));
        let choice = der(0xa0, &[&der(0x30, &[&list, &token])]);
        der(0x60, &[&der(0x06, &[SPNEGO]), &choice])
    };
    let mut client = house.plain("/a.bin");
    for token in [
        negotiate.to_vec(),
        init(&[NTLM], Some(negotiate)),
        init(&[NTLM, KERBEROS], Some(negotiate)),
        init(&[KERBEROS, NTLM], Some(negotiate)),
        // These offer Kerberos, and are looked at by the library.
        init(&[NTLM, KERBEROS], None),
        init(&[NTLM, KERBEROS], Some(b"anything")),
        der(0x60, &[&der(0x06, &[NTLM]), negotiate]),
        der(
            0xa1,
            &[&der(0x30, &[&der(0xa2, &[&der(0x04, &[negotiate])])])],
        ),
    ] {
        client = house.plain("/a.bin");
        client.lines = line(&token);
        assert_asked(&client.ping());
    }
    client.lines = house.shows(&house.anna());
    client.ping().assert(200, None);
    let maps = fs::read_to_string(format!("/proc/{}/maps", house.server.pid())).unwrap();
    assert!(maps.contains("libgssapi_krb5"), "the library was asked");
}

#[test]
fn a_clock_that_is_ten_minutes_fast_is_401() {
    let Some(house) = House::open("") else {
        return;
    };
    // The service's ticket is fetched while the clock is right.
    let anna = house.anna();
    house.shows(&anna);
    let mut client = house.plain("/a.bin");
    client.lines = house.shows(&anna.shifted(600));
    assert_asked(&client.ping());
    house.server.wait_for_log("Clock skew too great");
    client.lines = house.shows(&anna);
    client.ping().assert(200, None);
}

#[test]
fn an_expired_ticket_is_401() {
    let Some(realm) = Realm::with_tokens(REALM) else {
        return;
    };
    realm.add("anna");
    realm.keytab("http.keytab", &["HTTP/localhost"]);
    // MIT has a patience of five minutes otherwise.
    realm.set_patience(1);
    let house = House::of(realm, "").unwrap();
    let began = Instant::now();
    let lines = house.shows(&house.realm.log_in("anna", &["-l", "6s"]));
    wait_until("the ticket has expired", || {
        began.elapsed() > Duration::from_secs(9)
    });
    let mut client = house.plain("/a.bin");
    client.lines = lines;
    assert_asked(&client.ping());
    house.server.wait_for_log("ticket_refused");
    assert!(
        house.server.log().contains("expired"),
        "{}",
        house.server.log()
    );
}

#[test]
fn a_token_of_48_kib_is_looked_at_and_a_longer_one_is_not() {
    let Some(house) = House::open("") else {
        return;
    };
    let mut client = house.plain("/a.bin");
    for (bytes, is_asked) in [(48_000, true), (48 << 10, true), ((48 << 10) + 3, false)] {
        // Kerberos by its outer shape, and nothing that the library can read.
        let mechanism = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00\x6e";
        let mut token = b"\x60\x84".to_vec();
        token.extend(u32::try_from(bytes - 6).unwrap().to_be_bytes());
        token.extend(mechanism);
        token.resize(bytes, b'x');
        client.lines = line(&token);
        let response = client.ping();
        assert_asked(&response);
        let reason = response.reason();
        assert_eq!(
            reason.contains("ticket was not accepted"),
            is_asked,
            "{reason}"
        );
    }
    client.lines = house.shows(&house.anna());
    client.ping().assert(200, None);
}

#[test]
fn a_ticket_may_be_bound_to_the_certificate_that_the_client_has_seen() {
    for (setting, status) in [
        // Rightly, wrongly, not at all; over TLS and without it.
        ("off", [200, 200, 200, 200]),
        ("check", [200, 401, 200, 200]),
        ("require", [200, 401, 401, 401]),
    ] {
        let Some(house) = House::open(&format!("channel_binding = {setting:?}\n")) else {
            return;
        };
        let (anna, end_point) = (house.anna(), house.end_point());
        let mut wrong = end_point.clone();
        *wrong.last_mut().unwrap() ^= 1;
        let token = |end_point| {
            // Without SPNEGO around it, it is told of in the same words.
            let is_bare = setting == "require";
            let wish = Wish { end_point, is_bare };
            line(&house.realm.token(&anna, SERVICE, wish))
        };
        let secure = [Some(&end_point[..]), Some(&wrong), None];
        for (end_point, expected) in secure.into_iter().zip(status) {
            let mut client = house.secure("/a.bin");
            client.lines = token(end_point);
            let got = client.ping().status;
            assert_eq!(got, expected, "{setting}: {end_point:?}");
        }
        if status[1] == 401 {
            // As docs/kerberos.md has it.
            let told = "why=\"Incorrect channel bindings";
            house.server.wait_for_log(told);
        }
        // Where a proxy has ended TLS, the client has bound it to the certificate of that.
        let mut client = house.plain("/a.bin");
        client.lines = token(Some(&wrong));
        assert_eq!(client.ping().status, status[3], "{setting}: behind a proxy");
    }
}

#[test]
fn whoever_was_known_by_a_ticket_shows_it_anew_where_a_reload_asks_for_more() {
    let Some(house) = House::open("channel_binding = \"check\"\n") else {
        return;
    };
    let anna = house.anna();
    let mut client = house.secure("/a.bin");
    let show = |client: &mut Client| {
        client.lines = house.shows(&anna);
        let status = client.ping().status;
        client.lines.clear();
        status
    };
    assert_eq!(show(&mut client), 200);
    house.server.reload(&house.lines);
    house.server.wait_for_log("the settings were reloaded");
    client.ping().assert(200, None);
    let other_realm = format!("realms = [\"OTHER.TEST\"]\n{}", house.lines);
    house.server.reload(&other_realm);
    wait_until("the realm counts", || client.ping().status == 401);
    assert_eq!(show(&mut client), 200);
    client.ping().assert(200, None);
    house
        .server
        .reload(&other_realm.replace("\"check\"", "\"require\""));
    wait_until("a binding is asked for", || client.ping().status == 401);
    assert_eq!(show(&mut client), 401, "it is bound to nothing");
}

#[test]
fn keys_of_several_names_are_taken_and_new_ones_after_a_reload() {
    let Some(realm) = Realm::with_tokens(REALM) else {
        return;
    };
    realm.add("anna");
    realm.keytab("http.keytab", &["HTTP/localhost", "HTTP/bits.example"]);
    let house = House::of(realm, "").unwrap();
    let ping = |house: &House, service: &str| {
        let tickets = house.anna();
        let mut client = house.plain("/a.bin");
        client.lines = line(&house.realm.token(&tickets, service, Wish::default()));
        client.ping().status
    };
    let other = "HTTP/bits.example@BITS.TEST";
    assert_eq!((ping(&house, SERVICE), ping(&house, other)), (200, 200));
    // New keys of one name, in place of all that were there. Until the reload the old ones hold,
    // and that somebody has a ticket for a newer one is no fault of his.
    fs::remove_file(house.realm.file("http.keytab")).unwrap();
    let query = format!(
        "ktadd -k {} HTTP/localhost",
        house.realm.file("http.keytab").display()
    );
    house.realm.administer(&query);
    assert_eq!((ping(&house, SERVICE), ping(&house, other)), (503, 200));
    house.server.wait_for_log("tickets_unusable");
    house.server.reload(&house.lines);
    house.server.wait_for_log("the settings were reloaded");
    assert_eq!((ping(&house, SERVICE), ping(&house, other)), (200, 401));
    // One that is no keytab changes nothing.
    fs::write(house.realm.file("http.keytab"), "no keytab").unwrap();
    house.server.reload(&house.lines);
    house.server.wait_for_log("it is no keytab");
    assert_eq!(ping(&house, SERVICE), 200);
}

#[test]
fn negotiate_may_take_several_legs_and_kerberos_may_come_bare() {
    let Some(house) = House::open("") else {
        return;
    };
    let anna = house.anna();
    let tokens = house.realm.two_tokens(&anna, SERVICE);
    let mut client = house.plain("/a.bin");
    client.lines = line(&tokens[0]);
    let first = client.ping();
    assert_asked(&first);
    assert!(!said(&first).is_empty(), "it goes on");
    client.lines = line(&tokens[1]);
    let second = client.ping();
    second.assert(200, None);
    assert!(!said(&second).is_empty());
    // On another connection nothing was begun.
    let tokens = house.realm.two_tokens(&anna, SERVICE);
    client.lines = line(&tokens[0]);
    assert_asked(&client.ping());
    let mut other = house.plain("/a.bin");
    other.lines = line(&tokens[1]);
    assert_asked(&other.ping());
    // And each conversation ends with its last token.
    client.lines = line(&tokens[1]);
    client.ping().assert(200, None);
    assert_asked(&client.ping());
    let wish = Wish {
        is_bare: true,
        ..Wish::default()
    };
    client.lines = line(&house.realm.token(&anna, SERVICE, wish));
    client.ping().assert(200, None);
}

#[test]
fn curl_uploads_with_a_ticket() {
    let Some(house) = House::open("") else {
        return;
    };
    let version = Command::new("curl").arg("--version").output();
    if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("GSS-API")) {
        skip("there is no curl with GSS-API");
        return;
    }
    let anna = house.anna();
    let url = format!("https://localhost:{}/a.bin", house.server.secure().port());
    let try_ping = |tickets: &str| {
        let mut curl = house.realm.command("curl");
        let output = curl
            .args(["--silent", "--max-time", "20", "--negotiate", "--user", ":"])
            .args([
                "--request",
                "BITS_POST",
                "--header",
                "BITS-Packet-Type: Ping",
            ])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg("--cacert")
            .arg(house.authority.ca())
            .arg(&url)
            .env("KRB5CCNAME", tickets)
            .output()
            .unwrap();
        // Some versions of libkrb5 crash in it now and then, whatever the server says.
        let has_crashed = output.status.code().is_none();
        (!has_crashed).then(|| String::from_utf8(output.stdout).unwrap())
    };
    let ping = |tickets: &str| (0..10).find_map(|_| try_ping(tickets)).expect("curl ends");
    assert_eq!(ping(&anna.name()), "200");
    assert_eq!(ping("FILE:/nonexistent"), "401");
}

/// Tells of the library by what the loader is told: a folder in which a file of that name is none.
#[test]
fn without_the_library_the_client_hears_503_and_check_says_what_to_install() {
    let Some(realm) = Realm::with_tokens(REALM) else {
        return;
    };
    realm.add("anna");
    let keytab = realm.keytab("http.keytab", &["HTTP/localhost"]);
    fs::create_dir(realm.file("empty")).unwrap();
    fs::write(realm.file("empty/libgssapi_krb5.so.2"), "no library").unwrap();
    let hidden = format!("LD_LIBRARY_PATH={}", realm.file("empty").display());
    let lines = format!("keytab = {keytab:?}\nauth = [\"negotiate\"]\n");
    let settings = Settings::default().file(&lines).wrapper(&["env", &hidden]);
    let server = Server::with(settings);
    server.wait_for_log("libgssapi-krb5-2");
    let token = realm.token(&realm.log_in("anna", &[]), SERVICE, Wish::default());
    let mut client = Client::new(server.address(), "/a.bin");
    client.lines = line(&token);
    let response = client.ping();
    response.assert(503, None);
    assert!(
        !response.reason().contains("libgssapi"),
        "of this machine nothing is told"
    );
    let check = |variable: &str| check(&realm.file("check.toml"), &lines, variable);
    let found = check(&hidden);
    assert!(
        found.contains("warning: no Kerberos ticket can be looked at"),
        "{found}"
    );
    assert!(found.contains("libgssapi-krb5-2"), "{found}");
    let found = check("LC_ALL=C");
    assert!(
        found.contains("ok: Kerberos tickets can be looked at"),
        "{found}"
    );
    let key = "holds key 2 of HTTP/localhost@BITS.TEST";
    assert!(found.contains(key), "{found}");
}

fn check(file: &Path, lines: &str, variable: &str) -> String {
    fs::write(file, lines).unwrap();
    let output = Command::new("env")
        .args([variable, env!("CARGO_BIN_EXE_bitsd"), "check", "--config"])
        .arg(file)
        .args(["--root"])
        .arg(file.with_file_name("root"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_replay_cache_that_cannot_be_written_is_no_fault_of_the_client() {
    let Some(realm) = Realm::with_tokens(REALM) else {
        return;
    };
    realm.add("anna");
    let keytab = realm.keytab("http.keytab", &["HTTP/localhost"]);
    let lines = format!("keytab = {keytab:?}\nauth = [\"negotiate\"]\n");
    let nowhere = format!(
        "KRB5RCACHENAME=file2:{}/nowhere/seen",
        realm.file("").display()
    );
    let server = Server::with(Settings::default().file(&lines).wrapper(&["env", &nowhere]));
    let token = realm.token(&realm.log_in("anna", &[]), SERVICE, Wish::default());
    let mut client = Client::new(server.address(), "/a.bin");
    client.lines = line(&token);
    let response = client.ping();
    server.wait_for_log("ticket");
    assert_eq!(response.status, 503, "{}", server.log());
    server.wait_for_log("tickets_unusable");
}

#[test]
fn who_was_shown_goes_with_the_connection_to_another_shard_but_not_behind_a_proxy() {
    let Some(house) = House::open("log_level = \"debug\"\n") else {
        return;
    };
    let anna = house.anna();
    // Of many connections one is accepted where the session does not live.
    let mut owner = house.secure("/a.bin");
    owner.lines = house.shows(&anna);
    owner.try_create().assert(200, None);
    let session = owner.session().to_owned();
    let mut moved = false;
    for at in 0..60 {
        let mut client = house.secure("/a.bin");
        client.lines = house.shows(&anna);
        client.ping().assert(200, None);
        client.lines.clear();
        client.adopt(&session);
        let offset = at * 10;
        let sent = client.send(fragment(offset..offset + 10).of(1_000));
        sent.assert(200, None);
        moved |= house.server.log().contains("connection_moved");
    }
    assert!(moved, "no connection was handed over");
    // A later field counts, and where it is wrong nobody is known any more.
    let mut client = house.secure("/b.bin");
    client.lines = house.shows(&anna);
    client.ping().assert(200, None);
    client.lines = line(b"garbage");
    assert_asked(&client.ping());
    client.lines.clear();
    assert_asked(&client.ping());
    // A proxy in between mixes the requests of many into its connections.
    for field in [
        "Via: 1.1 proxy",
        "X-Forwarded-For: 10.0.0.1",
        "Forwarded: for=10.0.0.1",
    ] {
        let mut client = house.secure("/b.bin");
        client.lines = format!("{}{field}\r\n", house.shows(&anna));
        client.ping().assert(200, None);
        client.lines.clear();
        assert_asked(&client.ping());
    }
}

/// docs/kerberos.md, from the keytab on: its settings, with other places and ports, and a machine
/// that uploads over https by curl, as the guide tries it.
#[test]
fn the_guide_leads_to_an_upload_as_the_machine() {
    let Some(realm) = Realm::start("EXAMPLE.COM") else {
        return;
    };
    let version = Command::new("curl").arg("--version").output();
    if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("GSS-API")) {
        skip("there is no curl with GSS-API");
        return;
    }
    realm.add("PC1$");
    realm.add("anna");
    realm.add("bert");
    realm.keytab("bitsd.keytab", &["HTTP/upload.example.com"]);
    let authority = Authority::new();
    let pair = authority.server("server", &["upload.example.com"]);
    let guide = include_str!("../docs/kerberos.md");
    let block = |language: &str| {
        let block = guide.split(&format!("```{language}\n")).nth(1).unwrap();
        let lines = block.split("```").next().unwrap().lines();
        lines
            .map(|line| format!("{}\n", line.trim_start()))
            .collect::<String>()
    };
    let groups = block("text");
    assert!(groups.starts_with("machines: PC1$"), "{groups}");
    fs::write(realm.file("groups"), groups).unwrap();
    let settings = block("toml")
        .replace("root = \"/var/lib/bitsd/uploads\"\n", "")
        .replace("[\"0.0.0.0:443\", \"[::]:443\"]", "\"127.0.0.1:0\"")
        .replace("/etc/bitsd/ecdsa.pem", pair.chain.to_str().unwrap())
        .replace("/etc/bitsd/ecdsa.key", pair.key.to_str().unwrap())
        .replace("/etc/bitsd/", &format!("{}/", realm.file("").display()));
    let server = Server::with(realm.around(Settings::default().file(&settings)));
    let port = server.secure().port();
    let request = |tickets: &Tickets, kind: &str, fields: &[&str], body: &str| {
        let mut curl = realm.command("curl");
        curl.args([
            "--negotiate",
            "--user",
            ":",
            "--max-time",
            "20",
            "--silent",
            "--include",
        ])
        .args([
            "-X",
            "BITS_POST",
            "-H",
            &format!("BITS-Packet-Type: {kind}"),
        ])
        .args(["--resolve", &format!("upload.example.com:{port}:127.0.0.1")])
        .args(["--data-binary", body])
        .arg("--cacert")
        .arg(authority.ca())
        .env("KRB5CCNAME", tickets.name());
        for field in fields {
            curl.args(["-H", field]);
        }
        let url = format!("https://upload.example.com:{port}/today.zip");
        String::from_utf8(curl.arg(url).output().unwrap().stdout).unwrap()
    };
    let machine = realm.log_in("PC1$", &[]);
    let protocol = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";
    let created = request(&machine, "Create-Session", &[protocol], "");
    let session = (created.lines())
        .find(|line| line.starts_with("BITS-Session-Id: "))
        .unwrap_or_else(|| panic!("{created}"));
    let range = "Content-Range: bytes 0-4/5";
    let sent = request(&machine, "Fragment", &[session, range], "hello");
    assert!(sent.contains("BITS-Received-Content-Range: 5"), "{sent}");
    let closed = request(&machine, "Close-Session", &[session], "");
    assert!(closed.contains("HTTP/1.1 200 OK"), "{closed}");
    assert_eq!(
        fs::read_to_string(server.file("today.zip")).unwrap(),
        "hello"
    );
    server.wait_for_log("user=\"pc1$\" proof=\"negotiate\"");
    // Who is not in the list of the guide.
    let refused = request(&realm.log_in("bert", &[]), "Ping", &[], "");
    assert!(refused.contains("HTTP/1.1 403 "), "{refused}");
    let let_in = request(&realm.log_in("anna", &[]), "Ping", &[], "");
    assert!(let_in.contains("HTTP/1.1 200 OK"), "{let_in}");
}

#[test]
fn python_uploads_with_a_ticket_and_knows_whom_it_speaks_with() {
    let Some(house) = House::open("") else {
        return;
    };
    let script = "import sys, requests\nfrom requests_kerberos import HTTPKerberosAuth, REQUIRED\n\
                  auth = HTTPKerberosAuth(mutual_authentication=REQUIRED)\n\
                  r = requests.request('BITS_POST', sys.argv[1], auth=auth, verify=sys.argv[2], timeout=20,\n    \
                  headers={'BITS-Packet-Type': 'Ping'})\nprint(r.status_code)\n";
    let found = Command::new(PYTHON)
        .args(["-c", "import requests_kerberos"])
        .output();
    if !found.is_ok_and(|found| found.status.success()) {
        skip("Python has no requests_kerberos (python3-requests-kerberos)");
        return;
    }
    let url = format!("https://localhost:{}/a.bin", house.server.secure().port());
    let output = (house.realm.command(PYTHON))
        .args(["-c", script, &url])
        .arg(house.authority.ca())
        .env("KRB5CCNAME", house.anna().name())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "200");
}
