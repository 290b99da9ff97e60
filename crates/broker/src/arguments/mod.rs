//! Arguments of declarations and consumers: which are valid, and when two declarations mean the same.
//!
//! The texts are RabbitMQ 4's (`rabbit_amqqueue:check_declare_arguments`, `rabbit_misc:assert_args_equivalence`),
//! Erlang terms included, because clients match on them.

mod consumer;
mod queue;
mod size;
mod values;

use leveret_wire::{FieldTable, FieldValue};

use crate::error::Refusal;
use crate::settings::QueueKind;

pub(crate) use consumer::{ConsumerArguments, check_consumer, stream_reading};
pub(crate) use queue::{check_queue, same_for_queue};
pub use size::{ARGUMENTS_MAX_BYTES, read_arguments};
pub(crate) use values::{age_ms, expiry};

fn invalid(key: &str, described: &str, term: &str) -> Refusal {
    Refusal::precondition(format!("invalid arg '{key}' for {described}: {term}"))
}

fn refuse_foreign(
    is_foreign: impl Fn(&str) -> bool,
    arguments: &FieldTable,
    described: &str,
    kind: QueueKind,
) -> Result<(), Refusal> {
    match arguments.0.iter().find(|(key, _)| is_foreign(key)) {
        None => Ok(()),
        Some((key, _)) => Err(Refusal::precondition(format!(
            "invalid arg '{key}' for {described} of queue type rabbit_{}_queue",
            kind.name()
        ))),
    }
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
