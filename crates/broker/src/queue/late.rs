//! Deliveries that stay unacknowledged for too long (`x-consumer-timeout`).
//!
//! Nothing is set up per message: a queue remembers the earliest time at which a delivery may be late, and looks
//! through its deliveries then, at most once in [`LOOK_INTERVAL_MS`]. A consumer that settles in time costs one look
//! per timeout; without a timeout nothing is ever looked at.

use std::collections::BTreeMap;

use super::consumers::{Consumer, ConsumerKey};
use super::entry::Pos;
use super::{QueueState, Unacked};
use crate::stamp::NEVER_MS;

/// How often a queue looks for late deliveries, at most: so precise is a timeout.
const LOOK_INTERVAL_MS: u64 = 1_000;

/// A consumer that has kept a delivery for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateConsumer {
    /// The consumer.
    pub key: ConsumerKey,
    /// Everything that it has unacknowledged, late or not.
    pub positions: Vec<Pos>,
    /// How long it had for each, ms.
    pub timeout_ms: u64,
}

impl<P> QueueState<P> {
    /// The consumers that are late, and nobody until they are asked about again.
    pub fn late_consumers(&mut self, now_ms: u64) -> Vec<LateConsumer> {
        if now_ms < self.late_from_ms {
            return Vec::new();
        }
        let mut late = BTreeMap::new();
        let mut next_ms = NEVER_MS;
        for Unacked { holder, delivered_at_ms, .. } in self.unacked.values() {
            let Some((key, timeout_ms)) = holder.and_then(|key| Some((key, self.timeout_ms(key)?))) else {
                continue;
            };
            let late_at_ms = delivered_at_ms.saturating_add(timeout_ms);
            if late_at_ms <= now_ms {
                late.insert(key, timeout_ms);
            }
            next_ms = next_ms.min(late_at_ms);
        }
        self.late_from_ms = next_ms.max(now_ms.saturating_add(LOOK_INTERVAL_MS));
        if next_ms == NEVER_MS {
            self.late_from_ms = NEVER_MS;
        }
        late.into_iter().map(|(key, timeout_ms)| self.late_consumer(key, timeout_ms)).collect()
    }

    fn late_consumer(&self, key: ConsumerKey, timeout_ms: u64) -> LateConsumer {
        let held = self.unacked.iter().filter(|(_, unacked)| unacked.holder == Some(key));
        let mut positions: Vec<Pos> = held.map(|(pos, _)| *pos).collect();
        positions.sort_unstable();
        LateConsumer { key, positions, timeout_ms }
    }

    /// A consumer has got a delivery.
    pub(super) fn expect_settlement(&mut self, key: ConsumerKey, now_ms: u64) {
        if self.settings.consumer_timeout_ms.is_none() && !self.consumers.have_timeouts() {
            return;
        }
        if let Some(timeout_ms) = self.timeout_ms(key) {
            self.is_timed = true;
            self.late_from_ms = self.late_from_ms.min(now_ms.saturating_add(timeout_ms));
        }
    }

    /// The timeout has changed: what is with a consumer may be late now.
    pub(super) fn expect_late(&mut self, now_ms: u64) {
        if self.settings.consumer_timeout_ms.is_some() && !self.unacked.is_empty() {
            self.is_timed = true;
            self.late_from_ms = now_ms;
        }
    }

    /// How long a consumer may keep a delivery: what it asked for itself, else what the queue says; 0 is for ever.
    fn timeout_ms(&self, key: ConsumerKey) -> Option<u64> {
        let own = |consumer: &Consumer<P>| consumer.timeout_ms;
        let timeout_ms = self.consumers.by_key(key).and_then(own).or(self.settings.consumer_timeout_ms);
        timeout_ms.filter(|timeout_ms| *timeout_ms > 0)
    }
}
