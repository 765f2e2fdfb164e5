//! The work directory and the roots: whose they are, where they are, and what becomes of them while
//! the server runs.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::IFlags;
use support::client::{Client, SESSION_NOT_FOUND, fragment, upload};
use support::content::content;
use support::host::{
    Tmpfs, allow, as_nobody, folder_and_root, folder_and_root_of_nobody, make_pipe, set_flags,
    with_calls, without_calls,
};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{skip, wait_until};
use tempfile::TempDir;

/// The running server has them open, and goes on; the next start refuses the folder.
#[test]
fn what_has_the_place_of_a_file_of_the_servers_is_told_of() {
    let (_folder, root) = folder_and_root();
    let server = Server::on(&root, Settings::default());
    let work = root.join(".bitsd");
    let put = |name: &str, beside: &Path| fs::rename(beside, work.join(name)).unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    put("owner", &root.join("link"));
    server.wait_for_log("owner is a link: move it away");
    fs::remove_file(work.join("owner")).unwrap();
    server.wait_for_log("event=work_dir_mended");
    make_pipe(&root.join("pipe"));
    put("lock", &root.join("pipe"));
    server.wait_for_log("lock is a pipe: move it away");
    upload(&server, "/still", 10);
}

/// Nobody else would remove it while the server runs, for weeks perhaps.
#[test]
fn a_part_that_could_not_be_removed_goes_when_that_is_possible() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let part = server.part(client.session());
    if !set_flags(&part, IFlags::IMMUTABLE) {
        return;
    }
    client.cancel().assert(200, None);
    server.wait_for_log("chattr -i");
    assert!(part.exists());
    // Its place is no other upload's affair.
    upload(&server, "/a.bin", 10);
    assert!(set_flags(&part, IFlags::empty()));
    wait_until("the part is gone", || !part.exists());
}

/// Whatever has the name of the file by which a shelf commits: no disk has failed.
#[test]
fn what_has_the_place_of_the_file_for_commits_costs_no_upload() {
    let (folder, root) = folder_and_root();
    let Some(disk) = Disk::mount(folder.path(), &["mkfs.ext4", "-q", "-F"], 16 << 20, "rw") else {
        return skip("ext4 cannot be mounted (needs root)");
    };
    let settings = format!(
        "[[location]]\nprefix = \"/other\"\nroot = {:?}",
        disk.path()
    );
    let mut server = Server::on(&root, Settings::default().file(&settings));
    let commit = disk.path().join(".bitsd/commit");
    upload(&server, "/other/first", 10);
    assert!(commit.is_file(), "the disk does not commit by it");
    let mut half = Client::create(server.address(), "/other/half");
    half.send(fragment(0..500).of(1000)).assert(200, None);
    fs::remove_file(&commit).unwrap();
    symlink("/etc/hostname", &commit).unwrap();
    half.send(fragment(500..1000).of(1000)).assert(200, None);
    half.close().assert(200, None);
    server.wait_for_log("commit is a link: the server has made its own again");
    // One that nobody can take away.
    wait_until("a folder has its place", || {
        let _ = fs::remove_file(&commit);
        fs::create_dir_all(commit.join("kept")).is_ok()
    });
    upload(&server, "/other/second", 10);
    server.wait_for_log("commit is a folder: remove it");
    let log = server.log();
    assert!(
        !log.contains("disk_failed") && !log.contains("poisoned"),
        "{log}"
    );
    server.stop();
    let (_, said) = checked(&root, &settings);
    assert!(said.contains("commit is a folder: remove it"), "{said}");
    assert!(commit.join("kept").is_dir());
}

/// Which calls a unit or a security module takes away, no disk can help.
#[test]
fn a_folder_whose_acl_cannot_be_asked_for_keeps_no_file() {
    if !cfg!(target_arch = "x86_64") {
        return skip("the numbers of system calls are those of x86-64");
    }
    // fgetxattr: EPERM, and ENOSYS.
    for calls in ["193:1", "193:38"] {
        let Some(words) = without_calls(calls) else {
            return;
        };
        let server = Server::with(Settings::default().wrapper(&words));
        upload(&server, "/file", 10);
        server.wait_for_log("event=not_given");
        assert!(!server.log().contains("disk_failed"), "{}", server.log());
    }
}

/// It is removed in the course of a start, and a check finds that before it.
#[test]
fn what_a_start_could_not_remove_is_named_by_check_and_start() {
    for name in ["clean.aside", "trial"] {
        let (_folder, root) = folder_and_root();
        Server::on(&root, Settings::default()).stop();
        let at = root.join(".bitsd").join(name);
        let _ = fs::remove_file(&at);
        fs::create_dir(&at).unwrap();
        let (is_good, said) = checked(&root, "");
        let wanted = format!("{name} in it is a folder: move it away");
        assert!(!is_good && said.contains(&wanted), "{said}");
        let journals = || {
            let entries = fs::read_dir(root.join(".bitsd")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| name.ends_with(".journal")).collect();
            names.sort();
            names
        };
        let before = journals();
        let (status, said) = Server::refused(&root, &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&wanted), "{said}");
        // A service manager starts it again and again.
        assert_eq!(journals(), before);
        fs::remove_dir(&at).unwrap();
        Server::on(&root, Settings::default());
    }
}

/// Nothing is wrong with the disk, and who looks at it finds nothing.
#[test]
fn what_ended_a_session_or_spoilt_a_stop_is_told_with_what_helps() {
    wait_until(
        "a stop comes before the work directory is made again",
        || {
            let log = log_of_a_spoilt_stop();
            let line = log
                .lines()
                .find(|line| line.contains("event=stop_not_safe"));
            if line.is_none() && log.contains("it was made again") {
                return false;
            }
            assert!(line.is_some_and(|line| line.contains("remedy=")), "{log}");
            true
        },
    );
}

/// Removes the folder of a server that may just make something in it.
#[track_caller]
fn remove_folder(path: &Path) {
    wait_until("it is removed", || fs::remove_dir_all(path).is_ok());
}

fn log_of_a_spoilt_stop() -> String {
    let mut server = Server::start();
    let mut client = Client::create(server.address(), "/a");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let part = server.file(&format!(
        ".bitsd/{}.part",
        client.session().trim_matches(['{', '}'])
    ));
    fs::remove_file(&part).unwrap();
    client.reconnect();
    wait_until("it is closed", || !has_open(&server, &part));
    client
        .send(fragment(10..20).of(20))
        .assert(500, Some(SESSION_NOT_FOUND));
    server.wait_for_log(
        "ending=\"poisoned\" remedy=\"keep other programs out of the work directory\"",
    );
    remove_folder(&server.file(".bitsd"));
    server.terminate();
    assert!(server.wait().success());
    server.log()
}

#[test]
fn a_root_without_an_inode_is_found_by_check_and_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    // One for its own folder, and one for the root.
    let Some(_disk) = Tmpfs::on(&disk, "nr_inodes=2") else {
        return;
    };
    let root = disk.join("root");
    fs::create_dir(&root).unwrap();
    let file = folder.path().join("check.toml");
    fs::write(&file, "").unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_bitsd"));
    check.args(["check", "--listen", "127.0.0.1:0", "--root"]);
    let check = check
        .arg(&root)
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    assert!(!check.status.success() && said.contains("df -i"), "{said}");
    let (status, said) = Server::refused(&root, &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("df -i"), "{said}");
}

/// As a link or a folder: its client cannot wait for the bytes that stood there.
#[test]
fn a_part_that_is_a_pipe_or_a_socket_now_is_told_as_lost() {
    for is_pipe in [true, false] {
        let server = Server::start();
        let mut client = Client::create(server.address(), "/file");
        client.send(fragment(0..500).of(1000)).assert(200, None);
        let part = server.part(client.session());
        fs::remove_file(&part).unwrap();
        match is_pipe {
            true => make_pipe(&part),
            false => drop(std::os::unix::net::UnixListener::bind(&part).unwrap()),
        }
        // Whoever came before has the file open still.
        client.reconnect();
        wait_until("it is closed", || !has_open(&server, &part));
        let response = client.send(fragment(500..1000).of(1000));
        response.assert(500, Some(SESSION_NOT_FOUND));
        let log = server.log();
        assert!(
            !log.contains("report this line") && !log.contains("dmesg"),
            "{log}"
        );
    }
}

