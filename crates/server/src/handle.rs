//! What a door that is not a listener of this server needs of it: the HTTP API of the same process.

use std::net::IpAddr;
use std::sync::Arc;

use leveret_broker::attempts::Door;
use leveret_broker::users::User;
use leveret_broker::{Batch, Refusal};
use leveret_wire::sasl::Credentials;
use tokio::io::DuplexStream;

use crate::embed::connect;
use crate::facts::NodeFacts;
use crate::logins::{Claim, Visitor};
use crate::peer::Peer;
use crate::shared::{Shared, is_loopback, now_us};

/// A running broker, for other doors. Cheap to clone; does not keep the broker from being stopped.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle(shared)
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<leveret_broker::Broker> {
        &self.0.broker
    }

    /// Checks a password by the gate that all doors share. Never holds up connections.
    ///
    /// # Errors
    /// 403, with a text that does not say why; the log does.
    pub async fn login(&self, credentials: Credentials, peer: IpAddr) -> Result<Arc<User>, Refusal> {
        let claim = Claim::Password { credentials, mechanism: "PLAIN".to_owned() };
        let visitor = Visitor { door: Door::Http, address: Some(peer), is_loopback: is_loopback(peer) };
        self.0.logins.check(claim, visitor).await
    }

    /// What there is to know of the process as a node.
    pub fn facts(&self) -> NodeFacts {
        NodeFacts::of(&self.0)
    }

    /// What this broker calls itself towards others: federation tells brokers apart by it.
    pub fn cluster_name(&self) -> String {
        crate::identity::cluster_name(&self.0.broker)
    }

    /// A connection that never leaves this process, for a user for whom this process vouches: whoever logs in at its other
    /// end by EXTERNAL is that user, with the permissions of the moment. It is refused when there is no such user, and
    /// closed already when there are as many connections as `connections_max` allows.
    pub fn connect_as(&self, user: &str) -> DuplexStream {
        connect(&self.0, Peer::on_behalf_of(user))
    }

    /// Ends a batch of operations that did not come by a connection of this server.
    pub fn finish(&self, batch: &mut Batch) {
        self.0.finish(batch);
    }

    /// Somebody waits for the log ([`leveret_broker::Broker::when_durable`]).
    pub fn hurry(&self) {
        self.0.committer.hurry();
    }

    /// Whether clients are being told to go.
    pub fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// The wall clock that the broker goes by, µs since 1970.
    pub fn now_us(&self) -> u64 {
        now_us()
    }
}
