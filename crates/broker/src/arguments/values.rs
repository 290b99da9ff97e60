//! What values arguments may have. A refusal is the Erlang term that RabbitMQ shows.

use leveret_wire::{FieldTable, FieldValue};

use super::bare;

/// The longest time to live: ten years.
const EXPIRY_MAX_MS: i64 = 315_360_000_000;
const PRIORITY_MAX: i64 = 255;
/// The smallest delivery limit means none.
const NO_DELIVERY_LIMIT: i64 = -1;

fn unacceptable(value: &FieldValue) -> String {
    format!("{{unacceptable_type,{}}}", value.type_name())
}

pub(super) fn integer(value: &FieldValue) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("\"expected integer, got {}\"", value.type_name()))
}

pub(super) fn natural(value: &FieldValue) -> Result<i64, String> {
    integer(value).and_then(not_negative)
}

fn not_negative(number: i64) -> Result<i64, String> {
    if number < 0 { Err(format!("{{value_negative,{number}}}")) } else { Ok(number) }
}

pub(super) fn not_zero(number: i64) -> Result<i64, String> {
    if number == 0 { Err("{value_zero,0}".into()) } else { Ok(number) }
}

/// A time to live in milliseconds; the refusal is an Erlang term.
pub(crate) fn expiry(number: i64) -> Result<(), String> {
    match not_negative(number)? {
        0..=EXPIRY_MAX_MS => Ok(()),
        _ => Err(format!("{{value_too_large,{number}}}")),
    }
}

pub(super) fn priority(number: i64) -> Result<(), String> {
    if number > PRIORITY_MAX { Err(format!("{{max_value_exceeded,{number}}}")) } else { Ok(()) }
}

/// The version of RabbitMQ's own files; clients name the one that is left.
pub(super) fn queue_version(number: i64) -> Result<(), String> {
    if number == 2 { Ok(()) } else { Err(format!("\"unsupported queue version '{number}'\"")) }
}

pub(super) fn long_string(value: &FieldValue) -> Result<(), String> {
    match value {
        FieldValue::LongString(_) => Ok(()),
        other => Err(unacceptable(other)),
    }
}

pub(super) fn boolean(value: &FieldValue) -> Result<(), String> {
    value.as_bool().map(drop).ok_or_else(|| unacceptable(value))
}

pub(super) fn dead_letter_key(value: &FieldValue, arguments: &FieldTable) -> Result<(), String> {
    long_string(value)?;
    if arguments.get("x-dead-letter-exchange").is_none() {
        return Err("routing_key_but_no_dlx_defined".into());
    }
    Ok(())
}

pub(super) fn overflow(value: &FieldValue) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some("drop-head" | "reject-publish" | "reject-publish-dlx") => Ok(()),
        _ => Err("invalid_overflow".into()),
    }
}

pub(super) fn queue_type(value: &FieldValue) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some("classic" | "quorum" | "stream" | "delayed") => Ok(()),
        _ => Err(format!("\"unsupported queue type '{}'\"", bare(value))),
    }
}

pub(super) fn at_least_one(value: &FieldValue) -> Result<(), String> {
    natural(value).and_then(not_zero).map(drop)
}

/// One of the words, else the refusal `term`.
pub(super) fn one_of(value: &FieldValue, words: &[&str], term: &str) -> Result<(), String> {
    long_string(value)?;
    match value.as_str() {
        Some(word) if words.contains(&word) => Ok(()),
        _ => Err(term.into()),
    }
}

/// RabbitMQ's four; on one node they mean the same.
pub(super) fn leader_locator(value: &FieldValue) -> Result<(), String> {
    one_of(value, &["client-local", "balanced", "random", "least-leaders"], "invalid_queue_locator_arg")
}

/// How often a delivery may fail; -1 lifts the limit of a quorum queue.
pub(super) fn delivery_limit(value: &FieldValue) -> Result<(), String> {
    match integer(value)? {
        limit if limit < NO_DELIVERY_LIMIT => Err(format!("{{value_negative,{limit}}}")),
        limit if limit > u32::MAX.into() => Err(format!("{{value_too_large,{limit}}}")),
        _ => Ok(()),
    }
}

/// A type that delays says how long.
pub(super) fn retry_type(value: &FieldValue, arguments: &FieldTable) -> Result<(), String> {
    one_of(value, &["disabled", "all", "failed", "returned"], "invalid_delayed_retry_type")?;
    if value.as_str() != Some("disabled") && arguments.get("x-delayed-retry-min").is_none() {
        return Err("\"x-delayed-retry-min is missing\"".into());
    }
    Ok(())
}

/// The longest delay is not below the shortest.
pub(super) fn retry_max(value: &FieldValue, arguments: &FieldTable) -> Result<(), String> {
    let max_ms = natural(value)?;
    let min_ms = arguments.get("x-delayed-retry-min").and_then(FieldValue::as_i64).unwrap_or(0);
    if max_ms < min_ms { Err("\"x-delayed-retry-max is below x-delayed-retry-min\"".into()) } else { Ok(()) }
}

/// A number and a unit: `7D`, `12h`.
pub(super) fn max_age(value: &FieldValue) -> Result<(), String> {
    long_string(value)?;
    value.as_str().and_then(age_ms).map(drop).ok_or_else(|| "invalid_max_age".into())
}

/// Reads RabbitMQ's form of an age: digits, then one of `Y M D h m s`. A year has 365 days, a month 30.
pub(crate) fn age_ms(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let unit_s: u64 = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let age_ms = number.parse::<u64>().ok()?.checked_mul(unit_s)?.checked_mul(1_000)?;
    (age_ms > 0).then_some(age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_number_and_a_unit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(age_ms(text), expected, "{text}");
        check("1s", Some(1_000));
        check("90m", Some(5_400_000));
        check("7D", Some(604_800_000));
        check("1Y", Some(31_536_000_000));
        check("0s", None);
        check("7", None);
        check("D", None);
        check("7 D", None);
        check("-1D", None);
        check("99999999999999999999Y", None);
        check("99999999999999Y", None);
    }
}
