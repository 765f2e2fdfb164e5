//! The tree of destinations: what stands in the way is told before the first byte, links inside the root work, and
//! nothing is left of what failed. What needs root or a tool of the host is skipped, with a sentence, where that is
//! missing (never where CI=true).

#[path = "soak/mount.rs"]
mod mount;
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use mount::{Kind, Mount};
use support::client::{Client, E_ACCESSDENIED, E_INVALIDARG, fragment};
use support::server::{Server, Settings};
use support::skip;

fn run(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

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
    let mut client = Client::new(server.address(), path);
    client.try_create().assert(403, Some(E_ACCESSDENIED));
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
    for path in ["/x/dangling/a.bin", "/x/dangling/new/a.bin"] {
        assert_refused(
            &server,
            path,
            &["x/dangling", "leads to nothing", "remove the link"],
        );
    }
    assert_refused(&server, "/x/circle/a.bin", &["x/circle"]);
    for path in ["/x/out/a.bin", "/x/out/new/a.bin"] {
        assert_refused(
            &server,
            path,
            &["x/out", "leads out of the root", "relative link"],
        );
    }
    assert_refused(&server, "/x/above/a.bin", &["x/above"]);
    for path in ["/x/work/a.bin", "/x/work/new/a.bin"] {
        let mut client = Client::new(server.address(), path);
        client.try_create().assert(400, Some(E_INVALIDARG));
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_file_where_a_folder_is_needed_is_told_at_create() {
    let server = Server::with(making_folders());
    fs::write(server.file("x"), "").unwrap();
    let mut client = Client::new(server.address(), "/x/y/a.bin");
    client.try_create().assert(404, None);
}

// -- mounts

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
    assert!(run(&["umount", &path("plain")]) && is_covered);
    client.close().assert(200, None);
    server.assert_file("plain/a.bin", 1, 1000);
    assert!(run(&["umount", &path("bound")]) && is_bound);
    assert!(run(&["umount", &path("disk")]));
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
    assert!(run(&["umount", &path("a.bin")]));
    upload(&server, "/a.bin");
}

// -- attributes and rights

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
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    if !run(&[words.as_slice(), &["true"]].concat()) {
        return skip("the server cannot be run as another user (needs root and setpriv)");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for name in ["sticky", "closed"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    allow(folder.path(), 0o755);
    allow(&root, 0o777);
    allow(&root.join("sticky"), 0o1777);
    allow(&root.join("closed"), 0o755);
    fs::write(root.join("sticky/old"), "old").unwrap();
    let settings = making_folders()
        .file("allow_overwrite = true")
        .wrapper(&words);
    let server = Server::on(&root, settings);
    assert_refused(&server, "/sticky/old", &["is sticky", "chmod -t"]);
    upload(&server, "/sticky/new.bin");
    // Its own file may be replaced there.
    upload(&server, "/sticky/new.bin");
    // A folder that is to be made, where none can be made.
    assert_refused(&server, "/closed/new/a.bin", &["ermission denied"]);
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
    // Only the rename can fail now, after the folders were made.
    fs::remove_file(server.part(client.session())).unwrap();
    client.close().assert(404, None);
    assert!(!server.file("old/new").exists());
    assert!(server.file("old").exists(), "this one is not ours");
}
