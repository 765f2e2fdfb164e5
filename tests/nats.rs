//! Events told to NATS: each is in the stream once, whatever happens to the server of NATS and to
//! ours. Needs the feature `nats` and Debian's nats-server.

#![cfg(feature = "nats")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use support::broker::Broker;
use support::client::{Client, fragment};
use support::server::{Server, Settings};
use support::tls::Authority;
use support::wait_until;

#[track_caller]
fn upload(server: &Server, path: &str) -> String {
    let mut client = Client::create(server.address(), path).seed(1);
    client.send(fragment(0..100).of(100));
    client.close().assert(200, None);
    let session = client.session().trim_matches(['{', '}']).to_owned();
    format!("{session}-published")
}

#[track_caller]
fn wait_for(broker: &Broker, expected: &BTreeSet<String>) {
    wait_until("all events are in the stream", || {
        let messages = broker.messages();
        let ids: BTreeSet<_> = messages.into_iter().map(|(id, _)| id).collect();
        expected.is_subset(&ids)
    });
}

/// Goal: what is published is in the stream, once, although NATS is killed, has no stream yet, and
/// this server is killed. Method: files come all the while.
#[test]
fn each_file_is_in_the_stream_once_whoever_is_killed() {
    let Some(mut broker) = Broker::start(&[]) else {
        return;
    };
    let mut server = Server::with(broker.settings());
    // Nobody takes its subject yet.
    let mut expected = BTreeSet::from([upload(&server, "/early.bin")]);
    server.wait_for_log("event=event_not_taken");
    broker.make_stream();
    for number in 0..10 {
        expected.insert(upload(&server, &format!("/a{number}.bin")));
    }
    broker.kill();
    for number in 0..10 {
        expected.insert(upload(&server, &format!("/b{number}.bin")));
    }
    server.kill9();
    server.restart();
    for number in 0..10 {
        expected.insert(upload(&server, &format!("/c{number}.bin")));
    }
    broker.restart();
    server.kill9();
    server.restart();
    wait_for(&broker, &expected);
    let messages = broker.messages();
    for (id, event) in &messages {
        assert_eq!(event["id"], **id);
        assert_eq!(event["specversion"], "1.0");
    }
    let ids: BTreeSet<_> = messages.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, expected, "none that there is not");
    assert_eq!(messages.len(), ids.len(), "told again, it is one message");
}

#[test]
fn why_there_is_no_connection_is_told() {
    let Some(mut broker) = Broker::start(&[]) else {
        return;
    };
    broker.kill();
    let server = Server::with(broker.settings());
    upload(&server, "/a.bin");
    server.wait_for_log(
        "why=\"there is no connection: NATS cannot be reached: nobody takes a connection",
    );
}

#[test]
fn a_user_who_may_not_send_there_hears_so() {
    let folder = tempfile::tempdir().unwrap();
    let rights = folder.path().join("rights.conf");
    std::fs::write(
        &rights,
        "authorization { users = [ { user: bitsd, password: for-tests, \
         permissions: { publish: { deny: \"bitsd.>\" } } } ] }",
    )
    .unwrap();
    let Some(broker) = Broker::start(&["-c", rights.to_str().unwrap()]) else {
        return;
    };
    let file = folder.path().join("shown");
    std::fs::write(&file, "bitsd:for-tests\n").unwrap();
    let settings = (broker.settings()).file(&format!("nats_credentials_file = {file:?}"));
    let server = Server::with(settings);
    upload(&server, "/a.bin");
    server.wait_for_log("Permissions Violation for Publish to");
}

#[test]
fn what_the_server_of_nats_wants_to_see_is_shown() {
    for (flags, shown) in [
        (
            ["--user", "bitsd", "--pass", "for-tests"],
            "bitsd:for-tests\n",
        ),
        (
            ["--auth", "a-token-for-tests", "-l", "/dev/null"],
            "a-token-for-tests\n",
        ),
    ] {
        let Some(broker) = Broker::start(&flags) else {
            return;
        };
        let file = broker.folder.path().join("shown");
        std::fs::write(&file, shown).unwrap();
        let wrong = Server::with(broker.settings());
        // Before any event is owed, and in no words of a library.
        wrong.wait_for_log("event=nats_refused");
        wrong.wait_for_log("give events.nats_credentials_file");
        assert!(!wrong.log().contains("event=other"), "{}", wrong.log());
        upload(&wrong, "/a.bin");
        wrong.wait_for_log("authorization violation): look at events.nats_credentials_file");
        let settings = broker
            .settings()
            .file(&format!("nats_credentials_file = {file:?}"));
        let server = Server::with(settings);
        upload(&server, "/a.bin");
        // It is let in, and there is no stream.
        server.wait_for_log("why=\"no stream found for given subject\"");
        assert!(!server.log().contains("for-tests"), "{}", server.log());
    }
}

/// What a server of NATS whose users have keys is started with, and what one of them shows.
struct Keys {
    /// Its settings.
    server: String,
    /// The file of a user who may do everything.
    credentials: String,
    /// That of a user whom another operator lets in.
    foreign: String,
}

