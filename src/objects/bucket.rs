//! What is asked of an object store: a few requests, each of which may have been carried out
//! although it failed.

use std::fmt;
use std::io;
use std::ops::Range;

use sha2::Sha256;

use crate::diagnosis::{self, is_part_changed};
use crate::server::object_order::ObjectOrder;

/// An object that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub key: String,
    /// The session that it comes from: its mark.
    pub session: String,
    pub bytes: u64,
    /// SHA-256, where it is known; a mark too.
    pub sha256: Option<[u8; 32]>,
    /// Whether one that stands there gives way.
    pub may_replace: bool,
}

impl Object {
    /// What is to be made of the file of a session.
    pub fn of(order: &ObjectOrder) -> Self {
        Self {
            key: order.key.clone(),
            session: order.session.plain().to_string(),
            bytes: order.bytes,
            sha256: order.sha256,
            may_replace: order.may_replace,
        }
    }
}

/// A part that a store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1 on.
    pub number: u32,
    pub bytes: u64,
    /// The store's name for its content; empty where it has told none.
    pub etag: String,
    /// CRC-32 of it as the store writes it, where that is known.
    pub crc32: Option<String>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenObject {
    /// The mark of the session that it comes from, if it has one.
    pub session: Option<String>,
    /// The mark of its SHA-256, if it has one: what was sent ahead has none.
    pub sha256: Option<[u8; 32]>,
    pub bytes: u64,
    pub names: StoreNames,
}

/// What a store itself calls an object; it may tell neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreNames {
    /// Its name for this very version, where it keeps several.
    pub version: Option<String>,
    /// Its name for the content, without quotes.
    pub etag: Option<String>,
}

impl StoreNames {
    /// As a store tells them; what makes no sense is left out.
    pub fn told(version: Option<&str>, etag: Option<&str>) -> Self {
        let plain = |text: &str| {
            let is_plain = !text.is_empty() && text.len() <= NAME_BYTES_MAX;
            is_plain.then(|| text.to_owned())
        };
        Self {
            // So stores call the one version of a bucket that has no versions.
            version: version.filter(|text| *text != "null").and_then(plain),
            etag: etag.map(|text| text.trim_matches('"')).and_then(plain),
        }
    }
}

/// Bytes of a name of S3; keys have as many.
const NAME_BYTES_MAX: usize = 1_024;

/// A request did not do what was asked.
#[derive(Debug)]
pub enum StoreTrouble {
    /// The store says that an object is there already.
    Exists,
    /// It knows no such upload.
    Gone,
    /// To a question for the parts of an upload: something is not there, and nobody can read what:
    /// the upload, or the bucket, or the store behind what answers.
    NotThere(String),
    /// It refuses, and nothing was done.
    Refused(String),
    /// By these settings it cannot be asked: what they name cannot be read, or they want of the
    /// store what it does not do.
    Settings(String),
    /// It was not asked: there is nothing to sign a request with.
    Unsigned(String),
    /// Nobody knows whether it was done: no answer, or one that says nothing of that.
    Doubt(String),
    /// It answers, and nobody can read what.
    Unreadable(String),
    /// The file cannot be read, or the note not written.
    Local(io::Error),
}

impl StoreTrouble {
    /// Whether it refuses whoever asks, and not what is asked: other credentials, or the right
    /// time, mend that.
    pub fn is_of_credentials(&self) -> bool {
        let Self::Refused(why) = self else {
            return false;
        };
        let code = why.split(':').next().unwrap_or_default();
        OF_CREDENTIALS.contains(&code)
    }

    /// What helps, where the cause is.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Exists => "move the object that is there: this file was promised to its client",
            Self::Settings(_) => "mend the settings, or what they name, as `why` says",
            Self::Local(error) => diagnosis::in_work_dir(error).remedy,
            Self::Unsigned(_) => GIVE_CREDENTIALS,
            Self::Gone
            | Self::NotThere(_)
            | Self::Refused(_)
            | Self::Doubt(_)
            | Self::Unreadable(_) => LOOK_AT_STORE,
        }
    }
}

