//! `Content-Range` of a fragment, and where it lies against what is already stored.
//!
//! On the wire a range is inclusive (`bytes 0-127/213`), here it is half-open. Only this file knows
//! both. A [`ContentRange`] cannot be empty, inverted or beyond its total, so all arithmetic on it
//! is exact, up to files of `u64::MAX` bytes.
//!
//! [`ContentRange::place`] is the heart of the protocol: a session's progress is one number, and a
//! fragment either begins at it, reaches over it, lies below it, or leaves a gap (protocol.md 4.2).

use crate::http::head::decimal;

/// A non-empty, half-open range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// start < end
    start: u64,
    /// end <= total
    end: u64,
    total: u64,
}

impl ContentRange {
    /// `None` unless `start < end <= total`; all in bytes.
    pub fn new(start: u64, end: u64, total: u64) -> Option<Self> {
        (start < end && end <= total).then_some(Self { start, end, total })
    }

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
    #[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Where the range lies, given that the first `received` bytes of the file are stored.
    pub fn place(self, received: u64) -> Placement {
        if self.start > received {
            Placement::Gap
        } else if self.start == received {
            Placement::Fresh
        } else if self.end <= received {
            Placement::Known
        } else {
            Placement::Overlap {
                skip: received - self.start,
            }
        }
    }
}

/// The verdict of protocol.md 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Begins exactly at the watermark.
    Fresh,
    /// Begins before the watermark and ends after it.
    Overlap {
        /// Leading bytes that are stored already; at least 1 and less than the length of the range.
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
    /// One of the forms in which an empty file may be announced: `0-0/0`, `0--1/0`, `*/0`
    /// (protocol.md 4.7).
    EmptyFile,
}

/// The field is not a range we can accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRange;

/// Parses a `Content-Range` value: `bytes <first>-<last>/<total>`.
///
/// The unit may be in any case and is followed by one or more spaces or tabs; the numbers are
/// decimal digits only, leading zeros included (MC-BUP 2.2.6).
///
/// # Errors
/// [`BadRange`] if it is malformed, inverted, beyond its total, `*`, or does not fit 64 bits.
pub fn parse(value: &[u8]) -> Result<RangeField, BadRange> {
    let spec = after_unit(value).ok_or(BadRange)?;
    // No source defines these; protocol.md 4.7 says why all three are taken.
    if matches!(spec, b"0-0/0" | b"0--1/0" | b"*/0") {
        return Ok(RangeField::EmptyFile);
    }
    bytes_range(spec).map(RangeField::Bytes).ok_or(BadRange)
}

/// What follows `bytes` and its blanks.
fn after_unit(value: &[u8]) -> Option<&[u8]> {
    let (unit, rest) = value.split_at_checked(UNIT.len())?;
    let blanks = rest
        .iter()
        .take_while(|&&byte| matches!(byte, b' ' | b'\t'))
        .count();
    (unit.eq_ignore_ascii_case(UNIT) && blanks > 0).then(|| &rest[blanks..])
}

