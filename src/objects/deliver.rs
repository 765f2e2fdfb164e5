//! How a file becomes an object: what is asked of the store, in which order, and what is believed.
//!
//! The source of every rule is a way in which a store can be misunderstood (the head of
//! [`super`]). The tests run it against a store that does all of that, and stop it at every step.

use tokio::sync::Semaphore;

use super::bucket::{Bucket, Object, Part, StoreNames, StoreTrouble};
use super::note::{Note, Notebook, StorePlace};

/// A file on its way to a store.
pub struct Deliverer<'a, B: Bucket, N: Notebook> {
    pub bucket: &'a B,
    pub notes: &'a N,
    /// So many work at the same time; it takes one for each try.
    pub slots: &'a Semaphore,
    pub object: &'a Object,
    pub place: &'a StorePlace,
    /// Bytes of a part, as in the settings.
    pub part_bytes: u64,
    /// Whether a look is to find what must not be replaced, since the store does not say.
    pub looks_first: bool,
    /// It was promised already: it is tried whatever the store says.
    pub is_promised: bool,
    /// The store may have been told of it before.
    pub is_repeat: bool,
}

/// The store does not take it.
#[derive(Debug)]
pub enum Untaken {
    /// Another object has the name.
    Exists,
    Refused(String),
    Unreadable(std::io::Error),
}

/// The object is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub names: StoreNames,
    pub rest: Rest,
}

/// What is left to do when the object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Nothing,
    /// The note stands still: what it names may be there.
    Note,
}

