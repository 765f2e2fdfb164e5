//! Events told to NATS: each is in the stream once, whatever happens to the server of NATS and to
//! ours. Needs the feature `nats` and Debian's nats-server.

#![cfg(feature = "nats")]

mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use async_nats::jetstream::{self, stream};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use support::client::{Client, fragment};
use support::server::{Server, Settings};
use support::wait_until;

const STREAM: &str = "UPLOADS";

/// A server of NATS with JetStream, on a folder of its own.
struct Broker {
    folder: TempDir,
    port: u16,
    flags: Vec<String>,
    child: Child,
    runtime: Runtime,
}

impl Broker {
    /// `None` if there is no such program.
    fn start(flags: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(&folder, port, &flags);
        let Some(child) = child else {
            support::skip("there is no nats-server");
            return None;
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Self {
            folder,
            port,
            flags,
            child,
            runtime,
        };
        broker.wait();
        Some(broker)
    }

    fn wait(&self) {
        wait_until("NATS listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.flags).unwrap();
        self.wait();
    }

    fn context(&self) -> jetstream::Context {
        let options = async_nats::ConnectOptions::new()
            .user_and_password("admin".to_owned(), "for-tests".to_owned());
        let url = format!("nats://127.0.0.1:{}", self.port);
        let client = self.runtime.block_on(options.connect(url)).unwrap();
        let _within = self.runtime.enter();
        jetstream::new(client)
    }

    fn make_stream(&self) {
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["bitsd.>".to_owned()],
            ..Default::default()
        };
        let context = self.context();
        self.runtime.block_on(async move {
            context.create_stream(config).await.unwrap();
        });
    }

    /// All that stands in the stream: the header by which duplicates are told, and the event.
    fn messages(&self) -> Vec<(String, Value)> {
        let context = self.context();
        self.runtime.block_on(async move {
            let mut stream = context.get_stream(STREAM).await.unwrap();
            let state = stream.info().await.unwrap().state.clone();
            let mut messages = Vec::new();
            for number in state.first_sequence.max(1)..=state.last_sequence {
                let message = stream.get_raw_message(number).await.unwrap();
                let id = message.headers.get("Nats-Msg-Id").unwrap().to_string();
                messages.push((id, serde_json::from_slice(&message.payload).unwrap()));
            }
            messages
        })
    }

    fn settings(&self) -> Settings {
        let url = format!("nats://127.0.0.1:{}", self.port);
        Settings::default().file(&format!("[events]\nnats = \"{url}\"\ntimeout = \"2s\""))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &TempDir, port: u16, flags: &[String]) -> Option<Child> {
    let mut command = Command::new("nats-server");
    // Where Debian has it.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    (command
        .env("PATH", path)
        .args(["-js", "-a", "127.0.0.1", "-p"]))
    .arg(port.to_string())
    .arg("-sd")
    .arg(folder.path())
    .args(flags)
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .ok()
}

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
        upload(&wrong, "/a.bin");
        wrong.wait_for_log("why=\"there is no connection\"");
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
