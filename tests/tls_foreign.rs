//! TLS as others speak it: OpenSSL with the lists of each Windows, curl, Python, and `bitsd put`.

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::content::content;
use support::server::Server;
use support::skip;
use support::tls::{Authority, Pair, listener};

/// What Schannel of Windows 7, 8.1 and Server 2012 R2 offers for TLS 1.2, by the names of OpenSSL
/// ("TLS Cipher Suites in Windows 8.1"): with RSA there is no ECDHE with GCM.
const WINDOWS_8_1: &str = "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:\
    ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:\
    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-GCM-SHA256:\
    AES256-SHA256:AES128-SHA256:AES256-SHA:AES128-SHA";
/// Windows 10 and Server 2016 and 2019 ("TLS Cipher Suites in Windows 10 v22H2").
const WINDOWS_10: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:\
    ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:\
    DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:\
    ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-SHA";

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    let is_there = found.is_ok() || Command::new(program).arg("version").output().is_ok();
    if !is_there {
        skip(&format!("there is no {program}"));
    }
    is_there
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// Says `input` by OpenSSL; what it tells of the connection, and what the server answers.
fn s_client(server: &Server, ca: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &server.secure().to_string()])
        .args([
            "-servername",
            "localhost",
            "-verify_return_error",
            "-ign_eof",
            "-CAfile",
        ])
        .arg(ca)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have given up already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    text(&child.wait_with_output().unwrap())
}

const PING: &str = "BITS_POST /a HTTP/1.1\r\nHost: localhost\r\nBITS-Packet-Type: Ping\r\n\
                    Content-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn each_windows_has_a_suite_in_common_where_there_is_an_ecdsa_certificate() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let ecdsa = authority.server("ecdsa", &["localhost"]);
    let rsa = authority.rsa("rsa", "localhost").unwrap();
    let old = ["-tls1_2", "-cipher", WINDOWS_8_1, "-groups", "P-256:P-384"];
    let ten = [
        "-tls1_2",
        "-cipher",
        WINDOWS_10,
        "-groups",
        "X25519:P-256:P-384",
    ];
    let eleven = [
        "-tls1_3",
        "-ciphersuites",
        "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
    ];
    let ping = |pairs: &[&Pair], args: &[&str]| {
        let server = Server::with(listener("", pairs));
        let said = s_client(&server, &authority.ca(), args, PING);
        (said, server)
    };
    for pairs in [vec![&ecdsa], vec![&rsa, &ecdsa], vec![&ecdsa, &rsa]] {
        for args in [&old[..], &ten, &eleven] {
            let (said, _server) = ping(&pairs, args);
            assert!(said.contains("HTTP/1.1 200 OK"), "{args:?}: {said}");
            assert!(
                said.contains("Peer signature type: ECDSA"),
                "{args:?}: {said}"
            );
        }
    }
    for args in [&ten[..], &eleven] {
        let (said, _server) = ping(&[&rsa], args);
        assert!(said.contains("HTTP/1.1 200 OK"), "{args:?}: {said}");
    }
    for (pair, args, says) in [
        (&rsa, &old[..], "have one only with an ECDSA certificate"),
        // With CBC alone: no certificate helps here.
        (
            &ecdsa,
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
            "goes with a certificate of ours",
        ),
        // RSA encrypts the keys, and no curve is named.
        (
            &ecdsa,
            &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
            "it offers no exchange of keys that is taken here",
        ),
        (
            &ecdsa,
            &["-tls1_2", "-groups", "P-521"],
            "it offers no exchange of keys that is taken here",
        ),
    ] {
        let (said, server) = ping(&[pair], args);
        assert!(said.contains("handshake failure"), "{said}");
        server.wait_for_log(says);
    }
    // And a client that has no ECDSA gets RSA.
    let only_rsa = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    let (said, _server) = ping(&[&ecdsa, &rsa], &only_rsa);
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
}

