//! Start of the real binary on a work directory that has seen things.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bitsd::bits::notification::Token;
use bitsd::bits::session::{AfterPublish, Reply, State};
use bitsd::bits::session_id::SessionId;
use bitsd::http::path::UploadPath;
use bitsd::vault::record::{Answered, Frames, Life, Record};

use support::client::{Client, PROTOCOL, SESSION_NOT_FOUND, fragment};
use support::host::{Tmpfs, folder_and_root};
use support::journal::{self, session_id};
use support::program::free_address;
use support::raw::Raw;
use support::server::{Server, Settings};
use support::wait_until;

/// Sessions of the large work directory. `scripts/check --long` asks for as many as one shard may
/// have by default.
const SESSIONS: u64 = 100_000;
/// The variable that says another number; then all of them are on one shard.
const SESSIONS_KEY: &str = "BITSD_TEST_SESSIONS";
/// What has come of each of them.
const COME: &str = "xxx";
const RECEIVED: u64 = COME.len() as u64;
/// Files of the large work directory that nobody can read.
const GARBAGE: u64 = 1_000;
/// What a start with so many may take; others in proportion.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

#[test]
fn an_ack_of_bytes_known_before_makes_them_durable_too() {
    let server = Server::with(Settings::default().flags(&["--durability", "fragment"]));
    let mut client = Client::create(server.address(), "/a.bin");
    let id = client.session().trim_matches(['{', '}']).to_owned();
    let part = server.file(&format!(".bitsd/{id}.part"));
    // All of it arrives but its last byte, so it is stored and neither synced nor acked.
    client.send_part(&fragment(0..1000).of(3000), 999);
    wait_until("the bytes are stored", || {
        fs::metadata(&part).unwrap().len() == 999
    });
    client.reconnect();
    assert_eq!(client.send(fragment(0..500).of(3000)).received(), 999);
    let newest = journals(&server.file(".bitsd"))
        .into_iter()
        .flat_map(|journal| {
            let bytes = fs::read(journal).unwrap();
            let ours = Frames::of(&bytes).filter(|frame| frame.id.plain().to_string() == id);
            ours.map(|frame| (frame.sequence, frame.record().unwrap()))
                .collect::<Vec<_>>()
        })
        .max_by_key(|(sequence, _)| *sequence);
    assert_eq!(newest.unwrap().1.durable, 999);
}

#[test]
fn a_damaged_journal_is_set_aside_with_what_it_may_have_said() {
    let mut server = Server::start();
    let mut clients: Vec<_> = (0..3)
        .map(|number| {
            let mut client = Client::create(server.address(), &format!("/{number}.bin"));
            assert_eq!(client.send(fragment(0..10).of(30)).received(), 10);
            client
        })
        .collect();
    server.kill9();
    let id = |client: &Client| SessionId::parse(client.session().as_bytes()).unwrap();
    let mut lost = Vec::new();
    for journal in journals(&server.file(".bitsd")) {
        let mut bytes = fs::read(&journal).unwrap();
        let frames: Vec<_> = Frames::of(&bytes).map(|frame| frame.id).collect();
        let last = frames.last().copied();
        for (at, client) in clients.iter().enumerate() {
            if frames.contains(&id(client)) && last != Some(id(client)) {
                lost.push(at);
            }
        }
        // Every byte before the last frame.
        let end = bytes.windows(8).rposition(|eight| eight == b"bitsd\0r4");
        bytes[..end.unwrap_or(0)].fill(b'x');
        fs::write(&journal, bytes).unwrap();
    }
    assert!(!lost.is_empty(), "three sessions on two shards");
    server.restart();
    for (at, client) in clients.iter_mut().enumerate() {
        client.reconnect_to(server.address());
        let answer = client.send(fragment(10..30).of(30));
        match lost.contains(&at) {
            true => assert_eq!(answer.status, 500, "{at}"),
            false => assert_eq!(answer.received(), 30, "{at}"),
        }
        let part = format!(".bitsd/{}.part.aside", id(client).plain());
        assert_eq!(server.file(&part).exists(), lost.contains(&at), "{at}");
    }
    server.wait_for_log("some of its records cannot be read");
}

