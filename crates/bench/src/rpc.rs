//! Calls as bytes: the requests of a caller (`caller` says when they leave), and a responder that echoes. Both write
//! once per read: what came together is answered together, as a good client does.

use crate::caller::Caller;
use crate::connection::{Connection, refuse_close};
use crate::frames::{
    BODY, Frame, HAS_CORRELATION_ID, HAS_HEADERS, HAS_REPLY_TO, HEADER, delivery_tag, id, short_string,
    write_ack, write_publish, write_short_string,
};
use crate::load::{Counters, Histogram};
use crate::{Error, Result};
use std::time::Instant;

/// Of requests and answers.
pub const BODY_BYTES: usize = 128;
const SLOTS_PER_CALL: usize = 1024;
/// A correlation id is a call's number in this many hexadecimal digits.
const ID_DIGITS: usize = 8;

/// Calls until stopped; returns how long answers took.
pub fn request(
    connection: Connection,
    queue: &str,
    in_flight: u32,
    counters: &Counters,
) -> Result<Histogram> {
    let caller = Caller { queue, in_flight, size_bytes: BODY_BYTES, direct_reply_to: false };
    caller.run_until_stopped(connection, counters)
}

/// The calls in flight, by number modulo the slots: far more than are in flight, because answers may overtake.
pub(crate) struct Calls {
    queue: Vec<u8>,
    reply_to: Vec<u8>,
    body: Vec<u8>,
    sent_at: Box<[Option<Instant>]>,
    next: u32,
    open: u32,
    out: Vec<u8>,
}

impl Calls {
    pub(crate) fn new(caller: &Caller<'_>, reply_to: Vec<u8>) -> Calls {
        let sent_at = vec![None; caller.in_flight as usize * SLOTS_PER_CALL].into_boxed_slice();
        let (queue, body) = (caller.queue.as_bytes().to_vec(), vec![b'?'; caller.size_bytes]);
        Calls { queue, reply_to, body, sent_at, next: 0, open: 0, out: Vec::new() }
    }

    /// Calls that wait for their answer.
    pub(crate) fn open(&self) -> u32 {
        self.open
    }

    /// The bytes of the next `count` calls; `leaves` says of each when it leaves, or should have left.
    pub(crate) fn next_requests(&mut self, count: u32, mut leaves: impl FnMut() -> Instant) -> &[u8] {
        self.out.clear();
        for _ in 0..count {
            let mut properties = [0u8; 1 + ID_DIGITS + 256];
            let len = request_properties(&mut properties, self.next, &self.reply_to);
            let flags = HAS_CORRELATION_ID | HAS_REPLY_TO;
            write_publish(&mut self.out, &self.queue, flags, &properties[..len], &self.body);
            let slot = self.slot(self.next);
            self.sent_at[slot] = Some(leaves());
            self.next = self.next.wrapping_add(1);
        }
        self.open += count;
        &self.out
    }

    /// When the call was sent that this frame answers; None for the other frames of an answer.
    pub(crate) fn answered(&mut self, frame: Frame<'_>) -> Result<Option<Instant>> {
        if frame.kind != HEADER {
            refuse_close(frame)?;
            return Ok(None);
        }
        let (flags, mut properties) = header(frame.payload)?;
        if flags & HAS_HEADERS != 0 {
            properties = after_table(properties)?;
        }
        expect_flags(flags & !HAS_HEADERS, HAS_CORRELATION_ID)?;
        let digits = std::str::from_utf8(short_string(properties)?.0).ok();
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let slot = self.slot(number.ok_or_else(|| Error::protocol("a strange correlation id"))?);
        let sent = self.sent_at[slot].take();
        let sent = sent.ok_or_else(|| Error::Promise("an answer came twice".to_owned()))?;
        self.open -= 1;
        Ok(Some(sent))
    }

    fn slot(&self, number: u32) -> usize {
        number as usize % self.sent_at.len()
    }
}

/// Echoes until stopped, acknowledging what one read brought with one `multiple`.
pub fn respond(mut connection: Connection, counters: &Counters) -> Result<()> {
    let mut answers = Answers::default();
    while !counters.stopped() {
        connection.reader.fill()?;
        while let Some(frame) = connection.reader.next_buffered()? {
            answers.take(frame)?;
        }
        if !connection.writer.send(answers.finish(), &counters.stop)? {
            return Ok(());
        }
        answers.out.clear();
    }
    connection.close()
}

