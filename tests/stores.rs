//! Object stores that differ from the one that tests/store.rs runs against: `s3s-fs`, where it is
//! installed, and whatever BITSD_TEST_STORE names (scripts/rig/ceph does). Behind the same proxy,
//! and judged by a client of their own.
//!
//! `scripts/check --long` runs them; elsewhere they may be skipped, also where CI=true.
#![cfg(feature = "s3")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use support::bucket::{Fate, Proxy, close_at_last, leftovers, sent};
use support::client::{Client, fragment};
use support::content::content;
use support::mount::Disk;
use support::program::free_address;
use support::server::{Server, Settings};
use support::{skip, skip_anywhere, wait_until};

/// Three parts of a large file.
const LARGE: u64 = 12 << 20;
const SMALL: u64 = 70_000;
/// Those of every store whose keys may be anything.
const KEYS: [&str; 2] = ["test", "for-tests"];

/// A store, a bucket of the test's own in it, and a proxy before it.
struct Store {
    judge: Judge,
    /// Its access key and the secret of that.
    keys: [String; 2],
    proxy: Proxy,
    files: Option<FileStore>,
}

/// `s3s-fs`: a program whose objects are files of a folder.
struct FileStore {
    child: Child,
    root: PathBuf,
    address: SocketAddr,
    _folder: Option<TempDir>,
}

impl FileStore {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Self::on(folder.path())?;
        files._folder = Some(folder);
        Some(files)
    }

    /// On a folder of the test's own.
    fn on(root: &Path) -> Option<Self> {
        let address = free_address();
        Some(Self {
            child: spawn(root, address)?,
            root: root.to_owned(),
            address,
            _folder: None,
        })
    }

    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(&self.root, self.address).unwrap();
    }

    /// It cannot list uploads; their parts are files.
    fn parts(&self) -> usize {
        let names = fs::read_dir(&self.root).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(".part-")).count()
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(root: &Path, address: SocketAddr) -> Option<Child> {
    let child = Command::new("s3s-fs")
        .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--access-key", KEYS[0], "--secret-key", KEYS[1]])
        .arg(root)
        .env("RUST_LOG", "error")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = child.ok()?;
    wait_until("the store answers", || TcpStream::connect(address).is_ok());
    Some(child)
}

/// Looks into a store directly.
struct Judge {
    runtime: Runtime,
    client: aws_sdk_s3::Client,
    bucket: String,
}

impl Judge {
    fn of(address: SocketAddr, keys: &[String; 2]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("bitsd-{}-{number}", std::process::id());
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(&keys[0], &keys[1], None, None, "a test"))
            .endpoint_url(format!("http://{address}"))
            .force_path_style(true)
            .build();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = aws_sdk_s3::Client::from_conf(config);
        let made = client.create_bucket().bucket(&bucket);
        runtime.block_on(made.send()).unwrap();
        Self {
            runtime,
            client,
            bucket,
        }
    }

    /// What stands under a key, and its marks.
    fn object(&self, key: &str) -> Option<(Vec<u8>, HashMap<String, String>)> {
        let asked = self.client.get_object().bucket(&self.bucket).key(key);
        self.runtime.block_on(async {
            let found = match asked.send().await {
                Ok(found) => found,
                Err(error) if error.as_service_error()?.is_no_such_key() => return None,
                Err(error) => panic!("{error:?}"),
            };
            let marks = found.metadata.clone().unwrap_or_default();
            let body = found.body.collect().await.unwrap();
            Some((body.to_vec(), marks))
        })
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let body = ByteStream::from(bytes.to_vec());
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        self.runtime.block_on(put.body(body).send()).unwrap();
    }

    /// Uploads that were begun and not ended; `None` if it cannot tell.
    fn uploads(&self) -> Option<usize> {
        let asked = self.client.list_multipart_uploads().bucket(&self.bucket);
        let listed = self.runtime.block_on(asked.send());
        listed.ok().map(|listed| listed.uploads().len())
    }

    /// How many objects there are.
    fn objects(&self) -> usize {
        let asked = self.client.list_objects_v2().bucket(&self.bucket);
        self.runtime
            .block_on(asked.send())
            .unwrap()
            .contents()
            .len()
    }

    /// Whether an upload in parts replaces an object although it says that it must not.
    fn replaces_by_parts(&self) -> bool {
        self.put("probe", b"first");
        let (bucket, client) = (&self.bucket, &self.client);
        self.runtime.block_on(async {
            let begun = client.create_multipart_upload().bucket(bucket).key("probe");
            let upload = begun.send().await.unwrap().upload_id.unwrap();
            let part = (client.upload_part())
                .bucket(bucket)
                .key("probe")
                .upload_id(&upload)
                .part_number(1)
                .body(ByteStream::from_static(b"second"));
            let etag = part.send().await.unwrap().e_tag;
            let part = CompletedPart::builder().part_number(1).set_e_tag(etag);
            let parts = CompletedMultipartUpload::builder().parts(part.build());
            let completed = (client.complete_multipart_upload())
                .bucket(bucket)
                .key("probe")
                .upload_id(&upload)
                .if_none_match("*")
                .multipart_upload(parts.build());
            let is_refused = completed.send().await.is_err();
            if is_refused {
                let end = client.abort_multipart_upload().bucket(bucket).key("probe");
                end.upload_id(&upload).send().await.unwrap();
            }
            let gone = client.delete_object().bucket(bucket).key("probe");
            gone.send().await.unwrap();
            !is_refused
        })
    }
}

