//! The tree of destinations: what stands in the way is told before the first byte, links inside the
//! root work, and nothing is left of what failed. What needs root or a tool of the host is skipped,
//! with a sentence, where that is missing (never where CI=true).

#[path = "soak/mount.rs"]
mod mount;
mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mount::{Kind, Mount};
use rustix::fs::{CWD, IFlags, RenameFlags, XattrFlags, inotify};
use support::client::{Client, E_ACCESSDENIED, E_INVALIDARG, SESSION_NOT_FOUND, fragment};
use support::host::{allow, as_nobody, folder_and_root_of_nobody, make_pipe, run};
use support::mount::Disk;
use support::server::{Server, Settings};
use support::{PATIENCE, skip, wait_until};

/// Uploads a small file and closes it.
#[track_caller]
fn upload(server: &Server, path: &str) {
    let mut client = Client::create(server.address(), path);
    client.send(fragment(0..1000)).assert(200, None);
    client.close().assert(200, None);
    server.assert_file(path.trim_start_matches('/'), 1, 1000);
}

/// A Create-Session is refused for good, and the log says why in these words.
#[track_caller]
fn assert_refused(server: &Server, path: &str, words: &[&str]) {
    assert_answered(server, path, (403, Some(E_ACCESSDENIED)), words);
}

fn assert_answered(server: &Server, path: &str, answer: (u16, Option<&str>), words: &[&str]) {
    let mut client = Client::new(server.address(), path);
    client.try_create().assert(answer.0, answer.1);
    for words in words {
        server.wait_for_log(words);
    }
    assert_eq!(server.work_files(), [""; 0]);
}

fn making_folders() -> Settings {
    Settings::default().file("create_dirs = true")
}

// -- links

#[test]
fn links_that_stay_in_the_root_are_followed_at_create_and_at_close() {
    let server = Server::with(making_folders());
    fs::create_dir_all(server.file("x/deep")).unwrap();
    fs::create_dir_all(server.file("y/in")).unwrap();
    symlink("../y", server.file("x/up")).unwrap();
    symlink("../../x/up/in", server.file("x/deep/twice")).unwrap();
    // As `ln -s "$PWD/y" x/absolute` makes it.
    symlink(server.file("y"), server.file("x/absolute")).unwrap();
    symlink("../absolute/in", server.file("x/deep/then")).unwrap();
    upload(&server, "/x/absolute/b.bin");
    upload(&server, "/x/absolute/new/b.bin");
    upload(&server, "/x/deep/then/b.bin");
    upload(&server, "/x/deep/then/new/er/b.bin");
    for path in ["y/b.bin", "y/new/b.bin", "y/in/b.bin", "y/in/new/er/b.bin"] {
        server.assert_file(path, 1, 1000);
    }
    upload(&server, "/x/up/a.bin");
    upload(&server, "/x/up/new/er/a.bin");
    upload(&server, "/x/deep/twice/a.bin");
    upload(&server, "/x/deep/twice/new/a.bin");
    server.assert_file("y/a.bin", 1, 1000);
    server.assert_file("y/new/er/a.bin", 1, 1000);
    server.assert_file("y/in/a.bin", 1, 1000);
    server.assert_file("y/in/new/a.bin", 1, 1000);
}

