//! Messages in and out, against a real broker.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leveret_client::{
    Consume, ConsumerEnd, ConsumerEvent, ExchangeDeclare, Flush, NotConfirmed, Publish, QueueDeclare,
};
use leveret_wire::{FieldTable, Properties};
use support::{Peer, soon, unique};

#[tokio::test]
async fn a_message_goes_round_with_everything_it_carries() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(&QueueDeclare::exclusive("")).await.unwrap().name;
    let headers = FieldTable::from([("who", "me")]);
    let properties =
        Properties { correlation_id: Some(b"7".to_vec()), headers: Some(headers), ..Properties::default() };
    let body = vec![7; 300_000]; // several frames
    for body in [&b""[..], b"short", &body] {
        let publish = Publish { properties: &properties, ..Publish::to_queue(&queue, body) };
        channel.publish(&publish).await.unwrap();
        let delivery = loop {
            // A broker routes before it answers, but not before it answers another question.
            if let Some(delivery) = soon(channel.get(&queue, false)).await.unwrap() {
                break delivery;
            }
        };
        assert_eq!((&delivery.body[..], delivery.routing_key.as_str()), (body, queue.as_str()));
        assert_eq!(delivery.properties().correlation_id(), Some(&b"7"[..]));
        assert_eq!(delivery.properties().headers().unwrap().find("who").unwrap().as_str(), Some("me"));
        delivery.ack();
    }
    assert!(soon(channel.get(&queue, true)).await.unwrap().is_none());
    soon(connection.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_are_confirmed_and_consumed_in_order() {
    const COUNT: u32 = 100_000;
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = unique("many");
    confirmed.channel().declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    let channel = connection.channel().await.unwrap();
    channel.prefetch(500).await.unwrap();
    let mut consumer = channel.consume(&Consume::queue(&queue)).await.unwrap();
    let consume = async {
        for number in 0..COUNT {
            let delivery = consumer.next().await.unwrap();
            assert_eq!(delivery.body[..], number.to_be_bytes());
            if !delivery.batch_left() || number % 100 == 0 {
                delivery.channel().ack(delivery.delivery_tag, true);
            }
        }
    };
    let publish = async {
        let mut confirms = Vec::new();
        for number in 0..COUNT {
            let body = number.to_be_bytes();
            let publish = Publish { flush: Flush::Soon, ..Publish::to_queue(&queue, &body) };
            confirms.push(confirmed.publish(&publish).await.unwrap());
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    };
    soon(async { tokio::join!(consume, publish) }).await;
}

#[tokio::test]
async fn confirms_say_what_became_of_a_message() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = unique("full");
    let declare =
        QueueDeclare::exclusive(&queue).argument("x-max-length", 1).argument("x-overflow", "reject-publish");
    confirmed.channel().declare_queue(&declare).await.unwrap();
    let fits = Publish::to_queue(&queue, b"fits");
    soon(confirmed.publish(&fits).await.unwrap()).await.unwrap();
    let refused = soon(confirmed.publish(&fits).await.unwrap()).await;
    assert_eq!(refused, Err(NotConfirmed::Refused));
    let nowhere = unique("nowhere");
    let lost = Publish { mandatory: true, ..Publish::to_queue(&nowhere, b"lost") };
    let Err(NotConfirmed::Returned(returned)) = soon(confirmed.publish(&lost).await.unwrap()).await else {
        panic!("it was not returned")
    };
    assert_eq!((returned.code, &returned.body[..], &returned.routing_key), (312, &b"lost"[..], &nowhere));
    // Nobody insists: it is confirmed, and dropped by the broker.
    let unheard = Publish { mandatory: false, ..lost };
    soon(confirmed.publish(&unheard).await.unwrap()).await.unwrap();
    // A message published past the confirms does not shift them.
    confirmed.channel().publish(&unheard).await.unwrap();
    assert_eq!(soon(confirmed.publish(&fits).await.unwrap()).await, Err(NotConfirmed::Refused));
}

#[tokio::test]
async fn what_nobody_awaits_comes_back_to_the_callback() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let (sender, mut returns) = tokio::sync::mpsc::unbounded_channel();
    channel.on_return(move |returned| sender.send(returned).unwrap());
    let nowhere = unique("nowhere");
    let publish = Publish { mandatory: true, ..Publish::to_queue(&nowhere, b"lost") };
    channel.publish(&publish).await.unwrap();
    let returned = soon(returns.recv()).await.unwrap();
    assert_eq!((returned.code, &returned.body[..]), (312, &b"lost"[..]));
}

#[tokio::test]
async fn a_consumer_ends_when_it_is_cancelled_from_either_side() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = unique("ends");
    let declare = QueueDeclare { durable: false, ..QueueDeclare::exclusive(&queue) };
    channel.declare_queue(&declare).await.unwrap();
    let mut consumer = channel.consume(&Consume::queue(&queue).tag("mine")).await.unwrap();
    assert_eq!(consumer.tag().as_str(), "mine");
    channel.cancel(consumer.tag()).await.unwrap();
    assert!(soon(consumer.next()).await.is_none());
    assert_eq!(consumer.ended(), Some(ConsumerEnd::Cancelled));

    let mut consumer = channel.consume(&Consume::queue(&queue)).await.unwrap();
    channel.delete_queue(&queue).await.unwrap();
    assert!(soon(consumer.next()).await.is_none());
    assert_eq!(consumer.ended(), Some(ConsumerEnd::CancelledByBroker));
}

