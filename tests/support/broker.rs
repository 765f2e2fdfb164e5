//! A server of NATS with JetStream, for tests of events. Needs Debian's nats-server.

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::program::free_address;
use super::server::Settings;
use super::{skip, wait_until};

/// Has all that the server under test tells.
const STREAM: &str = "UPLOADS";

/// A server of NATS with JetStream, on a folder of its own.
pub struct Broker {
    pub folder: TempDir,
    pub port: u16,
    flags: Vec<String>,
    child: Child,
    runtime: Runtime,
    /// How the test itself gets in.
    pub door: ConnectOptions,
}

impl Broker {
    /// `None` if there is no such program.
    pub fn start(flags: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = free_address().port();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(&folder, port, &flags);
        let Some(child) = child else {
            skip("there is no nats-server");
            return None;
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Self {
            folder,
            port,
            flags,
            child,
            runtime,
            door: ConnectOptions::new(),
        };
        broker.wait();
        Some(broker)
    }

    fn wait(&self) {
        wait_until("NATS listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.folder, self.port, &self.flags).unwrap();
        self.wait();
    }

    fn context(&self) -> jetstream::Context {
        let url = format!("nats://127.0.0.1:{}", self.port);
        let connecting = self.door.clone().connect(url);
        let client = self.runtime.block_on(connecting).unwrap();
        let _within = self.runtime.enter();
        jetstream::new(client)
    }

    pub fn make_stream(&self) {
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
    pub fn messages(&self) -> Vec<(String, Value)> {
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

    pub fn settings(&self) -> Settings {
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
