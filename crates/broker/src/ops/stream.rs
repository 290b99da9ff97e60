//! What consumers of streams ask for, and what streams do not have.

use leveret_wire::FieldTable;

use crate::arguments::stream_reading;
use crate::channel::Channel;
use crate::error::Refusal;
use crate::queue::stream::Reading;
use crate::settings::QueueKind;
use crate::vhost::Queue;

impl Channel {
    /// How a consumer reads that is about to start; `None` where the queue is no stream. RabbitMQ's order of checks.
    pub(crate) fn reading(
        &self,
        queue: &Queue,
        no_ack: bool,
        arguments: &FieldTable,
        now_ms: u64,
    ) -> Result<Option<Reading>, Refusal> {
        if queue.kind != QueueKind::Stream {
            return Ok(None);
        }
        let described = queue.described();
        if self.port.facts.prefetch() == 0 {
            return Err(Refusal::precondition(format!(
                "consumer prefetch count is not set for '{described}'"
            )));
        }
        queue.refuse_if_stream(no_ack, "automatic acknowledgement")?;
        if self.port.is_limited() {
            return Err(Refusal::not_implemented(format!("{described} does not support global qos")));
        }
        stream_reading(arguments, &described, now_ms).map(Some)
    }
}

impl Queue {
    /// The refusal (540) of what a stream cannot do, if `wanted` and it is one.
    pub(crate) fn refuse_if_stream(&self, wanted: bool, what: &str) -> Result<(), Refusal> {
        if wanted && self.kind == QueueKind::Stream {
            let described = self.described();
            return Err(Refusal::not_implemented(format!(
                "{what} not supported by stream queues {described}"
            )));
        }
        Ok(())
    }
}
