//! A store that speaks S3, by the client of AWS: what each request says, and what its answer means.
//!
//! The client's own retries are off: what is repeated, and what is believed, is decided in
//! [`super::deliver`]. Its credentials come as for every program of AWS: from the environment, a
//! profile, a web identity or the role of the machine.
//!
//! Bytes are read from their file twice: once for their CRC-32, which goes into a field of the
//! request, and once to be sent. The other way, a trailer behind the body, is unknown to many
//! stores.

mod client;

use std::error::Error as _;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::byte_stream::{FsBuilder, Length};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::bucket::{Bucket, Object, Part, PutAnswer, SeenObject, StoreNames, StoreTrouble};
use super::note::StorePlace;
use crate::http::digest::{Hex, parse_hex};
use client::Renewed;

/// A client of one bucket.
pub struct S3Bucket {
    client: Renewed,
    bucket: String,
}

/// Bytes of an object.
pub enum S3Source {
    File(Arc<File>),
    Bytes(Vec<u8>),
}

impl From<Vec<u8>> for S3Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<File> for S3Source {
    fn from(file: File) -> Self {
        Self::File(Arc::new(file))
    }
}

impl S3Bucket {
    /// Of a bucket; nothing is asked of the store yet.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub async fn open(place: &StorePlace) -> Result<Self, StoreTrouble> {
        Ok(Self {
            client: Renewed::open(place).await?,
            bucket: place.bucket.clone(),
        })
    }

    /// What the client was made of may have changed.
    pub fn renew(&self) {
        self.client.renew();
    }

    /// What an error means; also for the client.
    fn trouble<E>(&self, error: SdkError<E>) -> StoreTrouble
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let is_let_in = match &error {
            SdkError::ServiceError(_) => !matches!(status(&error), Some(401 | 403)),
            _ => false,
        };
        let trouble = trouble(error);
        if !is_let_in || trouble.is_of_credentials() {
            self.client.doubt();
        }
        trouble
    }

    /// The length of an object, where HEAD does not tell it: some proxies leave it out.
    async fn length_of(&self, key: &str) -> Result<u64, StoreTrouble> {
        let client = self.client.get().await;
        let request = client.get_object().bucket(&self.bucket).key(key);
        let told = match request.range("bytes=0-0").send().await {
            Ok(seen) => {
                (seen.content_range()).and_then(|range| range.rsplit('/').next()?.parse().ok())
            }
            // There is no first byte.
            Err(error) if status(&error) == Some(416) => Some(0),
            Err(error) => return Err(self.trouble(error)),
        };
        told.ok_or_else(|| StoreTrouble::Doubt("it tells the length of no object".to_owned()))
    }
}

impl Bucket for S3Bucket {
    type Source = S3Source;

    async fn put(&self, object: &Object, source: &S3Source) -> Result<PutAnswer, StoreTrouble> {
        let range = 0..object.bytes;
        let crc32 = source.crc32(range.clone()).await?;
        let client = self.client.get().await;
        let request = (client.put_object())
            .bucket(&self.bucket)
            .key(&object.key)
            .set_metadata(Some(marks(object)))
            .set_if_none_match(condition(object))
            .checksum_crc32(&crc32)
            .content_length(length(&range)?)
            .body(source.body(range).await?);
        let made = request.send().await.map_err(|error| self.trouble(error))?;
        Ok(PutAnswer {
            names: StoreNames::told(made.version_id(), made.e_tag()),
            is_proven: made.checksum_crc32() == Some(&*crc32),
        })
    }

    async fn begin(&self, object: &Object) -> Result<String, StoreTrouble> {
        let client = self.client.get().await;
        let request = (client.create_multipart_upload())
            .bucket(&self.bucket)
            .key(&object.key)
            .set_metadata(Some(marks(object)))
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        let begun = request.send().await.map_err(|error| self.trouble(error))?;
        let upload = begun.upload_id.filter(|upload| !upload.is_empty());
        upload.ok_or_else(|| StoreTrouble::Doubt("an upload without a name".to_owned()))
    }

    async fn is_named(
        &self,
        source: &S3Source,
        bytes: u64,
        etag: &str,
    ) -> Result<bool, StoreTrouble> {
        Ok(etag.eq_ignore_ascii_case(&source.md5(bytes).await?))
    }

    async fn crc32(&self, source: &S3Source, range: Range<u64>) -> Result<String, StoreTrouble> {
        source.crc32(range).await
    }

