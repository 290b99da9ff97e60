//! The way out of a connection that has no socket: what the broker says is kept for the handler that waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret_broker::{Delivery, MessageView, Outlet, Verdict};
use leveret_wire::ReplyCode;
use parking_lot::{Condvar, Mutex};

/// More than this waiting is not asked for.
const ROOM: usize = 64;

/// What the broker says to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A message: the octets of its properties, and its body.
    Delivered {
        /// The octets of the properties, as they came.
        properties: Vec<u8>,
        /// The body.
        body: Vec<u8>,
    },
    /// A published message came back.
    Returned(ReplyCode),
    /// Published messages were taken, or not.
    Confirmed(Verdict),
    /// The consumer ended.
    Cancelled,
}

/// Keeps what the broker says.
#[derive(Clone, Default)]
pub(crate) struct Socketless(Arc<Kept>);

#[derive(Default)]
struct Kept {
    said: Mutex<VecDeque<Said>>,
    more: Condvar,
}

impl Socketless {
    /// What was said first of what is kept; waits for it until `ends`.
    pub(crate) fn next(&self, ends: Instant) -> Option<Said> {
        let mut said = self.0.said.lock();
        loop {
            if let Some(first) = said.pop_front() {
                return Some(first);
            }
            if self.0.more.wait_until(&mut said, ends).timed_out() {
                return said.pop_front();
            }
        }
    }

    /// The same, for at most so long.
    pub(crate) fn next_within(&self, patience: Duration) -> Option<Said> {
        self.next(Instant::now() + patience)
    }

    fn keep(&self, said: Said) {
        self.0.said.lock().push_back(said);
        self.0.more.notify_one();
    }
}

impl Outlet for Socketless {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let message = &delivery.message;
        self.keep(Said::Delivered {
            properties: message.properties.as_bytes().to_vec(),
            body: message.body.to_vec(),
        });
    }

    fn returned(&self, _channel: u16, code: ReplyCode, _message: &MessageView<'_>) {
        self.keep(Said::Returned(code));
    }

    fn confirm(&self, _channel: u16, _delivery_tag: u64, _multiple: bool, verdict: Verdict) {
        self.keep(Said::Confirmed(verdict));
    }

    fn consumer_cancelled(&self, _channel: u16, _consumer_tag: &str) {
        self.keep(Said::Cancelled);
    }

    fn has_room(&self) -> bool {
        self.0.said.lock().len() < ROOM
    }

    fn flush(&self) {}

    fn takes_cancel(&self) -> bool {
        true
    }

    fn wake(&self) {}
}
