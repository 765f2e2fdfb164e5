//! How much of a disk uploads take before they have sent it, sizes that no disk holds, and disks
//! that are nearly full.
//!
//! Each test begins with a real server on a file system of its own where that matters, and looks at
//! what the kernel says of the part.

#[path = "soak/mount.rs"]
mod mount;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use bitsd::bits::session::State;
use bitsd::vault::record::Frames;
use mount::{Kind, Mount};
use support::client::{BG_E_TOO_LARGE, Client, DISK_FULL, SESSION_NOT_FOUND, fragment};
use support::host::{Tmpfs, folder_and_root};
use support::server::{Server, Settings};
use support::{skip, wait_until};

const MIB: u64 = 1 << 20;

/// Bytes that a session's part holds on disk, reservations included.
fn held(server: &Server, client: &Client) -> u64 {
    fs::metadata(server.part(client.session()))
        .unwrap()
        .blocks()
        * 512
}

/// What a load balancer hears.
fn is_ready(socket: &Path) -> bool {
    let mut stream = UnixStream::connect(socket).unwrap();
    (stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    status.ends_with(b" 200")
}

#[test]
fn an_upload_that_rests_gives_back_what_it_has_not_received() {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Tmpfs] {
        let disk = match Mount::new(kind, 400) {
            Ok(disk) => disk,
            Err(why) => {
                skip(&why);
                continue;
            }
        };
        let file = |ms: u64| Settings::default().file(&format!("[limits]\nreserve_ms_max = {ms}"));
        let mut server = Server::on(&disk.root(), file(3_600_000));
        let mut client = Client::create(server.address(), "/a.bin");
        for at in 0..9 {
            let sent = client.send(fragment(at * MIB..(at + 1) * MIB).of(64 * MIB));
            sent.assert(200, None);
        }
        // As far ahead as it had come when the space ran out: from 8 to 16 MiB.
        let reserved = held(&server, &client);
        assert!(
            (16 * MIB..18 * MIB).contains(&reserved),
            "{kind:?}: {reserved}"
        );
        // The next server finds it, and waits as long.
        server.kill9();
        server.restart_with(file(200));
        wait_until("the reservation is given back", || {
            held(&server, &client) < 10 * MIB
        });
        assert_eq!(server.part_bytes(client.session()), 9 * MIB, "{kind:?}");
        client.reconnect_to(server.address());
        let more = fragment(9 * MIB..20 * MIB).of(64 * MIB);
        client.send(more).assert(200, None);
        wait_until("it is given back again", || {
            held(&server, &client) < 21 * MIB
        });
        client.send_rest(20 * MIB, 64 * MIB, 4 * MIB);
        client.close().assert(200, None);
        server.assert_file("a.bin", 1, 64 * MIB);
    }
}

#[test]
fn one_small_fragment_of_a_big_file_holds_what_it_sent() {
    let server = Server::start();
    for number in 0..5 {
        let mut client = Client::create(server.address(), &format!("/{number}.bin"));
        client
            .send(fragment(0..65_536).of(256 * MIB))
            .assert(200, None);
        let held = held(&server, &client);
        assert!(held <= 131_072, "{held}");
    }
}

#[test]
fn sizes_that_no_disk_holds_are_too_large_and_nobodys_fault() {
    let server = Server::start();
    for total in [1 << 50, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX] {
        let mut client = Client::create(server.address(), "/a.bin");
        client
            .send(fragment(0..5).of(total))
            .assert(500, Some(BG_E_TOO_LARGE));
        assert_eq!(server.part_bytes(client.session()), 0, "{total}");
        client.cancel().assert(200, None);
    }
    server.wait_for_log("LimitFSIZE=");
    let log = server.log();
    // That a shard stood still may be the machine's fault.
    let is_fault = |line: &str| line.contains("WARN") && !line.contains("shard_stalled");
    assert!(
        !log.contains("dmesg") && !log.lines().any(is_fault),
        "{log}"
    );
}

/// Records of sessions that ended are of no use: a journal of nothing else is no reason to refuse
/// uploads for ever.
#[test]
fn a_journal_stays_within_the_limit_of_the_process() {
    // In blocks of 512 bytes or of a KiB, as the shell counts.
    let wrapper = ["sh", "-c", "ulimit -f 100; exec \"$@\"", "sh"];
    let server = Server::with(Settings::default().wrapper(&wrapper).file("cores = 1\n"));
    server.wait_for_log("event=file_size_limit");
    for number in 0..500 {
        let mut client = Client::create(server.address(), &format!("/{number}.bin"));
        client.send(fragment(0..10).of(10)).assert(200, None);
        client.close().assert(200, None);
    }
}

