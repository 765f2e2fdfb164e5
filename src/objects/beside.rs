//! The digest file of an object: an object itself, which is made after it.

use super::bucket::{Bucket, Object, StoreTrouble};
use super::standing::{self, ObjectStanding};

/// Makes a small object, unless it stands there. Whether it is ours that stands there then: where
/// another one does, and may not be replaced, that stays.
///
/// # Errors
/// [`StoreTrouble`]; it may be asked for again.
pub async fn put_beside<B: Bucket>(
    bucket: &B,
    object: &Object,
    text: &[u8],
) -> Result<bool, StoreTrouble> {
    match standing::look(bucket, object).await? {
        ObjectStanding::Ours(_) => return Ok(true),
        ObjectStanding::Other if !object.may_replace => return Ok(false),
        ObjectStanding::Other | ObjectStanding::Nothing => {}
    }
    let source = B::Source::from(text.to_vec());
    match standing::put(bucket, object, &source).await {
        Ok(_) => Ok(true),
        Err(StoreTrouble::Exists) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}
