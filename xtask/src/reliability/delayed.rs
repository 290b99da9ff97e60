//! Delayed messages: kills while they wait and while they go on, then very many of them.
//!
//! ```text
//!   kills   publish, some confirmed, some due already ─► kill -9 ─► … ─► consume: each confirmed one exactly once
//!   many    1,000,000 due at random times ─► kill -9 ─► consume: memory, time to start, how late each comes
//! ```
//!
//! Nobody consumes while processes are killed, so nothing may come twice: what goes on and the end of its wait are one
//! entry of the log. And nothing may come before its time.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_wire::method::{BasicPublish, ExchangeDeclare, QueueBind, QueueDeclare};
use leveret_wire::{FieldTable, FieldValue, RawTable};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Delivery, Ended, Event};
use super::load::{Unconfirmed, publish_all};
use super::message::Message;
use super::site::Site;
use super::verdict::Verdict;

const EXCHANGE: &str = "reliability.later";
/// Bound to the exchange that delays.
const BOUND: &str = "reliability.bound";
/// Delays by itself.
const DELAYED: &str = "reliability.delayed";
const BODY_BYTES: usize = 100;
const IN_FLIGHT_MAX: usize = 2000;
const PREFETCH: u16 = 1000;

/// Of the messages of one life, so many are published and the longest waits so long.
const LIFE_MESSAGES: u64 = 500;
const LIFE_DELAY_MAX_MS: u64 = 1500;

const MANY: u64 = 1_000_000;
const MANY_QUICK: u64 = 20_000;
/// From the first publish to the first due time, and from that to the last one.
const MANY_LEAD: Duration = Duration::from_secs(60);
const MANY_LEAD_QUICK: Duration = Duration::from_secs(4);
const RESIDENT_MAX_BYTES: u64 = 100 << 20;
const LATE_MAX_MS: u64 = 20;
/// The quick run shares its machine with others.
const LATE_MAX_QUICK_MS: u64 = 100;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let mut story = Story { random: Random::new(plan.seed), published: Vec::new(), confirmed: 0 };
    for _ in 0..plan.rounds(5, 20) {
        let server = site.start().context("failed start")?;
        story.live(server.address()).context("publishing")?;
        server.kill()?;
    }
    let server = site.start().context("failed start")?;
    story.end(server.address(), verdict).context("consuming")?;
    server.kill()?;
    many(site, plan, verdict)
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn declare(client: &mut Client) -> Result<(), Ended> {
    let text = |text: &str| FieldValue::LongString(text.into());
    let arguments = |key: &str, value| FieldTable(vec![(key.to_owned(), value)]).raw_bytes();
    let unencodable = |error| Ended::Garbled(format!("{error:?}"));
    let routes = arguments("x-delayed-type", text("fanout")).map_err(unencodable)?;
    let kind = arguments("x-queue-type", text("delayed")).map_err(unencodable)?;
    client.call(ExchangeDeclare {
        exchange: EXCHANGE,
        kind: "x-delayed-message",
        durable: true,
        arguments: RawTable::parse(&routes)?,
        ..Default::default()
    })?;
    client.call(QueueDeclare { queue: BOUND, durable: true, ..Default::default() })?;
    client.call(QueueBind { queue: BOUND, exchange: EXCHANGE, ..Default::default() })?;
    let arguments = RawTable::parse(&kind)?;
    client.call(QueueDeclare { queue: DELAYED, durable: true, arguments, ..Default::default() })?;
    Ok(())
}

/// Publishes a message that is due then. Every other one takes the other way.
fn publish(client: &mut Client, id: u64, due_ms: u64) -> Result<(), Ended> {
    let mut properties = Message::new(0, id).properties();
    let due = FieldValue::I64(due_ms as i64);
    properties.headers = Some(FieldTable(vec![("x-opt-delivery-time".to_owned(), due)]));
    let way = match id.is_multiple_of(2) {
        true => BasicPublish { exchange: EXCHANGE, ..Default::default() },
        false => BasicPublish { routing_key: DELAYED, ..Default::default() },
    };
    client.publish(way, &properties, &body(due_ms))
}

