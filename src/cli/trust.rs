//! Flags of the clients that say whom to believe.

use std::path::PathBuf;

use clap::Args;

use bitsd::client::secure::{BadTrust, Secure, Suites, Trust};
use bitsd::client::url::Url;

/// Whom to believe, where the URL says https.
#[derive(Args, Clone, Debug)]
pub struct Believed {
    /// Of https: believe only certificates of the authorities in this file (PEM), and not those
    /// that this machine knows.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Of https: believe whoever answers. Anybody on the way can read and change what is sent.
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
}

impl Believed {
    /// What makes connections to the URL secure; `None` if it is no https.
    ///
    /// # Errors
    /// [`BadTrust`]
    pub fn secure(&self, url: &Url, suites: Suites) -> Result<Option<Secure>, BadTrust> {
        if !url.is_secure() {
            return Ok(None);
        }
        let trust = match (&self.cacert, self.insecure) {
            (Some(file), _) => Trust::File(file.clone()),
            (None, true) => Trust::Anybody,
            (None, false) => Trust::Machine,
        };
        if trust == Trust::Anybody {
            super::say(
                "INSECURE: --insecure believes whoever answers; anybody on the way can read and change \
                 what is sent",
            );
        }
        Secure::with(&trust, suites).map(Some)
    }
}
