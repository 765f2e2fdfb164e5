//! The live page of the real server, looked at in a headless browser: `tests/page/page.mjs` says
//! what a person would see.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::client::{Client, fragment};
use support::listing;
use support::mount::Disk;
use support::program::free_address;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// Where the browser's tools are: playwright-core and axe-core, as `.ci/run` installs them.
fn tools() -> Option<PathBuf> {
    let given = std::env::var_os("BITSD_PAGE_TOOLS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_BIN_EXE_bitsd"))
        .ancestors()
        .nth(2)
        .map(|target| target.join("page"));
    let folder = given.or(beside)?;
    let is_there = |name: &str| folder.join("node_modules").join(name).is_dir();
    let has_browser = Path::new("/usr/bin/chromium").exists();
    (has_browser && is_there("playwright-core") && is_there("axe-core")).then_some(folder)
}

const NO_TOOLS: &str = "no chromium, or no playwright-core and axe-core \
     (npm install --prefix target/page playwright-core axe-core)";

fn start(root: &Path, address: SocketAddr, lines: &str) -> Server {
    let settings = format!("create_dirs = true\nadmin_listen = \"{address}\"\n{lines}");
    Server::on(root, Settings::default().file(&settings))
}

/// Runs a scenario; `act` does what it asks for.
#[track_caller]
fn look(tools: &Path, scenario: &str, address: SocketAddr, mut act: impl FnMut(&str)) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/page.mjs");
    let url = format!("http://{address}/");
    let mut node = Command::new("timeout")
        .args(["120", "node"])
        .arg(script)
        .arg(tools)
        .args([scenario, &url])
        .args(std::env::var_os("BITSD_PICTURES"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let (mut stdin, stdout) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
    for line in BufReader::new(stdout).lines() {
        let line = line.unwrap();
        if let Some(what) = line.strip_prefix("ASK ") {
            act(what);
            writeln!(stdin, "done {what}").unwrap();
        }
        said.push_str(&line);
        said.push('\n');
    }
    let mut why = String::new();
    let mut stderr = node.stderr.take().unwrap();
    stderr.read_to_string(&mut why).unwrap();
    let status = node.wait().unwrap();
    assert!(status.success() && said.ends_with("well\n"), "{said}{why}");
}

fn upload(server: &Server, path: &str) {
    let mut client = Client::create(server.address(), path);
    client.send(fragment(0..100)).assert(200, None);
    client.close().assert(200, None);
}

/// A server at which one file has arrived, one is refused, and one is under way.
fn with_uploads(root: &Path, address: SocketAddr) -> (Server, Client) {
    let server = start(root, address, "");
    upload(&server, "/host-7/done.zip");
    upload(&server, "/host-8/there.zip");
    let mut refused = Client::new(server.address(), "/host-8/there.zip");
    assert_eq!(refused.try_create().status, 403);
    let mut open = Client::create(server.address(), "/host-9/open.zip");
    open.send(fragment(0..100).of(400)).assert(200, None);
    (server, open)
}

#[test]
fn it_lists_filters_and_is_for_everybody() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let (_server, _open) = with_uploads(root.path(), address);
    look(&tools, "shows", address, |_| {});
    look(&tools, "snapshot", address, |_| {});
}

#[test]
fn names_from_outside_are_text() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let server = start(root.path(), address, "");
    // Of 255 bytes, the most that a file system takes, and a path of almost 4 KiB.
    let long = "l".repeat(255);
    for name in ["a'&%E2%80%AEgpj.exe", "%E2%80%8Bhidden%E2%81%A6", &long] {
        upload(&server, &format!("/h/{name}"));
    }
    // What no file may be called is shown as it was asked for.
    let deep = format!("/{}", vec![long.as_str(); 15].join("/"));
    for path in ["/h/%3Cimg%20src=x%20onerror=alert(1)%3E", &deep] {
        Client::new(server.address(), path).try_create();
    }
    look(&tools, "hostile", address, |_| {});
}

#[test]
fn what_is_looked_for_is_looked_for_again() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let server = start(root.path(), address, "");
    look(&tools, "finds", address, |_| {
        let mut open = Client::create(server.address(), "/host-10/late.zip");
        open.send(fragment(0..100).of(400)).assert(200, None);
    });
}

#[test]
fn it_survives_a_restart_of_the_server() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let mut server = Some(start(root.path(), address, ""));
    look(&tools, "restart", address, |what| {
        server = match what {
            "start" => Some(start(root.path(), address, "")),
            _ => None,
        };
    });
}

#[test]
fn a_full_disk_is_shown_with_what_helps() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let folder = tempfile::tempdir().unwrap();
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let Some(disk) = Disk::mount(folder.path(), &mkfs, 64 << 20, "rw") else {
        return skip("no file system can be mounted here");
    };
    let (root, address) = (disk.path().join("root"), free_address());
    std::fs::create_dir(&root).unwrap();
    let _server = start(&root, address, "");
    let filler = disk.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 64 << 10]).is_ok() {}
    drop(file);
    wait_until("it is full", || status(address, "/ready") == 503);
    look(&tools, "full", address, |_| {
        std::fs::remove_file(&filler).unwrap()
    });
}

