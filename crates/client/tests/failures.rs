//! What goes wrong, and what is said about it.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::{Duration, Instant};

use leveret_client::{
    By, ChannelError, ConnectError, ConnectOptions, Connection, Consume, ConsumerEnd, Flush, NotConfirmed,
    Publish, QueueDeclare, Scope,
};
use leveret_server::{Broker, Config, Watermarks};
use leveret_wire::FieldTable;
use support::{Peer, soon, unique};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn refused(url: &str) -> ConnectError {
    let options = ConnectOptions::parse(url).unwrap();
    let error = soon(Connection::open(&options)).await.expect_err("it connected");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert!(!format!("{error:?} {error}").contains("canary"), "{error}");
    error
}

/// The same broker, another user, password or vhost.
fn with(url: &str, credentials: &str, vhost: &str) -> String {
    let address = url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
    format!("amqp://{credentials}@{address}/{vhost}")
}

#[tokio::test]
async fn refusals_name_what_was_refused() {
    let peer = Peer::start().await;
    let error = refused(&with(&peer.url, "guest:canary", "%2f")).await;
    assert!(matches!(&error, ConnectError::LoginRefused { user, .. } if user == "guest"), "{error}");
    let error = refused(&with(&peer.url, "guest:guest", "nowhere")).await;
    assert!(matches!(&error, ConnectError::NoSuchVhost { vhost, .. } if vhost == "nowhere"), "{error}");
    assert!(error.to_string().starts_with("no virtual host 'nowhere' at amqp://guest@"), "{error}");
}

#[tokio::test]
async fn who_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = refused(&format!("amqp://guest:canary@{free}")).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let error = refused(&format!("amqp://{free},amqp://localhost:{}", free.port())).await;
    assert!(error.to_string().contains("the last of 2 addresses tried"), "{error}");
    let error = refused("amqp://nowhere.invalid").await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

/// A server that answers with these words and then listens.
async fn stranger(words: &'static [u8], hangs_up: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:canary@{}?connection_timeout=500", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(words).await.unwrap();
        if !hangs_up {
            while socket.read(&mut [0; 1000]).await.unwrap_or(0) > 0 {}
        }
    });
    url
}

#[tokio::test]
async fn who_is_no_broker_is_told_apart() {
    let error = refused(&stranger(b"", false).await).await;
    assert!(matches!(error, ConnectError::TimedOut { timeout_ms: 500, .. }), "{error}");
    let error = refused(&stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await).await;
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error}");
    let error = refused(&stranger(b"AMQP\x00\x01\x00\x00", false).await).await;
    assert!(error.to_string().contains("another version"), "{error}");
    let error = refused(&stranger(b"", true).await).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_call_fails_it_and_its_channel_only() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let other = connection.channel().await.unwrap();
    let missing = unique("missing");
    let queue = unique("here");
    other.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();

    let channel = connection.channel().await.unwrap();
    let error = soon(channel.declare_queue(&QueueDeclare::passive(&missing))).await.unwrap_err();
    assert_eq!(error.reply_code(), Some(404), "{error}");
    assert!(error.to_string().contains(&missing) && !error.to_string().contains('\n'), "{error}");
    assert!(!channel.is_open() && other.is_open() && connection.is_open());
    let closed = soon(channel.closed()).await;
    assert_eq!((closed.scope, closed.by, closed.code), (Scope::Channel, By::Broker, 404));
    let late = channel.publish(&Publish::to_queue(&queue, b"late")).await.unwrap_err();
    assert_eq!(late.reply_code(), Some(404), "it says why");

    let channel = connection.channel().await.unwrap();
    let different = QueueDeclare::exclusive(&queue).argument("x-max-length", 7);
    let error = soon(channel.declare_queue(&different)).await.unwrap_err();
    assert_eq!(error.reply_code(), Some(406), "{error}");
    assert!(other.declare_queue(&QueueDeclare::passive(&queue)).await.is_ok());
}