/// Goal: a limit that is lowered while the server runs is told as one. Method: it is no multiple of
/// a block, and a file goes past the page cache up to it.
#[test]
fn a_limit_that_is_lowered_meanwhile_is_no_fault_of_the_disk() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    let limit = format!("--fsize={0}:{0}", (17 << 20) + 1000);
    let pid = server.pid().to_string();
    let lowered = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    if !lowered.is_ok_and(|status| status.success()) {
        return skip("limits of another process need prlimit(1)");
    }
    let told = client.send(fragment(0..20 << 20));
    told.assert(500, Some(BG_E_TOO_LARGE));
    let mut other = Client::create(server.address(), "/b.bin");
    other.send(fragment(0..1000)).assert(200, None);
    other.close().assert(200, None);
    let log = server.log();
    assert!(
        !log.contains("put work_dir on a Linux file system"),
        "{log}"
    );
}

/// A check says what a start would, and both what the settings ask for.
#[test]
fn a_limit_on_files_that_is_less_than_the_settings_ask_for_is_told() {
    let run = |blocks: &str, lines: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bitsd.toml");
        std::fs::write(&file, lines).unwrap();
        let script = format!("ulimit -f {blocks}; exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_bitsd"), "check"]);
        command
            .args(["--listen", "127.0.0.1:0", "--root"])
            .arg(folder.path());
        let output = command.arg("--config").arg(&file).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let is_left = folder.path().join(".bitsd").exists();
        assert!(!is_left, "it is gone when nothing can be written, too");
        (output.status.success(), said)
    };
    // In blocks of a KiB, as bash counts.
    let (is_good, said) = run("1024", "");
    assert!(
        is_good && said.contains("the settings allow any length for uploads: raise LimitFSIZE="),
        "{said}"
    );
    let (is_good, said) = run(
        "102400",
        "upload_bytes_max = \"1 MiB\"\n[limits]\njournal_bytes_max = \"16 MiB\"\n",
    );
    assert!(is_good && !said.contains("LimitFSIZE="), "{said}");
    let (is_good, said) = run("0", "");
    assert!(!is_good && said.contains("raise LimitFSIZE="), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let wrapper = ["sh", "-c", "ulimit -f 0; exec \"$@\"", "sh"];
    let (status, said) = Server::refused(
        &folder.path().join("root"),
        &Settings::default().wrapper(&wrapper),
    );
    assert_eq!(status.code(), Some(1));
    // Its log is a pipe.
    assert!(said.contains("raise LimitFSIZE="), "{said}");
}

#[test]
fn a_file_over_the_limit_of_the_process_is_too_large_before_its_bytes() {
    // In blocks of 512 bytes or of a KiB, as the shell counts.
    let wrapper = ["sh", "-c", "ulimit -f 4096; exec \"$@\"", "sh"];
    let server = Server::with(Settings::default().wrapper(&wrapper));
    let mut client = Client::create(server.address(), "/a.bin");
    let sent = client.send(fragment(0..100).of(5 * MIB));
    sent.assert(500, Some(BG_E_TOO_LARGE));
    let mut small = Client::create(server.address(), "/b.bin");
    small.send_rest(0, 1_000_000, 500_000);
    small.close().assert(200, None);
    server.assert_file("b.bin", 1, 1_000_000);
}

#[test]
fn where_little_is_free_new_uploads_wait_and_running_ones_go_on() {
    let disk = match Mount::new(Kind::Tmpfs, 64) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let settings = Settings::default().file("[limits]\nfree_bytes_min = \"32 MiB\"");
    let server = Server::on(&disk.root(), settings);
    let mut running = Client::create(server.address(), "/a.bin");
    running.send(fragment(0..MIB).of(4 * MIB)).assert(200, None);
    let ballast = disk.point().join("ballast");
    fs::write(&ballast, vec![0; 40 << 20]).unwrap();
    server.wait_for_log("new uploads are refused");
    let mut late = Client::new(server.address(), "/b.bin");
    late.try_create().assert(500, Some(DISK_FULL));
    running.send_rest(MIB, 4 * MIB, MIB);
    running.close().assert(200, None);
    server.assert_file("a.bin", 1, 4 * MIB);
    fs::remove_file(&ballast).unwrap();
    wait_until("there is space again", || late.try_create().status == 200);
    server.wait_for_log("there is space again");
    let log = server.log();
    let told = log.matches("new uploads are refused").count();
    assert_eq!(told, 1, "{log}");
}