    async fn part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        source: &S3Source,
        range: Range<u64>,
    ) -> Result<Part, StoreTrouble> {
        let crc32 = source.crc32(range.clone()).await?;
        let client = self.client.get().await;
        let request = (client.upload_part())
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(part_number(number)?)
            .checksum_crc32(&crc32)
            .content_length(length(&range)?)
            .body(source.body(range.clone()).await?);
        let sent = request.send().await.map_err(|error| self.trouble(error))?;
        Ok(Part {
            number,
            bytes: range.end - range.start,
            etag: sent.e_tag.unwrap_or_default(),
            crc32: Some(crc32),
        })
    }

    async fn parts(&self, key: &str, upload: &str) -> Result<Vec<Part>, StoreTrouble> {
        let mut all = Vec::new();
        let mut marker = None;
        loop {
            let client = self.client.get().await;
            let request = (client.list_parts())
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .set_part_number_marker(marker.take());
            let page = request.send().await.map_err(|error| self.trouble(error))?;
            for part in page.parts() {
                let number = part
                    .part_number
                    .and_then(|number| u32::try_from(number).ok());
                let bytes = part.size.and_then(|bytes| u64::try_from(bytes).ok());
                if let (Some(number), Some(bytes)) = (number, bytes) {
                    all.push(Part {
                        number,
                        bytes,
                        etag: part.e_tag.clone().unwrap_or_default(),
                        crc32: part.checksum_crc32.clone(),
                    });
                }
            }
            let next = page.next_part_number_marker;
            match page.is_truncated {
                Some(true) if next.is_some() && all.len() < PARTS_MAX => marker = next,
                _ => return Ok(all),
            }
        }
    }

    async fn complete(
        &self,
        object: &Object,
        upload: &str,
        parts: &[Part],
    ) -> Result<StoreNames, StoreTrouble> {
        let mut completed = CompletedMultipartUpload::builder();
        for part in parts {
            completed = completed.parts(
                CompletedPart::builder()
                    .part_number(part_number(part.number)?)
                    .e_tag(&part.etag)
                    .set_checksum_crc32(part.crc32.clone())
                    .build(),
            );
        }
        let client = self.client.get().await;
        let request = (client.complete_multipart_upload())
            .bucket(&self.bucket)
            .key(&object.key)
            .upload_id(upload)
            .set_if_none_match(condition(object))
            .multipart_upload(completed.build());
        let made = request.send().await.map_err(|error| self.trouble(error))?;
        Ok(StoreNames::told(made.version_id(), made.e_tag()))
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreTrouble> {
        let client = self.client.get().await;
        let request = (client.abort_multipart_upload())
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload);
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| self.trouble(error))
    }

    async fn uploads(&self, key: &str) -> Result<Vec<String>, StoreTrouble> {
        let client = self.client.get().await;
        let request = (client.list_multipart_uploads())
            .bucket(&self.bucket)
            .prefix(key);
        let page = request.send().await.map_err(|error| self.trouble(error))?;
        let ours = (page.uploads().iter()).filter(|upload| upload.key.as_deref() == Some(key));
        Ok(ours.filter_map(|upload| upload.upload_id.clone()).collect())
    }

    async fn look(&self, key: &str) -> Result<Option<SeenObject>, StoreTrouble> {
        let client = self.client.get().await;
        let request = client.head_object().bucket(&self.bucket).key(key);
        match request.send().await {
            // Each object has one, and a page of a portal has none.
            Ok(seen) if seen.e_tag().is_none_or(str::is_empty) => Err(StoreTrouble::Doubt(
                "what answers is no object store: it shows an object without an ETag".to_owned(),
            )),
            Ok(seen) => Ok(Some(SeenObject {
                bytes: match seen.content_length.map(u64::try_from) {
                    Some(Ok(bytes)) => bytes,
                    _ => self.length_of(key).await?,
                },
                names: StoreNames::told(seen.version_id(), seen.e_tag()),
                session: (seen.metadata.as_ref()).and_then(|marks| marks.get(MARK).cloned()),
                sha256: (seen.metadata.as_ref())
                    .and_then(|marks| parse_hex(marks.get(DIGEST_MARK)?)),
            })),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.trouble(error)),
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreTrouble> {
        let client = self.client.get().await;
        let request = client.delete_object().bucket(&self.bucket).key(key);
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| self.trouble(error))
    }

    async fn rest(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl S3Source {
    /// CRC-32 of a range, as the store writes it.
    async fn crc32(&self, range: Range<u64>) -> Result<String, StoreTrouble> {
        let crc = match self {
            Self::Bytes(bytes) => crc32fast::hash(bytes),
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || crc32_of(&file, range));
                read.await.map_err(io::Error::other)??
            }
        };
        Ok(STANDARD.encode(crc.to_be_bytes()))
    }

    /// MD5 of the first bytes, as a store names a content.
    async fn md5(&self, bytes: u64) -> Result<String, StoreTrouble> {
        let mut md5 = Md5::new();
        let md5 = match self {
            Self::Bytes(bytes) => {
                md5.update(bytes);
                md5
            }
            Self::File(file) => {
                let file = Arc::clone(file);
                let read = tokio::task::spawn_blocking(move || {
                    read_blocks(&file, 0..bytes, |block| md5.update(block))?;
                    io::Result::Ok(md5)
                });
                read.await.map_err(io::Error::other)??
            }
        };
        Ok(Hex(&md5.finalize()[..]).to_string())
    }

    async fn body(&self, range: Range<u64>) -> Result<ByteStream, StoreTrouble> {
        let file = match self {
            Self::Bytes(bytes) => return Ok(ByteStream::new(SdkBody::from(bytes.clone()))),
            Self::File(file) => Arc::clone(file),
        };
        // One of its own: what still reads for a request that was given up moves another one.
        let again = tokio::task::spawn_blocking(move || {
            File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        });
        let file = again.await.map_err(io::Error::other)??;
        let body = FsBuilder::new()
            .file(tokio::fs::File::from_std(file))
            .offset(range.start)
            .length(Length::Exact(range.end - range.start))
            .buffer_size(BLOCK_BYTES);
        body.build()
            .await
            .map_err(|error| StoreTrouble::Local(io::Error::other(error)))
    }
}

