//! TLS over the simulator's network: the server's own code ([`bitsd::ring::tls::wire`]) over a
//! virtual connection, and a client of rustls at the other end.
//!
//! Keys and nonces come from the system and differ from run to run. Nothing of a story depends on
//! them: with a key of Ed25519 all messages have the same lengths each time, and stories tell what
//! was said, not how it was encrypted.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bitsd::ring::tls::line::{Carrier, CipherPool, Received};
use bitsd::ring::tls::served::{Pair, Served};
use bitsd::ring::tls::wire::{Kit, Tls};
use bitsd::vault::disk::Block;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

use crate::clock::sleep;
use crate::wire::Conn;

const NAME: &str = "simulated.example";

/// What servers and clients of all runs agree on.
struct Material {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

fn material() -> &'static Material {
    static MATERIAL: OnceLock<Material> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let provider = Arc::new(ring::default_provider());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let params = rcgen::CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        let own = params.self_signed(&key).expect("a certificate");
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let signer = provider.key_provider.load_private_key(der).expect("a key");
        let certified = CertifiedKey::new(vec![own.der().clone()], signer);
        let served = Served(vec![Pair::new(certified).expect("a certificate")]);
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("they are known")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(served));
        server.send_tls13_tickets = 1;
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("a certificate");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("they are known")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Material {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    })
}

/// The server's side of a connection that was just made.
pub fn server_side(kit: &Rc<Kit>) -> Tls {
    let config = Arc::clone(&material().server);
    Tls::new(config, Rc::clone(kit)).expect("rustls takes these settings")
}

/// Memory for bytes that are encrypted.
pub struct SimCipher(Vec<u8>);

impl Block for SimCipher {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Carrier for Conn {
    type Cipher = SimCipher;

    fn cipher_block(&self, _: &CipherPool, bytes: usize) -> SimCipher {
        SimCipher(vec![0x5a; bytes])
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.sim().executor.now())
    }

    async fn pause(&self, wait: Duration) {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        sleep(&self.sim().executor, ms).await;
    }

    async fn readable(&self) -> io::Result<()> {
        self.arrived().await;
        Ok(())
    }

    fn peek_now(&self) -> Option<u8> {
        self.first_arrived()
    }

    fn receive_now(&self, memory: &mut [u8]) -> io::Result<Option<usize>> {
        self.receive(memory).transpose()
    }

    async fn receive_all(
        &self,
        mut block: SimCipher,
        range: Range<usize>,
    ) -> (io::Result<Received>, SimCipher) {
        let filled = self.receive_whole(&mut block.0[range]).await;
        (filled, block)
    }

    async fn send_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.push(&bytes).await
    }

    fn send_now(&self, bytes: &[u8]) {
        self.push_now(bytes);
    }
}

/// The client's side.
pub struct ClientSide {
    connection: RefCell<ClientConnection>,
}

/// What a client finds in what it has decrypted.
pub enum Found {
    /// So many bytes.
    Bytes(usize),
    /// The server said that nothing more comes.
    End,
    /// More must be received.
    Nothing,
}

impl ClientSide {
    /// Of which nothing has been sent.
    pub fn new() -> Self {
        let name = ServerName::try_from(NAME).expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(&material().client), name)
            .expect("rustls takes these settings");
        connection.set_buffer_limit(None);
        Self {
            connection: RefCell::new(connection),
        }
    }

    /// Whether both sides have not agreed on keys yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.borrow().is_handshaking()
    }

    /// Takes bytes to be sent.
    pub fn seal(&self, bytes: &[u8]) {
        let mut connection = self.connection.borrow_mut();
        connection
            .writer()
            .write_all(bytes)
            .expect("without a limit");
    }

    /// Says that nothing more is sent.
    pub fn close(&self) {
        self.connection.borrow_mut().send_close_notify();
    }

    /// What is to be sent.
    pub fn take_out(&self) -> Vec<u8> {
        let (mut connection, mut out) = (self.connection.borrow_mut(), Vec::new());
        while connection.wants_write() {
            connection
                .write_tls(&mut out)
                .expect("memory takes all of it");
        }
        out
    }

    /// Works through what was received; nothing is the end.
    pub fn digest(&self, mut bytes: &[u8]) -> Result<(), rustls::Error> {
        let mut connection = self.connection.borrow_mut();
        loop {
            let read = connection.read_tls(&mut bytes).map_err(|why| {
                let why = why.to_string();
                rustls::Error::General(why)
            })?;
            connection.process_new_packets()?;
            if read == 0 || bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Gives what was decrypted.
    ///
    /// # Errors
    /// The server has ended without saying so.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Found> {
        match self.connection.borrow_mut().reader().read(into) {
            Ok(0) => Ok(Found::End),
            Ok(bytes) => Ok(Found::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }
}
