//! Content-Range: read as a slow parser reads it, and placed as a bitmap says.
#![no_main]

use bitsd::bits::range::{self, ContentRange, Placement, RangeField};
use libfuzzer_sys::fuzz_target;

/// The same grammar with strings and 128-bit numbers.
fn parse_slowly(value: &[u8]) -> Option<RangeField> {
    fn number(text: &str) -> Option<u128> {
        let significant = text.trim_start_matches('0');
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && significant.len() < 30).then(|| format!("0{significant}").parse().unwrap())
    }
    let text = str::from_utf8(value).ok()?;
    let at = text.find([' ', '\t'])?;
    let (unit, spec) = (&text[..at], text[at..].trim_start_matches([' ', '\t']));
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    if ["0-0/0", "0--1/0", "*/0"].contains(&spec) {
        return Some(RangeField::EmptyFile);
    }
    let (range, total) = spec.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, end, total) = (number(first)?, number(last)? + 1, number(total)?);
    let [first, end, total] = [first, end, total].map(u64::try_from);
    ContentRange::new(first.ok()?, end.ok()?, total.ok()?).map(RangeField::Bytes)
}

fuzz_target!(|input: (&[u8], u64)| {
    let (value, received) = input;
    let parsed = range::parse(value).ok();
    assert_eq!(parsed, parse_slowly(value));
    let Some(RangeField::Bytes(range)) = parsed else {
        return;
    };
    assert!(range.start() < range.end() && range.end() <= range.total());
    let written = format!(
        "bytes {}-{}/{}",
        range.start(),
        range.end() - 1,
        range.total()
    );
    assert_eq!(
        range::parse(written.as_bytes()),
        Ok(RangeField::Bytes(range))
    );
    // Only watermarks that a file of this size can have, and those around the range.
    let near = [range.start(), range.end(), range.start() + range.len() / 2];
    let far = [0, range.total(), received % range.total()];
    for received in near.into_iter().chain(far) {
        let new = range.end().saturating_sub(received.max(range.start()));
        let place = range.place(received);
        let expected = if received < range.start() {
            Placement::Gap
        } else if new == 0 {
            Placement::Known
        } else if new == range.len() {
            Placement::Fresh
        } else {
            Placement::Overlap {
                skip: range.len() - new,
            }
        };
        assert_eq!(place, expected, "{range:?} at {received}");
    }
});
