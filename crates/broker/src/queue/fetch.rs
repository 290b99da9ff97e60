//! One message for somebody who is no consumer: `basic.get`, and what is moved elsewhere.

use std::sync::Arc;

use leveret_store::ReadError;

use super::{Aftermath, Courier, Pos, QueueState, uncached};
use crate::message::Message;

/// A message fetched by `basic.get`.
#[derive(Debug)]
pub struct Fetched {
    /// Names it in a later settlement.
    pub pos: Pos,
    /// It was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: Arc<Message>,
    /// How many still wait.
    pub remaining: u64,
}

impl<P> QueueState<P> {
    /// Fetches one message (`basic.get`).
    pub fn fetch(
        &mut self,
        no_ack: bool,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<Option<Fetched>, ReadError> {
        self.bring_back(courier.now_ms());
        self.expire(courier, aftermath)?;
        if self.is_paused {
            return Ok(None);
        }
        self.take_out(no_ack, courier, aftermath)
    }

    /// Hands out the message whose turn it is to somebody who is no consumer.
    pub(super) fn take_out(
        &mut self,
        no_ack: bool,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<Option<Fetched>, ReadError> {
        let Some((entry, message)) = self.take_ready(courier, aftermath)? else { return Ok(None) };
        let (pos, redelivered) = (entry.pos, entry.redelivered);
        if no_ack {
            aftermath.ended.extend(self.end(&entry));
        } else {
            self.delivered(pos, uncached(entry), None, courier.now_ms());
        }
        Ok(Some(Fetched { pos, redelivered, message, remaining: self.ready.len() }))
    }
}
