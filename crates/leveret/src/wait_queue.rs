//! Delays on any broker: a message waits in a queue whose messages expire into the queue they are meant for.
//!
//! ```text
//!   publish ──▶ thumbnails.wait.4000  ──(x-message-ttl 4 s, x-dead-letter-routing-key)──▶ thumbnails
//! ```
//!
//! One wait queue per delay, because only the head of a queue expires: messages with different delays in one queue
//! would wait for each other. It is durable like what waits in it, and goes when it was not used for a while.

use std::time::Duration;

use leveret_client::{Channel, ChannelError, QueueDeclare};
use leveret_wire::{FieldTable, FieldValue};

/// How long an unused wait queue is kept beyond its delay.
const KEEP: Duration = Duration::from_secs(600);
/// The longest delay: what `x-expires` can still hold on every broker.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Declares the queue in which a message for `queue` waits for `delay`, and names it.
///
/// Delays are rounded up to two digits (1,234 ms to 1,300 ms), so that there are few wait queues.
pub(crate) async fn declare_wait_queue(
    channel: &Channel,
    queue: &str,
    delay: Duration,
) -> Result<String, ChannelError> {
    let delay_ms = two_digits(delay.min(DELAY_MAX).as_millis().max(1) as i64);
    let name = format!("{queue}.wait.{delay_ms}");
    let mut arguments = FieldTable::new();
    arguments.insert("x-message-ttl", FieldValue::I64(delay_ms));
    arguments.insert("x-expires", FieldValue::I64(delay_ms + KEEP.as_millis() as i64));
    arguments.insert("x-dead-letter-exchange", "");
    arguments.insert("x-dead-letter-routing-key", queue);
    let declare = QueueDeclare { arguments, ..QueueDeclare::durable(&name) };
    channel.declare_queue(&declare).await?;
    Ok(name)
}

fn two_digits(ms: i64) -> i64 {
    let mut unit = 1;
    while ms / unit >= 100 {
        unit *= 10;
    }
    (ms + unit - 1) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_rounded_up_to_two_digits() {
        for (ms, rounded) in [(1, 1), (99, 99), (100, 100), (101, 110), (1_234, 1_300), (60_000, 60_000)] {
            assert_eq!(two_digits(ms), rounded, "{ms}");
        }
    }
}
