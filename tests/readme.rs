//! The README and docs/ say what the program says: settings, flags, contract, refusals, and the
//! configurations of others that they show. Whatever they point to is there.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitsd::bits::reply::{Challenges, NotShown, Obstacle, Reaction, Refusal, Scarce};
use bitsd::config::{Config, Download, Flags, Scope, SettingsFile, default_of, rows};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, by its path from the top.
fn read(name: &str) -> String {
    let text = std::fs::read_to_string(top().join(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every page of the documentation, by its path from the top.
fn pages() -> Vec<String> {
    let mut pages: Vec<_> = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .map(str::to_owned)
    .into();
    for entry in std::fs::read_dir(top().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            pages.push(format!("docs/{name}"));
        }
    }
    pages.sort();
    assert!(pages.len() > 8, "{pages:?}");
    pages
}

/// A page without its fenced blocks.
fn prose(text: &str) -> String {
    let parts = text.split("\n```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_settings_table_is_the_programs() {
    let mut table = String::from(
        "| Key | Default | Values | Meaning | In a location | At a reload |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for setting in rows() {
        let cell = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} | {} |\n",
            setting.key,
            default_of(setting),
            cell(&setting.takes()),
            cell(setting.meaning()),
            match setting.scope {
                Scope::Server
                | Scope::Limits
                | Scope::Events
                | Scope::Listener
                | Scope::Certificate => "",
                Scope::Both => "yes",
                Scope::Location => "only there",
            },
            if setting.is_live { "yes" } else { "" },
        ));
    }
    assert!(
        read("docs/settings.md").contains(&table),
        "the table of docs/settings.md should be:\n{table}"
    );
}

