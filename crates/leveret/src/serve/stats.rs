//! What a worker has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

/// What a worker has done since it started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// When it started.
    pub started: SystemTime,
    /// Requests whose work began.
    pub requests: u64,
    /// Requests that ended in an error.
    pub errors: u64,
    /// The newest error.
    pub last_error: Option<String>,
    /// Time spent in the handler, summed up.
    pub processing_time: Duration,
    /// Requests that came past their deadline and were not begun, or ran into it.
    pub expired: u64,
    /// Requests whose caller was gone before they began.
    pub orphaned: u64,
    /// Requests that their caller called off.
    pub cancelled: u64,
    /// Requests that had been done before.
    pub repeated: u64,
    /// Messages that are no requests, or whose answer would come back to us.
    pub refused: u64,
    /// Tasks that will be tried again.
    pub retried: u64,
    /// Messages given up, in the parking lot.
    pub parked: u64,
    /// Requests being worked on at this moment.
    pub in_flight: usize,
}

pub(super) struct Counters {
    started: SystemTime,
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    last_error: Mutex<Option<String>>,
    processing_ns: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) orphaned: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) parked: AtomicU64,
}

impl Counters {
    pub(super) fn new() -> Counters {
        let zero = || AtomicU64::new(0);
        Counters {
            started: SystemTime::now(),
            requests: zero(),
            errors: zero(),
            last_error: Mutex::new(None),
            processing_ns: zero(),
            expired: zero(),
            orphaned: zero(),
            cancelled: zero(),
            repeated: zero(),
            refused: zero(),
            retried: zero(),
            parked: zero(),
        }
    }

    pub(super) fn worked(&self, time: Duration) {
        self.processing_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn failed(&self, error: &dyn std::fmt::Display) {
        self.errors.fetch_add(1, Relaxed);
        *self.last_error.lock() = Some(error.to_string());
    }

    pub(super) fn read(&self, in_flight: usize) -> WorkerStats {
        WorkerStats {
            started: self.started,
            requests: self.requests.load(Relaxed),
            errors: self.errors.load(Relaxed),
            last_error: self.last_error.lock().clone(),
            processing_time: Duration::from_nanos(self.processing_ns.load(Relaxed)),
            expired: self.expired.load(Relaxed),
            orphaned: self.orphaned.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            repeated: self.repeated.load(Relaxed),
            refused: self.refused.load(Relaxed),
            retried: self.retried.load(Relaxed),
            parked: self.parked.load(Relaxed),
            in_flight,
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
