//! What can be seen of clients and of the process, and a connection that is closed by its name.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use leveret_broker::roster::{ConnectionState, Over};
use leveret_server::{Broker, Config, Watermarks};
use leveret_store::MemDisk;
use leveret_wire::Method;
use leveret_wire::method::{BasicConsume, BasicGet};
use support::{CHANNEL, Peer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const HEARTBEAT_S: u16 = 30;

async fn start(config: Config) -> Broker {
    Broker::builder().config(config).in_memory().any_port().start().await.unwrap()
}

async fn connect(broker: &Broker) -> (Peer<TcpStream>, String) {
    let socket = TcpStream::connect(broker.addresses()[0]).await.unwrap();
    let name = format!("{} -> {}", socket.local_addr().unwrap(), broker.addresses()[0]);
    (Peer::open(socket, HEARTBEAT_S).await, name)
}

#[tokio::test]
async fn a_connection_is_listed_while_it_is_open() {
    let broker = start(Config::default()).await;
    assert!(broker.rules().connections().is_empty());
    let (mut peer, name) = connect(&broker).await;
    peer.declare("q").await;
    let record = broker.rules().connection_named(&name).unwrap();
    assert_eq!((&*record.user, &*record.vhost, record.state()), ("guest", "/", ConnectionState::Running));
    let introduction = &record.introduction;
    assert_eq!((introduction.auth_mechanism.as_str(), introduction.timeout_s), ("PLAIN", HEARTBEAT_S));
    assert_eq!((introduction.channel_max, introduction.frame_max), (16, 131_072));
    assert!(
        introduction.client_properties().find_table("capabilities").is_some() && introduction.tls.is_none()
    );
    assert!(matches!(introduction.over, Over::Tcp { host, .. } if host == broker.addresses()[0]));
    let traffic = record.traffic();
    assert!(traffic.reads() >= 4 && traffic.received_bytes() > 200, "{traffic:?}");
    assert!(traffic.writes() >= 4 && traffic.sent_bytes() > 400, "{traffic:?}");
    assert_eq!(record.channels().iter().map(|channel| channel.number).collect::<Vec<_>>(), [CHANNEL]);
    drop(peer);
    while !broker.rules().connections().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let churn = broker.rules().churn();
    assert_eq!((churn.connections_opened, churn.connections_closed), (1, 1));
    assert_eq!((churn.channels_opened, churn.channels_closed), (1, 1));
}

#[tokio::test]
async fn a_connection_closed_by_its_name_hears_why() {
    let broker = start(Config::default()).await;
    let ((mut peer, name), (mut other, _)) = (connect(&broker).await, connect(&broker).await);
    peer.declare("q").await;
    let consume = BasicConsume { queue: "q", consumer_tag: "c", ..Default::default() };
    peer.ask(CHANNEL, consume, "basic.consume-ok").await;
    peer.publish("q", b"work").await;
    peer.expect("basic.deliver").await;
    assert_eq!(peer.content().await, b"work");
    broker.rules().connection_named(&name).unwrap().close("go home");
    let frame = peer.expect("connection.close").await;
    let Method::ConnectionClose(close) = frame.method() else { unreachable!() };
    assert_eq!((close.reply_code, close.reply_text), (320, "CONNECTION_FORCED - go home"));
    let vhost = broker.rules().vhost("/").unwrap();
    assert!(broker.rules().consumers(&vhost).is_empty(), "what it had ended with it");
    let names: Vec<_> = broker.rules().connections().iter().map(|record| record.name.clone()).collect();
    assert!(names.len() == 1 && names[0] != name, "{names:?}");
    other.ask(CHANNEL, BasicGet { queue: "q", ..Default::default() }, "basic.get-ok").await;
}

#[tokio::test]
async fn connections_in_memory_are_listed_and_limited() {
    let broker = start(Config { connections_max: 1, ..Config::default() }).await;
    let peer = Peer::open(broker.connect_in_memory(), 0).await;
    let records = broker.rules().connections();
    assert_eq!(records[0].introduction.over, Over::Memory);
    assert_eq!(records[0].name, format!("memory:{}", records[0].id));
    let mut refused = broker.connect_in_memory();
    assert_eq!(refused.read(&mut [0; 8]).await.unwrap(), 0, "closed without a word");
    drop(peer);
}

#[tokio::test]
async fn a_publisher_behind_an_alarm_is_shown_as_blocked() {
    let broker = start(Config::default()).await;
    let (mut peer, name) = connect(&broker).await;
    peer.publish("q", b"").await;
    let tight = Watermarks { memory_share: 0.0, ..Config::default().watermarks };
    broker.reconfigure(&Config { watermarks: tight, ..Config::default() });
    peer.expect("connection.blocked").await;
    let record = broker.rules().connection_named(&name).unwrap();
    assert_eq!(record.state(), ConnectionState::Blocked);
    assert!(broker.facts().alarms.memory);
    broker.reconfigure(&Config::default());
    peer.expect("connection.unblocked").await;
    assert_eq!(record.state(), ConnectionState::Running);
}

#[tokio::test]
async fn the_process_says_how_it_is() {
    let builder = Broker::builder().disk(std::sync::Arc::new(MemDisk::new())).any_port();
    let broker = builder.start().await.unwrap();
    let (mut peer, _) = connect(&broker).await;
    peer.declare("q").await;
    let facts = broker.facts();
    assert_eq!(facts.listeners.len(), 1);
    assert_eq!((facts.listeners[0].address, facts.listeners[0].protocol()), (broker.addresses()[0], "amqp"));
    assert_eq!((facts.connections, facts.connections_max), (1, Config::default().connections_max));
    assert!(facts.memory_used_bytes > 0 && facts.memory_used_bytes < facts.memory_limit_bytes);
    assert!(facts.open_files > 3 && facts.open_files < facts.open_files_max, "{}", facts.open_files);
    assert!(facts.disk.writes.count > 0 && facts.disk.syncs.count > 0 && facts.disk.writes.bytes > 0);
    assert_eq!(facts.alarms.reason(), None);
}
