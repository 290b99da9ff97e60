//! A broker inside a program: the same one that `leveret serve` runs.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = leveret_server::Broker::builder().in_memory().any_port().start().await?;
//! println!("connect to {}", broker.url());
//! broker.stop().await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use leveret_broker::{OpenFailed, Opened};
use leveret_store::{CommitError, Damage, Disk, MemDisk, Options, RealDisk, StoreFailed};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::alarms::Watchdog;
use crate::committer::{Committer, DiskLoops, DiskThreads};
use crate::config::Config;
use crate::counted_disk::{CountedDisk, DiskCounts};
use crate::drive::serve_stream;
use crate::facts::{Listening, NodeFacts};
use crate::handle::Handle;
use crate::listener::{Transport, accept, listen};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::timekeeper::keep_time;

/// Octets in flight between an in-memory client and the broker.
const MEMORY_PIPE_BYTES: usize = 64 << 10;

/// Prepares a broker.
pub struct Builder {
    config: Config,
    storage: Storage,
    open_sockets: Vec<std::net::TcpListener>,
}

enum Storage {
    Directory(PathBuf),
    Disk(Arc<dyn Disk>),
}

/// Why a broker did not start. What it found on the disk was left as it is.
#[derive(Debug)]
pub enum StartError {
    /// The data directory.
    Open(OpenFailed),
    /// An address, a thread or a directory.
    Io(io::Error),
    /// TLS addresses without a certificate.
    NoCertificate,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::NoCertificate => f.write_str("a TLS listener needs a certificate and a key"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running broker. Dropping it stops it like a crash would: what was confirmed is on the disk.
/// [`Broker::stop`] stops it in order.
pub struct Broker {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    failure: watch::Receiver<Option<Arc<StoreFailed>>>,
    disk: Option<DiskThreads>,
    watchdog: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    opened: Condition,
}

/// What the data directory was like.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What could not be read; those queues are offline.
    pub damage: Vec<Damage>,
    /// The last stop was in order.
    pub clean: bool,
    /// Octets at the end of the log that a process was writing when it ended, or that look like that: cut off.
    pub torn_bytes: u64,
}

impl Broker {
    /// Settings for a new broker: the defaults of `leveret serve`.
    pub fn builder() -> Builder {
        let storage = Storage::Directory(PathBuf::from("leveret-data"));
        Builder { config: Config::default(), storage, open_sockets: Vec::new() }
    }

    /// Where to connect: the first plain listener, with the default user.
    pub fn url(&self) -> String {
        let address = self.addresses.first().copied();
        let address = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        format!("amqp://guest:guest@{address}/%2f")
    }

    /// Where AMQP is spoken in the clear.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where AMQP is spoken over TLS.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// What the data directory was like.
    pub fn condition(&self) -> &Condition {
        &self.opened
    }

    /// The rules: users, virtual hosts, operations without a socket.
    pub fn rules(&self) -> &Arc<leveret_broker::Broker> {
        &self.shared.broker
    }

    /// What there is to know of the process as a node.
    pub fn facts(&self) -> NodeFacts {
        NodeFacts::of(&self.shared)
    }

    /// Changes settings of the running broker: timeouts, watermarks, `connections_max`, what is offered to clients, and
    /// the certificate. Connections that exist keep what was agreed with them. `listen`, `listen_tls`, `limits` and
    /// `log_file_bytes` stay as they were at the start, and so does the certificate when there is no new one.
    pub fn reconfigure(&self, config: &Config) {
        self.shared.reconfigure(config);
    }

    /// What other doors than the listeners need of the process; it outlives nothing.
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }

    /// A connection that never leaves this process. The other end speaks AMQP like a socket; it is closed already when
    /// there are as many connections as `connections_max` allows.
    pub fn connect_in_memory(&self) -> DuplexStream {
        connect(&self.shared, Peer::in_memory())
    }

