//! What stands under the key of an object, and a small one that is put there.

use super::bucket::{Bucket, Object, PutAnswer, StoreNames, StoreTrouble};

/// What stands under the key of an object.
pub enum ObjectStanding {
    Nothing,
    Ours(StoreNames),
    Other,
}

/// Looks what stands there. It is ours if it bears the mark of the session and has its length.
///
/// # Errors
/// [`StoreTrouble`]
pub async fn look<B: Bucket>(bucket: &B, object: &Object) -> Result<ObjectStanding, StoreTrouble> {
    Ok(match bucket.look(&object.key).await? {
        None => ObjectStanding::Nothing,
        Some(seen)
            if seen.session.as_ref() == Some(&object.session) && seen.bytes == object.bytes =>
        {
            ObjectStanding::Ours(seen.names)
        }
        Some(_) => ObjectStanding::Other,
    })
}

/// Puts an object by one request; returns what the store calls it, when it proves or shows that it
/// has it.
///
/// # Errors
/// [`StoreTrouble::Exists`] if another one stands there, and is not to be replaced.
pub async fn put<B: Bucket>(
    bucket: &B,
    object: &Object,
    source: &B::Source,
) -> Result<StoreNames, StoreTrouble> {
    let answer = bucket.put(object, source).await;
    shown(bucket, object, source, answer).await
}

/// What an answer to that is worth.
///
/// # Errors
/// As of [`put`].
pub async fn shown<B: Bucket>(
    bucket: &B,
    object: &Object,
    source: &B::Source,
    answer: Result<PutAnswer, StoreTrouble>,
) -> Result<StoreNames, StoreTrouble> {
    match answer {
        // It may be gone by now: some take each object away as it comes.
        Ok(answer) if answer.is_proven => Ok(answer.names),
        // So does a portal or a proxy that answers 200 to whatever is asked, and the file here goes
        // with that word: it has to show it.
        Ok(answer) => match look(bucket, object).await? {
            ObjectStanding::Ours(names) => Ok(names),
            // Unless it has named the content as nobody can who has not taken it: then it was
            // taken away, or another one has taken its place.
            _ if has_named(bucket, object, source, &answer.names).await? => Ok(answer.names),
            _ => Err(StoreTrouble::Doubt(
                "it says that it has the object, and does not show it".to_owned(),
            )),
        },
        Err(StoreTrouble::Exists) => whose(bucket, object).await,
        Err(trouble) => Err(trouble),
    }
}

async fn has_named<B: Bucket>(
    bucket: &B,
    object: &Object,
    source: &B::Source,
    names: &StoreNames,
) -> Result<bool, StoreTrouble> {
    match &names.etag {
        Some(etag) => bucket.is_named(source, object.bytes, etag).await,
        None => Ok(false),
    }
}

/// Something stands there, says the store: perhaps by a request of ours whose answer was lost.
///
/// # Errors
/// [`StoreTrouble::Exists`] if it is not ours.
pub async fn whose<B: Bucket>(bucket: &B, object: &Object) -> Result<StoreNames, StoreTrouble> {
    match look(bucket, object).await? {
        ObjectStanding::Ours(names) => Ok(names),
        ObjectStanding::Other => Err(StoreTrouble::Exists),
        ObjectStanding::Nothing => Err(StoreTrouble::Doubt("there, and not there".to_owned())),
    }
}
