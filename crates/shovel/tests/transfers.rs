//! Transfers and shovels between two real brokers in this process.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::time::Duration;

use leveret_client::{ConfirmChannel, ConnectOptions, Connection, Publish, QueueDeclare};
use leveret_server::Broker;
use leveret_shovel::{
    AckMode, Changes, Ended, Give, MIGRATED_HEADER, Shovel, Status, Supervised, Take, Transfer, Until,
};
use leveret_wire::{FieldTable, FieldValue, Properties};

/// Two brokers, and a client at each.
struct Two {
    brokers: [Broker; 2],
    source: ConfirmChannel,
    destination: ConfirmChannel,
}

impl Two {
    async fn start() -> Self {
        let start = async || Broker::builder().in_memory().any_port().start().await.unwrap();
        let brokers = [start().await, start().await];
        let open = async |broker: &Broker| {
            let connection = Connection::open(&options(broker)).await.unwrap();
            connection.confirm_channel().await.unwrap()
        };
        let (source, destination) = (open(&brokers[0]).await, open(&brokers[1]).await);
        for client in [&source, &destination] {
            client.channel().declare_queue(&QueueDeclare::durable("q")).await.unwrap();
        }
        Self { brokers, source, destination }
    }

    fn shovel(&self, transfer: Transfer) -> Supervised {
        let [source, destination] = self.brokers.each_ref().map(options);
        let reconnect_delay = Some(Duration::from_millis(20));
        Shovel { transfer, source, destination, reconnect_delay, label: "s".into() }.start()
    }

    async fn fill(&self, bodies: std::ops::Range<u32>) {
        for body in bodies {
            let body = body.to_string();
            let publish = Publish::to_queue("q", body.as_bytes());
            self.source.publish(&publish).await.unwrap().await.unwrap();
        }
    }

    /// The bodies at the destination, each with `!` behind it if it is marked.
    async fn arrived(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(delivery) = self.destination.channel().get("q", true).await.unwrap() {
            let marked = delivery.properties().headers().and_then(|all| all.find(MIGRATED_HEADER)).is_some();
            let body = String::from_utf8(delivery.body.to_vec()).unwrap();
            bodies.push(if marked { format!("{body}!") } else { body });
        }
        bodies
    }

    async fn left(&self) -> u32 {
        self.source.channel().declare_queue(&QueueDeclare::passive("q")).await.unwrap().messages
    }
}

fn options(broker: &Broker) -> ConnectOptions {
    ConnectOptions::parse(&broker.url()).unwrap()
}

fn queue() -> Transfer {
    Transfer {
        take: Take::Queue { name: "q".into(), declare: None },
        consumer_tag: String::new(),
        consumer_arguments: FieldTable::new(),
        prefetch: 10,
        give: Give::Queue { name: "q".into(), declare: None },
        changes: Changes { mark_redelivered: true, ..Changes::default() },
        ack_mode: AckMode::OnConfirm,
        until: Until::Empty,
        federation: None,
    }
}

fn numbers(bodies: std::ops::Range<u32>) -> Vec<String> {
    bodies.map(|body| body.to_string()).collect()
}

/// Moves what `until` says of 25 messages; the rest must be where it was.
async fn check_moved(ack_mode: AckMode, until: Until, moved: u32) {
    let two = Two::start().await;
    two.fill(0..25).await;
    let shovel = two.shovel(Transfer { ack_mode, until, ..queue() });
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Done));
    assert_eq!(two.arrived().await, numbers(0..moved), "{ack_mode:?} {until:?}");
    assert_eq!(two.left().await, 25 - moved, "{ack_mode:?} {until:?}");
    assert_eq!((shovel.progress().moved(), shovel.progress().marked()), (moved.into(), 0));
}

#[tokio::test]
async fn every_mode_moves_all_in_order() {
    for ack_mode in [AckMode::OnConfirm, AckMode::OnPublish, AckMode::NoAck] {
        check_moved(ack_mode, Until::Empty, 25).await;
        check_moved(ack_mode, Until::QueueLength, 25).await;
    }
}

#[tokio::test]
async fn a_number_of_messages_is_moved_and_no_more() {
    for ack_mode in [AckMode::OnConfirm, AckMode::OnPublish] {
        for count in [0, 1, 17] {
            check_moved(ack_mode, Until::Count(count), count as u32).await;
        }
    }
}

#[tokio::test]
async fn an_empty_queue_is_moved_at_once() {
    let two = Two::start().await;
    let shovel = two.shovel(Transfer { until: Until::QueueLength, ..queue() });
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Done));
}

