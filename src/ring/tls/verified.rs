//! Verifies client certificates by webpki, and remembers whose were refused: the error says only
//! why.

use std::cell::RefCell;
use std::iter;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};

use super::signed::SignedX509;

/// Characters of a subject in a line of the log.
pub const SUBJECT_CHARS_MAX: usize = 256;

/// Whose certificate was refused.
#[derive(Clone, Debug)]
pub struct Unbelieved {
    /// Its subject.
    pub subject: String,
    /// The certificate is good, but what the client has signed with its key is not.
    pub own: Option<OwnKey>,
    /// It, or one on its way, is signed with an RSA key.
    pub is_by_rsa: bool,
}

/// A key by which a client could not prove that a certificate is its own.
#[derive(Clone, Copy, Debug)]
pub struct OwnKey {
    /// Its length, if it is one of RSA.
    pub rsa_bits: Option<usize>,
}

thread_local! {
    /// The certificate that was refused last on this thread. It is the thread that works through
    /// the bytes of that client.
    static REFUSED: RefCell<Option<Unbelieved>> = const { RefCell::new(None) };
}

/// Whose certificate was refused just now, on this thread.
pub fn take_refused() -> Option<Unbelieved> {
    REFUSED.take()
}

/// The bits of an RSA key.
fn rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let key = parsed.tbs_certificate().subject_public_key_info();
    if key.algorithm.oid != RSA {
        return None;
    }
    let mut reader = SliceReader::new(key.subject_public_key.raw_bytes()).ok()?;
    let modulus = reader.sequence::<_, _, x509_cert::der::Error>(|key| {
        let modulus = UintRef::decode(key)?.as_bytes().len();
        UintRef::decode(key)?;
        Ok(modulus)
    });
    Some(modulus.ok()? * 8)
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

fn is_by_rsa(certificate: &CertificateDer<'_>) -> bool {
    SignedX509::read(certificate).is_some_and(|signed| signed.is_by_rsa())
}

/// The subject of a certificate, as it may stand in a log.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let parsed = Certificate::from_der(certificate);
    let subject = parsed.map(|parsed| parsed.tbs_certificate().subject().to_string());
    let subject = subject.unwrap_or_else(|_| "what is no certificate".to_owned());
    subject.chars().take(SUBJECT_CHARS_MAX).collect()
}

/// Remembers of whom a signature was refused.
fn remember(
    verified: Result<HandshakeSignatureValid, Error>,
    certificate: &CertificateDer<'_>,
) -> Result<HandshakeSignatureValid, Error> {
    REFUSED.set(verified.is_err().then(|| Unbelieved {
        subject: subject(certificate),
        own: Some(OwnKey {
            rsa_bits: rsa_bits(certificate),
        }),
        is_by_rsa: is_by_rsa(certificate),
    }));
    verified
}

/// A verifier whose refusals are remembered.
#[derive(Debug)]
pub struct Verified {
    /// It knows all authorities.
    all: Arc<dyn ClientCertVerifier>,
    /// Of authorities that have to be looked at apart: whom one of them lets in, comes in.
    apart: Vec<Arc<dyn ClientCertVerifier>>,
}

impl Verified {
    /// Remembers the refusals of the one that knows all authorities, or of those that know some
    /// each, if there are any.
    pub fn new(all: Arc<dyn ClientCertVerifier>, apart: Vec<Arc<dyn ClientCertVerifier>>) -> Self {
        Self { all, apart }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut why = None;
        for one in &self.apart {
            match one.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok(verified),
                // The authority that has signed it knows best.
                Err(error) if why.as_ref().is_none_or(is_of_another) => why = Some(error),
                Err(_) => {}
            }
        }
        match why {
            Some(error) => Err(error),
            None => (self.all).verify_client_cert(end_entity, intermediates, now),
        }
    }
}

/// Whether it says no more than that another authority has signed the certificate.
fn is_of_another(error: &Error) -> bool {
    use CertificateError::{BadSignature, UnknownIssuer};
    matches!(
        error,
        Error::InvalidCertificate(BadSignature | UnknownIssuer)
    )
}

impl ClientCertVerifier for Verified {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.all.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, now);
        REFUSED.set(verified.is_err().then(|| Unbelieved {
            subject: subject(end_entity),
            own: None,
            is_by_rsa: iter::once(end_entity).chain(intermediates).any(is_by_rsa),
        }));
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = (self.all).verify_tls12_signature(message, certificate, signature);
        remember(verified, certificate)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = (self.all).verify_tls13_signature(message, certificate, signature);
        remember(verified, certificate)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.all.supported_verify_schemes()
    }
}