/// Makes a certificate that signs itself, unless the further arguments name another one.
fn make_certificate(authority: &Authority, name: &str, args: &[&str], chain: &Path, key: &Path) {
    let config = authority.file("config");
    std::fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n").unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={name}"),
            "-config",
        ])
        .arg(&config)
        .args(args)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(chain)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
}

/// Keys that ring proves nothing by are told from keys of others, which may have the same name.
#[test]
fn a_certificate_of_an_authority_with_a_short_key_is_refused_for_that() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let [ca, ca_key, own, own_key] =
        ["ca2.pem", "ca2.key", "own.pem", "own.key"].map(|name| authority.file(name));
    let of_authority = ["-addext", "basicConstraints=critical,CA:TRUE"];
    let short = [&["-newkey", "rsa:1024"], &of_authority[..]].concat();
    make_certificate(&authority, "short", &short, &ca, &ca_key);
    let signer = [
        "-CA",
        ca.to_str().unwrap(),
        "-CAkey",
        ca_key.to_str().unwrap(),
    ];
    let client = ["-addext", "extendedKeyUsage=clientAuth"];
    let args = [&["-newkey", "rsa:2048"], &client[..], &signer].concat();
    make_certificate(&authority, "client", &args, &own, &own_key);
    let pair = authority.server("server", &["localhost"]);
    let server = Server::with(listener(&format!("client_ca = {ca:?}"), &[&pair]));
    let args = [
        "-cert",
        own.to_str().unwrap(),
        "-key",
        own_key.to_str().unwrap(),
    ];
    let said = s_client(&server, &authority.ca(), &args, PING);
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
    server.wait_for_log("its authority has an RSA key of less than 2048 bits");
}

/// Goal: whoever is refused with a certificate of the right authority is told of by its name and by
/// the true cause. Method: certificates as people make them by hand.
#[test]
fn a_certificate_of_a_client_is_refused_in_words_and_by_its_name() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let [ca, ca_key] = ["clients.pem", "clients.key"].map(|name| authority.file(name));
    let make = |name: &str, args: &[&str], chain: &Path, key: &Path| {
        make_certificate(&authority, name, args, chain, key);
    };
    const EC: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    const CLIENT: [&str; 2] = ["-addext", "extendedKeyUsage=clientAuth"];
    let of_authority = [&EC[..], &["-addext", "basicConstraints=critical,CA:TRUE"]].concat();
    make("clients", &of_authority, &ca, &ca_key);
    let lines = format!("client_ca = {ca:?}");
    let server = Server::with(listener(
        &lines,
        &[&authority.server("server", &["localhost"])],
    ));
    let [signer, key] = [&ca, &ca_key].map(|path| path.to_str().unwrap());
    for (name, args, says) in [
        (
            "short",
            vec!["-newkey", "rsa:1024"],
            "its RSA key has 1024 bits, and 2048 are the least",
        ),
        (
            "weak",
            [&EC[..], &["-sha1"]].concat(),
            "signed in a way that is not taken (SHA-1)",
        ),
        (
            "signs",
            of_authority.clone(),
            "that of an authority (CA:TRUE)",
        ),
        (
            "odd",
            [&EC[..], &["-addext", "1.2.3.4=critical,ASN1:NULL"]].concat(),
            "a critical extension",
        ),
    ] {
        let own = [".pem", ".key"].map(|end| authority.file(&format!("{name}{end}")));
        let args = [&args[..], &CLIENT, &["-CA", signer, "-CAkey", key]].concat();
        make(name, &args, &own[0], &own[1]);
        let [own, own_key] = own.each_ref().map(|path| path.to_str().unwrap());
        for version in ["-tls1_2", "-tls1_3"] {
            let args = [
                "-cert",
                own,
                "-key",
                own_key,
                "-cipher",
                "ALL:@SECLEVEL=0",
                version,
            ];
            let said = s_client(&server, &authority.ca(), &args, PING);
            assert!(!said.contains("HTTP/1.1 200"), "{said}");
        }
        server.wait_for_log(says);
        let log = server.log();
        let mut lines = log.lines().filter(|line| line.contains("handshake_failed"));
        let is_whole = |line: &str| line.contains(says) && line.contains(&format!("CN={name}"));
        assert!(lines.any(is_whole), "{log}");
    }
    let log = server.log();
    for wrong in ["OtherError", "Context", "none of those in client_ca"] {
        assert!(!log.contains(wrong), "{wrong}: {log}");
    }
}

