//! A queue as RabbitMQ shows it.

use leveret_broker::settings::QueueKind;
use leveret_broker::vhost::Queue;
use leveret_broker::{QueueCondition, QueueRecord};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::message_stats::{self, Shown};
use crate::moment;
use crate::rates::{Span, Subject, Trend};
use crate::request::Request;
use crate::table_json;

/// A queue that has not been used for so long says since when.
const IDLE_MS: u64 = 1_000;
const LENGTHS: [&str; 3] = ["messages", "messages_ready", "messages_unacknowledged"];
/// Where [`trend`] has what arrived, and what of it had to wait.
const PUBLISHED: usize = LENGTHS.len();
const WAITED: usize = LENGTHS.len() + message_stats::COUNT;

/// How much of a queue is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What it was declared as (`disable_stats`).
    Declared,
    /// And how many messages it has (`enable_queue_totals`).
    Totals,
    /// Everything.
    All,
}

impl Detail {
    /// What a request wants.
    pub(crate) fn wanted(request: &Request) -> Detail {
        match (request.asks_for("disable_stats"), request.asks_for("enable_queue_totals")) {
            (false, _) => Self::All,
            (true, false) => Self::Declared,
            (true, true) => Self::Totals,
        }
    }
}

/// The JSON of a queue.
pub(crate) fn described(context: &Context, request: &Request, queue: &Queue, detail: Detail) -> Value {
    let record = queue.record();
    let mut shown = declared(context, queue, &record);
    if detail == Detail::Totals {
        LENGTHS.iter().zip(lengths(&record)).for_each(|(name, value)| put(&mut shown, name, json!(value)));
    }
    if detail == Detail::All {
        put_policies(&mut shown, queue);
        put_sizes(&mut shown, &record);
        put_consumers(&mut shown, queue.kind, &record);
        put_times(&mut shown, context.now_ms(), &record);
        put_rates(&mut shown, context, request, queue, &record);
    }
    Value::Object(shown)
}

fn put(shown: &mut Map<String, Value>, name: &str, value: Value) {
    shown.insert(name.to_owned(), value);
}

fn put_all(shown: &mut Map<String, Value>, pairs: impl IntoIterator<Item = (&'static str, Value)>) {
    shown.extend(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)));
}

fn declared(context: &Context, queue: &Queue, record: &QueueRecord) -> Map<String, Value> {
    let spec = &queue.spec;
    let mut shown = Map::new();
    put_all(
        &mut shown,
        [
            ("name", json!(&*queue.name)),
            ("vhost", json!(&*queue.vhost)),
            ("type", json!(queue.kind.name())),
            ("durable", json!(spec.durable)),
            ("auto_delete", json!(spec.auto_delete)),
            ("exclusive", json!(spec.owner.is_some())),
            ("arguments", table_json::object(&spec.arguments)),
            ("node", json!(context.host.node_name())),
            ("state", json!(state(&record.condition))),
        ],
    );
    put_kind(&mut shown, context, queue.kind);
    if let QueueCondition::Offline(reason) = &record.condition {
        put(&mut shown, "offline_reason", json!(reason));
    }
    if spec.internal {
        put(&mut shown, "internal", json!(true));
    }
    if let Some(owner) = spec.owner.and_then(|owner| context.broker().connection(owner)) {
        put(&mut shown, "owner_pid_details", json!({ "name": owner.name }));
    }
    shown
}

/// RabbitMQ's words.
fn state(condition: &QueueCondition) -> &'static str {
    match condition {
        QueueCondition::Running => "running",
        QueueCondition::Paused => "paused",
        QueueCondition::Offline(_) => "crashed",
        QueueCondition::Gone => "terminated",
    }
}

fn put_policies(shown: &mut Map<String, Value>, queue: &Queue) {
    let policies = queue.policies();
    let name = |policy: &Option<std::sync::Arc<leveret_broker::policies::Policy>>| {
        policy.as_ref().map_or(Value::Null, |policy| json!(policy.name))
    };
    put(shown, "policy", name(&policies.policy));
    put(shown, "operator_policy", name(&policies.operator_policy));
    put(shown, "effective_policy_definition", table_json::object(&policies.definition()));
}

fn put_sizes(shown: &mut Map<String, Value>, record: &QueueRecord) {
    let (ready, unacknowledged) = (record.ready, record.unacknowledged);
    let held = ready + unacknowledged;
    put_all(
        shown,
        [
            ("memory", json!(record.memory_bytes)),
            ("message_bytes", json!(held.bytes)),
            ("message_bytes_ready", json!(ready.bytes)),
            ("message_bytes_unacknowledged", json!(unacknowledged.bytes)),
            ("message_bytes_ram", json!(held.in_memory_bytes)),
            ("message_bytes_persistent", json!(held.persistent_bytes)),
            ("message_bytes_paged_out", json!(held.bytes - held.in_memory_bytes)),
            ("messages_ram", json!(held.in_memory)),
            ("messages_ready_ram", json!(ready.in_memory)),
            ("messages_unacknowledged_ram", json!(unacknowledged.in_memory)),
            ("messages_persistent", json!(held.persistent)),
            ("messages_paged_out", json!(held.messages - held.in_memory)),
        ],
    );
}

