//! Who vouches for the certificates of clients: the authorities of a listener, and their lists of
//! revocations.
//!
//! A certificate counts only if its authority has a list that has not expired, where there are
//! lists at all. So a list that was not renewed shuts everybody out, and the log of each handshake
//! would be the first that tells of it. What is read here is therefore held against each other
//! before it is used.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Reader as _, SliceReader, Tag};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::bad_material::BadMaterial;
use super::doubt::{DAY_S, Doubt, OfTrust, SOON};
use super::pem::Pem;
use super::signed::SignedX509;
use super::verified::{SUBJECT_CHARS_MAX, Verified};
use crate::config::Listener;
use crate::tls_words;

/// Whom a listener trusts.
pub struct Trust {
    /// What proves certificates.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// Bytes by which a change of them is noticed.
    pub bytes: Vec<u8>,
    /// What is told of them.
    pub vouching: Vouching,
}

/// What is told of the authorities of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouching {
    /// `client_ca`
    pub file: PathBuf,
    /// Those in it.
    pub authorities: Vec<Authority>,
    /// `client_crl`, if there is one, and the lists in it, the newest first.
    pub revocations: Option<(PathBuf, Vec<List>)>,
    /// SHA-256 of the one file and of the other.
    digests: [[u8; 32]; 2],
}

/// One that signs certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Its name.
    pub subject: String,
    /// When its own certificate expires, in seconds since 1970. Clients get in all the same: what
    /// the settings name is trusted (RFC 5280 6.1.1 d).
    pub not_after_s: u64,
    /// Whether its certificate may sign others.
    signs: bool,
    /// Which of the lists is found for it, and whether that is signed with its key.
    list: Option<(usize, bool)>,
}

/// One list of revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Whose it is.
    pub issuer: String,
    /// When it expires, in seconds since 1970.
    pub not_after_s: u64,
    from_s: u64,
    /// SHA-256 of the key that has signed it, if it is that of an authority in the settings.
    signer: Option<[u8; 32]>,
}

impl Trust {
    /// Reads the files that a listener names.
    ///
    /// # Errors
    /// [`BadMaterial`], also if no certificate at all would count.
    pub fn read(
        listener: &Listener,
        provider: &Arc<CryptoProvider>,
        now_s: u64,
    ) -> Result<Self, BadMaterial> {
        let (file, lists_file) = (&listener.client_ca, &listener.client_crl);
        let of_file = BadMaterial::of_file("listener.client_ca");
        let of_lists = BadMaterial::of_file("listener.client_crl");
        let pem = BadMaterial::unless_exposed(Pem::read(file).map_err(&of_file)?)?;
        let mut bytes = pem.bytes().to_vec();
        let mut digests = [Sha256::digest(pem.bytes()).into(), [0; 32]];
        let certificates = pem.certificates().map_err(&of_file)?;
        let anchors: Vec<_> = certificates.iter().map(Anchor::read).collect();
        let mut lists = Vec::new();
        let has_lists = !lists_file.as_os_str().is_empty();
        if has_lists {
            let pem = Pem::read(lists_file).map_err(&of_lists)?;
            bytes.extend_from_slice(pem.bytes());
            digests[1] = Sha256::digest(pem.bytes()).into();
            let all = pem.revocations().map_err(&of_lists)?.into_iter();
            lists = all
                .map(|list| KnownList::read(list, &anchors, provider))
                .collect();
            // webpki takes the first that has the name of the authority, and looks for no other.
            lists.sort_by_key(|list| Reverse(list.header.as_ref().map(|header| header.from_s)));
        }
        let make = |anchors: &[&CertificateDer<'static>], lists: &[&KnownList]| {
            verifier(anchors, has_lists.then_some(lists), provider).map_err(|why| match why {
                NoVerifier::Authority(why) => bad(file, tls_words::of(&why)),
                NoVerifier::Built(VerifierBuilderError::InvalidCrl(why)) => {
                    BadMaterial::BadList(lists_file.clone(), why)
                }
                NoVerifier::Built(why) => bad(file, why),
            })
        };
        let all = make(&Vec::from_iter(&certificates), &Vec::from_iter(&lists))?;
        let apart = apart(&certificates, &anchors, &lists);
        let apart = apart.iter().map(|(anchors, lists)| make(anchors, lists));
        let verifier = Verified::new(all, apart.collect::<Result<_, _>>()?);
        let headers = lists.iter().filter_map(|list| list.header.as_ref());
        let headers: Vec<_> = headers.collect();
        let known = anchors.iter().flatten();
        let known = known.map(|anchor| Authority::of(anchor, &headers));
        let lists = headers.iter().map(|header| header.list()).collect();
        let vouching = Vouching {
            file: file.clone(),
            authorities: known.collect(),
            revocations: has_lists.then(|| (lists_file.clone(), lists)),
            digests,
        };
        // Those that could not be understood here may be good ones.
        let is_all = vouching.authorities.len() == certificates.len();
        match vouching.shuts_out(now_s) {
            Some(doubt) if is_all => Err(BadMaterial::NobodyVouches(Box::new(doubt))),
            _ => Ok(Self {
                verifier: Arc::new(verifier),
                bytes,
                vouching,
            }),
        }
    }
}