fn bytes_range(spec: &[u8]) -> Option<ContentRange> {
    let (first, rest) = split_once(spec, b'-')?;
    let (last, total) = split_once(rest, b'/')?;
    let (first, last, total) = (decimal(first)?, decimal(last)?, decimal(total)?);
    // checked_add fails only at u64::MAX, and then last >= total whatever the total.
    ContentRange::new(first, last.checked_add(1)?, total)
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

const UNIT: &[u8] = b"bytes";

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "checked before, or tiny")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(start: u64, end: u64, total: u64) -> RangeField {
        RangeField::Bytes(ContentRange::new(start, end, total).unwrap())
    }

    /// The wire form; only tests and clients write it.
    fn encode(range: ContentRange) -> String {
        format!(
            "bytes {}-{}/{}",
            range.start(),
            range.end() - 1,
            range.total()
        )
    }

    #[test]
    fn a_range_is_never_empty_inverted_or_beyond_its_total() {
        assert!(ContentRange::new(0, 0, 0).is_none());
        assert!(ContentRange::new(3, 3, 9).is_none());
        assert!(ContentRange::new(4, 3, 9).is_none());
        assert!(ContentRange::new(0, 10, 9).is_none());
        assert_eq!(ContentRange::new(2, 9, 9).unwrap().len(), 7);
        assert_eq!(
            ContentRange::new(0, u64::MAX, u64::MAX).unwrap().len(),
            u64::MAX
        );
    }

    #[test]
    fn the_recorded_ranges_are_read() {
        assert_eq!(parse(b"bytes 0-4891/4892"), Ok(bytes(0, 4892, 4892)));
        assert_eq!(parse(b"bytes 128-212/1000"), Ok(bytes(128, 213, 1000)));
        assert_eq!(parse(b"bytes 0-32/33"), Ok(bytes(0, 33, 33)));
    }

    #[test]
    fn the_unit_stands_in_any_case_with_blanks_behind_it() {
        for text in [
            "Bytes 0-0/1",
            "BYTES 0-0/1",
            "bYtEs   0-0/1",
            "bytes\t0-0/1",
            "bytes \t 0-0/1",
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(bytes(0, 1, 1)), "{text:?}");
        }
        for text in [
            "bytes0-0/1",
            "bytes=0-0/1",
            "byte 0-0/1",
            "octets 0-0/1",
            " bytes 0-0/1",
            "0-0/1",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadRange), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_digits_only_and_leading_zeros_do_not_matter() {
        assert_eq!(
            parse(b"bytes 000-0004/0000000000000000000000000000010"),
            Ok(bytes(0, 5, 10))
        );
        for text in [
            "bytes +1-2/3",
            "bytes 1-+2/3",
            "bytes 1-2/+3",
            "bytes -1-2/3",
            "bytes 0x1-2/3",
            "bytes 1 -2/3",
            "bytes 1- 2/3",
            "bytes 1-2 /3",
            "bytes 1-2/ 3",
            "bytes 1-2/3 ",
            "bytes 1_0-20/30",
            "bytes 1-2/3/4",
            "bytes 1-2-3/4",
            "bytes 1/2-3",
            "bytes 1-2",
            "bytes -2/3",
            "bytes 1-/3",
            "bytes 1-2/",
            "bytes ",
            "bytes",
            "",
            "bytes 0-1/2, 0-1/2",
            "bytes \u{0661}-2/3",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadRange), "{text:?}");
        }
    }

    #[test]
    fn stars_inversions_and_ranges_beyond_the_total_are_refused() {
        for text in [
            "bytes *",
            "bytes */5",
            "bytes 0-4/*",
            "bytes */*",
            "bytes 4-3/9",
            "bytes 0-9/9",
            "bytes 9-9/9",
            "bytes 0-1/0",
            "bytes 1-0/0",
            "bytes 1-0/2",
            "bytes 5--1/0",
            "bytes 0--1/1",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadRange), "{text:?}");
        }
    }

    #[test]
    fn an_empty_file_has_three_forms() {
        for text in ["bytes 0-0/0", "bytes 0--1/0", "bytes */0", "BYTES  */0"] {
            assert_eq!(
                parse(text.as_bytes()),
                Ok(RangeField::EmptyFile),
                "{text:?}"
            );
        }
        // Only as written: nobody pads them.
        assert_eq!(parse(b"bytes 00-0/0"), Err(BadRange));
    }

    #[test]
    fn numbers_near_the_edges_of_their_types_are_exact() {
        for edge in [1 << 32, 1 << 53, u64::MAX] {
            for total in [edge - 1, edge, edge.saturating_add(1)] {
                let text = format!("bytes {}-{}/{total}", total - 2, total - 1);
                assert_eq!(
                    parse(text.as_bytes()),
                    Ok(bytes(total - 2, total, total)),
                    "{text}"
                );
                let RangeField::Bytes(range) = bytes(0, total, total) else {
                    unreachable!()
                };
                assert_eq!(
                    range.place(total - 1),
                    Placement::Overlap { skip: total - 1 }
                );
                assert_eq!(range.place(total), Placement::Known);
                assert_eq!(range.place(u64::MAX), Placement::Known);
                let last = ContentRange::new(total - 1, total, total).unwrap();
                assert_eq!(last.place(total - 1), Placement::Fresh);
                assert_eq!(last.place(total - 2), Placement::Gap);
            }
        }
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused() {
        for text in [
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 0-18446744073709551615/18446744073709551616",
            "bytes 0-5/18446744073709551616",
            "bytes 18446744073709551616-18446744073709551617/18446744073709551618",
            "bytes 0-99999999999999999999999999999999999999999/100",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadRange), "{text}");
        }
        let greatest =
            parse(b"bytes 18446744073709551614-18446744073709551614/18446744073709551615");
        assert_eq!(greatest, Ok(bytes(u64::MAX - 1, u64::MAX, u64::MAX)));
    }

    /// Marks every byte of a small file and looks where the range lies.
    fn place_on_a_bitmap(received: u64, start: u64, end: u64) -> Placement {
        let stored: Vec<bool> = (0..7).map(|byte| byte < received).collect();
        let known = (start..end).filter(|&byte| stored[byte as usize]).count() as u64;
        let hole_before = (0..start).any(|byte| !stored[byte as usize]);
        match (known, hole_before) {
            (_, true) => Placement::Gap,
            (0, false) => Placement::Fresh,
            (known, false) if known == end - start => Placement::Known,
            (skip, false) => Placement::Overlap { skip },
        }
    }

    /// Every range of every file of up to six bytes, at every watermark.
    #[test]
    fn every_small_range_lies_where_a_bitmap_says() {
        let mut placed = 0;
        for (received, start, end, total) in small_quadruples() {
            let range = ContentRange::new(start, end, total);
            assert_eq!(
                range.is_some(),
                start < end && end <= total,
                "{start}..{end} of {total}"
            );
            if let Some(range) = range {
                assert_eq!(
                    range.place(received),
                    place_on_a_bitmap(received, start, end),
                    "{range:?} at {received}"
                );
                placed += 1;
            }
        }
        // 56 ranges (the sum of n(n+1)/2 for n up to 6) at 7 watermarks.
        assert_eq!(placed, 56 * 7);
    }

    fn small_quadruples() -> impl Iterator<Item = (u64, u64, u64, u64)> {
        (0..7u64.pow(4)).map(|n| (n % 7, n / 7 % 7, n / 49 % 7, n / 343))
    }

    /// The same grammar with strings, 128-bit numbers and no hurry.
    fn parse_slowly(value: &[u8]) -> Result<RangeField, BadRange> {
        fn number(text: &str) -> Option<u128> {
            let significant = text.trim_start_matches('0');
            let all_digits = !text.is_empty() && text.chars().all(|c| "0123456789".contains(c));
            (all_digits && significant.len() <= 30)
                .then(|| format!("0{significant}").parse().unwrap())
        }
        fn slowly(value: &[u8]) -> Option<RangeField> {
            let text = String::from_utf8(value.to_vec()).ok()?;
            let split = text.find([' ', '\t'])?;
            let (unit, spec) = (
                text[..split].to_lowercase(),
                text[split..].trim_start_matches([' ', '\t']),
            );
            if unit != "bytes" {
                return None;
            }
            if ["0-0/0", "0--1/0", "*/0"].contains(&spec) {
                return Some(RangeField::EmptyFile);
            }
            let (range, total) = spec.rsplit_once('/')?;
            let (first, last) = range.rsplit_once('-')?;
            let (first, last, total) = (number(first)?, number(last)?, number(total)?);
            let ok = first <= last && last < total && total <= u128::from(u64::MAX);
            ok.then(|| bytes(first as u64, last as u64 + 1, total as u64))
        }
        slowly(value).ok_or(BadRange)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed_back(a: u64, b: u64, c: u64) {
            let mut sorted = [a, b, c];
            sorted.sort_unstable();
            if let Some(range) = ContentRange::new(sorted[0], sorted[1], sorted[2]) {
                prop_assert_eq!(parse(encode(range).as_bytes()), Ok(RangeField::Bytes(range)));
            }
        }

        #[test]
        fn arbitrary_bytes_are_read_as_the_slow_parser_reads_them(value: Vec<u8>) {
            prop_assert_eq!(parse(&value), parse_slowly(&value));
        }

        #[test]
        fn near_ranges_are_read_as_the_slow_parser_reads_them(
            value in "[bB]ytes?[ \t]{0,2}[0-9*+]{0,3}-{0,2}[0-9]{0,21}[/ ]{0,2}[0-9*]{0,21}",
        ) {
            prop_assert_eq!(parse(value.as_bytes()), parse_slowly(value.as_bytes()));
        }

        #[test]
        fn the_parts_of_a_placed_range_add_up(start: u64, len in 1..=u64::MAX, received: u64) {
            if let Some(range) = start.checked_add(len).and_then(|end| ContentRange::new(start, end, u64::MAX)) {
                match range.place(received) {
                    Placement::Fresh => prop_assert_eq!(range.start(), received),
                    Placement::Overlap { skip } => {
                        prop_assert!(0 < skip && skip < range.len());
                        prop_assert_eq!(range.start() + skip, received);
                    }
                    Placement::Known => prop_assert!(range.end() <= received),
                    Placement::Gap => prop_assert!(range.start() > received),
                }
            }
        }
    }
}
