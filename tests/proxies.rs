//! The proxy configurations of the README, run as they stand there (with other ports) before the real server.

mod support;

use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use support::content::content;
use support::program::{Program, free_address, snippet};
use support::server::Server;
use support::{skip, wait_until};

#[test]
fn uploads_pass_nginx() {
    let block = snippet("nginx", 0);
    upload_through("nginx", &block, nginx_file, nginx_command);
}

/// What nginx does when nothing is configured: HTTP/1.0 to the server, a connection for each request, and
/// 413 for a fragment over 1 MiB, on which a client sends smaller ones.
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

/// Runs a proxy before a server, uploads 5 MB in fragments through it, and compares.
fn upload_through(
    program: &str,
    block: &str,
    wrap: impl Fn(&str, &Path) -> String,
    command: impl Fn(&Path, &Path) -> Command,
) {
    if Command::new(program).arg("-v").output().is_err() {
        return skip(&format!("{program} is not installed"));
    }
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let proxy_address = free_address();
    let site = block
        .replace("127.0.0.1:8081", &proxy_address.to_string())
        .replace("127.0.0.1:8080", &server.address().to_string());
    assert!(
        site.contains(&server.address().to_string()),
        "the README's addresses: {block}"
    );
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, wrap(&site, folder.path())).unwrap();
    let mut command = command(&file, folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut proxy = Program(command.spawn().unwrap());
    wait_until("the proxy listens", || {
        assert_eq!(proxy.0.try_wait().unwrap(), None, "{program} has ended");
        TcpStream::connect(proxy_address).is_ok()
    });

    let sent = content(7, 0, 5_000_000);
    let local = folder.path().join("local.bin");
    std::fs::write(&local, &sent).unwrap();
    // More than the 1 MiB that nginx takes by default: there the client must shrink them.
    let put = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--quiet", "--no-resume"])
        .args(["--retry-for", "20s", "--fragment-bytes", "1200000"])
        .arg(&local)
        .arg(format!("http://{proxy_address}/"))
        .stdin(Stdio::null())
        .spawn();
    let status = Program(put.unwrap()).wait();
    assert!(status.success(), "put through {program}: {status}");
    assert!(
        std::fs::read(server.file("local.bin")).unwrap() == sent,
        "the file differs"
    );
}
