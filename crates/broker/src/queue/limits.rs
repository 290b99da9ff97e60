//! What gives way when a queue is full: its head, or what arrives.

use std::sync::Arc;

use leveret_store::ReadError;

use super::entry::{Aftermath, Dead, DeathReason, Incoming};
use super::{Courier, QueueState};
use crate::message::Message;
use crate::settings::{Overflow, Settings};

impl<P> QueueState<P> {
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
    pub(super) fn drop_excess(
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
