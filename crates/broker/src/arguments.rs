//! Arguments of declarations and consumers: which are valid, and when two declarations mean the same.
//!
//! The texts are RabbitMQ 4's (`rabbit_amqqueue:check_declare_arguments`, `rabbit_misc:assert_args_equivalence`),
//! Erlang terms included, because clients match on them.

use leveret_wire::{FieldTable, FieldValue};

use crate::error::Refusal;
use crate::queue::{Level, Limits, Overflow};

/// The longest time to live: ten years.
pub(crate) const EXPIRY_MAX_MS: i64 = 315_360_000_000;
const PRIORITY_MAX: i64 = 255;

type Check = fn(&FieldValue, &FieldTable) -> Result<(), String>;

/// The arguments that a classic queue knows, in the order in which RabbitMQ checks them. Others are kept, mean
/// nothing and are never compared.
const QUEUE_ARGUMENTS: &[(&str, Check)] = &[
    ("x-queue-type", |value, _| queue_type(value)),
    ("x-expires", |value, _| integer(value).and_then(|n| not_zero(n).and_then(expiry))),
    ("x-message-ttl", |value, _| integer(value).and_then(expiry)),
    ("x-dead-letter-exchange", |value, _| long_string(value)),
    ("x-dead-letter-routing-key", dead_letter_key),
    ("x-max-length", |value, _| natural(value).map(drop)),
    ("x-max-length-bytes", |value, _| natural(value).map(drop)),
    ("x-max-priority", |value, _| natural(value).and_then(priority)),
    ("x-overflow", |value, _| overflow(value)),
    ("x-queue-version", |value, _| natural(value).and_then(queue_version)),
    ("x-single-active-consumer", |value, _| boolean(value)),
    // These meant something once, or do on more than one node.
    ("x-queue-mode", |_, _| Ok(())),
    ("x-queue-master-locator", |_, _| Ok(())),
    ("x-queue-leader-locator", |_, _| Ok(())),
];

/// What only quorum queues and streams know. RabbitMQ refuses it elsewhere, since it would not do what was
/// asked for.
const FOREIGN_QUEUE_ARGUMENTS: &[&str] = &[
    "x-consumer-disconnected-timeout",
    "x-consumer-timeout",
    "x-dead-letter-strategy",
    "x-delayed-retry-max",
    "x-delayed-retry-min",
    "x-delayed-retry-type",
    "x-delivery-limit",
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-quorum-initial-group-size",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
];

const FOREIGN_CONSUMER_ARGUMENTS: &[&str] =
    &["x-consumer-timeout", "x-stream-filter", "x-stream-match-unfiltered", "x-stream-offset"];

/// Checks the arguments of a new queue. `described` is `queue 'q' in vhost '/'`.
pub(crate) fn check_queue(arguments: &FieldTable, described: &str) -> Result<(), Refusal> {
    for (key, check) in QUEUE_ARGUMENTS {
        if let Some(value) = arguments.get(key) {
            check(value, arguments).map_err(|term| invalid(key, described, &term))?;
        }
    }
    refuse_foreign(FOREIGN_QUEUE_ARGUMENTS, arguments, described)
}

/// Checks the arguments of a consumer of `described` and answers its priority.
pub(crate) fn consumer_priority(arguments: &FieldTable, described: &str) -> Result<i64, Refusal> {
    let priority = match arguments.get("x-priority") {
        Some(value) => integer(value).map_err(|term| invalid("x-priority", described, &term))?,
        None => 0,
    };
    refuse_foreign(FOREIGN_CONSUMER_ARGUMENTS, arguments, described)?;
    Ok(priority)
}

fn invalid(key: &str, described: &str, term: &str) -> Refusal {
    Refusal::precondition(format!("invalid arg '{key}' for {described}: {term}"))
}

fn refuse_foreign(foreign: &[&str], arguments: &FieldTable, described: &str) -> Result<(), Refusal> {
    match arguments.0.iter().find(|(key, _)| foreign.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => Err(Refusal::precondition(format!(
            "invalid arg '{key}' for {described} of queue type rabbit_classic_queue"
        ))),
    }
}