/// A journal of the highest number is none of ours: nothing could be counted on from it.
#[test]
fn a_journal_of_the_last_number_is_left_aside() {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(30)).assert(200, None);
    server.stop();
    let name = ".bitsd/ffffffffffffffff-0.journal";
    fs::write(server.file(name), "").unwrap();
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..30).of(30)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 30);
    assert!(!server.file(name).exists() && server.file(&format!("{name}.aside")).exists());
    server.wait_for_log("event=file_set_aside");
    server.restart();
    server.wait_for_log("event=started");
    assert!(
        !server.log().contains("event=file_set_aside"),
        "{}",
        server.log()
    );
}

/// A disk that returned something else for one file must not cost all.
#[test]
fn a_journal_that_is_rubbish_is_set_aside_with_all_parts() {
    for rubbish in ["hello\n".to_owned(), "noise ".repeat(500)] {
        let mut server = Server::with(Settings::default().flags(&["--cores", "1"]));
        let mut client = Client::create(server.address(), "/a.bin");
        client.send(fragment(0..10).of(30)).assert(200, None);
        server.stop();
        let mut journals = journals(&server.file(".bitsd"));
        let journal = journals.pop().unwrap();
        assert!(journals.is_empty());
        fs::write(&journal, &rubbish).unwrap();
        let id = client.session().trim_matches(['{', '}']);
        let reply = server.file(&format!(".bitsd/{id}.reply"));
        fs::write(&reply, "to be fetched").unwrap();
        server.restart();
        server.wait_for_log("it holds no record that can be read");
        server.wait_for_log(journal.file_name().unwrap().to_str().unwrap());
        let part = server.file(&format!(".bitsd/{id}.part"));
        for (path, bytes) in [(journal, rubbish.len()), (part, 10), (reply, 13)] {
            let aside = PathBuf::from(format!("{}.aside", path.display()));
            assert!(!path.exists());
            assert_eq!(fs::read(&aside).unwrap().len(), bytes, "{aside:?}");
        }
        assert!(!server.log().contains("orphans_removed"));
    }
}

#[test]
fn parts_that_were_removed_meanwhile_are_told_of() {
    for (durability, told) in [
        ("upload", "uploads=3 bytes=0 of=90"),
        ("fragment", "uploads=3 bytes=30 of=90"),
    ] {
        let flags = ["--cores", "1", "--durability", durability];
        let mut server = Server::with(Settings::default().flags(&flags));
        for number in 0..3 {
            let mut client = Client::create(server.address(), &format!("/{number}.bin"));
            client.send(fragment(0..10).of(30)).assert(200, None);
        }
        // Nobody has acked a byte of this one.
        let empty = Client::create(server.address(), "/empty.bin");
        server.stop();
        for name in server.work_files() {
            fs::remove_file(server.file(".bitsd").join(name)).unwrap();
        }
        server.restart();
        server.wait_for_log("event=parts_missing");
        server.wait_for_log(told);
        drop(empty);
        // Once is enough.
        server.restart();
        assert!(!server.log().contains("parts_missing"), "{}", server.log());
    }
}

#[test]
fn what_a_power_cut_may_take_is_not_told_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let work = root.join(".bitsd");
    fs::create_dir_all(&work).unwrap();
    make_sessions(&work, 2);
    for journal in journals(&work) {
        // What was synced of it, and the boot: not this one.
        let journaled = fs::read(&journal).unwrap();
        let frames = Frames::of(&journaled).map(|frame| {
            let mut record = frame.record().unwrap();
            if frame.id == session_id(0) {
                record.durable = 0;
            }
            record.encode(frame.id, frame.sequence)
        });
        let frames = frames.collect::<Vec<_>>().concat();
        fs::write(&journal, frames).unwrap();
    }
    for number in 0..2 {
        let part = format!("{}.part", session_id(number).plain());
        fs::remove_file(work.join(part)).unwrap();
    }
    let server = Server::on(&root, Settings::default());
    server.wait_for_log("uploads=1 bytes=3 of=10");
}

