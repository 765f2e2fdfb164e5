//! `bitsd check` leaves nothing behind, wherever it is run and whatever it finds.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use support::host::{Tmpfs, allow, as_nobody};
use support::program::Program;
use support::server::{Server, Settings};
use support::{skip, wait_until};

/// Each file and folder beneath a place: what it is, whose, and when its content changed. Those of
/// folders change with what is made and removed in them.
fn listing(place: &Path) -> BTreeMap<PathBuf, (u64, u32, u32, u64, i64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![place.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let (mut bytes, mut changed) = (stat.len(), stat.mtime_nsec());
            if stat.is_dir() {
                (bytes, changed) = (0, 0);
                folders.push(path.clone());
            }
            let seen = (stat.ino(), stat.mode(), stat.uid(), bytes, changed);
            found.insert(path, seen);
        }
    }
    found
}

/// Checks in a place, which must be afterwards as it was; what is said.
fn check(place: &Path, lines: &str, wrapper: &[String]) -> String {
    checked(place, lines, wrapper).1
}

/// The same, with whether a server would start.
fn checked(place: &Path, lines: &str, wrapper: &[String]) -> (bool, String) {
    let file = place.join("bitsd.toml");
    fs::write(
        &file,
        format!("listen = \"127.0.0.1:0\"\ncores = 1\n{lines}"),
    )
    .unwrap();
    let before = listing(place);
    let words = [wrapper, &[env!("CARGO_BIN_EXE_bitsd").to_owned()]].concat();
    let output = Command::new(&words[0])
        .args(&words[1..])
        .args(["check", "--config"])
        .arg(&file)
        .current_dir(place)
        .output()
        .unwrap();
    assert_eq!(listing(place), before, "{lines}");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Why a check says that no server would start, as the log of a server has it.
fn refusal(said: &str) -> String {
    let mut lines = said.lines();
    let found = lines.find_map(|line| line.split_once("wrong: "));
    found.expect(said).1.replace('"', "\\\"")
}

/// A place with a root and a work directory, which are `owner`'s.
fn place(owner: u32) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    allow(place.path(), 0o755);
    for name in ["root", "work"] {
        let folder = place.path().join(name);
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(owner), None).unwrap();
    }
    allow(&place.path().join("work"), 0o700);
    place
}

const GOOD: &str = "files can be made and published in";

#[test]
fn a_check_leaves_nothing_behind() {
    let us = rustix::process::geteuid().as_raw();
    for (lines, says) in [
        (
            "root = \"root\"",
            "unfinished uploads will lie in .bitsd there",
        ),
        ("root = \"root\"\nwork_dir = \"work\"", GOOD),
        ("work_dir = \"work\"", GOOD),
        ("", "./uploads will be made at start"),
        ("root = \"root\"\nwork_dir = \"none\"", "does not exist"),
        ("root = \"none\"\nwork_dir = \"work\"", "does not exist"),
        ("root = \"root\"\nwork_dir = \"root\"", "must not be a root"),
        (
            "root = \"root\"\nadmin_socket = \"admin.sock\"",
            "admin_socket = \"admin.sock\" cannot be used: it takes a path from `/` on",
        ),
        (
            "root = \"root\"\n[[listener]]\naddress = \"[::]:47113\"",
            "takes IPv6 only: add 0.0.0.0:47113",
        ),
        // The first root is good, and the second one is not.
        (
            "root = \"root\"\nwork_dir = \"work\"\n[[location]]\nprefix = \"a\"\nroot = \"none\"",
            "does not exist",
        ),
    ] {
        let place = place(us);
        let said = check(place.path(), lines, &[]);
        assert!(said.contains(says), "{lines}: {said}");
    }
}

