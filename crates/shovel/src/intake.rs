//! How messages come from the source: not at all, or by a consumer that may be about to end.

use leveret_client::{Channel, ChannelError, Consumer, ConsumerEnd, Delivery};

/// Where deliveries come from.
#[derive(Debug)]
pub(crate) enum Intake {
    /// Nothing is consumed.
    Closed,
    /// Messages come.
    Open(Consumer),
    /// It is cancelled; what was on its way still comes.
    Closing(Consumer),
}

impl Intake {
    /// The next delivery, `None` after the last of one that is closing; never returns while it is closed. Nothing is lost
    /// if the future is dropped.
    ///
    /// # Errors
    /// Why the source sends nothing any more, unasked.
    pub(crate) async fn next(&mut self) -> Result<Option<Delivery>, ConsumerEnd> {
        match self {
            Self::Closed => std::future::pending().await,
            Self::Closing(consumer) => Ok(consumer.next().await),
            Self::Open(consumer) => match consumer.next().await {
                Some(delivery) => Ok(Some(delivery)),
                None => Err(consumer.ended().unwrap_or(ConsumerEnd::Cancelled)),
            },
        }
    }

    /// Ends the consumer, if there is one.
    ///
    /// # Errors
    /// The channel is closed.
    pub(crate) async fn close(&mut self, channel: &Channel) -> Result<(), ChannelError> {
        match std::mem::replace(self, Self::Closed) {
            Self::Open(consumer) => {
                channel.cancel(consumer.tag()).await?;
                *self = Self::Closing(consumer);
            }
            other => *self = other,
        }
        Ok(())
    }
}
