//! `bitsd put`, `bitsd check` and the defaults of `bitsd serve`: the commands as a user types them.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use support::client::Client;
use support::content::content;
use support::host;
use support::program::free_address;
use support::server::{Server, Settings};
use support::wait_until;

/// A command that was started, ended with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end.
#[track_caller]
fn bitsd(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let command = command.args(words).stdin(Stdio::null());
    command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

/// Whole MiB that are all different, without making each byte.
fn write_large(path: &Path, mebibytes: u64) {
    let mut file = fs::File::create(path).unwrap();
    let mut block = content(9, 0, 1 << 20);
    for n in 0..mebibytes {
        for at in (0..block.len()).step_by(4096) {
            block[at..at + 8].copy_from_slice(&n.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
}

/// Compares two files without holding them.
fn are_identical(one: &Path, two: &Path) -> bool {
    let (mut one, mut two) = (fs::File::open(one).unwrap(), fs::File::open(two).unwrap());
    if one.metadata().unwrap().len() != two.metadata().unwrap().len() {
        return false;
    }
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let read = one.read(&mut a).unwrap();
        if read == 0 {
            return true;
        }
        two.read_exact(&mut b[..read]).unwrap();
        if a[..read] != b[..read] {
            return false;
        }
    }
}

#[test]
fn a_large_file_survives_five_kills_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large.bin");
    write_large(&file, 256);
    let listen = free_address().to_string();
    let settings = Settings::default().flags(&["--listen", &listen]);
    let mut server = Server::with(settings);
    let mut put = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--no-resume", "--fragment-bytes", "4MiB"])
        .arg(&file)
        .arg(url(&server, "/in.bin"))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Started)
        .unwrap();
    for _kill in 0..5 {
        // In mid-upload each time: the next kill waits for further progress.
        let mark = part_bytes(&server) + (8 << 20);
        wait_until("the upload makes progress", || part_bytes(&server) > mark);
        server.restart();
    }
    let status = wait(&mut put.0);
    let (mut out, mut err) = (String::new(), String::new());
    put.0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    put.0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("uploaded"), "{out}");
    // One for each kill at least: a try that met the server on its way up counts, too.
    let resumes = out
        .rsplit_once(" resumes")
        .unwrap()
        .0
        .rsplit_once(' ')
        .unwrap()
        .1;
    assert!(resumes.parse::<u32>().unwrap() >= 5, "{out}");
    assert!(are_identical(&file, &server.file("in.bin")));
    assert!(
        server
            .work_files()
            .iter()
            .all(|name| !name.ends_with(".part"))
    );
}

/// The length of the only part.
fn part_bytes(server: &Server) -> u64 {
    let names = server.work_files();
    let part = names.iter().find(|name| name.ends_with(".part"));
    let path = |name: &String| server.root().join(".bitsd").join(name);
    part.and_then(|name| fs::metadata(path(name)).ok())
        .map_or(0, |part| part.len())
}

