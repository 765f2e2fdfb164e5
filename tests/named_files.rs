//! Files that settings and flags name: whatever a name leads to, nothing waits, reads without end,
//! or takes what is no file.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bitsd::config::rows;
use support::client::Client;
#[cfg(feature = "nats")]
use support::host::allow;
use support::host::make_pipe;
use support::server::{Server, Settings};
use support::tls::Authority;
use support::wait_until;

/// What is no file that can be read, and a word that tells what it is.
struct Strange {
    _folder: tempfile::TempDir,
    all: Vec<(PathBuf, &'static str)>,
}

impl Strange {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, long) = (folder.path().join("pipe"), folder.path().join("long"));
        make_pipe(&pipe);
        // It takes no room.
        fs::File::create(&long).unwrap().set_len(1 << 40).unwrap();
        let mut all = vec![
            (pipe, "it is a pipe"),
            (folder.path().to_owned(), "it is a directory"),
            (PathBuf::from("/dev/zero"), "it is a device"),
            (long, "it is larger than"),
        ];
        // To read it waits for the kernel's next word, and only root may.
        let endless = PathBuf::from("/proc/kmsg");
        if rustix::process::geteuid().is_root() && endless.exists() {
            all.push((endless, "a file of the kernel"));
        }
        Self {
            _folder: folder,
            all,
        }
    }
}

/// What a command says, which must fail before long.
fn refused(words: &[&str]) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until(&format!("{words:?} ends"), || {
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{words:?}: {said}");
    said
}

/// Lines in which a key has a file, with all that it needs; `None` where this build has no use for
/// it.
fn lines_with(key: &str, file: &Path, authority: &Authority) -> Option<String> {
    let (_, name) = key.rsplit_once('.').unwrap_or_default();
    let line = format!("{} = {file:?}\n", if name.is_empty() { key } else { name });
    let pair = authority.server("server", &["localhost"]);
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\n";
    let events = |target: &str| format!("[events]\n{target}\n{line}");
    let certificate = |chain: &Path, key: &Path| {
        format!("{listener}[[certificate]]\nchain = {chain:?}\nkey = {key:?}\n")
    };
    Some(match key {
        "users_file" | "groups_file" | "tokens_file" | "certificates_file" | "keytab" => line,
        "notification_secret_file" => format!(
            "notification_type = \"by-reference\"\nnotification_url = \"http://127.0.0.1:1/\"\n{line}"
        ),
        "events.webhook_secret_file" | "events.webhook_ca" => {
            events("webhook = \"http://127.0.0.1:1/\"")
        }
        "events.nats_credentials_file" | "events.nats_ca" if cfg!(feature = "nats") => {
            events("nats = \"nats://127.0.0.1:1\"")
        }
        "store_ca" if cfg!(feature = "s3") => {
            format!("store = \"s3\"\nstore_bucket = \"bucket\"\n{line}")
        }
        "events.nats_credentials_file" | "events.nats_ca" | "store_ca" => return None,
        "listener.client_ca" => format!("{listener}{line}{}", pair.table()),
        "listener.client_crl" => {
            let ca = authority.ca();
            format!("{listener}client_ca = {ca:?}\n{line}{}", pair.table())
        }
        "certificate.chain" => certificate(file, &pair.key),
        "certificate.key" => certificate(&pair.chain, file),
        _ => panic!("say here how {key} is used"),
    })
}

/// The check refuses this file for a key, and says why; where this build has a use for it.
#[track_caller]
fn assert_check_refuses(key: &str, file: &Path, word: &str, authority: &Authority) {
    let Some(lines) = lines_with(key, file, authority) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("bitsd.toml");
    let root = format!("root = {:?}\nlisten = \"127.0.0.1:0\"\n", folder.path());
    fs::write(&settings, format!("{root}{lines}")).unwrap();
    let said = refused(&["check", "--quiet", "--config", settings.to_str().unwrap()]);
    let file = file.display().to_string();
    assert!(said.contains(&file) && said.contains(word), "{key}: {said}");
}

/// A new key that names a file cannot be forgotten: they are those of the declaration.
#[test]
fn a_setting_that_names_what_is_no_file_is_refused_at_once() {
    let (strange, authority) = (Strange::new(), Authority::new());
    let keys: Vec<_> = rows().filter(|row| row.names_a_file()).collect();
    assert!(keys.len() > 10);
    for key in keys.iter().map(|row| row.key) {
        for (file, word) in &strange.all {
            assert_check_refuses(key, file, word, &authority);
        }
    }
}

/// What a start would say stands in the check already.
#[test]
fn authorities_that_are_missing_or_none_are_told_by_the_check() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.pem");
    let text = folder.path().join("text.pem");
    fs::write(&text, "no certificate\n").unwrap();
    for key in [
        "events.webhook_ca",
        "events.nats_ca",
        "store_ca",
        "listener.client_ca",
    ] {
        for (file, says) in [(&none, "No such file"), (&text, "holds no certificate")] {
            assert_check_refuses(key, file, says, &authority);
        }
    }
}

