//! Events: what targets hear of uploads that ended, however they and the server behave. The target
//! here is a webhook.

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use support::backend::{Act, Backend, Heard};
use support::client::{Client, SESSION_NOT_FOUND, fragment};
use support::content::content;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::wait_until;

/// Settings whose events go there; further lines stand at the top.
fn to(webhook: &Backend, top: &str) -> Settings {
    let url = webhook.url("/events");
    Settings::default().file(&format!(
        "{top}\n[events]\nwebhook = \"{url}\"\nsource = \"test\""
    ))
}

fn event(heard: &Heard) -> Value {
    serde_json::from_slice(&heard.body).unwrap()
}

fn ids(webhook: &Backend) -> Vec<String> {
    let heard = webhook.heard();
    let ids = heard
        .iter()
        .map(|heard| event(heard)["id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// The id of the event of a file that was published by this client.
fn published(client: &Client) -> String {
    let session = client.session().trim_matches(['{', '}']);
    format!("{session}-published")
}

#[track_caller]
fn upload(server: &Server, path: &str, bytes: u64) -> Client {
    let mut client = Client::create(server.address(), path).seed(bytes);
    client.send(fragment(0..bytes).of(bytes));
    client.close().assert(200, None);
    client
}

#[track_caller]
fn wait_for(webhook: &Backend, expected: &BTreeSet<String>) {
    wait_until("all events are heard", || {
        let heard: BTreeSet<String> = ids(webhook).into_iter().collect();
        expected.is_subset(&heard)
    });
}

/// A webhook that says 500 until it is told to take what comes.
fn closed() -> (Backend, Arc<AtomicBool>) {
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    let act = move |_: &Heard, _| match opened.load(Ordering::SeqCst) {
        true => Act::status(204),
        false => Act::status(500),
    };
    (Backend::start(act), is_open)
}

#[test]
fn a_file_is_told_with_its_story() {
    let webhook = Backend::always(Act::status(202));
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "sixteen bytes or more\n").unwrap();
    let settings = to(&webhook, "digest = [\"sha-256\", \"sha-1\"]")
        .file(&format!("webhook_secret_file = {secret:?}"));
    let server = Server::with(settings);
    let mut client = Client::create(server.address(), "/a%20b.bin").seed(3);
    client.send(fragment(0..1000).of(3000));
    client.send(fragment(500..3000).of(3000));
    client.close();
    webhook.wait_for(1);
    let heard = &webhook.heard()[0];
    assert_eq!(heard.line, "POST /events HTTP/1.1");
    assert_eq!(
        heard.field("Content-Type"),
        Some("application/cloudevents+json; charset=utf-8")
    );
    let timestamp = heard.field("Bitsd-Event-Timestamp").unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"sixteen bytes or more").unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b"\n");
    mac.update(&heard.body);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let signature = format!("sha256={}", hex(&mac.finalize().into_bytes()));
    assert_eq!(heard.field("Bitsd-Event-Signature"), Some(&*signature));
    let event = event(heard);
    assert_eq!(event["id"], published(&client));
    assert_eq!(event["type"], "io.bitsd.upload.completed.v1");
    assert_eq!(
        (&event["source"], &event["subject"]),
        (&"test".into(), &"a b.bin".into())
    );
    let data = &event["data"];
    assert_eq!(
        (&data["size"], &data["fragments"]),
        (&3000.into(), &2.into())
    );
    assert_eq!(data["resumes"], 1, "it went back to byte 500");
    assert_eq!(data["sha256"], hex(&Sha256::digest(content(3, 0, 3000))));
    assert_eq!(
        (&data["client"], &data["location"]),
        (&"127.0.0.1".into(), &"/".into())
    );
    let time = |name: &str| data[name].as_str().unwrap().to_owned();
    assert!(time("created") <= time("first_byte") && time("first_byte") <= time("last_byte"));
    assert!(*time("last_byte") <= *event["time"].as_str().unwrap());
}

