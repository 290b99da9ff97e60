//! Logging in by a certificate: who is named, who is not, and what happens without one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Peer, plain};
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_server::{Broker, ClientTrust, Config, load_mutual_tls};
use leveret_wire::Method;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A broker that asks for certificates, and whoever issues them.
struct Guarded {
    broker: Broker,
    issuer: Issuer<'static, KeyPair>,
    authority: PathBuf,
    _directory: tempfile::TempDir,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// An authority, as itself and as PEM.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

/// A certificate and its key.
fn issue(issuer: &Issuer<'static, KeyPair>, params: &CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn named(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

impl Guarded {
    async fn start(required: bool, user_from: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (issuer, pem) = authority();
        let authority = write(directory.path(), "ca.pem", &pem);
        let (certificate, key) = issue(&issuer, &CertificateParams::new(["localhost".to_owned()]).unwrap());
        let (certificate, key) =
            (write(directory.path(), "cert.pem", &certificate), write(directory.path(), "key.pem", &key));
        let trust = ClientTrust { authorities: authority.clone(), required };
        let config = Config {
            listen: Vec::new(),
            listen_tls: vec!["127.0.0.1:0".parse().unwrap()],
            tls: Some(load_mutual_tls(&certificate, &key, Some(&trust), provider()).unwrap()),
            tls_user_from: user_from.parse().unwrap(),
            ..Config::default()
        };
        let broker = Broker::builder().config(config).in_memory().start().await.unwrap();
        let users = &broker.rules().users;
        users.add("worker", PasswordHash::absent(), Vec::new()).unwrap();
        users.set_permissions("worker", "/", Permissions::all()).unwrap();
        Self { broker, issuer, authority, _directory: directory }
    }

    /// A TLS connection, with a certificate if there is one.
    async fn connect(&self, identity: Option<(String, String)>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                config
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                    .unwrap()
            }
            None => config.with_no_client_auth(),
        };
        let socket = TcpStream::connect(self.broker.tls_addresses()[0]).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
    }

    async fn log_in(&self, certificate: CertificateParams, response: &[u8]) -> Result<(), String> {
        let stream = self.connect(Some(issue(&self.issuer, &certificate))).await.unwrap();
        match Peer::log_in(stream, "EXTERNAL", response).await {
            Ok(mut peer) => {
                peer.enter("/", 0).await.unwrap();
                peer.declare("q").await;
                Ok(())
            }
            Err(frame) => match frame.unwrap().method() {
                Method::ConnectionClose(close) => Err(close.reply_text.to_owned()),
                other => panic!("{other:?}"),
            },
        }
    }
}

const REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see \
                       the broker logfile.";
const NOT_OFFERED: &str = "COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'";

#[tokio::test]
async fn the_certificate_names_the_user() {
    let guarded = Guarded::start(true, "common_name").await;
    let check = async |name: &str, response: &[u8], expected: Result<(), &str>| {
        let found = guarded.log_in(named(name), response).await;
        assert_eq!(found, expected.map_err(ToOwned::to_owned), "{name}");
    };
    check("worker", b"", Ok(())).await;
    check("worker", b"\0*\0*", Ok(())).await; // what the Go client sends
    check("nobody", b"", Err(REFUSED)).await;
    check("worker\0.example", b"", Err(NOT_OFFERED)).await;
    let mut nameless = CertificateParams::default();
    nameless.distinguished_name = DistinguishedName::new();
    assert_eq!(guarded.log_in(nameless, b"").await, Err(NOT_OFFERED.to_owned()));
}

#[tokio::test]
async fn other_names_of_a_certificate_can_be_the_users() {
    let guarded = Guarded::start(true, "san:dns").await;
    let mut params = named("somebody");
    params.subject_alt_names = vec![SanType::DnsName("worker".try_into().unwrap())];
    assert_eq!(guarded.log_in(params, b"").await, Ok(()));
    assert_eq!(guarded.log_in(named("worker"), b"").await, Err(NOT_OFFERED.to_owned()));
}

#[tokio::test]
async fn where_a_certificate_is_wanted_a_password_does_too() {
    let guarded = Guarded::start(false, "common_name").await;
    let stream = guarded.connect(None).await.unwrap();
    assert!(Peer::log_in(stream, "PLAIN", &plain("guest", "guest")).await.is_ok());
    let stream = guarded.connect(None).await.unwrap();
    assert!(Peer::log_in(stream, "EXTERNAL", b"").await.is_err(), "nobody has vouched");
    assert_eq!(guarded.log_in(named("worker"), b"").await, Ok(()));
    Peer::open(guarded.connect(Some(issue(&guarded.issuer, &named("worker")))).await.unwrap(), 0).await;
}

#[tokio::test]
async fn where_a_certificate_is_required_there_is_no_connection_without_one() {
    let guarded = Guarded::start(true, "common_name").await;
    let (stranger, _) = authority();
    let check = async |identity: Option<(String, String)>| {
        // TLS 1.3 tells with the first read.
        if let Ok(mut stream) = guarded.connect(identity).await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = stream.write_all(&leveret_wire::PROTOCOL_HEADER).await;
            assert!(!matches!(stream.read(&mut [0; 64]).await, Ok(1..)));
        }
    };
    check(None).await;
    check(Some(issue(&stranger, &named("worker")))).await;
}
