//! What all workloads share: numbered batches of publishes, counters the threads write and the observer reads,
//! and a histogram of latencies. Nothing here allocates per message.

use crate::Result;
use crate::frames::{HAS_DELIVERY_MODE, write_publish_to};
use crate::process::Process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first bytes of each body hold its number, so that a lost or doubled message does not count as a fast one.
pub const NUMBER_BYTES: usize = 8;

/// Publishes of one size with one routing key, encoded once.
pub struct Batch {
    bytes: Vec<u8>,
    message_bytes: usize,
    number_at: usize,
}

impl Batch {
    /// `count` messages of `body_bytes` (8 at least) to a queue, through the default exchange.
    pub fn new(queue: &str, persistence: Persistence, body_bytes: usize, count: usize) -> Batch {
        Batch::to_exchange("", queue, persistence, body_bytes, count)
    }

    /// The same to any exchange.
    pub fn to_exchange(
        exchange: &str,
        routing_key: &str,
        persistence: Persistence,
        body_bytes: usize,
        count: usize,
    ) -> Batch {
        let mut bytes = Vec::new();
        let (key, properties) = (routing_key.as_bytes(), [persistence as u8]);
        write_publish_to(&mut bytes, exchange, key, HAS_DELIVERY_MODE, &properties, &vec![b'.'; body_bytes]);
        let message_bytes = bytes.len();
        let number_at = message_bytes - 1 - body_bytes;
        Batch { bytes: bytes.repeat(count), message_bytes, number_at }
    }

    /// Messages, at most.
    pub fn capacity(&self) -> u64 {
        (self.bytes.len() / self.message_bytes) as u64
    }

    /// The bytes of `count` messages (at most the capacity) with the numbers `first..`.
    pub fn numbered(&mut self, first: u64, count: u64) -> &[u8] {
        let all = &mut self.bytes[..count as usize * self.message_bytes];
        for (number, message) in (first..).zip(all.chunks_exact_mut(self.message_bytes)) {
            message[self.number_at..self.number_at + NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        }
        all
    }
}

/// Values of the property delivery-mode.
#[derive(Clone, Copy)]
pub enum Persistence {
    /// May be lost when the broker stops.
    Transient = 1,
    /// Must not be lost.
    Persistent = 2,
}

/// What the threads of a load share.
#[derive(Default)]
pub struct Counters {
    /// Published, or with confirms: published and confirmed. Calls, where the workload makes calls.
    pub sent: AtomicU64,
    /// Delivered; answered, where the workload makes calls.
    pub received: AtomicU64,
    /// Latencies count only while the load is observed.
    pub recording: AtomicBool,
    /// Tells everybody to end.
    pub stop: AtomicBool,
}

impl Counters {
    /// Whether to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether latencies count.
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// Runs one side of a load; whatever ends it ends the other sides too.
    pub fn run<T>(&self, side: impl FnOnce() -> T) -> T {
        let outcome = side();
        self.stop.store(true, Ordering::Relaxed);
        outcome
    }
}

/// How long a steady load runs.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub observed: Duration,
}

/// What happened between two instants.
pub struct Observation {
    /// Between the instants.
    pub seconds: f64,
    /// See [`Counters`].
    pub sent: f64,
    /// See [`Counters`].
    pub received: f64,
    /// User and system time of the broker.
    pub server_cpu_seconds: f64,
}

/// Watches a load that runs in other threads, then stops it.
pub fn observe(broker: Process, window: Window, counters: &Counters) -> Result<Observation> {
    sleep_unless_stopped(window.warm_up, counters);
    counters.recording.store(true, Ordering::Relaxed);
    let before = snapshot(broker, counters);
    sleep_unless_stopped(window.observed, counters);
    let after = snapshot(broker, counters);
    counters.recording.store(false, Ordering::Relaxed);
    counters.stop.store(true, Ordering::Relaxed);
    let (before, after) = (before?, after?);
    Ok(Observation {
        seconds: (after.at - before.at).as_secs_f64(),
        sent: (after.sent - before.sent) as f64,
        received: (after.received - before.received) as f64,
        server_cpu_seconds: after.cpu_seconds - before.cpu_seconds,
    })
}

struct Snapshot {
    at: Instant,
    sent: u64,
    received: u64,
    cpu_seconds: f64,
}

fn snapshot(broker: Process, counters: &Counters) -> Result<Snapshot> {
    Ok(Snapshot {
        at: Instant::now(),
        sent: counters.sent.load(Ordering::Relaxed),
        received: counters.received.load(Ordering::Relaxed),
        cpu_seconds: broker.cpu_seconds()?,
    })
}

/// A side that failed stops the load: then there is nothing to wait for.
fn sleep_unless_stopped(time: Duration, counters: &Counters) {
    let begin = Instant::now();
    while let Some(left) = time.checked_sub(begin.elapsed())
        && !counters.stopped()
    {
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Values are kept to one part in 64 of themselves.
const SUB_BUCKET_BITS: u32 = 6;
const BUCKETS: usize = (64 - SUB_BUCKET_BITS as usize + 1) << SUB_BUCKET_BITS;

/// Counts of latencies in buckets that widen with the value: a fixed size whatever is recorded.
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0 }
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, latency: Duration) {
        self.counts[bucket(latency.as_nanos() as u64)] += 1;
        self.total += 1;
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Microseconds that this share of the latencies did not exceed; 0 without any.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return bucket_floor_ns(index) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(SUB_BUCKET_BITS + 1);
    ((shift as usize) << SUB_BUCKET_BITS) + (value >> shift) as usize
}

fn bucket_floor_ns(index: usize) -> u64 {
    let sub_buckets = 1 << SUB_BUCKET_BITS;
    if index < 2 * sub_buckets {
        return index as u64;
    }
    let shift = index / sub_buckets - 1;
    ((index - shift * sub_buckets) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        for value in [0, 1, 63, 64, 127, 128, 129, 1000, 123_456, 1 << 40, u64::MAX] {
            let floor = bucket_floor_ns(bucket(value));
            assert!(floor <= value && value - floor <= value / 64, "{value}: {floor}");
            assert!(bucket(value) < BUCKETS);
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0.0);
        (1..=100).for_each(|us| histogram.record(Duration::from_micros(us)));
        assert!((histogram.quantile_us(0.5) - 50.0).abs() < 1.0);
        assert!((histogram.quantile_us(0.99) - 99.0).abs() < 2.0);
    }

    #[test]
    fn a_batch_is_numbered_where_the_bodies_begin() {
        let mut batch = Batch::new("q", Persistence::Transient, 16, 3);
        let bytes = batch.numbered(258, 2).to_vec();
        assert_eq!(bytes.len() * 3, batch.bytes.len() * 2);
        let second = &bytes[bytes.len() / 2..];
        assert!(
            second.ends_with(&[0, 0, 0, 0, 0, 0, 1, 3, b'.', b'.', b'.', b'.', b'.', b'.', b'.', b'.', 0xCE])
        );
    }
}