/// Goal: an event says where the file is, beside the path of its URL, by the settings under which
/// it got its name. Method: nobody hears of it before its path leads to another root.
#[test]
fn a_file_is_told_by_the_settings_that_it_was_named_under() {
    let (webhook, is_open) = closed();
    let folder = tempfile::tempdir().unwrap();
    let settings = to(&webhook, "create_dirs = true");
    let server = Server::with(settings.clone());
    let first = upload(&server, "/in/a.bin", 1000);
    let mut second = Client::create(server.address(), "/in/b.bin");
    second.cancel().assert(200, None);
    let other = folder.path();
    let location = format!("[[location]]\nprefix = \"/in\"\nroot = {other:?}");
    server.reload(&settings.file(&location).file);
    server.wait_for_log("event=reloaded");
    let third = upload(&server, "/in/c.bin", 1000);
    is_open.store(true, Ordering::SeqCst);
    let cancelled = second.session().trim_matches(['{', '}']);
    let cancelled = format!("{cancelled}-cancelled");
    let ids = [published(&first), cancelled, published(&third)];
    wait_for(&webhook, &ids.clone().into());
    let heard: Vec<Value> = webhook.heard().iter().map(event).collect();
    let told = |id: &String| {
        let event = heard.iter().find(|event| event["id"] == **id).unwrap();
        assert_eq!(event["subject"], event["data"]["path"]);
        let field = |name: &str| event["data"][name].as_str().map(str::to_owned);
        [field("location"), field("path"), field("file_path")]
    };
    let expected = [
        ["/", "in/a.bin", "in/a.bin"].map(Some),
        [Some("/"), Some("in/b.bin"), None],
        ["/in", "in/c.bin", "c.bin"].map(Some),
    ];
    for (id, expected) in ids.iter().zip(expected) {
        assert_eq!(told(id), expected.map(|word| word.map(str::to_owned)));
    }
}

/// As its line in the custody ledger has it.
#[test]
fn a_whole_file_that_was_refused_is_told_with_its_digest() {
    let webhook = Backend::always(Act::status(200));
    let application = Backend::always(Act::status(403));
    let url = application.url("/");
    let settings = to(
        &webhook,
        &format!(
            "digest = \"sha-256\"\nnotification_type = \"by-reference\"\nnotification_url = \"{url}\""
        ),
    );
    let server = Server::with(settings);
    let mut whole = Client::create(server.address(), "/whole.bin");
    assert_eq!(whole.send(fragment(0..3000)).status, 403);
    assert_eq!(whole.close().status, 403);
    let mut half = Client::create(server.address(), "/half.bin");
    half.send(fragment(0..1000).of(3000)).assert(200, None);
    half.cancel();
    webhook.wait_for(2);
    let mut told: Vec<Value> = webhook.heard().iter().map(event).collect();
    told.sort_by_key(|event| event["subject"].as_str().unwrap().to_owned());
    let [half, whole] = [&told[0]["data"], &told[1]["data"]];
    assert_eq!(
        (&half["ending"], &half["sha256"]),
        (&"cancelled".into(), &Value::Null)
    );
    let sha256: String = (Sha256::digest(content(1, 0, 3000)).iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (&whole["ending"], &whole["sha256"]),
        (&"denied".into(), &sha256.into())
    );
}

