//! The README says what the program says: its settings table, its flags, and its contract.

use std::process::Command;

use bitsd::config::settings_reference;

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_settings_table_is_the_programs() {
    let mut table =
        String::from("| Key | Default | Values | Meaning |\n| --- | --- | --- | --- |\n");
    for setting in settings_reference() {
        let cell = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | `{}` | {} | {} |\n",
            setting.key,
            setting.default,
            cell(&setting.bounds),
            cell(setting.meaning),
        ));
    }
    assert!(
        readme().contains(&table),
        "the README's table should be:\n{table}"
    );
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
