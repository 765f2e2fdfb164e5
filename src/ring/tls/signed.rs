//! What is signed in X.509: certificates and lists of revocations have one form (RFC 5280 4.1,
//! 5.1).

use rustls::crypto::CryptoProvider;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, BitString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// Something that is signed.
pub struct SignedX509<'a> {
    /// What is signed.
    pub content: &'a [u8],
    /// How, as DER.
    algorithm: &'a [u8],
    signature: BitString,
}

impl<'a> SignedX509<'a> {
    /// None if it cannot be understood.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let parts = reader.sequence::<_, _, x509_cert::der::Error>(|parts| {
            Ok((
                parts.tlv_bytes()?,
                parts.tlv_bytes()?,
                BitString::decode(parts)?,
            ))
        });
        let (content, algorithm, signature) = parts.ok()?;
        Some(Self {
            content,
            algorithm,
            signature,
        })
    }

    /// Whether it is signed with a key, by any way that is taken.
    pub fn is_by(&self, key: &[u8], provider: &CryptoProvider) -> bool {
        let ways = provider.signature_verification_algorithms.all;
        let signature = self.signature.raw_bytes();
        ways.iter()
            .any(|way| way.verify_signature(key, self.content, signature).is_ok())
    }

    /// Whether an RSA key has signed it.
    pub fn is_by_rsa(&self) -> bool {
        let how = AlgorithmIdentifierOwned::from_der(self.algorithm);
        how.is_ok_and(|how| how.oid.parent() == Some(PKCS_1))
    }

    /// Whether it may be signed with the key of a certificate: of what is signed in a way that is
    /// not taken here, nobody knows.
    pub fn may_be_by(&self, signer: &Certificate, provider: &CryptoProvider) -> bool {
        let key = signer.tbs_certificate().subject_public_key_info();
        let of_key = key.algorithm.to_der().unwrap_or_default();
        // As rustls has them: without the frame around.
        let unframed = |der| AnyRef::from_der(der).map(|any: AnyRef<'_>| any.value().to_vec());
        let (Ok(how), Ok(of_key)) = (unframed(self.algorithm), unframed(&of_key)) else {
            return true;
        };
        let ways = provider.signature_verification_algorithms.all;
        let is_taken = ways
            .iter()
            .any(|way| *way.signature_alg_id() == *how && *way.public_key_alg_id() == *of_key);
        !is_taken || self.is_by(key.subject_public_key.raw_bytes(), provider)
    }
}

/// Below it stands whatever RSA signs by (RFC 8017 C).
const PKCS_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1");
