//! Locations: prefixes, inheritance, and what is refused.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::networks::Networks;
use crate::auth::policy::{Allowed, Scheme};
use crate::config::tests::{from_file, words};
use crate::config::{
    Access, Download, Durability, EmptyFile, Host, Notification, NotificationType, Permissions,
    Persist, Policy, PrefixCase, Publish,
};
use crate::http::digest::Algorithms;

fn located(tables: &str) -> Config {
    from_file(tables).unwrap()
}

/// Locations with the prefixes and nothing else.
fn prefixes(prefixes: &[&str]) -> Config {
    let table = |prefix: &&str| format!("[[location]]\nprefix = \"{prefix}\"\n");
    located(&prefixes.iter().map(table).collect::<String>())
}

fn message(text: &str, begins: &str, says: &str) {
    let message = words(text);
    assert!(message.starts_with(begins), "{message}");
    assert!(message.contains(says), "{message}");
}

#[test]
fn without_locations_the_global_one_holds_for_everything() {
    let config = located("");
    assert_eq!(config.locations, [Location::default()]);
    assert_eq!(config.location_index("a/b"), 0);
    assert_eq!(config.location("a/b").beneath("a/b"), Some("a/b"));
    let mut config = config;
    config.global_mut().policy.strict = true;
    assert!(config.global().policy.strict);
}

#[test]
fn the_longest_prefix_wins_whatever_its_place_in_the_file() {
    for order in [["in", "in/new", "other"], ["in/new", "other", "in"]] {
        let config = prefixes(&order);
        for (path, prefix) in [
            ("in", "in"),
            ("in/x", "in"),
            ("in/news", "in"),
            ("in/new", "in/new"),
            ("in/new/x/y", "in/new"),
            ("other/in/new", "other"),
            ("x", ""),
        ] {
            assert_eq!(config.location(path).prefix, prefix, "{path}");
        }
        let by_length: Vec<usize> = config.locations.iter().map(|l| l.prefix.len()).collect();
        assert_eq!(by_length, [6, 5, 2, 0]);
    }
}

#[test]
fn a_prefix_matches_whole_names_in_their_own_case() {
    let config = prefixes(&["in"]);
    for path in ["inbox/x", "inbox", "In/x", "IN", "x/in", "i"] {
        assert_eq!(config.location(path).prefix, "", "{path}");
    }
}

#[test]
fn a_prefix_is_written_as_in_a_url() {
    for written in ["a/b", "/a/b", "a/b/", "/a/b/", "%61/b"] {
        assert_eq!(prefixes(&[written]).locations[0].prefix, "a/b");
    }
    assert_eq!(
        prefixes(&["/%C3%A4%20100%25"])
            .location("\u{e4} 100%/x")
            .prefix,
        "\u{e4} 100%"
    );
}

#[test]
fn beneath_its_own_root_the_prefix_is_not_part_of_the_path() {
    let config = located(
        "root = \"/r\"\n[[location]]\nprefix = \"own/x\"\nroot = \"/o\"\n[[location]]\nprefix = \"in\"\n",
    );
    for (path, root, beneath) in [
        ("own/x/a/b", "/o", Some("a/b")),
        ("own/x", "/o", None),
        ("in/a/b", "/r", Some("in/a/b")),
        ("in", "/r", None),
        ("own/a", "/r", Some("own/a")),
    ] {
        let location = config.location(path);
        assert_eq!(config.roots[location.root], Path::new(root), "{path}");
        assert_eq!(location.beneath(path), beneath, "{path}");
    }
    let own = config.location("own/x/a");
    for path in ["own/xa", "own", "a", ""] {
        assert_eq!(own.beneath(path), None, "{path}");
    }
}