#[test]
fn links_that_lead_nowhere_or_out_are_refused_at_create_and_named() {
    let outside = tempfile::tempdir().unwrap();
    let server = Server::with(making_folders());
    fs::create_dir(server.file("x")).unwrap();
    symlink("nowhere", server.file("x/dangling")).unwrap();
    symlink("circle", server.file("x/circle")).unwrap();
    symlink(outside.path(), server.file("x/out")).unwrap();
    symlink("../../..", server.file("x/above")).unwrap();
    symlink("../.bitsd", server.file("x/work")).unwrap();
    symlink(server.file(".bitsd"), server.file("x/work2")).unwrap();
    symlink(server.file("none"), server.file("x/dangling2")).unwrap();
    symlink(server.file("x/circle2"), server.file("x/circle2")).unwrap();
    symlink(server.file("../outside"), server.file("x/above2")).unwrap();
    for path in [
        "/x/dangling/a.bin",
        "/x/dangling/new/a.bin",
        "/x/dangling2/a.bin",
    ] {
        assert_refused(
            &server,
            path,
            &["x/dangling", "leads to nothing", "remove the link"],
        );
    }
    assert_refused(&server, "/x/circle/a.bin", &["x/circle"]);
    assert_refused(&server, "/x/circle2/a.bin", &["x/circle2"]);
    assert_refused(&server, "/x/above2/a.bin", &["leads out of the root"]);
    for path in ["/x/out/a.bin", "/x/out/new/a.bin"] {
        assert_refused(
            &server,
            path,
            &["x/out", "leads out of the root", "relative link"],
        );
    }
    assert_refused(&server, "/x/above/a.bin", &["x/above"]);
    for path in ["/x/work/a.bin", "/x/work/new/a.bin", "/x/work2/a.bin"] {
        let mut client = Client::new(server.address(), path);
        client.try_create().assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_file_where_a_folder_is_needed_is_told_at_create() {
    let server = Server::with(making_folders());
    fs::write(server.file("x"), "").unwrap();
    std::os::unix::fs::symlink("x", server.file("link")).unwrap();
    let said = ["a file stands where a folder", "move the file away"];
    for path in ["/x/a.bin", "/x/y/a.bin", "/link/y/a.bin"] {
        // As where there is no folder at all.
        assert_answered(&server, path, (404, None), &said);
    }
}

#[test]
fn nothing_gets_out_whatever_is_swapped_meanwhile() {
    // Somebody who may write to the root swaps a folder for links, over and over, while uploads go
    // into it.
    const SWAPS: usize = 2_000;
    const ENOUGH: usize = 10;
    let outside = tempfile::tempdir().unwrap();
    let server = Server::with(making_folders());
    let folder = server.file("in");
    fs::create_dir_all(folder.join("deep")).unwrap();
    fs::create_dir(outside.path().join("deep")).unwrap();
    let work = server.file(".bitsd");
    let targets = [outside.path(), Path::new(".bitsd"), Path::new(".."), &work];
    let links = [0, 1, 2, 3].map(|number| server.file(&format!("link-{number}")));
    for (target, link) in targets.iter().zip(&links) {
        symlink(target, link).unwrap();
    }
    let swap = |link: &Path| {
        let swapped = rustix::fs::renameat_with(CWD, link, CWD, &folder, RenameFlags::EXCHANGE);
        swapped.unwrap();
    };
    // On a busy host all swaps may be over before an upload has begun.
    let has_met = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let swaps = scope.spawn(|| {
            for (number, link) in links.iter().cycle().enumerate() {
                swap(link);
                swap(link);
                if number >= SWAPS && has_met.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut published = 0;
        let deadline = Instant::now() + PATIENCE;
        for number in 0.. {
            if swaps.is_finished() {
                break;
            }
            let path = match number % 2 {
                0 => format!("/in/deep/{number}"),
                _ => format!("/in/deep/{number}/file"),
            };
            let mut client = Client::new(server.address(), &path);
            if client.try_create().status == 200 {
                client.send(fragment(0..10)).assert(200, None);
                published += usize::from(client.close().status == 200);
                client.cancel();
            }
            if published >= ENOUGH || Instant::now() >= deadline {
                has_met.store(true, Ordering::Relaxed);
            }
        }
        published
    });
    assert!(published > 0, "the folder stands most of the time");
    let count = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!(count(&outside.path().join("deep")), 0);
    assert_eq!(count(outside.path()), 1);
    assert_eq!(count(&server.file("in/deep")), published);
    assert!(!server.file(".bitsd/deep").exists());
    assert!(!server.root().with_file_name("deep").exists());
}

// -- mounts

/// What a server has looked at is closed a moment later.
#[track_caller]
fn unmount(point: &str) {
    wait_until("it is unmounted", || run(&["umount", point]));
}

#[test]
fn a_folder_on_another_mount_is_refused_at_create_and_named() {
    let server = Server::with(making_folders());
    for name in ["disk", "bound", "plain"] {
        fs::create_dir(server.file(name)).unwrap();
    }
    let path = |name: &str| server.file(name).to_str().unwrap().to_owned();
    // Of another file system, and of the very same one: neither takes a rename.
    if !run(&["mount", "-t", "tmpfs", "tmpfs", &path("disk")]) {
        return skip("a file system cannot be mounted (needs root)");
    }
    let is_bound = run(&["mount", "--bind", &path("plain"), &path("bound")]);
    symlink("disk", server.file("link")).unwrap();
    for name in ["disk", "link", "bound"] {
        for beneath in ["a.bin", "new/a.bin"] {
            let words = [name, "is on another mount", "[[location]]"];
            assert_refused(&server, &format!("/{name}/{beneath}"), &words);
        }
    }
    // What is mounted between Create and Close keeps the bytes, until it is gone again.
    let mut client = Client::create(server.address(), "/plain/a.bin");
    client.send(fragment(0..1000)).assert(200, None);
    let is_covered = run(&["mount", "-t", "tmpfs", "tmpfs", &path("plain")]);
    client.close().assert(403, Some(E_ACCESSDENIED));
    server.wait_for_log("the disk refused to publish a file");
    assert_eq!(server.part_bytes(client.session()), 1000);
    assert!(is_covered);
    unmount(&path("plain"));
    client.close().assert(200, None);
    server.assert_file("plain/a.bin", 1, 1000);
    assert!(is_bound);
    unmount(&path("bound"));
    unmount(&path("disk"));
}

#[test]
fn a_file_that_is_a_mount_is_not_replaced_and_told_so() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    for name in ["a.bin", "b.bin"] {
        fs::write(server.file(name), "old").unwrap();
    }
    let path = |name: &str| server.file(name).to_str().unwrap().to_owned();
    if !run(&["mount", "--bind", &path("b.bin"), &path("a.bin")]) {
        return skip("a file cannot be mounted (needs root)");
    }
    assert_refused(&server, "/a.bin", &["something is mounted on"]);
    unmount(&path("a.bin"));
    upload(&server, "/a.bin");
}

// -- what a folder asks of its files

/// Adds a key of this byte to an ext4, and gives its identifier; `None` where that is not possible.
fn add_key(disk: &Path, byte: u8) -> Option<String> {
    let mut command = Command::new("xfs_io");
    command.args(["-c", "add_enckey"]).arg(disk);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut adding = command.spawn().ok()?;
    adding.stdin.take()?.write_all(&[byte; 64]).ok()?;
    let said = String::from_utf8(adding.wait_with_output().ok()?.stdout).ok()?;
    said.trim()
        .rsplit_once("identifier ")
        .map(|it| it.1.to_owned())
}

fn encrypt(folder: &Path, key: &str) -> bool {
    fs::create_dir(folder).unwrap();
    let order = format!("set_encpolicy -v 2 {key}");
    run(&["xfs_io", "-c", &order, folder.to_str().unwrap()])
}

/// A file cannot be moved into an encrypted folder: only made there, or beneath it.
#[test]
fn a_folder_that_is_encrypted_otherwise_is_refused_at_create_and_named() {
    let place = tempfile::tempdir().unwrap();
    let mount = |features| {
        let mkfs = ["mkfs.ext4", "-q", "-F", "-O", features];
        Disk::mount(place.path(), &mkfs, 64 << 20, "rw")
    };
    // A kernel without quotas mounts no ext4 that has projects.
    let with_projects = mount("encrypt,project");
    let has_projects = with_projects.is_some();
    let Some(disk) = with_projects.or_else(|| mount("encrypt")) else {
        return skip("a file system cannot be mounted (needs root)");
    };
    let keys = [1, 2].map(|byte| add_key(disk.path(), byte));
    let [Some(one), Some(two)] = keys else {
        return skip("folders cannot be encrypted (needs xfs_io, and fscrypt in the kernel)");
    };
    let root = disk.path().join("root");
    fs::create_dir(&root).unwrap();
    assert!(encrypt(&root.join("a"), &one) && encrypt(&root.join("b"), &one));
    // Where the project of a root can be given, something else may keep files out of it.
    let counted = root.join("b");
    let counts = ["chattr", "-p", "42", "+P", counted.to_str().unwrap()];
    assert!(!has_projects || run(&counts), "ext4 has projects");
    fs::create_dir(root.join("a/deep")).unwrap();
    let settings = || making_folders().file("[[location]]\nprefix = \"/b\"");
    let settings = settings().file(&format!("root = {:?}", root.join("b")));
    let server = Server::on(&root, settings);
    for (path, folder) in [
        ("/a/a.bin", "a"),
        ("/a/new/er/a.bin", "a"),
        ("/a/deep/a.bin", "a/deep"),
    ] {
        let named = format!("is encrypted otherwise than the work directory: {folder:?}");
        let named = named.replace('"', "\\\"");
        assert_refused(&server, path, &[&named, "[[location]] whose `root` it is"]);
    }
    upload(&server, "/a.bin");
    // Its own location has its unfinished uploads in it.
    upload(&server, "/b/b.bin");
    upload(&server, "/b/new/er/b.bin");
    drop(server);
    // A root that is encrypted as a whole, and a folder of another root by the same key.
    assert!(encrypt(&disk.path().join("whole"), &two));
    let server = Server::on(&disk.path().join("whole"), making_folders());
    upload(&server, "/a.bin");
    upload(&server, "/new/a.bin");
}

/// Outside of the first user namespace nobody may change for what project a file is counted.
#[test]
fn a_folder_with_a_project_that_cannot_be_given_is_refused_at_create_and_named() {
    const IN_A_NAMESPACE: [&str; 3] = ["unshare", "-U", "--map-root-user"];
    if !run(&[IN_A_NAMESPACE.as_slice(), &["true"]].concat()) {
        return skip("there can be no user namespace (needs root and unshare)");
    }
    let disk = match Mount::new(Kind::Xfs, 400) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let root = disk.root();
    for name in ["counted", "alone", "plain"] {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        if name != "plain" {
            let folder = folder.to_str().unwrap();
            assert!(
                run(&["chattr", "-p", "42", "+P", folder]),
                "XFS has projects"
            );
        }
    }
    let settings = making_folders().wrapper(&IN_A_NAMESPACE);
    let settings = settings.file("[[location]]\nprefix = \"/alone\"");
    let settings = settings.file(&format!("root = {:?}", root.join("alone")));
    let server = Server::on(&root, settings);
    for path in ["/counted/a.bin", "/counted/new/a.bin"] {
        let words = [
            "counts its files for a project",
            "[[location]] whose `root` it is",
        ];
        assert_refused(&server, path, &words);
    }
    for path in ["/plain/a.bin", "/plain/new/a.bin", "/alone/a.bin"] {
        upload(&server, path);
    }
}

// -- attributes and rights

/// Whoever made a pipe there, or bound a socket, would wait on it for ever.
#[test]
fn what_is_no_file_is_never_replaced() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    make_pipe(&server.file("pipe"));
    let _socket = UnixListener::bind(server.file("socket")).unwrap();
    let words = ["a pipe, a socket or a device", "remove it, or upload"];
    for path in ["/pipe", "/socket"] {
        assert_refused(&server, path, &words);
    }
    let mut client = Client::create(server.address(), "/late");
    client.send(fragment(0..1000)).assert(200, None);
    make_pipe(&server.file("late"));
    client.close().assert(403, Some(E_ACCESSDENIED));
    assert!(fs::symlink_metadata(server.file("late")).unwrap().len() == 0);
    fs::remove_file(server.file("late")).unwrap();
    client.close().assert(200, None);
    server.assert_file("late", 1, 1000);
}

#[test]
fn what_may_not_be_replaced_is_refused_at_create_and_named() {
    let disk = match Mount::new(Kind::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let root = disk.root();
    for name in ["append", "immutable", "open"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    let files = ["append/old", "open/append", "open/immutable"];
    for name in files {
        fs::write(root.join(name), "old").unwrap();
    }
    let change = |attribute: &str, name: &str| {
        run(&["chattr", attribute, root.join(name).to_str().unwrap()])
    };
    let is_changed = change("+a", "append")
        && change("+i", "immutable")
        && change("+a", "open/append")
        && change("+i", "open/immutable");
    if !is_changed {
        return skip("attributes cannot be set (needs root and chattr)");
    }
    let settings = making_folders().file("allow_overwrite = true");
    let server = Server::on(&root, settings);
    assert_refused(&server, "/append/old", &["is append-only", "chattr -a"]);
    assert_refused(&server, "/open/append", &["open/append", "chattr -a"]);
    assert_refused(&server, "/open/immutable", &["open/immutable", "chattr -i"]);
    for path in ["/immutable/a.bin", "/immutable/new/a.bin"] {
        assert_refused(&server, path, &["is immutable"]);
    }
    // A new name in an append-only folder is none of the kernel's objections.
    upload(&server, "/append/new.bin");
    assert!(change("-a", "append") && change("-i", "immutable"));
    assert!(change("-a", "open/append") && change("-i", "open/immutable"));
    for path in [
        "/append/old",
        "/open/append",
        "/open/immutable",
        "/immutable/new/a.bin",
    ] {
        upload(&server, path);
    }
}

#[test]
fn somebody_elses_file_in_a_sticky_folder_is_refused_at_create_and_named() {
    let Some(settings) = as_nobody() else { return };
    let (_folder, root) = folder_and_root_of_nobody();
    for name in ["sticky", "closed"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    allow(&root.join("sticky"), 0o1777);
    allow(&root.join("closed"), 0o755);
    fs::write(root.join("sticky/old"), "old").unwrap();
    let settings = settings.file("create_dirs = true\nallow_overwrite = true");
    let server = Server::on(&root, settings);
    assert_refused(&server, "/sticky/old", &["is sticky", "chmod -t"]);
    upload(&server, "/sticky/new.bin");
    // Its own file may be replaced there.
    upload(&server, "/sticky/new.bin");
    // A folder that is to be made, where none can be made.
    assert_refused(&server, "/closed/new/a.bin", &["ermission denied"]);
}

/// A file that the kernel swaps to for as long as this lives.
struct Swap(String);

impl Drop for Swap {
    fn drop(&mut self) {
        run(&["swapoff", &self.0]);
    }
}

#[test]
fn a_swap_file_in_use_is_refused_at_create_and_named() {
    let disk = match Mount::new(Kind::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    let server = Server::on(
        &disk.root(),
        Settings::default().file("allow_overwrite = true"),
    );
    let path = server.file("a swap.bin");
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    allow(&path, 0o600);
    let swap = Swap(path.to_str().unwrap().to_owned());
    if !run(&["mkswap", "-q", &swap.0]) || !run(&["swapon", &swap.0]) {
        return skip("nothing can be swapped to here (needs root, mkswap and swapon)");
    }
    let replace = |path: &str| {
        let mut client = Client::create(server.address(), path);
        client.send(fragment(0..1000)).assert(200, None);
        client.close().assert(200, None);
    };
    // One of that name that is none, and one of its size.
    fs::create_dir(server.file("in")).unwrap();
    for name in ["in/a swap.bin", "other.bin"] {
        fs::write(server.file(name), vec![0; 1 << 20]).unwrap();
        replace(&format!("/{}", name.replace(' ', "%20")));
    }
    assert_refused(
        &server,
        "/a%20swap.bin",
        &["swap file in use", "`swapoff` it"],
    );
    drop(swap);
    replace("/a%20swap.bin");
}

/// Root of a user namespace is no root over the accounts that have no number there: the file would
/// have been taken, and never got its name.
#[test]
fn a_file_of_who_is_not_in_the_namespace_is_refused_at_create_and_named() {
    const IN_A_NAMESPACE: [&str; 3] = ["unshare", "-U", "--map-root-user"];
    if !run(&[IN_A_NAMESPACE.as_slice(), &["true"]].concat()) {
        return skip("there can be no user namespace (needs root and unshare)");
    }
    let settings = Settings::default().file("allow_overwrite = true");
    let mut server = Server::with(settings.clone());
    let folder = server.file("sticky");
    fs::create_dir(&folder).unwrap();
    allow(&folder, 0o1777);
    let give = |name: &str, user, group| {
        fs::write(folder.join(name), "old").unwrap();
        chown(folder.join(name), Some(user), Some(group)).unwrap();
    };
    if let Err(error) = chown(&folder, Some(1000), Some(1000)) {
        return skip(&format!("no file can be given away here ({error})"));
    }
    give("theirs", 1000, 0);
    give("of-a-group", 1000, 1000);
    // In the first namespace it is root's as all others.
    upload(&server, "/sticky/theirs");
    give("theirs", 1000, 0);
    give("ours", 0, 1000);
    server.restart_with(settings.wrapper(&IN_A_NAMESPACE));
    for path in ["/sticky/theirs", "/sticky/of-a-group"] {
        assert_refused(&server, path, &["is sticky", "have a number there"]);
    }
    upload(&server, "/sticky/ours");
    upload(&server, "/sticky/new.bin");
}

// -- work has a price

#[test]
fn a_path_with_too_many_folders_is_refused() {
    let server = Server::with(making_folders().file("[limits]\npath_depth_max = 3"));
    upload(&server, "/a/b/c/file");
    let mut client = Client::new(server.address(), "/a/b/c/d/file");
    client.try_create().assert(400, Some(E_INVALIDARG));
    server.wait_for_log("limits.path_depth_max");
}

#[test]
fn a_path_with_many_folders_costs_little_at_create() {
    let server = Server::with(making_folders().file("[limits]\npath_depth_max = 1100"));
    let folders = "/a".repeat(500);
    fs::create_dir_all(server.file(folders.trim_start_matches('/'))).unwrap();
    let path = format!("{folders}{}/file", "/b".repeat(590));
    let mut client = Client::new(server.address(), &path);
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let began = Instant::now();
        client.try_create().assert(200, None);
        fastest = fastest.min(began.elapsed());
        client.cancel().assert(200, None);
    }
    // A look at every prefix and back up took 18 ms; one walk takes a tenth of that.
    assert!(fastest < Duration::from_millis(9), "{fastest:?}");
    assert!(!server.file("a/b").exists(), "no folder before the file");
}

// -- nothing is left

#[test]
fn folders_made_for_a_publication_that_failed_are_removed() {
    let server = Server::with(making_folders());
    fs::create_dir(server.file("old")).unwrap();
    let mut client = Client::create(server.address(), "/old/new/er/a.bin");
    client.send(fragment(0..1000)).assert(200, None);
    assert!(
        !server.file("old/new").exists(),
        "no folder before the file"
    );
    // Only the rename can fail now, after the folders were made. The bytes are lost with their
    // file.
    fs::remove_file(server.part(client.session())).unwrap();
    client.close().assert(500, Some(SESSION_NOT_FOUND));
    assert!(!server.file("old/new").exists());
    assert!(server.file("old").exists(), "this one is not ours");
}

// -- as if made in its folder

/// `ACL_USER_OBJ` and so on, with rights and whose they are, as the kernel has them (acl(5)).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, whose) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(whose.to_le_bytes());
    }
    acl
}

const NOBODY_IN_PARTICULAR: u32 = u32::MAX;

fn team_acl() -> Vec<u8> {
    acl(&[
        (0x01, 7, NOBODY_IN_PARTICULAR),
        (0x02, 7, 65534),
        (0x04, 5, NOBODY_IN_PARTICULAR),
        (0x08, 6, 33),
        (0x10, 7, NOBODY_IN_PARTICULAR),
        (0x20, 0, NOBODY_IN_PARTICULAR),
    ])
}

/// All that a file or a folder has from the folder that it was made in.
#[derive(Debug, PartialEq)]
struct Looks {
    group: u32,
    mode: u32,
    acls: Vec<Option<Vec<u8>>>,
    attributes: Option<IFlags>,
    compression: Option<Vec<u8>>,
    project: String,
}

fn looks(path: &Path) -> Looks {
    let stat = fs::symlink_metadata(path).unwrap();
    let value_of = |name| {
        let mut bytes = vec![0; 4096];
        let read = rustix::fs::getxattr(path, name, &mut bytes).ok()?;
        bytes.truncate(read);
        Some(bytes)
    };
    let listed = Command::new("lsattr").arg("-pd").arg(path).output();
    let listed = listed.map(|output| String::from_utf8(output.stdout).unwrap());
    Looks {
        group: stat.gid(),
        mode: stat.mode(),
        acls: ["system.posix_acl_access", "system.posix_acl_default"]
            .map(value_of)
            .to_vec(),
        compression: value_of("btrfs.compression"),
        // Where the blocks of a file lie is not inherited (ext4 has a flag for that).
        attributes: rustix::fs::ioctl_getflags(fs::File::open(path).unwrap())
            .ok()
            .map(|flags| flags & !IFlags::from_bits_retain(0x8_0000)),
        project: listed
            .ok()
            .and_then(|line| line.split_whitespace().next().map(str::to_owned))
            .unwrap_or_default(),
    }
}

/// Uploads into a folder and into one that is made in it, and compares with what the kernel gives
/// to a file and a folder that are made there.
#[track_caller]
fn assert_as_if_made_there(server: &Server, folder: &str) {
    upload(server, &format!("/{folder}/a.bin"));
    upload(server, &format!("/{folder}/made/a.bin"));
    let path = server.file(folder);
    fs::write(path.join("here"), "").unwrap();
    fs::create_dir(path.join("here.d")).unwrap();
    fs::write(path.join("here.d/here"), "").unwrap();
    for (uploaded, made) in [
        ("a.bin", "here"),
        ("made", "here.d"),
        ("made/a.bin", "here.d/here"),
    ] {
        let (uploaded, made) = (path.join(uploaded), path.join(made));
        assert_eq!(
            looks(&uploaded),
            looks(&made),
            "{} and {}",
            uploaded.display(),
            made.display()
        );
    }
}

fn set_default_acl(folder: &Path, acl: &[u8]) -> bool {
    rustix::fs::setxattr(folder, "system.posix_acl_default", acl, XattrFlags::empty()).is_ok()
}

#[test]
fn a_file_arrives_as_if_made_in_its_folder() {
    if !rustix::process::geteuid().is_root() {
        return skip("groups cannot be given to others (needs root)");
    }
    for kind in [Kind::Tmpfs, Kind::Ext4, Kind::Xfs] {
        let disk = match Mount::new(kind, if kind == Kind::Xfs { 400 } else { 64 }) {
            Ok(disk) => disk,
            Err(why) => {
                skip(&format!("{kind:?}: {why}"));
                continue;
            }
        };
        // In a root that gives its own folders something, and so the server's, and in one that does
        // not.
        for gives in [false, true] {
            let root = disk.root().join(format!("gives-{gives}"));
            fs::create_dir(&root).unwrap();
            let folder = |name: &str| {
                let path = root.join(name);
                fs::create_dir(&path).unwrap();
                path
            };
            folder("plain");
            let group = folder("group");
            std::os::unix::fs::chown(&group, None, Some(33)).unwrap();
            allow(&group, 0o2775);
            let listed = folder("listed");
            // Not every kernel has ACLs for every file system.
            let _ = set_default_acl(&listed, &team_acl());
            let both = folder("both");
            std::os::unix::fs::chown(&both, None, Some(34)).unwrap();
            allow(&both, 0o2770);
            let few = acl(&[
                (0x01, 6, NOBODY_IN_PARTICULAR),
                (0x04, 4, NOBODY_IN_PARTICULAR),
                (0x20, 0, NOBODY_IN_PARTICULAR),
            ]);
            let _ = set_default_acl(&both, &few);
            let marked = folder("marked");
            // XFS does not know all of them.
            for attribute in ["+A", "+d", "+s", "+u", "+x"] {
                let _ = run(&["chattr", attribute, marked.to_str().unwrap()]);
            }
            let counted = folder("counted");
            let is_counted = run(&["chattr", "-p", "42", "+P", counted.to_str().unwrap()]);
            assert!(is_counted || kind != Kind::Xfs, "XFS has projects");
            if gives {
                std::os::unix::fs::chown(&root, None, Some(35)).unwrap();
                allow(&root, 0o2775);
                let _ = set_default_acl(&root, &team_acl());
            }
            let server = Server::on(&root, making_folders());
            for name in ["plain", "group", "listed", "both", "marked", "counted"] {
                assert_as_if_made_there(&server, name);
            }
            upload(&server, "/in-the-root.bin");
            fs::write(root.join("here"), "").unwrap();
            assert_eq!(
                looks(&root.join("in-the-root.bin")),
                looks(&root.join("here"))
            );
        }
    }
}

/// The flag of btrfs says that a file is compressed; by what, a property does.
#[test]
fn a_file_on_btrfs_is_compressed_as_those_of_its_folder() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(place.path(), &["mkfs.btrfs", "-q"], 256 << 20, "rw") else {
        return skip("btrfs cannot be mounted (needs root and btrfs-progs)");
    };
    for gives in [false, true] {
        let root = disk.path().join(format!("gives-{gives}"));
        let names = ["plain", "zlib", "lzo", "zstd", "none"];
        fs::create_dir(&root).unwrap();
        let compress = |folder: &Path, by: &str| {
            let (name, value) = ("btrfs.compression", by.as_bytes());
            rustix::fs::setxattr(folder, name, value, XattrFlags::empty()).unwrap();
        };
        for name in names {
            fs::create_dir(root.join(name)).unwrap();
            if name != "plain" {
                compress(&root.join(name), name);
            }
        }
        if gives {
            compress(&root, "lzo");
        }
        let server = Server::on(&root, making_folders());
        for name in names {
            assert_as_if_made_there(&server, name);
        }
        assert!(!server.log().contains("not_given"), "{}", server.log());
        // No file that has bytes can be kept from copies on write: that is told.
        fs::create_dir(root.join("in-place")).unwrap();
        if gives || !run(&["chattr", "+C", root.join("in-place").to_str().unwrap()]) {
            // What is compressed is copied.
            continue;
        }
        upload(&server, "/in-place/a.bin");
        server.wait_for_log("did not get the attribute that");
    }
}

/// Without SELinux a label is an attribute like others, that root may set: what is read and given
/// is the same.
#[test]
fn a_file_gets_the_selinux_type_of_its_folder() {
    const LABEL: &str = "security.selinux";
    let server = Server::start();
    let set = |path: &Path, label: &[u8]| {
        rustix::fs::setxattr(path, LABEL, label, XattrFlags::empty()).is_ok()
    };
    let (work, typed) = (server.file(".bitsd"), server.file("typed"));
    fs::create_dir(&typed).unwrap();
    if !set(&work, b"system_u:object_r:var_t:s0\0")
        || !set(&typed, b"system_u:object_r:public_content_t:s0\0")
    {
        return skip("labels cannot be set (needs root, and SELinux off)");
    }
    upload(&server, "/typed/a.bin");
    upload(&server, "/b.bin");
    let get = |path: &str| {
        let mut label = vec![0; 100];
        let read = rustix::fs::getxattr(server.file(path), LABEL, &mut label);
        read.map(|bytes| String::from_utf8(label[..bytes].to_vec()).unwrap())
    };
    let given = get("typed/a.bin").unwrap();
    assert!(given.contains(":public_content_t:"), "{given}");
    assert!(get("b.bin").is_err(), "its folder has no label");
}

#[test]
fn modes_of_files_and_folders_are_those_of_their_location() {
    let settings = making_folders()
        .file("file_mode = \"0640\"\ndir_mode = \"0750\"\n[[location]]\nprefix = \"/open\"")
        .file("file_mode = \"0666\"\ndir_mode = \"0777\"\n[[location]]\nprefix = \"/usual\"")
        .file("file_mode = \"\"\ndir_mode = \"\"")
        .wrapper(&["sh", "-c", "umask 027; exec \"$@\"", "sh"]);
    let server = Server::with(settings);
    let mode = |path: &str| fs::metadata(server.file(path)).unwrap().mode() & 0o7777;
    for (folder, of_folder, of_file) in [
        ("strict", 0o750, 0o640),
        ("open", 0o777, 0o666),
        ("usual", 0o750, 0o640),
    ] {
        upload(&server, &format!("/{folder}/new/a.bin"));
        assert_eq!(mode(&format!("{folder}/new")), of_folder, "{folder}");
        assert_eq!(mode(&format!("{folder}/new/a.bin")), of_file, "{folder}");
    }
    // An ACL grants no more than the mode; the bit of the folder stays with the folders in it.
    let listed = server.file("open/listed");
    fs::create_dir(&listed).unwrap();
    allow(&listed, 0o2775);
    upload(&server, "/open/listed/new/a.bin");
    assert_eq!(mode("open/listed/new"), 0o2777);
    if set_default_acl(&listed, &team_acl()) {
        upload(&server, "/open/listed/b.bin");
        assert_eq!(
            mode("open/listed/b.bin"),
            0o660,
            "others have nothing in the ACL"
        );
    }
}

/// Goal: what a client sent is no program, whatever somebody did to all files of the share while it
/// came (`chmod -R 755`).
#[test]
fn no_upload_becomes_a_program() {
    let settings = Settings::default()
        .file("[[location]]\nprefix = \"/told\"\nfile_mode = \"0640\"")
        .wrapper(&["sh", "-c", "umask 027; exec \"$@\"", "sh"]);
    let server = Server::with(settings);
    let listed = server.file("listed");
    fs::create_dir(&listed).unwrap();
    fs::create_dir(server.file("told")).unwrap();
    let _has_acl = set_default_acl(&listed, &team_acl());
    for (path, mode) in [
        ("plain.bin", 0o755),
        ("set.bin", 0o4755),
        ("told/plain.bin", 0o755),
        ("listed/plain.bin", 0o755),
        ("listed/set.bin", 0o6755),
    ] {
        let mut client = Client::create(server.address(), &format!("/{path}"));
        client.send(fragment(0..1_000).of(2_000)).assert(200, None);
        allow(&server.part(client.session()), mode);
        client
            .send(fragment(1_000..2_000).of(2_000))
            .assert(200, None);
        client.close().assert(200, None);
        let found = fs::metadata(server.file(path)).unwrap().mode() & 0o7777;
        assert_eq!(found & 0o7111, 0, "{path}: {found:o}");
        assert!(
            path.contains("listed") || found == 0o640,
            "{path}: {found:o}"
        );
    }
}

#[test]
fn a_replaced_file_leaves_nothing_to_the_new_one() {
    let server = Server::with(Settings::default().file("allow_overwrite = true"));
    for name in ["a.bin", "here"] {
        fs::write(server.file(name), "old").unwrap();
    }
    allow(&server.file("a.bin"), 0o400);
    fs::hard_link(server.file("a.bin"), server.file("other")).unwrap();
    upload(&server, "/a.bin");
    assert_eq!(looks(&server.file("a.bin")), looks(&server.file("here")));
    assert_eq!(fs::read(server.file("other")).unwrap(), b"old");
}

#[test]
fn a_group_that_the_server_may_not_give_is_told_and_the_file_arrives() {
    let Some(settings) = as_nobody() else { return };
    let (_folder, root) = folder_and_root_of_nobody();
    fs::create_dir_all(root.join("team")).unwrap();
    std::os::unix::fs::chown(root.join("team"), None, Some(33)).unwrap();
    allow(&root.join("team"), 0o2777);
    let server = Server::on(&root, settings);
    upload(&server, "/team/a.bin");
    server.wait_for_log("SupplementaryGroups=");
    server.wait_for_log("team/a.bin");
}

// -- watchers

#[test]
fn a_watcher_sees_a_finished_file_move_in_and_nothing_before() {
    let server = Server::with(making_folders().file("allow_overwrite = true"));
    let folder = server.file("in");
    fs::create_dir(&folder).unwrap();
    if rustix::process::geteuid().is_root() {
        // Also where it is given something on its way.
        std::os::unix::fs::chown(&folder, None, Some(33)).unwrap();
        allow(&folder, 0o2775);
    }
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let watcher = inotify::init(flags).unwrap();
    inotify::add_watch(&watcher, &folder, inotify::WatchFlags::ALL_EVENTS).unwrap();
    let seen = || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&watcher, &mut buffer);
        let mut seen = Vec::new();
        // What happened before the Ack is in the queue.
        while let Ok(event) = reader.next() {
            let name = event
                .file_name()
                .map(|name| name.to_str().unwrap().to_owned());
            let events = event.events();
            // A file that was given something is synced once more, with its name.
            if let Some(name) = name.filter(|_| events != inotify::ReadFlags::CLOSE_NOWRITE) {
                seen.push((events, name));
            }
        }
        seen
    };
    let moved = inotify::ReadFlags::MOVED_TO;
    let upload_only = |path: &str| {
        let mut client = Client::create(server.address(), path);
        client.send(fragment(0..1000)).assert(200, None);
        client.close().assert(200, None);
    };
    for _ in ["new", "replaced"] {
        upload_only("/in/a.bin");
        assert_eq!(seen(), [(moved, "a.bin".to_owned())]);
    }
    upload_only("/in/new/a.bin");
    let made = inotify::ReadFlags::CREATE | inotify::ReadFlags::ISDIR;
    assert_eq!(seen().first(), Some(&(made, "new".to_owned())));
}
