//! Carries claimed rows to the broker, and says of each what came of it.
//!
//! Rows leave in waves: everything that may leave together is published, then all confirms are awaited. Rows with the same
//! order key are in different waves, and after one that failed the others of its key stay where they are.
//!
//! ```text
//!   rows   a1  b1  –  a2  –  b2        wave 1: a1 b1 – –        wave 2: a2 b2
//! ```
//!
//! A broker answers some messages by closing the channel (an exchange that does not exist, no permission), which fails
//! everything on it: those are then published alone, so that the blame falls on the right one.

use std::collections::HashSet;
use std::time::Duration;

use leveret_client::{
    By, ChannelError, Closed, Confirm, ConfirmChannel, Flush, NotConfirmed, Publish, Scope,
};
use tokio::time::{Instant, timeout_at};

use super::row::Row;
use crate::Client;

/// A broker that has not confirmed a wave after this time is asked again on another channel.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of a row that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The broker has it.
    Delivered,
    /// The broker, or its queues, did not want it.
    Refused(String),
    /// No broker can take it.
    Unsendable(String),
    /// Nobody knows; it was not its fault.
    Unknown(String),
}

/// What became of a row, as far as it can be told from what else was published with it.
enum Attempt {
    Settled(Outcome),
    /// The broker closed the channel because of this row, or of another.
    Suspect(String),
}

pub(super) struct Courier {
    client: Client,
    channel: Option<ConfirmChannel>,
}

impl Courier {
    pub(super) fn new(client: Client) -> Courier {
        Courier { client, channel: None }
    }

    /// Waits until there is a broker that reads what is published.
    ///
    /// # Errors
    /// The client was closed.
    pub(super) async fn ready(&mut self) -> Result<(), Closed> {
        loop {
            let connection = self.client.connection().await?;
            let mut blocked = connection.blocked();
            tokio::select! {
                unblocked = blocked.wait_for(Option::is_none) => {
                    if unblocked.is_ok() && connection.is_open() {
                        return Ok(());
                    }
                }
                _ = connection.closed() => {}
            }
        }
    }

    /// Publishes the rows, and tells of each what came of it, but for those that had to stay behind. `stop` is asked
    /// between waves.
    pub(super) async fn carry(&mut self, rows: &[Row], stop: impl Fn() -> bool) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut held = HashSet::new();
        let mut left: Vec<usize> = (0..rows.len()).collect();
        while !left.is_empty() && !stop() {
            let (wave, later) = split(rows, &left, &held);
            left = later;
            for (index, outcome) in self.wave(rows, &wave).await {
                if outcome != Outcome::Delivered
                    && let Some(key) = &rows[index].message.order_key
                {
                    held.insert(key.as_str());
                }
                let lost = matches!(outcome, Outcome::Unknown(_));
                outcomes.push((index, outcome));
                if lost {
                    left.clear();
                }
            }
        }
        outcomes
    }

    /// Publishes rows together, and those of a channel that was closed once more, each alone.
    async fn wave(&mut self, rows: &[Row], wave: &[usize]) -> Vec<(usize, Outcome)> {
        let together: Vec<&Row> = wave.iter().map(|&index| &rows[index]).collect();
        let attempts = self.publish(&together).await;
        let mut outcomes = Vec::with_capacity(wave.len());
        for (&index, attempt) in wave.iter().zip(attempts) {
            let outcome = match attempt {
                Attempt::Settled(outcome) => outcome,
                Attempt::Suspect(reason) if wave.len() == 1 => Outcome::Refused(reason),
                Attempt::Suspect(_) => self.alone(&rows[index]).await,
            };
            outcomes.push((index, outcome));
        }
        outcomes
    }

    async fn alone(&mut self, row: &Row) -> Outcome {
        match self.publish(&[row]).await.pop() {
            Some(Attempt::Settled(outcome)) => outcome,
            Some(Attempt::Suspect(reason)) => Outcome::Refused(reason),
            None => Outcome::Unknown("nothing was published".to_owned()),
        }
    }

    /// One attempt per row, in their order.
    async fn publish(&mut self, rows: &[&Row]) -> Vec<Attempt> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let channel = match timeout_at(deadline, self.open()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return rows.iter().map(|_| lost(&error)).collect(),
            Err(_) => return rows.iter().map(|_| unanswered()).collect(),
        };
        let app_id = self.client.shared.settings.app_id.clone();
        let mut on_their_way = Vec::with_capacity(rows.len());
        for row in rows {
            on_their_way.push(match timeout_at(deadline, put(&channel, row, &app_id)).await {
                Ok(put) => put,
                Err(_) => Err(unanswered()),
            });
        }
        let mut attempts = Vec::with_capacity(rows.len());
        for put in on_their_way {
            attempts.push(match put {
                Err(attempt) => attempt,
                Ok(confirm) => match timeout_at(deadline, confirm).await {
                    Ok(outcome) => judge(outcome),
                    Err(_) => {
                        // What comes on it later is about rows that will have been published again.
                        self.channel = None;
                        unanswered()
                    }
                },
            });
        }
        attempts
    }

    /// Does not wait for a connection: the rows are claimed, and another relay may have one.
    async fn open(&mut self) -> Result<ConfirmChannel, ChannelError> {
        if let Some(channel) = self.channel.as_ref().filter(|channel| channel.channel().is_open()) {
            return Ok(channel.clone());
        }
        let connection = self.client.shared.link.current().ok_or_else(no_connection)?;
        let channel = connection.confirm_channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }
}