/// What proves certificates of these authorities by these lists, if by any.
fn verifier(
    anchors: &[&CertificateDer<'static>],
    lists: Option<&[&KnownList]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, NoVerifier> {
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        let added = roots.add(CertificateDer::clone(anchor));
        added.map_err(NoVerifier::Authority)?;
    }
    let roots = Arc::new(roots);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if let Some(lists) = lists {
        let lists = lists.iter().map(|list| list.der.clone());
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder.build().map_err(NoVerifier::Built)
}

/// Why there is no verifier.
enum NoVerifier {
    Authority(rustls::Error),
    Built(VerifierBuilderError),
}

/// Authorities, and the lists by which their certificates are looked at.
type Apart<'a> = (Vec<&'a CertificateDer<'static>>, Vec<&'a KnownList>);

/// An authority that was renewed with another key has a list by each of its keys. webpki finds
/// lists by the name alone, so each of these keys is looked at apart, with its own lists. Nothing
/// is apart where no name has two.
fn apart<'a>(
    certificates: &'a [CertificateDer<'static>],
    anchors: &'a [Option<Anchor>],
    lists: &'a [KnownList],
) -> Vec<Apart<'a>> {
    let is_namesake = |anchor: &Anchor, list: &KnownList| {
        let header = list.header.as_ref();
        header
            .is_some_and(|one| one.issuer == *anchor.subject() && one.signer != Some(anchor.key_id))
    };
    let is_own = |anchor: &Anchor, list: &KnownList| {
        let header = list.header.as_ref();
        header.is_some_and(|one| one.signer == Some(anchor.key_id))
    };
    let is_apart = |anchor: &Anchor| {
        lists.iter().any(|list| is_own(anchor, list))
            && lists.iter().any(|list| is_namesake(anchor, list))
    };
    let all = || certificates.iter().zip(anchors);
    let mut found: Vec<Apart<'_>> = Vec::new();
    let mut seen = Vec::new();
    for anchor in anchors.iter().flatten().filter(|anchor| is_apart(anchor)) {
        let who = (anchor.subject(), anchor.key_id);
        if seen.contains(&who) {
            continue;
        }
        seen.push(who);
        let same = |other: &Anchor| (other.subject(), other.key_id) == who;
        let of_key = all().filter(|(_, other)| other.as_ref().is_some_and(same));
        let of_key = of_key.map(|(certificate, _)| certificate).collect();
        let own = lists.iter().filter(|list| !is_namesake(anchor, list));
        found.push((of_key, own.collect()));
    }
    if !found.is_empty() {
        let others = all().filter(|(_, other)| !other.as_ref().is_some_and(is_apart));
        let others: Vec<_> = others.map(|(certificate, _)| certificate).collect();
        if !others.is_empty() {
            found.push((others, lists.iter().collect()));
        }
    }
    found
}

fn bad(file: &Path, why: impl ToString) -> BadMaterial {
    BadMaterial::BadAuthority(file.to_owned(), why.to_string())
}