/// Goal: what a clean stop has made safe is not lost by a start at which the disk is full: there is
/// no room for new journals, nor for another note of the stop. Method: that was in another boot.
#[test]
fn a_full_disk_at_a_start_takes_nothing_back_of_what_a_clean_stop_has_made_safe() {
    let (_folder, root) = folder_and_root();
    let Some(_disk) = Tmpfs::on(&root, "size=2M,mode=700") else {
        return;
    };
    let mut server = Server::on(&root, Settings::default());
    let mut client = Client::create(server.address(), "/half").seed(1);
    client.send(fragment(0..500).of(1000)).assert(200, None);
    server.stop();
    journal::of_another_boot(&root.join(".bitsd"));
    let mut filler = fs::File::create(root.join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    server = Server::on(&root, Settings::default());
    server.wait_for_log("No space left on device");
    server.kill9();
    drop(filler);
    fs::remove_file(root.join("filler")).unwrap();
    server = Server::on(&root, Settings::default());
    client.reconnect_to(server.address());
    client.send(fragment(500..1000).of(1000)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("half", 1, 1000);
}

/// Goal: a part that a start sets aside, since it cannot believe it, is not taken for one that got
/// its name, also if the server is killed before the journals of that start are there. Method: the
/// journal that was there before is put back in their place.
#[test]
fn what_was_set_aside_while_it_was_published_is_never_called_published() {
    let total = RECEIVED;
    for (boot, come) in [
        // With `durability = "none"`, after a power cut.
        (1, COME),
        // Somebody has added to it.
        (this_boot(), "xxxx"),
    ] {
        let (_folder, root) = folder_and_root();
        let work = root.join(".bitsd");
        fs::create_dir_all(&work).unwrap();
        journal::leave(&work, 1, |number| Record {
            state: State::Closing {
                total,
                then: AfterPublish::End,
                told: None,
            },
            durable: 0,
            boot_id: boot,
            ..journal::begun(&work, number, "a.bin", come, total)
        });
        let before = journals(&work).remove(0);
        let journaled = fs::read(&before).unwrap();
        let flags = ["--durability", "none"];
        let mut server = Server::on(&root, Settings::default().flags(&flags));
        server.wait_for_log("event=file_set_aside");
        for start in ["whole", "cut short"] {
            let mut client = Client::new(server.address(), "/a.bin");
            client.adopt(&session_id(0).to_string());
            client.close().assert(500, Some(SESSION_NOT_FOUND));
            assert!(!root.join("a.bin").exists(), "{start}");
            server.kill9();
            for journal in journals(&work) {
                fs::remove_file(journal).unwrap();
            }
            fs::write(&before, &journaled).unwrap();
            server = Server::on(&root, Settings::default().flags(&flags));
        }
        let aside = work.join(format!("{}.part.aside", session_id(0).plain()));
        assert_eq!(fs::read_to_string(aside).unwrap(), come);
        assert!(!server.log().contains("parts_missing"), "{}", server.log());
    }
}

/// As records have it.
fn this_boot() -> u128 {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    u128::from_str_radix(&boot.trim().replace('-', ""), 16).unwrap()
}

/// Goal: what version 0.1.0 left is gone on with. Method: the journal that a server of that version
/// wrote before `kill -9`, with the parts that stood beside it then. In the boot that its records
/// name all that was written counts, and in another one only what was synced.
#[test]
fn sessions_of_version_0_1_0_go_on() {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    go_on_after_0_1_0(&boot.trim().replace('-', ""), 15);
    go_on_after_0_1_0(&"7".repeat(32), 10);
}

/// A journal as if it had been written in this boot.
fn written_in(journal: &[u8], boot: &str) -> Vec<u8> {
    let (mut journal, boot) = (journal.to_vec(), format!("\"boot\":\"{boot}\""));
    let frames = memchr::memmem::find_iter(&journal, b"bitsd\0r2").collect::<Vec<_>>();
    for begin in frames {
        let payload = journal[begin + 32..begin + 36].try_into().unwrap();
        let payload = usize::try_from(u32::from_le_bytes(payload)).unwrap();
        let frame = &mut journal[begin..begin + 40 + payload];
        let at = memchr::memmem::find(frame, b"\"boot\":\"").unwrap();
        frame[at..at + boot.len()].copy_from_slice(boot.as_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&frame[8..36]);
        crc.update(&frame[40..]);
        frame[36..40].copy_from_slice(&crc.finalize().to_le_bytes());
    }
    journal
}

fn go_on_after_0_1_0(boot: &str, received: u64) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let work = root.join(".bitsd");
    fs::create_dir_all(&work).unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700)).unwrap();
    let journal = written_in(include_bytes!("data/journal-0.1.0"), boot);
    fs::write(work.join("0000000000000000-0.journal"), journal).unwrap();
    let sessions = [
        ("new", "F01ADEA6-8B3A-4531-93BB-82D1B5ED96FA", Some(0)),
        ("half", "2A580828-BBEE-4E00-B5D3-B74C65BEBDC2", Some(15)),
        ("whole", "F8743B50-906A-4853-A44E-028E0D974C4C", Some(20)),
        ("closed", "E033A6EA-2F12-420F-813E-B719FED99CD4", None),
        ("given-up", "D8C28FCF-8ED6-423F-9D73-F5D9A7536240", None),
        ("cancelled", "277FC138-C592-4D25-B228-6F44DEE44127", None),
    ];
    for (_, id, bytes) in sessions {
        if let Some(bytes) = bytes {
            let content = support::content::content(1, 0, bytes);
            fs::write(work.join(format!("{id}.part")), content).unwrap();
        }
    }
    let mut server = Server::on(&root, Settings::default());
    for start in ["after 0.1.0", "after the version that reads it"] {
        let client = |name: &str| {
            let (_, id, _) = sessions.iter().find(|(known, ..)| *known == name).unwrap();
            let mut client = Client::new(server.address(), &format!("/{name}.bin"));
            client.adopt(&format!("{{{id}}}"));
            client
        };
        client("closed").close().assert(200, None);
        client("given-up").close().assert(200, None);
        client("cancelled").cancel().assert(200, None);
        let half = client("half").send(fragment(0..10).of(30));
        assert_eq!(half.received(), received, "{start}");
        let whole = client("whole").send(fragment(0..20));
        assert_eq!(whole.received(), 20, "{start}");
        server.kill9();
        server.restart();
    }
    let id = "{2A580828-BBEE-4E00-B5D3-B74C65BEBDC2}";
    let mut half = Client::new(server.address(), "/half.bin");
    half.adopt(id);
    assert_eq!(half.send(fragment(received..30).of(30)).received(), 30);
    half.close().assert(200, None);
    server.assert_file("half.bin", 1, 30);
}

