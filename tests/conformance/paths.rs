//! Where a request target leads.

use crate::support::client::{Client, E_INVALIDARG, fragment};
use crate::support::content::content;
use crate::support::server::Server;
use crate::{ask, assert_usable, head_to, server_with};

/// Uploads ten bytes to a target.
#[track_caller]
fn upload(server: &Server, target: &str) {
    let mut client = Client::create(server.address(), target);
    assert_eq!(client.send(fragment(0..10)).received(), 10, "{target}");
    client.close().assert(200, None);
}

#[track_caller]
fn assert_uploaded(server: &Server, path: &str) {
    let found = std::fs::read(server.file(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(found, content(1, 0, 10), "{path}");
}

#[test]
fn a_path_is_decoded_once() {
    let server = Server::start();
    for (target, path) in [
        ("/a%20b.bin", "a b.bin"),
        ("/%C3%A4.bin", "\u{e4}.bin"),
        ("/100%2525.bin", "100%25.bin"),
        ("/%61%62c", "abc"),
        ("/a+b", "a+b"),
        ("/c.bin?path=/../x&y=%00", "c.bin"),
        ("/d.bin?", "d.bin"),
        ("/...a", "...a"),
    ] {
        upload(&server, target);
        assert_uploaded(&server, path);
    }
}

/// The table of docs/paths.md over a socket. The first is the URL of a deployment script that joins
/// with a slash too many.
#[test]
fn spellings_of_a_path_lead_to_one_file() {
    let server = server_with("create_dirs = true\nallow_overwrite = true");
    for target in [
        "/psdlogs//PC1-OSDLOGS.zip",
        "//psdlogs/PC1-OSDLOGS.zip",
        "///psdlogs///PC1-OSDLOGS.zip",
        "http://up.example//psdlogs/PC1-OSDLOGS.zip",
        "/./psdlogs/PC1-OSDLOGS.zip",
        "/psdlogs/./PC1-OSDLOGS.zip",
        "/psdlogs/old/../PC1-OSDLOGS.zip",
        "/psdlogs/%2e/x/%2E%2e/PC1-OSDLOGS.zip",
    ] {
        upload(&server, target);
        assert_uploaded(&server, "psdlogs/PC1-OSDLOGS.zip");
        std::fs::remove_dir_all(server.file("psdlogs")).unwrap();
    }
    let mut names: Vec<_> = std::fs::read_dir(server.root()).unwrap().collect();
    names.retain(|name| name.as_ref().unwrap().file_name() != ".bitsd");
    assert!(names.is_empty(), "nothing else was made: {names:?}");
}

#[test]
fn a_session_is_bound_to_the_path_however_it_is_spelt() {
    let server = server_with("create_dirs = true");
    let mut client = Client::create(server.address(), "/in//a.bin");
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    let mut other = Client::new(server.address(), "/x/../in/a.bin");
    other.adopt(client.session());
    assert_eq!(other.send(fragment(5..10)).received(), 10);
    let mut wrong = Client::new(server.address(), "/in/b.bin");
    wrong.adopt(client.session());
    wrong.close().assert(500, Some("0x8020001F"));
    let mut third = Client::new(server.address(), "//in/./a.bin");
    third.adopt(client.session());
    third.close().assert(200, None);
    assert!(server.file("in/a.bin").exists());
}

#[test]
fn a_location_holds_for_every_spelling_of_its_prefix() {
    let server =
        server_with("create_dirs = true\n[[location]]\nprefix = \"/closed\"\nenabled = false\n");
    for target in [
        "/closed/a",
        "//closed/a",
        "/closed//a",
        "/x/../closed/a",
        "/%63losed/./a",
    ] {
        let answer = Client::new(server.address(), target).try_create();
        assert_eq!(answer.status, 501, "{target}: {answer:?}");
    }
    upload(&server, "/closed/../a.bin");
    assert_uploaded(&server, "a.bin");
}

#[test]
fn a_prefix_in_another_case_is_the_same_where_settings_say_so() {
    let location = "[[location]]\nprefix = \"/Logs\"\n";
    let server = server_with(location);
    std::fs::create_dir(server.file("Logs")).unwrap();
    let answer = Client::new(server.address(), "/logs/a.bin").try_create();
    assert_eq!(answer.status, 404);
    server.wait_for_log("differs from this path in case only");
    let server = server_with(&format!(
        "{location}prefix_case = \"ignore\"\ndownload = \"get\""
    ));
    std::fs::create_dir(server.file("Logs")).unwrap();
    // The same path, and so the same session.
    let mut client = Client::create(server.address(), "/LOGS//a.bin");
    assert_eq!(client.send(fragment(0..5).of(10)).received(), 5);
    let mut other = Client::new(server.address(), "/logs/a.bin");
    other.adopt(client.session());
    assert_eq!(other.send(fragment(5..10)).received(), 10);
    other.close().assert(200, None);
    assert_uploaded(&server, "Logs/a.bin");
    let mut raw = server.connect();
    let answer = ask(&mut raw, "GET /lOGS/a.bin HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((answer.status, answer.body), (200, content(1, 0, 10)));
}

#[test]
fn an_absolute_target_names_the_same_file() {
    let server = Server::start();
    upload(&server, "http://another.example:8080/a.bin?q");
    assert_uploaded(&server, "a.bin");
    upload(&server, "HTTPS://another.example/b.bin");
    assert_uploaded(&server, "b.bin");
}

#[test]
fn a_target_that_leads_elsewhere_is_refused() {
    let server = Server::start();
    std::fs::create_dir(server.file("in")).unwrap();
    let outside = server.root().parent().unwrap().to_owned();
    let before = std::fs::read_dir(&outside).unwrap().count();
    let mut client = Client::new(server.address(), "/a.bin");
    for target in [
        "/..",
        "/../a.bin",
        "/in/../../a.bin",
        "/in/./../..//a.bin",
        "/%2e%2e/a.bin",
        "//../a.bin",
        "/%2E%2E%2Fa.bin",
        "/in%2fa.bin",
        "/..%5ca.bin",
        "/..\\a.bin",
        "/in\\a.bin",
        "/%c0%ae%c0%ae/a.bin",
        "/",
        "//",
        "/in//",
        "/in/.",
        "/in/x/..",
        "/in/../.bitsd/x",
        "//.bitsd/x",
        "/in/",
        "/a.bin/",
        "/a.bin%00",
        "/a%00b.bin",
        "/a%0d%0ab.bin",
        "/a%0ab.bin",
        "/a%7f.bin",
        "/a%.bin",
        "/a%zz.bin",
        "/%ff.bin",
        "/a.bin#b",
        "/c:/a.bin",
        "/a.bin:stream",
        "/CON",
        "/nul.txt",
        "/a.",
        "/a%20",
        "/.bitsd/x",
        "/.BITSD/x",
        "/.bitsd",
        "a.bin",
        "*",
        "http://up.example",
        "ftp://up.example/a.bin",
    ] {
        let request = head_to(target, "Create-Session", "Content-Length: 0\r\n").replace(
            "Content-Length",
            "BITS-Supported-Protocols: {7df0354d-249b-430f-820d-3d2a9bef4931}\r\nContent-Length",
        );
        let answer = ask(&mut client.raw, request);
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        answer.assert(400, Some(E_INVALIDARG));
    }
    assert_usable(&mut client.raw);
    assert_eq!(server.work_files(), [""; 0]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), before);
}

#[test]
fn lengths_of_names_paths_and_queries_are_bounded() {
    let server = Server::start();
    upload(&server, &format!("/{}", "n".repeat(255)));
    upload(&server, &format!("/a.bin?{}", "q".repeat(2200)));
    for target in [
        format!("/{}", "n".repeat(256)),
        "/abcdefgh".repeat(245),
        format!("/b.bin?{}", "q".repeat(2201)),
    ] {
        Client::new(server.address(), &target)
            .try_create()
            .assert(400, Some(E_INVALIDARG));
    }
}

#[test]
fn a_folder_is_no_destination() {
    for settings in ["", "allow_overwrite = true"] {
        let server = server_with(settings);
        std::fs::create_dir(server.file("in")).unwrap();
        Client::new(server.address(), "/in")
            .try_create()
            .assert(400, Some(E_INVALIDARG));
        assert_eq!(server.work_files(), [""; 0]);
    }
}

#[test]
fn a_missing_folder_is_404_or_made() {
    let server = Server::start();
    Client::new(server.address(), "/in/deep/a.bin")
        .try_create()
        .assert(404, None);
    assert!(!server.file("in").exists());
    let server = server_with("create_dirs = true");
    upload(&server, "/in/deep/a.bin");
    assert_uploaded(&server, "in/deep/a.bin");
}

#[test]
fn a_file_is_no_folder() {
    for settings in ["", "create_dirs = true"] {
        let server = server_with(settings);
        std::fs::write(server.file("in"), "a file").unwrap();
        let answer = Client::new(server.address(), "/in/a.bin").try_create();
        assert_eq!(answer.status, 404, "{settings}: {answer:?}");
        let reason = answer.field("Bitsd-Reason").unwrap_or_default();
        assert!(
            reason.starts_with("a file stands where a folder"),
            "{settings}: {answer:?}"
        );
    }
}

#[test]
fn a_link_that_leads_out_of_the_root_is_not_followed() {
    for settings in ["", "allow_overwrite = true", "create_dirs = true"] {
        let server = server_with(settings);
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), server.file("out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("b.bin"), server.file("b.bin")).unwrap();
        for target in ["/out/a.bin", "/b.bin"] {
            let mut client = Client::new(server.address(), target);
            if client.try_create().status == 200 {
                client.send(fragment(0..10));
                client.close();
            }
        }
        let found = std::fs::read_dir(outside.path()).unwrap().count();
        assert_eq!(found, 0, "{settings}: written outside the root");
    }
}
