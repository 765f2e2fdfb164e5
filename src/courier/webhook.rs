//! The webhook: an HTTP server that events are POSTed to.
//!
//! Whoever has the secret can check that an event is ours and that nothing of it was changed:
//! `Bitsd-Event-Signature: sha256=HEX` is the HMAC-SHA256 (RFC 2104), under the secret, of the
//! value of `Bitsd-Event-Timestamp` (seconds since 1970), a line feed, and the body as it was sent.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use ureq::tls::RootCerts;

use super::form::MEDIA_TYPE;
use super::{Carried, NoCourier, authorities};
use crate::config::{EventSettings, Secret};
use crate::http::digest::Hex;
use crate::notify;
use crate::wall_clock;

/// What speaks with the webhook of the settings.
pub struct Webhook {
    agent: ureq::Agent,
    url: String,
    secret: Option<Secret>,
    timeout: Duration,
}

impl Webhook {
    /// That of the settings; `None` if they name none.
    pub fn of(settings: &EventSettings) -> Result<Option<Self>, NoCourier> {
        if settings.webhook.is_empty() {
            return Ok(None);
        }
        let roots = match settings.webhook_ca.as_os_str().is_empty() {
            true => RootCerts::PlatformVerifier,
            false => RootCerts::from(authorities("events.webhook_ca", &settings.webhook_ca)?),
        };
        Ok(Some(Self {
            agent: notify::client(roots),
            url: settings.webhook.clone(),
            secret: settings.webhook_secret.clone(),
            timeout: settings.timeout,
        }))
    }

    /// One attempt. What the answer says beside its status is not read, however long it is: the
    /// connection ends.
    pub fn post(&self, body: &[u8]) -> Carried {
        let mut request = (self.agent.post(&self.url)).header("Content-Type", MEDIA_TYPE);
        if let Some(secret) = &self.secret {
            let timestamp = wall_clock::since_1970().as_secs().to_string();
            let signature = signature(secret.expose(), &timestamp, body);
            request = (request.header("Bitsd-Event-Timestamp", timestamp))
                .header("Bitsd-Event-Signature", signature);
        }
        let request = request.config().timeout_global(Some(self.timeout)).build();
        match request.send(body) {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("it answers {}", response.status().as_u16())),
            Err(ureq::Error::Timeout(_)) => Err("no answer in time".to_owned()),
            Err(error) => Err(notify::in_words(&error)),
        }
    }
}

fn signature(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b"\n");
    mac.update(body);
    format!("sha256={}", Hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        // printf '1700000000\n{"a":1}' | openssl dgst -sha256 -hmac secret
        let signed = signature(b"secret", "1700000000", b"{\"a\":1}");
        assert_eq!(
            signed,
            "sha256=efcabe126158887775caa64ceba35b9734f7839cae75b3517440dc283bee13a4"
        );
        assert_ne!(signed, signature(b"secret", "1700000001", b"{\"a\":1}"));
        assert_ne!(signed, signature(b"secret", "1700000000", b"{\"a\":2}"));
        assert_ne!(signed, signature(b"secreT", "1700000000", b"{\"a\":1}"));
    }
}