impl Vouching {
    /// What an administrator should know.
    pub fn doubts(&self, now_s: u64) -> Vec<Doubt> {
        let of_authorities = self.authorities.iter().flat_map(|authority| {
            let shut_out = self.why_not(authority, now_s);
            shut_out.into_iter().chain(self.ageing(authority, now_s))
        });
        let of_lists = (self.revocations.iter()).flat_map(|(file, lists)| {
            let doubts = newest(lists).filter_map(|list| list.doubt(file, now_s));
            doubts.collect::<Vec<_>>()
        });
        let mut doubts = Vec::new();
        for doubt in of_authorities.chain(of_lists) {
            if !doubts.contains(&doubt) {
                doubts.push(doubt);
            }
        }
        doubts
    }

    /// Which of its files is one of `before` too, and holds something else now, in words.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.file == before.file && self.digests[0] != before.digests[0] {
            let file = self.file.display();
            found.push(format!("client_ca {file}: other authorities"));
        }
        if let (Some((now, _)), Some((then, _))) = (&self.revocations, &before.revocations)
            && now == then
            && self.digests[1] != before.digests[1]
        {
            found.push(format!("client_crl {}: other revocations", now.display()));
        }
        found
    }

    /// The lists of revocations, the newest of an authority first.
    pub fn lists(&self) -> &[List] {
        self.revocations.as_ref().map_or(&[], |(_, lists)| lists)
    }

    /// The moments at which something about it changes, in seconds since 1970.
    pub fn moments(&self) -> impl Iterator<Item = u64> {
        let lists = (self.lists().iter()).flat_map(|list| [list.soon_s(), list.not_after_s]);
        let authorities = self.authorities.iter();
        lists.chain(authorities.map(|authority| authority.not_after_s))
    }

    /// Why no certificate counts, if that is so: the reason of the first authority.
    fn shuts_out(&self, now_s: u64) -> Option<Doubt> {
        let whys = (self.authorities.iter()).map(|authority| self.why_not(authority, now_s));
        let whys: Option<Vec<_>> = whys.collect();
        whys?.into_iter().next()
    }

    /// Why no certificate of this authority counts.
    fn why_not(&self, authority: &Authority, now_s: u64) -> Option<Doubt> {
        if !authority.signs {
            return Some(authority.doubt(&self.file, OfTrust::NoAuthority));
        }
        let (file, lists) = self.revocations.as_ref()?;
        match authority.list {
            None => Some(authority.doubt(file, OfTrust::NoList)),
            Some((_, false)) => Some(authority.doubt(file, OfTrust::ForeignList)),
            Some((at, true)) => {
                let list = &lists[at];
                let doubt = list.doubt(file, now_s);
                doubt.filter(|_| list.not_after_s <= now_s)
            }
        }
    }

    fn ageing(&self, authority: &Authority, now_s: u64) -> Option<Doubt> {
        let what = match authority.not_after_s.saturating_sub(now_s) {
            0 => OfTrust::Expired,
            left_s if left_s < SOON.as_secs() => OfTrust::ExpiresSoon(left_s / DAY_S),
            _ => return None,
        };
        Some(authority.doubt(&self.file, what))
    }
}

impl List {
    /// From when on it is told that it expires. Most are made for a week, and the next one comes
    /// some hours before that.
    fn soon_s(&self) -> u64 {
        let life_s = self.not_after_s.saturating_sub(self.from_s);
        self.not_after_s - (life_s / 2).min(DAY_S)
    }

    fn doubt(&self, file: &Path, now_s: u64) -> Option<Doubt> {
        let what = match self.not_after_s.saturating_sub(now_s) {
            0 => OfTrust::ListExpired((now_s - self.not_after_s) / DAY_S),
            left_s if self.soon_s() <= now_s => OfTrust::ListExpiresSoon(left_s / 3_600),
            _ => return None,
        };
        Some(Doubt::Trust {
            file: file.to_owned(),
            whose: self.issuer.clone(),
            what,
        })
    }
}

/// Those that are looked at: of those that one authority has signed with one key, the newest. They
/// come in this order.
pub fn newest(lists: &[List]) -> impl Iterator<Item = &List> {
    let is_of_same =
        |one: &List, other: &List| one.issuer == other.issuer && one.signer == other.signer;
    let all = lists.iter().enumerate();
    let newest =
        all.filter(move |(at, list)| !lists[..*at].iter().any(|one| is_of_same(one, list)));
    newest.map(|(_, list)| list)
}

