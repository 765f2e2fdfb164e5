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
    let object = object(name, false);
    let source = B::Source::from(vec![b'?']);
    let (made, may_be_there) = make(bucket, &object, &source).await;
    let mut left = None;
    let shown = match made {
        Ok(()) => twice(bucket, &object, &source, &mut left).await,
        Err(trouble) => Err(trouble),
    };
    if may_be_there {
        left = bucket.remove(name).await.err().or(left);
    }
    ProbeOutcome { shown, left }
}

/// Writes an object, to see whether the store takes one at all.
pub async fn ask<B: Bucket>(bucket: &B, name: &str, may_replace: bool) -> ProbeOutcome {
    let source = B::Source::from(vec![b'?']);
    let (made, may_be_there) = make(bucket, &object(name, may_replace), &source).await;
    let left = match may_be_there {
        true => bucket.remove(name).await.err(),
        false => None,
    };
    let shown = made.map(Ok);
    ProbeOutcome { shown, left }
}

/// One byte.
fn object(name: &str, may_replace: bool) -> Object {
    Object {
        key: name.to_owned(),
        session: "probe".to_owned(),
        bytes: 1,
        sha256: None,
        may_replace,
    }
}

/// Whether a store shows that it has taken an object: a portal or a proxy may answer 200 to
/// whatever is asked. And whether something may be there, which it is also where nobody knows: of
/// one that was clearly refused there is nothing to remove.
async fn make<B: Bucket>(
    bucket: &B,
    object: &Object,
    source: &B::Source,
) -> (Result<(), StoreTrouble>, bool) {
    let answer = bucket.put(object, source).await;
    let is_refused = matches!(
        answer,
        Err(StoreTrouble::Refused(_) | StoreTrouble::Settings(_) | StoreTrouble::Unsigned(_))
    );
    let made = standing::shown(bucket, object, source, answer).await;
    (made.map(drop), !is_refused)
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
