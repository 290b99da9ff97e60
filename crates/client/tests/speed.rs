//! How fast it is. Not a test of anything else, so not run with the others:
//! `cargo test --release -p leveret-client --test speed -- --ignored --nocapture --test-threads 1`
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::{Duration, Instant};

use leveret_client::{ConnectOptions, Connection, Consume, ConsumerEvent, Flush, Publish, QueueDeclare};
use support::{Peer, unique};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const BODY: [u8; 64] = [7; 64];

fn report(what: &str, count: u32, took: Duration) {
    println!("{what:<60} {:>10.0} /s", f64::from(count) / took.as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn publishes() {
    const COUNT: u32 = 1_000_000;
    let peer = Peer::start().await;
    let sink = Sink::start(&peer.url).await;
    let connection = Connection::open(&ConnectOptions::parse(&sink).unwrap()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let publish = Publish { flush: Flush::Soon, ..Publish::to_queue("nowhere", &BODY) };
    let start = Instant::now();
    for _ in 0..COUNT {
        channel.publish(&publish).await.unwrap();
    }
    report("64 B published from one task, Soon, into a sink", COUNT, start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn publishes_to_a_broker_with_confirms() {
    const COUNT: u32 = 300_000;
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = unique("speed");
    confirmed.channel().declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    let publish = Publish { flush: Flush::Soon, ..Publish::to_queue(&queue, &BODY) };
    let start = Instant::now();
    let mut open = std::collections::VecDeque::new();
    for _ in 0..COUNT {
        open.push_back(confirmed.publish(&publish).await.unwrap());
        if open.len() >= 1000 {
            open.pop_front().unwrap().await.unwrap();
        }
    }
    for confirm in open {
        confirm.await.unwrap();
    }
    report("64 B published and confirmed, 1000 in flight", COUNT, start.elapsed());
    let channel = connection.channel().await.unwrap();
    let start = Instant::now();
    let mut consumer = channel.consume(&Consume::queue(&queue).no_ack()).await.unwrap();
    for _ in 0..COUNT {
        consumer.next().await.unwrap();
    }
    report("64 B consumed as a stream, no_ack", COUNT, start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn echoes() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = unique("echo");
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    for (in_flight, count) in [(1, 20_000_u32), (64, 200_000)] {
        let (sender, mut back) = tokio::sync::mpsc::unbounded_channel();
        let on = move |event| {
            if let ConsumerEvent::Delivery(delivery) = event {
                let _gone = sender.send(delivery);
            }
        };
        let tag = channel.consume_with(&Consume::queue(&queue).no_ack(), on).await.unwrap();
        let start = Instant::now();
        for _ in 0..in_flight {
            channel.publish(&Publish::to_queue(&queue, &BODY)).await.unwrap();
        }
        for number in 0..count {
            back.recv().await.unwrap();
            if number + in_flight < count {
                channel.publish(&Publish::to_queue(&queue, &BODY)).await.unwrap();
            }
        }
        report(&format!("round trips through one queue, {in_flight} in flight"), count, start.elapsed());
        channel.cancel(&tag).await.unwrap();
    }
}

/// Opens connections with a broker's help, then swallows everything the client sends.
struct Sink;

impl Sink {
    async fn start(url: &str) -> String {
        let broker = leveret_wire::AmqpUri::parse(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server =
                tokio::net::TcpStream::connect((broker.host.as_str(), broker.port)).await.unwrap();
            // Until the channel is open nothing is as large as this.
            let mut octets = vec![0; 256 << 10];
            let mut swallows = false;
            let mut from_server = vec![0; 4096];
            loop {
                tokio::select! {
                    read = client.read(&mut octets) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(count) => {
                            swallows |= count > 2000;
                            if !swallows {
                                tokio::io::AsyncWriteExt::write_all(&mut server, &octets[..count]).await.unwrap();
                            }
                        }
                    },
                    read = server.read(&mut from_server) => {
                        let count = read.unwrap_or(0);
                        tokio::io::AsyncWriteExt::write_all(&mut client, &from_server[..count]).await.unwrap();
                    }
                }
            }
        });
        format!("amqp://{address}?heartbeat=0")
    }
}