/// What helps against most of what a store says.
pub const LOOK_AT_STORE: &str = "look at the store: its credentials, its bucket, its space";
/// What helps where nothing can be asked of it.
const GIVE_CREDENTIALS: &str = "give bitsd credentials in one of these places, or mend the one that `why` ends with; the account of the \
     service has to be able to read it";

/// Codes of S3.
const OF_CREDENTIALS: &[&str] = &[
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

impl fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("another object has that name"),
            Self::Gone => f.write_str("the store has lost the upload"),
            Self::NotThere(why) | Self::Refused(why) | Self::Settings(why) => f.write_str(why),
            Self::Unsigned(why) => write!(f, "no AWS credentials were found {why}"),
            Self::Doubt(why) => write!(f, "no clear answer: {why}"),
            Self::Unreadable(why) => write!(f, "an answer that makes no sense: {why}"),
            // No disk has failed.
            Self::Local(error) if is_part_changed(error) => error.fmt(f),
            Self::Local(error) => write!(f, "the disk failed: {error}"),
        }
    }
}

impl From<io::Error> for StoreTrouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

/// What a store says to a whole object.
#[derive(Clone, Debug, Default)]
pub struct PutAnswer {
    /// What it calls the object.
    pub names: StoreNames,
    /// It told the checksum of the bytes, which nobody can who has not taken them.
    pub is_proven: bool,
}

/// One bucket of one store.
#[allow(async_fn_in_trait)]
pub trait Bucket {
    /// Where the bytes of an object are read from.
    type Source: From<Vec<u8>>;

    /// Makes a whole object. `Exists` only where it may not replace. Where its digest is known none
    /// is made of bytes that have another one: `Local`, by [`diagnosis::PartChanged`].
    async fn put(&self, object: &Object, source: &Self::Source) -> Result<PutAnswer, StoreTrouble>;
    /// Begins an upload in parts, and names it.
    async fn begin(&self, object: &Object) -> Result<String, StoreTrouble>;
    /// Whether the store's name for the content of a whole object is that of these bytes. It is
    /// their MD5 in most stores, where a key of their own does not encrypt it.
    async fn is_named(
        &self,
        source: &Self::Source,
        bytes: u64,
        etag: &str,
    ) -> Result<bool, StoreTrouble>;
    /// CRC-32 of some bytes, as the store writes it.
    async fn crc32(&self, source: &Self::Source, range: Range<u64>)
    -> Result<String, StoreTrouble>;
    /// The same, and a digest of what came before and of these bytes.
    async fn digest(
        &self,
        source: &Self::Source,
        range: Range<u64>,
        before: Sha256,
    ) -> Result<(Sha256, String), StoreTrouble>;
    /// These bytes were read for the last time, as far as can be told: no memory is to be kept for
    /// them.
    async fn dont_need(&self, _: &Self::Source, _: Range<u64>) {}
    /// Sends a part; one of the same number gives way.
    async fn part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        source: &Self::Source,
        range: Range<u64>,
    ) -> Result<Part, StoreTrouble>;
    /// The parts that the store has.
    async fn parts(&self, key: &str, upload: &str) -> Result<Vec<Part>, StoreTrouble>;
    /// Makes an object of the parts; what the store calls it.
    async fn complete(
        &self,
        object: &Object,
        upload: &str,
        parts: &[Part],
    ) -> Result<StoreNames, StoreTrouble>;
    /// Ends an upload without an object.
    async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreTrouble>;
    /// The uploads that were begun for this very key, and not ended.
    async fn uploads(&self, key: &str) -> Result<Vec<String>, StoreTrouble>;
    /// What stands under a key.
    async fn look(&self, key: &str) -> Result<Option<SeenObject>, StoreTrouble>;
    /// Removes an object.
    async fn remove(&self, key: &str) -> Result<(), StoreTrouble>;
    /// Lets so many milliseconds pass.
    async fn rest(&self, ms: u64);
}