fn crc32_of(file: &File, range: Range<u64>) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    read_blocks(file, range, |block| crc.update(block))?;
    Ok(crc.finalize())
}

fn read_blocks(file: &File, range: Range<u64>, mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let wanted = left.min(BLOCK_BYTES);
        file.read_exact_at(&mut block[..wanted], at)?;
        show(&block[..wanted]);
        at += wanted as u64;
    }
    Ok(())
}

/// What an object bears.
fn marks(object: &Object) -> std::collections::HashMap<String, String> {
    let mut marks = std::collections::HashMap::new();
    marks.insert(MARK.to_owned(), object.session.clone());
    if let Some(sha256) = &object.sha256 {
        marks.insert(DIGEST_MARK.to_owned(), Hex(sha256).to_string());
    }
    marks
}

fn condition(object: &Object) -> Option<String> {
    (!object.may_replace).then(|| "*".to_owned())
}

fn length(range: &Range<u64>) -> Result<i64, StoreTrouble> {
    i64::try_from(range.end - range.start)
        .map_err(|_| StoreTrouble::Local(io::ErrorKind::FileTooLarge.into()))
}

fn part_number(number: u32) -> Result<i32, StoreTrouble> {
    i32::try_from(number).map_err(|_| StoreTrouble::Local(io::ErrorKind::FileTooLarge.into()))
}

fn is_missing(error: &SdkError<HeadObjectError>) -> bool {
    status(error) == Some(404) && error.code() != Some("NoSuchBucket")
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// What an error means for the question whether anything was done.
fn trouble<E>(error: SdkError<E>) -> StoreTrouble
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = status(&error);
    let SdkError::ServiceError(_) = &error else {
        // Not sent at all for want of credentials, cut, timed out, or not understood.
        return StoreTrouble::Doubt(in_words(&error));
    };
    let code = error.code().unwrap_or_default();
    let why = match (error.message(), code, status) {
        (Some(message), code, _) if !code.is_empty() => format!("{code}: {message}"),
        (_, "", Some(status)) => format!("status {status}"),
        (_, code, _) => code.to_owned(),
    };
    match (status, code) {
        // Ceph says the latter of an upload that was aborted. A look for an object comes not here.
        (_, "NoSuchUpload" | "NoSuchKey") => StoreTrouble::Gone,
        (Some(412), _) | (_, "PreconditionFailed") => StoreTrouble::Exists,
        (Some(200..=299), "") => StoreTrouble::Unreadable(why),
        (_, code) if TRANSIENT.contains(&code) => StoreTrouble::Doubt(why),
        (Some(408 | 409 | 425 | 429), _) => StoreTrouble::Doubt(why),
        (Some(400..=499 | 501), _) => StoreTrouble::Refused(why),
        _ => StoreTrouble::Doubt(why),
    }
}

/// The innermost cause says most.
fn in_words<E>(error: &SdkError<E>) -> String
where
    E: std::error::Error + 'static,
{
    let mut cause = error.source();
    while let Some(next) = cause.and_then(std::error::Error::source) {
        cause = Some(next);
    }
    match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => format!("{}", DisplayErrorContext(error)),
    }
}

/// The mark of the session that an object comes from.
const MARK: &str = "bitsd-session";
/// The mark of its SHA-256.
const DIGEST_MARK: &str = "bitsd-sha256";
/// What heals by itself, whatever its status.
const TRANSIENT: &[&str] = &[
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "ConditionalRequestConflict",
];
/// One request, from its beginning to the end of its answer: a part over a slow line, or the
/// making of an object of thousands of them.
const PATIENCE: Duration = Duration::from_secs(600);
/// What is read of a file at a time.
const BLOCK_BYTES: usize = 256 << 10;
/// S3 has no more.
const PARTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// RFC 1321, A.5.
    #[test]
    fn a_content_is_named_as_stores_do() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc and more").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for source in [S3Source::from(file), S3Source::from(b"abc".to_vec())] {
            let name = runtime.block_on(source.md5(3)).unwrap();
            assert_eq!(name, "900150983cd24fb0d6963f7d28e17f72");
        }
    }
}