#[test]
fn who_sent_it_is_told_where_somebody_was_asked() {
    let webhook = Backend::always(Act::status(200));
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    let digest: String = (Sha256::digest(b"great-token").iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    std::fs::write(&tokens, format!("anna:{digest}\n")).unwrap();
    let top = format!("tokens_file = {tokens:?}\nauth = [\"bearer\"]");
    let server = Server::with(to(&webhook, &top));
    let mut raw = server.connect();
    raw.send(
        "BITS_POST /a.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Create-Session\r\n\
         Authorization: Bearer great-token\r\nUser-Agent: Microsoft BITS/7.8\r\n\
         BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nContent-Length: 0\r\n\r\n",
    );
    let created = raw.receive();
    let session = created
        .field("BITS-Session-Id")
        .expect("a session")
        .to_owned();
    raw.send(format!(
        "BITS_POST /a.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Cancel-Session\r\n\
         Authorization: Bearer great-token\r\nBITS-Session-Id: {session}\r\nContent-Length: 0\r\n\r\n"
    ));
    raw.receive().assert(200, None);
    webhook.wait_for(1);
    let event = event(&webhook.heard()[0]);
    assert_eq!(event["type"], "io.bitsd.upload.failed.v1");
    let data = &event["data"];
    assert_eq!(
        (&data["ending"], &data["size"]),
        (&"cancelled".into(), &0.into())
    );
    assert_eq!(
        (&data["user"], &data["proof"]),
        (&"anna".into(), &"bearer".into())
    );
    assert_eq!(data["agent"], "Microsoft BITS/7.8");
    assert_eq!(data.get("first_byte"), None);
}

#[test]
fn an_event_is_told_until_it_is_taken_and_always_the_same() {
    let elsewhere = Backend::always(Act::status(200));
    let location = format!("Location: {}\r\n", elsewhere.url("/"));
    let acts = [
        Act::status(500),
        Act::CloseAtOnce,
        Act::Answer(302, location, Vec::new()),
        Act::Hang,
        Act::Answer(200, String::new(), vec![b'x'; 4 << 20]),
    ];
    let count = acts.len();
    let webhook = Backend::start(move |_, number| acts[number.min(count - 1)].clone());
    let settings = to(&webhook, "").file("timeout = \"3s\"");
    let server = Server::with(settings);
    let client = upload(&server, "/a.bin", 100);
    webhook.wait_for(count);
    server.wait_for_log("event=events_taken_again");
    let heard = webhook.heard();
    assert!(heard.iter().all(|again| again.body == heard[0].body));
    assert_eq!(ids(&webhook), vec![published(&client); count]);
    assert_eq!(elsewhere.heard().len(), 0, "redirects are not followed");
    // What was told is told no more.
    let next = upload(&server, "/b.bin", 100);
    webhook.wait_for(count + 1);
    assert_eq!(ids(&webhook)[count..], [published(&next)]);
    // The first failure, the second, and the fourth.
    server.wait_for_log("failures=1 why=\"it answers 500\"");
    server.wait_for_log("failures=4 why=\"no answer in time\"");
}

#[test]
fn what_is_owed_outlives_a_kill_and_another_number_of_shards() {
    let (webhook, is_open) = closed();
    let mut server = Server::with(to(&webhook, ""));
    let expected: BTreeSet<String> = (0..20)
        .map(|number| published(&upload(&server, &format!("/{number}.bin"), 100 + number)))
        .collect();
    webhook.wait_for(2);
    server.kill9();
    let settings = server.settings().flags(&["--cores", "3"]);
    server.restart_with(settings);
    // Whoever published files moves them on, and their folder with them.
    for number in 0..10 {
        std::fs::remove_file(server.file(&format!("{number}.bin"))).unwrap();
    }
    server.kill9();
    server.restart();
    is_open.store(true, Ordering::SeqCst);
    wait_for(&webhook, &expected);
    // None of them is told again by the next start, whichever way the server ends.
    wait_until("nothing is pending", || {
        let before = webhook.heard().len();
        let next = upload(&server, &format!("/next-{before}.bin"), 10);
        wait_for(&webhook, &BTreeSet::from([published(&next)]));
        webhook.heard().len() == before + 1
    });
    for is_killed in [true, false] {
        match is_killed {
            true => server.kill9(),
            false => server.stop(),
        }
        server.restart();
        let before = webhook.heard().len();
        let last = upload(&server, &format!("/last-{is_killed}.bin"), 10);
        wait_for(&webhook, &BTreeSet::from([published(&last)]));
        let new: BTreeSet<String> = ids(&webhook)[before..].iter().cloned().collect();
        assert!(new.is_disjoint(&expected), "told again: {new:?}");
    }
}

#[test]
fn an_end_without_a_server_is_told_by_the_next_one() {
    let (webhook, is_open) = closed();
    let mut server = Server::with(to(&webhook, ""));
    let delivered = published(&upload(&server, "/delivered.bin", 10));
    let mut half = Client::create(server.address(), "/half.bin");
    half.send(fragment(0..10).of(30)).assert(200, None);
    server.kill9();
    let root = server.root().to_owned();
    let file = root.with_extension("toml");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("root = {root:?}\n{lines}")).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["sessions", "expire", "--path", "half*", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    is_open.store(true, Ordering::SeqCst);
    server.restart();
    let id = half.session().trim_matches(['{', '}']);
    let expired = format!("{id}-expired");
    wait_for(&webhook, &BTreeSet::from([delivered, expired.clone()]));
    let heard = webhook.heard();
    let told = heard.iter().map(event).find(|event| event["id"] == expired);
    assert_eq!(told.unwrap()["type"], "io.bitsd.upload.failed.v1");
    half.reconnect_to(server.address())
        .send(fragment(10..30).of(30))
        .assert(500, Some(SESSION_NOT_FOUND));
}

#[test]
fn a_file_with_a_name_is_told_before_its_client_closes() {
    let webhook = Backend::always(Act::status(200));
    let mut server = Server::with(to(&webhook, "publish = \"last-fragment\""));
    let mut client = Client::create(server.address(), "/a.bin").seed(1);
    client.send(fragment(0..10).of(10));
    webhook.wait_for(1);
    client.close().assert(200, None);
    let next = upload(&server, "/b.bin", 10);
    webhook.wait_for(2);
    assert_eq!(ids(&webhook), [published(&client), published(&next)]);
    server.stop();
}

#[test]
fn a_location_may_keep_to_itself_what_it_gets() {
    let webhook = Backend::always(Act::status(200));
    let lines = "[[location]]\nprefix = \"quiet\"\nsend_events = false\ncreate_dirs = true";
    let server = Server::with(to(&webhook, "").file(lines));
    upload(&server, "/quiet/a.bin", 10);
    let told = upload(&server, "/b.bin", 10);
    webhook.wait_for(1);
    assert_eq!(ids(&webhook), [published(&told)]);
}

#[test]
fn who_owes_too_much_lets_nobody_in_who_would_owe_more() {
    let (webhook, is_open) = closed();
    let lines = "[[location]]\nprefix = \"quiet\"\nsend_events = false\ncreate_dirs = true\n\
                 [limits]\nevents_owed_per_shard_max = 1";
    let settings = to(&webhook, "").file(lines).flags(&["--cores", "1"]);
    let server = Server::with(settings);
    upload(&server, "/a.bin", 10);
    let mut next = Client::new(server.address(), "/b.bin");
    assert_eq!(next.try_create().status, 503);
    upload(&server, "/quiet/a.bin", 10);
    is_open.store(true, Ordering::SeqCst);
    wait_until("others are let in again", || {
        Client::new(server.address(), "/b.bin").try_create().status == 200
    });
}

#[test]
fn one_client_that_owes_too_much_is_in_nobody_elses_way() {
    let (webhook, is_open) = closed();
    let settings = to(&webhook, "").file("[limits]\nevents_owed_per_shard_max = 16");
    let server = Server::with(settings.flags(&["--cores", "1"]));
    let create = |source: &str| {
        let mut client = Client::new(server.address(), "/a.bin");
        client.raw = Raw::connect_from(source.parse().unwrap(), server.address());
        let status = client.try_create().status;
        (client, status)
    };
    for number in 0..16 {
        let (client, status) = create("127.0.0.2");
        assert_eq!(status, if number < 8 { 200 } else { 503 }, "{number}");
        if status == 200 {
            let mut client = client;
            client.cancel().assert(200, None);
        }
    }
    assert_eq!(create("127.0.0.3").1, 200);
    is_open.store(true, Ordering::SeqCst);
    wait_until("it is let in again", || create("127.0.0.2").1 == 200);
}

#[test]
fn one_webhook_that_hangs_holds_no_upload_up() {
    let webhook = Backend::always(Act::Hang);
    let server = Server::with(to(&webhook, "").file("in_flight_max = 2\ntimeout = \"10m\""));
    for number in 0..50 {
        upload(&server, &format!("/{number}.bin"), 10);
    }
    webhook.wait_for(2);
    let peak = webhook.heard().len();
    assert!(peak <= 2, "{peak} at once");
}

#[test]
fn events_are_counted_and_a_target_that_is_stuck_is_named() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let webhook = Backend::start(move |_, number| {
        counted.fetch_add(1, Ordering::SeqCst);
        Act::status(if number < 1 { 500 } else { 200 })
    });
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin");
    let top = format!("admin_socket = {socket:?}");
    let server = Server::with(to(&webhook, &top));
    upload(&server, "/a.bin", 10);
    let metrics = || {
        use std::io::Read as _;
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    wait_until("it is counted", || {
        let page = metrics();
        let has = |line: &str| page.lines().any(|known| known == line);
        has("bitsd_events_sent_total{target=\"webhook\"} 1")
            && has("bitsd_event_failures_total{target=\"webhook\"} 1")
            && has("bitsd_events_pending{target=\"webhook\"} 0")
            && has("bitsd_oldest_event_age_seconds{target=\"webhook\"} 0")
    });
    assert_eq!(taken.load(Ordering::SeqCst), 2);
}

#[test]
fn settings_that_cannot_mean_anything_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for (lines, words) in [
        (
            "[events]\nwebhook_ca = \"/x\"",
            "does nothing without webhook",
        ),
        ("[events]\nwebhook = \"ftp://x\"", "http or https"),
        (
            "[events]\nwebhook = \"http://x/\"\nwebhook_ca = \"/none\"",
            "cannot read /none",
        ),
        ("[events]\nnats_ca = \"/x\"", "does nothing without nats"),
        #[cfg(not(feature = "nats"))]
        ("[events]\nnats = \"nats://x\"", "built with NATS"),
    ] {
        let (status, said) = Server::refused(&root, &Settings::default().file(lines));
        assert!(!status.success() && said.contains(words), "{lines}: {said}");
    }
}