impl<B: Bucket, N: Notebook> Deliverer<'_, B, N> {
    /// Returns when the store has the object, or will not have it; `tell` hears of each try that
    /// came to nothing.
    ///
    /// # Errors
    /// [`Untaken`].
    pub async fn run(
        &self,
        source: &B::Source,
        tell: impl Fn(&StoreTrouble),
    ) -> Result<Delivered, Untaken> {
        let mut in_doubt = self.is_repeat;
        let mut pause = PAUSE_MS;
        loop {
            let slot = self.slots.acquire().await;
            let tried = self.attempt(source, in_doubt).await;
            drop(slot);
            let trouble = match tried {
                Ok(delivered) => return Ok(delivered),
                Err(trouble) => trouble,
            };
            tell(&trouble);
            in_doubt = true;
            match trouble {
                StoreTrouble::Doubt(_) | StoreTrouble::Unreadable(_) | StoreTrouble::Gone => {}
                _ if self.is_promised => {}
                StoreTrouble::Exists => {
                    // If that fails, it is done when the session ends.
                    let _later = self.withdraw().await;
                    return Err(Untaken::Exists);
                }
                StoreTrouble::Refused(why) => return Err(Untaken::Refused(why)),
                StoreTrouble::Local(error) => return Err(Untaken::Unreadable(error)),
            }
            self.bucket.rest(pause).await;
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
    }

    async fn attempt(&self, source: &B::Source, in_doubt: bool) -> Result<Delivered, StoreTrouble> {
        let note = self.notes.read(&self.object.session).await?;
        let looks_first = self.looks_first && !self.object.may_replace;
        if in_doubt || note.is_some() || looks_first {
            match self.look().await? {
                Standing::Ours(names) => return Ok(self.settle(names).await),
                Standing::Other if !self.object.may_replace => return Err(StoreTrouble::Exists),
                Standing::Other | Standing::Nothing => {}
            }
        }
        if note.is_some() || self.object.bytes >= self.part_bytes {
            return self.in_parts(source, note).await;
        }
        match self.bucket.put(self.object, source).await {
            Ok(names) => Ok(Delivered {
                names,
                rest: Rest::Nothing,
            }),
            Err(StoreTrouble::Exists) => self.whose().await,
            Err(trouble) => Err(trouble),
        }
    }

    async fn in_parts(
        &self,
        source: &B::Source,
        note: Option<Note>,
    ) -> Result<Delivered, StoreTrouble> {
        let part_bytes = note
            .as_ref()
            .map_or(self.part_bytes, |note| note.part_bytes);
        let known = self.known_parts(note.as_ref()).await?;
        let (upload, known) = match known {
            Some(known) => known,
            None => (self.begin(note).await?, Vec::new()),
        };
        let key = &self.object.key;
        let mut parts = Vec::new();
        for (number, range) in cut(self.object.bytes, part_bytes) {
            let bytes = range.end - range.start;
            let is_it = |part: &&Part| {
                part.number == number && part.bytes == bytes && !part.etag.is_empty()
            };
            parts.push(match known.iter().find(is_it) {
                Some(part) => part.clone(),
                None => (self.bucket.part(key, &upload, number, source, range)).await?,
            });
        }
        match self.bucket.complete(self.object, &upload, &parts).await {
            // Also if it says that it is done: 200 may come before the work, and lie.
            Ok(()) | Err(StoreTrouble::Unreadable(_)) => match self.look().await? {
                Standing::Ours(names) => Ok(self.settle(names).await),
                _ => Err(StoreTrouble::Doubt("completed, and not there".to_owned())),
            },
            Err(StoreTrouble::Exists) => self.whose().await,
            // Some part is not what the store wants: all of them are sent again.
            Err(StoreTrouble::Refused(why)) => {
                self.forget_upload().await?;
                Err(StoreTrouble::Refused(why))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// The upload that the note names, and what the store has of it; `None` if a new one is needed.
    async fn known_parts(
        &self,
        note: Option<&Note>,
    ) -> Result<Option<(String, Vec<Part>)>, StoreTrouble> {
        let Some(upload) = note.and_then(|note| note.upload.as_ref()) else {
            return Ok(None);
        };
        match self.bucket.parts(&self.object.key, upload).await {
            Ok(parts) => Ok(Some((upload.clone(), parts))),
            Err(StoreTrouble::Gone) => Ok(None),
            // All of them are sent again.
            Err(StoreTrouble::Unreadable(_)) => Ok(Some((upload.clone(), Vec::new()))),
            Err(trouble) => Err(trouble),
        }
    }

    /// Begins an upload. It is noted before, so that none is there that nobody knows of.
    async fn begin(&self, before: Option<Note>) -> Result<String, StoreTrouble> {
        let session = &self.object.session;
        let is_first = before.is_none();
        let mut note = before.unwrap_or_else(|| Note {
            place: self.place.clone(),
            key: self.object.key.clone(),
            upload: None,
            begun: 0,
            part_bytes: part_bytes(self.object.bytes, self.part_bytes),
        });
        note.upload = None;
        note.begun = note.begun.saturating_add(1);
        self.notes.write(session, &note).await?;
        if !is_first {
            end_strays(self.bucket, self.notes, &note.key).await?;
        }
        let upload = self.bucket.begin(self.object).await?;
        note.upload = Some(upload.clone());
        self.notes.write(session, &note).await?;
        Ok(upload)
    }

    /// Something stands there, says the store: perhaps by a request of ours whose answer was lost.
    async fn whose(&self) -> Result<Delivered, StoreTrouble> {
        match self.look().await? {
            Standing::Ours(names) => Ok(self.settle(names).await),
            Standing::Other => Err(StoreTrouble::Exists),
            Standing::Nothing => Err(StoreTrouble::Doubt("there, and not there".to_owned())),
        }
    }

    async fn look(&self) -> Result<Standing, StoreTrouble> {
        Ok(match self.bucket.look(&self.object.key).await? {
            None => Standing::Nothing,
            Some(seen)
                if seen.session.as_ref() == Some(&self.object.session)
                    && seen.bytes == self.object.bytes =>
            {
                Standing::Ours(seen.names)
            }
            Some(_) => Standing::Other,
        })
    }

    /// The object is there: nothing else is to stay. What cannot be cleared away now is later.
    async fn settle(&self, names: StoreNames) -> Delivered {
        let rest = match self.withdraw().await {
            Ok(()) => Rest::Nothing,
            Err(_) => Rest::Note,
        };
        Delivered { names, rest }
    }

    /// Ends the upload, if there is one.
    async fn withdraw(&self) -> Result<(), StoreTrouble> {
        let Some(note) = self.notes.read(&self.object.session).await? else {
            return Ok(());
        };
        abandon(self.bucket, self.notes, &self.object.session, &note).await
    }

    /// The next try begins with another upload.
    async fn forget_upload(&self) -> Result<(), StoreTrouble> {
        let session = &self.object.session;
        if let Some(mut note) = self.notes.read(session).await?
            && let Some(upload) = note.upload.take()
        {
            abort(self.bucket, &note.key, &upload).await?;
            self.notes.write(session, &note).await?;
        }
        Ok(())
    }
}

/// What stands under the key of an object.
enum Standing {
    Nothing,
    Ours(StoreNames),
    Other,
}

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
async fn abort<B: Bucket>(bucket: &B, key: &str, upload: &str) -> Result<(), StoreTrouble> {
    for _ in 0..ABORTS_MAX {
        match bucket.abort(key, upload).await {
            Ok(()) => {}
            Err(StoreTrouble::Gone) => return Ok(()),
            Err(trouble) => return Err(trouble),
        }
        match bucket.parts(key, upload).await {
            Err(StoreTrouble::Gone) => return Ok(()),
            // Some stores tell of no parts instead.
            Ok(parts) if parts.is_empty() => return Ok(()),
            // What the next answer to the same says can be read.
            Ok(_) | Err(StoreTrouble::Unreadable(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Err(StoreTrouble::Doubt("aborted, and there still".to_owned()))
}

/// Ends uploads for a key that no note names: answers to a request for them were lost.
async fn end_strays<B: Bucket, N: Notebook>(
    bucket: &B,
    notes: &N,
    key: &str,
) -> Result<(), StoreTrouble> {
    let uploads = match bucket.uploads(key).await {
        Ok(uploads) => uploads,
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

/// Bytes of the parts of a file: as the settings say, or more where there would be too many (S3
/// takes 10,000).
pub fn part_bytes(bytes: u64, setting: u64) -> u64 {
    match bytes.div_ceil(setting) > PARTS_MAX {
        true => bytes.div_ceil(PARTS_MAX).div_ceil(MIB) * MIB,
        false => setting,
    }
}

/// The parts of a file, each with its number.
fn cut(bytes: u64, part_bytes: u64) -> impl Iterator<Item = (u32, std::ops::Range<u64>)> {
    let count = bytes.div_ceil(part_bytes).max(1);
    (0..count).map(move |at| {
        let begin = at * part_bytes;
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        (number, begin..bytes.min(begin + part_bytes))
    })
}

/// The first pause between tries.
const PAUSE_MS: u64 = 500;
/// The longest one.
const PAUSE_MS_MAX: u64 = 60_000;
/// How often an upload is aborted before it is left for later.
const ABORTS_MAX: usize = 4;
const PARTS_MAX: u64 = 9_000;
const MIB: u64 = 1 << 20;

#[cfg(test)]
mod tests;
