//! The proxy configurations of docs/operations.md, run as they stand there (with other ports)
//! before the real server.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use support::client::{Client, fragment};
use support::content::content;
use support::program::{Program, descriptors, free_address, snippet};
use support::raw::Raw;
use support::server::{Server, Settings};
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

/// Runs a proxy before a server that trusts nobody.
fn start(
    program: &str,
    block: &str,
    wrap: impl Fn(&str, &Path) -> String,
    command: impl Fn(&Path, &Path) -> Command,
) -> Option<Proxied> {
    let serve = || {
        let server = Server::start();
        (server.address(), server)
    };
    start_before(serve, program, block, wrap, command)
}

/// Runs a proxy before an address of a server.
fn start_before(
    serve: impl Fn() -> (SocketAddr, Server),
    program: &str,
    block: &str,
    wrap: impl Fn(&str, &Path) -> String,
    command: impl Fn(&Path, &Path) -> Command,
) -> Option<Proxied> {
    if Command::new(program).arg("-v").output().is_err() {
        skip(&format!("{program} is not installed"));
        return None;
    }
    let (behind, server) = serve();
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let site = block
        .replace("127.0.0.1:8081", &address.to_string())
        .replace("127.0.0.1:8080", &behind.to_string());
    assert!(
        site.contains(&behind.to_string()),
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
    let descriptors = || descriptors(server.pid());
    let before = descriptors();
    for number in 0..300 {
        let mut client = Client::create(proxied.address, &format!("/{number}.bin"));
        client.send(fragment(0..100).of(200)).assert(200, None);
    }
    assert_eq!(server.work_files().len(), 300);
    wait_until("their files are closed", || descriptors() <= before + 16);
}

/// A certificate for this test, and what a proxy needs of it in its folder.
struct Site {
    certificate: CertificateDer<'static>,
    /// Certificate and key.
    pem: String,
    /// The line of a file of users.
    user: String,
}

impl Site {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let haproxy = snippet("haproxy", 1);
        let hash = haproxy.split("user uploader password ").nth(1).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            pem: made.cert.pem() + &made.signing_key.serialize_pem(),
            user: format!("uploader:{}\n", hash.lines().next().unwrap()),
        }
    }

    /// The configuration with its files in the folder of the test instead of /etc/bitsd.
    fn settle(&self, site: &str, folder: &Path) -> String {
        std::fs::write(folder.join("site.pem"), &self.pem).unwrap();
        std::fs::write(folder.join("users"), &self.user).unwrap();
        let site = site.replace("/etc/nginx/bitsd.users", "/etc/bitsd/users");
        site.replace("/etc/bitsd", &folder.display().to_string())
    }

    /// One packet on a connection of its own: the status of its answer, and the session it names.
    fn send(&self, address: SocketAddr, head: &str, body: &[u8]) -> (u16, Option<String>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(tls, socket);
        let common = format!("Host: localhost\r\nContent-Length: {}\r\n", body.len());
        write!(stream, "BITS_POST /a.bin HTTP/1.1\r\n{common}{head}\r\n").unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            let read = stream.read(&mut piece).unwrap();
            assert!(read > 0, "no answer: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..read]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer[9..12].parse().unwrap();
        let mut lines = answer.lines();
        let session = lines.find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("BITS-Session-Id")
                .then(|| value.to_owned())
        });
        (status, session)
    }

    /// Uploads a file over TLS with a password, and is refused without.
    fn upload(&self, proxied: &Proxied) {
        let send = |head: &str, body: &[u8]| self.send(proxied.address, head, body);
        let ping = "BITS-Packet-Type: Ping\r\n";
        assert_eq!(send(ping, b"").0, 401);
        let with = |password: &str| {
            let word = BASE64_STANDARD.encode(format!("uploader:{password}"));
            format!("Authorization: Basic {word}\r\n")
        };
        assert_eq!(send(&(with("guessed") + ping), b"").0, 401);
        let known = with("change-me");
        assert_eq!(send(&format!("{known}{ping}"), b"").0, 200);
        let create = "BITS-Packet-Type: Create-Session\r\n\
                      BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\n";
        let (status, session) = send(&format!("{known}{create}"), b"");
        assert_eq!(status, 200);
        let session = format!("{known}BITS-Session-Id: {}\r\n", session.unwrap());
        let fragment = "BITS-Packet-Type: Fragment\r\nContent-Range: bytes 0-4/5\r\n";
        assert_eq!(send(&format!("{session}{fragment}"), b"hello").0, 200);
        let close = "BITS-Packet-Type: Close-Session\r\n";
        assert_eq!(send(&format!("{session}{close}"), b"").0, 200);
        assert_eq!(
            std::fs::read(proxied.server.file("a.bin")).unwrap(),
            b"hello"
        );
    }
}