#[test]
fn old_versions_and_renegotiation_get_nobody_anywhere() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    // Neither names signature algorithms, of which rustls asks first (RFC 5246 E.1 for the alert).
    for old in [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
    ] {
        let said = s_client(&server, &authority.ca(), &old, PING);
        assert!(!said.contains("HTTP/1.1"), "{said}");
        assert!(said.contains("alert protocol version"), "{said}");
    }
    server.wait_for_log("it offers no version of TLS that is enabled here");
    assert!(!server.log().contains("SignatureAlgorithms"));
    // A line with an R alone makes it ask for new keys.
    let said = s_client(&server, &authority.ca(), &["-tls1_2"], "R\nR\nR\n");
    assert!(!said.contains("HTTP/1.1 200"), "{said}");
    let said = s_client(&server, &authority.ca(), &[], PING);
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
}

#[test]
fn curl_uploads_by_either_version() {
    if !has("curl") {
        return;
    }
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, content(1, 0, 300_000)).unwrap();
    for version in ["1.2", "1.3"] {
        let path = format!("curl-{version}.bin");
        let url = format!("https://localhost:{}/{path}", server.secure().port());
        let packet = |kind: &str, session: &str, more: &[&str]| {
            let output = Command::new("curl")
                .args([
                    "-sS",
                    "-i",
                    "-X",
                    "BITS_POST",
                    "--tls-max",
                    version,
                    "--cacert",
                ])
                .arg(authority.ca())
                .args(["-H", &format!("BITS-Packet-Type: {kind}"), "-H", session])
                .args(more)
                .arg(&url)
                .output()
                .unwrap();
            let said = text(&output);
            assert!(said.contains("200 OK"), "{kind}: {said}");
            let id = said
                .lines()
                .find_map(|line| line.strip_prefix("BITS-Session-Id: "));
            format!("BITS-Session-Id: {}", id.unwrap_or_default().trim())
        };
        let protocols = "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}";
        let nothing = ["-H", "Content-Length: 0"];
        let session = packet("Create-Session", protocols, &nothing);
        let file = format!("@{}", body.display());
        let range = "Content-Range: bytes 0-299999/300000";
        packet("Fragment", &session, &["-H", range, "--data-binary", &file]);
        packet("Close-Session", &session, &nothing);
        server.assert_file(&path, 1, 300_000);
    }
}

const PYTHON: &str = r#"
import http.client, ssl, sys
host, port, ca, path, total, step = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6])
context = ssl.create_default_context(cafile=ca)
content = open(sys.argv[7], "rb").read()
connection = http.client.HTTPSConnection(host, port, context=context, timeout=30)
def packet(kind, fields={}, body=b""):
    connection.request("BITS_POST", path, body, {"BITS-Packet-Type": kind, **fields})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, (kind, answer.status, answer.headers)
    return answer.headers
session = packet("Create-Session", {"BITS-Supported-Protocols": "{7df0354d-249b-430f-820d-3d2a9bef4931}"})["BITS-Session-Id"]
at = 0
while at < total:
    end = min(total, at + step)
    packet("Fragment", {"BITS-Session-Id": session, "Content-Range": f"bytes {at}-{end - 1}/{total}"}, content[at:end])
    at = end
packet("Close-Session", {"BITS-Session-Id": session})
sock = connection.sock
print(sock.version(), sock.selected_alpn_protocol())
# The end is said: recv gives b"" and raises nothing.
connection.request("GET", "/none", headers={"Connection": "close"})
connection.getresponse().read()
"#;