impl Store {
    /// Those that are here.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        if let Some(files) = FileStore::start() {
            all.push(Self::of(files));
        }
        if let Ok(url) = std::env::var("BITSD_TEST_STORE") {
            let address = url.strip_prefix("http://").expect("an address by http");
            let keys = match std::env::var("BITSD_TEST_STORE_KEYS") {
                Ok(keys) => {
                    let (access, secret) = keys.split_once(':').expect("ACCESS:SECRET");
                    [access.to_owned(), secret.to_owned()]
                }
                Err(_) => KEYS.map(str::to_owned),
            };
            all.push(Self::at(address.parse().unwrap(), keys, None));
        }
        if all.is_empty() {
            skip_anywhere(
                "there is no s3s-fs (cargo install s3s-fs --features binary), and \
                 BITSD_TEST_STORE names no store (scripts/rig/ceph, scripts/rig/garage)",
            );
        }
        all
    }

    fn of(files: FileStore) -> Self {
        Self::at(files.address, KEYS.map(str::to_owned), Some(files))
    }

    fn at(address: SocketAddr, keys: [String; 2], files: Option<FileStore>) -> Self {
        Self {
            judge: Judge::of(address, &keys),
            keys,
            proxy: Proxy::start(address),
            files,
        }
    }

    fn settings(&self, more: &str) -> Settings {
        let (id, secret) = (
            format!("AWS_ACCESS_KEY_ID={}", self.keys[0]),
            format!("AWS_SECRET_ACCESS_KEY={}", self.keys[1]),
        );
        let environment = [
            "env",
            &id,
            &secret,
            "AWS_EC2_METADATA_DISABLED=true",
            "AWS_CONFIG_FILE=/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
        ];
        Settings::default().wrapper(&environment).file(&format!(
            "store = \"s3\"\nstore_bucket = \"{}\"\nstore_endpoint = \"http://{}\"\n\
             store_path_style = true\nstore_part_bytes = \"5MiB\"\ncreate_dirs = true\n\
             digest = \"sha-256\"\n{more}",
            self.judge.bucket, self.proxy.address
        ))
    }

    /// The object is there, whole, and bears its session; nothing else is left.
    #[track_caller]
    fn assert_object(&self, server: &Server, key: &str, session: &str, bytes: u64) {
        let (body, marks) = self.judge.object(key).expect("the object is there");
        assert!(body == content(1, 0, bytes), "{key} differs");
        let session = session.trim_matches(['{', '}']);
        let mark = marks.get("bitsd-session").map(String::as_str);
        assert_eq!(mark, Some(session));
        if let Some(sha256) = marks.get("bitsd-sha256") {
            let expected = Sha256::digest(&body);
            let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(*sha256, expected);
        }
        self.assert_nothing_is_left(server);
    }

    #[track_caller]
    fn assert_nothing_is_left(&self, server: &Server) {
        wait_until("no upload is left", || {
            let uploads = self.judge.uploads();
            uploads.unwrap_or_else(|| self.files.as_ref().map_or(0, FileStore::parts)) == 0
        });
        wait_until("no note and no part is left", || {
            leftovers(server).is_empty()
        });
    }
}

