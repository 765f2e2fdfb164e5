//! Paths as a person may paste them into a shell: remedies are commands, and a path may hold blanks
//! and quotes.

use std::path::Path;

/// A path as one word of a shell, in quotes where it needs them.
pub fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    // What begins with a hyphen would be a flag.
    let text = match text.starts_with('-') {
        true => format!("./{text}"),
        false => text.into_owned(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=+:,@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        // In single quotes nothing has a meaning but the quote itself.
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for text in [
            "/srv/up-loads_1.d",
            "/srv/my up",
            "/srv/it's",
            "/srv/$(reboot)`x`;&|*?[a]~\"\\",
            "-rf",
            "/srv/\u{e4}",
            "~/x",
            "a\nb",
        ] {
            let script = format!("printf %s {}", word(Path::new(text)));
            let said = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            let said = String::from_utf8(said.unwrap().stdout).unwrap();
            assert_eq!(said.trim_start_matches("./"), text, "{script}");
        }
        assert_eq!(word(Path::new("/srv/uploads")), "/srv/uploads");
    }
}
