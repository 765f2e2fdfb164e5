//! Whether a store can keep an object from being replaced.
//!
//! Of the stores that speak S3, some ignore `If-None-Match`, some know it for a whole object and
//! not for one in parts. So it is tried with an object of our own, before anybody relies on it.

use super::bucket::{Bucket, Object, StoreTrouble};
use super::standing;
use crate::config::ObjectStore;

/// What is wrong with a store, in words.
pub type Wrong = &'static str;

/// What lets a trial be removed, by the names of AWS.
pub const REMEDY_OF_LEFT: &str =
    "let the server remove objects and end uploads (s3:DeleteObject, s3:AbortMultipartUpload)";

/// The key of a probe: nobody else has it.
pub fn name(store: &ObjectStore, random: u64, number: u64) -> String {
    format!("{}.bitsd-probe-{random:016x}-{number}", store.prefix)
}

/// What came of a trial.
pub struct ProbeOutcome {
    /// What the store has shown; an error: nobody knows.
    pub shown: Result<Result<(), Wrong>, StoreTrouble>,
    /// Why what the trial has made may be there still.
    pub left: Option<StoreTrouble>,
}

/// Writes an object twice, in both ways. `name` is one that nobody else has.
pub async fn try_it<B: Bucket>(bucket: &B, name: &str) -> ProbeOutcome {
    let object = Object {
        key: name.to_owned(),
        session: "probe".to_owned(),
        bytes: 1,
        sha256: None,
        may_replace: false,
    };
    let source = B::Source::from(vec![b'?']);
    // It has to show it: a portal or a proxy may answer 200 to whatever is asked.
    let mut left = None;
    let shown = match standing::put(bucket, &object, &source).await {
        Ok(_) => twice(bucket, &object, &source, &mut left).await,
        Err(trouble) => Err(trouble),
    };
    // Also where nobody knows whether it is there. What is left of it is one byte.
    left = bucket.remove(name).await.err().or(left);
    ProbeOutcome { shown, left }
}

async fn twice<B: Bucket>(
    bucket: &B,
    object: &Object,
    source: &B::Source,
    left: &mut Option<StoreTrouble>,
) -> Result<Result<(), Wrong>, StoreTrouble> {
    match bucket.put(object, source).await {
        Err(StoreTrouble::Exists) => {}
        Err(trouble) => return Err(trouble),
        Ok(_) => return Ok(Err("replaces an object that is there")),
    }
    let key = &object.key;
    let upload = bucket.begin(object).await?;
    let part = bucket.part(key, &upload, 1, source, 0..object.bytes).await;
    let completed = match part {
        Ok(part) => bucket.complete(object, &upload, &[part]).await,
        Err(trouble) => Err(trouble),
    };
    if completed.is_err() {
        *left = bucket.abort(key, &upload).await.err();
    }
    match completed {
        Err(StoreTrouble::Exists) => Ok(Ok(())),
        // Some words of a success nobody can read.
        Ok(_) | Err(StoreTrouble::Unreadable(_)) => {
            Ok(Err("replaces an object that is there by one in parts"))
        }
        Err(trouble) => Err(trouble),
    }
}
