//! An upload in parts: which one goes on, what the store has of it, and what is sent.
//!
//! Parts may be sent while the rest of the file is still coming ([`InParts::send_ahead`]). So a
//! part that the store lists need not be what is here: a power cut takes back what was not synced,
//! and other bytes may come in its place. Within one boot a file only grows. So what an earlier
//! life of the server has sent counts if its checksum is that of the bytes here; where the store
//! tells none, if the upload was begun in this boot. Everything else is sent again.
//!
//! An application that was told of the file may have changed it before it answered. What was sent
//! before that counts if its checksum is that of the bytes here ([`InParts::was_told`]).
//!
//! Nor need a part be what is here because it was sent by this life of the server: somebody may
//! have changed the file before, and back, or only then. So what the store has is read once more
//! here, where the file has a digest, and no object is made before that is right
//! ([`InParts::vouch`]).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::abandon::{Fate, end_strays, unsaid};
use super::bucket::{Bucket, Object, Part, StoreTrouble};
use super::note::{Note, Notebook, StorePlace};
use crate::config::ObjectStore;
use crate::diagnosis::PartChanged;

/// What is to be in parts.
pub struct InParts<'a, B: Bucket, N: Notebook> {
    pub bucket: &'a B,
    pub notes: &'a N,
    pub object: &'a Object,
    pub place: &'a StorePlace,
    /// Bytes of a part, as in the settings.
    pub part_bytes: u64,
    /// Whether the file will have a digest.
    pub is_hashed: bool,
    /// An application was told of the file, and may have changed it since parts of it were sent.
    pub was_told: bool,
    /// Which boot of the machine this is.
    pub boot: &'a str,
}

/// What this life of the server knows of the upload of a file.
#[derive(Debug, Default)]
pub struct SentParts {
    upload: Option<Upload>,
    /// How often the store refused a part, and did not say whether it has the upload still.
    denials: u32,
}

#[derive(Debug)]
struct Upload {
    name: String,
    /// What it is for. New settings may want another object: a name means nothing there.
    place: StorePlace,
    key: String,
    part_bytes: u64,
    /// What the store has, and is what is here.
    parts: BTreeMap<u32, Part>,
    read: Read,
    /// Nothing of it was sent before an application was told of the file and is not what is here.
    is_told: bool,
}

/// What was read once more of what the store has, for the digest of the file.
#[derive(Debug, Default)]
struct Read {
    digest: Sha256,
    /// So many parts, from the first one on.
    parts: u32,
}

impl SentParts {
    /// Whether the upload is known that goes on.
    pub fn is_found(&self) -> bool {
        self.upload.is_some()
    }

    /// Nothing any more: the store has lost it, or says that something in it is wrong.
    pub fn forget(&mut self) {
        self.upload = None;
    }

    /// The store refused a part, and does not say whether it has the upload still: whether another
    /// one may be begun. So there are few however often that happens.
    pub fn may_leave(&mut self) -> bool {
        self.denials = self.denials.saturating_add(1);
        self.denials.is_power_of_two()
    }

    /// The first part that was not sent, if all of it is among the first `here` bytes of the file.
    pub fn next(&self, bytes: u64, here: u64) -> Option<(u32, Range<u64>)> {
        let Upload {
            part_bytes, parts, ..
        } = self.upload.as_ref()?;
        cut(bytes, *part_bytes)
            .take_while(|(_, range)| range.end <= here)
            .find(|(number, _)| !parts.contains_key(number))
    }

    /// Its name, and all parts of it.
    pub fn all(&self) -> Option<(&str, Vec<Part>)> {
        let upload = self.upload.as_ref()?;
        Some((&upload.name, upload.parts.values().cloned().collect()))
    }
}

