//! The custody ledger of the real server: a line for each upload before its Ack, over kills and
//! disks that fail, and what `bitsd custody` finds in it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::IFlags;
use sha2::{Digest as _, Sha256};

use support::backend::{Act, Backend};
use support::client::{Client, DISK_FULL, fragment};
use support::content::content;
use support::host::set_flags;
use support::ledger::lines;
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// A server with a ledger beside its root.
struct Kept {
    server: Server,
    ledger: PathBuf,
    _folder: tempfile::TempDir,
}

/// What is left of a day of the ledger, so that it does not end within a test. The clock of the
/// machine is what is waited for.
const REST_OF_DAY_MIN: Duration = Duration::from_secs(30);

fn await_tomorrow_if_it_is_near() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let left = 86_400 - since.as_secs() % 86_400;
    if left < REST_OF_DAY_MIN.as_secs() {
        std::thread::sleep(Duration::from_secs(left));
    }
}

fn kept(lines: &str) -> Kept {
    await_tomorrow_if_it_is_near();
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("custody");
    fs::create_dir(&ledger).unwrap();
    let server = Server::on(&folder.path().join("root"), settings(&ledger, lines));
    Kept {
        server,
        ledger,
        _folder: folder,
    }
}

fn settings(ledger: &Path, lines: &str) -> Settings {
    let custody = format!("custody = {ledger:?}\ndigest = \"sha-256\"\n{lines}");
    Settings::default().file(&custody)
}

fn upload(server: &Server, path: &str, seed: u64, bytes: u64) -> Client {
    let mut client = Client::create(server.address(), path).seed(seed);
    client.send(fragment(0..bytes)).assert(200, None);
    client
}

fn custody(words: &[&str], ledger: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.arg("custody").args(words).arg(ledger);
    command.output().unwrap()
}

