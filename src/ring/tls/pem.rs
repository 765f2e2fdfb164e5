//! Reads PEM files: what a file must hold, and what is wrong with one, by its line.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::named_file;
use crate::pem_lines::{self, FlawedPem};
use crate::shell;

/// What is wrong with a file; its words say what to do.
#[derive(Debug)]
pub struct BadPem {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    /// Not PEM: the bytes of one certificate or key as they are, or a PFX.
    Der,
    Utf16,
    /// The line, and what is wrong there.
    Broken(usize, &'static str),
    Missing(&'static str),
    /// The form that OpenSSL alone reads: the line where it begins.
    Trusted(usize),
    Encrypted(usize),
    TwoKeys(usize),
}

impl fmt::Display for BadPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, word) = (self.path.display(), shell::word(&self.path));
        match &self.why {
            Why::Unreadable(error) => {
                let remedy = named_file::remedy(&self.path, error);
                write!(f, "cannot read {path}: {error}{remedy}")
            }
            Why::Der => write!(
                f,
                "{path} is not PEM but DER or PFX: `openssl x509 -inform DER -in {word} -out NEW.pem` for a \
                 certificate (`pkey` for a key, `crl` for a list of revocations), `openssl pkcs12 -in {word} -nodes \
                 -out NEW.pem` for a PFX"
            ),
            Why::Utf16 => write!(
                f,
                "{path} is text in UTF-16, as Windows writes it: `iconv -f UTF-16 -t ASCII {word} > NEW.pem`"
            ),
            Why::Broken(line, what) => write!(f, "{path}:{line}: {what}"),
            Why::Missing(what) => write!(f, "{path} holds no {what}"),
            Why::Trusted(line) => write!(
                f,
                "{path}:{line}: the certificate is in a form of OpenSSL alone (BEGIN TRUSTED CERTIFICATE): `openssl x509 \
                 -in {word} -out NEW.pem`"
            ),
            Why::Encrypted(line) => write!(
                f,
                "{path}:{line}: the private key is encrypted, and nobody can be asked for its password: `openssl pkey \
                 -in {word} -out NEW.key`"
            ),
            Why::TwoKeys(line) => write!(f, "{path}:{line}: there is a second private key"),
        }
    }
}

impl std::error::Error for BadPem {}

