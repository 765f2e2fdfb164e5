//! Whether what arrived is what was sent: our own SHA-256 of the file, computed from the bytes as
//! they go, beside the one that the server tells (`Repr-Digest`, RFC 9530).

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a file.
pub type Digest = [u8; 32];

/// The bytes of a file that were sent, each seen once and in order.
#[derive(Clone, Default)]
pub struct Sent {
    at: u64,
    sha256: Sha256,
}

impl Sent {
    /// Bytes of the file go, perhaps once more.
    pub fn see(&mut self, offset: u64, bytes: &[u8]) {
        let seen = self.at.checked_sub(offset).map(usize::try_from);
        if let Some(Ok(seen)) = seen
            && let Some(new) = bytes.get(seen..)
        {
            self.sha256.update(new);
            self.at += new.len() as u64;
        }
    }

    /// The digest of the whole file; what an earlier run has sent is read.
    ///
    /// # Errors
    /// Of reading the file.
    pub fn finish(&mut self, file: &File, total: u64) -> io::Result<Digest> {
        let mut block = vec![0; READ_BYTES];
        while self.at < total {
            let left = usize::try_from(total - self.at).unwrap_or(READ_BYTES);
            let bytes = left.min(READ_BYTES);
            file.read_exact_at(&mut block[..bytes], self.at)?;
            self.see(self.at, &block[..bytes]);
        }
        Ok(self.sha256.clone().finalize().into())
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sent up to {}", self.at)
    }
}

/// The SHA-256 of a `Repr-Digest`; `None` if it has none that can be read.
pub fn parse(field: &str) -> Option<Digest> {
    let mut members = field.split(',').map(str::trim);
    let value = members.find_map(|member| member.strip_prefix("sha-256=:"))?;
    STANDARD
        .decode(value.strip_suffix(':')?)
        .ok()?
        .try_into()
        .ok()
}

/// As `sha256sum` writes it.
pub fn hexadecimal(digest: &Digest) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn each_byte_counts_once_however_often_it_is_sent() {
        let bytes = b"abcdefgh";
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut sent = Sent::default();
        // The last byte, by which the server is asked how far it is.
        sent.see(7, &bytes[7..]);
        sent.see(0, &bytes[..3]);
        sent.see(0, &bytes[..3]);
        sent.see(2, &bytes[2..5]);
        sent.see(6, &bytes[6..]);
        assert_eq!(sent.at, 5);
        let expected: Digest = Sha256::digest(bytes).into();
        assert_eq!(sent.finish(&file, 8).unwrap(), expected);
        assert!(Sent::default().finish(&file, 9).is_err());
    }

    #[test]
    fn only_a_sha_256_is_read() {
        let digest: Digest = Sha256::digest(b"").into();
        let text = format!("sha-256=:{}:", STANDARD.encode(digest));
        assert_eq!(parse(&text), Some(digest));
        assert_eq!(parse(&format!("sha-512=:AA==:, {text}")), Some(digest));
        for other in [
            "",
            "sha-256=:AA==:",
            "sha-256=1",
            "sha-512=:AA==:",
            "sha-256=:%:",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hexadecimal(&digest), hex);
    }
}
