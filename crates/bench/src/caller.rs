//! The asking end: a thread with one connection and a reply queue. In a closed loop the next request leaves when an
//! answer comes; at a rate, requests leave when they are due, whether answers come or not.

use crate::Result;
use crate::connection::{Acks, Connection, QueueKind};
use crate::load::{Counters, Histogram};
use crate::pacer::{PACED_BURST, Pacer};
use crate::produce::{IDLE_MAX, LATE_NS};
use crate::rpc::Calls;
use crate::stage::Stage;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// Who calls, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// Where responders consume.
    pub(crate) queue: &'a str,
    /// Calls that may wait for their answer.
    pub(crate) in_flight: u32,
    /// At least 1, and with its frame at most what the connection agreed on.
    pub(crate) size_bytes: usize,
    pub(crate) direct_reply_to: bool,
}

impl Caller<'_> {
    /// Calls until the stage says that it is enough, then waits for the answers that are owed; returns how long answers
    /// took. `pacer` says when calls are due; without, one is when another was answered.
    pub(crate) fn run(
        &self,
        mut connection: Connection,
        pacer: Option<Pacer>,
        stage: &Stage,
    ) -> Result<Histogram> {
        let mut calls = self.begin(&mut connection)?;
        let mut latencies = Histogram::default();
        let counters = &stage.counters;
        let whole = match pacer {
            None => {
                let go_on = || stage.is_producing();
                in_a_loop(&mut connection, &mut calls, self.in_flight, counters, go_on, &mut latencies)
            }
            Some(pacer) => self.at_a_rate(&mut connection, &mut calls, pacer, stage, &mut latencies),
        };
        stage.producer_done();
        if !whole? {
            return Ok(latencies);
        }
        let recorded_ns = stage.recorded_ns();
        while calls.open() > 0 && !counters.stopped() {
            let counts = |sent| recorded_ns.contains(&stage.at_ns(sent));
            receive(&mut connection, &mut calls, counters, counts, &mut latencies)?;
        }
        connection.close()?;
        Ok(latencies)
    }

    /// Calls until the counters say stop, in a closed loop.
    pub(crate) fn run_until_stopped(
        &self,
        mut connection: Connection,
        counters: &Counters,
    ) -> Result<Histogram> {
        let mut calls = self.begin(&mut connection)?;
        let mut latencies = Histogram::default();
        let go_on = || !counters.stopped();
        if in_a_loop(&mut connection, &mut calls, self.in_flight, counters, go_on, &mut latencies)? {
            connection.close()?;
        }
        Ok(latencies)
    }

    fn begin(&self, connection: &mut Connection) -> Result<Calls> {
        let reply_to = match self.direct_reply_to {
            true => DIRECT_REPLY_TO.to_vec(),
            false => connection.declare_queue("", QueueKind::Exclusive)?,
        };
        connection.consume(&reply_to, Acks::None)?;
        Ok(Calls::new(self, reply_to))
    }

    /// False if the load was stopped within a request: then the connection is of no use any more.
    fn at_a_rate(
        &self,
        connection: &mut Connection,
        calls: &mut Calls,
        mut pacer: Pacer,
        stage: &Stage,
        latencies: &mut Histogram,
    ) -> Result<bool> {
        while stage.is_producing() {
            let now_ns = stage.now_ns();
            let room = self.in_flight - calls.open();
            let count = pacer.due(now_ns).min(PACED_BURST).min(room.into()) as u32;
            if count > 0 {
                let requests = calls.next_requests(count, || stage.instant(pacer.take()));
                if !connection.writer.send(requests, &stage.counters.stop)? {
                    return Ok(false);
                }
                stage.counters.sent.fetch_add(count.into(), Ordering::Relaxed);
            }
            let wait = match (count, room) {
                (0, 0) => IDLE_MAX,
                (0, _) => pacer.wait(now_ns).min(IDLE_MAX),
                _ => Duration::ZERO,
            };
            if connection.reader.wait(wait)? {
                let recorded_ns = stage.recorded_ns();
                let counts = |sent| recorded_ns.contains(&stage.at_ns(sent));
                receive(connection, calls, &stage.counters, counts, latencies)?;
            }
        }
        let overdue = pacer.due(stage.now_ns().saturating_sub(LATE_NS));
        stage.unsent.fetch_add(overdue, Ordering::Relaxed);
        Ok(true)
    }
}

/// Keeps `in_flight` calls open while `go_on`. False if it was stopped within a request.
fn in_a_loop(
    connection: &mut Connection,
    calls: &mut Calls,
    in_flight: u32,
    counters: &Counters,
    go_on: impl Fn() -> bool,
    latencies: &mut Histogram,
) -> Result<bool> {
    let mut owed = in_flight;
    while go_on() {
        let now = Instant::now();
        if !connection.writer.send(calls.next_requests(owed, || now), &counters.stop)? {
            return Ok(false);
        }
        counters.sent.fetch_add(owed.into(), Ordering::Relaxed);
        owed = receive(connection, calls, counters, |_| counters.is_recording(), latencies)?;
    }
    Ok(true)
}

/// One read of answers, and how many there were; `counts` says of a call, by when it left, whether its latency does.
fn receive(
    connection: &mut Connection,
    calls: &mut Calls,
    counters: &Counters,
    counts: impl Fn(Instant) -> bool,
    latencies: &mut Histogram,
) -> Result<u32> {
    connection.reader.fill()?;
    let now = Instant::now();
    let mut answered = 0;
    while let Some(frame) = connection.reader.next_buffered()? {
        if let Some(sent) = calls.answered(frame)? {
            answered += 1;
            if counts(sent) {
                latencies.record(now - sent);
            }
        }
    }
    counters.received.fetch_add(answered.into(), Ordering::Relaxed);
    Ok(answered)
}
