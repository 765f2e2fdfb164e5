//! Targets that name a file, and those that are refused.

use super::*;
use proptest::prelude::*;

fn path(target: &str) -> Result<String, BadTarget> {
    resolve_target(target).map(|target| target.path.as_str().to_owned())
}

#[test]
fn origin_and_absolute_form_name_the_same_path() {
    for target in [
        "/in/a.bin",
        "http://up.example/in/a.bin",
        "HTTPS://up.example:8080/in/a.bin",
    ] {
        assert_eq!(path(target), Ok("in/a.bin".to_owned()), "{target}");
    }
}

#[test]
fn a_path_is_decoded_once() {
    assert_eq!(
        path("/in/price%209386_.ods"),
        Ok("in/price 9386_.ods".to_owned())
    );
    assert_eq!(path("/100%2525"), Ok("100%25".to_owned()));
    assert_eq!(path("/%C3%A4.txt"), Ok("\u{e4}.txt".to_owned()));
}

#[test]
fn the_query_is_kept_as_sent() {
    let target = resolve_target("/a?job=%37&x=?").unwrap();
    assert_eq!(target.sent.query(), Some("job=%37&x=?"));
    assert_eq!(resolve_target("/a").unwrap().sent.query(), None);
    let target = resolve_target("http://h/in/%61//b%20c?x").unwrap();
    assert_eq!(&*target.sent.target, "/in/%61//b%20c?x");
}

/// docs/paths.md, row by row.
#[test]
fn spellings_that_iis_takes_for_one_path_are_one() {
    for target in [
        "/in/a.bin",
        "//in/a.bin",
        "///in/a.bin",
        "/in//a.bin",
        "/in///a.bin",
        "//in//a.bin?q",
        "http://h//in//a.bin",
        "/./in/a.bin",
        "/in/./a.bin",
        "/in/././/a.bin",
        "/in/%2e/a.bin",
        "/x/../in/a.bin",
        "/in/x/y/../../a.bin",
        "/in/x/%2e%2E/a.bin",
        "/x//../in/a.bin",
        "/in/x/.././a.bin",
        "/%69n/%61.bin",
    ] {
        assert_eq!(path(target), Ok("in/a.bin".to_owned()), "{target}");
    }
}

#[test]
fn a_path_that_is_kept_is_plain() {
    assert!(UploadPath::from_text("in/a.bin").is_ok());
    for text in ["", "/a", "a/", "a//b", "./a", "a/..", "a/../b", "."] {
        assert_eq!(
            UploadPath::from_text(text),
            Err(BadTarget::NotPlain),
            "{text}"
        );
        let target = parse_target(&format!("/{text}"));
        assert_eq!(target, Err(BadTarget::NotPlain), "{text}");
    }
}