/// What `verify` says, and its exit code.
fn verify(words: &[&str], ledger: &Path) -> (Option<i32>, String) {
    let output = custody(&[&["verify"], words].concat(), ledger);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn assert_whole(ledger: &Path) {
    let (code, said) = verify(&["--files"], ledger);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_line_stands_there_when_the_close_is_acked() {
    let kept = kept("create_dirs = true");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let mut client = Client::create(server.address(), "/case/a%20b.bin").seed(7);
    client.send(fragment(0..1000).of(3000)).assert(200, None);
    // It begins again where it had been.
    client.reconnect();
    client.send(fragment(500..3000).of(3000)).assert(200, None);
    client.close().assert(200, None);
    let lines = lines(ledger);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let real = fs::canonicalize(server.root()).unwrap();
    let real = real.to_str().unwrap().to_owned();
    let sha256: String = (Sha256::digest(content(7, 0, 3000)).iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    for (field, value) in [
        ("ending", "published"),
        ("location", ""),
        ("root", &real),
        ("path", "case/a b.bin"),
        ("sha256", &sha256),
        ("client", "127.0.0.1"),
        ("agent", "Microsoft BITS/7.8"),
        ("session", client.session().trim_matches(['{', '}'])),
        ("prev", &"0".repeat(64)),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    assert_eq!(
        (&line["bytes"], &line["resumes"]),
        (&3000.into(), &1.into())
    );
    let time = |field: &str| line[field].as_str().unwrap().to_owned();
    assert!(time("first_byte") <= time("last_byte") && time("last_byte") <= time("time"));
    assert!(!line["host"].as_str().unwrap().is_empty());
    // A client whose Ack was lost asks again.
    client.close().assert(200, None);
    assert_eq!(self::lines(ledger).len(), 1);
    assert_whole(ledger);
    let day = fs::read_dir(ledger).unwrap().next().unwrap().unwrap();
    let mode = day.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn uploads_that_end_without_a_file_have_lines_too() {
    let kept = kept("session_timeout = \"3s\"");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let mut cancelled = Client::create(server.address(), "/cancelled.bin");
    cancelled.send(fragment(0..10).of(30)).assert(200, None);
    cancelled.cancel().assert(200, None);
    let mut expired = Client::create(server.address(), "/expired.bin");
    expired.send(fragment(0..20).of(30)).assert(200, None);
    // Nothing came of it.
    let mut empty = Client::create(server.address(), "/empty.bin");
    empty.cancel().assert(200, None);
    wait_until("both have their lines", || lines(ledger).len() == 2);
    let told: Vec<_> = lines(ledger)
        .iter()
        .map(|line| {
            (
                line["ending"].to_string(),
                line["bytes"].as_u64(),
                line["total"].as_u64(),
            )
        })
        .collect();
    assert_eq!(told[0], ("\"cancelled\"".to_owned(), Some(10), Some(30)));
    assert_eq!(told[1], ("\"expired\"".to_owned(), Some(20), Some(30)));
    assert_whole(ledger);
}

#[test]
fn a_file_that_is_named_with_its_last_fragment_has_its_line_then() {
    let kept = kept("publish = \"last-fragment\"");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let mut client = upload(server, "/a.bin", 1, 30);
    assert_eq!(lines(ledger).len(), 1);
    client.send(fragment(0..30)).assert(200, None);
    client.close().assert(200, None);
    assert_eq!(lines(ledger).len(), 1);
}

#[test]
fn what_an_application_has_taken_has_a_line() {
    let backend = Backend::always(Act::status(200));
    let url = backend.url("/app");
    let kept = kept(&format!(
        "notification_type = \"by-reference\"\nnotification_url = \"{url}\""
    ));
    let (server, ledger) = (&kept.server, &kept.ledger);
    let mut client = upload(server, "/a.bin", 1, 30);
    assert_eq!(lines(ledger).len(), 0);
    client.close().assert(200, None);
    let lines = lines(ledger);
    assert_eq!((lines.len(), &lines[0]["bytes"]), (1, &30.into()));
}

/// Goal: no Ack without its line, none twice, and one chain. Method: the server is killed while
/// clients close, again and again.
#[test]
fn each_close_that_was_acked_has_one_line_after_kills() {
    let mut kept = kept("create_dirs = true");
    let mut acked = Vec::new();
    for life in 0..4 {
        let address = kept.server.address();
        let clients: Vec<_> = (0..12)
            .map(|number| {
                std::thread::spawn(move || {
                    let path = format!("life-{life}/{number}.bin");
                    let mut client = Client::create(address, &format!("/{path}")).seed(number);
                    client.send(fragment(0..5_000)).assert(200, None);
                    let closed = client.try_close();
                    let is_acked = closed.is_some_and(|answer| answer.status == 200);
                    (path, client.session().to_owned(), is_acked)
                })
            })
            .collect();
        wait_until("the first lines are written", || {
            lines(&kept.ledger).len() > acked.len()
        });
        kept.server.kill9();
        let mut unheard = Vec::new();
        for client in clients {
            match client.join() {
                Ok((path, _, true)) => acked.push(path),
                Ok((path, session, false)) => unheard.push((path, session)),
                // It was not as far as that.
                Err(_) => {}
            }
        }
        kept.server.restart();
        for (path, session) in unheard {
            let mut again = Client::new(kept.server.address(), &format!("/{path}"));
            again.adopt(&session);
            if again.close().status == 200 {
                acked.push(path);
            }
        }
    }
    let lines = lines(&kept.ledger);
    for path in &acked {
        let count = lines.iter().filter(|line| line["path"] == **path).count();
        assert_eq!(count, 1, "{path}");
    }
    for line in &lines {
        let path = line["path"].as_str().unwrap();
        assert!(kept.server.file(path).exists(), "{path}");
    }
    assert_whole(&kept.ledger);
    assert!(acked.len() >= 4, "{acked:?}");
}

#[test]
fn where_the_ledger_cannot_be_written_nothing_is_acked_and_nothing_is_lost() {
    let mut kept = kept("");
    let mut client = upload(&kept.server, "/a.bin", 3, 30);
    let away = kept.ledger.with_extension("away");
    fs::rename(&kept.ledger, &away).unwrap();
    client.close().assert(503, None);
    kept.server.wait_for_log("event=disk_failed");
    kept.server.wait_for_log("event=custody_failed");
    // The file stands there, and is not given up: the client comes back.
    kept.server.assert_file("a.bin", 3, 30);
    client.close().assert(503, None);
    kept.server.kill9();
    // Nor does anybody end the session without its line.
    let offline = kept.ledger.with_file_name("offline.toml");
    let (root, settings) = (kept.server.root(), kept.server.settings().file);
    fs::write(&offline, format!("root = {root:?}\n{settings}")).unwrap();
    let id = client.session().trim_matches(['{', '}']).to_owned();
    let mut cancel = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    cancel.args(["sessions", "cancel", &id, "--config"]);
    let output = cancel.arg(&offline).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the next start of the server does that"),
        "{said}"
    );
    fs::rename(&away, &kept.ledger).unwrap();
    kept.server.restart();
    client.reconnect_to(kept.server.address());
    client.close().assert(200, None);
    assert_eq!(lines(&kept.ledger).len(), 1);
    client.close().assert(200, None);
    assert_eq!(lines(&kept.ledger).len(), 1);
    assert_whole(&kept.ledger);
}

#[test]
fn a_session_that_was_read_back_gets_its_line_by_itself() {
    let mut kept = kept("");
    let mut client = upload(&kept.server, "/a.bin", 3, 30);
    let away = kept.ledger.with_extension("away");
    fs::rename(&kept.ledger, &away).unwrap();
    client.close().assert(503, None);
    kept.server.kill9();
    fs::rename(&away, &kept.ledger).unwrap();
    kept.server.restart();
    kept.server.wait_for_log("event=session_ended");
    assert_eq!(lines(&kept.ledger).len(), 1);
    client.reconnect_to(kept.server.address());
    client.close().assert(200, None);
    assert_eq!(lines(&kept.ledger).len(), 1);
}

/// How settings change between the name of a file and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    AtAStart,
    AtAReload,
}

/// Goal: a line says where the file is, and its digest file stands beside it, whatever the settings
/// say by then. Method: a file has its name and not its line, and its path leads to another root
/// before the ledger can be written again.
#[test]
fn a_line_says_where_the_file_was_given_its_name() {
    for changed in [Changed::AtAStart, Changed::AtAReload] {
        let mut kept = kept("create_dirs = true\ndigest_file = true");
        let mut client = upload(&kept.server, "/l/x", 3, 30);
        let away = kept.ledger.with_extension("away");
        fs::rename(&kept.ledger, &away).unwrap();
        client.close().assert(503, None);
        kept.server.assert_file("l/x", 3, 30);
        let other = kept.ledger.with_file_name("other");
        fs::create_dir(&other).unwrap();
        let moved = (kept.server.settings())
            .file(&format!("[[location]]\nprefix = \"/l\"\nroot = {other:?}"));
        match changed {
            Changed::AtAStart => {
                kept.server.kill9();
                fs::rename(&away, &kept.ledger).unwrap();
                kept.server.restart_with(moved);
                client.reconnect_to(kept.server.address());
            }
            Changed::AtAReload => {
                fs::rename(&away, &kept.ledger).unwrap();
                kept.server.wait_for_log("event=custody_restored");
                kept.server.reload(&moved.file);
                kept.server.wait_for_log("event=reloaded");
            }
        }
        client.close().assert(200, None);
        let told = lines(&kept.ledger);
        let real = fs::canonicalize(kept.server.root()).unwrap();
        assert_eq!(told.len(), 1, "{changed:?}");
        for (field, value) in [
            ("root", real.to_str().unwrap()),
            ("path", "l/x"),
            ("location", ""),
        ] {
            assert_eq!(told[0][field], value, "{changed:?}: {field}");
        }
        let digest_file = fs::read_to_string(kept.server.file("l/x.sha256")).unwrap();
        assert!(digest_file.ends_with("  x\n"), "{changed:?}: {digest_file}");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0, "{changed:?}");
        assert_whole(&kept.ledger);
    }
}

/// The same, and no settings name the root any more in which the file stands.
#[test]
fn a_digest_file_is_made_in_no_other_root_than_its_file() {
    let mut kept = kept("create_dirs = true\ndigest_file = true");
    let plain = kept.server.settings();
    let other = kept.ledger.with_file_name("other");
    fs::create_dir(&other).unwrap();
    kept.server.restart_with(
        plain
            .clone()
            .file(&format!("[[location]]\nprefix = \"/l\"\nroot = {other:?}")),
    );
    let mut client = upload(&kept.server, "/l/x", 3, 30);
    let away = kept.ledger.with_extension("away");
    fs::rename(&kept.ledger, &away).unwrap();
    client.close().assert(503, None);
    // The digest file was there before the line.
    fs::remove_file(other.join("x.sha256")).unwrap();
    kept.server.kill9();
    fs::rename(&away, &kept.ledger).unwrap();
    kept.server.restart_with(plain);
    kept.server.wait_for_log("event=session_ended");
    kept.server.wait_for_log("event=not_given");
    let told = lines(&kept.ledger);
    let real = fs::canonicalize(&other).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["root"], real.to_str().unwrap());
    assert_eq!(
        (&told[0]["path"], &told[0]["location"]),
        (&"x".into(), &"l".into())
    );
    assert!(!kept.server.file("l").exists());
    assert_whole(&kept.ledger);
}

/// Goal: what a ledger that could not be written did not get is not forgotten. Method: uploads end
/// without a file while its folder is away; it comes back, and then it is away until the end.
#[test]
fn lines_that_nobody_waits_for_are_kept_until_they_can_be_written_and_else_told() {
    let mut kept = kept("");
    let begun = |path: &str| {
        let mut client = Client::create(kept.server.address(), path);
        client.send(fragment(0..10).of(30)).assert(200, None);
        client
    };
    let mut clients = ["/a.bin", "/b.bin", "/c.bin"].map(begun);
    let away = kept.ledger.with_extension("away");
    fs::rename(&kept.ledger, &away).unwrap();
    clients[0].cancel().assert(200, None);
    clients[1].cancel().assert(200, None);
    kept.server.wait_for_log("event=custody_failed");
    fs::rename(&away, &kept.ledger).unwrap();
    wait_until("both have their lines", || lines(&kept.ledger).len() == 2);
    kept.server.wait_for_log("event=custody_restored");
    fs::rename(&kept.ledger, &away).unwrap();
    clients[2].cancel().assert(200, None);
    kept.server.terminate();
    kept.server.wait();
    let log = kept.server.log();
    let told = log
        .lines()
        .find(|line| line.contains("event=custody_lines_lost"));
    assert!(told.is_some_and(|line| line.contains("lines=1")), "{log}");
    assert_eq!(lines(&away).len(), 2);
    assert_whole(&away);
}

#[test]
fn a_full_disk_of_the_ledger_is_told_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = "noatime";
    let Some(disk) = Disk::mount(folder.path(), &["mkfs.ext4", "-q", "-F"], 8 << 20, options)
    else {
        return skip("a file system in an image cannot be mounted");
    };
    let ledger = disk.path().join("custody");
    fs::create_dir(&ledger).unwrap();
    let socket = folder.path().join("admin");
    let lines = format!("admin_socket = {socket:?}\n");
    let server = Server::on(&folder.path().join("root"), settings(&ledger, &lines));
    upload(&server, "/first.bin", 1, 30)
        .close()
        .assert(200, None);
    // Where nothing is free, none begins.
    let begun: Vec<_> = (0..64)
        .map(|number| upload(&server, &format!("/{number}.bin"), 1, 30))
        .collect();
    let filler = disk.path().join("filler");
    let free = disk.free_bytes();
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", "conv=fsync"])
        .arg(format!("of={}", filler.display()))
        .arg(format!("count={}", free / 4096 + 16))
        .output()
        .unwrap();
    assert!(!filled.status.success(), "the disk takes more than is free");
    // What is left of its last block takes some lines.
    let mut client = None;
    for mut next in begun {
        if next.close().status != 200 {
            client = Some(next);
            break;
        }
    }
    let mut client = client.expect("the disk is full");
    client.close().assert(500, Some(DISK_FULL));
    // Whoever would end it hears what it waits for.
    let id = client.session().trim_matches(['{', '}']).to_owned();
    let mut cancel = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    cancel.args(["sessions", "cancel", &id, "--socket"]);
    let said = cancel.arg(&socket).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(
        said.contains("its line in the custody ledger or its digest file"),
        "{said}"
    );
    fs::remove_file(filler).unwrap();
    wait_until("the disk takes lines again", || {
        client.close().status == 200
    });
    assert_whole(&ledger);
}

