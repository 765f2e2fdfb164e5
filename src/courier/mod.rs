//! The couriers: they carry events to their targets, on threads of their own.
//!
//! What is owed, to whom, and when it is tried again is decided by who asks
//! ([`crate::server::floor::Floor::tell_outside`]); here one attempt is made, and it is told
//! whether the target has said that it has the event. An attempt has a bound in time; so many are
//! made at once as are asked for.

mod form;
#[cfg(feature = "nats")]
mod nats;
mod webhook;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use thiserror::Error;
use tokio::sync::oneshot;
use ureq::tls::{Certificate, PemItem, parse_pem};

use crate::config::Config;
use crate::named_file;
use crate::processors;
use crate::server::floor::CloudEvent;
use crate::vault::owed::EventTarget;
use webhook::Webhook;

/// Whether the target says that it has it; if not, why, in words.
pub type Carried = Result<(), String>;

/// Why there are no couriers; in words that name the remedy.
#[derive(Debug, Error)]
pub enum NoCourier {
    /// A file of authorities cannot be read.
    #[error("{0}: cannot read {1}: {2}")]
    Unreadable(&'static str, PathBuf, #[source] io::Error),
    /// It is none.
    #[error("{0}: {1} holds no certificate (PEM)")]
    NoCertificate(&'static str, PathBuf),
    /// One has no thread.
    #[error("cannot start the thread of NATS: {0}")]
    Thread(#[source] io::Error),
}

/// Reads the files of authorities that the settings name, those of object stores too: some are
/// read again and again by others, who would not say what is wrong with them. What NATS is to be
/// shown is judged as a start judges it.
///
/// # Errors
/// [`NoCourier`]
pub fn look(config: &Config) -> Result<(), NoCourier> {
    let events = [
        ("events.webhook_ca", &config.events.webhook_ca),
        ("events.nats_ca", &config.events.nats_ca),
    ];
    let stores = (config.locations.iter())
        .filter_map(|location| Some(("store_ca", &location.objects.as_ref()?.ca)));
    let files = events.into_iter().chain(stores);
    for (key, file) in files.filter(|(_, file)| !file.as_os_str().is_empty()) {
        authorities(key, file)?;
    }
    #[cfg(feature = "nats")]
    nats::look(&config.events)?;
    Ok(())
}

/// The authorities of a file.
fn authorities(key: &'static str, file: &Path) -> Result<Vec<Certificate<'static>>, NoCourier> {
    let unreadable = |error| NoCourier::Unreadable(key, file.to_owned(), error);
    let text = named_file::read_pem(file).map_err(unreadable)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        let item = item.map_err(|error| unreadable(io::Error::other(error)))?;
        if let PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    match certificates.is_empty() {
        true => Err(NoCourier::NoCertificate(key, file.to_owned())),
        false => Ok(certificates),
    }
}

/// Carries events to whoever the settings name; one for all shards.
#[derive(Clone)]
pub struct Courier {
    shared: Arc<Shared>,
}

struct Shared {
    /// What events call this server.
    source: String,
    webhook: Option<Webhook>,
    #[cfg(feature = "nats")]
    nats: Option<nats::Nats>,
}

impl Courier {
    /// To the targets of the settings.
    ///
    /// # Errors
    /// [`NoCourier`]
    pub fn start(config: &Config) -> Result<Self, NoCourier> {
        let shared = Shared {
            source: form::source(config),
            webhook: Webhook::of(&config.events)?,
            #[cfg(feature = "nats")]
            nats: nats::Nats::start(&config.events)?,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Returns at once; the outcome comes later.
    pub fn carry(&self, target: EventTarget, event: CloudEvent) -> oneshot::Receiver<Carried> {
        let (told, outcome) = oneshot::channel();
        match target {
            EventTarget::Webhook => self.post(event, told),
            EventTarget::Nats => self.publish(&event, told),
        }
        outcome
    }

    #[cfg(feature = "nats")]
    fn publish(&self, event: &CloudEvent, told: oneshot::Sender<Carried>) {
        if let Some(nats) = &self.shared.nats {
            nats.publish(event.id(), form::body(&self.shared.source, event), told);
        }
    }

    /// No setting can name it.
    #[cfg(not(feature = "nats"))]
    fn publish(&self, _: &CloudEvent, told: oneshot::Sender<Carried>) {
        drop(told);
    }

    fn post(&self, event: CloudEvent, told: oneshot::Sender<Carried>) {
        let shared = Arc::clone(&self.shared);
        let post = move || {
            // It was started by a shard.
            processors::leave_to_shards();
            let Some(webhook) = &shared.webhook else {
                return;
            };
            let body = form::body(&shared.source, &event);
            // Whoever asked may be gone: the next start asks again.
            let _ = told.send(webhook.post(&body));
        };
        // Without a thread its sender is dropped, which says so.
        let _ = thread::Builder::new()
            .name("webhook".to_owned())
            .spawn(post);
    }
}
