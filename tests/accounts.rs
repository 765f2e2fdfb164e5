//! Who may upload: the real server, with files as Apache's htpasswd writes them.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use support::client::{Client, E_ACCESSDENIED, SESSION_NOT_FOUND, fragment};
use support::raw::Response;
use support::server::{Server, Settings};

/// `anna` and `bert`, whose passwords are `sesame`; bert's takes some milliseconds to compare.
const USERS: &str = "anna:$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0\n\
    bert:$2y$04$/FLdgVBgKbHKQmjZY1JisOCmDrrqFxKdodD7DQfqTT9PalXLnPMyO\n";
/// Of the token `great-token`, for the user `robot`.
const TOKENS: &str = "robot:47276af7bccdfda2a0b3d76bf85a025a489c1c17c26fe1fe67e3df937d1cb30c\n";

/// A server whose settings begin with the three files.
struct Guarded {
    server: Server,
    folder: tempfile::TempDir,
}

fn files(folder: &Path) -> String {
    let file = |name: &str| folder.join(name).display().to_string();
    format!(
        "users_file = \"{}\"\ngroups_file = \"{}\"\ntokens_file = \"{}\"\n",
        file("users"),
        file("groups"),
        file("tokens")
    )
}

fn guarded(lines: &str) -> Guarded {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), USERS).unwrap();
    fs::write(folder.path().join("groups"), "ops: anna\n").unwrap();
    fs::write(folder.path().join("tokens"), TOKENS).unwrap();
    let settings = Settings::default().file(&format!("{}{lines}", files(folder.path())));
    Guarded {
        server: Server::with(settings),
        folder,
    }
}

impl Guarded {
    fn client(&self, path: &str, lines: &str) -> Client {
        let mut client = Client::new(self.server.address(), path);
        client.lines = lines.to_owned();
        client
    }
}

