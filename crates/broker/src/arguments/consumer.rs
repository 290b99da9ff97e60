//! Arguments of consumers.

use leveret_wire::{FieldTable, FieldValue};

use super::values::{integer, natural};
use super::{bare, invalid, refuse_foreign};
use crate::error::Refusal;
use crate::queue::stream::{Filter, Reading, StartAt};
use crate::settings::QueueKind;

/// What only consumers of another kind of queue know.
const FOREIGN_TO_WORK: &[&str] = &["x-stream-filter", "x-stream-match-unfiltered", "x-stream-offset"];

/// What only consumers of other queues know: a stream's readers do not compete, and may take their time.
const FOREIGN_TO_STREAM: &[&str] = &["x-consumer-timeout", "x-priority"];

/// What the arguments of a consumer say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerArguments {
    /// Higher ones are served first (`x-priority`).
    pub(crate) priority: i64,
    /// How long it may keep a delivery, ms (`x-consumer-timeout`).
    pub(crate) timeout_ms: Option<u64>,
}

/// Checks the arguments of a consumer of `described`.
pub(crate) fn check_consumer(
    arguments: &FieldTable,
    described: &str,
    kind: QueueKind,
) -> Result<ConsumerArguments, Refusal> {
    let number = |key: &str, check: fn(&FieldValue) -> Result<i64, String>| {
        let checked = arguments.get(key).map(check).transpose();
        checked.map_err(|term| invalid(key, described, &term))
    };
    let priority = number("x-priority", integer)?.unwrap_or(0);
    let timeout_ms = number("x-consumer-timeout", natural)?.map(i64::unsigned_abs);
    let foreign = if kind == QueueKind::Stream { FOREIGN_TO_STREAM } else { FOREIGN_TO_WORK };
    refuse_foreign(|key| foreign.contains(&key), arguments, described, kind)?;
    Ok(ConsumerArguments { priority, timeout_ms })
}

/// Where a consumer of a stream starts, and what it wants.
pub(crate) fn stream_reading(
    arguments: &FieldTable,
    described: &str,
    now_ms: u64,
) -> Result<Reading, Refusal> {
    let start = match arguments.get("x-stream-offset") {
        None => StartAt::default(),
        Some(value) => StartAt::parse(value, now_ms).ok_or_else(|| {
            let term = format!("{{invalid_stream_offset_arg,{}}}", erlang_term(value));
            invalid("x-stream-offset", described, &term)
        })?,
    };
    let unacceptable = |key: &str| {
        let name = arguments.get(key).map_or("none", FieldValue::type_name);
        invalid(key, described, &format!("{{unacceptable_type,{name}}}"))
    };
    Ok(Reading { start, filter: Filter::parse(arguments).map_err(unacceptable)? })
}

/// An argument as RabbitMQ shows it: `{longstr,<<"1q">>}`.
fn erlang_term(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(_) => format!("{{longstr,<<\"{}\">>}}", bare(value)),
        other => format!("{{{},{}}}", other.type_name(), bare(other)),
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
    fn a_consumer_has_a_priority() {
        let check = |key: &str, value: FieldValue, expected: Result<i64, &str>| {
            let priority = check_consumer(&table(&[(key, value)]), "Q", QueueKind::Classic)
                .map(|checked| checked.priority)
                .map_err(|r| r.explanation);
            assert_eq!(priority, expected.map_err(str::to_owned));
        };
        check("x-else", FieldValue::Void, Ok(0));
        check("x-priority", FieldValue::I8(-5), Ok(-5));
        let text_given = "invalid arg 'x-priority' for Q: \"expected integer, got longstr\"";
        check("x-priority", text("high"), Err(text_given));
        let foreign = "invalid arg 'x-stream-offset' for Q of queue type rabbit_classic_queue";
        check("x-stream-offset", text("first"), Err(foreign));
    }
}
