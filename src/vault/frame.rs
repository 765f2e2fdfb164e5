//! Frames: how a journal is cut into pieces that can be told from what a crash, a full disk or a
//! bad medium leaves.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `bitsd\0r4` (`bitsd\0r2` as version 0.1.0 wrote it) |
//! | 8 | sequence number of this session's frames, little endian |
//! | 16 | session id, big endian |
//! | 4 | length of the payload, little endian |
//! | 4 | CRC-32 of sequence number, id, length and payload, little endian |
//! | n | payload, see [`super::record`] |
//! | 0 to 7 | zeros, up to a multiple of 8 |
//!
//! [`Frames`] reads what is in memory, [`FrameReader`] a file of any length with a buffer of a
//! fixed one.

use std::io::{self, Read};
use std::ops::Range;

use crate::bits::session_id::SessionId;

/// Bytes of a payload at the most: texts of a request and paths of the host, all escaped, and room.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// All but the last byte, which is the version.
const MAGIC: &[u8; 7] = b"bitsd\0r";
// Two bits from the one before: a flipped bit makes no other version of it.
const VERSION: u8 = b'4';
/// Whose frames are read, too.
const VERSION_BEFORE: u8 = b'2';
const HEADER_BYTES: usize = 40;
/// Frames begin at multiples of it.
const ALIGN: usize = 8;
/// What [`FrameReader`] holds: two of the longest frames, so that few bytes are moved.
const BUFFER_BYTES: usize = 2 * (HEADER_BYTES + PAYLOAD_BYTES_MAX + ALIGN);

/// Appends a frame to `out`, which ends where a frame may begin. `write` appends the payload.
///
/// # Panics
/// If the payload is longer than it may be.
pub fn append(
    out: &mut Vec<u8>,
    id: SessionId,
    sequence: u64,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let begin = out.len();
    assert!(begin.is_multiple_of(ALIGN), "frames are padded");
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&id.as_u128().to_be_bytes());
    out.extend_from_slice(&[0; 8]);
    write(out);
    let frame = &mut out[begin..];
    let payload_len = frame.len() - HEADER_BYTES;
    assert!(
        payload_len <= PAYLOAD_BYTES_MAX,
        "each text of a record has a bound"
    );
    let payload_len = u32::try_from(payload_len).expect("checked above");
    frame[32..36].copy_from_slice(&payload_len.to_le_bytes());
    let crc = checksum(frame);
    frame[36..40].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    out.len() - begin
}

/// One frame as it was found.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Whose it is.
    pub id: SessionId,
    /// The higher, the newer.
    pub sequence: u64,
    /// What it says.
    pub payload: &'a [u8],
}

/// What of a journal cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    #[default]
    None,
    /// Its end: an append that a crash or a full disk cut short.
    End,
    /// Bytes before a frame that can be read: not what a crash of ours leaves, except where the
    /// power was cut while several unsynced appends were on their way.
    Inside,
    /// No frame can be read, and its beginning is not what a crash leaves of a first append.
    All,
}

/// What was passed over so far.
struct Passed {
    /// Nothing was looked at yet.
    is_new: bool,
    damage: Damage,
}

impl Passed {
    const NOTHING: Self = Self {
        is_new: true,
        damage: Damage::None,
    };

    /// So many bytes are none of a frame; what follows them goes as far as that frame would.
    fn passed_over(&mut self, bytes: &[u8], passed: usize) {
        if std::mem::take(&mut self.is_new) && !may_be_cut_short(bytes) {
            self.damage = Damage::All;
        }
        if self.damage == Damage::None && bytes[..passed].iter().any(|&byte| byte != 0) {
            self.damage = Damage::End;
        }
    }

    fn found_frame(&mut self) {
        self.is_new = false;
        if matches!(self.damage, Damage::End | Damage::All) {
            self.damage = Damage::Inside;
        }
    }
}

/// What a device writes at once, at least.
const SECTOR_BYTES: usize = 512;