/// Goal: the file of the day may be as long as a limit allows, and whoever raises that is told to.
/// Method: uploads end until it is.
#[test]
fn a_limit_on_the_length_of_files_is_told_as_one() {
    await_tomorrow_if_it_is_near();
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("custody");
    fs::create_dir(&ledger).unwrap();
    // In blocks of 512 bytes or of a KiB, as the shell counts.
    let wrapper = ["sh", "-c", "ulimit -f 60; exec \"$@\"", "sh"];
    let settings = settings(&ledger, "cores = 1\n").wrapper(&wrapper);
    let server = Server::on(&folder.path().join("root"), settings);
    server.wait_for_log("the journal or a day of the custody ledger");
    let refused = (0..1_000).find_map(|number| {
        let name = format!("/{number}-{}.bin", "n".repeat(150));
        let mut client = Client::create(server.address(), &name);
        client.send(fragment(0..10)).assert(200, None);
        let told = client.close();
        (told.status != 200).then_some(told)
    });
    refused.unwrap().assert(503, None);
    for event in ["custody_failed", "disk_failed"] {
        let event = format!("event={event}");
        server.wait_for_log(&event);
        let log = server.log();
        let line = log.lines().find(|line| line.contains(&event)).unwrap();
        assert!(line.contains("raise LimitFSIZE= of the service"), "{line}");
    }
}

