//! What rustls and webpki have against a certificate, or a list of revocations, in words that say
//! what to do. They give names of their source instead, some with the bytes that they looked at.
//!
//! The words go on behind what is meant: "its certificate is not accepted: it has expired". Who
//! knows more than this, as which file the authorities are in, says that before it asks here.

use std::borrow::Cow;

use rustls::{CertRevocationListError, CertificateError, Error};

/// What is wrong, where it is a certificate or a list.
pub fn of(error: &Error) -> Cow<'static, str> {
    match error {
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::InvalidCertRevocationList(why) => format!(
            "the list of revocations for it cannot be used: {}",
            of_list(why)
        )
        .into(),
        other => other.to_string().into(),
    }
}

/// What is wrong with a certificate.
pub fn of_certificate(why: &CertificateError) -> Cow<'static, str> {
    use CertificateError as Why;
    let words = match why {
        Why::BadEncoding => "it cannot be read as a certificate: make it anew",
        Why::Expired | Why::ExpiredContext { .. } => "it has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "it is not valid yet",
        Why::Revoked => "it is revoked",
        Why::UnhandledCriticalExtension => CRITICAL,
        Why::UnknownIssuer => "its authority is not trusted here",
        Why::UnknownRevocationStatus => "an authority on its way has no list of revocations",
        Why::ExpiredRevocationList | Why::ExpiredRevocationListContext { .. } => {
            "the list of revocations for it has expired"
        }
        Why::BadSignature => {
            "it is not signed with the key of the authority that it names, or that is an RSA key of less than 2048 \
             bits, with which nobody is believed"
        }
        Why::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id,
            ..
        } => return signed_by(id),
        Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it, or an authority on its way, is signed with a key that is not taken: P-256, P-384, Ed25519, and RSA \
             of 2048 to 8192 bits are"
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => "it is for another name",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "it is not one for this purpose (extendedKeyUsage)"
        }
        Why::InvalidOcspResponse => "what came along of its revocation (OCSP) is wrong",
        Why::ApplicationVerificationFailure => "this machine does not accept it",
        // webpki's own, of which its `Display` is the name.
        Why::Other(other) => return of_webpki(&other.to_string()),
        #[allow(deprecated, reason = "webpki may still say no more")]
        Why::UnsupportedSignatureAlgorithm => return signed_by(&[]),
        _ => NAMELESS,
    };
    words.into()
}

const FOR_SOME_REASONS: &str = "it is for some reasons only: take the one for all of them";
const NAMELESS: &str = "it is refused for a reason without words here";
const CRITICAL: &str = "it has a critical extension that is not known here: have it made without that, or with it not critical";

/// What webpki says by a name of which rustls has none.
fn of_webpki(name: &str) -> Cow<'static, str> {
    let words = match name {
        "CaUsedAsEndEntity" => {
            "it is that of an authority (CA:TRUE), which may only sign: make one without that, or one that it signs"
        }
        "EndEntityUsedAsCa" => {
            "what has signed it is no authority (no CA:TRUE): sign it with one that is"
        }
        "UnsupportedCriticalExtension" => CRITICAL,
        "EmptyEkuExtension" => "its extendedKeyUsage names nothing: have it made with a purpose",
        "ExtensionValueInvalid" | "MalformedExtensions" | "InvalidSerialNumber" => {
            "its extensions or its serial number are not as RFC 5280 has them: have it made anew"
        }
        "MalformedDnsIdentifier" | "UnsupportedNameType" => {
            "a name in it is none of a host: have it made anew"
        }
        "InvalidNetworkMaskConstraint" | "MalformedNameConstraint" => {
            "an authority on its way limits names in a wrong form (nameConstraints)"
        }
        "NameConstraintViolation" => {
            "a name in it is none that an authority on its way may sign (nameConstraints): have another one sign it"
        }
        "PathLenConstraintViolated" => {
            "more authorities are on its way than one of them allows (pathlen): have one nearer to the root sign it"
        }
        "MaximumNameConstraintComparisonsExceeded"
        | "MaximumPathBuildCallsExceeded"
        | "MaximumPathDepthExceeded"
        | "MaximumSignatureChecksExceeded" => {
            "it takes too long to find its way to an authority: send only those that are on it, each behind what it \
             has signed"
        }
        "SignatureAlgorithmMismatch" => "it says in two ways how it is signed: have it made anew",
        "CertDistrusted" => "an authority on its way is not trusted any more",
        // webpki takes version 3 only.
        "UnsupportedCertVersion" => {
            "it is of X.509 version 1, which has no extensions: sign it with those that it needs, as \
             extendedKeyUsage and subjectAltName (`openssl x509 -req -extfile FILE`)"
        }
        name if name.contains("Crl") || name.contains("RevocationReason") => {
            "the list of revocations for it is of a kind that is not taken: it must be whole, for all reasons, and \
             of the authority itself"
        }
        name => return format!("it is refused for a reason without words here ({name})").into(),
    };
    words.into()
}

/// Of what is signed in a way that nobody believes any more. An identifier is an OID in DER, and
/// what follows it.
fn signed_by(id: &[u8]) -> Cow<'static, str> {
    const WEAK: [(&[u8], &str); 4] = [
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", " (SHA-1)"),
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x04\x01", " (SHA-1)"),
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", " (MD5)"),
        (b"\x06\x07\x2a\x86\x48\xce\x38\x04\x03", " (DSA with SHA-1)"),
    ];
    let known = WEAK.iter().find(|(oid, _)| id.starts_with(oid));
    let how = known.map_or("", |(_, how)| how);
    format!(
        "it, or an authority on its way, is signed in a way that is not taken{how}: sign it with SHA-256 or better \
         (`openssl x509 -req -sha256`)"
    )
    .into()
}

