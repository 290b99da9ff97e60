//! Metrics for Prometheus, under RabbitMQ's names, so that its dashboards work; those of services under our own.
//!
//! ```text
//!   /metrics             sums over all objects; services: the hundred with most requests
//!   /metrics/per-object  one sample for each queue, channel, connection
//!   /metrics/detailed    only the families that ?family= asks for, each for ?vhost=; rabbitmq_detailed_…
//! ```
//!
//! Everything is read at the moment of the scrape; nothing is kept for it.

mod global;
mod node;
mod objects;
mod services;
mod text;

use std::sync::Arc;

use leveret_broker::roster::ChannelRecord;
use leveret_broker::vhost::VHost;
pub(crate) use text::Format;
use text::Kind::Gauge;
use text::Text;

use crate::context::Context;
use objects::{CHANNELS, CONNECTIONS, Link, Named, QUEUES};

const PREFIX: &str = "rabbitmq_";
const DETAILED: &str = "rabbitmq_detailed_";
/// Services with a sample of their own in the sums.
const SERVICES_MAX: usize = 100;
/// The same where every object has one.
const SERVICES_EACH_MAX: usize = 1_000;

/// Everything there is to count.
struct Objects {
    vhosts: Vec<Arc<VHost>>,
    queues: Vec<Named<leveret_broker::QueueRecord>>,
    connections: Vec<Named<Link>>,
    channels: Vec<Named<ChannelRecord>>,
}

impl Objects {
    fn of(context: &Context) -> Objects {
        let vhosts = context.broker().vhosts();
        let connections = objects::connections(context.broker(), &vhosts);
        let channels = objects::channels(&connections);
        Objects { queues: objects::queues(&vhosts), vhosts, connections, channels }
    }

    fn vhost_names(&self) -> Vec<String> {
        self.vhosts.iter().map(|vhost| vhost.name.to_string()).collect()
    }

    fn consumers(&self) -> usize {
        self.queues.iter().map(|queue| queue.thing.consumers).sum()
    }
}

/// `/metrics`: sums.
pub(crate) fn aggregated(context: &Context, format: Format) -> Vec<u8> {
    let (mut text, objects) = (Text::new(format), Objects::of(context));
    write_node(&mut text, context, &objects);
    objects::sums(&mut text, QUEUES, &objects.queues);
    objects::sums(&mut text, CHANNELS, &objects.channels);
    objects::sums(&mut text, CONNECTIONS, &objects.connections);
    services::write(&mut text, context, &objects.vhost_names(), SERVICES_MAX);
    text.into_bytes()
}

/// `/metrics/per-object`: each.
pub(crate) fn per_object(context: &Context, format: Format) -> Vec<u8> {
    let (mut text, objects) = (Text::new(format), Objects::of(context));
    write_node(&mut text, context, &objects);
    let all = |_: &str| true;
    objects::each(&mut text, PREFIX, QUEUES, &objects.queues, all);
    objects::each(&mut text, PREFIX, CHANNELS, &objects.channels, all);
    objects::each(&mut text, PREFIX, CONNECTIONS, &objects.connections, all);
    services::write(&mut text, context, &objects.vhost_names(), SERVICES_EACH_MAX);
    text.into_bytes()
}

/// `/metrics/detailed`: the families of `families`, only what belongs to `vhosts` where they are named.
pub(crate) fn detailed(context: &Context, families: &[&str], vhosts: &[&str], format: Format) -> Vec<u8> {
    let (mut text, broker) = (Text::new(format), context.broker());
    let wanted = |family: &str| families.contains(&family);
    let mut seen = broker.vhosts();
    seen.retain(|vhost| vhosts.is_empty() || vhosts.contains(&&*vhost.name));
    let node = context.host.node();
    node::identity(&mut text, context, &node);
    if wanted("connection_churn_metrics") {
        node::churn(&mut text, DETAILED, broker);
    }
    if ["node_coarse_metrics", "node_metrics", "node_persister_metrics"].into_iter().any(wanted) {
        node::facts(&mut text, DETAILED, &node);
    }
    if wanted("auth_attempt_metrics") {
        node::logins(&mut text, DETAILED, broker);
    }
    if objects::any(QUEUES, wanted) {
        objects::each(&mut text, DETAILED, QUEUES, &objects::queues(&seen), wanted);
    }
    if objects::any(CONNECTIONS, wanted) || objects::any(CHANNELS, wanted) {
        let connections = objects::connections(broker, &seen);
        objects::each(&mut text, DETAILED, CHANNELS, &objects::channels(&connections), wanted);
        objects::each(&mut text, DETAILED, CONNECTIONS, &connections, wanted);
    }
    objects::topology(&mut text, broker, &seen, wanted);
    text.into_bytes()
}

/// `/metrics/memory-breakdown`: what the memory of the process is used for.
pub(crate) fn memory(context: &Context, format: Format) -> Vec<u8> {
    let (mut text, node) = (Text::new(format), context.host.node());
    let queues: u64 =
        objects::queues(&context.broker().vhosts()).iter().map(|one| one.thing.memory_bytes).sum();
    let metrics = [
        ("leveret_memory_messages_bytes", "Waiting messages in memory", node.message_memory_bytes),
        ("leveret_memory_queues_bytes", "Queues with their messages in memory, estimated", queues),
        ("leveret_memory_resident_bytes", "The whole process", node.memory_used_bytes),
    ];
    metrics.iter().for_each(|(name, help, value)| text.single(name, Gauge, help, *value as f64));
    text.into_bytes()
}

/// What is the same for sums and single objects.
fn write_node(text: &mut Text, context: &Context, objects: &Objects) {
    let (broker, node) = (context.broker(), context.host.node());
    node::identity(text, context, &node);
    node::alarms(text, &node);
    node::churn(text, PREFIX, broker);
    node::facts(text, PREFIX, &node);
    node::logins(text, PREFIX, broker);
    let totals = [
        ("rabbitmq_connections", "Connections currently open", objects.connections.len()),
        ("rabbitmq_channels", "Channels currently open", objects.channels.len()),
        ("rabbitmq_consumers", "Consumers currently connected", objects.consumers()),
        ("rabbitmq_queues", "Queues available", objects.queues.len()),
    ];
    totals.iter().for_each(|(name, help, value)| text.single(name, Gauge, help, *value as f64));
    let publishers = objects.channels.iter().filter(|channel| channel.thing.counts.publish > 0).count();
    global::write(text, broker, publishers, objects.consumers());
}
