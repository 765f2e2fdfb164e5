//! One attempt at one notification: request, answer, and the reply into its file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, HeaderValue, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use super::desk::{Desk, Stands};
use super::lookup::Lookup;
use super::signature::{Signed, content_digest};
use super::transport::Early;
use super::{Delivery, transport};
use crate::bits::notification::{self, Answer};
use crate::config::NotificationType;
use crate::server::floor::{NotifyError, Order};
use crate::tls_words;
use crate::wall_clock;

/// Where TLS was not ended as it should be, perhaps half of a body is missing.
const CUT: &str = "it ended the connection before its answer was whole";
/// Bytes of a reply that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// The client: no redirects, no proxies, no coding, no connection kept; certificates are checked
/// against the system's roots.
pub fn agent() -> Agent {
    client(RootCerts::PlatformVerifier)
}

/// The same, which trusts these.
pub fn client(roots: RootCerts) -> Agent {
    let tls = TlsConfig::builder().root_certs(roots).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .proxy(None)
        .user_agent(concat!("bitsd/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        .accept_encoding("identity")
        .build();
    Agent::with_parts(config, transport::connector(), Lookup::default())
}

/// One attempt. If it fails, or is no success, nothing of a reply by value is left.
pub fn exchange(agent: &Agent, desk: &Desk, order: &Order, deadline: Instant) -> Delivery {
    let files = Files { desk, order };
    files.remove_reply().map_err(NotifyError::Disk)?;
    let outcome = files.exchange(agent, order, deadline);
    if !matches!(&outcome, Ok(answer) if answer.has_reply) {
        files.remove_reply().map_err(NotifyError::Disk)?;
    }
    outcome
}

struct Files<'a> {
    desk: &'a Desk,
    order: &'a Order,
}

impl Files<'_> {
    fn remove_reply(&self) -> io::Result<()> {
        self.desk.remove(&self.order.reply)
    }

    fn exchange(&self, agent: &Agent, order: &Order, deadline: Instant) -> Delivery {
        let is_by_value = order.settings.kind == NotificationType::ByValue;
        let mut file = match is_by_value {
            true => Some(self.desk.open(&order.part).map_err(NotifyError::Disk)?),
            false => None,
        };
        let length = match &file {
            Some(file) => file.metadata().map_err(NotifyError::Disk)?.len(),
            None => 0,
        };
        let mut request = agent.post(&order.url);
        if let Some(headers) = request.headers_mut() {
            self.fields(headers, order, file.as_mut(), deadline)?;
            headers.insert("Content-Length", length.into());
        }
        // Not before: the digest among the fields has taken its part.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(NotifyError::TimedOut);
        }
        let request = request.config().timeout_global(Some(left)).build();
        let sent = match file {
            Some(file) => request.send(SendBody::from_owned_reader(file)),
            None => request.send(SendBody::none()),
        };
        match sent {
            Ok(response) => self.answer(response, order, is_by_value),
            Err(error) => match Early::of(&error) {
                Some(early) => Ok(Answer::bare(early.status)),
                None => Err(failure(&error)),
            },
        }
    }

    fn fields(
        &self,
        headers: &mut HeaderMap,
        order: &Order,
        file: Option<&mut File>,
        deadline: Instant,
    ) -> Result<(), NotifyError> {
        let path = |name: &str| match file {
            Some(_) => Vec::new(),
            None => self.desk.path(name).into_os_string().into_vec(),
        };
        let (part, reply) = (path(&order.part), path(&order.reply));
        let (part, reply) = (&part[..], &reply[..]);
        let mut add = |name: &'static str, value: &[u8]| {
            let value = HeaderValue::from_bytes(value)
                .map_err(|_| NotifyError::Malformed(format!("{name} cannot be sent")))?;
            headers.insert(name, value);
            Ok(())
        };
        add("BITS-Original-Request-URL", order.upload_url.as_bytes())?;
        add("BITS-Notification-Id", order.id.as_bytes())?;
        if !part.is_empty() {
            add("BITS-Request-DataFile-Name", part)?;
            add("BITS-Response-DataFile-Name", reply)?;
        }
        let (user, proof) = (
            order.user.as_deref().unwrap_or_default(),
            order.proof.unwrap_or_default(),
        );
        if !user.is_empty() {
            add("BITS-Remote-User", user.as_bytes())?;
            add("BITS-Auth-Type", proof.as_bytes())?;
        }
        let mut repr_digest = String::new();
        if let Some(sha256) = &order.sha256 {
            repr_digest = format!("sha-256=:{}:", STANDARD.encode(sha256));
            add("Repr-Digest", repr_digest.as_bytes())?;
        }
        let Some(secret) = &order.settings.secret else {
            return Ok(());
        };
        let digest = match file {
            Some(file) => content_digest(file, deadline)?,
            None => String::new(),
        };
        let timestamp = wall_clock::since_1970().as_secs().to_string();
        let signed = Signed {
            timestamp: &timestamp,
            id: &order.id,
            upload_url: &order.upload_url,
            part,
            reply,
            digest: &digest,
            user,
            proof,
            repr_digest: &repr_digest,
        };
        let signature = signed.signature(secret.expose());
        add("BITS-Notification-Timestamp", timestamp.as_bytes())?;
        if !digest.is_empty() {
            add("Content-Digest", digest.as_bytes())?;
        }
        add("BITS-Notification-Signature", signature.as_bytes())
    }

    fn answer(&self, response: Response<Body>, order: &Order, is_by_value: bool) -> Delivery {
        let status = response.status().as_u16();
        let headers = response.headers();
        let static_url = (headers.get("BITS-Static-Response-URL"))
            .and_then(|value| notification::static_url(value.as_bytes()));
        let copies = headers.contains_key("BITS-Copy-File-To-Destination");
        let limit = order.settings.reply_bytes_max;
        let has_reply = match (status, is_by_value) {
            (200, true) => self.save(response, limit)?,
            (200, false) => self.has_reply(limit)?,
            _ => false,
        };
        Ok(Answer {
            status,
            static_url,
            copies,
            has_reply,
        })
    }

    /// Whether the application has written a reply.
    fn has_reply(&self, limit: u64) -> Result<bool, NotifyError> {
        let found = self.desk.look(&self.order.reply);
        match found.map_err(NotifyError::Disk)? {
            Stands::File(bytes) if bytes > limit => Err(NotifyError::ReplyTooLarge { limit }),
            Stands::File(_) => Ok(true),
            Stands::Nothing => Ok(false),
            // A link could lead to what is nobody's reply.
            Stands::NoFile => {
                let why = "what stands in the place of its reply is no file (a link, a pipe)";
                Err(NotifyError::Malformed(why.to_owned()))
            }
        }
    }

    /// Saves the body of an answer; `false` if it has none.
    fn save(&self, response: Response<Body>, limit: u64) -> Result<bool, NotifyError> {
        let coding = coding_of(response.headers());
        let mut body = response.into_body();
        let announced = body.content_length();
        let mut reader = body.as_reader();
        let mut piece = vec![0; PIECE_BYTES];
        let mut file = None;
        let mut saved = 0_u64;
        loop {
            let read = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failure(&ureq::Error::from(error))),
            };
            if let Some(coding) = coding {
                return Err(NotifyError::Malformed(coding));
            }
            saved += read as u64;
            if saved > limit {
                return Err(NotifyError::ReplyTooLarge { limit });
            }
            let file = match &mut file {
                Some(file) => file,
                none => {
                    none.insert((self.desk.create(&self.order.reply)).map_err(NotifyError::Disk)?)
                }
            };
            file.write_all(&piece[..read]).map_err(NotifyError::Disk)?;
        }
        if announced.is_some_and(|bytes| bytes != saved) {
            let why = format!("its body ended after {saved} bytes");
            return Err(NotifyError::Unreachable(why));
        }
        Ok(file.is_some())
    }
}

