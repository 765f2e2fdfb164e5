//! How long a request may last: as long as bytes of it go out, and no longer than a bounded time
//! after that. A store that takes a connection and says nothing would keep a file waiting for ever
//! otherwise, and nobody would hear of it; one that takes a large part slowly is left to it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::primitives::SdkBody;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// When bytes of a request went out last.
#[derive(Clone, Debug)]
pub(super) struct Moving(Arc<Mutex<Instant>>);

impl Moving {
    /// Of a request that begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes of a request; `None` if it has not come to its end so long after bytes of it went
    /// out last.
    pub(super) async fn watch<T>(
        &self,
        silence: Duration,
        request: impl Future<Output = T>,
    ) -> Option<T> {
        let mut request = pin!(request);
        loop {
            let last = self.last();
            let answer = tokio::time::timeout_at(last + silence, request.as_mut()).await;
            match answer {
                Ok(answer) => return Some(answer),
                Err(_) if self.last() == last => return None,
                Err(_) => {}
            }
        }
    }
}

/// How long a store may say nothing when it has got so many bytes. They may lie in the buffers of
/// the kernel, or of a proxy, when they have left here.
pub(super) fn silence(bytes: u64) -> Duration {
    let on_the_way = Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
    SILENCE.saturating_add(on_the_way).min(SILENCE_MAX)
}

/// To what is small.
const SILENCE: Duration = Duration::from_secs(60);
/// To what is large; and to the order to make an object of thousands of parts.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(600);
/// What buffers on the way are emptied by.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// The body of a request, whose bytes have a CRC-32 that was told before. It is seen whether they
/// go out. If they are others by now the last of them do not, so that no store takes them for the
/// whole.
pub(super) struct Watched {
    inner: SdkBody,
    moving: Moving,
    crc: crc32fast::Hasher,
    expected: u32,
    left: u64,
}

impl Watched {
    /// Of a body of so many bytes.
    pub(super) fn new(inner: SdkBody, moving: Moving, bytes: u64, expected: u32) -> Self {
        Self {
            inner,
            moving,
            crc: crc32fast::Hasher::new(),
            expected,
            left: bytes,
        }
    }

    fn see(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        self.moving.note();
        self.crc.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        match self.left == 0 && self.crc.clone().finalize() != self.expected {
            true => Err("the file has changed while it was sent".into()),
            false => Ok(()),
        }
    }
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl Body for Watched {
    type Data = <SdkBody as Body>::Data;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BodyError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = frame else {
            return frame;
        };
        let seen = match frame.data_ref() {
            Some(bytes) => this.see(bytes),
            None => Ok(()),
        };
        Poll::Ready(Some(seen.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn what_moves_goes_on_for_as_long_as_it_takes() {
        let moving = Moving::begin();
        let began = Instant::now();
        let slow = async {
            while began.elapsed() < 4 * PATIENCE {
                tokio::time::sleep(PATIENCE / 10).await;
                moving.note();
            }
        };
        assert!(moving.watch(PATIENCE, slow).await.is_some());
    }

    #[tokio::test]
    async fn what_does_not_move_ends() {
        let moving = Moving::begin();
        let silent = std::future::pending::<()>();
        let watched = moving.watch(PATIENCE, silent);
        let ended = tokio::time::timeout(100 * PATIENCE, watched).await;
        assert_eq!(ended, Ok(None));
    }

    #[test]
    fn silence_is_bounded_whatever_the_size() {
        assert_eq!(silence(0), Duration::from_secs(60));
        assert_eq!(silence(16 << 20), Duration::from_secs(76));
        assert_eq!(silence(u64::MAX), SILENCE_MAX);
    }

    #[tokio::test]
    async fn a_body_that_has_changed_does_not_come_to_its_end() {
        for (content, is_whole) in [("right", true), ("wrong", false)] {
            let crc = crc32fast::hash(b"right");
            let body = SdkBody::from(content);
            let mut body = Watched::new(body, Moving::begin(), 5, crc);
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            assert_eq!(frame.unwrap().is_ok(), is_whole, "{content}");
        }
    }
}
