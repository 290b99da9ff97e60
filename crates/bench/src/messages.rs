//! The messages of one producer, encoded once; before each write only their stamps change.
//!
//! ```text
//!  body    flow:2 | number:6 | intended time:8, ns since the load's epoch | filling
//! ```
//!
//! A flow is all that one producer sends one way (to one queue, or to a fanout exchange), numbered from 0: whoever
//! reads it sees what is lost, doubled or out of order.

use crate::connection::write_table;
use crate::frames::{HAS_CONTENT_TYPE, HAS_DELIVERY_MODE, HAS_HEADERS, Publish, write_short_string};
use crate::plan::{Flow, Properties, SIZE_MIN_BYTES};
use crate::{Error, Result};

/// What is encoded ahead, if messages are small: what a socket takes.
const AHEAD_BYTES: usize = 64 << 10;
const NUMBER_BITS: u32 = 48;

/// One way that messages of a producer go.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Its number among all of the load.
    pub(crate) flow: u16,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// A header that the binding of a headers exchange looks for.
    pub(crate) header: Option<(String, String)>,
}

/// Templates that take turns in the ways and the sizes.
pub(crate) struct Messages {
    bytes: Vec<u8>,
    templates: Vec<Template>,
    /// The template that is next.
    cursor: usize,
    /// Of each way: flow, and number of its next message.
    next: Vec<(u16, u64)>,
}

#[derive(Clone, Copy)]
struct Template {
    start: usize,
    stamp_at: usize,
    end: usize,
    way: usize,
}

impl Messages {
    pub(crate) fn new(plan: &Flow, channel: u16, ways: &[Way], frame_max: usize) -> Messages {
        let turn = ways.len() * plan.sizes_bytes.len();
        let turn_bytes = plan.sizes_bytes.iter().sum::<usize>() * ways.len();
        let turns = (AHEAD_BYTES / turn_bytes.max(1)).max(1);
        let mut messages = Messages {
            bytes: Vec::new(),
            templates: Vec::with_capacity(turn * turns),
            cursor: 0,
            next: ways.iter().map(|way| (way.flow, 0)).collect(),
        };
        let properties: Vec<(u16, Vec<u8>)> = ways.iter().map(|way| properties(plan, way)).collect();
        for slot in 0..turn * turns {
            let (way, size) =
                (slot % ways.len(), plan.sizes_bytes[slot / ways.len() % plan.sizes_bytes.len()]);
            let body = vec![b'.'; size];
            let (flags, properties) = &properties[way];
            messages.encode(
                way,
                &Publish {
                    channel,
                    exchange: ways[way].exchange.as_bytes(),
                    routing_key: ways[way].routing_key.as_bytes(),
                    mandatory: plan.mandatory,
                    flags: *flags,
                    properties,
                    body: &body,
                    frame_max,
                },
            );
        }
        messages
    }

    fn encode(&mut self, way: usize, publish: &Publish<'_>) {
        let start = self.bytes.len();
        let stamp_at = publish.write(&mut self.bytes);
        self.templates.push(Template { start, stamp_at, end: self.bytes.len(), way });
    }

    /// How many [`Messages::next`] could give at once.
    pub(crate) fn run(&self) -> u64 {
        (self.templates.len() - self.cursor) as u64
    }

    /// The next `count` messages (at most [`Messages::run`]), each with the time that `intended_ns` says.
    pub(crate) fn next(&mut self, count: u64, mut intended_ns: impl FnMut() -> u64) -> &[u8] {
        let templates = &self.templates[self.cursor..self.cursor + count as usize];
        for template in templates {
            let (flow, number) = &mut self.next[template.way];
            let stamp = Stamp { flow: *flow, number: *number, intended_ns: intended_ns() };
            *number += 1;
            self.bytes[template.stamp_at..template.stamp_at + SIZE_MIN_BYTES]
                .copy_from_slice(&stamp.encode());
        }
        self.cursor = (self.cursor + templates.len()) % self.templates.len();
        match templates {
            [first, .., last] => &self.bytes[first.start..last.end],
            [only] => &self.bytes[only.start..only.end],
            [] => &[],
        }
    }
}