/// By Debian's python3-jsonschema.
#[test]
fn events_are_what_their_schema_says() {
    let has_validator = Command::new("/usr/bin/python3")
        .args(["-c", "import jsonschema"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_validator {
        return support::skip("there is no python3-jsonschema");
    }
    let webhook = Backend::always(Act::status(200));
    let server = Server::with(to(&webhook, "digest = [\"sha-256\", \"sha-1\"]"));
    upload(&server, "/a.bin", 1000);
    Client::create(server.address(), "/b.bin").cancel();
    webhook.wait_for(2);
    let schema = std::fs::read_to_string("docs/event.schema.json").unwrap();
    let mut events: Vec<Value> = webhook.heard().iter().map(event).collect();
    let validate = |event: &Value| {
        let script = "import json, sys, jsonschema\n\
                      both = json.load(sys.stdin)\n\
                      jsonschema.validate(both[1], both[0])";
        let mut python = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let both = format!("[{schema},{event}]");
        python
            .stdin
            .take()
            .unwrap()
            .write_all(both.as_bytes())
            .unwrap();
        python.wait().unwrap().success()
    };
    assert!(events.iter().all(validate), "{events:?}");
    // It is one that can be broken.
    events[0]["data"]["size"] = (-1).into();
    events[1]["extra"] = 1.into();
    assert!(!events.iter().any(validate));
}