fn basic(user: &str, password: &str) -> String {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

#[track_caller]
fn assert_asked(response: &Response, challenges: &[&str]) {
    assert_eq!(response.status, 401, "{response:?}");
    let asked: Vec<_> = (response.fields.iter())
        .filter(|(name, _)| name == "WWW-Authenticate")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(asked, challenges);
}

const BASIC: &str = "Basic realm=\"bitsd\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"bitsd\"";

#[test]
fn whoever_shows_a_name_and_its_password_may_upload() {
    let guarded = guarded("auth = [\"basic\", \"bearer\"]\n");
    let mut client = guarded.client("/a.bin", "");
    for lines in [
        "",
        &basic("anna", "Sesame"),
        &basic("nobody", "sesame"),
        "Authorization: Bearer other-token\r\n",
        "Authorization: Negotiate YII=\r\n",
        "Authorization: Basic ???\r\n",
        &format!("{0}{0}", basic("anna", "sesame")),
    ] {
        client.lines = lines.to_owned();
        assert_asked(&client.try_create(), &[BASIC, BEARER]);
        assert_asked(&client.ping(), &[BASIC, BEARER]);
    }
    // On the same connection.
    client.lines = basic("anna", "sesame");
    client.ping().assert(200, None);
    client.try_create().assert(200, None);
    client.send_rest(0, 100_000, 30_000);
    client.close().assert(200, None);
    guarded.server.assert_file("a.bin", 1, 100_000);
    let mut robot = guarded.client("/b.bin", "Authorization: Bearer great-token\r\n");
    robot.try_create().assert(200, None);
    robot.send_rest(0, 10, 10);
    robot.close().assert(200, None);
    guarded.server.wait_for_log("user=\"robot\"");
    let log = guarded.server.log();
    assert!(log.contains("user=\"anna\""), "{log}");
    let encoded = STANDARD.encode("anna:sesame");
    for secret in ["sesame", "Sesame", "great-token", "other-token", &encoded] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn a_refused_fragment_is_read_to_its_end_and_the_connection_goes_on() {
    let guarded = guarded("auth = [\"basic\"]\n");
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    client.try_create().assert(200, None);
    client.lines.clear();
    let total = 16 << 20;
    assert_asked(&client.send(fragment(0..total)), &[BASIC]);
    assert_eq!(guarded.server.part_bytes(client.session()), 0);
    client.lines = basic("anna", "sesame");
    client.send(fragment(0..total)).assert(200, None);
    client.close().assert(200, None);
    guarded.server.assert_file("a.bin", 1, total);
}

#[test]
fn who_is_not_allowed_hears_so() {
    let guarded = guarded(
        "auth = [\"basic\"]\nallow = [\"@ops\"]\n[[location]]\nprefix = \"bert\"\nallow = [\"bert\"]\n\
         [[location]]\nprefix = \"open\"\nauth = []\nallow = [\"*\"]\n",
    );
    let (anna, bert) = (basic("anna", "sesame"), basic("bert", "sesame"));
    fs::create_dir(guarded.server.file("bert")).unwrap();
    fs::create_dir(guarded.server.file("open")).unwrap();
    for (path, lines, status) in [
        ("/a.bin", &anna, 200),
        ("/a.bin", &bert, 403),
        ("/bert/a.bin", &anna, 403),
        ("/bert/a.bin", &bert, 200),
        ("/open/a.bin", &String::new(), 200),
        ("/open/a.bin", &basic("anna", "wrong"), 200),
    ] {
        let error = (status == 403).then_some(E_ACCESSDENIED);
        let response = guarded.client(path, lines).try_create();
        response.assert(status, error);
    }
}

#[test]
fn a_session_belongs_to_its_user_also_after_a_crash() {
    let mut guarded = guarded("auth = [\"basic\"]\ndownload = \"get\"\n");
    let (anna, bert) = (basic("anna", "sesame"), basic("bert", "sesame"));
    let mut owner = guarded.client("/a.bin", &anna);
    owner.try_create().assert(200, None);
    owner.send(fragment(0..10).of(20)).assert(200, None);
    let session = owner.session().to_owned();
    let others_hear_nothing = |guarded: &Guarded| {
        let mut thief = guarded.client("/a.bin", &bert);
        thief.adopt(&session);
        let sent = thief.send(fragment(10..20).of(20));
        sent.assert(500, Some(SESSION_NOT_FOUND));
        thief.close().assert(500, Some(SESSION_NOT_FOUND));
        thief.cancel().assert(500, Some(SESSION_NOT_FOUND));
        assert_eq!(guarded.server.part_bytes(&session), 10);
    };
    others_hear_nothing(&guarded);
    guarded.server.kill9();
    guarded.server.restart();
    others_hear_nothing(&guarded);
    owner.reconnect_to(guarded.server.address());
    owner.send(fragment(10..20).of(20)).assert(200, None);
    owner.close().assert(200, None);
    guarded.server.assert_file("a.bin", 1, 20);
    // What was published is for those who may upload.
    let mut reader = guarded.client("/a.bin", "");
    assert_asked(&reader.get("http://localhost/a.bin", ""), &[BASIC]);
    let response = reader.get("http://localhost/a.bin", &anna);
    assert_eq!((response.status, response.body.len()), (200, 20));
}

#[test]
fn a_password_is_compared_once_for_many_fragments_and_anew_after_a_reload() {
    let mut guarded = guarded("auth = [\"basic\"]\n");
    // 2^10 rounds: much slower than all the rest of a fragment, above all in a build for tests.
    let slow = USERS.replace("$2y$04$", "$2y$10$");
    let hash = bcrypt::hash("sesame", 10).unwrap();
    let slow = format!("{}\nbert:{hash}\n", slow.lines().next().unwrap());
    fs::write(guarded.folder.path().join("users"), slow).unwrap();
    guarded.server.restart();
    let mut client = guarded.client("/a.bin", &basic("bert", "sesame"));
    let began = Instant::now();
    client.try_create().assert(200, None);
    let once = began.elapsed();
    let began = Instant::now();
    client.send_rest(0, 400, 1);
    let took = began.elapsed();
    assert!(
        took < 100 * once.max(Duration::from_millis(20)),
        "{took:?} against {once:?} for one"
    );
    fs::write(
        guarded.folder.path().join("users"),
        USERS.lines().next().unwrap(),
    )
    .unwrap();
    let lines = format!("{}auth = [\"basic\"]\n", files(guarded.folder.path()));
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("the settings were reloaded");
    assert_asked(&client.close(), &[BASIC]);
}

#[test]
fn who_guesses_passwords_must_wait_and_others_of_the_same_place_need_not() {
    let guarded = guarded("cores = 1\nauth = [\"basic\"]\n");
    let mut known = guarded.client("/a.bin", &basic("anna", "sesame"));
    known.ping().assert(200, None);
    let mut guesser = guarded.client("/a.bin", "");
    let mut asked = 0;
    let waits = loop {
        guesser.lines = basic("anna", &format!("guess {asked}"));
        let response = guesser.ping();
        if response.status == 503 {
            break response;
        }
        assert_asked(&response, &[BASIC]);
        asked += 1;
        assert!(asked < 100);
    };
    assert_eq!(asked, 10);
    assert!(waits.field("Retry-After").is_some());
    assert!(waits.reason().contains("too many wrong passwords"));
    // Also the right one is not looked at, but what was right a moment ago is remembered.
    guesser.lines = basic("bert", "sesame");
    guesser.ping().assert(503, None);
    known.ping().assert(200, None);
}

#[test]
fn a_bad_file_is_told_with_its_line_and_changes_nothing_at_a_reload() {
    let guarded = guarded("auth = [\"basic\"]\n");
    fs::write(guarded.folder.path().join("users"), "# x\nanna:plain\n").unwrap();
    let lines = format!("{}auth = [\"basic\"]\n", files(guarded.folder.path()));
    guarded.server.reload(&lines);
    guarded
        .server
        .wait_for_log("users:2: \\\"anna\\\" cannot be used");
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    client.try_create().assert(200, None);
}

#[test]
fn curl_uploads_with_a_password() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed");
        eprintln!("SKIPPED: curl is not installed");
        return;
    }
    let guarded = guarded("auth = [\"basic\"]\n");
    let url = format!("http://{}/a.bin", guarded.server.address());
    let ping = |user: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--user", user, "--anyauth"])
            .args([
                "--request",
                "BITS_POST",
                "--header",
                "BITS-Packet-Type: Ping",
            ])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}", &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(ping("anna:sesame"), "200");
    assert_eq!(ping("anna:other"), "401");
}
