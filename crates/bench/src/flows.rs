//! The two ends of a one-way flow of numbered messages: publishing at full speed, with or without confirms, and
//! consuming, with or without acknowledgements.

use crate::connection::{Connection, refuse_close};
use crate::frames::{BODY, Frame, delivery_tag, id, write_ack};
use crate::load::{Batch, Counters, Histogram, NUMBER_BYTES};
use crate::{Error, Result};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Publishes as fast as the socket takes it, until stopped.
pub fn publish(mut connection: Connection, mut batch: Batch, counters: &Counters) -> Result<()> {
    let count = batch.capacity();
    let mut number = 0;
    while !counters.stopped() {
        if !connection.writer.send(batch.numbered(number, count), &counters.stop)? {
            return Ok(()); // cut within a message: the connection is of no use any more
        }
        number += count;
        counters.sent.fetch_add(count, Ordering::Relaxed);
    }
    connection.close()
}

/// Publishes with at most `window` messages unconfirmed, until stopped or `limit` are confirmed.
/// Returns how long confirms took.
pub fn publish_confirmed(
    mut connection: Connection,
    mut batch: Batch,
    window: usize,
    limit: u64,
    counters: &Counters,
) -> Result<Histogram> {
    connection.select_confirms()?;
    let mut unconfirmed = Unconfirmed::new(window);
    let mut latencies = Histogram::default();
    while !counters.stopped() && unconfirmed.confirmed() < limit {
        let count = unconfirmed.room().min(batch.capacity()).min(limit - unconfirmed.next);
        if count > 0 {
            let now = Instant::now();
            if !connection.writer.send(batch.numbered(unconfirmed.next, count), &counters.stop)? {
                return Ok(latencies);
            }
            unconfirmed.sent(count, now);
        }
        if unconfirmed.room() == 0 || unconfirmed.next == limit {
            let before = unconfirmed.confirmed();
            receive_confirms(
                &mut connection,
                &mut unconfirmed,
                counters.is_recording().then_some(&mut latencies),
            )?;
            counters.sent.fetch_add(unconfirmed.confirmed() - before, Ordering::Relaxed);
        }
    }
    connection.close()?;
    Ok(latencies)
}

fn receive_confirms(
    connection: &mut Connection,
    unconfirmed: &mut Unconfirmed,
    mut latencies: Option<&mut Histogram>,
) -> Result<()> {
    connection.reader.fill_patiently()?;
    let now = Instant::now();
    while let Some(frame) = connection.reader.next_buffered()? {
        match frame.method() {
            Some((id::BASIC_ACK, args)) => {
                let multiple = args.last() == Some(&1);
                unconfirmed.confirm(delivery_tag(args, false)?, multiple, |sent| {
                    if let Some(latencies) = &mut latencies {
                        latencies.record(now - sent);
                    }
                })?;
            }
            Some((id, _)) => {
                refuse_close(frame)?;
                return Err(Error::protocol(format!("a confirm was expected, {id:?} came")));
            }
            None => return Err(Error::protocol("a confirm was expected, a content came")),
        }
    }
    Ok(())
}

/// The publishes whose confirm has not come, by number (their confirm tag less one). Confirms may come in any order.
pub struct Unconfirmed {
    window: usize,
    /// By number modulo length; None is confirmed.
    sent_at: Box<[Option<Instant>]>,
    /// All before it are confirmed.
    first: u64,
    next: u64,
    outstanding: usize,
}

impl Unconfirmed {
    /// For at most `window` publishes at a time.
    pub fn new(window: usize) -> Unconfirmed {
        let sent_at = vec![None; 4 * window].into_boxed_slice();
        Unconfirmed { window, sent_at, first: 0, next: 0, outstanding: 0 }
    }

    /// Messages that may be sent now.
    pub fn room(&self) -> u64 {
        let slots = self.sent_at.len() - (self.next - self.first) as usize;
        (self.window - self.outstanding).min(slots) as u64
    }

    /// So far; the number of the next publish.
    pub fn published(&self) -> u64 {
        self.next
    }

    /// Of them.
    pub fn confirmed(&self) -> u64 {
        self.next - self.outstanding as u64
    }

    /// The next `count` are on their way.
    pub fn sent(&mut self, count: u64, now: Instant) {
        for number in self.next..self.next + count {
            let slot = self.slot(number);
            self.sent_at[slot] = Some(now);
        }
        self.next += count;
        self.outstanding += count as usize;
    }