/// The coding of a body, in words: none was asked for, and it would be served without its name
/// (RFC 9110 8.4, RFC 9112 6.1).
fn coding_of(headers: &HeaderMap) -> Option<String> {
    let coded = |name: &'static str, plain: &str| {
        let mut codings = headers.get_all(name).iter();
        let coding = codings.find(|coding| !is_plain(coding.as_bytes(), plain))?;
        let coding = String::from_utf8_lossy(coding.as_bytes());
        Some(format!(
            "its reply is coded ({name}: {coding}), and identity was asked for"
        ))
    };
    coded("Content-Encoding", "identity").or_else(|| coded("Transfer-Encoding", "chunked"))
}

/// Whether a list has nothing in it but this.
fn is_plain(list: &[u8], plain: &str) -> bool {
    let mut words = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    words.all(|word| word.is_empty() || word.eq_ignore_ascii_case(plain.as_bytes()))
}

/// Sorts an error of the HTTP client.
fn failure(error: &ureq::Error) -> NotifyError {
    use ureq::Error as E;
    match error {
        E::Timeout(_) => NotifyError::TimedOut,
        E::Io(io) if io.kind() == io::ErrorKind::TimedOut => NotifyError::TimedOut,
        E::Io(_) | E::HostNotFound | E::ConnectionFailed | E::Tls(_) | E::Rustls(_) => {
            NotifyError::Unreachable(in_words(error))
        }
        _ => NotifyError::Malformed(in_words(error)),
    }
}

/// Of a certificate, rustls has names for what is wrong, and no words; and it explains to those who
/// program why a body without a length is not whole.
pub fn in_words(error: &ureq::Error) -> String {
    if let ureq::Error::Other(ours) = error {
        return ours.to_string();
    }
    let words = error.to_string();
    // What it explains stands in the words only, where somebody has wrapped it.
    let is_cut = |io: &io::Error| io.kind() == io::ErrorKind::UnexpectedEof;
    if matches!(error, ureq::Error::Io(io) if is_cut(io)) || words.contains("close_notify") {
        return CUT.to_owned();
    }
    let of_tls = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(io) => io.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    };
    match of_tls {
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            format!("its certificate is not accepted: {}", tls_words::of(error))
        }
        _ => words,
    }
}
