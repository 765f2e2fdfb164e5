//! What somebody meant who wrote what a key does not take: the end of a sentence.

use super::shown::quoted;
use super::url::without_secrets;

/// Somebody wants nothing of it.
pub(super) fn is_none(written: &str) -> bool {
    const WORDS: [&str; 5] = ["none", "no", "off", "false", "anonymous"];
    (WORDS.iter()).any(|word| word.eq_ignore_ascii_case(written))
}

/// Somebody wants no bound, and does not know the word for it.
pub(super) fn no_bound(written: &str) -> Option<String> {
    const WORDS: [&str; 8] = [
        "never", "none", "no", "off", "infinite", "infinity", "inf", "-1",
    ];
    let is_word = |word: &&str| word.eq_ignore_ascii_case(written);
    let is_near = strsim::normalized_damerau_levenshtein(&written.to_lowercase(), UNLIMITED);
    (WORDS.iter().any(is_word) || is_near >= LIKENESS_MIN)
        .then(|| format!("; did you mean {}?", quoted(UNLIMITED)))
}

/// Somebody means the whole server, or writes a whole URL.
pub(super) fn of_prefix(written: &str) -> Option<String> {
    if matches!(written, "" | "/") {
        return Some("; what holds everywhere stands above all tables".to_owned());
    }
    // A slash in a password begins no path.
    let written = without_secrets(written);
    let (_, rest) = written.split_once("://")?;
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = path.split('?').next().unwrap_or_default();
    Some(match path {
        "" => "; a URL without a path is everything, which stands above all tables".to_owned(),
        path => format!("; did you mean {}?", quoted(&format!("/{path}"))),
    })
}

/// The word that somebody meant.
pub(super) fn nearest(words: &[&str], text: &str) -> Option<String> {
    // A number that is near is another one.
    let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    if words.iter().all(is_number) {
        let bare = text.to_ascii_lowercase();
        let bare = bare.trim_start_matches(|c: char| !c.is_ascii_digit());
        let word = words.iter().find(|word| **word == bare)?;
        return Some(format!("; did you mean {}?", quoted(word)));
    }
    let known = |word: &str| words.iter().find(|known| **known == word);
    let is_named = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case(text);
    let mut other = ELSEWHERE_CALLED.iter().filter(is_named);
    let other = other.find_map(|(_, word)| known(word));
    // The words have hyphens.
    let written = text.replace('_', "-").to_ascii_lowercase();
    let alike = |word: &&&str| strsim::normalized_damerau_levenshtein(&written, word);
    let near = words.iter().filter(|word| alike(word) >= LIKENESS_MIN);
    let near = || near.max_by(|one, other| alike(one).total_cmp(&alike(other)));
    let word = other.or_else(near)?;
    Some(format!("; did you mean {}?", quoted(word)))
}

/// Words of other programs for what has another one here, IIS among them.
const ELSEWHERE_CALLED: [(&str, &str); 9] = [
    ("warning", "warn"),
    ("error", "warn"),
    ("notice", "info"),
    ("trace", "debug"),
    ("verbose", "debug"),
    // BITSServerNotificationType, a number there. `none` is among the words of other keys, too.
    ("1", "by-reference"),
    ("2", "by-value"),
    ("sha2", "sha-256"),
    ("sha", "sha-1"),
];

/// Two slips in a short word; more would be guessing.
pub(super) const LIKENESS_MIN: f64 = 0.6;
/// The word for no bound.
pub(super) const UNLIMITED: &str = "unlimited";