/// The records of all uploads stand in the work directory: where that has a disk of its own, what
/// is told, what is refused and whether the server is ready are one.
#[test]
fn where_little_is_free_for_records_new_uploads_wait_too() {
    let (folder, root) = folder_and_root();
    let (work, socket) = (folder.path().join("work"), folder.path().join("admin.sock"));
    fs::create_dir(&work).unwrap();
    let Some(_disk) = Tmpfs::on(&work, "size=16m,mode=700") else {
        return;
    };
    let settings = Settings::default().file(&format!(
        "work_dir = {work:?}\nadmin_socket = {socket:?}\n[limits]\nfree_bytes_min = \"8 MiB\""
    ));
    let server = Server::on(&root, settings);
    let mut running = Client::create(server.address(), "/a.bin");
    running.send(fragment(0..MIB).of(2 * MIB)).assert(200, None);
    wait_until("the server is ready", || is_ready(&socket));
    let ballast = work.join("ballast");
    fs::write(&ballast, vec![0; 12 << 20]).unwrap();
    // Nobody has to come for that.
    server.wait_for_log("new uploads are refused");
    wait_until("the server is not ready", || !is_ready(&socket));
    let mut late = Client::new(server.address(), "/b.bin");
    late.try_create().assert(500, Some(DISK_FULL));
    running.send_rest(MIB, 2 * MIB, MIB);
    running.close().assert(200, None);
    server.assert_file("a.bin", 1, 2 * MIB);
    fs::remove_file(&ballast).unwrap();
    wait_until("there is space again", || late.try_create().status == 200);
    wait_until("the server is ready again", || is_ready(&socket));
}

/// Takes all that is left of a disk, but for what is left of the last page of each file.
fn fill(disk: &Path) {
    let mut file = fs::File::create(disk.join("filling")).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Whether the newest record of the only upload says that it is being published.
fn is_closing(work: &Path) -> bool {
    let names = names_in(work).into_iter();
    let journals = names.filter(|name| name.ends_with(".journal"));
    let records = journals.flat_map(|name| {
        let journal = fs::read(work.join(name)).unwrap();
        let newest = Frames::of(&journal).max_by_key(|frame| frame.sequence)?;
        Some((newest.sequence, newest.record().unwrap()))
    });
    let (_, record) = records.max_by_key(|(sequence, _)| *sequence).unwrap();
    matches!(record.state, State::Closing { .. })
}

fn names_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Goal: an upload that ended without a file is never taken for one that was published. Method: a
/// Close is refused, and the disk is full before the record that says so; the upload expires, and
/// the server starts anew.
#[test]
fn what_expired_on_a_full_disk_was_not_published() {
    let (_folder, root) = folder_and_root();
    let Some(_disk) = Tmpfs::on(&root, "size=2m,mode=700") else {
        return;
    };
    let settings = "session_timeout = \"5s\"\ncleanup_interval = \"1s\"";
    let mut server = Server::on(&root, Settings::default().file(settings));
    fs::create_dir(root.join("in")).unwrap();
    let mut client = Client::create(server.address(), "/in/a.bin");
    client.send(fragment(0..1_000)).assert(200, None);
    fs::remove_dir(root.join("in")).unwrap();
    let work = root.join(".bitsd");
    let mut tries = 0..500;
    loop {
        assert!(
            tries.next().is_some(),
            "the record of the refusal always has room"
        );
        fill(&root);
        while client.close().status == 404 {}
        if is_closing(&work) {
            break;
        }
        // One byte more or less than before.
        fs::remove_file(root.join("filling")).unwrap();
        client.close().assert(404, None);
    }
    let failures = || server.log().matches("event=disk_failed").count();
    let before = failures();
    wait_until("it was to expire", || failures() > before);
    server.kill9();
    fs::remove_file(root.join("filling")).unwrap();
    server.restart();
    client.reconnect_to(server.address());
    wait_until("it has expired", || {
        let answer = client.close();
        assert_ne!(answer.status, 200);
        answer.field("BITS-Error-Code") == Some(SESSION_NOT_FOUND)
    });
    wait_until("nothing is left", || {
        names_in(&work).iter().all(|name| !name.contains(".part"))
    });
}