#[tokio::test]
async fn what_a_dropped_consumer_held_goes_back() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = unique("back");
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    channel.prefetch(3).await.unwrap();
    for _ in 0..10 {
        channel.publish(&Publish::to_queue(&queue, b"x")).await.unwrap();
    }
    let mut consumer = channel.consume(&Consume::queue(&queue)).await.unwrap();
    soon(consumer.next()).await.unwrap().ack();
    drop(consumer);
    let messages = async {
        while channel.declare_queue(&QueueDeclare::passive(&queue)).await.unwrap().messages < 9 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(messages).await;
}

#[tokio::test]
async fn a_full_consumer_stops_reading_and_heartbeats_go_on() {
    let peer = Peer::start().await;
    let options = peer.options().heartbeat(Duration::from_secs(1));
    let connection = leveret_client::Connection::open(&options).await.unwrap();
    let publisher = peer.connect().await;
    let queue = unique("slow");
    let channel = connection.channel().await.unwrap();
    channel
        .declare_queue(&QueueDeclare { auto_delete: true, ..QueueDeclare::durable(&queue) })
        .await
        .unwrap();
    let mut consumer = channel.consume(&Consume::queue(&queue).no_ack()).await.unwrap();
    let sender = publisher.confirm_channel().await.unwrap();
    let body = vec![0; 100_000];
    let mut confirms = Vec::new();
    for _ in 0..1000 {
        confirms.push(sender.publish(&Publish::to_queue(&queue, &body)).await.unwrap());
    }
    for confirm in confirms {
        soon(confirm).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let passive = QueueDeclare::passive(&queue);
    let asked = sender.channel().declare_queue(&passive);
    assert!(soon(asked).await.unwrap().messages > 100, "the broker still holds most of it");
    assert!(connection.is_open(), "and does not think that nobody lives here");
    for _ in 0..1000 {
        soon(consumer.next()).await.unwrap();
    }
    // Somebody who waits for an answer is not blocked by a full consumer.
    for _ in 0..600 {
        sender.channel().publish(&Publish::to_queue(&queue, b"x")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    soon(channel.declare_queue(&QueueDeclare::passive(&queue))).await.unwrap();
}

#[tokio::test]
async fn callbacks_run_in_order_and_may_publish_and_ack() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let (asks, answers) = (unique("asks"), unique("answers"));
    channel.declare_queue(&QueueDeclare::exclusive(&asks)).await.unwrap();
    channel.declare_queue(&QueueDeclare::exclusive(&answers)).await.unwrap();
    let echo = connection.confirm_channel().await.unwrap();
    let (to, lost) = (answers.clone(), Arc::new(AtomicUsize::new(0)));
    let lost_here = lost.clone();
    let on = move |event| match event {
        ConsumerEvent::Delivery(ask) => {
            drop(echo.try_publish(&Publish::to_queue(&to, &ask.body)).unwrap());
            ask.ack();
        }
        ConsumerEvent::Cancelled => panic!("cancelled"),
        ConsumerEvent::Lost(_) => drop(lost_here.fetch_add(1, Ordering::Relaxed)),
    };
    channel.consume_with(&Consume::queue(&asks), on).await.unwrap();
    let mut answered = channel.consume(&Consume::queue(&answers).no_ack()).await.unwrap();
    for number in 0..1000_u32 {
        channel.publish(&Publish::to_queue(&asks, &number.to_be_bytes())).await.unwrap();
    }
    for number in 0..1000_u32 {
        assert_eq!(soon(answered.next()).await.unwrap().body[..], number.to_be_bytes());
    }
    soon(connection.close()).await;
    assert_eq!(lost.load(Ordering::Relaxed), 1);
}

/// It waited for an answer that does not exist.
#[tokio::test]
async fn exchanges_are_bound_to_exchanges() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let [source, destination] = [unique("from"), unique("to")];
    for name in [&source, &destination] {
        let declare = ExchangeDeclare { auto_delete: true, ..ExchangeDeclare::durable(name, "fanout") };
        channel.declare_exchange(&declare).await.unwrap();
    }
    let queue = channel.declare_queue(&QueueDeclare::exclusive("")).await.unwrap().name;
    channel.bind_queue(&queue, &destination, "", FieldTable::new()).await.unwrap();
    soon(channel.bind_exchange(&destination, &source, "k", FieldTable::new())).await.unwrap();
    let publisher = connection.confirm_channel().await.unwrap();
    soon(publisher.publish(&Publish::new(&source, "k", b"round")).await.unwrap()).await.unwrap();
    assert_eq!(&*soon(channel.get(&queue, true)).await.unwrap().unwrap().body, b"round");
    soon(channel.unbind_exchange(&destination, &source, "k", FieldTable::new())).await.unwrap();
    soon(connection.close()).await;
}
