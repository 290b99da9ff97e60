//! What the threads of a load share: one clock, counters, and when to begin, to count and to end.

use crate::load::Counters;
use crate::pacer::wake_punctually;
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Relaxed everywhere: counts are read by an observer who is late anyway, and threads are joined before results are.
pub(crate) struct Stage {
    epoch: Instant,
    /// `sent` is what was written, `received` what was delivered, or done.
    pub(crate) counters: Counters,
    pub(crate) confirmed: AtomicU64,
    /// Negative confirms.
    pub(crate) refused: AtomicU64,
    pub(crate) returned: AtomicU64,
    pub(crate) duplicated: AtomicU64,
    pub(crate) reordered: AtomicU64,
    /// Messages that were overdue when the producers ended, and had not left.
    pub(crate) unsent: AtomicU64,
    /// Producers whose confirms may still come, and producers that have not begun to end.
    producing: AtomicU64,
    no_more: AtomicBool,
    record_from_ns: AtomicU64,
    record_until_ns: AtomicU64,
    threads: Mutex<Vec<u32>>,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage {
            epoch: Instant::now(),
            counters: Counters::default(),
            confirmed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            duplicated: AtomicU64::new(0),
            reordered: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            producing: AtomicU64::new(0),
            no_more: AtomicBool::new(false),
            record_from_ns: AtomicU64::new(u64::MAX),
            record_until_ns: AtomicU64::new(u64::MAX),
            threads: Mutex::new(Vec::new()),
        }
    }

    /// Nanoseconds since the epoch.
    pub(crate) fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    pub(crate) fn at_ns(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    pub(crate) fn instant(&self, ns: u64) -> Instant {
        self.epoch + std::time::Duration::from_nanos(ns)
    }

    /// Messages intended from now on count in latencies.
    pub(crate) fn record(&self) {
        self.record_from_ns.store(self.now_ns(), Ordering::Relaxed);
        self.counters.recording.store(true, Ordering::Relaxed);
    }

    /// Messages intended from now on count no more; those intended before still do, however late they come.
    pub(crate) fn end_recording(&self) {
        self.record_until_ns.store(self.now_ns(), Ordering::Relaxed);
        self.counters.recording.store(false, Ordering::Relaxed);
    }

    /// From when until when a message must be intended for its latency to count.
    pub(crate) fn recorded_ns(&self) -> std::ops::Range<u64> {
        self.record_from_ns.load(Ordering::Relaxed)..self.record_until_ns.load(Ordering::Relaxed)
    }

    /// Producers begin nothing new.
    pub(crate) fn end_producing(&self) {
        self.no_more.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_producing(&self) -> bool {
        !self.no_more.load(Ordering::Relaxed) && !self.counters.stopped()
    }

    /// Everybody ends, whatever is left.
    pub(crate) fn stop(&self) {
        self.counters.stop.store(true, Ordering::Relaxed);
    }

    /// Announces a producer; [`Stage::producer_done`] takes it back.
    pub(crate) fn add_producer(&self) {
        self.producing.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn producer_done(&self) {
        self.producing.fetch_sub(1, Ordering::Release);
    }

    /// Whether no producer will send, or count, anything more.
    pub(crate) fn producers_are_done(&self) -> bool {
        self.producing.load(Ordering::Acquire) == 0
    }

    /// Runs a thread of the load: it is watched for whether it has time to spare, and its failure ends the load.
    pub(crate) fn act<T>(&self, side: impl FnOnce() -> Result<T>) -> Result<T> {
        self.enlist();
        wake_punctually();
        let outcome = side();
        if outcome.is_err() {
            self.stop();
        }
        outcome
    }

    fn enlist(&self) {
        let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    /// Ids of the threads that act.
    pub(crate) fn threads(&self) -> Vec<u32> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a thread of the load ended with.
pub(crate) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| Error::Panic)?
}
