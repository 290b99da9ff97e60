//! What a channel was handed and has not settled, by delivery tag.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hashbrown::HashSet;

use crate::port::Stalled;
use crate::queue::Pos;
use crate::vhost::Queue;

/// Tags of late deliveries that a channel remembers; those before them are forgotten, and then unknown.
const LATE_TAGS_MAX: usize = 1 << 16;

/// A delivery that awaits its settlement.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    /// Its delivery tag.
    pub tag: u64,
    /// The queue it came from.
    pub queue: Arc<Queue>,
    /// Its name there.
    pub pos: Pos,
}

/// What a channel was handed.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    pub(crate) last_tag: u64,
    pub(crate) closed: bool,
    pub(crate) outstanding: VecDeque<(u64, Option<Outstanding>)>,
    pub(crate) live: u32,
    /// `basic.qos global=true`: 0 = unlimited.
    pub(crate) limit: u32,
    pub(crate) starved: Vec<Stalled>,
    pub(crate) counts: DeliveryCounts,
    /// Tags of deliveries that took too long and are no longer the client's: it may still settle them, in vain.
    pub(crate) late: BTreeSet<u64>,
}

/// What was handed to the consumers of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeliveryCounts {
    pub(crate) deliver: u64,
    pub(crate) deliver_no_ack: u64,
    pub(crate) redeliver: u64,
}

impl DeliveryCounts {
    #[inline]
    pub(crate) fn add(&mut self, no_ack: bool, redelivered: bool) {
        self.deliver += u64::from(!no_ack);
        self.deliver_no_ack += u64::from(no_ack);
        self.redeliver += u64::from(redelivered);
    }
}

impl Deliveries {
    pub(crate) fn refuses(&self, no_ack: bool) -> bool {
        self.closed || !no_ack && self.limit > 0 && self.live >= self.limit
    }

    pub(crate) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    pub(crate) fn hold(&mut self, outstanding: Outstanding) {
        self.live += 1;
        self.outstanding.push_back((outstanding.tag, Some(outstanding)));
    }

    fn find(&self, tag: u64) -> Option<usize> {
        let at = self.outstanding.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        self.outstanding[at].1.is_some().then_some(at)
    }

    pub(crate) fn take_alone(&mut self, tag: u64) -> Option<Vec<Outstanding>> {
        match self.take_one(tag) {
            Some(one) => Some(vec![one]),
            None => self.late.remove(&tag).then(Vec::new),
        }
    }

    fn take_one(&mut self, tag: u64) -> Option<Outstanding> {
        let at = self.find(tag)?;
        let taken = self.outstanding[at].1.take();
        self.live -= 1;
        while let Some((_, None)) = self.outstanding.front() {
            self.outstanding.pop_front();
        }
        taken
    }

    /// RabbitMQ: tag 0 with multiple means all; any other tag must be outstanding itself.
    pub(crate) fn take_up_to(&mut self, tag: u64) -> Option<Vec<Outstanding>> {
        let end = match tag {
            0 => self.outstanding.len(),
            tag if self.late.contains(&tag) => self.outstanding.partition_point(|(other, _)| *other <= tag),
            tag => self.find(tag)? + 1,
        };
        self.late.retain(|late| tag > 0 && *late > tag);
        let taken: Vec<Outstanding> = self.outstanding.drain(..end).filter_map(|(_, one)| one).collect();
        self.live -= taken.len() as u32;
        while let Some((_, None)) = self.outstanding.front() {
            self.outstanding.pop_front();
        }
        Some(taken)
    }

    pub(crate) fn time_out(&mut self, queue: &Arc<Queue>, positions: &HashSet<Pos>) -> Vec<Pos> {
        let is_meant = |one: &Outstanding| Arc::ptr_eq(&one.queue, queue) && positions.contains(&one.pos);
        let mut taken = Vec::new();
        for (tag, slot) in &mut self.outstanding {
            if let Some(one) = slot.take_if(|one| is_meant(one)) {
                taken.push(one.pos);
                self.late.insert(*tag);
            }
        }
        self.live -= taken.len() as u32;
        while let Some((_, None)) = self.outstanding.front() {
            self.outstanding.pop_front();
        }
        while self.late.len() > LATE_TAGS_MAX {
            self.late.pop_first();
        }
        taken
    }

    pub(crate) fn take_starved(&mut self) -> Vec<Stalled> {
        if self.closed || self.limit > 0 && self.live >= self.limit {
            return Vec::new();
        }
        std::mem::take(&mut self.starved)
    }
}