#[test]
fn a_torn_end_is_set_apart_at_the_next_start() {
    let mut kept = kept("");
    upload(&kept.server, "/a.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.kill9();
    let day = fs::read_dir(&kept.ledger)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&day).unwrap();
    let half = bytes[..100].to_vec();
    bytes.extend(half);
    fs::write(&day, bytes).unwrap();
    kept.server.restart();
    upload(&kept.server, "/b.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.wait_for_log("event=custody_torn");
    assert_eq!(lines(&kept.ledger).len(), 2);
    let (code, said) = verify(&[], &kept.ledger);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("an end that a crash has torn off"), "{said}");
}

#[test]
fn the_log_is_a_witness_of_the_end() {
    let mut kept = kept("");
    for number in 0..3 {
        upload(&kept.server, &format!("/{number}.bin"), 1, 30)
            .close()
            .assert(200, None);
    }
    kept.server.stop();
    kept.server.wait_for_log("event=custody_head");
    let log = kept.server.log();
    let head = log.split("head=").nth(1).unwrap()[..64].to_owned();
    let (code, said) = verify(&["--head", &head], &kept.ledger);
    assert_eq!(code, Some(0), "{said}");
    // What was taken off the end is missed.
    let day = fs::read_dir(&kept.ledger)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let text = fs::read_to_string(&day).unwrap();
    let shorter: Vec<_> = text.split_inclusive('\n').take(2).collect();
    fs::write(&day, shorter.concat()).unwrap();
    let (code, said) = verify(&["--head", &head], &kept.ledger);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the end is missing"), "{said}");
    // That of an empty ledger proves no more than none.
    for words in [&[][..], &["--head", &"0".repeat(64)]] {
        let (code, said) = verify(words, &kept.ledger);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("nothing proves that this is the end"),
            "{said}"
        );
    }
}