fn body(due_ms: u64) -> Vec<u8> {
    let mut body = due_ms.to_le_bytes().to_vec();
    body.resize(BODY_BYTES, b'.');
    body
}

/// Number and due time of a message that came; `None`: it is not what was sent.
fn read(delivery: &Delivery) -> Option<(u64, u64)> {
    let due_ms = u64::from_le_bytes(*delivery.body.first_chunk()?);
    (delivery.body == body(due_ms)).then_some((Message::id_of(&delivery.message_id)?, due_ms))
}

/// What several lives of the broker have been told.
struct Story {
    random: Random,
    /// Whether message number `index` was confirmed.
    published: Vec<bool>,
    confirmed: u64,
}

impl Story {
    /// Publishes, waits for some of the confirms, and perhaps until some messages are due.
    fn live(&mut self, address: SocketAddr) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        declare(&mut client)?;
        client.select_confirms()?;
        let mut unconfirmed = Unconfirmed::default();
        for _ in 0..LIFE_MESSAGES {
            let id = self.published.len() as u64;
            publish(&mut client, id, now_ms() + self.random.below(LIFE_DELAY_MAX_MS))?;
            self.published.push(false);
            unconfirmed.push(id);
        }
        client.flush()?;
        let left = self.random.below(LIFE_MESSAGES / 2) as usize;
        while unconfirmed.len() > left {
            match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                Event::Confirm { tag, multiple, kept: true } => {
                    for id in unconfirmed.take(tag, multiple) {
                        self.published[id as usize] = true;
                        self.confirmed += 1;
                    }
                }
                other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
            }
        }
        std::thread::sleep(Duration::from_millis(self.random.below(LIFE_DELAY_MAX_MS)));
        Ok(())
    }

    /// Every confirmed message has to come, none twice and none too early.
    fn end(self, address: SocketAddr, verdict: &mut Verdict) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        client.prefetch(PREFETCH)?;
        client.consume(BOUND)?;
        client.consume(DELAYED)?;
        let mut came = vec![0_u32; self.published.len()];
        let quiet = Duration::from_millis(2 * LIFE_DELAY_MAX_MS);
        while let Some(event) = client.next(quiet)? {
            let Event::Delivery(delivery) = event else { continue };
            let Some((id, due_ms)) = read(&delivery) else {
                verdict.fault("altered", format!("{delivery:?}"));
                continue;
            };
            verdict.demand(due_ms <= now_ms(), "too early", format!("message {id}"));
            came[id as usize] += 1;
            client.ack(delivery.tag, false);
            client.flush()?;
        }
        for (id, (confirmed, times)) in self.published.iter().zip(&came).enumerate() {
            verdict.demand(*times > 0 || !confirmed, "confirmed and lost", id);
            verdict.demand(*times < 2, "came twice", id);
        }
        let came: u32 = came.iter().sum();
        verdict.fact(format!("{} messages, {} confirmed, {came} came", self.published.len(), self.confirmed));
        Ok(())
    }
}

