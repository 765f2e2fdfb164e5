//! By this an application can check who sent a notification and when, and that nothing of it was
//! changed.
//!
//! `BITS-Notification-Signature: sha256=HEX` is the HMAC-SHA256 (RFC 2104), under the shared
//! secret, of six lines joined by line feeds: `BITS-Notification-Timestamp`,
//! `BITS-Notification-Id`, `BITS-Original-Request-URL`, `BITS-Request-DataFile-Name`,
//! `BITS-Response-DataFile-Name`, `Content-Digest`; a field that the request does not have is an
//! empty line. The body is covered by its digest (RFC 9530). Where the request says who has sent
//! the upload, two more lines follow: `BITS-Remote-User`, `BITS-Auth-Type`; and where it says the
//! digest of the file, one last line: `Repr-Digest`. Nobody can take them away, since no signature
//! of fewer lines fits then.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::server::floor::NotifyError;

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// The fields that are signed, in their order.
pub struct Signed<'a> {
    /// BITS-Notification-Timestamp, in seconds since 1970.
    pub timestamp: &'a str,
    pub id: &'a str,
    pub upload_url: &'a str,
    /// BITS-Request-DataFile-Name, or empty.
    pub part: &'a [u8],
    /// BITS-Response-DataFile-Name, or empty.
    pub reply: &'a [u8],
    /// Content-Digest, or empty.
    pub digest: &'a str,
    /// BITS-Remote-User, or empty.
    pub user: &'a str,
    /// BITS-Auth-Type; of nobody it does not count.
    pub proof: &'a str,
    /// Repr-Digest, or empty.
    pub repr_digest: &'a str,
}

impl Signed<'_> {
    /// The value of BITS-Notification-Signature.
    pub fn signature(&self, secret: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        let lines: [&[u8]; 8] = [
            self.timestamp.as_bytes(),
            self.id.as_bytes(),
            self.upload_url.as_bytes(),
            self.part,
            self.reply,
            self.digest.as_bytes(),
            self.user.as_bytes(),
            self.proof.as_bytes(),
        ];
        let mut lines = match self.user.is_empty() {
            true => lines[..6].to_vec(),
            false => lines.to_vec(),
        };
        if !self.repr_digest.is_empty() {
            lines.push(self.repr_digest.as_bytes());
        }
        mac.update(&lines.join(&b'\n'));
        let mut text = "sha256=".to_owned();
        for byte in mac.finalize().into_bytes() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// The value of Content-Digest for a file, which is left at its beginning.
///
/// # Errors
/// [`NotifyError::Disk`]; [`NotifyError::TimedOut`] at the deadline, for a large file takes
/// minutes.
pub fn content_digest(file: &mut File, deadline: Instant) -> Result<String, NotifyError> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if Instant::now() >= deadline {
            return Err(NotifyError::TimedOut);
        }
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => hasher.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(NotifyError::Disk(error)),
        }
    }
    file.rewind().map_err(NotifyError::Disk)?;
    Ok(format!("sha-256=:{}:", STANDARD.encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    #[test]
    fn a_signature_covers_each_field() {
        let signed = |timestamp| Signed {
            timestamp,
            id: "ID",
            upload_url: "http://h/a",
            part: b"/w/ID.part",
            reply: b"/w/ID.reply",
            digest: "",
            user: "",
            proof: "",
            repr_digest: "",
        };
        // printf '1700000000\nID\nhttp://h/a\n/w/ID.part\n/w/ID.reply\n' | openssl dgst -sha256
        // -hmac secret
        assert_eq!(
            signed("1700000000").signature(b"secret"),
            "sha256=d9b54ffd3d6b0cecf08b2fb6823e7a732abb63ebf641874efc7a42693eb4b8d0"
        );
        assert_ne!(
            signed("1700000000").signature(b"secret"),
            signed("1700000001").signature(b"secret")
        );
        assert_ne!(
            signed("1700000000").signature(b"secret"),
            signed("1700000000").signature(b"secreT")
        );
        // printf '1700000000\nID\nhttp://h/a\n/w/ID.part\n/w/ID.reply\n\nanna\nbasic' | openssl
        // dgst -sha256 -hmac secret
        let by = |user, proof| Signed {
            user,
            proof,
            ..signed("1700000000")
        };
        let annas = by("anna", "basic").signature(b"secret");
        assert_eq!(
            annas,
            "sha256=c1cc832021714a1501573844b248708311fc1cb4ae27abe9f61a98020bbf80b5"
        );
        assert_ne!(annas, by("bert", "basic").signature(b"secret"));
        assert_ne!(annas, by("anna", "negotiate").signature(b"secret"));
        let with_digest = |user| Signed {
            repr_digest: "sha-256=:AA==:",
            ..by(user, "basic")
        };
        assert_ne!(annas, with_digest("anna").signature(b"secret"));
        assert_ne!(
            with_digest("").signature(b"secret"),
            by("", "").signature(b"secret")
        );
    }

    #[test]
    fn a_digest_is_that_of_the_whole_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        file.rewind().unwrap();
        // The example of RFC 9530, appendix D, has another body; this is SHA-256 of "hello".
        let digest = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
        let deadline = Instant::now() + Duration::from_secs(30);
        assert_eq!(content_digest(&mut file, deadline).unwrap(), digest);
        let mut again = String::new();
        file.read_to_string(&mut again).unwrap();
        assert_eq!(again, "hello");
    }

    #[test]
    fn a_digest_ends_with_the_time() {
        let mut file = tempfile::tempfile().unwrap();
        // Takes far longer than that to read.
        file.set_len(1 << 35).unwrap();
        let began = Instant::now();
        let digest = content_digest(&mut file, began + Duration::from_millis(100));
        assert!(matches!(digest, Err(NotifyError::TimedOut)), "{digest:?}");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
