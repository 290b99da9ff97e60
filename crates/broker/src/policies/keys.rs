//! The settings that a policy may have: one row each.
//!
//! A key is the argument of a declaration without its `x-` (`alternate-exchange` has none). What it does is therefore
//! written where arguments are read ([`Settings::of_arguments`](crate::settings::Settings::of_arguments)): a policy
//! only changes which arguments are in force. Texts of refusals are RabbitMQ's (`rabbit_policies`).

use leveret_wire::FieldValue;

use crate::arguments::age_ms;
use crate::settings::QueueKind;

/// One setting.
pub(super) struct Key {
    /// Its name in a definition.
    pub(super) name: &'static str,
    /// The kinds of queues that know it. A policy that has it passes by all others, whatever else it says.
    pub(super) kinds: &'static [QueueKind],
    is_valid: fn(&FieldValue) -> bool,
    noun: &'static str,
    /// What happens to the value of a user's policy when an operator's policy has one too; `None`: operators may
    /// not set it.
    pub(super) under_operator: Option<Meets>,
    /// What happens to it when the declaration has an argument of that name.
    pub(super) under_argument: Meets,
}

/// How two values of one setting become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// The other one counts: the operator's, or the argument.
    Other,
    /// The lower number counts; a negative one is no limit.
    Lower,
    /// The shorter age counts (`7D`, `12h`).
    Shorter,
}

impl Key {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// What is wrong with a value, in RabbitMQ's words.
    pub(super) fn check(&self, value: &FieldValue) -> Result<(), String> {
        if (self.is_valid)(value) {
            return Ok(());
        }
        Err(format!("{} is not a valid {}", super::term::print(value), self.noun))
    }
}

impl Meets {
    /// The value in force of a setting that was `mine` and meets `other`.
    pub(super) fn resolve(self, mine: &FieldValue, other: &FieldValue) -> FieldValue {
        let mine_counts = match self {
            Self::Other => false,
            Self::Lower => lower(mine) < lower(other),
            Self::Shorter => age(mine) < age(other),
        };
        if mine_counts { mine.clone() } else { other.clone() }
    }
}

const CLASSIC: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed];
const QUORUM: &[QueueKind] = &[QueueKind::Quorum];
const STREAM: &[QueueKind] = &[QueueKind::Stream];
/// Queues whose messages go when they are consumed.
const WORK: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed, QueueKind::Quorum];
const ANY: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed, QueueKind::Quorum, QueueKind::Stream];

/// The settings, by what they are about.
const KEYS: &[Key] = &[
    // How much may wait, and how long.
    limit("max-length", WORK, natural, "maximum length"),
    limit("max-length-bytes", ANY, natural, "maximum length in bytes"),
    limit("message-ttl", WORK, natural, "message TTL"),
    limit("expires", WORK, |value| integer(value).is_some_and(|n| n >= 1), "queue expiry"),
    Key {
        under_operator: Some(Meets::Other),
        ..word(
            "overflow",
            WORK,
            |value| is_one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"]),
            "overflow value",
        )
    },
    Key {
        under_argument: Meets::Shorter,
        ..word("max-age", STREAM, |value| value.as_str().and_then(age_ms).is_some(), "max age")
    },
    // Where messages go that nobody gets.
    word("alternate-exchange", ANY, is_text, "alternate exchange name"),
    word("dead-letter-exchange", WORK, is_text, "dead letter exchange name"),
    word("dead-letter-routing-key", WORK, is_text, "dead letter routing key"),
    word(
        "dead-letter-strategy",
        QUORUM,
        |value| is_one_of(value, &["at-most-once", "at-least-once"]),
        "dead letter strategy",
    ),
    // Deliveries that fail.
    limit("delivery-limit", WORK, |value| integer(value).is_some_and(|n| n >= -1), "delivery limit"),
    Key { under_operator: None, ..limit("consumer-timeout", WORK, natural, "consumer timeout") },
    word(
        "delayed-retry-type",
        WORK,
        |value| is_one_of(value, &["disabled", "all", "failed", "returned"]),
        "delayed retry type",
    ),
    word("delayed-retry-min", WORK, natural, "delayed retry minimum"),
    word("delayed-retry-max", WORK, natural, "delayed retry maximum"),
    // Requests that nobody waits for any more.
    word(
        "rpc-orphans",
        WORK,
        |value| is_one_of(value, &["keep", "drop", "dead-letter"]),
        "treatment of orphaned requests",
    ),
    word("rpc-deadline", WORK, |value| value.as_bool().is_some(), "switch for request deadlines"),
    // What federation links read: which upstreams.
    word("federation-upstream", ANY, is_text, "federation upstream name"),
    word("federation-upstream-set", ANY, is_text, "federation upstream set name"),
    word("federation-upstream-pattern", ANY, is_text, "federation upstream pattern name"),
    // These mean nothing on one node, or no longer. Definitions of a RabbitMQ cluster have them.
    word("consumer-disconnected-timeout", QUORUM, natural, "consumer disconnected timeout"),
    limit("max-in-memory-length", QUORUM, natural, "maximum memory in bytes"),
    limit("max-in-memory-bytes", QUORUM, natural, "maximum memory in bytes"),
    word("queue-mode", CLASSIC, |value| is_one_of(value, &["default", "lazy"]), "queue-mode value"),
    Key {
        under_operator: Some(Meets::Other),
        ..word("queue-version", CLASSIC, |value| matches!(integer(value), Some(1 | 2)), "queue-version value")
    },
    word(
        "queue-leader-locator",
        ANY,
        |value| is_one_of(value, &["client-local", "balanced", "random", "least-leaders"]),
        "queue leader locator value",
    ),
    word("initial-cluster-size", STREAM, natural, "cluster size"),
    word("target-group-size", QUORUM, |value| integer(value).is_some_and(|n| n >= 1), "target count"),
    word("stream-max-segment-size-bytes", STREAM, natural, "segment size"),
    word(
        "stream-filter-size-bytes",
        STREAM,
        |value| matches!(integer(value), Some(16..=255)),
        "filter size. Valid range is 16-255",
    ),
];

