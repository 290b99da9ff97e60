//! Metrics of queues, channels, connections and exchanges: one sample for each, or their sum.

use std::sync::Arc;

use leveret_broker::roster::{ChannelRecord, ConnectionRecord};
use leveret_broker::vhost::{Queue, VHost};
use leveret_broker::{Broker, QueueRecord};

use super::text::Kind::{self, Counter, Gauge};
use super::text::Text;

/// A metric of something, in the family of `/metrics/detailed` that it belongs to.
pub(super) struct Metric<T> {
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&T) -> u64,
}

const fn metric<T>(
    family: &'static str,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&T) -> u64,
) -> Metric<T> {
    Metric { family, name, kind, help, read }
}

/// A thing and the labels that name it.
pub(super) struct Named<T> {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) thing: T,
}

/// A connection, and what is counted of it.
pub(super) type Link = Arc<ConnectionRecord>;

pub(super) const QUEUES: &[Metric<QueueRecord>] = &[
    metric(
        "queue_coarse_metrics",
        "queue_messages_ready",
        Gauge,
        "Messages ready to be delivered to consumers",
        |q| q.ready.messages,
    ),
    metric(
        "queue_coarse_metrics",
        "queue_messages_unacked",
        Gauge,
        "Messages delivered to consumers but not yet acknowledged",
        |q| q.unacknowledged.messages,
    ),
    metric(
        "queue_coarse_metrics",
        "queue_messages",
        Gauge,
        "Sum of ready and unacknowledged messages",
        |q| q.ready.messages + q.unacknowledged.messages,
    ),
    metric("queue_consumer_count", "queue_consumers", Gauge, "Consumers on a queue", |q| q.consumers as u64),
    metric(
        "queue_metrics",
        "queue_process_memory_bytes",
        Gauge,
        "Memory in bytes used by the queue, estimated",
        |q| q.memory_bytes,
    ),
    metric(
        "queue_metrics",
        "queue_messages_ram",
        Gauge,
        "Ready and unacknowledged messages stored in memory",
        |q| q.ready.in_memory + q.unacknowledged.in_memory,
    ),
    metric("queue_metrics", "queue_messages_ram_bytes", Gauge, "Size of messages stored in memory", |q| {
        q.ready.in_memory_bytes + q.unacknowledged.in_memory_bytes
    }),
    metric("queue_metrics", "queue_messages_ready_ram", Gauge, "Ready messages stored in memory", |q| {
        q.ready.in_memory
    }),
    metric(
        "queue_metrics",
        "queue_messages_unacked_ram",
        Gauge,
        "Unacknowledged messages stored in memory",
        |q| q.unacknowledged.in_memory,
    ),
    metric("queue_metrics", "queue_messages_persistent", Gauge, "Persistent messages", |q| {
        q.ready.persistent + q.unacknowledged.persistent
    }),
    metric(
        "queue_metrics",
        "queue_messages_persistent_bytes",
        Gauge,
        "Size in bytes of persistent messages",
        |q| q.ready.persistent_bytes + q.unacknowledged.persistent_bytes,
    ),
    metric(
        "queue_metrics",
        "queue_messages_bytes",
        Gauge,
        "Size in bytes of ready and unacknowledged messages",
        |q| q.ready.bytes + q.unacknowledged.bytes,
    ),
    metric("queue_metrics", "queue_messages_ready_bytes", Gauge, "Size in bytes of ready messages", |q| {
        q.ready.bytes
    }),
    metric(
        "queue_metrics",
        "queue_messages_unacked_bytes",
        Gauge,
        "Size in bytes of all unacknowledged messages",
        |q| q.unacknowledged.bytes,
    ),
    metric("queue_metrics", "queue_messages_paged_out", Gauge, "Messages that are only on disk", |q| {
        q.ready.messages - q.ready.in_memory + q.unacknowledged.messages - q.unacknowledged.in_memory
    }),
    metric(
        "queue_metrics",
        "queue_messages_paged_out_bytes",
        Gauge,
        "Size in bytes of messages that are only on disk",
        |q| {
            q.ready.bytes - q.ready.in_memory_bytes + q.unacknowledged.bytes
                - q.unacknowledged.in_memory_bytes
        },
    ),
    metric(
        "queue_delivery_metrics",
        "queue_messages_published_total",
        Counter,
        "Total number of messages that arrived in the queue",
        |q| q.counts.messages.publish,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_get_ack_total",
        Counter,
        "Total number of messages fetched from a queue, to be acknowledged",
        |q| q.counts.messages.get,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_get_total",
        Counter,
        "Total number of messages fetched from a queue, settled at once",
        |q| q.counts.messages.get_no_ack,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_messages_delivered_ack_total",
        Counter,
        "Total number of messages delivered from a queue to consumers, to be acknowledged",
        |q| q.counts.messages.deliver,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_messages_delivered_total",
        Counter,
        "Total number of messages delivered from a queue to consumers, settled at once",
        |q| q.counts.messages.deliver_no_ack,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_messages_redelivered_total",
        Counter,
        "Total number of messages redelivered from a queue to consumers",
        |q| q.counts.messages.redeliver,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_messages_acked_total",
        Counter,
        "Total number of messages acknowledged by consumers on a queue",
        |q| q.counts.messages.ack,
    ),
    metric(
        "queue_delivery_metrics",
        "queue_get_empty_total",
        Counter,
        "Total number of times fetching found no message in a queue",
        |q| q.counts.messages.get_empty,
    ),
];

