//! The Range field: sets of byte ranges (RFC 9110 14.1.2).

/// Ranges of one request. Windows asks for far fewer.
const RANGES_MAX: usize = 64;
/// All ranges of a request may come to so many times the file.
const OVERLAP_MAX: u64 = 2;

/// Bytes of a file, from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes.
    #[allow(
        clippy::len_without_is_empty,
        reason = "only the whole of an empty file is"
    )]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// The value of Content-Range; the range is not empty.
    pub(super) fn content_range(self, total: u64) -> String {
        format!("bytes {}-{}/{total}", self.start, self.end - 1)
    }
}

/// What a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RangeSet(Vec<Spec>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-last`, or `first-`.
    From { first: u64, last: Option<u64> },
    /// `-n`: the last n bytes.
    Suffix(u64),
}

/// What a set comes to for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selected {
    /// Nothing that could be sent: 416.
    Nothing,
    One(ByteRange),
    Many(Vec<ByteRange>),
}

impl RangeSet {
    /// `None` if it is malformed, or counts in something else than bytes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (unit, set) = text.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let specs: Option<Vec<_>> = (set.split(','))
            .map(|spec| spec.trim_matches([' ', '\t']))
            .filter(|spec| !spec.is_empty())
            .map(Spec::parse)
            .collect();
        specs.filter(|specs| !specs.is_empty()).map(Self)
    }

    /// In the order of the request.
    pub(super) fn select(&self, len: u64) -> Selected {
        if self.0.len() > RANGES_MAX {
            return Selected::Nothing;
        }
        let ranges: Vec<_> = self.0.iter().filter_map(|spec| spec.of(len)).collect();
        let bytes: u128 = ranges.iter().map(|range| u128::from(range.len())).sum();
        if bytes > u128::from(len) * u128::from(OVERLAP_MAX) {
            return Selected::Nothing;
        }
        match ranges[..] {
            [] => Selected::Nothing,
            [range] => Selected::One(range),
            _ => Selected::Many(ranges),
        }
    }
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        match (first, last) {
            ("", last) => number(last).map(Self::Suffix),
            (first, "") => number(first).map(|first| Self::From { first, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                let last = Some(last).filter(|last| *last >= first)?;
                Some(Self::From {
                    first,
                    last: Some(last),
                })
            }
        }
    }

    fn of(self, len: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From { first, last } => {
                let end = last.map_or(len, |last| last.saturating_add(1).min(len));
                (first, end)
            }
            Self::Suffix(bytes) => (len.saturating_sub(bytes), len),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// Digits only; what is larger than any file is as good as the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str, len: u64) -> Option<Selected> {
        Some(RangeSet::parse(text)?.select(len))
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 9110 14.1.2, for a file of 10,000 bytes.
        let one = |text, start, end| {
            let expected = Some(Selected::One(range(start, end)));
            assert_eq!(select(text, 10_000), expected, "{text}");
        };
        one("bytes=0-499", 0, 500);
        one("bytes=500-999", 500, 1_000);
        one("bytes=-500", 9_500, 10_000);
        one("bytes=9500-", 9_500, 10_000);
        one("bytes=0-0", 0, 1);
        let many = Selected::Many(vec![range(0, 1), range(9_999, 10_000)]);
        assert_eq!(select("bytes=0-0,-1", 10_000), Some(many));
        let overlapping = Selected::Many(vec![range(500, 701), range(601, 1_000)]);
        assert_eq!(select("bytes= 500-700, 601-999", 10_000), Some(overlapping));
    }

    #[test]
    fn order_is_kept_and_what_cannot_be_sent_is_left_out() {
        let many = Selected::Many(vec![range(5, 10), range(0, 2)]);
        assert_eq!(select("bytes=5-20, 10-11,0-1 ,", 10), Some(many));
        for nothing in ["bytes=10-", "bytes=10-11", "bytes=-0"] {
            assert_eq!(select(nothing, 10), Some(Selected::Nothing), "{nothing}");
        }
        for empty in ["bytes=0-", "bytes=-5", "bytes=0-0"] {
            assert_eq!(select(empty, 0), Some(Selected::Nothing), "{empty}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_range() {
        for bad in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes=1-0",
            "bytes=a-",
            "bytes=-",
            "bytes=+1-2",
            "bytes=1",
            "bytes=0-1,x",
            "bytes=0 -1",
        ] {
            assert_eq!(RangeSet::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_beyond_all_files_do_not_overflow() {
        let huge = "bytes=0-99999999999999999999999";
        assert_eq!(select(huge, 10), Some(Selected::One(range(0, 10))));
        let max = u64::MAX;
        assert_eq!(
            select("bytes=0-18446744073709551615", max),
            Some(Selected::One(range(0, max)))
        );
        assert_eq!(
            select("bytes=99999999999999999999999-", 10),
            Some(Selected::Nothing)
        );
    }

    #[test]
    fn neither_many_ranges_nor_many_times_the_file_are_sent() {
        let set = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        assert!(matches!(select(&set(64), 1_000), Some(Selected::Many(_))));
        assert_eq!(select(&set(65), 1_000), Some(Selected::Nothing));
        assert!(matches!(
            select("bytes=0-,0-", 1_000),
            Some(Selected::Many(_))
        ));
        assert_eq!(select("bytes=0-,0-,0-0", 1_000), Some(Selected::Nothing));
    }
}
