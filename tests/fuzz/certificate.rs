//! Certificates: whatever is wrong with one, the user that it names can be one.
#![no_main]

use bitsd::auth::accounts::{Accounts, is_name};
use bitsd::auth::certificate::{Rule, user_of};
use libfuzzer_sys::fuzz_target;

/// A good one, with all that rules look for.
const GOOD: &[u8] = include_bytes!("certificate.der");

fn check(certificate: &[u8]) {
    for rule in Rule::ALL {
        let user = user_of(certificate, &[rule], &["EXAMPLE"], &Accounts::default());
        assert!(user.is_none_or(|user| is_name(&user)), "{rule:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Some bytes of a good one are others: position and value.
    let mut certificate = GOOD.to_vec();
    for change in bytes.as_chunks::<3>().0 {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % certificate.len();
        certificate[at] = change[2];
    }
    check(&certificate);
    // And what it ends with is gone.
    let end = bytes.first().map_or(0, |byte| usize::from(*byte)) * 2;
    check(&certificate[..end.min(certificate.len())]);
});
