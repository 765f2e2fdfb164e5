//! The chunked transfer coding (RFC 9112 7.1), decoded in place and strictly.

/// Bytes of a line with a chunk size, extensions included.
const SIZE_LINE_MAX: usize = 256;
/// Bytes of all trailer fields.
const TRAILERS_MAX: usize = 4096;
/// Framing that is read whatever it frames.
const FRAMING_BYTES_FREE: u64 = 4096;
/// Beyond that, bytes of framing for each byte of content. Five and more is a body in chunks of one
/// byte, which no client sends; each of them costs its reader more than its sender.
const FRAMING_PER_CONTENT_MAX: u64 = 4;

/// Decoder of one chunked body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkedDecoder {
    expecting: Expecting,
    /// Bytes of the current size line, or of the trailers.
    line_bytes: usize,
    /// Bytes of all size lines and of the line ends behind chunks.
    framing_bytes: u64,
    /// Bytes of content.
    content_bytes: u64,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expecting {
    /// The first digit of a chunk size.
    #[default]
    Size,
    /// A further digit, an extension, or the end of the line.
    SizeRest(u64),
    /// Part of an extension, which is ignored.
    Extension(u64),
    /// The LF of a size line.
    SizeLf(u64),
    /// Content; this many bytes are left.
    Content(u64),
    /// The CR behind the content.
    ContentCr,
    /// The LF behind the content.
    ContentLf,
    /// The first byte of a trailer line, or the CR of the empty line.
    Trailer,
    /// The rest of a trailer line, which is ignored.
    TrailerRest,
    /// The LF of a trailer line.
    TrailerLf,
    /// The LF of the empty line.
    LastLf,
}

/// What the next bytes of a chunked body are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// `bytes[start..end]` is content, at least one byte; everything before `end` is consumed.
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

/// What a stretch of a chunked body came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// So many bytes of content stand at the front now.
    pub content: usize,
    /// So many of the bytes given were consumed, all of them unless the body has ended.
    pub consumed: usize,
    /// How the body ended, if it did.
    pub end: Option<Result<(), BadChunk>>,
}