#[test]
fn a_file_that_was_changed_is_found_and_a_report_has_all_of_it() {
    let kept = kept("create_dirs = true");
    let (server, ledger) = (&kept.server, &kept.ledger);
    for name in ["h1/a.bin", "h1/b.bin", "h2/a.bin"] {
        upload(server, &format!("/{name}"), 1, 30)
            .close()
            .assert(200, None);
    }
    fs::write(server.file("h1/b.bin"), [0; 30]).unwrap();
    let (code, said) = verify(&["--files"], ledger);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("h1/b.bin: its SHA-256 is not that of"),
        "{said}"
    );
    assert_eq!(verify(&[], ledger).0, Some(0));
    let output = custody(&["export", "--path", "h1/"], ledger);
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), report.lines().count()), (Some(0), 3));
    assert!(report.contains(",h1/a.bin,30,30,"), "{report}");
    // As other commands show paths; and by the settings that name the ledger.
    let output = custody(&["export", "--path", "/h1/"], ledger);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), report);
    let file = ledger.with_extension("toml");
    fs::write(
        &file,
        format!("custody = {ledger:?}\nroot = \"/nowhere\"\n"),
    )
    .unwrap();
    let by_settings = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let command = command.arg("custody").args(words).arg("--config");
        command.arg(&file).output().unwrap()
    };
    assert_eq!(by_settings(&["verify"]).status.code(), Some(0));
    let output = by_settings(&["export", "--path", "h1/"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), report);
    fs::write(&file, "root = \"/nowhere\"\n").unwrap();
    let output = by_settings(&["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("names no `custody`"), "{said}");
    let output = custody(&["export", "--path", "none"], ledger);
    assert_eq!(output.status.code(), Some(1));
    let mut full = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    full.args(["custody", "export"]).arg(ledger);
    full.stdout(fs::File::create("/dev/full").unwrap());
    let output = full.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let nowhere = ledger.join("nowhere");
    assert_eq!(verify(&[], &nowhere).0, Some(1));
    assert_eq!(verify(&["--head", "12"], ledger).0, Some(2));
}

/// Goal: nobody is accused who has done nothing. Method: a file gets its name while its line cannot
/// be written, another one replaces it and has its line first; and a folder has two names.
#[test]
fn a_file_is_right_whose_line_is_not_the_last() {
    let mut kept = kept("cores = 1\nallow_overwrite = true\ncreate_dirs = true");
    let mut first = upload(&kept.server, "/a.bin", 1, 30);
    let away = kept.ledger.with_extension("away");
    fs::rename(&kept.ledger, &away).unwrap();
    first.close().assert(503, None);
    fs::rename(&away, &kept.ledger).unwrap();
    kept.server.wait_for_log("event=custody_restored");
    upload(&kept.server, "/a.bin", 2, 30)
        .close()
        .assert(200, None);
    first.close().assert(200, None);
    let named: Vec<_> = lines(&kept.ledger)
        .iter()
        .map(|line| line["named"].as_str().unwrap().to_owned())
        .collect();
    assert!(named.len() == 2 && named[1] < named[0], "{named:?}");
    kept.server.assert_file("a.bin", 2, 30);
    assert_whole(&kept.ledger);
    // The same over a restart, in which the first one gets its line by itself.
    let mut first = upload(&kept.server, "/b.bin", 1, 30);
    fs::rename(&kept.ledger, &away).unwrap();
    first.close().assert(503, None);
    kept.server.kill9();
    fs::rename(&away, &kept.ledger).unwrap();
    kept.server.restart();
    wait_until("its line is there", || lines(&kept.ledger).len() == 3);
    upload(&kept.server, "/b.bin", 2, 30)
        .close()
        .assert(200, None);
    assert_whole(&kept.ledger);
    upload(&kept.server, "/d/c.bin", 1, 30)
        .close()
        .assert(200, None);
    std::os::unix::fs::symlink("d", kept.server.file("link")).unwrap();
    upload(&kept.server, "/link/c.bin", 2, 30)
        .close()
        .assert(200, None);
    assert_whole(&kept.ledger);
    // Who puts an older one back is told of.
    fs::write(
        kept.server.file("d/c.bin"),
        support::content::content(1, 0, 30),
    )
    .unwrap();
    let (code, said) = verify(&["--files"], &kept.ledger);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("somebody has put it back"), "{said}");
}

/// What an application has made of a file is what its line says, beside what came.
#[test]
fn a_line_tells_of_a_file_that_its_application_has_changed() {
    let backend = Backend::always(Act::ChangeFile(b"changed".to_vec()));
    let kept = kept(&format!(
        "notification_type = \"by-reference\"\nnotification_url = \"{}\"",
        backend.url("/app")
    ));
    upload(&kept.server, "/a.bin", 3, 30)
        .close()
        .assert(200, None);
    let hex = |bytes: &[u8]| -> String {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let line = &lines(&kept.ledger)[0];
    let file = fs::read(kept.server.file("a.bin")).unwrap();
    assert!(file.starts_with(b"changed"));
    assert_eq!(line["sha256"], hex(&file));
    assert_eq!(line["sent_sha256"], hex(&content(3, 0, 30)));
    assert_whole(&kept.ledger);
}

/// Goal: what could not be closed is not begun, and what runs goes on. Method: the folder of the
/// ledger is away for a while.
#[test]
fn no_upload_is_begun_while_its_line_could_not_be_written() {
    let kept = kept("");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let mut client = upload(server, "/a.bin", 1, 30);
    let away = ledger.with_extension("away");
    fs::rename(ledger, &away).unwrap();
    client.close().assert(503, None);
    let create = |path: &str| Client::new(server.address(), path).try_create();
    create("/b.bin").assert(503, None);
    server.wait_for_log("see the line custody_failed");
    fs::rename(&away, ledger).unwrap();
    wait_until("uploads begin again", || create("/b.bin").status == 200);
    client.close().assert(200, None);
    assert_whole(ledger);
}

/// The same before it fails: its file system keeps room for the lines of what runs.
#[test]
fn no_upload_is_begun_where_little_is_free_for_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), &["mkfs.ext4", "-q", "-F"], 16 << 20, "rw") else {
        return skip("ext4 cannot be mounted (needs root)");
    };
    let ledger = disk.path().join("custody");
    fs::create_dir(&ledger).unwrap();
    let lines = "[limits]\nfree_bytes_min = \"4 MiB\"";
    let server = Server::on(&folder.path().join("root"), settings(&ledger, lines));
    let mut client = upload(&server, "/a.bin", 1, 30);
    let filler = disk.path().join("filler");
    let bytes = usize::try_from(disk.free_bytes() - (2 << 20)).unwrap();
    let mut file = fs::File::create(&filler).unwrap();
    std::io::Write::write_all(&mut file, &vec![1; bytes]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let create = || Client::new(server.address(), "/b.bin").try_create();
    wait_until("no upload is begun", || create().status == 500);
    create().assert(500, Some(DISK_FULL));
    client.close().assert(200, None);
    fs::remove_file(&filler).unwrap();
    wait_until("uploads begin again", || create().status == 200);
    assert_eq!(self::lines(&ledger).len(), 1);
}