#[tokio::test]
async fn what_was_delivered_before_carries_the_mark() {
    let two = Two::start().await;
    two.fill(0..3).await;
    let taken = two.source.channel().get("q", false).await.unwrap().unwrap();
    taken.nack(true);
    let shovel = two.shovel(queue());
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Done));
    assert_eq!(two.arrived().await, ["0!", "1", "2"]);
    assert_eq!(shovel.progress().marked(), 1);
}

#[tokio::test]
async fn a_stopped_shovel_leaves_nothing_unknown() {
    let two = Two::start().await;
    two.fill(0..200).await;
    let shovel = two.shovel(Transfer { until: Until::Stopped, ..queue() });
    while shovel.progress().moved() < 50 {
        tokio::task::yield_now().await;
    }
    shovel.stop();
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Stopped));
    let arrived = two.arrived().await;
    assert_eq!(arrived, numbers(0..arrived.len() as u32));
    assert_eq!(two.left().await as usize, 200 - arrived.len());
}

#[tokio::test]
async fn a_message_that_does_not_get_there_stays_and_is_tried_again() {
    let two = Two::start().await;
    let full =
        QueueDeclare::durable("full").argument("x-max-length", 0).argument("x-overflow", "reject-publish");
    two.destination.channel().declare_queue(&full).await.unwrap();
    two.fill(0..3).await;
    let give = Give::Queue { name: "full".into(), declare: None };
    let shovel = two.shovel(Transfer { give, ..queue() });
    let why = "destination: message refused by the broker (basic.nack)".to_owned();
    let mut rounds = 0;
    while rounds < 3 {
        if shovel.status().0 == Status::Terminated(why.clone()) {
            rounds += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(shovel);
    tokio::time::timeout(Duration::from_secs(10), async {
        while two.left().await != 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn queues_are_declared_where_they_are_missing() {
    let two = Two::start().await;
    let declare = Some(FieldTable::from([("x-queue-type", "quorum")]));
    let take = Take::Queue { name: "new".into(), declare: declare.clone() };
    let give = Give::Queue { name: "there".into(), declare };
    let shovel = two.shovel(Transfer { take, give, ..queue() });
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Done));
    let declared = two.destination.channel().declare_queue(&QueueDeclare::passive("there")).await;
    assert_eq!(declared.map(|declared| declared.messages).map_err(|error| error.to_string()), Ok(0));
}

#[tokio::test]
async fn an_exchange_is_copied_as_it_is() {
    let two = Two::start().await;
    let to = two.destination.channel();
    to.bind_queue("q", "amq.topic", "news.#", FieldTable::new()).await.unwrap();
    let take = Take::Exchange { name: "amq.topic".into(), key: "#.ohio".into() };
    let give = Give::Exchange { name: None, key: None };
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    let changes = Changes { properties, timestamp: true, ..Changes::default() };
    let shovel = two.shovel(Transfer { take, give, changes, until: Until::Count(2), ..queue() });
    while shovel.status().0 != Status::Running {
        tokio::task::yield_now().await;
    }
    // The queue of the shovel is there once mandatory messages are not returned any more.
    let publish = |key: &'static str| Publish { mandatory: true, ..Publish::new("amq.topic", key, b"n") };
    while two.source.publish(&publish("sports.ohio")).await.unwrap().await.is_err() {
        tokio::task::yield_now().await;
    }
    two.source.publish(&publish("news.ohio")).await.unwrap().await.unwrap();
    assert_eq!(shovel.ended().await, Status::Ended(Ended::Done));
    let arrived = to.get("q", true).await.unwrap().unwrap();
    assert_eq!((arrived.exchange.as_str(), arrived.routing_key.as_str()), ("amq.topic", "news.ohio"));
    assert_eq!(arrived.properties().delivery_mode(), Some(2));
    let at = arrived.properties().headers().unwrap().find("x-shovelled-timestamp");
    assert!(matches!(at, Some(FieldValue::I64(seconds)) if seconds > 1_600_000_000));
}

#[tokio::test]
async fn the_reason_for_an_end_shows_no_password() {
    let two = Two::start().await;
    let url = two.brokers[0].url().replace("guest:guest", "guest:canary");
    let (source, destination) = (ConnectOptions::parse(&url).unwrap(), options(&two.brokers[1]));
    let (reconnect_delay, label) = (None, "s".to_owned());
    let shovel = Shovel { transfer: queue(), source, destination, reconnect_delay, label }.start();
    let Status::Terminated(reason) = shovel.ended().await else { panic!("it runs") };
    assert!(reason.starts_with("source: ") && reason.contains("guest"), "{reason}");
    assert!(!reason.contains("canary"));
}
