//! The Range field (RFC 9110 14.1, 14.2): text to ranges of any file, and those to bytes of one
//! file.
//!
//! On the wire ranges are inclusive, here those of a file are half-open and never empty.

use std::ops::Range;

/// The most ranges that are answered. The Windows client asks for one at a time for a reply; others
/// that ask for many split them well below this.
pub const RANGES_MAX: usize = 64;

/// The most bytes that all ranges together may come to, in lengths of the file. Twice lets ranges
/// overlap as they do in the examples of RFC 9110, and makes a request no worse than two for the
/// whole file.
const FILE_LENGTHS_MAX: u64 = 2;

/// The most bytes that ranges come to, however large the file: what a signed number of 64 bits
/// holds, so that a length with the heads of the parts in it cannot overflow here, nor in a client.
const BODY_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// One range as it was asked for. A number that 64 bits cannot hold stands as `u64::MAX`, which is
/// beyond every file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// `first-` or `first-last`; `first <= last`.
    From { first: u64, last: u64 },
    /// `-bytes`, from the end.
    Suffix { bytes: u64 },
}

impl Asked {
    /// `None` where RFC 9110 14.1.1 says that it is invalid.
    fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&byte| byte == b'-')?;
        let (first, last) = (&text[..dash], &text[dash + 1..]);
        if first.is_empty() {
            let bytes = number(last)?;
            return Some(Self::Suffix { bytes });
        }
        let first = number(first)?;
        let last = if last.is_empty() {
            u64::MAX
        } else {
            number(last)?
        };
        (first <= last).then_some(Self::From { first, last })
    }

    /// The bytes of a file; `None` if it has none of them. An empty file has none, although RFC
    /// 9110 14.1.2 calls a suffix of it satisfiable: no Content-Range can say "nothing".
    fn of(self, len: u64) -> Option<Range<u64>> {
        let (start, end) = match self {
            Self::From { first, last } => (first, last.saturating_add(1).min(len)),
            Self::Suffix { bytes } => (len - bytes.min(len), len),
        };
        (start < end).then_some(start..end)
    }
}

/// A whole Range field that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet {
    /// At most one more than are answered.
    asked: Vec<Asked>,
}

/// What a Range field means for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These bytes, in the order asked for; at least one range.
    Ranges(Vec<Range<u64>>),
    /// None of them lies in the file.
    Unsatisfiable,
    /// They are refused, being too many or too long (see [`RangeSet::select`]).
    Excessive,
}

impl RangeSet {
    /// `None` for what is to be ignored: another unit than bytes, and what is not valid (RFC 9110
    /// 14.2).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let equals = value.iter().position(|&byte| byte == b'=')?;
        if !value[..equals].eq_ignore_ascii_case(b"bytes") {
            return None;
        }
        let mut asked = Vec::new();
        // RFC 9110 5.6.1.2: empty elements of a list say nothing.
        let elements = value[equals + 1..].split(|&byte| byte == b',');
        for element in elements.map(trim).filter(|element| !element.is_empty()) {
            let range = Asked::parse(element)?;
            if asked.len() <= RANGES_MAX {
                asked.push(range);
            }
        }
        (!asked.is_empty()).then_some(Self { asked })
    }

    /// The bytes of a file that are asked for. Ranges beyond its end are left out.
    ///
    /// More ranges than [`RANGES_MAX`], and ranges that together come to more than twice the file,
    /// are not satisfied. RFC 9110 14.2 and 17.15 let a server ignore or reject those. We reject:
    /// the whole file in their place is what an attacker would like best, and a BITS client takes a
    /// 200 to a ranged GET as an error anyway, after it has been sent.
    pub fn select(&self, len: u64) -> Selection {
        if self.asked.len() > RANGES_MAX {
            return Selection::Excessive;
        }
        let ranges: Vec<_> = (self.asked.iter())
            .filter_map(|asked| asked.of(len))
            .collect();
        if ranges.is_empty() {
            return Selection::Unsatisfiable;
        }
        let lengths = ranges.iter().map(|range| range.end - range.start);
        let bytes = lengths.fold(0, u64::saturating_add);
        let bytes_max = len.saturating_mul(FILE_LENGTHS_MAX).min(BODY_BYTES_MAX);
        if bytes > bytes_max {
            return Selection::Excessive;
        }
        Selection::Ranges(ranges)
    }
}

/// Digits only; what is too large is as large as can be.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |number: u64, digit: &u8| {
        let digit = u64::from(digit - b'0');
        number.saturating_mul(10).saturating_add(digit)
    };
    Some(digits.iter().fold(0, add))
}