impl Keys {
    /// An operator, the account of the system, which JetStream wants, and another one with a user.
    fn new() -> Self {
        let operator = KeyPair::new_operator();
        let (system, account) = (KeyPair::new_account(), KeyPair::new_account());
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1,
            "consumer": -1,
        });
        // The account of the system has no streams of its own.
        let of_system = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1,
        });
        let of_account = |key: &KeyPair, limits: &Value| {
            let claims = json!({ "type": "account", "version": 2, "limits": limits });
            token(&operator, key, &claims)
        };
        let of_operator = json!({ "type": "operator", "version": 2 });
        let server = format!(
            "operator: {}\nsystem_account: {}\nresolver: MEMORY\n\
             resolver_preload: {{\n{}: {}\n{}: {}\n}}\n",
            token(&operator, &operator, &of_operator),
            system.public_key(),
            system.public_key(),
            of_account(&system, &of_system),
            account.public_key(),
            of_account(&account, &limits),
        );
        Self {
            server,
            credentials: credentials(&account),
            foreign: credentials(&KeyPair::new_account()),
        }
    }
}

/// The `.creds` file of a new user of an account.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let claims = json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
    });
    format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(account, &user, &claims),
        user.seed().unwrap()
    )
}

/// What `issuer` says of a key (docs.nats.io, "JWT"; its signature is Ed25519).
fn token(issuer: &KeyPair, of: &KeyPair, claims: &Value) -> String {
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({
        "jti": of.public_key(), "iat": 1_767_225_600, "iss": issuer.public_key(),
        "name": "of a test", "sub": of.public_key(), "nats": claims,
    });
    let coded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", coded(&head), coded(&body));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A file that its owner alone may read.
fn secret(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Starts a server of NATS that speaks TLS alone, and lets in who shows what it wants.
fn secure_broker(authority: &Authority, flags: &[&str], door: ConnectOptions) -> Option<Broker> {
    let own = authority.server("nats", &["127.0.0.1"]);
    let (chain, key) = (own.chain.to_str().unwrap(), own.key.to_str().unwrap());
    let tls = ["--tls", "--tlscert", chain, "--tlskey", key];
    let mut broker = Broker::start(&[&tls[..], flags].concat())?;
    broker.door = door.require_tls(true).add_root_certificates(authority.ca());
    broker.make_stream();
    Some(broker)
}

/// Settings that name a server of NATS by TLS.
fn secure_settings(broker: &Broker, ca: &Path, shown: &Path) -> Settings {
    Settings::default().file(&format!(
        "[events]\nnats = \"tls://127.0.0.1:{}\"\ntimeout = \"2s\"\nnats_ca = {ca:?}\n\
         nats_credentials_file = {shown:?}",
        broker.port
    ))
}

#[track_caller]
fn assert_hides_secrets(server: &Server) {
    let log = server.log();
    for hidden in ["for-tests", "not-this-one", "SEED", "eyJ"] {
        assert!(!log.contains(hidden), "{log}");
    }
}

/// Goal: events get there by TLS, with a password and with a file of credentials, also after the
/// server of NATS was killed; with anything else shown, and to a server of another authority, they
/// do not, and are owed until that is mended.
#[test]
fn events_go_by_tls_to_who_is_known_and_with_what_is_wanted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let keys = Keys::new();
    let config = secret(authority.file("nats.conf"), &keys.server);
    let of_keys = ConnectOptions::new().credentials(&keys.credentials);
    let of_password =
        ConnectOptions::new().user_and_password("bitsd".to_owned(), "for-tests".to_owned());
    for (flags, door, right, wrong) in [
        (
            ["--user", "bitsd", "--pass", "for-tests"].as_slice(),
            of_password,
            "bitsd:for-tests\n",
            "bitsd:not-this-one\n",
        ),
        (
            ["-c", config.to_str().unwrap()].as_slice(),
            of_keys.unwrap(),
            keys.credentials.as_str(),
            keys.foreign.as_str(),
        ),
    ] {
        let Some(mut broker) = secure_broker(&authority, flags, door) else {
            return;
        };
        let right = secret(authority.file("right"), right);
        let wrong = secret(authority.file("wrong"), wrong);
        let mut expected = BTreeSet::new();
        for (ca, shown) in [(authority.ca(), &wrong), (stranger.ca(), &right)] {
            let mut server = Server::with(secure_settings(&broker, &ca, shown));
            let owed = upload(&server, "/owed.bin");
            // By the second time the server of NATS has had its chance.
            server.wait_for_log("failures=2 ");
            server.stop();
            assert_hides_secrets(&server);
            assert!(broker.messages().iter().all(|(id, _)| *id != owed));
            expected.insert(owed);
            server.restart_with(secure_settings(&broker, &authority.ca(), &right));
            wait_for(&broker, &expected);
            broker.restart();
            expected.insert(upload(&server, "/later.bin"));
            wait_for(&broker, &expected);
            assert_hides_secrets(&server);
        }
        assert_eq!(
            broker.messages().len(),
            expected.len(),
            "each is there once"
        );
    }
}
