//! Streams across kills: what was confirmed is there, and an offset that a reader saw never names another message.

use std::collections::VecDeque;
use std::time::Duration;

use leveret_client::{
    Confirm, ConnectOptions, Connection, Consume, Consumer, Delivery, Publish, QueueDeclare,
};
use leveret_wire::{FieldTable, FieldValue, Properties};

use crate::program::Server;

const STREAM: &str = "kept";
const ROUNDS: usize = 4;
const IN_FLIGHT: usize = 500;
/// Enough for several log files of 1 MiB to be settled in each round.
const CONFIRMED_BEFORE_A_KILL: usize = 12_000;
const BODY_BYTES: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(server: &mut Server) -> Connection {
    let connection = Connection::open(&ConnectOptions::parse(&server.url()).unwrap()).await.unwrap();
    let arguments = FieldTable::from([("x-queue-type", "stream")]);
    let declare = QueueDeclare { arguments, ..QueueDeclare::durable(STREAM) };
    connection.channel().await.unwrap().declare_queue(&declare).await.unwrap();
    connection
}

async fn read_from(connection: &Connection, offset: FieldValue) -> Consumer {
    let channel = connection.channel().await.unwrap();
    channel.prefetch(1000).await.unwrap();
    let arguments = FieldTable::from([("x-stream-offset", offset)]);
    channel.consume(&Consume { arguments, ..Consume::queue(STREAM) }).await.unwrap()
}

fn offset_of(delivery: &Delivery) -> u64 {
    let offset = delivery.properties().headers().unwrap().find("x-stream-offset").unwrap();
    offset.as_i64().unwrap() as u64
}

fn number_of(delivery: &Delivery) -> u64 {
    u64::from_be_bytes(*delivery.body.first_chunk().unwrap())
}

/// Reads everything, which must be numbered as its offsets; answers how many messages there are.
async fn read_all(connection: &Connection, at_least: u64) -> u64 {
    let mut consumer = read_from(connection, "first".into()).await;
    let mut next = 0;
    let pause = |next: u64| if next < at_least { PATIENCE } else { Duration::from_millis(300) };
    while let Ok(delivery) = tokio::time::timeout(pause(next), consumer.next()).await {
        let delivery = delivery.unwrap();
        assert_eq!((offset_of(&delivery), number_of(&delivery)), (next, next));
        delivery.ack();
        next += 1;
    }
    assert!(next >= at_least, "{next} messages, {at_least} were promised");
    next
}

/// Publishes from a number on until enough is confirmed; answers the number of the first that was not.
async fn publish(connection: &Connection, first: u64) -> u64 {
    let channel = connection.confirm_channel().await.unwrap();
    let transient = Properties { delivery_mode: Some(1), ..Properties::default() };
    let mut body = vec![b'.'; BODY_BYTES];
    let mut waiting: VecDeque<Confirm> = VecDeque::new();
    let mut confirmed = first;
    for number in first.. {
        body[..8].copy_from_slice(&number.to_be_bytes());
        let publish = Publish { properties: &transient, ..Publish::to_queue(STREAM, &body) };
        waiting.push_back(channel.publish(&publish).await.unwrap());
        if waiting.len() > IN_FLIGHT {
            waiting.pop_front().unwrap().await.unwrap();
            confirmed += 1;
            if confirmed - first >= CONFIRMED_BEFORE_A_KILL as u64 {
                break;
            }
        }
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_or_seen_keeps_its_offset_through_kills() {
    let directory = tempfile::tempdir().unwrap();
    let start = || Server::start(&directory.path().join("data"), &["--set", "log_file_bytes=1048576"]);
    let mut promised = 0;
    for _ in 0..ROUNDS {
        let mut server = start();
        let connection = connect(&mut server).await;
        let first = read_all(&connection, promised).await;
        let mut tail = read_from(&connection, "next".into()).await;
        let watching = tokio::spawn(async move {
            let mut seen = first;
            while let Some(delivery) = tail.next().await {
                assert_eq!((offset_of(&delivery), number_of(&delivery)), (seen, seen));
                seen += 1;
                delivery.ack();
            }
            seen
        });
        let confirmed = publish(&connection, first).await;
        drop(server); // kill -9
        promised = confirmed.max(watching.await.unwrap());
    }
    let mut server = start();
    let connection = connect(&mut server).await;
    let total = read_all(&connection, promised).await;
    let mut tail = read_from(&connection, FieldValue::I64(total as i64 - 10)).await;
    for number in total - 10..total {
        assert_eq!(number_of(&tail.next().await.unwrap()), number);
    }
}
