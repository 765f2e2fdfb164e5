//! TLS of a client: whom it believes, and why it does not, with what mends it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, ClientConfig, ClientConnection,
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use crate::named_file;
use crate::tls_words;

/// Whom a client believes that it speaks with the host of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever has a certificate of an authority that this machine knows.
    Machine,
    /// Whoever has one of an authority in this file (PEM).
    File(PathBuf),
    /// Everybody.
    Anybody,
}

/// Which cipher suites a client offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suites {
    /// All that there are, those of 256 bits first.
    #[default]
    All,
    /// Those of AES-128-GCM: what a server chooses costs the same in each run.
    Aes128Gcm,
}

impl Suites {
    fn provider(self) -> CryptoProvider {
        let mut provider = ring::default_provider();
        if self == Self::Aes128Gcm {
            provider.cipher_suites.retain(|suite| {
                matches!(
                    suite.suite(),
                    CipherSuite::TLS13_AES_128_GCM_SHA256
                        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
                )
            });
        }
        provider
    }
}

/// How connections are made secure; cheap to clone.
#[derive(Clone, Debug)]
pub struct Secure(Arc<ClientConfig>);

impl PartialEq for Secure {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Secure {}

/// Nobody can be believed.
#[derive(Debug)]
pub enum BadTrust {
    /// The file cannot be read, or is not PEM.
    File(PathBuf, String),
    /// This machine knows no authorities.
    NoAuthorities(Error),
}

impl fmt::Display for BadTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, why) => {
                write!(
                    f,
                    "no certificates of authorities in {}: {why}",
                    path.display()
                )
            }
            Self::NoAuthorities(why) => write!(
                f,
                "this machine knows no authorities for https ({why}): install the package \
                 ca-certificates, or name a file with --cacert"
            ),
        }
    }
}

impl std::error::Error for BadTrust {}

impl Secure {
    /// For all connections of a run.
    ///
    /// # Errors
    /// [`BadTrust`]
    pub fn with(trust: &Trust, suites: Suites) -> Result<Self, BadTrust> {
        let provider = Arc::new(suites.provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(BadTrust::NoAuthorities)?
            .dangerous();
        let verifier = Apart(verifier(trust, provider)?);
        let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// As many machines at once would do it: none knows of the connections of another, so that each
    /// handshake is a full one.
    #[must_use]
    pub fn of_many_machines(self) -> Self {
        let mut config = Arc::unwrap_or_clone(self.0);
        config.resumption = Resumption::disabled();
        Self(Arc::new(config))
    }

    /// A connection to this host, of which nothing has been sent yet.
    ///
    /// # Errors
    /// The host is no name and no address.
    pub(crate) fn session(&self, host: &str) -> io::Result<ClientConnection> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)
    }
}

fn verifier(
    trust: &Trust,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, BadTrust> {
    match trust {
        Trust::Machine => rustls_platform_verifier::Verifier::new(provider)
            .map(|verifier| Arc::new(verifier) as _)
            .map_err(BadTrust::NoAuthorities),
        Trust::File(path) => {
            let bad = |why: String| BadTrust::File(path.clone(), why);
            let mut roots = RootCertStore::empty();
            let text = named_file::read_pem(path);
            let text = text.map_err(|why| bad(why.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|why| bad(why.to_string()))?;
                let added = roots.add(certificate);
                added.map_err(|why| bad(tls_words::of(&why).into_owned()))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|why| bad(why.to_string()))?;
            Ok(verifier)
        }
        Trust::Anybody => Ok(Arc::new(Anybody(provider))),
    }
}

/// Tells a signature on the certificate, which is that of an authority, from one of the server
/// itself: rustls has one word for both.
#[derive(Debug)]
struct Apart(Arc<dyn ServerCertVerifier>);

impl ServerCertVerifier for Apart {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = (self.0).verify_server_cert(end_entity, intermediates, name, ocsp, now);
        verified.map_err(|error| match error {
            // Of another authority with the name of one that is trusted.
            Error::InvalidCertificate(CertificateError::BadSignature) => {
                CertificateError::UnknownIssuer.into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.0).verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        (self.0).verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Believes everybody; that the peer has the key of its certificate is still proven.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Why no secure connection comes about, however often it is tried.
#[derive(Clone, Debug)]
pub struct NotSecure(Error);

impl NotSecure {
    /// Of an error of a connection, if it is such a one.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        Self::of_tls(error.get_ref()?.downcast_ref()?)
    }

    /// The same, of what TLS says.
    pub(crate) fn of_tls(error: &Error) -> Option<Self> {
        let is_final = matches!(
            error,
            Error::InvalidCertificate(_)
                | Error::InvalidMessage(_)
                | Error::PeerIncompatible(_)
                | Error::AlertReceived(_)
                | Error::NoApplicationProtocol
        );
        is_final.then(|| Self(error.clone()))
    }
}

impl fmt::Display for NotSecure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlertDescription as Alert;
        match &self.0 {
            Error::InvalidCertificate(why) => of_certificate(why, f),
            Error::InvalidMessage(_) => f.write_str(
                "what answers there does not speak TLS: perhaps the URL is to begin with http://",
            ),
            Error::PeerIncompatible(_)
            | Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure) => {
                f.write_str("the server speaks no TLS that is known here (1.2 or 1.3, with ECDHE)")
            }
            Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied,
            ) => f.write_str(
                "the server asks for a certificate of the client, which `bitsd put` has none of",
            ),
            other => write!(f, "no secure connection comes about: {other}"),
        }
    }
}