/// Answers to the requests of one read, and the request that is half read.
#[derive(Default)]
struct Answers {
    out: Vec<u8>,
    coming_tag: u64,
    last_tag: Option<u64>,
    correlation_id: Vec<u8>,
    reply_to: Vec<u8>,
}

impl Answers {
    fn take(&mut self, frame: Frame<'_>) -> Result<()> {
        match frame.kind {
            HEADER => {
                let (flags, properties) = header(frame.payload)?;
                expect_flags(flags, HAS_CORRELATION_ID | HAS_REPLY_TO)?;
                let (correlation_id, rest) = short_string(properties)?;
                self.correlation_id.clear();
                write_short_string(&mut self.correlation_id, correlation_id);
                self.reply_to.clear();
                self.reply_to.extend(short_string(rest)?.0);
            }
            BODY => {
                let properties = &self.correlation_id;
                write_publish(&mut self.out, &self.reply_to, HAS_CORRELATION_ID, properties, frame.payload);
                self.last_tag = Some(self.coming_tag);
            }
            _ => match frame.method() {
                Some((id::BASIC_DELIVER, args)) => self.coming_tag = delivery_tag(args, true)?,
                _ => refuse_close(frame)?,
            },
        }
        Ok(())
    }

    fn finish(&mut self) -> &[u8] {
        if let Some(tag) = self.last_tag.take() {
            write_ack(&mut self.out, tag);
        }
        &self.out
    }
}

/// Property flags and properties of a content header.
fn header(payload: &[u8]) -> Result<(u16, &[u8])> {
    let (head, properties) = payload.split_at_checked(14).ok_or_else(too_short)?;
    Ok((u16::from_be_bytes([head[12], head[13]]), properties))
}

/// What follows a field table.
fn after_table(properties: &[u8]) -> Result<&[u8]> {
    let (size, rest) = properties.split_first_chunk::<4>().ok_or_else(too_short)?;
    rest.get(u32::from_be_bytes(*size) as usize..).ok_or_else(too_short)
}

fn too_short() -> Error {
    Error::protocol("a content header is too short")
}

fn expect_flags(came: u16, wanted: u16) -> Result<()> {
    if came == wanted {
        return Ok(());
    }
    Err(Error::protocol(format!("a message has the property flags {came:#x} instead of {wanted:#x}")))
}

/// Correlation id and reply-to as short strings; returns their length.
fn request_properties(out: &mut [u8; 1 + ID_DIGITS + 256], number: u32, reply_to: &[u8]) -> usize {
    out[0] = ID_DIGITS as u8;
    for (index, digit) in out[1..=ID_DIGITS].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * (ID_DIGITS - 1 - index)) & 0xf) as usize];
    }
    out[1 + ID_DIGITS] = reply_to.len() as u8;
    let end = 2 + ID_DIGITS + reply_to.len();
    out[2 + ID_DIGITS..end].copy_from_slice(reply_to);
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of `bytes`, which hold whole ones.
    fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some(head) = bytes.first_chunk::<7>() {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            found.push((head[0], bytes[7..7 + size].to_vec()));
            bytes = &bytes[8 + size..];
        }
        found
    }

    #[test]
    fn an_echo_finds_its_call() {
        let caller =
            Caller { queue: "service", in_flight: 2, size_bytes: BODY_BYTES, direct_reply_to: false };
        let mut calls = Calls::new(&caller, b"answers".to_vec());
        let requests = frames(calls.next_requests(2, Instant::now));
        let mut answers = Answers::default();
        for (kind, payload) in &requests {
            // What a broker makes of a publish, as far as the responder looks at it: the tag is its business.
            if *kind != crate::frames::METHOD {
                answers.take(Frame { channel: 1, kind: *kind, payload }).unwrap();
            }
        }
        let sent: Vec<_> = frames(answers.finish())
            .iter()
            .filter_map(|(kind, payload)| calls.answered(Frame { channel: 1, kind: *kind, payload }).unwrap())
            .collect();
        assert_eq!((sent.len(), calls.open()), (2, 0));
    }
}
