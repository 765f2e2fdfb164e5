//! Why TLS with a client failed, in words for the log: the cause and the remedy.

use std::fmt;
use std::io;

use super::pace::TooMany;
use super::verified;
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why a connection ended, or never began.
#[derive(Debug)]
pub enum Trouble {
    /// Somebody speaks HTTP without TLS.
    PlainHttp,
    /// The first bytes are no TLS.
    NotTls,
    /// The peer closed before the handshake was over.
    LeftEarly,
    /// The peer sent more than any message of TLS has.
    Oversized,
    /// More begin than may.
    TooMany(TooMany),
    /// Nothing can be sent any more.
    Closed,
    /// What rustls says.
    Tls(Box<Error>),
    /// What rustls says of a client's certificate, and whose that is.
    Certificate(Box<Error>, String),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match (&error, verified::take_refused()) {
            (Error::InvalidCertificate(_), Some(subject)) => {
                Self::Certificate(Box::new(error), subject)
            }
            _ => Self::Tls(Box::new(error)),
        }
    }
}

impl Trouble {
    /// The trouble behind an error that a wire gave.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        let kind = match trouble {
            Trouble::TooMany(_) => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, trouble)
    }
}

impl std::error::Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainHttp => f.write_str(
                "it speaks HTTP without TLS here: its URL must begin with https:// (it heard so)",
            ),
            Self::NotTls => f.write_str("what it sent is no TLS"),
            Self::LeftEarly => f.write_str("it closed before both sides had agreed"),
            Self::Oversized => f.write_str("it sent more than any message of TLS has"),
            Self::TooMany(TooMany::OfAll) => f.write_str(
                "more handshakes wait than begin in two seconds (limits.handshakes_per_second_max)",
            ),
            Self::TooMany(TooMany::OfClient) => f.write_str(
                "a quarter of the handshakes that may wait are this client's, and the rest is for others \
                 (limits.handshakes_per_second_max)",
            ),
            Self::Closed => f.write_str("the connection has ended"),
            Self::Tls(error) => in_words(error, f),
            Self::Certificate(error, subject) => {
                in_words(error, f)?;
                write!(f, " (subject {subject:?})")
            }
        }
    }
}

fn in_words(error: &Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use AlertDescription as Alert;
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::NoCipherSuitesInCommon
            | PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon,
        ) => write!(
            f,
            "there is no cipher suite in common: Windows 7, 8.1 and Server 2012 R2 have one only with an ECDSA \
             certificate (docs/tls.md)"
        ),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => f.write_str(
            "it offers no version of TLS that is enabled here (1.2 at least; tls_version_min says)",
        ),
        Error::AlertReceived(Alert::UnknownCA) => f.write_str(
            "it does not know the authority of our certificate: install that in its machine store, or send the whole \
             chain",
        ),
        Error::AlertReceived(Alert::BadCertificate | Alert::CertificateUnknown) => {
            f.write_str("it does not accept our certificate (name, date, or authority)")
        }
        Error::AlertReceived(Alert::CertificateExpired) => {
            f.write_str("for it our certificate has expired (or its clock is wrong)")
        }
        Error::AlertReceived(alert) => write!(f, "it gave up with the alert {alert:?}"),
        Error::NoCertificatesPresented => {
            f.write_str("it sent no certificate, and this listener asks for one (client_ca)")
        }
        Error::InvalidCertificate(why) => {
            f.write_str("its certificate is not accepted: ")?;
            match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    f.write_str("it has expired")
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    f.write_str("it is not valid yet")
                }
                CertificateError::Revoked => f.write_str("it is revoked"),
                // The second: of another authority with the name of one of them.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    f.write_str("its authority is none of those in client_ca")
                }
                CertificateError::UnknownRevocationStatus => f.write_str(
                    "an authority on its way has no list of revocations in client_crl: append that of each, also of those \
                     whose certificates the client sends along",
                ),
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => f.write_str(
                    "the list of revocations for it has expired: put the newest one into client_crl, then `systemctl reload \
                     bitsd`",
                ),
                CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. } => f.write_str(
                    "it is not one for clients (no clientAuth in its extendedKeyUsage)",
                ),
                // The crate has no name for it.
                other if format!("{other:?}").contains("UnsupportedCertVersion") => f.write_str(
                    "it is of X.509 version 1, which has no extensions: sign it with an extension, as \
                     extendedKeyUsage = clientAuth (`openssl x509 -req -extfile FILE`)",
                ),
                other => write!(f, "{other}"),
            }
        }
        Error::NoApplicationProtocol => {
            f.write_str("it speaks no HTTP/1.1 (ALPN)")
        }
        other => write!(f, "{other}"),
    }
}

/// What the first bytes on a port that speaks TLS are, if they are no TLS: a record of a handshake
/// begins with 22.
pub fn of_first_bytes(bytes: &[u8]) -> Option<Trouble> {
    const HANDSHAKE: u8 = 22;
    match bytes {
        [] | [HANDSHAKE, ..] => None,
        _ if begins_with_method(bytes) => Some(Trouble::PlainHttp),
        _ => Some(Trouble::NotTls),
    }
}

/// A method of HTTP, or the beginning of one: those in use consist of capital letters.
fn begins_with_method(bytes: &[u8]) -> bool {
    let word = bytes.split(|b| *b == b' ').next().unwrap_or_default();
    let is_of_method = |b: &u8| b.is_ascii_uppercase() || *b == b'_';
    word.len() <= METHOD_BYTES_MAX && word.iter().all(is_of_method)
}

/// Longer than any that is registered.
const METHOD_BYTES_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_lists_of_revocations_is_said_in_words() {
        use rustls::{CertificateError, Error};
        for (why, says) in [
            (
                CertificateError::UnknownRevocationStatus,
                "an authority on its way has no list of revocations in client_crl",
            ),
            (
                CertificateError::ExpiredRevocationList,
                "the list of revocations for it has expired",
            ),
            (
                CertificateError::InvalidPurpose,
                "it is not one for clients",
            ),
        ] {
            let text = Trouble::from(Error::InvalidCertificate(why)).to_string();
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn the_first_byte_tells_what_it_is() {
        assert!(of_first_bytes(b"").is_none());
        assert!(of_first_bytes(&[22, 3, 1]).is_none());
        let http = of_first_bytes(b"BITS_POST /a HTTP/1.1");
        assert!(matches!(http, Some(Trouble::PlainHttp)));
        for other in [
            &b"\x80\x2e\x01"[..],
            &[21],
            b"ssh",
            b"SSH-2.0-x",
            &[b'A'; 99],
        ] {
            assert!(matches!(of_first_bytes(other), Some(Trouble::NotTls)));
        }
    }
}
