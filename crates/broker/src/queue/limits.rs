//! What gives way when a queue is full, or when its limits change: its head, or what arrives.

use std::sync::Arc;

use leveret_store::ReadError;

use super::entry::{Aftermath, Dead, DeathReason, Incoming};
use super::{Courier, QueueState};
use crate::message::Message;
use crate::settings::{Overflow, Settings};

impl<P> QueueState<P> {
    /// Other settings are in force from now on; [`Self::drop_excess`] afterwards. What waits keeps the TTL it came
    /// with, as in RabbitMQ; `x-expires` counts from now when it changes.
    pub fn apply(&mut self, settings: Arc<Settings>, now_ms: u64) {
        if settings.expires_ms != self.settings.expires_ms {
            self.used(now_ms);
        }
        self.settings = settings;
        self.is_timed |= self.settings.expires_ms.is_some();
        self.expect_late(now_ms);
    }

    /// Whether a message that arrives would be too much and has to give way itself.
    pub(super) fn refuses(&self, incoming: &Incoming<'_>) -> bool {
        self.settings.overflow != Overflow::DropHead && self.is_beyond(1, incoming.view.size_bytes() as u64)
    }

    /// The new message is given up; only `reject-publish-dlx` sends it on.
    pub(super) fn refuse(
        &self,
        incoming: &mut Incoming<'_>,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) {
        if self.settings.overflow != Overflow::RejectPublishDlx || self.settings.dead_letters.is_none() {
            aftermath.ended.extend(incoming.ended());
            return;
        }
        let message = Message::copy_of(&incoming.view, courier.resident());
        aftermath.dead.push(Dead {
            message: Some(Arc::new(message)),
            is_wanted: true,
            ended: incoming.ended(),
            reason: DeathReason::MaxLen,
            redelivered: false,
            dying: None,
        });
    }

    /// Drops from the head what is more than the limits allow (`x-overflow: drop-head`).
    pub fn drop_excess(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<(), ReadError> {
        while self.settings.overflow == Overflow::DropHead && self.is_beyond(0, 0) {
            let Some(taken) = self.ready.take(courier.store(), courier.resident())? else { break };
            aftermath.dead.push(self.give_up(taken, DeathReason::MaxLen, courier)?);
        }
        Ok(())
    }

    /// Whether `more` messages of together `more_bytes` octets would be beyond the limits.
    fn is_beyond(&self, more: u64, more_bytes: u64) -> bool {
        let Settings { messages, size_bytes, .. } = *self.settings;
        messages.is_some_and(|max| self.ready.len() + more > max)
            || size_bytes.is_some_and(|max| self.ready.size_bytes() + more_bytes > max)
    }
}

/// How many of so many messages would be too much; where octets are limited, an estimate from the average size.
pub(super) fn excess(messages: u64, size_bytes: u64, settings: &Settings) -> u64 {
    if settings.overflow != Overflow::DropHead {
        return 0;
    }
    let of_messages = settings.messages.map_or(0, |max| messages.saturating_sub(max));
    let excess_bytes = settings.size_bytes.map_or(0, |max| size_bytes.saturating_sub(max));
    let average_bytes = size_bytes.checked_div(messages).unwrap_or(0).max(1);
    of_messages.max(excess_bytes.div_ceil(average_bytes).min(messages))
}
