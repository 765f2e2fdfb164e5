//! Which certificate a client is shown.
//!
//! First by the name that it asks for (SNI). If it asks for none, or for one that no certificate
//! has, the certificates with the names of the first pair are meant. Among these it gets the best
//! that it can use: ECDSA costs a seventh of RSA, and Windows 7, 8.1 and Server 2012 R2 have no
//! suite in common with us for RSA.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_cert::ext::pkix::name::GeneralName;

use crate::auth::alternative_names::{self, AlternativeName};

thread_local! {
    /// The name that was asked for last on this thread, which is the one that works through the
    /// bytes of that client. rustls does not keep it where we could read it.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The name that a client asked for just now, on this thread.
pub fn take_asked() -> Option<Box<str>> {
    ASKED.take()
}

/// Kinds of keys, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// Fast, and all clients can use it.
    Ecdsa,
    /// Fast; Windows cannot use it.
    Ed25519,
    /// Slow, and old clients of Windows cannot use it with us.
    Rsa,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

/// One certificate with its key.
#[derive(Debug)]
pub struct Pair {
    key: Arc<CertifiedKey>,
    /// By what tickets are bound to connections on which it was shown.
    pub end_point: Arc<[u8]>,
    /// SHA-256 of the whole chain.
    pub digest: [u8; 32],
    /// What kind of key it has.
    pub kind: KeyKind,
    /// The names and addresses in it.
    pub names: BTreeSet<String>,
    /// Whether it may be used by servers (RFC 5280 4.2.1.12). If it says nothing of that, it may.
    pub is_for_servers: bool,
    /// From when, and until when, it is valid: seconds since 1970.
    pub valid_s: (u64, u64),
}

/// A certificate cannot be understood.
#[derive(Debug)]
pub struct NotX509;

impl Pair {
    /// Takes a certificate (the first of the chain) and its key.
    ///
    /// # Errors
    /// [`NotX509`]
    pub fn new(key: CertifiedKey) -> Result<Self, NotX509> {
        let kind = match key.key.algorithm() {
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            SignatureAlgorithm::ECDSA => KeyKind::Ecdsa,
            _ => KeyKind::Ed25519,
        };
        let own = key.cert.first().ok_or(NotX509)?;
        let certificate = Certificate::from_der(own).map_err(|_| NotX509)?;
        let content = certificate.tbs_certificate();
        let validity = content.validity();
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        let names = alternative_names::of(&certificate).unwrap_or_default();
        let names = names.iter().filter_map(name).collect();
        let is_for_servers = match content.get_extension::<ExtendedKeyUsage>() {
            Ok(Some((_, usages))) => {
                (usages.0.iter()).any(|usage| [SERVERS, ANY_USAGE].contains(usage))
            }
            _ => true,
        };
        let mut digest = Sha256::new();
        key.cert
            .iter()
            .for_each(|certificate| digest.update(certificate));
        Ok(Self {
            kind,
            names,
            is_for_servers,
            digest: digest.finalize().into(),
            end_point: end_point(own, &certificate).into(),
            valid_s: (seconds(validity.not_before), seconds(validity.not_after)),
            key: Arc::new(key),
        })
    }

    fn own(&self) -> Option<&CertificateDer<'static>> {
        self.key.cert.first()
    }

    fn is_called(&self, name: &ServerName<'_>) -> bool {
        let parsed = self
            .own()
            .and_then(|own| ParsedCertificate::try_from(own).ok());
        parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }

    /// Whether a client has a signature and a suite for it. Suites of TLS 1.3 go with any key.
    fn suits(&self, hello: &ClientHello<'_>) -> bool {
        let has_suite = |suite: &CipherSuite| match self.kind {
            KeyKind::Ecdsa | KeyKind::Ed25519 => is_tls13(*suite) || ECDSA_SUITES.contains(suite),
            KeyKind::Rsa => is_tls13(*suite) || RSA_SUITES.contains(suite),
        };
        (self.key.key)
            .choose_scheme(hello.signature_schemes())
            .is_some()
            && hello.cipher_suites().iter().any(has_suite)
    }
}

/// The prefix and the digest of the certificate by the hash that it is signed with, but never a
/// weaker one than SHA-256 (RFC 5929 4.1).
fn end_point(der: &[u8], certificate: &Certificate) -> Vec<u8> {
    let algorithm = certificate.signature_algorithm();
    // Of RSASSA-PSS the hash stands among the parameters.
    let parameters = (algorithm.parameters.as_ref()).map_or(&[][..], |any| any.value());
    let names = |hash: &[u8]| memchr::memmem::find(parameters, hash).is_some();
    let digest = match algorithm.oid {
        ECDSA_SHA384 | RSA_SHA384 => Sha384::digest(der).to_vec(),
        ECDSA_SHA512 | RSA_SHA512 => Sha512::digest(der).to_vec(),
        RSA_PSS if names(SHA384.as_bytes()) => Sha384::digest(der).to_vec(),
        RSA_PSS if names(SHA512.as_bytes()) => Sha512::digest(der).to_vec(),
        _ => Sha256::digest(der).to_vec(),
    };
    [b"tls-server-end-point:", &digest[..]].concat()
}

const SERVERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

fn name(name: &AlternativeName) -> Option<String> {
    let AlternativeName::Read(name) = name else {
        return None;
    };
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(address) => match address.as_bytes() {
            bytes @ [_, _, _, _] => <[u8; 4]>::try_from(bytes)
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            bytes => <[u8; 16]>::try_from(bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// Those of RFC 8446 B.4 begin with 0x13.
fn is_tls13(suite: CipherSuite) -> bool {
    u16::from(suite) >> 8 == 0x13
}

const ECDSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const RSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

thread_local! {
    /// Of the certificate that was chosen last on this thread, which is the one that works through
    /// the bytes of its client. rustls does not say which it was.
    static SHOWN: RefCell<Option<(Arc<[u8]>, KeyKind)>> = const { RefCell::new(None) };
}

/// By what tickets are bound to the connection whose certificate was chosen just now, on this
/// thread, and the kind of its key.
pub fn take_shown() -> Option<(Arc<[u8]>, KeyKind)> {
    SHOWN.take()
}

/// All certificates, in the order of the settings; never empty.
#[derive(Debug)]
pub struct Served(pub Vec<Pair>);

impl Served {
    /// Those that may be shown to a client that asks for this name.
    fn for_name(&self, name: Option<&str>) -> Vec<&Pair> {
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let called = name.map(|name| {
            let called = self.0.iter().filter(|pair| pair.is_called(&name));
            called.collect::<Vec<_>>()
        });
        match called {
            Some(called) if !called.is_empty() => called,
            _ => {
                let first = self.0.first().map(|pair| &pair.names);
                let alike = self.0.iter().filter(|pair| Some(&pair.names) == first);
                alike.collect()
            }
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        ASKED.replace(hello.server_name().map(Box::from));
        let mut known = self.for_name(hello.server_name());
        known.sort_by_key(|pair| pair.kind);
        let suits = known.iter().find(|pair| pair.suits(&hello));
        // None suits: whichever it is shown, rustls says what is missing.
        let shown = suits.or(known.first())?;
        SHOWN.set(Some((Arc::clone(&shown.end_point), shown.kind)));
        Some(Arc::clone(&shown.key))
    }
}
