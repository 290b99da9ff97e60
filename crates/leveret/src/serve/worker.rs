//! A running worker: on every connection a shift, and the end in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use leveret_client::Delivery;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;

use super::dedup::Dedup;
use super::recent::Recent;
use super::shift::Shift;
use super::stats::{Counters, WorkerStats};
use super::{Handler, Options, ServeError};
use crate::client::Client;
use crate::context::Cancel;
use crate::ids::random_id;

/// Pauses between attempts to begin a shift on a sound connection.
const SETUP_RETRY_FIRST: Duration = Duration::from_millis(50);
const SETUP_RETRY_MAX: Duration = Duration::from_secs(5);

/// A running worker. Dropped, it stops at once: what it was working on goes back to the queue, for others.
/// [`drain`](Worker::drain) ends it in order.
#[must_use = "a dropped worker serves nobody"]
pub struct Worker {
    service: String,
    id: String,
    stop: watch::Sender<bool>,
    supervisor: Option<tokio::task::JoinHandle<()>>,
    abort: AbortHandle,
    stats: Arc<dyn Fn() -> WorkerStats + Send + Sync>,
}

/// What all parts of a worker share.
pub(super) struct Work<S> {
    pub(super) client: Client,
    pub(super) handler: S,
    pub(super) options: Options,
    /// Tells this instance from others of the service.
    pub(super) id: String,
    /// `service/instance`, as answers carry it.
    pub(super) name: String,
    pub(super) counters: Counters,
    pub(super) dedup: Arc<Dedup>,
    /// Reply queues that answers came back from.
    pub(super) callers_gone: Arc<Recent>,
    /// Correlation ids of requests that were called off before they came.
    pub(super) called_off: Recent,
    /// Requests being worked on, by correlation id.
    pub(super) running: Mutex<HashMap<Vec<u8>, Running>>,
    in_flight: AtomicUsize,
    idle: Notify,
    /// Set when what runs must stop: the worker was dropped.
    abandoned: Arc<Cancel>,
}

/// How to reach a request that is being worked on.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) cancel: Arc<Cancel>,
    pub(super) credit: Arc<Semaphore>,
}

pub(super) async fn start<S: Handler>(
    client: Client,
    handler: S,
    options: Options,
) -> Result<Worker, ServeError> {
    let id = random_id();
    let work = Arc::new(Work {
        client,
        handler,
        name: format!("{}/{id}", options.service),
        options,
        id,
        counters: Counters::new(),
        dedup: Arc::default(),
        callers_gone: Arc::default(),
        called_off: Recent::default(),
        running: Mutex::default(),
        in_flight: AtomicUsize::new(0),
        idle: Notify::new(),
        abandoned: Arc::default(),
    });
    let connection = work.client.connection().await.map_err(ServeError::Closed)?;
    let first = Shift::begin(&work, connection).await?;
    let (stop, stopping) = watch::channel(false);
    let supervisor = tokio::spawn(supervise(work.clone(), first, stopping));
    Ok(Worker {
        service: work.options.service.clone(),
        id: work.id.clone(),
        stop,
        abort: supervisor.abort_handle(),
        supervisor: Some(supervisor),
        stats: Arc::new(move || work.stats()),
    })
}

impl Worker {
    /// The service it serves.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What tells this instance from others of the service.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it has done so far.
    pub fn stats(&self) -> WorkerStats {
        (self.stats)()
    }

    /// Ends in order: takes no more requests, finishes and answers those it has, and returns when all is
    /// acknowledged, or when the [`drain_timeout`](crate::Serve::drain_timeout) has passed.
    pub async fn drain(mut self) {
        self.stop.send_replace(true);
        if let Some(supervisor) = self.supervisor.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(%error, "the worker did not end in order");
        }
    }

    /// Drains when the process is asked to end (SIGTERM or Ctrl-C).
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub async fn run_until_signal(self) -> std::io::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
        self.drain().await;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

async fn supervise<S: Handler>(work: Arc<Work<S>>, first: Arc<Shift>, mut stopping: watch::Receiver<bool>) {
    let mut on_duty = OnDuty { abandoned: work.abandoned.clone(), shift: first };
    loop {
        let shift = &on_duty.shift;
        tokio::select! {
            () = shift.over() => {}
            () = told_to_stop(&mut stopping) => {
                shift.stop_taking().await;
                work.until_idle(Instant::now() + work.options.drain).await;
                shift.end().await;
                return;
            }
        }
        tokio::select! {
            next = next_shift(&work) => match next {
                Some(next) => on_duty.shift = next,
                None => return,
            },
            () = told_to_stop(&mut stopping) => return,
        }
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // A dropped worker aborts this task anyway.
    if stopping.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Begins a shift as soon as there is a connection that lets it; `None` when the client was closed.
async fn next_shift<S: Handler>(work: &Arc<Work<S>>) -> Option<Arc<Shift>> {
    let mut pause = SETUP_RETRY_FIRST;
    loop {
        let connection = work.client.connection().await.ok()?;
        match Shift::begin(work, connection).await {
            Ok(shift) => return Some(shift),
            Err(error) => tracing::warn!(%error, "serving cannot go on yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(SETUP_RETRY_MAX);
    }
}

/// A worker that is dropped takes what it is working on with it, and its requests go to others.
struct OnDuty {
    abandoned: Arc<Cancel>,
    shift: Arc<Shift>,
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        self.abandoned.cancel();
        let shift = self.shift.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { shift.end().await });
        }
    }
}

impl<S: Handler> Work<S> {
    /// Begins with a request, on a task of its own. Runs on the connection's task: must be quick.
    pub(super) fn take(self: &Arc<Self>, shift: watch::Receiver<Option<Arc<Shift>>>, delivery: Delivery) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        let guard = InFlight(self.clone());
        let came = Instant::now();
        // Boxed, because Tokio moves the future of a task three times.
        tokio::spawn(Box::pin(async move {
            let work = &guard.0;
            let mut shift = shift;
            // Deliveries may come before the answer to basic.consume.
            let Ok(begun) = shift.wait_for(Option::is_some).await.map(|shift| shift.clone()) else { return };
            let Some(shift) = begun else { return };
            tokio::select! {
                biased;
                () = work.abandoned.cancelled() => {}
                () = work.handle(&shift, delivery, came) => {}
            }
        }));
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(super) fn stats(&self) -> WorkerStats {
        self.counters.read(self.in_flight())
    }

    async fn until_idle(&self, deadline: Instant) {
        loop {
            let idle = self.idle.notified();
            if self.in_flight() == 0 {
                return;
            }
            if tokio::time::timeout_at(deadline.into(), idle).await.is_err() {
                tracing::warn!(
                    left = self.in_flight(),
                    "requests are still being worked on; they go back to the queue"
                );
                return;
            }
        }
    }
}

struct InFlight<S: Handler>(Arc<Work<S>>);

impl<S: Handler> Drop for InFlight<S> {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
