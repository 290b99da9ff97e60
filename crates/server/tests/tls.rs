//! AMQP over TLS: the same broker behind a certificate, and what happens to those who do not speak TLS.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_server::{Broker, Config, StartError, load_tls};
use leveret_wire::PROTOCOL_HEADER;
use leveret_wire::method::{BasicGet, ConnectionClose};
use rustls::pki_types::ServerName;
use support::{CHANNEL, PATIENCE, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(400);
const NO_HEARTBEAT: u16 = 0;

/// A broker with a certificate of its own, and a client that trusts nothing else.
struct Secured {
    broker: Broker,
    connector: TlsConnector,
}

impl Secured {
    async fn start() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = Config {
            listen: Vec::new(),
            listen_tls: vec!["127.0.0.1:0".parse().unwrap()],
            tls: Some(load_tls(&certificate, &key, provider.clone()).unwrap()),
            tls_handshake_timeout: HANDSHAKE_TIMEOUT,
            ..Config::default()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let broker = Broker::builder().config(config).in_memory().start().await.unwrap();
        Self { broker, connector: TlsConnector::from(Arc::new(client)) }
    }

    async fn socket(&self) -> TcpStream {
        TcpStream::connect(self.broker.tls_addresses()[0]).await.unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, self.socket().await).await.unwrap()
    }
}

#[tokio::test]
async fn amqp_is_spoken_over_tls() {
    let secured = Secured::start().await;
    assert!(secured.broker.addresses().is_empty(), "nothing listens in the clear");
    let mut publisher = Peer::open(secured.connect().await, NO_HEARTBEAT).await;
    let mut consumer = Peer::open(secured.connect().await, NO_HEARTBEAT).await;
    let body: Vec<u8> = (0..600_000_u32).map(|i| i as u8).collect(); // many frames, more TLS records
    publisher.declare("q").await;
    publisher.publish("q", &body).await;
    publisher.declare("q").await; // answered after the publish
    consumer.ask(CHANNEL, BasicGet { queue: "q", no_ack: true, ..Default::default() }, "basic.get-ok").await;
    assert!(consumer.content().await == body, "the body came back changed");
    let goodbye = ConnectionClose { reply_code: 200, ..Default::default() };
    consumer.ask(0, goodbye, "connection.close-ok").await;
}

#[tokio::test]
async fn the_end_of_a_connection_is_authentic() {
    let secured = Secured::start().await;
    let mut stream = secured.connect().await;
    stream.write_all(b"HTTP/1.1").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, PROTOCOL_HEADER, "not AMQP: the broker says what it speaks");
    read.expect("a close_notify comes before the end, or rustls would call it truncated");
}

#[tokio::test]
async fn who_does_not_speak_tls_on_the_tls_port_is_closed() {
    let secured = Secured::start().await;
    let check = async |words: &[u8]| {
        let mut socket = secured.socket().await;
        socket.write_all(words).await.unwrap();
        let (answer, waited) = read_to_end(&mut socket).await;
        assert!(
            !answer.starts_with(b"AMQP") && !answer.starts_with(&[1]),
            "no AMQP in the clear: {answer:?}"
        );
        assert!(waited < HANDSHAKE_TIMEOUT, "{:?} is seen to be no TLS", String::from_utf8_lossy(words));
    };
    check(&PROTOCOL_HEADER).await;
    check(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    Peer::open(secured.connect().await, NO_HEARTBEAT).await; // and the port still works
}

#[tokio::test]
async fn who_says_nothing_is_closed_in_time() {
    let secured = Secured::start().await;
    let check = async |words: &[u8]| {
        let mut socket = secured.socket().await;
        socket.write_all(words).await.unwrap();
        let (_, waited) = read_to_end(&mut socket).await;
        assert!(waited >= HANDSHAKE_TIMEOUT / 2, "{waited:?}: the client had time to speak");
        assert!(waited < HANDSHAKE_TIMEOUT + Duration::from_secs(2), "{waited:?}");
    };
    check(b"").await;
    check(&[22, 3, 1, 1, 0]).await; // the start of a client hello and no more
}

#[tokio::test]
async fn a_tls_listener_without_a_certificate_does_not_start() {
    let config = Config { listen_tls: vec!["127.0.0.1:0".parse().unwrap()], ..Config::default() };
    let started = Broker::builder().config(config).any_port().in_memory().start().await;
    assert!(matches!(started, Err(StartError::NoCertificate)));
}

/// What came before the end, and how long that took.
async fn read_to_end(socket: &mut TcpStream) -> (Vec<u8>, Duration) {
    let (mut answer, before) = (Vec::new(), Instant::now());
    // A reset ends a connection as well.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("the end comes");
    (answer, before.elapsed())
}
