//! What the API needs of the process around the rules.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use leveret_broker::users::User;
use leveret_broker::{Batch, Broker, Refusal};
use leveret_wire::sasl::Credentials;

use crate::federation::FederationLinks;
use crate::journal::Journal;
use crate::node::NodeFacts;
use crate::shovels::Shovels;

/// The outcome of a login, later.
pub type LoggedIn<'a> = Pin<Box<dyn Future<Output = Result<Arc<User>, Refusal>> + Send + 'a>>;

/// The process that runs the broker. Implemented by the program that has both the server and the API.
pub trait Host: Send + Sync + 'static {
    /// The rules.
    fn broker(&self) -> &Arc<Broker>;

    /// Ends a batch: what it logged is written soon, everything else leaves.
    fn finish(&self, batch: &mut Batch);

    /// Somebody waits for the log.
    fn hurry(&self);

    /// Checks a password, by the gate that AMQP logins go through too.
    fn login(&self, credentials: Credentials, peer: IpAddr) -> LoggedIn<'_>;

    /// What this node is called, as in `rabbit@host`.
    fn node_name(&self) -> &str;

    /// What there is to know of the process now. Asks the kernel and the disk.
    fn node(&self) -> NodeFacts;

    /// The wall clock, µs since 1970.
    fn now_us(&self) -> u64;

    /// Whether clients are served.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn readiness(&self) -> Result<(), String>;

    /// The log of the process.
    fn journal(&self) -> &dyn Journal;

    /// What moves messages between this broker and others.
    fn shovels(&self) -> &dyn Shovels;

    /// What brings messages of other brokers to exchanges and queues here.
    fn federation_links(&self) -> &dyn FederationLinks;
}
