//! Who may upload: the real server, with files as Apache's htpasswd writes them.

mod support;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::client::{Client, E_ACCESSDENIED, SESSION_NOT_FOUND, basic, fragment};
use support::host::run;
use support::program::computed;
use support::raw::{Raw, Response};
use support::server::{Server, Settings};
use support::{skip, wait_until};

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
    // That no log has a password or a token in it is looked at where each server ends.
    guarded.server.wait_for_log("user=\"anna\"");
}

#[test]
fn the_log_says_by_which_scheme_a_request_shows_who_sends_it() {
    let guarded = guarded("log_level = \"debug\"\nauth = [\"basic\", \"bearer\"]\n");
    let mut client = guarded.client("/a.bin", "");
    for (lines, scheme) in [
        (String::new(), "none\" first=true"),
        (String::new(), "none\" first=false"),
        (basic("anna", "sesame"), "basic\" first=false"),
        ("Authorization: Bearer great-token\r\n".to_owned(), "bearer"),
        ("Authorization: Digest x\r\n".to_owned(), "other"),
        ("Authorization: NTLM TlRM\r\n".to_owned(), "ntlm"),
        ("Authorization: Basic ?\r\n".to_owned(), "malformed"),
    ] {
        client.lines = lines;
        client.ping();
        guarded.server.wait_for_log(&format!("scheme=\"{scheme}"));
    }
}

