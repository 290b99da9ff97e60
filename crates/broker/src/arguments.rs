//! Declaration arguments: which are valid, and when two declarations mean the same.
//!
//! The texts are RabbitMQ's (`rabbit_amqqueue:check_arguments`, `rabbit_misc:assert_args_equivalence`), Erlang
//! terms included, because clients match on them.

use leveret_wire::{FieldTable, FieldValue};

use crate::error::Refusal;
use crate::queue::{Limits, Overflow};

/// Timers of RabbitMQ fit 32 bits of milliseconds.
const TIMER_MAX_MS: i64 = 0xFFFF_FFFF;
const PRIORITY_MAX: i64 = 255;

type Check = fn(&FieldValue, &FieldTable) -> Result<(), String>;

/// The arguments that a classic queue knows. Others are kept, mean nothing and are never compared.
const QUEUE_ARGUMENTS: &[(&str, Check)] = &[
    ("x-dead-letter-exchange", |value, _| long_string(value)),
    ("x-dead-letter-routing-key", dead_letter_key),
    ("x-expires", |value, _| integer(value).and_then(|n| not_zero(n).and_then(timer))),
    ("x-max-length", |value, _| integer(value).map(drop)),
    ("x-max-length-bytes", |value, _| integer(value).map(drop)),
    ("x-max-priority", |value, _| integer(value).and_then(priority)),
    ("x-message-ttl", |value, _| integer(value).and_then(timer)),
    ("x-overflow", |value, _| {
        one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow")
    }),
    ("x-queue-master-locator", |value, _| long_string(value)),
    ("x-queue-mode", |value, _| one_of(value, &["default", "lazy"], "invalid_queue_mode")),
    ("x-queue-type", |value, _| queue_type(value)),
    ("x-single-active-consumer", |value, _| boolean(value)),
];

/// Checks the arguments of a new queue. `described` is `queue 'q' in vhost '/'`.
pub(crate) fn check_queue(arguments: &FieldTable, described: &str) -> Result<(), Refusal> {
    for (key, check) in QUEUE_ARGUMENTS {
        let Some(value) = arguments.get(key) else { continue };
        check(value, arguments)
            .map_err(|term| Refusal::precondition(format!("invalid arg '{key}' for {described}: {term}")))?;
    }
    Ok(())
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
        buries: arguments.get("x-dead-letter-exchange").is_some(),
    }
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

/// All integer types (and decimals) are one class.
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
    let number = value.as_i64().ok_or_else(|| unacceptable(value))?;
    if number < 0 { Err(format!("{{value_negative,{number}}}")) } else { Ok(number) }
}

fn not_zero(number: i64) -> Result<i64, String> {
    if number == 0 { Err("{value_zero,0}".into()) } else { Ok(number) }
}

fn timer(number: i64) -> Result<(), String> {
    if number > TIMER_MAX_MS { Err(format!("{{value_too_big,{number}}}")) } else { Ok(()) }
}

fn priority(number: i64) -> Result<(), String> {
    if number > PRIORITY_MAX { Err(format!("{{max_value_exceeded,{number}}}")) } else { Ok(()) }
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

fn one_of(value: &FieldValue, allowed: &[&str], otherwise: &str) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some(text) if allowed.contains(&text) => Ok(()),
        _ => Err(otherwise.into()),
    }
}

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
        let check = |pairs: &[(&str, FieldValue)], expected: Option<&str>| {
            let refusal = check_queue(&table(pairs), "queue 'q' in vhost '/'").err();
            assert_eq!(refusal.map(|r| r.explanation).as_deref(), expected);
        };
        check(&[("x-message-ttl", FieldValue::I32(0))], None);
        check(&[("x-unknown", FieldValue::Void)], None);
        check(
            &[("x-expires", FieldValue::I32(0))],
            Some("invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}"),
        );
        check(
            &[("x-max-length", text("many"))],
            Some("invalid arg 'x-max-length' for queue 'q' in vhost '/': {unacceptable_type,longstr}"),
        );
        check(
            &[("x-dead-letter-routing-key", text("k"))],
            Some(
                "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': \
                 routing_key_but_no_dlx_defined",
            ),
        );
        check(&[("x-queue-mode", text("lazy"))], None);
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
