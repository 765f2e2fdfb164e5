//! Whether what let clients in by their certificates still holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ServerConfig;

/// Of the authorities of a listener and their lists, as they were read once. All connections that
/// they let in have it.
#[derive(Clone, Debug, Default)]
pub struct Validity(Arc<AtomicBool>);

impl Validity {
    /// Others are trusted from now on.
    pub fn end(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether others are trusted now.
    pub fn has_ended(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What a listener speaks TLS with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Certificates, and who vouches for clients.
    pub config: Arc<ServerConfig>,
    /// Of the authorities, where clients show certificates.
    pub validity: Option<Validity>,
}