#[test]
fn python_uploads_on_one_connection() {
    if !has("python3") {
        return;
    }
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("content");
    std::fs::write(&file, content(1, 0, 2_000_000)).unwrap();
    for step in ["2000000", "65536", "5001"] {
        let path = format!("/python-{step}.bin");
        let output = Command::new("python3")
            .args([
                "-c",
                PYTHON,
                "localhost",
                &server.secure().port().to_string(),
            ])
            .arg(authority.ca())
            .args([&path, "2000000", step])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
        server.assert_file(&path[1..], 1, 2_000_000);
    }
}

/// Runs `bitsd put` for a file of 10 MB.
fn put(server: &Server, host: &str, name: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, content(1, 0, 10_000_000)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--no-resume"])
        .args(args)
        .arg(&file)
        .arg(format!("https://{host}:{}/", server.secure().port()))
        .env_remove("SSL_CERT_DIR")
        .env("SSL_CERT_FILE", "/dev/null")
        .output()
        .unwrap()
}

#[test]
fn put_uploads_to_whom_it_believes() {
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    let ca = authority.ca();
    let ca = ca.to_str().unwrap();
    let output = put(&server, "localhost", "ca.bin", &["--cacert", ca]);
    assert!(output.status.success(), "{}", text(&output));
    server.assert_file("ca.bin", 1, 10_000_000);
    let output = put(&server, "localhost", "insecure.bin", &["--insecure"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("INSECURE: "), "{}", text(&output));
    server.assert_file("insecure.bin", 1, 10_000_000);
}

/// Goal: whoever makes a certificate by hand hears what is wrong with it, in words.
#[test]
fn put_says_what_a_certificate_lacks() {
    let folder = tempfile::tempdir().unwrap();
    for (file, extensions, says) in [
        // As `openssl req -x509` makes one that is asked for nothing else.
        (
            "authority",
            &["subjectAltName=DNS:localhost"][..],
            "that of an authority (CA:TRUE)",
        ),
        (
            "nameless",
            &["basicConstraints=critical,CA:FALSE"],
            "names no host (subjectAltName)",
        ),
        (
            "client",
            &[
                "basicConstraints=critical,CA:FALSE",
                "subjectAltName=DNS:localhost",
                "extendedKeyUsage=clientAuth",
            ],
            "is not for servers (extendedKeyUsage)",
        ),
    ] {
        let (chain, key) = (
            folder.path().join(file),
            folder.path().join(format!("{file}.key")),
        );
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        for extension in extensions {
            openssl.args(["-addext", extension]);
        }
        let made = openssl
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&chain)
            .output();
        let Ok(made) = made else {
            return skip("there is no openssl");
        };
        assert!(made.status.success(), "{}", text(&made));
        let ca = chain.to_str().unwrap().to_owned();
        let server = Server::with(listener("", &[&Pair { chain, key }]));
        let output = put(&server, "localhost", "x.bin", &["--cacert", &ca]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(says), "{says}: {}", text(&output));
    }
}

#[test]
fn put_says_at_once_why_it_does_not_believe() {
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    let ca = authority.ca();
    let other = Authority::new().ca().to_str().unwrap().to_owned();
    let good = ca.to_str().unwrap();
    for (host, args, says) in [
        (
            "127.0.0.1",
            &["--cacert", good][..],
            "not for 127.0.0.1, but for localhost: use",
        ),
        (
            "localhost",
            &["--cacert", "/none"],
            "no certificates of authorities in /none",
        ),
        (
            "localhost",
            &["--cacert", &other],
            "no certificates of authorities",
        ),
        ("localhost", &[], "knows no authorities"),
    ] {
        let began = std::time::Instant::now();
        let output = put(&server, host, "x.bin", args);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(says), "{says}: {}", text(&output));
        assert!(began.elapsed().as_secs() < 20);
    }
    let other = Authority::new();
    let other_ca = other.ca();
    let output = put(
        &server,
        "localhost",
        "x.bin",
        &["--cacert", other_ca.to_str().unwrap()],
    );
    let told = "not trusted here: name its file with --cacert";
    assert!(text(&output).contains(told), "{}", text(&output));
    // Who speaks TLS to a port that does not hears what it is.
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["put", "--insecure", "Cargo.toml"])
        .arg(format!("https://{}/", server.address()))
        .output()
        .unwrap();
    assert!(
        text(&output).contains("does not speak TLS"),
        "{}",
        text(&output)
    );
}