fn many(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let count = plan.rounds(MANY_QUICK, MANY);
    let span_ms = if plan.is_quick() { MANY_LEAD_QUICK } else { MANY_LEAD }.as_millis() as u64;
    let server = site.start().context("failed start")?;
    let (begin, first_due_ms) = (Instant::now(), now_ms() + span_ms);
    let mut random = Random::new(plan.seed);
    fill(server.address(), count, || first_due_ms + random.below(span_ms)).context("publishing")?;
    let (took, resident) = (begin.elapsed(), server.resident_bytes()?);
    verdict.fact(format!(
        "{count} confirmed in {:.1} s, resident {} MiB",
        took.as_secs_f64(),
        resident >> 20
    ));
    verdict.demand(resident <= RESIDENT_MAX_BYTES, "too much memory", resident);
    server.kill()?;

    let server = site.start().context("failed start")?;
    let (start_time, resident) = (server.start_time(), server.resident_bytes()?);
    verdict.fact(format!(
        "{} MiB of files; serves again after {} ms, resident {} MiB",
        site.data_bytes() >> 20,
        start_time.as_millis(),
        resident >> 20
    ));
    verdict.demand(resident <= RESIDENT_MAX_BYTES, "too much memory after a restart", resident);
    verdict.demand(now_ms() < first_due_ms, "began too late to measure", "the machine is too slow");
    let late = empty(server.address(), count, verdict).context("consuming")?;
    let at = |share: f64| percentile(&late, share);
    let (p50, p99, max, resident) = (at(0.5), at(0.99), at(1.0), server.resident_bytes()?);
    verdict.fact(format!(
        "late by {p50} ms (p50), {p99} ms (p99), {max} ms (most); resident {} MiB",
        resident >> 20
    ));
    let late_max_ms = if plan.is_quick() { LATE_MAX_QUICK_MS } else { LATE_MAX_MS };
    verdict.demand(p99 <= late_max_ms, "too late", format!("{p99} ms at p99"));
    server.kill()?;
    Ok(())
}

/// Publishes messages and waits for all confirms.
fn fill(address: SocketAddr, count: u64, mut due_ms: impl FnMut() -> u64) -> Result<(), Ended> {
    let mut client = Client::open(address)?;
    declare(&mut client)?;
    client.select_confirms()?;
    publish_all(&mut client, 0..count, IN_FLIGHT_MAX, |client, number| publish(client, number, due_ms()))
}

/// Consumes all messages. How many were late by how many ms.
fn empty(address: SocketAddr, count: u64, verdict: &mut Verdict) -> Result<BTreeMap<u64, u64>, Ended> {
    let mut client = Client::open(address)?;
    client.prefetch(PREFETCH)?;
    client.consume(BOUND)?;
    client.consume(DELAYED)?;
    let mut late: BTreeMap<u64, u64> = BTreeMap::new();
    let mut came = vec![false; count as usize];
    for number in 0..count {
        let timeout = if number == 0 { CALL_TIMEOUT + MANY_LEAD } else { CALL_TIMEOUT };
        let Some(event) = client.next(timeout)? else {
            verdict.fault("confirmed and lost", format!("only {number} of {count} came"));
            break;
        };
        let now_ms = now_ms();
        let found = if let Event::Delivery(delivery) = &event { read(delivery) } else { None };
        let Some((id, due_ms)) = found else {
            return Err(Ended::Garbled(format!("{event:?} instead of a message")));
        };
        verdict.demand(due_ms <= now_ms, "too early", format!("message {id}"));
        let is_first = came.get_mut(id as usize).is_some_and(|came| !std::mem::replace(came, true));
        verdict.demand(is_first, "came twice", id);
        *late.entry(now_ms.saturating_sub(due_ms)).or_default() += 1;
        if let Event::Delivery(delivery) = event {
            client.ack(delivery.tag, false);
        }
        if number.is_multiple_of(100) {
            client.flush()?;
        }
    }
    Ok(late)
}

/// The value that this share of all is not above.
fn percentile(counts: &BTreeMap<u64, u64>, share: f64) -> u64 {
    let all: u64 = counts.values().sum();
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    let found = counts.iter().find(|(_, count)| {
        seen += **count;
        seen >= wanted
    });
    found.map_or(0, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_counts() {
        let counts = BTreeMap::from([(1, 98), (5, 1), (90, 1)]);
        let at = |share| percentile(&counts, share);
        assert_eq!((at(0.5), at(0.98), at(0.99), at(1.0)), (1, 1, 5, 90));
        assert_eq!(percentile(&BTreeMap::new(), 0.5), 0);
    }
}