#[test]
fn what_could_lead_elsewhere_is_refused() {
    for (target, why) in [
        ("", BadTarget::Form),
        ("*", BadTarget::Form),
        ("in/a", BadTarget::Form),
        ("up.example:80", BadTarget::Form),
        ("ftp://up.example/a", BadTarget::Form),
        ("http:///a", BadTarget::Host(BadHost::Missing)),
        ("http://", BadTarget::Host(BadHost::Missing)),
        ("http://up.example", BadTarget::PathMissing),
        ("http://u@up.example/a", BadTarget::Host(BadHost::User)),
        ("http://up.example:x/a", BadTarget::Host(BadHost::Port)),
        ("http://up.example:99999", BadTarget::Host(BadHost::Port)),
        ("http://::1/a", BadTarget::Host(BadHost::Address)),
        ("http://up,example/a", BadTarget::Host(BadHost::Name)),
        ("http://up.example?/a", BadTarget::PathMissing),
        ("http://up.example#/a", BadTarget::Character),
        ("/", BadTarget::Folder),
        ("//", BadTarget::Folder),
        ("/a/", BadTarget::Folder),
        ("/a//", BadTarget::Folder),
        ("/a/.", BadTarget::Folder),
        ("/a/b/..", BadTarget::Folder),
        ("/..", BadTarget::AboveRoot),
        ("/../a", BadTarget::AboveRoot),
        ("//../a", BadTarget::AboveRoot),
        ("/%2e%2e/a", BadTarget::AboveRoot),
        ("/a/../../b", BadTarget::AboveRoot),
        ("/a/../../a/b", BadTarget::AboveRoot),
        ("/a/./../..//b", BadTarget::AboveRoot),
        ("/CON/../a", BadTarget::Device),
        ("/a/b./../c", BadTarget::TrailingDotOrBlank),
        ("/x/..%2fa", BadTarget::EncodedSlash),
        ("/x/..%5ca", BadTarget::Backslash),
        ("/a/../.bitsd/x", BadTarget::Reserved),
        ("//.bitsd/x", BadTarget::Reserved),
        ("/./.bitsd/x", BadTarget::Reserved),
        ("/a%2fb", BadTarget::EncodedSlash),
        ("/a%2Fb", BadTarget::EncodedSlash),
        ("/a%5cb", BadTarget::Backslash),
        ("/..\\a", BadTarget::Backslash),
        ("/a%00", BadTarget::Control),
        ("/a%0d%0ab", BadTarget::Control),
        ("/a%7f", BadTarget::Control),
        // Of Latin-1, in UTF-8: NEL, and what begins a sequence on some terminals.
        ("/a%C2%85b", BadTarget::Control),
        ("/%C2%9B2J/../b", BadTarget::Control),
        ("/a%", BadTarget::PercentEscape),
        ("/a%4", BadTarget::PercentEscape),
        ("/a%zz", BadTarget::PercentEscape),
        ("/a%+1", BadTarget::PercentEscape),
        ("/%ff", BadTarget::NotUtf8),
        ("/%c0%ae%c0%ae/a", BadTarget::NotUtf8),
        ("/\u{e4}", BadTarget::Character),
        ("/a#b", BadTarget::Character),
        ("/a b", BadTarget::Character),
        ("/a?b\u{e4}", BadTarget::Character),
        ("/c:/a", BadTarget::NotAWindowsName),
        ("/a.txt::$DATA", BadTarget::NotAWindowsName),
        ("/a%3fb", BadTarget::NotAWindowsName),
        ("/CON", BadTarget::Device),
        ("/in/nul.txt", BadTarget::Device),
        ("/com1", BadTarget::Device),
        ("/LPT9.log.gz", BadTarget::Device),
        ("/COM%C2%B2", BadTarget::Device),
        ("/aux%20.txt", BadTarget::Device),
        ("/a.", BadTarget::TrailingDotOrBlank),
        ("/a%20", BadTarget::TrailingDotOrBlank),
        ("/...", BadTarget::TrailingDotOrBlank),
        ("/.bitsd/x", BadTarget::Reserved),
        ("/.BITSD", BadTarget::Reserved),
        ("/site/.bitsd/x", BadTarget::Reserved),
        ("/site/a/.Bitsd", BadTarget::Reserved),
    ] {
        assert_eq!(path(target), Err(why), "{target:?}");
    }
}

#[test]
fn names_that_only_look_like_devices_are_taken() {
    for name in [
        "CONSOLE",
        "com10",
        "COM",
        "lpt",
        "nulls.txt",
        ".profile",
        "a.con",
    ] {
        assert_eq!(path(&format!("/{name}")), Ok(name.to_owned()));
    }
}

#[test]
fn lengths_are_bounded() {
    let name = |len| format!("/{}", "n".repeat(len));
    assert!(path(&name(255)).is_ok());
    assert_eq!(path(&name(256)), Err(BadTarget::NameTooLong));
    assert_eq!(path(&"/abcdefgh".repeat(245)), Err(BadTarget::TooLong));
    assert_eq!(
        path(&format!("/a?{}", "q".repeat(2_201))),
        Err(BadTarget::QueryTooLong)
    );
}