/// Every key that may stand in both, with a value that is not the default.
const KEYS: [(&str, &str); 36] = [
    ("enabled", "false"),
    ("prefix_case", "\"ignore\""),
    ("download", "\"head\""),
    ("auth", "[\"basic\"]"),
    ("allow", "[\"anna\", \"@ops\"]"),
    ("allow_from", "[\"10.0.0.0/8\", \"192.0.2.1\"]"),
    ("per_user", "true"),
    ("allow_plaintext", "true"),
    ("auth_persist", "\"request\""),
    ("durability", "\"fragment\""),
    ("publish", "\"last-fragment\""),
    ("digest", "[\"sha-256\", \"sha-1\"]"),
    ("digest_file", "true"),
    ("allow_overwrite", "true"),
    ("create_dirs", "true"),
    ("file_mode", "\"0640\""),
    ("dir_mode", "\"0750\""),
    ("empty_file", "\"create\""),
    ("strict", "true"),
    ("upload_bytes_max", "\"1 GiB\""),
    ("fragment_bytes_max", "\"1 MiB\""),
    ("session_timeout", "\"1d\""),
    ("empty_session_timeout", "\"2h\""),
    ("sessions_per_client_max", "7"),
    ("sessions_per_user_max", "50"),
    ("send_events", "false"),
    ("public_url", "\"https://up.example/bits\""),
    ("host_id", "\"node-1\""),
    ("host_id_fallback", "\"1h\""),
    ("notification_type", "\"by-value\""),
    ("notification_url", "\"http://h/done\""),
    ("notification_timeout", "\"10s\""),
    ("notification_retries", "3"),
    ("notification_secret_file", "\"SECRET\""),
    ("notifications_in_flight_max", "5"),
    ("reply_bytes_max", "\"1 MiB\""),
];

/// The same for an object store, which does not go with all of those.
const STORE_KEYS: [(&str, &str); 13] = [
    ("store", "\"s3\""),
    ("store_bucket", "\"b-1.x\""),
    ("store_prefix", "\"in/\""),
    ("store_region", "\"eu-central-1\""),
    ("store_endpoint", "\"https://h:8443\""),
    ("store_path_style", "true"),
    ("store_ca", "\"/ca.pem\""),
    ("store_ack", "\"staged\""),
    ("store_wait", "\"2m\""),
    ("store_part_bytes", "\"8 MiB\""),
    ("store_ahead", "false"),
    ("store_staging_max", "\"1 GiB\""),
    ("store_no_replace", "\"look\""),
];

#[test]
fn a_location_may_name_a_store_and_inherits_it() {
    let lines = STORE_KEYS.map(|(key, value)| format!("{key} = {value}\n"));
    let lines = lines.concat();
    let own = format!("[[location]]\nprefix = \"in\"\n{lines}");
    let inherited = format!("{lines}[[location]]\nprefix = \"in\"\n");
    for text in [own, inherited] {
        let read = from_file(&text);
        if !cfg!(feature = "s3") {
            let why = read.unwrap_err().to_string();
            assert!(why.contains("built with the feature `s3`"), "{why}");
            continue;
        }
        let config = read.unwrap();
        let store = config.locations[0].objects.as_ref().unwrap();
        assert_eq!(store.bucket, "b-1.x");
        assert_eq!(store.wait, Duration::from_secs(120));
        assert_eq!(from_file(&config.to_toml()).unwrap(), config);
        let printed = config.to_toml();
        for (key, value) in STORE_KEYS {
            assert!(printed.contains(&format!("{key} = {value}")), "{printed}");
        }
    }
}

#[cfg(feature = "s3")]
#[test]
fn what_does_not_go_with_a_store_is_refused() {
    let store = "store = \"s3\"\n";
    for (more, why) in [
        ("", "needs store_bucket"),
        ("store_bucket = \"No\"\n", "lower-case"),
        (
            "store_bucket = \"abc\"\ndurability = \"none\"\n",
            "durability",
        ),
        (
            "store_bucket = \"abc\"\npublish = \"last-fragment\"\n",
            "publish",
        ),
        ("store_bucket = \"abc\"\ndownload = \"head\"\n", "download"),
        (
            "store_bucket = \"abc\"\nstore_part_bytes = \"1 MiB\"\n",
            "5 MiB",
        ),
    ] {
        let said = from_file(&format!("{store}{more}"))
            .unwrap_err()
            .to_string();
        assert!(said.contains(why), "{said}");
    }
}