/// The certificate of an authority, with what tells it from others: those that were renewed have
/// the same name.
struct Anchor {
    certificate: Certificate,
    /// SHA-256 of the bits of its key.
    key_id: [u8; 32],
}

impl Anchor {
    /// None if it cannot be understood; webpki says why.
    fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let key_id = Sha256::digest(key_of(&certificate)).into();
        Some(Self {
            certificate,
            key_id,
        })
    }

    fn subject(&self) -> &Name {
        self.certificate.tbs_certificate().subject()
    }
}

/// The bits of the key of a certificate.
fn key_of(certificate: &Certificate) -> &[u8] {
    let key = certificate.tbs_certificate().subject_public_key_info();
    key.subject_public_key.raw_bytes()
}

impl Authority {
    /// What is in its certificate, and which of the lists is its own.
    fn of(anchor: &Anchor, lists: &[&Header]) -> Self {
        let content = anchor.certificate.tbs_certificate();
        let subject = content.subject();
        let constraints = content.get_extension::<BasicConstraints>();
        let may_sign = matches!(
            constraints,
            Ok(Some((_, BasicConstraints { ca: true, .. })))
        );
        let has_name = |list: &&Header| list.issuer == *subject;
        let is_own = |list: &&Header| has_name(list) && list.signer == Some(anchor.key_id);
        let own = lists.iter().position(is_own).map(|at| (at, true));
        let list = own.or_else(|| Some((lists.iter().position(has_name)?, false)));
        Self {
            subject: words(subject),
            not_after_s: seconds(content.validity().not_after),
            // A certificate that vouches for itself may be the client's own.
            signs: may_sign || content.issuer() == subject,
            list,
        }
    }

    fn doubt(&self, file: &Path, what: OfTrust) -> Doubt {
        Doubt::Trust {
            file: file.to_owned(),
            whose: self.subject.clone(),
            what,
        }
    }
}

/// A list of revocations.
struct KnownList {
    der: CertificateRevocationListDer<'static>,
    /// None if it cannot be understood; webpki says why.
    header: Option<Header>,
}

impl KnownList {
    fn read(
        der: CertificateRevocationListDer<'static>,
        anchors: &[Option<Anchor>],
        provider: &CryptoProvider,
    ) -> Self {
        let header = Header::read(&der, anchors, provider);
        Self { der, header }
    }
}

/// What stands before the revocations in a list (RFC 5280 5.1), and whose key has signed it.
struct Header {
    issuer: Name,
    from_s: u64,
    not_after_s: u64,
    /// SHA-256 of the key, if it is one of the authorities'.
    signer: Option<[u8; 32]>,
}

impl Header {
    fn read(
        list: &CertificateRevocationListDer<'_>,
        anchors: &[Option<Anchor>],
        provider: &CryptoProvider,
    ) -> Option<Self> {
        let signed = SignedX509::read(list)?;
        let mut reader = SliceReader::new(signed.content).ok()?;
        let read = reader.sequence::<_, _, x509_cert::der::Error>(|content| {
            if Tag::peek(content)? == Tag::Integer {
                content.tlv_bytes()?;
            }
            AlgorithmIdentifierOwned::decode(content)?;
            let issuer = Name::decode(content)?;
            let (from, until) = (Time::decode(content)?, Time::decode(content)?);
            content.read_slice(content.remaining_len())?;
            Ok((issuer, seconds(from), seconds(until)))
        });
        let (issuer, from_s, not_after_s) = read.ok()?;
        let mut named = anchors.iter().flatten();
        let signer = named.find(|anchor| {
            *anchor.subject() == issuer && signed.is_by(key_of(&anchor.certificate), provider)
        });
        Some(Self {
            signer: signer.map(|anchor| anchor.key_id),
            issuer,
            from_s,
            not_after_s,
        })
    }

    fn list(&self) -> List {
        List {
            issuer: words(&self.issuer),
            not_after_s: self.not_after_s,
            from_s: self.from_s,
            signer: self.signer,
        }
    }
}

/// Seconds since 1970.
pub fn seconds(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

/// A name as it is told, and compared.
pub fn words(name: &Name) -> String {
    name.to_string().chars().take(SUBJECT_CHARS_MAX).collect()
}