/// Status of an answer.
fn status(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let status = answer.split(' ').nth(1);
    status.and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn so_many_pages_look_and_the_next_one_hears_it() {
    const PAGES_MAX: usize = 16;
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let server = start(root.path(), address, "");
    let begin = || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        (line, lines)
    };
    let mut pages = Vec::new();
    for _ in 0..PAGES_MAX {
        let (line, page) = begin();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        pages.push(page);
    }
    assert!(begin().0.starts_with("HTTP/1.1 503 "));
    upload(&server, "/h/a.zip");
    // All see the same.
    for page in &mut pages {
        let mut seen = String::new();
        while !seen.contains("/h/a.zip") {
            assert!(page.read_line(&mut seen).unwrap() > 0, "{seen}");
        }
        assert!(seen.contains("event: history\ndata: {"), "{seen}");
    }
    drop(pages);
    wait_until("there is room again", || {
        begin().0.starts_with("HTTP/1.1 200 ")
    });
}

#[test]
fn commands_say_the_same_and_take_the_beginning_of_an_id() {
    let (root, address) = (tempfile::tempdir().unwrap(), free_address());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("a.sock");
    let server = start(root.path(), address, &format!("admin_socket = {socket:?}"));
    upload(&server, "/host-7/done.zip");
    upload(&server, "/host-8/there.zip");
    let mut refused = Client::new(server.address(), "/host-8/there.zip");
    assert_eq!(refused.try_create().status, 403);
    let mut open = Client::create(server.address(), "/host-9/open.zip");
    open.send(fragment(0..100).of(400)).assert(200, None);
    let bitsd = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(words).arg("--socket").arg(&socket).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, status) = bitsd(&["status"]);
    assert_eq!(code, Some(0), "{status}");
    let stuck = status.split("STUCK\n").nth(1).expect("what is stuck");
    assert!(stuck.contains("/host-8/there.zip"), "{status}");
    let (_, folders) = bitsd(&["status", "--by-folder"]);
    let first = folders.lines().nth(1).unwrap();
    assert!(
        first.contains("not since the start") && first.ends_with("/host-9"),
        "{folders}"
    );
    let (_, list) = bitsd(&["sessions", "list", "--json"]);
    let session: serde_json::Value = serde_json::from_str(list.trim()).unwrap();
    let id = session["id"].as_str().unwrap().trim_matches(['{', '}']);
    let (code, shown) = bitsd(&["sessions", "show", &id[..8].to_lowercase()]);
    assert!(
        code == Some(0) && shown.contains("host-9/open.zip"),
        "{shown}"
    );
    let (code, why) = bitsd(&["sessions", "show", "0"]);
    assert_eq!(code, Some(2), "{why}");
    let other = if id.starts_with('0') { "1" } else { "0" }.repeat(8);
    assert_eq!(bitsd(&["sessions", "cancel", &other]).0, Some(1));
    // Somebody who may look learns no more of an id than is shown.
    let over_tcp = |any: &str| {
        ask(
            &mut TcpStream::connect(address).unwrap(),
            &format!("GET /v1/sessions?any={any} HTTP/1.0"),
        )
    };
    let listed = |any: &str| listing::of_json(over_tcp(any).split("\r\n\r\n").nth(1).unwrap());
    assert_eq!(listed(&id[..8]).len(), 1);
    assert_eq!(listed(&id[..8]), listed(&format!("{}-0000", &id[..8])));
    assert!(!over_tcp(&id[..8]).contains(&id[..9]));
    // `ssh -L` brings browsers to the socket: neither a name of theirs nor an order is taken.
    let over_socket = |head: &str| ask(&mut UnixStream::connect(&socket).unwrap(), head);
    let order = format!("POST /v1/sessions/{id}/cancel HTTP/1.1\r\nHost: localhost");
    let of_page = over_socket(&format!("{order}\r\nOrigin: http://evil.example"));
    assert!(of_page.starts_with("HTTP/1.1 403 "), "{of_page}");
    let renamed = over_socket("GET /v1/sessions HTTP/1.1\r\nHost: evil.example");
    assert!(renamed.starts_with("HTTP/1.1 403 "), "{renamed}");
    let (code, said) = bitsd(&["sessions", "cancel", &id[..8]]);
    assert!(code == Some(0) && said.contains("is cancelled"), "{said}");
    assert_eq!(bitsd(&["sessions", "list"]).1, "no unfinished uploads\n");
}

fn ask(stream: &mut (impl std::io::Read + std::io::Write), head: &str) -> String {
    write!(stream, "{head}\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// The page's script has no build: its types stand in comments, and are checked here.
#[test]
fn the_script_is_well_typed() {
    let Some(tools) = tools() else {
        return skip(NO_TOOLS);
    };
    let tsc = tools.join("node_modules/.bin/tsc");
    if !tsc.exists() {
        return skip("no typescript (npm install --prefix target/page typescript)");
    }
    let page = include_str!("../src/admin/page.html");
    let script = page.split("<script>").nth(1).unwrap();
    let script = script.split("</script>").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.js");
    std::fs::write(&file, script).unwrap();
    let flags =
        "--noEmit --allowJs --checkJs --strict --target es2022 --lib es2022,dom,dom.iterable";
    let checked = Command::new(tsc)
        .args(flags.split(' '))
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
}
