//! What all connections of one broker process share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use leveret_broker::{Batch, Broker};
use leveret_wire::TuneLimits;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::alarms::Watchdog;
use crate::committer::Committer;
use crate::config::Config;
use crate::counted_disk::DiskCounts;
use crate::facts::Listening;
use crate::lobby::Lobby;
use crate::logins::Logins;

/// More than this gathered for the disk holds publishers back.
const GATHERED_MAX_BYTES: usize = 16 << 20;
/// More full log files than this waiting to be settled hold publishers back, so that recovery stays bounded.
const UNSETTLED_MAX_FILES: usize = 4;

/// Handed to every connection.
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    config: RwLock<Arc<Config>>,
    pub(crate) committer: Arc<Committer>,
    pub(crate) watchdog: Arc<Watchdog>,
    /// Why publishers are blocked, if they are.
    pub(crate) alarm: watch::Receiver<Option<&'static str>>,
    /// Set once, when connections have to be closed.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) connections: AtomicUsize,
    received_bytes: AtomicU64,
    /// When the broker started, ms since 1970.
    pub(crate) started_at_ms: u64,
    /// What is done with the disk.
    pub(crate) disk: Arc<DiskCounts>,
    /// Where clients are awaited, once they are.
    pub(crate) listeners: OnceLock<Vec<Listening>>,
    /// The gate that every login goes through.
    pub(crate) logins: Logins,
    /// Connections that have not logged in yet.
    pub(crate) lobby: Arc<Lobby>,
}

impl Shared {
    pub(crate) fn new(
        broker: Arc<Broker>,
        config: Config,
        committer: Arc<Committer>,
        watchdog: Arc<Watchdog>,
        disk: Arc<DiskCounts>,
        alarm: watch::Receiver<Option<&'static str>>,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            logins: Logins::new(broker.clone(), committer.clone()),
            lobby: Lobby::new(config.lobby),
            broker,
            config: RwLock::new(Arc::new(config)),
            committer,
            watchdog,
            alarm,
            stopping,
            connections: AtomicUsize::new(0),
            received_bytes: AtomicU64::new(0),
            started_at_ms: now_us() / 1000,
            disk,
            listeners: OnceLock::new(),
        })
    }

    /// The settings in force. They can change: whoever needs several that fit together asks once.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().clone()
    }

    /// Takes over what can change; see [`Broker::reconfigure`](crate::Broker::reconfigure).
    pub(crate) fn reconfigure(&self, new: &Config) {
        let mut current = self.config.write();
        *current = Arc::new(Config {
            listen: current.listen.clone(),
            listen_tls: current.listen_tls.clone(),
            tls: new.tls.clone().or_else(|| current.tls.clone()),
            limits: current.limits.clone(),
            log_file_bytes: current.log_file_bytes,
            ..new.clone()
        });
        self.watchdog.change_marks(new.watermarks);
    }

    /// Counts one more connection in, unless there are as many as allowed.
    pub(crate) fn admit(&self) -> bool {
        let limit = self.config().connections_max;
        let is_free = self.connections.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_free {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!(limit, "connection refused: connections_max is reached");
        }
        is_free
    }

    pub(crate) fn tune_limits(&self) -> TuneLimits {
        let tune = self.config().tune;
        TuneLimits { channel_max: tune.channel_max, frame_max: tune.frame_max, heartbeat_s: tune.heartbeat_s }
    }

    /// Ends a batch.
    pub(crate) fn finish(&self, batch: &mut Batch) {
        self.committer.finish(&self.broker, batch);
    }

    /// Counts input, so that memory and disk are looked at while there is traffic and never when there is none.
    pub(crate) fn received(&self, octets: usize) {
        let before = self.received_bytes.fetch_add(octets as u64, Ordering::Relaxed);
        if before / Watchdog::EVERY_BYTES != (before + octets as u64) / Watchdog::EVERY_BYTES {
            self.watchdog.look();
        }
    }

    /// Whether publishers have to wait for the disk.
    pub(crate) fn disk_is_behind(&self) -> bool {
        let store = self.broker.store();
        store.gathered_bytes() > GATHERED_MAX_BYTES || store.rotated_files() > UNSETTLED_MAX_FILES
    }
}

/// The wall clock, for what has to mean the same after a restart: µs since 1970.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// Whether a peer is on this machine, also when it came by an IPv4-mapped address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}
