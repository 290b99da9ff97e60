//! Messages that go one way and are forgotten: one producer, consumers that need not acknowledge. From one to one in
//! three sizes, from one to ten, and by a topic among a thousand others.

use super::nats;
use super::pace::Pace;
use super::relay;
use super::server::{Peer, Server};
use super::steady::{Side, side, watch};
use anyhow::Result;
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::flows::{consume, publish};
use leveret_bench::load::{Batch, Persistence};

const QUEUE: &str = "bench";
/// What is encoded and written at once: 64 KiB and a little, what a socket takes.
const WRITE_BYTES: usize = 64 * 1024;
const FAN_OUT: usize = 10;
const OTHER_BINDINGS: usize = 1000;
const TOPIC: &str = "stock.nyse.ibm";
pub(super) const BODY_BYTES: usize = 1024;

pub(super) fn batch_messages(body_bytes: usize) -> usize {
    (WRITE_BYTES / body_bytes).clamp(1, 512)
}

/// One producer, one consumer.
pub(super) fn flow(server: &Server, pace: Pace, body_bytes: usize) -> Result<Vec<Figure>> {
    let count = batch_messages(body_bytes);
    let amqp_batch = || Batch::new(QUEUE, Persistence::Transient, body_bytes, count);
    let address = server.address;
    let sides: Vec<Side<'_>> = match server.peer {
        Peer::Nats | Peer::NatsSync => {
            let (producer, consumer) = (nats::Connection::open(address)?, subscribed(server)?);
            let batch = nats::Batch::new(QUEUE, body_bytes, count);
            vec![
                side(|counters| nats::consume(consumer, counters)),
                side(|counters| nats::publish(producer, batch, counters)),
            ]
        }
        Peer::Relay => {
            let (producer, consumer) = relay::pair(address)?;
            vec![
                side(|counters| relay::consume(consumer, counters)),
                side(move |counters| relay::publish(producer, amqp_batch(), counters)),
            ]
        }
        Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret => {
            let (producer, mut consumer) = (Connection::open(address)?, Connection::open(address)?);
            consumer.declare_queue(QUEUE, QueueKind::Transient)?;
            consumer.consume(QUEUE.as_bytes(), Acks::None)?;
            vec![
                side(|counters| consume(consumer, None, u64::MAX, counters)),
                side(move |counters| publish(producer, amqp_batch(), counters)),
            ]
        }
    };
    let seen = watch(server, pace.window(), sides)?;
    if server.peer.speaks_amqp() {
        delete(server, QUEUE)?;
    }
    Ok(vec![seen.received("delivered"), seen.sent("published"), seen.cpu()])
}

/// One producer, ten consumers with a queue each, a fanout exchange between them.
pub(super) fn fan_out(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let count = batch_messages(BODY_BYTES);
    let mut sides: Vec<Side<'_>> = Vec::new();
    if server.peer == Peer::Nats {
        for _ in 0..FAN_OUT {
            let consumer = subscribed(server)?;
            sides.push(side(|counters| nats::consume(consumer, counters)));
        }
        let producer = nats::Connection::open(server.address)?;
        let batch = nats::Batch::new(QUEUE, BODY_BYTES, count);
        sides.push(side(|counters| nats::publish(producer, batch, counters)));
    } else {
        for _ in 0..FAN_OUT {
            let consumer = bound_consumer(server, "amq.fanout", "")?;
            sides.push(side(|counters| consume(consumer, None, u64::MAX, counters)));
        }
        let producer = Connection::open(server.address)?;
        let batch = Batch::to_exchange("amq.fanout", "", Persistence::Transient, BODY_BYTES, count);
        sides.push(side(|counters| publish(producer, batch, counters)));
    }
    let seen = watch(server, pace.window(), sides)?;
    Ok(vec![seen.received("delivered"), seen.sent("published"), seen.cpu()])
}

/// One producer, one consumer, and a thousand bindings of the same topic exchange that do not match (NATS: subscriptions).
pub(super) fn topic(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    match server.peer {
        Peer::Nats | Peer::NatsSync => topic_of_subjects(server, pace),
        Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret | Peer::Relay => topic_exchange(server, pace),
    }
}

fn topic_exchange(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let count = batch_messages(BODY_BYTES);
    let mut others = Connection::open(server.address)?;
    let other_queue = others.declare_queue("", QueueKind::Exclusive)?;
    for pattern in other_patterns("#") {
        others.bind_queue(&other_queue, "amq.topic", &pattern)?;
    }
    let consumer = bound_consumer(server, "amq.topic", "stock.*.ibm")?;
    let producer = Connection::open(server.address)?;
    let batch = Batch::to_exchange("amq.topic", TOPIC, Persistence::Transient, BODY_BYTES, count);
    let sides = vec![
        side(|counters| consume(consumer, None, u64::MAX, counters)),
        side(|counters| publish(producer, batch, counters)),
    ];
    let seen = watch(server, pace.window(), sides)?;
    others.close()?;
    Ok(vec![seen.received("delivered"), seen.sent("published"), seen.cpu()])
}

fn topic_of_subjects(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let mut others = nats::Connection::open(server.address)?;
    others.subscribe_all(&other_patterns(">"))?;
    let mut consumer = nats::Connection::open(server.address)?;
    consumer.subscribe("stock.*.ibm")?;
    let producer = nats::Connection::open(server.address)?;
    let batch = nats::Batch::new(TOPIC, BODY_BYTES, batch_messages(BODY_BYTES));
    let sides = vec![
        side(|counters| nats::consume(consumer, counters)),
        side(|counters| nats::publish(producer, batch, counters)),
    ];
    let seen = watch(server, pace.window(), sides)?;
    drop(others);
    Ok(vec![seen.received("delivered"), seen.sent("published"), seen.cpu()])
}

/// None of them matches; `rest` stands for any number of words.
fn other_patterns(rest: &str) -> Vec<String> {
    let kinds = ["*", rest, "last", "usd.*"];
    (0..OTHER_BINDINGS).map(|number| format!("stock.market{number}.{}", kinds[number % 4])).collect()
}

/// Consumes from an exclusive queue that is bound so.
fn bound_consumer(server: &Server, exchange: &str, key: &str) -> Result<Connection> {
    let mut consumer = Connection::open(server.address)?;
    let queue = consumer.declare_queue("", QueueKind::Exclusive)?;
    consumer.bind_queue(&queue, exchange, key)?;
    consumer.consume(&queue, Acks::None)?;
    Ok(consumer)
}

fn subscribed(server: &Server) -> Result<nats::Connection> {
    let mut consumer = nats::Connection::open(server.address)?;
    consumer.subscribe(QUEUE)?;
    Ok(consumer)
}

pub(super) fn delete(server: &Server, queue: &str) -> Result<()> {
    let mut control = Connection::open(server.address)?;
    control.delete_queue(queue)?;
    Ok(control.close()?)
}
