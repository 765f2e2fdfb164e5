//! The chunked transfer coding (RFC 9112 section 7.1), decoded in place.

/// Decoder of one chunked body.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {}

/// What the next bytes of a chunked body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// `bytes[start..end]` is content; everything before `end` is consumed.
    Content {
        /// First byte of content.
        start: usize,
        /// One past the last byte of content.
        end: usize,
    },
    /// All bytes given were framing and are consumed; more are needed.
    NeedMore,
    /// The body ended; this many bytes given were consumed, the next belongs to the next request.
    End {
        /// Bytes consumed.
        consumed: usize,
    },
}

/// The bytes are not a chunked body, or break a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl ChunkedDecoder {
    /// Consumes bytes (never empty) up to the end of one stretch of content.
    ///
    /// # Errors
    /// [`BadChunk`]; the connection must be closed.
    pub fn step(&mut self, _bytes: &[u8]) -> Result<ChunkStep, BadChunk> {
        todo!()
    }
}
