//! Texts that have a reader of their own.

/// The text as it is kept, if it is one.
pub(super) type Reader = fn(&str) -> Option<String>;

/// What some texts have in common.
#[derive(Debug)]
pub(super) struct Text {
    pub parse: Reader,
    /// What they are, in words.
    pub takes: &'static str,
    /// A regular expression that all of them match, for editors. It may match others too.
    pub pattern: &'static str,
    /// What somebody meant, or what is wrong, where one that is refused shows it: the end of a
    /// sentence.
    pub hint: Reader,
}

/// There is nothing more to say than what is taken.
pub(super) fn no_hint(_: &str) -> Option<String> {
    None
}
