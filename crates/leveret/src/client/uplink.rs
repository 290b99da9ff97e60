//! What a client has on one connection: a channel for requests, a reply queue, and who waits for which answer.
//! A new connection gets a new one; nothing is carried over, because an answer to the old reply queue cannot come.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use leveret_client::{
    Channel, ChannelError, Closed, ConfirmChannel, Connection, Consume, ConsumerEvent, ExchangeDeclare,
    QueueDeclare,
};
use leveret_wire::FieldTable;
use parking_lot::Mutex;

use super::pending::Pending;
use crate::dialect::DIRECT_REPLY_TO;
use crate::ids::random_id;
use crate::profile;

/// How long an observed number of consumers is believed.
const PROBE_MAX_AGE: Duration = Duration::from_millis(100);
/// RabbitMQ waits this long for the leader of a quorum queue and then says that nobody consumes it (3.10.8).
const LEADER_PATIENCE: Duration = Duration::from_millis(250);
/// How often a doubtful answer is asked for: with a leader that is silent, half a second in all.
const PROBES_MAX: u32 = 2;

pub(crate) struct Uplink {
    pub(crate) connection: Connection,
    pub(crate) requests: ConfirmChannel,
    /// The routing key for answers.
    pub(crate) reply_to: String,
    /// Requests can come back: there is a bounce exchange and our reply queue is bound to it.
    pub(crate) takes_bounces: bool,
    pub(crate) pending: Arc<Pending>,
    probe: tokio::sync::Mutex<Option<Channel>>,
    probed: Mutex<Vec<(String, Probed, Instant)>>,
}

/// What a passive declaration told about a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    Missing,
    Consumers(u32),
    /// The broker did not learn it from the queue.
    Unknown,
}

impl Uplink {
    pub(crate) async fn open(
        connection: Connection,
        direct_reply_to: bool,
        unclaimed: Arc<AtomicU64>,
    ) -> Result<Uplink, ChannelError> {
        let requests = connection.confirm_channel().await?;
        let pending = Pending::new(random_id(), unclaimed);
        let reply_to = match direct_reply_to {
            true => DIRECT_REPLY_TO.to_owned(),
            false => declare_reply_queue(requests.channel()).await?,
        };
        let takes_bounces = !direct_reply_to && bind_bounces(&connection, &reply_to).await;
        let table = pending.clone();
        let consume = Consume::queue(&reply_to).no_ack();
        let on_event = move |event| match event {
            ConsumerEvent::Delivery(delivery) => table.deliver(delivery),
            ConsumerEvent::Cancelled => table.end(&reply_queue_gone()),
            ConsumerEvent::Lost(closed) => table.end(&closed),
        };
        requests.channel().consume_with(&consume, on_event).await?;
        let probe = tokio::sync::Mutex::new(None);
        Ok(Uplink { connection, requests, reply_to, takes_bounces, pending, probe, probed: Mutex::default() })
    }

    /// Whether a queue exists and how many consume it; asked at most ten times a second per queue.
    pub(crate) async fn probe(&self, queue: &str) -> Result<Probed, ChannelError> {
        if let Some(known) = self.recently_probed(queue) {
            return Ok(known);
        }
        let found = self.declare_passively(queue).await?;
        if found == Probed::Unknown {
            return Ok(found);
        }
        let mut probed = self.probed.lock();
        probed.retain(|(name, _, at)| name != queue && at.elapsed() < PROBE_MAX_AGE);
        probed.push((queue.to_owned(), found, Instant::now()));
        Ok(found)
    }

    fn recently_probed(&self, queue: &str) -> Option<Probed> {
        let probed = self.probed.lock();
        let (_, found, at) = probed.iter().find(|(name, ..)| name == queue)?;
        (at.elapsed() < PROBE_MAX_AGE).then_some(*found)
    }

