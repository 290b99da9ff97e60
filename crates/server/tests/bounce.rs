//! How soon a request that nobody answers is back with its caller: the queue is plain, the caller bound its reply queue
//! to `rpc.bounce` (see `leveret_broker`'s dead letters). Real sockets, real time; medians, since other tests run beside.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::{Duration, Instant};

use leveret_server::Broker;
use leveret_wire::method::{BasicConsume, ExchangeDeclare, QueueBind, QueueDeclare};
use leveret_wire::{FieldTable, Properties, RawTable};
use support::{CHANNEL, Peer};
use tokio::net::TcpStream;

const TIMES: usize = 11;
const REPLIES: &str = "replies";

#[tokio::test]
async fn a_request_that_may_not_wait_is_back_at_once() {
    check(0, Duration::ZERO..Duration::from_millis(10)).await;
}

#[tokio::test]
async fn a_request_is_back_when_its_time_is_over() {
    // The clock of expiry counts whole milliseconds: a request may be back up to one early.
    check(200, Duration::from_millis(199)..Duration::from_millis(210)).await;
}

async fn check(expiration_ms: u64, expected: std::ops::Range<Duration>) {
    let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
    let mut caller = Peer::open(TcpStream::connect(broker.addresses()[0]).await.unwrap(), 0).await;
    listen(&mut caller).await;
    caller.publish(REPLIES, b"the first delivery takes longer").await;
    caller.expect("basic.deliver").await;
    caller.content().await;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let before = Instant::now();
        request(&mut caller, expiration_ms).await;
        caller.expect("basic.deliver").await;
        assert_eq!(caller.content().await, b"ask");
        took.push(before.elapsed());
    }
    took.sort_unstable();
    let median = took[TIMES / 2];
    println!("back after {median:?} (expiration {expiration_ms} ms, slowest {:?})", took[TIMES - 1]);
    assert!(expected.contains(&median), "{took:?}");
    broker.stop().await.unwrap();
}

/// A durable queue without arguments, and a reply queue that hears what becomes of requests in it.
async fn listen(caller: &mut Peer<TcpStream>) {
    let durable = QueueDeclare { queue: "service", durable: true, ..Default::default() };
    caller.ask(CHANNEL, durable, "queue.declare-ok").await;
    let exchange =
        ExchangeDeclare { exchange: "rpc.bounce", kind: "headers", durable: true, ..Default::default() };
    caller.ask(CHANNEL, exchange, "exchange.declare-ok").await;
    caller.declare(REPLIES).await;
    let arguments = FieldTable::from([("rpc-caller", REPLIES)]).raw_bytes().unwrap();
    let arguments = RawTable::parse(&arguments).unwrap();
    let bind = QueueBind { queue: REPLIES, exchange: "rpc.bounce", arguments, ..Default::default() };
    caller.ask(CHANNEL, bind, "queue.bind-ok").await;
    let consume = BasicConsume { queue: REPLIES, no_ack: true, ..Default::default() };
    caller.ask(CHANNEL, consume, "basic.consume-ok").await;
}

async fn request(caller: &mut Peer<TcpStream>, expiration_ms: u64) {
    let properties = Properties {
        headers: Some(FieldTable::from([("rpc-caller", REPLIES)])),
        expiration: Some(expiration_ms.to_string().into_bytes()),
        ..Default::default()
    };
    caller.publish_with(&properties, "service", b"ask").await;
}