/// Whether a crash, a full disk or a power cut may leave a file like this, which begins with no
/// frame: the first one is not there yet (zeros), it ends early, be it in zeros, or one of its
/// sectors was never written.
fn may_be_cut_short(bytes: &[u8]) -> bool {
    let is_zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let mut begin = &bytes[..bytes.len().min(ALIGN)];
    while let [before @ .., 0] = begin {
        begin = before;
    }
    if MAGIC.starts_with(begin) {
        return true;
    }
    if !is_magic(bytes) {
        return false;
    }
    let Some(payload_len) = payload_len(bytes) else {
        return true;
    };
    if payload_len > PAYLOAD_BYTES_MAX {
        return false;
    }
    let frame = bytes.get(..HEADER_BYTES + payload_len);
    // The payload of none ends in a zero.
    frame.is_none_or(|frame| frame.ends_with(&[0]) || frame.chunks(SECTOR_BYTES).any(is_zeros))
}

/// What a header says of the length of its payload; `None` if there is no whole header.
fn payload_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(32..HEADER_BYTES)?.first_chunk()?;
    Some(u32::from_le_bytes(*length) as usize)
}

/// The frames of a journal in memory, in their order; whatever cannot be read between them is
/// passed over.
pub struct Frames<'a> {
    bytes: &'a [u8],
    passed: Passed,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            passed: Passed::NOTHING,
        }
    }

    /// What was passed over so far.
    pub fn damage(&self) -> Damage {
        self.passed.damage
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        loop {
            let bytes = self.bytes;
            match look(bytes, true) {
                Look::More => return None,
                Look::Skip(passed) => {
                    self.passed.passed_over(bytes, passed);
                    self.bytes = &bytes[passed..];
                }
                Look::Frame(found) => {
                    self.passed.found_frame();
                    self.bytes = &bytes[found.consumed..];
                    return Some(found.of(bytes));
                }
            }
        }
    }
}

/// The frames of a journal of any length, one after the other, in memory that does not grow with
/// it.
pub struct FrameReader<R> {
    from: R,
    buffer: Box<[u8]>,
    /// What of the buffer is read and not yet looked at; begins where a frame may begin.
    filled: Range<usize>,
    is_end: bool,
    passed: Passed,
}

