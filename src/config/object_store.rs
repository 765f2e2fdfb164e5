//! What an object store among the settings needs of the others, what does not go with it, and how
//! files are cut for it.

use super::complaint::Complaint;
use super::error::ConfigError;
use super::form::Value;
use super::given::Given;
use super::keys::{Location, NO_STORE, ObjectStore, Policy};
use super::words::{Download, Durability, Publish};

/// S3 takes 10,000 parts of a file.
const PARTS_MAX: u64 = 9_000;
const MIB: u64 = 1 << 20;

impl ObjectStore {
    /// Bytes of the parts of a file of so many: as the setting says, or more where there would be
    /// too many.
    pub fn bytes_of_parts(bytes: u64, setting: u64) -> u64 {
        match bytes.div_ceil(setting) > PARTS_MAX {
            true => bytes.div_ceil(PARTS_MAX).div_ceil(MIB) * MIB,
            false => setting,
        }
    }
}

/// `None` if files go beneath the root. What was not tried with a store is refused.
pub(super) fn resolve_store(given: &Given) -> Result<Option<ObjectStore>, ConfigError> {
    let none = Value::Text(NO_STORE.to_owned());
    let Some(kind) = given.get("store").filter(|kind| kind.value != none) else {
        return Ok(None);
    };
    let refuse = |needed: &str| Err(kind.refused(Complaint::Needs(needed.to_owned())));
    if !cfg!(feature = "s3") {
        return refuse("a bitsd that was built with the feature `s3`");
    }
    if given.said("store_bucket").is_none() {
        return refuse("store_bucket: the name of the bucket");
    }
    let policy: Policy = given.fill();
    let location: Location = given.fill();
    if policy.durability == Durability::None {
        return refuse(
            "durability = \"upload\" or \"fragment\": a file stays here until the store has it",
        );
    }
    if policy.publish == Publish::LastFragment {
        return refuse("publish = \"close\"");
    }
    if location.download != Download::None {
        return refuse("download = \"none\": what is in a store is read from there");
    }
    Ok(Some(given.fill()))
}