/// The bytes are not a chunked body, or break a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl ChunkedDecoder {
    /// Decodes bytes in place: whatever the chunks, the content of all of them stands together at
    /// the front.
    pub fn gather(&mut self, bytes: &mut [u8]) -> Gathered {
        let (mut content, mut at) = (0, 0);
        let mut end = None;
        while at < bytes.len() && end.is_none() {
            match self.step(&bytes[at..]) {
                Ok(ChunkStep::Content { start, end }) => {
                    bytes.copy_within(at + start..at + end, content);
                    content += end - start;
                    at += end;
                }
                Ok(ChunkStep::NeedMore) => at = bytes.len(),
                Ok(ChunkStep::End { consumed }) => {
                    at += consumed;
                    end = Some(Ok(()));
                }
                Err(bad) => end = Some(Err(bad)),
            }
        }
        Gathered {
            content,
            consumed: at,
            end,
        }
    }

    /// Consumes bytes (never empty) up to the end of one stretch of content.
    ///
    /// # Errors
    /// [`BadChunk`]; the connection must be closed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<ChunkStep, BadChunk> {
        for (at, &byte) in bytes.iter().enumerate() {
            if let Expecting::Content(left) = self.expecting {
                let here = bytes.len() - at;
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(here);
                let left = left - taken as u64;
                self.content_bytes += taken as u64;
                self.expecting = if left == 0 {
                    Expecting::ContentCr
                } else {
                    Expecting::Content(left)
                };
                return Ok(ChunkStep::Content {
                    start: at,
                    end: at + taken,
                });
            }
            self.line_bytes += 1;
            self.expecting = match (self.expecting, byte) {
                (Expecting::LastLf, b'\n') => return Ok(ChunkStep::End { consumed: at + 1 }),
                (expecting, byte) => self.frame(expecting, byte)?,
            };
        }
        Ok(ChunkStep::NeedMore)
    }

    /// One byte of framing.
    fn frame(&mut self, expecting: Expecting, byte: u8) -> Result<Expecting, BadChunk> {
        let limit = match expecting {
            Expecting::Trailer | Expecting::TrailerRest | Expecting::TrailerLf => TRAILERS_MAX,
            _ => SIZE_LINE_MAX,
        };
        if self.line_bytes > limit {
            return Err(BadChunk);
        }
        if limit == SIZE_LINE_MAX {
            self.framing_bytes += 1;
            let paid = self.content_bytes.saturating_mul(FRAMING_PER_CONTENT_MAX);
            if self.framing_bytes > FRAMING_BYTES_FREE && self.framing_bytes > paid {
                return Err(BadChunk);
            }
        }
        match (expecting, byte) {
            (Expecting::Size, byte) => Ok(Expecting::SizeRest(hex(byte).ok_or(BadChunk)?)),
            (Expecting::SizeRest(size), b'\r') => Ok(Expecting::SizeLf(size)),
            (Expecting::SizeRest(size), b';' | b' ' | b'\t') => Ok(Expecting::Extension(size)),
            (Expecting::SizeRest(size), byte) => {
                let digit = hex(byte).ok_or(BadChunk)?;
                let size = size.checked_mul(16).ok_or(BadChunk)?;
                Ok(Expecting::SizeRest(size + digit))
            }
            (Expecting::Extension(size), b'\r') => Ok(Expecting::SizeLf(size)),
            (Expecting::Extension(size), byte) if is_text(byte) => Ok(Expecting::Extension(size)),
            (Expecting::SizeLf(size), b'\n') => {
                self.line_bytes = 0;
                Ok(if size == 0 {
                    Expecting::Trailer
                } else {
                    Expecting::Content(size)
                })
            }
            (Expecting::ContentCr, b'\r') => Ok(Expecting::ContentLf),
            (Expecting::ContentLf, b'\n') => {
                self.line_bytes = 0;
                Ok(Expecting::Size)
            }
            (Expecting::Trailer, b'\r') => Ok(Expecting::LastLf),
            (Expecting::TrailerRest, b'\r') => Ok(Expecting::TrailerLf),
            (Expecting::Trailer | Expecting::TrailerRest, byte) if is_text(byte) => {
                Ok(Expecting::TrailerRest)
            }
            (Expecting::TrailerLf, b'\n') => Ok(Expecting::Trailer),
            _ => Err(BadChunk),
        }
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Visible ASCII, blank, tab, or what lies beyond ASCII.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes pieces; gives the content and the bytes behind the body.
    fn decode(pieces: &[&[u8]]) -> Result<Option<(Vec<u8>, usize)>, BadChunk> {
        let mut decoder = ChunkedDecoder::default();
        let mut content = Vec::new();
        let mut consumed_total = 0;
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() {
                match decoder.step(rest)? {
                    ChunkStep::Content { start, end } => {
                        assert!(start < end, "content is at least one byte");
                        content.extend_from_slice(&rest[start..end]);
                        consumed_total += end;
                        rest = &rest[end..];
                    }
                    ChunkStep::NeedMore => {
                        consumed_total += rest.len();
                        rest = &[];
                    }
                    ChunkStep::End { consumed } => {
                        return Ok(Some((content, consumed_total + consumed)));
                    }
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read() {
        let body = b"4;name=\"v\"\r\nWiki\r\nA \r\npedia in 1\r\n0\r\nX: y\r\n\r\nGET";
        let (content, consumed) = decode(&[body]).unwrap().unwrap();
        assert_eq!(content, b"Wikipedia in 1");
        assert_eq!(&body[consumed..], b"GET", "the next request is not touched");
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        let long_line = format!("1;{}\r\nx\r\n", "e".repeat(SIZE_LINE_MAX));
        let long_trailer = format!("0\r\nX: {}\r\n\r\n", "e".repeat(TRAILERS_MAX));
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1\nx",
            "1\r\nxx",
            "1\r\nx\n",
            "1\r\nx\r\r",
            "10000000000000000\r\n",
            "1;\0\r\n",
            "0\r\n\n",
            "0\r\nX\n",
            &long_line,
            &long_trailer,
        ] {
            assert_eq!(decode(&[bad.as_bytes()]), Err(BadChunk), "{bad:?}");
        }
    }

    /// A body in chunks of this size, without its end.
    fn in_chunks_of(size: usize, bytes: usize) -> Vec<u8> {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        chunk.repeat(bytes / chunk.len()).into_bytes()
    }

    #[test]
    fn framing_that_outweighs_its_content_is_refused() {
        assert_eq!(decode(&[&in_chunks_of(1, 100_000)]), Err(BadChunk));
        let extension = format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(100);
        assert_eq!(decode(&[extension.as_bytes()]), Err(BadChunk));
        // What real senders do, and a few small chunks.
        for size in [2, 10, 1_000, 65_536] {
            assert_eq!(
                decode(&[&in_chunks_of(size, 1_000_000)]),
                Ok(None),
                "{size}"
            );
        }
        assert_eq!(decode(&[&in_chunks_of(1, 4_000)]), Ok(None));
        // Content that was there before pays for them.
        let mut body = in_chunks_of(10_000, 20_000);
        body.extend(in_chunks_of(1, 40_000));
        assert_eq!(decode(&[&body]), Ok(None));
    }

    #[test]
    fn content_is_gathered_at_the_front() {
        let mut body = b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nGET".to_vec();
        let gathered = ChunkedDecoder::default().gather(&mut body);
        let (content, consumed) = (gathered.content, gathered.consumed);
        assert_eq!(
            (&body[..content], gathered.end),
            (&b"abcde"[..], Some(Ok(())))
        );
        assert_eq!(&body[consumed..], b"GET");
        let mut bad = b"3\r\nabc\r\nx".to_vec();
        let gathered = ChunkedDecoder::default().gather(&mut bad);
        assert_eq!((gathered.content, gathered.end), (3, Some(Err(BadChunk))));
        let mut half = b"5\r\nabc".to_vec();
        let gathered = ChunkedDecoder::default().gather(&mut half);
        assert_eq!((gathered.content, gathered.consumed), (3, half.len()));
        assert_eq!(gathered.end, None);
    }

    #[test]
    fn the_largest_size_is_read() {
        assert_eq!(decode(&[b"ffffffffffffffff\r\nabc"]), Ok(None));
    }

    proptest! {
        #[test]
        fn split_anywhere_gives_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..5),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\n");
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode(&pieces), Ok(Some((chunks.concat(), body.len()))));
        }

        #[test]
        fn arbitrary_bytes_give_the_same_verdict_in_pieces(
            bytes in proptest::collection::vec(prop::sample::select(b"0129aF;\r\n xX:".to_vec()), 0..40),
        ) {
            let single: Vec<_> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(&[&bytes]), decode(&single));
        }
    }
}