#[track_caller]
fn wait(child: &mut Child) -> Option<i32> {
    let mut status = None;
    wait_until("the command ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn several_files_go_into_a_folder() {
    let server = Server::start();
    fs::create_dir(server.file("in")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let names = ["one.bin", "two words.bin", "drei-ä.bin", "empty"];
    let sizes = [1, 70_000, 6_000_000, 0];
    let mut words = vec![
        "put".to_owned(),
        "--fragment-bytes".to_owned(),
        "1MiB".to_owned(),
    ];
    for (seed, (name, bytes)) in (0..).zip(names.iter().zip(sizes)) {
        let path = folder.path().join(name);
        fs::write(&path, content(seed, 0, bytes)).unwrap();
        words.push(path.to_str().unwrap().to_owned());
    }
    words.push(url(&server, "/in/"));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = bitsd(&words);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for (seed, (name, bytes)) in (0..).zip(names.iter().zip(sizes)) {
        server.assert_file(&format!("in/{name}"), seed, bytes);
    }
    let lines = String::from_utf8(output.stdout).unwrap();
    // A line for each, and the sum.
    assert_eq!(lines.lines().count(), names.len() + 1, "{lines}");
}

#[test]
fn a_refusal_is_one_clear_sentence() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    fs::write(&file, "bytes").unwrap();
    fs::write(server.file("a.bin"), "there").unwrap();
    let output = bitsd(&["put", file.to_str().unwrap(), &url(&server, "/a.bin")]);
    assert_eq!(output.status.code(), Some(1));
    let words = said(&output);
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(words.contains("403"), "{words}");
    // The server knows more than a code says.
    let why = "the destination exists and may not be overwritten";
    assert!(words.contains(why), "{words}");
    assert_eq!(fs::read(server.file("a.bin")).unwrap(), b"there");
    // One refused file does not keep the others back.
    let other = folder.path().join("b.bin");
    fs::write(&other, "bytes").unwrap();
    let both = [file.to_str().unwrap(), other.to_str().unwrap()];
    let output = bitsd(&["put", both[0], both[1], &url(&server, "/")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(server.file("b.bin")).unwrap(), b"bytes");
}

#[test]
fn what_cannot_be_uploaded_is_said_in_words() {
    let output = bitsd(&["put", "/nonexistent/file", "http://127.0.0.1:9/"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("/nonexistent/file"),
        "{}",
        said(&output)
    );
    let output = bitsd(&["put", "file", "ftp://127.0.0.1:9/"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("http"), "{}", said(&output));
    let output = bitsd(&["put", "one", "two", "http://127.0.0.1:9/one"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("ends in `/`"), "{}", said(&output));
}

/// Of several folders, one that may not be read is one failure, as a file is.
#[test]
fn a_folder_that_cannot_be_read_is_told_and_the_others_go() {
    let Some(nobody) = host::words_of_nobody() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    host::allow(folder.path(), 0o755);
    for name in ["a", "m", "z"] {
        let inner = folder.path().join("src").join(name);
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("1"), "x").unwrap();
        fs::write(inner.join(name), "x").unwrap();
    }
    let source = folder.path().join("src");
    host::allow(&source.join("m"), 0o700);
    let server =
        Server::with(Settings::default().file("create_dirs = true\nallow_overwrite = true"));
    let source = source.to_str().unwrap();
    let put = |words: &[&str], to: &str| {
        let mut command = Command::new(nobody[0]);
        let command = command
            .args(&nobody[1..])
            .args([env!("CARGO_BIN_EXE_bitsd"), "put"]);
        let command = command.args(words).arg(url(&server, to));
        let command = command.env_remove("XDG_STATE_HOME").env_remove("HOME");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let told = format!("{source}/m: the directory cannot be read: Permission denied");
    let (all, one) = (format!("{source}/*/[amz]"), format!("{source}/*/z"));
    let (hidden, plain) = (format!("{source}/m/*"), format!("{source}/m/s/*"));
    let (deep, none) = (format!("{source}/**/a/a"), format!("{source}/a/*.none"));
    let a = format!("{source}/a/a");
    for (words, uploaded) in [
        (&["-r", source][..], 4),
        (&[&*all], 2),
        (&[&*a, &*hidden], 1),
        (&[&*a, &*plain], 1),
        (&[&*a, &*one], 2),
        (&[&*deep], 1),
        (&[&*hidden], 0),
    ] {
        let output = put(words, "/in/");
        let (said, out) = (said(&output), String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert_eq!(said.matches(&told).count(), 1, "{words:?}: {said}");
        assert!(!said.contains("no file matches"), "{words:?}: {said}");
        assert_eq!(
            out.matches("uploaded ").count(),
            uploaded,
            "{words:?}: {out}"
        );
        let is_summed = uploaded == 0 || out.contains(", 1 failed in ");
        assert!(is_summed, "{words:?}: {out}");
    }
    let output = put(&[&none], "/in/");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("no file matches"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_server_that_stays_away_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    fs::write(&file, "bytes").unwrap();
    let target = format!("http://{}/", free_address());
    let flags = ["put", "--retry-for", "300ms", "--retry-delay", "50ms"];
    let output = bitsd(&[flags.as_slice(), &[file.to_str().unwrap(), &target]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(!said(&output).is_empty());
}

#[test]
fn fragments_shrink_where_the_server_wants_them_smaller() {
    let settings = "fragment_bytes_max = \"64KiB\"\nempty_file = \"create\"";
    let server = Server::with(Settings::default().file(settings));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    fs::write(&file, content(1, 0, 1_000_000)).unwrap();
    let output = bitsd(&["put", "--quiet", file.to_str().unwrap(), &url(&server, "/")]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"");
    server.assert_file("a.bin", 1, 1_000_000);
}

#[test]
fn put_starts_again_when_the_server_has_forgotten_the_session() {
    let listen = free_address().to_string();
    let mut server = Server::with(Settings::default().flags(&["--listen", &listen]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.bin");
    write_large(&file, 128);
    let mut put = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--quiet", "--no-resume", "--fragment-bytes", "1MiB"])
        .arg(&file)
        .arg(url(&server, "/a.bin"))
        .spawn()
        .map(Started)
        .unwrap();
    wait_until("the upload makes progress", || {
        part_bytes(&server) > 10 << 20
    });
    server.kill9();
    for name in server.work_files() {
        fs::remove_file(server.root().join(".bitsd").join(name)).unwrap();
    }
    server.restart();
    assert_eq!(wait(&mut put.0), Some(0));
    assert!(are_identical(&file, &server.file("a.bin")));
}

// -- check

#[test]
fn check_prints_every_key_and_reads_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.toml");
    fs::write(
        &path,
        "allow_overwrite = true\nlisten = [\"127.0.0.1:1234\"]\n",
    )
    .unwrap();
    let path = path.to_str().unwrap();
    let output = bitsd(&["check", "--config", path]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let first = String::from_utf8(output.stdout).unwrap();
    for key in [
        "listen",
        "root",
        "work_dir",
        "cores",
        "log_format",
        "log_level",
        "durability",
        "publish",
        "allow_overwrite",
        "create_dirs",
        "empty_file",
        "strict",
        "upload_bytes_max",
        "fragment_bytes_max",
        "session_timeout",
        "head_ms_max",
        "idle_ms_max",
        "body_stall_ms_max",
    ] {
        let shown = first
            .lines()
            .filter(|line| line.starts_with(&format!("{key} = ")));
        assert_eq!(shown.count(), 1, "{key}:\n{first}");
    }
    assert!(
        first.starts_with(&format!("# Settings file: {path}\n")),
        "{first}"
    );
    for line in [
        format!("allow_overwrite = true  # {path}:1"),
        format!("listen = \"127.0.0.1:1234\"  # {path}:2"),
        "strict = false".to_owned(),
    ] {
        assert!(first.lines().any(|shown| shown == line), "{line}:\n{first}");
    }
    // What it prints is a settings file that comes to the same; only the places are others.
    let values = |text: &str| -> Vec<String> {
        let value = |line: &str| line.split("  #").next().unwrap().to_owned();
        text.lines().map(value).collect()
    };
    fs::write(path, &first).unwrap();
    let output = bitsd(&["check", "--config", path]);
    let second = String::from_utf8(output.stdout).unwrap();
    assert_eq!(values(&second), values(&first));
}

#[test]
fn check_says_as_much_as_it_is_asked_for() {
    let anywhere = ["--listen", "127.0.0.1:0"];
    let quiet = bitsd(&[&["check", "--no-config", "-q"][..], &anywhere].concat());
    assert_eq!(
        (quiet.status.code(), quiet.stdout.len(), quiet.stderr.len()),
        (Some(0), 0, 0)
    );
    let quiet = bitsd(&["check", "--no-config", "--quiet", "--cores", "300"]);
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(2), 0));
    assert!(said(&quiet).contains("--cores: cores = 300 is out of bounds"));
    for (name, says) in [
        ("session_timeout", "Takes 1s to 3650d. Default: \"14d\"."),
        ("headers_max", "limits.headers_max"),
        ("BITSMaximumUploadSize", "upload_bytes_max"),
        ("root", "Flag: --root DIR, variable: BITSD_ROOT."),
    ] {
        let output = bitsd(&["check", "--key", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(says), "{text}");
    }
    for (name, says) in [
        (
            "nope",
            "there is no key nope (`bitsd check --help` lists all)",
        ),
        ("sesion_timeout", "did you mean session_timeout?"),
        ("header_max", "did you mean limits.headers_max?"),
    ] {
        let output = bitsd(&["check", "--key", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(says), "{output:?}");
    }
    for command in ["serve", "check", "put", "bench"] {
        let help = String::from_utf8(bitsd(&[command, "--help"]).stdout).unwrap();
        assert!(
            help.contains("Examples:") && help.contains("Exit codes: 0"),
            "{help}"
        );
    }
    let schema = bitsd(&["check", "--schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["type"], "object");
}

#[test]
fn the_environment_stands_between_flags_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.toml");
    fs::write(
        &path,
        "root = \"/file\"\ncores = 1\nlog_format = \"text\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["check", "--cores", "3"])
        .env("BITSD_CONFIG", &path)
        .env("BITSD_ROOT", "/variable")
        .env("BITSD_CORES", "2")
        .env("BITSD_LOG_FORMAT", "json")
        .env("BITSD_LISTEN", "127.0.0.1:1, [::1]:2 ")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "root = \"/variable\"  # BITSD_ROOT",
        "cores = 3  # --cores",
        "log_format = \"json\"  # BITSD_LOG_FORMAT",
        "listen = [\"127.0.0.1:1\", \"[::1]:2\"]  # BITSD_LISTEN",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
    }
}

/// A flag says more than a variable, which may have been set for all that is started.
#[test]
fn no_file_is_read_where_a_flag_says_so() {
    let check = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["check", "--quiet", "--listen", "127.0.0.1:0"]);
        let command = command.args(words).env("BITSD_CONFIG", "/does/not/exist");
        command.output().unwrap()
    };
    let by_variable = check(&[]);
    assert_eq!(by_variable.status.code(), Some(2));
    let named = said(&by_variable);
    assert!(named.contains("/does/not/exist"), "{named}");
    let without = check(&["--no-config"]);
    assert_eq!(without.status.code(), Some(0), "{}", said(&without));
    // Two flags that say opposite things: nobody knows which was meant.
    let both = check(&["--no-config", "--config", "/does/not/exist"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(said(&both).contains("leave one out"), "{}", said(&both));
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.args(["check", "--no-config", "--root", "/srv/uploads"]);
    let empty = ["CONFIG", "CORES", "LOG_LEVEL", "LISTEN", "WORK_DIR", "IO"];
    command.envs(empty.map(|name| (format!("BITSD_{name}"), "")));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_ne!(output.status.code(), Some(2), "{}", said(&output));
    assert!(text.contains("log_level = \"info\"\n"), "{text}");
    assert!(
        text.contains("work_dir = \"/srv/uploads/.bitsd\"\n"),
        "{text}"
    );
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.toml");
    let lines =
        "listen = [\"127.0.0.1:1234\"]\nroot = \"/file\"\ncores = 1\ndurability = \"none\"\n";
    fs::write(&path, lines).unwrap();
    let flags = "--listen 127.0.0.1:4321 --root /flag --cores 2 --durability fragment";
    let mut words = vec!["check", "--config", path.to_str().unwrap()];
    words.extend(flags.split(' '));
    let output = bitsd(&words);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "listen = \"127.0.0.1:4321\"",
        "root = \"/flag\"",
        "cores = 2",
        "durability = \"fragment\"",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}

#[test]
fn wrong_settings_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.toml");
    for (lines, place, words) in [
        ("cores = 1\nunknown = 2\n", ":2:", "there is no key unknown"),
        ("[limits]\n\nidle_ms = 2\n", ":3:", "idle_ms"),
        ("cores = \"many\"\n", ":1:", "cores"),
        ("\ncores = 100000\n", ":2:", "cores"),
        ("root = \n", ":1:", ""),
    ] {
        fs::write(&path, lines).unwrap();
        for command in ["check", "serve"] {
            let output = bitsd(&[command, "--config", path.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(2), "{lines}");
            let said = said(&output);
            let place = format!("{}{place}", path.display());
            assert!(
                said.contains(&place) && said.contains(words),
                "{lines}:\n{said}"
            );
        }
    }
    let output = bitsd(&["check", "--config", "/nonexistent.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("/nonexistent.toml"));
}

// -- serve

#[test]
fn the_root_is_made_where_the_server_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args([
            "serve",
            "--no-config",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
        ])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Started(child);
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let mut next = || -> SocketAddr {
        let line = lines.next().unwrap().unwrap();
        line.strip_prefix("listening on http://")
            .unwrap()
            .parse()
            .unwrap()
    };
    for (seed, address) in [next(), next()].into_iter().enumerate() {
        assert_ne!(address.port(), 0);
        let mut client = Client::create(address, &format!("/{seed}")).seed(seed as u64);
        client.send_rest(0, 1000, 1000);
        client.close().assert(200, None);
        let found = fs::read(folder.path().join("uploads").join(seed.to_string())).unwrap();
        assert_eq!(found, content(seed as u64, 0, 1000));
    }
    let output = bitsd(&["serve", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        help.contains("./uploads") && help.contains("127.0.0.1:8080"),
        "{help}"
    );
}

#[test]
fn a_root_that_is_a_file_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (status, said) = Server::refused(&file, &Settings::default());
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains("the root") && said.contains("is not a directory"),
        "{said}"
    );
}

/// Runs a command with a password in the environment.
#[track_caller]
fn bitsd_knowing(password: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let command = command.args(words).stdin(Stdio::null());
    command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    command.env("BITSD_PASSWORD", password).output().unwrap()
}

#[test]
fn put_and_bench_show_who_sends_and_say_what_they_hear() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let hash = bcrypt::hash("sesame", 4).unwrap();
    let users = file("users", &format!("anna:{hash}\nbert:{hash}\n"));
    // Of the token `great-token`.
    let digest = "47276af7bccdfda2a0b3d76bf85a025a489c1c17c26fe1fe67e3df937d1cb30c";
    let tokens = file("tokens", &format!("robot:{digest}\n"));
    let server = Server::with(Settings::default().file(&format!(
        "users_file = {users:?}\ntokens_file = {tokens:?}\nauth = [\"basic\", \"bearer\"]\n\
         allow = [\"anna\", \"robot\"]\n"
    )));
    let sent = file("a.txt", "what is sent");
    let (password, token) = (
        file("password", "sesame\nof anna\n"),
        file("token", "great-token\n"),
    );
    let nothing = file("nothing", "\nsesame\n");
    let to = |path: &str| url(&server, path);
    let own = |words: &[&str]| bitsd(&[&["put", "--no-resume"], words].concat());
    for (path, words) in [
        (
            "/1.txt",
            ["--user", "anna", "--password-file", &password].as_slice(),
        ),
        ("/2.txt", &["--token-file", &token]),
    ] {
        let put = own(&[words, &[&sent, &to(path)]].concat());
        assert!(put.status.success(), "{}", said(&put));
        assert_eq!(fs::read(server.file(&path[1..])).unwrap(), b"what is sent");
    }
    let by_env = ["put", "--user", "anna", &sent, &to("/3.txt")];
    assert!(bitsd_knowing("sesame", &by_env).status.success());
    server.wait_for_log("user=\"anna\"");
    server.wait_for_log("user=\"robot\"");
    for (words, told) in [
        (
            vec![],
            "it asks who sends the file (--user, --token-file), or does not believe it",
        ),
        (
            vec!["--user", "bert", "--password-file", &password],
            "this user may not upload here",
        ),
        (
            vec!["--user", "anna", "--password-file", &sent],
            "no such user, or another password",
        ),
        (vec!["--token-file", &sent], "holds none"),
        (vec!["--user", "anna"], "no password"),
        (
            vec!["--user", "anna", "--password-file", &nothing],
            "has no password",
        ),
        (
            vec!["--user", "anna", "--password-file", "/nowhere"],
            "cannot read /nowhere",
        ),
    ] {
        let put = own(&[&words[..], &[&sent, &to("/4.txt")]].concat());
        assert_eq!(put.status.code(), Some(1), "{words:?}: {}", said(&put));
        assert!(said(&put).contains(told), "{words:?}: {}", said(&put));
    }
    let nobody = own(&[
        "--user",
        "a:b",
        "--password-file",
        &password,
        &sent,
        &to("/4.txt"),
    ]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("no colons"), "{}", said(&nobody));
    // Nothing goes to another machine in the clear, and nobody is asked for it.
    let away = own(&["--user", "anna", &sent, "http://192.0.2.1/a"]);
    assert!(said(&away).contains("without https"), "{}", said(&away));
    let bench = [
        "bench",
        "--ping",
        "--files",
        "10",
        "--user",
        "anna",
        &to("/"),
    ];
    let bench = bitsd_knowing("sesame", &bench);
    assert!(bench.status.success(), "{}", said(&bench));
}

#[test]
fn check_tells_of_users_whom_no_location_lets_in() {
    let folder = tempfile::tempdir().unwrap();
    let hash = bcrypt::hash("sesame", 4).unwrap();
    let users = folder.path().join("users");
    fs::write(&users, format!("anna:{hash}\nAnna:{hash}\nbert:{hash}\n")).unwrap();
    let file = folder.path().join("settings.toml");
    let check = |allow: &str| {
        let root = folder.path();
        let text =
            format!("root = {root:?}\nusers_file = {users:?}\nauth = \"basic\"\nallow = {allow}\n");
        fs::write(&file, text).unwrap();
        let check = bitsd(&["check", "--config", file.to_str().unwrap()]);
        String::from_utf8(check.stdout).unwrap()
    };
    let text = check("[\"anna\", \"carl\"]");
    assert!(
        text.contains("# warning: no location lets in Anna, bert: "),
        "{text}"
    );
    assert!(!check("\"*\"").contains("no location lets in"));
    // Who may come in another way is not locked out; what the file has of them is of no use.
    fs::write(&users, format!("anna:{hash}\n")).unwrap();
    let text = format!(
        "root = {:?}\nusers_file = {users:?}\nauth = \"proxy\"\nuser_header = \"X-User\"\n\
         trusted_proxies = [\"127.0.0.1\"]\nallow = \"*\"\n",
        folder.path()
    );
    fs::write(&file, text).unwrap();
    let check = bitsd(&["check", "--config", file.to_str().unwrap()]);
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(
        text.contains("# warning: no location takes the password or token of anna, "),
        "{text}"
    );
    assert!(!text.contains("no location lets in"), "{text}");
}