#[tokio::test]
async fn everything_in_flight_on_a_closed_channel_is_told() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let confirmed = connection.confirm_channel().await.unwrap();
    let channel = confirmed.channel();
    let queue = unique("told");
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    let mut consumer = channel.consume(&Consume::queue(&queue)).await.unwrap();
    let wrong = Publish::new("no-such-exchange", "k", b"x");
    let confirm = confirmed.publish(&wrong).await.unwrap();
    let call = channel.bind_queue(&queue, "amq.fanout", "", FieldTable::new());
    let (call, confirm, delivery) = soon(async { tokio::join!(call, confirm, consumer.next()) }).await;
    assert_eq!(call.unwrap_err().reply_code(), Some(404));
    assert!(matches!(confirm, Err(NotConfirmed::Lost { closed, sent: true }) if closed.code == 404));
    assert!(delivery.is_none());
    assert!(matches!(consumer.ended(), Some(ConsumerEnd::Lost(closed)) if closed.code == 404));
    assert!(connection.is_open());
}

#[tokio::test]
async fn what_has_no_form_on_the_wire_is_not_sent() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = unique("wire");
    confirmed.channel().declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    let long = "x".repeat(256);
    let error = confirmed.publish(&Publish::to_queue(&long, b"x")).await.unwrap_err();
    assert!(matches!(error, ChannelError::Encode(_)), "{error}");
    let headers = FieldTable::from([("big", "x".repeat(200_000))]);
    let properties = leveret_wire::Properties { headers: Some(headers), ..Default::default() };
    let error =
        confirmed.publish(&Publish { properties: &properties, ..Publish::to_queue(&queue, b"") }).await;
    assert!(matches!(error, Err(ChannelError::FrameTooLarge { .. })), "{error:?}");
    let declare = QueueDeclare::exclusive("y").argument("x-y", "x".repeat(200_000));
    let error = confirmed.channel().declare_queue(&declare).await;
    assert!(matches!(error, Err(ChannelError::FrameTooLarge { .. })), "{error:?}");
    // And none of them is counted.
    soon(confirmed.publish(&Publish::to_queue(&queue, b"x")).await.unwrap()).await.unwrap();
}

