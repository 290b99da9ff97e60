//! Arguments of queue declarations.

use leveret_wire::{FieldTable, FieldValue};

use super::values::{
    at_least_one, boolean, dead_letter_key, delivery_limit, expiry, integer, leader_locator, long_string,
    max_age, natural, not_zero, one_of, overflow, priority, queue_type, queue_version, retry_max, retry_type,
};
use super::{invalid, refuse_foreign, same};
use crate::error::Refusal;
use crate::settings::QueueKind;

const QUEUE_TYPE: &str = "x-queue-type";
const SEGMENT_SIZE: &str = "x-stream-max-segment-size-bytes";
const SEGMENT_SIZE_MAX_BYTES: i64 = 3_000_000_000;

type Check = fn(&FieldValue, &FieldTable) -> Result<(), String>;

/// One argument that some kind of queue knows.
struct Known {
    key: &'static str,
    kinds: &'static [QueueKind],
    check: Check,
    /// Two declarations must agree on it.
    is_compared: bool,
}

const CLASSIC: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed];
const QUORUM: &[QueueKind] = &[QueueKind::Quorum];
const STREAM: &[QueueKind] = &[QueueKind::Stream];
/// Queues whose messages go when they are consumed.
const WORK: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed, QueueKind::Quorum];
const ANY: &[QueueKind] = &[QueueKind::Classic, QueueKind::Delayed, QueueKind::Quorum, QueueKind::Stream];

const fn known(key: &'static str, kinds: &'static [QueueKind], check: Check) -> Known {
    Known { key, kinds, check, is_compared: true }
}

/// An argument of ours: those who declare the queue for RabbitMQ do not name it, and must not be refused.
const fn unknown_to_rabbitmq(key: &'static str, kinds: &'static [QueueKind], check: Check) -> Known {
    Known { key, kinds, check, is_compared: false }
}

/// Every argument that means something, in the order in which RabbitMQ checks them. On another kind of queue it is
/// refused, since it would not do what was asked for. All others are kept, mean nothing and are never compared.
///
/// Beyond RabbitMQ: delivery limit, delayed retry and consumer timeout on classic queues.
const ARGUMENTS: &[Known] = &[
    known("x-expires", WORK, |value, _| integer(value).and_then(|n| not_zero(n).and_then(expiry))),
    known("x-message-ttl", WORK, |value, _| integer(value).and_then(expiry)),
    known("x-dead-letter-exchange", WORK, |value, _| long_string(value)),
    known("x-dead-letter-routing-key", WORK, dead_letter_key),
    known("x-dead-letter-strategy", QUORUM, |value, _| {
        one_of(value, &["at-most-once", "at-least-once"], "invalid_dlx_strategy")
    }),
    known("x-max-length", WORK, |value, _| natural(value).map(drop)),
    known("x-max-length-bytes", ANY, |value, _| natural(value).map(drop)),
    // These bounded memory once; ours is bounded for all queues together.
    known("x-max-in-memory-length", QUORUM, |value, _| natural(value).map(drop)),
    known("x-max-in-memory-bytes", QUORUM, |value, _| natural(value).map(drop)),
    known("x-max-priority", CLASSIC, |value, _| natural(value).and_then(priority)),
    known("x-overflow", WORK, |value, _| overflow(value)),
    known("x-queue-version", CLASSIC, |value, _| natural(value).and_then(queue_version)),
    known("x-single-active-consumer", WORK, |value, _| boolean(value)),
    known("x-consumer-timeout", WORK, |value, _| natural(value).map(drop)),
    // On one node no consumer is out of reach, and there is one member.
    known("x-consumer-disconnected-timeout", QUORUM, |value, _| natural(value).map(drop)),
    known("x-quorum-initial-group-size", QUORUM, |value, _| at_least_one(value)),
    known("x-max-age", STREAM, |value, _| max_age(value)),
    known(SEGMENT_SIZE, STREAM, |value, _| natural(value).map(drop)),
    known("x-stream-filter-size-bytes", STREAM, |value, _| natural(value).map(drop)),
    known("x-initial-cluster-size", STREAM, |value, _| at_least_one(value)),
    known("x-delivery-limit", WORK, |value, _| delivery_limit(value)),
    known("x-delayed-retry-type", WORK, retry_type),
    known("x-delayed-retry-min", WORK, |value, _| natural(value).map(drop)),
    known("x-delayed-retry-max", WORK, retry_max),
    // Queues live where the broker is.
    known("x-queue-leader-locator", ANY, |value, _| leader_locator(value)),
    // These meant something once. Old clients name them on any queue.
    known("x-queue-mode", CLASSIC, |_, _| Ok(())),
    known("x-queue-master-locator", CLASSIC, |_, _| Ok(())),
    unknown_to_rabbitmq("x-rpc-orphans", WORK, |value, _| {
        one_of(value, &["keep", "drop", "dead-letter"], "invalid_rpc_orphans")
    }),
    unknown_to_rabbitmq("x-rpc-deadline", WORK, |value, _| boolean(value)),
];

