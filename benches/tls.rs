//! What it costs to decrypt: bytes of TLS that one receive brings, from memory to memory, by what
//! the server does with them on each connection. The client's half is made before, and not timed.

use std::io::Write as _;
use std::sync::Arc;

use bitsd::ring::tls::session::{RECORD_PLAIN_BYTES_MAX, TlsSession};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};

/// As many whole records as the server receives at a time (128 KiB).
const RECORDS: usize = 7;
const PLAIN_BYTES: usize = RECORDS * RECORD_PLAIN_BYTES_MAX;

/// Both ends of a connection that has just shaken hands, by TLS 1.3 and AES-128-GCM.
fn connected() -> (ClientConnection, TlsSession) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a name");
    let mut roots = RootCertStore::empty();
    roots
        .add(made.cert.der().clone())
        .expect("it was just made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("the key is the certificate's");
    let provider = CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..default_provider()
    };
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name).expect("it knows whom to trust");
    // All records are to be had at once.
    client.set_buffer_limit(None);
    let mut session = TlsSession::new(Arc::new(server)).expect("the settings are good");
    while client.is_handshaking() || session.is_handshaking() {
        let mut answer = Vec::new();
        let mut cipher = sent(&mut client);
        let digested = session.digest(&mut cipher, &mut [], &mut answer);
        assert_eq!(digested.expect("TLS").consumed, cipher.len());
        let mut answer = &answer[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).expect("it is in memory");
            client.process_new_packets().expect("TLS");
        }
    }
    (client, session)
}

/// What a client has to send.
fn sent(client: &mut ClientConnection) -> Vec<u8> {
    let mut cipher = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut cipher).expect("it goes to memory");
    }
    cipher
}

fn benches(criterion: &mut Criterion) {
    let (mut client, mut session) = connected();
    let plain = vec![0x5a; PLAIN_BYTES];
    let (mut memory, mut out) = (vec![0; PLAIN_BYTES], Vec::new());
    let mut group = criterion.benchmark_group("tls");
    group.throughput(Throughput::Bytes(PLAIN_BYTES as u64));
    group.bench_function("records of 16 KiB, AES-128-GCM, decrypted", |bencher| {
        let seal = || {
            (client.writer().write_all(&plain)).expect("it goes to memory");
            sent(&mut client)
        };
        let open = |cipher: &mut Vec<u8>| {
            let digested = session.digest(cipher, &mut memory, &mut out).expect("TLS");
            assert_eq!(digested.read, PLAIN_BYTES);
        };
        // Each is made just before, as the kernel has just copied what is received: it is in the
        // processor's cache.
        bencher.iter_batched_ref(seal, open, BatchSize::PerIteration);
    });
    group.finish();
    assert_eq!(memory, plain);
}

criterion_group!(all, benches);
criterion_main!(all);