/// Goal: what a proxy may have added is never taken for what the client shows, nor the other way.
#[test]
fn two_proofs_of_who_it_is_are_none() {
    let guarded = guarded("auth = [\"basic\"]\n");
    let (anna, bert) = (basic("anna", "sesame"), basic("bert", "sesame"));
    for both in [anna.clone() + &anna, anna.clone() + &bert] {
        let mut client = guarded.client("/a.bin", &both);
        assert_eq!(client.ping().status, 400);
        assert_eq!(client.try_create().status, 400);
        client.lines = anna.clone();
        client.ping().assert(200, None);
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

/// Bytes that came while their sender might not upload are bytes all the same.
#[test]
fn who_was_not_allowed_for_a_while_has_no_empty_file_behind_it() {
    let lines =
        |allow| format!("auth = [\"basic\"]\nallow = [\"{allow}\"]\nempty_file = \"create\"\n");
    let mut guarded = guarded(&lines("anna"));
    let own = files(guarded.folder.path());
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    client.try_create().assert(200, None);
    let stranger = || basic("bert", "sesame");
    let mut untouched = guarded.client("/b.bin", &basic("anna", "sesame"));
    untouched.try_create().assert(200, None);
    guarded.server.reload(&(own.clone() + &lines("bert")));
    wait_until("she is not allowed any more", || {
        client.ping().status == 403
    });
    (client.send(fragment(0..10))).assert(403, Some(E_ACCESSDENIED));
    // Others do not touch her session.
    let session = untouched.session().to_owned();
    let mut other = guarded.client("/b.bin", &stranger());
    other.adopt(&session);
    (other.send(fragment(0..10))).assert(500, Some(SESSION_NOT_FOUND));
    guarded.server.restart();
    for client in [&mut client, &mut untouched] {
        client.reconnect_to(guarded.server.address());
        client.close().assert(200, None);
    }
    assert!(!guarded.server.file("a.bin").exists());
    assert!(guarded.server.file("b.bin").exists());
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

/// Goal: an upload that was under way when `auth` was set goes on, and ends as somebody's.
#[test]
fn what_nobody_made_is_whose_who_goes_on_with_it() {
    let mut guarded = guarded("");
    let mut begun: Vec<Client> = ["/a.bin", "/b.bin"].map(|at| guarded.client(at, "")).into();
    for client in &mut begun {
        client.try_create().assert(200, None);
        client.send(fragment(0..10).of(20)).assert(200, None);
    }
    let lines = format!(
        "{}auth = [\"basic\"]\nsessions_per_user_max = 2\n",
        files(guarded.folder.path())
    );
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("the settings were reloaded");
    let (anna, bert) = (basic("anna", "sesame"), basic("bert", "sesame"));
    for client in &mut begun {
        client.send(fragment(10..15).of(20)).assert(401, None);
        client.lines = anna.clone();
    }
    begun[0].send(fragment(10..15).of(20)).assert(200, None);
    let thief_hears_nothing = |guarded: &Guarded| {
        let mut thief = guarded.client("/a.bin", &bert);
        thief.adopt(begun[0].session());
        let sent = thief.send(fragment(15..20).of(20));
        sent.assert(500, Some(SESSION_NOT_FOUND));
        thief.close().assert(500, Some(SESSION_NOT_FOUND));
        thief.cancel().assert(500, Some(SESSION_NOT_FOUND));
    };
    thief_hears_nothing(&guarded);
    guarded.server.kill9();
    guarded
        .server
        .restart_with(Settings::default().file(&lines));
    thief_hears_nothing(&guarded);
    // It counts as hers.
    let mut more = ["/c.bin", "/d.bin"].map(|at| guarded.client(at, &anna));
    more[0].try_create().assert(200, None);
    assert_eq!(more[1].try_create().status, 503);
    more[0].cancel().assert(200, None);
    let [a, b] = &mut begun[..] else {
        unreachable!("two")
    };
    a.reconnect_to(guarded.server.address());
    a.send(fragment(15..20).of(20)).assert(200, None);
    a.close().assert(200, None);
    guarded.server.assert_file("a.bin", 1, 20);
    let is_told_of = |path: &str, user: &str| {
        wait_until("the end is logged with its user", || {
            let log = guarded.server.log();
            let mut ends = log
                .lines()
                .filter(|line| line.contains("event=session_ended"));
            ends.any(|line| {
                let shown = [format!("path={path:?}"), format!("user={user:?}")];
                shown.iter().all(|word| line.contains(word)) && line.contains("proof=\"basic\"")
            })
        });
    };
    is_told_of("a.bin", "anna");
    // The end of an upload is a way to go on with it, too.
    b.reconnect_to(guarded.server.address());
    b.lines = bert;
    b.cancel().assert(200, None);
    is_told_of("b.bin", "bert");
}

/// Where each user has a folder of his own, a path of before may lead into that of anybody.
#[test]
fn where_users_have_folders_what_nobody_made_is_there_for_nobody() {
    let mut guarded = guarded("download = \"get\"\n");
    fs::create_dir(guarded.server.file("anna")).unwrap();
    let mut begun = guarded.client("/anna/a.bin", "");
    begun.try_create().assert(200, None);
    begun.send(fragment(0..10).of(20)).assert(200, None);
    let mut ended = guarded.client("/b.bin", "");
    ended.try_create().assert(200, None);
    ended.send(fragment(0..10).of(10)).assert(200, None);
    ended.close().assert(200, None);
    let lines = format!(
        "{}auth = [\"basic\"]\nper_user = true\n",
        files(guarded.folder.path())
    );
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("the settings were reloaded");
    let is_there_for_nobody = |guarded: &Guarded| {
        for user in ["anna", "bert"] {
            let lines = basic(user, "sesame");
            let mut client = guarded.client("/anna/a.bin", &lines);
            client.adopt(begun.session());
            let sent = client.send(fragment(10..20).of(20));
            sent.assert(500, Some(SESSION_NOT_FOUND));
            client.close().assert(500, Some(SESSION_NOT_FOUND));
            client.cancel().assert(500, Some(SESSION_NOT_FOUND));
            let mut client = guarded.client("/b.bin", &lines);
            client.adopt(ended.session());
            client.close().assert(500, Some(SESSION_NOT_FOUND));
        }
        assert!(!guarded.server.file("anna/a.bin").exists());
    };
    is_there_for_nobody(&guarded);
    guarded.server.kill9();
    guarded
        .server
        .restart_with(Settings::default().file(&lines));
    is_there_for_nobody(&guarded);
    // Its client begins again, and its file is where those of its user are.
    let mut again = guarded.client("/anna/a.bin", &basic("bert", "sesame"));
    assert_eq!(again.try_create().status, 404, "bert has no such folder");
    let mut again = guarded.client("/a.bin", &basic("anna", "sesame"));
    again.try_create().assert(200, None);
    again.send(fragment(0..20).of(20)).assert(200, None);
    again.close().assert(200, None);
    guarded.server.assert_file("anna/a.bin", 1, 20);
}

/// Its file has arrived, so its job must not end in an error.
#[test]
fn where_nobody_is_asked_any_more_a_repeated_close_is_answered() {
    let guarded = guarded("auth = [\"basic\"]\n");
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    client.try_create().assert(200, None);
    client.send(fragment(0..10).of(10)).assert(200, None);
    client.close().assert(200, None);
    let mut other = guarded.client("/a.bin", &basic("bert", "sesame"));
    other
        .adopt(client.session())
        .close()
        .assert(500, Some(SESSION_NOT_FOUND));
    guarded.server.reload(&files(guarded.folder.path()));
    guarded.server.wait_for_log("the settings were reloaded");
    client.close().assert(200, None);
    client.lines.clear();
    client.close().assert(200, None);
    let mut other = guarded.client("/b.bin", "");
    other.adopt(client.session());
    other.close().assert(500, Some(SESSION_NOT_FOUND));
}

#[test]
fn a_refusal_names_the_user_who_was_refused() {
    let guarded = guarded("auth = [\"basic\"]\nallow = [\"bert\"]\n");
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    assert_eq!(client.try_create().status, 403);
    guarded
        .server
        .wait_for_log("path=\"a.bin\" user=\"anna\" status=403");
    // Whoever is not known is called by no name, least of all by that of another.
    let mut wrong = guarded.client("/b.bin", &basic("anna", "wrong"));
    assert_eq!(wrong.try_create().status, 401);
    guarded.server.wait_for_log("path=\"b.bin\" status=401");
}

/// Whoever guesses by GET is told of as whoever guesses by packets is.
#[test]
fn a_download_that_is_refused_is_told_with_its_reason() {
    let guarded = guarded("auth = [\"basic\"]\nallow = [\"bert\"]\n");
    let mut client = guarded.client("/a.bin", "");
    let mut get = |lines: &str| client.get("http://localhost/a.bin", lines).status;
    assert_eq!(get(&basic("anna", "wrong")), 401);
    assert_eq!(get(&basic("anna", "sesame")), 403);
    // Whoever has shown nothing was only asked.
    assert_eq!(get(""), 401);
    let log = |line: &str| guarded.server.wait_for_log(line);
    log("path=\"a.bin\" user=\"anna\" status=403");
    let log = guarded.server.log();
    let told: Vec<_> = (log.lines())
        .filter(|line| line.contains("event=download_refused"))
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    assert!(
        told[0].contains("level=INFO") && told[0].contains("path=\"a.bin\" status=401"),
        "{log}"
    );
}

/// How many passwords a server has compared with a hash, by its address for administrators.
fn compared(server: &Server) -> u64 {
    const SERIES: &str = "bitsd_passwords_compared_total ";
    server.wait_for_log("event=admin_listening");
    let log = server.log();
    let address = log.split("event=admin_listening").nth(1).unwrap();
    let address = address.split("listen=\"").nth(1).unwrap();
    let address = address.split('"').next().unwrap();
    let mut raw = Raw::connect(address.parse().unwrap());
    raw.send(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    let page = String::from_utf8(raw.receive().body).unwrap();
    let count = page.lines().find_map(|line| line.strip_prefix(SERIES));
    count.expect("it is counted").parse().unwrap()
}

/// Goal: a good hash costs an upload a fraction of a second, and not that for each fragment.
/// Method: hashes of the cost that administrators are told of, and what was computed is counted.
#[test]
fn a_password_is_compared_once_for_many_fragments_and_anew_after_a_reload() {
    // Of `sesame`, both; 2^12 rounds.
    const HASHES: [&str; 2] = [
        "$2y$12$urna2tD5Fq0/XMH6l6J90OGdrp2cD.jIUhXpO6nGSfg0ny8Xg7KQW",
        "$2y$12$gfwB10prRZQxvrwBrhh/YuF8AJPMZswbMXOrlC1aRIIl0hKuDprT.",
    ];
    const FRAGMENTS: u64 = 258;
    const LINES: &str = "admin_listen = \"127.0.0.1:0\"\nauth = [\"basic\"]\n";
    let mut guarded = guarded(LINES);
    let users = guarded.folder.path().join("users");
    let lines = format!("{}{LINES}", files(guarded.folder.path()));
    let reload = |guarded: &Guarded, content: &str, change: &str| {
        fs::write(&users, content).unwrap();
        guarded.server.reload(&lines);
        guarded.server.wait_for_log(change);
    };
    fs::write(&users, format!("bert:{}\n", HASHES[0])).unwrap();
    // Each shard remembers for itself.
    let settings = guarded.server.settings().flags(&["--cores", "1"]);
    guarded.server.restart_with(settings);
    let mut client = guarded.client("/a.bin", &basic("bert", "sesame"));
    client.try_create().assert(200, None);
    client.send_rest(0, FRAGMENTS, 1);
    assert_eq!(compared(&guarded.server), 1);
    reload(
        &guarded,
        &format!("bert:{}\n", HASHES[1]),
        "users_file: 1 changed",
    );
    client.close().assert(200, None);
    let mut other = guarded.client("/b.bin", &basic("bert", "sesame"));
    other.try_create().assert(200, None);
    other.send_rest(0, FRAGMENTS, 1);
    other.close().assert(200, None);
    assert_eq!(compared(&guarded.server), 2);
    reload(&guarded, "# nobody\n", "users_file: 1 gone");
    assert_asked(&other.close(), &[BASIC]);
}

/// Notepad writes one ("UTF-8 with BOM").
#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    let mut guarded = guarded("auth = [\"basic\", \"bearer\"]\nallow = [\"anna\", \"robot\"]\n");
    for (name, content) in [
        ("users", USERS),
        ("groups", "ops: anna\n"),
        ("tokens", TOKENS),
    ] {
        fs::write(
            guarded.folder.path().join(name),
            format!("\u{feff}{content}"),
        )
        .unwrap();
    }
    guarded.server.kill9();
    guarded.server.restart();
    for lines in [
        basic("anna", "sesame"),
        "Authorization: Bearer great-token\r\n".to_owned(),
    ] {
        let mut client = guarded.client("/a.bin", &lines);
        client.reconnect_to(guarded.server.address());
        client.ping().assert(200, None);
    }
}

#[test]
fn who_guesses_passwords_must_wait_and_others_of_the_same_place_need_not() {
    let guarded = guarded("cores = 1\nauth = [\"basic\"]\ndownload = \"get\"\n");
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
        // Whoever knows one password could try others without end, if this counted.
        known.ping().assert(200, None);
    };
    assert_eq!(asked, 10);
    assert!(waits.field("Retry-After").is_some());
    assert!(waits.reason().contains("too many wrong passwords"));
    // Also the right one is not looked at, but what was right a moment ago is remembered.
    guesser.lines = basic("bert", "sesame");
    guesser.ping().assert(503, None);
    let lines = guesser.lines.clone();
    let get = format!("GET /a.bin HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    guesser.raw.send(get);
    let waits = guesser.raw.receive();
    assert_eq!(waits.status, 503);
    assert!(waits.field("Retry-After").is_some());
    known.ping().assert(200, None);
}

/// Goal: what a client may get wrong does not grow with the cores of the server.
#[test]
fn who_guesses_on_many_connections_has_no_more_tries() {
    let guarded = guarded("cores = 8\nauth = [\"basic\"]\n");
    let mut asked = 0;
    for guess in 0..60 {
        let mut guesser = guarded.client("/a.bin", &basic("anna", &format!("guess {guess}")));
        match guesser.ping().status {
            401 => asked += 1,
            status => assert_eq!(status, 503),
        }
    }
    // The first wait is a second, and a second may pass.
    assert!((10..=13).contains(&asked), "{asked} were compared");
}

/// Ten are free, whether they come at once or one after the other.
#[test]
fn who_guesses_many_passwords_at_once_has_no_more_tries() {
    let mut guarded = guarded("auth = [\"basic\"]\n");
    // Slow enough that all are there before the first ten are compared.
    let hash = bcrypt::hash("sesame", 11).unwrap();
    fs::write(
        guarded.folder.path().join("users"),
        format!("bert:{hash}\n"),
    )
    .unwrap();
    let settings = guarded.server.settings().flags(&["--cores", "1"]);
    guarded.server.restart_with(settings);
    let mut guessers: Vec<_> = (0..40)
        .map(|number| {
            let lines = basic("bert", &format!("guess {number}"));
            guarded.client("/a.bin", &lines)
        })
        .collect();
    for guesser in &mut guessers {
        let lines = guesser.lines.clone();
        guesser.raw.send(format!(
            "BITS_POST /a.bin HTTP/1.1\r\nHost: h\r\nBITS-Packet-Type: Ping\r\nContent-Length: 0\r\n{lines}\r\n"
        ));
    }
    let heard: Vec<_> = (guessers.iter_mut())
        .map(|guesser| guesser.raw.receive())
        .collect();
    let wrong = heard.iter().filter(|response| response.status == 401);
    assert_eq!(wrong.count(), 10);
    let told: Vec<_> = (heard.iter().filter(|response| response.status == 503))
        .filter(|response| response.reason().contains("too many wrong passwords"))
        .map(|response| response.field("Retry-After"))
        .collect();
    assert!(told.len() >= 22, "{}", told.len());
    assert!(told.iter().all(|wait| *wait == Some("1")), "{told:?}");
}

/// Also where nothing is remembered, and where a hash does not look at all of a password.
#[test]
fn who_knows_one_password_cannot_try_others_without_end() {
    let long = "x".repeat(72);
    for memory in ["0s", "5m"] {
        let lines = format!("auth = [\"basic\"]\nauth_memory = {memory:?}\n");
        let mut guarded = guarded(&lines);
        let hash = bcrypt::hash(&long, 4).unwrap();
        let anna = USERS.lines().next().unwrap();
        let users = format!("bert:{hash}\n{anna}\n");
        fs::write(guarded.folder.path().join("users"), users).unwrap();
        guarded.server.restart();
        let mut client = guarded.client("/a.bin", "");
        let mut asked = 0;
        let refused = (0..40).any(|turn| {
            let statuses: Vec<_> = (0..9)
                .map(|number| {
                    client.lines = basic("anna", &format!("guess {turn} {number}"));
                    client.ping().status
                })
                .collect();
            asked += statuses.iter().filter(|status| **status == 401).count();
            client.lines = basic("bert", &format!("{long}{turn}"));
            statuses.contains(&503) || client.ping().status == 503
        });
        assert!(refused && asked <= 19, "{memory}: {asked}");
    }
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

/// Goal: an account file that is cut to nothing, by an editor or a full disk, sends no client away
/// for good. Method: a reload and SIGUSR2 with each of the four emptied, while an upload runs.
#[test]
fn a_file_of_accounts_that_is_emptied_changes_nothing_at_a_reload() {
    let guarded = guarded("");
    let folder = guarded.folder.path();
    let certificates = folder.join("certificates");
    fs::write(&certificates, format!("carl:{}\n", "0f".repeat(32))).unwrap();
    let own = format!("{}certificates_file = {certificates:?}\n", files(folder));
    let lines = |auth: &str| format!("{own}auth = [{auth}]\nallow = [\"anna\", \"robot\"]\n");
    let both = lines("\"basic\", \"bearer\"");
    guarded.server.reload(&both);
    guarded.server.wait_for_log("the settings were reloaded");
    let mut client = guarded.client("/a.bin", &basic("anna", "sesame"));
    client.try_create().assert(200, None);
    let told = |event: &str| guarded.server.log().matches(event).count();
    let wait_for_another = |event: &str, before| {
        wait_until(event, || told(event) > before);
    };
    for (key, content) in [
        ("users", USERS.as_bytes()),
        ("groups", b"ops: anna\n"),
        ("tokens", TOKENS.as_bytes()),
        ("certificates", &fs::read(&certificates).unwrap()),
    ] {
        let path = folder.join(key);
        for nothing in ["", "\n \n"] {
            fs::write(&path, nothing).unwrap();
            let said = format!("{key}_file: there is nothing in {}", path.display());
            let before = told(&said);
            guarded.server.reload(&both);
            wait_for_another(&said, before);
        }
        let before = told("event=not_replaced");
        guarded.server.make_way();
        wait_for_another("event=not_replaced", before);
        fs::write(&path, content).unwrap();
    }
    client.send(fragment(0..1000).of(2000)).assert(200, None);
    // Whoever means nobody says so, or names the file no more.
    fs::write(folder.join("tokens"), "# nobody\n").unwrap();
    let before = told("event=reloaded");
    guarded.server.reload(&both);
    wait_for_another("event=reloaded", before);
    fs::write(folder.join("tokens"), "").unwrap();
    let before = told("event=reloaded");
    let without = lines("\"basic\"").replace("tokens_file", "# tokens_file");
    guarded.server.reload(&without);
    wait_for_another("event=reloaded", before);
    client.send(fragment(1000..2000)).assert(200, None);
    client.close().assert(200, None);
}

/// Makes a network of its own with an address that is none of loopback.
const OWN_NETWORK: &[&str] = &[
    "unshare",
    "--net",
    "sh",
    "-c",
    "ip link set lo up && ip address add 192.0.2.1/32 dev lo && exec \"$@\"",
    "sh",
];

#[test]
fn passwords_are_not_asked_for_where_others_may_listen() {
    let can_have_one = run(&[OWN_NETWORK, &["curl", "--version"]].concat());
    if !can_have_one {
        return skip("there is no network of its own (needs root, unshare, ip and curl)");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), USERS).unwrap();
    fs::write(folder.path().join("groups"), "").unwrap();
    fs::write(folder.path().join("tokens"), TOKENS).unwrap();
    let lines = format!("{}auth = [\"basic\", \"bearer\"]\n", files(folder.path()));
    for (more, status, asked) in [
        ("", "403", 0),
        ("allow_plaintext = true\n", "401", 2),
        // What a proxy passes on, it has had over TLS.
        ("trusted_proxies = [\"192.0.2.1\"]\n", "401", 2),
    ] {
        let settings = Settings::default()
            .file(&format!("{lines}{more}"))
            .flags(&["--listen", "192.0.2.1:0"])
            .wrapper(OWN_NETWORK);
        let server = Server::with(settings);
        let heard = |credentials: &[&str]| {
            let output = Command::new("nsenter")
                .arg(format!("--net=/proc/{}/ns/net", server.pid()))
                .args(["curl", "--silent", "--max-time", "20", "--include"])
                .args([
                    "--request",
                    "BITS_POST",
                    "--header",
                    "BITS-Packet-Type: Ping",
                ])
                .args(credentials)
                .arg(format!("http://{}/a.bin", server.address()))
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let answer = heard(&[]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{more}{answer}"
        );
        let challenges = answer.matches("WWW-Authenticate: ").count();
        assert_eq!(challenges, asked, "{more}{answer}");
        // Nor is one that is right taken: it was told to all who listen.
        let answer = heard(&["--user", "anna:sesame"]);
        let status = if asked == 0 { "403" } else { "200" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{more}{answer}"
        );
    }
}

#[test]
fn curl_uploads_with_a_password() {
    if Command::new("curl").arg("--version").output().is_err() {
        return skip("curl is not installed");
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

/// Goal: what administrators write by Apache's own program is understood. Method: it adds each user
/// to the file that the server reads.
#[test]
fn users_are_those_that_htpasswd_writes() {
    if Command::new("htpasswd").output().is_err() {
        return skip("htpasswd is not installed (apache2-utils)");
    }
    let guarded = guarded("auth = [\"basic\"]\n");
    let users = guarded.folder.path().join("users");
    let write = |args: &[&str]| {
        let mut htpasswd = Command::new("htpasswd");
        let (flags, user) = args.split_at(args.len() - 1);
        htpasswd.args(flags).arg(&users).args(user);
        if !args.contains(&"-D") {
            htpasswd.arg("sesame");
        }
        let output = htpasswd.output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    let lines = format!("{}auth = [\"basic\"]\n", files(guarded.folder.path()));
    write(&["-c", "-b", "-B", "-C", "5", "anna"]);
    write(&["-b", "-B", "bert"]);
    write(&["-b", "-5", "carl"]);
    write(&["-b", "-2", "-r", "6000", "dora"]);
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("the settings were reloaded");
    let assert_known = |user: &str| {
        for (password, status) in [("sesame", 200), ("Sesame", 401)] {
            let mut client = guarded.client("/a.bin", &basic(user, password));
            assert_eq!(client.ping().status, status, "{user}");
        }
    };
    ["anna", "bert", "carl", "dora"]
        .into_iter()
        .for_each(assert_known);
    // What it writes unless it is told otherwise, on some systems.
    write(&["-b", "-m", "emil"]);
    guarded.server.reload(&lines);
    let refused = "users:5: \\\"emil\\\" cannot be used: the hash is MD5";
    guarded.server.wait_for_log(refused);
    assert_known("anna");
    write(&["-D", "emil"]);
    write(&["-D", "bert"]);
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("users_file: 1 gone");
    assert_known("dora");
    let mut gone = guarded.client("/a.bin", &basic("bert", "sesame"));
    assert_asked(&gone.ping(), &[BASIC]);
}

/// Of a proxy that names this user.
fn named(user: &str) -> String {
    format!("X-Remote-User: {user}\r\n")
}

const NAMED: &str =
    "trusted_proxies = \"127.0.0.1\"\nuser_header = \"X-Remote-User\"\nauth = \"proxy\"\n";

/// Nobody is asked for a password because of what a proxy does.
#[test]
fn a_name_of_a_proxy_that_cannot_be_used_is_no_fault_of_the_client() {
    for auth in ["\"proxy\"", "[\"proxy\", \"basic\"]"] {
        let guarded = guarded(&NAMED.replace("\"proxy\"", auth));
        let twice = named("anna") + &named("bert");
        for name in [named("a:b"), named(&"x".repeat(257)), twice] {
            for more in [String::new(), basic("anna", "sesame")] {
                let mut client = guarded.client("/a.bin", &(name.clone() + &more));
                client.ping().assert(403, Some(E_ACCESSDENIED));
            }
        }
        guarded
            .server
            .wait_for_log("what user_header holds must be one name");
        let mut client = guarded.client("/a.bin", &named("anna"));
        client.ping().assert(200, None);
    }
}

#[test]
fn each_user_has_a_folder_of_his_own_and_never_leaves_it() {
    let guarded = guarded(&format!(
        "{NAMED}per_user = true\ndownload = \"get\"\n[[location]]\nprefix = \"in\"\n"
    ));
    let server = &guarded.server;
    fs::create_dir(server.file("in")).unwrap();
    let upload = |user: &str, path: &str, bytes: u64| {
        let mut client = guarded.client(path, &named(user));
        let created = client.try_create();
        if created.status == 200 {
            client.send_rest(0, bytes, bytes);
            client.close().assert(200, None);
        }
        created
    };
    for (user, path, bytes, file) in [
        ("anna", "/a.bin", 10, "anna/a.bin"),
        ("bert", "/a.bin", 20, "bert/a.bin"),
        ("anna", "/in/a.bin", 30, "in/anna/a.bin"),
        ("PC1$", "/in/a.bin", 40, "in/PC1$/a.bin"),
        ("EXAMPLE\\anna", "/a.bin", 50, "EXAMPLE_anna/a.bin"),
        ("..\\..", "/a.bin", 60, ".._../a.bin"),
        ("anna", "/x/../in/./b.bin", 70, "in/anna/b.bin"),
    ] {
        let created = upload(user, path, bytes);
        match file.starts_with(".._..") {
            // It ends in dots, as no folder of Windows does.
            true => created.assert(403, Some(E_ACCESSDENIED)),
            false => {
                server.assert_file(file, 1, bytes);
                created.assert(200, None)
            }
        };
    }
    // Only the user's own folder is made for him.
    upload("anna", "/sub/a.bin", 1).assert(404, None);
    upload("carl", "/sub/a.bin", 1).assert(404, None);
    // What is his he may read; of others' he finds nothing.
    for (user, status, bytes) in [("anna", 200, 10), ("bert", 200, 20), ("carl", 404, 0)] {
        let mut client = guarded.client("/a.bin", "");
        let read = client.get("http://localhost/a.bin", &named(user));
        assert_eq!(read.status, status, "{user}");
        assert!(status != 200 || read.body.len() == bytes, "{user}");
    }
    upload("bert", "/anna/a.bin", 1).assert(404, None);
    for user in [
        "..",
        ".",
        "a/b",
        "../../etc",
        "/etc",
        ".bitsd",
        "CON",
        "anna.",
        "a*b",
    ] {
        upload(user, "/a.bin", 1).assert(403, Some(E_ACCESSDENIED));
    }
    upload(&"u".repeat(256), "/a.bin", 1).assert(403, Some(E_ACCESSDENIED));
    server.wait_for_log("no folder can be called as this user is");
    let mut names: Vec<_> = fs::read_dir(server.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".bitsd", "EXAMPLE_anna", "anna", "bert", "in"]);
}

#[test]
fn an_upload_finds_the_folder_of_its_user_also_after_a_crash() {
    let mut guarded = guarded(&format!("{NAMED}per_user = true\n"));
    let mut client = guarded.client("/a.bin", &named("anna"));
    client.try_create().assert(200, None);
    client.send(fragment(0..10).of(20)).assert(200, None);
    guarded.server.kill9();
    guarded.server.restart();
    client.reconnect_to(guarded.server.address());
    client.send(fragment(10..20).of(20)).assert(200, None);
    client.close().assert(200, None);
    guarded.server.assert_file("anna/a.bin", 1, 20);
}

#[test]
fn a_user_has_so_many_uploads_under_way_from_wherever_they_come() {
    let lines = |count| format!("{NAMED}sessions_per_user_max = {count}\n");
    let mut guarded = guarded(&lines(2));
    let create = |guarded: &Guarded, user: &str, at: u8| {
        let lines = format!("{}X-Forwarded-For: 192.0.2.{at}\r\n", named(user));
        let mut client = guarded.client(&format!("/{user}{at}.bin"), &lines);
        let status = client.try_create().status;
        (client, status)
    };
    let (mut first, status) = create(&guarded, "anna", 1);
    assert_eq!(status, 200);
    assert_eq!(create(&guarded, "anna", 2).1, 200);
    assert_eq!(create(&guarded, "anna", 3).1, 503);
    assert_eq!(create(&guarded, "bert", 3).1, 200);
    guarded
        .server
        .wait_for_log("the user has too many uploads under way");
    guarded.server.kill9();
    guarded.server.restart();
    assert_eq!(create(&guarded, "anna", 3).1, 503, "counted over a restart");
    first.reconnect_to(guarded.server.address());
    first.cancel().assert(200, None);
    assert_eq!(create(&guarded, "anna", 3).1, 200);
    assert_eq!(create(&guarded, "anna", 4).1, 503);
    let more = format!("{}{}", files(guarded.folder.path()), lines(3));
    guarded.server.reload(&more);
    guarded.server.wait_for_log("the settings were reloaded");
    assert_eq!(create(&guarded, "anna", 4).1, 200);
    assert_eq!(create(&guarded, "anna", 5).1, 503);
}

/// Measured is what it computes, since waits on a busy machine say nothing. That both kinds cost
/// the same hash stands in `src/auth/accounts.rs`; this finds whatever else would tell them apart.
/// They take turns, so that both meet the same machine, and the middle of many counts.
///
/// The hash is one of a usual cost, behind which the rest is hidden.
#[test]
fn a_user_that_does_not_exist_costs_as_much_as_one_that_does() {
    const TURNS: usize = 15;
    const TRIES: u32 = 1;
    const BOUNDS: Range<f64> = 0.98..1.02;
    const LINES: &str = "auth = \"basic\"\ntrusted_proxies = \"127.0.0.1\"\n";
    let guarded = guarded(LINES);
    let hash = bcrypt::hash("sesame", 10).unwrap();
    let users = guarded.folder.path().join("users");
    fs::write(users, format!("anna:{hash}\n")).unwrap();
    let lines = format!("{}{LINES}", files(guarded.folder.path()));
    guarded.server.reload(&lines);
    guarded.server.wait_for_log("the settings were reloaded");
    let mut client = guarded.client("/a.bin", "");
    let mut guesses = 0;
    let mut cost = |user: &str| {
        let before = computed(guarded.server.pid());
        for _ in 0..TRIES {
            // Each from another address: nobody has to wait.
            guesses += 1;
            let (high, low) = (guesses / 250, guesses % 250);
            let from = format!("X-Forwarded-For: 10.1.{high}.{low}\r\n");
            client.lines = basic(user, "guess 1") + &from;
            assert_asked(&client.ping(), &[BASIC]);
        }
        computed(guarded.server.pid()) - before
    };
    let middle = |costs: &mut Vec<Duration>| {
        costs.sort();
        costs[costs.len() / 2].as_secs_f64()
    };
    let mut ratio = || {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            // Nor does it count who comes second.
            if turn % 2 == 0 {
                known.push(cost("anna"));
                unknown.push(cost("nobody"));
            } else {
                unknown.push(cost("nobody"));
                known.push(cost("anna"));
            }
        }
        middle(&mut unknown) / middle(&mut known)
    };
    let mut ratios = Vec::new();
    let is_same = (0..3).any(|_| {
        let found = ratio();
        ratios.push(found);
        BOUNDS.contains(&found)
    });
    assert!(is_same, "{ratios:?}");
}
