//! What a client says that cannot connect: one line, at once, and it names the part that is wrong.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::net::SocketAddr;
use std::time::Instant;

use leveret::{Client, ConnectError};
use support::{AT_ONCE, Site, Wire, soon, square};
use tokio::net::TcpListener;

async fn check(url: &str, says: &[&str]) -> ConnectError {
    let asked = Instant::now();
    let error = match soon(Client::connect(url)).await {
        Ok(_) => panic!("connected to {url}"),
        Err(error) => error,
    };
    let line = error.to_string();
    assert!(asked.elapsed() < AT_ONCE, "after {:?}: {line}", asked.elapsed());
    assert!(!line.contains('\n') && !line.contains("canary"), "{line}");
    for part in says {
        assert!(line.contains(part), "{url}: \"{line}\" does not say \"{part}\"");
    }
    error
}

/// Where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_unusable_address_is_named() {
    for (url, says) in [
        ("localhost", "must start with amqp:// or amqps://"),
        ("", "must start with amqp:// or amqps://"),
        ("http://localhost:5672", "must start with amqp:// or amqps://"),
        ("amqp://u:canary@host:port", "port"),
        ("amqp://u:canary@host?haertbeat=3", "'haertbeat'"),
        ("amqp://u:canary@host/%zz", "unusable broker address"),
    ] {
        let error = check(url, &[says]).await;
        assert!(matches!(error, ConnectError::Url { .. }), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn an_unreachable_host_is_named() {
    let nobody = nobody().await;
    let error =
        check(&format!("amqp://u:canary@{nobody}"), &["no broker reachable", &nobody.to_string()]).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    check("amqp://u:canary@nowhere.invalid", &["no broker reachable", "nowhere.invalid"]).await;
    check("embedded:/dev/null/data", &["embedded:"]).await;
}

#[tokio::test]
async fn a_refused_login_names_the_user() {
    let wire = Wire::start().await;
    let error = check(&wire.url(wire.address(0), "guest:canary", "%2f"), &["'guest'", "refused"]).await;
    assert!(matches!(error, ConnectError::LoginRefused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_virtual_host_is_named() {
    let wire = Wire::start().await;
    let error = check(&wire.url(wire.address(0), "guest:guest", "nowhere"), &["'nowhere'"]).await;
    assert!(matches!(error, ConnectError::NoSuchVhost { .. }), "{error:?}");
}

#[tokio::test]
async fn one_of_several_hosts_is_enough() {
    let wire = Wire::start().await;
    let site = wire.site(&[nobody().await, wire.address(0), nobody().await]);
    // It begins with any of them.
    for _ in 0..5 {
        let client = soon(site.client()).await;
        let worker = site.serve(&client, "square", square()).start().await.unwrap();
        assert_eq!(soon(client.call::<_, i64>(&site.name("square"), &3).into_future()).await.unwrap(), 9);
        worker.drain().await;
        client.close().await;
    }
}

#[tokio::test]
async fn a_closed_client_says_so() {
    let site = Site::new();
    let client = site.client().await;
    client.close().await;
    let asked = Instant::now();
    let error = soon(client.call::<_, ()>("nobody", &()).into_future()).await.unwrap_err();
    assert!(matches!(error, leveret::CallError::Cancelled), "{error:?}");
    assert!(asked.elapsed() < AT_ONCE);
    assert!(client.serve("nobody", square()).start().await.is_err());
}