/// The rows that may leave now, and those that may when these have; the rest of a key that is held stays.
fn split<'r>(rows: &'r [Row], left: &[usize], held: &HashSet<&'r str>) -> (Vec<usize>, Vec<usize>) {
    let mut keys = HashSet::new();
    let free = left.iter().copied().filter(|&index| match &rows[index].message.order_key {
        Some(key) => !held.contains(key.as_str()),
        None => true,
    });
    free.partition(|&index| match &rows[index].message.order_key {
        Some(key) => keys.insert(key.as_str()),
        None => true,
    })
}

async fn put(channel: &ConfirmChannel, row: &Row, app_id: &str) -> Result<Confirm, Attempt> {
    let unsendable = |reason| Attempt::Settled(Outcome::Unsendable(reason));
    let properties = row.properties(app_id).map_err(unsendable)?;
    let message = &row.message;
    let publish = Publish {
        exchange: &message.exchange,
        routing_key: &message.routing_key,
        mandatory: true,
        properties: &properties,
        body: &message.payload.body,
        flush: Flush::Soon,
    };
    channel.publish(&publish).await.map_err(|error| match error {
        ChannelError::Encode(error) => unsendable(error.to_string()),
        error => lost(&error),
    })
}

fn judge(outcome: Result<(), NotConfirmed>) -> Attempt {
    match outcome {
        Ok(()) => Attempt::Settled(Outcome::Delivered),
        Err(NotConfirmed::Lost { closed, .. }) => lost(&ChannelError::Closed(closed)),
        Err(error) => Attempt::Settled(Outcome::Refused(error.to_string())),
    }
}

fn lost(error: &ChannelError) -> Attempt {
    match error {
        ChannelError::Closed(closed) if blames_a_message(closed) => Attempt::Suspect(closed.to_string()),
        error => Attempt::Settled(Outcome::Unknown(error.to_string())),
    }
}

fn no_connection() -> ChannelError {
    let text = "there is no connection to the broker".into();
    ChannelError::Closed(Closed { scope: Scope::Connection, by: By::Network, code: 0, text })
}

/// A broker that goes down (320) or fails (541) says nothing about what was sent to it.
fn blames_a_message(closed: &Closed) -> bool {
    closed.by == By::Broker && !matches!(closed.code, 0 | 200 | 320 | 541)
}

fn unanswered() -> Attempt {
    let reason = format!("no confirm within {} s", CONFIRM_TIMEOUT.as_secs());
    Attempt::Settled(Outcome::Unknown(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;
    use crate::outbox::Message;

    fn rows(keys: &str) -> Vec<Row> {
        let row = |(id, key): (usize, char)| {
            let message = Message::new("", "q", Payload::bytes("x"));
            let message = if key == '-' { message } else { message.order_key(key) };
            Row { id: id as i64, attempts: 0, created_at_s: 0, message, headers_json: "{}".to_owned() }
        };
        keys.chars().enumerate().map(row).collect()
    }

    fn check(keys: &str, held: &[&str], waves: &[&[usize]]) {
        let rows = rows(keys);
        let held = held.iter().copied().collect();
        let mut left: Vec<usize> = (0..rows.len()).collect();
        for expected in waves {
            let (wave, later) = split(&rows, &left, &held);
            assert_eq!(&wave, expected, "{keys}");
            left = later;
        }
        assert!(left.is_empty(), "{keys}: {left:?}");
    }

    #[test]
    fn a_key_has_one_row_in_a_wave() {
        check("", &[], &[]);
        check("---", &[], &[&[0, 1, 2]]);
        check("aaa", &[], &[&[0], &[1], &[2]]);
        check("ab-a-b", &[], &[&[0, 1, 2, 4], &[3, 5]]);
        check("ab-a-b", &["a"], &[&[1, 2, 4], &[5]]);
    }

    #[test]
    fn only_a_broker_that_goes_on_blames_a_message() {
        let closed = |by, code| Closed { scope: Scope::Channel, by, code, text: "".into() };
        for (by, code, expected) in [
            (By::Broker, 404, true),
            (By::Broker, 403, true),
            (By::Broker, 320, false),
            (By::Broker, 541, false),
            (By::Network, 0, false),
            (By::Us, 200, false),
        ] {
            assert_eq!(blames_a_message(&closed(by, code)), expected, "{by:?} {code}");
        }
    }
}
