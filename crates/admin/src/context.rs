//! What handlers work with.

use std::sync::Arc;

use leveret_broker::users::User;
use leveret_broker::vhost::VHost;
use leveret_broker::{Batch, Broker, Channel, Connection, ConnectionPort};
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::host::Host;
use crate::rates::Rates;
use crate::socketless::Socketless;

/// The broker and its process, for handlers.
pub(crate) struct Context {
    pub(crate) host: Arc<dyn Host>,
    /// What counters were when somebody looked.
    pub(crate) rates: Rates,
}

impl Context {
    pub(crate) fn new(host: Arc<dyn Host>) -> Context {
        Context { host, rates: Rates::default() }
    }

    /// The rules.
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        self.host.broker()
    }

    /// The wall clock, ms since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.host.now_us() / 1000
    }

    /// A batch that begins now; [`Self::finish`] ends it.
    pub(crate) fn batch(&self) -> Batch {
        Batch::at_us(self.host.now_us())
    }

    /// Ends a batch: what it set in motion leaves.
    pub(crate) fn finish(&self, batch: &mut Batch) {
        self.host.finish(batch);
    }

    /// An existing virtual host, or 404.
    pub(crate) fn vhost(&self, name: &str) -> Result<Arc<VHost>, ApiError> {
        self.broker().vhost(name).ok_or_else(ApiError::not_found)
    }

    /// The virtual host that something is to be changed in, or 404 in RabbitMQ's words for that.
    pub(crate) fn vhost_to_change(&self, name: &str) -> Result<Arc<VHost>, ApiError> {
        self.broker().vhost(name).ok_or_else(|| ApiError::missing("vhost_not_found"))
    }

    /// Acts in a virtual host as `user`: the same operations, with the same checks, as over AMQP. What it set in motion leaves, and
    /// what it left unsettled goes back, when `work` is done.
    pub(crate) fn act<T>(
        &self,
        user: &Arc<User>,
        vhost: &str,
        work: impl FnOnce(&mut Channel, &Socketless, &mut Batch) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.vhost(vhost)?;
        let broker = self.broker().clone();
        let outlet = Socketless::default();
        let port = ConnectionPort::new(broker.next_connection_id(), Box::new(outlet.clone()));
        let connection = Connection::open(broker, port, user.clone(), vhost, false)
            .map_err(|refusal| ApiError::not_authorised(refusal.explanation))?;
        let mut channel = Channel::open(connection.clone(), 1)?;
        let mut batch = self.batch();
        let outcome = work(&mut channel, &outlet, &mut batch);
        channel.close(&mut batch);
        connection.close(&mut batch);
        self.finish(&mut batch);
        outcome
    }

    /// Waits until every change so far is on the disk (P2).
    pub(crate) async fn durable(&self) {
        let broker = self.broker();
        if broker.topology_is_durable() {
            return;
        }
        let (reached, wait) = oneshot::channel();
        broker.when_durable(broker.topology_position(), move || {
            // Whoever waited may be gone.
            let _ = reached.send(());
        });
        self.host.hurry();
        // An error means that the broker is gone: so is whoever waits.
        drop(wait.await);
    }
}