/// Goal: what a full disk has torn of an append-only day is ended when there is room, without a
/// restart. Method: the ledger is on a small disk, which is filled up until a line does not fit.
#[test]
fn an_append_only_day_goes_on_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path(), &["mkfs.ext4", "-q", "-F"], 16 << 20, "rw") else {
        return skip("ext4 cannot be mounted (needs root)");
    };
    let ledger = disk.path().join("custody");
    fs::create_dir(&ledger).unwrap();
    let server = Server::on(&folder.path().join("root"), settings(&ledger, ""));
    upload(&server, "/a.bin", 1, 30).close().assert(200, None);
    let day = day_of(&ledger);
    if !set_flags(&day, IFlags::APPEND) {
        return;
    }
    // Where nothing is free, none begins.
    let begun: Vec<_> = (0..64)
        .map(|number| upload(&server, &format!("/f{number}.bin"), 1, 30))
        .collect();
    let filler = disk.path().join("filler");
    let file = fs::File::create(&filler).unwrap();
    // To the last block.
    for size in [1 << 20, 4096] {
        while std::os::unix::fs::FileExt::write_all_at(
            &file,
            &vec![1; size],
            file.metadata().unwrap().len(),
        )
        .is_ok()
        {}
    }
    let _ = file.sync_all();
    let refused = begun.into_iter().find_map(|mut client| {
        let answer = client.close();
        (answer.status != 200).then_some(client)
    });
    let mut refused = refused.expect("the disk is full");
    drop(file);
    fs::remove_file(&filler).unwrap();
    server.wait_for_log("event=custody_restored");
    refused.close().assert(200, None);
    let mut last = Client::new(server.address(), "/z.bin");
    wait_until("uploads begin again", || last.try_create().status == 200);
    last.send(fragment(0..30)).assert(200, None);
    last.close().assert(200, None);
    assert_whole(&ledger);
    set_flags(&day, IFlags::empty());
}

/// The file of the day; there is one.
fn day_of(ledger: &Path) -> PathBuf {
    let names = fs::read_dir(ledger).unwrap();
    let mut days = names.map(|name| name.unwrap().path());
    let is_day = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
    days.find(is_day).unwrap()
}

#[test]
fn what_is_done_to_the_file_of_the_day_is_told_and_no_line_is_nowhere() {
    let kept = kept("");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let close = |path: &str| {
        upload(server, path, 1, 30).close().assert(200, None);
    };
    close("/a.bin");
    let day = day_of(ledger);
    fs::remove_file(&day).unwrap();
    // Where nothing comes, too.
    server.wait_for_log("its file was removed: it was written anew");
    assert_eq!(lines(ledger).len(), 1);
    fs::rename(&day, day.with_extension("bak")).unwrap();
    close("/b.bin");
    server.wait_for_log("its file is not in the folder under its name");
    // As `sed -i` does, or whoever rotates logs.
    fs::remove_file(&day).unwrap();
    fs::write(&day, "something else\n").unwrap();
    close("/c.bin");
    server.wait_for_log("something else had its name");
    let names: Vec<_> = (lines(ledger).iter())
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a.bin", "b.bin", "c.bin"]);
    let (code, said) = verify(&["--files"], ledger);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(".jsonl.1.other is what somebody"), "{said}");
    // What was cut off is lost, and that is seen.
    fs::write(&day, "").unwrap();
    close("/d.bin");
    server.wait_for_log("bytes were cut off its end");
    let (code, said) = verify(&[], ledger);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(lines(ledger).len(), 1);
}

