//! `embedded:`: the broker of `leveret serve` inside this process.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use leveret_client::{ConnectError, ConnectOptions, Connector, Transport};
use leveret_server::Broker;
use parking_lot::Mutex;

/// A broker in this process; it ends with the last client.
pub(crate) struct Embedded {
    broker: Broker,
}

type Shared = Mutex<HashMap<String, Weak<Embedded>>>;

fn shared() -> &'static Shared {
    static SHARED: std::sync::OnceLock<Shared> = std::sync::OnceLock::new();
    SHARED.get_or_init(Shared::default)
}

impl Embedded {
    /// The broker at a place: nothing, a name, or a directory (anything with a `/` or `.` in front).
    pub(crate) async fn at(place: &str) -> Result<Arc<Embedded>, ConnectError> {
        if place.is_empty() {
            return Embedded::start(Broker::builder().in_memory()).await;
        }
        if let Some(running) = shared().lock().get(place).and_then(Weak::upgrade) {
            return Ok(running);
        }
        let builder = match place.starts_with(['.', '/']) || place.contains('/') {
            true => Broker::builder().data_dir(place),
            false => Broker::builder().in_memory(),
        };
        let started = Embedded::start(builder).await?;
        let mut running = shared().lock();
        // Somebody else may have been faster; there must be one.
        if let Some(first) = running.get(place).and_then(Weak::upgrade) {
            return Ok(first);
        }
        running.insert(place.to_owned(), Arc::downgrade(&started));
        Ok(started)
    }

    async fn start(builder: leveret_server::Builder) -> Result<Arc<Embedded>, ConnectError> {
        let started = builder.listen([]).start().await;
        let broker = started.map_err(|error| ConnectError::Unreachable {
            address: "embedded:".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Arc::new(Embedded { broker }))
    }

    pub(crate) fn options(self: &Arc<Self>) -> ConnectOptions {
        ConnectOptions::memory(Arc::new(Pipes(Arc::downgrade(self))))
    }
}

/// Weak, or the broker would live as long as the connection that it ends.
struct Pipes(Weak<Embedded>);

impl Connector for Pipes {
    fn connect(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + '_>> {
        let pipe = self.0.upgrade().map(|embedded| embedded.broker.connect_in_memory());
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the embedded broker has ended");
        Box::pin(async move { Ok(Box::new(pipe.ok_or_else(gone)?) as Box<dyn Transport>) })
    }
}
