//! A store that speaks S3, by the client of AWS: what each request says, and what its answer means.
//!
//! The client's own retries are off: what is repeated, and what is believed, is decided in
//! [`super::deliver`]. Its credentials come as for every program of AWS: from the environment, a
//! profile, a web identity or the role of the machine.
//!
//! Bytes are read from their file twice: once for their CRC-32, which goes into a field of the
//! request, and once to be sent. The other way, a trailer behind the body, is unknown to many
//! stores. The second time they come from the page cache, and then that gives them up: the pages
//! of the next part are those of this one, which are at hand. Pages that nobody has touched for
//! long made the reading of a gigabyte take 0.7 to 1.7 s of a processor, where it takes 0.07 so.

mod bounded;
mod client;
mod moving;
mod source;

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::operation::list_parts::ListPartsError;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use sha2::{Digest as _, Sha256};

use super::bucket::{Bucket, Object, Part, PutAnswer, SeenObject, StoreNames, StoreTrouble};
use super::note::StorePlace;
use crate::diagnosis::PartChanged;
use crate::http::digest::{Hex, parse_hex};
use client::Renewed;
use moving::{Moving, SILENCE_MAX, silence};
pub use source::S3Source;
use source::in_base64;

/// A client of one bucket.
pub struct S3Bucket {
    client: Renewed,
    bucket: String,
    silence_max: Duration,
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
            silence_max: SILENCE_MAX,
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

    /// What an error means where parts were to be listed: by a 404 whose words cannot be read it is
    /// the upload that is not there, or the bucket, or what answers is no store.
    fn unlisted(&self, error: SdkError<ListPartsError>) -> StoreTrouble {
        let is_mute = status(&error) == Some(404) && error.code().is_none_or(str::is_empty);
        match self.trouble(error) {
            StoreTrouble::Refused(why) if is_mute => StoreTrouble::NotThere(why),
            trouble => trouble,
        }
    }

    /// What comes of a request, if it has not been silence for too long.
    async fn in_time<T>(
        &self,
        moving: &Moving,
        silence: Duration,
        request: impl Future<Output = T>,
    ) -> Result<T, StoreTrouble> {
        let answer = moving.watch(silence.min(self.silence_max), request).await;
        answer.ok_or_else(|| {
            // By another connection next time.
            self.client.doubt();
            StoreTrouble::Doubt("it says nothing, for longer than is waited for".to_owned())
        })
    }

    /// The answer to a request that moves nothing large.
    async fn answer<T, E>(
        &self,
        patience: Duration,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, StoreTrouble>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = self.in_time(&Moving::begin(), patience, request).await?;
        answer.map_err(|error| self.trouble(error))
    }

    /// The length of an object, where HEAD does not tell it: some proxies leave it out.
    async fn length_of(&self, key: &str) -> Result<u64, StoreTrouble> {
        let client = self.client.get().await;
        let request = client.get_object().bucket(&self.bucket).key(key);
        let answer = request.range("bytes=0-0").send();
        let answer = self.in_time(&Moving::begin(), silence(0), answer).await?;
        let told = match answer {
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
        let crc = match object.sha256 {
            Some(sha256) => {
                let (digest, crc) = source.digest(range.clone(), Sha256::new()).await?;
                if digest.finalize()[..] != sha256 {
                    return Err(io::Error::other(PartChanged).into());
                }
                crc
            }
            None => source.crc32(range.clone()).await?,
        };
        let crc32 = in_base64(crc);
        let client = self.client.get().await;
        let moving = Moving::begin();
        let request = (client.put_object())
            .bucket(&self.bucket)
            .key(&object.key)
            .set_metadata(Some(marks(object)))
            .set_if_none_match(condition(object))
            .checksum_crc32(&crc32)
            .content_length(length(&range)?)
            .body(source.body(range, crc, &moving).await?);
        let made = self.in_time(&moving, silence(object.bytes), request.send());
        let made = made.await?.map_err(|error| self.trouble(error))?;
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
        let begun = self.answer(silence(0), request.send()).await?;
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
        source.crc32(range).await.map(in_base64)
    }

    async fn digest(
        &self,
        source: &S3Source,
        range: Range<u64>,
        before: Sha256,
    ) -> Result<(Sha256, String), StoreTrouble> {
        let (sha256, crc) = source.digest(range, before).await?;
        Ok((sha256, in_base64(crc)))
    }

    async fn dont_need(&self, source: &S3Source, range: Range<u64>) {
        source.dont_need(range).await;
    }

    async fn part(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        source: &S3Source,
        range: Range<u64>,
    ) -> Result<Part, StoreTrouble> {
        let crc = source.crc32(range.clone()).await?;
        let crc32 = in_base64(crc);
        let bytes = range.end - range.start;
        let client = self.client.get().await;
        let moving = Moving::begin();
        let request = (client.upload_part())
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload)
            .part_number(part_number(number)?)
            .checksum_crc32(&crc32)
            .content_length(length(&range)?)
            .body(source.body(range, crc, &moving).await?);
        let sent = self.in_time(&moving, silence(bytes), request.send());
        let sent = sent.await?.map_err(|error| self.trouble(error))?;
        Ok(Part {
            number,
            bytes,
            etag: sent.e_tag.unwrap_or_default(),
            crc32: Some(crc32),
        })
    }

