//! Bytes of an object, and what is told of them.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_types::byte_stream::{FsBuilder, Length};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rustix::fs::Advice;
use sha2::Sha256;

use super::moving::{Moving, Watched};
use crate::diagnosis::PartChanged;
use crate::http::digest::Hex;
use crate::objects::bucket::StoreTrouble;

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

impl S3Source {
    /// CRC-32 of a range.
    pub(super) async fn crc32(&self, range: Range<u64>) -> Result<u32, StoreTrouble> {
        let crc = crc32fast::Hasher::new();
        let crc = self.summed(range, crc, |crc, block| crc.update(block));
        Ok(crc.await?.finalize())
    }

    /// The same, and a digest of what came before and of the range: of the same bytes, read once.
    pub(super) async fn digest(
        &self,
        range: Range<u64>,
        before: Sha256,
    ) -> Result<(Sha256, u32), StoreTrouble> {
        let sums = (before, crc32fast::Hasher::new());
        let add = |(sha256, crc): &mut (Sha256, crc32fast::Hasher), block: &[u8]| {
            sha256.update(block);
            crc.update(block);
        };
        let (sha256, crc) = self.summed(range, sums, add).await?;
        Ok((sha256, crc.finalize()))
    }

    /// MD5 of the first bytes, as a store names a content.
    pub(super) async fn md5(&self, bytes: u64) -> Result<String, StoreTrouble> {
        let md5 = self.summed(0..bytes, Md5::new(), |md5, block| md5.update(block));
        Ok(Hex(&md5.await?.finalize()[..]).to_string())
    }

    /// What the page cache has of a range may go. What was not written to the disk yet stays.
    pub(super) async fn dont_need(&self, range: Range<u64>) {
        let Self::File(file) = self else {
            return;
        };
        let file = Arc::clone(file);
        let bytes = NonZeroU64::new(range.end - range.start);
        let advise = move || rustix::fs::fadvise(&file, range.start, bytes, Advice::DontNeed);
        // It is advice: where nobody takes it, it is read as well.
        let _advised = tokio::task::spawn_blocking(advise).await;
    }

    /// Adds all bytes of a range to a sum.
    async fn summed<S: Send + 'static>(
        &self,
        range: Range<u64>,
        mut sum: S,
        add: fn(&mut S, &[u8]),
    ) -> Result<S, StoreTrouble> {
        let file = match self {
            Self::Bytes(bytes) => {
                add(&mut sum, bytes);
                return Ok(sum);
            }
            Self::File(file) => Arc::clone(file),
        };
        let read = tokio::task::spawn_blocking(move || {
            read_blocks(&file, range, |block| add(&mut sum, block))?;
            io::Result::Ok(sum)
        });
        Ok(read.await.map_err(io::Error::other)??)
    }

    /// A range, of which this is the CRC-32.
    pub(super) async fn body(
        &self,
        range: Range<u64>,
        crc32: u32,
        moving: &Moving,
    ) -> Result<ByteStream, StoreTrouble> {
        let file = match self {
            Self::Bytes(bytes) => return Ok(ByteStream::new(SdkBody::from(bytes.clone()))),
            Self::File(file) => Arc::clone(file),
        };
        // One of its own: what still reads for a request that was given up moves another one.
        let end = range.end;
        let again = tokio::task::spawn_blocking(move || {
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            match again.metadata()?.len() >= end {
                true => Ok(again),
                false => Err(cut()),
            }
        });
        let file = again.await.map_err(io::Error::other)??;
        let bytes = range.end - range.start;
        let body = FsBuilder::new()
            .file(tokio::fs::File::from_std(file))
            .offset(range.start)
            .length(Length::Exact(bytes))
            .buffer_size(BLOCK_BYTES);
        let body = body.build().await;
        let body = body.map_err(|error| StoreTrouble::Local(io::Error::other(error)))?;
        let watched = Watched::new(body.into_inner(), moving.clone(), bytes, crc32);
        Ok(ByteStream::new(SdkBody::from_body_1_x(watched)))
    }
}

/// A CRC-32 as a store writes it.
pub(super) fn in_base64(crc32: u32) -> String {
    STANDARD.encode(crc32.to_be_bytes())
}

fn read_blocks(file: &File, range: Range<u64>, mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let wanted = left.min(BLOCK_BYTES);
        let read = file.read_exact_at(&mut block[..wanted], at);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => cut(),
            _ => error,
        })?;
        show(&block[..wanted]);
        at += wanted as u64;
    }
    Ok(())
}

/// The file is shorter than what came: somebody has cut it while it was open here.
fn cut() -> io::Error {
    io::Error::other(PartChanged)
}

/// What is read of a file at a time.
const BLOCK_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::io::{Errno, ReadWriteFlags};

    use super::*;
    use crate::diagnosis::is_part_changed;
    use crate::skipping::skip_anywhere;

    /// Whether the page cache has the first bytes of a file; `None` where the file system does not
    /// say.
    fn is_cached(file: &File) -> Option<bool> {
        let mut block = [0; 4096];
        let block = &mut [std::io::IoSliceMut::new(&mut block)];
        match rustix::io::preadv2(file, block, 0, ReadWriteFlags::NOWAIT) {
            Ok(_) => Some(true),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    #[test]
    fn the_page_cache_gives_up_what_was_read() {
        let target = std::env::current_exe().unwrap();
        let mut file = tempfile::tempfile_in(target.parent().unwrap()).unwrap();
        file.write_all(&[1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let again = file.try_clone().unwrap();
        let source = S3Source::from(file);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(source.crc32(0..1 << 20)).unwrap();
        // Where files are in memory there is nothing else that has them.
        let in_memory = rustix::fs::fstatfs(&again).unwrap().f_type == TMPFS_MAGIC;
        if in_memory || is_cached(&again).is_none() {
            return skip_anywhere("the file system does not tell what the page cache has");
        }
        assert_eq!(is_cached(&again), Some(true));
        runtime.block_on(source.dont_need(0..1 << 20));
        assert_eq!(is_cached(&again), Some(false));
    }

    /// Goal: a file that is cut while it is open is told as that, by whatever reads it.
    #[tokio::test]
    async fn a_file_that_is_cut_while_it_is_open_is_not_what_was_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let again = file.try_clone().unwrap();
        let source = S3Source::from(file);
        let crc = source.crc32(0..10).await.unwrap();
        again.set_len(9).unwrap();
        let (moving, sum) = (Moving::begin(), Sha256::new());
        let told = [
            source.crc32(0..10).await.map(drop),
            source.digest(0..10, sum).await.map(drop),
            source.md5(10).await.map(drop),
            source.body(0..10, crc, &moving).await.map(drop),
        ];
        for outcome in told {
            let Err(StoreTrouble::Local(error)) = outcome else {
                panic!("{outcome:?}");
            };
            assert!(is_part_changed(&error), "{error}");
        }
        source.crc32(0..9).await.unwrap();
    }

    const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

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
