//! How a file becomes an object: what is asked of the store, in which order, and what is believed.
//!
//! The source of every rule is a way in which a store can be misunderstood (the head of
//! [`super`]). The tests run it against a store that does all of that, and stop it at every step.

use std::future::{Future as _, poll_fn};
use std::pin::pin;

use tokio::sync::Semaphore;

use super::abandon::{Fate, abandon, abort, fate};
use super::bucket::{Bucket, Object, Part, StoreNames, StoreTrouble};
use super::note::{Notebook, StorePlace};
use super::parts::{InParts, SentParts};
use super::standing::{self, ObjectStanding};
use crate::custody::object::StoredObject;
use crate::diagnosis::{is_part_changed, of_promised};
use crate::server::object_order::ObjectError;

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
    /// See [`InParts::was_told`].
    pub was_told: bool,
    /// Which boot of the machine this is.
    pub boot: &'a str,
}

/// The store does not take it.
#[derive(Debug)]
pub enum Untaken {
    /// Another object has the name.
    Exists,
    Refused(String),
    Unreadable(std::io::Error),
}

impl From<Untaken> for ObjectError {
    fn from(untaken: Untaken) -> Self {
        match untaken {
            Untaken::Exists => Self::Exists,
            Untaken::Refused(_) => Self::Refused,
            Untaken::Unreadable(error) => Self::Unreadable(error),
        }
    }
}

/// The object is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub names: StoreNames,
    pub rest: Rest,
}

impl Delivered {
    /// What the record says of it.
    pub fn stored(self, place: StorePlace, key: String) -> StoredObject {
        StoredObject {
            bucket: place.bucket,
            key,
            version: self.names.version,
            etag: self.names.etag,
        }
    }
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
    /// came to nothing. `known` is what was sent ahead.
    ///
    /// # Errors
    /// [`Untaken`].
    pub async fn run(
        &self,
        source: &B::Source,
        mut known: SentParts,
        tell: impl Fn(&StoreTrouble),
    ) -> Result<Delivered, Untaken> {
        let mut in_doubt = self.is_repeat;
        let mut pause = PAUSE_MS;
        loop {
            let was_found = known.is_found();
            let slot = self.slots.acquire().await;
            let tried = self.attempt(source, &mut known, in_doubt, &tell).await;
            drop(slot);
            let trouble = match tried {
                Ok(delivered) => return Ok(delivered),
                Err(StoreTrouble::Local(error)) if self.is_promised => of_promised(error).into(),
                Err(trouble) => trouble,
            };
            tell(&trouble);
            in_doubt = true;
            match trouble {
                StoreTrouble::Gone if was_found => {
                    // What was known is outdated: the store is asked at once.
                    known.forget();
                    continue;
                }
                StoreTrouble::Gone => {
                    // It listed what it does not take: the next try begins another one.
                    known.forget();
                    let _next_time = self.forget_upload().await;
                }
                StoreTrouble::Unsigned(_)
                | StoreTrouble::Doubt(_)
                | StoreTrouble::Unreadable(_) => {}
                // Also what was promised: whoever asks for it looks what stands there now.
                StoreTrouble::Local(error) if is_part_changed(&error) => {
                    return Err(Untaken::Unreadable(error));
                }
                _ if self.is_promised => {}
                StoreTrouble::Exists => {
                    // If that fails, it is done when the session ends.
                    let _later = self.withdraw().await;
                    return Err(Untaken::Exists);
                }
                StoreTrouble::NotThere(why)
                | StoreTrouble::Refused(why)
                | StoreTrouble::Settings(why) => {
                    return Err(Untaken::Refused(why));
                }
                StoreTrouble::Local(error) => return Err(Untaken::Unreadable(error)),
            }
            self.bucket.rest(pause).await;
            pause = PAUSE_MS_MAX.min(2 * pause);
        }
    }

    async fn attempt(
        &self,
        source: &B::Source,
        known: &mut SentParts,
        in_doubt: bool,
        tell: &impl Fn(&StoreTrouble),
    ) -> Result<Delivered, StoreTrouble> {
        let note = self.notes.read(&self.object.session).await?;
        let looks_first = self.looks_first && !self.object.may_replace;
        if in_doubt || note.is_some() || looks_first {
            match standing::look(self.bucket, self.object).await? {
                ObjectStanding::Ours(names) => return Ok(self.settle(names).await),
                // Where it keeps what is there, that is its own word to give: a portal or a proxy
                // may say of anything that it is there.
                ObjectStanding::Other if looks_first => return Err(StoreTrouble::Exists),
                ObjectStanding::Other | ObjectStanding::Nothing => {}
            }
        }
        if note.is_some() || self.object.bytes >= self.part_bytes {
            return self.in_parts(source, known, tell).await;
        }
        let names = standing::put(self.bucket, self.object, source).await?;
        Ok(self.settle(names).await)
    }