/// The keys as lines, the files that they need as lines for the top, and what keeps those in being.
fn all_keys() -> (String, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let lines = KEYS
        .map(|(key, value)| format!("{key} = {value}\n"))
        .concat();
    let files = format!(
        "users_file = \"{users}\"\ntokens_file = \"{users}\"\ngroups_file = \"{}\"\n",
        file("groups", "ops: anna\n"),
        users = file("nobody", ""),
    );
    let secret = file("secret", "sixteen  letters");
    (lines.replace("SECRET", &secret), files, folder)
}

fn expected() -> Location {
    Location {
        series: 0,
        prefix: "in".to_owned(),
        root: 0,
        has_own_root: false,
        objects: None,
        is_enabled: false,
        send_events: false,
        prefix_case: PrefixCase::Ignore,
        download: Download::Head,
        access: Access {
            auth: vec![Scheme::Basic],
            allow: vec![
                Allowed::User("anna".to_owned()),
                Allowed::Group("ops".to_owned()),
            ],
            allow_from: Networks::of(&["10.0.0.0/8".to_owned(), "192.0.2.1".to_owned()]),
            per_user: true,
            allow_plaintext: true,
            auth_persist: Persist::Request,
        },
        policy: Policy {
            digest: Algorithms::Both,
            digest_file: true,
            durability: Durability::Fragment,
            publish: Publish::LastFragment,
            allow_overwrite: true,
            create_dirs: true,
            file_mode: Some(Permissions::new(0o640)),
            dir_mode: Some(Permissions::new(0o750)),
            empty_file: EmptyFile::Create,
            strict: true,
            upload_bytes_max: Some(1 << 30),
            fragment_bytes_max: 1 << 20,
            session_timeout: Duration::from_secs(86_400),
            empty_session_timeout: Duration::from_secs(7_200),
        },
        public_url: Some("https://up.example/bits".to_owned()),
        host: Some(Host {
            id: "node-1".to_owned(),
            fallback_timeout: Duration::from_secs(3_600),
        }),
        notification: Some(Notification {
            kind: NotificationType::ByValue,
            url: "http://h/done".to_owned(),
            timeout: Duration::from_secs(10),
            retries: 3,
            secret: None,
            in_flight_max: 5,
            reply_bytes_max: 1 << 20,
        }),
        sessions_per_client_max: Some(7),
        sessions_per_user_max: Some(50),
    }
}

/// The location without its secret, which is looked at.
fn without_secret(mut location: Location) -> Location {
    let notification = location.notification.as_mut().unwrap();
    let secret = notification.secret.take().unwrap();
    assert_eq!(secret.expose(), b"sixteen  letters");
    location
}

#[test]
fn a_location_may_override_every_key() {
    let (lines, files, _folder) = all_keys();
    let config = located(&format!("{files}[[location]]\nprefix = \"in\"\n{lines}"));
    assert_eq!(without_secret(config.locations[0].clone()), expected());
    assert_eq!(config.global(), &Location::default());
}

#[test]
fn a_location_inherits_every_key() {
    let (lines, files, _folder) = all_keys();
    let config = located(&format!("{files}{lines}[[location]]\nprefix = \"in\"\n"));
    assert_eq!(without_secret(config.locations[0].clone()), expected());
    let global = Location {
        prefix: String::new(),
        ..expected()
    };
    assert_eq!(without_secret(config.global().clone()), global);
}

#[test]
fn a_location_may_set_every_key_back_to_its_default() {
    let (lines, files, _folder) = all_keys();
    let defaults: String = (Location::default().shared().iter())
        .map(|(row, value)| format!("{} = {value}\n", row.key))
        .collect();
    let config = located(&format!(
        "{files}{lines}[[location]]\nprefix = \"in\"\n{defaults}"
    ));
    let default = Location {
        prefix: "in".to_owned(),
        ..Location::default()
    };
    assert_eq!(config.locations[0], default);
}

