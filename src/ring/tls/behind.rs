//! What stands behind the first certificate of a chain: the authorities on the way to one that
//! clients trust. They look for them there (RFC 8446 4.4.2).

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::doubt::{DAY_S, OfChain, SOON};
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
    pub subject: String,
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
            let issuer = certificate.tbs_certificate().issuer();
            let has_signed = |other: &mut (&CertificateDer<'_>, Certificate)| {
                other.1.tbs_certificate().subject() == issuer
                    && SignedX509::read(der).is_some_and(|one| one.may_be_by(&other.1, provider))
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
}

impl Behind {
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
        doubts.extend(self.way.iter().filter_map(|one| one.doubt(now_s)));
        doubts
    }
}

impl OnTheWay {
    fn doubt(&self, now_s: u64) -> Option<OfChain> {
        let subject = self.subject.clone();
        match self.not_after_s.saturating_sub(now_s) {
            0 => Some(OfChain::Expired(subject)),
            _ if now_s < self.not_before_s => Some(OfChain::NotYet(subject)),
            left_s if left_s < SOON.as_secs() => {
                Some(OfChain::ExpiresSoon(subject, left_s / DAY_S))
            }
            _ => None,
        }
    }

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
