//! Text that people write in an editor, or paste out of a web page: where it is none, and what in
//! it looks like something else.

use std::fmt;

/// The first byte that is not UTF-8, and where it stands; lines and columns (in characters) count
/// from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8 {
    pub line: usize,
    pub column: usize,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Two bytes for each character, as Windows calls it "Unicode".
    Utf16,
    /// This one, as Latin-1 and its like have them.
    Byte(u8),
}

impl fmt::Display for NotUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Utf16 => f.write_str("it is UTF-16, and not text in UTF-8: save it as UTF-8"),
            What::Byte(byte) => write!(
                f,
                "the byte 0x{byte:02X} is not UTF-8, as if the file were in Latin-1 or were none of text: save it as UTF-8"
            ),
        }
    }
}

/// The text, or where it is none.
///
/// # Errors
/// [`NotUtf8`]
pub fn text(bytes: Vec<u8>) -> Result<String, NotUtf8> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let (before, after) = bytes.split_at(good);
        let before = String::from_utf8_lossy(before);
        let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
        NotUtf8 {
            line: before.matches('\n').count() + 1,
            column: before
                .rsplit('\n')
                .next()
                .map_or(0, |line| line.chars().count())
                + 1,
            what: match is_utf16 {
                true => What::Utf16,
                false => What::Byte(after.first().copied().unwrap_or_default()),
            },
        }
    })
}

/// The first character of a line, outside of texts and comments, that looks like one of TOML's and
/// is another one: where it begins, what it is called, and what to write instead.
pub fn lookalike(line: &str) -> Option<(usize, char, &'static str)> {
    let mut quote = None;
    let mut is_escaped = false;
    for (at, found) in line.char_indices() {
        match (quote, found) {
            (None, '#') => return None,
            (None, '"' | '\'') => quote = Some(found),
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some('"'), '\\') => is_escaped = true,
            (Some(begun), _) if begun == found => quote = None,
            (None, _) => {
                if let Some((_, what)) = LOOKALIKES.iter().find(|(all, _)| all.contains(&found)) {
                    return Some((at, found, what));
                }
            }
            (Some(_), _) => {}
        }
    }
    None
}

const LOOKALIKES: [(&[char], &str); 4] = [
    (
        &['\u{a0}', '\u{2007}', '\u{202f}'],
        "a no-break space, as web pages have it: type a space instead",
    ),
    (
        &[
            '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}',
        ],
        "a character that is not seen: delete it",
    ),
    (
        &[
            '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{ab}', '\u{bb}',
        ],
        "a quotation mark of a word processor: type \" instead",
    ),
    (
        &['\u{2002}', '\u{2003}', '\u{2009}', '\u{3000}'],
        "a space of a width of its own: type a space instead",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_none_has_its_place() {
        let place = |bytes: &[u8]| {
            let why = text(bytes.to_vec()).unwrap_err();
            (why.line, why.column, why.to_string())
        };
        let (line, column, why) = place(b"a = 1\n\xc3\xa4 = \xe4\n");
        assert_eq!((line, column), (2, 5));
        assert!(why.contains("0xE4") && why.contains("UTF-8"), "{why}");
        let (line, column, why) = place(b"\xff\xfea\0");
        assert_eq!((line, column), (1, 1));
        assert!(why.contains("UTF-16"), "{why}");
        assert_eq!(text(b"a".to_vec()).as_deref(), Ok("a"));
    }

    #[test]
    fn lookalikes_count_outside_of_texts_and_comments() {
        let at = |line| lookalike(line).map(|(at, ..)| at);
        assert_eq!(at("root\u{a0}= \"a\""), Some(4));
        assert_eq!(at("root = \u{201c}a\u{201d}"), Some(7));
        assert_eq!(at("root = \"\\\"\u{a0}\"\u{200b}"), Some(13));
        for good in ["a = \"\u{a0}\"", "a = '\u{a0}'", "a = 1 # \u{a0}", "a = 1"] {
            assert_eq!(at(good), None, "{good}");
        }
    }
}