#[test]
fn each_key_is_overridden_by_itself() {
    let (lines, files, _folder) = all_keys();
    let base = "digest = \"sha-256\"\nnotification_type = \"by-reference\"\nnotification_url = \"http://x\"\nhost_id = \"h\"\nauth = \"bearer\"\n";
    let keys = Location::default().shared();
    assert_eq!(keys.len(), KEYS.len() + STORE_KEYS.len());
    for line in lines.lines() {
        let config = located(&format!(
            "{files}{base}[[location]]\nprefix = \"in\"\n{line}\n"
        ));
        let pairs = config.locations[0].shared().into_iter();
        let changed: Vec<_> = pairs
            .zip(config.global().shared())
            .filter(|((_, here), (_, global))| here != global)
            .map(|((row, value), _)| format!("{} = {value}", row.key))
            .collect();
        assert_eq!(changed, [line]);
    }
}

#[test]
fn a_flag_sets_the_global_value_only() {
    let text = "durability = \"none\"\n[[location]]\nprefix = \"a\"\ndurability = \"fragment\"\n\
                [[location]]\nprefix = \"b\"";
    let file = crate::config::SettingsFile::parse(Path::new("f"), text.to_owned()).unwrap();
    let flags = crate::config::Flags::default().with("durability", "upload");
    let config = Config::resolve(flags, Some(file)).unwrap();
    let durability = |path| config.location(path).policy.durability;
    assert_eq!(durability("a/x"), Durability::Fragment);
    assert_eq!(durability("b/x"), Durability::Upload);
    assert_eq!(durability("x"), Durability::Upload);
}

#[test]
fn a_prefix_that_no_path_has_is_refused() {
    for (prefix, why) in [
        ("", "it takes a path as in a URL"),
        ("/", "it takes a path as in a URL"),
        ("a?b", "it takes a path as in a URL"),
        ("//a", "empty name"),
        ("a//b", "empty name"),
        ("a//", "empty name"),
        ("a/../b", ". or .."),
        ("a/%2e", ". or .."),
        ("a%2fb", "encoded slash"),
        ("a b", "must be percent-encoded"),
        ("\u{e4}", "must be percent-encoded"),
        ("a#b", "must be percent-encoded"),
        ("%zz", "hexadecimal digits"),
        ("nul", "device"),
        (".bitsd/x", "server's own"),
        ("http://h/a", "one of : *"),
    ] {
        let text = format!("root = \"/r\"\n[[location]]\nprefix = \"{prefix}\"\n");
        let begins = format!("bitsd.toml:3:10: location.prefix = \"{prefix}\" cannot be used: ");
        message(&text, &begins, why);
    }
}

#[test]
fn a_prefix_is_required_and_may_not_repeat() {
    message(
        "cores = 1\n\n[[location]]\nstrict = true\n",
        "bitsd.toml:3:1: a location needs prefix, which takes a path as in a URL",
        "/logs/new",
    );
    message(
        "[[location]]\nprefix = \"a%20b\"\n[[location]]\nprefix = \"/a%20%62/\"\n",
        "bitsd.toml:4:10: location.prefix = \"/a%20%62/\" stands already at bitsd.toml:2:10",
        "",
    );
}

#[test]
fn prefixes_that_are_one_in_any_case_are_refused_where_the_second_would_get_nothing() {
    let two = |first: &str, second: &str| {
        format!("[[location]]\nprefix = \"{first}\"\n[[location]]\nprefix = \"{second}\"\n")
    };
    let ignore = "prefix_case = \"ignore\"\n";
    let says = "where prefix_case = \"ignore\" makes them one";
    // The sign of Kelvin has three bytes, and is a k in lower case.
    for (first, second) in [("/A", "/a"), ("/in/A", "/IN/a"), ("/k", "/%E2%84%AA")] {
        let begins = format!(
            "bitsd.toml:5:10: location.prefix = \"{second}\" stands already at bitsd.toml:3:10"
        );
        message(&(ignore.to_owned() + &two(first, second)), &begins, says);
    }
    assert!(from_file(&two("/A", "/a")).is_ok());
    assert!(from_file(&(ignore.to_owned() + &two("/A", "/ab"))).is_ok());
    // The longer one comes first, whatever its bytes are.
    let config = from_file(&(ignore.to_owned() + &two("/%E2%84%AA%E2%84%AA", "/kk/a"))).unwrap();
    assert_eq!(config.location("kk/a/x").prefix, "kk/a");
    // One that takes its own case only comes first, and leaves the rest to the other.
    let exact = two("/a", "/A").replace("\"/A\"", &format!("\"/A\"\n{}", ignore.trim_end()));
    let config = from_file(&exact).unwrap();
    assert_eq!(config.location("a/x").prefix, "a");
    assert_eq!(config.location("A/x").prefix, "A");
}