#[test]
fn bench_drives_a_secure_server() {
    let authority = Authority::new();
    let server = Server::with(listener("", &[&authority.server("server", &["localhost"])]));
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args([
            "bench",
            "--connections",
            "4",
            "--files",
            "12",
            "--file-bytes",
            "5MB",
        ])
        // More than one client may have in the line for handshakes, were they to come at once.
        .args(["--fragment-bytes", "1MB", "--idle", "800", "--cacert"])
        .arg(authority.ca())
        .arg("--verify")
        .arg(server.root())
        .arg(format!("https://localhost:{}/", server.secure().port()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Whoever scans what the server speaks: nothing below TLS 1.2, nothing weak.
#[test]
fn nmap_finds_nothing_weak() {
    if !has("nmap") {
        return;
    }
    let authority = Authority::new();
    let ecdsa = authority.server("ecdsa", &["localhost"]);
    let Some(rsa) = authority.rsa("rsa", "localhost") else {
        return skip("openssl is not installed");
    };
    let server = Server::with(listener("", &[&ecdsa, &rsa]));
    let port = server.secure().port().to_string();
    let scan = Command::new("nmap")
        .args([
            "-Pn",
            "-p",
            &port,
            "--script",
            "ssl-enum-ciphers",
            "127.0.0.1",
        ])
        .output()
        .unwrap();
    let said = text(&scan);
    for expected in ["TLSv1.2", "TLSv1.3", "least strength: A"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    for old in ["SSLv", "TLSv1.0", "TLSv1.1", "_CBC_", "_RSA_WITH"] {
        // Of RSA only what goes by ECDHE.
        let said = said.replace("ECDHE_RSA_WITH", "");
        assert!(!said.contains(old), "{old}: {said}");
    }
}

#[test]
fn sslyze_finds_nothing_weak() {
    if !has("sslyze") {
        return;
    }
    let authority = Authority::new();
    let pair = authority.server("ecdsa", &["localhost"]);
    let server = Server::with(listener("", &[&pair]));
    let output = authority.file("sslyze.json");
    let scan = Command::new("sslyze")
        .args([
            "--sslv2",
            "--sslv3",
            "--tlsv1",
            "--tlsv1_1",
            "--tlsv1_2",
            "--tlsv1_3",
        ])
        .args([
            "--reneg",
            "--early_data",
            "--compression",
            "--heartbleed",
            "--openssl_ccs",
        ])
        .arg(format!("--json_out={}", output.display()))
        .arg(server.secure().to_string())
        .output()
        .unwrap();
    let found = std::fs::read(&output).unwrap_or_else(|error| panic!("{error}: {}", text(&scan)));
    let found: serde_json::Value = serde_json::from_slice(&found).unwrap();
    let of = |part: &str| {
        let result = &found["server_scan_results"][0]["scan_result"][part]["result"];
        assert!(result.is_object(), "{part}: {found}");
        result.clone()
    };
    let suites = |version: &str| {
        let result = of(&format!("{version}_cipher_suites"));
        result["accepted_cipher_suites"].as_array().unwrap().len()
    };
    for (version, count) in [
        ("ssl_2_0", 0),
        ("ssl_3_0", 0),
        ("tls_1_0", 0),
        ("tls_1_1", 0),
        // Three for each kind of certificate.
        ("tls_1_2", 3),
        ("tls_1_3", 3),
    ] {
        assert_eq!(suites(version), count, "{version}");
    }
    assert_eq!(of("tls_1_3_early_data")["supports_early_data"], false);
    assert_eq!(of("tls_compression")["supports_compression"], false);
    assert_eq!(of("heartbleed")["is_vulnerable_to_heartbleed"], false);
    assert_eq!(
        of("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"],
        false
    );
    let again = of("session_renegotiation");
    assert_eq!(again["is_vulnerable_to_client_renegotiation_dos"], false);
}

/// The Python that has tlslite-ng: it stands beside a program that comes with that.
fn python_with_tlslite() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .find(|folder| folder.join("tls.py").is_file())
        .map(|folder| folder.join("python3"))
        .filter(|python| python.is_file())
}

/// Each rule is named where it is broken, in tests/tls_foreign/conversations.py.
#[test]
fn whoever_breaks_a_rule_of_tls_hears_so_and_nobody_else_notices() {
    let Some(python) = python_with_tlslite() else {
        return skip("there is no tlslite-ng (in a virtual environment that PATH names)");
    };
    let authority = Authority::new();
    let pair = authority.server("ecdsa", &["localhost"]);
    let server = Server::with(listener("", &[&pair]));
    let talks = Command::new(python)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/tls_foreign/conversations.py"
        ))
        .args([
            server.secure().ip().to_string(),
            server.secure().port().to_string(),
        ])
        .output()
        .unwrap();
    assert!(talks.status.success(), "{}", text(&talks));
    let said = text(&talks);
    assert!(said.contains("0 of them wrong"), "{said}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn openssl_goes_on_with_the_keys_of_an_earlier_connection() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let pair = authority.server("ecdsa", &["localhost"]);
    let server = Server::with(listener("", &[&pair]));
    for version in ["-tls1_2", "-tls1_3"] {
        let file = authority.file(version);
        let keys = file.to_str().unwrap();
        let first = s_client(
            &server,
            &authority.ca(),
            &[version, "-sess_out", keys],
            PING,
        );
        assert!(first.contains("New, TLSv1"), "{version}: {first}");
        let second = s_client(&server, &authority.ca(), &[version, "-sess_in", keys], PING);
        assert!(second.contains("Reused, TLSv1"), "{version}: {second}");
    }
    server.wait_for_log("resumed=true");
}

/// Goal: whoever comes from IIS with a PFX gets what bitsd reads. Method: OpenSSL makes one as
/// Windows exports it, with the authority in it, and the commands of docs/tls.md take it apart.
#[test]
fn a_pfx_is_taken_apart_by_the_commands_of_the_guide() {
    if !has("openssl") {
        return;
    }
    let authority = Authority::new();
    let pair = authority.server("of_iis", &["localhost"]);
    let pfx = authority.file("upload.pfx");
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", "pass:secret", "-inkey"])
        .arg(&pair.key)
        .arg("-in")
        .arg(&pair.chain)
        .arg("-certfile")
        .arg(authority.ca())
        .arg("-out")
        .arg(&pfx)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let guide = include_str!("../docs/tls.md");
    let blocks = guide
        .split("```sh\n")
        .map(|block| block.split("```").next().unwrap());
    let block = blocks
        .filter(|block| block.contains("openssl pkcs12"))
        .last();
    // A person is asked for the password.
    let commands = block
        .expect("the guide has it")
        .replace("openssl pkcs12", "openssl pkcs12 -passin pass:secret");
    assert_eq!(commands.matches("-passin").count(), 3, "{commands}");
    let done = Command::new("sh")
        .args(["-euc", &commands])
        .current_dir(pfx.parent().unwrap())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let taken = Pair {
        chain: authority.file("ecdsa.pem"),
        key: authority.file("ecdsa.key"),
    };
    let chain = std::fs::read_to_string(&taken.chain).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2, "{chain}");
    let server = Server::with(listener("", &[&taken]));
    let said = s_client(&server, &authority.ca(), &[], PING);
    assert!(said.contains("HTTP/1.1 200 OK"), "{said}");
}
