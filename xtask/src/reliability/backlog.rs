//! A large backlog and a kill: memory and recovery follow the log's size, not the number of waiting messages.
//!
//! 200,000 confirmed messages of 1 KiB wait in one queue when the broker is killed. Passes if it serves again within
//! the time and memory below, far less than the backlog itself, and gives back every message in order.

use anyhow::{Context, Result};
use leveret_wire::method::{BasicPublish, QueueDeclare};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::load::publish_all;
use super::message::Message;
use super::site::Site;
use super::verdict::Verdict;

const QUEUE: &str = "reliability.backlog";
const MESSAGES: u64 = 200_000;
const BODY_BYTES: usize = 1024;
const IN_FLIGHT_MAX: usize = 2000;
const PREFETCH: u16 = 1000;
const START_MAX: Duration = Duration::from_secs(3);
const RESIDENT_MAX_BYTES: u64 = 128 << 20;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let server = site.start().context("failed start")?;
    let begin = Instant::now();
    fill(server.address(), plan.seed).context("publishing")?;
    let (rate, resident) = (per_second(begin), server.resident_bytes()?);
    verdict.fact(format!("{MESSAGES} messages confirmed at {rate}/s; resident then {} MiB", resident >> 20));
    server.kill()?;
    let data_bytes = site.data_bytes();

    let server = site.start().context("failed start")?;
    let (start_time, resident) = (server.start_time(), server.resident_bytes()?);
    verdict.fact(format!(
        "{} MiB of files; serves again after {} ms with {} MiB resident",
        data_bytes >> 20,
        start_time.as_millis(),
        resident >> 20
    ));
    verdict.demand(start_time <= START_MAX, "slow recovery", format!("{start_time:?}"));
    verdict.demand(
        resident <= RESIDENT_MAX_BYTES,
        "memory grows with the backlog",
        format!("{resident} octets"),
    );
    let begin = Instant::now();
    empty(server.address(), plan.seed, verdict).context("consuming")?;
    let (rate, resident) = (per_second(begin), server.resident_bytes()?);
    verdict.fact(format!("all consumed and acknowledged at {rate}/s; resident then {} MiB", resident >> 20));
    server.kill()?;
    Ok(())
}

fn per_second(begin: Instant) -> u64 {
    (MESSAGES as f64 / begin.elapsed().as_secs_f64()) as u64
}

fn fill(address: SocketAddr, seed: u64) -> Result<(), Ended> {
    let mut client = Client::open(address)?;
    client.call(QueueDeclare { queue: QUEUE, durable: true, ..Default::default() })?;
    client.select_confirms()?;
    publish_all(&mut client, 1..MESSAGES + 1, IN_FLIGHT_MAX, |client, number| {
        let message = Message::new(seed, number);
        let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
        client.publish(publish, &message.properties(), &message.body_of(BODY_BYTES))
    })
}

fn empty(address: SocketAddr, seed: u64, verdict: &mut Verdict) -> Result<(), Ended> {
    let mut client = Client::open(address)?;
    client.prefetch(PREFETCH)?;
    client.consume(QUEUE)?;
    for expected in 1..=MESSAGES {
        let delivery = match client.next(CALL_TIMEOUT)? {
            Some(Event::Delivery(delivery)) => delivery,
            Some(other) => return Err(Ended::Garbled(format!("{other:?} instead of a message"))),
            None => {
                verdict.fault("confirmed and lost", format!("nothing more comes before message {expected}"));
                return Ok(());
            }
        };
        let found = Message::id_of(&delivery.message_id);
        verdict.demand(found == Some(expected), "lost or out of order", format!("{found:?}, not {expected}"));
        let intact = delivery.body == Message::new(seed, expected).body_of(BODY_BYTES);
        verdict.demand(intact, "altered", expected);
        verdict.demand(delivery.redelivered, "recovered without `redelivered`", expected);
        if expected.is_multiple_of(u64::from(PREFETCH) / 4) {
            client.ack(delivery.tag, true);
            client.flush()?;
        }
    }
    Ok(())
}