/// What a start would refuse, a check and a reload refuse as well.
#[cfg(feature = "nats")]
#[test]
fn credentials_that_are_none_are_told_by_check_and_reload() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let key = "events.nats_credentials_file";
    let token = "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n";
    let seed = "-----BEGIN USER NKEY SEED-----\nSUAB\n------END USER NKEY SEED------\n";
    for text in [token.to_owned(), format!("{token}\n{seed}")] {
        let file = folder.path().join("shown.creds");
        fs::write(&file, text).unwrap();
        allow(&file, 0o600);
        assert_check_refuses(key, &file, "cannot read", &authority);
        let server = Server::with(Settings::default().file("# none yet"));
        server.reload(&lines_with(key, &file, &authority).unwrap());
        server.wait_for_log("event=reload_failed");
        assert!(server.log().contains("shown.creds"), "{}", server.log());
    }
}

#[test]
fn a_flag_that_names_what_is_no_file_is_refused_at_once() {
    let strange = Strange::new();
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    fs::write(&good, "good\n").unwrap();
    let good = good.to_str().unwrap();
    for (file, word) in &strange.all {
        let file = file.to_str().unwrap();
        let mut commands = vec![vec!["token", "anna", "--file", file]];
        if cfg!(feature = "put") {
            commands.push(vec!["put", "--cacert", file, good, "https://127.0.0.1:1/"]);
        }
        // A pipe may be meant there.
        if *word != "it is a pipe" {
            let folder = folder.path().to_str().unwrap();
            commands.push(vec!["check", "--config", file]);
            commands.push(vec!["serve", "--root", folder, "--config", file]);
            if cfg!(feature = "put") {
                let url = "http://127.0.0.1:1/";
                commands.push(vec!["put", "--token-file", file, good, url]);
                let user = ["--user", "anna", "--password-file", file];
                commands.push([&["put"], &user[..], &[good, url]].concat());
            }
        }
        for words in commands {
            let said = refused(&words);
            assert!(
                said.contains(file) && said.contains(word),
                "{words:?}: {said}"
            );
        }
    }
}

#[cfg(feature = "put")]
#[test]
fn what_is_no_file_is_not_uploaded() {
    let strange = Strange::new();
    for (file, word) in &strange.all {
        // What is long may be uploaded.
        if *word == "it is larger than" {
            continue;
        }
        let said = refused(&[
            "put",
            "--retry-for",
            "1s",
            file.to_str().unwrap(),
            "http://127.0.0.1:1/x",
        ]);
        assert!(said.contains(file.to_str().unwrap()), "{said}");
    }
}

/// `--token-file <(secret-tool ..)`, `--config <(..)`: a person has made it for this one run.
#[cfg(feature = "put")]
#[test]
fn a_pipe_that_somebody_writes_into_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    fs::write(&good, "good\n").unwrap();
    let script = "\"$0\" put --retry-for 1ms --token-file <(sleep 0.1; echo token) \"$1\" http://127.0.0.1:1/; \
                  \"$0\" check --quiet --config <(echo 'nonsense = 1')";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_bitsd")])
        .arg(&good)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("cannot read"), "{said}");
    assert!(said.contains("there is no key nonsense"), "{said}");
}

