//! Messages one way: published in one write, received, acknowledged and confirmed where that is asked for.

use crate::laps::Laps;
use crate::peer::{CHANNEL, Peer, Queue, write_publish};
use anyhow::Result;
use leveret_wire::{FRAME_BODY, Method, Properties, RawFrame, write_ack};
use std::net::SocketAddr;

const QUEUE: &str = "hot";
/// Octets of the messages whose size is not the point.
const SMALL_BYTES: usize = 16;
const KIBIBYTE: usize = 1024;

/// One publisher, one consumer that does not acknowledge.
pub(crate) async fn transient(address: SocketAddr, mut laps: Laps, body_bytes: usize) -> Result<Laps> {
    let (mut publisher, mut consumer) = (Peer::open(address).await?, Peer::open(address).await?);
    consumer.declare(Queue { name: QUEUE, durable: false, exclusive: false }).await?;
    consumer.consume(QUEUE, true).await?;
    let messages = lap_of("", QUEUE, &Properties::default(), body_bytes, laps.messages)?;
    while laps.next() {
        publisher.send(&messages).await?;
        consumer.receive_messages(laps.messages).await?;
    }
    Ok(laps)
}

/// The same with 1 KiB, confirms, and an acknowledgement for each message.
pub(crate) async fn confirmed(
    address: SocketAddr,
    mut laps: Laps,
    delivery_mode: Option<u8>,
) -> Result<Laps> {
    let (mut publisher, mut consumer) = (Peer::open(address).await?, Peer::open(address).await?);
    consumer.declare(Queue { name: QUEUE, durable: delivery_mode.is_some(), exclusive: false }).await?;
    consumer.consume(QUEUE, false).await?;
    publisher.select_confirms().await?;
    let properties = Properties { delivery_mode, ..Properties::default() };
    let messages = lap_of("", QUEUE, &properties, KIBIBYTE, laps.messages)?;
    let (mut acks, mut settled) = (Vec::new(), 0);
    while laps.next() {
        publisher.send(&messages).await?;
        consumer.receive_messages(laps.messages).await?;
        acks.clear();
        for _ in 0..laps.messages {
            settled += 1;
            write_ack(&mut acks, CHANNEL, settled, false);
        }
        consumer.send(&acks).await?;
        publisher.receive(|frame| confirms(frame, settled)).await?;
    }
    Ok(laps)
}

/// One publisher, and a consumer for each queue that the exchange copies to.
pub(crate) async fn fan_out(address: SocketAddr, mut laps: Laps, queues: u32) -> Result<Laps> {
    let mut publisher = Peer::open(address).await?;
    let mut consumers = Vec::new();
    for _ in 0..queues {
        let mut consumer = Peer::open(address).await?;
        let queue = consumer.declare(Queue { name: "", durable: false, exclusive: true }).await?;
        consumer.bind(&queue, "amq.fanout", "").await?;
        consumer.consume(&queue, true).await?;
        consumers.push(consumer);
    }
    let messages = lap_of("amq.fanout", "", &Properties::default(), SMALL_BYTES, laps.messages)?;
    while laps.next() {
        publisher.send(&messages).await?;
        for consumer in &mut consumers {
            consumer.receive_messages(laps.messages).await?;
        }
    }
    Ok(laps)
}

/// A topic exchange with many bindings, of which one matches; each message of a lap has a key of its own, so that
/// no route is remembered.
pub(crate) async fn topic(address: SocketAddr, mut laps: Laps, others: u32) -> Result<Laps> {
    let (mut publisher, mut consumer) = (Peer::open(address).await?, Peer::open(address).await?);
    for (name, pattern) in [("others", "region.*.sensor"), (QUEUE, "news.#")] {
        consumer.declare(Queue { name, durable: false, exclusive: false }).await?;
        for number in 0..if name == QUEUE { 1 } else { others } {
            consumer.bind(name, "amq.topic", &pattern.replace('*', &format!("*.{number}"))).await?;
        }
    }
    consumer.consume(QUEUE, true).await?;
    let mut messages = Vec::new();
    for number in 0..laps.messages {
        let key = format!("news.ohio.{number}");
        write_publish(&mut messages, "amq.topic", &key, &Properties::default(), &[b'.'; SMALL_BYTES])?;
    }
    while laps.next() {
        publisher.send(&messages).await?;
        consumer.receive_messages(laps.messages).await?;
    }
    Ok(laps)
}

fn lap_of(
    exchange: &str,
    routing_key: &str,
    properties: &Properties,
    bytes: usize,
    count: u32,
) -> Result<Vec<u8>> {
    let (mut messages, body) = (Vec::new(), vec![b'.'; bytes]);
    for _ in 0..count {
        write_publish(&mut messages, exchange, routing_key, properties, &body)?;
    }
    Ok(messages)
}

/// Whether a frame confirms this publish, and so all before it: a queue's confirms come in order.
fn confirms(frame: &RawFrame<'_>, publish: u64) -> bool {
    debug_assert_ne!(frame.kind, FRAME_BODY);
    matches!(Method::decode(frame.payload), Ok(Method::BasicAck(ack)) if ack.delivery_tag == publish)
}
