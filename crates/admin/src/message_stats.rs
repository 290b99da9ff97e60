//! `message_stats`: what happened to messages, with rates, under RabbitMQ's names.

use leveret_broker::counts::MessageCounts;
use serde_json::{Map, Value};

use crate::rates::{Samples, Trend};

const PUBLISHING: [&str; 4] = ["publish", "confirm", "return_unroutable", "drop_unroutable"];
const DELIVERING: [&str; 8] =
    ["ack", "deliver", "deliver_get", "deliver_no_ack", "get", "get_empty", "get_no_ack", "redeliver"];
/// How many values they are.
pub(crate) const COUNT: usize = PUBLISHING.len() + DELIVERING.len();

/// The values, in the order of the names.
pub(crate) fn values(counts: &MessageCounts) -> [u64; COUNT] {
    [
        counts.publish,
        counts.confirm,
        counts.return_unroutable,
        counts.drop_unroutable,
        counts.ack,
        counts.deliver,
        counts.deliver_get(),
        counts.deliver_no_ack,
        counts.get,
        counts.get_empty,
        counts.get_no_ack,
        counts.redeliver,
    ]
}

/// Where a value is among [`values`], by its name.
pub(crate) fn position(name: &str) -> Option<usize> {
    PUBLISHING.iter().chain(&DELIVERING).position(|known| *known == name)
}

/// Which values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All of them.
    All,
    /// As RabbitMQ: those of publishing where something was published, those of delivering where something was delivered or
    /// fetched.
    WhatHappened,
    /// The same of a queue, which confirms and returns nothing.
    OfQueue,
}

/// The object; `None` where nothing happened. The values begin at `first` in `trend`.
pub(crate) fn object(trend: &Trend, first: usize, shown: Shown, samples: Option<Samples>) -> Option<Value> {
    let mut stats = Map::new();
    let happened =
        |range: std::ops::Range<usize>| range.into_iter().any(|at| trend.value_now(first + at) > 0);
    if shown == Shown::All || happened(0..PUBLISHING.len()) {
        let names = if shown == Shown::OfQueue { &PUBLISHING[..1] } else { &PUBLISHING[..] };
        trend.put(&mut stats, first, names, samples);
    }
    if shown == Shown::All || happened(PUBLISHING.len()..COUNT) {
        trend.put(&mut stats, first + PUBLISHING.len(), &DELIVERING, samples);
    }
    (!stats.is_empty()).then_some(Value::Object(stats))
}
