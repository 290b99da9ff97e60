//! What the task of a channel counts: it alone writes here, so nothing is locked.

use super::counter::Counter;
use super::sizes::Sizes;
use super::{MessageCounts, SizeHistogram};

/// Has cache lines of its own: queues write to the channel's deliveries from other threads.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct PublishCounts {
    publish: Counter,
    publish_with_confirm: Counter,
    return_unroutable: Counter,
    drop_unroutable: Counter,
    get: Counter,
    get_no_ack: Counter,
    get_empty: Counter,
    get_redelivered: Counter,
    ack: Counter,
    used_at_ms: Counter,
    sizes: Sizes,
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Some queue takes it, or has it already.
    Routed,
    /// No queue takes it.
    Unroutable {
        /// Its publisher gets it back.
        returned: bool,
    },
}

impl PublishCounts {
    /// A message was published, with a body of so many octets.
    #[inline]
    pub(crate) fn published(&self, size_bytes: usize, confirms: bool, became: Published, now_ms: u64) {
        self.publish.add(1);
        self.publish_with_confirm.add(confirms.into());
        self.sizes.add(size_bytes as u64);
        self.used_at_ms.set(now_ms);
        match became {
            Published::Routed => {}
            Published::Unroutable { returned: true } => self.return_unroutable.add(1),
            Published::Unroutable { returned: false } => self.drop_unroutable.add(1),
        }
    }

    /// `basic.get` asked; whether the message it found was handed out before.
    pub(crate) fn fetched(&self, no_ack: bool, redelivered: Option<bool>) {
        match redelivered {
            None => return self.get_empty.add(1),
            Some(redelivered) => self.get_redelivered.add(redelivered.into()),
        }
        if no_ack { self.get_no_ack.add(1) } else { self.get.add(1) }
    }

    /// Deliveries were acknowledged.
    #[inline]
    pub(crate) fn acknowledged(&self, count: usize, now_ms: u64) {
        self.ack.add(count as u64);
        self.used_at_ms.set(now_ms);
    }

    /// When the client last published or acknowledged, ms since 1970; 0: never.
    pub(crate) fn used_at_ms(&self) -> u64 {
        self.used_at_ms.value()
    }

    /// What is known here; the rest is 0.
    pub(crate) fn snapshot(&self) -> MessageCounts {
        MessageCounts {
            publish: self.publish.value(),
            publish_with_confirm: self.publish_with_confirm.value(),
            return_unroutable: self.return_unroutable.value(),
            drop_unroutable: self.drop_unroutable.value(),
            get: self.get.value(),
            get_no_ack: self.get_no_ack.value(),
            get_empty: self.get_empty.value(),
            redeliver: self.get_redelivered.value(),
            ack: self.ack.value(),
            ..MessageCounts::default()
        }
    }

    /// Body sizes of what was published.
    pub(crate) fn sizes(&self) -> SizeHistogram {
        self.sizes.snapshot()
    }
}
