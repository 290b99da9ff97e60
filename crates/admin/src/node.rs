//! The process as a node: what monitoring asks for.

use std::net::SocketAddr;

/// A node at one moment.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The version of this broker.
    pub version: &'static str,
    /// The version of RabbitMQ whose behaviour clients may expect.
    pub rabbitmq_version: &'static str,
    /// What operators call the cluster, unless they have named it otherwise.
    pub cluster_name: &'static str,
    /// The process.
    pub os_pid: u32,
    /// When it started, ms since 1970.
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
    /// What is left on the disk, octets; `None` when it does not say.
    pub disk_free_bytes: Option<u64>,
    /// What has to be left.
    pub disk_free_limit_bytes: u64,
    /// The process uses more memory than it may.
    pub memory_alarm: bool,
    /// Less is left on the disk than has to be.
    pub disk_alarm: bool,
    /// Open files and sockets; 0 where the kernel does not say.
    pub open_files: u64,
    /// As many may be open.
    pub open_files_max: u64,
    /// Connections, those that have not logged in yet included.
    pub connections: usize,
    /// As many may be open.
    pub connections_max: usize,
    /// Where clients are awaited.
    pub listeners: Vec<Listening>,
    /// When the certificate of the listeners over TLS expires, s since 1970; `None` where there are none.
    pub certificate_expires_s: Option<u64>,
    /// Reads from the disk.
    pub disk_reads: DiskWork,
    /// Writes to it.
    pub disk_writes: DiskWork,
    /// Its syncs.
    pub disk_syncs: DiskWork,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// RabbitMQ's name of what is spoken there: `amqp`, `amqp/ssl`, `http`.
    pub protocol: &'static str,
    /// Where.
    pub address: SocketAddr,
}

impl Listening {
    /// Whether it is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.protocol, "amqp/ssl" | "https")
    }
}

/// What one kind of call to the disk came to since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskWork {
    /// Calls.
    pub count: u64,
    /// Octets read or written.
    pub bytes: u64,
    /// Time spent in these calls, µs.
    pub time_us: u64,
}

impl DiskWork {
    /// Of one call, ms.
    pub(crate) fn average_ms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.time_us as f64 / self.count as f64 / 1000.0 }
    }
}
