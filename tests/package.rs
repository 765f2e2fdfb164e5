//! What the package has beside the program, and the package itself: looked at here, and installed,
//! run, upgraded and removed in a Debian that is booted for it. On two cores with nothing else to
//! do that takes a minute and a half, and once two more to fetch the Debian.

#[path = "package/container.rs"]
mod container;
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bitsd::config::{Config, Flags, SettingsFile, rows};

use support::program::Program;
use support::skip;

/// The least of what systemd-analyze finds exposed that the service can do its work with.
const EXPOSURE_MAX: f64 = 1.6;
/// For a Debian to boot and to go through all of it, on a machine that has other things to do.
const BOOTED_MAX: Duration = Duration::from_secs(600);

/// What the Debian has that is booted.
const BOOTED_WITH: &str = "systemd,systemd-sysv,dbus,sudo,curl,iproute2,ca-certificates,prometheus";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> PathBuf {
    top().join("scripts/packaging").join(name)
}

/// What a program says, all of it; `None` where it is not installed.
fn ask(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some((output.status.success(), words(&output))),
        Err(_) => None,
    }
}

fn words(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    // The program and its manual need not be where the unit has them; and with the lines that
    // are to be filled in.
    let unit = std::fs::read_to_string(shipped("bitsd.service")).unwrap();
    let unit = unit
        .replace("/usr/bin/bitsd", "/bin/true")
        .replace("\nDocumentation=", "\n#")
        .replace("\n#ReadWrite", "\nReadWrite");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.service");
    std::fs::write(&path, unit).unwrap();
    let Some((is_good, said)) = ask("systemd-analyze", &["verify", path.to_str().unwrap()]) else {
        return skip("there is no systemd-analyze here");
    };
    assert!(is_good && said.is_empty(), "{said}");
}

#[test]
fn the_unit_exposes_no_more_than_it_must() {
    let unit = shipped("bitsd.service");
    let words = ["security", "--offline=yes", "--no-pager"];
    let words = [&words[..], &[unit.to_str().unwrap()]].concat();
    let Some((_, said)) = ask("systemd-analyze", &words) else {
        return skip("there is no systemd-analyze here");
    };
    let level = said.split("bitsd.service: ").nth(1).expect(&said);
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE_MAX, "{said}");
}

/// The settings of the package let clients in; its examples and defaults are right as they stand.
#[test]
fn the_settings_of_the_package_are_right() {
    let path = shipped("bitsd.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users"), "").unwrap();
    let read = |text: &str| {
        let text = text.replace("/etc/bitsd/", &format!("{}/", folder.path().display()));
        let file = SettingsFile::parse(&path, text).unwrap();
        Config::resolve(Flags::default(), Some(file)).unwrap()
    };
    let config = read(&text);
    assert!(config.listen.iter().all(|at| at.ip().is_unspecified()));
    let (mut examples, mut tables) = (String::new(), 0);
    for line in text.lines() {
        match line.strip_prefix('#') {
            // What is above the tables, then each with its keys.
            Some(example) if !example.starts_with(' ') => {
                tables += usize::from(example.starts_with('['));
                examples.push_str(example);
            }
            _ => examples.push_str(line),
        }
        examples.push('\n');
    }
    assert_eq!(tables, 3);
    let config = read(&examples);
    assert!(config.location("logs/a").prefix == "logs" && !config.listeners.is_empty());
}

/// Without what cargo tells its tests: build scripts would take it for theirs, and everything that
/// is there be compiled anew, twice, for minutes.
fn of_a_person(program: &str) -> Command {
    let mut command = Command::new(program);
    let told = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
        "OUT_DIR",
        // Our own.
        "BITSD_BUILD",
        "BITSD_FEATURES",
    ];
    for (name, _) in std::env::vars_os() {
        let is_told = |prefix| name.to_str().is_some_and(|name| name.starts_with(prefix));
        if told.into_iter().any(is_told) {
            command.env_remove(&name);
        }
    }
    command.current_dir(top());
    command
}

/// What `examples/manuals.rs` writes.
fn manuals() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("manuals");
        let made = of_a_person(env!("CARGO"))
            .args(["run", "--profile", "test", "--all-features"])
            .args(["--example", "manuals", "--"])
            .arg(&folder)
            .output()
            .unwrap();
        let said = words(&made);
        assert!(made.status.success(), "{said}");
        let mut compiled = said.lines().filter(|line| line.contains(" Compiling "));
        // The tests have what it depends on.
        assert!(compiled.all(|line| line.contains(" bitsd v")), "{said}");
        folder
    })
}

