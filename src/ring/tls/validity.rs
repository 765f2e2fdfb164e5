//! Whether what let clients in by their certificates still holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::trust::{List, newest, seconds, words};

/// Of the authorities of a listener and their lists, as they were read once. All connections that
/// they let in have it.
#[derive(Clone, Debug)]
pub struct Validity(Arc<Trusted>);

#[derive(Debug)]
struct Trusted {
    /// Others are trusted now.
    has_ended: AtomicBool,
    /// The lists of revocations, the newest of an authority first.
    lists: Vec<List>,
}

impl Validity {
    /// Of authorities that have these lists.
    pub fn new(lists: Vec<List>) -> Self {
        let has_ended = AtomicBool::new(false);
        Self(Arc::new(Trusted { has_ended, lists }))
    }

    /// Others are trusted from now on.
    pub fn end(&self) {
        self.0.has_ended.store(true, Ordering::Release);
    }

    /// Whether others are trusted now.
    pub fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Acquire)
    }

    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Until when these certificates, which let a client in at `now_s`, would do so: until the
    /// first of them expires, or the list that says of one of them whether it is revoked. Both are
    /// seconds since 1970. What had expired already was none of those that counted.
    pub fn until_s(&self, shown: &[CertificateDer<'_>], now_s: u64) -> u64 {
        let read = (shown.iter()).filter_map(|shown| Certificate::from_der(shown).ok());
        let ends = read.flat_map(|certificate| {
            let content = certificate.tbs_certificate();
            let issuer = words(content.issuer());
            // Of an authority with two keys that has two, the one that ends sooner.
            let lists = newest(&self.0.lists).filter(move |list| list.issuer == issuer);
            let own = std::iter::once(seconds(content.validity().not_after));
            own.chain(lists.map(|list| list.not_after_s))
        });
        let ends = ends.filter(|end_s| *end_s > now_s);
        ends.min().unwrap_or(u64::MAX)
    }
}

/// What a listener speaks TLS with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Certificates, and who vouches for clients.
    pub config: Arc<ServerConfig>,
    /// Of the authorities, be there none.
    pub validity: Validity,
}
