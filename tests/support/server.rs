//! The real binary, started for one test and ended with it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::raw::Raw;
use super::wait_until;

/// So long it takes to read what was said before an end.
const REST_MAX: Duration = Duration::from_secs(5);

/// A running server and its root.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Where it speaks TLS.
    secure: Vec<SocketAddr>,
    /// Where it does not, by tables of its own.
    plain: Vec<SocketAddr>,
    root: PathBuf,
    settings: Settings,
    /// What it said on stderr; printed when the test fails.
    log: Arc<Mutex<String>>,
    // Removed with the server unless the root was given.
    _folder: Option<Arc<TempDir>>,
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines of a settings file.
    pub file: String,
    /// Flags of `bitsd serve`; `--root` and `--listen` are added.
    pub flags: Vec<String>,
    /// A command that runs the server, such as `["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]`.
    pub wrapper: Vec<String>,
}

impl Settings {
    /// With these lines in the settings file.
    pub fn file(mut self, lines: &str) -> Self {
        self.file.push_str(lines);
        self.file.push('\n');
        self
    }

    /// With these flags.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Run by this command.
    pub fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper
            .extend(words.iter().map(|&word| word.to_owned()));
        self
    }
}

impl Server {
    /// Starts a server with two shards on a root of its own.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Settings::default())
    }

    /// Starts a server on a root of its own.
    #[track_caller]
    pub fn with(settings: Settings) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut server = Self::on(&root, settings);
        server._folder = Some(folder);
        server
    }

    /// Starts a server on a root that the test owns.
    #[track_caller]
    pub fn on(root: &Path, settings: Settings) -> Self {
        let mut child = command(root, &settings).spawn().unwrap();
        let log = drain_stderr(&mut child);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // Ends also when the server dies: its stdout closes then.
        stdout.read_line(&mut line).unwrap();
        // In JSON it stands in the message.
        let address = (line.split("listening on http://").nth(1))
            .and_then(|rest| rest.trim_end_matches(['\n', '}', '"']).parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "the server did not start: {line:?}\n{}",
                log.lock().unwrap()
            );
        };
        let (mut secure, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..settings.file.matches("[[listener]]").count() {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            let url = line.trim().strip_prefix("listening on ");
            match url.and_then(|url| url.split_once("://")) {
                Some(("https", address)) => secure.push(address.parse().unwrap()),
                Some((_, address)) => plain.push(address.parse().unwrap()),
                None => panic!("{line:?}"),
            }
        }
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self {
            child,
            address,
            secure,
            plain,
            root: root.to_owned(),
            settings,
            log,
            _folder: None,
        }
    }

    /// Runs a server that is expected not to start; gives its exit status and what it said.
    #[track_caller]
    pub fn refused(root: &Path, settings: &Settings) -> (ExitStatus, String) {
        let mut child = command(root, settings).spawn().unwrap();
        let log = drain_stderr(&mut child);
        let status = wait(&mut child);
        let said = || log.lock().unwrap().clone();
        // To its end: lines of the log may come before the one that says why.
        wait_until("stderr is read", || Arc::strong_count(&log) == 1);
        assert_tells_no_secret(&said());
        (status, said())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks TLS, first of all.
    pub fn secure(&self) -> SocketAddr {
        self.secure[0]
    }

    /// Everywhere where it does.
    pub fn secures(&self) -> &[SocketAddr] {
        &self.secure
    }

    /// Where the first listener of its own table is that speaks no TLS.
    pub fn plain(&self) -> SocketAddr {
        self.plain[0]
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a file below the root.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Names in the work directory that belong to sessions.
    pub fn work_files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root.join(".bitsd"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".part"))
            .collect();
        names.sort();
        names
    }

    /// The part of a session, given as the server wrote its id.
    pub fn part(&self, session: &str) -> PathBuf {
        let plain = session.trim_matches(['{', '}']);
        self.root.join(".bitsd").join(format!("{plain}.part"))
    }

    /// The length of a session's part, which is its progress; 0 if there is none.
    pub fn part_bytes(&self, session: &str) -> u64 {
        std::fs::metadata(self.part(session)).map_or(0, |part| part.len())
    }

    /// Waits until a session has so many bytes on disk, exactly.
    #[track_caller]
    pub fn wait_for_part(&self, session: &str, bytes: u64) {
        wait_until("the bytes sent are on disk", || {
            self.part_bytes(session) == bytes
        });
    }

    /// Asserts that a file is the whole test file of `seed`.
    #[track_caller]
    pub fn assert_file(&self, path: &str, seed: u64, bytes: u64) {
        let found = std::fs::read(self.file(path)).unwrap();
        assert_eq!(found.len() as u64, bytes, "{path}");
        assert!(
            found == super::content::content(seed, 0, bytes),
            "{path} differs"
        );
    }

    /// How it was started.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Waits until its log says so.
    #[track_caller]
    pub fn wait_for_log(&self, words: &str) {
        wait_until(&format!("the log says {words:?}"), || {
            self.log().contains(words)
        });
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Raw {
        Raw::connect(self.address)
    }

    /// `kill -9`, and waits for it.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Sends SIGUSR2.
    pub fn make_way(&self) {
        kill_process(Pid::from_child(&self.child), Signal::USR2).unwrap();
    }

    /// Sends SIGHUP after other lines were written into its settings file.
    #[track_caller]
    pub fn reload(&self, lines: &str) {
        std::fs::write(self.root.with_extension("toml"), lines).unwrap();
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Waits, within bounds, for its end, and for the rest of what it said on stderr.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        self.wait_for_rest_of_log();
        status
    }

    /// Whatever it has started may have stderr for longer.
    fn wait_for_rest_of_log(&self) {
        let deadline = Instant::now() + REST_MAX;
        while Arc::strong_count(&self.log) > 1 && Instant::now() < deadline {
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Asks it to stop and waits for its end, which must be a good one.
    #[track_caller]
    pub fn stop(&mut self) {
        self.terminate();
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }

    /// Starts it again on the same root, killing it first if it runs.
    #[track_caller]
    pub fn restart(&mut self) {
        let settings = self.settings.clone();
        self.restart_with(settings);
    }

    /// Starts it again on the same root with other settings.
    #[track_caller]
    pub fn restart_with(&mut self, settings: Settings) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let folder = self._folder.clone();
        *self = Self::on(&self.root.clone(), settings);
        self._folder = folder;
    }
}

/// What the tests prove by who they are: no log has any of it.
const SECRETS: &[&str] = &[
    // Passwords and tokens, as they are, and one of the passwords wherever it is in base64.
    "sesame",
    "Sesame",
    "guess ",
    "c2VzYW1l",
    "OnNlc2Ft",
    "pzZXNhbW",
    "great-token",
    "other-token",
    "change-me",
    // As they are sent: `anna:`, `bert:` and `nobody:` in base64, and whatever follows.
    "YW5uYT",
    "YmVydD",
    "bm9ib2R5O",
    // A ticket: the beginning of a token of GSSAPI in base64.
    "Negotiate Y",
];

/// Fails the test, unless it fails anyway, where what a server said has a secret in it.
#[track_caller]
fn assert_tells_no_secret(log: &str) {
    let told = SECRETS.iter().find(|secret| log.contains(**secret));
    assert!(
        told.is_none() || thread::panicking(),
        "a secret stands in the log: {told:?}: {log}"
    );
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.wait_for_rest_of_log();
        assert_tells_no_secret(&self.log());
        if thread::panicking() {
            eprintln!("--- the server said:\n{}", self.log());
        }
    }
}

fn command(root: &Path, settings: &Settings) -> Command {
    // A root must be there; one that cannot be made is the test's affair.
    let _ = std::fs::create_dir_all(root);
    let mut words = settings.wrapper.clone();
    words.push(env!("CARGO_BIN_EXE_bitsd").to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg("serve");
    if !settings.file.is_empty() {
        let path = root.with_extension("toml");
        std::fs::write(&path, &settings.file).unwrap();
        command.arg("--config").arg(path);
    } else {
        command.arg("--no-config");
    }
    command.arg("--root").arg(root);
    if !settings.flags.iter().any(|flag| flag == "--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    if !settings.flags.iter().any(|flag| flag == "--cores") {
        command.args(["--cores", "2"]);
    }
    command.args(&settings.flags);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Whole lines only: who has seen the beginning of one may read to its end.
fn drain_stderr(child: &mut Child) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let sink = Arc::clone(&log);
    thread::spawn(move || {
        let mut line = Vec::new();
        while let Ok(1..) = stderr.read_until(b'\n', &mut line) {
            sink.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    log
}

#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the server ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