#[test]
fn the_table_for_people_of_iis_is_the_programs() {
    let guide = read("docs/moving-from-iis.md");
    for setting in rows() {
        for name in setting.iis {
            let mut lines = guide.lines().filter(|line| line.starts_with("| `BITS"));
            let line = lines.find(|line| line.contains(&format!("`{name}`")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in the guide's table"));
            assert!(line.contains(&format!("| `{}` |", setting.key)), "{line}");
        }
    }
}

/// What the examples of settings in a file come to: all must be right.
fn examples(name: &str) -> Vec<Config> {
    let path = top().join(name);
    let text = read(name);
    let fenced = text.split("```toml\n").skip(1);
    let fenced = fenced.map(|rest| rest.split("```").next().unwrap());
    let written = text.split(".toml <<'END'\n").skip(1);
    let written = written.map(|rest| rest.split("END\n").next().unwrap());
    // Files of accounts that are named are read.
    let folder = tempfile::tempdir().unwrap();
    // One entry: HTTP/h@R, with a key of one byte.
    let entry = b"\0\x02\0\x01R\0\x04HTTP\0\x01h\0\0\0\x01\0\0\0\0\x01\0\x12\0\x01k";
    let entry_bytes = u32::try_from(entry.len()).unwrap().to_be_bytes();
    let keytab = [&[5, 2], &entry_bytes[..], entry].concat();
    for (name, line) in [
        ("users", &b""[..]),
        ("groups", b"collectors: anna\nmachines: PC1$\n"),
        ("tokens", b""),
        ("certificates", b""),
        ("bitsd.keytab", &keytab),
    ] {
        std::fs::write(folder.path().join(name), line).unwrap();
    }
    let place = format!("{}/", folder.path().display());
    let config = |example: &str| {
        let example = example.replace("/etc/bitsd/", &place);
        let file = SettingsFile::parse(&path, example);
        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
        Config::resolve(Flags::default(), Some(file))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    // Without the feature such settings are refused, which is another test's affair.
    let is_known = |example: &&str| cfg!(feature = "s3") || !example.contains("store = \"s3\"");
    fenced.chain(written).filter(is_known).map(config).collect()
}

#[test]
fn every_example_of_settings_is_one() {
    let examples: Vec<_> = pages().iter().flat_map(|page| examples(page)).collect();
    assert!(examples.len() > 5, "{}", examples.len());
}

/// The command of the guide for port 80 changes that of the package's settings, and nothing else.
#[test]
fn the_service_gets_port_80_and_keeps_its_other_settings() {
    let guide = read("docs/operations.md");
    let command = guide.lines().find(|line| line.starts_with("sudo sed -i"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.toml");
    let before = read("scripts/packaging/bitsd.toml");
    std::fs::write(&path, &before).unwrap();
    let command = command.expect("it is there").replacen("sudo ", "", 1);
    let command = command.replace("/etc/bitsd.toml", path.to_str().unwrap());
    let done = Command::new("sh").args(["-euc", &command]).status();
    assert!(done.unwrap().success(), "{command}");
    let after = std::fs::read_to_string(&path).unwrap();
    let lines = before.lines().zip(after.lines());
    let changed: Vec<_> = lines.filter(|(before, after)| before != after).collect();
    assert_eq!(changed.len(), 1, "{changed:?}");
    let file = SettingsFile::parse(&path, after).unwrap();
    let config = Config::resolve(Flags::default(), Some(file)).unwrap();
    let is_it = |at: &std::net::SocketAddr| at.ip().is_unspecified() && at.port() == 80;
    assert!(config.listen.iter().all(is_it), "{:?}", config.listen);
}

/// What only root can do is shown with sudo: in blocks of commands, but for whole scripts.
#[test]
fn commands_for_root_are_shown_with_sudo() {
    let is_for_root = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        match first {
            "systemctl" => second != "status",
            "bitsd" => matches!(
                second,
                "custody" | "reload" | "sessions" | "status" | "token"
            ),
            "adcli" | "apt" | "certbot" | "chmod" | "chown" | "firewall-cmd" | "htpasswd"
            | "install" | "journalctl" | "kill" | "klist" | "msktutil" | "mv" | "podman"
            | "restorecon" | "semanage" | "tee" | "ufw" | "useradd" => true,
            _ => line.contains("/etc/bitsd/") && line.contains(">>"),
        }
    };
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        for block in text.split("```").skip(1).step_by(2) {
            let (language, commands) = block.split_once('\n').unwrap_or_default();
            let is_script = commands.starts_with("#!");
            if !["sh", "text", "console"].contains(&language) || is_script {
                continue;
            }
            for line in commands.lines() {
                // A prompt, or a line that a file may have as a remark.
                let line = line.trim_start_matches([' ', '$', '#']);
                seen += usize::from(line.starts_with("sudo "));
                assert!(!is_for_root(line), "{page}: {line}");
            }
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_recipes_for_moving_from_iis_are_settings() {
    let configs = examples("docs/moving-from-iis.md");
    let orc = |path| {
        configs
            .iter()
            .find(|config| config.location(path).prefix == "orc")
    };
    let orc = orc("orc/a.7z").expect("the recipe for DFIR-ORC");
    assert_eq!(orc.location("orc/a.7z").download, Download::Head);
    let orc = &orc.location("orc/a.7z").policy;
    assert_eq!(orc.session_timeout.as_secs(), 30 * 86_400);
    assert!(!orc.allow_overwrite);
    let logs = configs[0].location("logs/today.zip");
    assert!(logs.policy.allow_overwrite && logs.notification.is_none());
    assert!(configs[0].location("orders/1.xml").notification.is_some());
    // IIS counts users; where nobody has to say who he is, there are only addresses to count.
    assert_eq!(logs.sessions_per_client_max, Some(50));
    let reports = configs[1].location("reports/1.xml");
    assert!(!reports.access.auth.is_empty());
    assert_eq!(reports.sessions_per_user_max, Some(50));
}

#[test]
fn the_example_of_two_locations_means_what_it_says() {
    let configs = examples("docs/settings.md");
    let config = &configs[0];
    let logs = config.location("logs/2026/a.log");
    assert_eq!(config.roots[logs.root], Path::new("/srv/logs"));
    assert_eq!(logs.beneath("logs/2026/a.log"), Some("2026/a.log"));
    assert!(logs.policy.create_dirs && !logs.policy.allow_overwrite);
    let reports = config.location("reports/new/a.xml");
    assert!(reports.notification.is_some());
    assert_eq!(config.roots[reports.root], Path::new("/srv/uploads"));
    assert_eq!(
        reports.beneath("reports/new/a.xml"),
        Some("reports/new/a.xml")
    );
    assert_eq!(
        reports.policy.upload_bytes_max,
        logs.policy.upload_bytes_max
    );
    assert!(config.location("a.zip").prefix.is_empty());
}

#[test]
fn every_flag_is_named() {
    for (command, page) in [
        (&["serve"][..], "docs/settings.md"),
        (&["check"], "docs/settings.md"),
        (&["put"], "docs/settings.md"),
        (&["bench"], "docs/performance.md"),
        (&["custody", "verify"], "docs/evidence.md"),
        (&["custody", "export"], "docs/evidence.md"),
        (&["sessions", "list"], "docs/operations.md"),
        (&["sessions", "cancel"], "docs/operations.md"),
        (&["status"], "docs/operations.md"),
        (&["trace"], "docs/operations.md"),
    ] {
        let text = read(page);
        let is_word = |c: char| c.is_alphanumeric() || c == '-';
        let has = |flag: &str| {
            let mut ends = text.match_indices(flag).map(|(at, _)| at + flag.len());
            ends.any(|end| !text[end..].starts_with(is_word))
        };
        let help = Command::new(env!("CARGO_BIN_EXE_bitsd"))
            .args(command)
            .arg("--help")
            .output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let flags: BTreeSet<_> = words
            .filter(|word| word.starts_with("--") && word.len() > 3)
            .filter(|flag| !["--help", "--version"].contains(flag))
            .collect();
        assert!(flags.len() > 2, "{command:?} has flags: {help}");
        let missing: Vec<_> = flags.into_iter().filter(|flag| !has(flag)).collect();
        assert_eq!(
            missing, [""; 0],
            "flags of {command:?} that {page} does not name"
        );
    }
}

#[test]
fn the_contract_is_the_stores() {
    let store = include_str!("../src/vault/mod.rs");
    let rows: Vec<_> = store
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .collect();
    assert!(rows.len() >= 5, "the contract is a table");
    let readme = read("README.md");
    for row in rows {
        assert!(
            readme.contains(row),
            "not in the README in the same words: {row}"
        );
    }
}

/// The recipe for a share says nothing that Samba does not know.
#[test]
fn the_share_is_one_that_samba_takes() {
    let guide = read("docs/moving-from-iis.md");
    let share = guide.split("```ini\n").nth(1).expect("the share");
    let share = share.split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smb.conf");
    std::fs::write(&path, share).unwrap();
    let mut testparm = Command::new("testparm");
    let Ok(said) = testparm.arg("-s").arg(&path).output() else {
        return support::skip("there is no testparm here (Debian: samba-common-bin)");
    };
    let all = [&said.stdout[..], &said.stderr].concat();
    let all = String::from_utf8_lossy(&all);
    assert!(said.status.success(), "{all}");
    for mistake in ["Unknown", "Ignoring", "ERROR"] {
        assert!(!all.contains(mistake), "{all}");
    }
    assert!(all.contains("veto files = /.bitsd/"), "{all}");
}

/// Where the page for administrators has a refusal: the beginning of its row. A new variant must
/// say so here, and so cannot be forgotten there.
fn row_of(refusal: &Refusal) -> &'static str {
    use Refusal as R;
    match refusal {
        R::Unauthorized(_) => "the request does not say who sends it",
        R::NotAllowed
        | R::InTheClear
        | R::FromElsewhere
        | R::NotNamed
        | R::NameUnusable
        | R::NoFolder
        | R::CertificateMissing
        | R::CertificateNameless => "this user may not upload here",
        R::TooManyFailures { .. } => "too many wrong passwords",
        R::TicketsUnusable => "Kerberos cannot be used",
        R::TargetExists => "destination exists",
        R::ParentMissing | R::Obstructed(Obstacle::NoFolder) => {
            "folder of the destination is missing"
        }
        R::AccessDenied | R::Obstructed(_) => "no permission",
        R::TargetIsDirectory
        | R::TargetInvalid(_)
        | R::PacketTypeMissing
        | R::PacketTypeUnknown
        | R::FieldRepeated(_)
        | R::ProtocolsMissing
        | R::ProtocolUnsupported
        | R::SessionIdMissing
        | R::RangeMissing
        | R::RangeMalformed
        | R::LengthMismatch
        | R::LengthMissing
        | R::ChunkedRefused
        | R::ChunkedMalformed
        | R::UnexpectedBody
        | R::EncodingUnsupported
        | R::TotalChanged { .. }
        | R::NamesItself => "destination is a folder",
        R::LengthRequired => "no Content-Length",
        R::UploadTooLarge { .. } | R::FileTooLarge => "file over `upload_bytes_max`",
        R::FragmentTooLarge { .. } => "fragment over",
        R::Gap { .. } => "fragment beyond",
        R::SessionNotFound => "session unknown",
        R::DiskFull | R::NoRoom | R::QuotaExceeded | R::SpaceLow => "disk full",
        R::StagingFull => "as much waits for the object store",
        R::StorePending | R::StoreFailed => "the object store has not taken",
        R::DiskFailed => "the device fails",
        R::ReadOnly => "the file system is read-only",
        R::UploadsDisabled => "uploads are disabled",
        R::Application { status, .. } => match status {
            408 | 409 | 500 | 502..=504 => "the application answers 408",
            _ => "the application answers 4xx",
        },
        R::ApplicationTimedOut { .. } => "the application does not answer in time",
        R::ApplicationFailed { .. } => "the application cannot be reached",
        R::ReplyUrlTooLong { .. } => "the application's reply URL",
        R::AsBefore { last, .. } => row_of(last),
        R::EventsOwed
        | R::LedgerFails
        | R::TooManySessions
        | R::TooManyOfUser
        | R::Busy(_)
        | R::Unavailable => "too many sessions",
        R::DiskUnusable | R::Displaced | R::DiskAway | R::LocationMoved => {
            "the work directory is gone"
        }
    }
}

fn refusals() -> Vec<Refusal> {
    use Refusal as R;
    let received = 1;
    let mut all = vec![
        R::PacketTypeMissing,
        R::RangeMalformed,
        R::TotalChanged { was: 1, is: 2 },
        R::TargetIsDirectory,
        R::LengthRequired,
        R::Unauthorized(Box::new(Challenges {
            schemes: Vec::new(),
            realm: "".into(),
            why: NotShown::Nothing,
            token: Vec::new(),
        })),
        R::NotAllowed,
        R::InTheClear,
        R::FromElsewhere,
        R::NotNamed,
        R::NameUnusable,
        R::NoFolder,
        R::NamesItself,
        R::CertificateMissing,
        R::CertificateNameless,
        R::TicketsUnusable,
        R::TooManyFailures { retry_after_s: 1 },
        R::TargetExists,
        R::AccessDenied,
        R::ParentMissing,
        R::FragmentTooLarge { limit: 1 },
        R::Gap { received },
        R::SessionNotFound,
        R::UploadTooLarge { limit: 1 },
        R::FileTooLarge,
        R::DiskFull,
        R::NoRoom,
        R::QuotaExceeded,
        R::SpaceLow,
        R::StagingFull,
        R::StorePending,
        R::StoreFailed,
        R::ReadOnly,
        R::DiskFailed,
        R::UploadsDisabled,
        R::ApplicationFailed { received: None },
        R::ApplicationTimedOut { received },
        R::ReplyUrlTooLong { received },
        R::TooManySessions,
        R::TooManyOfUser,
        R::EventsOwed,
        R::LedgerFails,
        R::Busy(Scarce::Files),
        R::DiskUnusable,
        R::Unavailable,
        R::Displaced,
        R::LocationMoved,
    ];
    all.extend(Obstacle::ALL.map(R::Obstructed));
    all.extend(
        [400, 403, 404, 408, 409, 500, 501, 503, 505].map(|status| R::Application {
            status,
            received: Some(received),
        }),
    );
    all
}

/// What administrators read of a refusal is what its client is told, and does.
#[test]
fn the_table_of_refusals_is_the_programs() {
    let page = read("docs/operations.md");
    let mut used = BTreeSet::new();
    for refusal in refusals() {
        let begin = format!("| {}", row_of(&refusal));
        let row = page.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("no row begins with {begin}"));
        let cells: Vec<_> = row.split(" | ").map(str::trim).collect();
        let [_, answer, job, shown] = cells[..] else {
            panic!("four cells: {row}");
        };
        used.insert(row.to_owned());
        let (status, code) = (refusal.status(), refusal.hresult());
        let is_application = matches!(refusal, Refusal::Application { .. });
        if !is_application {
            assert!(answer.starts_with(&status.to_string()), "{status}: {row}");
        }
        let code_text = code.map(|code| format!("`{code:#010X}`").replace("0X", "0x"));
        if let (Some(code), false) = (&code_text, is_application) {
            assert!(answer.contains(code), "{code}: {row}");
        }
        let state = match refusal.reaction() {
            Reaction::GivesUp => "`Error`",
            Reaction::ComesBack => "`TransientError`",
            Reaction::Obeys | Reaction::StartsAgain => "the job goes on",
        };
        assert_eq!(job, state, "{row}");
        if job.starts_with('`') {
            // A bare status is shown under the facility of HTTP.
            let code = code_text.unwrap_or(format!("`{:#010X}`", 0x8019_0000 | u32::from(status)));
            let code = code.replace("0X", "0x");
            let is_shown =
                shown.contains(&code) || (is_application && shown.contains("0x80190000"));
            assert!(is_shown, "{code}: {row}");
        }
    }
    let rows = page
        .split("| When | Answer | Job |")
        .nth(1)
        .expect("the table");
    let rows = rows
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        assert!(used.contains(row), "nothing is refused so: {row}");
    }
}

#[test]
fn the_readme_is_short_and_of_this_version() {
    let readme = read("README.md");
    assert!(readme.lines().count() < 230, "the rest belongs into docs/");
    let version = concat!("version ", env!("CARGO_PKG_VERSION"));
    assert!(readme.contains(version), "{version}");
    let rust = read("Cargo.toml");
    let rust = rust
        .split("rust-version = \"")
        .nth(1)
        .expect("it is promised");
    let rust = rust.split('"').next().unwrap();
    assert!(
        readme.contains(&format!("({rust} or newer)")),
        "Rust {rust}"
    );
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
            _ => None,
        });
    kept.collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = prose(&read(&page));
        let folder = Path::new(&page).parent().unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&page),
                file => folder.join(file),
            };
            let target = target.to_str().unwrap().replace("docs/../", "");
            assert!(top().join(&target).exists(), "{page}: {link}");
            if !part.is_empty() {
                let there = prose(&read(&target));
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|line| anchor(line) == part), "{page}: {link}");
            }
        }
    }
    assert!(links > 20, "{links}");
}

