//! What TLS shows and whom it trusts: read from files at the start, and anew at each reload.
//!
//! All of it is read and checked before any of it is used: a file that is missing or broken, or a
//! key that belongs to another certificate, changes nothing.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};

use super::pem::{BadPem, Pem};
use super::served::{KeyKind, Pair, Served};
use super::verified::Verified;
use crate::config::{Certificate, ChannelBinding, Config, Listener, TlsVersion};

/// A certificate that expires within this time is warned of.
pub const SOON: Duration = Duration::from_secs(30 * 86_400);

/// Why TLS cannot be spoken as the settings ask for.
#[derive(Debug)]
pub enum BadMaterial {
    /// A file is not what it should be.
    Pem(BadPem),
    /// Others can read a private key, or change it.
    Exposed(PathBuf, u32),
    /// A certificate that cannot be understood.
    NotX509(PathBuf),
    /// A private key of a kind that is not known.
    UnknownKey(PathBuf),
    /// The key belongs to another certificate.
    Mismatch(Certificate),
    /// A certificate has expired.
    Expired(PathBuf, u64),
    /// The authorities that vouch for clients cannot be used.
    BadAuthority(PathBuf, String),
    /// Something that has nothing to do with files.
    Rustls(rustls::Error),
}

impl From<BadPem> for BadMaterial {
    fn from(why: BadPem) -> Self {
        Self::Pem(why)
    }
}

impl fmt::Display for BadMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(why) => why.fmt(f),
            Self::Exposed(path, mode) => {
                let path = path.display();
                let mend = match mode & 0o007 {
                    0 => "g-w",
                    _ => "g-w,o=",
                };
                write!(
                    f,
                    "the private key {path} is open to others than its owner and its group (mode {:04o}): \
                     `chmod {mend} {path}`",
                    mode & 0o777
                )
            }
            Self::NotX509(path) => {
                write!(
                    f,
                    "the certificate in {} cannot be understood",
                    path.display()
                )
            }
            Self::UnknownKey(path) => write!(
                f,
                "the private key in {} is of no kind that can be used here: P-256, P-384, Ed25519, or RSA of 2048 to \
                 8192 bits",
                path.display()
            ),
            Self::Mismatch(pair) => write!(
                f,
                "the private key {} does not belong to the certificate {}: its own certificate must be the first one in \
                 that file",
                pair.key.display(),
                pair.chain.display()
            ),
            Self::Expired(path, day) => write!(
                f,
                "the certificate {} has expired {}: renew it, then start or reload",
                path.display(),
                days_in_words(*day, "ago")
            ),
            Self::BadAuthority(path, why) => {
                write!(
                    f,
                    "the authorities in {} cannot be used: {why}",
                    path.display()
                )
            }
            Self::Rustls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadMaterial {}

fn days_in_words(days: u64, ago: &str) -> String {
    match days {
        0 => format!("less than a day {ago}"),
        1 => format!("one day {ago}"),
        days => format!("{days} days {ago}"),
    }
}

/// What all listeners speak TLS with.
pub struct Material {
    /// For each of [`Config::listeners`], if it speaks TLS.
    servers: Vec<Option<Server>>,
    /// Each certificate with its file and what is in it.
    known: Vec<KnownCertificate>,
}

/// One listener.
struct Server {
    config: Arc<ServerConfig>,
    /// The authorities that vouch for clients; resumption depends on them.
    trust: Vec<u8>,
}

/// What is told of a certificate.
#[derive(Clone, Debug)]
pub struct KnownCertificate {
    /// Its file.
    pub chain: PathBuf,
    /// The kind of its key.
    pub kind: KeyKind,
    /// The names in it.
    pub names: Vec<String>,
    /// When it expires, in seconds since 1970.
    pub not_after_s: u64,
    not_before_s: u64,
}

impl KnownCertificate {
    /// When it expires.
    pub fn not_after(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.not_after_s)
    }
}