#[test]
fn no_journal_is_too_long_to_be_read() {
    let mut server = Server::with(Settings::default().flags(&["--cores", "1"]));
    let mut client = Client::create(server.address(), "/a.bin");
    assert_eq!(client.send(fragment(0..10).of(30)).received(), 10);
    server.kill9();
    let journal = journals(&server.file(".bitsd")).pop().unwrap();
    // A hole; what version 0.1.0 took for too long, and set aside with all sessions in it.
    let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len((1 << 30) + 4096).unwrap();
    server.restart();
    client.reconnect_to(server.address());
    assert_eq!(client.send(fragment(10..30).of(30)).received(), 30);
    assert!(!server.log().contains("set aside"), "{}", server.log());
    assert!(!journal.exists(), "the next one is short");
}

#[test]
fn the_line_at_the_end_knows_of_the_life_before_a_restart() {
    let mut server = Server::with(Settings::default().flags(&["--log-format", "json"]));
    let mut client = Client::create(server.address(), "/in.bin");
    assert_eq!(client.send(fragment(0..10).of(40)).received(), 10);
    // It has not heard the answer, and says it again.
    client.reconnect();
    assert_eq!(client.send(fragment(0..20).of(40)).received(), 20);
    server.kill9();
    server.restart();
    client.reconnect_to(server.address());
    assert_eq!(client.send(fragment(20..30).of(40)).received(), 30);
    assert_eq!(client.send(fragment(30..40).of(40)).received(), 40);
    client.close().assert(200, None);
    server.wait_for_log("session ended");
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut ended = lines.filter(|line: &serde_json::Value| line["message"] == "session ended");
    let ended = ended.next().unwrap();
    // Once by the repeated fragment, once by the restart.
    assert_eq!(ended["interruptions"], 2, "{ended}");
    assert_eq!(ended["connections"], 3, "{ended}");
    assert_eq!((&ended["bytes"], &ended["of"]), (&40.into(), &40.into()));
    assert!(ended["duration_ms"].is_u64(), "{ended}");
}

