//! A client without a socket: what the broker hands to its outlet becomes a list of events.

use std::sync::Arc;

use leveret_broker::{Delivery, MessageView, Outlet, Verdict};
use leveret_wire::ReplyCode;
use parking_lot::Mutex;

/// What a client hears.
#[derive(Debug)]
pub(super) enum Event {
    /// A message for a consumer.
    Delivered { tag: u64, consumer: String, redelivered: bool, body: Vec<u8> },
    /// A verdict on publishes.
    Confirmed { tag: u64, multiple: bool, verdict: Verdict },
}

/// The events of one connection since they were last taken.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<Vec<Event>>>);

impl Inbox {
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Outlet for Inbox {
    fn deliver(&self, delivery: &Delivery<'_>) {
        self.0.lock().push(Event::Delivered {
            tag: delivery.delivery_tag,
            consumer: delivery.consumer_tag.to_owned(),
            redelivered: delivery.redelivered,
            body: delivery.message.body.to_vec(),
        });
    }

    fn returned(&self, _channel: u16, _code: ReplyCode, _message: &MessageView<'_>) {}

    fn confirm(&self, _channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict) {
        self.0.lock().push(Event::Confirmed { tag: delivery_tag, multiple, verdict });
    }

    fn consumer_cancelled(&self, _channel: u16, _consumer_tag: &str) {}

    /// Sometimes full, so that consumers stall and are resumed.
    fn has_room(&self) -> bool {
        self.0.lock().len() < 40
    }

    fn flush(&self) {}

    /// Stalled consumers are resumed at random moments.
    fn wake(&self) {}
}
