//! bitsd in a container: under the seccomp profile that is shipped, and in an image that is built
//! of the package by the Containerfile.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::client::{Client, fragment};
use super::support::program::Program;
use super::support::server::{Server, Settings};
use super::support::skip;
use super::{ask, only, packages, shipped, tarball_of, top, words};

/// The profile for containers lets all through that serving needs, and no namespaces.
#[test]
fn it_serves_under_the_profile_for_containers() {
    let has = ask("/usr/bin/python3", &["-c", "import seccomp"]);
    if !has.is_some_and(|(is_there, _)| is_there) {
        return skip("python's seccomp is not installed (Debian: python3-seccomp)");
    }
    let runner = top().join("tests/package/under_profile.py");
    let profile = shipped("seccomp.json");
    let wrapper = [
        "/usr/bin/python3",
        runner.to_str().unwrap(),
        profile.to_str().unwrap(),
    ];
    let mut server = Server::with(
        Settings::default()
            .wrapper(&wrapper)
            .file("create_dirs = true"),
    );
    let mut client = Client::create(server.address(), "/folder/file").seed(1);
    client.send(fragment(0..1000).of(1000));
    client.close();
    server.assert_file("folder/file", 1, 1000);
    server.restart();
    server.stop();
    let namespaces = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["unshare", "--user", "true"])
        .output()
        .unwrap();
    assert!(!namespaces.status.success());
}

/// A settings file that is mounted over that of the package counts: no flag of the image wins over
/// it. The folders that the package's file names are there.
#[test]
fn the_image_has_the_settings_of_the_package() {
    let text = std::fs::read_to_string(shipped("Containerfile")).unwrap();
    assert!(text.contains("CMD [\"serve\"]\n") && !text.contains("/etc/bitsd.toml \\"));
    let settings = std::fs::read_to_string(shipped("bitsd.toml")).unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    let socket = Path::new(settings["admin_socket"].as_str().unwrap());
    let root = settings["root"].as_str().unwrap();
    let made = format!(" {root} {}\n", socket.parent().unwrap().display());
    assert!(text.contains(&made), "{made}");
}

/// buildah, with a storage of its own, without an engine and without namespaces.
struct Builder<'a> {
    folder: &'a Path,
}

impl Builder<'_> {
    fn command(&self, asked: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        let place = |name: &str| self.folder.join(name).into_os_string();
        buildah
            .args(["--storage-driver", "vfs", "--root"])
            .arg(place("storage"))
            .arg("--runroot")
            .arg(place("run"))
            .args(asked)
            .current_dir(self.folder)
            .stdin(Stdio::null());
        buildah
    }

    /// What it says; it must be content.
    fn run(&self, asked: &[&str]) -> String {
        let done = self.command(asked).output().unwrap();
        assert!(done.status.success(), "{asked:?}: {}", words(&done));
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }
}

/// The command of an image, as its runtime would run it.
fn run_in(builder: &Builder<'_>, container: &str) -> Command {
    let mut run = builder.command(&["run", "--isolation", "chroot", container, "--"]);
    run.args(["bitsd", "serve"]);
    run
}

/// Goal: the Containerfile makes an image that serves. Method: buildah without an engine, on a
/// small Debian that mmdebstrap makes in place of the one of the registry; run under the profile
/// that is shipped, and under the one that is usual, where bitsd must say why not.
#[test]
fn an_image_of_the_containerfile_serves() {
    if !rustix::process::geteuid().is_root() || ask("buildah", &["--version"]).is_none() {
        return skip("only root can build an image, with buildah (Debian: buildah)");
    }
    let (Some(made), Some(slim)) = (packages(), tarball_of("slim", "ca-certificates")) else {
        return skip("cargo-deb or mmdebstrap is not installed, or this is no Debian");
    };
    let place = tempfile::tempdir().unwrap();
    let builder = Builder {
        folder: place.path(),
    };
    let package = only(&made.join("old"), ".deb");
    std::fs::copy(package, place.path().join("bitsd.deb")).unwrap();
    std::fs::copy(shipped("Containerfile"), place.path().join("Containerfile")).unwrap();
    std::fs::copy(slim, place.path().join("slim.tar")).unwrap();
    let base = "FROM scratch\nADD slim.tar /\n";
    std::fs::write(place.path().join("Base"), base).unwrap();
    let build = ["build", "--quiet", "--isolation", "chroot"];
    let of = |rest: &[&str]| builder.run(&[&build, rest].concat());
    of(&["--file", "Base", "--tag", "localhost/slim", "."]);
    let arguments = ["BASE=localhost/slim", "PACKAGE=bitsd.deb"];
    let arguments = arguments.map(|argument| format!("--build-arg={argument}"));
    of(&[
        &arguments[0],
        &arguments[1],
        "--tag",
        "localhost/bitsd",
        ".",
    ]);

    let usual = builder.run(&["from", "localhost/bitsd"]);
    let refused = run_in(&builder, &usual).output().unwrap();
    assert!(!refused.status.success());
    assert!(words(&refused).contains("io_uring"), "{}", words(&refused));

    let profile = format!(
        "--security-opt=seccomp={}",
        shipped("seccomp.json").display()
    );
    let ours = builder.run(&["from", &profile, "localhost/bitsd"]);
    // It has the network of this machine.
    let root = builder.run(&["mount", &ours]);
    let path = Path::new(&root).join("etc/bitsd.toml");
    let settings = std::fs::read_to_string(&path).unwrap();
    let settings = settings
        .replace("[\"0.0.0.0:8080\", \"[::]:8080\"]", "\"127.0.0.1:0\"")
        .replace("127.0.0.1:9180", "127.0.0.1:0");
    std::fs::write(&path, settings).unwrap();
    let mut run = run_in(&builder, &ours);
    run.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Program(run.spawn().unwrap());
    let mut line = String::new();
    let stdout = server.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://");
    let address: SocketAddr = address.expect(&line).parse().unwrap();
    let mut client = Client::create(address, "/file").seed(1);
    client.send(fragment(0..1000).of(1000)).assert(200, None);
    client.close().assert(200, None);
    let status = [
        "run",
        "--isolation",
        "chroot",
        &ours,
        "--",
        "bitsd",
        "status",
    ];
    assert!(builder.run(&status).starts_with("ready"));
    assert!(Path::new(&root).join("etc/passwd").exists());
    drop(server);
    builder.run(&["umount", &ours]);
}
