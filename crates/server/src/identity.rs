//! How the broker introduces itself; see `docs/adr/0004-identity.md`.
//!
//! Kombu decides from `product` and `version` whether a channel-wide prefetch may be used, and NServiceBus
//! refuses versions below 3.10. So these two name the behaviour we are compatible with, and our own name and
//! version stand beside them.

use std::sync::LazyLock;

use leveret_broker::Broker;
use leveret_wire::{FieldTable, FieldValue, RawTable};

/// The product whose behaviour clients may expect.
const PRODUCT: &str = "RabbitMQ";
/// The series whose channel-wide prefetch and shared transient queues we keep.
pub(crate) const COMPATIBLE_VERSION: &str = "3.13.7";
/// What this node is called wherever RabbitMQ's tools expect the name of one.
pub const NODE_NAME: &str = "leveret@localhost";
/// What this broker calls itself towards others unless its operator named it: federation tells brokers apart by it, so the
/// machine's name is in it.
pub(crate) static DEFAULT_CLUSTER_NAME: LazyLock<String> = LazyLock::new(|| {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { NODE_NAME.to_owned() } else { format!("leveret@{host}") }
});
/// The global parameter that holds the operator's name for it, as in RabbitMQ.
const CLUSTER_NAME_PARAMETER: &str = "cluster_name";

/// What this broker calls itself towards others.
pub(crate) fn cluster_name(broker: &Broker) -> String {
    let given = broker.global_parameter(CLUSTER_NAME_PARAMETER);
    let given = given.and_then(|parameter| serde_json::from_str(&parameter.value).ok());
    given.unwrap_or_else(|| DEFAULT_CLUSTER_NAME.clone())
}

/// What a client may count on.
const CAPABILITIES: [&str; 11] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "consumer_priorities",
    "direct_reply_to",
    "exchange_exchange_bindings",
    "per_consumer_qos",
    "publisher_confirms",
    "rpc_bounce",
    "rpc_orphans",
];

/// `server-properties` of `connection.start`, keys sorted as RabbitMQ sorts them.
pub(crate) fn server_properties(cluster_name: &str) -> FieldTable {
    let capabilities = CAPABILITIES.iter().map(|name| ((*name).to_owned(), FieldValue::Bool(true))).collect();
    let text = |value: &str| FieldValue::LongString(value.as_bytes().to_vec());
    FieldTable(vec![
        ("capabilities".into(), FieldValue::Table(FieldTable(capabilities))),
        ("cluster_name".into(), text(cluster_name)),
        ("copyright".into(), text("Copyright (c) The Leveret contributors")),
        ("information".into(), text("Leveret, compatible with RabbitMQ")),
        ("leveret_version".into(), text(env!("CARGO_PKG_VERSION"))),
        ("platform".into(), text("Leveret")),
        ("product".into(), text(PRODUCT)),
        ("version".into(), text(COMPATIBLE_VERSION)),
    ])
}

/// What a client says about itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Client {
    /// It wants to be told that a login was refused instead of only being cut off.
    pub(crate) authentication_failure_close: bool,
    /// It understands `connection.blocked`.
    pub(crate) blocked: bool,
    /// It understands `basic.cancel` from the server.
    pub(crate) consumer_cancel_notify: bool,
    /// It counts on RabbitMQ's refusal of `immediate`: py-amqp raises a returned message with code 313 out of
    /// whatever call waits next, e.g. `basic_consume`, so that a return would break it.
    pub(crate) refuses_immediate: bool,
}

impl Client {
    /// Reads `client-properties`.
    pub(crate) fn of(properties: RawTable<'_>) -> Self {
        let capabilities = properties.find_table("capabilities").unwrap_or_default();
        let has = |name| capabilities.find_bool(name).unwrap_or(false);
        Self {
            authentication_failure_close: has("authentication_failure_close"),
            blocked: has("connection.blocked"),
            consumer_cancel_notify: has("consumer_cancel_notify"),
            refuses_immediate: properties.find_str("product") == Some("py-amqp"),
        }
    }
}