pub(super) const CHANNELS: &[Metric<ChannelRecord>] = &[
    metric("channel_metrics", "channel_consumers", Gauge, "Consumers on a channel", |c| {
        c.consumer_count as u64
    }),
    metric(
        "channel_metrics",
        "channel_messages_unacked",
        Gauge,
        "Delivered but not yet acknowledged messages",
        |c| u64::from(c.messages_unacknowledged),
    ),
    metric(
        "channel_metrics",
        "channel_messages_unconfirmed",
        Gauge,
        "Published but not yet confirmed messages",
        |c| c.messages_unconfirmed as u64,
    ),
    metric(
        "channel_metrics",
        "channel_messages_uncommitted",
        Gauge,
        "Messages received in a transaction but not yet committed",
        |c| u64::from(c.messages_uncommitted),
    ),
    metric(
        "channel_metrics",
        "channel_acks_uncommitted",
        Gauge,
        "Message acknowledgements in a transaction not yet committed",
        |c| u64::from(c.acks_uncommitted),
    ),
    metric(
        "channel_metrics",
        "consumer_prefetch",
        Gauge,
        "Limit of unacknowledged messages for each consumer",
        |c| u64::from(c.prefetch_count),
    ),
    metric(
        "channel_metrics",
        "channel_prefetch",
        Gauge,
        "Total limit of unacknowledged messages for all consumers on a channel",
        |c| u64::from(c.global_prefetch_count),
    ),
    metric(
        "channel_exchange_metrics",
        "channel_messages_published_total",
        Counter,
        "Total number of messages published on a channel",
        |c| c.counts.publish,
    ),
    metric(
        "channel_exchange_metrics",
        "channel_messages_confirmed_total",
        Counter,
        "Total number of messages published and confirmed on a channel",
        |c| c.counts.confirm,
    ),
    metric(
        "channel_exchange_metrics",
        "channel_messages_unroutable_returned_total",
        Counter,
        "Total number of messages published as mandatory and returned",
        |c| c.counts.return_unroutable,
    ),
    metric(
        "channel_exchange_metrics",
        "channel_messages_unroutable_dropped_total",
        Counter,
        "Total number of messages published as non-mandatory and dropped",
        |c| c.counts.drop_unroutable,
    ),
    metric(
        "channel_queue_metrics",
        "channel_get_ack_total",
        Counter,
        "Total number of messages fetched, to be acknowledged",
        |c| c.counts.get,
    ),
    metric(
        "channel_queue_metrics",
        "channel_get_total",
        Counter,
        "Total number of messages fetched, settled at once",
        |c| c.counts.get_no_ack,
    ),
    metric(
        "channel_queue_metrics",
        "channel_messages_delivered_ack_total",
        Counter,
        "Total number of messages delivered, to be acknowledged",
        |c| c.counts.deliver,
    ),
    metric(
        "channel_queue_metrics",
        "channel_messages_delivered_total",
        Counter,
        "Total number of messages delivered, settled at once",
        |c| c.counts.deliver_no_ack,
    ),
    metric(
        "channel_queue_metrics",
        "channel_messages_redelivered_total",
        Counter,
        "Total number of messages redelivered",
        |c| c.counts.redeliver,
    ),
    metric(
        "channel_queue_metrics",
        "channel_messages_acked_total",
        Counter,
        "Total number of messages acknowledged",
        |c| c.counts.ack,
    ),
    metric(
        "channel_queue_metrics",
        "channel_get_empty_total",
        Counter,
        "Total number of times fetching found no message",
        |c| c.counts.get_empty,
    ),
];

pub(super) const CONNECTIONS: &[Metric<Link>] = &[
    metric(
        "connection_coarse_metrics",
        "connection_incoming_bytes_total",
        Counter,
        "Total number of bytes received on a connection",
        |c| c.traffic().received_bytes(),
    ),
    metric(
        "connection_coarse_metrics",
        "connection_outgoing_bytes_total",
        Counter,
        "Total number of bytes sent on a connection",
        |c| c.traffic().sent_bytes(),
    ),
    metric(
        "connection_metrics",
        "connection_incoming_packets_total",
        Counter,
        "Total number of packets received on a connection",
        |c| c.traffic().reads(),
    ),
    metric(
        "connection_metrics",
        "connection_outgoing_packets_total",
        Counter,
        "Total number of packets sent on a connection",
        |c| c.traffic().writes(),
    ),
    metric(
        "connection_metrics",
        "connection_pending_packets",
        Gauge,
        "Number of packets waiting to be sent on a connection",
        |_| 0,
    ),
    metric("connection_metrics", "connection_channels", Gauge, "Channels on a connection", |c| {
        c.channel_count() as u64
    }),
];

