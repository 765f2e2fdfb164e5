//! From text to settings: what is read, and what is refused in which words.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::auth::policy::{Allowed, Scheme};
use quantity::GIB;

pub(super) fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = SettingsFile::parse(Path::new("bitsd.toml"), text.to_owned())?;
    Config::resolve(Flags::default(), Some(file))
}

pub(super) fn words(text: &str) -> String {
    from_file(text).expect_err("it must be refused").to_string()
}

#[test]
fn without_flags_and_file_the_defaults_stand() {
    let config = Config::resolve(Flags::default(), None).unwrap();
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.roots[0], Path::new("./uploads"));
    assert_eq!(config.work_dir, Path::new("./uploads/.bitsd"));
    assert!((1..=256).contains(&config.cores));
    assert_eq!(config.global().policy, Policy::default());
    assert_eq!(config.global().policy.fragment_bytes_max, 64 * 1024 * 1024);
    assert_eq!(
        config.global().policy.session_timeout,
        Duration::from_secs(14 * 86_400)
    );
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.limits.block_bytes, 512 * 1024);
    assert_eq!(config.limits.drain_bytes_max, 16 * 1024 * 1024);
}

#[test]
fn an_address_that_a_flag_names_twice_is_told_as_in_the_file() {
    for (second, says) in [
        ("127.0.0.1:2", "127.0.0.1:2 stands there twice"),
        ("0.0.0.0:2", "0.0.0.0:2 takes 127.0.0.1:2 in"),
    ] {
        let flags = Flags::default().with("listen", "127.0.0.1:2");
        let error = Config::resolve(flags.with("listen", second), None).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("--listen"), "{error}");
    }
    let any = Flags::default().with("listen", "127.0.0.1:0");
    assert!(Config::resolve(any.with("listen", "127.0.0.1:0"), None).is_ok());
}

/// Goal: what is told of are addresses that somebody has written. Method: `[::]` means IPv4 too for
/// the administrator's interface.
#[test]
fn an_address_that_all_of_ipv6_takes_in_is_told_with_that() {
    let listen = "listen = \"127.0.0.1:2\"\n";
    for (lines, says) in [
        (
            "admin_listen = [\"[::]:1\", \"127.0.0.1:1\"]",
            "[::]:1 takes 127.0.0.1:1 in",
        ),
        (
            "admin_listen = [\"127.0.0.1:1\", \"[::]:1\"]",
            "[::]:1 takes 127.0.0.1:1 in",
        ),
        (
            "admin_listen = [\"[::]:1\", \"0.0.0.0:1\"]",
            "[::]:1 takes 0.0.0.0:1 in",
        ),
        ("admin_listen = \"[::]:2\"", "[::]:2 takes 127.0.0.1:2 in"),
    ] {
        let told = words(&format!("{listen}{lines}"));
        assert!(told.contains(says), "{lines}: {told}");
    }
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let text =
        "root = \"/file\"\ncores = 3\ndurability = \"none\"\nlisten = \"[::1]:1\"\nstrict = true";
    let file = SettingsFile::parse(Path::new("f"), text.to_owned()).unwrap();
    let flags = Flags::default()
        .with("root", "/flag")
        .with("cores", "7")
        .with("listen", "127.0.0.1:2")
        .with("listen", "127.0.0.1:3")
        .with("log_level", "debug");
    let config = Config::resolve(flags, Some(file)).unwrap();
    assert_eq!(config.roots[0], Path::new("/flag"));
    assert_eq!(config.work_dir, Path::new("/flag/.bitsd"));
    assert_eq!(config.cores, 7);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.global().policy.durability, Durability::None);
    assert_eq!(config.log_level, LogLevel::Debug);
    assert!(config.global().policy.strict);
}

#[test]
fn every_key_can_be_set_in_the_file() {
    let text = r#"
        listen = ["127.0.0.1:80", "[::]:81"]
        root = "/r"
        work_dir = "/w"
        cores = 2
        log_format = "json"
        log_level = "warn"
        io = "ring"
        durability = "fragment"
        publish = "last-fragment"
        allow_overwrite = true
        create_dirs = true
        empty_file = "create"
        strict = true
        upload_bytes_max = "20 GiB"
        fragment_bytes_max = 5120
        session_timeout = 90
        [limits]
        head_bytes_max = "8 KiB"
        headers_max = 8
        block_bytes = 65536
        tombstones_per_shard_max = 0
    "#;
    let config = from_file(text).unwrap();
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.work_dir, Path::new("/w"));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.io, Io::Ring);
    assert_eq!(config.global().policy.publish, Publish::LastFragment);
    assert_eq!(config.global().policy.empty_file, EmptyFile::Create);
    assert_eq!(config.global().policy.upload_bytes_max, Some(20 * GIB));
    assert_eq!(config.global().policy.fragment_bytes_max, 5120);
    assert_eq!(
        config.global().policy.session_timeout,
        Duration::from_secs(90)
    );
    assert_eq!(config.limits.head_bytes_max, 8192);
    assert_eq!(config.limits.headers_max, 8);
    assert_eq!(config.limits.tombstones_per_shard_max, 0);
    assert_eq!(config.limits.mailbox_max, Limits::default().mailbox_max);
}

