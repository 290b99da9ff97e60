//! A worker's time on one connection: its channels, its consumers, and how it hears that they ended.

use std::sync::Arc;

use leveret_client::{
    Channel, ChannelError, ConfirmChannel, Connection, Consume, ConsumerEvent, ConsumerTag,
};
use tokio::sync::watch;

use super::control::Control;
use super::outside::Outside;
use super::worker::Work;
use super::{Handler, ServeError, control, queue};

/// One connection's worth of serving.
pub(super) struct Shift {
    /// Requests come and answers go on it.
    pub(super) channel: Channel,
    /// For what must be safe before the original is acknowledged.
    pub(super) steward: ConfirmChannel,
    /// Where answers leave.
    pub(super) outside: Arc<Outside>,
    pub(super) queue: String,
    /// Where callers send credit; `None` without the right to declare it.
    pub(super) control: Option<Control>,
    pub(super) connection: Connection,
    tag: ConsumerTag,
    over: watch::Receiver<bool>,
}

impl Shift {
    pub(super) async fn begin<S: Handler>(
        work: &Arc<Work<S>>,
        connection: Connection,
    ) -> Result<Arc<Shift>, ServeError> {
        let options = &work.options;
        let queue = queue::prepare(&connection, options, &work.id).await?;
        let failed = |error: ChannelError| ServeError::setup(&options.service, "a channel", &error);
        let channel = connection.channel().await.map_err(failed)?;
        channel.prefetch(options.concurrency).await.map_err(failed)?;
        let steward = connection.confirm_channel().await.map_err(failed)?;
        let gone = work.callers_gone.clone();
        channel.on_return(move |returned| gone.note(returned.routing_key.as_bytes()));
        let link = work.client.shared.link.clone();
        let outside = Arc::new(Outside::new(connection.clone(), link, channel.clone()));
        let control = control::listen(work, &connection, &outside).await;
        let (ended, over) = watch::channel(false);
        let (shift_sender, shift) = watch::channel::<Option<Arc<Shift>>>(None);
        let (consume, taker) = (Consume::queue(&queue), work.clone());
        let on_event = move |event| match event {
            ConsumerEvent::Delivery(delivery) => taker.take(shift.clone(), delivery),
            ConsumerEvent::Cancelled | ConsumerEvent::Lost(_) => {
                ended.send_replace(true);
            }
        };
        let tag = channel.consume_with(&consume, on_event).await;
        let tag = tag.map_err(|error| ServeError::setup(&options.service, "consuming its queue", &error))?;
        let shift = Shift { channel, steward, outside, queue, control, connection, tag, over };
        let begun = Arc::new(shift);
        shift_sender.send_replace(Some(begun.clone()));
        Ok(begun)
    }

    /// Returns when no more requests will come on this connection.
    pub(super) async fn over(&self) {
        let mut over = self.over.clone();
        tokio::select! {
            _ = over.wait_for(|over| *over) => {}
            _ = self.channel.closed() => {}
        }
    }

    /// Lets go of everything on this connection; what is unacknowledged goes back to its queue. The channels are
    /// closed by name, because their consumers keep them open.
    pub(super) async fn end(&self) {
        self.outside.close().await;
        let control = self.control.as_ref().map(|control| &control.channel);
        for channel in [Some(&self.channel), Some(self.steward.channel()), control].into_iter().flatten() {
            // The broker has the last answers and acknowledgements when it answers the close.
            if let Err(error) = channel.close().await {
                tracing::debug!(%error, "the channel was closed already");
            }
        }
    }

    /// Takes no more requests; those that came go on.
    pub(super) async fn stop_taking(&self) {
        if let Err(error) = self.channel.cancel(&self.tag).await {
            tracing::debug!(%error, "the consumer had ended already");
        }
    }
}
