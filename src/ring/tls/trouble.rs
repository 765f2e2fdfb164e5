//! Why TLS with a client failed, in words for the log: the cause and the remedy.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::pace::TooMany;
use super::served::KeyKind;
use super::verified::{self, OwnKey, Unbelieved};
use crate::reasoned::Reasoned;
use crate::tls_words;

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
    /// Nothing suits both the client and the certificate that it would be shown.
    NothingSuits(Unsuited, KeyKind),
    /// What rustls says of a client's certificate, and whose that is.
    Certificate(Box<Error>, Unbelieved),
}

/// What does not suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsuited {
    /// Cipher suites, which are of ECDSA or of RSA up to TLS 1.2.
    Suites,
    /// Signatures.
    Signatures,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let is_of_certificate = matches!(
            error,
            Error::InvalidCertificate(_)
                | Error::InvalidCertRevocationList(_)
                | Error::PeerMisbehaved(_)
        );
        match verified::take_refused() {
            Some(whose) if is_of_certificate => Self::Certificate(Box::new(error), whose),
            _ => Self::Tls(Box::new(error)),
        }
    }
}

impl Trouble {
    /// The same of a client for which this certificate was chosen, if one was.
    pub fn of_handshake(error: Error, chosen: Option<(Arc<[u8]>, KeyKind)>) -> Self {
        let unsuited = match error {
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => Unsuited::Suites,
            Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
                Unsuited::Signatures
            }
            _ => return Self::from(error),
        };
        match chosen {
            Some((_, kind)) => Self::NothingSuits(unsuited, kind),
            None => Self::from(error),
        }
    }

    /// The trouble behind an error that a wire gave.
    pub fn of(error: &io::Error) -> Option<&Self> {
        Reasoned::cause_of(error)
    }

    /// What it has in common with others, whoever they are of.
    fn reason(&self) -> &'static str {
        match self {
            Self::PlainHttp => "it speaks HTTP without TLS",
            Self::NotTls => "what it sent is no TLS",
            Self::LeftEarly => "it closed before both sides had agreed",
            Self::Oversized => "it sent more than any message of TLS has",
            Self::TooMany(TooMany::OfAll) => "more handshakes wait than may",
            Self::TooMany(TooMany::OfClient) => "more handshakes of one client wait than may",
            Self::Closed => "the connection has ended",
            Self::Tls(error) => reason_of(error),
            Self::NothingSuits(Unsuited::Suites, _) => "there is no cipher suite in common",
            Self::NothingSuits(Unsuited::Signatures, _) => "there is no signature in common",
            Self::Certificate(_, whose) => match whose.own {
                Some(_) => "it has not proven its certificate",
                None => "its certificate is not accepted",
            },
        }
    }
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        let kind = match trouble {
            Trouble::TooMany(_) => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Reasoned::error(kind, trouble.reason(), trouble)
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
            Self::NothingSuits(what, kind) => of_unsuited(*what, *kind, f),
            Self::Certificate(error, whose) => {
                match whose.own {
                    Some(key) => f.write_str(&of_own_key(key))?,
                    None => of_certificate(error, whose.is_by_rsa, f)?,
                }
                write!(f, " (subject {:?})", whose.subject)
            }
        }
    }
}

/// Where there is an ECDSA certificate, that is the one that is chosen if none suits.
fn of_unsuited(what: Unsuited, kind: KeyKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (what, kind) {
        (Unsuited::Suites, KeyKind::Ecdsa) => f.write_str(
            "there is no cipher suite in common: it offers none with ECDHE and AES-GCM or ChaCha20 that goes with a \
             certificate of ours, so switch one on in it, or update it (docs/tls.md)",
        ),
        (Unsuited::Suites, _) => f.write_str(
            "there is no cipher suite in common: Windows 7, 8.1 and Server 2012 R2 have one only with an ECDSA \
             certificate (docs/tls.md)",
        ),
        (Unsuited::Signatures, kind) => write!(
            f,
            "it takes no signature that our {kind} certificate can make (with SHA-256 at least): update it, or put a \
             certificate of another kind beside that (docs/tls.md)"
        ),
    }
}

fn of_own_key(key: OwnKey) -> String {
    match key.rsa_bits {
        Some(bits) if bits < RSA_BITS_MIN => format!(
            "its certificate is not accepted: its RSA key has {bits} bits, and {RSA_BITS_MIN} are the least: make one \
             with a longer key, or with P-256"
        ),
        _ => "it has not proven that its certificate is its own: what it has signed was signed with another key than \
             that of the certificate, or in a way that is not taken here"
            .to_owned(),
    }
}

/// Shorter ones prove nothing to ring.
const RSA_BITS_MIN: usize = 2048;

fn reason_of(error: &Error) -> &'static str {
    use AlertDescription as Alert;
    use PeerIncompatible as Why;
    match error {
        Error::PeerIncompatible(
            Why::Tls12NotOffered
            | Why::Tls12NotOfferedOrEnabled
            | Why::Tls13RequiredForQuic
            | Why::SupportedVersionsExtensionRequired,
        ) => "it offers no version of TLS that is enabled here",
        Error::PeerIncompatible(Why::NoKxGroupsInCommon | Why::NamedGroupsExtensionRequired) => {
            "it offers no exchange of keys that is taken here"
        }
        Error::PeerIncompatible(_) => "it lacks something of TLS",
        Error::AlertReceived(Alert::UnknownCA) => {
            "it does not know the authority of our certificate"
        }
        Error::AlertReceived(
            Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired,
        ) => "it does not accept our certificate",
        Error::AlertReceived(_) => "it gave up with an alert",
        Error::NoCertificatesPresented => "it sent no certificate",
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            "its certificate is not accepted"
        }
        Error::NoApplicationProtocol => "it speaks no HTTP/1.1",
        _ => "what it sent is against the rules of TLS",
    }
}