/// Whoever it was for may take a file away, with its folder.
#[test]
fn an_upload_that_was_closed_and_taken_away_is_over_at_the_next_start() {
    let mut server = Server::start();
    fs::create_dir(server.file("job")).unwrap();
    let mut client = Client::create(server.address(), "/job/a.bin");
    client.send(fragment(0..1000)).assert(200, None);
    client.close().assert(200, None);
    fs::remove_dir_all(server.file("job")).unwrap();
    server.kill9();
    server.restart();
    server.wait_for_log("event=started");
    client.reconnect_to(server.address());
    client.close().assert(200, None);
    let log = server.log();
    assert!(!log.contains("event=session_ended"), "{log}");
    assert!(!log.contains("event=disk_failed"), "{log}");
    assert!(!server.file("job").exists());
}

#[test]
fn what_is_left_of_a_create_without_an_ack_is_removed() {
    let mut server = Server::start();
    server.kill9();
    let id = SessionId::from_u128(7).plain().to_string();
    fs::write(server.file(&format!(".bitsd/{id}.part")), "").unwrap();
    server.restart();
    assert_eq!(server.work_files(), Vec::<String>::new());
    assert!(!server.log().contains("set aside"), "{}", server.log());
}

/// The simulator found it: with `durability = "none"` an empty upload has no byte by which one
/// could tell that nothing was synced, and a reply that a power cut had torn was served as whole.
#[test]
fn a_reply_that_was_never_synced_is_not_served_after_a_power_cut() {
    for (is_safe, expected) in [(true, 200), (false, 404)] {
        let folder = tempfile::tempdir().unwrap();
        let (root, work) = (
            folder.path().join("root"),
            folder.path().join("root/.bitsd"),
        );
        fs::create_dir_all(&work).unwrap();
        let id = session_id(1);
        let part = work.join(format!("{}.part", id.plain()));
        fs::write(&part, "").unwrap();
        fs::write(work.join(format!("{}.reply", id.plain())), "half a re").unwrap();
        let token = Token::new(7);
        let record = Record {
            hashed: None,
            owed: None,
            is_unsettled: false,
            object: None,
            path: UploadPath::from_text("empty.bin").unwrap(),
            state: State::Notified {
                total: 0,
                copies: false,
                reply: Reply::File,
            },
            durable: 0,
            inode: fs::metadata(&part).unwrap().ino(),
            // Not this boot.
            boot_id: 1,
            answer: Some(Box::new(Answered {
                token,
                static_url: None,
                is_safe,
            })),
            client: None,
            begun_ms: 0,
            life: Life::default(),
        };
        fs::write(
            work.join("0000000000000004-0.journal"),
            record.encode(id, 3),
        )
        .unwrap();
        let server = Server::on(&root, Settings::default());
        let target = format!(
            "/BITS-Sessions/Replies/{}-{token}/responsefile.bin",
            id.plain()
        );
        let mut raw = server.connect();
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(raw.receive().status, expected, "{is_safe}");
        let is_left = work.join(format!("{}.reply", id.plain())).exists();
        assert_eq!(is_left, is_safe, "what nobody may fetch is removed");
    }
}

