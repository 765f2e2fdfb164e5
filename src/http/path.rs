//! Request target in, confined upload path out.

/// A destination beneath the root: relative, clean segments joined by `/`, never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadPath {
    text: String,
}

impl UploadPath {
    /// The path without a leading slash, e.g. `in/report.bin`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The last segment.
    pub fn file_name(&self) -> &str {
        todo!()
    }
    /// Everything before the last segment; `None` for a file in the root itself.
    pub fn parent(&self) -> Option<&str> {
        todo!()
    }
    /// Reads back what [`UploadPath::as_str`] gave (e.g. from a session record), under the same rules.
    ///
    /// # Errors
    /// [`BadTarget`] if it is not such a text.
    pub fn from_text(_text: &str) -> Result<Self, BadTarget> {
        todo!()
    }
}

/// A parsed request target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the upload goes.
    pub path: UploadPath,
    /// The query as sent, without `?`.
    pub query: Option<String>,
}

/// Why a request target was refused; one variant per exact cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTarget {
    /// Placeholder.
    Empty,
}

impl std::fmt::Display for BadTarget {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}

/// Parses an origin-form or absolute-form request target.
///
/// # Errors
/// [`BadTarget`] if it names nothing that may be uploaded to.
pub fn parse_target(_target: &str) -> Result<Target, BadTarget> {
    todo!()
}
