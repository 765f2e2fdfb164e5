//! How an upload in parts is ended without an object, and what nobody knows of is found.

use super::bucket::{Bucket, StoreTrouble};
use super::note::{Note, Notebook};

/// Ends what a note names, and removes the note when that holds.
///
/// # Errors
/// [`StoreTrouble`]; the note stands.
pub async fn abandon<B: Bucket, N: Notebook>(
    bucket: &B,
    notes: &N,
    session: &str,
    note: &Note,
) -> Result<(), StoreTrouble> {
    if let Some(upload) = &note.upload {
        abort(bucket, &note.key, upload).await?;
    }
    if note.upload.is_none() || note.begun > 1 {
        notes_without(notes, session, note).await?;
        end_strays(bucket, notes, &note.key).await?;
    }
    Ok(notes.remove(session).await?)
}

/// The note does not name an upload that was ended.
async fn notes_without<N: Notebook>(
    notes: &N,
    session: &str,
    note: &Note,
) -> Result<(), StoreTrouble> {
    if note.upload.is_some() {
        let note = Note {
            upload: None,
            ..note.clone()
        };
        notes.write(session, &note).await?;
    }
    Ok(())
}

/// Aborts until it holds: a part that was on its way may come after it.
pub(super) async fn abort<B: Bucket>(
    bucket: &B,
    key: &str,
    upload: &str,
) -> Result<(), StoreTrouble> {
    for _ in 0..ABORTS_MAX {
        match bucket.abort(key, upload).await {
            Ok(()) => {}
            Err(StoreTrouble::Gone) => return Ok(()),
            Err(StoreTrouble::Refused(why)) => {
                return match fate(bucket, key, upload).await? {
                    Fate::Gone | Fate::Untold => Ok(()),
                    Fate::There => Err(StoreTrouble::Refused(why)),
                };
            }
            Err(trouble) => return Err(trouble),
        }
        match bucket.parts(key, upload).await {
            Err(StoreTrouble::Gone) => return Ok(()),
            // Some stores tell of no parts instead, as of an upload that has none: what says that
            // it was aborted may be something on the way.
            Ok(parts) if parts.is_empty() => match listed(bucket, key, upload).await? {
                Fate::Gone | Fate::Untold => return Ok(()),
                Fate::There => {}
            },
            Err(StoreTrouble::NotThere(why)) => {
                return match unsaid(bucket, key, upload).await? {
                    Fate::Gone => Ok(()),
                    Fate::There | Fate::Untold => Err(StoreTrouble::Refused(why)),
                };
            }
            // What the next answer to the same says can be read.
            Ok(_) | Err(StoreTrouble::Unreadable(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Err(StoreTrouble::Doubt("aborted, and there still".to_owned()))
}

/// What has become of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    There,
    Gone,
    /// It holds no bytes, and nobody may ask whether it is there.
    Untold,
}

/// What has become of an upload of which something was refused: some stores refuse whatever is
/// asked of one that they do not know, as if it were somebody else's.
pub(super) async fn fate<B: Bucket>(
    bucket: &B,
    key: &str,
    upload: &str,
) -> Result<Fate, StoreTrouble> {
    match bucket.parts(key, upload).await {
        Err(StoreTrouble::Gone) => return Ok(Fate::Gone),
        Ok(parts) if parts.is_empty() => {}
        Err(StoreTrouble::NotThere(_)) => return unsaid(bucket, key, upload).await,
        Ok(_) | Err(StoreTrouble::Refused(_) | StoreTrouble::Unreadable(_)) => {
            return Ok(Fate::There);
        }
        Err(trouble) => return Err(trouble),
    }
    listed(bucket, key, upload).await
}

/// What has become of an upload of which no parts are told.
async fn listed<B: Bucket>(bucket: &B, key: &str, upload: &str) -> Result<Fate, StoreTrouble> {
    match bucket.uploads(key).await {
        Ok(uploads) if uploads.iter().any(|name| name == upload) => Ok(Fate::There),
        Ok(_) => Ok(Fate::Gone),
        Err(trouble) if trouble.is_of_credentials() => Err(trouble),
        Err(StoreTrouble::Refused(_) | StoreTrouble::Unreadable(_)) => Ok(Fate::Untold),
        Err(trouble) => Err(trouble),
    }
}

/// What has become of an upload whose parts are [`StoreTrouble::NotThere`]: it is gone if the store
/// itself can be read, and tells of others only. A proxy whose store is away says 404 as well.
pub(super) async fn unsaid<B: Bucket>(
    bucket: &B,
    key: &str,
    upload: &str,
) -> Result<Fate, StoreTrouble> {
    Ok(match listed(bucket, key, upload).await? {
        Fate::Gone => Fate::Gone,
        Fate::There | Fate::Untold => Fate::There,
    })
}

/// Ends uploads for a key that no note names: answers to a request for them were lost.
pub(super) async fn end_strays<B: Bucket, N: Notebook>(
    bucket: &B,
    notes: &N,
    key: &str,
) -> Result<(), StoreTrouble> {
    let uploads = match bucket.uploads(key).await {
        Ok(uploads) => uploads,
        Err(trouble) if trouble.is_of_credentials() => return Err(trouble),
        // It may not be asked for: what is left then is for a rule of the bucket.
        Err(StoreTrouble::Refused(_) | StoreTrouble::Unreadable(_)) => return Ok(()),
        Err(trouble) => return Err(trouble),
    };
    if uploads.is_empty() {
        return Ok(());
    }
    let named = notes.named().await?;
    for upload in uploads.iter().filter(|upload| !named.contains(upload)) {
        abort(bucket, key, upload).await?;
    }
    Ok(())
}

/// How often an upload is aborted before it is left for later.
const ABORTS_MAX: usize = 4;
