//! Where the file of a session goes, as its record says it.

use serde::{Deserialize, Serialize};

/// Where a file was given its name, by the settings of that moment: what is told of it later says
/// where it is, whatever the settings say by then.
///
/// Of a session that ended without a file only the location is recorded, and of what goes into an
/// object store no root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPlace {
    /// The prefix of the location.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// The root, absolute and without links.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub root: String,
    /// The path beneath it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

impl RecordedPlace {
    /// Of a session that ended without a file, beneath this prefix.
    pub fn of_end(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            ..Self::default()
        }
    }
}
