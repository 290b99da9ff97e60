//! What the broker knows of a service whose caller and worker have never heard of it: plain requests over real sockets,
//! in real time.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leveret_broker::services::{Counts, ServiceSnapshot};
use leveret_server::{Broker, Config};
use leveret_wire::Properties;
use leveret_wire::method::BasicConsume;
use support::{CHANNEL, Peer};
use tokio::net::TcpStream;

const CALLS: u64 = 20;
const WORK: Duration = Duration::from_millis(20);

#[tokio::test]
async fn requests_and_answers_are_counted_and_timed() {
    let seen = after_calls(true).await;
    let [service] = &seen[..] else { panic!("one service: {seen:?}") };
    let expected = Counts { requests: CALLS + 1, replies: CALLS, in_flight: 1, ..Counts::default() };
    assert_eq!((&*service.name, service.counts), ("square", expected));
    let percentile = |percent| Duration::from_micros(service.latency.percentile_us(percent).unwrap());
    let (p50, p99) = (percentile(50.0), percentile(99.0));
    assert!(p50 >= WORK.mul_f64(0.98) && p50 <= p99 && p99 < WORK * 20, "p50 {p50:?}, p99 {p99:?}");
}

#[tokio::test]
async fn switched_off_there_are_no_services() {
    assert!(after_calls(false).await.is_empty());
}

/// A worker that takes its time answers some calls; the last one stays with it.
async fn after_calls(request_statistics: bool) -> Vec<ServiceSnapshot> {
    let mut config = Config::default();
    config.limits.request_statistics = request_statistics;
    let broker = Broker::builder().config(config).in_memory().any_port().start().await.unwrap();
    let address = broker.addresses()[0];
    let mut caller = Peer::open(TcpStream::connect(address).await.unwrap(), 0).await;
    let mut worker = Peer::open(TcpStream::connect(address).await.unwrap(), 0).await;
    consume(&mut worker, "square").await;
    consume(&mut caller, "answers").await;
    // A task asks for no answer: it is no request.
    caller.publish("square", b"task").await;
    worker.expect("basic.deliver").await;
    worker.content().await;
    for call in 0..=CALLS {
        let id = Some(call.to_string().into_bytes());
        let request = Properties {
            reply_to: Some(b"answers".to_vec()),
            correlation_id: id.clone(),
            ..Default::default()
        };
        caller.publish_with(&request, "square", b"3").await;
        worker.expect("basic.deliver").await;
        worker.content().await;
        if call < CALLS {
            tokio::time::sleep(WORK).await;
            let answer = Properties { correlation_id: id, ..Default::default() };
            worker.publish_with(&answer, "answers", b"9").await;
            caller.expect("basic.deliver").await;
            assert_eq!(caller.content().await, b"9");
        }
    }
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let seen = broker.rules().services("/", now_us);
    broker.stop().await.unwrap();
    seen
}

async fn consume(peer: &mut Peer<TcpStream>, queue: &str) {
    peer.declare(queue).await;
    let consume = BasicConsume { queue, no_ack: true, ..Default::default() };
    peer.ask(CHANNEL, consume, "basic.consume-ok").await;
}