#[test]
fn a_flag_out_of_bounds_is_refused_with_its_name() {
    let flags = Flags::default().with("cores", "300");
    let message = Config::resolve(flags, None).unwrap_err().to_string();
    assert_eq!(
        message,
        "--cores: cores = 300 is out of bounds: it takes 0 to 256 (0 is all that are available)"
    );
}

#[test]
fn zero_cores_are_all_that_are_available() {
    assert_eq!(
        from_file("cores = 0").unwrap().cores,
        Config::resolve(Flags::default(), None).unwrap().cores
    );
}

#[test]
fn values_out_of_bounds_are_refused_in_words_naming_the_bounds() {
    for (text, expected) in [
        (
            "cores = 257",
            "bitsd.toml:1:9: cores = 257 is out of bounds: it takes 0 to 256",
        ),
        ("cores = -1", "cores = -1 is out of bounds"),
        (
            "fragment_bytes_max = \"5119 B\"",
            "= \"5119 B\" is out of bounds: it takes 5 KiB to 16 TiB",
        ),
        (
            "session_timeout = \"999ms\"",
            "is out of bounds: it takes 1s to 3650d",
        ),
        ("session_timeout = -1", "is out of bounds"),
        ("upload_bytes_max = 0", "is out of bounds: it takes 1 B to"),
        (
            "[limits]\nheaders_max = 7",
            "bitsd.toml:2:15: limits.headers_max = 7 is out of bounds: it takes 8 to 256",
        ),
        (
            "[limits]\nblock_bytes = 65537",
            "it takes powers of two from 64 KiB to 8 MiB",
        ),
        (
            "[limits]\nhead_bytes_max = \"129 KiB\"",
            "it takes 1 KiB to 128 KiB",
        ),
        ("[limits]\nbody_blocks_per_shard = 0", "it takes 1 to 512"),
        (
            "[limits]\nidle_ms_max = \"1s\"",
            "is no number: it takes 100 to 3600000 (milliseconds); did you mean 1000?",
        ),
        (
            "[limits]\nidle_ms_max = \"1000\"",
            "is a string: it takes 100 to 3600000 (milliseconds), without quotes",
        ),
        (
            "[limits]\nreserve_share_max = \"25%\"",
            "is no number: it takes 0 to 100; did you mean 25?",
        ),
        (
            "[limits]\npath_depth_max = \"unlimited\"",
            "is no number: it takes 0 to 1100",
        ),
        (
            "session_timeout = \"2 fortnights\"",
            "the unit \"fortnights\" does not exist; known are ms, s, m, h, d and w",
        ),
        (
            "upload_bytes_max = \"many\"",
            "cannot be read: it does not begin with a whole number",
        ),
        (
            "sessions_per_client_max = 0",
            "= 0 is out of bounds: it takes 1 to 1000000, or \"unlimited\"",
        ),
        (
            "sessions_per_client_max = \"many\"",
            "= \"many\" is no number: it takes 1 to 1000000, or \"unlimited\"",
        ),
        ("cleanup_interval = \"361d\"", "it takes 1s to 360d"),
        ("host_id_fallback = \"366d\"", "it takes 1s to 365d"),
        ("notification_timeout = \"61m\"", "it takes 1s to 1h"),
        (
            "notification_retries = 11",
            "bitsd.toml:1:24: notification_retries = 11 is out of bounds: it takes 0 to 10",
        ),
        ("notifications_in_flight_max = 0", "it takes 1 to 1024"),
        ("reply_bytes_max = 0", "it takes 1 B to 16 TiB"),
        ("listen = []", "bitsd.toml:1:10: listen = [] is empty"),
    ] {
        let message = words(text);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn wrong_types_are_refused_with_their_place() {
    for (text, place, cause) in [
        (
            "strict = 1",
            "1:10",
            "strict = 1 cannot be used: it takes true or false",
        ),
        ("\nroot = true", "2:8", "it takes a directory"),
        ("cores = 1.5", "1:9", "it takes 0 to 256"),
        (
            "listen = 80",
            "1:10",
            "it takes `ADDR:PORT`, or an array of them; the address is missing; all of this machine are [\"0.0.0.0:80\"",
        ),
        (
            "listen = \"localhost\"",
            "1:10",
            "is not an address such as",
        ),
        (
            "listen = [\"1.2.3.4:5\", \"x\"]",
            "1:",
            "\"x\" is not an address such as",
        ),
        (
            "durability = \"always\"",
            "1:14",
            "it takes \"none\", \"upload\" or \"fragment\"",
        ),
        (
            "limits = 3",
            "1:10",
            "limits is a table that begins with [limits]",
        ),
        (
            "root = \"a\"\nroot = \"b\"",
            "2:1",
            "root stands already at bitsd.toml:1:1",
        ),
        ("root = ", "1:", "string"),
    ] {
        let message = words(text);
        assert!(
            message.starts_with(&format!("bitsd.toml:{place}")),
            "{message}"
        );
        assert!(message.contains(cause), "{message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Path::new("/nonexistent/bitsd.toml");
    let message = SettingsFile::read(missing).unwrap_err().to_string();
    assert!(
        message.starts_with("cannot read the settings file /nonexistent/bitsd.toml: "),
        "{message}"
    );
}

#[test]
fn the_work_directory_may_lie_inside_the_root_but_not_hold_it() {
    assert!(from_file("root = \"/a\"\nwork_dir = \"/a/b/c\"").is_ok());
    assert!(from_file("root = \"/a\"\nwork_dir = \"/b\"").is_ok());
    for text in [
        "root = \"/a\"\nwork_dir = \"/a/\"",
        "root = \"/a/b\"\nwork_dir = \"/a\"",
    ] {
        let message = words(text);
        assert!(
            message.starts_with("bitsd.toml:2:12: work_dir (/a"),
            "{message}"
        );
        assert!(message.contains("must not be a root"), "{message}");
    }
    let message = words("root = \"/a\"\n[[location]]\nprefix = \"x\"\nroot = \"/a/.bitsd/x\"");
    assert!(
        message.starts_with("bitsd.toml:4:8: work_dir (/a/.bitsd)"),
        "{message}"
    );
}

#[test]
fn an_empty_path_is_refused_with_its_place() {
    for (text, place) in [
        ("root = \"\"", "bitsd.toml:1:8: root = \"\" is empty"),
        (
            "\nwork_dir = \"\"",
            "bitsd.toml:2:12: work_dir = \"\" is empty",
        ),
        (
            "[[location]]\nprefix = \"x\"\nroot = \"\"",
            "bitsd.toml:3:8: location.root = \"\" is empty",
        ),
    ] {
        assert!(words(text).starts_with(place), "{}", words(text));
    }
}

#[test]
fn each_root_is_listed_once_and_the_global_one_first() {
    let config = from_file(
        "root = \"/r\"\n[[location]]\nprefix = \"a\"\nroot = \"/own\"\n[[location]]\nprefix = \"bb\"\nroot = \"/own/\"\n\
         [[location]]\nprefix = \"ccc\"\nroot = \"/r\"\n[[location]]\nprefix = \"dddd\"\n",
    )
    .unwrap();
    assert_eq!(config.roots, [Path::new("/r"), Path::new("/own")]);
    let indexes = config.locations.iter().map(|l| (l.root, l.has_own_root));
    let expected = [(0, false), (0, true), (1, true), (1, true), (0, false)];
    assert!(indexes.eq(expected));
}

/// The mistakes that people make, and what they read. The words are the point: they name the place
/// and the remedy.
#[test]
fn mistakes_are_told_with_what_to_write_instead() {
    let location = "[[location]]\nprefix = \"in\"\n";
    for (text, expected) in [
        (
            "alow_overwrite = true",
            "bitsd.toml:1:1: there is no key alow_overwrite; did you mean allow_overwrite?",
        ),
        (
            "Session-Timeout = 3",
            "bitsd.toml:1:1: there is no key Session-Timeout; did you mean session_timeout?",
        ),
        (
            "[limits]\nheader_max = 9",
            "bitsd.toml:2:1: there is no key header_max; did you mean headers_max?",
        ),
        (
            "xyzzy = 1",
            "bitsd.toml:1:1: there is no key xyzzy (`bitsd check --help` lists all)",
        ),
        (
            "cores = 1\nheaders_mx = 8",
            "bitsd.toml:2:1: there is no key headers_mx; did you mean headers_max? It stands in [limits]",
        ),
        (
            "bitsMaximumUploadSize = 100",
            "bitsd.toml:1:1: bitsMaximumUploadSize is a property of IIS; here it is upload_bytes_max, which takes 1 B",
        ),
        (
            "[[location]]\nprefix = \"in\"\nUNCUserName = \"x\"",
            "bitsd.toml:3:1: UNCUserName is a property of IIS, which has no place here: mount the share",
        ),
        (
            "cores = 1\n[[location]]\nprefix = \"in\"\nlog_level = \"info\"",
            "bitsd.toml:4:1: log_level holds for the whole server: put it above the first table header (line 2)",
        ),
        (
            "head_bytes_max = 2048",
            "bitsd.toml:1:1: head_bytes_max stands in [limits]",
        ),
        (
            "prefix = \"a\"",
            "bitsd.toml:1:1: prefix stands in a [[location]]",
        ),
        (
            "[limits]\nstrict = true",
            "bitsd.toml:2:1: strict stands in a [[location]], or above the first table header (line 1)",
        ),
        (
            "[[locations]]\nprefix = \"a\"",
            "there is no key locations; did you mean [[location]]?",
        ),
        (
            "allow_overwrite = \"yes\"",
            "= \"yes\" is a string: it takes true or false, without quotes",
        ),
        (
            "log_level = \"trace\"",
            "it takes \"warn\", \"info\" or \"debug\"",
        ),
        (
            "listen = \"localhost:80\"",
            "names are not looked up; write 127.0.0.1:80",
        ),
        (
            "listen = \"node1:80\"",
            "names are not looked up; write the address",
        ),
        (
            "listen = \"8080\"",
            "\"8080\" is not an address such as 127.0.0.1:8080 or [::]:8080: the address is missing",
        ),
        ("listen = \"[::1]\"", ": the port is missing"),
        (
            "listen = \":8080\"",
            "the address is missing; all of this machine are [\"0.0.0.0:8080\", \"[::]:8080\"]",
        ),
        (
            "listen = \"*:8080\"",
            "the address is missing; all of this machine are",
        ),
        (
            "listen = \"http://0.0.0.0:8080/\"",
            "or [::]:8080; did you mean \"0.0.0.0:8080\"?",
        ),
        (
            "listen = [\"https://[::]:443\"]",
            "; did you mean \"[::]:443\"?; TLS is a [[listener]] with tls = true",
        ),
        (
            "listen = \"http://srv.example\"",
            ": it has no scheme and no path",
        ),
        ("listen = \"[::1]:80/\"", "did you mean \"[::1]:80\"?"),
        (
            &format!("{location}[location.limits]\nheaders_max = 9"),
            "bitsd.toml:3:11: limits cannot stand in another table: it begins with [limits], and holds for the whole server",
        ),
        (
            "[[limits.location]]\nprefix = \"a\"",
            "there is no key location",
        ),
        (
            "[limits.location]\nprefix = \"a\"",
            "location cannot stand in another table",
        ),
        (
            "[server]\nroot = \"/r\"",
            "bitsd.toml:1:2: there is no table server: there are [limits], [events], [[listener]], [[certificate]], [[location]]; all other",
        ),
        (
            "[limit]\nheaders_max = 9",
            "there is no key limit; did you mean [limits]?",
        ),
        (
            "root = \"D:\\\\logs\"",
            "bitsd.toml:1:8: root = \"D:\\\\logs\" is a path of Windows",
        ),
        ("work_dir = 'C:\\x'", "is a path of Windows"),
        ("root = \"~/uploads\"", "is a path for a shell"),
        ("work_dir = \"$HOME/w\"", "is a path for a shell"),
        (
            "listen = [\"127.0.0.1:80\", \"127.0.0.1:80\"]",
            "127.0.0.1:80 stands there twice",
        ),
        (
            "root = \"C:\\Users\\x\"",
            "a backslash in double quotes begins an escape: write / in a prefix or a path",
        ),
        (
            "root = \"\\srv\"",
            "or put the text in 'single quotes', in: root = \"\\srv\"",
        ),
        (
            "[limits]\n[limits]",
            "bitsd.toml:2:2: limits stands already at bitsd.toml:1:2",
        ),
        (
            "[[location]]\nprefix = \"a\"\n[[location]]\nprefix = \"b\"\nprefix = \"c\"",
            "bitsd.toml:5:1: prefix stands already at bitsd.toml:4:1",
        ),
        (
            "notification_url = \"app.example/orders\"",
            "cannot be used: it takes an http or https URL, or a path",
        ),
        (
            "notification_url = \"http://h/\"",
            "bitsd.toml:1:20: notification_url = \"http://h/\" does nothing without notification_type",
        ),
        (
            "notification_type = \"by-value\"\nnotification_url = \"/app\"",
            "bitsd.toml:2:20: notification_url = \"/app\" needs public_url",
        ),
        (
            &format!("{location}notification_url = \"http://h/\""),
            "bitsd.toml:3:20: notification_url = \"http://h/\" does nothing without notification_type",
        ),
    ] {
        let message = words(text);
        assert!(message.contains(expected), "{message}");
    }
}

/// What people write who know IIS, other servers, or other forms of files.
#[test]
fn what_is_written_as_elsewhere_is_told_with_what_to_write_here() {
    let location = "[[location]]\nprefix = \"in\"\n";
    let toml = "the settings are TOML";
    for (text, told) in [
        ("session_timeout = \"14.00:00:00\"", "write \"14d\""),
        ("upload_bytes_max = \"20,000,000\"", "write 20_000_000"),
        (
            "upload_bytes_max = \"unlimitted\"",
            "did you mean \"unlimited\"?",
        ),
        (
            "sessions_per_user_max = \"never\"",
            "did you mean \"unlimited\"?",
        ),
        ("tls_version_min = \"TLSv1.3\"", "did you mean \"1.3\"?"),
        ("timeout = \"1h\"", "session_timeout is how long"),
        ("create_dirs = yes", "a truth value is true or false"),
        ("create_dirs = True", "a truth value is true or false"),
        ("create_dirs = true;", "no line ends with a semicolon"),
        ("; nothing\ncores = 1", "a comment begins with #"),
        ("// nothing\ncores = 1", "a comment begins with #"),
        ("cores = 1 // all", "a comment begins with #"),
        ("{\n \"root\": \"/srv\"\n}", toml),
        ("<settings>\n</settings>", toml),
        ("root: /srv/uploads", toml),
        ("---\nroot: /srv", toml),
        ("root = /srv/uploads", "a text stands in quotes"),
        ("root /srv/uploads", "stands ="),
        ("root = \"/srv/x \"", "no directory here has blanks"),
        ("root = \" /srv/x\"", "no directory here has blanks"),
        ("root = \"/srv/\\u0000x\"", "no directory here has blanks"),
        ("root = \"/srv/\\nx\"", "= \"/srv/\\nx\" cannot be used"),
        (
            &format!("{location}root = \"x\\t\""),
            "no directory here has blanks",
        ),
        ("[[location]]\nprefix = \"/\"", "stands above all tables"),
        (
            "[[location]]\nprefix = \"http://x/logs\"",
            "did you mean \"/logs\"?",
        ),
        ("umask = 2", "UMask="),
        ("workers = 2", "here it is cores"),
        ("max_upload_size = 2", "here it is upload_bytes_max"),
        ("client_max_body_size = 2", "here it is upload_bytes_max"),
        ("directory = \"/srv\"", "here it is root"),
        (&format!("{location}path = \"/srv\""), "the folder is root"),
        (
            "[[virtual_directory]]\nprefix = \"a\"",
            "here it is [[location]]",
        ),
        ("include = \"x\"", "there is one settings file"),
        (
            "listen = \"0.0.0.0:80, [::]:80\"",
            "an array: [\"0.0.0.0:80\", \"[::]:80\"]",
        ),
        (
            "allow_from = \"10.0.0.1,10.0.0.2\"",
            "an array: [\"10.0.0.1\", \"10.0.0.2\"]",
        ),
        ("allow_from = \"pc.example\"", "names are not looked up"),
        (
            "allow_from = \"10.0.0.0/255.0.0.0\"",
            "did you mean \"10.0.0.0/8\"?",
        ),
        (
            "allow_from = \"10.0.0.1-10.0.0.9\"",
            "a range is written as networks",
        ),
        (
            "allow_from = \"10.0.0.1-9\"",
            "a range is written as networks",
        ),
        ("allow_from = \"10.0.*.*\"", "did you mean \"10.0.0.0/16\"?"),
        ("allow_from = \"10.0.*\"", "did you mean \"10.0.0.0/16\"?"),
    ] {
        let message = words(text);
        assert!(message.contains(told), "{text}: {message}");
    }
    let message = words("tls_version_min = \"1.0\"");
    assert!(!message.contains("did you mean"), "{message}");
    assert!(message.contains("it takes \"1.2\" or \"1.3\""), "{message}");
}

#[test]
fn a_url_that_is_kept_for_later_or_used_below_is_not_refused() {
    for text in [
        "notification_type = \"none\"\nnotification_url = \"http://h/\"",
        "notification_url = \"http://h/\"\n[[location]]\nprefix = \"a\"\nnotification_type = \"by-value\"",
        "notification_type = \"by-value\"\nnotification_url = \"http://h/\"\n[[location]]\nprefix = \"a\"\n\
         notification_type = \"none\"",
        "public_url = \"http://h\"\nnotification_type = \"by-value\"\nnotification_url = \"/app\"",
    ] {
        from_file(text).unwrap();
    }
}

#[test]
fn words_are_read_in_any_case_and_durations_in_parts() {
    let config = from_file(
        "log_level = \"DEBUG\"\nsession_timeout = \"1h30m\"\ncleanup_interval = \"2 weeks\"",
    );
    let config = config.unwrap();
    assert_eq!(config.log_level, LogLevel::Debug);
    assert_eq!(
        config.global().policy.session_timeout,
        Duration::from_secs(5400)
    );
    assert_eq!(config.cleanup_interval, Duration::from_secs(14 * 86_400));
}

#[test]
fn flags_are_refused_in_the_words_of_the_file() {
    for (key, value, expected) in [
        (
            "listen",
            "8080",
            "--listen: listen = 8080 cannot be used: \"8080\" is not an address such as",
        ),
        ("work_dir", "", "--work-dir: work_dir = \"\" is empty"),
        // Nobody has written quotes there.
        (
            "cores",
            "two",
            "--cores: cores = \"two\" is no number: it takes 0 to 256 (0 is all",
        ),
        (
            "io",
            "fast",
            "--io: io = \"fast\" cannot be used: it takes \"auto\", \"direct\", \"ring\" or \"inline\"",
        ),
    ] {
        let refused = Config::resolve(Flags::default().with(key, value), None);
        let message = refused.unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_path_that_is_no_text_is_a_path_still() {
    use std::os::unix::ffi::OsStringExt;
    let odd = std::ffi::OsString::from_vec(b"/r\xff".to_vec());
    let config = Config::resolve(Flags::default().with("root", odd.clone()), None).unwrap();
    assert_eq!(config.roots[0].as_os_str(), odd);
    assert!(Config::resolve(Flags::default().with("listen", odd), None).is_err());
}

#[test]
fn a_file_that_is_no_text_or_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bitsd.toml");
    std::fs::write(&file, b"\x7fELF\xff\xfe").unwrap();
    let message = SettingsFile::read(&file).unwrap_err().to_string();
    assert!(
        message.contains("/bitsd.toml:1:5: the byte 0xFF is not UTF-8"),
        "{message}"
    );
}

/// A line that cannot be read is shown, and that is logged at a reload.
#[test]
fn a_line_that_cannot_be_read_is_shown_without_the_secrets_of_its_urls() {
    for (line, expected) in [
        (
            "webhook = \"http://anna:sesame@h/x",
            "in: webhook = \"http://\u{2026}@h/x",
        ),
        (
            "webhook = nats://anna:sesame@h",
            "in: webhook = nats://\u{2026}@h",
        ),
        (
            "nats = [\"nats://a\", \"nats://anna:sesame@h\"",
            "in: nats = [\"nats://a\", \"nats://\u{2026}@h\"",
        ),
        // One that a quote in the password has made so.
        (
            "webhook = \"http://anna:sesame\"sesame@h/x\"",
            "in: webhook = \"http://\u{2026}@h/x\"",
        ),
        (
            "nats = [nats://a, nats://anna:sesame@h]",
            "in: nats = [nats://a, nats://\u{2026}@h]",
        ),
        (
            "webhook = \"http://h/x?token=sesame",
            "in: webhook = \"http://h/x?\u{2026}",
        ),
    ] {
        let file = SettingsFile::parse(Path::new("f"), line.to_owned());
        let message = file.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("sesame"), "{message}");
    }
}

/// Pasted out of a web page: in a message it would look right.
#[test]
fn a_character_that_looks_like_another_one_is_told_with_its_place() {
    let refused = |text: &str| {
        let file = SettingsFile::parse(Path::new("f"), text.to_owned());
        file.unwrap_err().to_string()
    };
    let said = refused("cores = 1\nlog_level\u{a0}= \"info\"\n");
    assert!(
        said.starts_with("f:2:10: the character U+00A0 is a no-break space"),
        "{said}"
    );
    let said = refused("cores = 1\u{a0}\n");
    assert!(said.starts_with("f:1:10: the character U+00A0"), "{said}");
    let said = refused("\u{a0}\u{a0}cores = 1\n");
    assert!(said.starts_with("f:1:1: the character U+00A0"), "{said}");
    let said = refused("log_level = \u{201c}info\u{201d}\n");
    assert!(
        said.starts_with("f:1:13: the character U+201C is a quotation mark"),
        "{said}"
    );
}

#[test]
fn a_pipe_that_nobody_writes_into_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let message = SettingsFile::read(&pipe).unwrap_err().to_string();
    assert!(message.contains("nobody writes into it"), "{message}");
    // Somebody who takes his time.
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut pipe = std::fs::File::options().write(true).open(pipe).unwrap();
            for piece in ["cores", " = ", "1\n"] {
                std::io::Write::write_all(&mut pipe, piece.as_bytes()).unwrap();
                std::thread::yield_now();
            }
        }
    });
    let file = SettingsFile::read(&pipe).unwrap();
    writer.join().unwrap();
    assert_eq!(
        Config::resolve(Flags::default(), Some(file)).unwrap().cores,
        1
    );
}