fn of_certificate(why: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use CertificateError as Why;
    match why {
        // What is signed on the certificate is told of as above ([`Apart`]).
        Why::BadSignature => f.write_str(
            "the server has not proven that its certificate is its own: it has signed with another key, or \
             that is an RSA key of less than 2048 bits, and whoever runs the server must make a longer one",
        ),
        Why::UnknownIssuer => f.write_str(
            "the server's certificate is of an authority that is not trusted here: name its file with \
             --cacert, or install it (update-ca-certificates)",
        ),
        Why::NotValidForName => {
            f.write_str("the server's certificate is not for this host: use the name that is in it")
        }
        Why::NotValidForNameContext { presented, .. } if presented.is_empty() => f.write_str(
            "the server's certificate names no host (subjectAltName): whoever runs the server must \
             make one that does",
        ),
        Why::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            write!(
                f,
                "the server's certificate is not for {}, but for {}: use that name in the URL",
                expected.to_str(),
                names.join(", ")
            )
        }
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => f.write_str(NOT_FOR_SERVERS),
        Why::Expired | Why::ExpiredContext { .. } => f.write_str(
            "the server's certificate has expired: whoever runs the server must renew it (or the \
             clock of this machine is wrong)",
        ),
        Why::NotValidYet | Why::NotValidYetContext { .. } => f.write_str(
            "the server's certificate is not valid yet: look at the clock of this machine",
        ),
        Why::Revoked => f.write_str("the server's certificate is revoked"),
        // Of which rustls has no word of its own, but webpki has.
        Why::Other(other) => match other.to_string() {
            why if why.contains("CaUsedAsEndEntity") => f.write_str(
                "the server's certificate is that of an authority (CA:TRUE), which none of a server \
                 may be: whoever runs the server must make one without that, or one that it signs",
            ),
            why if why.contains("Eku") => f.write_str(NOT_FOR_SERVERS),
            _ => not_accepted(why, f),
        },
        other => not_accepted(other, f),
    }
}

fn not_accepted(why: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let why = tls_words::of_certificate(why);
    write!(f, "the server's certificate is not accepted: {why}")
}

const NOT_FOR_SERVERS: &str = "the server's certificate is not for servers (extendedKeyUsage): whoever runs the server \
                               must make one with serverAuth";

/// A name as a certificate has it, of which rustls gives `DnsName("host")`.
fn plain_name(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}

/// A connection, secure or not.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Shakes hands where there is something to make it secure with.
    pub(crate) fn open(
        mut socket: TcpStream,
        host: &str,
        secure: Option<&Secure>,
    ) -> io::Result<Self> {
        let Some(secure) = secure else {
            return Ok(Self::Plain(socket));
        };
        let mut session = secure.session(host)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self::Secure(Box::new(StreamOwned::new(session, socket))))
    }

    /// The socket beneath.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }

    /// Bytes for the reader, the end, or an error; never waits.
    pub(crate) fn has_something_to_read(&mut self) -> bool {
        if self.socket().set_nonblocking(true).is_err() {
            return true;
        }
        let has_something = match self {
            Self::Plain(socket) => {
                let peeked = socket.peek(&mut [0]);
                !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Secure(stream) => look(stream),
        };
        self.socket().set_nonblocking(false).is_err() || has_something
    }
}

/// Takes in what has come: it may be nothing but a ticket.
fn look(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> bool {
    loop {
        match stream.conn.read_tls(&mut stream.sock) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return true,
        }
        if stream.conn.process_new_packets().is_err() {
            return true;
        }
    }
    (stream.conn.process_new_packets())
        .is_ok_and(|state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
}

impl Read for Stream {
    fn read(&mut self, memory: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(memory),
            Self::Secure(stream) => stream.read(memory),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds each signature wrong, on the certificate and of the server.
    #[derive(Debug)]
    struct Doubter;

    impl ServerCertVerifier for Doubter {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Err(CertificateError::BadSignature.into())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(CertificateError::BadSignature.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls12_signature(message, certificate, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    #[test]
    fn a_wrong_signature_of_the_server_is_no_foreign_authority() {
        let says = |error: &Error| NotSecure::of_tls(error).unwrap().to_string();
        let apart = Apart(Arc::new(Doubter));
        let name = ServerName::try_from("localhost").unwrap();
        let (own, now) = (CertificateDer::from(vec![]), UnixTime::now());
        let of_authority = apart.verify_server_cert(&own, &[], &name, &[], now);
        assert!(says(&of_authority.unwrap_err()).contains("an authority that is not trusted here"));
        // What comes of the handshake goes through as it is.
        let of_server = says(&CertificateError::BadSignature.into());
        assert!(
            of_server.contains("has not proven that its certificate is its own"),
            "{of_server}"
        );
        let other = rustls::OtherError(Arc::new(io::Error::other("NameConstraintViolation")));
        let other = says(&CertificateError::Other(other).into());
        assert!(other.contains("nameConstraints"), "{other}");
    }

    #[test]
    fn who_asks_for_one_cipher_offers_no_other() {
        let offered = |suites: Suites| {
            let suites = suites.provider().cipher_suites.into_iter();
            suites.map(|suite| format!("{:?}", suite.suite())).collect()
        };
        let of_128: Vec<String> = offered(Suites::Aes128Gcm);
        // TLS 1.3, and TLS 1.2 with either kind of certificate.
        assert_eq!(of_128.len(), 3, "{of_128:?}");
        assert!(of_128.iter().all(|name| name.contains("AES_128_GCM")));
        assert!(offered(Suites::All).len() > of_128.len());
    }
}
