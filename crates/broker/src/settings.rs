//! What a queue does beyond holding messages: limits, times, dead letters, retries.
//!
//! [`Settings`] are the settings in force, whatever they come from. The rule of a queue has a copy behind its lock;
//! whoever works without that lock asks [`Queue::settings`](crate::vhost::Queue::settings).

use leveret_wire::{FieldTable, FieldValue};

use crate::arguments::age_ms;
use crate::queue::{Level, RequestCare};

/// What kind of queue it is (`x-queue-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum QueueKind {
    /// The ordinary one.
    #[default]
    Classic,
    /// As RabbitMQ's, on one node: always durable, keeps transient messages too, counts failed deliveries.
    Quorum,
    /// Keeps what was consumed.
    Stream,
    /// A classic queue before which messages wait that ask for it.
    Delayed,
    /// Where they wait: internal, cannot be declared.
    Delays,
}

/// Priorities of a quorum queue, as of RabbitMQ 4.3; higher ones count as the highest.
const QUORUM_MAX_LEVEL: Level = 31;
/// How often a delivery from a quorum queue may fail, unless something else is said; RabbitMQ's since 4.0.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

impl QueueKind {
    /// The kind that was declared. Unknown ones have been refused.
    pub fn of(arguments: &FieldTable) -> Self {
        match arguments.get("x-queue-type").and_then(FieldValue::as_str) {
            Some("quorum") => Self::Quorum,
            Some("stream") => Self::Stream,
            Some("delayed") => Self::Delayed,
            Some("delays") => Self::Delays,
            _ => Self::Classic,
        }
    }

    /// The name, as clients write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
            Self::Delayed => "delayed",
            Self::Delays => "delays",
        }
    }

    /// Whether it is a classic queue but for what waits before it.
    pub fn is_classic(self) -> bool {
        matches!(self, Self::Classic | Self::Delayed)
    }

    /// Whether a message may have to wait before it can be consumed.
    pub fn delays(self) -> bool {
        matches!(self, Self::Delayed | Self::Delays)
    }

    /// Whether every message outlives the process, whatever its delivery mode.
    pub fn keeps_transient(self) -> bool {
        !self.is_classic()
    }

    /// The highest priority that such a queue distinguishes; higher ones count as this one.
    pub(crate) fn max_level(self, arguments: &FieldTable) -> Level {
        match self {
            Self::Classic | Self::Delayed => {
                let priority = arguments.get("x-max-priority").and_then(FieldValue::as_i64).unwrap_or(0);
                Level::try_from(priority).unwrap_or(0)
            }
            Self::Quorum => QUORUM_MAX_LEVEL,
            Self::Stream | Self::Delays => 0,
        }
    }
}

/// The settings of one queue that are in force. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Messages that may wait (`x-max-length`); unacknowledged ones do not count.
    pub messages: Option<u64>,
    /// Octets that may wait (`x-max-length-bytes`).
    pub size_bytes: Option<u64>,
    /// What gives way when it is full.
    pub overflow: Overflow,
    /// How long a message may wait (`x-message-ttl`).
    pub message_ttl_ms: Option<u64>,
    /// How long the queue stays without being used (`x-expires`).
    pub expires_ms: Option<u64>,
    /// Where messages go that it gives up.
    pub dead_letters: Option<DeadLetters>,
    /// At most one consumer is served at a time (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// Failed deliveries are counted and told (`x-delivery-count`), also after a restart.
    pub counts_attempts: bool,
    /// How often a delivery may fail before the message is given up (`x-delivery-limit`).
    pub delivery_limit: Option<u32>,
    /// What comes back waits before it is delivered again.
    pub retry: Option<Retry>,
    /// How long a delivery may stay unacknowledged (`x-consumer-timeout`).
    pub consumer_timeout_ms: Option<u64>,
    /// How old a message of a stream may get (`x-max-age`).
    pub max_age_ms: Option<u64>,
    /// What becomes of requests that nobody waits for (`x-rpc-orphans`, `x-rpc-deadline`).
    pub requests: RequestCare,
}

/// What gives way when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest message.
    #[default]
    DropHead,
    /// The new one: its publisher hears a nack.
    RejectPublish,
    /// The same, and the new one is a dead letter.
    RejectPublishDlx,
}

/// Where messages go that a queue gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The exchange (`x-dead-letter-exchange`). It need not exist.
    pub exchange: String,
    /// The key instead of the message's own (`x-dead-letter-routing-key`).
    pub routing_key: Option<String>,
    /// A message is not over before a queue has taken its dead letter (`x-dead-letter-strategy`). As in RabbitMQ only
    /// together with `reject-publish`, since a full queue must be able to drop its head.
    pub at_least_once: bool,
}

/// What comes back to the queue waits (`x-delayed-retry-*`), the longer the more often a delivery of it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// What waits.
    pub which: Retried,
    /// The wait after the first failure.
    pub min_ms: u64,
    /// The longest wait.
    pub max_ms: Option<u64>,
}

/// Which messages wait before they are delivered again (`x-delayed-retry-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// Whatever comes back.
    All,
    /// What was rejected or whose consumer died.
    Failed,
    /// What was given back unprocessed (`basic.nack`).
    Returned,
}

