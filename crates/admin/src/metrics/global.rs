//! Sums over everything since the process began, by protocol and kind of queue: `rabbitmq_global_…`.

use std::collections::BTreeMap;

use leveret_broker::Broker;
use leveret_broker::counts::{MessageCounts, QueueCounts, SizeHistogram};
use leveret_broker::queue::DeathReason;
use leveret_broker::settings::QueueKind;

use super::text::Kind::{Counter, Gauge, Histogram};
use super::text::Text;

const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

type Read = fn(&MessageCounts) -> u64;

const PUBLISHED: [(&str, &str, Read); 6] = [
    ("received_total", "Total number of messages received from publishers", |counts| counts.publish),
    (
        "received_confirm_total",
        "Total number of messages received from publishers expecting confirmations",
        |counts| counts.publish_with_confirm,
    ),
    ("routed_total", "Total number of messages routed to queues or streams", MessageCounts::routed),
    ("confirmed_total", "Total number of messages confirmed to publishers", |counts| counts.confirm),
    (
        "unroutable_dropped_total",
        "Total number of messages published as non-mandatory into an exchange and dropped",
        |counts| counts.drop_unroutable,
    ),
    (
        "unroutable_returned_total",
        "Total number of messages published as mandatory into an exchange and returned",
        |counts| counts.return_unroutable,
    ),
];

const DELIVERED: [(&str, &str, Read); 8] = [
    ("delivered_total", "Total number of messages delivered to consumers", MessageCounts::deliver_get),
    (
        "delivered_consume_manual_ack_total",
        "Total number of messages delivered to consumers, to be acknowledged",
        |counts| counts.deliver,
    ),
    (
        "delivered_consume_auto_ack_total",
        "Total number of messages delivered to consumers, settled at once",
        |counts| counts.deliver_no_ack,
    ),
    ("delivered_get_manual_ack_total", "Total number of messages fetched, to be acknowledged", |counts| {
        counts.get
    }),
    ("delivered_get_auto_ack_total", "Total number of messages fetched, settled at once", |counts| {
        counts.get_no_ack
    }),
    ("get_empty_total", "Total number of times fetching found no message", |counts| counts.get_empty),
    ("redelivered_total", "Total number of messages redelivered to consumers", |counts| counts.redeliver),
    ("acknowledged_total", "Total number of message acknowledgements received from consumers", |counts| {
        counts.ack
    }),
];

/// All of them.
pub(super) fn write(text: &mut Text, broker: &Broker, publishers: usize, consumers: usize) {
    let totals = broker.message_totals();
    text.metric("rabbitmq_global_publishers", Gauge, "Channels that have published");
    text.sample("rabbitmq_global_publishers", &[PROTOCOL], publishers as f64);
    text.metric("rabbitmq_global_consumers", Gauge, "Current number of consumers");
    text.sample("rabbitmq_global_consumers", &[PROTOCOL], consumers as f64);
    for (name, help, read) in PUBLISHED {
        let name = format!("rabbitmq_global_messages_{name}");
        text.metric(&name, Counter, help);
        text.sample(&name, &[PROTOCOL], read(&totals.counts) as f64);
    }
    let kinds = kinds(broker);
    for (name, help, read) in DELIVERED {
        let name = format!("rabbitmq_global_messages_{name}");
        text.metric(&name, Counter, help);
        for (kind, counts) in &kinds {
            text.sample(&name, &[PROTOCOL, ("queue_type", kind)], read(&counts.messages) as f64);
        }
    }
    deaths(text, &kinds);
    sizes(text, &totals.sizes);
}

/// By RabbitMQ's names of the kinds. Those that everybody has are always there.
fn kinds(broker: &Broker) -> BTreeMap<&'static str, QueueCounts> {
    let known = ["rabbit_classic_queue", "rabbit_quorum_queue", "rabbit_stream_queue"];
    let mut kinds: BTreeMap<_, _> = known.into_iter().map(|kind| (kind, QueueCounts::default())).collect();
    for (kind, counts) in broker.queue_totals() {
        let name = match kind {
            QueueKind::Classic | QueueKind::Delayed => "rabbit_classic_queue",
            QueueKind::Quorum => "rabbit_quorum_queue",
            QueueKind::Stream => "rabbit_stream_queue",
            // What waits there is delivered from somewhere else.
            QueueKind::Delays => continue,
        };
        *kinds.entry(name).or_default() += counts;
    }
    kinds
}

/// RabbitMQ tells apart by strategy, too; here a message counts whatever became of it.
fn deaths(text: &mut Text, kinds: &BTreeMap<&str, QueueCounts>) {
    for reason in DeathReason::ALL {
        // RabbitMQ has no orphans: that name is ours.
        let name = match reason {
            DeathReason::Orphaned => "leveret_global_messages_orphaned_total".to_owned(),
            reason => {
                format!("rabbitmq_global_messages_dead_lettered_{}_total", reason.name().replace('-', "_"))
            }
        };
        text.metric(&name, Counter, "Total number of messages that queues gave up for this reason");
        for (kind, counts) in kinds {
            text.sample(&name, &[("queue_type", kind)], counts.deaths.of(reason) as f64);
        }
    }
    let name = "rabbitmq_global_messages_dead_lettered_confirmed_total";
    text.metric(name, Counter, "Total number of dead letters that had to be taken and were");
    for (kind, counts) in kinds {
        text.sample(name, &[("queue_type", kind)], counts.letters_confirmed as f64);
    }
}

fn sizes(text: &mut Text, sizes: &SizeHistogram) {
    let name = "rabbitmq_message_size_bytes";
    text.metric(name, Histogram, "Size of messages received from publishers");
    let mut below = 0;
    let up_to = SizeHistogram::BOUNDS_BYTES.iter().zip(sizes.counts).map(|(bound, count)| {
        below += count;
        (*bound as f64, below)
    });
    text.histogram(name, &[PROTOCOL], up_to, sizes.count(), sizes.sum_bytes as f64);
}
