//! Looking at what waits, without changing anything that anybody could notice.
//!
//! The messages are taken out in the order of the queue and put back at their places, under one lock: they are neither delivered nor
//! counted, and keep their mark of redelivery. What lay in segments is in memory's index afterwards, as after a requeue, so both the
//! number of messages and the octets that are read have a limit.

use std::sync::Arc;

use leveret_store::ReadError;

use super::{Courier, QueueState, content_of};
use crate::message::Message;

/// Which part of the waiting messages to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// So many are left out at the head.
    pub offset: usize,
    /// At most so many are shown.
    pub count: usize,
    /// No more are read once the read ones have so many octets together, those left out included.
    pub read_max_bytes: u64,
}

/// A waiting message.
#[derive(Clone, Debug)]
pub struct Browsed {
    /// The message.
    pub message: Arc<Message>,
    /// It was handed out before.
    pub redelivered: bool,
    /// How many wait before it.
    pub offset: usize,
}

impl<P> QueueState<P> {
    /// Shows a section of what waits, in the order in which it would be handed out.
    pub fn browse(&mut self, section: Section, courier: &impl Courier<P>) -> Result<Vec<Browsed>, ReadError> {
        let mut taken = Vec::new();
        let browsed = self.browse_out(section, &mut taken, courier);
        for entry in taken {
            self.ready.put_back(entry);
        }
        browsed
    }

    fn browse_out(
        &mut self,
        section: Section,
        taken: &mut Vec<super::Entry>,
        courier: &impl Courier<P>,
    ) -> Result<Vec<Browsed>, ReadError> {
        let mut browsed = Vec::new();
        let mut read_bytes = 0;
        while browsed.len() < section.count && read_bytes < section.read_max_bytes {
            let Some((entry, read)) = self.ready.take(courier.store(), courier.resident())? else { break };
            let offset = taken.len();
            read_bytes += u64::from(entry.size_bytes);
            let redelivered = entry.redelivered;
            taken.push(entry);
            if offset < section.offset {
                continue;
            }
            let message = match read {
                Some(message) => message,
                None => content_of(&taken[offset], courier)?,
            };
            browsed.push(Browsed { message, redelivered, offset });
        }
        Ok(browsed)
    }
}
