//! Targets of events, and the server that tells them, fail by turns.
//!
//! Goal: of every file that was closed, the webhook and NATS hear, at least once, under one id and
//! with its digest, and of no other; and the custody ledger has a line of it. Method: the careful
//! clients of `uploader.rs` upload, while the server is killed, the server of NATS is killed and
//! stays away, and the webhook refuses, is slow, hangs up and answers by halves. At the end all are
//! well, and what was told is held against what the clients know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bitsd::http::digest::Hex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::battle::{Ground, Setup, Terms, Whole, fight};
use super::scenarios::{Outcome, any_cores, passed};
use super::support::backend::{Act, Backend, Heard};
#[cfg(feature = "nats")]
use super::support::broker::Broker;
use super::support::ledger::lines;
use super::support::random::Rng;
use super::support::server::{Server, Settings};

/// What is owed at the end is told within this.
const LAST_EVENTS: Duration = Duration::from_secs(180);

/// How the webhook is.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    Refuses,
    HangsUp,
    AnswersHalf,
    /// Longer than it is waited for.
    Silent,
}

/// What a target has taken: the id of each upload that was told as whole, and what was said of it.
#[derive(Default)]
struct Taken(BTreeMap<String, (String, u64, String)>);

impl Taken {
    fn take(&mut self, event: &Value) {
        if event["type"] != "io.bitsd.upload.completed.v1" {
            return;
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, path) = (text(&event["id"]), text(&event["subject"]));
        let data = &event["data"];
        let said = (id, data["size"].as_u64().unwrap(), text(&data["sha256"]));
        if let Some(before) = self.0.insert(path.clone(), said.clone()) {
            assert_eq!(before, said, "{path} is told as two");
        }
    }

    fn has_all(&self, ground: &Ground) -> bool {
        let closed = ground.closed.lock().unwrap();
        closed.iter().all(|whole| self.0.contains_key(&whole.path))
    }

    /// It has each file, as it is, and no other.
    fn assert_right(&self, ground: &Ground, who: &str) {
        let closed = ground.closed.lock().unwrap();
        for whole in closed.iter() {
            let (_, size, sha256) = (self.0.get(&whole.path))
                .unwrap_or_else(|| panic!("{who} has not heard of {}", whole.path));
            assert_eq!(*size, whole.total as u64, "{who}: {}", whole.path);
            assert_eq!(*sha256, digest(ground, whole), "{who}: {}", whole.path);
        }
        let all: BTreeSet<&str> = closed.iter().map(|whole| whole.path.as_str()).collect();
        for path in self.0.keys() {
            assert!(all.contains(path.as_str()), "{who} has heard of {path}");
        }
    }
}

fn digest(ground: &Ground, whole: &Whole) -> String {
    let bytes = &ground.pool[whole.start..whole.start + whole.total];
    Hex(&Sha256::digest(bytes)).to_string()
}

/// A webhook with moods, and what it has taken.
fn webhook() -> (Backend, Arc<Mutex<Mood>>, Arc<Mutex<Taken>>) {
    let (mood, taken) = (Arc::new(Mutex::new(Mood::Well)), Arc::default());
    let (now, takes): (_, Arc<Mutex<Taken>>) = (Arc::clone(&mood), Arc::clone(&taken));
    let act = move |heard: &Heard, _| {
        let mood = *now.lock().unwrap();
        // Whoever has heard 200 has been told that it is taken, whatever follows.
        if matches!(mood, Mood::Well | Mood::AnswersHalf) {
            let event = serde_json::from_slice(&heard.body).unwrap();
            takes.lock().unwrap().take(&event);
        }
        match mood {
            Mood::Well => Act::status(204),
            Mood::Refuses => Act::status(500),
            Mood::HangsUp => Act::CloseAtOnce,
            Mood::AnswersHalf => Act::CloseInBody(b"half".to_vec()),
            Mood::Silent => Act::Hang,
        }
    };
    (Backend::start(act), mood, taken)
}

/// Polls until a condition holds, or what is owed should long have been told.
fn wait_until_told(mut is_told: impl FnMut() -> bool) {
    let deadline = Instant::now() + LAST_EVENTS;
    while !is_told() && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(500));
    }
}

/// See the head of this file.
pub fn told(setup: &Setup) -> Outcome {
    #[cfg(feature = "nats")]
    let mut broker = match Broker::start(&[]) {
        Some(broker) => broker,
        None => return Outcome::Skipped("there is no nats-server".to_owned()),
    };
    let (webhook, mood, taken) = webhook();
    let custody = tempfile::tempdir().unwrap();
    let targets = format!(
        "digest = \"sha-256\"\ncustody = {:?}\n[events]\ntimeout = \"1s\"\nwebhook = \"{}\"\n",
        custody.path(),
        webhook.url("/events")
    );
    #[cfg(feature = "nats")]
    let targets = {
        broker.make_stream();
        format!("{targets}nats = \"nats://127.0.0.1:{}\"\n", broker.port)
    };
    let settings = |cores: &str| {
        Settings::default()
            .flags(&["--cores", cores])
            .file(&targets)
    };
    let mut server = Server::with(settings("2"));
    let terms = Terms {
        file_bytes_max: 1 << 20,
        ..Terms::default()
    };
    let ground = Ground::new(&server, setup, terms);
    let strike = |server: &mut Server, rng: &mut Rng| {
        ground.pause(100 + rng.log_uniform(3_000));
        match rng.below(4) {
            0 => {
                server.restart_with(settings(any_cores(rng)));
                ground.announce(server);
            }
            #[cfg(feature = "nats")]
            1 => {
                broker.kill();
                ground.pause(rng.log_uniform(5_000));
                broker.restart();
            }
            _ => {
                let moods = [
                    Mood::Well,
                    Mood::Well,
                    Mood::Well,
                    Mood::Refuses,
                    Mood::HangsUp,
                    Mood::AnswersHalf,
                    Mood::Silent,
                ];
                *mood.lock().unwrap() = rng.pick(&moods);
            }
        }
    };
    fight(&ground, setup, &mut server, strike, |_| {});
    *mood.lock().unwrap() = Mood::Well;
    // Nobody waits out the pauses of targets that were away for long.
    server.restart_with(settings("2"));
    wait_until_told(|| taken.lock().unwrap().has_all(&ground));
    taken.lock().unwrap().assert_right(&ground, "the webhook");
    #[cfg(feature = "nats")]
    {
        let mut stream = Taken::default();
        wait_until_told(|| {
            stream = Taken::default();
            for (id, event) in broker.messages() {
                assert_eq!(event["id"], *id);
                stream.take(&event);
            }
            stream.has_all(&ground)
        });
        stream.assert_right(&ground, "NATS");
    }
    server.stop();
    assert_ledger(&ground, custody.path());
    passed(&ground)
}

/// The chain is whole, and has a line of each file.
fn assert_ledger(ground: &Ground, folder: &Path) {
    let mut verify = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let output = (verify.args(["custody", "verify"]).arg(folder)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut sealed = Taken::default();
    for line in lines(folder) {
        if line["ending"] == "published" {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let bytes = line["bytes"].as_u64().unwrap();
            let said = (text("session"), bytes, text("sha256"));
            sealed.0.insert(text("path"), said);
        }
    }
    sealed.assert_right(ground, "the ledger");
}
