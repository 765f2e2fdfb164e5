//! The proxy configurations of docs/operations.md, run as they stand there (with other ports)
//! before the real server.

mod support;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use support::client::{Client, fragment};
use support::content::content;
use support::program::{Program, free_address, snippet};
use support::server::Server;
use support::{skip, wait_until};
use tempfile::TempDir;

#[test]
fn uploads_pass_nginx() {
    let block = snippet("nginx", 0);
    upload_through("nginx", &block, nginx_file, nginx_command);
}

/// What nginx does when nothing is configured: HTTP/1.0 to the server, a connection for each
/// request, and 413 for a fragment over 1 MiB, on which a client sends smaller ones.
#[test]
fn uploads_pass_nginx_with_its_defaults() {
    let block =
        "server { listen 127.0.0.1:8081; location / { proxy_pass http://127.0.0.1:8080; } }";
    upload_through("nginx", block, nginx_file, nginx_command);
}

#[test]
fn uploads_pass_haproxy() {
    let block = snippet("haproxy", 0);
    let wrap = |site: &str, _folder: &Path| site.to_owned();
    upload_through("haproxy", &block, wrap, |file, _folder| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    });
}

/// A whole configuration around a site, with everything it writes in one folder.
fn nginx_file(site: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;\nevents {{}}\nhttp {{\n\
         access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n{site}\n}}\n"
    )
}

fn nginx_command(file: &Path, folder: &Path) -> Command {
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file);
    command
}

/// A proxy before a server, and the folder of its files. Both end with it.
struct Proxied {
    address: SocketAddr,
    _proxy: Program,
    server: Server,
    folder: TempDir,
}

/// Runs a proxy before a server.
fn start(
    program: &str,
    block: &str,
    wrap: impl Fn(&str, &Path) -> String,
    command: impl Fn(&Path, &Path) -> Command,
) -> Option<Proxied> {
    if Command::new(program).arg("-v").output().is_err() {
        skip(&format!("{program} is not installed"));
        return None;
    }
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let site = block
        .replace("127.0.0.1:8081", &address.to_string())
        .replace("127.0.0.1:8080", &server.address().to_string());
    assert!(
        site.contains(&server.address().to_string()),
        "the addresses of docs/operations.md: {block}"
    );
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, wrap(&site, folder.path())).unwrap();
    let mut command = command(&file, folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut proxy = Program(command.spawn().unwrap());
    wait_until("the proxy listens", || {
        assert_eq!(proxy.0.try_wait().unwrap(), None, "{program} has ended");
        TcpStream::connect(address).is_ok()
    });
    Some(Proxied {
        address,
        _proxy: proxy,
        server,
        folder,
    })
}

/// Uploads 5 MB in fragments through a proxy, and compares.
fn upload_through(
    program: &str,
    block: &str,
    wrap: impl Fn(&str, &Path) -> String,
    command: impl Fn(&Path, &Path) -> Command,
) {
    let Some(proxied) = start(program, block, wrap, command) else {
        return;
    };
    let sent = content(7, 0, 5_000_000);
    let local = proxied.folder.path().join("local.bin");
    std::fs::write(&local, &sent).unwrap();
    // More than the 1 MiB that nginx takes by default: there the client must shrink them.
    let put = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--quiet", "--no-resume"])
        .args(["--retry-for", "20s", "--fragment-bytes", "1200000"])
        .arg(&local)
        .arg(format!("http://{}/", proxied.address))
        .stdin(Stdio::null())
        .spawn();
    let status = Program(put.unwrap()).wait();
    assert!(status.success(), "put through {program}: {status}");
    assert!(
        std::fs::read(proxied.server.file("local.bin")).unwrap() == sent,
        "the file differs"
    );
    // A proxy may use a connection for each request; nothing was interrupted.
    proxied.server.wait_for_log("session ended");
    let log = proxied.server.log();
    assert!(log.contains("interruptions=0"), "{log}");
}

/// HAProxy as docs/operations.md has it.
fn haproxy() -> Option<Proxied> {
    let wrap = |site: &str, _folder: &Path| site.to_owned();
    start("haproxy", &snippet("haproxy", 0), wrap, |file, _folder| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    })
}

#[test]
fn what_is_sent_again_after_a_lost_ack_passes_haproxy() {
    let Some(proxied) = haproxy() else {
        return;
    };
    const FRAGMENT: u64 = 24 << 20;
    let mut client = Client::create(proxied.address, "/a.bin");
    let first = fragment(0..FRAGMENT).of(3 * FRAGMENT);
    client.send(first.clone()).assert(200, None);
    for _ in 0..2 {
        client.reconnect();
        // All of it is sent before anything is read; a reset would be the loss of the answer.
        let again = client.try_send(&first).expect("the answer to the fragment");
        assert_eq!(again.assert(200, None).received(), FRAGMENT);
        let gap = fragment(2 * FRAGMENT..3 * FRAGMENT).of(3 * FRAGMENT);
        client.reconnect();
        let refused = client.try_send(&gap).expect("the answer to the gap");
        assert_eq!((refused.status, refused.received()), (416, FRAGMENT));
    }
}

#[test]
fn sessions_of_clients_that_left_haproxy_hold_no_descriptors() {
    let Some(proxied) = haproxy() else {
        return;
    };
    let server = &proxied.server;
    let descriptors = || {
        let folder = format!("/proc/{}/fd", server.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = descriptors();
    for number in 0..300 {
        let mut client = Client::create(proxied.address, &format!("/{number}.bin"));
        client.send(fragment(0..100).of(200)).assert(200, None);
    }
    assert_eq!(server.work_files().len(), 300);
    wait_until("their files are closed", || descriptors() <= before + 16);
}