fn in_words(error: &Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use AlertDescription as Alert;
    match error {
        Error::PeerIncompatible(why) => of_peer(why, f),
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
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            of_certificate(error, false, f)
        }
        Error::NoApplicationProtocol => f.write_str("it speaks no HTTP/1.1 (ALPN)"),
        other => write!(f, "{other}"),
    }
}

/// What a client lacks.
fn of_peer(why: &PeerIncompatible, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use PeerIncompatible as Why;
    f.write_str(match why {
        Why::Tls12NotOffered
        | Why::Tls12NotOfferedOrEnabled
        | Why::Tls13RequiredForQuic
        | Why::SupportedVersionsExtensionRequired => {
            "it offers no version of TLS that is enabled here (1.2 at least; tls_version_min says)"
        }
        Why::NoCipherSuitesInCommon | Why::NoSignatureSchemesInCommon => {
            "there is no cipher suite, or no signature, in common (docs/tls.md)"
        }
        Why::NoKxGroupsInCommon | Why::NamedGroupsExtensionRequired => {
            "it offers no exchange of keys that is taken here, which is ECDHE with X25519, P-256 or P-384: switch one of \
             them on in it, or update it"
        }
        Why::SignatureAlgorithmsExtensionRequired => {
            "it names no signatures that it takes (signature_algorithms), and so means SHA-1, with which nobody here \
             signs: update it"
        }
        Why::KeyShareExtensionRequired => {
            "it speaks TLS 1.3 and sends no key for it (key_share): update it, or set it to TLS 1.2"
        }
        Why::NullCompressionRequired => "it insists on compression, which does not exist here",
        Why::NoEcPointFormatsInCommon
        | Why::EcPointsExtensionRequired
        | Why::UncompressedEcPointsRequired => {
            "it takes no uncompressed points of curves, and there are no others here: update it"
        }
        Why::IncorrectCertificateTypeExtension | Why::UnsolicitedCertificateTypeExtension => {
            "it asks for something else than X.509 certificates, which are all that there is here"
        }
        other => return write!(f, "it lacks something of TLS ({other:?}): update it"),
    })
}

/// What is wrong with the certificate of a client, or the list of revocations for it.
fn of_certificate(error: &Error, is_by_rsa: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use CertificateError as Why;
    f.write_str("its certificate is not accepted: ")?;
    let Error::InvalidCertificate(why) = error else {
        return f.write_str(&tls_words::of(error));
    };
    f.write_str(match why {
        Why::UnknownIssuer => "its authority is none of those in client_ca",
        // Of another authority with the name of one of them.
        Why::BadSignature if !is_by_rsa => {
            "its authority has the name of one in client_ca and another key: it is none of those in client_ca"
        }
        Why::BadSignature => {
            "its authority has an RSA key of less than 2048 bits, with which nobody is believed, or is none of those in \
             client_ca"
        }
        Why::UnknownRevocationStatus => {
            "an authority on its way has no list of revocations in client_crl: append that of each, also of those \
             whose certificates the client sends along"
        }
        Why::ExpiredRevocationList | Why::ExpiredRevocationListContext { .. } => {
            "the list of revocations for it has expired: put the newest one into client_crl, then `systemctl reload \
             bitsd`"
        }
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "it is not one for clients (no clientAuth in its extendedKeyUsage)"
        }
        other => return f.write_str(&tls_words::of_certificate(other)),
    })
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

    /// Goal: the log limits lines by a reason that no client can vary.
    #[test]
    fn a_reason_has_nothing_of_the_client() {
        let by = |subject: &str, why| {
            let whose = Unbelieved {
                subject: subject.to_owned(),
                own: None,
                is_by_rsa: false,
            };
            let error = Error::InvalidCertificate(why);
            io::Error::from(Trouble::Certificate(Box::new(error), whose))
        };
        let one = by("CN=one", CertificateError::Expired);
        let other = by("CN=other", CertificateError::Expired);
        assert_ne!(one.to_string(), other.to_string());
        assert_eq!(Reasoned::reason_of(&one), Reasoned::reason_of(&other));
        let early = io::Error::from(Trouble::LeftEarly);
        assert_ne!(Reasoned::reason_of(&one), Reasoned::reason_of(&early));
        assert!(matches!(Trouble::of(&early), Some(Trouble::LeftEarly)));
    }

    #[test]
    fn the_want_of_suites_is_told_by_the_certificate_that_there_is() {
        let says = |error: PeerIncompatible, kind| {
            let chosen = Some((Arc::from(&[][..]), kind));
            Trouble::of_handshake(error.into(), chosen).to_string()
        };
        let suites = || PeerIncompatible::NoCipherSuitesInCommon;
        assert!(says(suites(), KeyKind::Rsa).contains("only with an ECDSA certificate"));
        let with_ecdsa = says(suites(), KeyKind::Ecdsa);
        assert!(
            with_ecdsa.contains("no cipher suite in common"),
            "{with_ecdsa}"
        );
        assert!(!with_ecdsa.contains("only with"), "{with_ecdsa}");
        let signatures = PeerIncompatible::NoSignatureSchemesInCommon;
        assert!(says(signatures, KeyKind::Ecdsa).contains("no signature that our ECDSA"));
        let curves = says(PeerIncompatible::NoKxGroupsInCommon, KeyKind::Ecdsa);
        assert!(curves.contains("no exchange of keys"), "{curves}");
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
