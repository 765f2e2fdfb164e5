//! The first bytes of a connection behind a proxy, and what its requests say of who is behind it.
#![no_main]

use bitsd::auth::forwarded::{self, Announced, HEADER_BYTES_MAX};
use bitsd::auth::networks::Networks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = forwarded::read_announcement(bytes);
    // Read byte by byte, the first answer that is not "read on" is final, and what follows a header
    // changes nothing.
    let first = (0..=bytes.len())
        .map(|end| forwarded::read_announcement(&bytes[..end]))
        .find(|answer| *answer != Ok(Announced::Incomplete))
        .unwrap_or(Ok(Announced::Incomplete));
    match (whole, first) {
        // What is refused early may be refused for something else behind it.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(whole, first),
    }
    match whole {
        Ok(Announced::Incomplete) => {
            assert!(
                bytes.len() < HEADER_BYTES_MAX,
                "more than a header was asked for"
            );
        }
        Ok(Announced::Whole {
            bytes: taken,
            client,
        }) => {
            assert!(taken <= bytes.len() && taken <= HEADER_BYTES_MAX);
            if let Some(client) = client {
                assert_eq!(client.ip(), client.ip().to_canonical());
                assert!(!client.ip().is_unspecified());
            }
        }
        Err(_) => {}
    }
    field(bytes);
});

/// Whatever stands in the field, the client is the peer, or an address that a trusted one named.
fn field(bytes: &[u8]) {
    let trusted = Networks::of(&["10.0.0.0/8".to_owned(), "::1".to_owned()]);
    let proxy = "10.0.0.1:1".parse().unwrap();
    let stranger = "192.0.2.1:1".parse().unwrap();
    let told = || bytes.split(|byte| *byte == b'\n');
    let found = |peer| forwarded::client(peer, &trusted, told().collect::<Vec<_>>().into_iter());
    assert_eq!(
        found(stranger),
        stranger,
        "nobody's word is taken but a proxy's"
    );
    let client = found(proxy);
    if client != proxy {
        // It stands there, and everything behind it is empty or a trusted proxy's.
        assert_eq!(client.ip(), client.ip().to_canonical());
        assert!(!client.ip().is_unspecified());
        let mut entries = told()
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|entry| !entry.is_empty());
        assert!(entries.any(|entry| {
            let alone = forwarded::client(proxy, &trusted, [entry].into_iter());
            alone == client
        }));
    }
}
