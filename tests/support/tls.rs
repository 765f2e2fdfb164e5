//! An authority of the test's own, certificates of it, and settings that use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use super::server::Settings;

/// An authority, whose files end with the test.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pair {
    /// As it stands in settings.
    pub fn table(&self) -> String {
        format!(
            "[[certificate]]\nchain = {:?}\nkey = {:?}\n",
            self.chain, self.key
        )
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        Self::with("authority of a test", |_| {})
    }

    /// One of this name, whose certificate is changed before it is signed.
    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::signed(name, change, |params, key| params.self_signed(key))
    }

    /// One that this one has signed; it has a folder of its own.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::signed(name, change, |params, key| {
            params.signed_by(key, &self.issuer)
        })
    }

    fn signed(
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
        sign: impl FnOnce(&CertificateParams, &KeyPair) -> Result<Certificate, rcgen::Error>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let names = &mut params.distinguished_name;
        names.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let own = sign(&params, &key).unwrap();
        fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        Self { folder, issuer }
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// A certificate for these names, as a server has it (P-256).
    pub fn server(&self, file: &str, names: &[&str]) -> Pair {
        self.issue(file, names, |_| {})
    }

    /// A certificate of a client.
    pub fn client(&self, file: &str, name: &str, serial: u64) -> Pair {
        self.issue(file, &[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    /// A certificate that is changed before it is signed.
    pub fn issue(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        self.write(file, &own.pem(), &key.serialize_pem())
    }

    /// One with an RSA key, made by the `openssl` command; `None` where there is none.
    pub fn rsa(&self, file: &str, name: &str) -> Option<Pair> {
        let made = Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
            ])
            .output()
            .ok()?;
        let key = String::from_utf8(made.stdout).ok()?;
        let signer = KeyPair::from_pem_and_sign_algo(&key, &rcgen::PKCS_RSA_SHA256).unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let own = params.signed_by(&signer, &self.issuer).unwrap();
        Some(self.write(file, &own.pem(), &key))
    }

    /// The same with a key of Ed25519.
    pub fn ed25519(&self, file: &str, name: &str) -> Pair {
        let signer = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let own = params.signed_by(&signer, &self.issuer).unwrap();
        self.write(file, &own.pem(), &signer.serialize_pem())
    }

    fn write(&self, file: &str, chain: &str, key: &str) -> Pair {
        let pair = Pair {
            chain: self.file(&format!("{file}.pem")),
            key: self.file(&format!("{file}.key")),
        };
        fs::write(&pair.chain, chain).unwrap();
        fs::write(&pair.key, key).unwrap();
        fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o600)).unwrap();
        pair
    }

    /// Writes a list of revoked serial numbers.
    pub fn revoke(&self, file: &str, serials: &[u64]) -> PathBuf {
        let years = [2024, 4000].map(|year| date_time_ymd(year, 1, 1).into());
        self.revoke_for(file, serials, years)
    }

    /// The same; the list holds from the one moment to the other.
    pub fn revoke_for(&self, file: &str, serials: &[u64], holds: [SystemTime; 2]) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: holds[0].into(),
            next_update: holds[1].into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.file(file);
        let list = params.signed_by(&self.issuer).unwrap();
        fs::write(&path, list.pem().unwrap()).unwrap();
        path
    }

    /// What a client needs that trusts it.
    pub fn trusting(&self) -> Arc<ClientConfig> {
        Arc::new(self.builder(None))
    }

    /// The same, with a certificate of its own.
    pub fn trusting_as(&self, pair: &Pair) -> Arc<ClientConfig> {
        Arc::new(self.builder(Some(pair)))
    }

    /// To be changed.
    pub fn builder(&self, pair: Option<&Pair>) -> ClientConfig {
        self.builder_of(pair, rustls::DEFAULT_VERSIONS)
    }

    /// The same, that speaks these versions only.
    pub fn builder_of(
        &self,
        pair: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.ca()).unwrap())
            .unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = CertificateDer::from_pem_file(&pair.chain).unwrap();
                let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        }
    }
}

/// A listener that speaks TLS, with these further lines, and these certificates.
pub fn listener(lines: &str, pairs: &[&Pair]) -> Settings {
    let pairs: String = pairs.iter().map(|pair| pair.table()).collect();
    Settings::default().file(&format!(
        "log_level = \"debug\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = true\n{lines}\n{pairs}"
    ))
}

/// Puts the content of one file where another is.
pub fn replace(to: &Path, from: &Path) {
    fs::copy(from, to).unwrap();
}