#[test]
fn a_file_made_by_notepad_is_read() {
    let config = from_file("\u{feff}cores = 3\r\n[limits]\r\nheaders_max = 8\r\n").unwrap();
    assert_eq!((config.cores, config.limits.headers_max), (3, 8));
}

#[test]
fn what_is_asked_of_clients_is_read_with_its_files() {
    const HASH: &str = "$5$QgYINokZHq0GyIb1$iAG1DaY.vonDbpqVEvov6RydHbyBWSqSFs43vsdHZu0";
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let users = file("users", &format!("anna:{HASH}\n"));
    let groups = file("groups", "ops: anna\n");
    let files = format!("users_file = \"{users}\"\ngroups_file = \"{groups}\"\n");
    let config = from_file(&format!(
        "{files}auth = \"Basic\"\n[[location]]\nprefix = \"a\"\nallow = [\"@ops\", \"PC1$\"]\n\
         [[location]]\nprefix = \"open\"\nauth = []\n"
    ))
    .unwrap();
    let access = |path: &str| &config.location(path).access;
    assert_eq!(access("x").auth, [Scheme::Basic]);
    assert_eq!(access("x").allow, [Allowed::Anybody]);
    let (ops, machine) = ("ops".to_owned(), "PC1$".to_owned());
    assert_eq!(
        access("a/x").allow,
        [Allowed::Group(ops), Allowed::User(machine)]
    );
    assert_eq!(access("a/x").auth, [Scheme::Basic]);
    assert!(access("open/x").auth.is_empty());
    assert!(config.accounts.accounts.hash_of("anna").is_some());

    let bad = file(
        "bad",
        "# of Apache\nanna:{SHA}IRRjboXT92QSYXm8lpGPCZUvU1E=\n",
    );
    for (text, told) in [
        ("auth = [\"basic\"]", "needs `users_file`"),
        ("auth = [\"bearer\", \"basic\"]", "needs `"),
        ("auth = [\"negotiate\"]", "needs `keytab`"),
        (
            "auth = [\"certificate\"]",
            "needs a [[listener]] with client_ca",
        ),
        ("certificate_user = []", "certificate_user = []"),
        ("certificate_user = \"email\"", "is none of it"),
        (
            "certificate_user = [\"fingerprint\"]",
            "needs `certificates_file`",
        ),
        (
            &format!("certificates_file = \"{bad}\""),
            "/bad:2: what follows \"anna\" is no SHA-256",
        ),
        (
            &format!("keytab = \"{bad}\""),
            "/bad cannot be used: it is no keytab",
        ),
        ("keytab = \"/nowhere/keys\"", "cannot read /nowhere/keys"),
        ("realms = [\"a@b\"]", "it takes an array of realms"),
        ("channel_binding = \"yes\"", "channel_binding = \"yes\""),
        (
            "auth = [\"ntlm\"]",
            "\"ntlm\" is none of it: it takes an array of \"negotiate\", \"basic\"",
        ),
        ("auth = [1]", "it takes an array of"),
        ("allow = [\"anna\"]", "does nothing without `auth`"),
        (
            &format!("{files}auth = \"basic\"\nallow = \"@none\""),
            "names the group \"none\"",
        ),
        (
            &format!("{files}auth = \"basic\"\nallow = [\"\"]"),
            "an array of users",
        ),
        (
            "users_file = \"/nowhere/users\"",
            "users_file: cannot read /nowhere/users",
        ),
        (
            &format!("users_file = \"{bad}\""),
            "/bad:2: \"anna\" cannot be used: the hash is SHA-1",
        ),
        ("auth_realm = 'a\"b'", "no quotes"),
        ("auth = \"proxy\"", "needs `user_header`"),
        ("per_user = true", "does nothing without `auth`"),
        (
            &format!(
                "{files}auth = \"basic\"\nper_user = true\n[[location]]\nprefix = \"a\"\nauth = []"
            ),
            "does nothing without `auth`",
        ),
        ("user_header = \"X-User\"", "needs `trusted_proxies`"),
        ("user_header = \"X User\"", "the name of a field"),
        ("user_header = \"host\"", "the name of a field"),
        ("user_header = \"content-length\"", "the name of a field"),
        ("user_header = \"BITS-Session-Id\"", "the name of a field"),
        (
            "allow_from = \"10.0.0.1/8\"",
            "did you mean \"10.0.0.0/8\", or",
        ),
        ("digest = \"sha256\"", "did you mean \"sha-256\"?"),
        ("digest = [\"SHA_1\"]", "did you mean \"sha-1\"?"),
        (
            "digest = [\"none\", \"sha-256\"]",
            "; \"none\" stands alone",
        ),
        ("digest = \"sha-1\"", "SHA-1 alone proves little"),
        ("auth = \"none\"", "did you mean [], which asks nobody?"),
        (
            "auth = \"negotiate\"",
            "needs `keytab`: the file in which the keys of this server in Kerberos stand",
        ),
        ("listen_tls = \"[::]:1\"", "with address and tls = true"),
        ("listen_foo = \"[::]:1\"", "addresses stand in listen"),
        (
            "publish = \"last_fragment\"",
            "did you mean \"last-fragment\"?",
        ),
        ("notification_type = 1", "did you mean \"by-reference\"?"),
        (
            "notification_type = \"by_value\"",
            "did you mean \"by-value\"?",
        ),
        ("log_level = \"warning\"", "did you mean \"warn\"?"),
        ("log_level = \"error\"", "did you mean \"warn\"?"),
        ("file_mode = 640", "did you mean \"0640\"?"),
        ("file_mode = 0640", "did you mean \"0640\"?"),
        ("dir_mode = 0750 # for us", "did you mean \"0750\"?"),
        ("cores = 08", "no number begins with 0"),
        ("file_mode = 0o640", "did you mean \"0640\"?"),
        ("file_mode = \"0o640\"", "did you mean \"0640\"?"),
        ("dir_mode = 750", "did you mean \"0750\"?"),
        ("port = 8080", "listen = \"0.0.0.0:8080\""),
        ("log_file = \"/var/log/x\"", "stderr"),
        ("user = \"bitsd\"", "User="),
        (
            "[events]\nwebhook = \"http://h:99999/\"",
            "ports are 1 to 65535",
        ),
        ("trusted_proxies = \"proxy.example\"", "is none of it"),
    ] {
        let error = from_file(text).unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn whose_word_is_taken_is_read() {
    let config = from_file(
        "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nuser_header = \"X-User\"\nauth = \"proxy\"\n\
         allow_from = \"192.0.2.0/24\"\n[[location]]\nprefix = \"all\"\nallow_from = []\n\
         [[listener]]\naddress = \"127.0.0.1:1\"\nproxy_protocol = \"Required\"\nallow_from = \"192.0.2.1\"\n",
    )
    .unwrap();
    let trusted = &config.accounts.trusted_proxies;
    assert!(trusted.hold("10.1.2.3".parse().unwrap()) && trusted.hold("::1".parse().unwrap()));
    let from = |path: &str, address: &str| {
        let access = &config.location(path).access;
        access.allow_from.let_in(address.parse().unwrap())
    };
    assert!(from("x", "192.0.2.9") && !from("x", "10.0.0.1") && from("all/x", "10.0.0.1"));
    assert_eq!(config.global().access.auth, [Scheme::Proxy]);
    let listener = &config.listeners[0];
    assert_eq!(listener.proxy_protocol, ProxyProtocol::Required);
    assert_eq!(listener.allow_from.to_texts(), ["192.0.2.1"]);
    let error =
        from_file("[[listener]]\naddress = \"127.0.0.1:1\"\nproxy_protocol = \"required\"\n");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("needs `trusted_proxies`"), "{error}");
}

const SECURE: &str = "[[listener]]\naddress = [\"0.0.0.0:443\", \"[::]:443\"]\ntls = true\n\
                      client_ca = \"/ca.pem\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n\
                      [[certificate]]\nchain = \"/ec.pem\"\nkey = \"/ec.key\"\n";

#[test]
fn listeners_stand_beside_listen_and_instead_of_its_default() {
    let config = from_file(SECURE).unwrap();
    assert_eq!(config.listen, []);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[0].address.len(), 2);
    assert!(config.listeners[0].tls && !config.listeners[1].tls);
    assert_eq!(config.certificates[0].key, Path::new("/ec.key"));
    assert_eq!(from_file(&config.to_toml()).unwrap(), config);
    let both = from_file(&format!("listen = \"127.0.0.1:8080\"\n{SECURE}")).unwrap();
    assert_eq!(both.listen.len(), 1);
    assert_eq!(
        from_file("listen = []\n[[listener]]\naddress = \"[::1]:1\"")
            .unwrap()
            .listen,
        []
    );
}