/// Found by the fault campaign: on RabbitMQ such a message cost one connection after the other.
#[tokio::test]
async fn a_dead_letter_that_has_outgrown_its_frame_costs_no_connection() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let (short, buried) = (unique("short"), unique("buried"));
    let declare = QueueDeclare::exclusive(&short)
        .argument("x-message-ttl", 1_i64)
        .argument("x-dead-letter-exchange", "")
        .argument("x-dead-letter-routing-key", buried.as_str());
    channel.declare_queue(&declare).await.unwrap();
    channel.declare_queue(&QueueDeclare::exclusive(&buried)).await.unwrap();
    let mut consumer = channel.consume(&Consume::queue(&buried)).await.unwrap();
    let headers = FieldTable::from([("filler", "x".repeat(131_000))]);
    let properties = leveret_wire::Properties { headers: Some(headers), ..Default::default() };
    channel.publish(&Publish { properties: &properties, ..Publish::to_queue(&short, b"x") }).await.unwrap();
    let letter = soon(consumer.next()).await.expect("the connection lives");
    assert!(letter.properties().headers().unwrap().find("x-death").is_some());
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_dropped_call_does_not_shift_the_answers() {
    let peer = Peer::start().await;
    let connection = peer.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = unique("shift");
    channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    for _ in 0..3 {
        channel.publish(&Publish::to_queue(&queue, b"x")).await.unwrap();
    }
    let once = async |future: &mut (dyn Future<Output = ()> + Unpin)| {
        std::future::poll_fn(|cx| {
            assert!(std::pin::Pin::new(&mut *future).poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    };
    for _ in 0..20 {
        let passive = QueueDeclare::passive(&queue);
        once(&mut Box::pin(async { drop(channel.declare_queue(&passive).await) })).await;
        once(&mut Box::pin(async { drop(channel.get(&queue, false).await) })).await;
        once(&mut Box::pin(async { drop(channel.consume(&Consume::queue(&queue)).await) })).await;
        once(&mut Box::pin(async { drop(connection.channel().await) })).await;
        channel.bind_queue(&queue, "amq.fanout", "", FieldTable::new()).await.unwrap();
    }
    // What was fetched or consumed for nobody is back.
    let all_back = async {
        loop {
            let declared = channel.declare_queue(&QueueDeclare::passive(&queue)).await.unwrap();
            if (declared.messages, declared.consumers) == (3, 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(all_back).await;
}

#[tokio::test]
async fn a_lost_connection_says_what_was_sent() {
    let peer = Peer::start_own().await;
    let proxy = Proxy::start(&peer.url).await;
    let options = ConnectOptions::parse(&proxy.url).unwrap().outbox_bytes_max(32 << 20);
    let connection = Connection::open(&options).await.unwrap();
    let confirmed = connection.confirm_channel().await.unwrap();
    let queue = unique("sent");
    confirmed.channel().declare_queue(&QueueDeclare::exclusive(&queue)).await.unwrap();
    let mut consumer = confirmed.channel().consume(&Consume::queue(&queue)).await.unwrap();
    proxy.freeze();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let body = vec![0; 8 << 20]; // more than sockets hold
    let sent = confirmed.publish(&Publish::to_queue(&queue, &body)).await.unwrap();
    let unsent = confirmed.publish(&Publish::to_queue(&queue, b"x")).await.unwrap();
    let asked = confirmed.channel().purge_queue(&queue);
    let cut = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.cut();
        Instant::now()
    };
    let all = async { tokio::join!(sent, unsent, asked, consumer.next(), connection.closed(), cut) };
    let (sent, unsent, asked, delivery, closed, cut_at) = soon(all).await;
    assert!(cut_at.elapsed() < Duration::from_secs(1));
    assert!(matches!(sent, Err(NotConfirmed::Lost { sent: true, .. })), "{sent:?}");
    assert!(matches!(unsent, Err(NotConfirmed::Lost { sent: false, .. })), "{unsent:?}");
    assert!(matches!(asked, Err(ChannelError::Closed(closed)) if closed.scope == Scope::Connection));
    assert!(delivery.is_none());
    assert_eq!((closed.by, closed.code), (By::Network, 0));
    assert!(connection.channel().await.is_err() && !connection.is_open());
    assert!(confirmed.publish(&Publish::to_queue(&queue, b"x")).await.is_err());
}

#[tokio::test]
async fn a_stopped_broker_says_so() {
    let Peer { url, broker } = Peer::start_own().await;
    let connection = Connection::open(&ConnectOptions::parse(&url).unwrap()).await.unwrap();
    let (closed, stopped) = soon(async { tokio::join!(connection.closed(), broker.unwrap().stop()) }).await;
    stopped.unwrap();
    assert_eq!((closed.by, closed.code), (By::Broker, 320));
}

#[tokio::test]
async fn a_broker_that_blocks_publishers_says_why() {
    let watermarks = Watermarks { memory_share: 0.0, ..Config::default().watermarks };
    let config = Config { watermarks, ..Config::default() };
    let broker = Broker::builder().config(config).in_memory().any_port().start().await.unwrap();
    let options = ConnectOptions::parse(&broker.url()).unwrap().outbox_bytes_max(32 << 20);
    let connection = Connection::open(&options).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let mut blocked = connection.blocked();
    assert!(blocked.borrow_and_update().is_none());
    let body = vec![0; 1 << 20];
    for _ in 0..10 {
        // The broker looks at its memory as traffic passes.
        channel.publish(&Publish::to_queue("nobody", &body)).await.unwrap();
    }
    let reason = soon(blocked.wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(reason.as_deref(), Some("low on memory"));
    // A blocked broker does not read the goodbye either: closing is bounded.
    soon(connection.close()).await;
    assert!(soon(blocked.wait_for(Option::is_none)).await.is_ok());
}

#[tokio::test]
async fn a_silent_broker_is_lost() {
    let peer = Peer::start().await;
    let proxy = Proxy::start(&peer.url).await;
    let options = ConnectOptions::parse(&proxy.url).unwrap().heartbeat(Duration::from_secs(1));
    let connection = Connection::open(&options).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(connection.is_open(), "heartbeats go both ways");
    proxy.freeze();
    let closed = soon(connection.closed()).await;
    assert_eq!((closed.by, &*closed.text), (By::Network, "no sign of life from the broker for 2 s"));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection() {
    let peer = Peer::start().await;
    let publisher = peer.connect().await;
    let channel = publisher.channel().await.unwrap();
    let queue = unique("large");
    channel
        .declare_queue(&QueueDeclare { auto_delete: true, ..QueueDeclare::durable(&queue) })
        .await
        .unwrap();
    channel.publish(&Publish::to_queue(&queue, &[0; 1001])).await.unwrap();
    let options = peer.options().message_bytes_max(1000);
    let connection = Connection::open(&options).await.unwrap();
    let consumer = connection.channel().await.unwrap();
    let _consumer = consumer.consume(&Consume::queue(&queue)).await.unwrap();
    let closed = soon(connection.closed()).await;
    assert_eq!((closed.by, closed.code), (By::Us, 501));
    assert!(closed.text.contains("1001 exceeds maximum allowed size 1000"), "{closed}");
    channel.delete_queue(&queue).await.unwrap();
}

#[tokio::test]
async fn publishers_wait_for_a_slow_socket() {
    let peer = Peer::start().await;
    let proxy = Proxy::start(&peer.url).await;
    let options = ConnectOptions::parse(&proxy.url).unwrap();
    let connection = Connection::open(&options).await.unwrap();
    let channel = connection.channel().await.unwrap();
    proxy.freeze();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let body = vec![0; 100_000];
    let nowhere = unique("nowhere");
    let publish = Publish { flush: Flush::Soon, ..Publish::to_queue(&nowhere, &body) };
    let fill = async {
        loop {
            channel.publish(&publish).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), fill).await.is_err());
    proxy.thaw();
    soon(channel.publish(&publish)).await.unwrap();
    soon(channel.declare_queue(&QueueDeclare::exclusive(""))).await.unwrap();
}

/// Something between client and broker that can stop passing octets on, and cut the connection.
struct Proxy {
    url: String,
    mode: tokio::sync::watch::Sender<Mode>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Flow,
    Frozen,
    Cut,
}

impl Proxy {
    async fn start(url: &str) -> Proxy {
        let broker = leveret_wire::AmqpUri::parse(url).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = with(url, "guest:guest", "%2f").replace(
            &format!("{}:{}", broker.host, broker.port),
            &listener.local_addr().unwrap().to_string(),
        );
        let (mode, watched) = tokio::sync::watch::channel(Mode::Flow);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let broker = tokio::net::TcpStream::connect((broker.host.as_str(), broker.port)).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_broker, to_broker) = broker.into_split();
            let ways = [(from_client, to_broker), (from_broker, to_client)];
            for (from, to) in ways {
                tokio::spawn(pass_on(from, to, watched.clone()));
            }
        });
        Proxy { url, mode }
    }

    fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    fn thaw(&self) {
        self.mode.send_replace(Mode::Flow);
    }

    fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: tokio::sync::watch::Receiver<Mode>,
) {
    let mut octets = vec![0; 10_000];
    loop {
        if *mode.wait_for(|mode| *mode != Mode::Frozen).await.unwrap() == Mode::Cut {
            return;
        }
        tokio::select! {
            read = from.read(&mut octets) => match read {
                Ok(count) if count > 0 => to.write_all(&octets[..count]).await.unwrap(),
                _ => return,
            },
            _ = mode.changed() => {}
        }
    }
}
