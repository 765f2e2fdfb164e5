//! NATS: events are published to a subject, and the stream of JetStream that takes it says that it
//! has them.
//!
//! One connection, on a thread of its own with a runtime of its own. It comes back by itself;
//! while it is away nothing is handed to it, since it would keep it and send it later without
//! anybody who waits. `Nats-Msg-Id` is the id of the event: told twice within the stream's window
//! of duplicates, it is one message.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, Context};
use async_nats::{ClientError, ConnectOptions, Event, HeaderMap, connection::State};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::{Carried, NoCourier, authorities};
use crate::config::{EventSettings, Secret};
use crate::processors;

/// Events that wait for the thread to take them; those that ask have bounds of their own.
const ORDERS_MAX: usize = 1_024;
/// The longest pause between two attempts to connect.
const RECONNECT_MAX: Duration = Duration::from_secs(10);
/// The form of an event, for who looks at a message.
const FORM: &str = "application/cloudevents+json";
/// A file of credentials has a token in it that begins so.
const CREDENTIALS_MARK: &str = "BEGIN NATS USER JWT";

/// The client's words for a server that does not let it in.
const REFUSED: &str = "authorization violation";
/// Of what a server says, no more is told.
const HITCH_CHARS_MAX: usize = 300;

/// An event on its way.
struct Order {
    id: String,
    body: Vec<u8>,
    told: oneshot::Sender<Carried>,
}

/// What went wrong last on the connection, in words; nothing since it stands. The client tells it
/// beside the events that fail of it.
#[derive(Clone, Default)]
struct Hitch(Arc<Mutex<Trouble>>);

#[derive(Default)]
struct Trouble {
    why: Option<String>,
    /// How often in a row it was not let in.
    refusals: u64,
}

