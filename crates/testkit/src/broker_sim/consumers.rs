//! Channels and consumers of the model: who may get a message, and who had it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::queue::Rank;

/// A connection and the number of a channel on it.
pub(super) type ChannelId = (usize, u16);

/// A delivery that awaits its settlement.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) queue: usize,
    /// Which of the queues that had this name.
    pub(super) born: u64,
    pub(super) rank: Rank,
    pub(super) consumer: Option<String>,
}

/// An open channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelModel {
    pub(super) outstanding: BTreeMap<u64, Held>,
    pub(super) last_tag: u64,
    /// For consumers that start from now on; 0: none.
    pub(super) prefetch: u64,
    /// For the channel as a whole; 0: none.
    pub(super) limit: u64,
}

/// A consumer.
#[derive(Clone, Debug)]
pub(super) struct ConsumerModel {
    pub(super) channel: ChannelId,
    pub(super) queue: usize,
    pub(super) no_ack: bool,
    pub(super) priority: i64,
    pub(super) prefetch: u64,
    pub(super) in_flight: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    pub(super) channels: BTreeMap<ChannelId, ChannelModel>,
    /// By tag.
    pub(super) consumers: BTreeMap<String, ConsumerModel>,
}

impl Clients {
    /// Whether the limits let this consumer have one more message.
    pub(super) fn has_credit(&self, tag: &str) -> bool {
        let Some(consumer) = self.consumers.get(tag) else { return false };
        let Some(channel) = self.channels.get(&consumer.channel) else { return false };
        consumer.no_ack
            || (consumer.prefetch == 0 || consumer.in_flight < consumer.prefetch)
                && (channel.limit == 0 || (channel.outstanding.len() as u64) < channel.limit)
    }

    /// A delivery gets its tag; they grow on each channel.
    pub(super) fn tagged(&mut self, id: ChannelId, tag: u64, held: Option<Held>) -> Result<(), String> {
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(format!("a delivery on {id:?}, which is closed"));
        };
        channel.last_tag = channel.last_tag.max(tag);
        if let Some(held) = held
            && channel.outstanding.insert(tag, held).is_some()
        {
            return Err(format!("delivery tag {tag} was used twice on {id:?}"));
        }
        Ok(())
    }

    /// Takes deliveries out that a settlement names, in the order of their tags.
    pub(super) fn take(&mut self, id: ChannelId, tag: u64, multiple: bool) -> Vec<Held> {
        let Some(channel) = self.channels.get_mut(&id) else { return Vec::new() };
        let first = if multiple { 0 } else { tag };
        let last = if multiple && tag == 0 { u64::MAX } else { tag };
        let tags: Vec<u64> = channel.outstanding.range(first..=last).map(|(tag, _)| *tag).collect();
        tags.iter().filter_map(|tag| channel.outstanding.remove(tag)).collect()
    }

    /// What a consumer had is settled.
    pub(super) fn released(&mut self, held: &Held) {
        let consumer = held.consumer.as_ref().and_then(|tag| self.consumers.get_mut(tag));
        if let Some(consumer) = consumer {
            consumer.in_flight -= 1;
        }
    }

    /// Who of these takes over where only one is served: the highest priority, then whoever came first.
    pub(super) fn next_active(&self, tags: &[String]) -> Option<String> {
        let priority = |tag: &String| self.consumers.get(tag).map(|consumer| Reverse(consumer.priority));
        tags.iter().min_by_key(|tag| priority(tag)).cloned()
    }
}