/// Whether a server has a file open, by a name that may be gone.
fn has_open(server: &Server, file: &Path) -> bool {
    let name = file.file_name().unwrap().to_str().unwrap();
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let mut places = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    places.any(|place| place.to_string_lossy().contains(name))
}

/// The next start would refuse it: an accident, which ends no job.
#[test]
fn a_root_that_is_shut_to_the_server_is_told_of_and_waited_for() {
    let Some(settings) = as_nobody() else { return };
    for mode in [0o000, 0o500] {
        let (_folder, root) = folder_and_root_of_nobody();
        allow(&root, 0o777);
        std::os::unix::fs::chown(&root, Some(65534), None).unwrap();
        let server = Server::on(&root, settings.clone());
        let mut whole = Client::create(server.address(), "/whole");
        whole.send(fragment(0..10).of(10)).assert(200, None);
        allow(&root, mode);
        server.wait_for_log("event=not_ready");
        let mut late = Client::new(server.address(), "/late");
        late.try_create().assert(503, None);
        whole.close().assert(503, None);
        allow(&root, 0o755);
        server.wait_for_log("event=ready");
        late.try_create().assert(200, None);
        whole.close().assert(200, None);
    }
}

// -- ours alone

#[test]
fn a_work_directory_that_others_may_write_to_is_refused() {
    for mode in [0o777, 0o770] {
        let (_folder, root) = folder_and_root();
        fs::create_dir(root.join(".bitsd")).unwrap();
        allow(&root.join(".bitsd"), mode);
        let (status, said) = Server::refused(&root, &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("chmod -R go-w"), "{said}");
    }
}

/// A slip in the settings: nothing there is renamed, removed or added to.
#[test]
fn a_folder_that_holds_other_things_is_no_work_directory() {
    let (folder, root) = folder_and_root();
    let home = folder.path().join("home");
    fs::create_dir_all(home.join("docs")).unwrap();
    allow(&home, 0o700);
    // Others have a file of this name.
    let files = ["letter", ".profile", "lock", "trial", "docs/a"];
    for name in files {
        fs::write(home.join(name), "mine").unwrap();
    }
    let work_dir = format!("work_dir = {home:?}\n");
    let (status, said) = Server::refused(&root, &Settings::default().file(&work_dir));
    assert_eq!(status.code(), Some(1), "{said}");
    let told = "(.profile, docs, letter)";
    assert!(said.contains(told) && said.contains("install -d"), "{said}");
    let (ok, said) = checked(&root, &work_dir);
    assert!(!ok && said.contains(told), "{said}");
    // Nor is the root of a server that runs, though its own folder is in it.
    let server = Server::start();
    let theirs = format!("work_dir = {:?}\n", server.root());
    let (status, said) = Server::refused(&root, &Settings::default().file(&theirs));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("(.bitsd)"), "{said}");
    upload(&server, "/a.bin", 10);
    for name in files {
        assert_eq!(fs::read(home.join(name)).unwrap(), b"mine", "{name}");
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 5);
    // What was put into one that is in use stays, and is told of.
    drop(Server::on(&root, Settings::default()));
    fs::write(root.join(".bitsd/README"), "mine").unwrap();
    let (ok, said) = checked(&root, "");
    assert!(ok && said.contains("not the server's (README)"), "{said}");
    let server = Server::on(&root, Settings::default());
    server.wait_for_log("event=work_dir_shared");
    assert!(root.join(".bitsd/README").exists());
}

/// Whether `bitsd check` finds a start in order, and what it says.
fn checked(root: &Path, settings: &str) -> (bool, String) {
    let file = root.with_extension("toml");
    let all = format!("root = {root:?}\nlisten = \"127.0.0.1:0\"\ncores = 1\n{settings}");
    fs::write(&file, all).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
    (check.status.success(), said)
}

#[test]
fn a_work_directory_of_somebody_else_is_refused() {
    let (_folder, root) = folder_and_root();
    let work = root.join(".bitsd");
    fs::create_dir(&work).unwrap();
    if std::os::unix::fs::chown(&work, Some(65534), None).is_err() {
        return skip("files cannot be given away here (needs root)");
    }
    let (status, said) = Server::refused(&root, &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("belongs to") && said.contains("chown"),
        "{said}"
    );
}

#[test]
fn a_link_in_the_place_of_the_work_directory_is_refused() {
    let (folder, root) = folder_and_root();
    fs::create_dir(folder.path().join("other")).unwrap();
    symlink(folder.path().join("other"), root.join(".bitsd")).unwrap();
    let (status, said) = Server::refused(&root, &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("work_dir = "), "{said}");
    assert_eq!(
        fs::read_dir(folder.path().join("other")).unwrap().count(),
        0
    );
}

/// Uploads that look like a work directory, moved to its place by whoever may write to the root.
#[test]
fn where_others_may_write_to_the_root_a_work_directory_is_known_by_its_mark() {
    let (_folder, root) = folder_and_root();
    allow(&root, 0o777);
    let mut server = Server::on(&root, Settings::default());
    server.wait_for_log("chmod +t");
    upload(&server, "/a.bin", 10);
    // Its own is known again, with sessions in it.
    let mut client = Client::create(server.address(), "/b.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    server.stop();
    fs::rename(root.join(".bitsd"), root.join("away")).unwrap();
    fs::create_dir(root.join(".bitsd")).unwrap();
    for name in ["0000000000000000-0.journal", "owner"] {
        fs::write(root.join(".bitsd").join(name), "forged").unwrap();
    }
    let (status, said) = Server::refused(&root, &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be told"), "{said}");
    // In a place of its own nobody can do that.
    allow(&root, 0o755);
    drop(Server::on(&root, Settings::default()));
}

#[test]
fn a_link_that_was_planted_is_not_written_through() {
    let (folder, root) = folder_and_root();
    let victim = folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let mut server = Server::on(&root, Settings::default());
    for name in ["clean.aside", "clean.aside.new"] {
        symlink(&victim, root.join(".bitsd").join(name)).unwrap();
    }
    server.stop();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    let note = fs::symlink_metadata(root.join(".bitsd/clean.aside")).unwrap();
    assert!(
        note.is_file() && note.len() > 0,
        "the stop is noted all the same"
    );
    // Nor in a folder that was put in the place of ours while we ran.
    let mut server = Server::on(&root, Settings::default());
    fs::rename(root.join(".bitsd"), folder.path().join("away")).unwrap();
    fs::create_dir(root.join(".bitsd")).unwrap();
    symlink(&victim, root.join(".bitsd/clean.aside")).unwrap();
    server.stop();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(folder.path().join("away/clean.aside").is_file());
}

#[test]
fn a_pipe_in_the_work_directory_holds_nobody_up() {
    for name in [
        "lock",
        "clean.aside",
        "owner",
        "shelves",
        "owner.new",
        "trial",
    ] {
        let (_folder, root) = folder_and_root();
        fs::create_dir(root.join(".bitsd")).unwrap();
        let pipe = root.join(".bitsd").join(name);
        make_pipe(&pipe);
        let serves = || drop(Server::on(&root, Settings::default()));
        match name {
            "lock" | "owner" | "shelves" => {
                let (status, said) = Server::refused(&root, &Settings::default());
                assert_eq!(status.code(), Some(1), "{said}");
                assert!(said.contains("not a regular file"), "{name}: {said}");
            }
            _ => serves(),
        }
    }
}

// -- one server

#[test]
fn a_second_server_is_refused_whatever_was_done_to_the_lock() {
    let server = Server::start();
    let lock = server.file(".bitsd/lock");
    let refused = || {
        let (status, said) = Server::refused(server.root(), &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("another bitsd"), "{said}");
        assert!(
            said.contains(&format!("(process {})", server.pid())),
            "{said}"
        );
    };
    refused();
    fs::remove_file(&lock).unwrap();
    refused();
    fs::write(&lock, "").unwrap();
    refused();
    upload(&server, "/a.bin", 10);
}

// -- what the settings name must be there

#[test]
fn a_root_that_is_missing_is_not_made() {
    let (folder, root) = folder_and_root();
    let missing = folder.path().join("mising");
    let refused = |settings: &Settings| {
        let (status, said) = Server::refused(&root, settings);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains("mising does not exist") && said.contains("install -d"),
            "{said}"
        );
        assert!(!missing.exists());
    };
    let location = format!("[[location]]\nprefix = \"x\"\nroot = {missing:?}\n");
    refused(&Settings::default().file(&location));
    refused(&Settings::default().flags(&["--work-dir", missing.to_str().unwrap()]));
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args(["serve", "--listen", "127.0.0.1:0", "--root"])
        .arg(&missing)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!missing.exists());
    // Nor at a reload: all stays as it is.
    let server = Server::on(&root, Settings::default().file("log_level = \"info\""));
    server.reload(&location);
    server.wait_for_log("the settings were not reloaded");
    server.wait_for_log("mising does not exist");
    assert!(!missing.exists());
    upload(&server, "/x.bin", 10);
}

