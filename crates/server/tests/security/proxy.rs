//! Connections that come by a proxy: whose address counts, and who may say so.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{PATIENCE, Peer, plain};
use leveret_server::{Broker, Config};
use leveret_wire::PROTOCOL_HEADER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn start(proxies: &str) -> Broker {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        proxies: if proxies.is_empty() { Vec::new() } else { vec![proxies.parse().unwrap()] },
        handshake_timeout: Duration::from_millis(500),
        ..Config::default()
    };
    Broker::builder().config(config).in_memory().start().await.unwrap()
}

async fn say(broker: &Broker, header: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(broker.addresses()[0]).await.unwrap();
    for octet in header {
        // In as many pieces as there can be; the broker may have hung up before the last one.
        let _ = socket.write_all(&[*octet]).await;
    }
    socket
}

/// Whether guest is let in after this header, from a proxy on this machine.
async fn check(header: &[u8], expected: bool) {
    let broker = start("127.0.0.0/8").await;
    let socket = say(&broker, header).await;
    let login = Peer::log_in(socket, "PLAIN", &plain("guest", "guest")).await;
    assert_eq!(login.is_ok(), expected, "{:?}", String::from_utf8_lossy(header));
}

#[tokio::test]
async fn guest_never_comes_from_elsewhere_through_a_proxy() {
    check(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 5672\r\n", true).await;
    check(b"PROXY TCP6 ::ffff:127.0.0.1 ::1 1 5672\r\n", true).await;
    check(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 5672\r\n", false).await;
    check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 5672\r\n", false).await;
    check(b"PROXY TCP6 ::ffff:7f00:1 ::1 1 5672\r\n", true).await;
    check(b"PROXY TCP6 64:ff9b::7f00:1 ::1 1 5672\r\n", false).await;
    check(b"PROXY TCP6 ::127.0.0.1 ::1 1 5672\r\n", false).await;
    check(b"PROXY UNKNOWN\r\n", false).await;
    check(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", false).await;
    check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\x7F\0\0\x01\x7F\0\0\x01\0\x01\0\x02", true).await;
    check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0C\xC0\0\x02\x01\x7F\0\0\x01\0\x01\0\x02", false).await;
}

#[tokio::test]
async fn the_address_in_the_header_is_listed() {
    let broker = start("127.0.0.1").await;
    broker.rules().users.set_loopback_only("guest", false).unwrap();
    let socket = say(&broker, b"PROXY TCP4 192.0.2.1 198.51.100.7 1234 5672\r\n").await;
    let _peer = Peer::open(socket, 0).await;
    let names: Vec<_> = broker.rules().connections().iter().map(|one| one.name.clone()).collect();
    assert_eq!(names, ["192.0.2.1:1234 -> 198.51.100.7:5672"]);
}

#[tokio::test]
async fn a_header_is_only_taken_from_a_proxy_and_never_missing() {
    let answer = async |proxies: &str, words: &[u8]| {
        let broker = start(proxies).await;
        let mut socket = say(&broker, words).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
        drop(read.expect("the connection is closed")); // a reset closes it too
        answer
    };
    let header = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 5672\r\nAMQP\0\0\x09\x01";
    assert_eq!(answer("", header).await, PROTOCOL_HEADER, "not AMQP");
    assert_eq!(answer("192.0.2.0/24", header).await, PROTOCOL_HEADER, "not AMQP");
    assert_eq!(answer("127.0.0.1", &PROTOCOL_HEADER).await, b"", "no header");
    assert_eq!(answer("127.0.0.1", b"PROXY TCP4 1").await, b"", "half a header");
    assert_eq!(answer("127.0.0.1", &[b"PROXY ", &[b'A'; 200][..]].concat()).await, b"", "a long one");
}

#[tokio::test]
async fn limits_count_by_the_address_in_the_header() {
    let config = Config {
        listen: vec!["127.0.0.1:0".parse::<SocketAddr>().unwrap()],
        proxies: vec!["127.0.0.1".parse().unwrap()],
        lobby: leveret_server::LobbyLimits { all: 100, per_source: 1 },
        ..Config::default()
    };
    let broker = Broker::builder().config(config).in_memory().start().await.unwrap();
    let check = async |last: u8, expected: usize| {
        let header = format!("PROXY TCP4 192.0.2.{last} 127.0.0.1 1 5672\r\n");
        let mut socket = say(&broker, &[header.as_bytes(), &PROTOCOL_HEADER].concat()).await;
        let read = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 8])).await.unwrap();
        assert_eq!(read.unwrap_or(0), expected, "from {last}");
        socket
    };
    let _first = check(1, 8).await;
    check(1, 0).await;
    let _other = check(2, 8).await;
}
