//! A broker inside a program: brokers of their own, connections without a socket, a stop that clients are told of,
//! a data directory with one owner, clients that fall silent.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::{Duration, Instant};

use leveret_server::{Broker, Config, Tune};
use leveret_wire::method::{BasicConsume, BasicGet, ConnectionCloseOk, QueueDeclare};
use leveret_wire::{Method, ReplyCode};
use support::{CHANNEL, Frame, PATIENCE, Peer};
use tokio::net::TcpStream;

const NO_HEARTBEAT: u16 = 0;

async fn start() -> Broker {
    Broker::builder().in_memory().any_port().start().await.unwrap()
}

async fn connect(broker: &Broker, heartbeat_s: u16) -> Peer<TcpStream> {
    Peer::open(TcpStream::connect(broker.addresses()[0]).await.unwrap(), heartbeat_s).await
}

#[tokio::test]
async fn two_brokers_in_one_process_know_nothing_of_each_other() {
    let (first, second) = (start().await, start().await);
    assert_ne!(first.addresses(), second.addresses());
    connect(&first, NO_HEARTBEAT).await.declare("of-the-first").await;
    let passive = QueueDeclare { queue: "of-the-first", passive: true, ..Default::default() };
    connect(&first, NO_HEARTBEAT).await.ask(CHANNEL, passive, "queue.declare-ok").await;
    let refused = connect(&second, NO_HEARTBEAT).await.ask(CHANNEL, passive, "channel.close").await;
    let Method::ChannelClose(close) = refused.method() else { panic!("{refused:?}") };
    assert_eq!(close.reply_code, ReplyCode::NOT_FOUND.0);
}

#[tokio::test]
async fn a_connection_in_memory_is_one_to_the_same_broker() {
    let broker = start().await;
    let mut inside = Peer::open(broker.connect_in_memory(), NO_HEARTBEAT).await;
    inside.declare("q").await;
    let body = vec![7; 300 << 10]; // more than the pipe and a frame hold
    inside.publish("q", &body).await;
    let mut outside = connect(&broker, NO_HEARTBEAT).await;
    inside.declare("q").await; // answered after the publish
    outside.ask(CHANNEL, BasicGet { queue: "q", no_ack: true, ..Default::default() }, "basic.get-ok").await;
    assert_eq!(outside.content().await, body);
    outside.publish("q", b"back").await;
    outside.declare("q").await;
    inside.ask(CHANNEL, BasicGet { queue: "q", no_ack: true, ..Default::default() }, "basic.get-ok").await;
    assert_eq!(inside.content().await, b"back");
}

#[tokio::test]
async fn a_stop_tells_every_client_and_leaves_a_clean_directory() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Broker::builder().data_dir(directory.path()).any_port().start();
    let broker = start().await.unwrap();
    let mut outside = connect(&broker, NO_HEARTBEAT).await;
    let mut inside = Peer::open(broker.connect_in_memory(), NO_HEARTBEAT).await;
    let stopping = tokio::spawn(broker.stop());
    check_forced(&outside.expect("connection.close").await);
    check_forced(&inside.expect("connection.close").await);
    outside.send(0, ConnectionCloseOk).await;
    inside.send(0, ConnectionCloseOk).await;
    assert!(outside.frame().await.is_none() && inside.frame().await.is_none(), "nothing but the end");
    tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap().unwrap();
    let again = start().await.unwrap();
    assert!(again.condition().clean && again.condition().damage.is_empty());
    again.stop().await.unwrap();
}

fn check_forced(frame: &Frame) {
    let Method::ConnectionClose(close) = frame.method() else { panic!("{frame:?}") };
    assert_eq!(close.reply_code, ReplyCode::CONNECTION_FORCED.0);
    assert_eq!(
        close.reply_text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
}

#[tokio::test]
async fn a_client_that_does_not_say_goodbye_does_not_hold_up_a_stop() {
    let config = Config { drain_timeout: Duration::from_millis(300), ..Config::default() };
    let broker = Broker::builder().config(config).in_memory().any_port().start().await.unwrap();
    let mut stubborn = connect(&broker, NO_HEARTBEAT).await;
    let before = Instant::now();
    tokio::time::timeout(PATIENCE, broker.stop()).await.unwrap().unwrap();
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    check_forced(&stubborn.expect("connection.close").await);
}

#[tokio::test]
async fn a_dropped_broker_leaves_its_directory_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Broker::builder().data_dir(directory.path()).any_port().start();
    let broker = start().await.unwrap();
    let mut peer = connect(&broker, NO_HEARTBEAT).await;
    let durable = QueueDeclare { queue: "kept", durable: true, ..Default::default() };
    peer.ask(CHANNEL, durable, "queue.declare-ok").await;
    drop(broker);
    while peer.frame().await.is_some() {}
    let again = start_within(PATIENCE, start).await;
    let passive = QueueDeclare { queue: "kept", passive: true, ..Default::default() };
    connect(&again, NO_HEARTBEAT).await.ask(CHANNEL, passive, "queue.declare-ok").await;
}

/// Connections of a dropped broker end on their own, so its directory may be in use for a moment.
async fn start_within<F>(limit: Duration, start: impl Fn() -> F) -> Broker
where
    F: Future<Output = Result<Broker, leveret_server::StartError>>,
{
    let deadline = Instant::now() + limit;
    loop {
        match start().await {
            Ok(broker) => return broker,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_and_its_owner_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Broker::builder().data_dir(directory.path()).any_port().start();
    let owner = start().await.unwrap();
    let mut peer = connect(&owner, NO_HEARTBEAT).await;
    let durable = QueueDeclare { queue: "q", durable: true, ..Default::default() };
    peer.ask(CHANNEL, durable, "queue.declare-ok").await;
    let Err(error) = start().await else { panic!("two brokers write to one directory") };
    assert!(error.to_string().contains("in use"), "{error}");
    peer.publish("q", b"still here").await;
    peer.ask(CHANNEL, durable, "queue.declare-ok").await;
    peer.ask(CHANNEL, BasicGet { queue: "q", no_ack: true, ..Default::default() }, "basic.get-ok").await;
    assert_eq!(peer.content().await, b"still here");
    owner.stop().await.unwrap();
    start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_silent_client_is_dropped_and_its_message_redelivered() {
    let config = Config { tune: Tune { heartbeat_s: 1, ..Config::default().tune }, ..Config::default() };
    let broker = Broker::builder().config(config).in_memory().any_port().start().await.unwrap();
    let mut silent = connect(&broker, 1).await;
    silent.declare("q").await;
    silent.publish("q", b"work").await;
    let consume = BasicConsume { queue: "q", ..Default::default() };
    silent.ask(CHANNEL, consume, "basic.consume-ok").await;
    check_delivery(&silent.expect("basic.deliver").await, false);
    let since = Instant::now();
    let mut other = connect(&broker, NO_HEARTBEAT).await;
    other.ask(CHANNEL, consume, "basic.consume-ok").await;
    check_delivery(&other.expect("basic.deliver").await, true);
    let waited = since.elapsed();
    assert_eq!(other.content().await, b"work");
    // Two intervals are a client's right; the half interval it was last heard in does not count.
    assert!(waited > Duration::from_secs(2) && waited < Duration::from_millis(4500), "{waited:?}");
    assert_eq!(silent.content().await, b"work");
    assert!(silent.frame().await.is_none(), "the silent client is dropped without a word");
}

fn check_delivery(frame: &Frame, redelivered: bool) {
    let Method::BasicDeliver(deliver) = frame.method() else { panic!("{frame:?}") };
    assert_eq!(deliver.redelivered, redelivered);
}
