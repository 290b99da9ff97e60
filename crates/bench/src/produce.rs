//! The sending end: a thread with one connection and one or more producers on it, each on a channel of its own.

use crate::connection::{Connection, refuse_close};
use crate::flows::Unconfirmed;
use crate::frames::{Frame, delivery_tag, id};
use crate::load::Histogram;
use crate::messages::Messages;
use crate::pacer::{PACED_BURST, Pacer};
use crate::stage::Stage;
use crate::{Error, Result};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a thread with nothing to do waits before it looks whether it shall end.
pub(crate) const IDLE_MAX: Duration = Duration::from_millis(50);
/// A message that is due for less than this when the load ends would just have left.
pub(crate) const LATE_NS: u64 = 50_000_000;

/// One producer.
pub(crate) struct Producer {
    pub(crate) messages: Messages,
    pub(crate) pacer: Option<Pacer>,
    /// None without confirms.
    pub(crate) unconfirmed: Option<Unconfirmed>,
    /// Messages it may still send.
    pub(crate) left: u64,
}

/// Sends until the stage says that it is enough; returns how long confirms took. Producer `i` is on channel `i + 1`.
pub(crate) fn produce(
    mut connection: Connection,
    mut producers: Vec<Producer>,
    stage: &Stage,
) -> Result<Histogram> {
    let mut confirms = Histogram::default();
    let whole = send_all(&mut connection, &mut producers, stage, &mut confirms);
    stage.producer_done();
    if whole? {
        connection.close()?;
    }
    Ok(confirms)
}

/// False if the load was stopped within a message: then the connection is of no use any more.
fn send_all(
    connection: &mut Connection,
    producers: &mut [Producer],
    stage: &Stage,
    confirms: &mut Histogram,
) -> Result<bool> {
    while stage.is_producing() && producers.iter().any(|producer| producer.left > 0) {
        let mut progress = false;
        for producer in producers.iter_mut() {
            match producer.send(connection, stage)? {
                Sent::Nothing => {}
                Sent::Some => progress = true,
                Sent::Cut => return Ok(false),
            }
        }
        let wait = if progress { Duration::ZERO } else { wait(producers, stage) };
        if connection.reader.wait(wait)? {
            receive(connection, producers, stage, confirms)?;
        }
    }
    let unsent = producers.iter().map(|producer| producer.overdue(stage)).sum();
    stage.unsent.fetch_add(unsent, Ordering::Relaxed);
    while producers.iter().any(Producer::is_owed) && !stage.counters.stopped() {
        if connection.reader.wait(IDLE_MAX)? {
            receive(connection, producers, stage, confirms)?;
        }
    }
    Ok(true)
}

enum Sent {
    Nothing,
    Some,
    Cut,
}

impl Producer {
    fn send(&mut self, connection: &mut Connection, stage: &Stage) -> Result<Sent> {
        let now_ns = stage.now_ns();
        let due = match &self.pacer {
            Some(pacer) => pacer.due(now_ns).min(PACED_BURST),
            None => u64::MAX,
        };
        let room = self.unconfirmed.as_ref().map_or(u64::MAX, Unconfirmed::room);
        let count = due.min(room).min(self.left).min(self.messages.run());
        if count == 0 {
            return Ok(Sent::Nothing);
        }
        let (pacer, unconfirmed) = (&mut self.pacer, &mut self.unconfirmed);
        let bytes = self.messages.next(count, || {
            let intended_ns = pacer.as_mut().map_or(now_ns, Pacer::take);
            if let Some(unconfirmed) = unconfirmed {
                unconfirmed.sent(1, stage.instant(intended_ns));
            }
            intended_ns
        });
        if !connection.writer.send(bytes, &stage.counters.stop).map_err(|error| said(connection, error))? {
            return Ok(Sent::Cut);
        }
        self.left -= count;
        stage.counters.sent.fetch_add(count, Ordering::Relaxed);
        Ok(Sent::Some)
    }

    /// Messages that should have left long ago. Without a rate nothing is ever late.
    fn overdue(&self, stage: &Stage) -> u64 {
        let then_ns = stage.now_ns().saturating_sub(LATE_NS);
        self.pacer.as_ref().map_or(0, |pacer| pacer.due(then_ns).min(self.left))
    }

    fn is_owed(&self) -> bool {
        self.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.confirmed() < unconfirmed.published())
    }
}

/// Until the next message is due of a producer that may send one.
fn wait(producers: &[Producer], stage: &Stage) -> Duration {
    let now_ns = stage.now_ns();
    let waits = producers.iter().filter_map(|producer| {
        let may_send = producer.left > 0 && producer.unconfirmed.as_ref().is_none_or(|open| open.room() > 0);
        producer.pacer.as_ref().filter(|_| may_send).map(|pacer| pacer.wait(now_ns))
    });
    waits.min().unwrap_or(IDLE_MAX).min(IDLE_MAX)
}

/// One read of confirms and returned messages.
fn receive(
    connection: &mut Connection,
    producers: &mut [Producer],
    stage: &Stage,
    confirms: &mut Histogram,
) -> Result<()> {
    connection.reader.fill()?;
    let now = Instant::now();
    let recorded_ns = stage.recorded_ns();
    let mut confirmed = 0;
    while let Some(frame) = connection.reader.next_buffered()? {
        match frame.method() {
            Some((id::BASIC_ACK, args)) => {
                confirm(producers, frame, args, |intended| {
                    confirmed += 1;
                    if recorded_ns.contains(&stage.at_ns(intended)) {
                        confirms.record(now - intended);
                    }
                })?;
            }
            Some((id::BASIC_NACK, args)) => confirm(producers, frame, args, |_| {
                stage.refused.fetch_add(1, Ordering::Relaxed);
            })?,
            Some((id::BASIC_RETURN, _)) => {
                stage.returned.fetch_add(1, Ordering::Relaxed);
            }
            // The content of what was returned, and heartbeats.
            None => {}
            Some(_) => refuse_close(frame)?,
        }
    }
    stage.confirmed.fetch_add(confirmed, Ordering::Relaxed);
    Ok(())
}

fn confirm(
    producers: &mut [Producer],
    frame: Frame<'_>,
    args: &[u8],
    each: impl FnMut(Instant),
) -> Result<()> {
    let unexpected = || Error::protocol("a confirm came on a channel without confirms");
    let producer = producers.get_mut(usize::from(frame.channel).wrapping_sub(1)).ok_or_else(unexpected)?;
    let unconfirmed = producer.unconfirmed.as_mut().ok_or_else(unexpected)?;
    let multiple = args.get(8).is_some_and(|bits| bits & 1 != 0);
    unconfirmed.confirm(delivery_tag(args, false)?, multiple, each)
}

/// Why the broker cut the connection, if it said so.
fn said(connection: &mut Connection, error: Error) -> Error {
    if !connection.reader.wait(Duration::ZERO).unwrap_or(false) || connection.reader.fill().is_err() {
        return error;
    }
    while let Ok(Some(frame)) = connection.reader.next_buffered() {
        if let Err(reason) = refuse_close(frame) {
            return reason;
        }
    }
    error
}