impl Settings {
    /// What a queue's arguments say. They have been checked.
    pub fn of_arguments(kind: QueueKind, arguments: &FieldTable) -> Self {
        let number =
            |key| arguments.get(key).and_then(FieldValue::as_i64).and_then(|n| u64::try_from(n).ok());
        let text = |key| arguments.get(key).and_then(FieldValue::as_str).map(str::to_owned);
        let overflow = text("x-overflow").and_then(|name| Overflow::parse(&name)).unwrap_or_default();
        let is_strict = text("x-dead-letter-strategy").as_deref() == Some("at-least-once");
        let dead_letters = text("x-dead-letter-exchange").map(|exchange| DeadLetters {
            exchange,
            routing_key: text("x-dead-letter-routing-key"),
            at_least_once: is_strict && overflow == Overflow::RejectPublish,
        });
        let delivery_limit = delivery_limit(kind, arguments);
        let retry = retry(arguments);
        Self {
            messages: number("x-max-length"),
            size_bytes: number("x-max-length-bytes"),
            overflow,
            message_ttl_ms: number("x-message-ttl"),
            expires_ms: number("x-expires"),
            dead_letters,
            single_active_consumer: arguments.get("x-single-active-consumer").and_then(FieldValue::as_bool)
                == Some(true),
            counts_attempts: kind == QueueKind::Quorum || delivery_limit.is_some() || retry.is_some(),
            delivery_limit,
            retry,
            consumer_timeout_ms: number("x-consumer-timeout"),
            max_age_ms: text("x-max-age").and_then(|age| age_ms(&age)),
            requests: RequestCare::of_arguments(arguments),
        }
    }
}

/// A negative one means none.
fn delivery_limit(kind: QueueKind, arguments: &FieldTable) -> Option<u32> {
    match arguments.get("x-delivery-limit").and_then(FieldValue::as_i64) {
        Some(limit) => u32::try_from(limit).ok(),
        None => (kind == QueueKind::Quorum).then_some(QUORUM_DELIVERY_LIMIT),
    }
}

fn retry(arguments: &FieldTable) -> Option<Retry> {
    let number = |key| arguments.get(key).and_then(FieldValue::as_i64).and_then(|n| u64::try_from(n).ok());
    let which = Retried::parse(arguments.get("x-delayed-retry-type")?.as_str()?)?;
    Some(Retry { which, min_ms: number("x-delayed-retry-min")?, max_ms: number("x-delayed-retry-max") })
}

impl Overflow {
    /// The rule of that name, as clients write it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
}

impl Retried {
    /// The type of that name, as clients write it; `None` for `disabled` too.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "all" => Some(Self::All),
            "failed" => Some(Self::Failed),
            "returned" => Some(Self::Returned),
            _ => None,
        }
    }
}

impl Retry {
    /// How long a message waits whose delivery has failed `failures` times, ms. `None`: it does not wait.
    pub fn delay_ms(&self, failures: u32, failed_now: bool) -> Option<u64> {
        let waits = match self.which {
            Retried::All => true,
            Retried::Failed => failed_now,
            Retried::Returned => !failed_now,
        };
        let delay_ms = self.min_ms.saturating_mul(u64::from(failures.max(1)));
        waits.then(|| delay_ms.min(self.max_ms.unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(&str, FieldValue)]) -> FieldTable {
        FieldTable(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_quorum_queue_has_a_delivery_limit() {
        let check = |pairs: &[(&str, FieldValue)], expected: (bool, Option<u32>)| {
            let arguments = table(pairs);
            let settings = Settings::of_arguments(QueueKind::of(&arguments), &arguments);
            assert_eq!((settings.counts_attempts, settings.delivery_limit), expected, "{pairs:?}");
        };
        let quorum = ("x-queue-type", text("quorum"));
        check(&[], (false, None));
        check(std::slice::from_ref(&quorum), (true, Some(20)));
        check(&[quorum.clone(), ("x-delivery-limit", FieldValue::I32(0))], (true, Some(0)));
        check(&[quorum, ("x-delivery-limit", FieldValue::I32(-1))], (true, None));
        check(&[("x-delivery-limit", FieldValue::I32(3))], (true, Some(3)));
    }

    #[test]
    fn a_retry_waits_the_longer_the_more_often_it_failed() {
        let check = |which, max_ms, failures, failed_now, expected: Option<u64>| {
            let retry = Retry { which, min_ms: 1000, max_ms };
            assert_eq!(retry.delay_ms(failures, failed_now), expected, "{retry:?} {failures} {failed_now}");
        };
        check(Retried::All, None, 0, false, Some(1000));
        check(Retried::All, None, 3, true, Some(3000));
        check(Retried::All, Some(2500), 3, true, Some(2500));
        check(Retried::Failed, None, 1, false, None);
        check(Retried::Returned, None, 1, true, None);
        check(Retried::Returned, None, 2, false, Some(2000));
        check(Retried::All, None, u32::MAX, true, Some(1000 * u64::from(u32::MAX)));
    }
}
