//! `bitsd put` interrupted, and run again; many files; and what is no BITS server.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use support::content::content;
use support::server::Server;
use support::wait_until;

/// A user's home for one test, with a file that takes several fragments.
struct Home {
    folder: TempDir,
}

const FILE_BYTES: u64 = 400_000;
/// What stands still is interrupted there: the first fragments are acked, the next is not.
const ACKED: u64 = 200_000;

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.bin"), content(1, 0, FILE_BYTES)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn put(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command
            .args(["put", "--fragment-bytes", "100000"])
            .args(words)
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn remembered(&self) -> usize {
        let notes = fs::read_dir(self.folder.path().join("state/bitsd/put"));
        notes.map_or(0, Iterator::count)
    }
}

fn heard(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Ends with its test.
struct Started(Option<Child>);

impl Started {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.0.as_ref().unwrap()), signal).unwrap();
    }

    fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A way to the server that ends in mid-upload: after so many bytes it passes nothing on any more.
fn dam(server: &Server, bytes_max: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.address();
    thread::spawn(move || {
        let mut passed = 0;
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut server = std::net::TcpStream::connect(target).unwrap();
            let (mut back_from, mut back_to) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let mut bytes = [0; 1024];
            // A client that is gone ends its half; another one may come.
            while let Ok(read @ 1..) = client.read(&mut bytes) {
                passed += read as u64;
                if passed < bytes_max && server.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
        }
    });
    format!("http://{address}/a.bin")
}

/// Starts an upload that comes to stand in its third fragment.
fn standing(home: &Home, server: &Server, words: &[&str]) -> (Started, String) {
    let url = dam(server, ACKED + 20_000);
    let file = home.path("a.bin");
    let words = [words, &[&file, &url]].concat();
    let put = Started(Some(home.put(&words).spawn().unwrap()));
    wait_until("two fragments are there", || {
        let parts = server.work_files();
        let part = parts.first().map(|name| server.file(".bitsd").join(name));
        part.is_some_and(|part| fs::metadata(part).is_ok_and(|part| part.len() >= ACKED))
    });
    (put, url)
}

#[test]
fn the_same_command_goes_on_after_ctrl_c() {
    let (home, server) = (Home::new(), Server::start());
    let (put, _) = standing(&home, &server, &[]);
    put.signal(Signal::INT);
    let output = put.output();
    let (_, words) = heard(&output);
    assert_eq!(output.status.code(), Some(130), "{words}");
    assert!(words.contains("the same command goes on"), "{words}");
    assert_eq!(home.remembered(), 1);
    assert_eq!(server.work_files().len(), 1, "the server keeps what it has");

    // Another way to the same server is another upload; this is the same one, by the same URL.
    let url = format!("http://{}/a.bin", server.address());
    let other = home
        .put(&["--cancel", &home.path("a.bin"), &url])
        .output()
        .unwrap();
    assert!(
        heard(&other).0.contains("no interrupted upload"),
        "{other:?}"
    );
    assert_eq!(home.remembered(), 1);
}

#[test]
fn what_was_sent_is_not_sent_again() {
    let (home, server) = (Home::new(), Server::start());
    let url = format!("http://{}/a.bin", server.address());
    let file = home.path("a.bin");
    let mut client = support::client::Client::create(server.address(), "/a.bin");
    client
        .send(support::client::fragment(0..ACKED).of(FILE_BYTES))
        .assert(200, None);
    note(&home, &url, client.session());
    let output = home.put(&[&file, &url]).output().unwrap();
    let (said, errors) = heard(&output);
    assert!(output.status.success(), "{errors}");
    assert!(said.contains("resumed at 195.31 KiB"), "{said}");
    server.assert_file("a.bin", 1, FILE_BYTES);
    assert_eq!(home.remembered(), 0);
}

/// Remembers a session as an interrupted run would have.
fn note(home: &Home, url: &str, session: &str) {
    use bitsd::client::memory::{Identity, Left, Memory};
    let file = home.folder.path().join("a.bin");
    let metadata = fs::metadata(&file).unwrap();
    let url = url.parse().unwrap();
    let identity = Identity::of(&file, &url, Some(&metadata));
    let memory = Memory::at(home.folder.path().join("state/bitsd/put"));
    let mut entry = memory.entry(identity.unwrap()).unwrap();
    let left = Left {
        session: session.to_owned(),
        node: None,
        is_closing: false,
    };
    entry.note(left).unwrap();
}