#[test]
fn what_is_missing_or_does_nothing_in_a_listener_is_told() {
    let certificate = "[[certificate]]\nchain = \"c\"\nkey = \"k\"\n";
    for (text, says) in [
        ("listen = []", "name at least one ADDR:PORT"),
        (
            "[[listener]]\ntls = true",
            "bitsd.toml:1:1: a listener needs address",
        ),
        ("[[certificate]]\nchain = \"c\"", "a certificate needs key"),
        (
            "[[certificate]]\nchain = \"\"\nkey = \"k\"",
            "a certificate needs chain",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\ntls = true",
            "bitsd.toml:3:7: listener.tls = true needs a [[certificate]]",
        ),
        (
            "[listener]\naddress = \"[::]:1\"",
            "begins with [[listener]]",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\nclient_ca = \"c\"",
            "nothing without tls = true",
        ),
        (
            "[[listener]]\naddress = \"[::]:1\"\nport = 1",
            "there is no key port",
        ),
        ("tls = true", "stands in a [[listener]]"),
        ("chain = \"c\"", "stands in a [[certificate]]"),
        (
            "listen = \"[::]:1\"\n[[listener]]\naddress = \"[::]:1\"",
            "[::]:1 stands there twice",
        ),
        ("tls_version_min = \"1.1\"", "\"1.2\" or \"1.3\""),
    ] {
        let words = words(text);
        assert!(words.contains(says), "{text}: {words}");
    }
    let text = format!(
        "[[listener]]\naddress = \"[::]:1\"\ntls = true\nclient_crl = \"l\"\n{certificate}"
    );
    assert!(words(&text).contains("nothing without client_ca"));
}

