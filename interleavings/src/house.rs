//! A broker on an empty disk, and its disk's threads.

use std::sync::Arc;

use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::{Batch, Broker, Channel, Connection, ConnectionPort, Limits, Opened, Outlet};
use leveret_server::interleavings::DiskWork;
use leveret_store::{Disk, Options, StoreFailed};
use leveret_wire::FieldTable;
use shuttle::thread::{self, JoinHandle};

use crate::disk::{Flushed, WatchedDisk};

/// A broker on an empty disk.
pub struct House {
    /// The broker.
    pub broker: Arc<Broker>,
    /// Its disk's threads.
    pub work: DiskWork,
    /// What is on its disk.
    pub flushed: Arc<Flushed>,
}

impl House {
    /// Opens it; its log files are full at so many octets.
    pub fn open(log_file_bytes: u64) -> Arc<Self> {
        let flushed = Arc::<Flushed>::default();
        let disk: Arc<dyn Disk> = Arc::new(WatchedDisk::new(flushed.clone()));
        let options = Options { log_file_bytes, segment_bytes: 4 << 10, ..Options::default() };
        let Opened { broker, .. } =
            Broker::open(disk.clone(), options, Limits::default()).expect("an empty disk can be opened");
        let work = DiskWork::new(&broker, disk);
        Arc::new(Self { broker, work, flushed })
    }

    /// A connection's port that leads here.
    pub fn port(&self, outlet: Box<dyn Outlet>) -> Arc<ConnectionPort> {
        ConnectionPort::new(self.broker.next_connection_id(), outlet)
    }

    /// A channel of the user guest.
    pub fn channel(&self, port: Arc<ConnectionPort>) -> Channel {
        let guest = self.broker.users.find("guest").expect("a new broker has a guest");
        let connection = Connection::open(self.broker.clone(), port, guest, "/", true);
        Channel::open(connection.expect("guest may enter"), 1).expect("guest may open a channel")
    }

    /// Declares a queue.
    pub fn declare(&self, channel: &mut Channel, name: &str, durable: bool, batch: &mut Batch) {
        let arguments = FieldTable::default();
        let declare =
            DeclareQueue { name, passive: false, durable, exclusive: false, auto_delete: false, arguments };
        channel.declare_queue(declare, batch).expect("guest may declare queues");
    }
}

/// The committer and the settler of a house.
pub struct DiskThreads {
    work: DiskWork,
    commit: JoinHandle<Result<(), StoreFailed>>,
    settle: JoinHandle<Result<(), StoreFailed>>,
}

impl DiskThreads {
    /// Starts both; `failed` is called by each that the disk has failed for.
    pub fn start(house: &House, failed: impl Fn() + Clone + Send + 'static) -> Self {
        let (committing, settling, also) = (house.work.clone(), house.work.clone(), failed.clone());
        let commit = thread::spawn(move || committing.commit().inspect_err(|_| failed()));
        let settle = thread::spawn(move || settling.settle().inspect_err(|_| also()));
        Self { work: house.work.clone(), commit, settle }
    }

    /// Ends both; what they met.
    pub fn stop(self) -> [Result<(), StoreFailed>; 2] {
        self.work.stop();
        [self.commit, self.settle].map(|thread| thread.join().expect("a panic has ended the run"))
    }
}
