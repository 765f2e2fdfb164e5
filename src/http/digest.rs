//! Digests of files: which are asked for, and how HTTP and people write them.
//!
//! SHA-256 is what is asked for as evidence. SHA-1 comes beside it for tools that list nothing
//! else: two different files with one SHA-1 can be made by force, so it proves little alone, and
//! HTTP is not told it (RFC 9530 5 calls it deprecated).

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Which digests of a file are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithms {
    /// None.
    None,
    /// SHA-256.
    Sha256,
    /// SHA-256 and SHA-1.
    Both,
}

impl Algorithms {
    /// The words of the settings.
    pub const WORDS: &[&str] = &["none", SHA256, SHA1];

    /// As it stands in the settings.
    pub fn words(self) -> &'static [&'static str] {
        match self {
            Self::None => &["none"],
            Self::Sha256 => &[SHA256],
            Self::Both => &[SHA256, SHA1],
        }
    }

    /// What words ask for, in any order; `None` if they make no sense together.
    pub fn from_words<T: AsRef<str>>(words: &[T]) -> Option<Self> {
        let all = [Self::None, Self::Sha256, Self::Both];
        all.into_iter().find(|algorithms| {
            let names = algorithms.words();
            let is_named = |name: &&str| words.iter().any(|word| word.as_ref() == *name);
            words.len() == names.len() && names.iter().all(is_named)
        })
    }
}

/// The digests of a whole file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-1, where it was asked for.
    pub sha1: Option<[u8; 20]>,
}

impl Digests {
    /// What they are of.
    pub fn algorithms(&self) -> Algorithms {
        match self.sha1 {
            None => Algorithms::Sha256,
            Some(_) => Algorithms::Both,
        }
    }
}

impl fmt::Debug for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.sha256))
    }
}

/// The value of `Repr-Digest` (RFC 9530 3): a dictionary of byte sequences (RFC 8941).
pub fn repr_digest<'b>(sha256: &[u8; 32], buffer: &'b mut [u8; REPR_DIGEST_BYTES]) -> &'b str {
    let begin = REPR_DIGEST_BEGIN.len();
    buffer[..begin].copy_from_slice(REPR_DIGEST_BEGIN.as_bytes());
    let end = REPR_DIGEST_BYTES - 1;
    let written = STANDARD.encode_slice(sha256, &mut buffer[begin..end]);
    assert_eq!(written, Ok(end - begin), "the room is as long as the text");
    buffer[end] = b':';
    std::str::from_utf8(buffer).expect("base64 is ASCII")
}

/// The name of the field.
pub const REPR_DIGEST: &str = "Repr-Digest";
/// Length of its value.
pub const REPR_DIGEST_BYTES: usize = REPR_DIGEST_BEGIN.len() + 44 + 1;
const REPR_DIGEST_BEGIN: &str = "sha-256=:";

const SHA256: &str = "sha-256";
const SHA1: &str = "sha-1";

/// Bytes as people write them, in lower case.
#[derive(Clone, Copy)]
pub struct Hex<'b>(pub &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |four_bits: u8| f.write_char(char::from(DIGITS[usize::from(four_bits)]));
        let mut digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
        digits.try_for_each(digit)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The bytes that a text of hexadecimal digits says, if it says so many.
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_make_no_sense_together_are_refused() {
        for algorithms in [Algorithms::None, Algorithms::Sha256, Algorithms::Both] {
            assert_eq!(Algorithms::from_words(algorithms.words()), Some(algorithms));
        }
        let both = Algorithms::from_words(&["sha-1", "sha-256"]);
        assert_eq!(both, Some(Algorithms::Both));
        assert_eq!(Algorithms::from_words(&["sha-1"]), None);
        assert_eq!(Algorithms::from_words(&["none", "sha-256"]), None);
        assert_eq!(Algorithms::from_words::<&str>(&[]), None);
    }

    #[test]
    fn a_digest_is_written_as_rfc_9530_writes_it() {
        // The SHA-256 of no bytes at all (FIPS 180-4), in both forms.
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let sha256 = parse_hex(hex).unwrap();
        assert_eq!(
            repr_digest(&sha256, &mut [0; REPR_DIGEST_BYTES]),
            "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
        );
        assert_eq!(Hex(&sha256).to_string(), hex);
    }

    #[test]
    fn only_so_many_hexadecimal_digits_are_bytes() {
        assert_eq!(parse_hex::<2>("0aFf"), Some([0x0a, 0xff]));
        for text in ["0aF", "0aFff", "0aFg", "+a+f", "\u{e9}0\u{e9}"] {
            assert_eq!(parse_hex::<2>(text), None, "{text}");
        }
    }
}
