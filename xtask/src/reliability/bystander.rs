//! A client with good intentions during an attack: what it waits for while others misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use leveret_wire::Properties;
use leveret_wire::method::{BasicPublish, QueueDeclare, QueuePurge};

use super::client::{Client, Event};

const QUEUE: &str = "bystander";
const BODY: &[u8] = b"just a message";
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// A confirming publisher, one message at a time; its queue is emptied each time.
pub(super) struct Bystander {
    client: Client,
}

impl Bystander {
    pub(super) fn open(broker: SocketAddr) -> Result<Bystander> {
        let mut client = Client::open(broker)?;
        client.call(QueueDeclare { queue: QUEUE, ..Default::default() })?;
        client.select_confirms()?;
        Ok(Bystander { client })
    }

    /// How long a confirm takes.
    pub(super) fn round_trip(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
        self.client.publish(publish, &Properties::default(), BODY)?;
        self.client.flush()?;
        while !matches!(self.client.next(CONFIRM_TIMEOUT)?.context("no confirm")?, Event::Confirm { .. }) {}
        let took = began.elapsed();
        self.client.call(QueuePurge { queue: QUEUE, ..Default::default() })?;
        Ok(took)
    }

    /// Round trips until `stop`, one at least, with a pause between them; sorted.
    pub(super) fn round_trips(mut self, stop: &AtomicBool, pause: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) || times.is_empty() {
            times.push(self.round_trip()?);
            std::thread::sleep(pause);
        }
        times.sort();
        Ok(times)
    }
}

/// Of sorted times, one at least.
pub(super) fn p99(times: &[Duration]) -> Duration {
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}
