//! What the memory of the process is used for, under RabbitMQ's names.
//!
//! Known are the messages (`binary`) and, estimated, the queues of each kind. The rest is `other_proc`; what RabbitMQ has besides is not
//! here, and 0, as its tools want to see every name.

use leveret_broker::settings::QueueKind;
use serde_json::{Map, Value, json};

use crate::context::Context;

/// What is of Erlang, or is not told apart.
const ABSENT: [&str; 22] = [
    "allocated_unused",
    "atom",
    "code",
    "connection_channels",
    "connection_other",
    "connection_readers",
    "connection_writers",
    "metadata_store",
    "metadata_store_ets",
    "metrics",
    "mgmt_db",
    "mnesia",
    "msg_index",
    "other_ets",
    "other_system",
    "plugins",
    "queue_slave_procs",
    "quorum_ets",
    "quorum_queue_dlx_procs",
    "reserved_unallocated",
    "stream_queue_coordinator_procs",
    "stream_queue_replica_reader_procs",
];

/// The memory at one moment, octets.
pub(crate) struct Memory {
    total: u64,
    parts: Vec<(&'static str, u64)>,
}

impl Memory {
    /// Looks at every queue for a moment.
    pub(crate) fn of(context: &Context) -> Memory {
        let node = context.host.node();
        let [mut classic, mut quorum, mut stream] = [0; 3];
        for queue in context.broker().vhosts().iter().flat_map(|vhost| vhost.queues()) {
            let record = queue.record();
            let messages = record.ready.in_memory_bytes + record.unacknowledged.in_memory_bytes;
            let of_kind = match queue.kind {
                QueueKind::Quorum => &mut quorum,
                QueueKind::Stream => &mut stream,
                QueueKind::Classic | QueueKind::Delayed | QueueKind::Delays => &mut classic,
            };
            *of_kind += record.memory_bytes.saturating_sub(messages);
        }
        Memory::split(node.memory_used_bytes, node.message_memory_bytes, [classic, quorum, stream])
    }

    fn split(total: u64, messages: u64, [classic, quorum, stream]: [u64; 3]) -> Memory {
        let known = [
            ("binary", messages),
            ("queue_procs", classic),
            ("quorum_queue_procs", quorum),
            ("stream_queue_procs", stream),
        ];
        let rest = known.iter().fold(total, |rest, (_, part)| rest.saturating_sub(*part));
        let absent = ABSENT.iter().map(|name| (*name, 0));
        let parts = known.into_iter().chain([("other_proc", rest)]).chain(absent).collect();
        Memory { total, parts }
    }

    /// In octets.
    pub(crate) fn in_bytes(&self) -> Value {
        let mut shown: Map<_, _> =
            self.parts.iter().map(|(name, part)| (name.to_string(), json!(part))).collect();
        let total = json!({ "rss": self.total, "allocated": self.total, "erlang": 0 });
        shown.extend([("total".to_owned(), total), ("strategy".to_owned(), json!("rss"))]);
        Value::Object(shown)
    }

    /// In percent of all, as RabbitMQ rounds it: what is there at all is at least 1.
    pub(crate) fn in_percent(&self) -> Value {
        let percent = |part: u64| match part {
            0 => 0,
            part => ((100.0 * part as f64 / self.total.max(1) as f64).round() as u64).max(1),
        };
        let mut shown: Map<_, _> =
            self.parts.iter().map(|(name, part)| (name.to_string(), json!(percent(*part)))).collect();
        shown.insert("total".to_owned(), json!(100));
        Value::Object(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_make_the_whole() {
        let memory = Memory::split(1_000, 300, [4, 20, 0]);
        let bytes = memory.in_bytes();
        let sum: u64 = bytes.as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!((sum, &bytes["total"]["rss"], &bytes["other_proc"]), (1_000, &json!(1_000), &json!(676)));
        let percent = memory.in_percent();
        let shown =
            ["total", "binary", "queue_procs", "quorum_queue_procs", "stream_queue_procs", "other_proc"];
        assert_eq!(shown.map(|name| percent[name].as_u64().unwrap()), [100, 30, 1, 2, 0, 68]);
    }

    #[test]
    fn parts_that_are_estimated_too_large_leave_no_rest() {
        assert_eq!(Memory::split(10, 300, [4, 0, 0]).in_bytes()["other_proc"], 0);
        assert_eq!(Memory::split(0, 0, [0; 3]).in_percent()["binary"], 0);
    }
}
