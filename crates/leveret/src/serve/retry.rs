//! What becomes of a task that fails: again later, and in the end the parking lot.

use std::time::Duration;

use leveret_client::{ChannelError, ConfirmChannel, Delivery, Flush, NotConfirmed, Publish, QueueDeclare};
use leveret_wire::{FieldValue, Properties};

use crate::profile;
use crate::wait_queue::declare_wait_queue;

/// When a failed task is tried again. Tasks whose error says that it will not help are parked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a task is tried in all. 1: never again.
    pub attempts_max: u32,
    /// The pause after the first attempt.
    pub first: Duration,
    /// By how much each pause is longer than the one before.
    pub factor: u32,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    /// Five attempts, after 1, 4, 16 and 64 seconds.
    fn default() -> Self {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(600));
        RetryPolicy { attempts_max: 5, first, factor: 4, longest }
    }
}

impl RetryPolicy {
    /// Never again: what fails is parked.
    pub fn never() -> RetryPolicy {
        RetryPolicy { attempts_max: 1, ..RetryPolicy::default() }
    }

    /// The pause after an attempt (counted from 1), or `None` if that was the last one.
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let times = self.factor.max(1).saturating_pow(attempt.saturating_sub(1));
        Some(self.first.saturating_mul(times).min(self.longest))
    }
}

/// The pause before a request that its worker did not finish is delivered again. The acknowledgement of the original
/// must reach the broker before a worker gets the copy: one that dies of it would leave both.
pub(super) const REDELIVERY_PAUSE: Duration = Duration::from_millis(100);

/// Headers up to this size are carried along: a broker adds to them when a message dies, and a frame has its limit.
const CARRIED_MAX_BYTES: usize = 64 << 10;

/// Why a copy of a message could not be put elsewhere; the original stays unacknowledged.
#[derive(Debug)]
pub(super) enum NotMoved {
    /// Its headers leave no room for ours, and for what the broker adds on the way.
    HeadersTooLarge,
    Channel(ChannelError),
    NotConfirmed(NotConfirmed),
}

impl std::fmt::Display for NotMoved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotMoved::HeadersTooLarge => f.write_str("its headers are too large to be carried along"),
            NotMoved::Channel(error) => error.fmt(f),
            NotMoved::NotConfirmed(error) => error.fmt(f),
        }
    }
}

impl From<ChannelError> for NotMoved {
    fn from(error: ChannelError) -> Self {
        NotMoved::Channel(error)
    }
}

/// Puts a copy where it comes back to `queue` after `pause` as the next attempt. Confirmed when it returns.
pub(super) async fn retry_later(
    channel: &ConfirmChannel,
    delivery: &Delivery,
    queue: &str,
    attempt: u32,
    pause: Duration,
) -> Result<(), NotMoved> {
    let properties = delivery.properties().to_properties();
    if !can_be_carried(&properties) {
        return Err(NotMoved::HeadersTooLarge);
    }
    let wait_queue = declare_wait_queue(channel.channel(), queue, pause).await?;
    let headers = [(profile::ATTEMPT, FieldValue::I64(attempt.into()))];
    move_to(channel, &wait_queue, delivery, copied(properties, headers)).await
}

/// Puts a copy into the parking lot `<service>.parked`, with the reason. Confirmed when it returns. Headers that are too
/// large stay behind: what cannot be parked would take a place of the worker for ever.
pub(super) async fn park(
    channel: &ConfirmChannel,
    delivery: &Delivery,
    service: &str,
    queue: &str,
    attempt: u32,
    reason: &str,
) -> Result<(), NotMoved> {
    let parking_lot = format!("{service}.parked");
    channel.channel().declare_queue(&QueueDeclare::durable(&parking_lot)).await?;
    let headers = [
        (profile::PARKED_REASON, FieldValue::from(reason)),
        (profile::PARKED_QUEUE, FieldValue::from(queue)),
        (profile::ATTEMPT, FieldValue::I64(attempt.into())),
    ];
    let mut properties = delivery.properties().to_properties();
    if !can_be_carried(&properties) {
        properties.headers = None;
    }
    move_to(channel, &parking_lot, delivery, copied(properties, headers)).await
}

fn can_be_carried(properties: &Properties) -> bool {
    properties.encode().is_ok_and(|octets| octets.len() <= CARRIED_MAX_BYTES)
}

async fn move_to(
    channel: &ConfirmChannel,
    queue: &str,
    delivery: &Delivery,
    properties: Properties,
) -> Result<(), NotMoved> {
    let publish = Publish {
        exchange: "",
        routing_key: queue,
        mandatory: true,
        properties: &properties,
        body: &delivery.body,
        flush: Flush::Soon,
    };
    channel.publish(&publish).await?.await.map_err(NotMoved::NotConfirmed)
}

/// The same message, durable, without its expiration (a parked message waits for people) and without the name of
/// its publisher, whom the broker would not believe us to be.
fn copied<const N: usize>(properties: Properties, headers: [(&str, FieldValue); N]) -> Properties {
    let mut table = properties.headers.unwrap_or_default();
    for (name, value) in headers {
        table.insert(name, value);
    }
    Properties {
        headers: Some(table),
        delivery_mode: Some(profile::PERSISTENT),
        expiration: None,
        user_id: None,
        ..properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_end() {
        let policy = RetryPolicy { attempts_max: 8, ..RetryPolicy::default() };
        let pauses: Vec<_> =
            (1..=8).map(|attempt| policy.pause_after(attempt).map(|d| d.as_secs())).collect();
        assert_eq!(pauses, [Some(1), Some(4), Some(16), Some(64), Some(256), Some(600), Some(600), None]);
        assert_eq!(RetryPolicy::never().pause_after(1), None);
    }
}