#[test]
fn parent_and_name_are_told_apart() {
    let path = UploadPath::from_text("a/b/c.bin").unwrap();
    assert_eq!((path.parent(), path.file_name()), (Some("a/b"), "c.bin"));
    let path = UploadPath::from_text("c.bin").unwrap();
    assert_eq!((path.parent(), path.file_name()), (None, "c.bin"));
}

proptest! {
    #[test]
    fn no_target_leaves_the_root(target in "/[ -~]{0,60}") {
        if let Ok(parsed) = resolve_target(&target) {
            let path = std::path::Path::new(parsed.path.as_str());
            let is_plain = |part| matches!(part, std::path::Component::Normal(_));
            prop_assert!(path.components().all(is_plain) && path.is_relative());
            prop_assert_eq!(UploadPath::from_text(parsed.path.as_str()), Ok(parsed.path.clone()));
        }
    }

    /// Goal: dots never lead out. Method: targets of little else, compared with a walk of
    /// another kind.
    #[test]
    fn dots_and_slashes_are_resolved_or_refused(names in
        proptest::collection::vec(prop::sample::select(vec!["", ".", "..", "%2e", ".%2E", "a", "b"]), 1..9)
    ) {
        let target = format!("/{}", names.join("/"));
        let mut depth = 0i32;
        let mut lowest = 0;
        for name in &names {
            depth += match *name {
                "a" | "b" => 1,
                ".." | ".%2E" => -1,
                _ => 0,
            };
            lowest = lowest.min(depth);
        }
        let is_file = names.last().is_some_and(|name| ["a", "b"].contains(name));
        match path(&target) {
            Ok(path) => {
                prop_assert!(lowest >= 0 && is_file, "{target}");
                prop_assert_eq!(i32::try_from(path.split('/').count()).unwrap(), depth);
            }
            Err(why) if lowest < 0 => prop_assert_eq!(why, BadTarget::AboveRoot),
            Err(why) => {
                prop_assert!(!is_file, "{target}");
                prop_assert_eq!(why, BadTarget::Folder);
            }
        }
    }

    #[test]
    fn arbitrary_text_never_panics(target in ".{0,80}") {
        let _ = resolve_target(&target);
    }
}

#[test]
fn the_folder_of_a_user_is_one_name_and_never_leads_elsewhere() {
    for (user, folder) in [
        ("anna", Some("anna")),
        ("PC1$", Some("PC1$")),
        ("Jörg Müller", Some("Jörg Müller")),
        ("EXAMPLE\\anna", Some("EXAMPLE_anna")),
        ("anna@example.com", Some("anna_example.com")),
        ("..", None),
        (".", None),
        ("..\\..\\etc", Some(".._.._etc")),
        ("../etc", None),
        ("/etc", None),
        ("a/b", None),
        ("a\u{0}b", None),
        ("a\nb", None),
        ("a\u{7f}", None),
        ("anna.", None),
        ("anna ", None),
        ("a:b", None),
        ("CON", None),
        ("nul.txt", None),
        (".bitsd", None),
        (".BITSD", None),
        ("", None),
    ] {
        let found = UploadPath::own_folder(user);
        assert_eq!(found.as_ref().map(UploadPath::as_str), folder, "{user:?}");
    }
    assert_eq!(UploadPath::own_folder(&"u".repeat(256)), None);
    let folder = UploadPath::own_folder("anna").unwrap();
    let path = UploadPath::from_text("in/a/b").unwrap();
    let within = |bytes| path.within(&folder, bytes).unwrap();
    assert_eq!(within(3).as_str(), "in/anna/a/b");
    assert_eq!(within(6).as_str(), "anna/in/a/b");
    let long = UploadPath::from_text(&vec!["n".repeat(250); 8].join("/")).unwrap();
    let bytes = long.as_str().len();
    let other = UploadPath::own_folder(&"u".repeat(200)).unwrap();
    assert_eq!(long.within(&other, bytes), Err(BadTarget::TooLong));
}