/// Without the blanks and tabs that may stand around an element of a list.
fn trim(element: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = element.iter().take_while(|byte| is_blank(byte)).count();
    let rest = &element[start..];
    let blanks = rest.iter().rev().take_while(|byte| is_blank(byte)).count();
    &rest[..rest.len() - blanks]
}

#[cfg(test)]
#[allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is meant"
)]
mod tests {
    use super::*;

    fn select(value: &str, len: u64) -> Option<Selection> {
        RangeSet::parse(value.as_bytes()).map(|set| set.select(len))
    }

    fn ranges(ranges: &[Range<u64>]) -> Option<Selection> {
        Some(Selection::Ranges(ranges.to_vec()))
    }

    /// The examples of RFC 9110 14.1.2 and 14.2, on the file of 10,000 bytes that they speak of.
    #[test]
    fn examples_of_the_rfc_mean_what_it_says() {
        for (value, expected) in [
            ("bytes=0-499", &[0..500][..]),
            ("bytes=500-999", &[500..1000]),
            ("bytes=-500", &[9500..10_000]),
            ("bytes=9500-", &[9500..10_000]),
            ("bytes=0-0,-1", &[0..1, 9999..10_000]),
            (
                "bytes= 0-999, 4500-5499, -1000",
                &[0..1000, 4500..5500, 9000..10_000],
            ),
            ("bytes=500-600,601-999", &[500..601, 601..1000]),
            ("bytes=500-700,601-999", &[500..701, 601..1000]),
        ] {
            assert_eq!(select(value, 10_000), ranges(expected), "{value}");
        }
    }

    #[test]
    fn the_order_of_the_request_is_kept_and_nothing_is_merged() {
        let value = "Bytes=,7-9 ,\t0-1,, 1-1, 90-,2-3,";
        assert_eq!(
            select(value, 10),
            ranges(&[7..10, 0..2, 1..2, 2..4]),
            "what lies beyond the end is left out"
        );
    }

    #[test]
    fn ends_are_those_of_the_file() {
        let huge = "99999999999999999999999";
        for (value, expected) in [
            ("bytes=0-".to_owned(), &[0..10][..]),
            ("bytes=0-9".to_owned(), &[0..10]),
            ("bytes=0-10".to_owned(), &[0..10]),
            (format!("bytes=9-{huge}"), &[9..10]),
            (format!("bytes=-{huge}"), &[0..10]),
            ("bytes=-10".to_owned(), &[0..10]),
            ("bytes=-11".to_owned(), &[0..10]),
            ("bytes=007-008".to_owned(), &[7..9]),
        ] {
            assert_eq!(select(&value, 10), ranges(expected), "{value}");
        }
        let last = u64::MAX - 1;
        assert_eq!(
            select(&format!("bytes={last}-"), u64::MAX),
            ranges(&[last..u64::MAX])
        );
    }

    #[test]
    fn what_the_file_does_not_have_is_unsatisfiable() {
        let huge = "99999999999999999999999";
        for (value, len) in [
            ("bytes=10-".to_owned(), 10),
            ("bytes=10-20,11-".to_owned(), 10),
            ("bytes=-0".to_owned(), 10),
            (format!("bytes={huge}-{huge}"), 10),
            ("bytes=0-".to_owned(), 0),
            ("bytes=0-0".to_owned(), 0),
            ("bytes=-1".to_owned(), 0),
        ] {
            assert_eq!(
                select(&value, len),
                Some(Selection::Unsatisfiable),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_invalid_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes= , ",
            "bytes=-",
            "bytes=1",
            "bytes=2-1",
            "bytes=0-1,2-1",
            "bytes=a-b",
            "bytes=0-1;2-3",
            "bytes=0 - 1",
            "bytes=0x1-2",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes =0-1",
            "bytes 0-1/10",
            "lines=0-1",
            "none=",
            "0-1",
        ] {
            assert_eq!(select(value, 10), None, "{value:?}");
        }
    }

    #[test]
    fn many_ranges_are_refused_and_not_taken_for_none() {
        let value = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert_eq!(
            select(&value(RANGES_MAX), 64),
            ranges(&[const { 0..1 }; RANGES_MAX])
        );
        for count in [RANGES_MAX + 1, RANGES_MAX + 2, 1_000] {
            assert_eq!(select(&value(count), 64), Some(Selection::Excessive));
        }
        let invalid = format!("{},x", value(1_000));
        assert_eq!(select(&invalid, 64), None);
    }

    #[test]
    fn ranges_come_to_twice_the_file_at_the_most() {
        assert_eq!(select("bytes=0-,0-", 10), ranges(&[0..10, 0..10]));
        assert_eq!(
            select("bytes=0-,0-,9-", 10),
            Some(Selection::Excessive),
            "one byte more"
        );
    }
}
