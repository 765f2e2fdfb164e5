//! The digest file of an object: an object itself, which is made after it.

use super::bucket::{Bucket, Object, StoreTrouble};

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
    match is_ours(bucket, object).await? {
        Some(true) => return Ok(true),
        Some(false) if !object.may_replace => return Ok(false),
        Some(false) | None => {}
    }
    let source = B::Source::from(text.to_vec());
    match bucket.put(object, &source).await {
        // As with every object: it has to be shown.
        Ok(_) => match is_ours(bucket, object).await? {
            Some(true) => Ok(true),
            _ => Err(StoreTrouble::Doubt(
                "it says that it has the object, and does not show it".to_owned(),
            )),
        },
        Err(StoreTrouble::Exists) => {
            let doubt = || StoreTrouble::Doubt("there, and not there".to_owned());
            is_ours(bucket, object).await?.ok_or_else(doubt)
        }
        Err(trouble) => Err(trouble),
    }
}

/// Whether what stands under a key is ours; `None` if nothing does.
async fn is_ours<B: Bucket>(bucket: &B, object: &Object) -> Result<Option<bool>, StoreTrouble> {
    let seen = bucket.look(&object.key).await?;
    Ok(seen
        .map(|seen| seen.session.as_ref() == Some(&object.session) && seen.bytes == object.bytes))
}
