//! `Content-Range` of a fragment, and where it lies against what is already stored.

/// A non-empty, half-open range of a file: `start < end <= total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    start: u64,
    end: u64,
    total: u64,
}

impl ContentRange {
    /// `None` unless `start < end <= total`.
    pub fn new(_start: u64, _end: u64, _total: u64) -> Option<Self> {
        todo!()
    }
    /// First byte.
    pub fn start(self) -> u64 {
        self.start
    }
    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.end
    }
    /// Size of the whole file, in bytes.
    pub fn total(self) -> u64 {
        self.total
    }
    /// Bytes in the range; at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u64 {
        todo!()
    }
    /// Where the range lies, given that `received` bytes are stored.
    pub fn place(self, _received: u64) -> Placement {
        todo!()
    }
}

/// The verdict of P4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Begins exactly at the watermark.
    Fresh,
    /// Begins before the watermark and ends after it.
    Overlap {
        /// Leading bytes that are stored already.
        skip: u64,
    },
    /// Wholly stored already.
    Known,
    /// Begins after the watermark.
    Gap,
}

/// What a `Content-Range` field of a fragment can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeField {
    /// Bytes of a file.
    Bytes(ContentRange),
    /// One of the forms in which an empty file may be announced: `0-0/0`, `0--1/0`, `*/0` (P4.4).
    EmptyFile,
}

/// The field is not a range we can accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRange;

/// Parses a `Content-Range` value.
///
/// # Errors
/// [`BadRange`] if it is malformed, inverted, beyond its total, `*`, or does not fit 64 bits.
pub fn parse(_value: &[u8]) -> Result<RangeField, BadRange> {
    todo!()
}