    async fn in_parts(
        &self,
        source: &B::Source,
        known: &mut SentParts,
        tell: &impl Fn(&StoreTrouble),
    ) -> Result<Delivered, StoreTrouble> {
        let parts = InParts {
            bucket: self.bucket,
            notes: self.notes,
            object: self.object,
            place: self.place,
            part_bytes: self.part_bytes,
            is_hashed: self.object.sha256.is_some(),
            was_told: self.was_told,
            boot: self.boot,
        };
        parts.find(known, source, self.object.bytes).await?;
        self.send_all(&parts, source, known).await?;
        loop {
            match parts.vouch(known, source).await {
                Ok(true) => break,
                Ok(false) => self.send_all(&parts, source, known).await?,
                // The bytes may come back: then nothing of what the store has is taken for them.
                Err(trouble) => {
                    if matches!(&trouble, StoreTrouble::Local(error) if is_part_changed(error)) {
                        known.forget();
                        let _best_effort = self.forget_upload().await;
                    }
                    return Err(trouble);
                }
            }
        }
        self.make_one(known, tell).await
    }

    /// Sends what the store does not have.
    async fn send_all(
        &self,
        parts: &InParts<'_, B, N>,
        source: &B::Source,
        known: &mut SentParts,
    ) -> Result<(), StoreTrouble> {
        let bytes = self.object.bytes;
        while let Some((number, range)) = known.next(bytes, bytes) {
            match parts.send(known, source, number, range).await {
                Err(StoreTrouble::Refused(why)) => {
                    self.leave_if_gone(known).await?;
                    return Err(StoreTrouble::Refused(why));
                }
                // A store that knows the upload no more may say so before it has read the part, and
                // hang up: then that is lost, and it would be so each time.
                Err(doubt @ (StoreTrouble::Unsigned(_) | StoreTrouble::Doubt(_))) => {
                    let _next_time = self.leave_if_gone(known).await;
                    return Err(doubt);
                }
                sent => sent?,
            }
        }
        Ok(())
    }

    /// Makes an object of the parts, which are all there.
    async fn make_one(
        &self,
        known: &mut SentParts,
        tell: &impl Fn(&StoreTrouble),
    ) -> Result<Delivered, StoreTrouble> {
        let (upload, parts) = known.all().ok_or(StoreTrouble::Gone)?;
        let upload = upload.to_owned();
        let completed = self.complete(&upload, &parts, tell).await;
        // If that was not all, the next try asks what the store has: it may have lost the upload,
        // and some stores do not say so here.
        known.forget();
        match completed {
            // Also if it says that it is done: 200 may come before the work, and lie.
            Ok(_) | Err(StoreTrouble::Unreadable(_)) => {
                match standing::look(self.bucket, self.object).await? {
                    ObjectStanding::Ours(names) => Ok(self.settle(names).await),
                    _ => self.taken_away(completed, &upload).await,
                }
            }
            Err(StoreTrouble::Exists) => {
                let names = standing::whose(self.bucket, self.object).await?;
                Ok(self.settle(names).await)
            }
            // Some part is not what the store wants: all of them are sent again.
            Err(StoreTrouble::Refused(why)) => {
                self.forget_upload().await?;
                Err(StoreTrouble::Refused(why))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// It may take minutes, and is waited for. Somebody is told meanwhile.
    async fn complete(
        &self,
        upload: &str,
        parts: &[Part],
        tell: &impl Fn(&StoreTrouble),
    ) -> Result<StoreNames, StoreTrouble> {
        let mut completed = pin!(self.bucket.complete(self.object, upload, parts));
        let mut quiet = pin!(self.bucket.rest(QUIET_MS));
        let mut is_quiet = false;
        poll_fn(|context| {
            let answer = completed.as_mut().poll(context);
            if answer.is_pending() && !is_quiet && quiet.as_mut().poll(context).is_ready() {
                is_quiet = true;
                let why = "it has not said for a minute whether it makes an object of the parts";
                tell(&StoreTrouble::Doubt(why.to_owned()));
            }
            answer
        })
        .await
    }

    /// Completed, and not there. It was, and somebody has taken it away or put another one in its
    /// place, if the store has named it and says that it has the upload no more: nobody else ends
    /// that. Where it does not say so, the object is put there again: this may be the only copy.
    async fn taken_away(
        &self,
        completed: Result<StoreNames, StoreTrouble>,
        upload: &str,
    ) -> Result<Delivered, StoreTrouble> {
        if let Ok(names) = completed
            && names.etag.is_some()
            && fate(self.bucket, &self.object.key, upload).await? == Fate::Gone
        {
            return Ok(self.settle(names).await);
        }
        Err(StoreTrouble::Doubt("completed, and not there".to_owned()))
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

    /// Some stores refuse what is sent to an upload that they do not know. Where they do not even
    /// say so, another one is begun ever more rarely: it may stay there for ever.
    async fn leave_if_gone(&self, known: &mut SentParts) -> Result<(), StoreTrouble> {
        let Some((upload, _)) = known.all() else {
            return Ok(());
        };
        let is_left = match fate(self.bucket, &self.object.key, upload).await? {
            Fate::There => false,
            Fate::Gone => true,
            Fate::Untold => known.may_leave(),
        };
        if is_left {
            known.forget();
            self.forget_upload().await?;
        }
        Ok(())
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

/// A store that makes an object of parts for longer is told of.
const QUIET_MS: u64 = 60_000;
/// The first pause between tries.
const PAUSE_MS: u64 = 500;
/// The longest one.
const PAUSE_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests;
