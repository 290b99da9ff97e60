//! For `/interleavings`: what the threads of the server do, for a scheduler that lets them go on in any order.
//!
//! These are the disk threads' own loops and the outbox itself, behind names that stay; nothing is modelled here.

use std::io;
use std::sync::Arc;

use leveret_broker::{Batch, Broker, Outlet};
use leveret_store::{Disk, StoreFailed};
use tokio::io::{AsyncWrite, WriteHalf};
use tokio::sync::watch;

use crate::alarms::Watchdog;
use crate::committer::{Committer, DiskLoops};
use crate::config::Watermarks;
use crate::drive::write_all;
use crate::outbox::{Flushed, Outbox, SocketOutlet, WriteNow};

/// What the committer and the settler do.
#[derive(Clone)]
pub struct DiskWork {
    broker: Arc<Broker>,
    committer: Arc<Committer>,
    loops: DiskLoops,
}

impl DiskWork {
    /// For a broker that is open on this disk. Nobody looks at memory or free space.
    pub fn new(broker: &Arc<Broker>, disk: Arc<dyn Disk>) -> Self {
        let committer = Arc::<Committer>::default();
        let marks = Watermarks { memory_share: 1.0, disk_free_bytes: Some(0) };
        let watchdog = Watchdog::new(disk, marks, 0, watch::channel(None).0);
        let loops = DiskLoops::new(broker, committer.clone(), watchdog);
        Self { broker: broker.clone(), committer, loops }
    }

    /// Ends a batch, as every connection does.
    pub fn finish(&self, batch: &mut Batch) {
        self.committer.finish(&self.broker, batch);
    }

    /// Has the committer come at once, as whoever waits for the log does.
    pub fn hurry(&self) {
        self.committer.hurry();
    }

    /// The committer's thread.
    ///
    /// # Errors
    /// The disk has failed for good.
    pub fn commit(&self) -> Result<(), StoreFailed> {
        self.loops.commit_all()
    }

    /// The settler's thread.
    ///
    /// # Errors
    /// The disk has failed for good.
    pub fn settle(&self) -> Result<(), StoreFailed> {
        self.loops.settle_all()
    }

    /// Ends both.
    pub fn stop(&self) {
        self.loops.stop();
    }
}

/// Takes octets without waiting.
pub trait Socket: Send + Sync + 'static {
    /// How many octets were taken; `WouldBlock` while it is full.
    ///
    /// # Errors
    /// It is full, or gone.
    fn write_now(&self, octets: &[u8]) -> io::Result<usize>;
}

struct Through<S>(Arc<S>);

impl<S: Socket> WriteNow for Through<S> {
    fn write_now(self: &Arc<Self>, octets: &[u8]) -> io::Result<usize> {
        self.0.write_now(octets)
    }
}

/// The outbox of a connection.
pub struct Way<S>(Arc<Outbox<Through<S>>>);

impl<S> Clone for Way<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Socket> Way<S> {
    /// Whoever fills it writes to this socket.
    pub fn direct(socket: Arc<S>) -> Self {
        Self(Outbox::new(Some(Arc::new(Through(socket))), Arc::default()))
    }

    /// [`Self::write_all`] writes, as for TLS.
    pub fn through_a_task() -> Self {
        Self(Outbox::new(None, Arc::default()))
    }

    /// For the connection's port.
    pub fn outlet(&self) -> Box<dyn Outlet> {
        Box::new(SocketOutlet(self.0.clone()))
    }

    /// Until the connection's task has something to do.
    pub async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Wakes the connection's task for something else.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Whether the task has to go on writing once the socket takes more.
    pub fn is_stuck(&self) -> bool {
        self.0.is_stuck()
    }

    /// Goes on writing; whether the socket is still there.
    pub fn resume(&self) -> bool {
        self.0.resume() != Flushed::Closed
    }

    /// Whether everything has left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing more is written.
    pub fn close(&self) {
        self.0.close();
        self.0.filled.notify_one();
    }

    /// The task that writes where there is no socket, until the outbox is closed.
    pub async fn write_all<W: AsyncWrite>(&self, writer: WriteHalf<W>) {
        write_all(writer, self.0.clone()).await;
    }
}
