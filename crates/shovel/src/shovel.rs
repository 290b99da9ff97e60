//! A transfer that is kept going: connected, run, and connected again after whatever broke it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use leveret_client::{ConnectOptions, Connection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::progress::Progress;
use crate::transfer::{Broken, Ended, Side, Transfer, told};

/// A transfer and the brokers it is between.
#[derive(Clone, Debug)]
pub struct Shovel {
    /// What is moved, and how.
    pub transfer: Transfer,
    /// Where messages come from.
    pub source: ConnectOptions,
    /// Where they go.
    pub destination: ConnectOptions,
    /// How long to wait after something broke; `None`: it ends then.
    pub reconnect_delay: Option<Duration>,
    /// What the log calls it.
    pub label: String,
}

/// What a shovel is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It connects.
    Starting,
    /// It moves messages.
    Running,
    /// Something broke it, and what. It starts again after its delay, if it has one.
    Terminated(String),
    /// It has moved what it was to move, or was told to stop.
    Ended(Ended),
}

/// A shovel with a task of its own. Dropping it ends it as a crash would: what was on its way comes again, redelivered.
#[derive(Debug)]
pub struct Supervised {
    status: watch::Receiver<(Status, SystemTime)>,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
    /// What it made at the source goes with it.
    cleans_up: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Shovel {
    /// Starts it. Needs a Tokio runtime.
    pub fn start(self) -> Supervised {
        let progress = Arc::new(Progress::default());
        let (report, status) = watch::channel((Status::Starting, SystemTime::now()));
        let (stop, stopping) = watch::channel(false);
        let cleans_up = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(self.keep_going(progress.clone(), report, stopping, cleans_up.clone()));
        Supervised { status, progress, stop, cleans_up, task }
    }

    async fn keep_going(
        self,
        progress: Arc<Progress>,
        report: watch::Sender<(Status, SystemTime)>,
        mut stop: watch::Receiver<bool>,
        cleans_up: Arc<AtomicBool>,
    ) {
        let say = |status| drop(report.send_replace((status, SystemTime::now())));
        loop {
            say(Status::Starting);
            let run = async {
                let (source, destination) = self.connect().await?;
                let mut stop = stop.clone();
                let ended = match self.transfer.open(&source, &destination, &progress).await {
                    Ok(run) => {
                        say(Status::Running);
                        run.run(&mut stop).await
                    }
                    Err(broken) => Err(broken),
                };
                if cleans_up.load(Ordering::Relaxed)
                    && let Err(error) = self.transfer.clean_up(&source).await
                {
                    tracing::warn!(name = self.label, %error, "what was made at the source is still there");
                }
                // A failed run must not leave anything behind: the source takes back what is not acknowledged.
                tokio::join!(source.close(), destination.close());
                ended
            };
            let broken = match run.await {
                Ok(ended) => return say(Status::Ended(ended)),
                Err(broken) => broken,
            };
            tracing::warn!(name = self.label, reason = %broken, "terminated");
            say(Status::Terminated(broken.to_string()));
            let Some(delay) = self.reconnect_delay else { return };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = told(&mut stop) => return say(Status::Ended(Ended::Stopped)),
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, Connection), Broken> {
        let (source, destination) =
            tokio::join!(Connection::open(&self.source), Connection::open(&self.destination));
        Ok((
            source.map_err(|error| Broken::Connect(Side::Source, error))?,
            destination.map_err(|error| Broken::Connect(Side::Destination, error))?,
        ))
    }
}

impl Supervised {
    /// What it is doing, and since when.
    pub fn status(&self) -> (Status, SystemTime) {
        self.status.borrow().clone()
    }

    /// What it has done so far.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tells it to stop; what is on its way is confirmed first.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells it to stop, and to take away what it made at the source for itself: an exchange's queue, and what waits in it.
    pub fn retire(&self) {
        self.cleans_up.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Waits for its end, which may never come.
    pub async fn ended(&self) -> Status {
        let mut status = self.status.clone();
        // An error says that the task has ended, broken and without a delay: its last word stands.
        let _ended = status.wait_for(|(status, _)| matches!(status, Status::Ended(_))).await.is_ok();
        self.status().0
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.task.abort();
    }
}
