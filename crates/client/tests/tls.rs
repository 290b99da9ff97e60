//! `amqps://`: who is trusted, and what is said about who is not.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_client::{ConnectError, ConnectOptions, Connection, Publish, QueueDeclare};
use leveret_server::{Broker, ClientTrust, Config, load_mutual_tls};
use rustls::pki_types::PrivateKeyDer;
use support::soon;

/// A broker with a certificate of its own, in a file.
struct Secured {
    broker: Broker,
    certificate: PathBuf,
    certified: rcgen::CertifiedKey<rcgen::KeyPair>,
    _directory: tempfile::TempDir,
}

impl Secured {
    async fn start() -> Secured {
        Secured::start_with(|_| None).await
    }

    /// With those who may vouch for clients, given the broker's own certificate.
    async fn start_with(clients: impl FnOnce(&Path) -> Option<ClientTrust>) -> Secured {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "guest");
        let signing_key = rcgen::KeyPair::generate().unwrap();
        let certified = rcgen::CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key };
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = Config {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            listen_tls: vec!["127.0.0.1:0".parse().unwrap()],
            tls: Some(load_mutual_tls(&certificate, &key, clients(&certificate).as_ref(), provider).unwrap()),
            ..Config::default()
        };
        let broker = Broker::builder().config(config).in_memory().start().await.unwrap();
        Secured { broker, certificate, certified, _directory: directory }
    }

    fn url(&self, host: &str) -> String {
        format!("amqps://{host}:{}/%2f", self.broker.tls_addresses()[0].port())
    }

    /// Trusts the broker, and is `guest`, whom that certificate names.
    fn identified(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certified.cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(self.certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certified.cert.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    fn trusting(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

async fn goes_round(options: &ConnectOptions) {
    let connection = soon(Connection::open(options)).await.unwrap();
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = confirmed.channel().declare_queue(&QueueDeclare::exclusive("")).await.unwrap().name;
    let body = vec![3; 600_000]; // many frames, more TLS records
    soon(confirmed.publish(&Publish::to_queue(&queue, &body)).await.unwrap()).await.unwrap();
    let delivery = soon(confirmed.channel().get(&queue, true)).await.unwrap().unwrap();
    assert!(delivery.body == body);
    soon(connection.close()).await;
}

async fn refused(options: &ConnectOptions) -> String {
    let error = soon(Connection::open(options)).await.expect_err("it connected");
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert_eq!(error.to_string().lines().count(), 1);
    error.to_string()
}

#[tokio::test]
async fn a_given_configuration_is_used() {
    let secured = Secured::start().await;
    let options = ConnectOptions::parse(&secured.url("localhost")).unwrap().tls(secured.trusting());
    goes_round(&options).await;
    let by_address = ConnectOptions::parse(&secured.url("127.0.0.1")).unwrap().tls(secured.trusting());
    let error = refused(&by_address).await;
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_certificate_can_be_the_login() {
    let trust =
        |authorities: &Path| Some(ClientTrust { authorities: authorities.to_owned(), required: false });
    let secured = Secured::start_with(trust).await;
    let url = format!("{}?auth_mechanism=external", secured.url("localhost"));
    let options = ConnectOptions::parse(&url).unwrap();
    goes_round(&options.clone().tls(secured.identified())).await;
    let error = soon(Connection::open(&options.tls(secured.trusting()))).await.unwrap_err().to_string();
    assert!(error.contains("no login with a certificate, only: PLAIN AMQPLAIN"), "{error}");
}

/// One test, since the installed provider is the process's.
#[tokio::test]
async fn without_one_the_installed_provider_and_the_addresss_files_are() {
    let secured = Secured::start().await;
    let plain = ConnectOptions::parse(&secured.url("localhost")).unwrap();
    let error = refused(&plain).await;
    assert!(error.contains("no cryptography is installed: call rustls::"), "{error}");
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let error = refused(&plain).await;
    assert!(error.contains("certificate") || error.contains("trusts nobody"), "{error}");
    let with_file = format!("{}?cacertfile={}", secured.url("localhost"), secured.certificate.display());
    goes_round(&ConnectOptions::parse(&with_file).unwrap()).await;
    let missing = format!("{}?cacertfile=/nowhere.pem", secured.url("localhost"));
    let error = refused(&ConnectOptions::parse(&missing).unwrap()).await;
    assert!(error.contains("/nowhere.pem: "), "{error}");
}

#[tokio::test]
async fn a_plain_port_is_no_tls_port_and_the_other_way_round() {
    let secured = Secured::start().await;
    let plain_port = secured.broker.addresses()[0].port();
    let options = ConnectOptions::parse(&format!("amqps://localhost:{plain_port}")).unwrap();
    refused(&options.tls(secured.trusting())).await;
    let tls_port = secured.broker.tls_addresses()[0].port();
    let options = ConnectOptions::parse(&format!("amqp://127.0.0.1:{tls_port}")).unwrap();
    let error = soon(Connection::open(&options)).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. } | ConnectError::Protocol { .. }), "{error}");
}
