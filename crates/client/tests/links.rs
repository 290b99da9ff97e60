//! Connections that come back, several hosts, other transports.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret_client::{
    Backoff, By, ConnectOptions, Connecting, Connection, Connector, Consume, ConsumerPlan, Link, LinkState,
    Publish, QueueDeclare, Topology,
};
use leveret_server::Broker;
use support::{Peer, soon, unique};

const QUICK: Backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(50) };

async fn restarted(at: SocketAddr) -> Broker {
    loop {
        match Broker::builder().in_memory().listen([at]).start().await {
            Ok(broker) => return broker,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_link_and_its_consumer_go_on_after_a_restart() {
    let peer = Peer::start_own().await;
    let link = Link::open(peer.options().backoff(QUICK)).await.unwrap();
    let queue = unique("goes-on");
    let topology = Topology { queues: vec![QueueDeclare::exclusive(&queue)], ..Topology::default() };
    let plan = ConsumerPlan { topology, consume: Consume::queue(&queue), prefetch: 5 };
    let mut consumer = link.consume(plan).await.unwrap();
    let publish = async |body: &[u8]| {
        let connection = link.connection().await.unwrap();
        let channel = connection.confirm_channel().await.unwrap();
        let publish = Publish { mandatory: true, ..Publish::to_queue(&queue, body) };
        channel.publish(&publish).await.unwrap().await
    };
    publish(b"before").await.unwrap();
    let old = soon(consumer.next()).await.unwrap();
    assert_eq!(&old.body[..], b"before");

    let broker = peer.broker.unwrap();
    let address = broker.addresses()[0];
    let mut state = link.state();
    broker.stop().await.unwrap();
    soon(state.wait_for(|state| matches!(state, LinkState::Reconnecting { .. }))).await.unwrap();
    assert!(link.current().is_none());
    let _broker = restarted(address).await;
    let go_on = async {
        // The consumer declares its queue when it is polled; until then the message has nowhere to go.
        let published = async {
            while publish(b"after").await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::join!(consumer.next(), published).0
    };
    let new = soon(go_on).await.unwrap();
    assert_eq!(&new.body[..], b"after");
    old.ack(); // of a connection that is gone: nothing happens
    new.ack();
    assert!(soon(link.connection()).await.unwrap().is_open());

    soon(link.close()).await;
    assert!(soon(consumer.next()).await.is_none());
    assert_eq!(soon(link.connection()).await.unwrap_err().by, By::Us);
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again() {
    let peer = Peer::start().await;
    let link = Link::open(peer.options().backoff(QUICK)).await.unwrap();
    let queue = unique("deleted");
    let topology = Topology { queues: vec![QueueDeclare::exclusive(&queue)], ..Topology::default() };
    let plan = ConsumerPlan { topology, consume: Consume::queue(&queue), prefetch: 5 };
    let mut consumer = link.consume(plan).await.unwrap();
    let channel = link.connection().await.unwrap().channel().await.unwrap();
    channel.delete_queue(&queue).await.unwrap();
    let publish = async {
        let confirmed = channel.connection().confirm_channel().await.unwrap();
        let publish = Publish { mandatory: true, ..Publish::to_queue(&queue, b"again") };
        while confirmed.publish(&publish).await.unwrap().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (delivery, ()) = soon(async { tokio::join!(consumer.next(), publish) }).await;
    assert_eq!(&delivery.unwrap().body[..], b"again");
}

#[tokio::test]
async fn the_next_host_is_tried() {
    let (one, two) = (Peer::start_own().await, Peer::start_own().await);
    let dead = "amqp://127.0.0.1:1";
    let options = ConnectOptions::parse(&format!("{dead},{},{}", one.url, two.url)).unwrap().backoff(QUICK);
    for _ in 0..5 {
        soon(Connection::open(&options)).await.unwrap().close().await;
    }
    let link = Link::open(options).await.unwrap();
    let first = link.connection().await.unwrap();
    one.broker.unwrap().stop().await.unwrap();
    two.broker.as_ref().unwrap();
    let survivor = async {
        loop {
            let connection = link.connection().await.unwrap();
            if connection.channel().await.is_ok() {
                break connection;
            }
        }
    };
    let second = soon(survivor).await;
    assert!(second.is_open());
    // Unless it was on the second host all the time.
    assert_eq!(first.local_id() == second.local_id(), first.is_open());
}

#[tokio::test]
async fn the_broker_says_who_it_is_and_goodbye_is_answered() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    assert_eq!(connection.server().product, "RabbitMQ");
    assert!(connection.server().capability("basic.nack") && !connection.server().capability("basic.dance"));
    assert_eq!(connection.server().leveret_version.is_some(), peer.broker.is_some());
    let channel = connection.channel().await.unwrap();
    soon(channel.close()).await.unwrap();
    soon(channel.close()).await.unwrap();
    soon(connection.close()).await;
    let closed = connection.closed().await;
    assert_eq!((closed.by, closed.code), (By::Us, 200));
    soon(connection.close()).await;
}

#[tokio::test]
async fn dropping_the_last_handle_says_goodbye() {
    let peer = Peer::start().await;
    let other = peer.connect().await.channel().await.unwrap();
    let queue = unique("dropped");
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    drop(connection);
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    drop(channel);
    let gone = async {
        // Somebody else's exclusive queue closes the channel of who asks; an own one can be declared.
        loop {
            let channel = other.connection().channel().await.unwrap();
            if channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(gone).await;
}

#[tokio::test]
async fn channels_are_numbered_anew_and_limited() {
    let peer = Peer::start().await;
    let options = ConnectOptions::parse(&format!("{}?channel_max=3", peer.url)).unwrap();
    let connection = Connection::open(&options).await.unwrap();
    let channels = [(); 3].map(|()| connection.channel());
    let mut open = Vec::new();
    for channel in channels {
        open.push(channel.await.unwrap());
    }
    let error = connection.channel().await.unwrap_err();
    assert_eq!(error.to_string(), "all 3 channels of the connection are in use; open another connection");
    open[1].close().await.unwrap();
    for _ in 0..100 {
        let channel = connection.channel().await.unwrap();
        channel.declare_queue(&QueueDeclare::exclusive("")).await.unwrap();
        channel.close().await.unwrap();
    }
}

struct InProcess(Broker);

impl Connector for InProcess {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async { Ok(Box::new(self.0.connect_in_memory()) as Box<dyn leveret_client::Transport>) })
    }
}

#[tokio::test]
async fn a_broker_in_the_same_process_needs_no_socket() {
    let broker = Broker::builder().in_memory().listen([]).start().await.unwrap();
    let options = ConnectOptions::memory(Arc::new(InProcess(broker)));
    let connection = Connection::open(&options).await.unwrap();
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = confirmed.channel().declare_queue(&QueueDeclare::exclusive("")).await.unwrap().name;
    let body = vec![1; 1 << 20];
    for _ in 0..20 {
        let confirm = confirmed.publish(&Publish::to_queue(&queue, &body)).await.unwrap();
        soon(confirm).await.unwrap();
    }
    let mut consumer = confirmed.channel().consume(&Consume::queue(&queue)).await.unwrap();
    for _ in 0..20 {
        let delivery = soon(consumer.next()).await.unwrap();
        assert!(delivery.body == body);
        delivery.ack();
    }
    soon(connection.close()).await;
}