/// A number of which the lowest counts, whoever set it.
const fn limit(
    name: &'static str,
    kinds: &'static [QueueKind],
    is_valid: fn(&FieldValue) -> bool,
    noun: &'static str,
) -> Key {
    Key {
        under_operator: Some(Meets::Lower),
        under_argument: Meets::Lower,
        ..word(name, kinds, is_valid, noun)
    }
}

/// A setting that the argument of a declaration overrides, and that operators leave to users.
const fn word(
    name: &'static str,
    kinds: &'static [QueueKind],
    is_valid: fn(&FieldValue) -> bool,
    noun: &'static str,
) -> Key {
    Key { name, kinds, is_valid, noun, under_operator: None, under_argument: Meets::Other }
}

fn integer(value: &FieldValue) -> Option<i64> {
    match value {
        FieldValue::Timestamp(_) => None,
        other => other.as_i64(),
    }
}

fn natural(value: &FieldValue) -> bool {
    integer(value).is_some_and(|number| number >= 0)
}

fn is_text(value: &FieldValue) -> bool {
    value.as_str().is_some()
}

fn is_one_of(value: &FieldValue, words: &[&str]) -> bool {
    value.as_str().is_some_and(|word| words.contains(&word))
}

/// For comparing: no limit is above every limit.
fn lower(value: &FieldValue) -> u64 {
    value.as_i64().and_then(|number| u64::try_from(number).ok()).unwrap_or(u64::MAX)
}

fn age(value: &FieldValue) -> u64 {
    value.as_str().and_then(age_ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.as_bytes().to_vec())
    }

    #[test]
    fn values_are_checked_in_rabbitmqs_words() {
        let check = |name: &str, value: FieldValue, expected: Option<&str>| {
            let refused = Key::named(name).unwrap().check(&value).err();
            assert_eq!(refused.as_deref(), expected, "{name}");
        };
        check("max-length", FieldValue::I32(0), None);
        check("max-length", FieldValue::I32(-1), Some("-1 is not a valid maximum length"));
        check("max-length", text("a"), Some("<<\"a\">> is not a valid maximum length"));
        check("expires", FieldValue::I32(0), Some("0 is not a valid queue expiry"));
        check("overflow", text("x"), Some("<<\"x\">> is not a valid overflow value"));
        check("max-age", text("1x"), Some("<<\"1x\">> is not a valid max age"));
        check("dead-letter-exchange", FieldValue::I32(1), Some("1 is not a valid dead letter exchange name"));
        check("delivery-limit", FieldValue::I32(-1), None);
        check("queue-mode", text("lazy"), None);
    }

    #[test]
    fn two_values_become_one() {
        let check = |name: &str, mine: FieldValue, argument: FieldValue, expected: FieldValue| {
            let resolved = Key::named(name).unwrap().under_argument.resolve(&mine, &argument);
            assert_eq!(resolved, expected, "{name}");
        };
        let number = FieldValue::I32;
        check("max-length", number(3), number(5), number(3));
        check("max-length", number(5), number(3), number(3));
        check("delivery-limit", number(-1), number(3), number(3));
        check("delivery-limit", number(3), number(-1), number(3));
        check("overflow", text("drop-head"), text("reject-publish"), text("reject-publish"));
        check("max-age", text("1D"), text("25h"), text("1D"));
        check("max-age", text("1D"), text("1h"), text("1h"));
    }

    #[test]
    fn every_setting_has_one_row() {
        let mut names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