#[test]
fn every_page_of_the_manual_is_one_without_a_warning() {
    let man = manuals().join("man");
    let mut pages = 0;
    for page in std::fs::read_dir(&man).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains(".SH NAME"), "{page:?}");
        let path = page.to_str().unwrap();
        let Some((is_good, said)) =
            ask("man", &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", path])
        else {
            return skip("there is no man here (Debian: man-db)");
        };
        let shown = said.contains("BITSD");
        let is_warning = |line: &&str| line.contains("warning:");
        assert!(is_good && shown, "{path}: {said}");
        assert_eq!(said.lines().find(is_warning), None, "{path}");
        pages += 1;
    }
    assert!(pages >= 15, "{pages}");
    for page in ["bitsd-serve.1", "bitsd-check.1"] {
        let text = std::fs::read_to_string(man.join(page)).unwrap();
        for row in rows().filter(|row| row.has_flag) {
            let variable = format!("BITSD_{}", row.key.to_uppercase());
            assert!(
                text.contains(&format!("\\fB{variable}\\fR")),
                "{page}: {variable}"
            );
        }
    }
    let settings = std::fs::read_to_string(man.join("bitsd.toml.5")).unwrap();
    assert!(settings.contains("BITSD_WORK_DIR"), "{settings}");
    for row in rows() {
        let key = format!("\\fB{}\\fR = ", row.name());
        assert!(settings.contains(&key), "{key}");
    }
}

