//! Permissions of files and folders, written in octal digits as `chmod` takes them.

use super::form::Value;
use super::shown::quoted;
use super::table::Setting;
use super::text::Text;

/// What `file_mode` takes.
pub(super) const FILE_MODE: Text = Text {
    parse: parse_file_mode,
    takes: "octal digits from \"0400\" to \"0777\" with which its owner can read it",
    pattern: "^0*[4-7][0-7]{2}$",
    hint: meant_file_mode,
};
/// What `dir_mode` takes.
pub(super) const DIR_MODE: Text = Text {
    parse: parse_dir_mode,
    takes: "octal digits from \"0700\" to \"0777\" with which its owner can use it",
    pattern: "^0*7[0-7]{2}$",
    hint: meant_dir_mode,
};

/// Read, write and execute, for owner, group and others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    /// From the lowest nine bits of a number.
    pub const fn new(bits: u16) -> Self {
        Self(bits & 0o777)
    }

    /// As a number.
    pub const fn bits(self) -> u16 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let is_octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let bits = u16::from_str_radix(text, 8).ok().filter(|_| is_octal)?;
        (text.len() >= 3 && bits <= 0o777).then_some(Self(bits))
    }

    fn with(text: &str, needed: u16) -> Option<String> {
        let permissions = Self::parse(text).filter(|given| given.0 & needed == needed)?;
        Some(format!("{:04o}", permissions.0))
    }
}

/// The mode of a file.
fn parse_file_mode(text: &str) -> Option<String> {
    Permissions::with(text, 0o400)
}

/// The mode of a folder: we make files in it.
fn parse_dir_mode(text: &str) -> Option<String> {
    Permissions::with(text, 0o700)
}

/// `640` and `0o640`, as a number and as a text, are meant well.
fn meant(text: &str, parse: fn(&str) -> Option<String>) -> Option<String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    parse(digits).map(|mode| format!("; did you mean {}?", quoted(&mode)))
}

fn meant_file_mode(text: &str) -> Option<String> {
    meant(text, parse_file_mode)
}

fn meant_dir_mode(text: &str) -> Option<String> {
    meant(text, parse_dir_mode)
}

/// The empty text is none.
impl Setting for Option<Permissions> {
    fn to_value(&self) -> Value {
        let digits = self.map(|permissions| format!("{:04o}", permissions.0));
        Value::Text(digits.unwrap_or_default())
    }

    fn take(&mut self, value: Value) {
        if let Value::Text(text) = value {
            *self = Permissions::parse(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_usable_by_their_owner() {
        assert_eq!(parse_file_mode("0640").as_deref(), Some("0640"));
        assert_eq!(parse_file_mode("644").as_deref(), Some("0644"));
        assert_eq!(parse_dir_mode("0750").as_deref(), Some("0750"));
        for text in [
            "",
            "64",
            "0689",
            "+640",
            "2640",
            "01000",
            "0240",
            "rw-r--r--",
        ] {
            assert_eq!(parse_file_mode(text), None, "{text:?}");
        }
        assert_eq!(parse_dir_mode("0640"), None);
    }

    #[test]
    fn a_mode_becomes_what_was_written() {
        let mut permissions = None;
        Setting::take(&mut permissions, Value::Text("0640".to_owned()));
        assert_eq!(permissions.map(Permissions::bits), Some(0o640));
        assert_eq!(permissions.to_value(), Value::Text("0640".to_owned()));
        Setting::take(&mut permissions, Value::Text(String::new()));
        assert_eq!(permissions, None);
    }
}