/// One sample of each metric: the sum.
pub(super) fn sums<T>(text: &mut Text, metrics: &[Metric<T>], things: &[Named<T>]) {
    for metric in metrics {
        let sum: u64 = things.iter().map(|named| (metric.read)(&named.thing)).sum();
        text.single(&format!("rabbitmq_{}", metric.name), metric.kind, metric.help, sum as f64);
    }
}

/// One sample of each metric for each thing; only those of the families that are `wanted`.
pub(super) fn each<T>(
    text: &mut Text,
    prefix: &str,
    metrics: &[Metric<T>],
    things: &[Named<T>],
    wanted: impl Fn(&str) -> bool,
) {
    for metric in metrics.iter().filter(|metric| wanted(metric.family)) {
        let name = format!("{prefix}{}", metric.name);
        text.metric(&name, metric.kind, metric.help);
        for Named { labels, thing } in things {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            text.sample(&name, &labels, (metric.read)(thing) as f64);
        }
    }
}

/// Whether any metric of these is in a wanted family.
pub(super) fn any<T>(metrics: &[Metric<T>], wanted: impl Fn(&str) -> bool) -> bool {
    metrics.iter().any(|metric| wanted(metric.family))
}

/// The queues of these virtual hosts.
pub(super) fn queues(vhosts: &[Arc<VHost>]) -> Vec<Named<QueueRecord>> {
    let named = |queue: Arc<Queue>| Named {
        labels: vec![("vhost", queue.vhost.to_string()), ("queue", queue.name.to_string())],
        thing: queue.record(),
    };
    vhosts.iter().flat_map(|vhost| vhost.queues()).map(named).collect()
}

/// The clients' connections in these virtual hosts.
pub(super) fn connections(broker: &Broker, vhosts: &[Arc<VHost>]) -> Vec<Named<Link>> {
    let here = |link: &Link| vhosts.iter().any(|vhost| vhost.name == link.vhost);
    let named = |link: Link| Named { labels: vec![("connection", link.name.clone())], thing: link };
    broker.connections().into_iter().filter(here).map(named).collect()
}

/// The channels of connections.
pub(super) fn channels(connections: &[Named<Link>]) -> Vec<Named<ChannelRecord>> {
    let of = |Named { thing, .. }: &Named<Link>| {
        let name = thing.name.clone();
        let named = move |channel: ChannelRecord| Named {
            labels: vec![("channel", format!("{name} ({})", channel.number))],
            thing: channel,
        };
        thing.channels().into_iter().map(named)
    };
    connections.iter().flat_map(of).collect()
}

/// Families `exchange_names`, `exchange_bindings`, `exchange_metrics` and `vhost_status`.
pub(super) fn topology(
    text: &mut Text,
    broker: &Broker,
    vhosts: &[Arc<VHost>],
    wanted: impl Fn(&str) -> bool,
) {
    if wanted("vhost_status") {
        text.metric("rabbitmq_cluster_vhost_status", Gauge, "Whether a given vhost is running");
        vhosts
            .iter()
            .for_each(|one| text.sample("rabbitmq_cluster_vhost_status", &[("vhost", &one.name)], 1.0));
    }
    for (family, name, help) in [
        (
            "exchange_names",
            "rabbitmq_cluster_exchange_name",
            "Enumerates exchanges without any additional info",
        ),
        ("exchange_bindings", "rabbitmq_cluster_exchange_bindings", "Number of bindings for an exchange"),
    ] {
        if !wanted(family) {
            continue;
        }
        text.metric(name, Gauge, help);
        for exchange in
            vhosts.iter().flat_map(|vhost| vhost.exchanges().into_iter().map(|one| (vhost.clone(), one)))
        {
            let (vhost, exchange) = exchange;
            let labels =
                [("vhost", &*vhost.name), ("exchange", &*exchange.name), ("type", exchange.spec.type_name())];
            let bindings = exchange.bindings.read().len() as f64;
            text.sample(name, &labels, if family == "exchange_names" { 1.0 } else { bindings });
        }
    }
    if wanted("exchange_metrics") {
        published(text, broker, vhosts);
    }
}

fn published(text: &mut Text, broker: &Broker, vhosts: &[Arc<VHost>]) {
    let name = "rabbitmq_detailed_exchange_messages_published_total";
    text.metric(name, Counter, "Total number of messages published to an exchange");
    for vhost in vhosts {
        for (exchange, counts) in broker.exchange_counts(vhost) {
            let labels = [("vhost", &*vhost.name), ("exchange", &*exchange)];
            text.sample(name, &labels, counts.publish_in as f64);
        }
    }
}
