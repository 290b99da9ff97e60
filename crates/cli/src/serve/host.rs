//! This process, as the HTTP API sees it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_admin::{DiskWork, Host, Journal, Listening, LoggedIn, NodeFacts};
use leveret_broker::{Batch, Broker};
use leveret_server::Handle;
use leveret_wire::sasl::Credentials;

use super::federation::Federation;
use super::shovels::Shovels;
use crate::logging::Log;

/// The broker, its log, its shovels and links, and where HTTP is served.
pub(super) struct Process {
    pub(super) broker: Handle,
    pub(super) log: Arc<Log>,
    pub(super) http: Vec<Listening>,
    pub(super) shovels: Arc<Shovels>,
    pub(super) federation: Arc<Federation>,
    /// When the certificate of the listeners over TLS ends, s since 1970; 0: there is none.
    pub(super) certificate_expires_s: Arc<AtomicU64>,
}

impl Host for Process {
    fn broker(&self) -> &Arc<Broker> {
        self.broker.rules()
    }

    fn finish(&self, batch: &mut Batch) {
        self.broker.finish(batch);
    }

    fn hurry(&self) {
        self.broker.hurry();
    }

    fn login(&self, credentials: Credentials, peer: IpAddr) -> LoggedIn<'_> {
        Box::pin(self.broker.login(credentials, peer))
    }

    fn node_name(&self) -> &str {
        leveret_server::NODE_NAME
    }

    fn node(&self) -> NodeFacts {
        let facts = self.broker.facts();
        let amqp = facts.listeners.iter();
        let amqp = amqp.map(|one| Listening { protocol: one.protocol(), address: one.address });
        NodeFacts {
            version: facts.version,
            rabbitmq_version: facts.rabbitmq_version,
            cluster_name: facts.cluster_name,
            os_pid: facts.os_pid,
            started_at_ms: facts.started_at_ms,
            uptime_ms: facts.uptime_ms,
            processors: facts.processors,
            memory_used_bytes: facts.memory_used_bytes,
            memory_limit_bytes: facts.memory_limit_bytes,
            message_memory_bytes: facts.message_memory_bytes,
            disk_free_bytes: facts.disk_free_bytes,
            disk_free_limit_bytes: facts.disk_free_limit_bytes,
            memory_alarm: facts.alarms.memory,
            disk_alarm: facts.alarms.disk,
            open_files: facts.open_files,
            open_files_max: facts.open_files_max,
            connections: facts.connections,
            connections_max: facts.connections_max,
            listeners: amqp.chain(self.http.iter().cloned()).collect(),
            certificate_expires_s: Some(self.certificate_expires_s.load(Ordering::Relaxed))
                .filter(|at| *at > 0),
            disk_reads: work(facts.disk.reads),
            disk_writes: work(facts.disk.writes),
            disk_syncs: work(facts.disk.syncs),
        }
    }

    fn now_us(&self) -> u64 {
        self.broker.now_us()
    }

    fn readiness(&self) -> Result<(), String> {
        if self.broker.is_stopping() { Err("the broker is stopping".to_owned()) } else { Ok(()) }
    }

    fn journal(&self) -> &dyn Journal {
        &*self.log
    }

    fn shovels(&self) -> &dyn leveret_admin::Shovels {
        &*self.shovels
    }

    fn federation_links(&self) -> &dyn leveret_admin::FederationLinks {
        &*self.federation
    }
}

fn work(work: leveret_server::DiskWork) -> DiskWork {
    DiskWork { count: work.count, bytes: work.bytes, time_us: work.time_us }
}