/// What can be right and hardly is: a check goes well, and says so.
#[test]
fn settings_that_hardly_anybody_means_are_told_of() {
    let place = place(rustix::process::geteuid().as_raw());
    let wide = "trusted_proxies = [\"0.0.0.0/0\"]";
    let warned = "trusted_proxies has 0.0.0.0/0";
    let said = check(place.path(), &format!("root = \"root\"\n{wide}"), &[]);
    assert!(said.contains(&format!("warning: {warned}")), "{said}");
    let server = Server::with(Settings::default().file(wide));
    server.wait_for_log("event=settings_doubtful");
    server.wait_for_log(warned);
    let server = Server::with(Settings::default().file("strict = false"));
    server.reload(wide);
    server.wait_for_log("event=settings_doubtful");
}

/// No remedy for a folder helps there.
#[test]
fn a_start_in_a_directory_that_is_gone_is_told() {
    let place = tempfile::tempdir().unwrap();
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    for (more, of) in [
        (&["--root", "up"][..], "the root up "),
        (&[], "the root ./uploads"),
        (&["--root", "/", "--work-dir", "w"], "the work directory w "),
    ] {
        for command in ["check", "serve"] {
            let output = Command::new("sh")
                .args(["-c", script, "sh", env!("CARGO_BIN_EXE_bitsd"), command])
                .args(["--no-config", "--cores", "1", "--listen", "127.0.0.1:0"])
                .args(more)
                .current_dir(place.path())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(said.contains(of), "{said}");
            assert!(
                said.contains("in which bitsd was started is gone"),
                "{said}"
            );
            assert!(!said.contains("install -d"), "{said}");
        }
    }
}

/// The unit gives the right to the service, and not to whoever checks. In a network of its own, in
/// which the ports are not given to everybody.
#[test]
fn a_port_that_the_service_may_have_is_a_warning_to_whoever_may_not() {
    let place = place(rustix::process::geteuid().as_raw());
    let lines = "root = \"root\"\nwork_dir = \"work\"\nlisten = \"127.0.0.1:80\"\ncores = 1\n\
                 admin_listen = \"127.0.0.1:81\"\n";
    fs::write(place.path().join("bitsd.toml"), lines).unwrap();
    let script = "ip link set lo up || exit 77
        exec setpriv --bounding-set=-net_bind_service $0 check -c bitsd.toml";
    let needs = "a network of its own needs root, iproute2 and setpriv";
    let Some((code, said)) = in_a_network_of_its_own(script, place.path(), needs) else {
        return;
    };
    for warned in [
        "warning: 127.0.0.1:80 cannot",
        "warning: admin_listen 127.0.0.1:81",
    ] {
        assert!(said.contains(warned), "{said}");
    }
    assert_eq!(code, Some(0), "{said}");
}

/// Runs a script, to which `$0` is the program: its exit code, and what was said. Skips for want of
/// `needs`, also where the script ends with 77.
fn in_a_network_of_its_own(
    script: &str,
    folder: &Path,
    needs: &str,
) -> Option<(Option<i32>, String)> {
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", script, env!("CARGO_BIN_EXE_bitsd")])
        .current_dir(folder)
        .output();
    let Ok(output) = output else {
        skip("there is no unshare");
        return None;
    };
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    match output.status.code() {
        Some(77 | 127) => skip(needs),
        code if said.contains("unshare") => skip(&format!("no network of its own: {code:?}")),
        code => return Some((code, said)),
    }
    None
}

#[test]
fn what_takes_the_place_of_a_property_without_a_key_is_told() {
    for name in ["UNCUserName", "uncpassword"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command.args(["check", "--key", name]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("mount the share"), "{said}");
        assert_eq!(output.status.code(), Some(0));
    }
}

/// A person reads each fault once; scripts have it on stderr alone as well.
#[test]
fn a_terminal_is_told_of_each_fault_once() {
    let place = place(rustix::process::geteuid().as_raw());
    let bitsd = env!("CARGO_BIN_EXE_bitsd");
    let check = format!("{bitsd} check --no-config --listen 127.0.0.1:0 --root none");
    for more in ["", " --quiet", " 2>/dev/null"] {
        let shown = Command::new("script")
            .args(["-q", "-c", &format!("{check}{more}"), "/dev/null"])
            .current_dir(place.path())
            .stdin(std::process::Stdio::null())
            .output();
        let Ok(shown) = shown else {
            return skip("there is no script(1)");
        };
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert_eq!(shown.matches("wrong: ").count(), 1, "{shown}");
    }
}