/// The limits that a queue's arguments set. They have been checked.
pub(crate) fn limits(arguments: &FieldTable) -> Limits {
    let number = |key| arguments.get(key).and_then(FieldValue::as_i64).and_then(|n| u64::try_from(n).ok());
    let overflow = match arguments.get("x-overflow").and_then(FieldValue::as_str) {
        Some("reject-publish" | "reject-publish-dlx") => Overflow::RejectPublish,
        _ => Overflow::DropHead,
    };
    Limits {
        messages: number("x-max-length"),
        size_bytes: number("x-max-length-bytes"),
        overflow,
        message_ttl_ms: number("x-message-ttl"),
        expires_ms: number("x-expires"),
        buries: arguments.get("x-dead-letter-exchange").is_some(),
        single_active_consumer: arguments.get("x-single-active-consumer").and_then(FieldValue::as_bool)
            == Some(true),
    }
}

/// The highest priority that a queue distinguishes; higher ones count as this one.
pub(crate) fn max_level(arguments: &FieldTable) -> Level {
    let priority = arguments.get("x-max-priority").and_then(FieldValue::as_i64).unwrap_or(0);
    Level::try_from(priority).unwrap_or(0)
}

/// Compares the known arguments of an existing queue with those of another declaration.
pub(crate) fn same_for_queue(
    current: &FieldTable,
    received: &FieldTable,
    described: &str,
) -> Result<(), Refusal> {
    QUEUE_ARGUMENTS.iter().try_for_each(|(key, _)| same(key, current, received, described))
}

/// Exchanges only compare their alternate.
pub(crate) fn same_for_exchange(
    current: &FieldTable,
    received: &FieldTable,
    described: &str,
) -> Result<(), Refusal> {
    same("alternate-exchange", current, received, described)
}

/// The refusal of a declaration whose field `key` differs.
pub(crate) fn inequivalent(key: &str, described: &str, received: &str, current: &str) -> Refusal {
    Refusal::precondition(format!(
        "inequivalent arg '{key}' for {described}: received {received} but current is {current}"
    ))
}

fn same(key: &str, current: &FieldTable, received: &FieldTable, described: &str) -> Result<(), Refusal> {
    let classic = FieldValue::LongString(b"classic".to_vec());
    let default = (key == "x-queue-type").then_some(&classic);
    let (current, received) = (current.get(key), received.get(key));
    match (current.or(default), received.or(default)) {
        (None, None) => Ok(()),
        (Some(a), Some(b)) if equal(a, b) => Ok(()),
        (Some(a), Some(b)) => {
            Err(inequivalent(key, described, &format!("'{}'", bare(b)), &format!("'{}'", bare(a))))
        }
        (a, b) => Err(inequivalent(key, described, &typed(b), &typed(a))),
    }
}

