//! What a program works with: queues of different make, exchanges, bindings. All drawn from the seed.

use leveret_wire::{FieldTable, FieldValue};

use crate::random::Random;

/// How many queues a program has; the last does not survive a restart.
pub(super) const QUEUES: usize = 6;
/// A fanout exchange.
pub(super) const FAN: &str = "fan";
/// A direct exchange.
pub(super) const KEYS: &str = "keys";
/// An exchange that nobody declares: dead letters sent there are dropped.
pub(super) const NOWHERE: &str = "nowhere";

/// Priorities of a quorum queue.
const QUORUM_MAX_PRIORITY: u8 = 31;
/// How often a delivery from a quorum queue may fail, unless something else is said.
const QUORUM_FAILURES_MAX: i64 = 20;

/// What gives way when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The head.
    DropHead,
    /// The newcomer, with a nack.
    Reject,
    /// The newcomer, with a nack, and it becomes a dead letter.
    RejectDeadLetter,
}

/// What a queue is declared as.
#[derive(Clone, Debug)]
pub(super) struct Make {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) message_ttl_ms: Option<u64>,
    pub(super) expires_ms: Option<u64>,
    pub(super) max_messages: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) overflow: Overflow,
    /// Exchange and, if the key changes, the new one.
    pub(super) dead_letters: Option<(String, Option<String>)>,
    pub(super) max_priority: u8,
    pub(super) single_active: bool,
    /// A quorum queue: it keeps transient messages too.
    pub(super) quorum: bool,
    /// How often a delivery may fail, if that was said.
    pub(super) delivery_limit: Option<i64>,
    /// What comes back waits.
    pub(super) retry: Option<Retry>,
    /// What leads to it besides its name: exchanges and keys. Made with it.
    pub(super) bindings: Vec<(&'static str, String)>,
}

/// What comes back waits the longer the more often it failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// What waits; `None`: whatever comes back.
    pub(super) failed: Option<bool>,
    pub(super) min_ms: u64,
    pub(super) max_ms: u64,
}

/// The queue with this number.
pub(super) fn queue_name(at: usize) -> String {
    format!("q{at}")
}

impl Make {
    /// Draws the queue with this number.
    pub(super) fn draw(at: usize, random: &mut Random) -> Self {
        let mut some = |wins, tries, low: u64, high: u64| {
            random.chance(wins, tries).then(|| low + random.below(high - low + 1))
        };
        let message_ttl_ms = some(2, 5, 0, 3000);
        let expires_ms = some(1, 6, 500, 6000);
        let max_messages = some(2, 5, 0, 6);
        let max_bytes = some(1, 6, 100, 2500);
        let delivery_limit = some(1, 4, 0, 3).map(|limit| limit as i64 - 1);
        let max_priority = some(1, 3, 1, 4).unwrap_or(0) as u8;
        let durable = at + 1 < QUEUES;
        let quorum = durable && random.chance(1, 4);
        let overflow = match random.below(4) {
            0 => Overflow::Reject,
            1 => Overflow::RejectDeadLetter,
            _ => Overflow::DropHead,
        };
        Self {
            name: queue_name(at),
            durable,
            message_ttl_ms,
            expires_ms,
            max_messages,
            max_bytes,
            overflow,
            dead_letters: random.chance(4, 5).then(|| draw_dead_letters(random)),
            max_priority: if quorum { QUORUM_MAX_PRIORITY } else { max_priority },
            single_active: random.chance(1, 5),
            quorum,
            delivery_limit,
            retry: (!durable && random.chance(1, 2)).then(|| Retry::draw(random)),
            bindings: draw_bindings(random),
        }
    }

    /// Whether failed deliveries are counted and told.
    pub(super) fn counts(&self) -> bool {
        self.failures_max().is_some() || self.quorum || self.retry.is_some()
    }

    /// How often a delivery may fail.
    pub(super) fn failures_max(&self) -> Option<i64> {
        let otherwise = self.quorum.then_some(QUORUM_FAILURES_MAX);
        self.delivery_limit.or(otherwise).filter(|max| *max >= 0)
    }

    /// As the arguments of `queue.declare`.
    pub(super) fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        let overflow = match self.overflow {
            Overflow::DropHead => None,
            Overflow::Reject => Some("reject-publish"),
            Overflow::RejectDeadLetter => Some("reject-publish-dlx"),
        };
        let numbers = [
            ("x-message-ttl", self.message_ttl_ms),
            ("x-expires", self.expires_ms),
            ("x-max-length", self.max_messages),
            ("x-max-length-bytes", self.max_bytes),
            (
                "x-max-priority",
                (self.max_priority > 0 && !self.quorum).then_some(u64::from(self.max_priority)),
            ),
            ("x-delayed-retry-min", self.retry.map(|retry| retry.min_ms)),
            ("x-delayed-retry-max", self.retry.map(|retry| retry.max_ms)),
        ];
        for (name, number) in numbers {
            arguments.0.extend(number.map(|number| (name.to_owned(), FieldValue::I64(number as i64))));
        }
        let (exchange, key) = self.dead_letters.clone().unzip();
        let retried = self.retry.map(|retry| match retry.failed {
            None => "all",
            Some(true) => "failed",
            Some(false) => "returned",
        });
        let texts = [
            ("x-queue-type", self.quorum.then(|| "quorum".to_owned())),
            ("x-delayed-retry-type", retried.map(str::to_owned)),
            ("x-overflow", overflow.map(str::to_owned)),
            ("x-dead-letter-exchange", exchange),
            ("x-dead-letter-routing-key", key.flatten()),
        ];
        for (name, text) in texts {
            arguments.0.extend(text.map(|text| (name.to_owned(), FieldValue::LongString(text.into_bytes()))));
        }
        if let Some(limit) = self.delivery_limit {
            arguments.push("x-delivery-limit", FieldValue::I64(limit));
        }
        if self.single_active {
            arguments.push("x-single-active-consumer", FieldValue::Bool(true));
        }
        arguments
    }
}

impl Retry {
    fn draw(random: &mut Random) -> Self {
        let failed = random.chance(1, 2).then(|| random.chance(1, 2));
        let min_ms = random.below(1500);
        Self { failed, min_ms, max_ms: min_ms + random.below(2000) }
    }

    /// How long a message waits that has failed so often, ms; `None`: not at all.
    pub(super) fn delay_ms(self, failures: i64, failed_now: bool) -> Option<u64> {
        let waits = self.failed.is_none_or(|failed| failed == failed_now);
        let times = u64::try_from(failures.max(1)).unwrap_or(1);
        waits.then(|| (self.min_ms * times).min(self.max_ms))
    }
}

fn draw_dead_letters(random: &mut Random) -> (String, Option<String>) {
    match random.below(8) {
        0 => (FAN.to_owned(), None),
        1 => (NOWHERE.to_owned(), None),
        2..4 => (KEYS.to_owned(), random.chance(1, 2).then(|| draw_key(random))),
        4 => (String::new(), None),
        _ => (String::new(), Some(queue_name(random.below(QUEUES as u64) as usize))),
    }
}

/// A routing key that a binding of [`KEYS`] may have.
pub(super) fn draw_key(random: &mut Random) -> String {
    format!("k{}", random.below(3))
}

fn draw_bindings(random: &mut Random) -> Vec<(&'static str, String)> {
    let mut bindings = Vec::new();
    if random.chance(1, 3) {
        bindings.push((FAN, String::new()));
    }
    if random.chance(1, 2) {
        bindings.push((KEYS, draw_key(random)));
    }
    bindings
}