/// A unit that was mistaken: 100 TiB of a disk that is smaller.
#[test]
fn more_space_than_a_disk_has_is_told_of() {
    let lines = "root = \"root\"\n[limits]\nfree_bytes_min = \"1024 TiB\"";
    let warned = "warning: limits.free_bytes_min is 1.00 PiB";
    for lines in [lines.to_owned(), format!("work_dir = \"work\"\n{lines}")] {
        let place = place(rustix::process::geteuid().as_raw());
        let said = check(place.path(), &lines, &[]);
        assert!(said.contains(warned), "{said}");
        let good = check(place.path(), &lines.replace("1024 TiB", "1 MiB"), &[]);
        assert!(!good.contains("limits.free_bytes_min is"), "{good}");
    }
    let place = tempfile::tempdir().unwrap();
    let settings = Settings::default().file("[limits]\nfree_bytes_min = \"1024 TiB\"");
    let server = Server::on(&place.path().join("root"), settings);
    server.wait_for_log("event=space_never_enough");
}

/// A floating address that has gone to another machine: whoever runs keeps its listener, and its
/// reload (`ExecReload=` checks before it) changes none. In a network of its own.
#[test]
fn beside_a_server_an_address_that_is_away_is_a_warning() {
    let place = place(rustix::process::geteuid().as_raw());
    let file = place.path().join("bitsd.toml");
    let lines = "root = \"root\"\nwork_dir = \"work\"\nlisten = \"192.0.2.1:47114\"\n";
    fs::write(&file, format!("{lines}cores = 1\n")).unwrap();
    let script = "ip link set lo up && ip addr add 192.0.2.1/32 dev lo || exit 77
        $0 serve -c bitsd.toml >said 2>&1 & server=$!
        for try in $(seq 600); do grep -q 192.0.2.1 said && break; sleep 0.05; done
        ip addr del 192.0.2.1/32 dev lo
        $0 check -c bitsd.toml; code=$?
        kill -9 $server; exit $code";
    let needs = "a network of its own needs root and iproute2";
    let Some((code, said)) = in_a_network_of_its_own(script, place.path(), needs) else {
        return;
    };
    let away = "warning: cannot listen on 192.0.2.1:47114";
    assert!(code == Some(0) && said.contains(away), "{code:?}: {said}");
}

/// Whoever can upload there could say who may.
#[test]
fn a_settings_file_in_a_root_is_told_of() {
    let place = place(rustix::process::geteuid().as_raw());
    fs::write(place.path().join("users"), "").unwrap();
    let said = check(place.path(), "root = \".\"\nwork_dir = \"work\"", &[]);
    assert!(
        said.contains("bitsd.toml lies in the root ") && said.contains("move it out"),
        "{said}"
    );
    let said = check(place.path(), "root = \"root\"\nwork_dir = \"work\"", &[]);
    assert!(!said.contains("lies in the root"), "{said}");
    // `bitsd serve --config bits.toml --root .`, and whoever uploads says what it does.
    for line in ["allow_overwrite = true", "download = \"get\""] {
        let lines = format!("root = \".\"\nwork_dir = \"work\"\n{line}");
        let said = check(place.path(), &lines, &[]);
        let wrong = said
            .lines()
            .any(|line| line.contains("wrong: ") && line.contains("bitsd.toml lies in the root "));
        assert!(wrong, "{said}");
    }
    let (status, said) = Server::refused(
        place.path(),
        &Settings::default().file(&format!(
            "allow_overwrite = true\nusers_file = {:?}\nauth = \"basic\"",
            place.path().join("users")
        )),
    );
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("users lies in the root "), "{said}");
}

#[test]
fn a_check_leaves_what_a_server_has_left_as_it_is() {
    let place = place(rustix::process::geteuid().as_raw());
    let root = place.path().join("root");
    let mut server = Server::on(&root, Settings::default());
    let said = check(place.path(), "root = \"root\"", &[]);
    assert!(said.contains("a server (process"), "{said}");
    server.stop();
    let said = check(place.path(), "root = \"root\"", &[]);
    assert!(said.contains(GOOD), "{said}");
}

