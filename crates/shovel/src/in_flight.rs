//! Messages that are published and not confirmed yet, in the order they were taken.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use leveret_client::{Confirm, NotConfirmed};

/// The messages on their way; the oldest is waited for.
#[derive(Default)]
pub(crate) struct InFlight {
    messages: VecDeque<Message>,
    /// What became of the oldest, found out while those before it were counted.
    failed: Option<NotConfirmed>,
}

struct Message {
    delivery_tag: u64,
    size_bytes: u64,
    confirm: Confirm,
}

/// Messages from the oldest on that the destination has confirmed: to be acknowledged together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The last of them.
    pub(crate) delivery_tag: u64,
    pub(crate) messages: u64,
    pub(crate) size_bytes: u64,
}

impl InFlight {
    pub(crate) fn add(&mut self, delivery_tag: u64, size_bytes: u64, confirm: Confirm) {
        self.messages.push_back(Message { delivery_tag, size_bytes, confirm });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.failed.is_none()
    }

    /// Waits until the oldest is confirmed; never returns while there is none. Nothing is lost if the future is dropped.
    pub(crate) async fn confirmed(&mut self) -> Result<Confirmed, NotConfirmed> {
        poll_fn(|cx| self.poll_confirmed(cx)).await
    }

    fn poll_confirmed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Confirmed, NotConfirmed>> {
        let mut confirmed = Confirmed::default();
        while self.failed.is_none() {
            let Some(oldest) = self.messages.front_mut() else { break };
            match Pin::new(&mut oldest.confirm).poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => confirmed.add(oldest),
                Poll::Ready(Err(failed)) => self.failed = Some(failed),
            }
            self.messages.pop_front();
        }
        match (confirmed.messages, &self.failed) {
            (0, None) => Poll::Pending,
            (0, Some(failed)) => Poll::Ready(Err(failed.clone())),
            (_, _) => Poll::Ready(Ok(confirmed)),
        }
    }
}

impl Confirmed {
    fn add(&mut self, message: &Message) {
        self.delivery_tag = message.delivery_tag;
        self.messages += 1;
        self.size_bytes += message.size_bytes;
    }
}
