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
}
