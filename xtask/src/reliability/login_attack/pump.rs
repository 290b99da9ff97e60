//! Messages in and out at full speed, and how many per second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use leveret_wire::Properties;
use leveret_wire::method::{BasicConsume, BasicPublish, QueueDeclare};

use crate::reliability::client::{Client, Ended, Event};

const QUEUE: &str = "pump";
const BODY: [u8; 1024] = [7; 1024];
const TICK: Duration = Duration::from_millis(50);

/// One client that publishes to itself.
pub(super) struct Pump {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), Ended>>,
}

impl Pump {
    /// Keeps `in_flight` messages on their way.
    ///
    /// # Errors
    /// The broker refuses.
    pub(super) fn start(broker: SocketAddr, in_flight: u64) -> Result<Pump> {
        let mut client = Client::open(broker)?;
        client.call(QueueDeclare { queue: QUEUE, ..Default::default() })?;
        client.call(BasicConsume { queue: QUEUE, no_ack: true, ..Default::default() })?;
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (received.clone(), stop.clone());
        let thread = std::thread::spawn(move || pump(&mut client, in_flight, &count, &ended));
        Ok(Pump { received, stop, thread })
    }

    /// Messages per second during that time.
    pub(super) fn rate_over(&self, time: Duration) -> f64 {
        let (began, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        std::thread::sleep(time);
        (self.received.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64()
    }

    /// Ends it.
    ///
    /// # Errors
    /// It has ended before.
    pub(super) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| anyhow!("the load panicked"))??)
    }
}

fn pump(client: &mut Client, in_flight: u64, received: &AtomicU64, stop: &AtomicBool) -> Result<(), Ended> {
    let mut on_their_way = 0;
    while !stop.load(Ordering::Relaxed) {
        while on_their_way < in_flight {
            let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
            client.publish(publish, &Properties::default(), &BODY)?;
            on_their_way += 1;
        }
        client.flush()?;
        let mut event = client.next(TICK)?;
        while let Some(Event::Delivery(_)) = event {
            on_their_way -= 1;
            received.fetch_add(1, Ordering::Relaxed);
            event = client.next_buffered()?;
        }
    }
    Ok(())
}