    /// A missing queue closes the channel it is asked on, so that channel is for nothing else.
    async fn declare_passively(&self, queue: &str) -> Result<Probed, ChannelError> {
        let mut slot = self.probe.lock().await;
        let channel = match slot.take() {
            Some(channel) if channel.is_open() => channel,
            _ => self.connection.channel().await?,
        };
        match consumers(&channel, queue).await {
            Ok(consumers) => {
                *slot = Some(channel);
                Ok(consumers.map_or(Probed::Unknown, Probed::Consumers))
            }
            Err(error) if error.reply_code() == Some(404) => Ok(Probed::Missing),
            // Another connection's exclusive queue is somebody alive.
            Err(error) if error.reply_code() == Some(405) => Ok(Probed::Consumers(1)),
            Err(error) => Err(error),
        }
    }
}

/// How many consume a queue, `None` if even the broker does not know.
async fn consumers(channel: &Channel, queue: &str) -> Result<Option<u32>, ChannelError> {
    for _ in 0..PROBES_MAX {
        let asked = Instant::now();
        let consumers = channel.declare_queue(&QueueDeclare::passive(queue)).await?.consumers;
        let took = asked.elapsed();
        if consumers > 0 || is_prompt(took, Duration::ZERO) || is_prompt(took, round_trip(channel).await?) {
            return Ok(Some(consumers));
        }
    }
    Ok(None)
}

/// Whether the broker asked the queue and did not give up: an answer that took no longer than the way there and back, and
/// a good deal less than its patience.
fn is_prompt(took: Duration, round_trip: Duration) -> bool {
    took.saturating_sub(round_trip) < LEADER_PATIENCE * 3 / 5
}

/// The time of a question that no queue is asked for. A prefetch without consumers has no other effect.
async fn round_trip(channel: &Channel) -> Result<Duration, ChannelError> {
    let asked = Instant::now();
    channel.prefetch(1).await?;
    Ok(asked.elapsed())
}

fn reply_queue_gone() -> Closed {
    Closed {
        scope: leveret_client::Scope::Channel,
        by: leveret_client::By::Broker,
        code: 404,
        text: "the reply queue was deleted".into(),
    }
}

/// Exclusive, so it goes with the connection; named by us, so that operators see what it is.
async fn declare_reply_queue(channel: &Channel) -> Result<String, ChannelError> {
    let name = format!("rpc.reply.{}", random_id());
    channel.declare_queue(&QueueDeclare::exclusive(&name)).await?;
    Ok(name)
}

/// Binds the reply queue to the bounce exchange. Without the right to do so calls work, but a request that
/// expires or is refused is noticed by the clock only.
async fn bind_bounces(connection: &Connection, reply_queue: &str) -> bool {
    let mut only_ours = FieldTable::new();
    only_ours.insert("x-match", "all");
    only_ours.insert(profile::CALLER, reply_queue);
    let bound = async {
        let channel = connection.channel().await?;
        channel.declare_exchange(&ExchangeDeclare::durable(profile::CONTROL_EXCHANGE, "topic")).await?;
        channel.declare_exchange(&ExchangeDeclare::durable(profile::BOUNCE_EXCHANGE, "headers")).await?;
        channel.bind_queue(reply_queue, profile::BOUNCE_EXCHANGE, "", only_ours).await
    };
    match bound.await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "requests cannot bounce; refusals will be noticed at the deadline only");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zero_that_came_late_is_no_answer_of_the_queue() {
        let ms = Duration::from_millis;
        for (took, round_trip, prompt) in [
            (ms(1), ms(0), true),
            (ms(140), ms(0), true),
            (ms(251), ms(1), false),
            (ms(255), ms(40), false),
            (ms(300), ms(290), true),
            (ms(550), ms(290), false),
            (ms(10), ms(40), true),
        ] {
            assert_eq!(is_prompt(took, round_trip), prompt, "{took:?}, {round_trip:?}");
        }
    }
}
