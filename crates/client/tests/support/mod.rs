//! A broker to test against: the one that LEVERET_TEST_URL names, or one of our own in memory.
#![allow(clippy::unwrap_used, dead_code)] // the helpers of tests are tests, and not every test needs all

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use leveret_client::{ConnectOptions, Connection};
use leveret_server::Broker;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A broker, and how to reach it.
pub(crate) struct Peer {
    pub(crate) url: String,
    /// Kept alive; `None` for a foreign one.
    pub(crate) broker: Option<Broker>,
}

impl Peer {
    pub(crate) async fn start() -> Peer {
        if let Ok(url) = std::env::var("LEVERET_TEST_URL") {
            return Peer { url, broker: None };
        }
        Peer::start_own().await
    }

    /// One that can be stopped.
    pub(crate) async fn start_own() -> Peer {
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        Peer { url: broker.url(), broker: Some(broker) }
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        ConnectOptions::parse(&self.url).unwrap().name("leveret-client test")
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.options()).await.unwrap()
    }
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Fails instead of waiting for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}