#[test]
fn completions_are_what_the_shells_take() {
    let folder = manuals().join("completions");
    for (shell, file) in [
        ("bash", "bitsd.bash"),
        ("zsh", "_bitsd"),
        ("fish", "bitsd.fish"),
    ] {
        let file = folder.join(file);
        let text = std::fs::read_to_string(&file).unwrap();
        for word in ["serve", "sessions", "work-dir", "recursive"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
        // A flag that only a server gives to its successor.
        assert!(!text.contains("successor"), "{shell}");
        // bash is everywhere; the other two are read where they are.
        if let Some((is_good, said)) = ask(shell, &["-n", file.to_str().unwrap()]) {
            assert!(is_good && said.is_empty(), "{shell}: {said}");
        }
    }
    let schema = std::fs::read_to_string(manuals().join("bitsd.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["listen"].is_object());
}

/// Packages of this program: the one that there is, and one that is newer. `None` where they cannot
/// be made.
fn packages() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    MADE.get_or_init(|| {
        ask("cargo-deb", &["--version"])?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = std::fs::remove_dir_all(&folder);
        let newer = format!("{}.99", env!("CARGO_PKG_VERSION"));
        for (name, version) in [("old", env!("CARGO_PKG_VERSION")), ("new", &newer)] {
            let made = of_a_person("bash")
                .args(["scripts/package", "--no-build", "--profile", "dev"])
                .args(["--version", version, "--into"])
                .arg(folder.join(name))
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", words(&made));
        }
        Some(folder)
    })
    .as_deref()
}

/// The one file of a folder that ends so.
fn only(folder: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files = files.filter(|file| file.to_str().unwrap().ends_with(ending));
    let file = files.next().expect(ending);
    assert!(files.next().is_none(), "{folder:?}");
    file
}

#[test]
fn the_package_is_one_that_lintian_has_nothing_against() {
    let Some(folder) = packages() else {
        return skip("cargo-deb is not installed (cargo install --locked cargo-deb)");
    };
    let deb = only(&folder.join("old"), ".deb");
    let deb = deb.to_str().unwrap();
    let Some((_, content)) = ask("dpkg-deb", &["--contents", deb]) else {
        return skip("there is no dpkg-deb here (Debian: dpkg)");
    };
    for file in [
        "./usr/bin/bitsd",
        "./etc/bitsd.toml",
        "./usr/lib/systemd/system/bitsd.service",
        "./usr/lib/sysusers.d/bitsd.conf",
        "./usr/lib/tmpfiles.d/bitsd.conf",
        "./usr/share/man/man1/bitsd-sessions-list.1.gz",
        "./usr/share/man/man5/bitsd.toml.5.gz",
        "./usr/share/bash-completion/completions/bitsd",
        "./usr/share/bitsd/alerts.yml",
        "./usr/share/bitsd/bitsd.schema.json",
        "./usr/share/doc/bitsd/copyright",
        "./usr/share/doc/bitsd/third-party.txt",
        "./usr/share/doc/bitsd/changelog.Debian.gz",
    ] {
        let mut lines = content.lines();
        assert!(lines.any(|line| line.ends_with(file)), "{file}: {content}");
    }
    let words = ["--allow-root", "--fail-on", "error,warning", deb];
    let Some((is_good, said)) = ask("lintian", &words) else {
        return skip("lintian is not installed");
    };
    assert!(is_good, "{said}");
}

/// Whoever has no package finds in the tarball what the guide takes from one.
#[test]
fn the_tarball_has_what_the_guide_names() {
    let script = std::fs::read_to_string(top().join("scripts/package")).unwrap();
    let packed = script.split("# The same bytes as in the package.").nth(1);
    let install = std::fs::read_to_string(shipped("INSTALL")).unwrap();
    // It is there with all of docs/.
    assert!(install.contains(" docs/event.schema.json"));
    for file in [
        "alerts.yml",
        "prometheus.yml",
        "dashboard.json",
        "bitsd.schema.json",
        "retention.conf",
        "seccomp.json",
    ] {
        assert!(packed.unwrap().contains(file), "{file}");
        assert!(install.contains(file), "{file}");
    }
}

/// The commands of a block of the guide.
fn block_after(heading: &str) -> String {
    let page = std::fs::read_to_string(top().join("docs/operations.md")).unwrap();
    let section = page.split(&format!("\n{heading}\n")).nth(1).expect(heading);
    let block = section.split("```sh\n").nth(1).expect(heading);
    block.split("```").next().unwrap().to_owned()
}

/// A Debian as it is unpacked, of this machine's release, with some packages; made once, and kept
/// as a tarball of this name.
fn tarball_of(name: &str, packages: &str) -> Option<PathBuf> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    let tarball = format!("{name}-{codename}.tar");
    let tarball = Path::new(env!("CARGO_TARGET_TMPDIR")).join(tarball);
    if tarball.exists() {
        return Some(tarball);
    }
    let unfinished = tarball.with_extension("unfinished.tar");
    let made = Command::new("mmdebstrap")
        .args([
            "--variant=minbase",
            &format!("--include={packages}"),
            codename,
        ])
        .arg(&unfinished)
        .output();
    let made = made.ok()?;
    assert!(made.status.success(), "{}", words(&made));
    std::fs::rename(&unfinished, &tarball).unwrap();
    Some(tarball)
}

/// Installed by the commands of the guide in a Debian that systemd boots: it serves, reloads,
/// survives an upgrade and a downgrade, is removed, and leaves what it received.
#[test]
fn an_installed_package_serves_until_it_is_purged() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can boot a Debian");
    }
    if ask("systemd-nspawn", &["--version"]).is_none() {
        return skip("systemd-nspawn is not installed (Debian: systemd-container)");
    }
    let (Some(folder), Some(tarball)) = (packages(), tarball_of("debian", BOOTED_WITH)) else {
        return skip("cargo-deb or mmdebstrap is not installed, or this is no Debian");
    };
    let place = tempfile::tempdir().unwrap();
    let (root, given) = (place.path().join("root"), place.path().join("given"));
    std::fs::create_dir_all(&root).unwrap();
    let unpacked = Command::new("tar")
        .args(["--extract", "--numeric-owner", "--file"])
        .arg(&tarball)
        .arg("--directory")
        .arg(&root)
        .arg("--exclude=./dev/*")
        .status();
    assert!(unpacked.unwrap().success());
    for name in ["old", "new"] {
        std::fs::create_dir_all(given.join(name)).unwrap();
        for ending in [".deb", ".tar.gz"] {
            let file = only(&folder.join(name), ending);
            std::fs::copy(&file, given.join(name).join(file.file_name().unwrap())).unwrap();
        }
    }
    let disks = "### Ports 80 and 443, and other disks";
    let page_part = |number: usize| {
        let page = std::fs::read_to_string(top().join("docs/operations.md")).unwrap();
        let section = page.split(disks).nth(1).unwrap().to_owned();
        let block = section.split("```sh\n").nth(number).unwrap();
        block.split("```").next().unwrap().to_owned()
    };
    std::fs::write(given.join("commands"), block_after("## As a service")).unwrap();
    std::fs::write(given.join("ports"), page_part(1)).unwrap();
    std::fs::write(given.join("roots"), page_part(2)).unwrap();
    let script = include_str!("package/booted.sh");
    std::fs::write(root.join("booted.sh"), script).unwrap();
    let unit = "[Unit]\nAfter=multi-user.target\n[Service]\nExecStart=/bin/bash /booted.sh\n";
    let units = root.join("etc/systemd/system");
    std::fs::write(units.join("booted.service"), unit).unwrap();
    let wants = units.join("default.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink(
        "/etc/systemd/system/booted.service",
        wants.join("booted.service"),
    )
    .unwrap();

    let log = std::fs::File::create(place.path().join("console")).unwrap();
    let nspawn = Command::new("systemd-nspawn")
        .args([
            "--boot",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
        ])
        .args(["--system-call-filter=@aio openat2", "--console=pipe"])
        .arg(format!("--bind={}:/given", given.display()))
        .arg("--directory")
        .arg(&root)
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log)
        .spawn()
        .unwrap();
    let mut nspawn = Program(nspawn);
    let deadline = Instant::now() + BOOTED_MAX;
    while nspawn.0.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let told = std::fs::read_to_string(given.join("told")).unwrap_or_default();
    let console = std::fs::read(place.path().join("console")).unwrap();
    let _ = std::io::stderr().write_all(told.as_bytes());
    assert!(
        told.contains("ALL IS WELL"),
        "{told}\n{}",
        String::from_utf8_lossy(&console)
    );
}