impl<R: Read> FrameReader<R> {
    /// The frames that `from` gives.
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            filled: 0..0,
            is_end: false,
            passed: Passed::NOTHING,
        }
    }

    /// What was passed over so far.
    pub fn damage(&self) -> Damage {
        self.passed.damage
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// Of reading.
    pub fn read_frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        loop {
            let bytes = &self.buffer[self.filled.clone()];
            match look(bytes, self.is_end) {
                Look::More if self.is_end => return Ok(None),
                Look::More => self.fill()?,
                Look::Skip(passed) => {
                    self.passed.passed_over(bytes, passed);
                    self.filled.start += passed;
                }
                Look::Frame(found) => {
                    self.passed.found_frame();
                    let begin = self.filled.start;
                    self.filled.start += found.consumed;
                    return Ok(Some(found.of(&self.buffer[begin..])));
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let room = &mut self.buffer[self.filled.end..];
        match self.from.read(room) {
            Ok(0) => self.is_end = true,
            Ok(read) => self.filled.end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What stands at the beginning of some bytes.
enum Look {
    /// A frame.
    Frame(FoundFrame),
    /// So many bytes that are none.
    Skip(usize),
    /// It cannot be told from so few.
    More,
}

struct FoundFrame {
    id: SessionId,
    sequence: u64,
    payload: Range<usize>,
    /// With its padding, as far as that was written.
    consumed: usize,
}

impl FoundFrame {
    fn of(self, bytes: &[u8]) -> Frame<'_> {
        Frame {
            id: self.id,
            sequence: self.sequence,
            payload: &bytes[self.payload],
        }
    }
}

/// Looks at bytes that begin where a frame may begin; `is_end` if no more follow.
fn look(bytes: &[u8], is_end: bool) -> Look {
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return match is_end && !bytes.is_empty() {
            true => Look::Skip(next_magic(bytes, is_end)),
            false => Look::More,
        };
    };
    let payload_len = payload_len(header).unwrap_or(usize::MAX);
    if !is_magic(header) || payload_len > PAYLOAD_BYTES_MAX {
        return Look::Skip(next_magic(bytes, is_end));
    }
    let whole = HEADER_BYTES + payload_len;
    let padded = whole.next_multiple_of(ALIGN);
    if bytes.len() < padded && !is_end {
        return Look::More;
    }
    let is_right = (bytes.get(..whole)).is_some_and(|frame| checksum(frame) == crc(header));
    if !is_right {
        return Look::Skip(next_magic(bytes, is_end));
    }
    Look::Frame(FoundFrame {
        id: SessionId::from_u128(u128::from_be_bytes(
            header[16..32].try_into().expect("sixteen bytes"),
        )),
        sequence: u64::from_le_bytes(header[8..16].try_into().expect("eight bytes")),
        payload: HEADER_BYTES..whole,
        consumed: padded.min(bytes.len()),
    })
}

/// How many bytes are no beginning of a frame, the first of them known to be none.
fn next_magic(bytes: &[u8], is_end: bool) -> usize {
    let found = memchr::memmem::find_iter(bytes, MAGIC)
        .find(|&at| at > 0 && at.is_multiple_of(ALIGN) && is_magic(&bytes[at..]));
    match found {
        Some(at) => at,
        None if is_end => bytes.len(),
        // One that is cut by the end of what was read begins here.
        None => bytes.len() / ALIGN * ALIGN,
    }
}

fn is_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && matches!(bytes.get(7), Some(&(VERSION | VERSION_BEFORE)))
}

fn crc(header: &[u8]) -> u32 {
    u32::from_le_bytes(header[36..40].try_into().expect("four bytes"))
}

/// Over everything but the magic and the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[8..36]);
    hasher.update(&frame[HEADER_BYTES..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives what it has in pieces of a length.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let taken = self.1.min(into.len()).min(self.0.len());
            into[..taken].copy_from_slice(&self.0[..taken]);
            self.0 = &self.0[taken..];
            Ok(taken)
        }
    }

    fn streamed(bytes: &[u8], piece: usize) -> (Vec<(SessionId, u64, Vec<u8>)>, Damage) {
        let mut reader = FrameReader::new(Pieces(bytes, piece));
        let mut found = Vec::new();
        while let Some(frame) = reader.read_frame().unwrap() {
            found.push((frame.id, frame.sequence, frame.payload.to_vec()));
        }
        (found, reader.damage())
    }

    fn in_memory(bytes: &[u8]) -> (Vec<(SessionId, u64, Vec<u8>)>, Damage) {
        let mut frames = Frames::of(bytes);
        let found = (frames.by_ref())
            .map(|frame| (frame.id, frame.sequence, frame.payload.to_vec()))
            .collect();
        (found, frames.damage())
    }

    #[test]
    fn a_stream_has_the_frames_of_the_whole_however_it_comes() {
        let mut journal = Vec::new();
        for number in 0..40u32 {
            let id = SessionId::from_u128(u128::from(number));
            let bytes = usize::try_from(number * 801).unwrap();
            append(&mut journal, id, 1, |out| {
                out.resize(out.len() + bytes, b'x')
            });
            if number % 7 == 3 {
                let garbage = usize::try_from(number).unwrap() * 8000;
                journal.resize(journal.len() + garbage, b'b');
            }
        }
        let whole = in_memory(&journal);
        assert_eq!((whole.0.len(), whole.1), (40, Damage::Inside));
        for piece in [4_000, 65_536, 1_000_003] {
            assert!(streamed(&journal, piece) == whole, "pieces of {piece}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_agrees_with_the_whole_about_anything(
            parts in proptest::collection::vec((0usize..3, 0usize..60), 0..12),
            piece in 1usize..100,
        ) {
            let mut journal = Vec::new();
            for (kind, bytes) in parts {
                match kind {
                    0 => {
                        append(&mut journal, SessionId::from_u128(5), 2, |out| out.resize(out.len() + bytes, b'y'));
                    }
                    1 => journal.extend(std::iter::repeat_n(*b"bitsd\0r4", bytes / 4).flatten()),
                    _ => journal.resize(journal.len() + bytes * 8, b'z'),
                }
            }
            journal.truncate(journal.len() - piece.min(journal.len()) / 3);
            prop_assert_eq!(streamed(&journal, piece), in_memory(&journal));
        }
    }
}