    /// Waits until the disk has failed for good; never returns while all is well. Nothing is confirmed after
    /// that, and the process should end (P1).
    pub async fn failed(&self) -> Arc<StoreFailed> {
        let mut failure = self.failure.clone();
        loop {
            if let Some(failed) = failure.borrow_and_update().clone() {
                return failed;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops in order: clients are told, everything is synced, and the next start finds a clean directory.
    pub async fn stop(mut self) -> Result<(), CommitError> {
        self.shared.broker.stop_deliveries();
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + self.shared.config().drain_timeout;
        while self.shared.connections.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let (disk, watchdog) = (self.disk.take(), self.watchdog.take());
        let shared = self.shared.clone();
        let closed = tokio::task::spawn_blocking(move || {
            stop_threads(&shared, disk, watchdog);
            shared.broker.close()
        });
        closed.await.unwrap_or(Err(CommitError::Failed(StoreFailed::Closed)))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        stop_threads(&self.shared, self.disk.take(), self.watchdog.take());
    }
}

/// A pipe with a connection at its other end, if there may be one more.
pub(crate) fn connect(shared: &Arc<Shared>, peer: Peer) -> DuplexStream {
    let (client, server) = tokio::io::duplex(MEMORY_PIPE_BYTES);
    if shared.admit() {
        tokio::spawn(serve_stream(server, shared.clone(), peer, None));
    }
    client
}

fn stop_threads(shared: &Shared, disk: Option<DiskThreads>, watchdog: Option<JoinHandle<()>>) {
    if let Some(disk) = disk {
        disk.stop();
    }
    shared.watchdog.stop();
    if let Some(watchdog) = watchdog
        && watchdog.join().is_err()
    {
        tracing::error!("the watchdog panicked");
    }
}

impl Builder {
    /// Replaces all settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Keeps data in a directory, which is made if it is missing.
    pub fn data_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.storage = Storage::Directory(directory.as_ref().to_owned());
        self
    }

    /// Keeps data in memory: the same code on a disk that ends with the process.
    pub fn in_memory(self) -> Self {
        self.disk(Arc::new(MemDisk::new()))
    }

    /// Keeps data on any disk.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.storage = Storage::Disk(disk);
        self
    }

    /// Listens on a free port of the loopback address.
    pub fn any_port(self) -> Self {
        self.listen([SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
    }

    /// Listens on these addresses; none: only in-memory connections.
    pub fn listen(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.config.listen = addresses.into_iter().collect();
        self
    }

    /// Listeners that are open already, and do not block: each is used for the configured address that it has.
    pub fn open_sockets(mut self, sockets: Vec<std::net::TcpListener>) -> Self {
        self.open_sockets = sockets;
        self
    }

    /// Opens the data, binds the addresses, and serves. Needs a Tokio runtime.
    pub async fn start(self) -> Result<Broker, StartError> {
        let Self { config, storage, open_sockets } = self;
        let disk: Arc<dyn Disk> = match storage {
            Storage::Disk(disk) => disk,
            Storage::Directory(path) => {
                // Before the disk is asked how large it is.
                std::fs::create_dir_all(&path)?;
                Arc::new(RealDisk::new(&path))
            }
        };
        let counts = Arc::new(DiskCounts::default());
        let disk: Arc<dyn Disk> = CountedDisk::new(disk, counts.clone());
        let listeners = Listeners::bind(&config, open_sockets).await?;
        let options = Options { log_file_bytes: log_file_bytes(&config, &*disk), ..Options::default() };
        let (alarm_tx, alarm) = watch::channel(None);
        let watchdog = Watchdog::new(disk.clone(), config.watermarks, options.log_file_bytes, alarm_tx);
        let Opened { broker, damage, clean, torn_bytes } =
            leveret_broker::Broker::open(disk, options, config.limits.clone()).map_err(StartError::Open)?;
        let committer = Arc::new(Committer::default());
        let (store, wake) = (broker.store().clone(), committer.clone());
        watchdog.on_low_disk(move || {
            store.rotate_when_settled();
            wake.hurry();
        });
        let (failure_tx, failure) = watch::channel(None);
        let loops = DiskLoops::new(&broker, committer.clone(), watchdog.clone());
        let disk = DiskThreads::start(loops, move |failed| {
            tracing::error!(%failed, "the disk failed; nothing is confirmed any more");
            failure_tx.send_replace(Some(Arc::new(failed)));
        })?;
        let (stop, stopping) = watch::channel(false);
        let thread = watchdog.start()?;
        committer.notice(); // what a new directory logged
        let shared = Shared::new(broker, config, committer, watchdog, counts, alarm, stopping);
        tokio::spawn(keep_time(shared.clone()));
        let (addresses, tls_addresses) = listeners.serve(&shared)?;
        let listening = |tls: bool| move |address: &SocketAddr| Listening { address: *address, tls };
        let (plain, encrypted) =
            (addresses.iter().map(listening(false)), tls_addresses.iter().map(listening(true)));
        shared.listeners.get_or_init(|| plain.chain(encrypted).collect());
        Ok(Broker {
            shared,
            stop,
            failure,
            disk: Some(disk),
            watchdog: Some(thread),
            addresses,
            tls_addresses,
            opened: Condition { damage, clean, torn_bytes },
        })
    }
}

/// A small disk gets small log files: a few of them must fit beside the segments.
fn log_file_bytes(config: &Config, disk: &dyn Disk) -> u64 {
    let free = disk.free_bytes().unwrap_or(u64::MAX);
    config.log_file_bytes.min((free / 16).max(1 << 20))
}

struct Listeners {
    plain: Vec<tokio::net::TcpListener>,
    tls: Vec<tokio::net::TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config, mut open: Vec<std::net::TcpListener>) -> Result<Self, StartError> {
        let mut listeners = Self { plain: Vec::new(), tls: Vec::new() };
        for address in &config.listen {
            listeners.plain.push(listen(*address, &mut open).await?);
        }
        for address in &config.listen_tls {
            listeners.tls.push(listen(*address, &mut open).await?);
        }
        if config.tls.is_none() && !listeners.tls.is_empty() {
            return Err(StartError::NoCertificate);
        }
        Ok(listeners)
    }

    fn serve(self, shared: &Arc<Shared>) -> io::Result<(Vec<SocketAddr>, Vec<SocketAddr>)> {
        let addresses = self.plain.iter().map(|listener| listener.local_addr()).collect::<Result<_, _>>()?;
        let tls = self.tls.iter().map(|listener| listener.local_addr()).collect::<Result<_, _>>()?;
        for listener in self.plain {
            tokio::spawn(accept(listener, Transport::Tcp, shared.clone()));
        }
        for listener in self.tls {
            tokio::spawn(accept(listener, Transport::Tls, shared.clone()));
        }
        Ok((addresses, tls))
    }
}