#[test]
fn a_check_leaves_nothing_on_another_file_system() {
    let us = rustix::process::geteuid().as_raw();
    let place = place(us);
    let disk = place.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let Some(_mounted) = Tmpfs::on(&disk, "size=1m") else {
        return;
    };
    let lines =
        "root = \"root\"\nwork_dir = \"work\"\n[[location]]\nprefix = \"a\"\nroot = \"disk\"\n";
    let said = check(place.path(), lines, &[]);
    assert!(said.contains(&format!("{GOOD} disk")), "{said}");
    let more = "[[location]]\nprefix = \"b\"\nroot = \"none\"\n";
    let said = check(place.path(), &format!("{lines}{more}"), &[]);
    assert!(said.contains("does not exist"), "{said}");
    // A folder of uploads that only looks like one of ours is left alone.
    let theirs = disk.join(".bitsd");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("file"), "theirs").unwrap();
    check(place.path(), lines, &[]);
}

/// What a file system of its own may be like, that no shelf can be had on.
const UNFIT: [(&str, &str); 6] = [
    ("size=1m", "mkdir .bitsd; touch .bitsd/theirs"),
    ("size=1m", "touch .bitsd"),
    ("size=1m", "mkdir .bitsd; chmod 0777 .bitsd"),
    ("size=1m", "mkdir .other; ln -s .other .bitsd"),
    ("size=1m,ro", ""),
    ("size=1m,nr_inodes=2", ""),
];

/// Makes a file system for a location, and the line that names it.
fn unfit(place: &Path, options: &str, script: &str) -> Option<(Tmpfs, String)> {
    let disk = place.join("disk");
    fs::create_dir_all(&disk).unwrap();
    let mounted = Tmpfs::on(&disk, options)?;
    let mut shell = Command::new("sh");
    let prepared = shell.args(["-c", script]).current_dir(&disk).status();
    assert!(prepared.unwrap().success(), "{script}");
    let lines = format!("[[location]]\nprefix = \"a\"\nroot = {disk:?}\n");
    Some((mounted, lines))
}

/// A first start makes its folders, and a check before it as well: it says what the start would.
#[test]
fn before_the_first_start_a_check_says_what_the_start_would() {
    for (options, script) in UNFIT {
        let place = place(rustix::process::geteuid().as_raw());
        let Some((_mounted, lines)) = unfit(place.path(), options, script) else {
            return;
        };
        let root = place.path().join("root");
        let (is_good, said) = checked(place.path(), &format!("root = {root:?}\n{lines}"), &[]);
        assert!(!is_good, "{options} {script}: {said}");
        let (_, log) = Server::refused(&root, &Settings::default().file(&lines));
        let words = refusal(&said);
        assert!(log.contains(&words), "{options} {script}: {words}: {log}");
    }
    let place = place(rustix::process::geteuid().as_raw());
    let Some((_mounted, _)) = unfit(place.path(), "nr_inodes=2", "") else {
        return;
    };
    let root = place.path().join("disk");
    let (is_good, said) = checked(place.path(), &format!("root = {root:?}\n"), &[]);
    assert!(!is_good, "{said}");
    let (_, log) = Server::refused(&root, &Settings::default());
    assert!(log.contains(&refusal(&said)), "{said}: {log}");
}

