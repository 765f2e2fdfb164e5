//! Tokens of Negotiate: one that passes is whole to the byte, and none that carries NTLM passes.
#![no_main]

use bitsd::http::spnego::{BadToken, Shape, inspect};
use libfuzzer_sys::fuzz_target;

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("inputs are short").to_be_bytes();
    [&[tag, 0x84], &length[..], content].concat()
}

/// NegTokenInit of these mechanisms and this token; the mechanisms come encoded.
fn init(mechanisms: &[u8], token: &[u8]) -> Vec<u8> {
    let fields = [
        tlv(0xa0, &tlv(0x30, mechanisms)),
        tlv(0xa2, &tlv(0x04, token)),
    ];
    let choice = tlv(0xa0, &tlv(0x30, &fields.concat()));
    let spnego = tlv(0x06, b"\x2b\x06\x01\x05\x05\x02");
    tlv(0x60, &[spnego, choice].concat())
}

const KERBEROS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

fuzz_target!(|bytes: &[u8]| {
    if inspect(bytes).is_ok() {
        assert_eq!(inspect(&bytes[..bytes.len() - 1]), Err(BadToken::Malformed));
        assert_eq!(inspect(&[bytes, b"\0"].concat()), Err(BadToken::Malformed));
    }
    let ntlm = [b"NTLMSSP\0", bytes].concat();
    assert_eq!(inspect(&ntlm), Err(BadToken::Ntlm));
    assert_eq!(inspect(&init(KERBEROS, &ntlm)), Err(BadToken::Ntlm));
    let further = tlv(0xa1, &tlv(0x30, &tlv(0xa2, &tlv(0x04, &ntlm))));
    assert_eq!(inspect(&further), Err(BadToken::Ntlm));
    if !bytes.starts_with(b"NTLMSSP\0") {
        assert_eq!(inspect(&init(KERBEROS, bytes)), Ok(Shape::First));
    }
    // Mechanisms that somebody makes up.
    let _ = inspect(&init(bytes, b""));
    let _ = inspect(&tlv(0x60, bytes));
});
