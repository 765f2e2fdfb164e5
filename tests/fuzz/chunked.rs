//! Chunked bodies: cut anywhere, the content is the same, and the same as a slow decoder finds.
#![no_main]

use bitsd::http::chunked::{BadChunk, ChunkStep, ChunkedDecoder};
use libfuzzer_sys::fuzz_target;

/// Content so far, and where the body ended if it did.
type Decoded = Result<(Vec<u8>, Option<usize>), BadChunk>;

/// Decodes bytes that come in segments of these lengths, again and again.
fn decode(bytes: &[u8], lengths: &[usize]) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let mut content = Vec::new();
    let mut at = 0;
    let mut lengths = lengths.iter().cycle();
    while at < bytes.len() {
        let end = bytes.len().min(at + lengths.next().expect("at least one"));
        while at < end {
            match decoder.step(&bytes[at..end])? {
                ChunkStep::Content { start, end: stop } => {
                    assert!(start < stop && stop <= end - at);
                    content.extend_from_slice(&bytes[at + start..at + stop]);
                    at += stop;
                }
                ChunkStep::NeedMore => at = end,
                ChunkStep::End { consumed } => return Ok((content, Some(at + consumed))),
            }
        }
    }
    Ok((content, None))
}

/// The content as it is gathered in segments.
fn gather(bytes: &[u8], lengths: &[usize]) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let mut content = Vec::new();
    let mut at = 0;
    let mut lengths = lengths.iter().cycle();
    while at < bytes.len() {
        let end = bytes.len().min(at + lengths.next().expect("at least one"));
        let mut segment = bytes[at..end].to_vec();
        let gathered = decoder.gather(&mut segment);
        content.extend_from_slice(&segment[..gathered.content]);
        at += gathered.consumed;
        match gathered.end {
            None => assert_eq!(at, end),
            Some(Ok(())) => return Ok((content, Some(at))),
            Some(Err(bad)) => return Err(bad),
        }
    }
    Ok((content, None))
}

/// The same grammar without a state: `None` if it is no whole body.
fn decode_slowly(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let (line, rest) = split_line(bytes)?;
        let digits = line
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let size = u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if digits < line.len() && !matches!(line[digits], b';' | b' ' | b'\t') {
            return None;
        }
        if size == 0 {
            bytes = rest;
            break;
        }
        let size = usize::try_from(size).ok()?;
        content.extend_from_slice(rest.get(..size)?);
        bytes = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let (line, rest) = split_line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some(content);
        }
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..at], &bytes[at + 2..]))
}

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (cuts, bytes) = input;
    let mut lengths: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) + 1).collect();
    lengths.push(1);
    let whole = decode(&bytes, &[usize::MAX]);
    let cut = decode(&bytes, &lengths);
    assert_eq!(whole, cut);
    assert_eq!(whole, gather(&bytes, &lengths));
    if let Ok((content, Some(end))) = whole {
        assert_eq!(decode_slowly(&bytes[..end]), Some(content));
    }
    // And what is encoded is decoded. Chunks of four bytes pay for the framing that they get here;
    // smaller ones may be refused for it.
    let mut encoded = Vec::new();
    for (chunk, size) in bytes.chunks(lengths[0].max(4)).zip(lengths.iter().cycle()) {
        let extension = ";x".repeat(size % 4);
        encoded.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\nnext");
    let end = encoded.len() - "next".len();
    assert_eq!(decode(&encoded, &lengths), Ok((bytes, Some(end))));
});