/// Goal: the start is fast, its listener answers meanwhile, nothing on disk can stop it. Method:
/// all files are written by the test; the port is known beforehand, so that it can be asked while
/// the server says nothing yet. The first start is one after a power cut, the second one after
/// `kill -9`.
#[test]
fn many_sessions_are_read_back_in_time_while_clients_wait() {
    let asked = std::env::var(SESSIONS_KEY).ok();
    let sessions = asked.as_ref().map_or(SESSIONS, |asked| {
        asked.parse().expect("a number of sessions")
    });
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let work = root.join(".bitsd");
    fs::create_dir_all(&work).unwrap();
    make_sessions(&work, sessions);
    make_garbage(&work);

    let mut created = 0;
    let mut fastest = Duration::MAX;
    let mut is_pinged_first = false;
    for start in ["after a power cut", "after kill -9", "after kill -9 again"] {
        let address = free_address();
        // The test itself makes some more.
        let settings = Settings::default()
            .file("[limits]\nsessions_per_shard_max = 1000000\n")
            .flags(&["--listen", &address.to_string()]);
        let settings = match asked.is_some() {
            true => settings.flags(&["--cores", "1"]),
            false => settings,
        };
        let began = Instant::now();
        let mut longest = Duration::ZERO;
        let (heard, mut server) = thread::scope(|scope| {
            let starting = scope.spawn(|| Server::on(&root, settings));
            let mut heard = Vec::new();
            while !starting.is_finished() {
                let asked = Instant::now();
                let answered = ask(address);
                longest = longest.max(asked.elapsed());
                let waits = answered.map(|(_, waits)| waits);
                // For a Ping nothing need be read back, and for a new upload all.
                is_pinged_first |= waits.is_some_and(|[ping, create]| create > 3 * ping);
                heard.extend(answered.map(|(answers, _)| answers));
            }
            (heard, starting.join().unwrap())
        });
        let took = began.elapsed();
        let answers = heard.len();
        println!("{start}: {took:?}, {answers} answers meanwhile, the longest after {longest:?}");
        fastest = fastest.min(took);
        for answers in &heard {
            let expected = [PUT_OFF, SERVED_HALF, SERVED];
            assert!(expected.contains(answers), "{start}: {answers:?}");
        }
        // They wait until all is read back, and only where that takes long they hear 503.
        assert!(
            took >= WAITED || heard.iter().all(|answers| *answers == SERVED),
            "{start}: somebody was put off: {heard:?}"
        );
        assert_eq!(
            sessions_read_back(&server),
            sessions + created,
            "{start}: {}",
            tail(&server)
        );
        created += heard.iter().filter(|answers| answers[1] == 200).count() as u64;
        for number in [0, 1, sessions / 2, sessions - 1] {
            let mut client = Client::new(address, &format!("/{number}.bin"));
            client.adopt(&session_id(number).to_string());
            let answer = client.send(fragment(RECEIVED + 1..RECEIVED + 2).of(10));
            assert_eq!(answer.received(), RECEIVED, "{start}: session {number}");
        }
        let aside = fs::read_dir(&work).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".aside")
        });
        assert_eq!(aside.count() as u64, GARBAGE / 2, "{start}");
        server.kill9();
    }
    assert!(is_pinged_first, "a Ping waits until all is read back");
    // Of three, since other tests have the disk and the processors at the same time.
    let share = sessions.div_ceil(SESSIONS).try_into().unwrap();
    assert!(
        fastest < RECOVERY_MAX * share,
        "the fastest start took {fastest:?}"
    );
}