/// Who waits for a reload by this socket.
fn reload_by(socket: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    let output = command.args(["reload", "--socket"]).arg(socket).output();
    let output = output.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// Goal: settings that are gone are no wish for the defaults, with which nobody is asked who he is.
/// Method: a file that is emptied, or from which all keys go; a reload, and SIGUSR2.
#[test]
fn a_server_whose_settings_are_emptied_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin");
    let networks = format!("admin_socket = {socket:?}\nallow_from = [\"192.0.2.0/24\"]\n");
    let server = Server::with(Settings::default().file(&networks));
    let file = server.root().with_extension("toml");
    for text in ["", "# allow_from = [\"192.0.2.0/24\"]\n", "\n\n"] {
        fs::write(&file, text).unwrap();
        let (code, said) = reload_by(&socket);
        assert!(code == Some(1), "{code:?} {said}");
        assert!(said.contains("has no setting in it any more"), "{said}");
        let mut client = Client::new(server.address(), "/x");
        client.try_create().assert(403, Some("0x80070005"));
    }
    server.make_way();
    server.wait_for_log("event=not_replaced");
    assert!(!server.log().contains("event=making_way"));
    fs::write(&file, networks.replace("192.0.2.0/24", "127.0.0.0/8")).unwrap();
    let (code, said) = reload_by(&socket);
    assert!(code == Some(0), "{code:?} {said}");
    Client::create(server.address(), "/x");
}

/// What has come through a pipe comes once; through an empty one comes nothing.
#[test]
fn a_server_whose_settings_came_through_a_pipe_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, root) = (folder.path().join("admin"), folder.path().join("root"));
    fs::create_dir(&root).unwrap();
    let bitsd = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(["serve", "--config", "/dev/stdin"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let mut server = bitsd().spawn().unwrap();
    let settings =
        format!("root = {root:?}\nlisten = \"127.0.0.1:0\"\nadmin_socket = {socket:?}\n");
    let mut pipe = server.stdin.take().unwrap();
    std::io::Write::write_all(&mut pipe, settings.as_bytes()).unwrap();
    drop(pipe);
    let mut last = (None, String::new());
    wait_until("a reload is answered", || {
        last = reload_by(&socket);
        last.1.contains("pipe")
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(last.0, Some(1), "{}", last.1);
    assert!(last.1.contains("nothing comes out of it"), "{}", last.1);
    let mut empty = bitsd().spawn().unwrap();
    drop(empty.stdin.take());
    let output = empty.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("nothing comes out of it"),
        "{said}"
    );
}

/// The clients of the address that stays until the next start would not be asked any more.
#[test]
fn who_is_asked_is_asked_as_long_as_the_address_stays() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin");
    let networks = "allow_from = [\"192.0.2.0/24\"]\n";
    let own = format!("[[location]]\nprefix = \"/a\"\n{networks}");
    let top = format!("admin_socket = {socket:?}\n");
    let elsewhere = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    for before in [format!("{top}{networks}"), format!("{top}{own}")] {
        let server = Server::with(Settings::default().file(&before));
        let file = server.root().with_extension("toml");
        for everybody in ["", "allow_from = [\"0.0.0.0/0\", \"::/0\"]\n"] {
            fs::write(&file, format!("{top}{everybody}{elsewhere}")).unwrap();
            let (code, said) = reload_by(&socket);
            assert!(code == Some(1), "{code:?} {said}");
            assert!(said.contains("listener waits for the next start"), "{said}");
        }
        let mut client = Client::new(server.address(), "/a/x");
        client.try_create().assert(403, Some("0x80070005"));
        // One after the other.
        fs::write(&file, &top).unwrap();
        let (code, said) = reload_by(&socket);
        assert!(code == Some(0), "{code:?} {said}");
    }
}
