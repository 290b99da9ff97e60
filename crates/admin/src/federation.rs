//! What brings messages of other brokers to exchanges and queues here, as far as the API shows it.

/// The links of the process. They are set up by policies, and parameters of component `federation-upstream`.
pub trait FederationLinks: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<LinkStatus>;

    /// Starts one anew; `false` if there is none with that id in the virtual host.
    fn restart(&self, vhost: &str, id: &str) -> bool;
}

/// A link, and what it is doing.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// Eight hexadecimal digits.
    pub id: String,
    /// The virtual host of what is federated.
    pub vhost: String,
    /// What is federated: `exchange` or `queue`.
    pub kind: &'static str,
    /// Its name here.
    pub name: String,
    /// The parameter that describes the other broker.
    pub upstream: String,
    /// The name of the exchange or queue there.
    pub upstream_name: String,
    /// The other broker's addresses; no users, no passwords.
    pub uri: String,
    /// The name of the consumer there, if it is a queue.
    pub consumer_tag: Option<String>,
    /// `starting`, `running` or `error`.
    pub state: &'static str,
    /// What went wrong; no passwords.
    pub error: Option<String>,
    /// Since when, in seconds since 1970.
    pub since_s: u64,
    /// The name of its connection to this broker while it is running.
    pub local_connection: Option<String>,
}
