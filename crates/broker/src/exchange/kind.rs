//! The exchange types, under the names that clients and RabbitMQ's plugins use.

use leveret_wire::FieldTable;

use super::bad_exchange::BadExchange;

/// How many messages a recent-history exchange keeps unless told otherwise; the plugin's default.
const HISTORY_LENGTH: u64 = 20;

/// The type of an exchange: the four of AMQP 0-9-1, and those that RabbitMQ has as plugins or since version 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// The routing key equals the binding key.
    Direct,
    /// Every destination, whatever the key.
    Fanout,
    /// The binding key is a pattern of words: `*` is one word, `#` is any number of them.
    Topic,
    /// The message's headers match the binding's arguments.
    Headers,
    /// One destination by a hash of the key, a header or a property; the binding key is its weight.
    ConsistentHash,
    /// One destination by a hash of the key, modulo the number of bindings.
    ModulusHash,
    /// One destination by chance.
    Random,
    /// One queue by chance; RabbitMQ's clusters choose among those on the publisher's node.
    LocalRandom,
    /// Every destination; new ones are given the latest messages.
    RecentHistory,
    /// Every destination, each message once: the type deduplicates without being told to.
    Deduplication,
    /// Every destination, for messages that may still go on to the broker that it was declared by
    /// ([`crate::federation`]).
    FederationUpstream,
}

const NAMES: [(ExchangeKind, &str); 11] = [
    (ExchangeKind::Direct, "direct"),
    (ExchangeKind::Fanout, "fanout"),
    (ExchangeKind::Topic, "topic"),
    (ExchangeKind::Headers, "headers"),
    (ExchangeKind::ConsistentHash, "x-consistent-hash"),
    (ExchangeKind::ModulusHash, "x-modulus-hash"),
    (ExchangeKind::Random, "x-random"),
    (ExchangeKind::LocalRandom, "x-local-random"),
    (ExchangeKind::RecentHistory, "x-recent-history"),
    (ExchangeKind::Deduplication, "x-message-deduplication"),
    (ExchangeKind::FederationUpstream, "x-federation-upstream"),
];

impl ExchangeKind {
    /// The type of that name, as clients write it.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    /// The name, as clients write it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// All types.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// Whether a message goes to one destination only. `CC` and `BCC` do not change which.
    pub fn picks_one(self) -> bool {
        matches!(self, Self::ConsistentHash | Self::ModulusHash | Self::Random | Self::LocalRandom)
    }

    /// Whether two messages with the same key may take different ways.
    pub fn varies(self) -> bool {
        !matches!(self, Self::Direct | Self::Fanout | Self::Topic | Self::ModulusHash)
    }

    /// Whether the type deduplicates by itself.
    pub fn deduplicates(self) -> bool {
        self == Self::Deduplication
    }

    /// The name of the internal queue that an exchange of this type keeps messages in.
    pub fn internal_queue(self, exchange: &str) -> Option<String> {
        (self == Self::RecentHistory).then(|| format!("amq.history.{exchange}"))
    }
}

/// How many messages a recent-history exchange with these arguments keeps.
pub(crate) fn history_length(arguments: &FieldTable) -> u64 {
    let given = arguments.get("x-recent-history-length").and_then(|value| value.as_i64());
    given.and_then(|length| u64::try_from(length).ok()).unwrap_or(HISTORY_LENGTH)
}

/// Whether `x-recent-history-length` is a positive integer, if it is there.
pub(super) fn check_history_length(arguments: &FieldTable) -> Result<(), BadExchange> {
    match arguments.get("x-recent-history-length") {
        Some(value) if value.as_i64().is_none_or(|length| length < 1) => {
            Err(BadExchange::HistoryLength(value.clone()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names() {
        for kind in ExchangeKind::all() {
            assert_eq!(ExchangeKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(ExchangeKind::parse("Direct"), None);
        assert_eq!(ExchangeKind::parse(""), None);
    }
}
