//! The threads that talk to the disk.
//!
//! The committer writes and syncs whatever has gathered, then lets confirms leave. While somebody waits for it
//! it goes on at once, and what arrives during one sync shares the next (group commit). What nobody waits
//! for, acknowledgements above all, reaches the disk within [`IDLE_SYNC_INTERVAL`] (P3). The settler empties full
//! log files behind it. Both sleep without a timer when there is nothing to do.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use leveret_broker::{Batch, Broker, Logging};
use leveret_store::{CommitError, StoreFailed};
use parking_lot::{Condvar, Mutex};

use crate::alarms::Watchdog;

/// The bound of P3 on acknowledgements that a crash may forget.
const IDLE_SYNC_INTERVAL: Duration = Duration::from_millis(10);
/// How long to wait before a full disk is tried again.
const DISK_FULL_RETRY: Duration = Duration::from_millis(200);

/// Wakes the committer's thread.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    state: Mutex<Wanted>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    urgent: bool,
    noticed: bool,
    stop: bool,
    asleep: bool,
}

impl Committer {
    /// Something was logged that nobody waits for.
    pub(crate) fn notice(&self) {
        let mut wanted = self.state.lock();
        // Who has been told is awake, or sleeps until the interval is over.
        let told = std::mem::replace(&mut wanted.noticed, true);
        if wanted.asleep && !told {
            self.wake.notify_one();
        }
    }

    /// Somebody waits for the log.
    pub(crate) fn hurry(&self) {
        let mut wanted = self.state.lock();
        wanted.urgent = true;
        if wanted.asleep {
            self.wake.notify_one(); // mutation: wake-committer
        }
    }

    /// Ends a batch: the committer learns of what was logged and begins, meanwhile everything else leaves.
    pub(crate) fn finish(&self, broker: &Broker, batch: &mut Batch) {
        match broker.logged(batch) {
            Logging::Awaited => self.hurry(),
            Logging::Some => self.notice(),
            Logging::None => {}
        }
        broker.leave(batch);
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_one();
    }

    /// Sleeps until there is something to commit; `false` when it is over.
    fn sleep(&self) -> bool {
        let mut wanted = self.state.lock();
        while !(wanted.urgent || wanted.noticed || wanted.stop) {
            wanted.asleep = true;
            self.wake.wait(&mut wanted);
        }
        wanted.asleep = true;
        if !wanted.urgent && !wanted.stop {
            self.wake.wait_while_for(
                &mut wanted,
                |wanted| !wanted.urgent && !wanted.stop,
                IDLE_SYNC_INTERVAL,
            );
        }
        wanted.asleep = false;
        wanted.urgent = false;
        wanted.noticed = false;
        !wanted.stop
    }
}

/// The committer and the settler at work.
pub(crate) struct DiskThreads {
    loops: DiskLoops,
    threads: Vec<JoinHandle<()>>,
}

impl DiskThreads {
    /// Starts both. `failed` is called once, when the disk has failed for good: nothing may be confirmed any
    /// more and the process has to end.
    pub(crate) fn start(
        loops: DiskLoops,
        failed: impl Fn(StoreFailed) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let failed = Arc::new(failed);
        let (commit, settle, report) = (loops.clone(), loops.clone(), failed.clone());
        let threads = vec![
            std::thread::Builder::new().name("committer".into()).spawn(move || {
                if let Err(error) = commit.commit_all() {
                    failed(error);
                }
            })?,
            std::thread::Builder::new().name("settler".into()).spawn(move || {
                if let Err(error) = settle.settle_all() {
                    report(error);
                }
            })?,
        ];
        Ok(Self { loops, threads })
    }

    /// Waits for both to end. What has gathered is left to [`Broker::close`].
    pub(crate) fn stop(self) {
        self.loops.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a disk thread panicked");
            }
        }
    }
}

/// What the two threads do until they are stopped.
#[derive(Clone)]
pub(crate) struct DiskLoops {
    broker: Arc<Broker>,
    committer: Arc<Committer>,
    settler: Arc<Committer>,
    watchdog: Arc<Watchdog>,
}

impl DiskLoops {
    pub(crate) fn new(broker: &Arc<Broker>, committer: Arc<Committer>, watchdog: Arc<Watchdog>) -> Self {
        Self { broker: broker.clone(), committer, settler: Arc::default(), watchdog }
    }

    pub(crate) fn stop(&self) {
        self.committer.stop();
        self.settler.stop();
    }

    pub(crate) fn commit_all(&self) -> Result<(), StoreFailed> {
        while self.committer.sleep() {
            match self.broker.store().commit() {
                Ok(_) => {
                    self.watchdog.disk_full(false);
                    self.broker.committed();
                }
                Err(CommitError::DiskFull) => {
                    self.watchdog.disk_full(true);
                    std::thread::sleep(DISK_FULL_RETRY);
                    self.committer.hurry();
                }
                Err(CommitError::Failed(failed)) => return Err(failed),
            }
            if self.broker.store().rotated_files() > 0 {
                self.watchdog.look();
                self.settler.hurry();
            }
        }
        Ok(())
    }

    pub(crate) fn settle_all(&self) -> Result<(), StoreFailed> {
        while self.settler.sleep() {
            // Ahead of the next rotation, so that no confirm waits for a file to be made.
            match self.broker.store().prepare_next_file() {
                Ok(()) | Err(CommitError::DiskFull) => {}
                Err(CommitError::Failed(failed)) => return Err(failed),
            }
            loop {
                match self.broker.settle_oldest() {
                    Ok(true) => {}
                    // A full disk: the committer meets it too and raises the alarm; the next file asks again.
                    Ok(false) | Err(CommitError::DiskFull) => break,
                    Err(CommitError::Failed(failed)) => return Err(failed),
                }
            }
        }
        Ok(())
    }
}