/// Something that works, but that an administrator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A certificate expires soon.
    ExpiresSoon {
        /// Its file.
        chain: PathBuf,
        /// Whole days that are left.
        days: u64,
    },
    /// A certificate has expired since it was read.
    Expired {
        /// Its file.
        chain: PathBuf,
    },
    /// A certificate is not valid yet.
    NotYet {
        /// Its file.
        chain: PathBuf,
    },
    /// There is no name in a certificate.
    Nameless {
        /// Its file.
        chain: PathBuf,
    },
    /// Old clients of Windows cannot connect.
    NoEcdsa,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExpiresSoon { chain, days } => {
                let (chain, days) = (chain.display(), days_in_words(*days, "from now"));
                write!(f, "the certificate {chain} expires {days}: renew it, then `systemctl reload bitsd`")
            }
            Self::Expired { chain } => write!(
                f,
                "the certificate {} has expired, and clients refuse it: renew it, then `systemctl reload bitsd`",
                chain.display()
            ),
            Self::NotYet { chain } => write!(
                f,
                "the certificate {} is not valid yet, and clients refuse it: look at the clock of this machine",
                chain.display()
            ),
            Self::Nameless { chain } => write!(
                f,
                "the certificate {} names no host (subjectAltName), and clients refuse it",
                chain.display()
            ),
            Self::NoEcdsa => f.write_str(
                "there are only RSA certificates: Windows 7, 8.1 and Server 2012 R2 cannot connect. Add an ECDSA one \
                 (P-256) beside, as docs/tls.md shows",
            ),
        }
    }
}

impl Doubt {
    /// A word for its kind.
    pub fn event(&self) -> &'static str {
        match self {
            Self::ExpiresSoon { .. } => "certificate_expires_soon",
            Self::Expired { .. } => "certificate_expired",
            Self::NotYet { .. } => "certificate_not_yet_valid",
            Self::Nameless { .. } => "certificate_without_name",
            Self::NoEcdsa => "no_ecdsa_certificate",
        }
    }
}

impl Material {
    /// Reads and checks all that the settings name. Clients that connected under `before` can
    /// resume their TLS sessions on every listener that still trusts the same authorities.
    ///
    /// # Errors
    /// [`BadMaterial`]
    pub fn read(config: &Config, before: Option<&Self>) -> Result<Self, BadMaterial> {
        let provider = Arc::new(ring::default_provider());
        let now_s = seconds_now();
        let mut pairs = Vec::new();
        let mut known = Vec::new();
        // Certificates that no listener shows are checked as well: somebody means to use them.
        for certificate in &config.certificates {
            let pair = read_pair(certificate, &provider)?;
            let (not_before_s, not_after_s) = pair.valid_s;
            if not_after_s <= now_s {
                let days = (now_s - not_after_s) / DAY_S;
                return Err(BadMaterial::Expired(certificate.chain.clone(), days));
            }
            known.push(KnownCertificate {
                chain: certificate.chain.clone(),
                kind: pair.kind,
                names: pair.names.iter().cloned().collect(),
                not_after_s,
                not_before_s,
            });
            pairs.push(pair);
        }
        let served = Arc::new(Served(pairs));
        let server = |(index, listener): (usize, &Listener)| {
            let before = before.and_then(|before| before.servers.get(index)?.as_ref());
            let (version_min, bound) = (config.tls_version_min, is_bound(config));
            (listener.tls)
                .then(|| Server::new(listener, version_min, &served, bound, &provider, before))
                .transpose()
        };
        let servers = config.listeners.iter().enumerate().map(server);
        Ok(Self {
            servers: servers.collect::<Result<_, _>>()?,
            known,
        })
    }

    /// What each of [`Config::listeners`] speaks TLS with, if it does.
    pub fn servers(&self) -> Vec<Option<Arc<ServerConfig>>> {
        let config = |server: &Option<Server>| Some(Arc::clone(&server.as_ref()?.config));
        self.servers.iter().map(config).collect()
    }

    /// The certificates.
    pub fn known(&self) -> &[KnownCertificate] {
        &self.known
    }

    /// Logs what an administrator should know.
    pub fn tell(&self) {
        for doubt in self.doubts() {
            tracing::warn!(event = doubt.event(), "{doubt}");
        }
    }

    /// What an administrator should know.
    pub fn doubts(&self) -> Vec<Doubt> {
        if self.servers.iter().all(Option::is_none) {
            return Vec::new();
        }
        let mut doubts = Vec::new();
        let now_s = seconds_now();
        for known in &self.known {
            let chain = known.chain.clone();
            let left_s = known.not_after_s.saturating_sub(now_s);
            if left_s == 0 {
                doubts.push(Doubt::Expired { chain });
            } else if now_s < known.not_before_s {
                doubts.push(Doubt::NotYet { chain });
            } else if left_s < SOON.as_secs() {
                let days = left_s / DAY_S;
                doubts.push(Doubt::ExpiresSoon { chain, days });
            }
            if known.names.is_empty() {
                let chain = known.chain.clone();
                doubts.push(Doubt::Nameless { chain });
            }
        }
        if self.known.iter().all(|known| known.kind != KeyKind::Ecdsa) {
            doubts.push(Doubt::NoEcdsa);
        }
        doubts
    }
}

