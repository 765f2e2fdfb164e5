//! A bound on what is read of an answer: of a store, and of whatever is asked for credentials. The
//! client takes each answer into memory, however long it is, before it looks what it says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::{
    ConfigBag, HttpClient, RuntimeComponents, RuntimeComponentsBuilder, SharedHttpClient,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use http_body::{Body, Frame, SizeHint};

/// Takes no more than so much of any answer; no object is read by it.
///
/// The longest that is asked for is a page of a thousand uploads: with keys as long as they may be
/// it has some 1.6 MB.
const ANSWER_BYTES_MAX: u64 = 2 << 20;

/// A client whose answers have a bound.
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Bounded(client))
}

#[derive(Debug)]
struct Bounded(SharedHttpClient);

impl HttpClient for Bounded {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector(self.0.http_connector(settings, components)))
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

#[derive(Debug)]
struct Connector(SharedHttpConnector);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(limited)) })
    }
}

fn limited(inner: SdkBody) -> SdkBody {
    let left = ANSWER_BYTES_MAX;
    SdkBody::from_body_1_x(Limited { inner, left })
}

/// The body of an answer.
struct Limited {
    inner: SdkBody,
    /// So many bytes more are taken.
    left: u64,
}

impl Limited {
    /// What was begun is let go of: its connection ends with it.
    fn refuse(&mut self) -> BoxError {
        self.inner = SdkBody::empty();
        let mib = ANSWER_BYTES_MAX >> 20;
        io::Error::other(format!("the answer is longer than {mib} MiB")).into()
    }
}

impl Body for Limited {
    type Data = <SdkBody as Body>::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BoxError>>> {
        let this = self.get_mut();
        // As it announces itself: nothing of that needs to come.
        if this.inner.size_hint().lower() > this.left {
            return Poll::Ready(Some(Err(this.refuse())));
        }
        let frame = Pin::new(&mut this.inner).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = frame else {
            return frame;
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = this.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(this.refuse())));
        };
        this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::super::tests::bucket_at;
    use super::*;
    use crate::objects::bucket::Bucket as _;

    const LONG: usize = 256 << 20;

    /// Answers with a body of 256 MiB, as long as anybody takes it; tells how much was taken.
    fn answer(stream: &mut TcpStream, head: &str, chunk_head: &str) -> usize {
        let _asked = stream.read(&mut [0; 8_192]).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut chunk = chunk_head.as_bytes().to_vec();
        chunk.extend([b'<'; 0x1_0000]);
        chunk.extend(if chunk_head.is_empty() { "" } else { "\r\n" }.as_bytes());
        let mut taken = 0;
        while taken < LONG && stream.write_all(&chunk).is_ok() {
            taken += chunk.len();
        }
        taken
    }

    /// Goal: no answer takes more memory than its bound, whatever its status and however it is
    /// framed. Method: a store that sees how much is taken from it.
    #[tokio::test]
    async fn an_answer_that_does_not_end_is_not_read_on() {
        let chunked = "Transfer-Encoding: chunked";
        let announced = format!("Content-Length: {LONG}");
        let until_end = "Connection: close";
        for status in ["500 no", "200 OK", "404 no"] {
            for (framing, chunk_head) in [
                (chunked, "10000\r\n"),
                (announced.as_str(), ""),
                (until_end, ""),
            ] {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let bucket = bucket_at(&listener).await;
                let taken = Arc::new(AtomicUsize::new(0));
                let count = Arc::clone(&taken);
                let head = format!("HTTP/1.1 {status}\r\n{framing}\r\n\r\n");
                let store = thread::spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    count.store(answer(&mut stream, &head, chunk_head), Ordering::SeqCst);
                });
                let why = bucket.parts("k", "u").await.unwrap_err().to_string();
                assert!(
                    why.contains("no clear answer") && why.contains("longer than 2 MiB"),
                    "{status} {framing}: {why}"
                );
                // Not here: this thread ends the connection.
                let ended = tokio::task::spawn_blocking(move || store.join()).await;
                ended.unwrap().unwrap();
                // The kernel has buffers, too.
                let taken = taken.load(Ordering::SeqCst);
                assert!(taken < LONG / 4, "{status} {framing}: {taken} bytes");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_within_the_bound_is_read() {
        for bytes in [0, 1, ANSWER_BYTES_MAX] {
            let body = limited(SdkBody::from(vec![b'x'; usize::try_from(bytes).unwrap()]));
            let read = aws_sdk_s3::primitives::ByteStream::new(body)
                .collect()
                .await;
            assert_eq!(read.unwrap().into_bytes().len() as u64, bytes);
        }
    }
}
