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
use x509_cert::der::asn1::BitString;
use x509_cert::der::{Decode as _, Reader as _, SliceReader, Tag};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::bad_material::BadMaterial;
use super::doubt::{DAY_S, Doubt, OfTrust, SOON};
use super::pem::Pem;
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
        let pem = Pem::read(file)?;
        let mut bytes = pem.bytes().to_vec();
        let mut digests = [Sha256::digest(pem.bytes()).into(), [0; 32]];
        let certificates = pem.certificates()?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let bad = |error: rustls::Error| bad(file, tls_words::of(&error));
            roots.add(certificate.clone()).map_err(bad)?;
        }
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let mut headers = Vec::new();
        let has_lists = !lists_file.as_os_str().is_empty();
        if has_lists {
            let pem = Pem::read(lists_file)?;
            bytes.extend_from_slice(pem.bytes());
            digests[1] = Sha256::digest(pem.bytes()).into();
            let mut lists = pem.revocations()?;
            // webpki takes the first that has the name of the authority, and looks for no other.
            lists.sort_by_cached_key(|list| Reverse(Header::read(list).map(|list| list.from_s)));
            headers = lists.iter().filter_map(Header::read).collect();
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let verifier = builder.build().map_err(|error| match error {
            VerifierBuilderError::InvalidCrl(why) => BadMaterial::BadList(lists_file.clone(), why),
            error => bad(file, error),
        })?;
        let known = certificates.iter();
        let known = known.filter_map(|own| Authority::read(own, &headers, provider));
        let lists = headers.iter().map(Header::list).collect();
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
                verifier: Arc::new(Verified::new(verifier)),
                bytes,
                vouching,
            }),
        }
    }
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
            let doubts = (lists.iter().enumerate())
                // An older one beside the newest is not looked at.
                .filter(|(at, list)| lists[..*at].iter().all(|one| one.issuer != list.issuer))
                .filter_map(|(_, list)| list.doubt(file, now_s));
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

impl Authority {
    /// What is in its certificate, and which of the lists is its own.
    fn read(
        certificate: &CertificateDer<'_>,
        lists: &[Header],
        provider: &CryptoProvider,
    ) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let content = certificate.tbs_certificate();
        let (subject, key) = (content.subject(), content.subject_public_key_info());
        let constraints = content.get_extension::<BasicConstraints>();
        let may_sign = matches!(
            constraints,
            Ok(Some((_, BasicConstraints { ca: true, .. })))
        );
        let key = key.subject_public_key.raw_bytes();
        let own = lists.iter().position(|list| list.issuer == *subject);
        Some(Self {
            subject: words(subject),
            not_after_s: seconds(content.validity().not_after),
            // A certificate that vouches for itself may be the client's own.
            signs: may_sign || content.issuer() == subject,
            list: own.map(|at| (at, lists[at].is_signed_with(key, provider))),
        })
    }

    fn doubt(&self, file: &Path, what: OfTrust) -> Doubt {
        Doubt::Trust {
            file: file.to_owned(),
            whose: self.subject.clone(),
            what,
        }
    }
}

/// What stands before the revocations in a list, and its signature (RFC 5280 5.1).
struct Header {
    issuer: Name,
    from_s: u64,
    not_after_s: u64,
    signed: Vec<u8>,
    signature: BitString,
}

impl Header {
    /// None if it cannot be understood; webpki says why.
    fn read(list: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let mut reader = SliceReader::new(list).ok()?;
        let parts = reader.sequence::<_, _, x509_cert::der::Error>(|list| {
            let signed = list.tlv_bytes()?;
            AlgorithmIdentifierOwned::decode(list)?;
            Ok((signed, BitString::decode(list)?))
        });
        let (signed, signature) = parts.ok()?;
        let mut reader = SliceReader::new(signed).ok()?;
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
        Some(Self {
            issuer,
            from_s,
            not_after_s,
            signed: signed.to_vec(),
            signature,
        })
    }

    /// Whether it is signed with the key of an authority, by any way that is taken.
    fn is_signed_with(&self, key: &[u8], provider: &CryptoProvider) -> bool {
        let ways = provider.signature_verification_algorithms.all;
        let signature = self.signature.raw_bytes();
        ways.iter()
            .any(|way| way.verify_signature(key, &self.signed, signature).is_ok())
    }

    fn list(&self) -> List {
        List {
            issuer: words(&self.issuer),
            not_after_s: self.not_after_s,
            from_s: self.from_s,
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