#[test]
fn no_upload_is_closed_while_the_folder_of_the_ledger_is_not_in_its_place() {
    let kept = kept("");
    let (server, ledger) = (&kept.server, &kept.ledger);
    upload(server, "/a.bin", 1, 30).close().assert(200, None);
    let mut client = upload(server, "/b.bin", 1, 30);
    let away = ledger.with_extension("away");
    fs::rename(ledger, &away).unwrap();
    // Where nothing comes, too.
    server.wait_for_log("event=custody_failed");
    client.close().assert(503, None);
    assert_eq!(lines(&away).len(), 1);
    // Somebody has put the old one away for good.
    fs::create_dir(ledger).unwrap();
    client.close().assert(200, None);
    server.wait_for_log("another folder has its place");
    assert_eq!(lines(ledger).len(), 2);
    assert_whole(ledger);
}

/// Unmounts, whatever a test has found.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The sync of the ledger makes the names of files durable only on its own file system.
#[test]
fn a_disk_that_is_mounted_over_the_ledger_gets_no_line() {
    let kept = kept("");
    let (server, ledger) = (&kept.server, &kept.ledger);
    upload(server, "/a.bin", 1, 30).close().assert(200, None);
    let mut client = upload(server, "/b.bin", 1, 30);
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "mode=700", "none"]);
    let mounted = mount.arg(ledger).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip("no file system can be mounted");
    }
    let over = Mounted(ledger.clone());
    client.close().assert(503, None);
    server.wait_for_log("is on another file system now");
    assert_eq!(fs::read_dir(ledger).unwrap().count(), 0);
    drop(over);
    client.close().assert(200, None);
    server.wait_for_log("event=custody_restored");
    assert_eq!(lines(ledger).len(), 2);
    assert_whole(ledger);
}