#[test]
fn files_of_every_size_and_name_become_objects() {
    for store in Store::all() {
        let server = Server::with(store.settings("allow_overwrite = true"));
        for (path, key, bytes) in [
            ("/in/small.bin", "in/small.bin", SMALL),
            ("/in/one.bin", "in/one.bin", 1),
            ("/in/part.bin", "in/part.bin", 5 << 20),
            ("/in/large.bin", "in/large.bin", LARGE),
            (
                "/a%20b/c+d%25e/%C3%BC%E2%82%AC.bin",
                "a b/c+d%e/ü€.bin",
                LARGE,
            ),
            ("/=&;$!'(),.bin", "=&;$!'(),.bin", SMALL),
        ] {
            let mut client = sent(&server, path, bytes);
            client.close().assert(200, None);
            let session = client.session().to_owned();
            store.assert_object(&server, key, &session, bytes);
            client.close().assert(200, None);
        }
        assert_eq!(store.judge.objects(), 6);
    }
}

/// Each answer is lost once, and each request.
#[test]
fn a_lost_request_or_answer_costs_nothing_but_time() {
    for store in Store::all() {
        let server = Server::with(store.settings("allow_overwrite = true"));
        for (bytes, steps) in [(SMALL, 1..=2), (LARGE, 1..=7)] {
            for lost in steps {
                for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
                    let name = format!("{bytes}-{lost}-{fate:?}");
                    store.proxy.rule(move |number, _| match number == lost {
                        true => fate.clone(),
                        false => Fate::Pass,
                    });
                    let mut client = sent(&server, &format!("/{name}"), bytes);
                    client.close().assert(200, None);
                    let session = client.session().to_owned();
                    store.assert_object(&server, &name, &session, bytes);
                }
            }
        }
        assert_eq!(store.judge.objects(), 18);
    }
}

/// The server is killed while the store holds back the answer to each request in turn.
#[test]
fn a_server_that_is_killed_at_any_step_goes_on() {
    for store in Store::all() {
        let mut server = Server::with(store.settings("allow_overwrite = true"));
        for (bytes, steps) in [(SMALL, 1..=2), (LARGE, 1..=7)] {
            for at in steps {
                let name = format!("{bytes}-{at}");
                let session = store
                    .proxy
                    .upload_over_a_kill(&mut server, &name, bytes, at);
                store.assert_object(&server, &name, &session, bytes);
            }
        }
        assert_eq!(store.judge.objects(), 9);
    }
}

/// The store is killed when a request of each kind has reached it, and comes back with what it had.
/// Not while it completes an upload: s3s-fs forgets one before it makes the object. Of what is left
/// then it tells the parts, takes none and aborts none, so that nobody could go on or clean up.
#[test]
fn a_store_that_is_killed_at_any_step_gets_each_object_once() {
    for mut store in Store::all() {
        if store.files.is_none() {
            continue;
        }
        let more = "store_wait = \"1s\"\nallow_overwrite = true";
        let server = Server::with(store.settings(more));
        for at in 1..=6_u64 {
            let name = format!("killed-{at}");
            store.proxy.rule(move |number, _| match number >= at {
                true => Fate::LoseAnswer,
                false => Fate::Pass,
            });
            let mut client = sent(&server, &format!("/{name}"), LARGE);
            thread::scope(|scope| {
                let closing = scope.spawn(|| client.try_close());
                wait_until("it is reached", || {
                    let lines = store.proxy.lines();
                    let line = lines.get(usize::try_from(at - 1).unwrap());
                    line.is_some_and(|line| !completes(line) || store.proxy.answered() >= at)
                });
                store.files.as_mut().unwrap().kill9();
                closing.join().unwrap();
            });
            store.files.as_mut().unwrap().restart();
            store.proxy.rule(|_, _| Fate::Pass);
            close_at_last(&mut client, &server);
            let session = client.session().to_owned();
            store.assert_object(&server, &name, &session, LARGE);
        }
        assert_eq!(store.judge.objects(), 6);
    }
}

