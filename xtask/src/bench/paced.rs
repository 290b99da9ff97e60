//! Messages at a fixed rate, far below what anybody can carry: how long each is under way. A message's time counts from
//! when it was to be sent, not from when it was sent: a stall of the broker that holds the producer up is not hidden.

use super::confirmed::PREFETCH;
use super::metric::{Metric, Pace};
use super::one_way::{BODY_BYTES, batch_messages, delete};
use super::server::Server;
use super::steady::{side, timed, watch};
use anyhow::{Context, Result, ensure};
use leveret_bench::connection::{Acks, Connection, QueueKind, refuse_close};
use leveret_bench::frames::{BODY, Frame, delivery_tag, id, write_ack};
use leveret_bench::load::{Batch, Counters, Histogram, NUMBER_BYTES, Persistence};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const QUEUE: &str = "bench-paced";
pub(super) const PER_SECOND: u32 = 10_000;

/// One producer, one consumer that acknowledges what each read brought.
pub(super) fn latency(server: &Server, pace: Pace) -> Result<Vec<Metric>> {
    let (producer, mut consumer) = (Connection::open(server.address)?, Connection::open(server.address)?);
    consumer.declare_queue(QUEUE, QueueKind::Transient)?;
    consumer.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
    let batch = Batch::new(QUEUE, Persistence::Transient, BODY_BYTES, batch_messages(BODY_BYTES));
    let schedule = Schedule { start: Instant::now(), interval: Duration::from_secs(1) / PER_SECOND };
    let sides = vec![
        timed(move |counters| consume(consumer, schedule, counters)),
        side(move |counters| publish(producer, batch, schedule, counters)),
    ];
    let seen = watch(server, pace.window(), sides)?;
    delete(server, QUEUE)?;
    let mut metrics = vec![seen.received("delivered")];
    metrics.extend(Metric::latencies(&seen.latencies, ["p50", "p99"]));
    metrics.push(seen.cpu());
    Ok(metrics)
}

/// When which message is to be sent.
#[derive(Clone, Copy)]
struct Schedule {
    start: Instant,
    interval: Duration,
}

impl Schedule {
    fn time_of(self, number: u64) -> Instant {
        self.start + Duration::from_nanos(self.interval.as_nanos() as u64 * number)
    }

    /// How many messages are to be sent up to `now`.
    fn due(self, now: Instant) -> u64 {
        ((now - self.start).as_nanos() / self.interval.as_nanos()) as u64
    }
}

fn publish(
    mut connection: Connection,
    mut batch: Batch,
    schedule: Schedule,
    counters: &Counters,
) -> Result<()> {
    let mut number = 0;
    while !counters.stopped() {
        let due = schedule.due(Instant::now()).saturating_sub(number).min(batch.capacity());
        if due == 0 {
            thread::sleep(schedule.time_of(number + 1).saturating_duration_since(Instant::now()));
            continue;
        }
        if !connection.writer.send(batch.numbered(number, due), &counters.stop)? {
            return Ok(());
        }
        number += due;
        counters.sent.fetch_add(due, Ordering::Relaxed);
    }
    Ok(connection.close()?)
}

fn consume(mut connection: Connection, schedule: Schedule, counters: &Counters) -> Result<Histogram> {
    let mut arrivals = Arrivals::default();
    let mut out = Vec::new();
    while !counters.stopped() {
        connection.reader.fill_patiently()?;
        let before = arrivals.count;
        let (now, recording) = (Instant::now(), counters.is_recording());
        while let Some(frame) = connection.reader.next_buffered()? {
            // Message 0 is due when the first interval has passed.
            let since = |number| now.saturating_duration_since(schedule.time_of(number + 1));
            arrivals.take(frame, |number| recording.then(|| since(number)))?;
        }
        counters.received.fetch_add(arrivals.count - before, Ordering::Relaxed);
        if arrivals.count > before {
            out.clear();
            write_ack(&mut out, arrivals.tag);
            connection.writer.send(&out, &counters.stop)?;
        }
    }
    connection.close()?;
    Ok(arrivals.latencies)
}

/// What came, in order.
#[derive(Default)]
struct Arrivals {
    count: u64,
    /// Of the message that came last.
    tag: u64,
    latencies: Histogram,
}

impl Arrivals {
    fn take(&mut self, frame: Frame<'_>, latency: impl Fn(u64) -> Option<Duration>) -> Result<()> {
        if frame.kind == BODY {
            let number = frame.payload.first_chunk::<NUMBER_BYTES>().context("a body is too short")?;
            let number = u64::from_be_bytes(*number);
            ensure!(number == self.count, "message {number} came instead of {}", self.count);
            self.count += 1;
            if let Some(latency) = latency(number) {
                self.latencies.record(latency);
            }
        } else if let Some((id::BASIC_DELIVER, args)) = frame.method() {
            self.tag = delivery_tag(args, true)?;
        } else {
            refuse_close(frame)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_when_its_time_has_come() {
        let start = Instant::now();
        let schedule = Schedule { start, interval: Duration::from_micros(100) };
        for (after_us, due) in [(0, 0), (99, 0), (100, 1), (1050, 10)] {
            assert_eq!(schedule.due(start + Duration::from_micros(after_us)), due, "after {after_us} us");
        }
        assert_eq!(schedule.time_of(10), start + Duration::from_millis(1));
    }
}