impl Server {
    fn new(
        listener: &Listener,
        version_min: TlsVersion,
        served: &Arc<Served>,
        is_bound: bool,
        provider: &Arc<CryptoProvider>,
        before: Option<&Self>,
    ) -> Result<Self, BadMaterial> {
        let versions: &[_] = match version_min {
            TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_protocol_versions(versions)
            .map_err(BadMaterial::Rustls)?;
        let (builder, mut trust) = match listener.client_ca.as_os_str().is_empty() {
            true => (builder.with_no_client_auth(), Vec::new()),
            false => {
                let (verifier, trust) = read_authorities(listener, provider)?;
                (builder.with_client_cert_verifier(verifier), trust)
            }
        };
        if is_bound {
            // Whoever resumes has not seen the certificate of now, and would bind its Kerberos
            // tickets to the one before.
            served
                .0
                .iter()
                .for_each(|pair| trust.extend(&*pair.end_point));
        }
        let mut config = builder.with_cert_resolver(Arc::clone(served) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets hold all that is needed to resume, so that any shard can do it and no memory
        // fills up. A client that other authorities vouched for must show its certificate again.
        config.ticketer = match before.filter(|before| before.trust == trust) {
            Some(before) => Arc::clone(&before.config.ticketer),
            None => ticketer()?,
        };
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            trust,
        })
    }
}

/// Whether Kerberos tickets may have to be bound to a certificate.
fn is_bound(config: &Config) -> bool {
    let accounts = &config.accounts;
    !accounts.keys.is_empty() && accounts.channel_binding != ChannelBinding::Off
}

/// Its keys change by themselves, every six hours.
fn ticketer() -> Result<Arc<dyn ProducesTickets>, BadMaterial> {
    ring::Ticketer::new().map_err(BadMaterial::Rustls)
}

fn read_pair(certificate: &Certificate, provider: &CryptoProvider) -> Result<Pair, BadMaterial> {
    let chain = Pem::read(&certificate.chain)?.certificates()?;
    let key = Pem::read(&certificate.key)?;
    refuse_exposed(&certificate.key)?;
    let key = key.key()?;
    let key = (provider.key_provider.load_private_key(key))
        .map_err(|_| BadMaterial::UnknownKey(certificate.key.clone()))?;
    let key = CertifiedKey::new(chain, key);
    let not_x509 = || BadMaterial::NotX509(certificate.chain.clone());
    match key.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(BadMaterial::Mismatch(certificate.clone()));
        }
        Err(_) => return Err(not_x509()),
    }
    Pair::new(key).map_err(|_| not_x509())
}

/// A key that all accounts can read is no secret. Its group may read it: that is how a server that
/// does not run as root uses a key that belongs to root.
#[allow(clippy::disallowed_methods, reason = "not on a shard")]
fn refuse_exposed(path: &Path) -> Result<(), BadMaterial> {
    match std::fs::metadata(path) {
        Ok(file) if file.mode() & 0o027 != 0 => {
            Err(BadMaterial::Exposed(path.to_owned(), file.mode()))
        }
        // A file that cannot be looked at is told of when it is read.
        _ => Ok(()),
    }
}

/// The authorities that vouch for clients, and the bytes by which a change of them is noticed.
fn read_authorities(
    listener: &Listener,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), BadMaterial> {
    let bad = |why: String| BadMaterial::BadAuthority(listener.client_ca.clone(), why);
    let authorities = Pem::read(&listener.client_ca)?;
    let mut trust = authorities.bytes().to_vec();
    let mut roots = RootCertStore::empty();
    for certificate in authorities.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| bad(error.to_string()))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !listener.client_crl.as_os_str().is_empty() {
        let revocations = Pem::read(&listener.client_crl)?;
        trust.extend_from_slice(revocations.bytes());
        builder = builder
            .with_crls(revocations.revocations()?)
            .enforce_revocation_expiration();
    }
    let verifier = builder.build().map_err(|error| bad(error.to_string()))?;
    Ok((Arc::new(Verified::new(verifier)), trust))
}

fn seconds_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

const DAY_S: u64 = 86_400;