#[test]
fn a_trial_leaves_nothing_in_the_root() {
    let server = Server::start();
    let names = |folder: &str| {
        let entries = fs::read_dir(server.file(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.ends_with(".journal")).collect();
        names.sort();
        names
    };
    assert_eq!(names("."), [".bitsd"]);
    assert_eq!(names(".bitsd"), ["lock", "owner"]);
}

// -- several disks

fn two_disks() -> Option<(TempDir, PathBuf, PathBuf, Tmpfs)> {
    let (folder, root) = folder_and_root();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    let mount = Tmpfs::on(&other, "size=64m")?;
    allow(&other, 0o755);
    Some((folder, root, other, mount))
}

fn parts(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join(".bitsd")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".part")).collect()
}

#[test]
fn each_root_may_be_on_a_disk_of_its_own() {
    let Some((_folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let settings = Settings::default().file(&format!(
        "[[location]]\nprefix = \"other\"\nroot = {other:?}\n"
    ));
    let mut server = Server::on(&root, settings);
    upload(&server, "/a.bin", 10);
    upload(&server, "/other/a.bin", 10);
    assert_eq!(fs::read(other.join("a.bin")).unwrap().len(), 10);
    // Unfinished uploads lie on the disk of their root, and go on after a restart.
    let mut here = Client::create(server.address(), "/b.bin");
    let mut there = Client::create(server.address(), "/other/b.bin");
    for client in [&mut here, &mut there] {
        client.send(fragment(0..10).of(20)).assert(200, None);
    }
    assert_eq!((parts(&root).len(), parts(&other).len()), (1, 1));
    for is_clean in [true, false] {
        if is_clean {
            server.stop();
        }
        server.restart();
        for client in [&mut here, &mut there] {
            client.reconnect_to(server.address());
            client.send(fragment(0..10).of(20)).assert(200, None);
        }
    }
    for client in [&mut here, &mut there] {
        client.send(fragment(10..20)).assert(200, None);
        client.close().assert(200, None);
    }
    assert_eq!(fs::read(other.join("b.bin")).unwrap().len(), 20);
    assert_eq!((parts(&root).len(), parts(&other).len()), (0, 0));
    // No upload reaches either of them.
    Client::new(server.address(), "/other/.bitsd/x")
        .try_create()
        .assert(400, Some(support::client::E_INVALIDARG));
}

#[test]
fn a_work_directory_on_another_disk_than_the_root_is_no_fault() {
    let Some((_folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let settings = Settings::default().flags(&["--work-dir", other.join("w").to_str().unwrap()]);
    fs::create_dir(other.join("w")).unwrap();
    let mut server = Server::on(&root, settings);
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    assert_eq!(parts(&root).len(), 1);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
}

#[test]
fn a_disk_that_comes_with_a_reload_has_its_own_shelf() {
    let Some((_folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let server = Server::on(&root, Settings::default().file("log_level = \"info\""));
    server.reload(&format!(
        "[[location]]\nprefix = \"other\"\nroot = {other:?}\n"
    ));
    server.wait_for_log("the settings were reloaded");
    upload(&server, "/other/a.bin", 10);
    assert_eq!(fs::read(other.join("a.bin")).unwrap().len(), 10);
}

/// A part stays where it is when its location goes, and is found again.
#[test]
fn sessions_survive_settings_that_forget_their_disk() {
    let Some((_folder, root, other, mount)) = two_disks() else {
        return;
    };
    let settings = Settings::default().file(&format!(
        "[[location]]\nprefix = \"other\"\nroot = {other:?}\n"
    ));
    let mut server = Server::on(&root, settings.clone());
    let mut client = Client::create(server.address(), "/other/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    // Without the location, and then without the disk as well.
    server.restart_with(Settings::default());
    server.wait_for_log("no root of the settings uses this shelf");
    server.kill9();
    drop(mount);
    server.restart_with(Settings::default());
    server.wait_for_log("it cannot be opened");
    client.reconnect_to(server.address());
    // The session waits for its disk, and its client with it.
    client.send(fragment(10..20)).assert(503, None);
    server.kill9();
    // The disk is back, empty: its sessions are gone with it. What is asked here is that nobody
    // removed anything meanwhile.
    let _mount = Tmpfs::on(&other, "size=64m");
    allow(&other, 0o755);
    server.restart_with(settings);
    upload(&server, "/other/b.bin", 10);
}

#[test]
fn a_shelf_of_another_server_is_refused_while_there_are_uploads_on_it() {
    let Some((folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let settings = Settings::default().file(&format!(
        "[[location]]\nprefix = \"other\"\nroot = {other:?}\n"
    ));
    let mut server = Server::on(&root, settings.clone());
    let second = folder.path().join("second");
    // While it runs, by the lock; afterwards, by the owner.
    let refused = |words: &str| {
        let (status, said) = Server::refused(&second, &settings);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    };
    refused("another bitsd");
    let mut client = Client::create(server.address(), "/other/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    server.stop();
    refused("keeps unfinished uploads of the server whose work_dir is");
    assert_eq!(parts(&other).len(), 1);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.stop();
    // Empty, it is anybody's.
    drop(Server::on(&second, settings.clone()));
}

#[test]
fn the_work_directory_of_another_server_is_no_shelf() {
    let Some((_folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let mut first = Server::on(&other, Settings::default());
    let client = Client::create(first.address(), "/a.bin");
    first.stop();
    let settings = Settings::default().file(&format!(
        "[[location]]\nprefix = \"other\"\nroot = {other:?}\n"
    ));
    let (status, said) = Server::refused(&root, &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("keeps unfinished uploads"), "{said}");
    assert_eq!(parts(&other).len(), 1, "{}", client.session());
}

// -- what was opened is looked at again

/// Two subvolumes of btrfs are reached by one mount, and nothing can be renamed from one into the
/// other. The bytes must not be taken and never get a name.
#[test]
fn a_root_in_another_subvolume_has_its_own_folder() {
    let folder = TempDir::new().unwrap();
    let Some(disk) = Disk::mount(folder.path(), &["mkfs.btrfs", "-q"], 256 << 20, "rw") else {
        return skip("btrfs cannot be mounted (needs root and btrfs-progs)");
    };
    for name in ["work", "root"] {
        let made = Command::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(disk.path().join(name))
            .status();
        assert!(made.unwrap().success());
    }
    let work = disk.path().join("work/.bitsd");
    fs::create_dir(&work).unwrap();
    let settings = Settings::default().flags(&["--work-dir", work.to_str().unwrap()]);
    let root = disk.path().join("root");
    let server = Server::on(&root, settings);
    upload(&server, "/a.bin", 10);
    assert!(root.join(".bitsd").exists());
}

#[test]
fn a_work_directory_that_is_removed_is_made_again() {
    let mut server = Server::start();
    let mut lost = Client::create(server.address(), "/lost.bin");
    lost.send(fragment(0..10).of(20)).assert(200, None);
    remove_folder(&server.file(".bitsd"));
    // No client hears of it, and nothing has to be restarted.
    upload(&server, "/a.bin", 10);
    server.wait_for_log("it was made again");
    let mut kept = Client::create(server.address(), "/kept.bin");
    kept.send(fragment(0..10).of(20)).assert(200, None);
    // It is locked, and its journals are whole.
    let (status, said) = Server::refused(server.root(), &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    server.restart();
    kept.reconnect_to(server.address());
    kept.send(fragment(10..20)).assert(200, None);
    kept.close().assert(200, None);
    server.assert_file("kept.bin", 1, 20);
    lost.reconnect_to(server.address());
    lost.send(fragment(10..20))
        .assert(500, Some(SESSION_NOT_FOUND));
}

/// The connection still has the part open, so its last bytes are taken; but no name is left that
/// could be published.
#[test]
fn a_part_that_is_removed_before_close_is_told_as_lost() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    for part in parts(server.root()) {
        fs::remove_file(server.file(".bitsd").join(part)).unwrap();
    }
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    server.wait_for_log("the bytes of the session were removed from the work directory");
    // It is over, and its name is free.
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    upload(&server, "/a.bin", 20);
}

/// Whoever cleans up by hand: the note of whose the folder is goes too, and without it no start
/// would take the folder for its own.
#[test]
fn a_work_directory_that_is_emptied_is_filled_again() {
    let mut server = Server::start();
    let note = server.file(".bitsd/owner");
    for entry in fs::read_dir(server.file(".bitsd")).unwrap() {
        match fs::remove_file(entry.unwrap().path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.unwrap(),
        }
    }
    server.wait_for_log("event=work_dir_mended");
    wait_until("all of it is there again", || {
        note.exists() && server.file(".bitsd/lock").exists()
    });
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let (status, said) = Server::refused(server.root(), &Settings::default());
    assert_eq!(status.code(), Some(1), "{said}");
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
}

/// Whoever sets rights on the whole share means the uploads, and opens the folder of the unfinished
/// ones as well: others could forge records there, and the next start would refuse it.
#[test]
fn a_work_directory_that_is_opened_to_others_is_told_of() {
    let server = Server::start();
    let work = server.file(".bitsd");
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let was = fs::metadata(&work).unwrap().permissions();
    for mode in [0o770, 0o777, 0o702] {
        fs::set_permissions(&work, fs::Permissions::from_mode(mode)).unwrap();
        server.wait_for_log(&format!("may write to it now (mode {mode:04o}); close it"));
        let mut refused = Client::new(server.address(), "/b.bin");
        assert_eq!(refused.try_create().status, 503);
        fs::set_permissions(&work, was.clone()).unwrap();
        wait_until("it is taken for ours again", || {
            refused.reconnect().try_create().status == 200
        });
    }
    // What is under way goes on.
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
}

/// Runs the command that a line names, between grave accents.
#[track_caller]
fn obey(said: &str, begin: &str) {
    let mut commands = said.split('`').skip(1).step_by(2);
    let command = commands.find(|command| command.starts_with(begin));
    let command = command.unwrap_or_else(|| panic!("no {begin}: {said}"));
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// Files of a folder of ours, by how their names end.
fn files_of(work: &Path, ending: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.to_str().unwrap().ends_with(ending);
    paths.filter(is_it).collect()
}

/// Whoever opens a whole share to others opens the files as well, and a folder that is closed again
/// holds them as they are.
#[test]
fn files_that_others_may_write_to_are_refused_until_all_is_mended() {
    let (_folder, root) = folder_and_root();
    let mut server = Server::on(&root, Settings::default());
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    server.stop();
    let work = root.join(".bitsd");
    let refused = |words: &str| {
        let (status, said) = Server::refused(&root, &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{words}: {said}");
        said
    };
    let open = Command::new("chmod")
        .args(["-R", "a+rwX"])
        .arg(&root)
        .status();
    assert!(open.unwrap().success());
    refused("(mode 0777)");
    // Only the folder.
    allow(&work, 0o755);
    let said = refused("(mode 0666)");
    obey(&said, "chmod -R go-w ");
    allow(&root, 0o755);
    let private = ["/lock", "/owner", "/clean.aside", ".journal", ".part"];
    for ending in private {
        let path = &files_of(&work, ending)[0];
        for mode in [0o602, 0o620] {
            allow(path, mode);
            let said = refused(&format!("{} (mode {mode:04o})", path.display()));
            let (is_good, checked) = checked(&root, "");
            assert!(!is_good && checked.contains("chmod -R go-w"), "{checked}");
            obey(&said, "chmod -R go-w ");
        }
        if std::os::unix::fs::chown(path, Some(65534), None).is_ok() {
            let said = refused(&format!("{} belongs to", path.display()));
            obey(&said, "chown -R ");
        }
    }
    let mut server = Server::on(&root, Settings::default());
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
    server.stop();
}

/// The running server says so as well, and what others may have changed gets no name.
#[test]
fn a_file_of_the_servers_that_is_opened_to_others_is_told_of() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..20)).assert(200, None);
    let work = server.file(".bitsd");
    let said_of = |path: &Path| {
        let words = format!("{} (mode 0666)", path.display());
        server.wait_for_log(&words);
        let log = server.log();
        let line = log.lines().rfind(|line| line.contains(&words));
        line.unwrap().to_owned()
    };
    let (lock, journal) = (work.join("lock"), files_of(&work, ".journal").remove(0));
    allow(&lock, 0o666);
    allow(&journal, 0o666);
    said_of(&lock);
    let mut refused = Client::new(server.address(), "/b.bin");
    assert_eq!(refused.try_create().status, 503);
    // What there may be very many of is looked at less often, but for where something is wrong.
    allow(&lock, 0o600);
    obey(&said_of(&journal), "chmod -R go-w ");
    wait_until("it is taken for ours again", || {
        refused.reconnect().try_create().status == 200
    });
    let part = server.part(client.session());
    for mode in [0o666, 0o620] {
        allow(&part, mode);
        client.close().assert(503, None);
        assert!(!server.file("a.bin").exists());
    }
    server.wait_for_log("cause=\"others may have changed a file in the work directory\"");
    obey(&server.log(), "chmod -R go-w ");
    client.reconnect();
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
}

/// What a part was made with is nobody's doing.
#[test]
fn a_umask_that_lets_a_group_write_is_no_fault() {
    let words = ["sh", "-c", "umask 002; exec \"$@\"", "sh"];
    let mut server = Server::with(Settings::default().wrapper(&words));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let mode = fs::metadata(server.part(client.session())).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o664);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    allow(&server.part(client.session()), 0o666);
    client.close().assert(503, None);
    allow(&server.part(client.session()), 0o664);
    client.reconnect();
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
    assert_eq!(
        files_of(&server.file(".bitsd"), ".new"),
        [""; 0].map(PathBuf::from)
    );
}

/// Uploads would begin, and nobody could go on with them.
#[test]
fn a_umask_that_keeps_the_owner_out_holds_for_others_only() {
    let words = ["sh", "-c", "umask 0377; exec \"$@\"", "sh"];
    let settings = Settings::default()
        .wrapper(&words)
        .file("create_dirs = true");
    let mut server = Server::with(settings);
    server.wait_for_log("event=umask_changed");
    let mut client = Client::create(server.address(), "/a/b.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(&server.part(client.session())), 0o600);
    server.restart();
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file("a/b.bin", 1, 20);
    assert_eq!(mode(&server.file("a")), 0o700);
}

/// What a file is given with its name may let others write to it, and it does not come so far.
#[test]
fn a_file_that_did_not_get_its_name_is_the_servers_alone_again() {
    let settings = Settings::default().file("file_mode = \"0666\"");
    let mut server = Server::with(settings);
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..20)).assert(200, None);
    fs::create_dir(server.file("a.bin")).unwrap();
    let told = client.close();
    assert!(told.status != 200, "{told:?}");
    let mode = fs::metadata(server.part(client.session())).unwrap().mode() & 0o777;
    assert_eq!(mode & 0o022, 0);
    server.restart();
    fs::remove_dir(server.file("a.bin")).unwrap();
    client.reconnect_to(server.address());
    client.close().assert(200, None);
    let mode = fs::metadata(server.file("a.bin")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o666);
}

/// What has the name of a part and is no file is called what it is, and no bytes of an upload.
#[test]
fn what_is_no_file_is_set_aside_as_what_it_is() {
    let mut server = Server::start();
    let mut parts = Vec::new();
    for name in ["/folder", "/link"] {
        let mut client = Client::create(server.address(), name);
        client.send(fragment(0..10).of(20)).assert(200, None);
        parts.push(server.part(client.session()));
    }
    server.stop();
    for part in &parts {
        fs::remove_file(part).unwrap();
    }
    fs::create_dir(&parts[0]).unwrap();
    symlink("/etc/hostname", &parts[1]).unwrap();
    let nobodys = server.file(".bitsd/11111111-1111-4111-8111-111111111111.part");
    fs::create_dir(&nobodys).unwrap();
    server.restart();
    for (part, what) in [
        (&parts[0], "folder"),
        (&parts[1], "link"),
        (&nobodys, "folder"),
    ] {
        let name = format!("name=\"{}\"", part.file_name().unwrap().to_str().unwrap());
        server.wait_for_log(&name);
        let log = server.log();
        let line = log.lines().find(|line| line.contains(&name)).unwrap();
        assert!(line.contains("event=file_set_aside"), "{line}");
        assert!(line.contains(&format!("it is a {what}")), "{line}");
        let aside = part.with_extension("part.aside");
        wait_until("it has another name", || aside.symlink_metadata().is_ok());
    }
    assert!(!server.log().contains("orphans_removed"));
}

#[test]
fn a_work_directory_that_is_given_away_is_told_of() {
    let Some(settings) = as_nobody() else { return };
    let (_folder, root) = folder_and_root_of_nobody();
    let server = Server::on(&root, settings);
    let work = root.join(".bitsd");
    let give = |owner| std::os::unix::fs::chown(&work, Some(owner), None);
    give(0).unwrap();
    server.wait_for_log("it belongs to user root (uid 0) now; give it back");
    let mut client = Client::new(server.address(), "/a.bin");
    assert_eq!(client.try_create().status, 503);
    give(65534).unwrap();
    server.wait_for_log("event=ready");
    upload(&server, "/a.bin", 20);
}

/// All that stands under the name of a part would be published with the server's rights.
#[test]
fn a_part_that_was_exchanged_or_cut_gets_no_name() {
    let server = Server::start();
    let exchange: [&dyn Fn(&Path); 3] = [
        &|part| {
            fs::remove_file(part).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", part).unwrap();
        },
        &|part| {
            fs::remove_file(part).unwrap();
            fs::write(part, "other").unwrap();
        },
        &|part| {
            let part = fs::OpenOptions::new().write(true).open(part).unwrap();
            part.set_len(10).unwrap();
        },
    ];
    for (number, exchange) in exchange.into_iter().enumerate() {
        let name = format!("/{number}.bin");
        let mut client = Client::create(server.address(), &name);
        client.send(fragment(0..20).of(20)).assert(200, None);
        exchange(&server.file(".bitsd").join(&parts(server.root())[0]));
        client.close().assert(500, Some(SESSION_NOT_FOUND));
        assert!(fs::symlink_metadata(server.file(&name[1..])).is_err());
    }
    server.wait_for_log("somebody has changed an unfinished upload");
}

/// Cuts the part of a session, as somebody who cleans up would.
fn cut(server: &Server, client: &Client, bytes: u64) {
    let path = server.part(client.session());
    let part = fs::OpenOptions::new().write(true).open(path).unwrap();
    part.set_len(bytes).unwrap();
}

/// Goal: bytes that were acked are never replaced by zeros. Method: the part is cut between two
/// fragments, of which the second would leave a hole; the file would have its full length again.
/// On the connection that has it open, on another one, and where a digest is computed.
#[test]
fn a_part_that_was_cut_is_not_filled_up_with_zeros() {
    for lines in ["", "digest = \"sha-256\"", "durability = \"fragment\""] {
        let server = Server::with(Settings::default().file(lines));
        for (number, is_other) in [false, true].into_iter().enumerate() {
            for (first, left) in [(5, 2), (5, 0), (2 << 20, (2 << 20) - 1)] {
                let name = format!("/{number}-{first}-{left}.bin");
                let mut client = Client::create(server.address(), &name);
                client
                    .send(fragment(0..first).of(first + 5))
                    .assert(200, None);
                cut(&server, &client, left);
                if is_other {
                    client.reconnect();
                }
                let rest = || fragment(first..first + 5);
                let told = client.send(rest());
                told.assert(500, Some(SESSION_NOT_FOUND));
                // It is over, and its client begins anew.
                client.close().assert(500, Some(SESSION_NOT_FOUND));
                assert!(!server.file(&name[1..]).exists(), "{lines}{name}");
                let mut again = Client::create(server.address(), &name);
                again.send(fragment(0..first + 5)).assert(200, None);
                again.close().assert(200, None);
                server.assert_file(&name[1..], 1, first + 5);
            }
        }
        server.wait_for_log("somebody has changed an unfinished upload");
        assert!(!server.log().contains("does not know this error"));
    }
}

/// The same within one fragment, however long it is.
#[test]
fn a_part_that_was_cut_while_a_fragment_comes_is_not_filled_up_either() {
    let server = Server::start();
    let (half, whole) = (1 << 20, 4 << 20);
    let mut client = Client::create(server.address(), "/a.bin");
    let all = fragment(0..whole);
    client.send_part(&all, half);
    // Blocks are written whole, so that the last of what came may wait for more.
    wait_until("most of it was written", || {
        server.part_bytes(client.session()) >= half / 2
    });
    cut(&server, &client, 10);
    client.raw.send(content(1, half, whole));
    let told = client.raw.receive();
    told.assert(500, Some(SESSION_NOT_FOUND));
    assert!(!server.file("a.bin").exists());
}

/// The journals of a server that have an upload in them.
fn journals_with_an_upload(server: &Server) -> Vec<PathBuf> {
    let entries = fs::read_dir(server.file(".bitsd")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let journals = paths.filter(|path| path.extension().is_some_and(|end| end == "journal"));
    let has_upload = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(5).any(|name| name == b"a.bin")
    };
    journals.filter(has_upload).collect()
}

/// Goal: what the next start needs is there again, whatever somebody has done to a journal. Method:
/// an upload that is half there, and one that is whole; then a stop, or a kill.
#[test]
fn a_journal_that_somebody_has_taken_is_written_again() {
    let cut_to = |path: &Path, bytes: u64| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    type Way<'w> = (&'static str, Box<dyn Fn(&Path, &Path) + 'w>);
    let ways: [Way<'_>; 7] = [
        (
            "removed",
            Box::new(|path, _| fs::remove_file(path).unwrap()),
        ),
        (
            "moved",
            Box::new(|path, aside| fs::rename(path, aside).unwrap()),
        ),
        (
            "renamed",
            Box::new(|path, _| fs::rename(path, path.with_extension("bak")).unwrap()),
        ),
        (
            "removed beside a link",
            Box::new(|path, aside| {
                fs::hard_link(path, aside).unwrap();
                fs::remove_file(path).unwrap();
            }),
        ),
        (
            "a link to where it is now",
            Box::new(|path, aside| {
                fs::rename(path, aside).unwrap();
                symlink(aside, path).unwrap();
            }),
        ),
        ("emptied", Box::new(|path, _| cut_to(path, 0))),
        (
            "cut in half",
            Box::new(|path, _| cut_to(path, fs::metadata(path).unwrap().len() / 2)),
        ),
    ];
    for (number, (name, way)) in ways.iter().enumerate() {
        let (folder, root) = folder_and_root();
        let mut server = Server::on(&root, Settings::default());
        let mut half = Client::create(server.address(), "/a.bin");
        half.send(fragment(0..10).of(20)).assert(200, None);
        let mut whole = Client::create(server.address(), "/a.bin.2");
        whole.send(fragment(0..10)).assert(200, None);
        let before = journals_with_an_upload(&server);
        assert!(!before.is_empty());
        for (number, path) in before.iter().enumerate() {
            way(path, &folder.path().join(number.to_string()));
        }
        wait_until(name, || {
            let now = journals_with_an_upload(&server);
            now.len() == before.len() && now.iter().all(|path| !before.contains(path))
        });
        match number % 2 == 0 {
            true => server.kill9(),
            false => server.stop(),
        }
        server = Server::on(&root, Settings::default());
        half.reconnect_to(server.address());
        half.send(fragment(10..20)).assert(200, None);
        half.close().assert(200, None);
        whole.reconnect_to(server.address());
        whole.close().assert(200, None);
        server.assert_file("a.bin", 1, 20);
        server.stop();
    }
}

/// What was written since stands behind a hole, which no start reads past.
#[test]
fn a_journal_that_was_cut_and_has_grown_since_is_written_again() {
    let settings = Settings::default().flags(&["--cores", "1"]);
    let (_folder, root) = folder_and_root();
    let mut server = Server::on(&root, settings.clone());
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let before = journals_with_an_upload(&server);
    let path = &before[0];
    let file = fs::File::options().write(true).open(path).unwrap();
    let bytes = file.metadata().unwrap().len();
    // As if a record had been appended before anybody looked.
    file.set_len(0).unwrap();
    file.set_len(bytes).unwrap();
    wait_until("it is written again", || {
        let now = journals_with_an_upload(&server);
        !now.is_empty() && !now.contains(path)
    });
    server.kill9();
    server = Server::on(&root, settings);
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.stop();
}

/// Goal: what a start would refuse, a check and a server that is to make way refuse as well.
#[test]
fn what_has_the_name_of_a_journal_is_found_before_a_start_is_refused_for_it() {
    let (folder, root) = folder_and_root();
    let server = Server::on(&root, Settings::default());
    fs::create_dir(root.join(".bitsd/0000000000000099-0.journal")).unwrap();
    let file = folder.path().join("check.toml");
    fs::write(
        &file,
        format!("root = {root:?}\nlisten = \"127.0.0.1:0\"\n"),
    )
    .unwrap();
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
        let output = command
            .args(["check", "--quiet", "--config"])
            .arg(&file)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let is_told = |said: &str| said.contains("0000000000000099-0.journal is a folder");
    let (code, said) = check();
    assert!(code == Some(1) && is_told(&said), "{code:?} {said}");
    server.make_way();
    server.wait_for_log("event=not_replaced");
    upload(&server, "/still", 10);
    drop(server);
    let (code, said) = check();
    assert!(code == Some(1) && is_told(&said), "{code:?} {said}");
    assert!(
        said.contains("put back the journal that was there"),
        "{said}"
    );
}

/// An emptied mark is as bad as none: the next start would refuse the folder.
#[test]
fn a_mark_that_was_emptied_is_written_again() {
    let (_folder, root) = folder_and_root();
    let mut server = Server::on(&root, Settings::default());
    let mark = root.join(".bitsd/owner");
    let before = fs::read(&mark).unwrap();
    fs::write(&mark, "").unwrap();
    server.wait_for_log("event=work_dir_mended");
    assert_eq!(fs::read(&mark).unwrap(), before);
    server.restart();
    upload(&server, "/a.bin", 10);
}

#[test]
fn a_work_directory_that_was_renamed_takes_no_new_uploads() {
    let server = Server::start();
    let mut running = Client::create(server.address(), "/running.bin");
    running.send(fragment(0..10).of(20)).assert(200, None);
    let (work, away) = (server.file(".bitsd"), server.file("away"));
    fs::rename(&work, &away).unwrap();
    let mut new = Client::new(server.address(), "/new.bin");
    new.try_create().assert(503, None);
    server.wait_for_log("not ready: the work directory");
    running.send(fragment(10..20)).assert(200, None);
    running.close().assert(200, None);
    server.assert_file("running.bin", 1, 20);
    fs::rename(&away, &work).unwrap();
    server.wait_for_log("ready: the work directory is what it was");
    upload(&server, "/new.bin", 10);
}

#[test]
fn nothing_is_published_into_a_root_that_nobody_sees() {
    let (folder, root) = folder_and_root();
    let (other, work) = (folder.path().join("other"), folder.path().join("work"));
    fs::create_dir(&work).unwrap();
    let flags = ["--work-dir", work.to_str().unwrap()];
    let server = Server::on(&root, Settings::default().flags(&flags));
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    fs::rename(&root, &other).unwrap();
    fs::create_dir(&root).unwrap();
    // Every byte is kept, and the client comes back later.
    client.close().assert(503, None);
    Client::new(server.address(), "/b.bin")
        .try_create()
        .assert(503, None);
    server.wait_for_log("not ready: the root");
    fs::remove_dir(&root).unwrap();
    fs::rename(&other, &root).unwrap();
    server.wait_for_log("ready: the root is what it was");
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 10);
}

#[test]
fn a_disk_that_is_mounted_over_the_root_is_told() {
    let (_folder, root) = folder_and_root();
    let server = Server::on(&root, Settings::default());
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10)).assert(200, None);
    let Some(mount) = Tmpfs::on(&root, "size=64m") else {
        return;
    };
    client.close().assert(503, None);
    server.wait_for_log("not ready: the root");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    drop(mount);
    wait_until("it is what it was", || client.close().status == 200);
    server.assert_file("a.bin", 1, 10);
    assert_ne!(fs::metadata(&root).unwrap().ino(), 0);
}

/// Goal: a remedy that is followed helps. Method: the server ran as root once, and runs as a
/// service user from then on; what it says is done, until it starts. All of the folder is root's,
/// or one file in it: the lock, a journal, the part of an upload.
#[test]
fn what_a_start_says_of_files_of_another_user_helps() {
    let Some(settings) = as_nobody() else { return };
    let is_left = |name: &str, what: &str| what.is_empty() || name.ends_with(what);
    for what in ["", "lock", ".journal", ".part"] {
        let (_folder, root) = folder_and_root_of_nobody();
        let mut server = Server::on(&root, Settings::default());
        let mut client = Client::create(server.address(), "/before.bin");
        client.send(fragment(0..10).of(20)).assert(200, None);
        server.stop();
        let work = root.join(".bitsd");
        let give = |path: &Path| std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        give(&root);
        allow(&root, 0o755);
        if !what.is_empty() {
            give(&work);
        }
        for entry in fs::read_dir(&work).unwrap() {
            let path = entry.unwrap().path();
            if !is_left(path.to_str().unwrap(), what) {
                give(&path);
            }
        }
        let (status, said) = Server::refused(&root, &settings);
        assert_eq!(status.code(), Some(1), "{said}");
        let failed = said
            .lines()
            .find(|line| line.contains("event=start_failed"));
        let remedy = failed.and_then(|line| line.split('`').nth(1));
        let remedy = remedy.expect("it names a command");
        assert!(remedy.starts_with("chown -R "), "{said}");
        assert!(said.contains("belongs to user root (uid 0)"), "{said}");
        assert!(
            Command::new("sh")
                .args(["-c", remedy])
                .status()
                .unwrap()
                .success()
        );
        let server = Server::on(&root, settings.clone());
        upload(&server, "/a.bin", 20);
        client.reconnect_to(server.address());
        client.send(fragment(10..20)).assert(200, None);
        client.close().assert(200, None);
    }
}

/// Goal: what a person can mend is no end of an upload, and the destination is not blamed for the
/// work directory. Method: that, or a file in it, has an attribute that lets nothing be moved away
/// when a whole file is to get its name; then the attribute goes, and the client closes once more.
#[test]
fn a_work_directory_that_lets_nothing_out_is_told_of() {
    let mut server = Server::start();
    let work = server.file(".bitsd");
    for (flags, word) in [
        (IFlags::APPEND, "append-only"),
        (IFlags::IMMUTABLE, "immutable"),
    ] {
        for is_folder in [true, false] {
            let name = format!("/{}-{is_folder}.bin", flags.bits());
            let mut client = Client::create(server.address(), &name);
            client.send(fragment(0..20)).assert(200, None);
            let path = match is_folder {
                true => work.clone(),
                false => server.part(client.session()),
            };
            if !set_flags(&path, flags) {
                return;
            }
            let told = client.close();
            let mut other = Client::new(server.address(), "/other.bin");
            let refused = is_folder.then(|| {
                server.wait_for_log(&format!("why=\"it is {word} now"));
                other.try_create().status
            });
            set_flags(&path, IFlags::empty());
            told.assert(503, None);
            assert!(refused.is_none_or(|status| status == 503), "{refused:?}");
            wait_until("new uploads are taken again", || {
                other.reconnect().try_create().status == 200
            });
            client.reconnect();
            client.close().assert(200, None);
            server.assert_file(&name[1..], 1, 20);
        }
    }
    let log = server.log();
    assert!(log.contains(".part is append-only: `chattr -a "));
    // The line of what failed says what the line of the folder does.
    let of_create =
        |line: &&str| line.contains("event=disk_failed") && line.contains("is not what it was");
    let failed: Vec<_> = log.lines().filter(of_create).collect();
    let is_helped = |line: &&str| line.contains("remedy=\"take the attribute off (`lsattr -d`");
    assert!(!failed.is_empty() && failed.iter().all(is_helped), "{log}");
    assert!(!log.contains("the folder of the destination"), "{log}");
    server.stop();
    for (flags, word, chattr) in [
        (IFlags::APPEND, "append-only", "chattr -a"),
        (IFlags::IMMUTABLE, "immutable", "chattr -i"),
    ] {
        set_flags(&work, flags);
        let (status, said) = Server::refused(server.root(), &server.settings());
        set_flags(&work, IFlags::empty());
        assert_eq!(status.code(), Some(1), "{said}");
        let expected = format!(
            "{} is {word}: `{chattr} {}`",
            work.display(),
            work.display()
        );
        assert!(said.contains(&expected), "{said}");
    }
    server.restart();
    upload(&server, "/last.bin", 20);
}

/// Goal: a root that takes no name now is told of and ends no upload. Method: it is made immutable
/// between Create-Session and Close-Session, and then is what it was. An append-only one takes
/// names.
#[test]
fn an_immutable_root_is_not_ready_and_ends_no_upload() {
    let server = Server::start();
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..20)).assert(200, None);
    if !set_flags(server.root(), IFlags::IMMUTABLE) {
        return;
    }
    let told = client.close();
    let refused = Client::new(server.address(), "/b.bin").try_create().status;
    server.wait_for_log("event=not_ready");
    set_flags(server.root(), IFlags::empty());
    told.assert(503, None);
    assert_eq!(refused, 503);
    let log = server.log();
    assert!(log.contains("why=\"it is immutable now"), "{log}");
    assert!(log.contains("take the attribute off (`lsattr -d`"), "{log}");
    server.wait_for_log("event=ready");
    client.reconnect();
    client.close().assert(200, None);
    server.assert_file("a.bin", 1, 20);
    set_flags(server.root(), IFlags::APPEND);
    let mut other = Client::create(server.address(), "/b.bin");
    other.send(fragment(0..20)).assert(200, None);
    let told = other.close();
    set_flags(server.root(), IFlags::empty());
    told.assert(200, None);
}

// -- check

/// What `bitsd check` says of a root: exit code, stdout, stderr.
fn check(root: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bitsd"))
        .args([
            "check",
            "--no-config",
            "--cores",
            "1",
            "--listen",
            "127.0.0.1:0",
            "--root",
        ])
        .arg(root)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn check_finds_what_a_start_would_find() {
    let (folder, root) = folder_and_root();
    let (code, shown, said) = check(&root, &[]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "# ok: io_uring can be used",
        "# ok: 127.0.0.1:0 can be listened on",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(!root.join(".bitsd").exists(), "nothing is made");
    let missing = folder.path().join("missing");
    let (code, shown, said) = check(&missing, &[]);
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("# wrong: the root"), "{shown}");
    assert!(
        said.contains("does not exist") && said.contains("install -d"),
        "{said}"
    );
    let (code, shown, said) = check(&missing, &["--quiet"]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(said.contains("does not exist"), "{said}");
    // What stands there is tried, and left as it is.
    fs::create_dir(root.join(".bitsd")).unwrap();
    allow(&root.join(".bitsd"), 0o777);
    let (code, _, said) = check(&root, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("chmod -R go-w"), "{said}");
    allow(&root.join(".bitsd"), 0o700);
    let (code, shown, said) = check(&root, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        shown.contains("files can be made and published in"),
        "{shown}"
    );
    let names = fs::read_dir(&root).unwrap();
    assert_eq!(names.count(), 1, "only the work directory");
}

/// A root of another account, and beside it a program that it can reach. Each test has an account
/// of its own: its processes count towards the limits of another test's else.
fn of_nobody(account: u32) -> Option<(TempDir, PathBuf)> {
    let (folder, root) = folder_and_root();
    for path in [folder.path(), &root] {
        allow(path, 0o755);
    }
    if std::os::unix::fs::chown(&root, Some(account), None).is_err() {
        skip("files cannot be given away here (needs root)");
        return None;
    }
    fs::copy(env!("CARGO_BIN_EXE_bitsd"), folder.path().join("bitsd")).unwrap();
    Some((folder, root))
}

/// Where the limits of threads and of locked memory hold: not for root.
#[test]
fn check_and_start_find_the_same() {
    const ACCOUNT: u32 = 65533;
    let Some((folder, root)) = of_nobody(ACCOUNT) else {
        return;
    };
    let program = folder.path().join("bitsd");
    let read_only = folder.path().join("ours");
    fs::create_dir(&read_only).unwrap();
    for (limit, root, words) in [
        ("-u 3", &root, "ulimit -u"),
        ("-l 64", &root, "LimitMEMLOCK="),
        // The remedy is for the folder in which ours would be made.
        ("-l 65536", &read_only, "may not write to it"),
    ] {
        for command in ["check --quiet", "serve"] {
            let line = format!(
                "ulimit {limit}; exec setpriv --reuid {ACCOUNT} --regid {ACCOUNT} --clear-groups timeout 20 \
                 {} {command} --no-config --cores 2 --listen 127.0.0.1:0 --root {}",
                program.display(),
                root.display()
            );
            let output = Command::new("bash").args(["-c", &line]).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            assert!(said.contains(words), "{command}: {said}");
            assert!(!said.contains(".bitsd`"), "{command}: {said}");
        }
    }
}

/// The server starts all the same, so it is a warning, the same one in both.
#[test]
fn blocks_that_cannot_be_registered_are_a_warning_of_check_and_start() {
    const ACCOUNT: u32 = 65532;
    let Some((folder, root)) = of_nobody(ACCOUNT) else {
        return;
    };
    // For the rings, but not for 8 MiB of blocks for each of two.
    let limited = format!(
        "ulimit -l 8192; exec setpriv --reuid {ACCOUNT} --regid {ACCOUNT} --clear-groups {} \"$@\"",
        folder.path().join("bitsd").display()
    );
    let bitsd = |words: &[&str]| {
        let mut command = Command::new("bash");
        command.args(["-c", &limited, "bitsd"]).args(words);
        let settings = ["--no-config", "--cores", "2", "--listen", "127.0.0.1:0"];
        command.args(settings).arg("--root").arg(&root);
        command
    };
    let output = bitsd(&["check"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("# warning: body blocks cannot be registered"),
        "{shown}"
    );
    let mut server = bitsd(&["serve"]);
    let mut server = server.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let told = log.find(|line| {
        let line = line.as_ref().unwrap();
        line.contains("event=blocks_not_registered") || line.contains("event=started")
    });
    server.kill().unwrap();
    server.wait().unwrap();
    let told = told.unwrap().unwrap();
    assert!(told.contains("body blocks cannot be registered"), "{told}");
}

#[test]
fn settings_may_come_through_a_pipe_and_a_secret_that_all_can_read_is_told() {
    let (folder, root) = folder_and_root();
    let secret = folder.path().join("secret");
    fs::write(&secret, "0123456789abcdef").unwrap();
    allow(&secret, 0o644);
    let settings = format!(
        "root = {root:?}\nlisten = \"127.0.0.1:0\"\ncores = 1\nnotification_type = \"by-reference\"\n\
         notification_url = \"http://127.0.0.1:9/\"\nnotification_secret_file = {secret:?}\n"
    );
    let line = format!(
        "{} check --config <(printf '%s' '{settings}')",
        env!("CARGO_BIN_EXE_bitsd")
    );
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("# warning: every account"), "{shown}");
    assert!(shown.contains("chmod o= "), "{shown}");
}

#[test]
fn a_root_in_the_work_directory_of_another_server_is_refused() {
    let server = Server::start();
    let work = server.file(".bitsd");
    fs::create_dir(work.join("deep")).unwrap();
    for root in [work.clone(), work.join("deep")] {
        let (status, said) = Server::refused(&root, &Settings::default());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("of a server that runs"), "{said}");
    }
    upload(&server, "/a.bin", 10);
}

#[test]
fn check_beside_a_running_server_says_so() {
    let server = Server::start();
    let address = server.address().to_string();
    let (code, shown, said) = check(server.root(), &["--listen", &address]);
    assert_eq!(code, Some(0), "{said}");
    let process = format!("a server (process {}) is running", server.pid());
    assert!(shown.contains(&process), "{shown}");
    upload(&server, "/a.bin", 10);
}

/// What is wrong beside a server that runs is the change of the settings alone, and not what that
/// server has rightly; another server's address is a fault all the same.
#[test]
fn check_beside_a_running_server_knows_it_after_a_change_of_folders() {
    let (folder, _) = folder_and_root();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let other_work = format!("work_dir = \"{}\"\n", at("work"));
    fs::create_dir(at("work")).unwrap();
    allow(at("work").as_ref(), 0o700);
    fs::create_dir(at("elsewhere")).unwrap();
    let first_work = format!("work_dir = \"{}\"\n", at("first"));
    fs::create_dir(at("first")).unwrap();
    allow(at("first").as_ref(), 0o700);
    let misspelt = format!("[[location]]\nprefix = \"n\"\nroot = \"{}\"\n", at("nope"));
    let socket = format!("admin_socket = \"{}\"\n", at("socket"));
    for (before, after, expected) in [
        (String::new(), other_work.clone(), 0),
        (String::new(), misspelt.clone(), 1),
        (socket.clone(), socket.clone() + &other_work, 0),
        (socket.clone(), socket.clone() + &misspelt, 1),
        // Nothing but the socket tells it.
        (
            socket.clone() + &first_work,
            socket.clone() + &other_work,
            0,
        ),
    ] {
        let server = Server::with(Settings::default().file(&before));
        let file = folder.path().join("changed.toml");
        let root = server.root().display();
        let address = server.address();
        let text = format!("root = \"{root}\"\nlisten = \"{address}\"\ncores = 1\n{after}");
        fs::write(&file, text).unwrap();
        let check = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bitsd"));
            command.args(["check", "--config"]).arg(&file);
            let output = command.output().unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap(),
            )
        };
        let (code, shown) = check();
        assert_eq!(code, Some(expected), "{after}{shown}");
        let wrong = shown.lines().filter(|line| line.starts_with("# wrong:"));
        assert!(wrong.clone().all(|line| line.contains("nope")), "{shown}");
        assert_eq!(wrong.count(), usize::from(expected == 1), "{shown}");
        if before.is_empty() {
            let text = format!(
                "root = \"{}\"\nlisten = \"{address}\"\ncores = 1\n",
                at("elsewhere")
            );
            fs::write(&file, text).unwrap();
            let (code, shown) = check();
            assert_eq!(code, Some(1), "{shown}");
            assert!(
                shown.contains(&format!("# wrong: cannot listen on {address}")),
                "{shown}"
            );
        }
        upload(&server, "/a.bin", 10);
    }
}

// -- beside other folders of ours

/// Goal: the unfinished uploads of one server are nobody else's, also where the root of another one
/// lies above. Method: one with the default work directory and one with its own, and a server above
/// both; in a folder that is a work directory nothing is made, and nothing is read.
#[test]
fn what_lies_in_the_work_directory_of_a_server_beneath_is_out_of_reach() {
    let (folder, root) = folder_and_root();
    let (site, other, work) = (root.join("site"), root.join("other"), root.join("w"));
    for own in [&site, &other, &work] {
        fs::create_dir(own).unwrap();
        allow(own, 0o700);
    }
    let beneath = Server::on(&site, Settings::default());
    let named = Settings::default().file(&format!("work_dir = {work:?}"));
    let mut second = Server::on(&other, named);
    let mut client = Client::create(beneath.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    let above = folder.path().join("above");
    fs::create_dir(&above).unwrap();
    allow(&above, 0o700);
    let lines = format!(
        "work_dir = {above:?}\ncreate_dirs = true\nallow_overwrite = true\n\
                         download = \"get\""
    );
    let server = Server::on(&root, Settings::default().file(&lines));
    for is_running in [true, false] {
        let part = format!(
            "/site/.bitsd/{}.part",
            client.session().trim_matches(['{', '}'])
        );
        for path in ["/site/.bitsd/new", "/w/new", "/w/owner", &part] {
            let mut above = Client::new(server.address(), path);
            let answer = above.try_create();
            assert!(answer.status >= 400, "{path}: {answer:?}");
            let mut raw = server.connect();
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let status = raw.receive().status;
            assert!(status >= 400, "{path}: {status}");
        }
        // All else is an upload as any other.
        upload(&server, &format!("/site/b-{is_running}.bin"), 10);
        if is_running {
            second.stop();
        }
    }
}

/// Goal: nobody's unfinished upload is forgotten in silence. Method: a server gets a work directory
/// of its own while one is unfinished; the start and a check say where it is and what helps, and
/// that helps.
#[test]
fn a_work_directory_that_is_left_behind_with_uploads_is_told_of() {
    let (folder, root) = folder_and_root();
    let mut server = Server::on(&root, Settings::default());
    let mut client = Client::create(server.address(), "/a.bin");
    client.send(fragment(0..10).of(20)).assert(200, None);
    server.stop();
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    allow(&work, 0o700);
    let flags = ["--work-dir", work.to_str().unwrap()];
    let moved = Settings::default().flags(&flags);
    server.restart_with(moved.clone());
    server.wait_for_log("event=former_work_dir");
    server.stop();
    let (code, shown, said) = check(&root, &flags);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        shown.contains("# warning: unfinished uploads lie in"),
        "{shown}"
    );
    // As the line says.
    let flags = ["--work-dir", root.join(".bitsd").to_str().unwrap()].map(str::to_owned);
    let back = Settings {
        flags: flags.to_vec(),
        ..Settings::default()
    };
    server.restart_with(back);
    client.reconnect_to(server.address());
    client.send(fragment(10..20)).assert(200, None);
    client.close().assert(200, None);
    server.stop();
    server.restart_with(moved);
    upload(&server, "/b.bin", 10);
    assert!(
        !server.log().contains("former_work_dir"),
        "{}",
        server.log()
    );
}

/// Goal: a folder without unfinished uploads stands in nobody's way. Method: a server that had its
/// work directory in the root gets one on another disk, before anything was uploaded; then after
/// something was.
#[test]
fn a_former_work_directory_without_uploads_becomes_a_shelf_or_is_told_how() {
    let Some((folder, root, other, _mount)) = two_disks() else {
        return;
    };
    let work = folder.path().join("work");
    fs::create_dir(&work).unwrap();
    allow(&work, 0o700);
    let moved = Settings::default().flags(&["--work-dir", work.to_str().unwrap()]);
    drop(root);
    let mut server = Server::on(&other, Settings::default());
    server.stop();
    server.restart_with(moved.clone());
    upload(&server, "/a.bin", 10);
    server.stop();
    // One that was used.
    fs::remove_dir_all(other.join(".bitsd")).unwrap();
    server.restart_with(Settings::default());
    upload(&server, "/b.bin", 10);
    server.stop();
    let (status, said) = Server::refused(&other, &moved);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("no unfinished upload") && said.contains("mv "),
        "{said}"
    );
    let old = other.join(".bitsd.old");
    fs::rename(other.join(".bitsd"), old).unwrap();
    server.restart_with(moved);
    upload(&server, "/c.bin", 10);
}

// -- file systems that lack something

#[test]
fn a_file_system_that_only_replaces_is_used_where_that_is_meant() {
    let Some(settings) = with_calls(&[
        "trace=renameat2,linkat",
        "inject=renameat2:error=EINVAL",
        "inject=linkat:error=EPERM",
    ]) else {
        return;
    };
    let (_folder, root) = folder_and_root();
    let (status, said) = Server::refused(&root, &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("allow_overwrite = true"), "{said}");
    let server = Server::on(&root, settings.file("allow_overwrite = true"));
    upload(&server, "/a.bin", 10);
}

#[test]
fn a_file_system_without_locks_is_told_as_one() {
    let Some(settings) = with_calls(&["trace=flock", "inject=flock:error=ENOLCK"]) else {
        return;
    };
    let (_folder, root) = folder_and_root();
    let (status, said) = Server::refused(&root, &settings);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot be locked") && said.contains("lockd"),
        "{said}"
    );
}
