//! Which of two forms of an answer a client would rather have (RFC 9110 12.5.1).

/// Whether it names a media type, and wants it no less than another one.
pub fn prefers(accept: Option<&[u8]>, wanted: &str, other: &str) -> bool {
    let accept = String::from_utf8_lossy(accept.unwrap_or_default()).to_ascii_lowercase();
    let named = weight(&accept, wanted).filter(|weight| *weight > 0);
    named.is_some_and(|wanted| wanted >= weight_by_any_name(&accept, other))
}

/// The weight of a media type that is named as it is, in thousandths: of several the largest.
fn weight(accept: &str, media_type: &str) -> Option<u16> {
    let weights = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next() == Some(media_type);
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_named.then(|| weight.map_or(WHOLE, thousandths))
    });
    weights.max()
}

/// The same, where a range may stand for it.
fn weight_by_any_name(accept: &str, media_type: &str) -> u16 {
    let kind = media_type.split('/').next().unwrap_or_default();
    weight(accept, media_type)
        .or_else(|| weight(accept, &format!("{kind}/*")))
        .or_else(|| weight(accept, "*/*"))
        .unwrap_or(0)
}

const WHOLE: u16 = 1_000;

/// `0.25` is 250 (RFC 9110 12.4.2). What is no weight is as if it were not there.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_part = part.len() <= 3 && part.bytes().all(|digit| digit.is_ascii_digit());
    match whole == "0" && is_part {
        true => format!("{part:0<3}").parse().unwrap_or(WHOLE),
        false => WHOLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_looked_at() {
        let html = |accept: &str| prefers(Some(accept.as_bytes()), "text/html", "text/plain");
        for accept in [
            "text/html",
            "Text/HTML;q=0.5",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/html, text/plain",
            "text/plain;q=0.2, text/html;level=1;q=0.3",
            "text/html;q=0.1, text/html;q=0.9, text/plain;q=0.5",
            "text/html;q=x, text/plain",
        ] {
            assert!(html(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/*",
            "text/plain",
            "text/html;q=0",
            "text/html;q=0.000",
            "text/html;q=0.1, text/plain",
            "text/html; q=0.25 , */*;q=0.3",
            "text/html;q=0.299, text/*;q=0.3, */*;q=0.1",
            "text/htmlx",
        ] {
            assert!(!html(accept), "{accept}");
        }
        assert!(!prefers(None, "text/html", "text/plain"));
    }

    #[test]
    fn a_weight_has_three_digits() {
        for (text, weight) in [
            ("1", 1_000),
            ("1.000", 1_000),
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("0.05", 50),
            ("0.999", 999),
            ("0.+5", 1_000),
            ("0.9999", 1_000),
            ("2", 1_000),
            ("", 1_000),
        ] {
            assert_eq!(thousandths(text), weight, "{text}");
        }
    }
}
