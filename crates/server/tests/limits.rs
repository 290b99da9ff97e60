//! What one client may take from the others: time, connections, memory, disk.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leveret_server::{Broker, Config, Limits, Watermarks};
use leveret_store::{Disk, DiskFile, MemDisk};
use leveret_wire::method::{BasicConsume, BasicGet, ChannelCloseOk, ChannelOpen, ConnectionClose};
use leveret_wire::{Method, PROTOCOL_HEADER, ReplyCode};
use support::{CHANNEL, PATIENCE, Peer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NO_HEARTBEAT: u16 = 0;
const MIB: usize = 1 << 20;

async fn start(config: Config) -> Broker {
    Broker::builder().config(config).in_memory().any_port().start().await.unwrap()
}

async fn socket(broker: &Broker) -> TcpStream {
    TcpStream::connect(broker.addresses()[0]).await.unwrap()
}

async fn connect(broker: &Broker) -> Peer<TcpStream> {
    Peer::open(socket(broker).await, NO_HEARTBEAT).await
}

#[tokio::test]
async fn a_handshake_has_a_time_in_all() {
    const LIMIT: Duration = Duration::from_millis(500);
    let broker = start(Config { handshake_timeout: LIMIT, ..Config::default() }).await;
    // The start of a start-ok that would be 100 octets long.
    let start_ok = [&PROTOCOL_HEADER[..], &[1, 0, 0, 0, 0, 0, 100, 0, 10, 0, 11, 0, 0, 0, 0, 5]].concat();
    let check = async |words: &[u8], pause: Duration| {
        let (before, mut socket) = (Instant::now(), socket(&broker).await);
        let (mut reader, mut writer) = socket.split();
        let drip = async {
            for octet in words {
                // The broker may have closed by now.
                let _ = writer.write_all(&[*octet]).await;
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = drip => {}
            () = until_closed(&mut reader) => {}
        }
        let waited = before.elapsed();
        assert!(waited >= LIMIT && waited < LIMIT + Duration::from_millis(900), "{waited:?} for {words:?}");
    };
    let slow = Duration::from_millis(100);
    tokio::join!(
        check(b"", slow),
        check(&start_ok, slow),
        check(&start_ok, Duration::from_millis(20)),
        check(&start_ok, Duration::ZERO),
    );
    // Who has shaken hands is not timed any more.
    let mut peer = connect(&broker).await;
    tokio::time::sleep(LIMIT * 2).await;
    peer.declare("q").await;
}

/// It was given the rest of its ten seconds.
#[tokio::test]
async fn who_is_refused_in_the_handshake_is_not_waited_for() {
    let broker = start(Config::default()).await;
    let mut socket = socket(&broker).await;
    let frame_of_4_gib = [1, 0, 0, 0xff, 0xff, 0xff, 0xff];
    socket.write_all(&[&PROTOCOL_HEADER[..], &frame_of_4_gib].concat()).await.unwrap();
    let before = Instant::now();
    until_closed(&mut socket).await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}

/// Until the end, orderly or by reset.
async fn until_closed(reader: &mut (impl AsyncReadExt + Unpin)) {
    let closed = async { while matches!(reader.read(&mut [0; 1024]).await, Ok(1..)) {} };
    tokio::time::timeout(PATIENCE, closed).await.expect("the broker closes");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_leave_room_when_others_end() {
    let broker = start(Config { connections_max: 2, ..Config::default() }).await;
    let (mut first, mut second) = (connect(&broker).await, connect(&broker).await);
    for _ in 0..3 {
        until_closed(&mut socket(&broker).await).await;
    }
    first.declare("first").await;
    second.declare("second").await;
    first.ask(0, ConnectionClose { reply_code: 200, ..Default::default() }, "connection.close-ok").await;
    drop(first);
    until_greeted(&broker).await;
    second.declare("second").await;
}

/// Until there is room: an ended connection leaves it as soon as its task is over.
async fn until_greeted(broker: &Broker) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut socket = socket(broker).await;
        let sent = socket.write_all(&PROTOCOL_HEADER).await;
        if sent.is_ok() && matches!(socket.read(&mut [0; 1024]).await, Ok(1..)) {
            return;
        }
        assert!(Instant::now() < deadline, "no room for another connection");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_body_over_the_limit_ends_its_channel_and_nothing_else() {
    let limits = Limits { message_size_bytes: 1000, ..Limits::default() };
    let broker = start(Config { limits, ..Config::default() }).await;
    let mut peer = connect(&broker).await;
    peer.declare("q").await;
    peer.publish("q", &[1; 1000]).await;
    peer.publish("q", &[2; 1001]).await;
    let closed = peer.expect("channel.close").await;
    let Method::ChannelClose(close) = closed.method() else { panic!("{closed:?}") };
    assert_eq!(close.reply_code, ReplyCode::PRECONDITION_FAILED.0);
    assert_eq!(
        close.reply_text,
        "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000"
    );
    peer.send(CHANNEL, ChannelCloseOk).await;
    peer.ask(CHANNEL, ChannelOpen::default(), "channel.open-ok").await;
    check_get(&mut peer, Some(&[1; 1000])).await;
    check_get(&mut peer, None).await;
}

async fn check_get(peer: &mut Peer<TcpStream>, body: Option<&[u8]>) {
    let get = BasicGet { queue: "q", no_ack: true, ..Default::default() };
    let Some(body) = body else {
        peer.ask(CHANNEL, get, "basic.get-empty").await;
        return;
    };
    peer.ask(CHANNEL, get, "basic.get-ok").await;
    assert_eq!(peer.content().await, body);
}

/// 192 MiB for a consumer that reads nothing: the broker keeps its budget, the log file it gathers and what is on
/// its way, whatever is published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_does_not_read_costs_little_and_disturbs_nobody() {
    const BUDGET: usize = 4 * MIB;
    const PUBLISHED: usize = 192 * MIB;
    /// The budget, 16 MiB gathered for the disk, buffers, and what the allocator does not give back.
    const GROWTH_MAX: usize = 80 * MIB;
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { resident_bytes: BUDGET, ..Limits::default() };
    let config = Config { limits, log_file_bytes: 8 * MIB as u64, ..Config::default() };
    let broker =
        Broker::builder().config(config).data_dir(directory.path()).any_port().start().await.unwrap();
    let (mut deaf, mut publisher, mut other) =
        (connect(&broker).await, connect(&broker).await, connect(&broker).await);
    deaf.declare("flood").await;
    other.declare("trickle").await;
    for (peer, queue) in [(&mut deaf, "flood"), (&mut other, "trickle")] {
        let consume = BasicConsume { queue, no_ack: true, ..Default::default() };
        peer.ask(CHANNEL, consume, "basic.consume-ok").await;
    }
    let before = process_bytes();
    let (body, mut most) = (vec![5; 64 << 10], 0);
    for i in 0..PUBLISHED / body.len() {
        publisher.publish("flood", &body).await;
        if i % 64 == 0 {
            publisher.publish("trickle", b"drop").await;
            other.expect("basic.deliver").await;
            assert_eq!(other.content().await, b"drop");
            most = most.max(process_bytes());
        }
    }
    publisher.declare("flood").await; // answered after the last publish
    let resident = broker.rules().resident_bytes();
    assert!(resident <= BUDGET + 2 * body.len(), "{resident} octets of messages in memory");
    let grown = most.max(process_bytes()).saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{} MiB more for {} MiB published", grown / MIB, PUBLISHED / MIB);
    // The deaf client finds everything when it listens again.
    for _ in 0..PUBLISHED / body.len() {
        deaf.expect("basic.deliver").await;
        assert!(deaf.content().await == body);
    }
}

/// The memory of this process, from the kernel.
fn process_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_are_blocked_while_the_disk_is_low_and_consumers_go_on() {
    const MARK: u64 = 1 << 30;
    let disk = SmallDisk::new(4 * MARK);
    let watermarks = Watermarks { disk_free_bytes: Some(MARK), ..Config::default().watermarks };
    let config = Config { watermarks, ..Config::default() };
    let broker =
        Broker::builder().config(config).disk(Arc::new(disk.clone())).any_port().start().await.unwrap();
    let (mut publisher, mut consumer) = (connect(&broker).await, connect(&broker).await);
    publisher.declare("q").await;
    publisher.publish("q", b"before").await;
    publisher.declare("q").await; // answered after the publish

    disk.free_bytes.store(MARK / 2, Ordering::Relaxed);
    // The broker looks at the disk as traffic passes; the queue does not exist, so nothing is kept.
    for _ in 0..9 {
        publisher.publish("nobody", &vec![0; MIB]).await;
    }
    let blocked = publisher.expect("connection.blocked").await;
    let Method::ConnectionBlocked(blocked) = blocked.method() else { panic!("{blocked:?}") };
    assert_eq!(blocked.reason, "low on disk");
    publisher.publish("q", b"during").await;

    check_get(&mut consumer, Some(b"before")).await;
    consumer.declare("another").await;
    tokio::time::sleep(Duration::from_millis(500)).await; // more than two looks
    check_get(&mut consumer, None).await;
    // Who starts to publish is told as well, and held.
    let mut late = connect(&broker).await;
    late.publish("q", b"late").await;
    late.expect("connection.blocked").await;

    disk.free_bytes.store(4 * MARK, Ordering::Relaxed);
    publisher.expect("connection.unblocked").await;
    late.expect("connection.unblocked").await;
    publisher.declare("q").await; // answered after the publish
    let consume = BasicConsume { queue: "q", no_ack: true, ..Default::default() };
    consumer.ask(CHANNEL, consume, "basic.consume-ok").await;
    let mut bodies = [take(&mut consumer).await, take(&mut consumer).await];
    bodies.sort();
    assert_eq!(bodies, [b"during".to_vec(), b"late".to_vec()]);
}

async fn take(consumer: &mut Peer<TcpStream>) -> Vec<u8> {
    consumer.expect("basic.deliver").await;
    consumer.content().await
}

/// A disk in memory that says how much is free as the test wants it.
#[derive(Clone)]
struct SmallDisk {
    memory: MemDisk,
    free_bytes: Arc<AtomicU64>,
}

impl SmallDisk {
    fn new(free_bytes: u64) -> Self {
        Self { memory: MemDisk::new(), free_bytes: Arc::new(AtomicU64::new(free_bytes)) }
    }
}

impl Disk for SmallDisk {
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.create_dir(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.memory.create(path)
    }
    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.memory.open(path)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.memory.remove(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.remove_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.sync_dir(dir)
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.memory.lock(path)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free_bytes.load(Ordering::Relaxed))
    }
}