#[test]
fn what_a_location_does_not_take_is_refused_with_its_place() {
    let begin = "[[location]]\nprefix = \"in\"\n";
    for (line, place, says) in [
        ("cores = 2", "3:1", "cores holds for the whole server"),
        (
            "listen = \"[::]:1\"",
            "3:1",
            "listen holds for the whole server",
        ),
        ("cleanup_interval = 1", "3:1", "holds for the whole server"),
        (
            "BITSCleanupCount = 12",
            "3:1",
            "and holds for the whole server: put it above the first table header (line 1)",
        ),
        (
            "BITSAllowOverwrites = 1",
            "3:1",
            "here it is allow_overwrite, which takes",
        ),
        ("strict = 1", "3:10", "it takes true or false"),
        (
            "session_timeout = \"999ms\"",
            "3:19",
            "session_timeout = \"999ms\" is out of bounds: it takes 1s to 3650d",
        ),
        ("notification_type = 2", "3:21", "notification"),
        (
            "notification_type = \"by-value\"",
            "3:21",
            "notification_type = \"by-value\" needs notification_url",
        ),
        (
            "notification_url = \"ftp://h/\"",
            "3:20",
            "notification_url = \"ftp://h/\" cannot be used: it takes an http or https URL",
        ),
        (
            "public_url = \"up.example\"",
            "3:14",
            "public_url = \"up.example\" cannot be used: it takes an http or https URL without",
        ),
        (
            "host_id = \"node:80\"",
            "3:11",
            "host_id = \"node:80\" cannot be used: it takes a host name",
        ),
    ] {
        message(
            &format!("{begin}{line}\n"),
            &format!("bitsd.toml:{place}: "),
            says,
        );
    }
    message("location = 3\n", "bitsd.toml:1:12: ", "[[location]]");
    message(
        "[location]\nprefix = \"a\"\n",
        "bitsd.toml:1:1: ",
        "in two brackets",
    );
}

#[test]
fn a_secret_that_cannot_be_read_is_named_where_it_is_used() {
    let text = "notification_type = \"none\"\nnotification_url = \"http://x\"\nnotification_secret_file = \"/nonexistent/key\"\n";
    assert!(from_file(text).is_ok(), "nobody is notified");
    message(
        &format!("{text}[[location]]\nprefix = \"a\"\nnotification_type = \"by-value\"\n"),
        "bitsd.toml:3:28: notification_secret_file: cannot read /nonexistent/key: ",
        "",
    );
}

#[test]
fn a_prefix_matches_in_any_case_where_it_is_asked_for() {
    let config = located(
        "[[location]]\nprefix = \"/Logs/\u{c4}b\"\nprefix_case = \"ignore\"\n[[location]]\nprefix = \"/own\"\n"
            .replace('\u{c4}', "%C3%84")
            .as_str(),
    );
    let spelt = |path: &str| {
        let path = UploadPath::from_text(path).unwrap();
        config.spelt(path).as_str().to_owned()
    };
    for path in ["Logs/\u{c4}b/x", "logs/\u{e4}B/x", "LOGS/\u{c4}B/x"] {
        assert_eq!(config.location(path).prefix, "Logs/\u{c4}b", "{path}");
        assert_eq!(spelt(path), "Logs/\u{c4}b/x", "{path}");
    }
    // Names beneath a prefix are those of the file system.
    assert_eq!(spelt("logs/\u{e4}b/X"), "Logs/\u{c4}b/X");
    for path in ["OWN/x", "logs/\u{e4}bc/x", "log", "logs"] {
        assert!(config.location(path).prefix.is_empty(), "{path}");
        assert_eq!(spelt(path), path);
    }
    assert_eq!(config.prefix_in_another_case("OWN/x"), Some("own"));
    for path in ["own/x", "OWNER/x", "logs/\u{e4}b/x", "a"] {
        assert_eq!(config.prefix_in_another_case(path), None, "{path}");
    }
}
