//! The Authorization field: what is read of it is within its bounds, and says what was sent.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitsd::http::authorization::{
    Credentials, PASSWORD_BYTES_MAX, TICKET_BYTES_MAX, TOKEN_BYTES_MAX, USER_BYTES_MAX,
};
use bitsd::http::head::{self, HeadLimits, Parsed};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 80 << 10,
    headers_max: 64,
    value_bytes_max: 4 << 10,
};

/// What a request with this field shows; nothing if it is no request.
fn read(value: &[u8]) -> Option<Credentials> {
    let request = [b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: ", value, b"\r\n\r\n"].concat();
    match head::parse(&request, &LIMITS) {
        Ok(Parsed::Complete(head)) => Credentials::of(&head).ok().flatten(),
        _ => None,
    }
}

fn check(credentials: Option<Credentials>) {
    match credentials {
        None => {}
        Some(Credentials::Basic { user, password }) => {
            assert!((1..=USER_BYTES_MAX).contains(&user.len()));
            assert!(!user.contains(char::is_control) && !user.contains(':'));
            assert!(password.len() <= PASSWORD_BYTES_MAX && !password.contains(&0));
            let again = [user.as_bytes(), b":", &password].concat();
            let again = read(format!("Basic {}", STANDARD.encode(again)).as_bytes());
            assert_eq!(again, Some(Credentials::Basic { user, password }));
        }
        Some(Credentials::Bearer(token)) => {
            assert!((1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.is_ascii());
        }
        Some(Credentials::Negotiate(token, _)) => {
            assert!(token.len() <= TICKET_BYTES_MAX && !token.starts_with(b"NTLMSSP"));
        }
    }
}

fuzz_target!(|value: &[u8]| {
    check(read(value));
    // Behind a scheme, as it is and encoded.
    for scheme in ["Basic", "bearer", "Negotiate"] {
        check(read(&[scheme.as_bytes(), b" ", value].concat()));
        check(read(format!("{scheme} {}", STANDARD.encode(value)).as_bytes()));
    }
});