/// What is wrong with a list of revocations.
pub fn of_list(why: &CertRevocationListError) -> Cow<'static, str> {
    use CertRevocationListError as Why;
    let words = match why {
        Why::BadSignature => {
            "it is not signed with the key of its authority, or that is an RSA key of less than 2048 bits"
        }
        Why::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id,
            ..
        } => return signed_by(id),
        Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with a key that is not taken: P-256, P-384, Ed25519, and RSA of 2048 to 8192 bits are"
        }
        Why::InvalidCrlNumber => {
            "it has no number of at most 20 bytes (cRLNumber): `openssl ca -gencrl` gives it one"
        }
        Why::InvalidRevokedCertSerialNumber => "a serial number in it is wrong: make it anew",
        Why::IssuerInvalidForCrl => {
            "its authority may sign no lists: its certificate must have cRLSign among keyUsage"
        }
        Why::ParseError => "it cannot be read: make it anew, as `openssl ca -gencrl` does",
        Why::UnsupportedCrlVersion => {
            "it is of version 1, which has no extensions: make one of version 2 (`openssl ca -gencrl -crlexts`)"
        }
        Why::UnsupportedCriticalExtension => {
            "it has a critical extension that is not known here: have it made without that"
        }
        Why::UnsupportedDeltaCrl => "it holds only what has changed (delta): take the whole one",
        Why::UnsupportedIndirectCrl => {
            "it is of another than has signed the certificates (indirect): take that of the authority itself"
        }
        Why::UnsupportedRevocationReason => FOR_SOME_REASONS,
        Why::Other(other) => match other.to_string() {
            name if name.contains("IssuingDistributionPoint") => {
                "it is for some certificates only, those of users or those of authorities \
                 (issuingDistributionPoint): take the one for all of them"
            }
            name if name.contains("RevocationReasons") => FOR_SOME_REASONS,
            name => {
                return format!("it is refused for a reason without words here ({name})").into();
            }
        },
        #[allow(deprecated, reason = "webpki may still say no more")]
        Why::UnsupportedSignatureAlgorithm => return signed_by(&[]),
        _ => NAMELESS,
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::OtherError;

    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    impl std::fmt::Display for Named {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Named {}

    /// Every error that webpki 0.103 has and rustls passes on as another one, with a word of what
    /// is said of it.
    #[test]
    fn each_error_that_webpki_names_has_words() {
        for (name, says) in [
            ("CaUsedAsEndEntity", "CA:TRUE"),
            ("CertDistrusted", "not trusted any more"),
            ("EmptyEkuExtension", "extendedKeyUsage"),
            ("EndEntityUsedAsCa", "no authority"),
            ("ExtensionValueInvalid", "extensions"),
            ("InvalidCrlNumber", "list of revocations"),
            ("InvalidNetworkMaskConstraint", "nameConstraints"),
            ("InvalidSerialNumber", "serial number"),
            ("MalformedDnsIdentifier", "a name"),
            ("MalformedExtensions", "extensions"),
            ("MalformedNameConstraint", "nameConstraints"),
            ("MaximumNameConstraintComparisonsExceeded", "too long"),
            ("MaximumPathBuildCallsExceeded", "too long"),
            ("MaximumPathDepthExceeded", "too long"),
            ("MaximumSignatureChecksExceeded", "too long"),
            ("NameConstraintViolation", "nameConstraints"),
            ("PathLenConstraintViolated", "pathlen"),
            ("SignatureAlgorithmMismatch", "in two ways"),
            ("UnsupportedCertVersion", "version 1"),
            ("UnsupportedCriticalExtension", "critical extension"),
            (
                "UnsupportedCrlIssuingDistributionPoint",
                "list of revocations",
            ),
            ("UnsupportedCrlVersion", "list of revocations"),
            ("UnsupportedDeltaCrl", "list of revocations"),
            ("UnsupportedIndirectCrl", "list of revocations"),
            ("UnsupportedNameType", "a name"),
            ("UnsupportedRevocationReason", "list of revocations"),
            (
                "UnsupportedRevocationReasonsPartitioning",
                "list of revocations",
            ),
        ] {
            let other = OtherError(Arc::new(Named(name)));
            let words = of(&CertificateError::Other(other).into());
            assert!(words.contains(says), "{name}: {words}");
            assert!(!words.contains(name), "{words}");
        }
    }

    #[test]
    fn a_weak_signature_is_named_and_no_bytes_are_shown() {
        let id = b"\x06\x07\x2a\x86\x48\xce\x3d\x04\x01".to_vec();
        let why = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id.clone(),
            supported_algorithms: vec![rustls::pki_types::alg_id::ECDSA_P256],
        };
        let words = of_certificate(&why);
        assert!(words.contains("(SHA-1)") && words.len() < 200, "{words}");
        let why = CertRevocationListError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id,
            supported_algorithms: Vec::new(),
        };
        let words = of(&why.into());
        assert!(
            words.contains("list of revocations") && words.contains("(SHA-1)"),
            "{words}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        use CertRevocationListError as Why;
        for (why, says) in [
            (
                Why::BadSignature,
                "not signed with the key of its authority",
            ),
            (Why::IssuerInvalidForCrl, "cRLSign"),
            (Why::ParseError, "cannot be read"),
            (Why::UnsupportedDeltaCrl, "whole"),
            (Why::UnsupportedCrlVersion, "version 1"),
        ] {
            let words = of_list(&why);
            assert!(words.contains(says), "{words}");
            assert!(!words.contains(&format!("{why:?}")), "{words}");
        }
    }
}
