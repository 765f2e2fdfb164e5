//! The digest file of an object: an object itself, which is made after it.
//!
//! Where objects may be replaced, two uploads of one key may each have their object before either
//! has its digest file. So each looks at the object after it has written, and writes again what
//! belongs to the one that stands there: whoever is the last to write has seen the last object.

use super::bucket::{Bucket, Object, SeenObject, StoreTrouble};
use super::standing::{self, ObjectStanding};
use crate::server::object_order::DigestFile;

/// What is to stand beside an object.
pub struct Beside<'a> {
    /// The object, whose digest is known.
    pub object: &'a Object,
    pub sha256: [u8; 32],
    pub file: &'a DigestFile,
    /// The store would replace what stands there, and does not say so.
    pub looks_first: bool,
    /// The digests of objects that do not bear their own as a mark, by their sessions.
    pub known: &'a dyn Fn(&str) -> Option<[u8; 32]>,
}

/// Whose digest it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    session: String,
    sha256: [u8; 32],
}

impl Beside<'_> {
    /// Makes it, unless it stands there. Whether it is right: where another object has its name,
    /// and may not be replaced, that stays.
    ///
    /// # Errors
    /// [`StoreTrouble`]; it may be asked for again.
    pub async fn put<B: Bucket>(&self, bucket: &B) -> Result<bool, StoreTrouble> {
        let mut written = self.own();
        for _ in 0..TRIES_MAX {
            if !self.put_of(bucket, &written).await? {
                return Ok(false);
            }
            if !self.object.may_replace {
                return Ok(true);
            }
            let stands = bucket.look(&self.object.key).await?;
            let Some(subject) = self.subject(stands) else {
                return self.take_back(bucket, &written).await.map(|()| false);
            };
            if subject == written {
                return Ok(true);
            }
            written = subject;
        }
        Ok(false)
    }

    fn own(&self) -> Subject {
        Subject {
            session: self.object.session.clone(),
            sha256: self.sha256,
        }
    }

    /// Whose digest belongs beside what stands there; `None` if nobody knows that one.
    fn subject(&self, stands: Option<SeenObject>) -> Option<Subject> {
        let own = self.own();
        // Ours was there, and somebody has taken it away.
        let Some(seen) = stands else {
            return Some(own);
        };
        let session = seen.session?;
        if session == own.session {
            return Some(own);
        }
        let sha256 = seen.sha256.or_else(|| (self.known)(&session))?;
        Some(Subject { session, sha256 })
    }

    fn object_of(&self, subject: &Subject) -> (Object, String) {
        let text = self.file.text(&subject.sha256);
        let object = Object {
            key: self.file.key.clone(),
            session: subject.session.clone(),
            bytes: text.len() as u64,
            sha256: None,
            may_replace: self.object.may_replace,
        };
        (object, text)
    }

    async fn put_of<B: Bucket>(&self, bucket: &B, subject: &Subject) -> Result<bool, StoreTrouble> {
        let (object, text) = self.object_of(subject);
        match standing::look(bucket, &object).await? {
            ObjectStanding::Ours(_) => return Ok(true),
            // Otherwise the store itself says so, and no portal or proxy before it.
            ObjectStanding::Other if self.looks_first && !object.may_replace => return Ok(false),
            ObjectStanding::Other | ObjectStanding::Nothing => {}
        }
        let source = B::Source::from(text.into_bytes());
        match standing::put(bucket, &object, &source).await {
            Ok(_) => Ok(true),
            Err(StoreTrouble::Exists) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// None is better than one that speaks of another object.
    async fn take_back<B: Bucket>(
        &self,
        bucket: &B,
        written: &Subject,
    ) -> Result<(), StoreTrouble> {
        let (object, _) = self.object_of(written);
        match standing::look(bucket, &object).await? {
            ObjectStanding::Ours(_) => bucket.remove(&object.key).await,
            ObjectStanding::Other | ObjectStanding::Nothing => Ok(()),
        }
    }
}

/// How often it is written anew because the object was replaced meanwhile.
const TRIES_MAX: usize = 8;
