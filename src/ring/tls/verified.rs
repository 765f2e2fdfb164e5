//! Verifies client certificates by webpki, and remembers whose were refused: the error says only
//! why.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Characters of a subject in a line of the log.
pub const SUBJECT_CHARS_MAX: usize = 256;

thread_local! {
    /// The subject of the certificate that was refused last on this thread. It is the thread that
    /// works through the bytes of that client.
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Whose certificate was refused just now, on this thread.
pub fn take_refused() -> Option<String> {
    REFUSED.take()
}

/// The subject of a certificate, as it may stand in a log.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    let parsed = Certificate::from_der(certificate);
    let subject = parsed.map(|parsed| parsed.tbs_certificate().subject().to_string());
    let subject = subject.unwrap_or_else(|_| "what is no certificate".to_owned());
    subject.chars().take(SUBJECT_CHARS_MAX).collect()
}

/// A verifier whose refusals are remembered.
#[derive(Debug)]
pub struct Verified(Arc<dyn ClientCertVerifier>);

impl Verified {
    /// Remembers the refusals of this one.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(verifier)
    }
}

impl ClientCertVerifier for Verified {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = (self.0).verify_client_cert(end_entity, intermediates, now);
        REFUSED.set(verified.is_err().then(|| subject(end_entity)));
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.0).verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.0).verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