/// What a body begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) flow: u16,
    pub(crate) number: u64,
    pub(crate) intended_ns: u64,
}

impl Stamp {
    fn encode(self) -> [u8; SIZE_MIN_BYTES] {
        let mut out = [0; SIZE_MIN_BYTES];
        let head = u64::from(self.flow) << NUMBER_BITS | self.number;
        out[..8].copy_from_slice(&head.to_be_bytes());
        out[8..].copy_from_slice(&self.intended_ns.to_be_bytes());
        out
    }

    /// # Errors
    /// The body is not one of ours.
    pub(crate) fn decode(body: &[u8]) -> Result<Stamp> {
        let (head, rest) = body.split_first_chunk().ok_or_else(foreign)?;
        let (head, time) = (u64::from_be_bytes(*head), rest.first_chunk().ok_or_else(foreign)?);
        Ok(Stamp {
            flow: (head >> NUMBER_BITS) as u16,
            number: head & ((1 << NUMBER_BITS) - 1),
            intended_ns: u64::from_be_bytes(*time),
        })
    }
}

fn foreign() -> Error {
    Error::protocol("a message came that this load did not send")
}

/// Flags and bytes of a content header, in the order of the flags from the top.
fn properties(plan: &Flow, way: &Way) -> (u16, Vec<u8>) {
    let Properties { content_type, headers } = &plan.properties;
    let (mut flags, mut out) = (HAS_DELIVERY_MODE, Vec::new());
    if let Some(content_type) = content_type {
        flags |= HAS_CONTENT_TYPE;
        write_short_string(&mut out, content_type.as_bytes());
    }
    if !headers.is_empty() || way.header.is_some() {
        flags |= HAS_HEADERS;
        write_table(&mut out, |out| {
            for (name, value) in headers.iter().chain(&way.header) {
                write_short_string(out, name.as_bytes());
                crate::connection::write_long_string(out, value.as_bytes());
            }
        });
    }
    out.push(if plan.persistent { 2 } else { 1 });
    (flags, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(flow: u16) -> Way {
        Way { flow, exchange: String::new(), routing_key: format!("q{flow}"), header: None }
    }

    /// The stamps in `bytes`: after each header frame (kind 2) a body begins.
    fn stamps(mut bytes: &[u8]) -> Vec<Stamp> {
        let (mut found, mut fresh) = (Vec::new(), false);
        while let Some(head) = bytes.first_chunk::<7>() {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            if head[0] == 3 && fresh {
                found.push(Stamp::decode(&bytes[7..7 + size]).unwrap());
            }
            fresh = head[0] == 2;
            bytes = &bytes[8 + size..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn ways_take_turns_and_are_numbered_each() {
        let plan = Flow { sizes_bytes: vec![16, 40_000], ..Flow::default() };
        let mut messages = Messages::new(&plan, 1, &[way(4), way(5)], 16_384);
        assert_eq!(messages.run(), 4);
        let mut now = 0;
        let mut clock = || {
            now += 1;
            now
        };
        let first = stamps(messages.next(3, &mut clock));
        assert_eq!(messages.run(), 1);
        let second = stamps(messages.next(1, &mut clock));
        let all: Vec<_> =
            first.iter().chain(&second).map(|stamp| (stamp.flow, stamp.number, stamp.intended_ns)).collect();
        assert_eq!(all, [(4, 0, 1), (5, 0, 2), (4, 1, 3), (5, 1, 4)]);
        assert_eq!(stamps(messages.next(1, &mut clock))[0].number, 2);
    }

    #[test]
    fn what_others_sent_is_noticed() {
        assert!(Stamp::decode(&[0; 15]).is_err());
    }
}
