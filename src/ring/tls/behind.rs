//! What stands behind the first certificate of a chain: the authorities on the way to one that
//! clients trust. They look for them there (RFC 8446 4.4.2).

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::doubt::{Age, OfChain};
use super::signed::SignedX509;
use super::trust::{seconds, words};

/// What stands behind the first certificate.
#[derive(Clone, Debug)]
pub struct Behind {
    /// Who has signed the first one.
    issuer: String,
    /// Whether any stand there.
    pub is_any: bool,
    /// Whether the first one is not signed by itself.
    is_signed_by_other: bool,
    /// Those on the way from the first one, as far as they are there.
    pub way: Vec<OnTheWay>,
}

/// One certificate on the way.
#[derive(Clone, Debug)]
pub struct OnTheWay {
    /// Its name.
    subject: String,
    /// From when it is valid, in seconds since 1970.
    pub not_before_s: u64,
    /// When it expires, in seconds since 1970.
    pub not_after_s: u64,
}

impl Behind {
    /// None if the first one cannot be understood.
    pub fn read(chain: &[CertificateDer<'_>], provider: &CryptoProvider) -> Option<Self> {
        let (first, others) = chain.split_first()?;
        let own = Certificate::from_der(first).ok()?;
        let content = own.tbs_certificate();
        let (issuer, is_signed_by_other) = (
            words(content.issuer()),
            content.issuer() != content.subject(),
        );
        let others = others.iter().filter(|other| *other != first);
        let others = others.filter_map(|der| Some((der, Certificate::from_der(der).ok()?)));
        let mut left: Vec<_> = others.collect();
        let is_any = !left.is_empty();
        let mut way = Vec::new();
        let mut signed = vec![(first, own)];
        while let Some((der, certificate)) = signed.pop() {
            let Some(one) = SignedX509::read(der) else {
                continue;
            };
            let issuer = certificate.tbs_certificate().issuer();
            let has_signed = |(_, other): &mut (&CertificateDer<'_>, Certificate)| {
                other.tbs_certificate().subject() == issuer && one.may_be_by(other, provider)
            };
            let found: Vec<_> = left.extract_if(.., has_signed).collect();
            way.extend(found.iter().map(|(_, found)| OnTheWay::of(found)));
            signed.extend(found);
        }
        Some(Self {
            issuer,
            is_any,
            is_signed_by_other,
            way,
        })
    }

    /// Whether the first one stands alone, and cannot vouch for itself.
    pub fn is_alone(&self) -> bool {
        self.is_signed_by_other && !self.is_any
    }

    /// What an administrator should know; it is shortened if others stood there before.
    pub fn doubts(&self, is_shortened: bool, now_s: u64) -> Vec<OfChain> {
        let mut doubts = Vec::new();
        if is_shortened {
            doubts.push(OfChain::Shortened(self.issuer.clone()));
        }
        if self.is_signed_by_other && self.is_any && self.way.is_empty() {
            doubts.push(OfChain::Broken(self.issuer.clone()));
        }
        doubts.extend(self.way.iter().filter_map(|one| {
            let age = Age::of(one.not_before_s, one.not_after_s, now_s)?;
            Some(OfChain::Aged(one.subject.clone(), age))
        }));
        doubts
    }
}

impl OnTheWay {
    fn of(certificate: &Certificate) -> Self {
        let content = certificate.tbs_certificate();
        let validity = content.validity();
        Self {
            subject: words(content.subject()),
            not_before_s: seconds(validity.not_before),
            not_after_s: seconds(validity.not_after),
        }
    }
}
