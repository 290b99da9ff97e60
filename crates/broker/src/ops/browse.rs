//! Looking at the messages of a queue: those that wait, and those that somebody holds.

use std::sync::Arc;

use crate::channel::{Channel, clean_name};
use crate::connection::Resource;
use crate::error::Refusal;
use crate::port::{Batch, ChannelPort, ConnectionId};
use crate::queue::{Browsed, HandedOut, QueueState, Section};
use crate::users::Operation;
use crate::vhost::Queue;

/// How deep in a queue one can look.
pub const OFFSET_MAX: usize = 10_000;
/// So many messages are shown at most.
pub const COUNT_MAX: usize = 1_000;
/// So many octets are read for it at most, those of the messages before the shown ones included.
pub const READ_MAX_BYTES: u64 = 64 << 20;

/// A message that was handed out and is not settled, and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// What is known of it.
    pub handed_out: HandedOut,
    /// The consumer that has it. `None`: it was fetched by `basic.get`, or its consumer is gone while its channel is not.
    pub holder: Option<Holder>,
}

/// A consumer, by the names of those it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its connection.
    pub connection: ConnectionId,
    /// The number of its channel there.
    pub channel: u16,
    /// Its tag.
    pub consumer_tag: Arc<str>,
}

impl Channel {
    /// Shows messages that wait, from the one at `offset` on, in the order in which they would be handed out. Nobody else notices:
    /// nothing is delivered, counted or marked. Ends early where [`READ_MAX_BYTES`] were read.
    ///
    /// # Errors
    /// 403 without the right to read, 404, 405, 540 for a stream, 406 beyond [`OFFSET_MAX`] or [`COUNT_MAX`].
    pub fn browse(
        &self,
        queue: &str,
        offset: usize,
        count: usize,
        batch: &mut Batch,
    ) -> Result<Vec<Browsed>, Refusal> {
        let queue = self.work_queue(queue, Operation::Read, "browsing")?;
        if offset > OFFSET_MAX || count > COUNT_MAX {
            return Err(Refusal::precondition(format!(
                "offset must be at most {OFFSET_MAX} and count at most {COUNT_MAX}"
            )));
        }
        let section = Section { offset, count, read_max_bytes: READ_MAX_BYTES };
        self.connection.broker.with_queue(&queue, batch, |state, carrier, _| match state.work() {
            Some(work) => work.browse(section, carrier),
            None => Ok(Vec::new()),
        })
    }

    /// The messages that were handed out and are not settled, the oldest first, at most [`COUNT_MAX`].
    ///
    /// # Errors
    /// As for [`Self::browse`].
    pub fn unsettled(&self, queue: &str, batch: &mut Batch) -> Result<Vec<Unsettled>, Refusal> {
        let queue = self.work_queue(queue, Operation::Read, "listing unacknowledged messages")?;
        self.connection
            .broker
            .with_queue(&queue, batch, |state, _, _| Ok(state.work().map(|work| unsettled(work))))
            .map(Option::unwrap_or_default)
    }

    /// A queue that is no stream, on which this user may do `operation`.
    pub(crate) fn work_queue(
        &self,
        name: &str,
        operation: Operation,
        what: &str,
    ) -> Result<Arc<Queue>, Refusal> {
        let name = clean_name(self.queue_name(name)?).into_owned();
        self.connection.authorize(operation, Resource::Queue(&name))?;
        let queue = self.usable_queue(&name)?;
        queue.refuse_if_stream(true, what)?;
        queue.check_not_internal()?;
        Ok(queue)
    }
}

fn unsettled(work: &QueueState<Arc<ChannelPort>>) -> Vec<Unsettled> {
    let holder = |one: &HandedOut| {
        let consumer = work.consumers().by_key(one.holder?)?;
        Some(Holder {
            connection: consumer.port.connection.id,
            channel: consumer.port.number,
            consumer_tag: consumer.tag.clone(),
        })
    };
    let handed_out = work.handed_out(COUNT_MAX).into_iter();
    handed_out.map(|one| Unsettled { handed_out: one, holder: holder(&one) }).collect()
}