/// `ExecReload=` checks before it: what the reload will try is tried.
#[test]
fn beside_a_server_a_check_says_what_the_reload_would() {
    for (options, script) in UNFIT {
        let place = place(rustix::process::geteuid().as_raw());
        let Some((_mounted, lines)) = unfit(place.path(), options, script) else {
            return;
        };
        let root = place.path().join("root");
        let server = Server::on(&root, Settings::default().file("strict = false"));
        let (is_good, said) = checked(place.path(), &format!("root = {root:?}\n{lines}"), &[]);
        assert!(!is_good, "{options} {script}: {said}");
        server.reload(&lines);
        server.wait_for_log("event=reload_failed");
        server.wait_for_log(&refusal(&said));
    }
    let place = place(rustix::process::geteuid().as_raw());
    let Some((_mounted, lines)) = unfit(place.path(), "size=1m", "") else {
        return;
    };
    let root = place.path().join("root");
    let server = Server::on(&root, Settings::default().file("strict = false"));
    let settings = format!("root = {root:?}\n{lines}");
    let (is_good, said) = checked(place.path(), &settings, &[]);
    assert!(is_good, "{said}");
    server.reload(&lines);
    server.wait_for_log("event=reloaded");
    // It has the shelf by now.
    let (is_good, said) = checked(place.path(), &settings, &[]);
    assert!(is_good, "{said}");
}

/// Root checks, and somebody else has the work directory: whether that is the one who serves.
#[test]
fn a_work_directory_that_nobody_can_serve_with_is_wrong() {
    if !rustix::process::geteuid().is_root() {
        skip("whose a folder is only root can say");
        return;
    }
    let lines = "root = \"root\"\nwork_dir = \"work\"";
    for (root, work, mode, is_right, says) in [
        (0, 65534, 0o700, false, "wrong: the work directory"),
        (
            65534,
            65534,
            0o777,
            false,
            "may write to the work directory",
        ),
        (0, 65534, 0o777, false, "may write to the work directory"),
        (65534, 65534, 0o700, true, "are looked at only if"),
    ] {
        let place = place(root);
        let folder = place.path().join("work");
        chown(&folder, Some(work), None).unwrap();
        allow(&folder, mode);
        let (is_good, said) = checked(place.path(), lines, &[]);
        assert!(said.contains(says), "{root} {work} {mode:o}: {said}");
        assert_eq!(is_good, is_right, "{said}");
    }
}

/// Goal: whoever gets at the files of a location by another one is told of, by whichever path the
/// settings lead there.
#[test]
fn a_root_within_another_is_told_by_a_link_too() {
    let place = tempfile::tempdir().unwrap();
    let (root, link) = (place.path().join("root"), place.path().join("link"));
    fs::create_dir(&root).unwrap();
    symlink(&root, &link).unwrap();
    for other in [&root, &link] {
        let said = check(
            place.path(),
            &format!(
                "root = {root:?}\n[[location]]\nprefix = \"/y\"\nroot = {other:?}\ndownload = \"get\"\n"
            ),
            &[],
        );
        assert!(said.contains("one root lies within the other"), "{said}");
    }
}

#[test]
fn a_check_by_another_account_leaves_nothing() {
    let Some(nobody) = as_nobody() else {
        return;
    };
    let place = place(65534);
    let lines = "root = \"root\"\nwork_dir = \"work\"";
    let said = check(place.path(), lines, &nobody.wrapper);
    assert!(said.contains(GOOD), "{said}");
    let said = check(place.path(), lines, &[]);
    assert!(said.contains("belongs to user nobody"), "{said}");
    let said = check(place.path(), "root = \"root\"", &nobody.wrapper);
    assert!(said.contains("will lie in .bitsd"), "{said}");
}

/// A slip in the settings, or a variable that was empty: `root = "$DIR/"`. It is tried by somebody
/// who may not write there.
#[test]
fn folders_of_the_system_are_told() {
    let (owner, wrapper) = match rustix::process::geteuid() {
        root if root.is_root() => match as_nobody() {
            Some(nobody) => (65534, nobody.wrapper),
            None => return,
        },
        us => (us.as_raw(), Vec::new()),
    };
    let place = place(owner);
    for (lines, told) in [
        (
            "root = \"/etc\"\nwork_dir = \"work\"",
            "root: /etc belongs to the system",
        ),
        (
            "root = \"root\"\nwork_dir = \"/usr\"",
            "work_dir: /usr belongs to the system",
        ),
        (
            "root = \"root\"\n[[location]]\nprefix = \"a\"\nroot = \"/\"",
            "root: / belongs to the system",
        ),
    ] {
        let said = check(place.path(), lines, &wrapper);
        assert!(said.contains(told), "{said}");
    }
    let said = check(
        place.path(),
        "root = \"root\"\nwork_dir = \"work\"",
        &wrapper,
    );
    assert!(!said.contains("belongs to the system"), "{said}");
}

