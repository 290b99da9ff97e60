//! A consumer as a stream, bounded: what its owner does not take stays with the broker, or in the socket.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use parking_lot::Mutex;

use crate::channel::Channel;
use crate::error::{ChannelError, Closed};
use crate::message::{Consume, ConsumerEvent, ConsumerTag, Delivery};
use crate::shared::Gate;

/// Deliveries to hold where the broker has no limit.
const HELD_MAX: usize = 256;

/// Why a consumer has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEnd {
    /// It was cancelled from here.
    Cancelled,
    /// The broker ended it, e.g. because the queue was deleted.
    CancelledByBroker,
    /// The channel or connection ended.
    Lost(Closed),
}

impl fmt::Display for ConsumerEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsumerEnd::Cancelled => f.write_str("consumer was cancelled here"),
            ConsumerEnd::CancelledByBroker => {
                f.write_str("consumer cancelled by the broker (queue deleted?)")
            }
            ConsumerEnd::Lost(closed) => closed.fmt(f),
        }
    }
}

/// Deliveries of one queue, in order. Ends when it is cancelled or lost, after what it still holds. (Of a lost
/// channel it holds nothing, unless with `no_ack`: the broker has taken it back.) Dropping it cancels it, and what it
/// still holds goes back into the queue.
pub struct Consumer {
    tag: ConsumerTag,
    owner: Owner,
}

/// Whoever takes deliveries out.
struct Owner {
    channel: Channel,
    inbox: Arc<Inbox>,
}

/// Whoever puts deliveries in: the callback. Once it is dropped, nothing more comes.
struct Feed(Arc<Inbox>);

struct Inbox {
    state: Mutex<State>,
    /// More than this is held only if the broker sends more than it may, or nobody told it a limit.
    held_max: usize,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct State {
    held: VecDeque<Delivery>,
    end: Option<ConsumerEnd>,
    waker: Option<Waker>,
    /// It shut the connection's gate.
    is_full: bool,
    /// Its owner is gone.
    is_dropped: bool,
}

impl Consumer {
    pub(crate) async fn start(
        channel: &Channel,
        c: &Consume,
        prefetch: u16,
    ) -> Result<Consumer, ChannelError> {
        let is_bounded = !c.no_ack && prefetch > 0;
        let held_max = if is_bounded { usize::from(prefetch) + 1 } else { HELD_MAX };
        let gate = channel.shared().gate.clone();
        let inbox = Arc::new(Inbox { state: Mutex::default(), held_max, gate });
        let feed = Feed(inbox.clone());
        let owner = Owner { channel: channel.clone(), inbox };
        let tag = channel.consume_with(c, move |event| feed.put(event)).await?;
        Ok(Consumer { tag, owner })
    }

    /// Its name on the channel.
    pub fn tag(&self) -> &ConsumerTag {
        &self.tag
    }

    /// The channel it is on.
    pub fn channel(&self) -> &Channel {
        &self.owner.channel
    }

    /// The next delivery; `None` at the end. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.owner.poll_delivery(cx)).await
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<ConsumerEnd> {
        self.owner.inbox.state.lock().end.clone()
    }
}

impl Stream for Consumer {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.owner.poll_delivery(cx)
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("tag", &self.tag)
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.owner.channel.cancel_unheard(&self.tag.0);
        }
    }
}

impl Owner {
    fn poll_delivery(&self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut state = self.inbox.state.lock();
        let Some(delivery) = state.held.pop_front() else {
            if state.end.is_some() {
                return Poll::Ready(None);
            }
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        if state.is_full && state.held.len() <= self.inbox.held_max / 2 {
            self.inbox.open_gate(&mut state);
            drop(state);
            self.channel.shared().outbox.wake();
        }
        Poll::Ready(Some(delivery))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.inbox.state.lock();
        state.is_dropped = true;
        self.inbox.open_gate(&mut state);
        let held = std::mem::take(&mut state.held);
        drop(state);
        for delivery in held {
            delivery.nack(true);
        }
        self.channel.shared().outbox.wake();
    }
}

impl Feed {
    fn put(&self, event: ConsumerEvent) {
        let mut state = self.0.state.lock();
        match event {
            ConsumerEvent::Delivery(delivery) if state.is_dropped => {
                drop(state);
                return delivery.nack(true);
            }
            ConsumerEvent::Delivery(delivery) => {
                state.held.push_back(delivery);
                if state.held.len() >= self.0.held_max && !state.is_full {
                    state.is_full = true;
                    self.0.gate.shut();
                }
            }
            ConsumerEvent::Cancelled => state.end = Some(ConsumerEnd::CancelledByBroker),
            ConsumerEvent::Lost(closed) => {
                state.end = Some(ConsumerEnd::Lost(closed));
                self.0.open_gate(&mut state);
                let held = std::mem::take(&mut state.held);
                let (kept, lost) = held.into_iter().partition(|delivery| delivery.no_ack);
                state.held = kept;
                state.wake();
                drop(state);
                drop::<VecDeque<Delivery>>(lost); // they hold the channel
                return;
            }
        }
        state.wake();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.end.get_or_insert(ConsumerEnd::Cancelled);
        self.0.open_gate(&mut state);
        state.wake();
    }
}

impl Inbox {
    fn open_gate(&self, state: &mut State) {
        if std::mem::take(&mut state.is_full) {
            self.gate.open();
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
