//! A consumer that goes on when its connection is lost, or its queue was deleted.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::consumer::Consumer;
use crate::error::ChannelError;
use crate::link::{Link, wait_before};
use crate::message::{Consume, Delivery};
use crate::topology::Topology;

/// What a [`RecoveringConsumer`] does on each connection.
///
/// ```
/// use leveret_client::{Consume, ConsumerPlan, QueueDeclare, Topology};
///
/// let queues = vec![QueueDeclare::exclusive("answers-7")];
/// let plan = ConsumerPlan {
///     topology: Topology { queues, ..Topology::default() },
///     consume: Consume::queue("answers-7"),
///     prefetch: 20,
/// };
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConsumerPlan {
    /// Declared first, on the consumer's channel: an empty queue name in [`Consume`] means the last of its queues.
    pub topology: Topology,
    /// What to consume.
    pub consume: Consume,
    /// Unacked messages at a time; 0 is no limit.
    pub prefetch: u16,
}

/// Deliveries over all connections of a [`Link`]. What was delivered and not acked when a connection was lost comes
/// again, redelivered; acks of a lost connection's deliveries do nothing. Ends only when the link is closed.
pub struct RecoveringConsumer {
    link: Link,
    plan: ConsumerPlan,
    state: State,
    /// Starts that failed since the last delivery.
    failures: u32,
}

enum State {
    Consuming(Consumer),
    Starting(Pin<Box<dyn Future<Output = Started> + Send>>),
    Ended,
}

enum Started {
    Consuming(Consumer),
    Failed,
    LinkClosed,
}

impl RecoveringConsumer {
    pub(crate) async fn start(link: Link, plan: ConsumerPlan) -> Result<RecoveringConsumer, ChannelError> {
        let consumer = begin(&link, &plan).await?;
        Ok(RecoveringConsumer { link, plan, state: State::Consuming(consumer), failures: 0 })
    }

    /// The next delivery; `None` once the link is closed. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            match &mut self.state {
                State::Consuming(consumer) => match std::task::ready!(Pin::new(&mut *consumer).poll_next(cx))
                {
                    Some(delivery) => {
                        self.failures = 0;
                        return Poll::Ready(Some(delivery));
                    }
                    None => {
                        if let Some(end) = consumer.ended() {
                            tracing::info!(%end, queue = %self.plan.consume.queue, "consumer starts again");
                        }
                        // A queue that is deleted again and again must not be declared in a tight loop.
                        self.failures += 1;
                        self.state = self.restart();
                    }
                },
                State::Starting(starting) => match std::task::ready!(starting.as_mut().poll(cx)) {
                    Started::Consuming(consumer) => self.state = State::Consuming(consumer),
                    Started::Failed => {
                        self.failures += 1;
                        self.state = self.restart();
                    }
                    Started::LinkClosed => self.state = State::Ended,
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn restart(&self) -> State {
        let (link, plan) = (self.link.clone(), self.plan.clone());
        let wait = wait_before(link.backoff(), self.failures);
        State::Starting(Box::pin(async move {
            tokio::time::sleep(wait).await;
            match begin(&link, &plan).await {
                Ok(consumer) => Started::Consuming(consumer),
                Err(_) if link.is_closed() => Started::LinkClosed,
                Err(error) => {
                    tracing::warn!(%error, queue = %plan.consume.queue, "consumer did not start; trying again");
                    Started::Failed
                }
            }
        }))
    }
}

impl Stream for RecoveringConsumer {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(cx)
    }
}

impl fmt::Debug for RecoveringConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveringConsumer").field("plan", &self.plan).finish_non_exhaustive()
    }
}

async fn begin(link: &Link, plan: &ConsumerPlan) -> Result<Consumer, ChannelError> {
    let channel = link.connection().await?.channel().await?;
    plan.topology.declare_on(&channel).await?;
    channel.prefetch(plan.prefetch).await?;
    channel.consume(&plan.consume).await
}
