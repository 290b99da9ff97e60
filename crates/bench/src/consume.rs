//! The receiving end: a thread with one connection and one or more consumers on it, each on a channel of its own.

use crate::connection::{Connection, refuse_close};
use crate::frames::{BODY, Frame, HEADER, delivery_tag, id, write_ack_on};
use crate::load::Histogram;
use crate::messages::Stamp;
use crate::plan::Settle;
use crate::sequence::{Arrival, Sequences};
use crate::stage::Stage;
use crate::{Error, Result};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One consumer.
pub(crate) struct Consumer {
    settle: Settle,
    sequences: Sequences,
    coming_tag: u64,
    /// Octets of the body that are still to come.
    coming_bytes: u64,
    /// Of that body, once its first frame is here.
    stamp: Option<Stamp>,
    /// Of the last whole message.
    last_tag: u64,
    unacknowledged: u16,
}

/// Consumes until the stage is stopped; returns how long messages took from when they should have left. Consumer `i`
/// is on channel `i + 1`.
pub(crate) fn consume(
    mut connection: Connection,
    mut consumers: Vec<Consumer>,
    stage: &Stage,
) -> Result<Histogram> {
    let mut latencies = Histogram::default();
    let mut out = Vec::new();
    while !stage.counters.stopped() {
        // What is buffered since the consumers were started comes first.
        receive(&mut connection, &mut consumers, stage, &mut latencies, &mut out)?;
        if !out.is_empty() && !connection.writer.send(&out, &stage.counters.stop)? {
            return Ok(latencies);
        }
        out.clear();
        connection.reader.fill()?;
    }
    for (channel, consumer) in (1..).zip(&mut consumers) {
        consumer.acknowledge(channel, &mut out);
    }
    connection.writer.send(&out, &stage.counters.stop)?;
    connection.close()?;
    Ok(latencies)
}

fn receive(
    connection: &mut Connection,
    consumers: &mut [Consumer],
    stage: &Stage,
    latencies: &mut Histogram,
    out: &mut Vec<u8>,
) -> Result<()> {
    let now_ns = stage.at_ns(Instant::now());
    let recorded_ns = stage.recorded_ns();
    let mut received = 0;
    while let Some(frame) = connection.reader.next_buffered()? {
        let Some(consumer) = consumers.get_mut(usize::from(frame.channel).wrapping_sub(1)) else {
            refuse_close(frame)?;
            continue;
        };
        if let Some((stamp, arrival)) = consumer.take(frame, out)? {
            received += 1;
            count(arrival, stage);
            if recorded_ns.contains(&stamp.intended_ns) {
                latencies.record(Duration::from_nanos(now_ns.saturating_sub(stamp.intended_ns)));
            }
        }
    }
    stage.counters.received.fetch_add(received, Ordering::Relaxed);
    Ok(())
}

fn count(arrival: Arrival, stage: &Stage) {
    match arrival {
        Arrival::InOrder => {}
        Arrival::Late => drop(stage.reordered.fetch_add(1, Ordering::Relaxed)),
        Arrival::Again => drop(stage.duplicated.fetch_add(1, Ordering::Relaxed)),
    }
}

impl Consumer {
    /// `flows` is how many there are in the load; `alone` whether nobody else reads the queue.
    pub(crate) fn new(settle: Settle, flows: usize, alone: bool) -> Consumer {
        Consumer {
            settle,
            sequences: Sequences::new(flows, alone),
            coming_tag: 0,
            coming_bytes: 0,
            stamp: None,
            last_tag: 0,
            unacknowledged: 0,
        }
    }

    /// Takes a frame; returns a message when it is whole. Acknowledgements are appended to `out`.
    fn take(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<Option<(Stamp, Arrival)>> {
        match frame.kind {
            HEADER => {
                let size = frame.payload.get(4..).and_then(|rest| rest.first_chunk());
                let size = size.ok_or_else(|| Error::protocol("a content header is too short"))?;
                self.coming_bytes = u64::from_be_bytes(*size);
                Ok(None)
            }
            BODY => self.take_body(frame, out),
            _ => {
                match frame.method() {
                    Some((id::BASIC_DELIVER, args)) => self.coming_tag = delivery_tag(args, true)?,
                    _ => refuse_close(frame)?,
                }
                Ok(None)
            }
        }
    }

    fn take_body(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<Option<(Stamp, Arrival)>> {
        let stamp = match self.stamp.take() {
            Some(stamp) => stamp,
            None => Stamp::decode(frame.payload)?,
        };
        let left = self.coming_bytes.checked_sub(frame.payload.len() as u64);
        self.coming_bytes = left.ok_or_else(|| Error::protocol("a body is longer than its header said"))?;
        if self.coming_bytes > 0 {
            self.stamp = Some(stamp);
            return Ok(None);
        }
        self.last_tag = self.coming_tag;
        if let Settle::Every { messages, .. } = self.settle {
            self.unacknowledged += 1;
            if self.unacknowledged >= messages {
                self.acknowledge(frame.channel, out);
            }
        }
        let arrival = self.sequences.arrived(stamp.flow, stamp.number)?;
        Ok(Some((stamp, arrival)))
    }

    fn acknowledge(&mut self, channel: u16, out: &mut Vec<u8>) {
        if self.unacknowledged > 0 {
            write_ack_on(out, channel, self.last_tag);
            self.unacknowledged = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::METHOD;
    use crate::messages::{Messages, Way};
    use crate::plan::Flow;

    /// What a broker makes of publishes, as far as a consumer looks at it.
    fn deliver(consumer: &mut Consumer, mut published: &[u8], out: &mut Vec<u8>) -> Vec<(u64, Arrival)> {
        let mut taken = Vec::new();
        while let Some(head) = published.first_chunk::<7>() {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let frame = Frame { channel: 1, kind: head[0], payload: &published[7..7 + size] };
            if frame.kind == METHOD {
                consumer.coming_tag += 1;
            } else if let Some((stamp, arrival)) = consumer.take(frame, out).unwrap() {
                taken.push((stamp.number, arrival));
            }
            published = &published[8 + size..];
        }
        taken
    }

    #[test]
    fn bodies_in_parts_are_whole_once_and_acknowledged_as_asked() {
        let plan = Flow { sizes_bytes: vec![10_000], ..Flow::default() };
        let way = Way { flow: 0, exchange: String::new(), routing_key: "q".to_owned(), header: None };
        let mut messages = Messages::new(&plan, 1, &[way], 4096);
        let mut consumer = Consumer::new(Settle::Every { messages: 2, prefetch: 0 }, 1, true);
        let mut out = Vec::new();
        let taken = deliver(&mut consumer, messages.next(3, || 7), &mut out);
        assert_eq!(taken, [(0, Arrival::InOrder), (1, Arrival::InOrder), (2, Arrival::InOrder)]);
        let mut expected = Vec::new();
        write_ack_on(&mut expected, 1, 2);
        assert_eq!(out, expected);
        out.clear();
        consumer.acknowledge(1, &mut out);
        expected.clear();
        write_ack_on(&mut expected, 1, 3);
        assert_eq!(out, expected);
    }
}
