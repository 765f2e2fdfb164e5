//! Why TLS cannot be spoken as the settings ask for, in words that say what to do.

use std::fmt;
use std::path::PathBuf;

use rustls::CertRevocationListError;

use super::doubt::{Doubt, days_in_words};
use super::pem::{BadPem, Pem};
use crate::config::Certificate;
use crate::shell;
use crate::tls_words;
use crate::wall_clock;

/// Why TLS cannot be spoken as the settings ask for.
#[derive(Debug)]
pub enum BadMaterial {
    /// The file that this key names is not what it should be.
    Pem(&'static str, BadPem),
    /// Others can read a private key, or change it.
    Exposed(PathBuf, u32),
    /// A certificate that cannot be understood.
    NotX509(PathBuf),
    /// A private key of a kind that is not known.
    UnknownKey(PathBuf),
    /// The key belongs to another certificate.
    Mismatch(Certificate),
    /// A certificate has expired.
    Expired(PathBuf, u64),
    /// A certificate is not valid before this time, in seconds since 1970; the one before it is.
    NotYet(PathBuf, u64),
    /// The authorities that vouch for clients cannot be used.
    BadAuthority(PathBuf, String),
    /// A list of revocations cannot be used.
    BadList(PathBuf, CertRevocationListError),
    /// No certificate of any client would count.
    NobodyVouches(Box<Doubt>),
    /// Something that has nothing to do with files.
    Rustls(rustls::Error),
}

impl BadMaterial {
    /// What is wrong with the file that a key of the settings names.
    pub fn of_file(key: &'static str) -> impl Fn(BadPem) -> Self {
        move |why| Self::Pem(key, why)
    }

    /// The file, unless it has a key that all accounts can read, which is no secret.
    pub fn unless_exposed(pem: Pem) -> Result<Pem, Self> {
        match pem.exposes_key() {
            Some(mode) => Err(Self::Exposed(pem.path().to_owned(), mode)),
            None => Ok(pem),
        }
    }
}

impl fmt::Display for BadMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(key, why) => write!(f, "{key}: {why}"),
            Self::Exposed(path, mode) => {
                let (path, word) = (path.display(), shell::word(path));
                let mend = match mode & 0o007 {
                    0 => "g-w",
                    _ => "g-w,o=",
                };
                write!(
                    f,
                    "the private key {path} is open to others than its owner and its group (mode {:04o}): \
                     `chmod {mend} {word}`",
                    mode & 0o777
                )
            }
            Self::NotX509(path) => {
                write!(
                    f,
                    "the certificate in {} cannot be understood: it has to be one of X.509 version 3 (of `openssl x509 \
                     -req`: with `-copy_extensions copy`)",
                    path.display()
                )
            }
            Self::UnknownKey(path) => write!(
                f,
                "the private key in {} is of no kind that can be used here: P-256, P-384, Ed25519, or RSA of 2048 to \
                 8192 bits",
                path.display()
            ),
            Self::Mismatch(pair) => write!(
                f,
                "the private key {} does not belong to the certificate {}: its own certificate must be the first one in \
                 that file",
                pair.key.display(),
                pair.chain.display()
            ),
            Self::Expired(path, day) => write!(
                f,
                "the certificate {} has expired {}: renew it, then start or reload",
                path.display(),
                days_in_words(*day, "ago")
            ),
            Self::NotYet(path, from_s) => write!(
                f,
                "the certificate {} is not valid before {}, and the one before it still is: reload then, or look at the \
                 clock of this machine",
                path.display(),
                wall_clock::to_the_second(*from_s)
            ),
            Self::BadAuthority(path, why) => {
                write!(
                    f,
                    "the authorities in {} cannot be used: {why}",
                    path.display()
                )
            }
            Self::BadList(path, why) => write!(
                f,
                "the revocations in {} cannot be used: {}",
                path.display(),
                tls_words::of_list(why)
            ),
            Self::NobodyVouches(why) => {
                write!(f, "no certificate of any client would count: {why}")
            }
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadMaterial {}