/// The text of a PEM file.
pub struct Pem {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Pem {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BadPem`]
    pub fn read(path: &Path) -> Result<Self, BadPem> {
        let bad = |why| BadPem {
            path: path.to_owned(),
            why,
        };
        let bytes = named_file::read_pem(path);
        let bytes = bytes.map_err(|error| {
            let flaw = error.get_ref();
            bad(match flaw.and_then(|why| why.downcast_ref()) {
                Some(FlawedPem { line, what }) => Why::Broken(*line, what),
                None => Why::Unreadable(error),
            })
        })?;
        match &*bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Err(bad(Why::Utf16)),
            // A sequence of ASN.1.
            [0x30, 0x80..=0xff, ..] => return Err(bad(Why::Der)),
            _ => {}
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
        })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rights of the file, if it holds a private key and others than its owner and its group
    /// can read it, or others than its owner can change it. Its group may read it: that is how a
    /// server that does not run as root uses a key that belongs to root.
    #[allow(clippy::disallowed_methods, reason = "not on a shard")]
    pub fn exposes_key(&self) -> Option<u32> {
        self.line_of(|line| line.starts_with(b"-----BEGIN ") && ends_with_key(line))?;
        // What is no file, or cannot be looked at, was told of when it was read.
        let file = std::fs::metadata(&self.path).ok()?;
        (file.is_file() && file.mode() & 0o027 != 0).then(|| file.mode())
    }

    /// All certificates, at least one.
    ///
    /// # Errors
    /// [`BadPem`]
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, BadPem> {
        let trusted = self.line_of(|line| line == b"-----BEGIN TRUSTED CERTIFICATE-----");
        match trusted {
            Some(line) => Err(self.bad(Why::Trusted(line))),
            None => self.all("certificate (BEGIN CERTIFICATE)"),
        }
    }

    /// All lists of revocations, at least one.
    ///
    /// # Errors
    /// [`BadPem`]
    pub fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, BadPem> {
        self.all("list of revocations (BEGIN X509 CRL)")
    }

    /// The private key.
    ///
    /// # Errors
    /// [`BadPem`]
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, BadPem> {
        if let Some(line) = self.line_of(|line| {
            line.starts_with(b"-----BEGIN ENCRYPTED") || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
        }) {
            return Err(self.bad(Why::Encrypted(line)));
        }
        let mut keys = self.all::<PrivateKeyDer<'static>>("private key (BEGIN PRIVATE KEY)")?;
        if keys.len() > 1 {
            let mut seen = 0;
            let is_second = |line: &[u8]| {
                seen += usize::from(line.starts_with(b"-----BEGIN ") && ends_with_key(line));
                seen == 2
            };
            let line = self.line_of(is_second).unwrap_or(1);
            return Err(self.bad(Why::TwoKeys(line)));
        }
        Ok(keys.remove(0))
    }

    fn all<T: PemObject>(&self, what: &'static str) -> Result<Vec<T>, BadPem> {
        let mut found = Vec::new();
        for item in T::pem_slice_iter(&self.bytes) {
            found.push(item.map_err(|error| self.broken(&error))?);
        }
        match found.is_empty() {
            true => Err(self.bad(Why::Missing(what))),
            false => Ok(found),
        }
    }

    fn bad(&self, why: Why) -> BadPem {
        BadPem {
            path: self.path.clone(),
            why,
        }
    }

    fn broken(&self, error: &pem::Error) -> BadPem {
        let is_begin = |line: &[u8]| line.starts_with(b"-----BEGIN ");
        let (line, what) = match error {
            pem::Error::MissingSectionEnd { .. } => {
                let lines = self.lines().filter(|(_, line)| is_begin(line));
                (
                    lines.last().map(|(number, _)| number),
                    "what begins here has no END line",
                )
            }
            _ => (self.line_of_bad_base64(), "this is no base64"),
        };
        self.bad(Why::Broken(line.unwrap_or(1), what))
    }

    fn line_of_bad_base64(&self) -> Option<usize> {
        let mut begin = None;
        for (number, line) in self.lines() {
            if line.starts_with(b"-----BEGIN ") {
                begin = Some(number);
            } else if line.starts_with(b"-----END ") {
                begin = None;
            } else if begin.is_some() {
                let symbols = line.strip_suffix(b"=").unwrap_or(line);
                let symbols = symbols.strip_suffix(b"=").unwrap_or(symbols);
                let is_symbol = |b: &u8| b.is_ascii_alphanumeric() || b"+/".contains(b);
                if !symbols.iter().all(is_symbol) {
                    return Some(number);
                }
            }
        }
        begin
    }

    fn line_of(&self, mut is_it: impl FnMut(&[u8]) -> bool) -> Option<usize> {
        let mut lines = self.lines().filter(|(_, line)| is_it(line));
        lines.next().map(|(number, _)| number)
    }

    /// Lines with their numbers from 1, without white space at their ends.
    fn lines(&self) -> impl Iterator<Item = (usize, &[u8])> {
        pem_lines::lines(&self.bytes).map(|(at, line)| (at, line.trim_ascii()))
    }
}

fn ends_with_key(line: &[u8]) -> bool {
    line.ends_with(b"PRIVATE KEY-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(text: &str) -> Pem {
        Pem {
            path: PathBuf::from("f.pem"),
            bytes: text.as_bytes().to_vec(),
        }
    }

    const CERTIFICATE: &str =
        "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn what_stands_between_is_skipped() {
        let text = format!(
            "Bag Attributes\n  localKeyID: 01\n{KEY}subject=CN = x\n{CERTIFICATE}{CERTIFICATE}"
        );
        let pem = pem(&text);
        assert_eq!(pem.certificates().unwrap().len(), 2);
        assert_eq!(pem.key().unwrap().secret_der(), [0, 0, 0]);
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line() {
        let certificates = |text: &str| pem(text).certificates().unwrap_err().to_string();
        let key = |text: &str| pem(text).key().unwrap_err().to_string();
        let bad = format!("{CERTIFICATE}{}", CERTIFICATE.replace("BBBB", "B!BB"));
        assert_eq!(certificates(&bad), "f.pem:7: this is no base64");
        let bad = format!("{CERTIFICATE}{}", CERTIFICATE.replace("BBBB", "B=BB"));
        assert_eq!(certificates(&bad), "f.pem:7: this is no base64");
        let bad = &CERTIFICATE[..CERTIFICATE.len() - 10];
        assert_eq!(
            certificates(bad),
            "f.pem:1: what begins here has no END line"
        );
        assert!(certificates(KEY).contains("f.pem holds no certificate"));
        let trusted = CERTIFICATE.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        assert!(
            certificates(&trusted).starts_with("f.pem:1: the certificate is in a form of OpenSSL")
        );
        assert!(key(CERTIFICATE).contains("f.pem holds no private key"));
        assert!(key(&format!("{KEY}{KEY}")).contains("f.pem:4: there is a second"));
        let encrypted = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        assert!(key(&encrypted).contains("f.pem:1: the private key is encrypted"));
    }

    #[test]
    fn a_byte_order_mark_hides_nothing_wherever_files_were_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.pem");
        let marked = format!("\u{feff}{CERTIFICATE}\u{feff}{CERTIFICATE}\u{feff}{KEY}");
        std::fs::write(&path, marked).unwrap();
        let pem = Pem::read(&path).unwrap();
        assert_eq!(pem.certificates().unwrap().len(), 2);
        assert_eq!(pem.key().unwrap().secret_der(), [0, 0, 0]);
    }

    #[test]
    fn what_is_no_pem_at_all_is_told_with_the_command_that_makes_it_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for (bytes, says) in [
            (&[0x30, 0x82, 1, 2][..], "openssl x509 -inform DER"),
            (&[0xff, 0xfe, 0x2d, 0][..], "iconv"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = Pem::read(&path).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = Pem::read(folder.path()).err().unwrap().to_string();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