/// The longest page begins with a list of all its parts.
#[test]
fn the_list_of_contents_has_every_heading() {
    let page = read("docs/operations.md");
    let (list, rest) = page.split_once("\n## ").unwrap();
    let rest = format!("\n## {rest}");
    let rest = prose(&rest);
    let headings = rest.lines().filter(|line| line.starts_with("## "));
    let missing: Vec<_> = headings
        .filter(|heading| !list.contains(&format!("](#{})", anchor(heading))))
        .collect();
    assert_eq!(missing, [""; 0]);
}

/// The package has the pages, and what they link to, beside each other as they are here. Some have
/// another name there.
#[test]
fn every_link_leads_somewhere_in_the_package_too() {
    let renamed = ["LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md"];
    assert!(read("scripts/package").contains("](LICENSE-[A-Z]*)|](copyright)|g"));
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array();
    let assets: Vec<[&str; 2]> = (assets.unwrap().iter())
        .map(|asset| [0, 1].map(|at| asset[at].as_str().unwrap()))
        .collect();
    let is_packed = |file: &str| {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let there = format!("usr/share/doc/bitsd/{folder}");
        assets.iter().any(|[from, to]| {
            let (_, pattern) = from.rsplit_once('/').unwrap_or(("", from));
            let is_named = match pattern.strip_prefix('*') {
                Some(ending) => name.ends_with(ending),
                None => pattern == name,
            };
            is_named && to.trim_end_matches('/') == there.trim_end_matches('/')
        })
    };
    let mut links = 0;
    for page in pages().iter().filter(|page| *page != "CONTRIBUTING.md") {
        let text = prose(&read(page));
        let folder = Path::new(page).parent().unwrap();
        for rest in text.split("](").skip(1) {
            let link = rest.split([')', '#']).next().unwrap();
            if link.contains("://") || link.is_empty() {
                continue;
            }
            let file = folder.join(link);
            let file = file.to_str().unwrap().replace("docs/../", "");
            links += 1;
            assert!(
                is_packed(&file) || renamed.contains(&&*file),
                "{page}: {link}"
            );
        }
    }
    assert!(links > 20, "{links}");
}

