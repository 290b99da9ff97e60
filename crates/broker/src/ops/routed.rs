//! Where a message goes, once its routes are found.

use std::sync::Arc;

use leveret_wire::RawProperties;

use super::publish::ttl_ms;
use super::together::Outgoing;
use crate::delay;
use crate::message::MessageView;
use crate::settings::QueueKind;
use crate::stamp::Stamp;
use crate::vhost::{Queue, VHost};

/// Where a message goes.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// The queues that take it now, each once.
    pub(crate) queues: Arc<[Arc<Queue>]>,
    /// The delay queues where it waits first.
    pub(crate) later: Vec<Arc<Queue>>,
    /// What replaces its properties, when receivers must not see all of them (`BCC`).
    pub(crate) properties: Option<Vec<u8>>,
}

impl Routed {
    /// Whether no consumer will ever see the message through one of these queues.
    pub(crate) fn reaches_nobody(&self) -> bool {
        self.queues.iter().all(|queue| only_remembers(queue))
    }

    /// Goes to these queues.
    pub(crate) fn to(queues: Arc<[Arc<Queue>]>) -> Self {
        Self { queues, ..Self::default() }
    }

    /// A message with these properties reaches these queues.
    pub(crate) fn new(vhost: &VHost, queues: Vec<Arc<Queue>>, properties: RawProperties<'_>) -> Self {
        let mut routed = Self::to(queues.into());
        routed.set_aside_delayed(vhost, properties);
        routed
    }

    /// Whether it goes nowhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.later.is_empty()
    }

    /// The message as it is stored, for those that take it now and for those where it waits.
    pub(crate) fn outgoing<'a>(
        &'a self,
        message: MessageView<'a>,
        now_ms: u64,
    ) -> impl Iterator<Item = Outgoing<'a>> {
        let properties = message.properties;
        let now = (!self.queues.is_empty()).then(|| Outgoing {
            message: self.visible(&message),
            queues: &self.queues,
            stamp: Stamp::new(now_ms, ttl_ms(properties)),
        });
        // Routed again later, so with all its keys.
        let later = (!self.later.is_empty()).then(|| Outgoing {
            message,
            queues: &self.later,
            stamp: delay::stamp(properties, now_ms),
        });
        now.into_iter().chain(later)
    }

    /// The message as its receivers see it.
    pub(crate) fn visible<'a>(&'a self, message: &MessageView<'a>) -> MessageView<'a> {
        match &self.properties {
            Some(bytes) => MessageView { properties: RawProperties::from_validated(bytes), ..*message },
            None => *message,
        }
    }
}

/// Whether nobody consumes what the queue takes, not even later.
pub(crate) fn only_remembers(queue: &Queue) -> bool {
    queue.spec.internal && queue.kind != QueueKind::Delays
}
