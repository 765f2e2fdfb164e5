//! What TLS shows and whom it trusts: read from files at the start, and anew at each reload.
//!
//! All of it is read and checked before any of it is used: a file that is missing or broken, or a
//! key that belongs to another certificate, changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use sha2::{Digest as _, Sha256};

use super::bad_material::BadMaterial;
use super::behind::Behind;
use super::doubt::{Age, DAY_S, Doubt};
use super::pem::Pem;
use super::served::{KeyKind, Pair, Served};
use super::trust::{Trust, Vouching};
use super::validity::{Terms, Validity};
use crate::config::{Certificate, ChannelBinding, Config, Listener, TlsVersion};
use crate::wall_clock;

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
    /// Whether they are still those, be it nobody; with a digest of their files.
    validity: (Validity, [u8; 32]),
    /// What is told of them.
    vouching: Option<Vouching>,
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
    is_for_servers: bool,
    /// The rest of its chain, if that can be understood.
    behind: Option<Behind>,
    /// There was a rest before a reload, and is none now.
    is_shortened: bool,
    digest: [u8; 32],
}

impl KnownCertificate {
    fn is_valid(&self, now_s: u64) -> bool {
        (self.not_before_s..self.not_after_s).contains(&now_s)
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
            let (pair, behind) = read_pair(certificate, &provider)?;
            let (not_before_s, not_after_s) = pair.valid_s;
            if not_after_s <= now_s {
                let days = (now_s - not_after_s) / DAY_S;
                return Err(BadMaterial::Expired(certificate.chain.clone(), days));
            }
            let then = before.and_then(|before| before.of(&certificate.chain));
            let was_valid = then.is_some_and(|then| then.is_valid(now_s));
            if now_s < not_before_s && was_valid {
                let chain = certificate.chain.clone();
                return Err(BadMaterial::NotYet(chain, not_before_s));
            }
            let is_alone = behind.as_ref().is_some_and(Behind::is_alone);
            let had_company = |then: &KnownCertificate| {
                then.is_shortened || then.behind.as_ref().is_some_and(|behind| behind.is_any)
            };
            known.push(KnownCertificate {
                chain: certificate.chain.clone(),
                is_shortened: is_alone && then.is_some_and(had_company),
                behind,
                kind: pair.kind,
                names: pair.names.iter().cloned().collect(),
                not_after_s,
                not_before_s,
                is_for_servers: pair.is_for_servers,
                digest: pair.digest,
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

    /// The certificate of a file.
    fn of(&self, chain: &Path) -> Option<&KnownCertificate> {
        self.known.iter().find(|known| known.chain == *chain)
    }

    /// What each of [`Config::listeners`] speaks TLS with, if it does.
    pub fn servers(&self) -> Vec<Option<Terms>> {
        let terms = |server: &Server| Terms {
            config: Arc::clone(&server.config),
            validity: server.validity.0.clone(),
        };
        let terms = |server: &Option<Server>| server.as_ref().map(terms);
        self.servers.iter().map(terms).collect()
    }

    /// `now` holds instead: whoever came by a certificate that others vouched for has to show it
    /// again, on another connection.
    pub fn give_way(&self, now: &Self) {
        for (index, server) in self.servers.iter().enumerate() {
            let now = now.servers.get(index).and_then(Option::as_ref);
            if let Some(server) = server {
                let before = &server.validity.0;
                let is_other = match now {
                    Some(now) => !now.validity.0.is(before),
                    None => server.vouching.is_some(),
                };
                if is_other {
                    before.end();
                }
            }
        }
    }

    /// The certificates.
    pub fn known(&self) -> &[KnownCertificate] {
        &self.known
    }

    /// Who vouches for clients, each once.
    pub fn vouching(&self) -> Vec<&Vouching> {
        let mut all = Vec::new();
        for vouching in self.servers.iter().flatten() {
            all.extend((vouching.vouching.as_ref()).filter(|one| !all.contains(one)));
        }
        all
    }

    /// What stands in files that `before` has read too, and is something else now, in words.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for now in &self.known {
            let mut all = before.known.iter();
            if all.any(|known| known.chain == now.chain && known.digest != now.digest) {
                let until = wall_clock::to_the_second(now.not_after_s);
                let chain = now.chain.display();
                found.push(format!("certificate {chain}: another one, until {until}"));
            }
        }
        let before = before.vouching();
        for vouching in self.vouching() {
            let all = before.iter();
            found.extend(all.flat_map(|before| vouching.changes(before)));
        }
        found.sort();
        found.dedup();
        found
    }

    /// For how long nothing changes that [`Self::tell`] would tell; [`Duration::MAX`] if nothing
    /// will.
    pub fn unchanged_for(&self) -> Duration {
        let now_s = seconds_now();
        let known = self.known.iter();
        let moments = known.flat_map(|known| {
            let way = known.behind.iter().flat_map(|behind| &behind.way);
            let way = way.flat_map(|one| [one.not_before_s, one.not_after_s]);
            way.chain([known.not_before_s, known.not_after_s])
        });
        let moments = moments.chain(self.vouching().into_iter().flat_map(Vouching::moments));
        let next_s = moments.filter(|moment| *moment > now_s).min();
        next_s.map_or(Duration::MAX, |next_s| Duration::from_secs(next_s - now_s))
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
            let chain = || known.chain.clone();
            let age = Age::of(known.not_before_s, known.not_after_s, now_s);
            doubts.extend(age.map(|age| Doubt::Aged {
                chain: chain(),
                age,
            }));
            if known.names.is_empty() {
                doubts.push(Doubt::Nameless { chain: chain() });
            }
            if !known.is_for_servers {
                doubts.push(Doubt::NotForServers { chain: chain() });
            }
            let behind = known.behind.iter();
            doubts.extend(behind.flat_map(|behind| {
                let found = behind.doubts(known.is_shortened, now_s).into_iter();
                found.map(|what| Doubt::Behind {
                    chain: chain(),
                    what,
                })
            }));
        }
        if self.known.iter().all(|known| known.kind != KeyKind::Ecdsa) {
            let has_rsa = self.known.iter().any(|known| known.kind == KeyKind::Rsa);
            doubts.push(Doubt::NoEcdsa { has_rsa });
        }
        for vouching in self.vouching() {
            doubts.extend(vouching.doubts(now_s));
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
        let mut vouching = None;
        let (builder, mut trust) = match listener.client_ca.as_os_str().is_empty() {
            true => (builder.with_no_client_auth(), Vec::new()),
            false => {
                let trust = Trust::read(listener, provider, seconds_now())?;
                vouching = Some(trust.vouching);
                let builder = builder.with_client_cert_verifier(trust.verifier);
                (builder, trust.bytes)
            }
        };
        let digest = Sha256::digest(&trust).into();
        let before_it = before.map(|before| before.validity.clone());
        let lists = vouching.as_ref().map_or(&[][..], Vouching::lists);
        let validity = (before_it.filter(|(_, known)| *known == digest))
            .unwrap_or_else(|| (Validity::new(lists.to_vec()), digest));
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
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if vouching.is_some() {
            // A ticket would let a client in by a certificate that has expired since, or by a list
            // of revoked ones that has: rustls takes it out of the ticket, and asks nobody.
            config.send_tls13_tickets = 0;
        } else {
            // Tickets hold all that is needed to resume, so that any shard can do it and no memory
            // fills up.
            config.ticketer = match before.filter(|before| before.trust == trust) {
                Some(before) => Arc::clone(&before.config.ticketer),
                None => ticketer()?,
            };
            config.send_tls13_tickets = 1;
        }
        Ok(Self {
            config: Arc::new(config),
            trust,
            validity,
            vouching,
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

/// A certificate with its key, and the rest of its chain, if that can be understood.
fn read_pair(
    certificate: &Certificate,
    provider: &CryptoProvider,
) -> Result<(Pair, Option<Behind>), BadMaterial> {
    let of_chain = BadMaterial::of_file("certificate.chain");
    let of_key = BadMaterial::of_file("certificate.key");
    let chain = BadMaterial::unless_exposed(Pem::read(&certificate.chain).map_err(&of_chain)?)?;
    let chain = chain.certificates().map_err(&of_chain)?;
    let key = BadMaterial::unless_exposed(Pem::read(&certificate.key).map_err(&of_key)?)?;
    let key = key.key().map_err(&of_key)?;
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
    let behind = Behind::read(&key.cert, provider);
    Ok((Pair::new(key).map_err(|_| not_x509())?, behind))
}

fn seconds_now() -> u64 {
    wall_clock::since_1970().as_secs()
}
