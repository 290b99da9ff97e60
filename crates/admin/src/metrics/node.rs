//! Metrics of the process: memory, files, disk, alarms, logins, what comes and goes.

use leveret_broker::Broker;
use leveret_broker::attempts::{Door, Tries};

use super::text::Kind::{Counter, Gauge};
use super::text::Text;
use crate::context::Context;
use crate::node::NodeFacts;

/// Versions and names, which dashboards join on `instance`.
pub(super) fn identity(text: &mut Text, context: &Context, node: &NodeFacts) {
    let version = node.rabbitmq_version;
    text.metric(
        "rabbitmq_build_info",
        Gauge,
        "The version of RabbitMQ whose behaviour clients may expect, and our own",
    );
    text.sample(
        "rabbitmq_build_info",
        &[
            ("rabbitmq_version", version),
            ("prometheus_plugin_version", version),
            ("product_name", "Leveret"),
            ("product_version", node.version),
        ],
        1.0,
    );
    text.metric("rabbitmq_identity_info", Gauge, "Node and cluster identity");
    text.sample(
        "rabbitmq_identity_info",
        &[
            ("rabbitmq_node", context.host.node_name()),
            ("rabbitmq_cluster", node.cluster_name),
            ("rabbitmq_cluster_permanent_id", node.cluster_name),
        ],
        1.0,
    );
}

/// Families `node_coarse_metrics`, `node_metrics`, `node_persister_metrics`.
pub(super) fn facts(text: &mut Text, prefix: &str, node: &NodeFacts) {
    let metrics = [
        ("process_open_fds", "Open file descriptors", node.open_files as f64),
        ("process_max_fds", "Open file descriptors limit", node.open_files_max as f64),
        ("process_open_tcp_sockets", "Open TCP sockets", node.connections as f64),
        ("process_max_tcp_sockets", "Open TCP sockets limit", node.connections_max as f64),
        ("process_resident_memory_bytes", "Memory used in bytes", node.memory_used_bytes as f64),
        ("resident_memory_limit_bytes", "Memory high watermark in bytes", node.memory_limit_bytes as f64),
        (
            "disk_space_available_bytes",
            "Disk space available in bytes",
            node.disk_free_bytes.unwrap_or(0) as f64,
        ),
        (
            "disk_space_available_limit_bytes",
            "Free disk space low watermark in bytes",
            node.disk_free_limit_bytes as f64,
        ),
        // There is no Erlang here; dashboards ask by this name.
        ("erlang_uptime_seconds", "Node uptime", node.uptime_ms as f64 / 1000.0),
    ];
    metrics
        .iter()
        .for_each(|(name, help, value)| text.single(&format!("{prefix}{name}"), Gauge, help, *value));
    let seconds = |time_us: u64| time_us as f64 / 1e6;
    let (reads, writes, syncs) = (node.disk_reads, node.disk_writes, node.disk_syncs);
    let work = [
        ("io_read_ops_total", "Total number of I/O read operations", reads.count as f64),
        ("io_read_bytes_total", "Total number of I/O bytes read", reads.bytes as f64),
        ("io_read_time_seconds_total", "Total I/O read time", seconds(reads.time_us)),
        ("io_write_ops_total", "Total number of I/O write operations", writes.count as f64),
        ("io_write_bytes_total", "Total number of I/O bytes written", writes.bytes as f64),
        ("io_write_time_seconds_total", "Total I/O write time", seconds(writes.time_us)),
        ("io_sync_ops_total", "Total number of I/O sync operations", syncs.count as f64),
        ("io_sync_time_seconds_total", "Total I/O sync time", seconds(syncs.time_us)),
    ];
    work.iter()
        .for_each(|(name, help, value)| text.single(&format!("{prefix}{name}"), Counter, help, *value));
}

/// Whether publishers are blocked, and why.
pub(super) fn alarms(text: &mut Text, node: &NodeFacts) {
    let alarms = [
        (
            "rabbitmq_alarms_memory_used_watermark",
            "is 1 if the memory high watermark is exceeded",
            node.memory_alarm,
        ),
        (
            "rabbitmq_alarms_free_disk_space_watermark",
            "is 1 if the free disk space is too low",
            node.disk_alarm,
        ),
        (
            "rabbitmq_alarms_file_descriptor_limit",
            "is 1 if no more files can be opened",
            is_at_file_limit(node),
        ),
    ];
    alarms.iter().for_each(|(name, help, is_on)| text.single(name, Gauge, help, f64::from(u8::from(*is_on))));
}

/// RabbitMQ's alarm: connections are refused then.
fn is_at_file_limit(node: &NodeFacts) -> bool {
    node.open_files_max > 0 && node.open_files >= node.open_files_max
}

/// Family `connection_churn_metrics`.
pub(super) fn churn(text: &mut Text, prefix: &str, broker: &Broker) {
    let churn = broker.churn();
    let metrics = [
        ("connections_opened_total", "Total number of connections opened", churn.connections_opened),
        (
            "connections_closed_total",
            "Total number of connections closed or terminated",
            churn.connections_closed,
        ),
        ("channels_opened_total", "Total number of channels opened", churn.channels_opened),
        ("channels_closed_total", "Total number of channels closed", churn.channels_closed),
        ("queues_declared_total", "Total number of queues declared", churn.queues_declared),
        ("queues_created_total", "Total number of queues created", churn.queues_created),
        ("queues_deleted_total", "Total number of queues deleted", churn.queues_deleted),
    ];
    metrics.iter().for_each(|(name, help, value)| {
        text.single(&format!("{prefix}{name}"), Counter, help, *value as f64)
    });
}

/// Family `auth_attempt_metrics`.
pub(super) fn logins(text: &mut Text, prefix: &str, broker: &Broker) {
    let doors = [("amqp091", broker.attempts.total(Door::Amqp)), ("http", broker.attempts.total(Door::Http))];
    type Read = fn(&Tries) -> u64;
    let metrics: [(&str, &str, Read); 3] = [
        ("auth_attempts_total", "Total number of authorization attempts", |tries| {
            tries.succeeded + tries.failed
        }),
        ("auth_attempts_succeeded_total", "Total number of successful authentication attempts", |tries| {
            tries.succeeded
        }),
        ("auth_attempts_failed_total", "Total number of failed authentication attempts", |tries| {
            tries.failed
        }),
    ];
    for (name, help, read) in metrics {
        let name = format!("{prefix}{name}");
        text.metric(&name, Counter, help);
        for (door, tries) in &doors {
            text.sample(&name, &[("protocol", door)], read(tries) as f64);
        }
    }
}