#[test]
fn uploads_pass_tls_and_a_password_at_nginx() {
    let site = Site::new();
    let block = snippet("nginx", 1).replace("listen 443", "listen 127.0.0.1:8081");
    let wrap = |block: &str, folder: &Path| nginx_file(&site.settle(block, folder), folder);
    if let Some(proxied) = start("nginx", &block, wrap, nginx_command) {
        site.upload(&proxied);
    }
}

#[test]
fn uploads_pass_tls_and_a_password_at_haproxy() {
    let site = Site::new();
    let block = snippet("haproxy", 1).replace("bind :443", "bind 127.0.0.1:8081");
    let wrap = |block: &str, folder: &Path| site.settle(block, folder);
    let proxied = start("haproxy", &block, wrap, |file, _folder| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        command
    });
    if let Some(proxied) = proxied {
        site.upload(&proxied);
    }
}

/// Settings as docs/operations.md has them, with other ports: one of those that speak of proxies.
fn behind_proxies(number: usize, above: &str) -> Settings {
    let of_proxies = (0..).map(|number| snippet("toml", number));
    let mut of_proxies = of_proxies.filter(|lines| lines.contains("trusted_proxies"));
    let lines = of_proxies.nth(number).expect("they stand there");
    Settings::default().file(&format!(
        "{above}\n{}",
        lines.replace("127.0.0.1:8080", "127.0.0.1:0")
    ))
}

/// A ping from another address than the proxy's.
fn ping_from(source: &str, address: SocketAddr, lines: &str) -> u16 {
    let mut raw = Raw::connect_from(source.parse().unwrap(), address);
    raw.send(format!(
        "BITS_POST /a.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
         BITS-Packet-Type: Ping\r\n{lines}\r\n"
    ));
    raw.receive().status
}

#[test]
fn nginx_says_who_is_behind_it_and_nobody_says_it_for_him() {
    let site = Site::new();
    let block = snippet("nginx", 2);
    let wrap = |block: &str, folder: &Path| nginx_file(&site.settle(block, folder), folder);
    let serve = || {
        let server = Server::with(behind_proxies(0, "allow_from = \"127.0.0.2\""));
        (server.address(), server)
    };
    let Some(proxied) = start_before(serve, "nginx", &block, wrap, nginx_command) else {
        return;
    };
    let ping = |source, lines: &str| ping_from(source, proxied.address, lines);
    let word = BASE64_STANDARD.encode("uploader:change-me");
    let known = format!("Authorization: Basic {word}\r\n");
    let forged = "X-Remote-User: root\r\nX-Forwarded-For: 127.0.0.2\r\n";
    assert_eq!(ping("127.0.0.2", &known), 200);
    assert_eq!(ping("127.0.0.3", &known), 403);
    assert_eq!(ping("127.0.0.3", &format!("{known}{forged}")), 403);
    assert_eq!(ping("127.0.0.2", forged), 401, "nginx asks itself");
    proxied.server.wait_for_log("peer=127.0.0.3:0");
    // Past the proxy, nobody is taken for whom he says.
    assert_eq!(
        ping_from("127.0.0.2", proxied.server.address(), forged),
        403
    );
}

#[test]
fn haproxy_says_whose_a_connection_is_in_both_versions() {
    let near = "proxy_protocol = \"required\"\nallow_from = [\"127.0.0.1\", \"127.0.0.2\"]";
    for version in ["send-proxy-v2", "send-proxy"] {
        let block = snippet("haproxy", 2).replace("send-proxy-v2", version);
        let wrap = |site: &str, _folder: &Path| site.to_owned();
        let serve = || {
            let mut settings = behind_proxies(1, "");
            settings.file = settings.file.replace("proxy_protocol = \"required\"", near);
            let server = Server::with(settings);
            (server.plain(), server)
        };
        let proxied = start_before(serve, "haproxy", &block, wrap, |file, _folder| {
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(file);
            command
        });
        let Some(proxied) = proxied else {
            return;
        };
        let ping = |source| ping_from(source, proxied.address, "");
        assert_eq!(ping("127.0.0.2"), 200, "{version}");
        let mut raw = Raw::connect_from("127.0.0.3".parse().unwrap(), proxied.address);
        let _ = raw.try_send("BITS_POST /a.bin HTTP/1.1\r\n");
        assert!(!matches!(raw.try_receive(), Ok(Some(_))), "{version}");
        proxied.server.wait_for_log("peer=127.0.0.3:");
        let mut client = Client::create(proxied.address, "/a.bin");
        client.send_rest(0, 3_000_000, 1_000_000);
        client.close().assert(200, None);
        proxied.server.assert_file("a.bin", 1, 3_000_000);
    }
}
