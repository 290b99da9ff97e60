//! What properties say about a conversation: who is asked for an answer, which answer this is, how long it is wanted.
//!
//! An answer finds its request by two things that any client sets: where it goes and what it carries.
//!
//! ```text
//!   request   reply-to    "amq.gen-x"  or  "direct://replies/site1"      correlation-id  c1
//!                               │                          └─────┐                        │
//!   answer    routing key "amq.gen-x"                 "site1"    (last part of a path)    c1
//! ```

use leveret_wire::{FieldValue, RawProperties};

/// The header of an answer with its outcome: a gRPC code.
const STATUS_HEADER: &str = "rpc-status";
/// The header of a request with the time its caller gives it up, ms since 1970.
const DEADLINE_HEADER: &str = "rpc-deadline";

/// What an answer says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// No answer yet, only a sign of life.
    InProgress,
    /// An answer.
    Ok,
    /// A failure.
    Error,
}

/// The address and the id under which the answer to this request will come; `None`: it asks for none. Who sends only
/// a message id gets that back as the correlation id.
pub(super) fn expected_answer(properties: RawProperties<'_>) -> Option<(&[u8], &[u8])> {
    let id = expected_id(properties)?;
    let reply_to = properties.reply_to().filter(|reply_to| !reply_to.is_empty())?;
    Some((last_part(reply_to), id))
}

/// The id under which the answer to a message comes, if it asks for one.
pub(super) fn expected_id(properties: RawProperties<'_>) -> Option<&[u8]> {
    properties.correlation_id().or_else(|| properties.message_id())
}

/// The same of what may be an answer; `None`: it is none.
pub(super) fn given_answer<'a>(
    routing_key: &'a str,
    properties: RawProperties<'a>,
) -> Option<(&'a [u8], &'a [u8])> {
    Some((last_part(routing_key.as_bytes()), properties.correlation_id()?))
}

/// What the answer says of itself. Whoever knows nothing of the profile says nothing: that is success.
pub(super) fn outcome(properties: RawProperties<'_>) -> Outcome {
    let status = properties.headers().and_then(|headers| headers.find(STATUS_HEADER));
    match status.as_ref().and_then(FieldValue::as_str) {
        None | Some("OK") => Outcome::Ok,
        Some("IN_PROGRESS") => Outcome::InProgress,
        Some(_) => Outcome::Error,
    }
}

/// When nobody waits for the answer any more, µs since 1970.
pub(super) fn due_us(properties: RawProperties<'_>, now_us: u64) -> Option<u64> {
    let expiration = properties.expiration().and_then(|text| std::str::from_utf8(text).ok());
    match expiration.and_then(|text| text.parse::<u64>().ok()) {
        Some(ttl_ms) => Some(now_us.saturating_add(ttl_ms.saturating_mul(1000))),
        None => deadline_ms(properties).map(|at_ms| at_ms.saturating_mul(1000)),
    }
}

/// The header `rpc-deadline`: when the caller gives up, ms since 1970.
pub(crate) fn deadline_ms(properties: RawProperties<'_>) -> Option<u64> {
    let deadline = properties.headers()?.find(DEADLINE_HEADER)?;
    u64::try_from(deadline.as_i64()?).ok()
}

/// A reply-to may be a path or an address of the form `direct://exchange/key`; whoever answers uses its end as the key.
fn last_part(address: &[u8]) -> &[u8] {
    address.rsplit(|octet| *octet == b'/').next().unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use leveret_wire::{FieldTable, Properties};

    use super::*;

    fn text(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    fn with<R>(properties: Properties, read: impl FnOnce(RawProperties<'_>) -> R) -> R {
        read(RawProperties::parse(&properties.encode().unwrap()).unwrap())
    }

    #[test]
    fn an_answer_has_the_address_and_the_id_of_its_request() {
        let check = |reply_to: &str, routing_key: &str, expected: bool| {
            let request =
                Properties { reply_to: text(reply_to), correlation_id: text("c"), ..Default::default() };
            let answer = Properties { correlation_id: text("c"), ..Default::default() };
            with(request, |request| {
                with(answer, |answer| {
                    let matches = expected_answer(request) == given_answer(routing_key, answer);
                    assert_eq!(matches, expected, "{reply_to} answered to {routing_key}");
                })
            })
        };
        check("amq.gen-x", "amq.gen-x", true);
        check("amq.gen-x", "amq.gen-y", false);
        check("replies/site1", "site1", true);
        check("a/queue", "a/queue", true);
        check("direct://replies/site1", "site1", true);
        check("amqp://host/vhost/exchange/site1", "site1", true);
        check("replies/", "", true);
    }

    #[test]
    fn a_message_id_stands_in_for_the_correlation_id() {
        let request = Properties { reply_to: text("r"), message_id: text("m"), ..Default::default() };
        with(request, |request| assert_eq!(expected_answer(request), Some((&b"r"[..], &b"m"[..]))));
    }

    #[test]
    fn without_an_address_or_an_id_nothing_is_asked() {
        let check = |reply_to: Option<Vec<u8>>, correlation_id: Option<Vec<u8>>| {
            let properties = Properties { reply_to, correlation_id, ..Default::default() };
            with(properties, |properties| assert_eq!(expected_answer(properties), None));
        };
        check(None, text("c"));
        check(text("r"), None);
        check(text(""), text("c"));
        with(Properties::default(), |properties| assert_eq!(given_answer("r", properties), None));
    }

    #[test]
    fn an_answer_tells_its_outcome() {
        let check = |status: Option<FieldValue>, expected: Outcome| {
            let headers = status.map(|status| FieldTable::from([("rpc-status", status)]));
            with(Properties { headers, ..Default::default() }, |properties| {
                assert_eq!(outcome(properties), expected);
            });
        };
        let status = |status: &str| Some(FieldValue::LongString(status.as_bytes().to_vec()));
        check(None, Outcome::Ok);
        check(status("OK"), Outcome::Ok);
        check(status("NOT_FOUND"), Outcome::Error);
        check(status("IN_PROGRESS"), Outcome::InProgress);
        check(Some(FieldValue::I32(5)), Outcome::Ok);
    }

    #[test]
    fn the_time_to_live_comes_before_the_deadline() {
        let check = |expiration: Option<&str>, deadline: Option<i64>, expected: Option<u64>| {
            let headers = deadline.map(|at| FieldTable::from([("rpc-deadline", FieldValue::I64(at))]));
            let expiration = expiration.and_then(text);
            with(Properties { headers, expiration, ..Default::default() }, |properties| {
                assert_eq!(due_us(properties, 1_000_000), expected);
            });
        };
        check(None, None, None);
        check(Some("5"), None, Some(1_005_000));
        check(Some("5"), Some(2_000), Some(1_005_000));
        check(None, Some(2_000), Some(2_000_000));
        check(None, Some(-1), None);
    }
}