#[test]
fn a_session_that_the_server_has_forgotten_begins_anew() {
    let (home, server) = (Home::new(), Server::start());
    let url = format!("http://{}/a.bin", server.address());
    note(&home, &url, "{7df0354d-249b-430f-820d-3d2a9bef4931}");
    let output = home.put(&[&home.path("a.bin"), &url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    server.assert_file("a.bin", 1, FILE_BYTES);
    assert_eq!(home.remembered(), 0);
}

#[test]
fn an_interrupted_upload_can_be_given_up() {
    let (home, server) = (Home::new(), Server::start());
    let url = format!("http://{}/a.bin", server.address());
    let mut client = support::client::Client::create(server.address(), "/a.bin");
    client
        .send(support::client::fragment(0..ACKED).of(FILE_BYTES))
        .assert(200, None);
    note(&home, &url, client.session());
    let output = home
        .put(&["--cancel", &home.path("a.bin"), &url])
        .output()
        .unwrap();
    assert!(heard(&output).0.starts_with("cancelled "), "{output:?}");
    assert_eq!(server.work_files(), [""; 0]);
    assert_eq!(home.remembered(), 0);
}

/// An upload whose first half is at the server, and remembered.
fn half_there(home: &Home, server: &Server) -> String {
    let url = format!("http://{}/a.bin", server.address());
    let mut client = support::client::Client::create(server.address(), "/a.bin");
    client
        .send(support::client::fragment(0..ACKED).of(FILE_BYTES))
        .assert(200, None);
    note(home, &url, client.session());
    url
}

#[test]
fn a_file_that_was_rewritten_begins_anew_whatever_its_times_say() {
    let (home, server) = (Home::new(), Server::start());
    let file = home.path("a.bin");
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let url = half_there(&home, &server);
    // In place, as long, and with the time of before.
    fs::write(&file, content(2, 0, FILE_BYTES)).unwrap();
    let rewritten = fs::File::options().write(true).open(&file).unwrap();
    rewritten.set_modified(modified).unwrap();
    let output = home.put(&[&file, &url]).output().unwrap();
    let (said, errors) = heard(&output);
    assert!(output.status.success(), "{errors}");
    assert!(!said.contains("resumed at"), "{said}");
    server.assert_file("a.bin", 2, FILE_BYTES);
    assert_eq!(
        server.work_files(),
        [""; 0],
        "the first session is given up"
    );
    assert_eq!(home.remembered(), 0);
}

#[test]
fn what_was_left_of_a_file_is_found_when_it_is_another_or_gone() {
    let (home, server) = (Home::new(), Server::start());
    let file = home.path("a.bin");
    for is_gone in [false, true] {
        let url = half_there(&home, &server);
        match is_gone {
            true => fs::remove_file(&file).unwrap(),
            false => fs::write(&file, "small").unwrap(),
        }
        let output = home.put(&["--cancel", &file, &url]).output().unwrap();
        assert!(heard(&output).0.starts_with("cancelled "), "{output:?}");
        assert_eq!(server.work_files(), [""; 0]);
        assert_eq!(home.remembered(), 0);
        fs::write(&file, content(1, 0, FILE_BYTES)).unwrap();
    }
    // A file that fits into one fragment by now gives up what the large one left.
    let url = half_there(&home, &server);
    fs::write(&file, content(3, 0, 1_000)).unwrap();
    let output = home.put(&[&file, &url]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    server.assert_file("a.bin", 3, 1_000);
    assert_eq!(server.work_files(), [""; 0]);
    assert_eq!(home.remembered(), 0);
}

#[test]
fn a_file_that_is_longer_than_it_says_is_not_cut_in_silence() {
    let (home, server) = (Home::new(), Server::start());
    let url = format!("http://{}/version", server.address());
    assert_eq!(fs::metadata("/proc/version").unwrap().len(), 0);
    let output = home.put(&["/proc/version", &url]).output().unwrap();
    let (_, words) = heard(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("longer than its length says"), "{words}");
    assert!(!server.file("version").exists());
}

#[test]
fn a_password_in_a_url_is_refused_and_not_shown() {
    let home = Home::new();
    let file = home.path("a.bin");
    for url in [
        "http://anna:letmein@127.0.0.1:1/a",
        "http://anna:let@mein@127.0.0.1:1/a#b",
        "ftp://anna:letmein@127.0.0.1/a",
        "anna:letmein@127.0.0.1/a",
    ] {
        let output = home.put(&[&file, url]).output().unwrap();
        let (_, words) = heard(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(!words.contains("mein"), "{words}");
        let is_http = url == "http://anna:letmein@127.0.0.1:1/a";
        assert_eq!(is_http, words.contains("--user"), "{words}");
    }
}

#[test]
fn an_upload_that_nobody_remembers_is_cancelled_by_ctrl_c() {
    let (home, server) = (Home::new(), Server::start());
    let url = format!("http://{}/a.bin", server.address());
    let slow = home.path("slow.bin");
    fs::File::create(&slow).unwrap().set_len(2 << 30).unwrap();
    let put = home.put(&["--no-resume", &slow, &url]).spawn().unwrap();
    let put = Started(Some(put));
    wait_until("it is under way", || {
        let parts = server.work_files();
        let part = parts.first().map(|name| server.file(".bitsd").join(name));
        part.is_some_and(|part| fs::metadata(part).is_ok_and(|part| part.len() > 0))
    });
    put.signal(Signal::TERM);
    let output = put.output();
    let (_, words) = heard(&output);
    assert_eq!(output.status.code(), Some(143), "{words}");
    assert!(words.contains("told to forget it"), "{words}");
    assert_eq!(home.remembered(), 0);
    wait_until("nothing is left at the server", || {
        server.work_files().is_empty()
    });
}

#[test]
fn a_directory_goes_with_all_that_is_in_it_and_a_sum() {
    let home = Home::new();
    let server = Server::with(support::server::Settings::default().file("create_dirs = true"));
    let dumps = home.folder.path().join("dumps");
    fs::create_dir_all(dumps.join("deep/er")).unwrap();
    for (seed, name) in ["1.bin", "deep/2.bin", "deep/er/3.bin"].iter().enumerate() {
        fs::write(dumps.join(name), content(seed as u64, 0, 1000)).unwrap();
    }
    let url = format!("http://{}/in/", server.address());
    let folder = home.path("dumps");
    let refused = home.put(&[&folder, &url]).output().unwrap();
    assert!(
        heard(&refused).1.contains("is a directory: -r"),
        "{refused:?}"
    );
    let output = home.put(&["-r", &folder, &url]).output().unwrap();
    let (said, errors) = heard(&output);
    assert!(output.status.success(), "{errors}");
    assert!(
        said.lines()
            .last()
            .unwrap()
            .starts_with("3 files, 2.93 KiB, 0 failed in"),
        "{said}"
    );
    for (seed, name) in ["1.bin", "deep/2.bin", "deep/er/3.bin"].iter().enumerate() {
        server.assert_file(&format!("in/dumps/{name}"), seed as u64, 1000);
    }
}

/// A folder of three files, and a server that makes folders.
fn tree(home: &Home) -> (String, Server) {
    let folder = home.folder.path().join("tree");
    fs::create_dir(&folder).unwrap();
    for (seed, name) in ["1.bin", "2.bin", "3.bin"].iter().enumerate() {
        fs::write(folder.join(name), content(seed as u64, 0, 1000)).unwrap();
    }
    let settings = support::server::Settings::default().file("create_dirs = true");
    (home.path("tree"), Server::with(settings))
}

/// A way to a server that gives no answer to a Close of `2.bin` until it is opened.
fn gate(server: &Server) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let is_open = Arc::new(AtomicBool::new(false));
    let (target, seen) = (server.address(), Arc::clone(&is_open));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, seen) = (client.unwrap(), Arc::clone(&seen));
            let mut server = std::net::TcpStream::connect(target).unwrap();
            let holds = Arc::new(AtomicBool::new(false));
            let (mut back_from, mut back_to, held) = (
                server.try_clone().unwrap(),
                client.try_clone().unwrap(),
                Arc::clone(&holds),
            );
            thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(read @ 1..) = back_from.read(&mut bytes) {
                    if !held.load(SeqCst) && back_to.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                let _ = back_to.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(read @ 1..) = client.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..read]);
                    let is_it = text.contains("/2.bin") && text.contains("Close-Session");
                    holds.fetch_or(is_it && !seen.load(SeqCst), SeqCst);
                    if server.write_all(&bytes[..read]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (url, is_open)
}

#[test]
fn a_tree_that_was_killed_comes_to_its_end_and_goes_anew_after_that() {
    for signal in [Signal::KILL, Signal::INT] {
        let home = Home::new();
        let (folder, server) = tree(&home);
        let (url, is_open) = gate(&server);
        let words = ["-r", &*folder, &*url];
        let put = Started(Some(home.put(&words).spawn().unwrap()));
        wait_until("the second file is there", || {
            server.file("tree/2.bin").exists()
        });
        put.signal(signal);
        assert!(!put.output().status.success());
        is_open.store(true, SeqCst);
        // The first file is remembered, and the second one is closed once more.
        let output = home.put(&words).output().unwrap();
        let (said, errors) = heard(&output);
        assert!(output.status.success(), "{errors}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("2 files, 1.95 KiB, 0 failed in"), "{said}");
        assert!(last.ends_with("; 1 was uploaded already"), "{said}");
        for (seed, name) in ["1.bin", "2.bin", "3.bin"].iter().enumerate() {
            server.assert_file(&format!("tree/{name}"), seed as u64, 1000);
        }
        assert_eq!(home.remembered(), 0, "nothing is left");
        // All of it is sent anew, and refused where it is.
        let output = home.put(&words).output().unwrap();
        let (said, errors) = heard(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("0 files, 0 B, 0 failed in"), "{said}");
        assert!(
            last.contains("; 3 exist already at the server") && last.contains("another name"),
            "{said}{errors}"
        );
        assert_eq!(home.remembered(), 0);
    }
}

#[test]
fn what_is_at_the_server_and_not_remembered_stays_an_error() {
    let home = Home::new();
    let (folder, server) = tree(&home);
    fs::create_dir(server.file("tree")).unwrap();
    fs::write(server.file("tree/2.bin"), "another").unwrap();
    let url = format!("http://{}/", server.address());
    let run = |more: &[&str], code: i32, ends: &str| {
        let words = [more, &["-r", &*folder, &*url]].concat();
        let output = home.put(&words).output().unwrap();
        let (said, errors) = heard(&output);
        assert_eq!(output.status.code(), Some(code), "{said}{errors}");
        let last = said.lines().last().unwrap_or_default().to_owned();
        assert!(last.contains(ends), "{said}{errors}");
    };
    let taken = "; 1 exists already at the server";
    run(&[], 1, taken);
    assert_eq!(home.remembered(), 1);
    run(&[], 1, &format!("; 2 were uploaded already{taken}"));
    // Whoever asks for it has all sent anew.
    run(&["--no-resume"], 1, "; 3 exist already at the server");
    // A file that is another one by now was not uploaded.
    fs::write(home.folder.path().join("tree/3.bin"), "changed").unwrap();
    let two = "; 2 exist already at the server";
    run(&[], 1, &format!("; 1 was uploaded already{two}"));
    for name in ["2.bin", "3.bin"] {
        fs::remove_file(server.file("tree").join(name)).unwrap();
    }
    run(&[], 0, "; 1 was uploaded already");
    assert_eq!(home.remembered(), 0);
    for name in ["1.bin", "2.bin"] {
        fs::remove_file(server.file("tree").join(name)).unwrap();
    }
    run(&[], 1, "2 files, ");
    // What was interrupted is forgotten on demand.
    assert_eq!(home.remembered(), 1);
    run(&["--cancel"], 0, "");
    assert_eq!(home.remembered(), 0);
}

#[test]
fn what_is_no_bits_server_is_named() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _head = stream.read(&mut [0; 4096]).unwrap();
        let answer =
            "HTTP/1.1 501 Unsupported\r\nServer: SimpleHTTP/0.6\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let output = home.put(&[&home.path("a.bin"), &url]).output().unwrap();
    server.join().unwrap();
    let (_, words) = heard(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        words.contains("something that does not speak BITS (Server: SimpleHTTP/0.6)"),
        "{words}"
    );
}

#[test]
fn an_outage_is_told_with_the_time_that_is_left() {
    let home = Home::new();
    let free = support::program::free_address();
    let url = format!("http://{free}/");
    let words = ["--retry-for", "300ms", &home.path("a.bin"), &url];
    let output = home.put(&words).output().unwrap();
    let (_, words) = heard(&output);
    assert_eq!(output.status.code(), Some(1));
    let first = words.lines().next().unwrap();
    assert!(
        first.contains("cannot connect") && first.contains("trying again for"),
        "{words}"
    );
    assert!(!Path::new(&home.path("state/bitsd")).exists() || home.remembered() <= 1);
}
