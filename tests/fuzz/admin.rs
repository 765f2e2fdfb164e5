//! Requests to the administrator's interface: any bytes, cut anywhere, give one answer, and what is
//! taken can do no harm where it is shown.
#![no_main]

use bitsd::admin::parse_request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse_request(bytes);
    // Read byte by byte, the first answer that is not "read on" is final.
    let first = (0..=bytes.len()).map(|end| parse_request(&bytes[..end]));
    let first = first
        .into_iter()
        .find(|answer| *answer != Ok(None))
        .unwrap_or(Ok(None));
    match (&whole, &first) {
        // One that is refused early may have a further mistake behind the first.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, first),
    }
    let Ok(Some(request)) = whole else {
        return;
    };
    assert!(request.path.starts_with('/'), "{request:?}");
    let texts = request.query.iter().flat_map(|(name, value)| [name, value]);
    for text in texts.chain([&request.path]) {
        assert!(!text.contains(char::is_control), "{request:?}");
    }
});