    /// A confirm came; calls `each` with the time of each publish that it is the first to confirm.
    ///
    /// # Errors
    /// When nothing was published under this tag.
    pub fn confirm(&mut self, tag: u64, multiple: bool, mut each: impl FnMut(Instant)) -> Result<()> {
        if tag < 1 || tag > self.next {
            return Err(Error::Promise(format!("confirm of {tag}, but {} were published", self.next)));
        }
        let last = tag - 1;
        let begin = if multiple { self.first } else { last };
        for number in begin..=last {
            let slot = self.slot(number);
            if let Some(sent) = self.sent_at[slot].take() {
                self.outstanding -= 1;
                each(sent);
            }
        }
        while self.first < self.next && self.sent_at[self.slot(self.first)].is_none() {
            self.first += 1;
        }
        Ok(())
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.sent_at.len() as u64) as usize
    }
}

/// Consumes until stopped or `limit` messages came, acknowledging after each `ack_every`. Any gap in the numbers
/// is an error.
pub fn consume(
    connection: Connection,
    ack_every: Option<u64>,
    limit: u64,
    counters: &Counters,
) -> Result<()> {
    consume_from(connection, 0, ack_every, limit, counters)
}

/// The same for numbers that begin with `first`.
pub fn consume_from(
    mut connection: Connection,
    first: u64,
    ack_every: Option<u64>,
    limit: u64,
    counters: &Counters,
) -> Result<()> {
    let mut flow = Flow { first, ..Flow::default() };
    let mut out = Vec::new();
    let mut acked = 0;
    while flow.count < limit && !counters.stopped() {
        connection.reader.fill_patiently()?;
        let before = flow.count;
        while let Some(frame) = connection.reader.next_buffered()? {
            flow.take(frame)?;
        }
        counters.received.fetch_add(flow.count - before, Ordering::Relaxed);
        if ack_every.is_some_and(|every| flow.count - acked >= every || flow.count == limit) {
            out.clear();
            write_ack(&mut out, flow.last_tag);
            connection.writer.send(&out, &counters.stop)?;
            acked = flow.count;
        }
    }
    connection.close()
}

/// What came so far.
#[derive(Default)]
struct Flow {
    /// The number that came, or must come, first.
    first: u64,
    /// Whole messages.
    count: u64,
    /// Of the last whole message.
    last_tag: u64,
    coming_tag: u64,
}

impl Flow {
    fn take(&mut self, frame: Frame<'_>) -> Result<()> {
        if frame.kind == BODY {
            let number = frame.payload.first_chunk::<NUMBER_BYTES>();
            let number = number.ok_or_else(|| Error::protocol("a body is too short"))?;
            let number = u64::from_be_bytes(*number);
            let wanted = self.first + self.count;
            if number != wanted {
                return Err(Error::Promise(format!("message {number} came instead of {wanted}")));
            }
            self.count += 1;
            self.last_tag = self.coming_tag;
        } else if let Some((id::BASIC_DELIVER, args)) = frame.method() {
            self.coming_tag = delivery_tag(args, true)?;
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
    fn confirms_in_any_order_make_room() {
        let now = Instant::now();
        let mut unconfirmed = Unconfirmed::new(4);
        unconfirmed.sent(4, now);
        assert_eq!(unconfirmed.room(), 0);
        // (tag, multiple, confirmed by it, room afterwards)
        for (tag, multiple, newly, room) in
            [(3, false, 1, 1), (3, false, 0, 1), (2, true, 2, 3), (4, true, 1, 4)]
        {
            let mut count = 0;
            unconfirmed.confirm(tag, multiple, |_| count += 1).unwrap();
            assert_eq!((count, unconfirmed.room()), (newly, room), "{tag} {multiple}");
        }
        assert_eq!((unconfirmed.first, unconfirmed.confirmed()), (4, 4));
        assert!(unconfirmed.confirm(5, false, |_| {}).is_err());
    }

    #[test]
    fn a_straggler_does_not_overflow_the_ring() {
        let mut unconfirmed = Unconfirmed::new(2);
        unconfirmed.sent(2, Instant::now());
        for tag in 2..=8 {
            unconfirmed.confirm(tag, false, |_| {}).unwrap();
            let room = unconfirmed.room();
            unconfirmed.sent(room.min(1), Instant::now());
        }
        assert_eq!((unconfirmed.room(), unconfirmed.first), (0, 0));
        unconfirmed.confirm(1, false, |_| {}).unwrap();
        assert_eq!((unconfirmed.room(), unconfirmed.first), (2, 8));
    }

    #[test]
    fn gaps_are_refused() {
        let body = |number: u64| number.to_be_bytes();
        let mut flow = Flow::default();
        flow.take(Frame { channel: 1, kind: BODY, payload: &body(0) }).unwrap();
        assert!(flow.take(Frame { channel: 1, kind: BODY, payload: &body(2) }).is_err());
    }
}
