//! The note of an upload in parts: what must be known to go on with it, or to end it, after a
//! crash. It is a file of the work directory beside the part, and is there before the store is
//! asked for anything that would cost money for ever.

use std::io;

use serde::{Deserialize, Serialize};

use crate::config::ObjectStore;

/// What is known of an upload in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Where the store is, so that it is found also when the settings have forgotten it.
    pub place: StorePlace,
    pub key: String,
    /// The store's name for it; `None` while it is being asked for, or after it was lost.
    #[serde(default)]
    pub upload: Option<String>,
    /// How often one was asked for: where it was more than once, an answer may have been lost.
    #[serde(default)]
    pub begun: u32,
    /// What its parts were cut by.
    pub part_bytes: u64,
    /// The boot of this machine in which it was begun.
    #[serde(default)]
    pub boot: Option<String>,
}

/// Where a bucket is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StorePlace {
    pub bucket: String,
    pub region: String,
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub path_style: bool,
    #[serde(default)]
    pub ca: std::path::PathBuf,
}

impl From<&ObjectStore> for StorePlace {
    fn from(store: &ObjectStore) -> Self {
        Self {
            bucket: store.bucket.clone(),
            region: store.region.clone(),
            endpoint: store.endpoint.clone(),
            path_style: store.path_style,
            ca: store.ca.clone(),
        }
    }
}

/// Where the notes of all sessions are.
#[allow(async_fn_in_trait)]
pub trait Notebook {
    /// The note of a session, if there is one.
    async fn read(&self, session: &str) -> io::Result<Option<Note>>;
    /// Writes it, so that it survives a power cut.
    async fn write(&self, session: &str, note: &Note) -> io::Result<()>;
    /// Removes it; `Ok` if there is none.
    async fn remove(&self, session: &str) -> io::Result<()>;
    /// The uploads that any note names.
    async fn named(&self) -> io::Result<Vec<String>>;
}