/// In a program that knows no store. The settings of such a program name none.
#[cfg(not(feature = "s3"))]
pub mod nowhere {
    use std::fs::File;
    use std::ops::Range;

    use sha2::Sha256;

    use super::{Bucket, Object, Part, PutAnswer, SeenObject, StoreNames, StoreTrouble};
    use crate::objects::note::StorePlace;

    /// None.
    pub enum NoBucket {}

    /// Bytes that go nowhere.
    pub struct NoSource;

    impl From<Vec<u8>> for NoSource {
        fn from(_: Vec<u8>) -> Self {
            Self
        }
    }

    impl From<File> for NoSource {
        fn from(_: File) -> Self {
            Self
        }
    }

    impl NoBucket {
        /// There is none.
        ///
        /// # Errors
        /// Always.
        #[allow(clippy::unused_async, reason = "as the others")]
        pub async fn open(_: &StorePlace) -> Result<Self, StoreTrouble> {
            let why = "this program was built without the feature `s3`";
            Err(StoreTrouble::Refused(why.to_owned()))
        }

        /// As the other one.
        pub fn renew(&self) {
            match *self {}
        }
    }

    impl Bucket for NoBucket {
        type Source = NoSource;

        async fn put(&self, _: &Object, _: &NoSource) -> Result<PutAnswer, StoreTrouble> {
            match *self {}
        }

        async fn begin(&self, _: &Object) -> Result<String, StoreTrouble> {
            match *self {}
        }

        async fn is_named(&self, _: &NoSource, _: u64, _: &str) -> Result<bool, StoreTrouble> {
            match *self {}
        }

        async fn crc32(&self, _: &NoSource, _: Range<u64>) -> Result<String, StoreTrouble> {
            match *self {}
        }

        async fn digest(
            &self,
            _: &NoSource,
            _: Range<u64>,
            _: Sha256,
        ) -> Result<(Sha256, String), StoreTrouble> {
            match *self {}
        }

        async fn part(
            &self,
            _: &str,
            _: &str,
            _: u32,
            _: &NoSource,
            _: Range<u64>,
        ) -> Result<Part, StoreTrouble> {
            match *self {}
        }

        async fn parts(&self, _: &str, _: &str) -> Result<Vec<Part>, StoreTrouble> {
            match *self {}
        }

        async fn complete(
            &self,
            _: &Object,
            _: &str,
            _: &[Part],
        ) -> Result<StoreNames, StoreTrouble> {
            match *self {}
        }

        async fn abort(&self, _: &str, _: &str) -> Result<(), StoreTrouble> {
            match *self {}
        }

        async fn uploads(&self, _: &str) -> Result<Vec<String>, StoreTrouble> {
            match *self {}
        }

        async fn look(&self, _: &str) -> Result<Option<SeenObject>, StoreTrouble> {
            match *self {}
        }

        async fn remove(&self, _: &str) -> Result<(), StoreTrouble> {
            match *self {}
        }

        async fn rest(&self, _: u64) {
            match *self {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_said_of_whoever_is_the_cause() {
        let remedy = |trouble: StoreTrouble| trouble.remedy();
        let local = |kind: rustix::io::Errno| remedy(StoreTrouble::Local(kind.into()));
        assert!(local(rustix::io::Errno::NOENT).contains("work_dir"));
        assert!(local(rustix::io::Errno::NOSPC).contains("free some space"));
        assert!(local(rustix::io::Errno::IO).contains("device"));
        let ca = remedy(StoreTrouble::Settings("store_ca /x: gone".to_owned()));
        assert!(ca.contains("settings"), "{ca}");
        let unsigned = StoreTrouble::Unsigned("(looked for in A): gone".to_owned());
        assert!(remedy(unsigned).contains("credentials"));
        for trouble in [StoreTrouble::Gone, StoreTrouble::Doubt(String::new())] {
            assert_eq!(remedy(trouble), LOOK_AT_STORE);
        }
    }
}
