//! Characters that show nothing themselves but change how the others are shown. Clients choose
//! names, so whatever shows one to a person looks here first.

/// From the first to the last of each pair, in Unicode's order. Control characters; what is of no
/// width; what turns the direction of the text around it; separators of lines; tags.
pub const UNSEEN: [(char, char); 11] = [
    ('\0', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether it is one of them.
pub fn is_unseen(c: char) -> bool {
    // Most are none.
    !matches!(c, ' '..='~') && (UNSEEN.iter()).any(|(first, last)| (*first..=*last).contains(&c))
}

/// A text with something visible in the place of each.
pub fn replace(text: &str, by: char) -> String {
    let chars = text.chars();
    chars.map(|c| if is_unseen(c) { by } else { c }).collect()
}

/// The same for a text of several lines, which stay.
pub fn replace_within_lines(text: &str, by: char) -> String {
    let chars = text.chars();
    let shown = |c| match is_unseen(c) && c != '\n' {
        true => by,
        false => c,
    };
    chars.map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_is_unseen_and_letters_of_any_script_are_not() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            if c.is_control() {
                assert!(is_unseen(c), "{c:?}");
            }
            if c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic() {
                assert!(!is_unseen(c), "{c:?}");
            }
        }
        assert_eq!(
            replace("a\u{202e}gpj.\u{85}\u{e0041}ä\n", '?'),
            "a?gpj.??ä?"
        );
        assert_eq!(replace_within_lines("a\rb\n\u{1b}c\n", '?'), "a?b\n?c\n");
    }
}