/// All integer types are one class.
fn equal(a: &FieldValue, b: &FieldValue) -> bool {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn bare(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(text) => String::from_utf8_lossy(text).into_owned(),
        FieldValue::Bool(flag) => flag.to_string(),
        FieldValue::Void => "undefined".into(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

fn typed(value: Option<&FieldValue>) -> String {
    match value {
        None => "none".into(),
        Some(value) => format!("the value '{}' of type '{}'", bare(value), value.type_name()),
    }
}

fn unacceptable(value: &FieldValue) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

fn integer(value: &FieldValue) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

fn natural(value: &FieldValue) -> Result<i64, String> {
    integer(value).and_then(not_negative)
}

fn not_negative(number: i64) -> Result<i64, String> {
    if number < 0 { Err(format!("{{value_negative,{number}}}")) } else { Ok(number) }
}

fn not_zero(number: i64) -> Result<i64, String> {
    if number == 0 { Err("{value_zero,0}".into()) } else { Ok(number) }
}

/// A time to live in milliseconds; the refusal is an Erlang term.
pub(crate) fn expiry(number: i64) -> Result<(), String> {
    match not_negative(number)? {
        0..=EXPIRY_MAX_MS => Ok(()),
        _ => Err(format!("{{value_too_large,{number}}}")),
    }
}

fn priority(number: i64) -> Result<(), String> {
    if number > PRIORITY_MAX { Err(format!("{{max_value_exceeded,{number}}}")) } else { Ok(()) }
}

/// The version of RabbitMQ's own files; clients name the one that is left.
fn queue_version(number: i64) -> Result<(), String> {
    if number == 2 { Ok(()) } else { Err(format!("\"unsupported queue version '{number}'\"")) }
}

fn long_string(value: &FieldValue) -> Result<(), String> {
    match value {
        FieldValue::LongString(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

fn boolean(value: &FieldValue) -> Result<(), String> {
    value.as_bool().map(drop).ok_or_else(|| unacceptable(value))
}

fn dead_letter_key(value: &FieldValue, arguments: &FieldTable) -> Result<(), String> {
    long_string(value)?;
    if arguments.get("x-dead-letter-exchange").is_none() {
        return Err("routing_key_but_no_dlx_defined".into());
    }
    Ok(())
}

fn overflow(value: &FieldValue) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some("drop-head" | "reject-publish" | "reject-publish-dlx") => Ok(()),
        _ => Err("invalid_overflow".into()),
    }
}

/// Quorum queues and streams are refused, not replaced by something weaker.
fn queue_type(value: &FieldValue) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some("classic") => Ok(()),
        _ => Err(format!("\"unsupported queue type '{}'\"", bare(value))),
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
    fn invalid_arguments_are_named() {
        let check = |key: &str, value: FieldValue, expected: Option<&str>| {
            let refusal = check_queue(&table(&[(key, value)]), "Q").err();
            let expected = expected.map(|term| format!("invalid arg '{key}' for Q{term}"));
            assert_eq!(refusal.map(|r| r.explanation), expected);
        };
        check("x-message-ttl", FieldValue::I32(0), None);
        check("x-message-ttl", FieldValue::I64(EXPIRY_MAX_MS), None);
        check("x-message-ttl", FieldValue::I64(EXPIRY_MAX_MS + 1), Some(": {value_too_large,315360000001}"));
        check("x-unknown", FieldValue::Void, None);
        check("x-expires", FieldValue::I32(0), Some(": {value_zero,0}"));
        check("x-max-length", text("many"), Some(": \"expected integer, got longstr\""));
        check("x-dead-letter-routing-key", text("k"), Some(": routing_key_but_no_dlx_defined"));
        check("x-queue-mode", text("lazy"), None);
        check("x-queue-type", text("quorum"), Some(": \"unsupported queue type 'quorum'\""));
        check("x-delivery-limit", FieldValue::I32(3), Some(" of queue type rabbit_classic_queue"));
    }

    #[test]
    fn a_consumer_has_a_priority() {
        let check = |key: &str, value: FieldValue, expected: Result<i64, &str>| {
            let priority = consumer_priority(&table(&[(key, value)]), "Q").map_err(|r| r.explanation);
            assert_eq!(priority, expected.map_err(str::to_owned));
        };
        check("x-else", FieldValue::Void, Ok(0));
        check("x-priority", FieldValue::I8(-5), Ok(-5));
        let text_given = "invalid arg 'x-priority' for Q: \"expected integer, got longstr\"";
        check("x-priority", text("high"), Err(text_given));
        let foreign = "invalid arg 'x-stream-offset' for Q of queue type rabbit_classic_queue";
        check("x-stream-offset", text("first"), Err(foreign));
    }

    #[test]
    fn the_same_number_in_another_integer_type_is_the_same() {
        let check =
            |current: &[(&str, FieldValue)], received: &[(&str, FieldValue)], expected: Option<&str>| {
                let refusal = same_for_queue(&table(current), &table(received), "Q").err();
                assert_eq!(refusal.map(|r| r.explanation).as_deref(), expected);
            };
        let ttl = |value| [("x-message-ttl", value)];
        check(&ttl(FieldValue::I32(1000)), &ttl(FieldValue::I64(1000)), None);
        check(&[("x-queue-type", text("classic"))], &[], None);
        check(&[("x-anything", FieldValue::I32(1))], &[], None);
        check(
            &ttl(FieldValue::I32(2000)),
            &ttl(FieldValue::I32(1000)),
            Some("inequivalent arg 'x-message-ttl' for Q: received '1000' but current is '2000'"),
        );
        check(
            &ttl(FieldValue::I32(2000)),
            &[],
            Some(
                "inequivalent arg 'x-message-ttl' for Q: received none but current is the value '2000' of \
                 type 'signedint'",
            ),
        );
    }
}
