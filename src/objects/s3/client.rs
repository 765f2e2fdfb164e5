//! The client of a store. Each reads what it is made of once: credentials in a profile, the
//! authorities in a file. Those may be others by now, so it is made anew now and then.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use aws_config::{AppName, BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};

use super::bounded::bounded;
use crate::named_file;
use crate::objects::bucket::StoreTrouble;
use crate::objects::note::StorePlace;

/// A client, and when it is made anew.
pub(super) struct Renewed {
    place: StorePlace,
    now: RefCell<Current>,
}

struct Current {
    client: Client,
    made: Instant,
    /// It may be that another one would be let in.
    is_doubtful: bool,
    /// What it was made of may have changed.
    is_outdated: bool,
}

impl Renewed {
    /// Nothing is asked of the store yet.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub(super) async fn open(place: &StorePlace) -> Result<Self, StoreTrouble> {
        let now = Current {
            client: make(place).await?,
            made: Instant::now(),
            is_doubtful: false,
            is_outdated: false,
        };
        Ok(Self {
            place: place.clone(),
            now: RefCell::new(now),
        })
    }

    /// The client for a request.
    pub(super) async fn get(&self) -> Client {
        if self.is_due() {
            // Where it cannot be made the one before goes on.
            let made = make(&self.place).await;
            let mut now = self.now.borrow_mut();
            if let Ok(client) = made {
                now.client = client;
            }
        }
        self.now.borrow().client.clone()
    }

    /// Whether one is to be made; told to one who asks, and not to others meanwhile.
    fn is_due(&self) -> bool {
        let mut now = self.now.borrow_mut();
        let age = now.made.elapsed();
        let is_due =
            now.is_outdated || age >= AGE_MAX || (now.is_doubtful && age >= DOUBTFUL_AGE_MAX);
        if is_due {
            now.made = Instant::now();
            now.is_doubtful = false;
            now.is_outdated = false;
        }
        is_due
    }

    /// It was not let in, or could not ask at all.
    pub(super) fn doubt(&self) {
        self.now.borrow_mut().is_doubtful = true;
    }

    /// Lets it in somewhere, whatever there is in the environment.
    #[cfg(test)]
    pub(super) fn give_credentials(&self) {
        let keys = aws_sdk_s3::config::Credentials::builder()
            .access_key_id("k")
            .secret_access_key("s")
            .provider_name("test");
        let mut now = self.now.borrow_mut();
        let config = now.client.config().to_builder();
        let config = config.credentials_provider(keys.build());
        now.client = Client::from_conf(config.build());
    }

    /// The next request is by another one.
    pub(super) fn renew(&self) {
        self.now.borrow_mut().is_outdated = true;
    }
}

async fn make(place: &StorePlace) -> Result<Client, StoreTrouble> {
    let mut trust = TrustStore::default();
    if !place.ca.as_os_str().is_empty() {
        let pem = named_file::read_pem(&place.ca).map_err(|error| {
            StoreTrouble::Settings(format!("store_ca {}: {error}", place.ca.display()))
        })?;
        trust = TrustStore::empty().with_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|error| StoreTrouble::Settings(error.to_string()))?;
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https();
    let http = bounded(http);
    // How long a request may last is decided by `moving`: the client's own limits are for the whole
    // of it, however large, or for less of a pause than a store may make.
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_PATIENCE);
    let stalled = StalledStreamProtectionConfig::enabled().upload_enabled(false);
    let name = AppName::new("bitsd").map_err(|error| StoreTrouble::Refused(error.to_string()))?;
    let shared = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(place.region.clone()))
        .app_name(name)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build())
        .stalled_stream_protection(stalled.build())
        .load()
        .await;
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .force_path_style(place.path_style)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    config.set_endpoint_url(place.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A client is not used for longer.
const AGE_MAX: Duration = Duration::from_secs(300);
/// Nor one that a store did not let in.
const DOUBTFUL_AGE_MAX: Duration = Duration::from_secs(10);