/// Checks the arguments of a new queue and answers its kind. `described` is `queue 'q' in vhost '/'`.
pub(crate) fn check_queue(arguments: &FieldTable, described: &str) -> Result<QueueKind, Refusal> {
    if let Some(value) = arguments.get(QUEUE_TYPE) {
        queue_type(value).map_err(|term| invalid(QUEUE_TYPE, described, &term))?;
    }
    let kind = QueueKind::of(arguments);
    for known in ARGUMENTS.iter().filter(|known| known.kinds.contains(&kind)) {
        if let Some(value) = arguments.get(known.key) {
            (known.check)(value, arguments).map_err(|term| invalid(known.key, described, &term))?;
        }
    }
    let is_foreign =
        |key: &str| ARGUMENTS.iter().any(|known| known.key == key && !known.kinds.contains(&kind));
    refuse_foreign(is_foreign, arguments, described, kind)?;
    check_segment_size(kind, arguments)?;
    Ok(kind)
}

/// RabbitMQ's limit; ours have their own size.
fn check_segment_size(kind: QueueKind, arguments: &FieldTable) -> Result<(), Refusal> {
    let size_bytes = arguments.get(SEGMENT_SIZE).and_then(FieldValue::as_i64).unwrap_or(0);
    if kind == QueueKind::Stream && size_bytes > SEGMENT_SIZE_MAX_BYTES {
        return Err(Refusal::precondition(format!("Exceeded max value for {SEGMENT_SIZE}")));
    }
    Ok(())
}

/// Compares the known arguments of an existing queue with those of another declaration.
pub(crate) fn same_for_queue(
    current: &FieldTable,
    received: &FieldTable,
    described: &str,
) -> Result<(), Refusal> {
    same(QUEUE_TYPE, current, received, described)?;
    let kind = QueueKind::of(current);
    let known = ARGUMENTS.iter().filter(|known| known.is_compared && known.kinds.contains(&kind));
    known.into_iter().try_for_each(|known| same(known.key, current, received, described))
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
        let check = |kind: &str, key: &str, value: FieldValue, expected: Option<&str>| {
            let refusal = check_queue(&table(&[("x-queue-type", text(kind)), (key, value)]), "Q").err();
            let expected = expected.map(|term| format!("invalid arg '{key}' for Q{term}"));
            assert_eq!(refusal.map(|r| r.explanation), expected);
        };
        check("classic", "x-message-ttl", FieldValue::I32(0), None);
        check("classic", "x-message-ttl", FieldValue::I64(315_360_000_000), None);
        let too_large = ": {value_too_large,315360000001}";
        check("classic", "x-message-ttl", FieldValue::I64(315_360_000_001), Some(too_large));
        check("classic", "x-unknown", FieldValue::Void, None);
        check("classic", "x-expires", FieldValue::I32(0), Some(": {value_zero,0}"));
        check("classic", "x-max-length", text("many"), Some(": \"expected integer, got longstr\""));
        check("classic", "x-dead-letter-routing-key", text("k"), Some(": routing_key_but_no_dlx_defined"));
        check("classic", "x-queue-mode", text("lazy"), None);
        check("classic", "x-delivery-limit", FieldValue::I32(3), None);
        check("classic", "x-max-age", text("1D"), Some(" of queue type rabbit_classic_queue"));
        check("quorum", "x-delivery-limit", FieldValue::I32(-1), None);
        check("quorum", "x-delayed-retry-type", text("all"), Some(": \"x-delayed-retry-min is missing\""));
        check("quorum", "x-delayed-retry-type", text("disabled"), None);
        check("quorum", "x-max-priority", FieldValue::I32(3), Some(" of queue type rabbit_quorum_queue"));
        check("quorum", "x-quorum-initial-group-size", FieldValue::I32(0), Some(": {value_zero,0}"));
        check("stream", "x-max-age", text("7D"), None);
        check("stream", "x-max-age", text("7 days"), Some(": invalid_max_age"));
        check("stream", "x-message-ttl", FieldValue::I32(1), Some(" of queue type rabbit_stream_queue"));
    }

    #[test]
    fn an_unknown_type_is_refused() {
        let refusal = check_queue(&table(&[("x-queue-type", text("heap"))]), "Q").unwrap_err();
        assert_eq!(
            refusal.explanation,
            "invalid arg 'x-queue-type' for Q: \"unsupported queue type 'heap'\""
        );
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
