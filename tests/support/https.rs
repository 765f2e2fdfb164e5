//! A server application behind https, whose certificate only those trust who are told to.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::PATIENCE;
use super::server::Settings;

/// A connection as the application sees it.
pub type Stream = StreamOwned<ServerConnection, TcpStream>;

/// The application; it ends with the test.
pub struct Https {
    port: u16,
    folder: TempDir,
}

impl Https {
    /// Starts it. `talk` has each connection once a request is there; what it leaves open is then
    /// cut off without TLS's word of the end.
    pub fn start(talk: impl Fn(&mut Stream) + Send + 'static) -> Self {
        Self::start_at(talk, true)
    }

    /// The same, where a connection is had before anything of its request was read.
    pub fn start_early(talk: impl Fn(&mut Stream) + Send + 'static) -> Self {
        Self::start_at(talk, false)
    }

    fn start_at(talk: impl Fn(&mut Stream) + Send + 'static, reads: bool) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = Arc::new(config);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(tls, stream);
                // Whoever does not trust us says nothing.
                if !reads || read_request(&mut stream) {
                    talk(&mut stream);
                }
            }
        });
        Self { port, folder }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }

    /// Of a server that trusts it.
    pub fn trusted_by(&self, settings: Settings) -> Settings {
        let certificate = self.folder.path().join("ca.pem");
        let variable = format!("SSL_CERT_FILE={}", certificate.display());
        settings.wrapper(&["env", &variable])
    }
}

/// Reads all of a request, so that the connection is not reset for what is left of it.
fn read_request(stream: &mut Stream) -> bool {
    let mut request = Vec::new();
    let mut piece = [0; 1_024];
    loop {
        let head_end = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head_end) = head_end {
            let head = String::from_utf8_lossy(&request[..head_end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if request.len() >= head_end + 4 + length {
                return true;
            }
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
            _ => return false,
        }
    }
}
