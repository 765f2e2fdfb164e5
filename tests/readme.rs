//! The README says what the program says: its settings table, its flags, and its contract.

use std::process::Command;

use bitsd::config::{Config, Download, Flags, Scope, SettingsFile, settings_reference};

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_settings_table_is_the_programs() {
    let mut table = String::from(
        "| Key | Default | Values | Meaning | In a location | At a reload |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for setting in settings_reference() {
        let cell = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} | {} |\n",
            setting.key,
            setting.default,
            cell(&setting.bounds),
            cell(setting.meaning),
            match setting.scope {
                Scope::Server | Scope::Limits => "",
                Scope::Both => "yes",
                Scope::Location => "only there",
            },
            if setting.is_live { "yes" } else { "" },
        ));
    }
    assert!(
        readme().contains(&table),
        "the README's table should be:\n{table}"
    );
}

#[test]
fn the_table_for_people_of_iis_is_the_programs() {
    let readme = readme();
    for setting in settings_reference() {
        for name in setting.iis {
            let mut lines = readme.lines().filter(|line| line.starts_with("| `BITS"));
            let line = lines.find(|line| line.contains(&format!("`{name}`")));
            let line = line.unwrap_or_else(|| panic!("{name} is not in the README's table"));
            assert!(line.contains(&format!("| `{}` |", setting.key)), "{line}");
        }
    }
}

/// What the examples of settings in a file come to: all must be right.
fn examples(name: &str) -> Vec<Config> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (text.split("```toml\n").skip(1))
        .map(|rest| {
            let example = rest.split("```").next().unwrap();
            let file = SettingsFile::parse(&path, example.to_owned()).unwrap();
            Config::resolve(Flags::default(), Some(file)).unwrap()
        })
        .collect()
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
}

#[test]
fn the_example_of_two_locations_means_what_it_says() {
    let configs = examples("README.md");
    assert!(configs.len() > 1, "the one of two locations, and others");
    let config = &configs[0];
    let logs = config.location("logs/2026/a.log");
    assert_eq!(config.roots[logs.root], std::path::Path::new("/srv/logs"));
    assert_eq!(logs.beneath("logs/2026/a.log"), Some("2026/a.log"));
    assert!(logs.policy.create_dirs && !logs.policy.allow_overwrite);
    let reports = config.location("reports/new/a.xml");
    assert!(reports.notification.is_some());
    assert_eq!(
        config.roots[reports.root],
        std::path::Path::new("/srv/uploads")
    );
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
    let readme = readme();
    for command in ["serve", "put", "check", "bench"] {
        let help = Command::new(env!("CARGO_BIN_EXE_bitsd"))
            .args([command, "--help"])
            .output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let mut flags: Vec<_> = words
            .filter(|word| word.starts_with("--") && word.len() > 3)
            .collect();
        flags.sort_unstable();
        flags.dedup();
        assert!(flags.len() > 3, "{command} has flags: {help}");
        for flag in flags
            .into_iter()
            .filter(|flag| !["--help", "--version"].contains(flag))
        {
            assert!(
                readme.contains(flag),
                "{command} {flag} is not in the README"
            );
        }
    }
}

#[test]
fn the_contract_is_the_stores() {
    let store = include_str!("../src/server/store.rs");
    let rows: Vec<_> = store
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .collect();
    assert!(rows.len() >= 5, "the contract is a table");
    let readme = readme();
    for row in rows {
        assert!(
            readme.contains(row),
            "not in the README in the same words: {row}"
        );
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let readme = readme();
    let unit = readme.split("```ini\n").nth(1).expect("the unit");
    let unit = unit.split("```").next().expect("its end");
    for line in [
        "RequiresMountsFor=",
        "RestartPreventExitStatus=2",
        "check --quiet",
    ] {
        assert!(unit.contains(line), "{line}");
    }
    // The program need not be where the unit has it; and with the lines that are to be filled in.
    let unit = unit
        .replace("/usr/local/bin/bitsd", "/bin/true")
        .replace("\n#ReadWrite", "\nReadWrite");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bitsd.service");
    std::fs::write(&path, unit).unwrap();
    let verify = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let Ok(verify) = verify else {
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "systemd-analyze is missing"
        );
        return eprintln!("SKIPPED: there is no systemd-analyze here");
    };
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && said.is_empty(), "{said}");
}