    async fn parts(&self, key: &str, upload: &str) -> Result<Vec<Part>, StoreTrouble> {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        for _page in 0..PARTS_MAX {
            let client = self.client.get().await;
            let request = (client.list_parts())
                .bucket(&self.bucket)
                .key(key)
                .upload_id(upload)
                .set_part_number_marker(marker.clone());
            let moving = Moving::begin();
            let page = self.in_time(&moving, silence(0), request.send());
            let page = page.await?.map_err(|error| self.unlisted(error))?;
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
            let is_empty = page.parts().is_empty();
            let next = page.next_part_number_marker;
            match page.is_truncated {
                Some(true) if next.is_some() && all.len() < PARTS_MAX => {
                    // It would be asked the same for ever.
                    if is_empty || place(next.as_deref()) <= place(marker.as_deref()) {
                        break;
                    }
                    marker = next;
                }
                _ => return Ok(all),
            }
        }
        let why = "it lists parts without end, and does not get on with that";
        Err(StoreTrouble::Unreadable(why.to_owned()))
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
        let made = self.answer(SILENCE_MAX, request.send()).await?;
        Ok(StoreNames::told(made.version_id(), made.e_tag()))
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<(), StoreTrouble> {
        let client = self.client.get().await;
        let request = (client.abort_multipart_upload())
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload);
        self.answer(silence(0), request.send()).await.map(drop)
    }

    async fn uploads(&self, key: &str) -> Result<Vec<String>, StoreTrouble> {
        let client = self.client.get().await;
        let request = (client.list_multipart_uploads())
            .bucket(&self.bucket)
            .prefix(key);
        let page = self.answer(silence(0), request.send()).await?;
        let ours = (page.uploads().iter()).filter(|upload| upload.key.as_deref() == Some(key));
        Ok(ours.filter_map(|upload| upload.upload_id.clone()).collect())
    }

