//! What there is to know of the process as a node: memory, disk, files, listeners.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::alarms::{Alarms, resident_bytes};
use crate::counted_disk::DiskFacts;
use crate::identity::{COMPATIBLE_VERSION, DEFAULT_CLUSTER_NAME};
use crate::shared::{Shared, now_us};

/// A node at one moment.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The version of this broker.
    pub version: &'static str,
    /// The version of RabbitMQ whose behaviour clients may expect.
    pub rabbitmq_version: &'static str,
    /// What clients are told the cluster is called.
    pub cluster_name: &'static str,
    /// The process.
    pub os_pid: u32,
    /// When the broker started, ms since 1970.
    pub started_at_ms: u64,
    /// For how long it has run, ms.
    pub uptime_ms: u64,
    /// Cores that it may use.
    pub processors: usize,
    /// Memory of the process, octets (resident); 0 where the kernel does not say.
    pub memory_used_bytes: u64,
    /// What that may be before publishers are blocked.
    pub memory_limit_bytes: u64,
    /// Octets of waiting messages in memory.
    pub message_memory_bytes: u64,
    /// What is left on the disk of the data directory, octets; `None` when it does not say.
    pub disk_free_bytes: Option<u64>,
    /// What has to be left; below it publishers are blocked.
    pub disk_free_limit_bytes: u64,
    /// The alarms in force.
    pub alarms: Alarms,
    /// Open files and sockets; 0 where the kernel does not say.
    pub open_files: u64,
    /// As many may be open.
    pub open_files_max: u64,
    /// Connections, those that have not logged in yet included.
    pub connections: usize,
    /// As many may be open (`connections_max`).
    pub connections_max: usize,
    /// Where clients are awaited.
    pub listeners: Vec<Listening>,
    /// What was done with the disk.
    pub disk: DiskFacts,
    /// Octets appended to the log that are not on the disk yet.
    pub unsynced_bytes: usize,
    /// Full log files that have not been settled yet.
    pub unsettled_log_files: usize,
}

/// One listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// Over TLS.
    pub tls: bool,
}

impl Listening {
    /// RabbitMQ's name of what is spoken there.
    pub fn protocol(&self) -> &'static str {
        if self.tls { "amqp/ssl" } else { "amqp" }
    }
}

impl NodeFacts {
    /// Asks the kernel a few questions, and the disk one.
    pub(crate) fn of(shared: &Shared) -> Self {
        let (store, config, watchdog) = (shared.broker.store(), shared.config(), &shared.watchdog);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            rabbitmq_version: COMPATIBLE_VERSION,
            cluster_name: DEFAULT_CLUSTER_NAME.as_str(),
            os_pid: std::process::id(),
            started_at_ms: shared.started_at_ms,
            uptime_ms: (now_us() / 1000).saturating_sub(shared.started_at_ms),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_used_bytes: resident_bytes().unwrap_or(0),
            memory_limit_bytes: watchdog.memory_limit_bytes(),
            message_memory_bytes: shared.broker.resident_bytes() as u64,
            disk_free_bytes: store.free_bytes().ok(),
            disk_free_limit_bytes: watchdog.disk_free_limit_bytes(),
            alarms: watchdog.alarms(),
            open_files: open_files(),
            open_files_max: open_files_max(),
            connections: shared.connections.load(Ordering::Relaxed),
            connections_max: config.connections_max,
            listeners: shared.listeners.get().cloned().unwrap_or_default(),
            disk: shared.disk.facts(),
            unsynced_bytes: store.gathered_bytes(),
            unsettled_log_files: store.rotated_files(),
        }
    }
}

/// Without the handle that lists them.
fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1) as u64)
}

fn open_files_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}