fn put_consumers(shown: &mut Map<String, Value>, kind: QueueKind, record: &QueueRecord) {
    let single =
        if kind == QueueKind::Quorum { "single_active_consumer_ctag" } else { "single_active_consumer_tag" };
    put_all(
        shown,
        [
            ("consumers", json!(record.consumers)),
            ("exclusive_consumer_tag", json!(record.exclusive_consumer.as_deref())),
            (single, json!(record.single_active_consumer.as_deref())),
        ],
    );
}

/// A queue of several nodes in RabbitMQ has one here.
fn put_kind(shown: &mut Map<String, Value>, context: &Context, kind: QueueKind) {
    if !matches!(kind, QueueKind::Quorum | QueueKind::Stream) {
        return;
    }
    let node = context.host.node_name();
    put_all(shown, [("leader", json!(node)), ("members", json!([node])), ("online", json!([node]))]);
}

fn put_times(shown: &mut Map<String, Value>, now_ms: u64, record: &QueueRecord) {
    put(shown, "head_message_timestamp", json!(record.head_timestamp_s));
    if record.used_at_ms > 0 && now_ms.saturating_sub(record.used_at_ms) >= IDLE_MS {
        put(shown, "idle_since", json!(moment::rfc3339(record.used_at_ms)));
    }
}

fn lengths(record: &QueueRecord) -> [u64; 3] {
    let (ready, unacknowledged) = (record.ready.messages, record.unacknowledged.messages);
    [ready + unacknowledged, ready, unacknowledged]
}

fn put_rates(
    shown: &mut Map<String, Value>,
    context: &Context,
    request: &Request,
    queue: &Queue,
    record: &QueueRecord,
) {
    let trend = trend(context, request, queue, record);
    trend.put(shown, 0, &LENGTHS, Span::Lengths.samples(request));
    if queue.kind != QueueKind::Stream {
        let capacity = json!(capacity(&trend, record));
        put_all(shown, ["consumer_capacity", "consumer_utilisation"].map(|name| (name, capacity.clone())));
    }
    let samples = Span::MessageRates.samples(request);
    if let Some(stats) = message_stats::object(&trend, LENGTHS.len(), Shown::OfQueue, samples) {
        put(shown, "message_stats", stats);
    }
}

/// The lengths, and what happened to messages.
fn trend(context: &Context, request: &Request, queue: &Queue, record: &QueueRecord) -> Trend {
    let mut values = lengths(record).to_vec();
    values.extend(message_stats::values(&record.counts.messages));
    values.push(record.waited);
    context.rates.look(Subject::Queue(queue.id.0), context.now_ms(), &values, Span::any(request))
}

/// The share of messages that found a consumer free when they arrived: an estimate of the share of time in which the queue could
/// deliver at once, which RabbitMQ measures. Where nothing arrived since the last look, whether it could now.
fn capacity(trend: &Trend, record: &QueueRecord) -> f64 {
    let (arrived, waited) = (trend.rate(PUBLISHED), trend.rate(WAITED));
    match (record.consumers, arrived > 0.0) {
        (0, _) => 0.0,
        (_, true) => (1.0 - waited / arrived).clamp(0.0, 1.0),
        (_, false) => f64::from(u8::from(record.has_taker)),
    }
}

/// The value of a column that is a rate, without the rest of the queue; `None`: it is none.
pub(crate) fn rate(context: &Context, request: &Request, queue: &Queue, column: &str) -> Option<f64> {
    let name = column.strip_suffix("_details.rate")?;
    let at = match name.strip_prefix("message_stats.") {
        Some(name) => LENGTHS.len() + message_stats::position(name)?,
        None => LENGTHS.iter().position(|length| *length == name)?,
    };
    Some(trend(context, request, queue, &queue.record()).rate(at))
}

#[cfg(test)]
mod tests {
    use leveret_broker::counts::QueueCounts;
    use leveret_broker::queue::Held;

    use super::*;
    use crate::rates::Rates;

    #[test]
    fn the_capacity_of_consumers_is_the_share_of_messages_that_did_not_wait() {
        let record = |consumers, has_taker| QueueRecord {
            condition: QueueCondition::Running,
            ready: Held::default(),
            unacknowledged: Held::default(),
            consumers,
            exclusive_consumer: None,
            single_active_consumer: None,
            head_timestamp_s: None,
            used_at_ms: 0,
            counts: QueueCounts::default(),
            waited: 0,
            has_taker,
            memory_bytes: 0,
        };
        let rates = Rates::default();
        let check = |at_ms: u64, [arrived, waited]: [u64; 2], record: QueueRecord, expected: f64| {
            let mut values = vec![0; WAITED + 1];
            (values[PUBLISHED], values[WAITED]) = (arrived, waited);
            let trend = rates.look(Subject::Node, at_ms, &values, false);
            let found = capacity(&trend, &record);
            assert!((found - expected).abs() < 1e-9, "{at_ms}: {found}");
        };
        check(0, [0, 0], record(1, true), 1.0);
        check(5_000, [100, 25], record(1, true), 0.75);
        check(10_000, [100, 25], record(1, false), 0.0);
        check(15_000, [200, 125], record(2, false), 0.0);
        check(20_000, [300, 125], record(2, false), 1.0);
        check(25_000, [400, 125], record(0, false), 0.0);
    }
}