impl<B: Bucket, N: Notebook> InParts<'_, B, N> {
    /// Finds the upload that goes on, and what the store has of the first `here` bytes; begins one
    /// if there is none.
    ///
    /// # Errors
    /// [`StoreTrouble`].
    pub async fn find(
        &self,
        known: &mut SentParts,
        source: &B::Source,
        here: u64,
    ) -> Result<(), StoreTrouble> {
        let is_for_this =
            |upload: &Upload| upload.key == self.object.key && upload.place == *self.place;
        if let Some(upload) = known.upload.as_mut().filter(|upload| is_for_this(upload)) {
            return self.check(upload, source).await;
        }
        let note = self.notes.read(&self.object.session).await?;
        let listed = self.listed(note.as_ref(), source, here).await?;
        known.upload = Some(match listed {
            Some(upload) => upload,
            None => self.begin(note).await?,
        });
        Ok(())
    }

    /// Once, when an application was told: parts that are not what is here any more are not taken
    /// for sent. Where the file has a digest, [`Self::vouch`] finds them.
    async fn check(&self, upload: &mut Upload, source: &B::Source) -> Result<(), StoreTrouble> {
        if !self.was_told || upload.is_told || self.object.sha256.is_some() {
            return Ok(());
        }
        for (number, range) in cut(self.object.bytes, upload.part_bytes) {
            let Some(part) = upload.parts.get(&number) else {
                continue;
            };
            let here = self.bucket.crc32(source, range.clone()).await?;
            self.bucket.dont_need(source, range).await;
            if part.crc32.as_ref() != Some(&here) {
                upload.parts.remove(&number);
            }
        }
        upload.is_told = true;
        Ok(())
    }

    /// Sends one part of the upload that was found. Where the file has a digest the part is read
    /// once more for it at once, while the page cache has it, and little is left to be read when
    /// the file is whole.
    ///
    /// # Errors
    /// [`StoreTrouble`].
    pub async fn send(
        &self,
        known: &mut SentParts,
        source: &B::Source,
        number: u32,
        range: Range<u64>,
    ) -> Result<(), StoreTrouble> {
        let upload = known.upload.as_mut().ok_or(StoreTrouble::Gone)?;
        let key = &self.object.key;
        let sent = self
            .bucket
            .part(key, &upload.name, number, source, range.clone());
        let sent = sent.await?;
        upload.parts.insert(number, sent);
        if self.is_hashed {
            self.read_on(upload, source).await?;
        } else {
            self.bucket.dont_need(source, range).await;
        }
        Ok(())
    }

    /// Before an object is made of the parts, where the digest of the file is known: whether all of
    /// them are what has it. Parts that are not what is here are to be sent again.
    ///
    /// # Errors
    /// [`StoreTrouble::Local`], by [`PartChanged`], if the file is not what came.
    pub async fn vouch(
        &self,
        known: &mut SentParts,
        source: &B::Source,
    ) -> Result<bool, StoreTrouble> {
        let Some(sha256) = self.object.sha256 else {
            return Ok(true);
        };
        for is_read_anew in [false, true] {
            let upload = known.upload.as_mut().ok_or(StoreTrouble::Gone)?;
            if is_read_anew {
                // What was read before may be outdated as well.
                upload.read = Read::default();
            }
            if !self.read_on(upload, source).await? {
                return Ok(false);
            }
            if upload.read.digest.clone().finalize()[..] == sha256 {
                return Ok(true);
            }
        }
        Err(io::Error::other(PartChanged).into())
    }

    /// Reads what the store has once more, in its order, from where it came to before; whether that
    /// is all of it. A part that is not what is here is not taken for sent any more.
    async fn read_on(&self, upload: &mut Upload, source: &B::Source) -> Result<bool, StoreTrouble> {
        for (number, range) in cut(self.object.bytes, upload.part_bytes) {
            if number <= upload.read.parts {
                continue;
            }
            let Some(part) = upload.parts.get(&number) else {
                return Ok(false);
            };
            let before = upload.read.digest.clone();
            let read = self.bucket.digest(source, range.clone(), before).await;
            self.bucket.dont_need(source, range).await;
            let (digest, crc32) = read?;
            if part.crc32.as_ref().is_some_and(|sent| *sent != crc32) {
                upload.parts.remove(&number);
                return Ok(false);
            }
            let parts = number;
            upload.read = Read { digest, parts };
        }
        Ok(true)
    }

    /// While the rest of the file is still coming: sends one part that is whole among the first
    /// `here` bytes and was not sent. How many bytes that were; `None` if there is none.
    ///
    /// It is an offer, which nothing waits for: what the store does not take now is sent by whoever
    /// delivers the file.
    ///
    /// # Errors
    /// [`StoreTrouble`]; [`StoreTrouble::Exists`] if another object has the name, so that it would
    /// be in vain.
    pub async fn send_ahead(
        &self,
        known: &mut SentParts,
        source: &B::Source,
        here: u64,
    ) -> Result<Option<u64>, StoreTrouble> {
        let sent = self.try_to_send_ahead(known, source, here).await;
        if let Err(StoreTrouble::Gone) = sent {
            known.forget();
        }
        sent
    }

    async fn try_to_send_ahead(
        &self,
        known: &mut SentParts,
        source: &B::Source,
        here: u64,
    ) -> Result<Option<u64>, StoreTrouble> {
        let object = self.object;
        if !known.is_found() && !object.may_replace {
            let stands = self.bucket.look(&object.key).await?;
            if stands.is_some() {
                return Err(StoreTrouble::Exists);
            }
        }
        self.find(known, source, here).await?;
        let Some((number, range)) = known.next(object.bytes, here) else {
            return Ok(None);
        };
        let bytes = range.end - range.start;
        self.send(known, source, number, range).await?;
        Ok(Some(bytes))
    }

    /// The upload that the note names, and what the store has of it; `None` if a new one is needed.
    async fn listed(
        &self,
        note: Option<&Note>,
        source: &B::Source,
        here: u64,
    ) -> Result<Option<Upload>, StoreTrouble> {
        let Some((note, name)) = note.and_then(|note| Some((note, note.upload.as_ref()?))) else {
            return Ok(None);
        };
        let listed = match self.bucket.parts(&self.object.key, name).await {
            Ok(parts) => parts,
            Err(StoreTrouble::Gone) => return Ok(None),
            Err(StoreTrouble::NotThere(why)) => {
                return match unsaid(self.bucket, &self.object.key, name).await? {
                    Fate::Gone => Ok(None),
                    Fate::There | Fate::Untold => Err(StoreTrouble::Refused(why)),
                };
            }
            // All of them are sent again.
            Err(StoreTrouble::Unreadable(_)) => Vec::new(),
            Err(trouble) => return Err(trouble),
        };
        let numbered = listed.into_iter().map(|part| (part.number, part));
        let mut listed: BTreeMap<u32, Part> = numbered.collect();
        let mut parts = BTreeMap::new();
        for (number, range) in cut(self.object.bytes, note.part_bytes) {
            if range.end > here {
                break;
            }
            if let Some(part) = listed.remove(&number)
                && self.is_this(&part, note, source, range).await?
            {
                parts.insert(number, part);
            }
        }
        Ok(Some(Upload {
            name: name.clone(),
            place: self.place.clone(),
            key: self.object.key.clone(),
            part_bytes: note.part_bytes,
            parts,
            read: Read::default(),
            is_told: self.was_told,
        }))
    }

    /// Whether a part that the store has is what is here.
    async fn is_this(
        &self,
        part: &Part,
        note: &Note,
        source: &B::Source,
        range: Range<u64>,
    ) -> Result<bool, StoreTrouble> {
        if part.bytes != range.end - range.start || part.etag.is_empty() {
            return Ok(false);
        }
        Ok(match &part.crc32 {
            Some(crc32) => {
                let here = self.bucket.crc32(source, range.clone()).await?;
                if !self.is_hashed {
                    self.bucket.dont_need(source, range).await;
                }
                *crc32 == here
            }
            None => note.boot.as_deref() == Some(self.boot) && !self.was_told,
        })
    }

    /// Begins an upload. It is noted before, so that none is there that nobody knows of.
    async fn begin(&self, before: Option<Note>) -> Result<Upload, StoreTrouble> {
        let session = &self.object.session;
        let is_first = before.is_none();
        let begun = before.map_or(0, |note| note.begun);
        let mut note = Note {
            place: self.place.clone(),
            key: self.object.key.clone(),
            upload: None,
            begun: begun.saturating_add(1),
            part_bytes: ObjectStore::bytes_of_parts(self.object.bytes, self.part_bytes),
            boot: Some(self.boot.to_owned()),
        };
        self.notes.write(session, &note).await?;
        if !is_first {
            end_strays(self.bucket, self.notes, &note.key).await?;
        }
        let name = self.bucket.begin(self.object).await?;
        note.upload = Some(name.clone());
        self.notes.write(session, &note).await?;
        Ok(Upload {
            name,
            place: note.place,
            key: note.key,
            part_bytes: note.part_bytes,
            parts: BTreeMap::new(),
            read: Read::default(),
            is_told: self.was_told,
        })
    }
}

/// The parts of a file, each with its number.
pub(super) fn cut(bytes: u64, part_bytes: u64) -> impl Iterator<Item = (u32, Range<u64>)> {
    let count = bytes.div_ceil(part_bytes).max(1);
    (0..count).map(move |at| {
        let begin = at * part_bytes;
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        (number, begin..bytes.min(begin + part_bytes))
    })
}