/// Whoever can write them lets himself in.
#[test]
fn files_that_others_can_read_or_write_are_told_of() {
    let place = tempfile::tempdir().unwrap();
    allow(place.path(), 0o755);
    let write = |name: &str, content: &str| {
        let path = place.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let digest = "a".repeat(64);
    let files = [
        write("tokens", &format!("anna:{digest}\n")),
        write("groups", "g: anna\n"),
        write("fingerprints", &format!("anna:{digest}\n")),
        write("secret", "0123456789abcdef"),
    ];
    let [tokens, groups, fingerprints, secret] = &files;
    let lines = format!(
        "root = {:?}\ntokens_file = {tokens:?}\ngroups_file = {groups:?}\ncertificates_file = {fingerprints:?}\n\
         [events]\nwebhook = \"http://127.0.0.1:1/\"\nwebhook_secret_file = {secret:?}\n",
        place.path()
    );
    let told = |file: &Path, what: &str, said: &str| {
        let file = file.display().to_string();
        said.lines()
            .any(|line| line.contains("warning: ") && line.contains(what) && line.contains(&file))
    };
    for file in &files {
        for (mode, is_written, is_read) in [
            (0o600, false, false),
            (0o640, false, false),
            (0o644, false, file == tokens || file == secret),
            (0o666, true, file == tokens || file == secret),
        ] {
            allow(file, mode);
            let said = check(place.path(), &lines, &[]);
            let written = told(file, "others than its owner can write", &said);
            assert_eq!(written, is_written, "{mode:o}: {said}");
            let read = told(file, "every account of this machine can read", &said);
            assert_eq!(read, is_read, "{mode:o}: {said}");
        }
        allow(file, 0o600);
    }
    let settings = place.path().join("bitsd.toml");
    allow(&settings, 0o666);
    let said = check(place.path(), &lines, &[]);
    assert!(
        told(&settings, "others than its owner can write", &said),
        "{said}"
    );
    allow(&settings, 0o644);
    allow(place.path(), 0o777);
    let said = check(place.path(), &lines, &[]);
    assert!(told(groups, "can write in the folder", &said), "{said}");
}

/// Goal: checks disturb neither each other nor a start, where what all of them need is made and
/// taken away. Method: several at the same time in a fresh root, again and again, some of them
/// beside a start.
#[test]
fn checks_beside_each_other_and_beside_a_start_find_nothing_wrong() {
    let command = |place: &Path, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        command.args(words).args(["--no-config", "--cores", "1"]);
        command.args(["--listen", "127.0.0.1:0"]).current_dir(place);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped());
        command
    };
    for round in 0..30 {
        let place = tempfile::tempdir().unwrap();
        let is_beside_start = round % 3 == 0;
        let server = is_beside_start.then(|| {
            let mut serve = command(place.path(), &["serve"]);
            serve.stderr(fs::File::create(place.path().join("log")).unwrap());
            Program(serve.spawn().unwrap())
        });
        let checks: Vec<_> = (0..4)
            .map(|_| command(place.path(), &["check", "-q"]).spawn().unwrap())
            .collect();
        for check in checks {
            let output = check.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "round {round}: {said}");
        }
        let Some(mut server) = server else {
            // At the most an empty folder, which one check has found and another one has made.
            let left = listing(place.path());
            let is_bare = left.keys().all(|path| path.is_dir());
            assert!(is_bare, "round {round}: {left:?}");
            continue;
        };
        let log = || fs::read_to_string(place.path().join("log")).unwrap();
        wait_until("it has started", || {
            assert!(!log().contains("start_failed"), "round {round}: {}", log());
            log().contains("event=started")
        });
        kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
        assert!(server.wait().success());
    }
}