#[test]
fn certificates_and_authorities_change_at_a_reload_and_sockets_do_not() {
    let old = from_file(SECURE).unwrap();
    let new = |from: &str, to: &str| from_file(&SECURE.replacen(from, to, 1)).unwrap();
    let (adopted, waiting) = adopt(&old, new("/ec.pem", "/new.pem"));
    assert_eq!(adopted.certificates[0].chain, Path::new("/new.pem"));
    assert_eq!(waiting, [""; 0]);
    let (adopted, waiting) = adopt(&old, new("/ca.pem", "/new.pem"));
    assert_eq!(adopted.listeners[0].client_ca, Path::new("/new.pem"));
    assert_eq!(waiting, [""; 0]);
    for other in [
        new(":443", ":444"),
        new("tls = true\nclient_ca = \"/ca.pem\"\n", ""),
    ] {
        let (adopted, waiting) = adopt(&old, other);
        assert_eq!(adopted.listeners, old.listeners);
        assert_eq!(waiting, ["listener"]);
    }
}

/// Each value is told with its line, and each prefix is compared with those before it: neither may
/// take longer for each of many.
#[test]
fn many_locations_take_as_long_for_each_as_few() {
    let took = |count: usize| {
        let table = |at| format!("[[location]]\nprefix = \"/l{at}\"\n");
        let text: String = (0..count).map(table).collect();
        // Others have the processor, too.
        let now = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            time.tv_sec * 1_000_000_000 + time.tv_nsec
        };
        let begun = now();
        let file = SettingsFile::parse(Path::new("test"), text).unwrap();
        let config = Config::resolve(Flags::default(), Some(file)).unwrap();
        assert_eq!(config.locations.len(), count + 1);
        now() - begun
    };
    let few = (0..3).map(|_| took(500)).min().unwrap();
    let many = took(16_000);
    assert!(
        many < few * 32 * 3,
        "{few} ns for 500, {many} ns for 16,000"
    );
}
