//! What is asked of the outside of an object store, and what is answered
//! ([`super::floor::Floor::store_object`]).

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::bits::session_id::SessionId;
use crate::config::ObjectStore;
use crate::custody::object::StoredObject;
use crate::http::digest::Hex;
use crate::vault::disk::Shelf;

/// A file that is to become an object, all decided.
#[derive(Clone, Debug)]
pub struct ObjectOrder {
    /// Whose file it is; the object bears it as a mark.
    pub session: SessionId,
    /// Where the file is.
    pub shelf: Shelf,
    /// And its name there.
    pub part: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, where it is known.
    pub sha256: Option<[u8; 32]>,
    /// Whether it has one, or will have one when it is whole.
    pub is_hashed: bool,
    /// What the object is to be called.
    pub key: String,
    /// What is to stand beside it when it is there, if anything is.
    pub digest_file: Option<DigestFile>,
    /// Whether another object of that name gives way.
    pub may_replace: bool,
    /// Its client was told that it is kept: it is tried until the store has it, whatever the store
    /// says meanwhile.
    pub is_promised: bool,
    /// The store may have been told of it before, by an earlier life of the server or a try that
    /// was given up.
    pub is_repeat: bool,
    /// An application was told of it, and may have changed it since parts of it were sent ahead.
    pub was_told: bool,
    /// Which store.
    pub store: Arc<ObjectStore>,
}

/// A digest file, as a second object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestFile {
    pub key: String,
    /// The name of the file that it speaks of.
    pub of: String,
}

impl DigestFile {
    /// As `sha256sum` writes it.
    pub fn text(&self, sha256: &[u8; 32]) -> String {
        format!("{}  {}\n", Hex(sha256), self.of)
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storing {
    /// It goes on.
    UnderWay,
    /// The store has the object, whole.
    Done(StoredObject),
}

/// An object that the store has, while nobody has noted that yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeObject {
    pub object: StoredObject,
    /// What goes with it was made too, or is not to be.
    pub is_all: bool,
}

/// The store does not have it, and will not get it before it is asked for again.
#[derive(Debug)]
pub enum ObjectError {
    /// Another object has the name.
    Exists,
    /// The store refuses it, or cannot be used.
    Refused,
    /// The file cannot be read.
    Unreadable(io::Error),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("another object has that name"),
            Self::Refused => f.write_str("the store refuses it"),
            Self::Unreadable(error) => write!(f, "the file cannot be read: {error}"),
        }
    }
}