impl Hitch {
    fn note(&self, event: Event) {
        let mut is_refused = false;
        let why = match event {
            Event::Connected => None,
            Event::ServerError(error) => Some(format!("NATS says: {error}")),
            Event::ClientError(ClientError::Other(why)) if why == REFUSED => {
                is_refused = true;
                Some(format!(
                    "NATS refuses what it is shown ({why}): look at events.nats_credentials_file"
                ))
            }
            Event::ClientError(ClientError::Other(why)) => {
                Some(format!("NATS cannot be reached: {}", in_words(&why)))
            }
            _ => return,
        };
        let refusals = {
            let mut trouble = self.lock();
            trouble.why = why.map(|why| why.chars().take(HITCH_CHARS_MAX).collect());
            trouble.refusals = match is_refused {
                true => trouble.refusals + 1,
                false => 0,
            };
            trouble.refusals
        };
        // Also where no event is owed that could fail of it; it comes back every ten seconds.
        if refusals.is_power_of_two() {
            let event = "nats_refused";
            let remedy = "give events.nats_credentials_file what NATS wants to see, and restart";
            tracing::warn!(
                event,
                refusals,
                why = REFUSED,
                remedy,
                "NATS does not let the server in"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no connection.
    fn of_connection(&self) -> String {
        match &self.lock().why {
            Some(why) => format!("there is no connection: {why}"),
            None => {
                "there is no connection: what is at events.nats has not answered so far".to_owned()
            }
        }
    }

    /// What failed, and why, where that is known.
    fn explain(&self, what: &str) -> String {
        let trouble = self.lock();
        (trouble.why.as_ref()).map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"))
    }
}

/// What the client says of a connection that came to nothing.
fn in_words(why: &str) -> &str {
    match why {
        "IO error" => "nobody takes a connection, or what does is no server of NATS",
        "timed out" => "what takes the connection does not answer as a server of NATS does",
        "DNS error" => "its name leads to no address",
        "TLS error" => {
            "it cannot speak TLS, or its certificate is not accepted: look at events.nats_ca"
        }
        other => other,
    }
}

/// What speaks with the server of the settings.
pub struct Nats {
    orders: mpsc::Sender<Order>,
}

impl Nats {
    /// That of the settings; `None` if they name none. It connects when it can.
    pub fn start(settings: &EventSettings) -> Result<Option<Self>, NoCourier> {
        if settings.nats.is_empty() {
            return Ok(None);
        }
        let hitch = Hitch::default();
        let noted = hitch.clone();
        let options = options(settings)?.event_callback(move |event| {
            noted.note(event);
            std::future::ready(())
        });
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(NoCourier::Thread)?;
        let (url, subject) = (settings.nats.clone(), settings.nats_subject.clone());
        let timeout = settings.timeout;
        let run = move || {
            processors::leave_to_shards();
            runtime.block_on(serve(url, options, hitch, (subject, timeout), taken));
        };
        let spawned = thread::Builder::new().name("nats".to_owned()).spawn(run);
        spawned.map_err(NoCourier::Thread)?;
        Ok(Some(Self { orders }))
    }

    /// One attempt; the outcome comes later.
    pub fn publish(&self, id: String, body: Vec<u8>, told: oneshot::Sender<Carried>) {
        if let Err(refused) = self.orders.try_send(Order { id, body, told }) {
            let why = "as many events are on their way to NATS as may be".to_owned();
            // Whoever asked may be gone: the next start asks again.
            let _ = refused.into_inner().told.send(Err(why));
        }
    }
}

/// Whether a start could take what the settings say.
pub fn look(settings: &EventSettings) -> Result<(), NoCourier> {
    match settings.nats.is_empty() {
        true => Ok(()),
        false => options(settings).map(drop),
    }
}

fn options(settings: &EventSettings) -> Result<ConnectOptions, NoCourier> {
    let mut options = ConnectOptions::new()
        .name("bitsd")
        .retry_on_initial_connect()
        .require_tls(settings.nats.starts_with("tls:"))
        .reconnect_delay_callback(|attempts| {
            let ms = 100_u64 << attempts.min(10);
            RECONNECT_MAX.min(Duration::from_millis(ms))
        });
    if !settings.nats_ca.as_os_str().is_empty() {
        let key = "events.nats_ca";
        // The client reads it itself, each time it connects, and would not say what is wrong.
        authorities(key, &settings.nats_ca)?;
        options = options.add_root_certificates(settings.nats_ca.clone());
    }
    match &settings.nats_credentials {
        None => Ok(options),
        Some(secret) => shown(options, secret),
    }
}

/// With what the server is shown.
fn shown(options: ConnectOptions, secret: &Secret) -> Result<ConnectOptions, NoCourier> {
    let unusable = |why: io::Error| {
        let key = "events.nats_credentials_file";
        NoCourier::Unreadable(key, secret.file().to_owned(), why)
    };
    let text = std::str::from_utf8(secret.expose());
    let text = text.map_err(|_| unusable(io::Error::other("it is not text")))?;
    if text.contains(CREDENTIALS_MARK) {
        // The client finds the key only where a line end follows, and a secret has none at its end.
        let lines = Zeroizing::new(format!("{text}\n"));
        return options.credentials(&lines).map_err(unusable);
    }
    Ok(match text.split_once(':') {
        Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options.token(text.to_owned()),
    })
}

/// Publishes what comes, each beside the others, until nobody can ask any more.
async fn serve(
    url: String,
    options: ConnectOptions,
    hitch: Hitch,
    (subject, timeout): (String, Duration),
    mut orders: mpsc::Receiver<Order>,
) {
    // It returns at once, and connects meanwhile.
    let connected = async_nats::connect_with_options(url, options).await;
    let client = match connected {
        Ok(client) => {
            let mut context = jetstream::new(client.clone());
            context.set_timeout(timeout);
            Some((client, context))
        }
        Err(error) => {
            let remedy = "look at events.nats and at what it names";
            tracing::error!(event = "nats_unusable", %error, remedy, "nothing can be sent to NATS");
            None
        }
    };
    while let Some(order) = orders.recv().await {
        let Some((client, context)) = &client else {
            let _ = order
                .told
                .send(Err("the settings cannot be used".to_owned()));
            continue;
        };
        if client.connection_state() != State::Connected {
            let why = hitch.of_connection();
            let _ = order.told.send(Err(why));
            continue;
        }
        let (context, subject, hitch) = (context.clone(), subject.clone(), hitch.clone());
        tokio::spawn(async move {
            let published = publish(context, subject, order.id, order.body);
            let outcome = match tokio::time::timeout(timeout, published).await {
                Ok(Ok(ack)) => match names_message(&ack) {
                    true => Ok(()),
                    false => Err(NO_MESSAGE.to_owned()),
                },
                Ok(Err(error)) if error.kind() != PublishErrorKind::TimedOut => {
                    Err(error.to_string())
                }
                // It may have said why not beside it: this user may not send there.
                Ok(Err(_)) | Err(_) => Err(hitch.explain("no answer in time")),
            };
            let _ = order.told.send(outcome);
        });
    }
}

async fn publish(
    context: Context,
    subject: String,
    id: String,
    body: Vec<u8>,
) -> Result<PublishAck, PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    headers.insert("Content-Type", FORM);
    let sent = context.publish_with_headers(subject, headers, body.into());
    // Of a duplicate too: it is there.
    sent.await?.await
}

/// Whether an answer says which message of which stream the event is: a stream begins with 1, and
/// has a name. Whoever else hears the subject may answer as well.
fn names_message(ack: &PublishAck) -> bool {
    !ack.stream.is_empty() && ack.sequence > 0
}

/// What answers with anything else.
const NO_MESSAGE: &str = "what answers names no message of a stream: look who else answers to the \
                          subject, and whether JetStream has a stream for it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_connection_has_words_of_ours() {
        let hitch = Hitch::default();
        assert!(hitch.of_connection().contains("has not answered so far"));
        let other = |why: &str| Event::ClientError(ClientError::Other(why.to_owned()));
        hitch.note(other("timed out"));
        let why = hitch.of_connection();
        assert!(why.contains("does not answer as a server of NATS"), "{why}");
        for _ in 0..3 {
            hitch.note(other(REFUSED));
        }
        assert_eq!(hitch.lock().refusals, 3);
        hitch.note(Event::Connected);
        assert_eq!(hitch.lock().refusals, 0);
    }

    #[test]
    fn an_answer_that_names_no_message_of_a_stream_says_nothing() {
        for (answer, says_so) in [
            (r#"{"stream":"UP","seq":1}"#, true),
            (r#"{"stream":"UP","seq":7,"duplicate":true}"#, true),
            (r#"{"stream":"","seq":1}"#, false),
            (r#"{"stream":"UP","seq":0}"#, false),
        ] {
            let ack = serde_json::from_str(answer).unwrap();
            assert_eq!(names_message(&ack), says_so, "{answer}");
        }
    }
}