/// How long clients wait while sessions are read back, where they want more than a Ping.
const WAITED: Duration = Duration::from_secs(10);

/// What Ping, Create and Fragment are answered while sessions are read back after that.
const PUT_OFF: [u16; 3] = [200, 503, 503];
/// The same when the shard that is asked serves already, and that of the fragment does not.
const SERVED_HALF: [u16; 3] = [200, 200, 503];
/// The same a moment later; the session of the fragment is unknown.
const SERVED: [u16; 3] = [200, 200, 500];

/// Asks a server that may not listen yet; `None` if it does not, or if it began to serve between
/// the questions. How long the first two have waited is told as well.
fn ask(address: SocketAddr) -> Option<([u16; 3], [Duration; 2])> {
    let mut raw = Raw::try_connect(address).ok()?;
    let create = format!("Create-Session\r\nBITS-Supported-Protocols: {PROTOCOL}");
    let fragment = format!(
        "Fragment\r\nBITS-Session-Id: {}\r\nContent-Range: bytes 0-0/10",
        SessionId::from_u128(1)
    );
    let (mut answers, mut waits) = ([0; 3], [Duration::ZERO; 3]);
    let packets = [("Ping", ""), (&create, ""), (&fragment, "x")];
    for (at, (packet, body)) in packets.into_iter().enumerate() {
        let asked = Instant::now();
        let len = body.len();
        raw.send(format!(
            "BITS_POST /probe.bin HTTP/1.1\r\nBITS-Packet-Type: {packet}\r\nHost: localhost\r\n\
             Content-Length: {len}\r\n\r\n{body}"
        ));
        (answers[at], waits[at]) = (raw.receive().status, asked.elapsed());
    }
    (answers != [200, 503, 500]).then_some((answers, [waits[0], waits[1]]))
}

/// The sum over all shards, as the line about the start has it.
fn sessions_read_back(server: &Server) -> u64 {
    let mut sum = 0;
    wait_until("the server has said so", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(" unfinished="));
        line.inspect(|line| sum = figure(line, "unfinished"))
            .is_some()
    });
    sum
}

fn figure(line: &str, key: &str) -> u64 {
    let word = line
        .split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.unwrap_or_else(|| panic!("no {key} in {line}"))
        .parse()
        .unwrap()
}

/// The end of the log; all of it would be thousands of lines.
fn tail(server: &Server) -> String {
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn make_sessions(work: &Path, sessions: u64) {
    journal::leave(work, sessions, |number| {
        journal::begun(work, number, &format!("{number}.bin"), COME, 10)
    });
}

/// Half of them somebody else's, half of them under names that are nearly those of parts.
fn make_garbage(work: &Path) {
    let mut noise = 1u64;
    for number in 0..GARBAGE / 2 {
        let len = (number * 37 % 20_000) + 1;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise.to_le_bytes()[3]
            })
            .collect();
        fs::write(work.join(format!("{noise:x} \n.tmp")), &bytes).unwrap();
        fs::write(work.join(format!("{noise:x}.part")), &bytes).unwrap();
    }
}

/// The journals in a work directory.
fn journals(work: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "journal"))
        .collect()
}

/// By a kill while the note of an upload in parts was written anew: nothing else comes to it.
#[test]
fn half_a_note_goes_with_the_next_start() {
    let mut server = Server::start();
    server.kill9();
    let half = server
        .root()
        .join(".bitsd/6E313F44-62A4-4BED-A9D0-3948FD0E2723.object.new");
    std::fs::write(&half, "{").unwrap();
    server.restart();
    assert!(!half.exists());
}