/// One place says what the packages are built with, and whatever builds or describes one asks it.
#[test]
fn what_is_packed_has_the_features_of_the_packages() {
    let manifest = std::fs::read_to_string(top().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let packed = manifest["features"]["package"].as_array().unwrap();
    let packed: Vec<_> = packed
        .iter()
        .map(|feature| feature.as_str().unwrap())
        .collect();
    assert_eq!(packed, ["put", "bench", "s3", "nats"]);
    let mut seen = 0;
    for file in ["package", "release", "packaging/third_party.py"] {
        let text = std::fs::read_to_string(top().join("scripts").join(file)).unwrap();
        // `"cargo", "metadata"` reads as a shell has it.
        let text = text.replace("\", \"", " ").replace(",\n", " ");
        for line in text.lines() {
            let words = [" build --", "cyclonedx --quiet", "cargo metadata --"];
            // The pages are made by an example, with the features of the tests.
            let is_other = line.trim_start().starts_with('#') || line.contains(" --example ");
            if is_other || !words.iter().any(|word| line.contains(word)) {
                continue;
            }
            seen += 1;
            let line = line.replace('"', "");
            let named: Vec<_> = line.split("--features ").skip(1).collect();
            assert!(
                named.len() == 1 && named[0].starts_with("package"),
                "{file}: {line}"
            );
        }
    }
    assert_eq!(seen, 4);
}

/// `scripts/release --check` lets a release pass that is ready, and no other.
#[test]
fn a_release_says_the_same_version_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let clone = folder.path().join("clone");
    let git = |asked: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t"];
        let mut git = Command::new("git");
        let done = git.args(identity).args(asked).output().unwrap();
        assert!(done.status.success(), "{asked:?}: {}", words(&done));
    };
    git(&["init", "--quiet", clone.to_str().unwrap()]);
    let version = env!("CARGO_PKG_VERSION");
    std::fs::create_dir(clone.join("scripts")).unwrap();
    for file in ["scripts/release", "Cargo.toml", "Cargo.lock", "README.md"] {
        std::fs::copy(top().join(file), clone.join(file)).unwrap();
    }
    for (heading, is_ready) in [
        ("## Unreleased".to_owned(), false),
        ("## 0.0.1 (2026-01-01)".to_owned(), false),
        (format!("## {version}"), false),
        (format!("## {version} (2026-01-01)"), true),
    ] {
        let text = format!("# Changes\n\n## Unreleased\n\n{heading}\n\n- A point.\n");
        std::fs::write(clone.join("CHANGELOG.md"), &text).unwrap();
        let at = clone.to_str().unwrap();
        git(&["-C", at, "add", "--all"]);
        git(&["-C", at, "commit", "--quiet", "--message", "a state"]);
        let check = || {
            Command::new("bash")
                .args(["scripts/release", "--check"])
                .current_dir(&clone)
                .output()
                .unwrap()
        };
        let checked = check();
        assert_eq!(
            checked.status.success(),
            is_ready,
            "{heading}: {}",
            words(&checked)
        );
        if is_ready {
            let text = text.replace("Unreleased\n", "Unreleased\n\n### Added\n\n- One more.\n");
            std::fs::write(clone.join("CHANGELOG.md"), text).unwrap();
            git(&["-C", at, "commit", "--quiet", "--all", "--message", "more"]);
            let more = words(&check());
            assert!(more.contains("points below"), "{more}");
            git(&["-C", at, "reset", "--quiet", "--hard", "HEAD~"]);
            assert!(check().status.success(), "{}", words(&check()));
            std::fs::write(clone.join("left"), "").unwrap();
            assert!(!check().status.success(), "a file that is not committed");
        }
    }
}