/// Files of ours that are named in backticks, or as commands, are there.
#[test]
fn every_file_that_is_named_exists() {
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        let is_path = |c: char| c.is_ascii_alphanumeric() || "/_-.".contains(c);
        for word in text.split(|c: char| !is_path(c)) {
            let word = word.trim_end_matches(['.', '/']);
            let is_ours = [
                "src/",
                "tests/",
                "scripts/",
                "docs/",
                "benches/",
                "examples/",
            ];
            if is_ours.iter().any(|folder| word.starts_with(folder)) {
                named += 1;
                assert!(top().join(word).exists(), "{page}: {word}");
            }
        }
    }
    assert!(named > 20, "{named}");
    let glossary = read("docs/glossary.md");
    for word in glossary.split('`').skip(1).step_by(2) {
        let is_file = word.ends_with(".rs") && !word.starts_with("tests/");
        let path = top().join("src").join(word);
        assert!(!is_file || path.exists(), "docs/glossary.md: {word}");
        // A type by its path: its module is a file, or a folder, in which it is declared or named.
        if let Some((module, name)) = word.rsplit_once("::") {
            let module = format!("src/{}", module.replace("::", "/"));
            let file = [format!("{module}.rs"), format!("{module}/mod.rs")];
            let mut file = file.iter().filter(|file| top().join(file).exists());
            let file = file
                .next()
                .unwrap_or_else(|| panic!("docs/glossary.md: {word}"));
            assert!(read(file).contains(name), "docs/glossary.md: {word}");
        }
    }
}