#[test]
fn lines_that_go_into_a_day_to_come_are_told_of() {
    let mut kept = kept("");
    upload(&kept.server, "/a.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.stop();
    // As if the clock had been ahead.
    fs::rename(day_of(&kept.ledger), kept.ledger.join("2999-01-01.jsonl")).unwrap();
    kept.server.restart();
    upload(&kept.server, "/b.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.wait_for_log("event=custody_ahead");
    assert_eq!(lines(&kept.ledger).len(), 2);
    assert_eq!(verify(&[], &kept.ledger).0, Some(0));
}

#[test]
fn a_start_misses_the_end_that_was_taken_away_meanwhile() {
    let mut kept = kept("");
    upload(&kept.server, "/a.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.stop();
    let day = day_of(&kept.ledger);
    fs::rename(&day, day.with_extension("bak")).unwrap();
    kept.server.restart();
    kept.server.wait_for_log("event=custody_cut");
    upload(&kept.server, "/b.bin", 1, 30)
        .close()
        .assert(200, None);
    let (code, said) = verify(&[], &kept.ledger);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("earlier days are missing"), "{said}");
    // Behind the one that was taken away it fits.
    let new = day_of(&kept.ledger);
    let old = fs::read(day.with_extension("bak")).unwrap();
    let whole = [old, fs::read(&new).unwrap()].concat();
    kept.server.stop();
    fs::write(new, whole).unwrap();
    assert_eq!(verify(&[], &kept.ledger).0, Some(0));
}

#[test]
fn a_line_names_its_root_so_that_it_is_found_from_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("custody");
    let (root, link) = (folder.path().join("root"), folder.path().join("link"));
    for path in [&ledger, &root] {
        fs::create_dir(path).unwrap();
    }
    std::os::unix::fs::symlink("root", &link).unwrap();
    // From wherever the tests run, up to the first folder.
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(link.strip_prefix("/").unwrap());
    let server = Server::on(&relative, settings(&ledger, ""));
    upload(&server, "/a.bin", 1, 30).close().assert(200, None);
    let real = fs::canonicalize(&root).unwrap();
    assert_eq!(lines(&ledger)[0]["root"], real.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    command.args(["custody", "verify", "--files"]).arg(&ledger);
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Goal: evidence that was sealed is no reason to close nothing. Method: the day is append-only
/// over a restart; then it is immutable, and a start and a check say so with what helps.
#[test]
fn a_day_that_is_append_only_goes_on_after_a_restart() {
    let mut kept = kept("");
    upload(&kept.server, "/a.bin", 1, 30)
        .close()
        .assert(200, None);
    let day = day_of(&kept.ledger);
    if !set_flags(&day, IFlags::APPEND) {
        return;
    }
    upload(&kept.server, "/b.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.restart();
    upload(&kept.server, "/c.bin", 1, 30)
        .close()
        .assert(200, None);
    assert_eq!(lines(&kept.ledger).len(), 3);
    kept.server.stop();
    assert_whole(&kept.ledger);
    set_flags(&day, IFlags::IMMUTABLE);
    let (_, said) = Server::refused(kept.server.root(), &kept.server.settings());
    set_flags(&day, IFlags::empty());
    assert!(said.contains("chattr -i -a"), "{said}");
    kept.server.restart();
}

/// Goal: what says nothing stops nobody. Method: before a start, a folder has the name of the day,
/// and an empty file that of a day to come.
#[test]
fn a_folder_in_the_place_of_the_day_is_set_apart() {
    let mut kept = kept("");
    upload(&kept.server, "/a.bin", 1, 30)
        .close()
        .assert(200, None);
    let day = day_of(&kept.ledger);
    kept.server.stop();
    fs::rename(&day, day.with_extension("bak")).unwrap();
    fs::create_dir(&day).unwrap();
    fs::write(kept.ledger.join("2999-01-01.jsonl"), "").unwrap();
    kept.server.restart();
    upload(&kept.server, "/b.bin", 1, 30)
        .close()
        .assert(200, None);
    kept.server.wait_for_log("event=custody_disturbed");
    assert!(fs::metadata(kept.ledger.join("2999-01-01.jsonl")).is_ok_and(|file| file.len() == 0));
    assert!(!kept.server.log().contains("event=custody_ahead"));
    assert!(day.is_file(), "midnight may be between them");
}

/// Goal: what a check passes, a start can use. Method: both are asked about places where no ledger
/// can be, and about one that is in use.
#[test]
fn where_no_ledger_can_be_a_start_and_a_check_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let check = |ledger: &Path| {
        let file = folder.path().join("check.toml");
        let text = format!("listen = \"127.0.0.1:0\"\nroot = {root:?}\ncustody = {ledger:?}\n");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(["check", "--config"]).arg(&file).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let assert_refused = |ledger: &Path, why: &str| {
        let (_, said) = Server::refused(&root, &settings(ledger, ""));
        assert!(said.contains(why), "{ledger:?}: {said}");
        let (code, said) = check(ledger);
        assert!(said.contains(why), "{ledger:?}: {said}");
        assert!(code.is_some_and(|code| code > 0), "{ledger:?}: {said}");
    };
    let with_mode = |name: &str, mode| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let here = folder.path();
    assert_refused(&here.join("none"), "is not there: mount its disk");
    assert!(!here.join("none").exists());
    assert_refused(&here.join("none/none"), "is not there");
    assert_refused(&root, "where uploads are");
    assert_refused(&with_mode("open", 0o777), "others can write to");
    assert_refused(&here.join("check.toml"), "is no folder");
    assert_refused(Path::new("/proc"), "no file can be made in /proc");
    assert_refused(Path::new("custody"), "a path from `/` on");
    if rustix::process::geteuid().is_root() {
        let theirs = with_mode("theirs", 0o700);
        std::os::unix::fs::chown(&theirs, Some(65_534), None).unwrap();
        assert_refused(&theirs, "belongs to another user");
    } else {
        skip("only root gives a folder to another user");
        assert_refused(Path::new("/usr"), "belongs to another user");
    }
    let shut = with_mode("shut", 0o500);
    if !rustix::process::geteuid().is_root() {
        assert_refused(&shut, "`chown` it to the one who serves");
    }
    let sealed = with_mode("sealed", 0o700);
    if set_flags(&sealed, IFlags::IMMUTABLE) {
        assert_refused(&sealed, "`chattr -i -a` takes that away");
        set_flags(&sealed, IFlags::empty());
    }
    // Two servers would break one another's chain.
    let ledger = with_mode("custody", 0o700);
    assert_eq!(check(&ledger).0, Some(0));
    assert_eq!(fs::read_dir(&ledger).unwrap().count(), 0);
    let first = Server::on(&here.join("other"), settings(&ledger, ""));
    assert_refused(&ledger, "another server writes to");
    let location = format!("[[location]]\nprefix = \"x\"\nroot = {ledger:?}");
    first.reload(&settings(&ledger, &location).file);
    first.wait_for_log("event=reload_failed");
}

/// Goal: whoever has collected archives finds out which have not come as they were made. Method:
/// the lines of docs/evidence.md, with an outcome file of three archives, of which two arrive
/// whole.
#[test]
fn archives_of_dfir_orc_that_did_not_come_are_named() {
    let kept = kept("create_dirs = true");
    let (server, ledger) = (&kept.server, &kept.ledger);
    let folder = ledger.parent().unwrap();
    if Command::new("jq").arg("--version").output().is_err() {
        return skip("jq is not installed");
    }
    let settings = settings(ledger, "create_dirs = true").file;
    server.reload(&settings.replace("\"sha-256\"", "[\"sha-256\", \"sha-1\"]"));
    server.wait_for_log("event=reloaded");
    for (name, seed, bytes) in [
        ("General", 1, 3000),
        ("Little", 2, 2000),
        ("Browsers", 3, 1000),
    ] {
        let path = format!("/host-7/ORC_WorkStation_HOST-7_{name}.7z");
        upload(server, &path, seed, bytes).close().assert(200, None);
    }
    let sha1: String = (sha1::Sha1::digest(content(1, 0, 3000)).iter())
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let outcome = include_str!("data/dfir-orc-outcome.json").replace("@SHA1-OF-3000@", &sha1);
    fs::write(folder.join("outcome.json"), outcome).unwrap();
    let page = include_str!("../docs/evidence.md");
    let commands = page
        .split("```sh\nsudo sh -c 'cat ")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let commands = commands.replace("/var/lib/bitsd-custody", ledger.to_str().unwrap());
    let output = Command::new("sh")
        .args(["-ec", &format!("sh -c 'cat {commands}")])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let missing = String::from_utf8(output.stdout).unwrap();
    assert_eq!(missing, "ORC_WorkStation_HOST-7_Browsers.7z\n");
}