    async fn look(&self, key: &str) -> Result<Option<SeenObject>, StoreTrouble> {
        let client = self.client.get().await;
        let request = client.head_object().bucket(&self.bucket).key(key);
        let moving = Moving::begin();
        match self.in_time(&moving, silence(0), request.send()).await? {
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
        self.answer(silence(0), request.send()).await.map(drop)
    }

    async fn rest(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
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

/// The number of the part that a page of a list ends with.
fn place(marker: Option<&str>) -> Option<u32> {
    marker.and_then(|marker| marker.parse().ok())
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
        return unanswered(&error);
    };
    let code = error.code().unwrap_or_default();
    let why = match (error.message(), code, status) {
        (Some(message), code, _) if !code.is_empty() => {
            let said = message.chars().take(SAID_CHARS_MAX).collect::<String>();
            format!("{code}: {said}")
        }
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

/// What it means that there is no answer of the store. The innermost cause says most.
fn unanswered<E>(error: &SdkError<E>) -> StoreTrouble
where
    E: std::error::Error + 'static,
{
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    let Some(last) = causes().last().map(ToString::to_string) else {
        return StoreTrouble::Doubt(DisplayErrorContext(error).to_string());
    };
    // The machine's answer to a question for credentials may have them in it.
    let last = last.split(RAW).next().unwrap_or_default();
    // A list of all that was tried has lines.
    let last = last.lines().map(str::trim).collect::<Vec<_>>();
    let last = last.join("; ").replace(":; ", ": ");
    let last = last.trim_end().trim_end_matches('.');
    match causes().any(|cause| cause.is::<CredentialsError>()) {
        true => StoreTrouble::Unsigned(format!("{LOOKED_FOR}: {last}")),
        false => StoreTrouble::Doubt(format!("{error}: {last}")),
    }
}

/// What an answer begins with that the library shows as it is.
const RAW: &str = "Response {";
const LOOKED_FOR: &str = "(looked for in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, \
                          a web identity, the role of a container or of the machine)";

/// Of what a store says no more is told, and kept for `/ready`.
const SAID_CHARS_MAX: usize = 1_000;
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
/// S3 has no more.
const PARTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// What takes connections and says nothing holds nobody for ever, whatever is asked of it.
    #[tokio::test]
    async fn a_store_that_says_nothing_is_a_try_that_failed() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut bucket = bucket_at(&silent).await;
        bucket.silence_max = Duration::from_millis(200);
        let file = tempfile::tempfile().unwrap();
        // More than any buffer on the way takes.
        let bytes = 64 << 20;
        file.set_len(bytes).unwrap();
        let source = S3Source::from(file);
        let object = |bytes| Object {
            key: "k".to_owned(),
            session: "s".to_owned(),
            bytes,
            sha256: None,
            may_replace: true,
        };
        let asked = async {
            for size in [1, bytes] {
                assert_silent(bucket.put(&object(size), &source).await);
                assert_silent(bucket.part("k", "u", 1, &source, 0..size).await);
            }
            assert_silent(bucket.begin(&object(1)).await);
            assert_silent(bucket.parts("k", "u").await);
            assert_silent(bucket.complete(&object(1), "u", &[]).await);
            assert_silent(bucket.abort("k", "u").await);
            assert_silent(bucket.uploads("k").await);
            assert_silent(bucket.look("k").await);
            assert_silent(bucket.length_of("k").await);
            assert_silent(bucket.remove("k").await);
        };
        let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
        assert!(asked.is_ok(), "it is waited for");
    }

    /// A bucket of a store that listens there.
    pub(super) async fn bucket_at(listener: &TcpListener) -> S3Bucket {
        let place = StorePlace {
            bucket: "b".to_owned(),
            region: "r".to_owned(),
            endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
            path_style: true,
            ca: Default::default(),
        };
        let bucket = S3Bucket::open(&place).await.unwrap();
        bucket.client.give_credentials();
        bucket
    }

    /// A list of parts that says each time that more follows.
    #[tokio::test]
    async fn a_list_that_does_not_end_is_not_asked_for_ever() {
        const PART: &str = "<Part><PartNumber>1</PartNumber><Size>9</Size><ETag>e</ETag></Part>";
        for (parts, asked_max) in [("", 1), (PART, 2)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let bucket = bucket_at(&listener).await;
            let asked = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&asked);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let _head = stream.read(&mut [0; 8_192]).unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                    let body = format!(
                        "<ListPartsResult><IsTruncated>true</IsTruncated>\
                         <NextPartNumberMarker>1</NextPartNumberMarker>{parts}</ListPartsResult>"
                    );
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
            let listed = tokio::time::timeout(Duration::from_secs(10), bucket.parts("k", "u"));
            let listed = listed.await.expect("it is asked without end");
            assert!(
                matches!(listed, Err(StoreTrouble::Unreadable(_))),
                "{listed:?}"
            );
            assert_eq!(asked.load(Ordering::SeqCst), asked_max);
        }
    }

    /// What says 404 to a question for parts, in words that nobody can read, has not said that the
    /// upload is gone, nor that it is there.
    #[tokio::test]
    async fn a_404_that_nobody_can_read_is_no_refusal_of_a_list() {
        const GONE: &str = "<Code>NoSuchUpload</Code>";
        for (words, is_readable) in [("a b", true), ("a \u{1b} b", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let bucket = bucket_at(&listener).await;
            let store = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let _head = stream.read(&mut [0; 8_192]).unwrap();
                let body = format!("<Error>{GONE}<Message>{words}</Message></Error>");
                let answer = format!(
                    "HTTP/1.1 404 no\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let listed = bucket.parts("k", "u").await;
            store.join().unwrap();
            let is_right = match is_readable {
                true => matches!(listed, Err(StoreTrouble::Gone)),
                false => matches!(listed, Err(StoreTrouble::NotThere(_))),
            };
            assert!(is_right, "{words:?}: {listed:?}");
        }
    }

    #[track_caller]
    fn assert_silent<T: std::fmt::Debug>(answer: Result<T, StoreTrouble>) {
        let why = answer.unwrap_err().to_string();
        assert!(why.contains("it says nothing"), "{why}");
    }
}