/// Whether a request makes an object of an upload.
fn completes(line: &str) -> bool {
    line.starts_with("POST ") && line.contains("uploadId=")
}

/// What the start finds out is what the store does; and nothing is replaced either way.
#[test]
fn a_store_that_replaces_objects_is_refused_and_one_that_does_not_is_taken() {
    for store in Store::all() {
        let mut more = "";
        if store.judge.replaces_by_parts() {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("root");
            let (status, said) = Server::refused(&root, &store.settings(""));
            assert!(!status.success());
            assert!(said.contains("lets an object be replaced"), "{said}");
            more = "store_no_replace = \"look\"";
        }
        let server = Server::with(store.settings(more));
        for (name, bytes) in [("small", SMALL), ("large", LARGE)] {
            store.judge.put(name, b"theirs");
            let mut client = sent(&server, &format!("/{name}"), bytes);
            client.close().assert(403, Some("0x80070005"));
            assert_eq!(store.judge.object(name).unwrap().0, b"theirs");
            client.cancel().assert(200, None);
            store.assert_nothing_is_left(&server);
        }
        assert_eq!(store.judge.objects(), 2, "the probe is gone");
    }
}

/// Of one that is given up half-way nothing is left, after a restart neither.
#[test]
fn an_upload_that_is_given_up_leaves_nothing_at_the_store() {
    for store in Store::all() {
        let mut server = Server::with(store.settings("allow_overwrite = true"));
        for restarts in [false, true] {
            store.proxy.rule(|_, _| Fate::Pass);
            let mut client = Client::create(server.address(), "/half.bin");
            client
                .send(fragment(0..8 << 20).of(LARGE))
                .assert(200, None);
            let is_part = |line: &String| line.contains("partNumber=1&");
            wait_until("the first part is sent", || {
                store.proxy.lines().iter().any(is_part)
            });
            if restarts {
                server.kill9();
                server.restart();
                client.reconnect_to(server.address());
            }
            client.cancel().assert(200, None);
            store.assert_nothing_is_left(&server);
            assert!(store.judge.object("half.bin").is_none());
        }
    }
}

#[test]
fn credentials_that_the_store_does_not_know_are_told_and_nothing_is_lost() {
    for store in Store::all() {
        let more = "store_wait = \"1s\"\nallow_overwrite = true";
        let right = store.settings(more);
        let mut wrong = right.clone();
        for word in &mut wrong.wrapper {
            if word.starts_with("AWS_SECRET_ACCESS_KEY=") {
                *word = "AWS_SECRET_ACCESS_KEY=another".to_owned();
            }
        }
        let mut server = Server::with(wrong);
        let mut client = sent(&server, "/later.bin", LARGE);
        client.close().assert(503, None);
        server.wait_for_log("event=object_not_taken");
        server.stop();
        server.restart_with(right);
        close_at_last(&mut client, &server);
        let session = client.session().to_owned();
        store.assert_object(&server, "later.bin", &session, LARGE);
    }
}

/// What a store has no room for waits here, and goes there when it has.
#[test]
fn a_store_without_room_gets_the_object_later() {
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F", "-m", "0"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("mounting a file system needs root and mkfs.ext4");
    };
    let Some(files) = FileStore::on(disk.path()) else {
        return skip_anywhere("there is no s3s-fs");
    };
    let store = Store::of(files);
    let ballast = disk.path().join("ballast");
    let room = usize::try_from(disk.free_bytes()).unwrap() - (3 << 20);
    fs::write(&ballast, vec![1; room]).unwrap();
    let more = "store_wait = \"1s\"\nallow_overwrite = true";
    let server = Server::with(store.settings(more));
    let mut client = sent(&server, "/large.bin", LARGE);
    client.close().assert(503, None);
    assert!(store.judge.object("large.bin").is_none());
    server.wait_for_log("event=object_not_taken");
    fs::remove_file(&ballast).unwrap();
    close_at_last(&mut client, &server);
    let session = client.session().to_owned();
    store.assert_object(&server, "large.bin", &session, LARGE);
}
